# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make a cluster's KMS key what it should be, and those that schedule its deletion. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._model.encryption_key import (
    DISABLED,
    PENDING,
    Key,
    Wanted,
    key_policy,
    same_policy,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import key_alias
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Effect, Plan, Step, planned

Request = dict[str, t.Any]

AUTOSCALING = "autoscaling.amazonaws.com"
# What KMS says of a principal that IAM has just made.
_PRINCIPAL_NOT_READY = (r"^MalformedPolicyDocumentException: .*invalid principals",)
# What KMS says of a key that it has just made itself (KMS developer guide, eventual consistency).
_KEY_NOT_READY = (r"^NotFoundException: ",)


def with_defaults(wanted: Wanted, owner: Owner) -> Wanted:
    """A new key: what the user set, and yearly rotation."""
    description = wanted.description or f"{wanted.purpose} of EKS cluster {owner.cluster_name}"
    return replace(wanted, rotation=wanted.rotation is not False, description=description)


def plan_create(wanted: Wanted, owner: Owner, *, service_linked_role: bool) -> tuple[Plan, Key]:
    """The key with everything that its create call takes, then alias and rotation. ``service_linked_role``: whether that of Auto Scaling has to be
    made first, because KMS takes no policy with a principal that does not exist."""
    whole = with_defaults(wanted, owner)
    arn = planned("key", wanted.purpose)
    tags = {**(wanted.tags or {}), **owner.tags(wanted.component)}
    policy = key_policy(wanted, owner)
    request = {"Policy": json.dumps(policy, sort_keys=True), "Description": whole.description, "Tags": _tag_list(tags)}
    create = Step(
        action="kms:CreateKey",
        target=arn,
        effect="create",
        fields=("policy", "description", "tags"),
        request=request,
        binds={arn: "KeyMetadata.Arn"},
        passing=_PRINCIPAL_NOT_READY,
    )
    finishing = [_alias(owner, wanted, arn, "create")]
    if whole.rotation:
        finishing.append(Step(action="kms:EnableKeyRotation", target=arn, effect="create", fields=("rotation",), request={"KeyId": arn}))
    steps = [*_service_linked_role(service_linked_role), create, *(replace(step, passing=_KEY_NOT_READY) for step in finishing)]
    key = Key(
        key_id=arn,
        arn=arn,
        state="Enabled",
        description=whole.description or "",
        tags=tags,
        policy=policy,
        rotation=bool(whole.rotation),
    )
    return Plan(steps=tuple(steps), before={}, after=fields_of(key)), key


def plan_update(wanted: Wanted, observed: Key, owner: Owner, *, service_linked_role: bool = False) -> tuple[Plan, Key]:
    """The calls to what is wanted of a key of ours. One whose deletion is pending is brought back first; what an interrupted run has left without
    alias or rotation gets it."""
    steps: list[Step] = []
    after = observed
    if observed.state == PENDING:
        steps.append(_step("kms:CancelKeyDeletion", observed, {}, "key_state"))
    if observed.state == PENDING or _half_back(observed):
        steps.append(_step("kms:EnableKey", observed, {}, "key_state"))
        after = replace(after, state="Enabled", deletion_date=None)
    policy = key_policy(wanted, owner)
    if not same_policy(policy, observed.policy):
        steps += _service_linked_role(service_linked_role)
        request = {"PolicyName": "default", "Policy": json.dumps(policy, sort_keys=True)}
        steps.append(replace(_step("kms:PutKeyPolicy", observed, request, "policy"), passing=_PRINCIPAL_NOT_READY))
        after = replace(after, policy=policy)
    if wanted.description is not None and wanted.description != observed.description:
        steps.append(_step("kms:UpdateKeyDescription", observed, {"Description": wanted.description}, "description"))
        after = replace(after, description=wanted.description)
    if not observed.alias:
        steps.append(_alias(owner, wanted, observed.arn, "update"))
        after = replace(after, alias=True)
    rotation = _wanted_rotation(wanted, observed)
    if rotation != observed.rotation:
        action = "kms:EnableKeyRotation" if rotation else "kms:DisableKeyRotation"
        steps.append(_step(action, observed, {}, "rotation"))
        after = replace(after, rotation=rotation)
    tag_steps, tags = _tags(wanted, observed, owner)
    after = replace(after, tags=tags)
    return Plan(steps=(*steps, *tag_steps), before=fields_of(observed), after=fields_of(after)), after


def _half_back(key: Key) -> bool:
    """KMS API, CancelKeyDeletion: the key is Disabled afterwards, and the alias comes after that. One with its alias was disabled by somebody."""
    return key.state == DISABLED and not key.alias


def _wanted_rotation(wanted: Wanted, observed: Key) -> bool:
    """Without a wish as it is; a key without its alias is half made, and rotation comes after that."""
    if wanted.rotation is not None:
        return wanted.rotation
    return True if not observed.alias else observed.rotation


def _tags(wanted: Wanted, observed: Key, owner: Owner) -> tuple[list[Step], dict[str, str]]:
    keep = owner.tags(wanted.component)
    to_set, surplus = tag_changes(wanted.tags, observed.tags, purge=wanted.purge_tags, keep=keep)
    steps = []
    if to_set:
        steps.append(_step("kms:TagResource", observed, {"Tags": _tag_list(to_set)}, "tags"))
    if surplus:
        steps.append(_step("kms:UntagResource", observed, {"TagKeys": surplus}, "tags"))
    return steps, {key: value for key, value in {**observed.tags, **to_set}.items() if key not in surplus}


def plan_delete(wanted: Wanted, observed: Key, owner: Owner) -> Plan:
    """The alias goes at once, the key after the pending window, within which it can be brought back."""
    if observed.state == PENDING:
        return Plan()
    alias = key_alias(owner.cluster_name, wanted.purpose)
    steps = [Step(action="kms:DeleteAlias", target=alias, effect="delete", request={"AliasName": alias})] if observed.alias else []
    days = wanted.pending_window_days
    schedule = Step(
        action="kms:ScheduleKeyDeletion",
        target=observed.arn,
        effect="delete",
        reason=f"in {days} days",
        request={"KeyId": observed.key_id, "PendingWindowInDays": days},
    )
    return Plan(steps=(*steps, schedule), before=fields_of(observed), after={})


def fields_of(key: Key) -> dict[str, t.Any]:
    """The managed fields, for the diff."""
    return {
        "key_state": key.state,
        "description": key.description,
        "policy": dict(key.policy),
        "rotation": key.rotation,
        "alias": key.alias,
        "tags": dict(key.tags),
    }


def _step(action: str, key: Key, request: Request, field: str) -> Step:
    return Step(action=action, target=key.arn, effect="update", fields=(field,), request={"KeyId": key.key_id, **request})


def _alias(owner: Owner, wanted: Wanted, arn: str, effect: Effect) -> Step:
    request = {"AliasName": key_alias(owner.cluster_name, wanted.purpose), "TargetKeyId": arn}
    return Step(action="kms:CreateAlias", target=arn, effect=effect, fields=("alias",), request=request)


def _service_linked_role(needed: bool) -> list[Step]:
    if not needed:
        return []
    target = planned("service-linked-role", AUTOSCALING)
    request = {"AWSServiceName": AUTOSCALING}
    return [Step(action="iam:CreateServiceLinkedRole", target=target, effect="create", request=request)]


def _tag_list(tags: t.Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as KMS spells them."""
    return [{"TagKey": key, "TagValue": value} for key, value in sorted(tags.items())]
