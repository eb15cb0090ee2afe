# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_pod_identity_association through main(): the exact calls, in order."""

from __future__ import annotations

import json
import socket
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._run import patience
from ansible_collections.gpuops.eks.plugins.modules.eks_pod_identity_association import main

from tests.wire.cluster_parts import ACCOUNT, OTHER_ROLE, ROLE, actions, caller, cluster, mark, no_cluster, paths
from tests.wire.harness import Wire

ARN = f"arn:aws:eks:us-west-2:{ACCOUNT}:podidentityassociation/demo/a-1"
MARK = mark("pod-identity-association")
PARAMS: dict[str, t.Any] = {"cluster_name": "demo", "namespace": "kube-system", "service_account": "scaler", "role_arn": ROLE}
ID = {"clusterName": "demo", "associationId": "a-1"}
CREATE = {"clusterName": "demo", "namespace": "kube-system", "serviceAccount": "scaler", "roleArn": ROLE, "tags": MARK}
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
Api = dict[str, t.Any]


def association(**changes: t.Any) -> Api:
    """The description of an association of ours."""
    return {
        "clusterName": "demo",
        "associationId": "a-1",
        "associationArn": ARN,
        "namespace": "kube-system",
        "serviceAccount": "scaler",
        "roleArn": ROLE,
        "disableSessionTags": False,
        "tags": MARK,
        **changes,
    }


def listed(wire: Wire, *accounts: str, one: bool = True) -> None:
    """The list, of ``scaler`` alone or of the whole cluster; ids count from 1."""
    request = {"clusterName": "demo", **({"namespace": "kube-system", "serviceAccount": "scaler"} if one else {})}
    found = [
        {"clusterName": "demo", "namespace": "kube-system", "serviceAccount": account, "associationId": f"a-{number}"}
        for number, account in enumerate(accounts, 1)
    ]
    wire.expect("eks:ListPodIdentityAssociations", request, {"associations": found})


def describe(wire: Wire, **changes: t.Any) -> None:
    found = association(**changes)
    request = {"clusterName": "demo", "associationId": found["associationId"]}
    wire.expect("eks:DescribePodIdentityAssociation", request, {"association": found})


def there(wire: Wire, **changes: t.Any) -> None:
    cluster(wire)
    listed(wire, "scaler")
    describe(wire, **changes)


def test_a_new_association(wire: Wire) -> None:
    cluster(wire)
    listed(wire)
    wire.expect("eks:CreatePodIdentityAssociation", CREATE, {"association": association()})
    describe(wire)
    result = wire.run(main, PARAMS)
    assert actions(result) == [("eks:CreatePodIdentityAssociation", "planned:pod-identity-association/kube-system/scaler", "create")]
    assert (result["association"]["association_id"], result["association"]["association_arn"]) == ("a-1", ARN)
    assert result["associations"] == [result["association"]]
    assert (result["association"]["target_role_arn"], result["association"]["policy"]) == (None, None)


def test_everything_is_in_the_call_that_makes_it(wire: Wire) -> None:
    cluster(wire)
    listed(wire)
    more = {"targetRoleArn": OTHER_ROLE, "disableSessionTags": True, "policy": json.dumps(POLICY, sort_keys=True)}
    wire.expect("eks:CreatePodIdentityAssociation", {**CREATE, **more, "tags": {"a": "1", **MARK}}, {"association": association(**more)})
    describe(wire, **more)
    options = {"target_role_arn": OTHER_ROLE, "disable_session_tags": True, "policy": POLICY, "tags": {"a": 1}}
    assert wire.run(main, {**PARAMS, **options})["association"]["policy"] == POLICY


def test_check_mode_reads_nothing_of_a_cluster_that_will_be(wire: Wire) -> None:
    no_cluster(wire)
    caller(wire)
    result = wire.run(main, {**PARAMS, "role_arn": "planned:role/x"}, check_mode=True)
    assert result["association"]["association_id"] == "planned:pod-identity-association/kube-system/scaler"
    assert result["association"]["role_arn"] == "planned:role/x"
    assert result["diff"] == {"before": {}, "after": {"kube-system/scaler": {"role_arn": "planned:role/x", "tags": MARK}}}


