"""Auto Scaling, EC2 and EKS as the autoscaler asks them."""

from __future__ import annotations

import datetime
import logging
import typing as t
from dataclasses import dataclass

from botocore.exceptions import ClientError

from lab.controllers.autoscaler import read
from lab.controllers.autoscaler.model import Group, InstanceType, ManagedGroup, Options
from lab.kubernetes.client import Json

#: service -> boto3 client with the pod's role
Clients = t.Callable[[str], t.Any]
TYPE_SECONDS = 1200.0  # of the lab's clock, for which a group's instance type is known
#: What the list of types that is built into 1.36.1 lacks; of all others it says what EC2 does, which is asked in its place.
NOT_IN_STATIC_LIST = ("g7.", "p6-b300.", "p6e-gb200.")
MANAGED_SECONDS = 300.0  # for which a node group's labels, taints and tags are; a minute in the real one


@dataclass(frozen=True, slots=True)
class _Known:
    value: t.Any
    until: float


class Cloud:
    """The groups that the flags name or discover, and what can be done to them."""

    def __init__(self, clients: Clients, options: Options, log: logging.Logger) -> None:
        self._autoscaling, self._ec2, self._eks = clients("autoscaling"), clients("ec2"), clients("eks")
        self._options, self._log = options, log
        self._names: dict[str, _Known] = {}
        self._managed: dict[str, _Known] = {}
        self._types: dict[str, InstanceType | None] = {}
        self._resized: dict[str, datetime.datetime] = {}

    def groups(self, now: float) -> tuple[Group, ...]:
        """All groups, with what they would launch; raises ClientError, BotoCoreError."""
        limits = {name: (minimum, maximum) for name, minimum, maximum in self._options.groups}
        found: dict[str, Json] = {}
        if limits:
            found |= self._described(AutoScalingGroupNames=list(limits))
        if self._options.discovery:
            filters = [
                {"Name": f"tag:{key}", "Values": [value]} if value else {"Name": "tag-key", "Values": [key]}
                for key, value in dict(self._options.discovery).items()
            ]
            found |= self._described(Filters=filters)
        return tuple(self._group(raw, limits.get(name), now) for name, raw in sorted(found.items()))

    def types(self, groups: t.Iterable[Group]) -> dict[str, InstanceType]:
        """The instance types of the groups that EC2 knows; raises ClientError."""
        names = {group.instance_type for group in groups if group.instance_type}
        for name in names - set(self._types):
            self._types[name] = self._type(name)
        return {name: kind for name in names if (kind := self._types[name]) is not None}

    def resize(self, group: str, size: int) -> None:
        """SetDesiredCapacity; raises ClientError."""
        self._resized[group] = datetime.datetime.now(datetime.UTC)
        self._autoscaling.set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=size, HonorCooldown=False)

    def terminate(self, instance_id: str) -> None:
        """TerminateInstanceInAutoScalingGroup, the group's size goes down with it; raises ClientError."""
        self._autoscaling.terminate_instance_in_auto_scaling_group(InstanceId=instance_id, ShouldDecrementDesiredCapacity=True)

    def _described(self, **request: t.Any) -> dict[str, Json]:
        pages = self._autoscaling.get_paginator("describe_auto_scaling_groups").paginate(**request)
        return {raw["AutoScalingGroupName"]: raw for page in pages for raw in page["AutoScalingGroups"]}

    def _group(self, raw: Json, limits: tuple[int, int] | None, now: float) -> Group:
        name = raw["AutoScalingGroupName"]
        known = self._names.get(name)
        if known is None or known.until < now:
            known = self._names[name] = _Known(self._instance_type(raw), now + TYPE_SECONDS)
        short = raw["DesiredCapacity"] > len(raw.get("Instances") or ())
        return read.group(raw, known.value, self._node_group(raw, now), limits, refused=short and self._refused(name))

    def _refused(self, name: str) -> bool:
        began = datetime.datetime.min.replace(tzinfo=datetime.UTC)
        activities = self._autoscaling.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]
        return read.refused(activities, self._resized.get(name, began))

    def _instance_type(self, raw: Json) -> str:
        """The first override's, else the launch template's or configuration's; empty where only requirements say."""
        policy = (raw.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
        overrides = [item["InstanceType"] for item in policy.get("Overrides") or () if item.get("InstanceType")]
        if overrides:
            return str(overrides[0])
        if name := raw.get("LaunchConfigurationName"):
            found = self._autoscaling.describe_launch_configurations(LaunchConfigurationNames=[name])["LaunchConfigurations"]
            return str(found[0]["InstanceType"]) if found else ""
        template = raw.get("LaunchTemplate") or policy.get("LaunchTemplateSpecification")
        if template is None:
            return ""
        versions = self._ec2.describe_launch_template_versions(
            LaunchTemplateName=template["LaunchTemplateName"], Versions=[template.get("Version") or "$Default"]
        )["LaunchTemplateVersions"]
        return str(versions[0]["LaunchTemplateData"].get("InstanceType") or "") if versions else ""

    def _node_group(self, raw: Json, now: float) -> ManagedGroup | None:
        """eks:DescribeNodegroup for a group whose tags say that EKS manages it; a refusal is logged and remembered as an empty answer."""
        tags = read.tags_of(raw)
        name, cluster = tags.get("eks:nodegroup-name"), tags.get("eks:cluster-name")
        if not name or not cluster:
            return None
        known = self._managed.get(name)
        if known is None or known.until < now:
            try:
                answer = self._eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
                known = _Known(read.managed_group(answer), now + MANAGED_SECONDS)
            except ClientError as error:
                self._log.error("Failed to query the managed nodegroup %s for the cluster %s: %s", name, cluster, error)
                known = _Known(ManagedGroup(), now + MANAGED_SECONDS)
            self._managed[name] = known
        found: ManagedGroup = known.value
        return found

    def _type(self, name: str) -> InstanceType | None:
        if self._options.aws_use_static_instance_list and name.startswith(NOT_IN_STATIC_LIST):
            return None
        try:
            return read.instance_type(self._ec2.describe_instance_types(InstanceTypes=[name])["InstanceTypes"][0])
        except ClientError as error:
            if error.response["Error"]["Code"] != "InvalidInstanceType":
                raise
            return None
