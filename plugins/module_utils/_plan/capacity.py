# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The capacity report: what is there, taken and free, and what does not look right. Pure.

Lists with key fields; null is unknown, 0 is zero. Its keys are a contract with whoever reads them: schema_version says which.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.capacity import Declared, Usage
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Catalog, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.scaling_activity import FailedLaunch
from ansible_collections.gpuops.eks.plugins.module_utils._plan.capacity_findings import failed_launch, findings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.capacity_node import Line, Report, line_of

SCHEMA_VERSION = 1
_NOT_GATHERED = ("fragmentation", "fits", "quotas", "prices", "offers", "reservations", "cost", "utilization")


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was read. ``usage`` None: pods were not; ``nodes`` None: nothing was."""

    cluster: t.Mapping[str, t.Any]
    at: str
    nodes: t.Sequence[Node] | None = None
    catalog: Catalog = field(default_factory=dict)
    usage: Usage | None = None
    declared: t.Sequence[Declared] = ()
    failed_launches: t.Sequence[FailedLaunch] = ()
    sources: t.Sequence[str] = ()
    warnings: t.Sequence[str] = ()


def report(seen: Seen, subset: t.Collection[str]) -> Report:
    """All keys of the report; those that were not asked for, or are not gathered yet, are null."""
    nodes = None if seen.nodes is None else [node for node in seen.nodes if node.has_gpus(seen.catalog)]
    lines = None if nodes is None else [line_of(node, seen.catalog, seen.declared, seen.usage) for node in nodes]
    parts: dict[str, t.Callable[[list[Line]], t.Any]] = {
        "totals": lambda found: _totals(found, seen.usage),
        "pools": _pools,
        "groups": _groups,
        "resources": lambda found: _added(line.resources for line in found),
        "findings": lambda found: [*findings(found, seen.declared, seen.usage), *map(failed_launch, seen.failed_launches)],
        "nodes": lambda found: [_node(line) for line in found],
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "collected": {"at": seen.at, "sources": list(seen.sources), "warnings": list(seen.warnings)},
        "cluster": dict(seen.cluster),
        **{name: part(lines) if lines is not None and name in subset else None for name, part in parts.items()},
        "demand": {"pending": _pending(seen.usage) if seen.usage is not None and "demand" in subset else None, "queued": None},
        **dict.fromkeys(_NOT_GATHERED),
    }


def _added(lists: t.Iterable[t.Iterable[Report]]) -> list[Report]:
    """Resources added up by name and unit; a sum with something unknown is unknown."""
    found: dict[tuple[str, str], list[Report]] = {}
    for resources in lists:
        for resource in resources:
            found.setdefault((resource["name"], resource["unit"]), []).append(resource)
    numbers = ("capacity", "allocatable", "requested", "free")
    return [
        {"name": name, "unit": unit, **{number: _sum(item[number] for item in items) for number in numbers}}
        for (name, unit), items in sorted(found.items())
    ]


def _sum(numbers: t.Iterable[int | None]) -> int | None:
    known = list(numbers)
    return None if None in known else sum(number for number in known if number is not None)


def _distinct(values: t.Iterable[str | None]) -> list[str]:
    return sorted({value for value in values if value is not None})


def _totals(lines: list[Line], usage: Usage | None) -> Report:
    return {"nodes": len(lines), "gpus": _sum(line.gpus for line in lines), "pods": None if usage is None else usage.pods}


def _split(lines: list[Line], key: t.Callable[[Line], tuple[str | None, ...]]) -> list[tuple[tuple[str | None, ...], list[Line]]]:
    found: dict[tuple[str | None, ...], list[Line]] = {}
    for line in lines:
        found.setdefault(key(line), []).append(line)
    return sorted(found.items(), key=lambda item: tuple(part or "" for part in item[0]))


def _pools(lines: list[Line]) -> list[Report]:
    return [
        {
            "name": name,
            **_counted(members),
            "models": _distinct(line.model for line in members),
            "zones": _distinct(line.node.zone for line in members),
            "capacity_types": _distinct(line.node.capacity_type for line in members),
            "resources": _added(line.resources for line in members),
        }
        for (name,), members in _split(lines, lambda line: (line.node.pool,))
    ]


def _groups(lines: list[Line]) -> list[Report]:
    return [
        {
            "pool": pool,
            "model": model,
            "zone": zone,
            "capacity_type": capacity_type,
            **_counted(members),
            "instance_types": _distinct(line.node.instance_type for line in members),
            "resources": _added(line.resources for line in members),
        }
        for (pool, model, zone, capacity_type), members in _split(
            lines, lambda line: (line.node.pool, line.model, line.node.zone, line.node.capacity_type)
        )
    ]


def _counted(lines: list[Line]) -> Report:
    return {"nodes": len(lines), "gpus": _sum(line.gpus for line in lines)}


def _node(line: Line) -> Report:
    node = line.node
    return {
        "name": node.name,
        "pool": node.pool,
        "instance_type": node.instance_type,
        "model": line.model,
        "zone": node.zone,
        "capacity_type": node.capacity_type,
        "ready": node.ready,
        "schedulable": node.schedulable,
        "gpus": line.gpus,
        "replicas": line.replicas,
        "resources": list(line.resources),
    }


def _pending(usage: Usage) -> list[Report]:
    ordered = sorted(usage.pending.items(), key=lambda item: (item[0].namespace, item[0].kind, item[0].name, item[0].resources))
    return [
        {
            "namespace": shape.namespace,
            "kind": shape.kind,
            "name": shape.name,
            "pods": pods,
            "resources": [{"name": name, "requested": number} for name, number in shape.resources],
            "node_selector": dict(shape.node_selector),
            "reason": shape.reason,
            "message": shape.message,
            "since": usage.oldest[shape] or None,
        }
        for shape, pods in ordered
    ]
