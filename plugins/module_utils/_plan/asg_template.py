# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The launch template of an Auto Scaling group: all that a node is, since EKS adds nothing to it. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup, Reference
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    ACCELERATOR_LABEL,
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    MIG_CONFIG_LABEL,
    NODEPOOL_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import (
    LaunchTemplate,
    TemplateContent,
    TemplateWish,
    changed_content,
    new_content,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, short_name, tag_specifications
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Disk, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import (
    FAST_IMAGE_PULL_THROUGHPUT,
    ClusterData,
    NodeSettings,
    repeated_tables,
    user_data_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan import node_gpus
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_image import ImageSource
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import accelerator_label
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import pool_tags
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, planned

COMPONENT = "auto-scaling-group"
# Another key than that of managed node groups' templates, which a run for those removes by it. Instances get it from their group: by it
# aws-node-termination-handler (MANAGED_TAG in role eks_autoscaling) knows its nodes from those that EKS and Karpenter drain.
POOL_TAG = "gpuops.eks/pool"
_OWN_LABELS = (NODEPOOL_LABEL, GPU_PRESENT_LABEL, DEVICE_PLUGIN_CONFIG_LABEL, MIG_CONFIG_LABEL, ACCELERATOR_LABEL)
_NAME_LIMIT = 128  # EC2 API Reference, CreateLaunchTemplate


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for all groups of a run.

    ``version`` is the cluster's Kubernetes version, ``upgrade`` the one that nodes are brought to; None leaves them at theirs. ``images`` are
    those that were looked up, with what they were chosen by, by the groups' names; ``profiles`` are instance profiles by the pools' names.
    """

    owner: Owner
    cluster: ClusterData
    cluster_security_group: str
    version: str
    upgrade: str | None = None
    purge_tags: bool = True
    images: t.Mapping[str, tuple[ImageSource, str]] = field(default_factory=dict)
    profiles: t.Mapping[str, str] = field(default_factory=dict)


def group_id(owner: Owner, group: str) -> str:
    """The name of the Auto Scaling group: names are unique in a region, so the cluster's comes first."""
    return short_name(owner.cluster_name, group, limit=_NAME_LIMIT)


def template_name(owner: Owner, group: str) -> str:
    """The name of its launch template; that of a managed node group of the same pool has another."""
    return short_name(owner.cluster_name, group, "asg", limit=_NAME_LIMIT)


def template_tags(owner: Owner, pool: Pool) -> dict[str, str]:
    """The tags of the launch template itself."""
    return {**(pool.tags or {}), **owner.tags(COMPONENT), POOL_TAG: pool.name}


def kept_types(group: WantedGroup, there: AutoScalingGroup | None) -> tuple[str, ...]:
    """The types of a group: those that it has as long as each still matches, so that what is new in EC2 changes nothing by itself."""
    has = there.instance_types if there else ()
    return has if has and all(name in group.fitting for name in has) else group.instance_types


def kept_instances(group: WantedGroup, there: AutoScalingGroup | None) -> tuple[InstanceType, ...]:
    """The same as far as they are offered where the group is."""
    known = {instance.name: instance for instance in group.matching}
    return tuple(known[name] for name in kept_types(group, there) if name in known)


def content_of_new(group: WantedGroup, settings: Settings) -> TemplateContent:
    pool = group.pool
    instances = kept_instances(group, None)
    disk = dataclasses.replace(pool.disk, kms_key=pool.disk.kms_key or pool.volumes_key)
    raid0 = _raid0(pool, instances)
    image = settings.images.get(group.name)
    told = {
        "cluster": settings.cluster,
        "labels": group.wanted_labels,
        "taints": frozenset((*pool.created_taints, *(pool.startup_taints or ()))),
        "raid0": raid0,
        "fast_image_pull": _fast_image_pull(pool, disk.with_defaults(), raid0=raid0),
        **node_gpus.told(pool),
        "extra": pool.user_data or (),
    }
    return new_content(
        TemplateWish(
            ami_family=pool.effective_ami_family,
            disk=disk,
            tags=pool_tags(settings.owner, pool),
            settings=told,
            security_groups=(settings.cluster_security_group, *pool.security_groups),
            efa_interfaces=_efa(pool, instances) or None,
            placement_group=pool.placement_group,
            image=image[1] if image else None,
            instance_profile=settings.profiles.get(pool.name),
            **_block(group),
            overrides=pool.overrides.launch_template,
        )
    )


def content_of_existing(
    group: WantedGroup, there: TemplateContent, types: tuple[InstanceType, ...], settings: Settings, *, moved: bool = False
) -> TemplateContent:
    """What is there, with what the user set and what follows from the cluster. ``moved``: to an image of another family."""
    pool = group.pool
    image = settings.images.get(group.name)
    tags = None
    if pool.tags is not None:
        tags = pool_tags(settings.owner, pool) if settings.purge_tags else {**there.tags, **pool_tags(settings.owner, pool)}
    told = _told(group, there, types, settings)
    disk = pool.disk
    if moved:
        there, disk, told = _without_family(there), pool.disk.over(there.disk), _moved(pool, there, types, told)
    return changed_content(
        there,
        TemplateWish(
            ami_family=pool.effective_ami_family,
            disk=disk,
            tags=tags,
            settings=told,
            security_groups=(settings.cluster_security_group, *pool.security_groups) if pool.security_groups else None,
            efa_interfaces=None if pool.efa is None else _efa(pool, types),
            placement_group=pool.placement_group,
            image=image[1] if image else None,
            instance_profile=settings.profiles.get(pool.name),
            **_block(group),
            overrides=pool.overrides.launch_template,
        ),
    )


def _without_family(there: TemplateContent) -> TemplateContent:
    """The content without what has another form with another family: the disks' names and the user data."""
    return TemplateContent(data={name: value for name, value in there.data.items() if name not in ("BlockDeviceMappings", "UserData")})


def _moved(pool: Pool, there: TemplateContent, types: t.Sequence[InstanceType], told: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What is told a node of another family: taints stay as they are, the user's parts of the old family say nothing to it."""
    raid0 = _raid0(pool, types)
    return {
        "taints": there.settings.taints,
        "extra": (),
        **told,
        "raid0": raid0,
        "fast_image_pull": _fast_image_pull(pool, pool.disk.over(there.disk), raid0=raid0),
        **node_gpus.told(pool),
    }


def _told(group: WantedGroup, there: TemplateContent, types: tuple[InstanceType, ...], settings: Settings) -> dict[str, t.Any]:
    """What of the user data is managed. Labels of ours and the cluster always are."""
    pool, before = group.pool, there.settings
    told: dict[str, t.Any] = {"cluster": settings.cluster, **node_gpus.told_again(pool, before)}
    kept = {key: value for key, value in before.labels.items() if key not in _OWN_LABELS} if pool.labels is None else {}
    waiting = accelerator_label(pool, group.first_type)
    if waiting and ACCELERATOR_LABEL in before.labels:  # any value serves; types that match now must not change it
        waiting = {ACCELERATOR_LABEL: before.labels[ACCELERATOR_LABEL]}
    told["labels"] = {**kept, **waiting, **pool.wanted_labels}
    if pool.taints is not None or pool.startup_taints is not None:
        told["taints"] = frozenset((*pool.created_taints, *(pool.startup_taints or ())))
    if pool.instance_store is not None:
        told["raid0"] = _raid0(pool, types)
    if pool.instance_store is not None or pool.disk != Disk():
        told["fast_image_pull"] = _fast_image_pull(pool, pool.disk.over(there.disk), raid0=told.get("raid0", before.raid0))
    if pool.user_data is not None:
        told["extra"] = pool.user_data
    return told


def _raid0(pool: Pool, types: t.Sequence[InstanceType]) -> bool:
    return pool.raid0 and any(instance.instance_store for instance in types)


def _fast_image_pull(pool: Pool, disk: Disk, *, raid0: bool) -> bool:
    """Whether images are unpacked in parallel: where they go to is fast enough for it."""
    return pool.effective_ami_family == "al2023" and (raid0 or (disk.throughput or 0) >= FAST_IMAGE_PULL_THROUGHPUT)


def _efa(pool: Pool, types: t.Sequence[InstanceType]) -> int:
    """How many adapters every type of the group takes: the launch template has the same for all."""
    return min((instance.efa_interfaces for instance in types), default=0) if pool.efa else 0


def _block(group: WantedGroup) -> dict[str, t.Any]:
    """A block of capacity is bought by the launch template, with its one type and id.

    Source: EC2 Auto Scaling user guide, "Use Capacity Blocks for machine learning workloads".
    """
    if group.capacity_type != "capacity_block" or not group.reservation:
        return {}
    return {"reservation": group.reservation, "capacity_block": True, "instance_type": group.instance_types[0]}


def effective_pool(pool: Pool, content: TemplateContent) -> Pool:
    """The pool with what its nodes have where the user set nothing: what an autoscaler is told of them has to be true."""
    told = content.settings
    labels = pool.labels if pool.labels is not None else {key: value for key, value in told.labels.items() if key not in _OWN_LABELS}
    taints = tuple(taint for taint in pool.created_taints if taint in told.taints)
    efa = bool(content.efa_interfaces) if pool.efa is None else pool.efa
    return dataclasses.replace(pool, labels=labels, taints=taints, disk=content.disk, efa=efa)


def ensure_template(group: WantedGroup, there: LaunchTemplate | None, settings: Settings) -> tuple[list[Step], Reference, TemplateContent]:
    """The steps to a template for a new group, its (id, version) and content; one that an interrupted run left is used again."""
    content = content_of_new(group, settings)
    if there is not None:
        steps, reference = ensure_version(group, there, content, settings, "the content that the group needs")
        return steps, reference, content
    name = template_name(settings.owner, group.name)
    id_ = planned("launch-template", name)
    step = Step(
        action="ec2:CreateLaunchTemplate",
        target=id_,
        effect="create",
        request={
            "LaunchTemplateName": name,
            **_described(group, settings),
            "LaunchTemplateData": content.to_api(),
            "TagSpecifications": tag_specifications("launch-template", template_tags(settings.owner, group.pool)),
        },
        binds={id_: "LaunchTemplate.LaunchTemplateId"},
    )
    return [step], (id_, "1"), content


def ensure_version(
    group: WantedGroup, there: LaunchTemplate, content: TemplateContent, settings: Settings, reason: str, kept: str = ""
) -> tuple[list[Step], Reference]:
    """The step to a version with this content, none where the latest has it, and the template's (id, version).

    ``kept`` is the description of the version that there is, which says what its image was chosen by.
    """
    if there.versions.get(str(there.latest)) == content:
        return [], (there.id, str(there.latest))
    version = planned("launch-template-version", there.name)
    description = _described(group, settings) or ({"VersionDescription": kept} if kept else {})
    step = Step(
        action="ec2:CreateLaunchTemplateVersion",
        target=there.id,
        effect="update",
        reason=reason,
        request={"LaunchTemplateId": there.id, **description, "LaunchTemplateData": content.to_api()},
        binds={version: "to_string(LaunchTemplateVersion.VersionNumber)"},
    )
    return [step], (there.id, version)


def _described(group: WantedGroup, settings: Settings) -> dict[str, str]:
    image = settings.images.get(group.name)
    return {"VersionDescription": image[0].to_text()} if image else {}


def option_faults(pool: Pool, cluster: ClusterData, groups: t.Iterable[WantedGroup]) -> list[Fault]:
    """What of a pool's options its nodes cannot be told, or cannot have."""
    where = join(pool.path, "user_data")
    extra = pool.user_data or ()
    faults = user_data_faults(pool.effective_ami_family, extra, where)
    if pool.effective_ami_family == "bottlerocket":
        taints = frozenset((*pool.created_taints, *(pool.startup_taints or ())))
        ours = NodeSettings(cluster=cluster, labels=pool.wanted_labels, taints=taints, extra=extra, **node_gpus.told(pool))
        allowed = "tables that are not written for the node already; TOML defines each once"
        source = "TOML 1.0, Table"
        faults += [
            Fault(path=f"{where}[{index}]", value=f"[{name}]", allowed=allowed, source=source) for index, name in repeated_tables(ours)
        ]
    without = sorted({name for group in groups for name in _without_efa(group)}) if pool.efa else []
    if without:
        allowed = "types that all have Elastic Fabric Adapters: a group has one launch template"
        faults.append(Fault(path=join(pool.path, "network.efa"), value=without, allowed=allowed, source="ec2:DescribeInstanceTypes"))
    return faults


def _without_efa(group: WantedGroup) -> list[str]:
    return [instance.name for instance in kept_instances(group, None) if not instance.efa_interfaces]
