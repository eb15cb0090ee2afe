# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which calls bring Karpenter's objects to what pools want of them, and what stands against it."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.manifests import Field, with_fields
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter import (
    FIRST_WEIGHT,
    HOPELESS,
    Observed,
    Wanted,
    conflicts,
    plan_absent,
    plan_present,
    plan_removal,
    wanted_objects,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool, resolve
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_result import pool_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Wait

from tests.unit.karpenter_objects import FACTS, SUBNETS, Json, foreign, live, pool, settings, target

SHARED = {"sharing": {"strategy": "time_slicing", "replicas": 10}}
KINDS = {
    "EC2NodeClass": "ec2nodeclasses.karpenter.k8s.aws",
    "NodeOverlay": "nodeoverlays.karpenter.sh",
    "NodePool": "nodepools.karpenter.sh",
}


def wanted(observed: Observed, *targets: KarpenterPool) -> list[Wanted]:
    return wanted_objects(targets, observed, settings())


def plan(observed: Observed, *targets: KarpenterPool) -> Plan:
    return plan_present(wanted(observed, *targets), targets, observed)


def calls(found: Plan) -> list[tuple[str, str, str]]:
    return [(step.action.removeprefix("kubernetes:"), step.target, step.effect) for step in found.steps]


def waits(found: t.Iterable[Wait]) -> list[tuple[str, str]]:
    return [
        (wait.waiter.removeprefix("kubernetes:"), wait.arguments.get("metadata", {}).get("name") or wait.arguments["labels"])
        for wait in found
    ]


def made(*targets: KarpenterPool, ready: bool | None = True) -> Observed:
    """The objects of these pools as a run left them; a dry run says that they stay so."""
    objects = [live(one.manifest, ready=ready) for one in wanted(Observed(), *targets)]
    return observed_of(*objects)


def observed_of(*objects: Json) -> Observed:
    def of(kind: str) -> tuple[Json, ...]:
        return tuple(obj for obj in objects if obj["kind"] == kind)

    dry_runs = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}
    return Observed(node_classes=of("EC2NodeClass"), node_overlays=of("NodeOverlay"), node_pools=of("NodePool"), dry_runs=dry_runs)


def test_a_new_pool_is_class_overlays_node_pool_and_is_waited_for() -> None:
    found = plan(Observed(), target(**SHARED))
    assert calls(found) == [
        ("patch ec2nodeclasses.karpenter.k8s.aws", "gpu", "create"),
        ("patch nodeoverlays.karpenter.sh", "gpu-1gpu", "create"),
        ("patch nodeoverlays.karpenter.sh", "gpu-4gpu", "create"),
        ("patch nodepools.karpenter.sh", "gpu", "create"),
    ]
    assert waits(found.waits) == [("ready", "gpu"), ("ready", "gpu-1gpu"), ("ready", "gpu-4gpu"), ("ready", "gpu")]
    assert found.waits[0].arguments["hopeless"] == list(HOPELESS)


def test_what_is_there_and_ready_needs_nothing() -> None:
    found = plan(made(target(**SHARED)), target(**SHARED))
    assert (found.steps, found.waits, found.warnings) == ((), (), ())


def test_what_is_there_and_not_ready_is_waited_for() -> None:
    found = plan(made(target(), ready=False), target())
    assert (calls(found), waits(found.waits)) == ([], [("ready", "gpu"), ("ready", "gpu")])


def test_a_difference_of_the_dry_run_is_one_patch_with_its_paths() -> None:
    before = made(target())
    node_pool = before.node_pools[0]
    after = {**node_pool, "spec": {**node_pool["spec"], "weight": 5}}
    found = plan(Observed(**{**vars(before), "dry_runs": {**before.dry_runs, ("NodePool", "gpu"): after}}), target(priority=5))
    assert calls(found) == [("patch nodepools.karpenter.sh", "gpu", "update")]
    assert found.steps[0].fields == ("spec.weight",)
    assert found.after == {"nodepools.karpenter.sh gpu": {"spec.weight": 5}}
    assert waits(found.waits) == [("ready", "gpu")]


