# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Whether a rollout of the device plugin has arrived on every node, and if not, why not. Pure."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DevicePlugin
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Catalog, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import DEVICE_PLUGIN_CONFIG_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    Object,
    conditions_of,
    is_deleting,
    is_ready,
    name_of,
    namespace_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design, Part, component_of, hash_of

_HOPELESS_REASONS = ("InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError")
_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff")
_IMAGE_REFUSALS = ("not found", "denied", "unauthorized", "403 forbidden")
_RESTARTS = 2  # a container that has ended this often before is not starting up any more
_REGISTERS = datetime.timedelta(minutes=1)  # a plugin that is ready has registered with the kubelet, and the kubelet has said so
_DAEMON_SET_TOLERATES = "node.kubernetes.io/"  # the DaemonSet controller adds tolerations for these
_PROGRAMS = {manifests.MPS_DAEMON: "MPS control daemon", manifests.DEVICE_PLUGIN: "plugin"}


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why something is not as it should be. ``hopeless``: waiting longer will not help. ``pod`` and ``container``: whose log says more."""

    why: str = ""
    hopeless: bool = False
    pod: str = ""
    container: str = ""


_FINE = Trouble()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A resource of a node that a configuration selects: how many it should advertise, how many it does, and where these differ, why.

    ``expected`` is None where the number of its GPUs is not known: then any multiple of one GPU's but 0 will do.
    """

    configuration: str
    node: str
    resource: str
    expected: int | None
    advertised: int
    trouble: Trouble = _FINE

    @property
    def why(self) -> str:
        return self.trouble.why

    def explained(self, log: str) -> Row:
        """The same with what a crashed container has written last."""
        return replace(self, trouble=replace(self.trouble, why=f"{self.why}; its log: {log}")) if log else self

    def to_dict(self) -> dict[str, t.Any]:
        return {"name": self.node, "resource": self.resource, "expected": self.expected, "advertised": self.advertised}


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A DaemonSet's rollout, as ``kubectl rollout status`` judges it. ``desired`` and ``ready`` are None where there is no DaemonSet."""

    configuration: str
    component: str
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
        return any(row.trouble.hopeless for row in self.rows)

    def of(self, nodes: t.Container[str]) -> list[Row]:
        """The rows of these nodes."""
        return [row for row in self.rows if row.node in nodes]

    def seen(self) -> dict[str, tuple[int | None, int | None, list[dict[str, t.Any]]]]:
        """Configuration -> (desired nodes, ready nodes, its nodes), for the result."""
        plugins = [rollout for rollout in self.rollouts if rollout.component == manifests.DEVICE_PLUGIN]
        nodes: dict[str, list[dict[str, t.Any]]] = {rollout.configuration: [] for rollout in plugins}
        for row in self.rows:
            nodes[row.configuration].append(row.to_dict())
        return {r.configuration: (r.desired, r.ready, nodes[r.configuration]) for r in plugins}


def judge(
    design: Design, *, daemon_sets: t.Iterable[Object], nodes: t.Iterable[Node], pods: t.Iterable[Object], catalog: Catalog
) -> Status:
    """How things stand. ``pods`` are those of our programs; nodes that are going away are not waited for.

    GPU feature discovery is not waited for on nodes: it labels them for people, nothing here depends on it.
    """
    live = {name_of(obj): obj for obj in daemon_sets}
    by_node: dict[str, list[Object]] = {}
    for pod in pods:
        if not is_deleting(pod) and (node_name := pod["spec"].get("nodeName")):
            by_node.setdefault(node_name, []).append(pod)
    rows = [
        row
        for node in nodes
        if not node.deleting and (part := design.part_of(node))
        for row in _rows(design.plugin, part, node, by_node.get(node.name, []), catalog)
    ]
    order = {part.name: index for index, part in enumerate(design.parts)}
    rows.sort(key=lambda row: order[row.configuration])
    rollouts = [_rollout(part, component, live) for part in design.parts for component in part.hashes]
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


def _rollout(part: Part, component: str, live: t.Mapping[str, Object]) -> Rollout:
    name = manifests.object_name(part.name, component)
    if (obj := live.get(name)) is None:
        return Rollout(configuration=part.name, component=component, daemon_set=name, desired=None, ready=None)
    status = obj.get("status") or {}
    return Rollout(
        configuration=part.name,
        component=component,
        daemon_set=name,
        desired=status.get("desiredNumberScheduled", 0),
        ready=status.get("numberReady", 0),
        updated=status.get("updatedNumberScheduled", 0),
        observed=status.get("observedGeneration", 0) >= obj["metadata"].get("generation", 1),
    )


def _rows(plugin: DevicePlugin, part: Part, node: Node, pods: list[Object], catalog: Catalog) -> list[Row]:
    """One for each resource that the node should advertise, and for each other one of NVIDIA's that it still does."""
    gpus = node.gpus(catalog)
    shares = {name: count for name, count in part.shares["resources"].items() if count}
    of_node = _trouble(plugin, part, node, pods)
    rows = []
    for name in (*shares, *sorted(name for name, count in node.allocatable.items() if count and name not in shares)):
        share, seen = shares.get(name, 0), node.allocatable.get(name, 0)
        expected = 0 if not share else None if gpus is None else share * gpus
        trouble = of_node if of_node.why else _mismatch(node, pods, name, share, expected)
        rows.append(
            Row(configuration=part.name, node=node.name, resource=name, expected=expected, advertised=seen, trouble=trouble),
        )
    return rows


