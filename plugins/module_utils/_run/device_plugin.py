# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The device plugin of a cluster: observe, plan, apply, wait until every node advertises what its configuration says."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, WaitFailed
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DevicePlugin
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    CONFIG_MAP,
    DAEMON_SET,
    NAMESPACE,
    NODE,
    POD,
    SECRET,
    SERVICE_ACCOUNT,
    Object,
    labels_of,
    name_of,
    namespace_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin import Observed
from ansible_collections.gpuops.eks.plugins.module_utils._plan.rollout import Row, Status, is_selected, judge, table
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan
from ansible_collections.gpuops.eks.plugins.module_utils._run.gpu_catalog import GpuCatalog
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_EVERY_NAMESPACE_HAS = {"configmaps": "kube-root-ca.crt", "serviceaccounts": "default"}


class NodesNotReady(WaitFailed):
    """Nodes that do not advertise what their configuration says, each with the reason."""

    def __init__(self, status: Status, plan: Plan, after: str) -> None:
        self._rows = [row for row in status.rows if row.why]
        self._plan = plan
        rollouts = [str(rollout) for rollout in status.rollouts if not rollout.done]
        what = f"{len(self._rows)} of {len(status.rows)} nodes do not advertise what their configuration says{after}:\n{table(self._rows)}"
        super().__init__(what if self._rows else f"The rollout is not complete{after}: {'; '.join(rollouts)}.")

    def result(self) -> dict[str, t.Any]:
        return {"nodes": [_row_result(row) for row in self._rows], "plan": self._plan.to_list()}


def _row_result(row: Row) -> dict[str, t.Any]:
    return {**row.to_dict(), "configuration": row.configuration, "why": row.why}


def device_plugin(run: Run) -> Outcome:
    """The job of module nvidia_device_plugin."""
    if run.params["state"] == "absent":
        return _absent(run)
    wanted = DevicePlugin.from_params(run.params)
    kube = run.find_kubernetes() if run.check_mode else run.kubernetes
    if kube is None:
        plan = planning.plan_present(wanted, Observed())
        return Outcome(plan=plan, result={"device_plugin": planning.planned_result(wanted)})
    return _present(run, kube, wanted)


def _absent(run: Run) -> Outcome:
    """A cluster that is not there has no plugin."""
    kube = run.find_kubernetes()
    plan = Plan() if kube is None else planning.plan_absent(_observe_ours(kube))
    run.apply(plan)
    return Outcome(plan=plan, result={"device_plugin": None})


def _present(run: Run, kube: Kubernetes, wanted: DevicePlugin) -> Outcome:
    observed = _observe(kube, wanted)
    if found := planning.conflicts(wanted, observed):
        raise GpuopsError("\n".join(found))
    plan = planning.plan_present(wanted, _with_dry_runs(kube, wanted, observed))
    run.apply(plan)
    catalog = GpuCatalog(run)
    # What another tool keeps becomes what is wanted when that tool does it: there is nothing to wait for here.
    waits = run.params["wait"] and not run.check_mode and not planning.kept_by_others(wanted, observed)
    status = _status(kube, wanted, catalog) if plan.steps and not run.check_mode else _judge(kube, wanted, catalog, observed)
    if waits and not status.done:
        status = _wait(run, kube, wanted, catalog, plan, status)
    if catalog.warning:
        run.warn(catalog.warning)
    return Outcome(plan=plan, result={"device_plugin": planning.result(wanted, status.seen())})


def _observe(kube: Kubernetes, wanted: DevicePlugin) -> Observed:
    config_maps = kube.read_all(CONFIG_MAP, labels=manifests.selector())
    namespace = kube.get(NAMESPACE, wanted.namespace)
    return Observed(
        namespace=namespace,
        daemon_sets=tuple(kube.read_all(DAEMON_SET)),
        config_maps=(*config_maps, *_namesakes(kube, wanted, config_maps)) if namespace else tuple(config_maps),
        nodes=_nodes(kube),
    )


def _namesakes(kube: Kubernetes, wanted: DevicePlugin, config_maps: t.Iterable[Object]) -> list[Object]:
    """ConfigMaps of the names that we want without our labels; only looked for where there is none of ours."""
    there = {(namespace_of(obj), name_of(obj)) for obj in config_maps}
    names = [manifests.object_name(configuration.name) for configuration in wanted.configurations]
    found = (kube.get(CONFIG_MAP, name, wanted.namespace) for name in names if (wanted.namespace, name) not in there)
    return [obj for obj in found if obj is not None]


