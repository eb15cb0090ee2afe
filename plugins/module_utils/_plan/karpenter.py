# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""From pools and the Karpenter objects that are there: the calls that make them equal, and what stands against it. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import NODEPOOL_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.manifests import value_at
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    EC2_NODE_CLASS,
    NODE_CLAIM,
    NODE_OVERLAY,
    NODE_POOL,
    Kind,
    Object,
    conditions_of,
    gitops_tool,
    is_deleting,
    name_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import FIELD_MANAGER, MANAGED_BY_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan import karpenter_objects as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.objects import Comparison, apply_plan, delete_plan, gone
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait, combine, needing

Key = tuple[str, str]
#: Whether what was made for a pool of this name and is no longer wanted is to be removed.
Prunes = t.Callable[[t.Optional[str]], bool]

# The lowest weight that an overlay of ours gets: there is room below and above for those of others.
FIRST_WEIGHT = 100
# Reasons of conditions that no waiting mends. Source: karpenter-provider-aws v1.14 pkg/controllers/nodeclass, karpenter v1.14
# pkg/controllers/nodeoverlay and nodepool/validation.
HOPELESS = (
    "AMINotFound", "Conflict", "NodePoolValidationFailed", "PlacementGroupNotFound", "RuntimeValidation", "SecurityGroupsNotFound",
    "SubnetsNotFound", "TagValidationFailed", "UnsupportedAlias", "UserDataSizeLimitExceeded",
)  # fmt: skip
# Where a difference between an object and the nodes made of it is drift. Source: Karpenter, Disruption: Drift.
_DRIFTING = {EC2_NODE_CLASS.kind: "spec.", NODE_POOL.kind: "spec.template."}
_DRIFT = "Karpenter replaces nodes that differ from it, within the disruption budgets"


def _never(pool: str | None) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The cluster's Karpenter objects, those of others included; ``dry_runs`` by kind and name."""

    node_classes: tuple[Object, ...] = ()
    node_overlays: tuple[Object, ...] = ()
    node_pools: tuple[Object, ...] = ()
    dry_runs: t.Mapping[Key, Object] = field(default_factory=dict)

    def find(self, kind: str, name: str) -> Object | None:
        of_kind = {EC2_NODE_CLASS.kind: self.node_classes, NODE_OVERLAY.kind: self.node_overlays, NODE_POOL.kind: self.node_pools}
        return next((obj for obj in of_kind[kind] if name_of(obj) == name), None)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An object of a pool as it should be. ``live`` is None where it is to be made; ``leaving`` is one of its name that goes."""

    target: KarpenterPool
    manifest: Object
    live: Object | None = None
    leaving: Object | None = None

    @property
    def key(self) -> Key:
        return self.manifest["kind"], name_of(self.manifest)

    @property
    def pool(self) -> Pool:
        return self.target.pool


def wanted_objects(
    targets: t.Sequence[KarpenterPool], observed: Observed, settings: manifests.Settings, prunes: Prunes = _never
) -> list[Wanted]:
    """Each pool's EC2NodeClass, overlays and NodePools, in the order in which they are applied."""
    weights = _weights(targets, observed)
    kept = {target.pool.name: [] if prunes(target.pool.name) else _surplus_pools(target, observed) for target in targets}
    return [one for target in targets for one in _of_pool(target, observed, settings, weights, kept[target.pool.name])]


def _of_pool(
    target: KarpenterPool, observed: Observed, settings: manifests.Settings, weights: t.Mapping[str, int], surplus: t.Sequence[Object]
) -> t.Iterator[Wanted]:
    """Nothing but its NodePools where another tool keeps those: what they need is that tool's as well."""
    live, _leaving = _live(observed.find(EC2_NODE_CLASS.kind, class_name(target, observed)))
    target = manifests.with_family_of(target, live)
    names = [part.name for part in target.parts]
    if not kept_by(target, observed):
        if (class_ := _node_class(target, settings, observed, keep_subnets=bool(surplus))) is not None:
            yield class_
        for name in target.overlay_names:
            live, leaving = _live(observed.find(NODE_OVERLAY.kind, name))
            node_pools = list(dict.fromkeys([*names, *map(name_of, surplus)]))
            manifest = manifests.overlay(target, name, weight=weights[name], node_pools=node_pools, live=live)
            yield Wanted(target=target, manifest=manifest, live=live, leaving=leaving)
    for part in target.parts:
        live, leaving = _live(observed.find(NODE_POOL.kind, part.name))
        yield Wanted(target=target, manifest=manifests.node_pool(target, part, live), live=live, leaving=leaving)


