# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many GPUs a node has, of what model, and whose it is."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Hardware, Node


def gpus(name: str, number: int, maker: str = "NVIDIA") -> dict[str, t.Any]:
    return {"Gpus": [{"Name": name, "Manufacturer": maker, "Count": number}]}


@pytest.mark.parametrize(
    ("instance_type", "info", "hardware"),
    [
        ("g5.2xlarge", gpus("A10G", 1), Hardware(gpus=1, model="a10g")),
        ("g4dn.12xlarge", gpus("T4", 4), Hardware(gpus=4, model="t4")),
        ("g6f.large", gpus("L4", 0), Hardware(gpus=1, model="l4")),
        ("gr6f.4xlarge", gpus("L4", 0), Hardware(gpus=1, model="l4")),
        ("g7e.2xlarge", gpus("RTX PRO Server 6000", 1), Hardware(gpus=1, model="rtx-pro-server-6000")),
        ("g4ad.xlarge", gpus("Radeon Pro V520", 1, "AMD"), Hardware()),
        ("m5.large", None, Hardware()),
    ],
)
def test_hardware(instance_type: str, info: dict[str, t.Any] | None, hardware: Hardware) -> None:
    assert Hardware.from_api({"InstanceType": instance_type, **({"GpuInfo": info} if info else {})}) == hardware


CATALOG = {"g5.2xlarge": Hardware(gpus=1, model="a10g"), "m5.large": Hardware(), "x9.large": None}


def node(labels: dict[str, str], **more: t.Any) -> Node:
    return Node(name="n", labels=labels, **more)


@pytest.mark.parametrize(
    ("labels", "number", "model"),
    [
        ({"node.kubernetes.io/instance-type": "g5.2xlarge"}, 1, "a10g"),
        ({"node.kubernetes.io/instance-type": "x9.large"}, None, None),
        ({"nvidia.com/gpu.count": "8", "nvidia.com/gpu.product": "Tesla-T4-SHARED"}, 8, "t4"),
        ({"nvidia.com/gpu.product": "NVIDIA-A10G"}, None, "a10g"),
        ({"karpenter.k8s.aws/instance-gpu-count": "4", "karpenter.k8s.aws/instance-gpu-name": "l4"}, 4, "l4"),
        ({}, None, None),
    ],
)
def test_gpus_and_model(labels: dict[str, str], number: int | None, model: str | None) -> None:
    assert (node(labels).gpus(CATALOG), node(labels).model(CATALOG)) == (number, model)


@pytest.mark.parametrize(
    ("labels", "allocatable", "is_gpu_node"),
    [
        ({"node.kubernetes.io/instance-type": "m5.large"}, {}, False),
        ({"node.kubernetes.io/instance-type": "g5.2xlarge"}, {}, True),
        ({"nvidia.com/gpu.present": "true"}, {}, True),
        ({}, {"nvidia.com/gpu": 1}, True),
        ({}, {"nvidia.com/gpu": 0}, False),
    ],
)
def test_what_a_gpu_node_is(labels: dict[str, str], allocatable: dict[str, int], is_gpu_node: bool) -> None:
    assert node(labels, allocatable=allocatable).has_gpus(CATALOG) is is_gpu_node


@pytest.mark.parametrize(
    ("labels", "pool", "capacity_type"),
    [
        ({"gpuops.eks/nodepool": "a", "eks.amazonaws.com/nodegroup": "b", "eks.amazonaws.com/capacityType": "ON_DEMAND"}, "a", "on_demand"),
        ({"karpenter.sh/nodepool": "k", "karpenter.sh/capacity-type": "spot"}, "k", "spot"),
        ({"eks.amazonaws.com/nodegroup": "b", "eks.amazonaws.com/capacityType": "CAPACITY_BLOCK"}, "b", "capacity_block"),
        ({}, None, None),
    ],
)
def test_pool_and_capacity_type(labels: dict[str, str], pool: str | None, capacity_type: str | None) -> None:
    assert (node(labels).pool, node(labels).capacity_type) == (pool, capacity_type)


def test_from_api() -> None:
    obj = {
        "metadata": {
            "name": "n",
            "uid": "u",
            "labels": {"a": "b"},
            "annotations": {"c": "d"},
            "deletionTimestamp": "2026-01-31T12:00:00Z",
        },
        "spec": {"unschedulable": True, "taints": [{"key": "k", "effect": "NoSchedule"}]},
        "status": {
            "capacity": {"cpu": "8", "nvidia.com/gpu": "10"},
            "allocatable": {"cpu": "7910m", "nvidia.com/gpu": "9", "pods": "29"},
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "nodeInfo": {"osImage": "Bottlerocket OS 1.57.0 (aws-k8s-1.33-nvidia)"},
        },
    }
    assert Node.from_api(obj) == Node(
        name="n",
        labels={"a": "b"},
        taints=({"key": "k", "effect": "NoSchedule"},),
        capacity={"nvidia.com/gpu": 10},
        allocatable={"nvidia.com/gpu": 9},
        ready=False,
        schedulable=False,
        deleting=True,
        os_image="Bottlerocket OS 1.57.0 (aws-k8s-1.33-nvidia)",
        pods=29,
        annotations={"c": "d"},
        uid="u",
    )


@pytest.mark.parametrize(("strategy", "gpus"), [("single", 8), ("mixed", 56), (None, 56)])
def test_with_mig_strategy_single_the_label_counts_instances_and_not_gpus(strategy: str | None, gpus: int) -> None:
    labels = {"nvidia.com/gpu.count": "56", "node.kubernetes.io/instance-type": "p4d.24xlarge"}
    labels |= {"nvidia.com/mig.strategy": strategy} if strategy else {}
    found = node(labels)
    assert (found.gpus({"p4d.24xlarge": Hardware(gpus=8)}), found.needs_catalog) == (gpus, strategy == "single")


@pytest.mark.parametrize(("labels", "auto"), [({"eks.amazonaws.com/compute-type": "auto"}, True), ({}, False)])
def test_what_a_node_of_auto_mode_is(labels: dict[str, str], auto: bool) -> None:
    assert node(labels).auto_mode is auto


@pytest.mark.parametrize(
    ("os_image", "bottlerocket"),
    [("Bottlerocket OS 1.57.0 (aws-k8s-1.33-nvidia)", True), ("Amazon Linux 2023.8.20260724", False), ("", False)],
)
def test_what_a_bottlerocket_node_is(os_image: str, bottlerocket: bool) -> None:
    assert Node.from_api({"metadata": {"name": "n"}, "status": {"nodeInfo": {"osImage": os_image}}}).bottlerocket is bottlerocket
