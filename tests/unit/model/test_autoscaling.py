# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which controllers pools need, in which order their groups grow, and what is said of manifests and flags."""

from __future__ import annotations

import re
import typing as t

import pytest
import yaml
from ansible_collections.gpuops.eks.plugins.filter.manifest_steps import manifest_steps
from ansible_collections.gpuops.eks.plugins.module_utils._model.autoscaling import command_flags, expander_priorities, needs
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import short_name
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import group_name

MANAGED: dict[str, t.Any] = {"name": "gpu", "provisioner": "managed_node_group"}
KARPENTER = {"name": "burst", "provisioner": "karpenter"}
OWN = {"name": "own", "provisioner": "auto_scaling_group"}
UUID = "0ac6f2b1-1111-2222-3333-444455556666"


def spot(pool: dict[str, t.Any], *more: str) -> dict[str, t.Any]:
    return {**pool, "capacity": {"types": ["spot", *more]}}


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ([], set()),
        ([MANAGED], {"cluster_autoscaler"}),
        ([{**MANAGED, "scaling": {"min": 2, "max": 2}}], set()),
        ([{**MANAGED, "scaling": {"min": 10}}], set()),
        ([{**MANAGED, "scaling": {"max": 0}}], set()),
        ([{"name": "gpu", "scaling": None}], {"cluster_autoscaler"}),
        ([KARPENTER], {"karpenter", "self_managed", "default_node_role"}),
        (
            [{**KARPENTER, "scaling": {"min": 0, "max": 5}}, {**MANAGED, "scaling": {"min": 1, "max": 1}}],
            {"karpenter", "self_managed", "default_node_role"},
        ),
        ([OWN], {"cluster_autoscaler", "self_managed", "default_node_role"}),
        ([spot(OWN)], {"cluster_autoscaler", "self_managed", "default_node_role", "termination_handler"}),
        ([spot(MANAGED)], {"cluster_autoscaler"}),
        ([spot(KARPENTER)], {"karpenter", "self_managed", "default_node_role"}),
        ([{"name": "auto", "provisioner": "auto_mode"}], set()),
    ],
)
def test_what_pools_need(pools: list[dict[str, t.Any]], expected: set[str]) -> None:
    found = needs(pools)
    assert {name for name, value in found.items() if value is True} == expected


def test_roles_of_nodes_are_those_that_pools_name_or_the_clusters() -> None:
    pools = [
        {**KARPENTER, "iam": {"node_role": "mine"}},
        {**OWN, "iam": {"node_role": "mine"}},
        {**OWN, "iam": {"instance_profile": "profile"}},
        {**MANAGED, "iam": {"node_role": "of-a-managed-group"}},
    ]
    found = needs(pools)
    assert found["node_roles"] == ["mine"]
    assert found["default_node_role"] is False
    assert needs([*pools, OWN])["default_node_role"] is True
    assert found["own_roles"] == []


def test_pools_with_policies_of_their_own_do_not_take_the_clusters_role() -> None:
    iam = {"policies": ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]}
    found = needs([{**KARPENTER, "iam": iam}, {**OWN, "iam": iam}, {**MANAGED, "iam": iam}])
    assert (found["default_node_role"], found["node_roles"]) == (False, [])
    assert found["own_roles"] == ["burst"], "Karpenter hands out no role of another provisioner's nodes"


def test_what_is_expected_of_nodes_to_come_changes_with_sharing_and_not_with_size() -> None:
    shared = {**MANAGED, "sharing": {"strategy": "time_slicing", "replicas": 10}}
    one = needs([shared])["templates"]
    assert needs([{**shared, "scaling": {"min": 1, "max": 3}}])["templates"] == one
    assert needs([{**shared, "sharing": {"strategy": "time_slicing", "replicas": 4}}])["templates"] != one
    assert needs([shared, KARPENTER])["templates"] == one


def priority_of(group: str, pools: list[dict[str, t.Any]], cluster: str = "demo") -> int | None:
    """As the expander does it: the highest priority with a pattern that matches somewhere in the name."""
    table: dict[int, list[str]] = yaml.safe_load(expander_priorities(pools, cluster)) or {}
    assert all(isinstance(number, int) and not isinstance(number, bool) for number in table)
    return max((number for number, patterns in table.items() for pattern in patterns if re.search(pattern, group)), default=None)


