# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharing: names and numbers that follow from it, and what is refused."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing, sharing_faults


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
