# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a cluster has of device plugins, ours and others', beside what is wanted. Pure."""

from __future__ import annotations

import functools
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    CONFIG_MAP,
    DAEMON_SET,
    ROLE,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Kind,
    Object,
    is_deleting,
    labels_of,
    name_of,
    namespace_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import Term, required_terms, selects
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design, component_of

#: (kind, name): the objects of the plugin in its namespace.
Key = tuple[str, str]

#: The kinds of our objects, in the order in which they are removed.
KINDS = (DAEMON_SET, CONFIG_MAP, ROLE_BINDING, ROLE, SERVICE_ACCOUNT)
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Observed:
    """``daemon_sets`` are those of the whole cluster, ``others`` the other objects of the plugin's namespace by their kind, ours or not.

    ``pods`` are ours, ``holders`` pods with GPUs by node, as far as a node may have to be drained, ``foreign_pods`` those of a plugin that
    ours takes over from, ``dry_runs`` by kind and name. ``dra_nodes`` hand out GPUs by ResourceSlices. ``own_namespaces`` carry our mark;
    ``foreign`` says what else is in them, by namespace.
    """

    namespace: Object | None = None
    daemon_sets: tuple[Object, ...] = ()
    others: t.Mapping[Kind, tuple[Object, ...]] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    pods: tuple[Object, ...] = ()
    holders: t.Mapping[str, t.Sequence[Object]] = field(default_factory=dict)
    foreign_pods: tuple[Object, ...] = ()
    dry_runs: t.Mapping[Key, Object] = field(default_factory=dict)
    cluster_policies: tuple[Object, ...] = ()
    dra_driver: bool = False
    dra_nodes: frozenset[str] = frozenset()
    own_namespaces: tuple[Object, ...] = ()
    foreign: t.Mapping[str, t.Sequence[str]] = field(default_factory=dict)

    def find(self, manifest: Object) -> Object | None:
        """The live object of a manifest."""
        if manifest["kind"] == "Namespace":
            return self.namespace
        return self._index.get((str(manifest["kind"]), namespace_of(manifest), name_of(manifest)))

    @functools.cached_property
    def _index(self) -> dict[tuple[str, str | None, str], Object]:
        kinds = {DAEMON_SET: self.daemon_sets, **self.others}
        return {(kind.kind, namespace_of(obj), name_of(obj)): obj for kind, objects in kinds.items() for obj in objects}

    def ours(self, *, deleting: bool = False) -> list[Object]:
        """Our objects, with their apiVersion and kind, which items of lists lack; those that are going away only when asked for."""
        kinds = {DAEMON_SET: self.daemon_sets, **self.others}
        return [
            {**obj, "apiVersion": kind.api_version, "kind": kind.kind}
            for kind in KINDS
            for obj in kinds.get(kind, ())
            if manifests.is_ours(labels_of(obj)) and (deleting or not is_deleting(obj))
        ]

    def our_daemon_sets(self) -> list[Object]:
        """Our DaemonSets, without those that are going away."""
        return [obj for obj in self.ours() if obj["kind"] == DAEMON_SET.kind]


def key_of(manifest: Object) -> Key:
    return str(manifest["kind"]), name_of(manifest)


def wanted_objects(design: Design, namespace: Object | None) -> list[Object]:
    """The manifests in the order in which they are applied. A namespace that is not ours is used as it is."""
    objects: list[Object] = []
    if namespace is None or manifests.is_ours(labels_of(namespace)):
        objects.append(manifests.namespace(design.plugin.namespace))
    return [*objects, *design.common, *(obj for part in design.parts for obj in part.objects)]


def configuration_of(obj: Object) -> str:
    """The configuration that an object of ours belongs to; empty for what all share."""
    return labels_of(obj).get(manifests.INSTANCE_LABEL, "")


def terms_of(daemon_set: Object) -> list[Term]:
    """The nodes that a DaemonSet selects."""
    return required_terms(daemon_set["spec"]["template"]["spec"])


def unlisted(design: Design, observed: Observed) -> list[Object]:
    """Our objects of configurations that are not wanted."""
    names = {part.name for part in design.parts}
    own = [obj for obj in observed.ours() if namespace_of(obj) == design.plugin.namespace]
    return [obj for obj in own if configuration_of(obj) and configuration_of(obj) not in names]


def obsolete(design: Design, observed: Observed) -> list[Object]:
    """Our objects that the listed configurations do not need any more: a control daemon without MPS, feature discovery that is off."""
    wanted = {key_of(obj) for obj in wanted_objects(design, None)}
    names = {"", *(part.name for part in design.parts)}
    own = [obj for obj in observed.ours() if namespace_of(obj) == design.plugin.namespace]
    return [obj for obj in own if configuration_of(obj) in names and key_of(obj) not in wanted]


def leftover_plugins(design: Design, observed: Observed) -> list[Object]:
    """The plugin's DaemonSets of configurations that are not wanted."""
    return [obj for obj in unlisted(design, observed) if component_of(obj) == manifests.DEVICE_PLUGIN and obj["kind"] == DAEMON_SET.kind]


def still_needed(design: Design, observed: Observed) -> dict[str, list[str]]:
    """Configurations that are not wanted -> the nodes that would be left without a device plugin: no wanted configuration selects them."""
    leftovers = leftover_plugins(design, observed)
    lost = [node for node in observed.nodes if leftovers and not node.bottlerocket and not design.parts_of(node)]
    found = {configuration_of(obj): [node.name for node in lost if selects(terms_of(obj), node.labels)] for obj in leftovers}
    return {name: nodes for name, nodes in found.items() if nodes}


def ours_elsewhere(design: Design, observed: Observed) -> list[str]:
    """Other namespaces in which our device plugin is installed."""
    return sorted({str(namespace_of(obj)) for obj in observed.our_daemon_sets()} - {design.plugin.namespace})


def some(nodes: t.Iterable[str]) -> str:
    """The first of these names, and how many more there are."""
    names = sorted(nodes)
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