def _node_class(target: KarpenterPool, settings: manifests.Settings, observed: Observed, *, keep_subnets: bool) -> Wanted | None:
    """The class of an adopted NodePool is the one that it names, whosever that is; where nothing is set of it, there is nothing to apply."""
    name = class_name(target, observed)
    live, leaving = _live(observed.find(EC2_NODE_CLASS.kind, name))
    seen = live
    if live is not None and manifests.is_ours(live) and manifests.pool_of(live) != target.pool.name:
        seen = {**live, "metadata": {"name": name}}
    manifest = manifests.node_class(target, settings, seen, name=name, keep_subnets=keep_subnets)
    if manifests.is_adopted(seen) and target.pool.adopt and "spec" not in manifest:
        return None
    return Wanted(target=target, manifest=manifest, live=live, leaving=leaving)


def class_name(target: KarpenterPool, observed: Observed) -> str:
    """The name of a pool's EC2NodeClass: its own, or the one that its NodePool names where that is not ours."""
    found = (observed.find(NODE_POOL.kind, part.name) for part in target.parts)
    other = next((obj for obj in found if obj and ((target.pool.adopt and manifests.is_adopted(obj)) or gitops_tool(obj))), None)
    return str(value_at(other, "spec", "template", "spec", "nodeClassRef", "name") or target.pool.name)


def kept_by(target: KarpenterPool, observed: Observed) -> str | None:
    """The tool that keeps a NodePool of the pool as its own repository has it."""
    found = (observed.find(NODE_POOL.kind, part.name) for part in target.parts)
    return next((tool for obj in found if obj and (tool := gitops_tool(obj))), None)


def _live(obj: Object | None) -> tuple[Object | None, Object | None]:
    """(as it is, as it goes): one that is being deleted is made anew."""
    return (None, obj) if obj is not None and is_deleting(obj) else (obj, None)


def _weights(targets: t.Sequence[KarpenterPool], observed: Observed) -> dict[str, int]:
    """Overlay -> weight: those that are there keep theirs, new ones get the lowest that no overlay of the cluster has."""
    names = [name for target in targets for name in target.overlay_names]
    there = {name_of(obj): value_at(obj, "spec", "weight") for obj in observed.node_overlays}
    found: dict[str, int] = {}
    taken = {weight for name, weight in there.items() if weight and name not in names}
    for name in sorted(names, key=lambda name: (name not in there, name)):
        weight = there.get(name)
        if not weight or weight in taken:
            weight = next(number for number in range(FIRST_WEIGHT, FIRST_WEIGHT + len(taken) + 1) if number not in taken)
        taken.add(weight)
        found[name] = weight
    return found


def plan_present(wanted: t.Sequence[Wanted], targets: t.Sequence[KarpenterPool], observed: Observed, prunes: Prunes = _never) -> Plan:
    """Objects are applied in order and waited for together; what somebody else's tool keeps is left alone."""
    plans, waits = [], []
    for one in wanted:
        if is_kept(one, observed):
            continue
        plan = _apply(one, observed)
        plans.append(plan)
        if plan.steps or not _is_ready(one.live):
            waits.append(ready(one.manifest))
    plans += [
        delete_plan(obj, reason="nodes of the pool advertise what Karpenter expects")
        for obj in _surplus_overlays(wanted, targets, observed)
    ]
    plan = combine(plans)
    warnings = (*_gitops_warnings(wanted), *_surplus_warnings(targets, observed, prunes), *plan.warnings)
    return dataclasses.replace(plan, waits=(*plan.waits, *waits), warnings=warnings)


