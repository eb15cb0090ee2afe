#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_gpu_nodepool
short_description: Pools of GPU and general nodes of an EKS cluster
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Makes the nodes of one or several pools. A pool says which instance types, how many, where, and how its GPUs are shared, in the same
    words for Karpenter, managed node groups and Auto Scaling groups. What a provisioner cannot express is refused, with the one that can.
  - Ten pods on shares of one GPU get one node, whatever makes it. Karpenter is told by a C(NodeOverlay), which takes its feature gate
    C(NodeOverlay) (alpha in Karpenter; role C(gpuops.eks.eks_autoscaling) turns it on), cluster-autoscaler by tags.
  - O(provisioner=karpenter) makes a C(NodePool) and an C(EC2NodeClass) of the pool's name, a C(NodePool) per zone with
    O(scaling.scope=zone). The others find the groups that the pool takes, and each has a launch template of its own.
  - There, a pool with O(accelerator=nvidia) has one group per zone, GPU count and capacity type, so that an autoscaler can tell the nodes
    apart. A pool with O(accelerator=none) has one per capacity type over all its zones, or with O(scaling.scope=zone) one per zone.
  - Node groups are called C(POOL-ZONE-Ngpu-CAPACITY), all parts always there (C(inference-us-west-2a-1gpu-spot)); a group over all zones
    has C(all) in place of the zone, one without GPUs C(0gpu) (C(system-all-0gpu-on-demand)). A name over 63 characters is cut and ends in
    a hash.
  - What was not set is not managed. A new pool gets the defaults that the options name; of one that exists, only what is set is changed.
  - Scaling, labels, taints, O(update), O(repair) and the tags of the groups are changed in place. A change of O(disk) or O(tags) makes a
    new version of the launch template, and EKS then replaces the nodes, as many at a time as O(update.max_unavailable) allows.
  - Everything is marked in the call that makes it with the tags C(gpuops.eks/owner) and C(gpuops.eks/nodepool); only what carries the mark
    is changed or deleted. A run that was interrupted is finished by running again. A node group that never came up (CREATE_FAILED) is
    deleted and made again.
  - Nodes of pools with O(accelerator=nvidia) have the labels C(nvidia.com/gpu.present=true) and C(nvidia.com/device-plugin.config), which
    chooses the pool's own configuration of M(gpuops.eks.nvidia_device_plugin). All nodes have C(gpuops.eks/nodepool). These labels are
    always managed. Bottlerocket has a device plugin of its own and the GPU Operator brings one (O(sharing.backend)), so that such nodes do
    not have C(nvidia.com/device-plugin.config); the operator cuts GPUs by C(nvidia.com/mig.config).
  - Nodes cut their GPUs themselves (O(mig)), by user data, at each boot and before kubelet starts. A node whose GPUs do not take the layout
    never joins the cluster; its console says why. Without O(mig) or O(sharing) again, GPUs are whole again.
  - O(disruption.consolidate_after) of a node group is a tag on the Auto Scaling group that EKS makes for it, which cluster-autoscaler reads; it is
    set once the node group is ACTIVE, also with O(wait=false).
  - With O(adopt=true), a node group of the pool's name that somebody else made is the pool's only group. Scaling, O(labels), O(taints),
    O(update), O(repair), O(warm_pool), O(sharing), O(ami.release) and O(tags) are changed where they are set, and nothing that it has is taken
    away. What stands in its launch template is refused, that one being its maker's. It gets no mark and is never deleted or replaced.
  - What a pool no longer wants, because a zone was taken out for example, is named in a warning and stays, unless O(prune=true).
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - gpuops.eks._attributes
  - gpuops.eks._attributes.actiongroup
  - gpuops.eks._aws
  - gpuops.eks._k8s
  - gpuops.eks._nodepool
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
      - V(absent) deletes the node groups of the pools, waits until their nodes are gone, and deletes their launch templates. Of the
        pools only the names are looked at.
      - It is for clusters that go with all their nodes, and evicts nothing from nodes of Auto Scaling groups, since budgets could not be kept
        without nodes to go to. O(prune) is what drains them.
    type: str
    choices: [present, absent]
    default: present
  subnets:
    description:
      - Subnets for nodes, as the result of M(gpuops.eks.eks_network) has them. Those with O(subnets[].tier=private) are used, all of them
        where none is marked so. The cluster's own subnets when left out.
      - In check mode ids may be planned ones; nothing is read for those.
    type: list
    elements: dict
    suboptions:
      id:
        description: Id of the subnet.
        type: str
        required: true
      zone:
        description: Name of its availability zone. Only looked at for a planned subnet; that of others is read.
        type: str
      zone_id:
        description: Id of its availability zone.
        type: str
      tier:
        description: What the subnet is for.
        type: str
        choices: [public, private, intra]
      cidr_block:
        description: Its addresses. Not looked at.
        type: str
  node_role_arn:
    description:
      - Name or ARN of the role of nodes whose pool has neither O(iam.node_role) nor O(iam.policies). May be a planned one in check mode.
    type: str
  node_policies:
    description:
      - ARNs of the policies that the role of a pool with O(iam.policies) has besides those. By default C(AmazonEKSWorkerNodePolicy),
        C(AmazonEC2ContainerRegistryPullOnly), C(AmazonSSMManagedInstanceCore) and C(AmazonEKS_CNI_Policy); where the CNI has a role of its own,
        nodes do not need the last one.
    type: list
    elements: str
  iam_path:
    description:
      - Path of the roles that are made for pools with O(iam.policies). Only at creation.
    type: str
    default: /
  permissions_boundary:
    description:
      - ARN of the policy that bounds the permissions of these roles. Only at creation.
    type: str
  volumes_key_arn:
    description:
      - KMS key with which the disks of new groups are encrypted where their pool sets no O(disk.kms_key). May be a planned one in check mode.
    type: str
  kubernetes_version:
    description:
      - Kubernetes version, in quotes, that groups that are there are brought to, by one minor version at a time and never above the cluster's.
        Their nodes are replaced as O(update) allows. Not set, groups keep their version.
    type: str
  purge_tags:
    description:
      - Whether tags that are not in O(tags) are removed where O(tags) is set. Tags of the collection and those that begin with
        C(k8s.io/) or C(kubernetes.io/) stay.
    type: bool
    default: true
  prune:
    description:
      - Whether what a pool no longer wants is removed, once what takes its place is there; with O(pools) also the pools of the cluster that are
        no longer among them, and those that another provisioner has now. Only what carries the collection's mark is removed.
      - EKS drains the nodes of a node group that is deleted, as far as pod disruption budgets allow, and Karpenter its own. Nodes of an Auto
        Scaling group are drained by this module before it goes. It holds the group at the instances that it has, cordons its nodes
        and evicts their pods, besides those of DaemonSets. A budget is waited for up to O(wait_timeout), as are the pods until they have left
        nodes that are Ready. Running again goes on from there. This takes an API server that can be reached, and an identity that may list
        and patch nodes, list pods and create evictions. A pod without a controller is refused, as nobody would make it again.
      - A pool that is wanted again after a drain that was interrupted has its maximum back with the next run where O(scaling.max) is set;
        C(kubectl uncordon) gives its nodes back.
    type: bool
    default: false
  allow_replacement:
    description:
      - Whether a group that cannot become what is wanted is replaced. A node group keeps its AMI family, role, subnets and instance types; a
        change of those is refused without this.
      - The new group is made first, with as many nodes as the old one has, under the name of the old one with C(-b) added or taken away. Once it
        is ACTIVE, the old one and its launch template are deleted; EKS drains its nodes as far as pod disruption budgets allow. What is not
        set has the defaults in the new group. A run that was interrupted in between is finished by the next one with this option.
      - For a while both groups run, so that quota, addresses and capacity reservations have to hold both; where they do not, the new group fails
        and the old one stays.
    type: bool
    default: false
  wait_timeout:
    description:
      - Seconds to wait for each node group. What a later call needs is waited for even with O(wait=false).
    type: int
    default: 2400
