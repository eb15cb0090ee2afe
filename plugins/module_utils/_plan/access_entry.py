# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make an access entry what it should be, and the one that removes it. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.access_entry import STANDARD, Entry, Scopes, Wanted, policy_list, scope
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import changed_fields
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import Marked
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, planned

Request = dict[str, t.Any]

COMPONENT = "access-entry"
ASSOCIATE = "eks:AssociateAccessPolicy"
_API_NAMES = {"username": "username", "kubernetes_groups": "kubernetesGroups"}
# What EKS says of a principal that IAM has just made and that EKS cannot see yet.
PRINCIPAL_NOT_READY = (r"^InvalidParameterException: .*invalid principal",)
# The policies of an entry that a call has just made.
_ENTRY_NOT_READY = (r"^ResourceNotFoundException: ",)


@dataclass(frozen=True, kw_only=True)
class EntryPlan:
    """The plan of one entry, and the entry as it will be."""

    plan: Plan
    after: Entry


def subject(cluster: str, principal: str) -> Request:
    """What every call about an entry begins with."""
    return {"clusterName": cluster, "principalArn": principal}


def plan_create(wanted: Wanted, marked: Marked) -> EntryPlan:
    """The entry with everything that is its own, the mark too; then its policies, one call each."""
    cluster, tags = marked.owner.cluster_name, marked.new(wanted.tags)
    fields = {name: value for name, value in wanted.fields().items() if value is not None}
    request = {**subject(cluster, wanted.principal_arn), **_request(fields), "type": wanted.type or STANDARD, "tags": tags}
    target = planned("access-entry", wanted.principal_arn)
    step = Step(
        action="eks:CreateAccessEntry",
        target=target,
        effect="create",
        fields=tuple(sorted({*fields, "type"})),
        request=request,
        passing=PRINCIPAL_NOT_READY,
    )
    steps = (step, *_policy_steps(cluster, wanted, {}, target))
    after = Entry.from_api({"username": None, "kubernetesGroups": [], **request, "accessEntryArn": target}, _associated(wanted.policies))
    return EntryPlan(plan=Plan(steps=steps, after={wanted.principal_arn: {**_shown(wanted, after), "tags": tags}}), after=after)


def plan_update(wanted: Wanted, observed: Entry, marked: Marked) -> EntryPlan:
    """Tags, groups and user in one call, policies that are missing or have another scope, and last those that go."""
    cluster = marked.owner.cluster_name
    changes = changed_fields(wanted.fields(), observed.fields())
    tag_steps, tags = marked.changes(wanted.tags, observed.tags, observed.arn)
    steps = list(tag_steps)
    sent = _request({name: change[1] for name, change in changes.items()})
    if changes:
        request = {**subject(cluster, observed.principal_arn), **sent}
        action = "eks:UpdateAccessEntry"
        steps.append(Step(action=action, target=observed.principal_arn, effect="update", fields=tuple(sorted(changes)), request=request))
    steps += _policy_steps(cluster, wanted, observed.policies or {}, observed.principal_arn)
    policies = observed.policies if wanted.policies is None else wanted.policies
    after = Entry.from_api({**observed.api, **sent, "tags": tags}, _associated(policies))
    plan = Plan(
        steps=tuple(steps),
        before={wanted.principal_arn: _shown(wanted, observed)},
        after={wanted.principal_arn: _shown(wanted, after)},
    )
    return EntryPlan(plan=plan, after=after)


def _policy_steps(cluster: str, wanted: Wanted, there: Scopes, target: str) -> list[Step]:
    """To associate a policy again gives it the new scope."""
    if wanted.policies is None:
        return []
    about = subject(cluster, wanted.principal_arn)
    steps = []
    for arn, namespaces in wanted.policies.items():
        if there.get(arn) != namespaces:
            request = {**about, "policyArn": arn, "accessScope": scope(namespaces)}
            step = Step(
                action=ASSOCIATE,
                target=target,
                effect="update",
                fields=("policies",),
                reason=_name(arn),
                request=request,
                passing=_ENTRY_NOT_READY,
            )
            steps.append(step)
    for arn in sorted(set(there) - set(wanted.policies)):
        request = {**about, "policyArn": arn}
        action = "eks:DisassociateAccessPolicy"
        steps.append(Step(action=action, target=target, effect="update", fields=("policies",), reason=_name(arn), request=request))
    return steps


def plan_delete(observed: Entry, cluster: str) -> Plan:
    """The call that removes it, its policies with it."""
    request = subject(cluster, observed.principal_arn)
    step = Step(action="eks:DeleteAccessEntry", target=observed.principal_arn, effect="delete", request=request)
    before = {**observed.fields(), "type": observed.type, "tags": dict(observed.tags)}
    return Plan(steps=(step,), before={observed.principal_arn: before}, after={})


def associated_policies(steps: t.Iterable[Step]) -> list[str]:
    """The ARNs of the policies that these steps associate."""
    return [step.request["policyArn"] for step in steps if step.action == ASSOCIATE]


def _associated(policies: Scopes | None) -> list[Request] | None:
    """Policies as EKS lists them."""
    return None if policies is None else [{"policyArn": arn, "accessScope": scope(names)} for arn, names in policies.items()]


def _shown(wanted: Wanted, entry: Entry) -> dict[str, t.Any]:
    """The managed fields of an entry."""
    shown = {name: entry.fields()[name] for name, value in wanted.fields().items() if value is not None}
    if wanted.policies is not None:
        shown["policies"] = policy_list(entry.policies)
    if wanted.tags is not None:
        shown["tags"] = dict(entry.tags)
    return shown


def _request(fields: t.Mapping[str, t.Any]) -> Request:
    return {_API_NAMES[name]: value for name, value in fields.items()}


def _name(arn: str) -> str:
    return arn.rsplit("/", 1)[1]
