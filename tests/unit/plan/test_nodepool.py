# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which groups a pool consists of, and the exact calls that make, change and remove them."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import (
    LaunchTemplate,
    TemplateContent,
    TemplateWish,
    new_content,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup, taint_from_api
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Disk, Limits, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool import Observed, PoolsPlan, plan_absent, plan_pools
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_adopt import adopted_group
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import Settings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import (
    Ec2Facts,
    Resolution,
    WantedGroup,
    group_name,
    resolve_groups,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_replace import settle
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_result import pool_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import pool_tags, template_name
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
ROLE = "arn:aws:iam::123456789012:role/demo-node"
SETTINGS = Settings(owner=OWNER, roles={ROLE: ROLE})
SUBNETS = tuple(Subnet(id=f"subnet-{letter}", zone=f"us-west-2{letter}", zone_id=f"usw2-az{n}") for n, letter in enumerate("abc", 1))


def instance(name: str, vcpus: int, memory_gib: int, gpus: int = 0, arch: str = "amd64", model: str | None = None) -> InstanceType:
    return InstanceType(
        name=name,
        vcpus=vcpus,
        memory_mib=memory_gib * 1024,
        architectures=frozenset({arch}),
        hypervisor="nitro",
        gpus=gpus,
        gpu_model=model,
        gpu_memory_mib=22888 if gpus else 0,
        fractional=name.startswith("g6f"),
        instance_store=gpus > 0,
    )


TYPES = {
    one.name: one
    for one in (
        instance("g5.2xlarge", 8, 32, 1),
        instance("g5.4xlarge", 16, 64, 1),
        instance("g6.2xlarge", 8, 32, 1),
        instance("g5.12xlarge", 48, 192, 4),
        instance("g6f.large", 2, 8, 1),
        instance("g5g.xlarge", 4, 8, 1, "arm64"),
        instance("m5.large", 2, 8),
        instance("m6i.large", 2, 8),
        instance("m5.xlarge", 4, 16),
    )
}
EVERYWHERE = Ec2Facts(types=TYPES, offerings={subnet.zone: set(TYPES) for subnet in SUBNETS})


def pool(**params: t.Any) -> Pool:
    given = {"name": "inference", "instances": {"types": ["g5.2xlarge"]}, "zones": ["us-west-2a"], **params}
    return Pool.from_params(given, node_role=ROLE)


def general(**params: t.Any) -> Pool:
    return pool(**{"name": "system", "accelerator": "none", "instances": {"types": ["m5.large"]}, "zones": None, **params})


def resolve(wanted: Pool, facts: Ec2Facts = EVERYWHERE, subnets: t.Sequence[Subnet] = SUBNETS) -> Resolution:
    return resolve_groups(wanted, subnets, facts)


def groups_of(wanted: Pool, facts: Ec2Facts = EVERYWHERE) -> tuple[WantedGroup, ...]:
    resolution = resolve(wanted, facts)
    assert resolution.faults == ()
    return resolution.groups


def shares(groups: t.Sequence[WantedGroup]) -> list[tuple[str, int, int, int]]:
    return [(group.name, group.min, group.max, group.desired) for group in groups]


# --- groups


def test_one_group_per_zone_gpu_count_and_capacity_type() -> None:
    wanted = pool(
        zones=["usw2-az2", "us-west-2a"],
        instances={"families": ["g5"], "types": []},
        capacity={"types": ["spot", "on_demand"]},
        scaling={"min": 1, "max": 9},
    )
    assert shares(groups_of(wanted)) == [
        ("inference-us-west-2b-1gpu-spot", 1, 2, 1),
        ("inference-us-west-2b-1gpu-on-demand", 0, 1, 0),
        ("inference-us-west-2b-4gpu-spot", 0, 1, 0),
        ("inference-us-west-2b-4gpu-on-demand", 0, 1, 0),
        ("inference-us-west-2a-1gpu-spot", 0, 1, 0),
        ("inference-us-west-2a-1gpu-on-demand", 0, 1, 0),
        ("inference-us-west-2a-4gpu-spot", 0, 1, 0),
        ("inference-us-west-2a-4gpu-on-demand", 0, 1, 0),
    ]


def test_general_pools_span_their_zones_with_the_types_that_all_of_them_offer() -> None:
    offerings = {"us-west-2a": {"m5.large", "m6i.large"}, "us-west-2b": {"m5.large"}, "us-west-2c": set[str]()}
    resolution = resolve(general(instances={"types": ["m5.large", "m6i.large"]}), Ec2Facts(types=TYPES, offerings=offerings))
    (group,) = resolution.groups
    assert (group.name, group.zone, group.subnet_ids, group.instance_types) == (
        "system-all-0gpu-on-demand",
        None,
        ("subnet-a", "subnet-b"),
        ("m5.large",),
    )
    assert resolution.warnings == ("Pool system: us-west-2c offers none of its instance types, so that it has no node group there.",)


def test_general_pools_by_zone_have_the_numbers_in_each() -> None:
    wanted = general(scaling={"min": 1, "max": 2, "scope": "zone"}, zones=["us-west-2a", "us-west-2b"])
    assert shares(groups_of(wanted)) == [("system-us-west-2a-0gpu-on-demand", 1, 2, 1), ("system-us-west-2b-0gpu-on-demand", 1, 2, 1)]


@pytest.mark.parametrize(
    ("scaling", "limits", "expected"),
    [
        ({"min": 2, "max": 10}, {}, [(1, 4, 1), (1, 3, 1), (0, 3, 0)]),
        ({"max": 2}, {}, [(0, 1, 0), (0, 1, 0), (0, 0, 0)]),
        ({"min": 0, "max": 3, "desired": 2}, {}, [(0, 1, 1), (0, 1, 1), (0, 1, 0)]),
        ({"min": 1, "max": 2, "desired": 2, "scope": "zone"}, {}, [(1, 2, 2)] * 3),
        ({}, {}, [(0, 4, 0), (0, 3, 0), (0, 3, 0)]),
        ({"min": 1, "max": 9}, {"gpus": 4}, [(1, 3, 1), (0, 1, 0), (0, 0, 0)]),
        ({"min": 3, "max": 9}, {"gpus": 3}, [(1, 1, 1)] * 3),
    ],
)
def test_numbers_are_shared_out(scaling: dict[str, t.Any], limits: dict[str, t.Any], expected: list[tuple[int, int, int]]) -> None:
    groups = groups_of(pool(zones=[subnet.zone for subnet in SUBNETS], scaling=scaling, limits=limits))
    assert [(group.min, group.max, group.desired) for group in groups] == expected


def test_a_gpu_limit_counts_the_gpus_of_each_group() -> None:
    groups = groups_of(pool(instances={"types": ["g5.2xlarge", "g5.12xlarge"]}, scaling={"max": 8}, limits={"gpus": 10}))
    assert [(group.gpu_count, group.max) for group in groups] == [(1, 4), (4, 1)]


def test_minima_above_the_gpu_limit_are_refused() -> None:
    (fault,) = resolve(pool(scaling={"min": 2, "max": 2}, limits={"gpus": 1})).faults
    assert (fault.path, fault.value, fault.allowed) == ("limits.gpus", 1, "at least 2, the GPUs of scaling.min")


def test_a_gpu_limit_below_one_node_is_refused() -> None:
    wanted = pool(instances={"types": ["g5.12xlarge"]}, zones=["us-west-2a", "us-west-2b"], limits={"gpus": 3})
    (fault,) = resolve(wanted).faults
    assert (fault.path, fault.value, fault.source) == ("limits.gpus", 3, "the collection's options")
    assert fault.allowed.startswith("at least 4, the GPUs of one node of inference-us-west-2a-4gpu-on-demand")
    assert resolve(dataclasses.replace(wanted, limits=Limits(gpus=4))).faults == ()


def test_types_come_with_the_fewest_cpus_first_and_at_most_twenty() -> None:
    many = {f"m5.{n}xlarge": instance(f"m5.{n}xlarge", n, n) for n in range(30, 0, -1)}
    facts = Ec2Facts(types=many, offerings={subnet.zone: set(many) for subnet in SUBNETS})
    (group,) = groups_of(general(instances={"families": ["m5"]}), facts)
    assert group.instance_types == tuple(f"m5.{n}xlarge" for n in range(1, 21))


def test_a_part_of_a_gpu_is_named_in_a_warning() -> None:
    resolution = resolve(pool(instances={"types": ["g6f.large"]}))
    assert resolution.groups[0].gpu_count == 1
    assert resolution.warnings == ("Pool inference: g6f.large have a part of one GPU, which counts as 1.",)


FAULTS: list[tuple[Pool, Ec2Facts, list[tuple[str, t.Any, str]]]] = [
    (pool(instances={"types": ["g5.3xlarge"]}), EVERYWHERE, [("instances.types[0]", "g5.3xlarge", "EC2 has")]),
    (pool(instances={"types": ["m5.large"]}), EVERYWHERE, [("instances.types[0]", "m5.large", "with NVIDIA GPUs")]),
    (general(instances={"types": ["g5.2xlarge"]}), EVERYWHERE, [("instances.types[0]", "g5.2xlarge", "without NVIDIA GPUs")]),
    (pool(instances={"types": ["g5g.xlarge"]}), EVERYWHERE, [("instances.types[0]", "g5g.xlarge", "this one is arm64")]),
    (
        pool(instances={"types": ["g5.2xlarge", "g5.4xlarge"], "sizes": ["2xlarge"]}),
        EVERYWHERE,
        [("instances.types[1]", "g5.4xlarge", "instances.sizes")],
    ),
    (pool(instances={"families": ["g9"]}), EVERYWHERE, [("instances", ["g9.*"], "at least one instance type")]),
    (pool(zones=["us-west-2d"]), EVERYWHERE, [("zones[0]", "us-west-2d", "us-west-2a, us-west-2b, us-west-2c")]),
    (
        pool(instances={"types": ["nope.large"]}, zones=["us-west-2d"]),
        EVERYWHERE,
        [("instances.types[0]", "nope.large", "EC2 has"), ("zones[0]", "us-west-2d", "with a subnet")],
    ),
    (
        pool(zones=["us-west-2a", "us-west-2b"]),
        Ec2Facts(types=TYPES, offerings={"us-west-2a": {"g5.2xlarge"}, "us-west-2d": {"g5.2xlarge"}}),
        [("zones", "us-west-2b", "us-west-2a, us-west-2d")],
    ),
    (
        pool(instances={"types": ["g5.2xlarge", "g5.3xlarge"]}, zones=["us-west-2a", "us-west-2b", "us-west-2d"]),
        Ec2Facts(types=TYPES, offerings={"us-west-2a": {"g5.2xlarge"}}),
        [
            ("instances.types[1]", "g5.3xlarge", "EC2 has"),
            ("zones[2]", "us-west-2d", "with a subnet"),
            ("zones", "us-west-2b", "us-west-2a"),
        ],
    ),
    (
        pool(),
        Ec2Facts(types=TYPES, offerings={"us-west-2d": {"g5.2xlarge"}}),
        [("instances", ["g5.2xlarge"], "zones that offer one of these types: us-west-2d")],
    ),
    (
        pool(instances={"types": ["g5.2xlarge", "g6.2xlarge"]}),
        Ec2Facts(types=TYPES, offerings={"us-west-2a": {"g5.2xlarge"}}),
        [("instances.types[1]", "g6.2xlarge", "offered in one of us-west-2a")],
    ),
    (
        general(instances={"types": ["m5.large", "m6i.large"]}),
        Ec2Facts(types=TYPES, offerings={"us-west-2a": {"m5.large"}, "us-west-2b": {"m6i.large"}}),
        [("zones", ["us-west-2a", "us-west-2b"], "scaling.scope zone")],
    ),
]


@pytest.mark.parametrize(("wanted", "facts", "expected"), FAULTS)
def test_what_ec2_does_not_have(wanted: Pool, facts: Ec2Facts, expected: list[tuple[str, t.Any, str]]) -> None:
    faults = resolve(wanted, facts).faults
    assert [(fault.path, fault.value) for fault in faults] == [(path, value) for path, value, _allowed in expected]
    for fault, (_path, _value, allowed) in zip(faults, expected, strict=True):
        assert allowed in fault.allowed


@pytest.mark.parametrize("wanted", [pool(), pool(zones=None), general()])
def test_no_subnets(wanted: Pool) -> None:
    assert [fault.path for fault in resolve(wanted, subnets=()).faults] == ["subnets"]


def test_faults_stand_where_the_pool_stands() -> None:
    wanted = Pool.from_params({"name": "a", "instances": {"types": ["x.large"]}}, path="pools[3]")
    assert resolve(wanted).faults[0].path == "pools[3].instances.types[0]"


def test_long_names_stay_unique_and_valid() -> None:
    names = {group_name("a" * 60 + letter, "us-west-2a", 1, "spot") for letter in "bc"}
    assert len(names) == 2
    assert all(len(name) == 63 for name in names)


# --- steps


def group(wanted: Pool) -> WantedGroup:
    return groups_of(wanted)[0]


def existing(wanted: Pool, **changes: t.Any) -> Nodegroup:
    """The pool's first group as a run would have made it."""
    one = group(wanted)
    made = plan_pools([one], Observed(), SETTINGS).after[one.name]
    template = ("lt-1", "1")
    return dataclasses.replace(made, **{"arn": f"arn:{one.name}", "status": "ACTIVE", "launch_template": template, **changes})


def pool_tags_of(there: Nodegroup) -> dict[str, str]:
    """The tags of instances: what cluster-autoscaler reads is on the group alone."""
    return {key: value for key, value in there.tags.items() if not key.startswith("k8s.io/")}


def content_of(disk: Disk, tags: t.Mapping[str, str]) -> TemplateContent:
    told = {"raid0": True, "fast_image_pull": True}
    return new_content(TemplateWish(ami_family="al2023", disk=disk, tags=tags, settings=told))


def template_of(there: Nodegroup, latest: int = 1, **versions: TemplateContent) -> LaunchTemplate:
    content = content_of(Disk(), pool_tags_of(there))
    contents = {"1": content, **{version.removeprefix("v"): content for version, content in versions.items()}}
    name = template_name(OWNER, there.name)
    return LaunchTemplate(id="lt-1", name=name, latest=latest, tags=dict(there.tags), versions=contents)


def observed(*there: Nodegroup) -> Observed:
    templates = [template_of(one) for one in there]
    return Observed(nodegroups={one.name: one for one in there}, templates={template.name: template for template in templates})


def plan(wanted: Pool, there: Observed) -> PoolsPlan:
    return plan_pools(groups_of(wanted), there, SETTINGS)


def actions(planned: PoolsPlan) -> list[str]:
    return [step.action for step in planned.plan.steps]


NAME = "inference-us-west-2a-1gpu-on-demand"
RESOURCES = "k8s.io/cluster-autoscaler/node-template/resources"
ONE_GPU = {f"{RESOURCES}/ephemeral-storage": "200Gi", f"{RESOURCES}/nvidia.com/gpu": "1"}
TAGS = {"gpuops.eks/owner": OWNER.arn, "gpuops.eks/component": "nodepool", "gpuops.eks/nodepool": "inference"}
SUBJECT = {"clusterName": "demo", "nodegroupName": NAME}
VERSION = f"planned:launch-template-version/demo-{NAME}"


def test_the_calls_of_a_new_group() -> None:
    planned = plan(
        pool(sharing={"strategy": "time_slicing", "replicas": 10}, tags={"team": "ml"}, scaling={"min": 1, "max": 3}), Observed()
    )
    template, create = planned.plan.steps
    assert (template.action, template.target, template.request["LaunchTemplateName"]) == (
        "ec2:CreateLaunchTemplate",
        f"planned:launch-template/demo-{NAME}",
        f"demo-{NAME}",
    )
    assert template.binds == {f"planned:launch-template/demo-{NAME}": "LaunchTemplate.LaunchTemplateId"}
    assert dataclasses.replace(create, passing=()) == Step(
        action="eks:CreateNodegroup",
        target=f"planned:nodegroup/demo-{NAME}",
        effect="create",
        request={
            **SUBJECT,
            "scalingConfig": {"minSize": 1, "maxSize": 3, "desiredSize": 1},
            "subnets": ["subnet-a"],
            "instanceTypes": ["g5.2xlarge"],
            "amiType": "AL2023_x86_64_NVIDIA",
            "nodeRole": ROLE,
            "labels": {
                "gpuops.eks/nodepool": "inference",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/device-plugin.config": "inference",
            },
            "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}],
            "capacityType": "ON_DEMAND",
            "launchTemplate": {"id": f"planned:launch-template/demo-{NAME}", "version": "1"},
            "updateConfig": {"maxUnavailable": 1, "updateStrategy": "DEFAULT"},
            "nodeRepairConfig": {"enabled": True},
            "tags": {"team": "ml", **TAGS, f"{RESOURCES}/ephemeral-storage": "200Gi", f"{RESOURCES}/nvidia.com/gpu": "10"},
        },
    )
    assert planned.plan.waits == (Wait(waiter="nodegroup_active", arguments=SUBJECT),)
    assert planned.plan.before == {}
    assert planned.plan.after[NAME]["scaling"] == {"min": 1, "max": 3, "desired": 1}


@pytest.mark.parametrize(
    ("params", "ami_type"),
    [
        ({"instances": {"types": ["g5g.xlarge"], "architectures": ["arm64"]}}, "AL2023_ARM_64_NVIDIA"),
        ({"ami": {"family": "bottlerocket"}}, "BOTTLEROCKET_x86_64_NVIDIA"),
        ({"accelerator": "none", "instances": {"types": ["m5.large"]}}, "AL2023_x86_64_STANDARD"),
        ({"accelerator": "none", "instances": {"types": ["m5.large"]}, "ami": {"family": "bottlerocket"}}, "BOTTLEROCKET_x86_64"),
    ],
)
def test_the_ami_type_follows_from_accelerator_architecture_and_family(params: dict[str, t.Any], ami_type: str) -> None:
    assert plan(pool(**params), Observed()).plan.steps[1].request["amiType"] == ami_type


def test_creates_come_first_and_waits_last() -> None:
    planned = plan(pool(zones=["us-west-2a", "us-west-2b"]), Observed())
    assert actions(planned) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup"] * 2
    assert [wait.waiter for wait in planned.plan.waits] == ["nodegroup_active"] * 2
    assert all(step.wait is None and step.needs == () for step in planned.plan.steps)


def test_a_group_with_no_share_is_not_made_but_shown() -> None:
    wanted = pool(zones=["us-west-2a", "us-west-2b"], scaling={"max": 1})
    planned = plan(wanted, Observed())
    assert actions(planned) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup"]
    shown = pool_result(wanted, groups_of(wanted), planned.after)["groups"]
    assert [(one["max"], one["nodegroup_arn"]) for one in shown] == [(1, f"planned:nodegroup/demo-{NAME}"), (0, None)]


SECOND = "inference-us-west-2b-1gpu-on-demand"


def test_a_group_whose_share_became_zero_is_emptied_and_said() -> None:
    zones = ["us-west-2a", "us-west-2b"]
    first, second = existing(pool(), max=1), existing(pool(zones=["us-west-2b"]), min=1, max=5, desired=3)
    planned = plan(pool(zones=zones, scaling={"max": 1}), observed(first, second))
    (step,) = planned.plan.steps
    assert (step.action, step.target) == ("eks:UpdateNodegroupConfig", SECOND)
    assert step.request["scalingConfig"] == {"minSize": 0, "maxSize": 1, "desiredSize": 0}
    (warning,) = planned.plan.warnings
    assert warning.startswith(f"Node group {SECOND} has a share of 0 nodes in pool inference")
    again = plan(pool(zones=zones, scaling={"max": 1}), observed(first, planned.after[SECOND]))
    assert (again.plan.steps, again.plan.warnings) == ((), (warning,))


def test_a_share_of_zero_that_follows_from_the_default_maximum_leaves_a_group_as_it_is() -> None:
    wanted = dataclasses.replace(group(pool(zones=["us-west-2b"])), max=0)
    planned = plan_pools([wanted], observed(existing(pool(zones=["us-west-2b"]), max=5, desired=3)), SETTINGS)
    assert (planned.plan.steps, planned.plan.warnings) == ((), ())


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({"status": "CREATE_FAILED"}, 1),
        ({"status": "DELETING"}, 0),
        ({"tags": {}}, 0),
    ],
)
def test_a_group_with_no_share_is_not_made_again(changes: dict[str, t.Any], warnings: int) -> None:
    first, second = existing(pool(), max=1), existing(pool(zones=["us-west-2b"]), **changes)
    planned = plan(pool(zones=["us-west-2a", "us-west-2b"], scaling={"max": 1}), observed(first, second))
    assert (planned.plan.steps, planned.plan.waits, planned.faults) == ((), (), ())
    assert len(planned.plan.warnings) == warnings
    assert all(f"{SECOND} is no longer part of pool inference" in warning for warning in planned.plan.warnings)


