# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpu_capacity_info and gpu_capacity_facts through main()."""

from __future__ import annotations

import datetime
import json
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.filter.capacity_table import capacity_table
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Json
from ansible_collections.gpuops.eks.plugins.modules import gpu_capacity_facts, gpu_capacity_info

from tests.wire.harness import Wire
from tests.wire.kube import SERVER, KubeWire

OURS = "app.kubernetes.io/managed-by=gpuops.eks,app.kubernetes.io/name=nvidia-device-plugin"
RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
KEYS = {
    "schema_version", "collected", "cluster", "totals", "pools", "groups", "resources", "fragmentation", "demand", "fits", "quotas", "prices",
    "offers", "reservations", "cost", "utilization", "findings", "nodes",
}  # fmt: skip


def node(name: str, pool: str, instance_type: str, advertised: int, configuration: str, zone: str = "us-west-2a") -> Json:
    labels = {
        "gpuops.eks/nodepool": pool,
        "nvidia.com/gpu.present": "true",
        "nvidia.com/device-plugin.config": configuration,
        "node.kubernetes.io/instance-type": instance_type,
        "topology.kubernetes.io/zone": zone,
        "eks.amazonaws.com/capacityType": "SPOT",
    }
    counts = {"cpu": "7910m", "nvidia.com/gpu": str(advertised)} if advertised else {"cpu": "7910m"}
    status = {"capacity": counts, "allocatable": counts, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


CPU_NODE: Json = {
    "metadata": {"name": "cpu", "labels": {"node.kubernetes.io/instance-type": "m5.large"}},
    "spec": {},
    "status": {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "2"}, "conditions": []},
}
TYPES = {
    "InstanceTypes": [
        {"InstanceType": "g5.2xlarge", "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1}]}},
        {"InstanceType": "g4dn.12xlarge", "GpuInfo": {"Gpus": [{"Name": "T4", "Manufacturer": "NVIDIA", "Count": 4}]}},
        {"InstanceType": "m5.large"},
    ]
}
ASKED = {"Filters": [{"Name": "instance-type", "Values": ["g4dn.12xlarge", "g5.2xlarge", "m5.large"]}]}
NODES = [
    node("a", "inference", "g5.2xlarge", 10, "shared"),
    node("b", "inference", "g5.2xlarge", 10, "shared", "us-west-2b"),
    node("c", "training", "g4dn.12xlarge", 4, "default"),
    CPU_NODE,
]


def daemon_set(configuration: str, replicas: int, strategy: str = "time_slicing") -> Json:
    rule = {"key": "nvidia.com/device-plugin.config", "operator": "In", "values": [configuration]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [rule]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    annotations = {"gpuops.eks/resources": json.dumps({"nvidia.com/gpu": replicas})}
    metadata = {"name": f"nvidia-device-plugin-{configuration}", "namespace": "gpuops-nvidia", "annotations": annotations}
    sharing = {"gpuops.eks/sharing": json.dumps({"strategy": strategy, "replicas": replicas, "mig": None})}
    return {"metadata": metadata, "spec": {"template": {"metadata": {"annotations": sharing}, "spec": {"affinity": affinity}}}}


DAEMON_SETS = [daemon_set("shared", 10), daemon_set("default", 1)]


def pod(name: str, on: str | None, gpus: int, **more: t.Any) -> Json:
    spec: Json = {"containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}]}
    if on:
        spec["nodeName"] = on
    owner = {"controller": True, "kind": "ReplicaSet", "name": f"{name}-5d4f"}
    metadata = {"name": f"{name}-5d4f-x", "namespace": "ml", "labels": {"pod-template-hash": "5d4f"}, "ownerReferences": [owner]}
    return {"metadata": {**metadata, "creationTimestamp": "2026-01-31T12:00:00Z"}, "spec": spec, "status": {"phase": "Pending", **more}}


WHY = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
UNSCHEDULABLE = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": WHY}]}


def reads(kube: KubeWire, wire: Wire, nodes: t.Sequence[Json], pods: t.Sequence[t.Sequence[Json]]) -> None:
    """The reads of a report; ``pods`` are pages."""
    kube.items("/api/v1/nodes", nodes)
    wire.expect("ec2:DescribeInstanceTypes", ASKED, TYPES)
    kube.items("/apis/apps/v1/daemonsets", DAEMON_SETS, labelSelector=OURS)
    for number, page in enumerate(pods):
        query = {"limit": "500", "fieldSelector": RUNNING, **({"continue": str(number)} if number else {})}
        metadata = {"continue": str(number + 1)} if number + 1 < len(pods) else {}
        kube.expect("GET", "/api/v1/pods", query=query, reply={"metadata": metadata, "items": page})


TAGGED = {"Filters": [{"Name": "tag-key", "Values": ["kubernetes.io/cluster/demo"]}]}


def groups(wire: Wire, *found: Json) -> None:
    """The read of the cluster's Auto Scaling groups; without one nothing more is asked."""
    wire.expect("autoscaling:DescribeAutoScalingGroups", TAGGED, {"AutoScalingGroups": list(found)})


def auto_scaling_group(name: str, zone: str, **tags: str) -> Json:
    sizes = {"MinSize": 0, "MaxSize": 4, "DesiredCapacity": 0, "DefaultCooldown": 300, "HealthCheckType": "EC2", "CreatedTime": NOW}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"AutoScalingGroupName": name, "AvailabilityZones": [zone], "Tags": listed, **sizes}


NOW = datetime.datetime.now(tz=datetime.UTC)
LAUNCHING = "Launching a new EC2 instance.  Status Reason: Could not launch."
NO_CAPACITY = "We currently do not have sufficient g5.2xlarge capacity in the Availability Zone you requested (us-west-2a)."


def activity(group: str, status: str, minutes: int, description: str = LAUNCHING, **more: str) -> Json:
    start = NOW - datetime.timedelta(minutes=minutes)
    names = {"ActivityId": f"{group}-{minutes}", "AutoScalingGroupName": group, "Cause": "A user asked.", "Description": description}
    return {**names, "StatusCode": status, "StartTime": start, **more}


def test_groups_whose_last_launch_failed_are_found(kube: KubeWire, wire: Wire) -> None:
    kube.cluster().items("/api/v1/nodes", [])
    groups(
        wire,
        auto_scaling_group("eks-a", "us-west-2a", **{"eks:nodegroup-name": "gpu-a"}),
        auto_scaling_group("demo-b", "us-west-2b"),
        auto_scaling_group("demo-c", "us-west-2c"),
        auto_scaling_group("demo-d", "us-west-2d"),
        auto_scaling_group("demo-e", "us-west-2e"),
    )
    first = [
        activity("demo-b", "InProgress", 1),
        activity("demo-b", "Failed", 2, StatusMessage="The second."),
        activity("theirs", "Failed", 3, StatusMessage=NO_CAPACITY),
        activity("demo-c", "Successful", 4),
        activity("demo-d", "Failed", 5, "Terminating EC2 instance: i-1"),
        activity("demo-c", "Failed", 6, StatusMessage=NO_CAPACITY),
    ]
    second = [
        activity("eks-a", "Failed", 7, StatusMessage=NO_CAPACITY),
        activity("demo-b", "Failed", 8, StatusMessage="The first."),
        activity("demo-e", "Failed", 61, StatusMessage=NO_CAPACITY),
    ]
    wire.expect("autoscaling:DescribeScalingActivities", {}, {"Activities": first, "NextToken": "more"})
    wire.expect("autoscaling:DescribeScalingActivities", {"NextToken": "more"}, {"Activities": second, "NextToken": "still more"})
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo", "gather_subset": ["findings"]})["gpu_capacity"]
    assert [(finding["code"], finding["subject"]) for finding in report["findings"]] == [
        ("launch_failed", "auto-scaling-group/eks-a"),
        ("launch_failed", "auto-scaling-group/demo-b"),
    ]
    node_group, other = (finding["message"] for finding in report["findings"])
    at = (NOW - datetime.timedelta(minutes=7)).isoformat(timespec="seconds")
    assert node_group == f"Node group gpu-a in us-west-2a could not launch an instance at {at}: {NO_CAPACITY}"
    assert other.endswith("The second.")
    assert "autoscaling:DescribeScalingActivities" in report["collected"]["sources"]


def test_without_the_permission_failed_launches_are_unknown_and_the_rest_is_there(kube: KubeWire, wire: Wire) -> None:
    kube.cluster().items("/api/v1/nodes", [])
    wire.expect_error("autoscaling:DescribeAutoScalingGroups", TAGGED, "AccessDenied", "You are not authorized")
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo", "gather_subset": ["findings"]})["gpu_capacity"]
    [warning] = report["collected"]["warnings"]
    assert warning.startswith("Whether Auto Scaling could launch all nodes is unknown: ")
    assert report["findings"] == []


def test_two_pools_by_name_unit_zone_and_what_is_free(kube: KubeWire, wire: Wire) -> None:
    finished = pod("done", "a", 1) | {"status": {"phase": "Succeeded"}}
    pages = [[pod("tf", "a", 1), pod("tf", "a", 1), finished], [pod("train", "c", 3), pod("big", None, 8, **UNSCHEDULABLE)]]
    reads(kube.cluster(), wire, NODES, pages)
    groups(wire)
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo"})["gpu_capacity"]
    assert set(report) == KEYS
    assert report["cluster"] == {"arn": "arn:aws:eks:us-west-2:123456789012:cluster/demo", "name": "demo", "version": "1.36"}
    assert report["totals"] == {"nodes": 3, "gpus": 6, "pods": 3}
    assert report["resources"] == [
        {"name": "nvidia.com/gpu", "unit": "gpu", "capacity": 4, "allocatable": 4, "requested": 3, "free": 1},
        {"name": "nvidia.com/gpu", "unit": "share", "capacity": 20, "allocatable": 20, "requested": 2, "free": 18},
    ]
    assert [(pool["name"], pool["gpus"], pool["models"]) for pool in report["pools"]] == [
        ("inference", 2, ["a10g"]),
        ("training", 4, ["t4"]),
    ]
    assert [(g["pool"], g["model"], g["zone"], g["capacity_type"], g["resources"][0]["free"]) for g in report["groups"]] == [
        ("inference", "a10g", "us-west-2a", "spot", 8),
        ("inference", "a10g", "us-west-2b", "spot", 10),
        ("training", "t4", "us-west-2a", "spot", 1),
    ]
    assert report["demand"] == {
        "pending": [
            {
                "namespace": "ml",
                "kind": "Deployment",
                "name": "big",
                "pods": 1,
                "resources": [{"name": "nvidia.com/gpu", "requested": 8}],
                "node_selector": {},
                "reason": "Unschedulable",
                "message": WHY,
                "since": "2026-01-31T12:00:00Z",
            }
        ],
        "queued": None,
    }
    assert (report["findings"], report["nodes"], report["quotas"]) == ([], None, None)


def test_the_sixth_pod_of_five_shares_waits_and_the_schedulers_words_say_why(kube: KubeWire, wire: Wire) -> None:
    words = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes are available: 1 No preemption victims found."
    waits = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}
    shm = pod("resnet", "a", 1)
    shm["spec"]["containers"][0]["volumeMounts"] = [{"name": "dshm", "mountPath": "/dev/shm"}]
    kube.cluster().items("/api/v1/nodes", [node("a", "inference", "g5.2xlarge", 5, "mps")])
    one = {"InstanceTypes": TYPES["InstanceTypes"][:1]}
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]}, one)
    kube.items("/apis/apps/v1/daemonsets", [daemon_set("mps", 5, "mps")], labelSelector=OURS)
    kube.items("/api/v1/pods", [*[pod("resnet", "a", 1)] * 4, shm, pod("resnet", None, 1, **waits)], fieldSelector=RUNNING)
    groups(wire)
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo", "gather_subset": ["all", "nodes"]})["gpu_capacity"]
    assert report["resources"] == [{"name": "nvidia.com/gpu", "unit": "share", "capacity": 5, "allocatable": 5, "requested": 5, "free": 0}]
    [waiting] = report["demand"]["pending"]
    assert (waiting["name"], waiting["pods"], waiting["reason"], waiting["message"]) == ("resnet", 1, "Unschedulable", words)
    assert [finding["code"] for finding in report["findings"]] == ["mps_shm_hidden"]
    assert f"waiting: 1 of Deployment ml/resnet: {words}" in capacity_table(report)


