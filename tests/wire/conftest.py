# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the wire tests."""

from __future__ import annotations

import pytest

from tests.wire.harness import Wire
from tests.wire.kube import KubeWire


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """A script of AWS calls that a module's main() has to follow."""
    return Wire(monkeypatch)


@pytest.fixture
def kube(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> KubeWire:
    """A script of requests to an API server besides that of AWS calls."""
    return KubeWire(wire, monkeypatch)