def test_a_role_is_required_for_a_new_group_only() -> None:
    wanted = dataclasses.replace(pool(), node_role=None)
    assert [fault.path for fault in plan(wanted, Observed()).faults] == ["iam.node_role"]
    assert plan(wanted, observed(existing(pool()))).faults == ()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"scaling": {"min": 0, "max": 10}, "labels": {}, "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}]},
        {"disk": {"size_gib": 200, "type": "gp3", "throughput": 600, "instance_store": "raid0"}, "tags": {}},
        {"update": {"max_unavailable": 1, "strategy": "default"}, "repair": {"enabled": True}, "sharing": {"strategy": "none"}},
        {"ami": {"family": "al2023"}, "iam": {"node_role": ROLE}},
    ],
)
def test_what_is_as_it_was_made_stays(params: dict[str, t.Any]) -> None:
    planned = plan(pool(**params), observed(existing(pool())))
    assert (planned.plan.steps, planned.plan.waits, planned.faults, planned.plan.warnings) == ((), (), (), ())
    assert (planned.plan.before, planned.plan.after) == ({}, {})


def test_what_was_not_set_is_left_as_it_is() -> None:
    there = existing(
        pool(),
        min=2,
        max=50,
        desired=7,
        labels={
            "gpuops.eks/nodepool": "inference",
            "nvidia.com/gpu.present": "true",
            "nvidia.com/device-plugin.config": "inference",
            "by": "hand",
        },
        taints=(),
        max_unavailable=5,
        update_strategy="minimal",
        repair=False,
        tags={**TAGS, **ONE_GPU, "by": "hand"},
    )
    assert plan(pool(), observed(there)).plan.steps == ()


