# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What stands in the way of the device plugin that is wanted: by which evidence, and what to choose. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import gpu_of, mps_clients
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Catalog, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    OPERANDS_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    Object,
    controller_of,
    gitops_tool,
    is_deleting,
    labels_of,
    name_of,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import FIELD_MANAGER, MANAGED_BY_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import Term, selects
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan import takeover
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design, Part
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import (
    Observed,
    configuration_of,
    leftover_plugins,
    ours_elsewhere,
    some,
    still_needed,
    terms_of,
    wanted_objects,
)

_OPERATOR_OFF = ("nvidia.com/gpu.deploy.device-plugin", OPERANDS_LABEL)
_SELECTOR = "another node_selector for the configuration"


def conflicts(design: Design, observed: Observed, catalog: Catalog, *, replace: bool) -> list[str]:
    """Why the plugin cannot be installed as wanted, each reason with what to choose; empty where nothing is in the way."""
    return [
        *_terminating(observed),
        *_strangers(design, observed),
        *_elsewhere(design, observed),
        *_managers(design, observed, replace=replace),
        *_foreign_plugins(design, observed, catalog, replace=replace),
        *_operator(design, observed),
        *_shared_nodes(design, observed),
        *_other_plugins(design, observed),
        *_mps_clients(design, observed),
    ]


def _terminating(observed: Observed) -> list[str]:
    if observed.namespace is None or not is_deleting(observed.namespace):
        return []
    return [f"Namespace {name_of(observed.namespace)} is being deleted: run again when it is gone."]


def _strangers(design: Design, observed: Observed) -> list[str]:
    """Objects of the names that we want without our mark."""
    live = [(manifest, observed.find(manifest)) for manifest in wanted_objects(design, observed.namespace)]
    return [
        f"{manifest['kind']} {target_of(manifest)} exists and is not ours (it lacks the label {MANAGED_BY_LABEL}={FIELD_MANAGER}): "
        "choose another namespace or configuration name, or remove it."
        for manifest, obj in live
        if obj is not None and not manifests.is_ours(labels_of(obj))
    ]


def _elsewhere(design: Design, observed: Observed) -> list[str]:
    return [
        f"Our device plugin is already installed in namespace {namespace}: set namespace to it, or remove that one first with state: absent."
        for namespace in ours_elsewhere(design, observed)
    ]


def _managers(design: Design, observed: Observed, *, replace: bool) -> list[str]:
    """Another tool that applies our objects: both would take the fields from each other at every run.

    An entry of operation Apply is a tool's; what somebody has edited by hand is Update, and is put right. GitOps tools are named apart.
    """
    found: dict[str, list[str]] = {}
    for manifest in () if replace else wanted_objects(design, observed.namespace):
        obj = observed.find(manifest)
        if obj is None or not manifests.is_ours(labels_of(obj)) or gitops_tool(obj):
            continue
        for entry in obj["metadata"].get("managedFields") or ():
            manager = entry.get("manager", "")
            if entry.get("operation") == "Apply" and manager != FIELD_MANAGER and not entry.get("subresource"):
                found.setdefault(manager, []).append(f"{manifest['kind']} {target_of(manifest)}")
    return [
        f"{', '.join(names)}: applied by the field manager {manager} too. Let one of the two keep them: stop {manager}, or this module, "
        "or set replace: true to take the fields over."
        for manager, names in found.items()
    ]


def overlapping(design: Design, observed: Observed) -> list[Object]:
    """Plugins that somebody else installed and that run, or would run, on nodes that our configurations select."""
    labels = [node.labels for node in observed.nodes if design.parts_of(node)]
    labels += [_typical(part) for part in design.parts]
    found = takeover.foreign_plugins(observed.daemon_sets)
    return [obj for obj in found if not is_deleting(obj) and any(takeover.runs_on(obj, one) for one in labels)]


def held_parts(design: Design, observed: Observed, theirs: t.Iterable[Object], ours: t.Iterable[Object]) -> frozenset[str]:
    """The configurations whose plugin has to wait for one of these: they share nodes, or have begun to wait for it."""
    found = {configuration_of(obj) for obj in ours if takeover.held_by(obj)} & {part.name for part in design.parts}
    for obj in (one for one in theirs if name_of(one)):
        found |= {part.name for part in design.parts if takeover.runs_on(obj, _typical(part))}
        found |= {part.name for node in observed.nodes if takeover.runs_on(obj, node.labels) for part in design.parts_of(node)}
    return frozenset(found)


