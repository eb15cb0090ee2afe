# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters, by the names that templates call them by."""

from __future__ import annotations

import importlib
import typing as t
from pathlib import Path

import pytest
import yaml

FILTERS = Path(__file__).parents[3] / "plugins" / "filter"
NAMES = sorted(path.stem for path in FILTERS.glob("*.py"))
ARN = "arn:aws:eks:us-west-2:123456789012:cluster/demo"
POLICY = "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"
WANTED: dict[str, t.Any] = {
    "name": "demo-role",
    "policies": [POLICY],
    "tags": {"gpuops.eks/owner": ARN},
    "trust": {"Version": "2012-10-17"},
}
ROLE: dict[str, t.Any] = {
    "arn": "arn:aws:iam::123456789012:role/demo-role",
    "assume_role_policy_document": {"Version": "2012-10-17"},
    "tags": {"gpuops.eks/owner": ARN, "team": "a"},
    "managed_policies": [{"policy_name": "AmazonEKSClusterPolicy", "policy_arn": POLICY}],
}
NODE = "ip-10-0-0-5.us-west-2.compute.internal"
SHARES = {"name": "nvidia.com/gpu", "unit": "share", "capacity": 10, "allocatable": 10, "requested": 2, "free": 8}
GPU_POOL = {"name": "gpu", "scaling": {"min": 1}, "sharing": {"strategy": "time_slicing", "replicas": 10}}


def module(name: str) -> t.Any:
    return importlib.import_module(f"ansible_collections.gpuops.eks.plugins.filter.{name}")


def apply(name: str, *arguments: t.Any) -> t.Any:
    return module(name).FilterModule().filters()[name](*arguments)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_holds_one_filter_with_its_documentation(name: str) -> None:
    assert list(module(name).FilterModule().filters()) == [name]
    documentation = yaml.safe_load(module(name).DOCUMENTATION)
    assert documentation["name"] == name
    assert "_input" in documentation["options"]
    assert yaml.safe_load(module(name).EXAMPLES)
    assert set(yaml.safe_load(module(name).RETURN)) == {"_value"}


def test_inventory_faults_have_a_sentence() -> None:
    [first, *_unused] = apply("inventory_faults", {"eks_cluster_name": "-"}, ["gpuops.eks.eks_network"])
    assert set(first) == {"path", "value", "allowed", "source", "message"}


@pytest.mark.parametrize(
    ("confirmation", "clusters", "count"),
    [
        ("demo", ["1/r/demo"], 0),
        (["demo"], ["1/r/demo"], 0),
        ("1/r/demo", ["1/r/demo"], 0),
        ("1/r/b, 1/r/a", ["1/r/a", "1/r/b"], 0),
        ("1/r/a\n1/r/b\n", ["1/r/a", "1/r/b"], 0),
        ("", ["1/r/demo"], 1),
        ([], ["1/r/demo"], 1),
        (None, ["1/r/demo"], 1),
        ("other", ["1/r/demo"], 2),
        ("1/r/demo,other", ["1/r/demo"], 1),
        ("2/r/demo", ["1/r/demo"], 2),
        ("a,b", ["1/r/a", "1/r/b"], 4),
        ("1/r/a", ["1/r/a", "1/r/b"], 1),
        ("demo", [], 1),
    ],
)
def test_destroy_needs_exactly_the_clusters_of_the_run(confirmation: t.Any, clusters: list[str], count: int) -> None:
    assert len(apply("destroy_faults", confirmation, clusters)) == count


def test_owner_tags_are_those_of_the_modules() -> None:
    assert apply("owner_tags", ARN, "logs") == {"gpuops.eks/owner": ARN, "gpuops.eks/component": "logs"}
    tags = apply("owner_tags", ARN, "logs", {"cost-center": 42, "shared": True})
    assert tags == {"cost-center": "42", "shared": "true", "gpuops.eks/owner": ARN, "gpuops.eks/component": "logs"}
    assert apply("owner_tags", ARN, "logs", None) == apply("owner_tags", ARN, "logs")