def test_shares_of_another_number_change_no_label() -> None:
    shares: dict[str, t.Any] = {"sharing": {"strategy": "time_slicing", "replicas": 4}}
    found = plan(pool(**shares), observed(existing(pool())))
    assert "eks:UpdateNodegroupConfig" not in actions(found)


CHANGES: list[tuple[dict[str, t.Any], dict[str, t.Any], dict[str, t.Any], list[str]]] = [
    ({"scaling": {"max": 20}}, {}, {"scalingConfig": {"maxSize": 20}}, ["scaling.max"]),
    ({"scaling": {"min": 2}}, {}, {"scalingConfig": {"minSize": 2, "desiredSize": 2}}, ["scaling.min", "scaling.desired"]),
    ({"scaling": {"max": 3}}, {"desired": 5}, {"scalingConfig": {"maxSize": 3, "desiredSize": 3}}, ["scaling.max", "scaling.desired"]),
    ({"scaling": {"desired": 4}}, {}, {"scalingConfig": {"desiredSize": 4}}, ["scaling.desired"]),
    ({"limits": {"gpus": 4}}, {}, {"scalingConfig": {"maxSize": 4}}, ["scaling.max"]),
    (
        {},
        {
            "labels": {
                "gpuops.eks/nodepool": "inference",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/device-plugin.config": "time-slicing-10",
                "by": "hand",
            }
        },
        {"labels": {"addOrUpdateLabels": {"nvidia.com/device-plugin.config": "inference"}}},
        ["labels.nvidia.com/device-plugin.config"],
    ),
    (
        {},
        {
            "ami_type": "BOTTLEROCKET_x86_64_NVIDIA",
            "labels": {
                "gpuops.eks/nodepool": "inference",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/device-plugin.config": "inference",
            },
        },
        {"labels": {"removeLabels": ["nvidia.com/device-plugin.config"]}},
        ["labels.nvidia.com/device-plugin.config"],
    ),
    (
        {"labels": {"team": "ml"}},
        {
            "labels": {
                "gpuops.eks/nodepool": "inference",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/device-plugin.config": "inference",
                "o": "1",
            }
        },
        {"labels": {"addOrUpdateLabels": {"team": "ml"}, "removeLabels": ["o"]}},
        ["labels.team", "labels.o"],
    ),
    (
        {"taints": [{"key": "dedicated", "value": None, "effect": "NoExecute"}]},
        {},
        {
            "taints": {
                "addOrUpdateTaints": [{"key": "dedicated", "effect": "NO_EXECUTE"}],
                "removeTaints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}],
            }
        },
        ["taints[dedicated]", "taints[nvidia.com/gpu]"],
    ),
    (
        {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        {},
        {"taints": {"addOrUpdateTaints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]}},
        ["taints[nvidia.com/gpu]"],
    ),
    (
        {"taints": []},
        {},
        {"taints": {"removeTaints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}]}},
        ["taints[nvidia.com/gpu]"],
    ),
    (
        {"update": {"max_unavailable": 2, "strategy": "minimal"}},
        {},
        {"updateConfig": {"maxUnavailable": 2, "updateStrategy": "MINIMAL"}},
        ["update.max_unavailable", "update.strategy"],
    ),
    ({"repair": {"enabled": False}}, {}, {"nodeRepairConfig": {"enabled": False}}, ["repair.enabled"]),
]


@pytest.mark.parametrize(("params", "there", "request_", "fields"), CHANGES)
def test_changes_in_place(params: dict[str, t.Any], there: dict[str, t.Any], request_: dict[str, t.Any], fields: list[str]) -> None:
    planned = plan(pool(**params), observed(existing(pool(), **there)))
    step, *derived = planned.plan.steps
    assert [one.action for one in derived] in ([], ["eks:TagResource"])  # what cluster-autoscaler reads follows from the labels
    assert (step.action, step.target, step.effect) == ("eks:UpdateNodegroupConfig", NAME, "update")
    assert step.request == {**SUBJECT, **request_}
    assert list(step.fields) == fields
    assert list(planned.plan.after[NAME]) == list(planned.plan.before[NAME])
    assert [name for name in planned.plan.after[NAME] if not name.startswith("tags.k8s.io/")] == fields
    arguments = {"name": "demo", "nodegroupName": NAME, "updateId": f"planned:update/{NAME}/config"}
    assert planned.plan.waits == (Wait(waiter="nodegroup_update_successful", arguments=arguments),)
    assert plan(pool(**params), observed(planned.after[NAME])).plan.steps == (), "applying it once is enough"


def test_one_call_for_all_that_eks_takes_together() -> None:
    wanted = pool(scaling={"max": 2}, labels={"a": "b"}, taints=[], update={"max_unavailable": 3}, repair={"enabled": False})
    planned = plan(wanted, observed(existing(pool())))
    assert actions(planned) == ["eks:UpdateNodegroupConfig"]
    assert set(planned.plan.steps[0].request) == {*SUBJECT, "scalingConfig", "labels", "taints", "updateConfig", "nodeRepairConfig"}


def test_tags_of_the_group_and_of_its_instances() -> None:
    there = existing(pool(), tags={**TAGS, **ONE_GPU, "old": "1", "k8s.io/cluster-autoscaler/node-template/x": "y"})
    planned = plan(pool(tags={"team": "ml"}), observed(there))
    version, update, tag, untag = planned.plan.steps
    assert (version.action, version.request["LaunchTemplateId"]) == ("ec2:CreateLaunchTemplateVersion", "lt-1")
    assert version.binds == {VERSION: "to_string(LaunchTemplateVersion.VersionNumber)"}
    assert TemplateContent.from_api(version.request["LaunchTemplateData"]).tags == {"team": "ml", **TAGS}
    assert update.request == {**SUBJECT, "launchTemplate": {"id": "lt-1", "version": VERSION}}
    assert (tag.request, untag.request) == (
        {"resourceArn": f"arn:{NAME}", "tags": {"team": "ml"}},
        {"resourceArn": f"arn:{NAME}", "tagKeys": ["old"]},
    )


def test_tags_are_not_purged_without_consent() -> None:
    there = observed(existing(pool(), tags={**TAGS, **ONE_GPU, "old": "1", "team": "ml"}))
    settings = dataclasses.replace(SETTINGS, purge_tags=False)
    assert plan_pools(groups_of(pool(tags={"team": "ml"})), there, settings).plan.steps == ()


def test_a_change_of_disk_waits_for_the_change_of_settings() -> None:
    there = existing(pool(), release_version="1.36.1-20260724")
    planned = plan(pool(disk={"size_gib": 300}, scaling={"max": 2}), observed(there))
    assert actions(planned) == [
        "eks:UpdateNodegroupConfig",
        "ec2:CreateLaunchTemplateVersion",
        "eks:TagResource",  # what cluster-autoscaler takes for the disk of a node that is not there yet
        "eks:UpdateNodegroupVersion",
    ]
    assert planned.plan.steps[1].reason == "disk of the launch template differs"
    update = planned.plan.steps[3]
    assert update.request == {**SUBJECT, "launchTemplate": {"id": "lt-1", "version": VERSION}, "releaseVersion": "1.36.1-20260724"}
    assert [need.arguments["updateId"] for need in update.needs] == [f"planned:update/{NAME}/config"]
    assert [wait.arguments["updateId"] for wait in planned.plan.waits] == [f"planned:update/{NAME}/version"]


def with_release(release: str, wanted: Pool, there: Nodegroup, **settings: t.Any) -> PoolsPlan:
    return plan_pools(groups_of(wanted), observed(there), dataclasses.replace(SETTINGS, releases={"inference": release}, **settings))


RELEASES: list[tuple[str, str, str, bool]] = [  # family, of the group, wanted, whether the group is moved
    ("al2023", "1.36.1-20260701", "1.36.1-20260724", True),
    ("al2023", "1.36.2-20260701", "1.36.1-20260724", True),
    ("al2023", "1.36.1-20260724", "1.36.1-20260724", False),
    ("al2023", "1.36.1-20260724", "1.36.1-20260701", False),
    ("bottlerocket", "1.9.0-aaaa", "1.54.0-bbbb", True),
    ("bottlerocket", "1.54.0-bbbb", "1.9.0-aaaa", False),
]


@pytest.mark.parametrize(("family", "has", "release", "moves"), RELEASES)
def test_the_newest_release_moves_a_group_and_never_back(family: str, has: str, release: str, moves: bool) -> None:
    wanted = pool(ami={"family": family, "release": "latest"})
    planned = with_release(release, wanted, existing(wanted, release_version=has, version="1.36"))
    assert [step.request for step in planned.plan.steps] == ([{**SUBJECT, "releaseVersion": release}] if moves else [])
    assert (planned.faults, planned.plan.warnings) == ((), ())
    if moves:
        assert planned.plan.before == {NAME: {"release_version": has}}
        assert with_release(release, wanted, planned.after[NAME]).plan.steps == ()


def test_an_earlier_release_that_is_named_is_refused() -> None:
    wanted = pool(ami={"release": "v20260701"})
    planned = with_release("1.36.1-20260701", wanted, existing(wanted, release_version="1.36.1-20260724"))
    assert [(fault.path, fault.value) for fault in planned.faults] == [("ami.release", "v20260701")]
    assert planned.plan.steps == ()


def test_a_release_waits_for_the_kubernetes_version() -> None:
    wanted = pool(ami={"release": "latest"})
    behind = existing(wanted, release_version="1.35.1-20260701", version="1.35")
    planned = with_release("1.36.1-20260724", wanted, behind)
    assert planned.plan.steps == ()
    assert planned.plan.warnings == (f"Node group {NAME} keeps its image: it has Kubernetes 1.35, which kubernetes_version changes first.",)
    planned = with_release("1.36.1-20260724", wanted, behind, kubernetes_version="1.36")
    assert [step.request for step in planned.plan.steps] == [{**SUBJECT, "version": "1.36"}]
    assert planned.plan.warnings == ()


def test_a_new_group_gets_the_release_that_is_named() -> None:
    settings = dataclasses.replace(SETTINGS, releases={"inference": "1.36.1-20260701"})
    planned = plan_pools(groups_of(pool(ami={"release": "v20260701"})), Observed(), settings)
    assert planned.plan.steps[1].request["releaseVersion"] == "1.36.1-20260701"


def test_the_kubernetes_version_of_an_image_of_the_users_own_is_the_images() -> None:
    there = existing(pool(), ami_type="CUSTOM", version="1.35")
    planned = plan_pools(groups_of(pool()), observed(there), UPGRADE)
    assert planned.plan.steps == ()
    assert planned.plan.warnings == (f"Node group {NAME} has an image of its own and stays at Kubernetes 1.35: name an image for 1.36.",)


UPGRADE = dataclasses.replace(SETTINGS, kubernetes_version="1.36")


def test_a_group_is_brought_to_the_kubernetes_version_that_is_asked_for() -> None:
    there = existing(pool(), version="1.35", release_version="1.35.1-20260701")
    [group_] = groups_of(pool())
    found = plan_pools([group_], observed(there), UPGRADE)
    [step] = found.plan.steps
    assert (step.action, step.fields) == ("eks:UpdateNodegroupVersion", ("version",))
    assert step.request == {"clusterName": "demo", "nodegroupName": there.name, "version": "1.36"}


@pytest.mark.parametrize("version", ["1.36", "1.37"])
def test_a_group_is_never_taken_back(version: str) -> None:
    assert plan_pools(groups_of(pool()), observed(existing(pool(), version=version)), UPGRADE).plan.steps == ()


def test_a_new_disk_and_a_new_version_replace_the_nodes_once() -> None:
    there = existing(pool(), version="1.35", release_version="1.35.1-20260701")
    wanted = pool(disk={"size_gib": 300})
    found = plan_pools(groups_of(wanted), observed(there), UPGRADE)
    assert [step.action for step in found.plan.steps][:2] == ["ec2:CreateLaunchTemplateVersion", "eks:UpdateNodegroupVersion"]
    request = found.plan.steps[1].request
    assert request["version"] == "1.36"
    assert "launchTemplate" in request
    assert "releaseVersion" not in request


@pytest.mark.parametrize(("own", "expected"), [(None, "arn:key"), ("arn:own", "arn:own")])
def test_new_disks_take_the_key_for_volumes_unless_the_pool_names_one(own: str | None, expected: str) -> None:
    params = {"name": "inference", "instances": {"types": ["g5.2xlarge"]}, "zones": ["us-west-2a"], "disk": {"kms_key": own}}
    made = plan_pools(groups_of(Pool.from_params(params, node_role=ROLE, volumes_key="arn:key")), Observed(), SETTINGS)
    [mapping] = made.plan.steps[0].request["LaunchTemplateData"]["BlockDeviceMappings"]
    assert (mapping["Ebs"]["KmsKeyId"], mapping["Ebs"]["Encrypted"]) == (expected, True)


def test_the_key_for_volumes_is_no_drift_of_a_group_that_is_there() -> None:
    there = existing(pool())
    params = {"name": "inference", "instances": {"types": ["g5.2xlarge"]}, "zones": ["us-west-2a"]}
    keyed = Pool.from_params(params, node_role=ROLE, volumes_key="arn:key")
    assert plan_pools(groups_of(keyed), observed(there), SETTINGS).plan.steps == ()


def test_a_template_version_that_an_interrupted_run_made_is_used() -> None:
    there = existing(pool())
    wanted = content_of(Disk(size_gib=300), pool_tags_of(there))
    template = template_of(there, latest=2, v2=wanted)
    planned = plan(pool(disk={"size_gib": 300}), Observed(nodegroups={NAME: there}, templates={template.name: template}))
    assert actions(planned) == ["eks:UpdateNodegroupVersion", "eks:TagResource"]
    assert planned.plan.steps[0].request["launchTemplate"] == {"id": "lt-1", "version": "2"}


def test_a_template_that_an_interrupted_run_made_is_used_or_mended() -> None:
    template = template_of(existing(pool()))
    left = Observed(templates={template.name: template})
    planned = plan(pool(), left)
    assert actions(planned) == ["eks:CreateNodegroup"]
    assert planned.plan.steps[0].request["launchTemplate"] == {"id": "lt-1", "version": "1"}
    planned = plan(pool(disk={"size_gib": 300}), left)
    assert actions(planned) == ["ec2:CreateLaunchTemplateVersion", "eks:CreateNodegroup"]
    assert planned.plan.steps[1].request["launchTemplate"] == {"id": "lt-1", "version": VERSION}


def test_a_lost_template_is_said() -> None:
    planned = plan(pool(disk={"size_gib": 300}), Observed(nodegroups={NAME: existing(pool())}))
    assert actions(planned) == ["eks:TagResource"]
    assert "launch template" in planned.plan.warnings[0]


@pytest.mark.parametrize("status", ["CREATING", "UPDATING"])
def test_a_group_that_is_busy_is_waited_for(status: str) -> None:
    active = Wait(waiter="nodegroup_active", arguments=SUBJECT)
    there = existing(pool(), status=status)
    planned = plan(pool(), observed(there))
    assert (planned.plan.steps, planned.plan.waits) == ((), (active,))
    planned = plan(pool(scaling={"max": 2}), observed(there))
    assert planned.plan.steps[0].needs == (active,)
    assert [wait.waiter for wait in planned.plan.waits] == ["nodegroup_update_successful"]


def test_a_group_that_goes_is_made_again_when_it_is_gone() -> None:
    planned = plan(pool(), observed(existing(pool(), status="DELETING")))
    (step,) = planned.plan.steps
    assert (step.action, step.effect) == ("eks:CreateNodegroup", "create")
    assert step.needs == (Wait(waiter="nodegroup_deleted", arguments=SUBJECT),)


def test_a_group_that_never_came_up_is_made_again() -> None:
    there = existing(pool(), status="CREATE_FAILED", issues=("InsufficientFreeAddresses: none left",))
    planned = plan(pool(zones=["us-west-2a", "us-west-2b"]), observed(there))
    assert [(step.action, step.target, step.effect) for step in planned.plan.steps] == [
        ("eks:DeleteNodegroup", NAME, "replace"),
        ("ec2:CreateLaunchTemplate", "planned:launch-template/demo-inference-us-west-2b-1gpu-on-demand", "create"),
        ("eks:CreateNodegroup", "planned:nodegroup/demo-inference-us-west-2b-1gpu-on-demand", "create"),
        ("eks:CreateNodegroup", NAME, "replace"),
    ]
    assert planned.plan.steps[3].needs == (Wait(waiter="nodegroup_deleted", arguments=SUBJECT),)
    assert planned.plan.warnings == (f"Node group {NAME} is CREATE_FAILED and is made again. InsufficientFreeAddresses: none left",)


def test_a_degraded_group_is_said() -> None:
    planned = plan(pool(), observed(existing(pool(), status="DEGRADED", issues=("AutoScalingGroupNotFound: gone",))))
    assert planned.plan.steps == ()
    assert planned.plan.warnings == (f"Node group {NAME} is DEGRADED. AutoScalingGroupNotFound: gone",)


def test_overrides_of_a_node_group_hold_at_creation_and_a_later_change_of_them_is_named() -> None:
    access = {"remoteAccess": {"ec2SshKey": "one"}}
    made = {"nodegroupName": NAME, "remoteAccess": {"ec2SshKey": "one", "sourceSecurityGroups": []}}
    same = plan(pool(overrides={"node_group": access}), observed(existing(pool(), api=made)))
    assert (same.plan.steps, same.plan.warnings) == ((), ())
    changed = plan(pool(overrides={"node_group": {"remoteAccess": {"ec2SshKey": "two"}}}), observed(existing(pool(), api=made)))
    assert changed.plan.steps == ()
    assert changed.plan.warnings == (
        f"Node group {NAME} was made with other fields than overrides.node_group has now, which are only sent at creation: remoteAccess.",
    )


@pytest.mark.parametrize(
    ("params", "there", "path"),
    [
        ({"ami": {"family": "bottlerocket"}}, {}, "ami.family"),
        ({}, {"node_role": "arn:aws:iam::123456789012:role/other"}, "iam.node_role"),
        ({}, {"instance_types": ("g6.2xlarge",)}, "instances"),
        ({}, {"subnets": ("subnet-x",)}, "network.subnets"),
    ],
)
def test_what_cannot_be_changed_is_refused(params: dict[str, t.Any], there: dict[str, t.Any], path: str) -> None:
    (fault,) = plan(pool(**params), observed(existing(pool(), **there))).faults
    assert fault.path == path
    assert "allow_replacement" in fault.allowed


OTHER = f"{NAME}-b"
BOTTLEROCKET = {"ami": {"family": "bottlerocket"}}
REASON = f"takes the place of {NAME}"


def settled(wanted: Pool, there: t.Mapping[str, Nodegroup], *, allow: bool = True) -> list[WantedGroup]:
    return [settle(one, there, OWNER, allow_replacement=allow) for one in groups_of(wanted)]


def replacing(wanted: Pool, there: Observed, *, allow: bool = True) -> PoolsPlan:
    return plan_pools(settled(wanted, there.nodegroups, allow=allow), there, SETTINGS)


def named(there: Nodegroup, name: str, **changes: t.Any) -> Nodegroup:
    return dataclasses.replace(there, name=name, **changes)


@pytest.mark.parametrize(
    ("params", "there"),
    [
        (BOTTLEROCKET, {}),
        ({"ami": {"id": "ami-0123456789abcdef0"}}, {}),
        ({}, {"node_role": "arn:aws:iam::123456789012:role/other"}),
        ({}, {"instance_types": ("g6.2xlarge",)}),
        ({}, {"subnets": ("subnet-x",)}),
    ],
)
def test_with_consent_a_group_that_cannot_be_changed_is_replaced(params: dict[str, t.Any], there: dict[str, t.Any]) -> None:
    planned = replacing(pool(**params), with_templates(existing(pool(), **there)))
    assert planned.faults == ()
    template, create = planned.plan.steps
    assert (template.action, template.request["LaunchTemplateName"]) == ("ec2:CreateLaunchTemplate", f"demo-{OTHER}")
    assert (create.action, create.target, create.effect, create.reason) == ("eks:CreateNodegroup", NAME, "replace", REASON)
    assert create.request["nodegroupName"] == OTHER
    assert [wait.arguments["nodegroupName"] for wait in planned.plan.waits] == [OTHER]
    assert [(step.action, step.target, step.effect) for step in planned.removal.steps] == [
        ("eks:DeleteNodegroup", NAME, "replace"),
        ("ec2:DeleteLaunchTemplate", f"lt-{NAME}", "delete"),
    ]
    assert planned.plan.warnings == ()


@pytest.mark.parametrize("allow", [True, False])
def test_a_group_that_took_the_place_of_another_keeps_its_name(allow: bool) -> None:
    there = with_templates(named(existing(pool(**BOTTLEROCKET)), OTHER))
    planned = replacing(pool(**BOTTLEROCKET), there, allow=allow)
    assert (planned.plan.steps, planned.plan.waits, planned.removal.steps, planned.plan.warnings) == ((), (), (), ())
    (shown,) = pool_result(pool(), settled(pool(**BOTTLEROCKET), there.nodegroups, allow=allow), planned.after)["groups"]
    assert (shown["name"], shown["status"]) == (OTHER, "ACTIVE")


def test_the_next_replacement_takes_the_first_name_again() -> None:
    planned = replacing(pool(), with_templates(named(existing(pool(), instance_types=("g6.2xlarge",)), OTHER)))
    assert planned.plan.steps[1].request["nodegroupName"] == NAME
    assert calls(planned.removal.steps) == [("eks:DeleteNodegroup", OTHER), ("ec2:DeleteLaunchTemplate", f"lt-{OTHER}")]


def test_a_second_name_stays_within_the_limit() -> None:
    long = pool(name="a" * 60)
    there = existing(long, instance_types=("g6.2xlarge",))
    (one,) = settled(long, {there.name: there})
    assert (len(one.name), one.replaces) == (63, (there.name,))
    assert one.name != there.name


@pytest.mark.parametrize(
    ("params", "scaling"),
    [
        ({}, {"minSize": 1, "maxSize": 50, "desiredSize": 7}),
        ({"scaling": {"max": 5}}, {"minSize": 1, "maxSize": 5, "desiredSize": 5}),
        ({"scaling": {"min": 60}}, {"minSize": 60, "maxSize": 60, "desiredSize": 60}),
        ({"scaling": {"min": 9, "max": 20}}, {"minSize": 9, "maxSize": 20, "desiredSize": 9}),
        ({"scaling": {"min": 0, "max": 5, "desired": 2}}, {"minSize": 0, "maxSize": 5, "desiredSize": 2}),
    ],
)
def test_the_new_group_has_as_many_nodes_as_the_old_one(params: dict[str, t.Any], scaling: dict[str, int]) -> None:
    planned = replacing(pool(**BOTTLEROCKET, **params), with_templates(existing(pool(), min=1, max=50, desired=7)))
    assert planned.plan.steps[1].request["scalingConfig"] == scaling


INTERRUPTED: list[tuple[dict[str, t.Any], dict[str, t.Any], list[tuple[str, str]], list[tuple[str, str]]]] = [
    (  # the new group is being made
        {},
        {"status": "CREATING"},
        [],
        [("eks:DeleteNodegroup", NAME), ("ec2:DeleteLaunchTemplate", f"lt-{NAME}")],
    ),
    ({"status": "DELETING"}, {}, [], [("ec2:DeleteLaunchTemplate", f"lt-{NAME}")]),
    (  # the new group never came up
        {},
        {"status": "CREATE_FAILED"},
        [("eks:DeleteNodegroup", OTHER), ("eks:CreateNodegroup", NAME)],
        [("eks:DeleteNodegroup", NAME), ("ec2:DeleteLaunchTemplate", f"lt-{NAME}")],
    ),
    (  # in the meantime something else is wanted
        {},
        {"ami_type": "AL2023_x86_64_NVIDIA", "status": "CREATING"},
        [("eks:DeleteNodegroup", OTHER), ("eks:CreateNodegroup", NAME)],
        [("eks:DeleteNodegroup", NAME), ("ec2:DeleteLaunchTemplate", f"lt-{NAME}")],
    ),
]


@pytest.mark.parametrize(("old", "new", "steps", "removal"), INTERRUPTED)
def test_a_replacement_is_finished_after_an_interruption(
    old: dict[str, t.Any], new: dict[str, t.Any], steps: list[tuple[str, str]], removal: list[tuple[str, str]]
) -> None:
    wanted = pool(**BOTTLEROCKET)
    groups = [existing(pool(), **old), named(existing(wanted), OTHER, **new)]
    planned = replacing(wanted, with_templates(*groups))
    made = [step for step in planned.plan.steps if step.action != "ec2:CreateLaunchTemplateVersion"]
    assert calls(made) == steps
    assert calls(planned.removal.steps) == removal
    assert planned.faults == ()
    if steps:
        busy = new["status"] == "CREATING"
        assert [need.waiter for step in made for need in step.needs] == (["nodegroup_settled"] if busy else []) + ["nodegroup_deleted"]


def test_a_template_that_an_interrupted_replacement_left_is_removed() -> None:
    old, new = existing(pool()), named(existing(pool(**BOTTLEROCKET)), OTHER)
    there = dataclasses.replace(with_templates(old, new), nodegroups={OTHER: new})
    planned = replacing(pool(**BOTTLEROCKET), there)
    assert (planned.plan.steps, calls(planned.removal.steps)) == ((), [("ec2:DeleteLaunchTemplate", f"lt-{NAME}")])


def test_a_change_that_was_taken_back_in_the_middle_keeps_the_old_group() -> None:
    planned = replacing(pool(), with_templates(existing(pool()), named(existing(pool()), OTHER, subnets=("subnet-x",))))
    assert planned.plan.steps == ()
    assert calls(planned.removal.steps) == [("eks:DeleteNodegroup", OTHER), ("ec2:DeleteLaunchTemplate", f"lt-{OTHER}")]


def test_without_consent_the_old_group_of_an_interrupted_replacement_stays_and_is_said() -> None:
    there = with_templates(existing(pool()), named(existing(pool(**BOTTLEROCKET)), OTHER))
    planned = replacing(pool(**BOTTLEROCKET), there, allow=False)
    assert (planned.plan.steps, planned.removal.steps, planned.faults) == ((), (), ())
    assert planned.plan.warnings == (f"Node group {NAME} is no longer part of pool inference and stays; prune: true would remove it.",)


def test_a_group_of_somebody_else_is_in_the_way_of_a_replacement() -> None:
    there = with_templates(existing(pool()), named(existing(pool()), OTHER, tags={}))
    planned = replacing(pool(**BOTTLEROCKET), there)
    assert (planned.plan.steps, [fault.path for fault in planned.faults]) == ((), ["name"])


def test_a_group_that_the_user_left_no_node_is_not_replaced() -> None:
    there = with_templates(existing(pool(), max=1), existing(pool(zones=["us-west-2b"]), instance_types=("g6.2xlarge",), max=1))
    planned = replacing(pool(zones=["us-west-2a", "us-west-2b"], scaling={"max": 1}), there)
    assert (planned.plan.steps, planned.removal.steps, planned.faults) == ((), (), ())


def test_new_types_and_subnets_are_reported_and_not_drift() -> None:
    there = existing(general(), instance_types=("m5.large",), subnets=("subnet-a",))
    planned = plan(general(instances={"types": ["m5.large", "m5.xlarge"]}), observed(there))
    assert (planned.plan.steps, planned.faults) == ((), ())
    assert planned.plan.warnings == (
        "Node group system-all-0gpu-on-demand keeps its instance types; now matching as well: m5.xlarge.",
        "Node group system-all-0gpu-on-demand keeps its subnets; now there as well: subnet-b, subnet-c.",
    )


def test_a_type_that_a_new_zone_does_not_offer_stays_in_a_group_that_has_it() -> None:
    wanted = general(instances={"types": ["m5.large", "m6i.large"]})
    there = existing(wanted)
    offerings = {"us-west-2a": {"m5.large", "m6i.large"}, "us-west-2b": {"m5.large"}}
    planned = plan_pools(groups_of(wanted, Ec2Facts(types=TYPES, offerings=offerings)), observed(there), SETTINGS)
    assert (planned.plan.steps, planned.faults) == ((), ())


@pytest.mark.parametrize("tags", [{}, {**TAGS, "gpuops.eks/nodepool": "other"}, {**TAGS, "gpuops.eks/owner": "arn:other"}])
def test_a_group_of_somebody_else_is_refused(tags: dict[str, str]) -> None:
    planned = plan(pool(), observed(existing(pool(), tags=tags)))
    assert planned.plan.steps == ()
    assert "adopt: true takes it over" in planned.faults[0].allowed


THEIRS = Nodegroup(
    name="theirs",
    arn="arn:theirs",
    status="ACTIVE",
    ami_type="AL2023_x86_64_NVIDIA",
    instance_types=("g5.12xlarge",),
    subnets=("subnet-a", "subnet-x"),
    node_role="arn:aws:iam::123456789012:role/theirs",
    min=1,
    max=4,
    desired=2,
    labels={"by": "hand"},
    taints=(taint_from_api({"key": "old", "effect": "NO_EXECUTE"}),),
    max_unavailable=1,
    update_strategy="default",
    repair=False,
    tags={"by": "hand"},
    launch_template=("lt-9", "7"),
    release_version="1.36.1-20260701",
    version="1.36",
)
THEIR_SUBJECT = {"clusterName": "demo", "nodegroupName": "theirs"}


def adopting(there: Nodegroup = THEIRS, facts: Ec2Facts = EVERYWHERE, settings: Settings = SETTINGS, **params: t.Any) -> PoolsPlan:
    """The plan of a pool of the name of a node group that somebody else made; the common role is not that of the group."""
    wanted = Pool.from_params({"name": "theirs", "adopt": True, **params}, node_role=ROLE)
    resolution = adopted_group(wanted, there, SUBNETS, facts, common_role=ROLE)
    planned = plan_pools(resolution.groups, Observed(nodegroups={there.name: there}), settings, prunes=lambda name: True)
    assert planned.removal.steps == ()
    return dataclasses.replace(planned, faults=(*resolution.faults, *planned.faults))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"zones": ["us-west-2a"], "capacity": {"types": ["on_demand"]}},
        {"instances": {"types": ["g5.12xlarge"]}, "network": {"subnets": ["subnet-a", "subnet-x"]}, "iam": {"node_role": "theirs"}},
        {"scaling": {"min": 1, "max": 4}, "limits": {"gpus": 16}, "labels": {}, "taints": [], "tags": {"by": "hand"}},
        {"update": {"max_unavailable": 1, "strategy": "default"}, "repair": {"enabled": False}, "ami": {"family": "al2023"}},
    ],
)
def test_what_is_adopted_and_not_set_stays(params: dict[str, t.Any]) -> None:
    subnets = (*SUBNETS, Subnet(id="subnet-x", zone="us-west-2a", zone_id="usw2-az1"))
    wanted = Pool.from_params({"name": "theirs", "adopt": True, **params}, node_role=ROLE)
    given = subnets if not wanted.subnets else tuple(one for one in subnets if one.id in wanted.subnets)
    resolution = adopted_group(wanted, THEIRS, given, EVERYWHERE, common_role=ROLE)
    planned = plan_pools(resolution.groups, Observed(nodegroups={"theirs": THEIRS}), SETTINGS)
    assert (planned.plan.steps, planned.plan.waits, planned.plan.warnings) == ((), (), ())
    assert (resolution.faults, planned.faults) == ((), ())
    (shown,) = pool_result(wanted, resolution.groups, planned.after)["groups"]
    assert (shown["name"], shown["zones"], shown["gpu_count"], shown["max"]) == ("theirs", ["us-west-2a"], 4, 4)


ADOPTED: list[tuple[dict[str, t.Any], dict[str, t.Any]]] = [
    ({"scaling": {"max": 9}}, {"scalingConfig": {"maxSize": 9}}),
    ({"limits": {"gpus": 8}}, {"scalingConfig": {"maxSize": 2}}),
    ({"labels": {"team": "ml"}}, {"labels": {"addOrUpdateLabels": {"team": "ml"}}}),
    (
        {"taints": [{"key": "new", "value": "1", "effect": "NoSchedule"}]},
        {"taints": {"addOrUpdateTaints": [{"key": "new", "value": "1", "effect": "NO_SCHEDULE"}]}},
    ),
    ({"update": {"max_unavailable": 2}}, {"updateConfig": {"maxUnavailable": 2}}),
    ({"repair": {"enabled": True}}, {"nodeRepairConfig": {"enabled": True}}),
    ({"warm_pool": {"min_size": 1}}, {"warmPoolConfig": {"enabled": True, "minSize": 1}}),
]


@pytest.mark.parametrize(("params", "request_"), ADOPTED)
def test_what_is_adopted_is_changed_where_it_is_set(params: dict[str, t.Any], request_: dict[str, t.Any]) -> None:
    planned = adopting(**params)
    (step,) = planned.plan.steps
    assert (step.action, step.request) == ("eks:UpdateNodegroupConfig", {**THEIR_SUBJECT, **request_})
    assert planned.faults == ()
    assert adopting(planned.after["theirs"], **params).plan.steps == (), "applying it once is enough"


def test_tags_of_what_is_adopted_are_only_added() -> None:
    (step,) = adopting(tags={"team": "ml"}).plan.steps
    assert (step.action, step.request) == ("eks:TagResource", {"resourceArn": "arn:theirs", "tags": {"team": "ml"}})


def test_sharing_of_what_is_adopted_consists_of_labels_and_of_what_an_autoscaler_reads() -> None:
    sharing = {"strategy": "time_slicing", "replicas": 10}
    labels, tag = adopting(sharing=sharing).plan.steps
    added = {"nvidia.com/gpu.present": "true", "nvidia.com/device-plugin.config": "theirs"}
    assert labels.request == {**THEIR_SUBJECT, "labels": {"addOrUpdateLabels": added}}
    assert tag.request["tags"] == {f"{RESOURCES}/nvidia.com/gpu": "40"}
    planned = adopting(dataclasses.replace(THEIRS, instance_types=()), sharing=sharing)
    assert actions(planned) == ["eks:UpdateNodegroupConfig"]
    assert "is not known: its instance type is in a launch template" in planned.plan.warnings[0]


def test_the_operator_cuts_gpus_of_what_is_adopted_by_a_label() -> None:
    mig = {"strategy": "single", "layout": {"1g.5gb": 7}}
    labels, tag = adopting(mig=mig, sharing={"backend": "gpu_operator"}).plan.steps
    added = {"nvidia.com/gpu.present": "true", "nvidia.com/mig.config": "theirs"}
    assert labels.request == {**THEIR_SUBJECT, "labels": {"addOrUpdateLabels": added}}
    assert tag.request["tags"] == {f"{RESOURCES}/nvidia.com/gpu": "28"}


def test_an_adopted_group_of_bottlerocket_shares_as_its_maker_told_it() -> None:
    theirs = dataclasses.replace(THEIRS, ami_type="BOTTLEROCKET_x86_64_NVIDIA")
    sharing = {"strategy": "time_slicing", "replicas": 10}
    (fault,) = adopting(theirs, sharing=sharing).faults
    assert (fault.path, "launch template is its maker's" in fault.allowed) == ("sharing", True)
    assert adopting(theirs, scaling={"max": 9}).faults == ()


def test_a_release_and_a_kubernetes_version_are_changed_and_the_template_is_not() -> None:
    (step,) = adopting(settings=dataclasses.replace(SETTINGS, kubernetes_version="1.37")).plan.steps
    assert step.request == {**THEIR_SUBJECT, "version": "1.37"}
    settings = dataclasses.replace(SETTINGS, releases={"theirs": "1.36.1-20260724"})
    (step,) = adopting(settings=settings, ami={"release": "latest"}).plan.steps
    assert step.request == {**THEIR_SUBJECT, "releaseVersion": "1.36.1-20260724"}


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"ami": {"family": "bottlerocket"}}, "ami.family"),
        ({"iam": {"node_role": "other"}}, "iam.node_role"),
        ({"instances": {"types": ["g5.2xlarge"]}}, "instances"),
        ({"instances": {"families": ["g6"]}}, "instances"),
        ({"network": {"subnets": ["subnet-b"]}}, "network.subnets"),
        ({"zones": ["us-west-2b"]}, "zones"),
        ({"capacity": {"types": ["spot"]}}, "capacity.types"),
        ({"disk": {"size_gib": 300}}, "disk"),
        ({"disk": {"instance_store": "none"}}, "disk"),
        ({"startup_taints": []}, "startup_taints"),
        ({"user_data": ["#!/bin/sh"]}, "user_data"),
        ({"network": {"security_groups": ["sg-1"]}}, "network.security_groups"),
        ({"network": {"efa": True}}, "network.efa"),
        ({"network": {"placement_group": "x"}}, "network.placement_group"),
        ({"overrides": {"launch_template": {"EbsOptimized": True}}}, "overrides.launch_template"),
        ({"overrides": {"node_group": {"diskSize": 1}}}, "overrides.node_group"),
        ({"mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}, "mig"),
    ],
)
def test_what_an_adopted_group_cannot_become_is_refused(params: dict[str, t.Any], path: str) -> None:
    (fault,) = adopting(**params).faults
    assert fault.path == path


