# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EC2 and its neighbours, where the lab corrects or completes moto.

Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/ (errors-overview.html for the codes) and the pages named.
"""

from __future__ import annotations

import base64
import typing as t

import pytest

from tests.lab.conftest import Aws, ClusterSetup, refused


def tagged(kind: str, **tags: str) -> list[dict[str, t.Any]]:
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]


def gateway_and_address(aws: Aws, vpc_id: str) -> tuple[str, str]:
    ec2 = aws.client("ec2")
    gateway = ec2.create_internet_gateway(TagSpecifications=tagged("internet-gateway", a="b"))["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc_id)
    return gateway, ec2.allocate_address(Domain="vpc", TagSpecifications=tagged("elastic-ip", a="b"))["AllocationId"]


def nat_state(aws: Aws, nat_gateway_id: str) -> str:
    (gateway,) = aws.client("ec2").describe_nat_gateways(NatGatewayIds=[nat_gateway_id])["NatGateways"]
    return str(gateway["State"])


def test_a_network_comes_down_in_order_only(aws: Aws) -> None:
    """DependencyViolation and InvalidIPAddress.InUse until what depends is gone; then everything goes."""
    vpc_id, subnets = aws.subnets()
    ec2 = aws.client("ec2")
    gateway, address = gateway_and_address(aws, vpc_id)
    nat = ec2.create_nat_gateway(SubnetId=subnets[0], AllocationId=address)["NatGateway"]["NatGatewayId"]
    aws.pass_time()
    group = ec2.create_security_group(GroupName="mine", Description="mine", VpcId=vpc_id)["GroupId"]
    other = ec2.create_security_group(GroupName="other", Description="other", VpcId=vpc_id)["GroupId"]
    pairs = [{"GroupId": group}]
    ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": pairs}])
    table = ec2.create_route_table(VpcId=vpc_id)["RouteTable"]["RouteTableId"]
    association = ec2.associate_route_table(RouteTableId=table, SubnetId=subnets[1])["AssociationId"]

    assert refused(ec2.delete_vpc, VpcId=vpc_id)[0] == "DependencyViolation"
    assert refused(ec2.delete_subnet, SubnetId=subnets[0])[0] == "DependencyViolation"
    assert refused(ec2.detach_internet_gateway, InternetGatewayId=gateway, VpcId=vpc_id)[0] == "DependencyViolation"
    assert refused(ec2.delete_internet_gateway, InternetGatewayId=gateway)[0] == "DependencyViolation"
    assert refused(ec2.release_address, AllocationId=address)[0] == "InvalidIPAddress.InUse"
    assert refused(ec2.delete_security_group, GroupId=group)[0] == "DependencyViolation"
    assert refused(ec2.delete_route_table, RouteTableId=table)[0] == "DependencyViolation"

    ec2.delete_nat_gateway(NatGatewayId=nat)
    assert nat_state(aws, nat) == "deleting"
    assert refused(ec2.release_address, AllocationId=address)[0] == "InvalidIPAddress.InUse"
    aws.pass_time()
    assert nat_state(aws, nat) == "deleted"
    ec2.release_address(AllocationId=address)
    ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc_id)
    ec2.delete_internet_gateway(InternetGatewayId=gateway)
    ec2.disassociate_route_table(AssociationId=association)
    ec2.delete_route_table(RouteTableId=table)
    for subnet in subnets:
        ec2.delete_subnet(SubnetId=subnet)
    assert refused(ec2.delete_vpc, VpcId=vpc_id)[0] == "DependencyViolation"
    for group_id in (other, group):
        ec2.delete_security_group(GroupId=group_id)
    ec2.delete_vpc(VpcId=vpc_id)
    assert vpc_id not in {vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]}


@pytest.mark.parametrize("dependency", ["internet gateway", "security group", "endpoint", "route table"])
def test_each_dependency_of_a_vpc_counts(aws: Aws, dependency: str) -> None:
    """API DeleteVpc: everything in the VPC must be gone, the default group, table and ACL excepted."""
    ec2 = aws.client("ec2")
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    if dependency == "internet gateway":
        gateway_and_address(aws, vpc_id)
    elif dependency == "security group":
        ec2.create_security_group(GroupName="mine", Description="mine", VpcId=vpc_id)
    elif dependency == "endpoint":
        ec2.create_vpc_endpoint(VpcId=vpc_id, ServiceName="com.amazonaws.us-west-2.s3")
    else:
        ec2.create_route_table(VpcId=vpc_id)
    assert refused(ec2.delete_vpc, VpcId=vpc_id)[0] == "DependencyViolation"


def test_the_default_group_stays(aws: Aws) -> None:
    """API DeleteSecurityGroup: CannotDelete."""
    vpc_id, _unused = aws.subnets()
    ec2 = aws.client("ec2")
    (group,) = ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["SecurityGroups"]
    assert refused(ec2.delete_security_group, GroupId=group["GroupId"])[0] == "CannotDelete"


def test_an_instance_takes_its_interface_along(aws: Aws) -> None:
    """Interfaces made at launch are deleted on termination (API InstanceNetworkInterfaceSpecification); one attached later is not."""
    _unused, subnets = aws.subnets()
    ec2 = aws.client("ec2")
    instance = ec2.run_instances(ImageId="ami-0123456789abcdef0", InstanceType="m5.large", SubnetId=subnets[0], MinCount=1, MaxCount=1)[
        "Instances"
    ][0]
    filters = [{"Name": "subnet-id", "Values": [subnets[0]]}]
    assert len(ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"]) == 1
    assert refused(ec2.delete_subnet, SubnetId=subnets[0])[0] == "DependencyViolation"
    assert (
        refused(ec2.delete_network_interface, NetworkInterfaceId=instance["NetworkInterfaces"][0]["NetworkInterfaceId"])[0]
        == "InvalidParameterValue"
    )
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert ec2.describe_network_interfaces(Filters=filters)["NetworkInterfaces"] == []
    ec2.delete_subnet(SubnetId=subnets[0])


def test_nat_gateways_take_time(aws: Aws) -> None:
    """API CreateNatGateway: pending, then available; found by tag; the address can be used once; unknown ids are an error."""
    vpc_id, subnets = aws.subnets()
    ec2 = aws.client("ec2")
    _unused, address = gateway_and_address(aws, vpc_id)
    created = ec2.create_nat_gateway(SubnetId=subnets[0], AllocationId=address, TagSpecifications=tagged("natgateway", owner="me"))[
        "NatGateway"
    ]
    assert created["State"] == "pending"
    aws.pass_time()
    assert nat_state(aws, created["NatGatewayId"]) == "available"
    filters = [{"Name": "tag:owner", "Values": ["me"]}, {"Name": "state", "Values": ["available"]}]
    assert len(ec2.describe_nat_gateways(Filters=filters)["NatGateways"]) == 1
    assert ec2.describe_nat_gateways(Filters=[{"Name": "tag:owner", "Values": ["you"]}])["NatGateways"] == []
    by_type = ec2.describe_tags(Filters=[{"Name": "resource-type", "Values": ["natgateway"]}])["Tags"]
    assert [(tag["ResourceId"], tag["Value"]) for tag in by_type] == [(created["NatGatewayId"], "me")]
    assert refused(ec2.create_nat_gateway, SubnetId=subnets[1], AllocationId=address)[0] == "Resource.AlreadyAssociated"
    assert refused(ec2.create_nat_gateway, SubnetId=subnets[1])[0] == "MissingParameter"
    for call, request in ((ec2.describe_nat_gateways, {"NatGatewayIds": ["nat-0"]}), (ec2.delete_nat_gateway, {"NatGatewayId": "nat-0"})):
        assert refused(call, **request)[0] == "NatGatewayNotFound"


def test_client_tokens_of_ec2(aws: Aws) -> None:
    """EC2 developer guide, idempotency: a repeated token makes nothing, other parameters are IdempotentParameterMismatch; free once it is gone."""
    vpc_id, subnets = aws.subnets()
    ec2 = aws.client("ec2")
    _unused, address = gateway_and_address(aws, vpc_id)
    nat: dict[str, t.Any] = {"SubnetId": subnets[0], "AllocationId": address, "ClientToken": "nat-one"}
    first = ec2.create_nat_gateway(**nat)["NatGateway"]["NatGatewayId"]
    assert ec2.create_nat_gateway(**nat)["NatGateway"]["NatGatewayId"] == first
    assert refused(ec2.create_nat_gateway, **{**nat, "SubnetId": subnets[1]})[0] == "IdempotentParameterMismatch"
    ec2.delete_nat_gateway(NatGatewayId=first)
    aws.pass_time()
    assert ec2.create_nat_gateway(**nat)["NatGateway"]["NatGatewayId"] != first

    run: dict[str, t.Any] = {
        "ImageId": "ami-0123456789abcdef0",
        "InstanceType": "m5.large",
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": "run-one",
    }
    ids = {ec2.run_instances(**run)["Instances"][0]["InstanceId"] for _unused in range(3)}
    assert len(ids) == 1
    template: dict[str, t.Any] = {
        "LaunchTemplateName": "t",
        "LaunchTemplateData": {"InstanceType": "m5.large"},
        "ClientToken": "template-one",
    }
    assert len({ec2.create_launch_template(**template)["LaunchTemplate"]["LaunchTemplateId"] for _unused in range(2)}) == 1


def test_launch_template_versions(aws: Aws) -> None:
    """API CreateLaunchTemplate: own tags stay out of the data; SourceVersion is merged; versions are deleted, the default one is not."""
    ec2 = aws.client("ec2")
    data = {"InstanceType": "g5.xlarge", "UserData": base64.b64encode(b"one").decode(), "TagSpecifications": tagged("instance", x="y")}
    created = ec2.create_launch_template(
        LaunchTemplateName="t", LaunchTemplateData=data, TagSpecifications=tagged("launch-template", owner="me")
    )
    template = created["LaunchTemplate"]["LaunchTemplateId"]
    change = {"InstanceType": "g5.2xlarge", "UserData": base64.b64encode(b"two").decode()}
    ec2.create_launch_template_version(LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData=change)
    versions = {
        v["VersionNumber"]: v["LaunchTemplateData"]
        for v in ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    }
    assert versions[1]["TagSpecifications"] == versions[2]["TagSpecifications"] == tagged("instance", x="y")
    assert (versions[2]["InstanceType"], base64.b64decode(versions[2]["UserData"])) == ("g5.2xlarge", b"two")
    reply = ec2.delete_launch_template_versions(LaunchTemplateId=template, Versions=["1", "2", "7"])
    assert [item["VersionNumber"] for item in reply["SuccessfullyDeletedLaunchTemplateVersions"]] == [2]
    assert [item["VersionNumber"] for item in reply["UnsuccessfullyDeletedLaunchTemplateVersions"]] == [1, 7]
    left = ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
    assert [version["VersionNumber"] for version in left] == [1]
    assert (
        refused(ec2.describe_launch_template_versions, LaunchTemplateId=template, Versions=["2"])[0]
        == "InvalidLaunchTemplateId.VersionNotFound"
    )
    third = ec2.create_launch_template_version(LaunchTemplateId=template, LaunchTemplateData={"InstanceType": "m5.large"})
    assert third["LaunchTemplateVersion"]["VersionNumber"] == 3


def test_launch_templates_are_listed_whole(aws: Aws) -> None:
    """API DescribeLaunchTemplates: pages with tokens, filters, and an error for unknown ids."""
    ec2 = aws.client("ec2")
    for number in range(17):
        ec2.create_launch_template(
            LaunchTemplateName=f"t{number}", LaunchTemplateData={}, TagSpecifications=tagged("launch-template", n=str(number % 2))
        )
    assert len(ec2.describe_launch_templates()["LaunchTemplates"]) == 17
    paginator = ec2.get_paginator("describe_launch_templates").paginate(PaginationConfig={"PageSize": 5})
    pages = [page["LaunchTemplates"] for page in paginator]
    assert [len(page) for page in pages] == [5, 5, 5, 2]
    assert len(ec2.describe_launch_templates(Filters=[{"Name": "tag:n", "Values": ["1"]}])["LaunchTemplates"]) == 8
    assert refused(ec2.describe_launch_templates, LaunchTemplateIds=["lt-0"])[0] == "InvalidLaunchTemplateId.NotFound"


def test_instance_types_come_in_pages(aws: Aws) -> None:
    """API DescribeInstanceTypes: at most 100 a page; unknown types are InvalidInstanceType."""
    ec2 = aws.client("ec2")
    first = ec2.describe_instance_types()
    assert (len(first["InstanceTypes"]), bool(first["NextToken"])) == (100, True)
    names = [item["InstanceType"] for page in ec2.get_paginator("describe_instance_types").paginate() for item in page["InstanceTypes"]]
    assert len(names) == len(set(names)) > 1000
    g5 = ec2.describe_instance_types(Filters=[{"Name": "instance-type", "Values": ["g5.*"]}])["InstanceTypes"]
    assert {item["GpuInfo"]["Gpus"][0]["Manufacturer"] for item in g5} == {"NVIDIA"}
    assert refused(ec2.describe_instance_types, InstanceTypes=["g5.nothing"])[0] == "InvalidInstanceType"


def test_zones(aws: Aws) -> None:
    """API AvailabilityZone: opt-in status, group, id."""
    ec2 = aws.client("ec2")
    zones = ec2.describe_availability_zones(Filters=[{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}])["AvailabilityZones"]
    assert {zone["ZoneName"]: zone["ZoneId"] for zone in zones}["us-west-2a"] == "usw2-az2"
    assert {zone["OptInStatus"] for zone in zones} == {"opt-in-not-required"}
    assert len(zones) == 4


@pytest.mark.parametrize(
    "name",
    [
        "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended",
        "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/arm64/standard/recommended",
        "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/amazon-eks-node-al2023-x86_64-nvidia-1.36-v20260709",
        "/aws/service/bottlerocket/aws-k8s-1.36-nvidia/x86_64/latest",
        "/aws/service/bottlerocket/aws-k8s-1.36/arm64/1.53.0",
    ],
)
def test_public_image_parameters(aws: Aws, name: str) -> None:
    """User guide retrieve-ami-id and retrieve-ami-id-bottlerocket; the images exist, with their architecture."""
    ssm = aws.client("ssm")
    image_id = ssm.get_parameter(Name=f"{name}/image_id")["Parameter"]["Value"]
    (image,) = aws.client("ec2").describe_images(ImageIds=[image_id])["Images"]
    assert image["Architecture"] == ("arm64" if "arm64" in name else "x86_64")
    assert image["OwnerId"] == "602401143452"
    detail = "release_version" if "/eks/" in name else "image_version"
    assert ssm.get_parameter(Name=f"{name}/{detail}")["Parameter"]["Value"]
    assert refused(ssm.get_parameter, Name=f"{name}/nothing")[0] == "ParameterNotFound"


def test_capacity_and_offerings_of_single_instances(aws: Aws) -> None:
    """Errors InsufficientInstanceCapacity (a server error) and Unsupported of RunInstances."""
    _unused, subnets = aws.subnets()
    ec2 = aws.client("ec2")
    run: dict[str, t.Any] = {"ImageId": "ami-0123456789abcdef0", "MinCount": 1, "MaxCount": 1}
    assert refused(ec2.run_instances, InstanceType="p6-b200.48xlarge", SubnetId=subnets[2], **run)[0] == "Unsupported"
    aws.server.faults.add({"kind": "capacity", "instance_type": "g5.xlarge", "zone": "us-west-2a"})
    assert refused(ec2.run_instances, InstanceType="g5.xlarge", SubnetId=subnets[0], **run)[0] == "InsufficientInstanceCapacity"
    ec2.run_instances(InstanceType="g5.xlarge", SubnetId=subnets[1], **run)


class TestAutoScalingGroups:
    """Auto Scaling groups of somebody's own."""

    @staticmethod
    def create(setup: ClusterSetup, **changes: t.Any) -> t.Any:
        ec2 = setup.aws.client("ec2")
        ec2.create_launch_template(
            LaunchTemplateName="own", LaunchTemplateData={"ImageId": "ami-0123456789abcdef0", "InstanceType": "g5.xlarge"}
        )
        template = {"LaunchTemplateName": "own", "Version": "$Latest"}
        overrides = [{"InstanceType": "g5.xlarge"}, {"InstanceType": "g6.xlarge"}]
        policy = {"LaunchTemplate": {"LaunchTemplateSpecification": template, "Overrides": overrides}, **changes.pop("policy", {})}
        autoscaling = setup.aws.client("autoscaling")
        sizes: dict[str, t.Any] = {"MinSize": 0, "MaxSize": 4, "DesiredCapacity": 2, **changes}
        autoscaling.create_auto_scaling_group(
            AutoScalingGroupName="own", VPCZoneIdentifier=",".join(setup.subnets[:2]), MixedInstancesPolicy=policy, **sizes
        )
        return autoscaling

    @staticmethod
    def instances(setup: ClusterSetup) -> list[dict[str, t.Any]]:
        filters = [{"Name": "tag:aws:autoscaling:groupName", "Values": ["own"]}, {"Name": "instance-state-name", "Values": ["running"]}]
        return [i for r in setup.aws.client("ec2").describe_instances(Filters=filters)["Reservations"] for i in r["Instances"]]

    def test_on_demand_and_spot(self, setup: ClusterSetup) -> None:
        """API InstancesDistribution: base and percentage; zones in balance."""
        distribution = {
            "OnDemandBaseCapacity": 1,
            "OnDemandPercentageAboveBaseCapacity": 0,
            "SpotAllocationStrategy": "price-capacity-optimized",
        }
        self.create(setup, DesiredCapacity=4, policy={"InstancesDistribution": distribution})
        instances = self.instances(setup)
        assert sorted(instance.get("InstanceLifecycle", "on-demand") for instance in instances) == ["on-demand", "spot", "spot", "spot"]
        zones = [instance["Placement"]["AvailabilityZone"] for instance in instances]
        assert (zones.count("us-west-2a"), zones.count("us-west-2b")) == (2, 2)

    def test_the_next_type_when_the_first_is_not_to_be_had(self, setup: ClusterSetup) -> None:
        """Allocation over overrides; a failed launch is a failed activity."""
        setup.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.xlarge"})
        autoscaling = self.create(setup)
        assert {instance["InstanceType"] for instance in self.instances(setup)} == {"g6.xlarge"}
        setup.aws.server.faults.add({"kind": "capacity", "instance_type": "g6.xlarge"})
        autoscaling.set_desired_capacity(AutoScalingGroupName="own", DesiredCapacity=3)
        assert len(self.instances(setup)) == 2
        activity = autoscaling.describe_scaling_activities(AutoScalingGroupName="own")["Activities"][0]
        assert activity["StatusCode"] == "Failed"
        assert "do not have sufficient g6.xlarge capacity" in activity["StatusMessage"]

    def test_sizes_deletion_and_settings(self, setup: ClusterSetup) -> None:
        """ValidationError beyond max, ResourceInUse without ForceDelete; an update keeps what it does not name."""
        autoscaling = self.create(setup)
        refusal = refused(autoscaling.set_desired_capacity, AutoScalingGroupName="own", DesiredCapacity=5)
        assert refusal == ("ValidationError", "New SetDesiredCapacity value 5 is above max value 4 for the AutoScalingGroup.")
        autoscaling.update_auto_scaling_group(AutoScalingGroupName="own", MaxSize=6)
        autoscaling.set_desired_capacity(AutoScalingGroupName="own", DesiredCapacity=5)
        group = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]
        assert len(group["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]) == 2
        assert refused(autoscaling.delete_auto_scaling_group, AutoScalingGroupName="own")[0] == "ResourceInUse"
        autoscaling.delete_auto_scaling_group(AutoScalingGroupName="own", ForceDelete=True)
        assert self.instances(setup) == []


@pytest.mark.parametrize(
    ("patterns", "found", "missing"), [(["g5.*"], "g5.xlarge", "m5.large"), (["g5.*", "m5.large"], "m5.large", "g6.xlarge")]
)
def test_offerings_are_found_by_wildcards(aws: Aws, patterns: list[str], found: str, missing: str) -> None:
    """EC2 API Reference, DescribeInstanceTypeOfferings: "You can use wildcards with the filter values" as in its examples (c5*)."""
    filters = [{"Name": "instance-type", "Values": patterns}]
    reply = aws.client("ec2").describe_instance_type_offerings(LocationType="availability-zone", Filters=filters)
    types = {offering["InstanceType"] for offering in reply["InstanceTypeOfferings"]}
    assert found in types
    assert missing not in types
