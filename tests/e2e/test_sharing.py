# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways of sharing a GPU, side by side in one cluster, and one pool taken from each way to the next. MPS and MIG are by rules in the lab."""

from __future__ import annotations

import typing as t

from tests.e2e.rehearsal import Play, Rehearsal
from tests.e2e.test_pools import APPS, GENERAL, Objects, nodes_of, until

SLICED, SERVED, CUT, BALANCED = "tensorflow", "resnet", "slices", "balanced"
GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.5gb"
ZONES = ["us-west-2a"]
ONE = {"min": 1, "max": 1}
SECONDS = 120.0
TIME_SLICING_10 = {"strategy": "time_slicing", "replicas": 10}


def pool(name: str, machine: str, **more: t.Any) -> dict[str, t.Any]:
    return {"name": name, "provisioner": "managed_node_group", "instances": {"types": [machine]}, "zones": ZONES, "scaling": ONE, **more}


def variables(sharing: dict[str, t.Any] | None = None, **more: t.Any) -> dict[str, t.Any]:
    """An inventory with each way of sharing; ``sharing`` of the first pool."""
    pools = [
        GENERAL,
        pool(SLICED, "g5.2xlarge", sharing=sharing or TIME_SLICING_10),
        pool(SERVED, "g4dn.xlarge", sharing={"strategy": "mps", "replicas": 5}),
        pool(CUT, "p4d.24xlarge", mig={"strategy": "mixed", "layout": {"1g.5gb": 7}}),
        pool(BALANCED, "p4d.24xlarge", mig={"strategy": "mixed", "layout": {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}}),
    ]
    node = {"gpu_workloads_node_selector": {"gpuops.eks/nodepool": SLICED}}
    return {"gpu_nodepools": pools, "eks_autoscaling_cluster_autoscaler_enabled": False, **node, **more}


def converge(rehearsal: Rehearsal, *options: str, **more: t.Any) -> Play:
    play = rehearsal.play("site.yml", *options, **variables(**more))
    assert play.code == 0, play.output[-6000:]
    return play


