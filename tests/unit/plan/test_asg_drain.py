# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes of Auto Scaling groups that go are drained, of which pods, and by which calls."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup, Instance
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg import Observed, plan_closing, plan_removal
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_drain import Leaving, cordoned, drained, held, members, refusal
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
UPDATE, DELETE = "autoscaling:UpdateAutoScalingGroup", "autoscaling:DeleteAutoScalingGroup"
Pod = dict[str, t.Any]


def pod(name: str = "p", *, owner: str | None = "ReplicaSet", phase: str = "Running", controller: bool = True, **metadata: t.Any) -> Pod:
    owners = [{"kind": owner, "name": "o", "controller": controller}] if owner else []
    return {
        "metadata": {"name": name, "namespace": "apps", "uid": f"uid-{name}", "ownerReferences": owners, **metadata},
        "status": {"phase": phase},
    }


def leaving(name: str, *pods: Pod, group: str = "g", **more: t.Any) -> Leaving:
    return Leaving.of(Node(name=name, uid=f"uid-{name}", **more), group, pods)


def group(
    name: str = "g", lowest: int = 1, most: int = 3, desired: int = 2, *, status: str | None = None, **more: t.Any
) -> AutoScalingGroup:
    tags = {**OWNER.tags("nodepool"), "gpuops.eks/nodepool": "gpu"}
    instances = tuple(Instance(id=f"i-{name}{number}") for number in range(desired))
    made = AutoScalingGroup(name=name, min=lowest, max=most, desired=desired, tags=tags, instances=instances, status=status)
    return dataclasses.replace(made, **more)


def calls(steps: t.Iterable[Step]) -> list[tuple[str, str]]:
    return [(step.action, step.target) for step in steps]


@pytest.mark.parametrize(
    ("one", "leaves", "asked"),
    [
        (pod(), True, True),
        (pod(owner=None), True, True),
        (pod(phase="Pending"), True, True),
        (pod(owner="StatefulSet"), True, True),
        (pod(owner="DaemonSet"), False, False),
        (pod(owner="DaemonSet", controller=False), True, True),
        (pod(phase="Succeeded"), False, False),
        (pod(phase="Failed"), False, False),
        (pod(owner="Node", annotations={"kubernetes.io/config.mirror": "x"}), False, False),
        (pod(deletionTimestamp="2026-11-01T00:00:00Z"), True, False),
    ],
)
def test_pods_that_leave(one: Pod, leaves: bool, asked: bool) -> None:
    node = leaving("n", one)
    assert (list(node.pods), node.evicted) == ([one] if leaves else [], [one] if asked else [])


@pytest.mark.parametrize(
    ("one", "asked"),
    [
        (pod(), False),
        (pod(owner=None), True),
        (pod(controller=False), True),
        (pod(owner=None, deletionTimestamp="2026-11-01T00:00:00Z"), False),
        (pod(owner=None, phase="Succeeded"), False),
    ],
)
def test_pods_that_nobody_would_make_again_are_refused(one: Pod, asked: bool) -> None:
    assert ("Node n cannot be drained (Auto Scaling group g is removed): pod apps/p has" in refusal([leaving("n", one)])) is asked


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (group(desired=2), {"i-g0": "g", "i-g1": "g"}),
        (group(lowest=0, desired=0, instances=(Instance(id="i-ending"),)), {}),
        (group(status="Delete in progress"), {}),
    ],
)
def test_instances_whose_nodes_are_drained(there: AutoScalingGroup, found: dict[str, str]) -> None:
    assert members([there]) == found


@pytest.mark.parametrize(
    ("there", "most"), [(group(most=3, desired=2), 2), (group(most=2, desired=2), None), (group(lowest=0, most=3, desired=0), 0)]
)
def test_a_group_gets_no_more_instances(there: AutoScalingGroup, most: int | None) -> None:
    requests = [step.request for step in held(there)]
    assert requests == ([] if most is None else [{"AutoScalingGroupName": "g", "MaxSize": most}])


@pytest.mark.parametrize(("more", "found"), [({}, ["n"]), ({"schedulable": False}, [])])
def test_a_node_is_cordoned_once(more: dict[str, t.Any], found: list[str]) -> None:
    assert [step.target for step in cordoned([leaving("n", **more)])] == found


def test_only_a_kubelet_that_answers_says_that_pods_have_left() -> None:
    nodes = [leaving("there", pod()), leaving("silent", pod(), ready=False)]
    assert drained(nodes) == [Wait(waiter="kubernetes:drained", arguments={"node": "there"})]


def observed(*groups: AutoScalingGroup, **nodes: Leaving) -> Observed:
    found: dict[str, tuple[Leaving, ...]] = {}
    for one in nodes.values():
        found[one.group] = (*found.get(one.group, ()), one)
    return Observed(groups={one.name: one for one in groups}, leaving=found)


def planned(there: Observed) -> tuple[list[Step], list[Step]]:
    """(before any removal, the removal)"""
    closing = plan_closing(lambda pool: pool == "gpu", there, OWNER)
    return list(closing.steps), list(plan_removal(lambda pool: pool == "gpu", there, OWNER).steps)


def test_all_groups_are_held_and_all_nodes_cordoned_before_the_first_pod_is_asked_to_leave() -> None:
    """Else the pods of one would go to another that is to go as well; one without nodes is emptied at once."""
    there = observed(
        group("a"),
        group("b", desired=1),
        group("empty", lowest=0, desired=0),
        group("going", status="Delete in progress"),
        n1=leaving("n1", pod("p1"), group="a"),
        n2=leaving("n2", group="a"),
        n3=leaving("n3", pod("p3"), pod("p2"), group="b"),
    )
    closing, removal = planned(there)
    cordon, evict = "kubernetes:patch nodes", "kubernetes:create pods/eviction"
    held_ = [(UPDATE, "a"), (UPDATE, "b"), (UPDATE, "empty")]
    assert calls(closing) == [*held_, (cordon, "n1"), (cordon, "n2"), (cordon, "n3")]
    evicted = [(evict, "apps/p1"), (evict, "apps/p2"), (evict, "apps/p3")]
    assert calls(removal) == [*evicted, (UPDATE, "a"), (UPDATE, "b"), (DELETE, "a"), (DELETE, "b"), (DELETE, "empty")]
    waits = [[wait.arguments["node"] for wait in step.needs if wait.waiter == "kubernetes:drained"] for step in removal]
    assert waits == [[], [], [], ["n1", "n2"], ["n3"], [], [], []]
    assert {step.effect for step in (*closing, *removal) if step.action.startswith("autoscaling:")} == {"delete"}


def test_without_nodes_groups_go_as_they_are() -> None:
    closing, removal = planned(observed(group("a"), group("empty", lowest=0, desired=0)))
    assert (closing, calls(removal)) == ([], [(UPDATE, "a"), (UPDATE, "empty"), (DELETE, "a"), (DELETE, "empty")])
    assert {wait.waiter for step in removal for wait in step.needs} == {"auto_scaling_group_empty"}
