# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may take the roles of the controllers that scale a cluster, and what they may do."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.filter.controller_iam_roles import controller_iam_roles

ARN = "arn:aws:eks:us-west-2:123456789012:cluster/demo"
QUEUE = "arn:aws:sqs:us-west-2:123456789012:demo"
NODES = "arn:aws:iam::123456789012:role/demo-us-west-2-node"
ALL = ["karpenter", "cluster-autoscaler", "aws-node-termination-handler"]
MOST = 10240  # characters of a role's own policies, without white space (IAM and STS quotas)
_READS = ("Describe", "List", "Get")


def roles(owner: str = ARN, **settings: t.Any) -> dict[str, dict[str, t.Any]]:
    queues = dict.fromkeys(("karpenter", "aws-node-termination-handler"), QUEUE)
    return {role["component"]: role for role in controller_iam_roles(ALL, owner, **{"node_roles": [NODES], "queues": queues, **settings})}


def statements(controller: str, **settings: t.Any) -> dict[str, dict[str, t.Any]]:
    return {statement["Sid"]: statement for statement in roles(**settings)[controller]["policy"]["Statement"]}


def test_karpenter_hands_out_the_roles_of_pools_that_have_their_own() -> None:
    passed = statements("karpenter", pools=["gpu"], path="/nodes/")["PassNodeRoles"]
    assert passed["Resource"] == [NODES, "arn:aws:iam::123456789012:role/nodes/demo-us-west-2-gpu-node"]


@pytest.mark.parametrize("controller", ALL)
def test_only_the_controllers_own_pods_of_this_cluster_take_its_role(controller: str) -> None:
    [statement] = roles()[controller]["trust"]["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {
        "aws:RequestTag/eks-cluster-arn": ARN,
        "aws:RequestTag/kubernetes-namespace": "kube-system",
        "aws:RequestTag/kubernetes-service-account": controller,
    }
    assert roles()[controller]["name"] == f"demo-us-west-2-{controller}"


@pytest.mark.parametrize("controller", ALL)
def test_of_any_resource_there_is_only_reading(controller: str) -> None:
    for statement in statements(controller).values():
        if statement["Resource"] == ["*"]:
            assert all(action.split(":")[1].startswith(_READS) for action in statement["Action"]), statement
        assert not [action for action in statement["Action"] if "*" in action]


@pytest.mark.parametrize("controller", ALL)
def test_what_changes_something_is_narrowed_by_a_tag_or_names_its_resource(controller: str) -> None:
    unnarrowed = {
        sid: statement
        for sid, statement in statements(controller).items()
        if not all(action.split(":")[1].startswith(_READS) for action in statement["Action"])
        and not any("aws:ResourceTag/" in key or "aws:RequestTag/" in key for key in _conditions(statement))
    }
    expected = {"karpenter": {"LaunchWith", "PassNodeRoles", "ReadQueue"}, "aws-node-termination-handler": {"ReadQueue"}}
    assert set(unnarrowed) == expected.get(controller, set())
    assert "instance/*" not in json.dumps(unnarrowed)


def _conditions(statement: t.Mapping[str, t.Any]) -> list[str]:
    return [key for keys in statement.get("Condition", {}).values() for key in keys]


def test_karpenter_deletes_and_tags_only_what_carries_cluster_and_pool() -> None:
    found = statements("karpenter")
    owned = {"aws:ResourceTag/kubernetes.io/cluster/demo": "owned"}
    for sid in ("DeleteOwn", "TagOwnInstances", "LaunchFromOwnTemplates"):
        assert found[sid]["Condition"]["StringEquals"] == owned
        assert found[sid]["Condition"]["StringLike"] == {"aws:ResourceTag/karpenter.sh/nodepool": "*"}
    new = {"aws:RequestTag/kubernetes.io/cluster/demo": "owned", "aws:RequestTag/eks:eks-cluster-name": "demo"}
    assert found["LaunchTagged"]["Condition"]["StringEquals"] == new
    creations = ["RunInstances", "CreateFleet", "CreateLaunchTemplate"]
    assert found["TagAtCreation"]["Condition"]["StringEquals"] == {**new, "ec2:CreateAction": creations}
    assert found["TagOwnInstances"]["Condition"]["ForAllValues:StringEquals"]["aws:TagKeys"] == [
        "eks:eks-cluster-name",
        "karpenter.sh/nodeclaim",
        "Name",
    ]


