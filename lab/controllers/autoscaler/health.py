"""Pure: how the groups stand: which nodes are ready, which are still to come, which launches have failed."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from lab.controllers.autoscaler.model import GPU_LABEL, GPU_RESOURCES, Backoff, Group, Memory, Node, Options, Request, World
from lab.controllers.autoscaler.templates import is_startup_taint

PLACEHOLDER = "i-placeholder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One group's nodes by state. ``long_unregistered`` and ``unregistered`` are instances, placeholders among them."""

    ready: tuple[str, ...] = ()
    unready: tuple[str, ...] = ()
    not_started: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    long_unregistered: tuple[str, ...] = ()
    upcoming: int = 0
    healthy: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """All groups; ``memory`` is the caller's with what has become known since."""

    groups: dict[str, Standing]
    memory: Memory
    healthy: bool = True
    notes: tuple[str, ...] = field(default=())


def effective_node(node: Node, options: Options) -> Node:
    """As the autoscaler sees it: a node with the accelerator label and without an allocatable GPU is not ready, nor is one with a startup taint."""
    labelled = GPU_LABEL in node.labels and not has_gpu(node)
    starting = any(is_startup_taint(taint.key, options) for taint in node.taints)
    return dataclasses.replace(node, ready=False) if node.ready and (labelled or starting) else node


def has_gpu(node: Node) -> bool:
    return any(node.allocatable.get(name, 0) > 0 for name in GPU_RESOURCES)


def missing_instances(group: Group) -> list[str]:
    """A placeholder for each instance that the group wants and does not have."""
    return [f"{PLACEHOLDER}-{group.name}-{index}" for index in range(len(group.instances), group.desired)]


def backed_off(memory: Memory, group: str, now: float) -> bool:
    return group in memory.backoffs and memory.backoffs[group].until >= now


def assess(world: World, options: Options, memory: Memory) -> Health:
    """The standing of each group; ends, times out and fails the scale-ups in ``memory``."""
    owners = {instance: group.name for group in world.groups for instance in group.instances}
    registered = {node.instance_id for node in world.nodes}
    memory = dataclasses.replace(memory, unregistered=_unregistered(world, registered, memory))
    standings = {group.name: _standing(group, world, options, memory, owners) for group in world.groups}
    memory, notes = _follow_requests(world, options, memory, standings)
    memory, refused = _follow_refusals(world, options, memory)
    groups = {group.name: _judged(group, standings[group.name], options, memory) for group in world.groups}
    unready = sum(1 for n in world.nodes if not n.ready and n.created + options.max_node_startup_time <= world.now)
    healthy = not _too_many(unready, len(world.nodes), options)
    return Health(groups, memory, healthy, (*notes, *refused))


def _too_many(unready: int, of: int, options: Options) -> bool:
    return unready > options.ok_total_unready_count and unready > options.max_total_unready_percentage / 100 * of


def _unregistered(world: World, registered: set[str], memory: Memory) -> dict[str, float]:
    """Instances without a node, since when; placeholders of a refused launch are not expected to come."""
    waiting = [
        instance
        for group in world.groups
        for instance in (*group.instances, *(() if group.refused else missing_instances(group)))
        if instance not in registered
    ]
    return {instance: memory.unregistered.get(instance, world.now) for instance in waiting}


def _standing(group: Group, world: World, options: Options, memory: Memory, owners: t.Mapping[str, str]) -> Standing:
    own = [node for node in world.nodes if owners.get(node.instance_id) == group.name]
    waiting = [instance for instance in (*group.instances, *missing_instances(group)) if instance in memory.unregistered]
    late = tuple(each for each in waiting if memory.unregistered[each] + options.max_node_provision_time < world.now)
    starting = tuple(n.name for n in own if not n.ready and n.created + options.max_node_startup_time > world.now)
    ready = tuple(n.name for n in own if n.ready)
    unready = tuple(n.name for n in own if not n.ready and n.name not in starting)
    refused = len(missing_instances(group)) if group.refused else 0
    return Standing(
        ready=ready,
        unready=unready,
        not_started=starting,
        unregistered=tuple(each for each in waiting if each not in late),
        long_unregistered=late,
        upcoming=max(0, group.desired - refused - len(ready) - len(unready) - len(late)),
    )


def _follow_requests(world: World, options: Options, memory: Memory, standings: dict[str, Standing]) -> tuple[Memory, list[str]]:
    """A scale-up ends when all its nodes are there, and fails after ``--max-node-provision-time``."""
    requests, backoffs, notes = {}, dict(memory.backoffs), []
    backoffs = {name: b for name, b in backoffs.items() if b.failed + options.node_group_backoff_reset_timeout >= world.now}
    for name, request in memory.requests.items():
        if name not in standings or standings[name].upcoming == 0:
            continue
        if request.expected < world.now:
            backoffs[name] = _longer(backoffs.get(name), options, world.now)
            notes.append(f"Scale-up timed out for node group {name}; no scale-up of it for {backoffs[name].duration:.0f} s")
        else:
            requests[name] = request
    return dataclasses.replace(memory, requests=requests, backoffs=backoffs), notes


def _follow_refusals(world: World, options: Options, memory: Memory) -> tuple[Memory, list[str]]:
    """A group whose launch has failed is left alone for a while, and what it could not launch is no longer expected."""
    requests, backoffs, notes = dict(memory.requests), dict(memory.backoffs), []
    for group in world.groups:
        lacking = len(missing_instances(group)) if group.refused else 0
        if lacking == 0:
            continue
        backoffs[group.name] = _longer(backoffs.get(group.name), options, world.now)
        left = requests[group.name].increase - lacking if group.name in requests else 0
        if left > 0:
            requests[group.name] = Request(left, requests[group.name].expected)
        else:
            requests.pop(group.name, None)
        notes.append(
            f"Instance group {group.name} cannot provision any more nodes! No scale-up of it for {backoffs[group.name].duration:.0f} s"
        )
    return dataclasses.replace(memory, requests=requests, backoffs=backoffs), notes


def failed(memory: Memory, group: str, options: Options, now: float) -> Memory:
    """After AWS has refused to resize a group: nothing is expected of it, and it is left alone for a while."""
    requests = {name: request for name, request in memory.requests.items() if name != group}
    return dataclasses.replace(
        memory, requests=requests, backoffs={**memory.backoffs, group: _longer(memory.backoffs.get(group), options, now)}
    )


def _longer(before: Backoff | None, options: Options, now: float) -> Backoff:
    """The first backoff, the same while one is on, twice as long after one."""
    duration = options.initial_node_group_backoff_duration
    if before is not None:
        doubled = min(2 * before.duration, options.max_node_group_backoff_duration)
        duration = doubled if before.until < now else before.duration
    return Backoff(duration, now + duration, now)


def _judged(group: Group, standing: Standing, options: Options, memory: Memory) -> Standing:
    """A group is healthy while no more of its nodes are missing or unready than allowed."""
    increase = memory.requests[group.name].increase if group.name in memory.requests else 0
    expected = group.desired - len(standing.long_unregistered) - increase
    lacking = max(0, expected - len(standing.ready))
    there = len(standing.ready) + len(standing.unready) + len(standing.not_started)
    seen = there + len(standing.unregistered) + len(standing.long_unregistered)
    healthy = (seen == 0 and expected <= 0) or not _too_many(lacking, there, options)
    return dataclasses.replace(standing, healthy=healthy)
