# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What it takes to get the device plugin that is wanted, and what stands in the way. Pure."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin, warnings
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import DEVICE_PLUGIN_CONFIG_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    CONFIG_MAP,
    DAEMON_SET,
    NAMESPACE,
    Kind,
    Object,
    gitops_tool,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import FIELD_MANAGER, MANAGED_BY_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import Term, required_terms, selects
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.objects import Comparison, apply_plan, delete_plan, gone
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, combine

#: (kind, name): the objects of the plugin in its namespace.
Key = tuple[str, str]

_OTHER_PROGRAMS = ("config-manager", "gpu-feature-discovery", "mps-control-daemon")


@dataclass(frozen=True, kw_only=True)
class Observed:
    """``daemon_sets`` are those of the whole cluster, ``config_maps`` ours and those whose names we want; ``dry_runs`` by kind and name.

    ``own_namespaces`` carry our mark; ``foreign`` says what else is in them, by namespace.
    """

    namespace: Object | None = None
    daemon_sets: tuple[Object, ...] = ()
    config_maps: tuple[Object, ...] = ()
    nodes: tuple[Node, ...] = ()
    dry_runs: t.Mapping[Key, Object] = field(default_factory=dict)
    own_namespaces: tuple[Object, ...] = ()
    foreign: t.Mapping[str, t.Sequence[str]] = field(default_factory=dict)

    def find(self, manifest: Object) -> Object | None:
        """The live object of a manifest."""
        objects = {"Namespace": (self.namespace,) if self.namespace else (), "ConfigMap": self.config_maps, "DaemonSet": self.daemon_sets}
        wanted = (namespace_of(manifest), name_of(manifest))
        return next((obj for obj in objects[manifest["kind"]] if (namespace_of(obj), name_of(obj)) == wanted), None)


def wanted_objects(wanted: DevicePlugin, namespace: Object | None, *, feature_discovery: bool = False) -> list[Object]:
    """The manifests in the order in which they are applied. A namespace that is not ours is used as it is."""
    objects: list[Object] = []
    if namespace is None or manifests.is_ours(labels_of(namespace)):
        objects.append(manifests.namespace(wanted.namespace))
    objects += manifests.common_objects(wanted, feature_discovery=feature_discovery)
    for configuration in wanted.configurations:
        objects += manifests.objects(wanted, configuration, feature_discovery=feature_discovery)
    return objects


def plan_present(wanted: DevicePlugin, observed: Observed) -> Plan:
    """What is no longer wanted goes first: two plugins on one node take the kubelet's socket from each other.

    What no wanted configuration takes over from stays, with a warning: GPUs do not vanish from a node under its pods. What another tool
    keeps stays as it is, with a warning too.
    """
    needed = _still_needed(wanted, observed) if wanted.purge else {}
    removed = [obj for obj in _purged(wanted, observed) if name_of(obj) not in needed]
    theirs = kept_by_others(wanted, observed)
    reason = "configuration is no longer listed"
    purge = combine(delete_plan(obj, reason=reason) for obj in removed)
    needs = tuple(gone(obj) for obj in removed if obj["kind"] == DAEMON_SET.kind)
    applied = combine(
        apply_plan(Comparison(manifest=manifest, live=observed.find(manifest), dry_run=observed.dry_runs.get(_key(manifest))))
        for manifest in wanted_objects(wanted, observed.namespace)
        if _key(manifest) not in theirs
    )
    steps = tuple(dataclasses.replace(step, needs=needs) if step.request["kind"] == DAEMON_SET.kind else step for step in applied.steps)
    kept = Plan(warnings=(*warnings(wanted), *_gitops_warnings(theirs), *(_kept(name, nodes) for name, nodes in needed.items())))
    return combine([purge, dataclasses.replace(applied, steps=steps), kept])


def kept_by_others(wanted: DevicePlugin, observed: Observed) -> dict[Key, str]:
    """Our objects that Argo CD or Flux keeps as its repository has them, those of configurations that are not wanted included -> the tool."""
    live = {_key(manifest): observed.find(manifest) for manifest in wanted_objects(wanted, observed.namespace)}
    live |= {_key(obj): obj for obj in _unlisted(wanted, observed)} if wanted.purge else {}
    return {key: tool for key, obj in live.items() if obj is not None and (tool := gitops_tool(obj)) is not None}


def _gitops_warnings(theirs: t.Mapping[Key, str]) -> list[str]:
    by_tool: dict[str, list[str]] = {}
    for (kind, name), tool in theirs.items():
        by_tool.setdefault(tool, []).append(f"{kind} {name}")
    return [
        f"{', '.join(names)}: kept by {tool} and not changed here; change them where {tool} takes them from."
        for tool, names in by_tool.items()
    ]


def _purged(wanted: DevicePlugin, observed: Observed) -> list[Object]:
    """Our objects of configurations that are not wanted, as far as they are ours to remove."""
    return [obj for obj in _unlisted(wanted, observed) if not gitops_tool(obj)] if wanted.purge else []


