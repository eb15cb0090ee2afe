# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which Auto Scaling groups of a cluster could not launch what they were asked for, from Auto Scaling."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._model.scaling_activity import FailedLaunch, failed_launches

ACTION = "autoscaling:DescribeScalingActivities"
RECENT = datetime.timedelta(hours=1)


def recent_failures(aws: Aws, cluster_name: str, now: datetime.datetime) -> tuple[FailedLaunch, ...]:
    """Failed launches of the last hour that nothing made up for, of all groups of the cluster, whoever made them."""
    # EKS tags the groups of its node groups so; the nodes of others need the tag, and get it from their group.
    filters = [{"Name": "tag-key", "Values": [f"kubernetes.io/cluster/{cluster_name}"]}]
    groups = aws.pages("autoscaling:DescribeAutoScalingGroups", "AutoScalingGroups", {"Filters": filters})
    return failed_launches(groups, _activities(aws, now - RECENT)) if groups else ()


def _activities(aws: Aws, since: datetime.datetime) -> t.Iterator[t.Mapping[str, t.Any]]:
    """What began since then, newest first: those of the region in one list, whatever groups there are, page by page until one is older."""
    request: dict[str, t.Any] = {}
    while True:
        reply = aws.call(ACTION, request)
        found = reply["Activities"]
        yield from (activity for activity in found if activity["StartTime"] >= since)
        if not reply.get("NextToken") or any(activity["StartTime"] < since for activity in found):
            return
        request = {"NextToken": reply["NextToken"]}
