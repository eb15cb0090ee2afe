# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both models have in common: time, pods and the scheduler, nodes and their bill. Pure."""

from __future__ import annotations

import abc
import heapq
import itertools
import typing as t
from dataclasses import dataclass, field

from tests.bench.money.mixes import Machine, Pool, Vector, Wish
from tests.bench.money.packing import Stay, fits, minus


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Of one day: USD, nodes bought, when each pod ran, how long pods were wanted and were not running (seconds)."""

    dollars: float
    bought: int
    stays: tuple[Stay, ...]
    wanted: float
    served: float


@dataclass(slots=True, eq=False)
class Pod:
    wish: Wish
    shape: Vector
    number: int
    node: Node | None = None
    since: float = 0.0

    @property
    def size(self) -> tuple[int, int, int]:
        """Largest first; the number keeps the order of what is equal."""
        return -self.shape[1], -self.shape[2], self.number


@dataclass(slots=True, eq=False)
class Node:
    machine: Machine
    launched: float
    room: Vector
    promised: Vector
    free: Vector
    pods: list[Pod] = field(default_factory=list)
    name: str = ""
    ready: bool = False
    since: float = 0.0  # when it became ready
    leaving: bool = False
    event: float = 0.0
    replaces: Node | None = None

    def use(self) -> float:
        """What the scheduler's LeastAllocated makes of it."""
        return sum((self.room[i] - self.free[i]) / self.room[i] for i in (1, 2))


class Simulation(abc.ABC):
    """One day of one pool, from no nodes to no nodes. A model of an autoscaler says what is to be done when something happens.

    The scheduler puts a pod on the ready node with room whose CPU and memory are used least (NodeResourcesFit, LeastAllocated).
    """

    def __init__(self, pool: Pool, shapes: t.Sequence[Vector], *, boot: float, going: float) -> None:
        self.pool, self._shapes, self._boot, self._going = pool, shapes, boot, going
        self.nodes: list[Node] = []
        self.waiting: list[Pod] = []
        self.now = 0.0
        self._events: list[tuple[float, int, t.Callable[[], None]]] = []
        self._order = itertools.count()
        self._stays: list[Stay] = []
        self._dollars = 0.0
        self._bought = 0

    # What a model of an autoscaler does

    @abc.abstractmethod
    def pods_wait(self) -> None:
        """There are pods for which the scheduler has no room."""

    @abc.abstractmethod
    def changed(self, node: Node) -> None:
        """Pods came or went, or the node is there now."""

    @abc.abstractmethod
    def gone(self) -> None:
        """A node has gone."""

    # What happens

    def run(self, wishes: t.Sequence[Wish]) -> Outcome:
        """Until all wishes have ended and all nodes are gone."""
        for number, wish in enumerate(wishes):
            pod = Pod(wish, self._shapes[wish.shape], number)
            self.at(wish.start, lambda pod=pod: self._arrive(pod))  # type: ignore[misc]
            self.at(wish.end, lambda pod=pod: self._leave(pod))  # type: ignore[misc]
        while self._events:
            self.now, _order, action = heapq.heappop(self._events)
            action()
        assert not self.nodes, "every node goes once no pod is left"
        return Outcome(
            dollars=self._dollars,
            bought=self._bought,
            stays=tuple(self._stays),
            wanted=sum(wish.end - wish.start for wish in wishes),
            served=sum(stay.end - stay.start for stay in self._stays),
        )

    def at(self, when: float, action: t.Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def _arrive(self, pod: Pod) -> None:
        self.waiting.append(pod)
        self.schedule()
        if pod.node is None:
            self.pods_wait()

    def _leave(self, pod: Pod) -> None:
        if pod.node is None:
            self.waiting.remove(pod)
            return
        self._unbind(pod)
        self.schedule()

    def _unbind(self, pod: Pod) -> None:
        node = pod.node
        assert node is not None
        if self.now > pod.since:
            self._stays.append(Stay(pod.since, self.now, pod.wish.shape))
        node.pods.remove(pod)
        node.free = minus(node.free, pod.shape, -1)
        pod.node = None
        self.changed(node)

    def schedule(self) -> None:
        """What waits, in the order in which it came, on the nodes that are there."""
        for pod in sorted(self.waiting, key=lambda each: each.number):
            rooms = [node for node in self.nodes if node.ready and not node.leaving and fits(pod.shape, node.free)]
            if rooms:
                node = min(rooms, key=Node.use)
                self.waiting.remove(pod)
                pod.node, pod.since = node, self.now
                node.pods.append(pod)
                node.free = minus(node.free, pod.shape, 1)
                self.changed(node)

    def buy(self, machine: Machine, *, promised: int, replaces: Node | None = None) -> Node:
        """``promised``: how many shares the autoscaler believes that each GPU of the node will be."""
        room = machine.room(self.pool.replicas)
        node = Node(machine, self.now, room, machine.room(promised), room, name=f"node-{self._bought}", replaces=replaces)
        self.nodes.append(node)
        self._bought += 1
        self.at(self.now + self._boot, lambda: self._ready(node))
        return node

    def _ready(self, node: Node) -> None:
        node.ready, node.since = True, self.now
        self.changed(node)
        if node.replaces is not None:
            self.drain(node.replaces)
        self.schedule()
        if self.waiting:
            self.pods_wait()

    def drain(self, node: Node) -> None:
        """Its pods move at once, or wait; the instance ends a little later."""
        node.leaving = True
        for pod in list(node.pods):
            self._unbind(pod)
            self.waiting.append(pod)
        self.schedule()
        if self.waiting:
            self.pods_wait()
        self.at(self.now + self._going, lambda: self._end(node))

    def _end(self, node: Node) -> None:
        self.nodes.remove(node)
        self._dollars += (self.now - node.launched) / 3600 * node.machine.price
        self.gone()
