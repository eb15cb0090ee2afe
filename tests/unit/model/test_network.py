# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where subnets lie, and which options of a network cannot be accepted."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import MAX_USER_TAGS, cluster_name_faults, tag_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Tier
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import Place, Wanted, layout, network_faults

BOTH: dict[Tier, int] = {"private": 20, "public": 24}


def test_private_subnets_grow_from_the_bottom_and_public_ones_from_the_top() -> None:
    assert layout("10.0.0.0/16", ["a", "b", "c"], BOTH, {}) == {
        ("private", "a"): "10.0.0.0/20",
        ("private", "b"): "10.0.16.0/20",
        ("private", "c"): "10.0.32.0/20",
        ("public", "a"): "10.0.255.0/24",
        ("public", "b"): "10.0.254.0/24",
        ("public", "c"): "10.0.253.0/24",
    }


@pytest.mark.parametrize("zones", [["a", "b", "c"], ["c", "b", "a"], ["c", "a", "b"]])
def test_a_zone_that_is_added_moves_no_other(zones: list[str]) -> None:
    before = layout("10.0.0.0/16", ["a", "b"], BOTH, {})
    after = layout("10.0.0.0/16", zones, BOTH, before)
    assert {place: after[place] for place in before} == before
    assert after["private", "c"] == "10.0.32.0/20"
    assert after["public", "c"] == "10.0.253.0/24"


def test_blocks_of_others_are_left_free() -> None:
    found = layout("10.0.0.0/16", ["a"], BOTH, {}, ["10.0.5.0/24", "10.0.255.128/25"])
    assert found == {("private", "a"): "10.0.16.0/20", ("public", "a"): "10.0.254.0/24"}


