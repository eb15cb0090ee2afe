# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes have to be drained for another way of sharing, and by which calls."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._plan import transition
from ansible_collections.gpuops.eks.plugins.module_utils._plan.transition import Seen, batches, may_need_drain, moves, refusal

GPU, RENAMED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
Shares = dict[str, t.Any]


def shares(strategy: str = "none", replicas: int = 1, mig: Shares | None = None, resources: dict[str, int] | None = None) -> Shares:
    return {"strategy": strategy, "replicas": replicas, "resources": resources or {GPU: replicas}, "mig": mig}


def sliced(replicas: int) -> Shares:
    return shares("time_slicing", replicas)


def mps(replicas: int) -> Shares:
    return shares("mps", replicas)


NONE = shares()
MIXED = shares(mig={"strategy": "mixed", "layout": {"1g.5gb": 7}}, resources={"nvidia.com/mig-1g.5gb": 7, GPU: 0})
SINGLE = shares(mig={"strategy": "single", "layout": {"1g.5gb": 7}}, resources={GPU: 7})
SHARED_NAME = shares("time_slicing", 4, resources={GPU: 0, RENAMED: 4})


def seen(present: Shares | None, wanted: Shares, *, name: str = "n", **more: t.Any) -> Seen:
    node = Node(name=name, uid=f"uid-{name}", annotations=more.pop("annotations", {}))
    return Seen(node=node, configuration="c", present=present, wanted=wanted, **{"gpus": 1, **more})


def pod(name: str = "p", *, count: int = 1, resource: str = GPU, owner: str | None = "ReplicaSet", **more: t.Any) -> dict[str, t.Any]:
    owners = [{"kind": owner, "name": "o", "controller": True}] if owner else []
    metadata = {"name": name, "namespace": "apps", "uid": f"uid-{name}", "ownerReferences": owners, **more.pop("metadata", {})}
    limits = {resource: str(count)} if count else {}
    return {"metadata": metadata, "spec": {"containers": [{"resources": {"limits": limits}}]}, **more}


@pytest.mark.parametrize(
    ("present", "wanted", "held", "why"),
    [
        # Into and out of MPS, and its replicas: always.
        (NONE, mps(5), 0, "into MPS"),
        (sliced(10), mps(10), 0, "into MPS"),
        (mps(5), NONE, 0, "out of MPS"),
        (mps(5), sliced(5), 0, "out of MPS"),
        (mps(5), mps(4), 0, "MPS replicas 5 to 4"),
        (mps(5), mps(6), 0, "MPS replicas 5 to 6"),
        (mps(5), mps(5), 5, ""),
        # MIG: always.
        (NONE, MIXED, 0, "MIG off to mixed (1g.5gb x 7)"),
        (SINGLE, MIXED, 0, "MIG single (1g.5gb x 7) to mixed (1g.5gb x 7)"),
        (MIXED, NONE, 0, "MIG mixed (1g.5gb x 7) to off"),
        # Fewer shares: where pods hold more.
        (sliced(10), sliced(4), 4, ""),
        (sliced(10), sliced(4), 5, f"its pods hold 5 {GPU}, of which it will have 4"),
        (sliced(10), NONE, 1, ""),
        (sliced(10), NONE, 2, f"its pods hold 2 {GPU}, of which it will have 1"),
        # Another name: where pods hold the old one.
        (sliced(4), SHARED_NAME, 0, ""),
        (sliced(4), SHARED_NAME, 1, f"its pods hold 1 {GPU}, of which it will have 0"),
        # More shares, and shares where there were none: never.
        (sliced(4), sliced(10), 4, ""),
        (NONE, sliced(10), 1, ""),
        # Nothing runs there yet.
        (None, mps(5), 0, ""),
        (None, sliced(5), 5, ""),
        (None, MIXED, 5, ""),
        # Nothing of ours runs there, and pods were given GPUs by another plugin: MPS would start under them.
        (None, mps(5), 5, "into MPS"),
    ],
)
def test_what_needs_a_drain(present: Shares | None, wanted: Shares, held: int, why: str) -> None:
    node = seen(present, wanted)
    found = moves([node], {"n": [pod(f"p{index}") for index in range(held)]})
    assert [move.why for move in found] == ([why] if why else [])
    assert may_need_drain(node) or not why


