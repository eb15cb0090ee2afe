# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_network with endpoints, secondary blocks, instance types, and in a VPC of somebody else, against a script of EC2 calls."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.modules.eks_network import main

from tests.wire.harness import Wire
from tests.wire.test_eks_network import (
    GROUP,
    INSIDE,
    NAT,
    NETWORK,
    PARAMS,
    PERMISSION,
    VPC,
    Api,
    World,
    expect_zones,
    nothing,
    specification,
    tags,
)

S3, ECR = "vpce-s3", "vpce-ecr"
ENDPOINTS_GROUP = "sg-endpoints"
WANTED = {**PARAMS, "gateway_endpoints": ["s3"], "interface_endpoints": ["ecr.api"]}
TABLES = ["rtb-public", "rtb-a", "rtb-b"]
PRIVATE = ["subnet-pa", "subnet-pb"]


def service(name: str, kind: str, *zones: str) -> Api:
    return {
        "ServiceName": f"com.amazonaws.us-west-2.{name}",
        "ServiceType": [{"ServiceType": kind}],
        "AvailabilityZones": list(zones or ("us-west-2a", "us-west-2b")),
    }


def gateway(state: str = "available") -> Api:
    return {
        "VpcEndpointId": S3,
        "VpcEndpointType": "Gateway",
        "ServiceName": "com.amazonaws.us-west-2.s3",
        "State": state,
        "RouteTableIds": TABLES,
        "Tags": tags("gateway-endpoint", "gateway", "s3"),
    }


def interface(state: str = "available", **more: t.Any) -> Api:
    return {
        "VpcEndpointId": ECR,
        "VpcEndpointType": "Interface",
        "ServiceName": "com.amazonaws.us-west-2.ecr.api",
        "State": state,
        "SubnetIds": PRIVATE,
        "Groups": [{"GroupId": ENDPOINTS_GROUP, "GroupName": "demo-endpoints"}],
        "NetworkInterfaceIds": ["eni-ecr-a", "eni-ecr-b"],
        "PrivateDnsEnabled": True,
        "Tags": tags("interface-endpoint", "interface", "ecr.api"),
        **more,
    }


