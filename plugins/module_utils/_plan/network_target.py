# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a network will be, with the ids of what is there and planned ids for what is not. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import API_GROUP, TIERS, ZONE_TAG, Network, Tier, Zone
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import (
    ENDPOINT_TYPES,
    ENDPOINTS_GROUP,
    EndpointKey,
    EndpointType,
    Service,
    endpoint_option,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import (
    DEFAULT_CIDR,
    DEFAULT_PREFIXES,
    ROLE_TAGS,
    Place,
    Wanted,
    fit_faults,
    layout,
    overlap_faults,
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
class TargetEndpoint:
    """``state`` is None before it is made; ``subnet_ids`` are those that an interface endpoint stands in."""

    id: str
    type: EndpointType
    service: str
    service_name: str
    state: str | None
    subnet_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Target:
    """``zones`` are all that the network keeps, ``chosen`` the names of those that the options ask for, in their order.

    ``secondary`` are the blocks of the VPC besides ``cidr``; ``useless`` says of zones why they are of no use, by name.
    """

    owner: Owner
    wanted: Wanted
    vpc_id: str
    cidr: str
    secondary: tuple[str, ...]
    zones: tuple[Zone, ...]
    chosen: tuple[str, ...]
    subnets: tuple[TargetSubnet, ...]
    internet_gateway_id: str | None
    nats: tuple[TargetNat, ...]
    route_tables: t.Mapping[Place, str]
    api_group_id: str
    api_cidrs: frozenset[str]
    endpoints: tuple[TargetEndpoint, ...]
    endpoints_group_id: str | None
    useless: t.Mapping[str, str] = field(default_factory=dict)

    @property
    def blocks(self) -> frozenset[str]:
        """All IPv4 blocks of the VPC."""
        return frozenset({self.cidr, *self.secondary})

    def nat_for(self, zone: str) -> TargetNat | None:
        """The NAT gateway that a zone's private subnet uses: its own, else the first."""
        own = next((nat for nat in self.nats if nat.zone == zone), None)
        return own or next(iter(self.nats), None)

    def default_target(self, place: Place) -> str | None:
        """Where 0.0.0.0/0 of a route table leads."""
        tier, zone = place
        if tier == "public":
            return self.internet_gateway_id
        nat = self.nat_for(zone) if tier == "private" else None
        return nat.id if nat else None


def label(owner: Owner, *parts: str) -> str:
    """The Name of a resource, and the name in its planned id."""
    return "-".join((owner.cluster_name, *parts))


def tags_of(target: Target, component: str, name: t.Sequence[str] = (), *, zone: str = "", tier: Tier | None = None) -> dict[str, str]:
    """All tags that the module sets on one resource: the user's, its Name, its role, our mark."""
    tags = dict(target.wanted.tags or {})
    if tier:
        tags |= target.wanted.subnet_tags.get(tier, {})
    tags["Name"] = label(target.owner, *name)
    if tier and (role := ROLE_TAGS.get(tier)):
        tags[role] = "1"
    if zone:
        tags[ZONE_TAG] = zone
    return {**tags, **target.owner.tags(component)}


def useless_zones(wanted: Wanted, zones: t.Sequence[Zone], offered: t.Collection[str] | None = None) -> dict[str, str]:
    """Zone name -> why nothing of a cluster, or none of its GPU nodes, can be there.

    ``offered`` are the names of the zones that offer one of the instance types; None where nobody asked.
    """
    reasons = {zone.name: "EKS places no control plane there" for zone in zones if zone.id in NO_CONTROL_PLANE}
    if wanted.instance_types and offered is not None:
        missing = f"it offers none of {', '.join(wanted.instance_types)}"
        reasons |= {zone.name: missing for zone in zones if zone.name not in offered and zone.name not in reasons}
    return reasons


def with_useless(found: Target, zones: t.Sequence[Zone], offered: t.Collection[str] | None) -> Target:
    """The target that knows which zones are of no use."""
    return replace(found, useless=useless_zones(found.wanted, zones, offered))


def choose_zones(
    wanted: Wanted, observed: Network, available: t.Sequence[Zone], offered: t.Collection[str] | None = None
) -> tuple[list[Zone], list[Fault]]:
    """The zones that the options ask for, in their order, and the faults of those that the region does not have."""
    if wanted.zones is None:
        return _default_zones(wanted, observed, available, useless_zones(wanted, available, offered))
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


def _default_zones(
    wanted: Wanted, observed: Network, available: t.Sequence[Zone], useless: t.Mapping[str, str]
) -> tuple[list[Zone], list[Fault]]:
    used = {subnet.zone for subnet in observed.own_subnets()}
    chosen = [zone for zone in available if zone.name in used]
    free = [zone for zone in available if zone.name not in used and zone.name not in useless]
    chosen += free[: max(0, wanted.zone_count - len(chosen))]
    if len(chosen) >= wanted.zone_count:
        return chosen, []
    allowed = f"at most {len(chosen)}, the zones of the region that EKS and this account can use"
    if useless:
        why = "; ".join(f"{name}: {reason}" for name, reason in useless.items() if name not in used)
        allowed += f" ({why}; name them in zones to use them all the same)"
    return [], [Fault(path="zone_count", value=wanted.zone_count, allowed=allowed, source="ec2:DescribeAvailabilityZones")]


def used_zones(wanted: Wanted, observed: Network) -> list[Zone] | None:
    """The zones of the network's own subnets where they are all that the options ask for, so that nobody has to ask EC2; else None."""
    zones = sorted({Zone(name=s.zone, id=s.zone_id) for s in observed.own_subnets() if s.zone_id}, key=lambda zone: zone.name)
    names = {name for zone in zones for name in (zone.name, zone.id)}
    enough = len(zones) >= wanted.zone_count if wanted.zones is None else names >= set(wanted.zones)
    return zones if enough else None


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
    for tier in TIERS:
        prefix = _observed_prefix(observed, tier)
        given = wanted.prefix(tier)
        if prefix is not None and given not in (None, prefix):
            allowed = f"{prefix}, as it is: the block of a subnet cannot be changed"
            faults.append(
                Fault(path=f"{tier}_subnet_prefix", value=given, allowed=allowed, source="EC2 API: a subnet's CIDR block is fixed")
            )
        if tier not in wanted.tiers and prefix is not None:
            allowed = f"true, as it is: {tier} subnets are only removed with the whole network (state absent)"
            faults.append(Fault(path=f"{tier}_subnets", value=False, allowed=allowed, source="the options of eks_network"))
    return faults + _block_faults(wanted, observed)


def _block_faults(wanted: Wanted, observed: Network) -> list[Fault]:
    """Secondary blocks that overlap what the VPC has already; whether they overlap each other is a matter of form."""
    if observed.vpc is None:
        there = [wanted.cidr or DEFAULT_CIDR]
    else:
        there = [observed.vpc.cidr, *(block for block in observed.vpc.secondary if block not in (wanted.secondary_cidrs or ()))]
    networks = [IPv4Network(block) for block in there]
    return [
        fault
        for index, block in enumerate(wanted.secondary_cidrs or ())
        for fault in overlap_faults(IPv4Network(block), networks, f"secondary_cidrs[{index}]")
    ]


def _observed_prefix(observed: Network, tier: Tier) -> int | None:
    return next((IPv4Network(subnet.cidr).prefixlen for subnet in observed.subnets if subnet.tier == tier), None)


def target(
    wanted: Wanted,
    observed: Network,
    owner: Owner,
    chosen: t.Sequence[Zone],
    kept: t.Sequence[Zone],
    services: t.Mapping[EndpointKey, Service] | None = None,
) -> tuple[Target | None, list[Fault]]:
    """The whole that is wanted; None with the faults where its subnets do not fit in what is left of the VPC's blocks.

    ``services`` are what EC2 says of those that ``asked_services`` names.
    """
    zones = (*chosen, *kept)
    cidr = observed.vpc.cidr if observed.vpc else wanted.cidr or DEFAULT_CIDR
    prefixes = {tier: _observed_prefix(observed, tier) or wanted.prefix(tier) or DEFAULT_PREFIXES[tier] for tier in wanted.tiers}
    taken: dict[Place, str] = {(subnet.tier, subnet.zone): subnet.cidr for subnet in observed.subnets if subnet.tier}
    names = [zone.name for zone in zones]
    others = [subnet.cidr for subnet in observed.subnets if not subnet.tier]
    there = observed.vpc.secondary if observed.vpc else ()
    secondary = there if wanted.secondary_cidrs is None else wanted.secondary_cidrs
    blocks = layout(cidr, names, prefixes, taken, others, secondary=secondary)
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
    blocks_of_vpc = (cidr, *dict.fromkeys((*there, *secondary)))
    endpoints = _endpoints(wanted, observed, owner, subnets, services or {})
    return _target(wanted, observed, owner, blocks_of_vpc, zones, len(chosen), subnets, tables, endpoints), []


def _target(
    wanted: Wanted,
    observed: Network,
    owner: Owner,
    blocks: tuple[str, ...],
    zones: tuple[Zone, ...],
    chosen: int,
    subnets: tuple[TargetSubnet, ...],
    tables: t.Mapping[Place, str],
    endpoints: tuple[TargetEndpoint, ...],
) -> Target:
    group, endpoints_group = observed.security_group(API_GROUP), observed.security_group(ENDPOINTS_GROUP)
    gateway = observed.internet_gateway
    asked = group.api_cidrs if group and wanted.api_access_cidrs is None else frozenset(wanted.api_access_cidrs or ())
    new_group = planned("security-group", label(owner, "endpoints")) if wanted.interface_endpoints else None
    return Target(
        owner=owner,
        wanted=wanted,
        vpc_id=observed.vpc.id if observed.vpc else planned("vpc", label(owner)),
        cidr=blocks[0],
        secondary=blocks[1:],
        zones=zones,
        chosen=tuple(zone.name for zone in zones[:chosen]),
        subnets=subnets,
        internet_gateway_id=(gateway.id if gateway else planned("internet-gateway", label(owner))) if wanted.public_subnets else None,
        nats=tuple(_nat(observed, owner, zone) for zone in _nat_zones(wanted, observed, [zone.name for zone in zones])),
        route_tables=tables,
        api_group_id=group.id if group else planned("security-group", label(owner, "api")),
        api_cidrs=asked | frozenset(blocks),
        endpoints=endpoints,
        endpoints_group_id=endpoints_group.id if endpoints_group else new_group,
    )


def asked_services(wanted: Wanted, observed: Network, zones: t.Sequence[Zone]) -> list[str]:
    """The services of which EC2 has to be asked: those without an endpoint, and those whose endpoint is not in every private subnet.

    A service need not be in every zone, so that an endpoint may rightly be in fewer.
    """
    private = [subnet.id if (subnet := observed.subnet("private", zone.name)) else "" for zone in zones]
    asked = []
    for kind in ENDPOINT_TYPES:
        for service in wanted.endpoints(kind) or ():
            endpoint = observed.endpoint(kind, service)
            if endpoint is None or (kind == "Interface" and endpoint.subnet_ids != frozenset(private)):
                asked.append(service)
    return list(dict.fromkeys(asked))


def endpoint_faults(wanted: Wanted, observed: Network, zones: t.Sequence[Zone], services: t.Mapping[EndpointKey, Service]) -> list[Fault]:
    """Endpoints that are not there and cannot be made: no such service, not in these zones, or somebody else's is in the way."""
    faults = []
    names = {zone.name for zone in zones}
    for kind in ENDPOINT_TYPES:
        for index, service in enumerate(wanted.endpoints(kind) or ()):
            path, found = f"{endpoint_option(kind)}[{index}]", services.get((kind, service))
            if observed.endpoint(kind, service):
                continue
            foreign = next((e.id for e in observed.endpoints if e.live and not e.ours and (e.type, e.service) == (kind, service)), None)
            if foreign:
                allowed = f"a service without an endpoint in the VPC; {foreign}, which is not ours, leads there already"
                faults.append(Fault(path=path, value=service, allowed=allowed, source="ec2:DescribeVpcEndpoints"))
            elif found is None:
                allowed = f"a service that has {kind.lower()} endpoints in {', '.join(sorted(names))}"
                faults.append(Fault(path=path, value=service, allowed=allowed, source="ec2:DescribeVpcEndpointServices"))
            elif kind == "Interface" and not found.zones & names:
                allowed = f"a service in {', '.join(sorted(names))}; this one is in {', '.join(sorted(found.zones)) or 'no zone'}"
                faults.append(Fault(path=path, value=service, allowed=allowed, source="ec2:DescribeVpcEndpointServices"))
    return faults


def _endpoints(
    wanted: Wanted,
    observed: Network,
    owner: Owner,
    subnets: t.Sequence[TargetSubnet],
    services: t.Mapping[EndpointKey, Service],
) -> tuple[TargetEndpoint, ...]:
    """Those that are wanted, and of a type that is not managed those that are there."""
    found = []
    for kind in ENDPOINT_TYPES:
        there = [e.service for e in observed.own_endpoints() if e.live and e.type == kind]
        managed = wanted.endpoints(kind)
        for name in there if managed is None else managed:
            endpoint, service = observed.endpoint(kind, name), services.get((kind, name))
            places = [s for s in subnets if s.tier == "private" and (service is None or s.zone.name in service.zones)]
            found.append(
                TargetEndpoint(
                    id=endpoint.id if endpoint else planned("vpc-endpoint", label(owner, kind.lower(), name)),
                    type=kind,
                    service=name,
                    service_name=endpoint.service_name if endpoint else services[kind, name].name,
                    state=endpoint.state if endpoint else None,
                    subnet_ids=tuple(place.id for place in places) if kind == "Interface" else (),
                )
            )
    return tuple(found)


def _subnet_id(observed: Network, owner: Owner, tier: Tier, zone: str) -> str:
    subnet = observed.subnet(tier, zone)
    return subnet.id if subnet else planned("subnet", label(owner, tier, zone))


def _route_tables(wanted: Wanted, observed: Network, owner: Owner, zones: t.Sequence[str]) -> dict[Place, str]:
    places: list[Place] = [("private", zone) for zone in zones]
    if wanted.public_subnets:
        places.insert(0, ("public", ""))
    if wanted.intra_subnets:
        places.append(("intra", ""))
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
