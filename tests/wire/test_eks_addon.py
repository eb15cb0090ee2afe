# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_addon through main(): the exact calls, in order."""

from __future__ import annotations

import datetime
import json
import socket
import typing as t

import pytest
from ansible.module_utils import basic
from ansible_collections.gpuops.eks.plugins.module_utils._run import patience, schema
from ansible_collections.gpuops.eks.plugins.modules.eks_addon import main

from tests.wire.cluster_parts import ACCOUNT, OTHER_ROLE, ROLE, actions, caller, cluster, mark, no_cluster, paths
from tests.wire.harness import Wire

ARN = f"arn:aws:eks:us-west-2:{ACCOUNT}:addon/demo/vpc-cni/1"
MARK = mark("addon")
SUBJECT = {"clusterName": "demo", "addonName": "vpc-cni"}
OLD, DEFAULT, NEW = "v1.9.0-eksbuild.1", "v1.19.0-eksbuild.1", "v1.20.1-eksbuild.10"
ASSOCIATION = f"arn:aws:eks:us-west-2:{ACCOUNT}:podidentityassociation/demo/a-1"
VALUES = {"env": {"WARM_ENI_TARGET": "1"}}
SCHEMA = {
    "$schema": "http://json-schema.org/draft-06/schema#",
    "$ref": "#/definitions/Cni",
    "definitions": {
        "Cni": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"env": {"type": "object", "additionalProperties": {"type": "string"}}, "replicas": {"type": "integer"}},
        }
    },
}
PARAMS: dict[str, t.Any] = {"cluster_name": "demo", "name": "vpc-cni", "wait_interval": 0.001}
SEVERAL = {name: value for name, value in PARAMS.items() if name != "name"}
Api = dict[str, t.Any]


def addon(**changes: t.Any) -> Api:
    """The description of an add-on of ours."""
    return {
        "addonName": "vpc-cni",
        "clusterName": "demo",
        "addonArn": ARN,
        "addonVersion": DEFAULT,
        "status": "ACTIVE",
        "health": {"issues": []},
        "createdAt": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "namespaceConfig": {"namespace": "kube-system"},
        "tags": MARK,
        **changes,
    }


def health(code: str, message: str) -> Api:
    return {"issues": [{"code": code, "message": message}]}


def describe(wire: Wire, **changes: t.Any) -> None:
    found = addon(**changes)
    wire.expect("eks:DescribeAddon", {**SUBJECT, "addonName": found["addonName"]}, {"addon": found})


def absent(wire: Wire, name: str = "vpc-cni") -> None:
    wire.expect_error("eks:DescribeAddon", {**SUBJECT, "addonName": name}, "ResourceNotFoundException", f"No addon: {name} found.")


def versions(wire: Wire, name: str = "vpc-cni", offered: t.Sequence[str] = (OLD, DEFAULT, NEW)) -> None:
    infos = [
        {"addonVersion": version, "compatibilities": [{"clusterVersion": "1.34", "defaultVersion": version == DEFAULT}]}
        for version in offered
    ]
    other = {"addonVersion": "v9.0.0-eksbuild.1", "compatibilities": [{"clusterVersion": "1.30", "defaultVersion": True}]}
    reply = {"addons": [{"addonName": name, "addonVersions": [*infos, other]}] if offered else []}
    wire.expect("eks:DescribeAddonVersions", {"addonName": name, "kubernetesVersion": "1.34"}, reply)


def configuration(wire: Wire, version: str = DEFAULT, text: str | None = None) -> None:
    request = {"addonName": "vpc-cni", "addonVersion": version}
    reply = {"configurationSchema": json.dumps(SCHEMA) if text is None else text}
    wire.expect("eks:DescribeAddonConfiguration", request, reply)


def association(wire: Wire, role: str = ROLE, account: str = "aws-node") -> None:
    found = {"associationId": "a-1", "associationArn": ASSOCIATION, "serviceAccount": account, "roleArn": role}
    wire.expect("eks:DescribePodIdentityAssociation", {"clusterName": "demo", "associationId": "a-1"}, {"association": found})


