# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Whether a cluster can use a network that somebody else made, and what it is. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import NatGateway, RouteTable, Subnet, Vpc
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import Endpoint
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_existing import GROUP_OPTION, Named

# Amazon EKS user guide, VPC and subnet requirements: each subnet of a cluster has at least six addresses for EKS's own use.
MIN_ADDRESSES = 6
_SOURCE = "Amazon EKS user guide, VPC and subnet requirements"
_TIERS = {"private_subnet_ids": "private", "public_subnet_ids": "public", "intra_subnet_ids": "intra"}


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What EC2 has of it; ``groups`` are security group ids with the VPC of each."""

    vpc: Vpc | None
    subnets: tuple[Subnet, ...] = ()
    groups: t.Mapping[str, str]
    route_tables: tuple[RouteTable, ...] = ()
    nat_gateways: tuple[NatGateway, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()

    def subnet(self, subnet_id: str) -> Subnet | None:
        return next((subnet for subnet in self.subnets if subnet.id == subnet_id), None)

    def way_out(self, subnet_id: str) -> str | None:
        """Where 0.0.0.0/0 leads from a subnet: by its own route table, else by the main one."""
        own = next((table for table in self.route_tables if subnet_id in table.associations), None)
        table = own or next((table for table in self.route_tables if table.main), None)
        return table.default_target if table else None


def existing_faults(named: Named, there: Existing, *, has_cluster: t.Callable[[], bool]) -> list[Fault]:
    """What does not exist, lies elsewhere, or does not do for a cluster. ``has_cluster`` is asked only where addresses are short."""
    faults = _vpc_faults(named, there)
    for option, ids in named.subnets.items():
        for index, subnet_id in enumerate(ids):
            faults += _place_faults(f"{option}[{index}]", subnet_id, (s.vpc_id if (s := there.subnet(subnet_id)) else None), named.vpc_id)
    for index, group in enumerate(named.groups):
        faults += _place_faults(f"{GROUP_OPTION}[{index}]", group, there.groups.get(group), named.vpc_id)
    return faults + _zone_faults(named, there) + (_address_faults(named, there) if _short(named, there) and not has_cluster() else [])


def warnings(named: Named, there: Existing) -> tuple[str, ...]:
    """What nodes may lack: a way to the services that they call, addresses."""
    found = []
    closed = [subnet for subnet in named.private if there.way_out(subnet) is None]
    if closed and not any(endpoint.type == "Interface" and endpoint.live for endpoint in there.endpoints):
        found.append(
            f"{', '.join(closed)}: no route to 0.0.0.0/0, and {named.vpc_id} has no interface endpoints; "
            "nodes there do not reach EKS, ECR and EC2."
        )
    inner = [subnet for subnet in named.public if not (there.way_out(subnet) or "").startswith("igw-")]
    if inner:
        found.append(f"{', '.join(inner)}: not public, 0.0.0.0/0 does not lead to an internet gateway.")
    if short := _short(named, there):
        found.append(f"{', '.join(short)}: fewer than {MIN_ADDRESSES} free addresses; EKS needs them when it updates the cluster.")
    return tuple(found)


def existing_result(named: Named, there: Existing, vpc: Vpc) -> dict[str, t.Any]:
    """The key ``network`` of the module's result, in the form that a network of ours has."""
    subnets = [(s, _TIERS[option]) for option, ids in named.subnets.items() for i in ids if (s := there.subnet(i))]
    zones = list(dict.fromkeys(subnet.zone for subnet, tier in subnets if tier == "private"))
    gateways = [there.way_out(subnet) or "" for subnet in named.public]
    groups = {("api" if not index else f"api-{index + 1}"): group for index, group in enumerate(named.groups)}
    places = {subnet.id: subnet.zone for subnet in there.subnets}
    return {
        "vpc_id": vpc.id,
        "cidr_block": vpc.cidr,
        "secondary_cidrs": list(vpc.secondary),
        "zones": zones,
        "left_out_zones": [],
        "public_subnet_ids": list(named.public),
        "private_subnet_ids": list(named.private),
        "intra_subnet_ids": list(named.intra),
        "subnets": [{"id": s.id, "zone": s.zone, "zone_id": s.zone_id, "tier": tier, "cidr_block": s.cidr} for s, tier in subnets],
        "nat_gateways": [
            {"id": nat.id, "zone": places.get(nat.subnet_id, ""), "public_ip": nat.public_ip or None}
            for nat in there.nat_gateways
            if nat.state == "available"
        ],
        "internet_gateway_id": next((gateway for gateway in gateways if gateway.startswith("igw-")), None),
        "security_group_ids": groups,
        "endpoints": [{"id": e.id, "service": e.service, "type": e.type, "state": e.state} for e in there.endpoints if e.live],
        "managed": False,
    }


def _vpc_faults(named: Named, there: Existing) -> list[Fault]:
    if there.vpc is None:
        return [Fault(path="vpc_id", value=named.vpc_id, allowed="a VPC of this account and region", source="ec2:DescribeVpcs")]
    attributes = {"enableDnsSupport": there.vpc.dns_support, "enableDnsHostnames": there.vpc.dns_hostnames}
    return [
        Fault(path="vpc_id", value=named.vpc_id, allowed=f"a VPC with {name}: nodes do not find the API endpoint otherwise", source=_SOURCE)
        for name, enabled in attributes.items()
        if not enabled
    ]


def _place_faults(path: str, value: str, vpc_id: str | None, wanted: str) -> list[Fault]:
    """One fault where a subnet or group does not exist, or is in another VPC."""
    if vpc_id == wanted:
        return []
    where = f"in {vpc_id}" if vpc_id else "in no VPC of this account and region"
    return [
        Fault(path=path, value=value, allowed=f"one in {wanted}; this one is {where}", source="ec2:DescribeSubnets, DescribeSecurityGroups")
    ]


def _zone_faults(named: Named, there: Existing) -> list[Fault]:
    """The control plane's interfaces stand in two zones at least."""
    option, ids = ("intra_subnet_ids", named.intra) if named.intra else ("private_subnet_ids", named.private)
    found = [subnet for subnet_id in ids if (subnet := there.subnet(subnet_id))]
    zones = sorted({subnet.zone for subnet in found})
    if len(zones) > 1 or len(found) < len(ids):
        return []
    return [Fault(path=option, value=list(ids), allowed=f"subnets in two zones at least; these are in {', '.join(zones)}", source=_SOURCE)]


def _short(named: Named, there: Existing) -> list[str]:
    return [
        subnet.id
        for ids in (named.private, named.intra)
        for subnet_id in ids
        if (subnet := there.subnet(subnet_id)) and subnet.vpc_id == named.vpc_id and subnet.free_addresses < MIN_ADDRESSES
    ]


def _address_faults(named: Named, there: Existing) -> list[Fault]:
    short = set(_short(named, there))
    return [
        Fault(
            path=f"{option}[{index}]",
            value=subnet_id,
            allowed=f"a subnet with at least {MIN_ADDRESSES} free addresses; it has {subnet.free_addresses}",
            source=_SOURCE,
        )
        for option, ids in named.subnets.items()
        for index, subnet_id in enumerate(ids)
        if subnet_id in short and (subnet := there.subnet(subnet_id))
    ]
