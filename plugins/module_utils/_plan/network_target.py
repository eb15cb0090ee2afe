# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a network will be, with the ids of what is there and planned ids for what is not. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from ipaddress import IPv4Network

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import API_GROUP, Network, Tier, Zone
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import (
    DEFAULT_CIDR,
    DEFAULT_PREFIXES,
    Place,
    Wanted,
    fit_faults,
    layout,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import planned

# Zones in which EKS places no control plane: Amazon EKS user guide, VPC and subnet requirements.
NO_CONTROL_PLANE = frozenset({"use1-az3", "usw1-az2", "cac1-az3"})


@dataclass(frozen=True, kw_only=True)
class TargetSubnet:
    id: str
    tier: Tier
    zone: Zone
    cidr: str
    route_table_id: str


@dataclass(frozen=True, kw_only=True)
class TargetNat:
    """``public_ip`` is None before the address is allocated."""

    id: str
    zone: str
    subnet_id: str
    address_id: str
    public_ip: str | None


@dataclass(frozen=True, kw_only=True)
class Target:
    """``zones`` are all that the network keeps, ``chosen`` the names of those that the options ask for, in their order."""

    owner: Owner
    wanted: Wanted
    vpc_id: str
    cidr: str
    zones: tuple[Zone, ...]
    chosen: tuple[str, ...]
    subnets: tuple[TargetSubnet, ...]
    internet_gateway_id: str | None
    nats: tuple[TargetNat, ...]
    route_tables: t.Mapping[Place, str]
    api_group_id: str
    api_cidrs: frozenset[str]

    def nat_for(self, zone: str) -> TargetNat | None:
        """The NAT gateway that a zone's private subnet uses: its own, else the first."""
        own = next((nat for nat in self.nats if nat.zone == zone), None)
        return own or next(iter(self.nats), None)

    def default_target(self, place: Place) -> str | None:
        """Where 0.0.0.0/0 of a route table leads."""
        tier, zone = place
        if tier == "public":
            return self.internet_gateway_id
        nat = self.nat_for(zone)
        return nat.id if nat else None


def label(owner: Owner, *parts: str) -> str:
    """The Name of a resource, and the name in its planned id."""
    return "-".join((owner.cluster_name, *parts))


def choose_zones(wanted: Wanted, observed: Network, available: t.Sequence[Zone]) -> tuple[list[Zone], list[Fault]]:
    """The zones that the options ask for, in their order, and the faults of those that the region does not have."""
    if wanted.zones is None:
        return _default_zones(wanted, observed, available)
    chosen: list[Zone] = []
    faults: list[Fault] = []
    names = ", ".join(f"{zone.name} ({zone.id})" for zone in available)
    for index, given in enumerate(wanted.zones):
        zone = next((zone for zone in available if given in (zone.name, zone.id)), None)
        path, source = f"zones[{index}]", "ec2:DescribeAvailabilityZones"
        if zone is None:
            faults.append(Fault(path=path, value=given, allowed=f"one of {names}", source=source))
        elif zone in chosen:
            faults.append(Fault(path=path, value=given, allowed=f"each zone once; this is {zone.name} again", source=source))
        else:
            chosen.append(zone)
    return chosen, faults


def _default_zones(wanted: Wanted, observed: Network, available: t.Sequence[Zone]) -> tuple[list[Zone], list[Fault]]:
    used = {subnet.zone for subnet in observed.own_subnets()}
    chosen = [zone for zone in available if zone.name in used]
    free = [zone for zone in available if zone.name not in used and zone.id not in NO_CONTROL_PLANE]
    chosen += free[: max(0, wanted.zone_count - len(chosen))]
    if len(chosen) >= wanted.zone_count:
        return chosen, []
    allowed = f"at most {len(chosen)}, the zones of the region that EKS and this account can use"
    return [], [Fault(path="zone_count", value=wanted.zone_count, allowed=allowed, source="ec2:DescribeAvailabilityZones")]


def kept_zones(chosen: t.Sequence[Zone], observed: Network, available: t.Sequence[Zone]) -> list[Zone]:
    """Zones that have subnets of this network but are not asked for (any more); their subnets stay."""
    names = {zone.name for zone in chosen}
    used = {subnet.zone for subnet in observed.own_subnets()}
    return [zone for zone in available if zone.name in used - names]


def immutable_faults(wanted: Wanted, observed: Network) -> list[Fault]:
    """What is asked for otherwise than it is and cannot be changed in place."""
    faults = []
    if observed.vpc and wanted.cidr not in (None, observed.vpc.cidr):
        allowed = f"{observed.vpc.cidr}, as it is: a VPC's block cannot be changed; a new one needs a new network"
        faults.append(Fault(path="cidr", value=wanted.cidr, allowed=allowed, source="EC2 API: a VPC's primary CIDR block is fixed"))
    tiers: tuple[Tier, ...] = ("private", "public")
    for tier in tiers:
        prefix = _observed_prefix(observed, tier)
        given = wanted.prefix(tier)
        if prefix is not None and given not in (None, prefix):
            allowed = f"{prefix}, as it is: the block of a subnet cannot be changed"
            faults.append(
                Fault(path=f"{tier}_subnet_prefix", value=given, allowed=allowed, source="EC2 API: a subnet's CIDR block is fixed")
            )
    if not wanted.public_subnets and _observed_prefix(observed, "public") is not None:
        allowed = "true, as it is: public subnets are only removed with the whole network (state absent)"
        faults.append(Fault(path="public_subnets", value=False, allowed=allowed, source="the options of eks_network"))
    return faults


def _observed_prefix(observed: Network, tier: Tier) -> int | None:
    return next((IPv4Network(subnet.cidr).prefixlen for subnet in observed.subnets if subnet.tier == tier), None)


def target(
    wanted: Wanted, observed: Network, owner: Owner, chosen: t.Sequence[Zone], kept: t.Sequence[Zone]
) -> tuple[Target | None, list[Fault]]:
    """The whole that is wanted; None with the faults where its subnets do not fit in what is left of the VPC's block."""
    zones = (*chosen, *kept)
    cidr = observed.vpc.cidr if observed.vpc else wanted.cidr or DEFAULT_CIDR
    prefixes = {tier: _observed_prefix(observed, tier) or wanted.prefix(tier) or DEFAULT_PREFIXES[tier] for tier in wanted.tiers}
    taken: dict[Place, str] = {(subnet.tier, subnet.zone): subnet.cidr for subnet in observed.subnets if subnet.tier}
    names = [zone.name for zone in zones]
    blocks = layout(cidr, names, prefixes, taken, [subnet.cidr for subnet in observed.subnets if not subnet.tier])
    if faults := fit_faults(cidr, names, prefixes, blocks, path="cidr"):
        return None, faults
    tables = _route_tables(wanted, observed, owner, names)
    subnets = tuple(
        TargetSubnet(
            id=_subnet_id(observed, owner, tier, zone.name),
            tier=tier,
            zone=zone,
            cidr=blocks[tier, zone.name],
            route_table_id=tables[tier, zone.name if tier == "private" else ""],
        )
        for tier in wanted.tiers
        for zone in zones
    )
    return _target(wanted, observed, owner, cidr, zones, len(chosen), subnets, tables), []


def _target(
    wanted: Wanted,
    observed: Network,
    owner: Owner,
    cidr: str,
    zones: tuple[Zone, ...],
    chosen: int,
    subnets: tuple[TargetSubnet, ...],
    tables: t.Mapping[Place, str],
) -> Target:
    group = observed.security_group(API_GROUP)
    gateway = observed.internet_gateway
    asked = group.api_cidrs if group and wanted.api_access_cidrs is None else frozenset(wanted.api_access_cidrs or ())
    return Target(
        owner=owner,
        wanted=wanted,
        vpc_id=observed.vpc.id if observed.vpc else planned("vpc", label(owner)),
        cidr=cidr,
        zones=zones,
        chosen=tuple(zone.name for zone in zones[:chosen]),
        subnets=subnets,
        internet_gateway_id=(gateway.id if gateway else planned("internet-gateway", label(owner))) if wanted.public_subnets else None,
        nats=tuple(_nat(observed, owner, zone) for zone in _nat_zones(wanted, observed, [zone.name for zone in zones])),
        route_tables=tables,
        api_group_id=group.id if group else planned("security-group", label(owner, "api")),
        api_cidrs=asked | {cidr},
    )


def _subnet_id(observed: Network, owner: Owner, tier: Tier, zone: str) -> str:
    subnet = observed.subnet(tier, zone)
    return subnet.id if subnet else planned("subnet", label(owner, tier, zone))


def _route_tables(wanted: Wanted, observed: Network, owner: Owner, zones: t.Sequence[str]) -> dict[Place, str]:
    places: list[Place] = [("private", zone) for zone in zones]
    if wanted.public_subnets:
        places.insert(0, ("public", ""))
    found = {}
    for tier, zone in places:
        table = observed.route_table(tier, zone)
        found[tier, zone] = table.id if table else planned("route-table", label(owner, tier, *([zone] if zone else [])))
    return found


def _nat_zones(wanted: Wanted, observed: Network, zones: t.Sequence[str]) -> list[str]:
    """In which zones NAT gateways stand. Unset: those that are there, at least one; one stays where it is."""
    if wanted.nat == "none" or not wanted.public_subnets:
        return []
    if wanted.nat == "per_zone":
        return list(zones)
    live = [zone for zone in zones if observed.nat_gateway(zone)]
    if wanted.nat is None and live:
        return live
    begun = [zone for zone in zones if observed.address(zone)]
    return [*live, *begun, *zones][:1]


def _nat(observed: Network, owner: Owner, zone: str) -> TargetNat:
    gateway, address = observed.nat_gateway(zone), observed.address(zone)
    public_ip = address.public_ip if address else None
    return TargetNat(
        id=gateway.id if gateway else planned("nat-gateway", label(owner, zone)),
        zone=zone,
        subnet_id=_subnet_id(observed, owner, "public", zone),
        address_id=(gateway.allocation_id if gateway else "") or (address.id if address else planned("address", label(owner, zone))),
        public_ip=gateway.public_ip if gateway else public_ip,
    )