def _typical(part: Part) -> dict[str, str]:
    """The labels that a node of the configuration surely has: an autoscaler may buy one at any time."""
    term = part.configuration.terms[0]["matchExpressions"]
    return {GPU_PRESENT_LABEL: "true"} | {rule["key"]: rule["values"][0] for rule in term if rule["operator"] == "In"}


def _foreign_plugins(design: Design, observed: Observed, catalog: Catalog, *, replace: bool) -> list[str]:
    found = []
    for obj in overlapping(design, observed):
        by = takeover.installer(obj)
        what = f"DaemonSet {target_of(obj)} runs a device plugin that somebody else installed{f' ({by})' if by else ''}"
        found += [f"{what}: {reason}" for reason in _obstacles(design, observed, obj, catalog, replace=replace)]
    return found


def _obstacles(design: Design, observed: Observed, obj: Object, catalog: Catalog, *, replace: bool) -> list[str]:
    """Why one of these plugins cannot be taken over now."""
    owner, tool = controller_of(obj), gitops_tool(obj)
    if owner is not None:
        how = _OPERATOR_CHOICES if owner.get("kind") == "ClusterPolicy" else f"{owner.get('kind')} {owner.get('name')} would make it again."
        return [f"{how} Choose {_SELECTOR}, or stop."]
    if tool:
        return [f"{tool} would put it back: remove it where {tool} takes it from, or choose {_SELECTOR}."]
    if not replace:
        return [
            "two plugins on one node take the kubelet's socket from each other. Set replace: true to take over node by node, with no pod "
            f"on a GPU restarted, choose {_SELECTOR}, or stop and remove it yourself."
        ]
    return _unsafe(design, observed, obj, catalog)


_OPERATOR_CHOICES = (
    "the GPU Operator would make it again. Switch it off there (Helm value devicePlugin.enabled: false, or the node label "
    "nvidia.com/gpu.deploy.device-plugin=false), or leave sharing to the operator (sharing.backend: gpu_operator)."
)


def _unsafe(design: Design, observed: Observed, obj: Object, catalog: Catalog) -> list[str]:
    """What a takeover without restarting a pod cannot do."""
    nodes = [node for node in observed.nodes if takeover.runs_on(obj, node.labels)]
    has_gpus = [node for node in nodes if node.has_gpus(catalog)]
    found = []
    if lost := [node.name for node in has_gpus if not design.parts_of(node)]:
        found.append(f"it also serves {some(lost)}, which no configuration selects and which would lose their GPUs: add one for them.")
    if names := sorted({part.name for node in nodes for part in design.parts_of(node) if part.configuration.mps}):
        found.append(
            f"MPS (configuration {', '.join(names)}) cannot start under running pods: take over with strategy none or time_slicing first, "
            "then change it with drain: true."
        )
    daemons = [one for one in takeover.companions(obj, observed.daemon_sets) if takeover.program_of(one) == manifests.MPS_DAEMON]
    if running := [target_of(one) for one in daemons if (one.get("status") or {}).get("desiredNumberScheduled")]:
        found.append(f"its MPS control daemon ({', '.join(running)}) serves running pods: drain these nodes and remove it yourself.")
    for node in has_gpus:
        part = design.part_of(node)
        if part and not part.configuration.mps and (more := takeover.shrinks(node, part.shares["resources"], node.gpus(catalog))):
            seen = ", ".join(f"{name} {count}" for name, count in more.items())
            found.append(
                f"node {node.name} advertises {seen}, more than configuration {part.name} would: take over with the sharing that it has, "
                "then change it."
            )
    return found


def _operator(design: Design, observed: Observed) -> list[str]:
    """A ClusterPolicy that will run its own plugin on our nodes, even where it has not come to it yet."""
    running = {
        target_of(obj)
        for obj in takeover.foreign_plugins(observed.daemon_sets)
        if (controller_of(obj) or {}).get("kind") == "ClusterPolicy"
    }
    if running:  # it is named by its DaemonSet
        return []
    active = [obj for obj in observed.cluster_policies if ((obj.get("spec") or {}).get("devicePlugin") or {}).get("enabled", True)]
    nodes = [
        node.name
        for node in observed.nodes
        if design.parts_of(node) and not any(node.labels.get(label) == "false" for label in _OPERATOR_OFF)
    ]
    return [
        f"ClusterPolicy {name_of(obj)}: the GPU Operator will run its device plugin on {some(nodes)}: {_OPERATOR_CHOICES}"
        for obj in active
        if nodes
    ]


