# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What GPUs can be divided into, and a place for each wanted instance."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpuops.eks.plugins.filter.mig_layout import mig_layout
from ansible_collections.gpuops.eks.plugins.filter.mig_profiles import mig_profiles

A100 = {"1g.5gb": 7, "1g.5gb+me": 1, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1}


@pytest.mark.parametrize(
    "gpu", ["p4d.24xlarge", "p4d", "a100-40", "NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-SXM4-40GB-SHARED", "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"]
)
def test_profiles_by_whatever_names_the_gpu(gpu: str) -> None:
    profiles = mig_profiles(gpu)
    assert {profile["name"]: profile["count"] for profile in profiles} == A100
    assert [profile["memory_gb"] for profile in profiles] == [5, 5, 10, 10, 20, 20, 40]
    assert profiles[2] == {
        "name": "1g.10gb",
        "count": 4,
        "memory_gb": 10,
        "memory_slices": 2,
        "compute_slices": 1,
        "starts": [0, 2, 4, 6],
        "verified": True,
    }


def test_profiles_of_gpus_that_cannot_be_divided_or_were_not_seen() -> None:
    assert mig_profiles("g5.2xlarge") == []
    assert [(profile["name"], profile["verified"]) for profile in mig_profiles("g7.2xlarge")] == [("1g.16gb", False), ("2g.32gb", False)]


@pytest.mark.parametrize("name", ["m5.large", "g9.xlarge", "a100", ""])
def test_an_unknown_gpu_is_an_error_that_names_those_that_are_known(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match="an instance type or one of v100-16, v100-32, t4"):
        mig_profiles(name)
    with pytest.raises(AnsibleFilterError, match="an instance type or one of v100-16, v100-32, t4"):
        mig_layout({"1g.5gb": 1}, name)


@pytest.mark.parametrize(
    ("wanted", "gpu", "gpus", "number", "left"),
    [
        ({"1g.5gb": 56}, "p4d.24xlarge", None, 8, {}),
        ({"1g.5gb": 57}, "p4d.24xlarge", None, 8, {"1g.5gb": 1}),
        ({"1g.5gb": 16, "2g.10gb": 8, "3g.20gb": 8}, "p4d.24xlarge", None, 8, {}),
        ({"3g.40gb": 2, "1g.10gb": 1}, "h100", None, 1, {"1g.10gb": 1}),
        ({"3g.40gb": "2", "1g.10gb": "1"}, "p5", 2, 2, {}),
        ({"1g.24gb": 8}, "g7e.12xlarge", None, 2, {}),
        ({}, "g7e.2xlarge", None, 1, {}),
    ],
)
def test_instances_over_several_gpus(wanted: dict[str, t.Any], gpu: str, gpus: int | None, number: int, left: dict[str, int]) -> None:
    found = mig_layout(wanted, gpu, gpus)
    assert (len(found["gpus"]), found["left"]) == (number, left)
    placed: dict[str, int] = {}
    for row in found["gpus"]:
        for profile, count in row["layout"].items():
            placed[profile] = placed.get(profile, 0) + count
    assert {profile: int(count) for profile, count in wanted.items()} == {
        profile: placed.get(profile, 0) + left.get(profile, 0) for profile in wanted
    }


def test_a_layout_says_where_each_instance_is() -> None:
    found = mig_layout({"1g.5gb": 2, "3g.20gb": 1}, "p4d")
    assert found == {
        "product": "NVIDIA-A100-SXM4-40GB",
        "gpus": [
            {
                "layout": {"3g.20gb": 1, "1g.5gb": 2},
                "placements": [
                    {"profile": "3g.20gb", "start": 4, "slices": 4},
                    {"profile": "1g.5gb", "start": 3, "slices": 1},
                    {"profile": "1g.5gb", "start": 2, "slices": 1},
                ],
                "free": [0, 1],
            }
        ],
        "layout": {"3g.20gb": 1, "1g.5gb": 2},
        "left": {},
    }


def test_a_pools_layout_is_there_where_every_gpu_has_the_same() -> None:
    assert mig_layout({"1g.5gb": 56}, "p4d.24xlarge")["layout"] == {"1g.5gb": 7}
    assert mig_layout({"1g.5gb": 55}, "p4d.24xlarge")["layout"] is None


@pytest.mark.parametrize(
    ("wanted", "gpu", "gpus", "message"),
    [
        ({"1g.5gb": 7}, "p5.48xlarge", None, "NVIDIA-H100-80GB-HBM3 has no profile 1g.5gb; it has 1g.10gb"),
        ({"1g.5gb": 1}, "g5.2xlarge", None, "NVIDIA-A10G has no Multi-Instance GPU"),
        ({}, "g5.2xlarge", None, "NVIDIA-A10G has no Multi-Instance GPU"),
        ({"1g.5gb": 0}, "p4d", None, "1g.5gb: 0 is no number of at least 1"),
        ({"1g.5gb": True}, "p4d", None, "1g.5gb: True is no number"),
        ({"1g.5gb": "many"}, "p4d", None, "1g.5gb: 'many' is no number"),
        ({"1g.5gb": 1}, "p4d", 0, "gpus: 0 is no number"),
    ],
)
def test_what_can_never_be_is_an_error(wanted: dict[str, t.Any], gpu: str, gpus: int | None, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        mig_layout(wanted, gpu, gpus)
