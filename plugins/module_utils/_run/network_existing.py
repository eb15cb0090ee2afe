# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A network that somebody else made: looked at, and nothing else."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import NatGateway, RouteTable, Subnet, Vpc
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import Endpoint
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_existing import Named
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_existing import Existing, existing_faults, existing_result, warnings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

Api = dict[str, t.Any]


def existing_network(run: Run) -> Outcome:
    """What the options name, as a network; InvalidInput with everything that a cluster could not use. There is nothing to take down."""
    if run.params["state"] == "absent":
        return Outcome(plan=Plan(), result={"network": None})
    named = Named.from_params(run.params)
    there = _observe(run.aws, named, Owner(cluster_name=run.params["cluster_name"], region=run.region, account=""))
    faults = existing_faults(named, there, has_cluster=lambda: run.cluster is not None)
    if faults or there.vpc is None:
        raise InvalidInput(faults)
    return Outcome(plan=Plan(warnings=warnings(named, there)), result={"network": existing_result(named, there, there.vpc)})


def _observe(aws: Aws, named: Named, owner: Owner) -> Existing:
    """Asked for by filters, so that what does not exist is missing in the reply rather than an error: faults are reported together."""
    inside = {"Filters": [by("vpc-id", named.vpc_id)]}
    vpcs = aws.pages("ec2:DescribeVpcs", "Vpcs", inside)
    ids = [subnet for subnets in named.subnets.values() for subnet in subnets]
    subnets = aws.pages("ec2:DescribeSubnets", "Subnets", {"Filters": [by("subnet-id", *ids)]})
    groups: list[Api] = []
    if named.groups:
        groups = aws.pages("ec2:DescribeSecurityGroups", "SecurityGroups", {"Filters": [by("group-id", *named.groups)]})
    if not vpcs:
        return Existing(
            vpc=None, subnets=tuple(Subnet.from_api(s, owner) for s in subnets), groups={g["GroupId"]: g["VpcId"] for g in groups}
        )
    tables = aws.pages("ec2:DescribeRouteTables", "RouteTables", inside)
    gateways = aws.pages("ec2:DescribeNatGateways", "NatGateways", {"Filter": inside["Filters"]})
    endpoints = aws.pages("ec2:DescribeVpcEndpoints", "VpcEndpoints", inside)
    return Existing(
        vpc=with_attributes(aws, vpcs[0]),
        subnets=tuple(Subnet.from_api(subnet, owner) for subnet in subnets),
        groups={group["GroupId"]: group["VpcId"] for group in groups},
        route_tables=tuple(RouteTable.from_api(table, owner) for table in tables),
        nat_gateways=tuple(NatGateway.from_api(gateway) for gateway in gateways),
        endpoints=tuple(Endpoint.from_api(endpoint, owner) for endpoint in endpoints),
    )


def with_attributes(aws: Aws, vpc: Api) -> Vpc:
    """A VPC of ec2:DescribeVpcs, with what only calls of their own return."""
    found = {
        name: aws.call("ec2:DescribeVpcAttribute", {"VpcId": vpc["VpcId"], "Attribute": name})[name[0].upper() + name[1:]]["Value"]
        for name in ("enableDnsSupport", "enableDnsHostnames")
    }
    return Vpc.from_api(vpc, dns_support=found["enableDnsSupport"], dns_hostnames=found["enableDnsHostnames"])


def by(name: str, *values: str) -> Api:
    """A filter of EC2."""
    return {"Name": name, "Values": list(values)}
