"""NVIDIA's device plugin, MPS control daemon and GPU feature discovery on the nodes of one cluster.

A node advertises GPUs only while a device plugin runs on it, and then what that plugin found when it started: a later edit of its ConfigMap
or another partition of the GPUs changes nothing until its pod is another one.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
import threading
import typing as t
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.kubernetes.client import Json, Kube
from lab.nodes import admission, builtin, features, health, mps, podconfig, podstatus, sharing
from lab.nodes import node as nodes
from lab.nodes.logs import INFO, Logs
from lab.nodes.loop import Loop
from lab.nodes.programs import Program, Programs

NOT_IMITATED = "GpuopsLabNotImitated"
_NO_DAEMON = (
    "Failed to start plugin: error waiting for MPS daemon: error checking MPS daemon health: failed to send command to MPS daemon: "
    "exit status 1; Failed to start one or more plugins. Retrying in 30s..."
)
_KINDS = (podconfig.PLUGIN, podconfig.MPS_DAEMON, podconfig.FEATURE_DISCOVERY)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Serving:
    """A plugin that kubelet knows: of a pod, or Bottlerocket's own."""

    config: sharing.Config
    devices: sharing.Devices
    image: str = ""
    unhealthy: frozenset[int] = frozenset()

    @classmethod
    def of(cls, plugin: Program) -> _Serving:
        config, image = t.cast(sharing.Config, plugin.config), plugin.container.get("image", "")
        return cls(config, plugin.devices, image, frozenset(plugin.unhealthy))


def relevant(pod: Json) -> bool:
    """Whether a pod runs one of the programs that this loop plays, or asks for what they serve."""
    return any(podconfig.container_of(pod, kind) for kind in _KINDS) or any(admission.requests(pod))


