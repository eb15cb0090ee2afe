# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The IAM roles of a cluster: who may take each, and what it may do, and no more. Pure.

Sources: Amazon EKS User Guide, "Amazon EKS cluster IAM role", "Amazon EKS node IAM role", "EKS Pod Identity", and the page of each add-on; the
actions of services by the Service Authorization Reference.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.names import key_alias, tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import COMPONENT_TAG, OWNER_TAG, Owner, short_name

Document = dict[str, t.Any]

VERSION = "2012-10-17"
NODE_POLICIES = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonSSMManagedInstanceCore")
NETWORK_POLICY = "AmazonEKS_CNI_Policy"
LOAD_BALANCER_CONTROLLER = "aws-load-balancer-controller"
STORAGE_ADDONS: t.Mapping[str, str] = {
    "ebs": "aws-ebs-csi-driver",
    "efs": "aws-efs-csi-driver",
    "fsx": "aws-fsx-csi-driver",
    "s3": "aws-mountpoint-s3-csi-driver",
}
POD_IDENTITY_AGENT = "eks-pod-identity-agent"
_READY_WITHOUT_NODES = ("vpc-cni", "kube-proxy", POD_IDENTITY_AGENT)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides which roles there are: the cluster's owner mark, its add-ons (as the inventory gives them), and what they may reach.

    ``volumes_key`` is the ARN of a key that is given; where it is None the key that the collection makes is meant, by its alias.
    ``node_roles`` are the ARNs of the roles that Karpenter's nodes take, ``queues`` those of interruption queues by who reads them.
    """

    owner: Owner
    addons: tuple[t.Mapping[str, t.Any], ...] = ()
    load_balancer_controller: bool = False
    volumes_encryption: bool = True
    volumes_key: str | None = None
    buckets: tuple[str, ...] = ()
    node_roles: tuple[str, ...] = ()
    queues: t.Mapping[str, str] = field(default_factory=dict)
    boundary: str | None = None
    tags: t.Mapping[str, t.Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What an add-on or a controller takes by Pod Identity: its service account, managed policies by name, and a policy where none of these is
    narrow enough."""

    service_account: str
    namespace: str = "kube-system"
    policies: tuple[str, ...] = ()
    statements: t.Callable[[Settings], list[Document]] | None = None


def cluster_roles(settings: Settings) -> list[Document]:
    """The roles by component (cluster, node, then add-ons): name, component, trust, policies (ARNs), policy (a document or None), boundary, tags."""
    node = (*NODE_POLICIES, *(() if "vpc-cni" in identified(settings) else (NETWORK_POLICY,)))
    roles = [
        _role(settings, "cluster", _service("eks.amazonaws.com"), ("AmazonEKSClusterPolicy",), component="cluster-role"),
        _role(settings, "node", _nodes(settings.owner), node, component="node-role"),
    ]
    return [*roles, *(pod_role(settings, name, IDENTITIES[name]) for name in identified(settings))]


def pod_role(settings: Settings, name: str, identity: Identity) -> Document:
    """The role that the pods of one service account take by Pod Identity."""
    statements = identity.statements(settings) if identity.statements else []
    return _role(settings, name, _pods(settings.owner, identity), identity.policies, statements)


def identified(settings: Settings) -> list[str]:
    """Which add-ons get a role by Pod Identity: those that need AWS and name no role, where the agent runs that hands the credentials out."""
    agent = any(addon["name"] == POD_IDENTITY_AGENT for addon in settings.addons)
    names = [addon["name"] for addon in settings.addons if addon["name"] in IDENTITIES and not _named(addon)] if agent else []
    return [*names, LOAD_BALANCER_CONTROLLER] if settings.load_balancer_controller else names


def _named(addon: t.Mapping[str, t.Any]) -> bool:
    return addon.get("pod_identity_associations") is not None or bool(addon.get("service_account_role_arn"))


def role_name(owner: Owner, component: str) -> str:
    """IAM has one space of names for all regions: the name has cluster and region in it, shortened with a hash at 64 characters."""
    return short_name(owner.cluster_name, owner.region, component, limit=64)


