# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real control plane: tokens, access policies, nodes and the device plugin. AWS is a table here; the whole lab has tests of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import typing as t
from collections.abc import Callable, Iterator

import kubernetes
import pytest

from lab import audit
from lab.contracts import ClusterRef, ControlPlaneFailed
from lab.kubernetes.client import Json
from tests.lab.rig import BOOT_LIMIT, CLUSTER, PATIENCE, ROLE, Rig, eventually, rig

__all__ = ["rig"]  # the fixture


# ---- who is let in


def status_of(call: Callable[[], object]) -> int:
    """200, or the status with which the API server refused."""
    try:
        call()
    except kubernetes.client.ApiException as error:
        return int(error.status or 0)
    return 200


def test_a_token_is_let_in_by_its_access_entry(rig: Rig) -> None:
    rig.identities.allow("alice", groups=("viewers",))
    api = kubernetes.client.AuthenticationV1Api(rig.client("alice"))
    review = api.create_self_subject_review(kubernetes.client.V1SelfSubjectReview()).to_dict()
    user = review["status"]["user_info"]
    assert user["username"] == f"{ROLE}alice"
    assert sorted(user["groups"]) == ["system:authenticated", "viewers"]
    assert user["extra"]["arn"] == [f"{ROLE}alice"]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("alice", {"cluster": "production"}, id="another cluster's token"),
        pytest.param("alice", {"secret": "wrong"}, id="wrong secret"),
        pytest.param("nobody", {}, id="unknown key"),
        pytest.param("stranger", {}, id="no access entry"),
    ],
)
def test_others_are_refused(rig: Rig, name: str, changes: dict[str, str]) -> None:
    rig.identities.allow("alice")
    rig.identities.allow("nobody")
    api = kubernetes.client.CoreV1Api(rig.client(name, **changes))
    assert status_of(api.list_namespace) == 401


@pytest.mark.parametrize(
    ("policy", "read_pods", "read_nodes", "write_maps", "write_roles"),
    [
        ("AmazonEKSClusterAdminPolicy", 200, 200, 200, 200),
        ("AmazonEKSAdminViewPolicy", 200, 200, 403, 403),
        ("AmazonEKSAdminPolicy", 200, 403, 200, 403),
        ("AmazonEKSEditPolicy", 200, 403, 200, 403),
        ("AmazonEKSViewPolicy", 200, 403, 403, 403),
    ],
)
def test_access_policies_take_effect(rig: Rig, policy: str, read_pods: int, read_nodes: int, write_maps: int, write_roles: int) -> None:
    name = policy.lower()
    rig.identities.allow(name, policies=((policy, ()),))
    client = rig.client(name)
    core, rbac = kubernetes.client.CoreV1Api(client), kubernetes.client.RbacAuthorizationV1Api(client)
    metadata = kubernetes.client.V1ObjectMeta(name=name)
    config_map = kubernetes.client.V1ConfigMap(metadata=metadata)
    role = kubernetes.client.V1ClusterRole(metadata=metadata, rules=[])
    assert status_of(lambda: core.list_namespaced_pod("default")) == read_pods
    assert status_of(core.list_node) == read_nodes
    assert status_of(lambda: core.create_namespaced_config_map("default", config_map)) == write_maps
    assert status_of(lambda: rbac.create_cluster_role(role)) == write_roles


