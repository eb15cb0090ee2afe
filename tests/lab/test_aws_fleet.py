# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instant fleets: which override is launched, what is told of those that are not; spot prices.

Sources: API CreateFleet; EC2 User Guide, "Use allocation strategies to determine how EC2 Fleet or Spot Fleet fulfills Spot and On-Demand
capacity"; API DescribeSpotPriceHistory. That spot costs 35 % of On-Demand is the lab's own.
"""

from __future__ import annotations

import typing as t

import pytest
from botocore.exceptions import ClientError

from .conftest import Aws

G4, G5, G6 = "g4dn.xlarge", "g5.xlarge", "g6.xlarge"


@pytest.fixture
def network(aws: Aws) -> dict[str, t.Any]:
    """A VPC with a subnet in two zones, a group, and a template that has it."""
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = {
        zone: ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{index}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        for index, zone in enumerate(("us-west-2a", "us-west-2b"))
    }
    group = ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc)["GroupId"]
    image = ec2.register_image(Name="gpu", Architecture="x86_64", RootDeviceName="/dev/xvda")["ImageId"]
    data = {"ImageId": image, "SecurityGroupIds": [group], "UserData": "aGVsbG8="}
    ec2.create_launch_template(LaunchTemplateName="nodes", LaunchTemplateData=data)
    return {"subnets": subnets, "group": group}


def fleet(aws: Aws, network: dict[str, t.Any], types: list[str], *, kind: str = "on-demand", count: int = 1, **more: t.Any) -> t.Any:
    overrides = [{"InstanceType": name, "SubnetId": subnet} for name in types for subnet in network["subnets"].values()]
    request = {
        "Type": "instant",
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": {"LaunchTemplateName": "nodes", "Version": "$Latest"}, "Overrides": overrides}
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": kind},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "karpenter.sh/nodepool", "Value": "gpu"}]}],
    }
    return aws.client("ec2").create_fleet(**(request | more))


def instances(aws: Aws) -> list[t.Any]:
    reservations = aws.client("ec2").describe_instances()["Reservations"]
    return [instance for reservation in reservations for instance in reservation["Instances"]]


@pytest.mark.parametrize("kind", ["on-demand", "spot"])
def test_the_cheapest_type_is_launched(aws: Aws, network: dict[str, t.Any], kind: str) -> None:
    answer = fleet(aws, network, [G5, G6, G4], kind=kind)
    [launched] = answer["Instances"]
    assert launched["InstanceType"] == G4
    assert launched["Lifecycle"] == kind
    assert launched["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] == "us-west-2a"
    assert answer.get("Errors", []) == []
    [instance] = instances(aws)
    assert launched["InstanceIds"] == [instance["InstanceId"]]
    assert instance.get("InstanceLifecycle") == (kind if kind == "spot" else None)
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [network["group"]]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags["karpenter.sh/nodepool"] == "gpu"
    assert tags["aws:ec2:fleet-id"] == answer["FleetId"]


def test_groups_of_the_primary_interface_are_the_instances(aws: Aws, network: dict[str, t.Any]) -> None:
    """API Instance, SecurityGroups; Karpenter names the groups at the interface alone."""
    interface = {"DeviceIndex": 0, "Groups": [network["group"]]}
    image = aws.client("ec2").describe_launch_template_versions(LaunchTemplateName="nodes")["LaunchTemplateVersions"][0]
    data = {"ImageId": image["LaunchTemplateData"]["ImageId"], "NetworkInterfaces": [interface]}
    aws.client("ec2").create_launch_template(LaunchTemplateName="interfaces", LaunchTemplateData=data)
    overrides = [{"InstanceType": G4, "SubnetId": network["subnets"]["us-west-2b"]}]
    template = {"LaunchTemplateName": "interfaces", "Version": "$Default"}
    fleet(aws, network, [], LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template, "Overrides": overrides}])
    [instance] = instances(aws)
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [network["group"]]
    assert instance["SubnetId"] == network["subnets"]["us-west-2b"]


def test_priorities_come_before_prices_where_the_strategy_says_so(aws: Aws, network: dict[str, t.Any]) -> None:
    subnet = network["subnets"]["us-west-2a"]
    overrides = [{"InstanceType": name, "SubnetId": subnet, "Priority": number} for number, name in enumerate((G5, G4), start=1)]
    configs = [{"LaunchTemplateSpecification": {"LaunchTemplateName": "nodes", "Version": "1"}, "Overrides": overrides}]
    answer = fleet(aws, network, [], LaunchTemplateConfigs=configs, OnDemandOptions={"AllocationStrategy": "prioritized"})
    assert answer["Instances"][0]["InstanceType"] == G5


def test_what_lacks_capacity_is_told_and_the_next_is_launched(aws: Aws, network: dict[str, t.Any]) -> None:
    aws.server.faults.add({"kind": "capacity", "instance_type": G4, "zone": "us-west-2a"})
    answer = fleet(aws, network, [G4, G5], kind="spot", count=2)
    [launched] = answer["Instances"]
    assert launched["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] == "us-west-2b"
    assert len(launched["InstanceIds"]) == 2
    [error] = answer["Errors"]
    assert error["ErrorCode"] == "InsufficientInstanceCapacity"
    assert error["Lifecycle"] == "spot"
    assert error["LaunchTemplateAndOverrides"]["Overrides"] == {
        "InstanceType": G4,
        "SubnetId": network["subnets"]["us-west-2a"],
        "AvailabilityZone": "us-west-2a",
    }


def test_nothing_is_launched_where_nothing_is_left(aws: Aws, network: dict[str, t.Any]) -> None:
    aws.server.faults.add({"kind": "capacity", "instance_type": G4})
    answer = fleet(aws, network, [G4])
    assert answer.get("Instances", []) == []
    assert {error["LaunchTemplateAndOverrides"]["Overrides"]["AvailabilityZone"] for error in answer["Errors"]} == {
        "us-west-2a",
        "us-west-2b",
    }
    assert instances(aws) == []


def test_quotas_count(aws: Aws, network: dict[str, t.Any]) -> None:
    aws.server.quotas.configure({"L-DB2E81BA": 4})
    answer = fleet(aws, network, [G4], count=2)
    assert sum(len(each["InstanceIds"]) for each in answer["Instances"]) == 1
    assert {error["ErrorCode"] for error in answer["Errors"]} == {"VcpuLimitExceeded"}


def test_a_dry_run_launches_nothing(aws: Aws, network: dict[str, t.Any]) -> None:
    with pytest.raises(ClientError, match="DryRunOperation"):
        fleet(aws, network, [G4], DryRun=True)
    assert instances(aws) == []


def test_spot_prices_are_always_the_same_part_of_on_demand(aws: Aws) -> None:
    ec2 = aws.client("ec2")
    filters = [{"Name": "availability-zone", "Values": ["us-west-2a"]}]
    found = [
        ec2.describe_spot_price_history(InstanceTypes=[G4, G5], ProductDescriptions=["Linux/UNIX"], Filters=filters)["SpotPriceHistory"]
        for _each in range(2)
    ]
    prices = [{row["InstanceType"]: row["SpotPrice"] for row in rows} for rows in found]
    assert prices[0] == prices[1] == {G4: "0.184100", G5: "0.352100"}


def test_all_spot_prices_come_in_pages(aws: Aws) -> None:
    asked = aws.client("ec2").get_paginator("describe_spot_price_history").paginate(PaginationConfig={"PageSize": 2000})
    pages = [page["SpotPriceHistory"] for page in asked]
    assert len(pages) > 1
    assert {len(page) for page in pages[:-1]} == {2000}
    keys = [(row["InstanceType"], row["AvailabilityZone"]) for page in pages for row in page]
    assert len(keys) == len(set(keys))