def test_short_name_stays_unique() -> None:
    assert apply("short_name", ["demo", "us-west-2", "node"], 64) == "demo-us-west-2-node"
    names = [apply("short_name", ["x" * 80, end], 64) for end in ("cluster", "node")]
    assert [len(name) for name in names] == [64, 64]
    assert names[0] != names[1]


def test_a_role_that_is_missing_is_created_with_its_policies() -> None:
    steps = apply("role_plan", [{"iam_roles": [], "item": WANTED}])
    assert [(step["action"], step["target"], step["effect"]) for step in steps] == [
        ("iam:CreateRole", "planned:role/demo-role", "create"),
        ("iam:AttachRolePolicy", "planned:role/demo-role", "create"),
    ]


@pytest.mark.parametrize(
    ("changes", "actions"),
    [
        ({}, []),
        ({"managed_policies": [*ROLE["managed_policies"], {"policy_name": "x", "policy_arn": "x"}]}, []),
        ({"managed_policies": []}, ["iam:AttachRolePolicy"]),
        ({"tags": {}}, ["iam:TagRole"]),
        ({"assume_role_policy_document": {}}, ["iam:UpdateAssumeRolePolicy"]),
    ],
)
def test_a_role_that_exists_gets_what_it_lacks(changes: dict[str, t.Any], actions: list[str]) -> None:
    steps = apply("role_plan", [{"iam_roles": [{**ROLE, **changes}], "item": WANTED}])
    assert [step["action"] for step in steps] == actions


def test_tags_that_are_no_strings_are_what_aws_keeps_of_them() -> None:
    item = {**WANTED, "tags": {**WANTED["tags"], "cost-center": 42, "shared": True}}
    role = {**ROLE, "tags": {**ROLE["tags"], "cost-center": "42", "shared": "true"}}
    assert apply("role_plan", [{"iam_roles": [role], "item": item}]) == []
    other = {**role, "tags": {**role["tags"], "cost-center": "43"}}
    assert [step["action"] for step in apply("role_plan", [{"iam_roles": [other], "item": item}])] == ["iam:TagRole"]


def test_plans_are_counted_and_shown() -> None:
    steps = [
        apply("plan_step", "planned:role/a", "iam:CreateRole", "create"),
        apply("plan_step", "planned:role/a", "iam:TagRole", "update", ["tags"]),
        apply("plan_step", "b", "iam:DeleteRole", "delete"),
    ]
    assert apply("plan_counts", steps) == {"add": 1, "change": 0, "replace": 0, "destroy": 1}
    assert apply("plan_lines", steps) == [
        "+ iam:CreateRole planned:role/a",
        "~ iam:TagRole planned:role/a: tags",
        "- iam:DeleteRole b",
        "Plan: 1 to add, 0 to change, 0 to replace, 1 to destroy.",
    ]


def test_no_plan_has_its_line_too() -> None:
    assert apply("plan_lines", []) == ["Plan: 0 to add, 0 to change, 0 to replace, 0 to destroy."]


def test_each_pool_has_a_configuration() -> None:
    cut = {"strategy": "mixed", "layout": {"1g.5gb": 7}}
    pools = [GPU_POOL, {"name": "whole", "mig": None}, {"name": "cut", "mig": cut}, {"name": "cpu", "accelerator": "none"}]
    shared, whole, mig = apply("sharing_configurations", pools)
    assert (shared["name"], shared["sharing"]["replicas"]) == (GPU_POOL["name"], 10)
    assert whole == {"name": "whole", "sharing": {"strategy": "none"}}
    assert mig == {"name": "cut", "sharing": {"strategy": "none"}, "mig": cut}


def test_flags_are_those_of_every_configuration() -> None:
    flags = {"plugin": {"deviceListStrategy": ["cdi-cri"]}}
    found = apply("sharing_configurations", [{"name": "a"}, {"name": "b"}], flags)
    assert [one["flags"] for one in found] == [flags, flags]
    assert "flags" not in apply("sharing_configurations", [{"name": "a"}], {})[0]


