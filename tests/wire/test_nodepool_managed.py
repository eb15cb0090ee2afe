# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Managed node groups through main(): groups that somebody else made, tags of Auto Scaling groups, releases of images."""

from __future__ import annotations

import typing as t

import pytest
from ansible.module_utils import basic
from ansible_collections.gpuops.eks.plugins.modules.eks_gpu_nodepool import main

from tests.wire.harness import Wire
from tests.wire.test_eks_gpu_nodepool import (
    ACCOUNT,
    CREATE_NODEGROUP,
    CREATE_TEMPLATE,
    NAME,
    OWNER,
    PARAMS,
    SUBJECT,
    TEMPLATE,
    TYPE,
    actions,
    expect_names,
    expect_place,
    expect_role,
    expect_templates,
    nodegroup,
)

THEIRS = "theirs"
THEIR_SUBJECT = {"clusterName": "demo", "nodegroupName": THEIRS}
THEIR_ARN = f"arn:aws:eks:us-west-2:{ACCOUNT}:nodegroup/demo/{THEIRS}/1"
ADOPT: dict[str, t.Any] = {
    "cluster_name": "demo",
    "wait_interval": 0.001,
    "name": THEIRS,
    "provisioner": "managed_node_group",
    "adopt": True,
    "subnets": [{"id": "subnet-a"}],
}


def theirs(**changes: t.Any) -> dict[str, t.Any]:
    made = {"nodegroupName": THEIRS, "nodegroupArn": THEIR_ARN, "tags": {"by": "hand"}, "labels": {"by": "hand"}, "taints": []}
    return nodegroup(**{**made, **changes})


def expect_theirs(wire: Wire, **changes: t.Any) -> None:
    expect_place(wire, THEIRS, "other", types=False)
    wire.expect("eks:DescribeNodegroup", THEIR_SUBJECT, theirs(**changes))


def test_adopting_changes_nothing_that_is_not_set(wire: Wire) -> None:
    expect_theirs(wire)
    expect_templates(wire)
    result = wire.run(main, ADOPT)
    assert (actions(result), result["changed"]) == ([], False)
    (group,) = result["nodepool"]["groups"]
    assert (group["name"], group["zones"], group["max"], group["status"]) == (THEIRS, ["us-west-2a"], 3, "ACTIVE")
    assert result["nodepool"]["labels"] == {"by": "hand"}


def test_what_is_set_of_an_adopted_group_is_changed(wire: Wire) -> None:
    expect_theirs(wire)
    types = [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": types}, {"InstanceTypes": [TYPE]})
    expect_templates(wire)
    labels = {"nvidia.com/gpu.present": "true", "nvidia.com/device-plugin.config": THEIRS}
    request = {**THEIR_SUBJECT, "scalingConfig": {"maxSize": 9}, "labels": {"addOrUpdateLabels": labels}}
    wire.expect("eks:UpdateNodegroupConfig", request, {"update": {"id": "u-1"}})
    tags = {"team": "ml", "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu": "4"}
    wire.expect("eks:TagResource", {"resourceArn": THEIR_ARN, "tags": tags})
    update = {"name": "demo", "nodegroupName": THEIRS, "updateId": "u-1"}
    wire.expect("eks:DescribeUpdate", update, {"update": {"id": "u-1", "status": "Successful"}})
    scaling = {"minSize": 1, "maxSize": 9, "desiredSize": 1}
    wire.expect("eks:DescribeNodegroup", THEIR_SUBJECT, theirs(scalingConfig=scaling, labels={"by": "hand", **labels}))
    given = {"scaling": {"max": 9}, "sharing": {"strategy": "time_slicing", "replicas": 4}, "tags": {"team": "ml"}}
    result = wire.run(main, {**ADOPT, **given})
    assert actions(result) == ["eks:UpdateNodegroupConfig", "eks:TagResource"]
    assert result["nodepool"]["labels"] == {"by": "hand", **labels}


def test_the_launch_template_of_an_adopted_group_is_its_makers(wire: Wire) -> None:
    expect_theirs(wire)
    expect_templates(wire)
    result = wire.run(main, {**ADOPT, "disk": {"size_gib": 300}})
    assert [(fault["path"], fault["source"]) for fault in result["faults"]] == [
        ("disk", "the collection's rules for what somebody else made")
    ]


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda module, message, **kwargs: said.append(message))
    return said


