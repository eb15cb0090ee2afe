#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_manifests_info
short_description: Node pools and device plugin as files, for Argo CD, Flux and others
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Returns what M(gpuops.eks.eks_gpu_nodepool) and M(gpuops.eks.nvidia_device_plugin) would make in a cluster that has none of it - Karpenter's
    C(EC2NodeClass), C(NodeOverlay) and C(NodePool) objects, the launch templates of node groups and Auto Scaling groups, and the device
    plugin's objects - each with the name of a file for it. Writes nothing, and does not look into the cluster.
  - The same options and the same account give the same files. What can change in between is the newest release of an image where a pool
    does not name one with C(ami.release), and what EC2 says of instance types.
  - The numbers of Karpenter's overlays (C(spec.weight)) begin at 100. Overlays of your own need other ones.
  - None of it is a secret. User data of pools is part of launch templates and of C(EC2NodeClass) objects as it was given.
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
      - Name of the cluster. Where it does not exist yet, stand-ins such as C(planned:security-group/demo-cluster) take the place of ids
        that it will have, and launch templates are left out.
    type: str
    required: true
  pools:
    required: true
  subnets:
    description:
      - Subnets for nodes, as the result of M(gpuops.eks.eks_network) has them, planned ones included. Those with O(subnets[].tier=private)
        are used, all of them where none is marked so. The cluster's own subnets when left out.
    type: list
    elements: dict
    suboptions:
      id:
        description: Id of the subnet.
        type: str
        required: true
      zone:
        description: Name of its availability zone.
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
      - Name or ARN of the role of nodes whose pool has no C(iam.node_role). May be a planned one.
    type: str
  volumes_key_arn:
    description:
      - KMS key with which disks are encrypted where their pool sets no C(disk.kms_key). May be a planned one.
    type: str
  kubernetes_version:
    description:
      - Kubernetes version, in quotes, of a cluster that does not exist yet. Images are chosen by it.
    type: str
  device_plugin:
    description:
      - The device plugin, as M(gpuops.eks.nvidia_device_plugin) has it. Left out, it is no part of the files.
      - A namespace that every cluster has (C(default), C(kube-system)) is no part of the files either.
    type: dict
    suboptions:
      configurations:
        description:
          - The ways in which nodes share their GPUs.
        type: list
        elements: dict
        required: true
        suboptions:
          name:
            description:
              - Name of the configuration. Nodes with the label C(nvidia.com/device-plugin.config) of this value run it.
              - V(default) also runs on nodes without that label that have C(nvidia.com/gpu.present=true), but not on those with the label
                C(gpuops.eks/nodepool), which are Bottlerocket nodes of this collection's pools.
            type: str
            required: true
          node_selector:
            description:
              - Labels that nodes already have, all of which select a node. It replaces the label C(nvidia.com/device-plugin.config).
              - Two configurations that select one node are refused.
            type: dict
          sharing:
            description:
              - How pods share a GPU. Whole GPUs when left out.
            type: dict
            suboptions:
              strategy:
                description:
                  - V(none) gives whole GPUs, V(time_slicing) lets pods take turns.
                  - V(mps) lets pods run side by side, each with its part of a GPU's memory and of its threads, by NVIDIA's Multi-Process Service.
                    Such pods need one user id on a node and must not mount something else on C(/dev/shm). It does not go with MIG.
                type: str
                choices: [none, time_slicing, mps]
                default: none
              replicas:
                description:
                  - Shares of each GPU, or of each MIG instance, at least 2. For shares of 20 % of a GPU's memory each, V(5).
                  - At most 48 with V(mps), 16 on GPUs whose compute capability is below 7.5. At most 60000 with V(time_slicing), for all GPUs
                    of a node together, because the plugin's message to the kubelet gets too long.
                type: int
              backend:
                description:
                  - V(auto) means the device plugin. The others are not for this module.
                type: str
                choices: [auto, device_plugin, bottlerocket, gpu_operator]
                default: auto
              rename:
                description:
                  - Whether shares are advertised as C(nvidia.com/gpu.shared). Autoscalers that know C(nvidia.com/gpu) only then buy no nodes
                    for such pods.
                type: bool
                default: false
              fail_requests_greater_than_one:
                description:
                  - Whether pods that ask for more than one share are refused. NVIDIA's own default for time slicing is the opposite, but two
                    shares give a pod no more of a GPU than one.
                  - With V(mps) V(false) needs a plugin of v0.20.0 or newer.
                type: bool
                default: true
          mig:
            description:
              - How Multi-Instance GPU cuts each GPU of these nodes. Whole GPUs when left out.
              - The module cuts no GPUs; user data of this collection's pools does, or the GPU Operator. This says what to advertise.
            type: dict
            suboptions:
              strategy:
                description:
                  - V(mixed) advertises each profile as a resource of its own (C(nvidia.com/mig-1g.5gb)), V(single) all instances as
                    C(nvidia.com/gpu). V(single) needs one profile.
                type: str
                choices: [single, mixed]
                default: mixed
              layout:
                description:
                  - "Number of instances of each profile on each GPU, such as C({1g.5gb: 7}). The profiles have to fit on some GPU together."
                type: dict
                required: true
          flags:
            description:
              - The C(flags) block of the plugin's configuration file, in NVIDIA's spelling.
              - Every key and value is checked, since NVIDIA's parser drops what it does not know without a word.
              - C(migStrategy) and C(mpsRoot) are refused here, because O(device_plugin.configurations[].mig) and O(device_plugin.mps_root) set them.
            type: dict
      image:
        description:
          - The plugin's image.
        type: dict
        suboptions:
          registry:
            description: Registry, such as a mirror of your own.
            type: str
            default: nvcr.io
          repository:
            description: Repository in the registry.
            type: str
            default: nvidia/k8s-device-plugin
          tag:
            description: Version of the plugin.
            type: str
            default: v0.19.3
          digest:
            description: Digest (V(sha256:…)) that the image must have.
            type: str
          pull_secrets:
            description: Names of secrets in O(device_plugin.namespace) to pull the image with.
            type: list
            elements: str
            default: []
      namespace:
        description:
          - Namespace of all objects. It is made where it does not exist; one that is not ours is used as it is.
        type: str
        default: gpuops-nvidia
      tolerations:
        description:
          - Tolerations of the plugin's pods besides those for C(nvidia.com/gpu) and C(CriticalAddonsOnly), for nodes with other taints.
        type: list
        elements: dict
        default: []
        suboptions:
          key:
            description: Key of the taint; every taint when left out.
            type: str
          operator:
            description: Whether the value has to be equal.
            type: str
            choices: [Exists, Equal]
            default: Equal
          value:
            description: Value of the taint.
            type: str
          effect:
            description: Effect of the taint; every effect when left out.
            type: str
            choices: [NoSchedule, PreferNoSchedule, NoExecute]
      feature_discovery:
        description:
          - Whether GPU feature discovery runs beside the plugin. It labels nodes with what GPUs they have, through Node Feature Discovery.
          - Left out, it is no part of the files, as nothing is known of the cluster's Node Feature Discovery.
        type: bool
      priority_class:
        description: PriorityClass of the pods.
        type: str
        default: system-node-critical
      resources:
        description:
          - What each container of the pods requests and may use, of C(cpu), C(memory) and C(ephemeral-storage).
        type: dict
        suboptions:
          requests:
            description: Resource to quantity.
            type: dict
          limits:
            description: Resource to quantity, at least what is requested.
            type: dict
      mps_root:
        description:
          - Directory of the host in which the MPS control daemon and its clients meet.
        type: str
        default: /run/nvidia/mps
  offline:
    description:
      - Whether nothing is asked of AWS. Ids and releases of images are stand-ins then, launch templates are left out, and what only AWS can say of
        instance types must not be asked for - C(network.efa), and with GPUs C(instances.cpus), C(instances.memory_gib), C(instances.hypervisors)
        and families that the collection does not know.
      - O(subnets) and O(account_id) are required then.
    type: bool
    default: false
  account_id:
    description:
      - Account of the cluster, in quotes, for the owner's mark with O(offline=true). Otherwise it is that of the credentials.
    type: str
