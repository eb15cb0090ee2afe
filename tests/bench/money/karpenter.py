# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A model of what Karpenter and the scheduler decide for one pool: which nodes are bought, which go, what is paid. Pure; not Karpenter.

Its rules are those of karpenter v1.14 (pkg/controllers/provisioning, disruption) as far as pods of one pool without affinity ask for them:

* What is pending is looked at a second after the last pod came, ten after the first: largest CPU first, on nodes that are there or
  coming, then on new nodes, the one with the fewest pods first; a new node may be any type that holds its pods, and the cheapest is bought.
* A node that is coming holds what is *promised* of its type: the physical GPUs, or what a NodeOverlay says. One that is there holds what
  its device plugin gives.
* A node without pod events for consolidateAfter is a candidate: empty ones go; with WhenEmptyOrUnderutilized, fewest pods first, one whose
  pods fit on the nodes that are there goes, and so does one whose pods fit on them and one new, cheaper node, once that one is there.
  What was decided is carried out 15 seconds later, unless pods have come or gone on the node.
* The budget is 10 % of the nodes, rounded up: one at a time up to ten, so that consolidation of several nodes at once never happens.

Left out: Spot, zones, capacity that runs out, pods that take time to end, AWS's minimum of a minute.
"""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass

from tests.bench.money.mixes import Machine, Pool, Vector
from tests.bench.money.packing import fits, minus
from tests.bench.money.simulation import Node, Simulation

BUDGET = 0.1


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds. ``boot``: from the launch until pods run; ``going``: from the decision's validation until the instance has ended."""

    boot: float = 90.0
    idle: float = 1.0
    batch: float = 10.0
    look: float = 10.0
    validation: float = 15.0
    going: float = 30.0
    consolidate_after: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Policy:
    """``promise``: how many shares a GPU counts as while its node is not there, as a factor of what the plugin gives; None: physical GPUs."""

    name: str
    promise: float | None = 1.0
    consolidation: str | None = None  # instead of the pool's

    def promised(self, pool: Pool) -> int:
        return 1 if self.promise is None else int(pool.replicas * self.promise)


@dataclass(slots=True, eq=False)
class _Claim:
    """A node that might be bought: the types that hold its pods still, with what they have left."""

    options: list[tuple[Machine, Vector]]
    pods: int = 0

    def take(self, shape: Vector) -> bool:
        left = [(machine, minus(room, shape, 1)) for machine, room in self.options if fits(shape, room)]
        if left:
            self.options, self.pods = left, self.pods + 1
        return bool(left)


class KarpenterDay(Simulation):
    """One day of one pool as Karpenter would have it."""

    def __init__(self, pool: Pool, shapes: t.Sequence[Vector], policy: Policy, timing: Timing) -> None:
        super().__init__(pool, shapes, boot=timing.boot, going=timing.going)
        self._timing = timing
        self._promise = policy.promised(pool)
        self._empty_only = (policy.consolidation or pool.consolidation) == "WhenEmpty"
        self._machines = sorted(pool.machines, key=lambda machine: machine.price)
        self._looks: set[float] = set()
        self._validating = False
        self._quiet_until: float | None = None
        self._batch_began = 0.0

    # Buying

    def pods_wait(self) -> None:
        """A batch ends when no pod has come for a second, or ten seconds after its first."""
        if self._quiet_until is None:
            self._batch_began = self.now
            self.at(self.now + self._timing.idle, self._end_batch)
        self._quiet_until = min(self.now + self._timing.idle, self._batch_began + self._timing.batch)

    def _end_batch(self) -> None:
        assert self._quiet_until is not None
        if self.now < self._quiet_until:
            self.at(self._quiet_until, self._end_batch)
            return
        self._quiet_until = None
        self._provision()

    def _provision(self) -> None:
        """Nodes for what waits and fits neither on those that are there nor on those that are coming."""
        rooms = [node.free if node.ready else node.promised for node in self.nodes if not node.leaving]
        claims: list[_Claim] = []
        for pod in sorted(self.waiting, key=lambda each: each.size):
            if not _put(pod.shape, rooms):
                self._put_on_claim(pod.shape, claims)
        for claim in claims:
            self.buy(claim.options[0][0], promised=self._promise)

    def _put_on_claim(self, shape: Vector, claims: list[_Claim]) -> None:
        """On a new node, or on none where no type is promised to hold the pod."""
        if any(claim.take(shape) for claim in sorted(claims, key=lambda each: each.pods)):
            return
        claim = _Claim([(machine, machine.room(self._promise)) for machine in self._machines])
        if claim.take(shape):
            claims.append(claim)

    # Consolidation

    def changed(self, node: Node) -> None:
        """Pods came or went: the node is left alone for a while, others may have become superfluous."""
        node.event = self.now
        self._plan_look(self.now)
        self._plan_look(self.now + self._timing.consolidate_after)

    def _plan_look(self, when: float) -> None:
        tick = (math.floor(when / self._timing.look) + 1) * self._timing.look
        if tick not in self._looks:
            self._looks.add(tick)
            self.at(tick, self._look)

    def _look(self) -> None:
        """Decides, and carries out what still holds when it has been validated; nothing else is decided in between."""
        self._looks.discard(self.now)
        if self._validating:
            return
        nodes = self._disruptable()
        if nodes:
            self._validating = True
            events = [(node, node.event) for node in nodes]
            self.at(self.now + self._timing.validation, lambda: self._carry_out(events))

    def _ripe(self) -> list[Node]:
        after = self._timing.consolidate_after
        return [node for node in self.nodes if node.ready and not node.leaving and node.event + after <= self.now]

    def _disruptable(self) -> list[Node]:
        """The empty ones that the budget allows, else the first that is not needed or that a cheaper one can replace."""
        ripe = self._ripe()
        allowed = math.ceil(BUDGET * len(self.nodes)) - sum(node.leaving for node in self.nodes)
        if not ripe or allowed <= 0:
            return []
        empty = [node for node in ripe if not node.pods]
        if empty or self._empty_only:
            return empty[:allowed]
        return [node for node in sorted(ripe, key=lambda node: len(node.pods)) if self._outcome(node) is not None][:1]

    def _outcome(self, node: Node) -> tuple[Machine, ...] | None:
        """What the node's pods need instead of it: no machine, one that is cheaper, or None where they need the node."""
        rooms = [other.free for other in self.nodes if other.ready and not other.leaving and other is not node]
        left = [pod for pod in sorted(node.pods, key=lambda each: each.size) if not _put(pod.shape, rooms)]
        if not left:
            return ()
        claim = _Claim([(m, m.room(self._promise)) for m in self._machines if m.price < node.machine.price])
        return (claim.options[0][0],) if all(claim.take(pod.shape) for pod in left) else None

    def _carry_out(self, events: t.Sequence[tuple[Node, float]]) -> None:
        """A node with pod events since the decision is no candidate any more."""
        self._validating = False
        for node, event in events:
            instead = self._outcome(node)
            if node.event != event or instead is None:
                continue
            node.leaving = True
            if instead:
                self.buy(instead[0], promised=self._promise, replaces=node)
            else:
                self.drain(node)
        self._plan_look(self.now)

    def gone(self) -> None:
        self._plan_look(self.now)


def _put(shape: Vector, rooms: list[Vector]) -> bool:
    """Take the shape's room from the first that has it."""
    for index, room in enumerate(rooms):
        if fits(shape, room):
            rooms[index] = minus(room, shape, 1)
            return True
    return False
