"""Pure: one run of the main loop: from what is seen and remembered to what is to be done."""

from __future__ import annotations

import dataclasses
import typing as t

from lab.controllers.autoscaler import health, scaledown, scaleup, templates
from lab.controllers.autoscaler.model import Decision, Group, Memory, Node, Options, Removal, Resize, Termination, World
from lab.controllers.autoscaler.scheduling import Room


def decide(world: World, options: Options, memory: Memory) -> Decision:
    """What the autoscaler does now. Nodes are removed only in a run that adds none."""
    world = _as_seen(world, options)
    state = health.assess(world, options, memory)
    found = templates.choose(world, options, state.memory)
    notes = [*state.notes, *found.notes]
    memory = dataclasses.replace(state.memory, templates=found.cache)
    terminations, resizes = _clean_up(world, state)
    world = _resized(world, resizes)
    if not state.healthy:
        lost = dataclasses.replace(memory, unneeded={})
        notes.append("Cluster is not ready for autoscaling")
        return Decision(terminations=terminations, resizes=resizes, notes=tuple(notes), memory=lost)
    state = dataclasses.replace(state, memory=memory)
    rooms = _rooms(world, state, found.by_group)
    growth, waiting = _grow(world, options, state, found.by_group, rooms)
    notes += growth.notes
    memory = growth.memory
    removals: tuple[Removal, ...] = ()
    if options.scale_down_enabled and not waiting:
        real = {node.name: room for node, room in rooms if node is not None}
        starting = {name for standing in state.groups.values() if standing.upcoming for name in standing.not_started}
        shrinkage = scaledown.shrink(world, options, memory, real, starting)
        memory, removals = shrinkage.memory, shrinkage.removals
        notes += shrinkage.notes
    minimum = scaleup.to_minimum(_resized(world, growth.resizes), options, memory)
    return Decision(
        resizes=(*resizes, *growth.resizes, *minimum.resizes),
        terminations=terminations,
        removals=removals,
        notes=tuple(notes),
        memory=minimum.memory,
    )


def _as_seen(world: World, options: Options) -> World:
    """Nodes by the autoscaler's idea of readiness; pods without those that run and do not matter."""
    nodes = tuple(health.effective_node(node, options) for node in world.nodes)
    pods = tuple(p for p in world.pods if not p.node or p.priority >= options.expendable_pods_priority_cutoff)
    return dataclasses.replace(world, nodes=nodes, pods=pods)


def _resized(world: World, resizes: t.Sequence[Resize]) -> World:
    sizes = {resize.group: resize.size for resize in resizes}
    groups = tuple(dataclasses.replace(group, desired=sizes.get(group.name, group.desired)) for group in world.groups)
    return dataclasses.replace(world, groups=groups)


def _clean_up(world: World, state: health.Health) -> tuple[tuple[Termination, ...], tuple[Resize, ...]]:
    """Instances that did not become nodes go, and so does the wish for those that could not be launched; no group below its minimum."""
    terminations: list[Termination] = []
    resizes: list[Resize] = []
    for group in world.groups:
        late = state.groups[group.name].long_unregistered
        absent = health.missing_instances(group)
        surplus = max(0, group.desired - group.minimum)
        if absent and surplus and (group.refused or any(each in late for each in absent)):
            resizes.append(Resize(group.name, len(group.instances)))
            surplus = max(0, len(group.instances) - group.minimum)
        terminations += [Termination(each, group.name) for each in late if each not in absent][:surplus]
    return tuple(terminations), tuple(resizes)


def _rooms(world: World, state: health.Health, by_group: t.Mapping[str, Node]) -> list[tuple[Node | None, Room]]:
    """The nodes that there are, and with None those that are to come, in place of the ones that have registered and are not ready."""
    starting = {name for standing in state.groups.values() if standing.upcoming for name in standing.not_started}
    rooms: list[tuple[Node | None, Room]] = [
        (node, Room(node, scaledown.pods_on(node, world))) for node in world.nodes if node.name not in starting
    ]
    for group in world.groups:
        if group.name in by_group:
            rooms += [(None, Room(by_group[group.name])) for _unused in range(_coming(group, state))]
    return rooms


def _coming(group: Group, state: health.Health) -> int:
    return state.groups[group.name].upcoming


def _grow(
    world: World, options: Options, state: health.Health, by_group: t.Mapping[str, Node], rooms: t.Sequence[tuple[Node | None, Room]]
) -> tuple[scaleup.Growth, bool]:
    """The growth, and whether this run waits for more pods of a set that has only begun to be made."""
    nothing = scaleup.Growth((), state.memory)
    pods = scaleup.unplaced(scaleup.pending(world, options), [room for _node, room in rooms])
    if not pods:
        return nothing, False
    if all(pod.fresh for pod in pods):
        return nothing, True
    ready = sum(1 for node in world.nodes if node.ready)
    if (not options.scale_up_from_zero and ready == 0) or 0 < options.max_nodes_total <= ready:
        return nothing, False
    return scaleup.grow(pods, world, options, state, by_group), False
