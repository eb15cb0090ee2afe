# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A VPC and a cluster that somebody else made: used and changed where that was asked for, and never tagged, stripped or deleted."""

from __future__ import annotations

import json
import typing as t

import pytest

from tests.e2e.rehearsal import Play, Rehearsal

FOREIGN = {"team": "platform", "made-by": "another tool"}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


@pytest.fixture(scope="module")
def theirs(rehearsal: Rehearsal) -> dict[str, t.Any]:
    """A VPC with two private and two public subnets, and a cluster in it, all of somebody else."""
    ec2, eks, iam = rehearsal.client("ec2"), rehearsal.client("eks"), rehearsal.client("iam")
    tags = [{"Key": key, "Value": value} for key, value in FOREIGN.items()]

    def tagged(kind: str) -> list[dict[str, t.Any]]:
        return [{"ResourceType": kind, "Tags": tags}]

    vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16", TagSpecifications=tagged("vpc"))["Vpc"]["VpcId"]
    for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
        ec2.modify_vpc_attribute(VpcId=vpc, **{attribute: {"Value": True}})
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.50.{n}.0/24", AvailabilityZone=zone, TagSpecifications=tagged("subnet"))["Subnet"][
            "SubnetId"
        ]
        for n, zone in enumerate(["us-west-2a", "us-west-2b", "us-west-2a", "us-west-2b"])
    ]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    role = iam.create_role(RoleName="their-cluster", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    eks.create_cluster(
        name=rehearsal.cluster,
        version="1.35",
        roleArn=role,
        resourcesVpcConfig={"subnetIds": subnets[:2], "endpointPrivateAccess": True, "endpointPublicAccess": True},
        accessConfig={"authenticationMode": "API"},
        logging={"clusterLogging": [{"types": ["audit"], "enabled": True}]},
        tags=FOREIGN,
    )
    eks.get_waiter("cluster_active").wait(name=rehearsal.cluster, WaiterConfig={"Delay": 1})
    return {"vpc": vpc, "private": subnets[:2], "public": subnets[2:], "role": role}


def variables(theirs: dict[str, t.Any], **changes: t.Any) -> dict[str, t.Any]:
    return {
        "eks_network_vpc_id": theirs["vpc"],
        "eks_network_private_subnet_ids": theirs["private"],
        "eks_network_public_subnet_ids": theirs["public"],
        "eks_network_zones": [],
        "eks_cluster_role_arn": theirs["role"],
        "gpu_nodepools": [],
        "gpu_workloads_state": "absent",
        **changes,
    }


def snapshot(rehearsal: Rehearsal, theirs: dict[str, t.Any]) -> dict[str, t.Any]:
    """Tags and settings of what is theirs."""
    ec2 = rehearsal.client("ec2")
    inside = [{"Name": "vpc-id", "Values": [theirs["vpc"]]}]
    cluster = rehearsal.client("eks").describe_cluster(name=rehearsal.cluster)["cluster"]
    return {
        "vpc": ec2.describe_vpcs(VpcIds=[theirs["vpc"]])["Vpcs"][0].get("Tags"),
        "subnets": {subnet["SubnetId"]: subnet.get("Tags") for subnet in ec2.describe_subnets(Filters=inside)["Subnets"]},
        "tables": [table["RouteTableId"] for table in ec2.describe_route_tables(Filters=inside)["RouteTables"]],
        "endpoints": ec2.describe_vpc_endpoints(Filters=inside)["VpcEndpoints"],
        "tags": cluster["tags"],
        "kept": {key: cluster.get(key) for key in ("version", "roleArn", "accessConfig", "upgradePolicy", "resourcesVpcConfig")},
        "logging": [entry for entry in cluster["logging"]["clusterLogging"] if entry["enabled"]],
    }


def site(rehearsal: Rehearsal, **changes: t.Any) -> Play:
    return rehearsal.play("site.yml", **changes)


def test_a_cluster_of_somebody_else_is_left_alone_without_the_word(rehearsal: Rehearsal, theirs: dict[str, t.Any]) -> None:
    before, writes = snapshot(rehearsal, theirs), len(eks_writes(rehearsal))
    play = site(
        rehearsal,
        **variables(theirs, eks_cluster_logging_types=["api", "audit"], eks_cluster_secrets_encryption=False, eks_cluster_addons=[]),
    )
    assert play.code != 0
    assert "adopt: true" in play.output
    assert len(eks_writes(rehearsal)) == writes
    assert snapshot(rehearsal, theirs) == before


def test_adopted_it_is_changed_where_something_is_set_and_nowhere_else(rehearsal: Rehearsal, theirs: dict[str, t.Any]) -> None:
    before, writes = snapshot(rehearsal, theirs), len(eks_writes(rehearsal))
    play = site(rehearsal, **variables(theirs, eks_cluster_logging_types=["api", "audit"], eks_cluster_adopt=True))
    assert play.code == 0, play.output[-6000:]
    after = snapshot(rehearsal, theirs)
    assert [entry.operation for entry in eks_writes(rehearsal)[writes:]] == ["UpdateClusterConfig"]
    assert after.pop("logging") == [{"types": ["api", "audit"], "enabled": True}]
    assert before.pop("logging") == [{"types": ["audit"], "enabled": True}]
    assert after == before


def test_a_second_run_writes_nothing(rehearsal: Rehearsal, theirs: dict[str, t.Any]) -> None:
    before = rehearsal.write_count()
    play = site(rehearsal, **variables(theirs, eks_cluster_logging_types=["api", "audit"], eks_cluster_adopt=True))
    assert play.code == 0, play.output[-6000:]
    assert play.changed == []
    assert rehearsal.write_count() == before


def test_destroy_deletes_nothing_of_theirs(rehearsal: Rehearsal, theirs: dict[str, t.Any]) -> None:
    before = snapshot(rehearsal, theirs)
    play = rehearsal.play("playbooks/destroy.yml", gpuops_destroy_confirm=[rehearsal.cluster], **variables(theirs))
    assert play.code == 0, play.output[-6000:]
    assert "was not made by this collection and stays" in play.output
    assert snapshot(rehearsal, theirs) == before


def eks_writes(rehearsal: Rehearsal) -> list[t.Any]:
    return [entry for entry in rehearsal.aws_writes() if entry.service == "eks"]
