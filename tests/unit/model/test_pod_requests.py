# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's effective request, against a simulation of how its containers start one after another."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_requests import effective_requests
from hypothesis import given
from hypothesis import strategies as st

GPU = "nvidia.com/gpu"


def container(gpus: int, *, sidecar: bool = False, where: str = "requests") -> dict[str, t.Any]:
    return {"resources": {where: {GPU: str(gpus), "cpu": "1"}}, **({"restartPolicy": "Always"} if sidecar else {})}


@pytest.mark.parametrize(
    ("spec", "gpus"),
    [
        ({"containers": [container(1), container(2)]}, 3),
        ({"containers": [container(2, where="limits")]}, 2),
        ({"containers": [container(1)], "initContainers": [container(3)]}, 3),
        ({"containers": [container(2)], "initContainers": [container(1), container(1)]}, 2),
        ({"containers": [container(1)], "initContainers": [container(1, sidecar=True)]}, 2),
        ({"containers": [container(1)], "initContainers": [container(1, sidecar=True), container(4)]}, 5),
        ({"containers": [container(1)], "initContainers": [container(4), container(1, sidecar=True)]}, 4),
        ({"containers": [container(1)], "overhead": {GPU: "1"}}, 2),
        ({"containers": [container(1)], "resources": {"requests": {GPU: "5"}}}, 5),
        ({"containers": [{"resources": {"limits": {GPU: "2"}, "requests": {GPU: "2"}}}]}, 2),
        ({"containers": [{}, {"resources": {}}], "initContainers": None}, 0),
    ],
)
def test_rules(spec: dict[str, t.Any], gpus: int) -> None:
    assert effective_requests(spec, "nvidia.com/") == ({GPU: gpus} if gpus else {})


@given(
    apps=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    inits=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=5),
    overhead=st.integers(0, 3),
)
def test_it_is_the_most_that_ever_runs_at_once(apps: list[int], inits: list[tuple[int, bool]], overhead: int) -> None:
    running, most = 0, 0
    for gpus, sidecar in inits:
        most = max(most, running + gpus)
        running += gpus if sidecar else 0
    most = max(most, running + sum(apps)) + overhead
    spec = {
        "containers": [container(gpus) for gpus in apps],
        "initContainers": [container(gpus, sidecar=sidecar) for gpus, sidecar in inits],
        "overhead": {GPU: str(overhead)},
    }
    assert effective_requests(spec, "nvidia.com/") == ({GPU: most} if most else {})
