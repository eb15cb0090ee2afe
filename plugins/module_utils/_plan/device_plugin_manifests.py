# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""NVIDIA's device plugin as Kubernetes objects. Pure.

One DaemonSet per configuration, chosen by node affinity, its file mounted where the plugin reads it, a hash of all of it in the pod
template: a change restarts the pods of that configuration alone. NVIDIA's config-manager, which would switch files by node label, is not
used: run once it does not see the label (k8s-device-plugin#1645), and it may end in a panic when it signals (#1726).
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import FIELD_MANAGER, MANAGED_BY_LABEL

Manifest = dict[str, t.Any]

NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
HASH_ANNOTATION = "gpuops.eks/hash"
RESOURCE_ANNOTATION = "gpuops.eks/resource"
REPLICAS_ANNOTATION = "gpuops.eks/replicas"
PLUGIN = "nvidia-device-plugin"
CONTAINER = "nvidia-device-plugin-ctr"

_KUBELET_DIRECTORY = "/var/lib/kubelet/device-plugins"
_CDI_DIRECTORY = "/var/run/cdi"
_DRIVER_ROOT = "/driver-root"
_TOLERATIONS = (
    {"key": "CriticalAddonsOnly", "operator": "Exists"},
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
)


def object_name(configuration: str) -> str:
    """The name of a configuration's DaemonSet and ConfigMap."""
    return f"{PLUGIN}-{configuration}"


def is_ours(labels: t.Mapping[str, str]) -> bool:
    """Whether an object with these labels is part of the device plugin that we installed."""
    return labels.get(MANAGED_BY_LABEL) == FIELD_MANAGER and labels.get(NAME_LABEL) == PLUGIN


def selector() -> str:
    """The label selector of what is ours."""
    return f"{MANAGED_BY_LABEL}={FIELD_MANAGER},{NAME_LABEL}={PLUGIN}"


def namespace(name: str) -> Manifest:
    """The plugin mounts directories of the host, which Pod Security Admission lets only privileged namespaces do."""
    labels = {NAME_LABEL: PLUGIN, MANAGED_BY_LABEL: FIELD_MANAGER, "pod-security.kubernetes.io/enforce": "privileged"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def config_map(wanted: DevicePlugin, configuration: Configuration) -> Manifest:
    metadata = {"name": object_name(configuration.name), "namespace": wanted.namespace, "labels": _labels(configuration)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": configuration.file}}


def daemon_set(wanted: DevicePlugin, configuration: Configuration) -> Manifest:
    sharing, labels = configuration.sharing, _labels(configuration)
    selected = {key: value for key, value in labels.items() if key != MANAGED_BY_LABEL}
    pod_spec = _pod_spec(wanted, configuration)
    metadata = {
        "name": object_name(configuration.name),
        "namespace": wanted.namespace,
        "labels": labels,
        "annotations": {RESOURCE_ANNOTATION: sharing.resource, REPLICAS_ANNOTATION: str(sharing.replicas)},
    }
    annotations = {HASH_ANNOTATION: content_hash(wanted, configuration)}
    spec = {
        "selector": {"matchLabels": selected},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod_spec},
    }
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec}


def content_hash(wanted: DevicePlugin, configuration: Configuration) -> str:
    """Of everything that a pod of this configuration is made of: its file and its specification."""
    content = json.dumps([configuration.file, _pod_spec(wanted, configuration)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _labels(configuration: Configuration) -> dict[str, str]:
    return {
        NAME_LABEL: PLUGIN,
        INSTANCE_LABEL: configuration.name,
        COMPONENT_LABEL: "device-plugin",
        MANAGED_BY_LABEL: FIELD_MANAGER,
    }


def tolerations(wanted: DevicePlugin) -> list[Manifest]:
    return [*(dict(toleration) for toleration in _TOLERATIONS), *(dict(toleration) for toleration in wanted.tolerations)]


def _pod_spec(wanted: DevicePlugin, configuration: Configuration) -> Manifest:
    volumes, mounts = _volumes(configuration)
    spec: Manifest = {
        "priorityClassName": "system-node-critical",
        "automountServiceAccountToken": False,  # it asks the API server for nothing
        "tolerations": tolerations(wanted),
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": configuration.terms}}},
        "containers": [_container(wanted, configuration, mounts)],
        "volumes": volumes,
    }
    if wanted.image.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in wanted.image.pull_secrets]
    return spec


def _container(wanted: DevicePlugin, configuration: Configuration, mounts: list[Manifest]) -> Manifest:
    environment = {"CONFIG_FILE": "/config/config.yaml", "NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    return {
        "name": CONTAINER,
        "image": wanted.image.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": [PLUGIN],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "securityContext": _security_context(configuration),
        "volumeMounts": mounts,
    }


def _security_context(configuration: Configuration) -> Manifest:
    """As NVIDIA's chart: privileged to pass device specifications, SYS_ADMIN for volume mounts, otherwise nothing.

    The chart adds SYS_ADMIN whenever a ConfigMap is used, since it cannot tell what is in it; here that is known.
    """
    plugin = configuration.flags.get("plugin", {})
    if plugin.get("passDeviceSpecs"):
        return {"privileged": True}
    if "volume-mounts" in plugin.get("deviceListStrategy", ()):
        return {"capabilities": {"add": ["SYS_ADMIN"]}}
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _volumes(configuration: Configuration) -> tuple[list[Manifest], list[Manifest]]:
    """(volumes, mounts): kubelet's sockets and the file; for CDI also its directory and the driver's root."""
    volumes: list[Manifest] = [
        {"name": "device-plugins", "hostPath": {"path": _KUBELET_DIRECTORY, "type": "Directory"}},
        {"name": "config", "configMap": {"name": object_name(configuration.name)}},
    ]
    mounts: list[Manifest] = [
        {"name": "device-plugins", "mountPath": _KUBELET_DIRECTORY},
        {"name": "config", "mountPath": "/config", "readOnly": True},
    ]
    plugin = configuration.flags.get("plugin", {})
    if any(strategy.startswith("cdi-") for strategy in plugin.get("deviceListStrategy", ())):
        root = configuration.flags.get("nvidiaDriverRoot", "/")
        volumes += [
            {"name": "cdi", "hostPath": {"path": _CDI_DIRECTORY, "type": "DirectoryOrCreate"}},
            {"name": "driver-root", "hostPath": {"path": root, "type": "Directory"}},
        ]
        mounts += [
            {"name": "cdi", "mountPath": _CDI_DIRECTORY},
            {"name": "driver-root", "mountPath": plugin.get("containerDriverRoot", _DRIVER_ROOT), "readOnly": True},
        ]
    return volumes, mounts
