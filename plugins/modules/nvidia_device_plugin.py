#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_device_plugin
short_description: NVIDIA's device plugin, one DaemonSet for each way of sharing GPUs
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Installs NVIDIA's device plugin for Kubernetes. Each configuration gets a ConfigMap and a DaemonSet of its own, which selects its
    nodes by affinity; a change restarts the pods of that configuration alone.
  - With O(configurations[].sharing.strategy=mps) a second DaemonSet runs NVIDIA's MPS control daemon, ready once it holds its clients to
    their limits; with O(feature_discovery) another one runs GPU feature discovery, which may write C(NodeFeature) objects of its namespace
    and nothing else.
  - The objects are applied server-side with the field manager C(gpuops.eks). An object that was applied from the very same manifest, and
    still has all of it, is left alone; any other is first tried as a server-side dry run and only written where something would change.
  - The module never labels nodes. Node pools of this collection carry the label C(nvidia.com/device-plugin.config) from their first
    moment; for other nodes, set it yourself or use O(configurations[].node_selector).
  - What runs or would run beside it on a node is refused by name, with what to choose. These are a device plugin that somebody else installed, the GPU
    Operator, NVIDIA's DRA driver, Bottlerocket's own plugin and that of EKS Auto Mode, and another tool that applies the same objects.
  - Bottlerocket's NVIDIA variants contain a device plugin. A configuration that selects Bottlerocket nodes is refused with their names;
    choose another O(configurations[].node_selector), or give such nodes a label C(nvidia.com/device-plugin.config) that names no
    configuration, such as C(bottlerocket).
  - More shares of a GPU, and shares where there were none, come without touching a pod. Into and out of MPS, other MPS replicas, a restart of the MPS
    control daemon, MIG, and fewer shares or another resource name than pods hold need a drain; see O(drain).
  - A node in transition is cordoned and has the annotation C(gpuops.eks/cordoned). A run that was interrupted is resumed by running
    again; what each node does is read from the plugin's pod that runs there.
  - Objects that Argo CD or Flux keeps, by their annotations and labels, are named in a warning and left as they are, and then nothing is waited for.
    M(gpuops.eks.gpu_manifests_info) has what to give such a tool.
  - In check mode the plan has the writes that a run would make, evictions and cordons included. Where the cluster does not exist yet, these are creates.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - gpuops.eks._attributes
  - gpuops.eks._attributes.actiongroup
  - gpuops.eks._aws
  - gpuops.eks._k8s
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
      - Name of the EKS cluster. The API server is found and asked with the AWS credentials unless O(kubernetes) says how.
      - One of O(cluster_name) and O(kubernetes) is required.
    type: str
  state:
    description:
      - V(absent) removes every object of this module from the cluster, its namespace too unless something else is in it.
    type: str
    choices: [present, absent]
    default: present
  configurations:
    description:
      - The ways in which nodes share their GPUs. Required with O(state=present).
    type: list
    elements: dict
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
          - C(migStrategy) and C(mpsRoot) are refused here, because O(configurations[].mig) and O(mps_root) set them.
        type: dict
  purge_configurations:
    description:
      - Whether to remove configurations of this module that O(configurations) does not list.
      - One that selects nodes which no listed configuration selects stays, with a warning that names the nodes, so that no GPU vanishes
        under running pods. A later run removes it when no such node is left.
    type: bool
    default: false
  drain:
    description:
      - Whether pods that hold GPUs are evicted where a node has to be drained before it shares its GPUs in another way. They are evicted through the
        Eviction API, so that PodDisruptionBudgets hold; one that forbids an eviction for longer than O(wait_timeout) ends the run.
      - Pods of DaemonSets, finished pods and pods without a controller are not evicted. The last ones end the run before it has begun, as
        they end C(kubectl drain) without C(--force), because nobody would make them again.
      - With V(false) the module fails where such pods are, and names nodes, pods and reasons. Check mode shows all steps.
    type: bool
    default: false
  max_unavailable:
    description:
      - How many nodes at once are drained, or are without a device plugin while ours takes over.
    type: int
    default: 1
  replace:
    description:
      - Whether ours takes the place of a device plugin that somebody else installed by NVIDIA's Helm chart, C(eksctl) or a manifest. Its DaemonSet is
        deleted without its pods, which then go node by node, each replaced by ours. No pod that uses a GPU is restarted.
      - DaemonSets of NVIDIA's other programs with the same selector (feature discovery and MPS of its chart) are deleted before, since they would
        adopt these pods; what feature discovery there gives to nodes goes with it.
      - What is left of a Helm release is named in a warning. One that a controller or a GitOps tool would put back, MPS, and fewer shares than
        nodes advertise are refused.
      - It also takes over fields of our objects that another tool applies.
    type: bool
    default: false
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
        description: Names of secrets in O(namespace) to pull the image with.
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
      - Left out, it runs where the cluster serves C(nodefeatures.nfd.k8s-sigs.io). V(true) is refused where it does not.
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
  wait_timeout:
    description:
      - Seconds to wait until every node that a configuration selects advertises exactly its GPUs times the replicas. The wait ends
        earlier when a pod's state says that it will not come true. With MPS the control daemon has to be ready too.
      - Each drained node has this time of its own.
    type: int
    default: 600
