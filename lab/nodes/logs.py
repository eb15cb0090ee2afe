"""What the programs that the loops play would write: lines in klog's form, by pod and container."""

from __future__ import annotations

import datetime
import threading
from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field

from lab.kubernetes.client import Json

KEPT = 200
INFO, WARNING, ERROR = "I", "W", "E"


@dataclass(frozen=True, slots=True)
class Line:
    """One line and when it was written."""

    when: datetime.datetime
    text: str


@dataclass(slots=True)
class _Kept:
    uid: str
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=KEPT))


class Logs:
    """Of one cluster. Loops write, the kubelets' endpoint reads, each in a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, str], _Kept] = {}  # by namespace, pod, container

    def say(self, pod: Json, container: str, *messages: str, level: str = INFO) -> None:
        """Write messages as klog does; a container that says the same again and again is not quoted twice in a row."""
        metadata, now = pod["metadata"], datetime.datetime.now(datetime.UTC)
        with self._lock:
            kept = self._kept.get(key := (metadata["namespace"], metadata["name"], container))
            if kept is None or kept.uid != metadata["uid"]:
                kept = self._kept[key] = _Kept(metadata["uid"])
            head = f"{level}{now:%m%d %H:%M:%S.%f}       1 main.go:1] "
            kept.lines.extend(Line(now, head + message) for message in messages)

    def lines(self, namespace: str, pod: str, container: str) -> list[Line] | None:
        """None where nothing here speaks for that container."""
        with self._lock:
            kept = self._kept.get((namespace, pod, container))
            return None if kept is None else list(kept.lines)

    def keep_only(self, uids: Container[str]) -> None:
        """Forget pods that are gone."""
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if kept.uid in uids}
