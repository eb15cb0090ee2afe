# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_iam_roles
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The IAM roles that a cluster, its nodes and its add-ons need
description:
  - For each role who may take it and what it may do, and no more. Add-ons that need AWS and name no role get one by EKS Pod Identity, which only
    their own pods of this cluster can take.
positional: owner
options:
  _input:
    description: The cluster's add-ons, each a dictionary with C(name).
    type: list
    elements: dict
    required: true
  owner:
    description: ARN of the cluster.
    type: str
    required: true
  load_balancer_controller:
    description: Whether the AWS Load Balancer Controller gets a role.
    type: bool
    default: false
  volumes_encryption:
    description: Whether volumes have a KMS key that the EBS driver uses.
    type: bool
    default: true
  volumes_key:
    description: ARN of that key; not set, the one that M(gpuops.eks.eks_encryption_key) makes, by its alias.
    type: str
  buckets:
    description: Buckets that Mountpoint for Amazon S3 may use.
    type: list
    elements: str
  boundary:
    description: ARN of a permissions boundary for every role.
    type: str
  tags:
    description: Tags of every role, besides the owner tags.
    type: dict
"""

EXAMPLES = r"""
- name: Say which roles a cluster needs
  ansible.builtin.debug:
    msg: "{{ [{'name': 'vpc-cni'}, {'name': 'eks-pod-identity-agent'}] | gpuops.eks.cluster_iam_roles(arn) }}"
  vars:
    arn: arn:aws:eks:us-west-2:123456789012:cluster/demo
"""

RETURN = r"""
_value:
  description: The roles, with C(name), C(component) (C(cluster), C(node), or the add-on), C(trust), C(policies), C(policy), C(boundary), C(tags).
  type: list
  elements: dict
  sample:
    - name: demo-us-west-2-cluster
      component: cluster
      trust:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: eks.amazonaws.com}, Action: "sts:AssumeRole"}]
      policies: ["arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"]
      policy: null
      boundary: null
      tags:
        gpuops.eks/owner: arn:aws:eks:us-west-2:123456789012:cluster/demo
        gpuops.eks/component: cluster-role
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import Settings, cluster_roles
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner


def cluster_iam_roles(
    addons: t.Sequence[t.Mapping[str, t.Any]],
    owner: str,
    load_balancer_controller: bool = False,
    volumes_encryption: bool = True,
    volumes_key: str | None = None,
    buckets: t.Sequence[str] | None = None,
    boundary: str | None = None,
    tags: t.Mapping[str, t.Any] | None = None,
) -> list[dict[str, t.Any]]:
    """Return the roles."""
    settings = Settings(
        owner=Owner.from_arn(owner),
        addons=tuple(addons),
        load_balancer_controller=load_balancer_controller,
        volumes_encryption=volumes_encryption,
        volumes_key=volumes_key,
        buckets=tuple(buckets or ()),
        boundary=boundary,
        tags=tags or {},
    )
    return cluster_roles(settings)


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"cluster_iam_roles": cluster_iam_roles}
