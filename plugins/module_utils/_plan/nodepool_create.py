# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A new node group, and one that was half made. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import AMI_TYPES
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, merged
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup, taint_to_api, warm_pool_to_api
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import (
    TEMPLATE_NOT_READY,
    Reference,
    TemplateSettings,
    ensure_template,
    group_tags,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait, planned

Fields = dict[str, tuple[t.Any, t.Any]]
_HALF_MADE = ("CREATE_FAILED", "DELETE_FAILED")
# What EKS says of a role that IAM has, the nodes' or its own for node groups, but that EKS cannot see or take yet.
_ROLE_NOT_READY = (
    r"^InvalidParameterException: .*(role.*(does not exist|cannot be found)|service principals.*were not found in the trust relationships)",
    r"^Invalid(Parameter|Request)Exception: .*unable to assume the service-linked role",
)
# A reservation is taken by the launch template; to EKS such a group is an On-Demand one.
_API_CAPACITY = {"reserved": "ON_DEMAND"}
_BUSY = ("CREATING", "UPDATING")


@dataclass(frozen=True, kw_only=True)
class Settings(TemplateSettings):
    """What holds for all groups of a run. ``roles`` are the ARNs of node roles by the name or ARN that pools give.

    ``kubernetes_version`` is the one that groups that are there are brought to; None leaves them at theirs. ``releases`` are what EKS calls
    the releases of images, by the pool that names one.
    """

    roles: t.Mapping[str, str] = field(default_factory=dict)
    kubernetes_version: str | None = None
    releases: t.Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GroupPlan:
    """One group's part: ``steps`` can be made at once, ``later`` ones need something done, ``last`` ones come after those of all groups;
    ``fields`` are (before, after)."""

    after: Nodegroup
    steps: tuple[Step, ...] = ()
    later: tuple[Step, ...] = ()
    last: tuple[Step, ...] = ()
    waits: tuple[Wait, ...] = ()
    fields: Fields = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def subject(owner: Owner, name: str) -> dict[str, str]:
    """The parameters that name a node group."""
    return {"clusterName": owner.cluster_name, "nodegroupName": name}


def is_half_made(there: Nodegroup) -> bool:
    return there.status in _HALF_MADE


def is_busy(there: Nodegroup) -> bool:
    """Whether EKS is at work on a group and takes no other change of it."""
    return there.status in _BUSY


def create_group(
    group: WantedGroup, there: Nodegroup | None, template: LaunchTemplate | None, settings: Settings, *, replaced: str | None = None
) -> GroupPlan:
    """The steps to a new group. ``there`` is one of ours of its name that goes before it, ``replaced`` the name of one that goes after it."""
    owner = settings.owner
    steps, reference = ensure_template(group, template, settings)
    role = settings.roles.get(group.pool.node_role or "")
    faults = () if group.pool.node_role else (_role_fault(group),)
    needs = () if there is None else (Wait(waiter="nodegroup_deleted", arguments=subject(owner, group.name)),)
    deletes, reason, warnings = _cleared(there, settings)
    after = _new_group(group, settings, role or "", reference)
    create = Step(
        action="eks:CreateNodegroup",
        target=replaced or (there.name if there is not None else after.arn),
        effect="replace" if replaced or deletes else "create",
        reason=reason or (f"takes the place of {replaced}" if replaced else ""),
        request=merged(_request(after, owner), group.pool.overrides.node_group),
        needs=needs,
        passing=(*TEMPLATE_NOT_READY, *_ROLE_NOT_READY),
    )
    return GroupPlan(
        after=after,
        steps=(*steps, *deletes, *(() if needs else (create,))),
        later=(create,) if needs else (),
        waits=(Wait(waiter="nodegroup_active", arguments=subject(owner, group.name)),),
        fields={name: (None, value) for name, value in _summary(after).items()},
        warnings=warnings,
        faults=faults,
    )


def _cleared(there: Nodegroup | None, settings: Settings) -> tuple[tuple[Step, ...], str, tuple[str, ...]]:
    """The step that deletes a group of the same name, unless EKS is at it; the reason and warnings."""
    if there is None or there.status == "DELETING":
        return (), "", ()
    half_made = is_half_made(there)
    reason = f"the group is {there.status}" if half_made else "the group was made for what is no longer wanted"
    warnings = (f"Node group {there.name} is {there.status} and is made again. {' '.join(there.issues)}".strip(),) if half_made else ()
    request = subject(settings.owner, there.name)
    settled = (Wait(waiter="nodegroup_settled", arguments=request),) if is_busy(there) else ()
    delete = Step(action="eks:DeleteNodegroup", target=there.name, effect="replace", reason=reason, request=request, needs=settled)
    return (delete,), reason, warnings


def _role_fault(group: WantedGroup) -> Fault:
    allowed = "the name or ARN of the nodes' role (or option node_role_arn)"
    return Fault(path=join(group.pool.path, "iam.node_role"), value=None, allowed=allowed, source="EKS API Reference, CreateNodegroup")


def ami_type(group: WantedGroup) -> str:
    """The AMI type of a group by its pool's options."""
    if group.pool.ami.custom:
        return "CUSTOM"
    return AMI_TYPES[group.pool.effective_ami_family, group.pool.accelerator, group.pool.architecture]


def _new_group(group: WantedGroup, settings: Settings, role: str, reference: Reference) -> Nodegroup:
    pool = group.pool
    return Nodegroup(
        name=group.name,
        arn=planned("nodegroup", f"{settings.owner.cluster_name}-{group.name}"),
        capacity_type=group.capacity_type,
        ami_type=ami_type(group),
        instance_types=group.instance_types,
        subnets=group.subnet_ids,
        node_role=role,
        min=group.min,
        max=group.max,
        desired=group.desired,
        labels=group.wanted_labels,
        taints=pool.created_taints,
        max_unavailable=pool.update.max_unavailable or 1,
        update_strategy=pool.update.strategy or "default",
        repair=pool.repair is not False,
        tags=group_tags(settings.owner, group),
        launch_template=reference,
        release_version=settings.releases.get(pool.name, ""),
        warm_pool=pool.warm_pool,
    )


def _request(after: Nodegroup, owner: Owner) -> dict[str, t.Any]:
    """Parameters of eks:CreateNodegroup."""
    template_id, version = after.launch_template or ("", "")
    request: dict[str, t.Any] = {
        **subject(owner, after.name),
        "scalingConfig": {"minSize": after.min, "maxSize": after.max, "desiredSize": after.desired},
        "subnets": list(after.subnets),
        "instanceTypes": list(after.instance_types),
        "amiType": after.ami_type,
        "nodeRole": after.node_role,
        "labels": dict(after.labels),
        "capacityType": _API_CAPACITY.get(after.capacity_type, after.capacity_type.upper()),
        "launchTemplate": {"id": template_id, "version": version},
        "updateConfig": {"maxUnavailable": after.max_unavailable, "updateStrategy": (after.update_strategy or "default").upper()},
        "nodeRepairConfig": {"enabled": after.repair},
        "tags": dict(after.tags),
    }
    if after.release_version:
        request["releaseVersion"] = after.release_version
    if after.warm_pool is not None:
        request["warmPoolConfig"] = warm_pool_to_api(after.warm_pool)
    if after.capacity_type == "capacity_block":  # its launch template has the type
        del request["instanceTypes"]
    if after.taints:
        request["taints"] = [taint_to_api(taint) for taint in after.taints]
    return request


def _summary(after: Nodegroup) -> dict[str, t.Any]:
    """The managed fields of a new group."""
    return {
        "capacity_type": after.capacity_type,
        "ami_type": after.ami_type,
        "instance_types": list(after.instance_types),
        "subnets": list(after.subnets),
        "node_role": after.node_role,
        "scaling": {"min": after.min, "max": after.max, "desired": after.desired},
        "labels": dict(after.labels),
        "taints": [taint.to_result() for taint in after.taints],
        "update": {"max_unavailable": after.max_unavailable, "strategy": after.update_strategy},
        "repair": {"enabled": after.repair},
        "tags": dict(after.tags),
    }