seealso:
  - module: gpuops.eks.eks_network
  - module: gpuops.eks.nvidia_device_plugin
"""

EXAMPLES = r"""
- name: One GPU pool in two zones, each GPU shared by ten
  gpuops.eks.eks_gpu_nodepool:
    cluster_name: demo
    region: us-west-2
    name: inference
    provisioner: managed_node_group
    instances:
      families: [g5, g6]
      sizes: [2xlarge]
    capacity:
      types: [spot, on_demand]
    zones: [us-west-2a, us-west-2b]
    scaling:
      min: 0
      max: 10
    sharing:
      strategy: time_slicing
      replicas: 10
    subnets: "{{ network.network.subnets }}"
    node_role_arn: "{{ node_role.iam_role.arn }}"
  register: inference

- name: The same pool by Karpenter
  gpuops.eks.eks_gpu_nodepool:
    cluster_name: demo
    region: us-west-2
    name: inference
    provisioner: karpenter
    instances:
      families: [g5, g6]
      sizes: [2xlarge]
      gpu:
        count: [1]
    capacity:
      types: [spot, on_demand]
    zones: [us-west-2a, us-west-2b]
    scaling:
      max: 10
    sharing:
      strategy: time_slicing
      replicas: 10

- name: A general pool and a GPU pool, made side by side
  gpuops.eks.eks_gpu_nodepool:
    cluster_name: demo
    region: us-west-2
    node_role_arn: arn:aws:iam::123456789012:role/demo-node
    pools:
      - name: system
        accelerator: none
        provisioner: managed_node_group
        instances:
          types: [m7i.large, m6i.large]
        scaling:
          min: 2
          max: 4
      - name: training
        provisioner: managed_node_group
        instances:
          types: [g6e.12xlarge]
        zones: [usw2-az1]
        scaling:
          min: 1
          max: 2

