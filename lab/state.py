"""The state directory of one lab: where things lie, who holds it, what ``down`` may remove."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

from lab.contracts import ClusterRef
from lab.supervisor import Record, Records

VARIABLE = "GPUOPS_LAB_STATE"
DAEMON = "daemon"
MARKER = "gpuops-lab"
Json = dict[str, t.Any]


class StateError(RuntimeError):
    """The state directory cannot be used; the message is one sentence that says what to do."""


def default_root() -> Path:
    """GPUOPS_LAB_STATE, else ``.lab`` under the checkout's root."""
    given = os.environ.get(VARIABLE)
    return Path(given).expanduser().absolute() if given else Path(__file__).resolve().parents[1] / ".lab"


class State:
    """Paths of a lab's files. Every entry is named in ENTRIES: nothing else in the directory is ever removed."""

    ENTRIES = (MARKER, "lab.json", "daemon.log", "startup.log", "processes", "clusters", "audit", "aws", "kubeconfigs", "lock")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.about = root / "lab.json"
        self.daemon_log = root / "daemon.log"
        self.startup_log = root / "startup.log"
        self.clusters = root / "clusters"
        self.audit = root / "audit"
        self.request_log = root / "aws" / "requests.jsonl"
        self.kubeconfigs = root / "kubeconfigs"
        self.records = Records(root / "processes")

    def cluster(self, cluster: ClusterRef) -> Path:
        return self.clusters / _directory_name(cluster)

    def audit_log(self, cluster: ClusterRef) -> Path:
        """Outside the cluster's directory: it outlives the cluster, so that a teardown's writes can be read."""
        return self.audit / f"{_directory_name(cluster)}.log"

    def create(self) -> None:
        """Make the directory; raises StateError when it holds something that is no lab's."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        marker = self.root / MARKER
        if not marker.exists() and any(self.root.iterdir()):
            raise StateError(f"{self.root} is not empty and not a lab's: set {VARIABLE} to another directory.")
        marker.touch()

    @property
    def exists(self) -> bool:
        return (self.root / MARKER).exists()

    def read_about(self) -> Json | None:
        """What lab.json says, None while there is none."""
        try:
            return t.cast(Json, json.loads(self.about.read_text()))
        except FileNotFoundError:
            return None

    def write_about(self, about: Json) -> None:
        unfinished = self.about.with_suffix(".unfinished")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(about, indent=2) + "\n")
        unfinished.replace(self.about)

    def daemon(self) -> Record | None:
        """The running daemon's record, None when there is none."""
        return next((r for r in self.records.alive() if r.name == DAEMON), None)

    def cluster_files(self) -> list[Json]:
        """What each ready cluster wrote of itself, with its directory."""
        found = sorted(self.clusters.glob("*/cluster.json"))
        return [json.loads(path.read_text()) | {"directory": str(path.parent)} for path in found]

    def clear(self) -> None:
        """Remove what a lab made, so that the next one starts with nothing; marker and lock stay."""
        self._unlink(set(self.ENTRIES) - {MARKER, "lock"})

    def remove(self) -> None:
        """Remove every entry of the lab's own, and the directory if that leaves it empty."""
        self._unlink(set(self.ENTRIES))
        if not any(self.root.iterdir()):
            self.root.rmdir()

    def _unlink(self, names: set[str]) -> None:
        for name in names:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


class Lock:
    """The directory's lock. ``up`` takes it and its daemon inherits it, so it is held as long as either of them lives."""

    def __init__(self, state: State) -> None:
        self._path = state.root / "lock"
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        if self._descriptor is None:
            raise StateError("the state directory's lock is not held")
        return self._descriptor

    def try_take(self) -> bool:
        """Take the lock if nobody has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except (BlockingIOError, FileNotFoundError):
            same = False
        if not same:  # held, or a `down` removed the file that was just locked
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def take(self, timeout: float, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Wait for the lock, calling ``meanwhile`` between tries; False when it was not to be had in time."""
        end = time.monotonic() + timeout
        while not self.try_take():
            if time.monotonic() > end:
                return False
            meanwhile()
            time.sleep(0.1)
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _directory_name(cluster: ClusterRef) -> str:
    return f"{cluster.account}-{cluster.region}-{cluster.name}"