def test_karpenter_launches_with_what_is_there_but_makes_only_what_is_tagged() -> None:
    found = statements("karpenter")
    used = {resource.rpartition(":")[2].partition("/")[0] for resource in found["LaunchWith"]["Resource"]}
    assert used == {"image", "snapshot", "security-group", "subnet", "capacity-reservation", "placement-group"}
    assert "Condition" not in found["LaunchWith"]
    assert "arn:aws:ec2:us-west-2::image/*" in found["LaunchWith"]["Resource"]


def test_karpenter_hands_the_nodes_roles_to_ec2_alone() -> None:
    found = statements("karpenter", node_roles=[NODES, "own-role"])["PassNodeRoles"]
    assert found["Resource"] == [NODES, "arn:aws:iam::123456789012:role/own-role"]
    assert found["Condition"] == {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    assert "PassNodeRoles" not in statements("karpenter", node_roles=[])  # pools with instance profiles of their own


def test_karpenter_changes_only_profiles_that_it_made_for_this_cluster_in_this_region() -> None:
    found = statements("karpenter")
    own = {"kubernetes.io/cluster/demo": "owned", "topology.kubernetes.io/region": "us-west-2"}
    assert found["ChangeOwnProfiles"]["Condition"]["StringEquals"] == {f"aws:ResourceTag/{key}": value for key, value in own.items()}
    assert found["MakeProfiles"]["Condition"]["StringLike"] == {"aws:RequestTag/karpenter.k8s.aws/ec2nodeclass": "*"}
    assert found["SeeProfiles"]["Resource"] == ["arn:aws:iam::123456789012:instance-profile/*"]


@pytest.mark.parametrize("controller", ["karpenter", "aws-node-termination-handler"])
def test_a_queue_is_read_by_its_name_and_not_at_all_without_one(controller: str) -> None:
    found = statements(controller)["ReadQueue"]
    assert found["Resource"] == [QUEUE]
    assert (
        {"sqs:DeleteMessage", "sqs:ReceiveMessage"}
        <= set(found["Action"])
        <= {
            "sqs:DeleteMessage",
            "sqs:ReceiveMessage",
            "sqs:GetQueueUrl",
        }
    )
    assert "ReadQueue" not in statements(controller, queues={})


def test_cluster_autoscaler_sizes_only_groups_that_it_discovers() -> None:
    found = statements("cluster-autoscaler")["Scale"]
    assert found["Action"] == ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    assert found["Condition"] == {"StringEquals": {"aws:ResourceTag/k8s.io/cluster-autoscaler/demo": "owned"}}
    assert found["Resource"] == ["arn:aws:autoscaling:us-west-2:123456789012:autoScalingGroup:*:autoScalingGroupName/*"]


def test_the_termination_handler_lets_only_our_groups_go_on() -> None:
    found = statements("aws-node-termination-handler")["LetTerminate"]
    assert found["Condition"] == {"StringEquals": {"aws:ResourceTag/gpuops.eks/owner": ARN}}


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_everything_is_in_the_clusters_partition(partition: str) -> None:
    found = roles(ARN.replace("arn:aws:", f"arn:{partition}:"), node_roles=["nodes"], queues={})
    assert set(re.findall(r"arn:([a-z-]+):", json.dumps(found))) == {partition}
    assert ("ec2.amazonaws.com.cn" in json.dumps(found)) == (partition == "aws-cn")


def test_the_longest_names_fit_into_a_roles_own_policies() -> None:
    owner = f"arn:aws-us-gov:eks:us-gov-west-1:123456789012:cluster/{'x' * 100}"
    queue = f"arn:aws-us-gov:sqs:us-gov-west-1:123456789012:{'q' * 80}"
    found = roles(owner, node_roles=["n" * 64] * 10, queues={"karpenter": queue})
    sizes = {name: len(re.sub(r"\s", "", json.dumps(role["policy"]))) for name, role in found.items()}
    assert max(sizes.values()) == sizes["karpenter"] < MOST
    assert all(len(role["name"]) <= 64 for role in found.values())


def test_boundary_and_tags_are_on_every_role() -> None:
    found = roles(boundary="arn:boundary", tags={"team": "ml"})
    assert {role["boundary"] for role in found.values()} == {"arn:boundary"}
    assert found["karpenter"]["tags"] == {"team": "ml", "gpuops.eks/owner": ARN, "gpuops.eks/component": "karpenter-role"}
