# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Whether NVIDIA's GPU Operator has done its work on every node, and if not, why not. Pure.

Sources: gpu-operator v26.7.0, controllers/clusterpolicy_controller.go and state_manager.go; mig-parted v0.15.0, pkg/mig/reconfigure.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import NVIDIA, Catalog, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_operator import Pool, operator_pools
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    GPU_PRESENT_LABEL,
    MIG_CONFIG_LABEL,
    MIG_STATE_LABEL,
    NODEPOOL_LABEL,
    OPERANDS_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    Object,
    annotations_of,
    conditions_of,
    gitops_tool,
    is_deleting,
    labels_of,
    name_of,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_requests import effective_requests
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import required_terms, selects
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import GpuResources, Mig, Sharing, configuration_name
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import some
from ansible_collections.gpuops.eks.plugins.module_utils._plan.rollout import Trouble, pod_trouble
from ansible_collections.gpuops.eks.plugins.module_utils._plan.takeover import foreign_plugins

PAUSED = "paused-for-mig-change"
RECONCILED, NO_GPU_NODES = "Reconciled", "NoGPUNodes"

_DEPLOY = "nvidia.com/gpu.deploy."
_FOUND = "feature.node.kubernetes.io/pci-10de.present"
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"
_RELEASE = ("meta.helm.sh/release-namespace", "meta.helm.sh/release-name")
_OVER = ("Succeeded", "Failed")
_RETRY_SECONDS = 120.0  # for MIG manager to start with what the release has brought
_WEDGE = "https://github.com/NVIDIA/gpu-operator/issues/2833"
_KUBELET = "https://github.com/NVIDIA/gpu-operator/issues/2415"


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What there is. ``nodes`` are as the API has them, because their managedFields say since when a label is what it is."""

    policies: tuple[Object, ...] = ()
    daemon_sets: tuple[Object, ...] = ()  # of the whole cluster
    nodes: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()  # on nodes that are to be cut anew
    operands: tuple[Object, ...] = ()  # pods of the operator's namespace, where a DaemonSet is not rolled out


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long is waited for what: it is ``moment`` now, and the wait has ``begun``.

    A layout that had failed before is tried again once MIG manager has started anew; ``wedge_after`` is in seconds.
    """

    moment: datetime.datetime
    begun: datetime.datetime
    wedge_after: float = 600.0

    def waited(self) -> float:
        return (self.moment - self.begun).total_seconds()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A node of the operator. ``resources`` is resource -> (expected, advertised); ``hopeless``: waiting longer will not help."""

    node: str
    pool: str | None
    layout: str | None
    state: str | None
    resources: t.Mapping[str, tuple[int, int]] = field(default_factory=dict)
    why: str = ""
    hopeless: bool = False

    def to_dict(self) -> dict[str, t.Any]:
        resources = [{"name": name, "expected": one[0], "advertised": one[1]} for name, one in self.resources.items()]
        head = {"name": self.node, "pool": self.pool, "mig_config": self.layout, "mig_config_state": self.state}
        return {**head, "resources": resources, "why": self.why}


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A DaemonSet of the operator, as ``kubectl rollout status`` judges it."""

    name: str
    desired: int
    ready: int
    updated: int
    observed: bool

    @classmethod
    def from_api(cls, obj: Object) -> Rollout:
        status = obj.get("status") or {}
        return cls(
            name=name_of(obj),
            desired=status.get("desiredNumberScheduled", 0),
            ready=status.get("numberReady", 0),
            updated=status.get("updatedNumberScheduled", 0),
            observed=status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 1),
        )

    @property
    def done(self) -> bool:
        return self.observed and self.updated >= self.desired and self.ready >= self.desired

    def __str__(self) -> str:
        return f"DaemonSet {self.name}: {self.ready} of {self.desired} pods are ready, {self.updated} of them as they should be"

    def to_dict(self) -> dict[str, t.Any]:
        return {"name": self.name, "desired": self.desired, "ready": self.ready, "updated": self.updated}


