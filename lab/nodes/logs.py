"""What the programs that the loops play would write: lines in klog's form, by pod and container."""

from __future__ import annotations

import datetime
import threading
from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field

from lab.kubernetes.client import Json
from lab.kubernetes.kubelets import Line, NoLogs

KEPT = 200
INFO, WARNING, ERROR = "I", "W", "E"


def _lines() -> deque[Line]:
    return deque(maxlen=KEPT)


@dataclass(slots=True)
class _Kept:
    """One container: the lines of its present or last run, of the run before, and why it has not started."""

    uid: str
    lines: deque[Line] = field(default_factory=_lines)
    previous: deque[Line] | None = None
    waiting: str = ""


class Logs:
    """Of one cluster. Loops write, the kubelets' endpoint reads, each in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str], _Kept] = {}  # by namespace, pod, container

    def begin(self, pod: Json, container: str) -> None:
        """The container starts, once more if it has run before."""
        with self._lock:
            kept = self._of(pod, container)
            if kept.lines:
                kept.previous, kept.lines = kept.lines, _lines()
            kept.waiting = ""

    def wait(self, pod: Json, container: str, reason: str) -> None:
        """The container has not started, for this reason (ContainerCreating)."""
        with self._lock:
            self._of(pod, container).waiting = reason

    def say(self, pod: Json, container: str, *messages: str, level: str = INFO) -> None:
        """Write messages as klog does; the number of a line in a source file is always 1."""
        now = datetime.datetime.now(datetime.UTC)
        head = f"{level}{now:%m%d %H:%M:%S.%f}       1 main.go:1] "
        with self._lock:
            self._of(pod, container).lines.extend(Line(now, head + message) for message in messages)

    def read(self, namespace: str, pod: str, container: str, previous: bool) -> list[Line] | None:
        """The lines, None where nothing here speaks for that container; raises NoLogs as kubelet refuses (kubelet_pods.go)."""
        with self._lock:
            kept = self._kept.get((namespace, pod, container))
            if kept is None:
                return None
            if previous:
                if kept.previous is None:
                    raise NoLogs(f'previous terminated container "{container}" in pod "{pod}" not found')
                return list(kept.previous)
            if kept.waiting:
                raise NoLogs(f'container "{container}" in pod "{pod}" is waiting to start: {kept.waiting}')
            return list(kept.lines)

    def keep_only(self, uids: Container[str]) -> None:
        """Forget pods that are gone."""
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if kept.uid in uids}

    def _of(self, pod: Json, container: str) -> _Kept:
        metadata = pod["metadata"]
        key = (metadata["namespace"], metadata["name"], container)
        kept = self._kept.get(key)
        if kept is None or kept.uid != metadata["uid"]:
            kept = self._kept[key] = _Kept(metadata["uid"])
        return kept