@pytest.mark.parametrize(("strategy", "name"), [("mixed", "nvidia.com/mig-1g.5gb"), ("single", "nvidia.com/gpu")])
def test_56_instances_of_eight_divided_gpus_and_the_57th_pod_waits(kube: KubeWire, wire: Wire, strategy: str, name: str) -> None:
    divided = node("a", "mig", "p4d.24xlarge", 0, "mig")
    divided["status"]["capacity"][name] = divided["status"]["allocatable"][name] = "56"
    plugin = daemon_set("mig", 1, "none")
    plugin["metadata"]["annotations"]["gpuops.eks/resources"] = json.dumps({"nvidia.com/gpu": 0, name: 7})
    mig = {"strategy": strategy, "layout": {"1g.5gb": 7}}
    plugin["spec"]["template"]["metadata"]["annotations"]["gpuops.eks/sharing"] = json.dumps(
        {"strategy": "none", "replicas": 1, "mig": mig}
    )
    words = f"0/1 nodes are available: 1 Insufficient {name}."
    waits = {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}]}
    pods = [pod("m", "a", 1) for _each in range(56)] + [pod("m", None, 1, **waits)]
    for one in pods:
        one["spec"]["containers"][0]["resources"]["limits"] = {name: "1"}
    kube.cluster().items("/api/v1/nodes", [divided])
    p4d = {"InstanceType": "p4d.24xlarge", "GpuInfo": {"Gpus": [{"Name": "A100", "Manufacturer": "NVIDIA", "Count": 8}]}}
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": [{"Name": "instance-type", "Values": ["p4d.24xlarge"]}]}, {"InstanceTypes": [p4d]})
    kube.items("/apis/apps/v1/daemonsets", [plugin], labelSelector=OURS)
    kube.items("/api/v1/pods", pods, fieldSelector=RUNNING)
    groups(wire)
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo"})["gpu_capacity"]
    assert report["totals"] == {"nodes": 1, "gpus": 8, "pods": 56}
    assert report["resources"] == [{"name": name, "unit": "mig_slice", "capacity": 56, "allocatable": 56, "requested": 56, "free": 0}]
    assert [(one["pods"], one["message"]) for one in report["demand"]["pending"]] == [(1, words)]
    assert report["findings"] == []


