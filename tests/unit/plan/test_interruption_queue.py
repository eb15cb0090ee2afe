# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to an interruption queue and its rules, from every state that differs in one thing."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.interruption_queue import EVENTS, PURPOSES, Queue, Rule, Wanted, queue_name
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.interruption_queue import plan_absent, plan_present
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
SPOT = "demo-spot-interruption"


def wanted(purpose: str = "karpenter", **changes: t.Any) -> Wanted:
    return Wanted(cluster_name="demo", purpose=purpose, name=queue_name("demo", purpose), **changes)


def made(purpose: str = "karpenter") -> tuple[Queue, dict[str, Rule]]:
    """The queue and the rules as a run leaves them."""
    _plan, queue, rules = plan_present(wanted(purpose), None, {}, OWNER)
    return replace(queue, url="https://queue"), rules


def actions(plan: Plan) -> list[str]:
    return [step.action for step in plan.steps]


@pytest.mark.parametrize("purpose", PURPOSES)
def test_what_was_made_needs_nothing_and_deletes_as_a_whole(purpose: str) -> None:
    queue, rules = made(purpose)
    plan, after, rules_after = plan_present(wanted(purpose), queue, rules, OWNER)
    assert (actions(plan), after, rules_after) == ([], queue, rules)
    assert actions(plan_absent(queue, rules)) == [*["events:RemoveTargets", "events:DeleteRule"] * len(EVENTS[purpose]), "sqs:DeleteQueue"]


@pytest.mark.parametrize(
    ("queue", "rule", "expected"),
    [
        ({"attributes": {"MessageRetentionPeriod": "60", "SqsManagedSseEnabled": "true"}}, {}, ["sqs:SetQueueAttributes"]),
        ({"policy": {}}, {}, ["sqs:SetQueueAttributes"]),
        ({"tags": OWNER.tags("karpenter-queue") | {"a": "b"}}, {}, ["sqs:TagQueue", "sqs:UntagQueue"]),
        ({}, {"state": "DISABLED"}, ["events:PutRule"]),
        ({}, {"pattern": {"source": ["aws.ec2"]}}, ["events:PutRule"]),
        ({}, {"targets": {}}, ["events:PutTargets"]),
        ({}, {"targets": {"interruption-queue": "arn:other"}}, ["events:PutTargets"]),
        ({}, {"tags": OWNER.tags("karpenter-queue") | {"a": "b"}}, ["events:TagResource", "events:UntagResource"]),
    ],
)
def test_one_difference_takes_the_calls_for_it(queue: dict[str, t.Any], rule: dict[str, t.Any], expected: list[str]) -> None:
    there, rules = made()
    tags = {"team": "ml"} if "tags" in {**queue, **rule} else None
    if tags:  # what is not looked at has them already
        there = replace(there, tags={**there.tags, **tags})
        rules = {name: replace(one, tags={**one.tags, **tags}) for name, one in rules.items()}
    there, rules = replace(there, **queue), {**rules, SPOT: replace(rules[SPOT], **rule)}
    plan, after, rules_after = plan_present(wanted(tags=tags), there, rules, OWNER)
    assert actions(plan) == expected
    again, _after, _rules = plan_present(wanted(tags=tags), after, rules_after, OWNER)
    assert actions(again) == []


def test_each_rule_takes_other_events() -> None:
    for patterns in EVENTS.values():
        kinds = [(pattern["source"][0], pattern["detail-type"][0]) for pattern in patterns.values()]
        assert len(set(kinds)) == len(kinds)


def test_what_is_gone_is_not_deleted() -> None:
    assert plan_absent(None, {}) == Plan()
