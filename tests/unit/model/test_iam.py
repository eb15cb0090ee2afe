# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may take a cluster's IAM roles and what they may do; which add-ons a cluster gets."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.filter.cluster_addons import cluster_addons
from ansible_collections.gpuops.eks.plugins.filter.cluster_iam_roles import cluster_iam_roles
from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import IDENTITIES, STORAGE_ADDONS
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner

ARN = "arn:aws:eks:us-west-2:123456789012:cluster/demo"
CORE = [{"name": name} for name in ("vpc-cni", "kube-proxy", "eks-pod-identity-agent", "coredns")]
EVERYTHING = [*CORE, {"name": "amazon-cloudwatch-observability"}, *({"name": name} for name in STORAGE_ADDONS.values())]
KEY = "arn:aws:kms:us-west-2:123456789012:key/0a1b2c3d"


def roles(addons: t.Sequence[dict[str, t.Any]] = CORE, owner: str = ARN, **settings: t.Any) -> dict[str, dict[str, t.Any]]:
    return {role["component"]: role for role in cluster_iam_roles(addons, owner, **settings)}


def policies(role: t.Mapping[str, t.Any]) -> list[str]:
    return [arn.partition("policy/")[2] for arn in role["policies"]]


def statements(role: t.Mapping[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    return {statement["Sid"]: statement for statement in (role["policy"] or {"Statement": []})["Statement"]}


def test_control_plane_nodes_and_the_network_plugin_have_a_role_each() -> None:
    found = roles()
    assert {name: policies(role) for name, role in found.items()} == {
        "cluster": ["AmazonEKSClusterPolicy"],
        "node": ["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore"],
        "vpc-cni": ["AmazonEKS_CNI_Policy"],
    }
    assert found["cluster"]["name"] == "demo-us-west-2-cluster"
    assert found["vpc-cni"]["tags"] == {"gpuops.eks/owner": ARN, "gpuops.eks/component": "vpc-cni-role"}


@pytest.mark.parametrize(
    "addons",
    [
        [],
        [{"name": "vpc-cni"}],  # no agent that hands out credentials
        [{"name": "vpc-cni", "service_account_role_arn": "arn:own"}, {"name": "eks-pod-identity-agent"}],
        [{"name": "vpc-cni", "pod_identity_associations": []}, {"name": "eks-pod-identity-agent"}],
    ],
)
def test_without_a_role_of_its_own_the_network_plugin_takes_the_nodes_permissions(addons: list[dict[str, t.Any]]) -> None:
    found = roles(addons)
    assert set(found) == {"cluster", "node"}
    assert "AmazonEKS_CNI_Policy" in policies(found["node"])


def test_a_pods_role_can_only_be_taken_by_that_add_ons_pods_of_that_cluster() -> None:
    [statement] = roles()["vpc-cni"]["trust"]["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Action"] == ["sts:AssumeRole", "sts:TagSession"]
    assert statement["Condition"] == {
        "StringEquals": {
            "aws:RequestTag/eks-cluster-arn": ARN,
            "aws:RequestTag/kubernetes-namespace": "kube-system",
            "aws:RequestTag/kubernetes-service-account": "aws-node",
        }
    }


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov", "aws-cn"])
def test_everything_is_in_the_clusters_partition(partition: str) -> None:
    owner = ARN.replace("arn:aws:", f"arn:{partition}:")
    found = roles(EVERYTHING, owner, load_balancer_controller=True, buckets=["data"])
    texts = [arn for role in found.values() for arn in role["policies"]]
    texts += [
        resource
        for role in found.values()
        for statement in statements(role).values()
        for resource in statement["Resource"]
        if resource != "*"
    ]
    assert len(texts) > 20
    assert {text.split(":")[1] for text in texts} == {partition}
    suffix = ".cn" if partition == "aws-cn" else ""
    assert found["node"]["trust"]["Statement"][0]["Principal"] == {"Service": f"ec2.amazonaws.com{suffix}"}


def test_every_add_on_that_needs_aws_gets_a_role() -> None:
    found = roles(EVERYTHING, load_balancer_controller=True, buckets=["data"])
    assert set(found) == {"cluster", "node", *IDENTITIES}
    assert all(role["policies"] or role["policy"] for role in found.values())


def test_no_role_may_do_everything_with_everything() -> None:
    """Of any resource there is only reading, and what AWS does not let a policy narrow."""
    for role in roles(EVERYTHING, load_balancer_controller=True, buckets=["data"]).values():
        for statement in statements(role).values():
            if statement["Resource"] == ["*"]:
                assert all(action.split(":")[1].startswith(("Describe", "List", "Get")) for action in statement["Action"]), statement
            assert "*" not in statement["Action"]


def test_the_ebs_driver_uses_the_clusters_key_alone() -> None:
    made = statements(roles(EVERYTHING)["aws-ebs-csi-driver"])
    assert made["UseKey"]["Condition"] == {"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/gpuops-eks/demo/volumes"}}
    assert made["GrantToEbs"]["Condition"]["Bool"] == {"kms:GrantIsForAWSResource": "true"}
    given = statements(roles(EVERYTHING, volumes_key=KEY)["aws-ebs-csi-driver"])
    assert given["UseKey"]["Resource"] == given["GrantToEbs"]["Resource"] == [KEY]
    assert "Condition" not in given["UseKey"]
    assert roles(EVERYTHING, volumes_encryption=False)["aws-ebs-csi-driver"]["policy"] is None


def test_the_load_balancer_controller_changes_only_what_carries_its_clusters_tag() -> None:
    found = statements(roles(load_balancer_controller=True)["aws-load-balancer-controller"])
    tag = {"elbv2.k8s.aws/cluster": "demo"}
    assert found["ChangeOwn"]["Condition"] == {"StringEquals": {f"aws:ResourceTag/{key}": value for key, value in tag.items()}}
    assert "ec2:AuthorizeSecurityGroupIngress" in found["ChangeOwnGroups"]["Action"]
    assert "elasticloadbalancing:CreateAction" in found["TagAtCreation"]["Condition"]["StringEquals"]
    assert found["MakeLoadBalancers"]["Condition"] == {"StringEquals": {f"aws:RequestTag/{key}": value for key, value in tag.items()}}


def test_mountpoint_reaches_the_named_buckets_only() -> None:
    found = statements(roles(EVERYTHING, buckets=["data"])["aws-mountpoint-s3-csi-driver"])
    assert found["ListBuckets"]["Resource"] == ["arn:aws:s3:::data"]
    assert found["UseObjects"]["Resource"] == ["arn:aws:s3:::data/*"]


def test_boundary_and_tags_are_on_every_role() -> None:
    found = roles(EVERYTHING, boundary="arn:boundary", tags={"team": "ml", "cost": 7})
    assert {role["boundary"] for role in found.values()} == {"arn:boundary"}
    assert all(role["tags"]["team"] == "ml" and role["tags"]["cost"] == "7" for role in found.values())


def test_names_of_roles_stay_within_what_iam_takes() -> None:
    owner = f"arn:aws:eks:ap-southeast-2:123456789012:cluster/{'x' * 100}"
    found = roles(EVERYTHING, owner)
    names = [role["name"] for role in found.values()]
    assert max(map(len, names)) <= 64
    assert len(set(names)) == len(names)


def test_storage_brings_its_driver_and_the_ebs_driver_marks_its_volumes() -> None:
    found = cluster_addons(CORE, ARN, ["ebs", "efs"])
    assert [addon["name"] for addon in found][-2:] == ["aws-ebs-csi-driver", "aws-efs-csi-driver"]
    tags = found[-2]["configuration_values"]["controller"]["extraVolumeTags"]
    assert tags == Owner.from_arn(ARN).tags("volume")


def test_what_the_inventory_says_of_a_driver_stays() -> None:
    own = {"name": "aws-ebs-csi-driver", "configuration_values": {"node": {"x": 1}, "controller": {"extraVolumeTags": {"team": "ml"}}}}
    [found] = cluster_addons([own], ARN, ["ebs"])
    assert found["configuration_values"]["node"] == {"x": 1}
    assert found["configuration_values"]["controller"]["extraVolumeTags"]["team"] == "ml"


def test_roles_versions_and_waits_of_add_ons() -> None:
    pinned = {"name": "coredns", "version": "v1", "wait": True}
    found = cluster_addons(
        [{"name": "vpc-cni"}, {"name": "metrics-server"}, pinned], ARN, role_arns={"vpc-cni": "arn:r"}, version="default"
    )
    assert found == [
        {
            "name": "vpc-cni",
            "version": "default",
            "wait": True,
            "pod_identity_associations": [{"service_account": "aws-node", "role_arn": "arn:r"}],
        },
        {"name": "metrics-server", "version": "default", "wait": False},
        {"name": "coredns", "version": "v1", "wait": True},
    ]


def test_a_clusters_arn_names_its_owner() -> None:
    assert Owner.from_arn(ARN).arn == ARN
    assert Owner.from_arn("arn:aws-cn:eks:cn-north-1:123456789012:cluster/a").partition == "aws-cn"
