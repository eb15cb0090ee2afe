# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for the tests of a file."""

from __future__ import annotations

import typing as t

import pytest

from tests.e2e.rehearsal import Rehearsal


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Rehearsal]:
    """A lab that is up, and down again at the end."""
    made = Rehearsal(tmp_path_factory.mktemp("rehearsal"))
    made.lab("up")
    try:
        yield made
    finally:
        made.lab("down")
