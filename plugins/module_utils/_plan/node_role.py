# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The roles of pools whose nodes may do more than those of others: made, kept to the pool's policies, and removed. Pure.

Sources: Amazon EKS User Guide, "Amazon EKS node IAM role" and "Grant IAM users access with EKS access entries"; IAM API Reference, CreateRole,
AttachRolePolicy, DeleteRole.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import node_trust
from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import role_name as iam_role_name
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_list, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.access_entry import PRINCIPAL_NOT_READY
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, combine, planned

COMPONENT = "pool-node-role"
ENTRY_TYPE = "EC2_LINUX"
# EKS makes the entries of managed node groups' roles.
_WITH_ENTRY = ("auto_scaling_group", "karpenter")
# IAM, eventual consistency: what a call has just made may not be known to the next one, nor be free of what held it.
_NOT_KNOWN_YET = (r"^NoSuchEntity: ",)
_STILL_HELD = (r"^DeleteConflict: ",)

Data = t.Mapping[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``base`` are the ARNs of the policies that every node needs; ``entries``: the cluster takes access entries."""

    owner: Owner
    path: str = "/"
    boundary: str | None = None
    base: tuple[str, ...] = ()
    entries: bool = True


@dataclass(frozen=True, kw_only=True)
class NodeRole:
    """A role that is there under a pool's name. ``entry`` is the access entry of its ARN."""

    name: str
    arn: str
    tags: t.Mapping[str, str] = field(default_factory=dict)
    policies: tuple[str, ...] = ()
    entry: Data | None = None

    @classmethod
    def from_api(cls, role: Data, attached: t.Iterable[Data] = (), entry: Data | None = None) -> NodeRole:
        """From Role of iam:GetRole, AttachedPolicies of iam:ListAttachedRolePolicies and accessEntry of eks:DescribeAccessEntry."""
        policies = tuple(policy["PolicyArn"] for policy in attached)
        return cls(name=role["RoleName"], arn=role["Arn"], tags=tag_map(role.get("Tags")), policies=policies, entry=entry)


def role_name(owner: Owner, pool: str) -> str:
    """The name of a pool's role. IAM has one space of names for all regions."""
    return iam_role_name(owner, f"{pool}-node")


def role_arn(owner: Owner, path: str, pool: str) -> str:
    """The ARN of a pool's role, which is known before it is made."""
    return f"arn:{owner.partition}:iam::{owner.account}:role{path}{role_name(owner, pool)}"


def has_entry(pool: Pool) -> bool:
    """Whether the cluster has to be told of the role of this pool's nodes."""
    return pool.provisioner in _WITH_ENTRY


def is_ours(role: NodeRole, owner: Owner, pool: str) -> bool:
    return owner.owns(role.tags) and role.tags.get(NODEPOOL_TAG) == pool


def with_role(pool: Pool, there: NodeRole | None, settings: Settings) -> Pool:
    """The pool with the ARN of the role that its nodes get; one without policies of its own as it is."""
    if not pool.own_role:
        return pool
    arn = role_arn(settings.owner, settings.path, pool.name) if there is None else there.arn
    return dataclasses.replace(pool, node_role=arn)


def plan_roles(pools: t.Sequence[Pool], there: t.Mapping[str, NodeRole], settings: Settings) -> Plan:
    """The roles of these pools with exactly the policies that they should have. ``pools`` know their roles' ARNs."""
    return combine(_plan_role(pool, there.get(pool.name), settings) for pool in pools if pool.own_role)


def role_faults(pools: t.Sequence[Pool], there: t.Mapping[str, NodeRole], owner: Owner) -> list[Fault]:
    """Roles of these names that are somebody else's, and entries of roles that no node can join by."""
    faults = []
    for pool in pools:
        role = there.get(pool.name) if pool.own_role else None
        if role is None:
            continue
        if not is_ours(role, owner, pool.name):
            allowed = f"another name: IAM role {role.name} is somebody else's"
            faults.append(Fault(path=join(pool.path, "name"), value=pool.name, allowed=allowed, source="tag gpuops.eks/owner"))
        elif has_entry(pool) and role.entry is not None and role.entry.get("type") != ENTRY_TYPE:
            allowed = f"a role that has no access entry, or one of type {ENTRY_TYPE}; that of {role.name} is {role.entry.get('type')}"
            where = join(pool.path, "iam.policies")
            faults.append(Fault(path=where, value=list(pool.policies), allowed=allowed, source="eks:DescribeAccessEntry"))
    return faults


def missing_policies(pool: Pool, there: NodeRole | None) -> list[str]:
    """Those of the pool's own policies that its role gets in this run."""
    return [arn for arn in pool.policies if there is None or arn not in there.policies]


def _plan_role(pool: Pool, there: NodeRole | None, settings: Settings) -> Plan:
    name = role_name(settings.owner, pool.name)
    wanted = list(dict.fromkeys([*settings.base, *pool.policies]))
    attached = there.policies if there is not None else ()
    new, surplus = [arn for arn in wanted if arn not in attached], [arn for arn in attached if arn not in wanted]
    steps = [
        *([] if there is not None else [_create(pool, name, settings)]),
        *(_change(name, "iam:AttachRolePolicy", arn) for arn in new),
        *(_change(name, "iam:DetachRolePolicy", arn) for arn in surplus),
    ]
    if settings.entries and has_entry(pool) and (there is None or there.entry is None):
        steps.append(_enter(pool, settings.owner))
    if not steps:
        return Plan()
    before = {} if there is None else {name: {"policies": sorted(attached)}}
    return Plan(steps=tuple(steps), before=before, after={name: {"policies": sorted(wanted)}})


def _create(pool: Pool, name: str, settings: Settings) -> Step:
    tags = {**(pool.tags or {}), **settings.owner.tags(COMPONENT), NODEPOOL_TAG: pool.name}
    request: dict[str, t.Any] = {
        "RoleName": name,
        "Path": settings.path,
        "AssumeRolePolicyDocument": json.dumps(node_trust(settings.owner)),
        "Tags": tag_list(tags),
    }
    if settings.boundary:
        request["PermissionsBoundary"] = settings.boundary
    return Step(action="iam:CreateRole", target=name, effect="create", request=request)


def _change(name: str, action: str, arn: str) -> Step:
    return Step(
        action=action,
        target=name,
        effect="update",
        fields=("iam.policies",),
        reason=arn.rpartition("/")[2],
        request={"RoleName": name, "PolicyArn": arn},
        passing=_NOT_KNOWN_YET,
    )


def _enter(pool: Pool, owner: Owner) -> Step:
    """EKS lets nodes join only with a role that it knows."""
    arn = str(pool.node_role)
    tags = {**owner.tags(COMPONENT), NODEPOOL_TAG: pool.name}
    request = {"clusterName": owner.cluster_name, "principalArn": arn, "type": ENTRY_TYPE, "tags": tags}
    target = planned("access-entry", arn)
    return Step(
        action="eks:CreateAccessEntry", target=target, effect="create", fields=("type",), request=request, passing=PRINCIPAL_NOT_READY
    )


def plan_removal(roles: t.Mapping[str, NodeRole], owner: Owner) -> Plan:
    """The roles of these pools gone, with the access entries that we made for them; somebody else's stay."""
    ours = {pool: role for pool, role in sorted(roles.items()) if is_ours(role, owner, pool)}
    steps = [step for role in ours.values() for step in _removed(role, owner)]
    return Plan(steps=tuple(steps), before={role.name: {"policies": sorted(role.policies)} for role in ours.values()}, after={})


def _removed(role: NodeRole, owner: Owner) -> t.Iterator[Step]:
    """IAM deletes a role when nothing is attached to it and no instance profile holds it."""
    if role.entry is not None and owner.owns(role.entry.get("tags") or {}):
        request = {"clusterName": owner.cluster_name, "principalArn": role.arn}
        yield Step(action="eks:DeleteAccessEntry", target=role.arn, effect="delete", request=request)
    for arn in role.policies:
        request = {"RoleName": role.name, "PolicyArn": arn}
        yield Step(action="iam:DetachRolePolicy", target=role.name, effect="delete", request=request)
    yield Step(action="iam:DeleteRole", target=role.name, effect="delete", request={"RoleName": role.name}, passing=_STILL_HELD)
