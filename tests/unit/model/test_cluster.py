# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be asked of a cluster, what EKS says of one, and whom a role trusts."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import (
    FIELDS,
    UNREPORTED,
    Cluster,
    Field,
    Wanted,
    cluster_faults,
    trusts_eks,
)
from ansible_collections.gpuops.eks.plugins.modules.eks_cluster import ARGUMENTS

ROLE = "arn:aws:iam::123456789012:role/demo"
SUBNETS = ["subnet-0000000000000000a", "subnet-0000000000000000b"]
GOOD = {"name": "demo", "version": "1.35", "role_arn": ROLE, "subnet_ids": SUBNETS, "security_group_ids": ["sg-0000000000000000a"]}


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        ({}, []),
        ({"role_arn": "planned:role/demo", "subnet_ids": ["planned:subnet/a", "planned:subnet/b"]}, []),
        ({"role_arn": "arn:aws-us-gov:iam::123456789012:role/path/demo"}, []),
        ({"name": "de mo"}, ["name"]),
        ({"version": "1.3.5"}, ["version"]),
        ({"version": 1.35}, []),
        ({"version": "latest"}, ["version"]),
        ({"role_arn": "demo"}, ["role_arn"]),
        ({"role_arn": "arn:aws:iam::123456789012:user/demo"}, ["role_arn"]),
        ({"subnet_ids": ["subnet-xyz", SUBNETS[0], SUBNETS[0]]}, ["subnet_ids[0]", "subnet_ids[2]"]),
        ({"subnet_ids": [SUBNETS[0]]}, ["subnet_ids"]),
        ({"security_group_ids": [f"sg-0000000{number}" for number in range(6)]}, ["security_group_ids"]),
        ({"security_group_ids": ["default"]}, ["security_group_ids[0]"]),
        ({"endpoint_private_access": False, "endpoint_public_access": False}, ["endpoint_private_access"]),
        ({"endpoint_public_access": False, "public_access_cidrs": ["192.0.2.0/24"]}, ["public_access_cidrs"]),
        ({"endpoint_public_access": True}, ["public_access_cidrs"]),
        ({"endpoint_public_access": True, "allow_public_any": True}, []),
        ({"public_access_cidrs": ["0.0.0.0/0", "::/0"]}, ["public_access_cidrs[0]", "public_access_cidrs[1]"]),
        ({"public_access_cidrs": ["0.0.0.0/0"], "allow_public_any": True}, []),
        ({"public_access_cidrs": ["192.0.2.1/24", "192.0.2.1", 7]}, [f"public_access_cidrs[{number}]" for number in range(3)]),
        ({"public_access_cidrs": ["192.0.2.0/24", "192.0.2.0/24"]}, ["public_access_cidrs[1]"]),
        ({"tags": {"gpuops.eks/owner": "x"}}, ["tags.gpuops.eks/owner"]),
    ],
)
def test_faults_of_form(params: dict[str, t.Any], paths: list[str]) -> None:
    assert [fault.path for fault in cluster_faults({**GOOD, **params})] == paths


@pytest.mark.parametrize("value", ["ten", [], {}, None, True, 1.5])
def test_values_of_a_wrong_type_are_left_to_the_options(value: object) -> None:
    for name in ("version", "role_arn", "subnet_ids", "security_group_ids", "public_access_cidrs", "endpoint_public_access", "tags"):
        assert isinstance(cluster_faults({**GOOD, name: value}), list)


def test_networks_that_may_reach_the_public_endpoint_mean_that_there_is_one() -> None:
    assert Wanted.from_params({"name": "demo", "public_access_cidrs": ["192.0.2.0/24"]}).endpoint_public_access is True
    assert Wanted.from_params({"name": "demo", "public_access_cidrs": []}).endpoint_public_access is None
    assert Wanted.from_params({"name": "demo", "public_access_cidrs": []}).public_access_cidrs is None


