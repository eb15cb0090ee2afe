# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make an add-on what it should be, and those that remove it. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.addon import Addon, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import changed_fields
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import ROLE_NOT_READY, Marked
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait, planned

Request = dict[str, t.Any]

COMPONENT = "addon"
_API_NAMES = {
    "version": "addonVersion",
    "configuration_values": "configurationValues",
    "service_account_role_arn": "serviceAccountRoleArn",
    "pod_identity_associations": "podIdentityAssociations",
}


@dataclass(frozen=True, kw_only=True)
class AddonPlan:
    """The plan of one add-on, and its description as it will be, without what only EKS can say."""

    plan: Plan
    after: t.Mapping[str, t.Any] | None


def subject(cluster: str, name: str) -> Request:
    """What every call about an add-on begins with."""
    return {"clusterName": cluster, "addonName": name}


def plan_create(wanted: Wanted, marked: Marked) -> AddonPlan:
    """One call with everything in it, the mark too. ``resolve_conflicts`` is sent where it is set; EKS decides otherwise."""
    cluster = marked.owner.cluster_name
    step, after = _creation(wanted, marked, planned("addon", wanted.name))
    waits = (_active(cluster, wanted.name),) if wanted.wait else ()
    return AddonPlan(plan=Plan(steps=(step,), waits=waits, after={wanted.name: _shown(wanted, after["tags"])}), after=after)


def plan_again(wanted: Wanted, observed: Addon, marked: Marked) -> AddonPlan:
    """An add-on of which nothing came up is removed and made again. What it has left in Kubernetes stays, for it may be in use."""
    cluster = marked.owner.cluster_name
    reason = f"CREATE_FAILED: {' '.join(observed.issues)}".rstrip(": ")
    delete = Step(
        action="eks:DeleteAddon",
        target=observed.name,
        effect="replace",
        reason=reason,
        request={**subject(cluster, observed.name), "preserve": True},
    )
    step, after = _creation(wanted, marked, observed.name, effect="replace", needs=(_deleted(cluster, observed.name),))
    waits = (_active(cluster, wanted.name),) if wanted.wait else ()
    before = {wanted.name: {"status": observed.status}}
    plan = Plan(steps=(delete, step), waits=waits, before=before, after={wanted.name: _shown(wanted, after["tags"])})
    return AddonPlan(plan=plan, after=after)


def _creation(
    wanted: Wanted, marked: Marked, target: str, *, effect: t.Literal["create", "replace"] = "create", needs: tuple[Wait, ...] = ()
) -> tuple[Step, Request]:
    """The call that makes it, and the description that it leads to."""
    cluster, tags = marked.owner.cluster_name, marked.new(wanted.tags)
    fields = {name: value for name, value in wanted.fields().items() if value is not None}
    request = {**subject(cluster, wanted.name), **_request(fields), "tags": tags}
    if wanted.resolve_conflicts:
        request["resolveConflicts"] = wanted.resolve_conflicts
    if wanted.namespace:
        fields["namespace"] = wanted.namespace
        request["namespaceConfig"] = {"namespace": wanted.namespace}
    step = Step(
        action="eks:CreateAddon",
        target=target,
        effect=effect,
        fields=tuple(sorted({*fields, "version"})),
        request=request,
        needs=needs,
        passing=ROLE_NOT_READY,
    )
    kept = ("clusterName", "addonName", "addonVersion", "configurationValues", "serviceAccountRoleArn", "namespaceConfig")
    arn = planned("addon", wanted.name)
    described = {"addonArn": arn, "status": None, "addonVersion": None, **{key: request[key] for key in kept if key in request}}
    return step, {**described, "podIdentityAssociations": [], "tags": tags}


