# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What is wanted of NVIDIA's device plugin: configurations, each for the nodes that it selects. Pure."""

from __future__ import annotations

import itertools
import json
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin_flags import Flags, clean_flags, flags_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    GPU_RESOURCE,
    NODEPOOL_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import Term, label_terms
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import SHARING_OPTIONS, Sharing, sharing_faults

DEFAULT = "default"
DEFAULT_NAMESPACE = "gpuops-nvidia"
DEFAULT_TAG = "v0.19.3"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME_LIMIT = 40  # the DaemonSet's name, of which it is a part, becomes a label of its pods
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OURS = "the collection's options"
_KUBERNETES = "Kubernetes, names and label values (RFC 1123)"

TOLERATION_OPTIONS: dict[str, dict[str, t.Any]] = {
    "key": {"type": "str", "no_log": False},
    "operator": {"type": "str", "choices": ["Exists", "Equal"], "default": "Equal"},
    "value": {"type": "str"},
    "effect": {"type": "str", "choices": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
}
IMAGE_OPTIONS: dict[str, dict[str, t.Any]] = {
    "registry": {"type": "str", "default": "nvcr.io"},
    "repository": {"type": "str", "default": "nvidia/k8s-device-plugin"},
    "tag": {"type": "str", "default": DEFAULT_TAG},
    "digest": {"type": "str"},
    "pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
}
CONFIGURATION_OPTIONS: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "node_selector": {"type": "dict"},
    "sharing": {"type": "dict", "options": SHARING_OPTIONS},
    "flags": {"type": "dict"},
}
DEVICE_PLUGIN_OPTIONS: dict[str, dict[str, t.Any]] = {
    "cluster_name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "configurations": {"type": "list", "elements": "dict", "options": CONFIGURATION_OPTIONS},
    "purge_configurations": {"type": "bool", "default": False},
    "image": {"type": "dict", "options": IMAGE_OPTIONS, "apply_defaults": True},
    "namespace": {"type": "str", "default": DEFAULT_NAMESPACE},
    "tolerations": {"type": "list", "elements": "dict", "options": TOLERATION_OPTIONS, "default": []},
}


@dataclass(frozen=True, kw_only=True)
class Image:
    registry: str = "nvcr.io"
    repository: str = "nvidia/k8s-device-plugin"
    tag: str = DEFAULT_TAG
    digest: str | None = None
    pull_secrets: tuple[str, ...] = ()

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Image:
        return cls(
            registry=params["registry"],
            repository=params["repository"],
            tag=params["tag"],
            digest=params["digest"] or None,
            pull_secrets=tuple(params["pull_secrets"]),
        )

    @property
    def reference(self) -> str:
        """By digest where there is one, with the tag before it for the reader."""
        name = f"{self.registry}/{self.repository}" if self.registry else self.repository
        return f"{name}:{self.tag}@{self.digest}" if self.digest else f"{name}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One configuration file of the plugin and the nodes that run the plugin with it. ``node_selector`` None: those with its label."""

    name: str
    sharing: Sharing = field(default_factory=Sharing)
    flags: Flags = field(default_factory=dict)
    node_selector: t.Mapping[str, str] | None = None

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Configuration:
        selector = params["node_selector"]
        return cls(
            name=params["name"],
            sharing=Sharing.from_params(params["sharing"]),
            flags=clean_flags(params["flags"] or {}),
            node_selector=None if selector is None else {key: str(value) for key, value in selector.items()},
        )

    @property
    def terms(self) -> list[Term]:
        """The node affinity. ``default`` also selects GPU nodes without the label: an autoscaler may buy nodes that nobody labelled.

        Not those of our pools: without the label they run Bottlerocket, which contains a device plugin.
        """
        if self.node_selector is not None:
            return label_terms(self.node_selector)
        if self.name != DEFAULT:
            return label_terms({DEVICE_PLUGIN_CONFIG_LABEL: self.name})
        present = {"key": GPU_PRESENT_LABEL, "operator": "In", "values": ["true"]}
        named = {"key": DEVICE_PLUGIN_CONFIG_LABEL, "operator": "In", "values": [DEFAULT]}
        unnamed = {"key": DEVICE_PLUGIN_CONFIG_LABEL, "operator": "DoesNotExist"}
        foreign = {"key": NODEPOOL_LABEL, "operator": "DoesNotExist"}
        return [{"matchExpressions": [present, named]}, {"matchExpressions": [present, unnamed, foreign]}]

    @property
    def file(self) -> str:
        """The plugin's configuration file (``version: v1``). Source: NVIDIA k8s-device-plugin, api/config/v1."""
        content: dict[str, t.Any] = {"version": "v1"}
        if self.flags:
            content["flags"] = self.flags
        if self.sharing.strategy == "time_slicing":
            content["sharing"] = {
                "timeSlicing": {
                    "renameByDefault": self.sharing.rename,
                    "failRequestsGreaterThanOne": self.sharing.fail_requests_greater_than_one,
                    "resources": [{"name": GPU_RESOURCE, "replicas": self.sharing.replicas}],
                }
            }
        return "\n".join(_yaml(content)) + "\n"


