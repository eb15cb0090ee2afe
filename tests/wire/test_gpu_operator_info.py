# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpu_operator_info through main()."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Json
from ansible_collections.gpuops.eks.plugins.module_utils._run import gpu_operator as waiting
from ansible_collections.gpuops.eks.plugins.modules import gpu_operator_info

from tests.wire.harness import Wire
from tests.wire.kube import KubeWire

NODES, DAEMON_SETS = "/api/v1/nodes", "/apis/apps/v1/daemonsets"
POLICIES = "/apis/nvidia.com/v1/clusterpolicies"
POOLS = [{"name": "mig", "mig": {"strategy": "mixed", "layout": {"1g.5gb": 7}}, "sharing": {"backend": "gpu_operator"}}]
TYPES = {"InstanceTypes": [{"InstanceType": "p4d.24xlarge", "GpuInfo": {"Gpus": [{"Name": "A100", "Manufacturer": "NVIDIA", "Count": 8}]}}]}
ASKED = {"Filters": [{"Name": "instance-type", "Values": ["p4d.24xlarge"]}]}
RELEASE = {"meta.helm.sh/release-name": "gpu-operator", "meta.helm.sh/release-namespace": "gpu-operator"}
POLICY: Json = {
    "metadata": {"name": "cluster-policy", "creationTimestamp": "2026-01-31T12:00:00Z", "annotations": RELEASE},
    "status": {"state": "ready", "conditions": [{"type": "Ready", "status": "True", "reason": "Reconciled", "message": ""}]},
}