def test_an_adopted_group_is_not_deleted(wire: Wire, warned: list[str]) -> None:
    expect_place(wire, THEIRS, subnets=(), types=False, absent=True)
    wire.expect("eks:DescribeNodegroup", THEIR_SUBJECT, theirs())
    expect_templates(wire)
    wire.expect_error("iam:GetRole", {"RoleName": f"demo-us-west-2-{THEIRS}-node"}, "NoSuchEntity")
    result = wire.run(main, {"cluster_name": "demo", "name": THEIRS, "state": "absent"})
    assert (actions(result), result["changed"]) == ([], False)
    assert warned == ["Node group theirs was made by somebody else and stays; its maker has to remove it."]


def test_what_the_pool_was_with_auto_scaling_groups_is_named(wire: Wire, warned: list[str]) -> None:
    marks = {"gpuops.eks/owner": OWNER, "gpuops.eks/component": "auto-scaling-group", "gpuops.eks/pool": "inference"}
    tags = [{"Key": key, "Value": value} for key, value in marks.items()]
    expect_place(wire, NAME)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    expect_templates(
        wire, TEMPLATE, {"LaunchTemplateId": "lt-9", "LaunchTemplateName": "of-before", "LatestVersionNumber": 1, "Tags": tags}
    )
    assert actions(wire.run(main, PARAMS)) == []
    assert warned == [
        "Pool inference still has Auto Scaling groups of its former provisioner, which stay with their nodes; prune: true would remove them."
    ]


GROUP = f"eks-{NAME}-1"
UNNEEDED = "k8s.io/cluster-autoscaler/node-template/autoscaling-options/scaledownunneededtime"
CONSOLIDATING = {**PARAMS, "disruption": {"consolidate_after": "5m"}}
TAG = {"ResourceId": GROUP, "ResourceType": "auto-scaling-group", "Key": UNNEEDED, "Value": "5m", "PropagateAtLaunch": False}


def expect_scaling_tags(wire: Wire, *tags: dict[str, t.Any]) -> None:
    filters = [{"Name": "auto-scaling-group", "Values": [GROUP]}, {"Name": "key", "Values": [UNNEEDED]}]
    wire.expect("autoscaling:DescribeTags", {"Filters": filters}, {"Tags": list(tags)})


@pytest.mark.parametrize("wait", [True, False])
def test_the_auto_scaling_group_of_a_new_group_is_tagged_by_its_name(wire: Wire, wait: bool) -> None:
    expect_place(wire)
    expect_templates(wire)
    expect_names(wire)
    expect_role(wire)
    wire.expect("ec2:CreateLaunchTemplate", CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    wire.expect("eks:CreateNodegroup", CREATE_NODEGROUP, nodegroup("CREATING"))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup("CREATING", resources={}))
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    wire.expect("autoscaling:CreateOrUpdateTags", {"Tags": [TAG]})
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    result = wire.run(main, {**CONSOLIDATING, "wait": wait})
    assert actions(result) == ["ec2:CreateLaunchTemplate", "eks:CreateNodegroup", "autoscaling:CreateOrUpdateTags"]
    assert result["plan"][2]["target"] == f"planned:auto-scaling-group/{NAME}"
    assert result["progress"] == [f"DescribeNodegroup {NAME}: CREATING", f"DescribeNodegroup {NAME}: ACTIVE"]


def test_the_tag_is_looked_at_where_the_pool_says_what_it_is(wire: Wire) -> None:
    expect_place(wire, NAME)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    expect_scaling_tags(wire, TAG)
    expect_templates(wire, TEMPLATE)
    assert actions(wire.run(main, CONSOLIDATING)) == []


