# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaling_needs
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Which controllers the pools of a cluster need
description:
  - Karpenter where a pool is provisioned by it, cluster-autoscaler where managed node groups or Auto Scaling groups may grow, the AWS Node Termination
    Handler where Auto Scaling groups of our own have Spot instances.
options:
  _input:
    description: The pools, as in O(gpuops.eks.eks_gpu_nodepool#module:pools).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Say whether cluster-autoscaler has something to do
  ansible.builtin.debug:
    msg: "{{ (gpu_nodepools | gpuops.eks.autoscaling_needs).cluster_autoscaler }}"
"""

RETURN = r"""
_value:
  description:
    - C(karpenter), C(cluster_autoscaler), C(termination_handler) are whether each is needed; C(self_managed) whether EKS has to be told of the nodes'
      roles, C(node_roles) those that pools name, C(default_node_role) whether pools take the cluster's own, C(own_roles) the names
      of Karpenter's pools whose nodes have a role that is made for the pool.
    - C(templates) is a hash that changes with what cluster-autoscaler expects of nodes that are not there yet.
  type: dict
  sample:
    karpenter: true
    cluster_autoscaler: true
    termination_handler: false
    self_managed: true
    node_roles: []
    default_node_role: true
    own_roles: []
    templates: 0a1b2c3d4e5f
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.autoscaling import needs


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"autoscaling_needs": needs}
