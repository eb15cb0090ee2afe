# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharing: names and numbers that follow from it, and what is refused."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing, sharing_faults


@pytest.mark.parametrize(
    ("params", "configuration", "resource", "advertised"),
    [
        (None, "default", "nvidia.com/gpu", 4),
        ({"strategy": "none"}, "default", "nvidia.com/gpu", 4),
        ({"strategy": "time_slicing", "replicas": 10}, "time-slicing-10", "nvidia.com/gpu", 40),
        ({"strategy": "time_slicing", "replicas": 2, "rename": True}, "time-slicing-2-renamed", "nvidia.com/gpu.shared", 8),
        ({"strategy": "time_slicing", "replicas": 2, "fail_requests_greater_than_one": False}, "time-slicing-2-many", "nvidia.com/gpu", 8),
    ],
)
def test_what_follows_from_sharing(params: t.Any, configuration: str, resource: str, advertised: int) -> None:
    sharing = Sharing.from_params(params)
    assert (sharing.configuration, sharing.resource, sharing.advertised(4)) == (configuration, resource, advertised)


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
        ({"strategy": "mps", "replicas": 3}, ["p.strategy"]),
        ({"strategy": "time_slicing", "replicas": "ten"}, []),
    ],
)
def test_what_is_refused(params: t.Any, paths: list[str]) -> None:
    assert [fault.path for fault in sharing_faults(params, "p")] == paths