@pytest.mark.parametrize(
    ("kind", "path", "replaces"),
    [
        ("NodePool", ("spec", "weight"), False),
        ("NodePool", ("spec", "template", "metadata", "labels", "team"), True),
        ("EC2NodeClass", ("spec", "tags", "team"), True),
        ("EC2NodeClass", ("metadata", "annotations", "x"), False),
    ],
)
def test_an_update_says_that_nodes_are_replaced(kind: str, path: tuple[str, ...], replaces: bool) -> None:
    before = made(target())
    after = copy.deepcopy(before.find(kind, "gpu"))
    assert after is not None
    with_value = with_fields(after, [Field(path=path, value="1")])
    found = plan(Observed(**{**vars(before), "dry_runs": {**before.dry_runs, (kind, "gpu"): with_value}}), target())
    assert [bool(step.reason) for step in found.steps] == [replaces]


# -- weights


def weights(observed: Observed, *targets: KarpenterPool) -> dict[str, int]:
    return {one.key[1]: one.manifest["spec"]["weight"] for one in wanted(observed, *targets) if one.key[0] == "NodeOverlay"}


def other(**params: t.Any) -> KarpenterPool:
    return target(**{"name": "another", **SHARED, **params})


def test_overlays_of_all_pools_have_weights_of_their_own() -> None:
    assert weights(Observed(), target(**SHARED), other()) == {"another-1gpu": 100, "another-4gpu": 101, "gpu-1gpu": 102, "gpu-4gpu": 103}


def test_overlays_keep_their_weights_when_others_come_and_go() -> None:
    first = made(target(**SHARED))
    assert weights(first, target(**SHARED), other()) == {"gpu-1gpu": 100, "gpu-4gpu": 101, "another-1gpu": 102, "another-4gpu": 103}
    theirs = foreign("NodeOverlay", "price", {"requirements": [], "weight": FIRST_WEIGHT + 2})
    with_price = Observed(**{**vars(first), "node_overlays": (*first.node_overlays, theirs)})
    assert weights(with_price, other()) == {"another-1gpu": 103, "another-4gpu": 104}


def test_of_two_overlays_with_one_weight_one_gets_another() -> None:
    clash = observed_of(*(live(one.manifest) for one in wanted(Observed(), target(**SHARED)) if one.key[0] == "NodeOverlay"))
    clash.node_overlays[1]["spec"]["weight"] = 100
    assert weights(clash, target(**SHARED)) == {"gpu-1gpu": 100, "gpu-4gpu": 101}


# -- what is no longer wanted


def test_a_zone_that_is_left_out_stays_with_its_nodes_and_is_said() -> None:
    both = target(scaling={"scope": "zone"}, zones=["us-west-2a", "us-west-2b"], **SHARED)
    one = target(scaling={"scope": "zone"}, zones=["us-west-2a"], **SHARED)
    found = wanted(made(both), one)
    overlays = [item.manifest for item in found if item.key[0] == "NodeOverlay"]
    assert overlays[0]["spec"]["requirements"][0]["values"] == ["gpu-us-west-2a", "gpu-us-west-2b"], "its nodes share too"
    class_ = next(item.manifest for item in found if item.key[0] == "EC2NodeClass")
    assert class_["spec"]["subnetSelectorTerms"] == [{"id": "subnet-0a"}, {"id": "subnet-0b"}], "without its subnet they would be replaced"
    planned = plan_present(found, [one], made(both))
    assert "delete" not in {effect for _call, _target, effect in calls(planned)}
    assert planned.warnings == ("NodePool gpu-us-west-2b is no longer part of pool gpu and stays with its nodes; prune removes it.",)


def test_overlays_go_when_gpus_are_no_longer_shared() -> None:
    found = plan(made(target(**SHARED)), target())
    assert [call for call in calls(found) if call[2] == "delete"] == [
        ("delete nodeoverlays.karpenter.sh", "gpu-1gpu", "delete"),
        ("delete nodeoverlays.karpenter.sh", "gpu-4gpu", "delete"),
    ]
    assert found.steps[-1].request["metadata"]["uid"] == "uid-gpu-4gpu"


def test_what_is_on_its_way_out_is_made_anew_when_it_is_gone() -> None:
    observed = made(target())
    leaving = {**observed.node_pools[0], "metadata": {**observed.node_pools[0]["metadata"], "deletionTimestamp": "2026-11-24T12:00:00Z"}}
    found = plan(Observed(**{**vars(observed), "node_pools": (leaving,), "dry_runs": {}}), target())
    step = next(step for step in found.steps if step.action.endswith("nodepools.karpenter.sh"))
    assert (step.effect, waits(step.needs)) == ("create", [("deleted", "gpu")])


