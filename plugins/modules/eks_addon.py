#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_addon
short_description: Amazon EKS add-ons of a cluster
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Installs Amazon EKS add-ons on a cluster, changes or updates them in place, or removes them; one, or several side by side.
  - Versions are those that EKS offers for the cluster's Kubernetes version. A configuration is checked against the JSON schema of the
    add-on's version before anything is changed.
  - What is not set is not managed. An update that changes one field sends the add-on's role and configuration along as they are.
  - Everything is marked in the call that makes it with the tags C(gpuops.eks/owner) and C(gpuops.eks/component). An add-on that was made by
    somebody else is left alone unless O(adopt=true).
  - A run that was interrupted is finished by running again. An add-on whose creation failed (C(CREATE_FAILED)) is removed and made again,
    one whose update failed (C(UPDATE_FAILED)) is updated again.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - gpuops.eks._attributes
  - gpuops.eks._attributes.actiongroup
  - gpuops.eks._aws
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
      - V(absent) removes the add-ons. Of each only the name, O(preserve) and what is said about waiting is looked at.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - Name of one add-on, such as V(vpc-cni). Several with O(addons).
    type: str
  version: &version
    description:
      - V(default) and V(latest) are what EKS offers as such for the cluster's version, on every run; or an exact version. When left out, the
        default version at creation, which is then kept.
    type: str
  configuration_values: &configuration_values
    description:
      - The add-on's configuration, compared as data. When set it is the whole configuration.
    type: dict
  resolve_conflicts: &resolve_conflicts
    description:
      - What EKS does about fields in Kubernetes that somebody has changed. When left out, creation leaves it to EKS, and an update has
        V(PRESERVE).
    type: str
    choices: [NONE, OVERWRITE, PRESERVE]
  service_account_role_arn: &service_account_role_arn
    description:
      - ARN of the IAM role that the add-on takes by the cluster's OIDC provider.
    type: str
  pod_identity_associations: &pod_identity_associations
    description:
      - IAM roles that the add-on's service accounts take by EKS Pod Identity. When set it is the whole set; an empty list removes all.
    type: list
    elements: dict
    suboptions:
      service_account:
        description: Name of the service account.
        type: str
        required: true
      role_arn:
        description: ARN of the role.
        type: str
        required: true
  namespace: &namespace
    description:
      - Namespace that the add-on is installed in. That of EKS when left out. It cannot be changed later.
    type: str
  preserve: &preserve
    description:
      - Whether O(state=absent) leaves the add-on's objects in Kubernetes. V(false) when left out.
    type: bool
  tags: &tags
    description:
      - Tags of the add-on, besides those that mark it as made by this collection.
    type: dict
  addons:
    description:
      - Several add-ons, handled in one run. Mutually exclusive with the options of a single one.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the add-on.
        type: str
        required: true
      version: *version
      configuration_values: *configuration_values
      resolve_conflicts: *resolve_conflicts
      service_account_role_arn: *service_account_role_arn
      pod_identity_associations: *pod_identity_associations
      namespace: *namespace
      preserve: *preserve
      tags: *tags
      wait:
        description:
          - Whether to wait for this one. O(wait) when left out. An add-on whose pods find no node yet is not C(ACTIVE) before there is one.
        type: bool
  purge_tags:
    description:
      - Whether tags that C(tags) of an add-on does not name are removed, where C(tags) is set. Never done to one that is adopted.
    type: bool
    default: true
  adopt:
    description:
      - Change the fields that are set of add-ons that were made by somebody else. They are never removed, get no mark and lose no tag.
    type: bool
    default: false
  wait_timeout:
    description:
      - Seconds that each wait may take.
    type: int
    default: 1200
requirements:
  - jsonschema, to check O(configuration_values) before anything is changed. Without it EKS checks them, and the module warns.
notes:
  - While waiting, an add-on that is C(DEGRADED) is a failure at once, with what EKS says about it. Only C(InsufficientNumberOfReplicas) is
    waited out, for it passes when there are nodes.
seealso:
  - module: gpuops.eks.eks_cluster
