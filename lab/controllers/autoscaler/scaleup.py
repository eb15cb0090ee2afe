"""Pure: which pending pods need more nodes, of which groups, how many."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

from lab.controllers.autoscaler import expander
from lab.controllers.autoscaler.health import Health, backed_off
from lab.controllers.autoscaler.model import Group, Memory, Node, Options, Pod, Request, Resize, Resources, World
from lab.controllers.autoscaler.scheduling import HOSTNAME, Room, used

#: Labels that may differ between similar groups.
IGNORED_LABELS = {
    HOSTNAME,
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "beta.kubernetes.io/fluentd-ds-ready",
    "kops.k8s.io/instancegroup",
    "alpha.eksctl.io/instance-id",
    "alpha.eksctl.io/nodegroup-name",
    "eks.amazonaws.com/nodegroup",
    "k8s.amazonaws.com/eniConfig",
    "lifecycle",
    "topology.ebs.csi.aws.com/zone",
    "topology.k8s.aws/zone-id",
}


@dataclass(frozen=True, slots=True)
class Growth:
    """The groups to grow, with the memory of having done so."""

    resizes: tuple[Resize, ...]
    memory: Memory
    notes: tuple[str, ...] = ()


def pending(world: World, options: Options) -> list[Pod]:
    """Pods that the scheduler found no node for, those of DaemonSets and expendable ones left out, by priority."""
    waiting = [
        pod
        for pod in world.pods
        if pod.unschedulable and not (pod.node or pod.finished or pod.deleting or pod.of_daemon_set)
        if pod.priority >= options.expendable_pods_priority_cutoff and pod.created + options.new_pod_scale_up_delay <= world.now
    ]
    return sorted(waiting, key=lambda pod: -pod.priority)


def unplaced(pods: t.Sequence[Pod], rooms: t.Sequence[Room]) -> list[Pod]:
    """Those that fit neither on the nodes there are nor on those to come; the others take their room."""
    return [pod for pod in pods if not any(room.take(pod) for room in rooms)]


def grow(pods: t.Sequence[Pod], world: World, options: Options, health: Health, templates: t.Mapping[str, Node]) -> Growth:
    """The best way to make room for pods, no resize when no group can."""
    groups = [group for group in world.groups if _may_grow(group, health, templates, world)]
    wanted = {group.name: [pod for pod in pods if Room(templates[group.name]).fits(pod)] for group in groups}
    choices = []
    for group in groups:
        similar = _similar(group, groups, options, templates, wanted)
        limit = _limit((group, *similar), world, options)
        found = estimate(group.name, templates[group.name], wanted[group.name], limit)
        if found.count > 0:
            choices.append(found)
    if not choices:
        return Growth((), health.memory, _explain(pods, groups, wanted))
    choice = expander.best(choices, options.expander, world.priorities)
    chosen = next(group for group in groups if group.name == choice.option.group)
    family = (chosen, *_similar(chosen, groups, options, templates, wanted))
    resizes = balance(family, choice.option.count)
    note = f"Best option to resize: {chosen.name}, {choice.option.count} nodes for {len(choice.option.pods)} pods"
    return Growth(resizes, _requested(resizes, world, options, health.memory), (*choice.notes, note))


def estimate(group: str, template: Node, pods: t.Sequence[Pod], limit: int) -> expander.Option:
    """First fit, the largest pods first, on at most ``limit`` new nodes."""
    rooms: list[Room] = []
    placed = []
    for pod in sorted(pods, key=lambda each: -_size(each, template)):
        if any(room.take(pod) for room in rooms):
            placed.append(pod)
        elif len(rooms) < limit:
            room = Room(template)
            if room.take(pod):
                rooms.append(room)
                placed.append(pod)
    return expander.Option(group, template, len(rooms), tuple(placed))


def balance(groups: t.Sequence[Group], count: int) -> tuple[Resize, ...]:
    """New sizes: each node goes to the smallest group that has not reached its maximum."""
    sizes = {group.name: group.desired for group in groups}
    for _unused in range(count):
        open_groups = [group for group in groups if sizes[group.name] < group.maximum]
        if not open_groups:
            break
        sizes[min(open_groups, key=lambda group: sizes[group.name]).name] += 1
    return tuple(Resize(group.name, sizes[group.name]) for group in groups if sizes[group.name] != group.desired)


def to_minimum(world: World, options: Options, memory: Memory) -> Growth:
    """``--enforce-node-group-min-size``: groups that are below their minimum."""
    small = [g for g in world.groups if g.desired < g.minimum and not backed_off(memory, g.name, world.now)]
    resizes = tuple(Resize(group.name, group.minimum) for group in small if options.enforce_node_group_min_size)
    return Growth(resizes, _requested(resizes, world, options, memory))


def similar_nodes(one: Node, other: Node, options: Options) -> bool:
    """Whether two templates count as the same machine: capacity equal (memory nearly), allocatable and free nearly, labels but some equal."""
    if set(one.capacity) != set(other.capacity):
        return False
    for name, amount in one.capacity.items():
        ratio = options.memory_difference_ratio if name == "memory" else 0.0
        if not _near(amount, other.capacity[name], ratio):
            return False
    ignored = IGNORED_LABELS | set(options.balancing_ignore_label)
    kept = [{key: value for key, value in node.labels.items() if key not in ignored} for node in (one, other)]
    return (
        kept[0] == kept[1]
        and _all_near(one.allocatable, other.allocatable, options.max_allocatable_difference_ratio)
        and _all_near(_free(one), _free(other), options.max_free_difference_ratio)
    )


def _near(one: int, other: int, ratio: float) -> bool:
    return abs(one - other) <= max(one, other) * ratio


def _all_near(one: Resources, other: Resources, ratio: float) -> bool:
    return set(one) == set(other) and all(_near(amount, other[name], ratio) for name, amount in one.items())


def _free(node: Node) -> dict[str, int]:
    """What the pods of a fresh node leave of what they request."""
    return {name: node.allocatable.get(name, 0) - amount for name, amount in used(node.pods).items()}


def _size(pod: Pod, template: Node) -> float:
    """The share of a new node's CPU plus that of its memory."""
    return sum(pod.requests.get(name, 0) / template.allocatable[name] for name in ("cpu", "memory") if template.allocatable.get(name))


