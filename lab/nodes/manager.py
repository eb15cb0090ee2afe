"""The loops of all clusters."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from lab.clock import Clock
from lab.kubernetes.client import Mirror
from lab.kubernetes.controlplane import ControlPlane
from lab.nodes import health
from lab.nodes.deviceplugin import DevicePlugins, relevant
from lab.nodes.drains import ManagedDrains
from lab.nodes.logs import Logs
from lab.nodes.loop import Loop
from lab.nodes.operator import GpuOperator
from lab.nodes.operator import relevant as of_operator
from lab.nodes.registrar import AwsClients, NodeFaults, Registrar


@dataclass(frozen=True, slots=True)
class _Running:
    mirrors: tuple[Mirror, ...]
    loops: tuple[Loop, ...]


class NodeLoops:
    """Starts a cluster's loops when its control plane is ready and stops them before it goes."""

    def __init__(
        self, clients: AwsClients, clock: Clock, faults: NodeFaults = lambda _type, _zone: None, events: health.Events = health.none
    ) -> None:
        self._clients, self._clock, self._faults, self._events = clients, clock, faults, events
        self._lock = threading.Lock()
        self._running: dict[str, _Running] = {}

    def start(self, plane: ControlPlane) -> None:
        kube, wake, name = plane.kube(), threading.Event(), plane.cluster.name
        nodes = Mirror(kube, "/api/v1/nodes", wake)
        pods = Mirror(kube, "/api/v1/pods", wake, relevant)
        registrar = Registrar(plane.cluster, kube, nodes.objects, self._clients, self._clock, self._faults)
        logs = Logs()
        plane.kubelets.sources.append(logs.read)
        plugins = DevicePlugins(name, kube, pods.objects, nodes.objects, logs, self._events, wake)
        pods.observe = plugins.observe
        cluster = plane.cluster
        drains = ManagedDrains(cluster, kube, nodes.objects, lambda service: self._clients(service, cluster.account, cluster.region))
        parted = Mirror(kube, "/api/v1/pods", operator_wake := threading.Event(), of_operator)
        operator = GpuOperator(name, kube, parted.objects, nodes.objects, self._clock, operator_wake)
        running = _Running((nodes, pods, parted), (registrar, plugins, drains, operator))
        with self._lock:
            self._running[plane.cluster.arn] = running
        for thread in (*running.mirrors, *running.loops):
            thread.start()

    def stop(self, plane: ControlPlane) -> None:
        with self._lock:
            running = self._running.pop(plane.cluster.arn, None)
        if running is not None:
            for loop in running.loops:
                loop.stop()
            for mirror in running.mirrors:
                mirror.stop()
