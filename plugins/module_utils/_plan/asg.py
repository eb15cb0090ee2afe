# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""From the Auto Scaling groups that pools should consist of and those that are there: the calls that make them equal. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup, InstanceProfile, Refresh
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import COMPONENT_TAG, Owner, short_name, tag_list
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_create import MIXED, GroupPlan, create_group, subject, subjects
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_drain import Leaving, as_held, cordoned, drained, evicted, held
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import (
    COMPONENT,
    POOL_TAG,
    Settings,
    group_id,
    template_name,
    template_tags,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_update import Seen, is_emptied, update_adopted, update_group
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import unfit_tags
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts, Resolution, WantedGroup, resolve_groups
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait, needing

_MOST_TAGS = 50  # EC2 Auto Scaling user guide, tag restrictions
Concerned = t.Callable[[t.Optional[str]], bool]
# What IAM says of a role, or of a profile, that was made a moment ago.
_NOT_KNOWN_YET = (r"^NoSuchEntity: ",)
_PROFILE_LIMIT = 128  # IAM API Reference, CreateInstanceProfile


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What is there: groups of ours by name, those of others that have a name of ours, our launch templates with the versions that were read,
    what the description of a version says by (id, version), refreshes by group, instance profiles by the pools that use them, and those of pools that go,
    nodes that have to be drained by the group that goes with them."""

    groups: t.Mapping[str, AutoScalingGroup] = field(default_factory=dict)
    templates: t.Mapping[str, LaunchTemplate] = field(default_factory=dict)
    foreign_templates: frozenset[str] = frozenset()
    descriptions: t.Mapping[tuple[str, str], str] = field(default_factory=dict)
    refreshes: t.Mapping[str, Refresh] = field(default_factory=dict)
    profiles: t.Mapping[str, InstanceProfile] = field(default_factory=dict)
    surplus_profiles: tuple[InstanceProfile, ...] = ()
    leaving: t.Mapping[str, tuple[Leaving, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PoolsPlan:
    """The plan, what no pool wants any more, the groups as they will be, and what stands against it. ``closing`` comes before any removal."""

    plan: Plan = field(default_factory=Plan)
    closing: Plan = field(default_factory=Plan)
    removal: Plan = field(default_factory=Plan)
    after: t.Mapping[str, AutoScalingGroup] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def resolve(pool: Pool, subnets: t.Sequence[Subnet], facts: Ec2Facts) -> Resolution:
    """The groups that a pool consists of: as node groups, but On-Demand and Spot instances may be in one."""
    if not pool.capacity.mixed:
        return resolve_groups(pool, subnets, facts)
    resolution = resolve_groups(dataclasses.replace(pool, capacity=dataclasses.replace(pool.capacity, types=(MIXED,))), subnets, facts)
    return dataclasses.replace(resolution, groups=tuple(dataclasses.replace(group, pool=pool) for group in resolution.groups))


def profile_name(owner: Owner, pool: str) -> str:
    """The name of a pool's instance profile. IAM has one space of names for all regions."""
    return short_name(owner.cluster_name, owner.region, pool, "nodes", limit=_PROFILE_LIMIT)


def is_ours(group: AutoScalingGroup, owner: Owner, pool: str) -> bool:
    """Whether a group was made for this pool by us."""
    return owner.owns(group.tags) and group.tags.get(NODEPOOL_TAG) == pool


def is_adopted(group: WantedGroup, there: AutoScalingGroup | None, owner: Owner) -> bool:
    """Whether a group is somebody else's that the user put under management."""
    return there is not None and group.pool.adopt and not is_ours(there, owner, group.pool.name)


def takes_part(group: WantedGroup, there: AutoScalingGroup | None, owner: Owner, *, prune: bool = False) -> bool:
    """Whether a group is made or kept up to date. One whose share is 0 nodes is not made, but its settings hold where it is there.

    With ``prune`` it does not stay where it is the user who left it no node.
    """
    if group.max > 0:
        return True
    return not (prune and is_emptied(group)) and there is not None and not there.deleting and is_ours(there, owner, group.pool.name)


def _nothing_is_pruned(pool: str | None) -> bool:
    return False


def plan_pools(
    groups: t.Sequence[WantedGroup], observed: Observed, settings: Settings, *, prunes: Concerned = _nothing_is_pruned
) -> PoolsPlan:
    """Creates and updates side by side: first the calls that can be made at once, then those that need one of them done.

    ``prunes`` says of which pools, by name, groups that no pool wants any more are removed.
    """
    owner = settings.owner
    made = [
        group
        for group in groups
        if takes_part(group, observed.groups.get(group_id(owner, group.name)), owner, prune=prunes(group.pool.name))
    ]
    parts = [_plan_group(group, observed, settings) for group in made]
    pools = {
        group.pool.name: group.pool for group in made if not is_adopted(group, observed.groups.get(group_id(owner, group.name)), owner)
    }
    profiles = [step for pool in pools.values() for step in profile_steps(pool, observed.profiles.get(pool.name), settings)]
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    for part in parts:
        if part.fields:
            if part.after.name in observed.groups:
                before[part.after.name] = {name: old for name, (old, _new) in part.fields.items()}
            after[part.after.name] = {name: new for name, (_old, new) in part.fields.items()}
    plan = Plan(
        steps=_ordered(parts, profiles),
        waits=tuple(wait for part in parts for wait in part.waits),
        before=before,
        after=after,
        warnings=(*(warning for part in parts for warning in part.warnings), *_staying(groups, observed, owner, prunes)),
    )
    faults = tuple(fault for part in parts for fault in part.faults)
    kept = [group.name for group in made]
    return PoolsPlan(
        plan=plan,
        closing=plan_closing(prunes, observed, owner, kept),
        removal=plan_removal(prunes, observed, owner, kept),
        after={part.after.name: part.after for part in parts},
        faults=faults,
    )


def _ordered(parts: t.Sequence[GroupPlan], profiles: t.Sequence[Step]) -> tuple[Step, ...]:
    """Launch templates first, since an instance profile is found by them when pools are removed; what launches comes after both."""
    steps = [step for part in parts for step in part.steps]
    templates = [step for step in steps if step.action == "ec2:CreateLaunchTemplate"]
    others = [step for step in steps if step.action != "ec2:CreateLaunchTemplate"]
    return (*templates, *profiles, *others, *(step for part in parts for step in part.later))


def profile_steps(pool: Pool, there: InstanceProfile | None, settings: Settings) -> list[Step]:
    """The steps to an instance profile of ours with the pool's role in it; none where the user named one."""
    if pool.instance_profile or not pool.node_role:
        return []
    name, role = profile_name(settings.owner, pool.name), pool.node_role.rpartition("/")[2]
    if there is not None and there.role == role:
        return []
    both = {"InstanceProfileName": name, "RoleName": role}
    add = Step(
        action="iam:AddRoleToInstanceProfile",
        target=name,
        effect="update",
        fields=("iam.node_role",),
        request=both,
        passing=_NOT_KNOWN_YET,
    )
    if there is None:
        tags = tag_list(template_tags(settings.owner, pool))
        create = Step(action="iam:CreateInstanceProfile", target=name, effect="create", request={"InstanceProfileName": name, "Tags": tags})
        return [create, add]
    if there.role is None:
        return [add]
    out = {"InstanceProfileName": name, "RoleName": there.role}
    remove = Step(action="iam:RemoveRoleFromInstanceProfile", target=name, effect="update", fields=("iam.node_role",), request=out)
    return [remove, add]


def _plan_group(group: WantedGroup, observed: Observed, settings: Settings) -> GroupPlan:
    owner = settings.owner
    name, template = group_id(owner, group.name), observed.templates.get(template_name(owner, group.name))
    there = observed.groups.get(name)
    if there is not None and not is_ours(there, owner, group.pool.name):
        if is_adopted(group, there, owner) and not there.deleting:
            return update_adopted(group, there, settings)
        return GroupPlan(after=there, faults=(_foreign(group, "Auto Scaling group", name, "set adopt: true to take it over"),))
    if there is not None and not there.deleting:
        key = there.template or ("", "")
        seen = Seen(
            group=there, template=template, description=observed.descriptions.get(key, ""), refresh=observed.refreshes.get(there.name)
        )
        part = update_group(group, seen, settings)
    else:
        part = create_group(group, there, template, settings)
        taken = template_name(owner, group.name)
        if template is None and taken in observed.foreign_templates:
            return dataclasses.replace(part, faults=(_foreign(group, "launch template", taken, "remove it"),))
    return dataclasses.replace(part, faults=(*part.faults, *_tag_faults(group, part.after)))


def _tag_faults(group: WantedGroup, after: AutoScalingGroup) -> tuple[Fault, ...]:
    """Tags that a group cannot carry. A tag that is missing would be a node that the autoscaler does not know."""
    path = join(group.pool.path, "labels")
    source = "EC2 Auto Scaling API Reference, Tag"
    faults = [
        Fault(path=path, value=key.rpartition("/")[2], allowed="keys and values that fit into the tags of the group", source=source)
        for key in unfit_tags(after.tags)
    ]
    if len(after.tags) > _MOST_TAGS:
        allowed = f"so many labels, taints and tags that the group has at most {_MOST_TAGS} tags"
        faults.append(Fault(path=path, value=len(after.tags), allowed=allowed, source=source))
    return tuple(faults)


def _foreign(group: WantedGroup, kind: str, name: str, remedy: str) -> Fault:
    allowed = f"a pool name that leads to no {kind} of somebody else: {name} was not made for this pool; {remedy}, or choose another name"
    return Fault(path=join(group.pool.path, "name"), value=group.pool.name, allowed=allowed, source="tag gpuops.eks/owner")


def _staying(groups: t.Sequence[WantedGroup], observed: Observed, owner: Owner, prunes: Concerned) -> list[str]:
    """A word on each group that a pool has and no longer wants; one whose share is 0 nodes is still wanted."""
    wanted = {group_id(owner, group.name) for group in groups}
    pools = {group.pool.name for group in groups}
    return [
        f"Auto Scaling group {name} is no longer part of pool {pool} and stays; prune: true would remove it."
        for name, there in sorted(observed.groups.items())
        if name not in wanted
        and owner.owns(there.tags)
        and (pool := there.tags.get(NODEPOOL_TAG)) in pools
        and not there.deleting
        and not prunes(pool)
    ]


def surplus_templates(
    concerned: Concerned, templates: t.Mapping[str, LaunchTemplate], owner: Owner, kept: t.Iterable[str] = ()
) -> list[LaunchTemplate]:
    """Our launch templates of Auto Scaling groups of the pools concerned, besides those of the groups that are kept."""
    names = {template_name(owner, group) for group in kept}
    return [
        template
        for name, template in sorted(templates.items())
        if name not in names
        and owner.owns(template.tags)
        and template.tags.get(COMPONENT_TAG) == COMPONENT
        and concerned(template.tags.get(POOL_TAG))
    ]


def plan_absent(names: t.Collection[str], observed: Observed, owner: Owner) -> Plan:
    """The groups of these pools, with all that was made for them, removed."""
    return plan_removal(lambda pool: pool in names, observed, owner)


def going(concerned: Concerned, observed: Observed, owner: Owner, kept: t.Iterable[str] = ()) -> list[AutoScalingGroup]:
    """The groups of the pools concerned that are removed, or are on their way out: all besides those that are kept."""
    stay = {group_id(owner, group) for group in kept}
    return [
        there
        for name, there in sorted(observed.groups.items())
        if name not in stay and owner.owns(there.tags) and concerned(there.tags.get(NODEPOOL_TAG))
    ]


def plan_closing(concerned: Concerned, observed: Observed, owner: Owner, kept: t.Iterable[str] = ()) -> Plan:
    """Before nodes are drained: no group that goes gets another node, and no node that goes gets another pod."""
    if not observed.leaving:
        return Plan()
    groups = [there for there in going(concerned, observed, owner, kept) if not there.deleting]
    cordons = [step for there in groups for step in cordoned(observed.leaving.get(there.name, ()))]
    return Plan(steps=(*(step for there in groups for step in held(there)), *cordons))


def plan_removal(concerned: Concerned, observed: Observed, owner: Owner, kept: t.Collection[str] = ()) -> Plan:
    """The groups of the pools concerned emptied side by side and deleted, then their instance profiles, and their launch templates last.

    A group is emptied once its nodes are drained, as far as there are any to be drained; with its limits at 0, so that no autoscaler fills it again.
    """
    groups = going(concerned, observed, owner, kept)
    here = [there for there in groups if not there.deleting]
    steps = [step for there in here for step in evicted(observed.leaving.get(there.name, ()))]
    for there in here:
        nodes = observed.leaving.get(there.name, ())
        steps += needing(_emptied(as_held(there) if observed.leaving else there), *drained(nodes))
    steps += [_deleted(there) for there in here]
    gone = tuple(Wait(waiter="auto_scaling_group_deleted", arguments=subjects(there.name)) for there in groups)
    rest = [step for profile in observed.surplus_profiles for step in _profile_removed(profile, owner)]
    rest += [
        Step(action="ec2:DeleteLaunchTemplate", target=template.id, effect="delete", request={"LaunchTemplateId": template.id})
        for template in surplus_templates(concerned, observed.templates, owner, kept)
    ]
    before = {there.name: {"min": there.min, "max": there.max, "desired": there.desired} for there in groups}
    return Plan(steps=(*steps, *needing(rest, *gone)), waits=() if rest else gone, before=before, after={})


def _deleted(there: AutoScalingGroup) -> Step:
    waits = ["auto_scaling_group_empty", *(["warm_pool_deleted"] if there.warm_pool else [])]
    return Step(
        action="autoscaling:DeleteAutoScalingGroup",
        target=there.name,
        effect="delete",
        request=subject(there.name),
        needs=tuple(Wait(waiter=waiter, arguments=subjects(there.name)) for waiter in waits),
    )


def _emptied(there: AutoScalingGroup) -> list[Step]:
    steps = []
    if (there.min, there.max, there.desired) != (0, 0, 0):
        request = {**subject(there.name), "MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0}
        steps.append(Step(action="autoscaling:UpdateAutoScalingGroup", target=there.name, effect="delete", request=request))
    if there.warm_pool is not None and not there.warm_pool.deleting:
        request = {**subject(there.name), "ForceDelete": True}
        steps.append(Step(action="autoscaling:DeleteWarmPool", target=there.name, effect="delete", request=request))
    return steps


def _profile_removed(profile: InstanceProfile, owner: Owner) -> list[Step]:
    if not owner.owns(profile.tags):
        return []
    named = {"InstanceProfileName": profile.name}
    steps = []
    if profile.role:
        request = {**named, "RoleName": profile.role}
        steps.append(Step(action="iam:RemoveRoleFromInstanceProfile", target=profile.name, effect="delete", request=request))
    return [*steps, Step(action="iam:DeleteInstanceProfile", target=profile.name, effect="delete", request=named)]
