# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_access_entry through main(): the exact calls, in order."""

from __future__ import annotations

import socket
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._run import patience
from ansible_collections.gpuops.eks.plugins.modules.eks_access_entry import main

from tests.wire.cluster_parts import ACCOUNT, OTHER_ROLE, ROLE, actions, caller, cluster, mark, no_cluster, paths
from tests.wire.harness import Wire

ARN = f"arn:aws:eks:us-west-2:{ACCOUNT}:access-entry/demo/role/{ACCOUNT}/demo-part/1"
MARK = mark("access-entry")
SUBJECT = {"clusterName": "demo", "principalArn": ROLE}
VIEW, EDIT, ADMIN = (f"arn:aws:eks::aws:cluster-access-policy/AmazonEKS{name}Policy" for name in ("View", "Edit", "ClusterAdmin"))
CLUSTER = {"type": "cluster"}
IN_A = {"type": "namespace", "namespaces": ["a"]}
Api = dict[str, t.Any]


def params(*more: t.Any, **options: t.Any) -> Api:
    """The options of one entry for ROLE, and of more."""
    return {"cluster_name": "demo", "entries": [{"principal_arn": ROLE, **options}, *more]}


def described(**changes: t.Any) -> Api:
    """The description of an entry of ours."""
    entry = {"accessEntryArn": ARN, "type": "STANDARD", "username": "demo", "kubernetesGroups": ["b", "a"], "tags": MARK}
    return {**SUBJECT, **entry, **changes}


def describe(wire: Wire, **changes: t.Any) -> None:
    found = described(**changes)
    wire.expect("eks:DescribeAccessEntry", {**SUBJECT, "principalArn": found["principalArn"]}, {"accessEntry": found})


def missing(wire: Wire, principal: str = ROLE) -> None:
    message = "The specified principalArn could not be found."
    wire.expect_error("eks:DescribeAccessEntry", {**SUBJECT, "principalArn": principal}, "ResourceNotFoundException", message)


def associated(wire: Wire, **scopes: Api) -> None:
    arns = {"view": VIEW, "edit": EDIT, "admin": ADMIN}
    found = [{"policyArn": arns[name], "accessScope": scope} for name, scope in scopes.items()]
    wire.expect("eks:ListAssociatedAccessPolicies", SUBJECT, {"associatedAccessPolicies": found})


def known(wire: Wire) -> None:
    policies = [{"name": arn.rsplit("/", 1)[1], "arn": arn} for arn in (VIEW, EDIT, ADMIN)]
    wire.expect("eks:ListAccessPolicies", {}, {"accessPolicies": policies})


def associate(wire: Wire, arn: str, scope: Api) -> None:
    wire.expect("eks:AssociateAccessPolicy", {**SUBJECT, "policyArn": arn, "accessScope": scope})


def create(wire: Wire, **more: t.Any) -> None:
    request = {**SUBJECT, "type": "STANDARD", "tags": MARK, **more}
    wire.expect("eks:CreateAccessEntry", request, {"accessEntry": described()})


def test_a_new_entry_and_its_policies(wire: Wire) -> None:
    cluster(wire)
    missing(wire)
    known(wire)
    create(wire, username="me", kubernetesGroups=["a", "b"], tags={"x": "1", **MARK})
    associate(wire, ADMIN, CLUSTER)
    associate(wire, EDIT, {"type": "namespace", "namespaces": ["a", "b"]})
    describe(wire)
    associated(wire, admin=CLUSTER, edit={"type": "namespace", "namespaces": ["b", "a"]})
    policies = [{"policy": "AmazonEKSClusterAdminPolicy"}, {"policy": EDIT, "namespaces": ["b", "a"]}]
    result = wire.run(main, params(username="me", kubernetes_groups=["b", "a"], policies=policies, tags={"x": 1}))
    target = f"planned:access-entry/{ROLE}"
    assert actions(result) == [
        ("eks:CreateAccessEntry", target, "create"),
        ("eks:AssociateAccessPolicy", target, "update"),
        ("eks:AssociateAccessPolicy", target, "update"),
    ]
    [entry] = result["access_entries"]
    assert entry["access_entry_arn"] == ARN
    assert entry["policies"] == [
        {"policy_arn": ADMIN, "access_scope": {"type": "cluster", "namespaces": []}},
        {"policy_arn": EDIT, "access_scope": {"type": "namespace", "namespaces": ["a", "b"]}},
    ]


