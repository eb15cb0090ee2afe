#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_access_entry
short_description: Who may do what in an EKS cluster, in one list of access entries
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Gives IAM roles and users access to a cluster by access entries, with Kubernetes groups and EKS's access policies, and takes it away.
  - What is not set is not managed. A list of policies is the whole list.
  - A principal that IAM has just made and EKS does not see yet is waited for, half a minute at most.
  - Everything is marked in the call that makes it with the tags C(gpuops.eks/owner) and C(gpuops.eks/component). An entry that was made by
    somebody else, which may be EKS itself for the creator of the cluster and for node groups, is left alone unless its C(adopt) is V(true).
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
      - Name of the cluster. In check mode it need not exist yet. Its authentication mode has to be V(API) or V(API_AND_CONFIG_MAP).
    type: str
    required: true
  state:
    description:
      - V(absent) removes the entries that are listed. Of each only O(entries[].principal_arn) is looked at.
    type: str
    choices: [present, absent]
    default: present
  entries:
    description:
      - The access entries.
    type: list
    elements: dict
    required: true
    suboptions:
      principal_arn:
        description:
          - ARN of the IAM role or user, path included. Of somebody who signs in with an assumed role, that of the role.
        type: str
        required: true
      type:
        description:
          - What the principal is for. V(STANDARD) at creation; the others are for nodes, to which EKS gives what they need, so that they have
            neither O(entries[].username) nor O(entries[].kubernetes_groups), and only V(EC2) has policies. It cannot be changed later.
        type: str
        choices: [STANDARD, EC2_LINUX, EC2_WINDOWS, FARGATE_LINUX, EC2, HYBRID_LINUX, HYPERPOD_LINUX]
      username:
        description:
          - Name that the principal has in Kubernetes; that of EKS when left out at creation.
        type: str
      kubernetes_groups:
        description:
          - Groups that the principal is in, to be named in role bindings. An empty list means none.
        type: list
        elements: str
      policies:
        description:
          - Access policies of EKS. When set it is the whole list; an empty one removes all.
        type: list
        elements: dict
        suboptions:
          policy:
            description: Name of the access policy, such as V(AmazonEKSClusterAdminPolicy), or its ARN.
            type: str
            required: true
          namespaces:
            description: Namespaces that it is limited to. The whole cluster when left out or empty.
            type: list
            elements: str
      tags:
        description:
          - Tags of the entry, besides those that mark it as made by this collection.
        type: dict
      adopt:
        description:
          - Change the fields that are set of an entry that was made by somebody else. It is never removed, gets no mark and loses no tag.
            V(false) when left out.
        type: bool
  purge:
    description:
      - Whether entries that this module has made for the cluster and that O(entries) does not list are removed.
    type: bool
    default: false
  purge_tags:
    description:
      - Whether tags that O(entries[].tags) does not name are removed, where it is set. Never done to an entry that is adopted.
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
- name: Administrators, a team in its namespaces, and nobody else of those that were made here
  gpuops.eks.eks_access_entry:
    cluster_name: demo
    region: us-west-2
    purge: true
    entries:
      - principal_arn: arn:aws:iam::123456789012:role/platform
        policies:
          - policy: AmazonEKSClusterAdminPolicy
      - principal_arn: arn:aws:iam::123456789012:role/research
        kubernetes_groups: [research]
        policies:
          - policy: AmazonEKSEditPolicy
            namespaces: [training, inference]

- name: Nodes that are not of a managed node group
  gpuops.eks.eks_access_entry:
    cluster_name: demo
    region: us-west-2
    entries:
      - principal_arn: arn:aws:iam::123456789012:role/demo-us-west-2-node
        type: EC2_LINUX

- name: No access for a team any more
  gpuops.eks.eks_access_entry:
    cluster_name: demo
    region: us-west-2
    state: absent
    entries:
      - principal_arn: arn:aws:iam::123456789012:role/research
"""

RETURN = r"""
access_entries:
  description:
    - The entries as C(eks:DescribeAccessEntry) returns them, in snake case, with the keys of tags untouched; in check mode as they will be.
      Empty with O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    principal_arn:
      description: ARN of the principal.
      type: str
      returned: always
      sample: arn:aws:iam::123456789012:role/research
    access_entry_arn:
      description: ARN of the entry; C(planned:access-entry/PRINCIPAL) for one that check mode would make.
      type: str
      returned: always
      sample: arn:aws:eks:us-west-2:123456789012:access-entry/demo/role/123456789012/research/1ac8d7a4-0b3f-7c2e-9d1c-2f3a4b5c6d7e
    type:
      description: Type of the entry.
      type: str
      returned: always
      sample: STANDARD
    username:
      description: Name in Kubernetes; null where check mode cannot know it.
      type: str
      returned: always
      sample: arn:aws:sts::123456789012:assumed-role/research/{{SessionName}}
    kubernetes_groups:
      description: Groups in Kubernetes.
      type: list
      elements: str
      returned: always
      sample: [research]
    policies:
      description: The access policies; null where O(entries[].policies) is not set, for they are not read then.
      type: list
      elements: dict
      returned: always
      sample:
        - policy_arn: arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy
          access_scope: {type: namespace, namespaces: [inference, training]}
    tags:
      description: Tags, keys untouched.
      type: dict
      returned: always
      sample:
        gpuops.eks/component: access-entry
        gpuops.eks/owner: arn:aws:eks:us-west-2:123456789012:cluster/demo
plan:
  description: The calls that were made, in check mode those that would be.
  returned: success
  type: list
  elements: dict
  sample:
    - action: eks:AssociateAccessPolicy
      target: arn:aws:iam::123456789012:role/research
      effect: update
      fields: [policies]
      reason: AmazonEKSEditPolicy
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.access_entry import ENTRY_OPTIONS, entry_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.access_entry import entry_job
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "entries": {"type": "list", "elements": "dict", "required": True, "options": ENTRY_OPTIONS},
        "purge": {"type": "bool", "default": False},
        "purge_tags": {"type": "bool", "default": True},
    }
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS), entry_job, validate=entry_faults)


if __name__ == "__main__":
    main()