def _apply(one: Wanted, observed: Observed) -> Plan:
    plan = apply_plan(Comparison(manifest=one.manifest, live=one.live, dry_run=observed.dry_runs.get(one.key)))
    steps = [_with_reason(step, one.key[0]) for step in plan.steps]
    needs = () if one.leaving is None else (gone(_typed(one.leaving, one.manifest)),)
    return dataclasses.replace(plan, steps=tuple(needing(steps, *needs)))


def _with_reason(step: Step, kind: str) -> Step:
    """An update says what it means for nodes that are there."""
    drifts = step.effect == "update" and kind in _DRIFTING and any(name.startswith(_DRIFTING[kind]) for name in step.fields)
    return dataclasses.replace(step, reason=_DRIFT) if drifts else step


def _typed(obj: Object, like: Object) -> Object:
    return {**obj, "apiVersion": like["apiVersion"], "kind": like["kind"]}


def is_kept(one: Wanted, observed: Observed) -> bool:
    """Whether another tool keeps the object, or its pool."""
    return bool(kept_by(one.target, observed)) or (one.live is not None and gitops_tool(one.live) is not None)


def ready(obj: Object) -> Wait:
    """Wait until the controller has accepted this generation of the object."""
    reference = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": {"name": name_of(obj)}}
    return Wait(waiter="kubernetes:ready", arguments={**reference, "hopeless": list(HOPELESS)})


def _is_ready(live: Object | None) -> bool:
    return live is not None and conditions_of(live).get("Ready", {}).get("status") == "True"


def _gitops_warnings(wanted: t.Iterable[Wanted]) -> list[str]:
    return [
        f"{one.key[0]} {one.key[1]} of pool {one.pool.name} is kept by {tool} and is not changed here: change it where {tool} takes it from."
        for one in wanted
        if one.live is not None and (tool := gitops_tool(one.live))
    ]


def conflicts(wanted: t.Iterable[Wanted]) -> list[Fault]:
    """Objects of the names that we want that are not ours, or another pool's."""
    return [
        fault for one in wanted if one.live is not None and not gitops_tool(one.live) and (fault := _conflict(one, one.live)) is not None
    ]


def _conflict(one: Wanted, live: Object) -> Fault | None:
    kind, name = one.key
    where, pool = join(one.pool.path, "name"), manifests.pool_of(live)
    if not manifests.is_ours(live):
        if one.pool.adopt:
            return _untold(one, live)
        allowed = f"another name, or adopt: true; {kind} {name} lacks the label {MANAGED_BY_LABEL}={FIELD_MANAGER}"
        return Fault(path=where, value=one.pool.name, allowed=allowed, source=f"kubernetes:list {_resource(kind)}")
    if pool == one.pool.name:
        return None
    allowed = f"another name; {kind} {name} is of pool {pool}"
    return Fault(path=where, value=one.pool.name, allowed=allowed, source=f"kubernetes:list {_resource(kind)}")


def _untold(one: Wanted, live: Object) -> Fault | None:
    """User data of others is kept as it is, and could say the contrary."""
    kind, name = one.key
    if kind != EC2_NODE_CLASS.kind or not manifests.untold(one.pool, live):
        return None
    option = "mig" if one.pool.mig is not None else "sharing"
    allowed = f"unset with {kind} {name}, whose userData somebody else wrote; user_data: [] or texts of your own take its place"
    return Fault(path=join(one.pool.path, option), value="set", allowed=allowed, source=f"kubernetes:list {_resource(kind)}")


def _resource(kind: str) -> str:
    return {one.kind: one.resource for one in (EC2_NODE_CLASS, NODE_OVERLAY, NODE_POOL)}[kind]


def _ours(objects: t.Iterable[Object], pool: str) -> list[Object]:
    return [obj for obj in objects if manifests.is_ours(obj) and manifests.pool_of(obj) == pool]