@dataclass(frozen=True, kw_only=True)
class Status:
    """How things stand. ``policy`` is why the ClusterPolicy is not as it should be, empty where it is."""

    policy: str
    rollouts: tuple[Rollout, ...] = ()
    rows: tuple[Row, ...] = ()
    troubles: tuple[Trouble, ...] = ()

    @property
    def done(self) -> bool:
        return not self.policy and all(rollout.done for rollout in self.rollouts) and not any(row.why for row in self.rows)

    @property
    def hopeless(self) -> bool:
        """A container that ends is started again, and operands do so until those that they wait for are there."""
        return any(row.hopeless for row in self.rows) or any(one.hopeless and not one.pod for one in self.troubles)

    def faults(self) -> list[str]:
        """What is not as it should be, the whole before the nodes."""
        rollouts = [str(rollout) for rollout in self.rollouts if not rollout.done]
        return [*([self.policy] if self.policy else []), *rollouts, *(one.why for one in self.troubles)]


def judge(observed: Observed, pools: t.Sequence[Pool], catalog: Catalog, patience: Patience) -> Status:
    """How things stand. ``catalog`` has the instance types of the nodes."""
    nodes = [obj for obj in observed.nodes if is_managed(labels_of(obj)) and not is_deleting(obj)]
    rows = [_row(obj, _pool_of(obj, pools), catalog, patience) for obj in nodes]
    rollouts = [Rollout.from_api(obj) for obj in observed.daemon_sets if _is_operand(obj)]
    pods = [pod for pod in observed.operands if not is_deleting(pod) and (pod.get("status") or {}).get("phase") not in _OVER]
    troubles = [found for pod in pods if (found := pod_trouble(pod)).why]
    return Status(policy=_policy(observed.policies, bool(nodes)), rollouts=tuple(rollouts), rows=tuple(rows), troubles=tuple(troubles))


def rolled_out(daemon_sets: t.Iterable[Object]) -> bool:
    """Whether the operator's DaemonSets among these are as they should be."""
    return all(Rollout.from_api(obj).done for obj in daemon_sets if _is_operand(obj))


def is_managed(labels: t.Mapping[str, str]) -> bool:
    """Whether a node has GPUs that the operator looks after."""
    return labels.get(GPU_PRESENT_LABEL) == "true" and labels.get(OPERANDS_LABEL) != "false"


def physical(obj: Object) -> Node:
    """The node without the labels of GPU feature discovery, whose count is that of MIG devices under strategy single."""
    node = Node.from_api(obj)
    return dataclasses.replace(node, labels={key: value for key, value in node.labels.items() if key == _INSTANCE_TYPE})


def recut(observed: Observed, pools: t.Sequence[Pool], catalog: Catalog) -> list[str]:
    """The nodes that MIG manager has cut in another way than their pool wants. Capacity counts unhealthy devices too."""
    found = []
    for obj in observed.nodes:
        node, pool = Node.from_api(obj), _pool_of(obj, pools)
        gpus = physical(obj).gpus(catalog)
        settled = node.labels.get(MIG_STATE_LABEL) in ("success", "failed")
        if pool is None or not pool.get("mig") or gpus is None or not settled:
            continue
        expected = {name: count for name, count in _resources(pool).advertised(gpus).items() if count}
        if expected != {name: count for name, count in node.capacity.items() if count}:
            found.append(node.name)
    return found


def _pool_of(obj: Object, pools: t.Sequence[Pool]) -> Pool | None:
    mine = {pool["name"]: pool for pool in operator_pools(pools)}
    return mine.get(labels_of(obj).get(NODEPOOL_LABEL, ""))


def conflicts(observed: Observed, namespace: str, release: str) -> list[str]:
    """Why the operator cannot be installed as this release, each reason with what to do; empty where nothing is in the way."""
    theirs = (text for policy in observed.policies if (text := _theirs(policy, namespace, release)))
    return [*theirs, *_other_plugins(observed), *_in_use(observed, namespace)]


def _in_use(observed: Observed, namespace: str) -> list[str]:
    """Nodes that are to be cut anew while pods have their GPUs: MIG manager would fail, or reboot under them."""
    users: dict[str, list[str]] = {}
    for pod in observed.pods:
        over = (pod.get("status") or {}).get("phase") in _OVER
        if not over and pod["metadata"].get("namespace") != namespace and effective_requests(pod["spec"], NVIDIA):
            users.setdefault(pod["spec"]["nodeName"], []).append(target_of(pod))
    return [
        f"Node {name} is to be cut in another way while pods have its GPUs ({some(pods)}): MIG manager would fail, or reboot the node under them. "
        f"Drain it first (kubectl drain {name} --ignore-daemonsets), then run again."
        for name, pods in users.items()
    ]


