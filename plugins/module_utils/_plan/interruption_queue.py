# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make an interruption queue and its rules what they should be, and those that delete them. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._model.encryption_key import same_policy
from ansible_collections.gpuops.eks.plugins.module_utils._model.interruption_queue import (
    RETENTION,
    TARGET,
    Pattern,
    Queue,
    Rule,
    Wanted,
    queue_policy,
    rule_arn,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_list
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Effect, Plan, Step, planned

Rules = t.Mapping[str, Rule]

# SQS API, CreateQueue: a name is free again a minute after its queue was deleted.
_NAME_NOT_FREE = (r"QueueDeletedRecently",)


def plan_present(wanted: Wanted, queue: Queue | None, rules: Rules, owner: Owner) -> tuple[Plan, Queue, dict[str, Rule]]:
    """The queue first, because rules send to it; then each rule with its target, so that an interrupted run is finished by the next.

    Returns the plan, the queue, and the rules by name afterwards. ``rules`` are those of ours that there are.
    """
    steps, after = _create(wanted, owner) if queue is None else _update(wanted, queue, owner)
    made: dict[str, Rule] = {}
    for name, pattern in wanted.events.items():
        own, made[name] = _rule(wanted, name, pattern, rules.get(name), owner)
        steps += own
    before = {} if queue is None else fields_of(queue, rules)
    return Plan(steps=tuple(steps), before=before, after=fields_of(after, made)), after, made


def plan_absent(queue: Queue | None, rules: Rules) -> Plan:
    """Rules before the queue that they send to; a rule with targets is not deleted (EventBridge API, DeleteRule)."""
    steps: list[Step] = []
    for name, rule in rules.items():
        if rule.targets:
            request = {"Rule": name, "Ids": sorted(rule.targets)}
            steps.append(Step(action="events:RemoveTargets", target=rule.arn, effect="delete", fields=("targets",), request=request))
        steps.append(Step(action="events:DeleteRule", target=rule.arn, effect="delete", request={"Name": name}))
    if queue is not None:
        steps.append(Step(action="sqs:DeleteQueue", target=queue.arn, effect="delete", request={"QueueUrl": queue.url}))
    return Plan(steps=tuple(steps), before=fields_of(queue, rules) if steps else {}, after={})


def fields_of(queue: Queue | None, rules: Rules) -> dict[str, t.Any]:
    """The managed fields, for the diff."""
    shown = {
        name: {"event_pattern": dict(rule.pattern), "state": rule.state, "targets": dict(rule.targets), "tags": dict(rule.tags)}
        for name, rule in rules.items()
    }
    if queue is None:
        return {"rules": shown}
    return {"attributes": dict(queue.attributes), "policy": dict(queue.policy), "tags": dict(queue.tags), "rules": shown}


def _attributes() -> dict[str, str]:
    return {"MessageRetentionPeriod": RETENTION, "SqsManagedSseEnabled": "true"}


def _create(wanted: Wanted, owner: Owner) -> tuple[list[Step], Queue]:
    tags = _new_tags(wanted, owner)
    policy = queue_policy(wanted, owner)
    url = planned("queue", wanted.name)
    create = Step(
        action="sqs:CreateQueue",
        target=url,
        effect="create",
        fields=("attributes", "policy", "tags"),
        request={"QueueName": wanted.name, "Attributes": {**_attributes(), "Policy": _text(policy)}, "tags": tags},
        binds={url: "QueueUrl"},
        passing=_NAME_NOT_FREE,
    )
    queue = Queue(name=wanted.name, url=url, arn=wanted.queue_arn(owner), attributes=_attributes(), policy=policy, tags=tags)
    return [create], queue


def _update(wanted: Wanted, queue: Queue, owner: Owner) -> tuple[list[Step], Queue]:
    policy = queue_policy(wanted, owner)
    attributes = {name: value for name, value in _attributes().items() if queue.attributes.get(name) != value}
    if queue.attributes.get("KmsMasterKeyId"):  # encrypted with a key of the account's own: SQS takes one kind of encryption
        attributes.pop("SqsManagedSseEnabled", None)
    texts = dict(attributes)
    if not same_policy(policy, queue.policy):
        texts["Policy"] = _text(policy)
    steps: list[Step] = []
    if texts:
        fields = tuple(name for name, given in (("attributes", attributes), ("policy", "Policy" in texts)) if given)
        request: dict[str, t.Any] = {"QueueUrl": queue.url, "Attributes": texts}
        steps.append(Step(action="sqs:SetQueueAttributes", target=queue.arn, effect="update", fields=fields, request=request))
    to_set, surplus, tags = _tags(wanted, queue.tags, owner)
    if to_set:
        request = {"QueueUrl": queue.url, "Tags": to_set}
        steps.append(Step(action="sqs:TagQueue", target=queue.arn, effect="update", fields=("tags",), request=request))
    if surplus:
        request = {"QueueUrl": queue.url, "TagKeys": surplus}
        steps.append(Step(action="sqs:UntagQueue", target=queue.arn, effect="update", fields=("tags",), request=request))
    return steps, replace(queue, attributes={**queue.attributes, **attributes}, policy=policy, tags=tags)


def _rule(wanted: Wanted, name: str, pattern: Pattern, there: Rule | None, owner: Owner) -> tuple[list[Step], Rule]:
    """The calls of one rule. PutRule takes tags of a new rule only (EventBridge API, PutRule)."""
    target = wanted.queue_arn(owner)
    if there is None:
        tags = _new_tags(wanted, owner)
        rule = Rule(name=name, arn=rule_arn(owner, name), pattern=pattern, targets={TARGET: target}, tags=tags)
        put = _put(rule, wanted, "create", ("event_pattern", "state", "tags"), {"Tags": tag_list(tags)})
        return [put, _put_target(rule, target, "create")], rule
    steps: list[Step] = []
    changed = tuple(
        field for field, differs in (("event_pattern", there.pattern != pattern), ("state", there.state != "ENABLED")) if differs
    )
    after = replace(there, pattern=pattern, state="ENABLED", targets={**there.targets, TARGET: target})
    if changed:
        steps.append(_put(after, wanted, "update", changed, {}))
    if there.targets.get(TARGET) != target:
        steps.append(_put_target(after, target, "update"))
    to_set, surplus, tags = _tags(wanted, there.tags, owner)
    if to_set:
        request: dict[str, t.Any] = {"ResourceARN": there.arn, "Tags": tag_list(to_set)}
        steps.append(Step(action="events:TagResource", target=there.arn, effect="update", fields=("tags",), request=request))
    if surplus:
        request = {"ResourceARN": there.arn, "TagKeys": surplus}
        steps.append(Step(action="events:UntagResource", target=there.arn, effect="update", fields=("tags",), request=request))
    return steps, replace(after, tags=tags)


def _put(rule: Rule, wanted: Wanted, effect: Effect, fields: tuple[str, ...], more: t.Mapping[str, t.Any]) -> Step:
    request = {
        "Name": rule.name,
        "EventPattern": _text(rule.pattern),
        "State": "ENABLED",
        "Description": f"To queue {wanted.name} of EKS cluster {wanted.cluster_name}",
        **more,
    }
    return Step(action="events:PutRule", target=rule.arn, effect=effect, fields=fields, request=request)


def _put_target(rule: Rule, queue_arn: str, effect: Effect) -> Step:
    request = {"Rule": rule.name, "Targets": [{"Id": TARGET, "Arn": queue_arn}]}
    return Step(action="events:PutTargets", target=rule.arn, effect=effect, fields=("targets",), request=request)


def _new_tags(wanted: Wanted, owner: Owner) -> dict[str, str]:
    return {**(wanted.tags or {}), **owner.tags(wanted.component)}


def _tags(wanted: Wanted, observed: t.Mapping[str, str], owner: Owner) -> tuple[dict[str, str], list[str], dict[str, str]]:
    """(tags to set, keys to remove, the tags afterwards)."""
    to_set, surplus = tag_changes(wanted.tags, observed, purge=wanted.purge_tags, keep=owner.tags(wanted.component))
    return to_set, surplus, {key: value for key, value in {**observed, **to_set}.items() if key not in surplus}


def _text(document: t.Mapping[str, t.Any]) -> str:
    return json.dumps(document, sort_keys=True)
