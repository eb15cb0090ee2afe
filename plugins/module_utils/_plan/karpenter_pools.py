# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which NodePools a pool consists of, and what EC2 says of the instance types that it may have. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.karpenter import RESERVED_TAG_PREFIX, RESERVED_TAGS
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import short_name
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import crowded
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts

NAME_LIMIT = 63  # nodes carry the name as the value of a label
_TYPES, _OFFERINGS = "ec2:DescribeInstanceTypes", "ec2:DescribeInstanceTypeOfferings"
_OVERRIDABLE = {"metadata": ("labels", "annotations"), "spec": None}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One NodePool of a pool. ``zone`` is None for one over all zones of the pool."""

    name: str
    zone: str | None = None


@dataclass(frozen=True, kw_only=True)
class KarpenterPool:
    """A pool with what its objects are made of. ``subnets`` are those in its zones, ``gpu_counts`` the GPUs that a node may have.

    ``fractional``: there are types with a part of a GPU, which count as 1. ``efa_interfaces`` is 0 where the pool wants no adapters.
    """

    pool: Pool
    parts: tuple[Part, ...]
    subnets: tuple[Subnet, ...] = ()
    gpu_counts: tuple[int, ...] = ()
    fractional: bool = False
    efa_interfaces: int = 0
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def largest(self) -> int:
        return max(self.gpu_counts, default=0)

    @property
    def overlaid(self) -> tuple[int, ...]:
        """The numbers of GPUs that Karpenter has to be told of: all where GPUs are shared or cut, else parts of a GPU, which it takes for 0."""
        if not self.pool.nvidia:
            return ()
        if self.pool.gpu_resources.divided:
            return self.gpu_counts
        return (1,) if self.fractional else ()

    @property
    def overlay_names(self) -> dict[str, int]:
        """The names of its overlays, each with the number of GPUs that it is for."""
        return {short_name(self.pool.name, f"{gpus}gpu", limit=NAME_LIMIT): gpus for gpus in self.overlaid}

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(subnet.zone for subnet in self.subnets))


def resolve(pool: Pool, subnets: t.Sequence[Subnet], facts: Ec2Facts) -> KarpenterPool:
    """The NodePools that a pool consists of, with every reason why they cannot be made."""
    chosen, faults = _subnets(pool, subnets)
    candidates, type_faults = _candidates(pool, facts.types)
    faults += type_faults + _tag_faults(pool) + _override_faults(pool)
    if candidates and chosen and pool.type_patterns:
        faults += _offering_faults(pool, candidates, chosen, facts)
    faults += _reservation_faults(pool, candidates, chosen, facts)
    interfaces, efa_faults = _efa_interfaces(pool, candidates)
    zones = list(dict.fromkeys(subnet.zone for subnet in chosen))
    counts = tuple(sorted({instance.gpus for instance in candidates})) if pool.nvidia else ()
    faults += efa_faults + (_share_faults(pool, zones) or _gpu_limit_faults(pool, counts, zones))
    parts = [part.name for part in candidates if part.fractional]
    fractions = [f"Pool {pool.name}: {', '.join(parts)} have a part of one GPU, which counts as 1."] if parts else []
    return KarpenterPool(
        pool=pool,
        parts=_parts(pool, zones),
        subnets=tuple(chosen),
        gpu_counts=counts,
        fractional=bool(parts),
        efa_interfaces=interfaces,
        faults=tuple(faults),
        warnings=(*fractions, *crowded(pool, candidates)),
    )


def _parts(pool: Pool, zones: t.Sequence[str]) -> tuple[Part, ...]:
    if pool.scaling.scope != "zone":
        return (Part(name=pool.name),)
    return tuple(Part(name=short_name(pool.name, zone, limit=NAME_LIMIT), zone=zone) for zone in zones)


def _subnets(pool: Pool, subnets: t.Sequence[Subnet]) -> tuple[list[Subnet], list[Fault]]:
    """The subnets in the pool's zones, in order of those, and the zones that have none."""
    if not subnets:
        allowed = "subnets for nodes: those of the pool, option subnets, or the cluster's own"
        return [], [Fault(path="subnets", value=[], allowed=allowed, source="Karpenter, EC2NodeClass: spec.subnetSelectorTerms")]
    if not pool.zones:
        return list(subnets), []
    known = ", ".join(sorted({subnet.zone for subnet in subnets}))
    faults = [
        Fault(
            path=join(pool.path, f"zones[{index}]"),
            value=zone,
            allowed=f"a zone with a subnet for nodes: {known}",
            source="the subnets given",
        )
        for index, zone in enumerate(pool.zones)
        if not any(subnet.lies_in(zone) for subnet in subnets)
    ]
    return [subnet for zone in pool.zones for subnet in subnets if subnet.lies_in(zone)], faults


def _candidates(pool: Pool, types: t.Mapping[str, InstanceType]) -> tuple[list[InstanceType], list[Fault]]:
    """The known instance types that satisfy the pool; one that is named and does not, or is not known, is a fault."""
    where = join(pool.path, "instances")
    faults = [
        Fault(path=f"{where}.types[{index}]", value=name, allowed=reason, source=_TYPES)
        for index, name in enumerate(pool.instances.types)
        if (reason := _unfit(pool, types.get(name)))
    ]
    found = [instance for instance in types.values() if _unfit(pool, instance) is None]
    if not found and not faults and pool.type_patterns:
        value = list(pool.type_patterns)
        faults.append(Fault(path=where, value=value, allowed="requirements that at least one instance type satisfies", source=_TYPES))
    return sorted(found, key=lambda instance: instance.order), faults


