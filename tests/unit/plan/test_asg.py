# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Auto Scaling groups of pools: the exact calls that make, change and remove them, and what is left alone."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import (
    AutoScalingGroup,
    Instance,
    InstanceProfile,
    Refresh,
    WarmPoolState,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Reservation, Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, TemplateContent
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import ClusterData
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg import (
    Observed,
    PoolsPlan,
    plan_absent,
    plan_pools,
    profile_name,
    resolve,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_image import ImageSource
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_result import pool_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import (
    Settings,
    content_of_new,
    group_id,
    option_faults,
    template_name,
    template_tags,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts, WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
ROLE = "arn:aws:iam::123456789012:role/demo-node"
CLUSTER = ClusterData(name="demo", endpoint="https://api.example.com", certificate_authority="Q0E=", cidr="172.20.0.0/16")
SUBNETS = tuple(Subnet(id=f"subnet-{letter}", zone=f"us-west-2{letter}", zone_id=f"usw2-az{n}") for n, letter in enumerate("ab", 1))
SOURCE = ImageSource(kind="eks", value="al2023/nvidia/amd64", version="1.36", release="newest")
CA = "k8s.io/cluster-autoscaler/"
NAME = "demo-gpu-us-west-2a-1gpu-on-demand"
ROOT = Path(__file__).parents[3]


def instance(name: str, gpus: int = 0, **changes: t.Any) -> InstanceType:
    made = InstanceType(
        name=name,
        vcpus=8,
        memory_mib=32768,
        architectures=frozenset({"amd64"}),
        hypervisor="nitro",
        gpus=gpus,
        gpu_model="a10g" if gpus else None,
        gpu_memory_mib=22888 if gpus else 0,
        instance_store=bool(gpus),
    )
    return dataclasses.replace(made, **changes)


TYPES = {
    one.name: one
    for one in (
        instance("g5.2xlarge", 1),
        instance("g5.4xlarge", 1, vcpus=16),
        instance("p5.48xlarge", 8, gpu_model="h100", efa_interfaces=3),
        instance("m5.large"),
        instance("m5.xlarge", vcpus=16),
    )
}
FACTS = Ec2Facts(types=TYPES, offerings={subnet.zone: set(TYPES) for subnet in SUBNETS})


def pool(**params: t.Any) -> Pool:
    given = {"name": "gpu", "provisioner": "auto_scaling_group", "instances": {"types": ["g5.2xlarge"]}, "zones": ["us-west-2a"], **params}
    return Pool.from_params(given, node_role=ROLE)


def groups_of(wanted: Pool, facts: Ec2Facts = FACTS) -> tuple[WantedGroup, ...]:
    resolution = resolve(wanted, SUBNETS, facts)
    assert resolution.faults == ()
    return resolution.groups


def settings(groups: t.Sequence[WantedGroup] = (), *, images: bool = False, **changes: t.Any) -> Settings:
    made = Settings(
        owner=OWNER,
        cluster=CLUSTER,
        cluster_security_group="sg-cluster",
        version="1.36",
        images={group.name: (SOURCE, "ami-1") for group in groups} if images else {},
        profiles={group.pool.name: group.pool.instance_profile or profile_name(OWNER, group.pool.name) for group in groups},
    )
    return dataclasses.replace(made, **changes)


def made(groups: t.Sequence[WantedGroup], **changes: t.Any) -> Observed:
    """What is there after the groups were made, with the changes in each."""
    config = settings(groups, images=True)
    planned = plan_pools(groups, Observed(), config)
    there, templates, descriptions = {}, {}, {}
    for number, group in enumerate(groups, 1):
        name, id_ = group_id(OWNER, group.name), f"lt-{number}"
        after = planned.after[name]
        policy = dict(after.policy)
        if policy:
            specification = {"LaunchTemplateId": id_, "Version": "1"}
            policy["LaunchTemplate"] = {**policy["LaunchTemplate"], "LaunchTemplateSpecification": specification}
        there[name] = dataclasses.replace(after, arn=f"arn:{name}", template=(id_, "1"), policy=policy, **changes)
        templates[template_name(OWNER, group.name)] = LaunchTemplate(
            id=id_,
            name=template_name(OWNER, group.name),
            latest=1,
            tags=template_tags(OWNER, group.pool),
            versions={"1": content_of_new(group, config)},
        )
        descriptions[id_, "1"] = SOURCE.to_text()
    profiles = {
        group.pool.name: InstanceProfile(name=profile_name(OWNER, group.pool.name), role="demo-node", tags=OWNER.tags("x"))
        for group in groups
        if not group.pool.instance_profile
    }
    return Observed(
        groups=there,
        templates=templates,
        descriptions=descriptions,
        profiles=profiles,
        surplus_profiles=tuple(profiles.values()),
    )


def plan(wanted: Pool, observed: Observed, facts: Ec2Facts = FACTS, **changes: t.Any) -> PoolsPlan:
    groups = groups_of(wanted, facts)
    return plan_pools(groups, observed, settings(groups, **changes))


def actions(planned: PoolsPlan | Plan) -> list[str]:
    found = planned.plan if isinstance(planned, PoolsPlan) else planned
    return [step.action for step in found.steps]


def step(planned: PoolsPlan | Plan, action: str) -> Step:
    found = planned.plan if isinstance(planned, PoolsPlan) else planned
    return next(one for one in found.steps if one.action == action)


NEW_TAGS = {
    f"{CA}enabled": ("true", False),
    f"{CA}demo": ("owned", False),
    f"{CA}node-template/label/gpuops.eks/nodepool": ("gpu", False),
    f"{CA}node-template/label/nvidia.com/gpu.present": ("true", False),
    f"{CA}node-template/label/nvidia.com/device-plugin.config": ("gpu", False),
    f"{CA}node-template/label/k8s.amazonaws.com/accelerator": ("nvidia-a10g", False),
    f"{CA}node-template/taint/nvidia.com/gpu": ("true:NoSchedule", False),
    f"{CA}node-template/resources/nvidia.com/gpu": ("4", False),
    f"{CA}node-template/resources/ephemeral-storage": ("200Gi", False),
    "kubernetes.io/cluster/demo": ("owned", True),
    "gpuops.eks/owner": (OWNER.arn, True),
    "gpuops.eks/component": ("nodepool", True),
    "gpuops.eks/nodepool": ("gpu", True),
    "gpuops.eks/pool": ("gpu", True),  # as role eks_autoscaling tells aws-node-termination-handler
}


def test_the_termination_handler_knows_the_nodes_by_a_tag_of_theirs() -> None:
    text = (ROOT / "roles/eks_autoscaling/vars/main.yml").read_text(encoding="utf-8")
    [tag] = re.findall(r"^ *MANAGED_TAG: (.+)$", text, re.MULTILINE)
    assert NEW_TAGS[tag] == ("gpu", True)


def test_a_new_group() -> None:
    wanted = pool(scaling={"min": 1, "max": 3}, sharing={"strategy": "time_slicing", "replicas": 4})
    planned = plan(wanted, Observed(), images=True)
    assert actions(planned) == [
        "ec2:CreateLaunchTemplate",
        "iam:CreateInstanceProfile",
        "iam:AddRoleToInstanceProfile",
        "autoscaling:CreateAutoScalingGroup",
        "autoscaling:SuspendProcesses",
    ]
    template, profile, role, create, suspend = planned.plan.steps
    request = dict(create.request)
    tags = {tag["Key"]: (tag["Value"], tag["PropagateAtLaunch"]) for tag in request.pop("Tags")}
    assert request == {
        "AutoScalingGroupName": NAME,
        "MinSize": 1,
        "MaxSize": 3,
        "DesiredCapacity": 1,
        "VPCZoneIdentifier": "subnet-a",
        "MixedInstancesPolicy": {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateId": next(iter(template.binds)), "Version": "1"},
                "Overrides": [{"InstanceType": "g5.2xlarge"}],
            },
            "InstancesDistribution": {
                "OnDemandAllocationStrategy": "prioritized",
                "OnDemandBaseCapacity": 0,
                "OnDemandPercentageAboveBaseCapacity": 100,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        },
        "CapacityRebalance": False,
        "NewInstancesProtectedFromScaleIn": False,
    }
    assert tags == NEW_TAGS
    assert profile.request["InstanceProfileName"] == "demo-us-west-2-gpu-nodes"
    assert tag_map(profile.request["Tags"])["gpuops.eks/owner"] == OWNER.arn
    assert role.request == {"InstanceProfileName": "demo-us-west-2-gpu-nodes", "RoleName": "demo-node"}
    assert suspend.request == {"AutoScalingGroupName": NAME, "ScalingProcesses": ["AZRebalance"]}
    assert [wait.waiter for wait in planned.plan.waits] == ["auto_scaling_group_launched", "auto_scaling_group_in_service"]


def test_the_launch_template_of_a_new_group() -> None:
    wanted = pool(network={"security_groups": ["sg-1"]}, startup_taints=[{"key": "warming", "effect": "NoSchedule"}], labels={"team": "ml"})
    request = step(plan(wanted, Observed(), images=True), "ec2:CreateLaunchTemplate").request
    assert request["LaunchTemplateName"] == f"{NAME}-asg"
    assert request["VersionDescription"] == "eks al2023/nvidia/amd64 1.36 newest"
    data = request["LaunchTemplateData"]
    assert data["ImageId"] == "ami-1"
    assert data["IamInstanceProfile"] == {"Name": "demo-us-west-2-gpu-nodes"}
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert data["SecurityGroupIds"] == ["sg-cluster", "sg-1"]
    assert data["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    told = TemplateContent(data=data).settings
    assert told.cluster == CLUSTER
    assert told.labels["team"] == "ml"
    assert told.labels["k8s.amazonaws.com/accelerator"] == "nvidia-a10g"
    assert {taint.key for taint in told.taints} == {"nvidia.com/gpu", "warming"}
    assert told.raid0
    assert told.fast_image_pull


def test_a_share_of_no_nodes_is_not_made_and_none_are_waited_for() -> None:
    planned = plan(pool(zones=["us-west-2a", "us-west-2b"], scaling={"max": 1}), Observed(), images=True)
    assert actions(planned).count("autoscaling:CreateAutoScalingGroup") == 1
    assert planned.plan.waits == ()


@pytest.mark.parametrize(
    ("capacity", "names", "shares"),
    [
        ({}, ["on-demand"], [(0, 100)]),
        ({"types": ["spot"]}, ["spot"], [(0, 0)]),
        ({"types": ["spot", "on_demand"]}, ["spot", "on-demand"], [(0, 0), (0, 100)]),
        ({"types": ["spot", "on_demand"], "on_demand_base": 2}, ["mixed"], [(2, 0)]),
        ({"types": ["spot", "on_demand"], "on_demand_percentage": 40}, ["mixed"], [(0, 40)]),
    ],
)
def test_capacity(capacity: dict[str, t.Any], names: list[str], shares: list[tuple[int, int]]) -> None:
    planned = plan(pool(capacity=capacity), Observed(), images=True)
    requests = [one.request for one in planned.plan.steps if one.action == "autoscaling:CreateAutoScalingGroup"]
    assert [request["AutoScalingGroupName"].partition("1gpu-")[2] for request in requests] == names
    distributions = [request["MixedInstancesPolicy"]["InstancesDistribution"] for request in requests]
    assert [(one["OnDemandBaseCapacity"], one["OnDemandPercentageAboveBaseCapacity"]) for one in distributions] == shares


def reserved(kind: str) -> tuple[Pool, Ec2Facts]:
    facts = dataclasses.replace(FACTS, reservations={"cr-1": Reservation(id="cr-1", instance_type="g5.2xlarge", zone="us-west-2a")})
    wanted = pool(instances={"types": ["g5.2xlarge", "g5.4xlarge"]}, capacity={"types": [kind], "reservations": ["cr-1"]})
    return wanted, facts


def test_reserved_capacity_is_the_groups_only_one() -> None:
    wanted, facts = reserved("reserved")
    request = step(plan(wanted, Observed(), facts, images=True), "autoscaling:CreateAutoScalingGroup").request
    assert request["CapacityReservationSpecification"] == {
        "CapacityReservationPreference": "capacity-reservations-only",
        "CapacityReservationTarget": {"CapacityReservationIds": ["cr-1"]},
    }
    assert request["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"] == [{"InstanceType": "g5.2xlarge"}]


def test_a_block_of_capacity_is_bought_by_the_launch_template() -> None:
    wanted, facts = reserved("capacity_block")
    planned = plan(wanted, Observed(), facts, images=True)
    data = step(planned, "ec2:CreateLaunchTemplate").request["LaunchTemplateData"]
    assert data["InstanceMarketOptions"] == {"MarketType": "capacity-block"}
    assert data["CapacityReservationSpecification"] == {"CapacityReservationTarget": {"CapacityReservationId": "cr-1"}}
    assert data["InstanceType"] == "g5.2xlarge"
    request = step(planned, "autoscaling:CreateAutoScalingGroup").request
    assert "MixedInstancesPolicy" not in request
    assert request["LaunchTemplate"]["Version"] == "1"


def test_elastic_fabric_adapters_and_a_placement_group() -> None:
    wanted = pool(instances={"types": ["p5.48xlarge"]}, network={"efa": True, "placement_group": "close", "security_groups": ["sg-1"]})
    data = step(plan(wanted, Observed(), images=True), "ec2:CreateLaunchTemplate").request["LaunchTemplateData"]
    assert [one["InterfaceType"] for one in data["NetworkInterfaces"]] == ["efa", "efa-only", "efa-only"]
    assert data["Placement"] == {"GroupName": "close"}
    assert "SecurityGroupIds" not in data


def test_overrides_come_last() -> None:
    over = {"CapacityRebalance": True, "MixedInstancesPolicy": {"InstancesDistribution": {"SpotAllocationStrategy": "capacity-optimized"}}}
    request = step(
        plan(pool(overrides={"auto_scaling_group": over}), Observed(), images=True), "autoscaling:CreateAutoScalingGroup"
    ).request
    assert request["CapacityRebalance"] is True
    assert request["MixedInstancesPolicy"]["InstancesDistribution"]["SpotAllocationStrategy"] == "capacity-optimized"
    assert request["MixedInstancesPolicy"]["InstancesDistribution"]["OnDemandAllocationStrategy"] == "prioritized"


def test_a_warm_pool() -> None:
    planned = plan(pool(warm_pool={"min_size": 1, "state": "hibernated"}), Observed(), images=True)
    assert step(planned, "autoscaling:PutWarmPool").request == {"AutoScalingGroupName": NAME, "MinSize": 1, "PoolState": "Hibernated"}


def test_the_users_own_instance_profile() -> None:
    wanted = pool(iam={"instance_profile": "mine"})
    planned = plan(wanted, Observed(), images=True)
    assert "iam:CreateInstanceProfile" not in actions(planned)
    assert step(planned, "ec2:CreateLaunchTemplate").request["LaunchTemplateData"]["IamInstanceProfile"] == {"Name": "mine"}


FULL: dict[str, t.Any] = {
    "scaling": {"min": 1, "max": 3},
    "labels": {"team": "ml"},
    "taints": [{"key": "a", "effect": "NoSchedule"}],
    "startup_taints": [{"key": "b", "effect": "NoSchedule"}],
    "tags": {"team": "ml"},
    "disk": {"size_gib": 300, "throughput": 700, "iops": 4000, "instance_store": "raid0"},
    "sharing": {"strategy": "time_slicing", "replicas": 4},
    "network": {"security_groups": ["sg-1"]},
    "user_data": ["#!/bin/sh\n"],
    "warm_pool": {"min_size": 1},
    "disruption": {"consolidate_after": "5m"},
    "overrides": {"launch_template": {"Monitoring": {"Enabled": True}}, "auto_scaling_group": {"MixedInstancesPolicy": {}}},
}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"capacity": {"types": ["spot", "on_demand"], "on_demand_base": 1}},
        {"ami": {"family": "bottlerocket"}, "disk": {"size_gib": 50}},
        {"accelerator": "none", "instances": {"types": ["m5.large", "m5.xlarge"]}, "zones": None},
        {"zones": ["us-west-2a", "us-west-2b"], "scaling": {"scope": "zone"}},
        FULL,
    ],
)
def test_nothing_to_do_after_a_run(params: dict[str, t.Any]) -> None:
    wanted = pool(**params)
    observed = made(groups_of(wanted))
    alive = {name: dataclasses.replace(one, instances=tuple(_alive(one))) for name, one in observed.groups.items()}
    planned = plan(wanted, dataclasses.replace(observed, groups=alive))
    assert (planned.plan.steps, planned.plan.waits, planned.plan.warnings, planned.faults) == ((), (), (), ())
    assert planned.plan.before == planned.plan.after == {}


