#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_network
short_description: The network of an EKS cluster as one planned whole
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Makes a VPC with a private and a public subnet in each availability zone, an internet gateway, NAT gateways with their
    Elastic IP addresses, route tables, a security group for the Kubernetes API endpoint, and on request VPC endpoints, subnets for the
    control plane alone, and secondary address blocks; or takes all of it down.
  - With O(vpc_id) it only looks at a network that somebody else made, and reports everything in it that a cluster cannot use.
  - Everything is marked in the call that makes it with the tag C(gpuops.eks/owner), the ARN of the cluster, and found again by that
    tag. A run that was interrupted is finished by running again; only what carries the mark is ever changed or deleted.
  - In check mode the result is what will be; ids that only exist after a run are V(planned:KIND/NAME), and the other modules of this
    collection accept them.
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
      - Name of the cluster that the network is for. It need not exist yet.
    type: str
    required: true
  state:
    description:
      - V(absent) deletes the whole network. It is refused while something that is not ours is still in the VPC. Together with O(vpc_id) it
        does nothing.
    type: str
    choices: [present, absent]
    default: present
  cidr:
    description:
      - IPv4 block of the VPC, V(/16) to V(/28). V(10.0.0.0/16) where it is not set when the VPC is made. It cannot be changed later.
    type: str
  secondary_cidrs:
    description:
      - Further IPv4 blocks of the VPC, V(/16) to V(/28), such as V(100.64.0.0/16).
      - New subnets for which O(cidr) has no room lie in the first of them that has.
      - Blocks that the VPC has and that are not listed stay, without new subnets. Not set, those that it has are used.
    type: list
    elements: str
  zones:
    description:
      - Availability zones by name or by zone id, at least two.
      - A zone that is added gets the next free blocks and moves no subnet. Subnets in a zone that is no longer named are kept,
        with a warning, and left out of the result.
      - Not set, the zones that the network has are used, and as many others of the region as O(zone_count) needs.
    type: list
    elements: str
  zone_count:
    description:
      - In how many zones there are subnets where O(zones) is not set; V(3) if neither is.
      - Zones where EKS places no control plane are left out, and so are those that offer none of O(instance_types); see
        RV(network.left_out_zones).
    type: int
  instance_types:
    description:
      - Types of the nodes that the network is for, such as V(g5.2xlarge) or V(g5.*). A zone that offers none of them is left out where
        zones are chosen by O(zone_count), with a warning; where O(zones) names it, there is the warning alone.
      - Looked up where the network needs a zone in which it has no subnets yet.
    type: list
    elements: str
  nat:
    description:
      - How private subnets reach the internet. V(single) is one NAT gateway for all zones, V(per_zone) one in each, V(none) none.
      - Not set, the NAT gateways that are there are kept, and V(single) is made where there is none and O(public_subnets) is true.
      - Gateways that are not needed any more are deleted and their addresses released once the routes lead elsewhere.
    type: str
    choices: [none, single, per_zone]
  public_subnets:
    description:
      - Whether there are public subnets and an internet gateway.
    type: bool
    default: true
  intra_subnets:
    description:
      - Whether there is a subnet in each zone that has no route out of the VPC, for the network interfaces of the control plane.
      - They can be added later, and are only removed with the whole network.
    type: bool
    default: false
  private_subnet_prefix:
    description:
      - Prefix length of each private subnet; V(20) where it is not set when they are made. It cannot be changed later.
    type: int
  public_subnet_prefix:
    description:
      - Prefix length of each public subnet; V(24) where it is not set when they are made. It cannot be changed later.
    type: int
  intra_subnet_prefix:
    description:
      - Prefix length of each intra subnet; V(28) where it is not set when they are made. It cannot be changed later.
    type: int
  gateway_endpoints:
    description:
      - Services that have a gateway endpoint in all route tables of the network. It costs nothing.
      - The list is exact for what this module made. Not set, endpoints are left as they are.
    type: list
    elements: str
    choices: [s3, dynamodb]
  interface_endpoints:
    description:
      - Services that have an interface endpoint with private DNS in the private subnets, by their short names, such as V(ecr.api) of
        C(com.amazonaws.us-west-2.ecr.api). A service that is not in every zone has it in those where it is.
      - The list is exact for what this module made. Not set, endpoints are left as they are.
      - P(gpuops.eks.private_endpoints#filter) has what a cluster without a way out of its VPC needs.
      - Their security group, RV(network.security_group_ids) C(endpoints), lets the blocks of the VPC reach port 443, and nobody else.
    type: list
    elements: str
  vpc_id:
    description:
      - A VPC that somebody else made. Nothing in it is made, changed, tagged or deleted. O(private_subnet_ids) has to be set too, and no
        option by which something would be made.
      - It is refused where something that is named is not there or lies elsewhere, where DNS support or DNS host names are off, where
        the subnets of the control plane are in one zone, or where a private or intra subnet has fewer than six free addresses and there is
        no cluster yet.
    type: str
  private_subnet_ids:
    description:
      - Private subnets of O(vpc_id), for nodes.
    type: list
    elements: str
  public_subnet_ids:
    description:
      - Public subnets of O(vpc_id), for load balancers.
    type: list
    elements: str
  intra_subnet_ids:
    description:
      - Subnets of O(vpc_id) for the network interfaces of the control plane, in two zones at least. Not set, these are
        O(private_subnet_ids).
    type: list
    elements: str
  security_group_ids:
    description:
      - Security groups of O(vpc_id) for the network interfaces of the control plane, five at most.
    type: list
    elements: str
  api_access_cidrs:
    description:
      - IPv4 networks outside of the VPC, such as a peered one, that the security group RV(network.security_group_ids) C(api) lets reach
        port 443. The VPC itself always may.
      - Not set, those that are there are kept.
    type: list
    elements: str
  subnet_tags:
    description:
      - Further tags of the subnets of each kind, such as C(karpenter.sh/discovery). Load balancers find theirs without, as private subnets
        are tagged C(kubernetes.io/role/internal-elb) and public ones C(kubernetes.io/role/elb).
      - They are added to O(tags); where O(tags) is not set, none are removed.
    type: dict
    suboptions:
      private:
        description: Tags of the private subnets.
        type: dict
      public:
        description: Tags of the public subnets.
        type: dict
      intra:
        description: Tags of the intra subnets.
        type: dict
  tags:
    description:
      - Tags of every resource of the network, besides those that the module sets itself.
      - Not set, the tags that are there are kept.
    type: dict
  purge_tags:
    description:
      - Whether tags that O(tags) does not name are removed, where O(tags) is set.
      - Tags whose keys begin with C(aws:), C(gpuops.eks/), C(kubernetes.io/) or C(karpenter.sh/) are always kept.
    type: bool
    default: true
  wait_timeout:
    description:
      - Seconds to wait for NAT gateways, and for endpoints.
    type: int
    default: 900
notes:
  - NAT gateways are waited for even with O(wait=false), because routes and addresses need them. So is what has to be gone
    before something else can be made or deleted.
"""

EXAMPLES = r"""
- name: A network in three zones with one NAT gateway
  gpuops.eks.eks_network:
    cluster_name: demo
    region: us-west-2

- name: A network in two zones, each with a NAT gateway
  gpuops.eks.eks_network:
    cluster_name: inference
    region: us-west-2
    cidr: 10.20.0.0/16
    zones: [us-west-2a, us-west-2b]
    nat: per_zone
    api_access_cidrs: [10.99.0.0/16]
    tags:
      team: ml-platform

- name: A network without a way out, with subnets of its own for the control plane and many addresses for pods
  gpuops.eks.eks_network:
    cluster_name: training
    region: us-west-2
    nat: none
    public_subnets: false
    intra_subnets: true
    secondary_cidrs: [100.64.0.0/16]
    private_subnet_prefix: 18
    instance_types: [p5.48xlarge]
    zone_count: 2
    gateway_endpoints: [s3]
    interface_endpoints: "{{ [] | gpuops.eks.private_endpoints }}"
    subnet_tags:
      private:
        karpenter.sh/discovery: training

- name: A network that somebody else made
  gpuops.eks.eks_network:
    cluster_name: research
    region: us-west-2
    vpc_id: vpc-0a1b2c3d4e5f67890
    private_subnet_ids: [subnet-0f3a1b2c3d4e5f601, subnet-0f3a1b2c3d4e5f602]
    security_group_ids: [sg-0d7e6f5a4b3c2d1e0]

- name: No network any more
  gpuops.eks.eks_network:
    cluster_name: demo
    region: us-west-2
    state: absent
"""

RETURN = r"""
network:
  description: The network as it is, in check mode as it will be; null with O(state=absent).
  returned: success
  type: dict
  contains:
    vpc_id:
      description: Id of the VPC.
      type: str
      returned: always
      sample: vpc-0a1b2c3d4e5f67890
    cidr_block:
      description: IPv4 block of the VPC.
      type: str
      returned: always
      sample: 10.0.0.0/16
    managed:
      description: Whether this module made the network; false with O(vpc_id).
      type: bool
      returned: always
      sample: true
    secondary_cidrs:
      description: Further IPv4 blocks of the VPC.
      type: list
      elements: str
      returned: always
      sample: [100.64.0.0/16]
    left_out_zones:
      description: Zones that were passed over because they are of no use; empty where the network has its zones already.
      type: list
      elements: dict
      returned: always
      contains:
        zone:
          description: Name of the availability zone.
          type: str
          returned: always
        reason:
          description: Why it was passed over.
          type: str
          returned: always
      sample:
        - zone: us-west-2d
          reason: it offers none of p5.48xlarge
    zones:
      description: Names of the availability zones.
      type: list
      elements: str
      returned: always
      sample: [us-west-2a, us-west-2b]
    private_subnet_ids:
      description: Ids of the private subnets, in the order of RV(network.zones).
      type: list
      elements: str
      returned: always
      sample: [subnet-0f3a1b2c3d4e5f601, subnet-0f3a1b2c3d4e5f602]
    public_subnet_ids:
      description: Ids of the public subnets, in the order of RV(network.zones).
      type: list
      elements: str
      returned: always
      sample: [subnet-0f3a1b2c3d4e5f603, subnet-0f3a1b2c3d4e5f604]
    intra_subnet_ids:
      description: Ids of the intra subnets, in the order of RV(network.zones).
      type: list
      elements: str
      returned: always
      sample: [subnet-0f3a1b2c3d4e5f605, subnet-0f3a1b2c3d4e5f606]
    subnets:
      description: All subnets, private ones first, in the order of RV(network.zones).
      type: list
      elements: dict
      returned: always
      contains:
        id:
          description: Id of the subnet.
          type: str
          returned: always
        zone:
          description: Name of its availability zone.
          type: str
          returned: always
        zone_id:
          description: Id of its availability zone.
          type: str
          returned: always
        tier:
          description: V(private), V(public) or V(intra).
          type: str
          returned: always
        cidr_block:
          description: IPv4 block of the subnet.
          type: str
          returned: always
      sample:
        - id: subnet-0f3a1b2c3d4e5f601
          zone: us-west-2a
          zone_id: usw2-az2
          tier: private
          cidr_block: 10.0.0.0/20
    nat_gateways:
      description: The NAT gateways.
      type: list
      elements: dict
      returned: always
      contains:
        id:
          description: Id of the NAT gateway.
          type: str
          returned: always
        zone:
          description: Name of its availability zone.
          type: str
          returned: always
        public_ip:
          description: Its Elastic IP address; null before it is allocated.
          type: str
          returned: always
      sample:
        - id: nat-0c9d8e7f6a5b4c3d2
          zone: us-west-2a
          public_ip: 198.51.100.17
    internet_gateway_id:
      description: Id of the internet gateway; null without public subnets.
      type: str
      returned: always
      sample: igw-0b8c7d6e5f4a3b2c1
    security_group_ids:
      description:
        - Security groups by what they are for, C(api) for the network interfaces of the control plane, C(endpoints) for the interface
          endpoints.
        - With O(vpc_id) those of O(security_group_ids) as C(api), C(api-2) and so on.
      type: dict
      returned: always
      sample:
        api: sg-0d7e6f5a4b3c2d1e0
        endpoints: sg-0d7e6f5a4b3c2d1e1
    endpoints:
      description: The VPC endpoints of the network, with O(vpc_id) all of the VPC.
      type: list
      elements: dict
      returned: always
      contains:
        id:
          description: Id of the endpoint.
          type: str
          returned: always
        service:
          description: Short name of its service.
          type: str
          returned: always
        type:
          description: V(Gateway) or V(Interface).
          type: str
          returned: always
        state:
          description: State as EC2 says it, in lower case; null before it is made.
          type: str
          returned: always
      sample:
        - id: vpce-0b1c2d3e4f5a6b7c8
          service: s3
          type: Gateway
          state: available
        - id: vpce-0b1c2d3e4f5a6b7c9
          service: ecr.api
          type: Interface
          state: available
plan:
  description: The calls that were made, in check mode those that would be.
  returned: success
  type: list
  elements: dict
  sample:
    - action: ec2:CreateVpc
      target: planned:vpc/demo
      effect: create
      fields: [cidr_block, tags]
      reason: ""
progress:
  description: What was waited for, in the words of EC2.
  returned: success
  type: list
  elements: str
  sample: ["DescribeNatGateways nat-0c9d8e7f6a5b4c3d2: available"]
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import GATEWAY_SERVICES
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import network_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module
from ansible_collections.gpuops.eks.plugins.module_utils._run.network import network_job

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "cidr": {"type": "str"},
        "zones": {"type": "list", "elements": "str"},
        "zone_count": {"type": "int"},
        "nat": {"type": "str", "choices": ["none", "single", "per_zone"]},
        "public_subnets": {"type": "bool", "default": True},
        "intra_subnets": {"type": "bool", "default": False},
        "private_subnet_prefix": {"type": "int"},
        "public_subnet_prefix": {"type": "int"},
        "intra_subnet_prefix": {"type": "int"},
        "secondary_cidrs": {"type": "list", "elements": "str"},
        "instance_types": {"type": "list", "elements": "str"},
        "gateway_endpoints": {"type": "list", "elements": "str", "choices": list(GATEWAY_SERVICES)},
        "interface_endpoints": {"type": "list", "elements": "str"},
        "api_access_cidrs": {"type": "list", "elements": "str"},
        "vpc_id": {"type": "str"},
        "private_subnet_ids": {"type": "list", "elements": "str"},
        "public_subnet_ids": {"type": "list", "elements": "str"},
        "intra_subnet_ids": {"type": "list", "elements": "str"},
        "security_group_ids": {"type": "list", "elements": "str"},
        "subnet_tags": {"type": "dict", "options": {tier: {"type": "dict"} for tier in ("private", "public", "intra")}},
        "tags": {"type": "dict"},
        "purge_tags": {"type": "bool", "default": True},
    }
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS, wait_timeout=900), network_job, validate=network_faults)


if __name__ == "__main__":
    main()