seealso:
  - module: gpuops.eks.gpu_capacity_info
  - name: NVIDIA device plugin for Kubernetes
    description: Its configuration file and flags.
    link: https://github.com/NVIDIA/k8s-device-plugin
"""

EXAMPLES = r"""
- name: Ten shares of each GPU on nodes with the configuration's label, whole GPUs elsewhere
  gpuops.eks.nvidia_device_plugin:
    cluster_name: demo
    region: us-west-2
    configurations:
      - name: default
      - name: inference
        sharing:
          strategy: time_slicing
          replicas: 10

- name: Four shares on the nodes of one node group, by a kubeconfig
  gpuops.eks.nvidia_device_plugin:
    kubernetes:
      kubeconfig: ~/.kube/config
      context: demo
    configurations:
      - name: notebooks
        node_selector:
          eks.amazonaws.com/nodegroup: notebooks
        sharing:
          strategy: time_slicing
          replicas: 4
        flags:
          plugin:
            deviceListStrategy: [cdi-cri]

- name: Five clients of each GPU side by side by MPS, and shared MIG instances, on the nodes that carry these labels
  gpuops.eks.nvidia_device_plugin:
    cluster_name: demo
    region: us-west-2
    configurations:
      - name: mps
        sharing:
          strategy: mps
          replicas: 5
      - name: cut
        mig:
          strategy: mixed
          layout:
            1g.5gb: 7
        sharing:
          strategy: time_slicing
          replicas: 2

- name: Another way of sharing on nodes with running pods, two nodes at once
  gpuops.eks.nvidia_device_plugin:
    cluster_name: demo
    region: us-west-2
    configurations:
      - name: inference
        sharing:
          strategy: mps
          replicas: 5
    drain: true
    max_unavailable: 2

- name: Take over from a plugin that was installed by NVIDIA's Helm chart
  gpuops.eks.nvidia_device_plugin:
    cluster_name: demo
    region: us-west-2
    configurations:
      - name: default
    replace: true

- name: Remove the device plugin
  gpuops.eks.nvidia_device_plugin:
    cluster_name: demo
    region: us-west-2
    state: absent
