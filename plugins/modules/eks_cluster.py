#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_cluster
short_description: An EKS cluster with safe defaults, changed in the order that EKS allows
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Creates an EKS cluster, changes it in place, or deletes it.
  - EKS takes one kind of update per call and one at a time, and refuses a call that changes nothing. The module plans the calls that are
    needed, one after another, waits for each, and for an update that somebody else has under way.
  - What is not set is not managed. Defaults are sent when the cluster is created; they are those that are safe, not those of EKS.
  - A cluster that was made by somebody else is left alone unless O(adopt=true).
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
  name:
    description:
      - Name of the cluster.
    type: str
    required: true
  state:
    description:
      - V(absent) deletes the cluster. It is refused while the cluster has node groups, Fargate profiles, nodes of Karpenter or of Auto Scaling
        groups, or deletion protection that this task does not take off with O(deletion_protection=false).
    type: str
    choices: [present, absent]
    default: present
  version:
    description:
      - Kubernetes version, in quotes. The default version of EKS where it is not set at creation.
      - A cluster is upgraded by one minor version at a time, and never back.
    type: str
  role_arn:
    description:
      - ARN of the IAM role that EKS takes. Needed to create a cluster; it cannot be changed later.
    type: str
  subnet_ids:
    description:
      - Subnets of the control plane, in at least two availability zones of one VPC. Needed to create a cluster.
      - A cluster keeps the zones of its creation. Later, subnets in other zones are not given to it, and its subnet in a zone in which none is
        named here stays; the module warns of each. Nodes can be in any zone of the VPC.
    type: list
    elements: str
  security_group_ids:
    description:
      - Security groups of the control plane's network interfaces besides the one that EKS makes, at most five.
    type: list
    elements: str
  endpoint_private_access:
    description:
      - Whether the API server can be reached inside the VPC; V(true) at creation.
    type: bool
  endpoint_public_access:
    description:
      - Whether the API server can be reached from the internet. At creation V(true) if O(public_access_cidrs) is set, else V(false).
    type: bool
  public_access_cidrs:
    description:
      - Networks that may reach the public endpoint, in CIDR notation. Setting them turns O(endpoint_public_access) on.
    type: list
    elements: str
  allow_public_any:
    description:
      - Accept V(0.0.0.0/0) and V(::/0) in O(public_access_cidrs), and a public endpoint without O(public_access_cidrs), which EKS opens to
        everybody.
    type: bool
    default: false
  authentication_mode:
    description:
      - Where EKS looks up who may do what; V(API) at creation. It only goes from V(CONFIG_MAP) to V(API_AND_CONFIG_MAP) to V(API).
    type: str
    choices: [CONFIG_MAP, API_AND_CONFIG_MAP, API]
  bootstrap_cluster_creator_admin_permissions:
    description:
      - Whether the identity that creates the cluster becomes its administrator; V(true) at creation. It cannot be changed later.
    type: bool
  support_type:
    description:
      - What happens when the standard support of the version ends.
        V(EXTENDED) keeps it at a higher price, V(STANDARD) lets EKS upgrade it.
    type: str
    choices: [STANDARD, EXTENDED]
  deletion_protection:
    description:
      - Whether EKS refuses to delete the cluster.
    type: bool
  logging_types:
    description:
      - Control plane logs that go to CloudWatch; an empty list means none.
    type: list
    elements: str
    choices: [api, audit, authenticator, controllerManager, scheduler]
  encryption_key_arn:
    description:
      - ARN of the KMS key with which EKS encrypts secrets, a symmetric one of the same region. It can be added to a cluster that has none; EKS
        neither changes nor removes it afterwards. May be a planned one in check mode.
    type: str
  scheduler_scoring:
    description:
      - How the control plane's scheduler ranks the nodes that a pod fits on.
    type: dict
    suboptions:
      type:
        description:
          - V(MostAllocated) packs pods onto as few nodes as they fit on, so that a GPU node fills before another is used. V(LeastAllocated) spreads
            them.
        type: str
        choices: [LeastAllocated, MostAllocated]
        required: true
      resources:
        description: The resources that count.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description: Name of the resource, such as V(nvidia.com/gpu).
            type: str
            required: true
          weight:
            description: How much it counts, 1 to 100.
            type: int
            required: true
  service_ipv4_cidr:
    description:
      - Network from which Kubernetes services get their addresses, V(/12) to V(/24) of a private range. It cannot be changed later.
    type: str
  bootstrap_self_managed_addons:
    description:
      - Whether EKS installs vpc-cni, kube-proxy and coredns without making them add-ons. V(false) where they are managed by
        M(gpuops.eks.eks_addon). It only counts at creation.
    type: bool
  recreate_failed:
    description:
      - Delete a cluster whose creation has failed, and make it again. Only one that this collection has made.
    type: bool
    default: false
  tags:
    description:
      - Tags of the cluster, besides those that mark it as made by this collection.
    type: dict
  purge_tags:
    description:
      - Whether tags that O(tags) does not name are removed, where O(tags) is set. Never done to a cluster that is adopted.
    type: bool
    default: true
  adopt:
    description:
      - Change the fields that are set of a cluster that was made by somebody else. It is never deleted, gets no mark and loses no tag.
    type: bool
    default: false
  wait_timeout:
    description:
      - Seconds that each wait may take.
    type: int
    default: 3600
notes:
  - With O(wait=false) only the last call is not waited for, because EKS refuses an update while another is under way.
