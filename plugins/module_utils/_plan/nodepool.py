# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""From the groups that pools should consist of and those that are there: the calls that make them equal. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_adopt import absent_warnings, is_adopted, update_adopted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import GroupPlan, Settings, create_group, is_half_made
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_remove import remove
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_replace import is_made, is_ours
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_scaling_tags import with_scaling_tags
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import template_name
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_update import update_group
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan

Concerned = t.Callable[[t.Optional[str]], bool]


def _nothing_is_pruned(pool: str | None) -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is there: node groups whose names may be of these pools, launch templates of ours, names that templates of others have."""

    nodegroups: t.Mapping[str, Nodegroup] = field(default_factory=dict)
    templates: t.Mapping[str, LaunchTemplate] = field(default_factory=dict)
    foreign_templates: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class PoolsPlan:
    """The plan, what goes after it, the node groups as they will be, and what stands against it."""

    plan: Plan = field(default_factory=Plan)
    removal: Plan = field(default_factory=Plan)
    after: t.Mapping[str, Nodegroup] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def plan_pools(
    groups: t.Sequence[WantedGroup], observed: Observed, settings: Settings, *, prunes: Concerned = _nothing_is_pruned
) -> PoolsPlan:
    """Creates, updates and resumes side by side: first the calls that can be made at once, then those that need one of them done."""
    owner = settings.owner
    made = [group for group in groups if takes_part(group, observed.nodegroups.get(group.name), owner, prune=prunes(group.pool.name))]
    pools, replaced = {group.pool.name for group in groups}, {name for group in made for name in group.replaces}
    surplus = _surplus(made, observed, owner, lambda pool: pool in pools or prunes(pool))
    goes = [there for there in surplus if there.name in replaced or prunes(there.tags.get(NODEPOOL_TAG))]
    stays = [there for there in surplus if there not in goes and there.status != "DELETING"]
    parts = [with_scaling_tags(_plan_group(group, observed, settings), group, owner) for group in made]
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    for part in parts:
        if part.fields:
            if observed.nodegroups.get(part.after.name) is not None:
                before[part.after.name] = {name: old for name, (old, _new) in part.fields.items()}
            after[part.after.name] = {name: new for name, (_old, new) in part.fields.items()}
    plan = Plan(
        steps=(
            *(step for part in parts for step in part.steps),
            *(step for part in parts for step in part.later),
            *(step for part in parts for step in part.last),
        ),
        waits=tuple(wait for part in parts for wait in part.waits),
        before=before,
        after=after,
        warnings=(*(warning for part in parts for warning in part.warnings), *map(_stays, stays)),
    )
    faults = tuple(fault for part in parts for fault in part.faults)
    removal = _removal(made, goes, observed, owner, prunes)
    return PoolsPlan(plan=plan, removal=removal, after={part.after.name: part.after for part in parts}, faults=faults)


def takes_part(group: WantedGroup, there: Nodegroup | None, owner: Owner, *, prune: bool = False) -> bool:
    """Whether a group is made or kept up to date. One whose share is 0 nodes is not made, but its settings hold where it is there.

    With ``prune`` it does not stay where it is the user who left it no node.
    """
    if group.max > 0 or is_adopted(group.pool, there, owner):
        return True
    if prune and group.emptied:
        return False
    return there is not None and is_ours(there, group.pool, owner) and there.status != "DELETING" and not is_half_made(there)


def _plan_group(group: WantedGroup, observed: Observed, settings: Settings) -> GroupPlan:
    owner = settings.owner
    there = observed.nodegroups.get(group.name)
    name = template_name(owner, group.name)
    template = observed.templates.get(name)
    if there is not None and not is_ours(there, group.pool, owner):
        if group.pool.adopt:
            return update_adopted(group, there, settings)
        return GroupPlan(
            after=there, faults=(_foreign(group, "node group", group.name, "adopt: true takes it over, or choose another name"),)
        )
    if there is not None and not is_made(group, there):
        return update_group(group, there, template, settings)
    old = [observed.nodegroups[one] for one in group.replaces if one in observed.nodegroups]
    replaced = next((one.name for one in old if is_ours(one, group.pool, owner)), None)
    made = create_group(group, there, template, settings, replaced=replaced)
    if template is None and name in observed.foreign_templates:
        return GroupPlan(
            after=made.after, faults=(*made.faults, _foreign(group, "launch template", name, "remove it, or choose another name"))
        )
    return made


def _foreign(group: WantedGroup, kind: str, name: str, remedy: str) -> Fault:
    allowed = f"a pool name that leads to no {kind} of somebody else: {name} was not made for this pool; {remedy}"
    return Fault(path=join(group.pool.path, "name"), value=group.pool.name, allowed=allowed, source="tag gpuops.eks/owner")


def _surplus(made: t.Sequence[WantedGroup], observed: Observed, owner: Owner, concerned: Concerned) -> list[Nodegroup]:
    """Our groups that none of the pools ``concerned`` consists of any more."""
    wanted = {group.name for group in made}
    return [
        there
        for name, there in sorted(observed.nodegroups.items())
        if name not in wanted and owner.owns(there.tags) and concerned(there.tags.get(NODEPOOL_TAG))
    ]


def _stays(there: Nodegroup) -> str:
    return f"Node group {there.name} is no longer part of pool {there.tags[NODEPOOL_TAG]} and stays; prune: true would remove it."


def _removal(made: t.Sequence[WantedGroup], surplus: t.Sequence[Nodegroup], observed: Observed, owner: Owner, prunes: Concerned) -> Plan:
    """The groups of ``surplus`` and their launch templates removed, with the templates that an interrupted run left."""
    replaced = {name for group in made for name in group.replaces}
    old = {template_name(owner, name) for name in replaced}
    wanted = {template_name(owner, group.name) for group in made}
    templates = [
        template
        for name, template in sorted(observed.templates.items())
        if name not in wanted and owner.owns(template.tags) and (name in old or prunes(template.tags.get(NODEPOOL_TAG)))
    ]
    return remove(surplus, templates, owner, replaced=replaced)


def plan_absent(names: t.Sequence[str], observed: Observed, owner: Owner) -> Plan:
    """All node groups of these pools deleted, and their launch templates; one that a pool has adopted stays."""

    def goes(tags: t.Mapping[str, str]) -> bool:
        return owner.owns(tags) and tags.get(NODEPOOL_TAG) in names

    groups = [there for there in observed.nodegroups.values() if goes(there.tags)]
    plan = remove(groups, [template for template in observed.templates.values() if goes(template.tags)], owner)
    return dataclasses.replace(plan, warnings=absent_warnings(names, observed.nodegroups, owner))
