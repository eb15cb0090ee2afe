# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The manifests of a pool's EC2NodeClass, NodeOverlays and NodePools, for server-side apply. Pure.

``live`` is the object as it is, None for one that is to be made. One that is there and does not carry our label is adopted: only what
the user set is applied, and nothing that marks it as ours.
"""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.karpenter import (
    AMI_FAMILIES,
    ARCHITECTURE,
    CAPACITY_TYPE,
    IMAGE_ANNOTATION,
    Image,
    Requirement,
    block_devices,
    disk_of,
    limits,
    network_interfaces,
    overlay_requirements,
    requirements,
    taint_list,
    zone_requirement,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    MIG_CONFIG_LABEL,
    NODEPOOL_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.manifests import Field, Tree, merged, owned, value_at, with_fields
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    EC2_NODE_CLASS,
    NODE_OVERLAY,
    NODE_POOL,
    Kind,
    Object,
    labels_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import FIELD_MANAGER, MANAGED_BY_LABEL, Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import (
    COMPONENT,
    DEFAULT_ARCHITECTURES,
    DEFAULT_CAPACITY,
    NODEPOOL_TAG,
    Disk,
    Pool,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import FAST_IMAGE_PULL_THROUGHPUT, NodeSettings, parse, render
from ansible_collections.gpuops.eks.plugins.module_utils._plan import node_gpus
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool, Part
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import is_planned

_OWN_LABELS = (NODEPOOL_LABEL, GPU_PRESENT_LABEL, DEVICE_PLUGIN_CONFIG_LABEL, MIG_CONFIG_LABEL)
_SPEC, _TEMPLATE = ("spec",), ("spec", "template", "spec")
_METADATA_OPTIONS = {"httpEndpoint": "enabled", "httpProtocolIPv6": "disabled", "httpPutResponseHopLimit": 1, "httpTokens": "required"}
# GPU nodes take minutes to boot and to pull images: a node that was needed just now is likely to be needed again.
DEFAULT_CONSOLIDATE_AFTER = "5m"
DEFAULT_CONSOLIDATION = "WhenEmptyOrUnderutilized"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the objects of all pools have in common.

    ``role`` is that of pools that name none, as the user gave it; ``subnets_given``: option subnets was set. ``images`` are by pool, without those that stay.
    """

    owner: Owner
    security_group: str
    role: str | None = None
    subnets_given: bool = False
    purge_tags: bool = True
    images: t.Mapping[str, Image] = dataclasses.field(default_factory=dict)


def own_labels(pool: str) -> dict[str, str]:
    return {MANAGED_BY_LABEL: FIELD_MANAGER, NODEPOOL_LABEL: pool}


def selector() -> str:
    return f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"


def is_ours(obj: Object) -> bool:
    return labels_of(obj).get(MANAGED_BY_LABEL) == FIELD_MANAGER


def is_adopted(live: Object | None) -> bool:
    return live is not None and not is_ours(live)


def pool_of(obj: Object) -> str | None:
    return labels_of(obj).get(NODEPOOL_LABEL)


def family_of(live: Object | None) -> str | None:
    """The family of an EC2NodeClass's images in the words of pools."""
    terms = value_at(live, "spec", "amiSelectorTerms") or ()
    if named := next((str(term["alias"]).partition("@")[0] for term in terms if "alias" in term), None):
        return named
    return next((ours for ours, theirs in AMI_FAMILIES.items() if theirs == value_at(live, "spec", "amiFamily")), None)


def with_family_of(target: KarpenterPool, live: Object | None) -> KarpenterPool:
    """The pool with the family of the images that there are, where the user names none."""
    family, ami = family_of(live), target.pool.ami
    if ami.family or family not in AMI_FAMILIES:
        return target
    return dataclasses.replace(target, pool=dataclasses.replace(target.pool, ami=dataclasses.replace(ami, family=family)))


def _is_moved(pool: Pool, live: Object | None) -> bool:
    """Whether nodes get images of another family, which takes disks of other names and other user data."""
    there = family_of(live)
    return pool.ami.family is not None and there in AMI_FAMILIES and there != pool.ami.family


