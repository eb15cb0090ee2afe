# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make a Pod Identity association what it should be, and the one that removes it. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_identity import Association, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import changed_fields
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import ROLE_NOT_READY, Marked
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, planned

Request = dict[str, t.Any]

COMPONENT = "pod-identity-association"
_API_NAMES = {
    "role_arn": "roleArn",
    "target_role_arn": "targetRoleArn",
    "disable_session_tags": "disableSessionTags",
    "policy": "policy",
}


@dataclass(frozen=True, kw_only=True)
class AssociationPlan:
    """The plan of one association, and its description as it will be."""

    plan: Plan
    after: t.Mapping[str, t.Any]


def plan_create(wanted: Wanted, marked: Marked) -> AssociationPlan:
    """One call with everything in it, the mark too."""
    tags = marked.new(wanted.tags)
    fields = {name: value for name, value in wanted.fields().items() if value is not None}
    target = planned("pod-identity-association", wanted.name)
    request = {
        "clusterName": marked.owner.cluster_name,
        "namespace": wanted.namespace,
        "serviceAccount": wanted.service_account,
        **_request(fields),
        "tags": tags,
    }
    step = Step(
        action="eks:CreatePodIdentityAssociation",
        target=target,
        effect="create",
        fields=tuple(sorted(fields)),
        request=request,
        binds={target: "association.associationId"},
        passing=ROLE_NOT_READY,
    )
    after = {"disableSessionTags": False, **request, "associationId": target, "associationArn": target}
    return AssociationPlan(plan=Plan(steps=(step,), after={wanted.name: {**fields, "tags": tags}}), after=after)


def plan_update(wanted: Wanted, observed: Association, marked: Marked) -> AssociationPlan:
    """Tags, then one call with all that differs; none where nothing does.

    The fields that stay go along as they are, because EKS does not document what it does about those that an update leaves out.
    """
    changes = changed_fields(wanted.fields(), observed.fields())
    tag_steps, tags = marked.changes(wanted.tags, observed.tags, observed.arn)
    steps = list(tag_steps)
    will_be = {**observed.fields(), **{name: change[1] for name, change in changes.items()}}
    sent = _request({name: value for name, value in will_be.items() if value is not None})
    if changes:
        step = Step(
            action="eks:UpdatePodIdentityAssociation",
            target=observed.id,
            effect="update",
            fields=tuple(sorted(changes)),
            reason=f"from {observed.role_arn}" if "role_arn" in changes else "",
            request={"clusterName": marked.owner.cluster_name, "associationId": observed.id, **sent},
            passing=ROLE_NOT_READY,
        )
        steps.append(step)
    managed = [name for name, value in wanted.fields().items() if value is not None]
    before = {name: observed.fields()[name] for name in managed}
    after = {name: will_be[name] for name in managed}
    if wanted.tags is not None:
        before["tags"], after["tags"] = dict(observed.tags), tags
    plan = Plan(steps=tuple(steps), before={wanted.name: before}, after={wanted.name: after})
    return AssociationPlan(plan=plan, after={**observed.api, **(sent if changes else {}), "tags": tags})


def plan_delete(observed: Association, cluster: str) -> Plan:
    """The call that removes it; EKS does so at once."""
    step = Step(
        action="eks:DeletePodIdentityAssociation",
        target=observed.id,
        effect="delete",
        reason=observed.name,
        request={"clusterName": cluster, "associationId": observed.id},
    )
    shown = {name: value for name, value in observed.fields().items() if value is not None}
    return Plan(steps=(step,), before={observed.name: {**shown, "tags": dict(observed.tags)}}, after={})


def _request(fields: t.Mapping[str, t.Any]) -> Request:
    """Fields in the service's spelling; the policy is a text to it."""
    request = {_API_NAMES[name]: value for name, value in fields.items()}
    if isinstance(request.get("policy"), t.Mapping):
        request["policy"] = json.dumps(request["policy"], sort_keys=True)
    return request
