# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Nodes that have to be drained before they share their GPUs in another way: which, why, and by which calls. Pure.

What a node does now is read from the plugin's pod that runs there, so that a run that was interrupted goes on where it stopped: a node
whose pods are those of the new configuration is only uncordoned. Sources: NVIDIA k8s-device-plugin, cmd/mps-control-daemon (clients lose
their server, the compute mode changes); NVIDIA MIG User Guide (no process may hold a GPU that is cut in another way).
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import NVIDIA, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    POD,
    Object,
    controller_of,
    is_deleting,
    name_of,
    namespace_of,
    of_daemon_set,
    runs_by_api,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_requests import effective_requests
from ansible_collections.gpuops.eks.plugins.module_utils._plan import drain as drains
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, combine

MPS = "mps"

#: Options of the module that say how nodes come to another way of sharing.
ROLLOUT_OPTIONS: dict[str, dict[str, t.Any]] = {
    "replace": {"type": "bool", "default": False},
    "drain": {"type": "bool", "default": False},
    "max_unavailable": {"type": "int", "default": 1},
}

#: What a node does with its GPUs, as the plugin's pods say by their annotation: strategy, replicas, resources of one GPU, mig.
Shares = t.Mapping[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A node that a configuration selects, and our pods on it. ``present`` is None where no pod says what the node does.

    ``daemons`` are MPS control daemons and ``plugins`` pods of the plugin that have to be made again, or to go.
    """

    node: Node
    configuration: str
    wanted: Shares
    gpus: int | None = None
    present: Shares | None = None
    daemons: tuple[Object, ...] = ()
    plugins: tuple[Object, ...] = ()

    @property
    def cordoned(self) -> bool:
        """Whether a run of ours has cordoned it and has not come to its end."""
        return drains.CORDON_ANNOTATION in self.node.annotations

    @property
    def begun(self) -> bool:
        """Whether it is cordoned by a run that has not come to restart our pods: whoever holds its GPUs, it has to be gone on with."""
        return self.cordoned and bool(self.daemons or self.plugins)


@dataclass(frozen=True, kw_only=True)
class Move:
    """A node that goes from one way of sharing to another: why it has to be drained, and the pods that hold its GPUs."""

    seen: Seen
    reasons: tuple[str, ...]
    holders: tuple[Object, ...] = field(default=())

    @property
    def node(self) -> Node:
        return self.seen.node

    @property
    def why(self) -> str:
        return "; ".join(self.reasons)

    def with_holders(self, pods: t.Iterable[Object]) -> Move:
        """The same with those of these pods that hold GPUs."""
        return replace(self, holders=tuple(pod for pod in pods if holds(pod, self.seen)))

    def leaving(self, pods: t.Iterable[Object]) -> list[Object]:
        """Those of these pods that have to leave and still hold GPUs."""
        uids = {pod["metadata"].get("uid") for pod in self.holders if not of_daemon_set(pod)}
        return [pod for pod in pods if pod["metadata"].get("uid") in uids and holds(pod, self.seen)]

    @property
    def evicted(self) -> list[Object]:
        """The pods that are asked to leave; those of DaemonSets would come straight back."""
        return [pod for pod in self.holders if not of_daemon_set(pod) and not is_deleting(pod)]

    @property
    def stuck(self) -> list[Object]:
        """Those that nobody would make again."""
        return [pod for pod in self.evicted if controller_of(pod) is None]


def rollout_faults(params: t.Mapping[str, t.Any]) -> list[Fault]:
    """What is wrong with these options beyond their types."""
    number = params.get("max_unavailable")
    if not isinstance(number, int) or isinstance(number, bool) or number >= 1:
        return []
    return [
        Fault(path="max_unavailable", value=number, allowed="an integer of at least 1, nodes at once", source="the collection's options")
    ]


def may_need_drain(seen: Seen) -> bool:
    """Whether the node's pods have to be looked at: some ways of sharing give fewer shares, or take all clients' server."""
    if seen.begun:
        return True
    if seen.present is None:
        return bool(seen.daemons) or seen.wanted["strategy"] == MPS
    before, after = seen.present["resources"], seen.wanted["resources"]
    return bool(_always(seen)) or any(count > after.get(name, 0) for name, count in before.items())


def moves(nodes: t.Iterable[Seen], pods: t.Mapping[str, t.Sequence[Object]]) -> list[Move]:
    """The nodes that need a drain, with ``pods`` by node; those that an interrupted run has cordoned come first."""
    found = []
    for seen in nodes:
        holders = [pod for pod in pods.get(seen.node.name, ()) if holds(pod, seen)]
        reasons = _always(seen) + _overbooked(seen, holders) + _under_pods(seen, holders) or _begun(seen)
        if reasons:
            found.append(Move(seen=seen, reasons=tuple(reasons), holders=tuple(holders)))
    return sorted(found, key=lambda move: (not move.seen.cordoned, move.node.name))


def holds(pod: Object, seen: Seen) -> bool:
    """Whether a pod holds GPUs of the node by a resource of its present or coming configuration."""
    if not runs_by_api(pod):
        return False
    names = {*seen.wanted["resources"], *(seen.present or {}).get("resources", ())}
    return any(count and name in names for name, count in effective_requests(pod["spec"], NVIDIA).items())


def _always(seen: Seen) -> list[str]:
    """Why the node needs a drain whatever its pods ask for."""
    wanted, present = seen.wanted, seen.present
    to_mps = wanted["strategy"] == MPS
    if present is None:
        return ["out of MPS"] if seen.daemons and not to_mps else []
    from_mps = present["strategy"] == MPS
    found = []
    if to_mps and not from_mps:
        found.append("into MPS")
    elif (from_mps and not to_mps) or (seen.daemons and not to_mps):
        found.append("out of MPS")
    elif to_mps and present["replicas"] != wanted["replicas"]:
        found.append(f"MPS replicas {present['replicas']} to {wanted['replicas']}")
    elif to_mps and seen.daemons:
        found.append("the MPS control daemon restarts")
    if (present.get("mig") or None) != (wanted.get("mig") or None):
        found.append(f"MIG {_mig(present)} to {_mig(wanted)}")
    return found


def _under_pods(seen: Seen, holders: t.Collection[Object]) -> list[str]:
    """MPS changes the compute mode under the processes of pods that another plugin, or one that is gone, gave GPUs to."""
    return ["into MPS"] if holders and seen.present is None and seen.wanted["strategy"] == MPS else []


def _begun(seen: Seen) -> list[str]:
    """What an interrupted run has cordoned the node for; its pods may have left, so that nothing else says so any more."""
    return [seen.node.annotations[drains.CORDON_ANNOTATION] or "an interrupted run"] if seen.begun else []


def _overbooked(seen: Seen, holders: t.Iterable[Object]) -> list[str]:
    """Resources of which the node's pods hold more than it will advertise; a name that it will not know any more is one of them."""
    if seen.present is None or seen.present["resources"] == seen.wanted["resources"]:
        return []
    held: dict[str, int] = {}
    for pod in holders:
        for name, count in effective_requests(pod["spec"], NVIDIA).items():
            held[name] = held.get(name, 0) + count
    found = []
    for name in sorted(seen.present["resources"]):
        share = seen.wanted["resources"].get(name, 0)
        will_be = 0 if share == 0 else None if seen.gpus is None else share * seen.gpus
        if will_be is not None and held.get(name, 0) > will_be:
            found.append(f"its pods hold {held[name]} {name}, of which it will have {will_be}")
    return found


def _mig(shares: Shares) -> str:
    mig = shares.get("mig")
    if not mig:
        return "off"
    layout = ", ".join(f"{profile} x {count}" for profile, count in sorted((mig.get("layout") or {}).items()))
    return f"{mig['strategy']} ({layout})" if layout else str(mig["strategy"])


def refusal(found: t.Sequence[Move], *, drain: bool) -> str:
    """Why these nodes are not touched, and what to set; empty where nothing is in the way. Nodes without pods on their GPUs need no consent."""
    lines = [line for move in found for line in _stuck(move)]
    if lines:
        return "\n".join(lines)
    occupied = [move for move in found if move.evicted]
    if drain or not occupied:
        return ""
    listed = "\n".join(f"{move.node.name}: {move.why}; holding its GPUs: {drains.some(move.evicted)}" for move in occupied)
    count = f"{len(occupied)} {'node has' if len(occupied) == 1 else 'nodes have'}"
    return (
        f"{count} to be drained before GPUs are shared in another way:\n{listed}\n"
        "Set drain: true to have these pods evicted, node by node (max_unavailable at once), or move them yourself and run again; "
        "check mode shows every step." + _cut(occupied)
    )


def _cut(found: t.Iterable[Move]) -> str:
    """What a drain does not do: GPUs are cut by user data, before a node joins."""
    names = sorted(move.node.name for move in found if move.seen.present and _layout(move.seen.present) != _layout(move.seen.wanted))
    if not names:
        return ""
    return f" It does not cut GPUs: of {', '.join(names)} replace first those that have joined before their pool's MIG layout was changed."


def _layout(shares: Shares) -> t.Mapping[str, int]:
    return (shares.get("mig") or {}).get("layout") or {}


def _stuck(move: Move) -> list[str]:
    return [drains.stuck(pod, move.node.name, move.why) for pod in move.stuck]


def stays(found: t.Iterable[Move]) -> list[str]:
    """Warnings: pods of DaemonSets hold GPUs and are not evicted, since they would come straight back."""
    return [
        f"Node {move.node.name} ({move.why}): {drains.some(pods)} of a DaemonSet holds GPUs and is not evicted; restart it afterwards."
        for move in found
        if (pods := [pod for pod in move.holders if of_daemon_set(pod)])
    ]


def intruders(move: Move, pods: t.Iterable[Object]) -> str:
    """Why a node cannot be drained although its pods have left: others have come in spite of its cordon; empty where none have."""
    known = {pod["metadata"].get("uid") for pod in move.holders}
    came = [pod for pod in pods if holds(pod, move.seen) and pod["metadata"].get("uid") not in known and not of_daemon_set(pod)]
    if not came:
        return ""
    return (
        f"Node {move.node.name} is cordoned ({move.why}), but pods with GPUs come to it: {drains.some(came)}. They tolerate every taint, "
        "node.kubernetes.io/unschedulable included: let them tolerate nvidia.com/gpu only."
    )


def batches(found: t.Sequence[Move], size: int) -> list[list[Move]]:
    """As many nodes at once as may be unavailable."""
    return [list(found[start : start + size]) for start in range(0, len(found), size)]


def batch_plan(batch: t.Sequence[Move]) -> Plan:
    """All calls for nodes that are unavailable together, in their order; what is waited for in between makes no call of its own."""
    return combine(
        [
            *map(cordon, batch),
            *map(evict, batch),
            *(restart(move.node, move.seen.daemons) for move in batch),
            *(restart(move.node, move.seen.plugins) for move in batch),
            *(uncordon(move.node) for move in batch),
        ]
    )


def cordon(move: Move) -> Plan:
    """Mark the node as ours to uncordon and keep new pods off it; nothing where that is done."""
    return Plan() if move.seen.cordoned else Plan(steps=(drains.cordon(move.node, move.why),))


def uncordon(node: Node) -> Plan:
    """Give back what ``cordon`` has set."""
    return Plan(steps=(drains.uncordon(node, "it shares its GPUs as wanted"),))


def evict(move: Move) -> Plan:
    """Ask each pod on the node's GPUs to leave."""
    return Plan(steps=tuple(drains.eviction(pod, move.node.name, move.why) for pod in move.evicted))


def restart(node: Node, pods: t.Iterable[Object]) -> Plan:
    """Delete pods of ours that have to be made again, or to go."""
    return Plan(steps=tuple(delete_pod(pod, f"node {node.name}: to run with the new configuration") for pod in pods))


def delete_pod(pod: Object, reason: str) -> Step:
    """Delete this very pod; a controller that it has makes another one, which is why the effect is a replacement."""
    metadata = {"name": name_of(pod), "namespace": namespace_of(pod), "uid": pod["metadata"].get("uid")}
    request = {"apiVersion": POD.api_version, "kind": POD.kind, "metadata": metadata, "propagationPolicy": "Background"}
    effect: t.Literal["replace", "delete"] = "replace" if controller_of(pod) else "delete"
    return Step(action=f"kubernetes:delete {POD.resource}", target=target_of(pod), effect=effect, reason=reason, request=request)
