# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""gpu_manifests_info through main(): reads alone, each in order; without them where that is asked for."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.karpenter import Image, alias_image
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import Object
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter import Observed, wanted_objects
from ansible_collections.gpuops.eks.plugins.modules.gpu_manifests_info import main

from tests.unit.karpenter_objects import settings
from tests.unit.karpenter_objects import target as resolved
from tests.wire.harness import Wire

Json = dict[str, t.Any]

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-node"
GPU: Json = {"instances": {"types": ["g5.2xlarge"]}, "zones": ["us-west-2a"], "sharing": {"strategy": "time_slicing", "replicas": 10}}
POOL: Json = {"name": "gpu", "provisioner": "karpenter", **GPU}
GROUP: Json = {**GPU, "name": "group", "provisioner": "managed_node_group", "scaling": {"min": 0, "max": 1}}
SELF: Json = {**GPU, "name": "self", "provisioner": "auto_scaling_group", "scaling": {"min": 0, "max": 1}}
SUBNET: Json = {"id": "subnet-0a", "zone": "us-west-2a", "zone_id": "usw2-az1", "tier": "private"}
PARAMS: Json = {"cluster_name": "demo", "node_role_arn": ROLE, "subnets": [SUBNET]}
CLUSTER: Json = {
    "name": "demo",
    "status": "ACTIVE",
    "version": "1.36",
    "endpoint": "https://api.example.com",
    "certificateAuthority": {"data": "Q0E="},
    "kubernetesNetworkConfig": {"serviceIpv4Cidr": "172.20.0.0/16"},
    "resourcesVpcConfig": {"clusterSecurityGroupId": "sg-0cluster"},
}
PLUGIN: Json = {"configurations": [{"name": "gpu", "sharing": GPU["sharing"]}]}
FILTERS = [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]
TYPE: Json = {
    "InstanceType": "g5.2xlarge",
    "VCpuInfo": {"DefaultVCpus": 8},
    "MemoryInfo": {"SizeInMiB": 32768},
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "Hypervisor": "nitro",
    "InstanceStorageSupported": True,
    "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}]},
}
IMAGES = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended"


