# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_gpu_nodepool through main(): the exact calls, in order."""

from __future__ import annotations

import base64
import socket
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import counts
from ansible_collections.gpuops.eks.plugins.module_utils._run import patience
from ansible_collections.gpuops.eks.plugins.modules.eks_gpu_nodepool import main

from tests.wire.harness import Wire

ACCOUNT = "123456789012"
OWNER = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/demo"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-node"
NAME = "inference-us-west-2a-1gpu-on-demand"
SUBJECT = {"clusterName": "demo", "nodegroupName": NAME}
TAGS = {"gpuops.eks/component": "nodepool", "gpuops.eks/nodepool": "inference", "gpuops.eks/owner": OWNER}
RESOURCES = "k8s.io/cluster-autoscaler/node-template/resources"
GROUP_TAGS = {**TAGS, f"{RESOURCES}/ephemeral-storage": "200Gi", f"{RESOURCES}/nvidia.com/gpu": "10"}
TAG_LIST = [{"Key": key, "Value": value} for key, value in sorted(TAGS.items())]
LABELS = {
    "k8s.amazonaws.com/accelerator": "nvidia-a10g",
    "gpuops.eks/nodepool": "inference",
    "nvidia.com/gpu.present": "true",
    "nvidia.com/device-plugin.config": "inference",
}
TAINT = {"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}
POOL: dict[str, t.Any] = {
    "name": "inference",
    "provisioner": "managed_node_group",
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a"],
    "scaling": {"min": 1, "max": 3},
    "sharing": {"strategy": "time_slicing", "replicas": 10},
}
PARAMS: dict[str, t.Any] = {
    "cluster_name": "demo",
    "node_role_arn": ROLE,
    "subnets": [{"id": "subnet-a", "zone": "us-west-2a", "zone_id": "usw2-az1", "tier": "private", "cidr_block": "10.0.0.0/20"}],
    "wait_interval": 0.001,
    **POOL,
}
TYPE = {
    "InstanceType": "g5.2xlarge",
    "VCpuInfo": {"DefaultVCpus": 8},
    "MemoryInfo": {"SizeInMiB": 32768},
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "Hypervisor": "nitro",
    "InstanceStorageSupported": True,
    "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}]},
}
TYPE_FILTER = [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]
TEMPLATE = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": f"demo-{NAME}", "LatestVersionNumber": 1, "Tags": TAG_LIST}
NODE_CONFIG = """\
{
  "apiVersion": "node.eks.aws/v1alpha1",
  "kind": "NodeConfig",
  "spec": {
    "featureGates": {
      "FastImagePull": true
    },
    "instance": {
      "localStorage": {
        "strategy": "RAID0"
      }
    }
  }
}"""
BOUNDARY = "gpuops-e38e76200588872b"
USER_DATA = f"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="{BOUNDARY}"

--{BOUNDARY}
Content-Type: application/node.eks.aws
Content-Description: gpuops.eks

{NODE_CONFIG}
--{BOUNDARY}--
"""


def template_data(size: int = 200) -> dict[str, t.Any]:
    ebs = {"VolumeSize": size, "VolumeType": "gp3", "Throughput": 600, "Encrypted": True, "DeleteOnTermination": True}
    return {
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": TAG_LIST} for kind in ("instance", "volume", "network-interface")],
        "UserData": base64.b64encode(USER_DATA.encode()).decode(),
    }


CREATE_TEMPLATE = {
    "LaunchTemplateName": f"demo-{NAME}",
    "LaunchTemplateData": template_data(),
    "TagSpecifications": [{"ResourceType": "launch-template", "Tags": TAG_LIST}],
}
CREATE_NODEGROUP = {
    **SUBJECT,
    "scalingConfig": {"minSize": 1, "maxSize": 3, "desiredSize": 1},
    "subnets": ["subnet-a"],
    "instanceTypes": ["g5.2xlarge"],
    "amiType": "AL2023_x86_64_NVIDIA",
    "nodeRole": ROLE,
    "labels": LABELS,
    "taints": [TAINT],
    "capacityType": "ON_DEMAND",
    "launchTemplate": {"id": "lt-1", "version": "1"},
    "updateConfig": {"maxUnavailable": 1, "updateStrategy": "DEFAULT"},
    "nodeRepairConfig": {"enabled": True},
    "tags": GROUP_TAGS,
}


def nodegroup(status: str = "ACTIVE", **changes: t.Any) -> dict[str, t.Any]:
    """eks:DescribeNodegroup of the group that CREATE_NODEGROUP makes."""
    made = {key: value for key, value in CREATE_NODEGROUP.items() if key != "launchTemplate"}
    described = {
        **made,
        "nodegroupArn": f"arn:aws:eks:us-west-2:{ACCOUNT}:nodegroup/demo/{NAME}/1",
        "status": status,
        "releaseVersion": "1.36.1-20260724",
        "launchTemplate": {"id": "lt-1", "name": f"demo-{NAME}", "version": "1"},
        "resources": {"autoScalingGroups": [{"name": f"eks-{NAME}-1"}]},
    }
    return {"nodegroup": {**described, **changes}}


def expect_place(
    wire: Wire,
    *names: str,
    cluster: str | None = "ACTIVE",
    subnets: tuple[str, ...] = ("subnet-a",),
    types: bool = True,
    absent: bool = False,
    **described: str,
) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    if cluster is None:
        wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    else:
        wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": {"name": "demo", "status": cluster, **described}})
    if subnets:
        filters = [{"Name": "subnet-id", "Values": list(subnets)}]
        found = [{"SubnetId": "subnet-a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}]
        wire.expect("ec2:DescribeSubnets", {"Filters": filters}, {"Subnets": found})
    if types:
        expect_types(wire)
    if absent:
        expect_no_scaling_groups(wire)
    if cluster is not None:
        wire.expect("eks:ListNodegroups", {"clusterName": "demo"}, {"nodegroups": list(names)})


def expect_types(wire: Wire, *, types: tuple[dict[str, t.Any], ...] = (TYPE,), zones: tuple[str, ...] = ("us-west-2a",)) -> None:
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": TYPE_FILTER}, {"InstanceTypes": list(types)})
    offerings = [{"InstanceType": "g5.2xlarge", "LocationType": "availability-zone", "Location": zone} for zone in zones]
    request = {"LocationType": "availability-zone", "Filters": TYPE_FILTER}
    wire.expect("ec2:DescribeInstanceTypeOfferings", request, {"InstanceTypeOfferings": offerings})


def expect_templates(wire: Wire, *templates: dict[str, t.Any]) -> None:
    filters = [{"Name": "tag:gpuops.eks/owner", "Values": [OWNER]}]
    wire.expect("ec2:DescribeLaunchTemplates", {"Filters": filters}, {"LaunchTemplates": list(templates)})


def expect_no_scaling_groups(wire: Wire, *templates: dict[str, t.Any], first: bool = True) -> None:
    """What is looked at for pools of Auto Scaling groups; ``templates`` are those of node groups, none of theirs, read ``first`` or last."""
    filters = [{"Name": "tag:gpuops.eks/owner", "Values": [OWNER]}]
    reads: list[tuple[str, dict[str, t.Any]]] = [
        ("ec2:DescribeLaunchTemplates", {"LaunchTemplates": list(templates)}),
        ("autoscaling:DescribeAutoScalingGroups", {"AutoScalingGroups": []}),
    ]
    for action, reply in reads if first else reads[::-1]:
        wire.expect(action, {"Filters": filters}, reply)


def expect_names(wire: Wire, *taken: dict[str, t.Any]) -> None:
    filters = [{"Name": "launch-template-name", "Values": [f"demo-{NAME}"]}]
    wire.expect("ec2:DescribeLaunchTemplates", {"Filters": filters}, {"LaunchTemplates": list(taken)})


def expect_role(wire: Wire) -> None:
    role = {"RoleName": "demo-node", "Arn": ROLE, "Path": "/", "RoleId": "AROAEXAMPLEEXAMPLE00", "CreateDate": "2026-01-01T00:00:00Z"}
    wire.expect("iam:GetRole", {"RoleName": "demo-node"}, {"Role": role})


def expect_existing(wire: Wire, **changes: t.Any) -> None:
    expect_place(wire, NAME, "other")
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(**changes))
    expect_templates(wire, TEMPLATE)


def actions(result: dict[str, t.Any]) -> list[str]:
    assert not result.get("failed"), result["msg"]
    return [step["action"] for step in result["plan"]]


def test_create(wire: Wire) -> None:
    expect_place(wire)
    expect_templates(wire)
    expect_names(wire)
    expect_role(wire)
    wire.expect("ec2:CreateLaunchTemplate", CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    wire.expect("eks:CreateNodegroup", CREATE_NODEGROUP, nodegroup("CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    result = wire.run(main, PARAMS)
    assert actions(result) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup"]
    assert result["progress"] == [f"DescribeNodegroup {NAME}: CREATING", f"DescribeNodegroup {NAME}: ACTIVE"]
    assert result["nodepools"] == [result["nodepool"]]
    assert result["nodepool"] == {
        "name": "inference",
        "provisioner": "managed_node_group",
        "accelerator": "nvidia",
        "labels": LABELS,
        "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
        "sharing": {
            "strategy": "time_slicing",
            "replicas": 10,
            "resource": "nvidia.com/gpu",
            "resources": ["nvidia.com/gpu"],
            "configuration": "inference",
            "backend": "device_plugin",
            "mig": None,
        },
        "groups": [
            {
                "name": NAME,
                "zone": "us-west-2a",
                "zones": ["us-west-2a"],
                "gpu_count": 1,
                "capacity_type": "on_demand",
                "instance_types": ["g5.2xlarge"],
                "min": 1,
                "max": 3,
                "desired": 1,
                "status": "ACTIVE",
                "nodegroup_arn": f"arn:aws:eks:us-west-2:{ACCOUNT}:nodegroup/demo/{NAME}/1",
                "auto_scaling_group": f"eks-{NAME}-1",
                "launch_template": {"id": "lt-1", "version": "1"},
            }
        ],
    }


TEMPLATE_LATE = "Launch template could not be found : The specified launch template, with template ID lt-1, does not exist."
VERSION_LATE = "Could not find the specified version 3 for the launch template with ID lt-1."
ROLE_LATE = (
    f"Following required service principals [ec2.amazonaws.com] were not found in the trust relationships of nodeRole {ROLE}",
    "The role with name demo-node cannot be found.",
    "Amazon EKS Nodegroups was unable to assume the service-linked role.",
)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", made.append)
    return made


@pytest.mark.parametrize("message", [TEMPLATE_LATE, VERSION_LATE, *ROLE_LATE])
def test_eks_knows_the_template_and_the_role_a_moment_later(wire: Wire, pauses: list[float], message: str) -> None:
    expect_place(wire)
    expect_templates(wire)
    expect_names(wire)
    expect_role(wire)
    wire.expect("ec2:CreateLaunchTemplate", CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    wire.expect_error("eks:CreateNodegroup", CREATE_NODEGROUP, "InvalidParameterException", message)
    wire.expect("eks:CreateNodegroup", CREATE_NODEGROUP, nodegroup("CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("CREATING"))
    assert actions(wire.run(main, {**PARAMS, "wait": False})) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup"]
    assert len(pauses) == 1


def test_another_refusal_of_a_group_is_not_repeated(wire: Wire, pauses: list[float]) -> None:
    expect_place(wire)
    expect_templates(wire)
    expect_names(wire)
    expect_role(wire)
    wire.expect("ec2:CreateLaunchTemplate", CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    wire.expect_error("eks:CreateNodegroup", CREATE_NODEGROUP, "InvalidParameterException", "Subnets are not tagged")
    assert "Subnets are not tagged" in wire.run(main, PARAMS)["msg"]
    assert pauses == []


@pytest.mark.parametrize("check_mode", [True, False])
def test_nothing_to_do(wire: Wire, check_mode: bool) -> None:
    expect_existing(wire)
    result = wire.run(main, PARAMS, check_mode=check_mode)
    assert not result["changed"]
    assert actions(result) == []
    assert result["diff"] == {"before": {}, "after": {}}
    assert result["nodepool"]["groups"][0]["status"] == "ACTIVE"


UPDATE = {
    **PARAMS,
    "scaling": {"min": 1, "max": 5},
    "labels": {"team": "ml"},
    "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}, {"key": "dedicated", "effect": "NoExecute"}],
}
UPDATE_REQUEST = {
    **SUBJECT,
    "scalingConfig": {"maxSize": 5},
    "labels": {"addOrUpdateLabels": {"team": "ml"}},
    "taints": {"addOrUpdateTaints": [{"key": "dedicated", "effect": "NO_EXECUTE"}]},
}


def test_scaling_labels_and_taints_in_one_call(wire: Wire) -> None:
    expect_existing(wire)
    wire.expect("eks:UpdateNodegroupConfig", UPDATE_REQUEST, {"update": {"id": "u-1", "status": "InProgress"}})
    request = {"name": "demo", "nodegroupName": NAME, "updateId": "u-1"}
    for status in ("InProgress", "Successful"):
        wire.expect("eks:DescribeUpdate", request, {"update": {"id": "u-1", "status": status}})
    scaling = {"minSize": 1, "maxSize": 5, "desiredSize": 1}
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(scalingConfig=scaling, labels={**LABELS, "team": "ml"}))
    result = wire.run(main, UPDATE)
    assert result["plan"] == [
        {
            "action": "eks:UpdateNodegroupConfig",
            "target": NAME,
            "effect": "update",
            "fields": ["scaling.max", "labels.team", "taints[dedicated]"],
            "reason": "",
        }
    ]
    assert result["diff"]["before"] == {NAME: {"scaling.max": 3, "labels.team": None, "taints[dedicated]": []}}
    assert result["progress"] == [f"DescribeUpdate {NAME}: InProgress", f"DescribeUpdate {NAME}: Successful"]
    assert result["nodepool"]["groups"][0]["max"] == 5


def test_a_group_whose_share_became_zero_is_emptied(wire: Wire) -> None:
    second = NAME.replace("2a", "2b")
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": {"name": "demo", "status": "ACTIVE"}})
    places = {"subnet-a": ("us-west-2a", "usw2-az1"), "subnet-b": ("us-west-2b", "usw2-az2")}
    found = [{"SubnetId": id_, "AvailabilityZone": zone, "AvailabilityZoneId": zone_id} for id_, (zone, zone_id) in places.items()]
    wire.expect("ec2:DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": list(places)}]}, {"Subnets": found})
    expect_types(wire, zones=("us-west-2a", "us-west-2b"))
    wire.expect("eks:ListNodegroups", {"clusterName": "demo"}, {"nodegroups": [NAME, second]})
    one = {"minSize": 0, "maxSize": 1, "desiredSize": 0}
    there: dict[str, t.Any] = {"nodegroupName": second, "subnets": ["subnet-b"]}
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(scalingConfig=one))
    wire.expect("eks:DescribeNodegroup", {**SUBJECT, "nodegroupName": second}, nodegroup(**there))
    expect_templates(wire, TEMPLATE, {**TEMPLATE, "LaunchTemplateName": f"demo-{second}"})
    request = {**SUBJECT, "nodegroupName": second, "scalingConfig": {"minSize": 0, "desiredSize": 0, "maxSize": 1}}
    wire.expect("eks:UpdateNodegroupConfig", request, {"update": {"id": "u-1"}})
    request = {"name": "demo", "nodegroupName": second, "updateId": "u-1"}
    wire.expect("eks:DescribeUpdate", request, {"update": {"id": "u-1", "status": "Successful"}})
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(scalingConfig=one))
    wire.expect("eks:DescribeNodegroup", {**SUBJECT, "nodegroupName": second}, nodegroup(**there, scalingConfig=one))
    subnets = [{"id": id_} for id_ in places]
    result = wire.run(main, {**PARAMS, "subnets": subnets, "zones": ["us-west-2a", "us-west-2b"], "scaling": {"min": 0, "max": 1}})
    assert actions(result) == ["eks:UpdateNodegroupConfig"]
    assert [group["max"] for group in result["nodepool"]["groups"]] == [1, 1]


def test_the_update_in_check_mode_shows_what_will_be(wire: Wire) -> None:
    expect_existing(wire)
    result = wire.run(main, UPDATE, check_mode=True)
    assert actions(result) == ["eks:UpdateNodegroupConfig"]
    assert result["nodepool"]["labels"] == {**LABELS, "team": "ml"}
    assert result["nodepool"]["groups"][0]["max"] == 5


def test_a_failed_update_is_told_in_the_services_words(wire: Wire) -> None:
    expect_existing(wire)
    wire.expect("eks:UpdateNodegroupConfig", UPDATE_REQUEST, {"update": {"id": "u-1", "status": "InProgress"}})
    errors = [{"errorCode": "InsufficientFreeAddresses", "errorMessage": "subnet-a has none left"}]
    failed = {"update": {"id": "u-1", "status": "Failed", "errors": errors}}
    wire.expect("eks:DescribeUpdate", {"name": "demo", "nodegroupName": NAME, "updateId": "u-1"}, failed)
    result = wire.run(main, UPDATE)
    assert result["failed"]
    assert f"eks:DescribeUpdate {NAME}: last state Failed" in result["msg"]
    assert "subnet-a has none left" in result["msg"]


def test_a_new_disk_is_a_new_version_of_the_template(wire: Wire, pauses: list[float]) -> None:
    expect_existing(wire)
    version = {"LaunchTemplateId": "lt-1", "VersionNumber": 1, "LaunchTemplateData": template_data()}
    request = {"LaunchTemplateId": "lt-1", "Versions": ["1"]}
    wire.expect("ec2:DescribeLaunchTemplateVersions", request, {"LaunchTemplateVersions": [version]})
    made = {"LaunchTemplateVersion": {"LaunchTemplateId": "lt-1", "VersionNumber": 3}}
    wire.expect("ec2:CreateLaunchTemplateVersion", {"LaunchTemplateId": "lt-1", "LaunchTemplateData": template_data(300)}, made)
    update = {**SUBJECT, "launchTemplate": {"id": "lt-1", "version": "3"}, "releaseVersion": "1.36.1-20260724"}
    wire.expect_error("eks:UpdateNodegroupVersion", update, "InvalidParameterException", VERSION_LATE)
    wire.expect("eks:UpdateNodegroupVersion", update, {"update": {"id": "u-1"}})
    tags = {f"{RESOURCES}/ephemeral-storage": "300Gi"}
    wire.expect("eks:TagResource", {"resourceArn": nodegroup()["nodegroup"]["nodegroupArn"], "tags": tags}, {})
    request = {"name": "demo", "nodegroupName": NAME, "updateId": "u-1"}
    wire.expect("eks:DescribeUpdate", request, {"update": {"id": "u-1", "status": "Successful"}})
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(launchTemplate={"id": "lt-1", "version": "3"}))
    result = wire.run(main, {**PARAMS, "disk": {"size_gib": 300}})
    assert actions(result) == ["ec2:CreateLaunchTemplateVersion", "eks:UpdateNodegroupVersion", "eks:TagResource"]
    assert result["nodepool"]["groups"][0]["launch_template"] == {"id": "lt-1", "version": "3"}
    assert len(pauses) == 1


def test_resume_after_the_template_was_made(wire: Wire) -> None:
    expect_place(wire)
    expect_templates(wire, TEMPLATE)
    version = {"LaunchTemplateId": "lt-1", "VersionNumber": 1, "LaunchTemplateData": template_data()}
    request = {"LaunchTemplateId": "lt-1", "Versions": ["1"]}
    wire.expect("ec2:DescribeLaunchTemplateVersions", request, {"LaunchTemplateVersions": [version]})
    expect_role(wire)
    wire.expect("eks:CreateNodegroup", CREATE_NODEGROUP, nodegroup("CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("CREATING"))
    result = wire.run(main, {**PARAMS, "wait": False})
    assert actions(result) == ["eks:CreateNodegroup"]
    assert result["nodepool"]["groups"][0]["status"] == "CREATING"


def test_resume_of_the_wait(wire: Wire) -> None:
    expect_existing(wire, status="CREATING")
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    result = wire.run(main, PARAMS)
    assert not result["changed"]
    assert result["progress"] == [f"DescribeNodegroup {NAME}: ACTIVE"]


def test_a_group_that_never_came_up_is_made_again(wire: Wire) -> None:
    issues = {"issues": [{"code": "NodeCreationFailure", "message": "Instances failed to join", "resourceIds": ["i-1"]}]}
    expect_place(wire, NAME)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("CREATE_FAILED", health=issues))
    expect_templates(wire, TEMPLATE)
    version = {"LaunchTemplateId": "lt-1", "VersionNumber": 1, "LaunchTemplateData": template_data()}
    request = {"LaunchTemplateId": "lt-1", "Versions": ["1"]}
    wire.expect("ec2:DescribeLaunchTemplateVersions", request, {"LaunchTemplateVersions": [version]})
    expect_role(wire)
    wire.expect("eks:DeleteNodegroup", SUBJECT, nodegroup("DELETING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("DELETING"))
    wire.expect_error("eks:DescribeNodegroup", SUBJECT, "ResourceNotFoundException")
    wire.expect("eks:CreateNodegroup", CREATE_NODEGROUP, nodegroup("CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    result = wire.run(main, PARAMS)
    assert [(step["action"], step["effect"]) for step in result["plan"]] == [
        ("eks:DeleteNodegroup", "replace"),
        ("eks:CreateNodegroup", "replace"),
    ]


OTHER = f"{NAME}-b"
OTHER_SUBJECT = {**SUBJECT, "nodegroupName": OTHER}
OTHER_TEMPLATE = {**TEMPLATE, "LaunchTemplateId": "lt-2", "LaunchTemplateName": f"demo-{OTHER}"}
REPLACING = {**PARAMS, "allow_replacement": True}


def expect_unfit(wire: Wire, *others: str) -> None:
    """A group with an instance type that is no longer wanted, which it cannot change, and 2 nodes."""
    expect_place(wire, NAME, *others)
    scaling = {"minSize": 1, "maxSize": 3, "desiredSize": 2}
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(instanceTypes=["g6.2xlarge"], scalingConfig=scaling))


def expect_old_one_deleted(wire: Wire) -> None:
    wire.expect("eks:DeleteNodegroup", SUBJECT, nodegroup("DELETING"))
    wire.expect_error("eks:DescribeNodegroup", SUBJECT, "ResourceNotFoundException")
    wire.expect("ec2:DeleteLaunchTemplate", {"LaunchTemplateId": "lt-1"})


def other(status: str = "ACTIVE") -> dict[str, t.Any]:
    return nodegroup(status, nodegroupName=OTHER, launchTemplate={"id": "lt-2", "name": f"demo-{OTHER}", "version": "1"})


def test_what_cannot_be_changed_is_refused_without_consent(wire: Wire) -> None:
    expect_unfit(wire)
    expect_templates(wire, TEMPLATE)
    result = wire.run(main, PARAMS)
    assert [(fault["path"], fault["value"]) for fault in result["faults"]] == [("instances", ["g5.2xlarge"])]
    assert "allow_replacement: true" in result["msg"]


def test_with_consent_the_new_group_is_there_before_the_old_one_goes(wire: Wire) -> None:
    expect_unfit(wire)
    expect_templates(wire, TEMPLATE)
    filters = [{"Name": "launch-template-name", "Values": [f"demo-{OTHER}"]}]
    wire.expect("ec2:DescribeLaunchTemplates", {"Filters": filters}, {"LaunchTemplates": []})
    expect_role(wire)
    request = {**CREATE_TEMPLATE, "LaunchTemplateName": f"demo-{OTHER}"}
    wire.expect("ec2:CreateLaunchTemplate", request, {"LaunchTemplate": {"LaunchTemplateId": "lt-2"}})
    create = {
        **CREATE_NODEGROUP,
        **OTHER_SUBJECT,
        "launchTemplate": {"id": "lt-2", "version": "1"},
        "scalingConfig": {"minSize": 1, "maxSize": 3, "desiredSize": 2},
    }
    wire.expect("eks:CreateNodegroup", create, other("CREATING"))
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other("CREATING"))
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other())
    expect_old_one_deleted(wire)
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other())
    result = wire.run(main, REPLACING)
    assert [(step["action"], step["target"], step["effect"]) for step in result["plan"]] == [
        ("ec2:CreateLaunchTemplate", f"planned:launch-template/demo-{OTHER}", "create"),
        ("eks:CreateNodegroup", NAME, "replace"),
        ("eks:DeleteNodegroup", NAME, "replace"),
        ("ec2:DeleteLaunchTemplate", "lt-1", "delete"),
    ]
    assert counts(result["plan"]) == {"add": 1, "change": 0, "replace": 1, "destroy": 1}
    assert [group["name"] for group in result["nodepool"]["groups"]] == [OTHER]


def test_a_new_group_that_never_comes_up_leaves_the_old_one_alone(wire: Wire) -> None:
    expect_unfit(wire, OTHER)
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other("CREATING"))
    expect_templates(wire, TEMPLATE, OTHER_TEMPLATE)
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other("CREATE_FAILED"))
    result = wire.run(main, REPLACING)
    assert result["failed"]
    assert f"eks:DescribeNodegroup {OTHER}: last state CREATE_FAILED" in result["msg"]


@pytest.mark.parametrize("wait", [True, False])
def test_a_replacement_that_was_interrupted_is_finished(wire: Wire, wait: bool) -> None:
    expect_unfit(wire, OTHER)
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other("CREATING"))
    expect_templates(wire, TEMPLATE, OTHER_TEMPLATE)
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other())
    expect_old_one_deleted(wire)
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other())
    assert actions(wire.run(main, {**REPLACING, "wait": wait})) == ["eks:DeleteNodegroup", "ec2:DeleteLaunchTemplate"]


def test_after_a_replacement_nothing_is_left_to_do(wire: Wire) -> None:
    expect_place(wire, OTHER)
    wire.expect("eks:DescribeNodegroup", OTHER_SUBJECT, other())
    expect_templates(wire, OTHER_TEMPLATE)
    result = wire.run(main, REPLACING)
    assert (actions(result), result["changed"]) == ([], False)


OLD = "old-us-west-2a-1gpu-spot"


OLD_TEMPLATE = {
    "LaunchTemplateId": "lt-2",
    "LaunchTemplateName": f"demo-{OLD}",
    "LatestVersionNumber": 1,
    "Tags": [{"Key": "gpuops.eks/nodepool", "Value": "old"}, {"Key": "gpuops.eks/owner", "Value": OWNER}],
}


def expect_old(wire: Wire) -> None:
    """A group of a pool that is no longer among the pools."""
    tags = {**GROUP_TAGS, "gpuops.eks/nodepool": "old"}
    wire.expect("eks:DescribeNodegroup", {**SUBJECT, "nodegroupName": OLD}, nodegroup(nodegroupName=OLD, tags=tags))
    wire.expect("eks:DescribeNodegroup", {**SUBJECT, "nodegroupName": "other"}, nodegroup(nodegroupName="other", tags={}))


def expect_old_deleted(wire: Wire) -> None:
    old = {**SUBJECT, "nodegroupName": OLD}
    wire.expect("eks:DeleteNodegroup", old, nodegroup("DELETING", nodegroupName=OLD))
    wire.expect("eks:DescribeNodegroup", old, nodegroup("DELETING", nodegroupName=OLD))
    wire.expect_error("eks:DescribeNodegroup", old, "ResourceNotFoundException")
    wire.expect("ec2:DeleteLaunchTemplate", {"LaunchTemplateId": "lt-2"})


def expect_no_node_role(wire: Wire, pool: str = "inference") -> None:
    wire.expect_error("iam:GetRole", {"RoleName": f"demo-us-west-2-{pool}-node"}, "NoSuchEntity")


POOLS = {**{name: value for name, value in PARAMS.items() if name not in POOL}, "pools": [POOL]}


def test_pruning_removes_what_no_pool_wants_once_the_new_groups_are_there(wire: Wire) -> None:
    expect_place(wire, OLD, "other")
    expect_old(wire)
    expect_templates(wire, OLD_TEMPLATE)
    expect_names(wire)
    expect_role(wire)
    expect_no_scaling_groups(wire, OLD_TEMPLATE, first=False)
    expect_no_node_role(wire, "old")
    wire.expect("ec2:CreateLaunchTemplate", CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    wire.expect("eks:CreateNodegroup", CREATE_NODEGROUP, nodegroup("CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    expect_old_deleted(wire)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    result = wire.run(main, {**POOLS, "prune": True})
    assert [(step["action"], step["target"], step["effect"]) for step in result["plan"]] == [
        ("ec2:CreateLaunchTemplate", f"planned:launch-template/demo-{NAME}", "create"),
        ("eks:CreateNodegroup", f"planned:nodegroup/demo-{NAME}", "create"),
        ("eks:DeleteNodegroup", OLD, "delete"),
        ("ec2:DeleteLaunchTemplate", "lt-2", "delete"),
    ]
    assert result["diff"]["before"] == {OLD: {"status": "ACTIVE"}}
    assert [pool["name"] for pool in result["nodepools"]] == ["inference"]


def test_pruning_with_an_empty_list_removes_the_last_pool(wire: Wire) -> None:
    expect_place(wire, OLD, "other", types=False)
    expect_old(wire)
    expect_templates(wire, OLD_TEMPLATE)
    expect_no_scaling_groups(wire, OLD_TEMPLATE, first=False)
    expect_no_node_role(wire, "old")
    expect_old_deleted(wire)
    assert actions(wire.run(main, {**POOLS, "pools": [], "prune": True})) == ["eks:DeleteNodegroup", "ec2:DeleteLaunchTemplate"]


def test_pruning_in_check_mode_only_plans(wire: Wire) -> None:
    expect_place(wire, NAME, OLD, "other")
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    expect_old(wire)
    expect_templates(wire, TEMPLATE, OLD_TEMPLATE)
    expect_no_scaling_groups(wire, TEMPLATE, OLD_TEMPLATE, first=False)
    expect_no_node_role(wire, "old")
    assert actions(wire.run(main, {**POOLS, "prune": True}, check_mode=True)) == ["eks:DeleteNodegroup", "ec2:DeleteLaunchTemplate"]


def test_pruning_one_pool_leaves_the_others_alone(wire: Wire) -> None:
    expect_place(wire, NAME, OLD)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    expect_templates(wire, TEMPLATE, OLD_TEMPLATE)
    expect_no_scaling_groups(wire, TEMPLATE, OLD_TEMPLATE, first=False)
    assert actions(wire.run(main, {**PARAMS, "prune": True})) == []


@pytest.mark.parametrize(("strategy", "refused"), [("cluster", ["zones"]), ("partition", [])])
def test_only_a_placement_group_that_lies_in_one_zone_wants_one(wire: Wire, strategy: str, refused: list[str]) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": {"name": "demo", "status": "ACTIVE"}})
    zones = ("us-west-2a", "us-west-2b")
    subnets = [
        {"SubnetId": f"subnet-{zone[-1]}", "AvailabilityZone": zone, "AvailabilityZoneId": f"usw2-az{number}"}
        for number, zone in enumerate(zones, 1)
    ]
    filters = [{"Name": "subnet-id", "Values": ["subnet-a", "subnet-b"]}]
    wire.expect("ec2:DescribeSubnets", {"Filters": filters}, {"Subnets": subnets})
    expect_types(wire, zones=zones)
    placement = {"GroupName": "rack", "State": "available", "Strategy": strategy}
    wire.expect("ec2:DescribePlacementGroups", {"Filters": [{"Name": "group-name", "Values": ["rack"]}]}, {"PlacementGroups": [placement]})
    wire.expect("eks:ListNodegroups", {"clusterName": "demo"}, {"nodegroups": []})
    expect_templates(wire)
    names = [f"demo-inference-{zone}-1gpu-on-demand" for zone in zones]
    wire.expect("ec2:DescribeLaunchTemplates", {"Filters": [{"Name": "launch-template-name", "Values": names}]}, {"LaunchTemplates": []})
    expect_role(wire)
    given = [{"id": f"subnet-{zone[-1]}", "zone": zone, "zone_id": f"usw2-az{number}"} for number, zone in enumerate(zones, 1)]
    params = {**PARAMS, "subnets": given, "zones": list(zones), "network": {"placement_group": "rack"}, "scaling": {"max": 4}}
    result = wire.run(main, params, check_mode=True)
    assert [fault["path"] for fault in result.get("faults", ())] == refused


def test_delete(wire: Wire) -> None:
    expect_place(wire, NAME, subnets=(), types=False, absent=True)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    expect_templates(wire, TEMPLATE)
    wire.expect("eks:DeleteNodegroup", SUBJECT, nodegroup("DELETING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("DELETING"))
    wire.expect_error("eks:DescribeNodegroup", SUBJECT, "ResourceNotFoundException")
    wire.expect("ec2:DeleteLaunchTemplate", {"LaunchTemplateId": "lt-1"})
    expect_no_node_role(wire)
    result = wire.run(main, {"cluster_name": "demo", "name": "inference", "state": "absent", "wait_interval": 0.001})
    assert actions(result) == ["eks:DeleteNodegroup", "ec2:DeleteLaunchTemplate"]
    assert (result["nodepools"], result["nodepool"]) == ([], None)


@pytest.mark.parametrize("settled", ["ACTIVE", "DEGRADED", "CREATE_FAILED"])
def test_delete_of_a_group_that_is_being_made(wire: Wire, settled: str) -> None:
    expect_place(wire, NAME, subnets=(), types=False, absent=True)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("CREATING"))
    expect_templates(wire, TEMPLATE)
    for status in ("CREATING", settled):
        wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(status))
    wire.expect("eks:DeleteNodegroup", SUBJECT, nodegroup("DELETING"))
    wire.expect_error("eks:DescribeNodegroup", SUBJECT, "ResourceNotFoundException")
    wire.expect("ec2:DeleteLaunchTemplate", {"LaunchTemplateId": "lt-1"})
    expect_no_node_role(wire)
    params = {"cluster_name": "demo", "name": "inference", "state": "absent", "wait": False, "wait_interval": 0.001}
    assert actions(wire.run(main, params)) == ["eks:DeleteNodegroup", "ec2:DeleteLaunchTemplate"]


def test_delete_when_the_cluster_is_gone(wire: Wire) -> None:
    expect_place(wire, cluster=None, subnets=(), types=False, absent=True)
    expect_templates(wire)
    expect_no_node_role(wire)
    result = wire.run(main, {"cluster_name": "demo", "pools": [{"name": "inference"}], "state": "absent"})
    assert not result["changed"]
    assert "nodepool" not in result


PLANNED = {
    **PARAMS,
    "node_role_arn": "planned:role/demo-node",
    "subnets": [{"id": "planned:subnet/demo-private-us-west-2a", "zone": "us-west-2a", "zone_id": "usw2-az1", "tier": "private"}],
}


def test_check_mode_on_an_empty_account(wire: Wire) -> None:
    expect_place(wire, cluster=None, subnets=())
    expect_templates(wire)
    expect_names(wire)
    result = wire.run(main, PLANNED, check_mode=True)
    assert actions(result) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup"]
    assert result["plan"][1]["target"] == f"planned:nodegroup/demo-{NAME}"
    group = result["nodepool"]["groups"][0]
    assert (group["nodegroup_arn"], group["status"]) == (f"planned:nodegroup/demo-{NAME}", None)
    assert group["launch_template"] == {"id": f"planned:launch-template/demo-{NAME}", "version": "1"}
    assert result["diff"]["after"][NAME]["subnets"] == ["planned:subnet/demo-private-us-west-2a"]


def test_planned_ids_are_for_check_mode(wire: Wire) -> None:
    own = {"iam": {"node_role": "planned:role/other"}, "network": {"subnets": ["planned:subnet/x"]}}
    pools = [{**POOL, "zones": None}, {**POOL, "name": "other", "zones": None, **own}]
    params = {name: PLANNED[name] for name in ("cluster_name", "node_role_arn", "subnets")}
    expect_place(wire, subnets=())
    expect_templates(wire)
    expect_names(wire)
    result = wire.run(main, {**params, "pools": pools})
    planned = {fault["path"]: fault["value"] for fault in result["faults"] if "planned ids are for check mode" in fault["allowed"]}
    assert planned == {
        "node_role_arn": "planned:role/demo-node",
        "pools[1].iam.node_role": "planned:role/other",
        "subnets[0].id": "planned:subnet/demo-private-us-west-2a",
        "pools[1].network.subnets[0]": "planned:subnet/x",
    }
    assert all(fault["source"] for fault in result["faults"])


def test_every_missing_fact_at_once_and_no_write(wire: Wire) -> None:
    params = {**PARAMS, "subnets": [*PARAMS["subnets"], {"id": "subnet-b"}], "zones": ["us-west-2a", "us-west-2b"]}
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    filters = [{"Name": "subnet-id", "Values": ["subnet-a", "subnet-b"]}]
    found = [{"SubnetId": "subnet-a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}]
    wire.expect("ec2:DescribeSubnets", {"Filters": filters}, {"Subnets": found})
    expect_types(wire, types=())
    expect_templates(wire)
    wire.expect_error("iam:GetRole", {"RoleName": "demo-node"}, "NoSuchEntity")
    result = wire.run(main, params)
    assert {fault["path"]: fault["value"] for fault in result["faults"]} == {
        "cluster_name": "demo",
        "subnets[1].id": "subnet-b",
        "instances.types[0]": "g5.2xlarge",
        "zones[1]": "us-west-2b",
        "iam.node_role": ROLE,
    }


def test_a_role_that_is_not_there(wire: Wire) -> None:
    expect_place(wire)
    expect_templates(wire)
    expect_names(wire)
    wire.expect_error("iam:GetRole", {"RoleName": "demo-node"}, "NoSuchEntity")
    result = wire.run(main, PARAMS)
    assert [(fault["path"], fault["value"]) for fault in result["faults"]] == [("iam.node_role", ROLE)]


def test_a_cluster_that_is_not_active(wire: Wire) -> None:
    expect_place(wire, cluster="CREATING")
    expect_templates(wire)
    expect_names(wire)
    expect_role(wire)
    result = wire.run(main, PARAMS)
    assert [(fault["path"], fault["value"]) for fault in result["faults"]] == [("cluster_name", "demo is CREATING")]


def test_the_clusters_subnets_where_none_are_given(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    cluster = {"name": "demo", "status": "ACTIVE", "resourcesVpcConfig": {"subnetIds": ["subnet-a"]}}
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": cluster})
    filters = [{"Name": "subnet-id", "Values": ["subnet-a"]}]
    found = [{"SubnetId": "subnet-a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}]
    wire.expect("ec2:DescribeSubnets", {"Filters": filters}, {"Subnets": found})
    expect_types(wire)
    wire.expect("eks:ListNodegroups", {"clusterName": "demo"}, {"nodegroups": [NAME]})
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    expect_templates(wire, TEMPLATE)
    assert actions(wire.run(main, {**PARAMS, "subnets": None})) == []


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket connects, no name is looked up, no credentials are in the environment."""

    def refuse(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise AssertionError("bad input must not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_network")
def test_all_faults_of_all_pools_before_any_client(wire: Wire) -> None:
    bad = {
        **POOL,
        "instances": {"types": ["g5.2xlargee", "m5.large"]},
        "sharing": {"strategy": "time_slicing", "replicas": 1},
        "taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedul"}],
        "labels": {"-x": "y"},
        "scaling": {"min": 3, "max": 2},
    }
    shared = {**POOL, "name": "shared", "sharing": {"strategy": "time_slicing", "replicas": "ten"}}
    result = wire.run(main, {"cluster_name": "demo", "pools": [bad, POOL, shared]})
    assert result["failed"]
    assert {fault["path"] for fault in result["faults"]} == {
        "pools[0].instances.types[0]",
        "pools[0].instances.types[1]",
        "pools[0].sharing.replicas",
        "pools[0].taints[0].effect",
        "pools[0].labels.-x",
        "pools[0].scaling.min",
        "pools[1].name",
        "pools[2].sharing.replicas",
    }
    assert all(fault["allowed"] and fault["source"] for fault in result["faults"])


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"cluster_name": "demo"}, "required: the name of one pool; or pools"),
        ({**PARAMS, "pools": [POOL]}, "mutually exclusive"),
        ({**PARAMS, "provisioner": "karpenter"}, "scaling.min"),
        ({**PARAMS, "sharing": {"strategy": "time_slicing", "replicas": 0}}, "at least 2"),
        ({**PARAMS, "node_role_arn": "no role"}, "the name or ARN of an IAM role"),
        ({"cluster_name": "demo", "name": "No", "state": "absent"}, "lower case"),
    ],
)
def test_bad_input_before_any_client(wire: Wire, params: dict[str, t.Any], message: str) -> None:
    result = wire.run(main, params)
    assert result["failed"]
    assert message in result["msg"]


def test_a_reservation_that_is_not_there_is_refused_and_the_others_are_found(wire: Wire) -> None:
    """By state: botocore knows no filter for ids, and an unknown id would be an error for all of them."""
    there, gone = "cr-0123456789abcdef0", "cr-0123456789abcdef1"
    expect_place(wire, cluster=None, absent=False)
    filters = [{"Name": "state", "Values": ["active", "scheduled"]}]
    reservation = {"CapacityReservationId": there, "InstanceType": "g5.2xlarge", "AvailabilityZone": "us-west-2a"}
    wire.expect("ec2:DescribeCapacityReservations", {"Filters": filters}, {"CapacityReservations": [reservation]})
    expect_templates(wire)
    expect_role(wire)
    capacity = {"types": ["reserved"], "reservations": [there, gone]}
    result = wire.run(main, {**PARAMS, "capacity": capacity}, check_mode=True)
    assert [fault["path"] for fault in result["faults"]] == ["capacity.reservations[1]"]