def test_the_image_of_an_adopted_group_is_its_makers() -> None:
    (fault,) = adopting(dataclasses.replace(THEIRS, ami_type="CUSTOM"), ami={"id": "ami-0123456789abcdef0"}).faults
    assert (fault.path, "launch template is its maker's" in fault.allowed) == ("ami", True)


def test_a_gpu_limit_takes_an_instance_type() -> None:
    assert [fault.path for fault in adopting(dataclasses.replace(THEIRS, instance_types=()), limits={"gpus": 4}).faults] == ["limits.gpus"]


@pytest.mark.parametrize("status", ["DELETING", "CREATE_FAILED", "DELETE_FAILED"])
def test_an_adopted_group_that_does_not_run_is_left_alone(status: str) -> None:
    planned = adopting(dataclasses.replace(THEIRS, status=status), scaling={"max": 9})
    assert (planned.plan.steps, planned.plan.waits) == ((), ())
    assert status in planned.faults[0].allowed


def test_a_degraded_group_that_is_adopted_is_said() -> None:
    planned = adopting(dataclasses.replace(THEIRS, status="DEGRADED", issues=("AccessDenied: no",)))
    assert planned.plan.warnings == ("Node group theirs is DEGRADED. AccessDenied: no",)


def test_a_group_of_the_name_of_a_pools_group_can_be_adopted_too() -> None:
    planned = plan(pool(adopt=True, scaling={"max": 3}), observed(existing(pool(), tags={"by": "hand"})))
    (step,) = planned.plan.steps
    assert (step.request, planned.faults) == ({**SUBJECT, "scalingConfig": {"maxSize": 3}}, ())


