# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Managed node groups, against the API reference, the user guide and the issues named."""

from __future__ import annotations

import base64
import typing as t
from collections import Counter

import pytest
import requests

from tests.lab.conftest import ClusterSetup, refused

USER_DATA = base64.b64encode(
    b'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="X"\n\n--X\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--X--\n'
).decode()


@pytest.fixture
def cluster(setup: ClusterSetup) -> ClusterSetup:
    """An ACTIVE cluster named lab."""
    setup.create_cluster()
    return setup


def template(setup: ClusterSetup, name: str = "mine", **data: t.Any) -> str:
    reply = setup.aws.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data or {"EbsOptimized": True})
    return str(reply["LaunchTemplate"]["LaunchTemplateId"])


def test_what_eks_makes_for_a_node_group(cluster: ClusterSetup) -> None:
    """User guide managed-node-groups: launch template, Auto Scaling group eks-NAME-UUID and instances with EKS's tags; gone with the group."""
    aws = cluster.aws
    nodegroup = cluster.create_nodegroup(scalingConfig={"minSize": 0, "maxSize": 3, "desiredSize": 3})
    assert nodegroup["status"] == "ACTIVE"
    assert nodegroup["releaseVersion"] == "1.36.4-20260724"
    assert nodegroup["updateConfig"] == {"maxUnavailable": 1, "updateStrategy": "DEFAULT"}
    group_name = nodegroup["resources"]["autoScalingGroups"][0]["name"]
    assert group_name.startswith("eks-gpu-")
    group = aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group_name])["AutoScalingGroups"][0]
    tags = {tag["Key"]: (tag["Value"], tag["PropagateAtLaunch"]) for tag in group["Tags"]}
    assert tags == {
        "eks:cluster-name": ("lab", True),
        "eks:nodegroup-name": ("gpu", True),
        "kubernetes.io/cluster/lab": ("owned", True),
        "k8s.io/cluster-autoscaler/enabled": ("true", False),
        "k8s.io/cluster-autoscaler/lab": ("owned", False),
    }
    instances = cluster.instances()
    assert {instance["Placement"]["AvailabilityZone"] for instance in instances} == {"us-west-2a", "us-west-2b", "us-west-2c"}
    for instance in instances:
        own = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        assert own["aws:autoscaling:groupName"] == group_name
        assert own["kubernetes.io/cluster/lab"] == "owned"
        assert own["eks:nodegroup-name"] == "gpu"
        assert (instance["InstanceType"], instance["MetadataOptions"]["HttpTokens"]) == ("g5.2xlarge", "required")
        assert "InstanceLifecycle" not in instance
    own_templates = aws.client("ec2").describe_launch_templates()["LaunchTemplates"]
    assert len(own_templates) == 1

    assert refused(aws.client("iam").delete_role, RoleName="node")[0] == "DeleteConflict"
    deleted = aws.client("eks").delete_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]
    assert deleted["status"] == "DELETING"
    aws.pass_time()
    assert aws.client("eks").list_nodegroups(clusterName="lab")["nodegroups"] == []
    assert cluster.instances() == []
    assert aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert aws.client("ec2").describe_launch_templates()["LaunchTemplates"] == []
    assert aws.client("iam").list_instance_profiles()["InstanceProfiles"] == []
    interfaces = aws.client("ec2").describe_network_interfaces()["NetworkInterfaces"]
    assert {interface["Description"] for interface in interfaces} == {"Amazon EKS lab"}


def test_spot(cluster: ClusterSetup) -> None:
    """API capacityType SPOT: instances with InstanceLifecycle spot."""
    cluster.create_nodegroup(capacityType="SPOT")
    assert [instance["InstanceLifecycle"] for instance in cluster.instances()] == ["spot"]


@pytest.mark.parametrize(
    ("kind", "capacity", "running"),
    [("spot_interruption", True, 2), ("spot_interruption", False, 1), ("rebalance_recommendation", False, 2)],
)
def test_spot_nodes_at_risk(cluster: ClusterSetup, kind: str, capacity: bool, running: int) -> None:
    """User guide managed-node-groups, capacity types: another node first, the one at risk drained (a lifecycle hook) and gone in two minutes."""
    cluster.create_nodegroup(capacityType="SPOT", scalingConfig={"minSize": 0, "maxSize": 2, "desiredSize": 2})
    before = {instance["InstanceId"] for instance in cluster.instances()}
    at_risk = max(before)
    if not capacity:
        cluster.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.2xlarge"})
    url = f"{cluster.aws.server.endpoint}/_lab/faults"
    requests.post(url, json={"kind": kind, "instance": at_risk}, timeout=10).raise_for_status()
    assert len(cluster.instances()) == (3 if capacity else 2)
    (state,) = cluster.aws.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[at_risk])["AutoScalingInstances"]
    assert state["LifecycleState"] == ("InService" if kind == "rebalance_recommendation" else "Terminating:Wait")
    cluster.aws.pass_time(121)
    left = {instance["InstanceId"] for instance in cluster.instances()}
    assert len(left) == running
    assert (at_risk in left) == (kind == "rebalance_recommendation")


