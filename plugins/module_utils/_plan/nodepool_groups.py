# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which node groups a pool consists of: zones, GPU counts, capacity types, instance types and each group's share of the nodes. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Reservation, Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import short_name
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_MAX, DEFAULT_MIN, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import accelerator_label
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import crowded

NAME_LIMIT = 63
MAX_TYPES = 20
ALL_ZONES = "all"
RESERVED = ("reserved", "capacity_block")
_OFFERINGS = "ec2:DescribeInstanceTypeOfferings"
_TYPES = "ec2:DescribeInstanceTypes"


@dataclass(frozen=True, kw_only=True)
class Ec2Facts:
    """What EC2 said: instance types by name, which of them each zone offers, and the subnets that exist."""

    types: t.Mapping[str, InstanceType]
    offerings: t.Mapping[str, t.AbstractSet[str]]
    reservations: t.Mapping[str, Reservation] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WantedGroup:
    """One node group of a pool. ``zone`` is None for a group over all zones of the pool.

    ``fitting`` are the names of all instance types that satisfy the pool, ``matching`` those of them that are offered where the group is,
    ``instance_types`` those that a new group gets. ``reservations`` are the ids of the capacity reservations that the group is for,
    ``replaces`` are names of groups of ours that go, with their launch templates, once this one is there.
    """

    name: str
    pool: Pool
    zone: str | None
    subnets: tuple[Subnet, ...]
    gpu_count: int
    capacity_type: str
    matching: tuple[InstanceType, ...]
    fitting: frozenset[str] = frozenset()
    reservations: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    min: int = 0
    max: int = 0
    desired: int = 0

    @property
    def instance_types(self) -> tuple[str, ...]:
        return tuple(instance.name for instance in self.matching[:MAX_TYPES])

    @property
    def reservation(self) -> str | None:
        return self.reservations[0] if self.reservations else None

    @property
    def first_type(self) -> InstanceType | None:
        """The type by which cluster-autoscaler judges the group."""
        return self.matching[0] if self.matching else None

    @property
    def wanted_labels(self) -> dict[str, str]:
        """The labels of the group's nodes; a label that the user set stays."""
        return {**accelerator_label(self.pool, self.first_type), **self.pool.wanted_labels}

    @property
    def manages_max(self) -> bool:
        return self.pool.scaling.max is not None or self.pool.max_gpus is not None

    @property
    def emptied(self) -> bool:
        """Whether what the user set leaves no node to the group."""
        return self.max == 0 and self.manages_max

    @property
    def subnet_ids(self) -> tuple[str, ...]:
        return tuple(subnet.id for subnet in self.subnets)


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """The groups of a pool; with faults, there are none to rely on."""

    groups: tuple[WantedGroup, ...] = ()
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()


def group_name(pool: str, zone: str | None, gpus: int, capacity_type: str) -> str:
    """POOL-ZONE-Ngpu-CAPACITY, all parts always there."""
    return short_name(pool, zone or ALL_ZONES, f"{gpus}gpu", capacity_type.replace("_", "-"), limit=NAME_LIMIT)


def resolve_groups(pool: Pool, subnets: t.Sequence[Subnet], facts: Ec2Facts) -> Resolution:
    """The groups that a pool consists of in these subnets, or every reason why it cannot be made."""
    candidates, faults = _candidates(pool, facts)
    zones, zone_faults = _zones(pool, subnets)
    offered = {zone: [instance for instance in candidates if instance.name in facts.offerings.get(zone, ())] for zone in zones}
    faults += zone_faults
    if candidates and zones:
        faults += _offering_faults(pool, candidates, offered, facts)
    if faults:
        return Resolution(faults=tuple(faults))
    warnings = _warnings(pool, candidates, offered)
    served = {zone: found for zone, found in offered.items() if found}
    groups = _per_zone(pool, subnets, served) if pool.nvidia else _general(pool, subnets, served)
    groups, faults = _reserved(pool, groups, facts)
    if faults:
        return Resolution(faults=tuple(faults))
    if not groups:
        allowed = "instance types that every zone of the group offers; or scaling.scope zone"
        return Resolution(faults=(Fault(path=join(pool.path, "zones"), value=list(served), allowed=allowed, source=_OFFERINGS),))
    groups = [dataclasses.replace(group, fitting=_fitting(group, candidates)) for group in groups]
    shared, faults = _shared_out(pool, groups)
    return Resolution(groups=tuple(shared), faults=tuple(faults), warnings=tuple(warnings))