class DevicePlugins(Loop):
    """One cluster's pods of these programs and pods with GPUs. ``pods`` has only those that are ``relevant``."""

    def __init__(
        self,
        name: str,
        kube: Kube,
        pods: Callable[[], list[Json]],
        current_nodes: Callable[[], list[Json]],
        logs: Logs,
        events: health.Events = health.none,
        wake: threading.Event | None = None,
    ) -> None:
        super().__init__(f"device plugins {name}", every=0.5, wake=wake)
        self._cluster, self._kube, self._pods, self._nodes, self._logs = name, kube, pods, current_nodes, logs
        self._events = events
        self._programs = Programs(name, kube, logs, self._refuse)
        self._said: set[tuple[str, str]] = set()
        self._strategies: dict[tuple[str, str], str] = {}  # by node and resource: of the plugin that served it last
        self._given: dict[str, str] = {}  # by pod: the strategy by which it got its GPU
        self._settled: dict[str, tuple[str, ...]] = {}  # by node: versions of what it was looked at with
        self._told: set[str] = set()  # pods of daemons that have been told to stop

    def observe(self, pod: Json) -> None:
        """Called with every state of every pod: a daemon that is deleted with --grace-period=0 is killed, any other is told to stop."""
        if pod["metadata"].get("deletionGracePeriodSeconds") and podconfig.container_of(pod, podconfig.MPS_DAEMON):
            self._told.add(pod["metadata"]["uid"])

    def step(self) -> None:
        by_node: dict[str, list[Json]] = {}
        pods = self._pods()
        for pod in pods:
            if pod["spec"].get("nodeName"):
                by_node.setdefault(pod["spec"]["nodeName"], []).append(pod)
        present = {pod["metadata"]["uid"] for pod in pods}
        stopped = self._programs.keep_only(present)
        for node in self._nodes():
            if podstatus.condition(node, "Ready") == "True":
                name = node["metadata"]["name"]
                self._look(node, by_node.get(name, []), [p for p in stopped if p.pod["spec"]["nodeName"] == name])
        self._logs.keep_only(present)
        self._given = {uid: strategy for uid, strategy in self._given.items() if uid in present}
        self._told -= {program.uid for program in stopped}
        names = {node["metadata"]["name"] for node in self._nodes()}
        self._strategies = {key: strategy for key, strategy in self._strategies.items() if key[0] in names}
        self._settled = {name: seen for name, seen in self._settled.items() if name in names}

    def _look(self, node: Json, pods: list[Json], stopped: list[Program]) -> None:
        """Go through a node, unless all is as it was when nothing was left to do there."""
        name = node["metadata"]["name"]
        events = self._events(name)
        seen = (*(held["metadata"]["resourceVersion"] for held in (node, *pods)), *(event.id for event in events))
        if seen != self._settled.get(name) or stopped:
            self._settled.pop(name, None)
            if self._node(node, pods, stopped, events):
                self._settled[name] = seen

    def _node(self, node: Json, pods: list[Json], stopped: list[Program], events: list[health.Event]) -> bool:
        """Play what runs on the node; returns whether nothing there waits for anything but a change of these."""
        gpus = machine(node)
        # Two plugins on one node use the same kubelet socket for a resource: the one that registers last wins.
        ordered = sorted(pods, key=lambda p: p["metadata"]["creationTimestamp"])
        alive = [pod for pod in ordered if not pod["metadata"].get("deletionTimestamp")]
        running = functools.partial(self._running, alive, node, gpus)
        daemons = running(podconfig.MPS_DAEMON)
        self._daemons(daemons, pods)
        built_in = _built_in(node, gpus)
        self._compute_mode(node, daemons, stopped, built_in)
        every = running(podconfig.PLUGIN)
        registered = [plugin for plugin in every if self._registered(plugin, daemons, events)]
        self._check_health(registered, events)
        serving = [_Serving.of(plugin) for plugin in registered]
        plugins = serving if built_in is None else [built_in, *serving]  # that one has been there since the machine came up
        self._admit(node, ordered, plugins)
        self._advertise(node, plugins)
        for program in running(podconfig.FEATURE_DISCOVERY):
            self._label(node, program, gpus)
        up = len(registered) == len(every) and all(program.up for program in daemons)
        return up and self._programs.all_run({pod["metadata"]["uid"] for pod in pods})

    def _running(self, pods: list[Json], node: Json, gpus: sharing.Gpus, kind: str) -> list[Program]:
        found = (self._programs.running(pod, node, kind, gpus) for pod in pods)
        return [program for program in found if program is not None]

    def _daemons(self, daemons: list[Program], pods: list[Json]) -> None:
        """Start the servers of MPS control daemons; one that cannot tries again, and its readiness probe fails meanwhile."""
        taken = {(mps.host_root(p.pod, p.container), name) for p in daemons if p.up for name in p.serving}
        for program in daemons:
            if not program.up:
                why = self._obstacle(program, pods, taken)
                program.up = why is None
                self._programs.say(program, f"Failed to start MPS daemon: {why}" if why else _started(program), "E" if why else INFO)
            ready = mps.probe_succeeds(program.container, program.serving if program.up else frozenset(), program.up)
            self._programs.set_ready(program, ready)

    def _obstacle(self, program: Program, pods: list[Json], taken: set[tuple[str | None, str]]) -> str | None:
        if not program.serving:
            return None
        if not mps.may_set_compute_mode(program.container):
            return f"error setting compute mode {mps.EXCLUSIVE}: error running nvidia-smi: exit status 4 (Insufficient Permissions)"
        if any((mps.host_root(program.pod, program.container), name) in taken for name in program.serving):
            return "exit status 1 (An instance of this daemon is already running)"
        if foreign := sorted(pod["metadata"]["name"] for pod in pods if self._holds_whole(pod)):
            return f"the GPU is used without MPS by {', '.join(foreign)}: CUDA-capable device(s) is/are busy or unavailable"
        return None

    def _holds_whole(self, pod: Json) -> bool:
        """Whether the pod has got a GPU, or a share of one, from a plugin without MPS."""
        over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        return not over and self._given.get(pod["metadata"]["uid"], "mps") != "mps"

    def _compute_mode(self, node: Json, daemons: list[Program], stopped: list[Program], built_in: _Serving | None) -> None:
        """EXCLUSIVE_PROCESS while a daemon runs its servers; a daemon that is told to stop sets DEFAULT, one that is killed does not."""
        present = (node["metadata"].get("annotations") or {}).get(nodes.COMPUTE_MODE)
        wanted = present
        if any(program.up and program.serving for program in daemons) or (built_in is not None and built_in.config.strategy == "mps"):
            wanted = mps.EXCLUSIVE
        elif any(p.kind == podconfig.MPS_DAEMON and p.up and p.serving and p.uid in self._told for p in stopped):
            wanted = mps.DEFAULT
        if wanted != present:
            self._kube.merge(f"/api/v1/nodes/{node['metadata']['name']}", {"metadata": {"annotations": {nodes.COMPUTE_MODE: wanted}}})

    def _registered(self, plugin: Program, daemons: list[Program], events: list[health.Event]) -> bool:
        """Whether kubelet knows the plugin: one with MPS registers once the daemon answers, and does not ask again later (mps.go)."""
        if plugin.up or plugin.config is None:
            return plugin.up
        root = mps.host_root(plugin.pod, plugin.container)
        served = {name for d in daemons if d.up and mps.host_root(d.pod, d.container) == root for name in d.serving}
        plugin.up = plugin.config.strategy != "mps" or served.issuperset(plugin.devices)
        if plugin.up:
            registered = "; ".join(f"Registered device plugin for '{name}' with Kubelet" for name in plugin.devices)
            self._programs.say(plugin, registered or "No devices found. Waiting indefinitely.", INFO)
            plugin.xids = {event.id for event in events}  # it listens from now on
        else:
            self._programs.say(plugin, _NO_DAEMON)
        return plugin.up

    def _check_health(self, plugins: list[Program], events: list[health.Event]) -> None:
        """A GPU with a critical error stays unhealthy as long as the plugin's pod lives (server.go, ListAndWatch)."""
        for plugin in plugins:
            for event in events:
                if event.id in plugin.xids:
                    continue
                plugin.xids.add(event.id)
                if health.ignored(event.xid, plugin.settings):
                    self._programs.say(plugin, f"Skipping event Xid={event.xid}", INFO)
                    continue
                plugin.unhealthy.add(event.gpu)
                self._programs.say(plugin, f"XidCriticalError: Xid={event.xid} on GPU {event.gpu}; marking device as unhealthy.", INFO)

    def _admit(self, node: Json, pods: Iterable[Json], plugins: list[_Serving]) -> None:
        """Kubelet asks the plugins for each pod's devices, once."""
        name = node["metadata"]["name"]
        refusing = {}
        for plugin in plugins:
            for resource in plugin.devices:
                self._strategies[name, resource] = plugin.config.strategy
                refusing[resource] = admission.refuses_several(plugin.config, plugin.image, resource)
        for pod in pods:
            uid, phase = pod["metadata"]["uid"], pod.get("status", {}).get("phase")
            asked = [resource for resource, number in admission.requests(pod) if number]
            if not asked or uid in self._given or phase != "Running":
                continue
            self._given[uid] = self._strategies.get((name, asked[0]), "none")
            if (message := admission.refusal(pod, refusing)) is not None:
                metadata = pod["metadata"]
                path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
                self._kube.merge(path, podstatus.rejected(admission.REASON, message))
                _log.info("%s: pod %s: %s", self._cluster, metadata["name"], message)

    def _advertise(self, node: Json, plugins: list[_Serving]) -> None:
        """Capacity and allocatable; a resource that is not served any more stays at 0, as kubelet keeps it (kubernetes #92396)."""
        capacity: dict[str, int] = {}
        allocatable: dict[str, int] = {}
        for plugin in plugins:
            for resource, by_gpu in plugin.devices.items():
                capacity[resource] = sum(by_gpu.values())
                # health.go knows one device of each GPU by its UUID, so that an event takes away one share alone
                allocatable[resource] = capacity[resource] - len(plugin.unhealthy & by_gpu.keys())
        change = {
            field: _changes(node["status"].get(field) or {}, wanted)
            for field, wanted in (("capacity", capacity), ("allocatable", allocatable))
        }
        if not any(change.values()):
            return
        name = node["metadata"]["name"]
        self._kube.merge(f"/api/v1/nodes/{name}/status", {"status": change})
        said = ", ".join(f"{k}: {v}" for k, v in sorted(change["allocatable"].items()))
        _log.info("%s: node %s advertises %s", self._cluster, name, said)

    def _label(self, node: Json, program: Program, gpus: sharing.Gpus) -> None:
        """Feature discovery looks again and again at the machine, with the config that it has read once."""
        if gpus.count == 0:
            return
        try:
            wanted = features.labels(t.cast(sharing.Config, program.config), gpus, _model(node))
        except sharing.ConfigRefused as error:
            self._programs.crash(program, str(error))
            return
        present = node["metadata"].get("labels") or {}
        if change := {k: v for k, v in wanted.items() if present.get(k) != v}:
            self._kube.merge(f"/api/v1/nodes/{node['metadata']['name']}", {"metadata": {"labels": change}})

    def _refuse(self, pod: Json, error: sharing.NotImitated) -> None:
        """Say once for each pod, in the log and as an event of the node, that nothing is advertised and why."""
        node, key = pod["spec"]["nodeName"], (pod["metadata"]["uid"], str(error))
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


