# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What is wanted of NVIDIA's device plugin: configurations, each for the nodes that it selects. Pure."""

from __future__ import annotations

import itertools
import re
import typing as t
from dataclasses import dataclass, field
from decimal import Decimal

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin_flags import (
    Flags,
    Version,
    at_least,
    clean_flags,
    flags_faults,
    says,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    NODEPOOL_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.mig import MIG_OPTIONS, mig_faults, sharing_of_mig_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.quantity import quantity
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import Term, label_terms
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import (
    CONFIGURATION_NAME_LIMIT,
    SHARING_OPTIONS,
    GpuResources,
    Mig,
    Sharing,
    sharing_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.yaml_text import yaml_text

DEFAULT = "default"
DEFAULT_NAMESPACE = "gpuops-nvidia"
DEFAULT_TAG = "v0.19.3"
DEFAULT_PRIORITY_CLASS = "system-node-critical"
DEFAULT_MPS_ROOT = "/run/nvidia/mps"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_LIMIT = CONFIGURATION_NAME_LIMIT
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+).*")
_DIRECTORY = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_MIG_SUFFIXES = (0, 20, 0)  # api/config/v1/resources.go of versions before it takes profiles with a suffix for those without
_MANY_PER_POD = (0, 20, 0)  # api/config/v1/config.go of versions before it sets failRequestsGreaterThanOne of MPS to true
_OURS = "the collection's options"
_KUBERNETES = "Kubernetes, names and label values (RFC 1123)"
_RESOURCES_SOURCE = "Kubernetes, Resource Management for Pods and Containers"
_RESOURCES = ("cpu", "memory", "ephemeral-storage")

_SHARING_KEYS = {"time_slicing": "timeSlicing", "mps": "mps"}

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
    "mig": {"type": "dict", "options": MIG_OPTIONS},
    "flags": {"type": "dict"},
}
RESOURCES_OPTIONS: dict[str, dict[str, t.Any]] = {"requests": {"type": "dict"}, "limits": {"type": "dict"}}
DEVICE_PLUGIN_OPTIONS: dict[str, dict[str, t.Any]] = {
    "cluster_name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "configurations": {"type": "list", "elements": "dict", "options": CONFIGURATION_OPTIONS},
    "purge_configurations": {"type": "bool", "default": False},
    "image": {"type": "dict", "options": IMAGE_OPTIONS, "apply_defaults": True},
    "namespace": {"type": "str", "default": DEFAULT_NAMESPACE},
    "tolerations": {"type": "list", "elements": "dict", "options": TOLERATION_OPTIONS, "default": []},
    "feature_discovery": {"type": "bool"},
    "priority_class": {"type": "str", "default": DEFAULT_PRIORITY_CLASS},
    "resources": {"type": "dict", "options": RESOURCES_OPTIONS},
    "mps_root": {"type": "str", "default": DEFAULT_MPS_ROOT},
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
    mig: Mig | None = None
    flags: Flags = field(default_factory=dict)
    node_selector: t.Mapping[str, str] | None = None

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any], version: Version | None = None) -> Configuration:
        """``version`` is the plugin's, None where it is not known."""
        selector, mig = params["node_selector"], params.get("mig")
        return cls(
            name=params["name"],
            sharing=Sharing.from_params(params["sharing"]),
            mig=None if mig is None else Mig.from_params(mig, suffixes=at_least(version, _MIG_SUFFIXES)),
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
    def resources(self) -> GpuResources:
        """What its nodes advertise."""
        return GpuResources(sharing=self.sharing, mig=self.mig)

    @property
    def mps(self) -> bool:
        return self.sharing.strategy == "mps"

    @property
    def file(self) -> str:
        """The plugin's configuration file (``version: v1``). Source: NVIDIA k8s-device-plugin, api/config/v1."""
        content: dict[str, t.Any] = {"version": "v1"}
        strategy = {} if self.mig is None else {"migStrategy": self.mig.strategy}
        if flags := {**strategy, **self.flags}:
            content["flags"] = flags
        if self.sharing.strategy != "none":
            resources = [{"name": name, "replicas": self.sharing.replicas} for name in self.resources.devices(1)]
            content["sharing"] = {
                _SHARING_KEYS[self.sharing.strategy]: {
                    "renameByDefault": self.sharing.rename,
                    "failRequestsGreaterThanOne": self.sharing.fail_requests_greater_than_one,
                    "resources": resources,
                }
            }
        return yaml_text(content)


@dataclass(frozen=True, kw_only=True)
class DevicePlugin:
    """All of it: what a cluster should have."""

    namespace: str
    image: Image
    configurations: tuple[Configuration, ...]
    tolerations: tuple[t.Mapping[str, str], ...] = ()
    purge: bool = False
    priority_class: str = DEFAULT_PRIORITY_CLASS
    resources: t.Mapping[str, t.Mapping[str, str]] = field(default_factory=dict)
    mps_root: str = DEFAULT_MPS_ROOT

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> DevicePlugin:
        return cls(
            namespace=params["namespace"],
            image=Image.from_params(params["image"]),
            configurations=tuple(Configuration.from_params(item, _version(params)) for item in params["configurations"] or ()),
            tolerations=tuple({key: value for key, value in item.items() if value is not None} for item in params["tolerations"]),
            purge=params["purge_configurations"],
            priority_class=params["priority_class"],
            resources={key: _texts(values) for key, values in (params.get("resources") or {}).items() if values},
            mps_root=params["mps_root"],
        )


def warnings(wanted: DevicePlugin) -> list[str]:
    """What is allowed, and has a consequence that surprises."""
    return [
        f"Configuration {one.name} renames what its nodes advertise to {_renamed(one)}: autoscalers buy no node for pods that ask for it, unless "
        "they are told that such nodes have it (Karpenter by a NodeOverlay, cluster-autoscaler by tags of the groups), as pools of gpuops.eks do; "
        "pods that ask for nvidia.com/gpu stay Pending."
        for one in wanted.configurations
        if one.sharing.rename
    ]


def _renamed(configuration: Configuration) -> str:
    return " and ".join(name for name, count in configuration.resources.advertised(1).items() if count)


def _texts(values: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Quantities as the API server returns them: as text."""
    return {name: str(value) for name, value in values.items()}


def device_plugin_faults(params: t.Mapping[str, t.Any]) -> list[Fault]:
    """What is wrong with the module's options beyond their types; values of wrong types are left to those who look at types."""
    faults = [] if _is_name(params.get("namespace"), 63) else [_name_fault("namespace", params.get("namespace"), 63)]
    configurations = params.get("configurations")
    listed = configurations if isinstance(configurations, (list, tuple)) else ()
    items = [(f"configurations[{index}]", item) for index, item in enumerate(listed) if isinstance(item, t.Mapping)]
    for path, item in items:
        faults += _configuration_faults(item, path, _version(params), params.get("feature_discovery"))
    faults += _overlaps(items)
    return faults + _image_faults(params.get("image")) + _pod_faults(params) + _resources_faults(params.get("resources"))


def _version(params: t.Mapping[str, t.Any]) -> Version | None:
    """The plugin's version by its tag; None where the tag says none."""
    image = params.get("image")
    tag = image.get("tag") if isinstance(image, t.Mapping) else None
    found = _VERSION.fullmatch(str(tag or DEFAULT_TAG))
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _image_faults(image: t.Any) -> list[Fault]:
    digest = image.get("digest") if isinstance(image, t.Mapping) else None
    if not digest or _DIGEST.fullmatch(str(digest)):
        return []
    allowed = "sha256: and 64 hexadecimal digits"
    return [Fault(path="image.digest", value=digest, allowed=allowed, source="OCI image specification, digests")]


def _pod_faults(params: t.Mapping[str, t.Any]) -> list[Fault]:
    faults, priority, root = [], params.get("priority_class"), params.get("mps_root")
    if isinstance(priority, str) and not (len(priority) <= 253 and _SUBDOMAIN.fullmatch(priority)):
        faults.append(Fault(path="priority_class", value=priority, allowed="the name of a PriorityClass", source=_KUBERNETES))
    if isinstance(root, str) and (not _DIRECTORY.fullmatch(root) or ".." in root.split("/")):
        allowed = "an absolute path of the host, such as /run/nvidia/mps"
        faults.append(Fault(path="mps_root", value=root, allowed=allowed, source="Kubernetes API, HostPathVolumeSource"))
    return faults


def _resources_faults(resources: t.Any) -> list[Fault]:
    """Requests and limits that the API server would refuse, or that would take GPUs from pods."""
    if not isinstance(resources, t.Mapping):
        return []
    faults: list[Fault] = []
    requested: dict[str, Decimal] = {}
    for kind in ("requests", "limits"):
        values = resources.get(kind)
        for name, value in (values if isinstance(values, t.Mapping) else {}).items():
            number, where = _quantity(value), f"resources.{kind}.{name}"
            if name not in _RESOURCES:
                allowed = f"one of {', '.join(_RESOURCES)}"
                faults.append(Fault(path=where, value=name, allowed=allowed, source=_RESOURCES_SOURCE))
            elif number is None:
                faults.append(Fault(path=where, value=value, allowed="a quantity such as 100m or 64Mi", source=_RESOURCES_SOURCE))
            elif requested.setdefault(name, number) > number:
                faults.append(Fault(path=where, value=value, allowed="at least what is requested", source=_RESOURCES_SOURCE))
    return faults


def _quantity(value: t.Any) -> Decimal | None:
    try:
        number = None if isinstance(value, bool) else quantity(value)
    except ValueError:
        return None
    return None if number is None or number < 0 else number


def _configuration_faults(item: t.Mapping[str, t.Any], path: str, version: Version | None, feature_discovery: bool | None) -> list[Fault]:
    faults = [] if _is_name(item.get("name"), _NAME_LIMIT) else [_name_fault(f"{path}.name", item.get("name"), _NAME_LIMIT)]
    sharing, mig = item.get("sharing"), item.get("mig")
    faults += sharing_faults(sharing, f"{path}.sharing") + mig_faults(mig, f"{path}.mig")
    faults += sharing_of_mig_faults(sharing, mig, f"{path}.sharing")
    if isinstance(sharing, t.Mapping):
        faults += _module_sharing_faults(sharing, f"{path}.sharing", version)
    if item.get("node_selector") == {}:
        allowed = "at least one label, or leave it out for the node label nvidia.com/device-plugin.config"
        faults.append(Fault(path=f"{path}.node_selector", value={}, allowed=allowed, source=_OURS))
    return faults + flags_faults(item.get("flags"), f"{path}.flags", version=version, feature_discovery=feature_discovery)


def _module_sharing_faults(sharing: t.Mapping[str, t.Any], path: str, version: Version | None) -> list[Fault]:
    """What this module, and the plugin's version, cannot do."""
    faults, backend = [], sharing.get("backend")
    if backend in ("bottlerocket", "gpu_operator"):
        allowed = "auto or device_plugin: this module is the device plugin"
        faults.append(Fault(path=f"{path}.backend", value=backend, allowed=allowed, source=_OURS))
    if (
        sharing.get("strategy") == "mps"
        and says(sharing.get("fail_requests_greater_than_one"), False)
        and not at_least(version, _MANY_PER_POD)
    ):
        allowed = "true with strategy mps; false needs image.tag v0.20.0 or newer, as the plugin before sets it to true by itself"
        source = "NVIDIA k8s-device-plugin, api/config/v1/config.go"
        faults.append(Fault(path=f"{path}.fail_requests_greater_than_one", value=False, allowed=allowed, source=source))
    return faults


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
