# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's model of cluster-autoscaler (``lab.controllers.autoscaler``) on the same days: a group for each instance type. Pure; a model.

It decides whenever something has happened, at its next scan, and whenever something that it waits for has run out; in between its
scans would see the same. Groups are tagged with what their nodes advertise, or with nothing, so that it counts physical GPUs.
"""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass

from lab.controllers.autoscaler import model
from lab.controllers.autoscaler.decide import decide
from lab.controllers.autoscaler.templates import STABLE_SECONDS
from tests.bench.money.mixes import Machine, Pool, Vector
from tests.bench.money.simulation import Node, Pod, Simulation

GPU_TAG = f"k8s.io/cluster-autoscaler/node-template/resources/{model.GPU}"
MIB = 2**20 * 1000  # thousandths of a byte
LARGEST = 40


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds; ``going``: from the decision until the instance has ended. The autoscaler's own times are its flags' defaults."""

    boot: float = 90.0
    going: float = 30.0


class AutoscalerDay(Simulation):
    """One day of one pool as cluster-autoscaler would have it."""

    def __init__(self, pool: Pool, shapes: t.Sequence[Vector], *, tagged: bool, timing: Timing) -> None:
        super().__init__(pool, shapes, boot=timing.boot, going=timing.going)
        self._options = model.Options()
        self._memory = model.Memory()
        self._promise = pool.replicas if tagged else 1
        self._tagged = tagged
        self._machines = {machine.name: machine for machine in pool.machines}
        self._scans: set[float] = set()

    def pods_wait(self) -> None:
        self._scan_after(self.now)

    def changed(self, node: Node) -> None:
        self._scan_after(self.now)
        if node.ready and self.now <= node.since:
            self._scan_after(self.now + STABLE_SECONDS)

    def gone(self) -> None:
        self._scan_after(self.now)

    def _scan_after(self, when: float) -> None:
        interval = self._options.scan_interval
        scan = (math.floor(when / interval) + 1) * interval
        if scan not in self._scans:
            self._scans.add(scan)
            self.at(scan, self._scan)

    def _scan(self) -> None:
        self._scans.discard(self.now)
        if not self.nodes and not self.waiting:
            return
        decision = decide(self._world(), self._options, self._memory)
        self._memory = decision.memory
        for resize in decision.resizes:
            there = sum(node.machine.name == resize.group and not node.leaving for node in self.nodes)
            for _unused in range(resize.size - there):
                self.buy(self._machines[resize.group], promised=self._promise)
        names = {removal.node for removal in decision.removals}
        for node in [node for node in self.nodes if node.name in names]:
            self.drain(node)
        if decision.resizes or decision.removals:
            self._scan_after(self.now)
        self._wait_for_what_runs_out()

    def _wait_for_what_runs_out(self) -> None:
        """Scans at which the same world is judged otherwise: cooldown, unneeded time, recheck of nodes that could not go."""
        memory, options = self._memory, self._options
        times = [since + options.scale_down_unneeded_time for since in memory.unneeded.values()]
        times += [*memory.unremovable.values(), memory.last_scale_up + options.scale_down_delay_after_add]
        for when in times:
            if when >= self.now:
                self._scan_after(when)

    def _world(self) -> model.World:
        nodes = [node for node in self.nodes if node.ready and not node.leaving]
        return model.World(
            now=self.now,
            nodes=tuple(_node(node) for node in nodes),
            pods=tuple(
                [*(_pod(pod) for pod in sorted(self.waiting, key=lambda each: each.number))]
                + [_pod(pod) for node in nodes for pod in node.pods]
            ),
            groups=tuple(self._group(machine) for machine in self.pool.machines),
            types={
                m.name: model.InstanceType(name=m.name, cpus=m.cpus, memory_mib=m.memory_gib * 1024, gpus=m.gpus)
                for m in self.pool.machines
            },
        )

    def _group(self, machine: Machine) -> model.Group:
        instances = tuple(f"i-{n.name}" for n in self.nodes if n.machine is machine and not n.leaving)
        return model.Group(
            name=machine.name,
            maximum=LARGEST,
            desired=len(instances),
            zones=("us-west-2a",),
            instance_type=machine.name,
            tags={GPU_TAG: str(machine.gpus * self._promise)} if self._tagged else {},
            instances=instances,
        )


def _amounts(room: Vector) -> dict[str, int]:
    return {model.GPU: room[0] * 1000, "cpu": room[1], "memory": room[2] * MIB}


def _node(node: Node) -> model.Node:
    room = {**_amounts(node.room), "pods": node.machine.pods * 1000}
    return model.Node(
        name=node.name, instance_id=f"i-{node.name}", capacity=room, allocatable=room, ready_since=node.since, created=node.launched
    )


def _pod(pod: Pod) -> model.Pod:
    return model.Pod(
        uid=str(pod.number),
        name=str(pod.number),
        node=pod.node.name if pod.node else "",
        requests=_amounts(pod.shape),
        owner="deployment",
        owner_kind="ReplicaSet",
        unschedulable=pod.node is None,
    )
