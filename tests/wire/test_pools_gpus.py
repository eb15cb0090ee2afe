# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools whose nodes cut and share their GPUs themselves, through main(): what is sent to AWS and to Karpenter, in order."""

from __future__ import annotations

import base64
import typing as t

import pytest
from ansible.module_utils import basic
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import NodeSettings, parse, render
from ansible_collections.gpuops.eks.plugins.module_utils._run import nodepool, nodepool_asg
from ansible_collections.gpuops.eks.plugins.modules.eks_gpu_nodepool import main
from ansible_collections.gpuops.eks.plugins.modules.gpu_manifests_info import main as render_main

from tests.wire import test_nodepool_asg as own
from tests.wire.harness import Wire

Json = dict[str, t.Any]

ACCOUNT = "123456789012"
OWNER = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/demo"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-node"
LAYOUT = {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}
CUT: Json = {
    "name": "cut",
    "instances": {"types": ["p4d.24xlarge"]},
    "zones": ["us-west-2a"],
    "mig": {"strategy": "mixed", "layout": LAYOUT},
}
COMMON: Json = {
    "cluster_name": "demo",
    "node_role_arn": ROLE,
    "subnets": [{"id": "subnet-a", "zone": "us-west-2a", "zone_id": "usw2-az1", "tier": "private"}],
}
PARAMS: Json = {**COMMON, "wait_interval": 0.001, **CUT, "provisioner": "managed_node_group", "scaling": {"min": 0, "max": 2}}
TYPE: Json = {
    "InstanceType": "p4d.24xlarge",
    "VCpuInfo": {"DefaultVCpus": 96},
    "MemoryInfo": {"SizeInMiB": 1179648},
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "Hypervisor": "nitro",
    "GpuInfo": {"Gpus": [{"Name": "A100", "Manufacturer": "NVIDIA", "Count": 8, "MemoryInfo": {"SizeInMiB": 40960}}]},
}
NAME = "cut-us-west-2a-8gpu-on-demand"
SUBJECT = {"clusterName": "demo", "nodegroupName": NAME}
TAGS = {"gpuops.eks/component": "nodepool", "gpuops.eks/nodepool": "cut", "gpuops.eks/owner": OWNER}
RESOURCES = "k8s.io/cluster-autoscaler/node-template/resources/"
MIG_TAGS = {
    f"{RESOURCES}nvidia.com/gpu": "0",
    f"{RESOURCES}nvidia.com/mig-1g.5gb": "16",
    f"{RESOURCES}nvidia.com/mig-2g.10gb": "8",
    f"{RESOURCES}nvidia.com/mig-3g.20gb": "8",
}
MARK = {"gpuops.eks/gpus": "user-data"}
LABELS = {"gpuops.eks/nodepool": "cut", "nvidia.com/gpu.present": "true", "nvidia.com/device-plugin.config": "cut"}
ACCELERATOR = {"k8s.amazonaws.com/accelerator": "nvidia-tesla-a100"}
TEMPLATE = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": f"demo-{NAME}", "LatestVersionNumber": 1, "Tags": own.listed(TAGS)}
BY_OWNER = {"Filters": [{"Name": "tag:gpuops.eks/owner", "Values": [OWNER]}]}


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def template_data(**settings: t.Any) -> Json:
    ebs = {"VolumeSize": 200, "VolumeType": "gp3", "Throughput": 600, "Encrypted": True, "DeleteOnTermination": True}
    return {
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": ebs}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": own.listed(TAGS)} for kind in ("instance", "volume", "network-interface")],
        "UserData": encoded(render("al2023", NodeSettings(fast_image_pull=True, **settings))),
    }


CREATE_GROUP: Json = {
    **SUBJECT,
    "scalingConfig": {"minSize": 0, "maxSize": 2, "desiredSize": 0},
    "subnets": ["subnet-a"],
    "instanceTypes": ["p4d.24xlarge"],
    "amiType": "AL2023_x86_64_NVIDIA",
    "nodeRole": ROLE,
    "labels": LABELS,
    "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}],
    "capacityType": "ON_DEMAND",
    "launchTemplate": {"id": "lt-1", "version": "1"},
    "updateConfig": {"maxUnavailable": 1, "updateStrategy": "DEFAULT"},
    "nodeRepairConfig": {"enabled": True},
    "tags": {**TAGS, **MARK, f"{RESOURCES}ephemeral-storage": "200Gi", **MIG_TAGS},
}