"""

EXAMPLES = r"""
- name: One add-on, in the version that EKS recommends
  gpuops.eks.eks_addon:
    cluster_name: demo
    region: us-west-2
    name: vpc-cni
    version: default
    configuration_values:
      env:
        ENABLE_PREFIX_DELEGATION: "true"

- name: Several, one of them with a role
  gpuops.eks.eks_addon:
    cluster_name: demo
    region: us-west-2
    addons:
      - name: eks-pod-identity-agent
      - name: coredns
        wait: false
      - name: aws-ebs-csi-driver
        version: v1.45.0-eksbuild.2
        pod_identity_associations:
          - service_account: ebs-csi-controller-sa
            role_arn: arn:aws:iam::123456789012:role/demo-us-west-2-ebs-csi

- name: Give an add-on up, and leave what it runs
  gpuops.eks.eks_addon:
    cluster_name: demo
    region: us-west-2
    name: metrics-server
    preserve: true
    state: absent
"""

RETURN = r"""
addons:
  description:
    - The add-ons as C(eks:DescribeAddon) returns them, in snake case, with the keys of tags and of the configuration untouched; in check
      mode as they will be. Empty with O(state=absent).
  returned: success
  type: list
  elements: dict
  contains: &addon
    addon_name:
      description: Name of the add-on.
      type: str
      returned: always
      sample: aws-ebs-csi-driver
    addon_arn:
      description: ARN of the add-on; C(planned:addon/NAME) for one that check mode would make.
      type: str
      returned: always
      sample: arn:aws:eks:us-west-2:123456789012:addon/demo/aws-ebs-csi-driver/9ac1c9b2-6f0e-7d4a-0d3e-4b8f4d1a2c3e
    addon_version:
      description: Version of the add-on; null where check mode cannot know it before there is a cluster.
      type: str
      returned: always
      sample: v1.45.0-eksbuild.2
    status:
      description: C(ACTIVE), C(DEGRADED) or another of EKS; null for one that check mode would make.
      type: str
      returned: always
      sample: ACTIVE
    health:
      description: What EKS finds wrong.
      type: dict
      returned: when the add-on exists
      sample: {issues: []}
    configuration_values:
      description: The configuration as data; null where there is none.
      type: dict
      returned: always
      sample: {controller: {replicaCount: 1}}
    pod_identity_associations:
      description: ARNs of the associations that belong to the add-on.
      type: list
      elements: str
      returned: when there are any
      sample: [arn:aws:eks:us-west-2:123456789012:podidentityassociation/demo/a-1234567890abcdef0]
    service_account_role_arn:
      description: ARN of the role by OIDC.
      type: str
      returned: when it has one
      sample: arn:aws:iam::123456789012:role/demo-us-west-2-vpc-cni
    tags:
      description: Tags, keys untouched.
      type: dict
      returned: always
      sample:
        gpuops.eks/component: addon
        gpuops.eks/owner: arn:aws:eks:us-west-2:123456789012:cluster/demo
addon:
  description: The add-on, where it was given without O(addons); null with O(state=absent).
  returned: when O(addons) is not set
  type: dict
  contains: *addon
plan:
  description: The calls that were made, in check mode those that would be.
  returned: success
  type: list
  elements: dict
  sample:
    - action: eks:UpdateAddon
      target: vpc-cni
      effect: update
      fields: [version]
      reason: from v1.19.0-eksbuild.1
progress:
  description: What was waited for, in the words of EKS.
  returned: success
  type: list
  elements: str
  sample: ["DescribeAddon vpc-cni: CREATING", "DescribeAddon vpc-cni: ACTIVE"]
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.addon import addon_faults, addon_options
from ansible_collections.gpuops.eks.plugins.module_utils._run.addon import addon_job
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "addons": {"type": "list", "elements": "dict", "options": addon_options()},
        **addon_options(flat=True),
        "purge_tags": {"type": "bool", "default": True},
        "adopt": {"type": "bool", "default": False},
    },
    required_one_of=(("name", "addons"),),
    mutually_exclusive=tuple(("addons", option) for option in addon_options(flat=True)),
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS, wait_timeout=1200), addon_job, validate=addon_faults)


if __name__ == "__main__":
    main()
