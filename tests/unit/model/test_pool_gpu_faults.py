# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a pool shares and cuts its GPUs: what can be asked for, and each mistake with what would be right."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.bottlerocket import MIG_NAMES, mig_misfit
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES, misfit
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_faults import pool_faults

PROVISIONERS = ("karpenter", "managed_node_group", "auto_scaling_group")
A100, H100 = {"types": ["p4d.24xlarge"]}, {"families": ["p5"]}
SEVEN = {"layout": {"1g.5gb": 7}}
BALANCED = {"strategy": "mixed", "layout": {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}}
SINGLE = {"strategy": "single", "layout": {"1g.5gb": 7}}
TIME_SLICING, MPS = {"strategy": "time_slicing", "replicas": 4}, {"strategy": "mps", "replicas": 5}
BOTTLEROCKET = {"family": "bottlerocket"}
STATIC = {"min": 2, "max": 2}
OPERATOR = {"strategy": "time_slicing", "replicas": 4, "backend": "gpu_operator"}


def pool(provisioner: str = "managed_node_group", **options: t.Any) -> dict[str, t.Any]:
    return {"name": "gpu", "provisioner": provisioner, "instances": {"types": ["g5.2xlarge"]}, **options}


@pytest.mark.parametrize("provisioner", PROVISIONERS)
@pytest.mark.parametrize(
    "options",
    [
        {"instances": A100, "mig": SEVEN},
        {"instances": A100, "mig": BALANCED},
        {"instances": A100, "mig": SINGLE, "sharing": TIME_SLICING},
        {"instances": A100, "mig": BALANCED, "sharing": {"strategy": "none"}},
        {"instances": {"families": ["p5e", "p5en"]}, "mig": {"layout": {"1g.18gb": 7}}},
        {"instances": {"families": ["g6", "p5"], "gpu": {"models": ["h100"]}}, "mig": {"layout": {"1g.10gb": 7}}},
        {"instances": {"families": ["p9"]}, "mig": {"layout": {"1g.10gb": 7}}},
        {"instances": {"types": ["g7e.2xlarge", "g7e.48xlarge"]}, "mig": {"layout": {"1g.24gb": 4}}},
        {"instances": A100, "mig": SINGLE, "ami": BOTTLEROCKET},
        {"instances": A100, "mig": SINGLE, "ami": BOTTLEROCKET, "sharing": TIME_SLICING},
        {"instances": A100, "mig": SINGLE, "labels": {"k8s.amazonaws.com/accelerator": "nvidia-tesla-a100"}},
        {"sharing": MPS},
        {"sharing": MPS, "ami": BOTTLEROCKET},
        {"sharing": {**TIME_SLICING, "backend": "auto"}, "ami": BOTTLEROCKET},
        {"sharing": {**TIME_SLICING, "backend": "bottlerocket"}, "ami": BOTTLEROCKET},
        {"sharing": {**TIME_SLICING, "backend": "device_plugin"}},
        {"sharing": {"strategy": "mps", "replicas": 16}, "instances": {"types": ["p3.2xlarge"]}},
        {"labels": {"k8s.amazonaws.com/accelerator": "nvidia-a10g"}},
    ],
)
def test_what_can_be_asked_for(provisioner: str, options: dict[str, t.Any]) -> None:
    assert pool_faults(pool(provisioner, **options), "") == []


@pytest.mark.parametrize("provisioner", ["managed_node_group", "auto_scaling_group"])
@pytest.mark.parametrize("options", [{"sharing": OPERATOR}, {"sharing": {"backend": "gpu_operator"}, "instances": A100, "mig": BALANCED}])
def test_the_operator_has_groups_of_one_size(provisioner: str, options: dict[str, t.Any]) -> None:
    assert pool_faults(pool(provisioner, scaling=STATIC, **options), "") == []


