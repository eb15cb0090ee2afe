# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Nodes of Auto Scaling groups that go: drained first, since Auto Scaling ends instances without a word to Kubernetes. Pure.

A run that was interrupted is taken up by what is there: a group is held, a node is cordoned and a pod evicted once.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import Object, controller_of, has_to_leave, is_deleting
from ansible_collections.gpuops.eks.plugins.module_utils._plan import drain
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_create import subject
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """A node that goes with its group, and the pods that have to leave it before."""

    node: Node
    group: str
    pods: tuple[Object, ...] = ()

    @classmethod
    def of(cls, node: Node, group: str, pods: t.Iterable[Object]) -> Leaving:
        """With those of the node's pods that have to leave it, in the order of their names."""
        leaving = [pod for pod in pods if has_to_leave(pod)]
        return cls(node=node, group=group, pods=tuple(sorted(leaving, key=_place)))

    @property
    def why(self) -> str:
        return f"Auto Scaling group {self.group} is removed"

    @property
    def evicted(self) -> list[Object]:
        """The pods that are asked to leave; the others are on their way."""
        return [pod for pod in self.pods if not is_deleting(pod)]


def _place(pod: Object) -> tuple[str, str]:
    return str(pod["metadata"].get("namespace")), str(pod["metadata"]["name"])


def members(groups: t.Iterable[AutoScalingGroup]) -> dict[str, str]:
    """The instances whose nodes have to be drained -> their group. A group that wants no instance any more has been drained, or has no node."""
    there = [group for group in groups if group.desired and not group.deleting]
    return {instance.id: group.name for group in there for instance in group.instances}


def held(there: AutoScalingGroup) -> list[Step]:
    """The group keeps the instances that it has: no autoscaler buys one for the pods that leave its nodes."""
    if as_held(there) == there:
        return []
    reason = "no node of it is bought for pods that leave"
    request = {**subject(there.name), "MaxSize": there.desired}
    action = "autoscaling:UpdateAutoScalingGroup"
    return [Step(action=action, target=there.name, effect="delete", fields=("scaling.max",), reason=reason, request=request)]


def as_held(there: AutoScalingGroup) -> AutoScalingGroup:
    """The group after ``held``."""
    return replace(there, max=min(there.max, there.desired))


def cordoned(nodes: t.Iterable[Leaving]) -> list[Step]:
    """No pod comes to these nodes any more; nothing where somebody has seen to that."""
    return [drain.cordon(one.node, one.why) for one in nodes if one.node.schedulable]


def evicted(nodes: t.Iterable[Leaving]) -> list[Step]:
    """The pods of these nodes are asked to leave."""
    return [drain.eviction(pod, one.node.name, one.why) for one in nodes for pod in one.evicted]


def drained(nodes: t.Iterable[Leaving]) -> list[Wait]:
    """The pods of these nodes have left. Where no kubelet answers, none would say so: what ran there has ended, or ends with the instance."""
    return [Wait(waiter="kubernetes:drained", arguments={"node": one.node.name}) for one in nodes if one.node.ready]


def refusal(nodes: t.Iterable[Leaving]) -> str:
    """Why these nodes cannot be drained, a line for each pod that nobody would make again; empty where nothing is in the way."""
    alone = [(one, pod) for one in nodes for pod in one.evicted if controller_of(pod) is None]
    return "\n".join(drain.stuck(pod, one.node.name, one.why) for one, pod in alone)