def test_an_entry_for_nodes(wire: Wire) -> None:
    cluster(wire, mode="API_AND_CONFIG_MAP")
    missing(wire)
    create(wire, type="EC2_LINUX")
    describe(wire, type="EC2_LINUX")
    assert wire.run(main, params(type="EC2_LINUX"))["access_entries"][0]["policies"] is None


def test_check_mode_reads_nothing_of_a_cluster_that_will_be(wire: Wire) -> None:
    no_cluster(wire)
    caller(wire)
    policies = [{"policy": "AmazonEKSViewPolicy"}]
    other = {"principal_arn": "planned:role/x", "type": "EC2_LINUX"}
    result = wire.run(main, {**params(other, policies=policies), "purge": True}, check_mode=True)
    assert [step["action"] for step in result["plan"]] == ["eks:CreateAccessEntry", "eks:AssociateAccessPolicy", "eks:CreateAccessEntry"]
    assert result["access_entries"][0]["policies"][0]["policy_arn"] == VIEW
    assert result["access_entries"][1]["access_entry_arn"] == "planned:access-entry/planned:role/x"
    assert result["diff"]["after"][ROLE]["tags"] == MARK


def test_check_mode_reads_nothing_of_a_principal_that_will_be(wire: Wire) -> None:
    cluster(wire)
    entries = [{"principal_arn": "planned:role/x"}]
    assert wire.run(main, {"cluster_name": "demo", "entries": entries}, check_mode=True)["changed"]


def test_a_real_run_takes_no_planned_principal(wire: Wire) -> None:
    cluster(wire)
    assert paths(wire.run(main, {"cluster_name": "demo", "entries": [{"principal_arn": "planned:role/x"}]})) == ["entries[0].principal_arn"]


def test_a_real_run_needs_a_cluster(wire: Wire) -> None:
    no_cluster(wire)
    assert "Make it first" in wire.run(main, params())["msg"]


def test_a_cluster_without_access_entries_is_refused(wire: Wire) -> None:
    cluster(wire, mode="CONFIG_MAP")
    result = wire.run(main, params())
    assert result["msg"] == (
        "EKS cluster demo has authentication mode CONFIG_MAP and no access entries. "
        "Set authentication_mode: API_AND_CONFIG_MAP, or API, with gpuops.eks.eks_cluster first."
    )


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("options", [{}, {"type": "STANDARD"}, {"kubernetes_groups": ["a", "b"]}, {"username": "demo"}, {"tags": {}}])
def test_a_second_run_makes_two_reads(wire: Wire, options: Api, check_mode: bool) -> None:
    cluster(wire)
    describe(wire)
    result = wire.run(main, params(**options), check_mode=check_mode)
    assert (result["changed"], result["plan"]) == (False, [])
    assert result["diff"]["before"] == result["diff"]["after"]


def test_policies_in_another_order_are_the_same(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    associated(wire, view={"type": "namespace", "namespaces": ["b", "a"]}, admin={**CLUSTER, "namespaces": []})
    policies = [{"policy": ADMIN}, {"policy": "AmazonEKSViewPolicy", "namespaces": ["a", "b"]}]
    assert not wire.run(main, params(policies=policies))["changed"]


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        ({"kubernetes_groups": ["c"]}, {"kubernetesGroups": ["c"]}),
        ({"kubernetes_groups": []}, {"kubernetesGroups": []}),
        ({"username": "new"}, {"username": "new"}),
    ],
)
def test_an_update(wire: Wire, options: Api, request_: Api) -> None:
    cluster(wire)
    describe(wire)
    wire.expect("eks:UpdateAccessEntry", {**SUBJECT, **request_}, {"accessEntry": described()})
    describe(wire)
    result = wire.run(main, params(**options))
    assert result["plan"][0]["fields"] == list(options)


