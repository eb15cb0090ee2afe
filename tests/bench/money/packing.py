# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cheapest machines that hold a set of pods: exact, or a lower bound where there are too many. Pure.

Of any policy, whatever it knows of the future, this holds: at each moment the pods that run are on machines that are paid for, each pod
on one machine and no machine over-full. So what is paid per hour at that moment is at least the price of the cheapest set of machines
on which these pods fit (``rate``), and what is paid over a day is at least the integral of that rate (``cheapest``). The bound moves pods
at any moment without cost and has machines without boot time: no policy reaches it where pods come and go.

``rate`` is exact up to ``EXACT_PODS`` pods. Beyond, it is the larger of two lower bounds of the exact one:

* For weights w >= 0 of the resources with w.C <= p for each machine type (room C, price p): pods of demand D together on machines
  C1..Cn have D <= C1 + ... + Cn, so w.D <= w.C1 + ... + w.Cn <= p1 + ... + pn. The best such w is a corner of that polyhedron
  (linear programming); three resources have few corners, and all are tried.
* Each pod is on some machine that it fits on, so the price is at least that of the cheapest one.
"""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass

from tests.bench.money.mixes import Vector

EXACT_PODS = 24
_TINY = 1e-9

Counts = tuple[int, ...]  # how many pods of each shape


@dataclass(frozen=True)
class Bin:
    """A machine type that can be bought: USD per hour, room."""

    price: float
    room: Vector


@dataclass(frozen=True)
class Stay:
    """A pod of a shape that ran from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    shape: int


@dataclass(frozen=True)
class Cheapest:
    """USD; ``exact`` is the part of the time (0 to 1) at which the rate was exact."""

    dollars: float
    exact: float


class Packing:
    """For the machine types and pod shapes of one mix; remembers what it has found."""

    def __init__(self, bins: t.Sequence[Bin], shapes: t.Sequence[Vector], exact_pods: int = EXACT_PODS) -> None:
        """ValueError where a shape fits on no machine."""
        self._bins = sorted(bins, key=lambda each: each.price)
        self._shapes = tuple(shapes)
        self._exact_pods = exact_pods
        self._corners = corners(self._bins)
        self._alone = [min((b.price for b in self._bins if fits(shape, b.room)), default=0.0) for shape in self._shapes]
        if not all(self._alone):
            raise ValueError(f"a shape of {self._shapes} fits on no machine")
        self._known: dict[Counts, float] = {(0,) * len(self._shapes): 0.0}

    def is_exact(self, counts: Counts) -> bool:
        return sum(counts) <= self._exact_pods

    def rate(self, counts: Counts) -> float:
        """USD per hour that any machines for these pods cost at least."""
        return self.exact(counts) if self.is_exact(counts) else self.bound(counts)

    def bound(self, counts: Counts) -> float:
        """The lower bound of the module's description."""
        demand = [sum(count * shape[i] for count, shape in zip(counts, self._shapes, strict=True)) for i in range(3)]
        volume = max(sum(w * d for w, d in zip(corner, demand, strict=True)) for corner in self._corners)
        return max(volume, *(alone for count, alone in zip(counts, self._alone, strict=True) if count), 0.0)

    def exact(self, counts: Counts) -> float:
        """The price of the cheapest machines: a pod of the first shape is on some machine, with some of the others; then the rest."""
        if counts in self._known:
            return self._known[counts]
        first = next(index for index, count in enumerate(counts) if count)
        best = float("inf")
        for machine in self._bins:
            for pattern in self._patterns(machine.room, counts, first):
                rest = tuple(count - taken for count, taken in zip(counts, pattern, strict=True))
                if machine.price + (self.bound(rest) if any(rest) else 0.0) < best - _TINY:
                    best = min(best, machine.price + self.exact(rest))
        self._known[counts] = best
        return best

    def _patterns(self, room: Vector, counts: Counts, first: int) -> t.Iterator[Counts]:
        """What may be on one machine: at least one of shape ``first``, and of the last shape as many as fit, which costs nothing."""
        most = min(counts[first], how_many(self._shapes[first], room))
        last = first == len(counts) - 1
        for number in range(most, most - 1 if last and most else 0, -1):
            left = minus(room, self._shapes[first], number)
            for rest in self._fillings(left, counts, first + 1):
                yield (*((0,) * first), number, *rest)

    def _fillings(self, room: Vector, counts: Counts, index: int) -> t.Iterator[Counts]:
        if index == len(counts):
            yield ()
            return
        most = min(counts[index], how_many(self._shapes[index], room))
        least = most if index == len(counts) - 1 else 0
        for number in range(most, least - 1, -1):
            for rest in self._fillings(minus(room, self._shapes[index], number), counts, index + 1):
                yield (number, *rest)

    def cheapest(self, stays: t.Sequence[Stay]) -> Cheapest:
        """The least that machines for these stays can have cost."""
        changes = sorted([(stay.start, 1, stay.shape) for stay in stays] + [(stay.end, -1, stay.shape) for stay in stays])
        counts = [0] * len(self._shapes)
        dollars = exact = total = 0.0
        for (now, change, shape), following in itertools.pairwise([*changes, (changes[-1][0], 0, 0)] if changes else []):
            counts[shape] += change
            seconds = following[0] - now
            if seconds > 0 and any(counts):
                dollars += self.rate(tuple(counts)) * seconds / 3600
                total += seconds
                exact += seconds if self.is_exact(tuple(counts)) else 0.0
        return Cheapest(dollars, exact / total if total else 1.0)