def test_absent_leaves_what_is_adopted_and_says_so() -> None:
    planned = plan_absent(["theirs"], Observed(nodegroups={"theirs": THEIRS}), OWNER)
    assert (planned.steps, planned.waits) == ((), ())
    assert planned.warnings == ("Node group theirs was made by somebody else and stays; its maker has to remove it.",)


def test_a_launch_template_of_somebody_else_is_refused() -> None:
    planned = plan(pool(), Observed(foreign_templates=frozenset({f"demo-{NAME}"})))
    assert [fault.path for fault in planned.faults] == ["name"]


def test_a_group_that_is_no_longer_wanted_stays_and_is_said() -> None:
    there = existing(pool(zones=["us-west-2b"]))
    planned = plan(pool(), Observed(nodegroups={there.name: there, "other": existing(general())}))
    assert actions(planned) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup"]
    assert planned.plan.warnings == (
        f"Node group {there.name} is no longer part of pool inference and stays; prune: true would remove it.",
    )
    assert planned.removal.steps == ()


def pruned(wanted: Pool, there: Observed, *pools: str) -> PoolsPlan:
    return plan_pools(groups_of(wanted), there, SETTINGS, prunes=lambda name: name in pools)


def calls(steps: t.Sequence[Step]) -> list[tuple[str, str]]:
    return [(step.action, step.target) for step in steps]