def create(wire: Wire, name: str = "vpc-cni", **more: t.Any) -> None:
    request = {"clusterName": "demo", "addonName": name, "addonVersion": DEFAULT, "tags": MARK, **more}
    wire.expect("eks:CreateAddon", request, {"addon": addon(addonName=name, status="CREATING")})


def update(wire: Wire, request: Api, *, statuses: t.Sequence[str] = ("InProgress", "Successful"), **more: t.Any) -> None:
    wire.expect("eks:UpdateAddon", {**SUBJECT, "addonVersion": DEFAULT, "resolveConflicts": "PRESERVE", **request}, {"update": {"id": "u"}})
    for status in statuses:
        reply = {"update": {"id": "u", "status": status, **more}}
        wire.expect("eks:DescribeUpdate", {"name": "demo", "addonName": "vpc-cni", "updateId": "u"}, reply)


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda module, message, **kwargs: said.append(message))
    return said


def test_a_new_add_on_has_the_default_version(wire: Wire) -> None:
    cluster(wire)
    absent(wire)
    versions(wire)
    create(wire)
    for status in ("CREATING", "CREATING", "ACTIVE", "ACTIVE"):
        describe(wire, status=status)
    result = wire.run(main, PARAMS)
    assert actions(result) == [("eks:CreateAddon", "planned:addon/vpc-cni", "create")]
    assert result["progress"] == ["DescribeAddon vpc-cni: CREATING", "DescribeAddon vpc-cni: ACTIVE"]
    assert result["addon"] == result["addons"][0]
    assert result["addon"]["created_at"] == "2026-01-02T00:00:00+00:00"
    assert result["addon"]["tags"] == MARK
    assert result["addon"]["configuration_values"] is None


def test_everything_of_an_add_on_is_in_the_call_that_makes_it(wire: Wire) -> None:
    options = {
        "version": "latest",
        "configuration_values": VALUES,
        "resolve_conflicts": "OVERWRITE",
        "service_account_role_arn": ROLE,
        "pod_identity_associations": [{"service_account": "aws-node", "role_arn": OTHER_ROLE}],
        "namespace": "cni",
        "tags": {"Team": "ml", "Paid": True},
        "wait": False,
    }
    cluster(wire)
    absent(wire)
    versions(wire)
    configuration(wire, NEW)
    create(
        wire,
        addonVersion=NEW,
        configurationValues=json.dumps(VALUES),
        resolveConflicts="OVERWRITE",
        serviceAccountRoleArn=ROLE,
        podIdentityAssociations=[{"serviceAccount": "aws-node", "roleArn": OTHER_ROLE}],
        namespaceConfig={"namespace": "cni"},
        tags={"Team": "ml", "Paid": "true", **MARK},
    )
    describe(wire, status="CREATING", addonVersion=NEW, configurationValues=json.dumps(VALUES))
    result = wire.run(main, {**PARAMS, **options})
    assert result["addon"]["configuration_values"] == VALUES
    assert result["plan"][0]["fields"] == [
        "configuration_values",
        "namespace",
        "pod_identity_associations",
        "service_account_role_arn",
        "version",
    ]


def test_check_mode_shows_what_would_be_made(wire: Wire) -> None:
    cluster(wire)
    absent(wire)
    versions(wire)
    configuration(wire)
    result = wire.run(main, {**PARAMS, "configuration_values": VALUES, "service_account_role_arn": "planned:role/x"}, check_mode=True)
    assert actions(result) == [("eks:CreateAddon", "planned:addon/vpc-cni", "create")]
    assert result["addon"]["addon_version"] == DEFAULT
    assert result["addon"]["service_account_role_arn"] == "planned:role/x"
    assert (result["addon"]["status"], result["addon"]["addon_arn"]) == (None, "planned:addon/vpc-cni")
    assert result["diff"]["before"] == {}
    assert result["diff"]["after"]["vpc-cni"]["configuration_values"] == VALUES


