# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The capacity report: sums, what is unknown, what is found."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.capacity import SUBSETS, Declared, Usage, subsets
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Hardware, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import label_terms
from ansible_collections.gpuops.eks.plugins.module_utils._plan.capacity import Seen, report
from hypothesis import given
from hypothesis import strategies as st

GPU = "nvidia.com/gpu"
CATALOG = {"g5.2xlarge": Hardware(gpus=1, model="a10g"), "g5.12xlarge": Hardware(gpus=4, model="a10g"), "odd": None}


def node(name: str, allocatable: dict[str, int], *, kind: str = "g5.2xlarge", pool: str = "p", **more: t.Any) -> Node:
    labels = {"node.kubernetes.io/instance-type": kind, "gpuops.eks/nodepool": pool, **more.pop("labels", {})}
    return Node(name=name, labels=labels, allocatable=allocatable, capacity=more.pop("capacity", allocatable), **more)


def made(nodes: t.Sequence[Node], usage: Usage | None = None, declared: t.Sequence[Declared] = ()) -> dict[str, t.Any]:
    seen = Seen(cluster={}, at="now", nodes=nodes, catalog=CATALOG, usage=usage or Usage(), declared=declared)
    return report(seen, SUBSETS)


@pytest.mark.parametrize(
    ("asked", "gathered"),
    [
        (["all"], set(SUBSETS) - {"nodes"}),
        (["all", "nodes"], set(SUBSETS)),
        (["nodes"], {"nodes"}),
        ([], set()),
    ],
)
def test_subsets(asked: list[str], gathered: set[str]) -> None:
    assert subsets(asked) == gathered


@pytest.mark.parametrize(
    ("name", "allocatable", "labels", "unit"),
    [
        (GPU, 1, {}, "gpu"),
        (GPU, 10, {}, "share"),
        (GPU, 1, {"nvidia.com/gpu.replicas": "10"}, "share"),
        (GPU, 1, {"nvidia.com/gpu.replicas": "0"}, "gpu"),
        ("nvidia.com/gpu.shared", 1, {}, "share"),
        ("nvidia.com/mig-1g.5gb", 7, {}, "mig_slice"),
    ],
)
def test_units(name: str, allocatable: int, labels: dict[str, str], unit: str) -> None:
    assert [item["unit"] for item in made([node("n", {name: allocatable}, labels=labels)])["resources"]] == [unit]


def test_free_is_none_on_nodes_that_take_no_pods() -> None:
    usage = Usage(requested={"a": {GPU: 3}, "b": {GPU: 3}})
    nodes = [node("a", {GPU: 10}), node("b", {GPU: 10}, schedulable=False), node("c", {GPU: 10}, ready=False)]
    (resource,) = made(nodes, usage)["resources"]
    assert (resource["allocatable"], resource["requested"], resource["free"]) == (30, 6, 7)


def test_more_requested_than_there_is_leaves_nothing_free() -> None:
    (resource,) = made([node("a", {GPU: 4}, kind="g5.12xlarge")], Usage(requested={"a": {GPU: 10}}))["resources"]
    assert (resource["requested"], resource["free"]) == (10, 0)


def test_one_unknown_count_makes_the_sum_unknown_and_not_smaller() -> None:
    found = made([node("a", {GPU: 1}), node("b", {GPU: 1}, kind="odd", pool="q")])
    assert found["totals"]["gpus"] is None
    assert [(pool["name"], pool["gpus"]) for pool in found["pools"]] == [("p", 1), ("q", None)]


def test_a_resource_that_is_zero_is_not_there() -> None:
    (resource,) = made([node("a", {GPU: 0, "nvidia.com/gpu.shared": 10})])["resources"]
    assert resource["name"] == "nvidia.com/gpu.shared"


DECLARED = Declared(daemon_set="ns/ds", terms=label_terms({"gpuops.eks/nodepool": "p"}), resources={GPU: 10})


@pytest.mark.parametrize(
    ("seen", "declared", "codes"),
    [
        (node("a", {GPU: 10}), [DECLARED], []),
        (node("a", {GPU: 1}), [DECLARED], ["sharing_differs"]),
        (node("a", {GPU: 1}), [], []),
        (node("a", {}), [DECLARED], ["gpu_not_advertised"]),
        (node("a", {GPU: 0}), [], ["gpu_not_advertised"]),
        (node("a", {GPU: 8}, capacity={GPU: 10}), [DECLARED], ["devices_unhealthy"]),
        (node("a", {GPU: 0}, capacity={GPU: 10}), [DECLARED], ["devices_unhealthy"]),
        (node("a", {GPU: 4}, kind="odd"), [DECLARED], []),
        (node("a", {GPU: 1}, pool="other"), [DECLARED], []),
    ],
)
def test_findings(seen: Node, declared: list[Declared], codes: list[str]) -> None:
    findings = made([seen], declared=declared)["findings"]
    assert [finding["code"] for finding in findings] == codes
    assert all(finding["subject"] == "node/a" and finding["message"] and finding["fix"] for finding in findings)


def pod(phase: str, **spec: t.Any) -> dict[str, t.Any]:
    asks = {"containers": [{"resources": {"requests": {GPU: "1"}}}]}
    return {"metadata": {"name": "p", "namespace": "n"}, "spec": {**asks, **spec}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("one", "taken", "waiting"),
    [
        (pod("Running", nodeName="a"), 1, 0),
        (pod("Pending", nodeName="a"), 1, 0),
        (pod("Succeeded", nodeName="a"), 0, 0),
        (pod("Failed", nodeName="a"), 0, 0),
        (pod("Pending"), 0, 1),
        (pod("Pending", schedulingGates=[{"name": "kueue"}]), 0, 0),
        (pod("Running", nodeName="a", containers=[{}]), 0, 0),
    ],
)
def test_which_pods_count(one: dict[str, t.Any], taken: int, waiting: int) -> None:
    usage = Usage()
    usage.add([one])
    assert (usage.requested.get("a", {}).get(GPU, 0), sum(usage.pending.values())) == (taken, waiting)


NODES = st.lists(
    st.builds(
        node,
        st.uuids().map(str),
        st.dictionaries(st.sampled_from([GPU, "nvidia.com/gpu.shared"]), st.integers(1, 40), min_size=1),
        kind=st.sampled_from(["g5.2xlarge", "g5.12xlarge"]),
        pool=st.sampled_from(["p", "q", "r"]),
    ),
    max_size=8,
)


@given(nodes=NODES, data=st.data())
def test_pools_groups_and_nodes_each_add_up_to_the_whole(nodes: list[Node], data: st.DataObject) -> None:
    usage = Usage(requested={item.name: {GPU: data.draw(st.integers(0, 50))} for item in nodes})
    found = made(nodes, usage)

    def added(parts: list[dict[str, t.Any]], number: str) -> int:
        return sum(resource[number] for part in parts for resource in part["resources"])

    for number in ("capacity", "allocatable", "requested", "free"):
        whole = added([found], number)
        assert {added(found[part], number) for part in ("pools", "groups", "nodes")} == {whole}
    assert found["totals"]["gpus"] == sum(pool["gpus"] for pool in found["pools"]) == sum(group["gpus"] for group in found["groups"])
    assert all(0 <= resource["free"] <= resource["allocatable"] for resource in found["resources"])
