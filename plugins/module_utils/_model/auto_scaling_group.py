# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""An Auto Scaling group as EC2 Auto Scaling describes it, and as it will be after a plan. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

Data = t.Mapping[str, t.Any]
Reference = tuple[str, str]

# A warm pool keeps instances besides those of the group, in states of their own.
_IN_SERVICE = "InService"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance of a group; ``template`` is the (id, version) that it was launched from."""

    id: str
    type: str = ""
    state: str = _IN_SERVICE
    template: Reference | None = None


@dataclass(frozen=True, kw_only=True)
class WarmPoolState:
    """The warm pool that a group has. None is a value that is left to the service."""

    min_size: int | None = None
    max_prepared: int | None = None
    state: str | None = None
    reuse_on_scale_in: bool | None = None
    deleting: bool = False

    @classmethod
    def from_api(cls, reply: Data) -> WarmPoolState:
        """From WarmPoolConfiguration of autoscaling:DescribeAutoScalingGroups."""
        most = reply.get("MaxGroupPreparedCapacity")
        return cls(
            min_size=reply.get("MinSize"),
            max_prepared=None if most == -1 else most,  # -1: as much as the group's maximum
            state=reply.get("PoolState", "Stopped").lower(),
            reuse_on_scale_in=reply.get("InstanceReusePolicy", {}).get("ReuseOnScaleIn", False),
            deleting=reply.get("Status") == "PendingDelete",
        )


@dataclass(frozen=True, kw_only=True)
class AutoScalingGroup:
    """A group. ``template`` is the (id, version) that it launches from, ``policy`` its MixedInstancesPolicy in the service's own form.

    ``api`` is the whole reply, for what is only looked at where the user overrides it.
    """

    name: str
    arn: str = ""
    status: str | None = None
    min: int = 0
    max: int = 0
    desired: int = 0
    subnets: tuple[str, ...] = ()
    template: Reference | None = None
    policy: Data = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()
    tags: t.Mapping[str, str] = field(default_factory=dict)
    instances: tuple[Instance, ...] = ()
    warm_pool: WarmPoolState | None = None
    api: Data = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_api(cls, reply: Data) -> AutoScalingGroup:
        """From an element of AutoScalingGroups of autoscaling:DescribeAutoScalingGroups."""
        policy = _without_names(reply.get("MixedInstancesPolicy") or {})
        specification = policy.get("LaunchTemplate", {}).get("LaunchTemplateSpecification") or reply.get("LaunchTemplate")
        warm_pool = reply.get("WarmPoolConfiguration")
        return cls(
            name=reply["AutoScalingGroupName"],
            arn=reply.get("AutoScalingGroupARN", ""),
            status=reply.get("Status"),
            min=reply["MinSize"],
            max=reply["MaxSize"],
            desired=reply["DesiredCapacity"],
            subnets=tuple(id_ for id_ in reply.get("VPCZoneIdentifier", "").split(",") if id_),
            template=_reference(specification),
            policy=policy,
            suspended=frozenset(process["ProcessName"] for process in reply.get("SuspendedProcesses") or ()),
            tags={tag["Key"]: tag.get("Value", "") for tag in reply.get("Tags") or ()},
            instances=tuple(map(_instance, reply.get("Instances") or ())),
            warm_pool=None if warm_pool is None else WarmPoolState.from_api(warm_pool),
            api=reply,
        )

    @property
    def instance_types(self) -> tuple[str, ...]:
        """Its types in order; none where the launch template has the only one."""
        overrides = self.policy.get("LaunchTemplate", {}).get("Overrides") or ()
        return tuple(item["InstanceType"] for item in overrides if item.get("InstanceType"))

    @property
    def distribution(self) -> Data:
        found: Data = self.policy.get("InstancesDistribution") or {}
        return found

    @property
    def in_service(self) -> int:
        return sum(1 for instance in self.instances if instance.state == _IN_SERVICE)

    @property
    def deleting(self) -> bool:
        return self.status is not None

    @property
    def stale(self) -> tuple[str, ...]:
        """Instances that were launched from another version of the template, or of a type, that the group no longer has."""
        types = self.instance_types
        return tuple(
            instance.id
            for instance in self.instances
            if (instance.template is not None and self.template is not None and instance.template != self.template)
            or (types and instance.type and instance.type not in types)
        )


def _without_names(policy: t.Any) -> t.Any:
    """The policy as a request takes it: a launch template by its id or its name, never both."""
    if isinstance(policy, t.Mapping):
        dropped = {"LaunchTemplateName"} if "LaunchTemplateId" in policy else set()
        return {key: _without_names(value) for key, value in policy.items() if key not in dropped}
    return [_without_names(item) for item in policy] if isinstance(policy, list) else policy


def _reference(specification: Data | None) -> Reference | None:
    return (specification["LaunchTemplateId"], specification.get("Version", "")) if specification else None


def _instance(reply: Data) -> Instance:
    return Instance(
        id=reply["InstanceId"],
        type=reply.get("InstanceType", ""),
        state=reply.get("LifecycleState", ""),
        template=_reference(reply.get("LaunchTemplate")),
    )


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """The last replacement of a group's instances."""

    id: str
    status: str

    @classmethod
    def from_api(cls, reply: Data) -> Refresh:
        """From an element of InstanceRefreshes of autoscaling:DescribeInstanceRefreshes."""
        return cls(id=reply["InstanceRefreshId"], status=reply["Status"])

    @property
    def running(self) -> bool:
        return self.status in ("Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress")


@dataclass(frozen=True, kw_only=True)
class InstanceProfile:
    """An instance profile and the role in it, which is at most one."""

    name: str
    role: str | None = None
    role_arn: str | None = None
    tags: t.Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_api(cls, reply: Data) -> InstanceProfile:
        """From InstanceProfile of iam:GetInstanceProfile."""
        role: Data = next(iter(reply.get("Roles") or ()), {})
        return cls(
            name=reply["InstanceProfileName"],
            role=role.get("RoleName"),
            role_arn=role.get("Arn"),
            tags={tag["Key"]: tag["Value"] for tag in reply.get("Tags") or ()},
        )