def node(state: str, advertised: int) -> Json:
    labels = {
        "gpuops.eks/nodepool": "mig",
        "nvidia.com/gpu.present": "true",
        "feature.node.kubernetes.io/pci-10de.present": "true",
        "node.kubernetes.io/instance-type": "p4d.24xlarge",
        "nvidia.com/gpu.count": "8",
        "nvidia.com/mig.config": "mig",
        "nvidia.com/mig.config.state": state,
    }
    counts = {"nvidia.com/mig-1g.5gb": str(advertised)}
    status = {"capacity": counts, "allocatable": counts, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": "a", "labels": labels}, "spec": {}, "status": status}


def look(
    kube: KubeWire,
    nodes: t.Sequence[Json],
    *,
    policies: t.Sequence[Json] | None = (POLICY,),
    daemon_sets: t.Sequence[Json] = (),
    operands: t.Sequence[Json] | None = None,
) -> None:
    """The reads of one look; ``policies`` None: the chart's definitions are not there."""
    group = None if policies is None else {"versions": [{"version": "v1"}, {"version": "v1alpha1"}]}
    kube.get("/apis/nvidia.com", group)
    kube.items(DAEMON_SETS, daemon_sets)
    if policies is not None:
        kube.items(POLICIES, policies)
    if operands is not None:
        kube.items("/api/v1/namespaces/gpu-operator/pods", operands)
    kube.items(NODES, nodes, labelSelector="nvidia.com/gpu.present=true")


def params(**more: t.Any) -> Json:
    return {"cluster_name": "demo", "pools": POOLS, "wait_interval": 0.001, **more}


def test_what_there_is_in_a_cluster_without_the_operator(kube: KubeWire, wire: Wire) -> None:
    look(kube.cluster(), [], policies=None)
    found = kube.run(gpu_operator_info.main, params())["gpu_operator"]
    assert (found["ready"], found["cluster_policies"], found["faults"]) == (False, [], ["There is no ClusterPolicy."])
    assert kube.writes() == []


def test_waits_until_every_node_has_its_layout_and_advertises_it(kube: KubeWire, wire: Wire) -> None:
    look(kube.cluster(), [node("pending", 0)])
    wire.expect("ec2:DescribeInstanceTypes", ASKED, TYPES)
    look(kube, [node("success", 0)])
    look(kube, [node("success", 56)])
    result = kube.run(gpu_operator_info.main, params(wait=True))
    assert result["changed"] is False
    assert result["gpu_operator"]["ready"] is True
    assert result["gpu_operator"]["nodes"][0]["resources"] == [
        {"name": "nvidia.com/gpu", "expected": 0, "advertised": 0},
        {"name": "nvidia.com/mig-1g.5gb", "expected": 56, "advertised": 56},
    ]
    assert kube.writes() == []


def test_a_failed_layout_ends_the_wait_with_a_table(kube: KubeWire, wire: Wire) -> None:
    look(kube.cluster(), [node("failed", 0)])
    wire.expect("ec2:DescribeInstanceTypes", ASKED, TYPES)
    result = kube.run(gpu_operator_info.main, params(wait=True))
    assert result["failed"]
    assert result["msg"].startswith("The GPU Operator is not ready.\n1 of 1 nodes are not as they should be:\nnode  pool  MIG layout")
    assert "MIG layout mig failed" in result["msg"]
    assert result["nodes"][0]["mig_config_state"] == "failed"


def test_the_wait_ends_after_its_timeout_and_says_what_is_missing(kube: KubeWire, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting.time, "monotonic", itertools.count(0, 3601).__next__)
    look(kube.cluster(), [node("success", 56)], policies=[])
    wire.expect("ec2:DescribeInstanceTypes", ASKED, TYPES)
    result = kube.run(gpu_operator_info.main, params(wait=True))
    assert result["msg"] == "The GPU Operator is not ready within 3600 s.\nThere is no ClusterPolicy."


def test_an_image_that_is_not_there_ends_the_wait(kube: KubeWire, wire: Wire) -> None:
    """Pods of the operator are read where a DaemonSet is not rolled out, and only there."""
    operand = {
        "metadata": {
            "name": "nvidia-mig-manager",
            "generation": 1,
            "ownerReferences": [{"kind": "ClusterPolicy", "name": "cluster-policy"}],
        },
        "spec": {"template": {"spec": {"containers": [{"name": "c", "image": "mig"}]}}},
        "status": {"desiredNumberScheduled": 1, "observedGeneration": 1},
    }
    waiting = {"reason": "ImagePullBackOff", "message": "mirror/k8s-mig-manager:v0.15.0: not found"}
    status = {"phase": "Pending", "containerStatuses": [{"name": "c", "ready": False, "state": {"waiting": waiting}}]}
    look(kube.cluster(), [], daemon_sets=[operand], operands=[{"metadata": {"name": "nvidia-mig-manager-x"}, "spec": {}, "status": status}])
    result = kube.run(gpu_operator_info.main, params(wait=True))
    assert result["msg"] == (
        "The GPU Operator is not ready.\nDaemonSet nvidia-mig-manager: 0 of 1 pods are ready, 0 of them as they should be\n"
        "pod nvidia-mig-manager-x: ImagePullBackOff: mirror/k8s-mig-manager:v0.15.0: not found"
    )


def test_pods_are_named_that_have_gpus_which_are_to_be_cut_anew(kube: KubeWire, wire: Wire) -> None:
    look(kube.cluster(), [node("success", 16)])
    wire.expect("ec2:DescribeInstanceTypes", ASKED, TYPES)
    spec = {"nodeName": "a", "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/mig-1g.5gb": "1"}}}]}
    pod = {"metadata": {"name": "train", "namespace": "ml"}, "spec": spec, "status": {"phase": "Running"}}
    kube.items("/api/v1/pods", [pod], fieldSelector="spec.nodeName=a")
    found = kube.run(gpu_operator_info.main, params())["gpu_operator"]
    assert "Node a is to be cut in another way while pods have its GPUs (ml/train)" in found["conflicts"][0]


def test_nothing_is_waited_for_in_check_mode(kube: KubeWire, wire: Wire) -> None:
    look(kube.cluster(), [node("pending", 0)])
    wire.expect("ec2:DescribeInstanceTypes", ASKED, TYPES)
    assert kube.run(gpu_operator_info.main, params(wait=True), check_mode=True)["gpu_operator"]["ready"] is False


def test_pools_are_looked_at_before_any_client_exists(wire: Wire) -> None:
    pools = [{"sharing": 5}, {"name": "a", "mig": {"layout": {"1g.9gb": 7}}}, {"name": "b", "sharing": {"strategy": "mps"}, "other": 1}]
    result = wire.run(gpu_operator_info.main, params(pools=pools))
    assert [fault["path"] for fault in result["faults"]] == [
        "pools[0].name",
        "pools[0].sharing",
        "pools[1].mig.layout.1g.9gb",
        "pools[2].sharing.replicas",
    ]
    assert wire.made == []
