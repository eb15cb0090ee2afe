# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One pool, three provisioners: pending pods, a node from zero, shares, and back to zero. Karpenter is real, cluster-autoscaler a model."""

from __future__ import annotations

import time
import typing as t

import pytest

from tests.e2e.rehearsal import Play, Rehearsal

PROVISIONERS = ("karpenter", "managed_node_group", "auto_scaling_group")
REPLICAS = 10
GENERAL: dict[str, t.Any] = {
    "name": "general",
    "accelerator": "none",
    "provisioner": "managed_node_group",
    "instances": {"types": ["m5.xlarge"]},
    "scaling": {"min": 2, "max": 2},
}
SHARED: dict[str, t.Any] = {
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a", "us-west-2b"],
    "scaling": {"max": 4},
    "sharing": {"strategy": "time_slicing", "replicas": REPLICAS},
    "disruption": {"consolidate_after": "30s"},  # of Karpenter's own time, which is real
}
APPS = "/apis/apps/v1/namespaces/default/deployments"
Objects = list[dict[str, t.Any]]


def pool_name(provisioner: str) -> str:
    return f"gpu-{provisioner.replace('_', '-')}"


def variables() -> dict[str, t.Any]:
    """The lab's inventory with the same pool for each provisioner."""
    pools = [{"name": pool_name(provisioner), "provisioner": provisioner, **SHARED} for provisioner in PROVISIONERS]
    return {"gpu_nodepools": [GENERAL, *pools], "gpu_workloads_state": "absent", "eks_autoscaling_karpenter_replicas": 1}


def converge(rehearsal: Rehearsal, *options: str) -> Play:
    play = rehearsal.play("site.yml", *options, **variables())
    assert play.code == 0, play.output[-6000:]
    return play


def pods_on_shares(pool: str, count: int) -> dict[str, t.Any]:
    """A Deployment whose pods ask for one share each, of this pool."""
    labels = {"app": pool}
    spec = {
        "nodeSelector": {"gpuops.eks/nodepool": pool},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [
            {
                "name": "work",
                "image": "work",
                "resources": {"limits": {"nvidia.com/gpu": "1"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
            }
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": pool},
        "spec": {
            "replicas": count,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def nodes_of(rehearsal: Rehearsal, pool: str) -> Objects:
    found: Objects = rehearsal.kube().call("GET", f"/api/v1/nodes?labelSelector=gpuops.eks/nodepool={pool}")["items"]
    return found


def running(rehearsal: Rehearsal, pool: str) -> int:
    pods = rehearsal.kube().call("GET", f"/api/v1/namespaces/default/pods?labelSelector=app={pool}")["items"]
    return sum(1 for pod in pods if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"])


def instances_ever(rehearsal: Rehearsal, pool: str) -> int:
    """How many instances were bought for a pool, ended ones included."""
    filters = [{"Name": "tag:gpuops.eks/nodepool", "Values": [pool]}]
    reservations = rehearsal.client("ec2").describe_instances(Filters=filters)["Reservations"]
    return sum(len(reservation["Instances"]) for reservation in reservations)


def logs(rehearsal: Rehearsal) -> str:
    """The last words of the cluster's controllers and of the lab."""
    paths = [rehearsal.state.daemon_log, *sorted(rehearsal.state.clusters.glob("*/*.log"))]
    return "\n".join("\n".join([path.name, *path.read_text(encoding="utf-8").splitlines()[-15:]]) for path in paths)


def until(true: t.Callable[[], bool], seconds: float, what: str, rehearsal: Rehearsal) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} within {seconds} s\n{logs(rehearsal)}"
        time.sleep(0.5)


def test_one_inventory_makes_all_three(rehearsal: Rehearsal) -> None:
    play = converge(rehearsal)
    assert {task.role for task in play.tasks} >= {"eks_autoscaling", "gpu_nodepools"}
    assert [nodes_of(rehearsal, pool_name(provisioner)) for provisioner in PROVISIONERS] == [[]] * len(PROVISIONERS)


def test_a_second_run_writes_nothing(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    play = converge(rehearsal)
    assert play.changed == []
    assert rehearsal.write_count() == before


@pytest.mark.parametrize("provisioner", PROVISIONERS)
def test_ten_pods_on_shares_of_one_gpu_buy_one_node(rehearsal: Rehearsal, provisioner: str) -> None:
    """No playbook runs: what is bought gets its labels, taints and shares by itself."""
    pool, kube = pool_name(provisioner), rehearsal.kube()
    kube.call("POST", APPS, pods_on_shares(pool, REPLICAS))
    until(lambda: running(rehearsal, pool) == REPLICAS, 240, f"{REPLICAS} pods of {pool} are Running", rehearsal)
    [node] = nodes_of(rehearsal, pool)
    assert instances_ever(rehearsal, pool) == 1
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == str(REPLICAS)
    assert node["metadata"]["labels"]["nvidia.com/device-plugin.config"] == pool
    assert {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"} in node["spec"]["taints"]
    kube.call("DELETE", f"{APPS}/{pool}")
    until(lambda: not nodes_of(rehearsal, pool), 240, f"no node of {pool} is left", rehearsal)
    assert instances_ever(rehearsal, pool) == 1
