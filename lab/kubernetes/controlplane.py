"""Control planes: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and KWOK, one set for each EKS cluster."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
import yaml

from lab.binaries import ControlPlaneBinaries
from lab.contracts import NODE_PROGRAMS, ClusterRef, ControlPlaneFailed, Endpoint
from lab.kubernetes import access, kubeconfig, pki
from lab.kubernetes.client import Access, Json, Kube
from lab.kubernetes.kubelets import Kubelets
from lab.state import State
from lab.supervisor import HOST, Child, ProcessEnded, Supervisor, free_ports, wait_until

BOOT_ATTEMPTS = 3  # a port found free may be taken before the program binds it
BOOT_SECONDS = 120.0
STOP_SECONDS = 1.0  # its data is deleted next: nothing is lost by not waiting for long-lived watches
SERVICE_RANGE = "10.100.0.0/16"
_log = logging.getLogger(__name__)

Binaries = Callable[[], ControlPlaneBinaries]

#: Every write of everybody; reads of people. RequestReceived would double each line, and readiness probes say nothing.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*", "/version", "/openapi*", "/api", "/api/*", "/apis*"]},
        {
            "level": "None",
            "verbs": ["get", "list", "watch"],
            "users": ["system:apiserver", *(user for user in pki.CLIENTS.values() if user.startswith("system:"))],
        },
        {"level": "Metadata"},
    ],
}


class ControlPlane:
    """One cluster's processes and files. ``boot`` runs in a thread of its own; the other methods may be called from any."""

    def __init__(self, cluster: ClusterRef, state: State, supervisor: Supervisor, binaries: Binaries, webhook: str) -> None:
        self.cluster = cluster
        self.directory = state.cluster(cluster)
        self.audit_log = state.audit_log(cluster)
        self._supervisor, self._find_binaries, self._webhook = supervisor, binaries, webhook
        self._children: list[Child] = []
        self.kubelets = Kubelets()
        self._lock = threading.Lock()
        self._booting, self._ending = threading.Lock(), threading.Lock()
        self._stopped = False
        self._endpoint: Endpoint | None = None
        self._failure: str | None = None
        self.timings: dict[str, float] = {}

    def boot(self, ready: Callable[[ControlPlane], None]) -> None:
        """Start everything and call ``ready``; a failure is kept for ``endpoint``."""
        try:
            self._binaries = self._find_binaries()
            with self._booting:
                self._boot_with_free_ports()
                ready(self)
        except Exception as error:  # noqa: BLE001 - whatever it was, the cluster has failed and DescribeCluster must be able to say why
            if not self._stopped:
                _log.exception("%s: control plane failed", self.cluster.name)
                self._failure = f"control plane of {self.cluster.name}: {error}"
            self._stop_children()

    def endpoint(self) -> Endpoint | None:
        """None while it boots; raises ControlPlaneFailed when that failed or a process has ended since."""
        if self._failure is not None:
            raise ControlPlaneFailed(self._failure)
        if self._endpoint is not None and not self._stopped:
            try:
                self._require_running()
            except ProcessEnded as error:
                raise ControlPlaneFailed(str(error)) from error
        return self._endpoint

    def stop(self) -> None:
        """End the processes and remove the data. The audit log stays until the lab goes: tests read it after a teardown."""
        self._stopped = True
        self._stop_children()
        with self._booting:  # which ends soon, since its next step sees that it shall not be
            self._stop_children()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kube(self, client: str = "loops") -> Kube:
        """A client with one of pki.CLIENTS' certificates."""
        certificates = self.directory / "pki"
        url = (self.directory / "url").read_text()
        return Kube(Access(url, certificates / "ca.crt", certificates / f"{client}.crt", certificates / f"{client}.key"))

    def _boot_with_free_ports(self) -> None:
        for attempt in range(1, BOOT_ATTEMPTS + 1):
            try:
                self._boot()
                return
            except ProcessEnded as error:
                if "address already in use" not in str(error) or attempt == BOOT_ATTEMPTS:
                    raise
                _log.warning("%s: a port was taken meanwhile, booting again", self.cluster.name)
                self._stop_children()

    def _boot(self) -> None:
        begin = time.monotonic()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.audit_log.parent.mkdir(parents=True, exist_ok=True)
        client, peer, api, manager, scheduler, kwok = free_ports(6)
        url = f"https://{HOST}:{api}"
        self._etcd(client, peer)
        pki.write(self.directory / "pki")
        environment = self.kubelets.start(self.directory / "pki")
        (self.directory / "url").write_text(url)
        self._write_configuration(url)
        self._apiserver(client, api, environment)
        kube = self.kube()
        self._wait("etcd and kube-apiserver", kube.ready)
        self.timings["kube-apiserver ready"] = time.monotonic() - begin
        self._controllers(manager, scheduler, kwok)
        access.install(kube)
        self._wait("the default service account", lambda: kube.get("/api/v1/namespaces/default/serviceaccounts/default") is not None)
        self.timings["cluster ready"] = time.monotonic() - begin
        self._write_about(url)
        self._endpoint = Endpoint(url=url, certificate_authority_pem=(self.directory / "pki" / "ca.crt").read_bytes())
        _log.info("%s: control plane ready: %s", self.cluster.name, ", ".join(f"{k} {v:.1f} s" for k, v in self.timings.items()))

    def _start(self, program: str, path: Path, arguments: list[str], env: Mapping[str, str] | None = None) -> None:
        with self._lock:
            if self._stopped:
                raise ProcessEnded(f"{self.cluster.name} is being deleted")
            name = f"{self.directory.name}/{program}"
            log = self.directory / f"{program}.log"
            self._children.append(self._supervisor.start(name, [str(path), *arguments], log=log, cwd=self.directory, env=env))

    def _stop_children(self) -> None:
        """Returns when none is left, also of those that another thread is stopping."""
        with self._ending:
            with self._lock:
                children, self._children = list(reversed(self._children)), []
            self._supervisor.stop(children, STOP_SECONDS)
            self.kubelets.stop()

    def _require_running(self) -> None:
        with self._lock:
            children = list(self._children)
        for child in children:
            child.require_running()

    def _wait(self, what: str, probe: Callable[[], bool]) -> None:
        def running() -> bool:
            if self._stopped:
                raise ProcessEnded(f"{self.cluster.name} is being deleted")
            self._require_running()
            return probe()

        wait_until(what, running, BOOT_SECONDS)

    def _etcd(self, client: int, peer: int) -> None:
        arguments = [
            "--data-dir=etcd",
            f"--listen-client-urls=http://{HOST}:{client}",
            f"--advertise-client-urls=http://{HOST}:{client}",
            f"--listen-peer-urls=http://{HOST}:{peer}",
            f"--initial-advertise-peer-urls=http://{HOST}:{peer}",
            f"--initial-cluster=default=http://{HOST}:{peer}",
            "--unsafe-no-fsync",
            "--quota-backend-bytes=8589934592",
            "--log-level=warn",
        ]
        self._start("etcd", self._binaries.etcd, arguments)
        self._wait("etcd", lambda: _healthy(f"http://{HOST}:{client}/health"))

    def _apiserver(self, etcd: int, port: int, environment: Mapping[str, str]) -> None:
        arguments = [
            f"--etcd-servers=http://{HOST}:{etcd}",
            f"--bind-address={HOST}",
            f"--advertise-address={HOST}",
            f"--secure-port={port}",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=pki/sa.pub",
            "--service-account-signing-key-file=pki/sa.key",
            "--client-ca-file=pki/ca.crt",
            "--requestheader-client-ca-file=pki/ca.crt",
            "--requestheader-allowed-names=front-proxy",  # 1.36 wants names where this CA is also the clients' CA
            "--tls-cert-file=pki/server.crt",
            "--tls-private-key-file=pki/server.key",
            "--cert-dir=certificates",
            "--authentication-token-webhook-config-file=webhook.kubeconfig",
            "--authentication-token-webhook-version=v1",
            "--authentication-token-webhook-cache-ttl=2s",
            "--audit-policy-file=audit-policy.yaml",
            f"--audit-log-path={self.audit_log}",
        ]
        self._start("kube-apiserver", self._binaries.kube_apiserver, arguments, environment)

    def _controllers(self, manager: int, scheduler: int, kwok: int) -> None:
        self._start(
            "kube-controller-manager",
            self._binaries.kube_controller_manager,
            [
                "--kubeconfig=kube-controller-manager.kubeconfig",
                f"--bind-address={HOST}",
                f"--secure-port={manager}",
                "--leader-elect=false",
                "--controllers=*",
                "--service-account-private-key-file=pki/sa.key",
                "--root-ca-file=pki/ca.crt",
                "--kube-api-qps=1000",
                "--kube-api-burst=2000",
                "--cert-dir=certificates",
            ],
        )
        self._start(
            "kube-scheduler",
            self._binaries.kube_scheduler,
            [
                "--config=scheduler.yaml",
                f"--bind-address={HOST}",
                f"--secure-port={scheduler}",
                "--authentication-tolerate-lookup-failure=true",
            ],
        )
        self._start(
            "kwok",
            self._binaries.kwok,
            [
                "--kubeconfig=kwok.kubeconfig",
                "--config=stages.yaml",
                "--manage-all-nodes=true",
                "--node-lease-duration-seconds=40",
                f"--server-address={HOST}:{kwok}",
                f"--node-ip={HOST}",
                "--v=WARN",
            ],
        )

    def _write_configuration(self, url: str) -> None:
        certificates = self.directory / "pki"
        for client in pki.CLIENTS:
            text = yaml.safe_dump(kubeconfig.for_client(self.cluster.name, url, certificates, client))
            (self.directory / f"{client}.kubeconfig").write_text(text)
        webhook = kubeconfig.build("webhook", {"server": self._webhook}, {})
        (self.directory / "webhook.kubeconfig").write_text(yaml.safe_dump(webhook))
        (self.directory / "stages.yaml").write_text(_stages(self._binaries.kwok_stages.read_text()))
        (self.directory / "audit-policy.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
        scheduler: Json = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "podInitialBackoffSeconds": 1,
            "podMaxBackoffSeconds": 1,  # 10 by default: pods would wait for GPUs that are there already
            "clientConnection": {"kubeconfig": str(self.directory / "kube-scheduler.kubeconfig"), "qps": 1000, "burst": 2000},
        }
        (self.directory / "scheduler.yaml").write_text(yaml.safe_dump(scheduler))

    def _write_about(self, url: str) -> None:
        """What `lab status` reads; written last, so that its being there means that the cluster is ready."""
        about = {
            "name": self.cluster.name,
            "region": self.cluster.region,
            "account": self.cluster.account,
            "arn": self.cluster.arn,
            "endpoint": url,
            "seconds": {k: round(v, 2) for k, v in self.timings.items()},
        }
        unfinished = self.directory / "cluster.json.unfinished"
        unfinished.write_text(json.dumps(about, indent=2))
        unfinished.replace(self.directory / "cluster.json")


