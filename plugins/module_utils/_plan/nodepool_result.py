# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What the module returns of a pool. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import sharing_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup


def pool_result(pool: Pool, groups: t.Sequence[WantedGroup], nodegroups: t.Mapping[str, Nodegroup]) -> dict[str, t.Any]:
    """The pool with each group's share; one whose share is 0 nodes is not made, and has no status where it is not there."""
    first = next((nodegroups[group.name] for group in groups if group.name in nodegroups), None)
    return {
        "name": pool.name,
        "provisioner": pool.provisioner,
        "accelerator": pool.accelerator,
        "groups": [_group_result(group, nodegroups.get(group.name)) for group in groups],
        "labels": dict(first.labels) if first else pool.wanted_labels,
        "taints": [taint.to_result() for taint in (first.taints if first else pool.created_taints)],
        "sharing": sharing_result(pool),
    }


def _group_result(group: WantedGroup, there: Nodegroup | None) -> dict[str, t.Any]:
    types = there.instance_types if there else group.instance_types
    template = there.launch_template if there else None
    return {
        "name": group.name,
        "zone": group.zone,
        "zones": list(dict.fromkeys(subnet.zone for subnet in group.subnets)),
        "gpu_count": group.gpu_count,
        "capacity_type": group.capacity_type,
        "instance_types": list(types),
        "min": there.min if there else group.min,
        "max": there.max if there else group.max,
        "desired": there.desired if there else group.desired,
        "status": there.status if there else None,
        "nodegroup_arn": there.arn if there else None,
        "auto_scaling_group": there.auto_scaling_group if there else None,
        "launch_template": {"id": template[0], "version": template[1]} if template else None,
    }