def _trouble(plugin: DevicePlugin, part: Part, node: Node, pods: list[Object]) -> Trouble:
    """Why the node's programs do not run as they should. The MPS control daemon comes first: the plugin waits for it."""
    if not node.ready:
        return Trouble(why="node is not Ready")
    for component in (manifests.MPS_DAEMON, manifests.DEVICE_PLUGIN):
        running = [pod for pod in pods if component_of(pod) == component]
        wanted = part.hashes.get(component)
        if wanted is None and running:
            return Trouble(why=f"pod {name_of(running[0])}: the MPS control daemon of the previous configuration still runs")
        if wanted is not None and (found := _program(plugin, component, wanted, node, running)).why:
            return found
    return _FINE


def _program(plugin: DevicePlugin, component: str, wanted: str, node: Node, pods: list[Object]) -> Trouble:
    current = [pod for pod in pods if hash_of(pod) == wanted]
    if current:
        return pod_trouble(current[0])
    program = _PROGRAMS[component]
    if pods:
        return Trouble(why=f"pod {name_of(pods[0])} still runs the previous configuration")
    if taint := _untolerated(plugin, node):
        return Trouble(why=f"no {program} pod: its taint {taint} is not tolerated; see the option tolerations")
    label = node.labels.get(DEVICE_PLUGIN_CONFIG_LABEL)
    known = [f"label {DEVICE_PLUGIN_CONFIG_LABEL}={label}" if label else f"no label {DEVICE_PLUGIN_CONFIG_LABEL}", node.os_image]
    return Trouble(why=f"no {program} pod yet ({', '.join(word for word in known if word)})")


def pod_trouble(pod: Object) -> Trouble:
    """Why a pod is not ready, by its status."""
    status = pod.get("status") or {}
    if is_ready(pod):
        return _FINE
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    container: t.Mapping[str, t.Any] = next((one for one in containers if not one.get("ready")), {})
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason") or status.get("reason") or status.get("phase", "Pending")
    said = [reason, waiting.get("message") or status.get("message") or _unscheduled(status) or "", _last_end(container)]
    if reason == "Running":
        said = [f"Running, container {container.get('name', '')} is not ready".replace("  ", " ")]
    crashed = bool((container.get("lastState") or {}).get("terminated"))
    return Trouble(
        why=f"pod {name_of(pod)}: {': '.join(part for part in said if part)}",
        hopeless=_is_hopeless(waiting, container),
        pod=f"{namespace_of(pod)}/{name_of(pod)}" if crashed else "",
        container=container.get("name", "") if crashed else "",
    )


def _unscheduled(status: Object) -> str:
    """The scheduler's words for a pod that it has not placed."""
    conditions = status.get("conditions") or ()
    return next((item.get("message", "") for item in conditions if item["type"] == "PodScheduled" and item["status"] == "False"), "")


def _last_end(container: t.Mapping[str, t.Any]) -> str:
    ended = (container.get("lastState") or {}).get("terminated")
    return f"ended with {ended.get('exitCode')} {ended.get('message') or ended.get('reason') or ''}".strip() if ended else ""


def _is_hopeless(waiting: t.Mapping[str, t.Any], container: t.Mapping[str, t.Any]) -> bool:
    reason, message = waiting.get("reason", ""), waiting.get("message", "").lower()
    if reason in _IMAGE_REASONS:
        return any(refusal in message for refusal in _IMAGE_REFUSALS)
    return reason in _HOPELESS_REASONS or (reason == "CrashLoopBackOff" and container.get("restartCount", 0) >= _RESTARTS)


def _mismatch(node: Node, pods: list[Object], name: str, share: int, expected: int | None) -> Trouble:
    """Why a resource of a node whose programs run is not what it should be; nothing where it is. An old name at 0 is gone."""
    seen, capacity = node.allocatable.get(name, 0), node.capacity.get(name, 0)
    if not share:
        return Trouble(why=f"{name} {seen} is still advertised")
    if seen < capacity:
        pod = next(pod for pod in pods if component_of(pod) == manifests.DEVICE_PLUGIN)
        why = (
            f"{capacity - seen} of {capacity} devices are unhealthy (see XID in the log of pod {name_of(pod)}); "
            "they stay so until that pod restarts: delete it when the GPU is sound"
        )
        return Trouble(why=why, hopeless=bool(seen) or _reported_since(node, pod))
    if seen != expected if expected is not None else (not seen or seen % share):
        return Trouble(
            why="the plugin is ready, the kubelet has not said so yet" if not seen else "the plugin is ready with another number"
        )
    return _FINE


def _reported_since(node: Node, pod: Object) -> bool:
    """Whether the kubelet has reported the node well after its plugin was ready. Until then all devices are those of the plugin before,
    which the kubelet takes for unhealthy from its end to the registration of the next one. Source: Kubernetes, pkg/kubelet/cm/devicemanager.
    """
    ready = conditions_of(pod).get("Ready", {}).get("lastTransitionTime")
    if not ready or not node.heartbeat:
        return False
    return _time(node.heartbeat) - _time(ready) >= _REGISTERS


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def _untolerated(plugin: DevicePlugin, node: Node) -> str:
    """The node's first taint that keeps our programs off it, in Kubernetes' spelling; empty where there is none."""
    tolerations = manifests.tolerations(plugin)
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
