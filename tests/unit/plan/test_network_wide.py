# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of endpoints, intra subnets, secondary blocks and subnet tags, and which zones are left out."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Network, Zone
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import service_names
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._plan import network_target
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network import left_out, plan_network, result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_absent import blockers, plan_absent
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Wait

from tests.unit.plan.network_ec2 import OWNER, SERVICES, ZONES, Api, Ec2, block, words

TWO = {"zones": ["us-west-2a", "us-west-2b"], "nat": "none"}
THREE = {"zones": ["us-west-2a", "us-west-2b", "us-west-2c"], "nat": "none"}
ENDPOINTS = {"gateway_endpoints": ["s3"], "interface_endpoints": ["ecr.api", "sqs"]}


@pytest.fixture
def ec2() -> Ec2:
    return Ec2()


def endpoint(ec2: Ec2, service: str, kind: str = "Interface") -> Api:
    [found] = [
        e for e in ec2.things["vpce"].values() if (e["VpcEndpointType"], e["ServiceName"]) == (kind, f"com.amazonaws.us-west-2.{service}")
    ]
    return found


def test_endpoints_are_made_side_by_side_and_waited_for_together(ec2: Ec2) -> None:
    plan = ec2.make(**TWO, **ENDPOINTS)
    made = [word for word in words(plan) if "Endpoint" in word or "endpoints" in word]
    assert made == [
        "CreateSecurityGroup planned:security-group/demo-endpoints",
        "AuthorizeSecurityGroupIngress planned:security-group/demo-endpoints",
        "CreateVpcEndpoint planned:vpc-endpoint/demo-interface-ecr.api",
        "CreateVpcEndpoint planned:vpc-endpoint/demo-interface-sqs",
        "CreateVpcEndpoint planned:vpc-endpoint/demo-gateway-s3",
    ]
    ids = ["planned:vpc-endpoint/demo-gateway-s3", "planned:vpc-endpoint/demo-interface-ecr.api", "planned:vpc-endpoint/demo-interface-sqs"]
    assert plan.waits == (Wait(waiter="vpc_endpoint_available", arguments={"VpcEndpointIds": ids}),)
    creates = {step.target: step for step in plan.steps if step.action == "ec2:CreateVpcEndpoint"}
    assert [step.wait for step in creates.values()] == [None] * 3
    for step in creates.values():
        tags = tag_map(step.request["TagSpecifications"][0]["Tags"])
        assert OWNER.owns(tags)
    assert creates[ids[1]].request["SubnetIds"] == [f"planned:subnet/demo-private-us-west-2{zone}" for zone in "ab"]
    assert creates[ids[1]].request["SecurityGroupIds"] == ["planned:security-group/demo-endpoints"]
    assert creates[ids[1]].request["PrivateDnsEnabled"] is True
    assert creates[ids[2]].request["SubnetIds"] == ["planned:subnet/demo-private-us-west-2a"], "the service is not in us-west-2b"
    assert sorted(endpoint(ec2, "s3", "Gateway")["RouteTableIds"]) == sorted(ec2.things["rtb"])
    assert "PolicyDocument" not in str(plan.steps)


def test_the_result_has_the_endpoints_in_the_order_of_the_options(ec2: Ec2) -> None:
    planned = result(ec2.target(**TWO, **ENDPOINTS))
    assert planned["endpoints"][2] == {
        "id": "planned:vpc-endpoint/demo-interface-sqs",
        "service": "sqs",
        "type": "Interface",
        "state": None,
    }
    ec2.make(**TWO, **ENDPOINTS)
    made = result(ec2.target(**TWO, **ENDPOINTS))
    assert [(e["service"], e["state"]) for e in made["endpoints"]] == [("s3", "available"), ("ecr.api", "available"), ("sqs", "available")]
    assert set(made["security_group_ids"]) == {"api", "endpoints"}


