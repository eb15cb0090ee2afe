# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A device plugin that somebody else installed: what it is, and how ours takes its place without touching a pod that uses a GPU. Pure.

Two plugins on one node take the kubelet's socket from each other, so that one has to be gone before the other starts: our pods keep off
nodes with theirs by an anti-affinity, their DaemonSet is deleted and its pods stay, then pod after pod is deleted and ours starts there.
NVIDIA's chart gives its DaemonSets one selector: the others go before the plugin's, or they would adopt the pods that stay, and delete them.
Running pods keep their GPUs meanwhile: the kubelet, not the plugin, holds them. What is there at any moment says how far it has come.
"""

from __future__ import annotations

import copy
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    DAEMON_SET,
    Object,
    annotations_of,
    controller_of,
    labels_of,
    name_of,
    namespace_of,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import required_terms, selects
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests

_IMAGE = "k8s-device-plugin"
_HELPER = "config-manager"
_PROGRAMS = (_HELPER, "gpu-feature-discovery", "mps-control-daemon")
_RELEASE = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace")
_HOST = "kubernetes.io/hostname"


def foreign_plugins(daemon_sets: t.Iterable[Object]) -> list[Object]:
    """DaemonSets that run the device plugin and are not ours: by NVIDIA's chart, the GPU Operator, eksctl or a static manifest."""
    return [obj for obj in daemon_sets if not manifests.is_ours(labels_of(obj)) and program_of(obj) == manifests.PLUGIN]


def program_of(obj: Object) -> str:
    """Which of NVIDIA's programs a DaemonSet runs, by image or command of its containers; empty where none."""
    return _program_in(obj["spec"]["template"]["spec"])


def is_plugin_pod(pod: Object) -> bool:
    """Whether a pod runs the device plugin: pods of other programs may have the same labels, and an orphan has no owner to tell."""
    return _program_in(pod["spec"]) == manifests.PLUGIN


def _program_in(spec: t.Mapping[str, t.Any]) -> str:
    """The plugin before others; what only helps another program says least."""
    found = {_program(container) for container in spec.get("containers") or ()} - {""}
    return min(found, key=lambda program: (program != manifests.PLUGIN, program == _HELPER, program), default="")


def _program(container: t.Mapping[str, t.Any]) -> str:
    """The image also holds other programs, which are then named in the command or the container's name."""
    words = [container.get("name", ""), *(container.get("command") or ()), *(container.get("args") or ())]
    if other := next((program for program in _PROGRAMS for word in words if program in word), ""):
        return other
    repository = container.get("image", "").split("@")[0].rpartition("/")[2].split(":")[0]
    is_plugin = repository == _IMAGE or any(word.rpartition("/")[2] == manifests.PLUGIN for word in words[1:])
    return manifests.PLUGIN if is_plugin else ""


def runs_on(obj: Object, labels: t.Mapping[str, str]) -> bool:
    """Whether a DaemonSet selects nodes with these labels. Taints are not looked at: they change more easily than a plugin."""
    spec = obj["spec"]["template"]["spec"]
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    if not spec.get("nodeSelector") and not affinity.get("requiredDuringSchedulingIgnoredDuringExecution"):
        return True
    return selects(required_terms(spec), labels)


def installer(obj: Object) -> str:
    """By what a DaemonSet was installed, as far as it says."""
    labels, owner = labels_of(obj), controller_of(obj) or next(iter(obj["metadata"].get("ownerReferences") or ()), None)
    if owner is not None:
        return f"{owner.get('kind')} {owner.get('name')}"
    if chart := labels.get("helm.sh/chart"):
        return f"Helm chart {chart}"
    if name_of(obj) == "nvidia-device-plugin-daemonset":
        return "NVIDIA's static manifest, as eksctl applies it"
    return f"managed by {labels['app.kubernetes.io/managed-by']}" if labels.get("app.kubernetes.io/managed-by") else ""


def release_of(obj: Object) -> tuple[str, str] | None:
    """(name, namespace) of the Helm release that an object belongs to."""
    annotations = annotations_of(obj)
    name, namespace = (annotations.get(key, "") for key in _RELEASE)
    return (name, namespace) if name else None


def companions(plugin: Object, daemon_sets: t.Iterable[Object]) -> list[Object]:
    """The other DaemonSets of NVIDIA's programs of the same installation: of its Helm release, or with its selector."""
    release = release_of(plugin)
    same = [obj for obj in daemon_sets if (release is not None and release_of(obj) == release) or claims(obj, plugin)]
    return [obj for obj in same if program_of(obj) in _PROGRAMS]


def claims(obj: Object, plugin: Object) -> bool:
    """Whether a DaemonSet takes the plugin's pods for its own once they have no controller: then it deletes them where it does not run.

    Source: Kubernetes documentation, DaemonSet: a controller adopts by its selector.
    """
    return namespace_of(obj) == namespace_of(plugin) and obj["spec"]["selector"] == plugin["spec"]["selector"]


def pods_selector(obj: Object) -> str:
    """The label selector of a DaemonSet's pods, as the API takes it in a list."""
    selector = obj["spec"]["selector"]
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for rule in selector.get("matchExpressions") or ():
        values = f" ({','.join(rule['values'])})" if rule.get("values") else ""
        words = {"In": "{0} in{1}", "NotIn": "{0} notin{1}", "Exists": "{0}", "DoesNotExist": "!{0}"}
        parts.append(words[rule["operator"]].format(rule["key"], values))
    return ",".join(parts)


def kept_off(manifest: Object, theirs: t.Sequence[Object]) -> dict[str, t.Any]:
    """Our plugin's DaemonSet, whose pods wait until theirs are gone from the node."""
    held = copy.deepcopy(dict(manifest))
    terms = [{"labelSelector": obj["spec"]["selector"], "namespaces": [namespace_of(obj)], "topologyKey": _HOST} for obj in theirs]
    affinity = held["spec"]["template"]["spec"]["affinity"]
    affinity["podAntiAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": terms}
    return held


def held_by(live: Object) -> list[Object]:
    """What our live DaemonSet keeps off from, as far as a DaemonSet of theirs says: the trace of a takeover that has not come to its end."""
    spec = live["spec"]["template"]["spec"]
    anti = ((spec.get("affinity") or {}).get("podAntiAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return [
        {
            "apiVersion": DAEMON_SET.api_version,
            "kind": DAEMON_SET.kind,
            "metadata": {"name": "", "namespace": term["namespaces"][0]},
            "spec": {"selector": term["labelSelector"]},
        }
        for term in anti
        if term.get("namespaces") and term.get("topologyKey") == _HOST
    ]


def shrinks(node: Node, wanted: t.Mapping[str, int], gpus: int | None) -> dict[str, int]:
    """What a node advertises more of than it would under ours: pods may hold it."""
    return {
        name: seen
        for name, seen in node.allocatable.items()
        if seen and (name not in wanted or not wanted[name] or (gpus is not None and seen > wanted[name] * gpus))
    }


def farewell(obj: Object) -> str:
    """What is left of an installation, and how to remove it; empty where nothing is."""
    release = release_of(obj)
    if release is None:
        return ""
    return (
        f"DaemonSet {target_of(obj)} was part of the Helm release {release[0]}; "
        f"'helm uninstall {release[0]} -n {release[1] or namespace_of(obj)}' removes what is left of it, which is not touched here."
    )
