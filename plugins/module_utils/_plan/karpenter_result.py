# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What the module returns of a pool that Karpenter provisions. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.manifests import value_at
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import NODE_OVERLAY, NODE_POOL, Object, conditions_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool, Part
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import sharing_result

_TEMPLATE = ("spec", "template")


def pool_result(target: KarpenterPool, objects: t.Mapping[tuple[str, str], Object], node_class: str) -> dict[str, t.Any]:
    """The pool with one entry for each of its NodePools; ``objects`` by kind and name, as they are or will be."""
    pool = target.pool
    first = next((objects[NODE_POOL.kind, part.name] for part in target.parts if (NODE_POOL.kind, part.name) in objects), None)
    labels = value_at(first, *_TEMPLATE, "metadata", "labels")
    overlays = [name for (kind, name), obj in objects.items() if kind == NODE_OVERLAY.kind]
    return {
        "name": pool.name,
        "provisioner": pool.provisioner,
        "accelerator": pool.accelerator,
        "groups": [_group(target, part, objects.get((NODE_POOL.kind, part.name))) for part in target.parts],
        "labels": dict(labels) if labels else pool.wanted_labels,
        "taints": _taints(pool, first),
        "sharing": sharing_result(pool),
        "karpenter": {"node_class": node_class, "overlays": sorted(overlays)},
    }


def _group(target: KarpenterPool, part: Part, obj: Object | None) -> dict[str, t.Any]:
    nodes = value_at(obj, "spec", "limits", "nodes")
    return {
        "name": part.name,
        "zone": part.zone,
        "zones": [part.zone] if part.zone else list(target.zones),
        "gpu_count": None,
        "capacity_type": ",".join(target.pool.capacity_types),
        "instance_types": [],
        "min": 0,
        "max": int(nodes) if str(nodes).isdecimal() else None,
        "desired": None,
        "status": _status(obj),
    }


def _status(obj: Object | None) -> str | None:
    """Ready, NotReady or Unknown as Karpenter says; None where there is none yet."""
    if obj is None or "status" not in obj:
        return None
    words = {"True": "Ready", "False": "NotReady"}
    return words.get(str(conditions_of(obj).get("Ready", {}).get("status")), "Unknown")


def _taints(pool: Pool, obj: Object | None) -> list[dict[str, str]]:
    if obj is None:
        return [taint.to_result() for taint in pool.created_taints]
    taints = value_at(obj, *_TEMPLATE, "spec", "taints") or ()
    return [{"key": taint["key"], "value": taint.get("value") or "", "effect": taint["effect"]} for taint in taints]
