# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_oidc_provider: the calls that a provider takes, before, with and after its cluster."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.modules.eks_oidc_provider import main

from tests.wire.harness import Wire

CLUSTER = "arn:aws:eks:us-west-2:123456789012:cluster/demo"
HOST = "oidc.eks.us-west-2.amazonaws.com/id/0A1B2C3D4E5F60718293A4B5C6D7E8F9"
ARN = f"arn:aws:iam::123456789012:oidc-provider/{HOST}"
SUBJECT = {"OpenIDConnectProviderArn": ARN}
MARK = {"gpuops.eks/component": "oidc-provider", "gpuops.eks/owner": CLUSTER}
PARAMS = {"cluster_name": "demo"}


def tags(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(values.items())]


def cluster(wire: Wire) -> None:
    found = {"name": "demo", "arn": CLUSTER, "status": "ACTIVE", "identity": {"oidc": {"issuer": f"https://{HOST}"}}}
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": found})


def caller(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/anna", "UserId": "A"})


def provider(wire: Wire, marks: dict[str, str] | None = None, clients: tuple[str, ...] = ("sts.amazonaws.com",)) -> None:
    reply = {"Url": HOST, "ClientIDList": list(clients), "ThumbprintList": [], "Tags": tags(MARK if marks is None else marks)}
    wire.expect("iam:GetOpenIDConnectProvider", SUBJECT, reply)


def no_provider(wire: Wire) -> None:
    wire.expect_error("iam:GetOpenIDConnectProvider", SUBJECT, "NoSuchEntity")


def actions(result: dict[str, t.Any]) -> list[str]:
    return [step["action"].removeprefix("iam:") for step in result["plan"]]


def test_a_new_provider_is_one_call(wire: Wire) -> None:
    cluster(wire)
    no_provider(wire)
    request = {"Url": f"https://{HOST}", "ClientIDList": ["sts.amazonaws.com"], "Tags": tags({**MARK, "team": "ml"})}
    wire.expect("iam:CreateOpenIDConnectProvider", request, {"OpenIDConnectProviderArn": ARN})
    provider(wire)
    result = wire.run(main, {**PARAMS, "tags": {"team": "ml"}})
    assert (actions(result), result["oidc_provider"]["arn"]) == (["CreateOpenIDConnectProvider"], ARN)


def test_a_new_provider_that_iam_does_not_find_yet_is_shown_with_its_arn(wire: Wire) -> None:
    cluster(wire)
    no_provider(wire)
    request = {"Url": f"https://{HOST}", "ClientIDList": ["sts.amazonaws.com"], "Tags": tags(MARK)}
    wire.expect("iam:CreateOpenIDConnectProvider", request, {"OpenIDConnectProviderArn": ARN})
    no_provider(wire)
    assert wire.run(main, PARAMS)["oidc_provider"]["arn"] == ARN


def test_a_second_run_reads_twice_and_writes_nothing(wire: Wire) -> None:
    cluster(wire)
    provider(wire)
    assert not wire.run(main, PARAMS)["changed"]


def test_for_a_planned_cluster_it_is_planned(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    caller(wire)
    result = wire.run(main, PARAMS, check_mode=True)
    assert actions(result) == ["CreateOpenIDConnectProvider"]
    assert result["oidc_provider"]["arn"] == "planned:oidc-provider/demo"


def test_audiences_thumbprints_and_tags_are_changed_in_place(wire: Wire) -> None:
    cluster(wire)
    provider(wire, {**MARK, "old": "1"}, ("sts.amazonaws.com", "gone"))
    wire.expect("iam:AddClientIDToOpenIDConnectProvider", {**SUBJECT, "ClientID": "new"})
    wire.expect("iam:RemoveClientIDFromOpenIDConnectProvider", {**SUBJECT, "ClientID": "gone"})
    wire.expect("iam:UpdateOpenIDConnectProviderThumbprint", {**SUBJECT, "ThumbprintList": ["a" * 40]})
    wire.expect("iam:TagOpenIDConnectProvider", {**SUBJECT, "Tags": tags({"team": "ml"})})
    wire.expect("iam:UntagOpenIDConnectProvider", {**SUBJECT, "TagKeys": ["old"]})
    provider(wire)
    wanted = {"client_ids": ["sts.amazonaws.com", "new"], "thumbprints": ["a" * 40], "tags": {"team": "ml"}}
    assert len(wire.run(main, {**PARAMS, **wanted})["plan"]) == 5


def test_one_of_somebody_else_is_changed_on_consent_only_and_loses_nothing(wire: Wire) -> None:
    wanted = {"client_ids": ["new"], "tags": {"team": "ml"}}
    cluster(wire)
    provider(wire, {"old": "1"})
    assert "adopt: true" in wire.run(main, {**PARAMS, **wanted})["msg"]


def test_adopted_it_gets_what_is_set_and_no_mark(wire: Wire) -> None:
    cluster(wire)
    provider(wire, {"old": "1"})
    wire.expect("iam:AddClientIDToOpenIDConnectProvider", {**SUBJECT, "ClientID": "new"})
    wire.expect("iam:TagOpenIDConnectProvider", {**SUBJECT, "Tags": tags({"team": "ml"})})
    provider(wire, {"old": "1", "team": "ml"})
    result = wire.run(main, {**PARAMS, "client_ids": ["new"], "tags": {"team": "ml"}, "adopt": True})
    assert actions(result) == ["AddClientIDToOpenIDConnectProvider", "TagOpenIDConnectProvider"]


@pytest.mark.parametrize("mark", [MARK, {}])
def test_absent_finds_it_by_its_mark_when_the_cluster_is_gone(wire: Wire, mark: dict[str, str]) -> None:
    caller(wire)
    others = ["arn:aws:iam::123456789012:oidc-provider/token.actions.example", ARN.replace("us-west-2", "us-east-1")]
    listed = [{"Arn": arn} for arn in (*others, ARN)]
    wire.expect("iam:ListOpenIDConnectProviders", {}, {"OpenIDConnectProviderList": listed})
    wire.expect("iam:ListOpenIDConnectProviderTags", SUBJECT, {"Tags": tags(mark)})
    if mark:
        wire.expect("iam:DeleteOpenIDConnectProvider", SUBJECT)
    result = wire.run(main, {**PARAMS, "state": "absent"})
    assert (result["changed"], result["oidc_provider"]) == (bool(mark), None)


def test_bad_form_is_refused_before_any_client(wire: Wire) -> None:
    bad = {"cluster_name": "-", "client_ids": [], "thumbprints": ["x"], "tags": {"aws:x": "y"}}
    assert {fault["path"] for fault in wire.run(main, bad)["faults"]} == {"cluster_name", "client_ids", "thumbprints[0]", "tags.aws:x"}