# -- whose objects


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_objects_of_others_are_refused_by_name(kind: str) -> None:
    name = "gpu-1gpu" if kind == "NodeOverlay" else "gpu"
    theirs = foreign(kind, name, {"template": {"spec": {"nodeClassRef": {"name": "default"}}}})
    (fault,) = conflicts(wanted(observed_of(theirs), target(**SHARED)))
    assert (fault.path, fault.value) == ("name", "gpu")
    assert fault.allowed == f"another name, or adopt: true; {kind} {name} lacks the label app.kubernetes.io/managed-by=gpuops.eks"
    assert fault.source == f"kubernetes:list {KINDS[kind]}"


def test_objects_of_another_pool_are_refused() -> None:
    zoned = target(scaling={"scope": "zone"}, zones=["us-west-2a"])
    faults = conflicts(wanted(made(zoned), target(name="gpu-us-west-2a")))
    assert [fault.allowed for fault in faults] == ["another name; NodePool gpu-us-west-2a is of pool gpu"]


def test_an_adopted_pool_uses_its_own_class_and_loses_nothing() -> None:
    theirs = foreign("NodePool", "gpu", {"template": {"spec": {"nodeClassRef": {"name": "default"}, "requirements": []}}})
    class_ = foreign("EC2NodeClass", "default", {"role": "theirs"})
    adopted = target(adopt=True, **SHARED)
    unasked = settings(images={})
    found = wanted_objects([adopted], observed_of(theirs, class_), unasked)
    assert conflicts(found) == []
    assert [one.key for one in found] == [("NodeOverlay", "gpu-1gpu"), ("NodeOverlay", "gpu-4gpu"), ("NodePool", "gpu")]
    mine = {
        **class_,
        "metadata": {**class_["metadata"], "labels": {"app.kubernetes.io/managed-by": "gpuops.eks", "gpuops.eks/nodepool": "x"}},
    }
    shared = wanted_objects([target(adopt=True)], observed_of(theirs, live(mine)), unasked)
    assert [one.key for one in shared] == [("NodePool", "gpu")], "a class of another pool of ours is not this one's to change"
    assert [
        fault.allowed
        for fault in conflicts(wanted_objects([target(adopt=True, tags={"a": "b"})], observed_of(theirs, live(mine)), unasked))
    ] == ["another name; EC2NodeClass default is of pool x"]
    tagged = wanted_objects([target(adopt=True, tags={"team": "a"})], observed_of(theirs, class_), unasked)
    assert [one.key for one in tagged] == [("EC2NodeClass", "default"), ("NodePool", "gpu")]


@pytest.mark.parametrize(
    ("metadata", "tool"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "platform:karpenter.sh/NodePool:/gpu"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "platform"}}, "Flux"),
    ],
)
def test_what_another_tool_keeps_is_said_and_left_alone(metadata: Json, tool: str) -> None:
    theirs = foreign("NodePool", "gpu", {"template": {"spec": {}}}, **metadata)
    found = wanted(observed_of(theirs), target())
    assert conflicts(found) == []
    planned = plan_present(found, [target()], observed_of(theirs))
    assert calls(planned) == [], "neither the NodePool nor what it needs"
    assert planned.warnings == (
        f"NodePool gpu of pool gpu is kept by {tool} and is not changed here: change it where {tool} takes it from.",
    )


# -- absent


def test_node_pools_go_first_then_overlays_and_the_class_without_nodes() -> None:
    found = plan_absent(["gpu"], made(target(**SHARED), other()))
    assert calls(found) == [
        ("delete nodepools.karpenter.sh", "gpu", "delete"),
        ("delete nodeoverlays.karpenter.sh", "gpu-1gpu", "delete"),
        ("delete nodeoverlays.karpenter.sh", "gpu-4gpu", "delete"),
        ("delete ec2nodeclasses.karpenter.k8s.aws", "gpu", "delete"),
    ]
    assert [waits(step.needs) for step in found.steps] == [[], [("deleted", "gpu"), ("none", "gpuops.eks/nodepool=gpu")], [], []]
    assert waits(found.waits) == [("deleted", "gpu")]


