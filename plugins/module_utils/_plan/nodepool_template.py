# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The launch template of a node group: its name, its content, and the calls that make it. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import (
    LaunchTemplate,
    TemplateContent,
    TemplateWish,
    changed_content,
    new_content,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, short_name, tag_specifications
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import COMPONENT, NODEPOOL_TAG, Disk, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import FAST_IMAGE_PULL_THROUGHPUT, ClusterData
from ansible_collections.gpuops.eks.plugins.module_utils._plan import node_gpus
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import RESOURCES_PREFIX, template_tags
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, planned

_NAME_LIMIT = 128
Reference = tuple[str, str]
# What EKS says of a launch template, or a version of one, that EC2 has just made and EKS cannot see yet.
TEMPLATE_NOT_READY = (
    r"^Invalid(Parameter|Request)Exception: .*[Ll]aunch template.*(could not be found|does not exist)",
    r"^Invalid(Parameter|Request)Exception: .*[Cc]ould not find the specified version",
)


def group_tags(owner: Owner, group: WantedGroup) -> dict[str, str]:
    """The tags of a managed node group: the pool's, and what cluster-autoscaler takes from eks:DescribeNodegroup as long as there is no node.

    It reads labels and taints from the group itself, so that only the resources have to be said.
    """
    told = template_tags(group.pool, group.gpu_count, instance=group.first_type)
    resources = {key: value for key, value in told.items() if key.startswith(RESOURCES_PREFIX)}
    return {**pool_tags(owner, group.pool), **node_gpus.mark(group.pool), **resources}


@dataclass(frozen=True, kw_only=True)
class TemplateSettings:
    """What templates of all groups of a run need to know.

    ``cluster`` is where nodes with an image of the user's find their cluster, ``security_group`` the cluster's own, ``images`` are the ids
    of images by the pool that names one.
    """

    owner: Owner
    purge_tags: bool = True
    cluster: ClusterData | None = None
    security_group: str = ""
    images: t.Mapping[str, str] = field(default_factory=dict)


def template_name(owner: Owner, group: str) -> str:
    """The name of a group's launch template: names are unique in a region, so the cluster's comes first."""
    return short_name(owner.cluster_name, group, limit=_NAME_LIMIT)


def pool_tags(owner: Owner, pool: Pool) -> dict[str, str]:
    """The tags of everything that a pool consists of: the user's and our mark."""
    return {**(pool.tags or {}), **owner.tags(COMPONENT), NODEPOOL_TAG: pool.name}


def content_of_new(group: WantedGroup, settings: TemplateSettings) -> TemplateContent:
    """The content of a new group's template."""
    pool = group.pool
    kept = set(group.instance_types)
    raid0 = pool.raid0 and any(instance.instance_store for instance in group.matching if instance.name in kept)
    disk = dataclasses.replace(pool.disk, kms_key=pool.disk.kms_key or pool.volumes_key)
    told = {
        **_user_settings(group, settings),
        **node_gpus.told(pool),
        "raid0": raid0,
        "fast_image_pull": _fast_image_pull(pool, disk.with_defaults()),
    }
    wish = dataclasses.replace(_wish(group, settings), disk=disk, tags=pool_tags(settings.owner, pool), settings=told)
    return new_content(wish)


def content_of_existing(group: WantedGroup, there: TemplateContent, settings: TemplateSettings) -> TemplateContent:
    """What is there, with what the user set."""
    pool = group.pool
    tags = None
    if pool.tags is not None:
        tags = {**({} if settings.purge_tags else there.tags), **pool_tags(settings.owner, pool)}
    told = {**_user_settings(group, settings), **node_gpus.told_again(pool, there.settings)}
    if pool.instance_store is not None:
        told["raid0"] = pool.raid0
    if pool.disk != Disk():
        told["fast_image_pull"] = _fast_image_pull(pool, pool.disk.over(there.disk))
    return changed_content(there, dataclasses.replace(_wish(group, settings), disk=pool.disk, tags=tags, settings=told))


