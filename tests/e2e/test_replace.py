# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster whose device plugin was installed with NVIDIA's own chart: refused by name, then taken over with consent."""

from __future__ import annotations

import re
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

from lab import audit
from lab.binaries import device_plugin_chart
from tests.e2e.rehearsal import Play, Rehearsal
from tests.e2e.test_pools import APPS, GENERAL, nodes_of, until
from tests.e2e.test_sharing import GPU, SECONDS, TIME_SLICING_10, ZONES, app, pods

pytestmark = pytest.mark.soak  # minutes, and NVIDIA's chart; tests/wire has the takeover request by request

POOL, RELEASE, NAMESPACE = "gpu", "nvdp", "nvidia-device-plugin"
SHARED_BY_TEN = {
    "version": "v1",
    "sharing": {"timeSlicing": {"failRequestsGreaterThanOne": True, "resources": [{"name": GPU, "replicas": 10}]}},
}
# The chart always has a DaemonSet for MPS too, and here one for feature discovery: all three with one selector.
# The pool's nodes name the pool in the label that the chart's config-manager reads too, which ends where the name is of no configuration.
HELM_VALUES = {
    "config": {"default": "default", "map": {name: yaml.safe_dump(SHARED_BY_TEN) for name in ("default", POOL)}},
    "gfd": {"enabled": True},
    "nfd": {"enabled": False},
}


def variables(**more: t.Any) -> dict[str, t.Any]:
    """Two GPU nodes, so that one after the other can be seen."""
    pool = {
        "name": POOL,
        "provisioner": "managed_node_group",
        "instances": {"types": ["g5.2xlarge"]},
        "zones": ZONES,
        "scaling": {"min": 2, "max": 2},
        "sharing": TIME_SLICING_10,
    }
    return {
        "gpu_nodepools": [GENERAL, pool],
        "gpu_workloads_state": "absent",
        "eks_autoscaling_cluster_autoscaler_enabled": False,
        **more,
    }


def site(rehearsal: Rehearsal, *options: str, **more: t.Any) -> Play:
    return rehearsal.play("site.yml", *options, **variables(**more))


def shares(rehearsal: Rehearsal) -> list[str]:
    return [node["status"]["allocatable"].get(GPU, "0") for node in nodes_of(rehearsal, POOL)]


def plugins(rehearsal: Rehearsal, program: str = "nvidia-device-plugin") -> list[tuple[str, str]]:
    """(namespace, name) of the pods that run a device plugin, or another program of its image."""
    found = rehearsal.kube().call("GET", "/api/v1/pods")["items"]
    return [
        (pod["metadata"]["namespace"], pod["metadata"]["name"])
        for pod in found
        if any(program in container.get("command", [""])[0] for container in pod["spec"]["containers"])
    ]


def daemon_sets(rehearsal: Rehearsal) -> list[str]:
    """Those of the chart."""
    found = rehearsal.kube().call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets")["items"]
    return sorted(obj["metadata"]["name"] for obj in found)


def first_deleted_by_a_component(rehearsal: Rehearsal, pods_of_theirs: t.Iterable[tuple[str, str]]) -> list[str]:
    """Those of these pods whose deletion somebody else than the playbook began, such as a DaemonSet that had adopted them."""
    logs = sorted(rehearsal.state.audit.glob(f"*-{rehearsal.cluster}.log"))
    events = [event for path in logs for event in audit.read(path) if (event.verb, event.resource) == ("delete", "pods")]
    first = {(event.namespace, event.name): event for event in reversed(events)}
    return [name for namespace, name in pods_of_theirs if first[namespace, name].system]


def helm_install(rehearsal: Rehearsal) -> None:
    """As a user would, with NVIDIA's chart."""
    values = rehearsal.directory / "values.yml"
    values.write_text(yaml.safe_dump(HELM_VALUES))
    [kubeconfig] = re.findall(r"KUBECONFIG='?([^'\n]+)", rehearsal.lab("env", "--kubeconfig", rehearsal.cluster))
    subprocess.run(
        [
            *(rehearsal.about["helm"], "install", RELEASE, str(device_plugin_chart(print))),
            *("--namespace", NAMESPACE, "--create-namespace", "--values", str(values), "--kubeconfig", kubeconfig),
        ],
        env={**rehearsal.environment(), "HELM_CACHE_HOME": str(rehearsal.directory / "helm")},
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(rehearsal.directory),
    )


def test_a_chart_is_refused_by_name(rehearsal: Rehearsal) -> None:
    assert site(rehearsal).code == 0
    removed = rehearsal.play("tests/e2e/playbooks/device_plugin_absent.yml", **variables())
    assert removed.code == 0, removed.output[-3000:]
    helm_install(rehearsal)
    until(lambda: shares(rehearsal) == ["10", "10"], SECONDS, "the chart's plugin serves both nodes", rehearsal)
    assert daemon_sets(rehearsal) == [
        "nvdp-nvidia-device-plugin",
        "nvdp-nvidia-device-plugin-gpu-feature-discovery",
        "nvdp-nvidia-device-plugin-mps-control-daemon",
    ]
    assert len(plugins(rehearsal, "gpu-feature-discovery")) == 2
    rehearsal.kube().call("POST", APPS, app(POOL, GPU, 12))
    until(lambda: len(pods(rehearsal, f"app=app-{POOL}")) == 12, SECONDS, "12 pods run on its shares", rehearsal)
    before = rehearsal.write_count()
    play = site(rehearsal)
    assert play.code != 0
    assert "Helm chart nvidia-device-plugin-0.19.3" in play.output
    assert "replace: true" in play.output
    assert rehearsal.write_count() == before


def test_with_consent_ours_takes_over_and_no_workload_notices(rehearsal: Rehearsal) -> None:
    theirs = plugins(rehearsal)
    assert len(theirs) == 2
    working = {pod["metadata"]["uid"] for pod in pods(rehearsal, f"app=app-{POOL}")}
    planned = site(rehearsal, "--check", gpu_sharing_replace=True)
    assert planned.code == 0, planned.output[-6000:]
    play = site(rehearsal, gpu_sharing_replace=True)
    assert play.code == 0, play.output[-6000:]
    assert [step["action"] for step in play.plan] == [step["action"] for step in planned.plan]
    assert shares(rehearsal) == ["10", "10"]
    assert {namespace for namespace, _name in plugins(rehearsal)} == {"gpuops-nvidia"}
    assert first_deleted_by_a_component(rehearsal, theirs) == []
    assert daemon_sets(rehearsal) == []
    assert {pod["metadata"]["uid"] for pod in pods(rehearsal, f"app=app-{POOL}")} == working


def test_and_then_nothing_is_left_to_do(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    play = site(rehearsal)
    assert (play.code, play.changed) == (0, [])
    assert rehearsal.write_count() == before
