# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of cluster-autoscaler: its flags, its rights, and the objects of Kubernetes and AWS as it reads them."""

from __future__ import annotations

import ast
import datetime
import logging
import time
import types
import typing as t
from pathlib import Path

import pytest

from lab.controllers.autoscaler import flags, permissions, read
from lab.controllers.autoscaler.cloud import Cloud
from lab.controllers.autoscaler.model import Budget, Group, Options, Requirement, Taint, Toleration
from lab.controllers.worker import Worker
from lab.kubernetes.client import ApiError

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)
MOMENT = read.Moment(lab=6000.0, real=NOW, factor=60.0)
PURE = ("model", "quantities", "scheduling", "templates", "health", "expander", "scaleup", "scaledown", "decide", "flags", "permissions")
ALLOWED = {"__future__", "dataclasses", "decimal", "math", "re", "typing", "yaml"}


@pytest.mark.parametrize("module", PURE)
def test_what_decides_has_neither_clock_nor_io(module: str) -> None:
    source = Path(flags.__file__).with_name(f"{module}.py").read_text()
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    origins = {str(node.module) for node in found if isinstance(node, ast.ImportFrom)}
    own = {name for name in origins if name.startswith("lab.controllers.autoscaler")}
    assert (names | origins) - own - {"lab.kubernetes.client"} <= ALLOWED
    used = {alias.name for node in found if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not used & {"loop", "cloud", "drains", "Kube", "Mirror"}


# Flags


def test_flags_of_a_deployment() -> None:
    found = flags.parse(
        [
            "--cloud-provider=aws",
            "--v=4",
            "--stderrthreshold=info",
            "--node-group-auto-discovery=asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/lab=owned",
            "--nodes=0:10:own",
            "--expander=priority,least-waste",
            "--balance-similar-node-groups",
            "--skip-nodes-with-system-pods=false",
            "--scale-down-unneeded-time",
            "1h30m",
            "--scale-down-gpu-utilization-threshold=0.7",
            "--max-graceful-termination-sec=60",
            "--startup-taint=a",
            "--startup-taint=b",
        ]
    )
    assert found == Options(
        discovery=(("k8s.io/cluster-autoscaler/enabled", ""), ("k8s.io/cluster-autoscaler/lab", "owned")),
        groups=(("own", 0, 10),),
        expander=("priority", "least-waste"),
        balance_similar_node_groups=True,
        skip_nodes_with_system_pods=False,
        scale_down_unneeded_time=5400.0,
        scale_down_gpu_utilization_threshold=0.7,
        max_graceful_termination_sec=60.0,
        startup_taint=("a", "b"),
    )


def test_defaults_are_those_of_the_program() -> None:
    found = flags.parse([])
    assert (found.expander, found.scale_down_unneeded_time, found.max_node_provision_time) == (("least-waste",), 600.0, 900.0)
    assert (found.scale_down_utilization_threshold, found.scale_down_gpu_utilization_threshold) == (0.5, 0.5)
    assert (found.ok_total_unready_count, found.max_total_unready_percentage, found.node_info_cache_expire_time) == (3, 45.0, 315_360_000.0)


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("--scale-down-uneeded-time=10m", "unknown flag: --scale-down-uneeded-time"),
        ("--scale-down-unneeded-time=10", "invalid duration"),
        ("--scale-down-unneeded-time=10min", "invalid duration"),
        ("--scale-down-utilization-threshold=half", "invalid argument"),
        ("--balance-similar-node-groups=yes", "invalid syntax"),
        ("--expander=cheapest", "expander cheapest not supported"),
        ("--expander=priority,priority", "multiple times"),
        ("--node-group-auto-discovery=mig:namePrefix=x", "unsupported discoverer"),
        ("--node-group-auto-discovery=asg:name=x", "unsupported parameter key"),
        ("--node-group-auto-discovery=asg:tag=", "tag value not supplied"),
        ("--node-group-auto-discovery=asg", "invalid node group auto discovery spec"),
        ("--nodes=10:own", "failed to parse node group spec"),
        ("--groups=x", "unknown flag"),
        ("aws", "unexpected argument"),
    ],
)
def test_flags_that_the_program_would_end_with(argument: str, word: str) -> None:
    with pytest.raises(flags.FlagRefused, match=word):
        flags.parse([argument])


# Rights


def allowing(needs: t.Iterable[permissions.Need]) -> list[dict[str, t.Any]]:
    return [
        {
            "apiGroups": [need.group],
            "resources": [need.resource],
            "verbs": list(need.verbs),
            "resourceNames": [need.name] if need.name else [],
        }
        for need in needs
    ]