@dataclass(frozen=True, kw_only=True)
class DevicePlugin:
    """All of it: what a cluster should have."""

    namespace: str
    image: Image
    configurations: tuple[Configuration, ...]
    tolerations: tuple[t.Mapping[str, str], ...] = ()
    purge: bool = False

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> DevicePlugin:
        return cls(
            namespace=params["namespace"],
            image=Image.from_params(params["image"]),
            configurations=tuple(Configuration.from_params(item) for item in params["configurations"] or ()),
            tolerations=tuple({key: value for key, value in item.items() if value is not None} for item in params["tolerations"]),
            purge=params["purge_configurations"],
        )


def device_plugin_faults(params: t.Mapping[str, t.Any]) -> list[Fault]:
    """What is wrong with the module's options beyond their types; values of wrong types are left to those who look at types."""
    faults = [] if _is_name(params.get("namespace"), 63) else [_name_fault("namespace", params.get("namespace"), 63)]
    configurations = params.get("configurations")
    listed = configurations if isinstance(configurations, (list, tuple)) else ()
    items = [(f"configurations[{index}]", item) for index, item in enumerate(listed) if isinstance(item, t.Mapping)]
    for path, item in items:
        faults += _configuration_faults(item, path)
    faults += _overlaps(items)
    image = params.get("image")
    digest = image.get("digest") if isinstance(image, t.Mapping) else None
    if digest and not _DIGEST.fullmatch(str(digest)):
        allowed = "sha256: and 64 hexadecimal digits"
        faults.append(Fault(path="image.digest", value=digest, allowed=allowed, source="OCI image specification, digests"))
    return faults


def _configuration_faults(item: t.Mapping[str, t.Any], path: str) -> list[Fault]:
    faults = [] if _is_name(item.get("name"), _NAME_LIMIT) else [_name_fault(f"{path}.name", item.get("name"), _NAME_LIMIT)]
    sharing = item.get("sharing")
    faults += sharing_faults(sharing, f"{path}.sharing")
    backend = sharing.get("backend") if isinstance(sharing, t.Mapping) else None
    if backend in ("bottlerocket", "gpu_operator"):
        allowed = "auto or device_plugin: this module is the device plugin"
        faults.append(Fault(path=f"{path}.sharing.backend", value=backend, allowed=allowed, source=_OURS))
    if item.get("node_selector") == {}:
        allowed = "at least one label, or leave it out for the node label nvidia.com/device-plugin.config"
        faults.append(Fault(path=f"{path}.node_selector", value={}, allowed=allowed, source=_OURS))
    return faults + flags_faults(item.get("flags"), f"{path}.flags")


def _overlaps(items: t.Sequence[tuple[str, t.Mapping[str, t.Any]]]) -> list[Fault]:
    """Configurations of one name, and selectors of which one includes the other: they would select one node."""
    faults = []
    for (_first, first), (path, second) in itertools.combinations(items, 2):
        if first.get("name") == second.get("name"):
            allowed = "a name that no other configuration has"
            faults.append(Fault(path=f"{path}.name", value=second.get("name"), allowed=allowed, source=_OURS))
        elif (one := _labels(first)) and (other := _labels(second)) and (one <= other or other <= one):
            allowed = f"labels that select no node of configuration {first.get('name')}: a node runs one device plugin"
            faults.append(Fault(path=f"{path}.node_selector", value=second["node_selector"], allowed=allowed, source=_OURS))
    return faults


def _labels(item: t.Mapping[str, t.Any]) -> frozenset[tuple[str, str]]:
    selector = item.get("node_selector")
    return frozenset((str(key), str(value)) for key, value in selector.items()) if isinstance(selector, t.Mapping) else frozenset()


def _is_name(value: t.Any, limit: int) -> bool:
    """True also where there is no string: what is missing or of another type is found by its type."""
    return not isinstance(value, str) or (len(value) <= limit and bool(_NAME.fullmatch(value)))


def _name_fault(path: str, value: t.Any, limit: int) -> Fault:
    allowed = f"at most {limit} lower case letters, digits and dashes, a letter or digit first and last"
    return Fault(path=path, value=value, allowed=allowed, source=_KUBERNETES)


def _yaml(value: t.Mapping[str, t.Any] | t.Sequence[t.Any], indent: str = "") -> list[str]:
    """Block style with scalars as JSON, which YAML reads too: the same content always gives the same text, and no YAML library is needed."""
    entries = [(f"{key}:", item) for key, item in value.items()] if isinstance(value, t.Mapping) else [("-", item) for item in value]
    lines = []
    for head, item in entries:
        if head == "-" and isinstance(item, t.Mapping):
            first, *rest = _yaml(item, f"{indent}  ")
            lines += [f"{indent}- {first.strip()}", *rest]
        elif isinstance(item, (t.Mapping, list, tuple)) and item:
            lines += [f"{indent}{head}", *_yaml(item, f"{indent}  ")]
        else:
            lines.append(f"{indent}{head} {_scalar(item)}")
    return lines


def _scalar(value: t.Any) -> str:
    """JSON, but for characters that YAML would not take as they are or as JSON's pairs of surrogates."""
    return re.sub(r"[^\x20-\x7e]", lambda found: f"\\U{ord(found[0]):08x}", json.dumps(value, ensure_ascii=False))