def _alive(group: AutoScalingGroup) -> t.Iterator[Instance]:
    """The instances that the group asks for."""
    for number in range(group.desired):
        yield Instance(id=f"i-{number}", type=group.instance_types[0], template=group.template)


def test_nothing_to_do_for_a_block_of_capacity() -> None:
    wanted, facts = reserved("capacity_block")
    assert actions(plan(wanted, made(groups_of(wanted, facts)), facts)) == []


def test_what_is_not_set_is_not_managed() -> None:
    """Of a pool that was made with all options, the same pool without them leaves all but what follows from its name."""
    observed = made(groups_of(pool(**FULL)))
    alive = {name: dataclasses.replace(one, instances=tuple(_alive(one)), desired=2) for name, one in observed.groups.items()}
    planned = plan(pool(sharing=FULL["sharing"]), dataclasses.replace(observed, groups=alive))
    assert actions(planned) == []


def test_the_limits_in_one_call() -> None:
    observed = made(groups_of(pool()), desired=4)
    planned = plan(pool(scaling={"min": 1, "max": 2}), observed)
    assert actions(planned) == ["autoscaling:UpdateAutoScalingGroup"]
    update = planned.plan.steps[0]
    assert update.request == {"AutoScalingGroupName": NAME, "MinSize": 1, "MaxSize": 2, "DesiredCapacity": 2}
    assert update.fields == ("scaling.min", "scaling.max", "scaling.desired")
    assert planned.plan.before == {NAME: {"scaling.min": 0, "scaling.max": 10, "scaling.desired": 4}}
    assert [wait.waiter for wait in planned.plan.waits] == ["auto_scaling_group_in_service"]