def test_of_two_gpus_twice_as_many_shares_are_enough() -> None:
    pods = {"n": [pod(f"p{index}") for index in range(8)]}
    assert moves([seen(sliced(10), sliced(4), gpus=2)], pods) == []


def test_of_an_unknown_number_of_gpus_only_a_name_that_goes_is_known() -> None:
    pods = {"n": [pod(f"p{index}") for index in range(9)]}
    assert moves([seen(sliced(10), sliced(4), gpus=None)], pods) == []
    assert moves([seen(sliced(4), SHARED_NAME, gpus=None)], pods)


@pytest.mark.parametrize(
    ("present", "wanted", "why"),
    [(mps(5), mps(5), "the MPS control daemon restarts"), (None, NONE, "out of MPS"), (NONE, NONE, "out of MPS"), (None, mps(5), "")],
)
def test_a_control_daemon_that_restarts_or_goes_takes_its_clients_server(present: Shares | None, wanted: Shares, why: str) -> None:
    node = seen(present, wanted, daemons=(pod("nvidia-mps-c-1"),))
    assert [move.why for move in moves([node], {})] == ([why] if why else [])
    assert may_need_drain(node) or not why


@pytest.mark.parametrize(
    ("other", "evicted"),
    [
        (pod(), ["p"]),
        (pod(count=0), []),
        (pod(resource="amd.com/gpu"), []),
        (pod(status={"phase": "Running"}), ["p"]),
        (pod(status={"phase": "Succeeded"}), []),
        (pod(status={"phase": "Failed"}), []),
        (pod(owner="DaemonSet"), []),
        (pod(owner="StatefulSet"), ["p"]),
        (pod(metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}), []),
        (pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), []),
    ],
)
def test_which_pods_are_evicted(other: dict[str, t.Any], evicted: list[str]) -> None:
    (move,) = moves([seen(NONE, mps(5))], {"n": [other]})
    assert [one["metadata"]["name"] for one in move.evicted] == evicted


def test_a_daemon_sets_pod_on_a_gpu_is_named() -> None:
    found = moves([seen(NONE, mps(5))], {"n": [pod("exporter", owner="DaemonSet")]})
    assert transition.stays(found) == [
        "Node n (into MPS): apps/exporter of a DaemonSet holds GPUs and is not evicted; restart it afterwards."
    ]
    assert refusal(found, drain=False) == ""


def test_without_consent_nodes_and_pods_are_named_with_what_to_set() -> None:
    pods = {"a": [pod("one"), pod("two")], "b": []}
    found = moves([seen(NONE, mps(5), name="a"), seen(NONE, mps(5), name="b")], pods)
    assert refusal(found, drain=False) == (
        "1 node has to be drained before GPUs are shared in another way:\n"
        "a: into MPS; holding its GPUs: apps/one, apps/two\n"
        "Set drain: true to have these pods evicted, node by node (max_unavailable at once), or move them yourself and run again; "
        "check mode shows every step."
    )
    assert refusal(found, drain=True) == ""


@pytest.mark.parametrize(
    ("present", "wanted", "says"), [(NONE, MIXED, True), (MIXED, NONE, True), (SINGLE, MIXED, False), (NONE, mps(5), False)]
)
def test_a_drain_is_not_said_to_cut_gpus(present: Shares, wanted: Shares, says: bool) -> None:
    text = refusal(moves([seen(present, wanted)], {"n": [pod(resource=next(iter(present["resources"])))]}), drain=False)
    cut = "It does not cut GPUs: of n replace first those that have joined before their pool's MIG layout was changed."
    assert text.endswith(cut) is says
    assert "Set drain: true" in text


