# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of a network: creation, resumption after every call, changes, refusals, deletion."""

from __future__ import annotations

import itertools
import typing as t

import pytest
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
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._plan import network_target
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network import plan_network, result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_absent import blockers, plan_absent
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait, is_planned, resolve

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
ZONES = [Zone(name=f"us-west-2{letter}", id=f"usw2-az{number}") for letter, number in (("a", 2), ("b", 1), ("c", 3), ("d", 4))]
Api = dict[str, t.Any]


class Ec2:
    """Keeps what the plans' calls make, in the shape of EC2's replies, so that a network can be observed after each of them."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}
        self.things: dict[str, dict[str, Api]] = {kind: {} for kind in ("vpc", "subnet", "igw", "nat", "eipalloc", "rtb", "sg", "eni")}
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
        return self._add("vpc", "VpcId", {"CidrBlock": CidrBlock, "support": True, "hostnames": False}, TagSpecifications)

    def ModifyVpcAttribute(self, VpcId: str, EnableDnsHostnames: Api | None = None, EnableDnsSupport: Api | None = None) -> None:
        self.things["vpc"][VpcId].update({"hostnames": True} if EnableDnsHostnames else {"support": True})

    def CreateSubnet(self, VpcId: str, AvailabilityZone: str, CidrBlock: str, TagSpecifications: list[Api]) -> str:
        assert VpcId in self.things["vpc"]
        return self._add("subnet", "SubnetId", {"AvailabilityZone": AvailabilityZone, "CidrBlock": CidrBlock}, TagSpecifications)

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
        vpcs = [
            Vpc(id=v["VpcId"], cidr=v["CidrBlock"], dns_support=v["support"], dns_hostnames=v["hostnames"], tags=tag_map(v["Tags"]))
            for v in things["vpc"]
        ]
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
        )

    def target(self, **options: t.Any) -> network_target.Target:
        observed, wanted = self.observe(), Wanted.from_params(options)
        chosen, faults = network_target.choose_zones(wanted, observed, ZONES)
        assert not faults + network_target.immutable_faults(wanted, observed)
        kept = network_target.kept_zones(chosen, observed, ZONES)
        target, faults = network_target.target(wanted, observed, OWNER, chosen, kept)
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


def words(plan: Plan) -> list[str]:
    return [f"{step.action.removeprefix('ec2:')} {step.target}" for step in plan.steps]


@pytest.fixture
def ec2() -> Ec2:
    return Ec2()


TWO = {"zones": ["us-west-2a", "us-west-2b"]}


def test_everything_is_made_in_the_order_that_ec2_needs(ec2: Ec2) -> None:
    plan = ec2.make(**TWO)
    assert words(plan) == [
        "CreateVpc planned:vpc/demo",
        "ModifyVpcAttribute planned:vpc/demo",
        "CreateSubnet planned:subnet/demo-private-us-west-2a",
        "CreateSubnet planned:subnet/demo-private-us-west-2b",
        "CreateSubnet planned:subnet/demo-public-us-west-2a",
        "CreateSubnet planned:subnet/demo-public-us-west-2b",
        "CreateInternetGateway planned:internet-gateway/demo",
        "AttachInternetGateway planned:internet-gateway/demo",
        "AllocateAddress planned:address/demo-us-west-2a",
        "CreateNatGateway planned:nat-gateway/demo-us-west-2a",
        "CreateRouteTable planned:route-table/demo-public",
        "CreateRoute planned:route-table/demo-public",
        "AssociateRouteTable planned:subnet/demo-public-us-west-2a",
        "AssociateRouteTable planned:subnet/demo-public-us-west-2b",
        "CreateRouteTable planned:route-table/demo-private-us-west-2a",
        "CreateRoute planned:route-table/demo-private-us-west-2a",
        "AssociateRouteTable planned:subnet/demo-private-us-west-2a",
        "CreateRouteTable planned:route-table/demo-private-us-west-2b",
        "CreateRoute planned:route-table/demo-private-us-west-2b",
        "AssociateRouteTable planned:subnet/demo-private-us-west-2b",
        "CreateSecurityGroup planned:security-group/demo-api",
        "AuthorizeSecurityGroupIngress planned:security-group/demo-api",
    ]
    assert plan.before == {}
    needs = {step.target: step.needs for step in plan.steps if step.needs}
    nat = Wait(waiter="nat_gateway_available", arguments={"NatGatewayIds": ["planned:nat-gateway/demo-us-west-2a"]})
    assert needs == {
        "planned:vpc/demo": (Wait(waiter="vpc_available", arguments={"VpcIds": ["planned:vpc/demo"]}),),
        "planned:route-table/demo-private-us-west-2a": (nat,),
    }


def test_each_create_call_carries_mark_name_and_the_users_tags(ec2: Ec2) -> None:
    plan = ec2.plan(**TWO, tags={"team": "ml"})
    creates = [step for step in plan.steps if step.effect == "create"]
    for step in creates:
        (specification,) = step.request["TagSpecifications"]
        tags = tag_map(specification["Tags"])
        assert OWNER.owns(tags), step.action
        assert tags["team"] == "ml"
        assert tags["Name"].startswith("demo")
    subnet = next(step for step in creates if step.target == "planned:subnet/demo-private-us-west-2a")
    assert tag_map(subnet.request["TagSpecifications"][0]["Tags"]) == {
        "Name": "demo-private-us-west-2a",
        "gpuops.eks/component": "network/private-subnet",
        "gpuops.eks/owner": OWNER.arn,
        "kubernetes.io/role/internal-elb": "1",
        "team": "ml",
    }


@pytest.mark.parametrize("options", [TWO, {**TWO, "nat": "per_zone"}, {"zone_count": 3, "nat": "none"}, {**TWO, "public_subnets": False}])
def test_after_any_call_a_run_goes_on_from_there(options: dict[str, t.Any]) -> None:
    whole = words(Ec2().plan(**options))
    for made in range(1, len(whole) + 1):
        ec2 = Ec2()
        ec2.apply(ec2.plan(**options).steps[:made])
        names = {real: name for name, real in ec2.bound.items()}
        left = [" ".join(names.get(word, word) for word in line.split()) for line in words(ec2.plan(**options))]
        assert sorted(left) == sorted(whole[made:]), f"after {whole[made - 1]}"
        ec2.make(**options)
        assert {kind: len(of) for kind, of in ec2.things.items()} == _made(options)


def _made(options: dict[str, t.Any]) -> dict[str, int]:
    ec2 = Ec2()
    ec2.apply(ec2.plan(**options).steps)
    return {kind: len(of) for kind, of in ec2.things.items()}


def test_check_mode_shows_planned_ids_and_the_blocks(ec2: Ec2) -> None:
    network = result(ec2.target(**TWO))
    assert network["vpc_id"] == "planned:vpc/demo"
    assert network["zones"] == ["us-west-2a", "us-west-2b"]
    assert network["private_subnet_ids"] == ["planned:subnet/demo-private-us-west-2a", "planned:subnet/demo-private-us-west-2b"]
    assert network["subnets"][2] == {
        "id": "planned:subnet/demo-public-us-west-2a",
        "zone": "us-west-2a",
        "zone_id": "usw2-az2",
        "tier": "public",
        "cidr_block": "10.0.255.0/24",
    }
    assert network["nat_gateways"] == [{"id": "planned:nat-gateway/demo-us-west-2a", "zone": "us-west-2a", "public_ip": None}]
    assert network["security_group_ids"] == {"api": "planned:security-group/demo-api"}


def test_the_result_of_a_run_has_only_real_ids_in_the_order_of_zones(ec2: Ec2) -> None:
    ec2.make(zones=["usw2-az1", "us-west-2a"])
    network = result(ec2.target(zones=["usw2-az1", "us-west-2a"]))
    assert network["zones"] == ["us-west-2b", "us-west-2a"]
    assert [subnet["zone"] for subnet in network["subnets"]] == ["us-west-2b", "us-west-2a"] * 2
    assert "planned:" not in str(network)
    assert network["nat_gateways"][0]["public_ip"] == "192.0.2.1"


def test_nothing_to_do_means_equal_before_and_after(ec2: Ec2) -> None:
    ec2.make(**TWO)
    for options in (TWO, {}, {**TWO, "nat": "single", "cidr": "10.0.0.0/16", "private_subnet_prefix": 20}):
        plan = ec2.plan(**{"zone_count": 2, **options} if "zones" not in options else options)
        assert plan.steps == ()
        assert plan.before == plan.after


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ("none", "single", ["AllocateAddress", "CreateNatGateway", "CreateRoute", "CreateRoute"]),
        ("single", "per_zone", ["AllocateAddress", "CreateNatGateway", "ReplaceRoute"]),
        ("per_zone", "single", ["ReplaceRoute", "DeleteNatGateway", "ReleaseAddress"]),
        ("single", "none", ["DeleteRoute", "DeleteRoute", "DeleteNatGateway", "ReleaseAddress"]),
        ("per_zone", None, []),
        ("none", None, ["AllocateAddress", "CreateNatGateway", "CreateRoute", "CreateRoute"]),
    ],
)
def test_changes_of_nat(ec2: Ec2, first: str, then: str | None, expected: list[str]) -> None:
    ec2.make(**TWO, nat=first)
    plan = ec2.make(**TWO, nat=then)
    assert [step.action.removeprefix("ec2:") for step in plan.steps] == expected
    release = [step for step in plan.steps if step.action == "ec2:ReleaseAddress"]
    assert [[need.waiter for need in step.needs] for step in release] == [["nat_gateway_deleted"]] * len(release)


def test_the_one_nat_gateway_stays_where_it_is(ec2: Ec2) -> None:
    ec2.make(zones=["us-west-2b", "us-west-2a"], nat="single")
    assert words(ec2.plan(zones=["us-west-2a", "us-west-2b"], nat="single")) == []


def test_a_failed_nat_gateway_is_replaced_and_deleted(ec2: Ec2) -> None:
    ec2.make(**TWO)
    (failed,) = ec2.things["nat"]
    ec2.things["nat"][failed]["State"] = "failed"
    plan = ec2.plan(**TWO)
    assert [(step.action, step.reason) for step in plan.steps] == [
        ("ec2:CreateNatGateway", ""),
        ("ec2:ReplaceRoute", f"leads to {failed}"),
        ("ec2:ReplaceRoute", f"leads to {failed}"),
        ("ec2:DeleteNatGateway", "failed"),
    ]


def test_what_was_taken_away_by_hand_comes_back_and_nothing_else(ec2: Ec2) -> None:
    ec2.make(**TWO)
    table = next(iter(ec2.things["rtb"]))
    subnet = ec2.things["rtb"][table]["Associations"][0]["SubnetId"]
    ec2.things["rtb"][table].update(Routes=[], Associations=ec2.things["rtb"][table]["Associations"][1:])
    next(iter(ec2.things["vpc"].values())).update(hostnames=False, support=False)
    (group,) = ec2.things["sg"]
    ec2.things["sg"][group]["IpPermissions"] = []
    vpc = next(iter(ec2.things["vpc"]))
    assert words(ec2.make(**TWO)) == [
        f"ModifyVpcAttribute {vpc}",
        f"ModifyVpcAttribute {vpc}",
        f"CreateRoute {table}",
        f"AssociateRouteTable {subnet}",
        f"AuthorizeSecurityGroupIngress {group}",
    ]


def test_a_subnet_that_somebody_led_elsewhere_is_led_back(ec2: Ec2) -> None:
    ec2.make(**TWO)
    foreign = ec2.CreateRouteTable("vpc", [])
    subnet = next(iter(ec2.things["subnet"]))
    ec2.ReplaceRouteTableAssociation(f"rtbassoc-{subnet}", foreign)
    plan = ec2.make(**TWO)
    assert words(plan) == [f"ReplaceRouteTableAssociation {subnet}"]
    assert plan.steps[0].reason == f"is associated with {foreign}"


def test_a_way_out_that_the_user_made_stays_without_nat(ec2: Ec2) -> None:
    ec2.make(**TWO, nat="none")
    ec2.CreateRoute(next(reversed(ec2.things["rtb"])), DestinationCidrBlock="0.0.0.0/0", TransitGatewayId="tgw-1")
    assert words(ec2.plan(**TWO, nat="none")) == []


def test_a_new_zone_moves_nothing_and_a_dropped_one_is_kept_with_a_warning(ec2: Ec2) -> None:
    ec2.make(**TWO)
    before = {subnet.id: subnet.cidr for subnet in ec2.observe().subnets}
    plan = ec2.make(zones=["us-west-2d", "us-west-2a"])
    assert [step.action for step in plan.steps if step.effect == "delete"] == []
    after = {subnet.id: subnet.cidr for subnet in ec2.observe().subnets}
    assert {name: after[name] for name in before} == before
    assert len(plan.warnings) == 1
    assert "us-west-2b" in plan.warnings[0]
    assert result(ec2.target(zones=["us-west-2d", "us-west-2a"]))["zones"] == ["us-west-2d", "us-west-2a"]


def test_without_zones_those_that_are_there_are_used(ec2: Ec2) -> None:
    ec2.make(zones=["us-west-2c", "us-west-2d"])
    assert ec2.target(zone_count=2).chosen == ("us-west-2c", "us-west-2d")
    assert ec2.target(zone_count=3).chosen == ("us-west-2c", "us-west-2d", "us-west-2a")


def test_api_access_is_only_managed_when_set(ec2: Ec2) -> None:
    ec2.make(**TWO, api_access_cidrs=["192.0.2.0/24", "198.51.100.0/24"])
    assert words(ec2.plan(**TWO)) == []
    plan = ec2.make(**TWO, api_access_cidrs=["203.0.113.0/24", "192.0.2.0/24"])
    assert [(step.action, step.request["IpPermissions"][0]["IpRanges"]) for step in plan.steps] == [
        ("ec2:AuthorizeSecurityGroupIngress", [{"CidrIp": "203.0.113.0/24"}]),
        ("ec2:RevokeSecurityGroupIngress", [{"CidrIp": "198.51.100.0/24"}]),
    ]
    assert plan.after["api_access_cidrs"] == ["10.0.0.0/16", "192.0.2.0/24", "203.0.113.0/24"]


def test_tags_of_every_resource_follow_and_ours_stay(ec2: Ec2) -> None:
    ec2.make(**TWO, tags={"team": "ml", "old": "x"})
    count = sum(len(of) for of in ec2.things.values())
    subnet = next(iter(ec2.things["subnet"].values()))
    subnet["Tags"] += [{"Key": "karpenter.sh/discovery", "Value": "demo"}, {"Key": "aws:cloudformation:stack-name", "Value": "s"}]
    assert words(ec2.plan(**TWO)) == []
    assert words(ec2.plan(**TWO, tags={"team": "ml"}, purge_tags=False)) == []
    plan = ec2.make(**TWO, tags={"team": "research"})
    assert [step.action for step in plan.steps] == ["ec2:CreateTags", "ec2:DeleteTags"] * count
    assert all(step.request["Tags"] == [{"Key": "old"}] for step in plan.steps if step.action == "ec2:DeleteTags")
    assert plan.before["tags"] == {"Name": "demo", "old": "x", "team": "ml"}
    assert plan.after["tags"] == {"Name": "demo", "team": "research"}
    assert {"Key": "karpenter.sh/discovery", "Value": "demo"} in subnet["Tags"]
    assert ec2.plan(**TWO, tags={}).after["tags"] == {"Name": "demo"}


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"cidr": "10.1.0.0/16"}, ["cidr"]),
        ({"private_subnet_prefix": 21, "public_subnet_prefix": 25}, ["private_subnet_prefix", "public_subnet_prefix"]),
        ({"public_subnets": False}, ["public_subnets"]),
        ({"cidr": "10.0.0.0/16", "private_subnet_prefix": 20}, []),
    ],
)
def test_what_cannot_be_changed_is_refused(ec2: Ec2, options: dict[str, t.Any], paths: list[str]) -> None:
    ec2.make(**TWO)
    assert [fault.path for fault in network_target.immutable_faults(Wanted.from_params(options), ec2.observe())] == paths


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"zones": ["us-west-2a", "us-west-2z", "use1-az1"]}, ["zones[1]", "zones[2]"]),
        ({"zones": ["us-west-2a", "usw2-az2"]}, ["zones[1]"]),
        ({"zone_count": 5}, ["zone_count"]),
    ],
)
def test_zones_that_the_region_does_not_have(options: dict[str, t.Any], paths: list[str]) -> None:
    _unused, faults = network_target.choose_zones(Wanted.from_params(options), Network(), ZONES)
    assert [fault.path for fault in faults] == paths
    if "us-west-2z" in str(options):
        assert "us-west-2a (usw2-az2), us-west-2b (usw2-az1)" in faults[0].allowed


def test_zones_without_control_planes_are_not_chosen_by_default() -> None:
    zones = [Zone(name="us-east-1a", id="use1-az1"), Zone(name="us-east-1b", id="use1-az3"), Zone(name="us-east-1c", id="use1-az2")]
    chosen, faults = network_target.choose_zones(Wanted.from_params({"zone_count": 2}), Network(), zones)
    assert not faults
    assert [zone.name for zone in chosen] == ["us-east-1a", "us-east-1c"]


def test_a_zone_that_does_not_fit_in_what_is_left_is_refused(ec2: Ec2) -> None:
    ec2.make(**TWO, cidr="10.0.0.0/18", private_subnet_prefix=19, public_subnets=False)
    wanted, observed = Wanted.from_params({"zones": ["us-west-2a", "us-west-2b", "us-west-2c"], "public_subnets": False}), ec2.observe()
    target, faults = network_target.target(wanted, observed, OWNER, ZONES[:3], [])
    assert target is None
    assert [fault.path for fault in faults] == ["cidr"]


def test_everything_of_ours_goes_in_the_order_that_ec2_needs(ec2: Ec2) -> None:
    ec2.make(**TWO, nat="per_zone")
    plan = plan_absent(ec2.observe(), OWNER)
    ec2.apply(plan.steps)
    assert not any(ec2.things.values())
    actions = [step.action.removeprefix("ec2:") for step in plan.steps]
    assert [name for name, _unused in itertools.groupby(actions)] == [
        "DeleteNatGateway",
        "ReleaseAddress",
        "DisassociateRouteTable",
        "DeleteSubnet",
        "DeleteRouteTable",
        "DetachInternetGateway",
        "DeleteInternetGateway",
        "DeleteSecurityGroup",
        "DeleteVpc",
    ]
    assert [step.action for step in plan.steps if step.needs] == ["ec2:ReleaseAddress"]
    assert {step.effect for step in plan.steps} == {"delete"}
    assert plan.after == {}


def test_a_deletion_that_was_interrupted_goes_on() -> None:
    whole = Ec2()
    whole.make(**TWO)
    steps = plan_absent(whole.observe(), OWNER).steps
    for made in range(len(steps)):
        ec2 = Ec2()
        ec2.make(**TWO)
        ec2.apply(plan_absent(ec2.observe(), OWNER).steps[:made])
        left = plan_absent(ec2.observe(), OWNER).steps
        assert [step.action for step in left] == [step.action for step in steps[made:]]


def _interface(name: str, status: str, description: str = "", **tags: str) -> Api:
    tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"NetworkInterfaceId": name, "Status": status, "Description": description, "TagSet": tag_set}


def test_leftovers_of_nodes_and_controllers_go_too(ec2: Ec2) -> None:
    ec2.make(**TWO)
    ec2.things["eni"] = {
        "eni-1": _interface("eni-1", "available", "aws-K8S-i-0123"),
        "eni-2": _interface("eni-2", "available", "", **{"node.k8s.amazonaws.com/instance_id": "i-0123"}),
    }
    ec2._add(
        "sg",
        "GroupId",
        {"GroupName": "k8s-elb", "IpPermissions": []},
        [{"Tags": [{"Key": "kubernetes.io/cluster/demo", "Value": "owned"}]}],
    )
    assert blockers(ec2.observe(), OWNER) == []
    plan = plan_absent(ec2.observe(), OWNER)
    assert words(plan)[:2] == ["DeleteNetworkInterface eni-1", "DeleteNetworkInterface eni-2"]
    ec2.apply(plan.steps)
    assert not any(ec2.things.values())


def test_what_is_not_ours_stands_in_the_way(ec2: Ec2) -> None:
    ec2.make(**TWO)
    nat_interface = next(iter(ec2.observe().nat_interfaces))
    ec2.things["eni"] = {
        nat_interface: _interface(nat_interface, "in-use", "Interface for NAT Gateway"),
        "eni-1": _interface("eni-1", "in-use", "aws-K8S-i-0123"),
        "eni-2": _interface("eni-2", "available", "RDSNetworkInterface"),
    }
    ec2.things["subnet"]["subnet-x"] = {"SubnetId": "subnet-x", "AvailabilityZone": "us-west-2a", "CidrBlock": "10.0.100.0/24"}
    ec2.things["sg"]["sg-x"] = {"GroupId": "sg-x", "GroupName": "theirs"}
    ec2.things["sg"]["sg-d"] = {"GroupId": "sg-d", "GroupName": "default"}
    ec2.things["rtb"]["rtb-x"] = {"RouteTableId": "rtb-x"}
    ec2.things["rtb"]["rtb-m"] = {"RouteTableId": "rtb-m", "Associations": [{"Main": True, "RouteTableAssociationId": "rtbassoc-m"}]}
    assert blockers(ec2.observe(), OWNER) == [
        "eni-1 (aws-K8S-i-0123)",
        "eni-2 (RDSNetworkInterface)",
        "subnet-x (subnet 10.0.100.0/24)",
        "sg-x (security group theirs)",
        "rtb-x (route table)",
    ]
    deleted = {step.target for step in plan_absent(ec2.observe(), OWNER).steps}
    assert not deleted & {"eni-1", "eni-2", nat_interface, "subnet-x", "sg-x", "sg-d", "rtb-x", "rtb-m"}


def test_planned_ids_reach_every_call_that_needs_them(ec2: Ec2) -> None:
    """Each planned id that a request names is bound by a step before it."""
    bound: set[str] = set()
    for step in ec2.plan(**TWO, nat="per_zone").steps:
        named = {value for value in step.request.values() if is_planned(value)}
        assert named <= bound, step.action
        bound |= set(step.binds)
