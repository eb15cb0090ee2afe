# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What can go wrong, as exceptions; _run turns them into one failure of the module."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

_SECRET = "********"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One value that cannot be accepted: where it stands, what it is, what is allowed, and where that rule comes from."""

    path: str
    value: t.Any
    allowed: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}: {self.value!r}; allowed: {self.allowed} ({self.source})"

    def to_dict(self) -> dict[str, t.Any]:
        return {"path": self.path, "value": self.value, "allowed": self.allowed, "source": self.source}

    def masked(self) -> Fault:
        """The same fault without its value, for options that hold a secret."""
        return Fault(path=self.path, value=_SECRET, allowed=self.allowed, source=self.source)


class GpuopsError(Exception):
    """A failure with a message for the user; ``hint`` says what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def result(self) -> dict[str, t.Any]:
        """Keys that a failed module result carries besides ``msg``."""
        return {}


class InvalidInput(GpuopsError):
    """Values that the user has to change; all of them at once."""

    def __init__(self, faults: t.Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        count = len(self.faults)
        lines = "\n".join(f"- {fault}" for fault in self.faults)
        super().__init__(f"{count} {'value' if count == 1 else 'values'} cannot be accepted:\n{lines}")

    def result(self) -> dict[str, t.Any]:
        return {"faults": [fault.to_dict() for fault in self.faults]}


class ServiceError(GpuopsError):
    """A service refused a call, in its own words. ``code`` is the service's error code."""

    def __init__(self, action: str, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{action}: {code}: {message.rstrip('.')}.", hint=hint)
        self.action = action
        self.code = code

    def result(self) -> dict[str, t.Any]:
        return {"error": {"action": self.action, "code": self.code}}


class ConnectionRefused(GpuopsError):
    """No answer from a service, or no credentials that it takes."""


class WaitFailed(GpuopsError):
    """What was waited for can no longer come true, or took too long."""


class Interrupted(GpuopsError):
    """A plan stopped half way: which steps were made and which were not."""

    def __init__(self, cause: GpuopsError, done: t.Sequence[dict[str, t.Any]], left: t.Sequence[dict[str, t.Any]]) -> None:
        hint = f"{cause.hint} {len(done)} of {len(done) + len(left)} steps were made; running again goes on from there.".strip()
        super().__init__(cause.message, hint=hint)
        self.cause = cause
        self.done = list(done)
        self.left = list(left)

    def result(self) -> dict[str, t.Any]:
        return {**self.cause.result(), "plan": self.done + self.left, "steps_done": len(self.done)}
