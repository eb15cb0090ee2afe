#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_oidc_provider
short_description: A cluster's OIDC provider in IAM
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Lets IAM trust the tokens of a cluster's service accounts, for charts that only know IAM roles for service accounts. Where you can choose, EKS
    Pod Identity (M(gpuops.eks.eks_pod_identity_association)) needs no provider and no trust policy for each cluster.
  - It carries the tags C(gpuops.eks/owner) and C(gpuops.eks/component), by which it is found once its cluster is gone.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - gpuops.eks._attributes
  - gpuops.eks._attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  cluster_name:
    description:
      - Name of the cluster. In check mode it need not exist yet.
    type: str
    required: true
  state:
    description:
      - V(absent) deletes the provider that this module has made for the cluster, also after the cluster is gone.
    type: str
    choices: [present, absent]
    default: present
  client_ids:
    description:
      - Audiences of the tokens. V([sts.amazonaws.com]) when left out at creation.
    type: list
    elements: str
  thumbprints:
    description:
      - Thumbprints of the issuer's certificate authority. IAM needs none for the issuers of EKS.
    type: list
    elements: str
  tags:
    description:
      - Tags of the provider, besides those that mark it as made by this collection. Not set, the tags that are there are kept.
    type: dict
  purge_tags:
    description:
      - Whether tags that O(tags) does not name are removed, where O(tags) is set. Never done to a provider that is adopted.
    type: bool
    default: true
  adopt:
    description:
      - Change the fields that are set of a provider that was made by somebody else. It is never deleted, gets no mark and loses no tag.
    type: bool
    default: false
requirements:
  - python >= 3.10
  - boto3 >= 1.40.0
  - botocore >= 1.40.0
seealso:
  - module: gpuops.eks.eks_pod_identity_association
"""

EXAMPLES = r"""
- name: Let IAM trust the cluster's service accounts
  gpuops.eks.eks_oidc_provider:
    cluster_name: demo
    region: us-west-2
"""

RETURN = r"""
oidc_provider:
  description: The provider; null with O(state=absent).
  returned: success
  type: dict
  contains:
    arn:
      description: Its ARN; C(planned:oidc-provider/CLUSTER) where it is yet to be made.
      type: str
      sample: arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-west-2.amazonaws.com/id/0A1B2C3D4E5F60718293A4B5C6D7E8F9
    url:
      description: The issuer, without its scheme.
      type: str
      sample: oidc.eks.us-west-2.amazonaws.com/id/0A1B2C3D4E5F60718293A4B5C6D7E8F9
    client_ids:
      description: Audiences of the tokens.
      type: list
      elements: str
      sample: [sts.amazonaws.com]
    thumbprints:
      description: Thumbprints of the issuer's certificate authority.
      type: list
      elements: str
      sample: []
    tags:
      description: Its tags.
      type: dict
      sample: {gpuops.eks/owner: "arn:aws:eks:us-west-2:123456789012:cluster/demo", gpuops.eks/component: oidc-provider}
plan:
  description: The calls that change something, made or in check mode to be made, in order.
  returned: success
  type: list
  elements: dict
  sample:
    - action: iam:CreateOpenIDConnectProvider
      target: planned:oidc-provider/demo
      effect: create
      fields: [client_ids, tags]
      reason: ""
progress:
  description: What was waited for, in the service's words.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.oidc_provider import provider_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module
from ansible_collections.gpuops.eks.plugins.module_utils._run.oidc_provider import provider_job

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "client_ids": {"type": "list", "elements": "str"},
        "thumbprints": {"type": "list", "elements": "str"},
        "tags": {"type": "dict"},
        "purge_tags": {"type": "bool", "default": True},
        "adopt": {"type": "bool", "default": False},
    }
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS), provider_job, validate=provider_faults)


if __name__ == "__main__":
    main()
