# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases of docs/runbooks/gpu-sharing.md: each names tests that are there; those without one elsewhere are here."""

from __future__ import annotations

import ast
import functools
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import RESTARTING_RELEASE
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import (
    DEVICE_PLUGIN_OPTIONS,
    Configuration,
    DevicePlugin,
    Image,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_requests import effective_requests
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import selects
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import pool_warnings

Json = dict[str, t.Any]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "runbooks" / "gpu-sharing.md").read_text(encoding="utf-8")
CASES = 25
SECTION = re.compile(r"^### (\d+)\. (.+)$", re.MULTILINE)
PROOF = re.compile(r"\[(test_\w+)\]\(\.\./\.\./(tests/[\w/]+\.py)\)")
WORDS = ("Prevented", "Detected", "Explained")

SHARED = Configuration(name="shared", sharing=Sharing(strategy="time_slicing", replicas=10))
MPS = Configuration(name="mps", sharing=Sharing(strategy="mps", replicas=5))
WANTED = DevicePlugin(namespace="gpuops-nvidia", image=Image(), configurations=(SHARED, MPS))


def sections() -> dict[int, str]:
    """Number of a case -> its text."""
    _preface, *parts = SECTION.split(PAGE)
    return {int(number): text for number, _title, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)}


@functools.cache
def names_in(path: str) -> frozenset[str]:
    return frozenset(
        node.name for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
    )


def test_every_case_is_there_once_and_in_order() -> None:
    assert [int(number) for number, _title in SECTION.findall(PAGE)] == list(range(1, CASES + 1))


@pytest.mark.parametrize("number", range(1, CASES + 1))
def test_a_case_says_what_is_done_and_which_tests_show_it(number: int) -> None:
    text = sections()[number]
    assert any(f"**{word}**" in text for word in WORDS)
    assert "github.com" in text, "where users report it"
    found = PROOF.findall(text)
    assert found, "a test, or the check of a documented command"
    assert [(path, name) for name, path in found if name not in names_in(path)] == []


def test_what_the_page_links_to_is_there() -> None:
    links = {link.partition("#")[0] for link in re.findall(r"\]\((\.\.?/[^)]+)\)", PAGE)}
    assert [link for link in sorted(links) if not (ROOT / "docs" / "runbooks" / link).resolve().exists()] == []


def daemon_sets() -> list[Json]:
    made = [manifest for one in WANTED.configurations for manifest in manifests.objects(WANTED, one, feature_discovery=True)]
    return [manifest for manifest in made if manifest["kind"] == "DaemonSet"]


def pod_of(component: str, configuration: Configuration) -> Json:
    spec: Json = manifests.daemon_set(WANTED, configuration, component)["spec"]["template"]["spec"]
    return spec


def test_pods_come_to_nodes_that_no_feature_discovery_has_labelled_and_that_are_tainted() -> None:
    """The label that a pool's nodes register with is enough."""
    assert len(daemon_sets()) == 5
    for one in daemon_sets():
        spec = one["spec"]["template"]["spec"]
        name = one["metadata"]["labels"][manifests.INSTANCE_LABEL]
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        assert selects(terms, {"nvidia.com/device-plugin.config": name})
        assert "nodeSelector" not in spec
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]


