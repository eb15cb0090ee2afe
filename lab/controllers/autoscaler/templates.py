"""Pure: what the next node of a group would look like.

For each group the first that there is: a real node that has been Ready for a minute and is schedulable; a copy of the last such
node, kept for ``--node-info-cache-expire-time``; the group's tags and instance type; a node that is not ready. Resources that a node
does not have are filled in from the tags, what it has less of stays.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from lab.controllers.autoscaler.model import (
    DELETION_CANDIDATE,
    GPU,
    TO_BE_DELETED,
    Cached,
    Group,
    InstanceType,
    Memory,
    Node,
    Options,
    Pod,
    Taint,
    World,
)
from lab.controllers.autoscaler.quantities import thousandths
from lab.controllers.autoscaler.scheduling import HOSTNAME, accepts

STABLE_SECONDS = 60.0
PODS = 110
KUBE_PROXY_CPU = 100
MIB = 2**20
CRITICAL = "system-node-critical"
_PREFIX = "k8s.io/cluster-autoscaler/node-template/"
_TAINT_VALUE = re.compile(r"(.*):(?:NoSchedule|NoExecute|PreferNoSchedule)")
_STARTUP_PREFIXES = ("ignore-taint.cluster-autoscaler.kubernetes.io/", "startup-taint.cluster-autoscaler.kubernetes.io/")
_STATUS_PREFIX = "status-taint.cluster-autoscaler.kubernetes.io/"
_CONDITIONS = {
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/pid-pressure",
    "node.cloudprovider.kubernetes.io/uninitialized",
    "node.cloudprovider.kubernetes.io/shutdown",
    "cloud.google.com/impending-node-termination",
    "NodeWithImpairedVolumes",
}
_DEPRECATED = {
    "kubernetes.io/arch": "beta.kubernetes.io/arch",
    "kubernetes.io/os": "beta.kubernetes.io/os",
    "node.kubernetes.io/instance-type": "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/region": "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone": "failure-domain.beta.kubernetes.io/zone",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Templates:
    """The template of each group that has one, and the cache as it is now."""

    by_group: dict[str, Node]
    cache: dict[str, Cached]
    notes: tuple[str, ...] = ()


def choose(world: World, options: Options, memory: Memory) -> Templates:
    """A template for each group; see the module."""
    owners = {instance: group.name for group in world.groups for instance in group.instances}
    good, bad = _candidates(world, owners)
    known = {group.name for group in world.groups}
    cache = {name: cached for name, cached in memory.templates.items() if name in known}
    found: dict[str, Node] = {}
    notes = []
    for group in world.groups:
        name, generic = group.name, from_group(group, world.types.get(group.instance_type))
        if name in good:
            found[name] = from_node(good[name], group, world, options)
            cache[name] = Cached(found[name], world.now)
        elif name in cache and world.now - cache[name].added <= options.node_info_cache_expire_time:
            found[name] = cache[name].node
        elif generic is not None:
            cache.pop(name, None)
            found[name] = _with_daemons(generic, world.daemons, options)
        elif name in bad:
            found[name] = from_node(bad[name], group, world, options)
        if generic is None:
            notes.append(f'ASG "{name}" uses the unknown EC2 instance type "{group.instance_type}"')
        elif name in found:
            found[name] = _filled(found[name], generic)
    return Templates(found, cache, tuple(notes))


def _candidates(world: World, owners: t.Mapping[str, str]) -> tuple[dict[str, Node], dict[str, Node]]:
    """The first node of each group that is a good example, and the first that is not."""
    good: dict[str, Node] = {}
    bad: dict[str, Node] = {}
    for node in world.nodes:
        group = owners.get(node.instance_id)
        if group is not None:
            stable = node.ready and node.ready_since + STABLE_SECONDS < world.now
            usable = stable and not node.unschedulable and node.taint(TO_BE_DELETED) is None
            (good if usable else bad).setdefault(group, node)
    return good, bad


def from_node(node: Node, group: Group, world: World, options: Options) -> Node:
    """A fresh copy of a real node: without taints that pass, with the DaemonSets' pods that run on it."""
    running = tuple(p for p in world.pods if p.node == node.name and not p.deleting and not p.finished and (p.mirror or p.of_daemon_set))
    name = f"template-node-for-{group.name}"
    example = dataclasses.replace(
        node,
        name=name,
        instance_id="",
        labels={**node.labels, HOSTNAME: name},
        taints=tuple(taint for taint in node.taints if not _passes(taint.key, options)),
        unschedulable=node.unschedulable and not options.scale_from_unschedulable,
        pods=running,
    )
    there = {pod.owner for pod in running}
    missing = [d for d in world.daemons if d.owner not in there and (options.force_ds or d.priority_class == CRITICAL)]
    return dataclasses.replace(example, pods=(*running, *(daemon for daemon in missing if accepts(example, daemon))))