def test_facts_return_facts_alone(kube: KubeWire, wire: Wire) -> None:
    reads(kube.cluster(), wire, NODES, [[]])
    result = kube.run(gpu_capacity_facts.main, {"cluster_name": "demo", "gather_subset": ["totals", "nodes"]})
    assert set(result) == {"changed", "ansible_facts"}
    facts = result["ansible_facts"]["gpuops_gpu_capacity"]
    assert [found["name"] for found in facts["nodes"]] == ["a", "b", "c"]
    assert (facts["pools"], facts["demand"]["pending"]) == (None, None)


def test_gpus_that_are_not_advertised_and_sharing_that_differs_are_found(kube: KubeWire, wire: Wire) -> None:
    nodes = [node("a", "inference", "g5.2xlarge", 0, "shared"), node("b", "inference", "g5.2xlarge", 4, "shared")]
    kube.cluster().items("/api/v1/nodes", nodes)
    one = {"InstanceTypes": TYPES["InstanceTypes"][:1]}
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]}, one)
    kube.items("/apis/apps/v1/daemonsets", DAEMON_SETS, labelSelector=OURS)
    groups(wire)
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo", "gather_subset": ["findings"]})["gpu_capacity"]
    assert [(finding["code"], finding["subject"]) for finding in report["findings"]] == [
        ("gpu_not_advertised", "node/a"),
        ("sharing_differs", "node/b"),
    ]
    assert (
        "advertises nvidia.com/gpu 4; gpuops-nvidia/nvidia-device-plugin-shared says 10 for each GPU: nvidia.com/gpu 10."
        in report["findings"][1]["message"]
    )