"""

EXAMPLES = r"""
- name: A private cluster
  gpuops.eks.eks_cluster:
    name: demo
    region: us-west-2
    role_arn: arn:aws:iam::123456789012:role/demo-us-west-2-cluster
    subnet_ids: "{{ network.private_subnet_ids }}"
    security_group_ids: ["{{ network.security_group_ids.api }}"]

- name: The next version, reachable from one network outside, with audit logs
  gpuops.eks.eks_cluster:
    name: demo
    region: us-west-2
    version: "1.35"
    public_access_cidrs: [203.0.113.0/24]
    logging_types: [api, audit, authenticator]

- name: Fill a GPU node before the next one is used
  gpuops.eks.eks_cluster:
    name: demo
    region: us-west-2
    scheduler_scoring:
      type: MostAllocated
      resources:
        - {name: nvidia.com/gpu, weight: 100}
        - {name: cpu, weight: 1}

- name: No cluster any more
  gpuops.eks.eks_cluster:
    name: demo
    region: us-west-2
    deletion_protection: false
    state: absent
"""

RETURN = r"""
cluster:
  description:
    - The cluster as C(eks:DescribeCluster) returns it, in snake case, with the keys of tags untouched; in check mode as it will be.
    - Null with O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Name of the cluster.
      type: str
      returned: always
      sample: demo
    arn:
      description: ARN of the cluster.
      type: str
      returned: always
      sample: arn:aws:eks:us-west-2:123456789012:cluster/demo
    status:
      description: C(CREATING), C(ACTIVE), C(UPDATING) or another of EKS; null for a cluster that check mode would create.
      type: str
      returned: always
      sample: ACTIVE
    version:
      description: Kubernetes version.
      type: str
      returned: always
      sample: "1.35"
    endpoint:
      description: URL of the API server; null before there is one.
      type: str
      returned: when the cluster is active
      sample: https://0123456789ABCDEF0123456789ABCDEF.gr7.us-west-2.eks.amazonaws.com
    certificate_authority:
      description: The certificate authority of the API server, Base64 in C(data).
      type: dict
      returned: when the cluster is active
    role_arn:
      description: ARN of the role that EKS takes.
      type: str
      returned: always
      sample: arn:aws:iam::123456789012:role/demo-us-west-2-cluster
    resources_vpc_config:
      description: VPC, subnets, security groups and endpoint access.
      type: dict
      returned: always
      sample:
        cluster_security_group_id: sg-0d7e6f5a4b3c2d1e0
        endpoint_private_access: true
        endpoint_public_access: false
        public_access_cidrs: []
        security_group_ids: [sg-0d7e6f5a4b3c2d1e1]
        subnet_ids: [subnet-0f3a1b2c3d4e5f601, subnet-0f3a1b2c3d4e5f602]
        vpc_id: vpc-0a1b2c3d4e5f67890
    access_config:
      description: Authentication mode.
      type: dict
      returned: always
      sample:
        authentication_mode: API
    encryption_config:
      description: The key that secrets are encrypted with.
      type: list
      elements: dict
      returned: when there is one
      sample:
        - resources: [secrets]
          provider: {key_arn: "arn:aws:kms:us-west-2:123456789012:key/0a1b2c3d-1111-2222-3333-444455556666"}
    tags:
      description: Tags, keys untouched.
      type: dict
      returned: always
      sample:
        gpuops.eks/component: cluster
        gpuops.eks/owner: arn:aws:eks:us-west-2:123456789012:cluster/demo
plan:
  description: The calls that were made, in check mode those that would be.
  returned: success
  type: list
  elements: dict
  sample:
    - action: eks:UpdateClusterVersion
      target: demo
      effect: update
      fields: [version]
      reason: from 1.34
progress:
  description: What was waited for, in the words of EKS.
  returned: success
  type: list
  elements: str
  sample: ["DescribeCluster demo: CREATING", "DescribeCluster demo: ACTIVE"]
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import (
    AUTHENTICATION_MODES,
    LOGGING_TYPES,
    SCORING_OPTIONS,
    SUPPORT_TYPES,
    cluster_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._run.cluster import cluster_job
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(
    options={
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "version": {"type": "str"},
        "role_arn": {"type": "str"},
        "subnet_ids": {"type": "list", "elements": "str"},
        "security_group_ids": {"type": "list", "elements": "str"},
        "endpoint_private_access": {"type": "bool"},
        "endpoint_public_access": {"type": "bool"},
        "public_access_cidrs": {"type": "list", "elements": "str"},
        "allow_public_any": {"type": "bool", "default": False},
        "authentication_mode": {"type": "str", "choices": list(AUTHENTICATION_MODES)},
        "bootstrap_cluster_creator_admin_permissions": {"type": "bool"},
        "support_type": {"type": "str", "choices": list(SUPPORT_TYPES)},
        "deletion_protection": {"type": "bool"},
        "logging_types": {"type": "list", "elements": "str", "choices": list(LOGGING_TYPES)},
        "encryption_key_arn": {"type": "str", "no_log": False},
        "scheduler_scoring": {"type": "dict", "options": SCORING_OPTIONS},
        "service_ipv4_cidr": {"type": "str"},
        "bootstrap_self_managed_addons": {"type": "bool"},
        "recreate_failed": {"type": "bool", "default": False},
        "tags": {"type": "dict"},
        "purge_tags": {"type": "bool", "default": True},
        "adopt": {"type": "bool", "default": False},
    }
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS, wait_timeout=3600), cluster_job, validate=cluster_faults)


if __name__ == "__main__":
    main()
