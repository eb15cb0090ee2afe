# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A KMS key of a cluster: what is wanted, what is there, and the policy that says who may use it. Pure.

Sources of the policies: Amazon EC2 Auto Scaling User Guide, "Required AWS KMS key policy for use with encrypted volumes"; Karpenter
documentation, troubleshooting, "Node launch failures with KMS"; Amazon EKS User Guide, "Enable secret encryption".
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import VERSION, Document
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults, tag_faults, tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner

Params = t.Mapping[str, t.Any]

PURPOSES = ("secrets", "volumes")
LEAST_WINDOW, MOST_WINDOW = 7, 30  # KMS API, ScheduleKeyDeletion
PENDING, DISABLED = "PendingDeletion", "Disabled"
_USE = ("kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey")
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]+|planned:role/.+")
_SOURCE = "the options of eks_encryption_key"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of one key; None is what the user did not set."""

    purpose: str
    role_arns: tuple[str, ...] = ()
    administrators: tuple[str, ...] = ()
    policy: t.Mapping[str, t.Any] | None = None
    rotation: bool | None = None
    description: str | None = None
    pending_window_days: int = MOST_WINDOW
    tags: t.Mapping[str, str] | None = None
    purge_tags: bool = True

    @classmethod
    def from_params(cls, params: Params) -> Wanted:
        """From options that have no faults."""
        tags = params.get("tags")
        return cls(
            purpose=params["purpose"],
            role_arns=tuple(params.get("role_arns") or ()),
            administrators=tuple(params.get("administrators") or ()),
            policy=params.get("policy"),
            rotation=params.get("rotation"),
            description=params.get("description"),
            pending_window_days=params["pending_window_days"],
            tags=None if tags is None else tag_texts(tags),
            purge_tags=params["purge_tags"],
        )

    @property
    def component(self) -> str:
        return f"{self.purpose}-key"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key as KMS describes it; ``alias`` is whether the alias of its purpose leads to it."""

    key_id: str
    arn: str
    state: str
    description: str = ""
    deletion_date: str | None = None
    tags: t.Mapping[str, str] = field(default_factory=dict)
    policy: t.Mapping[str, t.Any] = field(default_factory=dict)
    rotation: bool = False
    alias: bool = True


def autoscaling_role(owner: Owner) -> str:
    """The service-linked role with which Auto Scaling groups start instances with encrypted volumes."""
    role = "aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    return f"arn:{owner.partition}:iam::{owner.account}:role/{role}"


def key_policy(wanted: Wanted, owner: Owner) -> Document:
    """The policy that the user gives, or the one that the purpose needs. The account itself always may manage the key, or nobody could."""
    if wanted.policy is not None:
        return dict(wanted.policy)
    root = f"arn:{owner.partition}:iam::{owner.account}:root"
    statements = [_allow("Account", root, ("kms:*",))]
    if wanted.administrators:
        statements.append(_allow("Administrators", list(wanted.administrators), _ADMINISTRATION))
    statements += _secrets(wanted) if wanted.purpose == "secrets" else _volumes(owner)
    return {"Version": VERSION, "Statement": statements}


_ADMINISTRATION = (
    "kms:Describe*",
    "kms:Get*",
    "kms:List*",
    "kms:PutKeyPolicy",
    "kms:EnableKey",
    "kms:EnableKeyRotation",
    "kms:DisableKey",
    "kms:TagResource",
    "kms:UntagResource",
    "kms:UpdateAlias",
    "kms:UpdateKeyDescription",
    "kms:ScheduleKeyDeletion",
    "kms:CancelKeyDeletion",
)


def _allow(sid: str, principal: t.Any, actions: t.Sequence[str], **condition: t.Any) -> Document:
    statement: Document = {"Sid": sid, "Effect": "Allow", "Principal": {"AWS": principal}, "Action": list(actions), "Resource": "*"}
    return {**statement, "Condition": condition} if condition else statement


def _secrets(wanted: Wanted) -> list[Document]:
    if not wanted.role_arns:
        return []
    return [_allow("Secrets", list(wanted.role_arns), ("kms:Encrypt", "kms:Decrypt", "kms:ListGrants", "kms:DescribeKey"))]


def _volumes(owner: Owner) -> list[Document]:
    """Both grants: that of Auto Scaling groups by their service-linked role, that of Karpenter by way of EC2, within the account."""
    suffix = ".cn" if owner.partition == "aws-cn" else ""
    group = autoscaling_role(owner)
    through = {"kms:ViaService": f"ec2.{owner.region}.amazonaws.com{suffix}", "kms:CallerAccount": owner.account}
    return [
        _allow("AutoScaling", group, _USE),
        _allow("AutoScalingGrant", group, ("kms:CreateGrant",), Bool={"kms:GrantIsForAWSResource": "true"}),
        _allow("ThroughEc2", "*", (*_USE, "kms:CreateGrant"), StringEquals=through),
    ]


def same_policy(first: t.Any, second: t.Any) -> bool:
    """Whether two policies say the same: the order of statements, actions and principals, and a list of one, do not matter."""
    return bool(_normal(first) == _normal(second))


def _normal(value: t.Any) -> t.Any:
    if isinstance(value, t.Mapping):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = sorted((_normal(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
        return items[0] if len(items) == 1 else items
    return str(value).lower() if isinstance(value, bool) else value


def key_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds. Values of a wrong type are left to form_faults."""
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    window = params.get("pending_window_days")
    if isinstance(window, int) and not LEAST_WINDOW <= window <= MOST_WINDOW:
        allowed = f"{LEAST_WINDOW} to {MOST_WINDOW} days"
        faults.append(Fault(path="pending_window_days", value=window, allowed=allowed, source="KMS API, ScheduleKeyDeletion"))
    for name in ("role_arns", "administrators"):
        values = params.get(name)
        for index, value in enumerate(values if isinstance(values, list) else []):
            if isinstance(value, str) and not _PRINCIPAL.fullmatch(value):
                allowed = "the ARN of an IAM role or user"
                faults.append(Fault(path=f"{name}[{index}]", value=value, allowed=allowed, source="IAM User Guide, principals"))
    if params.get("purpose") == "volumes" and params.get("role_arns"):
        allowed = "unset where purpose is volumes: whoever may use EC2 with the key does so by its policy"
        faults.append(Fault(path="role_arns", value=params["role_arns"], allowed=allowed, source=_SOURCE))
    policy = params.get("policy")
    if isinstance(policy, t.Mapping) and not isinstance(policy.get("Statement"), list):
        faults.append(Fault(path="policy", value=policy, allowed="a policy document with a list Statement", source="KMS, key policies"))
    if policy is not None and (params.get("role_arns") or params.get("administrators")):
        faults.append(Fault(path="policy", value=policy, allowed="unset where role_arns or administrators is set", source=_SOURCE))
    return faults + tag_faults(params.get("tags"), "tags")