def _with_dry_runs(kube: Kubernetes, wanted: DevicePlugin, observed: Observed) -> Observed:
    """What the API server would make of each object. In a namespace that is not there yet it cannot say."""
    objects = planning.wanted_objects(wanted, observed.namespace) if observed.namespace else []
    theirs = planning.kept_by_others(wanted, observed)
    keys = {(str(obj["kind"]), name_of(obj)): obj for obj in objects}
    dry_runs = {key: kube.apply(obj, dry_run=True) for key, obj in keys.items() if key not in theirs}
    return dataclasses.replace(observed, dry_runs=dry_runs)


def _observe_ours(kube: Kubernetes) -> Observed:
    namespaces = kube.read_all(NAMESPACE, labels=manifests.selector())
    return Observed(
        daemon_sets=tuple(kube.read_all(DAEMON_SET, labels=manifests.selector())),
        config_maps=tuple(kube.read_all(CONFIG_MAP, labels=manifests.selector())),
        own_namespaces=tuple(namespaces),
        foreign={name_of(obj): _foreign(kube, name_of(obj)) for obj in namespaces},
    )


def _foreign(kube: Kubernetes, namespace: str) -> list[str]:
    """What a namespace of ours holds besides ours and what every namespace has. Metadata only: no secret is read."""
    found = []
    for kind in (POD, CONFIG_MAP, SECRET, SERVICE_ACCOUNT):
        for obj in kube.read_all(kind, namespace=namespace, metadata_only=True):
            if not manifests.is_ours(labels_of(obj)) and _EVERY_NAMESPACE_HAS.get(kind.plural) != name_of(obj):
                found.append(f"{kind.kind} {name_of(obj)}")
    return found


def _nodes(kube: Kubernetes) -> tuple[Node, ...]:
    return tuple(Node.from_api(obj) for obj in kube.read_all(NODE))


def _status(kube: Kubernetes, wanted: DevicePlugin, catalog: GpuCatalog) -> Status:
    """How things stand now."""
    daemon_sets = kube.read_all(DAEMON_SET, namespace=wanted.namespace, labels=manifests.selector())
    return _judge(kube, wanted, catalog, Observed(daemon_sets=tuple(daemon_sets), nodes=_nodes(kube)))


def _judge(kube: Kubernetes, wanted: DevicePlugin, catalog: GpuCatalog, observed: Observed) -> Status:
    """How things stood when DaemonSets and nodes were read."""
    nodes = [node for node in observed.nodes if is_selected(wanted, node)]
    pods = kube.read_all(POD, namespace=wanted.namespace, labels=manifests.selector()) if nodes else ()
    daemon_sets = [obj for obj in observed.daemon_sets if namespace_of(obj) == wanted.namespace]
    return judge(wanted, daemon_sets=daemon_sets, nodes=nodes, pods=pods, catalog=catalog.read(nodes))


def _wait(run: Run, kube: Kubernetes, wanted: DevicePlugin, catalog: GpuCatalog, plan: Plan, status: Status) -> Status:
    """The first status in which all is as it should be; NodesNotReady after the timeout, or as soon as it is evident."""
    end, told = time.monotonic() + kube.timeout, _Progress(run)
    while True:
        told.tell(status)
        if status.done:
            return status
        if status.hopeless:
            raise NodesNotReady(status, plan, "")
        if time.monotonic() > end:
            raise NodesNotReady(status, plan, f" within {kube.timeout:.0f} s")
        time.sleep(kube.interval)
        status = _status(kube, wanted, catalog)


class _Progress:
    """Tells what has changed since it was last told."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._told: dict[str, str] = {}

    def tell(self, status: Status) -> None:
        for rollout in status.rollouts:
            self._line(rollout.daemon_set, str(rollout))
        for row in status.rows:
            self._line(row.node, f"Node {row.node}: {row.resource} {row.advertised}{f', {row.why}' if row.why else ''}")

    def _line(self, subject: str, line: str) -> None:
        if self._told.get(subject) != line:
            self._told[subject] = line
            self._run.tell(line)
