# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VPC endpoints, further address ranges of a VPC, and addresses that are left in a subnet.

Sources: API reference of EC2 (CreateVpcEndpoint, ModifyVpcEndpoint, DeleteVpcEndpoints, DescribeVpcEndpointServices, AssociateVpcCidrBlock,
DisassociateVpcCidrBlock, Subnet) with its error codes; AWS PrivateLink guide; Amazon VPC User Guide, VPC CIDR blocks.
"""

from __future__ import annotations

import ipaddress
import typing as t
from dataclasses import dataclass

import pytest

from tests.lab.conftest import REGION, Aws, refused

EC2, S3 = f"com.amazonaws.{REGION}.ec2", f"com.amazonaws.{REGION}.s3"
NO_EGRESS = (
    *("autoscaling", "ec2", "ec2messages", "ecr.api", "ecr.dkr", "eks", "eks-auth", "elasticloadbalancing", "kms", "logs"),
    *("monitoring", "sqs", "ssm", "ssmmessages", "sts"),
)


@dataclass
class Network:
    """A VPC with DNS names, a subnet in each of four zones, and a group for endpoints."""

    ec2: t.Any
    vpc_id: str
    subnets: list[str]
    group: str

    def interface(self, **changes: t.Any) -> dict[str, t.Any]:
        request = {
            "VpcId": self.vpc_id,
            "ServiceName": EC2,
            "VpcEndpointType": "Interface",
            "SubnetIds": self.subnets[:2],
            "SecurityGroupIds": [self.group],
            **changes,
        }
        return t.cast(dict[str, t.Any], self.ec2.create_vpc_endpoint(**request)["VpcEndpoint"])

    def describe(self, endpoint_id: str) -> dict[str, t.Any]:
        return t.cast(dict[str, t.Any], self.ec2.describe_vpc_endpoints(VpcEndpointIds=[endpoint_id])["VpcEndpoints"][0])

    def free(self, subnet_id: str) -> int:
        return int(self.ec2.describe_subnets(SubnetIds=[subnet_id])["Subnets"][0]["AvailableIpAddressCount"])


@pytest.fixture
def network(aws: Aws) -> Network:
    vpc_id, subnets = aws.subnets("abcd")
    ec2 = aws.client("ec2")
    ec2.modify_vpc_attribute(VpcId=vpc_id, EnableDnsHostnames={"Value": True})
    return Network(ec2, vpc_id, subnets, ec2.create_security_group(GroupName="endpoints", Description="443", VpcId=vpc_id)["GroupId"])


def test_an_interface_endpoint(aws: Aws, network: Network) -> None:
    """Pending, then available; an interface of its groups in each subnet, with an address from there; names for all, each zone, and the service."""
    tags = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "owner", "Value": "me"}]}]
    made = network.interface(TagSpecifications=tags)
    assert (made["State"], made["PrivateDnsEnabled"]) == ("pending", True)
    aws.pass_time()
    endpoint = network.describe(made["VpcEndpointId"])
    assert (endpoint["State"], endpoint["VpcEndpointType"], endpoint["ServiceName"]) == ("available", "Interface", EC2)
    assert endpoint["SubnetIds"] == network.subnets[:2]
    assert endpoint["Groups"] == [{"GroupId": network.group, "GroupName": "endpoints"}]
    names = [entry["DnsName"] for entry in endpoint["DnsEntries"]]
    assert names[0].startswith(endpoint["VpcEndpointId"])
    assert names[0].endswith(f".ec2.{REGION}.vpce.amazonaws.com")
    assert f"-{REGION}b.ec2." in names[2]
    assert names[-1] == f"ec2.{REGION}.amazonaws.com"
    interfaces = network.ec2.describe_network_interfaces(NetworkInterfaceIds=endpoint["NetworkInterfaceIds"])["NetworkInterfaces"]
    assert [interface["SubnetId"] for interface in interfaces] == network.subnets[:2]
    for number, interface in enumerate(interfaces):
        assert ipaddress.ip_address(interface["PrivateIpAddress"]) in ipaddress.ip_network(f"10.0.{number}.0/24")
        assert (interface["Status"], interface["InterfaceType"], interface["RequesterManaged"]) == ("in-use", "vpc_endpoint", True)
        assert interface["Groups"][0]["GroupId"] == network.group
        assert interface["Description"] == f"VPC Endpoint Interface {endpoint['VpcEndpointId']}"
    filters = [{"Name": "tag:owner", "Values": ["me"]}, {"Name": "vpc-endpoint-state", "Values": ["available"]}]
    assert len(network.ec2.describe_vpc_endpoints(Filters=filters)["VpcEndpoints"]) == 1


def test_an_endpoint_goes_slowly(aws: Aws, network: Network) -> None:
    """Until it is gone its interfaces hold subnet, group and VPC; then it is not found."""
    endpoint_id = network.interface()["VpcEndpointId"]
    aws.pass_time()
    answer = network.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id, "vpce-0"])
    assert [(item["ResourceId"], item["Error"]["Code"]) for item in answer["Unsuccessful"]] == [("vpce-0", "InvalidVpcEndpoint.NotFound")]
    assert network.describe(endpoint_id)["State"] == "deleting"
    assert network.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint_id])["Unsuccessful"] == []
    assert refused(network.ec2.delete_subnet, SubnetId=network.subnets[0])[0] == "DependencyViolation"
    assert refused(network.ec2.delete_security_group, GroupId=network.group)[0] == "DependencyViolation"
    assert refused(network.ec2.delete_vpc, VpcId=network.vpc_id)[0] == "DependencyViolation"
    aws.pass_time()
    assert refused(network.ec2.describe_vpc_endpoints, VpcEndpointIds=[endpoint_id])[0] == "InvalidVpcEndpointId.NotFound"
    network.ec2.delete_security_group(GroupId=network.group)
    for subnet in network.subnets:
        network.ec2.delete_subnet(SubnetId=subnet)
    network.ec2.delete_vpc(VpcId=network.vpc_id)


def test_an_endpoint_is_modified(aws: Aws, network: Network) -> None:
    """API ModifyVpcEndpoint: interfaces follow subnets and groups; private DNS; not while it is pending."""
    endpoint_id = network.interface(PrivateDnsEnabled=False)["VpcEndpointId"]
    change = {"VpcEndpointId": endpoint_id, "AddSubnetIds": network.subnets[2:3], "RemoveSubnetIds": network.subnets[:1]}
    assert refused(network.ec2.modify_vpc_endpoint, **change)[0] == "IncorrectState"
    aws.pass_time()
    other = network.ec2.create_security_group(GroupName="other", Description="other", VpcId=network.vpc_id)["GroupId"]
    groups = {"AddSecurityGroupIds": [other], "RemoveSecurityGroupIds": [network.group]}
    network.ec2.modify_vpc_endpoint(**change, **groups, PrivateDnsEnabled=True)
    endpoint = network.describe(endpoint_id)
    assert endpoint["SubnetIds"] == network.subnets[1:3]
    assert [group["GroupId"] for group in endpoint["Groups"]] == [other]
    assert endpoint["PrivateDnsEnabled"] is True
    in_vpc = network.ec2.describe_network_interfaces(Filters=[{"Name": "vpc-id", "Values": [network.vpc_id]}])["NetworkInterfaces"]
    assert {interface["NetworkInterfaceId"] for interface in in_vpc} == set(endpoint["NetworkInterfaceIds"])
    assert {interface["Groups"][0]["GroupId"] for interface in in_vpc} == {other}
    network.ec2.delete_security_group(GroupId=network.group)


def test_a_gateway_endpoint(aws: Aws, network: Network) -> None:
    """The default type: available at once, a route in each table, which goes with it; a second one in a table is refused."""
    tables = [network.ec2.create_route_table(VpcId=network.vpc_id)["RouteTable"]["RouteTableId"] for _unused in range(2)]

    def routed() -> list[str]:
        found = network.ec2.describe_route_tables(RouteTableIds=tables)["RouteTables"]
        return [item["RouteTableId"] for item in found for route in item["Routes"] if route.get("DestinationPrefixListId")]

    made = network.ec2.create_vpc_endpoint(VpcId=network.vpc_id, ServiceName=S3, RouteTableIds=tables[:1])["VpcEndpoint"]
    assert (made["VpcEndpointType"], made["State"], made["PrivateDnsEnabled"]) == ("Gateway", "available", False)
    assert routed() == tables[:1]
    again = {"VpcId": network.vpc_id, "ServiceName": S3, "RouteTableIds": tables[:1]}
    assert refused(network.ec2.create_vpc_endpoint, **again)[0] == "RouteAlreadyExists"
    change = {"AddRouteTableIds": tables[1:], "RemoveRouteTableIds": tables[:1]}
    network.ec2.modify_vpc_endpoint(VpcEndpointId=made["VpcEndpointId"], **change)
    assert routed() == tables[1:]
    assert network.describe(made["VpcEndpointId"])["RouteTableIds"] == tables[1:]
    network.ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])
    assert routed() == []
    aws.pass_time()
    assert network.ec2.describe_vpc_endpoints()["VpcEndpoints"] == []


def test_what_an_endpoint_needs(network: Network) -> None:
    """Errors of CreateVpcEndpoint."""
    other_vpc = network.ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]["VpcId"]
    elsewhere = network.ec2.create_subnet(VpcId=other_vpc, CidrBlock="10.8.0.0/24")["Subnet"]["SubnetId"]
    twin = network.ec2.create_subnet(VpcId=network.vpc_id, CidrBlock="10.0.9.0/24", AvailabilityZone=f"{REGION}a")["Subnet"]["SubnetId"]
    cases: list[tuple[dict[str, t.Any], str]] = [
        ({"ServiceName": f"com.amazonaws.{REGION}.weather"}, "InvalidServiceName"),
        ({"VpcEndpointType": "Gateway", "SubnetIds": [], "SecurityGroupIds": []}, "InvalidParameter"),
        ({"SubnetIds": [network.subnets[0], twin]}, "DuplicateSubnetsInSameZone"),
        ({"SubnetIds": [elsewhere]}, "InvalidParameter"),
        ({"SecurityGroupIds": ["sg-0"]}, "InvalidGroup.NotFound"),
        ({"VpcId": "vpc-0"}, "InvalidVpcID.NotFound"),
        ({"VpcId": other_vpc, "SubnetIds": [elsewhere], "SecurityGroupIds": []}, "InvalidParameter"),  # no DNS host names there
        ({"ServiceName": f"com.amazonaws.{REGION}.eks-auth", "SubnetIds": network.subnets[3:]}, "InvalidParameter"),
    ]
    for changes, code in cases:
        assert refused(network.interface, **changes)[0] == code, changes
    network.interface()
    code, message = refused(network.interface, SubnetIds=network.subnets[2:3])
    assert (code, "conflicting DNS domain" in message) == ("InvalidParameter", True)
    network.interface(PrivateDnsEnabled=False)


@pytest.mark.parametrize("service", NO_EGRESS)
def test_services_of_a_cluster_without_egress(aws: Aws, service: str) -> None:
    """API ServiceDetail: type, zones, private name; found by name and by filter."""
    name = f"com.amazonaws.{REGION}.{service}"
    ec2 = aws.client("ec2")
    (found,) = ec2.describe_vpc_endpoint_services(ServiceNames=[name])["ServiceDetails"]
    assert [item["ServiceType"] for item in found["ServiceType"]] == ["Interface"]
    assert set(found["AvailabilityZones"]) >= {f"{REGION}{letter}" for letter in "abc"}
    assert (f"{REGION}d" in found["AvailabilityZones"]) is (service != "eks-auth")
    assert found["PrivateDnsName"].endswith(f"{REGION}.amazonaws.com")
    filters = [{"Name": "service-name", "Values": [name]}]
    assert ec2.describe_vpc_endpoint_services(Filters=filters)["ServiceDetails"] == [found]


def test_services_with_gateways(aws: Aws) -> None:
    """S3 has both types, DynamoDB (in moto) the gateway alone; unknown services are an error."""
    ec2 = aws.client("ec2")
    filters = [{"Name": "service-type", "Values": ["Gateway"]}]
    names = {item["ServiceName"].rpartition(".")[2] for item in ec2.describe_vpc_endpoint_services(Filters=filters)["ServiceDetails"]}
    assert names == {"s3", "dynamodb"}
    assert refused(ec2.describe_vpc_endpoint_services, ServiceNames=["com.amazonaws.weather"])[0] == "InvalidServiceName"


@pytest.mark.parametrize(
    ("primary", "block", "allowed"),
    [
        ("10.0.0.0/16", "100.64.0.0/16", True),
        ("10.0.0.0/16", "10.1.0.0/16", True),
        ("10.0.0.0/16", "10.0.128.0/20", False),
        ("10.0.0.0/16", "172.16.0.0/16", False),
        ("10.0.0.0/16", "192.168.0.0/24", False),
        ("10.0.0.0/16", "198.19.0.0/24", False),
        ("10.0.0.0/16", "100.64.0.0/10", False),
        ("10.0.0.0/16", "100.64.0.0/29", False),
        ("10.0.0.0/16", "100.64.0.1/16", False),
        ("172.20.0.0/16", "172.21.0.0/16", True),
        ("172.20.0.0/16", "10.0.0.0/16", False),
        ("100.64.0.0/16", "10.0.0.0/16", False),
    ],
)
def test_further_ranges(aws: Aws, primary: str, block: str, allowed: bool) -> None:
    """VPC User Guide, IPv4 CIDR block association restrictions: /16 to /28, no overlap, no other private range."""
    ec2 = aws.client("ec2")
    vpc_id = ec2.create_vpc(CidrBlock=primary)["Vpc"]["VpcId"]
    if not allowed:
        code = "InvalidParameterValue" if block == "100.64.0.1/16" else "InvalidVpc.Range"
        assert refused(ec2.associate_vpc_cidr_block, VpcId=vpc_id, CidrBlock=block)[0] == code
        return
    ec2.associate_vpc_cidr_block(VpcId=vpc_id, CidrBlock=block)
    (vpc,) = ec2.describe_vpcs(VpcIds=[vpc_id])["Vpcs"]
    states = {item["CidrBlock"]: item["CidrBlockState"]["State"] for item in vpc["CidrBlockAssociationSet"]}
    assert states == {primary: "associated", block: "associated"}
    assert refused(ec2.associate_vpc_cidr_block, VpcId=vpc_id, CidrBlock=block)[0] == "InvalidVpc.Range"


def test_a_further_range_goes_when_it_is_empty(aws: Aws) -> None:
    """API DisassociateVpcCidrBlock: not the primary one, not one with subnets."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]
    made = ec2.associate_vpc_cidr_block(VpcId=vpc["VpcId"], CidrBlock="100.64.0.0/16")["CidrBlockAssociation"]
    subnet = ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="100.64.1.0/24")["Subnet"]["SubnetId"]
    primary = vpc["CidrBlockAssociationSet"][0]["AssociationId"]
    assert refused(ec2.disassociate_vpc_cidr_block, AssociationId=primary)[0] == "OperationNotPermitted"
    assert refused(ec2.disassociate_vpc_cidr_block, AssociationId=made["AssociationId"])[0] == "InvalidCidrBlock.InUse"
    ec2.delete_subnet(SubnetId=subnet)
    ec2.disassociate_vpc_cidr_block(AssociationId=made["AssociationId"])
    ec2.associate_vpc_cidr_block(VpcId=vpc["VpcId"], CidrBlock="100.64.0.0/16")