def test_a_real_run_needs_a_cluster_and_real_roles(wire: Wire) -> None:
    no_cluster(wire)
    assert "Make it first" in wire.run(main, PARAMS)["msg"]


def test_a_real_run_takes_no_planned_role(wire: Wire) -> None:
    cluster(wire)
    listed(wire)
    result = wire.run(main, {**PARAMS, "role_arn": "planned:role/a", "target_role_arn": "planned:role/b"})
    assert paths(result) == ["role_arn", "target_role_arn"]


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"role_arn": None}, {"tags": {}}, {"disable_session_tags": True}, {"disable_session_tags": True, "policy": POLICY}],
)
def test_a_second_run_makes_three_reads(wire: Wire, options: Api, check_mode: bool) -> None:
    there(wire, disableSessionTags=True, policy=json.dumps(POLICY, indent=2))
    result = wire.run(main, {**PARAMS, **options}, check_mode=check_mode)
    assert (result["changed"], result["plan"]) == (False, [])
    assert result["diff"]["before"] == result["diff"]["after"]


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        ({"role_arn": OTHER_ROLE}, {"roleArn": OTHER_ROLE}),
        ({"target_role_arn": ROLE}, {"targetRoleArn": ROLE}),
        ({"disable_session_tags": True}, {"disableSessionTags": True}),
        (
            {"disable_session_tags": True, "policy": POLICY},
            {"disableSessionTags": True, "policy": json.dumps(POLICY, sort_keys=True)},
        ),
    ],
)
def test_an_update_in_place(wire: Wire, options: Api, request_: Api) -> None:
    there(wire, targetRoleArn=OTHER_ROLE)
    stays = {"roleArn": ROLE, "targetRoleArn": OTHER_ROLE, "disableSessionTags": False}
    wire.expect("eks:UpdatePodIdentityAssociation", {**ID, **stays, **request_}, {"association": association()})
    describe(wire)
    result = wire.run(main, {**PARAMS, **options})
    assert actions(result) == [("eks:UpdatePodIdentityAssociation", "a-1", "update")]
    assert result["plan"][0]["fields"] == list(options)


def test_tags_are_set_and_purged(wire: Wire) -> None:
    there(wire, tags={**MARK, "old": "1"})
    wire.expect("eks:TagResource", {"resourceArn": ARN, "tags": {"new": "2"}})
    wire.expect("eks:UntagResource", {"resourceArn": ARN, "tagKeys": ["old"]})
    describe(wire)
    assert len(wire.run(main, {**PARAMS, "tags": {"new": 2}})["plan"]) == 2


def test_the_check_mode_of_an_update(wire: Wire) -> None:
    there(wire)
    result = wire.run(main, {**PARAMS, "role_arn": OTHER_ROLE, "tags": {"a": "b"}}, check_mode=True)
    assert [step["action"] for step in result["plan"]] == ["eks:TagResource", "eks:UpdatePodIdentityAssociation"]
    assert result["association"]["role_arn"] == OTHER_ROLE
    assert result["association"]["tags"] == {**MARK, "a": "b"}
    assert result["plan"][1]["reason"] == f"from {ROLE}"


def test_what_somebody_else_made_is_refused(wire: Wire) -> None:
    there(wire, tags={})
    result = wire.run(main, {**PARAMS, "role_arn": OTHER_ROLE})
    assert paths(result) == ["service_account"]
    assert "adopt: true" in result["msg"]


def test_what_is_adopted_gets_no_mark_and_loses_no_tag(wire: Wire) -> None:
    there(wire, tags={"a": "b"})
    wire.expect("eks:TagResource", {"resourceArn": ARN, "tags": {"c": "d"}})
    request = {**ID, "roleArn": OTHER_ROLE, "disableSessionTags": False}
    wire.expect("eks:UpdatePodIdentityAssociation", request, {"association": association()})
    describe(wire)
    assert wire.run(main, {**PARAMS, "role_arn": OTHER_ROLE, "tags": {"c": "d"}, "adopt": True})["changed"]


