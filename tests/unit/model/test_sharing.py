# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharing: names and numbers that follow from it, and what is refused."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import GpuResources, Mig, Sharing, sharing_faults


@pytest.mark.parametrize(
    ("params", "resource", "advertised"),
    [
        (None, "nvidia.com/gpu", 4),
        ({"strategy": "none"}, "nvidia.com/gpu", 4),
        ({"strategy": "time_slicing", "replicas": 10}, "nvidia.com/gpu", 40),
        ({"strategy": "time_slicing", "replicas": 2, "rename": True}, "nvidia.com/gpu.shared", 8),
        ({"strategy": "mps", "replicas": 5}, "nvidia.com/gpu", 20),
        ({"strategy": "mps", "replicas": 5, "rename": True}, "nvidia.com/gpu.shared", 20),
    ],
)
def test_what_follows_from_sharing(params: t.Any, resource: str, advertised: int) -> None:
    sharing = Sharing.from_params(params)
    assert (sharing.resource, sharing.advertised(4)) == (resource, advertised)


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        (None, []),
        ({"strategy": "none"}, []),
        ({"strategy": "time_slicing", "replicas": 2}, []),
        ({"strategy": "time_slicing"}, ["p.replicas"]),
        ({"strategy": "time_slicing", "replicas": 1}, ["p.replicas"]),
        ({"strategy": "time_slicing", "replicas": "0"}, ["p.replicas"]),
        ({"strategy": "none", "replicas": 3}, ["p.replicas"]),
        ({"strategy": "mps", "replicas": 48}, []),
        ({"strategy": "mps", "replicas": 49}, ["p.replicas"]),
        ({"strategy": "mps"}, ["p.replicas"]),
        ({"strategy": "mps", "replicas": 1}, ["p.replicas"]),
        ({"strategy": "time_slicing", "replicas": 60_000}, []),
        ({"strategy": "time_slicing", "replicas": 60_001}, ["p.replicas"]),
        ({"strategy": "time_slicing", "replicas": "100000"}, ["p.replicas"]),
        ({"strategy": "time_slicing", "replicas": "ten"}, []),
    ],
)
def test_what_is_refused(params: t.Any, paths: list[str]) -> None:
    assert [fault.path for fault in sharing_faults(params, "p")] == paths


@pytest.mark.parametrize(
    ("strategy", "suffixes", "advertised"),
    [
        ("mixed", False, {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.5gb": 10, "nvidia.com/mig-2g.10gb": 2}),
        ("mixed", True, {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.5gb": 8, "nvidia.com/mig-1g.5gb.me": 2, "nvidia.com/mig-2g.10gb": 2}),
        ("single", False, {"nvidia.com/gpu": 12}),
    ],
)
def test_profiles_with_a_suffix_count_as_those_without_unless_the_plugin_tells_them_apart(
    strategy: str, suffixes: bool, advertised: dict[str, int]
) -> None:
    mig = Mig.from_params({"strategy": strategy, "layout": {"1g.5gb": 4, "1g.5gb+me": 1, "2g.10gb": 1}}, suffixes=suffixes)
    assert GpuResources(mig=mig).advertised(2) == advertised