class LocalControlPlanes:
    """lab.contracts.ControlPlanes on this machine."""

    def __init__(
        self,
        state: State,
        supervisor: Supervisor,
        binaries: Binaries,
        webhook: Callable[[ClusterRef], str],
        ready: Callable[[ControlPlane], None] = lambda _: None,
        gone: Callable[[ControlPlane], None] = lambda _: None,
    ) -> None:
        self._state, self._supervisor, self._binaries, self._webhook = state, supervisor, binaries, webhook
        self._ready, self._gone = ready, gone
        self._lock = threading.Lock()
        self._planes: dict[str, ControlPlane] = {}

    def start(self, cluster: ClusterRef) -> None:
        """Begin to boot in the background; a cluster that is there already is left alone."""
        with self._lock:
            if cluster.arn in self._planes:
                return
            plane = ControlPlane(cluster, self._state, self._supervisor, self._binaries, self._webhook(cluster))
            self._planes[cluster.arn] = plane
        threading.Thread(target=plane.boot, args=(self._ready,), name=f"boot {cluster.name}", daemon=True).start()

    def endpoint(self, cluster: ClusterRef) -> Endpoint | None:
        with self._lock:
            plane = self._planes.get(cluster.arn)
        return None if plane is None else plane.endpoint()

    def stop(self, cluster: ClusterRef) -> None:
        with self._lock:
            plane = self._planes.pop(cluster.arn, None)
        if plane is not None:
            self._gone(plane)
            plane.stop()
            self._gone(plane)  # again: it may have become ready between the two

    def stop_all(self) -> None:
        with self._lock:
            clusters = [plane.cluster for plane in self._planes.values()]
        with ThreadPoolExecutor(max_workers=max(1, len(clusters))) as pool:
            list(pool.map(self.stop, clusters))

    def kube(self, cluster: ClusterRef) -> Kube | None:
        """A client for the lab's own use, None while the cluster is not ready."""
        with self._lock:
            plane = self._planes.get(cluster.arn)
        return plane.kube() if plane is not None and plane.endpoint() is not None else None


def _stages(text: str) -> str:
    """KWOK's stages, by which it makes pods Ready at once, but not those whose programs the lab plays."""
    program = '.spec.containers.[] | (.command // .args // [""])[0] | split("/") | last'
    stages = list(yaml.safe_load_all(text))
    for stage in stages:
        if stage["metadata"]["name"] == "pod-ready":
            stage["spec"]["selector"]["matchExpressions"].append({"key": program, "operator": "NotIn", "values": list(NODE_PROGRAMS)})
    return yaml.safe_dump_all(stages)


def _healthy(url: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return bool(session.get(url, timeout=2).json().get("health") == "true")
    except requests.RequestException:
        return False
