# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""How a pool shares its GPUs, and what follows from it by name and number. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import Object, annotations_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import short_name

Strategy = t.Literal["none", "time_slicing", "mps"]

SHARING_OPTIONS: dict[str, dict[str, t.Any]] = {
    "strategy": {"type": "str", "choices": ["none", "time_slicing", "mps"], "default": "none"},
    "replicas": {"type": "int"},
    "backend": {"type": "str", "choices": ["auto", "device_plugin", "bottlerocket", "gpu_operator"], "default": "auto"},
    "rename": {"type": "bool", "default": False},
    "fail_requests_greater_than_one": {"type": "bool", "default": True},
}
RESOURCES_ANNOTATION = "gpuops.eks/resources"  # of the device plugin's DaemonSets
SHARING_ANNOTATION = "gpuops.eks/sharing"  # of the pods of a configuration
CONFIGURATION_NAME_LIMIT = 40  # with a program's name before it, it names DaemonSets
MPS_REPLICAS = 48
TIME_SLICES = 60_000  # of all GPUs of a node together

_NVIDIA = "nvidia.com"
_SHARED = ".shared"
_REPLICAS_SOURCE = "NVIDIA k8s-device-plugin, api/config/v1/replicas.go: number of replicas must be >= 2"
_MPS_SOURCE = "NVIDIA k8s-device-plugin, cmd/mps-control-daemon/mps/device.go: maximum allowed replicas"
MESSAGE_SOURCE = "gRPC: a message has at most 4 MiB; measured with k8s-device-plugin v0.19.3, about 60 bytes for each share"


def configuration_name(pool_name: str) -> str:
    """The device plugin configuration of a pool: its label value and part of its objects' names.

    One for each pool, whatever it shares: then a pool that shares in another way has the same labels, and no node is replaced for it.
    """
    return short_name(pool_name, limit=CONFIGURATION_NAME_LIMIT)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """The ``sharing`` of a pool or configuration. ``replicas`` is shares per GPU; 1 where GPUs are not shared."""

    strategy: Strategy = "none"
    replicas: int = 1
    rename: bool = False
    fail_requests_greater_than_one: bool = True

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any] | None) -> Sharing:
        """From validated options; None and strategy none mean whole GPUs."""
        if not params or (params.get("strategy") or "none") == "none":
            return cls()
        greater = params.get("fail_requests_greater_than_one")
        return cls(
            strategy=params["strategy"],
            replicas=int(params["replicas"]),
            rename=bool(params.get("rename")),
            fail_requests_greater_than_one=True if greater is None else bool(greater),
        )

    @property
    def resource(self) -> str:
        """The extended resource that a node advertises shares as."""
        return f"{GPU_RESOURCE}{_SHARED}" if self.rename else GPU_RESOURCE

    def advertised(self, gpus: int) -> int:
        """How many of ``resource`` a node with this many physical GPUs advertises."""
        return gpus * self.replicas


def resource_of(profile: str, *, suffixes: bool = False) -> str:
    """The extended resource of a MIG profile's instances under strategy mixed; see Mig for ``suffixes``."""
    name = profile if suffixes else f"{profile.partition('gb')[0]}gb"
    return f"{_NVIDIA}/mig-{name.replace('+', '.')}"


@dataclass(frozen=True, kw_only=True)
class Mig:
    """The ``mig`` of a pool: how each GPU is cut. ``layout`` is profile -> instances per GPU (1g.5gb: 7), the same on every GPU.

    With strategy single all instances are advertised as nvidia.com/gpu, with mixed each profile as a resource of its own. ``suffixes``: so are
    those with a suffix (1g.5gb+me). The device plugin has it so since v0.20.0; before, it counts them as the profile without
    (k8s-device-plugin#1462, #1807; seen with v0.19.3).
    """

    strategy: str = "mixed"
    layout: t.Mapping[str, int] = field(default_factory=dict)
    suffixes: bool = False

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any], *, suffixes: bool = False) -> Mig:
        layout = {name: int(count) for name, count in (params.get("layout") or {}).items()}
        return cls(strategy=params.get("strategy") or "mixed", layout=layout, suffixes=suffixes)

    def devices(self) -> dict[str, int]:
        """Resource -> instances of each GPU."""
        found: dict[str, int] = {}
        for profile, count in self.layout.items():
            name = resource_of(profile, suffixes=self.suffixes) if self.strategy == "mixed" else GPU_RESOURCE
            found[name] = found.get(name, 0) + count
        return {name: count for name, count in found.items() if count}


