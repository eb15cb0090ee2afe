# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What is there of a cluster's network. Pure: replies of EC2 in, frozen data out."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import Endpoint
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import COMPONENT_TAG, Owner, tag_map

Api = t.Mapping[str, t.Any]
Tier = t.Literal["private", "public", "intra"]
TIERS: tuple[Tier, ...] = ("private", "public", "intra")

ZONE_TAG = "gpuops.eks/zone"
ANYWHERE = "0.0.0.0/0"
API_PORT = 443

# The values of the component tag, by which a later run knows what a resource is for.
VPC = "network/vpc"
SUBNETS: t.Mapping[Tier, str] = {tier: f"network/{tier}-subnet" for tier in TIERS}
ROUTE_TABLES: t.Mapping[Tier, str] = {tier: f"network/{tier}-route-table" for tier in TIERS}
INTERNET_GATEWAY = "network/internet-gateway"
NAT_ADDRESS = "network/nat-address"
NAT_GATEWAY = "network/nat-gateway"
API_GROUP = "network/api-security-group"


@dataclass(frozen=True, kw_only=True)
class Zone:
    """An availability zone by its name in this account and by its id, which is the same in every account."""

    name: str
    id: str

    @classmethod
    def from_api(cls, api: Api) -> Zone:
        return cls(name=api["ZoneName"], id=api["ZoneId"])


@dataclass(frozen=True, kw_only=True)
class Block:
    """A secondary IPv4 block of a VPC; ``state`` is EC2's: associating, associated, failing, failed."""

    association_id: str
    cidr: str
    state: str
    message: str = ""

    @classmethod
    def from_api(cls, api: Api) -> Block:
        state = api.get("CidrBlockState") or {}
        return cls(
            association_id=api["AssociationId"],
            cidr=api["CidrBlock"],
            state=state.get("State", ""),
            message=state.get("StatusMessage", ""),
        )


@dataclass(frozen=True, kw_only=True)
class Vpc:
    """``dns_support`` and ``dns_hostnames`` are attributes that only a call of their own returns; ``blocks`` the secondary ones."""

    id: str
    cidr: str
    dns_support: bool
    dns_hostnames: bool
    tags: t.Mapping[str, str]
    blocks: tuple[Block, ...] = ()

    @classmethod
    def from_api(cls, api: Api, *, dns_support: bool, dns_hostnames: bool) -> Vpc:
        blocks = [Block.from_api(association) for association in api.get("CidrBlockAssociationSet") or ()]
        return cls(
            id=api["VpcId"],
            cidr=api["CidrBlock"],
            dns_support=dns_support,
            dns_hostnames=dns_hostnames,
            tags=tag_map(api.get("Tags")),
            blocks=tuple(b for b in blocks if b.cidr != api["CidrBlock"] and b.state not in ("disassociating", "disassociated")),
        )

    @property
    def secondary(self) -> tuple[str, ...]:
        """The secondary blocks that it has, or gets."""
        return tuple(block.cidr for block in self.blocks if block.state in ("associating", "associated"))


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """``tier`` is None for a subnet that is not ours."""

    id: str
    zone: str
    cidr: str
    tier: Tier | None
    tags: t.Mapping[str, str]
    zone_id: str = ""
    vpc_id: str = ""
    free_addresses: int = 0

    @classmethod
    def from_api(cls, api: Api, owner: Owner) -> Subnet:
        tags = tag_map(api.get("Tags"))
        return cls(
            id=api["SubnetId"],
            zone=api["AvailabilityZone"],
            cidr=api["CidrBlock"],
            tier=_tier(tags, SUBNETS, owner),
            tags=tags,
            zone_id=api.get("AvailabilityZoneId", ""),
            vpc_id=api.get("VpcId", ""),
            free_addresses=api.get("AvailableIpAddressCount", 0),
        )


@dataclass(frozen=True, kw_only=True)
class RouteTable:
    """``default_target`` is where 0.0.0.0/0 leads; ``associations`` are those of subnets: subnet id -> association id."""

    id: str
    tier: Tier | None
    zone: str
    main: bool
    default_target: str | None
    associations: t.Mapping[str, str]
    tags: t.Mapping[str, str]

    @classmethod
    def from_api(cls, api: Api, owner: Owner) -> RouteTable:
        tags = tag_map(api.get("Tags"))
        associations = [a for a in api.get("Associations") or () if _lasting(a)]
        return cls(
            id=api["RouteTableId"],
            tier=_tier(tags, ROUTE_TABLES, owner),
            zone=tags.get(ZONE_TAG, ""),
            main=any(a.get("Main") for a in associations),
            default_target=next((_target(r) for r in api.get("Routes") or () if r.get("DestinationCidrBlock") == ANYWHERE), None),
            associations={a["SubnetId"]: a["RouteTableAssociationId"] for a in associations if a.get("SubnetId")},
            tags=tags,
        )


@dataclass(frozen=True, kw_only=True)
class InternetGateway:
    """``vpc_ids`` are the VPCs that it is attached to: one at most, says EC2."""

    id: str
    vpc_ids: tuple[str, ...]
    tags: t.Mapping[str, str]

    @classmethod
    def from_api(cls, api: Api) -> InternetGateway:
        attachments = [a for a in api.get("Attachments") or () if a.get("State") not in ("detaching", "detached")]
        return cls(id=api["InternetGatewayId"], vpc_ids=tuple(a["VpcId"] for a in attachments), tags=tag_map(api.get("Tags")))