@pytest.mark.parametrize("deleting", [False, True])
def test_check_mode_reads_nothing_of_a_cluster_that_will_be(wire: Wire, warned: list[str], deleting: bool) -> None:
    if deleting:
        cluster(wire, status="DELETING")
    else:
        no_cluster(wire)
    caller(wire)
    addons = [
        {"name": "vpc-cni", "version": "latest", "configuration_values": VALUES},
        {"name": "coredns", "version": "v1.12.0-eksbuild.1"},
    ]
    result = wire.run(main, {"cluster_name": "demo", "addons": addons}, check_mode=True)
    assert [step["target"] for step in result["plan"]] == ["planned:addon/vpc-cni", "planned:addon/coredns"]
    assert [one["addon_version"] for one in result["addons"]] == [None, "v1.12.0-eksbuild.1"]
    assert warned == ["Cluster demo is not there yet: this is planned for the cluster that will be."]


def test_a_real_run_needs_a_cluster(wire: Wire) -> None:
    no_cluster(wire)
    result = wire.run(main, PARAMS)
    assert result["msg"] == (
        "EKS cluster demo does not exist in us-west-2. Make it first: gpuops.eks.eks_cluster, or role gpuops.eks.eks_cluster."
    )


@pytest.mark.parametrize("status", ["CREATING", "FAILED", "DELETING"])
def test_a_real_run_needs_an_active_cluster(wire: Wire, status: str) -> None:
    cluster(wire, status=status)
    assert wire.run(main, PARAMS)["msg"] == f"EKS cluster demo is {status}; it has to be ACTIVE. Run again when it is."


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"version": DEFAULT},
        {"configuration_values": VALUES},
        {"namespace": "kube-system"},
        {"tags": {}},
        {"resolve_conflicts": "OVERWRITE"},
        {"service_account_role_arn": ROLE},
    ],
)
def test_a_second_run_makes_two_reads(wire: Wire, options: dict[str, t.Any], check_mode: bool) -> None:
    cluster(wire)
    describe(wire, configurationValues=json.dumps(VALUES, indent=1), serviceAccountRoleArn=ROLE)
    result = wire.run(main, {**PARAMS, **options}, check_mode=check_mode)
    assert (result["changed"], result["plan"]) == (False, [])
    assert result["diff"]["before"] == result["diff"]["after"]
    assert result["addon"]["status"] == "ACTIVE"


@pytest.mark.parametrize("version", ["default", "latest"])
def test_a_word_is_looked_up_on_every_run(wire: Wire, version: str) -> None:
    cluster(wire)
    describe(wire, addonVersion={"default": DEFAULT, "latest": NEW}[version])
    versions(wire)
    assert not wire.run(main, {**PARAMS, "version": version})["changed"]


def test_associations_in_another_order_are_the_same(wire: Wire) -> None:
    cluster(wire)
    describe(wire, podIdentityAssociations=[ASSOCIATION])
    association(wire)
    options = {"pod_identity_associations": [{"service_account": "aws-node", "role_arn": ROLE}]}
    assert not wire.run(main, {**PARAMS, **options})["changed"]