@pytest.mark.parametrize(
    ("pool", "kind", "expected"),
    [
        (MANAGED, "on_demand", 1),
        (spot(MANAGED, "on_demand"), "spot", 2),
        (spot(MANAGED, "on_demand"), "on_demand", 1),
        ({**MANAGED, "priority": 5, "capacity": {"types": ["capacity_block"]}}, "capacity_block", 53),
        ({**MANAGED, "priority": 100}, "on_demand", 1001),
        (spot({**OWN, "priority": 2}), "spot", 22),
        ({**OWN, "capacity": {"types": ["reserved"]}}, "reserved", 3),
        (spot({**MANAGED, "name": "x" * 40}, "on_demand"), "on_demand", 1),
        ({**OWN, "capacity": {"types": ["on_demand", "spot"], "on_demand_base": 1}}, "mixed", 2),
    ],
)
@pytest.mark.parametrize("zone", ["us-west-2a", "us-gov-west-1b", "us-west-2-lax-1a", None])
def test_the_priority_of_a_group(pool: dict[str, t.Any], kind: str, expected: int, zone: str | None) -> None:
    name = group_name(pool["name"], zone, 8, kind)
    full = f"eks-{name}-{UUID}" if pool["provisioner"] == "managed_node_group" else f"demo-{name}"
    assert priority_of(full, [pool]) == expected


def test_a_group_with_a_shortened_name_has_its_pools_priority_at_least() -> None:
    pool = spot({**MANAGED, "name": "a" * 60, "priority": 3}, "on_demand")
    for kind in ("spot", "on_demand"):
        name = group_name(pool["name"], "us-west-2a", 1, kind)
        assert re.search("-[0-9a-f]{8}$", name)
        assert priority_of(f"eks-{name}-{UUID}", [pool]) == 31


def test_so_has_a_group_of_a_cluster_with_a_long_name() -> None:
    cluster = "c" * 100
    name = short_name(cluster, group_name("own", "us-west-2-lax-1a", 1, "spot"), limit=128)
    assert re.search("-[0-9a-f]{8}$", name)
    assert priority_of(name, [spot(OWN)], cluster) == 2
    assert priority_of(short_name(cluster, "y" * 60, limit=128), [spot(OWN)], cluster) is None


@pytest.mark.parametrize(
    "other",
    [
        f"eks-my-gpu-us-west-2a-1gpu-on-demand-{UUID}",  # pool my-gpu
        f"eks-gpu-large-us-west-2a-1gpu-on-demand-{UUID}",  # pool gpu-large
        "another-gpu-us-west-2a-1gpu-on-demand",
        "demo-gpu-us-west-2a-1gpu-on-demand",  # a group of our own, of a pool that is managed
    ],
)
def test_groups_of_others_have_none(other: str) -> None:
    assert priority_of(other, [MANAGED]) is None


def test_pools_of_other_provisioners_are_not_cluster_autoscalers() -> None:
    assert expander_priorities([KARPENTER, {"name": "auto", "provisioner": "auto_mode"}], "demo") == ""


def test_the_highest_priority_comes_first() -> None:
    text = expander_priorities([MANAGED, spot({**MANAGED, "name": "b", "priority": 1})], "demo")
    assert [line for line in text.splitlines() if not line.startswith(" ")] == ["12:", "1:"]


def test_flags() -> None:
    flags = {"v": 4, "balance-similar-node-groups": False, "cloud-config": None, "nodes": ["1:2:Demo", "0:1:b"], "leader-elect": True}
    assert command_flags(flags) == [
        "--v=4",
        "--balance-similar-node-groups=false",
        "--nodes=1:2:Demo",
        "--nodes=0:1:b",
        "--leader-elect=true",
    ]


def test_steps_of_manifests() -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "a"}}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a", "namespace": "kube-system"}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a", "namespace": "kube-system"}}
    new: dict[str, t.Any] = {"changed": True, "result": {"metadata": {"name": "a"}}}
    old: dict[str, t.Any] = {"changed": True, "result": {"metadata": {"name": "a", "resourceVersion": "7"}}}
    steps = manifest_steps([role, account, budget], [new, old, {**old, "changed": False}])
    assert [(step["action"], step["target"], step["effect"]) for step in steps] == [
        ("kubernetes:patch clusterroles.rbac.authorization.k8s.io", "a", "create"),
        ("kubernetes:patch serviceaccounts", "kube-system/a", "update"),
    ]
    assert [step["effect"] for step in manifest_steps([role, account, budget])] == ["create"] * 3
    gone = manifest_steps([role, account], [{"changed": True, "result": {}}, {"changed": False, "result": {}}], "delete")
    assert [(step["action"], step["target"], step["effect"]) for step in gone] == [
        ("kubernetes:delete clusterroles.rbac.authorization.k8s.io", "a", "delete")
    ]
    assert manifest_steps([budget])[0]["action"] == "kubernetes:patch poddisruptionbudgets.policy"
