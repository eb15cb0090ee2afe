#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_operator_info
short_description: NVIDIA's GPU Operator in a cluster, and whether its work is done on every node
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Looks at the ClusterPolicy, the operator's DaemonSets and the nodes that it looks after, which have the label C(nvidia.com/gpu.present=true)
    and not C(nvidia.com/gpu.deploy.operands=false).
  - It is done when the ClusterPolicy is Ready with the reason C(Reconciled) (or there is no such node), every DaemonSet is rolled out, and each
    node has its MIG layout and advertises what O(pools) say of its pool. The ClusterPolicy's state C(ready) alone also comes where no node was
    found.
  - A MIG layout that failed, and a node whose layout stays pending with the operands paused, end the wait at once with what to do.
  - Nothing is changed.
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
    support: none
  idempotent:
    support: full
options:
  cluster_name:
    description:
      - Name of the EKS cluster. The API server is found and asked with the AWS credentials unless O(kubernetes) says how.
      - One of O(cluster_name) and O(kubernetes) is required.
    type: str
  namespace:
    description:
      - Namespace of the Helm release that the operator should belong to.
    type: str
    default: gpu-operator
  release:
    description:
      - Name of that Helm release.
    type: str
    default: gpu-operator
  pools:
    description:
      - The cluster's pools, as in O(gpuops.eks.eks_gpu_nodepool#module:pools). Nodes of those with C(sharing.backend=gpu_operator) have to
        advertise what these say.
    type: list
    elements: dict
    default: []
  wedge_after:
    description:
      - Seconds after which a node is given up whose MIG layout is pending with operands paused.
    type: int
    default: 600
  wait:
    description:
      - Whether to wait until the operator's work is done.
    type: bool
    default: false
  wait_timeout:
    description:
      - Seconds to wait.
    type: int
    default: 3600
seealso:
  - plugin: gpuops.eks.gpu_operator_values
    plugin_type: filter
  - module: gpuops.eks.nvidia_device_plugin
  - name: MIG with the NVIDIA GPU Operator
    description: Labels and states of MIG manager.
    link: https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/gpu-operator-mig.html
"""

EXAMPLES = r"""
- name: Wait until the operator has done its work
  gpuops.eks.gpu_operator_info:
    cluster_name: demo
    region: us-west-2
    pools: "{{ gpu_nodepools }}"
    wait: true

- name: What is in the way of an operator of my own
  gpuops.eks.gpu_operator_info:
    kubernetes:
      kubeconfig: ~/.kube/config
  register: found
  failed_when: found.gpu_operator.conflicts | length > 0
"""

RETURN = r"""
gpu_operator:
  description: The operator.
  returned: success
  type: dict
  contains:
    namespace:
      description: Namespace of the release that was asked for.
      type: str
      returned: always
      sample: gpu-operator
    ready:
      description: Whether its work is done.
      type: bool
      returned: always
      sample: true
    faults:
      description: What of the ClusterPolicy and the DaemonSets is not as it should be.
      type: list
      elements: str
      returned: always
      sample: []
    conflicts:
      description: What is in the way of this release, each with what to do. Another release, or a device plugin on the same nodes.
      type: list
      elements: str
      returned: always
      sample: []
    cluster_policies:
      description: The ClusterPolicies; the oldest one counts.
      type: list
      elements: dict
      returned: always
      sample: [{name: cluster-policy, state: ready, ready: true, reason: Reconciled}]
    daemon_sets:
      description: The operator's DaemonSets.
      type: list
      elements: dict
      returned: always
      sample: [{name: nvidia-mig-manager, desired: 1, ready: 1, updated: 1}]
    nodes:
      description: The nodes that it looks after.
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
          description: Its pool.
          type: str
          returned: always
          sample: training
        mig_config:
          description: The MIG layout that its label C(nvidia.com/mig.config) names; null without.
          type: str
          returned: always
          sample: training
        mig_config_state:
          description: What MIG manager says of it. V(pending), V(rebooting), V(success) or V(failed); null before.
          type: str
          returned: always
          sample: success
        resources:
          description: What it should advertise and does; empty where its pool or its instance type is not known.
          type: list
          elements: dict
          returned: always
          sample: [{name: nvidia.com/mig-1g.5gb, expected: 56, advertised: 56}]
        why:
          description: Why it is not as it should be; empty where it is.
          type: str
          returned: always
          sample: ""
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_operator import info_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.gpu_operator import gpu_operator_info
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str"},
        "namespace": {"type": "str", "default": "gpu-operator"},
        "release": {"type": "str", "default": "gpu-operator"},
        "pools": {"type": "list", "elements": "dict", "default": []},
        "wedge_after": {"type": "int", "default": 600},
        "wait": {"type": "bool", "default": False},
    },
    required_one_of=(("cluster_name", "kubernetes"),),
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS, wait_timeout=3600, kubernetes=True), gpu_operator_info, validate=info_faults)


if __name__ == "__main__":
    main()
