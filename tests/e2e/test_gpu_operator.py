# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MIG by the GPU Operator on a group of one size: a p4d cut into 56, another layout, what goes wrong, and away again.

The chart is the lab's own, and the lab does what its pods would do (lab/README.md).
"""

from __future__ import annotations

import base64
import gzip
import json
import time
import typing as t

import pytest

from tests.e2e.rehearsal import Play, Rehearsal

pytestmark = pytest.mark.soak  # minutes: a cluster, and the role eleven times

Json = dict[str, t.Any]

GENERAL: Json = {
    "name": "general",
    "accelerator": "none",
    "provisioner": "managed_node_group",
    "instances": {"types": ["m5.xlarge"]},
    "scaling": {"min": 1, "max": 1},
}
SEVEN, BALANCED, THREE = {"1g.5gb": 7}, {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}, {"3g.20gb": 2}
NAMESPACE = "/api/v1/namespaces/gpu-operator/pods"
SECRETS = "/api/v1/namespaces/gpu-operator/secrets"
PODS = "/api/v1/namespaces/default/pods"
STATIC: Json = {  # as eksctl installs it
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "nvidia-device-plugin-daemonset", "namespace": "kube-system"},
    "spec": {
        "selector": {"matchLabels": {"name": "nvidia-device-plugin-ds"}},
        "template": {
            "metadata": {"labels": {"name": "nvidia-device-plugin-ds"}},
            "spec": {"containers": [{"name": "plugin", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0"}]},
        },
    },
}


def variables(layout: dict[str, int] | None = None) -> Json:
    training = {
        "name": "training",
        "provisioner": "managed_node_group",
        "instances": {"types": ["p4d.24xlarge"]},
        "zones": ["us-west-2a"],
        "scaling": {"min": 1, "max": 1},
        "mig": {"strategy": "mixed", "layout": layout or SEVEN},
        "sharing": {"backend": "gpu_operator"},
    }
    return {
        "gpu_nodepools": [GENERAL, training],
        "gpu_workloads_state": "absent",
        "gpu_operator_wait_timeout": 120,
        "gpu_operator_wedge_after": 10,
    }


def run(rehearsal: Rehearsal, layout: dict[str, int] | None = None, playbook: str = "operator_alone", **more: t.Any) -> Play:
    return rehearsal.play(f"tests/e2e/playbooks/{playbook}.yml", **{**variables(layout), **more})


def node(rehearsal: Rehearsal) -> Json:
    nodes = rehearsal.kube().call("GET", "/api/v1/nodes", params={"labelSelector": "gpuops.eks/nodepool=training"})
    [found] = nodes["items"]
    return t.cast(Json, found)


def advertised(rehearsal: Rehearsal) -> dict[str, int]:
    resources = node(rehearsal)["status"]["allocatable"]
    return {
        name.removeprefix("nvidia.com/mig-"): int(count) for name, count in resources.items() if "nvidia.com/mig-" in name and count != "0"
    }


def eventually(what: str, seen: t.Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def pod_of(rehearsal: Rehearsal, app: str) -> str:
    pods = rehearsal.kube().call("GET", NAMESPACE, params={"labelSelector": f"app={app}"})["items"]
    [found] = [pod["metadata"]["name"] for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    return str(found)


def deployment(replicas: int) -> Json:
    container = {"name": "work", "image": "work", "resources": {"limits": {"nvidia.com/mig-1g.5gb": "1"}}}
    spec = {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}], "containers": [container]}
    labels = {"app": "mig1-5"}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "mig1-5", "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/mig1-5"


def test_a_node_is_cut_into_56_and_so_many_pods_run(rehearsal: Rehearsal) -> None:
    play = run(rehearsal, playbook="operator")
    assert play.code == 0, play.output[-6000:]
    assert advertised(rehearsal) == {"1g.5gb": 56}
    kube = rehearsal.kube()
    kube.apply(DEPLOYMENT, deployment(57))

    def phases() -> list[str]:
        return sorted(pod["status"]["phase"] for pod in kube.call("GET", PODS, params={"labelSelector": "app=mig1-5"})["items"])

    eventually("56 pods run, one waits", lambda: phases() == ["Pending"] + ["Running"] * 56)


def test_a_second_run_changes_nothing(rehearsal: Rehearsal) -> None:
    play = run(rehearsal)
    assert play.code == 0, play.output[-6000:]
    assert play.changed == []
    assert play.plan == []


def test_a_release_that_has_failed_is_installed_again_although_its_values_are_the_same(rehearsal: Rehearsal) -> None:
    """Helm keeps a release as gzipped JSON, twice in base64."""
    kube = rehearsal.kube()
    [secret] = kube.call("GET", SECRETS, params={"labelSelector": "owner=helm,status=deployed"})["items"]
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    release["info"]["status"] = "failed"
    data = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    kube.merge(f"{SECRETS}/{secret['metadata']['name']}", {"metadata": {"labels": {"status": "failed"}}, "data": {"release": data}})
    play = run(rehearsal)
    assert play.code == 0, play.output[-6000:]
    assert play.changed == ["gpu_operator : Install the chart"]
    assert run(rehearsal).changed == []


def test_another_layout_waits_until_the_node_is_drained(rehearsal: Rehearsal) -> None:
    play = run(rehearsal, BALANCED)
    assert play.code != 0
    assert "is to be cut in another way while pods have its GPUs (default/mig1-5-" in play.output
    assert play.changed == []
    kube = rehearsal.kube()
    kube.delete(DEPLOYMENT)
    eventually("no pod has a GPU", lambda: not kube.call("GET", PODS, params={"labelSelector": "app=mig1-5"})["items"])
    play = run(rehearsal, BALANCED)
    assert play.code == 0, play.output[-6000:]
    assert advertised(rehearsal) == {"1g.5gb": 16, "2g.10gb": 8, "3g.20gb": 8}


def test_a_node_that_the_operator_gives_up_half_way_is_named_and_what_is_said_mends_it(rehearsal: Rehearsal) -> None:
    kube, stuck = rehearsal.kube(), pod_of(rehearsal, "nvidia-device-plugin-daemonset")
    kube.merge(f"{NAMESPACE}/{stuck}", {"metadata": {"finalizers": ["example.com/stuck"]}})
    play = run(rehearsal, THREE)
    assert play.code != 0
    name = node(rehearsal)["metadata"]["name"]
    assert f"kubectl label node {name} --overwrite nvidia.com/gpu.deploy.client=true" in play.output
    assert "https://github.com/NVIDIA/gpu-operator/issues/2833" in play.output
    kube.merge(f"{NAMESPACE}/{stuck}", {"metadata": {"finalizers": None}})
    paused = [key for key, value in node(rehearsal)["metadata"]["labels"].items() if value == "paused-for-mig-change"]
    assert "nvidia.com/gpu.deploy.device-plugin" in paused
    kube.merge(f"/api/v1/nodes/{name}", {"metadata": {"labels": dict.fromkeys(paused, "true")}})
    kube.delete(f"{NAMESPACE}/{pod_of(rehearsal, 'nvidia-mig-manager')}")
    play = run(rehearsal, THREE)
    assert play.code == 0, play.output[-6000:]
    assert advertised(rehearsal) == {"3g.20gb": 16}


def test_a_failed_layout_ends_the_run_with_the_node(rehearsal: Rehearsal) -> None:
    """Another layout than the inventory's, which would have refused it, through the chart's values."""
    text = '{"version": "v1", "mig-configs": {"all-disabled": [], "training": [{"devices": "all", "mig-enabled": true, "mig-devices": {"1g.10gb": 5}}]}}'
    values = {"migManager": {"config": {"data": {"config.yaml": text}}, "env": [{"name": "WITH_REBOOT", "value": "true"}]}}
    play = run(rehearsal, THREE, gpu_operator_values=values)
    assert play.code != 0
    assert "MIG layout training failed, for which see the log of MIG manager" in play.output
    assert "training failed" in play.output


def test_another_device_plugin_on_the_operators_nodes_is_refused(rehearsal: Rehearsal) -> None:
    path = "/apis/apps/v1/namespaces/kube-system/daemonsets/nvidia-device-plugin-daemonset"
    rehearsal.kube().apply(path, {**STATIC, "spec": {**STATIC["spec"], "template": _on_gpu_nodes(STATIC["spec"]["template"])}})
    play = run(rehearsal, THREE)
    assert play.code != 0
    assert "DaemonSet kube-system/nvidia-device-plugin-daemonset runs a device plugin on nodes of the operator" in play.output
    rehearsal.kube().delete(path)


def _on_gpu_nodes(template: Json) -> Json:
    return {**template, "spec": {**template["spec"], "nodeSelector": {"nvidia.com/gpu.present": "true"}}}


def test_it_goes_with_all_that_it_ran_and_leaves_what_is_somebody_elses(rehearsal: Rehearsal) -> None:
    kube, theirs = rehearsal.kube(), f"{SECRETS}/registry"
    metadata = {"name": "registry", "namespace": "gpu-operator"}
    kube.apply(theirs, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": "not-to-be-shown"}})
    play = run(rehearsal, THREE, gpu_operator_enabled=False)
    assert play.code == 0, play.output[-6000:]
    assert "Namespace gpu-operator stays: it holds what is not the operator's: Secret registry." in play.output
    assert "not-to-be-shown" not in play.output
    assert kube.get(theirs) is not None
    eventually("no operand is left", lambda: not kube.call("GET", "/apis/apps/v1/daemonsets")["items"])
    assert advertised(rehearsal) == {}
    assert run(rehearsal, THREE, gpu_operator_enabled=False).changed == []


def test_its_namespace_goes_once_nothing_else_is_in_it(rehearsal: Rehearsal) -> None:
    kube = rehearsal.kube()
    kube.delete(f"{SECRETS}/registry")
    play = run(rehearsal, THREE, gpu_operator_enabled=False)
    assert play.changed == ["gpu_operator : Delete the namespace"], play.output[-6000:]
    assert kube.get("/api/v1/namespaces/gpu-operator") is None
    assert run(rehearsal, THREE, gpu_operator_enabled=False).changed == []