def with_templates(*there: Nodegroup) -> Observed:
    """What is there, each launch template with an id of its own: lt- and the name of its group."""
    templates = [dataclasses.replace(template_of(one), id=f"lt-{one.name}") for one in there]
    return Observed(nodegroups={one.name: one for one in there}, templates={template.name: template for template in templates})


def test_a_group_that_is_no_longer_wanted_is_pruned() -> None:
    kept, gone = existing(pool()), existing(pool(zones=["us-west-2b"]))
    planned = pruned(pool(), with_templates(kept, gone, existing(general())), "inference")
    assert (planned.plan.steps, planned.plan.warnings, planned.removal.waits) == ((), (), ())
    assert calls(planned.removal.steps) == [("eks:DeleteNodegroup", SECOND), ("ec2:DeleteLaunchTemplate", f"lt-{SECOND}")]
    assert [step.effect for step in planned.removal.steps] == ["delete"] * 2
    deleted = Wait(waiter="nodegroup_deleted", arguments={**SUBJECT, "nodegroupName": SECOND})
    assert [step.needs for step in planned.removal.steps] == [(), (deleted,)]
    assert (planned.removal.before, planned.removal.after) == ({SECOND: {"status": "ACTIVE"}}, {})


def test_the_groups_of_pools_that_are_no_longer_there_are_pruned() -> None:
    planned = pruned(pool(), with_templates(existing(pool()), existing(general())), "inference", "system")
    system = "system-all-0gpu-on-demand"
    assert calls(planned.removal.steps) == [("eks:DeleteNodegroup", system), ("ec2:DeleteLaunchTemplate", f"lt-{system}")]


