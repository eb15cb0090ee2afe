# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an object's conditions say of it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import readiness


def condition(kind: str, status: str, reason: str = "Because", message: str = "of this", generation: int = 2) -> dict[str, t.Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": generation}


def obj(*conditions: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"metadata": {"name": "x", "generation": 2}, "status": {"conditions": list(conditions)}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, ("it is not there", False)),
        ({"metadata": {"generation": 1}}, ("no controller has looked at it yet", False)),
        (obj(condition("Ready", "True")), ("", False)),
        (obj(condition("Ready", "True", generation=1)), ("no controller has looked at it yet", False)),
        (obj({"type": "Ready", "status": "True"}), ("", False)),
        (obj(condition("Ready", "Unknown"), condition("AMIsReady", "Unknown")), ("AMIsReady: Because: of this", False)),
        (
            obj(condition("Ready", "False"), condition("A", "False", "Slow", ""), condition("B", "Unknown"), condition("C", "True")),
            ("A: Slow", False),
        ),
        (obj(condition("Ready", "False"), condition("A", "False", "Conflict")), ("A: Conflict: of this", True)),
        (obj(condition("Ready", "False"), condition("A", "False", "Conflict", generation=1)), ("Ready: Because: of this", False)),
        (obj(condition("Ready", "False", "Conflict")), ("Ready: Conflict: of this", True)),
    ],
)
def test_readiness(found: dict[str, t.Any] | None, expected: tuple[str, bool]) -> None:
    assert readiness(found, ("Conflict",)) == expected