def test_nodes_without_pods_on_their_gpus_need_no_consent() -> None:
    assert refusal(moves([seen(NONE, mps(5))], {}), drain=False) == ""


@pytest.mark.parametrize("drain", [True, False])
def test_a_pod_that_nobody_would_make_again_is_left_to_the_user(drain: bool) -> None:
    found = moves([seen(NONE, mps(5))], {"n": [pod("bare", owner=None)]})
    text = refusal(found, drain=drain)
    assert text.startswith("Node n cannot be drained (into MPS): pod apps/bare has no controller, nobody would make it again.")
    assert "kubectl drain does without --force" in text


def test_nodes_of_an_interrupted_run_come_first_and_as_many_as_may_be_unavailable() -> None:
    begun = seen(NONE, mps(5), name="z", annotations={"gpuops.eks/cordoned": "into MPS"})
    found = moves([seen(NONE, mps(5), name="b"), seen(NONE, mps(5), name="a"), begun], {})
    assert [[move.node.name for move in batch] for batch in batches(found, 2)] == [["z", "a"], ["b"]]


def test_a_node_that_was_cordoned_and_left_by_its_pods_is_still_gone_on_with() -> None:
    """Nobody holds more than it will have any more, only the cordon says that its plugin waits for its restart."""
    why, stale = f"its pods hold 5 {GPU}, of which it will have 4", (pod("old", owner="DaemonSet"),)
    left = seen(sliced(10), sliced(4), plugins=stale, annotations={"gpuops.eks/cordoned": why})
    nameless = seen(sliced(4), SHARED_NAME, plugins=stale, annotations={"gpuops.eks/cordoned": ""}, name="m")
    assert [move.why for move in moves([left, nameless], {})] == ["an interrupted run", why]
    assert may_need_drain(left)
    assert refusal(moves([left], {}), drain=False) == ""
    restarted = seen(sliced(4), sliced(4), annotations={"gpuops.eks/cordoned": why})
    untouched = seen(sliced(10), sliced(4), plugins=stale)
    assert moves([restarted, untouched], {}) == []
    assert not may_need_drain(restarted)


def test_the_calls_for_a_node() -> None:
    daemons, plugins = (pod("nvidia-mps-c-1", owner=None),), (pod("nvidia-device-plugin-c-1", owner="DaemonSet"),)
    (move,) = moves([seen(mps(5), NONE, daemons=daemons, plugins=plugins)], {"n": [pod()]})
    steps = transition.batch_plan([move]).steps
    assert [(step.action, step.target, step.effect) for step in steps] == [
        ("kubernetes:patch nodes", "n", "update"),
        ("kubernetes:create pods/eviction", "apps/p", "delete"),
        ("kubernetes:delete pods", "apps/nvidia-mps-c-1", "delete"),
        ("kubernetes:delete pods", "apps/nvidia-device-plugin-c-1", "replace"),
        ("kubernetes:patch nodes", "n", "update"),
    ]
    assert steps[0].request == {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "uid": "uid-n", "annotations": {"gpuops.eks/cordoned": "out of MPS"}},
        "spec": {"unschedulable": True},
    }
    assert steps[1].request["deleteOptions"] == {"preconditions": {"uid": "uid-p"}}
    assert steps[2].request["metadata"] == {"name": "nvidia-mps-c-1", "namespace": "apps", "uid": "uid-nvidia-mps-c-1"}
    assert steps[4].request == {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "uid-n"}}


def test_a_node_that_is_cordoned_already_is_not_cordoned_again() -> None:
    (move,) = moves([seen(NONE, mps(5), annotations={"gpuops.eks/cordoned": "into MPS"})], {})
    assert transition.cordon(move).steps == ()
