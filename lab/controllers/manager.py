"""The controllers of all clusters: each runs as long as a pod of it does."""

from __future__ import annotations

import datetime
import logging
import threading
import time
import typing as t
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import requests
import yaml
from botocore.exceptions import BotoCoreError, ClientError

from lab.clock import Clock
from lab.controllers import podidentity, podspec
from lab.controllers.contracts import CannotStart, Context, Controller, Running
from lab.kubernetes import kubeconfig
from lab.kubernetes.client import Access, ApiError, Json, Kube, Mirror
from lab.kubernetes.controlplane import ControlPlane
from lab.nodes import podstatus
from lab.nodes.loop import Loop
from lab.nodes.registrar import AwsClients
from lab.supervisor import Supervisor

TOKEN_SECONDS = 24 * 3600
FIRST_BACKOFF_SECONDS, LAST_BACKOFF_SECONDS = 2.0, 30.0
STEADY_SECONDS = 60.0  # what ran for so long and ended starts anew with the first backoff
_PLURALS = {"ConfigMap": "configmaps", "Secret": "secrets"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lent:
    """What the controllers of all clusters share."""

    clients: AwsClients
    endpoint: Callable[[], str]
    supervisor: Supervisor
    clock: Clock


@dataclass(slots=True)
class _Place:
    """The pod that a controller runs for, as leader election would choose one."""

    controller: Controller
    uid: str
    running: Running | None = None
    started: float = 0.0
    failures: int = 0
    retry_at: float = field(default_factory=time.monotonic)

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()
            self.running = None


class ControllerLoop(Loop):
    """One cluster's controllers. ``pods`` has only those that a controller matches."""

    def __init__(
        self,
        plane: ControlPlane,
        kube: Kube,
        pods: Callable[[], list[Json]],
        kinds: tuple[Controller, ...],
        lent: Lent,
        wake: threading.Event,
    ) -> None:
        super().__init__(f"controllers {plane.cluster.name}", every=0.5, wake=wake)
        self._plane, self._kube, self._pods, self._kinds, self._lent = plane, kube, pods, kinds, lent
        self._places: dict[str, _Place] = {}
        self._busy = threading.Lock()

    def step(self) -> None:
        pods = [pod for pod in self._pods() if _runs(pod)]
        with self._busy:
            for controller in self._kinds:
                if self._stopping.is_set():
                    return
                self._keep(controller, [pod for pod in pods if controller.matches(pod)])

    def end(self) -> None:
        """Stop the loop and all that it has started; returns when nothing of it runs."""
        self.stop()
        with self._busy:
            for place in self._places.values():
                place.stop()
            self._places.clear()

    def _keep(self, controller: Controller, pods: list[Json]) -> None:
        place = self._places.get(controller.name)
        pod = next((p for p in pods if place is not None and p["metadata"]["uid"] == place.uid), None)
        if place is not None and pod is None:
            place.stop()
            del self._places[controller.name]
            _log.info("%s: %s stopped: its pod is gone", self._plane.cluster.name, controller.name)
        if pod is None or place is None:
            ready = (p for p in pods if podstatus.condition(p, "Ready") == "True")
            pod = min(ready, key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]), default=None)
            if pod is None:
                return
            place = self._places[controller.name] = _Place(controller, pod["metadata"]["uid"])
        if place.running is not None:
            self._watch(place, place.running, pod)
        elif time.monotonic() >= place.retry_at:
            self._start(place, pod)

    def _watch(self, place: _Place, running: Running, pod: Json) -> None:
        why = running.poll()
        if why is None:
            return
        if time.monotonic() - place.started > STEADY_SECONDS:
            place.failures = 0
        place.stop()
        self._failed(place, pod, f"{place.controller.name} ended: {why}")

    def _start(self, place: _Place, pod: Json) -> None:
        try:
            place.running = place.controller.start(self._context(place.controller, pod))
        except (CannotStart, podspec.Unresolved, ApiError, requests.RequestException, BotoCoreError, ClientError, OSError) as error:
            self._failed(place, pod, str(error))
            return
        place.started = time.monotonic()
        _log.info("%s: %s started for pod %s", self._plane.cluster.name, place.controller.name, pod["metadata"]["name"])
        if place.failures:
            self._write_status(pod, podstatus.running)

    def _failed(self, place: _Place, pod: Json, why: str) -> None:
        """As kubelet does: CrashLoopBackOff, an event, and later again."""
        place.retry_at = time.monotonic() + min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2**place.failures)
        place.failures += 1
        _log.warning("%s: pod %s: %s", self._plane.cluster.name, pod["metadata"]["name"], why)
        container = podspec.container_of(pod, place.controller.repository)
        waiting = podstatus.Waiting(container=(container or {})["name"], reason="CrashLoopBackOff", message=why, crashed=True)
        self._write_status(pod, lambda current, now: podstatus.waiting(current, waiting, now))
        self._event(pod, why)

    def _write_status(self, pod: Json, change: Callable[[Json, datetime.datetime], Json]) -> None:
        path = _path(pod)
        current = self._kube.get(path)
        if current is not None and current["metadata"]["uid"] == pod["metadata"]["uid"]:
            self._kube.merge(f"{path}/status", change(current, datetime.datetime.now(datetime.UTC)))

    def _event(self, pod: Json, message: str) -> None:
        metadata, now = pod["metadata"], datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        reference = {"apiVersion": "v1", "kind": "Pod"} | {key: metadata[key] for key in ("namespace", "name", "uid")}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": reference,
            "type": "Warning",
            "reason": "BackOff",
            "message": message[:1000],
            "source": {"component": "gpuops-lab"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._kube.call("POST", f"/api/v1/namespaces/{metadata['namespace']}/events", event)

    def _context(self, controller: Controller, pod: Json) -> Context:
        container = podspec.container_of(pod, controller.repository)
        if container is None:
            raise CannotStart(f"pod {pod['metadata']['name']} has no container of {controller.repository}")
        variables = podspec.environment(pod, container, lambda kind, name: self._data(pod["metadata"]["namespace"], kind, name))
        keys = podidentity.credentials(self._lent.clients, self._plane.cluster, pod)
        token = self._token(pod)
        ca = self._kube.access.ca
        path = self._plane.directory / f"{controller.name}.kubeconfig"
        path.touch(mode=0o600)
        server = {"server": self._kube.access.url, "certificate-authority": str(ca)}
        path.write_text(yaml.safe_dump(kubeconfig.build(self._plane.cluster.name, server, {"token": token})))
        return Context(
            cluster=self._plane.cluster,
            pod=pod,
            container=container,
            command=podspec.command(container, variables),
            environment=variables,
            credentials=keys,
            endpoint=self._lent.endpoint(),
            kube=Kube(Access(self._kube.access.url, ca, token=token)),
            kubeconfig=path,
            directory=self._plane.directory,
            name=f"{self._plane.directory.name}/{controller.name}",
            log=self._plane.directory / f"{controller.name}.log",
            supervisor=self._lent.supervisor,
            clock=self._lent.clock,
        )

    def _token(self, pod: Json) -> str:
        """A token of the pod's service account, good as long as the pod is there (TokenRequest, boundObjectRef)."""
        metadata = pod["metadata"]
        reference = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": TOKEN_SECONDS, "boundObjectRef": reference},
        }
        account = pod["spec"].get("serviceAccountName", "default")
        path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
        return str(self._kube.call("POST", path, body)["status"]["token"])

    def _data(self, namespace: str, kind: str, name: str) -> Mapping[str, str] | None:
        found = self._kube.get(f"/api/v1/namespaces/{namespace}/{_PLURALS[kind]}/{name}")
        if found is None:
            return None
        data: dict[str, str] = found.get("data") or {}
        return data if kind == "ConfigMap" else {key: b64decode(value).decode() for key, value in data.items()}


class Controllers:
    """Starts a cluster's loop when its control plane is ready and ends it, with what it started, before that goes."""

    def __init__(self, kinds: t.Iterable[Controller], lent: Lent) -> None:
        self._kinds, self._lent = tuple(kinds), lent
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Mirror, ControllerLoop]] = {}

    def start(self, plane: ControlPlane) -> None:
        kube, wake = plane.kube(), threading.Event()
        pods = Mirror(kube, "/api/v1/pods", wake, lambda pod: any(kind.matches(pod) for kind in self._kinds))
        loop = ControllerLoop(plane, kube, pods.objects, self._kinds, self._lent, wake)
        with self._lock:
            self._running[plane.cluster.arn] = (pods, loop)
        pods.start()
        loop.start()

    def stop(self, plane: ControlPlane) -> None:
        with self._lock:
            found = self._running.pop(plane.cluster.arn, None)
        if found is not None:
            found[0].stop()
            found[1].end()


def _runs(pod: Json) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")


def _path(pod: Json) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