# (what is set, path of the fault, a part of what is allowed instead)
BAD: list[tuple[dict[str, t.Any], str, str]] = [
    # which GPUs
    ({"instances": {"types": ["g5.2xlarge"]}, "mig": SEVEN}, "instances.types[0]", "p4d, p4de, p5, p5e, p5en, p6-b200"),
    ({"instances": {"families": ["p4d", "g6"]}, "mig": SEVEN}, "instances.families[1]", "NVIDIA-L4 has no Multi-Instance GPU"),
    ({"provisioner": "karpenter", "instances": {"categories": ["p"]}, "mig": SEVEN}, "instances", "types or families of one product"),
    ({"provisioner": "karpenter", "instances": None, "mig": SEVEN}, "instances", "types or families of one product"),
    ({"instances": {"families": ["p4d", "p4de"]}, "mig": {"layout": {"1g.10gb": 4}}}, "instances", "a pool for each of"),
    ({"instances": {"families": ["p4de", "p5"]}, "mig": {"layout": {"1g.10gb": 7}}}, "instances", "NVIDIA-H100-80GB-HBM3 (p5)"),
    # layouts
    ({"instances": A100, "mig": {"strategy": "mixed"}}, "mig.layout", "such as {1g.5gb: 7}"),
    ({"instances": A100, "mig": {"layout": {}}}, "mig.layout", "at least one profile"),
    ({"instances": A100, "mig": {"layout": {"1g.10gb": 7}}}, "mig.layout", "NVIDIA-A100-SXM4-40GB takes at most 4 of 1g.10gb"),
    ({"instances": H100, "mig": SEVEN}, "mig.layout", "NVIDIA-H100-80GB-HBM3 has no profile 1g.5gb; it has 1g.10gb"),
    ({"instances": A100, "mig": {"layout": {"3g.20gb": 2, "1g.5gb": 1}}}, "mig.layout", "does not fit"),
    ({"instances": A100, "mig": {"layout": {"1g.5gb": 0}}}, "mig.layout.1g.5gb", "at least 1"),
    ({"instances": A100, "mig": {"layout": {"1g.7gb": 1}}}, "mig.layout.1g.7gb", "no such profile"),
    ({"instances": A100, "mig": {"layout": {"mig-1g.5gb": 7}}}, "mig.layout.mig-1g.5gb", "1g.5gb"),
    ({"instances": A100, "mig": {**BALANCED, "strategy": "single"}}, "mig.layout", "one profile with strategy single"),
    # with sharing
    ({"instances": A100, "mig": SEVEN, "sharing": MPS}, "sharing.strategy", "MPS shares whole GPUs only"),
    ({"sharing": {"strategy": "mps", "replicas": 49}}, "sharing.replicas", "from 2 to 48"),
    (
        {"instances": {"types": ["p3.2xlarge", "g5.2xlarge"]}, "sharing": {"strategy": "mps", "replicas": 17}},
        "sharing.replicas",
        "16 on p3.2xlarge",
    ),
    # Bottlerocket
    ({"instances": A100, "mig": SEVEN, "ami": BOTTLEROCKET}, "mig.strategy", "single with ami.family bottlerocket"),
    ({"instances": A100, "mig": BALANCED, "ami": BOTTLEROCKET}, "mig.strategy", "mixed with ami.family al2023"),
    (
        {"instances": A100, "mig": {**SINGLE, "layout": {"1g.5gb": 4}}, "ami": BOTTLEROCKET},
        "mig.layout",
        "1g.5gb: 7, 1g.10gb: 4, 2g.10gb: 3",
    ),
    ({"instances": A100, "mig": {**SINGLE, "layout": {"4g.20gb": 1}}, "ami": BOTTLEROCKET}, "mig.layout", "that fills the GPU"),
    (
        {"instances": {"families": ["g7e"]}, "mig": {"strategy": "single", "layout": {"1g.24gb": 4}}, "ami": BOTTLEROCKET},
        "mig.layout",
        "needs ami.family al2023",
    ),
    ({"sharing": {**TIME_SLICING, "backend": "device_plugin"}, "ami": BOTTLEROCKET}, "sharing.backend", "auto or bottlerocket"),
    ({"sharing": {**TIME_SLICING, "backend": "bottlerocket"}}, "sharing.backend", "auto or device_plugin with ami.family al2023"),
    ({"sharing": OPERATOR, "scaling": STATIC, "ami": BOTTLEROCKET}, "sharing.backend", "auto or bottlerocket"),
    # the operator
    ({"sharing": OPERATOR}, "sharing.backend", "scaling.min equal to scaling.max"),
    ({"sharing": OPERATOR, "scaling": {"min": 1, "max": 2}}, "sharing.backend", "for nodes that an autoscaler makes"),
    (
        {"sharing": OPERATOR, "provisioner": "karpenter", "scaling": {"max": 2}},
        "sharing.backend",
        "managed_node_group and auto_scaling_group",
    ),
    # what an autoscaler would wait for
    (
        {"instances": A100, "mig": SEVEN, "labels": {"k8s.amazonaws.com/accelerator": "nvidia-tesla-a100"}},
        "labels.k8s.amazonaws.com/accelerator",
        "unset with mig.strategy mixed",
    ),
    (
        {"sharing": {**TIME_SLICING, "rename": True}, "labels": {"k8s.amazonaws.com/accelerator": "nvidia-a10g"}},
        "labels.k8s.amazonaws.com/accelerator",
        "unset with sharing.rename",
    ),
    # what older guides say
    ({"labels": {"k8s.amazonaws.com/accelerator": "vgpu"}}, "labels.k8s.amazonaws.com/accelerator", "advertise them as nvidia.com/gpu"),
    ({"labels": {"nvidia.com/gpu": "true"}}, "labels.nvidia.com/gpu", "nvidia.com/gpu.present"),
    ({"labels": {"nvidia.com/mig.config": "all-1g.5gb"}}, "labels.nvidia.com/mig.config", "follows from"),
    (
        {"tags": {"k8s.io/cluster-autoscaler/node-template/taint/dedicated": "nvidia.com/gpu=true"}},
        "tags.k8s.io/cluster-autoscaler/node-template/taint/dedicated",
        "taints: [{key: nvidia.com/gpu, value: 'true', effect: NoSchedule}]",
    ),
    (
        {"tags": {"k8s.io/cluster-autoscaler/node-template/label/nvidia.com/gpu": "true"}},
        "tags.k8s.io/cluster-autoscaler/node-template/label/nvidia.com/gpu",
        "labels, taints and sharing",
    ),
]


