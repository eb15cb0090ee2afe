# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks and names."""

from __future__ import annotations

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, short_name, tag_list, tag_map

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")


def test_the_owner_is_the_arn_that_the_cluster_will_have() -> None:
    assert OWNER.arn == "arn:aws:eks:us-west-2:123456789012:cluster/demo"
    assert OWNER.owns(OWNER.tags("network"))
    assert not OWNER.owns({"gpuops.eks/owner": OWNER.arn.replace("demo", "other")})
    assert not OWNER.owns({})


@pytest.mark.parametrize(
    ("parts", "limit", "expected"), [(("a", "b"), 63, "a-b"), (("x" * 40, "y" * 40), 63, "x" * 40 + "-" + "y" * 13 + "-7d1bcde1")]
)
def test_short_name_is_stable_and_within_its_limit(parts: tuple[str, ...], limit: int, expected: str) -> None:
    assert short_name(*parts, limit=limit)[: len(expected) - 8] == expected[: len(expected) - 8]
    assert len(short_name(*parts, limit=limit)) <= limit


def test_names_that_differ_after_the_cut_stay_different() -> None:
    assert short_name("x" * 70, "a", limit=63) != short_name("x" * 70, "b", limit=63)


def test_tag_forms_are_inverse() -> None:
    assert tag_map(tag_list({"b": "2", "a": "1"})) == {"a": "1", "b": "2"}
