# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the GPU Operator's work is done, what is said of nodes on which it is not, and what is in the way of it."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Hardware
from ansible_collections.gpuops.eks.plugins.module_utils._plan.gpu_operator import (
    Observed,
    Patience,
    Status,
    conflicts,
    judge,
    recut,
    result,
    table,
)

Json = dict[str, t.Any]

MOMENT = datetime.datetime(2026, 1, 31, 12, 0, tzinfo=datetime.UTC)
CATALOG = {"p4d.24xlarge": Hardware(gpus=8, model="a100")}
POOL: Json = {"name": "mig", "mig": {"strategy": "mixed", "layout": {"1g.5gb": 7}}, "sharing": {"backend": "gpu_operator"}}
PAUSED: Json = {"nvidia.com/gpu.deploy.device-plugin": "paused-for-mig-change", "nvidia.com/gpu.deploy.dcgm": "paused-for-mig-change"}
DONE: Json = {"nvidia.com/mig.config": "mig", "nvidia.com/mig.config.state": "success"}


def node(name: str = "a", /, **more: t.Any) -> Json:
    """``advertised``, ``ready``, seconds ``ago`` that the state was written; the rest are labels."""
    advertised, ready, ago = more.pop("advertised", 56), more.pop("ready", True), more.pop("ago", 0)
    base: dict[str, str | None] = {
        "gpuops.eks/nodepool": "mig",
        "nvidia.com/gpu.present": "true",
        "feature.node.kubernetes.io/pci-10de.present": "true",
        "node.kubernetes.io/instance-type": "p4d.24xlarge",
    }
    written = (MOMENT - datetime.timedelta(seconds=ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fields: Json = {"f:metadata": {"f:labels": {"f:nvidia.com/mig.config.state": {}}}}
    counts = {"nvidia.com/gpu": "0", "nvidia.com/mig-1g.5gb": str(advertised)}
    return {
        "metadata": {
            "name": name,
            "labels": {key: value for key, value in {**base, **more}.items() if value is not None},
            "managedFields": [
                {"manager": "kubelet", "time": "2020-01-01T00:00:00Z"},
                {"manager": "m", "time": written, "fieldsV1": fields},
            ],
        },
        "spec": {"taints": [{"key": "team", "effect": "NoSchedule"}]},
        "status": {
            "capacity": counts,
            "allocatable": counts,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def policy(reason: str = "Reconciled", *, ready: bool = True, created: str = "2026-01-01T00:00:00Z", **metadata: t.Any) -> Json:
    conditions = [
        {"type": "Ready", "status": str(ready), "reason": reason if ready else "Error", "message": "all" if ready else ""},
        {
            "type": "Error",
            "status": str(not ready),
            "reason": "Ready" if ready else reason,
            "message": "" if ready else "states not ready: [x]",
        },
    ]
    annotations = {"meta.helm.sh/release-name": "gpu-operator", "meta.helm.sh/release-namespace": "gpu-operator"}
    head = {"name": "cluster-policy", "creationTimestamp": created, "annotations": annotations, **metadata}
    return {"metadata": head, "status": {"state": "ready" if ready else "notReady", "conditions": conditions}}


def daemon_set(name: str = "nvidia-mig-manager", *, ready: int = 1, observed: int = 2, **more: t.Any) -> Json:
    owners = [{"kind": "ClusterPolicy", "name": "cluster-policy"}]
    status = {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": ready, "observedGeneration": observed}
    spec = {"template": {"spec": {"containers": [{"name": "c", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.20.0"}]}}}
    metadata = {"name": name, "namespace": "gpu-operator", "generation": 2, "ownerReferences": owners}
    return {"metadata": metadata, "spec": spec, "status": status, **more}


def patience(waited: int = 0) -> Patience:
    return Patience(moment=MOMENT, begun=MOMENT - datetime.timedelta(seconds=waited), wedge_after=600)


def status(
    *nodes: Json,
    policies: t.Sequence[Json] | None = None,
    sets: t.Sequence[Json] = (),
    pools: t.Sequence[Json] = (POOL,),
    waited: int = 0,
) -> Status:
    found = (policy(),) if policies is None else tuple(policies)
    observed = Observed(policies=found, daemon_sets=(daemon_set(), *sets), nodes=nodes)
    return judge(observed, pools, CATALOG, patience(waited))


def test_done_when_policy_daemon_sets_and_every_node_are_as_they_should_be() -> None:
    found = status(node(**DONE), node("b", **DONE))
    assert found.done
    assert not found.hopeless
    assert found.faults() == []
    assert found.rows[0].resources == {"nvidia.com/gpu": (0, 0), "nvidia.com/mig-1g.5gb": (56, 56)}


@pytest.mark.parametrize(
    ("changes", "why", "hopeless"),
    [
        ({"advertised": 55, **DONE}, "nvidia.com/mig-1g.5gb 55", False),
        ({}, "labelled nvidia.com/mig.config=, its pool wants mig", False),
        ({"nvidia.com/mig.config": "mig"}, "MIG layout mig is not begun", False),
        ({**DONE, "nvidia.com/mig.config.state": "pending", **PAUSED, "ago": 600}, "MIG layout mig is pending", False),
        ({**DONE, "nvidia.com/mig.config.state": "pending", "ago": 9999}, "MIG layout mig is pending", False),
        ({**DONE, "nvidia.com/mig.config.state": "rebooting", "ready": False}, "https://github.com/NVIDIA/gpu-operator/issues/2415", False),
        ({**DONE, "ready": False}, "not Ready", False),
        ({**DONE, "nvidia.com/mig.config": "old"}, "labelled nvidia.com/mig.config=old, its pool wants mig", False),
        ({"feature.node.kubernetes.io/pci-10de.present": None}, "tolerate the node's taints (team:NoSchedule)", False),
    ],
)
def test_why_a_node_is_not_as_it_should_be(changes: dict[str, t.Any], why: str, hopeless: bool) -> None:
    found = status(node(**changes))
    assert why in found.rows[0].why
    assert found.hopeless is hopeless
    assert not found.done


def test_a_node_that_the_operator_gave_up_half_way_is_named_with_what_to_do() -> None:
    found = status(node(ago=601, **{**DONE, "nvidia.com/mig.config.state": "pending", **PAUSED}))
    assert found.hopeless
    assert found.rows[0].why == (
        "MIG layout mig is pending for 601 s with dcgm, device-plugin paused: the operator gave up waiting for their pods "
        "(https://github.com/NVIDIA/gpu-operator/issues/2833); drain the node, kubectl label node a --overwrite "
        "nvidia.com/gpu.deploy.dcgm=true nvidia.com/gpu.deploy.device-plugin=true, then delete its nvidia-mig-manager pod"
    )


def test_a_layout_that_failed_ends_the_wait() -> None:
    found = status(node(**{**DONE, "nvidia.com/mig.config.state": "failed"}))
    assert found.hopeless
    assert (
        "MIG layout mig failed, for which see the log of MIG manager; drain the node, delete its nvidia-mig-manager pod"
        in found.rows[0].why
    )
    lines = table(found.rows).splitlines()
    assert lines[0].split() == ["node", "pool", "MIG", "layout", "expected", "seen", "why"]
    assert lines[1].startswith("a     mig   mig failed  nvidia.com/gpu 0, nvidia.com/mig-1g.5gb 56  0, 56  MIG layout mig failed")


@pytest.mark.parametrize(
    ("ago", "waited", "hopeless"), [(0, 0, True), (5, 10, True), (500, 10, False), (500, 120, False), (500, 121, True)]
)
def test_a_failure_from_before_is_tried_again_by_what_the_release_brings(ago: int, waited: int, hopeless: bool) -> None:
    found = status(node(ago=ago, **{**DONE, "nvidia.com/mig.config.state": "failed"}), waited=waited)
    assert found.hopeless is hopeless
    assert "failed" in found.rows[0].why


def test_single_strategy_counts_devices_of_the_physical_gpus_whatever_feature_discovery_counts() -> None:
    single = {**POOL, "mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}
    one = node(**DONE, **{"nvidia.com/gpu.count": "56"})
    one["status"]["allocatable"] = {"nvidia.com/gpu": "56"}
    assert status(one, pools=[single]).done


def test_nodes_of_no_pool_and_unknown_types_are_held_to_their_layout_only() -> None:
    other = node(**DONE, **{"gpuops.eks/nodepool": None})
    unknown = node("b", advertised=3, **DONE, **{"node.kubernetes.io/instance-type": "p9.large"})
    assert status(other, unknown).done
    assert not status(node(**{"gpuops.eks/nodepool": None, "nvidia.com/mig.config": "x"})).done


def test_nodes_that_go_or_are_not_the_operators_are_left_out() -> None:
    going = node("a")
    going["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z"
    assert status(going, node("b", **{"nvidia.com/gpu.deploy.operands": "false"}), policies=[policy("NoGPUNodes")]).done


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ([], "There is no ClusterPolicy."),
        ([policy("NoGPUNodes")], "is Ready with reason NoGPUNodes"),
        ([policy("NFDLabelsMissing")], "its operands are on no node"),
        ([policy("OperandNotReady", ready=False)], "is notReady: OperandNotReady: states not ready: [x]."),
        ([{"metadata": {"name": "cluster-policy"}}], "is without a state: the operator has not looked at it yet."),
        (
            [policy(created="2026-01-02T00:00:00Z", name="b"), policy("NoGPUNodes")],
            "ClusterPolicy cluster-policy is Ready with reason NoGPUNodes",
        ),
    ],
)
def test_a_policy_that_is_ready_without_having_looked_at_a_node_is_not_enough(policies: list[Json], says: str) -> None:
    found = status(node(**DONE), policies=policies)
    assert not found.done
    assert says in found.faults()[0]


@pytest.mark.parametrize(("changes"), [{"ready": 0}, {"observed": 1}])
def test_operands_have_to_be_rolled_out(changes: dict[str, int]) -> None:
    found = status(node(**DONE), sets=[daemon_set("nvidia-device-plugin-daemonset", **changes)])
    assert not found.done
    assert found.faults()[0].startswith("DaemonSet nvidia-device-plugin-daemonset: ")


def test_pods_of_operands_say_why_they_do_not_run_and_those_that_end_are_waited_for() -> None:
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off"}
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    container = {"name": "c", "ready": False, "restartCount": 9, "state": {"waiting": waiting}, "lastState": ended}
    crashing = {"metadata": {"name": "v", "namespace": "gpu-operator"}, "status": {"phase": "Running", "containerStatuses": [container]}}
    over = {"metadata": {"name": "cuda-validator"}, "status": {"phase": "Succeeded"}}
    observed = Observed(policies=(policy("NoGPUNodes"),), daemon_sets=(daemon_set(ready=0),), operands=(crashing, over))
    found = judge(observed, [POOL], CATALOG, patience())
    assert not found.hopeless
    assert found.faults()[1:] == ["pod v: CrashLoopBackOff: back-off: ended with 1 Error"]


def found_conflicts(*, policies: t.Sequence[Json] = (), sets: t.Sequence[Json] = (), nodes: t.Sequence[Json] = ()) -> list[str]:
    return conflicts(Observed(policies=tuple(policies), daemon_sets=tuple(sets), nodes=tuple(nodes)), "gpu-operator", "gpu-operator")


def test_an_operator_of_somebody_else_is_named() -> None:
    elsewhere = {"meta.helm.sh/release-name": "op", "meta.helm.sh/release-namespace": "nvidia"}
    assert found_conflicts(policies=[policy()]) == []
    assert "belongs to Helm release op in namespace nvidia" in found_conflicts(policies=[policy(annotations=elsewhere)])[0]
    assert "belongs to somebody else, not by Helm" in found_conflicts(policies=[policy(annotations={})])[0]
    assert "is kept by Flux" in found_conflicts(policies=[policy(labels={"helm.toolkit.fluxcd.io/name": "op"})])[0]


def plugin(name: str, labels: t.Mapping[str, str] | None = None, /, **selector: t.Any) -> Json:
    spec = {"nodeSelector": selector, "containers": [{"name": "c", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.19.3"}]}
    return {"metadata": {"name": name, "namespace": "kube-system", "labels": labels or {}}, "spec": {"template": {"spec": spec}}}


OURS: Json = {"app.kubernetes.io/managed-by": "gpuops.eks", "app.kubernetes.io/name": "nvidia-device-plugin"}


def test_another_device_plugin_on_the_operators_nodes_is_refused_ours_included() -> None:
    everywhere = plugin("nvidia-device-plugin-daemonset", **{"nvidia.com/gpu.present": "true"})
    ours = plugin("nvidia-device-plugin-gpu", OURS, **{"gpuops.eks/nodepool": "mig"})
    found = found_conflicts(sets=[everywhere, ours], nodes=[node(), node("b")])
    assert [text.split()[1] for text in found] == ["kube-system/nvidia-device-plugin-gpu", "kube-system/nvidia-device-plugin-daemonset"]
    assert "nodes of the operator (a, b)" in found[0]


def test_another_device_plugin_on_other_nodes_and_the_operators_own_are_none() -> None:
    elsewhere = plugin("p", OURS, **{"gpuops.eks/nodepool": "other"})
    off = node(**{"nvidia.com/gpu.deploy.operands": "false", "gpuops.eks/nodepool": "other"})
    assert found_conflicts(sets=[elsewhere, daemon_set("nvidia-device-plugin-daemonset")], nodes=[off, node("b")]) == []


def pod(name: str, namespace: str = "ml", resource: str = "nvidia.com/mig-1g.5gb", phase: str = "Running") -> Json:
    spec = {"nodeName": "a", "containers": [{"name": "c", "resources": {"limits": {resource: "1"}}}]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        (DONE, []),
        ({**DONE, "advertised": 16}, ["a"]),
        ({**DONE, "advertised": 16, "nvidia.com/mig.config.state": "failed"}, ["a"]),
        ({**DONE, "advertised": 16, "nvidia.com/mig.config.state": "pending"}, []),
        ({**DONE, "advertised": 16, "gpuops.eks/nodepool": "other"}, []),
    ],
)
def test_nodes_that_are_to_be_cut_anew(changes: Json, names: list[str]) -> None:
    assert recut(Observed(nodes=(node(**changes),)), [POOL], CATALOG) == names


def test_an_unhealthy_device_is_no_other_layout() -> None:
    ill = node(**DONE)
    ill["status"]["allocatable"] = {"nvidia.com/mig-1g.5gb": "55"}
    assert recut(Observed(nodes=(ill,)), [POOL], CATALOG) == []


def test_pods_on_gpus_that_are_to_be_cut_anew_are_in_the_way() -> None:
    pods = [pod("train"), pod("over", phase="Succeeded"), pod("validator", "gpu-operator"), pod("plain", resource="cpu")]
    (found,) = conflicts(Observed(pods=tuple(pods)), "gpu-operator", "gpu-operator")
    assert "Node a is to be cut in another way while pods have its GPUs (ml/train)" in found
    assert "kubectl drain a" in found


def test_result_has_all_of_it() -> None:
    observed = Observed(policies=(policy(),), daemon_sets=(daemon_set(),), nodes=(node(**DONE),))
    found = result(observed, judge(observed, [POOL], CATALOG, patience()), "gpu-operator", "gpu-operator")
    assert found["ready"] is True
    assert found["cluster_policies"] == [{"name": "cluster-policy", "state": "ready", "ready": True, "reason": "Reconciled"}]
    assert found["daemon_sets"] == [{"name": "nvidia-mig-manager", "desired": 1, "ready": 1, "updated": 1}]
    assert found["nodes"][0]["resources"][1] == {"name": "nvidia.com/mig-1g.5gb", "expected": 56, "advertised": 56}
    assert (found["faults"], found["conflicts"]) == ([], [])
