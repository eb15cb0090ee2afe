# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many nodes ten one-share pods buy, with what the collection derives and without it: Karpenter is real, cluster-autoscaler a model."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.provenance import commit, today
from tests.e2e.rehearsal import ROOT, Rehearsal
from tests.e2e.test_pools import (
    APPS,
    GENERAL,
    PROVISIONERS,
    REPLICAS,
    SHARED,
    instances_ever,
    nodes_of,
    pods_on_shares,
    pool_name,
    running,
    until,
)

TABLE = ROOT / "docs" / "soak-nodes-bought.md"
COMMAND = "python -m pytest -m soak tests/e2e/test_nodes_bought.py"
OVERLAYS = "/apis/karpenter.sh/v1alpha1/nodeoverlays"
SYSTEM_PODS = "/api/v1/namespaces/kube-system/pods"
GPU_TAG = "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu"
MAX_NODES = 24  # of two zones: a group of one has room for a node for each pod
SETTLED_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """What one Deployment of ten pods bought."""

    provisioner: str
    derived: bool
    bought: int
    running_seconds: float
    left: int  # nodes SETTLED_SECONDS after all pods were Running


def variables() -> dict[str, t.Any]:
    """The same pool for each provisioner; Karpenter consolidates soon."""
    pools: list[dict[str, t.Any]] = [
        {"name": pool_name(provisioner), "provisioner": provisioner, **SHARED, "scaling": {"max": MAX_NODES}}
        for provisioner in PROVISIONERS
    ]
    pools[0]["disruption"] = {"consolidate_after": "15s"}
    return {"gpu_nodepools": [GENERAL, *pools], "gpu_workloads_state": "absent", "eks_autoscaling_karpenter_replicas": 1}


def buy(rehearsal: Rehearsal, provisioner: str, *, derived: bool) -> Purchase:
    """Ten pods of one share each, from zero nodes and back to zero."""
    pool, kube = pool_name(provisioner), rehearsal.kube()
    before, begin = instances_ever(rehearsal, pool), time.monotonic()
    kube.call("POST", APPS, pods_on_shares(pool, REPLICAS))
    until(lambda: running(rehearsal, pool) == REPLICAS, 300, f"{REPLICAS} pods of {pool} are Running", rehearsal)
    taken = time.monotonic() - begin
    time.sleep(SETTLED_SECONDS)
    bought, left = instances_ever(rehearsal, pool) - before, len(nodes_of(rehearsal, pool))
    kube.call("DELETE", f"{APPS}/{pool}")
    until(lambda: not nodes_of(rehearsal, pool), 600, f"no node of {pool} is left", rehearsal)
    return Purchase(provisioner=provisioner, derived=derived, bought=bought, running_seconds=taken, left=left)


def without_overlays(rehearsal: Rehearsal) -> None:
    kube = rehearsal.kube()
    names = [overlay["metadata"]["name"] for overlay in kube.call("GET", OVERLAYS)["items"]]
    assert names, "the pool has no overlay to take away"
    for name in names:
        kube.call("DELETE", f"{OVERLAYS}/{name}")


def without_tags(rehearsal: Rehearsal) -> None:
    """The autoscaler is left with the physical GPUs of the instance types, and is restarted so that it forgets the nodes that it has seen."""
    autoscaling, eks = rehearsal.client("autoscaling"), rehearsal.client("eks")
    removed = 0
    for group in autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]:
        tags = [tag for tag in group["Tags"] if tag["Key"] == GPU_TAG]
        removed += len(tags)
        if tags:
            keys = [{name: tag[name] for name in ("ResourceId", "ResourceType", "Key")} for tag in tags]
            autoscaling.delete_tags(Tags=keys)
    for name in eks.list_nodegroups(clusterName=rehearsal.cluster)["nodegroups"]:
        found = eks.describe_nodegroup(clusterName=rehearsal.cluster, nodegroupName=name)["nodegroup"]
        if GPU_TAG in found.get("tags", {}):
            eks.untag_resource(resourceArn=found["nodegroupArn"], tagKeys=[GPU_TAG])
            removed += 1
    assert removed >= 2, "each group provisioner has such a tag to take away"
    restart_autoscaler(rehearsal)


def restart_autoscaler(rehearsal: Rehearsal) -> None:
    kube = rehearsal.kube()
    pods = [pod["metadata"]["name"] for pod in kube.call("GET", SYSTEM_PODS)["items"]]
    [name] = [name for name in pods if name.startswith("cluster-autoscaler-")]
    kube.call("DELETE", f"{SYSTEM_PODS}/{name}")
    until(lambda: _other_runs(rehearsal, name), 60, "cluster-autoscaler runs again", rehearsal)


def _other_runs(rehearsal: Rehearsal, name: str) -> bool:
    pods = rehearsal.kube().call("GET", SYSTEM_PODS)["items"]
    return any(
        pod["metadata"]["name"].startswith("cluster-autoscaler-")
        and pod["metadata"]["name"] != name
        and pod["status"]["phase"] == "Running"
        for pod in pods
    )


@pytest.mark.soak
def test_nodes_bought_for_ten_pods_of_one_share(rehearsal: Rehearsal) -> None:
    play = rehearsal.play("site.yml", **variables())
    assert play.code == 0, play.output[-6000:]
    found = [buy(rehearsal, provisioner, derived=True) for provisioner in PROVISIONERS]
    without_overlays(rehearsal)
    without_tags(rehearsal)
    found += [buy(rehearsal, provisioner, derived=False) for provisioner in PROVISIONERS]
    write_table(found, TABLE)
    assert {each.provisioner: each.bought for each in found if each.derived} == dict.fromkeys(PROVISIONERS, 1)
    assert {each.provisioner: each.bought for each in found if not each.derived} == dict.fromkeys(PROVISIONERS, REPLICAS)


def write_table(found: t.Sequence[Purchase], path: Path) -> None:
    karpenter = [each for each in found if each.provisioner == "karpenter"]
    groups = [each for each in found if each.provisioner != "karpenter"]
    lines = [
        "# Nodes bought for ten pods of one share",
        "",
        f"{today()}, commit {commit()}; made by `{COMMAND}` (part of `make soak`).",
        "",
        f"On the lab: a Deployment of {REPLICAS} pods that ask for one `nvidia.com/gpu` each, a pool of g5.2xlarge (one GPU) whose GPUs are shared",
        f"by {REPLICAS}, no node at first. `left`: nodes {SETTLED_SECONDS} seconds after all pods were Running. The pods of both tables fit on one node.",
        "",
        "## Karpenter",
        "",
        "The real controller, `consolidate_after: 15s`, the default budget of 10 %. Without: the NodeOverlay that the module makes is deleted.",
        "Seconds are real ones.",
        "",
        *table(karpenter, "NodeOverlay"),
        "",
        "## Group provisioners: a model",
        "",
        "The lab's **model** of cluster-autoscaler, not the program. Without: the tag `node-template/resources/nvidia.com/gpu` is taken from group",
        "and node group, and the autoscaler restarted, so that it counts the physical GPU of the instance type. Seconds are real ones; the",
        "model's own times run 60 times as fast.",
        "",
        *table(groups, "tags"),
        "",
    ]
    path.write_text("\n".join(lines), encoding="utf-8")


def table(rows: t.Iterable[Purchase], derived: str) -> list[str]:
    return [
        f"| provisioner | {derived} | nodes bought | all Running after | left |",
        "|---|---|---|---|---|",
        *(
            f"| {row.provisioner} | {'yes' if row.derived else 'no'} | **{row.bought}** | {row.running_seconds:.1f} s | {row.left} |"
            for row in rows
        ),
    ]
