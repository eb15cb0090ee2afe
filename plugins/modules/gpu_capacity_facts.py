#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_capacity_facts
short_description: GPU capacity of a cluster as facts
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Says what GPUs and shares of GPUs there are, what pods have of them, what is free, and which pods wait, by pool, GPU model, zone and
    capacity type; and finds nodes that do not advertise what they should, and groups of the cluster whose last launch in the last hour failed.
  - The same as module M(gpuops.eks.gpu_capacity_info), returned as the fact C(gpuops_gpu_capacity) of the host, which is the cluster.
  - Every key is always there. Null means unknown or not asked for; 0 is zero.
  - What one source cannot give (instance types without the permission C(ec2:DescribeInstanceTypes), say) is null with a warning; the
    rest of the report is there.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - gpuops.eks._attributes
  - gpuops.eks._attributes.actiongroup
  - gpuops.eks._k8s
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
      - Name of the EKS cluster. The API server is found and asked with the AWS credentials unless O(kubernetes) says how.
      - One of O(cluster_name) and O(kubernetes) is required.
    type: str
  gather_subset:
    description:
      - Which parts of the report to gather. V(all) is everything but V(nodes), which grows with the cluster.
    type: list
    elements: str
    choices: [all, totals, pools, groups, resources, demand, findings, nodes]
    default: [all]
seealso:
  - module: gpuops.eks.gpu_capacity_info
  - module: gpuops.eks.nvidia_device_plugin
"""

EXAMPLES = r"""
- name: Gather the capacity of the cluster that this host is
  gpuops.eks.gpu_capacity_facts:
    cluster_name: "{{ eks_cluster_name }}"
    region: "{{ eks_cluster_region }}"

- name: Stop where nothing is free
  ansible.builtin.assert:
    that: ansible_facts.gpuops_gpu_capacity.resources | map(attribute='free') | sum > 0