@pytest.mark.parametrize(("change", "path", "allowed"), BAD, ids=lambda value: value if isinstance(value, str) else None)
def test_each_mistake_has_its_words(change: dict[str, t.Any], path: str, allowed: str) -> None:
    faults = pool_faults({**pool(), **change}, "gpu_nodepools[0]")
    assert all(fault.source for fault in faults)
    assert [fault.path for fault in faults] == [f"gpu_nodepools[0].{path}"]
    assert allowed in faults[0].allowed


@pytest.mark.parametrize("provisioner", PROVISIONERS)
def test_a_general_pool_has_no_gpus_to_cut(provisioner: str) -> None:
    faults = pool_faults(
        {"name": "system", "accelerator": "none", "provisioner": provisioner, "instances": {"types": ["m5.large"]}, "mig": SEVEN}, ""
    )
    assert [(fault.path, fault.allowed) for fault in faults] == [("mig", "unset in a pool with accelerator none")]


def test_the_mistakes_of_an_operator_pool_are_all_named() -> None:
    faults = pool_faults(pool("karpenter", instances=H100, mig=SEVEN, sharing={**MPS, "backend": "gpu_operator"}), "")
    assert [fault.path for fault in faults] == ["sharing.backend", "sharing.strategy"]


@pytest.mark.parametrize("key", sorted(PROFILES))
def test_bottlerocket_fills_a_gpu_with_one_profile(key: str) -> None:
    full = {name: profile.most for name, profile in PROFILES[key].items()}
    taken = [name for name, most in full.items() if mig_misfit(key, {name: most}) is None]
    assert all(misfit(key, {name: full[name]}) is None for name in taken)
    assert [name.partition("g.")[0] for name in taken] == (["1", "1", "2", "3", "7"] if key in MIG_NAMES else [])
    assert all(mig_misfit(key, {name: full[name] - 1}) for name in taken)


def test_bottlerocket_names_products_of_the_catalogue() -> None:
    assert set(MIG_NAMES) <= {key for key, gpu in GPUS.items() if gpu.mig_slices}
