# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: expander_priorities
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: In which order cluster-autoscaler grows the groups of pools
description:
  - What the ConfigMap C(cluster-autoscaler-priority-expander) has below C(priorities). Pools by their C(priority), and within that reservations before
    Spot before On-Demand. Pools of other provisioners are not cluster-autoscaler's.
positional: cluster_name
options:
  _input:
    description: The pools, as in O(gpuops.eks.eks_gpu_nodepool#module:pools).
    type: list
    elements: dict
    required: true
  cluster_name:
    description: Name of the cluster.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the order
  ansible.builtin.debug:
    msg: "{{ gpu_nodepools | gpuops.eks.expander_priorities('demo') }}"
"""

RETURN = r"""
_value:
  description: A YAML document, priority by regular expressions of the names of Auto Scaling groups.
  type: str
  sample: |
    2:
      - "^eks-gpu-(all|[a-z]{2}-[a-z0-9-]*[0-9][a-z])-[0-9]+gpu-spot-"
    1:
      - "^eks-gpu-(all|[a-z]{2}-[a-z0-9-]*[0-9][a-z])-[0-9]+gpu-on-demand-"
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.autoscaling import expander_priorities


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"expander_priorities": expander_priorities}