@pytest.mark.parametrize(
    ("cidr", "zones", "missing"),
    [
        ("10.0.0.0/18", 3, []),
        ("10.0.0.0/18", 4, [("public", "0"), ("public", "1"), ("public", "2"), ("public", "3")]),
        ("10.0.0.0/19", 3, [("private", "2"), ("public", "0"), ("public", "1"), ("public", "2")]),
        ("10.0.0.0/24", 1, [("private", "0")]),
    ],
)
def test_what_does_not_fit_is_left_out(cidr: str, zones: int, missing: list[Place]) -> None:
    names = [str(number) for number in range(zones)]
    wanted: list[Place] = [(tier, name) for tier in BOTH for name in names]
    found = layout(cidr, names, BOTH, {})
    assert [place for place in wanted if place not in found] == missing
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        ({}, []),
        ({"cidr": "10.0.0.0/16", "zones": ["us-west-2a", "usw2-az2"], "nat": "per_zone", "api_access_cidrs": ["192.0.2.0/24"]}, []),
        ({"cidr": "10.0.0.0/22", "private_subnet_prefix": 25, "public_subnet_prefix": 27}, []),
        ({"cluster_name": "-demo"}, ["cluster_name"]),
        ({"cluster_name": "x" * 101}, ["cluster_name"]),
        ({"cidr": "10.0.0.0"}, ["cidr"]),
        ({"cidr": "10.0.0.1/16"}, ["cidr"]),
        ({"cidr": "10.0.0.0/15"}, ["cidr"]),
        ({"cidr": "10.0.0.0/29"}, ["cidr"]),
        ({"cidr": "fd00::/64"}, ["cidr"]),
        ({"cidr": "169.254.0.0/16"}, ["cidr"]),
        ({"cidr": ["10.0.0.0/16"]}, ["cidr"]),
        ({"cidr": "10.0.0.0/22"}, ["cidr"]),  # three /20 do not fit
        ({"zones": [str(number) for number in range(16)]}, ["cidr"]),  # sixteen /20 leave no room for public subnets
        ({"zone_count": 16}, ["cidr"]),
        ({"zone_count": 16, "public_subnets": False}, []),
        ({"private_subnet_prefix": 15, "public_subnet_prefix": "29"}, ["private_subnet_prefix", "public_subnet_prefix"]),
        ({"zones": ["us-west-2a", "us-west-2b", "us-west-2a"]}, ["zones[2]"]),
        ({"zones": ["us-west-2a"]}, ["zones"]),
        ({"zones": ["us-west-2a", "us-west-2b"], "zone_count": 2}, ["zone_count"]),
        ({"zone_count": 1}, ["zone_count"]),
        ({"public_subnets": False, "nat": "single"}, ["nat"]),
        ({"public_subnets": False, "nat": "none"}, []),
        (
            {"api_access_cidrs": ["10.1.0.0/16", "10.1.2.0/24", "x", 5]},
            ["api_access_cidrs[2]", "api_access_cidrs[3]", "api_access_cidrs[1]"],
        ),
        ({"tags": {"Name": "x", "kubernetes.io/role/elb": "1"}}, ["tags.Name", "tags.kubernetes.io/role/elb"]),
        ({"subnet_tags": {"private": {"karpenter.sh/discovery": "demo"}, "public": None}}, []),
        ({"subnet_tags": {"intra": {"Name": "x"}, "public": {"aws:x": "1"}}}, ["subnet_tags.intra.Name", "subnet_tags.public.aws:x"]),
        ({"tags": {str(n): "" for n in range(39)}, "subnet_tags": {"intra": {"x": "", "y": ""}}}, ["subnet_tags.intra"]),
        ({"secondary_cidrs": ["100.64.0.0/16"], "intra_subnets": True, "intra_subnet_prefix": 27}, []),
        ({"secondary_cidrs": ["100.64.0.0/8", "x", "100.64.0.1/16"]}, ["secondary_cidrs[0]", "secondary_cidrs[1]", "secondary_cidrs[2]"]),
        ({"secondary_cidrs": ["100.64.0.0/16", "100.64.128.0/17"]}, ["secondary_cidrs[1]"]),
        ({"cidr": "10.0.0.0/16", "secondary_cidrs": ["10.0.0.0/17"]}, ["secondary_cidrs[0]"]),
        ({"cidr": "10.0.0.0/22", "secondary_cidrs": ["100.64.0.0/16"]}, []),  # three /20 fit there
        ({"intra_subnet_prefix": 29}, ["intra_subnet_prefix"]),
        ({"zone_count": 16, "public_subnets": False, "intra_subnets": True}, ["cidr"]),
        ({"instance_types": ["g5.2xlarge", "g5.*", "p6-b200.48xlarge"]}, []),
        ({"instance_types": ["g5", "*"]}, ["instance_types[0]", "instance_types[1]"]),
        ({"gateway_endpoints": ["s3"], "interface_endpoints": ["ecr.api", "eks-auth", "s3"]}, []),
        (
            {"gateway_endpoints": ["s3", "s3"], "interface_endpoints": ["sts", "sts", "com.amazonaws.us-west-2.sts", "-"]},
            ["gateway_endpoints[1]", "interface_endpoints[1]", "interface_endpoints[2]", "interface_endpoints[3]"],
        ),
        ({"vpc_id": "vpc-0a1", "private_subnet_ids": ["subnet-1", "subnet-2"], "security_group_ids": ["sg-1"]}, []),
        ({"vpc_id": "vpc-0a1", "state": "absent"}, []),
        ({"vpc_id": "vpc-0a1"}, ["private_subnet_ids"]),
        ({"vpc_id": "planned:vpc/demo", "private_subnet_ids": ["subnet-1"]}, ["vpc_id"]),
        (
            {"private_subnet_ids": ["subnet-1"], "intra_subnet_ids": ["subnet-2"], "security_group_ids": ["sg-1"]},
            ["private_subnet_ids", "intra_subnet_ids", "security_group_ids"],
        ),
        (
            {
                "vpc_id": "vpc-1",
                "private_subnet_ids": ["sg-1", "subnet-1", "subnet-1"],
                "security_group_ids": [f"sg-{n}" for n in range(6)],
            },
            ["private_subnet_ids[0]", "private_subnet_ids[2]", "security_group_ids"],
        ),
        (
            {"vpc_id": "vpc-1", "private_subnet_ids": ["subnet-1"], "nat": "none", "interface_endpoints": ["sts"], "tags": {"a": "b"}},
            ["nat", "interface_endpoints", "tags"],
        ),
        ({"vpc_id": "vpc-1", "private_subnet_ids": ["subnet-1"], "intra_subnets": False, "secondary_cidrs": []}, []),
    ],
)
def test_faults_of_form(params: dict[str, t.Any], paths: list[str]) -> None:
    assert [fault.path for fault in network_faults({"cluster_name": "demo", **params})] == paths


