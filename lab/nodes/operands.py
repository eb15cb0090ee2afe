"""Pure: what NVIDIA's GPU Operator makes of a ClusterPolicy and of the nodes (gpu-operator v26.7.0, controllers and assets).

Objects have what the lab's other loops look at; the operator's own have more containers, mounts and rights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.kubernetes.client import Json
from lab.nodes.podconfig import CONFIG_LABEL

FOUND = "feature.node.kubernetes.io/pci-10de.present"  # by node feature discovery
FEATURE_PREFIX = "feature.node.kubernetes.io/"
PRESENT = "nvidia.com/gpu.present"
OPERANDS = "nvidia.com/gpu.deploy.operands"
DEPLOY = "nvidia.com/gpu.deploy."
MIG_CAPABLE, MIG_CONFIG, MIG_STATE = "nvidia.com/mig.capable", "nvidia.com/mig.config", "nvidia.com/mig.config.state"
DEFAULT_MIG_CONFIG = "all-disabled"
MIG_VOLUME = "mig-parted-config"
_LABELLED = (
    "driver", "gpu-feature-discovery", "container-toolkit", "device-plugin", "dcgm", "dcgm-exporter", "node-status-exporter", "operator-validator",
    "client",
)  # fmt: skip
_SOURCES, _CONFIG = "/available-configs", "/config"


@dataclass(frozen=True, slots=True)
class Operand:
    """One DaemonSet: the operator's state that it belongs to, the block of the ClusterPolicy, and by which labels nodes run it."""

    state: str
    name: str
    block: str
    selector: tuple[str, ...]


OPERANDS_IN_ORDER = (
    Operand("state-driver", "nvidia-driver-daemonset", "driver", ("driver",)),
    Operand("state-container-toolkit", "nvidia-container-toolkit-daemonset", "toolkit", ("container-toolkit",)),
    Operand("state-operator-validation", "nvidia-operator-validator", "validator", ("operator-validator",)),
    Operand("state-device-plugin", "nvidia-device-plugin-daemonset", "devicePlugin", ("device-plugin",)),
    Operand("state-mps-control-daemon", "nvidia-device-plugin-mps-control-daemon", "devicePlugin", ("device-plugin", "mps")),
    Operand("state-dcgm", "nvidia-dcgm", "dcgm", ("dcgm",)),
    Operand("state-dcgm-exporter", "nvidia-dcgm-exporter", "dcgmExporter", ("dcgm-exporter",)),
    Operand("gpu-feature-discovery", "gpu-feature-discovery", "gfd", ("gpu-feature-discovery",)),
    Operand("state-mig-manager", "nvidia-mig-manager", "migManager", ("mig-manager",)),
)


def wanted(spec: Mapping[str, Json], *, has_gpu_nodes: bool) -> list[Operand]:
    """The operands that a ClusterPolicy turns on; without a GPU node the operator makes none."""
    return [one for one in OPERANDS_IN_ORDER if has_gpu_nodes and (spec.get(one.block) or {}).get("enabled", True)]


def node_labels(labels: Mapping[str, str], spec: Mapping[str, Json]) -> dict[str, str | None]:
    """The change of a node's labels: which operands it runs, and for GPUs that can be parted a layout (state_manager.go, nodelabeling)."""
    if labels.get(FOUND) != "true":
        return {}
    if labels.get(OPERANDS) == "false":
        own = [key for key in labels if key.startswith(DEPLOY) and key != OPERANDS]
        return {PRESENT: "true", **dict.fromkeys(own)} if own or labels.get(PRESENT) != "true" else {}
    mine = {PRESENT: "true", **{DEPLOY + name: "true" for name in _LABELLED}}
    if labels.get(MIG_CAPABLE) == "true":
        mine[f"{DEPLOY}mig-manager"] = "true"
        manager = spec.get("migManager") or {}
        if manager.get("enabled", True) and (manager.get("config") or {}).get("default") == DEFAULT_MIG_CONFIG:
            mine[MIG_CONFIG] = DEFAULT_MIG_CONFIG
    return {key: value for key, value in mine.items() if not labels.get(key)}


