"""NVIDIA's programs in the pods of one cluster: which have started and with what, what kubelet says of them, what they write."""

from __future__ import annotations

import datetime
import logging
import time
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
    address: str  # of the node
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
        self._restless: set[tuple[str, str]] = set()  # programs that have to be started again
        self._taken: set[str] = set()  # pods whose status has been written
        self._maps: dict[tuple[str, str], dict[str, str] | None] = {}  # ConfigMaps that have been read in this look

    def keep_only(self, uids: Container[str]) -> list[Program]:
        """Begin another look: forget the pods that are gone; returns their programs."""
        self._maps.clear()
        self._taken = {uid for uid in self._taken if uid in uids}
        self._restless &= self._programs.keys()
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
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return None
        again = program is not None and program.config is None and time.monotonic() - program.tried > RETRY_SECONDS
        if program is None or program.label != label or again:
            address = next((a["address"] for a in node["status"].get("addresses") or () if a["type"] == "InternalIP"), "")
            program = self._programs[key] = self._start(Program(kind, pod, container, label, address=address, gpus=gpus), program)
        if program.config is None:
            self._restless.add(key)
            return None
        self._restless.discard(key)
        return program

    def all_run(self, uids: Container[str]) -> bool:
        """Whether no program of these pods has to be started again."""
        return not any(uid in uids for uid, _container in self._restless)

    def say(self, program: Program, message: str, level: str = ERROR) -> None:
        """Write to the container's log what is new; the same again and again is written once."""
        if program.said != message:
            program.said = message
            self._logs.say(program.pod, program.container["name"], message, level=level)

    def set_ready(self, program: Program, ready: bool) -> None:
        """Write what the readiness probe finds to the pod's status."""
        if program.ready != ready:
            program.ready = ready
            self._write_status(program)

    def crash(self, program: Program, message: str) -> None:
        """The program ends with this; it is started again later."""
        program.config, program.tried = None, time.monotonic()
        self._restless.add((program.uid, program.container["name"]))
        program.waiting = self._crash(program, program.container, message)
        self._write_status(program)

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
        if program.kind == podconfig.MPS_DAEMON:
            program.ready = mps.probe_succeeds(program.container, frozenset(), started=False)
        if before is None or (before.waiting, before.ready) != (program.waiting, program.ready):
            self._write_status(program)
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

    def _write_status(self, program: Program) -> None:
        """As kubelet does, which writes all of the status when it takes the pod."""
        metadata, name, why, now = program.pod["metadata"], program.container["name"], program.waiting, datetime.datetime.now(datetime.UTC)
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        # As long as nothing has been written nobody else has either.
        current = self._kube.get(path) if program.uid in self._taken else podstatus.started(program.pod, program.address, now)
        if current is None or current["metadata"]["uid"] != program.uid:
            return
        self._taken.add(program.uid)
        if why is not None:
            _log.warning("%s: pod %s: %s: %s", self._cluster, metadata["name"], why.reason, why.message)
            change = podstatus.waiting(current, why, now)
        else:
            change = podstatus.running(current, now, name) if program.ready else podstatus.unready(current, name, now)
        self._kube.merge(f"{path}/status", change)

    def _config_map(self, namespace: str, name: str) -> dict[str, str] | None:
        if (namespace, name) not in self._maps:
            found = self._kube.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
            self._maps[namespace, name] = None if found is None else found.get("data") or {}
        return self._maps[namespace, name]
