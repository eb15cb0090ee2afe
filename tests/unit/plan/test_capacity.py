# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The capacity report: sums, what is unknown, what is found."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.capacity import SUBSETS, Declared, Usage, subsets
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Hardware, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import label_terms
from ansible_collections.gpuops.eks.plugins.module_utils._plan.capacity import Seen, report
from hypothesis import given
from hypothesis import strategies as st

GPU = "nvidia.com/gpu"
CATALOG = {
    "g5.2xlarge": Hardware(gpus=1, model="a10g"),
    "g5.12xlarge": Hardware(gpus=4, model="a10g"),
    "p4d.24xlarge": Hardware(gpus=8, model="a100"),
    "odd": None,
}


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
        ("nvidia.com/mig-1g.5gb.shared", 14, {}, "mig_slice"),
        (GPU, 7, {"nvidia.com/mig.strategy": "single", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"}, "mig_slice"),
        (GPU, 8, {"nvidia.com/mig.strategy": "single", "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB"}, "share"),
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


MIXED = Declared(daemon_set="ns/ds", terms=(), resources={GPU: 0, "nvidia.com/mig-1g.5gb": 2, "nvidia.com/mig-3g.20gb": 1}, mig="mixed")
SINGLE = Declared(daemon_set="ns/ds", terms=(), resources={GPU: 7}, mig="single")
RENAMED = Declared(daemon_set="ns/ds", terms=(), resources={GPU: 0, "nvidia.com/gpu.shared": 10}, strategy="time_slicing")
MPS = Declared(daemon_set="ns/ds", terms=(), resources={GPU: 5}, strategy="mps")
P4D = {"nvidia.com/mig-1g.5gb": 16, "nvidia.com/mig-3g.20gb": 8}


@pytest.mark.parametrize(
    ("seen", "declared", "expected"),
    [
        (node("a", P4D, kind="p4d.24xlarge"), MIXED, []),
        (node("a", {**P4D, GPU: 0}, kind="p4d.24xlarge"), MIXED, []),
        (
            node("a", {**P4D, "nvidia.com/mig-1g.5gb": 14}, kind="p4d.24xlarge"),
            MIXED,
            [
                "sharing_differs: Node a (p4d.24xlarge, 8 GPUs) advertises nvidia.com/mig-1g.5gb 14, nvidia.com/mig-3g.20gb 8; "
                "ns/ds says 2 and 1 for each GPU: nvidia.com/mig-1g.5gb 16, nvidia.com/mig-3g.20gb 8."
            ],
        ),
        (
            node("a", {GPU: 8}, kind="p4d.24xlarge"),
            SINGLE,
            ["sharing_differs: Node a (p4d.24xlarge, 8 GPUs) advertises nvidia.com/gpu 8; ns/ds says 7 for each GPU: nvidia.com/gpu 56."],
        ),
        (
            node("a", {GPU: 56}, kind="p4d.24xlarge"),
            MIXED,
            [
                "sharing_differs: Node a (p4d.24xlarge, 8 GPUs) advertises nvidia.com/mig-1g.5gb 0, nvidia.com/mig-3g.20gb 0, nvidia.com/gpu 56; "
                "ns/ds says 2 and 1 for each GPU: nvidia.com/mig-1g.5gb 16, nvidia.com/mig-3g.20gb 8."
            ],
        ),
        (
            node("a", {"nvidia.com/gpu.shared": 10, GPU: 1}),
            RENAMED,
            [
                "resource_left_over: Node a (g5.2xlarge, 1 GPU) advertises nvidia.com/gpu.shared 10, nvidia.com/gpu 1; "
                "ns/ds says 10 for each GPU: nvidia.com/gpu.shared 10."
            ],
        ),
        (node("a", {"nvidia.com/gpu.shared": 10, GPU: 0}), RENAMED, []),
        (
            node("a", {"nvidia.com/gpu.shared": 9}, capacity={"nvidia.com/gpu.shared": 10}),
            RENAMED,
            ["devices_unhealthy: Node a (g5.2xlarge, 1 GPU) has 1 of 10 nvidia.com/gpu.shared unhealthy."],
        ),
        (
            node(
                "a", {GPU: 1}, kind="p4d.24xlarge", labels={"nvidia.com/mig.config": "all-1g.5gb", "nvidia.com/mig.config.state": "failed"}
            ),
            None,
            [
                "mig_failed: Node a (p4d.24xlarge, 8 GPUs) has not taken the MIG configuration all-1g.5gb: "
                "nvidia.com/mig.config.state is failed."
            ],
        ),
        (
            node("a", {}, kind="p4d.24xlarge", labels={"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-INVALID"}),
            None,
            [
                "mig_failed: Node a (p4d.24xlarge, 8 GPUs) has MIG instances that strategy single cannot advertise: not every GPU is divided, "
                "or not into one profile.",
                "gpu_not_advertised: Node a (p4d.24xlarge, 8 GPUs) advertises no nvidia.com resource.",
            ],
        ),
    ],
)
def test_findings_about_divided_and_renamed_gpus(seen: Node, declared: Declared | None, expected: list[str]) -> None:
    chosen = [] if declared is None else [dataclasses.replace(declared, terms=DECLARED.terms)]
    assert [f"{finding['code']}: {finding['message']}" for finding in made([seen], declared=chosen)["findings"]] == expected


def test_a_node_half_of_whose_gpus_are_divided_has_both_units() -> None:
    """As GPU feature discovery labels it: count 8, replicas 1."""
    labels = {"nvidia.com/gpu.count": "8", "nvidia.com/gpu.replicas": "1", "nvidia.com/mig.strategy": "mixed"}
    found = made([node("a", {"nvidia.com/mig-1g.10gb": 28, GPU: 4}, kind="p5.48xlarge", labels=labels)])
    assert [(item["name"], item["unit"], item["allocatable"]) for item in found["resources"]] == [
        (GPU, "gpu", 4),
        ("nvidia.com/mig-1g.10gb", "mig_slice", 28),
    ]
    assert (found["nodes"][0]["replicas"], found["findings"]) == (1, [])


def test_divided_nodes_have_the_replicas_of_their_configuration() -> None:
    single, mixed = (dataclasses.replace(one, terms=DECLARED.terms) for one in (SINGLE, MIXED))
    nodes = made([node("a", {GPU: 56}, kind="p4d.24xlarge")], declared=[single])["nodes"]
    assert (nodes[0]["replicas"], nodes[0]["resources"][0]["unit"]) == (7, "mig_slice")
    assert made([node("a", P4D, kind="p4d.24xlarge")], declared=[mixed])["nodes"][0]["replicas"] is None


def test_pods_with_a_resource_that_has_gone_are_found() -> None:
    renamed = dataclasses.replace(RENAMED, terms=DECLARED.terms)
    usage = Usage(requested={"a": {GPU: 2, "nvidia.com/gpu.shared": 1}})
    [finding] = made([node("a", {GPU: 0, "nvidia.com/gpu.shared": 10})], usage, [renamed])["findings"]
    assert finding["code"] == "resource_left_over"
    assert finding["message"] == "Node a (g5.2xlarge, 1 GPU) has pods with nvidia.com/gpu 2, which it no longer advertises."


@pytest.mark.parametrize(("declared", "codes"), [(MPS, ["mps_shm_hidden"]), (dataclasses.replace(MPS, strategy="time_slicing"), [])])
def test_pods_that_hide_the_memory_of_the_mps_daemon_are_found(declared: Declared, codes: list[str]) -> None:
    usage = Usage()
    shm = {"name": "shm", "emptyDir": {"medium": "Memory"}}
    holder = {"resources": {"limits": {GPU: "1"}}}
    for name in ("d", "b", "c", "a"):
        one = pod(
            "Running", nodeName="a", volumes=[shm], containers=[{**holder, "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm/"}]}]
        )
        one["metadata"]["name"] = name
        usage.add([one])
    usage.add([pod("Running", nodeName="a", containers=[{**holder, "volumeMounts": [{"name": "x", "mountPath": "/dev/shmx"}]}])])
    findings = made([node("a", {GPU: 5})], usage, [dataclasses.replace(declared, terms=DECLARED.terms)])["findings"]
    assert [finding["code"] for finding in findings] == codes
    assert all(finding["message"].startswith("n/a, n/b, n/c and 1 more on node a: a volume at /dev/shm hides") for finding in findings)


