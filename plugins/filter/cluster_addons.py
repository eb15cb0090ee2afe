# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_addons
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The add-ons of a cluster, with those that its storage needs
description:
  - Adds the drivers of the storage that is asked for, and gives each add-on of RV(_value) its IAM role by EKS Pod Identity where there is one for it.
  - The EBS driver marks the volumes that it makes with the cluster's owner tag.
positional: owner, storage
options:
  _input:
    description: Add-ons as O(gpuops.eks.eks_addon#module:addons) takes them.
    type: list
    elements: dict
    required: true
  owner:
    description: ARN of the cluster.
    type: str
    required: true
  storage:
    description: Any of V(ebs), V(efs), V(fsx), V(s3).
    type: list
    elements: str
    default: []
  version:
    description: Version of the add-ons that name none.
    type: str
  role_arns:
    description: ARN of the role of each add-on that has one, by the add-on's name.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Say which add-ons there will be
  ansible.builtin.debug:
    msg: "{{ [{'name': 'coredns'}] | gpuops.eks.cluster_addons('arn:aws:eks:us-west-2:123456789012:cluster/demo', ['efs']) }}"
"""

RETURN = r"""
_value:
  description: The add-ons.
  type: list
  elements: dict
  sample:
    - {name: coredns, wait: false}
    - {name: aws-efs-csi-driver, wait: false}
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import installed, wanted_addons
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner


def cluster_addons(
    addons: t.Sequence[t.Mapping[str, t.Any]],
    owner: str,
    storage: t.Sequence[str] = (),
    role_arns: t.Mapping[str, str] | None = None,
    version: str | None = None,
) -> list[dict[str, t.Any]]:
    """Return the add-ons as the module takes them."""
    return installed(wanted_addons(addons, storage), role_arns or {}, Owner.from_arn(owner), version)


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"cluster_addons": cluster_addons}
