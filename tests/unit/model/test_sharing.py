# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharing: names and numbers that follow from it, and what is refused."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import (
    GpuResources,
    Mig,
    Sharing,
    configuration_name,
    read_resources,
    sharing_faults,
)


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


def sliced(replicas: int, *, rename: bool = False) -> Sharing:
    return Sharing(strategy="time_slicing", replicas=replicas, rename=rename)


SEVEN = {"1g.5gb": 7}
BALANCED = {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}
WHOLE, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"


@pytest.mark.parametrize(
    ("gpus", "sharing", "mig", "advertised"),
    [
        (1, Sharing(), None, {WHOLE: 1}),
        (1, sliced(10), None, {WHOLE: 10}),
        (4, sliced(4), None, {WHOLE: 16}),
        (8, sliced(10, rename=True), None, {WHOLE: 0, SHARED: 80}),
        (1, Sharing(strategy="mps", replicas=10), None, {WHOLE: 10}),
        (1, Sharing(strategy="mps", replicas=10, rename=True), None, {WHOLE: 0, SHARED: 10}),
        (8, Sharing(), Mig(strategy="single", layout=SEVEN), {WHOLE: 56}),
        (8, sliced(2), Mig(strategy="single", layout=SEVEN), {WHOLE: 112}),
        (8, sliced(2, rename=True), Mig(strategy="single", layout=SEVEN), {WHOLE: 0, SHARED: 112}),
        (8, Sharing(), Mig(layout=SEVEN), {WHOLE: 0, "nvidia.com/mig-1g.5gb": 56}),
        (
            8,
            Sharing(),
            Mig(layout=BALANCED),
            {WHOLE: 0, "nvidia.com/mig-1g.5gb": 16, "nvidia.com/mig-2g.10gb": 8, "nvidia.com/mig-3g.20gb": 8},
        ),
        (8, sliced(2), Mig(layout=SEVEN), {WHOLE: 0, "nvidia.com/mig-1g.5gb": 112}),
        (8, sliced(2, rename=True), Mig(layout=SEVEN), {WHOLE: 0, "nvidia.com/mig-1g.5gb.shared": 112}),
        (1, Sharing(), Mig(strategy="single", layout={"1g.24gb": 4}), {WHOLE: 4}),
        (1, Sharing(), Mig(layout={"1g.5gb+me": 1}, suffixes=True), {WHOLE: 0, "nvidia.com/mig-1g.5gb.me": 1}),
    ],
)
def test_what_nodes_advertise(gpus: int, sharing: Sharing, mig: Mig | None, advertised: dict[str, int]) -> None:
    found = GpuResources(sharing=sharing, mig=mig)
    assert found.advertised(gpus) == advertised
    assert found.divided is (sharing.replicas > 1 or mig is not None)
    assert found.per_gpu() == (advertised[WHOLE] // gpus or None)


@pytest.mark.parametrize(
    ("pool", "name"),
    [("gpu", "gpu"), ("a" * 40, "a" * 40), ("a" * 41, "a" * 31 + "-c0f8bd4d"), ("a" * 30 + "-" * 5 + "b" * 20, "a" * 30 + "-894fb26a")],
)
def test_a_configuration_has_the_name_of_its_pool_as_far_as_it_fits(pool: str, name: str) -> None:
    assert len(configuration_name(pool)) <= 40
    assert configuration_name(pool) == name
    assert configuration_name(f"{pool}x") != name


@pytest.mark.parametrize(
    ("annotations", "resources"),
    [
        ({"gpuops.eks/resources": '{"nvidia.com/gpu": 10}'}, {"nvidia.com/gpu": 10}),
        ({"gpuops.eks/resources": "ten"}, None),
        ({"gpuops.eks/resources": "10"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_what_a_daemon_set_says_that_its_nodes_advertise(annotations: t.Any, resources: dict[str, int] | None) -> None:
    assert read_resources({"metadata": {"name": "x", "annotations": annotations}}) == resources