def test_creation_takes_time(cluster: ClusterSetup) -> None:
    """API Nodegroup.status: CREATING, and neither updated nor deleted meanwhile (karpenter-provider-aws#133)."""
    eks = cluster.aws.client("eks")
    assert eks.create_nodegroup(**cluster.nodegroup_request())["nodegroup"]["status"] == "CREATING"
    code, text = refused(eks.update_nodegroup_config, clusterName="lab", nodegroupName="gpu", scalingConfig={"maxSize": 5})
    assert (code, text) == ("ResourceInUseException", "Nodegroup cannot be updated as it is currently not in Active State")
    assert refused(eks.delete_nodegroup, clusterName="lab", nodegroupName="gpu")[0] == "ResourceInUseException"


REFUSALS: list[tuple[str, dict[str, t.Any], str]] = [
    ("API amiType enum", {"amiType": "AL2023_GPU"}, "enum value set"),
    (
        "learn-terraform-provision-eks-cluster#44: architecture",
        {"instanceTypes": ["t4g.medium"], "amiType": "AL2023_x86_64_STANDARD"},
        "not a valid instance type",
    ),
    (
        "API amiType: GPU types need a GPU image",
        {"amiType": "AL2023_x86_64_STANDARD"},
        "[g5.2xlarge] is not a valid instance type for requested amiType",
    ),
    ("API amiType: GPU image needs GPU types", {"instanceTypes": ["m5.large"]}, "[m5.large] is not a valid instance type"),
    ("API instanceTypes: exist", {"instanceTypes": ["g5.7xlarge"]}, "do not exist: [g5.7xlarge]"),
    ("API instanceTypes: 20", {"instanceTypes": [f"g5.{number}xlarge" for number in range(21)]}, "At most 20"),
    ("User guide: AL2 ended with 1.32", {"amiType": "AL2_x86_64_GPU"}, "only supported for kubernetes versions"),
    ("API subnets: exist", {"subnets": ["subnet-0123456789abcdef0"]}, "does not exist"),
    ("API nodeRole: exists", {"nodeRole": "arn:aws:iam::123456789012:role/none"}, "cannot be found"),
    (
        "User guide create-node-role: trust",
        {"nodeRole": "arn:aws:iam::123456789012:role/cluster"},
        "[ec2.amazonaws.com] were not found in the trust",
    ),
    ("API scalingConfig: all or none", {"scalingConfig": {"minSize": 1}}, "specified together"),
    ("API min > max", {"scalingConfig": {"minSize": 3, "maxSize": 2, "desiredSize": 3}}, "can't be greater than maximum"),
    ("API min > desired", {"scalingConfig": {"minSize": 2, "maxSize": 3, "desiredSize": 1}}, "can't be greater than desired size 1"),
    ("API desired > max", {"scalingConfig": {"minSize": 0, "maxSize": 1, "desiredSize": 2}}, "can't be greater than max size 1"),
    ("API maxSize >= 1", {"scalingConfig": {"minSize": 0, "maxSize": 0, "desiredSize": 0}}, "valid min value: 1"),
    ("API nodegroupName", {"nodegroupName": "-x"}, "invalid"),
    ("API labels: value", {"labels": {"a": "b c"}}, "not a valid Kubernetes label value"),
    ("API labels: reserved", {"labels": {"eks.amazonaws.com/x": "y"}}, "reserved prefixes"),
    ("API labels: key length", {"labels": {"k" * 64: "v"}}, "length less than or equal to 63"),
    ("API taints: effect enum", {"taints": [{"key": "a", "effect": "NoSchedule"}]}, "enum value set"),
    (
        "API taints: twice",
        {"taints": [{"key": "a", "value": "1", "effect": "NO_SCHEDULE"}, {"key": "a", "value": "2", "effect": "NO_SCHEDULE"}]},
        "same key",
    ),
    ("API updateConfig: XOR", {"updateConfig": {"maxUnavailable": 1, "maxUnavailablePercentage": 10}}, "cannot be specified together"),
    ("API version: the cluster's", {"version": "1.35"}, "should be equal to Cluster kubernetes version 1.36"),
    ("API releaseVersion", {"releaseVersion": "1.36.4-20200101"}, "is not valid for kubernetes version 1.36"),
    ("API capacity block needs a template", {"capacityType": "CAPACITY_BLOCK"}, "needs a launch template"),
    (
        "API nodeRepairConfig: XOR",
        {"nodeRepairConfig": {"maxUnhealthyNodeThresholdCount": 1, "maxUnhealthyNodeThresholdPercentage": 1}},
        "together",
    ),
]