def _role(
    settings: Settings,
    name: str,
    trust: Document,
    policies: t.Iterable[str],
    statements: t.Sequence[Document] = (),
    component: str | None = None,
) -> Document:
    owner = settings.owner
    return {
        "name": role_name(owner, name),
        "component": name,
        "trust": {"Version": VERSION, "Statement": [trust]},
        "policies": [_managed(owner, policy) for policy in policies],
        "policy": {"Version": VERSION, "Statement": list(statements)} if statements else None,
        "boundary": settings.boundary,
        "tags": {**tag_texts(settings.tags), OWNER_TAG: owner.arn, COMPONENT_TAG: component or f"{name}-role"},
    }


def node_policies(owner: Owner) -> list[str]:
    """The ARNs of the policies that nodes need where no add-on has a role of its own."""
    return [_managed(owner, policy) for policy in (*NODE_POLICIES, NETWORK_POLICY)]


def node_trust(owner: Owner) -> Document:
    """Who may take the role of nodes."""
    return {"Version": VERSION, "Statement": [_nodes(owner)]}


def _nodes(owner: Owner) -> Document:
    return _service(f"ec2.amazonaws.com{'.cn' if owner.partition == 'aws-cn' else ''}")


def _managed(owner: Owner, policy: str) -> str:
    return f"arn:{owner.partition}:iam::aws:policy/{policy}"


def _service(principal: str) -> Document:
    return {"Effect": "Allow", "Principal": {"Service": principal}, "Action": "sts:AssumeRole"}


def _pods(owner: Owner, identity: Identity) -> Document:
    """Only the add-on's own pods, and only of this cluster (EKS User Guide, EKS Pod Identity: session tags)."""
    tags = {
        "eks-cluster-arn": owner.arn,
        "kubernetes-namespace": identity.namespace,
        "kubernetes-service-account": identity.service_account,
    }
    return {
        "Effect": "Allow",
        "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {f"aws:RequestTag/{key}": value for key, value in tags.items()}},
    }


def allow(sid: str, actions: t.Sequence[str], resources: t.Sequence[str] = ("*",), **condition: t.Any) -> Document:
    """One statement of a policy."""
    statement: Document = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return {**statement, "Condition": condition} if condition else statement


