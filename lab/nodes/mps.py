"""Pure: NVIDIA's MPS control daemon on a node (k8s-device-plugin v0.19.3, cmd/mps-control-daemon, internal/plugin/mps.go)."""

from __future__ import annotations

import posixpath
import re

from lab.kubernetes.client import Json
from lab.nodes.sharing import Config, ConfigRefused, Gpus, device_map, replicas, shared_name

EXCLUSIVE, DEFAULT = "EXCLUSIVE_PROCESS", "DEFAULT"
CONTAINER_ROOT = "/mps"
MOST_CLIENTS, MOST_CLIENTS_BEFORE = 48, 16
SINCE: tuple[int, int] = (7, 5)  # mps/device.go, isAtLeastVolta: V100 (7.0) is held to the lower number
_READY_FILE = f"{CONTAINER_ROOT}/.ready"
_PIPE = re.compile(rf"{CONTAINER_ROOT}/(nvidia\.com/[A-Za-z0-9._-]+)/pipe")


def served(config: Config, gpus: Gpus) -> frozenset[str]:
    """The resources for which the daemon runs a server, none without MPS; raises ConfigRefused when it would end (mps/manager.go)."""
    if config.sharing is None or config.strategy != "mps":
        return frozenset()
    if gpus.count == 0:
        raise ConfigRefused("error starting plugins: error getting daemons: failed to initialize NVML: ERROR_LIBRARY_NOT_FOUND")
    present = device_map(config, gpus)
    most = MOST_CLIENTS if gpus.compute is None or gpus.compute >= SINCE else MOST_CLIENTS_BEFORE
    names = [entry.name for entry in config.sharing.resources if shared_name(config, entry.name) in present]
    for name in names:
        if replicas(config, name) > most:
            raise ConfigRefused(
                "error starting plugins: error getting daemons: invalid MPS configuration: "
                f"invalid device maximum allowed replicas exceeded: {replicas(config, name)} > {most}"
            )
    return frozenset(shared_name(config, name) for name in names)


def host_root(pod: Json, container: Json) -> str | None:
    """The folder of the node that the container has under /mps: plugin and daemon meet there. None where it has none."""
    mounts = {posixpath.normpath(m["mountPath"]): m["name"] for m in container.get("volumeMounts") or ()}
    name = mounts.get(CONTAINER_ROOT)
    volume: Json = next((v for v in pod["spec"].get("volumes") or () if v["name"] == name), {})
    path = (volume.get("hostPath") or {}).get("path")
    return None if path is None else posixpath.normpath(path)


def may_set_compute_mode(container: Json) -> bool:
    """nvidia-smi -c takes root on the machine: the daemon's container is privileged in NVIDIA's manifests."""
    return bool((container.get("securityContext") or {}).get("privileged"))


def probe_succeeds(container: Json, serving: frozenset[str], started: bool) -> bool:
    """Whether the readiness probe's command would end well; a container without such a probe is ready when it runs."""
    command = ((container.get("readinessProbe") or {}).get("exec") or {}).get("command")
    if not command:
        return True
    text = " ".join([*command, *(e.get("value") or "" for e in container.get("env") or ())])
    if "nvidia-cuda-mps-control" in text:  # without a pipe directory it looks in /tmp/nvidia-mps, where nobody answers
        asked = _PIPE.findall(text)
        return bool(asked) and serving.issuperset(asked)
    return started if _READY_FILE in text else True