@pytest.mark.parametrize(("source", "changes", "message"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_create_refuses(cluster: ClusterSetup, source: str, changes: dict[str, t.Any], message: str) -> None:
    """A refused request leaves nothing behind."""
    code, text = refused(cluster.aws.client("eks").create_nodegroup, **cluster.nodegroup_request(**changes))
    assert code == "InvalidParameterException", source
    assert message in text, source
    assert cluster.aws.client("ec2").describe_launch_templates()["LaunchTemplates"] == []


TEMPLATE_REFUSALS: list[tuple[str, dict[str, t.Any], dict[str, t.Any], str]] = [
    ("disk size", {}, {"diskSize": 100}, "Disk size must be specified within the launch template."),
    ("remote access", {}, {"remoteAccess": {"ec2SshKey": "mine"}}, "Remote access configuration"),
    ("instance type in both", {"InstanceType": "g5.xlarge"}, {}, "not in both"),
    ("instance profile", {"IamInstanceProfile": {"Name": "mine"}}, {}, "instance profile"),
    ("shutdown behaviour", {"InstanceInitiatedShutdownBehavior": "terminate"}, {}, "shutdown behavior"),
    ("subnet", {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-1"}]}, {}, "cannot specify subnets"),
    ("image and amiType", {"ImageId": "ami-0123456789abcdef0"}, {}, "other than CUSTOM"),
    ("CUSTOM without image", {}, {"amiType": "CUSTOM"}, "must specify an image id"),
    ("market options", {"InstanceMarketOptions": {"MarketType": "spot"}}, {}, "market options"),
]


@pytest.mark.parametrize(("what", "data", "changes", "message"), TEMPLATE_REFUSALS, ids=[row[0] for row in TEMPLATE_REFUSALS])
def test_launch_template_rules(cluster: ClusterSetup, what: str, data: dict[str, t.Any], changes: dict[str, t.Any], message: str) -> None:
    """User guide launch-templates: what a template may contain and what goes with it."""
    request = cluster.nodegroup_request(launchTemplate={"id": template(cluster, **data)}, **changes)
    code, text = refused(cluster.aws.client("eks").create_nodegroup, **request)
    assert code == "InvalidParameterException", what
    assert message in text, what


def test_a_launch_template_is_copied_and_its_version_changes(cluster: ClusterSetup) -> None:
    """User guide launch-templates: EKS works from its own copy; another version replaces the instances, another template is refused."""
    aws = cluster.aws
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "ml"}]}]
    template_id = template(cluster, InstanceType="g5.xlarge", UserData=USER_DATA, TagSpecifications=tags)
    nodegroup = cluster.create_nodegroup(instanceTypes=None, launchTemplate={"id": template_id})
    assert nodegroup["launchTemplate"] == {"id": template_id, "name": "mine", "version": "1"}
    assert "instanceTypes" not in nodegroup
    (first,) = cluster.instances()
    assert first["InstanceType"] == "g5.xlarge"
    assert {tag["Key"]: tag["Value"] for tag in first["Tags"]}["team"] == "ml"
    user_data = aws.client("ec2").describe_instance_attribute(InstanceId=first["InstanceId"], Attribute="userData")
    assert user_data["UserData"]["Value"] == USER_DATA

    version = aws.client("ec2").create_launch_template_version(
        LaunchTemplateId=template_id, SourceVersion="1", LaunchTemplateData={"InstanceType": "g5.4xlarge"}
    )["LaunchTemplateVersion"]
    assert version["VersionNumber"] == 2
    eks = aws.client("eks")
    other = template(cluster, "other")
    refusal = refused(eks.update_nodegroup_version, clusterName="lab", nodegroupName="gpu", launchTemplate={"id": other, "version": "1"})
    assert "cannot change the launch template" in refusal[1]
    eks.update_nodegroup_version(clusterName="lab", nodegroupName="gpu", launchTemplate={"id": template_id, "version": "2"})
    aws.pass_time()
    (second,) = cluster.instances()
    assert second["InstanceId"] != first["InstanceId"]
    assert second["InstanceType"] == "g5.4xlarge"
    assert eks.describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]["launchTemplate"]["version"] == "2"


