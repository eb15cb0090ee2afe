# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast pools are: twelve groups side by side against one after another, and a run that changes nothing of twenty pools against one of one."""

from __future__ import annotations

import itertools
import json
import statistics
import typing as t

Pool = dict[str, t.Any]
Tasks = list[tuple[str, float]]  # name and seconds, in order
RunTasks = t.Callable[[str], Tasks]

TYPES = ("g5.2xlarge", "g5.12xlarge", "g5.48xlarge")  # of 1, 4 and 8 GPUs
ZONES = ("us-west-2a", "us-west-2b")
CAPACITY = ("on_demand", "spot")
ROUNDS = 5
POOLS = 20
PROVISIONERS = ("managed_node_group", "auto_scaling_group")
_TASK = "    - name: {title}\n      gpuops.eks.eks_gpu_nodepool: {options}\n"


def wide() -> Pool:
    """One pool of twelve groups, each of one zone, with a node in each."""
    count = len(TYPES) * len(ZONES) * len(CAPACITY)
    return {
        "name": "wide",
        "provisioner": "managed_node_group",
        "instances": {"types": list(TYPES)},
        "zones": list(ZONES),
        "capacity": {"types": list(CAPACITY)},
        "scaling": {"min": count, "max": count},
    }


def narrow() -> list[Pool]:
    """The same groups as pools of one group each."""
    return [
        {
            "name": f"narrow-{index}",
            "provisioner": "managed_node_group",
            "instances": {"types": [type_]},
            "zones": [zone],
            "capacity": {"types": [capacity]},
            "scaling": {"min": 1, "max": 1},
        }
        for index, (type_, zone, capacity) in enumerate(itertools.product(TYPES, ZONES, CAPACITY))
    ]


def idle(provisioner: str) -> list[Pool]:
    """Pools of one group without a node."""
    return [
        {
            "name": f"idle-{provisioner[:3]}-{index}",
            "provisioner": provisioner,
            "instances": {"types": ["g5.2xlarge"]},
            "zones": ["us-west-2a"],
        }
        for index in range(POOLS)
    ]


def side_by_side(run: RunTasks, common: Pool) -> tuple[float, float, float]:
    """Seconds of twelve groups together, of the slowest one alone, and of all one after another; the groups are gone afterwards."""
    alone = [_task(f"alone {index}", [pool], common) for index, pool in enumerate(narrow())]
    half = len(alone) // 2
    taken = run("".join([*alone[:half], _task("together", [wide()], common), *alone[half:]]))
    run(_task("gone", [wide(), *narrow()], common, state="absent"))
    single = [seconds for name, seconds in taken if name.startswith("alone")]
    return dict(taken)["together"], max(single), sum(single)


def unchanged(run: RunTasks, common: Pool, provisioner: str) -> tuple[float, float]:
    """Median seconds of a run over twenty pools and over one of them, turn by turn, when there is nothing to do."""
    pools = idle(provisioner)
    run(_task("made", pools, common))
    taken = run("".join([_task("twenty", pools, common), _task("one", pools[:1], common)] * ROUNDS))
    run(_task("gone", pools, common, state="absent"))
    twenty, one = (statistics.median(seconds for name, seconds in taken if name == title) for title in ("twenty", "one"))
    return twenty, one


def _task(title: str, pools: list[Pool], common: Pool, **options: str) -> str:
    if options.get("state") == "absent":
        pools = [{"name": pool["name"]} for pool in pools]
    return _TASK.format(title=title, options=json.dumps({**common, **options, "pools": pools}))