@dataclass(frozen=True, kw_only=True)
class NatGateway:
    """``state`` is EC2's: pending, available, failed, deleting, and for about an hour deleted."""

    id: str
    subnet_id: str
    zone: str
    state: str
    allocation_id: str
    public_ip: str
    interface_ids: tuple[str, ...]
    tags: t.Mapping[str, str]

    @classmethod
    def from_api(cls, api: Api) -> NatGateway:
        tags = tag_map(api.get("Tags"))
        addresses = api.get("NatGatewayAddresses") or [{}]
        return cls(
            id=api["NatGatewayId"],
            subnet_id=api["SubnetId"],
            zone=tags.get(ZONE_TAG, ""),
            state=api["State"],
            allocation_id=addresses[0].get("AllocationId", ""),
            public_ip=addresses[0].get("PublicIp", ""),
            interface_ids=tuple(a["NetworkInterfaceId"] for a in addresses if a.get("NetworkInterfaceId")),
            tags=tags,
        )


@dataclass(frozen=True, kw_only=True)
class Address:
    """An Elastic IP address of a NAT gateway."""

    id: str
    public_ip: str
    zone: str
    tags: t.Mapping[str, str]

    @classmethod
    def from_api(cls, api: Api) -> Address:
        tags = tag_map(api.get("Tags"))
        return cls(id=api["AllocationId"], public_ip=api["PublicIp"], zone=tags.get(ZONE_TAG, ""), tags=tags)


@dataclass(frozen=True, kw_only=True)
class SecurityGroup:
    """``api_cidrs`` are the IPv4 ranges that may reach port 443."""

    id: str
    name: str
    api_cidrs: frozenset[str]
    tags: t.Mapping[str, str]

    @classmethod
    def from_api(cls, api: Api) -> SecurityGroup:
        rules = [rule for rule in api.get("IpPermissions") or () if _is_api_rule(rule)]
        cidrs = frozenset(entry["CidrIp"] for rule in rules for entry in rule.get("IpRanges") or ())
        return cls(id=api["GroupId"], name=api["GroupName"], api_cidrs=cidrs, tags=tag_map(api.get("Tags")))


@dataclass(frozen=True, kw_only=True)
class NetworkInterface:
    """``in_use`` says whether something is attached to it; ``type`` is EC2's, such as interface, nat_gateway, vpc_endpoint."""

    id: str
    description: str
    in_use: bool
    tags: t.Mapping[str, str]
    type: str = "interface"

    @classmethod
    def from_api(cls, api: Api) -> NetworkInterface:
        return cls(
            id=api["NetworkInterfaceId"],
            description=api.get("Description", ""),
            in_use=api["Status"] != "available",
            tags=tag_map(api.get("TagSet")),
            type=api.get("InterfaceType", "interface"),
        )


@dataclass(frozen=True, kw_only=True)
class Network:
    """All that carries the owner's mark, and in the VPC also what does not.

    ``nat_interfaces`` are the ids of the interfaces of our NAT gateways, deleted ones too: they go a little later.
    """

    vpc: Vpc | None = None
    subnets: tuple[Subnet, ...] = ()
    route_tables: tuple[RouteTable, ...] = ()
    internet_gateway: InternetGateway | None = None
    nat_gateways: tuple[NatGateway, ...] = ()
    addresses: tuple[Address, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    interfaces: tuple[NetworkInterface, ...] = ()
    nat_interfaces: frozenset[str] = frozenset()
    endpoints: tuple[Endpoint, ...] = ()

    def subnet(self, tier: Tier, zone: str) -> Subnet | None:
        return next((s for s in self.subnets if s.tier == tier and s.zone == zone), None)

    def own_subnets(self) -> tuple[Subnet, ...]:
        return tuple(s for s in self.subnets if s.tier)

    def route_table(self, tier: Tier, zone: str = "") -> RouteTable | None:
        return next((r for r in self.route_tables if r.tier == tier and r.zone == zone), None)

    def association(self, subnet_id: str) -> tuple[str, str] | None:
        """(association id, route table id) of a subnet; None where it follows the main table."""
        return next(((r.associations[subnet_id], r.id) for r in self.route_tables if subnet_id in r.associations), None)

    def nat_gateway(self, zone: str) -> NatGateway | None:
        return next((n for n in self.nat_gateways if n.zone == zone and n.state in ("pending", "available")), None)

    def address(self, zone: str) -> Address | None:
        return next((a for a in self.addresses if a.zone == zone), None)

    def endpoint(self, kind: str, service: str) -> Endpoint | None:
        """Our endpoint of a service that leads there, or will."""
        return next((e for e in self.own_endpoints() if e.live and (e.type, e.service) == (kind, service)), None)

    def own_endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(endpoint for endpoint in self.endpoints if endpoint.ours)

    def security_group(self, component: str) -> SecurityGroup | None:
        return next((g for g in self.security_groups if g.tags.get(COMPONENT_TAG) == component), None)


def _tier(tags: t.Mapping[str, str], components: t.Mapping[Tier, str], owner: Owner) -> Tier | None:
    if not owner.owns(tags):
        return None
    return next((tier for tier, component in components.items() if tags.get(COMPONENT_TAG) == component), None)


def _lasting(association: Api) -> bool:
    state: str = (association.get("AssociationState") or {}).get("State", "associated")
    return state in ("associating", "associated")


def _target(route: Api) -> str | None:
    names = ("NatGatewayId", "GatewayId", "TransitGatewayId", "NetworkInterfaceId", "VpcPeeringConnectionId", "InstanceId")
    return next((str(route[name]) for name in names if route.get(name)), None)


def _is_api_rule(rule: Api) -> bool:
    return rule.get("IpProtocol") == "tcp" and rule.get("FromPort") == API_PORT and rule.get("ToPort") == API_PORT