def test_an_image_of_ones_own(cluster: ClusterSetup) -> None:
    """User guide launch-templates: an image in the template makes the amiType CUSTOM; a version cannot be named then."""
    template_id = template(cluster, ImageId="ami-0123456789abcdef0")
    nodegroup = cluster.create_nodegroup(amiType=None, launchTemplate={"id": template_id})
    assert (nodegroup["amiType"], nodegroup["releaseVersion"]) == ("CUSTOM", "ami-0123456789abcdef0")
    assert cluster.instances()[0]["ImageId"] == "ami-0123456789abcdef0"
    request = cluster.nodegroup_request("two", amiType=None, launchTemplate={"id": template_id}, version="1.36")
    assert "kubernetesVersion" in refused(cluster.aws.client("eks").create_nodegroup, **request)[1]


def capacity_block(cluster: ClusterSetup) -> dict[str, t.Any]:
    """An active Capacity Block of one p5.48xlarge for a day."""
    ec2 = cluster.aws.client("ec2")
    offering = ec2.describe_capacity_block_offerings(InstanceType="p5.48xlarge", CapacityDurationHours=24)["CapacityBlockOfferings"][0]
    block: dict[str, t.Any] = ec2.purchase_capacity_block(CapacityBlockOfferingId=offering["CapacityBlockOfferingId"])[
        "CapacityReservation"
    ]
    cluster.aws.pass_time((block["StartDate"] - cluster.aws.clock.now()).total_seconds() + 1)
    return block


def test_a_capacity_block(cluster: ClusterSetup) -> None:
    """User guide capacity-blocks-mng: market type, reservation and type in the template; EKS scales to 0 forty minutes before the end."""
    block = capacity_block(cluster)
    data: dict[str, t.Any] = {"InstanceMarketOptions": {"MarketType": "capacity-block"}, "InstanceType": "p5.48xlarge"}
    request = cluster.nodegroup_request(instanceTypes=None, capacityType="CAPACITY_BLOCK", launchTemplate={"id": template(cluster, **data)})
    assert "id of a capacity reservation" in refused(cluster.aws.client("eks").create_nodegroup, **request)[1]
    target = {"CapacityReservationTarget": {"CapacityReservationId": block["CapacityReservationId"]}}
    template_id = template(cluster, "whole", CapacityReservationSpecification=target, **data)
    nodegroup = cluster.create_nodegroup(instanceTypes=None, capacityType="CAPACITY_BLOCK", launchTemplate={"id": template_id})
    assert nodegroup["status"] == "ACTIVE"
    (instance,) = cluster.instances()
    assert (instance["InstanceLifecycle"], instance["CapacityReservationId"]) == ("capacity-block", block["CapacityReservationId"])
    assert instance["Placement"]["AvailabilityZone"] == block["AvailabilityZone"]
    before_end = (block["EndDate"] - cluster.aws.clock.now()).total_seconds() - 40 * 60
    cluster.aws.pass_time(before_end - 60)
    assert len(cluster.instances()) == 1
    cluster.aws.pass_time(61)
    assert cluster.instances() == []


def test_a_capacity_block_that_is_not_there(cluster: ClusterSetup) -> None:
    """Launches fail, as the reservation's id is unknown: CREATE_FAILED; nothing is wrong with desired 0."""
    target = {"CapacityReservationTarget": {"CapacityReservationId": "cr-0123456789abcdef0"}}
    market = {"MarketType": "capacity-block"}
    data: dict[str, t.Any] = {"InstanceMarketOptions": market, "InstanceType": "p5.48xlarge", "CapacityReservationSpecification": target}
    changes: dict[str, t.Any] = {
        "instanceTypes": None,
        "capacityType": "CAPACITY_BLOCK",
        "launchTemplate": {"id": template(cluster, **data)},
    }
    nodegroup = cluster.create_nodegroup(**changes)
    assert nodegroup["status"] == "CREATE_FAILED"
    assert "cr-0123456789abcdef0" in nodegroup["health"]["issues"][0]["message"]
    empty = cluster.create_nodegroup("empty", scalingConfig={"minSize": 0, "maxSize": 1, "desiredSize": 0}, **changes)
    assert empty["status"] == "ACTIVE"


