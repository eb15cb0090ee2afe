# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks that somebody else made: what a cluster cannot use, what it may miss, and how the result says what is there."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Block, NatGateway, RouteTable, Subnet, Vpc
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import Endpoint
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_existing import Named
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_existing import Existing, existing_faults, existing_result, warnings

OWNER = Owner(cluster_name="demo", region="us-west-2", account="")
NAMED = Named(vpc_id="vpc-1", private=("subnet-1", "subnet-2"), public=("subnet-3",), intra=(), groups=("sg-1", "sg-2"))
BLOCK = Block(association_id="vpc-cidr-assoc-1", cidr="100.64.0.0/16", state="associated")
VPC = Vpc(id="vpc-1", cidr="10.50.0.0/16", dns_support=True, dns_hostnames=True, tags={}, blocks=(BLOCK,))


def subnet(name: str, zone: str, *, vpc: str = "vpc-1", free: int = 200) -> Subnet:
    number = name.partition("-")[2]
    zone_id = {"us-west-2a": "usw2-az2", "us-west-2b": "usw2-az1"}[zone]
    return Subnet(
        id=name, zone=zone, zone_id=zone_id, vpc_id=vpc, cidr=f"10.50.{number}.0/24", tier=None, tags={"team": "x"}, free_addresses=free
    )


def table(name: str, *subnets: str, to: str | None = None, main: bool = False) -> RouteTable:
    associations = {each: f"rtbassoc-{each}" for each in subnets}
    return RouteTable(id=name, tier=None, zone="", main=main, default_target=to, associations=associations, tags={})


NAT = NatGateway(
    id="nat-1", subnet_id="subnet-3", zone="", state="available", allocation_id="", public_ip="192.0.2.1", interface_ids=(), tags={}
)
THERE = Existing(
    vpc=VPC,
    subnets=(subnet("subnet-1", "us-west-2a"), subnet("subnet-2", "us-west-2b"), subnet("subnet-3", "us-west-2a")),
    groups={"sg-1": "vpc-1", "sg-2": "vpc-1"},
    route_tables=(table("rtb-main", to="nat-1", main=True), table("rtb-public", "subnet-3", to="igw-1")),
    nat_gateways=(NAT, replace(NAT, id="nat-0", state="deleted")),
)
STS = Endpoint.from_api(
    {"VpcEndpointId": "vpce-1", "VpcEndpointType": "Interface", "ServiceName": "com.amazonaws.us-west-2.sts", "State": "available"}, OWNER
)


def faults(there: Existing, named: Named = NAMED, *, has_cluster: bool = False) -> list[str]:
    return [fault.path for fault in existing_faults(named, there, has_cluster=lambda: has_cluster)]


def test_a_sound_network_has_no_faults_and_no_warnings() -> None:
    assert faults(THERE) == []
    assert warnings(NAMED, THERE) == ()


def test_it_has_the_form_of_a_network_of_ours_and_is_not_managed() -> None:
    assert existing_result(NAMED, replace(THERE, endpoints=(STS,)), VPC) == {
        "vpc_id": "vpc-1",
        "cidr_block": "10.50.0.0/16",
        "secondary_cidrs": ["100.64.0.0/16"],
        "zones": ["us-west-2a", "us-west-2b"],
        "left_out_zones": [],
        "public_subnet_ids": ["subnet-3"],
        "private_subnet_ids": ["subnet-1", "subnet-2"],
        "intra_subnet_ids": [],
        "subnets": [
            {"id": name, "zone": zone, "zone_id": zone_id, "tier": tier, "cidr_block": f"10.50.{name[-1]}.0/24"}
            for name, zone, zone_id, tier in (
                ("subnet-1", "us-west-2a", "usw2-az2", "private"),
                ("subnet-2", "us-west-2b", "usw2-az1", "private"),
                ("subnet-3", "us-west-2a", "usw2-az2", "public"),
            )
        ],
        "nat_gateways": [{"id": "nat-1", "zone": "us-west-2a", "public_ip": "192.0.2.1"}],
        "internet_gateway_id": "igw-1",
        "security_group_ids": {"api": "sg-1", "api-2": "sg-2"},
        "endpoints": [{"id": "vpce-1", "service": "sts", "type": "Interface", "state": "available"}],
        "managed": False,
    }


def test_every_fault_comes_at_once() -> None:
    there = Existing(
        vpc=replace(VPC, dns_support=False, dns_hostnames=False),
        subnets=(subnet("subnet-1", "us-west-2a", free=5), subnet("subnet-2", "us-west-2a"), subnet("subnet-3", "us-west-2a", vpc="vpc-2")),
        groups={"sg-2": "vpc-2"},
    )
    found = existing_faults(NAMED, there, has_cluster=lambda: False)
    assert [fault.path for fault in found] == [
        "vpc_id",
        "vpc_id",
        "public_subnet_ids[0]",
        "security_group_ids[0]",
        "security_group_ids[1]",
        "private_subnet_ids",
        "private_subnet_ids[0]",
    ]
    words = " ".join(fault.allowed for fault in found)
    for part in ("enableDnsSupport", "enableDnsHostnames", "in vpc-2", "in no VPC", "these are in us-west-2a", "it has 5"):
        assert part in words


def test_a_vpc_that_is_not_there() -> None:
    assert faults(Existing(vpc=None, groups={})) == [
        "vpc_id",
        "private_subnet_ids[0]",
        "private_subnet_ids[1]",
        "public_subnet_ids[0]",
        "security_group_ids[0]",
        "security_group_ids[1]",
    ]


def test_the_control_planes_own_subnets_are_those_in_two_zones() -> None:
    named = replace(NAMED, private=("subnet-1",), intra=("subnet-1", "subnet-2"))
    assert faults(THERE, named) == []
    assert faults(THERE, replace(named, intra=("subnet-1", "subnet-3"))) == ["intra_subnet_ids"]


@pytest.mark.parametrize(("has_cluster", "paths"), [(False, ["private_subnet_ids[1]"]), (True, [])])
def test_few_addresses_stop_a_new_cluster_only(has_cluster: bool, paths: list[str]) -> None:
    full = replace(THERE, subnets=(THERE.subnets[0], subnet("subnet-2", "us-west-2b", free=0), THERE.subnets[2]))
    assert faults(full, has_cluster=has_cluster) == paths
    assert "subnet-2: fewer than 6 free addresses" in warnings(NAMED, full)[0]


def test_whether_there_is_a_cluster_is_asked_only_where_it_matters() -> None:
    def ask() -> t.NoReturn:
        raise AssertionError("nobody needs to know")

    assert existing_faults(NAMED, THERE, has_cluster=ask) == []


def test_what_nodes_may_miss_is_a_warning() -> None:
    closed = replace(THERE, route_tables=(table("rtb-main", main=True), table("rtb-public", "subnet-3", to="nat-1")))
    first, second = warnings(NAMED, closed)
    assert first.startswith("subnet-1, subnet-2: no route to 0.0.0.0/0, and vpc-1 has no interface endpoints")
    assert second == "subnet-3: not public, 0.0.0.0/0 does not lead to an internet gateway."
    assert warnings(NAMED, replace(closed, endpoints=(STS,))) == (second,)
    assert warnings(NAMED, replace(closed, endpoints=(replace(STS, state="failed"),))) == (first, second)
