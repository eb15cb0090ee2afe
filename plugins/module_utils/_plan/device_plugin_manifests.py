# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""NVIDIA's device plugin, its MPS control daemon and GPU feature discovery as Kubernetes objects. Pure.

One DaemonSet of each per configuration, chosen by node affinity, its file mounted where the programs read it, a hash of all of it in the pod
template: a change restarts the pods of that configuration alone. NVIDIA's config-manager, which would switch files by node label, is not
used: run once it does not see the label (k8s-device-plugin#1645), and it may end in a panic when it signals (#1726).
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import FIELD_MANAGER, MANAGED_BY_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import RESOURCES_ANNOTATION, SHARING_ANNOTATION, read_note

Manifest = dict[str, t.Any]

NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
HASH_ANNOTATION = "gpuops.eks/hash"
APPLIED_ANNOTATION = "gpuops.eks/applied"
STRATEGY_LABEL = "gpuops.eks/strategy"  # of the plugin's pods, for what must not run beside them
PLUGIN = "nvidia-device-plugin"
CONTAINER = "nvidia-device-plugin-ctr"
DEVICE_PLUGIN, MPS_DAEMON, FEATURE_DISCOVERY = "device-plugin", "mps-control-daemon", "gpu-feature-discovery"  # values of COMPONENT_LABEL

_DAEMON_SETS = {DEVICE_PLUGIN: PLUGIN, MPS_DAEMON: "nvidia-mps", FEATURE_DISCOVERY: FEATURE_DISCOVERY}
_KUBELET_DIRECTORY = "/var/lib/kubelet/device-plugins"
_CDI_DIRECTORY = "/var/run/cdi"
_DRIVER_ROOT = "/driver-root"
_MPS = "/mps"  # where the programs look for the MPS root, whatever its place on the host
_TOLERATIONS = (
    {"key": "CriticalAddonsOnly", "operator": "Exists"},
    {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
)
_PRIVILEGED = {"privileged": True}


def object_name(configuration: str, component: str = DEVICE_PLUGIN) -> str:
    """The name of a configuration's DaemonSet; the plugin's is that of the ConfigMap too."""
    return f"{_DAEMON_SETS[component]}-{configuration}"


def is_ours(labels: t.Mapping[str, str]) -> bool:
    """Whether an object with these labels is part of the device plugin that we installed."""
    return labels.get(MANAGED_BY_LABEL) == FIELD_MANAGER and labels.get(NAME_LABEL) == PLUGIN


def selector() -> str:
    """The label selector of what is ours."""
    return f"{MANAGED_BY_LABEL}={FIELD_MANAGER},{NAME_LABEL}={PLUGIN}"


def namespace(name: str) -> Manifest:
    """The plugin mounts directories of the host, which Pod Security Admission lets only privileged namespaces do."""
    labels = {NAME_LABEL: PLUGIN, MANAGED_BY_LABEL: FIELD_MANAGER, "pod-security.kubernetes.io/enforce": "privileged"}
    return _applied({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


def common_objects(wanted: DevicePlugin, *, feature_discovery: bool) -> list[Manifest]:
    """What all configurations share, in the order of applying: the account of GPU feature discovery and its rights in its namespace.

    Source: NVIDIA k8s-device-plugin, internal/lm/output.go, which calls nothing else. The plugin and the MPS control daemon ask the API server
    for nothing.
    """
    if not feature_discovery:
        return []
    rules = [
        {"apiGroups": ["nfd.k8s-sigs.io"], "resources": ["nodefeatures"], "verbs": ["get", "create", "update"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": FEATURE_DISCOVERY}
    subjects = [{"kind": "ServiceAccount", "name": FEATURE_DISCOVERY, "namespace": wanted.namespace}]
    objects: list[Manifest] = [
        {"apiVersion": "v1", "kind": "ServiceAccount"},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "roleRef": role, "subjects": subjects},
    ]
    labels = {NAME_LABEL: PLUGIN, COMPONENT_LABEL: FEATURE_DISCOVERY, MANAGED_BY_LABEL: FIELD_MANAGER}
    return [_applied({**obj, "metadata": {"name": FEATURE_DISCOVERY, "namespace": wanted.namespace, "labels": labels}}) for obj in objects]


def objects(wanted: DevicePlugin, configuration: Configuration, *, feature_discovery: bool, on_delete: bool = False) -> list[Manifest]:
    """The objects of a configuration in the order of applying: its file, the MPS control daemon, the plugin, GPU feature discovery.

    ``on_delete``: the pods stay as they are until somebody deletes them.
    """
    return [
        config_map(wanted, configuration),
        *(daemon_set(wanted, configuration, component, on_delete=on_delete) for component in components(configuration, feature_discovery)),
    ]


def components(configuration: Configuration, feature_discovery: bool) -> list[str]:
    """The programs that a configuration runs, in the order in which they have to start."""
    return [*([MPS_DAEMON] if configuration.mps else []), DEVICE_PLUGIN, *([FEATURE_DISCOVERY] if feature_discovery else [])]


def config_map(wanted: DevicePlugin, configuration: Configuration) -> Manifest:
    metadata = {"name": object_name(configuration.name), "namespace": wanted.namespace, "labels": _labels(configuration, DEVICE_PLUGIN)}
    return _applied({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config.yaml": configuration.file}})


def daemon_set(wanted: DevicePlugin, configuration: Configuration, component: str = DEVICE_PLUGIN, *, on_delete: bool = False) -> Manifest:
    labels = _labels(configuration, component)
    selected = {key: value for key, value in labels.items() if key != MANAGED_BY_LABEL}
    metadata: dict[str, t.Any] = {
        "name": object_name(configuration.name, component),
        "namespace": wanted.namespace,
        "labels": labels,
    }
    if component == DEVICE_PLUGIN:
        metadata["annotations"] = {RESOURCES_ANNOTATION: json.dumps(configuration.resources.advertised(1), sort_keys=True)}
    annotations = {HASH_ANNOTATION: content_hash(wanted, configuration, component), SHARING_ANNOTATION: sharing_text(configuration)}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}
    spec = {
        "selector": {"matchLabels": selected},
        "updateStrategy": {"type": "OnDelete"} if on_delete else rolling,
        "template": {
            "metadata": {"labels": labels | _strategy(configuration, component), "annotations": annotations},
            "spec": _pod_spec(wanted, configuration, component),
        },
    }
    return _applied({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": spec})


def content_hash(wanted: DevicePlugin, configuration: Configuration, component: str = DEVICE_PLUGIN) -> str:
    """Of everything that a pod of this configuration is made of: its file and its specification."""
    return _hash([configuration.file, _pod_spec(wanted, configuration, component)])


def sharing_text(configuration: Configuration) -> str:
    """How the configuration's nodes share their GPUs, for the annotation by which a later run knows what is in force where."""
    sharing, mig = configuration.sharing, configuration.mig
    content = {
        "strategy": sharing.strategy,
        "replicas": sharing.replicas,
        "resources": configuration.resources.advertised(1),
        "mig": None if mig is None else {"strategy": mig.strategy, "layout": dict(mig.layout)},
    }
    return json.dumps(content, sort_keys=True)


def read_sharing(obj: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    """What sharing_text said of the configuration that a pod runs; None where it does not say."""
    return read_note(obj, SHARING_ANNOTATION)


def _applied(manifest: Manifest) -> Manifest:
    """The manifest with a hash of itself, by which a later run knows that it was applied as it is."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), APPLIED_ANNOTATION: _hash(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _hash(content: t.Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _labels(configuration: Configuration, component: str) -> dict[str, str]:
    return {
        NAME_LABEL: PLUGIN,
        INSTANCE_LABEL: configuration.name,
        COMPONENT_LABEL: component,
        MANAGED_BY_LABEL: FIELD_MANAGER,
    }


def _strategy(configuration: Configuration, component: str) -> dict[str, str]:
    return {STRATEGY_LABEL: configuration.sharing.strategy} if component == DEVICE_PLUGIN else {}


def tolerations(wanted: DevicePlugin) -> list[Manifest]:
    return [*(dict(toleration) for toleration in _TOLERATIONS), *(dict(toleration) for toleration in wanted.tolerations)]


def _pod_spec(wanted: DevicePlugin, configuration: Configuration, component: str) -> Manifest:
    spec: Manifest = {
        "priorityClassName": wanted.priority_class,
        "tolerations": tolerations(wanted),
        "affinity": _node_affinity(configuration),
        **_PODS[component](wanted, configuration),
    }
    if wanted.image.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in wanted.image.pull_secrets]
    return spec


def _plugin_pod(wanted: DevicePlugin, configuration: Configuration) -> Manifest:
    volumes, mounts = _volumes(wanted, configuration)
    environment = {**_environment(configuration), **({"MPS_ROOT": wanted.mps_root} if configuration.mps else {})}
    container = _container(wanted, CONTAINER, PLUGIN, env=_env(environment), securityContext=_security_context(configuration))
    return {**_NO_TOKEN, "containers": [{**container, "volumeMounts": mounts}], "volumes": volumes}


def _mps_pod(wanted: DevicePlugin, configuration: Configuration) -> Manifest:
    """The MPS control daemon: an init container makes the shared memory of all clients, the daemon sets each client's limits.

    In the host's process namespace, where the driver looks for it (NVIDIA's chart, mps.enableHostPID).
    """
    root = {"name": "mps-root", "mountPath": _MPS}
    mount = _container(wanted, "mps-control-daemon-mounts", "mps-control-daemon", "mount-shm", securityContext=_PRIVILEGED)
    daemon = _container(
        wanted,
        "mps-control-daemon-ctr",
        "mps-control-daemon",
        env=[_NODE_NAME, *_env(_environment(configuration))],
        readinessProbe=_mps_probe(configuration),
        securityContext=_PRIVILEGED,
    )
    return {
        **_NO_TOKEN,
        "hostPID": True,
        "affinity": {**_node_affinity(configuration), "podAntiAffinity": _apart_from_other_strategies()},
        "initContainers": [{**mount, "volumeMounts": [{**root, "mountPropagation": "Bidirectional"}]}],
        "containers": [{**daemon, "volumeMounts": [{"name": "mps-shm", "mountPath": "/dev/shm"}, root, _CONFIG_MOUNT]}],
        "volumes": [
            {"name": "mps-root", "hostPath": {"path": wanted.mps_root, "type": "DirectoryOrCreate"}},
            {"name": "mps-shm", "hostPath": {"path": f"{wanted.mps_root}/shm"}},
            _config_volume(configuration),
        ],
    }


def _node_affinity(configuration: Configuration) -> Manifest:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": configuration.terms}}}


def _apart_from_other_strategies() -> Manifest:
    """A daemon sets the GPUs to one process each, under the pods of a plugin without MPS: the scheduler keeps the two apart, both ways.

    Source: Kubernetes documentation, Inter-pod affinity: an incoming pod also has to be allowed by the pods that are there.
    """
    selector = {
        "matchLabels": {NAME_LABEL: PLUGIN, COMPONENT_LABEL: DEVICE_PLUGIN},
        "matchExpressions": [{"key": STRATEGY_LABEL, "operator": "NotIn", "values": ["mps"]}],
    }
    return {"requiredDuringSchedulingIgnoredDuringExecution": [{"labelSelector": selector, "topologyKey": "kubernetes.io/hostname"}]}


def _mps_probe(configuration: Configuration) -> Manifest:
    """Ready is a daemon that answers and has set the limits, of which the share of threads is the last. Source: cmd/mps-control-daemon/mps.

    A pod that starts before the limits are set is not held to them (k8s-device-plugin#1946).
    """
    share, resource = 100 // configuration.sharing.replicas, configuration.sharing.resource
    ask = f"echo get_default_active_thread_percentage | CUDA_MPS_PIPE_DIRECTORY={_MPS}/{resource}/pipe nvidia-cuda-mps-control"
    command = f"case $({ask}) in {share}|{share}.*) exit 0;; *) exit 1;; esac"
    return {"exec": {"command": ["/bin/sh", "-c", command]}, "periodSeconds": 5, "timeoutSeconds": 5}


def _feature_discovery_pod(wanted: DevicePlugin, configuration: Configuration) -> Manifest:
    """Privileged, as in NVIDIA's chart: else it cannot read the GPUs' PCI configuration to its end, and fails."""
    fields = {"NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"}
    environment = {**_environment(configuration), "GFD_USE_NODE_FEATURE_API": "true"}  # the default since v0.19 only
    container = _container(
        wanted,
        "gpu-feature-discovery-ctr",
        FEATURE_DISCOVERY,
        env=[_NODE_NAME, *(_field(name, path) for name, path in fields.items()), *_env(environment)],
        securityContext=_PRIVILEGED,
    )
    mounts = [{"name": "host-sys", "mountPath": "/sys", "readOnly": True}, _CONFIG_MOUNT]
    return {
        "serviceAccountName": FEATURE_DISCOVERY,
        "containers": [{**container, "volumeMounts": mounts}],
        "volumes": [{"name": "host-sys", "hostPath": {"path": "/sys", "type": "Directory"}}, _config_volume(configuration)],
    }


def _container(wanted: DevicePlugin, name: str, *command: str, **more: t.Any) -> Manifest:
    container = {"name": name, "image": wanted.image.reference, "imagePullPolicy": "IfNotPresent", "command": list(command), **more}
    return {**container, "resources": {kind: dict(values) for kind, values in wanted.resources.items()}} if wanted.resources else container


def _environment(configuration: Configuration) -> dict[str, str]:
    """MIG devices are seen by programs that may watch all of them (NVIDIA_MIG_MONITOR_DEVICES)."""
    monitor = {} if configuration.mig is None else {"NVIDIA_MIG_MONITOR_DEVICES": "all"}
    driver = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
    return {"CONFIG_FILE": "/config/config.yaml", **monitor, **driver}


def _env(values: t.Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _field(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _security_context(configuration: Configuration) -> Manifest:
    """As NVIDIA's chart: privileged to pass device specifications, SYS_ADMIN for volume mounts and MIG, otherwise nothing.

    The chart adds SYS_ADMIN whenever a ConfigMap is used, since it cannot tell what is in it; here that is known. MPS keeps it: the chart
    has it in no other way, and the plugin talks to the daemon.
    """
    plugin = configuration.flags.get("plugin", {})
    if plugin.get("passDeviceSpecs"):
        return _PRIVILEGED
    if configuration.mps or configuration.mig is not None or "volume-mounts" in plugin.get("deviceListStrategy", ()):
        return {"capabilities": {"add": ["SYS_ADMIN"]}}
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def _config_volume(configuration: Configuration) -> Manifest:
    return {"name": "config", "configMap": {"name": object_name(configuration.name)}}


def _volumes(wanted: DevicePlugin, configuration: Configuration) -> tuple[list[Manifest], list[Manifest]]:
    """(volumes, mounts) of the plugin: kubelet's sockets and the file; for CDI its directory and the driver's root; MPS's directories.

    The shared memory of MPS has to be there before the plugin starts: a directory in its place would never become the daemon's.
    """
    volumes: list[Manifest] = [
        {"name": "device-plugins", "hostPath": {"path": _KUBELET_DIRECTORY, "type": "Directory"}},
        _config_volume(configuration),
    ]
    mounts: list[Manifest] = [{"name": "device-plugins", "mountPath": _KUBELET_DIRECTORY}, _CONFIG_MOUNT]
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
    if configuration.mps:
        volumes += [
            {"name": "mps-root", "hostPath": {"path": wanted.mps_root, "type": "DirectoryOrCreate"}},
            {"name": "mps-shm", "hostPath": {"path": f"{wanted.mps_root}/shm", "type": "Directory"}},
        ]
        mounts += [{"name": "mps-shm", "mountPath": "/dev/shm"}, {"name": "mps-root", "mountPath": _MPS}]
    return volumes, mounts


_NO_TOKEN = {"automountServiceAccountToken": False}  # these ask the API server for nothing
_NODE_NAME = _field("NODE_NAME", "spec.nodeName")
# By subPath, so that the kubelet does not exchange the file under a running plugin, which reads it again when the kubelet restarts: until a
# node's turn has come it stays as it is.
_CONFIG_MOUNT = {"name": "config", "mountPath": "/config/config.yaml", "subPath": "config.yaml", "readOnly": True}
_PODS: dict[str, t.Callable[[DevicePlugin, Configuration], Manifest]] = {
    MPS_DAEMON: _mps_pod,
    DEVICE_PLUGIN: _plugin_pod,
    FEATURE_DISCOVERY: _feature_discovery_pod,
}