@pytest.mark.parametrize(
    ("ami_type", "text", "message"),
    [
        ("AL2023_x86_64_NVIDIA", "#!/bin/sh\n", "User data was not in the MIME multipart format."),
        ("BOTTLEROCKET_x86_64_NVIDIA", "#!/bin/sh\nexit 1\n", "TOML"),
        ("BOTTLEROCKET_x86_64_NVIDIA", "[settings.kubernetes]\n", ""),
    ],
)
def test_user_data_that_eks_cannot_merge(cluster: ClusterSetup, ami_type: str, text: str, message: str) -> None:
    """terraform-aws-eks#2955 and #1875: CREATE_FAILED with Ec2LaunchTemplateInvalidConfiguration; the words about TOML are the lab's."""
    template_id = template(cluster, UserData=base64.b64encode(text.encode()).decode())
    nodegroup = cluster.create_nodegroup(amiType=ami_type, launchTemplate={"id": template_id})
    if not message:
        assert nodegroup["status"] == "ACTIVE"
        return
    assert nodegroup["status"] == "CREATE_FAILED"
    (issue,) = nodegroup["health"]["issues"]
    assert (issue["code"], message in issue["message"]) == ("Ec2LaunchTemplateInvalidConfiguration", True)
    assert cluster.instances() == []


WARM_REFUSALS: list[tuple[str, dict[str, t.Any], dict[str, t.Any]]] = [
    ("Spot", {}, {"capacityType": "SPOT"}),
    ("Bottlerocket hibernates", {"poolState": "HIBERNATED"}, {"amiType": "BOTTLEROCKET_x86_64_NVIDIA"}),
    ("Bottlerocket reuses", {"reuseOnScaleIn": True}, {"amiType": "BOTTLEROCKET_x86_64_NVIDIA"}),
    ("sizes", {"minSize": 3, "maxGroupPreparedCapacity": 2}, {}),
]


@pytest.mark.parametrize(("what", "config", "changes"), WARM_REFUSALS, ids=[row[0] for row in WARM_REFUSALS])
def test_warm_pools_that_do_not_go(cluster: ClusterSetup, what: str, config: dict[str, t.Any], changes: dict[str, t.Any]) -> None:
    """User guide warm-pools-managed-node-groups; Auto Scaling warm pools."""
    request = cluster.nodegroup_request(warmPoolConfig={"enabled": True, **config}, **changes)
    assert refused(cluster.aws.client("eks").create_nodegroup, **request)[0] == "InvalidParameterException", what


def test_a_warm_pool(cluster: ClusterSetup) -> None:
    """API warmPoolConfig: attached to the Auto Scaling group, changed, removed; a custom image is refused."""
    config = {"enabled": True, "minSize": 1, "maxGroupPreparedCapacity": 3, "poolState": "RUNNING", "reuseOnScaleIn": True}
    nodegroup = cluster.create_nodegroup(warmPoolConfig=config)
    assert nodegroup["warmPoolConfig"] == config
    eks, autoscaling = cluster.aws.client("eks"), cluster.aws.client("autoscaling")
    name = nodegroup["resources"]["autoScalingGroups"][0]["name"]

    def pool() -> dict[str, t.Any]:
        reply: dict[str, t.Any] = autoscaling.describe_warm_pool(AutoScalingGroupName=name)
        return t.cast(dict[str, t.Any], reply.get("WarmPoolConfiguration", {}))

    assert (pool()["MinSize"], pool()["PoolState"], pool()["InstanceReusePolicy"]) == (1, "Running", {"ReuseOnScaleIn": True})
    update = eks.update_nodegroup_config(clusterName="lab", nodegroupName="gpu", warmPoolConfig={"minSize": 2})["update"]
    assert [param for param in update["params"] if param["type"] == "WarmPoolMinSize"] == [{"type": "WarmPoolMinSize", "value": "2"}]
    cluster.aws.pass_time()
    assert (pool()["MinSize"], pool()["MaxGroupPreparedCapacity"]) == (2, 3)
    eks.update_nodegroup_config(clusterName="lab", nodegroupName="gpu", warmPoolConfig={"enabled": False})
    cluster.aws.pass_time()
    assert pool() == {}
    template_id = template(cluster, ImageId="ami-0123456789abcdef0")
    request = cluster.nodegroup_request("own", amiType=None, launchTemplate={"id": template_id}, warmPoolConfig={"enabled": True})
    assert "custom AMI" in refused(eks.create_nodegroup, **request)[1]


