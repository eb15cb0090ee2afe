# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The IAM roles of the controllers that scale a cluster: each may change only what carries this cluster's tags. Pure.

Sources: the CloudFormation template of karpenter-provider-aws 1.14 and Karpenter's documentation, "CloudFormation"; README of cluster-autoscaler's
AWS provider 1.36, "IAM Policy"; README of the AWS Node Termination Handler 1.25, "Create an IAM Role for the Pods"; the Service Authorization
Reference for what a policy can narrow.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import Document, Identity, Settings, allow, pod_role
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner

KARPENTER = "karpenter"
CLUSTER_AUTOSCALER = "cluster-autoscaler"
TERMINATION_HANDLER = "aws-node-termination-handler"
DISCOVERY_TAG = "k8s.io/cluster-autoscaler"

_NODE_POOL, _NODE_CLASS, _NODE_CLAIM = "karpenter.sh/nodepool", "karpenter.k8s.aws/ec2nodeclass", "karpenter.sh/nodeclaim"
_CLUSTER_NAME = "eks:eks-cluster-name"
_REGION = "topology.kubernetes.io/region"
# What EC2 makes of a fleet request, and what it only uses for it.
_MADE = ("fleet", "instance", "volume", "network-interface", "launch-template", "spot-instances-request")
_USED = ("security-group", "subnet", "capacity-reservation", "placement-group")
_LAUNCH = ("ec2:RunInstances", "ec2:CreateFleet")
_EC2_READS = (
    "ec2:DescribeCapacityReservations",
    "ec2:DescribeImages",
    "ec2:DescribeInstances",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribePlacementGroups",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeSubnets",
)
_GROUP_READS = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeLaunchConfigurations",
    "autoscaling:DescribeScalingActivities",
    "autoscaling:DescribeTags",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:GetInstanceTypesFromInstanceRequirements",
)


def controller_roles(settings: Settings, controllers: t.Iterable[str]) -> list[Document]:
    """The roles of these controllers, as _model.iam.cluster_roles has those of the cluster."""
    return [pod_role(settings, name, CONTROLLERS[name]) for name in controllers]


def role_arn(owner: Owner, name: str) -> str:
    """The ARN of a role that is given by its name or its ARN."""
    return name if ":" in name else f"arn:{owner.partition}:iam::{owner.account}:role/{name}"


def _arn(owner: Owner, service: str, resource: str) -> str:
    return f"arn:{owner.partition}:{service}:{owner.region}:{owner.account}:{resource}"


def _requested(**tags: str) -> dict[str, str]:
    return {f"aws:RequestTag/{key}": value for key, value in tags.items()}


def _tagged(**tags: str) -> dict[str, str]:
    return {f"aws:ResourceTag/{key}": value for key, value in tags.items()}


def _cluster_tag(owner: Owner) -> dict[str, str]:
    return {f"kubernetes.io/cluster/{owner.cluster_name}": "owned"}


def _karpenter(settings: Settings) -> list[Document]:
    """What Karpenter's own template allows, in its six parts. The whole stays below the 10,240 characters that a role's own policies may have."""
    return [
        *_node_life_cycle(settings.owner),
        *_instance_profiles(settings),
        allow("SeeCluster", ("eks:DescribeCluster",), (settings.owner.arn,)),
        *_interruption(settings, KARPENTER, ("sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage")),
        *_discovery(settings.owner),
        allow("SeeZonalShifts", ("arc-zonal-shift:GetManagedResource",)),
    ]


def _node_life_cycle(owner: Owner) -> list[Document]:
    """Instances and launch templates carry the tags of cluster and NodePool from their creation; later only these are changed or deleted."""
    pool = {"StringLike": _tagged(**{_NODE_POOL: "*"})}
    new_pool = {"StringLike": _requested(**{_NODE_POOL: "*"})}
    own = _tagged(**_cluster_tag(owner))
    new = _requested(**_cluster_tag(owner), **{_CLUSTER_NAME: owner.cluster_name})
    made = [_arn(owner, "ec2", f"{kind}/*") for kind in _MADE]
    public = [f"arn:{owner.partition}:ec2:{owner.region}::{kind}/*" for kind in ("image", "snapshot")]
    instances, templates = _arn(owner, "ec2", "instance/*"), _arn(owner, "ec2", "launch-template/*")
    creations = ["RunInstances", "CreateFleet", "CreateLaunchTemplate"]
    later = {"StringEqualsIfExists": _requested(**{_CLUSTER_NAME: owner.cluster_name})}
    return [
        allow("LaunchWith", _LAUNCH, [*public, *(_arn(owner, "ec2", f"{kind}/*") for kind in _USED)]),
        allow("LaunchFromOwnTemplates", _LAUNCH, (templates,), StringEquals=own, **pool),
        allow("LaunchTagged", (*_LAUNCH, "ec2:CreateLaunchTemplate"), made, StringEquals=new, **new_pool),
        allow("TagAtCreation", ("ec2:CreateTags",), made, StringEquals={**new, "ec2:CreateAction": creations}, **new_pool),
        allow(
            "TagOwnInstances",
            ("ec2:CreateTags",),
            (instances,),
            StringEquals=own,
            **pool,
            **later,
            **{"ForAllValues:StringEquals": {"aws:TagKeys": [_CLUSTER_NAME, _NODE_CLAIM, "Name"]}},
        ),
        allow("DeleteOwn", ("ec2:TerminateInstances", "ec2:DeleteLaunchTemplate"), (instances, templates), StringEquals=own, **pool),
    ]


