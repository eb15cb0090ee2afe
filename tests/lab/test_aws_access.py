# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access entries and policies (https://docs.aws.amazon.com/eks/latest/userguide/access-entries.html), and what the token webhook gets of them."""

from __future__ import annotations

import typing as t

import pytest

from lab.aws.eks.access import POLICY_PREFIX
from lab.contracts import ClusterRef
from tests.lab.conftest import Aws, ClusterSetup, refused

ADMIN = "arn:aws:iam::123456789012:user/lab-admin"
CLUSTER = ClusterRef(account="123456789012", region="us-west-2", name="lab", version="1.36")
ADMIN_POLICY = POLICY_PREFIX + "AmazonEKSClusterAdminPolicy"
VIEW_POLICY = POLICY_PREFIX + "AmazonEKSViewPolicy"


def groups_and_policies(aws: Aws, principal: str) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]] | None:
    identity = aws.server.identities.access_identity(CLUSTER, principal)
    return None if identity is None else (identity.groups, identity.policies)


def test_the_creator_is_admin_by_an_entry(setup: ClusterSetup) -> None:
    """API bootstrapClusterCreatorAdminPermissions (default true) where the mode includes API."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    assert eks.list_access_entries(clusterName="lab")["accessEntries"] == [ADMIN]
    (policy,) = eks.list_associated_access_policies(clusterName="lab", principalArn=ADMIN)["associatedAccessPolicies"]
    assert (policy["policyArn"], policy["accessScope"]) == (ADMIN_POLICY, {"type": "cluster", "namespaces": []})
    assert groups_and_policies(setup.aws, ADMIN) == ((), (("AmazonEKSClusterAdminPolicy", ()),))


def test_the_creator_is_nobody_when_told_so(setup: ClusterSetup) -> None:
    """API bootstrapClusterCreatorAdminPermissions false."""
    setup.create_cluster(accessConfig={"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": False})
    assert setup.aws.client("eks").list_access_entries(clusterName="lab")["accessEntries"] == []
    assert groups_and_policies(setup.aws, ADMIN) is None


def test_config_map_mode(setup: ClusterSetup) -> None:
    """Entries are refused in CONFIG_MAP mode; the creator is in by a hidden mapping, which becomes an entry with the mode."""
    setup.create_cluster(accessConfig={})
    setup.create_nodegroup()
    eks = setup.aws.client("eks")
    for call, request in (
        (eks.list_access_entries, {}),
        (eks.create_access_entry, {"principalArn": setup.node_role}),
        (eks.describe_access_entry, {"principalArn": ADMIN}),
    ):
        code, text = refused(call, clusterName="lab", **request)
        assert code == "InvalidRequestException"
        assert "must be set to one of [API, API_AND_CONFIG_MAP]" in text
    assert groups_and_policies(setup.aws, ADMIN) == (("system:masters",), ())
    assert groups_and_policies(setup.aws, setup.node_role) is None
    direct = {"authenticationMode": "API"}
    assert "Unsupported authentication mode update" in refused(eks.update_cluster_config, name="lab", accessConfig=direct)[1]
    eks.update_cluster_config(name="lab", accessConfig={"authenticationMode": "API_AND_CONFIG_MAP"})
    setup.aws.pass_time()
    assert eks.list_access_entries(clusterName="lab")["accessEntries"] == sorted([setup.node_role, ADMIN])
    assert groups_and_policies(setup.aws, ADMIN) == ((), (("AmazonEKSClusterAdminPolicy", ()),))


def test_the_life_of_an_entry(setup: ClusterSetup) -> None:
    """API Create, Describe, Update, List, DeleteAccessEntry; Associate, DisassociateAccessPolicy."""
    setup.create_cluster()
    role = setup.aws.role("people", "ec2.amazonaws.com")
    eks = setup.aws.client("eks")
    entry = eks.create_access_entry(clusterName="lab", principalArn=role, kubernetesGroups=["viewers"], tags={"a": "b"})["accessEntry"]
    assert entry["type"] == "STANDARD"
    assert entry["username"] == "arn:aws:sts::123456789012:assumed-role/people/{{SessionName}}"
    assert entry["accessEntryArn"].startswith("arn:aws:eks:us-west-2:123456789012:access-entry/lab/role/123456789012/people/")
    assert refused(eks.create_access_entry, clusterName="lab", principalArn=role)[0] == "ResourceInUseException"
    scope = {"type": "namespace", "namespaces": ["gpu", "team-*"]}
    eks.associate_access_policy(clusterName="lab", principalArn=role, policyArn=VIEW_POLICY, accessScope=scope)
    assert groups_and_policies(setup.aws, role) == (("viewers",), (("AmazonEKSViewPolicy", ("gpu", "team-*")),))
    assert eks.list_access_entries(clusterName="lab", associatedPolicyArn=VIEW_POLICY)["accessEntries"] == [role]
    eks.associate_access_policy(clusterName="lab", principalArn=role, policyArn=VIEW_POLICY, accessScope={"type": "cluster"})
    assert groups_and_policies(setup.aws, role) == (("viewers",), (("AmazonEKSViewPolicy", ()),))
    eks.disassociate_access_policy(clusterName="lab", principalArn=role, policyArn=VIEW_POLICY)
    assert (
        refused(eks.disassociate_access_policy, clusterName="lab", principalArn=role, policyArn=VIEW_POLICY)[0]
        == "ResourceNotFoundException"
    )
    eks.update_access_entry(clusterName="lab", principalArn=role, kubernetesGroups=[], username="people")
    identity = setup.aws.server.identities.access_identity(CLUSTER, role)
    assert identity is not None
    assert (identity.username, identity.groups) == ("people", ())
    eks.delete_access_entry(clusterName="lab", principalArn=role)
    assert groups_and_policies(setup.aws, role) is None
    assert refused(eks.describe_access_entry, clusterName="lab", principalArn=role)[0] == "ResourceNotFoundException"


REFUSALS: list[tuple[str, dict[str, t.Any], str]] = [
    ("terraform-aws-eks#2969: unknown principal", {"principalArn": "arn:aws:iam::123456789012:role/none"}, "invalid principal"),
    ("API type", {"type": "EC2_SOLARIS"}, "is invalid"),
    ("API kubernetesGroups of node types", {"type": "EC2_LINUX", "kubernetesGroups": ["x"]}, "cannot have kubernetesGroups"),
    ("User guide: reserved groups", {"kubernetesGroups": ["system:masters"]}, "cannot start with"),
    ("User guide: reserved usernames", {"username": "eks:me"}, "cannot start with"),
]


@pytest.mark.parametrize(("source", "changes", "message"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_create_refuses(setup: ClusterSetup, source: str, changes: dict[str, t.Any], message: str) -> None:
    setup.create_cluster()
    request = {"clusterName": "lab", "principalArn": setup.node_role, **changes}
    code, text = refused(setup.aws.client("eks").create_access_entry, **request)
    assert code == "InvalidParameterException", source
    assert message in text, source


def test_association_refuses(setup: ClusterSetup) -> None:
    """API AssociateAccessPolicy: known policies, scopes with their namespaces, not on node types."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    rows: list[tuple[str, dict[str, t.Any], str]] = [
        (ADMIN_POLICY + "s", {"type": "cluster"}, "format is not valid"),
        (ADMIN_POLICY, {"type": "namespace"}, "Namespaces are required"),
        (ADMIN_POLICY, {"type": "cluster", "namespaces": ["a"]}, "Namespaces are required"),
    ]
    for policy, scope, message in rows:
        assert (
            message in refused(eks.associate_access_policy, clusterName="lab", principalArn=ADMIN, policyArn=policy, accessScope=scope)[1]
        )
    eks.create_access_entry(clusterName="lab", principalArn=setup.node_role, type="EC2_LINUX")
    request = {"clusterName": "lab", "principalArn": setup.node_role, "policyArn": ADMIN_POLICY, "accessScope": {"type": "cluster"}}
    assert "type EC2_LINUX" in refused(eks.associate_access_policy, **request)[1]


def test_policies_are_listed(aws: Aws) -> None:
    """API ListAccessPolicies."""
    listed = {policy["name"]: policy["arn"] for policy in aws.client("eks").list_access_policies()["accessPolicies"]}
    assert listed["AmazonEKSClusterAdminPolicy"] == ADMIN_POLICY
    assert listed["AmazonEKSViewPolicy"] == VIEW_POLICY


def test_keys_and_their_principals(aws: Aws) -> None:
    """lab.contracts.Identities: users' and assumed roles' keys, in the ARN form of access entries."""
    identities = aws.server.identities
    key, secret = aws.server.admin_credentials
    assert (identities.secret_access_key(key), identities.principal_arn(key)) == (secret, ADMIN)
    role = aws.role("people", "ec2.amazonaws.com")
    credentials = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="me")["Credentials"]
    assert identities.secret_access_key(credentials["AccessKeyId"]) == credentials["SecretAccessKey"]
    assert identities.principal_arn(credentials["AccessKeyId"]) == role
    assert identities.secret_access_key("GPUOPSNOBODY00000000") is None
    assert identities.principal_arn("GPUOPSNOBODY00000000") is None
    assert identities.access_identity(CLUSTER, ADMIN) is None