def test_a_pool_of_a_long_name_has_a_configuration_of_a_shorter_one() -> None:
    (found,) = apply("sharing_configurations", [{"name": f"{'a' * 41}"}])
    assert (found["name"][:31], len(found["name"])) == ("a" * 31, 40)


def test_pools_of_which_the_nodes_are_brought_a_device_plugin_need_no_configuration() -> None:
    pools = [
        {**GPU_POOL, "ami": {"family": "al2023"}},
        {"name": "b", "ami": {"family": "bottlerocket"}},
        {"name": "c", "ami": None, "sharing": {"backend": "auto"}},
        {"name": "d", "sharing": {"backend": "gpu_operator"}},
    ]
    assert [one["name"] for one in apply("sharing_configurations", pools)] == [GPU_POOL["name"], "c"]


def test_pools_of_which_the_taints_are_tolerated_are_those_with_gpus() -> None:
    taint = {"key": "team", "value": "a", "effect": "NoExecute"}
    pools = [
        {**GPU_POOL, "taints": [taint, {"key": "nvidia.com/gpu", "effect": "NoSchedule"}]},
        {**GPU_POOL, "taints": [taint]},
        {"name": "cpu", "accelerator": "none", "taints": [{"key": "cpu", "effect": "NoSchedule"}]},
    ]
    assert apply("pool_tolerations", pools) == [{"key": "team", "operator": "Exists", "effect": "NoExecute"}]


def test_what_shares_gpus_runs_before_a_startup_taint_is_gone() -> None:
    """What takes the taint away may wait for the GPUs that the plugin advertises."""
    pools = [{"name": "gpu", "startup_taints": [{"key": "warming", "value": "", "effect": "NoSchedule"}]}]
    assert apply("pool_tolerations", pools) == [{"key": "warming", "operator": "Exists", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("effect", "tolerated"), [("NoSchedule", []), ("NoExecute", ["NoExecute"]), ("PreferNoSchedule", ["PreferNoSchedule"])]
)
def test_only_the_taint_that_the_device_plugin_tolerates_anyway_is_left_out(effect: str, tolerated: list[str]) -> None:
    pools = [{**GPU_POOL, "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": effect}]}]
    assert [one["effect"] for one in apply("pool_tolerations", pools)] == tolerated


def test_owned_pools_are_those_of_the_inventory_and_those_that_it_forgot() -> None:
    templates = [{"tags": {"gpuops.eks/nodepool": "gpu"}}, {"tags": {"gpuops.eks/nodepool": "old"}}, {"tags": None}]
    templates += [{"tags": {"gpuops.eks/pool": "scaling"}}, {"metadata": {"labels": {"gpuops.eks/nodepool": "karpenter"}}}]
    assert apply("owned_pools", templates, [GPU_POOL]) == [{"name": name} for name in ("gpu", "old", "scaling", "karpenter")]


@pytest.mark.parametrize(
    ("live", "manifest", "found"),
    [
        ({"spec": {"replicas": 2, "added": 1}}, {"spec": {"replicas": 2}}, []),
        ({"spec": {"replicas": 3}}, {"spec": {"replicas": 2}}, ["spec.replicas"]),
        ({}, {"spec": {"replicas": 2}}, ["spec"]),
        ({"list": [{"a": 1, "b": 2}]}, {"list": [{"a": 1}]}, []),
        ({"list": [{"a": 2}]}, {"list": [{"a": 1}]}, ["list[0].a"]),
        ({"list": [1, 2]}, {"list": [1]}, ["list"]),
        ({"list": None}, {"list": [1]}, ["list"]),
        (None, {"a": 1}, ["."]),
    ],
)
def test_differences_are_those_of_the_manifests_fields(live: t.Any, manifest: t.Any, found: list[str]) -> None:
    assert apply("differences", live, manifest) == found


def capacity(**changes: t.Any) -> dict[str, t.Any]:
    node = {"name": NODE, "pool": "gpu", "zone": "us-west-2a", "instance_type": "g5.2xlarge", "gpus": 1, "resources": [SHARES]}
    return {"nodes": [{**node, **changes}], "demand": {"pending": []}, "findings": []}