def _instance_profiles(settings: Settings) -> list[Document]:
    """Karpenter makes an instance profile for each EC2NodeClass that names a role. It may only hand the nodes' roles to EC2."""
    owner = settings.owner
    suffix = ".cn" if owner.partition == "aws-cn" else ""
    profiles = (f"arn:{owner.partition}:iam::{owner.account}:instance-profile/*",)
    regional = {**_cluster_tag(owner), _REGION: owner.region}
    new = _requested(**regional, **{_CLUSTER_NAME: owner.cluster_name})
    new_class, of_class = _requested(**{_NODE_CLASS: "*"}), _tagged(**{_NODE_CLASS: "*"})
    service = {"iam:PassedToService": f"ec2.amazonaws.com{suffix}"}
    changes = ("iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile", "iam:DeleteInstanceProfile")
    passing = [allow("PassNodeRoles", ("iam:PassRole",), settings.node_roles, StringEquals=service)] if settings.node_roles else []
    return [
        *passing,
        allow("MakeProfiles", ("iam:CreateInstanceProfile",), profiles, StringEquals=new, StringLike=new_class),
        allow(
            "TagOwnProfiles",
            ("iam:TagInstanceProfile",),
            profiles,
            StringEquals={**_tagged(**regional), **new},
            StringLike={**of_class, **new_class},
        ),
        allow("ChangeOwnProfiles", changes, profiles, StringEquals=_tagged(**regional), StringLike=of_class),
        allow("SeeProfiles", ("iam:GetInstanceProfile",), profiles),
        allow("ListProfiles", ("iam:ListInstanceProfiles",)),
    ]


def _interruption(settings: Settings, reader: str, actions: t.Sequence[str]) -> list[Document]:
    return [allow("ReadQueue", actions, (settings.queues[reader],))] if reader in settings.queues else []


def _discovery(owner: Owner) -> list[Document]:
    return [
        allow("SeeRegion", _EC2_READS, StringEquals={"aws:RequestedRegion": owner.region}),
        allow("SeeImages", ("ssm:GetParameter",), (f"arn:{owner.partition}:ssm:{owner.region}::parameter/aws/service/*",)),
        allow("SeePrices", ("pricing:GetProducts",)),
    ]


def _cluster_autoscaler(settings: Settings) -> list[Document]:
    """Reading is open, because Auto Scaling does not let a policy narrow it; sizes are set of the groups that it discovers alone."""
    owner = settings.owner
    discovered = _tagged(**{f"{DISCOVERY_TAG}/{owner.cluster_name}": "owned"})
    changes = ("autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup")
    return [
        allow("Look", _GROUP_READS),
        allow("SeeNodeGroups", ("eks:DescribeNodegroup",), (_arn(owner, "eks", f"nodegroup/{owner.cluster_name}/*"),)),
        allow("Scale", changes, (_groups(owner),), StringEquals=discovered),
    ]


def _termination_handler(settings: Settings) -> list[Document]:
    own = _tagged(**{OWNER_TAG: settings.owner.arn})
    reads = ("autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeTags", "ec2:DescribeInstances")
    return [
        allow("Look", reads),
        allow("LetTerminate", ("autoscaling:CompleteLifecycleAction",), (_groups(settings.owner),), StringEquals=own),
        *_interruption(settings, TERMINATION_HANDLER, ("sqs:DeleteMessage", "sqs:ReceiveMessage")),
    ]


def _groups(owner: Owner) -> str:
    return _arn(owner, "autoscaling", "autoScalingGroup:*:autoScalingGroupName/*")


CONTROLLERS: t.Mapping[str, Identity] = {
    KARPENTER: Identity(service_account=KARPENTER, statements=_karpenter),
    CLUSTER_AUTOSCALER: Identity(service_account=CLUSTER_AUTOSCALER, statements=_cluster_autoscaler),
    TERMINATION_HANDLER: Identity(service_account=TERMINATION_HANDLER, statements=_termination_handler),
}
