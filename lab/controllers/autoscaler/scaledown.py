"""Pure: which nodes are not needed, since when, and which may go now."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

from lab.controllers.autoscaler.flags import boolean, duration
from lab.controllers.autoscaler.health import has_gpu
from lab.controllers.autoscaler.model import (
    GPU,
    GPU_LABEL,
    TO_BE_DELETED,
    Budget,
    Group,
    Memory,
    Node,
    Options,
    Pod,
    Removal,
    Resources,
    World,
)
from lab.controllers.autoscaler.scheduling import Room, matches, used

DISABLED = "cluster-autoscaler.kubernetes.io/scale-down-disabled"
SYSTEM = "kube-system"
_REPLICATED = ("ReplicationController", "Job", "ReplicaSet", "StatefulSet")
_TAG = "k8s.io/cluster-autoscaler/node-template/autoscaling-options/"


@dataclass(frozen=True, slots=True)
class Shrinkage:
    """Nodes to remove now, with the memory of what is not needed."""

    removals: tuple[Removal, ...]
    memory: Memory
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    node: Node
    group: Group
    movable: tuple[Pod, ...]


def group_options(group: Group, options: Options) -> Options:
    """The flags with what the group's ``autoscaling-options`` tags change; a value of another form changes nothing."""
    changes: dict[str, t.Any] = {}
    for name, (field_name, read) in _GROUP_OPTIONS.items():
        if (text := group.tags.get(_TAG + name)) is not None:
            try:
                changes[field_name] = read(text)
            except ValueError:
                continue  # the real one warns and keeps its flag
    return dataclasses.replace(options, **changes)


_GROUP_OPTIONS: dict[str, tuple[str, t.Callable[[str], t.Any]]] = {
    "scaledownutilizationthreshold": ("scale_down_utilization_threshold", float),
    "scaledowngpuutilizationthreshold": ("scale_down_gpu_utilization_threshold", float),
    "scaledownunneededtime": ("scale_down_unneeded_time", duration),
    "scaledownunreadytime": ("scale_down_unready_time", duration),
    "ignoredaemonsetsutilization": ("ignore_daemonsets_utilization", boolean),
}


def is_gpu_node(node: Node) -> bool:
    """By the accelerator label or an allocatable GPU."""
    return GPU_LABEL in node.labels or has_gpu(node)


def utilisation(node: Node, pods: t.Sequence[Pod], options: Options) -> float:
    """Requests of nvidia.com/gpu by what is allocatable on a GPU node (0 when there is none), else the higher of CPU and memory."""
    counted = [p for p in pods if not (p.of_daemon_set and options.ignore_daemonsets_utilization)]
    counted = [p for p in counted if not (p.mirror and options.ignore_mirror_pods_utilization)]
    left_out = used([pod for pod in pods if pod not in counted])
    if is_gpu_node(node):
        return _share(GPU, node, used(counted), left_out)
    return max(_share(name, node, used(counted), left_out) for name in ("cpu", "memory"))


def _share(name: str, node: Node, requested: Resources, left_out: Resources) -> float:
    amount = node.allocatable.get(name, 0) - left_out.get(name, 0)
    return requested.get(name, 0) / amount if node.allocatable.get(name, 0) > 0 and amount > 0 else 0.0


def shrink(world: World, options: Options, memory: Memory, rooms: t.Mapping[str, Room], starting: t.Collection[str]) -> Shrinkage:
    """What to remove. ``rooms`` are the nodes that there are, ``starting`` those that must not be judged yet."""
    candidates, blocked = _unneeded(world, options, memory, rooms, starting)
    since = {c.node.name: memory.unneeded.get(c.node.name, world.now) for c in candidates}
    memory = dataclasses.replace(memory, unneeded=since, unremovable=blocked)
    if _cooling(world, options, memory):
        return Shrinkage((), memory)
    ripe = [c for c in candidates if _ripe(c, since[c.node.name], options, world.now)]
    removals = _pick(ripe, world, options)
    notes = tuple(f"Scale-down: removing node {r.node}, pods to move: {len(r.pods)}" for r in removals)
    return Shrinkage(removals, dataclasses.replace(memory, last_delete=world.now) if removals else memory, notes)


def _cooling(world: World, options: Options, memory: Memory) -> bool:
    return any(
        last + delay > world.now
        for last, delay in (
            (memory.last_scale_up, options.scale_down_delay_after_add),
            (memory.last_failure, options.scale_down_delay_after_failure),
            (memory.last_delete, options.scale_down_delay_after_delete),
        )
    )


