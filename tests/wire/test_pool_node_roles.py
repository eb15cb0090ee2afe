# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_gpu_nodepool with iam.policies through main(): a role for the pool, with each provisioner."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter import Observed, wanted_objects
from ansible_collections.gpuops.eks.plugins.module_utils._run import nodepool, nodepool_asg, nodepool_karpenter, nodepool_managed, patience
from ansible_collections.gpuops.eks.plugins.modules.eks_gpu_nodepool import main

from tests.unit.karpenter_objects import live, settings
from tests.unit.karpenter_objects import target as resolved
from tests.wire import test_eks_gpu_nodepool as managed
from tests.wire import test_karpenter_pools as karpenter
from tests.wire import test_nodepool_asg as groups
from tests.wire.harness import Wire
from tests.wire.kube import KubeWire

ACCOUNT = managed.ACCOUNT
BASE = [
    f"arn:aws:iam::aws:policy/{name}"
    for name in ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore", "AmazonEKS_CNI_Policy")
]
S3, KMS = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess", f"arn:aws:iam::{ACCOUNT}:policy/models"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
NAME = "demo-us-west-2-inference-node"
TAGS = {"gpuops.eks/component": "pool-node-role", "gpuops.eks/nodepool": "inference", "gpuops.eks/owner": managed.OWNER}


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes by itself is not waited for."""
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: None)


def only(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    parts = {"managed_node_group": nodepool_managed, "auto_scaling_group": nodepool_asg, "karpenter": nodepool_karpenter}
    monkeypatch.setattr(nodepool, "_PROVISIONERS", {kind: parts[kind]})


def arn(name: str = NAME) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def role(name: str = NAME, tags: dict[str, str] | None = None) -> dict[str, t.Any]:
    listed = [{"Key": key, "Value": value} for key, value in sorted((TAGS if tags is None else tags).items())]
    return {
        "RoleName": name,
        "Arn": arn(name),
        "Path": "/",
        "RoleId": "AROAEXAMPLEEXAMPLE00",
        "CreateDate": "2026-01-01T00:00:00Z",
        "Tags": listed,
    }


def expect_no_role(wire: Wire, name: str = NAME) -> None:
    wire.expect_error("iam:GetRole", {"RoleName": name}, "NoSuchEntity")


def expect_the_role(wire: Wire, *policies: str, tags: dict[str, str] | None = None) -> None:
    wire.expect("iam:GetRole", {"RoleName": NAME}, {"Role": role(tags=tags)})
    attached = [{"PolicyName": policy.rpartition("/")[2], "PolicyArn": policy} for policy in policies]
    wire.expect("iam:ListAttachedRolePolicies", {"RoleName": NAME}, {"AttachedPolicies": attached})


def expect_policy(wire: Wire, policy: str = S3) -> None:
    wire.expect("iam:GetPolicy", {"PolicyArn": policy}, {"Policy": {"Arn": policy}})


def create_role(name: str = NAME, pool: str = "inference", **more: t.Any) -> dict[str, t.Any]:
    tags = {**TAGS, "gpuops.eks/nodepool": pool}
    return {
        "RoleName": name,
        "Path": "/",
        "AssumeRolePolicyDocument": json.dumps(TRUST),
        "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
        **more,
    }


def expect_made(wire: Wire, name: str = NAME, pool: str = "inference") -> None:
    wire.expect("iam:CreateRole", create_role(name, pool), {"Role": role(name)})
    for policy in (*BASE, S3):
        wire.expect("iam:AttachRolePolicy", {"RoleName": name, "PolicyArn": policy})


def expect_entered(wire: Wire, name: str = NAME, pool: str = "inference") -> None:
    tags = {**TAGS, "gpuops.eks/nodepool": pool}
    request = {"clusterName": "demo", "principalArn": arn(name), "type": "EC2_LINUX", "tags": tags}
    wire.expect("eks:CreateAccessEntry", request, {"accessEntry": request})


def expect_entry(wire: Wire, **entry: t.Any) -> None:
    about = {"clusterName": "demo", "principalArn": arn()}
    wire.expect("eks:DescribeAccessEntry", about, {"accessEntry": {**about, "type": "EC2_LINUX", **entry}})


def expect_place(wire: Wire) -> None:
    """What all pools have in common."""
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": {"name": "demo", "status": "ACTIVE"}})
    found = [{"SubnetId": "subnet-a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}]
    wire.expect("ec2:DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ["subnet-a"]}]}, {"Subnets": found})
    managed.expect_types(wire)


def expect_no_group(wire: Wire) -> None:
    wire.expect("eks:ListNodegroups", {"clusterName": "demo"}, {"nodegroups": []})
    managed.expect_templates(wire)
    managed.expect_names(wire)


M = {**managed.PARAMS, "iam": {"policies": [S3]}}
CREATE_NODEGROUP = {**managed.CREATE_NODEGROUP, "nodeRole": arn()}
MADE = ["iam:CreateRole", *["iam:AttachRolePolicy"] * 5]


def test_a_node_group_has_a_role_that_eks_lets_join_by_itself(wire: Wire) -> None:
    expect_place(wire)
    expect_no_role(wire)
    expect_policy(wire)
    expect_no_group(wire)
    expect_made(wire)
    wire.expect("ec2:CreateLaunchTemplate", managed.CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    wire.expect("eks:CreateNodegroup", CREATE_NODEGROUP, managed.nodegroup("CREATING", nodeRole=arn()))
    for _look in range(2):
        wire.expect("eks:DescribeNodegroup", managed.SUBJECT, managed.nodegroup(nodeRole=arn()))
    result = wire.run(main, M)
    assert managed.actions(result) == [*MADE, "ec2:CreateLaunchTemplate", "eks:CreateNodegroup"]
    assert {step["target"] for step in result["plan"][:6]} == {NAME}
    assert result["diff"]["after"][NAME] == {"policies": sorted([*BASE, S3])}


def test_check_mode_plans_the_same(wire: Wire) -> None:
    expect_place(wire)
    expect_no_role(wire)
    expect_policy(wire)
    expect_no_group(wire)
    result = wire.run(main, M, check_mode=True)
    assert managed.actions(result) == [*MADE, "ec2:CreateLaunchTemplate", "eks:CreateNodegroup"]


def expect_existing(wire: Wire, *policies: str, user: tuple[str, ...] = ()) -> None:
    expect_place(wire)
    expect_the_role(wire, *policies)
    for policy in user:
        expect_policy(wire, policy)
    wire.expect("eks:ListNodegroups", {"clusterName": "demo"}, {"nodegroups": [managed.NAME]})
    wire.expect("eks:DescribeNodegroup", managed.SUBJECT, managed.nodegroup(nodeRole=arn()))
    managed.expect_templates(wire, managed.TEMPLATE)


def test_nothing_to_do(wire: Wire) -> None:
    expect_existing(wire, *BASE, S3)
    assert managed.actions(wire.run(main, M)) == []


def test_another_list_changes_the_role_in_place(wire: Wire) -> None:
    expect_existing(wire, *BASE, S3, user=(KMS,))
    wire.expect("iam:AttachRolePolicy", {"RoleName": NAME, "PolicyArn": KMS})
    wire.expect("iam:DetachRolePolicy", {"RoleName": NAME, "PolicyArn": S3})
    wire.expect("eks:DescribeNodegroup", managed.SUBJECT, managed.nodegroup(nodeRole=arn()))
    result = wire.run(main, {**M, "iam": {"policies": [KMS]}})
    assert [(step["action"], step["reason"]) for step in result["plan"]] == [
        ("iam:AttachRolePolicy", "models"),
        ("iam:DetachRolePolicy", "AmazonS3ReadOnlyAccess"),
    ]
    assert result["diff"] == {
        "before": {NAME: {"policies": sorted([*BASE, S3])}},
        "after": {NAME: {"policies": sorted([*BASE, KMS])}},
    }


def test_an_interrupted_run_is_taken_up(wire: Wire) -> None:
    """The role is there with half of its policies, and nothing else."""
    expect_place(wire)
    expect_the_role(wire, *BASE[:2])
    expect_policy(wire)
    expect_no_group(wire)
    result = wire.run(main, M, check_mode=True)
    assert managed.actions(result)[:4] == ["iam:AttachRolePolicy"] * 3 + ["ec2:CreateLaunchTemplate"]


def test_what_every_node_needs_path_and_boundary_are_options(wire: Wire) -> None:
    boundary = f"arn:aws:iam::{ACCOUNT}:policy/boundary"
    expect_place(wire)
    expect_no_role(wire)
    expect_policy(wire)
    expect_no_group(wire)
    options = {"node_policies": BASE[:1], "iam_path": "/nodes/", "permissions_boundary": boundary}
    wire.expect("iam:CreateRole", create_role(Path="/nodes/", PermissionsBoundary=boundary), {"Role": role()})
    for policy in (BASE[0], S3):
        wire.expect("iam:AttachRolePolicy", {"RoleName": NAME, "PolicyArn": policy})
    wire.expect("ec2:CreateLaunchTemplate", managed.CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    request = {**CREATE_NODEGROUP, "nodeRole": f"arn:aws:iam::{ACCOUNT}:role/nodes/{NAME}"}
    wire.expect("eks:CreateNodegroup", request, managed.nodegroup("CREATING"))
    for _look in range(2):
        wire.expect("eks:DescribeNodegroup", managed.SUBJECT, managed.nodegroup())
    assert not wire.run(main, {**M, **options}).get("failed")


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"node_policies": ["one"]}, "node_policies[0]"),
        ({"iam_path": "nodes"}, "iam_path"),
        ({"permissions_boundary": "boundary"}, "permissions_boundary"),
    ],
)
def test_options_that_iam_does_not_take(wire: Wire, options: dict[str, t.Any], path: str) -> None:
    assert [fault["path"] for fault in wire.run(main, {**M, **options})["faults"]] == [path]


def test_a_policy_that_does_not_exist_is_found_before_the_first_write(wire: Wire) -> None:
    expect_place(wire)
    expect_no_role(wire)
    wire.expect_error("iam:GetPolicy", {"PolicyArn": S3}, "NoSuchEntity")
    expect_no_group(wire)
    [fault] = wire.run(main, M)["faults"]
    assert (fault["path"], fault["value"]) == ("iam.policies[0]", S3)


def test_somebody_elses_role_of_that_name_is_left_alone(wire: Wire) -> None:
    expect_place(wire)
    expect_the_role(wire, tags={})
    expect_policy(wire)
    expect_no_group(wire)
    [fault] = wire.run(main, M)["faults"]
    assert (fault["path"], fault["allowed"]) == ("name", f"another name: IAM role {NAME} is somebody else's")


def test_a_role_goes_with_its_pool_once_no_node_has_it(wire: Wire) -> None:
    managed.expect_place(wire, managed.NAME, subnets=(), types=False, absent=True)
    wire.expect("eks:DescribeNodegroup", managed.SUBJECT, managed.nodegroup(nodeRole=arn()))
    managed.expect_templates(wire, managed.TEMPLATE)
    wire.expect("eks:DeleteNodegroup", managed.SUBJECT, managed.nodegroup("DELETING"))
    wire.expect_error("eks:DescribeNodegroup", managed.SUBJECT, "ResourceNotFoundException")
    wire.expect("ec2:DeleteLaunchTemplate", {"LaunchTemplateId": "lt-1"})
    expect_the_role(wire, BASE[0], S3)
    for policy in (BASE[0], S3):
        wire.expect("iam:DetachRolePolicy", {"RoleName": NAME, "PolicyArn": policy})
    wire.expect_error("iam:DeleteRole", {"RoleName": NAME}, "DeleteConflict")
    wire.expect("iam:DeleteRole", {"RoleName": NAME})
    result = wire.run(main, {"cluster_name": "demo", "name": "inference", "state": "absent", "wait_interval": 0.001})
    assert managed.actions(result)[2:] == ["iam:DetachRolePolicy", "iam:DetachRolePolicy", "iam:DeleteRole"]


def test_somebody_elses_role_is_not_deleted(wire: Wire) -> None:
    managed.expect_place(wire, subnets=(), types=False, absent=True)
    managed.expect_templates(wire)
    expect_the_role(wire, S3, tags={**TAGS, "gpuops.eks/nodepool": "other"})
    result = wire.run(main, {"cluster_name": "demo", "name": "inference", "state": "absent"})
    assert managed.actions(result) == []


def test_the_role_of_a_pool_that_left_is_pruned_after_its_nodes(wire: Wire) -> None:
    managed.expect_place(wire, managed.OLD, "other", types=False)
    managed.expect_old(wire)
    managed.expect_templates(wire, managed.OLD_TEMPLATE)
    managed.expect_no_scaling_groups(wire, managed.OLD_TEMPLATE, first=False)
    old = "demo-us-west-2-old-node"
    wire.expect("iam:GetRole", {"RoleName": old}, {"Role": role(old, {**TAGS, "gpuops.eks/nodepool": "old"})})
    wire.expect("iam:ListAttachedRolePolicies", {"RoleName": old}, {"AttachedPolicies": []})
    managed.expect_old_deleted(wire)
    wire.expect("iam:DeleteRole", {"RoleName": old})
    result = wire.run(main, {**managed.POOLS, "pools": [], "prune": True})
    assert managed.actions(result) == ["eks:DeleteNodegroup", "ec2:DeleteLaunchTemplate", "iam:DeleteRole"]


A = {**groups.PARAMS, "iam": {"policies": [S3]}}


def test_an_auto_scaling_groups_nodes_join_by_an_entry_of_ours(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "auto_scaling_group")
    groups.expect_place(wire)
    expect_no_role(wire)
    expect_policy(wire)
    groups.expect_none(wire)
    groups.expect_image(wire)
    groups.expect_no_profile(wire)
    expect_made(wire)
    expect_entered(wire)
    wire.expect("ec2:CreateLaunchTemplate", groups.CREATE_TEMPLATE, {"LaunchTemplate": {"LaunchTemplateId": "lt-1"}})
    request = {"InstanceProfileName": groups.PROFILE, "Tags": groups.listed(groups.TEMPLATE_TAGS)}
    wire.expect("iam:CreateInstanceProfile", request, groups.profile(None))
    both = {"InstanceProfileName": groups.PROFILE, "RoleName": NAME}
    wire.expect_error("iam:AddRoleToInstanceProfile", both, "NoSuchEntity")
    wire.expect("iam:AddRoleToInstanceProfile", both)
    wire.expect("autoscaling:CreateAutoScalingGroup", groups.CREATE_GROUP)
    wire.expect("autoscaling:SuspendProcesses", groups.SUSPEND)
    wire.expect("autoscaling:DescribeAutoScalingGroups", groups.NAMED, groups.group())
    result = wire.run(main, {**A, "wait": False})
    assert groups.actions(result) == [*MADE, "eks:CreateAccessEntry", *groups.CREATES]


def test_an_auto_scaling_group_that_is_there_gets_the_role_in_its_profile(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "auto_scaling_group")
    groups.expect_place(wire)
    expect_the_role(wire, *BASE, S3)
    expect_entry(wire)
    wire.expect("autoscaling:DescribeAutoScalingGroups", groups.BY_OWNER, groups.group())
    wire.expect("ec2:DescribeLaunchTemplates", groups.BY_OWNER, {"LaunchTemplates": [groups.TEMPLATE]})
    groups.expect_version(wire)
    groups.expect_profile(wire)
    result = wire.run(main, A, check_mode=True)
    assert groups.actions(result) == ["iam:RemoveRoleFromInstanceProfile", "iam:AddRoleToInstanceProfile"]


def test_an_entry_by_which_no_node_joins_is_refused(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "auto_scaling_group")
    groups.expect_place(wire)
    expect_the_role(wire, *BASE, S3)
    expect_entry(wire, type="STANDARD")
    groups.expect_none(wire)
    groups.expect_image(wire)
    groups.expect_no_profile(wire)
    [fault] = wire.run(main, A)["faults"]
    assert (fault["path"], fault["source"]) == ("iam.policies", "eks:DescribeAccessEntry")


def test_the_entry_of_a_role_goes_first(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "auto_scaling_group")
    groups.expect_absent(wire, {"AutoScalingGroups": []})
    expect_the_role(wire)
    expect_entry(wire, tags=TAGS)
    wire.expect("eks:DeleteAccessEntry", {"clusterName": "demo", "principalArn": arn()})
    wire.expect("iam:DeleteRole", {"RoleName": NAME})
    assert groups.actions(wire.run(main, groups.ABSENT)) == ["eks:DeleteAccessEntry", "iam:DeleteRole"]


@pytest.mark.parametrize("mode", ["CONFIG_MAP", "API_AND_CONFIG_MAP"])
def test_karpenters_nodes_take_the_role_of_their_class(kube: KubeWire, wire: Wire, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    only(monkeypatch, "karpenter")
    monkeypatch.setattr(karpenter, "NOW", {**karpenter.NOW, "accessConfig": {"authenticationMode": mode}})
    name = "demo-us-west-2-gpu-node"
    karpenter.observe_aws(wire)
    expect_no_role(wire, name)
    expect_policy(wire)
    wire.expect("ssm:GetParameter", {"Name": karpenter.RELEASE}, {"Parameter": {"Name": karpenter.RELEASE, "Value": "1.36.1-20260724"}})
    pool = resolved(default_role=arn(name), **{key: value for key, value in karpenter.POOL.items() if key != "provisioner"})
    made = [live(one.manifest, ready=True) for one in wanted_objects([pool], Observed(), settings(role=arn(name)))]
    assert made[0]["spec"]["role"] == name
    karpenter.dry_runs(karpenter.observe(kube), made)
    result = kube.run(main, {**karpenter.PARAMS, **karpenter.POOL, "iam": {"policies": [S3]}}, check_mode=True)
    actions = [step["action"] for step in result["plan"]]
    entered = ["eks:CreateAccessEntry"] if mode.startswith("API") else []
    assert actions[:-3] == [*MADE, *entered]
    assert all(action.startswith("kubernetes:patch ") for action in actions[-3:])
