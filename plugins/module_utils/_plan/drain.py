# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that a drain consists of, whatever a node is drained for. Pure.

Source: Kubernetes documentation, Safely Drain a Node; API-initiated Eviction.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import NODE, Object, name_of, namespace_of, target_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step

CORDON_ANNOTATION = "gpuops.eks/cordoned"

_FIELDS = (f"metadata.annotations[{CORDON_ANNOTATION}]", "spec.unschedulable")
_NAMED = 5


def cordon(node: Node, why: str) -> Step:
    """Mark the node as ours to uncordon and keep new pods off it."""
    return _patch(node, f"drained: {why}", {"annotations": {CORDON_ANNOTATION: why}}, {"spec": {"unschedulable": True}})


def uncordon(node: Node, reason: str) -> Step:
    """Give back what ``cordon`` has set: an object without these fields, applied by the same field manager.

    Where somebody else has cordoned the node too, it stays cordoned. Source: Kubernetes documentation, Server-Side Apply.
    """
    return _patch(node, reason, {}, {})


def _patch(node: Node, reason: str, metadata: t.Mapping[str, t.Any], rest: t.Mapping[str, t.Any]) -> Step:
    """With its uid: otherwise an apply would make a node that has gone meanwhile."""
    request = {"apiVersion": NODE.api_version, "kind": NODE.kind, "metadata": {"name": node.name, "uid": node.uid, **metadata}, **rest}
    return Step(
        action=f"kubernetes:patch {NODE.resource}", target=node.name, effect="update", fields=_FIELDS, reason=reason, request=request
    )


def eviction(pod: Object, node: str, why: str) -> Step:
    """Ask a pod to leave its node."""
    request: dict[str, t.Any] = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name_of(pod), "namespace": namespace_of(pod)},
        "deleteOptions": {"preconditions": {"uid": pod["metadata"].get("uid")}},
    }
    return Step(
        action="kubernetes:create pods/eviction", target=target_of(pod), effect="delete", reason=f"node {node}: {why}", request=request
    )


def stuck(pod: Object, node: str, why: str) -> str:
    """Why a node cannot be drained of a pod without a controller."""
    return (
        f"Node {node} cannot be drained ({why}): pod {target_of(pod)} has no controller, nobody would make it again. "
        "As kubectl drain does without --force, this is left to you: delete the pod, or run it by a Deployment or Job."
    )


def some(pods: t.Iterable[Object]) -> str:
    """The names of pods, of many only the first ones."""
    names = sorted(map(target_of, pods))
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