def test_without_ec2_physical_gpus_are_unknown_and_the_rest_is_there(kube: KubeWire, wire: Wire) -> None:
    kube.cluster().items("/api/v1/nodes", NODES)
    wire.expect_error("ec2:DescribeInstanceTypes", ASKED, "UnauthorizedOperation", "You are not authorized")
    kube.items("/apis/apps/v1/daemonsets", DAEMON_SETS, labelSelector=OURS)
    kube.items("/api/v1/pods", [], fieldSelector=RUNNING)
    groups(wire)
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo"})["gpu_capacity"]
    assert report["totals"] == {"nodes": 3, "gpus": None, "pods": 0}
    assert report["resources"][1]["free"] == 20
    assert "needs the IAM permission ec2:DescribeInstanceTypes" in report["collected"]["warnings"][0]


def test_without_gpu_nodes_only_waiting_pods_are_read(kube: KubeWire, wire: Wire) -> None:
    kube.cluster().items("/api/v1/nodes", [CPU_NODE])
    asked = {"Filters": [{"Name": "instance-type", "Values": ["m5.large"]}]}
    wire.expect("ec2:DescribeInstanceTypes", asked, {"InstanceTypes": [{"InstanceType": "m5.large"}]})
    kube.items("/api/v1/pods", [pod("tf", None, 1)], fieldSelector=f"spec.nodeName=,{RUNNING}")
    groups(wire)
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo"})["gpu_capacity"]
    assert report["totals"] == {"nodes": 0, "gpus": 0, "pods": 0}
    assert [(item["name"], item["reason"]) for item in report["demand"]["pending"]] == [("tf", None)]


