# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's programs on the nodes of a real control plane."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import binaries
from lab.kubernetes.client import Json, Mirror
from lab.kubernetes.kubelets import NOTHING_RUNS
from lab.nodes import node as nodes
from lab.nodes import podstatus
from lab.nodes.health import Event
from tests.lab.rig import PATIENCE, Rig, eventually, rig

__all__ = ["rig"]  # the fixture

SYSTEM = "/api/v1/namespaces/kube-system"
SETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
PODS = "/api/v1/namespaces/default/pods"
PROBE = "echo get_default_active_thread_percentage | CUDA_MPS_PIPE_DIRECTORY=/mps/nvidia.com/gpu/pipe nvidia-cuda-mps-control"
PLUGIN, DAEMON, DISCOVERY = "nvidia-device-plugin", "mps-control-daemon", "gpu-feature-discovery"


@pytest.fixture
def clean(rig: Rig) -> Iterator[Rig]:
    """The cluster without what a test has put there, afterwards."""
    yield rig
    for found in rig.kube.call("GET", SETS)["items"]:
        rig.kube.delete(f"{SETS}/{found['metadata']['name']}")
    for found in rig.kube.call("GET", PODS)["items"]:
        rig.kube.delete(f"{PODS}/{found['metadata']['name']}")
    rig.kube.delete(f"{SYSTEM}/configmaps/plugin")
    eventually("no pods", lambda: not rig.kube.call("GET", "/api/v1/pods")["items"])
    rig.aws.instances.clear()
    eventually("no nodes", lambda: not rig.kube.call("GET", "/api/v1/nodes")["items"])


def node(rig: Rig, instance_type: str = "g5.2xlarge", **more: str) -> str:
    """A node that is Ready."""
    number = 10 + len(rig.aws.user_data)
    name = rig.aws.run(number, instance_type, **more)
    eventually(
        "node", lambda: any(c["type"] == "Ready" and c["status"] == "True" for c in rig.node(name).get("status", {}).get("conditions", ()))
    )
    return name


def config(rig: Rig, text: str) -> None:
    metadata = {"name": "plugin", "namespace": "kube-system"}
    rig.kube.apply(f"{SYSTEM}/configmaps/plugin", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"c.yaml": text}})


def sharing(strategy: str, replicas: int, **more: t.Any) -> str:
    return json.dumps({"version": "v1", "sharing": {strategy: {**more, "resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}}})


def run(rig: Rig, program: str, revision: str = "1", **more: t.Any) -> None:
    """A DaemonSet of one of NVIDIA's programs, with the ConfigMap ``plugin`` and the node's MPS folder."""
    container = {
        "name": "main",
        "image": "nvcr.io/nvidia/k8s-device-plugin:v0.20.1",
        "command": [program],
        "env": [{"name": "CONFIG_FILE", "value": "/config/c.yaml"}, {"name": "MPS_ROOT", "value": "/run/nvidia/mps"}],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}, {"name": "mps", "mountPath": "/mps"}],
        **more,
    }
    volumes = [{"name": "config", "configMap": {"name": "plugin"}}, {"name": "mps", "hostPath": {"path": "/run/nvidia/mps"}}]
    spec = {"tolerations": [{"operator": "Exists"}], "containers": [container], "volumes": volumes}
    template = {"metadata": {"labels": {"app": program}, "annotations": {"revision": revision}}, "spec": spec}
    body = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": program, "namespace": "kube-system"},
        "spec": {"selector": {"matchLabels": {"app": program}}, "template": template},
    }
    rig.kube.apply(f"{SETS}/{program}", body)


def run_daemon(rig: Rig, revision: str = "1", *, privileged: bool = True) -> None:
    probe = {"exec": {"command": ["sh", "-c", PROBE]}}
    run(rig, DAEMON, revision, securityContext={"privileged": privileged}, readinessProbe=probe)


def stop(rig: Rig, program: str) -> None:
    rig.kube.delete(f"{SETS}/{program}")
    eventually(f"{program} gone", lambda: not pods(rig, program))


def pods(rig: Rig, program: str) -> list[Json]:
    found = rig.kube.call("GET", f"{SYSTEM}/pods", params={"labelSelector": f"app={program}"})
    return t.cast("list[Json]", found["items"])


def state(rig: Rig, program: str) -> Json:
    """Ready, restarts, and why it waits, of the program's only pod."""
    entries = [entry for pod in pods(rig, program) for entry in pod["status"].get("containerStatuses") or ()]
    if len(entries) != 1:
        return {}
    waiting = entries[0]["state"].get("waiting") or {}
    ended = entries[0].get("lastState", {}).get("terminated") or {}
    return {"ready": entries[0]["ready"], "reason": waiting.get("reason"), "message": ended.get("message", "")}


def workload(rig: Rig, name: str, gpus: str = "1", resource: str = "nvidia.com/gpu") -> None:
    container = {"name": "c", "image": "cuda", "resources": {"limits": {resource: gpus}}}
    metadata = {"name": name, "namespace": "default"}
    rig.kube.call("POST", PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}})