@pytest.mark.parametrize("tags", [{}, {"gpuops.eks/nodepool": "inference"}, {**TAGS, "gpuops.eks/owner": "arn:other"}])
def test_what_is_not_ours_is_never_pruned(tags: dict[str, str]) -> None:
    planned = pruned(pool(), with_templates(existing(pool()), existing(pool(zones=["us-west-2b"]), tags=tags)), "inference")
    assert (planned.removal.steps, planned.removal.waits) == ((), ())


def test_pruning_is_finished_after_an_interruption() -> None:
    kept, going = existing(pool()), existing(pool(zones=["us-west-2b"]), status="DELETING")
    both = with_templates(kept, going)
    (step,) = pruned(pool(), both, "inference").removal.steps
    assert (step.target, [need.waiter for need in step.needs]) == (f"lt-{SECOND}", ["nodegroup_deleted"])
    (step,) = pruned(pool(), dataclasses.replace(both, nodegroups={NAME: kept}), "inference").removal.steps
    assert (step.target, step.needs) == (f"lt-{SECOND}", ())
    removal = pruned(pool(), Observed(nodegroups={NAME: kept, SECOND: going}), "inference").removal
    assert (removal.steps, [wait.waiter for wait in removal.waits]) == ((), ["nodegroup_deleted"])


