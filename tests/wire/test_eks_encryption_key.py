# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_encryption_key: the calls that a key takes, found by alias or mark, in every state that an interrupted run or a teardown leaves."""

from __future__ import annotations

import datetime
import json
import re
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.encryption_key import Wanted, key_policy, same_policy
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._run import patience
from ansible_collections.gpuops.eks.plugins.modules.eks_encryption_key import main

from tests.wire.harness import Wire

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
ROLE = "arn:aws:iam::123456789012:role/demo-us-west-2-cluster"
ID = "0a1b2c3d-1111-2222-3333-444455556666"
ARN = f"arn:aws:kms:us-west-2:123456789012:key/{ID}"
SECRETS = {"cluster_name": "demo", "purpose": "secrets", "role_arns": [ROLE]}
VOLUMES = {"cluster_name": "demo", "purpose": "volumes"}
SLR = {"RoleName": "AWSServiceRoleForAutoScaling"}


def policy(params: dict[str, t.Any]) -> dict[str, t.Any]:
    return key_policy(Wanted(purpose=params["purpose"], role_arns=tuple(params.get("role_arns", ()))), OWNER)


def marks(purpose: str, **more: str) -> list[dict[str, str]]:
    tags = {**more, **OWNER.tags(f"{purpose}-key")}
    return [{"TagKey": key, "TagValue": value} for key, value in sorted(tags.items())]


