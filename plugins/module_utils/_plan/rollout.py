# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Whether a rollout of the device plugin has arrived on every node, and if not, why not. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Catalog, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import Object, annotations_of, is_deleting, name_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import selects
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests

_HOPELESS_REASONS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError")
_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff")
_IMAGE_REFUSALS = ("not found", "denied", "unauthorized", "403 forbidden")
_RESTARTS = 2  # a container that has ended this often before is not starting up any more
_DAEMON_SET_TOLERATES = "node.kubernetes.io/"  # the DaemonSet controller adds tolerations for these


@dataclass(frozen=True, kw_only=True)
class Row:
    """A node that a configuration selects: what it should advertise, what it does, and where these differ, why.

    ``expected`` is None where the number of its GPUs is not known: then any multiple of the replicas but 0 will do. ``hopeless``: waiting
    longer will not help.
    """

    configuration: str
    node: str
    resource: str
    expected: int | None
    advertised: int
    why: str = ""
    hopeless: bool = False

    def to_dict(self) -> dict[str, t.Any]:
        return {"name": self.node, "resource": self.resource, "expected": self.expected, "advertised": self.advertised}


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A DaemonSet's rollout, as ``kubectl rollout status`` judges it. ``desired`` and ``ready`` are None where there is no DaemonSet."""

    configuration: str
    daemon_set: str
    desired: int | None
    ready: int | None
    updated: int = 0
    observed: bool = False

    @property
    def done(self) -> bool:
        if self.desired is None or self.ready is None:
            return False
        return self.observed and self.updated >= self.desired and self.ready >= self.desired

    def __str__(self) -> str:
        counts = f"desiredNumberScheduled {self.desired}, updatedNumberScheduled {self.updated}, numberReady {self.ready}"
        return f"DaemonSet {self.daemon_set}: {counts}"


@dataclass(frozen=True, kw_only=True)
class Status:
    rollouts: tuple[Rollout, ...]
    rows: tuple[Row, ...]

    @property
    def done(self) -> bool:
        return all(rollout.done for rollout in self.rollouts) and not any(row.why for row in self.rows)

    @property
    def hopeless(self) -> bool:
        return any(row.hopeless for row in self.rows)

    def seen(self) -> dict[str, tuple[int | None, int | None, list[dict[str, t.Any]]]]:
        """Configuration -> (desired nodes, ready nodes, its nodes), for the result."""
        nodes: dict[str, list[dict[str, t.Any]]] = {rollout.configuration: [] for rollout in self.rollouts}
        for row in self.rows:
            nodes[row.configuration].append(row.to_dict())
        return {r.configuration: (r.desired, r.ready, nodes[r.configuration]) for r in self.rollouts}


def judge(
    wanted: DevicePlugin, *, daemon_sets: t.Iterable[Object], nodes: t.Iterable[Node], pods: t.Iterable[Object], catalog: Catalog
) -> Status:
    """How things stand. ``pods`` are those of our plugin; nodes that are going away are not waited for."""
    live = {name_of(obj): obj for obj in daemon_sets}
    by_node: dict[str, list[Object]] = {}
    for pod in pods:
        if not is_deleting(pod) and (node_name := pod["spec"].get("nodeName")):
            by_node.setdefault(node_name, []).append(pod)
    staying = [node for node in nodes if not node.deleting]
    rows = [
        _row(wanted, configuration, node, by_node.get(node.name, []), catalog)
        for configuration in wanted.configurations
        for node in staying
        if selects(configuration.terms, node.labels)
    ]
    rollouts = [_rollout(configuration, live.get(manifests.object_name(configuration.name))) for configuration in wanted.configurations]
    return Status(rollouts=tuple(rollouts), rows=tuple(rows))


def table(rows: t.Iterable[Row]) -> str:
    """The rows that are not as they should be, for a message."""
    head = ("node", "configuration", "expected", "seen", "why")
    lines = [head] + [
        (row.node, row.configuration, f"{row.resource} {_number(row)}", str(row.advertised), row.why) for row in rows if row.why
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) for line in lines)


def _number(row: Row) -> str:
    return "some" if row.expected is None else str(row.expected)


def _rollout(configuration: Configuration, obj: Object | None) -> Rollout:
    name = manifests.object_name(configuration.name)
    if obj is None:
        return Rollout(configuration=configuration.name, daemon_set=name, desired=None, ready=None)
    status = obj.get("status") or {}
    return Rollout(
        configuration=configuration.name,
        daemon_set=name,
        desired=status.get("desiredNumberScheduled", 0),
        ready=status.get("numberReady", 0),
        updated=status.get("updatedNumberScheduled", 0),
        observed=status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 1),
    )


