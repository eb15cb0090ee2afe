# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: controller_iam_roles
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The IAM roles of the controllers that scale a cluster
description:
  - For each role who may take it and what it may do, and no more. Only the controller's own pods of this cluster can take it, by EKS Pod Identity, and
    it changes only what carries the cluster's tags.
positional: owner
options:
  _input:
    description: Any of V(karpenter), V(cluster-autoscaler), V(aws-node-termination-handler).
    type: list
    elements: str
    required: true
  owner:
    description: ARN of the cluster.
    type: str
    required: true
  node_roles:
    description: IAM roles that Karpenter's nodes take, by ARN or name.
    type: list
    elements: str
    default: []
  pools:
    description: Names of pools whose nodes have a role that is made for the pool, which Karpenter hands to them.
    type: list
    elements: str
    default: []
  path:
    description: Path of these pools' roles.
    type: str
    default: /
  queues:
    description: ARN of the queue of interruptions by the controller that reads it.
    type: dict
    default: {}
  boundary:
    description: ARN of a permissions boundary for every role.
    type: str
  tags:
    description: Tags of every role, besides the owner tags.
    type: dict
"""

EXAMPLES = r"""
- name: Say what cluster-autoscaler may do
  ansible.builtin.debug:
    msg: "{{ ['cluster-autoscaler'] | gpuops.eks.controller_iam_roles('arn:aws:eks:us-west-2:123456789012:cluster/demo') }}"
"""

RETURN = r"""
_value:
  description: The roles, with C(name), C(component) (the controller), C(trust), C(policies), C(policy), C(boundary), C(tags).
  type: list
  elements: dict
  sample:
    - name: demo-us-west-2-cluster-autoscaler
      component: cluster-autoscaler
      trust:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Principal: {Service: pods.eks.amazonaws.com}
            Action: ["sts:AssumeRole", "sts:TagSession"]
            Condition: {StringEquals: {"aws:RequestTag/kubernetes-service-account": cluster-autoscaler}}
      policies: []
      policy:
        Version: "2012-10-17"
        Statement:
          - Sid: SeeNodeGroups
            Effect: Allow
            Action: ["eks:DescribeNodegroup"]
            Resource: ["arn:aws:eks:us-west-2:123456789012:nodegroup/demo/*"]
      boundary: null
      tags:
        gpuops.eks/owner: arn:aws:eks:us-west-2:123456789012:cluster/demo
        gpuops.eks/component: cluster-autoscaler-role
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.controller_iam import controller_roles, role_arn
from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import Settings
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_role import role_arn as pool_role_arn


def controller_iam_roles(
    controllers: t.Sequence[str],
    owner: str,
    node_roles: t.Sequence[str] = (),
    pools: t.Sequence[str] = (),
    path: str = "/",
    queues: t.Mapping[str, str] | None = None,
    boundary: str | None = None,
    tags: t.Mapping[str, t.Any] | None = None,
) -> list[dict[str, t.Any]]:
    """Return the roles."""
    cluster = Owner.from_arn(owner)
    settings = Settings(
        owner=cluster,
        node_roles=(*(role_arn(cluster, role) for role in node_roles), *(pool_role_arn(cluster, path, pool) for pool in pools)),
        queues=dict(queues or {}),
        boundary=boundary,
        tags=tags or {},
    )
    return controller_roles(settings, controllers)


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"controller_iam_roles": controller_iam_roles}
