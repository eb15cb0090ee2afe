# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Our objects beside NVIDIA's chart: every difference has a reason, every reason a difference, and the page says them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import binaries
from tests.oracle.chart import Difference, compare, differences, facts, our_objects
from tests.oracle.conftest import say
from tests.oracle.page import PAGE, page
from tests.oracle.reasons import REASONS


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Difference]:
    return differences(binaries.helm(say), binaries.device_plugin_chart(say), tmp_path_factory.mktemp("chart"))


def test_every_difference_has_one_reason(found: list[Difference]) -> None:
    reasons = {(row.component, row.what, row.ours): [reason.what for reason in REASONS if reason.applies(row)] for row in found}
    assert {key: several for key, several in reasons.items() if len(several) != 1} == {}


def test_every_reason_has_a_difference(found: list[Difference]) -> None:
    assert [reason.what for reason in REASONS if not any(reason.applies(row) for row in found)] == []


def test_the_page_says_them(found: list[Difference]) -> None:
    assert Path(PAGE).read_text(encoding="utf-8") == page(found), "python -m tests.oracle.page writes it anew"


def test_what_is_new_on_either_side_is_a_difference_without_reason() -> None:
    ours = facts(our_objects({}))
    new = {("device plugin", "hostNetwork"): "true", ("device plugin", "container nvidia-device-plugin-ctr: env NEW"): "1"}
    for pair in (({**ours, **new}, ours), (ours, {**ours, **new})):
        rows = compare({"none": pair})
        assert {(row.component, row.what) for row in rows} == set(new)
        assert not any(reason.applies(row) for row in rows for reason in REASONS)
