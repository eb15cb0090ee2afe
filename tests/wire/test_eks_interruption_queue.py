# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_interruption_queue: the calls that a queue and its rules take, in every state that an interrupted run leaves."""

from __future__ import annotations

import copy
import json
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.interruption_queue import (
    EVENTS,
    KARPENTER,
    TERMINATION_HANDLER,
    Wanted,
    queue_name,
    queue_policy,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_list
from ansible_collections.gpuops.eks.plugins.module_utils._run import patience
from ansible_collections.gpuops.eks.plugins.modules.eks_interruption_queue import main

from tests.wire.harness import Wire

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
URL = "https://sqs.us-west-2.amazonaws.com/123456789012/demo"
ARN = "arn:aws:sqs:us-west-2:123456789012:demo"
MINE = {"cluster_name": "demo"}
TAGS = OWNER.tags("karpenter-queue")
ATTRIBUTES = {"MessageRetentionPeriod": "300", "SqsManagedSseEnabled": "true"}
READ = ["MessageRetentionPeriod", "SqsManagedSseEnabled", "KmsMasterKeyId", "Policy"]
PATTERNS = {f"demo-{end}": pattern for end, pattern in EVENTS[KARPENTER].items()}
MISSING = "AWS.SimpleQueueService.NonExistentQueue"
SPOT = "demo-spot-interruption"


def wanted(purpose: str = KARPENTER, name: str = "demo") -> Wanted:
    return Wanted(cluster_name="demo", purpose=purpose, name=name)


POLICY = queue_policy(wanted(), OWNER)


def arn_of(rule: str) -> str:
    return f"arn:aws:events:us-west-2:123456789012:rule/{rule}"


def caller(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/anna", "UserId": "A"})


def no_queue(wire: Wire, name: str = "demo") -> None:
    wire.expect_error("sqs:GetQueueUrl", {"QueueName": name}, MISSING)


def queue(wire: Wire, *, tags: dict[str, str] | None = None, policy: t.Any = None, **changes: t.Any) -> None:
    """What is read of a queue that is there."""
    wire.expect("sqs:GetQueueUrl", {"QueueName": "demo"}, {"QueueUrl": URL})
    found = {**ATTRIBUTES, "Policy": json.dumps(policy or POLICY), **changes}
    wire.expect("sqs:GetQueueAttributes", {"QueueUrl": URL, "AttributeNames": READ}, {"Attributes": found})
    wire.expect("sqs:ListQueueTags", {"QueueUrl": URL}, {"Tags": TAGS if tags is None else tags})


def rules(wire: Wire, *names: str, prefix: str = "demo", **changes: t.Any) -> None:
    """What is read of the rules that there are; ``changes`` are those of the Spot rule."""
    found = [{"Name": name, "Arn": arn_of(name), "EventPattern": json.dumps(PATTERNS[name]), "State": "ENABLED"} for name in names]
    for rule in found:
        rule.update(changes.get("rule", {}) if rule["Name"] == SPOT else {})
    others = [{"Name": "demo-of-somebody-else", "Arn": arn_of("demo-of-somebody-else"), "State": "ENABLED"}]
    wire.expect("events:ListRules", {"NamePrefix": prefix}, {"Rules": [*found, *others]})
    for name in PATTERNS:
        if name in names:
            own = changes if name == SPOT else {}
            targets = own.get("targets", [{"Id": "interruption-queue", "Arn": ARN}])
            wire.expect("events:ListTargetsByRule", {"Rule": name}, {"Targets": targets} if targets else {})
            tags = own.get("tags", TAGS)
            wire.expect("events:ListTagsForResource", {"ResourceARN": arn_of(name)}, {"Tags": tag_list(tags)})


def created(wire: Wire, tags: dict[str, str] | None = None) -> None:
    request = {
        "QueueName": "demo",
        "Attributes": {**ATTRIBUTES, "Policy": json.dumps(POLICY, sort_keys=True)},
        "tags": tags or TAGS,
    }
    wire.expect("sqs:CreateQueue", request, {"QueueUrl": URL})


def put(wire: Wire, name: str, **more: t.Any) -> None:
    pattern = json.dumps(PATTERNS[name], sort_keys=True)
    request = {"Name": name, "EventPattern": pattern, "State": "ENABLED", "Description": "To queue demo of EKS cluster demo", **more}
    wire.expect("events:PutRule", request, {"RuleArn": arn_of(name)})


def put_target(wire: Wire, name: str, reply: dict[str, t.Any] | None = None) -> None:
    request = {"Rule": name, "Targets": [{"Id": "interruption-queue", "Arn": ARN}]}
    wire.expect("events:PutTargets", request, reply or {"FailedEntryCount": 0, "FailedEntries": []})


def new_rule(wire: Wire, name: str) -> None:
    put(wire, name, Tags=tag_list(TAGS))
    put_target(wire, name)


def actions(result: dict[str, t.Any]) -> list[str]:
    return [step["action"] for step in result["plan"]]


def test_a_new_queue_comes_before_its_five_rules_with_their_targets(wire: Wire) -> None:
    caller(wire)
    no_queue(wire)
    rules(wire)
    created(wire)
    for name in PATTERNS:
        new_rule(wire, name)
    result = wire.run(main, MINE)
    assert actions(result) == ["sqs:CreateQueue", *["events:PutRule", "events:PutTargets"] * 5]
    assert (result["queue"]["url"], result["queue"]["arn"], result["queue"]["name"]) == (URL, ARN, "demo")
    assert [rule["name"] for rule in result["queue"]["rules"]] == list(PATTERNS)


def test_check_mode_plans_the_same_calls_and_makes_none(wire: Wire) -> None:
    caller(wire)
    no_queue(wire)
    rules(wire)
    result = wire.run(main, MINE, check_mode=True)
    assert actions(result) == ["sqs:CreateQueue", *["events:PutRule", "events:PutTargets"] * 5]
    assert result["queue"]["url"] == "planned:queue/demo"
    assert result["diff"]["before"] == {}
    assert set(result["diff"]["after"]["rules"]) == set(PATTERNS)


def test_a_second_run_writes_nothing(wire: Wire) -> None:
    caller(wire)
    queue(wire)
    rules(wire, *PATTERNS)
    result = wire.run(main, MINE)
    assert (result["changed"], result["plan"]) == (False, [])
    assert result["diff"]["before"] == result["diff"]["after"]


def test_the_order_of_policy_and_patterns_does_not_matter(wire: Wire) -> None:
    shuffled = copy.deepcopy(POLICY)
    shuffled["Statement"].reverse()
    caller(wire)
    queue(wire, policy=shuffled)
    rules(wire, *PATTERNS, rule={"EventPattern": json.dumps(dict(reversed(PATTERNS[SPOT].items())))})
    assert not wire.run(main, MINE)["changed"]


def test_what_an_interrupted_run_has_left_is_finished(wire: Wire) -> None:
    """Stopped between PutRule and PutTargets of the second rule."""
    caller(wire)
    queue(wire)
    rules(wire, "demo-health", SPOT, targets=[])
    put_target(wire, SPOT)
    for name in ("demo-state-change", "demo-rebalance", "demo-reservation-interruption"):
        new_rule(wire, name)
    assert wire.run(main, MINE)["changed"]


def test_changes_in_place(wire: Wire) -> None:
    open_to_all = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sqs:*", "Resource": ARN}]}
    caller(wire)
    queue(wire, policy=open_to_all, MessageRetentionPeriod="345600")
    rules(wire, *PATTERNS, rule={"State": "DISABLED", "EventPattern": "{}"}, targets=[{"Id": "mine", "Arn": "arn:aws:sns:x"}])
    attributes = {"MessageRetentionPeriod": "300", "Policy": json.dumps(POLICY, sort_keys=True)}
    wire.expect("sqs:SetQueueAttributes", {"QueueUrl": URL, "Attributes": attributes})
    put(wire, SPOT)
    put_target(wire, SPOT)
    result = wire.run(main, MINE)
    assert [(step["action"], step["fields"]) for step in result["plan"]] == [
        ("sqs:SetQueueAttributes", ["attributes", "policy"]),
        ("events:PutRule", ["event_pattern", "state"]),
        ("events:PutTargets", ["targets"]),
    ]
    assert result["diff"]["after"]["rules"][SPOT]["targets"] == {"mine": "arn:aws:sns:x", "interruption-queue": ARN}


@pytest.mark.parametrize("key", [True, False])
def test_a_queue_without_encryption_gets_it_and_one_with_a_key_of_the_account_keeps_that(wire: Wire, key: bool) -> None:
    caller(wire)
    own: dict[str, t.Any] = {"KmsMasterKeyId": "alias/mine"} if key else {}
    queue(wire, SqsManagedSseEnabled="false", **own)
    rules(wire, *PATTERNS)
    if not key:
        wire.expect("sqs:SetQueueAttributes", {"QueueUrl": URL, "Attributes": {"SqsManagedSseEnabled": "true"}})
    assert wire.run(main, MINE)["changed"] is not key


def test_tags_of_queue_and_rules(wire: Wire) -> None:
    caller(wire)
    queue(wire, tags={**TAGS, "old": "1"})
    rules(wire, *PATTERNS, tags={**TAGS, "old": "1", "team": "ml"})
    wire.expect("sqs:TagQueue", {"QueueUrl": URL, "Tags": {"team": "ml"}})
    wire.expect("sqs:UntagQueue", {"QueueUrl": URL, "TagKeys": ["old"]})
    for name in PATTERNS:
        arn = {"ResourceARN": arn_of(name)}
        if name == SPOT:
            wire.expect("events:UntagResource", {**arn, "TagKeys": ["old"]})
        else:
            wire.expect("events:TagResource", {**arn, "Tags": tag_list({"team": "ml"})})
    assert wire.run(main, {**MINE, "tags": {"team": "ml"}})["changed"]


def test_tags_of_others_stay_on_request(wire: Wire) -> None:
    caller(wire)
    queue(wire, tags={**TAGS, "old": "1"})
    rules(wire, *PATTERNS)
    assert not wire.run(main, {**MINE, "tags": {}, "purge_tags": False})["changed"]


@pytest.mark.parametrize("marks", [{}, OWNER.tags("termination-handler-queue"), {**TAGS, "gpuops.eks/owner": "arn:other"}])
def test_a_queue_or_rule_of_somebody_else_is_left_alone(wire: Wire, marks: dict[str, str]) -> None:
    caller(wire)
    queue(wire, tags=marks)
    rules(wire, SPOT, tags=marks)
    result = wire.run(main, MINE)
    assert result["failed"]
    assert ARN in result["msg"]
    assert arn_of(SPOT) in result["msg"]


def test_a_target_that_event_bridge_does_not_take_is_a_failure(wire: Wire) -> None:
    """EventBridge API, PutTargets: 200 with the entries that failed."""
    caller(wire)
    queue(wire)
    rules(wire, *PATTERNS, targets=[])
    failed = {"TargetId": "interruption-queue", "ErrorCode": "ConcurrentModificationException", "ErrorMessage": "Rule is being changed."}
    put_target(wire, SPOT, {"FailedEntryCount": 1, "FailedEntries": [failed]})
    result = wire.run(main, MINE)
    assert result["failed"]
    assert "events:PutTargets: ConcurrentModificationException: Rule is being changed." in result["msg"]


def test_a_name_that_is_not_free_yet_is_asked_for_again(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    caller(wire)
    wire.expect("sqs:GetQueueUrl", {"QueueName": "demo"}, {"QueueUrl": URL})
    wire.expect_error("sqs:GetQueueAttributes", {"QueueUrl": URL, "AttributeNames": READ}, "QueueDoesNotExist")
    rules(wire, *PATTERNS)
    request = {"QueueName": "demo", "Attributes": {**ATTRIBUTES, "Policy": json.dumps(POLICY, sort_keys=True)}, "tags": TAGS}
    wire.expect_error("sqs:CreateQueue", request, "AWS.SimpleQueueService.QueueDeletedRecently", "You must wait 60 seconds")
    created(wire)
    assert wire.run(main, MINE)["changed"]
    assert slept == [1.0]


def test_absent_deletes_targets_rules_and_then_the_queue(wire: Wire) -> None:
    caller(wire)
    queue(wire)
    rules(wire, "demo-health", SPOT, targets=[])
    wire.expect("events:RemoveTargets", {"Rule": "demo-health", "Ids": ["interruption-queue"]}, {"FailedEntryCount": 0})
    wire.expect("events:DeleteRule", {"Name": "demo-health"})
    wire.expect("events:DeleteRule", {"Name": SPOT})
    wire.expect("sqs:DeleteQueue", {"QueueUrl": URL})
    result = wire.run(main, {**MINE, "state": "absent"})
    assert actions(result) == ["events:RemoveTargets", "events:DeleteRule", "events:DeleteRule", "sqs:DeleteQueue"]
    assert result["queue"] is None


def test_absent_again_changes_nothing(wire: Wire) -> None:
    caller(wire)
    no_queue(wire)
    rules(wire)
    assert not wire.run(main, {**MINE, "state": "absent"})["changed"]


def test_absent_leaves_what_somebody_else_has_made(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr("ansible.module_utils.basic.AnsibleModule.warn", lambda self, text, **more: warned.append(text))
    caller(wire)
    queue(wire, tags={})
    rules(wire, SPOT, tags={})
    assert not wire.run(main, {**MINE, "state": "absent"})["changed"]
    assert [text.split()[0] for text in warned] == [ARN, arn_of(SPOT)]


def test_the_termination_handler_has_a_queue_of_its_own_that_is_told_of_groups(wire: Wire) -> None:
    caller(wire)
    no_queue(wire, "demo-termination-handler")
    rules(wire, prefix="demo-termination-handler")
    result = wire.run(main, {**MINE, "purpose": TERMINATION_HANDLER}, check_mode=True)
    patterns = {rule["name"].removeprefix("demo-termination-handler-"): rule["event_pattern"] for rule in result["queue"]["rules"]}
    assert patterns["terminate"] == {"source": ["aws.autoscaling"], "detail-type": ["EC2 Instance-terminate Lifecycle Action"]}
    assert not {"reservation-interruption", "rebalance"} & set(patterns)
    assert result["queue"]["tags"] == OWNER.tags("termination-handler-queue")


def test_bad_form_is_refused_before_any_client(wire: Wire) -> None:
    bad = {"cluster_name": "-", "purpose": "autoscaler", "name": "a.fifo", "tags": {"aws:x": "y"}}
    assert {fault["path"] for fault in wire.run(main, bad)["faults"]} == {"cluster_name", "purpose", "name", "tags.aws:x"}


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_the_policy_lets_only_the_queues_own_rules_send_and_stays_in_its_partition(partition: str) -> None:
    owner = Owner(cluster_name="demo", region="some-region-1", account="123456789012", partition=partition)
    policy = queue_policy(wanted(), owner)
    found = {statement["Sid"]: statement for statement in policy["Statement"]}
    assert found["Rules"]["Condition"]["ArnEquals"]["aws:SourceArn"] == [
        f"arn:{partition}:events:some-region-1:123456789012:rule/{name}" for name in PATTERNS
    ]
    assert found["OnlyTls"]["Effect"] == "Deny"
    assert found["OnlyTls"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert {statement["Resource"] for statement in policy["Statement"]} == {f"arn:{partition}:sqs:some-region-1:123456789012:demo"}


@pytest.mark.parametrize("cluster", ["demo", "x" * 64, "y" * 100, "a" + "-" * 98 + "b"])
@pytest.mark.parametrize("purpose", [KARPENTER, TERMINATION_HANDLER])
def test_names_are_as_short_as_aws_wants_them_and_found_by_their_prefix(cluster: str, purpose: str) -> None:
    one = Wanted(cluster_name=cluster, purpose=purpose, name=queue_name(cluster, purpose))
    assert len(one.name) <= 80
    assert max(map(len, one.events)) <= 64
    assert len(one.events) == len(EVENTS[purpose])
    assert all(name.startswith(one.rule_prefix) for name in one.events)
