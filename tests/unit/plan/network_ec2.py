# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An EC2 of dictionaries, in which a network's plans are carried out and observed."""

from __future__ import annotations

import itertools
import typing as t
from ipaddress import IPv4Network

from ansible_collections.gpuops.eks.plugins.module_utils._model.network import (
    Address,
    InternetGateway,
    NatGateway,
    Network,
    NetworkInterface,
    RouteTable,
    SecurityGroup,
    Subnet,
    Vpc,
    Zone,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import Endpoint, Service, by_key
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan import network_target
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network import plan_network
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, resolve

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
ZONES = [Zone(name=f"us-west-2{letter}", id=f"usw2-az{number}") for letter, number in (("a", 2), ("b", 1), ("c", 3), ("d", 4))]
KINDS = ("vpc", "subnet", "igw", "nat", "eipalloc", "rtb", "sg", "eni", "vpce")
Api = dict[str, t.Any]


def service(name: str, *zones: str, kind: str = "Interface") -> Service:
    """A service of the region, in all zones where none are given."""
    names = zones or tuple(zone.name for zone in ZONES)
    return Service.from_api(
        {"ServiceName": f"com.amazonaws.us-west-2.{name}", "ServiceType": [{"ServiceType": kind}], "AvailabilityZones": list(names)}
    )


SERVICES = by_key(
    [service("s3", kind="Gateway"), service("s3"), service("ecr.api"), service("sts"), service("sqs", "us-west-2a", "us-west-2c")],
    "us-west-2",
)


class Ec2:
    """Keeps what the plans' calls make, in the shape of EC2's replies, so that a network can be observed after each of them."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}
        self.things: dict[str, dict[str, Api]] = {kind: {} for kind in KINDS}
        self._numbers = itertools.count(1)

    def apply(self, steps: t.Iterable[Step]) -> None:
        for step in steps:
            request = resolve(step.request, self.bound)
            made = getattr(self, step.action.removeprefix("ec2:"))(**request)
            if step.binds:
                assert made, f"{step.action} makes nothing that it could bind"
                self.bound.update(dict.fromkeys(step.binds, made))

    def _add(self, kind: str, key: str, api: Api, specifications: list[Api] | None = None) -> str:
        name = f"{kind}-{next(self._numbers)}"
        tags = [dict(tag) for specification in specifications or () for tag in specification["Tags"]]
        self.things[kind][name] = {key: name, "Tags": tags, **api}
        return name

    def CreateVpc(self, CidrBlock: str, TagSpecifications: list[Api]) -> str:
        api = {"CidrBlock": CidrBlock, "support": True, "hostnames": False, "CidrBlockAssociationSet": [block("main", CidrBlock)]}
        return self._add("vpc", "VpcId", api, TagSpecifications)

    def AssociateVpcCidrBlock(self, VpcId: str, CidrBlock: str) -> None:
        blocks = self.things["vpc"][VpcId]["CidrBlockAssociationSet"]
        assert CidrBlock not in [block["CidrBlock"] for block in blocks]
        blocks.append(block(f"vpc-cidr-assoc-{next(self._numbers)}", CidrBlock))

    def DisassociateVpcCidrBlock(self, AssociationId: str) -> None:
        for vpc in self.things["vpc"].values():
            vpc["CidrBlockAssociationSet"] = [b for b in vpc["CidrBlockAssociationSet"] if b["AssociationId"] != AssociationId]

    def CreateVpcEndpoint(self, VpcEndpointType: str, VpcId: str, ServiceName: str, TagSpecifications: list[Api], **places: t.Any) -> str:
        of_service = [e for e in self.things["vpce"].values() if (e["VpcEndpointType"], e["ServiceName"]) == (VpcEndpointType, ServiceName)]
        assert not of_service, "EC2 would speak of a conflicting DNS domain, or route"
        assert set(places.get("SubnetIds", ())) <= set(self.things["subnet"])
        assert set(places.get("SecurityGroupIds", ())) <= set(self.things["sg"])
        assert set(places.get("RouteTableIds", ())) <= set(self.things["rtb"])
        api = {"VpcEndpointType": VpcEndpointType, "ServiceName": ServiceName, "State": "available", **places}
        api["Groups"] = [{"GroupId": group} for group in places.get("SecurityGroupIds", ())]
        api["NetworkInterfaceIds"] = [f"eni-{ServiceName}-{subnet}" for subnet in places.get("SubnetIds", ())]
        return self._add("vpce", "VpcEndpointId", api, TagSpecifications)

    def ModifyVpcEndpoint(self, VpcEndpointId: str, PrivateDnsEnabled: bool | None = None, **changes: list[str]) -> None:
        endpoint = self.things["vpce"][VpcEndpointId]
        endpoint["PrivateDnsEnabled"] = PrivateDnsEnabled or endpoint.get("PrivateDnsEnabled", False)
        endpoint["SecurityGroupIds"] = [group["GroupId"] for group in endpoint["Groups"]]
        for name, ids in changes.items():
            key = name.removeprefix("Add").removeprefix("Remove")
            kept = [each for each in endpoint.get(key, ()) if each not in ids]
            endpoint[key] = kept + ids if name.startswith("Add") else kept
        endpoint["Groups"] = [{"GroupId": group} for group in endpoint["SecurityGroupIds"]]

    def DeleteVpcEndpoints(self, VpcEndpointIds: list[str]) -> None:
        for endpoint in VpcEndpointIds:
            del self.things["vpce"][endpoint]

    def ModifyVpcAttribute(self, VpcId: str, EnableDnsHostnames: Api | None = None, EnableDnsSupport: Api | None = None) -> None:
        self.things["vpc"][VpcId].update({"hostnames": True} if EnableDnsHostnames else {"support": True})

    def CreateSubnet(self, VpcId: str, AvailabilityZone: str, CidrBlock: str, TagSpecifications: list[Api]) -> str:
        blocks = [IPv4Network(block["CidrBlock"]) for block in self.things["vpc"][VpcId]["CidrBlockAssociationSet"]]
        assert any(IPv4Network(CidrBlock).subnet_of(block) for block in blocks)
        zone_id = next(zone.id for zone in ZONES if zone.name == AvailabilityZone)
        api = {"AvailabilityZone": AvailabilityZone, "AvailabilityZoneId": zone_id, "CidrBlock": CidrBlock}
        return self._add("subnet", "SubnetId", api, TagSpecifications)

    def CreateInternetGateway(self, TagSpecifications: list[Api]) -> str:
        return self._add("igw", "InternetGatewayId", {"Attachments": []}, TagSpecifications)

    def AttachInternetGateway(self, InternetGatewayId: str, VpcId: str) -> None:
        self.things["igw"][InternetGatewayId]["Attachments"] = [{"VpcId": VpcId, "State": "available"}]

    def AllocateAddress(self, Domain: str, TagSpecifications: list[Api]) -> str:
        return self._add("eipalloc", "AllocationId", {"PublicIp": "192.0.2.1"}, TagSpecifications)

    def CreateNatGateway(self, SubnetId: str, AllocationId: str, ConnectivityType: str, TagSpecifications: list[Api]) -> str:
        assert SubnetId in self.things["subnet"]
        address = self.things["eipalloc"][AllocationId]
        addresses = [{"AllocationId": AllocationId, "PublicIp": address["PublicIp"], "NetworkInterfaceId": f"eni-{AllocationId}"}]
        return self._add(
            "nat", "NatGatewayId", {"SubnetId": SubnetId, "State": "available", "NatGatewayAddresses": addresses}, TagSpecifications
        )

    def CreateRouteTable(self, VpcId: str, TagSpecifications: list[Api]) -> str:
        return self._add("rtb", "RouteTableId", {"Routes": [], "Associations": []}, TagSpecifications)

    def CreateRoute(self, RouteTableId: str, **route: str) -> None:
        assert not self.things["rtb"][RouteTableId]["Routes"]
        assert route.get("NatGatewayId", "") in {"", *self.things["nat"]}
        self.things["rtb"][RouteTableId]["Routes"] = [route]

    def ReplaceRoute(self, RouteTableId: str, **route: str) -> None:
        self.things["rtb"][RouteTableId]["Routes"] = [route]

    def DeleteRoute(self, RouteTableId: str, DestinationCidrBlock: str) -> None:
        self.things["rtb"][RouteTableId]["Routes"] = []

    def AssociateRouteTable(self, SubnetId: str, RouteTableId: str) -> None:
        association = {"SubnetId": SubnetId, "RouteTableAssociationId": f"rtbassoc-{SubnetId}"}
        self.things["rtb"][RouteTableId]["Associations"].append(association)

    def ReplaceRouteTableAssociation(self, AssociationId: str, RouteTableId: str) -> None:
        self.DisassociateRouteTable(AssociationId)
        self.AssociateRouteTable(AssociationId.removeprefix("rtbassoc-"), RouteTableId)

    def DisassociateRouteTable(self, AssociationId: str) -> None:
        for table in self.things["rtb"].values():
            table["Associations"] = [a for a in table["Associations"] if a["RouteTableAssociationId"] != AssociationId]

    def CreateSecurityGroup(self, GroupName: str, Description: str, VpcId: str, TagSpecifications: list[Api]) -> str:
        return self._add("sg", "GroupId", {"GroupName": GroupName, "IpPermissions": []}, TagSpecifications)

    def AuthorizeSecurityGroupIngress(self, GroupId: str, IpPermissions: list[Api]) -> None:
        self.things["sg"][GroupId]["IpPermissions"] += IpPermissions

    def RevokeSecurityGroupIngress(self, GroupId: str, IpPermissions: list[Api]) -> None:
        gone = [entry for permission in IpPermissions for entry in permission["IpRanges"]]
        for permission in self.things["sg"][GroupId]["IpPermissions"]:
            permission["IpRanges"] = [entry for entry in permission["IpRanges"] if entry not in gone]

    def CreateTags(self, Resources: list[str], Tags: list[Api]) -> None:
        self._tag(Resources, {tag["Key"] for tag in Tags}, Tags)

    def DeleteTags(self, Resources: list[str], Tags: list[Api]) -> None:
        self._tag(Resources, {tag["Key"] for tag in Tags}, [])

    def _tag(self, resources: list[str], keys: set[str], tags: list[Api]) -> None:
        for name in resources:
            thing = self.things[name.split("-")[0]][name]
            thing["Tags"] = [tag for tag in thing["Tags"] if tag["Key"] not in keys] + tags

    def DetachInternetGateway(self, InternetGatewayId: str, VpcId: str) -> None:
        self.things["igw"][InternetGatewayId]["Attachments"] = []

    def DeleteVpc(self, VpcId: str) -> None:
        assert not any(things for kind, things in self.things.items() if kind != "vpc"), "EC2 would call this a DependencyViolation"
        del self.things["vpc"][VpcId]

    def DeleteInternetGateway(self, InternetGatewayId: str) -> None:
        assert not self.things["igw"].pop(InternetGatewayId)["Attachments"]

    def DeleteRouteTable(self, RouteTableId: str) -> None:
        assert not self.things["rtb"].pop(RouteTableId)["Associations"]

    def DeleteNatGateway(self, NatGatewayId: str) -> None:
        del self.things["nat"][NatGatewayId]

    def ReleaseAddress(self, AllocationId: str) -> None:
        assert AllocationId not in str(self.things["nat"]), "EC2 would say that the address is in use"
        del self.things["eipalloc"][AllocationId]

    def DeleteSubnet(self, SubnetId: str) -> None:
        del self.things["subnet"][SubnetId]

    def DeleteSecurityGroup(self, GroupId: str) -> None:
        del self.things["sg"][GroupId]

    def DeleteNetworkInterface(self, NetworkInterfaceId: str) -> None:
        del self.things["eni"][NetworkInterfaceId]

    def observe(self) -> Network:
        things = {kind: list(of.values()) for kind, of in self.things.items()}
        vpcs = [Vpc.from_api(vpc, dns_support=vpc["support"], dns_hostnames=vpc["hostnames"]) for vpc in things["vpc"]]
        gateways = [InternetGateway.from_api(api) for api in things["igw"]]
        nats = tuple(NatGateway.from_api(api) for api in things["nat"])
        return Network(
            vpc=vpcs[0] if vpcs else None,
            subnets=tuple(Subnet.from_api(api, OWNER) for api in things["subnet"]),
            route_tables=tuple(RouteTable.from_api(api, OWNER) for api in things["rtb"]),
            internet_gateway=gateways[0] if gateways else None,
            nat_gateways=nats,
            addresses=tuple(Address.from_api(api) for api in things["eipalloc"]),
            security_groups=tuple(SecurityGroup.from_api(api) for api in things["sg"]),
            interfaces=tuple(NetworkInterface.from_api(api) for api in things["eni"]),
            nat_interfaces=frozenset(interface for nat in nats for interface in nat.interface_ids),
            endpoints=tuple(Endpoint.from_api(api, OWNER) for api in things["vpce"]),
        )

    def target(self, **options: t.Any) -> network_target.Target:
        observed, wanted = self.observe(), Wanted.from_params(options)
        chosen, faults = network_target.choose_zones(wanted, observed, ZONES)
        assert not faults + network_target.immutable_faults(wanted, observed)
        kept = network_target.kept_zones(chosen, observed, ZONES)
        assert not network_target.endpoint_faults(wanted, observed, [*chosen, *kept], SERVICES)
        target, faults = network_target.target(wanted, observed, OWNER, chosen, kept, SERVICES)
        assert target, faults
        return target

    def plan(self, **options: t.Any) -> Plan:
        return plan_network(self.target(**options), self.observe())

    def make(self, **options: t.Any) -> Plan:
        """Plan, make the calls, and find that nothing is left to do."""
        plan = self.plan(**options)
        self.apply(plan.steps)
        assert words(self.plan(**options)) == []
        return plan


def block(association: str, cidr: str, state: str = "associated") -> Api:
    return {"AssociationId": association, "CidrBlock": cidr, "CidrBlockState": {"State": state, "StatusMessage": "no room"}}


def words(plan: Plan) -> list[str]:
    return [f"{step.action.removeprefix('ec2:')} {step.target}" for step in plan.steps]
