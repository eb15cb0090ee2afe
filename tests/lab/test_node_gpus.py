# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's GPUs are by the rules of NVIDIA's programs: MPS and admission of pods."""

from __future__ import annotations

import typing as t

import pytest

from lab.nodes import admission, health, mps
from lab.nodes.sharing import Config, ConfigRefused, Gpus, advertised, parse

ROOT = {"MPS_ROOT": "/run/nvidia/mps"}


def config(strategy: str = "mps", replicas: int = 10, settings: dict[str, str] | None = None, mig: str = "none", **more: t.Any) -> Config:
    block = {**more, "resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}
    return parse(
        str({"version": "v1", "flags": {"migStrategy": mig}, "sharing": {strategy: block}}), ROOT if settings is None else settings
    )


# ---- MPS


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (config(), {"nvidia.com/gpu": 10}),
        (config(renameByDefault=True), {"nvidia.com/gpu.shared": 10}),
        (config(replicas=49), {"nvidia.com/gpu": 49}),  # the daemon refuses it, not the plugin
        (parse("flags: {mpsRoot: /run/mps}\nsharing: {mps: {resources: [{name: gpu, replicas: 2}]}}"), {"nvidia.com/gpu": 2}),
    ],
)
def test_what_a_node_advertises_with_mps(found: Config, expected: dict[str, int]) -> None:
    """rm/device_map.go, updateDeviceMapWithReplicas."""
    assert advertised(found, Gpus(count=1)) == expected


@pytest.mark.parametrize(
    ("found", "gpus", "message"),
    [
        (config(settings={}), Gpus(count=1), "using MPS requires --mps-root to be specified"),
        (config(mig="mixed"), Gpus(count=1), "--mig-strategy=mixed is not supported with MPS"),
        (config(mig="single"), Gpus(count=1, mig=(("1g.5gb",) * 7,)), "sharing using MPS is not supported for MIG devices"),
    ],
)
def test_what_ends_the_plugin_with_mps(found: Config, gpus: Gpus, message: str) -> None:
    """cmd/nvidia-device-plugin/main.go, validateFlags; internal/plugin/mps.go, getMPSOptions."""
    with pytest.raises(ConfigRefused, match=message):
        advertised(found, gpus)


@pytest.mark.parametrize(
    ("compute", "replicas", "message"),
    [
        ((8, 6), 48, None),
        ((8, 6), 49, "invalid MPS configuration: invalid device maximum allowed replicas exceeded: 49 > 48"),
        ((7, 5), 48, None),
        ((7, 0), 16, None),
        ((7, 0), 17, "maximum allowed replicas exceeded: 17 > 16"),
        (None, 48, None),
    ],
)
def test_how_many_clients_the_daemon_takes(compute: tuple[int, int] | None, replicas: int, message: str | None) -> None:
    """cmd/mps-control-daemon/mps/device.go: the limit is by compute capability 7.5, whatever its function is called."""
    gpus = Gpus(count=1, compute=compute)
    if message is None:
        assert mps.served(config(replicas=replicas), gpus) == {"nvidia.com/gpu"}
        return
    with pytest.raises(ConfigRefused, match=message):
        mps.served(config(replicas=replicas), gpus)


def test_a_daemon_serves_what_is_shared_by_its_new_name_and_nothing_without_mps() -> None:
    gpus = Gpus(count=1, compute=(8, 6))
    assert mps.served(config(renameByDefault=True), gpus) == {"nvidia.com/gpu.shared"}
    assert mps.served(config("timeSlicing"), gpus) == frozenset()
    assert mps.served(parse(None), gpus) == frozenset()
    assert mps.served(parse("sharing: {mps: {resources: [{name: nvidia.com/mig-1g.5gb, replicas: 2}]}}"), gpus) == frozenset()
    with pytest.raises(ConfigRefused, match="failed to initialize NVML"):
        mps.served(config(), Gpus(count=0))


PIPE = "/mps/nvidia.com/gpu/pipe"


@pytest.mark.parametrize(
    ("command", "env", "serving", "ready"),
    [
        (None, {}, set(), True),
        (["sh", "-c", f"CUDA_MPS_PIPE_DIRECTORY={PIPE} nvidia-cuda-mps-control"], {}, {"nvidia.com/gpu"}, True),
        (["sh", "-c", f"CUDA_MPS_PIPE_DIRECTORY={PIPE} nvidia-cuda-mps-control"], {}, set(), False),
        (["sh", "-c", f"CUDA_MPS_PIPE_DIRECTORY={PIPE} nvidia-cuda-mps-control"], {}, {"nvidia.com/gpu.shared"}, False),
        (["sh", "-c", "echo quit | nvidia-cuda-mps-control"], {"CUDA_MPS_PIPE_DIRECTORY": PIPE}, {"nvidia.com/gpu"}, True),
        (["sh", "-c", "echo quit | nvidia-cuda-mps-control"], {}, {"nvidia.com/gpu"}, False),
        (["cat", "/mps/.ready"], {}, set(), False),
        (["cat", "/mps/.ready"], {}, {"nvidia.com/gpu"}, True),
        (["true"], {}, set(), True),
    ],
)
def test_what_the_readiness_probe_of_a_daemon_finds(command: list[str] | None, env: dict[str, str], serving: set[str], ready: bool) -> None:
    """cmd/mps-control-daemon/mps/root.go: where the pipe of a resource is; main.go: /mps/.ready once all servers are started."""
    container: dict[str, t.Any] = {"name": "c", "env": [{"name": k, "value": v} for k, v in env.items()]}
    if command is not None:
        container["readinessProbe"] = {"exec": {"command": command}}
    assert mps.probe_succeeds(container, frozenset(serving), started=bool(serving)) is ready