def _fitting(group: WantedGroup, candidates: t.Sequence[InstanceType]) -> frozenset[str]:
    return frozenset(instance.name for instance in candidates if instance.gpus == group.gpu_count)


def _candidates(pool: Pool, facts: Ec2Facts) -> tuple[list[InstanceType], list[Fault]]:
    """The instance types that satisfy the pool, best first; a type that is named and does not is a fault."""
    faults: list[Fault] = []
    where = join(pool.path, "instances")
    found = []
    for index, name in enumerate(pool.instances.types):
        if name not in facts.types:
            allowed = "an instance type that EC2 has in this region"
            faults.append(Fault(path=f"{where}.types[{index}]", value=name, allowed=allowed, source=_TYPES))
        elif reason := _unfit(pool, facts.types[name]):
            faults.append(Fault(path=f"{where}.types[{index}]", value=name, allowed=reason, source=_TYPES))
    for instance in facts.types.values():
        if _unfit(pool, instance) is None:
            found.append(instance)
    if not found and not faults:
        value = list(pool.instances.patterns)
        faults.append(Fault(path=where, value=value, allowed="requirements that at least one instance type satisfies", source=_TYPES))
    return sorted(found, key=lambda instance: instance.order), faults


def fitting_types(pool: Pool, facts: Ec2Facts) -> frozenset[str]:
    """The names of all instance types that satisfy the pool."""
    return frozenset(instance.name for instance in facts.types.values() if _unfit(pool, instance) is None)


def _unfit(pool: Pool, instance: InstanceType) -> str | None:
    """Why an instance type is not for this pool, as what would be allowed; None where it is."""
    if pool.nvidia and not instance.gpus:
        return "a type with NVIDIA GPUs in a pool with accelerator nvidia"
    if not pool.nvidia and instance.gpus:
        return "a type without NVIDIA GPUs in a pool with accelerator none"
    part = pool.instances.excluded_by(instance)
    if part == "architectures":
        has = ", ".join(sorted(instance.architectures))
        return f"a type of instances.architectures {list(pool.instances.architectures)}; this one is {has}"
    return f"a type that satisfies instances.{part} as well" if part else None


def _zones(pool: Pool, subnets: t.Sequence[Subnet]) -> tuple[list[str], list[Fault]]:
    """The names of the pool's zones in order, and the zones without a subnet."""
    known = list(dict.fromkeys(subnet.zone for subnet in subnets))
    if not known:
        allowed = "subnets for nodes: those of the pool, option subnets, or the cluster's own"
        return [], [Fault(path="subnets", value=[], allowed=allowed, source="EKS API Reference, CreateNodegroup")]
    if not pool.zones:
        return known, []
    zones, faults = [], []
    for index, zone in enumerate(pool.zones):
        subnet = next((subnet for subnet in subnets if subnet.lies_in(zone)), None)
        if subnet is None:
            allowed = f"a zone with a subnet for nodes: {', '.join(sorted(known))}"
            faults.append(Fault(path=join(pool.path, f"zones[{index}]"), value=zone, allowed=allowed, source="the subnets given"))
        else:
            zones.append(subnet.zone)
    return list(dict.fromkeys(zones)), faults