def _row(wanted: DevicePlugin, configuration: Configuration, node: Node, pods: list[Object], catalog: Catalog) -> Row:
    sharing = configuration.sharing
    gpus = node.gpus(catalog)
    expected = None if gpus is None else sharing.advertised(gpus)
    advertised = node.allocatable.get(sharing.resource, 0)
    current = [pod for pod in pods if annotations_of(pod).get(manifests.HASH_ANNOTATION) == manifests.content_hash(wanted, configuration)]
    why, hopeless = _trouble(wanted, node, pods, current)
    if not why:
        why = _mismatch(configuration, node, expected)
    return Row(
        configuration=configuration.name,
        node=node.name,
        resource=sharing.resource,
        expected=expected,
        advertised=advertised,
        why=why,
        hopeless=hopeless,
    )


def _trouble(wanted: DevicePlugin, node: Node, pods: list[Object], current: list[Object]) -> tuple[str, bool]:
    """(why the plugin does not run on the node as it should, whether waiting is of no use); ("", False) where it does."""
    if not node.ready:
        return "node is not Ready", False
    if not current:
        if pods:
            return f"pod {name_of(pods[0])} still runs the previous configuration", False
        taint = _untolerated(wanted, node)
        return (
            (f"no plugin pod: its taint {taint} is not tolerated; see the option tolerations", False)
            if taint
            else ("no plugin pod yet", False)
        )
    return _pod_trouble(current[0])


def _pod_trouble(pod: Object) -> tuple[str, bool]:
    status = pod.get("status") or {}
    if any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or ()):
        return "", False
    container: t.Mapping[str, t.Any] = next(iter(status.get("containerStatuses") or ()), {})
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason") or status.get("reason") or status.get("phase", "Pending")
    said = [reason, waiting.get("message") or status.get("message") or "", _last_end(container)]
    return f"pod {name_of(pod)}: {': '.join(part for part in said if part)}", _is_hopeless(waiting, container)


def _last_end(container: t.Mapping[str, t.Any]) -> str:
    ended = (container.get("lastState") or {}).get("terminated")
    return f"ended with {ended.get('exitCode')} {ended.get('message') or ended.get('reason') or ''}".strip() if ended else ""


def _is_hopeless(waiting: t.Mapping[str, t.Any], container: t.Mapping[str, t.Any]) -> bool:
    reason, message = waiting.get("reason", ""), waiting.get("message", "").lower()
    if reason in _IMAGE_REASONS:
        return any(refusal in message for refusal in _IMAGE_REFUSALS)
    return reason in _HOPELESS_REASONS or (reason == "CrashLoopBackOff" and container.get("restartCount", 0) >= _RESTARTS)


def _mismatch(configuration: Configuration, node: Node, expected: int | None) -> str:
    """Why a node whose plugin runs does not advertise what it should; empty where it does."""
    sharing = configuration.sharing
    seen, capacity = node.allocatable.get(sharing.resource, 0), node.capacity.get(sharing.resource, 0)
    if seen < capacity:
        return f"{capacity - seen} of {capacity} devices are unhealthy"
    if seen != expected if expected is not None else (not seen or seen % sharing.replicas):
        return "the plugin is ready, the kubelet has not said so yet" if not seen else "the plugin is ready with another number"
    other = GPU_RESOURCE if sharing.rename else f"{GPU_RESOURCE}.shared"
    return f"{other} {node.allocatable[other]} is still advertised" if node.allocatable.get(other) else ""


def _untolerated(wanted: DevicePlugin, node: Node) -> str:
    """The node's first taint that keeps the plugin off it, in Kubernetes' spelling; empty where there is none."""
    tolerations = manifests.tolerations(wanted)
    for taint in node.taints:
        if taint.get("effect") == "PreferNoSchedule" or taint["key"].startswith(_DAEMON_SET_TOLERATES):
            continue
        if not any(_tolerates(toleration, taint) for toleration in tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"{taint['key']}{value}:{taint['effect']}"
    return ""


def _tolerates(toleration: t.Mapping[str, str], taint: t.Mapping[str, t.Any]) -> bool:
    """Source: Kubernetes documentation, Taints and Tolerations."""
    if toleration.get("effect", taint["effect"]) != taint["effect"]:
        return False
    if toleration.get("key", taint["key"]) != taint["key"]:
        return False
    return toleration.get("operator", "Equal") == "Exists" or toleration.get("value", "") == (taint.get("value") or "")


def is_selected(wanted: DevicePlugin, node: Node) -> bool:
    """Whether any configuration selects the node."""
    return any(selects(configuration.terms, node.labels) for configuration in wanted.configurations)