def _theirs(policy: Object, namespace: str, release: str) -> str:
    annotations = annotations_of(policy)
    name = f"ClusterPolicy {name_of(policy)}"
    if tool := gitops_tool(policy):
        return f"{name} is kept by {tool}: change the operator where {tool} takes it from, and set gpu_operator_enabled to false here."
    if (found := tuple(annotations.get(key) for key in _RELEASE)) == (namespace, release):
        return ""
    whose = f"Helm release {found[1]} in namespace {found[0]}" if found[1] else "somebody else, not by Helm"
    return f"{name} belongs to {whose}: a cluster has one operator. Remove that one first, or name its namespace and release here."


def _other_plugins(observed: Observed) -> list[str]:
    """Device plugins on the operator's nodes that are not the operator's, ours included."""
    nodes = [obj for obj in observed.nodes if is_managed(labels_of(obj))]
    ours = [obj for obj in observed.daemon_sets if manifests.is_ours(labels_of(obj))]
    found = []
    for obj in [*ours, *(one for one in foreign_plugins(observed.daemon_sets) if not _is_operand(one))]:
        names = sorted(name_of(node) for node in nodes if selects(required_terms(obj["spec"]["template"]["spec"]), labels_of(node)))
        if names:
            found.append(
                f"DaemonSet {target_of(obj)} runs a device plugin on nodes of the operator ({some(names)}): remove it, or keep the "
                f'operator off these nodes by the label {OPERANDS_LABEL}="false"; two plugins on one node take the kubelet\'s socket from each other.'
            )
    return found


def _is_operand(obj: Object) -> bool:
    return any(owner.get("kind") == "ClusterPolicy" for owner in obj["metadata"].get("ownerReferences") or ())


def _policy(policies: t.Sequence[Object], has_nodes: bool) -> str:
    """Why the oldest ClusterPolicy, which is the one that counts, is not Ready; state ready alone also means that no node was looked at."""
    if not policies:
        return "There is no ClusterPolicy."
    policy = min(policies, key=lambda obj: (obj["metadata"].get("creationTimestamp", ""), name_of(obj)))
    conditions, name = conditions_of(policy), f"ClusterPolicy {name_of(policy)}"
    ready, error = conditions.get("Ready", {}), conditions.get("Error", {})
    if ready.get("status") != "True":
        said = (
            f": {error.get('reason')}: {error.get('message')}"
            if error.get("status") == "True"
            else ": the operator has not looked at it yet"
        )
        return f"{name} is {(policy.get('status') or {}).get('state') or 'without a state'}{said}."
    reason = ready.get("reason")
    if reason == RECONCILED or (reason == NO_GPU_NODES and not has_nodes):
        return ""
    return f"{name} is Ready with reason {reason}: {ready.get('message')}: its operands are on no node."


def _row(obj: Object, pool: Pool | None, catalog: Catalog, patience: Patience) -> Row:
    labels, node = labels_of(obj), Node.from_api(obj)
    gpus = physical(obj).gpus(catalog)
    expected = _resources(pool).advertised(gpus) if pool is not None and gpus is not None else {}
    row = Row(
        node=node.name,
        pool=labels.get(NODEPOOL_LABEL),
        layout=labels.get(MIG_CONFIG_LABEL),
        state=labels.get(MIG_STATE_LABEL),
        resources={name: (count, node.allocatable.get(name, 0)) for name, count in expected.items()},
    )
    why, hopeless = _mig_trouble(obj, node, row, patience)
    return dataclasses.replace(row, why=why or _trouble(node, row, pool), hopeless=hopeless)


def _resources(pool: Pool) -> GpuResources:
    mig = Mig.from_params(pool["mig"]) if pool.get("mig") else None
    return GpuResources(sharing=Sharing.from_params(pool.get("sharing")), mig=mig)