def _volumes(settings: Settings) -> list[Document]:
    """EBS encrypts with the key on the driver's behalf: it makes grants for AWS resources, and data keys, with this key alone."""
    if not settings.volumes_encryption and settings.volumes_key is None:
        return []
    use = ("kms:Decrypt", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:DescribeKey")
    grants = ("kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant")
    if settings.volumes_key:
        resources, alias = (settings.volumes_key,), {}
    else:
        owner = settings.owner
        resources = (f"arn:{owner.partition}:kms:{owner.region}:{owner.account}:key/*",)
        alias = {"ForAnyValue:StringEquals": {"kms:ResourceAliases": key_alias(owner.cluster_name, "volumes")}}
    return [
        allow("UseKey", use, resources, **alias),
        allow("GrantToEbs", grants, resources, Bool={"kms:GrantIsForAWSResource": "true"}, **alias),
    ]


def _lustre(settings: Settings) -> list[Document]:
    owner = settings.owner
    systems = f"arn:{owner.partition}:fsx:{owner.region}:{owner.account}:file-system/*"
    linked = f"arn:{owner.partition}:iam::{owner.account}:role/aws-service-role/fsx.amazonaws.com/*"
    return [
        allow(
            "SeeFileSystems",
            ("fsx:DescribeFileSystems", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups", "ec2:DescribeNetworkInterfaces"),
        ),
        allow("ManageFileSystems", ("fsx:CreateFileSystem", "fsx:UpdateFileSystem", "fsx:DeleteFileSystem", "fsx:TagResource"), (systems,)),
        allow("MakeTheServiceRole", ("iam:CreateServiceLinkedRole",), (linked,), StringEquals={"iam:AWSServiceName": "fsx.amazonaws.com"}),
    ]


def _buckets(settings: Settings) -> list[Document]:
    """Nothing where no bucket is named: the driver can then be given its role otherwise."""
    if not settings.buckets:
        return []
    arns = [f"arn:{settings.owner.partition}:s3:::{bucket}" for bucket in settings.buckets]
    objects = ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject")
    return [allow("ListBuckets", ("s3:ListBucket",), arns), allow("UseObjects", objects, [f"{arn}/*" for arn in arns])]


def _load_balancers(settings: Settings) -> list[Document]:
    """What the controller reads is open; what it makes carries the cluster's tag from its creation, and only that may it change or delete."""
    tag = {"elbv2.k8s.aws/cluster": settings.owner.cluster_name}
    requested = {"StringEquals": {f"aws:RequestTag/{key}": value for key, value in tag.items()}}
    tagged = {"StringEquals": {f"aws:ResourceTag/{key}": value for key, value in tag.items()}}
    owner = settings.owner
    groups = (f"arn:{owner.partition}:ec2:{owner.region}:{owner.account}:security-group/*",)
    balancing = [f"arn:{owner.partition}:elasticloadbalancing:{owner.region}:{owner.account}:{kind}/*" for kind in _BALANCING]
    return [
        allow("Look", _LOAD_BALANCER_READS),
        allow(
            "MakeTheServiceRole",
            ("iam:CreateServiceLinkedRole",),
            (f"arn:{owner.partition}:iam::{owner.account}:role/aws-service-role/elasticloadbalancing.amazonaws.com/*",),
            StringEquals={"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"},
        ),
        allow("OpenPorts", _PORTS, groups, **_owned_or_tagged(owner)),
        allow("MakeGroup", ("ec2:CreateSecurityGroup",), (f"arn:{owner.partition}:ec2:{owner.region}:{owner.account}:vpc/*",)),
        allow("MakeTaggedGroup", ("ec2:CreateSecurityGroup",), groups, **requested),
        allow(
            "TagGroupAtCreation",
            ("ec2:CreateTags",),
            groups,
            StringEquals={**requested["StringEquals"], "ec2:CreateAction": "CreateSecurityGroup"},
        ),
        allow("ChangeOwnGroups", ("ec2:CreateTags", "ec2:DeleteTags", "ec2:DeleteSecurityGroup", *_PORTS), groups, **tagged),
        allow(
            "MakeLoadBalancers",
            ("elasticloadbalancing:CreateLoadBalancer", "elasticloadbalancing:CreateTargetGroup"),
            balancing,
            **requested,
        ),
        allow(
            "TagAtCreation",
            ("elasticloadbalancing:AddTags",),
            balancing,
            StringEquals={**requested["StringEquals"], "elasticloadbalancing:CreateAction": list(_CREATES)},
        ),
        allow("ChangeOwn", _LOAD_BALANCER_CHANGES, balancing, **tagged),
    ]


def _owned_or_tagged(owner: Owner) -> Document:
    """Of node groups' security groups only the cluster's, whose tag EKS sets."""
    return {"StringEquals": {f"aws:ResourceTag/kubernetes.io/cluster/{owner.cluster_name}": "owned"}}


_PORTS = ("ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress")
_BALANCING = (
    "loadbalancer/net",
    "loadbalancer/app",
    "targetgroup",
    "listener/net",
    "listener/app",
    "listener-rule/net",
    "listener-rule/app",
)
_CREATES = ("CreateLoadBalancer", "CreateTargetGroup", "CreateListener", "CreateRule")
_LOAD_BALANCER_READS = (
    "acm:DescribeCertificate",
    "acm:ListCertificates",
    "ec2:DescribeAccountAttributes",
    "ec2:DescribeAddresses",
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeInstances",
    "ec2:DescribeInternetGateways",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeTags",
    "ec2:DescribeVpcs",
    "ec2:GetSecurityGroupsForVpc",
    "elasticloadbalancing:Describe*",
)
_LOAD_BALANCER_CHANGES = (
    "elasticloadbalancing:AddListenerCertificates",
    "elasticloadbalancing:AddTags",
    "elasticloadbalancing:CreateListener",
    "elasticloadbalancing:CreateRule",
    "elasticloadbalancing:DeleteListener",
    "elasticloadbalancing:DeleteLoadBalancer",
    "elasticloadbalancing:DeleteRule",
    "elasticloadbalancing:DeleteTargetGroup",
    "elasticloadbalancing:DeregisterTargets",
    "elasticloadbalancing:ModifyListener",
    "elasticloadbalancing:ModifyListenerAttributes",
    "elasticloadbalancing:ModifyLoadBalancerAttributes",
    "elasticloadbalancing:ModifyRule",
    "elasticloadbalancing:ModifyTargetGroup",
    "elasticloadbalancing:ModifyTargetGroupAttributes",
    "elasticloadbalancing:RegisterTargets",
    "elasticloadbalancing:RemoveListenerCertificates",
    "elasticloadbalancing:RemoveTags",
    "elasticloadbalancing:SetIpAddressType",
    "elasticloadbalancing:SetRulePriorities",
    "elasticloadbalancing:SetSecurityGroups",
    "elasticloadbalancing:SetSubnets",
)

IDENTITIES: t.Mapping[str, Identity] = {
    "vpc-cni": Identity(service_account="aws-node", policies=(NETWORK_POLICY,)),
    "aws-ebs-csi-driver": Identity(
        service_account="ebs-csi-controller-sa", policies=("service-role/AmazonEBSCSIDriverPolicy",), statements=_volumes
    ),
    "aws-efs-csi-driver": Identity(service_account="efs-csi-controller-sa", policies=("service-role/AmazonEFSCSIDriverPolicy",)),
    "aws-fsx-csi-driver": Identity(service_account="fsx-csi-controller-sa", statements=_lustre),
    "aws-mountpoint-s3-csi-driver": Identity(service_account="s3-csi-driver-sa", statements=_buckets),
    "amazon-cloudwatch-observability": Identity(
        service_account="cloudwatch-agent", namespace="amazon-cloudwatch", policies=("CloudWatchAgentServerPolicy",)
    ),
    LOAD_BALANCER_CONTROLLER: Identity(service_account=LOAD_BALANCER_CONTROLLER, statements=_load_balancers),
}


def wanted_addons(addons: t.Sequence[t.Mapping[str, t.Any]], storage: t.Iterable[str]) -> list[Document]:
    """The add-ons of the inventory and the drivers of the storage that it asks for."""
    named = [addon["name"] for addon in addons]
    drivers = [{"name": STORAGE_ADDONS[kind]} for kind in storage if STORAGE_ADDONS[kind] not in named]
    return [*map(dict, addons), *drivers]


def installed(
    addons: t.Sequence[t.Mapping[str, t.Any]], role_arns: t.Mapping[str, str], owner: Owner, version: str | None = None
) -> list[Document]:
    """The add-ons as the module takes them: with the role of ``role_arns`` (by add-on) by Pod Identity where there is one, and the EBS driver
    with our mark for the volumes that it makes, so that a teardown knows them. ``version`` is for those that name none."""
    common = {"version": version} if version else {}
    return [_with_mark({**common, **_with_wait(_with_identity(addon, role_arns))}, owner) for addon in addons]


def _with_identity(addon: t.Mapping[str, t.Any], role_arns: t.Mapping[str, str]) -> Document:
    name = addon["name"]
    if name not in role_arns or name not in IDENTITIES:
        return dict(addon)
    association = {"service_account": IDENTITIES[name].service_account, "role_arn": role_arns[name]}
    return {**addon, "pod_identity_associations": [association]}


def _with_wait(addon: Document) -> Document:
    """Without nodes only DaemonSets come to rest; the others are waited for once there are nodes."""
    return {"wait": addon["name"] in _READY_WITHOUT_NODES, **{key: value for key, value in addon.items() if value is not None}}


def _with_mark(addon: Document, owner: Owner) -> Document:
    if addon["name"] != STORAGE_ADDONS["ebs"]:
        return addon
    values = addon.get("configuration_values") or {}
    controller = values.get("controller") or {}
    tags = {**(controller.get("extraVolumeTags") or {}), **owner.tags("volume")}
    return {**addon, "configuration_values": {**values, "controller": {**controller, "extraVolumeTags": tags}}}