def status(rig: Rig, name: str) -> Json:
    return t.cast(Json, (rig.kube.get(f"{PODS}/{name}") or {}).get("status") or {})


def log(rig: Rig, namespace: str, name: str, container: str, **options: str) -> tuple[int, str]:
    """Status and text of GET pods/NAME/log."""
    url = f"{rig.kube.access.url}/api/v1/namespaces/{namespace}/pods/{name}/log"
    answer = rig.kube.new_session().get(url, params={"container": container, **options}, timeout=20)
    return answer.status_code, answer.text


def mode(rig: Rig, name: str) -> str | None:
    return t.cast("str | None", rig.node(name)["metadata"].get("annotations", {}).get(nodes.COMPUTE_MODE))


def test_shares_of_mps_take_a_daemon_that_answers(clean: Rig) -> None:
    """internal/plugin/mps.go: the plugin registers once the daemon of its resource answers; mps/daemon.go: compute modes."""
    rig, name = clean, node(clean)
    config(rig, sharing("mps", 5))
    run(rig, PLUGIN)
    eventually("plugin pod", lambda: state(rig, PLUGIN).get("ready") is True)
    time.sleep(PATIENCE)
    assert rig.gpus(name) is None
    run_daemon(rig, privileged=False)
    eventually("unprivileged daemon", lambda: state(rig, DAEMON).get("ready") is False)
    assert state(rig, DAEMON)["reason"] is None
    time.sleep(PATIENCE)
    assert (rig.gpus(name), mode(rig, name)) == (None, None)
    run_daemon(rig, revision="2")
    eventually("5 shares", lambda: rig.gpus(name) == "5")
    eventually("daemon is ready", lambda: state(rig, DAEMON).get("ready") is True)
    assert mode(rig, name) == "EXCLUSIVE_PROCESS"
    stop(rig, DAEMON)
    eventually("mode after a stop", lambda: mode(rig, name) == "DEFAULT")
    assert rig.gpus(name) == "5"  # the plugin does not look again


def test_a_killed_daemon_leaves_the_compute_mode(clean: Rig) -> None:
    """mps/daemon.go, Stop: nobody else sets it back (k8s-device-plugin#647)."""
    rig, name = clean, node(clean)
    config(rig, sharing("mps", 5))
    run_daemon(rig)
    eventually("mode", lambda: mode(rig, name) == "EXCLUSIVE_PROCESS")
    (pod,) = pods(rig, DAEMON)
    rig.kube.delete(f"{SETS}/{DAEMON}?propagationPolicy=Orphan")
    rig.kube.delete(f"{SYSTEM}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0")
    eventually("daemon gone", lambda: not pods(rig, DAEMON))
    time.sleep(PATIENCE)
    assert mode(rig, name) == "EXCLUSIVE_PROCESS"