def _offering_faults(
    pool: Pool, candidates: t.Sequence[InstanceType], offered: t.Mapping[str, t.Sequence[InstanceType]], facts: Ec2Facts
) -> list[Fault]:
    """Zones that are asked for and offer no type; types that are named and that no zone offers."""
    names = {instance.name for instance in candidates}
    elsewhere = sorted(zone for zone, types in facts.offerings.items() if names & types)
    allowed = f"zones that offer one of these types: {', '.join(elsewhere) or 'none that was looked at does'}"
    if not any(offered.values()):
        value = [instance.name for instance in candidates[:MAX_TYPES]]
        return [
            Fault(
                path=join(pool.path, "instances"),
                value=value,
                allowed=f"types that a zone of the pool offers; {allowed}",
                source=_OFFERINGS,
            )
        ]
    faults = []
    for zone in pool.zones and offered:
        if not offered[zone]:
            faults.append(Fault(path=join(pool.path, "zones"), value=zone, allowed=allowed, source=_OFFERINGS))
    anywhere = {instance.name for found in offered.values() for instance in found}
    for index, name in enumerate(pool.instances.types):
        if name in names and name not in anywhere:
            where = join(pool.path, f"instances.types[{index}]")
            zones = ", ".join(offered)
            faults.append(Fault(path=where, value=name, allowed=f"a type that is offered in one of {zones}", source=_OFFERINGS))
    return faults


def _warnings(pool: Pool, candidates: t.Sequence[InstanceType], offered: t.Mapping[str, t.Sequence[InstanceType]]) -> list[str]:
    warnings = [
        f"Pool {pool.name}: {zone} offers none of its instance types, so that it has no node group there."
        for zone, found in offered.items()
        if not found
    ]
    parts = [instance.name for instance in candidates if instance.fractional]
    if parts:
        warnings.append(f"Pool {pool.name}: {', '.join(parts)} have a part of one GPU, which counts as 1.")
    return warnings + crowded(pool, candidates)


def _per_zone(pool: Pool, subnets: t.Sequence[Subnet], offered: t.Mapping[str, t.Sequence[InstanceType]]) -> list[WantedGroup]:
    """One group per zone, GPU count and capacity type."""
    groups = []
    for zone, found in offered.items():
        there = tuple(subnet for subnet in subnets if subnet.zone == zone)
        for count in sorted({instance.gpus for instance in found}):
            matching = tuple(instance for instance in found if instance.gpus == count)
            groups += [_group(pool, zone, there, count, kind, matching) for kind in pool.capacity_types]
    return groups


def _general(pool: Pool, subnets: t.Sequence[Subnet], offered: t.Mapping[str, t.Sequence[InstanceType]]) -> list[WantedGroup]:
    """One group per capacity type over all zones, of the types that all of them offer; with scope zone one per zone."""
    if pool.scaling.scope == "zone":
        return _per_zone(pool, subnets, offered)
    everywhere = set.intersection(*({instance.name for instance in found} for found in offered.values()))
    matching = tuple(instance for instance in next(iter(offered.values())) if instance.name in everywhere)
    there = tuple(subnet for subnet in subnets if subnet.zone in offered)
    return [_group(pool, None, there, 0, kind, matching) for kind in pool.capacity_types] if matching else []


def _group(
    pool: Pool, zone: str | None, subnets: tuple[Subnet, ...], count: int, kind: str, matching: tuple[InstanceType, ...]
) -> WantedGroup:
    name = group_name(pool.name, zone, count, kind)
    return WantedGroup(name=name, pool=pool, zone=zone, subnets=subnets, gpu_count=count, capacity_type=kind, matching=matching)


