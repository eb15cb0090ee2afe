# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools, shapes of pods and the twenty mixes of both, with seeded days of arrivals. Pure."""

from __future__ import annotations

import functools
import random
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.prices import on_demand

PRICES = "us-east-1"
DAY = 86400.0
MOST_ARRIVALS, FEWEST_ARRIVALS = 30, 8
DAEMONS_CPU = 150  # kube-proxy and the VPC CNI
VM_OVERHEAD, EVICTION_MIB = 0.075, 100

Vector = tuple[int, int, int]  # shares of GPUs, thousandths of a CPU, MiB


@dataclass(frozen=True)
class Machine:
    """An instance type. ``pods`` is its limit of pods, by which memory is reserved."""

    name: str
    gpus: int
    cpus: int
    memory_gib: int
    pods: int

    @property
    def price(self) -> float:
        """On-Demand, USD per hour."""
        return on_demand(PRICES)[self.name]

    def room(self, shares: int) -> Vector:
        """What pods may request of a node whose GPUs count as so many shares each; reservations by nodeadm's rules (amazon-eks-ami)."""
        first, more = [60.0, 10.0, 5.0, 5.0][: self.cpus], max(0, self.cpus - 4)
        cpu = self.cpus * 1000 - int(sum(first) + 2.5 * more) - DAEMONS_CPU
        memory = int(self.memory_gib * 1024 * (1 - VM_OVERHEAD)) - (11 * self.pods + 255) - EVICTION_MIB
        return self.gpus * shares, cpu, memory


@dataclass(frozen=True, kw_only=True)
class Pool:
    """A pool of one provisioner; ``replicas`` is what the device plugin really gives for a GPU."""

    name: str
    machines: tuple[Machine, ...]
    replicas: int
    consolidation: t.Literal["WhenEmptyOrUnderutilized", "WhenEmpty"] = "WhenEmptyOrUnderutilized"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Shapes of pods with weights, how many come together, and how much of a day they stay on average."""

    name: str
    shapes: tuple[Vector, ...]
    weights: tuple[int, ...]
    bursts: tuple[int, ...]
    stay: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Mix:
    pool: Pool
    demand: Demand

    @property
    def name(self) -> str:
        return f"{self.pool.name}, {self.demand.name}"


@dataclass(frozen=True)
class Wish:
    """A pod that is wanted from ``start`` to ``end`` (seconds of the day; the end may be on the next); ``shape`` indexes the demand's."""

    start: float
    end: float
    shape: int


G4DN, G4DN_12X = Machine("g4dn.xlarge", 1, 4, 16, 29), Machine("g4dn.12xlarge", 4, 48, 192, 234)
G5, G5_2X, G5_12X = Machine("g5.xlarge", 1, 4, 16, 58), Machine("g5.2xlarge", 1, 8, 32, 58), Machine("g5.12xlarge", 4, 48, 192, 737)
G6, G6_4X, G6_12X = Machine("g6.xlarge", 1, 4, 16, 58), Machine("g6.4xlarge", 1, 16, 64, 234), Machine("g6.12xlarge", 4, 48, 192, 234)

POOLS = (
    Pool(name="G5 x10", machines=(G5, G5_2X, G5_12X), replicas=10),
    Pool(name="G6 x4", machines=(G6, G6_4X, G6_12X), replicas=4),
    Pool(name="g4dn x4 WhenEmpty", machines=(G4DN, G4DN_12X), replicas=4, consolidation="WhenEmpty"),
    Pool(name="g5.2xlarge x10", machines=(G5_2X,), replicas=10),
)
DEMANDS = (
    Demand(name="one share, up to 25 at a time", shapes=((1, 300, 1000),), weights=(1,), bursts=(5, 10, 25)),
    Demand(name="one share, one at a time", shapes=((1, 300, 1000),), weights=(1,), bursts=(1,)),
    Demand(name="1, 2 or 4 shares", shapes=((4, 500, 2000), (2, 500, 2000), (1, 250, 1000)), weights=(1, 2, 3), bursts=(1, 3, 5)),
    Demand(name="one share, much CPU", shapes=((1, 3000, 2000), (1, 250, 500)), weights=(1, 2), bursts=(1, 4)),
    Demand(name="one share, much memory", shapes=((1, 500, 10000), (1, 250, 1000)), weights=(1, 2), bursts=(1, 2, 6)),
)
MIXES = tuple(Mix(pool=pool, demand=demand) for demand in DEMANDS for pool in POOLS)


@functools.cache
def day(mix: Mix, number: int, length: float = DAY) -> tuple[Wish, ...]:
    """The arrivals of one day of a mix, by start; the same for the same arguments. A day of another length is the same day, faster."""
    chooser = random.Random(f"{mix.name}/{number}")
    total = chooser.randint(FEWEST_ARRIVALS, MOST_ARRIVALS)
    wishes: list[Wish] = []
    while len(wishes) < total:
        start = chooser.triangular(0.02, 0.85, 0.4)
        [shape] = chooser.choices(range(len(mix.demand.shapes)), mix.demand.weights)
        for _unused in range(min(chooser.choice(mix.demand.bursts), total - len(wishes))):
            stay = min(max(chooser.expovariate(1 / mix.demand.stay), 0.02), 0.5)
            wishes.append(Wish(start * length, (start + stay) * length, shape))
    return tuple(sorted(wishes, key=lambda wish: (wish.start, wish.end, wish.shape)))
