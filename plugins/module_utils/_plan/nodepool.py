# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""From the groups that pools should consist of and those that are there: the calls that make them equal. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import (
    GroupPlan,
    Settings,
    create_group,
    is_busy,
    is_half_made,
    subject,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import template_name
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_update import update_group
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is there: node groups whose names may be of these pools, launch templates of ours, names that templates of others have."""

    nodegroups: t.Mapping[str, Nodegroup] = field(default_factory=dict)
    templates: t.Mapping[str, LaunchTemplate] = field(default_factory=dict)
    foreign_templates: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class PoolsPlan:
    """The plan, the node groups as they will be, and what stands against it."""

    plan: Plan = field(default_factory=Plan)
    after: t.Mapping[str, Nodegroup] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def plan_pools(groups: t.Sequence[WantedGroup], observed: Observed, settings: Settings) -> PoolsPlan:
    """Creates, updates and resumes side by side: first the calls that can be made at once, then those that need one of them done."""
    made = [group for group in groups if takes_part(group, observed.nodegroups.get(group.name), settings.owner)]
    parts = [_plan_group(group, observed, settings) for group in made]
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    for part in parts:
        if part.fields:
            if observed.nodegroups.get(part.after.name) is not None:
                before[part.after.name] = {name: old for name, (old, _new) in part.fields.items()}
            after[part.after.name] = {name: new for name, (_old, new) in part.fields.items()}
    plan = Plan(
        steps=tuple(step for part in parts for step in part.steps) + tuple(step for part in parts for step in part.later),
        waits=tuple(wait for part in parts for wait in part.waits),
        before=before,
        after=after,
        warnings=tuple(warning for part in parts for warning in part.warnings) + _surplus(groups, made, observed, settings.owner),
    )
    faults = tuple(fault for part in parts for fault in part.faults)
    return PoolsPlan(plan=plan, after={part.after.name: part.after for part in parts}, faults=faults)


def takes_part(group: WantedGroup, there: Nodegroup | None, owner: Owner) -> bool:
    """Whether a group is made or kept up to date. One whose share is 0 nodes is not made, but its settings hold where it is there."""
    if group.max > 0:
        return True
    return there is not None and is_ours(there, group.pool, owner) and there.status != "DELETING" and not is_half_made(there)


def _plan_group(group: WantedGroup, observed: Observed, settings: Settings) -> GroupPlan:
    there = observed.nodegroups.get(group.name)
    template = observed.templates.get(template_name(settings.owner, group.name))
    if there is not None and not is_ours(there, group.pool, settings.owner):
        return GroupPlan(after=there, faults=(_foreign(group, "node group", group.name),))
    if there is not None and there.status != "DELETING" and not is_half_made(there):
        return update_group(group, there, template, settings)
    name = template_name(settings.owner, group.name)
    made = create_group(group, there, template, settings)
    if template is None and name in observed.foreign_templates:
        return GroupPlan(after=made.after, faults=(*made.faults, _foreign(group, "launch template", name)))
    return made


def is_ours(nodegroup: Nodegroup, pool: Pool, owner: Owner) -> bool:
    """Whether a node group was made for this pool by us."""
    return owner.owns(nodegroup.tags) and nodegroup.tags.get(NODEPOOL_TAG) == pool.name


def _foreign(group: WantedGroup, kind: str, name: str) -> Fault:
    allowed = f"a pool name that leads to no {kind} of somebody else: {name} was not made for this pool; adopt: true is not in this release"
    return Fault(path=join(group.pool.path, "name"), value=group.pool.name, allowed=allowed, source="tag gpuops.eks/owner")


def _surplus(groups: t.Sequence[WantedGroup], made: t.Sequence[WantedGroup], observed: Observed, owner: Owner) -> tuple[str, ...]:
    """A word on each group that a pool has and no longer wants; removing those comes with prune."""
    wanted = {group.name for group in made}
    pools = {group.pool.name: group.pool for group in groups}
    return tuple(
        f"Node group {name} is no longer part of pool {there.tags[NODEPOOL_TAG]} and stays: this release does not remove it."
        for name, there in sorted(observed.nodegroups.items())
        if name not in wanted and there.tags.get(NODEPOOL_TAG) in pools and owner.owns(there.tags) and there.status != "DELETING"
    )


def plan_absent(names: t.Sequence[str], observed: Observed, owner: Owner) -> Plan:
    """The node groups of these pools deleted side by side, then their launch templates.

    EKS deletes no group that it still creates or updates (ResourceInUseException): those come after the others, each when it has settled.
    """
    groups = [there for there in observed.nodegroups.values() if owner.owns(there.tags) and there.tags.get(NODEPOOL_TAG) in names]
    gone = {there.name: Wait(waiter="nodegroup_deleted", arguments=subject(owner, there.name)) for there in groups}
    deletes = [
        Step(
            action="eks:DeleteNodegroup",
            target=there.name,
            effect="delete",
            request=subject(owner, there.name),
            needs=(Wait(waiter="nodegroup_settled", arguments=subject(owner, there.name)),) if is_busy(there) else (),
        )
        for there in sorted(groups, key=is_busy)
        if there.status != "DELETING"
    ]
    by_template = {template_name(owner, name): wait for name, wait in gone.items()}
    templates = [one for one in observed.templates.values() if owner.owns(one.tags) and one.tags.get(NODEPOOL_TAG) in names]
    deletes += [
        Step(
            action="ec2:DeleteLaunchTemplate",
            target=template.id,
            effect="delete",
            request={"LaunchTemplateId": template.id},
            needs=(by_template[template.name],) if template.name in by_template else (),
        )
        for template in templates
    ]
    covered = {template.name for template in templates}
    waits = tuple(wait for name, wait in by_template.items() if name not in covered)
    before = {there.name: {"status": there.status} for there in groups}
    return Plan(steps=tuple(deletes), waits=waits, before=before, after={})