def observe(wire: Wire, *, planned: bool = False, subnet: bool = True) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "Account": ACCOUNT})
    if not planned:
        wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": CLUSTER})
    else:
        wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    if subnet:
        found = {"SubnetId": "subnet-0a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}
        wire.expect("ec2:DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ["subnet-0a"]}]}, {"Subnets": [found]})
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": FILTERS}, {"InstanceTypes": [TYPE]})
    offering = {"InstanceType": "g5.2xlarge", "Location": "us-west-2a", "LocationType": "availability-zone"}
    request = {"LocationType": "availability-zone", "Filters": FILTERS}
    wire.expect("ec2:DescribeInstanceTypeOfferings", request, {"InstanceTypeOfferings": [offering]})


def expect_role(wire: Wire) -> None:
    role = {"Path": "/", "RoleName": "demo-node", "RoleId": "AROA1234567890123", "Arn": ROLE, "CreateDate": "2026-11-01T00:00:00Z"}
    wire.expect("iam:GetRole", {"RoleName": "demo-node"}, {"Role": role})


def expect_release(wire: Wire) -> None:
    name = f"{IMAGES}/release_version"
    wire.expect("ssm:GetParameter", {"Name": name}, {"Parameter": {"Name": name, "Value": "1.36.1-20260724"}})


def files(result: Json) -> dict[str, Json]:
    assert "manifests" in result, result
    return {each["file"]: each["content"] for each in result["manifests"]}


def made_by_the_pool_module(**changes: t.Any) -> list[Object]:
    """The objects that eks_gpu_nodepool applies for POOL in a cluster without any."""
    given = {key: value for key, value in POOL.items() if key != "provisioner"}
    images: dict[str, Image] = {"gpu": alias_image("al2023", "v20260724")}
    target = resolved(default_role=ROLE, **given)
    return [one.manifest for one in wanted_objects([target], Observed(), settings(role=ROLE, images=images, **changes))]


@pytest.mark.parametrize("check_mode", [False, True])
def test_karpenters_objects_are_those_that_the_pool_would_get(wire: Wire, check_mode: bool) -> None:
    observe(wire)
    expect_release(wire)
    expect_role(wire)
    result = wire.run(main, {**PARAMS, "pools": [POOL]}, check_mode=check_mode)
    class_, overlay, node_pool = made_by_the_pool_module()
    assert files(result) == {
        "kubernetes/ec2nodeclass_gpu.yaml": class_,
        "kubernetes/nodeoverlay_gpu-1gpu.yaml": overlay,
        "kubernetes/nodepool_gpu.yaml": node_pool,
    }
    assert overlay["spec"]["capacity"] == {"nvidia.com/gpu": "10"}
    assert [each["planned"] for each in result["manifests"]] == [[], [], []]
    assert (result["changed"], result["kubernetes_version"]) == (False, "1.36")


def test_launch_templates_are_the_requests_that_new_groups_would_make(wire: Wire) -> None:
    observe(wire)
    wire.expect("ssm:GetParameter", {"Name": f"{IMAGES}/image_id"}, {"Parameter": {"Name": f"{IMAGES}/image_id", "Value": "ami-1"}})
    found = files(wire.run(main, {**PARAMS, "pools": [GROUP, SELF]}))
    assert list(found) == [
        "launch-templates/demo-group-us-west-2a-1gpu-on-demand.json",
        "launch-templates/demo-self-us-west-2a-1gpu-on-demand-asg.json",
    ]
    managed, own = found.values()
    assert managed["LaunchTemplateName"] == "demo-group-us-west-2a-1gpu-on-demand"
    assert "ImageId" not in managed["LaunchTemplateData"]  # EKS chooses it
    assert own["LaunchTemplateData"]["ImageId"] == "ami-1"
    assert own["LaunchTemplateData"]["SecurityGroupIds"] == ["sg-0cluster"]
    assert {tag["Key"]: tag["Value"] for tag in own["TagSpecifications"][0]["Tags"]}["gpuops.eks/pool"] == "self"


def test_a_cluster_that_is_not_there_has_stand_ins_and_no_launch_templates(wire: Wire) -> None:
    observe(wire, planned=True, subnet=False)
    planned: Json = {**SUBNET, "id": "planned:subnet/private-a"}
    role = f"planned:role/{ROLE}"
    expect_release(wire)
    params = {**PARAMS, "subnets": [planned], "node_role_arn": role, "kubernetes_version": "1.36", "pools": [POOL, GROUP]}
    result = wire.run(main, params)
    assert list(files(result)) == [f"kubernetes/{name}.yaml" for name in ("ec2nodeclass_gpu", "nodeoverlay_gpu-1gpu", "nodepool_gpu")]
    class_ = result["manifests"][0]
    assert class_["planned"] == ["planned:role/" + ROLE, "planned:security-group/demo-cluster", "planned:subnet/private-a"]
    assert class_["content"]["spec"]["amiSelectorTerms"] == [{"alias": "al2023@v20260724"}]


def test_without_aws_nothing_is_asked_of_it(wire: Wire) -> None:
    planned: Json = {"id": "planned:subnet/us-west-2a", "zone": "us-west-2a"}
    params = {**PARAMS, "subnets": [planned], "pools": [POOL, GROUP], "offline": True, "account_id": ACCOUNT, "device_plugin": PLUGIN}
    result = wire.run(main, params)
    assert wire.made == []
    assert result["kubernetes_version"] is None
    found = {each["file"]: each["planned"] for each in result["manifests"]}
    assert found == {
        "kubernetes/ec2nodeclass_gpu.yaml": [
            "planned:ami-release/al2023",
            "planned:security-group/demo-cluster",
            "planned:subnet/us-west-2a",
        ],
        "kubernetes/gpuops-nvidia_configmap_nvidia-device-plugin-gpu.yaml": [],
        "kubernetes/gpuops-nvidia_daemonset_nvidia-device-plugin-gpu.yaml": [],
        "kubernetes/namespace_gpuops-nvidia.yaml": [],
        "kubernetes/nodeoverlay_gpu-1gpu.yaml": [],
        "kubernetes/nodepool_gpu.yaml": [],
    }
    class_, overlay, node_pool = made_by_the_pool_module()
    content = files(result)
    assert content["kubernetes/nodeoverlay_gpu-1gpu.yaml"] == overlay
    assert content["kubernetes/nodepool_gpu.yaml"] == node_pool
    assert content["kubernetes/ec2nodeclass_gpu.yaml"]["spec"]["tags"] == class_["spec"]["tags"]
    assert content["kubernetes/ec2nodeclass_gpu.yaml"]["spec"]["role"] == "demo-node"


@pytest.mark.parametrize(("region", "partition"), [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_without_aws_the_partition_is_that_of_the_region(wire: Wire, region: str, partition: str) -> None:
    subnet = {"id": "planned:subnet/a", "zone": f"{region}a"}
    pool = {**POOL, "zones": [f"{region}a"]}
    params = {**PARAMS, "region": region, "subnets": [subnet], "pools": [pool], "offline": True, "account_id": ACCOUNT}
    tags = files(wire.run(main, params))["kubernetes/ec2nodeclass_gpu.yaml"]["spec"]["tags"]
    assert tags["gpuops.eks/owner"] == f"arn:{partition}:eks:{region}:{ACCOUNT}:cluster/demo"


def test_a_pool_with_policies_names_the_role_that_it_will_have(wire: Wire) -> None:
    pool = {**POOL, "iam": {"policies": ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]}}
    subnet = {"id": "planned:subnet/us-west-2a", "zone": "us-west-2a"}
    result = wire.run(main, {**PARAMS, "subnets": [subnet], "pools": [pool], "offline": True, "account_id": ACCOUNT})
    assert files(result)["kubernetes/ec2nodeclass_gpu.yaml"]["spec"]["role"] == "demo-us-west-2-gpu-node"


@pytest.mark.parametrize(("namespace", "made"), [("gpu", True), ("kube-system", False), ("default", False)])
def test_a_namespace_that_every_cluster_has_is_no_file(wire: Wire, namespace: str, made: bool) -> None:
    plugin = {**PLUGIN, "namespace": namespace}
    result = wire.run(main, {**PARAMS, "pools": [], "device_plugin": plugin, "offline": True, "account_id": ACCOUNT})
    kinds = [content["kind"] for content in files(result).values()]
    assert kinds == ["ConfigMap", "DaemonSet", *(["Namespace"] if made else [])]


def test_what_shares_and_cuts_gpus_is_all_there(wire: Wire) -> None:
    plugin = {
        "configurations": [
            {"name": "served", "sharing": {"strategy": "mps", "replicas": 5}},
            {"name": "cut", "mig": {"layout": {"1g.5gb": 7}}},
        ],
        "feature_discovery": True,
    }
    result = wire.run(main, {**PARAMS, "pools": [], "device_plugin": plugin, "offline": True, "account_id": ACCOUNT})
    made = {f"{content['kind']} {content['metadata']['name']}" for content in files(result).values()}
    assert made == {
        "Namespace gpuops-nvidia",
        *(f"ConfigMap nvidia-device-plugin-{name}" for name in ("served", "cut")),
        *(f"DaemonSet {program}-{name}" for program in ("nvidia-device-plugin", "gpu-feature-discovery") for name in ("served", "cut")),
        "DaemonSet nvidia-mps-served",
        *(f"{kind} gpu-feature-discovery" for kind in ("ServiceAccount", "Role", "RoleBinding")),
    }


def test_every_fault_at_once_before_any_call(wire: Wire) -> None:
    plugin = {"configurations": [{"name": "No"}], "image": {"digest": "latest"}}
    params = {**PARAMS, "pools": [{**POOL, "labels": {"a b": "c"}}], "device_plugin": plugin, "account_id": "12"}
    result = wire.run(main, params)
    paths = [fault["path"] for fault in result["faults"]]
    assert paths == ["pools[0].labels.a b", "account_id", "device_plugin.configurations[0].name", "device_plugin.image.digest"]


def test_facts_of_the_account_are_faults(wire: Wire) -> None:
    observe(wire)
    expect_release(wire)
    wire.expect_error("iam:GetRole", {"RoleName": "demo-node"}, "NoSuchEntity")
    result = wire.run(main, {**PARAMS, "pools": [POOL, {**GROUP, "zones": ["us-west-2b"]}]})
    assert [fault["path"] for fault in result["faults"]] == ["pools[0].iam.node_role", "pools[1].zones[0]"]


def test_without_aws_what_only_it_could_say_is_a_fault(wire: Wire) -> None:
    pool = {**POOL, "instances": {"types": ["g9.xlarge"]}, "network": {"efa": True}}
    result = wire.run(main, {**PARAMS, "pools": [pool], "offline": True, "account_id": ACCOUNT})
    assert [fault["path"] for fault in result["faults"]] == ["pools[0].network.efa", "pools[0].instances.types[0]"]
    assert "AWS is not asked" in result["faults"][0]["source"]
