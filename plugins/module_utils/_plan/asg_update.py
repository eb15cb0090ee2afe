# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""An Auto Scaling group that is there: one update for all that differs, tags, and its instances replaced where their template does. Pure."""

from __future__ import annotations

import copy
import dataclasses
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup, Reference, Refresh
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, TemplateContent, merged
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_create import (
    MIXED,
    NOT_READY,
    SUSPENDED,
    Data,
    Fields,
    GroupPlan,
    group_tags,
    in_service,
    on_demand,
    put_warm_pool,
    subject,
    suspend,
    tag_requests,
    warm_pool_over,
    warm_view,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_image import ImageSource, with_family_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import (
    Settings,
    content_of_existing,
    ensure_version,
    kept_instances,
    kept_types,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import PREFIX, TEMPLATE_PREFIX, template_tags
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait, is_planned, planned

# Parameters of autoscaling:UpdateAutoScalingGroup that the user's own words may set; the others are only sent at creation.
_UPDATABLE = frozenset(
    {
        "AvailabilityZoneDistribution",
        "AvailabilityZoneImpairmentPolicy",
        "CapacityRebalance",
        "CapacityReservationSpecification",
        "Context",
        "DefaultCooldown",
        "DefaultInstanceWarmup",
        "DeletionProtection",
        "DesiredCapacityType",
        "HealthCheckGracePeriod",
        "HealthCheckType",
        "InstanceLifecyclePolicy",
        "InstanceMaintenancePolicy",
        "MaxInstanceLifetime",
        "MixedInstancesPolicy",
        "NewInstancesProtectedFromScaleIn",
        "PlacementGroup",
        "ServiceLinkedRoleARN",
        "TerminationPolicies",
    }
)
# Of the tags that the autoscaler reads, those that always follow from what the nodes are.
_FOLLOWING = tuple(f"{TEMPLATE_PREFIX}{kind}/" for kind in ("label", "taint", "resources"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What there is of a group: itself, its template with the versions that were read, the description of its version, its last refresh."""

    group: AutoScalingGroup
    template: LaunchTemplate | None = None
    description: str = ""
    refresh: Refresh | None = None

    @property
    def image(self) -> ImageSource | None:
        """What the image was chosen by."""
        return ImageSource.from_text(self.description)

    @property
    def content(self) -> TemplateContent | None:
        used = self.group.template
        return self.template.versions.get(used[1]) if self.template and used and used[0] == self.template.id else None


def update_group(group: WantedGroup, seen: Seen, settings: Settings) -> GroupPlan:
    """One autoscaling:UpdateAutoScalingGroup for all that it takes, tags, and a refresh of the instances that another template made."""
    there = seen.group
    group = dataclasses.replace(group, pool=with_family_of(group.pool, seen.image))
    versions, reference, content, fields = _template(group, seen, settings)
    request, changes, after = _config(group, there, reference)
    if reference != there.template:
        changes = {**changes, "launch_template.version": (there.template and there.template[1], reference and reference[1])}
    steps = [*versions]
    if request:
        update = Step(
            action="autoscaling:UpdateAutoScalingGroup",
            target=there.name,
            effect="update",
            fields=tuple(changes),
            request={**subject(there.name), **request},
            passing=NOT_READY if versions else (),
        )
        steps.append(update)
    tags, tag_fields, after = _tags(group, after, content, settings)
    steps += tags
    if not there.suspended >= set(SUSPENDED):
        steps.append(suspend(there.name))
        after = dataclasses.replace(after, suspended=after.suspended | set(SUSPENDED))
    warm = warm_pool_over(group.pool.warm_pool, there.warm_pool) if group.pool.warm_pool else there.warm_pool
    if warm is not None and warm != there.warm_pool:
        steps.append(put_warm_pool(there.name, warm))
        after = dataclasses.replace(after, warm_pool=warm)
    refresh, waits = _refresh(seen, after)
    grows = after.desired > there.desired or there.in_service < after.min
    fields = {**{name: pair for name, pair in changes.items() if name != "launch_template.version"}, **fields, **tag_fields}
    if warm != there.warm_pool:
        fields["warm_pool"] = (warm_view(there.warm_pool), warm_view(warm))
    return GroupPlan(
        after=after,
        steps=tuple(steps),
        later=tuple(refresh),
        waits=(*waits, *((in_service(there.name),) if grows else ())),
        fields=fields,
        warnings=_warnings(group, seen, after),
    )


def update_adopted(group: WantedGroup, there: AutoScalingGroup, settings: Settings) -> GroupPlan:
    """A group that somebody else made: its limits and the tags that the user's options consist of. Its template is its owner's."""
    request, fields, after = _scaling(group, there)
    steps = []
    if request:
        steps.append(
            Step(
                action="autoscaling:UpdateAutoScalingGroup",
                target=there.name,
                effect="update",
                fields=tuple(fields),
                request={**subject(there.name), **request},
            )
        )
    wanted = {**_adopted_tags(group), **(group.pool.tags or {})}
    to_set, _none = tag_changes(wanted, there.tags, purge=False)
    steps += _tag_steps(there, to_set, [], settings)
    fields |= {f"tags.{key}": (there.tags.get(key), value) for key, value in to_set.items()}
    after = dataclasses.replace(after, tags={**there.tags, **to_set})
    return GroupPlan(after=after, steps=tuple(steps), fields=fields)


def _adopted_tags(group: WantedGroup) -> dict[str, str]:
    """Of what the autoscaler reads, only what the user set."""
    pool = group.pool
    read = template_tags(pool, group.gpu_count, instance=next(iter(group.matching), None))
    kinds = {
        "taint/": pool.taints is not None,
        "resources/nvidia.com/": pool.sharing is not None or pool.mig is not None,
        "autoscaling-options/": True,
    }
    prefixes = tuple(f"{TEMPLATE_PREFIX}{kind}" for kind, is_set in kinds.items() if is_set)
    labels = {f"{TEMPLATE_PREFIX}label/{key}" for key in pool.labels or ()}
    return {key: value for key, value in read.items() if key.startswith(prefixes) or key in labels}


def _template(group: WantedGroup, seen: Seen, settings: Settings) -> tuple[list[Step], Reference | None, TemplateContent, Fields]:
    """The step to a version with what differs, and what the group launches from then."""
    there, current = seen.group, seen.content
    if seen.template is None or current is None:
        return [], there.template, TemplateContent(), {}
    moved = seen.image is not None and seen.image.family not in (None, group.pool.effective_ami_family)
    wanted = content_of_existing(group, current, kept_instances(group, there), settings, moved=moved)
    if wanted == current:
        return [], there.template, current, {}
    before, after = current.view, wanted.view
    fields: Fields = {
        f"launch_template.{name}": (before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    }
    names = ", ".join(name.partition(".")[2] for name in fields) or "overrides"
    steps, reference = ensure_version(group, seen.template, wanted, settings, f"differs: {names}", seen.description)
    return steps, reference, wanted, fields or {"launch_template.overrides": (None, dict(group.pool.overrides.launch_template))}


def _config(group: WantedGroup, there: AutoScalingGroup, reference: Reference | None) -> tuple[Data, Fields, AutoScalingGroup]:
    """The request of the one update, what it changes, and the group afterwards."""
    request, fields, after = _scaling(group, there)
    if (subnets := _subnets(group, there)) is not None:
        request["VPCZoneIdentifier"] = ",".join(subnets)
        fields["subnets"] = (sorted(there.subnets), sorted(subnets))
        after = dataclasses.replace(after, subnets=subnets)
    policy, changed = _policy(group, there, reference)
    fields |= changed
    if policy != there.policy:
        request["MixedInstancesPolicy"] = policy
        after = dataclasses.replace(after, policy=policy)
    elif not there.policy and reference is not None and reference != there.template:
        request["LaunchTemplate"] = {"LaunchTemplateId": reference[0], "Version": reference[1]}
    after = dataclasses.replace(after, template=reference)
    _reservations(group, there, request, fields)
    for name, value in group.pool.overrides.auto_scaling_group.items():
        if name in _UPDATABLE and name != "MixedInstancesPolicy" and not _holds(there.api.get(name), value):
            request[name] = value
            fields[f"overrides.{name}"] = (there.api.get(name), value)
    return request, fields, after


def _reservations(group: WantedGroup, there: AutoScalingGroup, request: Data, fields: Fields) -> None:
    has = there.api.get("CapacityReservationSpecification", {})
    ids = has.get("CapacityReservationTarget", {}).get("CapacityReservationIds") or []
    if group.capacity_type != "reserved" or sorted(ids) == sorted(group.reservations):
        return
    only = {"CapacityReservationPreference": "capacity-reservations-only", **has}
    request["CapacityReservationSpecification"] = {
        **only,
        "CapacityReservationTarget": {"CapacityReservationIds": list(group.reservations)},
    }
    fields["capacity.reservations"] = (sorted(ids), sorted(group.reservations))


def _holds(there: t.Any, wanted: t.Any) -> bool:
    """Whether all of what is wanted is there; the service adds defaults of its own."""
    if isinstance(wanted, t.Mapping) and isinstance(there, t.Mapping):
        return all(_holds(there.get(key), value) for key, value in wanted.items())
    return bool(there == wanted)


def _policy(group: WantedGroup, there: AutoScalingGroup, reference: Reference | None) -> tuple[Data, Fields]:
    """The group's policy with the types, shares and template version that it should have; the rest of it stays."""
    fields: Fields = {}
    if not there.policy:
        return {}, fields
    policy: Data = copy.deepcopy(dict(there.policy))
    if reference is not None and reference != there.template:
        id_, version = reference
        policy["LaunchTemplate"]["LaunchTemplateSpecification"] = {"LaunchTemplateId": id_, "Version": version}
    types = kept_types(group, there)
    if types != there.instance_types:
        policy["LaunchTemplate"]["Overrides"] = [{"InstanceType": name} for name in types]
        fields["instance_types"] = (list(there.instance_types), list(types))
    if group.capacity_type == MIXED:
        shares = on_demand(group)
        has = {name: there.distribution.get(name) for name in shares}
        if shares != has:
            policy["InstancesDistribution"] = {**there.distribution, **shares}
            fields["capacity.on_demand"] = (list(has.values()), list(shares.values()))
    over = group.pool.overrides.auto_scaling_group.get("MixedInstancesPolicy") or {}
    if not _holds(policy, over):
        policy = merged(policy, over)
        fields["overrides.MixedInstancesPolicy"] = (there.policy, policy)
    return policy, fields


def _manages_max(pool: Pool) -> bool:
    return pool.scaling.max is not None or pool.max_gpus is not None


def is_emptied(group: WantedGroup) -> bool:
    """Whether what the user set leaves no node to a group."""
    return group.max == 0 and _manages_max(group.pool)


def _scaling(group: WantedGroup, there: AutoScalingGroup) -> tuple[Data, Fields, AutoScalingGroup]:
    """Only what the user set; the number of nodes an autoscaler chose is touched only to stay within new limits."""
    pool = group.pool
    manages_max, emptied = _manages_max(pool), is_emptied(group)
    wanted: dict[str, t.Any] = {
        "min": group.min if pool.scaling.min is not None or emptied else there.min,
        "max": group.max if manages_max else there.max,
        "desired": group.desired if pool.scaling.desired is not None or emptied else there.desired,
    }
    wanted["desired"] = max(wanted["min"], min(wanted["desired"], wanted["max"]))
    observed = {"min": there.min, "max": there.max, "desired": there.desired}
    changed = {name: value for name, value in wanted.items() if value != observed[name]}
    names = {"min": "MinSize", "max": "MaxSize", "desired": "DesiredCapacity"}
    fields: Fields = {f"scaling.{name}": (observed[name], value) for name, value in changed.items()}
    return {names[name]: value for name, value in changed.items()}, fields, dataclasses.replace(there, **wanted)


def _subnets(group: WantedGroup, there: AutoScalingGroup) -> tuple[str, ...] | None:
    """The subnets where they are to be others: the user named subnets or zones, and all of them are known."""
    named = bool(group.pool.subnets or group.pool.zones)
    wanted = group.subnet_ids
    known = not any(is_planned(subnet) for subnet in wanted)
    return wanted if named and known and set(wanted) != set(there.subnets) else None


def _tags(
    group: WantedGroup, there: AutoScalingGroup, content: TemplateContent, settings: Settings
) -> tuple[list[Step], Fields, AutoScalingGroup]:
    """Tags that follow from the pool are always managed, the user's where they are set."""
    wanted = group_tags(group, content, settings, there) if content.data else {}
    if not wanted:
        return [], {}, there
    to_set, surplus = tag_changes(wanted, there.tags, purge=settings.purge_tags)
    if group.pool.tags is None:
        surplus = []
    kept = [key for key in surplus if not key.startswith(PREFIX)]
    surplus = sorted({*kept, *(key for key in there.tags if key.startswith(_FOLLOWING) and key not in wanted)})
    steps = _tag_steps(there, to_set, surplus, settings)
    tags = {key: value for key, value in {**there.tags, **to_set}.items() if key not in surplus}
    fields: Fields = {f"tags.{key}": (there.tags.get(key), tags.get(key)) for key in (*to_set, *surplus)}
    return steps, fields, dataclasses.replace(there, tags=tags)


def _tag_steps(there: AutoScalingGroup, to_set: t.Mapping[str, str], surplus: t.Sequence[str], settings: Settings) -> list[Step]:
    steps = []
    if to_set:
        request: Data = {"Tags": tag_requests(settings.owner, there.name, to_set)}
        steps.append(_tag_step("autoscaling:CreateOrUpdateTags", there.name, to_set, request))
    if surplus:
        request = {"Tags": [{"ResourceId": there.name, "ResourceType": "auto-scaling-group", "Key": key} for key in surplus]}
        steps.append(_tag_step("autoscaling:DeleteTags", there.name, surplus, request))
    return steps


def _tag_step(action: str, target: str, keys: t.Iterable[str], request: Data) -> Step:
    return Step(action=action, target=target, effect="update", fields=tuple(f"tags.{key}" for key in sorted(keys)), request=request)


def _refresh(seen: Seen, after: AutoScalingGroup) -> tuple[list[Step], list[Wait]]:
    """The step that replaces instances that another template made, and its wait; a refresh that runs is waited for first.

    Only where there are such instances: nothing is replaced because of a run that changes nothing.
    """
    there, last = seen.group, seen.refresh
    running = [_refreshed(there.name, last.id)] if last is not None and last.running else []
    if not dataclasses.replace(after, instances=there.instances).stale:
        return [], running
    if running and after.template == there.template and after.instance_types == there.instance_types:
        return [], running
    id_ = planned("instance-refresh", there.name)
    step = Step(
        action="autoscaling:StartInstanceRefresh",
        target=there.name,
        effect="update",
        reason="instances are replaced, a few at a time; Auto Scaling does not drain them, the termination handler does where it runs",
        request={**subject(there.name), "Strategy": "Rolling", "Preferences": {"SkipMatching": True}},
        binds={id_: "InstanceRefreshId"},
        needs=tuple(running),
    )
    return [step], [_refreshed(there.name, id_)]


def _refreshed(name: str, id_: str) -> Wait:
    return Wait(waiter="instance_refresh_successful", arguments={**subject(name), "InstanceRefreshIds": [id_]})


def _warnings(group: WantedGroup, seen: Seen, after: AutoScalingGroup) -> tuple[str, ...]:
    there = seen.group
    warnings = []
    new = [name for name in group.instance_types if name not in after.instance_types] if after.instance_types else []
    if new:
        warnings.append(f"Auto Scaling group {there.name} keeps its instance types; now matching as well: {', '.join(new)}.")
    added = [subnet for subnet in group.subnet_ids if subnet not in after.subnets and not is_planned(subnet)]
    if added:
        warnings.append(f"Auto Scaling group {there.name} keeps its subnets; now there as well: {', '.join(added)}.")
    if seen.content is None:
        warnings.append(
            f"Auto Scaling group {there.name} does not launch from a launch template of ours, so that its image, disk and user data are not managed."
        )
    return tuple(warnings)
