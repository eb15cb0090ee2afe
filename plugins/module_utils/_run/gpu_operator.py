# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""NVIDIA's GPU Operator in a cluster: looked at, and waited for until its work is done on every node."""

from __future__ import annotations

import dataclasses
import datetime
import time
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import WaitFailed
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_PRESENT_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import CLUSTER_POLICY, DAEMON_SET, NODE, POD
from ansible_collections.gpuops.eks.plugins.module_utils._plan import gpu_operator as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.gpu_operator import Observed, Patience, Status, judge, table
from ansible_collections.gpuops.eks.plugins.module_utils._run.gpu_catalog import GpuCatalog
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run


class NotReady(WaitFailed):
    """The operator's work is not done: what is not as it should be, and a line for each such node."""

    def __init__(self, status: Status, after: str) -> None:
        self._rows = [row for row in status.rows if row.why]
        nodes = f"{len(self._rows)} of {len(status.rows)} nodes are not as they should be:\n{table(self._rows)}" if self._rows else ""
        super().__init__("\n".join(filter(None, [f"The GPU Operator is not ready{after}.", *status.faults(), nodes])))

    def result(self) -> dict[str, t.Any]:
        return {"nodes": [row.to_dict() for row in self._rows]}


def gpu_operator_info(run: Run) -> Outcome:
    """The job of module gpu_operator_info."""
    kube, catalog, begun = run.kubernetes, GpuCatalog(run), _now()
    observed = _observe(kube, run.params["namespace"])
    status = _judge(run, observed, catalog, begun)
    if run.params["wait"] and not run.check_mode and not status.done:
        observed, status = _wait(run, kube, catalog, begun, status)
    observed = _with_pods(run, kube, observed, catalog)
    if catalog.warning:
        run.warn(catalog.warning)
    namespace, release = run.params["namespace"], run.params["release"]
    return Outcome(plan=None, result={"gpu_operator": planning.result(observed, status, namespace, release)})


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _with_pods(run: Run, kube: Kubernetes, observed: Observed, catalog: GpuCatalog) -> Observed:
    """Pods are read of those nodes alone whose GPUs are to be cut anew."""
    names = planning.recut(observed, run.params["pools"], catalog.types)
    pods = [pod for name in names for pod in kube.read_all(POD, fields=f"spec.nodeName={name}")]
    return dataclasses.replace(observed, pods=tuple(pods))


def _observe(kube: Kubernetes, namespace: str) -> Observed:
    served = kube.versions("nvidia.com")  # without the chart's definitions there is no such kind to ask for
    daemon_sets = kube.read_all(DAEMON_SET)
    return Observed(
        policies=tuple(kube.read_all(CLUSTER_POLICY)) if "v1" in served else (),
        daemon_sets=tuple(daemon_sets),
        operands=() if planning.rolled_out(daemon_sets) else tuple(kube.read_all(POD, namespace=namespace)),
        nodes=tuple(kube.read_all(NODE, labels=f"{GPU_PRESENT_LABEL}=true")),
    )


def _judge(run: Run, observed: Observed, catalog: GpuCatalog, begun: datetime.datetime) -> Status:
    types = catalog.read([planning.physical(obj) for obj in observed.nodes])
    patience = Patience(moment=_now(), begun=begun, wedge_after=run.params["wedge_after"])
    return judge(observed, run.params["pools"], types, patience)


def _wait(run: Run, kube: Kubernetes, catalog: GpuCatalog, begun: datetime.datetime, status: Status) -> tuple[Observed, Status]:
    """The first look at which all is as it should be; NotReady after the timeout, or as soon as it is evident."""
    end = time.monotonic() + kube.timeout
    while True:
        if status.hopeless:
            raise NotReady(status, "")
        if time.monotonic() > end:
            raise NotReady(status, f" within {kube.timeout:.0f} s")
        time.sleep(kube.interval)
        observed = _observe(kube, run.params["namespace"])
        status = _judge(run, observed, catalog, begun)
        if status.done:
            return observed, status