def test_images_of_a_template_do_not_change_sides(cluster: ClusterSetup) -> None:
    """User guide launch-templates: no update from EKS's images to one's own, or back, by another version of the template."""
    ec2, eks = cluster.aws.client("ec2"), cluster.aws.client("eks")
    plain = template(cluster)
    cluster.create_nodegroup(launchTemplate={"id": plain})
    ec2.create_launch_template_version(LaunchTemplateId=plain, LaunchTemplateData={"ImageId": "ami-0123456789abcdef0"})
    change = {"clusterName": "lab", "nodegroupName": "gpu", "launchTemplate": {"id": plain, "version": "2"}}
    assert "to a custom AMI" in refused(eks.update_nodegroup_version, **change)[1]


def test_a_release_can_be_pinned_and_updated(cluster: ClusterSetup) -> None:
    """API releaseVersion; UpdateNodegroupVersion without one takes the newest and replaces the instances."""
    nodegroup = cluster.create_nodegroup(releaseVersion="1.36.4-20260709")
    assert nodegroup["releaseVersion"] == "1.36.4-20260709"
    (first,) = cluster.instances()
    eks = cluster.aws.client("eks")
    update = eks.update_nodegroup_version(clusterName="lab", nodegroupName="gpu")["update"]
    assert {param["type"]: param["value"] for param in update["params"]} == {"Version": "1.36", "ReleaseVersion": "1.36.4-20260724"}
    cluster.aws.pass_time()
    (second,) = cluster.instances()
    assert first["ImageId"] != second["ImageId"]


def release_update(cluster: ClusterSetup, strategy: str, count: int, **changes: t.Any) -> str:
    """A group of ``count`` nodes whose update to the newest release has begun; returns the update's id."""
    cluster.create_nodegroup(
        releaseVersion="1.36.4-20260709",
        scalingConfig={"minSize": 0, "maxSize": count, "desiredSize": count},
        updateConfig={"updateStrategy": strategy, **(changes or {"maxUnavailable": 1})},
    )
    return str(cluster.aws.client("eks").update_nodegroup_version(clusterName="lab", nodegroupName="gpu")["update"]["id"])


def images(cluster: ClusterSetup) -> list[int]:
    """How many instances run each image, fewest first."""
    return sorted(Counter(instance["ImageId"] for instance in cluster.instances()).values())


def update_of(cluster: ClusterSetup, update_id: str) -> dict[str, t.Any]:
    found: dict[str, t.Any] = cluster.aws.client("eks").describe_update(name="lab", nodegroupName="gpu", updateId=update_id)["update"]
    return found


def group_sizes(cluster: ClusterSetup) -> tuple[int, int]:
    (group,) = cluster.aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return group["MaxSize"], group["DesiredCapacity"]


def test_the_default_strategy_launches_first(cluster: ClusterSetup) -> None:
    """User guide managed-node-update-behavior: up by twice the zones, then maxUnavailable at a time, then back to the sizes of before."""
    update_id = release_update(cluster, "DEFAULT", 3)
    cluster.aws.pass_time(41)
    assert (images(cluster), group_sizes(cluster)) == ([3, 6], (9, 9))
    cluster.aws.pass_time(10)
    assert images(cluster) == [2, 6]
    cluster.aws.pass_time(30)
    assert (images(cluster), group_sizes(cluster)) == ([3], (3, 3))
    assert update_of(cluster, update_id)["status"] == "Successful"


def test_the_minimal_strategy_terminates_first(cluster: ClusterSetup) -> None:
    """API updateStrategy MINIMAL: never more than before, maxUnavailable at a time."""
    update_id = release_update(cluster, "MINIMAL", 3, maxUnavailablePercentage=50)
    cluster.aws.pass_time(41)
    assert (images(cluster), group_sizes(cluster)) == ([1, 2], (3, 3))
    cluster.aws.pass_time(20)
    assert images(cluster) == [3]
    assert update_of(cluster, update_id)["status"] == "Successful"