def _may_grow(group: Group, health: Health, templates: t.Mapping[str, Node], world: World) -> bool:
    blocked = backed_off(health.memory, group.name, world.now) or not health.groups[group.name].healthy
    return not blocked and group.name in templates and group.desired < group.maximum


def _limit(groups: t.Sequence[Group], world: World, options: Options) -> int:
    """How many nodes may be added: the groups' maxima, ``--max-nodes-total`` and ``--max-nodes-per-scaleup``."""
    limit = min(sum(group.maximum - group.desired for group in groups), options.max_nodes_per_scaleup)
    if options.max_nodes_total > 0:
        coming = sum(max(0, group.desired - len(group.instances)) for group in world.groups)
        limit = min(limit, options.max_nodes_total - len(world.nodes) - coming)
    return limit


def _similar(
    group: Group, groups: t.Sequence[Group], options: Options, templates: t.Mapping[str, Node], wanted: t.Mapping[str, list[Pod]]
) -> list[Group]:
    """With ``--balance-similar-node-groups``: the others that have such machines and can run all that this one can."""
    if not options.balance_similar_node_groups:
        return []
    needed = {pod.uid for pod in wanted[group.name]}
    return [
        other
        for other in groups
        if other.name != group.name
        and similar_nodes(templates[group.name], templates[other.name], options)
        and needed <= {pod.uid for pod in wanted[other.name]}
    ]


def _requested(resizes: t.Sequence[Resize], world: World, options: Options, memory: Memory) -> Memory:
    if not resizes:
        return memory
    desired = {group.name: group.desired for group in world.groups}
    requests = dict(memory.requests)
    for resize in resizes:
        before = requests[resize.group].increase if resize.group in requests else 0
        requests[resize.group] = Request(before + resize.size - desired[resize.group], world.now + options.max_node_provision_time)
    return dataclasses.replace(memory, requests=requests, last_scale_up=world.now)


def _explain(pods: t.Sequence[Pod], groups: t.Sequence[Group], wanted: t.Mapping[str, list[Pod]]) -> tuple[str, ...]:
    helped = {pod.uid for group in groups for pod in wanted[group.name]}
    lost = [f"{pod.namespace}/{pod.name}" for pod in pods if pod.uid not in helped]
    return (f"No expansion options: {len(groups)} groups may grow, none has room for {', '.join(lost[:5]) or 'the pods'}",)
