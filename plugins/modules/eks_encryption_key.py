#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_encryption_key
short_description: The KMS key for a cluster's secrets or volumes
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Makes a KMS key with the policy that its purpose needs and an alias, keeps it so, or schedules its deletion.
  - The key for V(volumes) has both grants, that of Auto Scaling groups and that of Karpenter. Without them instances with encrypted volumes end at
    once, with nothing but C(Client.InternalError) to tell why.
  - It is found by its alias, and without one by the tags C(gpuops.eks/owner) and C(gpuops.eks/component), so that a run that was interrupted
    between key and alias is finished by the next. A key whose deletion is pending is brought back.
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
      - Name of the cluster that the key is for. It need not exist yet.
    type: str
    required: true
  purpose:
    description:
      - What is encrypted with it.
    type: str
    choices: [secrets, volumes]
    required: true
  state:
    description:
      - V(absent) deletes the alias and schedules the deletion of the key. It is refused while the cluster encrypts its secrets with it.
    type: str
    choices: [present, absent]
    default: present
  role_arns:
    description:
      - IAM roles that use a key for V(secrets), which is the cluster's; refused for V(volumes). May be planned ones in check mode.
    type: list
    elements: str
  administrators:
    description:
      - IAM roles and users that may manage the key, besides those whom IAM policies of the account let.
    type: list
    elements: str
  policy:
    description:
      - Key policy in place of the one that the module makes.
    type: dict
  rotation:
    description:
      - Whether KMS makes new key material every year; V(true) at creation.
    type: bool
  description:
    description:
      - Description of the key.
    type: str
  pending_window_days:
    description:
      - Days, 7 to 30, after which a key that is V(absent) is gone for good.
    type: int
    default: 30
  tags:
    description:
      - Tags of the key, besides those that mark it as made by this collection. Not set, the tags that are there are kept.
    type: dict
  purge_tags:
    description:
      - Whether tags that O(tags) does not name are removed, where O(tags) is set.
    type: bool
    default: true
requirements:
  - python >= 3.10
  - boto3 >= 1.40.0
  - botocore >= 1.40.0
seealso:
  - module: gpuops.eks.eks_cluster
"""

EXAMPLES = r"""
- name: A key for the cluster's secrets
  gpuops.eks.eks_encryption_key:
    cluster_name: demo
    region: us-west-2
    purpose: secrets
    role_arns: [arn:aws:iam::123456789012:role/demo-cluster]
  register: secrets

- name: A cluster that uses it
  gpuops.eks.eks_cluster:
    name: demo
    region: us-west-2
    role_arn: arn:aws:iam::123456789012:role/demo-cluster
    subnet_ids: [subnet-0a1b2c3d4e5f60718, subnet-0a1b2c3d4e5f60719]
    encryption_key_arn: "{{ secrets.encryption_key.arn }}"
"""

RETURN = r"""
encryption_key:
  description: The key; null with O(state=absent).
  returned: success
  type: dict
  contains:
    key_id:
      description: Its id; C(planned:key/PURPOSE) where it is yet to be made.
      type: str
      sample: 0a1b2c3d-1111-2222-3333-444455556666
    arn:
      description: Its ARN; C(planned:key/PURPOSE) where it is yet to be made.
      type: str
      sample: arn:aws:kms:us-west-2:123456789012:key/0a1b2c3d-1111-2222-3333-444455556666
    alias:
      description: Its alias.
      type: str
      sample: alias/gpuops-eks/demo/secrets
    purpose:
      description: What is encrypted with it.
      type: str
      sample: secrets
    key_state:
      description: State in KMS's words.
      type: str
      sample: Enabled
    rotation_enabled:
      description: Whether its material is renewed every year.
      type: bool
      sample: true
    policy:
      description: The key policy.
      type: dict
      sample:
        Version: "2012-10-17"
        Statement:
          - Sid: Account
            Effect: Allow
            Principal: {AWS: "arn:aws:iam::123456789012:root"}
            Action: ["kms:*"]
            Resource: "*"
    deletion_date:
      description: When it will be gone; null where that is not scheduled.
      type: str
      sample: null
    tags:
      description: Its tags.
      type: dict
      sample: {gpuops.eks/owner: "arn:aws:eks:us-west-2:123456789012:cluster/demo", gpuops.eks/component: secrets-key}
plan:
  description: The calls that change something, made or in check mode to be made, in order.
  returned: success
  type: list
  elements: dict
  sample:
    - action: kms:CreateKey
      target: planned:key/secrets
      effect: create
      fields: [policy, description, tags]
      reason: ""
progress:
  description: What was waited for, in the service's words.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.encryption_key import MOST_WINDOW, PURPOSES, key_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.encryption_key import key_job
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "purpose": {"type": "str", "choices": list(PURPOSES), "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "role_arns": {"type": "list", "elements": "str"},
        "administrators": {"type": "list", "elements": "str"},
        "policy": {"type": "dict"},
        "rotation": {"type": "bool"},
        "description": {"type": "str"},
        "pending_window_days": {"type": "int", "default": MOST_WINDOW},
        "tags": {"type": "dict"},
        "purge_tags": {"type": "bool", "default": True},
    }
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS), key_job, validate=key_faults)


if __name__ == "__main__":
    main()