def plan_absent(observed: Observed) -> Plan:
    """Everything of ours, in every namespace; a namespace of ours stays while somebody else's objects are in it."""
    kept = {name_of(obj) for obj in observed.own_namespaces if observed.foreign.get(name_of(obj))}
    namespaces = [obj for obj in observed.own_namespaces if name_of(obj) not in kept]
    ours = [
        *_ours(observed.daemon_sets, DAEMON_SET, deleting=True),
        *_ours(observed.config_maps, CONFIG_MAP, deleting=True),
        *_ours(namespaces, NAMESPACE, deleting=True),
    ]
    plans = [delete_plan(obj, reason="state is absent") for obj in ours if not is_deleting(obj)]
    warnings = [f"Namespace {name} stays: it holds what is not ours: {', '.join(observed.foreign[name])}." for name in sorted(kept)]
    waits = tuple(gone(obj) for obj in ours if obj["kind"] != CONFIG_MAP.kind)
    return dataclasses.replace(combine(plans), waits=waits, warnings=tuple(warnings))


def conflicts(wanted: DevicePlugin, observed: Observed) -> list[str]:
    """Why the plugin cannot be installed as wanted, each reason with what to do; empty where nothing is in the way."""
    found = [*_terminating(observed), *_strangers(wanted, observed), *_elsewhere(wanted, observed), *_foreign_plugins(observed)]
    return [*found, *_shared_nodes(wanted, observed), *_bottlerocket(wanted, observed)]


def foreign_plugins(daemon_sets: t.Iterable[Object]) -> list[Object]:
    """DaemonSets that run the device plugin and are not ours: by NVIDIA's chart, the GPU Operator, eksctl or a static manifest."""
    return [obj for obj in daemon_sets if not manifests.is_ours(labels_of(obj)) and any(_runs_plugin(c) for c in _containers(obj))]


def _terminating(observed: Observed) -> list[str]:
    if observed.namespace is None or not is_deleting(observed.namespace):
        return []
    return [f"Namespace {name_of(observed.namespace)} is being deleted: run again when it is gone."]


def _strangers(wanted: DevicePlugin, observed: Observed) -> list[str]:
    """Objects of the names that we want without our mark."""
    live = [(manifest, observed.find(manifest)) for manifest in wanted_objects(wanted, observed.namespace)]
    return [
        f"{manifest['kind']} {target_of(manifest)} exists and is not ours (it lacks the label {MANAGED_BY_LABEL}={FIELD_MANAGER}): "
        "choose another namespace or configuration name, or remove it."
        for manifest, obj in live
        if obj is not None and not manifests.is_ours(labels_of(obj))
    ]


def _elsewhere(wanted: DevicePlugin, observed: Observed) -> list[str]:
    ours = _ours(observed.daemon_sets, DAEMON_SET)
    namespaces = sorted({str(namespace_of(obj)) for obj in ours} - {wanted.namespace})
    return [
        f"Our device plugin is already installed in namespace {namespace}: set namespace to it, or remove that one first with state: absent."
        for namespace in namespaces
    ]


def _foreign_plugins(observed: Observed) -> list[str]:
    return [
        f"DaemonSet {target_of(obj)} runs a device plugin that somebody else installed{_installer(obj)}: "
        "remove it first, as two plugins on one node take the kubelet's socket from each other."
        for obj in foreign_plugins(observed.daemon_sets)
    ]


def _shared_nodes(wanted: DevicePlugin, observed: Observed) -> list[str]:
    """Nodes that two configurations select, leftovers that stay included."""
    selections: list[tuple[str, t.Sequence[Term]]] = [(c.name, c.terms) for c in wanted.configurations]
    needed = _still_needed(wanted, observed)
    stay = [obj for obj in _leftovers(wanted, observed) if not wanted.purge or name_of(obj) in needed or gitops_tool(obj)]
    selections += [(_configuration_of(obj), _terms(obj)) for obj in stay]
    found: dict[tuple[str, ...], list[str]] = {}
    for node in observed.nodes:
        names = tuple(name for name, terms in selections if selects(terms, node.labels))
        if len(names) > 1:
            found.setdefault(names, []).append(node.name)
    listed = {configuration.name for configuration in wanted.configurations}
    return [_shared(names, nodes, purgeable=not (wanted.purge or listed >= set(names))) for names, nodes in found.items()]


def _shared(names: tuple[str, ...], nodes: list[str], *, purgeable: bool) -> str:
    remedy = "set purge_configurations: true, or list them all" if purgeable else "change their node_selector or the nodes' labels"
    return f"Configurations {' and '.join(names)} select the same node ({_some(nodes)}): {remedy}; a node runs one device plugin."


def _bottlerocket(wanted: DevicePlugin, observed: Observed) -> list[str]:
    """Nodes with a device plugin of their own, which nothing in their labels has to say. Source: bottlerocket#4673."""
    nodes = [node for node in observed.nodes if node.bottlerocket]
    found = {c.name: [node.name for node in nodes if selects(c.terms, node.labels)] for c in wanted.configurations}
    return [
        f"Configuration {name} selects Bottlerocket nodes ({_some(names)}), which contain a device plugin: choose another node_selector, "
        f"or, where it has none, give these nodes a label {DEVICE_PLUGIN_CONFIG_LABEL} that names no configuration."
        for name, names in found.items()
        if names
    ]