def _wish(group: WantedGroup, settings: TemplateSettings) -> TemplateWish:
    """What the user set of a template, besides disk, tags and user data."""
    pool = group.pool
    efa = None if pool.efa is None else min((instance.efa_interfaces for instance in group.matching), default=0) if pool.efa else 0
    block = group.capacity_type == "capacity_block"
    groups = (settings.security_group, *pool.security_groups) if pool.security_groups or efa else None
    return TemplateWish(
        ami_family=pool.effective_ami_family,
        security_groups=groups,
        efa_interfaces=efa,
        placement_group=pool.placement_group,
        image=settings.images.get(pool.name),
        reservation=group.reservation,
        capacity_block=block,
        instance_type=group.instance_types[0] if block and group.instance_types else None,
        overrides=pool.overrides.launch_template,
    )


def _user_settings(group: WantedGroup, settings: TemplateSettings) -> dict[str, t.Any]:
    """What the user data of the group's nodes says for options that are set.

    EKS tells the nodes of its own images where their cluster is, their labels and their taints; those of an image of the user's are told
    here. Source: EKS user guide, "Customize managed nodes with launch templates": specifying an AMI.
    """
    pool = group.pool
    told: dict[str, t.Any] = {}
    if pool.startup_taints is not None:
        told["taints"] = frozenset((*pool.created_taints, *pool.startup_taints))
    if pool.user_data is not None:
        told["extra"] = pool.user_data
    if pool.ami.custom:
        told["cluster"] = settings.cluster
        told["labels"] = group.wanted_labels
        told["taints"] = frozenset((*pool.created_taints, *(pool.startup_taints or ())))
    return told


def _fast_image_pull(pool: Pool, disk: Disk) -> bool:
    """Whether layers are pulled in parallel: on Amazon Linux, where the volume keeps pace."""
    return pool.effective_ami_family == "al2023" and (disk.throughput or 0) >= FAST_IMAGE_PULL_THROUGHPUT


def manages_template(pool: Pool, tags: t.Mapping[str, str]) -> bool:
    """Whether the user set anything that stands in the launch template, or did so of GPUs before. ``tags`` are those of the node group."""
    network = (pool.security_groups, pool.efa, pool.placement_group)
    told = (pool.startup_taints, pool.user_data, pool.instance_store, pool.tags)
    return (
        any(value is not None for value in told)
        or any(value not in (None, ()) for value in network)
        or pool.disk != Disk()
        or pool.ami.custom
        or bool(pool.capacity.reservations)
        or bool(pool.overrides.launch_template)
        or bool(node_gpus.mark(pool))
        or node_gpus.MARK in tags
    )


def ensure_template(group: WantedGroup, there: LaunchTemplate | None, settings: TemplateSettings) -> tuple[list[Step], Reference]:
    """The steps to a template for a new group, and its (id, version); one that an interrupted run left is used again."""
    owner = settings.owner
    content = content_of_new(group, settings)
    if there is not None:
        return ensure_version(there, content, "the content that the group needs")
    name = template_name(owner, group.name)
    id_ = planned("launch-template", name)
    step = Step(
        action="ec2:CreateLaunchTemplate",
        target=id_,
        effect="create",
        request={
            "LaunchTemplateName": name,
            "LaunchTemplateData": content.to_api(),
            "TagSpecifications": tag_specifications("launch-template", content.tags),
        },
        binds={id_: "LaunchTemplate.LaunchTemplateId"},
    )
    return [step], (id_, "1")


def ensure_version(there: LaunchTemplate, content: TemplateContent, reason: str) -> tuple[list[Step], Reference]:
    """The step to a version with this content, none where the latest has it, and the template's (id, version).

    The number of a new version is EC2's to give, and the reply has it: numbers of deleted versions are not given again.
    """
    if there.versions.get(str(there.latest)) == content:
        return [], (there.id, str(there.latest))
    request: dict[str, t.Any] = {"LaunchTemplateId": there.id, "LaunchTemplateData": content.to_api()}
    version = planned("launch-template-version", there.name)
    step = Step(
        action="ec2:CreateLaunchTemplateVersion",
        target=there.id,
        effect="update",
        reason=reason,
        request=request,
        binds={version: "to_string(LaunchTemplateVersion.VersionNumber)"},
    )
    return [step], (there.id, version)