@pytest.mark.parametrize(
    ("options", "request_", "reads"),
    [
        ({"version": NEW}, {"addonVersion": NEW}, ["versions"]),
        ({"version": "latest"}, {"addonVersion": NEW}, ["versions"]),
        ({"configuration_values": {"env": {"A": "b"}}}, {"configurationValues": '{"env": {"A": "b"}}'}, ["configuration"]),
        ({"configuration_values": {}}, {"configurationValues": "{}"}, []),
        ({"service_account_role_arn": OTHER_ROLE}, {"serviceAccountRoleArn": OTHER_ROLE}, []),
        ({"version": NEW, "resolve_conflicts": "OVERWRITE"}, {"addonVersion": NEW, "resolveConflicts": "OVERWRITE"}, ["versions"]),
    ],
)
def test_an_update(wire: Wire, options: dict[str, t.Any], request_: Api, reads: list[str]) -> None:
    there = {"configurationValues": json.dumps(VALUES), "serviceAccountRoleArn": ROLE}
    cluster(wire)
    describe(wire, **there)
    for read in reads:
        {"versions": versions, "configuration": configuration}[read](wire)
    update(wire, {**there, **request_})
    describe(wire, **there)
    describe(wire, **there)
    result = wire.run(main, {**PARAMS, **options})
    assert actions(result) == [("eks:UpdateAddon", "vpc-cni", "update")]
    assert result["plan"][0]["fields"] == [name for name in options if name != "resolve_conflicts"]
    assert result["progress"] == [
        "DescribeUpdate vpc-cni: InProgress",
        "DescribeUpdate vpc-cni: Successful",
        "DescribeAddon vpc-cni: ACTIVE",
    ]


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ([], []),
        ([{"service_account": "aws-node", "role_arn": OTHER_ROLE}], [{"serviceAccount": "aws-node", "roleArn": OTHER_ROLE}]),
    ],
)
def test_an_update_of_associations(wire: Wire, wanted: list[dict[str, str]], sent: list[dict[str, str]]) -> None:
    cluster(wire)
    describe(wire, podIdentityAssociations=[ASSOCIATION])
    association(wire)
    update(wire, {"podIdentityAssociations": sent})
    describe(wire)
    describe(wire)
    result = wire.run(main, {**PARAMS, "pod_identity_associations": wanted})
    assert result["plan"][0]["fields"] == ["pod_identity_associations"]
    assert result["diff"]["before"]["vpc-cni"]["pod_identity_associations"] == [{"service_account": "aws-node", "role_arn": ROLE}]


def test_tags_are_set_and_purged_before_the_update(wire: Wire) -> None:
    cluster(wire)
    describe(wire, tags={**MARK, "old": "1", "aws:x": "y"})
    versions(wire)
    wire.expect("eks:TagResource", {"resourceArn": ARN, "tags": {"Team": "ml"}})
    wire.expect("eks:UntagResource", {"resourceArn": ARN, "tagKeys": ["old"]})
    update(wire, {"addonVersion": NEW})
    describe(wire)
    describe(wire)
    assert len(wire.run(main, {**PARAMS, "version": NEW, "tags": {"Team": "ml"}})["plan"]) == 3


def test_the_check_mode_of_an_update(wire: Wire) -> None:
    cluster(wire)
    describe(wire, configurationValues="{}")
    versions(wire)
    configuration(wire, NEW)
    result = wire.run(main, {**PARAMS, "version": NEW, "configuration_values": VALUES, "tags": {"a": "b"}}, check_mode=True)
    assert [step["action"] for step in result["plan"]] == ["eks:TagResource", "eks:UpdateAddon"]
    assert result["plan"][1]["reason"] == f"from {DEFAULT}"
    assert (result["addon"]["addon_version"], result["addon"]["configuration_values"]) == (NEW, VALUES)
    assert result["addon"]["tags"] == {**MARK, "a": "b"}


