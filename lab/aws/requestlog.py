"""The record of every AWS call that somebody made to the lab: one JSON object a line."""

from __future__ import annotations

import json
import threading
import typing as t
from dataclasses import asdict, dataclass
from pathlib import Path

# Parameters worth a line in the log: what a call is about. Bodies, documents and user data stay out.
_SUMMARY_SUFFIXES = ("id", "ids", "name", "names", "arn", "version", "type", "size", "count", "token", "action", "role", "key")
_SECRET_PARTS = ("secret", "password", "userdata", "user_data", "credential", "privatekey", "securitytoken")
_MAX_VALUE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call, at real time. ``error`` is empty on success; ``principal`` is empty when the caller could not be told."""

    time: str
    service: str
    operation: str
    region: str
    principal: str
    mutating: bool
    dry_run: bool
    status: int
    error: str
    parameters: dict[str, t.Any]
    user_agent: str


class RequestLog:
    """Appends entries to a file; safe for several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def append(self, entry: Entry) -> None:
        """Write one line at once, so that readers see whole entries."""
        line = json.dumps(asdict(entry), separators=(",", ":"), sort_keys=True) + "\n"
        with self._lock, self._path.open("a", encoding="utf-8") as stream:
            stream.write(line)


def summarise(params: dict[str, t.Any]) -> dict[str, t.Any]:
    """Ids, names, types and sizes of a call's parameters, without secrets and long texts."""
    summary: dict[str, t.Any] = {}
    for name, value in params.items():
        flat = name.lower().replace(".", "")
        if any(part in flat for part in _SECRET_PARTS):
            continue
        if isinstance(value, dict):
            nested = summarise(value)
            if nested:
                summary[name] = nested
        elif isinstance(value, (bool, int)) or flat.rstrip("0123456789").endswith(_SUMMARY_SUFFIXES) or ".Value." in name:
            summary[name] = value if not isinstance(value, str) else value[:_MAX_VALUE]
    return summary


def read(path: Path) -> list[Entry]:
    """All entries of a log, oldest first; an absent file has none."""
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]


def writes(entries: t.Iterable[Entry]) -> list[Entry]:
    """The mutating calls among ``entries``, refused ones included; dry runs are none."""
    return [entry for entry in entries if entry.mutating]