def _reserved(pool: Pool, groups: t.Sequence[WantedGroup], facts: Ec2Facts) -> tuple[list[WantedGroup], list[Fault]]:
    """The groups, those for reservations only where there is one for them, and of its type; a reservation that no group can use is a fault.

    A managed node group's launch template names one reservation.
    """
    where = join(pool.path, "capacity.reservations")
    faults: list[Fault] = []
    kept = [group for group in groups if group.capacity_type not in RESERVED]
    for group in groups:
        fitting = [facts.reservations[id_] for id_ in pool.capacity.reservations if _fits(facts.reservations.get(id_), group)]
        if group.capacity_type not in RESERVED or not fitting:
            continue
        if len(fitting) > 1 and pool.provisioner == "managed_node_group":
            value = [one.id for one in fitting]
            allowed = f"one reservation for {group.name}; a pool of its own for each of the others, or provisioner auto_scaling_group"
            faults.append(
                Fault(path=where, value=value, allowed=allowed, source="EC2 API Reference, LaunchTemplateCapacityReservationSpecification")
            )
        names = {one.instance_type for one in fitting}
        matching = tuple(instance for instance in group.matching if instance.name in names)
        kept.append(dataclasses.replace(group, matching=matching, reservations=tuple(one.id for one in fitting)))
    used = {id_ for group in kept for id_ in group.reservations}
    for index, id_ in enumerate(pool.capacity.reservations):
        if id_ not in used:
            there = facts.reservations.get(id_)
            what = f"it is for {there.instance_type} in {there.zone}" if there else "there is none of this id"
            allowed = f"an active reservation of one of the pool's types and zones; {what}"
            faults.append(Fault(path=f"{where}[{index}]", value=id_, allowed=allowed, source="ec2:DescribeCapacityReservations"))
    return kept, faults


def _fits(reservation: Reservation | None, group: WantedGroup) -> bool:
    return (
        reservation is not None
        and reservation.zone in (group.zone, *(subnet.zone for subnet in group.subnets if group.zone is None))
        and any(instance.name == reservation.instance_type for instance in group.matching)
    )


def _shared_out(pool: Pool, groups: t.Sequence[WantedGroup]) -> tuple[list[WantedGroup], list[Fault]]:
    """The groups with their shares of min, max and desired: of the pool, or of each zone; maxima lowered to the GPU limit."""
    scaling = pool.scaling
    least = DEFAULT_MIN if scaling.min is None else scaling.min
    most = DEFAULT_MAX if scaling.max is None else scaling.max
    desired = least if scaling.desired is None else scaling.desired
    zones = list(dict.fromkeys(group.zone for group in groups)) if scaling.scope == "zone" else [None]
    shared = []
    for zone in zones:
        part = [group for group in groups if scaling.scope == "pool" or group.zone == zone]
        shares = zip(part, _shares(least, len(part)), _shares(most, len(part)), _shares(desired, len(part)), strict=True)
        shared += [dataclasses.replace(group, min=low, max=high, desired=now) for group, low, high, now in shares]
    return _within_gpu_limit(pool, shared)


def _shares(number: int, parts: int) -> list[int]:
    """A number of nodes shared out, the remainder to the first."""
    return [number // parts + (1 if index < number % parts else 0) for index in range(parts)]


def _within_gpu_limit(pool: Pool, groups: list[WantedGroup]) -> tuple[list[WantedGroup], list[Fault]]:
    """The groups' maxima lowered, last first, until their GPUs fit; a fault where the minima alone do not, or no node does."""
    if pool.max_gpus is None:
        return groups, []
    least = sum(group.min * group.gpu_count for group in groups)
    if least > pool.max_gpus:
        allowed = f"at least {least}, the GPUs of scaling.min"
        return groups, [Fault(path=join(pool.path, "limits.gpus"), value=pool.max_gpus, allowed=allowed, source="the collection's options")]
    surplus = sum(group.max * group.gpu_count for group in groups) - pool.max_gpus
    lowered = []
    for group in reversed(groups):
        nodes = min(group.max - group.min, -(-surplus // group.gpu_count)) if surplus > 0 else 0
        surplus -= nodes * group.gpu_count
        lowered.append(dataclasses.replace(group, max=group.max - nodes, desired=min(group.desired, group.max - nodes)))
    if any(group.max for group in lowered):
        return lowered[::-1], []
    last = next(group for group in groups if group.max)  # the one that is lowered last
    allowed = f"at least {last.gpu_count}, the GPUs of one node of {last.name}; nothing of the pool fits otherwise"
    return groups, [Fault(path=join(pool.path, "limits.gpus"), value=pool.max_gpus, allowed=allowed, source="the collection's options")]