def test_a_list_that_expires_is_read_again_from_its_start(kube: KubeWire, wire: Wire) -> None:
    kube.cluster().items("/api/v1/nodes", NODES)
    wire.expect("ec2:DescribeInstanceTypes", ASKED, TYPES)
    kube.items("/apis/apps/v1/daemonsets", DAEMON_SETS, labelSelector=OURS)
    first = {"metadata": {"continue": "1"}, "items": [pod("tf", "a", 1)]}
    query = {"limit": "500", "fieldSelector": RUNNING}
    kube.expect("GET", "/api/v1/pods", query=query, reply=first)
    kube.expect("GET", "/api/v1/pods", query={**query, "continue": "1"}, status=410, reply={"reason": "Expired", "message": "too old"})
    kube.expect("GET", "/api/v1/pods", query=query, reply={"metadata": {}, "items": [pod("tf", "a", 1)]})
    groups(wire)
    report = kube.run(gpu_capacity_info.main, {"cluster_name": "demo"})["gpu_capacity"]
    assert report["totals"]["pods"] == 1


def test_check_mode_of_a_cluster_that_is_not_there_knows_nothing(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    report = wire.run(gpu_capacity_info.main, {"cluster_name": "demo"}, check_mode=True)["gpu_capacity"]
    assert set(report) == KEYS
    assert (report["totals"], report["pools"], report["demand"]["pending"]) == (None, None, None)
    assert report["collected"]["warnings"] == ["Cluster demo does not exist yet: its capacity is unknown."]


def kubeconfig(token: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": {"server": SERVER}}],
        "users": [{"name": "x", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "current-context": "x",
    }


@pytest.mark.parametrize("way", ["kubeconfig", "host"])
def test_kubernetes_options_need_no_eks(kube: KubeWire, wire: Wire, way: str) -> None:
    token = "a-token-of-this-test"
    options = {"kubeconfig": kubeconfig(token)} if way == "kubeconfig" else {"host": SERVER, "api_key": token}
    kube.items("/api/v1/nodes", []).items("/api/v1/pods", [], fieldSelector=f"spec.nodeName=,{RUNNING}")
    kube.expect("GET", "/version", reply={"major": "1", "minor": "36+"})
    report = kube.run(gpu_capacity_info.main, {"kubernetes": options})["gpu_capacity"]
    assert kube.tokens == {token}
    assert report["cluster"] == {"arn": None, "name": None, "version": "1.36"}


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("given", "path"),
    [({"cluster_name": "demo", "gather_subset": ["pool"]}, "gather_subset[0]"), ({"cluster_name": "demo", "cluster": "x"}, "cluster")],
)
def test_bad_input_is_refused_before_any_client(wire: Wire, given: Json, path: str) -> None:
    assert [fault["path"] for fault in wire.run(gpu_capacity_info.main, given)["faults"]] == [path]