def _still_needed(wanted: DevicePlugin, observed: Observed) -> dict[str, list[str]]:
    """DaemonSets that are not wanted -> the nodes that would be left without a device plugin: no wanted configuration selects them."""
    nodes = [node for node in observed.nodes if not node.bottlerocket]
    lost = [node for node in nodes if not any(selects(c.terms, node.labels) for c in wanted.configurations)]
    found = {name_of(obj): [node.name for node in lost if selects(_terms(obj), node.labels)] for obj in _leftovers(wanted, observed)}
    return {name: nodes for name, nodes in found.items() if nodes}


def _kept(name: str, nodes: list[str]) -> str:
    return (
        f"DaemonSet {name} is no longer listed and stays: it alone serves {_some(nodes)}, whose pods would lose their GPUs. "
        "List its configuration again, label these nodes for another one, or remove them; a later run then purges it."
    )


def _some(nodes: list[str]) -> str:
    return ", ".join(sorted(nodes)[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")


def _terms(daemon_set: Object) -> list[Term]:
    return required_terms(daemon_set["spec"]["template"]["spec"])


def _leftovers(wanted: DevicePlugin, observed: Observed) -> list[Object]:
    """Our DaemonSets of configurations that are not wanted."""
    return [obj for obj in _unlisted(wanted, observed) if obj["kind"] == DAEMON_SET.kind]


def _unlisted(wanted: DevicePlugin, observed: Observed) -> list[Object]:
    """Our DaemonSets, then our ConfigMaps, of configurations that are not wanted."""
    names = {manifests.object_name(configuration.name) for configuration in wanted.configurations}
    ours = [*_ours(observed.daemon_sets, DAEMON_SET), *_ours(observed.config_maps, CONFIG_MAP)]
    return [obj for obj in ours if namespace_of(obj) == wanted.namespace and name_of(obj) not in names]


def _ours(objects: t.Iterable[Object], kind: Kind, *, deleting: bool = False) -> list[Object]:
    """Those with our mark, with their apiVersion and kind, which items of a list lack; those that are going away only when asked for."""
    found = [obj for obj in objects if manifests.is_ours(labels_of(obj)) and (deleting or not is_deleting(obj))]
    return [{**obj, "apiVersion": kind.api_version, "kind": kind.kind} for obj in found]


def _key(manifest: Object) -> Key:
    return manifest["kind"], name_of(manifest)


def _configuration_of(obj: Object) -> str:
    return labels_of(obj).get(manifests.INSTANCE_LABEL) or name_of(obj)


def _containers(obj: Object) -> list[t.Mapping[str, t.Any]]:
    return list(obj["spec"]["template"]["spec"].get("containers") or ())


def _runs_plugin(container: t.Mapping[str, t.Any]) -> bool:
    """By its image or command; the image also holds other programs, which are then named in the command or the container's name."""
    words = [container.get("name", ""), *(container.get("command") or ()), *(container.get("args") or ())]
    if any(program in word for word in words for program in _OTHER_PROGRAMS):
        return False
    repository = container.get("image", "").split("@")[0].rpartition("/")[2].split(":")[0]
    return repository == "k8s-device-plugin" or any(word.rpartition("/")[2] == manifests.PLUGIN for word in words[1:])


def _installer(obj: Object) -> str:
    labels = labels_of(obj)
    owner = next(iter(obj["metadata"].get("ownerReferences") or ()), None)
    if owner is not None:
        return f" ({owner['kind']} {owner['name']})"
    if chart := labels.get("helm.sh/chart"):
        return f" (Helm chart {chart})"
    return f" ({labels[MANAGED_BY_LABEL]})" if labels.get(MANAGED_BY_LABEL) else ""


def planned_result(wanted: DevicePlugin) -> dict[str, t.Any]:
    """The ``device_plugin`` result of a cluster that is only planned: nothing is known of its nodes."""
    return result(wanted, {configuration.name: (None, None, ()) for configuration in wanted.configurations})


def result(
    wanted: DevicePlugin, seen: t.Mapping[str, tuple[int | None, int | None, t.Sequence[t.Mapping[str, t.Any]]]]
) -> dict[str, t.Any]:
    """The ``device_plugin`` result; ``seen`` has desired nodes, ready nodes and the nodes of each configuration."""
    return {
        "namespace": wanted.namespace,
        "image": wanted.image.reference,
        "configurations": [
            _configuration_result(wanted, configuration, *seen[configuration.name]) for configuration in wanted.configurations
        ],
    }


def _configuration_result(
    wanted: DevicePlugin, configuration: Configuration, desired: int | None, ready: int | None, nodes: t.Sequence[t.Mapping[str, t.Any]]
) -> dict[str, t.Any]:
    name = manifests.object_name(configuration.name)
    return {
        "name": configuration.name,
        "daemon_set": name,
        "config_map": name,
        "hash": manifests.content_hash(wanted, configuration),
        "desired_nodes": desired,
        "ready_nodes": ready,
        "nodes": list(nodes),
    }
