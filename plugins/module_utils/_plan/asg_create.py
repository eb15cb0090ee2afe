# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A new Auto Scaling group, and one that was half made. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup, Reference, WarmPoolState
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import ACCELERATOR_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, TemplateContent, merged
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Capacity, WarmPool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import (
    POOL_TAG,
    Settings,
    effective_pool,
    ensure_template,
    group_id,
    kept_instances,
    kept_types,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import PREFIX, TEMPLATE_PREFIX, template_tags
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import pool_tags
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait

Data = dict[str, t.Any]
Fields = dict[str, tuple[t.Any, t.Any]]

# Balancing zones kills instances that work; in a group of one zone there is nothing to balance.
SUSPENDED = ("AZRebalance",)
MIXED = "mixed"
# What Auto Scaling says of a launch template or an instance profile that was made a moment ago.
NOT_READY = (
    r"^ValidationError: .*launch template.*does not exist",
    r"^ValidationError: .*[Ii]nvalid IAM Instance Profile",
    r"^ValidationError: .*[Ii]amInstanceProfile.*is invalid",
)
_KIND = "auto-scaling-group"
_STOPPED = "stopped"  # Auto Scaling's own default


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """One group's part: ``steps`` can be made at once, ``later`` ones need something done; ``fields`` are (before, after)."""

    after: AutoScalingGroup
    steps: tuple[Step, ...] = ()
    later: tuple[Step, ...] = ()
    waits: tuple[Wait, ...] = ()
    fields: Fields = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def subject(name: str) -> dict[str, str]:
    """The parameter that names a group in calls for one."""
    return {"AutoScalingGroupName": name}


def subjects(name: str) -> dict[str, list[str]]:
    """The parameter that names groups in autoscaling:DescribeAutoScalingGroups."""
    return {"AutoScalingGroupNames": [name]}


def in_service(name: str) -> Wait:
    return Wait(waiter="auto_scaling_group_in_service", arguments=subjects(name))


def create_group(group: WantedGroup, there: AutoScalingGroup | None, template: LaunchTemplate | None, settings: Settings) -> GroupPlan:
    """The steps to a new group. ``there`` is one of ours that is on its way out."""
    name = group_id(settings.owner, group.name)
    steps, reference, content = ensure_template(group, template, settings)
    tags = group_tags(group, content, settings)
    needs = (Wait(waiter="auto_scaling_group_deleted", arguments=subjects(name)),) if there is not None else ()
    policy = new_policy(group, reference)
    request = {
        **subject(name),
        "MinSize": group.min,
        "MaxSize": group.max,
        "DesiredCapacity": group.desired,
        "VPCZoneIdentifier": ",".join(group.subnet_ids),
        **_launched_from(policy, reference),
        **_reserved(group),
        "CapacityRebalance": False,
        "NewInstancesProtectedFromScaleIn": False,
        "Tags": tag_requests(settings.owner, name, tags),
    }
    request = merged(request, group.pool.overrides.auto_scaling_group)
    create = Step(
        action="autoscaling:CreateAutoScalingGroup", target=name, effect="create", request=request, needs=needs, passing=NOT_READY
    )
    made = [create, suspend(name)]
    warm = None
    if group.pool.warm_pool is not None:
        warm = warm_pool_over(group.pool.warm_pool, None)
        made.append(put_warm_pool(name, warm))
    after = AutoScalingGroup(
        name=name,
        min=group.min,
        max=group.max,
        desired=group.desired,
        subnets=group.subnet_ids,
        template=reference,
        policy=policy,
        suspended=frozenset(SUSPENDED),
        tags=tags,
        warm_pool=warm,
    )
    return GroupPlan(
        after=after,
        steps=(*steps, *(() if needs else made)),
        later=tuple(made) if needs else (),
        waits=(Wait(waiter="auto_scaling_group_launched", arguments=subject(name)), in_service(name)) if group.desired else (),
        fields={field_: (None, value) for field_, value in _summary(group, after, content).items()},
    )


def suspend(name: str) -> Step:
    return Step(
        action="autoscaling:SuspendProcesses",
        target=name,
        effect="update",
        fields=("suspended_processes",),
        request={**subject(name), "ScalingProcesses": list(SUSPENDED)},
    )


def new_policy(group: WantedGroup, reference: Reference) -> Data:
    """The MixedInstancesPolicy of a new group; empty for a block of capacity, which takes none."""
    if group.capacity_type == "capacity_block":
        return {}
    id_, version = reference
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": id_, "Version": version},
            "Overrides": [{"InstanceType": name} for name in kept_types(group, None)],
        },
        "InstancesDistribution": {
            "OnDemandAllocationStrategy": "prioritized",
            **on_demand(group),
            "SpotAllocationStrategy": "price-capacity-optimized",
        },
    }


