# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What cluster-autoscaler reads from the Auto Scaling group that EKS makes for a node group, and not from the node group. Pure.

Source: kubernetes/autoscaler, cluster-autoscaler/cloudprovider/aws, auto_scaling_groups.go and aws_manager.go: GetAsgOptions reads tags of the
group; EKS user guide, Tag managed node groups: tags of a node group are not passed on.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import UNNEEDED_TIME_TAG, unneeded_time
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import GroupPlan, subject
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait, planned

_FIELD = "disruption.consolidate_after"
_NAME = "nodegroup.resources.autoScalingGroups[0].name"


def with_scaling_tags(plan: GroupPlan, group: WantedGroup, owner: Owner) -> GroupPlan:
    """The group's part with the tag that its pool's consolidate_after consists of.

    Of a group that EKS has yet to make, the Auto Scaling group is known when it is ACTIVE.
    """
    after, wanted = plan.after, unneeded_time(group.pool)
    if wanted is None or wanted == after.unneeded_time or plan.faults:
        return plan
    name = after.auto_scaling_group or planned("auto-scaling-group", after.name)
    active = Wait(waiter="nodegroup_active", arguments=subject(owner, after.name), binds={name: _NAME})
    needs = () if after.auto_scaling_group else (active,)
    tag = {"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": UNNEEDED_TIME_TAG, "Value": wanted, "PropagateAtLaunch": False}
    step = Step(
        action="autoscaling:CreateOrUpdateTags",
        target=name,
        effect="update",
        fields=(_FIELD,),
        request={"Tags": [tag]},
        needs=needs,
    )
    waited = {(wait.waiter, wait.arguments["nodegroupName"]) for wait in needs}
    return dataclasses.replace(
        plan,
        after=dataclasses.replace(after, unneeded_time=wanted),
        last=(step,),
        waits=tuple(wait for wait in plan.waits if (wait.waiter, wait.arguments["nodegroupName"]) not in waited),
        fields={**plan.fields, _FIELD: (after.unneeded_time, wanted)},
    )


def unread(group: WantedGroup, there: Nodegroup | None) -> str | None:
    """The name of the Auto Scaling group whose tag has to be read, because the pool says what it should be."""
    return there.auto_scaling_group if there is not None and unneeded_time(group.pool) is not None else None
