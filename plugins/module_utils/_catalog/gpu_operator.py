# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What NVIDIA's GPU Operator's Helm chart takes as values, and what is often given instead. Pure.

The chart has no values.schema.json: Helm takes a key that the chart does not know without a word.
"""

from __future__ import annotations

CHART_VERSION = "v26.7.0"
SOURCE = f"NVIDIA gpu-operator {CHART_VERSION}, deployments/gpu-operator: values.yaml, templates"


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IMAGE = _keys("repository image version imagePullPolicy imagePullSecrets")
_COMPONENT = _IMAGE | _keys("enabled args env resources hostNetwork")

#: Top-level key -> the keys below it; None where any are taken, or where it is no dictionary. Source: SOURCE.
KEYS: dict[str, frozenset[str] | None] = {
    "ccManager": _COMPONENT | _keys("defaultMode"),
    "cdi": _keys("enabled nriPluginEnabled"),
    "clusterPolicy": _keys("deployCR"),
    "daemonsets": _keys("annotations labels priorityClassName rollingUpdate tolerations updateStrategy"),
    "dcgm": _COMPONENT,
    "dcgmExporter": _COMPONENT
    | _keys("annotations config enablePodLabels enablePodUID hostPID hpcJobMapping podLabelAllowlistRegex service serviceMonitor"),
    "devicePlugin": _COMPONENT | _keys("config mps"),
    "draDriver": _IMAGE | _keys("computeDomains featureGates gpus"),
    "driver": _COMPONENT
    | _keys(
        "certConfig kernelModuleConfig kernelModuleType licensingConfig livenessProbe manager nvidiaDriverCRD rdma readinessProbe repoConfig "
        "secretEnv startupProbe upgradePolicy usePrecompiled virtualTopology"
    ),
    "extraObjects": None,
    "fullnameOverride": None,
    "gdrcopy": _IMAGE | _keys("enabled args env"),
    "gds": _IMAGE | _keys("enabled args env"),
    "gfd": _COMPONENT,
    "gpuCluster": _keys("deployCR"),
    "hostPaths": _keys("driverInstallDir kubeletRootDir rootFS"),
    "kataManager": _COMPONENT | _keys("config"),
    "kataSandboxDevicePlugin": _COMPONENT,
    "mig": _keys("strategy"),
    "migManager": _COMPONENT | _keys("config gpuClientsConfig"),
    "nameOverride": None,
    "nfd": _keys("enabled nodefeaturerules"),
    "node-feature-discovery": None,
    "nodeStatusExporter": _COMPONENT,
    "operator": _IMAGE
    | _keys(
        "affinity annotations cleanupCRD defaultGPUMode env labels logging metrics nodeSelector priorityClassName resources runtimeClass "
        "tolerations upgradeCRD use_ocp_driver_toolkit"
    ),
    "platform": _keys("openshift"),
    "psa": _keys("enabled"),
    "sandboxDevicePlugin": _COMPONENT,
    "sandboxWorkloads": _keys("defaultWorkload enabled mode"),
    "toolkit": (_COMPONENT | _keys("installDir")) - _keys("args"),
    "validator": _IMAGE | _keys("args cuda driver env hostNetwork plugin resources toolkit vfioPCI vgpuDevices vgpuManager"),
    "vfioManager": _COMPONENT | _keys("driverManager"),
    "vgpuDeviceManager": _COMPONENT | _keys("config"),
    "vgpuManager": _COMPONENT | _keys("driverManager kernelModuleConfig"),
}

#: Keys that guides name and the chart does not know, or no longer: path -> what does that today.
GONE: dict[str, str] = {
    "migManager.WITH_REBOOT": 'unset: the role sets migManager.env, an entry with name WITH_REBOOT and value "true", for pools with mig',
    "migManager.default": "unset: it was never a key of the chart; nodes choose by the label nvidia.com/mig.config, which pools with mig have; "
    "for the others it is migManager.config.default",
    "operator.defaultRuntime": "unset: it is ignored, the operator finds out what runtime the nodes have",
    "driver.useOpenKernelModules": "driver.kernelModuleType: open",
}

#: (first version without it, what): a tag before it is of another image, or lacks what the role needs.
OLDEST: dict[str, tuple[tuple[int, int], str]] = {
    "gfd.version": (
        (0, 15),
        "at least v0.15.0, or unset: GPU feature discovery comes in the image k8s-device-plugin, which has no older such tag",
    ),
    "devicePlugin.version": ((0, 15), "at least v0.15.0, from which on there is MPS, or unset for the chart's own"),
}

#: Versions of the chart that do not work on these pools: how the version begins -> (families of instance types, empty for all; why, what to do).
BROKEN: dict[str, tuple[frozenset[str], str]] = {
    "25.10.": (
        frozenset(),
        "another version: its validator finds no CUDA device where the toolkit is the image's own (https://github.com/NVIDIA/gpu-operator/issues/1900)",
    ),
    "26.7.0": (
        frozenset({"p3", "p3dn"}),
        "another version with V100: its validator lacks sm_70 and never validates (https://github.com/NVIDIA/gpu-operator/issues/2842)",
    ),
}