- name: Take a pool away
  gpuops.eks.eks_gpu_nodepool:
    cluster_name: demo
    region: us-west-2
    name: inference
    state: absent
"""

RETURN = r"""
nodepools:
  description: The pools as they are, in check mode as they will be; empty with O(state=absent).
  returned: success
  type: list
  elements: dict
  contains: &pool
    name:
      description: Name of the pool.
      type: str
      sample: inference
    provisioner:
      description: What makes its nodes.
      type: str
      sample: managed_node_group
    accelerator:
      description: Whether it is a GPU pool.
      type: str
      sample: nvidia
    labels:
      description: Labels of the nodes.
      type: dict
      sample:
        gpuops.eks/nodepool: inference
        nvidia.com/device-plugin.config: inference
        nvidia.com/gpu.present: "true"
    taints:
      description: Taints of the nodes, in Kubernetes spelling.
      type: list
      elements: dict
      sample:
        - key: nvidia.com/gpu
          value: "true"
          effect: NoSchedule
    sharing:
      description:
        - How GPUs are shared and cut; null for a general pool. C(resource) is what pods ask for, null where there are several C(resources).
        - C(configuration) is that of M(gpuops.eks.nvidia_device_plugin), null where C(backend) is not C(device_plugin).
      type: dict
      sample:
        strategy: time_slicing
        replicas: 10
        resource: nvidia.com/gpu
        resources: [nvidia.com/gpu]
        configuration: inference
        backend: device_plugin
        mig: null
    groups:
      description: The groups in order of the zones; with Karpenter its NodePools.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the node group.
          type: str
          sample: inference-us-west-2a-1gpu-spot
        zone:
          description: Its zone; null for a group over all zones of the pool.
          type: str
          sample: us-west-2a
        zones:
          description: Its zones.
          type: list
          elements: str
          sample: [us-west-2a]
        gpu_count:
          description: Physical GPUs of each node; null with Karpenter, which may take several counts.
          type: int
          sample: 1
        capacity_type:
          description: How its instances are bought.
          type: str
          sample: spot
        instance_types:
          description: Its instance types, fewest vCPUs and least memory first.
          type: list
          elements: str
          sample: [g5.2xlarge, g6.2xlarge]
        min:
          description: Its share of the smallest number of nodes.
          type: int
          sample: 0
        max:
          description:
            - Its share of the largest number of nodes. A group whose share is 0 is not made; one that is there is emptied and has 1, the
              least that EKS takes.
          type: int
          sample: 3
        desired:
          description: Number of nodes that it has or will have.
          type: int
          sample: 0
        status:
          description: Status of the group; of a NodePool whether it is Ready. Null where it is planned.
          type: str
          sample: ACTIVE
        nodegroup_arn:
          description: ARN of the node group, V(planned:nodegroup/NAME) where it is planned.
          type: str
          sample: arn:aws:eks:us-west-2:123456789012:nodegroup/demo/inference-us-west-2a-1gpu-spot/0c0f6a2e-6b53-4f0e-9d0e-2f5a3b1c4d5e
        auto_scaling_group:
          description: Name of its Auto Scaling group.
          type: str
          sample: eks-inference-us-west-2a-1gpu-spot-0c0f6a2e-6b53-4f0e-9d0e-2f5a3b1c4d5e
        launch_template:
          description: Id and version of its launch template, each C(planned:) and a name where they are yet to be made.
          type: dict
          sample:
            id: lt-0a1b2c3d4e5f60718
            version: "1"
    karpenter:
      description: Names of its C(EC2NodeClass) and C(NodeOverlay) objects.
      returned: with O(provisioner=karpenter)
      type: dict
      sample:
        node_class: inference
        overlays: [inference-1gpu]
