"""NVIDIA's programs in the pods of one cluster: which have started and with what, what kubelet says of them, what they write."""

from __future__ import annotations

import datetime
import logging
import time
import typing as t
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field

from lab.kubernetes.client import Json, Kube
from lab.nodes import mps, podconfig, podstatus, sharing
from lab.nodes.logs import ERROR, Logs

RETRY_SECONDS = 2.0
_TITLES = {
    podconfig.PLUGIN: "Starting NVIDIA Device Plugin",
    podconfig.MPS_DAEMON: "NVIDIA MPS Control Daemon",
    podconfig.FEATURE_DISCOVERY: "Starting NVIDIA GPU Feature Discovery",
}
_log = logging.getLogger(__name__)

Refuse = Callable[[Json, sharing.NotImitated], None]


@dataclass(slots=True)
class Program:
    """A container that has been started, or has tried to. What it found on the machine when it started does not change for it."""

    kind: str
    pod: Json
    container: Json
    label: str
    tried: float = field(default_factory=time.monotonic)
    config: sharing.Config | None = None
    gpus: sharing.Gpus = field(default_factory=lambda: sharing.Gpus(count=0))
    devices: sharing.Devices = field(default_factory=dict)  # of a plugin
    serving: frozenset[str] = frozenset()  # of an MPS control daemon
    up: bool = False  # a plugin has registered, a daemon has started its servers
    ready: bool = True  # what its pod's status says
    waiting: podstatus.Waiting | None = None
    said: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)  # its environment and command line
    xids: set[str] = field(default_factory=set)  # events that it has seen, or that came before it
    unhealthy: set[int] = field(default_factory=set)  # GPUs

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])


class Programs:
    """Starts containers as kubelet does, again and again where they end; ``refuse`` says what the lab does not imitate."""

    def __init__(self, cluster: str, kube: Kube, logs: Logs, refuse: Refuse) -> None:
        self._cluster, self._kube, self._logs, self._refuse = cluster, kube, logs, refuse
        self._programs: dict[tuple[str, str], Program] = {}  # by pod and container

    def keep_only(self, uids: Container[str]) -> list[Program]:
        """Forget the pods that are gone; returns their programs."""
        gone = [program for program in self._programs.values() if program.uid not in uids]
        self._programs = {key: program for key, program in self._programs.items() if program.uid in uids}
        return gone

    def running(self, pod: Json, node: Json, kind: str, gpus: sharing.Gpus) -> Program | None:
        """The program that runs in the pod, None when it has none of this kind or that does not run."""
        container = podconfig.container_of(pod, kind)
        if container is None:
            return None
        label = (node["metadata"].get("labels") or {}).get(podconfig.CONFIG_LABEL, "")
        if kind == podconfig.MPS_DAEMON or podconfig.config_manager(pod, sidecar=True) is None:
            label = ""  # nothing in this pod looks at the label, or nothing signals the program (k8s-device-plugin, pull request 1827)
        key = (pod["metadata"]["uid"], container["name"])
        program = self._programs.get(key)
        if program is None and podstatus.condition(pod, "Ready") != "True":
            return None
        again = program is not None and program.config is None and time.monotonic() - program.tried > RETRY_SECONDS
        if program is None or program.label != label or again:
            program = self._programs[key] = self._start(Program(kind, pod, container, label, gpus=gpus), program)
        return None if program.config is None else program

    def say(self, program: Program, message: str, level: str = ERROR) -> None:
        """Write to the container's log what is new; the same again and again is written once."""
        if program.said != message:
            program.said = message
            self._logs.say(program.pod, program.container["name"], message, level=level)

    def set_ready(self, program: Program, ready: bool) -> None:
        """Write what the readiness probe finds to the pod's status."""
        if program.ready == ready:
            return
        name = program.container["name"]
        self._write(program.pod, lambda pod, now: podstatus.running(pod, now) if ready else podstatus.unready(pod, name, now))
        program.ready = ready

    def crash(self, program: Program, message: str) -> None:
        """The program ends with this; it is started again later."""
        before = program.waiting
        program.config, program.tried = None, time.monotonic()
        program.waiting = self._crash(program, program.container, message)
        self._write_waiting(program, before)

    def _start(self, program: Program, before: Program | None) -> Program:
        name, pod = program.container["name"], program.pod
        try:
            file = podconfig.config_file(pod, program.container, program.label, self._config_map)
            self._logs.begin(pod, name)
            self._logs.say(pod, name, _TITLES[program.kind], "Starting OS watcher.", "Loading configuration.")
            program.settings = file.settings
            config = sharing.parse(file.text, file.settings)
            self._check(program, config)
            program.config = config
        except sharing.NotImitated as error:
            self._refuse(pod, error)
        except podconfig.NotMounted as error:
            program.waiting = podstatus.Waiting(container=name, reason="ContainerCreating", message=str(error), crashed=False)
            self._logs.wait(pod, name, "ContainerCreating")
        except podconfig.InitFailed as error:
            manager = podconfig.config_manager(pod, sidecar=False) or podconfig.config_manager(pod, sidecar=True) or program.container
            program.waiting = self._crash(program, manager, str(error))
        except (sharing.ConfigRefused, FileNotFoundError) as error:
            program.waiting = self._crash(program, program.container, str(error))
        self._write_waiting(program, before.waiting if before else None)
        return program

    def _crash(self, program: Program, container: Json, message: str) -> podstatus.Waiting:
        """The container has ended with this message."""
        if container is not program.container:
            self._logs.wait(program.pod, program.container["name"], "PodInitializing")
            self._logs.begin(program.pod, container["name"])
        self._logs.say(program.pod, container["name"], message, level=ERROR)
        return podstatus.Waiting(container=container["name"], reason="CrashLoopBackOff", message=message, crashed=True)

    def _check(self, program: Program, config: sharing.Config) -> None:
        """What the program makes of its config on this machine; raises ConfigRefused."""
        if program.kind == podconfig.PLUGIN:
            program.devices = sharing.devices(config, program.gpus)
        elif program.kind == podconfig.MPS_DAEMON:
            program.serving = mps.served(config, program.gpus)

    def _write_waiting(self, program: Program, before: podstatus.Waiting | None) -> None:
        why = program.waiting
        if why == before:
            return
        if why is not None:
            _log.warning("%s: pod %s: %s: %s", self._cluster, program.pod["metadata"]["name"], why.reason, why.message)
        self._write(program.pod, lambda pod, now: podstatus.running(pod, now) if why is None else podstatus.waiting(pod, why, now))

    def _write(self, pod: Json, change: Callable[[Json, datetime.datetime], Json]) -> None:
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        current = self._kube.get(path)
        if current is not None and current["metadata"]["uid"] == metadata["uid"]:
            self._kube.merge(f"{path}/status", change(current, datetime.datetime.now(datetime.UTC)))

    def _config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        found = self._kube.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        return None if found is None else t.cast("dict[str, str]", found.get("data") or {})
