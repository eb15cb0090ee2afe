# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: owned_pools
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Every pool that the collection made for a cluster
description:
  - The pools of the inventory and those that it no longer names, which the tags of their launch templates tell of, and the label of Karpenter's
    NodePools.
positional: pools
options:
  _input:
    description:
      - RV(amazon.aws.ec2_launch_template_info#module:launch_templates) with the cluster's owner tag, and objects of Kubernetes with the collection's label.
    type: list
    elements: dict
    required: true
  pools:
    description: The pools of the inventory.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Delete every pool
  gpuops.eks.eks_gpu_nodepool:
    cluster_name: demo
    pools: "{{ found.launch_templates | gpuops.eks.owned_pools(gpu_nodepools) }}"
    state: absent
"""

RETURN = r"""
_value:
  description: The pools, each with its name alone.
  type: list
  elements: dict
  sample: [{name: general}, {name: inference}]
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG

# Launch templates of Auto Scaling groups name their pool by a tag of their own.
_POOL_TAG = "gpuops.eks/pool"


def owned_pools(templates: t.Sequence[t.Mapping[str, t.Any]], pools: t.Sequence[t.Mapping[str, t.Any]]) -> list[dict[str, str]]:
    """Return each pool's name once, those of the inventory first; what is given may be objects of Kubernetes too, marked by a label."""
    marked = (marks.get(name) for template in templates for marks in (_marks(template),) for name in (NODEPOOL_TAG, _POOL_TAG))
    return [{"name": name} for name in dict.fromkeys([*(str(pool["name"]) for pool in pools), *marked]) if name]


def _marks(found: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    """The tags of a launch template, the labels of an object."""
    marks: t.Mapping[str, t.Any] = found.get("tags") or (found.get("metadata") or {}).get("labels") or {}
    return marks


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"owned_pools": owned_pools}