def test_a_tag_that_is_otherwise_is_set(wire: Wire) -> None:
    expect_place(wire, NAME)
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    expect_scaling_tags(wire, {**TAG, "Value": "10m"})
    expect_templates(wire, TEMPLATE)
    wire.expect("autoscaling:CreateOrUpdateTags", {"Tags": [TAG]})
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup())
    result = wire.run(main, CONSOLIDATING)
    assert actions(result) == ["autoscaling:CreateOrUpdateTags"]
    assert result["diff"] == {
        "before": {NAME: {"disruption.consolidate_after": "10m"}},
        "after": {NAME: {"disruption.consolidate_after": "5m"}},
    }


PARAMETER = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended/release_version"
NAMED_PARAMETER = PARAMETER.replace("recommended", "amazon-eks-node-al2023-x86_64-nvidia-1.36-v20260701")
HAS = "1.36.1-20260724"
NEWER = "1.36.2-20260801"


def expect_release(wire: Wire, parameter: str, release: str | None, **changes: t.Any) -> None:
    """A group that is there, and what SSM says of a release."""
    expect_place(wire, NAME, cluster="ACTIVE", version="1.36")
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(version="1.36", **changes))
    expect_templates(wire, TEMPLATE)
    if release is None:
        wire.expect_error("ssm:GetParameter", {"Name": parameter}, "ParameterNotFound")
    else:
        wire.expect("ssm:GetParameter", {"Name": parameter}, {"Parameter": {"Name": parameter, "Value": release}})


def latest(name: str = "latest") -> dict[str, t.Any]:
    return {**PARAMS, "ami": {"release": name}}


def test_the_newest_release_replaces_the_nodes(wire: Wire) -> None:
    expect_release(wire, PARAMETER, NEWER)
    wire.expect("eks:UpdateNodegroupVersion", {**SUBJECT, "releaseVersion": NEWER}, {"update": {"id": "u-1"}})
    update = {"name": "demo", "nodegroupName": NAME, "updateId": "u-1"}
    for status in ("InProgress", "Successful"):
        wire.expect("eks:DescribeUpdate", update, {"update": {"id": "u-1", "status": status}})
    wire.expect("eks:DescribeNodegroup", SUBJECT, nodegroup(releaseVersion=NEWER))
    result = wire.run(main, latest())
    assert result["plan"] == [
        {
            "action": "eks:UpdateNodegroupVersion",
            "target": NAME,
            "effect": "update",
            "fields": ["release_version"],
            "reason": "nodes are replaced, as update.max_unavailable allows",
        }
    ]
    assert result["diff"] == {"before": {NAME: {"release_version": HAS}}, "after": {NAME: {"release_version": NEWER}}}


@pytest.mark.parametrize("release", [HAS, "1.36.1-20260701"])
def test_a_group_that_has_the_newest_release_or_a_later_one_stays(wire: Wire, release: str) -> None:
    expect_release(wire, PARAMETER, release)
    assert actions(wire.run(main, latest())) == []


def test_a_group_is_not_taken_back_to_a_release_that_is_named(wire: Wire) -> None:
    expect_release(wire, NAMED_PARAMETER, "1.36.1-20260701")
    result = wire.run(main, latest("v20260701"))
    assert [(fault["path"], fault["value"]) for fault in result["faults"]] == [("ami.release", "v20260701")]


def test_a_release_that_does_not_exist_is_refused(wire: Wire) -> None:
    expect_release(wire, NAMED_PARAMETER, None)
    result = wire.run(main, latest("v20260701"))
    assert [(fault["path"], fault["source"]) for fault in result["faults"]] == [("ami.release", "ssm:GetParameter")]


def test_a_release_in_check_mode_is_only_planned(wire: Wire) -> None:
    expect_release(wire, PARAMETER, NEWER)
    assert actions(wire.run(main, latest(), check_mode=True)) == ["eks:UpdateNodegroupVersion"]
