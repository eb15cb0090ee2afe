"""Nodes on their way out: tainted, drained, terminated; given back when their pods do not go in time."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass

import requests
from botocore.exceptions import ClientError

from lab.controllers.autoscaler.cloud import Cloud
from lab.controllers.autoscaler.model import TO_BE_DELETED, Options, Removal
from lab.controllers.contracts import Context
from lab.controllers.worker import evict
from lab.kubernetes.client import ApiError, Json

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Drain:
    removal: Removal
    began: float


class Drains:
    """What the autoscaler is removing now. ``pods`` are the raw pods of the cluster as they are."""

    def __init__(self, context: Context, cloud: Cloud, options: Options, pods: t.Callable[[], list[Json]]) -> None:
        self._context, self._cloud, self._options, self._pods = context, cloud, options, pods
        self._going: dict[str, _Drain] = {}

    def begin(self, removal: Removal, now: float) -> None:
        """Taint the node, so that nothing new is put there; raises ApiError."""
        if self._mark(removal.node, leaving=True):
            self._going[removal.node] = _Drain(removal, now)

    def go_on(self, now: float) -> list[str]:
        """Bring each a step further; returns why nodes had to be given back. Raises ApiError."""
        failures = []
        for name, drain in list(self._going.items()):
            left = self._evict(drain)
            if left and not self._late(drain, left, now):
                continue
            del self._going[name]
            why = f"{len(left)} pods did not go in time" if left else self._terminate(drain.removal)
            if why:
                self._mark(name, leaving=False)
                failures.append(f"Scale-down: node {name} is given back: {why}")
        return failures

    def clean(self, nodes: t.Iterable[Json]) -> None:
        """Give back what an earlier autoscaler was removing when it ended; raises ApiError."""
        for node in nodes:
            if any(taint["key"] == TO_BE_DELETED for taint in node["spec"].get("taints") or ()):
                self._mark(node["metadata"]["name"], leaving=False)

    def _evict(self, drain: _Drain) -> list[Json]:
        """The pods that are still there of those that have to go; those that nobody has asked yet are evicted."""
        wanted = {pod.uid for pod in drain.removal.pods}
        left = [pod for pod in self._pods() if pod["metadata"]["uid"] in wanted]
        for pod in left:
            if not pod["metadata"].get("deletionTimestamp"):
                evict(self._context, pod)
        return left

    def _late(self, drain: _Drain, left: list[Json], now: float) -> bool:
        """Two minutes to be evicted, ten more to end."""
        limit = self._options.max_pod_eviction_time
        if all(pod["metadata"].get("deletionTimestamp") for pod in left):
            limit += self._options.max_graceful_termination_sec
        return now > drain.began + limit

    def _terminate(self, removal: Removal) -> str:
        """Why AWS refused, empty when it did not."""
        try:
            self._cloud.terminate(removal.instance_id)
        except ClientError as error:
            return str(error)
        return ""

    def _mark(self, name: str, *, leaving: bool) -> bool:
        """Set or take away taint and cordon by an update of the whole node, which is what the real one may do; False when the node is gone."""
        for _unused in range(ATTEMPTS):
            node = self._context.kube.get(f"/api/v1/nodes/{name}")
            if node is None:
                return False
            taints = [taint for taint in node["spec"].get("taints") or () if taint["key"] != TO_BE_DELETED]
            if leaving:
                taints.append({"key": TO_BE_DELETED, "value": str(int(time.time())), "effect": "NoSchedule"})
            node["spec"]["taints"] = taints
            if self._options.cordon_node_before_terminating:
                node["spec"]["unschedulable"] = leaving
            try:
                self._context.kube.call("PUT", f"/api/v1/nodes/{name}", node)
            except ApiError as error:
                if error.status != requests.codes.conflict:  # somebody else has just changed the node
                    raise
                continue
            return True
        return False