def test_a_policy_holds_in_its_namespaces_only(rig: Rig) -> None:
    for namespace in ("team-a", "team-b", "other"):
        rig.kube.apply(f"/api/v1/namespaces/{namespace}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    rig.identities.allow("dave", policies=(("AmazonEKSEditPolicy", ("team-*",)),))
    core = kubernetes.client.CoreV1Api(rig.client("dave"))
    codes = {n: status_of(lambda n=n: core.list_namespaced_pod(n)) for n in ("team-a", "team-b", "other", "default")}  # type: ignore[misc]
    assert codes == {"team-a": 200, "team-b": 200, "other": 403, "default": 403}


def test_writes_are_in_the_audit_log_and_dry_runs_are_not_counted(rig: Rig) -> None:
    rig.identities.allow("carol", policies=(("AmazonEKSClusterAdminPolicy", ()),))
    core = kubernetes.client.CoreV1Api(rig.client("carol"))
    body = kubernetes.client.V1ConfigMap(metadata=kubernetes.client.V1ObjectMeta(name="audited"))
    core.create_namespaced_config_map("default", body, dry_run="All")
    core.create_namespaced_config_map("default", body)
    core.list_namespaced_config_map("default")
    core.delete_namespaced_config_map("audited", "default")
    log = rig.state.audit_log(CLUSTER)

    def mine() -> list[audit.Event]:
        return [e for e in audit.read(log) if e.user == f"{ROLE}carol"]

    eventually("four events", lambda: len(mine()) == 4)
    assert [(e.verb, e.dry_run) for e in mine()] == [("create", True), ("create", False), ("list", False), ("delete", False)]
    assert [(e.verb, e.resource, e.name) for e in audit.writes(mine())] == [
        ("create", "configmaps", "audited"),
        ("delete", "configmaps", "audited"),
    ]


# ---- nodes and GPUs


def config_map(replicas: object) -> Json:
    text = f"version: v1\nsharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: {replicas}}}]}}}}"
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plugin", "namespace": "kube-system"}, "data": {"c.yaml": text}}


def daemon_set(revision: str = "1") -> Json:
    container = {
        "name": "plugin",
        "image": "nvcr.io/nvidia/k8s-device-plugin:v0.20.1",
        "command": ["nvidia-device-plugin"],
        "env": [{"name": "CONFIG_FILE", "value": "/config/c.yaml"}],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    }
    spec = {
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "plugin"}}],
    }
    labels = {"app": "plugin"}
    template = {"metadata": {"labels": labels, "annotations": {"revision": revision}}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "plugin", "namespace": "kube-system"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


MAP = "/api/v1/namespaces/kube-system/configmaps/plugin"
SET = "/apis/apps/v1/namespaces/kube-system/daemonsets/plugin"


@contextlib.contextmanager
def plugin(rig: Rig, replicas: object) -> Iterator[None]:
    rig.kube.apply(MAP, config_map(replicas))
    rig.kube.apply(SET, daemon_set())
    try:
        yield
    finally:
        rig.kube.delete(SET)
        rig.kube.delete(MAP)
        eventually("plugin pods gone", lambda: not plugin_pods(rig))


def plugin_pods(rig: Rig) -> list[Json]:
    found = rig.kube.call("GET", "/api/v1/namespaces/kube-system/pods", params={"labelSelector": "app=plugin"})
    return t.cast("list[Json]", found["items"])


@pytest.fixture
def gpu_node(rig: Rig) -> Iterator[str]:
    number = 10 + len(rig.aws.instances)
    name = rig.aws.run(number)
    eventually("node", lambda: any(c["type"] == "Ready" and c["status"] == "True" for c in conditions(rig, name)))
    yield name
    rig.aws.instances.clear()
    eventually("node gone", lambda: not rig.node(name))


def conditions(rig: Rig, name: str) -> list[Json]:
    return rig.node(name).get("status", {}).get("conditions") or []


def test_an_instance_becomes_a_node_without_gpus_and_leaves_with_it(rig: Rig, gpu_node: str) -> None:
    node = rig.node(gpu_node)
    assert node["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] == "gpu"
    assert node["metadata"]["labels"]["pool"] == "inference"
    time.sleep(PATIENCE)
    assert rig.gpus(gpu_node) is None


def test_label_changes_of_a_node_group_reach_its_nodes(rig: Rig, gpu_node: str) -> None:
    rig.aws.groups["gpu"] |= {"labels": {"pool": "training"}, "taints": [{"key": "k", "value": "v", "effect": "NO_SCHEDULE"}]}
    eventually("label", lambda: rig.node(gpu_node)["metadata"]["labels"]["pool"] == "training")
    assert {"key": "k", "value": "v", "effect": "NoSchedule"} in rig.node(gpu_node)["spec"]["taints"]
    rig.aws.groups["gpu"] |= {"labels": {}, "taints": []}
    eventually("label gone", lambda: "pool" not in rig.node(gpu_node)["metadata"]["labels"])
    rig.aws.groups["gpu"]["labels"] = {"pool": "inference"}


def test_the_device_plugin_makes_ten_gpus_of_one(rig: Rig, gpu_node: str) -> None:
    with plugin(rig, 10):
        eventually("10 GPUs", lambda: rig.gpus(gpu_node) == "10")
        # Its configuration is what it read when it started.
        rig.kube.apply(MAP, config_map(4))
        time.sleep(PATIENCE)
        assert rig.gpus(gpu_node) == "10"
        rig.kube.apply(SET, daemon_set(revision="2"))
        eventually("4 GPUs after the pod was replaced", lambda: rig.gpus(gpu_node) == "4")
    eventually("no GPU once the plugin is gone", lambda: rig.gpus(gpu_node) == "0")


def test_a_refused_configuration_crash_loops_and_recovers(rig: Rig, gpu_node: str) -> None:
    with plugin(rig, 1):
        eventually("crash loop", lambda: waiting_reason(rig) == "CrashLoopBackOff")
        [pod] = plugin_pods(rig)
        ended = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert "number of replicas must be >= 2" in ended["message"]
        eventually("not ready", lambda: (rig.kube.get(SET) or {})["status"].get("numberReady", 0) == 0)
        assert rig.gpus(gpu_node) is None
        rig.kube.apply(MAP, config_map(2))
        eventually("2 GPUs", lambda: rig.gpus(gpu_node) == "2")
        eventually("ready again", lambda: (rig.kube.get(SET) or {})["status"]["numberReady"] == 1)


def waiting_reason(rig: Rig) -> str | None:
    entries = [c for p in plugin_pods(rig) for c in p["status"].get("containerStatuses") or ()]
    return next((c["state"]["waiting"]["reason"] for c in entries if "waiting" in c["state"]), None)


def test_pods_are_scheduled_onto_shares(rig: Rig, gpu_node: str) -> None:
    with plugin(rig, 3):
        eventually("3 GPUs", lambda: rig.gpus(gpu_node) == "3")
        for number in range(4):
            container = {"name": "c", "image": "cuda", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"p{number}"}, "spec": {"containers": [container]}}
            rig.kube.apply(f"/api/v1/namespaces/default/pods/p{number}", body)

        def phases() -> list[str]:
            return sorted((rig.kube.get(f"/api/v1/namespaces/default/pods/p{n}") or {})["status"]["phase"] for n in range(4))

        eventually("three of four", lambda: phases() == ["Pending", "Running", "Running", "Running"])
        time.sleep(PATIENCE)
        assert phases() == ["Pending", "Running", "Running", "Running"]
        for number in range(4):
            rig.kube.delete(f"/api/v1/namespaces/default/pods/p{number}")


def test_a_node_that_eks_lets_go_is_drained_as_budgets_allow(rig: Rig, gpu_node: str) -> None:
    """EKS User Guide, capacity types of managed node groups: cordoned, pods evicted; the instance ends once that is done."""
    name = "drained"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
        "spec": {"nodeName": gpu_node, "containers": [{"name": "c", "image": "example"}]},
    }
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": name}}},
    }
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    rig.kube.call("POST", "/api/v1/namespaces/default/pods", pod)
    rig.kube.call("POST", budgets, budget)
    eventually("budget", lambda: (rig.kube.get(f"{budgets}/{name}") or {}).get("status", {}).get("currentHealthy") == 1)
    (instance,) = [i for i, raw in rig.aws.instances.items() if raw["PrivateDnsName"] == gpu_node]
    rig.aws.held.add(instance)
    eventually("cordoned", lambda: rig.node(gpu_node)["spec"].get("unschedulable") is True)
    time.sleep(PATIENCE)
    assert rig.kube.get(f"/api/v1/namespaces/default/pods/{name}") is not None
    assert instance in rig.aws.held
    rig.kube.delete(f"{budgets}/{name}")
    eventually("node gone", lambda: not rig.node(gpu_node))
    assert rig.kube.get(f"/api/v1/namespaces/default/pods/{name}") is None


