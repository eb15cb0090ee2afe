# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_addon: read each add-on, plan all of them, make their calls one after another, wait for them together."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, GpuopsError, InvalidInput, ServiceError
from ansible_collections.gpuops.eks.plugins.module_utils._model.addon import (
    MOVING,
    Addon,
    Offer,
    Wanted,
    given_roles,
    namespace_refusal,
    version_fault,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster_parts import each, planned_faults
from ansible_collections.gpuops.eks.plugins.module_utils._plan import addon as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.addon import AddonPlan, subject
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import Marked, foreign, never_deleted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Wait, combine
from ansible_collections.gpuops.eks.plugins.module_utils._run.cluster_parts import MISSING, Place, described, place, place_to_clear
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run
from ansible_collections.gpuops.eks.plugins.module_utils._run.schema import Unjudged, schema_faults

_SOURCE = "eks:DescribeAddon"
_WORDS = ("default", "latest")


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """The plan of one add-on with what speaks against it."""

    wanted: Wanted
    plan: AddonPlan
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()


def addon_job(run: Run) -> Outcome:
    """The add-ons as they should be, or gone."""
    wait = run.params["wait"]
    wanted = [Wanted.from_params(thing, path=path, wait=wait) for path, thing in each(run.params, "addons")]
    return _absent(run, wanted) if run.params["state"] == "absent" else _present(run, wanted)


def _present(run: Run, wanted: t.Sequence[Wanted]) -> Outcome:
    where = place(run)
    faults = [] if run.check_mode else [fault for addon in wanted for fault in planned_faults(given_roles(addon))]
    planned = [_plan_one(run, where, addon) for addon in wanted]
    if faults := [*faults, *(fault for one in planned for fault in one.faults)]:
        raise InvalidInput(faults)
    plan = combine([one.plan.plan for one in planned])
    warnings = dict.fromkeys((*where.warnings, *plan.warnings, *(warning for one in planned for warning in one.warnings)))
    plan = replace(plan, warnings=tuple(warnings))
    run.apply(plan, every_wait=True)
    return Outcome(plan=plan, result=_result(run, [_after(run, where, one) for one in planned]))


def _after(run: Run, where: Place, one: _Planned) -> t.Mapping[str, t.Any] | None:
    """The description as it is now, read again where something was done; in check mode as it will be."""
    if run.check_mode or not (one.plan.plan.steps or one.plan.plan.waits):
        return one.plan.after
    found = _describe(run, where, one.wanted.name)
    return found.api if found else None


def _plan_one(run: Run, where: Place, wanted: Wanted) -> _Planned:
    """What has to be done for one add-on. What is under way is waited for first, where the user waits or there is something to do after it."""
    observed = _observe(run, where, wanted)
    planned = _plan(run, where, wanted, observed)
    if observed is None or observed.status not in MOVING or run.check_mode or not (wanted.wait or planned.plan.plan.steps):
        return planned
    waiter = "addon_deleted" if observed.status == "DELETING" else "addon_settled"
    run.aws.wait(Wait(waiter=waiter, arguments=subject(where.owner.cluster_name, wanted.name)))
    return _plan(run, where, wanted, _observe(run, where, wanted))


def _plan(run: Run, where: Place, wanted: Wanted, observed: Addon | None) -> _Planned:
    marked = Marked(owner=where.owner, component=planning.COMPONENT, purge_tags=run.params["purge_tags"])
    if observed and observed.status == "DELETE_FAILED":
        said = " ".join(observed.issues) or "EKS gives no reason."
        hint = "Remove it with state absent once the reason is gone, then run again."
        raise GpuopsError(f"Add-on {observed.name} is DELETE_FAILED: {said}", hint=hint)
    there = None if observed and observed.status == "DELETING" else observed
    if where.cluster is None:
        return _Planned(wanted=wanted, plan=planning.plan_create(_without_words(wanted), marked))
    resolved, faults = _resolved(run, where.cluster["version"], wanted, there)
    judged, warnings = ([], ()) if faults else _configuration(run, resolved, there)
    faults = [*faults, *judged, *(namespace_refusal(wanted, there) if there else ())]
    if there is None:
        plan = planning.plan_create(resolved, marked)
    elif there.status == "CREATE_FAILED":
        plan = planning.plan_again(resolved, there, marked)
    else:
        plan = planning.plan_update(resolved, there, marked)
    allowed = there is None or where.owner.owns(there.tags) or (run.params["adopt"] and there.status != "CREATE_FAILED")
    if plan.plan.steps and not allowed:
        faults.append(foreign(wanted.at("name"), wanted.name, _SOURCE))
    return _Planned(wanted=wanted, plan=plan, faults=tuple(faults), warnings=warnings)


def _without_words(wanted: Wanted) -> Wanted:
    return replace(wanted, version=None) if wanted.version in _WORDS else wanted


def _resolved(run: Run, kubernetes_version: str, wanted: Wanted, there: Addon | None) -> tuple[Wanted, list[Fault]]:
    """With the version that is meant. EKS is asked where there is a word, another version than there is, or a new add-on."""
    recreated = there is None or there.status == "CREATE_FAILED"
    if not recreated and (wanted.version is None or (there and wanted.version == there.version)):
        return wanted, []
    try:
        request = {"addonName": wanted.name, "kubernetesVersion": kubernetes_version}
        offer = Offer.from_api(run.aws.pages("eks:DescribeAddonVersions", "addons", request), kubernetes_version)
    except ServiceError as error:
        if error.code not in MISSING:
            raise
        offer = Offer(versions=(), default=None)
    version = offer.resolve(wanted.version)
    if version is None and (not offer.versions or wanted.version is not None):
        return wanted, [version_fault(wanted, offer, kubernetes_version)]
    return replace(wanted, version=version), []


def _configuration(run: Run, wanted: Wanted, there: Addon | None) -> tuple[list[Fault], tuple[str, ...]]:
    """What the schema of the add-on's version says of a configuration that is new or comes to a new version; and a warning if it could not."""
    version = wanted.version or (there.version if there else None)
    known = there is not None and there.configuration_values == wanted.configuration_values and there.version == version
    if not wanted.configuration_values or version is None or known:
        return [], ()
    action = "eks:DescribeAddonConfiguration"
    reply = run.aws.call(action, {"addonName": wanted.name, "addonVersion": version})
    if not (schema := reply.get("configurationSchema")):
        return [], ()
    try:
        return schema_faults(schema, wanted.configuration_values, wanted.at("configuration_values"), action), ()
    except Unjudged as error:
        return [], (f"configuration_values are not checked beforehand, EKS judges them: {error}.",)


def _absent(run: Run, wanted: t.Sequence[Wanted]) -> Outcome:
    where = place_to_clear(run)
    if where is None:
        return Outcome(result=_result(run, []))
    found = [(addon, observed) for addon in wanted if (observed := _settled(run, where, addon))]
    if faults := [never_deleted(addon.at("name"), addon.name, _SOURCE) for addon, there in found if not where.owner.owns(there.tags)]:
        raise InvalidInput(faults)
    plan = combine([planning.plan_delete(addon, there, where.owner.cluster_name) for addon, there in found])
    run.apply(plan, every_wait=True)
    return Outcome(plan=plan, result=_result(run, []))


def _settled(run: Run, where: Place, wanted: Wanted) -> Addon | None:
    """The add-on once its creation or update has come to an end; what is not ours is not waited for."""
    observed = _describe(run, where, wanted.name)
    if observed and observed.status in ("CREATING", "UPDATING") and where.owner.owns(observed.tags) and not run.check_mode:
        run.aws.wait(Wait(waiter="addon_settled", arguments=subject(where.owner.cluster_name, wanted.name)))
        return _describe(run, where, wanted.name)
    return observed


def _observe(run: Run, where: Place, wanted: Wanted) -> Addon | None:
    """The add-on, with its Pod Identity associations where they are managed."""
    found = None if where.cluster is None else _describe(run, where, wanted.name)
    if found is None or wanted.pod_identity_associations is None:
        return found
    requests = [{"clusterName": where.owner.cluster_name, "associationId": name} for name in found.association_ids]
    replies = [run.aws.find("eks:DescribePodIdentityAssociation", request, missing=MISSING) for request in requests]
    return found.with_associations(reply["association"] for reply in replies if reply)


def _describe(run: Run, where: Place, name: str) -> Addon | None:
    reply = run.aws.find("eks:DescribeAddon", subject(where.owner.cluster_name, name), missing=MISSING)
    return Addon.from_api(reply["addon"]) if reply else None


def _result(run: Run, apis: t.Sequence[t.Mapping[str, t.Any] | None]) -> dict[str, t.Any]:
    addons = [_shown(api) for api in apis if api]
    single = {"addon": addons[0] if addons else None} if run.params.get("addons") is None else {}
    return {"addons": addons, **single}


def _shown(api: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The description with the configuration as data, whose keys are left as they are."""
    plain = {key: value for key, value in api.items() if key != "configurationValues"}
    values = Addon.from_api({"status": "", **api}).configuration_values if api.get("configurationValues") else None
    return {**described(plain), "configuration_values": values}