def plan_update(wanted: Wanted, observed: Addon, marked: Marked) -> AddonPlan:
    """Tags, then one call with all that differs; none where nothing does. An update that failed is made again."""
    cluster, name = marked.owner.cluster_name, observed.name
    changes = changed_fields(wanted.fields(), observed.fields())
    tag_steps, tags = marked.changes(wanted.tags, observed.tags, observed.arn)
    failed = observed.status == "UPDATE_FAILED"
    steps, waits = list(tag_steps), []
    if changes or failed:
        step = _update(wanted, observed, changes, cluster)
        steps.append(step)
        waits.append(Wait(waiter="addon_update_successful", arguments={**_named(cluster, name), "updateId": _update_id(name)}))
    if changes or observed.status != "ACTIVE":
        waits.append(_active(cluster, name))
    before = {field: observed.fields()[field] for field, value in wanted.fields().items() if value is not None}
    after = {**before, **{field: change[1] for field, change in changes.items()}}
    if wanted.tags is not None:
        before["tags"], after["tags"] = dict(observed.tags), tags
    will_be = {**observed.api, **_request({field: change[1] for field, change in changes.items()}), "tags": tags}
    will_be["podIdentityAssociations"] = observed.api.get("podIdentityAssociations") or []
    plan = Plan(
        steps=tuple(steps),
        waits=tuple(waits) if wanted.wait else (),
        before={name: before},
        after={name: after},
        warnings=_health(observed) if not (steps or wanted.wait) else (),
    )
    return AddonPlan(plan=plan, after=will_be)


def _update(wanted: Wanted, observed: Addon, changes: t.Mapping[str, tuple[t.Any, t.Any]], cluster: str) -> Step:
    """EKS documents for one of the fields what happens to those that an update leaves out: without a role of its own the add-on falls
    back to that of the node. So the role, and the configuration, go along as they are; associations that are left out stay."""
    kept = {"serviceAccountRoleArn": observed.service_account_role_arn, "configurationValues": observed.configuration}
    request = {
        **subject(cluster, observed.name),
        "addonVersion": observed.version,
        "resolveConflicts": wanted.resolve_conflicts or "PRESERVE",
    }
    request |= {key: value for key, value in kept.items() if value}
    request |= _request({field: change[1] for field, change in changes.items()})
    reason = f"from {changes['version'][0]}" if "version" in changes else ""
    return Step(
        action="eks:UpdateAddon",
        target=observed.name,
        effect="update",
        fields=tuple(sorted(changes)),
        reason=reason if changes else f"UPDATE_FAILED: {' '.join(observed.issues)}".rstrip(": "),
        request=request,
        binds={_update_id(observed.name): "update.id"},
        passing=ROLE_NOT_READY,
    )


def plan_delete(wanted: Wanted, observed: Addon, cluster: str) -> Plan:
    """The call that removes it, unless that is under way already, and the wait until it is gone."""
    request = {**subject(cluster, observed.name), **({"preserve": True} if wanted.preserve else {})}
    step = Step(action="eks:DeleteAddon", target=observed.name, effect="delete", request=request)
    shown = {key: value for key, value in observed.fields().items() if value is not None}
    return Plan(
        steps=() if observed.status == "DELETING" else (step,),
        waits=(_deleted(cluster, observed.name),) if wanted.wait else (),
        before={observed.name: {**shown, "tags": dict(observed.tags)}},
        after={},
    )


def _request(fields: t.Mapping[str, t.Any]) -> Request:
    """Fields in the service's spelling; the configuration is a text to it."""
    request = {_API_NAMES[name]: value for name, value in fields.items()}
    if "configurationValues" in request:
        request["configurationValues"] = json.dumps(request["configurationValues"], sort_keys=True)
    if "podIdentityAssociations" in request:
        pairs = request["podIdentityAssociations"]
        request["podIdentityAssociations"] = [{"serviceAccount": p["service_account"], "roleArn": p["role_arn"]} for p in pairs]
    return request


def _shown(wanted: Wanted, tags: t.Mapping[str, str]) -> dict[str, t.Any]:
    fields = {**wanted.fields(), "namespace": wanted.namespace}
    return {**{name: value for name, value in fields.items() if value is not None}, "tags": dict(tags)}


def _health(observed: Addon) -> tuple[str, ...]:
    if observed.status == "ACTIVE":
        return ()
    said = " ".join(observed.issues) or "EKS gives no reason."
    return (f"Add-on {observed.name} is {observed.status}: {said}",)


def _update_id(name: str) -> str:
    return planned("update", f"addon-{name}")


def _named(cluster: str, name: str) -> Request:
    return {"name": cluster, "addonName": name}


def _active(cluster: str, name: str) -> Wait:
    return Wait(waiter="addon_active", arguments=subject(cluster, name))


def _deleted(cluster: str, name: str) -> Wait:
    return Wait(waiter="addon_deleted", arguments=subject(cluster, name))
