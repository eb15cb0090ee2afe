"""NVIDIA's GPU Operator, node feature discovery's workers and MIG manager on one cluster, at the boundary: what their pods would write.

The operator works as long as a pod of it is Ready, MIG manager on each node where its pod is. Their rules: lab.nodes.operands, migmanager.
"""

from __future__ import annotations

import datetime
import json
import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from lab.clock import Clock
from lab.kubernetes.client import Json, Kube
from lab.nodes import admission, migmanager, operands, podconfig, podstatus
from lab.nodes import mig as parting
from lab.nodes import node as nodes
from lab.nodes.deviceplugin import machine as gpus_of
from lab.nodes.loop import Loop

OPERATOR, FEATURE_WORKER, MIG_MANAGER = "gpu-operator", "nfd-worker", "nvidia-mig-manager"
_POLICIES = "/apis/nvidia.com/v1/clusterpolicies"
_log = logging.getLogger(__name__)


def relevant(pod: Json) -> bool:
    """Whether a pod is one of the operator's, has GPUs, or goes out of MIG manager's way."""
    ours = any(podconfig.container_of(pod, program) for program in (OPERATOR, FEATURE_WORKER, MIG_MANAGER))
    return ours or _is_client(pod) or any(number for _resource, number in admission.requests(pod))


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What one step looks at."""

    pods: list[Json]
    nodes: list[Json]

    def on(self, node: Json) -> list[Json]:
        return [pod for pod in self.pods if pod["spec"].get("nodeName") == node["metadata"]["name"]]

    def running(self, program: str) -> list[Json]:
        return [pod for pod in self.pods if podconfig.container_of(pod, program) and _is_running(pod)]


class GpuOperator(Loop):
    """One cluster's operator. ``pods`` has only those that are ``relevant``."""

    def __init__(
        self,
        name: str,
        kube: Kube,
        pods: Callable[[], list[Json]],
        current_nodes: Callable[[], list[Json]],
        clock: Clock,
        wake: threading.Event,
    ) -> None:
        super().__init__(f"gpu operator {name}", every=1.0, wake=wake)
        self._cluster, self._kube, self._pods, self._nodes, self._clock = name, kube, pods, current_nodes, clock
        self._states: dict[str, migmanager.State] = {}  # of MIG manager, by node
        self._applied: dict[str, Json] = {}  # DaemonSets by name

    def step(self) -> None:
        seen = _Cluster(self._pods(), self._nodes())
        self._discover(seen)
        if operators := seen.running(OPERATOR):
            self._reconcile(seen, operators[0]["metadata"]["namespace"])
        for pod in seen.running(MIG_MANAGER):
            node = next((one for one in seen.nodes if one["metadata"]["name"] == pod["spec"]["nodeName"]), None)
            if node is not None:
                self._part(node, pod, seen.on(node))
        there = {node["metadata"]["name"] for node in seen.nodes}
        self._states = {name: state for name, state in self._states.items() if name in there}

    def _discover(self, seen: _Cluster) -> None:
        """Node feature discovery's worker labels its node, with a GPU or without."""
        found = {pod["spec"]["nodeName"] for pod in seen.running(FEATURE_WORKER)}
        for node in seen.nodes:
            labels = node["metadata"].get("labels") or {}
            if node["metadata"]["name"] not in found:
                continue
            wanted = {f"{operands.FEATURE_PREFIX}cpu-model.vendor_id": "lab"}
            if gpus_of(node).count:
                wanted[operands.FOUND] = "true"
            if any(labels.get(key) != value for key, value in wanted.items()):
                self._label(node, dict(wanted))

    def _reconcile(self, seen: _Cluster, namespace: str) -> None:
        listed = self._kube.get(_POLICIES)
        policies = [] if listed is None else listed["items"]
        if not policies:
            return
        oldest, *others = sorted(policies, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]))
        for policy in others:
            self._say(policy, {"state": "ignored"})
        for node in seen.nodes:
            if change := operands.node_labels(node["metadata"].get("labels") or {}, oldest["spec"]):
                self._label(node, change)
        labels = [node["metadata"].get("labels") or {} for node in seen.nodes]
        has_gpus = any(one.get(operands.FOUND) == "true" for one in labels)
        has_features = any(key.startswith(operands.FEATURE_PREFIX) for one in labels for key in one)
        made = [(one, self._apply(one, oldest, namespace)) for one in operands.wanted(oldest["spec"], has_gpu_nodes=has_gpus)]
        self._remove_others({one.name for one, _found in made}, namespace)
        status = operands.status(operands.not_ready(made), has_gpu_nodes=has_gpus, has_feature_labels=has_features)
        self._say(oldest, status)

    def _apply(self, operand: operands.Operand, policy: Json, namespace: str) -> Json:
        """The DaemonSet as it then is; applied again only where another one is wanted, or none is there."""
        path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{operand.name}"
        wanted, found = operands.daemon_set(operand, policy, namespace), self._kube.get(path)
        if found is None or self._applied.get(operand.name) != wanted:
            self._kube.apply(path, wanted)
            self._applied[operand.name] = wanted
            found = self._kube.get(path)
        return found or wanted

    def _remove_others(self, names: set[str], namespace: str) -> None:
        """What the ClusterPolicy does not turn on any more."""
        for name in set(self._applied) - names:
            self._kube.delete(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{name}")
            del self._applied[name]

    def _say(self, policy: Json, status: Json) -> None:
        """Write a status that is another one; a condition's time is that of its last change of status."""
        before = policy.get("status") or {}
        kept = {(c["type"], c["status"]): c.get("lastTransitionTime") for c in before.get("conditions") or ()}
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        conditions = [c | {"lastTransitionTime": kept.get((c["type"], c["status"])) or now} for c in status.get("conditions") or ()]
        wanted = status | ({"conditions": conditions} if conditions else {})
        if wanted != before:
            self._kube.merge(f"{_POLICIES}/{policy['metadata']['name']}/status", {"status": wanted})
            reasons = ", ".join(f"{c['type']} {c['status']} {c['reason']} {c['message']}".strip() for c in conditions)
            _log.info("%s: ClusterPolicy %s: %s (%s)", self._cluster, policy["metadata"]["name"], wanted["state"], reasons)

    def _part(self, node: Json, pod: Json, pods: list[Json]) -> None:
        """One look of MIG manager at its node."""
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        gpus, annotations = gpus_of(node), node["metadata"].get("annotations") or {}
        found = migmanager.Machine(
            labels=labels,
            product=parting.product(annotations.get(nodes.GPU_MODEL, ""), int(annotations.get(nodes.GPU_MEMORY, 0))),
            gpus=gpus.count,
            layouts=gpus.mig,
            clients=tuple(sorted(one["metadata"]["name"] for one in pods if _is_client(one))),
            users=tuple(sorted(one["metadata"]["name"] for one in pods if _uses_gpus(one))),
        )
        state = self._states.get(name, migmanager.State())
        step = migmanager.step(state, found, self._settings(pod), labels.get(operands.MIG_CONFIG, ""), self._clock.seconds())
        self._states[name] = step.state
        if step.said:
            _log.info("%s: MIG manager on %s: %s", self._cluster, name, step.said)
        if step.rebooted:
            self._kube.merge(f"/api/v1/nodes/{name}/status", {"status": {"nodeInfo": {"bootID": str(uuid.uuid4())}}})
        if step.layouts is not None:
            text = json.dumps(step.layouts) if step.layouts else None
            self._kube.merge(f"/api/v1/nodes/{name}", {"metadata": {"annotations": {nodes.MIG: text}}})
        if step.labels:
            self._label(node, dict(step.labels))

    def _settings(self, pod: Json) -> migmanager.Settings:
        container = podconfig.container_of(pod, MIG_MANAGER) or {}
        reboot = any(one["name"] == "WITH_REBOOT" and one.get("value") == "true" for one in container.get("env") or ())
        volume: Json = next((one for one in pod["spec"].get("volumes") or () if one["name"] == operands.MIG_VOLUME), {})
        source = (volume.get("configMap") or {}).get("name")
        config = self._config_map(pod["metadata"]["namespace"], source) if source else None
        return migmanager.Settings(pod=pod["metadata"]["uid"], reboot=reboot, config=config)

    def _config_map(self, namespace: str, name: str) -> str:
        found = self._kube.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}") or {}
        return str((found.get("data") or {}).get("config.yaml", ""))

    def _label(self, node: Json, change: dict[str, str | None] | dict[str, str]) -> None:
        self._kube.merge(f"/api/v1/nodes/{node['metadata']['name']}", {"metadata": {"labels": change}})


def _is_running(pod: Json) -> bool:
    return podstatus.condition(pod, "Ready") == "True" and not pod["metadata"].get("deletionTimestamp")


def _is_client(pod: Json) -> bool:
    """Whether MIG manager waits until it is gone: operands that use the GPUs, and DaemonSets of others that say that they do."""
    if (pod["metadata"].get("labels") or {}).get("app") in migmanager.CLIENT_APPS:
        return True
    owners = {owner["kind"] for owner in pod["metadata"].get("ownerReferences") or ()}
    return "DaemonSet" in owners and migmanager.THIRD_PARTY in (pod["spec"].get("nodeSelector") or {})


def _uses_gpus(pod: Json) -> bool:
    over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not over and any(number for _resource, number in admission.requests(pod))