def daemon_set(operand: Operand, policy: Json, namespace: str) -> Json:
    """The operand's DaemonSet, which goes with its ClusterPolicy."""
    spec = policy["spec"]
    selector = {"nvidia.com/mps.capable" if name == "mps" else DEPLOY + name: "true" for name in operand.selector}
    metadata, labels = policy["metadata"], {"app": operand.name}
    owner = {"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "name": metadata["name"], "uid": metadata["uid"], "controller": True}
    pod = {
        "nodeSelector": selector,
        "tolerations": (spec.get("daemonsets") or {}).get("tolerations") or [],
        "priorityClassName": "system-node-critical",
        **_content(operand, spec),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": operand.name, "namespace": namespace, "labels": labels, "ownerReferences": [owner]},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def not_ready(daemon_sets: Iterable[tuple[Operand, Json]]) -> list[str]:
    """The states whose pods are not all there (object_controls.go, isDaemonSetReady)."""
    return [operand.state for operand, found in daemon_sets if not _is_ready(found)]


def status(states: list[str], *, has_gpu_nodes: bool, has_feature_labels: bool) -> Json:
    """The ClusterPolicy's status. Ready also comes where no node was found; the reason alone says so (clusterpolicy_controller.go)."""
    if states:
        message = f"ClusterPolicy is not ready; states not ready: [{' '.join(states)}]"
        return {
            "state": "notReady",
            "conditions": [_condition("Ready", False, "Error"), _condition("Error", True, "OperandNotReady", message)],
        }
    if not has_feature_labels:
        reason, message = "NFDLabelsMissing", "No NFD labels found"
    elif not has_gpu_nodes:
        reason, message = "NoGPUNodes", "No GPU node found, watching for new nodes to join the cluster."
    else:
        reason, message = "Reconciled", "ClusterPolicy is ready as all resources have been successfully reconciled"
    return {"state": "ready", "conditions": [_condition("Ready", True, reason, message), _condition("Error", False, "Ready")]}


def _condition(kind: str, value: bool, reason: str, message: str = "") -> Json:
    return {"type": kind, "status": str(value), "reason": reason, "message": message}


def _is_ready(found: Json) -> bool:
    state = found.get("status") or {}
    desired = state.get("desiredNumberScheduled", 0)
    seen = state.get("observedGeneration", 0) >= found["metadata"].get("generation", 1)
    unavailable = state.get("numberUnavailable", 0)
    return bool(seen and (desired == 0 or (not unavailable and state.get("updatedNumberScheduled", 0) == desired)))


def _content(operand: Operand, spec: Mapping[str, Json]) -> Json:
    block = spec.get(operand.block) or {}
    image = f"{block.get('repository', 'nvcr.io/nvidia')}/{block.get('image', operand.name)}:{block.get('version', 'v26.7.2')}"
    programs = {
        "nvidia-device-plugin-daemonset": "nvidia-device-plugin",
        "gpu-feature-discovery": "gpu-feature-discovery",
        "nvidia-device-plugin-mps-control-daemon": "mps-control-daemon",
    }
    if operand.name in programs:
        return _configured(programs[operand.name], image, spec, block.get("env") or [])
    container: Json = {"name": operand.name, "image": image, "command": [operand.name]}
    if operand.name != "nvidia-mig-manager":
        return {"containers": [container]}
    config = (block.get("config") or {}).get("name")
    volumes = [{"name": MIG_VOLUME, "configMap": {"name": config}}] if config else []
    mounts = [{"name": MIG_VOLUME, "mountPath": f"/{MIG_VOLUME}"}] if config else []
    return {"containers": [container | {"env": block.get("env") or [], "volumeMounts": mounts}], "volumes": volumes}


def _configured(program: str, image: str, spec: Mapping[str, Json], given: list[Json]) -> Json:
    """A program of the device plugin's image, with config-manager where the ClusterPolicy names a ConfigMap for it."""
    plugin = spec.get("devicePlugin") or {}
    root = (plugin.get("mps") or {}).get("root") or "/run/nvidia/mps"
    config = plugin.get("config") or {}
    environment = {"MIG_STRATEGY": (spec.get("mig") or {}).get("strategy") or "single", "MPS_ROOT": root}
    mounts = [{"name": "mps-root", "mountPath": "/mps"}]
    volumes: list[Json] = [{"name": "mps-root", "hostPath": {"path": root}}]
    managers: tuple[list[Json], list[Json]] = ([], [])
    if config.get("name"):
        environment["CONFIG_FILE"] = f"{_CONFIG}/config.yaml"
        mounts.append({"name": "config", "mountPath": _CONFIG})
        volumes += [{"name": "available-configs", "configMap": {"name": config["name"]}}, {"name": "config", "emptyDir": {}}]
        managers = ([_manager("config-manager-init", image, config)], [_manager("config-manager", image, config)])
    main = {
        "name": program,
        "image": image,
        "command": [program],
        "env": [*({"name": key, "value": value} for key, value in environment.items()), *given],
        "securityContext": {"privileged": True},
        "volumeMounts": mounts,
    }
    return {"initContainers": managers[0], "containers": [main, *managers[1]], "volumes": volumes}


def _manager(name: str, image: str, config: Json) -> Json:
    environment = {"NODE_LABEL": CONFIG_LABEL, "CONFIG_FILE_SRCDIR": _SOURCES, "DEFAULT_CONFIG": config.get("default") or ""}
    return {
        "name": name,
        "image": image,
        "command": ["config-manager"],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "volumeMounts": [{"name": "available-configs", "mountPath": _SOURCES}, {"name": "config", "mountPath": _CONFIG}],
    }
