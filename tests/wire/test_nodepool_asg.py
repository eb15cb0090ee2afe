# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_gpu_nodepool with Auto Scaling groups through main(): the exact calls, in order."""

from __future__ import annotations

import base64
import datetime
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import GPU_TAINT
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import ClusterData, NodeSettings, render
from ansible_collections.gpuops.eks.plugins.module_utils._run import nodepool, nodepool_asg, patience
from ansible_collections.gpuops.eks.plugins.modules.eks_gpu_nodepool import main

from tests.wire.harness import Wire

ACCOUNT = "123456789012"
OWNER = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/demo"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-node"
GROUP = "inference-us-west-2a-1gpu-on-demand"
NAME, TEMPLATE_NAME, PROFILE = f"demo-{GROUP}", f"demo-{GROUP}-asg", "demo-us-west-2-inference-nodes"
CLUSTER: dict[str, t.Any] = {
    "name": "demo",
    "status": "ACTIVE",
    "version": "1.36",
    "endpoint": "https://api.example.com",
    "certificateAuthority": {"data": "Q0E="},
    "kubernetesNetworkConfig": {"serviceIpv4Cidr": "172.20.0.0/16"},
    "resourcesVpcConfig": {"clusterSecurityGroupId": "sg-cluster"},
    "accessConfig": {"authenticationMode": "API"},
}
PARAMS: dict[str, t.Any] = {
    "cluster_name": "demo",
    "node_role_arn": ROLE,
    "subnets": [{"id": "subnet-a", "zone": "us-west-2a", "zone_id": "usw2-az1", "tier": "private", "cidr_block": "10.0.0.0/20"}],
    "wait_interval": 0.001,
    "name": "inference",
    "provisioner": "auto_scaling_group",
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a"],
    "scaling": {"min": 1, "max": 3},
    "sharing": {"strategy": "time_slicing", "replicas": 10},
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
POOL_TAGS = {"gpuops.eks/component": "nodepool", "gpuops.eks/nodepool": "inference", "gpuops.eks/owner": OWNER}
TEMPLATE_TAGS = {"gpuops.eks/component": "auto-scaling-group", "gpuops.eks/owner": OWNER, "gpuops.eks/pool": "inference"}
LABELS = {
    "k8s.amazonaws.com/accelerator": "nvidia-a10g",
    "gpuops.eks/nodepool": "inference",
    "nvidia.com/gpu.present": "true",
    "nvidia.com/device-plugin.config": "inference",
}
CA = "k8s.io/cluster-autoscaler/"
TAGS = {
    f"{CA}demo": "owned",
    f"{CA}enabled": "true",
    **{f"{CA}node-template/label/{key}": value for key, value in LABELS.items()},
    f"{CA}node-template/taint/nvidia.com/gpu": "true:NoSchedule",
    f"{CA}node-template/resources/ephemeral-storage": "200Gi",
    f"{CA}node-template/resources/nvidia.com/gpu": "10",
    "kubernetes.io/cluster/demo": "owned",
    **POOL_TAGS,
    "gpuops.eks/pool": "inference",
}
USER_DATA = render(
    "al2023",
    NodeSettings(
        cluster=ClusterData(name="demo", endpoint="https://api.example.com", certificate_authority="Q0E=", cidr="172.20.0.0/16"),
        labels=LABELS,
        taints=frozenset({GPU_TAINT}),
        raid0=True,
        fast_image_pull=True,
    ),
)
PARAMETER = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended/image_id"
DESCRIPTION = "eks al2023/nvidia/amd64 1.36 newest"
EPOCH = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def template_data(size: int = 200) -> dict[str, t.Any]:
    ebs = {"Encrypted": True, "DeleteOnTermination": True, "VolumeSize": size, "VolumeType": "gp3", "Throughput": 600}
    return {
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": listed(POOL_TAGS)} for kind in ("instance", "volume", "network-interface")],
        "UserData": base64.b64encode(USER_DATA.encode()).decode(),
        "SecurityGroupIds": ["sg-cluster"],
        "ImageId": "ami-1",
        "IamInstanceProfile": {"Name": PROFILE},
    }


CREATE_TEMPLATE = {
    "LaunchTemplateName": TEMPLATE_NAME,
    "VersionDescription": DESCRIPTION,
    "LaunchTemplateData": template_data(),
    "TagSpecifications": [{"ResourceType": "launch-template", "Tags": listed(TEMPLATE_TAGS)}],
}
POLICY: dict[str, t.Any] = {
    "LaunchTemplate": {
        "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "1"},
        "Overrides": [{"InstanceType": "g5.2xlarge"}],
    },
    "InstancesDistribution": {
        "OnDemandAllocationStrategy": "prioritized",
        "OnDemandBaseCapacity": 0,
        "OnDemandPercentageAboveBaseCapacity": 100,
        "SpotAllocationStrategy": "price-capacity-optimized",
    },
}
# Auto Scaling says the template's name too, and refuses a request with both.
DESCRIBED_POLICY = {
    **POLICY,
    "LaunchTemplate": {
        **POLICY["LaunchTemplate"],
        "LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "LaunchTemplateName": TEMPLATE_NAME, "Version": "1"},
    },
}
CREATE_GROUP = {
    "AutoScalingGroupName": NAME,
    "MinSize": 1,
    "MaxSize": 3,
    "DesiredCapacity": 1,
    "VPCZoneIdentifier": "subnet-a",
    "MixedInstancesPolicy": POLICY,
    "CapacityRebalance": False,
    "NewInstancesProtectedFromScaleIn": False,
    "Tags": [
        {
            "ResourceId": NAME,
            "ResourceType": "auto-scaling-group",
            "Key": key,
            "Value": value,
            "PropagateAtLaunch": not key.startswith(CA),
        }
        for key, value in sorted(TAGS.items())
    ],
}
SUSPEND = {"AutoScalingGroupName": NAME, "ScalingProcesses": ["AZRebalance"]}
NAMED = {"AutoScalingGroupNames": [NAME]}
BY_OWNER = {"Filters": [{"Name": "tag:gpuops.eks/owner", "Values": [OWNER]}]}
TEMPLATE = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": TEMPLATE_NAME, "LatestVersionNumber": 1, "Tags": listed(TEMPLATE_TAGS)}
BOTH = {"InstanceProfileName": PROFILE, "RoleName": "demo-node"}
ENTRY = {"clusterName": "demo", "principalArn": ROLE}


def group(in_service: int = 1, **changes: t.Any) -> dict[str, t.Any]:
    """autoscaling:DescribeAutoScalingGroups of the group that CREATE_GROUP makes."""
    instances = [
        {
            "InstanceId": f"i-{number}",
            "InstanceType": "g5.2xlarge",
            "AvailabilityZone": "us-west-2a",
            "LifecycleState": "InService",
            "HealthStatus": "Healthy",
            "ProtectedFromScaleIn": False,
            "LaunchTemplate": {"LaunchTemplateId": "lt-1", "LaunchTemplateName": TEMPLATE_NAME, "Version": "1"},
        }
        for number in range(in_service)
    ]
    described = {
        "AutoScalingGroupName": NAME,
        "AutoScalingGroupARN": f"arn:aws:autoscaling:us-west-2:{ACCOUNT}:autoScalingGroup:1:autoScalingGroupName/{NAME}",
        "MinSize": 1,
        "MaxSize": 3,
        "DesiredCapacity": 1,
        "DefaultCooldown": 300,
        "AvailabilityZones": ["us-west-2a"],
        "HealthCheckType": "EC2",
        "CreatedTime": EPOCH,
        "VPCZoneIdentifier": "subnet-a",
        "MixedInstancesPolicy": DESCRIBED_POLICY,
        "SuspendedProcesses": [{"ProcessName": "AZRebalance", "SuspensionReason": "User suspended"}],
        "Tags": [{"Key": key, "Value": value} for key, value in TAGS.items()],
        "Instances": instances,
    }
    return {"AutoScalingGroups": [{**described, **changes}]}


@pytest.fixture(autouse=True)
def only_this_provisioner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parts of others read is not looked at here."""
    monkeypatch.setattr(nodepool, "_PROVISIONERS", {"auto_scaling_group": nodepool_asg})


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", made.append)
    return made


def expect_place(wire: Wire, **changes: t.Any) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": {**CLUSTER, **changes}})
    expect_ec2(wire)


def expect_ec2(wire: Wire) -> None:
    found = [{"SubnetId": "subnet-a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}]
    wire.expect("ec2:DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ["subnet-a"]}]}, {"Subnets": found})
    types = [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": types}, {"InstanceTypes": [TYPE]})
    offerings = [{"InstanceType": "g5.2xlarge", "LocationType": "availability-zone", "Location": "us-west-2a"}]
    request = {"LocationType": "availability-zone", "Filters": types}
    wire.expect("ec2:DescribeInstanceTypeOfferings", request, {"InstanceTypeOfferings": offerings})


def expect_none(wire: Wire, *templates: dict[str, t.Any], taken: tuple[dict[str, t.Any], ...] = ()) -> None:
    """No group of this name."""
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, {"AutoScalingGroups": []})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, {"AutoScalingGroups": []})
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": list(templates)})
    if not templates:
        filters = [{"Name": "launch-template-name", "Values": [TEMPLATE_NAME]}]
        wire.expect("ec2:DescribeLaunchTemplates", {"Filters": filters}, {"LaunchTemplates": list(taken)})


def expect_version(wire: Wire, size: int = 200) -> None:
    version = {"LaunchTemplateId": "lt-1", "VersionNumber": 1, "VersionDescription": DESCRIPTION, "LaunchTemplateData": template_data(size)}
    request = {"LaunchTemplateId": "lt-1", "Versions": ["1"]}
    wire.expect("ec2:DescribeLaunchTemplateVersions", request, {"LaunchTemplateVersions": [version]})


def expect_image(wire: Wire) -> None:
    wire.expect("ssm:GetParameter", {"Name": PARAMETER}, {"Parameter": {"Name": PARAMETER, "Value": "ami-1"}})


def profile(role: str | None = "demo-node", tags: dict[str, str] | None = None) -> dict[str, t.Any]:
    made: dict[str, t.Any] = {"Path": "/", "CreateDate": EPOCH}
    roles = [{**made, "RoleName": role, "RoleId": "AROAEXAMPLEEXAMPLE00", "Arn": f"arn:aws:iam::{ACCOUNT}:role/{role}"}] if role else []
    named = {
        "InstanceProfileName": PROFILE,
        "InstanceProfileId": "AIPAEXAMPLEEXAMPLE00",
        "Arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/p",
    }
    return {"InstanceProfile": {**made, **named, "Roles": roles, "Tags": listed(TEMPLATE_TAGS if tags is None else tags)}}


def expect_no_profile(wire: Wire) -> None:
    wire.expect_error("iam:GetInstanceProfile", {"InstanceProfileName": PROFILE}, "NoSuchEntity")


def expect_entry(wire: Wire, kind: str | None = "EC2_LINUX") -> None:
    if kind is None:
        wire.expect_error("eks:DescribeAccessEntry", ENTRY, "ResourceNotFoundException")
    else:
        wire.expect("eks:DescribeAccessEntry", ENTRY, {"accessEntry": {**ENTRY, "type": kind}})


def expect_existing(wire: Wire, in_service: int = 1, size: int = 200, **changes: t.Any) -> None:
    expect_place(wire)
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, group(in_service, **changes))
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": [TEMPLATE]})
    expect_version(wire, size)


def expect_profile(wire: Wire) -> None:
    wire.expect("iam:GetInstanceProfile", {"InstanceProfileName": PROFILE}, profile())


def expect_new(wire: Wire) -> None:
    expect_place(wire)
    expect_none(wire)
    expect_image(wire)
    expect_no_profile(wire)
    expect_entry(wire)
    wire.expect("ec2:CreateLaunchTemplate", CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    request = {"InstanceProfileName": PROFILE, "Tags": listed(TEMPLATE_TAGS)}
    wire.expect("iam:CreateInstanceProfile", request, profile(None))
    wire.expect("iam:AddRoleToInstanceProfile", BOTH)


def expect_activity(wire: Wire, code: str, message: str = "") -> None:
    activity = {
        "ActivityId": "a-1",
        "AutoScalingGroupName": NAME,
        "Cause": "At … an instance was started.",
        "StartTime": EPOCH,
        "StatusCode": code,
        "Description": "Launching a new EC2 instance",
        **({"StatusMessage": message} if message else {}),
    }
    wire.expect("autoscaling:DescribeScalingActivities", {"AutoScalingGroupName": NAME}, {"Activities": [activity]})


def actions(result: dict[str, t.Any]) -> list[str]:
    assert not result.get("failed"), result["msg"]
    return [step["action"] for step in result["plan"]]


CREATES = [
    "ec2:CreateLaunchTemplate",
    "iam:CreateInstanceProfile",
    "iam:AddRoleToInstanceProfile",
    "autoscaling:CreateAutoScalingGroup",
    "autoscaling:SuspendProcesses",
]
RESULT = {
    "name": GROUP,
    "zone": "us-west-2a",
    "zones": ["us-west-2a"],
    "gpu_count": 1,
    "capacity_type": "on_demand",
    "instance_types": ["g5.2xlarge"],
    "min": 1,
    "max": 3,
    "desired": 1,
    "status": "InService",
    "auto_scaling_group": NAME,
    "launch_template": {"id": "lt-1", "version": "1"},
}


def test_create(wire: Wire) -> None:
    expect_new(wire)
    wire.expect("autoscaling:CreateAutoScalingGroup", CREATE_GROUP)
    wire.expect("autoscaling:SuspendProcesses", SUSPEND)
    wire.expect("autoscaling:DescribeScalingActivities", {"AutoScalingGroupName": NAME}, {"Activities": []})
    expect_activity(wire, "PreInService")
    expect_activity(wire, "Successful")
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(0))
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group())
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group())
    result = wire.run(main, PARAMS)
    assert actions(result) == CREATES
    assert result["progress"] == [
        f"DescribeScalingActivities {NAME}: PreInService: Launching a new EC2 instance",
        f"DescribeScalingActivities {NAME}: Successful: Launching a new EC2 instance",
        f"DescribeAutoScalingGroups {NAME}: 0 of 1",
        f"DescribeAutoScalingGroups {NAME}: 1 of 1",
    ]
    assert result["nodepool"] == {
        "name": "inference",
        "provisioner": "auto_scaling_group",
        "accelerator": "nvidia",
        "labels": {key: value for key, value in LABELS.items() if not key.startswith("k8s")},
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
        "groups": [RESULT],
    }


@pytest.mark.parametrize(
    "message",
    [
        "You must use a valid fully-formed launch template. The specified launch template, with template ID lt-1, does not exist.",
        f"You must use a valid fully-formed launch template. Value ({PROFILE}) for parameter iamInstanceProfile.name is invalid. "
        "Invalid IAM Instance Profile name",
    ],
)
def test_auto_scaling_knows_template_and_profile_a_moment_later(wire: Wire, pauses: list[float], message: str) -> None:
    expect_new(wire)
    wire.expect_error("autoscaling:CreateAutoScalingGroup", CREATE_GROUP, "ValidationError", message)
    wire.expect("autoscaling:CreateAutoScalingGroup", CREATE_GROUP)
    wire.expect("autoscaling:SuspendProcesses", SUSPEND)
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(0))
    result = wire.run(main, {**PARAMS, "wait": False})
    assert actions(result) == CREATES
    assert len(pauses) == 1
    assert result["nodepool"]["groups"][0]["status"] == "Pending"


def test_a_launch_that_fails_is_told_in_the_services_words(wire: Wire) -> None:
    expect_new(wire)
    wire.expect("autoscaling:CreateAutoScalingGroup", CREATE_GROUP)
    wire.expect("autoscaling:SuspendProcesses", SUSPEND)
    expect_activity(wire, "Failed", "We currently do not have sufficient g5.2xlarge capacity in the Availability Zone you requested")
    result = wire.run(main, PARAMS)
    assert result["failed"]
    assert "We currently do not have sufficient g5.2xlarge capacity" in result["msg"]
    assert "Add zones or instance types" in result["msg"]


def test_what_the_pool_was_with_node_groups_is_named(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, message, **more: said.append(message))
    expect_place(wire)
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, group())
    before = {"LaunchTemplateId": "lt-9", "LaunchTemplateName": "of-before", "LatestVersionNumber": 1, "Tags": listed(POOL_TAGS)}
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": [TEMPLATE, before]})
    expect_version(wire)
    expect_profile(wire)
    assert actions(wire.run(main, PARAMS)) == []
    assert said == [
        "Pool inference still has node groups of its former provisioner, which stay with their nodes; prune: true would remove them."
    ]


@pytest.mark.parametrize("check_mode", [False, True])
def test_nothing_to_do(wire: Wire, check_mode: bool) -> None:
    expect_existing(wire)
    expect_profile(wire)
    result = wire.run(main, PARAMS, check_mode=check_mode)
    assert not result["changed"]
    assert actions(result) == []
    assert result["diff"] == {"before": {}, "after": {}}
    assert result["nodepool"]["groups"] == [RESULT]


def test_limits_change_in_place(wire: Wire) -> None:
    expect_existing(wire)
    expect_profile(wire)
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MaxSize": 5})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(MaxSize=5))
    result = wire.run(main, {**PARAMS, "scaling": {"min": 1, "max": 5}})
    assert result["plan"] == [
        {"action": "autoscaling:UpdateAutoScalingGroup", "target": NAME, "effect": "update", "fields": ["scaling.max"], "reason": ""}
    ]
    assert result["diff"]["before"] == {NAME: {"scaling.max": 3}}
    assert result["nodepool"]["groups"][0]["max"] == 5


def test_other_types_and_limits_in_one_call(wire: Wire) -> None:
    policy = {
        **POLICY,
        "LaunchTemplate": {**POLICY["LaunchTemplate"], "Overrides": [{"InstanceType": "g5.2xlarge"}, {"InstanceType": "g6.gone"}]},
    }
    described = {
        **DESCRIBED_POLICY,
        "LaunchTemplate": {**DESCRIBED_POLICY["LaunchTemplate"], "Overrides": policy["LaunchTemplate"]["Overrides"]},
    }
    expect_existing(wire, MixedInstancesPolicy=described)
    expect_profile(wire)
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MaxSize": 5, "MixedInstancesPolicy": POLICY})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(MaxSize=5))
    result = wire.run(main, {**PARAMS, "scaling": {"min": 1, "max": 5}})
    assert actions(result) == ["autoscaling:UpdateAutoScalingGroup"]
    assert result["diff"]["before"] == {NAME: {"scaling.max": 3, "instance_types": ["g5.2xlarge", "g6.gone"]}}


def refresh(status: str, **more: t.Any) -> dict[str, t.Any]:
    return {"InstanceRefreshes": [{"InstanceRefreshId": "r-1", "AutoScalingGroupName": NAME, "Status": status, **more}]}


def expect_new_disk(wire: Wire) -> None:
    expect_existing(wire)
    expect_profile(wire)
    request = {"LaunchTemplateId": "lt-1", "VersionDescription": DESCRIPTION, "LaunchTemplateData": template_data(300)}
    made = {"LaunchTemplateVersion": {"LaunchTemplateId": "lt-1", "VersionNumber": 2}}
    wire.expect("ec2:CreateLaunchTemplateVersion", request, made)
    specification = {"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "2"}}
    policy = {**POLICY, "LaunchTemplate": {**POLICY["LaunchTemplate"], **specification}}
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MixedInstancesPolicy": policy})
    tag = {"Key": f"{CA}node-template/resources/ephemeral-storage", "Value": "300Gi", "PropagateAtLaunch": False}
    tags = [{"ResourceId": NAME, "ResourceType": "auto-scaling-group", **tag}]
    wire.expect("autoscaling:CreateOrUpdateTags", {"Tags": tags})
    request = {"AutoScalingGroupName": NAME, "Strategy": "Rolling", "Preferences": {"SkipMatching": True}}
    wire.expect("autoscaling:StartInstanceRefresh", request, {"InstanceRefreshId": "r-1"})


REFRESH = {"AutoScalingGroupName": NAME, "InstanceRefreshIds": ["r-1"]}


def test_a_new_disk_is_a_new_version_and_the_instances_are_replaced(wire: Wire) -> None:
    expect_new_disk(wire)
    wire.expect("autoscaling:DescribeInstanceRefreshes", REFRESH, refresh("InProgress", PercentageComplete=0))
    wire.expect("autoscaling:DescribeInstanceRefreshes", REFRESH, refresh("Successful", PercentageComplete=100))
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group())
    result = wire.run(main, {**PARAMS, "disk": {"size_gib": 300}})
    assert actions(result) == [
        "ec2:CreateLaunchTemplateVersion",
        "autoscaling:UpdateAutoScalingGroup",
        "autoscaling:CreateOrUpdateTags",
        "autoscaling:StartInstanceRefresh",
    ]
    assert result["progress"] == [
        f"DescribeInstanceRefreshes {NAME}: InProgress 0 %",
        f"DescribeInstanceRefreshes {NAME}: Successful 100 %",
    ]


def test_a_replacement_that_fails_is_told_in_the_services_words(wire: Wire) -> None:
    expect_new_disk(wire)
    wire.expect("autoscaling:DescribeInstanceRefreshes", REFRESH, refresh("Failed", StatusReason="The group has no healthy instances"))
    result = wire.run(main, {**PARAMS, "disk": {"size_gib": 300}})
    assert result["failed"]
    assert "The group has no healthy instances" in result["msg"]


def test_a_replacement_that_never_began_is_taken_up(wire: Wire) -> None:
    """The run was stopped after the group had its new version."""
    stale = group()["AutoScalingGroups"][0]["Instances"]
    stale[0]["LaunchTemplate"]["Version"] = "0"
    expect_existing(wire, Instances=stale)
    request = {"AutoScalingGroupName": NAME, "MaxRecords": 1}
    wire.expect("autoscaling:DescribeInstanceRefreshes", request, {"InstanceRefreshes": []})
    expect_profile(wire)
    request = {"AutoScalingGroupName": NAME, "Strategy": "Rolling", "Preferences": {"SkipMatching": True}}
    wire.expect("autoscaling:StartInstanceRefresh", request, {"InstanceRefreshId": "r-1"})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group())
    assert actions(wire.run(main, {**PARAMS, "wait": False})) == ["autoscaling:StartInstanceRefresh"]


def test_resume_after_template_and_profile_were_made(wire: Wire) -> None:
    expect_place(wire)
    expect_none(wire, TEMPLATE)
    expect_version(wire)
    expect_image(wire)
    wire.expect("iam:GetInstanceProfile", {"InstanceProfileName": PROFILE}, profile(None))
    expect_entry(wire)
    wire.expect("iam:AddRoleToInstanceProfile", BOTH)
    wire.expect("autoscaling:CreateAutoScalingGroup", CREATE_GROUP)
    wire.expect("autoscaling:SuspendProcesses", SUSPEND)
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(0))
    assert actions(wire.run(main, {**PARAMS, "wait": False})) == CREATES[2:]


def test_resume_of_the_wait(wire: Wire) -> None:
    expect_existing(wire, 0)
    expect_profile(wire)
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group())
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group())
    result = wire.run(main, PARAMS)
    assert not result["changed"]
    assert result["progress"] == [f"DescribeAutoScalingGroups {NAME}: 1 of 1"]


@pytest.mark.parametrize("kind", [None, "STANDARD"])
def test_nodes_whose_role_the_cluster_does_not_know_are_not_made(wire: Wire, kind: str | None) -> None:
    expect_place(wire)
    expect_none(wire)
    expect_image(wire)
    expect_no_profile(wire)
    expect_entry(wire, kind)
    result = wire.run(main, PARAMS)
    assert [fault["path"] for fault in result["faults"]] == ["iam.node_role"]
    assert "gpuops.eks.eks_autoscaling" in result["msg"]


def test_in_check_mode_the_access_entry_may_still_be_planned(wire: Wire) -> None:
    expect_place(wire)
    expect_none(wire)
    expect_image(wire)
    expect_no_profile(wire)
    expect_entry(wire, None)
    assert actions(wire.run(main, PARAMS, check_mode=True)) == CREATES


def test_clusters_with_a_config_map_have_no_access_entries(wire: Wire) -> None:
    expect_place(wire, accessConfig={"authenticationMode": "CONFIG_MAP"})
    expect_none(wire)
    expect_image(wire)
    expect_no_profile(wire)
    assert actions(wire.run(main, PARAMS, check_mode=True)) == CREATES


def test_a_role_by_its_name_is_looked_up(wire: Wire) -> None:
    expect_place(wire)
    expect_none(wire)
    expect_image(wire)
    expect_no_profile(wire)
    wire.expect_error("iam:GetRole", {"RoleName": "missing"}, "NoSuchEntity")
    result = wire.run(main, {**PARAMS, "node_role_arn": None, "iam": {"node_role": "missing"}})
    assert [fault["path"] for fault in result["faults"]] == ["iam.node_role"]


def test_all_facts_of_the_account_together(wire: Wire) -> None:
    expect_place(wire)
    expect_none(wire)
    parameter = PARAMETER.replace("recommended", "amazon-eks-node-al2023-x86_64-nvidia-1.36-v20200101")
    wire.expect_error("ssm:GetParameter", {"Name": parameter}, "ParameterNotFound")
    wire.expect("iam:GetInstanceProfile", {"InstanceProfileName": PROFILE}, profile(tags={"theirs": "x"}))
    expect_entry(wire, None)
    result = wire.run(main, {**PARAMS, "ami": {"release": "v20200101"}})
    assert sorted(fault["path"] for fault in result["faults"]) == ["ami.release", "iam.node_role", "name"]
    assert parameter in result["msg"]


def test_a_name_that_is_taken(wire: Wire) -> None:
    expect_place(wire)
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, {"AutoScalingGroups": []})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(Tags=[]))
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": []})
    expect_no_profile(wire)
    result = wire.run(main, PARAMS)
    assert "adopt: true" in result["msg"]


def test_adopted(wire: Wire) -> None:
    expect_place(wire)
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, {"AutoScalingGroups": []})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(Tags=[{"Key": "theirs", "Value": "x"}]))
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": []})
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MaxSize": 2})
    tag = {"Key": f"{CA}node-template/resources/nvidia.com/gpu", "Value": "10", "PropagateAtLaunch": False}
    tags = [{"ResourceId": NAME, "ResourceType": "auto-scaling-group", **tag}]
    wire.expect("autoscaling:CreateOrUpdateTags", {"Tags": tags})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(MaxSize=2))
    result = wire.run(main, {**PARAMS, "adopt": True, "scaling": {"min": 1, "max": 2}})
    assert actions(result) == ["autoscaling:UpdateAutoScalingGroup", "autoscaling:CreateOrUpdateTags"]


def test_a_planned_cluster_is_read_nothing_for(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    expect_ec2(wire)
    result = wire.run(main, PARAMS, check_mode=True)
    assert actions(result) == CREATES
    assert result["nodepool"]["groups"][0]["status"] is None


ABSENT = {"cluster_name": "demo", "name": "inference", "state": "absent", "wait_interval": 0.001}


def expect_absent(wire: Wire, groups: dict[str, t.Any], *templates: dict[str, t.Any]) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": CLUSTER})
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": list(templates)})
    if templates:
        wire.expect("iam:GetInstanceProfile", {"InstanceProfileName": PROFILE}, profile())
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, groups)


def expect_no_role(wire: Wire) -> None:
    wire.expect_error("iam:GetRole", {"RoleName": "demo-us-west-2-inference-node"}, "NoSuchEntity")


def test_absent(wire: Wire) -> None:
    expect_absent(wire, group(), TEMPLATE)
    request = {"AutoScalingGroupName": NAME, "MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0}
    wire.expect("autoscaling:UpdateAutoScalingGroup", request)
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group())
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(0))
    wire.expect("autoscaling:DeleteAutoScalingGroup", {"AutoScalingGroupName": NAME})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, group(0, Status="Delete in progress"))
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, {"AutoScalingGroups": []})
    wire.expect("iam:RemoveRoleFromInstanceProfile", BOTH)
    wire.expect("iam:DeleteInstanceProfile", {"InstanceProfileName": PROFILE})
    wire.expect("ec2:DeleteLaunchTemplate", {"LaunchTemplateId": "lt-1"}, {})
    expect_no_role(wire)
    result = wire.run(main, ABSENT)
    assert [step["effect"] for step in result["plan"]] == ["delete"] * 5
    assert result["progress"][0] == f"DescribeAutoScalingGroups {NAME}: 1 instances"


def test_absent_again(wire: Wire) -> None:
    expect_absent(wire, {"AutoScalingGroups": []})
    expect_no_role(wire)
    result = wire.run(main, ABSENT)
    assert (result["changed"], result["plan"]) == (False, [])
