# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Pools that Karpenter provisions: observed, tried out on the API server, and planned."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import ConnectionRefused, Fault, ServiceError
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.karpenter import Image
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import EC2_NODE_CLASS, NODE_OVERLAY, NODE_POOL, Kind, Object
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter import (
    Key,
    Observed,
    Wanted,
    class_name,
    conflicts,
    is_kept,
    kept_by,
    plan_absent,
    plan_present,
    plan_removal,
    wanted_objects,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_objects import Settings, is_ours, pool_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool, resolve
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_result import pool_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import PLANNED, Plan
from ansible_collections.gpuops.eks.plugins.module_utils._run.karpenter_facts import (
    Controller,
    ImageChoice,
    controller,
    identity_faults,
    placement_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._run.nodepool_parts import Context, Part, Result, cluster_security_group, leaving

_ROLE = "role gpuops.eks.eks_autoscaling"
_REFUSED = ("Invalid", "BadRequest")
_UNKNOWN_FIELD = "failed to create typed patch object"  # an API server's 500 for a field that the CRD does not have


def present(context: Context, pools: t.Sequence[Pool]) -> Part:
    """The NodePools, EC2NodeClasses and NodeOverlays of these pools as they should be, and others gone as far as the context prunes."""
    kube = context.run.find_kubernetes() if context.cluster else None
    if not pools:
        return _pruned(context, kube)
    there = controller(kube) if kube else Controller()
    observed = _observed(kube, there)
    targets = [resolve(pool, context.subnets.get(pool.name, ()), context.facts) for pool in pools]
    faults, warnings = _judged(context, there, targets)
    settings, read_faults = _settings(context, targets, observed)
    wanted = wanted_objects(targets, observed, settings, context.prunes)
    faults += [*read_faults, *conflicts(wanted)]
    if kube and not faults and not there.missing:
        observed, dry_faults = _with_dry_runs(kube, wanted, observed)
        faults += dry_faults
    plan = plan_present(wanted, targets, observed, context.prunes)
    return Part(
        plan=dataclasses.replace(plan, warnings=(*warnings, *plan.warnings)),
        removal=plan_removal(targets, observed, context.prunes),
        leaving=leaving(context, _pools_of(observed)),
        faults=tuple(faults),
        results=_results(targets, observed, _after(wanted, observed)),
        describe=None if kube is None else lambda: _described(targets, wanted, _observed(kube, there)),
    )


def absent(context: Context, names: t.Sequence[str]) -> Part:
    """The NodePools of these pools deleted with their nodes, their overlays and EC2NodeClasses."""
    kube = context.run.find_kubernetes() if context.cluster else None
    if kube is None:
        return Part()
    try:
        there = controller(kube)
        plan = plan_absent(names, _observed(kube, there))
    except ConnectionRefused as error:
        return Part(plan=Plan(warnings=(_unknown(error),)))
    if plan.steps and there.gates is None:
        warning = "No Deployment of Karpenter was found in the cluster: its nodes and EC2NodeClasses only go while it runs."
        plan = dataclasses.replace(plan, warnings=(*plan.warnings, warning))
    return Part(plan=plan)


def _pruned(context: Context, kube: Kubernetes | None) -> Part:
    """What no pool wants any more, where no pool is Karpenter's."""
    try:
        observed = _observed(kube, controller(kube) if kube else Controller())
    except ConnectionRefused as error:
        return Part(removal=Plan(warnings=(_unknown(error),)))
    return Part(removal=plan_removal((), observed, context.prunes), leaving=leaving(context, _pools_of(observed)))


def _pools_of(observed: Observed) -> set[str | None]:
    """The pools that we made objects for."""
    return {pool_of(obj) for obj in (*observed.node_pools, *observed.node_classes) if is_ours(obj)}


def _unknown(error: ConnectionRefused) -> str:
    """Node groups can be removed without an API server that answers."""
    return f"Whether Karpenter has pools here that are to go is not known. {error}"


def _judged(context: Context, there: Controller, targets: t.Sequence[KarpenterPool]) -> tuple[list[Fault], list[str]]:
    """(faults, warnings) of the pools and of Karpenter. In check mode what role eks_autoscaling installs may still be to come."""
    faults = [*(fault for target in targets for fault in target.faults), *_gate_faults(there, targets)]
    warnings = [warning for target in targets for warning in target.warnings]
    absences = _absent_faults(there, targets)
    if context.run.check_mode:
        warnings += [f"{fault.path}: {fault.value}; it has to be {fault.allowed} by then." for fault in absences]
    else:
        faults += absences
    if there.gates is None and there.installed:
        warnings.append(f"No Deployment of Karpenter was found in the cluster: without it nothing comes of the pools; {_ROLE} installs it.")
    return faults, warnings


def _gate_faults(there: Controller, targets: t.Iterable[KarpenterPool]) -> list[Fault]:
    """What pools ask for and the controller has turned off."""
    source = "Karpenter, feature gates: FEATURE_GATES of its Deployment"
    faults = []
    for target in targets:
        pool, repairs = target.pool, there.gates is not None and there.has("NodeRepair")
        if pool.repair is not None and there.gates is not None and pool.repair != repairs:
            allowed = f"unset or {str(repairs).lower()}: the gate NodeRepair is {'on' if repairs else 'off'}, for all of Karpenter's nodes"
            faults.append(Fault(path=join(pool.path, "repair.enabled"), value=pool.repair, allowed=allowed, source=source))
        if pool.capacity.reservations and not there.has("ReservedCapacity"):
            allowed = f"on_demand or spot while the gate ReservedCapacity is off; {_ROLE} turns it on"
            value = list(pool.capacity_types)
            faults.append(Fault(path=join(pool.path, "capacity.types"), value=value, allowed=allowed, source=source))
    return faults


def _absent_faults(there: Controller, targets: t.Sequence[KarpenterPool]) -> list[Fault]:
    """What is not there yet, which role eks_autoscaling would install: APIs, and the gate without which shares are not seen."""
    overlaid = [target for target in targets if target.overlaid]
    needed = [EC2_NODE_CLASS, NODE_POOL, *([NODE_OVERLAY] if overlaid else [])]
    missing = [kind for kind in needed if not there.serves(kind)]
    faults = []
    if missing:
        names = ", ".join(f"{kind.resource} of {kind.api_version}" for kind in missing)
        allowed = f"a cluster with Karpenter's CRDs ({_ROLE} installs them)"
        source = "kubernetes:get /apis/karpenter.sh"
        faults.append(Fault(path="provisioner", value=f"the cluster has no {names}", allowed=allowed, source=source))
    if overlaid and not missing and not there.has("NodeOverlay"):
        faults += [
            Fault(
                path=join(target.pool.path, "sharing"),
                value="the feature gate NodeOverlay is off",
                allowed=f"on, as without it Karpenter buys a node for each share of a GPU: NodeOverlay=true in FEATURE_GATES ({_ROLE} sets it)",
                source="Karpenter, NodeOverlay",
            )
            for target in overlaid
        ]
    return faults


def _observed(kube: Kubernetes | None, there: Controller) -> Observed:
    def read(kind: Kind) -> tuple[Object, ...]:
        return tuple(kube.read_all(kind)) if kube and there.serves(kind) else ()

    return Observed(node_classes=read(EC2_NODE_CLASS), node_overlays=read(NODE_OVERLAY), node_pools=read(NODE_POOL))


def _settings(context: Context, targets: t.Sequence[KarpenterPool], observed: Observed) -> tuple[Settings, list[Fault]]:
    """What the objects of all pools need to know; what does not exist as faults."""
    run, cluster = context.run, context.cluster
    choice = ImageChoice(run.aws, (cluster or {}).get("version") or run.params.get("kubernetes_version"))
    images: dict[str, Image] = {}
    faults = []
    for target in targets:
        if kept_by(target, observed):
            continue
        live = observed.find(EC2_NODE_CLASS.kind, class_name(target, observed))
        if (image := choice.image(target.pool, live)) is not None:
            images[target.pool.name] = image
        faults += identity_faults(run.aws, target.pool, live) + placement_faults(run.aws, target.pool, live)
    settings = Settings(
        owner=context.owner,
        security_group=cluster_security_group(context),
        role=run.params.get("node_role_arn"),
        subnets_given=bool(run.params.get("subnets")),
        purge_tags=bool(run.params.get("purge_tags", True)),
        images=images,
    )
    return settings, [*faults, *choice.faults]


def _with_dry_runs(kube: Kubernetes, wanted: t.Sequence[Wanted], observed: Observed) -> tuple[Observed, list[Fault]]:
    """What the API server would make of each object, and what it refuses. Of stand-ins for ids it cannot say."""
    found: dict[Key, Object] = {}
    faults = []
    for one in wanted:
        if is_kept(one, observed) or PLANNED in json.dumps(one.manifest):
            continue
        try:
            found[one.key] = kube.apply(one.manifest, dry_run=True)
        except ServiceError as error:
            if error.code not in _REFUSED and _UNKNOWN_FIELD not in error.message:
                raise
            faults.append(_refusal(one, error))
    return dataclasses.replace(observed, dry_runs=found), faults


def _refusal(one: Wanted, error: ServiceError) -> Fault:
    """The API server's own words against an object, which are those of Karpenter's CRDs."""
    said = error.message.removeprefix(f"{error.action}: {error.code}: ").rstrip(".")
    return Fault(
        path=join(one.pool.path, "name"), value=one.pool.name, allowed=f"options that Karpenter takes: {said}", source=error.action
    )


def _after(wanted: t.Iterable[Wanted], observed: Observed) -> dict[Key, Object]:
    """The objects as they will be: as the server says where it was asked; what others keep as it is."""
    return {
        one.key: one.live if one.live is not None and is_kept(one, observed) else observed.dry_runs.get(one.key, one.manifest)
        for one in wanted
    }


def _described(targets: t.Sequence[KarpenterPool], wanted: t.Iterable[Wanted], observed: Observed) -> dict[str, Result]:
    """The pools as they are now."""
    found = {one.key: observed.find(*one.key) for one in wanted}
    return _results(targets, observed, {key: obj for key, obj in found.items() if obj is not None})


def _results(targets: t.Sequence[KarpenterPool], observed: Observed, objects: t.Mapping[Key, Object]) -> dict[str, Result]:
    results = {}
    for target in targets:
        names = {(NODE_POOL.kind, part.name) for part in target.parts}
        names |= {(NODE_OVERLAY.kind, name) for name in target.overlay_names}
        mine = {key: obj for key, obj in objects.items() if key in names}
        results[target.pool.name] = pool_result(target, mine, class_name(target, observed))
    return results
