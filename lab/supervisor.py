"""The lab's processes: started, recorded, watched, ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
TERM_SECONDS = 10.0
LOG_TAIL_BYTES = 3000
LAUNCHER = Path(__file__).with_name("launch.py")


class ProcessEnded(RuntimeError):
    """A process that should be running is not; the message carries the end of its log."""


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot (proc(5), stat field 22); None when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def resident_mib(pid: int) -> float | None:
    """The resident memory of a process in MiB, None when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_ports(count: int) -> list[int]:
    """Different TCP ports that are free on the loopback address now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def wait_until(what: str, probe: Callable[[], bool], timeout: float, every: float = 0.05) -> None:
    """Return once ``probe`` is true; raises TimeoutError."""
    end = time.monotonic() + timeout
    while not probe():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {timeout:.0f} s")
        time.sleep(every)


@dataclass(frozen=True, slots=True)
class Record:
    """A process as written in the state directory; the start time tells it from a later one with the same id."""

    name: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        """Send a signal if this very process still runs."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return  # ended between the two calls


class Records:
    """The directory in which running processes are noted, so that ``down`` finds what a killed daemon left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def add(self, name: str, pid: int) -> Record | None:
        """Note a process, whole or not at all; None when it has already ended."""
        started = start_time(pid)
        if started is None:
            return None
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self._path(name)
        unfinished = path.with_suffix(f".{pid}")
        unfinished.write_text(json.dumps({"name": name, "pid": pid, "started": started}))
        unfinished.replace(path)
        return Record(name, pid, started)

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def all(self) -> list[Record]:
        """Every process noted, running or not, by name."""
        if not self.directory.is_dir():
            return []
        found = [self._read(path) for path in sorted(self.directory.glob("*.json"))]
        return [record for record in found if record is not None]

    def alive(self) -> list[Record]:
        return [record for record in self.all() if record.alive]

    def _read(self, path: Path) -> Record | None:
        try:
            found = json.loads(path.read_text())
        except FileNotFoundError:  # removed since it was listed
            return None
        return Record(found["name"], found["pid"], found["started"])

    def _path(self, name: str) -> Path:
        return self.directory / f"{name.replace('/', '@')}.json"


def end(records: Iterable[Record], timeout: float = TERM_SECONDS) -> None:
    """Terminate processes, in order; kill those that are there after ``timeout`` seconds; returns when all are gone."""
    left = list(records)
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, timeout)):
        for record in left:
            record.signal(number)
        deadline = time.monotonic() + patience
        while (left := [r for r in left if r.alive]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not left:
            return
    raise TimeoutError(f"still running after SIGKILL: {', '.join(f'{r.name} ({r.pid})' for r in left)}")


@dataclass(frozen=True, slots=True)
class Child:
    """A process that a Supervisor started."""

    name: str
    log: Path
    popen: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.popen.pid

    def require_running(self) -> None:
        """Raises ProcessEnded, with the end of the log, when it is not running."""
        if (code := self.popen.poll()) is not None:
            raise ProcessEnded(f"{self.name} ended with exit status {code}; end of {self.log}:\n{self.tail()}")

    def tail(self) -> str:
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return stream.read().decode(errors="replace")


def tied_to_this_thread(command: list[str]) -> list[str]:
    """The command that runs ``command`` so that it is killed when the calling thread, or this whole process, ends."""
    return [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command]


class Supervisor:
    """Starts the children of this process, all from one thread that lives as long as the process.

    PR_SET_PDEATHSIG fires when the *thread* that forked ends, so a request's thread must never fork.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self._queue: queue.SimpleQueue[tuple[Callable[[], Child], Future[Child]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._children: dict[str, Child] = {}
        threading.Thread(target=self._spawn, name="supervisor", daemon=True).start()

    def _spawn(self) -> None:
        while True:
            start, future = self._queue.get()
            try:
                future.set_result(start())
            except Exception as error:  # noqa: BLE001 - whatever it is belongs to the thread that asked
                future.set_exception(error)

    def start(self, name: str, command: list[str], *, log: Path, cwd: Path, env: Mapping[str, str] | None = None) -> Child:
        """Start a program with its own log and only the environment given; raises OSError, ProcessEnded."""

        def start() -> Child:
            with log.open("ab") as stream:
                popen = subprocess.Popen(
                    tied_to_this_thread(command),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(cwd), **(env or {})},
                )
            child = Child(name, log, popen)
            self.records.add(name, popen.pid)
            with self._lock:
                self._children[name] = child
            return child

        future: Future[Child] = Future()
        self._queue.put((start, future))
        return future.result()

    def stop(self, children: Iterable[Child], timeout: float = TERM_SECONDS) -> None:
        """End children (all are asked at once, in order), reap them and forget them."""
        stopping = list(children)
        for child in stopping:
            child.popen.terminate()
        deadline = time.monotonic() + timeout
        for child in stopping:
            try:
                child.popen.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.popen.kill()
                child.popen.wait(TERM_SECONDS)
            self.records.remove(child.name)
            with self._lock:
                if self._children.get(child.name) is child:
                    del self._children[child.name]

    def stop_all(self) -> None:
        with self._lock:
            children = list(reversed(self._children.values()))
        self.stop(children)
