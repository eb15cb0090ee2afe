# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Nodes as far as their GPUs go, and how many GPUs an instance type has. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_PRESENT_LABEL, NODEPOOL_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import annotations_of, is_deleting, labels_of, name_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.quantity import counts

NVIDIA = "nvidia.com/"

_COUNT_LABELS = ("nvidia.com/gpu.count", "karpenter.k8s.aws/instance-gpu-count")
_POOL_LABELS = (NODEPOOL_LABEL, "karpenter.sh/nodepool", "eks.amazonaws.com/nodegroup")
_CAPACITY_TYPES = {
    "on-demand": "on_demand",
    "on_demand": "on_demand",
    "spot": "spot",
    "capacity_block": "capacity_block",
    "reserved": "reserved",
}
_FRACTIONAL_FAMILIES = ("g6f", "gr6f")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """The NVIDIA GPUs of an instance type: how many, and the model in EC2's words, lower case with dashes. 0 and None without any."""

    gpus: int = 0
    model: str | None = None

    @classmethod
    def from_api(cls, instance_type: t.Mapping[str, t.Any]) -> Hardware:
        """From ec2:DescribeInstanceTypes. Fractional GPUs (g6f, gr6f), of which EC2 counts 0, are one device to the plugin."""
        gpus = [gpu for gpu in (instance_type.get("GpuInfo") or {}).get("Gpus", ()) if gpu.get("Manufacturer", "").upper() == "NVIDIA"]
        if not gpus:
            return cls()
        total = sum(gpu.get("Count", 0) for gpu in gpus)
        if not total and instance_type["InstanceType"].split(".")[0] in _FRACTIONAL_FAMILIES:
            total = 1
        return cls(gpus=total, model=_slug(gpus[0].get("Name", "")) or None)


#: Instance type -> its GPUs, None when that could not be read.
Catalog = t.Mapping[str, t.Optional[Hardware]]


@dataclass(frozen=True, kw_only=True)
class Node:
    name: str
    labels: t.Mapping[str, str] = field(default_factory=dict)
    taints: tuple[t.Mapping[str, str], ...] = ()
    capacity: t.Mapping[str, int] = field(default_factory=dict)
    allocatable: t.Mapping[str, int] = field(default_factory=dict)
    ready: bool = True
    schedulable: bool = True
    deleting: bool = False
    os_image: str = ""
    pods: int | None = None
    annotations: t.Mapping[str, str] = field(default_factory=dict)
    uid: str = ""
    heartbeat: str = ""

    @classmethod
    def from_api(cls, obj: t.Mapping[str, t.Any]) -> Node:
        status = obj.get("status") or {}
        return cls(
            name=name_of(obj),
            labels=labels_of(obj),
            taints=tuple(obj.get("spec", {}).get("taints") or ()),
            capacity=counts(status.get("capacity"), NVIDIA),
            allocatable=counts(status.get("allocatable"), NVIDIA),
            ready=any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or ()),
            schedulable=not obj.get("spec", {}).get("unschedulable"),
            deleting=is_deleting(obj),
            os_image=(status.get("nodeInfo") or {}).get("osImage", ""),
            pods=counts(status.get("allocatable"), "pods").get("pods"),
            annotations=annotations_of(obj),
            uid=obj["metadata"].get("uid", ""),
            heartbeat=next((item.get("lastHeartbeatTime") or "" for item in status.get("conditions") or () if item["type"] == "Ready"), ""),
        )

    @property
    def bottlerocket(self) -> bool:
        """Whether it runs Bottlerocket, whose NVIDIA variants contain a device plugin. No label of every such node says so."""
        return self.os_image.startswith("Bottlerocket")

    @property
    def auto_mode(self) -> bool:
        """Whether EKS Auto Mode made it, whose nodes have a device plugin of their own. Source: EKS User Guide, EKS Auto Mode."""
        return self.labels.get("eks.amazonaws.com/compute-type") == "auto"

    @property
    def instance_type(self) -> str | None:
        return self.labels.get("node.kubernetes.io/instance-type")

    @property
    def zone(self) -> str | None:
        return self.labels.get("topology.kubernetes.io/zone")

    @property
    def pool(self) -> str | None:
        """Our pool, else Karpenter's, else the managed node group."""
        return next((self.labels[label] for label in _POOL_LABELS if label in self.labels), None)

    @property
    def capacity_type(self) -> str | None:
        value = self.labels.get("karpenter.sh/capacity-type") or self.labels.get("eks.amazonaws.com/capacityType", "")
        return _CAPACITY_TYPES.get(value.lower())

    @property
    def needs_catalog(self) -> bool:
        """Whether its labels leave open how many GPUs it has."""
        return self.instance_type is not None and self._labelled_gpus is None

    @property
    def _labelled_gpus(self) -> int | None:
        # With MIG strategy single GPU feature discovery counts MIG devices. Source: NVIDIA k8s-device-plugin, internal/lm.
        instances = self.labels.get("nvidia.com/mig.strategy") == "single"
        values = (self.labels.get(label, "") for label in _COUNT_LABELS[instances:])
        return next((int(value) for value in values if value.isdigit()), None)

    def gpus(self, catalog: Catalog) -> int | None:
        """Physical GPUs by label or instance type, None when neither says."""
        if (labelled := self._labelled_gpus) is not None:
            return labelled
        hardware = catalog.get(self.instance_type or "")
        return None if hardware is None else hardware.gpus

    def model(self, catalog: Catalog) -> str | None:
        """The GPU model in EC2's words: a10g, l4, h100. From Karpenter's label, the instance type, or GFD's product label."""
        if named := self.labels.get("karpenter.k8s.aws/instance-gpu-name"):
            return named
        if (hardware := catalog.get(self.instance_type or "")) is not None and hardware.model:
            return hardware.model
        product = _slug(self.labels.get("nvidia.com/gpu.product", "")).removesuffix("-shared")
        return product.removeprefix("nvidia-").removeprefix("tesla-") or None

    def has_gpus(self, catalog: Catalog) -> bool:
        """Whether this is a GPU node: it advertises some, or labels or its instance type say so."""
        advertises = any(self.allocatable.values()) or any(self.capacity.values())
        return advertises or bool(self.gpus(catalog)) or self.labels.get(GPU_PRESENT_LABEL) == "true"


def _slug(name: str) -> str:
    return "-".join(name.lower().split())