def _mig_trouble(obj: Object, node: Node, row: Row, patience: Patience) -> tuple[str, bool]:
    """(what is wrong with the MIG layout, whether waiting is of no use); ("", False) where it is in force, or there is none."""
    paused = sorted(key for key, value in node.labels.items() if key.startswith(_DEPLOY) and value == PAUSED)
    seconds = _age(obj, patience.moment)
    if row.state == "failed":
        certain = seconds <= patience.waited() or patience.waited() > _RETRY_SECONDS
        return f"MIG layout {row.layout} failed, for which see the log of MIG manager; {_recovery(node.name, paused)}", certain
    if row.state == "pending" and paused and seconds > patience.wedge_after:
        operands = ", ".join(key.removeprefix(_DEPLOY) for key in paused)
        waited = f"MIG layout {row.layout} is pending for {seconds:.0f} s with {operands} paused: the operator gave up waiting for their pods ({_WEDGE})"
        return f"{waited}; {_recovery(node.name, paused)}", True
    if not node.ready and row.state in ("pending", "rebooting"):
        return f"not Ready, MIG layout {row.layout} is {row.state}: replace the node if it stays so ({_KUBELET})", False
    if row.layout and row.state != "success":
        return f"MIG layout {row.layout} is {row.state or 'not begun'}", False
    return "", False


def _recovery(node: str, paused: t.Sequence[str]) -> str:
    """What starts MIG manager anew: it looks at a node's label only when that changes, and when it starts."""
    labels = "".join(f" {key}=true" for key in paused)
    again = f"kubectl label node {node} --overwrite{labels}, then " if paused else ""
    return f"drain the node, {again}delete its nvidia-mig-manager pod"


def _age(obj: Object, moment: datetime.datetime) -> float:
    """Seconds since the state was written, by managedFields; 0 where they do not say."""
    times = [
        str(entry["time"])
        for entry in obj["metadata"].get("managedFields") or ()
        if f"f:{MIG_STATE_LABEL}" in ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:labels", {})
    ]
    since = max((datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) for text in times), default=moment)
    return (moment - since).total_seconds()


def _trouble(node: Node, row: Row, pool: Pool | None) -> str:
    if not node.ready:
        return "not Ready"
    if node.labels.get(_FOUND) != "true":
        taints = ", ".join(f"{taint['key']}:{taint['effect']}" for taint in node.taints) or "none"
        return f"node feature discovery has not labelled it ({_FOUND}); do its workers tolerate the node's taints ({taints})?"
    wanted = configuration_name(pool["name"]) if pool is not None and pool.get("mig") else None
    if wanted and row.layout != wanted:
        return f"labelled {MIG_CONFIG_LABEL}={row.layout or ''}, its pool wants {wanted}"
    return next((f"{name} {seen}" for name, (expected, seen) in row.resources.items() if seen != expected), "")


def table(rows: t.Iterable[Row]) -> str:
    """The nodes that are not as they should be, for a message."""
    head = ("node", "pool", "MIG layout", "expected", "seen", "why")
    lines = [head] + [_cells(row) for row in rows if row.why]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    expected = [f"{name} {one[0]}" for name, one in row.resources.items()]
    seen = [f"{one[1]}" for one in row.resources.values()]
    layout = f"{row.layout} {row.state or ''}".strip() if row.layout else "-"
    return (row.node, row.pool or "-", layout, ", ".join(expected) or "-", ", ".join(seen) or "-", row.why)


def result(observed: Observed, status: Status, namespace: str, release: str) -> dict[str, t.Any]:
    """The ``gpu_operator`` result."""
    policies = [_policy_result(policy) for policy in observed.policies]
    return {
        "namespace": namespace,
        "cluster_policies": policies,
        "daemon_sets": [rollout.to_dict() for rollout in status.rollouts],
        "nodes": [row.to_dict() for row in status.rows],
        "ready": status.done,
        "faults": status.faults(),
        "conflicts": conflicts(observed, namespace, release),
    }


def _policy_result(policy: Object) -> dict[str, t.Any]:
    ready = conditions_of(policy).get("Ready", {})
    return {
        "name": name_of(policy),
        "state": (policy.get("status") or {}).get("state"),
        "ready": ready.get("status") == "True",
        "reason": ready.get("reason"),
    }
