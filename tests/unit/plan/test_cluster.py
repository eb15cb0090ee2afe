# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of a cluster: creation, one update type per call in order, refusals, deletion."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import FIELDS, Cluster, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.cluster import (
    creation_faults,
    forecast,
    plan_create,
    plan_delete,
    plan_recreate,
    plan_update,
    refusals,
    skew_faults,
    version_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Wait

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
MARK = OWNER.tags("cluster")
ROLE = "arn:aws:iam::123456789012:role/demo"
THERE = Cluster(
    name="demo",
    arn=OWNER.arn,
    status="ACTIVE",
    version="1.34",
    role_arn=ROLE,
    vpc_id="vpc-1",
    subnet_ids=("subnet-b", "subnet-a"),
    security_group_ids=("sg-1",),
    endpoint_private_access=True,
    endpoint_public_access=False,
    public_access_cidrs=("0.0.0.0/0",),
    authentication_mode="CONFIG_MAP",
    bootstrap_cluster_creator_admin_permissions=True,
    support_type="EXTENDED",
    deletion_protection=False,
    logging_types=("audit",),
    tags={**MARK, "team": "ml"},
)


def wanted(**options: t.Any) -> Wanted:
    return Wanted.from_params({"name": "demo", **options})


def requests(plan: Plan) -> list[tuple[str, dict[str, t.Any]]]:
    return [(step.action, dict(step.request)) for step in plan.steps]


def test_a_new_cluster_has_safe_defaults_and_our_mark() -> None:
    plan = plan_create(wanted(role_arn=ROLE, subnet_ids=["subnet-a", "subnet-b"]), OWNER)
    assert requests(plan) == [
        (
            "eks:CreateCluster",
            {
                "name": "demo",
                "roleArn": ROLE,
                "resourcesVpcConfig": {
                    "subnetIds": ["subnet-a", "subnet-b"],
                    "endpointPrivateAccess": True,
                    "endpointPublicAccess": False,
                },
                "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True},
                "tags": MARK,
            },
        )
    ]
    assert plan.steps[0].wait == Wait(waiter="cluster_active", arguments={"name": "demo"})
    assert plan.steps[0].target == "planned:cluster/demo"


def test_a_new_cluster_gets_all_that_is_set() -> None:
    options = {
        "version": "1.35",
        "security_group_ids": ["sg-1"],
        "endpoint_private_access": False,
        "public_access_cidrs": ["192.0.2.0/24"],
        "authentication_mode": "API_AND_CONFIG_MAP",
        "bootstrap_cluster_creator_admin_permissions": False,
        "support_type": "STANDARD",
        "deletion_protection": True,
        "logging_types": ["audit", "api"],
        "tags": {"team": "ml"},
    }
    request = plan_create(wanted(role_arn=ROLE, subnet_ids=["subnet-a", "subnet-b"], **options), OWNER).steps[0].request
    assert request == {
        "name": "demo",
        "roleArn": ROLE,
        "version": "1.35",
        "resourcesVpcConfig": {
            "subnetIds": ["subnet-a", "subnet-b"],
            "securityGroupIds": ["sg-1"],
            "endpointPrivateAccess": False,
            "endpointPublicAccess": True,
            "publicAccessCidrs": ["192.0.2.0/24"],
        },
        "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP", "bootstrapClusterCreatorAdminPermissions": False},
        "upgradePolicy": {"supportType": "STANDARD"},
        "deletionProtection": True,
        "logging": {"clusterLogging": [{"types": ["api", "audit"], "enabled": True}]},
        "tags": {"team": "ml", **MARK},
    }


def test_what_a_new_cluster_needs() -> None:
    assert [fault.path for fault in creation_faults(wanted(endpoint_private_access=False))] == [
        "role_arn",
        "subnet_ids",
        "endpoint_private_access",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {
            "version": "1.34",
            "role_arn": ROLE,
            "subnet_ids": ["subnet-a", "subnet-b"],
            "security_group_ids": ["sg-1"],
            "endpoint_private_access": True,
            "endpoint_public_access": False,
            "authentication_mode": "CONFIG_MAP",
            "bootstrap_cluster_creator_admin_permissions": True,
            "support_type": "EXTENDED",
            "deletion_protection": False,
            "logging_types": ["audit"],
            "tags": {"team": "ml"},
        },
    ],
)
def test_no_call_where_nothing_differs(options: dict[str, t.Any]) -> None:
    plan = plan_update(wanted(**options), THERE, OWNER)
    assert plan.steps == ()
    assert plan.before == plan.after
    assert refusals(wanted(**options), THERE) == []


