#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_preflight_info
short_description: What would fail when a cluster is made, and what it costs
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Compares a cluster that is to be with what account and region allow, before anything is made. Reads only, and fails only where the
    credentials are not taken; everything else is a finding, with its arithmetic.
  - Quotas are looked up by name in Service Quotas. What is needed is all of this cluster, at creation and at the largest size of the
    pools; what is used is everything else in the region. What carries this cluster's mark already is not counted twice.
  - A quota that is too small to make the cluster is an error, one that is too small for the largest size of the pools a warning. A quota
    on vCPUs below one node of a group is an error too, because the group could never start one.
  - Of each node group the first, smallest instance type is counted, for a number of vCPUs that is needed in any case.
  - The estimate has a month of 730 hours at the smallest size (C(scaling.min), each group's first type) and at the largest
    (C(scaling.max), each group's most expensive type). Not in it are data transfer and what NAT gateways process, logs, load balancers,
    volumes of workloads, support plans, discounts and taxes.
  - On-Demand prices come from the Pricing API, or where that does not answer from those that the collection ships for some regions.
    A price that is not known is null, and then C(complete) is false; those of Spot and reserved instances are never known.
  - What one read cannot give is unknown, with a warning that names the permission; the rest of the result is there.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - gpuops.eks._attributes
  - gpuops.eks._attributes.actiongroup
  - gpuops.eks._nodepool.pools
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  cluster_name:
    description:
      - Name of the cluster, which need not exist.
    type: str
    required: true
  version:
    description:
      - Kubernetes version of the cluster. When left out it is not looked at, because EKS chooses one that it offers.
    type: str
  zones:
    description:
      - Zones of the cluster, by name or id. When left out the first O(zone_count) of the region, or all of them with O(network=false).
    type: list
    elements: str
  zone_count:
    description:
      - How many zones where O(zones) is left out; 3 when that is left out too.
    type: int
  nat:
    description:
      - NAT gateways of the network.
    type: str
    choices: [none, single, per_zone]
    default: single
  network:
    description:
      - Whether the cluster gets a VPC of its own. With V(false) quotas of the network are not looked at, and NAT gateways cost nothing.
    type: bool
    default: true
  interface_endpoints:
    description:
      - How many interface endpoints the VPC gets, each in all zones.
    type: int
    default: 0
  encryption_keys:
    description:
      - How many KMS keys are made.
    type: int
    default: 0
  cost_limit_per_month:
    description:
      - Largest estimate at the smallest size, in the currency of the region. An estimate above it is an error, and so is one that is not
        complete.
    type: float
  controller_cidrs:
    description:
      - Addresses that Ansible runs from. Each has to lie in one of O(public_access_cidrs), where there are any.
    type: list
    elements: str
  public_access_cidrs:
    description:
      - Addresses that may reach the public endpoint of the API server.
    type: list
    elements: str
  service_linked_roles:
    description:
      - Services whose service-linked role is needed. When left out C(eks.amazonaws.com), C(eks-nodegroup.amazonaws.com),
        C(autoscaling.amazonaws.com), and C(spot.amazonaws.com) where a pool buys Spot instances.
    type: list
    elements: str
seealso:
  - module: gpuops.eks.eks_network
  - module: gpuops.eks.eks_cluster
  - module: gpuops.eks.eks_gpu_nodepool
"""

EXAMPLES = r"""
- name: Look before anything is made
  gpuops.eks.eks_preflight_info:
    cluster_name: demo
    region: us-west-2
    version: "1.36"
    zones: [us-west-2a, us-west-2b]
    cost_limit_per_month: 2000
    pools:
      - name: general
        accelerator: none
        provisioner: managed_node_group
        instances:
          types: [m6i.large, m5.large]
        scaling: {min: 2, max: 4}
      - name: gpu
        provisioner: managed_node_group
        instances:
          types: [g5.2xlarge]
        scaling: {min: 1, max: 2}
  register: looked

- name: Stop where it would fail
  ansible.builtin.assert:
    that: errors | length == 0
    fail_msg: "{{ errors | map(attribute='message') | join('\n') }}"
  vars:
    errors: "{{ looked.preflight.findings | selectattr('severity', 'equalto', 'error') }}"
"""

RETURN = r"""
preflight:
  description: What was found.
  returned: success
  type: dict
  contains:
    findings:
      description: What would fail, or may; errors first.
      type: list
      elements: dict
      returned: always
      contains:
        code:
          description:
            - "V(quota_exceeded), V(quota_exceeded_at_max), V(quota_below_one_node), V(quota_unknown), V(zone_unknown), V(zone_count),
              V(version_not_offered), V(version_extended_support), V(pool_not_offered), V(pool_limited), V(controller_shut_out),
              V(service_linked_role_missing), V(cost_limit_exceeded), V(cost_unknown) or V(not_readable)."
          type: str
          returned: always
          sample: quota_exceeded
        severity:
          description: V(error) or V(warning).
          type: str
          returned: always
          sample: error
        subject:
          description: What it is about.
          type: str
          returned: always
          sample: Running On-Demand G and VT instances (L-DB2E81BA)
        message:
          description: What would fail and why.
          type: str
          returned: always
          sample: >-
            Running On-Demand G and VT instances (L-DB2E81BA): 8 vCPUs needed to make the cluster
            (gpu-us-west-2a-1gpu-on-demand: 1 to 1 x g5.2xlarge, 8 vCPUs each) + 0 used by others in us-west-2 = 8; the limit is 0.
        fix:
          description: What to do.
          type: str
          returned: always
          sample: Ask for at least 8 at https://us-west-2.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-DB2E81BA
        needed:
          description: How much is needed; null where nothing is counted.
          type: float
          returned: always
          sample: 8
        used:
          description: How much everything else uses; null where it is not known.
          type: float
          returned: always
          sample: 0
        limit:
          description: How much there may be.
          type: float
          returned: always
          sample: 0
        unit:
          description: What is counted.
          type: str
          returned: always
          sample: vCPUs
    estimate:
      description: What the cluster costs in a month.
      type: dict
      returned: always
      contains:
        currency:
          description: Currency of the region's prices.
          type: str
          returned: always
          sample: USD
        per_month:
          description: Sum of the prices that are known, at the smallest size.
          type: float
          returned: always
          sample: 1182.61
        per_month_max:
          description: The same at the largest size.
          type: float
          returned: always
          sample: 2285.32
        complete:
          description: Whether every price at the smallest size is known.
          type: bool
          returned: always
          sample: true
        complete_max:
          description: Whether every price at the largest size is known.
          type: bool
          returned: always
          sample: true
        source:
          description: Where the prices of instances come from, V(pricing_api) or V(shipped).
          type: str
          returned: always
          sample: pricing_api
        as_of:
          description: When they were read; null where there are none.
          type: str
          returned: always
          sample: "2026-11-24"
        lines:
          description: What is to be paid for.
          type: list
          elements: dict
          returned: always
          contains:
            subject:
              description: What it is.
              type: str
              returned: always
              sample: "pool gpu: g5.2xlarge, on_demand"
            quantity:
              description: How many at the smallest size.
              type: int
              returned: always
              sample: 1
            quantity_max:
              description: How many at the largest size.
              type: int
              returned: always
              sample: 2
            unit:
              description: What the price is for.
              type: str
              returned: always
              sample: hour
            price:
              description: Price of one; null where it is not known.
              type: float
              returned: always
              sample: 1.212
            price_max:
              description: Price of the most expensive one.
              type: float
              returned: always
              sample: 1.212
            per_month:
              description: Price of a month at the smallest size; null where it is not known.
              type: float
              returned: always
              sample: 884.76
            per_month_max:
              description: Price of a month at the largest size.
              type: float
              returned: always
              sample: 1769.52
    quotas:
      description: The quotas that the cluster counts in.
      type: list
      elements: dict
      returned: always
      contains:
        service:
          description: Code of the service.
          type: str
          returned: always
          sample: ec2
        code:
          description: Code of the quota.
          type: str
          returned: always
          sample: L-DB2E81BA
        name:
          description: Name of the quota.
          type: str
          returned: always
          sample: Running On-Demand G and VT instances
        needed:
          description: What this cluster needs at creation.
          type: int
          returned: always
          sample: 8
        needed_max:
          description: What it needs at the largest size of its pools.
          type: int
          returned: always
          sample: 16
        used:
          description: What everything else in the region uses; null where it is not known.
          type: int
          returned: always
          sample: 0
        limit:
          description: The limit; null where it is not known.
          type: float
          returned: always
          sample: 64
        unit:
          description: What is counted.
          type: str
          returned: always
          sample: vCPUs
    offerings:
      description: Which instance types of each pool its zones offer; nothing of pools that cannot be made.
      type: list
      elements: dict
      returned: always
      contains:
        pool:
          description: Name of the pool.
          type: str
          returned: always
          sample: gpu
        zone:
          description: Name of the zone.
          type: str
          returned: always
          sample: us-west-2a
        instance_types:
          description: Types that the pool may have and the zone offers.
          type: list
          elements: str
          returned: always
          sample: [g5.2xlarge]
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import argument_options
from ansible_collections.gpuops.eks.plugins.module_utils._model.preflight import preflight_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module
from ansible_collections.gpuops.eks.plugins.module_utils._run.preflight import preflight_info

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "version": {"type": "str"},
        "zones": {"type": "list", "elements": "str"},
        "zone_count": {"type": "int"},
        "nat": {"type": "str", "choices": ["none", "single", "per_zone"], "default": "single"},
        "network": {"type": "bool", "default": True},
        "interface_endpoints": {"type": "int", "default": 0},
        "encryption_keys": {"type": "int", "default": 0, "no_log": False},
        "cost_limit_per_month": {"type": "float"},
        "controller_cidrs": {"type": "list", "elements": "str"},
        "public_access_cidrs": {"type": "list", "elements": "str"},
        "service_linked_roles": {"type": "list", "elements": "str"},
        "pools": {"type": "list", "elements": "dict", "options": argument_options()},
    },
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS), preflight_info, validate=preflight_faults)


if __name__ == "__main__":
    main()