def nodegroup(**changes: t.Any) -> Json:
    made = {
        **CREATE_GROUP,
        "nodegroupArn": f"arn:aws:eks:us-west-2:{ACCOUNT}:nodegroup/demo/{NAME}/1",
        "status": "ACTIVE",
        "releaseVersion": "1.36.1-20260724",
        "launchTemplate": {"id": "lt-1", "name": f"demo-{NAME}", "version": "1"},
        "resources": {"autoScalingGroups": [{"name": f"eks-{NAME}-1"}]},
    }
    return {"nodegroup": {**made, **changes}}


def expect_place(wire: Wire, *names: str, listed: bool = True) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": own.CLUSTER})
    found = [{"SubnetId": "subnet-a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}]
    wire.expect("ec2:DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ["subnet-a"]}]}, {"Subnets": found})
    types = [{"Name": "instance-type", "Values": ["p4d.24xlarge"]}]
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": types}, {"InstanceTypes": [TYPE]})
    offerings = [{"InstanceType": "p4d.24xlarge", "LocationType": "availability-zone", "Location": "us-west-2a"}]
    request = {"LocationType": "availability-zone", "Filters": types}
    wire.expect("ec2:DescribeInstanceTypeOfferings", request, {"InstanceTypeOfferings": offerings})
    if listed:
        wire.expect("eks:ListNodegroups", {"clusterName": "demo"}, {"nodegroups": list(names)})


def expect_role(wire: Wire) -> None:
    role = {"RoleName": "demo-node", "Arn": ROLE, "Path": "/", "RoleId": "AROAEXAMPLEEXAMPLE00", "CreateDate": "2026-01-01T00:00:00Z"}
    wire.expect("iam:GetRole", {"RoleName": "demo-node"}, {"Role": role})


def expect_existing(wire: Wire, *, versions: bool = True) -> None:
    expect_place(wire, NAME)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": [TEMPLATE]})
    if versions:
        version = {"LaunchTemplateId": "lt-1", "VersionNumber": 1, "LaunchTemplateData": template_data(mig_layout=LAYOUT)}
        request = {"LaunchTemplateId": "lt-1", "Versions": ["1"]}
        wire.expect("ec2:DescribeLaunchTemplateVersions", request, {"LaunchTemplateVersions": [version]})


def actions(result: Json) -> list[str]:
    assert not result.get("failed"), result["msg"]
    return [step["action"] for step in result["plan"]]


def test_a_managed_node_group_cuts_its_gpus(wire: Wire) -> None:
    expect_place(wire)
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": []})
    names = [{"Name": "launch-template-name", "Values": [f"demo-{NAME}"]}]
    wire.expect("ec2:DescribeLaunchTemplates", {"Filters": names}, {"LaunchTemplates": []})
    expect_role(wire)
    request = {
        "LaunchTemplateName": f"demo-{NAME}",
        "LaunchTemplateData": template_data(mig_layout=LAYOUT),
        "TagSpecifications": [{"ResourceType": "launch-template", "Tags": own.listed(TAGS)}],
    }
    wire.expect("ec2:CreateLaunchTemplate", request, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    wire.expect("eks:CreateNodegroup", CREATE_GROUP, nodegroup(status="CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(status="CREATING"))
    result = wire.run(main, {**PARAMS, "wait": False})
    assert actions(result) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup"]


def test_a_second_run_makes_no_version(wire: Wire) -> None:
    expect_existing(wire)
    result = wire.run(main, PARAMS)
    assert (actions(result), result["changed"]) == ([], False)


def test_a_pool_without_mig_gets_whole_gpus_back(wire: Wire) -> None:
    """The group's tag says that there is user data to look at."""
    expect_existing(wire)
    label = {**SUBJECT, "labels": {"addOrUpdateLabels": ACCELERATOR}}
    wire.expect("eks:UpdateNodegroupConfig", label, {"update": {"id": "u-1"}})
    request = {"LaunchTemplateId": "lt-1", "LaunchTemplateData": template_data()}
    made = {"LaunchTemplateVersion": {"LaunchTemplateId": "lt-1", "VersionNumber": 2}}
    wire.expect("ec2:CreateLaunchTemplateVersion", request, made)
    wire.expect(
        "eks:DescribeUpdate", {"name": "demo", "nodegroupName": NAME, "updateId": "u-1"}, {"update": {"id": "u-1", "status": "Successful"}}
    )
    update = {**SUBJECT, "launchTemplate": {"id": "lt-1", "version": "2"}, "releaseVersion": "1.36.1-20260724"}
    wire.expect("eks:UpdateNodegroupVersion", update, {"update": {"id": "u-2"}})
    arn = nodegroup()["nodegroup"]["nodegroupArn"]
    wire.expect("eks:TagResource", {"resourceArn": arn, "tags": {f"{RESOURCES}nvidia.com/gpu": "8"}})
    gone = ["gpuops.eks/gpus", *(key for key in MIG_TAGS if "mig" in key)]
    wire.expect("eks:UntagResource", {"resourceArn": arn, "tagKeys": gone})
    wire.expect(
        "eks:DescribeUpdate", {"name": "demo", "nodegroupName": NAME, "updateId": "u-2"}, {"update": {"id": "u-2", "status": "Successful"}}
    )
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(launchTemplate={"id": "lt-1", "name": "x", "version": "2"}))
    result = wire.run(main, {name: value for name, value in PARAMS.items() if name != "mig"})
    assert actions(result) == [
        "eks:UpdateNodegroupConfig",
        "ec2:CreateLaunchTemplateVersion",
        "eks:UpdateNodegroupVersion",
        "eks:TagResource",
        "eks:UntagResource",
    ]
    before = result["diff"]["before"][NAME]
    assert before["launch_template.mig"] == LAYOUT


def test_files_of_pools_have_the_layout(wire: Wire) -> None:
    """Each provisioner's: a launch template, another, and Karpenter's objects."""
    expect_place(wire, listed=False)
    images = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended"
    pools = [
        {**CUT, "name": "group", "provisioner": "managed_node_group"},
        {**CUT, "name": "self", "provisioner": "auto_scaling_group"},
        {**CUT, "name": "bought", "provisioner": "karpenter"},
    ]
    parameters = {f"{images}/image_id": "ami-1", f"{images}/release_version": "1.36.1-20260724"}
    for name in ("release_version", "image_id"):
        value = parameters[f"{images}/{name}"]
        wire.expect("ssm:GetParameter", {"Name": f"{images}/{name}"}, {"Parameter": {"Name": f"{images}/{name}", "Value": value}})
        if name == "release_version":
            expect_role(wire)
    result = wire.run(render_main, {**COMMON, "pools": pools})
    found = {each["file"]: each["content"] for each in result["manifests"]}
    texts = [
        base64.b64decode(found[f"launch-templates/demo-{name}.json"]["LaunchTemplateData"]["UserData"]).decode()
        for name in ("group-us-west-2a-8gpu-on-demand", "self-us-west-2a-8gpu-on-demand-asg")
    ]
    texts.append(found["kubernetes/ec2nodeclass_bought.yaml"]["spec"]["userData"])
    assert [parse(text).mig_layout for text in texts] == [LAYOUT] * 3
    assert all("nvidia-smi mig -cgi 3g.20gb,2g.10gb,1g.5gb,1g.5gb -C" in text for text in texts)
    assert found["kubernetes/nodeoverlay_bought-8gpu.yaml"]["spec"]["capacity"] == {
        "nvidia.com/gpu": "0",
        "nvidia.com/mig-1g.5gb": "16",
        "nvidia.com/mig-2g.10gb": "8",
        "nvidia.com/mig-3g.20gb": "8",
    }


def test_without_aws_bottlerockets_pools_are_files_too(wire: Wire) -> None:
    pool = {**CUT, "provisioner": "karpenter", "ami": {"family": "bottlerocket"}, "mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}
    result = wire.run(render_main, {**COMMON, "pools": [pool], "offline": True, "account_id": ACCOUNT})
    assert wire.made == []
    found = {each["file"]: each["content"] for each in result["manifests"]}
    said = parse(found["kubernetes/ec2nodeclass_cut.yaml"]["spec"]["userData"])
    assert (said.mig_profiles, said.sharing) == ({"a100.40gb": "1g.5gb"}, Sharing())
    assert found["kubernetes/nodeoverlay_cut-8gpu.yaml"]["spec"]["capacity"] == {"nvidia.com/gpu": "56"}
    assert "nvidia.com/device-plugin.config" not in found["kubernetes/nodepool_cut.yaml"]["spec"]["template"]["metadata"]["labels"]


def test_bottlerocket_shares_in_another_way_on_new_instances(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodepool, "_PROVISIONERS", {"auto_scaling_group": nodepool_asg})
    own.expect_place(wire)
    wire.expect("autoscaling:DescribeAutoScalingGroups", own.BY_OWNER, own.group())
    wire.expect("ec2:DescribeLaunchTemplates", own.BY_OWNER, {"LaunchTemplates": [own.TEMPLATE]})
    labels = {key: value for key, value in own.LABELS.items() if key != "nvidia.com/device-plugin.config"}
    cluster = parse(own.USER_DATA).cluster
    there = NodeSettings(
        cluster=cluster, labels=labels, taints=parse(own.USER_DATA).taints, sharing=Sharing(strategy="time_slicing", replicas=10)
    )
    data = {**own.template_data(), "UserData": encoded(render("bottlerocket", there))}
    version = {
        "LaunchTemplateId": "lt-1",
        "VersionNumber": 1,
        "VersionDescription": "eks bottlerocket/nvidia/amd64 1.36 newest",
        "LaunchTemplateData": data,
    }
    request = {"LaunchTemplateId": "lt-1", "Versions": ["1"]}
    wire.expect("ec2:DescribeLaunchTemplateVersions", request, {"LaunchTemplateVersions": [version]})
    own.expect_profile(wire)
    given = {**own.PARAMS, "ami": {"family": "bottlerocket"}, "sharing": {"strategy": "mps", "replicas": 5}}
    result = wire.run(main, given, check_mode=True)
    assert actions(result)[0] == "ec2:CreateLaunchTemplateVersion"
    assert actions(result)[-1] == "autoscaling:StartInstanceRefresh"
    sharing = {"before": "time_slicing", "after": "mps"}
    assert {side: result["diff"][side][own.NAME]["launch_template.sharing"]["strategy"] for side in sharing} == sharing


def test_what_a_user_should_know_is_said(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda module, message, **kwargs: said.append(message))
    expect_existing(wire)
    wire.run(main, {**PARAMS, "disk": {"size_gib": 50}}, check_mode=True)
    assert [message for message in said if "CUDA" in message] == [
        "Pool cut: disk.size_gib 50 is little for images with CUDA, of which one takes 10 to 20 GiB; at least 60, by default 200."
    ]


def test_mistakes_are_found_before_any_call(wire: Wire) -> None:
    pools = [
        {**CUT, "provisioner": "karpenter", "instances": {"families": ["g5"]}},
        {**CUT, "name": "b", "provisioner": "managed_node_group", "mig": {"layout": {"1g.10gb": 7}}},
        {**CUT, "name": "c", "provisioner": "auto_scaling_group", "ami": {"family": "bottlerocket"}},
        {**CUT, "name": "d", "provisioner": "auto_scaling_group", "sharing": {"backend": "gpu_operator"}},
    ]
    result = wire.run(main, {**COMMON, "pools": pools})
    assert [fault["path"] for fault in result["faults"]] == [
        "pools[0].instances.families[0]",
        "pools[1].mig.layout",
        "pools[2].mig.strategy",
        "pools[3].sharing.backend",
    ]
    assert wire.made == []