KEY = "arn:aws:kms:us-west-2:123456789012:key/0a1b"
ENCRYPTED = [{"resources": ["secrets"], "provider": {"keyArn": KEY}}]
PACK = {"type": "MostAllocated", "resources": [{"name": "nvidia.com/gpu", "weight": 100}, {"name": "cpu", "weight": 1}]}
PACKED = {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 1}, {"name": "nvidia.com/gpu", "weight": 100}]}


def _config(**request: t.Any) -> tuple[str, dict[str, t.Any]]:
    return ("eks:UpdateClusterConfig", {"name": "demo", **request})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"tags": {"a": "b"}},
            [
                ("eks:TagResource", {"resourceArn": OWNER.arn, "tags": {"a": "b"}}),
                ("eks:UntagResource", {"resourceArn": OWNER.arn, "tagKeys": ["team"]}),
            ],
        ),
        ({"tags": {"a": "b"}, "purge_tags": False}, [("eks:TagResource", {"resourceArn": OWNER.arn, "tags": {"a": "b"}})]),
        ({"tags": {}}, [("eks:UntagResource", {"resourceArn": OWNER.arn, "tagKeys": ["team"]})]),
        ({"subnet_ids": ["subnet-c", "subnet-a"]}, [_config(resourcesVpcConfig={"subnetIds": ["subnet-a", "subnet-c"], "securityGroupIds": ["sg-1"]})]),
        ({"security_group_ids": []}, [_config(resourcesVpcConfig={"subnetIds": ["subnet-a", "subnet-b"], "securityGroupIds": []})]),
        (
            {"public_access_cidrs": ["192.0.2.0/24"]},
            [_config(resourcesVpcConfig={"endpointPublicAccess": True, "publicAccessCidrs": ["192.0.2.0/24"]})],
        ),
        (
            {"authentication_mode": "API"},
            [_config(accessConfig={"authenticationMode": "API_AND_CONFIG_MAP"}), _config(accessConfig={"authenticationMode": "API"})],
        ),
        (
            {"logging_types": ["scheduler", "api"]},
            [_config(logging={"clusterLogging": [{"types": ["api", "scheduler"], "enabled": True}, {"types": ["audit"], "enabled": False}]})],
        ),
        ({"logging_types": []}, [_config(logging={"clusterLogging": [{"types": ["audit"], "enabled": False}]})]),
        ({"support_type": "STANDARD"}, [_config(upgradePolicy={"supportType": "STANDARD"})]),
        ({"deletion_protection": True}, [_config(deletionProtection=True)]),
        ({"scheduler_scoring": PACK}, [_config(kubeSchedulerConfig={"nodeResourcesFit": {"scoringStrategy": PACKED}})]),
        ({"encryption_key_arn": KEY}, [("eks:AssociateEncryptionConfig", {"clusterName": "demo", "encryptionConfig": ENCRYPTED})]),
        ({"version": "1.35"}, [("eks:UpdateClusterVersion", {"name": "demo", "version": "1.35"})]),
    ],
)  # fmt: skip
def test_each_kind_of_update(options: dict[str, t.Any], expected: list[tuple[str, dict[str, t.Any]]]) -> None:
    assert requests(plan_update(wanted(**options), THERE, OWNER)) == expected


