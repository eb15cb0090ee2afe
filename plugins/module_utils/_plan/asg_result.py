# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What the module returns of a pool of Auto Scaling groups. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import group_id
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import sharing_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup


def pool_result(pool: Pool, groups: t.Sequence[WantedGroup], there: t.Mapping[str, AutoScalingGroup], owner: Owner) -> dict[str, t.Any]:
    """The pool with each group's share; one whose share is 0 nodes is not made, and has no status where it is not there."""
    return {
        "name": pool.name,
        "provisioner": pool.provisioner,
        "accelerator": pool.accelerator,
        "groups": [_group_result(group, there.get(group_id(owner, group.name))) for group in groups],
        "labels": pool.wanted_labels,
        "taints": [taint.to_result() for taint in pool.created_taints],
        "sharing": sharing_result(pool),
    }


def _group_result(group: WantedGroup, there: AutoScalingGroup | None) -> dict[str, t.Any]:
    template = there.template if there else None
    return {
        "name": group.name,
        "zone": group.zone,
        "zones": list(dict.fromkeys(subnet.zone for subnet in group.subnets)),
        "gpu_count": group.gpu_count,
        "capacity_type": group.capacity_type,
        "instance_types": list((there.instance_types if there else ()) or group.instance_types),
        "min": there.min if there else group.min,
        "max": there.max if there else group.max,
        "desired": there.desired if there else group.desired,
        "status": _status(there),
        "auto_scaling_group": there.name if there else None,
        "launch_template": {"id": template[0], "version": template[1]} if template else None,
    }


def _status(there: AutoScalingGroup | None) -> str | None:
    """In the words of Auto Scaling: of the group where it is being deleted, else of its instances; None before it is there."""
    if there is None or not there.arn:
        return None
    return there.status or ("InService" if there.in_service >= there.desired else "Pending")