def _shared_nodes(design: Design, observed: Observed) -> list[str]:
    """Nodes that two configurations select, leftovers that stay included."""
    needed = still_needed(design, observed)
    stay = [
        (configuration_of(obj), terms_of(obj))
        for obj in leftover_plugins(design, observed)
        if not design.plugin.purge or configuration_of(obj) in needed or gitops_tool(obj)
    ]
    found: dict[tuple[str, ...], list[str]] = {}
    for node in observed.nodes:
        names = (*(part.name for part in design.parts_of(node)), *_selecting(stay, node))
        if len(names) > 1:
            found.setdefault(names, []).append(node.name)
    listed = {part.name for part in design.parts}
    return [_shared(names, nodes, purgeable=not (design.plugin.purge or listed >= set(names))) for names, nodes in found.items()]


def _selecting(stay: t.Iterable[tuple[str, t.Sequence[Term]]], node: Node) -> list[str]:
    return [name for name, terms in stay if selects(terms, node.labels)]


def _shared(names: tuple[str, ...], nodes: list[str], *, purgeable: bool) -> str:
    remedy = "set purge_configurations: true, or list them all" if purgeable else "change their node_selector or the nodes' labels"
    return f"Configurations {' and '.join(names)} select the same node ({some(nodes)}): {remedy}; a node runs one device plugin."


def _other_plugins(design: Design, observed: Observed) -> list[str]:
    """Nodes whose GPUs somebody else hands out. Sources: bottlerocket#4673; EKS User Guide, EKS Auto Mode; dra-driver-nvidia-gpu."""
    other = f"choose another node_selector, or, where it has none, give these nodes a label {DEVICE_PLUGIN_CONFIG_LABEL} that names no configuration"
    kinds: tuple[tuple[str, t.Callable[[Node], bool], str], ...] = (
        (
            "Bottlerocket nodes",
            lambda node: node.bottlerocket,
            f"which contain a device plugin: {other}, and share by sharing.backend: bottlerocket.",
        ),
        (
            "EKS Auto Mode nodes",
            lambda node: node.auto_mode,
            f"which have a device plugin that nobody sees or changes; GPUs are not shared there: {other}.",
        ),
        (
            "nodes of NVIDIA's DRA driver",
            lambda node: node.name in observed.dra_nodes,
            f"which hand out GPUs by ResourceSlices of driver gpu.nvidia.com; a device plugin would give them away twice: {other}, "
            "or switch the driver's resources.gpus off.",
        ),
    )
    found = []
    for what, is_one, why in kinds:
        by_part: dict[str, list[str]] = {}
        for node in observed.nodes:
            for part in design.parts_of(node) if is_one(node) else ():
                by_part.setdefault(part.name, []).append(node.name)
        found += [f"Configuration {name} selects {what} ({some(names)}), {why}" for name, names in by_part.items()]
    return found


def _mps_clients(design: Design, observed: Observed) -> list[str]:
    """More replicas than NVIDIA's MPS control daemon takes on the node's GPU: it would end at once."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for node in observed.nodes:
        for part in design.parts_of(node):
            gpu = gpu_of(node.instance_type) if part.configuration.mps and node.instance_type else None
            if gpu is not None and part.configuration.sharing.replicas > mps_clients(gpu):
                found.setdefault((part.name, gpu.product, mps_clients(gpu)), []).append(node.name)
    return [
        f"Configuration {name}: MPS takes at most {most} replicas on {product} (compute capability below 7.5), the GPU of {some(nodes)}: "
        f"set sharing.replicas to {most} or less, or choose another node_selector."
        for (name, product, most), nodes in found.items()
    ]


def pod_limits(design: Design, observed: Observed, catalog: Catalog) -> list[str]:
    """Warnings: more shares than a node can run pods, of which some shares then stay empty. Its own pods need places too."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for node in observed.nodes:
        part, gpus = design.part_of(node), node.gpus(catalog)
        if part is None or gpus is None or node.pods is None or part.configuration.sharing.strategy == "none":
            continue
        shares = sum(part.shares["resources"].values()) * gpus
        if shares > node.pods:
            found.setdefault((part.name, shares, node.pods), []).append(node.name)
    return [
        f"Configuration {name}: {shares} shares, but {some(nodes)} can run {pods} pods (its own included): raise maxPods or share less."
        for (name, shares, pods), nodes in found.items()
    ]


def drivers(design: Design, observed: Observed) -> list[str]:
    """Warnings: NVIDIA's DRA driver is installed and hands out no GPU of these nodes yet."""
    if not observed.dra_driver or any(node.name in observed.dra_nodes for node in observed.nodes if design.parts_of(node)):
        return []
    return [
        "DeviceClass gpu.nvidia.com: NVIDIA's DRA driver is installed. It and the device plugin cannot hand out the GPUs of one node; "
        "keep its resources.gpus off these nodes."
    ]
