# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's own programs, asked what they make of our configuration."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lab.binaries import DevicePluginBinaries
from tests.oracle.machines import Machine

PATIENCE = 30.0  # seconds that the device plugin has for what is expected of it; it needs hundredths of one
DRIVER_VERSION = "580.95.05"  # of our library of NVML
GPUS, INSTANCES = 16, 8  # the most that our library of NVML tells of
UNSHARE = ("--mount", "--propagation", "private")
# The directories of the plugin's sockets, of CDI and of MIG devices' minor numbers are fixed. Each gets a file system of this namespace alone.
NAMESPACE = """set -e
for directory in /var/lib/kubelet /run/cdi /proc/driver; do
  if [ -d $directory ]; then mount -t tmpfs none $directory; else mount -t tmpfs none ${directory%/*}; fi
done
mkdir -p /var/lib/kubelet/device-plugins /proc/driver/nvidia-caps
cp "$1" /proc/driver/nvidia-caps/mig-minors
exec "$2"
"""
# MPS is healthy for the plugin where its control program answers this question (cmd/mps-control-daemon/mps/daemon.go).
MPS_CONTROL = """#!/bin/sh
read -r command || true
[ "$command" = get_default_active_thread_percentage ] && echo 10.0
"""


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """What NVIDIA's parser makes of a file: an error, or what it understood. ``shared`` is replicas by the advertised name."""

    error: str = ""
    config: Mapping[str, t.Any] = field(default_factory=dict)
    strategy: str = "none"
    shared: Mapping[str, int] = field(default_factory=dict)

    @property
    def flags(self) -> dict[str, t.Any]:
        """The flags that the file sets."""
        return _without_null(self.config.get("flags", {}))

    @property
    def sharing(self) -> Mapping[str, t.Any]:
        """The block of the strategy in force."""
        sharing = self.config.get("sharing", {})
        block: Mapping[str, t.Any] = sharing.get("mps") or sharing.get("timeSlicing") or {}
        return block


def _without_null(value: t.Any) -> t.Any:
    if not isinstance(value, dict):
        return value
    kept = {key: _without_null(item) for key, item in value.items() if item is not None}
    return {key: item for key, item in kept.items() if item != {}}


def parse(programs: DevicePluginBinaries, files: Sequence[str]) -> list[Parsed]:
    """What NVIDIA's parser makes of each file, asked of one process."""
    questions = "".join(f"{json.dumps(text)}\n" for text in files)
    run = subprocess.run([programs.configparser], input=questions, capture_output=True, text=True, timeout=600, check=True)
    answers = [Parsed(**json.loads(line)) for line in run.stdout.splitlines()]
    assert len(answers) == len(files)
    return answers