nodepool:
  description: The pool, where it was given without O(pools); null with O(state=absent).
  returned: when O(pools) is not set
  type: dict
  contains: *pool
plan:
  description: The calls that change something, made or in check mode to be made, in order.
  returned: success
  type: list
  elements: dict
  sample:
    - action: eks:CreateNodegroup
      target: planned:nodegroup/demo-inference-us-west-2a-1gpu-spot
      effect: create
      fields: []
      reason: ""
progress:
  description: What was waited for, in the service's words.
  returned: success
  type: list
  elements: str
  sample: ["DescribeNodegroup inference-us-west-2a-1gpu-spot: CREATING", "DescribeNodegroup inference-us-west-2a-1gpu-spot: ACTIVE"]
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import argument_options
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module
from ansible_collections.gpuops.eks.plugins.module_utils._run.nodepool import job, validate

SUBNET = {
    "id": {"type": "str", "required": True},
    "zone": {"type": "str"},
    "zone_id": {"type": "str"},
    "tier": {"type": "str", "choices": ["public", "private", "intra"]},
    "cidr_block": {"type": "str"},
}

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "subnets": {"type": "list", "elements": "dict", "options": SUBNET},
        "node_role_arn": {"type": "str"},
        "node_policies": {"type": "list", "elements": "str"},
        "iam_path": {"type": "str", "default": "/"},
        "permissions_boundary": {"type": "str"},
        "volumes_key_arn": {"type": "str", "no_log": False},
        "kubernetes_version": {"type": "str"},
        "purge_tags": {"type": "bool", "default": True},
        "prune": {"type": "bool", "default": False},
        "allow_replacement": {"type": "bool", "default": False},
        "pools": {"type": "list", "elements": "dict", "options": argument_options()},
        **argument_options(flat=True),
    },
    required_one_of=(("name", "pools"),),
    mutually_exclusive=tuple(("pools", option) for option in argument_options()),
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS, wait_timeout=2400, kubernetes=True), job, validate=validate)


if __name__ == "__main__":
    main()
