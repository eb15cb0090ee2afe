# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What GPU capacity is made of: what pods take and ask for, and what nodes are said to share. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import NVIDIA
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import labels_of, name_of, namespace_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_requests import effective_requests, mounts_at
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import Term, required_terms
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import SHARING_ANNOTATION, read_note, read_resources

SUBSETS = ("totals", "pools", "groups", "resources", "demand", "findings", "nodes")
ALL = "all"
_ONLY_ON_REQUEST = ("nodes",)  # grows with the cluster

CAPACITY_OPTIONS: dict[str, dict[str, t.Any]] = {
    "cluster_name": {"type": "str"},
    "gather_subset": {"type": "list", "elements": "str", "choices": [ALL, *SUBSETS], "default": [ALL]},
}


def subsets(asked: t.Iterable[str]) -> frozenset[str]:
    """The subsets to gather: ``all`` means each but those that are only gathered when named."""
    named = set(asked)
    return frozenset(name for name in SUBSETS if name in named or (ALL in named and name not in _ONLY_ON_REQUEST))


@dataclass(frozen=True, kw_only=True)
class Declared:
    """How a configuration of our device plugin says that its nodes share their GPUs: ``resources`` of each GPU, the ``strategy`` of sharing
    (none, time_slicing, mps) and that of ``mig`` (single, mixed), None without it."""

    daemon_set: str
    terms: t.Sequence[Term]
    resources: t.Mapping[str, int]
    strategy: str = "none"
    mig: str | None = None

    @classmethod
    def from_api(cls, obj: t.Mapping[str, t.Any]) -> Declared | None:
        """From one of our DaemonSets; None where it does not say."""
        resources = read_resources(obj)
        if not resources or not all(isinstance(count, int) for count in resources.values()):
            return None
        template = obj["spec"]["template"]
        sharing = read_note(template, SHARING_ANNOTATION) or {}
        return cls(
            daemon_set=f"{namespace_of(obj)}/{name_of(obj)}",
            terms=required_terms(template["spec"]),
            resources=resources,
            strategy=sharing.get("strategy") or "none",
            mig=(sharing.get("mig") or {}).get("strategy"),
        )


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Pods without a node that are alike: what one of them asks for, and why the scheduler has found no node for it."""

    namespace: str
    kind: str
    name: str
    resources: tuple[tuple[str, int], ...]
    node_selector: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    message: str | None = None


@dataclass(kw_only=True)
class Usage:
    """What pods take of each node and what waits for one, added up page by page: no pod is kept.

    ``own_shm``: by node the pods that mount a volume of their own at /dev/shm.
    """

    requested: dict[str, dict[str, int]] = field(default_factory=dict)
    pods: int = 0
    pending: dict[Shape, int] = field(default_factory=dict)
    oldest: dict[Shape, str] = field(default_factory=dict)
    own_shm: dict[str, list[str]] = field(default_factory=dict)

    def add(self, pods: t.Iterable[t.Mapping[str, t.Any]]) -> None:
        for pod in pods:
            spec, status = pod["spec"], pod.get("status") or {}
            if status.get("phase") in ("Succeeded", "Failed"):
                continue
            if not (asked := effective_requests(spec, NVIDIA)):
                continue
            if node := spec.get("nodeName"):
                self._bound(node, asked)
                if mounts_at(spec, "/dev/shm"):
                    self.own_shm.setdefault(node, []).append(f"{namespace_of(pod)}/{name_of(pod)}")
            elif not spec.get("schedulingGates"):  # held back on purpose: not the scheduler's to place yet
                self._waits(pod, asked)

    def _bound(self, node: str, asked: t.Mapping[str, int]) -> None:
        self.pods += 1
        taken = self.requested.setdefault(node, {})
        for name, number in asked.items():
            taken[name] = taken.get(name, 0) + number

    def _waits(self, pod: t.Mapping[str, t.Any], asked: t.Mapping[str, int]) -> None:
        shape, created = _shape(pod, asked), pod["metadata"].get("creationTimestamp") or ""
        self.pending[shape] = self.pending.get(shape, 0) + 1
        self.oldest[shape] = min(self.oldest.get(shape, created), created)


def _shape(pod: t.Mapping[str, t.Any], asked: t.Mapping[str, int]) -> Shape:
    kind, name = _controller(pod)
    conditions = (pod.get("status") or {}).get("conditions") or ()
    scheduled: t.Mapping[str, t.Any] = next(
        (item for item in conditions if item["type"] == "PodScheduled" and item["status"] == "False"), {}
    )
    return Shape(
        namespace=str(namespace_of(pod)),
        kind=kind,
        name=name,
        resources=tuple(sorted(asked.items())),
        node_selector=tuple(sorted((pod["spec"].get("nodeSelector") or {}).items())),
        reason=scheduled.get("reason"),
        message=scheduled.get("message"),
    )


def _controller(pod: t.Mapping[str, t.Any]) -> tuple[str, str]:
    """(kind, name) of what made the pod; of a Deployment's ReplicaSet the Deployment, whose name it begins with."""
    owner = next((item for item in pod["metadata"].get("ownerReferences") or () if item.get("controller")), None)
    if owner is None:
        return "Pod", name_of(pod)
    template = labels_of(pod).get("pod-template-hash")
    if owner["kind"] == "ReplicaSet" and template and owner["name"].endswith(f"-{template}"):
        return "Deployment", owner["name"].removesuffix(f"-{template}")
    return owner["kind"], owner["name"]
