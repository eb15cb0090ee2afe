# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What cluster-autoscaler is told of nodes that are not there yet."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import ACCELERATOR_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import (
    accelerator_label,
    discovery_tags,
    template_tags,
    unfit_tags,
)

PREFIX = "k8s.io/cluster-autoscaler/node-template/"
GPU, SHARED = f"{PREFIX}resources/nvidia.com/gpu", f"{PREFIX}resources/nvidia.com/gpu.shared"
LABEL = f"{PREFIX}label/{ACCELERATOR_LABEL}"


def instance(model: str | None = "a10g", **changes: t.Any) -> InstanceType:
    common: dict[str, t.Any] = {"name": "g5.2xlarge", "vcpus": 8, "memory_mib": 32768, "architectures": frozenset({"amd64"})}
    return InstanceType(**{**common, "gpu_model": model, "gpus": 1 if model else 0, **changes})


def pool(**params: t.Any) -> Pool:
    return Pool.from_params({"name": "gpu", "instances": {"types": ["g5.2xlarge"]}, **params})


def tags(gpus: int = 4, model: str | None = "a10g", **params: t.Any) -> dict[str, str]:
    return template_tags(pool(**params), gpus, instance=instance(model))


def test_all_tags_of_a_shared_pool() -> None:
    wanted = pool(sharing={"strategy": "time_slicing", "replicas": 10}, labels={"team": "ml"})
    assert template_tags(wanted, 4, instance=instance(), cluster_name="demo") == {
        "k8s.io/cluster-autoscaler/enabled": "true",
        "k8s.io/cluster-autoscaler/demo": "owned",
        f"{PREFIX}label/team": "ml",
        f"{PREFIX}label/gpuops.eks/nodepool": "gpu",
        f"{PREFIX}label/nvidia.com/gpu.present": "true",
        f"{PREFIX}label/nvidia.com/device-plugin.config": "gpu",
        LABEL: "nvidia-a10g",
        f"{PREFIX}taint/nvidia.com/gpu": "true:NoSchedule",
        GPU: "40",
        f"{PREFIX}resources/ephemeral-storage": "200Gi",
    }


@pytest.mark.parametrize(
    ("params", "gpus", "resources", "label"),
    [
        ({}, 4, {GPU: "4"}, True),
        ({"sharing": {"strategy": "none"}}, 1, {GPU: "1"}, True),
        ({"sharing": {"strategy": "time_slicing", "replicas": 10}}, 1, {GPU: "10"}, True),
        ({"sharing": {"strategy": "mps", "replicas": 4}}, 8, {GPU: "32"}, True),
        ({"sharing": {"strategy": "time_slicing", "replicas": 10, "rename": True}}, 4, {GPU: "0", SHARED: "40"}, False),
        ({"mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}, 8, {GPU: "56"}, True),
        (
            {"mig": {"strategy": "mixed", "layout": {"1g.5gb": 2, "3g.20gb": 1}}},
            8,
            {GPU: "0", f"{PREFIX}resources/nvidia.com/mig-1g.5gb": "16", f"{PREFIX}resources/nvidia.com/mig-3g.20gb": "8"},
            False,
        ),
    ],
)
def test_resources_and_the_label_that_waits_for_them(params: dict[str, t.Any], gpus: int, resources: dict[str, str], label: bool) -> None:
    found = tags(gpus, **params)
    assert {key: value for key, value in found.items() if "/resources/nvidia.com/" in key} == resources
    assert (LABEL in found) == label


def test_a_pool_without_gpus() -> None:
    wanted = pool(accelerator="none", disk={"size_gib": 50}, taints=[{"key": "system", "effect": "NoSchedule"}])
    assert template_tags(wanted, 0, instance=instance(None)) == {
        f"{PREFIX}label/gpuops.eks/nodepool": "gpu",
        f"{PREFIX}taint/system": ":NoSchedule",
        f"{PREFIX}resources/ephemeral-storage": "50Gi",
    }


def test_taints_are_keys_and_never_values() -> None:
    """``taint/dedicated: nvidia.com/gpu=true`` is a taint without an effect, which the autoscaler drops without a word."""
    found = tags(taints=[{"key": "dedicated", "value": "nvidia", "effect": "NoExecute"}, {"key": "nvidia.com/gpu", "effect": "NoSchedule"}])
    assert {key: value for key, value in found.items() if "/taint/" in key} == {
        f"{PREFIX}taint/dedicated": "nvidia:NoExecute",
        f"{PREFIX}taint/nvidia.com/gpu": ":NoSchedule",
    }


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_effects_of_a_key_the_harder_one_counts(turn: int) -> None:
    both = [{"key": "a", "value": "soft", "effect": "PreferNoSchedule"}, {"key": "a", "value": "hard", "effect": "NoSchedule"}]
    assert tags(taints=both[::turn])[f"{PREFIX}taint/a"] == "hard:NoSchedule"


def test_startup_taints_are_gone_when_pods_come() -> None:
    assert not [key for key in tags(taints=[], startup_taints=[{"key": "warming", "effect": "NoSchedule"}]) if "/taint/" in key]


@pytest.mark.parametrize(
    ("model", "value"),
    [("t4", "nvidia-tesla-t4"), ("a100", "nvidia-tesla-a100"), ("l40s", "nvidia-l40s"), ("h100", "nvidia-h100")],
)
def test_the_labels_value(model: str, value: str) -> None:
    assert accelerator_label(pool(), instance(model)) == {ACCELERATOR_LABEL: value}


def test_no_label_without_gpus_or_a_known_type() -> None:
    assert accelerator_label(pool(accelerator="none"), instance(None)) == {}
    assert accelerator_label(pool(), None) == {}


@pytest.mark.parametrize(("after", "value"), [("10m", "10m"), ("Never", "87600h"), (None, None)])
def test_consolidate_after(after: str | None, value: str | None) -> None:
    found = tags(disruption={"consolidate_after": after})
    assert found.get(f"{PREFIX}autoscaling-options/scaledownunneededtime") == value


def test_elastic_fabric_adapters() -> None:
    wanted = pool(network={"efa": True})
    assert template_tags(wanted, 8, instance=instance(efa_interfaces=4))[f"{PREFIX}resources/vpc.amazonaws.com/efa"] == "4"
    assert f"{PREFIX}resources/vpc.amazonaws.com/efa" not in template_tags(pool(), 8, instance=instance(efa_interfaces=4))


def test_discovery() -> None:
    assert discovery_tags("demo") == {"k8s.io/cluster-autoscaler/enabled": "true", "k8s.io/cluster-autoscaler/demo": "owned"}


def test_what_aws_does_not_take() -> None:
    long = "x" * 63 + ".example/" + "y" * 20
    assert unfit_tags(tags(labels={long: "a"})) == [f"{PREFIX}label/{long}"]
    assert unfit_tags(tags()) == []
