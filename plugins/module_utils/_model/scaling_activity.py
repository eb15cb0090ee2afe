# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What Auto Scaling tried for the groups of a cluster, and what became of it. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import NODEPOOL_LABEL

Data = t.Mapping[str, t.Any]

# Auto Scaling User Guide, "Verify a scaling activity": how its descriptions begin.
_LAUNCH = "Launching a new EC2 instance"
_ENDED = ("Successful", "Failed", "Cancelled")
_NODE_GROUP_TAG = "eks:nodegroup-name"


@dataclass(frozen=True, kw_only=True)
class FailedLaunch:
    """The last launch of a group, where it failed. ``node_group`` is the managed node group that the group belongs to."""

    group: str
    zones: tuple[str, ...]
    at: str
    message: str
    node_group: str | None = None
    pool: str | None = None


def failed_launches(groups: t.Iterable[Data], activities: t.Iterable[Data]) -> tuple[FailedLaunch, ...]:
    """Those of the groups whose last launch failed, by DescribeAutoScalingGroups and DescribeScalingActivities, whose newest come first.

    One that is still tried says nothing yet; one that succeeded since makes up for it.
    """
    last: dict[str, Data] = {}
    for activity in activities:
        if activity.get("StatusCode") in _ENDED and activity.get("Description", "").startswith(_LAUNCH):
            last.setdefault(activity["AutoScalingGroupName"], activity)
    failed = {name: activity for name, activity in last.items() if activity["StatusCode"] == "Failed"}
    return tuple(_failed(group, failed[name]) for group in groups if (name := group["AutoScalingGroupName"]) in failed)


def _failed(group: Data, activity: Data) -> FailedLaunch:
    tags = {tag["Key"]: tag.get("Value", "") for tag in group.get("Tags") or ()}
    return FailedLaunch(
        group=group["AutoScalingGroupName"],
        zones=tuple(group.get("AvailabilityZones") or ()),
        at=activity["StartTime"].isoformat(timespec="seconds"),
        message=activity.get("StatusMessage") or activity["Description"],
        node_group=tags.get(_NODE_GROUP_TAG),
        pool=tags.get(NODEPOOL_LABEL),
    )