def test_node_pools_of_several_pools_go_side_by_side() -> None:
    found = plan_absent(["gpu", "another"], made(target(), target(name="another")))
    assert [(call.removeprefix("delete ").partition(".")[0], name) for call, name, _effect in calls(found)] == [
        ("nodepools", "gpu"),
        ("nodepools", "another"),
        ("ec2nodeclasses", "gpu"),
        ("ec2nodeclasses", "another"),
    ]
    assert len(found.steps[2].needs) == 4


# -- prune


def removal(observed: Observed, *targets: KarpenterPool, prunes: t.Collection[str]) -> Plan:
    return plan_removal(targets, observed, lambda pool: pool in prunes)


def test_what_no_pool_wants_is_removed_where_it_is_pruned() -> None:
    found = removal(made(target(**SHARED), other()), target(**SHARED), prunes=["gpu", "another"])
    assert [(call.partition(".")[0], name) for call, name, _effect in calls(found)] == [
        ("delete nodepools", "another"),
        ("delete nodeoverlays", "another-1gpu"),
        ("delete nodeoverlays", "another-4gpu"),
        ("delete ec2nodeclasses", "another"),
    ]
    assert waits(found.steps[1].needs) == [("deleted", "another"), ("none", "gpuops.eks/nodepool=another")]
    assert removal(made(target(**SHARED), other()), target(**SHARED), prunes=["gpu"]) == Plan()


def test_of_a_pool_that_there_is_a_zone_is_removed_and_its_overlays_forget_it() -> None:
    both = target(scaling={"scope": "zone"}, zones=["us-west-2a", "us-west-2b"], **SHARED)
    one = target(scaling={"scope": "zone"}, zones=["us-west-2a"], **SHARED)
    found = removal(made(both), one, prunes=["gpu"])
    assert calls(found) == [("delete nodepools.karpenter.sh", "gpu-us-west-2b", "delete")]
    assert waits(found.waits) == [("deleted", "gpu-us-west-2b")]
    after = wanted_objects([one], made(both), settings(), lambda pool: True)
    overlay = next(item.manifest for item in after if item.key[0] == "NodeOverlay")
    assert overlay["spec"]["requirements"][0]["values"] == ["gpu-us-west-2a"]
    assert after[0].manifest["spec"]["subnetSelectorTerms"] == [{"id": "subnet-0a"}]
    assert plan_present(after, [one], made(both), lambda pool: True).warnings == ()


def test_an_interrupted_removal_goes_on() -> None:
    observed = made(target())
    going = [{**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "x"}} for obj in (*observed.node_pools, *observed.node_classes)]
    found = plan_absent(["gpu"], observed_of(*going))
    assert (calls(found), waits(found.waits)) == ([], [("deleted", "gpu"), ("none", "gpuops.eks/nodepool=gpu"), ("deleted", "gpu")])


def test_only_ours_go() -> None:
    theirs = foreign("NodePool", "gpu", {}, labels={"gpuops.eks/nodepool": "gpu"})
    assert plan_absent(["gpu"], observed_of(theirs)) == Plan()