def caller(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/anna", "UserId": "A"})


def metadata(state: str = "Enabled") -> dict[str, t.Any]:
    found: dict[str, t.Any] = {"KeyId": ID, "Arn": ARN, "KeyState": state, "Description": "mine"}
    if state == "PendingDeletion":
        found["DeletionDate"] = datetime.datetime(2026, 12, 24, tzinfo=datetime.UTC)
    return {"KeyMetadata": found}


def alias(params: dict[str, t.Any]) -> dict[str, str]:
    return {"KeyId": f"alias/gpuops-eks/demo/{params['purpose']}"}


def by_mark(wire: Wire, params: dict[str, t.Any], *arns: str) -> None:
    wire.expect_error("kms:DescribeKey", alias(params), "NotFoundException")
    filters = [
        {"Key": "gpuops.eks/owner", "Values": [OWNER.arn]},
        {"Key": "gpuops.eks/component", "Values": [f"{params['purpose']}-key"]},
    ]
    request = {"TagFilters": filters, "ResourceTypeFilters": ["kms:key"]}
    wire.expect("resourcegroupstaggingapi:GetResources", request, {"ResourceTagMappingList": [{"ResourceARN": arn} for arn in arns]})


def rest(wire: Wire, params: dict[str, t.Any], **changes: t.Any) -> None:
    """What is read of a key that is there."""
    tags = changes.get("tags", marks(params["purpose"]))
    wire.expect("kms:ListResourceTags", {"KeyId": ID}, {"Tags": tags})
    text = json.dumps(changes.get("policy", policy(params)))
    wire.expect("kms:GetKeyPolicy", {"KeyId": ID, "PolicyName": "default"}, {"Policy": text})
    if not changes.get("pending"):
        wire.expect("kms:GetKeyRotationStatus", {"KeyId": ID}, {"KeyRotationEnabled": changes.get("rotation", True)})


def there(wire: Wire, params: dict[str, t.Any], **changes: t.Any) -> None:
    wire.expect("kms:DescribeKey", alias(params), metadata())
    rest(wire, params, **changes)


def new_key(params: dict[str, t.Any]) -> dict[str, t.Any]:
    """The request that makes it."""
    purpose = params["purpose"]
    text = json.dumps(policy(params), sort_keys=True)
    return {"Policy": text, "Description": f"{purpose} of EKS cluster demo", "Tags": marks(purpose)}


def created(wire: Wire, params: dict[str, t.Any], arn: str = ARN) -> None:
    wire.expect("kms:CreateKey", new_key(params), metadata())
    wire.expect("kms:CreateAlias", {"AliasName": alias(params)["KeyId"], "TargetKeyId": arn})
    wire.expect("kms:EnableKeyRotation", {"KeyId": arn})


def actions(result: dict[str, t.Any]) -> list[str]:
    return [step["action"].removeprefix("kms:") for step in result["plan"]]


def test_a_new_key_has_policy_alias_and_rotation(wire: Wire) -> None:
    caller(wire)
    by_mark(wire, SECRETS)
    created(wire, SECRETS)
    there(wire, SECRETS)
    result = wire.run(main, SECRETS)
    assert actions(result) == ["CreateKey", "CreateAlias", "EnableKeyRotation"]
    assert result["encryption_key"]["arn"] == ARN
    assert result["encryption_key"]["rotation_enabled"] is True


def test_a_key_that_kms_does_not_know_yet_is_asked_for_again(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """KMS developer guide, eventual consistency: the calls that finish a new key can be refused as if there were none."""
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    name = {"AliasName": alias(SECRETS)["KeyId"], "TargetKeyId": ARN}
    caller(wire)
    by_mark(wire, SECRETS)
    wire.expect("kms:CreateKey", new_key(SECRETS), metadata())
    for _unused in range(2):
        wire.expect_error("kms:CreateAlias", name, "NotFoundException", f"Key '{ARN}' does not exist")
    wire.expect("kms:CreateAlias", name)
    wire.expect_error("kms:EnableKeyRotation", {"KeyId": ARN}, "NotFoundException", f"Key '{ARN}' does not exist")
    wire.expect("kms:EnableKeyRotation", {"KeyId": ARN})
    there(wire, SECRETS)
    assert wire.run(main, SECRETS)["changed"]
    assert slept == [1.0, 2.0, 1.0]


def test_an_old_key_that_is_gone_is_not_waited_for(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    caller(wire)
    there(wire, SECRETS, rotation=False)
    wire.expect_error("kms:EnableKeyRotation", {"KeyId": ID}, "NotFoundException", "gone")
    assert wire.run(main, {**SECRETS, "rotation": True})["failed"]
    assert slept == []


def test_check_mode_plans_the_same_calls_and_makes_none(wire: Wire) -> None:
    caller(wire)
    by_mark(wire, SECRETS)
    result = wire.run(main, {**SECRETS, "role_arns": ["planned:role/arn"]}, check_mode=True)
    assert actions(result) == ["CreateKey", "CreateAlias", "EnableKeyRotation"]
    assert result["encryption_key"]["arn"] == "planned:key/secrets"


def test_a_planned_role_is_for_check_mode(wire: Wire) -> None:
    caller(wire)
    by_mark(wire, SECRETS)
    result = wire.run(main, {**SECRETS, "role_arns": ["planned:role/arn"]})
    assert [fault["path"] for fault in result["faults"]] == ["role_arns[0]"]


def test_a_second_run_reads_five_times_and_writes_nothing(wire: Wire) -> None:
    caller(wire)
    there(wire, SECRETS)
    result = wire.run(main, SECRETS)
    assert (result["changed"], result["plan"]) == (False, [])


def test_the_order_of_a_policy_does_not_matter(wire: Wire) -> None:
    shuffled = policy(SECRETS)
    shuffled["Statement"] = shuffled["Statement"][::-1]
    shuffled["Statement"][0]["Action"] = shuffled["Statement"][0]["Action"][::-1]
    shuffled["Statement"][0]["Principal"] = {"AWS": ROLE}  # AWS returns a list of one as its element
    caller(wire)
    there(wire, SECRETS, policy=shuffled)
    assert not wire.run(main, SECRETS)["changed"]


def test_a_principal_that_was_deleted_is_set_again(wire: Wire) -> None:
    """KMS shows the id of a role that was deleted; the role that was made anew has another one."""
    stale = policy(SECRETS)
    stale["Statement"][1]["Principal"]["AWS"] = "AROAEXAMPLEEXAMPLE000"
    caller(wire)
    there(wire, SECRETS, policy=stale)
    text = json.dumps(policy(SECRETS), sort_keys=True)
    wire.expect("kms:PutKeyPolicy", {"KeyId": ID, "PolicyName": "default", "Policy": text})
    there(wire, SECRETS)
    assert actions(wire.run(main, SECRETS)) == ["PutKeyPolicy"]


def test_a_key_that_was_lost_before_its_alias_is_taken_up(wire: Wire) -> None:
    caller(wire)
    by_mark(wire, SECRETS, ARN)
    wire.expect("kms:DescribeKey", {"KeyId": ARN}, metadata())
    rest(wire, SECRETS, rotation=False)
    wire.expect("kms:CreateAlias", {"AliasName": alias(SECRETS)["KeyId"], "TargetKeyId": ARN})
    wire.expect("kms:EnableKeyRotation", {"KeyId": ID})
    there(wire, SECRETS)
    assert actions(wire.run(main, SECRETS)) == ["CreateAlias", "EnableKeyRotation"]


def test_a_key_on_its_way_out_is_brought_back(wire: Wire) -> None:
    caller(wire)
    by_mark(wire, SECRETS, ARN)
    wire.expect("kms:DescribeKey", {"KeyId": ARN}, metadata("PendingDeletion"))
    rest(wire, SECRETS, pending=True)
    for action in ("CancelKeyDeletion", "EnableKey"):
        wire.expect(f"kms:{action}", {"KeyId": ID})
    wire.expect("kms:CreateAlias", {"AliasName": alias(SECRETS)["KeyId"], "TargetKeyId": ARN})
    wire.expect("kms:EnableKeyRotation", {"KeyId": ID})
    there(wire, SECRETS)
    assert wire.run(main, SECRETS)["encryption_key"]["key_state"] == "Enabled"


@pytest.mark.parametrize("aliased", [False, True])
def test_a_key_that_was_brought_back_half_way_is_enabled(wire: Wire, aliased: bool) -> None:
    """Between CancelKeyDeletion and EnableKey a key is Disabled; with its alias it was disabled by somebody, and stays so."""
    caller(wire)
    if aliased:
        wire.expect("kms:DescribeKey", alias(SECRETS), metadata("Disabled"))
        rest(wire, SECRETS)
        assert not wire.run(main, SECRETS)["changed"]
        return
    by_mark(wire, SECRETS, ARN)
    wire.expect("kms:DescribeKey", {"KeyId": ARN}, metadata("Disabled"))
    rest(wire, SECRETS)
    wire.expect("kms:EnableKey", {"KeyId": ID})
    wire.expect("kms:CreateAlias", {"AliasName": alias(SECRETS)["KeyId"], "TargetKeyId": ARN})
    there(wire, SECRETS)
    assert actions(wire.run(main, SECRETS)) == ["EnableKey", "CreateAlias"]


def test_a_new_key_that_kms_does_not_find_yet_is_shown_with_its_arn(wire: Wire) -> None:
    caller(wire)
    by_mark(wire, SECRETS)
    created(wire, SECRETS)
    by_mark(wire, SECRETS)
    key = wire.run(main, SECRETS)["encryption_key"]
    assert (key["key_id"], key["arn"]) == (ID, ARN)


def test_changes_in_place_and_tags(wire: Wire) -> None:
    caller(wire)
    there(wire, SECRETS, tags=marks("secrets", old="1", team="ml"))
    wire.expect("kms:UpdateKeyDescription", {"KeyId": ID, "Description": "new"})
    wire.expect("kms:DisableKeyRotation", {"KeyId": ID})
    wire.expect("kms:TagResource", {"KeyId": ID, "Tags": [{"TagKey": "team", "TagValue": "platform"}]})
    wire.expect("kms:UntagResource", {"KeyId": ID, "TagKeys": ["old"]})
    there(wire, SECRETS, rotation=False)
    result = wire.run(main, {**SECRETS, "description": "new", "rotation": False, "tags": {"team": "platform"}})
    assert actions(result) == ["UpdateKeyDescription", "DisableKeyRotation", "TagResource", "UntagResource"]


def test_the_key_of_somebody_else_is_left_alone(wire: Wire) -> None:
    caller(wire)
    there(wire, SECRETS, tags=[])
    result = wire.run(main, SECRETS)
    assert result["failed"]
    assert ARN in result["msg"]


def test_several_keys_with_the_mark_are_named(wire: Wire) -> None:
    other = ARN.replace("0a1b", "ffff")
    caller(wire)
    by_mark(wire, SECRETS, ARN, other)
    wire.expect("kms:DescribeKey", {"KeyId": ARN}, metadata())
    wire.expect("kms:DescribeKey", {"KeyId": other}, {"KeyMetadata": {"KeyId": "x", "Arn": other, "KeyState": "Enabled"}})
    assert other in wire.run(main, SECRETS)["msg"]


@pytest.mark.parametrize("exists", [True, False])
def test_the_key_for_volumes_needs_the_role_of_auto_scaling(wire: Wire, exists: bool) -> None:
    caller(wire)
    by_mark(wire, VOLUMES)
    if exists:
        role = {
            "RoleName": SLR["RoleName"],
            "RoleId": "AROAEXAMPLEEXAMPLE00",
            "Path": "/",
            "Arn": ROLE,
            "CreateDate": datetime.datetime.now(datetime.UTC),
        }
        wire.expect("iam:GetRole", SLR, {"Role": role})
    else:
        wire.expect_error("iam:GetRole", SLR, "NoSuchEntity")
        wire.expect("iam:CreateServiceLinkedRole", {"AWSServiceName": "autoscaling.amazonaws.com"})
    created(wire, VOLUMES)
    there(wire, VOLUMES)
    assert len(wire.run(main, VOLUMES)["plan"]) == (3 if exists else 4)


def test_absent_schedules_the_deletion_and_frees_the_alias(wire: Wire) -> None:
    caller(wire)
    there(wire, SECRETS)
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    wire.expect("kms:DeleteAlias", {"AliasName": alias(SECRETS)["KeyId"]})
    wire.expect("kms:ScheduleKeyDeletion", {"KeyId": ID, "PendingWindowInDays": 7}, {"KeyId": ARN})
    result = wire.run(main, {**SECRETS, "state": "absent", "pending_window_days": 7})
    assert actions(result) == ["DeleteAlias", "ScheduleKeyDeletion"]
    assert result["encryption_key"] is None


def test_a_key_that_the_cluster_uses_stays(wire: Wire) -> None:
    caller(wire)
    there(wire, SECRETS)
    setup = {"resources": ["secrets"], "provider": {"keyArn": ARN}}
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": {"name": "demo", "encryptionConfig": [setup]}})
    assert "Delete the cluster first." in wire.run(main, {**SECRETS, "state": "absent"})["msg"]


@pytest.mark.parametrize("pending", [True, False])
def test_absent_again_changes_nothing(wire: Wire, pending: bool) -> None:
    caller(wire)
    by_mark(wire, SECRETS, *([ARN] if pending else []))
    if pending:
        wire.expect("kms:DescribeKey", {"KeyId": ARN}, metadata("PendingDeletion"))
        rest(wire, SECRETS, pending=True)
    assert not wire.run(main, {**SECRETS, "state": "absent"})["changed"]


def test_both_grants_are_in_the_policy_for_volumes() -> None:
    found = {statement["Sid"]: statement for statement in policy(VOLUMES)["Statement"]}
    group = "arn:aws:iam::123456789012:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    assert found["AutoScaling"]["Principal"] == found["AutoScalingGrant"]["Principal"] == {"AWS": group}
    assert found["AutoScalingGrant"]["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    assert found["ThroughEc2"]["Condition"] == {
        "StringEquals": {"kms:ViaService": "ec2.us-west-2.amazonaws.com", "kms:CallerAccount": "123456789012"}
    }
    assert "kms:CreateGrant" in found["ThroughEc2"]["Action"]


def test_a_policy_of_the_users_own_stands_for_ours(wire: Wire) -> None:
    own = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "kms:*", "Resource": "*"}]}
    caller(wire)
    there(wire, VOLUMES, policy=own)
    assert not wire.run(main, {**VOLUMES, "policy": own})["changed"]
    assert not same_policy(own, policy(VOLUMES))


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
@pytest.mark.parametrize("purpose", ["secrets", "volumes"])
def test_policies_stay_in_their_partition(partition: str, purpose: str) -> None:
    owner = Owner(cluster_name="demo", region="some-region-1", account="123456789012", partition=partition)
    text = json.dumps(key_policy(Wanted(purpose=purpose), owner))
    assert set(re.findall(r"arn:([a-z-]+):", text)) == {partition}
    assert ("ec2.some-region-1.amazonaws.com.cn" in text) == (purpose == "volumes" and partition == "aws-cn")


def test_roles_are_refused_where_the_policy_would_not_name_them(wire: Wire) -> None:
    assert [fault["path"] for fault in wire.run(main, {**VOLUMES, "role_arns": [ROLE]})["faults"]] == ["role_arns"]


def test_bad_form_is_refused_before_any_client(wire: Wire) -> None:
    bad = {
        "cluster_name": "-",
        "purpose": "logs",
        "role_arns": ["me"],
        "pending_window_days": 3,
        "policy": {"a": 1},
        "tags": {"aws:x": "y"},
    }
    result = wire.run(main, bad)
    assert {fault["path"] for fault in result["faults"]} == {
        "cluster_name",
        "purpose",
        "role_arns[0]",
        "pending_window_days",
        "policy",
        "tags.aws:x",
    }