def _manifest(kind: Kind, name: str, pool: Pool, fields: t.Sequence[Field], live: Object | None, override: t.Mapping[str, t.Any]) -> Tree:
    base = owned(live, FIELD_MANAGER) if live else {}
    content = merged(with_fields(base, [field for field in fields if field.managed or live is None]), override)
    labels = {} if is_adopted(live) else own_labels(pool.name)
    metadata = merged(content.pop("metadata", {}), {"labels": labels} if labels else {})
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, **metadata}, **content}


# -- EC2NodeClass


def node_class(
    target: KarpenterPool, settings: Settings, live: Object | None, *, name: str | None = None, keep_subnets: bool = False
) -> Tree:
    """The EC2NodeClass that the pool's NodePools share; ``name`` is that of one that is adopted.

    ``keep_subnets``: there are nodes outside of the pool's zones, which Karpenter would replace if their subnets were left out.
    """
    pool, adopted = target.pool, is_adopted(live)
    fields = [
        *_image_fields(settings.images.get(pool.name)),
        *_identity_fields(pool, settings, adopted=adopted),
        _subnets_field(target, settings, live, keep=keep_subnets),
        *_network_fields(target, settings),
        *_disk_fields(pool, live),
        Field(path=(*_SPEC, "metadataOptions"), value=_METADATA_OPTIONS, managed=False),
        _tags_field(pool, settings, live),
        _user_data_field(pool, live),
    ]
    return _manifest(EC2_NODE_CLASS, name or pool.name, pool, fields, live, pool.overrides.node_class)


def _image_fields(image: Image | None) -> list[Field]:
    """None: it stays as it is."""
    if image is None:
        return []
    return [
        Field(path=(*_SPEC, "amiSelectorTerms"), value=[dict(term) for term in image.terms]),
        Field(path=(*_SPEC, "amiFamily"), value=image.family),
        Field(path=("metadata", "annotations", IMAGE_ANNOTATION), value=image.source),
    ]


def _identity_fields(pool: Pool, settings: Settings, *, adopted: bool) -> list[Field]:
    """Role or instance profile: setting one takes the other away."""
    managed = not adopted or bool(pool.instance_profile) or pool.node_role != settings.role
    if pool.node_role is None and pool.instance_profile is None:
        return []
    return [
        Field(path=(*_SPEC, "role"), value=None if pool.instance_profile else role_name(pool.node_role), managed=managed),
        Field(path=(*_SPEC, "instanceProfile"), value=pool.instance_profile, managed=managed),
    ]


def role_name(given: str | None) -> str | None:
    """Karpenter takes the name of a role."""
    return given if given is None or is_planned(given) else given.rpartition("/")[2]


def _subnets_field(target: KarpenterPool, settings: Settings, live: Object | None, *, keep: bool) -> Field:
    pool, there = target.pool, value_at(live, *_SPEC, "subnetSelectorTerms") or []
    given = bool(pool.subnets) or (not is_adopted(live) and (settings.subnets_given or bool(pool.zones)))
    wanted = [{"id": subnet.id} for subnet in target.subnets]
    kept = [term for term in there if term not in wanted] if keep else []
    return Field(path=(*_SPEC, "subnetSelectorTerms"), value=[*wanted, *kept], managed=given)


def _network_fields(target: KarpenterPool, settings: Settings) -> list[Field]:
    pool = target.pool
    groups = [settings.security_group, *pool.security_groups]
    reservations = [{"id": id_} for id_ in pool.capacity.reservations]
    group = pool.placement_group
    placement = None if group is None else {"id" if group.startswith("pg-") else "name": group}
    interfaces = network_interfaces(target.efa_interfaces) if target.efa_interfaces else None
    fields = [
        Field(
            path=(*_SPEC, "securityGroupSelectorTerms"),
            value=[{"id": id_} for id_ in dict.fromkeys(groups)],
            managed=bool(pool.security_groups),
        ),
        Field(path=(*_SPEC, "networkInterfaces"), value=interfaces, managed=pool.efa is not None),
    ]
    if reservations:
        fields.append(Field(path=(*_SPEC, "capacityReservationSelectorTerms"), value=reservations))
    return [*fields, Field(path=(*_SPEC, "placementGroupSelector"), value=placement)] if placement else fields


