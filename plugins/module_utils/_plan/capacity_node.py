# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A GPU node as the capacity report has it: its GPUs, how they are shared or divided, and the counts of what it advertises. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.capacity import Declared, Usage
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Catalog, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import selects

Report = dict[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A GPU node with its counts.

    ``replicas``: how many nvidia.com/gpu, or nvidia.com/gpu.shared, a GPU is advertised as; None where that is unknown, or it is advertised
    otherwise. ``taken``: what its pods have of each resource; None where pods were not read. ``own_shm``: those that mount a volume of their
    own at /dev/shm.
    """

    node: Node
    gpus: int | None
    model: str | None
    replicas: int | None
    declared: Declared | None
    resources: tuple[Report, ...]
    taken: t.Mapping[str, int] | None = None
    own_shm: t.Sequence[str] = ()


def line_of(node: Node, catalog: Catalog, declared: t.Iterable[Declared], usage: Usage | None) -> Line:
    """A node with the configuration that selects it. What is 0 everywhere is no resource of it."""
    gpus = node.gpus(catalog)
    chosen = next((item for item in declared if selects(item.terms, node.labels)), None)
    replicas = _declared_replicas(chosen) if chosen else _labelled_replicas(node)
    taken = None if usage is None else usage.requested.get(node.name, {})
    names = sorted({name for counts in (node.allocatable, node.capacity, taken or {}) for name, number in counts.items() if number})
    instances = _is_single(node, chosen)
    resources = tuple(_resource(node, name, taken, _unit(name, node.allocatable.get(name, 0), gpus, replicas, instances)) for name in names)
    return Line(
        node=node,
        gpus=gpus,
        model=node.model(catalog),
        replicas=replicas,
        declared=chosen,
        resources=resources,
        taken=taken,
        own_shm=() if usage is None else usage.own_shm.get(node.name, ()),
    )


def _declared_replicas(declared: Declared) -> int | None:
    return declared.resources.get(GPU_RESOURCE) or declared.resources.get(f"{GPU_RESOURCE}.shared") or None


def _labelled_replicas(node: Node) -> int | None:
    """What GPU feature discovery says; 0, its word for a node of MIG devices alone, is no number of replicas."""
    value = node.labels.get("nvidia.com/gpu.replicas", "")
    return int(value) or None if value.isdigit() else None


def _is_single(node: Node, declared: Declared | None) -> bool:
    """Whether its nvidia.com/gpu are MIG instances: by its configuration, else by GPU feature discovery."""
    if declared is not None:
        return declared.mig == "single"
    return node.labels.get("nvidia.com/mig.strategy") == "single" and "-MIG-" in node.labels.get("nvidia.com/gpu.product", "")


def _resource(node: Node, name: str, taken: t.Mapping[str, int] | None, unit: str) -> Report:
    allocatable = node.allocatable.get(name, 0)
    requested = None if taken is None else taken.get(name, 0)
    usable = node.ready and node.schedulable
    free = None if requested is None else max(0, allocatable - requested) if usable else 0
    return {
        "name": name,
        "unit": unit,
        "capacity": node.capacity.get(name, 0),
        "allocatable": allocatable,
        "requested": requested,
        "free": free,
    }


def _unit(name: str, allocatable: int, gpus: int | None, replicas: int | None, instances: bool) -> str:
    if name.startswith("nvidia.com/mig-") or (instances and name.startswith(GPU_RESOURCE)):
        return "mig_slice"
    shared = name.endswith(".shared") or (replicas or 1) > 1 or (gpus is not None and allocatable > gpus)
    return "share" if shared else "gpu"