def app(of: str, resource: str, replicas: int) -> dict[str, t.Any]:
    """A Deployment each of whose pods takes one of a resource on the nodes of a pool."""
    labels = {"app": f"app-{of}"}
    spec = {
        "nodeSelector": {"gpuops.eks/nodepool": of},
        "tolerations": [{"key": GPU, "operator": "Exists"}],
        "containers": [{"name": "work", "image": "work", "resources": {"limits": {resource: "1"}}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"app-{of}"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def scale(rehearsal: Rehearsal, of: str, replicas: int) -> None:
    rehearsal.kube().merge(f"{APPS}/app-{of}", {"spec": {"replicas": replicas}})


def pods(rehearsal: Rehearsal, selector: str, phase: str = "Running") -> Objects:
    found = rehearsal.kube().call("GET", f"/api/v1/pods?labelSelector={selector}")["items"]
    return [pod for pod in found if pod["status"].get("phase") == phase and "deletionTimestamp" not in pod["metadata"]]


def until_running(rehearsal: Rehearsal, of: str, running: int, pending: int = 0) -> None:
    def there() -> bool:
        selector = f"app=app-{of}"
        return (len(pods(rehearsal, selector)), len(pods(rehearsal, selector, "Pending"))) == (running, pending)

    until(there, SECONDS, f"{running} pods of {of} run and {pending} are pending", rehearsal)


def advertised(rehearsal: Rehearsal, of: str) -> dict[str, str]:
    """What a pool's only node advertises and has any of."""
    [node] = nodes_of(rehearsal, of)
    found = node["status"]["allocatable"].items()
    return {name: count for name, count in found if name.startswith("nvidia.com/") and count != "0"}


def pending_words(rehearsal: Rehearsal) -> list[dict[str, t.Any]]:
    """The pods that the capacity report calls pending."""
    play = rehearsal.play("playbooks/capacity.yml", **variables())
    assert play.code == 0, play.output[-6000:]
    [capacity] = [task.result["gpu_capacity"] for task in play.tasks if "gpu_capacity" in task.result]
    found: list[dict[str, t.Any]] = capacity["demand"]["pending"]
    return found


def test_each_pool_advertises_what_its_sharing_says(rehearsal: Rehearsal) -> None:
    converge(rehearsal)
    assert advertised(rehearsal, SLICED) == {GPU: "10"}
    assert advertised(rehearsal, SERVED) == {GPU: "5"}
    assert advertised(rehearsal, CUT) == {SLICE: "56"}
    assert advertised(rehearsal, BALANCED) == {SLICE: "16", "nvidia.com/mig-2g.10gb": "8", "nvidia.com/mig-3g.20gb": "8"}


def test_tensorflow_runs_twice_on_shares_of_one_gpu(rehearsal: Rehearsal) -> None:
    [node] = nodes_of(rehearsal, SLICED)
    assert [pod["spec"]["nodeName"] for pod in pods(rehearsal, "app=gpu")] == [node["metadata"]["name"]] * 2


def test_a_second_run_writes_nothing(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    assert converge(rehearsal).changed == []
    assert rehearsal.write_count() == before


def test_five_slots_of_mps_serve_five_and_the_report_says_why_not_six(rehearsal: Rehearsal) -> None:
    rehearsal.kube().call("POST", APPS, app(SERVED, GPU, 3))
    until_running(rehearsal, SERVED, 3)
    scale(rehearsal, SERVED, 4)
    until_running(rehearsal, SERVED, 4)
    assert pending_words(rehearsal) == []
    scale(rehearsal, SERVED, 6)
    until_running(rehearsal, SERVED, 5, pending=1)
    [pending] = pending_words(rehearsal)
    assert "Insufficient nvidia.com/gpu" in pending["message"]
    scale(rehearsal, SERVED, 5)


def test_slices_run_56_and_the_57th_is_pending(rehearsal: Rehearsal) -> None:
    rehearsal.kube().call("POST", APPS, app(CUT, SLICE, 56))
    until_running(rehearsal, CUT, 56)
    scale(rehearsal, CUT, 57)
    until_running(rehearsal, CUT, 56, pending=1)
    [pending] = pending_words(rehearsal)
    assert f"Insufficient {SLICE}" in pending["message"]
    rehearsal.kube().call("DELETE", f"{APPS}/app-{CUT}")


def test_one_pool_goes_from_each_way_to_the_next_and_no_other_pool_notices(rehearsal: Rehearsal) -> None:
    """×10 → ×4 → MPS ×5 → none, with pods that run: two of TensorFlow and five more, which have to leave as shares get fewer."""
    rehearsal.kube().call("POST", APPS, app(SLICED, GPU, 5))
    until_running(rehearsal, SLICED, 5)
    others = other_pods(rehearsal)
    steps = [({"strategy": "time_slicing", "replicas": 4}, "4"), ({"strategy": "mps", "replicas": 5}, "5"), ({"strategy": "none"}, "1")]
    for sharing, shares in steps:
        settings = {"sharing": sharing, "gpu_workloads_state": "absent", "gpu_sharing_drain": True}
        planned = writes_of_sharing(converge(rehearsal, "--check", **settings))
        assert "kubernetes:create pods/eviction" in planned
        made = writes_of_sharing(converge(rehearsal, **settings))
        assert made == planned
        assert advertised(rehearsal, SLICED) == {GPU: shares}
        until_running(rehearsal, SLICED, min(5, int(shares)), pending=max(0, 5 - int(shares)))
        assert other_pods(rehearsal) == others
    before = rehearsal.write_count()
    assert converge(rehearsal, sharing={"strategy": "none"}, gpu_workloads_state="absent").changed == []
    assert rehearsal.write_count() == before


def writes_of_sharing(play: Play) -> list[str]:
    """The actions of the device plugin's plan, in order."""
    return [step["action"] for task in play.tasks if task.role == "gpu_sharing" for step in task.result.get("plan") or ()]


def other_pods(rehearsal: Rehearsal) -> set[str]:
    """The pods, by their uid, on nodes of the other GPU pools."""
    names = {node["metadata"]["name"] for of in (SERVED, CUT, BALANCED) for node in nodes_of(rehearsal, of)}
    return {pod["metadata"]["uid"] for pod in rehearsal.kube().call("GET", "/api/v1/pods")["items"] if pod["spec"].get("nodeName") in names}


def cluster_writes(rehearsal: Rehearsal) -> list[tuple[str, str, str]]:
    return [(event.verb, event.resource, event.name) for event in rehearsal.audit_writes()]


def test_without_consent_nothing_is_drained(rehearsal: Rehearsal) -> None:
    """What autoscalers are told of the pool is its node group's, and comes before."""
    before = cluster_writes(rehearsal)
    play = rehearsal.play("site.yml", **variables(sharing={"strategy": "mps", "replicas": 5}, gpu_workloads_state="absent"))
    assert play.code != 0
    assert "drain: true" in play.output
    assert f"app-{SLICED}-" in play.output
    assert cluster_writes(rehearsal) == before