def _surplus_pools(target: KarpenterPool, observed: Observed) -> list[Object]:
    """NodePools that the pool has and no longer wants."""
    names = {part.name for part in target.parts}
    return [obj for obj in _ours(observed.node_pools, target.pool.name) if name_of(obj) not in names and not is_deleting(obj)]


def _surplus_overlays(wanted: t.Iterable[Wanted], targets: t.Iterable[KarpenterPool], observed: Observed) -> list[Object]:
    """Overlays that say of nodes what is no longer so. They have no nodes: nothing is lost with them."""
    names = {one.key for one in wanted}
    return [
        obj
        for target in targets
        for obj in _typed_list(_ours(observed.node_overlays, target.pool.name), NODE_OVERLAY)
        if (NODE_OVERLAY.kind, name_of(obj)) not in names and not is_deleting(obj) and not gitops_tool(obj)
    ]


def _surplus_warnings(targets: t.Iterable[KarpenterPool], observed: Observed, prunes: Prunes) -> list[str]:
    return [
        f"NodePool {name_of(obj)} is no longer part of pool {target.pool.name} and stays with its nodes; prune removes it."
        for target in targets
        if not prunes(target.pool.name)
        for obj in _surplus_pools(target, observed)
    ]


def plan_absent(names: t.Collection[str], observed: Observed) -> Plan:
    """What we made for pools of these names, gone."""
    return _removal(observed, lambda obj: manifests.pool_of(obj) in names, reason="state is absent")


def plan_removal(targets: t.Sequence[KarpenterPool], observed: Observed, prunes: Prunes) -> Plan:
    """What we made and no pool wants any more; ``prunes`` says of which pools that is removed."""
    reason = "no pool wants it any more"
    return _removal(observed, lambda obj: _is_pruned(obj, targets, prunes), reason=reason)


def _is_pruned(obj: Object, targets: t.Sequence[KarpenterPool], prunes: Prunes) -> bool:
    """Of a pool that there is, its NodePools of zones that it is no longer in; otherwise all."""
    pool = manifests.pool_of(obj)
    if not prunes(pool) or gitops_tool(obj):
        return False
    target = next((target for target in targets if target.pool.name == pool), None)
    return target is None or (obj["kind"] == NODE_POOL.kind and name_of(obj) not in {part.name for part in target.parts})


def _removal(observed: Observed, goes: t.Callable[[Object], bool], *, reason: str) -> Plan:
    """NodePools with their nodes, then overlays, then EC2NodeClasses: a class goes only when no node needs it any more."""
    pools, overlays, classes = (
        [obj for obj in _typed_list(objects, kind) if manifests.is_ours(obj) and goes(obj)]
        for kind, objects in (
            (NODE_POOL, observed.node_pools),
            (NODE_OVERLAY, observed.node_overlays),
            (EC2_NODE_CLASS, observed.node_classes),
        )
    )
    first = combine(delete_plan(obj, reason=reason) for obj in pools if not is_deleting(obj))
    rest = combine(delete_plan(obj, reason=reason) for obj in (*overlays, *classes) if not is_deleting(obj))
    whole = dict.fromkeys(str(manifests.pool_of(obj)) for obj in classes)
    without_nodes = (*map(gone, pools), *map(no_claims, whole))
    if rest.steps:
        rest = dataclasses.replace(rest, steps=tuple(needing(rest.steps, *without_nodes)), waits=tuple(map(gone, classes)))
    else:
        rest = dataclasses.replace(rest, waits=(*without_nodes, *map(gone, classes)))
    return combine([first, rest])


def _typed_list(objects: t.Iterable[Object], kind: Kind) -> list[Object]:
    return [{**obj, "apiVersion": kind.api_version, "kind": kind.kind} for obj in objects]


def no_claims(pool: str) -> Wait:
    """Wait until Karpenter has removed every node of the pool."""
    labels = f"{NODEPOOL_LABEL}={pool}"
    return Wait(waiter="kubernetes:none", arguments={"apiVersion": NODE_CLAIM.api_version, "kind": NODE_CLAIM.kind, "labels": labels})