def test_too_many_clients_end_the_daemon_and_nothing_is_advertised(clean: Rig) -> None:
    rig, name = clean, node(clean)
    config(rig, sharing("mps", 49))
    seen: set[str] = set()
    mirror = Mirror(rig.kube, f"{SYSTEM}/pods", threading.Event(), lambda pod: pod["metadata"]["labels"]["app"] == DAEMON)
    mirror.observe = lambda pod: seen.add(podstatus.condition(pod, "Ready")) if pod["metadata"]["labels"]["app"] == DAEMON else None
    mirror.start()
    run_daemon(rig)
    run(rig, PLUGIN)
    eventually("crash loop", lambda: state(rig, DAEMON).get("reason") == "CrashLoopBackOff")
    assert "invalid MPS configuration: invalid device maximum allowed replicas exceeded: 49 > 48" in state(rig, DAEMON)["message"]
    time.sleep(PATIENCE)
    mirror.stop()
    assert "False" in seen
    assert "True" not in seen
    assert rig.gpus(name) is None
    config(rig, sharing("mps", 48))
    eventually("daemon recovers", lambda: state(rig, DAEMON).get("ready") is True)
    run(rig, PLUGIN, revision="2")
    eventually("48 shares", lambda: rig.gpus(name) == "48")


def test_a_daemon_waits_until_pods_without_mps_have_left_the_gpu(clean: Rig) -> None:
    rig, name = clean, node(clean)
    config(rig, sharing("timeSlicing", 4))
    run(rig, PLUGIN)
    eventually("4 shares", lambda: rig.gpus(name) == "4")
    workload(rig, "whole")
    eventually("pod runs", lambda: status(rig, "whole").get("phase") == "Running")
    config(rig, sharing("mps", 5))
    run(rig, PLUGIN, revision="2")
    run_daemon(rig)
    eventually("daemon is not ready", lambda: state(rig, DAEMON).get("ready") is False)
    time.sleep(PATIENCE)
    assert (rig.gpus(name), state(rig, DAEMON)["ready"]) == ("0", False)
    rig.kube.delete(f"{PODS}/whole")
    eventually("5 shares", lambda: rig.gpus(name) == "5")
    workload(rig, "share")
    eventually("pod runs", lambda: status(rig, "share").get("phase") == "Running")
    run_daemon(rig, revision="2")  # its clients do not keep another daemon from starting
    eventually("daemon is ready", lambda: state(rig, DAEMON).get("ready") is True)


@pytest.mark.parametrize(("strategy", "more"), [("timeSlicing", {"failRequestsGreaterThanOne": True}), ("timeSlicing", {})])
def test_a_pod_that_asks_for_several_shares(clean: Rig, strategy: str, more: Json) -> None:
    """kubelet.go, rejectPod: Failed for good, with the plugin's words."""
    rig, name = clean, node(clean)
    config(rig, sharing(strategy, 4, **more))
    run(rig, PLUGIN)
    eventually("4 shares", lambda: rig.gpus(name) == "4")
    workload(rig, "several", gpus="2")
    workload(rig, "one")
    eventually("one runs", lambda: status(rig, "one").get("phase") == "Running")
    if more:
        eventually("refused", lambda: status(rig, "several").get("phase") == "Failed")
        found = status(rig, "several")
        assert found["reason"] == "UnexpectedAdmissionError"
        assert "maximum request size for shared resources is 1; found 2" in found["message"]
    else:
        eventually("runs", lambda: status(rig, "several").get("phase") == "Running")
    time.sleep(PATIENCE)
    assert status(rig, "several")["phase"] == ("Failed" if more else "Running")


# ---- MIG


def script(layout: str) -> str:
    """User data of a managed node group that parts all GPUs."""
    text = f"#!/bin/bash\nnvidia-smi -mig 1\nnvidia-smi mig -cgi {layout} -C\n"
    return f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="XX"\n\n--XX\nContent-Type: text/x-shellscript\n\n{text}\n--XX--\n'


ALL = ",".join(["1g.5gb"] * 7)


