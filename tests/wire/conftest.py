# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the wire tests."""

from __future__ import annotations

import pytest

from tests.wire.harness import Wire


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """A script of AWS calls that a module's main() has to follow."""
    return Wire(monkeypatch)