def fits(shape: Vector, room: Vector) -> bool:
    return shape[0] <= room[0] and shape[1] <= room[1] and shape[2] <= room[2]


def minus(room: Vector, shape: Vector, number: int) -> Vector:
    return room[0] - number * shape[0], room[1] - number * shape[1], room[2] - number * shape[2]


def how_many(shape: Vector, room: Vector) -> int:
    """How many pods of the shape fit."""
    return max(0, min(space // need for space, need in zip(room, shape, strict=True) if need))


def corners(bins: t.Sequence[Bin]) -> list[tuple[float, float, float]]:
    """The corners of {w >= 0, w.C <= p}, each scaled down by what rounding made it too large."""
    planes = [((1.0, 0.0, 0.0), 0.0), ((0.0, 1.0, 0.0), 0.0), ((0.0, 0.0, 1.0), 0.0)]
    planes += [((float(b.room[0]), float(b.room[1]), float(b.room[2])), b.price) for b in bins]
    found = []
    for three in itertools.combinations(planes, 3):
        corner = _meeting(three)
        if corner is None or min(corner) < -_TINY:
            continue
        clean = [max(value, 0.0) for value in corner]
        excess = max(sum(w * c for w, c in zip(clean, b.room, strict=True)) / b.price for b in bins)
        if excess <= 1 + 1e-6:
            scale = 1 / max(1.0, excess)
            found.append((clean[0] * scale, clean[1] * scale, clean[2] * scale))
    return found


Plane = tuple[tuple[float, float, float], float]


def _meeting(planes: tuple[Plane, Plane, Plane]) -> tuple[float, float, float] | None:
    """Where three planes meet (Cramer's rule), None where they do not meet in one point."""
    (a, p), (b, q), (c, r) = planes
    whole = _determinant(a, b, c)
    size = _length(a) * _length(b) * _length(c)
    if abs(whole) <= size * 1e-12:
        return None
    values = []
    for index in range(3):
        rows = [tuple(value if i == index else row[i] for i in range(3)) for row, value in ((a, p), (b, q), (c, r))]
        values.append(_determinant(*rows) / whole)
    return values[0], values[1], values[2]


def _determinant(a: t.Sequence[float], b: t.Sequence[float], c: t.Sequence[float]) -> float:
    return a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])


def _length(row: t.Sequence[float]) -> float:
    return float(sum(value * value for value in row) ** 0.5)