def test_updates_come_in_order_and_each_needs_the_one_before_it() -> None:
    options = {
        "version": "1.35",
        "encryption_key_arn": KEY,
        "scheduler_scoring": PACK,
        "deletion_protection": True,
        "support_type": "STANDARD",
        "logging_types": [],
        "authentication_mode": "API_AND_CONFIG_MAP",
        "public_access_cidrs": ["192.0.2.0/24"],
        "subnet_ids": ["subnet-a", "subnet-c"],
        "tags": {"team": "ml", "x": "y"},
    }
    plan = plan_update(wanted(**options), THERE, OWNER)
    assert [(step.action, step.fields) for step in plan.steps] == [
        ("eks:TagResource", ("tags",)),
        ("eks:UpdateClusterConfig", ("subnet_ids",)),
        ("eks:UpdateClusterConfig", ("endpoint_public_access", "public_access_cidrs")),
        ("eks:UpdateClusterConfig", ("authentication_mode",)),
        ("eks:UpdateClusterConfig", ("logging_types",)),
        ("eks:UpdateClusterConfig", ("support_type",)),
        ("eks:UpdateClusterConfig", ("deletion_protection",)),
        ("eks:UpdateClusterConfig", ("scheduler_scoring",)),
        ("eks:AssociateEncryptionConfig", ("encryption_key_arn",)),
        ("eks:UpdateClusterVersion", ("version",)),
    ]
    order = [one.option for one in FIELDS]
    assert [step.fields[-1] for step in plan.steps[1:]] == sorted((step.fields[-1] for step in plan.steps[1:]), key=order.index)
    updates = plan.steps[1:]
    waits = [Wait(waiter="update_successful", arguments={"name": "demo", "updateId": f"planned:update/demo-{n}"}) for n in range(9)]
    assert [step.needs for step in updates] == [(), *((wait,) for wait in waits[:-1])]
    assert [step.wait for step in updates] == [*[None] * 8, waits[-1]]
    assert [list(step.binds) for step in updates] == [[wait.arguments["updateId"]] for wait in waits]
    assert plan.before["tags"] == THERE.tags
    assert plan.after["tags"] == {**THERE.tags, "x": "y"}
    assert (plan.before["version"], plan.after["version"]) == ("1.34", "1.35")


def test_the_order_of_resources_does_not_matter() -> None:
    there = dataclasses.replace(THERE, scheduler_scoring=PACKED)
    assert plan_update(wanted(scheduler_scoring=PACK), there, OWNER).steps == ()


def test_node_groups_have_to_follow_before_the_next_version() -> None:
    assert skew_faults(wanted(version="1.35"), THERE, {"gpu": "1.34", "new": ""}) == []
    [fault] = skew_faults(wanted(version="1.35"), THERE, {"gpu": "1.33", "system": "1.34", "cpu": "1.32"})
    assert "cpu (1.32), gpu (1.33)" in fault.allowed
    assert "upgrade" in fault.allowed


def test_a_cluster_that_failed_is_replaced() -> None:
    options = {"role_arn": ROLE, "subnet_ids": ["subnet-a", "subnet-b"], "recreate_failed": True}
    plan = plan_recreate(wanted(**options), dataclasses.replace(THERE, status="FAILED"), OWNER)
    assert [(step.action, step.effect, step.target) for step in plan.steps] == [
        ("eks:DeleteCluster", "replace", "demo"),
        ("eks:CreateCluster", "replace", "demo"),
    ]
    assert [need.waiter for need in plan.steps[1].needs] == ["cluster_deleted"]


def test_a_new_cluster_with_key_scoring_and_network_of_services() -> None:
    options = {
        "encryption_key_arn": KEY,
        "scheduler_scoring": PACK,
        "service_ipv4_cidr": "10.100.0.0/16",
        "bootstrap_self_managed_addons": False,
    }
    request = plan_create(wanted(role_arn=ROLE, subnet_ids=["subnet-a", "subnet-b"], **options), OWNER).steps[0].request
    assert {
        key: request[key] for key in ("encryptionConfig", "kubeSchedulerConfig", "kubernetesNetworkConfig", "bootstrapSelfManagedAddons")
    } == {
        "encryptionConfig": ENCRYPTED,
        "kubeSchedulerConfig": {"nodeResourcesFit": {"scoringStrategy": PACKED}},
        "kubernetesNetworkConfig": {"serviceIpv4Cidr": "10.100.0.0/16"},
        "bootstrapSelfManagedAddons": False,
    }


def test_the_order_of_networks_does_not_matter() -> None:
    there = dataclasses.replace(THERE, endpoint_public_access=True, public_access_cidrs=("192.0.2.0/24", "198.51.100.0/24"))
    assert plan_update(wanted(public_access_cidrs=["198.51.100.0/24", "192.0.2.0/24"]), there, OWNER).steps == ()


def test_an_adopted_cluster_loses_no_tag_and_gets_no_mark() -> None:
    foreign = dataclasses.replace(THERE, tags={"team": "other", "x": "y"})
    plan = plan_update(wanted(tags={"team": "ml"}, adopt=True), foreign, OWNER)
    assert requests(plan) == [("eks:TagResource", {"resourceArn": OWNER.arn, "tags": {"team": "ml"}})]