"""

RETURN = r"""
device_plugin:
  description: The device plugin and what its nodes advertise; null with O(state=absent).
  returned: success
  type: dict
  contains:
    namespace:
      description: Namespace of all objects.
      type: str
      returned: always
      sample: gpuops-nvidia
    image:
      description: Image of the plugin.
      type: str
      returned: always
      sample: nvcr.io/nvidia/k8s-device-plugin:v0.19.3
    versions:
      description: Versions of the plugin.
      type: dict
      returned: always
      contains:
        installed:
          description: Those that run in the cluster.
          type: list
          elements: str
          returned: always
          sample: [v0.19.3]
        pinned:
          description: The one that is wanted, its digest where there is one.
          type: str
          returned: always
          sample: v0.19.3
        newest_known:
          description: The newest that was known when this release of the collection was made.
          type: str
          returned: always
          sample: v0.20.1
    configurations:
      description: The configurations in the order of the option.
      type: list
      elements: dict
      returned: always
      contains:
        name:
          description: Name of the configuration.
          type: str
          returned: always
          sample: inference
        daemon_set:
          description: Name of its DaemonSet.
          type: str
          returned: always
          sample: nvidia-device-plugin-inference
        mps_daemon_set:
          description: Name of its MPS control daemon's DaemonSet; null without MPS.
          type: str
          returned: always
          sample: nvidia-mps-inference
        feature_discovery_daemon_set:
          description: Name of the DaemonSet of GPU feature discovery; null where that does not run.
          type: str
          returned: always
          sample: gpu-feature-discovery-inference
        config_map:
          description: Name of its ConfigMap.
          type: str
          returned: always
          sample: nvidia-device-plugin-inference
        hash:
          description: Hash of what its pods are made of; pods restart when it changes.
          type: str
          returned: always
          sample: 6a09e667f3bcc908
        desired_nodes:
          description: Nodes that should run its pod; null where the cluster is only planned.
          type: int
          returned: always
          sample: 1
        ready_nodes:
          description: Nodes on which its pod is ready; null where the cluster is only planned.
          type: int
          returned: always
          sample: 1
        nodes:
          description: The nodes that it selects, each with every resource that it should advertise, or still does.
          type: list
          elements: dict
          returned: always
          contains:
            name:
              description: Name of the node.
              type: str
              returned: always
              sample: ip-10-0-37-13.us-west-2.compute.internal
            resource:
              description: The extended resource.
              type: str
              returned: always
              sample: nvidia.com/gpu
            expected:
              description: What it should advertise; null where the number of its GPUs is not known, 0 for a resource of another configuration.
              type: int
              returned: always
              sample: 10
            advertised:
              description: What it advertises.
              type: int
              returned: always
              sample: 10
plan:
  description: The writes that were made, in check mode would be made.
  returned: always
  type: list
  elements: dict
  sample:
    - action: kubernetes:patch nodes
      target: ip-10-0-37-13.us-west-2.compute.internal
      effect: update
      fields:
        - metadata.annotations[gpuops.eks/cordoned]
        - spec.unschedulable
      reason: "drained: into MPS"
    - action: kubernetes:create pods/eviction
      target: shop/recommender-6d8f9-x2x7k
      effect: delete
      fields: []
      reason: "node ip-10-0-37-13.us-west-2.compute.internal: into MPS"
progress:
  description: What was waited for.
  returned: always
  type: list
  elements: str
  sample:
    - "DaemonSet nvidia-device-plugin-default: desiredNumberScheduled 1, updatedNumberScheduled 1, numberReady 1"
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DEVICE_PLUGIN_OPTIONS, device_plugin_faults
from ansible_collections.gpuops.eks.plugins.module_utils._plan.transition import ROLLOUT_OPTIONS, rollout_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.device_plugin import device_plugin
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(
    options={**DEVICE_PLUGIN_OPTIONS, **ROLLOUT_OPTIONS},
    required_if=(("state", "present", ("configurations",)),),
    required_one_of=(("cluster_name", "kubernetes"),),
)


def validate(params: t.Mapping[str, t.Any]) -> list[Fault]:
    return [*device_plugin_faults(params), *rollout_faults(params)]


def main() -> None:
    run_module(aws_spec(ARGUMENTS, wait_timeout=600, kubernetes=True), device_plugin, validate=validate)


if __name__ == "__main__":
    main()