def test_each_right_that_is_missing_is_named() -> None:
    needs = (*permissions.IN_CLUSTER, *permissions.IN_NAMESPACE, *permissions.FOR_PRIORITIES)
    assert permissions.missing(needs, allowing(needs)) == []
    assert permissions.missing(needs, [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]) == []
    for index, need in enumerate(needs):
        rules = allowing(each for position, each in enumerate(needs) if position != index)
        assert permissions.missing(needs, rules) == [str(need)]


def test_a_right_on_one_object_is_none_on_all() -> None:
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"], "resourceNames": [permissions.PRIORITIES]}
    assert permissions.missing(permissions.FOR_PRIORITIES, [rule]) == ["configmaps (list, watch)"]


# Kubernetes


def container(cpu: str, **changes: t.Any) -> dict[str, t.Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **changes}


def test_requests_as_the_scheduler_reserves_them() -> None:
    spec: dict[str, t.Any] = {
        "initContainers": [container("900m"), container("100m", restartPolicy="Always"), container("300m")],
        "containers": [container("200m"), {"name": "gpu", "resources": {"limits": {"nvidia.com/gpu": "1", "memory": "1Gi"}}}],
        "overhead": {"cpu": "50m"},
    }
    assert read.requests(spec) == {"cpu": 950, "nvidia.com/gpu": 1000, "memory": 2**30 * 1000}
    assert read.requests({**spec, "initContainers": spec["initContainers"][1:]})["cpu"] == 450


def raw_pod(**changes: t.Any) -> dict[str, t.Any]:
    metadata = {"uid": "u", "name": "p", "namespace": "default", "creationTimestamp": "2026-11-24T11:59:30Z", **changes.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"containers": [], **changes.pop("spec", {})}, "status": changes.pop("status", {}), **changes}


def test_a_pending_pod() -> None:
    found = read.pod(
        raw_pod(
            metadata={"ownerReferences": [{"kind": "Node", "uid": "n"}, {"kind": "ReplicaSet", "uid": "rs", "controller": True}]},
            spec={
                "nodeSelector": {"a": "b"},
                "tolerations": [{"operator": "Exists"}, {"key": "k", "value": "v", "effect": "NoSchedule"}],
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]
                        }
                    }
                },
            },
            status={"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
        ),
        MOMENT,
    )
    assert (found.owner, found.owner_kind, found.unschedulable, found.fresh) == ("rs", "ReplicaSet", True, False)
    assert found.created == 6000 - 30 * 60
    assert found.tolerations == (Toleration(operator="Exists"), Toleration("k", "Equal", "v", "NoSchedule"))
    assert found.terms == ((Requirement("zone", "In", ("a", "b")),),)


@pytest.mark.parametrize(
    ("changes", "attribute", "value"),
    [
        ({"metadata": {"annotations": {read.SAFE: "false"}}}, "safe_to_evict", False),
        ({"metadata": {"annotations": {read.SAFE: "perhaps"}}}, "safe_to_evict", None),
        ({"metadata": {"creationTimestamp": "2026-11-24T11:59:59Z"}}, "fresh", True),
        ({"metadata": {"deletionTimestamp": "2026-11-24T11:59:59Z"}}, "deleting", True),
        ({"metadata": {"annotations": {read.MIRROR: "x"}}}, "mirror", True),
        ({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}, "local_storage", True),
        ({"spec": {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}}, "local_storage", False),
        ({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}, "local_storage", True),
        (
            {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}, "metadata": {"annotations": {read.SAFE_VOLUMES: "v"}}},
            "local_storage",
            False,
        ),
        ({"status": {"phase": "Succeeded"}}, "finished", True),
        ({"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}}, "unschedulable", False),
    ],
)
def test_what_of_a_pod_counts(changes: dict[str, t.Any], attribute: str, value: object) -> None:
    assert getattr(read.pod(raw_pod(**changes), MOMENT), attribute) == value


def test_a_node() -> None:
    found = read.node(
        {
            "metadata": {"name": "n", "creationTimestamp": "2026-11-24T11:58:00Z"},
            "spec": {"providerID": "aws:///us-west-2a/i-1", "taints": [{"key": "k", "effect": "NoExecute"}], "unschedulable": True},
            "status": {
                "allocatable": {"cpu": "3920m", "nvidia.com/gpu": "10"},
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-24T11:59:00Z"}],
            },
        },
        MOMENT,
    )
    assert (found.instance_id, found.ready, found.unschedulable) == ("i-1", True, True)
    assert (found.created, found.ready_since) == (6000 - 120 * 60, 6000 - 60 * 60)
    assert found.allocatable == {"cpu": 3920, "nvidia.com/gpu": 10_000}
    assert found.taints == (Taint("k", "", "NoExecute"),)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, None),
        ({}, ()),
        (
            {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]},
            (Requirement("a", "In", ("b",)), Requirement("c", "Exists")),
        ),
    ],
)
def test_a_budget(selector: dict[str, t.Any] | None, expected: tuple[Requirement, ...] | None) -> None:
    spec = {} if selector is None else {"selector": selector}
    found = read.budget({"metadata": {"namespace": "default"}, "spec": spec, "status": {"disruptionsAllowed": 2}})
    assert found == Budget(namespace="default", selector=expected, allowed=2)