def _unfit(pool: Pool, instance: InstanceType | None) -> str | None:
    """Why an instance type is not for this pool, as what would be allowed; None where it is."""
    if instance is None:
        return "an instance type that EC2 has in this region"
    if bool(instance.gpus) != pool.nvidia:
        return f"a type {'with' if pool.nvidia else 'without'} NVIDIA GPUs in a pool with accelerator {pool.accelerator}"
    part = pool.instances.excluded_by(instance)
    return f"a type that satisfies instances.{part} as well" if part else None


def _offering_faults(pool: Pool, candidates: t.Sequence[InstanceType], subnets: t.Sequence[Subnet], facts: Ec2Facts) -> list[Fault]:
    """Nothing that the pool may have is offered where it may be."""
    names, zones = {instance.name for instance in candidates}, {subnet.zone for subnet in subnets}
    if any(names & facts.offerings.get(zone, set()) for zone in zones):
        return []
    elsewhere = sorted(zone for zone, types in facts.offerings.items() if names & types)
    allowed = f"types that {', '.join(sorted(zones))} offer; these are offered in {', '.join(elsewhere) or 'none that was looked at'}"
    return [Fault(path=join(pool.path, "instances"), value=sorted(names), allowed=allowed, source=_OFFERINGS)]


def _reservation_faults(pool: Pool, candidates: t.Sequence[InstanceType], subnets: t.Sequence[Subnet], facts: Ec2Facts) -> list[Fault]:
    """Reservations that the pool cannot use: Karpenter would wait for them without a word."""
    names, zones = {instance.name for instance in candidates}, {subnet.zone for subnet in subnets}
    faults = []
    for index, id_ in enumerate(pool.capacity.reservations):
        there = facts.reservations.get(id_)
        if there and there.zone in zones and (there.instance_type in names or not pool.type_patterns):
            continue
        what = f"it is for {there.instance_type} in {there.zone}" if there else "there is none of this id"
        allowed = f"an active reservation of one of the pool's types and zones; {what}"
        where = join(pool.path, f"capacity.reservations[{index}]")
        faults.append(Fault(path=where, value=id_, allowed=allowed, source="ec2:DescribeCapacityReservations"))
    return faults


def _efa_interfaces(pool: Pool, candidates: t.Sequence[InstanceType]) -> tuple[int, list[Fault]]:
    """How many adapters nodes get; all types of an EC2NodeClass have the same network interfaces."""
    if not pool.efa or not candidates:
        return 0, []
    numbers = sorted({instance.efa_interfaces for instance in candidates})
    if len(numbers) == 1 and numbers[0]:
        return numbers[0], []
    shown = ", ".join(f"{instance.name} ({instance.efa_interfaces})" for instance in candidates)
    allowed = f"instance types that all take the same number of adapters, at least 1; there are {shown}"
    return 0, [Fault(path=join(pool.path, "network.efa"), value=True, allowed=allowed, source=f"{_TYPES}: EfaInfo")]


def _share_faults(pool: Pool, zones: t.Sequence[str]) -> list[Fault]:
    """Limits of a pool are shared out over its NodePools; a share of 0 would be a NodePool that never has a node."""
    if pool.scaling.scope != "zone":
        return []
    given = {"gpus": pool.limits.gpus, "cpus": pool.limits.cpus, "memory_gib": pool.limits.memory_gib}
    allowed = f"at least {len(zones)}, one for each zone with scaling.scope zone"
    return [
        Fault(path=join(pool.path, f"limits.{name}"), value=value, allowed=allowed, source="the collection's options")
        for name, value in given.items()
        if value is not None and value < len(zones)
    ]


def _gpu_limit_faults(pool: Pool, counts: t.Sequence[int], zones: t.Sequence[str]) -> list[Fault]:
    """A limit that no node keeps to: Karpenter would never buy one, and say so nowhere but in its log.

    Where nodes advertise other resources than nvidia.com/gpu they are limited by number, each for as many GPUs as a node may have.
    """
    if pool.limits.gpus is None or not counts:
        return []
    parts = len(zones) if pool.scaling.scope == "zone" else 1
    least = (min(counts) if pool.gpu_resources.per_gpu() else max(counts)) * max(parts, 1)
    if pool.limits.gpus >= least:
        return []
    allowed = f"at least {least}, the GPUs of one node{' in each zone' if parts > 1 else ''}; nothing of the pool fits otherwise"
    return [Fault(path=join(pool.path, "limits.gpus"), value=pool.limits.gpus, allowed=allowed, source="the collection's options")]


def _tag_faults(pool: Pool) -> list[Fault]:
    source = "Karpenter, EC2NodeClass: spec.tags"
    return [
        Fault(path=join(pool.path, f"tags.{key}"), value=value, allowed="another key; Karpenter sets this one itself", source=source)
        for key, value in (pool.tags or {}).items()
        if key in RESERVED_TAGS or key.startswith(RESERVED_TAG_PREFIX)
    ]


def _override_faults(pool: Pool) -> list[Fault]:
    """What would make another object of it."""
    given = {"node_pool": pool.overrides.node_pool, "node_class": pool.overrides.node_class}
    return [
        Fault(
            path=join(pool.path, f"overrides.{name}.{key}"),
            value=value,
            allowed="spec, or metadata with labels and annotations",
            source="the collection's options",
        )
        for name, override in given.items()
        for key, value in override.items()
        if key not in _OVERRIDABLE or not isinstance(value, t.Mapping) or set(value) - set(_OVERRIDABLE[key] or value)
    ]
