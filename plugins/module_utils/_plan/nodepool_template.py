# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The launch template of a node group: its name, its content, and the calls that make it. Pure."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, TemplateContent, new_content
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, short_name, tag_specifications
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import COMPONENT, NODEPOOL_TAG, Disk, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, planned

_NAME_LIMIT = 128
Reference = tuple[str, str]
# What EKS says of a launch template, or a version of one, that EC2 has just made and EKS cannot see yet.
TEMPLATE_NOT_READY = (
    r"^Invalid(Parameter|Request)Exception: .*[Ll]aunch template.*(could not be found|does not exist)",
    r"^Invalid(Parameter|Request)Exception: .*[Cc]ould not find the specified version",
)


def template_name(owner: Owner, group: str) -> str:
    """The name of a group's launch template: names are unique in a region, so the cluster's comes first."""
    return short_name(owner.cluster_name, group, limit=_NAME_LIMIT)


def pool_tags(owner: Owner, pool: Pool) -> dict[str, str]:
    """The tags of everything that a pool consists of: the user's and our mark."""
    return {**(pool.tags or {}), **owner.tags(COMPONENT), NODEPOOL_TAG: pool.name}


def content_of_new(owner: Owner, group: WantedGroup) -> TemplateContent:
    pool = group.pool
    kept = set(group.instance_types)
    raid0 = pool.raid0 and any(instance.instance_store for instance in group.matching if instance.name in kept)
    disk = dataclasses.replace(pool.disk, kms_key=pool.disk.kms_key or pool.volumes_key)
    return new_content(pool.effective_ami_family, disk, pool_tags(owner, pool), raid0=raid0)


def content_of_existing(owner: Owner, pool: Pool, there: TemplateContent, *, purge_tags: bool) -> TemplateContent:
    """What is there, with what the user set."""
    tags = dict(there.tags)
    if pool.tags is not None:
        tags = pool_tags(owner, pool) if purge_tags else {**there.tags, **pool_tags(owner, pool)}
    raid0 = there.raid0 if pool.instance_store is None else pool.raid0
    return dataclasses.replace(there, disk=pool.disk.over(there.disk), tags=tags, raid0=raid0)


def manages_template(pool: Pool) -> bool:
    """Whether the user set anything that stands in the launch template."""
    return pool.tags is not None or pool.disk != Disk() or pool.instance_store is not None


def ensure_template(owner: Owner, group: WantedGroup, there: LaunchTemplate | None) -> tuple[list[Step], Reference]:
    """The steps to a template for a new group, and its (id, version); one that an interrupted run left is used again."""
    content = content_of_new(owner, group)
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