# AWS


@pytest.mark.parametrize(
    ("activities", "expected"),
    [
        ([], False),
        ([(1, "Failed")], True),
        ([(-1, "Failed")], False),  # of before the last resize
        ([(2, "Successful"), (1, "Failed")], True),
        ([(2, "Successful"), (-1, "Failed")], False),
    ],
)
def test_a_launch_has_failed_since_the_last_resize(activities: list[tuple[int, str]], expected: bool) -> None:
    found = [{"StartTime": NOW + datetime.timedelta(seconds=after), "StatusCode": status} for after, status in activities]
    assert read.refused(found, NOW) is expected


def test_a_managed_node_group_as_the_program_translates_it() -> None:
    found = read.managed_group(
        {
            "nodegroupName": "gpu",
            "amiType": "AL2023_x86_64_NVIDIA",
            "capacityType": "SPOT",
            "version": "1.36",
            "diskSize": 100,
            "labels": {"pool": "gpu"},
            "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}, {"key": "bare", "effect": "NO_EXECUTE"}],
            "tags": {"a": "b"},
        }
    )
    assert found.labels == {
        "diskSize": "100",
        "amiType": "AL2023_x86_64_NVIDIA",
        "eks.amazonaws.com/capacityType": "SPOT",
        "k8sVersion": "1.36",
        "eks.amazonaws.com/nodegroup": "gpu",
        "pool": "gpu",
    }
    assert found.taints == (Taint("nvidia.com/gpu", "true"),)  # those without a value are dropped


def test_limits_of_a_named_group_come_before_its_own() -> None:
    raw = {"AutoScalingGroupName": "g", "MinSize": 1, "MaxSize": 2, "DesiredCapacity": 1, "Tags": [{"Key": "k", "Value": "v"}]}
    assert read.group(raw, "g5.xlarge", None, None, refused=False).maximum == 2
    found = read.group(raw, "g5.xlarge", None, (0, 9), refused=True)
    assert (found.minimum, found.maximum, found.refused, found.tags) == (0, 9, True, {"k": "v"})


class FakeEc2:
    """Knows every type and counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def describe_instance_types(self, *, InstanceTypes: list[str]) -> dict[str, t.Any]:
        self.asked += InstanceTypes
        raw = {"InstanceType": InstanceTypes[0], "VCpuInfo": {"DefaultVCpus": 8}, "MemoryInfo": {"SizeInMiB": 1024}}
        gpus = [{"Count": 2}, {"Count": 1}]
        return {"InstanceTypes": [{**raw, "ProcessorInfo": {"SupportedArchitectures": ["arm64"]}, "GpuInfo": {"Gpus": gpus}}]}


@pytest.mark.parametrize(("static", "known"), [(False, {"g7.2xlarge", "g6.xlarge"}), (True, {"g6.xlarge"})])
def test_the_static_list_lacks_new_types(static: bool, known: set[str]) -> None:
    ec2 = FakeEc2()
    cloud = Cloud(lambda service: ec2, Options(aws_use_static_instance_list=static), logging.getLogger("test"))
    groups = [Group(name=name, instance_type=name) for name in ("g7.2xlarge", "g6.xlarge", "")]
    assert set(cloud.types(groups)) == known
    assert cloud.types(groups)["g6.xlarge"].gpus == 3
    assert cloud.types(groups)["g6.xlarge"].architecture == "arm64"
    assert sorted(ec2.asked) == sorted(known)  # each once


# The thread


class Failing(Worker):
    """Fails in its second step."""

    steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == 1:
            raise ApiError("GET", "/api/v1/nodes", 403, "forbidden")
        raise KeyError("a fault of its own")


def test_a_refusal_is_tried_again_and_a_fault_of_the_model_ends_it(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    context: t.Any = types.SimpleNamespace(log=log, name="lab/x")
    worker = Failing(context, every=0.01)
    assert worker.poll() is None
    running = worker.begin()
    end = time.monotonic() + 10
    while running.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert running.poll() == "KeyError: 'a fault of its own'"
    running.stop()
    text = log.read_text()
    assert "403 forbidden; trying again" in text
    assert "Traceback" in text
