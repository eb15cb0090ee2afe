# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The device plugin of a cluster: observe, plan, apply, wait until every node advertises what its configuration says."""

from __future__ import annotations

import dataclasses

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, GpuopsError, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DevicePlugin
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Catalog
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_conflicts, takeover, transition
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design, component_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin import Way
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import Observed, key_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan
from ansible_collections.gpuops.eks.plugins.module_utils._run.device_plugin_course import Course, course_plan
from ansible_collections.gpuops.eks.plugins.module_utils._run.device_plugin_reads import (
    NODE_FEATURES,
    Groups,
    Reading,
    foreign_pods,
    holders,
    read,
    read_ours,
)
from ansible_collections.gpuops.eks.plugins.module_utils._run.gpu_catalog import GpuCatalog
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run


def device_plugin(run: Run) -> Outcome:
    """The job of module nvidia_device_plugin."""
    if run.params["state"] == "absent":
        return _absent(run)
    plugin = DevicePlugin.from_params(run.params)
    kube = run.find_kubernetes() if run.check_mode else run.kubernetes
    if kube is None:
        design = Design.of(plugin, feature_discovery=bool(run.params["feature_discovery"]))
        plan = planning.plan_begin(design, Observed(), Way())
        return Outcome(plan=plan, result={"device_plugin": planning.planned_result(design)})
    return _present(run, kube, plugin)


def _absent(run: Run) -> Outcome:
    """A cluster that is not there has no plugin."""
    kube = run.find_kubernetes()
    plan = Plan() if kube is None else planning.plan_absent(read_ours(kube))
    run.apply(plan)
    return Outcome(plan=plan, result={"device_plugin": None})


def _present(run: Run, kube: Kubernetes, plugin: DevicePlugin) -> Outcome:
    groups = kube.groups()
    design = Design.of(plugin, feature_discovery=_discovers(run, groups))
    reading = read(kube, plugin.namespace, groups)
    catalog = GpuCatalog(run)
    types = catalog.read(node for node in reading.observed.nodes if design.parts_of(node))
    if catalog.warning:
        run.warn(catalog.warning)
    if found := device_plugin_conflicts.conflicts(design, reading.observed, types, replace=run.params["replace"]):
        raise GpuopsError("\n".join(found))
    way, observed = _way(run, kube, design, reading.observed, types)
    warnings = _warnings(run, design, observed, way, types)
    dry_runs = {key_of(obj): kube.apply(obj, dry_run=True) for obj in planning.unsettled(design, observed, way)}
    observed = dataclasses.replace(observed, dry_runs=dry_runs)
    plan = course_plan(design, observed, way, size=run.params["max_unavailable"])
    course = Course(run, kube, design, way, Reading(observed=observed, lists=reading.lists), catalog)
    if not run.check_mode:
        plan = course.carry_out(plan)
    status = course.status()
    result = planning.result(design, status.seen(), planning.installed_versions(course.daemon_sets))
    return Outcome(plan=dataclasses.replace(plan, warnings=(*plan.warnings, *warnings)), result={"device_plugin": result})


def _discovers(run: Run, groups: Groups) -> bool:
    """Whether GPU feature discovery runs: it speaks to Node Feature Discovery, which labels the nodes."""
    wanted: bool | None = run.params["feature_discovery"]
    served = NODE_FEATURES in groups
    if wanted and not served:
        allowed = (
            "true where Node Feature Discovery is installed (nodefeatures.nfd.k8s-sigs.io is served): install it first, or leave this out"
        )
        raise InvalidInput([Fault(path="feature_discovery", value=True, allowed=allowed, source="GPU feature discovery, NodeFeature API")])
    return served if wanted is None else wanted


def _way(run: Run, kube: Kubernetes, design: Design, observed: Observed, types: Catalog) -> tuple[Way, Observed]:
    """Which nodes are to be drained, and which plugins of others taken over; with the pods that say so."""
    seen = planning.in_order(design, observed, types)
    doubtful = {one.node.name for one in seen if transition.may_need_drain(one)}
    pods = holders(kube, doubtful) if doubtful else {}
    moves = tuple(transition.moves(seen, pods))
    if found := planning.from_other_configurations(moves):
        raise GpuopsError("\n".join(found))
    if not run.check_mode and (text := transition.refusal(moves, drain=run.params["drain"])):
        raise GpuopsError(text)
    there = device_plugin_conflicts.overlapping(design, observed) if run.params["replace"] else []
    # Of a takeover that was interrupted, our own DaemonSets say whom they wait for.
    ours = [obj for obj in observed.our_daemon_sets() if component_of(obj) == manifests.DEVICE_PLUGIN]
    begun = {takeover.pods_selector(one): one for obj in ours for one in takeover.held_by(obj)}
    known = {takeover.pods_selector(obj) for obj in there}
    theirs = [*there, *(one for selector, one in begun.items() if selector not in known)]
    foreign = foreign_pods(kube, theirs)
    if not there and not foreign:
        theirs = []
    held = device_plugin_conflicts.held_parts(design, observed, theirs, ours) if theirs else frozenset()
    way = Way(moves=moves, theirs=tuple(theirs), held=held)
    return way, dataclasses.replace(observed, holders=pods, foreign_pods=foreign)


def _warnings(run: Run, design: Design, observed: Observed, way: Way, types: Catalog) -> list[str]:
    refused = transition.refusal(way.moves, drain=run.params["drain"])
    return [
        *([f"A run would be refused: {refused}"] if refused else []),
        *transition.stays(way.moves),
        *device_plugin_conflicts.pod_limits(design, observed, types),
        *device_plugin_conflicts.drivers(design, observed),
    ]