def test_unset_endpoints_are_left_alone_and_an_empty_list_means_none(ec2: Ec2) -> None:
    ec2.make(**TWO, **ENDPOINTS)
    assert words(ec2.plan(**TWO)) == []
    assert [e["service"] for e in result(ec2.target(**TWO))["endpoints"]] == ["s3", "ecr.api", "sqs"]
    gateways = [name for name, e in ec2.things["vpce"].items() if e["VpcEndpointType"] == "Gateway"]
    interfaces = [name for name in ec2.things["vpce"] if name not in gateways]
    plan = ec2.make(**TWO, interface_endpoints=[])
    assert words(plan) == [f"DeleteVpcEndpoints {name}" for name in interfaces]
    assert [wait.arguments for wait in plan.waits] == [{"VpcEndpointIds": [name]} for name in interfaces]
    assert set(ec2.things["vpce"]) == set(gateways)


def test_the_list_is_exact_and_keeps_what_stays(ec2: Ec2) -> None:
    ec2.make(**TWO, **ENDPOINTS)
    kept, gone = endpoint(ec2, "ecr.api"), endpoint(ec2, "sqs")
    plan = ec2.make(**TWO, gateway_endpoints=["s3"], interface_endpoints=["sts", "ecr.api"])
    assert words(plan) == [f"DeleteVpcEndpoints {gone['VpcEndpointId']}", "CreateVpcEndpoint planned:vpc-endpoint/demo-interface-sts"]
    assert endpoint(ec2, "ecr.api") is kept
    assert plan.steps[1].needs == ()


@pytest.mark.parametrize("state", ["failed", "rejected", "Expired"])
def test_a_dead_endpoint_is_replaced(ec2: Ec2, state: str) -> None:
    ec2.make(**TWO, **ENDPOINTS)
    dead = endpoint(ec2, "ecr.api")
    dead.update(State=state, LastError={"Message": "no more addresses"})
    plan = ec2.make(**TWO, **ENDPOINTS)
    delete, create = plan.steps
    assert (delete.target, delete.reason) == (dead["VpcEndpointId"], f"{state.lower()}: no more addresses")
    assert create.target == "planned:vpc-endpoint/demo-interface-ecr.api"
    assert create.needs == (Wait(waiter="vpc_endpoint_deleted", arguments={"VpcEndpointIds": [dead["VpcEndpointId"]]}),)
    assert [wait.waiter for wait in plan.waits] == ["vpc_endpoint_available"]


def test_one_that_is_being_deleted_makes_room_first(ec2: Ec2) -> None:
    ec2.make(**TWO, **ENDPOINTS)
    going = endpoint(ec2, "ecr.api")
    going["State"] = "deleting"
    [create] = ec2.plan(**TWO, **ENDPOINTS).steps
    assert create.needs == (Wait(waiter="vpc_endpoint_deleted", arguments={"VpcEndpointIds": [going["VpcEndpointId"]]}),)


def test_one_in_the_making_is_waited_for(ec2: Ec2) -> None:
    ec2.make(**TWO, **ENDPOINTS)
    pending = endpoint(ec2, "ecr.api")
    pending["State"] = "pending"
    plan = ec2.plan(**TWO, **ENDPOINTS)
    assert plan.steps == ()
    assert plan.waits == (Wait(waiter="vpc_endpoint_available", arguments={"VpcEndpointIds": [pending["VpcEndpointId"]]}),)


def test_subnets_groups_and_tables_are_changed_in_place(ec2: Ec2) -> None:
    ec2.make(**TWO, **ENDPOINTS)
    changed, gateway = endpoint(ec2, "ecr.api"), endpoint(ec2, "s3", "Gateway")
    [group] = [group["GroupId"] for group in changed["Groups"]]
    right, [table, *_others] = list(changed["SubnetIds"]), list(gateway["RouteTableIds"])
    changed.update(SubnetIds=right[:1], Groups=[{"GroupId": "sg-other"}], PrivateDnsEnabled=False)
    gateway["RouteTableIds"] = ["rtb-of-the-user", *gateway["RouteTableIds"][1:]]
    first, second = ec2.make(**TWO, **ENDPOINTS).steps
    assert first.request == {
        "VpcEndpointId": changed["VpcEndpointId"],
        "AddSubnetIds": right[1:],
        "AddSecurityGroupIds": [group],
        "RemoveSecurityGroupIds": ["sg-other"],
        "PrivateDnsEnabled": True,
    }
    assert first.fields == ("subnet_ids", "security_group_ids", "private_dns_enabled")
    assert second.request == {"VpcEndpointId": gateway["VpcEndpointId"], "AddRouteTableIds": [table]}
    assert "rtb-of-the-user" in gateway["RouteTableIds"]


