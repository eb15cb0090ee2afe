# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""GPU capacity of a cluster: nodes, what pods take of them, what waits. Reads only."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, ServiceError
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.errors import ListExpired
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.capacity import Declared, Usage, subsets
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import DAEMON_SET, NODE, POD
from ansible_collections.gpuops.eks.plugins.module_utils._model.scaling_activity import FailedLaunch
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.capacity import Seen, report
from ansible_collections.gpuops.eks.plugins.module_utils._plan.capacity_node import Report
from ansible_collections.gpuops.eks.plugins.module_utils._run import launches
from ansible_collections.gpuops.eks.plugins.module_utils._run.gpu_catalog import ACTION, GpuCatalog
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_LIST_ATTEMPTS = 3
_RUNNING = "status.phase!=Succeeded,status.phase!=Failed"
_UNBOUND = f"spec.nodeName=,{_RUNNING}"
_NEED_NO_PODS = frozenset(("findings",))


def capacity_info(run: Run) -> Outcome:
    """The job of module gpu_capacity_info."""
    return Outcome(plan=None, result={"gpu_capacity": _gather(run)})


def capacity_facts(run: Run) -> Outcome:
    """The job of module gpu_capacity_facts."""
    return Outcome(facts={"gpuops_gpu_capacity": _gather(run)})


def _gather(run: Run) -> Report:
    subset = subsets(run.params["gather_subset"])
    kube = run.find_kubernetes() if run.check_mode else run.kubernetes
    seen = _planned(run) if kube is None else _read(run, kube, subset)
    for warning in seen.warnings:
        run.warn(warning)
    return report(seen, subset)


def _planned(run: Run) -> Seen:
    """Of a cluster that is not there yet, in check mode: everything is unknown."""
    name = run.params["cluster_name"]
    cluster = {"arn": None, "name": name, "version": None}
    return Seen(cluster=cluster, at=_now(), warnings=(f"Cluster {name} does not exist yet: its capacity is unknown.",))


def _read(run: Run, kube: Kubernetes, subset: t.Collection[str]) -> Seen:
    sources, warnings = [], []
    nodes = [Node.from_api(obj) for obj in kube.read_all(NODE)]
    sources.append("kubernetes:list nodes")
    catalog = GpuCatalog(run)
    types = catalog.read(nodes)
    if catalog.asked and not catalog.warning:
        sources.append(ACTION)
    if catalog.warning:
        warnings.append(catalog.warning)
    gpu_nodes = any(node.has_gpus(types) for node in nodes)
    declared: list[Declared] = []
    if gpu_nodes:
        declared, warning = _declared(kube)
        (warnings if warning else sources).append(warning or "kubernetes:list daemonsets.apps")
    usage = None
    if set(subset) - _NEED_NO_PODS:
        usage = _usage(kube, _RUNNING if gpu_nodes else _UNBOUND)
        sources.append("kubernetes:list pods")
    cluster = _cluster(run, kube)
    failed: tuple[FailedLaunch, ...] = ()
    if "findings" in subset and cluster["arn"]:
        failed, warning = _failed_launches(run, cluster["name"])
        (warnings if warning else sources).append(warning or launches.ACTION)
    return Seen(
        cluster=cluster,
        at=_now(),
        nodes=nodes,
        catalog=types,
        usage=usage,
        declared=declared,
        failed_launches=failed,
        sources=sources,
        warnings=warnings,
    )


def _declared(kube: Kubernetes) -> tuple[list[Declared], str]:
    """(how our configurations share, why that is unknown)"""
    try:
        found = kube.read_all(DAEMON_SET, labels=manifests.selector())
    except ServiceError as error:
        return [], f"How nodes should share their GPUs is unknown: {error}"
    return [item for obj in found if (item := Declared.from_api(obj)) is not None], ""


def _failed_launches(run: Run, cluster_name: str) -> tuple[tuple[FailedLaunch, ...], str]:
    """(launches of the cluster's groups that failed, why they are unknown)"""
    try:
        return launches.recent_failures(run.aws, cluster_name, datetime.datetime.now(tz=datetime.timezone.utc)), ""
    except GpuopsError as error:
        return (), f"Whether Auto Scaling could launch all nodes is unknown: {error}"


def _usage(kube: Kubernetes, fields: str) -> Usage:
    """Added up page by page; from the start again where the list has expired on the way."""
    for attempt in range(1, _LIST_ATTEMPTS + 1):
        usage = Usage()
        try:
            for page in kube.pages(POD, fields=fields):
                usage.add(page)
        except ListExpired:
            if attempt == _LIST_ATTEMPTS:
                raise
        else:
            return usage
    raise AssertionError("the last attempt returns or raises")


def _cluster(run: Run, kube: Kubernetes) -> dict[str, t.Any]:
    cluster = None if run.params["kubernetes"] else run.cluster
    if cluster is not None:
        return {"arn": cluster["arn"], "name": cluster["name"], "version": cluster["version"]}
    return {"arn": None, "name": run.params["cluster_name"], "version": kube.version()}


def _now() -> str:
    return datetime.datetime.now(tz=datetime.timezone.utc).isoformat(timespec="seconds")
