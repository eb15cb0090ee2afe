"""How a version update replaces the nodes of a managed node group, some at a time.

Sources: EKS User Guide, managed-node-update-behavior.html (setup, scale up by the larger of twice the zones and maxUnavailable, upgrade,
scale down); API NodegroupUpdateConfig.updateStrategy (MINIMAL terminates first). Nodes are not drained.
"""

from __future__ import annotations

import math
import typing as t

from lab.aws.eks.context import Context
from lab.aws.eks.nodegroup_resources import describe_group, last_failure, terminate_member
from lab.aws.eks.state import Document, Nodegroup
from lab.aws.errors import AwsError

BATCH_SECONDS = 10.0
PATIENCE_SECONDS = 1200.0
WAIT_SECONDS = 60.0


class Rollout:
    """An update's steps: called again after so many seconds as it returns, until it returns None. Raises AwsError when it fails."""

    def __init__(self, context: Context, nodegroup: Nodegroup, prepare: t.Callable[[], str], finish: t.Callable[[], None]) -> None:
        self._context, self._nodegroup, self._prepare, self._finish = context, nodegroup, prepare, finish
        self._version = ""
        self._sizes: Document = {}
        self._waited = 0.0

    def __call__(self) -> float | None:
        if not self._version:
            self._version = self._prepare()
            return self._start()
        group = self._group()
        old = [] if group is None else self._old(group)
        if group is None or not old:
            self._restore(group)
            self._finish()
            return None
        return self._replace(group, old)

    def _group(self) -> Document | None:
        return describe_group(self._context, self._nodegroup.resources)

    def _old(self, group: Document) -> list[Document]:
        return [item for item in group["Instances"] if item.get("LaunchTemplate", {}).get("Version") != self._version]

    @property
    def _minimal(self) -> bool:
        return bool(self._nodegroup.document["updateConfig"].get("updateStrategy") == "MINIMAL")

    def _start(self) -> float | None:
        """Scale up, unless there is nothing to replace or the strategy terminates first."""
        group = self._group()
        if group is None or not self._old(group):
            self._finish()
            return None
        self._sizes = {name: group[name] for name in ("MinSize", "MaxSize", "DesiredCapacity")}
        if self._minimal:
            return 0.0
        surge = max(2 * len(group["AvailabilityZones"]), self._batch(group))
        self._resize(MaxSize=group["MaxSize"] + surge, DesiredCapacity=group["DesiredCapacity"] + surge)
        self._check_new_nodes(self._group() or group)
        return BATCH_SECONDS

    def _check_new_nodes(self, group: Document) -> None:
        """Each zone with nodes needs a new one; else the group is as before, and the update has failed."""
        old = self._old(group)
        new = [item for item in group["Instances"] if item not in old]
        lacking = {item["AvailabilityZone"] for item in old} - {item["AvailabilityZone"] for item in new}
        if not lacking:
            return
        reason = last_failure(self._context, group["AutoScalingGroupName"])
        for item in new:
            terminate_member(self._context, item["InstanceId"], decrement=True)
        self._resize(**self._sizes)
        raise AwsError(
            "NodeCreationFailure", f"Couldn't proceed with upgrade process as new nodes are not joining node group. {reason or ''}".strip()
        )

    def _batch(self, group: Document) -> int:
        config = self._nodegroup.document["updateConfig"]
        if "maxUnavailablePercentage" in config:
            return max(1, math.ceil(group["DesiredCapacity"] * config["maxUnavailablePercentage"] / 100))
        return int(config.get("maxUnavailable", 1))

    def _replace(self, group: Document, old: list[Document]) -> float:
        """The next batch. What terminates first waits until the group is complete again, but not for ever."""
        if self._minimal and len(group["Instances"]) < group["DesiredCapacity"]:
            if self._waited >= PATIENCE_SECONDS:
                reason = last_failure(self._context, group["AutoScalingGroupName"]) or "No instance was launched."
                raise AwsError("NodeCreationFailure", reason)
            self._waited += WAIT_SECONDS
            return WAIT_SECONDS
        self._waited = 0.0
        spare = len(group["Instances"]) - self._sizes["DesiredCapacity"]
        for index, item in enumerate(old[: self._batch(group)]):
            terminate_member(self._context, item["InstanceId"], decrement=not self._minimal and index < spare)
        return BATCH_SECONDS

    def _restore(self, group: Document | None) -> None:
        """Scale down to the sizes of before."""
        if group is not None and self._sizes and not self._minimal:
            self._resize(**self._sizes)

    def _resize(self, **sizes: int) -> None:
        self._context.client("autoscaling").update_auto_scaling_group(
            AutoScalingGroupName=self._nodegroup.resources.auto_scaling_group, **sizes
        )