def test_the_capacity_table_has_a_line_for_each_node() -> None:
    head, line = apply("capacity_table", capacity())
    assert head.split() == ["pool", "node", "zone", "type", "resource", "unit", "allocatable", "used", "free"]
    assert line.split() == ["gpu", NODE, "us-west-2a", "g5.2xlarge", "nvidia.com/gpu", "share", "10", "2", "8"]


def test_the_capacity_table_says_what_is_unknown_waits_or_is_wrong() -> None:
    report = capacity(pool=None, resources=[])
    report["demand"]["pending"] = [
        {"pods": 3, "kind": "Job", "namespace": "a", "name": "b", "message": "no room", "reason": "Unschedulable"}
    ]
    report["findings"] = [{"code": "gpu_not_advertised", "message": "It has none.", "fix": "Give it one."}]
    _unused, line, waiting, finding = apply("capacity_table", report)
    assert line.split()[0] == "?"
    assert line.split()[4] == "none"
    assert waiting == "waiting: 3 of Job a/b: no room"
    assert finding == "gpu_not_advertised: It has none. Give it one."


def test_the_capacity_table_of_a_cluster_without_gpus_says_so() -> None:
    assert apply("capacity_table", {"nodes": []}) == ["No node has GPUs."]


def node(ready: str = "True") -> dict[str, t.Any]:
    metadata = {"name": NODE, "labels": {"gpuops.eks/nodepool": "gpu"}}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": ready, "message": "kubelet stopped"}]}}


def deployment(available: int | None) -> dict[str, t.Any]:
    status = {} if available is None else {"availableReplicas": available}
    return {"metadata": {"namespace": "default", "name": "gpu"}, "spec": {"replicas": 2}, "status": status}


def verify(report: dict[str, t.Any], status: str, nodes: list[t.Any], workloads: list[t.Any]) -> list[str]:
    return list(apply("verify_findings", report, [GPU_POOL], {"name": "demo", "status": status}, nodes, workloads))


def test_a_platform_that_is_right_has_no_findings() -> None:
    assert verify(capacity(), "ACTIVE", [node()], [deployment(2)]) == []


def test_every_finding_comes_at_once() -> None:
    report = capacity(resources=[{**SHARES, "allocatable": 1}])
    found = verify(report, "UPDATING", [node("Unknown")], [deployment(None), deployment(1)])
    assert found == [
        "Cluster demo is UPDATING; it should be ACTIVE.",
        f"Node {NODE} is not Ready: kubelet stopped.",
        f"Node {NODE} advertises 1 nvidia.com/gpu; pool gpu says 10 nvidia.com/gpu.",
        "Deployment default/gpu has 0 of 2 pods available.",
        "Deployment default/gpu has 1 of 2 pods available.",
    ]


LAYOUT = {"1g.5gb": 1, "1g.5gb+me": 1, "3g.20gb": 1}