@pytest.mark.parametrize(
    ("options", "paths"),
    [
        ({"role_arn": ROLE + "2"}, ["role_arn"]),
        ({"bootstrap_cluster_creator_admin_permissions": False}, ["bootstrap_cluster_creator_admin_permissions"]),
        ({"service_ipv4_cidr": "10.100.0.0/16"}, ["service_ipv4_cidr"]),
        ({"encryption_key_arn": KEY}, ["encryption_key_arn"]),
        ({"bootstrap_self_managed_addons": False}, []),
        ({"endpoint_private_access": False}, ["endpoint_private_access"]),
        ({"endpoint_private_access": False, "public_access_cidrs": ["192.0.2.0/24"]}, []),
        ({"authentication_mode": "API"}, []),
    ],
)
def test_what_cannot_be_changed_is_refused(options: dict[str, t.Any], paths: list[str]) -> None:
    there = dataclasses.replace(THERE, service_ipv4_cidr="172.20.0.0/16", encryption_key_arn=KEY + "2")
    faults = refusals(wanted(**options), there)
    assert [fault.path for fault in faults] == paths
    assert all(fault.source and "as it is" in fault.allowed for fault in faults if fault.path != "endpoint_private_access")


@pytest.mark.parametrize(
    ("there", "asked", "refused"),
    [
        ("API", "CONFIG_MAP", True),
        ("API", "API_AND_CONFIG_MAP", True),
        ("API_AND_CONFIG_MAP", "CONFIG_MAP", True),
        ("API_AND_CONFIG_MAP", "API", False),
        ("CONFIG_MAP", "API_AND_CONFIG_MAP", False),
    ],
)
def test_the_authentication_mode_goes_one_way(there: str, asked: str, refused: bool) -> None:
    faults = refusals(wanted(authentication_mode=asked), dataclasses.replace(THERE, authentication_mode=there))
    assert bool(faults) is refused


@pytest.mark.parametrize(
    ("version", "there", "allowed"),
    [
        ("1.34", None, None),
        ("1.20", None, "one of 1.36, 1.35, 1.34, 1.33"),
        ("1.3", None, "one of 1.36, 1.35, 1.34, 1.33"),
        ("1.34", "1.34", None),
        ("1.35", "1.34", None),
        ("1.36", "1.34", "1.35: the cluster has 1.34"),
        ("1.33", "1.34", "1.34, as it is"),
        ("1.32", "1.32", None),  # not offered any more, but it is what the cluster has
        (None, "1.32", None),
    ],
)
def test_versions(version: str | None, there: str | None, allowed: str | None) -> None:
    observed = dataclasses.replace(THERE, version=there) if there else None
    faults = version_faults(wanted(version=version), observed, ["1.33", "1.34", "1.35", "1.36"])
    assert [fault.allowed.startswith(allowed or "") for fault in faults] == ([True] if allowed else [])


@pytest.mark.parametrize("protected", [False, True])
def test_deletion_takes_protection_off_first(protected: bool) -> None:
    plan = plan_delete(dataclasses.replace(THERE, deletion_protection=protected))
    delete = ("eks:DeleteCluster", {"name": "demo"})
    assert requests(plan) == ([_config(deletionProtection=False), delete] if protected else [delete])
    assert plan.steps[-1].wait == Wait(waiter="cluster_deleted", arguments={"name": "demo"})
    assert [need.waiter for need in plan.steps[-1].needs] == (["update_successful"] if protected else [])
    assert plan.after == {}


def test_a_forecast_is_the_description_with_what_changes_put_in() -> None:
    api = {"name": "demo", "version": "1.34", "resourcesVpcConfig": {"vpcId": "vpc-1", "subnetIds": ["subnet-a"]}, "tags": {"a": "b"}}
    fields = {"version": "1.35", "subnet_ids": ["subnet-c"], "logging_types": ["api"], "support_type": "STANDARD"}
    assert forecast(api, fields, None) == {
        "name": "demo",
        "version": "1.35",
        "resourcesVpcConfig": {"vpcId": "vpc-1", "subnetIds": ["subnet-c"]},
        "accessConfig": {},
        "upgradePolicy": {"supportType": "STANDARD"},
        "logging": {
            "clusterLogging": [
                {"types": ["api"], "enabled": True},
                {"types": ["audit", "authenticator", "controllerManager", "scheduler"], "enabled": False},
            ]
        },
        "tags": {"a": "b"},
    }
    assert api["version"] == "1.34"