def test_a_version_that_is_not_offered_is_refused_with_those_that_are(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    versions(wire)
    absent(wire, "nosuch")
    wire.expect_error("eks:DescribeAddonVersions", {"addonName": "nosuch", "kubernetesVersion": "1.34"}, "ResourceNotFoundException")
    absent(wire, "neither")
    versions(wire, "neither", [])
    addons = [{"name": "vpc-cni", "version": "v1.18.0-eksbuild.1"}, {"name": "nosuch"}, {"name": "neither"}]
    result = wire.run(main, {"cluster_name": "demo", "addons": addons})
    assert paths(result) == ["addons[0].version", "addons[1].name", "addons[2].name"]
    assert f"one of {NEW}, {DEFAULT}, {OLD}, which EKS offers for Kubernetes 1.34" in result["msg"]


def test_a_configuration_is_refused_with_every_fault_before_any_write(wire: Wire) -> None:
    cluster(wire)
    absent(wire)
    versions(wire)
    configuration(wire)
    wrong = {"env": {"WARM_ENI_TARGET": 1}, "replicas": "two", "nosuch": True}
    result = wire.run(main, {**PARAMS, "configuration_values": wrong})
    assert paths(result) == ["configuration_values", "configuration_values.env.WARM_ENI_TARGET", "configuration_values.replicas"]
    assert "'nosuch' was unexpected" in result["msg"]
    assert "eks:DescribeAddonConfiguration" in result["msg"]


def test_without_jsonschema_eks_judges(wire: Wire, warned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "HAS_JSONSCHEMA", False)
    cluster(wire)
    names = ("vpc-cni",)
    for name in names:
        absent(wire, name)
        versions(wire, name)
        configuration(wire)
    message = "ConfigurationValue provided in request is not supported: Json schema validation failed with error"
    request = {**SUBJECT, "addonVersion": DEFAULT, "configurationValues": '{"nosuch": 1}', "tags": MARK}
    wire.expect_error("eks:CreateAddon", request, "InvalidParameterException", message)
    result = wire.run(main, {**PARAMS, "configuration_values": {"nosuch": 1}})
    assert message in result["msg"]
    assert result["error"] == {"action": "eks:CreateAddon", "code": "InvalidParameterException"}


@pytest.mark.parametrize("text", ["{", '{"type": 1}', '{"$ref": "http://wire.invalid/schema"}'])
def test_a_schema_that_cannot_be_used_stops_nobody(wire: Wire, warned: list[str], text: str) -> None:
    cluster(wire)
    absent(wire)
    versions(wire)
    configuration(wire, text=text)
    assert wire.run(main, {**PARAMS, "configuration_values": VALUES}, check_mode=True)["changed"]
    assert len(warned) == 1
    assert warned[0].startswith("configuration_values are not checked beforehand, EKS judges them: the schema cannot be used: ")


def test_the_namespace_cannot_be_changed(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    result = wire.run(main, {**PARAMS, "namespace": "cni"})
    assert paths(result) == ["namespace"]
    assert "kube-system, as it is" in result["msg"]


def test_what_somebody_else_made_is_refused(wire: Wire) -> None:
    cluster(wire)
    describe(wire, tags={"a": "b"})
    versions(wire)
    result = wire.run(main, {**PARAMS, "version": NEW})
    assert paths(result) == ["name"]
    assert "adopt: true" in result["msg"]


def test_what_is_adopted_gets_no_mark_and_loses_no_tag(wire: Wire) -> None:
    cluster(wire)
    describe(wire, tags={"a": "b"})
    versions(wire)
    wire.expect("eks:TagResource", {"resourceArn": ARN, "tags": {"c": "d"}})
    update(wire, {"addonVersion": NEW})
    describe(wire)
    describe(wire)
    assert wire.run(main, {**PARAMS, "version": NEW, "tags": {"c": "d"}, "adopt": True})["changed"]


def test_add_ons_are_made_first_and_waited_for_together(wire: Wire) -> None:
    cluster(wire)
    for name in ("vpc-cni", "coredns"):
        absent(wire, name)
        versions(wire, name)
    create(wire)
    create(wire, "coredns")
    describe(wire, status="CREATING")
    describe(wire)
    describe(wire)
    describe(wire, addonName="coredns", status="CREATING")
    result = wire.run(main, {**SEVERAL, "addons": [{"name": "vpc-cni"}, {"name": "coredns", "wait": False}]})
    assert [one["status"] for one in result["addons"]] == ["ACTIVE", "CREATING"]
    assert "addon" not in result


def test_one_add_on_can_be_waited_for_where_the_others_are_not(wire: Wire) -> None:
    cluster(wire)
    for name in ("vpc-cni", "coredns"):
        absent(wire, name)
        versions(wire, name)
    create(wire)
    create(wire, "coredns")
    describe(wire)
    describe(wire)
    describe(wire, addonName="coredns", status="CREATING")
    addons = [{"name": "vpc-cni", "wait": True}, {"name": "coredns"}]
    result = wire.run(main, {**SEVERAL, "addons": addons, "wait": False})
    assert result["progress"] == ["DescribeAddon vpc-cni: ACTIVE"]


def test_an_interrupted_creation_is_waited_for(wire: Wire) -> None:
    cluster(wire)
    for status in ("CREATING", "CREATING", "ACTIVE", "ACTIVE"):
        describe(wire, status=status)
    result = wire.run(main, PARAMS)
    assert (result["changed"], result["addon"]["status"]) == (False, "ACTIVE")


def test_an_update_under_way_ends_before_the_next(wire: Wire) -> None:
    cluster(wire)
    describe(wire, status="UPDATING")
    versions(wire)
    describe(wire, status="UPDATING")
    describe(wire)
    describe(wire)
    versions(wire)
    update(wire, {"addonVersion": NEW}, statuses=())
    describe(wire, status="UPDATING")
    assert wire.run(main, {**PARAMS, "version": NEW, "wait": False})["changed"]


def test_without_wait_and_changes_nothing_is_waited_for(wire: Wire, warned: list[str]) -> None:
    cluster(wire)
    describe(wire, status="CREATING")
    assert not wire.run(main, {**PARAMS, "wait": False})["changed"]


def test_an_add_on_that_goes_is_made_again_when_it_is_gone(wire: Wire) -> None:
    cluster(wire)
    describe(wire, status="DELETING")
    versions(wire)
    describe(wire, status="DELETING")
    absent(wire)
    absent(wire)
    versions(wire)
    create(wire)
    describe(wire, status="CREATING")
    assert wire.run(main, {**PARAMS, "wait": False})["changed"]


def test_a_creation_that_failed_is_explained_at_once(wire: Wire) -> None:
    cluster(wire)
    absent(wire)
    versions(wire)
    create(wire)
    describe(wire, status="CREATING")
    describe(wire, status="CREATE_FAILED", health=health("ConfigurationConflict", "Conflicts found when trying to apply."))
    result = wire.run(main, PARAMS)
    assert "last state CREATE_FAILED" in result["msg"]
    assert "ConfigurationConflict: Conflicts found when trying to apply." in result["msg"]
    assert result["steps_done"] == 1


def test_a_failed_creation_is_made_again(wire: Wire) -> None:
    cluster(wire)
    describe(wire, status="CREATE_FAILED", health=health("AccessDenied", "No."))
    versions(wire)
    wire.expect("eks:DeleteAddon", {**SUBJECT, "preserve": True})
    describe(wire, status="DELETING")
    absent(wire)
    create(wire)
    describe(wire)
    describe(wire)
    result = wire.run(main, PARAMS)
    assert actions(result) == [("eks:DeleteAddon", "vpc-cni", "replace"), ("eks:CreateAddon", "vpc-cni", "replace")]
    assert result["plan"][0]["reason"] == "CREATE_FAILED: AccessDenied: No."


@pytest.mark.parametrize("adopt", [False, True])
def test_a_failed_creation_of_somebody_else_stays(wire: Wire, adopt: bool) -> None:
    cluster(wire)
    describe(wire, status="CREATE_FAILED", tags={})
    versions(wire)
    assert paths(wire.run(main, {**PARAMS, "adopt": adopt})) == ["name"]


def test_a_degraded_add_on_is_explained_at_once(wire: Wire) -> None:
    cluster(wire)
    absent(wire)
    versions(wire)
    create(wire)
    describe(wire, status="CREATING")
    issues = [{"code": "InsufficientNumberOfReplicas", "message": "0 of 2."}, {"code": "AccessDenied", "message": "No permission."}]
    describe(wire, status="DEGRADED", health={"issues": issues})
    result = wire.run(main, PARAMS)
    assert "last state DEGRADED" in result["msg"]
    assert "InsufficientNumberOfReplicas: 0 of 2. AccessDenied: No permission." in result["msg"]


def test_an_add_on_without_nodes_is_waited_out(wire: Wire) -> None:
    cluster(wire)
    absent(wire)
    versions(wire)
    create(wire)
    for _number in range(3):
        describe(wire, status="DEGRADED", health=health("InsufficientNumberOfReplicas", "No node."))
    describe(wire)
    describe(wire)
    assert wire.run(main, PARAMS)["progress"] == ["DescribeAddon vpc-cni: DEGRADED", "DescribeAddon vpc-cni: ACTIVE"]


def test_an_add_on_without_nodes_is_explained_in_the_end(wire: Wire) -> None:
    cluster(wire)
    absent(wire)
    versions(wire)
    create(wire)
    for _number in range(2):
        describe(wire, status="DEGRADED", health=health("InsufficientNumberOfReplicas", "No node."))
    result = wire.run(main, {**PARAMS, "wait_interval": 0.5, "wait_timeout": 1})
    assert "last state DEGRADED within 1 s. InsufficientNumberOfReplicas: No node." in result["msg"]


def test_a_degraded_add_on_is_not_passed_over(wire: Wire) -> None:
    cluster(wire)
    for _number in range(2):
        describe(wire, status="DEGRADED", health=health("AccessDenied", "No."))
    assert "AccessDenied: No." in wire.run(main, PARAMS)["msg"]


def test_without_wait_a_degraded_add_on_is_a_warning(wire: Wire, warned: list[str]) -> None:
    cluster(wire)
    describe(wire, status="DEGRADED", health=health("AccessDenied", "No."))
    assert not wire.run(main, {**PARAMS, "wait": False})["changed"]
    assert warned == ["Add-on vpc-cni is DEGRADED: AccessDenied: No."]


def test_a_failed_update_says_why(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    versions(wire)
    errors = [{"errorCode": "ConfigurationConflict", "errorMessage": "Conflicts found."}]
    update(wire, {"addonVersion": NEW}, statuses=("Failed",), errors=errors)
    result = wire.run(main, {**PARAMS, "version": NEW})
    assert "last state Failed" in result["msg"]
    assert "ConfigurationConflict: Conflicts found." in result["msg"]


def test_a_failed_update_is_made_again(wire: Wire) -> None:
    cluster(wire)
    describe(wire, status="UPDATE_FAILED", health=health("Unknown", "Broke."))
    update(wire, {})
    describe(wire)
    describe(wire)
    result = wire.run(main, PARAMS)
    assert result["plan"][0]["reason"] == "UPDATE_FAILED: Unknown: Broke."


def test_a_failed_deletion_is_explained(wire: Wire) -> None:
    cluster(wire)
    describe(wire, status="DELETE_FAILED", health=health("AccessDenied", "No."))
    assert wire.run(main, PARAMS)["msg"].startswith("Add-on vpc-cni is DELETE_FAILED: AccessDenied: No. Remove it")


def test_a_role_that_eks_does_not_see_yet_is_waited_out(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    cluster(wire)
    absent(wire)
    versions(wire)
    more: Api = {"podIdentityAssociations": [{"serviceAccount": "aws-node", "roleArn": ROLE}]}
    request = {**SUBJECT, "addonVersion": DEFAULT, "tags": MARK, **more}
    wire.expect_error("eks:CreateAddon", request, "InvalidParameterException", "Role provided in the request does not exist.")
    create(wire, **more)
    describe(wire, status="CREATING")
    options = {"pod_identity_associations": [{"service_account": "aws-node", "role_arn": ROLE}], "wait": False}
    assert wire.run(main, {**PARAMS, **options})["changed"]
    assert slept == [1.0]


def test_a_real_run_takes_no_planned_role(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    associations = [{"service_account": "aws-node", "role_arn": "planned:role/b"}]
    options = {"service_account_role_arn": "planned:role/a", "pod_identity_associations": associations}
    result = wire.run(main, {**PARAMS, **options})
    assert paths(result) == ["service_account_role_arn", "pod_identity_associations[0].role_arn"]


@pytest.mark.parametrize("preserve", [None, True])
def test_deletion(wire: Wire, preserve: bool | None) -> None:
    cluster(wire)
    describe(wire)
    wire.expect("eks:DeleteAddon", {**SUBJECT, **({"preserve": True} if preserve else {})})
    describe(wire, status="DELETING")
    absent(wire)
    result = wire.run(main, {**PARAMS, "state": "absent", "preserve": preserve})
    assert actions(result) == [("eks:DeleteAddon", "vpc-cni", "delete")]
    assert (result["addon"], result["addons"]) == (None, [])
    assert result["diff"]["after"] == {}


def test_deletion_ends_what_is_under_way_first(wire: Wire) -> None:
    cluster(wire)
    for status in ("CREATING", "CREATING", "CREATE_FAILED", "CREATE_FAILED"):
        describe(wire, status=status)
    wire.expect("eks:DeleteAddon", SUBJECT)
    absent(wire)
    assert wire.run(main, {**PARAMS, "state": "absent"})["changed"]


def test_a_deletion_under_way_is_waited_for(wire: Wire) -> None:
    cluster(wire)
    describe(wire, status="DELETING")
    describe(wire, status="DELETING")
    absent(wire)
    assert not wire.run(main, {**PARAMS, "state": "absent"})["changed"]


def test_a_deletion_that_fails_is_explained(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    wire.expect("eks:DeleteAddon", SUBJECT)
    describe(wire, status="DELETE_FAILED", health=health("AccessDenied", "No."))
    assert "last state DELETE_FAILED" in wire.run(main, {**PARAMS, "state": "absent"})["msg"]


@pytest.mark.parametrize("adopt", [False, True])
def test_what_somebody_else_made_is_never_deleted(wire: Wire, adopt: bool) -> None:
    cluster(wire)
    describe(wire, tags={}, status="CREATING")
    result = wire.run(main, {**PARAMS, "state": "absent", "adopt": adopt})
    assert paths(result) == ["name"]


def test_nothing_to_delete(wire: Wire) -> None:
    cluster(wire)
    absent(wire)
    assert not wire.run(main, {**PARAMS, "state": "absent"})["changed"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_cluster_that_is_gone_has_no_add_ons(wire: Wire, check_mode: bool) -> None:
    no_cluster(wire)
    assert not wire.run(main, {**PARAMS, "state": "absent"}, check_mode=check_mode)["changed"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"name": None}, {"name"}),
        ({"name": "a b"}, {"name"}),
        ({"addons": []}, None),
        ({"version": "newest"}, {"version"}),
        ({"version": ["v1"]}, {"version"}),
        ({"configuration_values": "[1"}, {"configuration_values"}),
        ({"configuration_values": 3}, {"configuration_values"}),
        ({"resolve_conflicts": "overwrite"}, {"resolve_conflicts"}),
        ({"service_account_role_arn": "demo"}, {"service_account_role_arn"}),
        ({"namespace": "Kube_System"}, {"namespace"}),
        ({"preserve": "perhaps", "tags": "x", "wait": "never"}, {"preserve", "tags", "wait"}),
        ({"tags": {"gpuops.eks/owner": "me", "aws:x": "y"}}, {"tags.gpuops.eks/owner", "tags.aws:x"}),
        ({"cluster_name": "a/b", "nam": 1}, {"cluster_name", "nam"}),
        (
            {"pod_identity_associations": [{"service_account": "A", "role_arn": "x"}, {"service_account": "b"}, 3]},
            {
                "pod_identity_associations[0].service_account",
                "pod_identity_associations[0].role_arn",
                "pod_identity_associations[1].role_arn",
                "pod_identity_associations[2]",
            },
        ),
        (
            {"pod_identity_associations": [{"service_account": "a", "role_arn": ROLE}, {"service_account": "a", "role_arn": OTHER_ROLE}]},
            {"pod_identity_associations[1].service_account"},
        ),
        (
            {"name": None, "addons": [{"name": "a"}, {"name": "a", "version": ""}, {}]},
            {"addons[1].name", "addons[1].version", "addons[2].name"},
        ),
        ({"name": None, "addons": "vpc-cni"}, {"addons[0]"}),
    ],
)
def test_bad_form_is_refused_before_any_client(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any], expected: set[str] | None
) -> None:
    def refuse(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise AssertionError("bad input must not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    result = wire.run(main, {name: value for name, value in {**PARAMS, **options}.items() if value is not None})
    assert result["failed"]
    if expected is None:
        assert "mutually exclusive" in result["msg"]
    else:
        assert set(paths(result)) == expected