@pytest.mark.parametrize(
    ("more", "advertised", "message"),
    [
        ({"mig": {"layout": LAYOUT}}, {"mig-1g.5gb": 2, "mig-3g.20gb": 1}, None),
        ({"mig": {"layout": LAYOUT}}, {"mig-1g.5gb": 1, "mig-1g.5gb.me": 1, "mig-3g.20gb": 1}, None),
        (
            {"mig": {"layout": LAYOUT}},
            {"mig-1g.5gb": 2, "gpu": 1},
            "1 nvidia.com/gpu and 0 nvidia.com/mig-3g.20gb; pool gpu says 0 nvidia.com/gpu and 1 nvidia.com/mig-3g.20gb",
        ),
        ({"mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}, {"gpu": 7}, None),
        ({"mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}, {"gpu": 1}, "1 nvidia.com/gpu; pool gpu says 7 nvidia.com/gpu"),
        ({"sharing": {"strategy": "mps", "replicas": 5, "rename": True}}, {"gpu.shared": 5}, None),
    ],
)
def test_divided_gpus_are_what_the_pool_says(more: dict[str, t.Any], advertised: dict[str, int], message: str | None) -> None:
    resources = [{**SHARES, "name": f"nvidia.com/{name}", "allocatable": number} for name, number in advertised.items()]
    found = apply("verify_findings", capacity(resources=resources), [{"name": "gpu", **more}], {"name": "demo", "status": "ACTIVE"}, [], [])
    assert found == ([] if message is None else [f"Node {NODE} advertises {message}."])


def test_a_launch_that_failed_is_no_fault_of_the_platform() -> None:
    failed = {"code": "launch_failed", "subject": "auto-scaling-group/gpu-a", "message": "It could not launch.", "fix": ""}
    assert verify({**capacity(), "findings": [failed]}, "ACTIVE", [node()], []) == []


def test_a_pool_with_too_few_nodes_is_a_finding() -> None:
    assert verify({"nodes": [], "findings": []}, "ACTIVE", [], []) == ["Pool gpu has 0 nodes; its smallest number is 1."]


def test_what_the_report_found_is_not_said_twice() -> None:
    report = {**capacity(resources=[]), "findings": [{"subject": f"node/{NODE}", "message": "It advertises nothing.", "fix": ""}]}
    assert verify(report, "ACTIVE", [node()], []) == ["It advertises nothing."]


def test_private_endpoints_are_what_nodes_call_and_more() -> None:
    services = apply("private_endpoints", [])
    assert {"ec2", "ecr.api", "ecr.dkr", "eks", "eks-auth", "sts", "logs", "monitoring", "ssm", "autoscaling", "sqs"} <= set(services)
    assert "s3" not in services, "it has a gateway endpoint"
    assert apply("private_endpoints", ["secretsmanager", "ec2"]) == sorted([*services, "secretsmanager"])


def test_manifest_files_are_named_and_ordered() -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "karpenter", "namespace": "kube-system"}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "karpenter"}, "rules": []}
    assert apply("manifest_files", [account, role]) == [
        {"file": "kubernetes/clusterrole_karpenter.yaml", "content": role, "planned": []},
        {"file": "kubernetes/kube-system_serviceaccount_karpenter.yaml", "content": account, "planned": []},
    ]
    with pytest.raises(ValueError, match="Secret"):
        apply("manifest_files", [{**account, "kind": "Secret"}])


@pytest.mark.parametrize(
    ("metadata", "tool"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "platform:apps/Deployment:kube-system/x"}}, "Argo CD"),
        ({"labels": {"argocd.argoproj.io/instance": "platform"}}, "Argo CD"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "platform"}}, "Flux"),
        ({"labels": {"app.kubernetes.io/managed-by": "gpuops.eks"}, "annotations": None}, None),
    ],
)
def test_gitops_tool_is_known_by_its_marks(metadata: dict[str, t.Any], tool: str | None) -> None:
    assert apply("gitops_tool", {"metadata": {"name": "x", **metadata}}) == tool


def pod(name: str, status: dict[str, t.Any], **metadata: str) -> dict[str, t.Any]:
    return {"metadata": {"name": name, **metadata}, "status": status}


def test_pods_that_do_not_run_say_why_in_the_services_own_words() -> None:
    unplaced = {
        "phase": "Pending",
        "conditions": [
            {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/2 nodes are available: 2 Insufficient gpu.",
            }
        ],
    }
    waiting = {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}]}
    refused = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "maximum request size for shared resources is 1"}
    found = apply(
        "pod_troubles",
        [
            pod("b", unplaced),
            pod("a", unplaced),
            pod("c", waiting),
            pod("d", refused),
            pod("e", {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}),
            pod("f", {"phase": "Succeeded"}),
            pod("g", unplaced, deletionTimestamp="2026-11-24T00:00:00Z"),
            pod("h", {}),
        ],
    )
    assert found == [
        "a, b: Unschedulable: 0/2 nodes are available: 2 Insufficient gpu.",
        "c: ImagePullBackOff: no such tag",
        "d: UnexpectedAdmissionError: maximum request size for shared resources is 1",
        "h: Pending",
    ]