def test_endpoints_follow_into_a_new_zone_where_their_service_is(ec2: Ec2) -> None:
    ec2.make(**TWO, **ENDPOINTS)
    plan = ec2.make(**THREE, **ENDPOINTS)
    modified = {step.target: step.request for step in plan.steps if step.action == "ec2:ModifyVpcEndpoint"}
    new = "planned:subnet/demo-private-us-west-2c"
    assert modified[endpoint(ec2, "ecr.api")["VpcEndpointId"]]["AddSubnetIds"] == [new]
    assert modified[endpoint(ec2, "sqs")["VpcEndpointId"]]["AddSubnetIds"] == [new]
    assert modified[endpoint(ec2, "s3", "Gateway")["VpcEndpointId"]]["AddRouteTableIds"] == ["planned:route-table/demo-private-us-west-2c"]
    assert plan.before["endpoints"] != plan.after["endpoints"]


def test_ec2_is_asked_only_for_services_of_which_something_is_open(ec2: Ec2) -> None:
    wanted = Wanted.from_params({**TWO, **ENDPOINTS})
    assert network_target.asked_services(wanted, ec2.observe(), ZONES[:2]) == ["s3", "ecr.api", "sqs"]
    ec2.make(**TWO, **ENDPOINTS)
    assert network_target.asked_services(wanted, ec2.observe(), ZONES[:2]) == ["sqs"], "it may rightly be in one zone only"
    assert network_target.asked_services(wanted, ec2.observe(), ZONES[:3]) == ["ecr.api", "sqs"]
    assert network_target.asked_services(Wanted.from_params(TWO), ec2.observe(), ZONES[:3]) == []


def test_what_cannot_have_an_endpoint_is_refused_at_once(ec2: Ec2) -> None:
    ec2.make(**TWO)
    theirs = {"VpcEndpointId": "vpce-x", "VpcEndpointType": "Interface", "ServiceName": "com.amazonaws.us-west-2.sts", "State": "available"}
    ec2.things["vpce"]["vpce-x"] = theirs
    wanted = Wanted.from_params({**TWO, "gateway_endpoints": ["dynamodb"], "interface_endpoints": ["sts", "nonsense", "ecr.api", "sqs"]})
    faults = network_target.endpoint_faults(wanted, ec2.observe(), ZONES[1:2], SERVICES)
    assert [fault.path for fault in faults] == [
        "gateway_endpoints[0]",
        "interface_endpoints[0]",
        "interface_endpoints[1]",
        "interface_endpoints[3]",
    ]
    assert "vpce-x, which is not ours" in str(faults[1])
    assert "'nonsense'" in str(faults[2])
    assert "this one is in us-west-2a, us-west-2c" in str(faults[3])


def test_the_names_of_services_in_china() -> None:
    assert service_names(["s3"], "us-west-2") == ["com.amazonaws.us-west-2.s3"]
    assert service_names(["s3"], "cn-north-1") == ["com.amazonaws.cn-north-1.s3", "cn.com.amazonaws.cn-north-1.s3"]


def test_only_the_vpc_reaches_the_endpoints(ec2: Ec2) -> None:
    ec2.make(**TWO, **ENDPOINTS, api_access_cidrs=["192.0.2.0/24"])
    [group] = [g for g in ec2.things["sg"].values() if g["GroupName"] == "demo-endpoints"]
    [permission] = group["IpPermissions"]
    assert permission["IpRanges"] == [{"CidrIp": "10.0.0.0/16"}]
    permission["IpRanges"].append({"CidrIp": "0.0.0.0/0"})
    plan = ec2.make(**TWO, **ENDPOINTS, secondary_cidrs=["100.64.0.0/16"])
    changed = [(step.action, step.request["IpPermissions"][0]["IpRanges"]) for step in plan.steps if step.target == group["GroupId"]]
    assert changed == [
        ("ec2:AuthorizeSecurityGroupIngress", [{"CidrIp": "100.64.0.0/16"}]),
        ("ec2:RevokeSecurityGroupIngress", [{"CidrIp": "0.0.0.0/0"}]),
    ]
    assert plan.after["endpoint_access_cidrs"] == ["10.0.0.0/16", "100.64.0.0/16"]