def test_what_is_not_imitated_is_said_on_the_node(rig: Rig, gpu_node: str) -> None:
    body = daemon_set()
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "config", "hostPath": {"path": "/etc/plugin"}}]
    rig.kube.apply(SET, body)

    def said() -> list[str]:
        events = rig.kube.call("GET", "/api/v1/namespaces/default/events")["items"]
        return [e["message"] for e in events if e["reason"] == "GpuopsLabNotImitated"]

    eventually("event", lambda: any("volume of type hostPath" in text for text in said()))
    assert rig.gpus(gpu_node) is None
    rig.kube.delete(SET)
    eventually("plugin pods gone", lambda: not plugin_pods(rig))


@pytest.mark.parametrize("delay", [0.0, 0.2, 1.0, 2.5])
def test_a_cluster_deleted_while_it_boots_leaves_nothing(rig: Rig, delay: float) -> None:
    other = ClusterRef(account=CLUSTER.account, region=CLUSTER.region, name="short-lived", version="1.36")
    rig.planes.start(other)
    time.sleep(delay)
    rig.planes.stop(other)
    assert not [r for r in rig.state.records.all() if "short-lived" in r.name]
    assert not rig.state.cluster(other).exists()
    assert rig.planes.endpoint(other) is None
    assert not [thread.name for thread in threading.enumerate() if "short-lived" in thread.name and "boot" not in thread.name]


def test_a_second_cluster_fails_loudly_when_a_process_dies(rig: Rig) -> None:
    other = ClusterRef(account=CLUSTER.account, region=CLUSTER.region, name="second", version="1.36")
    rig.planes.start(other)
    eventually("second control plane", lambda: rig.planes.endpoint(other) is not None, BOOT_LIMIT)
    [etcd] = [r for r in rig.state.records.alive() if r.name.endswith("-second/etcd")]
    os.kill(etcd.pid, signal.SIGKILL)

    def failed() -> bool:
        try:
            rig.planes.endpoint(other)
        except ControlPlaneFailed as error:
            return "etcd" in str(error)
        return False

    eventually("failure", failed)
    rig.planes.stop(other)
    assert not [r for r in rig.state.records.alive() if "second" in r.name]
    assert rig.planes.endpoint(CLUSTER) is not None
