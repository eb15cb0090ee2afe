# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast the device plugin is planned for many nodes and configurations: everything between what is read and what is sent."""

from __future__ import annotations

import copy
import dataclasses
import statistics
import time
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin, Image
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import CONFIG_MAP
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_conflicts, transition
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import Observed
from ansible_collections.gpuops.eks.plugins.module_utils._plan.rollout import judge

NODES, CONFIGURATIONS, ROUNDS = 1000, 20, 5
Json = dict[str, t.Any]


def plugin(strategy: t.Any, replicas: int) -> DevicePlugin:
    """One configuration for each pool."""
    sharing = Sharing(strategy=strategy, replicas=replicas)
    configurations = tuple(Configuration(name=f"pool-{index}", sharing=sharing) for index in range(CONFIGURATIONS))
    return DevicePlugin(namespace="gpuops-nvidia", image=Image(), configurations=configurations)


def cluster(before: DevicePlugin) -> Json:
    """What the API server has: nodes, our objects, and a pod of the plugin on each node."""
    objects = [
        copy.deepcopy(obj)
        for configuration in before.configurations
        for obj in manifests.objects(before, configuration, feature_discovery=False)
    ]
    templates = {obj["metadata"]["name"]: obj["spec"]["template"]["metadata"] for obj in objects if obj["kind"] == "DaemonSet"}
    return {
        "nodes": [_node(index) for index in range(NODES)],
        "objects": objects,
        "pods": [_pod(index, templates[f"nvidia-device-plugin-pool-{index % CONFIGURATIONS}"]) for index in range(NODES)],
    }


def _node(index: int) -> Json:
    labels = {
        "nvidia.com/device-plugin.config": f"pool-{index % CONFIGURATIONS}",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": "1",
        "gpuops.eks/nodepool": f"pool-{index % CONFIGURATIONS}",
        "node.kubernetes.io/instance-type": "g5.2xlarge",
        "kubernetes.io/hostname": f"n{index}",
    }
    counts = {"cpu": "8", "memory": "32Gi", "pods": "58", "nvidia.com/gpu": "10"}
    status = {"capacity": counts, "allocatable": counts, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": f"n{index}", "uid": f"u{index}", "labels": labels}, "spec": {}, "status": status}


def _pod(index: int, template: Json) -> Json:
    metadata = {**template, "name": f"p{index}", "namespace": "gpuops-nvidia", "uid": f"p{index}"}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": metadata, "spec": {"nodeName": f"n{index}"}, "status": status}


def plan(wanted: DevicePlugin, found: Json) -> int:
    """From what was read to the plan and how things stand; the number of steps."""
    design = Design.of(wanted, feature_discovery=False)
    daemon_sets = tuple(obj for obj in found["objects"] if obj["kind"] == "DaemonSet")
    observed = Observed(
        namespace=manifests.namespace("gpuops-nvidia"),
        daemon_sets=daemon_sets,
        others={CONFIG_MAP: tuple(obj for obj in found["objects"] if obj["kind"] == "ConfigMap")},
        nodes=tuple(map(Node.from_api, found["nodes"])),
        pods=tuple(found["pods"]),
    )
    refused = device_plugin_conflicts.conflicts(design, observed, {}, replace=False)
    assert not refused, refused
    moves = tuple(transition.moves(planning.in_order(design, observed, {}), {}))
    way = planning.Way(moves=moves)
    dry_runs = {(str(obj["kind"]), obj["metadata"]["name"]): obj for obj in planning.unsettled(design, observed, way)}
    observed = dataclasses.replace(observed, dry_runs=dry_runs)
    steps = planning.plan_begin(design, observed, way).steps
    steps += tuple(step for batch in transition.batches(moves, 1) for step in transition.batch_plan(batch).steps)
    steps += planning.plan_end(design, observed, way).steps
    judge(design, daemon_sets=daemon_sets, nodes=observed.nodes, pods=observed.pods, catalog={})
    return len(steps)


def measure() -> list[tuple[str, float, int]]:
    """(what, seconds, steps): a run that changes nothing, and every node into MPS."""
    before = plugin("time_slicing", 10)
    found, rows = cluster(before), []
    for what, wanted in (("nothing to change", before), ("every node into MPS", plugin("mps", 10))):
        taken, steps = [], 0
        for _round in range(ROUNDS):
            begin = time.perf_counter()
            steps = plan(wanted, found)
            taken.append(time.perf_counter() - begin)
        rows.append((what, statistics.median(taken), steps))
    return rows


def main() -> None:
    """Measure and print."""
    for what, taken, steps in measure():
        print(f"plan of {NODES} nodes, {CONFIGURATIONS} configurations, {what}: {taken:.3f} s, {steps} steps (limit 0.3 s)")


if __name__ == "__main__":
    main()
