# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Node groups that somebody else made and the user put under management: changed where a field is set, never deleted or marked. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    MIG_CONFIG_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_CAPACITY, Disk, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import RESOURCES_PREFIX, template_tags
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import GroupPlan, Settings, is_half_made
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts, Resolution, WantedGroup, fitting_types
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_replace import immutable, is_ours
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_update import (
    changes,
    label_aspect,
    release_faults,
    settable,
    version_warnings,
    with_family_of,
)

_SHARING_LABELS = (GPU_PRESENT_LABEL, DEVICE_PLUGIN_CONFIG_LABEL, MIG_CONFIG_LABEL)
_SOURCE = "the collection's rules for what somebody else made"


def is_adopted(pool: Pool, there: Nodegroup | None, owner: Owner) -> bool:
    """Whether a node group is somebody else's that the user put under management by this pool."""
    return there is not None and pool.adopt and not is_ours(there, pool, owner)


def adopted_group(pool: Pool, there: Nodegroup, subnets: t.Sequence[Subnet], facts: Ec2Facts, *, common_role: str | None) -> Resolution:
    """The one group of a pool whose name a node group of somebody else has.

    It has the whole of what the pool says; ``common_role`` is that of pools that name none, which says nothing of this one.
    """
    types = tuple(facts.types[name] for name in there.instance_types if name in facts.types)
    scaling = pool.scaling
    count = types[0].gpus if types else 0
    most = there.max if scaling.max is None else scaling.max
    if pool.max_gpus is not None and count:
        most = min(most, pool.max_gpus // count)
    least = there.min if scaling.min is None else scaling.min
    own = dataclasses.replace(pool, zones=(), node_role=None if pool.node_role == common_role else pool.node_role)
    group = WantedGroup(
        name=there.name,
        pool=own,
        zone=None,
        subnets=tuple(subnets) if pool.subnets else tuple(subnet for subnet in subnets if subnet.id in there.subnets),
        gpu_count=count,
        capacity_type=there.capacity_type,
        matching=types,
        fitting=fitting_types(pool, facts) if pool.instances.patterns else frozenset(there.instance_types),
        min=least,
        max=most,
        desired=there.desired if scaling.desired is None else scaling.desired,
    )
    return Resolution(groups=(group,), faults=tuple(_place_faults(pool, there, subnets)))


def _place_faults(pool: Pool, there: Nodegroup, subnets: t.Sequence[Subnet]) -> list[Fault]:
    """What the pool says of zones and capacity and the group is not."""
    zones = sorted({one.zone for one in subnets if one.id in there.subnets and not any(one.lies_in(zone) for zone in pool.zones)})
    faults = []
    if pool.zones and zones:
        allowed = f"unset, or with the zones of node group {there.name}, which is in {', '.join(zones)} as well"
        faults.append(Fault(path=join(pool.path, "zones"), value=list(pool.zones), allowed=allowed, source="eks:DescribeNodegroup"))
    if pool.capacity_types not in (DEFAULT_CAPACITY, (there.capacity_type,)):
        allowed = f"unset or what node group {there.name} is, {there.capacity_type}"
        where = join(pool.path, "capacity.types")
        faults.append(Fault(path=where, value=list(pool.capacity_types), allowed=allowed, source="eks:DescribeNodegroup"))
    if pool.max_gpus is not None and pool.scaling.scope == "pool" and not there.instance_types:
        allowed = f"unset with node group {there.name}, whose instance type is in a launch template of its maker's"
        faults.append(Fault(path=join(pool.path, "limits.gpus"), value=pool.max_gpus, allowed=allowed, source="eks:DescribeNodegroup"))
    return faults


def update_adopted(group: WantedGroup, there: Nodegroup, settings: Settings) -> GroupPlan:
    """What the user set is changed, and what that consists of; nothing that is there is taken away."""
    if there.status == "DELETING" or is_half_made(there):
        allowed = f"a node group that runs; {there.name}, which somebody else made, is {there.status}"
        where = join(group.pool.path, "name")
        return GroupPlan(after=there, faults=(Fault(path=where, value=group.pool.name, allowed=allowed, source="eks:DescribeNodegroup"),))
    group = with_family_of(group, there)
    kept = dataclasses.replace(group, pool=dataclasses.replace(group.pool, taints=_taints(group.pool, there)))
    labels = label_aspect(there, _labels(group.pool))
    tags = tag_changes(_tags(group), there.tags, purge=False)
    plan = changes(kept, there, None, settings, aspects=settable(kept, there, labels), tags=tags)
    faults = (*_immutable_faults(group, there), *_template_faults(group.pool, there), *release_faults(group, there, settings))
    return dataclasses.replace(plan, faults=faults, warnings=(*_warnings(group, there), *version_warnings(group, there, settings)))


def _labels(pool: Pool) -> dict[str, str]:
    """The user's labels, and those by which a device plugin shares the GPUs where the user set how."""
    divided = pool.sharing is not None or pool.mig is not None
    shared = {key: value for key, value in pool.wanted_labels.items() if key in _SHARING_LABELS} if divided else {}
    return {**(pool.labels or {}), **shared}


def _taints(pool: Pool, there: Nodegroup) -> t.Any:
    """The user's taints and those that are there besides."""
    if pool.taints is None:
        return None
    named = {(taint.key, taint.effect) for taint in pool.taints}
    return (*(taint for taint in there.taints if (taint.key, taint.effect) not in named), *pool.taints)


def _tags(group: WantedGroup) -> dict[str, str]:
    """The user's tags, and what an autoscaler has to know of nodes whose GPUs the user shares."""
    if (group.pool.sharing is None and group.pool.mig is None) or not group.gpu_count:
        return dict(group.pool.tags or {})
    told = template_tags(group.pool, group.gpu_count, instance=group.first_type)
    gpus = {key: value for key, value in told.items() if key.startswith(f"{RESOURCES_PREFIX}nvidia.com/")}
    return {**(group.pool.tags or {}), **gpus}


def _immutable_faults(group: WantedGroup, there: Nodegroup) -> list[Fault]:
    return [
        Fault(
            path=join(group.pool.path, name),
            value=wanted,
            allowed=f"unset or what node group {there.name} has, {has}: it cannot be changed, and what somebody else made is not replaced",
            source=_SOURCE,
        )
        for name, (wanted, has) in immutable(group, there).items()
    ]


def _template_faults(pool: Pool, there: Nodegroup) -> list[Fault]:
    """Options that stand in a launch template."""
    given: dict[str, t.Any] = {
        "ami": pool.ami.custom and there.ami_type == "CUSTOM",
        "disk": pool.disk != Disk() or pool.instance_store is not None,
        "startup_taints": pool.startup_taints is not None,
        "user_data": pool.user_data is not None,
        "network.security_groups": bool(pool.security_groups),
        "network.efa": pool.efa is not None,
        "network.placement_group": pool.placement_group is not None,
        "capacity.reservations": bool(pool.capacity.reservations),
        "overrides.launch_template": bool(pool.overrides.launch_template),
        "overrides.node_group": bool(pool.overrides.node_group),
        "mig": pool.mig is not None and pool.backend != "gpu_operator",
        "sharing": pool.created_sharing.strategy != "none" and pool.backend == "bottlerocket",
    }
    allowed = "unset for a node group that somebody else made, whose launch template is its maker's"
    return [Fault(path=join(pool.path, name), value="set", allowed=allowed, source=_SOURCE) for name, is_set in given.items() if is_set]


def _warnings(group: WantedGroup, there: Nodegroup) -> tuple[str, ...]:
    warnings = []
    if there.status == "DEGRADED":
        warnings.append(f"Node group {there.name} is DEGRADED. {' '.join(there.issues)}".strip())
    if group.pool.sharing is not None and group.pool.nvidia and not group.gpu_count:
        warnings.append(
            f"How many GPUs a node of {there.name} has is not known: its instance type is in a launch template. An autoscaler that starts it "
            "from zero nodes counts its GPUs as whole ones."
        )
    return tuple(warnings)


def absent_warnings(names: t.Iterable[str], nodegroups: t.Mapping[str, Nodegroup], owner: Owner) -> tuple[str, ...]:
    """A word on each node group that has a pool's name and is not ours to delete."""
    found = [nodegroups[name] for name in names if name in nodegroups]
    return tuple(
        f"Node group {there.name} was made by somebody else and stays; its maker has to remove it."
        for there in found
        if not owner.owns(there.tags) and there.status != "DELETING"
    )
