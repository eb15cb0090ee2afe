# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_network against a script of EC2 calls."""

from __future__ import annotations

import copy
import socket
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.modules.eks_network import main

from tests.wire.harness import Wire

ARN = "arn:aws:eks:us-west-2:123456789012:cluster/demo"
MARKED = [{"Name": "tag:gpuops.eks/owner", "Values": [ARN]}]
ANY_ACCOUNT = [{"Name": "tag:gpuops.eks/owner", "Values": ["arn:*:eks:us-west-2:*:cluster/demo"]}]
ZONE_IDS = {"us-west-2a": "usw2-az2", "us-west-2b": "usw2-az1"}
INSIDE = {"Filters": [{"Name": "vpc-id", "Values": ["vpc-1"]}]}
VPC, IGW, NAT, EIP, GROUP = "vpc-1", "igw-1", "nat-1", "eipalloc-1", "sg-1"
PRIVATE_TABLES = {"us-west-2a": "rtb-a", "us-west-2b": "rtb-b"}
PARAMS = {"cluster_name": "demo", "zones": ["us-west-2a", "us-west-2b"], "wait_interval": 0.001}
Api = dict[str, t.Any]


def tags(component: str, *name: str, **more: str) -> list[Api]:
    found = {
        "Name": "-".join(("demo", *name)),
        "gpuops.eks/component": f"network/{component}",
        "gpuops.eks/owner": ARN,
        **{key.replace("__", "/").replace("_", "-"): value for key, value in more.items()},
    }
    return [{"Key": key, "Value": value} for key, value in sorted(found.items())]


def zone_tags(component: str, zone: str, *name: str) -> list[Api]:
    return tags(component, *name, zone, **{"gpuops.eks/zone": zone})


def subnet_tags(tier: str, zone: str) -> list[Api]:
    role = "kubernetes.io/role/internal-elb" if tier == "private" else "kubernetes.io/role/elb"
    return tags(f"{tier}-subnet", tier, zone, **{role.replace("-", "_"): "1"})


def specification(resource: str, tags_: list[Api]) -> list[Api]:
    return [{"ResourceType": resource, "Tags": tags_}]


SUBNETS = [
    ("private", "us-west-2a", "10.0.0.0/20", "subnet-pa"),
    ("private", "us-west-2b", "10.0.16.0/20", "subnet-pb"),
    ("public", "us-west-2a", "10.0.255.0/24", "subnet-ua"),
    ("public", "us-west-2b", "10.0.254.0/24", "subnet-ub"),
]
PERMISSION = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}


def table(name: str, table_tags: list[Api], subnets: list[str], **route: str) -> Api:
    associations = [
        {"SubnetId": s, "RouteTableAssociationId": f"rtbassoc-{s}", "AssociationState": {"State": "associated"}} for s in subnets
    ]
    routes = [{"DestinationCidrBlock": "10.0.0.0/16", "GatewayId": "local"}]
    routes += [{"DestinationCidrBlock": "0.0.0.0/0", **route}] if route else []
    return {"RouteTableId": name, "Tags": table_tags, "Routes": routes, "Associations": associations}