seealso:
  - module: gpuops.eks.eks_gpu_nodepool
  - module: gpuops.eks.nvidia_device_plugin
"""

EXAMPLES = r"""
- name: Look at the pools as files
  gpuops.eks.gpu_manifests_info:
    cluster_name: demo
    region: us-west-2
    node_role_arn: demo-node
    pools: "{{ gpu_nodepools }}"
    device_plugin:
      configurations: "{{ gpu_nodepools | gpuops.eks.sharing_configurations }}"
      tolerations: "{{ gpu_nodepools | gpuops.eks.pool_tolerations }}"
  register: rendered

- name: Write them
  ansible.builtin.copy:
    dest: "rendered/{{ item.file }}"
    content: "{{ item.content | to_nice_yaml if item.file is match('.*yaml$') else item.content | to_nice_json }}"
    mode: "0644"
  loop: "{{ rendered.manifests }}"
  loop_control:
    label: "{{ item.file }}"
"""

RETURN = r"""
kubernetes_version:
  description: Kubernetes version of the cluster, where it is not there that of the option; null where neither is known.
  returned: success
  type: str
  sample: "1.36"
manifests:
  description: The files, by name.
  returned: success
  type: list
  elements: dict
  contains:
    file:
      description:
        - Path of the file. A Kubernetes object is C(kubernetes/NAMESPACE_KIND_NAME.yaml), without the namespace where it has none, a launch
          template C(launch-templates/NAME.json).
      type: str
      returned: always
      sample: kubernetes/nodepool_gpu.yaml
    content:
      description: The object, or for a launch template the parameters of EC2's C(CreateLaunchTemplate).
      type: dict
      returned: always
      sample: {"apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": "gpu"}}
    planned:
      description: Stand-ins in it for what does not exist yet, which have to be replaced before it is of use.
      type: list
      elements: str
      returned: always
      sample: ["planned:security-group/demo-cluster"]
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DEVICE_PLUGIN_OPTIONS
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import argument_options
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module
from ansible_collections.gpuops.eks.plugins.module_utils._run.rendering import job, validate

SUBNET = {
    "id": {"type": "str", "required": True},
    "zone": {"type": "str"},
    "zone_id": {"type": "str"},
    "tier": {"type": "str", "choices": ["public", "private", "intra"]},
    "cidr_block": {"type": "str"},
}
PLUGIN_OPTIONS = ("image", "namespace", "tolerations", "feature_discovery", "priority_class", "resources", "mps_root")
PLUGIN = {name: DEVICE_PLUGIN_OPTIONS[name] for name in PLUGIN_OPTIONS}

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "pools": {"type": "list", "elements": "dict", "required": True, "options": argument_options()},
        "subnets": {"type": "list", "elements": "dict", "options": SUBNET},
        "node_role_arn": {"type": "str"},
        "volumes_key_arn": {"type": "str", "no_log": False},
        "kubernetes_version": {"type": "str"},
        "device_plugin": {
            "type": "dict",
            "options": {"configurations": {**DEVICE_PLUGIN_OPTIONS["configurations"], "required": True}, **PLUGIN},
        },
        "offline": {"type": "bool", "default": False},
        "account_id": {"type": "str"},
    },
    required_if=(("offline", True, ("subnets", "account_id")),),
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS), job, validate=validate)


if __name__ == "__main__":
    main()