WAITING: dict[str, t.Any] = {"metadata": {"name": "w", "namespace": "n"}, "status": {"phase": "Pending"}}


@pytest.mark.parametrize(
    ("name", "declared", "message"),
    [
        (GPU, [], ["2 pods wait for nvidia.com/gpu, which no node advertises; nodes advertise nvidia.com/gpu.shared."]),
        ("nvidia.com/gpu.shared", [], []),
        (GPU, [dataclasses.replace(DECLARED, terms=label_terms({"gpuops.eks/nodepool": "empty"}))], []),
    ],
)
def test_pods_that_wait_for_what_nothing_has_are_found(name: str, declared: list[Declared], message: list[str]) -> None:
    usage = Usage()
    usage.add([{**WAITING, "spec": {"containers": [{"resources": {"limits": {name: "1"}}}]}}] * 2)
    findings = made([node("a", {GPU: 0, "nvidia.com/gpu.shared": 10})], usage, declared)["findings"]
    assert [finding["message"] for finding in findings] == message
    assert all((finding["code"], finding["subject"]) == ("resource_unknown", "Pod/n/w") for finding in findings)


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


@pytest.mark.parametrize(("counts", "cordon"), [({GPU: 9}, True), ({GPU: 0}, False)])
def test_the_other_shares_of_a_gpu_that_failed_are_kept_from_pods(counts: dict[str, int], cordon: bool) -> None:
    [finding] = made([node("a", counts, capacity={GPU: 10 if cordon else 1})])["findings"]
    assert finding["fix"].startswith("Cordon the node, because the other shares") is cordon


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