def test_a_group_may_become_empty() -> None:
    wanted = {"zones": ["us-west-2a", "us-west-2b"], "scaling": {"min": 0, "max": 4}}
    observed = made(groups_of(pool(**wanted)), desired=1)
    planned = plan(pool(**{**wanted, "scaling": {"min": 0, "max": 1}}), observed)
    second = planned.plan.steps[1].request
    assert second == {"AutoScalingGroupName": NAME.replace("2a", "2b"), "MaxSize": 0, "DesiredCapacity": 0}


def test_a_template_that_differs_replaces_instances() -> None:
    observed = made(groups_of(pool(scaling={"min": 1})))
    alive = {name: dataclasses.replace(one, instances=tuple(_alive(one))) for name, one in observed.groups.items()}
    planned = plan(pool(disk={"size_gib": 300}, scaling={"min": 1}), dataclasses.replace(observed, groups=alive))
    assert actions(planned) == [
        "ec2:CreateLaunchTemplateVersion",
        "autoscaling:UpdateAutoScalingGroup",
        "autoscaling:CreateOrUpdateTags",
        "autoscaling:StartInstanceRefresh",
    ]
    version, update, tags, refresh = planned.plan.steps
    assert version.request["VersionDescription"] == SOURCE.to_text()
    assert version.reason == "differs: disk"
    specification = update.request["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
    assert specification == {"LaunchTemplateId": "lt-1", "Version": next(iter(version.binds))}
    assert update.fields == ("launch_template.version",)
    assert tags.fields == (f"tags.{CA}node-template/resources/ephemeral-storage",)
    assert refresh.request == {"AutoScalingGroupName": NAME, "Strategy": "Rolling", "Preferences": {"SkipMatching": True}}
    waits = [
        Wait(waiter="instance_refresh_successful", arguments={"AutoScalingGroupName": NAME, "InstanceRefreshIds": [id_]})
        for id_ in refresh.binds
    ]
    assert list(planned.plan.waits) == waits


def test_without_instances_nothing_is_replaced() -> None:
    planned = plan(pool(disk={"size_gib": 300}), made(groups_of(pool())))
    assert "autoscaling:StartInstanceRefresh" not in actions(planned)
    assert planned.plan.waits == ()


STALE = {"instances": (Instance(id="i-1", type="g5.2xlarge", template=("lt-1", "0")),), "desired": 1}


@pytest.mark.parametrize("status", [None, "Successful", "Failed", "Cancelled"])
def test_a_replacement_that_was_not_finished_is_taken_up(status: str | None) -> None:
    observed = made(groups_of(pool()), **STALE)
    refreshes = {NAME: Refresh(id="r-1", status=status)} if status else {}
    planned = plan(pool(), dataclasses.replace(observed, refreshes=refreshes))
    assert actions(planned) == ["autoscaling:StartInstanceRefresh"]


def test_a_replacement_that_runs_is_waited_for() -> None:
    observed = dataclasses.replace(made(groups_of(pool()), **STALE), refreshes={NAME: Refresh(id="r-1", status="InProgress")})
    planned = plan(pool(), observed)
    wait = Wait(waiter="instance_refresh_successful", arguments={"AutoScalingGroupName": NAME, "InstanceRefreshIds": ["r-1"]})
    assert (actions(planned), planned.plan.waits) == ([], (wait,))
    again = plan(pool(disk={"size_gib": 300}), observed)
    assert step(again, "autoscaling:StartInstanceRefresh").needs == (wait,)


def test_half_made_groups_are_finished() -> None:
    """Made, but stopped before AZRebalance was suspended and before its nodes came."""
    observed = made(groups_of(pool(scaling={"min": 1})), suspended=frozenset())
    planned = plan(pool(scaling={"min": 1}), observed)
    assert actions(planned) == ["autoscaling:SuspendProcesses"]
    assert [wait.waiter for wait in planned.plan.waits] == ["auto_scaling_group_in_service"]


def test_a_launch_template_that_an_interrupted_run_left_is_used() -> None:
    whole = made(groups_of(pool()))
    planned = plan(
        pool(), dataclasses.replace(whole, groups={}, profiles={"gpu": InstanceProfile(name="p", tags=OWNER.tags("x"))}), images=True
    )
    assert actions(planned) == ["iam:AddRoleToInstanceProfile", "autoscaling:CreateAutoScalingGroup", "autoscaling:SuspendProcesses"]
    policy = step(planned, "autoscaling:CreateAutoScalingGroup").request["MixedInstancesPolicy"]
    assert policy["LaunchTemplate"]["LaunchTemplateSpecification"] == {"LaunchTemplateId": "lt-1", "Version": "1"}


def test_a_group_on_its_way_out_is_made_again_when_it_is_gone() -> None:
    planned = plan(pool(), made(groups_of(pool()), status="Delete in progress"), images=True)
    create = step(planned, "autoscaling:CreateAutoScalingGroup")
    assert create.needs == (Wait(waiter="auto_scaling_group_deleted", arguments={"AutoScalingGroupNames": [NAME]}),)


def test_another_role_is_put_into_the_profile() -> None:
    observed = made(groups_of(pool()))
    planned = plan(pool(iam={"node_role": "other"}), observed)
    assert actions(planned) == ["iam:RemoveRoleFromInstanceProfile", "iam:AddRoleToInstanceProfile"]
    assert planned.plan.steps[1].request["RoleName"] == "other"


def test_types_that_no_longer_match_are_replaced_and_new_ones_reported() -> None:
    observed = made(groups_of(pool()))
    more = plan(pool(instances={"types": ["g5.2xlarge", "g5.4xlarge"]}), observed)
    assert actions(more) == []
    assert more.plan.warnings == (f"Auto Scaling group {NAME} keeps its instance types; now matching as well: g5.4xlarge.",)
    other = plan(pool(instances={"types": ["g5.4xlarge"]}), observed)
    assert actions(other) == ["autoscaling:UpdateAutoScalingGroup"]
    policy = other.plan.steps[0].request["MixedInstancesPolicy"]
    assert policy["LaunchTemplate"]["Overrides"] == [{"InstanceType": "g5.4xlarge"}]


def test_subnets_can_change() -> None:
    general = {"accelerator": "none", "instances": {"types": ["m5.large"]}, "zones": None}
    observed = made(groups_of(pool(**{**general, "zones": ["us-west-2a"]})))
    assert actions(plan(pool(**general), observed)) == []
    planned = plan(pool(**{**general, "zones": ["us-west-2a", "us-west-2b"]}), observed)
    assert planned.plan.steps[0].request["VPCZoneIdentifier"] == "subnet-a,subnet-b"


def test_shares_of_a_mixed_group() -> None:
    mixed = {"types": ["spot", "on_demand"], "on_demand_base": 1}
    observed = made(groups_of(pool(capacity=mixed)))
    planned = plan(pool(capacity={**mixed, "on_demand_percentage": 50}), observed)
    distribution = planned.plan.steps[0].request["MixedInstancesPolicy"]["InstancesDistribution"]
    assert (distribution["OnDemandBaseCapacity"], distribution["OnDemandPercentageAboveBaseCapacity"]) == (1, 50)
    assert distribution["SpotAllocationStrategy"] == "price-capacity-optimized"


def test_tags() -> None:
    observed = made(groups_of(pool(tags={"team": "ml", "old": "x"}, sharing={"strategy": "time_slicing", "replicas": 4, "rename": True})))
    planned = plan(pool(tags={"team": "ai"}), observed)
    written = {tag["Key"]: tag["Value"] for tag in step(planned, "autoscaling:CreateOrUpdateTags").request["Tags"]}
    assert written["team"] == "ai"
    assert written[f"{CA}node-template/resources/nvidia.com/gpu"] == "1"
    removed = {tag["Key"] for tag in step(planned, "autoscaling:DeleteTags").request["Tags"]}
    assert removed == {"old", f"{CA}node-template/resources/nvidia.com/gpu.shared"}
    kept = plan(pool(tags={"team": "ai"}), observed, purge_tags=False)
    assert "old" not in {tag["Key"] for tag in step(kept, "autoscaling:DeleteTags").request["Tags"]}


def test_tags_of_the_autoscaler_that_the_user_set_elsewhere_stay() -> None:
    observed = made(groups_of(pool()))
    threshold = f"{CA}node-template/autoscaling-options/scaledowngpuutilizationthreshold"
    tagged = {name: dataclasses.replace(one, tags={**one.tags, threshold: "0.3"}) for name, one in observed.groups.items()}
    assert actions(plan(pool(), dataclasses.replace(observed, groups=tagged))) == []


def test_overrides_of_a_group_that_is_there() -> None:
    observed = made(groups_of(pool()), api={"HealthCheckGracePeriod": 0, "MaxInstanceLifetime": 86400})
    over = {"HealthCheckGracePeriod": 60, "MaxInstanceLifetime": 86400, "LoadBalancerNames": ["x"]}
    planned = plan(pool(overrides={"auto_scaling_group": over}), observed)
    assert planned.plan.steps[0].request == {"AutoScalingGroupName": NAME, "HealthCheckGracePeriod": 60}


def test_a_warm_pool_that_differs() -> None:
    observed = made(groups_of(pool()), warm_pool=WarmPoolState(min_size=0, state="running"))
    assert actions(plan(pool(warm_pool={"state": "running"}), observed)) == []
    assert actions(plan(pool(), observed)) == []
    planned = plan(pool(warm_pool={"min_size": 2}), observed)
    assert planned.plan.before == {
        NAME: {"warm_pool": {"min_size": 0, "max_prepared": None, "state": "running", "reuse_on_scale_in": None}}
    }
    assert [one.request for one in planned.plan.steps] == [{"AutoScalingGroupName": NAME, "MinSize": 2, "PoolState": "Running"}]


def test_a_group_of_somebody_else() -> None:
    observed = made(groups_of(pool()))
    foreign = {name: dataclasses.replace(one, tags={"theirs": "x"}) for name, one in observed.groups.items()}
    refused = plan(pool(), dataclasses.replace(observed, groups=foreign))
    assert [fault.path for fault in refused.faults] == ["name"]
    assert "adopt: true" in refused.faults[0].allowed


def test_an_adopted_group_is_changed_where_the_user_set_something() -> None:
    observed = made(groups_of(pool()))
    foreign = dataclasses.replace(
        observed, groups={name: dataclasses.replace(one, tags={"theirs": "x"}) for name, one in observed.groups.items()}
    )
    assert actions(plan(pool(adopt=True), foreign)) == []
    planned = plan(pool(adopt=True, scaling={"max": 2}, sharing={"strategy": "time_slicing", "replicas": 4}, tags={"team": "ml"}), foreign)
    assert actions(planned) == ["autoscaling:UpdateAutoScalingGroup", "autoscaling:CreateOrUpdateTags"]
    tags = {tag["Key"]: tag["Value"] for tag in planned.plan.steps[1].request["Tags"]}
    assert tags == {"team": "ml", f"{CA}node-template/resources/nvidia.com/gpu": "4"}


def test_a_launch_template_of_somebody_else() -> None:
    planned = plan(pool(), Observed(foreign_templates=frozenset({f"{NAME}-asg"})), images=True)
    assert "launch template" in planned.faults[0].allowed


def test_labels_that_no_tag_can_say() -> None:
    long = "x" * 60 + ".example/" + "y" * 30
    planned = plan(pool(labels={long: "a"}), Observed(), images=True)
    assert [fault.path for fault in planned.faults] == ["labels"]


def test_groups_that_a_pool_no_longer_has_are_told() -> None:
    observed = made(groups_of(pool(zones=["us-west-2a", "us-west-2b"])))
    planned = plan(pool(), observed)
    assert actions(planned) == []
    assert [word for word in planned.plan.warnings if "2b" in word] == list(planned.plan.warnings) != []


def test_groups_that_a_pool_no_longer_has_are_removed_where_that_is_asked_for() -> None:
    observed = dataclasses.replace(made(groups_of(pool(zones=["us-west-2a", "us-west-2b"]))), surplus_profiles=())
    groups = groups_of(pool())
    planned = plan_pools(groups, observed, settings(groups), prunes=lambda name: name == "gpu")
    assert (actions(planned), planned.plan.warnings) == ([], ())
    assert [(one.action, one.target) for one in planned.removal.steps] == [
        ("autoscaling:UpdateAutoScalingGroup", NAME.replace("2a", "2b")),
        ("autoscaling:DeleteAutoScalingGroup", NAME.replace("2a", "2b")),
        ("ec2:DeleteLaunchTemplate", "lt-2"),
    ]
    assert plan_pools(groups, observed, settings(groups), prunes=lambda name: name == "other").removal.steps == ()


def test_a_group_that_the_user_left_no_node_is_removed_where_that_is_asked_for() -> None:
    both: dict[str, t.Any] = {"zones": ["us-west-2a", "us-west-2b"], "scaling": {"max": 4}}
    observed = dataclasses.replace(made(groups_of(pool(**both))), surplus_profiles=())
    groups = groups_of(pool(**{**both, "scaling": {"max": 1}}))
    planned = plan_pools(groups, observed, settings(groups), prunes=lambda name: True)
    assert [one.action for one in planned.removal.steps][-1:] == ["ec2:DeleteLaunchTemplate"]
    assert {one.target for one in planned.plan.steps} == {NAME}


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        ({"user_data": ["#!/bin/sh\n", "echo"]}, ["user_data[1]"]),
        ({"user_data": ["[settings.kubernetes]\n"], "ami": {"family": "bottlerocket"}}, ["user_data[0]"]),
        ({"user_data": ["[settings.ntp]\n"], "ami": {"family": "bottlerocket"}}, []),
        ({"network": {"efa": True}}, ["network.efa"]),
        ({"network": {"efa": True}, "instances": {"types": ["p5.48xlarge"]}}, []),
    ],
)
def test_what_nodes_cannot_be_told(params: dict[str, t.Any], paths: list[str]) -> None:
    wanted = pool(**params)
    assert [fault.path for fault in option_faults(wanted, CLUSTER, groups_of(wanted))] == paths