@pytest.mark.parametrize("value", ["ten", [], {}, None, True, 1.5])
def test_values_of_a_wrong_type_are_left_to_the_options(value: object) -> None:
    """Each of them may come to this check before Ansible has refused it."""
    names = """
        cidr zones zone_count nat public_subnets private_subnet_prefix api_access_cidrs tags secondary_cidrs instance_types gateway_endpoints
        interface_endpoints subnet_tags intra_subnets vpc_id private_subnet_ids security_group_ids
    """
    for name in names.split():
        assert isinstance(network_faults({"cluster_name": "demo", name: value}), list)


def test_all_faults_come_at_once() -> None:
    params = {
        "cluster_name": "?",
        "cidr": "x",
        "private_subnet_prefix": 2,
        "zones": ["a", "a"],
        "api_access_cidrs": ["y"],
        "tags": {"aws:a": "b"},
    }
    paths = [fault.path for fault in network_faults(params)]
    assert paths == ["cluster_name", "cidr", "private_subnet_prefix", "zones[1]", "api_access_cidrs[0]", "tags.aws:a"]


def test_secondary_blocks_take_what_the_first_has_no_room_for() -> None:
    found = layout("10.0.0.0/19", ["a", "b", "c"], {**BOTH, "intra": 28}, {}, secondary=["100.64.0.0/26", "100.65.0.0/16"])
    assert found == {
        ("private", "a"): "10.0.0.0/20",
        ("private", "b"): "10.0.16.0/20",
        ("private", "c"): "100.65.0.0/20",
        ("public", "a"): "100.65.255.0/24",
        ("public", "b"): "100.65.254.0/24",
        ("public", "c"): "100.65.253.0/24",
        ("intra", "a"): "100.64.0.48/28",
        ("intra", "b"): "100.64.0.32/28",
        ("intra", "c"): "100.64.0.16/28",
    }


def test_tags_become_text() -> None:
    assert Wanted.from_params({"tags": {"cost": 7, 8: True}}).tags == {"cost": "7", "8": "true"}
    assert Wanted.from_params({}).tags is None


@pytest.mark.parametrize(
    ("tags", "paths"),
    [
        ({"team": "ml"}, []),
        ({"AWS:x": "1"}, ["t.AWS:x"]),
        ({"gpuops.eks/owner": "me"}, ["t.gpuops.eks/owner"]),
        ({"k" * 129: "v"}, ["t." + "k" * 129]),
        ({"k": "v" * 257}, ["t.k"]),
        ({str(number): "v" for number in range(MAX_USER_TAGS + 1)}, ["t"]),
        (["not", "a", "mapping"], []),
    ],
)
def test_tags_that_cannot_be_set(tags: t.Any, paths: list[str]) -> None:
    assert [fault.path for fault in tag_faults(tags, "t")] == paths


@pytest.mark.parametrize(
    ("name", "good"), [("a", True), ("A-1_b", True), ("1", True), ("", False), ("_a", False), ("a.b", False), (5, False)]
)
def test_names_of_clusters(name: t.Any, good: bool) -> None:
    assert (cluster_name_faults(name, "name") == []) is good
