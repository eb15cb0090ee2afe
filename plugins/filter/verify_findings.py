# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_findings
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: What is not as it should be on a GPU platform
description:
  - Compares what was read of a cluster with its pools. Every finding is returned.
positional: pools, cluster, nodes, workloads
options:
  _input:
    description: RV(gpuops.eks.gpu_capacity_info#module:gpu_capacity), gathered with C(nodes).
    type: dict
    required: true
  pools:
    description: The pools of the inventory.
    type: list
    elements: dict
    required: true
  cluster:
    description: RV(gpuops.eks.eks_cluster#module:cluster).
    type: dict
    required: true
  nodes:
    description: All nodes, as the API server returns them.
    type: list
    elements: dict
    required: true
  workloads:
    description: The Deployments that have to be available, as the API server returns them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Fail with everything that is not as it should be
  ansible.builtin.assert:
    that: findings | length == 0
    fail_msg: "{{ findings }}"
  vars:
    findings: "{{ capacity.gpu_capacity | gpuops.eks.verify_findings(gpu_nodepools, cluster, nodes, workloads) }}"
"""

RETURN = r"""
_value:
  description: A sentence for each finding.
  type: list
  elements: str
  sample: ["Node ip-10-0-37-13.us-west-2.compute.internal advertises 1 nvidia.com/gpu; pool gpu says 10 nvidia.com/gpu."]
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import NODEPOOL_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import GpuResources, Mig, Sharing

Data = t.Mapping[str, t.Any]


def findings(capacity: Data, pools: t.Sequence[Data], cluster: Data, nodes: t.Sequence[Data], workloads: t.Sequence[Data]) -> list[str]:
    """Return what is wrong with the cluster, its nodes, their GPUs and its workloads."""
    status = cluster.get("status")
    return [
        *([] if status == "ACTIVE" else [f"Cluster {cluster.get('name')} is {status}; it should be ACTIVE."]),
        *_nodes(pools, nodes),
        *_gpus(capacity, pools),
        *_workloads(workloads),
    ]


def _nodes(pools: t.Sequence[Data], nodes: t.Sequence[Data]) -> list[str]:
    there: dict[str, int] = {}
    found = []
    for node in nodes:
        pool = (node["metadata"].get("labels") or {}).get(NODEPOOL_LABEL, "")
        there[pool] = there.get(pool, 0) + 1
        ready = {condition["type"]: condition for condition in node["status"].get("conditions") or ()}.get("Ready", {})
        if ready.get("status") != "True":
            found.append(f"Node {node['metadata']['name']} is not Ready: {ready.get('message') or 'it has not reported yet'}.")
    return found + [
        f"Pool {pool['name']} has {there.get(pool['name'], 0)} nodes; its smallest number is {least}."
        for pool in pools
        if there.get(pool["name"], 0) < (least := int((pool.get("scaling") or {}).get("min") or 0))
    ]


def _gpus(capacity: Data, pools: t.Sequence[Data]) -> list[str]:
    """The report's own findings of nodes, and nodes on which the pool in the inventory and the node's advertisement differ.

    A launch that failed is no fault of what is there.
    """
    reported = [finding for finding in capacity.get("findings") or () if finding["subject"].startswith("node/")]
    subjects = {finding["subject"] for finding in reported}
    named = {pool["name"]: pool for pool in pools}
    found = [finding["message"] for finding in reported]
    for node in capacity.get("nodes") or ():
        pool = named.get(node["pool"])
        if pool is None or node["gpus"] is None or f"node/{node['name']}" in subjects:
            continue
        if wrong := _wrong(node, pool):
            seen, says = (" and ".join(f"{numbers[index]} {name}" for name, numbers in wrong.items()) for index in (0, 1))
            found.append(f"Node {node['name']} advertises {seen}; pool {pool['name']} says {says}.")
    return found


def _wrong(node: Data, pool: Data) -> dict[str, tuple[int, int]]:
    """Resource -> (advertised, expected) where they differ. MIG profiles with a suffix have either name: that is the device plugin's version."""
    sharing, mig = Sharing.from_params(pool.get("sharing")), pool.get("mig")
    seen = {one["name"]: one["allocatable"] for one in node["resources"]}
    wrong: dict[str, tuple[int, int]] = {}
    for suffixes in (True, False):
        divided = Mig.from_params(mig, suffixes=suffixes) if mig else None
        expected = GpuResources(sharing=sharing, mig=divided).advertised(node["gpus"])
        wrong = {name: (seen.get(name, 0), number) for name, number in expected.items() if seen.get(name, 0) != number}
        if not wrong:
            return {}
    return wrong


def _workloads(workloads: t.Sequence[Data]) -> list[str]:
    found = []
    for workload in workloads:
        wanted, there = workload["spec"].get("replicas", 1), (workload.get("status") or {}).get("availableReplicas") or 0
        if there < wanted:
            metadata = workload["metadata"]
            found.append(f"Deployment {metadata['namespace']}/{metadata['name']} has {there} of {wanted} pods available.")
    return found


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"verify_findings": findings}