def test_tags_become_text() -> None:
    tags = {"cost": 7, 8: True, "team": "ml"}
    assert Wanted.from_params({"name": "demo", "tags": tags}).tags == {"cost": "7", "8": "true", "team": "ml"}


def test_what_is_not_set_is_not_managed() -> None:
    assert set(Wanted.from_params({"name": "demo"}).fields().values()) == {None}


def test_a_cluster_as_eks_describes_it() -> None:
    api = {
        "name": "demo",
        "arn": "arn:aws:eks:us-west-2:123456789012:cluster/demo",
        "status": "ACTIVE",
        "version": "1.35",
        "roleArn": ROLE,
        "resourcesVpcConfig": {"vpcId": "vpc-1", "subnetIds": ["subnet-b", "subnet-a"], "endpointPrivateAccess": True},
        "logging": {"clusterLogging": [{"types": ["audit", "api"], "enabled": True}, {"types": ["scheduler"], "enabled": False}]},
        "accessConfig": {"authenticationMode": "API"},
        "upgradePolicy": {"supportType": "EXTENDED"},
        "health": {"issues": [{"code": "Ec2SubnetNotFound", "message": "gone"}]},
    }
    cluster = Cluster.from_api(api)
    assert cluster.issues == ("Ec2SubnetNotFound: gone",)
    assert cluster.fields() == {
        "version": "1.35",
        "role_arn": ROLE,
        "subnet_ids": ["subnet-a", "subnet-b"],
        "security_group_ids": [],
        "endpoint_private_access": True,
        "endpoint_public_access": False,
        "public_access_cidrs": [],
        "authentication_mode": "API",
        "bootstrap_cluster_creator_admin_permissions": None,
        "support_type": "EXTENDED",
        "deletion_protection": False,
        "logging_types": ["api", "audit"],
        "encryption_key_arn": None,
        "scheduler_scoring": None,
        "service_ipv4_cidr": None,
    }


def _statement(**changes: t.Any) -> dict[str, t.Any]:
    return {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole", **changes}


@pytest.mark.parametrize(
    ("policy", "trusts"),
    [
        ({"Statement": [_statement()]}, True),
        ({"Statement": _statement()}, True),
        (
            {
                "Statement": [
                    _statement(
                        Principal={"Service": ["ec2.amazonaws.com", "eks.amazonaws.com"]}, Action=["sts:TagSession", "sts:AssumeRole"]
                    )
                ]
            },
            True,
        ),
        ({"Statement": [_statement(Effect="Deny")]}, False),
        ({"Statement": [_statement(Principal={"Service": "ec2.amazonaws.com"})]}, False),
        ({"Statement": [_statement(Principal={"AWS": "*"})]}, False),
        ({"Statement": [_statement(Action="sts:TagSession")]}, False),
        ({"Statement": [_statement(Principal="*")]}, False),
        ({}, False),
    ],
)
def test_whom_a_role_trusts(policy: dict[str, t.Any], trusts: bool) -> None:
    assert trusts_eks(policy) is trusts


NO_FIELDS = {
    "name", "state", "allow_public_any", "tags", "purge_tags", "adopt", "recreate_failed", "wait", "wait_timeout", "wait_interval",
}  # fmt: skip


def test_every_option_that_is_a_field_of_the_cluster_has_its_row() -> None:
    rows = {one.option for one in FIELDS} | set(UNREPORTED)
    assert rows == set(ARGUMENTS.options) - NO_FIELDS


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.option)
def test_every_row_names_a_test_that_there_is_and_says_why(field: Field) -> None:
    path, _separator, name = field.proof.partition("::")
    text = (Path(__file__).parents[3] / path).read_text(encoding="utf-8")
    assert f"def {name}(" in text
    assert field.option in text
    assert field.source
    assert field.refused or field.change == "update"
    assert bool(field.update_type) == (field.change != "creation")