def test_absent() -> None:
    observed = made(groups_of(pool(zones=["us-west-2a", "us-west-2b"])))
    planned = plan_absent(["gpu"], observed, OWNER)
    assert actions(planned) == [
        "autoscaling:UpdateAutoScalingGroup",
        "autoscaling:UpdateAutoScalingGroup",
        "autoscaling:DeleteAutoScalingGroup",
        "autoscaling:DeleteAutoScalingGroup",
        "iam:RemoveRoleFromInstanceProfile",
        "iam:DeleteInstanceProfile",
        "ec2:DeleteLaunchTemplate",
        "ec2:DeleteLaunchTemplate",
    ]
    assert planned.steps[0].request == {"AutoScalingGroupName": NAME, "MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0}
    assert planned.steps[2].needs == (Wait(waiter="auto_scaling_group_empty", arguments={"AutoScalingGroupNames": [NAME]}),)
    assert [wait.waiter for wait in planned.steps[4].needs] == ["auto_scaling_group_deleted"] * 2


def test_absent_takes_a_warm_pool_first() -> None:
    planned = plan_absent(["gpu"], made(groups_of(pool()), warm_pool=WarmPoolState()), OWNER)
    assert actions(planned)[:3] == [
        "autoscaling:UpdateAutoScalingGroup",
        "autoscaling:DeleteWarmPool",
        "autoscaling:DeleteAutoScalingGroup",
    ]
    assert [wait.waiter for wait in planned.steps[2].needs] == ["auto_scaling_group_empty", "warm_pool_deleted"]


def test_absent_goes_on_where_it_was_interrupted() -> None:
    whole = made(groups_of(pool()))
    left = plan_absent(["gpu"], dataclasses.replace(whole, groups={}), OWNER)
    assert actions(left) == ["iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile", "ec2:DeleteLaunchTemplate"]
    last = plan_absent(["gpu"], dataclasses.replace(whole, groups={}, surplus_profiles=()), OWNER)
    assert actions(last) == ["ec2:DeleteLaunchTemplate"]
    going = plan_absent(
        ["gpu"], dataclasses.replace(made(groups_of(pool()), status="Delete in progress"), surplus_profiles=(), templates={}), OWNER
    )
    assert (actions(going), [wait.waiter for wait in going.waits]) == ([], ["auto_scaling_group_deleted"])


def test_absent_leaves_what_is_not_ours_or_of_another_pool() -> None:
    observed = made(groups_of(pool()))
    foreign = {name: dataclasses.replace(one, tags={"gpuops.eks/nodepool": "gpu"}) for name, one in observed.groups.items()}
    profiles = (InstanceProfile(name="p", role="r"),)
    assert actions(plan_absent(["gpu"], Observed(groups=foreign, surplus_profiles=profiles), OWNER)) == []
    assert actions(plan_absent(["other"], dataclasses.replace(observed, surplus_profiles=()), OWNER)) == []


def test_the_result() -> None:
    wanted = pool(scaling={"min": 1})
    observed = made(groups_of(wanted))
    found = pool_result(wanted, groups_of(wanted), observed.groups, OWNER)
    assert found["groups"] == [
        {
            "name": "gpu-us-west-2a-1gpu-on-demand",
            "zone": "us-west-2a",
            "zones": ["us-west-2a"],
            "gpu_count": 1,
            "capacity_type": "on_demand",
            "instance_types": ["g5.2xlarge"],
            "min": 1,
            "max": 10,
            "desired": 1,
            "status": "Pending",
            "auto_scaling_group": NAME,
            "launch_template": {"id": "lt-1", "version": "1"},
        }
    ]
    assert pool_result(wanted, groups_of(wanted), {}, OWNER)["groups"][0]["status"] is None
