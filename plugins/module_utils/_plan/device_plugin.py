# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What it takes to get the device plugin that is wanted. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DevicePlugin
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Catalog, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    DAEMON_SET,
    NAMESPACE,
    POD,
    Object,
    controller_of,
    gitops_tool,
    is_deleting,
    labels_of,
    name_of,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import selects
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan import takeover, transition
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design, Part, component_of, hash_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import (
    Key,
    Observed,
    configuration_of,
    key_of,
    leftover_plugins,
    obsolete,
    some,
    still_needed,
    terms_of,
    unlisted,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import wanted_objects as objects_of_design
from ansible_collections.gpuops.eks.plugins.module_utils._plan.drain import CORDON_ANNOTATION
from ansible_collections.gpuops.eks.plugins.module_utils._plan.objects import (
    Comparison,
    apply_plan,
    delete_plan,
    gone,
    is_in_force,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, combine, needing
from ansible_collections.gpuops.eks.plugins.module_utils._plan.takeover import foreign_plugins
from ansible_collections.gpuops.eks.plugins.module_utils._plan.transition import Move, Seen

__all__ = ["Way", "foreign_plugins", "in_order", "plan_absent", "plan_begin", "plan_end", "planned_result", "result", "wanted_objects"]

#: The newest release of the plugin that was known when this release of the collection was made.
NEWEST_KNOWN = "v0.20.1"


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the plan gets there: the nodes that are drained, and the plugins of others (their DaemonSets, or what is left of them) to take over.

    ``theirs`` is as far as they are still there; ``held`` are the configurations whose plugin waits until theirs is gone from a node.
    """

    moves: tuple[Move, ...] = ()
    theirs: tuple[Object, ...] = ()
    held: frozenset[str] = frozenset()

    @property
    def slow(self) -> frozenset[str]:
        """The configurations whose pods the run restarts itself, node by node."""
        return frozenset(move.seen.configuration for move in self.moves) | self.held


def wanted_objects(plugin: DevicePlugin, namespace: Object | None, *, feature_discovery: bool = False) -> list[Object]:
    """The manifests in the order in which they are applied. A namespace that is not ours is used as it is."""
    return objects_of_design(Design.of(plugin, feature_discovery=feature_discovery), namespace)


def first_objects(design: Design, observed: Observed, way: Way) -> list[Object]:
    """What is applied before any node is touched. Pods that the run restarts itself stay as they are until it does."""
    slow = {obj_key: obj for part in design.parts if part.name in way.slow for obj_key, obj in _slow_objects(design, part, way).items()}
    return [slow.get(key_of(obj), obj) for obj in objects_of_design(design, observed.namespace)]


def _slow_objects(design: Design, part: Part, way: Way) -> dict[Key, Object]:
    held = part.name in way.held
    return {
        key_of(obj): takeover.kept_off(obj, way.theirs) if held and component_of(obj) == manifests.DEVICE_PLUGIN and _is_set(obj) else obj
        for obj in design.waiting_objects(part)
        if component_of(obj) != manifests.FEATURE_DISCOVERY  # it holds no GPU: its pods may restart at any time
    }


def _is_set(obj: Object) -> bool:
    return bool(obj["kind"] == DAEMON_SET.kind)


def unsettled(design: Design, observed: Observed, way: Way) -> list[Object]:
    """The manifests for which the API server has to be asked: what it has differs, or was applied from another manifest.

    In a namespace that is not there yet it cannot say.
    """
    if observed.namespace is None:
        return []
    theirs = kept_by_others(design, observed)
    wanted = [obj for obj in first_objects(design, observed, way) if key_of(obj) not in theirs]
    return [obj for obj in wanted if not is_in_force(obj, observed.find(obj), manifests.APPLIED_ANNOTATION)]


def plan_begin(design: Design, observed: Observed, way: Way) -> Plan:
    """All objects, and what is no longer wanted.

    A configuration that is not listed and selects nodes of a listed one goes first: two plugins on one node take the kubelet's socket from
    each other. Others go last. What no wanted configuration takes over from stays, with a warning: GPUs do not vanish from a node under its
    pods. What another tool keeps stays as it is, with a warning too.
    """
    needed = still_needed(design, observed) if design.plugin.purge else {}
    purged = [obj for obj in _purged(design, observed) if configuration_of(obj) not in needed]
    crossing = _crossing(design, observed)
    first = [obj for obj in purged if configuration_of(obj) in crossing]
    last = [obj for obj in purged if configuration_of(obj) not in crossing]
    reason = "configuration is no longer listed"
    theirs = kept_by_others(design, observed)
    needs = tuple(gone(obj) for obj in first if _is_set(obj))
    applied = combine(
        apply_plan(Comparison(manifest=manifest, live=observed.find(manifest), dry_run=observed.dry_runs.get(key_of(manifest))))
        for manifest in first_objects(design, observed, way)
        if key_of(manifest) not in theirs
    )
    steps = tuple(dataclasses.replace(step, needs=needs) if step.request["kind"] == DAEMON_SET.kind else step for step in applied.steps)
    kept = Plan(warnings=(*_gitops_warnings(theirs), *(_kept(name, nodes) for name, nodes in needed.items())))
    return combine(
        [
            combine(delete_plan(obj, reason=reason) for obj in first),
            combine(_obsolete_plan(obj, way) for obj in obsolete(design, observed) if not gitops_tool(obj)),
            dataclasses.replace(applied, steps=steps),
            combine(delete_plan(obj, reason=reason) for obj in last),
            _let_go(design, observed, way),
            kept,
        ]
    )


def _obsolete_plan(obj: Object, way: Way) -> Plan:
    """A control daemon under running pods is let go of: its pods stay until their node is drained."""
    orphan = component_of(obj) == manifests.MPS_DAEMON and configuration_of(obj) in way.slow
    return delete_plan(obj, reason="no longer part of its configuration", policy="Orphan" if orphan else None)


def _let_go(design: Design, observed: Observed, way: Way) -> Plan:
    """The DaemonSets of others, whose pods stay until ours take their place, after those that would adopt these pods."""
    plans = []
    for obj in way.theirs:
        rivals = [_whole(one) for one in takeover.companions(obj, observed.daemon_sets) if takeover.claims(one, obj)]
        reason = "it has the selector of the plugin that ours takes over from, and would adopt its pods"
        plans += [delete_plan(one, reason=reason) for one in rivals if not is_deleting(one)]
        plans.append(Plan(warnings=tuple(_unlabelled(one) for one in rivals if _is_discovery(one) and not design.feature_discovery)))
        if name_of(obj):
            reason = "ours takes over node by node; its pods stay until then"
            let_go = delete_plan(_whole(obj), reason=reason, policy="Orphan")
            plans.append(dataclasses.replace(let_go, steps=tuple(needing(let_go.steps, *map(gone, rivals)))))
    return combine(plans)


def _whole(daemon_set: Object) -> dict[str, t.Any]:
    """With apiVersion and kind, which items of lists lack."""
    return {**daemon_set, "apiVersion": DAEMON_SET.api_version, "kind": DAEMON_SET.kind}


def _is_discovery(daemon_set: Object) -> bool:
    return takeover.program_of(daemon_set) == manifests.FEATURE_DISCOVERY


def _unlabelled(daemon_set: Object) -> str:
    return (
        f"DaemonSet {target_of(daemon_set)} (GPU feature discovery) has the selector of the plugin that ours takes over from and goes with it; "
        "the labels that it gives to nodes go too. Ours gives them where Node Feature Discovery is installed (feature_discovery)."
    )


def _remaining(design: Design, observed: Observed) -> Plan:
    """The pods of others' plugins on nodes where ours does not run: NVIDIA's static manifest has them on nodes without a GPU too."""
    ours = {node.name for node in observed.nodes if design.parts_of(node)}
    pods = [pod for pod in observed.foreign_pods if pod["spec"].get("nodeName") not in ours and not is_deleting(pod)]
    steps = [transition.delete_pod(pod, "left by the plugin that ours has taken over from") for pod in pods]
    return Plan(steps=tuple(dataclasses.replace(step, effect="delete") for step in steps))


def plan_end(design: Design, observed: Observed, way: Way) -> Plan:
    """After the nodes: pods restart by themselves again at a later change, and what is left of others' programs goes."""
    steps: list[Step] = []
    for part in design.parts:
        slow = _slow_objects(design, part, way) if part.name in way.slow else {}
        for obj in part.objects:
            if _is_set(obj) and key_of(obj) in slow:
                held = part.name in way.held and component_of(obj) == manifests.DEVICE_PLUGIN
                fields = ("spec.template.spec.affinity.podAntiAffinity", "spec.updateStrategy") if held else ("spec.updateStrategy",)
                action = f"kubernetes:patch {DAEMON_SET.resource}"
                reason = "every node has come to the new configuration"
                steps.append(Step(action=action, target=target_of(obj), effect="update", fields=fields, reason=reason, request=obj))
    there = [obj for obj in way.theirs if name_of(obj)]
    rest = [one for obj in there for one in takeover.companions(obj, observed.daemon_sets) if not takeover.claims(one, obj)]
    wanted = [one for one in rest if takeover.program_of(one) == manifests.MPS_DAEMON or design.feature_discovery]
    reason = "part of the plugin that ours has taken over from"
    removed = combine(delete_plan(_whole(one), reason=reason) for one in wanted)
    farewells = tuple(text for obj in there if (text := takeover.farewell(obj)))
    return combine([Plan(steps=tuple(steps), warnings=farewells), removed, _remaining(design, observed)])


def _crossing(design: Design, observed: Observed) -> set[str]:
    """Configurations that are not listed and select nodes of a listed one."""
    plugins = leftover_plugins(design, observed)
    nodes = [node for node in observed.nodes if plugins and design.parts_of(node)]
    return {configuration_of(obj) for obj in plugins if any(selects(terms_of(obj), node.labels) for node in nodes)}


def kept_by_others(design: Design, observed: Observed) -> dict[Key, str]:
    """Our objects that Argo CD or Flux keeps as its repository has them, those of configurations that are not wanted included -> the tool."""
    live = {key_of(manifest): observed.find(manifest) for manifest in objects_of_design(design, observed.namespace)}
    live |= {key_of(obj): obj for obj in (*(unlisted(design, observed) if design.plugin.purge else ()), *obsolete(design, observed))}
    return {key: tool for key, obj in live.items() if obj is not None and (tool := gitops_tool(obj)) is not None}


def _gitops_warnings(theirs: t.Mapping[Key, str]) -> list[str]:
    by_tool: dict[str, list[str]] = {}
    for (kind, name), tool in theirs.items():
        by_tool.setdefault(tool, []).append(f"{kind} {name}")
    return [
        f"{', '.join(names)}: kept by {tool} and not changed here; change them where {tool} takes them from."
        for tool, names in by_tool.items()
    ]


def _purged(design: Design, observed: Observed) -> list[Object]:
    """Our objects of configurations that are not wanted, as far as they are ours to remove."""
    return [obj for obj in unlisted(design, observed) if not gitops_tool(obj)] if design.plugin.purge else []


def _kept(name: str, nodes: list[str]) -> str:
    return (
        f"DaemonSet {manifests.object_name(name)} is no longer listed and stays: it alone serves {some(nodes)}, whose pods would lose their "
        "GPUs. List its configuration again, label these nodes for another one, or remove them; a later run then purges it."
    )


def plan_absent(observed: Observed) -> Plan:
    """Everything of ours, in every namespace; a namespace of ours stays while somebody else's objects are in it."""
    kept = {name_of(obj) for obj in observed.own_namespaces if observed.foreign.get(name_of(obj))}
    namespaces = [
        {**obj, "apiVersion": NAMESPACE.api_version, "kind": NAMESPACE.kind} for obj in observed.own_namespaces if name_of(obj) not in kept
    ]
    orphans = [{**pod, "apiVersion": POD.api_version, "kind": POD.kind} for pod in observed.pods if controller_of(pod) is None]
    ours = [*observed.ours(deleting=True), *orphans, *namespaces]
    plans = [delete_plan(obj, reason="state is absent") for obj in ours if not is_deleting(obj)]
    marked = [transition.uncordon(node) for node in observed.nodes if CORDON_ANNOTATION in node.annotations]
    warnings = [f"Namespace {name} stays: it holds what is not ours: {', '.join(observed.foreign[name])}." for name in sorted(kept)]
    waits = tuple(gone(obj) for obj in ours if obj["kind"] in (DAEMON_SET.kind, POD.kind, NAMESPACE.kind))
    return dataclasses.replace(combine([*plans, *marked]), waits=waits, warnings=tuple(warnings))


def in_order(design: Design, observed: Observed, catalog: Catalog) -> list[Seen]:
    """Each node of our configurations with our pods on it, as transitions look at it."""
    by_node: dict[str, list[Object]] = {}
    for pod in observed.pods:
        if node_name := pod["spec"].get("nodeName"):
            by_node.setdefault(node_name, []).append(pod)
    kept = kept_by_others(design, observed)
    found = []
    for node in observed.nodes:
        part = design.part_of(node)
        if part is None or node.deleting or any(key in kept for key in part.names):
            continue
        found.append(_seen(part, node, by_node.get(node.name, []), catalog))
    return found


def _seen(part: Part, node: Node, pods: list[Object], catalog: Catalog) -> Seen:
    plugins = [pod for pod in pods if component_of(pod) == manifests.DEVICE_PLUGIN and not is_deleting(pod)]
    daemons = [pod for pod in pods if component_of(pod) == manifests.MPS_DAEMON and not is_deleting(pod)]
    present = next((shares for pod in plugins if (shares := manifests.read_sharing(pod))), None)
    return Seen(
        node=node,
        configuration=part.name,
        wanted=part.shares,
        gpus=node.gpus(catalog),
        present=present,
        daemons=tuple(pod for pod in daemons if hash_of(pod) != part.hashes.get(manifests.MPS_DAEMON)),
        plugins=tuple(pod for pod in plugins if hash_of(pod) != part.hashes[manifests.DEVICE_PLUGIN]),
    )


def from_other_configurations(moves: t.Iterable[Move]) -> list[str]:
    """Why nodes that change their configuration and their sharing at once are refused: all of them would lose their plugin together."""
    found: dict[tuple[str, str], list[str]] = {}
    mps: set[tuple[str, str]] = set()
    for move in moves:
        alike = move.seen.present == move.seen.wanted
        if alike and move.seen.wanted["strategy"] != transition.MPS:
            continue  # a node of an interrupted run, whose plugin alone restarts
        for pod in (*move.seen.daemons, *move.seen.plugins):
            before = labels_of(pod).get(manifests.INSTANCE_LABEL, "")
            if before != move.seen.configuration:
                found.setdefault((before, move.seen.configuration), []).append(move.node.name)
                if alike:
                    mps.add((before, move.seen.configuration))
    return [_taken_over(before, after, nodes, alike=(before, after) in mps) for (before, after), nodes in found.items()]


def _taken_over(before: str, after: str, nodes: t.Iterable[str], *, alike: bool) -> str:
    taken = f"Configuration {after} takes over {some(set(nodes))} from {before} and "
    if alike:
        return (
            f"{taken}both share by MPS, whose control daemons would restart under running pods on all nodes together: keep the name {before}, or "
            f"give {before} strategy none first (drain: true, node by node), then change the name, then go back to MPS."
        )
    return f"{taken}shares in another way: give {after} the sharing that {before} has, run, and then change it, so that nodes are drained one by one."


def planned_result(design: Design) -> dict[str, t.Any]:
    """The result for a cluster that is only planned: nothing is known about nodes."""
    return result(design, {part.name: (None, None, []) for part in design.parts}, [])


def result(
    design: Design,
    seen: t.Mapping[str, tuple[int | None, int | None, t.Sequence[t.Mapping[str, t.Any]]]],
    installed: t.Sequence[str],
) -> dict[str, t.Any]:
    """The ``device_plugin`` result; ``seen`` has desired nodes, ready nodes and the nodes of each configuration."""
    plugin = design.plugin
    return {
        "namespace": plugin.namespace,
        "image": plugin.image.reference,
        "versions": {"installed": list(installed), "pinned": plugin.image.digest or plugin.image.tag, "newest_known": NEWEST_KNOWN},
        "configurations": [_configuration_result(part, *seen[part.name]) for part in design.parts],
    }


def installed_versions(daemon_sets: t.Iterable[Object]) -> list[str]:
    """The versions (tag, or what stands for it) that our plugin's DaemonSets run."""
    images = {
        container["image"]
        for obj in daemon_sets
        if manifests.is_ours(labels_of(obj)) and component_of(obj) == manifests.DEVICE_PLUGIN
        for container in obj["spec"]["template"]["spec"]["containers"]
        if container["name"] == manifests.CONTAINER
    }
    return sorted({_version(image) for image in images})


def _version(image: str) -> str:
    name, _at, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag or digest


def _configuration_result(part: Part, desired: int | None, ready: int | None, nodes: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    def daemon_set(component: str) -> str | None:
        return manifests.object_name(part.name, component) if component in part.hashes else None

    return {
        "name": part.name,
        "daemon_set": daemon_set(manifests.DEVICE_PLUGIN),
        "mps_daemon_set": daemon_set(manifests.MPS_DAEMON),
        "feature_discovery_daemon_set": daemon_set(manifests.FEATURE_DISCOVERY),
        "config_map": manifests.object_name(part.name),
        "hash": part.hashes[manifests.DEVICE_PLUGIN],
        "desired_nodes": desired,
        "ready_nodes": ready,
        "nodes": list(nodes),
    }
