"""EKS drains the nodes of a managed node group whose Spot instances are about to end.

Source: EKS User Guide, managed-node-groups.html, "Managed node group capacity types": the node is cordoned, its pods are evicted.
"""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable

import requests

from lab.contracts import EKS_HOOK, ClusterRef
from lab.kubernetes.client import ApiError, Json, Kube
from lab.nodes.loop import Loop

_log = logging.getLogger(__name__)


class ManagedDrains(Loop):
    """One cluster's nodes that Auto Scaling holds for EKS: drained, then let go. What is not drained in time goes with its pods."""

    def __init__(self, cluster: ClusterRef, kube: Kube, nodes: Callable[[], list[Json]], client: Callable[[str], t.Any]) -> None:
        super().__init__(f"drains {cluster.name}", every=1.0)
        self._cluster, self._kube, self._nodes, self._client = cluster, kube, nodes, client

    def step(self) -> None:
        nodes = {node["spec"].get("providerID", "").rpartition("/")[2]: node for node in self._nodes()}
        pages = self._client("autoscaling").get_paginator("describe_auto_scaling_instances").paginate()
        held = (item for page in pages for item in page["AutoScalingInstances"] if item["LifecycleState"] == "Terminating:Wait")
        for item in held:
            node = nodes.get(item["InstanceId"])
            if node is not None and _of_eks(node) and self._drained(node):
                self._let_go(item, node)

    def _drained(self, node: Json) -> bool:
        """Whether no pod is left that has to go; those that are there are asked to."""
        name = node["metadata"]["name"]
        if not node["spec"].get("unschedulable"):
            self._kube.merge(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})
            _log.info("%s: %s is cordoned and drained", self._cluster.name, name)
        there = self._kube.call("GET", "/api/v1/pods", params={"fieldSelector": f"spec.nodeName={name}"})["items"]
        left = [pod for pod in there if _has_to_go(pod)]
        for pod in left:
            if "deletionTimestamp" not in pod["metadata"]:
                self._evict(pod["metadata"])
        return not left

    def _evict(self, metadata: Json) -> None:
        """As budgets allow: one that does not now is asked again."""
        name, namespace = metadata["name"], metadata["namespace"]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
        try:
            self._kube.call("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body)
        except ApiError as error:
            if error.status not in (requests.codes.not_found, requests.codes.conflict, requests.codes.too_many_requests):
                raise

    def _let_go(self, item: Json, node: Json) -> None:
        self._client("autoscaling").complete_lifecycle_action(
            AutoScalingGroupName=item["AutoScalingGroupName"],
            LifecycleHookName=EKS_HOOK,
            InstanceId=item["InstanceId"],
            LifecycleActionResult="CONTINUE",
        )
        _log.info("%s: %s is drained", self._cluster.name, node["metadata"]["name"])


def _of_eks(node: Json) -> bool:
    return "eks.amazonaws.com/nodegroup" in (node["metadata"].get("labels") or {})


def _has_to_go(pod: Json) -> bool:
    """All but what has ended, belongs to a DaemonSet, or is the kubelet's own."""
    metadata = pod["metadata"]
    owners = {owner["kind"] for owner in metadata.get("ownerReferences") or ()}
    over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return not over and "DaemonSet" not in owners and "kubernetes.io/config.mirror" not in (metadata.get("annotations") or {})
