# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG: layouts that are refused, each with a reason that helps, and mig-parted's file."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible_collections.gpuops.eks.plugins.module_utils._model.mig import (
    mig_faults,
    parted_file,
    products_of,
    sharing_of_mig_faults,
)
from hypothesis import given
from hypothesis import strategies as st


def mixed(**layout: t.Any) -> dict[str, t.Any]:
    """``_1g_5gb=7`` for 1g.5gb: 7."""
    return {"strategy": "mixed", "layout": {key.strip("_").replace("_me", "+me").replace("_", "."): count for key, count in layout.items()}}


@pytest.mark.parametrize(
    "params",
    [
        None,
        "x",
        {},
        {"layout": None},
        {"layout": "x"},
        mixed(_1g_5gb=7),
        mixed(_1g_5gb="7"),
        mixed(_1g_5gb=6, _1g_5gb_me=1),
        mixed(_1g_5gb=2, _2g_10gb=1, _3g_20gb=1),
        mixed(_1g_24gb=4),
        {"strategy": "mixed", "layout": {"2g.48gb-me": 1, "1g.24gb+me.all": 1}},
        {"strategy": "single", "layout": {"1g.10gb": 7}},
    ],
)
def test_layouts_that_are_taken_or_left_to_those_who_look_at_types(params: t.Any) -> None:
    assert mig_faults(params, "p.mig") == []


@pytest.mark.parametrize(
    ("layout", "path", "allowed"),
    [
        ({}, "", "at least one profile"),
        ({"1g.5gb.me": 1}, ".1g.5gb.me", "did you mean '1g.5gb+me'? A dot in place of + is how the resource is spelled"),
        ({"1g.24gb.me.all": 1}, ".1g.24gb.me.all", "did you mean '1g.24gb+me.all'?"),
        ({"mig-1g.5gb": 1}, ".mig-1g.5gb", "no such profile; did you mean '1g.5gb'?"),
        ({"nvidia.com/mig-1g.5gb": 1}, ".nvidia.com/mig-1g.5gb", "no such profile; did you mean '1g.5gb'?"),
        ({"nvidia.com/mig-1g.10gb.me": 1}, ".nvidia.com/mig-1g.10gb.me", "did you mean '1g.10gb+me'?"),
        ({"1g.5GB": 7}, ".1g.5GB", "no such profile; did you mean '1g.5gb'?"),
        ({"1g5gb": 7}, ".1g5gb", "no such profile; did you mean '1g.5gb'?"),
        ({"8g.80gb": 1}, ".8g.80gb", "no such profile; did you mean '7g.80gb'?"),
        ({"all-balanced": 1}, ".all-balanced", "no such profile; known are 1g.10gb, "),
        ({"1g.5gb-me": 1}, ".1g.5gb-me", "no such profile; did you mean '1g.5gb"),
        ({"1g.5gb": 0}, ".1g.5gb", "an integer of at least 1"),
        ({"1g.5gb": -1}, ".1g.5gb", "an integer of at least 1"),
        ({"1g.5gb": "seven"}, ".1g.5gb", "an integer of at least 1"),
        ({"1g.5gb": True}, ".1g.5gb", "an integer of at least 1"),
        ({"1g.5gb": 1.5}, ".1g.5gb", "an integer of at least 1"),
        ({"1g.5gb": None}, ".1g.5gb", "an integer of at least 1"),
        ({"1g.5gb": 8}, "", "NVIDIA-A100-SXM4-40GB takes at most 7 of 1g.5gb, not 8"),
        ({"1g.5gb+me": 2}, "", "takes at most 1 of 1g.5gb+me, not 2"),
        ({"3g.20gb": 2, "1g.5gb": 1}, "", "does not fit on one NVIDIA-A100-SXM4-40GB beside"),
        ({"1g.5gb": 1, "1g.18gb": 1}, "", "NVIDIA-A100-SXM4-40GB has no profile 1g.18gb"),
    ],
)
def test_layouts_that_are_refused(layout: dict[str, t.Any], path: str, allowed: str) -> None:
    (fault,) = mig_faults({"strategy": "mixed", "layout": layout}, "p.mig")
    assert fault.path == f"p.mig.layout{path}"
    assert allowed in fault.allowed
    assert fault.source