def test_no_two_daemon_sets_select_the_same_pods() -> None:
    for one in daemon_sets():
        selector = one["spec"]["selector"]["matchLabels"].items()
        chosen = [
            other["metadata"]["name"] for other in daemon_sets() if selector <= other["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert chosen == [one["metadata"]["name"]]


def test_the_mps_daemon_comes_where_the_plugin_comes_and_before_it() -> None:
    daemon, plugin = (pod_of(component, MPS) for component in (manifests.MPS_DAEMON, manifests.DEVICE_PLUGIN))
    assert daemon["affinity"]["nodeAffinity"] == plugin["affinity"]["nodeAffinity"]
    assert "mps.capable" not in str(daemon)
    assert manifests.components(MPS, feature_discovery=False) == [manifests.MPS_DAEMON, manifests.DEVICE_PLUGIN]


def test_plugin_and_daemon_have_one_root() -> None:
    daemon, plugin = (pod_of(component, MPS) for component in (manifests.MPS_DAEMON, manifests.DEVICE_PLUGIN))
    assert {"name": "MPS_ROOT", "value": "/run/nvidia/mps"} in plugin["containers"][0]["env"]
    paths = [{volume["hostPath"]["path"] for volume in pod["volumes"] if volume["name"].startswith("mps-")} for pod in (daemon, plugin)]
    assert paths == [{"/run/nvidia/mps", "/run/nvidia/mps/shm"}] * 2
    assert "MPS_ROOT" not in str(pod_of(manifests.DEVICE_PLUGIN, SHARED))


def test_the_daemon_is_ready_only_with_its_limits() -> None:
    [container] = pod_of(manifests.MPS_DAEMON, MPS)["containers"]
    [_shell, _option, command] = container["readinessProbe"]["exec"]["command"]
    assert "get_default_active_thread_percentage" in command
    assert "in 20|20.*) exit 0" in command


def test_shares_of_a_single_gpu_are_refused() -> None:
    sharing = {"strategy": "time_slicing", "replicas": 4, "devices": [0]}
    [fault] = form_faults(DEVICE_PLUGIN_OPTIONS, {"configurations": [{"name": "x", "sharing": sharing}]})
    assert fault.path == "configurations[0].sharing.devices"
    assert fault.allowed.startswith("no such key")


@pytest.mark.parametrize("strategy", ["time_slicing", "mps"])
def test_a_request_for_several_shares_is_refused_unless_it_is_asked_for(strategy: str) -> None:
    params: Json = {"strategy": strategy, "replicas": 4}
    for more, fails in (({}, True), ({"fail_requests_greater_than_one": False}, False)):
        content = yaml.safe_load(Configuration(name="x", sharing=Sharing.from_params({**params, **more})).file)
        [shared] = content["sharing"].values()
        assert shared["failRequestsGreaterThanOne"] is fails


def test_devices_by_cdi_are_a_flag_of_a_configuration() -> None:
    """Without the environment variable that makes the NVIDIA runtime give every GPU to whoever sets it."""
    configuration = Configuration(name="x", flags={"plugin": {"deviceListStrategy": ["cdi-cri"]}})
    assert yaml.safe_load(configuration.file)["flags"]["plugin"]["deviceListStrategy"] == ["cdi-cri"]
    assert "/var/run/cdi" in str(pod_of(manifests.DEVICE_PLUGIN, configuration)["volumes"])


def test_containers_of_a_pod_are_added_up_as_the_scheduler_does() -> None:
    container = {"resources": {"limits": {"nvidia.com/gpu": "1"}}}
    assert effective_requests({"containers": [container, container]}, "nvidia.com/") == {"nvidia.com/gpu": 2}


def test_nodes_with_gpus_are_tainted_unless_the_pool_says_otherwise() -> None:
    assert [taint.key for taint in Pool.from_params({"name": "gpu"}).created_taints] == ["nvidia.com/gpu"]
    assert Pool.from_params({"name": "gpu", "taints": []}).created_taints == ()


@pytest.mark.parametrize(
    ("ami", "warned"),
    [
        ({"release": "v20260512"}, True),
        ({"release": RESTARTING_RELEASE}, False),
        ({"release": "latest"}, False),
        ({}, False),
        ({"family": "bottlerocket", "release": "1.40.0"}, False),
    ],
)
def test_releases_whose_containerd_keeps_its_configuration_are_warned_of(ami: Json, warned: bool) -> None:
    found = [warning for warning in pool_warnings(Pool.from_params({"name": "gpu", "ami": ami})) if "cgroupsPath" in warning]
    assert len(found) == (1 if warned else 0)