def test_addresses_run_out(network: Network) -> None:
    """API Subnet AvailableIpAddressCount: of a /28, 11 are free; each interface takes one; then InsufficientFreeAddressesInSubnet."""
    small = network.ec2.create_subnet(VpcId=network.vpc_id, CidrBlock="10.0.9.0/28", AvailabilityZone=f"{REGION}a")["Subnet"]["SubnetId"]
    assert network.free(small) == 11
    network.interface(SubnetIds=[small])
    network.ec2.create_nat_gateway(SubnetId=small, ConnectivityType="private")
    run: dict[str, t.Any] = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "m5.large", "SubnetId": small, "MaxCount": 10}
    assert network.free(small) == 9
    assert refused(network.ec2.run_instances, **run, MinCount=10)[0] == "InsufficientFreeAddressesInSubnet"
    for _unused in range(9):
        network.ec2.create_network_interface(SubnetId=small)
    assert network.free(small) == 0
    assert refused(network.ec2.create_network_interface, SubnetId=small)[0] == "InsufficientFreeAddressesInSubnet"
    assert refused(network.interface, SubnetIds=[small], PrivateDnsEnabled=False)[0] == "InsufficientFreeAddressesInSubnet"


def test_a_group_without_addresses(aws: Aws, network: Network) -> None:
    """The scaling activity says so."""
    small = network.ec2.create_subnet(VpcId=network.vpc_id, CidrBlock="10.0.9.0/28", AvailabilityZone=f"{REGION}a")["Subnet"]["SubnetId"]
    for _unused in range(10):
        network.ec2.create_network_interface(SubnetId=small)
    network.ec2.create_launch_template(
        LaunchTemplateName="own", LaunchTemplateData={"ImageId": "ami-0123456789abcdef0", "InstanceType": "m5.large"}
    )
    autoscaling = aws.client("autoscaling")
    template = {"LaunchTemplateName": "own", "Version": "$Latest"}
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="own", VPCZoneIdentifier=small, LaunchTemplate=template, MinSize=0, MaxSize=3, DesiredCapacity=2
    )
    activities = autoscaling.describe_scaling_activities(AutoScalingGroupName="own")["Activities"]
    assert [activity["StatusCode"] for activity in activities] == ["Failed", "Successful"]
    assert f"not enough free addresses in subnet '{small}'" in activities[0]["StatusMessage"]
