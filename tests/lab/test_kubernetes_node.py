# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes as kubelet, cloud controller and EKS would make them of an instance."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from lab.nodes import node as nodes

G5: dict[str, t.Any] = {
    "InstanceType": "g5.2xlarge",
    "VCpuInfo": {"DefaultVCpus": 8},
    "MemoryInfo": {"SizeInMiB": 32768},
    "NetworkInfo": {"MaximumNetworkInterfaces": 4, "Ipv4AddressesPerInterface": 15},
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}]},
}
M6G: dict[str, t.Any] = {
    "InstanceType": "m6g.large",
    "VCpuInfo": {"DefaultVCpus": 2},
    "MemoryInfo": {"SizeInMiB": 8192},
    "NetworkInfo": {"MaximumNetworkInterfaces": 3, "Ipv4AddressesPerInterface": 10},
    "ProcessorInfo": {"SupportedArchitectures": ["arm64"]},
}
INSTANCE = nodes.Instance(
    instance_id="i-0123",
    name="ip-10-0-1-2.us-west-2.compute.internal",
    private_ip="10.0.1.2",
    instance_type="g5.2xlarge",
    zone="us-west-2a",
    zone_id="usw2-az2",
    image_id="ami-1",
    image_name="",
    tags={"eks:cluster-name": "lab", "eks:nodegroup-name": "gpu"},
    ami_type="AL2023_x86_64_NVIDIA",
)
GROUP: dict[str, t.Any] = {
    "nodegroupName": "gpu",
    "capacityType": "SPOT",
    "labels": {"team": "ml"},
    "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}],
    "launchTemplate": {"id": "lt-1", "version": "3"},
}


def built(*, grouped: bool = True) -> dict[str, t.Any]:
    return nodes.build(INSTANCE, G5, "1.36", nodes.group_state(GROUP, INSTANCE) if grouped else None)


def test_a_gpu_node_of_a_managed_node_group() -> None:
    node = built()
    assert node["metadata"]["name"] == INSTANCE.name
    assert node["spec"]["providerID"] == "aws:///us-west-2a/i-0123"
    assert node["spec"]["taints"] == [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}]
    expected = {
        "kubernetes.io/hostname": INSTANCE.name,
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "g5.2xlarge",
        "topology.kubernetes.io/zone": "us-west-2a",
        "topology.kubernetes.io/region": "us-west-2",
        "topology.k8s.aws/zone-id": "usw2-az2",
        "nvidia.com/gpu.present": "true",
        "eks.amazonaws.com/nodegroup": "gpu",
        "eks.amazonaws.com/capacityType": "SPOT",
        "eks.amazonaws.com/nodegroup-image": "ami-1",
        "eks.amazonaws.com/sourceLaunchTemplateId": "lt-1",
        "eks.amazonaws.com/sourceLaunchTemplateVersion": "3",
        "team": "ml",
    }
    assert expected.items() <= node["metadata"]["labels"].items()


def test_a_new_node_has_no_gpu_but_the_simulation_knows_it() -> None:
    node = built()
    assert not [k for k in node["status"]["capacity"] if "gpu" in k]
    assert node["metadata"]["annotations"][nodes.GPUS] == "1"
    assert node["metadata"]["annotations"][nodes.GPU_MODEL] == "a10g"


def test_size_of_a_node() -> None:
    status = built()["status"]
    assert status["capacity"] == {"cpu": "8", "memory": "30310Mi", "pods": "58", "ephemeral-storage": "80Gi"}
    assert status["allocatable"]["cpu"] == "7910m"  # 60 + 10 + 2 x 5 + 4 x 2.5 reserved
    assert status["allocatable"]["memory"] == f"{30310 - (11 * 58 + 255) - 100}Mi"


@pytest.mark.parametrize(("cpus", "reserved"), [(1, 60), (2, 70), (4, 80), (8, 90), (96, 310)])
def test_reserved_cpu_by_nodeadms_rule(cpus: int, reserved: int) -> None:
    assert nodes.reserved_millicpus(cpus) == reserved


def test_a_self_managed_arm_node() -> None:
    instance = dataclasses.replace(INSTANCE, instance_type="m6g.large", tags={"kubernetes.io/cluster/lab": "owned"}, ami_type="")
    node = nodes.build(instance, M6G, "1.36", None)
    labels = node["metadata"]["labels"]
    assert labels["kubernetes.io/arch"] == "arm64"
    assert "nvidia.com/gpu.present" not in labels
    assert not [k for k in labels if k.startswith("eks.amazonaws.com/")]
    assert node["metadata"]["annotations"] == {}
    assert node["spec"]["taints"] == []


@pytest.mark.parametrize(
    ("ami_type", "image", "driver", "system"),
    [
        ("AL2023_x86_64_NVIDIA", "", True, "al2023"),
        ("AL2023_x86_64_STANDARD", "", False, "al2023"),
        ("BOTTLEROCKET_x86_64_NVIDIA", "", True, "bottlerocket"),
        ("CUSTOM", "mine", True, "other"),
        ("", "amazon-eks-node-al2023-x86_64-standard-1.36-v20260101", False, "al2023"),
        ("", "amazon-eks-node-al2023-x86_64-nvidia-1.36-v20260101", True, "al2023"),
        ("", "bottlerocket-aws-k8s-1.36-nvidia-x86_64-v1.54.0", True, "bottlerocket"),
    ],
)
def test_what_an_image_brings(ami_type: str, image: str, driver: bool, system: str) -> None:
    instance = dataclasses.replace(INSTANCE, ami_type=ami_type, image_name=image)
    assert nodes.has_driver(instance) is driver
    assert nodes.operating_system(instance) == system
    node = nodes.build(instance, G5, "1.36", None)
    assert (nodes.GPUS in node["metadata"]["annotations"]) is driver
    assert ("nvidia.com/gpu.present" in node["metadata"]["labels"]) is (driver and system == "al2023")


@pytest.mark.parametrize(
    ("tags", "clusters"),
    [
        ({"kubernetes.io/cluster/a": "owned"}, {"a"}),
        ({"eks:cluster-name": "b"}, {"b"}),
        ({"kubernetes.io/cluster/a": "owned", "eks:cluster-name": "a", "Name": "x"}, {"a"}),
        ({"Name": "x"}, set()),
    ],
)
def test_which_cluster_an_instance_belongs_to(tags: dict[str, str], clusters: set[str]) -> None:
    assert nodes.belongs_to(tags) == clusters


def test_nothing_to_carry_where_the_group_did_not_change() -> None:
    assert nodes.group_change(built(), nodes.group_state(GROUP, INSTANCE)) is None


def test_a_groups_changes_reach_its_nodes_and_leave_others_alone() -> None:
    node = built()
    node["metadata"]["labels"]["by"] = "hand"
    node["spec"]["taints"].append({"key": "mine", "effect": "NoExecute"})
    changed = {**GROUP, "labels": {"stage": "two"}, "taints": [{"key": "other", "effect": "NO_EXECUTE"}]}
    change = nodes.group_change(node, nodes.group_state(changed, INSTANCE))
    assert change is not None
    assert change["metadata"]["labels"] == {"stage": "two", "team": None}
    assert {(taint["key"], taint["effect"]) for taint in change["spec"]["taints"]} == {("mine", "NoExecute"), ("other", "NoExecute")}


def test_a_label_taken_away_by_hand_comes_back() -> None:
    node = built()
    del node["metadata"]["labels"]["team"]
    change = nodes.group_change(node, nodes.group_state(GROUP, INSTANCE))
    assert change is not None
    assert change["metadata"]["labels"] == {"team": "ml"}
