#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_pod_identity_association
short_description: Associations of service accounts with IAM roles by EKS Pod Identity
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Gives the pods of a service account an IAM role by EKS Pod Identity, moves it to another role in place, or takes it away; one
    association, or several in one run.
  - A service account has one association at most, which is found by its namespace and name.
  - What is not set is not managed. An update sends the fields that stay along as they are.
  - A role that IAM has just made and EKS does not see yet is waited for, half a minute at most.
  - Everything is marked in the call that makes it with the tags C(gpuops.eks/owner) and C(gpuops.eks/component). An association that was
    made by somebody else is left alone unless O(adopt=true). One that belongs to an add-on is managed with M(gpuops.eks.eks_addon).
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
      - V(absent) removes the associations. Of each only the namespace and the service account are looked at.
    type: str
    choices: [present, absent]
    default: present
  namespace:
    description:
      - Namespace of the service account of one association. Several with O(associations).
    type: str
  service_account:
    description:
      - Name of the service account of one association.
    type: str
  role_arn: &role_arn
    description:
      - ARN of the role that the pods get. Needed to create an association. It has to trust C(pods.eks.amazonaws.com).
    type: str
  target_role_arn: &target_role_arn
    description:
      - ARN of a role that EKS takes by the first one, also of another account. The pods get this one then.
    type: str
  disable_session_tags: &disable_session_tags
    description:
      - Whether sessions come without the tags by which EKS tells the cluster, the namespace and the service account.
    type: bool
  policy: &policy
    description:
      - An IAM policy that narrows what the role allows, compared as data. It needs C(disable_session_tags) to be V(true).
    type: dict
  tags: &tags
    description:
      - Tags of the association, besides those that mark it as made by this collection.
    type: dict
  associations:
    description:
      - Several associations, handled in one run. Mutually exclusive with the options of a single one.
    type: list
    elements: dict
    suboptions:
      namespace:
        description: Namespace of the service account.
        type: str
        required: true
      service_account:
        description: Name of the service account.
        type: str
        required: true
      role_arn: *role_arn
      target_role_arn: *target_role_arn
      disable_session_tags: *disable_session_tags
      policy: *policy
      tags: *tags
  purge_tags:
    description:
      - Whether tags that C(tags) of an association does not name are removed, where C(tags) is set. Never done to one that is adopted.
    type: bool
    default: true
  adopt:
    description:
      - Change the fields that are set of associations that were made by somebody else. They are never removed, get no mark and lose no tag.
    type: bool
    default: false
requirements:
  - python >= 3.10
  - boto3 >= 1.40.0
  - botocore >= 1.40.0
notes:
  - Pods get the credentials when they start, and only with the add-on C(eks-pod-identity-agent) on their node.
seealso:
  - module: gpuops.eks.eks_addon
"""

EXAMPLES = r"""
- name: The role of the cluster autoscaler
  gpuops.eks.eks_pod_identity_association:
    cluster_name: demo
    region: us-west-2
    namespace: kube-system
    service_account: cluster-autoscaler
    role_arn: arn:aws:iam::123456789012:role/demo-us-west-2-cluster-autoscaler

- name: Two teams share a role, each with its own part of it
  gpuops.eks.eks_pod_identity_association:
    cluster_name: demo
    region: us-west-2
    associations:
      - namespace: "{{ item }}"
        service_account: reader
        role_arn: arn:aws:iam::123456789012:role/demo-data
        disable_session_tags: true
        policy:
          Version: "2012-10-17"
          Statement:
            - Effect: Allow
              Action: s3:GetObject
              Resource: "arn:aws:s3:::demo-data/{{ item }}/*"
  loop: [vision, speech]

- name: No association any more
  gpuops.eks.eks_pod_identity_association:
    cluster_name: demo
    region: us-west-2
    namespace: kube-system
    service_account: cluster-autoscaler
    state: absent
"""

RETURN = r"""
associations:
  description:
    - The associations as C(eks:DescribePodIdentityAssociation) returns them, in snake case, with the keys of tags and of the policy
      untouched; in check mode as they will be. Empty with O(state=absent).
  returned: success
  type: list
  elements: dict
  contains: &association
    association_id:
      description: Id of the association; C(planned:pod-identity-association/NAMESPACE/NAME) for one that check mode would make.
      type: str
      returned: always
      sample: a-1234567890abcdef0
    association_arn:
      description: ARN of the association.
      type: str
      returned: always
      sample: arn:aws:eks:us-west-2:123456789012:podidentityassociation/demo/a-1234567890abcdef0
    namespace:
      description: Namespace of the service account.
      type: str
      returned: always
      sample: kube-system
    service_account:
      description: Name of the service account.
      type: str
      returned: always
      sample: cluster-autoscaler
    role_arn:
      description: ARN of the role.
      type: str
      returned: always
      sample: arn:aws:iam::123456789012:role/demo-us-west-2-cluster-autoscaler
    target_role_arn:
      description: ARN of the role that is taken by the first one; null where there is none.
      type: str
      returned: always
      sample: null
    disable_session_tags:
      description: Whether sessions come without tags.
      type: bool
      returned: always
      sample: false
    policy:
      description: The session policy as data; null where there is none.
      type: dict
      returned: always
      sample: null
    external_id:
      description: What the trust policy of the target role has to ask for.
      type: str
      returned: when there is a target role
      sample: us-west-2/123456789012/demo/kube-system/cluster-autoscaler
    tags:
      description: Tags, keys untouched.
      type: dict
      returned: always
      sample:
        gpuops.eks/component: pod-identity-association
        gpuops.eks/owner: arn:aws:eks:us-west-2:123456789012:cluster/demo
association:
  description: The association, where it was given without O(associations); null with O(state=absent).
  returned: when O(associations) is not set
  type: dict
  contains: *association
plan:
  description: The calls that were made, in check mode those that would be.
  returned: success
  type: list
  elements: dict
  sample:
    - action: eks:UpdatePodIdentityAssociation
      target: a-1234567890abcdef0
      effect: update
      fields: [role_arn]
      reason: from arn:aws:iam::123456789012:role/demo-old
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_identity import association_faults, association_options
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module
from ansible_collections.gpuops.eks.plugins.module_utils._run.pod_identity import association_job

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "associations": {"type": "list", "elements": "dict", "options": association_options()},
        **association_options(flat=True),
        "purge_tags": {"type": "bool", "default": True},
        "adopt": {"type": "bool", "default": False},
    },
    required_one_of=(("namespace", "associations"),),
    required_together=(("namespace", "service_account"),),
    mutually_exclusive=tuple(("associations", option) for option in association_options(flat=True)),
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS), association_job, validate=association_faults)


if __name__ == "__main__":
    main()
