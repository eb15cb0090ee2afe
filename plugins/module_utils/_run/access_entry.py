# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_access_entry: read each entry, plan all of them, make their calls."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, GpuopsError, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.access_entry import Entry, Wanted, policy_list, type_refusal
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster_parts import each, planned_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import COMPONENT_TAG
from ansible_collections.gpuops.eks.plugins.module_utils._plan import access_entry as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.access_entry import EntryPlan, subject
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import Marked, foreign, never_deleted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import combine, is_planned
from ansible_collections.gpuops.eks.plugins.module_utils._run.cluster_parts import MISSING, Place, described, place, place_to_clear
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_SOURCE = "eks:DescribeAccessEntry"


def entry_job(run: Run) -> Outcome:
    """The entries as they should be, or gone."""
    return _absent(run) if run.params["state"] == "absent" else _present(run)


def _wanted(run: Run, where: Place) -> list[Wanted]:
    things = each(run.params, "entries")
    return [Wanted.from_params(thing, path=path, partition=where.owner.partition) for path, thing in things]


def _present(run: Run) -> Outcome:
    where = place(run)
    _needs_entries(where)
    wanted = _wanted(run, where)
    faults = [] if run.check_mode else planned_faults({entry.at("principal_arn"): entry.principal_arn for entry in wanted})
    plans = []
    for entry in wanted:
        planned, own_faults = _plan(run, where, entry)
        plans.append(planned)
        faults += own_faults
    if faults := [*faults, *_policy_faults(run, where, wanted, plans)]:
        raise InvalidInput(faults)
    surplus = _surplus(run, where, wanted) if run.params["purge"] else []
    removals = [planning.plan_delete(entry, where.owner.cluster_name) for entry in surplus]
    plan = replace(combine([*(planned.plan for planned in plans), *removals]), warnings=where.warnings)
    run.apply(plan)
    return Outcome(plan=plan, result=_result([_after(run, where, one, planned) for one, planned in zip(wanted, plans, strict=True)]))


def _needs_entries(where: Place) -> None:
    mode = ((where.cluster or {}).get("accessConfig") or {}).get("authenticationMode")
    if mode == "CONFIG_MAP":
        hint = "Set authentication_mode: API_AND_CONFIG_MAP, or API, with gpuops.eks.eks_cluster first."
        raise GpuopsError(f"EKS cluster {where.owner.cluster_name} has authentication mode CONFIG_MAP and no access entries.", hint=hint)


def _plan(run: Run, where: Place, wanted: Wanted) -> tuple[EntryPlan, list[Fault]]:
    marked = Marked(owner=where.owner, component=planning.COMPONENT, purge_tags=run.params["purge_tags"])
    there = None if where.cluster is None else _read(run, where, wanted)
    if there is None:
        return planning.plan_create(wanted, marked), []
    planned = planning.plan_update(wanted, there, marked)
    faults = type_refusal(wanted, there)
    if planned.plan.steps and not (wanted.adopt or where.owner.owns(there.tags)):
        faults.append(foreign(wanted.at("principal_arn"), wanted.principal_arn, _SOURCE))
    return planned, faults


def _policy_faults(run: Run, where: Place, wanted: t.Sequence[Wanted], plans: t.Sequence[EntryPlan]) -> list[Fault]:
    """Access policies that do not exist; EKS is asked where one is associated, and the cluster is there."""
    asked = [(entry, arn) for entry, one in zip(wanted, plans, strict=True) for arn in planning.associated_policies(one.plan.steps)]
    if where.cluster is None or not asked:
        return []
    action = "eks:ListAccessPolicies"
    known = {policy["arn"]: policy["name"] for policy in run.aws.pages(action, "accessPolicies")}
    allowed = f"one of {', '.join(sorted(known.values()))}"
    return [Fault(path=entry.at("policies"), value=arn, allowed=allowed, source=action) for entry, arn in asked if arn not in known]


def _surplus(run: Run, where: Place, wanted: t.Sequence[Wanted]) -> list[Entry]:
    """The entries that this module has made for the cluster and that are not listed any more."""
    if where.cluster is None:
        return []
    request = {"clusterName": where.owner.cluster_name}
    listed = {entry.principal_arn for entry in wanted}
    others = [arn for arn in run.aws.pages("eks:ListAccessEntries", "accessEntries", request) if arn not in listed]
    found = [entry for arn in others if (entry := _describe(run, where, arn))]
    return [entry for entry in found if where.owner.owns(entry.tags) and entry.tags.get(COMPONENT_TAG) == planning.COMPONENT]


def _absent(run: Run) -> Outcome:
    where = place_to_clear(run)
    if where is None:
        return Outcome(result=_result([]))
    found = [(entry, there) for entry in _wanted(run, where) if (there := _describe(run, where, entry.principal_arn))]
    foreigners = [entry for entry, there in found if not where.owner.owns(there.tags)]
    if faults := [never_deleted(entry.at("principal_arn"), entry.principal_arn, _SOURCE) for entry in foreigners]:
        raise InvalidInput(faults)
    plan = combine([planning.plan_delete(there, where.owner.cluster_name) for _entry, there in found])
    run.apply(plan)
    return Outcome(plan=plan, result=_result([]))


def _after(run: Run, where: Place, wanted: Wanted, planned: EntryPlan) -> Entry:
    """The entry as it is now, read again where something was done; in check mode as it will be."""
    if run.check_mode or not planned.plan.steps:
        return planned.after
    return _read(run, where, wanted) or planned.after


def _read(run: Run, where: Place, wanted: Wanted) -> Entry | None:
    """The entry, with its policies where they are managed."""
    found = _describe(run, where, wanted.principal_arn)
    if found is None or wanted.policies is None:
        return found
    request = subject(where.owner.cluster_name, wanted.principal_arn)
    return Entry.from_api(found.api, run.aws.pages("eks:ListAssociatedAccessPolicies", "associatedAccessPolicies", request))


def _describe(run: Run, where: Place, principal: str) -> Entry | None:
    if is_planned(principal):
        return None
    reply = run.aws.find(_SOURCE, subject(where.owner.cluster_name, principal), missing=MISSING)
    return Entry.from_api(reply["accessEntry"]) if reply else None


def _result(entries: t.Sequence[Entry]) -> dict[str, t.Any]:
    return {"access_entries": [{**described(entry.api), "policies": policy_list(entry.policies)} for entry in entries]}
