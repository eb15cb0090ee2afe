# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: private_endpoints
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The interface endpoints of a cluster without a way out of its VPC
description:
  - The services that nodes and add-ons of a cluster call, by the short names that O(gpuops.eks.eks_network#module:interface_endpoints) takes.
  - S3, from which layers of images come, is not among them. It has a gateway endpoint, see
    O(gpuops.eks.eks_network#module:gateway_endpoints).
options:
  _input:
    description: Further services that what runs in the cluster calls. May be an empty list.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: A network without a way out, whose pods also read secrets
  gpuops.eks.eks_network:
    cluster_name: demo
    region: us-west-2
    nat: none
    public_subnets: false
    gateway_endpoints: [s3]
    interface_endpoints: "{{ ['secretsmanager'] | gpuops.eks.private_endpoints }}"
"""

RETURN = r"""
_value:
  description: The services, in order.
  type: list
  elements: str
  sample: [autoscaling, ec2, ec2messages, ecr.api, ecr.dkr, eks, eks-auth, elasticloadbalancing, kms, logs, monitoring, sqs, ssm, ssmmessages, sts]
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.endpoints import private_endpoints


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"private_endpoints": private_endpoints}