def test_policies_are_given_scoped_anew_and_taken(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    associated(wire, view=CLUSTER, admin=CLUSTER)
    known(wire)
    associate(wire, VIEW, IN_A)
    associate(wire, EDIT, CLUSTER)
    wire.expect("eks:DisassociateAccessPolicy", {**SUBJECT, "policyArn": ADMIN})
    describe(wire)
    associated(wire, view=IN_A, edit=CLUSTER)
    policies = [{"policy": "AmazonEKSViewPolicy", "namespaces": ["a"]}, {"policy": "AmazonEKSEditPolicy"}]
    result = wire.run(main, params(policies=policies))
    assert [step["reason"] for step in result["plan"]] == ["AmazonEKSViewPolicy", "AmazonEKSEditPolicy", "AmazonEKSClusterAdminPolicy"]


def test_no_policies_takes_all(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    associated(wire, view=CLUSTER)
    wire.expect("eks:DisassociateAccessPolicy", {**SUBJECT, "policyArn": VIEW})
    describe(wire)
    associated(wire)
    assert wire.run(main, params(policies=[]))["access_entries"][0]["policies"] == []


def test_an_interrupted_run_is_finished(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    associated(wire)
    known(wire)
    associate(wire, VIEW, CLUSTER)
    describe(wire)
    associated(wire, view=CLUSTER)
    assert len(wire.run(main, params(policies=[{"policy": VIEW}]))["plan"]) == 1


def test_tags_are_set_and_purged(wire: Wire) -> None:
    cluster(wire)
    describe(wire, tags={**MARK, "old": "1"})
    wire.expect("eks:TagResource", {"resourceArn": ARN, "tags": {"new": "2"}})
    wire.expect("eks:UntagResource", {"resourceArn": ARN, "tagKeys": ["old"]})
    describe(wire)
    assert wire.run(main, params(tags={"new": "2"}))["changed"]


def test_the_check_mode_of_an_update(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    associated(wire, view=CLUSTER)
    result = wire.run(main, params(kubernetes_groups=["c"], policies=[]), check_mode=True)
    assert [step["action"] for step in result["plan"]] == ["eks:UpdateAccessEntry", "eks:DisassociateAccessPolicy"]
    assert (result["access_entries"][0]["kubernetes_groups"], result["access_entries"][0]["policies"]) == (["c"], [])


def test_the_type_cannot_be_changed_and_unknown_policies_are_named(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    missing(wire, OTHER_ROLE)
    known(wire)
    result = wire.run(main, params({"principal_arn": OTHER_ROLE, "policies": [{"policy": "AmazonEKSNoSuchPolicy"}]}, type="EC2_LINUX"))
    assert paths(result) == ["entries[0].type", "entries[1].policies"]
    assert "one of AmazonEKSClusterAdminPolicy, AmazonEKSEditPolicy, AmazonEKSViewPolicy" in result["msg"]


def test_an_entry_of_nodes_gets_no_groups(wire: Wire) -> None:
    cluster(wire)
    describe(wire, type="EC2_LINUX", kubernetesGroups=["system:nodes"])
    assert paths(wire.run(main, params(kubernetes_groups=["a"]))) == ["entries[0].kubernetes_groups"]


def test_what_somebody_else_made_is_refused(wire: Wire) -> None:
    cluster(wire)
    describe(wire, tags={})
    result = wire.run(main, params(kubernetes_groups=["c"]))
    assert paths(result) == ["entries[0].principal_arn"]
    assert "adopt: true" in result["msg"]


def test_what_is_adopted_gets_no_mark_and_loses_no_tag(wire: Wire) -> None:
    cluster(wire)
    describe(wire, tags={"a": "b"})
    wire.expect("eks:TagResource", {"resourceArn": ARN, "tags": {"c": "d"}})
    wire.expect("eks:UpdateAccessEntry", {**SUBJECT, "username": "new"}, {"accessEntry": described()})
    describe(wire)
    assert wire.run(main, params(username="new", tags={"c": "d"}, adopt=True))["changed"]


def test_purge_removes_only_what_this_module_made(wire: Wire) -> None:
    own, node, others = (f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("own", "node", "others"))
    cluster(wire)
    describe(wire)
    wire.expect("eks:ListAccessEntries", {"clusterName": "demo"}, {"accessEntries": [ROLE, own, node, others]})
    describe(wire, principalArn=own)
    describe(wire, principalArn=node, tags={**MARK, "gpuops.eks/component": "nodepool"})
    describe(wire, principalArn=others, tags={})
    wire.expect("eks:DeleteAccessEntry", {**SUBJECT, "principalArn": own})
    result = wire.run(main, {**params(), "purge": True})
    assert actions(result) == [("eks:DeleteAccessEntry", own, "delete")]
    assert len(result["access_entries"]) == 1


def test_a_principal_that_eks_does_not_see_yet_is_waited_out(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    cluster(wire)
    missing(wire)
    known(wire)
    request = {**SUBJECT, "type": "STANDARD", "tags": MARK}
    refusal = "The specified principalArn is invalid: invalid principal."
    wire.expect_error("eks:CreateAccessEntry", request, "InvalidParameterException", refusal)
    create(wire)
    scoped = {**SUBJECT, "policyArn": VIEW, "accessScope": CLUSTER}
    wire.expect_error("eks:AssociateAccessPolicy", scoped, "ResourceNotFoundException", "The specified principalArn could not be found.")
    associate(wire, VIEW, CLUSTER)
    describe(wire)
    associated(wire, view=CLUSTER)
    assert wire.run(main, params(policies=[{"policy": VIEW}]))["changed"]
    assert slept == [1.0, 1.0]


def test_deletion(wire: Wire) -> None:
    cluster(wire)
    describe(wire)
    missing(wire, OTHER_ROLE)
    wire.expect("eks:DeleteAccessEntry", SUBJECT)
    result = wire.run(main, {**params({"principal_arn": OTHER_ROLE}), "state": "absent"})
    assert actions(result) == [("eks:DeleteAccessEntry", ROLE, "delete")]
    assert (result["access_entries"], result["diff"]["after"]) == ([], {})


def test_what_somebody_else_made_is_never_deleted(wire: Wire) -> None:
    cluster(wire)
    describe(wire, tags={})
    assert paths(wire.run(main, {**params(adopt=True), "state": "absent"})) == ["entries[0].principal_arn"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_cluster_that_is_gone_has_no_entries(wire: Wire, check_mode: bool) -> None:
    no_cluster(wire)
    assert not wire.run(main, {**params(), "state": "absent"}, check_mode=check_mode)["changed"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"entries": None}, {"entries"}),
        ({"purge": True, "state": "absent"}, {"purge"}),
        ({"cluster_name": "a/b", "entrys": 1}, {"cluster_name", "entrys"}),
        (params({"principal_arn": ROLE}), {"entries[1].principal_arn"}),
        (params({}, 3), {"entries[1].principal_arn", "entries[2]"}),
        (params({"principal_arn": "arn:aws:sts::123456789012:assumed-role/x/y"}), {"entries[1].principal_arn"}),
        (
            params(username="system:admin", kubernetes_groups=["system:masters", ""]),
            {f"entries[0].{name}" for name in ("username", "kubernetes_groups[0]", "kubernetes_groups[1]")},
        ),
        (
            params(type="EC2_LINUX", username="x", kubernetes_groups=["a"], policies=[{"policy": "P"}]),
            {f"entries[0].{name}" for name in ("username", "kubernetes_groups", "policies")},
        ),
        (params(type="EC2", kubernetes_groups=["a"], policies=[{"policy": "P"}]), {"entries[0].kubernetes_groups"}),
        (params(type="ADMIN", tags={"aws:x": "y"}, adopt="perhaps"), {f"entries[0].{name}" for name in ("type", "tags.aws:x", "adopt")}),
        (params(policies=[{"policy": "AmazonEKSViewPolicy"}, {"policy": VIEW}]), {"entries[0].policies[1].policy"}),
        (
            params(policies=[{"policy": "a b"}, {"namespaces": ["a", "a"]}, "x"]),
            {f"entries[0].policies[{name}" for name in ("0].policy", "1].policy", "1].namespaces[1]", "2]")},
        ),
    ],
)
def test_bad_form_is_refused_before_any_client(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, options: dict[str, t.Any], expected: set[str]
) -> None:
    def refuse(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise AssertionError("bad input must not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    result = wire.run(main, {name: value for name, value in {**params(), **options}.items() if value is not None})
    assert set(paths(result)) == expected