def from_group(group: Group, kind: InstanceType | None) -> Node | None:
    """By instance type and tags: all of the machine is allocatable, 110 pods; None when the type is not known."""
    if kind is None or not group.zones:
        return None
    amounts = {"pods": PODS * 1000, "cpu": kind.cpus * 1000, GPU: kind.gpus * 1000, "memory": kind.memory_mib * MIB * 1000}
    amounts |= tagged_resources(group.tags)
    labels = {**_generic_labels(group, kind), **tagged_labels(group.tags)}
    taints = tagged_taints(group.tags)
    if labels.get("nodegroup-name") and labels.get("cluster-name") and group.managed is not None:
        labels |= group.managed.labels
        taints = (*taints, *group.managed.taints)
        amounts |= tagged_resources(group.managed.tags)
    labels |= {_DEPRECATED[key]: value for key, value in labels.items() if key in _DEPRECATED}
    proxy = Pod(uid=f"kube-proxy-{group.name}", name="kube-proxy", namespace="kube-system", mirror=True, requests={"cpu": KUBE_PROXY_CPU})
    return Node(
        name=f"template-node-for-{group.name}", labels=labels, taints=taints, capacity=amounts, allocatable=dict(amounts), pods=(proxy,)
    )


def tagged_resources(tags: t.Mapping[str, str]) -> dict[str, int]:
    """``…/node-template/resources/NAME``; a quantity that cannot be parsed is dropped."""
    found = {}
    for name, value in _below(tags, "resources/"):
        try:
            found[name] = thousandths(value)
        except ValueError:
            continue  # without a word, as the real one does for Auto Scaling groups
    return found


def tagged_labels(tags: t.Mapping[str, str]) -> dict[str, str]:
    """``…/node-template/label/KEY``, and everything after ``eks:`` of any tag key that holds that."""
    found = dict(_below(tags, "label/"))
    for key, value in tags.items():
        parts = key.split("eks:")
        if f"{_PREFIX}label/" not in key and len(parts) > 1 and parts[1]:
            found[parts[1]] = value
    return found


def tagged_taints(tags: t.Mapping[str, str]) -> tuple[Taint, ...]:
    """``…/node-template/taint/KEY`` with the value VALUE:EFFECT; values of another form are dropped."""
    parts = [(key, value.split(":", 1)) for key, value in _below(tags, "taint/") if _TAINT_VALUE.search(value)]
    return tuple(Taint(key, value, effect) for key, (value, effect) in parts)


def _below(tags: t.Mapping[str, str], kind: str) -> t.Iterator[tuple[str, str]]:
    for key, value in tags.items():
        parts = key.split(_PREFIX + kind)
        if len(parts) > 1 and parts[1]:
            yield parts[1], value


def _generic_labels(group: Group, kind: InstanceType) -> dict[str, str]:
    zone = group.zones[0]
    return {
        "kubernetes.io/arch": kind.architecture,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": kind.name,
        "topology.kubernetes.io/region": zone[:-1],
        "topology.kubernetes.io/zone": zone,
        "topology.ebs.csi.aws.com/zone": zone,
        HOSTNAME: f"template-node-for-{group.name}",
    }


def _with_daemons(node: Node, daemons: t.Iterable[Pod], options: Options) -> Node:
    clean = dataclasses.replace(node, taints=tuple(taint for taint in node.taints if not _passes(taint.key, options)))
    return dataclasses.replace(clean, pods=(*node.pods, *(daemon for daemon in daemons if accepts(clean, daemon))))


def _filled(node: Node, generic: Node) -> Node:
    return dataclasses.replace(
        node, capacity={**generic.capacity, **node.capacity}, allocatable={**generic.allocatable, **node.allocatable}
    )


def is_startup_taint(key: str, options: Options) -> bool:
    """Whether a node with it counts as not ready yet."""
    prefixes = (*_STARTUP_PREFIXES, *options.startup_taint_prefix)
    return key in options.startup_taint or key in options.ignore_taint or key.startswith(prefixes)


def _passes(key: str, options: Options) -> bool:
    """Whether a new node would not have this taint of another one."""
    passing = key in (TO_BE_DELETED, DELETION_CANDIDATE) or key in _CONDITIONS
    return passing or is_startup_taint(key, options) or key in options.status_taint or key.startswith(_STATUS_PREFIX)
