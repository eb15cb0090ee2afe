# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run that changes nothing asks of the API server for the device plugin, with one node and with a thousand (KWOK's)."""

from __future__ import annotations

import collections
import concurrent.futures
import logging
import typing as t

import pytest

from lab import audit
from tests.e2e.rehearsal import ADMINISTRATOR, Rehearsal
from tests.e2e.test_pools import GENERAL, until
from tests.e2e.test_sharing import GPU, SLICED, TIME_SLICING_10, pool

pytestmark = pytest.mark.soak  # minutes: a thousand nodes

NODES, PAGE = 1000, 500
MODULE = "gpuops.eks"  # the user agent of our modules; kubernetes.core has its own
_log = logging.getLogger(__name__)
KINDS = ("nodes", "pods", "daemonsets", "configmaps", "namespaces")


def variables() -> dict[str, t.Any]:
    return {
        "gpu_nodepools": [GENERAL, pool(SLICED, "g5.2xlarge", sharing=TIME_SLICING_10)],
        "gpu_workloads_state": "absent",
        "eks_autoscaling_cluster_autoscaler_enabled": False,
    }


def node(index: int) -> dict[str, t.Any]:
    """A node that no instance stands behind, with the labels of the pool's."""
    labels = {
        "nvidia.com/device-plugin.config": SLICED,
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.count": "1",
        "kubernetes.io/hostname": f"scale-{index}",
        "kubernetes.io/os": "linux",
    }
    room = {"cpu": "8", "memory": "32Gi", "pods": "58"}
    annotations = {"lab.gpuops.dev/gpus": "1", "lab.gpuops.dev/gpu-model": "a10g"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"scale-{index}", "labels": labels, "annotations": annotations},
        "status": {"capacity": room, "allocatable": room},
    }


def reads(rehearsal: Rehearsal, start: int) -> collections.Counter[str]:
    """What our modules have asked for since so many events of the audit log, by kind."""
    found = events(rehearsal)[start:]
    ours = [event for event in found if event.user.endswith(ADMINISTRATOR) and event.user_agent.startswith(MODULE)]
    return collections.Counter(f"{event.verb} {event.resource}" for event in ours if event.resource in KINDS)


def events(rehearsal: Rehearsal) -> list[audit.Event]:
    [log] = rehearsal.state.audit.glob(f"*-{rehearsal.cluster}.log")
    return audit.read(log)


def run(rehearsal: Rehearsal) -> collections.Counter[str]:
    before, writes = len(events(rehearsal)), rehearsal.write_count()
    play = rehearsal.play("site.yml", **variables())
    assert (play.code, play.changed) == (0, []), play.output[-3000:]
    assert rehearsal.write_count() == writes
    return reads(rehearsal, before)


def test_a_run_that_changes_nothing_asks_no_more_of_a_thousand_nodes(rehearsal: Rehearsal) -> None:
    assert rehearsal.play("site.yml", **variables()).code == 0
    one = run(rehearsal)
    kube = rehearsal.kube()
    with concurrent.futures.ThreadPoolExecutor(8) as pool_of_threads:
        list(pool_of_threads.map(lambda index: kube.call("POST", "/api/v1/nodes", node(index)), range(NODES)))

    def all_advertise() -> bool:
        found = kube.call("GET", f"/api/v1/nodes?labelSelector=nvidia.com/device-plugin.config={SLICED}")["items"]
        return sum(1 for each in found if each["status"].get("allocatable", {}).get(GPU) == "10") == NODES + 1

    until(all_advertise, 900, f"{NODES} nodes advertise their shares", rehearsal)
    many = run(rehearsal)
    pages = NODES // PAGE
    more = many - one
    assert set(more) <= {"list nodes", "list pods"}, (one, many)
    # A list has a page for each 500 objects: of nodes, of the plugin's pods, and for the report of all pods.
    assert all(count <= 3 * pages for count in more.values()), (one, many)
    _log.warning("requests of our modules: %s with one node, %s with %s", dict(one), dict(many), NODES + 1)