"""

RETURN = r"""
ansible_facts:
  description: The facts.
  returned: success
  type: dict
  contains:
    gpuops_gpu_capacity:
      description: The capacity report.
      returned: always
      type: dict
      contains:
        schema_version:
          description: Version of this structure.
          type: int
          returned: always
          sample: 1
        collected:
          description: When and from what.
          type: dict
          returned: always
          contains:
            at:
              description: Time of the report, UTC.
              type: str
              returned: always
              sample: "2026-01-31T12:00:00+00:00"
            sources:
              description: What was read.
              type: list
              elements: str
              returned: always
              sample: ["kubernetes:list nodes", "ec2:DescribeInstanceTypes", "kubernetes:list daemonsets.apps", "kubernetes:list pods"]
            warnings:
              description: What could not be read, and what is unknown for it.
              type: list
              elements: str
              returned: always
              sample: []
        cluster:
          description: The cluster; C(arn) is null where it was reached by O(kubernetes) alone.
          type: dict
          returned: always
          sample: {"arn": "arn:aws:eks:us-west-2:123456789012:cluster/demo", "name": "demo", "version": "1.36"}
        totals:
          description: GPU nodes, physical GPUs, and pods that have GPUs or shares of them; null where it was not asked for.
          type: dict
          returned: always
          sample: {"nodes": 1, "gpus": 1, "pods": 2}
        pools:
          description: By pool; null where it was not asked for.
          type: list
          elements: dict
          returned: always
          contains:
            name:
              description:
                - Name of the pool, from the node label C(gpuops.eks/nodepool), C(karpenter.sh/nodepool) or
                  C(eks.amazonaws.com/nodegroup); null for nodes without any.
              type: str
              returned: always
              sample: inference
            nodes:
              description: GPU nodes.
              type: int
              returned: always
              sample: 1
            gpus:
              description: Physical GPUs.
              type: int
              returned: always
              sample: 1
            models:
              description: GPU models.
              type: list
              elements: str
              returned: always
              sample: ["a10g"]
            zones:
              description: Zones.
              type: list
              elements: str
              returned: always
              sample: ["us-west-2a"]
            capacity_types:
              description: How its nodes are bought.
              type: list
              elements: str
              returned: always
              sample: ["on_demand"]
            resources:
              description: Resources of its nodes.
              type: list
              elements: dict
              returned: always
              contains:
                name:
                  description: Name of the extended resource.
                  type: str
                  returned: always
                  sample: nvidia.com/gpu
                unit:
                  description: "What one of it is: V(gpu), V(share) or V(mig_slice)."
                  type: str
                  returned: always
                  sample: share
                capacity:
                  description: How many there are, unhealthy ones included.
                  type: int
                  returned: always
                  sample: 10
                allocatable:
                  description: How many pods can have.
                  type: int
                  returned: always
                  sample: 10
                requested:
                  description: How many pods have.
                  type: int
                  returned: always
                  sample: 2
                free:
                  description: How many new pods can get; none on nodes that are cordoned or not Ready.
                  type: int
                  returned: always
                  sample: 8
        groups:
          description: By pool, GPU model, zone and capacity type; null where it was not asked for.
          type: list
          elements: dict
          returned: always
          contains:
            pool:
              description: Name of the pool.
              type: str
              returned: always
              sample: inference
            model:
              description: GPU model.
              type: str
              returned: always
              sample: a10g
            zone:
              description: Zone.
              type: str
              returned: always
              sample: us-west-2a
            capacity_type:
              description: How its nodes are bought.
              type: str
              returned: always
              sample: on_demand
            nodes:
              description: GPU nodes.
              type: int
              returned: always
              sample: 1
            gpus:
              description: Physical GPUs.
              type: int
              returned: always
              sample: 1
            instance_types:
              description: Instance types.
              type: list
              elements: str
              returned: always
              sample: ["g5.2xlarge"]
            resources:
              description: Resources of its nodes.
              type: list
              elements: dict
              returned: always
              contains:
                name:
                  description: Name of the extended resource.
                  type: str
                  returned: always
                  sample: nvidia.com/gpu
                unit:
                  description: "What one of it is: V(gpu), V(share) or V(mig_slice)."
                  type: str
                  returned: always
                  sample: share
                capacity:
                  description: How many there are, unhealthy ones included.
                  type: int
                  returned: always
                  sample: 10
                allocatable:
                  description: How many pods can have.
                  type: int
                  returned: always
                  sample: 10
                requested:
                  description: How many pods have.
                  type: int
                  returned: always
                  sample: 2
                free:
                  description: How many new pods can get; none on nodes that are cordoned or not Ready.
                  type: int
                  returned: always
                  sample: 8
        resources:
          description: The whole cluster's extended resources by name and unit; null where it was not asked for.
          type: list
          elements: dict
          returned: always
          contains:
            name:
              description: Name of the extended resource.
              type: str
              returned: always
              sample: nvidia.com/gpu
            unit:
              description: "What one of it is: V(gpu), V(share) or V(mig_slice)."
              type: str
              returned: always
              sample: share
            capacity:
              description: How many there are, unhealthy ones included.
              type: int
              returned: always
              sample: 10
            allocatable:
              description: How many pods can have.
              type: int
              returned: always
              sample: 10
            requested:
              description: How many pods have.
              type: int
              returned: always
              sample: 2
            free:
              description: How many new pods can get; none on nodes that are cordoned or not Ready.
              type: int
              returned: always
              sample: 8
        demand:
          description: What waits for GPUs.
          type: dict
          returned: always
          contains:
            pending:
              description: Pods without a node that ask for GPUs, alike ones together; null where it was not asked for.
              type: list
              elements: dict
              returned: always
              contains:
                namespace:
                  description: Namespace of the pods.
                  type: str
                  returned: always
                  sample: default
                kind:
                  description: Kind of what made them.
                  type: str
                  returned: always
                  sample: Deployment
                name:
                  description: Name of what made them.
                  type: str
                  returned: always
                  sample: tensorflow
                pods:
                  description: How many pods wait.
                  type: int
                  returned: always
                  sample: 1
                resources:
                  description: What one of them asks for.
                  type: list
                  elements: dict
                  returned: always
                  contains:
                    name:
                      description: Name of the extended resource.
                      type: str
                      returned: always
                      sample: nvidia.com/gpu
                    requested:
                      description: How many of it one pod asks for.
                      type: int
                      returned: always
                      sample: 1
                node_selector:
                  description: Their node selector.
                  type: dict
                  returned: always
                  sample: {}
                reason:
                  description: The scheduler's reason; null before it has tried.
                  type: str
                  returned: always
                  sample: Unschedulable
                message:
                  description: The scheduler's words.
                  type: str
                  returned: always
                  sample: "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
                since:
                  description: When the oldest of them was created.
                  type: str
                  returned: always
                  sample: "2026-01-31T12:00:00Z"
            queued:
              description: Reserved; null.
              type: list
              elements: dict
              returned: always
        findings:
          description: What does not look right; null where it was not asked for.
          type: list
          elements: dict
          returned: always
          contains:
            code:
              description:
                - V(gpu_not_advertised), V(devices_unhealthy), V(sharing_differs) where a node advertises other than its configuration says,
                  V(resource_left_over) where it or its pods have a resource that the configuration does not know, V(mig_failed) where a MIG layout
                  is not in force, V(mps_shm_hidden) where a pod's volume at C(/dev/shm) keeps it from MPS, V(resource_unknown) where pods wait for a
                  resource that nothing advertises, and V(launch_failed).
                - Those about pods are only found where pods are read, that is with any other subset beside V(findings).
              type: str
              returned: always
              sample: gpu_not_advertised
            subject:
              description: What it is about.
              type: str
              returned: always
              sample: node/ip-10-0-37-13.us-west-2.compute.internal
            message:
              description: What is wrong.
              type: str
              returned: always
              sample: Node ip-10-0-37-13.us-west-2.compute.internal (g5.2xlarge, 1 GPU) advertises no nvidia.com resource.
            fix:
              description: What to do.
              type: str
              returned: always
              sample: "Install the device plugin with a configuration that selects this node: gpuops.eks.nvidia_device_plugin."
        nodes:
          description: By node; null unless O(gather_subset) names it.
          type: list
          elements: dict
          returned: always
          contains:
            name:
              description: Name of the node.
              type: str
              returned: always
              sample: ip-10-0-37-13.us-west-2.compute.internal
            pool:
              description: Name of the pool.
              type: str
              returned: always
              sample: inference
            instance_type:
              description: Instance type.
              type: str
              returned: always
              sample: g5.2xlarge
            model:
              description: GPU model.
              type: str
              returned: always
              sample: a10g
            zone:
              description: Zone.
              type: str
              returned: always
              sample: us-west-2a
            capacity_type:
              description: How it is bought.
              type: str
              returned: always
              sample: on_demand
            ready:
              description: Whether it is Ready.
              type: bool
              returned: always
              sample: true
            schedulable:
              description: Whether it takes new pods; false when it is cordoned.
              type: bool
              returned: always
              sample: true
            gpus:
              description: Physical GPUs.
              type: int
              returned: always
              sample: 1
            replicas:
              description:
                - How many C(nvidia.com/gpu) or C(nvidia.com/gpu.shared) each GPU is advertised as.
                - Null where that is unknown, or it is advertised as another resource.
              type: int
              returned: always
              sample: 10
            resources:
              description: Its resources.
              type: list
              elements: dict
              returned: always
              contains:
                name:
                  description: Name of the extended resource.
                  type: str
                  returned: always
                  sample: nvidia.com/gpu
                unit:
                  description: "What one of it is: V(gpu), V(share) or V(mig_slice)."
                  type: str
                  returned: always
                  sample: share
                capacity:
                  description: How many there are, unhealthy ones included.
                  type: int
                  returned: always
                  sample: 10
                allocatable:
                  description: How many pods can have.
                  type: int
                  returned: always
                  sample: 10
                requested:
                  description: How many pods have.
                  type: int
                  returned: always
                  sample: 2
                free:
                  description: How many new pods can get; none on nodes that are cordoned or not Ready.
                  type: int
                  returned: always
                  sample: 8
        fragmentation:
          description: Reserved; null.
          type: list
          elements: dict
          returned: always
        fits:
          description: Reserved; null.
          type: list
          elements: dict
          returned: always
        quotas:
          description: Reserved; null.
          type: list
          elements: dict
          returned: always
        prices:
          description: Reserved; null.
          type: list
          elements: dict
          returned: always
        offers:
          description: Reserved; null.
          type: list
          elements: dict
          returned: always
        reservations:
          description: Reserved; null.
          type: list
          elements: dict
          returned: always
        cost:
          description: Reserved; null.
          type: dict
          returned: always
        utilization:
          description: Reserved; null.
          type: dict
          returned: always
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.capacity import CAPACITY_OPTIONS
from ansible_collections.gpuops.eks.plugins.module_utils._run.capacity import capacity_facts
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(options=CAPACITY_OPTIONS, required_one_of=(("cluster_name", "kubernetes"),))


def main() -> None:
    run_module(aws_spec(ARGUMENTS, kubernetes=True), capacity_facts)


if __name__ == "__main__":
    main()