def test_a_parted_node_advertises_by_the_plugins_strategy(clean: Rig) -> None:
    """MIG user guide; a p4d parted into seven has 56 devices of one profile, and labels by GPU feature discovery."""
    rig = clean
    name = node(rig, "p4d.24xlarge", user_data=script(ALL))
    assert rig.clock.seconds() >= 165  # the GPUs take MIG mode after another boot
    config(rig, "version: v1\nflags: {migStrategy: single}")
    run(rig, PLUGIN)
    run(rig, DISCOVERY, env=[{"name": "CONFIG_FILE", "value": "/config/c.yaml"}, {"name": "USE_NODE_FEATURE_API", "value": "false"}])
    eventually("56 as GPUs", lambda: rig.gpus(name) == "56")
    eventually("labels", lambda: rig.node(name)["metadata"]["labels"].get("nvidia.com/gpu.count") == "56")
    assert rig.node(name)["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb"
    config(rig, "version: v1\nflags: {migStrategy: mixed}")
    run(rig, PLUGIN, revision="2")
    eventually("56 by profile", lambda: rig.gpus(name, "nvidia.com/mig-1g.5gb") == "56")
    assert rig.gpus(name) == "0"


def test_strategy_single_refuses_several_profiles(clean: Rig) -> None:
    rig = clean
    name = node(rig, "p5.48xlarge", user_data=script("3g.40gb,2g.20gb,1g.10gb,1g.10gb"))
    config(rig, "version: v1\nflags: {migStrategy: single}")
    run(rig, PLUGIN)
    eventually("crash loop", lambda: state(rig, PLUGIN).get("reason") == "CrashLoopBackOff")
    assert "more than one MIG device type present on node" in state(rig, PLUGIN)["message"]
    assert rig.gpus(name) is None


def test_a_layout_that_a_product_cannot_have_keeps_the_node_away(clean: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig = clean
    name = rig.aws.run(90, "p5.48xlarge", user_data=script(ALL))
    other = node(rig, "p5.48xlarge", user_data=script("7g.80gb"))
    time.sleep(PATIENCE)
    assert not rig.node(name)
    assert json.loads(rig.node(other)["metadata"]["annotations"][nodes.MIG]) == [["7g.80gb"]] * 8
    said = [record.getMessage() for record in caplog.records if "does not join" in record.getMessage()]
    assert len(said) == 1
    assert "i-90 does not join" in said[0]
    assert "no GPU instance profile 1g.5gb" in said[0]


# ---- logs


def test_logs_of_programs_and_of_other_pods(clean: Rig) -> None:
    """Kubernetes API, GET pods/NAME/log, through the real API server."""
    rig, name = clean, node(clean)
    run(rig, PLUGIN)
    eventually("waits for its ConfigMap", lambda: state(rig, PLUGIN).get("reason") == "ContainerCreating")
    (pod,) = pods(rig, PLUGIN)
    status_code, text = log(rig, "kube-system", pod["metadata"]["name"], "main")
    assert status_code == 400
    assert "is waiting to start: ContainerCreating" in text
    config(rig, sharing("mps", 5))
    eventually("no daemon", lambda: "error waiting for MPS daemon" in log(rig, "kube-system", pod["metadata"]["name"], "main")[1])
    run_daemon(rig, privileged=False)
    eventually("daemon pod", lambda: state(rig, DAEMON).get("ready") is False)
    (daemon,) = pods(rig, DAEMON)
    status_code, text = log(rig, "kube-system", daemon["metadata"]["name"], "main", tailLines="1")
    assert status_code == 200
    assert len(text.splitlines()) == 1
    assert "Insufficient Permissions" in text
    body = {"metadata": {"name": "any", "namespace": "default"}, "spec": {"nodeName": name, "containers": [{"name": "c", "image": "x"}]}}
    rig.kube.call("POST", PODS, {"apiVersion": "v1", "kind": "Pod", **body})
    assert log(rig, "default", "any", "c") == (200, f"{NOTHING_RUNS}\n")


# ---- Bottlerocket


def bottlerocket(rig: Rig, settings: str, instance_type: str = "g5.2xlarge") -> str:
    rig.aws.groups["bottlerocket"] = {"nodegroupName": "bottlerocket", "amiType": "BOTTLEROCKET_x86_64_NVIDIA"}
    return node(rig, instance_type, user_data=settings, group="bottlerocket")


def test_bottlerocket_advertises_by_its_settings_without_a_pod(clean: Rig) -> None:
    """Settings reference, kubelet-device-plugins.nvidia; bottlerocket#4673: a DaemonSet on such a node takes the resource over."""
    rig, name = clean, bottlerocket(clean, '[settings.kubelet-device-plugins.nvidia]\ndevice-sharing-strategy = "time-slicing"\n')
    eventually("2 by default, renamed", lambda: rig.gpus(name, "nvidia.com/gpu.shared") == "2")
    assert rig.gpus(name) is None
    workload(rig, "several", gpus="2", resource="nvidia.com/gpu.shared")
    eventually("refused by default", lambda: status(rig, "several").get("reason") == "UnexpectedAdmissionError")
    parted = '[settings.kubelet-device-plugins.nvidia]\ndevice-partitioning-strategy = "mig"\n'
    parted += '[settings.kubelet-device-plugins.nvidia.mig.profile]\n"a100.40gb" = "2g.10gb"\n'
    other = bottlerocket(rig, parted, "p4d.24xlarge")
    eventually("24 of a p4d", lambda: rig.gpus(other) == "24")
    plain = bottlerocket(rig, "")
    eventually("1 without settings", lambda: rig.gpus(plain) == "1")
    config(rig, sharing("timeSlicing", 7))
    run(rig, PLUGIN)
    eventually("the DaemonSet's plugin came later", lambda: rig.gpus(plain) == "7")


# ---- health


def test_a_gpu_with_a_critical_error_is_lost_until_the_plugin_starts_again(clean: Rig) -> None:
    """internal/rm/health.go: of a shared GPU one share is lost; server.go: "there is no way to recover from the Unhealthy state"."""
    rig, name = clean, node(clean, "p4d.24xlarge")
    config(rig, sharing("timeSlicing", 2))
    rig.aws.events[name] = [Event("before", 5, 79)]
    run(rig, PLUGIN)
    eventually("16 shares", lambda: rig.gpus(name) == "16")
    rig.aws.events[name] += [Event("application", 1, 31), Event("first", 0, 79), Event("same GPU", 0, 48), Event("another", 3, 79)]
    eventually("two GPUs lose a share", lambda: rig.gpus(name) == "14")
    assert rig.node(name)["status"]["capacity"]["nvidia.com/gpu"] == "16"
    run(rig, PLUGIN, revision="2")
    eventually("all again", lambda: rig.gpus(name) == "16")


# ---- NVIDIA's chart


def test_nvidias_chart_with_mps_comes_up_by_labels_of_feature_discovery(clean: Rig, tmp_path: Path) -> None:
    """Its daemon waits for nvidia.com/mps.capable; configurations by config-manager, whose init container takes the default."""
    rig, name = clean, node(clean)
    values = {"config": {"map": {"mps": sharing("mps", 5)}}, "gfd": {"enabled": True}, "nfd": {"enabled": False}}
    (tmp_path / "values.json").write_text(json.dumps(values))
    chart, helm = binaries.device_plugin_chart(print), binaries.helm(print)
    command = [str(helm), "template", "nvdp", str(chart), "--namespace", "kube-system", "--values", str(tmp_path / "values.json")]
    objects = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    for found in filter(None, yaml.safe_load_all(objects)):
        api = "/api/v1" if found["apiVersion"] == "v1" else f"/apis/{found['apiVersion']}"
        place = f"/namespaces/{found['metadata']['namespace']}" if "namespace" in found["metadata"] else ""
        rig.kube.apply(f"{api}{place}/{found['kind'].lower()}s/{found['metadata']['name']}", found)
    eventually("5 shares", lambda: rig.gpus(name) == "5")
    labels = rig.node(name)["metadata"]["labels"]
    assert (labels["nvidia.com/mps.capable"], labels["nvidia.com/gpu.replicas"]) == ("true", "5")
    assert mode(rig, name) == "EXCLUSIVE_PROCESS"
