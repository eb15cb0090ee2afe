# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes are told of their GPUs, with each provisioner: at first, changed, no longer asked for; and what autoscalers are told with it."""

from __future__ import annotations

import base64
import dataclasses
import tomllib
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType
from ansible_collections.gpuops.eks.plugins.module_utils._model.karpenter import limits
from ansible_collections.gpuops.eks.plugins.module_utils._model.mig_script import render as script
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import NodeSettings, parse
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import resolve as resolve_karpenter
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import (
    MARK,
    crowded,
    pool_warnings,
    sharing_result,
    told,
    told_again,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import resolve_groups

from tests.unit import pool_states
from tests.unit.pool_states import PROVISIONERS, made, pool_of

Json = dict[str, t.Any]
ALL = tuple(PROVISIONERS)
H100: Json = {"types": ["p5.4xlarge"]}
SEVEN: Json = {"strategy": "mixed", "layout": {"1g.10gb": 7}}
SINGLE: Json = {"strategy": "single", "layout": {"1g.10gb": 7}}
BOTTLEROCKET: Json = {"family": "bottlerocket"}
TIME_SLICING, MPS = {"strategy": "time_slicing", "replicas": 4}, {"strategy": "mps", "replicas": 5}
RESOURCES = "k8s.io/cluster-autoscaler/node-template/resources/"


def params(provisioner: str, **options: t.Any) -> Json:
    return {"name": "gpu", "provisioner": provisioner, "instances": {"types": ["g5.2xlarge"]}, "zones": ["us-west-2a"], **options}


def texts(provisioner: str, state: t.Any) -> list[str]:
    """The user data of what there is."""
    if provisioner == "karpenter":
        return [one["spec"].get("userData", "") for one in state.inner.node_classes]
    used = {one.launch_template if provisioner == "managed_node_group" else one.template for one in groups(provisioner, state)}
    contents = [version for one in state.inner.templates.values() for name, version in one.versions.items() if (one.id, name) in used]
    return [base64.b64decode(content.data.get("UserData", "")).decode() for content in contents]


def groups(provisioner: str, state: t.Any) -> list[t.Any]:
    return list((state.inner.nodegroups if provisioner == "managed_node_group" else state.inner.groups).values())


def advertised(provisioner: str, state: t.Any) -> Json:
    """What an autoscaler is told that a node of the pool advertises."""
    if provisioner == "karpenter":
        return {name: value for one in state.inner.node_overlays for name, value in one["spec"]["capacity"].items()}
    [group] = groups(provisioner, state)
    return {key.removeprefix(RESOURCES): value for key, value in group.tags.items() if key.startswith(RESOURCES) and "nvidia.com" in key}


def after(provisioner: str, state: t.Any, options: Json) -> t.Any:
    one = PROVISIONERS[provisioner]
    planned = one.plan(pool_of(options), state)
    assert planned.faults == ()
    return one.applied(planned, state)


def told_in(provisioner: str, state: t.Any) -> NodeSettings:
    [text] = texts(provisioner, state)
    return parse(text)


def plugin_in(provisioner: str, state: t.Any) -> Json:
    """Bottlerocket's settings of its device plugin."""
    [text] = texts(provisioner, state)
    return t.cast(Json, tomllib.loads(text)["settings"]["kubelet-device-plugins"]["nvidia"])


@pytest.mark.parametrize("provisioner", ALL)
def test_amazon_linux_cuts_its_gpus_by_the_script(provisioner: str) -> None:
    state = made(provisioner, params(provisioner, instances=H100, mig=SEVEN))
    [text] = texts(provisioner, state)
    assert script(SEVEN["layout"]) in text
    assert "nvidia-smi mig -cgi 1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb,1g.10gb -C && in_force" in text
    assert advertised(provisioner, state) == {"nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "7"}


@pytest.mark.parametrize("provisioner", ALL)
def test_single_and_shares_of_instances_are_counted(provisioner: str) -> None:
    state = made(provisioner, params(provisioner, instances=H100, mig=SINGLE, sharing=TIME_SLICING))
    assert advertised(provisioner, state) == {"nvidia.com/gpu": "28"}
    mixed = made(provisioner, params(provisioner, instances=H100, mig=SEVEN, sharing=TIME_SLICING))
    assert advertised(provisioner, mixed) == {"nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "28"}


@pytest.mark.parametrize("provisioner", ALL)
@pytest.mark.parametrize("family", ["al2023", "bottlerocket"])
def test_without_mig_again_gpus_are_whole(provisioner: str, family: str) -> None:
    before = params(provisioner, instances=H100, ami={"family": family}, mig=SINGLE)
    without = {name: value for name, value in before.items() if name != "mig"}
    state = after(provisioner, made(provisioner, before), without)
    there = told_in(provisioner, state)
    assert (there.mig_layout, there.mig_profiles) == ({}, {})
    assert PROVISIONERS[provisioner].plan(pool_of(without), state).actions == []


@pytest.mark.parametrize("provisioner", ALL)
def test_a_strategy_is_the_device_plugins_and_nodes_keep_their_layout(provisioner: str) -> None:
    state = made(provisioner, params(provisioner, instances=H100, mig=SINGLE))
    assert told_in(provisioner, after(provisioner, state, params(provisioner, instances=H100, mig=SEVEN))).mig_layout == {"1g.10gb": 7}


@pytest.mark.parametrize("provisioner", ALL)
@pytest.mark.parametrize(
    ("sharing", "said"),
    [
        (
            TIME_SLICING,
            {
                "device-sharing-strategy": "time-slicing",
                "time-slicing": {"replicas": 4, "rename-by-default": False, "fail-requests-greater-than-one": True},
            },
        ),
        (MPS, {"device-sharing-strategy": "mps", "mps": {"replicas": 5, "rename-by-default": False}}),
        (None, {"device-sharing-strategy": "none"}),
    ],
)
def test_bottlerocket_shares_as_it_is_told(provisioner: str, sharing: Json | None, said: Json) -> None:
    state = made(provisioner, params(provisioner, ami=BOTTLEROCKET, sharing=sharing))
    assert plugin_in(provisioner, state) == said


@pytest.mark.parametrize("provisioner", ALL)
def test_bottlerocket_cuts_each_gpu_with_one_profile(provisioner: str) -> None:
    state = made(provisioner, params(provisioner, instances=H100, ami=BOTTLEROCKET, mig=SINGLE, sharing=TIME_SLICING))
    assert plugin_in(provisioner, state) == {
        "device-partitioning-strategy": "mig",
        "mig": {"profile": {"h100.80gb": "1g.10gb"}},
        "device-sharing-strategy": "time-slicing",
        "time-slicing": {"replicas": 4, "rename-by-default": False, "fail-requests-greater-than-one": True},
    }
    assert advertised(provisioner, state) == {"nvidia.com/gpu": "28"}


@pytest.mark.parametrize("provisioner", ALL)
def test_bottlerocket_shares_in_another_way_on_new_nodes(provisioner: str) -> None:
    """Its settings are read at boot: what nodes launch from is changed, and nodes are replaced."""
    options = params(
        provisioner, ami=BOTTLEROCKET, sharing=TIME_SLICING, scaling={"max": 2} if provisioner == "karpenter" else {"min": 1, "max": 2}
    )
    state = made(provisioner, options)
    planned = PROVISIONERS[provisioner].plan(pool_of({**options, "sharing": MPS}), state)
    rolls = {
        "karpenter": "kubernetes:patch ec2nodeclasses.karpenter.k8s.aws",
        "managed_node_group": "eks:UpdateNodegroupVersion",
        "auto_scaling_group": "autoscaling:StartInstanceRefresh",
    }
    assert rolls[provisioner] in planned.actions
    state = PROVISIONERS[provisioner].applied(planned, state)
    assert plugin_in(provisioner, state)["device-sharing-strategy"] == "mps"
    whole = after(provisioner, state, {name: value for name, value in options.items() if name != "sharing"})
    assert plugin_in(provisioner, whole) == {"device-sharing-strategy": "none"}


@pytest.mark.parametrize("provisioner", ["managed_node_group", "auto_scaling_group"])
def test_the_operator_cuts_by_a_label(provisioner: str) -> None:
    sharing = {"backend": "gpu_operator"}
    state = made(provisioner, params(provisioner, instances=H100, mig=SEVEN, sharing=sharing, scaling={"min": 1, "max": 1}))
    assert [parse(text).mig_layout for text in texts(provisioner, state)] == [{}]
    [group] = groups(provisioner, state)
    labels = group.labels if provisioner == "managed_node_group" else told_in(provisioner, state).labels
    assert labels["nvidia.com/mig.config"] == "gpu"
    assert "nvidia.com/device-plugin.config" not in labels
    assert advertised(provisioner, state)["nvidia.com/mig-1g.10gb"] == "7"


def test_a_managed_node_group_says_that_there_is_user_data_to_look_at() -> None:
    provisioner = "managed_node_group"
    [plain] = groups(provisioner, made(provisioner, params(provisioner)))
    [cut] = groups(provisioner, made(provisioner, params(provisioner, instances=H100, mig=SEVEN)))
    [shared] = groups(provisioner, made(provisioner, params(provisioner, ami=BOTTLEROCKET, sharing=TIME_SLICING)))
    [by_plugin] = groups(provisioner, made(provisioner, params(provisioner, sharing=TIME_SLICING)))
    assert [MARK in group.tags for group in (plain, cut, shared, by_plugin)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (1, "nvidia.com/gpu", "gpu", "device_plugin", None)),
        ({"sharing": {**TIME_SLICING, "rename": True}}, (4, "nvidia.com/gpu.shared", "gpu", "device_plugin", None)),
        ({"ami": BOTTLEROCKET, "sharing": MPS}, (5, "nvidia.com/gpu", None, "bottlerocket", None)),
        ({"instances": H100, "mig": SEVEN}, (1, "nvidia.com/mig-1g.10gb", "gpu", "device_plugin", SEVEN)),
        ({"instances": H100, "mig": SINGLE, "sharing": {"backend": "gpu_operator"}}, (1, "nvidia.com/gpu", None, "gpu_operator", SINGLE)),
    ],
)
def test_the_result_says_how_gpus_are_shared(options: Json, expected: tuple[t.Any, ...]) -> None:
    found = sharing_result(pool_of(params("managed_node_group", **options)))
    assert found is not None
    assert tuple(found[name] for name in ("replicas", "resource", "configuration", "backend", "mig")) == expected
    assert found["resources"] == [found["resource"]]


def test_several_resources_are_no_single_one() -> None:
    mixed = pool_of(params("karpenter", instances=H100, mig={"layout": {"1g.10gb": 3, "3g.40gb": 1}}))
    found = sharing_result(mixed)
    assert found is not None
    assert (found["resource"], found["resources"]) == (None, ["nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"])
    assert sharing_result(pool_of({"name": "system", "accelerator": "none"})) is None


def test_user_data_of_others_stays() -> None:
    pool = pool_of(params("karpenter", instances=H100, mig=SEVEN))
    assert told_again(pool, NodeSettings(foreign="#!/bin/sh\n")) == {}
    assert told(pool)["mig_layout"] == {"1g.10gb": 7}


@pytest.mark.parametrize("provisioner", ALL)
def test_the_label_that_waits_for_gpus_is_not_on_nodes_without_that_resource(provisioner: str) -> None:
    label = "k8s.amazonaws.com/accelerator"
    for mig, has in ((SINGLE, provisioner != "karpenter"), (SEVEN, False)):
        state = made(provisioner, params(provisioner, instances=H100, mig=mig))
        shown = PROVISIONERS[provisioner].shown(state)
        assert any(label in path for path in shown) is has


@pytest.mark.parametrize(
    ("options", "limit", "expected"),
    [
        ({"mig": SINGLE}, 8, {"nodes": "10", "nvidia.com/gpu": "56"}),
        ({"mig": SINGLE, "sharing": TIME_SLICING}, 8, {"nodes": "10", "nvidia.com/gpu": "224"}),
        ({"mig": SEVEN}, 8, {"nodes": "8"}),
        ({"mig": SEVEN, "scaling": {"max": 3}}, 8, {"nodes": "3"}),
    ],
)
def test_karpenter_counts_instances(options: Json, limit: int, expected: Json) -> None:
    pool = pool_of(params("karpenter", instances=H100, limits={"gpus": limit}, **options))
    assert limits(pool, largest=1).values == expected


@pytest.mark.parametrize(
    ("options", "gpus", "least"),
    [
        ({"instances": {"types": ["g5.12xlarge"]}}, 3, 4),
        ({"instances": {"types": ["g5.2xlarge", "g5.12xlarge"]}}, 1, None),
        ({"instances": {"types": ["g5.2xlarge", "g5.12xlarge"]}, "sharing": {**TIME_SLICING, "rename": True}}, 3, 4),
        ({"instances": {"types": ["g5.12xlarge"]}, "zones": ["us-west-2a", "us-west-2b"], "scaling": {"scope": "zone"}}, 7, 8),
        ({"instances": {"types": ["g5.12xlarge"]}, "zones": ["us-west-2a", "us-west-2b"], "scaling": {"scope": "zone"}}, 8, None),
    ],
)
def test_a_limit_that_no_node_keeps_to(options: Json, gpus: int, least: int | None) -> None:
    one = PROVISIONERS["karpenter"]
    planned = one.plan(pool_of(params("karpenter", limits={"gpus": gpus}) | options), one.empty())
    assert [(fault.path, fault.allowed.partition(",")[0]) for fault in planned.faults] == (
        [] if least is None else [("pool.limits.gpus", f"at least {least}")]
    )


def test_profiles_with_a_suffix_have_the_name_that_their_device_plugin_gives_them() -> None:
    mig = {"strategy": "mixed", "layout": {"1g.10gb": 6, "1g.10gb+me": 1}}
    ours = pool_of(params("managed_node_group", instances=H100, mig=mig))
    assert ours.gpu_resources.advertised(1) == {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.10gb": 7}
    assert ["1g.10gb+me as nvidia.com/mig-1g.10gb" in warning for warning in pool_warnings(ours)] == [True]
    operators = pool_of(params("managed_node_group", instances=H100, mig=mig, sharing={"backend": "gpu_operator"}))
    assert operators.gpu_resources.advertised(1) == {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.10gb": 6, "nvidia.com/mig-1g.10gb.me": 1}
    assert pool_warnings(operators) == []


def test_what_a_user_should_know_of_a_pool() -> None:
    new = pool_of(params("karpenter", instances={"types": ["p9.48xlarge"]}, mig=SEVEN, disk={"size_gib": 50}))
    disk, unknown = pool_warnings(new)
    assert "disk.size_gib 50 is little for images with CUDA" in disk
    assert "p9.48xlarge is not in the catalogue" in unknown
    assert pool_warnings(pool_of(params("karpenter", instances=H100, mig=SEVEN, disk={"size_gib": 60}))) == []
    assert pool_warnings(pool_of({"name": "system", "accelerator": "none", "disk": {"size_gib": 30}})) == []


def test_more_shares_than_pods_are_said() -> None:
    reply = {
        "InstanceType": "g5.2xlarge",
        "VCpuInfo": {"DefaultVCpus": 8},
        "MemoryInfo": {"SizeInMiB": 32768},
        "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
        "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}]},
        "NetworkInfo": {
            "Ipv4AddressesPerInterface": 15,
            "DefaultNetworkCardIndex": 0,
            "NetworkCards": [{"NetworkCardIndex": 0, "MaximumNetworkInterfaces": 4}],
        },
    }
    instance = InstanceType.from_api(reply)
    assert instance.pods == 58, "as EKS's table of pods has it"
    few, many = ({"strategy": "time_slicing", "replicas": count} for count in (58, 59))
    assert crowded(pool_of(params("karpenter", sharing=few)), [instance]) == []
    [warning] = crowded(pool_of(params("karpenter", sharing=many)), [instance])
    assert "g5.2xlarge (59 for 58 pods)" in warning
    types = [dataclasses.replace(instance, name=f"g5.{size}") for size in range(8)]
    assert crowded(pool_of(params("karpenter", sharing=many)), types)[0].count("59 for 58") == 5
    assert crowded(pool_of(params("karpenter", sharing=many)), [dataclasses.replace(instance, pods=0)]) == [], (
        "what is not known is not said"
    )


@pytest.mark.parametrize("provisioner", ALL)
def test_a_plan_carries_what_is_said_of_its_types(provisioner: str) -> None:
    full = {name: dataclasses.replace(one, pods=58) for name, one in pool_states.TYPES.items()}
    facts = dataclasses.replace(pool_states.FACTS, types=full)
    pool = pool_of(params(provisioner, sharing={"strategy": "time_slicing", "replicas": 100}))
    found = (
        resolve_karpenter(pool, pool_states.SUBNETS, facts)
        if provisioner == "karpenter"
        else resolve_groups(pool, pool_states.SUBNETS, facts)
    )
    assert any("100 for 58 pods" in warning for warning in found.warnings)
