# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_gpu_nodepool with Karpenter through main(): every call and every request, in order."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Json
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter import Observed, wanted_objects
from ansible_collections.gpuops.eks.plugins.module_utils._run import nodepool, nodepool_karpenter
from ansible_collections.gpuops.eks.plugins.modules.eks_gpu_nodepool import main

from tests.unit.karpenter_objects import live, settings
from tests.unit.karpenter_objects import target as resolved
from tests.wire.harness import ANY, Wire
from tests.wire.kube import CLUSTER, KubeWire

ROLE = "arn:aws:iam::123456789012:role/demo-node"
SHARING = {"strategy": "time_slicing", "replicas": 10}
POOL: Json = {
    "name": "gpu",
    "provisioner": "karpenter",
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a"],
    "sharing": SHARING,
}
PARAMS: Json = {
    "cluster_name": "demo",
    "node_role_arn": ROLE,
    "subnets": [{"id": "subnet-0a", "zone": "us-west-2a", "zone_id": "usw2-az1", "tier": "private"}],
    "wait_interval": 0.001,
    "wait_timeout": 5,
}
FILTERS = [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]
TYPE: Json = {
    "InstanceType": "g5.2xlarge",
    "VCpuInfo": {"DefaultVCpus": 8},
    "MemoryInfo": {"SizeInMiB": 32768},
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "Hypervisor": "nitro",
    "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}]},
}
IMAGES = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia"
RELEASE = f"{IMAGES}/recommended/release_version"
NOW: Json = {**CLUSTER, "resourcesVpcConfig": {"clusterSecurityGroupId": "sg-0cluster"}}
AWS_API, CORE = "/apis/karpenter.k8s.aws/v1", "/apis/karpenter.sh/v1"
CLASSES, POOLS = f"{AWS_API}/ec2nodeclasses", f"{CORE}/nodepools"
OVERLAYS, CLAIMS = "/apis/karpenter.sh/v1alpha1/nodeoverlays", f"{CORE}/nodeclaims"
DEPLOYMENTS = "/apis/apps/v1/deployments"
OURS = {"app.kubernetes.io/managed-by": "gpuops.eks", "gpuops.eks/nodepool": "gpu"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other provisioners read of their own is told by their tests."""
    monkeypatch.setattr(nodepool, "_PROVISIONERS", {"karpenter": nodepool_karpenter})


def observe_aws(wire: Wire, *, role: bool = False, release: bool = False) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Arn": "arn:aws:iam::123456789012:user/me", "Account": "123456789012"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": NOW})
    subnet = {"SubnetId": "subnet-0a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}
    wire.expect("ec2:DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ["subnet-0a"]}]}, {"Subnets": [subnet]})
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": FILTERS}, {"InstanceTypes": [TYPE]})
    offering = {"InstanceType": "g5.2xlarge", "Location": "us-west-2a", "LocationType": "availability-zone"}
    request = {"LocationType": "availability-zone", "Filters": FILTERS}
    wire.expect("ec2:DescribeInstanceTypeOfferings", request, {"InstanceTypeOfferings": [offering]})
    if release:
        wire.expect("ssm:GetParameter", {"Name": RELEASE}, {"Parameter": {"Name": RELEASE, "Value": "1.36.1-20260724"}})
    if role:
        wire.expect("iam:GetRole", {"RoleName": "demo-node"}, {"Role": the_role()})


def the_role() -> Json:
    return {"Path": "/", "RoleName": "demo-node", "RoleId": "AROA1234567890123", "Arn": ROLE, "CreateDate": "2026-11-01T00:00:00Z"}


def group(name: str, *versions: str) -> Json:
    return {"kind": "APIGroup", "name": name, "versions": [{"groupVersion": f"{name}/{one}", "version": one} for one in versions]}


def deployment(gates: str) -> Json:
    container = {
        "name": "controller",
        "image": "public.ecr.aws/karpenter/controller:1.14.1@sha256:0",
        "env": [{"name": "FEATURE_GATES", "value": gates}],
    }
    return {"metadata": {"name": "karpenter", "namespace": "kube-system"}, "spec": {"template": {"spec": {"containers": [container]}}}}


def observe(
    kube: KubeWire, objects: t.Sequence[Json] = (), *, gates: str | None = "NodeOverlay=true,NodeRepair=false", served: bool = True
) -> KubeWire:
    """The reads of Karpenter's APIs, its Deployment and its objects."""
    kube.get("/apis/karpenter.k8s.aws", group("karpenter.k8s.aws", "v1") if served else None)
    kube.get("/apis/karpenter.sh", group("karpenter.sh", "v1", "v1alpha1") if served else None)
    if not served:
        return kube
    found = [deployment(gates)] if gates is not None else []
    kube.items(DEPLOYMENTS, found, labelSelector="app.kubernetes.io/name=karpenter")
    if not found:
        kube.items(DEPLOYMENTS, [])
    return reread(kube, objects)


def reread(kube: KubeWire, objects: t.Sequence[Json]) -> KubeWire:
    for path, kind in ((CLASSES, "EC2NodeClass"), (OVERLAYS, "NodeOverlay"), (POOLS, "NodePool")):
        kube.items(path, [obj for obj in objects if obj["kind"] == kind])
    return kube


def objects(*, ready: bool | None = True, **params: t.Any) -> list[Json]:
    """What a run with PARAMS leaves in the cluster."""
    given = {key: value for key, value in {**POOL, **params}.items() if key != "provisioner"}
    return [
        live(one.manifest, ready=ready) for one in wanted_objects([resolved(default_role=ROLE, **given)], Observed(), settings(role=ROLE))
    ]


def path_of(obj: Json) -> str:
    base = {"EC2NodeClass": CLASSES, "NodeOverlay": OVERLAYS, "NodePool": POOLS}[obj["kind"]]
    return f"{base}/{obj['metadata']['name']}"


def manifest(obj: Json) -> Json:
    """What was applied to make this object."""
    kept = {key: value for key, value in obj["metadata"].items() if key in ("name", "labels", "annotations")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept, "spec": obj["spec"]}


def dry_runs(kube: KubeWire, found: t.Sequence[Json]) -> KubeWire:
    for obj in found:
        kube.patch(path_of(obj), obj, dry_run=True, body=manifest(obj))
    return kube


def steps(result: Json) -> list[tuple[str, str, str]]:
    assert "plan" in result, result
    return [(step["action"].removeprefix("kubernetes:"), step["target"], step["effect"]) for step in result["plan"]]


def test_a_new_pool_is_tried_out_made_in_order_and_waited_for(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire, role=True, release=True)
    made = objects(ready=None)
    dry_runs(observe(kube), made)
    for obj in made:
        kube.patch(path_of(obj), obj, body=manifest(obj))
    class_, overlay, node_pool = objects()
    kube.get(path_of(class_), made[0]).get(path_of(class_), class_).get(path_of(overlay), overlay).get(path_of(node_pool), node_pool)
    reread(kube, [class_, overlay, node_pool])
    result = kube.run(main, {**PARAMS, **POOL})
    assert steps(result) == [
        ("patch ec2nodeclasses.karpenter.k8s.aws", "gpu", "create"),
        ("patch nodeoverlays.karpenter.sh", "gpu-1gpu", "create"),
        ("patch nodepools.karpenter.sh", "gpu", "create"),
    ]
    assert overlay["spec"]["capacity"] == {"nvidia.com/gpu": "10"}
    assert class_["spec"]["amiSelectorTerms"] == [{"alias": "al2023@v20260724"}]
    assert result["progress"] == [
        "EC2NodeClass gpu: no controller has looked at it yet",
        "EC2NodeClass gpu: Ready",
        "NodeOverlay gpu-1gpu: Ready",
        "NodePool gpu: Ready",
    ]
    assert result["nodepool"]["karpenter"] == {"node_class": "gpu", "overlays": ["gpu-1gpu"]}
    assert [group["status"] for group in result["nodepool"]["groups"]] == ["Ready"]


def test_a_second_run_changes_nothing_and_asks_for_no_image_or_role(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire)
    there = objects()
    dry_runs(observe(kube, there), there)
    result = kube.run(main, {**PARAMS, **POOL})
    assert (result["changed"], result["plan"], result["diff"]) == (False, [], {"before": {}, "after": {}})
    assert result["nodepool"]["groups"][0]["status"] == "Ready"


def test_another_number_of_shares_changes_the_overlay_and_no_node(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire)
    there = objects()
    after = [{**obj, "metadata": there[index]["metadata"]} for index, obj in enumerate(objects(sharing={**SHARING, "replicas": 4}))]
    observe(kube, there)
    for obj in after:
        kube.patch(path_of(obj), obj, dry_run=True, body=ANY)
    result = kube.run(main, {**PARAMS, **POOL, "sharing": {**SHARING, "replicas": 4}}, check_mode=True)
    assert steps(result) == [("patch nodeoverlays.karpenter.sh", "gpu-1gpu", "update")]
    assert result["diff"]["after"] == {"nodeoverlays.karpenter.sh gpu-1gpu": {"spec.capacity[nvidia.com/gpu]": "4"}}


def test_what_karpenters_crds_refuse_is_a_fault_in_their_words(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire, role=True, release=True)
    observe(kube)
    class_, overlay, node_pool = objects(ready=None)
    said = "NodePool.karpenter.sh \"gpu\" is invalid: spec.disruption.budgets[0]: Invalid value: \"'schedule' must be set with 'duration'\""
    refusal = {"kind": "Status", "reason": "Invalid", "message": said, "code": 422}
    dry_runs(kube, [class_, overlay])
    kube.expect("PATCH", path_of(node_pool), query=ANY, body=ANY, status=422, reply=refusal)
    result = kube.run(main, {**PARAMS, **POOL, "disruption": {"budgets": [{"nodes": "1", "schedule": "@daily"}]}})
    (fault,) = result["faults"]
    assert (fault["path"], fault["source"]) == ("name", "kubernetes:patch nodepools.karpenter.sh")
    assert "'schedule' must be set with 'duration'" in fault["allowed"]
    assert kube.writes() == []


def test_a_gate_that_is_off_is_refused_with_what_to_do(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire, role=True, release=True)
    observe(kube, gates="ReservedCapacity=true,NodeOverlay=false")
    result = kube.run(main, {**PARAMS, **POOL})
    (fault,) = result["faults"]
    assert (fault["path"], fault["value"]) == ("sharing", "the feature gate NodeOverlay is off")
    assert "NodeOverlay=true in FEATURE_GATES (role gpuops.eks.eks_autoscaling sets it)" in fault["allowed"]


def test_whole_gpus_do_not_need_the_gate(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire)
    there = objects(sharing=None)
    dry_runs(observe(kube, there, gates=""), there)
    result = kube.run(main, {**PARAMS, **POOL, "sharing": None})
    assert (result.get("failed"), result["plan"]) == (None, [])


def test_a_cluster_without_karpenter_is_refused(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire, role=True, release=True)
    observe(kube, served=False)
    result = kube.run(main, {**PARAMS, **POOL})
    (fault,) = result["faults"]
    missing = "ec2nodeclasses.karpenter.k8s.aws of karpenter.k8s.aws/v1, nodepools.karpenter.sh of karpenter.sh/v1"
    assert fault["value"] == f"the cluster has no {missing}, nodeoverlays.karpenter.sh of karpenter.sh/v1alpha1"
    assert "role gpuops.eks.eks_autoscaling installs them" in result["faults"][0]["allowed"]


def test_check_mode_plans_for_the_karpenter_that_will_be(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire, role=True, release=True)
    observe(kube, served=False)
    result = kube.run(main, {**PARAMS, **POOL}, check_mode=True)
    assert [effect for _call, _target, effect in steps(result)] == ["create", "create", "create"]
    assert result["nodepool"]["groups"][0]["status"] is None


def test_repair_is_a_gate_of_all_of_karpenter(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire, role=True, release=True)
    observe(kube)
    result = kube.run(main, {**PARAMS, **POOL, "repair": {"enabled": True}})
    assert [(fault["path"], fault["value"]) for fault in result["faults"]] == [("repair.enabled", True)]
    assert "the gate NodeRepair is off" in result["faults"][0]["allowed"]


def test_what_does_not_exist_in_the_account_is_refused_before_anything_is_tried(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire)
    wire.expect_error(
        "ssm:GetParameter", {"Name": f"{IMAGES}/amazon-eks-node-al2023-x86_64-nvidia-1.36-v20200101/release_version"}, "ParameterNotFound"
    )
    wire.expect_error("iam:GetInstanceProfile", {"InstanceProfileName": "nobody"}, "NoSuchEntity")
    groups = {"Filters": [{"Name": "group-name", "Values": ["rack"]}, {"Name": "state", "Values": ["available"]}]}
    wire.expect("ec2:DescribePlacementGroups", groups, {"PlacementGroups": []})
    observe(kube)
    wanted = {"ami": {"release": "v20200101"}, "iam": {"instance_profile": "nobody"}, "network": {"placement_group": "rack"}}
    result = kube.run(main, {**PARAMS, **POOL, **wanted})
    assert [(fault["path"], fault["value"]) for fault in result["faults"]] == [
        ("iam.instance_profile", "nobody"),
        ("network.placement_group", "rack"),
        ("ami.release", "v20200101"),
    ]


IMAGE_ROWS: list[tuple[Json, list[tuple[str, Json, Json]], Json, str | None]] = [
    ({"id": "ami-0123456789abcdef0"}, [], {"id": "ami-0123456789abcdef0"}, None),
    (
        {"name": "gpu-*", "owner": "210987654321"},
        [
            (
                "ec2:DescribeImages",
                {"Owners": ["210987654321"], "Filters": [{"Name": "name", "Values": ["gpu-*"]}]},
                {
                    "Images": [
                        {"ImageId": "ami-0new", "CreationDate": "2026-11-02T00:00:00Z"},
                        {"ImageId": "ami-0old", "CreationDate": "2026-11-01T00:00:00Z"},
                    ]
                },
            )
        ],
        {"id": "ami-0new"},
        "name 210987654321/gpu-*",
    ),
    (
        {"ssm_parameter": "/mine"},
        [("ssm:GetParameter", {"Name": "/mine"}, {"Parameter": {"Name": "/mine", "Value": "ami-0mine"}})],
        {"id": "ami-0mine"},
        "ssm /mine",
    ),
    ({"release": "latest"}, [], {"alias": "al2023@latest"}, None),
    (
        {"family": "bottlerocket"},
        [
            (
                "ssm:GetParameter",
                {"Name": "/aws/service/bottlerocket/aws-k8s-1.36-nvidia/x86_64/latest/image_version"},
                {"Parameter": {"Value": "1.54.0-1a2b3c4d"}},
            )
        ],
        {"alias": "bottlerocket@1.54.0"},
        None,
    ),
]


@pytest.mark.parametrize(("ami", "calls", "term", "source"), IMAGE_ROWS)
def test_images_are_found_once_and_written_down(
    kube: KubeWire, wire: Wire, ami: Json, calls: list[tuple[str, Json, Json]], term: Json, source: str | None
) -> None:
    observe_aws(wire)
    for call in calls:
        wire.expect(*call)
    wire.expect("iam:GetRole", {"RoleName": "demo-node"}, {"Role": the_role()})
    observe(kube, served=False)
    result = kube.run(main, {**PARAMS, **POOL, "sharing": None, "ami": ami}, check_mode=True)
    class_ = result["diff"]["after"]["ec2nodeclasses.karpenter.k8s.aws gpu"]
    assert class_["spec"]["amiSelectorTerms"] == [term]
    assert class_["metadata"].get("annotations") == ({"gpuops.eks/image": source} if source else None)


def test_an_image_found_by_the_same_name_stays(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire)
    there = objects(sharing=None)
    there[0] = live(manifest({**there[0], "metadata": {**there[0]["metadata"], "annotations": {"gpuops.eks/image": "ssm /mine"}}}))
    there[0]["spec"] |= {"amiSelectorTerms": [{"id": "ami-0old"}], "amiFamily": "AL2023"}
    observe(kube, there)
    kube.patch(path_of(there[0]), there[0], dry_run=True, body=ANY).patch(path_of(there[1]), there[1], dry_run=True, body=ANY)
    result = kube.run(main, {**PARAMS, **POOL, "sharing": None, "ami": {"ssm_parameter": "/mine"}})
    assert (result.get("failed"), result["plan"]) == (None, [])


def test_a_class_that_cannot_become_ready_ends_the_wait_at_once(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire)
    there = objects(ready=False)
    there[0]["status"]["conditions"].append(
        {"type": "AMIsReady", "status": "False", "reason": "AMINotFound", "message": "AMISelector did not match any AMIs"}
    )
    dry_runs(observe(kube, there), there).get(path_of(there[0]), there[0])
    result = kube.run(main, {**PARAMS, **POOL})
    assert result["failed"]
    assert result["msg"].startswith("EC2NodeClass gpu cannot become ready: AMIsReady: AMINotFound: AMISelector did not match any AMIs.")


def test_a_wait_that_takes_too_long_says_what_is_missing(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire)
    there = objects()
    there[2]["status"]["conditions"] = [
        {"type": "NodeClassReady", "status": "Unknown", "reason": "AwaitingReconciliation", "message": "object is awaiting reconciliation"},
        {"type": "Ready", "status": "Unknown", "reason": "ReconcilingDependents", "message": ""},
    ]
    dry_runs(observe(kube, there), there).get(path_of(there[2]), there[2]).get(path_of(there[2]), there[2])
    result = kube.run(main, {**PARAMS, **POOL, "wait_timeout": 1, "wait_interval": 1.1})
    assert result["msg"].startswith(
        "NodePool gpu is not ready after 1 s: NodeClassReady: AwaitingReconciliation: object is awaiting reconciliation. Running again"
    )


def test_nodes_that_do_not_go_are_named(kube: KubeWire, wire: Wire) -> None:
    class_, _overlay, _node_pool = objects()
    observe(absent(kube, wire), [class_])
    for _look in range(2):
        kube.items(CLAIMS, [{"metadata": {"name": "gpu-abcde"}}], labelSelector="gpuops.eks/nodepool=gpu")
    result = kube.run(main, {**PARAMS, "name": "gpu", "state": "absent", "wait_timeout": 1, "wait_interval": 1.1})
    assert result["msg"].startswith("NodeClaim with gpuops.eks/nodepool=gpu are still there after 1 s: gpu-abcde. Running again resumes")


def test_without_a_deployment_of_karpenter_a_warning_says_so(kube: KubeWire, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, message, **more: said.append(message))
    observe_aws(wire)
    there = objects()
    dry_runs(observe(kube, there, gates=None), there)
    kube.run(main, {**PARAMS, **POOL})
    assert said == [
        "No Deployment of Karpenter was found in the cluster: without it nothing comes of the pools; role gpuops.eks.eks_autoscaling "
        "installs it."
    ]


def test_pools_of_another_provisioner_are_pruned_without_a_pool_of_this_one(kube: KubeWire, wire: Wire) -> None:
    """All pools of the cluster are given, and none of them is Karpenter's any more."""
    wire.expect("sts:GetCallerIdentity", {}, {"Arn": "arn:aws:iam::123456789012:user/me", "Account": "123456789012"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": NOW})
    subnet = {"SubnetId": "subnet-0a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}
    wire.expect("ec2:DescribeSubnets", ANY, {"Subnets": [subnet]})
    there = objects()
    observe(kube, there)
    expect_no_role(wire)
    result = kube.run(main, {**PARAMS, "pools": [], "prune": True}, check_mode=True)
    assert [target for _call, target, effect in steps(result) if effect == "delete"] == ["gpu", "gpu-1gpu", "gpu"]


def test_objects_of_others_are_refused_and_nothing_is_tried(kube: KubeWire, wire: Wire) -> None:
    observe_aws(wire, role=True, release=True)
    theirs = copy.deepcopy(objects()[2])
    theirs["metadata"]["labels"] = {}
    observe(kube, [theirs])
    result = kube.run(main, {**PARAMS, **POOL})
    (fault,) = result["faults"]
    assert "adopt: true" in fault["allowed"]


def expect_no_role(wire: Wire) -> None:
    wire.expect_error("iam:GetRole", {"RoleName": "demo-us-west-2-gpu-node"}, "NoSuchEntity")


def absent(kube: KubeWire, wire: Wire) -> KubeWire:
    wire.expect("sts:GetCallerIdentity", {}, {"Arn": "arn:aws:iam::123456789012:user/me", "Account": "123456789012"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": NOW})
    return kube


def test_removal_waits_for_the_nodes_before_it_takes_what_they_need(kube: KubeWire, wire: Wire) -> None:
    there = objects()
    class_, overlay, node_pool = there
    observe(absent(kube, wire), there)
    kube.expect("DELETE", path_of(node_pool), body=ANY, reply={})
    kube.get(path_of(node_pool), None)
    claim = {"metadata": {"name": "gpu-abcde"}}
    for found in ([claim], []):
        kube.items(CLAIMS, found, labelSelector="gpuops.eks/nodepool=gpu")
    kube.expect("DELETE", path_of(overlay), body=ANY, reply={}).expect("DELETE", path_of(class_), body=ANY, reply={})
    kube.get(path_of(class_), None)
    expect_no_role(wire)
    result = kube.run(main, {**PARAMS, "name": "gpu", "state": "absent"})
    assert steps(result) == [
        ("delete nodepools.karpenter.sh", "gpu", "delete"),
        ("delete nodeoverlays.karpenter.sh", "gpu-1gpu", "delete"),
        ("delete ec2nodeclasses.karpenter.k8s.aws", "gpu", "delete"),
    ]
    assert [line for line in result["progress"] if "NodeClaim" in line] == [
        "NodeClaim with gpuops.eks/nodepool=gpu: 1 left",
        "NodeClaim with gpuops.eks/nodepool=gpu: 0 left",
    ]


def test_nothing_to_remove_where_karpenter_is_not(kube: KubeWire, wire: Wire) -> None:
    observe(absent(kube, wire), served=False)
    expect_no_role(wire)
    assert kube.run(main, {**PARAMS, "name": "gpu", "state": "absent"})["plan"] == []


def test_an_api_server_that_lets_nobody_in_does_not_keep_other_pools(kube: KubeWire, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, message, **more: said.append(message))
    absent(kube, wire).expect("GET", "/apis/karpenter.k8s.aws", status=401, reply={"kind": "Status", "code": 401})
    expect_no_role(wire)
    result = kube.run(main, {**PARAMS, "name": "gpu", "state": "absent"})
    assert (result["changed"], result["plan"]) == (False, [])
    [warning] = said
    assert warning.startswith("Whether Karpenter has pools here that are to go is not known.")
    assert "401 Unauthorized" in warning