def test_intra_subnets_have_no_way_out_and_no_load_balancers(ec2: Ec2) -> None:
    ec2.make(**{**TWO, "nat": "single"}, intra_subnets=True, gateway_endpoints=["s3"])
    observed = ec2.observe()
    intra = [subnet for subnet in observed.subnets if subnet.tier == "intra"]
    assert [subnet.cidr for subnet in intra] == ["10.0.253.240/28", "10.0.253.224/28"]
    assert not any(key.startswith("kubernetes.io/role") for subnet in intra for key in subnet.tags)
    table = observed.route_table("intra")
    assert table
    assert table.default_target is None
    assert {observed.association(subnet.id) for subnet in intra} == {(f"rtbassoc-{subnet.id}", table.id) for subnet in intra}
    assert table.id in endpoint(ec2, "s3", "Gateway")["RouteTableIds"]
    network = result(ec2.target(**TWO, intra_subnets=True))
    assert network["intra_subnet_ids"] == [subnet.id for subnet in intra]
    assert [subnet["tier"] for subnet in network["subnets"]] == ["private"] * 2 + ["public"] * 2 + ["intra"] * 2


def test_intra_subnets_may_come_later_and_stay(ec2: Ec2) -> None:
    ec2.make(**TWO)
    plan = ec2.make(**TWO, intra_subnets=True)
    assert [step.action.removeprefix("ec2:") for step in plan.steps] == [
        "CreateSubnet",
        "CreateSubnet",
        "CreateRouteTable",
        "AssociateRouteTable",
        "AssociateRouteTable",
    ]
    faults = network_target.immutable_faults(Wanted.from_params({**TWO, "intra_subnet_prefix": 27}), ec2.observe())
    assert [fault.path for fault in faults] == ["intra_subnet_prefix", "intra_subnets"]


def test_what_does_not_fit_lies_in_a_secondary_block(ec2: Ec2) -> None:
    plan = ec2.make(**TWO, cidr="10.0.0.0/19", secondary_cidrs=["100.64.0.0/16", "100.65.0.0/16"])
    assert {subnet.cidr for subnet in ec2.observe().subnets} == {"10.0.0.0/20", "10.0.16.0/20", "100.64.255.0/24", "100.64.254.0/24"}
    actions = [step.action for step in plan.steps]
    assert actions[2:4] == ["ec2:AssociateVpcCidrBlock"] * 2
    needing = [step.request["CidrBlock"] for step in plan.steps for need in step.needs if need.waiter == "vpc_blocks_associated"]
    assert needing == ["100.64.255.0/24"], "the first subnet in one of them"
    assert plan.waits == ()
    api = next(step for step in plan.steps if step.action == "ec2:AuthorizeSecurityGroupIngress")
    assert [entry["CidrIp"] for entry in api.request["IpPermissions"][0]["IpRanges"]] == ["10.0.0.0/19", "100.64.0.0/16", "100.65.0.0/16"]
    assert words(ec2.plan(**TWO)) == [], "what is not set is not managed"
    assert result(ec2.target(**TWO))["secondary_cidrs"] == ["100.64.0.0/16", "100.65.0.0/16"]


def test_a_block_that_no_subnet_needs_yet_is_waited_for_in_the_end(ec2: Ec2) -> None:
    ec2.make(**TWO)
    plan = ec2.make(**TWO, secondary_cidrs=["100.64.0.0/16"])
    assert [wait.waiter for wait in plan.waits] == ["vpc_blocks_associated"]
    assert plan.before["secondary_cidrs"] == []
    assert plan.after["secondary_cidrs"] == ["100.64.0.0/16"]
    assert words(ec2.plan(**TWO, secondary_cidrs=[])) == [], "a block is never taken away"


