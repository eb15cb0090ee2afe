# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of a network: creation, resumption after every call, changes, refusals, deletion."""

from __future__ import annotations

import itertools
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Network, Zone
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._plan import network_target
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network import result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_absent import blockers, plan_absent
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Wait, is_planned

from tests.unit.plan.network_ec2 import OWNER, ZONES, Api, Ec2, words


@pytest.fixture
def ec2() -> Ec2:
    return Ec2()


TWO = {"zones": ["us-west-2a", "us-west-2b"]}
ENDPOINTS = {"gateway_endpoints": ["s3"], "interface_endpoints": ["ecr.api", "sqs"]}
WIDE = {**ENDPOINTS, "intra_subnets": True, "cidr": "10.0.0.0/19", "secondary_cidrs": ["100.64.0.0/16"]}


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


@pytest.mark.parametrize(
    "options", [TWO, {**TWO, "nat": "per_zone"}, {"zone_count": 3, "nat": "none"}, {**TWO, "public_subnets": False}, {**TWO, **WIDE}]
)
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


@pytest.mark.parametrize("options", [TWO, {**TWO, **WIDE}])
def test_a_deletion_that_was_interrupted_goes_on(options: dict[str, t.Any]) -> None:
    whole = Ec2()
    whole.make(**options)
    steps = plan_absent(whole.observe(), OWNER).steps
    for made in range(len(steps)):
        ec2 = Ec2()
        ec2.make(**options)
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
    for step in ec2.plan(**TWO, **WIDE, nat="per_zone").steps:
        values = [value if isinstance(value, list) else [value] for value in step.request.values()]
        named = {value for value in itertools.chain(*values) if is_planned(value)}
        assert named <= bound, step.action
        bound |= set(step.binds)
