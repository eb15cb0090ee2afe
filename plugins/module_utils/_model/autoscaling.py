# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a cluster's pools need of controllers that scale them, and in which order cluster-autoscaler grows its groups. Pure.

Sources: kubernetes/autoscaler 1.36, cluster-autoscaler/expander/priority/readme.md; Amazon EKS API Reference, CreateNodegroup (names of Auto Scaling
groups of managed node groups); the AWS Node Termination Handler's README.
"""

from __future__ import annotations

import hashlib
import json
import typing as t
from collections import defaultdict

from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_CAPACITY, DEFAULT_MAX, DEFAULT_MIN

Pool = t.Mapping[str, t.Any]

# A reservation is paid for anyway, and Spot is the cheaper of the others.
_PREFERENCE = {"reserved": 3, "capacity_block": 3, "spot": 2, "mixed": 2, "on_demand": 1}
_STEP = 10  # priorities of pools count more than what is bought
_LONGEST_GROUP, _LONGEST_NAME = 63, 128  # of a group of a pool, of an Auto Scaling group of our own; longer ones end in a hash
_HASH = 9
# POOL-ZONE-Ngpu-CAPACITY; a zone is us-west-2a, or us-west-2-lax-1a.
_ZONE = "(all|[a-z]{2}-[a-z0-9-]*[0-9][a-z])"
_LONGEST_END = len("-us-west-2-phx-2a-16gpu-capacity-block")
# What a node that is not there yet is taken to be.
_TEMPLATE = ("name", "accelerator", "instances", "labels", "taints", "startup_taints", "sharing", "mig")


def needs(pools: t.Sequence[Pool]) -> dict[str, t.Any]:
    """Which controllers the pools need: ``karpenter``, ``cluster_autoscaler``, ``termination_handler``.

    ``node_roles`` are the roles that nodes of Karpenter and of self-managed groups take by their own pool's option, which EKS has to be told of;
    ``default_node_role`` whether some take the cluster's; ``own_roles`` are Karpenter's pools whose nodes have a role that is made for them.
    ``templates`` changes with what cluster-autoscaler expects of nodes to come.
    """
    karpenter = [pool for pool in pools if _provisioner(pool) == "karpenter"]
    groups = [pool for pool in pools if _provisioner(pool) == "auto_scaling_group"]
    scaled = [*groups, *(pool for pool in pools if _provisioner(pool) == "managed_node_group")]
    iam = [pool.get("iam") or {} for pool in (*karpenter, *groups)]
    return {
        "karpenter": bool(karpenter),
        "cluster_autoscaler": any(_grows(pool) for pool in scaled),
        "termination_handler": any("spot" in _capacity(pool) for pool in groups),
        "self_managed": bool(karpenter or groups),
        "node_roles": list(dict.fromkeys(one["node_role"] for one in iam if one.get("node_role"))),
        "default_node_role": any(not any(one.get(name) for name in ("node_role", "instance_profile", "policies")) for one in iam),
        "own_roles": [str(pool["name"]) for pool in karpenter if (pool.get("iam") or {}).get("policies")],
        "templates": _digest([{name: pool.get(name) for name in _TEMPLATE} for pool in scaled]),
    }


def _provisioner(pool: Pool) -> str:
    return pool.get("provisioner") or "managed_node_group"


def _capacity(pool: Pool) -> t.Sequence[str]:
    return (pool.get("capacity") or {}).get("types") or DEFAULT_CAPACITY


def _grows(pool: Pool) -> bool:
    scaling = pool.get("scaling") or {}
    least, most = scaling.get("min"), scaling.get("max")
    return int(DEFAULT_MAX if most is None else most) > int(DEFAULT_MIN if least is None else least)


def _digest(value: t.Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


def expander_priorities(pools: t.Sequence[Pool], cluster_name: str) -> str:
    """The priorities of the groups of cluster-autoscaler's pools, as its priority expander reads them; the highest number is tried first.

    Ten for each step of the pool's own priority, and within that reservations before Spot before On-Demand.
    """
    found: dict[int, list[str]] = defaultdict(list)
    for pool in pools:
        if _provisioner(pool) in ("managed_node_group", "auto_scaling_group"):
            for priority, pattern in _patterns(pool, cluster_name):
                found[priority].append(pattern)
    lines = []
    for priority in sorted(found, reverse=True):
        lines += [f"{priority}:", *(f"  - {json.dumps(pattern)}" for pattern in dict.fromkeys(found[priority]))]
    return "".join(f"{line}\n" for line in lines)


def _patterns(pool: Pool, cluster_name: str) -> t.Iterator[tuple[int, str]]:
    """(priority, regular expression of the names of Auto Scaling groups). Names that are too long end in a hash, which only tells the pool."""
    base = _STEP * int(pool.get("priority") or 0)
    managed, name = _provisioner(pool) == "managed_node_group", str(pool["name"])
    start, end = ("eks-", "-") if managed else (f"{cluster_name}-", "$")
    kinds = _group_kinds(pool)
    for kind in kinds:
        yield base + _PREFERENCE.get(kind, 1), f"^{start}{name}-{_ZONE}-[0-9]+gpu-{kind.replace('_', '-')}{end}"
    longest = len(name) + _LONGEST_END
    if longest > _LONGEST_GROUP or (not managed and len(start) + longest > _LONGEST_NAME):
        certain = f"{start}{name[: _LONGEST_GROUP - _HASH]}"[: _LONGEST_NAME - _HASH]
        yield base + min(_PREFERENCE.get(kind, 1) for kind in kinds), f"^{certain}.*-[0-9a-f]{{8}}{end}"


def _group_kinds(pool: Pool) -> t.Sequence[str]:
    """What each group buys; a group of our own may mix On-Demand and Spot."""
    capacity = pool.get("capacity") or {}
    mixed = capacity.get("on_demand_base") is not None or capacity.get("on_demand_percentage") is not None
    return ("mixed",) if mixed and _provisioner(pool) == "auto_scaling_group" else _capacity(pool)


def command_flags(flags: t.Mapping[str, t.Any]) -> list[str]:
    """``--NAME=VALUE`` in the order given; none for null, one for each item of a list, and true and false as programs in Go read them."""
    return [
        f"--{name}={_text(item)}"
        for name, value in flags.items()
        for item in (value if isinstance(value, (list, tuple)) else [value])
        if item is not None
    ]


def _text(value: t.Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