@pytest.mark.parametrize("state", ["present", "absent"])
def test_what_an_add_on_owns_is_left_to_it(wire: Wire, state: str) -> None:
    there(wire, ownerArn="arn:addon")
    result = wire.run(main, {**PARAMS, "role_arn": OTHER_ROLE, "adopt": True, "state": state})
    assert paths(result) == ["service_account"]
    assert "this belongs to arn:addon" in result["msg"]


def test_several_are_found_by_one_list(wire: Wire) -> None:
    cluster(wire)
    listed(wire, "scaler", "other", one=False)
    describe(wire)
    request = {**CREATE, "serviceAccount": "new"}
    wire.expect("eks:CreatePodIdentityAssociation", request, {"association": association(associationId="a-3", serviceAccount="new")})
    describe(wire, associationId="a-3", serviceAccount="new")
    associations = [{"namespace": "kube-system", "service_account": name, "role_arn": ROLE} for name in ("scaler", "new")]
    result = wire.run(main, {"cluster_name": "demo", "associations": associations})
    assert [one["association_id"] for one in result["associations"]] == ["a-1", "a-3"]
    assert "association" not in result


def test_a_new_association_needs_a_role(wire: Wire) -> None:
    cluster(wire)
    listed(wire)
    assert paths(wire.run(main, {**PARAMS, "role_arn": None})) == ["role_arn"]


@pytest.mark.parametrize(
    "message", ["Role provided in the request does not exist.", "Trust policy of the role does not allow pods.eks.amazonaws.com."]
)
def test_a_role_that_eks_does_not_see_yet_is_waited_out(wire: Wire, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    cluster(wire)
    listed(wire)
    for _number in range(2):
        wire.expect_error("eks:CreatePodIdentityAssociation", CREATE, "InvalidParameterException", message)
    wire.expect("eks:CreatePodIdentityAssociation", CREATE, {"association": association()})
    describe(wire)
    assert wire.run(main, PARAMS)["changed"]
    assert slept == [1.0, 2.0]


def test_deletion(wire: Wire) -> None:
    there(wire)
    wire.expect("eks:DeletePodIdentityAssociation", ID, {"association": association()})
    result = wire.run(main, {**PARAMS, "state": "absent"})
    assert actions(result) == [("eks:DeletePodIdentityAssociation", "a-1", "delete")]
    assert (result["association"], result["diff"]["after"]) == (None, {})


def test_what_somebody_else_made_is_never_deleted(wire: Wire) -> None:
    there(wire, tags={})
    assert paths(wire.run(main, {**PARAMS, "state": "absent", "adopt": True})) == ["service_account"]


def test_nothing_to_delete(wire: Wire) -> None:
    cluster(wire)
    listed(wire)
    assert not wire.run(main, {**PARAMS, "state": "absent"})["changed"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_cluster_that_is_gone_has_no_associations(wire: Wire, check_mode: bool) -> None:
    no_cluster(wire)
    assert not wire.run(main, {**PARAMS, "state": "absent"}, check_mode=check_mode)["changed"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"service_account": None}, {"service_account"}),
        ({"namespace": "Kube_System", "service_account": "A b"}, {"namespace", "service_account"}),
        ({"role_arn": "demo", "target_role_arn": ["x"]}, {"role_arn", "target_role_arn"}),
        ({"policy": POLICY}, {"disable_session_tags"}),
        ({"policy": POLICY, "disable_session_tags": False}, {"disable_session_tags"}),
        ({"policy": {}}, {"policy"}),
        ({"policy": 3, "disable_session_tags": "perhaps"}, {"policy", "disable_session_tags"}),
        ({"tags": {"gpuops.eks/owner": "x"}, "cluster_name": "a/b", "roles": 1}, {"tags.gpuops.eks/owner", "cluster_name", "roles"}),
        (
            {
                "namespace": None,
                "service_account": None,
                "role_arn": None,
                "associations": [{"namespace": "a", "service_account": "b"}, {"namespace": "a", "service_account": "b"}, {}],
            },
            {"associations[1].service_account", "associations[2].namespace", "associations[2].service_account"},
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
    result = wire.run(main, {name: value for name, value in {**PARAMS, **options}.items() if value is not None})
    assert set(paths(result)) == expected