@pytest.mark.parametrize(("strategy", "running"), [("DEFAULT", 2), ("MINIMAL", 1)])
def test_an_update_without_capacity(cluster: ClusterSetup, strategy: str, running: int) -> None:
    """User guide managed-node-update-behavior: DEFAULT fails with the old nodes in place; MINIMAL has lost what it terminated."""
    update_id = release_update(cluster, strategy, 2)
    cluster.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.2xlarge"})
    for _unused in range(4):
        cluster.aws.pass_time()
    update = update_of(cluster, update_id)
    assert (update["status"], update["errors"][0]["errorCode"]) == ("Failed", "NodeCreationFailure")
    assert "sufficient g5.2xlarge capacity" in update["errors"][0]["errorMessage"]
    assert len(cluster.instances()) == running
    assert group_sizes(cluster) == (2, 2)


def test_config_updates(cluster: ClusterSetup) -> None:
    """API UpdateNodegroupConfig: labels, taints and sizes together, in force when the update is done; sizes reach the Auto Scaling group."""
    cluster.create_nodegroup(labels={"a": "1", "b": "2"}, taints=[{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}])
    eks = cluster.aws.client("eks")
    eks.update_nodegroup_config(
        clusterName="lab",
        nodegroupName="gpu",
        labels={"addOrUpdateLabels": {"a": "9", "c": "3"}, "removeLabels": ["b"]},
        taints={
            "addOrUpdateTaints": [{"key": "x", "value": "y", "effect": "NO_EXECUTE"}],
            "removeTaints": [{"key": "nvidia.com/gpu", "effect": "NO_SCHEDULE"}],
        },
        scalingConfig={"minSize": 2, "maxSize": 5, "desiredSize": 2},
        updateConfig={"maxUnavailablePercentage": 50},
    )
    assert eks.describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]["status"] == "UPDATING"
    cluster.aws.pass_time()
    nodegroup = eks.describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]
    assert nodegroup["status"] == "ACTIVE"
    assert nodegroup["labels"] == {"a": "9", "c": "3"}
    assert nodegroup["taints"] == [{"key": "x", "value": "y", "effect": "NO_EXECUTE"}]
    assert nodegroup["scalingConfig"] == {"minSize": 2, "maxSize": 5, "desiredSize": 2}
    assert nodegroup["updateConfig"] == {"maxUnavailablePercentage": 50, "updateStrategy": "DEFAULT"}
    assert len(cluster.instances()) == 2
    assert "At least one" in refused(eks.update_nodegroup_config, clusterName="lab", nodegroupName="gpu")[1]


def test_a_terminated_instance_is_replaced(cluster: ClusterSetup) -> None:
    """Auto Scaling user guide, health checks: terminated instances are replaced, after a while."""
    cluster.create_nodegroup()
    (first,) = cluster.instances()
    cluster.aws.client("ec2").terminate_instances(InstanceIds=[first["InstanceId"]])
    cluster.aws.pass_time(1)
    assert cluster.instances() == []
    cluster.aws.pass_time()
    (second,) = cluster.instances()
    assert second["InstanceId"] != first["InstanceId"]


def test_no_capacity_at_creation(cluster: ClusterSetup) -> None:
    """containers-roadmap#2204: CREATE_FAILED with AsgInstanceLaunchFailures; nothing wrong with desired 0."""
    cluster.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.2xlarge", "zone": "us-west-2a"})
    zone_a = cluster.subnets[:1]
    nodegroup = cluster.create_nodegroup(subnets=zone_a)
    assert nodegroup["status"] == "CREATE_FAILED"
    (issue,) = nodegroup["health"]["issues"]
    assert issue["code"] == "AsgInstanceLaunchFailures"
    assert "sufficient g5.2xlarge capacity in the Availability Zone you requested (us-west-2a)" in issue["message"]
    empty = cluster.create_nodegroup("empty", subnets=zone_a, scalingConfig={"minSize": 0, "maxSize": 1, "desiredSize": 0})
    assert empty["status"] == "ACTIVE"
    elsewhere = cluster.create_nodegroup("elsewhere")
    assert elsewhere["status"] == "ACTIVE"
    assert cluster.instances("elsewhere")[0]["Placement"]["AvailabilityZone"] != "us-west-2a"


def test_a_type_that_the_zone_does_not_offer(cluster: ClusterSetup) -> None:
    """EC2 offerings: p6-b200.48xlarge is not offered in us-west-2c; the group fails as Auto Scaling cannot launch it."""
    nodegroup = cluster.create_nodegroup(subnets=cluster.subnets[2:], instanceTypes=["p6-b200.48xlarge"])
    assert nodegroup["status"] == "CREATE_FAILED"
    assert "is not supported in your requested Availability Zone (us-west-2c)" in nodegroup["health"]["issues"][0]["message"]