@pytest.mark.parametrize(
    ("mounts", "volume", "root"),
    [
        ([{"name": "m", "mountPath": "/mps/"}], {"hostPath": {"path": "/run/nvidia/mps/"}}, "/run/nvidia/mps"),
        ([{"name": "m", "mountPath": "/dev/shm"}], {"hostPath": {"path": "/run/nvidia/mps"}}, None),
        ([{"name": "m", "mountPath": "/mps"}], {"emptyDir": {}}, None),
        ([], {"emptyDir": {}}, None),
    ],
)
def test_where_plugin_and_daemon_meet(mounts: list[dict[str, str]], volume: dict[str, t.Any], root: str | None) -> None:
    assert mps.host_root({"spec": {"volumes": [{"name": "m", **volume}]}}, {"volumeMounts": mounts}) == root


# ---- admission

IMAGE = "nvcr.io/nvidia/k8s-device-plugin:v0.20.1"


@pytest.mark.parametrize(
    ("found", "image", "refuses"),
    [
        (parse(None), IMAGE, False),
        (config("timeSlicing"), IMAGE, False),
        (config("timeSlicing", failRequestsGreaterThanOne=True), IMAGE, True),
        (config(), IMAGE, True),
        (config(failRequestsGreaterThanOne=False), IMAGE, False),
        (config(failRequestsGreaterThanOne=False), "registry:5000/plugin:0.19.3", True),
        (config(failRequestsGreaterThanOne=False), "plugin@sha256:1", False),
    ],
)
def test_which_plugins_refuse_a_request_of_several_shares(found: Config, image: str, refuses: bool) -> None:
    """internal/rm/rm.go, ValidateRequest; the default by strategy, and MPS before 0.20.0, whose setting was ignored."""
    assert admission.refuses_several(found, image, "nvidia.com/gpu") is refuses
    assert admission.refuses_several(found, image, "nvidia.com/mig-1g.5gb") is False


def pod(*limits: dict[str, str], init: tuple[dict[str, str], ...] = ()) -> dict[str, t.Any]:
    containers, first = ([{"resources": {"limits": one}} for one in found] for found in (limits, init))
    return {"spec": {"containers": containers, "initContainers": first}}


GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("found", "number"),
    [
        (pod({GPU: "1"}), None),
        (pod({GPU: "1"}, {GPU: "1"}), None),
        (pod({GPU: "2"}), 2),
        (pod({"cpu": "2"}, {GPU: "3"}), 3),
        (pod({GPU: "1"}, init=({GPU: "2"},)), 2),
        (pod({"nvidia.com/mig-1g.5gb": "2"}), None),
    ],
)
def test_a_container_may_ask_for_one_share(found: dict[str, t.Any], number: int | None) -> None:
    """kubelet asks for each container's devices: two containers with one share each are no request of two."""
    message = admission.refusal(found, {GPU: True})
    if number is None:
        assert message is None
        return
    assert message == (
        "Pod was rejected: Allocate failed due to rpc error: code = Unknown desc = invalid allocation request for "
        f'"nvidia.com/gpu": invalid request: maximum request size for shared resources is 1; found {number}, which is unexpected'
    )
    assert admission.refusal(found, {GPU: False}) is None


# ---- health


@pytest.mark.parametrize(
    ("xid", "environment", "ignored"),
    [
        (79, {}, False),
        (13, {}, True),
        (109, {}, True),
        (79, {"DP_DISABLE_HEALTHCHECKS": "48, 79"}, True),
        (48, {"DP_DISABLE_HEALTHCHECKS": "79"}, False),
        (79, {"DP_DISABLE_HEALTHCHECKS": "all"}, True),
        (79, {"DP_DISABLE_HEALTHCHECKS": "xids"}, True),
        (79, {"DP_DISABLE_HEALTHCHECKS": "all", "DP_ENABLE_HEALTHCHECKS": "79"}, True),
        (13, {"DP_ENABLE_HEALTHCHECKS": "13"}, False),
        (31, {"DP_ENABLE_HEALTHCHECKS": "all"}, False),
        (79, {"DP_DISABLE_HEALTHCHECKS": "79", "DP_ENABLE_HEALTHCHECKS": "79"}, False),
        (79, {"DP_DISABLE_HEALTHCHECKS": "nonsense"}, False),
    ],
)
def test_which_critical_errors_count(xid: int, environment: dict[str, str], ignored: bool) -> None:
    """internal/rm/health.go, getDisabledHealthCheckXids and checkHealth."""
    assert health.ignored(xid, environment) is ignored