class World:
    """What EC2 has: a whole network, of which tests take things away."""

    def __init__(self) -> None:
        self.vpcs: list[Api] = [{"VpcId": VPC, "CidrBlock": "10.0.0.0/16", "OwnerId": "123456789012", "Tags": tags("vpc")}]
        self.gateways = [
            {"InternetGatewayId": IGW, "Attachments": [{"VpcId": VPC, "State": "available"}], "Tags": tags("internet-gateway")}
        ]
        self.addresses = [{"AllocationId": EIP, "PublicIp": "192.0.2.1", "Tags": zone_tags("nat-address", "us-west-2a")}]
        self.subnets = [
            {
                "SubnetId": name,
                "AvailabilityZone": zone,
                "AvailabilityZoneId": ZONE_IDS[zone],
                "CidrBlock": cidr,
                "Tags": subnet_tags(tier, zone),
            }
            for tier, zone, cidr, name in SUBNETS
        ]
        self.tables = [
            {"RouteTableId": "rtb-main", "Associations": [{"Main": True, "RouteTableAssociationId": "rtbassoc-main"}]},
            table("rtb-public", tags("public-route-table", "public"), ["subnet-ua", "subnet-ub"], GatewayId=IGW),
            *[
                table(PRIVATE_TABLES[zone], zone_tags("private-route-table", zone, "private"), [name], NatGatewayId=NAT)
                for tier, zone, _unused, name in SUBNETS
                if tier == "private"
            ],
        ]
        nat_address = {"AllocationId": EIP, "PublicIp": "192.0.2.1", "NetworkInterfaceId": "eni-nat"}
        nat = {"NatGatewayId": NAT, "SubnetId": "subnet-ua", "State": "available", "NatGatewayAddresses": [nat_address]}
        self.nats: list[Api] = [{**nat, "Tags": zone_tags("nat-gateway", "us-west-2a")}]
        self.groups: list[Api] = [
            {
                "GroupId": GROUP,
                "GroupName": "demo-api",
                "IpPermissions": [copy.deepcopy(PERMISSION)],
                "Tags": tags("api-security-group", "api"),
            },
            {"GroupId": "sg-default", "GroupName": "default"},
        ]
        self.endpoints: list[Api] = []
        self.interfaces: list[Api] | None = None
        self.hostnames = True

    def expect(self, wire: Wire, *, first: bool = False) -> None:
        """The reads of one observation, in order; the ``first`` one finds out whose the network is."""
        wire.expect("ec2:DescribeVpcs", {"Filters": ANY_ACCOUNT if first else MARKED}, {"Vpcs": self.vpcs})
        if first and not self.vpcs:
            wire.expect("sts:GetCallerIdentity", {}, {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/x"})
        wire.expect("ec2:DescribeInternetGateways", {"Filters": MARKED}, {"InternetGateways": self.gateways})
        wire.expect("ec2:DescribeAddresses", {"Filters": MARKED}, {"Addresses": self.addresses})
        if not self.vpcs:
            return
        wire.expect("ec2:DescribeSubnets", INSIDE, {"Subnets": self.subnets})
        wire.expect("ec2:DescribeRouteTables", INSIDE, {"RouteTables": self.tables})
        wire.expect("ec2:DescribeNatGateways", {"Filter": [*INSIDE["Filters"], *MARKED]}, {"NatGateways": self.nats})
        wire.expect("ec2:DescribeSecurityGroups", INSIDE, {"SecurityGroups": self.groups})
        wire.expect("ec2:DescribeVpcEndpoints", INSIDE, {"VpcEndpoints": self.endpoints})
        for name, value in (("enableDnsSupport", True), ("enableDnsHostnames", self.hostnames)):
            wire.expect("ec2:DescribeVpcAttribute", {"VpcId": VPC, "Attribute": name}, {name[0].upper() + name[1:]: {"Value": value}})
        if self.interfaces is not None:
            wire.expect("ec2:DescribeNetworkInterfaces", INSIDE, {"NetworkInterfaces": self.interfaces})


def nothing() -> World:
    world = World()
    world.vpcs, world.gateways, world.addresses = [], [], []
    return world


def expect_zones(wire: Wire) -> None:
    filters = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    found = [
        {"ZoneName": "us-west-2b", "ZoneId": "usw2-az1", "OptInStatus": "opt-in-not-required"},
        {"ZoneName": "us-west-2a", "ZoneId": "usw2-az2"},
        {"ZoneName": "us-west-2c", "ZoneId": "usw2-az3", "OptInStatus": "not-opted-in"},
    ]
    wire.expect("ec2:DescribeAvailabilityZones", {"Filters": filters}, {"AvailabilityZones": found})


NETWORK = {
    "vpc_id": VPC,
    "cidr_block": "10.0.0.0/16",
    "secondary_cidrs": [],
    "zones": ["us-west-2a", "us-west-2b"],
    "left_out_zones": [],
    "public_subnet_ids": ["subnet-ua", "subnet-ub"],
    "private_subnet_ids": ["subnet-pa", "subnet-pb"],
    "intra_subnet_ids": [],
    "subnets": [
        {"id": name, "zone": zone, "zone_id": ZONE_IDS[zone], "tier": tier, "cidr_block": cidr} for tier, zone, cidr, name in SUBNETS
    ],
    "nat_gateways": [{"id": NAT, "zone": "us-west-2a", "public_ip": "192.0.2.1"}],
    "internet_gateway_id": IGW,
    "security_group_ids": {"api": GROUP},
    "endpoints": [],
    "managed": True,
}


def expect_creation(wire: Wire) -> None:
    """Every call of a new network, exactly."""
    wire.expect(
        "ec2:CreateVpc", {"CidrBlock": "10.0.0.0/16", "TagSpecifications": specification("vpc", tags("vpc"))}, {"Vpc": {"VpcId": VPC}}
    )
    wire.expect("ec2:DescribeVpcs", {"VpcIds": [VPC]}, {"Vpcs": [{"VpcId": VPC, "State": "available"}]})
    wire.expect("ec2:ModifyVpcAttribute", {"VpcId": VPC, "EnableDnsHostnames": {"Value": True}})
    for tier, zone, cidr, name in SUBNETS:
        request: Api = {"VpcId": VPC, "AvailabilityZone": zone, "CidrBlock": cidr}
        request["TagSpecifications"] = specification("subnet", subnet_tags(tier, zone))
        wire.expect("ec2:CreateSubnet", request, {"Subnet": {"SubnetId": name}})
    gateway = {"TagSpecifications": specification("internet-gateway", tags("internet-gateway"))}
    wire.expect("ec2:CreateInternetGateway", gateway, {"InternetGateway": {"InternetGatewayId": IGW}})
    wire.expect("ec2:AttachInternetGateway", {"InternetGatewayId": IGW, "VpcId": VPC})
    address = {"Domain": "vpc", "TagSpecifications": specification("elastic-ip", zone_tags("nat-address", "us-west-2a"))}
    wire.expect("ec2:AllocateAddress", address, {"AllocationId": EIP, "PublicIp": "192.0.2.1"})
    nat: Api = {"SubnetId": "subnet-ua", "AllocationId": EIP, "ConnectivityType": "public"}
    nat["TagSpecifications"] = specification("natgateway", zone_tags("nat-gateway", "us-west-2a"))
    wire.expect("ec2:CreateNatGateway", nat, {"NatGateway": {"NatGatewayId": NAT}})
    expect_table(wire, "rtb-public", tags("public-route-table", "public"))
    expect_route(wire, "rtb-public", GatewayId=IGW)
    wire.expect("ec2:AssociateRouteTable", {"SubnetId": "subnet-ua", "RouteTableId": "rtb-public"})
    wire.expect("ec2:AssociateRouteTable", {"SubnetId": "subnet-ub", "RouteTableId": "rtb-public"})
    for index, (zone, subnet) in enumerate((("us-west-2a", "subnet-pa"), ("us-west-2b", "subnet-pb"))):
        expect_table(wire, PRIVATE_TABLES[zone], zone_tags("private-route-table", zone, "private"))
        if not index:
            for state in ("pending", "available"):
                wire.expect("ec2:DescribeNatGateways", {"NatGatewayIds": [NAT]}, {"NatGateways": [{"NatGatewayId": NAT, "State": state}]})
        expect_route(wire, PRIVATE_TABLES[zone], NatGatewayId=NAT)
        wire.expect("ec2:AssociateRouteTable", {"SubnetId": subnet, "RouteTableId": PRIVATE_TABLES[zone]})
    group: Api = {"GroupName": "demo-api", "Description": "Who may reach the Kubernetes API of the EKS cluster demo", "VpcId": VPC}
    group["TagSpecifications"] = specification("security-group", tags("api-security-group", "api"))
    wire.expect("ec2:CreateSecurityGroup", group, {"GroupId": GROUP})
    wire.expect("ec2:AuthorizeSecurityGroupIngress", {"GroupId": GROUP, "IpPermissions": [PERMISSION]})


def expect_table(wire: Wire, name: str, table_tags: list[Api]) -> None:
    request = {"VpcId": VPC, "TagSpecifications": specification("route-table", table_tags)}
    wire.expect("ec2:CreateRouteTable", request, {"RouteTable": {"RouteTableId": name}})


def expect_route(wire: Wire, name: str, **to: str) -> None:
    wire.expect("ec2:CreateRoute", {"RouteTableId": name, "DestinationCidrBlock": "0.0.0.0/0", **to})


def test_a_new_network(wire: Wire) -> None:
    nothing().expect(wire, first=True)
    expect_zones(wire)
    expect_creation(wire)
    World().expect(wire)
    result = wire.run(main, PARAMS)
    assert result["changed"]
    assert result["network"] == NETWORK
    assert len(result["plan"]) == 22
    assert result["progress"] == [
        "DescribeVpcs vpc-1: available",
        "DescribeNatGateways nat-1: pending",
        "DescribeNatGateways nat-1: available",
    ]


def test_check_mode_on_an_empty_account_shows_the_calls_of_the_run_after_it(wire: Wire) -> None:
    nothing().expect(wire, first=True)
    expect_zones(wire)
    result = wire.run(main, PARAMS, check_mode=True)
    assert result["changed"]
    assert result["network"]["vpc_id"] == "planned:vpc/demo"
    assert result["network"]["private_subnet_ids"][1] == "planned:subnet/demo-private-us-west-2b"
    assert [subnet["cidr_block"] for subnet in result["network"]["subnets"]] == [cidr for _unused, _unused, cidr, _unused in SUBNETS]
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"]["vpc"]["cidr_block"] == "10.0.0.0/16"
    assert [step["action"] for step in result["plan"]][:3] == ["ec2:CreateVpc", "ec2:ModifyVpcAttribute", "ec2:CreateSubnet"]
    assert len(result["plan"]) == 22


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_second_run_reads_once_and_writes_nothing(wire: Wire, check_mode: bool) -> None:
    World().expect(wire, first=True)
    result = wire.run(main, PARAMS, check_mode=check_mode)
    assert not result["changed"]
    assert result["plan"] == []
    assert result["network"] == NETWORK
    assert result["diff"]["before"] == result["diff"]["after"]


def test_a_half_made_network_is_completed(wire: Wire) -> None:
    world = World()
    world.hostnames = False
    world.subnets = world.subnets[:3]
    world.gateways[0]["Attachments"] = []
    world.nats = []
    world.tables = [world.tables[0], table("rtb-public", tags("public-route-table", "public"), ["subnet-ua"])]
    world.groups[0]["IpPermissions"] = []
    world.expect(wire, first=True)
    wire.expect("ec2:ModifyVpcAttribute", {"VpcId": VPC, "EnableDnsHostnames": {"Value": True}})
    tier, zone, cidr, name = SUBNETS[3]
    request = {
        "VpcId": VPC,
        "AvailabilityZone": zone,
        "CidrBlock": cidr,
        "TagSpecifications": specification("subnet", subnet_tags(tier, zone)),
    }
    wire.expect("ec2:CreateSubnet", request, {"Subnet": {"SubnetId": name}})
    wire.expect("ec2:AttachInternetGateway", {"InternetGatewayId": IGW, "VpcId": VPC})
    nat: Api = {"SubnetId": "subnet-ua", "AllocationId": EIP, "ConnectivityType": "public"}
    nat["TagSpecifications"] = specification("natgateway", zone_tags("nat-gateway", "us-west-2a"))
    wire.expect("ec2:CreateNatGateway", nat, {"NatGateway": {"NatGatewayId": NAT}})
    expect_route(wire, "rtb-public", GatewayId=IGW)
    wire.expect("ec2:AssociateRouteTable", {"SubnetId": "subnet-ub", "RouteTableId": "rtb-public"})
    expect_table(wire, "rtb-a", zone_tags("private-route-table", "us-west-2a", "private"))
    wire.expect("ec2:DescribeNatGateways", {"NatGatewayIds": [NAT]}, {"NatGateways": [{"NatGatewayId": NAT, "State": "available"}]})
    expect_route(wire, "rtb-a", NatGatewayId=NAT)
    wire.expect("ec2:AssociateRouteTable", {"SubnetId": "subnet-pa", "RouteTableId": "rtb-a"})
    expect_table(wire, "rtb-b", zone_tags("private-route-table", "us-west-2b", "private"))
    expect_route(wire, "rtb-b", NatGatewayId=NAT)
    wire.expect("ec2:AssociateRouteTable", {"SubnetId": "subnet-pb", "RouteTableId": "rtb-b"})
    wire.expect("ec2:AuthorizeSecurityGroupIngress", {"GroupId": GROUP, "IpPermissions": [PERMISSION]})
    World().expect(wire)
    assert wire.run(main, PARAMS)["network"] == NETWORK


@pytest.mark.parametrize("visible", ["no VPC yet", "no subnets and groups yet"])
def test_what_the_last_read_does_not_show_yet_has_the_ids_that_its_creation_returned(wire: Wire, visible: str) -> None:
    nothing().expect(wire, first=True)
    expect_zones(wire)
    expect_creation(wire)
    late = nothing()
    if visible == "no subnets and groups yet":
        late = World()
        late.subnets, late.groups, late.tables = [], [], []
    late.expect(wire)
    network = wire.run(main, PARAMS)["network"]
    ids = ("vpc_id", "private_subnet_ids", "public_subnet_ids", "subnets", "internet_gateway_id", "security_group_ids")
    assert {name: network[name] for name in ids} == {name: NETWORK[name] for name in ids}
    assert [nat["id"] for nat in network["nat_gateways"]] == [NAT]


def test_a_nat_gateway_in_the_making_is_waited_for(wire: Wire) -> None:
    pending = World()
    pending.nats[0]["State"] = "pending"
    pending.expect(wire, first=True)
    wire.expect("ec2:DescribeNatGateways", {"NatGatewayIds": [NAT]}, {"NatGateways": [{"NatGatewayId": NAT, "State": "available"}]})
    World().expect(wire)
    result = wire.run(main, PARAMS)
    assert not result["changed"]
    assert result["progress"] == ["DescribeNatGateways nat-1: available"]


def test_a_change_of_nat_and_tags(wire: Wire) -> None:
    World().expect(wire, first=True)
    for name in ("rtb-a", "rtb-b"):
        wire.expect("ec2:DeleteRoute", {"RouteTableId": name, "DestinationCidrBlock": "0.0.0.0/0"})
    wire.expect("ec2:DeleteNatGateway", {"NatGatewayId": NAT})
    wire.expect("ec2:DescribeNatGateways", {"NatGatewayIds": [NAT]}, {"NatGateways": [{"NatGatewayId": NAT, "State": "deleted"}]})
    wire.expect("ec2:ReleaseAddress", {"AllocationId": EIP})
    resources = [VPC, "subnet-pa", "subnet-pb", "subnet-ua", "subnet-ub", IGW, "rtb-public", "rtb-a", "rtb-b", GROUP]
    for resource in resources:
        wire.expect("ec2:CreateTags", {"Resources": [resource], "Tags": [{"Key": "team", "Value": "ml"}]})
    world = World()
    world.nats = []
    world.expect(wire)
    result = wire.run(main, {**PARAMS, "nat": "none", "tags": {"team": "ml"}})
    assert result["network"]["nat_gateways"] == []


def test_the_module_refuses_bad_form_before_any_client(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise AssertionError("bad input must not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    bad = {
        "cidr": "10.0.0.0/8",
        "zone_count": "many",
        "nat": "double",
        "private_subnet_prefix": 30,
        "api_access_cidrs": ["all"],
        "tagz": {},
    }
    result = wire.run(main, {"cluster_name": "de mo", **bad})
    assert result["failed"]
    assert {fault["path"] for fault in result["faults"]} == {
        "cluster_name",
        "cidr",
        "zone_count",
        "nat",
        "private_subnet_prefix",
        "api_access_cidrs[0]",
        "tagz",
    }


def test_faults_of_the_account_come_after_reads_and_all_at_once(wire: Wire) -> None:
    World().expect(wire, first=True)
    expect_zones(wire)
    result = wire.run(main, {**PARAMS, "zones": ["us-west-2a", "us-west-2z"], "cidr": "10.1.0.0/16", "private_subnet_prefix": 22})
    assert result["failed"]
    assert [fault["path"] for fault in result["faults"]] == ["zones[1]", "cidr", "private_subnet_prefix"]
    assert "us-west-2a (usw2-az2), us-west-2b (usw2-az1)" in result["msg"]


def test_two_networks_with_one_mark_are_refused(wire: Wire) -> None:
    world = World()
    second = {**world.vpcs[0], "VpcId": "vpc-2"}
    wire.expect("ec2:DescribeVpcs", {"Filters": ANY_ACCOUNT}, {"Vpcs": [*world.vpcs, second]})
    wire.expect("ec2:DescribeInternetGateways", {"Filters": MARKED}, {"InternetGateways": []})
    wire.expect("ec2:DescribeAddresses", {"Filters": MARKED}, {"Addresses": []})
    result = wire.run(main, PARAMS)
    assert "Several VPCs carry the mark" in result["msg"]
    assert "vpc-1, vpc-2" in result["msg"]


def test_a_refusal_half_way_says_how_far_the_run_came(wire: Wire) -> None:
    world = nothing()
    world.gateways, world.addresses = World().gateways, World().addresses
    world.expect(wire, first=True)
    expect_zones(wire)
    request = {"CidrBlock": "10.0.0.0/16", "TagSpecifications": specification("vpc", tags("vpc"))}
    wire.expect_error("ec2:CreateVpc", request, "VpcLimitExceeded", "The maximum number of VPCs has been reached.")
    result = wire.run(main, PARAMS)
    assert "ec2:CreateVpc: VpcLimitExceeded: The maximum number of VPCs has been reached." in result["msg"]
    assert "Ask for more VPCs" in result["msg"]
    assert result["steps_done"] == 0


def expect_deletion(wire: Wire, *, until: str = "") -> None:
    wire.expect("ec2:DeleteNetworkInterface", {"NetworkInterfaceId": "eni-left"})
    wire.expect("ec2:DeleteNatGateway", {"NatGatewayId": NAT})
    for state in ("deleting", "deleted"):
        wire.expect("ec2:DescribeNatGateways", {"NatGatewayIds": [NAT]}, {"NatGateways": [{"NatGatewayId": NAT, "State": state}]})
    wire.expect("ec2:ReleaseAddress", {"AllocationId": EIP})
    for subnet in ("subnet-ua", "subnet-ub", "subnet-pa", "subnet-pb"):
        wire.expect("ec2:DisassociateRouteTable", {"AssociationId": f"rtbassoc-{subnet}"})
    if until == "subnets":
        return
    for subnet in ("subnet-pa", "subnet-pb", "subnet-ua", "subnet-ub"):
        wire.expect("ec2:DeleteSubnet", {"SubnetId": subnet})
    for name in ("rtb-public", "rtb-a", "rtb-b"):
        wire.expect("ec2:DeleteRouteTable", {"RouteTableId": name})
    wire.expect("ec2:DetachInternetGateway", {"InternetGatewayId": IGW, "VpcId": VPC})
    wire.expect("ec2:DeleteInternetGateway", {"InternetGatewayId": IGW})
    wire.expect("ec2:DeleteSecurityGroup", {"GroupId": GROUP})
    wire.expect("ec2:DeleteVpc", {"VpcId": VPC})


LEFT = {"NetworkInterfaceId": "eni-left", "Status": "available", "Description": "aws-K8S-i-0123"}
OF_NAT = {"NetworkInterfaceId": "eni-nat", "Status": "in-use", "Description": "Interface for NAT Gateway nat-1"}
OF_OTHERS = {"NetworkInterfaceId": "eni-db", "Status": "in-use", "Description": "RDSNetworkInterface"}


def test_the_whole_network_goes(wire: Wire) -> None:
    world = World()
    world.interfaces = [LEFT, OF_NAT]
    world.expect(wire, first=True)
    expect_deletion(wire)
    result = wire.run(main, {**PARAMS, "state": "absent"})
    assert result["changed"]
    assert result["network"] is None
    assert {step["effect"] for step in result["plan"]} == {"delete"}


def test_nothing_goes_while_something_else_is_in_the_vpc(wire: Wire) -> None:
    world = World()
    world.interfaces = [LEFT, OF_NAT, OF_OTHERS]
    world.expect(wire, first=True)
    result = wire.run(main, {**PARAMS, "state": "absent"})
    assert result["failed"]
    assert "eni-db (RDSNetworkInterface)" in result["msg"]
    assert "eni-left" not in result["msg"]
    assert "Nothing was deleted" in result["msg"]


def test_a_dependency_violation_says_what_is_still_there(wire: Wire) -> None:
    world = World()
    world.interfaces = [LEFT, OF_NAT]
    world.expect(wire, first=True)
    expect_deletion(wire, until="subnets")
    wire.expect_error("ec2:DeleteSubnet", {"SubnetId": "subnet-pa"}, "DependencyViolation", "The subnet 'subnet-pa' has dependencies")
    wire.expect("ec2:DescribeNetworkInterfaces", INSIDE, {"NetworkInterfaces": [OF_NAT, OF_OTHERS]})
    result = wire.run(main, {**PARAMS, "state": "absent"})
    assert result["failed"]
    assert "ec2:DeleteSubnet: DependencyViolation" in result["msg"]
    assert "eni-db (RDSNetworkInterface)" in result["msg"]
    assert "eni-nat" not in result["msg"]


def test_what_is_gone_stays_gone(wire: Wire) -> None:
    nothing().expect(wire, first=True)
    result = wire.run(main, {**PARAMS, "state": "absent"})
    assert not result["changed"]
    assert result["network"] is None


def test_deletion_in_check_mode_only_says_what_would_go(wire: Wire) -> None:
    world = World()
    world.interfaces = [OF_NAT]
    world.expect(wire, first=True)
    result = wire.run(main, {**PARAMS, "state": "absent"}, check_mode=True)
    assert result["changed"]
    assert len(result["plan"]) == 17
    assert result["plan"][-1]["action"] == "ec2:DeleteVpc"
