# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The roles of pools that have policies of their own: observed and planned."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import node_policies
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan import node_role
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_role import NodeRole, Settings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Params
from ansible_collections.gpuops.eks.plugins.module_utils._run.nodepool_parts import Context

_NO_ROLE, _NO_ENTRY = ("NoSuchEntity",), ("ResourceNotFoundException",)


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The pools, those with policies of their own with their role, and the way to these roles."""

    pools: tuple[Pool, ...]
    plan: Plan = field(default_factory=Plan)
    faults: tuple[Fault, ...] = ()


def present(context: Context, pools: t.Sequence[Pool]) -> Roles:
    """The roles of the pools that have policies of their own, as they should be."""
    own = [pool for pool in pools if pool.own_role]
    if not own:
        return Roles(pools=tuple(pools))
    settings = settings_of(context.run.params, context.owner, entries=_takes_entries(context))
    entered = [pool.name for pool in own if node_role.has_entry(pool)] if context.cluster and settings.entries else []
    there = _observed(context, [pool.name for pool in own], entered)
    known = [node_role.with_role(pool, there.get(pool.name), settings) for pool in pools]
    faults = [*node_role.role_faults(own, there, context.owner), *_policy_faults(context, own, there)]
    return Roles(pools=tuple(known), plan=node_role.plan_roles(known, there, settings), faults=tuple(faults))


def named(pools: t.Sequence[Pool], params: Params, owner: Owner) -> list[Pool]:
    """The pools with the roles that they will have, of which nobody is asked."""
    return [node_role.with_role(pool, None, settings_of(params, owner)) for pool in pools]


def removal(context: Context, names: t.Sequence[str]) -> Plan:
    """The roles of these pools, which are gone, removed."""
    entered = names if context.cluster and _takes_entries(context) else ()
    return node_role.plan_removal(_observed(context, names, entered), context.owner) if names else Plan()


def settings_of(params: Params, owner: Owner, *, entries: bool = True) -> Settings:
    """What the options say of roles that are made."""
    base = params.get("node_policies")
    return Settings(
        owner=owner,
        path=params.get("iam_path") or "/",
        boundary=params.get("permissions_boundary"),
        base=tuple(node_policies(owner) if base is None else base),
        entries=entries,
    )


def _takes_entries(context: Context) -> bool:
    """Whether the cluster takes access entries; one that is only planned will."""
    mode = ((context.cluster or {}).get("accessConfig") or {}).get("authenticationMode") or ""
    return context.cluster is None or mode.startswith("API")


def _observed(context: Context, pools: t.Sequence[str], entered: t.Collection[str]) -> dict[str, NodeRole]:
    """The roles that are there under the names of these pools' roles, with access entries where they matter."""
    aws, owner = context.run.aws, context.owner
    asked = [{"RoleName": node_role.role_name(owner, pool)} for pool in pools]
    replies = aws.find_all("iam:GetRole", asked, missing=_NO_ROLE)
    found = {pool: reply["Role"] for pool, reply in zip(pools, replies, strict=True) if reply}
    listed = aws.find_all("iam:ListAttachedRolePolicies", [{"RoleName": role["RoleName"]} for role in found.values()], missing=_NO_ROLE)
    attached = {pool: (reply or {}).get("AttachedPolicies", ()) for pool, reply in zip(found, listed, strict=True)}
    held = [pool for pool in found if pool in entered]
    requests = [{"clusterName": owner.cluster_name, "principalArn": found[pool]["Arn"]} for pool in held]
    described = aws.find_all("eks:DescribeAccessEntry", requests, missing=_NO_ENTRY)
    entries = {pool: reply["accessEntry"] for pool, reply in zip(held, described, strict=True) if reply}
    return {pool: NodeRole.from_api(role, attached[pool], entries.get(pool)) for pool, role in found.items()}


def _policy_faults(context: Context, pools: t.Sequence[Pool], there: t.Mapping[str, NodeRole]) -> list[Fault]:
    """Policies that are to be attached and that do not exist."""
    asked = {
        join(pool.path, f"iam.policies[{pool.policies.index(arn)}]"): arn
        for pool in pools
        for arn in node_role.missing_policies(pool, there.get(pool.name))
    }
    arns = list(dict.fromkeys(asked.values()))
    replies = context.run.aws.find_all("iam:GetPolicy", [{"PolicyArn": arn} for arn in arns], missing=_NO_ROLE)
    missing = {arn for arn, reply in zip(arns, replies, strict=True) if reply is None}
    return [
        Fault(path=path, value=arn, allowed="the ARN of a policy that exists", source="iam:GetPolicy")
        for path, arn in asked.items()
        if arn in missing
    ]