class WideWorld(World):
    """A whole network with endpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoints = [gateway(), interface()]
        group = {"GroupId": ENDPOINTS_GROUP, "GroupName": "demo-endpoints", "Tags": tags("endpoints-security-group", "endpoints")}
        self.groups.append({**group, "IpPermissions": [copy.deepcopy(PERMISSION)]})


WIDE_NETWORK = {
    **NETWORK,
    "security_group_ids": {"api": GROUP, "endpoints": ENDPOINTS_GROUP},
    "endpoints": [
        {"id": S3, "service": "s3", "type": "Gateway", "state": "available"},
        {"id": ECR, "service": "ecr.api", "type": "Interface", "state": "available"},
    ],
}


def expect_services(wire: Wire, names: list[str], *found: Api) -> None:
    request = {"Filters": [{"Name": "service-name", "Values": [f"com.amazonaws.us-west-2.{name}" for name in names]}]}
    wire.expect("ec2:DescribeVpcEndpointServices", request, {"ServiceDetails": list(found)})


def expect_interface(wire: Wire) -> None:
    request = {
        "VpcEndpointType": "Interface",
        "VpcId": VPC,
        "ServiceName": "com.amazonaws.us-west-2.ecr.api",
        "TagSpecifications": specification("vpc-endpoint", tags("interface-endpoint", "interface", "ecr.api")),
        "SubnetIds": PRIVATE,
        "SecurityGroupIds": [ENDPOINTS_GROUP],
        "PrivateDnsEnabled": True,
    }
    wire.expect("ec2:CreateVpcEndpoint", request, {"VpcEndpoint": {"VpcEndpointId": ECR}})


def test_endpoints_of_a_network_that_is_there(wire: Wire) -> None:
    World().expect(wire, first=True)
    expect_services(wire, ["s3", "ecr.api"], service("s3", "Gateway"), service("s3", "Interface"), service("ecr.api", "Interface"))
    group: Api = {"GroupName": "demo-endpoints", "Description": "Who may reach the VPC endpoints of the EKS cluster demo", "VpcId": VPC}
    group["TagSpecifications"] = specification("security-group", tags("endpoints-security-group", "endpoints"))
    wire.expect("ec2:CreateSecurityGroup", group, {"GroupId": ENDPOINTS_GROUP})
    wire.expect("ec2:AuthorizeSecurityGroupIngress", {"GroupId": ENDPOINTS_GROUP, "IpPermissions": [PERMISSION]})
    expect_interface(wire)
    request = {
        "VpcEndpointType": "Gateway",
        "VpcId": VPC,
        "ServiceName": "com.amazonaws.us-west-2.s3",
        "TagSpecifications": specification("vpc-endpoint", tags("gateway-endpoint", "gateway", "s3")),
        "RouteTableIds": TABLES,
    }
    wire.expect("ec2:CreateVpcEndpoint", request, {"VpcEndpoint": {"VpcEndpointId": S3}})
    wire.expect_error("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": [S3, ECR]}, "InvalidVpcEndpointId.NotFound")
    for state in ("pending", "available"):
        wire.expect("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": [S3, ECR]}, {"VpcEndpoints": [gateway(), interface(state)]})
    WideWorld().expect(wire)
    result = wire.run(main, WANTED)
    assert result["changed"]
    assert result["network"] == WIDE_NETWORK
    assert [step["effect"] for step in result["plan"]] == ["create", "update", "create", "create"]
    assert result["progress"] == [
        f"DescribeVpcEndpoints {S3}, {ECR}: com.amazonaws.us-west-2.s3 available, com.amazonaws.us-west-2.ecr.api {state}"
        for state in ("pending", "available")
    ]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_second_run_makes_ten_calls_and_changes_nothing(wire: Wire, check_mode: bool) -> None:
    WideWorld().expect(wire, first=True)
    result = wire.run(main, {**WANTED, "instance_types": ["g5.2xlarge"], "secondary_cidrs": []}, check_mode=check_mode)
    assert not result["changed"]
    assert result["network"] == WIDE_NETWORK
    assert result["diff"]["before"] == result["diff"]["after"]
    assert len(wire.made) == 10
    assert not [call for call in wire.made if not call.startswith("ec2:Describe")]


def test_endpoints_in_the_making_are_waited_for_without_a_change(wire: Wire) -> None:
    world = WideWorld()
    world.endpoints = [gateway(), interface("pending")]
    world.expect(wire, first=True)
    wire.expect("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": [ECR]}, {"VpcEndpoints": [interface()]})
    WideWorld().expect(wire)
    result = wire.run(main, WANTED)
    assert not result["changed"]
    assert result["network"] == WIDE_NETWORK


def test_an_endpoint_that_fails_is_said_in_the_words_of_ec2_and_replaced_by_the_next_run(wire: Wire) -> None:
    failed = interface("failed", LastError={"Code": "InsufficientFreeAddresses", "Message": "The subnet has no free addresses"})
    world = WideWorld()
    world.endpoints = [gateway(), {**failed, "VpcEndpointId": "vpce-old"}]
    world.expect(wire, first=True)
    expect_services(wire, ["ecr.api"], service("ecr.api", "Interface"))
    wire.expect("ec2:DeleteVpcEndpoints", {"VpcEndpointIds": ["vpce-old"]}, {"Unsuccessful": []})
    wire.expect("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": ["vpce-old"]}, {"VpcEndpoints": [interface("deleting")]})
    wire.expect_error("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": ["vpce-old"]}, "InvalidVpcEndpointId.NotFound")
    expect_interface(wire)
    wire.expect("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": [ECR]}, {"VpcEndpoints": [failed]})
    result = wire.run(main, WANTED)
    assert result["failed"]
    assert "com.amazonaws.us-west-2.ecr.api failed" in result["msg"]
    assert "The subnet has no free addresses" in result["msg"]
    assert result["plan"][0]["reason"] == "failed: The subnet has no free addresses"


def test_services_that_the_region_does_not_have_are_refused_before_any_write(wire: Wire) -> None:
    nothing().expect(wire, first=True)
    expect_zones(wire)
    found = [service("s3", "Gateway"), service("ecr.api", "Interface", "us-west-2c")]
    expect_services(wire, ["s3", "sts", "nonsense", "ecr.api"], *found)
    result = wire.run(main, {**WANTED, "interface_endpoints": ["sts", "nonsense", "ecr.api"]})
    assert [fault["path"] for fault in result["faults"]] == [f"interface_endpoints[{index}]" for index in range(3)]
    assert "interface_endpoints[1]: 'nonsense'" in result["msg"]
    assert "this one is in us-west-2c" in result["msg"]


def test_zones_without_the_types_are_left_out_of_a_new_network(wire: Wire) -> None:
    nothing().expect(wire, first=True)
    filters = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    zones = [{"ZoneName": f"us-west-2{letter}", "ZoneId": f"usw2-az{number}"} for letter, number in (("a", 2), ("b", 1), ("c", 3))]
    wire.expect("ec2:DescribeAvailabilityZones", {"Filters": filters}, {"AvailabilityZones": zones})
    request = {"LocationType": "availability-zone", "Filters": [{"Name": "instance-type", "Values": ["p5.48xlarge", "p5e.48xlarge"]}]}
    offers = [{"InstanceType": "p5.48xlarge", "Location": "us-west-2a"}, {"InstanceType": "p5e.48xlarge", "Location": "us-west-2c"}]
    wire.expect("ec2:DescribeInstanceTypeOfferings", request, {"InstanceTypeOfferings": offers})
    params = {"cluster_name": "demo", "zone_count": 2, "instance_types": ["p5.48xlarge", "p5e.48xlarge"]}
    network = wire.run(main, params, check_mode=True)["network"]
    assert network["zones"] == ["us-west-2a", "us-west-2c"]
    assert network["left_out_zones"] == [{"zone": "us-west-2b", "reason": "it offers none of p5.48xlarge, p5e.48xlarge"}]


def test_a_secondary_block_is_waited_for_before_the_subnets_in_it(wire: Wire) -> None:
    world = World()
    world.subnets = world.subnets[:3]  # what follows leaves no room for the fourth
    world.subnets.append({"SubnetId": "subnet-x", "AvailabilityZone": "us-west-2b", "CidrBlock": "10.0.128.0/17"})
    world.subnets.append({"SubnetId": "subnet-y", "AvailabilityZone": "us-west-2b", "CidrBlock": "10.0.32.0/19"})
    world.subnets.append({"SubnetId": "subnet-z", "AvailabilityZone": "us-west-2b", "CidrBlock": "10.0.64.0/18"})
    world.expect(wire, first=True)
    blocks = [{"AssociationId": "a-1", "CidrBlock": "10.0.0.0/16", "CidrBlockState": {"State": "associated"}}]
    second = {"AssociationId": "a-2", "CidrBlock": "100.64.0.0/16"}
    wire.expect("ec2:AssociateVpcCidrBlock", {"VpcId": VPC, "CidrBlock": "100.64.0.0/16"})
    wire.expect(
        "ec2:DescribeVpcs",
        {"VpcIds": [VPC]},
        {"Vpcs": [{"CidrBlockAssociationSet": [*blocks, {**second, "CidrBlockState": {"State": "associating"}}]}]},
    )
    failing = {**second, "CidrBlockState": {"State": "failed", "StatusMessage": "The limit of CIDR blocks has been reached"}}
    wire.expect("ec2:DescribeVpcs", {"VpcIds": [VPC]}, {"Vpcs": [{"CidrBlockAssociationSet": [*blocks, failing]}]})
    result = wire.run(main, {**PARAMS, "secondary_cidrs": ["100.64.0.0/16"]})
    assert result["failed"]
    assert "100.64.0.0/16 failed" in result["msg"]
    assert "The limit of CIDR blocks has been reached" in result["msg"]
    assert result["steps_done"] == 1


def test_teardown_deletes_endpoints_and_waits_for_their_interfaces(wire: Wire) -> None:
    world = WideWorld()
    world.nats, world.addresses, world.gateways = [], [], []
    world.tables, world.subnets = world.tables[:1], []
    world.interfaces = [
        {"NetworkInterfaceId": name, "Status": "in-use", "InterfaceType": "vpc_endpoint"} for name in ("eni-ecr-a", "eni-ecr-b", "eni-late")
    ]
    world.expect(wire, first=True)
    for name in (S3, ECR):
        wire.expect("ec2:DeleteVpcEndpoints", {"VpcEndpointIds": [name]}, {"Unsuccessful": []})
    wire.expect_error("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": [S3]}, "InvalidVpcEndpointId.NotFound")
    wire.expect("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": [ECR]}, {"VpcEndpoints": [interface("deleting")]})
    wire.expect("ec2:DescribeVpcEndpoints", {"VpcEndpointIds": [ECR]}, {"VpcEndpoints": [interface("deleted")]})
    request = {"Filters": [{"Name": "network-interface-id", "Values": ["eni-ecr-a", "eni-ecr-b", "eni-late"]}]}
    wire.expect("ec2:DescribeNetworkInterfaces", request, {"NetworkInterfaces": [world.interfaces[2]]})
    wire.expect("ec2:DescribeNetworkInterfaces", request, {"NetworkInterfaces": []})
    for group in (GROUP, ENDPOINTS_GROUP):
        wire.expect("ec2:DeleteSecurityGroup", {"GroupId": group})
    wire.expect("ec2:DeleteVpc", {"VpcId": VPC})
    result = wire.run(main, {**WANTED, "state": "absent"})
    assert result["network"] is None
    assert result["progress"][-1] == "DescribeNetworkInterfaces eni-ecr-a, eni-ecr-b, eni-late: in-use"


def test_what_ec2_did_not_delete_is_an_error(wire: Wire) -> None:
    world = WideWorld()
    world.interfaces = []
    world.expect(wire, first=True)
    error = {"Code": "InvalidParameter", "Message": "Endpoint must be removed from the route tables first"}
    wire.expect("ec2:DeleteVpcEndpoints", {"VpcEndpointIds": [S3]}, {"Unsuccessful": [{"ResourceId": S3, "Error": error}]})
    result = wire.run(main, {**WANTED, "state": "absent"})
    assert result["failed"]
    assert "ec2:DeleteVpcEndpoints: InvalidParameter: Endpoint must be removed from the route tables first (vpce-s3)." in result["msg"]
    assert result["error"]["code"] == "InvalidParameter"
    assert NAT in [step["target"] for step in result["plan"]]


def test_the_mark_of_another_account_is_not_ours(wire: Wire) -> None:
    world = World()
    world.vpcs[0]["OwnerId"] = "999999999999"
    wire.expect(
        "ec2:DescribeVpcs",
        {"Filters": [{"Name": "tag:gpuops.eks/owner", "Values": ["arn:*:eks:us-west-2:*:cluster/demo"]}]},
        {"Vpcs": world.vpcs},
    )
    wire.expect("sts:GetCallerIdentity", {}, {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/x"})
    mark = [{"Name": "tag:gpuops.eks/owner", "Values": ["arn:aws:eks:us-west-2:123456789012:cluster/demo"]}]
    wire.expect("ec2:DescribeInternetGateways", {"Filters": mark}, {"InternetGateways": []})
    wire.expect("ec2:DescribeAddresses", {"Filters": mark}, {"Addresses": []})
    assert not wire.run(main, {**PARAMS, "state": "absent"})["changed"]


THEIRS = {
    "cluster_name": "demo",
    "vpc_id": VPC,
    "private_subnet_ids": ["subnet-1", "subnet-2"],
    "security_group_ids": ["sg-1"],
    "wait_interval": 0.001,
}


def expect_theirs(wire: Wire, subnets: list[Api], *, dns: bool = True) -> None:
    wire.expect("ec2:DescribeVpcs", INSIDE, {"Vpcs": [{"VpcId": VPC, "CidrBlock": "10.50.0.0/16"}]})
    wire.expect("ec2:DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ["subnet-1", "subnet-2"]}]}, {"Subnets": subnets})
    groups = [{"GroupId": "sg-1", "GroupName": "theirs", "VpcId": VPC}]
    wire.expect("ec2:DescribeSecurityGroups", {"Filters": [{"Name": "group-id", "Values": ["sg-1"]}]}, {"SecurityGroups": groups})
    main_table = {
        "RouteTableId": "rtb-1",
        "Associations": [{"Main": True, "RouteTableAssociationId": "rtbassoc-1"}],
        "Routes": [{"DestinationCidrBlock": "0.0.0.0/0", "TransitGatewayId": "tgw-1"}],
    }
    wire.expect("ec2:DescribeRouteTables", INSIDE, {"RouteTables": [main_table]})
    wire.expect("ec2:DescribeNatGateways", {"Filter": INSIDE["Filters"]}, {"NatGateways": []})
    wire.expect("ec2:DescribeVpcEndpoints", INSIDE, {"VpcEndpoints": []})
    for name in ("enableDnsSupport", "enableDnsHostnames"):
        wire.expect("ec2:DescribeVpcAttribute", {"VpcId": VPC, "Attribute": name}, {name[0].upper() + name[1:]: {"Value": dns}})


def their_subnet(name: str, zone: str, free: int = 100) -> Api:
    return {
        "SubnetId": name,
        "VpcId": VPC,
        "AvailabilityZone": zone,
        "AvailabilityZoneId": f"id-{zone}",
        "CidrBlock": f"10.50.{name[-1]}.0/24",
        "AvailableIpAddressCount": free,
    }


@pytest.mark.parametrize("check_mode", [False, True])
def test_an_existing_network_is_only_read(wire: Wire, check_mode: bool) -> None:
    expect_theirs(wire, [their_subnet("subnet-1", "us-west-2a"), their_subnet("subnet-2", "us-west-2b")])
    result = wire.run(main, THEIRS, check_mode=check_mode)
    assert not result["changed"]
    assert result["plan"] == []
    network = result["network"]
    assert set(network) == set(NETWORK)
    assert network["managed"] is False
    assert network["private_subnet_ids"] == ["subnet-1", "subnet-2"]
    assert network["zones"] == ["us-west-2a", "us-west-2b"]
    assert network["security_group_ids"] == {"api": "sg-1"}


def test_faults_of_an_existing_network_come_at_once(wire: Wire) -> None:
    expect_theirs(wire, [their_subnet("subnet-1", "us-west-2a", free=3)], dns=False)
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    result = wire.run(main, THEIRS)
    assert [fault["path"] for fault in result["faults"]] == ["vpc_id", "vpc_id", "private_subnet_ids[1]", "private_subnet_ids[0]"]


def test_an_existing_network_is_not_taken_down(wire: Wire) -> None:
    result = wire.run(main, {**THEIRS, "state": "absent"})
    assert not result["changed"]
    assert result["network"] is None
    assert wire.made == []