def test_a_failed_block_is_taken_away_before_the_next(ec2: Ec2) -> None:
    ec2.make(**TWO)
    [vpc] = ec2.things["vpc"].values()
    vpc["CidrBlockAssociationSet"].append(block("vpc-cidr-assoc-x", "100.64.0.0/16", "failed"))
    plan = ec2.make(**TWO, secondary_cidrs=["100.64.0.0/16"])
    assert [(step.action, step.reason) for step in plan.steps[:2]] == [
        ("ec2:DisassociateVpcCidrBlock", "100.64.0.0/16 has failed: no room"),
        ("ec2:AssociateVpcCidrBlock", ""),
    ]


@pytest.mark.parametrize(("there", "paths"), [(False, ["secondary_cidrs[1]"]), (True, ["secondary_cidrs[1]"])])
def test_a_secondary_block_overlaps_no_other(ec2: Ec2, there: bool, paths: list[str]) -> None:
    if there:
        ec2.make(**TWO, secondary_cidrs=["100.64.0.0/16"])
    wanted = Wanted.from_params({**TWO, "secondary_cidrs": ["100.64.0.0/16", "10.0.128.0/17"]})
    assert [fault.path for fault in network_target.immutable_faults(wanted, ec2.observe())] == paths


def test_tags_of_a_tier_are_for_its_subnets_only(ec2: Ec2) -> None:
    tags = {"private": {"karpenter.sh/discovery": "demo"}, "intra": {"plane": "control"}, "public": None}
    ec2.make(**TWO, intra_subnets=True, subnet_tags=tags, tags={"team": "ml"})
    for subnet in ec2.observe().subnets:
        found = {key: value for key, value in subnet.tags.items() if key in ("karpenter.sh/discovery", "plane", "team")}
        assert found == {"team": "ml", **(tags[subnet.tier or ""] or {})}
    assert words(ec2.plan(**TWO, intra_subnets=True, subnet_tags=tags)) == []
    plan = ec2.make(**TWO, intra_subnets=True, subnet_tags={"private": {"karpenter.sh/discovery": "other"}}, tags={"team": "ml"})
    assert [(step.action, [tag["Key"] for tag in step.request["Tags"]]) for step in plan.steps] == [
        ("ec2:CreateTags", ["karpenter.sh/discovery"]),
        ("ec2:CreateTags", ["karpenter.sh/discovery"]),
        ("ec2:DeleteTags", ["plane"]),
        ("ec2:DeleteTags", ["plane"]),
    ]


EAST = [Zone(name=f"us-east-1{letter}", id=f"use1-az{number}") for letter, number in (("a", 1), ("b", 3), ("c", 2), ("d", 4))]


def test_zones_without_the_instance_types_are_left_out_with_the_reason() -> None:
    wanted = Wanted.from_params({"zone_count": 2, "instance_types": ["p5.48xlarge"]})
    offered = {"us-east-1b", "us-east-1c", "us-east-1d"}
    chosen, faults = network_target.choose_zones(wanted, Network(), EAST, offered)
    assert not faults
    assert [zone.name for zone in chosen] == ["us-east-1c", "us-east-1d"]
    assert network_target.useless_zones(wanted, EAST, offered) == {
        "us-east-1a": "it offers none of p5.48xlarge",
        "us-east-1b": "EKS places no control plane there",
    }


def test_too_few_zones_with_the_instance_types_are_a_fault_that_says_why() -> None:
    wanted = Wanted.from_params({"zone_count": 3, "instance_types": ["p5.48xlarge"]})
    chosen, [fault] = network_target.choose_zones(wanted, Network(), EAST, {"us-east-1a", "us-east-1c"})
    assert not chosen
    assert "at most 2" in fault.allowed
    assert "us-east-1d: it offers none of p5.48xlarge" in fault.allowed
    assert "us-east-1b: EKS places no control plane there" in fault.allowed


def target_in_the_east(**options: t.Any) -> network_target.Target:
    wanted = Wanted.from_params({"instance_types": ["p5.48xlarge"], **options})
    chosen, faults = network_target.choose_zones(wanted, Network(), EAST, {"us-east-1a", "us-east-1d"})
    found, more = network_target.target(wanted, Network(), OWNER, chosen, [])
    assert found, faults + more
    return network_target.with_useless(found, EAST, {"us-east-1a", "us-east-1d"})


