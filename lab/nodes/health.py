"""Pure: XID events that the device plugin counts against a GPU (k8s-device-plugin 0.19.3, internal/rm/health.go)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: Errors of applications, after which the GPU is taken to be well.
IGNORED = (13, 31, 43, 45, 68, 109)
DISABLE, ENABLE = "DP_DISABLE_HEALTHCHECKS", "DP_ENABLE_HEALTHCHECKS"
_ALL = 0


@dataclass(frozen=True, slots=True)
class Event:
    """A critical error of one GPU; ``id`` tells it from others like it."""

    id: str
    gpu: int
    xid: int


#: Node -> the events there have been since the lab was started or its faults were cleared
Events = Callable[[str], list[Event]]


def none(_node: str) -> list[Event]:
    return []


def ignored(xid: int, environment: Mapping[str, str]) -> bool:
    """Whether a plugin with this environment lets the event pass. Once all are disabled none that is enabled counts again."""
    disabled = dict.fromkeys((*_listed(environment.get(DISABLE, "")), *IGNORED), True)
    disabled |= dict.fromkeys(_listed(environment.get(ENABLE, "")), False)
    if _ALL in disabled:
        return disabled[_ALL]
    return disabled.get(xid, False)


def _listed(text: str) -> list[int]:
    words = [word.strip() for word in text.lower().split(",")]
    return [_ALL] if "all" in words or "xids" in words else [int(word) for word in words if word.isdigit()]