def on_demand(group: WantedGroup) -> dict[str, int]:
    """How many of a group's instances are On-Demand. Without a percentage, all above the base of a mixed group are Spot instances."""
    capacity: Capacity = group.pool.capacity
    base = capacity.on_demand_base or 0 if group.capacity_type == MIXED else 0
    percentage = {MIXED: capacity.on_demand_percentage or 0, "spot": 0}.get(group.capacity_type, 100)
    return {"OnDemandBaseCapacity": base, "OnDemandPercentageAboveBaseCapacity": percentage}


def _launched_from(policy: Data, reference: Reference) -> Data:
    if policy:
        return {"MixedInstancesPolicy": policy}
    return {"LaunchTemplate": {"LaunchTemplateId": reference[0], "Version": reference[1]}}


def _reserved(group: WantedGroup) -> Data:
    """A group of reserved capacity launches into its reservations and nowhere else: what is dearer is another group."""
    if group.capacity_type != "reserved":
        return {}
    target = {"CapacityReservationIds": list(group.reservations)}
    return {
        "CapacityReservationSpecification": {
            "CapacityReservationPreference": "capacity-reservations-only",
            "CapacityReservationTarget": target,
        }
    }


def group_tags(group: WantedGroup, content: TemplateContent, settings: Settings, there: AutoScalingGroup | None = None) -> dict[str, str]:
    """The tags of a group: what cluster-autoscaler reads, the cluster's mark on its instances, the user's, and ours."""
    owner = settings.owner
    first = next(iter(kept_instances(group, there)), None)
    read = template_tags(effective_pool(group.pool, content), group.gpu_count, instance=first, cluster_name=owner.cluster_name)
    if there is not None and group.pool.taints is None:
        read |= {key: value for key, value in there.tags.items() if key.startswith(f"{TEMPLATE_PREFIX}taint/")}
    if label := content.settings.labels.get(ACCELERATOR_LABEL):
        read[f"{TEMPLATE_PREFIX}label/{ACCELERATOR_LABEL}"] = label
    marks = {f"kubernetes.io/cluster/{owner.cluster_name}": "owned", **pool_tags(owner, group.pool), POOL_TAG: group.pool.name}
    return {**read, **marks}


def tag_requests(owner: Owner, name: str, tags: t.Mapping[str, str]) -> list[Data]:
    """Tags in the form of Auto Scaling. Instances get all but those that only the autoscaler reads."""
    return [
        {"ResourceId": name, "ResourceType": _KIND, "Key": key, "Value": value, "PropagateAtLaunch": not key.startswith(PREFIX)}
        for key, value in sorted(tags.items())
    ]


def put_warm_pool(name: str, wanted: WarmPoolState) -> Step:
    request: Data = {**subject(name), "PoolState": (wanted.state or _STOPPED).capitalize()}
    if wanted.min_size is not None:
        request["MinSize"] = wanted.min_size
    if wanted.max_prepared is not None:
        request["MaxGroupPreparedCapacity"] = wanted.max_prepared
    if wanted.reuse_on_scale_in is not None:
        request["InstanceReusePolicy"] = {"ReuseOnScaleIn": wanted.reuse_on_scale_in}
    return Step(action="autoscaling:PutWarmPool", target=name, effect="update", fields=("warm_pool",), request=request)


def warm_pool_over(wanted: WarmPool, there: WarmPoolState | None) -> WarmPoolState:
    """The warm pool that is there with what the user set: the call takes the whole, and what it leaves out is the service's default."""
    base = there if there is not None and not there.deleting else WarmPoolState()
    given = {name: value for name, value in dataclasses.asdict(wanted).items() if value is not None}
    return dataclasses.replace(base, **given)


def warm_view(wanted: WarmPoolState | None) -> Data | None:
    """A warm pool as diffs show it."""
    if wanted is None:
        return None
    return {
        "min_size": wanted.min_size,
        "max_prepared": wanted.max_prepared,
        "state": wanted.state,
        "reuse_on_scale_in": wanted.reuse_on_scale_in,
    }


def _summary(group: WantedGroup, after: AutoScalingGroup, content: TemplateContent) -> Data:
    """The managed fields of a new group."""
    return {
        "capacity_type": group.capacity_type,
        "instance_types": list(group.instance_types),
        "subnets": list(after.subnets),
        "scaling": {"min": after.min, "max": after.max, "desired": after.desired},
        "tags": dict(after.tags),
        "launch_template": content.view,
        **({"warm_pool": warm_view(after.warm_pool)} if after.warm_pool else {}),
    }
