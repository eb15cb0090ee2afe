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
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._model.scaling_activity import FailedLaunch
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import selects

Report = dict[str, t.Any]

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


@dataclass(frozen=True, kw_only=True)
class Line:
    """A GPU node with its counts."""

    node: Node
    gpus: int | None
    model: str | None
    replicas: int | None
    declared: Declared | None
    resources: tuple[Report, ...]


def report(seen: Seen, subset: t.Collection[str]) -> Report:
    """All keys of the report; those that were not asked for, or are not gathered yet, are null."""
    lines = None if seen.nodes is None else [_line(node, seen) for node in seen.nodes if node.has_gpus(seen.catalog)]
    parts: dict[str, t.Callable[[list[Line]], t.Any]] = {
        "totals": lambda found: _totals(found, seen.usage),
        "pools": _pools,
        "groups": _groups,
        "resources": lambda found: _added(line.resources for line in found),
        "findings": lambda found: [
            *(finding for line in found for finding in _findings(line)),
            *map(_launch_finding, seen.failed_launches),
        ],
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


def _line(node: Node, seen: Seen) -> Line:
    gpus = node.gpus(seen.catalog)
    declared = next((item for item in seen.declared if selects(item.terms, node.labels)), None)
    replicas = declared.replicas if declared else _labelled_replicas(node)
    taken = None if seen.usage is None else seen.usage.requested.get(node.name, {})
    names = sorted({name for counts in (node.allocatable, node.capacity, taken or {}) for name, number in counts.items() if number})
    resources = tuple(_resource(node, name, taken, gpus, replicas) for name in names)
    return Line(node=node, gpus=gpus, model=node.model(seen.catalog), replicas=replicas, declared=declared, resources=resources)


def _labelled_replicas(node: Node) -> int | None:
    """What GPU feature discovery says; 0, its word for a node of MIG devices alone, is no number of replicas."""
    value = node.labels.get("nvidia.com/gpu.replicas", "")
    return int(value) or None if value.isdigit() else None


def _resource(node: Node, name: str, taken: t.Mapping[str, int] | None, gpus: int | None, replicas: int | None) -> Report:
    allocatable = node.allocatable.get(name, 0)
    requested = None if taken is None else taken.get(name, 0)
    usable = node.ready and node.schedulable
    free = None if requested is None else max(0, allocatable - requested) if usable else 0
    return {
        "name": name,
        "unit": _unit(name, allocatable, gpus, replicas),
        "capacity": node.capacity.get(name, 0),
        "allocatable": allocatable,
        "requested": requested,
        "free": free,
    }


def _unit(name: str, allocatable: int, gpus: int | None, replicas: int | None) -> str:
    if name.startswith("nvidia.com/mig-"):
        return "mig_slice"
    shared = name.endswith(".shared") or (replicas or 1) > 1 or (gpus is not None and allocatable > gpus)
    return "share" if shared else "gpu"


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


def _findings(line: Line) -> list[Report]:
    node, subject = line.node, f"node/{line.node.name}"
    what = f"Node {node.name} ({', '.join(part for part in (node.instance_type, _gpus(line.gpus)) if part)})"
    if not any(node.allocatable.values()) and not any(node.capacity.values()):
        return [_finding("gpu_not_advertised", subject, f"{what} advertises no nvidia.com resource.", _missing_plugin(line))]
    found = [
        _finding(
            "devices_unhealthy",
            subject,
            f"{what} has {resource['capacity'] - resource['allocatable']} of {resource['capacity']} {resource['name']} unhealthy.",
            "Look for XID errors in the node's kernel log, then replace the node, or delete its device plugin pod to have them tried again.",
        )
        for resource in line.resources
        if resource["allocatable"] < resource["capacity"]
    ]
    return found or _sharing_findings(line, what, subject)


def _launch_finding(failed: FailedLaunch) -> Report:
    """A group that got no instance when it last asked for one: the zone's other groups, or other zones, have to serve."""
    name = f"node group {failed.node_group}" if failed.node_group else f"Auto Scaling group {failed.group}"
    pool = f" of pool {failed.pool}" if failed.pool else ""
    message = (
        f"{name[0].upper()}{name[1:]}{pool} in {', '.join(failed.zones)} could not launch an instance at {failed.at}: {failed.message}"
    )
    fix = "Other zones and groups of the pool serve meanwhile, where it has any: give it more zones, instance types or capacity types."
    return _finding("launch_failed", f"auto-scaling-group/{failed.group}", message, fix)


def _sharing_findings(line: Line, what: str, subject: str) -> list[Report]:
    if line.gpus is None or line.replicas is None:
        return []
    name, expected = line.declared.resource if line.declared else GPU_RESOURCE, line.gpus * line.replicas
    seen = line.node.allocatable.get(name, 0)
    if seen == expected or line.declared is None:
        return []
    message = f"{what} advertises {name} {seen}; {line.declared.daemon_set} says {line.replicas} for each GPU, {expected}."
    fix = "Run gpuops.eks.nvidia_device_plugin, which waits for it and says what keeps it; pods of an older configuration have to be replaced."
    return [_finding("sharing_differs", subject, message, fix)]


def _missing_plugin(line: Line) -> str:
    if line.declared is not None:
        return f"See the pod of DaemonSet {line.declared.daemon_set} on this node, or run gpuops.eks.nvidia_device_plugin, which says why."
    return "Install the device plugin with a configuration that selects this node: gpuops.eks.nvidia_device_plugin."


def _gpus(number: int | None) -> str:
    return "" if number is None else f"{number} GPU{'' if number == 1 else 's'}"


def _finding(code: str, subject: str, message: str, fix: str) -> Report:
    return {"code": code, "subject": subject, "message": message, "fix": fix}