def test_capacity_lost_and_found(cluster: ClusterSetup) -> None:
    """API Nodegroup.status DEGRADED with health.issues; ACTIVE again once instances come."""
    cluster.create_nodegroup()
    fault = cluster.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.2xlarge"})
    cluster.aws.client("ec2").terminate_instances(InstanceIds=[cluster.instances()[0]["InstanceId"]])
    eks = cluster.aws.client("eks")

    def status() -> str:
        for _unused in range(3):
            cluster.aws.pass_time()
        return str(eks.describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]["status"])

    assert status() == "DEGRADED"
    cluster.aws.server.faults.clear(fault.id)
    assert status() == "ACTIVE"
    assert len(cluster.instances()) == 1


def test_the_group_deleted_behind_eks(cluster: ClusterSetup) -> None:
    """API Issue.code AutoScalingGroupNotFound; the node group can still be deleted."""
    nodegroup = cluster.create_nodegroup()
    name = nodegroup["resources"]["autoScalingGroups"][0]["name"]
    cluster.aws.client("autoscaling").delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    cluster.aws.pass_time()
    eks = cluster.aws.client("eks")
    nodegroup = eks.describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]
    assert (nodegroup["status"], nodegroup["health"]["issues"][0]["code"]) == ("DEGRADED", "AutoScalingGroupNotFound")
    eks.delete_nodegroup(clusterName="lab", nodegroupName="gpu")
    cluster.aws.pass_time()
    assert eks.list_nodegroups(clusterName="lab")["nodegroups"] == []


def test_a_size_that_an_autoscaler_sets_shows(cluster: ClusterSetup) -> None:
    """User guide managed-node-groups: desiredSize follows the Auto Scaling group."""
    nodegroup = cluster.create_nodegroup()
    name = nodegroup["resources"]["autoScalingGroups"][0]["name"]
    cluster.aws.client("autoscaling").set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=3)
    cluster.aws.pass_time()
    described = cluster.aws.client("eks").describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]
    assert described["scalingConfig"]["desiredSize"] == 3


def test_a_cluster_that_is_not_active(setup: ClusterSetup) -> None:
    """eksctl#2244: InvalidRequestException."""
    eks = setup.aws.client("eks")
    eks.create_cluster(**setup.cluster_request())
    assert refused(eks.create_nodegroup, **setup.nodegroup_request()) == (
        "InvalidRequestException",
        "Cluster 'lab' is not in ACTIVE status",
    )


def test_names_tokens_and_lists(cluster: ClusterSetup) -> None:
    """API CreateNodegroup: ResourceInUseException with both names; clientRequestToken; pages."""
    eks = cluster.aws.client("eks")
    first = eks.create_nodegroup(**cluster.nodegroup_request(clientRequestToken="one"))["nodegroup"]
    assert eks.create_nodegroup(**cluster.nodegroup_request(clientRequestToken="one"))["nodegroup"]["nodegroupArn"] == first["nodegroupArn"]
    with pytest.raises(eks.exceptions.ResourceInUseException) as caught:
        eks.create_nodegroup(**cluster.nodegroup_request())
    response = t.cast(dict[str, t.Any], caught.value.response)
    assert (response["clusterName"], response["nodegroupName"]) == ("lab", "gpu")
    eks.create_nodegroup(**cluster.nodegroup_request("another"))
    page = eks.list_nodegroups(clusterName="lab", maxResults=1)
    assert page["nodegroups"] == ["another"]
    assert eks.list_nodegroups(clusterName="lab", maxResults=1, nextToken=page["nextToken"])["nodegroups"] == ["gpu"]
    assert refused(eks.describe_nodegroup, clusterName="lab", nodegroupName="none")[1] == "No node group found for name: none."


def test_the_node_role_gets_an_access_entry(cluster: ClusterSetup) -> None:
    """User guide access-entries: EC2_LINUX for the role of a managed node group, where the mode includes API."""
    cluster.create_nodegroup()
    entry = cluster.aws.client("eks").describe_access_entry(clusterName="lab", principalArn=cluster.node_role)["accessEntry"]
    assert (entry["type"], entry["username"], entry["kubernetesGroups"]) == (
        "EC2_LINUX",
        "system:node:{{EC2PrivateDNSName}}",
        ["system:nodes"],
    )
