# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The device plugin that is wanted, with its manifests, made once for a run. Pure."""

from __future__ import annotations

import functools
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import DAEMON_SET, Object, annotations_of, labels_of, name_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import Term, selects
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests


@dataclass(frozen=True, kw_only=True)
class Part:
    """A configuration and its objects in the order of applying; ``shares`` is what its nodes do, as its pods say by their annotation."""

    configuration: Configuration
    objects: tuple[Object, ...]
    shares: t.Mapping[str, t.Any]
    hashes: t.Mapping[str, str]

    @property
    def name(self) -> str:
        return self.configuration.name

    @property
    def names(self) -> frozenset[tuple[str, str]]:
        """(kind, name) of its objects."""
        return frozenset((str(obj["kind"]), name_of(obj)) for obj in self.objects)


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a cluster should have. ``common`` is what all configurations share."""

    plugin: DevicePlugin
    feature_discovery: bool
    common: tuple[Object, ...]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, plugin: DevicePlugin, *, feature_discovery: bool) -> Design:
        parts = tuple(_part(plugin, configuration, feature_discovery) for configuration in plugin.configurations)
        common = tuple(manifests.common_objects(plugin, feature_discovery=feature_discovery))
        return cls(plugin=plugin, feature_discovery=feature_discovery, common=common, parts=parts)

    def parts_of(self, node: Node) -> tuple[Part, ...]:
        """The configurations that select a node. Nodes that are alike in the labels that count are looked at once."""
        key = tuple(node.labels.get(label) for label in self._labels)
        if key not in self._assigned:
            self._assigned[key] = tuple(part for part in self.parts if selects(part.configuration.terms, node.labels))
        return self._assigned[key]

    def part_of(self, node: Node) -> Part | None:
        """The configuration of a node. Where several select it, the run is refused."""
        return next(iter(self.parts_of(node)), None)

    def waiting_objects(self, part: Part) -> list[Object]:
        """The objects of a configuration whose pods stay as they are until somebody deletes them."""
        if part.name not in self._waiting:
            self._waiting[part.name] = list(
                manifests.objects(self.plugin, part.configuration, feature_discovery=self.feature_discovery, on_delete=True)
            )
        return self._waiting[part.name]

    @functools.cached_property
    def _waiting(self) -> dict[str, list[Object]]:
        return {}

    @functools.cached_property
    def _assigned(self) -> dict[tuple[str | None, ...], tuple[Part, ...]]:
        return {}

    @functools.cached_property
    def _labels(self) -> tuple[str, ...]:
        return tuple(sorted({key for part in self.parts for key in label_keys(part.configuration.terms)}))


def label_keys(terms: t.Iterable[Term]) -> set[str]:
    """The node labels that terms look at."""
    return {rule["key"] for term in terms for rule in term.get("matchExpressions") or ()}


def component_of(obj: Object) -> str:
    """Which program a DaemonSet or pod of ours runs."""
    return labels_of(obj).get(manifests.COMPONENT_LABEL, "")


def hash_of(obj: Object) -> str | None:
    """Of the content that a pod of ours was made from."""
    return annotations_of(obj).get(manifests.HASH_ANNOTATION)


def _part(plugin: DevicePlugin, configuration: Configuration, feature_discovery: bool) -> Part:
    objects = tuple(manifests.objects(plugin, configuration, feature_discovery=feature_discovery))
    templates = {component_of(obj): obj["spec"]["template"] for obj in objects if obj["kind"] == DAEMON_SET.kind}
    return Part(
        configuration=configuration,
        objects=objects,
        shares=manifests.read_sharing(templates[manifests.DEVICE_PLUGIN]) or {},
        hashes={component: str(hash_of(template)) for component, template in templates.items()},
    )
