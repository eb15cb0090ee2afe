# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_pod_identity_association: find each by its service account, plan all of them, make their calls."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster_parts import each, planned_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_identity import (
    Association,
    Wanted,
    addon_refusal,
    creation_faults,
    policy_data,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan import pod_identity as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import Marked, foreign, never_deleted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.pod_identity import AssociationPlan
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import combine
from ansible_collections.gpuops.eks.plugins.module_utils._run.cluster_parts import MISSING, Place, described, place, place_to_clear
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_SOURCE = "eks:DescribePodIdentityAssociation"


def association_job(run: Run) -> Outcome:
    """The associations as they should be, or gone."""
    wanted = [Wanted.from_params(thing, path=path) for path, thing in each(run.params, "associations")]
    return _absent(run, wanted) if run.params["state"] == "absent" else _present(run, wanted)


def _present(run: Run, wanted: t.Sequence[Wanted]) -> Outcome:
    where = place(run)
    faults = [] if run.check_mode else [fault for one in wanted for fault in planned_faults(one.roles())]
    found = _find(run, where, wanted) if where.cluster else {}
    plans = []
    for one in wanted:
        planned, own_faults = _plan(run, where, one, found.get(one.name))
        plans.append(planned)
        faults += own_faults
    if faults:
        raise InvalidInput(faults)
    plan = replace(combine([planned.plan for planned in plans]), warnings=where.warnings)
    bound = run.apply(plan)
    return Outcome(plan=plan, result=_result(run, [_after(run, where, planned, bound) for planned in plans]))


def _plan(run: Run, where: Place, wanted: Wanted, there: Association | None) -> tuple[AssociationPlan, list[Fault]]:
    marked = Marked(owner=where.owner, component=planning.COMPONENT, purge_tags=run.params["purge_tags"])
    if there is None:
        return planning.plan_create(wanted, marked), creation_faults(wanted)
    planned = planning.plan_update(wanted, there, marked)
    if planned.plan.steps and there.owner_arn:
        return planned, [addon_refusal(wanted, there)]
    if planned.plan.steps and not (run.params["adopt"] or where.owner.owns(there.tags)):
        return planned, [foreign(wanted.at("service_account"), wanted.name, _SOURCE)]
    return planned, []


def _after(run: Run, where: Place, planned: AssociationPlan, bound: t.Mapping[str, str]) -> t.Mapping[str, t.Any]:
    """The description as it is now, read again where something was done; in check mode as it will be."""
    if run.check_mode or not planned.plan.steps:
        return planned.after
    name = planned.after["associationId"]
    found = _describe(run, where, bound.get(name, name))
    return found.api if found else {**planned.after, "associationId": bound.get(name, name)}


def _absent(run: Run, wanted: t.Sequence[Wanted]) -> Outcome:
    where = place_to_clear(run)
    found = _find(run, where, wanted) if where else {}
    if where is None or not found:
        return Outcome(result=_result(run, []))
    there = [(one, found[one.name]) for one in wanted if one.name in found]
    faults = [addon_refusal(one, observed) for one, observed in there if observed.owner_arn]
    foreigners = [one for one, observed in there if not observed.owner_arn and not where.owner.owns(observed.tags)]
    if faults := [*faults, *(never_deleted(one.at("service_account"), one.name, _SOURCE) for one in foreigners)]:
        raise InvalidInput(faults)
    plan = combine([planning.plan_delete(observed, where.owner.cluster_name) for _one, observed in there])
    run.apply(plan)
    return Outcome(plan=plan, result=_result(run, []))


def _find(run: Run, where: Place, wanted: t.Sequence[Wanted]) -> dict[str, Association]:
    """The associations of the wanted service accounts, by name: one list, and one description of each."""
    request = {"clusterName": where.owner.cluster_name}
    if len(wanted) == 1:
        request |= {"namespace": wanted[0].namespace, "serviceAccount": wanted[0].service_account}
    names = {one.name for one in wanted}
    summaries = run.aws.pages("eks:ListPodIdentityAssociations", "associations", request) if wanted else []
    ids = [summary["associationId"] for summary in summaries if f"{summary['namespace']}/{summary['serviceAccount']}" in names]
    found = [association for name in ids if (association := _describe(run, where, name))]
    return {association.name: association for association in found}


def _describe(run: Run, where: Place, name: str) -> Association | None:
    reply = run.aws.find(_SOURCE, {"clusterName": where.owner.cluster_name, "associationId": name}, missing=MISSING)
    return Association.from_api(reply["association"]) if reply else None


def _result(run: Run, apis: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    associations = [_shown(api) for api in apis]
    single = {"association": associations[0] if associations else None} if run.params.get("associations") is None else {}
    return {"associations": associations, **single}


def _shown(api: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The description with the session policy as data, whose keys are left as they are."""
    plain = {key: value for key, value in api.items() if key != "policy"}
    return {"target_role_arn": None, **described(plain), "policy": policy_data(api.get("policy"))}