def _unneeded(
    world: World, options: Options, memory: Memory, rooms: t.Mapping[str, Room], starting: t.Collection[str]
) -> tuple[list[_Candidate], dict[str, float]]:
    """Nodes whose pods could all be elsewhere, and until when others are not looked at again."""
    owners = {instance: group for group in world.groups for instance in group.instances}
    blocked = {name: until for name, until in memory.unremovable.items() if until > world.now}
    budgets = {index: budget.allowed for index, budget in enumerate(world.budgets)}
    free = {name: room.copy() for name, room in rooms.items()}
    found = []
    for node in world.nodes:
        group = owners.get(node.instance_id)
        if group is None or node.name in starting or node.name in blocked or not _eligible(node, group, world, options):
            continue
        movable = _movable(node, world, options)
        if movable is None or not _rehouse(movable, node.name, free, world, budgets):
            blocked[node.name] = world.now + options.unremovable_node_recheck_timeout
            continue
        free.pop(node.name, None)
        found.append(_Candidate(node, group, tuple(movable)))
    return found, blocked


def _eligible(node: Node, group: Group, world: World, options: Options) -> bool:
    """Whether the node is little used and nothing forbids to remove it."""
    if node.taint(TO_BE_DELETED) is not None or node.annotations.get(DISABLED) == "true":
        return False
    if not node.ready and not options.scale_down_unready_enabled:
        return False
    own = group_options(group, options)
    limit = own.scale_down_gpu_utilization_threshold if is_gpu_node(node) else own.scale_down_utilization_threshold
    return utilisation(node, pods_on(node, world), own) <= limit


def pods_on(node: Node, world: World) -> list[Pod]:
    return [pod for pod in world.pods if pod.node == node.name and not pod.finished]


def _movable(node: Node, world: World, options: Options) -> list[Pod] | None:
    """The pods that would have to move, None when one of them must not."""
    found = []
    for pod in pods_on(node, world):
        if pod.of_daemon_set or pod.mirror or pod.deleting:
            continue
        if pod.safe_to_evict is not True and not _drainable(pod, world, options):
            return None
        found.append(pod)
    return found


def _drainable(pod: Pod, world: World, options: Options) -> bool:
    """Whether a drain may evict a pod that does not say so itself."""
    if pod.safe_to_evict is False or not pod.owner:
        return False
    if options.skip_nodes_with_custom_controller_pods and pod.owner_kind not in _REPLICATED:
        return False
    if pod.namespace == SYSTEM and options.skip_nodes_with_system_pods and not _budgets_of(pod, world):
        return world.now > pod.created + options.blocking_system_pod_distruption_timeout
    return not (pod.local_storage and options.skip_nodes_with_local_storage)


def _budgets_of(pod: Pod, world: World) -> list[int]:
    return [index for index, budget in enumerate(world.budgets) if _covers(budget, pod)]


def _covers(budget: Budget, pod: Pod) -> bool:
    return budget.namespace == pod.namespace and budget.selector is not None and all(matches(each, pod.labels) for each in budget.selector)


def _rehouse(pods: t.Sequence[Pod], leaving: str, free: dict[str, Room], world: World, budgets: dict[int, int]) -> bool:
    """Whether the pods fit on other nodes and their budgets allow it; if so they take their room there, and the budgets shrink."""
    needed: dict[int, int] = {}
    for pod in pods:
        for index in _budgets_of(pod, world):
            needed[index] = needed.get(index, 0) + 1
    if any(budgets[index] < count for index, count in needed.items()):
        return False
    trial = {name: room.copy() for name, room in free.items() if name != leaving} if pods else {}
    if not all(any(room.take(pod) for room in trial.values()) for pod in pods):
        return False
    free.update(trial)
    for index, count in needed.items():
        budgets[index] -= count
    return True


def _ripe(candidate: _Candidate, since: float, options: Options, now: float) -> bool:
    own = group_options(candidate.group, options)
    wait = own.scale_down_unneeded_time if candidate.node.ready else own.scale_down_unready_time
    return wait <= 0 or since + wait < now


def _pick(candidates: t.Sequence[_Candidate], world: World, options: Options) -> tuple[Removal, ...]:
    """Empty nodes first; no group below its minimum; ``--max-scale-down-parallelism`` and ``--max-drain-parallelism``."""
    going = [node for node in world.nodes if node.taint(TO_BE_DELETED) is not None]
    gone = {group.name: sum(1 for node in going if node.instance_id in group.instances) for group in world.groups}
    draining = sum(1 for node in going if any(not (p.of_daemon_set or p.mirror) for p in pods_on(node, world)))
    picked: list[Removal] = []
    for candidate in sorted(candidates, key=lambda each: bool(each.movable)):
        group = candidate.group
        full = len(picked) + len(going) >= options.max_scale_down_parallelism
        if full or group.desired - gone[group.name] <= group.minimum or (candidate.movable and draining >= options.max_drain_parallelism):
            continue
        gone[group.name] += 1
        draining += bool(candidate.movable)
        picked.append(Removal(candidate.node.name, candidate.node.instance_id, group.name, candidate.movable))
    return tuple(picked)
