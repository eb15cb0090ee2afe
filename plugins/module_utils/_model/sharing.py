# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""How a pool shares its GPUs, and what follows from it by name and number. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE

Strategy = t.Literal["none", "time_slicing", "mps"]

SHARING_OPTIONS: dict[str, dict[str, t.Any]] = {
    "strategy": {"type": "str", "choices": ["none", "time_slicing", "mps"], "default": "none"},
    "replicas": {"type": "int"},
    "backend": {"type": "str", "choices": ["auto", "device_plugin", "bottlerocket", "gpu_operator"], "default": "auto"},
    "rename": {"type": "bool", "default": False},
    "fail_requests_greater_than_one": {"type": "bool", "default": True},
}
_REPLICAS_SOURCE = "NVIDIA k8s-device-plugin, api/config/v1/replicas.go: number of replicas must be >= 2"


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
        return f"{GPU_RESOURCE}.shared" if self.rename else GPU_RESOURCE

    @property
    def configuration(self) -> str:
        """Name of the device plugin configuration: the same sharing, the same name. Valid as label value and object name."""
        if self.strategy == "none":
            return "default"
        parts = [self.strategy.replace("_", "-"), str(self.replicas)]
        if self.rename:
            parts.append("renamed")
        if not self.fail_requests_greater_than_one:
            parts.append("many")
        return "-".join(parts)

    def advertised(self, gpus: int) -> int:
        """How many of ``resource`` a node with this many physical GPUs advertises."""
        return gpus * self.replicas


def sharing_faults(params: t.Mapping[str, t.Any] | None, path: str) -> list[Fault]:
    """What is wrong with a ``sharing`` block beyond its types (form_faults finds those)."""
    if not isinstance(params, t.Mapping):
        return []
    strategy, replicas = params.get("strategy") or "none", params.get("replicas")
    where = f"{path}.replicas"
    if strategy == "none":
        rule = "unset with strategy none; set strategy to time_slicing or mps to share GPUs"
        return [] if replicas is None else [Fault(path=where, value=replicas, allowed=rule, source="the collection's options")]
    if strategy == "mps":
        allowed = "none or time_slicing (MPS is not supported yet)"
        return [Fault(path=f"{path}.strategy", value=strategy, allowed=allowed, source="this release of gpuops.eks")]
    if replicas is None:
        return [Fault(path=where, value=None, allowed="an integer of at least 2, shares per GPU", source=_REPLICAS_SOURCE)]
    number = _integer(replicas)
    if number is not None and number < 2:
        allowed = "an integer of at least 2; leave sharing out to give whole GPUs"
        return [Fault(path=where, value=replicas, allowed=allowed, source=_REPLICAS_SOURCE)]
    return []


def _integer(value: t.Any) -> int | None:
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError):
        return None