def test_named_zones_are_used_with_a_warning() -> None:
    found = target_in_the_east(zones=["use1-az3", "us-east-1a", "us-east-1c"])
    assert left_out(found) == []
    assert plan_network(found, Network()).warnings == (
        "Zone us-east-1b: EKS places no control plane there.",
        "Zone us-east-1c: it offers none of p5.48xlarge.",
    )


def test_counted_zones_are_left_out_with_a_warning() -> None:
    found = target_in_the_east(zone_count=2)
    assert found.chosen == ("us-east-1a", "us-east-1d")
    assert result(found)["left_out_zones"] == [
        {"zone": "us-east-1b", "reason": "EKS places no control plane there"},
        {"zone": "us-east-1c", "reason": "it offers none of p5.48xlarge"},
    ]
    assert plan_network(found, Network()).warnings[1] == "Zone us-east-1c is left out: it offers none of p5.48xlarge."


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({"zone_count": 2}, True),
        ({"zone_count": 3}, False),
        ({"zones": ["us-west-2b", "usw2-az2"]}, True),
        ({"zones": ["us-west-2a", "us-west-2c"]}, False),
    ],
)
def test_ec2_is_asked_for_zones_only_where_new_ones_are_needed(ec2: Ec2, options: dict[str, t.Any], known: bool) -> None:
    ec2.make(**TWO)
    found = network_target.used_zones(Wanted.from_params(options), ec2.observe())
    assert (found == ZONES[:2]) if known else (found is None)


def test_endpoints_go_before_what_their_interfaces_hold(ec2: Ec2) -> None:
    ec2.make(**{**TWO, "nat": "single"}, **ENDPOINTS)
    interfaces = [interface for e in ec2.things["vpce"].values() for interface in e["NetworkInterfaceIds"]]
    late = "eni-late"  # its endpoint is gone already
    ec2.things["eni"] = {
        name: {"NetworkInterfaceId": name, "Status": "in-use", "Description": "VPC Endpoint Interface", "InterfaceType": kind}
        for name, kind in [*((name, "interface") for name in interfaces), (late, "vpc_endpoint")]
    }
    assert blockers(ec2.observe(), OWNER) == []
    plan = plan_absent(ec2.observe(), OWNER)
    endpoints = list(ec2.things["vpce"])
    assert words(plan)[:4] == [*(f"DeleteVpcEndpoints {name}" for name in endpoints), f"DeleteNatGateway {next(iter(ec2.things['nat']))}"]
    [needs] = [step.needs for step in plan.steps if step.needs]
    assert [need.waiter for need in needs] == ["vpc_endpoint_deleted"] * 3 + ["network_interfaces_deleted", "nat_gateway_deleted"]
    assert needs[3].arguments["Filters"] == [{"Name": "network-interface-id", "Values": sorted([*interfaces, late])}]
    assert plan.steps[4].needs == needs
    assert "Disassociate" not in str([step.action for step in plan.steps if step.target.startswith("vpc-")])


def test_endpoints_of_others_stand_in_the_way(ec2: Ec2) -> None:
    ec2.make(**TWO, **ENDPOINTS)
    theirs = {
        "VpcEndpointId": "vpce-x",
        "VpcEndpointType": "Interface",
        "ServiceName": "com.amazonaws.us-west-2.sts",
        "State": "available",
        "NetworkInterfaceIds": ["eni-x"],
    }
    ec2.things["vpce"]["vpce-x"] = theirs
    ec2.things["eni"] = {"eni-x": {"NetworkInterfaceId": "eni-x", "Status": "in-use", "InterfaceType": "vpc_endpoint"}}
    assert blockers(ec2.observe(), OWNER) == ["vpce-x (VPC endpoint of com.amazonaws.us-west-2.sts)"]
    assert "vpce-x" not in {step.target for step in plan_absent(ec2.observe(), OWNER).steps}
    assert words(ec2.plan(**TWO, **ENDPOINTS)) == []