def machine(node: Json) -> sharing.Gpus:
    """The node's GPUs, as its annotations of the simulation have them."""
    annotations = node["metadata"].get("annotations") or {}
    model = _model(node)
    layouts = json.loads(annotations.get(nodes.MIG) or "[]")
    return sharing.Gpus(
        count=int(annotations.get(nodes.GPUS, 0)),
        mig=tuple(None if layout is None else tuple(layout) for layout in layouts),
        compute=model.compute if model else None,
    )


def _built_in(node: Json, gpus: sharing.Gpus) -> _Serving | None:
    """Bottlerocket's own plugin."""
    settings = (node["metadata"].get("annotations") or {}).get(nodes.DEVICE_PLUGIN)
    if settings is None:
        return None
    config = builtin.config(json.loads(settings))
    return _Serving(config, sharing.devices(config, gpus))


def _model(node: Json) -> features.Model | None:
    annotations = node["metadata"].get("annotations") or {}
    return features.model(annotations.get(nodes.GPU_MODEL, ""), int(annotations.get(nodes.GPU_MEMORY, 0)))


def _started(program: Program) -> str:
    if not program.serving:
        return "No devices are configured for MPS sharing; Waiting indefinitely."
    return "; ".join(f"Staring MPS daemon resource={name}" for name in sorted(program.serving))


def _changes(present: Json, wanted: dict[str, int]) -> dict[str, str]:
    stale = {name: "0" for name in present if name.startswith(sharing.PREFIX)}
    return {k: v for k, v in (stale | {k: str(v) for k, v in wanted.items()}).items() if present.get(k) != v}