def _disk_fields(pool: Pool, live: Object | None) -> list[Field]:
    family, mappings, moved = pool.effective_ami_family, value_at(live, "spec", "blockDeviceMappings"), _is_moved(pool, live)
    there = disk_of(mappings, family_of(live) or family if moved else family)
    wanted = pool.disk.over(there) if there.size_gib else _created_disk(pool)
    policy = "RAID0" if pool.raid0 else None
    return [
        Field(
            path=(*_SPEC, "blockDeviceMappings"), value=block_devices(family, wanted.with_defaults()), managed=pool.disk != Disk() or moved
        ),
        Field(path=(*_SPEC, "instanceStorePolicy"), value=policy, managed=pool.instance_store is not None or moved),
    ]


def _created_disk(pool: Pool) -> Disk:
    return dataclasses.replace(pool.disk, kms_key=pool.disk.kms_key or pool.volumes_key)


def _tags_field(pool: Pool, settings: Settings, live: Object | None) -> Field:
    """The mark of what Karpenter makes, and the user's tags: the whole set of them where they purge."""
    there: t.Mapping[str, str] = value_at(live, "spec", "tags") or {}
    if is_adopted(live):
        return Field(path=(*_SPEC, "tags"), value={**there, **(pool.tags or {})}, managed=bool(pool.tags))
    marks = {**settings.owner.tags(COMPONENT), NODEPOOL_TAG: pool.name}
    kept = there if pool.tags is None or not settings.purge_tags else {}
    return Field(path=(*_SPEC, "tags"), value={**kept, **(pool.tags or {}), **marks})


def untold(pool: Pool, live: Object | None) -> bool:
    """Whether nodes would have to be told of their GPUs in user data that somebody else wrote."""
    there = parse(value_at(live, "spec", "userData") or "")
    return bool(node_gpus.mark(pool)) and bool(there.foreign) and pool.user_data is None


def _user_data_field(pool: Pool, live: Object | None) -> Field:
    """What Karpenter does not say itself: labels, taints and the instance's own disks it does."""
    path, family = (*_SPEC, "userData"), pool.effective_ami_family
    there, moved = parse(value_at(live, "spec", "userData") or ""), _is_moved(pool, live)
    disk = (
        pool.disk.over(disk_of(value_at(live, "spec", "blockDeviceMappings"), family_of(live) or family)) if live else _created_disk(pool)
    )
    fast = family == "al2023" and (disk.with_defaults().throughput or 0) >= FAST_IMAGE_PULL_THROUGHPUT
    if live is None or moved:
        text = render(family, NodeSettings(fast_image_pull=fast, extra=pool.user_data or (), **node_gpus.told(pool)))
        return Field(path=path, value=text or None, managed=moved)
    by_disk = pool.disk != Disk() and not there.foreign and not is_adopted(live)
    kept = there if pool.user_data is None else dataclasses.replace(there, foreign="", extra=pool.user_data)
    gpus = node_gpus.told_again(pool, kept)
    wanted = dataclasses.replace(kept, fast_image_pull=fast if by_disk else there.fast_image_pull, **gpus)
    by_gpus = any(getattr(there, name) != value for name, value in gpus.items())
    return Field(path=path, value=render(family, wanted) or None, managed=pool.user_data is not None or by_disk or by_gpus)


# -- NodeOverlay


def overlay(target: KarpenterPool, name: str, *, weight: int, node_pools: t.Sequence[str], live: Object | None) -> Tree:
    """What a node with so many physical GPUs advertises: Karpenter otherwise buys as if each share were a GPU."""
    pool, gpus = target.pool, target.overlay_names[name]
    advertised = {name: str(count) for name, count in pool.gpu_resources.advertised(gpus).items()}
    fields = [
        Field(path=(*_SPEC, "requirements"), value=overlay_requirements(node_pools, gpus, fractional=target.fractional)),
        Field(path=(*_SPEC, "capacity"), value=advertised),
        Field(path=(*_SPEC, "weight"), value=weight),
    ]
    return _manifest(NODE_OVERLAY, name, pool, fields, live, {})


# -- NodePool