def mps_daemons(programs: DevicePluginBinaries, directory: Path, file: str, machine: Machine) -> tuple[list[str], str]:
    """The pipe directories of the MPS control daemons that would be started, and the error where there is one."""
    path = directory / "config.yaml"
    path.write_text(file)
    environment = {**machine.environment, "LD_LIBRARY_PATH": str(programs.nvml)}
    command = [str(programs.mpsdaemons), "--config-file", str(path)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    answer = json.loads(run.stdout)
    return answer["pipes"] or [], answer["error"]


@dataclass(frozen=True, kw_only=True)
class Allocated:
    """What a container would get, or why not."""

    error: str = ""
    env: Mapping[str, str] | None = None
    mounts: Sequence[str] | None = None
    devices: Sequence[str] | None = None
    cdi: Sequence[str] | None = None
    annotations: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A resource that the plugin registered. ``allocation`` has what requests of one and two devices get."""

    devices: int
    healthy: int
    error: str
    allocation: Mapping[int, Allocated]


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One run of the device plugin. ``ended`` is how it ended by itself, empty where it did not."""

    resources: Mapping[str, Registered]
    ended: str
    log: str

    @property
    def counts(self) -> dict[str, int]:
        """Resource -> devices."""
        return {name: resource.devices for name, resource in self.resources.items()}


class Kubelet:
    """A kubelet in a mount namespace of its own, to which one device plugin after the other registers."""

    def __init__(self, process: subprocess.Popen[str], programs: DevicePluginBinaries, directory: Path) -> None:
        self._process = process
        self._programs = programs
        self._directory = directory

    @property
    def driver_root(self) -> Path:
        """A directory with the libraries by which the plugin knows a driver when it writes for CDI."""
        libraries = self._directory / "driver" / "usr" / "lib64"
        libraries.mkdir(parents=True, exist_ok=True)
        for name in ("libnvidia-ml.so.1", f"libnvidia-ml.so.{DRIVER_VERSION}", f"libcuda.so.{DRIVER_VERSION}"):
            shutil.copy(self._programs.nvml / "libnvidia-ml.so.1", libraries / name)
        return self._directory / "driver"

    def plugin(
        self,
        file: str,
        machine: Machine,
        *,
        resources: int,
        until: str = "",
        updates: int = 1,
        settings: Mapping[str, str] | None = None,
        mps: bool = True,
    ) -> Plugin:
        """Run the real plugin with this configuration file until it has registered ``resources`` or its log has ``until``.

        ``updates`` is how many lists of devices to wait for, ``mps`` whether an MPS control daemon answers.
        """
        path = self._directory / "config.yaml"
        path.write_text(file)
        environment = {
            **(settings or {}),
            **machine.environment,
            "CONFIG_FILE": str(path),
            "LD_LIBRARY_PATH": str(self._programs.nvml),
            "PATH": str(self._directory / "bin") if mps else "",
        }
        question = {
            "command": [str(self._programs.nvidia_device_plugin)],
            "env": [f"{name}={value}" for name, value in environment.items()],
            "resources": resources,
            "until": until,
            "updates": updates,
            "allocate": [1, 2],
            "seconds": PATIENCE,
        }
        answer = self._ask(question)
        assert not answer["timed_out"], answer["log"]
        found = {name: self._registered(resource) for name, resource in answer["resources"].items()}
        return Plugin(resources=found, ended=answer["ended"], log=answer["log"])

    def labels(self, file: str, machine: Machine, *, settings: Mapping[str, str] | None = None) -> dict[str, str]:
        """The labels of the real GPU feature discovery."""
        path, output = self._directory / "config.yaml", self._directory / "labels"
        path.write_text(file)
        output.unlink(missing_ok=True)
        options = ["--use-node-feature-api=false", "--oneshot", "--no-timestamp", f"--machine-type-file={os.devnull}"]
        command = [str(self._programs.gpu_feature_discovery), *options, f"--output-file={output}"]
        environment = {**(settings or {}), **machine.environment, "CONFIG_FILE": str(path), "LD_LIBRARY_PATH": str(self._programs.nvml)}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, run.stderr
        return dict(line.split("=", 1) for line in output.read_text().splitlines())

    @staticmethod
    def _registered(resource: Mapping[str, t.Any]) -> Registered:
        allocation = {int(count): Allocated(**one) for count, one in resource["allocation"].items()}
        return Registered(devices=resource["devices"], healthy=resource["healthy"], error=resource["error"], allocation=allocation)

    def _ask(self, question: Mapping[str, t.Any]) -> dict[str, t.Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(question)}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the kubelet ended: {(self._directory / 'kubelet.log').read_text()}"
        answer: dict[str, t.Any] = json.loads(line)
        return answer


def unshare() -> list[str] | None:
    """The command that gives a program a mount namespace: as root, else in a user namespace where the system has those; None without."""
    for options in (UNSHARE, ("--user", "--map-root-user", *UNSHARE)):
        command = ["unshare", *options]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True, timeout=30, check=False).returncode == 0:
            return command
    return None


@contextmanager
def kubelet(programs: DevicePluginBinaries, directory: Path, namespace: Sequence[str]) -> Iterator[Kubelet]:
    """A kubelet for as long as the context lasts."""
    minors = directory / "mig-minors"
    lines = [f"gpu{gpu}/gi{instance}{part}/access" for gpu in range(GPUS) for instance in range(1, INSTANCES + 1) for part in ("", "/ci0")]
    minors.write_text("".join(f"{line} {number}\n" for number, line in enumerate(lines)))
    control = directory / "bin" / "nvidia-cuda-mps-control"
    control.parent.mkdir()
    control.write_text(MPS_CONTROL)
    control.chmod(0o755)
    command = [*namespace, "/bin/sh", "-c", NAMESPACE, "sh", str(minors), str(programs.fakekubelet)]
    with (directory / "kubelet.log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            yield Kubelet(process, programs, directory)
        finally:
            process.communicate(timeout=60)  # it ends with its standard input
