# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The device plugin's rules: config files, what is advertised, GFD's labels, and which file a container reads."""

from __future__ import annotations

import datetime
import typing as t

import pytest

from lab.nodes import features, podconfig, podstatus
from lab.nodes.sharing import ConfigRefused, Gpus, NotImitated, advertised, parse

TS10 = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}"


def slicing(replicas: object, **more: object) -> str:
    return str({"version": "v1", "sharing": {"timeSlicing": {**more, "resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}}})


@pytest.mark.parametrize(
    ("text", "gpus", "expected"),
    [
        pytest.param(None, 1, {"nvidia.com/gpu": 1}, id="g5.2xlarge, none"),
        pytest.param("", 1, {"nvidia.com/gpu": 1}, id="empty file"),
        pytest.param(TS10, 1, {"nvidia.com/gpu": 10}, id="g5.2xlarge, timeSlicing 10"),
        pytest.param(slicing(4), 4, {"nvidia.com/gpu": 16}, id="g4dn.12xlarge, timeSlicing 4"),
        pytest.param(slicing(10, renameByDefault=True), 8, {"nvidia.com/gpu.shared": 80}, id="g5.48xlarge, renamed"),
        pytest.param(slicing(2, failRequestsGreaterThanOne=True), 1, {"nvidia.com/gpu": 2}, id="failRequestsGreaterThanOne does not count"),
        pytest.param(
            "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 3, rename: gpu.mine, devices: [0]}]}}",
            2,
            {"nvidia.com/gpu": 6},
            id="rename and devices are reset, the prefix is added",
        ),
        pytest.param(
            "sharing: {timeSlicing: {resources: [{name: nvidia.com/mig-1g.5gb, replicas: 3}]}}",
            2,
            {"nvidia.com/gpu": 2},
            id="another resource's replicas",
        ),
        pytest.param("flags: {migStrategy: single}", 2, {"nvidia.com/gpu": 2}, id="single without MIG mode is none"),
        pytest.param("flags: {migStrategy: mixed}", 2, {"nvidia.com/gpu": 2}, id="mixed without MIG mode is none"),
        pytest.param("flags: {failOnInitError: false}", 0, {}, id="no GPU, and told to wait"),
        pytest.param("shearing: {}\nflags: {nonsense: 1}", 1, {"nvidia.com/gpu": 1}, id="misspelt keys are dropped silently"),
    ],
)
def test_what_a_node_advertises(text: str | None, gpus: int, expected: dict[str, int]) -> None:
    assert advertised(parse(text), Gpus(count=gpus)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (slicing(1), "number of replicas must be >= 2"),
        (slicing(0), "number of replicas must be >= 2"),
        (slicing("ten"), "cannot unmarshal string"),
        (slicing(True), "cannot unmarshal bool"),
        ("sharing: {timeSlicing: {}}", "no resources specified"),
        ("sharing: {timeSlicing: {resources: []}}", "no resources specified"),
        ("sharing: {timeSlicing: {resources: [{replicas: 2}]}}", "no resource name specified"),
        ("sharing: {timeSlicing: {resources: [{name: gpu}]}}", "no replicas specified"),
        ("sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: some}]}}", "only valid string input is 'all'"),
        ("sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: 0}]}}", "must be > 0"),
        ("sharing: {timeSlicing: {resources: [{name: 'GPU!', replicas: 2}]}}", "incorrect format for resource name"),
        ("sharing: {mps: {resources: []}}", "no resources specified"),
        ("version: v2", "unknown version: v2"),
        ("version: [", "unmarshal error"),
        ("- a list", "cannot unmarshal array"),
        ("flags: {migStrategy: some}", "unknown MIG strategy: some"),
        ("flags: {plugin: {deviceListStrategy: [envvar, other]}}", "invalid --device-list-strategy option"),
        ("flags: {plugin: {deviceIDStrategy: name}}", "invalid --device-id-strategy option: name"),
    ],
)
def test_configs_that_end_the_plugin(text: str, message: str) -> None:
    with pytest.raises(ConfigRefused, match=message):
        advertised(parse(text), Gpus(count=1))


def test_no_gpu_ends_the_plugin_unless_told_otherwise() -> None:
    with pytest.raises(ConfigRefused, match="no NVIDIA GPU found"):
        advertised(parse(None), Gpus(count=0))
    assert advertised(parse(None, {"FAIL_ON_INIT_ERROR": "false"}), Gpus(count=0)) == {}


def test_environment_comes_before_the_file() -> None:
    assert parse("flags: {migStrategy: single}", {"MIG_STRATEGY": "mixed"}).mig_strategy == "mixed"


def test_mps_wins_over_time_slicing() -> None:
    entries = "{resources: [{name: gpu, replicas: 4}]}"
    config = parse(f"sharing: {{timeSlicing: {entries}, mps: {entries}}}")
    assert config.sharing is not None
    assert config.sharing.strategy == "mps"


def test_labels_of_gpu_feature_discovery() -> None:
    shared = features.labels(parse(TS10), Gpus(count=1), features.model("a10g", 16384))
    assert shared["nvidia.com/gpu.product"] == "NVIDIA-A10G-SHARED"
    assert (shared["nvidia.com/gpu.count"], shared["nvidia.com/gpu.replicas"]) == ("1", "10")
    assert shared["nvidia.com/gpu.sharing-strategy"] == "time-slicing"
    renamed = features.labels(parse(slicing(10, renameByDefault=True)), Gpus(count=1), features.model("a10g", 16384))
    assert renamed["nvidia.com/gpu.product"] == "NVIDIA-A10G"
    plain = features.labels(parse(None), Gpus(count=4), features.model("t4", 16384))
    assert (plain["nvidia.com/gpu.replicas"], plain["nvidia.com/gpu.sharing-strategy"]) == ("1", "none")
    assert "nvidia.com/gpu.product" not in features.labels(parse(None), Gpus(count=1), features.model("of another year", 16384))


# ---- which file

MAPS = {
    ("kube-system", "one"): {"config.yaml": TS10},
    ("kube-system", "many"): {"default": "version: v1", "ts10": TS10},
    ("kube-system", "named"): {"a": "version: v1", "b": TS10},
}


def config_maps(namespace: str, name: str) -> dict[str, str] | None:
    return MAPS.get((namespace, name))


def pod(
    *,
    volumes: list[dict[str, t.Any]] | None = None,
    mounts: list[dict[str, t.Any]] | None = None,
    env: dict[str, str] | None = None,
    command: list[str] | None = None,
    args: list[str] | None = None,
    init: list[dict[str, t.Any]] | None = None,
    sidecars: list[dict[str, t.Any]] | None = None,
) -> dict[str, t.Any]:
    container: dict[str, t.Any] = {
        "name": "plugin",
        "command": ["nvidia-device-plugin"] if command is None else command,
        "args": args or [],
        "env": [{"name": k, "value": v} for k, v in (env or {}).items()],
        "volumeMounts": mounts or [],
    }
    spec = {"volumes": volumes or [], "initContainers": init or [], "containers": [container, *(sidecars or [])]}
    return {"metadata": {"namespace": "kube-system", "name": "p"}, "spec": spec}


def read(found: dict[str, t.Any], label: str = "") -> str | None:
    container = podconfig.container_of(found, podconfig.PLUGIN)
    assert container is not None
    return podconfig.config_file(found, container, label, config_maps).text


ONE = [{"name": "config", "configMap": {"name": "one"}}]
AT_CONFIG = [{"name": "config", "mountPath": "/config"}]


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(pod(volumes=ONE, mounts=AT_CONFIG, env={"CONFIG_FILE": "/config/config.yaml"}), id="environment"),
        pytest.param(pod(volumes=ONE, mounts=AT_CONFIG, args=["--config-file=/config/config.yaml"]), id="argument with ="),
        pytest.param(pod(volumes=ONE, mounts=AT_CONFIG, args=["--config-file", "/config/config.yaml"]), id="argument and value"),
        pytest.param(
            pod(volumes=ONE, mounts=AT_CONFIG, command=[], args=["/usr/bin/nvidia-device-plugin", "--config-file=/config/config.yaml"]),
            id="program in args, with its directory",
        ),
        pytest.param(
            pod(volumes=ONE, mounts=AT_CONFIG, env={"CONFIG_FILE": "/elsewhere"}, args=["--config-file=/config/config.yaml"]),
            id="argument over environment",
        ),
        pytest.param(
            pod(
                volumes=[{"name": "config", "configMap": {"name": "many", "items": [{"key": "ts10", "path": "config.yaml"}]}}],
                mounts=AT_CONFIG,
                env={"CONFIG_FILE": "/config/config.yaml"},
            ),
            id="items",
        ),
        pytest.param(
            pod(
                volumes=[{"name": "config", "configMap": {"name": "many"}}],
                mounts=[{"name": "config", "mountPath": "/etc/plugin.yaml", "subPath": "ts10"}],
                env={"CONFIG_FILE": "/etc/plugin.yaml"},
            ),
            id="subPath",
        ),
        pytest.param(
            pod(
                volumes=[{"name": "config", "projected": {"sources": [{"configMap": {"name": "one"}}]}}],
                mounts=AT_CONFIG,
                env={"CONFIG_FILE": "/config/config.yaml"},
            ),
            id="projected",
        ),
        pytest.param(
            pod(
                volumes=[{"name": "all", "emptyDir": {}}, *ONE],
                mounts=[{"name": "all", "mountPath": "/"}, *AT_CONFIG],
                env={"CONFIG_FILE": "/config/config.yaml"},
            ),
            id="the longest mount",
        ),
    ],
)
def test_the_file_that_the_container_mounts(found: dict[str, t.Any]) -> None:
    assert read(found) == TS10


def test_without_a_config_file_there_is_no_text() -> None:
    assert read(pod()) is None


def test_other_programs_are_no_plugin() -> None:
    assert podconfig.container_of(pod(command=["sleep"], args=["nvidia-device-plugin"]), podconfig.PLUGIN) is None


def test_an_absent_config_map_keeps_the_container_from_starting() -> None:
    volumes = [{"name": "config", "configMap": {"name": "absent"}}]
    with pytest.raises(podconfig.NotMounted, match='configmap "absent" not found'):
        read(pod(volumes=volumes, mounts=AT_CONFIG, env={"CONFIG_FILE": "/config/config.yaml"}))
    volumes = [{"name": "config", "configMap": {"name": "many", "items": [{"key": "no", "path": "config.yaml"}]}}]
    with pytest.raises(podconfig.NotMounted, match="non-existent config key: no"):
        read(pod(volumes=volumes, mounts=AT_CONFIG, env={"CONFIG_FILE": "/config/config.yaml"}))


def test_an_absent_file_ends_the_plugin() -> None:
    with pytest.raises(FileNotFoundError, match=r"open /config/other\.yaml"):
        read(pod(volumes=ONE, mounts=AT_CONFIG, env={"CONFIG_FILE": "/config/other.yaml"}))
    with pytest.raises(FileNotFoundError):
        read(pod(env={"CONFIG_FILE": "/not/mounted"}))


def test_host_files_are_not_imitated() -> None:
    with pytest.raises(NotImitated, match="hostPath"):
        read(pod(volumes=[{"name": "config", "hostPath": {"path": "/etc"}}], mounts=AT_CONFIG, env={"CONFIG_FILE": "/config/config.yaml"}))


def managed(name: str, *, sidecar: bool, **env: str) -> dict[str, t.Any]:
    """A pod as NVIDIA's chart makes it for named configs."""
    both = [{"name": "available-configs", "mountPath": "/available-configs"}, *AT_CONFIG]
    manager = {
        "command": ["config-manager"],
        "env": [{"name": k, "value": v} for k, v in {"CONFIG_FILE_SRCDIR": "/available-configs", **env}.items()],
        "volumeMounts": both,
    }
    return pod(
        volumes=[{"name": "available-configs", "configMap": {"name": name}}, {"name": "config", "emptyDir": {}}],
        mounts=both,
        env={"CONFIG_FILE": "/config/config.yaml"},
        init=[{"name": "init", **manager}],
        sidecars=[{"name": "sidecar", **manager}] if sidecar else [],
    )


def test_the_sidecar_follows_the_nodes_label() -> None:
    assert read(managed("many", sidecar=True, DEFAULT_CONFIG="default"), "ts10") == TS10
    assert read(managed("many", sidecar=True, DEFAULT_CONFIG="default"), "") == "version: v1"


def test_the_init_container_alone_does_not_see_the_label() -> None:
    assert read(managed("many", sidecar=False, DEFAULT_CONFIG="default"), "ts10") == "version: v1"


@pytest.mark.parametrize(
    ("names", "label", "default", "fallbacks", "expected"),
    [
        (["default", "x"], "x", "default", [], "x"),
        (["default", "x"], "", "x", [], "x"),
        (["default", "x"], "", "", ["named", "single"], "default"),
        (["x"], "", "", ["named", "single"], "x"),
        (["x", "y"], "", "", ["named", "single", "empty"], None),
    ],
)
def test_config_managers_choice(names: list[str], label: str, default: str, fallbacks: list[str], expected: str | None) -> None:
    assert podconfig.choose(names, label, default, fallbacks) == expected


@pytest.mark.parametrize(
    ("names", "label", "default", "fallbacks", "message"),
    [
        ([], "", "", ["named"], "no configuration files"),
        (["x"], "y", "x", [], "specified config y does not exist"),
        (["x"], "", "y", [], "specified config y does not exist"),
        (["x", "y"], "", "", ["named", "single"], "all fallbacks failed"),
        (["x"], "", "", ["other"], "unknown fallback strategy: other"),
    ],
)
def test_config_manager_ends_where_nothing_fits(names: list[str], label: str, default: str, fallbacks: list[str], message: str) -> None:
    with pytest.raises(podconfig.InitFailed, match=message):
        podconfig.choose(names, label, default, fallbacks)


# ---- what a kubelet says of it

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


def test_a_crashing_container_makes_the_pod_unready_and_recovers() -> None:
    found = pod()
    found["status"] = {
        "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "plugin", "ready": True, "restartCount": 0, "state": {"running": {}}}],
    }
    why = podstatus.Waiting(container="plugin", reason="CrashLoopBackOff", message="number of replicas must be >= 2", crashed=True)
    found["status"] |= podstatus.waiting(found, why, NOW)["status"]
    assert podstatus.condition(found, "Ready") == "False"
    assert podstatus.condition(found, "Initialized") == "True"
    [entry] = found["status"]["containerStatuses"]
    assert entry["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert "number of replicas must be >= 2" in entry["lastState"]["terminated"]["message"]
    assert entry["restartCount"] == 1
    found["status"] |= podstatus.running(found, NOW)["status"]
    assert podstatus.condition(found, "Ready") == "True"
    assert "running" in found["status"]["containerStatuses"][0]["state"]
