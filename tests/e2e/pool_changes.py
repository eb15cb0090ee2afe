# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pool for each provisioner before and after its owner changed all at once what can be changed of it."""

from __future__ import annotations

import typing as t

Params = dict[str, t.Any]

GENERAL: Params = {
    "name": "general",
    "accelerator": "none",
    "provisioner": "managed_node_group",
    "instances": {"types": ["m5.xlarge"]},
    "scaling": {"min": 2, "max": 2},
}
BEFORE: Params = {
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a"],
    "scaling": {"min": 0, "max": 2},
    "sharing": {"strategy": "time_slicing", "replicas": 4},
    "labels": {"team": "ml"},
    "tags": {"team": "ml"},
    "disruption": {"consolidate_after": "5m"},
    "priority": 10,
}
AFTER: Params = {
    "scaling": {"max": 3},
    "sharing": {"replicas": 8},
    "labels": {"team": "research", "stage": "test"},
    "taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}],
    "tags": {"stage": "test"},
    "disk": {"size_gib": 300},
    "disruption": {"consolidate_after": "10m"},
    "priority": 20,
}
#: What only one of them can express.
OWN: dict[str, Params] = {
    "karpenter": {
        "disruption": {"consolidation": "WhenEmpty", "budgets": [{"nodes": "1"}], "expire_after": "720h"},
    },
    "managed_node_group": {
        "scaling": {"min": 1},
        "update": {"max_unavailable": 2, "strategy": "minimal"},
        "repair": {"enabled": False},
    },
    "auto_scaling_group": {"scaling": {"min": 1}},
}


def merged(base: Params, over: Params) -> Params:
    """Both, ``over`` last: dictionaries deep but labels and tags, which are whole sets."""
    found = dict(base)
    for key, value in over.items():
        deep = isinstance(value, dict) and isinstance(found.get(key), dict) and key not in ("labels", "tags")
        found[key] = merged(found[key], value) if deep else value
    return found


def pool_name(provisioner: str) -> str:
    return f"gpu-{provisioner.replace('_', '-')}"


def pools(*, changed: bool) -> list[Params]:
    """The inventory's pools."""
    found = []
    for provisioner, own in OWN.items():
        pool = {"name": pool_name(provisioner), "provisioner": provisioner, **BEFORE}
        found.append(merged(merged(pool, AFTER), own) if changed else pool)
    return [GENERAL, *found]


def changed_options() -> set[str]:
    """The dotted paths of the options that any of the pools changes."""

    def paths(values: Params, path: str = "") -> t.Iterator[str]:
        for key, value in values.items():
            if isinstance(value, dict) and key not in ("labels", "tags"):
                yield from paths(value, f"{path}{key}.")
            else:
                yield f"{path}{key}"

    return {path for values in (AFTER, *OWN.values()) for path in paths(values)}