def node_pool(target: KarpenterPool, part: Part, live: Object | None) -> Tree:
    """One NodePool of the pool."""
    pool = target.pool
    fields = [
        *_reference_fields(pool, live),
        Field(path=("spec", "template", "metadata", "labels"), value=_node_labels(pool, live)),
        Field(path=(*_TEMPLATE, "requirements"), value=_requirements(target, part, live)),
        _taints_field(pool),
        Field(
            path=(*_TEMPLATE, "startupTaints"), value=taint_list(pool.startup_taints or ()) or None, managed=pool.startup_taints is not None
        ),
        Field(path=("spec", "weight"), value=pool.priority, managed=pool.priority is not None),
        *_disruption_fields(pool),
        *_limit_fields(target, part),
    ]
    return _manifest(NODE_POOL, part.name, pool, fields, live, pool.overrides.node_pool)


def _reference_fields(pool: Pool, live: Object | None) -> list[Field]:
    if is_adopted(live):
        return []
    group = EC2_NODE_CLASS.api_version.partition("/")[0]
    return [Field(path=(*_TEMPLATE, "nodeClassRef"), value={"group": group, "kind": EC2_NODE_CLASS.kind, "name": pool.name})]


def _node_labels(pool: Pool, live: Object | None) -> dict[str, str]:
    """The labels of nodes, which are one value for the server. Of an adopted pool the user's are added, and what sharing needs."""
    there: t.Mapping[str, str] = value_at(live, "spec", "template", "metadata", "labels") or {}
    wanted = pool.wanted_labels
    if is_adopted(live):
        divided = pool.sharing is not None or pool.mig is not None
        needed = {GPU_PRESENT_LABEL, DEVICE_PLUGIN_CONFIG_LABEL} if divided else set()
        return {**there, **{key: value for key, value in wanted.items() if key in {*needed, *(pool.labels or {})}}}
    theirs = {key: value for key, value in there.items() if key not in _OWN_LABELS}
    return {**theirs, **wanted} if pool.labels is None else wanted


def _requirements(target: KarpenterPool, part: Part, live: Object | None) -> list[Requirement]:
    """The pool's, one list for the server. Of an adopted one those of other keys stay, and defaults take nothing's place."""
    pool = target.pool
    zone = zone_requirement(pool, part.zone, target.subnets)
    wanted = requirements(pool, zone=zone, fractional=target.fractional)
    if not is_adopted(live):
        return wanted
    there: list[Requirement] = value_at(live, *_TEMPLATE, "requirements") or []
    defaults = {
        ARCHITECTURE: pool.instances.architectures == DEFAULT_ARCHITECTURES,
        CAPACITY_TYPE: pool.capacity_types == DEFAULT_CAPACITY,
    }
    theirs, ours = _by_key(there), _by_key(wanted)
    given = {key: found for key, found in ours.items() if not (key in theirs and defaults.get(key))}
    return [one for found in (theirs | given).values() for one in found]  # each in its place, so that nothing differs the next time


def _by_key(wanted: t.Iterable[Requirement]) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for requirement in wanted:
        found.setdefault(requirement["key"], []).append(requirement)
    return found


def _taints_field(pool: Pool) -> Field:
    return Field(path=(*_TEMPLATE, "taints"), value=taint_list(pool.created_taints) or None, managed=pool.taints is not None)


def _disruption_fields(pool: Pool) -> list[Field]:
    wanted = pool.disruption
    budgets = None if wanted.budgets is None else [dict(budget) for budget in wanted.budgets]
    expiry = wanted.expire_after or ("Never" if pool.nvidia else None)
    values = {
        ("spec", "disruption", "consolidationPolicy"): (wanted.consolidation or DEFAULT_CONSOLIDATION, wanted.consolidation),
        ("spec", "disruption", "consolidateAfter"): (wanted.consolidate_after or DEFAULT_CONSOLIDATE_AFTER, wanted.consolidate_after),
        ("spec", "disruption", "budgets"): (budgets, budgets),
        (*_TEMPLATE, "expireAfter"): (expiry, wanted.expire_after),
    }
    return [Field(path=path, value=value, managed=given is not None) for path, (value, given) in values.items()]


def _limit_fields(target: KarpenterPool, part: Part) -> list[Field]:
    index = target.parts.index(part)
    found = limits(target.pool, largest=target.largest, index=index, parts=len(target.parts))
    return [Field(path=("spec", "limits", name), value=value, managed=name in found.managed) for name, value in found.values.items()]
