# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_interruption_queue: find the queue and its rules by their names, plan, make them so."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.interruption_queue import Queue, Rule, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._plan.interruption_queue import plan_absent, plan_present
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_MISSING = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_ATTRIBUTES = ("MessageRetentionPeriod", "SqsManagedSseEnabled", "KmsMasterKeyId", "Policy")


def queue_job(run: Run) -> Outcome:
    """Make the queue and its rules, change them, or delete them."""
    wanted = Wanted.from_params(run.params)
    owner = run.owner(wanted.cluster_name)
    queue = _queue(run.aws, wanted, owner)
    rules = _rules(run.aws, wanted)
    there: list[Queue | Rule] = [*([queue] if queue else []), *rules.values()]
    foreign = [one.arn for one in there if not wanted.owns(owner, one.tags)]
    if run.params["state"] == "absent":
        return _absent(run, queue, rules, foreign)
    if foreign:
        hint = f"What this module changes carries the tag {OWNER_TAG}={owner.arn}: set name to one that is free, or delete what is there."
        raise GpuopsError(f"{', '.join(foreign)} was not made here for {wanted.purpose} of {owner.cluster_name}.", hint=hint)
    plan, after, made = plan_present(wanted, queue, rules, owner)
    bound = run.apply(plan)
    return Outcome(plan=plan, result={"queue": _result(after, made, wanted, bound)})


def _absent(run: Run, queue: Queue | None, rules: t.Mapping[str, Rule], foreign: t.Sequence[str]) -> Outcome:
    """What somebody else has made stays, with a warning."""
    own = None if queue is None or queue.arn in foreign else queue
    plan = plan_absent(own, {name: rule for name, rule in rules.items() if rule.arn not in foreign})
    warnings = tuple(f"{arn} was not made here and stays." for arn in foreign)
    run.apply(plan)
    return Outcome(plan=Plan(steps=plan.steps, before=plan.before, after=plan.after, warnings=warnings), result={"queue": None})


def _queue(aws: Aws, wanted: Wanted, owner: Owner) -> Queue | None:
    if (reply := aws.find("sqs:GetQueueUrl", {"QueueName": wanted.name}, missing=_MISSING)) is None:
        return None
    url = {"QueueUrl": reply["QueueUrl"]}
    # A queue that is being deleted still has its URL for up to a minute.
    found = aws.find("sqs:GetQueueAttributes", {**url, "AttributeNames": list(_ATTRIBUTES)}, missing=_MISSING)
    tags = aws.find("sqs:ListQueueTags", url, missing=_MISSING) if found else None
    if found is None or tags is None:
        return None
    attributes = found.get("Attributes") or {}
    return Queue(
        name=wanted.name,
        url=reply["QueueUrl"],
        arn=wanted.queue_arn(owner),
        attributes={name: value for name, value in attributes.items() if name != "Policy"},
        policy=json.loads(attributes.get("Policy") or "{}"),
        tags=tags.get("Tags") or {},
    )


def _rules(aws: Aws, wanted: Wanted) -> dict[str, Rule]:
    found = {rule["Name"]: rule for rule in aws.pages("events:ListRules", "Rules", {"NamePrefix": wanted.rule_prefix})}
    return {name: _rule(aws, found[name]) for name in wanted.events if name in found}


def _rule(aws: Aws, api: t.Mapping[str, t.Any]) -> Rule:
    targets = aws.pages("events:ListTargetsByRule", "Targets", {"Rule": api["Name"]})
    tags = aws.call("events:ListTagsForResource", {"ResourceARN": api["Arn"]})
    return Rule(
        name=api["Name"],
        arn=api["Arn"],
        pattern=json.loads(api.get("EventPattern") or "{}"),
        state=api.get("State", "ENABLED"),
        targets={target["Id"]: target["Arn"] for target in targets},
        tags=tag_map(tags.get("Tags")),
    )


def _result(queue: Queue, rules: t.Mapping[str, Rule], wanted: Wanted, bound: t.Mapping[str, str]) -> dict[str, t.Any]:
    return {
        "name": queue.name,
        "url": bound.get(queue.url, queue.url),
        "arn": queue.arn,
        "purpose": wanted.purpose,
        "policy": dict(queue.policy),
        "tags": dict(queue.tags),
        "rules": [
            {"name": rule.name, "arn": rule.arn, "event_pattern": dict(rule.pattern), "state": rule.state} for rule in rules.values()
        ],
    }
