"""NVIDIA's device plugin and GPU feature discovery on the nodes of one cluster.

A node advertises GPUs only while a device plugin pod runs on it, and then what that pod's config says. The plugin reads its config when it
starts: a later edit of the ConfigMap changes nothing until the pod is another one.
"""

from __future__ import annotations

import datetime
import functools
import logging
import threading
import time
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from lab.kubernetes.client import Json, Kube
from lab.nodes import features, podconfig, podstatus, sharing
from lab.nodes import node as nodes
from lab.nodes.loop import Loop

RETRY_SECONDS = 2.0
NOT_IMITATED = "GpuopsLabNotImitated"
_log = logging.getLogger(__name__)
_T = t.TypeVar("_T")


@dataclass(slots=True)
class _Program:
    """A plugin or GFD container that has been started, or has tried to."""

    label: str
    tried: float
    config: sharing.Config | None = None
    waiting: podstatus.Waiting | None = None


def relevant(pod: Json) -> bool:
    """Whether a pod runs one of the programs that this loop plays."""
    return any(podconfig.container_of(pod, program) for program in (podconfig.PLUGIN, podconfig.FEATURE_DISCOVERY))


class DevicePlugins(Loop):
    """One cluster's device plugin and GPU feature discovery pods. ``pods`` has only those that are ``relevant``."""

    def __init__(
        self,
        name: str,
        kube: Kube,
        pods: Callable[[], list[Json]],
        current_nodes: Callable[[], list[Json]],
        wake: threading.Event | None = None,
    ) -> None:
        super().__init__(f"device plugins {name}", every=0.5, wake=wake)
        self._cluster, self._kube, self._pods, self._nodes = name, kube, pods, current_nodes
        self._programs: dict[tuple[str, str], _Program] = {}  # by pod and container
        self._said: set[tuple[str, str]] = set()

    def step(self) -> None:
        by_node: dict[str, list[Json]] = {}
        pods = self._pods()
        for pod in pods:
            if pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp"):
                by_node.setdefault(pod["spec"]["nodeName"], []).append(pod)
        for node in self._nodes():
            if podstatus.condition(node, "Ready") == "True":
                self._node(node, by_node.get(node["metadata"]["name"], []))
        present = {pod["metadata"]["uid"] for pod in pods}
        self._programs = {key: p for key, p in self._programs.items() if key[0] in present}

    def _node(self, node: Json, pods: list[Json]) -> None:
        gpus = sharing.Gpus(count=int((node["metadata"].get("annotations") or {}).get(nodes.GPUS, 0)))
        wanted: dict[str, int] = {}
        # Two plugins on one node use the same kubelet socket: the one that registers last wins.
        for pod in sorted(pods, key=lambda p: p["metadata"]["creationTimestamp"]):
            if (config := self._running(pod, node, podconfig.PLUGIN, gpus)) is not None:
                wanted = self._or_refuse(node, pod, functools.partial(sharing.advertised, config, gpus)) or {}
            if (config := self._running(pod, node, podconfig.FEATURE_DISCOVERY, gpus)) is not None:
                self._label(node, pod, config, gpus)
        self._advertise(node, wanted)

    def _running(self, pod: Json, node: Json, name: str, gpus: sharing.Gpus) -> sharing.Config | None:
        """The config with which the pod's container runs, None when the pod has none such or it does not run."""
        container = podconfig.container_of(pod, name)
        if container is None:
            return None
        label = (node["metadata"].get("labels") or {}).get(podconfig.CONFIG_LABEL, "")
        if podconfig.config_manager(pod, sidecar=True) is None:
            label = ""  # nothing in this pod looks at the label any more
        key = (pod["metadata"]["uid"], container["name"])
        program = self._programs.get(key)
        if program is None and podstatus.condition(pod, "Ready") != "True":
            return None
        if program is None or program.label != label or (program.config is None and time.monotonic() - program.tried > RETRY_SECONDS):
            program = self._start(pod, container, label, gpus, program)
            self._programs[key] = program
        return program.config

    def _start(self, pod: Json, container: Json, label: str, gpus: sharing.Gpus, before: _Program | None) -> _Program:
        program = _Program(label, time.monotonic())
        try:
            file = podconfig.config_file(pod, container, label, self._config_map)
            config = sharing.parse(file.text, file.settings)
            if gpus.count == 0:
                sharing.advertised(config, gpus)  # whether the program can start without a GPU
            program.config = config
        except sharing.NotImitated as error:
            self._refuse(pod["spec"]["nodeName"], pod, error)
        except podconfig.NotMounted as error:
            program.waiting = podstatus.Waiting(container=container["name"], reason="ContainerCreating", message=str(error), crashed=False)
        except podconfig.InitFailed as error:
            manager = podconfig.config_manager(pod, sidecar=False) or podconfig.config_manager(pod, sidecar=True) or container
            program.waiting = podstatus.Waiting(container=manager["name"], reason="CrashLoopBackOff", message=str(error), crashed=True)
        except (sharing.ConfigRefused, FileNotFoundError) as error:
            program.waiting = podstatus.Waiting(container=container["name"], reason="CrashLoopBackOff", message=str(error), crashed=True)
        self._write_status(pod, program, before)
        return program

    def _write_status(self, pod: Json, program: _Program, before: _Program | None) -> None:
        if program.waiting == (before.waiting if before else None):
            return
        metadata, now = pod["metadata"], datetime.datetime.now(datetime.UTC)
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        current = self._kube.get(path)
        if current is None or current["metadata"]["uid"] != metadata["uid"]:
            return
        if program.waiting is not None:
            _log.warning("%s: pod %s: %s: %s", self._cluster, metadata["name"], program.waiting.reason, program.waiting.message)
        change = podstatus.running(current, now) if program.waiting is None else podstatus.waiting(current, program.waiting, now)
        self._kube.merge(f"{path}/status", change)

    def _config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        found = self._kube.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        return None if found is None else found.get("data") or {}

    def _advertise(self, node: Json, wanted: dict[str, int]) -> None:
        """Capacity and allocatable; a resource that is not served any more stays at 0, as kubelet keeps it (kubernetes #92396)."""
        present = node["status"].get("allocatable") or {}
        stale = {name: "0" for name in present if name.startswith(sharing.PREFIX)}
        change = {k: v for k, v in (stale | {k: str(v) for k, v in wanted.items()}).items() if present.get(k) != v}
        if not change:
            return
        name = node["metadata"]["name"]
        self._kube.merge(f"/api/v1/nodes/{name}/status", {"status": {"capacity": change, "allocatable": change}})
        _log.info("%s: node %s advertises %s", self._cluster, name, ", ".join(f"{k}: {v}" for k, v in sorted(change.items())))

    def _label(self, node: Json, pod: Json, config: sharing.Config, gpus: sharing.Gpus) -> None:
        if gpus.count == 0:
            return
        model = (node["metadata"].get("annotations") or {}).get(nodes.GPU_MODEL, "")
        wanted = self._or_refuse(node, pod, functools.partial(features.labels, config, gpus, model)) or {}
        present = node["metadata"].get("labels") or {}
        if change := {k: v for k, v in wanted.items() if present.get(k) != v}:
            self._kube.merge(f"/api/v1/nodes/{node['metadata']['name']}", {"metadata": {"labels": change}})

    def _or_refuse(self, node: Json, pod: Json, rule: Callable[[], _T]) -> _T | None:
        try:
            return rule()
        except sharing.NotImitated as error:
            self._refuse(node["metadata"]["name"], pod, error)
            return None

    def _refuse(self, node: str, pod: Json, error: sharing.NotImitated) -> None:
        """Say once for each pod, in the log and as an event of the node, that nothing is advertised and why."""
        key = (pod["metadata"]["uid"], str(error))
        if key in self._said:
            return
        self._said.add(key)
        message = f"The lab does not imitate {error}; node {node} advertises nothing for pod {pod['metadata']['name']}."
        _log.error("%s: %s", self._cluster, message)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{node}.", "namespace": "default"},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
            "type": "Warning",
            "reason": NOT_IMITATED,
            "message": message,
            "source": {"component": "gpuops-lab"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._kube.call("POST", "/api/v1/namespaces/default/events", event)