def test_what_fits_on_one_product_alone_is_taken() -> None:
    """1g.10gb is a profile of three products; as 4 it is the double memory of one, 7 of the others."""
    assert mig_faults(mixed(_1g_10gb=7), "p") == []
    assert products_of({"1g.10gb": 7}) == ("NVIDIA-A100-SXM4-80GB", "NVIDIA-H100-80GB-HBM3")
    assert products_of({"1g.10gb": 4})[0] == "NVIDIA-A100-SXM4-40GB"
    assert products_of({"1g.10gb": 8}) == ()


def test_one_strategy_takes_one_profile() -> None:
    params = {"strategy": "single", "layout": {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}}
    (fault,) = mig_faults(params, "p.mig")
    assert (fault.path, "more than one MIG device type" in fault.source) == ("p.mig.layout", True)
    assert "strategy mixed" in fault.allowed


SEVEN = {"strategy": "single", "layout": {"1g.5gb": 7}}


@pytest.mark.parametrize(
    ("sharing", "mig", "paths"),
    [
        ({"strategy": "mps", "replicas": 4}, SEVEN, ["s.strategy"]),
        ({"strategy": "mps", "replicas": 4}, mixed(_1g_5gb=7), ["s.strategy"]),
        ({"strategy": "mps", "replicas": 4}, None, []),
        ({"strategy": "time_slicing", "replicas": 4}, SEVEN, []),
        ({"strategy": "none"}, SEVEN, []),
        (None, SEVEN, []),
        ("x", SEVEN, []),
        ({"strategy": "time_slicing", "replicas": 8571}, SEVEN, []),
        ({"strategy": "time_slicing", "replicas": 8572}, SEVEN, ["s.replicas"]),
        ({"strategy": "time_slicing", "replicas": "8572"}, SEVEN, ["s.replicas"]),
        ({"strategy": "time_slicing", "replicas": 8572}, mixed(_1g_5gb=2, _2g_10gb=1), []),
        ({"strategy": "time_slicing", "replicas": "x"}, SEVEN, []),
        ({"strategy": "time_slicing", "replicas": 60_001}, SEVEN, []),
        ({"strategy": "time_slicing", "replicas": 8572}, {"layout": {"x": 1}}, []),
    ],
)
def test_how_mig_instances_are_shared(sharing: t.Any, mig: t.Any, paths: list[str]) -> None:
    assert [fault.path for fault in sharing_of_mig_faults(sharing, mig, "s")] == paths


def test_the_file_of_mig_parted() -> None:
    text = parted_file({"whole": {}, "cut": {"1g.5gb": 6, "1g.5gb+me": 1}})
    assert text == (
        'version: "v1"\n'
        "mig-configs:\n"
        "  whole:\n"
        '    - devices: "all"\n'
        "      mig-enabled: false\n"
        "  cut:\n"
        '    - devices: "all"\n'
        "      mig-enabled: true\n"
        "      mig-devices:\n"
        '        "1g.5gb": 6\n'
        '        "1g.5gb+me": 1\n'
    )


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12), st.dictionaries(st.sampled_from(["1g.5gb", "7g.40gb"]), st.integers(1, 7)), min_size=1
    )
)
def test_any_name_comes_out_of_the_file_as_it_was_meant(layouts: dict[str, dict[str, int]]) -> None:
    found = yaml.safe_load(parted_file(layouts))["mig-configs"]
    assert {name: entry[0].get("mig-devices", {}) for name, entry in found.items()} == layouts
    assert {name: entry[0]["mig-enabled"] for name, entry in found.items()} == {name: bool(layout) for name, layout in layouts.items()}