@pytest.mark.parametrize(("params", "expected"), [({"scaling": {"max": 1}}, ["eks:DeleteNodegroup", "ec2:DeleteLaunchTemplate"]), ({}, [])])
def test_a_group_that_the_user_left_no_node_is_pruned(params: dict[str, t.Any], expected: list[str]) -> None:
    zones = ["us-west-2a", "us-west-2b"]
    there = with_templates(existing(pool(), max=1), existing(pool(zones=zones[1:])))
    groups = [dataclasses.replace(one, max=0 if one.name == SECOND else 1) for one in groups_of(pool(zones=zones, **params))]
    planned = plan_pools(groups, there, SETTINGS, prunes=lambda name: name == "inference")
    assert [step.action for step in planned.removal.steps] == expected
    assert planned.plan.steps == ()
    assert (SECOND in planned.after) is (expected == [])


def test_absent_deletes_groups_side_by_side_and_then_their_templates() -> None:
    first, second = existing(pool()), existing(pool(zones=["us-west-2b"]), status="DELETING")
    foreign = dataclasses.replace(existing(pool(zones=["us-west-2c"])), tags={"gpuops.eks/nodepool": "inference"})
    planned = plan_absent(["inference"], observed(first, second, foreign, existing(general())), OWNER)
    assert [(step.action, step.target) for step in planned.steps] == [
        ("eks:DeleteNodegroup", NAME),
        ("ec2:DeleteLaunchTemplate", "lt-1"),
        ("ec2:DeleteLaunchTemplate", "lt-1"),
    ]
    assert [[need.arguments["nodegroupName"] for need in step.needs] for step in planned.steps] == [[], [NAME], [second.name]]
    assert planned.waits == ()


@pytest.mark.parametrize("status", ["CREATING", "UPDATING"])
def test_absent_lets_a_busy_group_settle_and_deletes_the_others_before(status: str) -> None:
    busy, at_rest = existing(pool(), status=status), existing(pool(zones=["us-west-2b"]))
    first, second, *_templates = plan_absent(["inference"], observed(busy, at_rest), OWNER).steps
    assert (first.action, first.target, first.needs) == ("eks:DeleteNodegroup", SECOND, ())
    assert (second.action, second.target) == ("eks:DeleteNodegroup", NAME)
    assert second.needs == (Wait(waiter="nodegroup_settled", arguments=SUBJECT),)


def test_absent_waits_for_a_group_whose_template_is_gone() -> None:
    there = existing(pool())
    planned = plan_absent(["inference"], Observed(nodegroups={NAME: there}), OWNER)
    assert [step.action for step in planned.steps] == ["eks:DeleteNodegroup"]
    assert planned.waits == (Wait(waiter="nodegroup_deleted", arguments=SUBJECT),)


UNNEEDED = "k8s.io/cluster-autoscaler/node-template/autoscaling-options/scaledownunneededtime"


def consolidating(after: str = "10m", **params: t.Any) -> Pool:
    return pool(disruption={"consolidate_after": after}, **params)


def tag_of(step: Step) -> tuple[str, str]:
    (tag,) = step.request["Tags"]
    assert (tag["ResourceType"], tag["Key"], tag["PropagateAtLaunch"]) == ("auto-scaling-group", UNNEEDED, False)
    return tag["ResourceId"], tag["Value"]


def test_the_group_that_eks_makes_is_tagged_when_it_is_there() -> None:
    planned = plan(consolidating(zones=["us-west-2a", "us-west-2b"]), Observed())
    assert actions(planned) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup"] * 2 + ["autoscaling:CreateOrUpdateTags"] * 2
    step = planned.plan.steps[4]
    name = f"planned:auto-scaling-group/{NAME}"
    assert (step.target, tag_of(step)) == (name, (name, "10m"))
    binds = {name: "nodegroup.resources.autoScalingGroups[0].name"}
    assert step.needs == (Wait(waiter="nodegroup_active", arguments=SUBJECT, binds=binds),)
    assert planned.plan.waits == (), "the tags wait for both groups"
    assert planned.plan.after[NAME]["disruption.consolidate_after"] == "10m"


@pytest.mark.parametrize(("after", "there", "value"), [("10m", None, "10m"), ("1h", "10m", "1h"), ("Never", "10m", "87600h")])
def test_the_tag_of_a_group_that_is_there(after: str, there: str | None, value: str) -> None:
    group_ = existing(pool(), auto_scaling_group="eks-x", unneeded_time=there)
    planned = plan(consolidating(after), observed(group_))
    (step,) = planned.plan.steps
    assert (step.action, step.target, step.needs) == ("autoscaling:CreateOrUpdateTags", "eks-x", ())
    assert tag_of(step) == ("eks-x", value)
    assert planned.plan.before == {NAME: {"disruption.consolidate_after": there}}
    assert plan(consolidating(after), observed(planned.after[NAME])).plan.steps == ()


def test_a_tag_that_is_not_set_is_not_managed() -> None:
    assert plan(pool(), observed(existing(pool(), auto_scaling_group="eks-x", unneeded_time="10m"))).plan.steps == ()


def test_a_group_that_is_being_made_is_tagged_when_it_is_there() -> None:
    planned = plan(consolidating(), observed(existing(pool(), status="CREATING")))
    (step,) = planned.plan.steps
    assert ([need.waiter for need in step.needs], planned.plan.waits) == (["nodegroup_active"], ())


def test_the_tag_of_an_adopted_group_is_what_the_option_consists_of() -> None:
    planned = adopting(dataclasses.replace(THEIRS, auto_scaling_group="eks-x"), disruption={"consolidate_after": "10m"})
    assert [tag_of(step) for step in planned.plan.steps] == [("eks-x", "10m")]


def test_what_is_refused_is_not_tagged() -> None:
    foreign = existing(pool(), tags={}, auto_scaling_group="eks-x")
    assert plan(consolidating(), observed(foreign)).plan.steps == ()


def test_the_marks_win_over_the_users_tags() -> None:
    assert pool_tags(OWNER, pool(tags={"a": "b"})) == {"a": "b", **TAGS}


def test_a_node_group_as_eks_describes_it() -> None:
    there = Nodegroup.from_api(
        {
            "nodegroupName": "a",
            "nodegroupArn": "arn:a",
            "status": "CREATE_FAILED",
            "capacityType": "SPOT",
            "scalingConfig": {"minSize": 1, "maxSize": 2, "desiredSize": 1},
            "taints": [{"key": "k", "effect": "PREFER_NO_SCHEDULE"}],
            "updateConfig": {"maxUnavailablePercentage": 20},
            "health": {"issues": [{"code": "AccessDenied", "message": "no", "resourceIds": []}]},
            "resources": {"autoScalingGroups": [{"name": "eks-a"}]},
        }
    )
    assert (there.capacity_type, there.min, there.max, there.desired) == ("spot", 1, 2, 1)
    assert there.taints == (taint_from_api({"key": "k", "effect": "PREFER_NO_SCHEDULE"}),)
    assert (there.max_unavailable, there.update_strategy, there.repair) == (None, "default", False)
    assert (there.issues, there.auto_scaling_group, there.launch_template) == (("AccessDenied: no",), "eks-a", None)