@dataclass(frozen=True, kw_only=True)
class GpuResources:
    """What nodes advertise by ``sharing`` and ``mig``: the one place where autoscalers' view of a pool is computed."""

    sharing: Sharing = field(default_factory=Sharing)
    mig: Mig | None = None

    def advertised(self, gpus: int) -> dict[str, int]:
        """Extended resource -> how many a node with this many physical GPUs advertises.

        Where the resource has another name than nvidia.com/gpu, that one is there with 0: both autoscalers otherwise count the physical
        GPUs of the instance type as well (cluster-autoscaler's template node; Karpenter's instance type).
        """
        suffix = _SHARED if self.sharing.rename else ""
        counts = {f"{name}{suffix}": count * self.sharing.replicas for name, count in self.devices(gpus).items()}
        return counts if GPU_RESOURCE in counts else {GPU_RESOURCE: 0, **counts}

    def devices(self, gpus: int) -> dict[str, int]:
        """The same before the devices are shared: those that the device plugin finds, by the names that its configuration has for them."""
        if self.mig is None:
            return {GPU_RESOURCE: gpus}
        return {name: gpus * count for name, count in self.mig.devices().items()}

    def per_gpu(self) -> int | None:
        """How many nvidia.com/gpu one physical GPU is advertised as; None where nodes advertise other resources only."""
        count = self.advertised(1)[GPU_RESOURCE]
        return count or None

    @property
    def divided(self) -> bool:
        """Whether nodes advertise anything but their physical GPUs."""
        return self.advertised(1) != {GPU_RESOURCE: 1}


def read_resources(daemon_set: Object) -> dict[str, int] | None:
    """Resource -> how many of it each GPU of the nodes of one of our DaemonSets is advertised as; None where it does not say."""
    return read_note(daemon_set, RESOURCES_ANNOTATION)


def read_note(obj: Object, annotation: str) -> dict[str, t.Any] | None:
    """The JSON object in an annotation of ours, or None: it may not be there, or somebody may have written something else."""
    try:
        found = json.loads(annotations_of(obj).get(annotation, "null"))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def sharing_faults(params: t.Mapping[str, t.Any] | None, path: str) -> list[Fault]:
    """What is wrong with a ``sharing`` block beyond its types (form_faults finds those)."""
    if not isinstance(params, t.Mapping):
        return []
    strategy, replicas = params.get("strategy") or "none", params.get("replicas")
    where = f"{path}.replicas"
    if strategy == "none":
        rule = "unset with strategy none; set strategy to time_slicing or mps to share GPUs"
        return [] if replicas is None else [Fault(path=where, value=replicas, allowed=rule, source="the collection's options")]
    if replicas is None:
        return [Fault(path=where, value=None, allowed="an integer of at least 2, shares per GPU", source=_REPLICAS_SOURCE)]
    number = _integer(replicas)
    if number is not None and number < 2:
        allowed = "an integer of at least 2; leave sharing out to give whole GPUs"
        return [Fault(path=where, value=replicas, allowed=allowed, source=_REPLICAS_SOURCE)]
    most, source = (MPS_REPLICAS, _MPS_SOURCE) if strategy == "mps" else (TIME_SLICES, MESSAGE_SOURCE)
    if number is not None and number > most:
        return [Fault(path=where, value=replicas, allowed=f"an integer from 2 to {most} with {strategy}", source=source)]
    return []


def _integer(value: t.Any) -> int | None:
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        return None
