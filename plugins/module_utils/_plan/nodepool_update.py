# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A node group that is there: what is changed in place, what needs another version of its launch template, what cannot be changed. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import LATEST
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import minor
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    ACCELERATOR_LABEL,
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    NODEPOOL_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, merged
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import (
    Nodegroup,
    release_order,
    taint_to_api,
    warm_pool_to_api,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import WarmPool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import RESOURCES_PREFIX
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import MARK
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import (
    Fields,
    GroupPlan,
    Settings,
    is_busy,
    subject,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_replace import immutable
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import (
    TEMPLATE_NOT_READY,
    content_of_existing,
    ensure_version,
    group_tags,
    manages_template,
    pool_tags,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait, is_planned, planned

_OWN_LABELS = (NODEPOOL_LABEL, GPU_PRESENT_LABEL, DEVICE_PLUGIN_CONFIG_LABEL, ACCELERATOR_LABEL)
_LEAST_MAX = 1  # EKS API Reference, NodegroupScalingConfig: maxSize is at least 1
_BOTTLEROCKET = "BOTTLEROCKET"  # how its AMI types begin
# Tags by which an autoscaler knows a group's nodes and settings; who runs the autoscaler sets them.
_AUTOSCALER_PREFIXES = ("k8s.io/", "kubernetes.io/")
_DERIVED = (RESOURCES_PREFIX, MARK)
_DISK_TAG, _EFA_TAG = f"{RESOURCES_PREFIX}ephemeral-storage", f"{RESOURCES_PREFIX}vpc.amazonaws.com/efa"
_CUSTOM = "CUSTOM"  # the AMI type of an image of the user's own
_ROLLBACK_SOURCE = "EKS API Reference, UpdateNodegroupVersion: no roll back to an earlier AMI version"
_IMMUTABLE_SOURCE = "EKS API Reference, UpdateNodegroupConfig: not among its parameters"


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """What one kind of setting adds to eks:UpdateNodegroupConfig, and what it changes."""

    request: t.Mapping[str, t.Any] = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    after: t.Mapping[str, t.Any] = field(default_factory=dict)
    reason: str = ""


def update_group(group: WantedGroup, there: Nodegroup, template: LaunchTemplate | None, settings: Settings) -> GroupPlan:
    """One eks:UpdateNodegroupConfig for all that it takes, tags, and a new launch template version where its content differs."""
    aspects = settable(group, there, _labels(group, there))
    plan = changes(group, there, template, settings, aspects=aspects, tags=_tags(group, there, settings))
    warnings = (*_warnings(group, there, template), *version_warnings(group, there, settings))
    return dataclasses.replace(plan, warnings=warnings, faults=(*_immutable(group, there), *release_faults(group, there, settings)))


def settable(group: WantedGroup, there: Nodegroup, labels: Aspect | None) -> list[Aspect | None]:
    """What eks:UpdateNodegroupConfig takes, with these labels."""
    return [_scaling(group, there), labels, *(kind(group, there) for kind in (_taints, _update, _repair, _warm_pool))]


def changes(
    group: WantedGroup,
    there: Nodegroup,
    template: LaunchTemplate | None,
    settings: Settings,
    *,
    aspects: t.Iterable[Aspect | None],
    tags: tuple[t.Mapping[str, str], t.Sequence[str]],
) -> GroupPlan:
    """The calls for these aspects, for tags (to set, to remove), and for the launch template, each when the one before is done."""
    active = Wait(waiter="nodegroup_active", arguments=subject(settings.owner, there.name))
    config, config_fields, after = _config(there, settings, [aspect for aspect in aspects if aspect is not None])
    versions, version_fields, after = _template(group, after, template, settings)
    tagging, tag_fields, after = _tagged(after, *tags)
    needs = (active,) if is_busy(there) else ()
    waits = list(needs)
    first: list[Step] = []
    later: list[Step] = []
    for step in (*config, *versions):
        update = step.action != "ec2:CreateLaunchTemplateVersion"
        (later if update and needs else first).append(dataclasses.replace(step, needs=needs) if update else step)
        if update:
            waits = [_update_wait(step, settings)]
            needs = (waits[0],)
    # The mark is what an interrupted run sees of user data that is still in force.
    (later if later and MARK in tags[1] else first).extend(tagging)
    fields = {**config_fields, **tag_fields, **version_fields}
    return GroupPlan(after=after, steps=tuple(first), later=tuple(later), waits=tuple(waits), fields=fields)


def _update_wait(step: Step, settings: Settings) -> Wait:
    arguments = {"name": settings.owner.cluster_name, "nodegroupName": step.target, "updateId": next(iter(step.binds))}
    return Wait(waiter="nodegroup_update_successful", arguments=arguments)


def _config(there: Nodegroup, settings: Settings, aspects: t.Sequence[Aspect]) -> tuple[list[Step], Fields, Nodegroup]:
    if not aspects:
        return [], {}, there
    fields: Fields = {}
    request: dict[str, t.Any] = subject(settings.owner, there.name)
    after: dict[str, t.Any] = {}
    for aspect in aspects:
        fields.update(aspect.fields)
        request.update(aspect.request)
        after.update(aspect.after)
    step = Step(
        action="eks:UpdateNodegroupConfig",
        target=there.name,
        effect="update",
        fields=tuple(fields),
        reason="; ".join(aspect.reason for aspect in aspects if aspect.reason),
        request=request,
        binds={planned("update", f"{there.name}/config"): "update.id"},
    )
    return [step], fields, dataclasses.replace(there, **after)


def _scaling(group: WantedGroup, there: Nodegroup) -> Aspect | None:
    """Only what the user set; the number of nodes an autoscaler chose is touched only to stay within new limits."""
    pool = group.pool
    wanted = {"min": there.min, "max": there.max, "desired": there.desired}
    if pool.scaling.min is not None or group.emptied:
        wanted["min"] = group.min
    if group.manages_max:
        wanted["max"] = max(group.max, _LEAST_MAX)
    if pool.scaling.desired is not None or group.emptied:
        wanted["desired"] = group.desired
    within = max(wanted["min"], min(wanted["desired"], wanted["max"]))
    reason = "" if within == wanted["desired"] else f"{wanted['desired']} nodes are outside the new limits"
    wanted["desired"] = within
    observed = {"min": there.min, "max": there.max, "desired": there.desired}
    changed = {name: value for name, value in wanted.items() if value != observed[name]}
    if not changed:
        return None
    return Aspect(
        request={"scalingConfig": {f"{name}Size": value for name, value in changed.items()}},
        fields={f"scaling.{name}": (observed[name], value) for name, value in changed.items()},
        after=changed,
        reason=reason,
    )


def _labels(group: WantedGroup, there: Nodegroup) -> Aspect | None:
    """The user's labels where they are set; ours follow from the pool, and from the AMI that the group has, and are always managed."""
    wanted = group.wanted_labels
    if ACCELERATOR_LABEL in wanted and ACCELERATOR_LABEL in there.labels and ACCELERATOR_LABEL not in (group.pool.labels or {}):
        wanted[ACCELERATOR_LABEL] = there.labels[ACCELERATOR_LABEL]  # any value serves; types that match now must not change it
    if there.ami_type.startswith(_BOTTLEROCKET):
        wanted.pop(DEVICE_PLUGIN_CONFIG_LABEL, None)
    managed = there.labels if group.pool.labels is not None else _OWN_LABELS
    return label_aspect(there, wanted, sorted(key for key in managed if key in there.labels and key not in wanted))


def label_aspect(there: Nodegroup, wanted: t.Mapping[str, str], surplus: t.Sequence[str] = ()) -> Aspect | None:
    """Labels as they are wanted, and without ``surplus``."""
    to_set = {key: value for key, value in wanted.items() if there.labels.get(key) != value}
    if not to_set and not surplus:
        return None
    parts = {"addOrUpdateLabels": to_set, "removeLabels": surplus}
    labels = {key: value for key, value in {**there.labels, **to_set}.items() if key not in surplus}
    return Aspect(
        request={"labels": {name: part for name, part in parts.items() if part}},
        fields={f"labels.{key}": (there.labels.get(key), labels.get(key)) for key in (*to_set, *surplus)},
        after={"labels": labels},
    )


def _taints(group: WantedGroup, there: Nodegroup) -> Aspect | None:
    wanted = group.pool.taints
    if wanted is None or set(wanted) == set(there.taints):
        return None
    kept = {(taint.key, taint.effect) for taint in wanted}
    to_set = [taint for taint in wanted if taint not in there.taints]
    surplus = [taint for taint in there.taints if (taint.key, taint.effect) not in kept]
    parts = {"addOrUpdateTaints": to_set, "removeTaints": surplus}
    before = {taint.key: [one.to_result() for one in there.taints if one.key == taint.key] for taint in (*to_set, *surplus)}
    return Aspect(
        request={"taints": {name: [taint_to_api(taint) for taint in part] for name, part in parts.items() if part}},
        fields={f"taints[{key}]": (old, [one.to_result() for one in wanted if one.key == key]) for key, old in before.items()},
        after={"taints": wanted},
    )


def _update(group: WantedGroup, there: Nodegroup) -> Aspect | None:
    wanted = group.pool.update
    request: dict[str, t.Any] = {}
    fields: Fields = {}
    after: dict[str, t.Any] = {}
    if wanted.max_unavailable is not None and wanted.max_unavailable != there.max_unavailable:
        request["maxUnavailable"] = after["max_unavailable"] = wanted.max_unavailable
        fields["update.max_unavailable"] = (there.max_unavailable, wanted.max_unavailable)
    if wanted.strategy is not None and wanted.strategy != there.update_strategy:
        request["updateStrategy"] = wanted.strategy.upper()
        after["update_strategy"] = wanted.strategy
        fields["update.strategy"] = (there.update_strategy, wanted.strategy)
    return Aspect(request={"updateConfig": request}, fields=fields, after=after) if request else None


def _repair(group: WantedGroup, there: Nodegroup) -> Aspect | None:
    wanted = group.pool.repair
    if wanted is None or wanted == there.repair:
        return None
    request = {"nodeRepairConfig": {"enabled": wanted}}
    return Aspect(request=request, fields={"repair.enabled": (there.repair, wanted)}, after={"repair": wanted})


def _warm_pool(group: WantedGroup, there: Nodegroup) -> Aspect | None:
    wanted = group.pool.warm_pool
    if wanted is None:
        return None
    observed = there.warm_pool or WarmPool()
    given = {name: value for name, value in dataclasses.asdict(wanted).items() if value is not None}
    after = dataclasses.replace(observed, **given)
    if there.warm_pool == after:
        return None
    fields = {f"warm_pool.{name}": (getattr(observed, name), value) for name, value in given.items() if getattr(observed, name) != value}
    request = {"warmPoolConfig": warm_pool_to_api(after)}
    return Aspect(request=request, fields=fields or {"warm_pool": (None, "enabled")}, after={"warm_pool": after})


def _tags(group: WantedGroup, there: Nodegroup, settings: Settings) -> tuple[dict[str, str], list[str]]:
    """The user's tags where they are set; what cluster-autoscaler reads of the nodes follows from the pool and is always managed."""
    derived = {key: value for key, value in group_tags(settings.owner, group).items() if key.startswith(_DERIVED)}
    unset = [*([_DISK_TAG] if group.pool.disk.size_gib is None else []), *([_EFA_TAG] if group.pool.efa is None else [])]
    derived |= {key: there.tags[key] for key in unset if key in there.tags}
    wanted = derived if group.pool.tags is None else {**pool_tags(settings.owner, group.pool), **derived}
    keep = [key for key in there.tags if key.startswith((*_AUTOSCALER_PREFIXES, MARK))]
    purge = settings.purge_tags and group.pool.tags is not None
    to_set, surplus = tag_changes(wanted, there.tags, purge=purge, keep=keep)
    return to_set, [*surplus, *(key for key in there.tags if key.startswith(_DERIVED) and key not in derived)]


def _tagged(there: Nodegroup, to_set: t.Mapping[str, str], surplus: t.Sequence[str]) -> tuple[list[Step], Fields, Nodegroup]:
    calls: list[tuple[str, tuple[str, ...], dict[str, t.Any]]] = []
    if to_set:
        calls.append(("eks:TagResource", tuple(to_set), {"tags": dict(to_set)}))
    if surplus:
        calls.append(("eks:UntagResource", tuple(surplus), {"tagKeys": list(surplus)}))
    steps = [
        Step(
            action=action,
            target=there.name,
            effect="update",
            fields=tuple(f"tags.{key}" for key in keys),
            request={"resourceArn": there.arn, **request},
        )
        for action, keys, request in calls
    ]
    tags = {key: value for key, value in {**there.tags, **to_set}.items() if key not in surplus}
    fields = {f"tags.{key}": (there.tags.get(key), tags.get(key)) for key in (*to_set, *surplus)}
    return steps, fields, dataclasses.replace(there, tags=tags)


def _template(
    group: WantedGroup, there: Nodegroup, template: LaunchTemplate | None, settings: Settings
) -> tuple[list[Step], Fields, Nodegroup]:
    """A launch template version with what the user set, and the Kubernetes version that is asked for: EKS then replaces the nodes, a few at a
    time, once for both."""
    steps, fields, after = _template_version(group, there, template, settings)
    upgrade = _upgrade(there, settings)
    release = _release(group, there, settings)
    fields |= upgrade | release
    if not fields:
        return [], {}, there
    request: dict[str, t.Any] = subject(settings.owner, there.name)
    if after.launch_template != there.launch_template and after.launch_template:
        id_, version = after.launch_template
        request["launchTemplate"] = {"id": id_, "version": version}
    if upgrade:
        request["version"] = settings.kubernetes_version
        after = dataclasses.replace(after, version=settings.kubernetes_version or "")
    elif release:
        request["releaseVersion"] = release["release_version"][1]
        after = dataclasses.replace(after, release_version=release["release_version"][1])
    elif there.release_version and there.ami_type != _CUSTOM:
        request["releaseVersion"] = there.release_version
    names = [*(["launch_template.version"] if "launchTemplate" in request else []), *upgrade, *release]
    update = Step(
        action="eks:UpdateNodegroupVersion",
        target=there.name,
        effect="update",
        fields=tuple(names),
        reason="nodes are replaced, as update.max_unavailable allows",
        request=request,
        binds={planned("update", f"{there.name}/version"): "update.id"},
        passing=TEMPLATE_NOT_READY,
    )
    return [*steps, update], fields, after


def _upgrade(there: Nodegroup, settings: Settings) -> Fields:
    """The Kubernetes version of a group that is behind the one that is asked for; a group is never taken back.

    That of an image of the user's own is the image's. Source: EKS API Reference, UpdateNodegroupVersion: version.
    """
    wanted = settings.kubernetes_version
    if wanted is None or not there.version or minor(there.version) >= minor(wanted) or there.ami_type == _CUSTOM:
        return {}
    return {"version": (there.version, wanted)}


def _release(group: WantedGroup, there: Nodegroup, settings: Settings) -> Fields:
    """The release of the image that the user names, or the newest where that is the word, if the group has an earlier one."""
    wanted = settings.releases.get(group.pool.name)
    if wanted in (None, there.release_version) or _is_earlier(wanted, there) or _is_of_other_version(wanted, there):
        return {}
    return {"release_version": (there.release_version, wanted)}


def _is_earlier(release: str | None, there: Nodegroup) -> bool:
    """Whether a release is one from before that of the group."""
    return bool(release and there.release_version) and release_order(release or "") < release_order(there.release_version)


def _is_of_other_version(release: str | None, there: Nodegroup) -> bool:
    """Whether a release of Amazon Linux, which is one for a version of Kubernetes, is for another one than the group's."""
    if not release or not there.version or there.ami_type.startswith(_BOTTLEROCKET):
        return False
    return minor(release) != minor(there.version)


def release_faults(group: WantedGroup, there: Nodegroup, settings: Settings) -> tuple[Fault, ...]:
    """A release that is named and that the group cannot be taken back to; the newest may be an earlier one for a while after a release."""
    release, wanted = group.pool.ami.release, settings.releases.get(group.pool.name)
    if release in (None, LATEST) or not _is_earlier(wanted, there):
        return ()
    allowed = f"unset, or what node group {there.name} has, {there.release_version}, or a later release: EKS takes no group back"
    return (Fault(path=join(group.pool.path, "ami.release"), value=release, allowed=allowed, source=_ROLLBACK_SOURCE),)


def version_warnings(group: WantedGroup, there: Nodegroup, settings: Settings) -> tuple[str, ...]:
    """A word where the image stays because the group's Kubernetes version is another one than the image's."""
    wanted = settings.kubernetes_version
    if there.ami_type == _CUSTOM and wanted and there.version and minor(there.version) < minor(wanted):
        return (f"Node group {there.name} has an image of its own and stays at Kubernetes {there.version}: name an image for {wanted}.",)
    if not _upgrade(there, settings) and _is_of_other_version(settings.releases.get(group.pool.name), there):
        return (f"Node group {there.name} keeps its image: it has Kubernetes {there.version}, which kubernetes_version changes first.",)
    return ()


def _template_version(
    group: WantedGroup, there: Nodegroup, template: LaunchTemplate | None, settings: Settings
) -> tuple[list[Step], Fields, Nodegroup]:
    if template is None or there.launch_template is None or not manages_template(group.pool, there.tags):
        return [], {}, there
    current = template.versions.get(there.launch_template[1])
    if current is None:
        return [], {}, there
    wanted = content_of_existing(with_family_of(group, there), current, settings)
    if wanted == current:
        return [], {}, there
    before, after = current.view, wanted.view
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    fields: Fields = {f"launch_template.{name}": (before.get(name), after.get(name)) for name in names or ["data"]}
    steps, reference = ensure_version(template, wanted, f"{', '.join(names) or 'the content'} of the launch template differs")
    return steps, fields, dataclasses.replace(there, launch_template=reference)


def with_family_of(group: WantedGroup, there: Nodegroup) -> WantedGroup:
    """The group with the family of the image that it has, where the user names none: user data has another form with each."""
    ami = group.pool.ami
    if ami.family or not there.ami_type.startswith(_BOTTLEROCKET):
        return group
    return dataclasses.replace(group, pool=dataclasses.replace(group.pool, ami=dataclasses.replace(ami, family="bottlerocket")))


def _immutable(group: WantedGroup, there: Nodegroup) -> tuple[Fault, ...]:
    """What the user set and a node group cannot change."""
    return tuple(
        Fault(
            path=join(group.pool.path, name),
            value=wanted,
            allowed=f"what node group {there.name} has, {has}: it cannot be changed; allow_replacement: true makes another group and deletes this "
            "one once that is there",
            source=_IMMUTABLE_SOURCE,
        )
        for name, (wanted, has) in immutable(group, there).items()
    )


def _overridden(group: WantedGroup, there: Nodegroup) -> list[str]:
    """The fields that the user overrides and that the group has other values of."""
    wanted = group.pool.overrides.node_group
    return [name for name, value in merged(there.api, wanted).items() if name in wanted and there.api and value != there.api.get(name)]


def _warnings(group: WantedGroup, there: Nodegroup, template: LaunchTemplate | None) -> tuple[str, ...]:
    warnings = []
    if group.emptied:
        warnings.append(
            f"Node group {there.name} has a share of 0 nodes in pool {group.pool.name} and stays without nodes; EKS takes no maximum below "
            f"{_LEAST_MAX}, so that an autoscaler could still add a node until the next run."
        )
    if other := _overridden(group, there):
        warnings.append(
            f"Node group {there.name} was made with other fields than overrides.node_group has now, which are only sent at creation: {', '.join(other)}."
        )
    if there.status == "DEGRADED":
        warnings.append(f"Node group {there.name} is DEGRADED. {' '.join(there.issues)}".strip())
    new = [name for name in group.instance_types if name not in there.instance_types]
    if new:
        warnings.append(f"Node group {there.name} keeps its instance types; now matching as well: {', '.join(new)}.")
    added = [subnet for subnet in group.subnet_ids if subnet not in there.subnets and not is_planned(subnet)]
    if added and not group.pool.subnets and not group.pool.zones:
        warnings.append(f"Node group {there.name} keeps its subnets; now there as well: {', '.join(added)}.")
    if template is None and manages_template(group.pool, there.tags):
        warnings.append(f"The launch template of node group {there.name} is gone, so that disk and tags of its instances are not managed.")
    return tuple(warnings)