MIG: Json = {"instances": {"types": ["p4d.24xlarge"]}, "mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}


@pytest.mark.parametrize(
    ("user_data", "params", "expected"),
    [
        ("#!/bin/sh", MIG, ["mig"]),
        ("#!/bin/sh", {"ami": {"family": "bottlerocket"}, **SHARED}, ["sharing"]),
        ("#!/bin/sh", SHARED, []),
        ("#!/bin/sh", {**MIG, "user_data": ["#!/bin/sh\n"]}, []),
        (None, MIG, []),
    ],
)
def test_user_data_of_others_does_not_cut_gpus(user_data: str | None, params: Json, expected: list[str]) -> None:
    spec = {"role": "theirs", **({"userData": user_data} if user_data else {})}
    observed = observed_of(foreign("EC2NodeClass", "gpu", spec), foreign("NodePool", "gpu", {}))
    found = conflicts(wanted(observed, target(adopt=True, **params)))
    assert [fault.path for fault in found] == expected


# -- what EC2 and the subnets say


def faults_of(**params: t.Any) -> list[tuple[str, t.Any]]:
    return [(fault.path, fault.value) for fault in target(**params).faults]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"instances": {"types": ["g5.2xlarge", "g9.big"]}}, [("instances.types[1]", "g9.big")]),
        ({"instances": {"types": ["m5.large"]}}, [("instances.types[0]", "m5.large")]),
        ({"instances": {"families": ["g5"], "gpu": {"count": [8]}}}, [("instances", ["g5.*"])]),
        ({"zones": ["us-west-2a", "us-west-2d"]}, [("zones[1]", "us-west-2d")]),
        ({"network": {"efa": True}}, [("network.efa", True)]),
        ({"network": {"efa": True}, "instances": {"types": ["p4d.24xlarge", "p5.48xlarge"]}}, [("network.efa", True)]),
        ({"scaling": {"scope": "zone"}, "limits": {"gpus": 2}}, [("limits.gpus", 2)]),
        ({"tags": {"karpenter.sh/nodepool": "x"}}, [("tags.karpenter.sh/nodepool", "x")]),
        ({"tags": {"kubernetes.io/cluster/demo": "owned"}}, [("tags.kubernetes.io/cluster/demo", "owned")]),
        ({"overrides": {"node_pool": {"kind": "Other"}}}, [("overrides.node_pool.kind", "Other")]),
        ({"overrides": {"node_class": {"metadata": {"name": "x"}}}}, [("overrides.node_class.metadata", {"name": "x"})]),
        ({"overrides": {"node_class": {"metadata": {"labels": {"a": "b"}}}}}, []),
        ({"capacity": {"types": ["reserved"], "reservations": ["cr-01", "cr-99"]}}, [("capacity.reservations[1]", "cr-99")]),
        (
            {"capacity": {"types": ["reserved"], "reservations": ["cr-01"]}, "zones": ["us-west-2b"]},
            [("capacity.reservations[0]", "cr-01")],
        ),
        ({"capacity": {"types": ["reserved"], "reservations": ["cr-01"]}}, []),
        ({}, []),
    ],
)
def test_what_cannot_be(params: Json, expected: list[tuple[str, t.Any]]) -> None:
    assert faults_of(**params) == expected


def test_types_that_no_zone_of_the_pool_offers() -> None:
    offerings = {"us-west-2a": {"m5.large"}, "us-west-2b": {"g5.2xlarge"}}
    (fault,) = resolve(pool(zones=["us-west-2a"]), SUBNETS, type(FACTS)(types=FACTS.types, offerings=offerings)).faults
    assert fault.allowed == "types that us-west-2a offer; these are offered in us-west-2b"


def test_pools_that_name_no_types_have_overlays_for_all_that_ec2_has() -> None:
    found = target(instances={"categories": ["g"]}, **SHARED)
    assert (found.faults, list(found.overlay_names)) == ((), ["gpu-1gpu", "gpu-4gpu"])
    assert found.warnings == ("Pool gpu: g6f.xlarge have a part of one GPU, which counts as 1.",)


# -- results


def test_the_result_of_a_pool() -> None:
    shared = target(zones=["us-west-2a", "us-west-2b"], capacity={"types": ["spot", "on_demand"]}, scaling={"max": 4}, **SHARED)
    objects = {one.key: live(one.manifest) for one in wanted(Observed(), shared)}
    assert pool_result(shared, objects, "gpu") == {
        "name": "gpu",
        "provisioner": "karpenter",
        "accelerator": "nvidia",
        "groups": [
            {
                "name": "gpu",
                "zone": None,
                "zones": ["us-west-2a", "us-west-2b"],
                "gpu_count": None,
                "capacity_type": "spot,on_demand",
                "instance_types": [],
                "min": 0,
                "max": 4,
                "desired": None,
                "status": "Ready",
            }
        ],
        "labels": {
            "gpuops.eks/nodepool": "gpu",
            "nvidia.com/gpu.present": "true",
            "nvidia.com/device-plugin.config": "gpu",
        },
        "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
        "sharing": {
            "strategy": "time_slicing",
            "replicas": 10,
            "resource": "nvidia.com/gpu",
            "resources": ["nvidia.com/gpu"],
            "configuration": "gpu",
            "backend": "device_plugin",
            "mig": None,
        },
        "karpenter": {"node_class": "gpu", "overlays": ["gpu-1gpu", "gpu-4gpu"]},
    }


@pytest.mark.parametrize(("ready", "status"), [(True, "Ready"), (False, "NotReady"), (None, None)])
def test_the_status_is_karpenters(ready: bool | None, status: str | None) -> None:
    found = target()
    objects = {one.key: live(one.manifest, ready=ready) for one in wanted(Observed(), found)}
    assert pool_result(found, objects, "gpu")["groups"][0]["status"] == status
