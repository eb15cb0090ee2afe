# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The ``flags`` block of the device plugin's configuration file: its keys and values. Pure.

Source: NVIDIA k8s-device-plugin, api/config/v1/flags.go. NVIDIA's parser drops a key that it does not know without a word, so that
nothing but this table finds a typing mistake.
"""

from __future__ import annotations

import re
import typing as t

from ansible.module_utils.common.validation import check_type_bool, check_type_list
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults

Flags = t.Mapping[str, t.Any]

SOURCE = "NVIDIA k8s-device-plugin, api/config/v1/flags.go"
_CONVERTERS: dict[str, t.Callable[[t.Any], t.Any]] = {"bool": check_type_bool, "list": check_type_list, "str": str}
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+|infinite")

_PLUGIN: dict[str, dict[str, t.Any]] = {
    "passDeviceSpecs": {"type": "bool"},
    "deviceListStrategy": {"type": "list", "elements": "str", "choices": ["envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]},
    "deviceIDStrategy": {"type": "str", "choices": ["uuid", "index"]},
    "cdiAnnotationPrefix": {"type": "str"},
    "nvidiaCTKPath": {"type": "str"},
    "containerDriverRoot": {"type": "str"},
}
_GFD: dict[str, dict[str, t.Any]] = {
    "oneshot": {"type": "bool"},
    "noTimestamp": {"type": "bool"},
    "sleepInterval": {"type": "str"},
    "outputFile": {"type": "str"},
    "machineTypeFile": {"type": "str"},
}
FLAGS: dict[str, dict[str, t.Any]] = {
    "migStrategy": {"type": "str", "choices": ["none"]},
    "failOnInitError": {"type": "bool"},
    "nvidiaDriverRoot": {"type": "str"},
    "nvidiaDevRoot": {"type": "str"},
    "gdrcopyEnabled": {"type": "bool"},
    "gdsEnabled": {"type": "bool"},
    "mofedEnabled": {"type": "bool"},
    "useNodeFeatureAPI": {"type": "bool"},
    "deviceDiscoveryStrategy": {"type": "str", "choices": ["auto", "nvml", "tegra"]},
    "plugin": {"type": "dict", "options": _PLUGIN},
    "gfd": {"type": "dict", "options": _GFD},
}
#: Known to NVIDIA, but not to this release, or not to the plugin's default version.
_REFUSED = {
    "mpsRoot": "unset: MPS is not supported yet",
    "plugin.sharedDevicesAllocationPolicy": "unset: the plugin knows it since v0.20.0 only",
}
_MIG = "none (MIG is not supported yet)"


def flags_faults(flags: t.Any, path: str) -> list[Fault]:
    """Every key that the plugin does not know and every value that it would not take."""
    if not isinstance(flags, t.Mapping):
        return []
    faults = [_worded(fault, path) for fault in form_faults(FLAGS, flags, path=path, source=SOURCE)]
    gfd = flags.get("gfd")
    interval = gfd.get("sleepInterval") if isinstance(gfd, t.Mapping) else None
    if isinstance(interval, str) and not _DURATION.fullmatch(interval):
        allowed = "a duration of Go such as 60s or 1m30s, or infinite"
        faults.append(Fault(path=f"{path}.gfd.sleepInterval", value=interval, allowed=allowed, source=SOURCE))
    return faults


def _worded(fault: Fault, path: str) -> Fault:
    key = fault.path.removeprefix(f"{path}.")
    if key in _REFUSED:
        return Fault(path=fault.path, value=fault.value, allowed=_REFUSED[key], source="this release of gpuops.eks")
    if key == "migStrategy":
        return Fault(path=fault.path, value=fault.value, allowed=_MIG, source="this release of gpuops.eks")
    return fault


def clean_flags(flags: Flags) -> dict[str, t.Any]:
    """The flags in the types that NVIDIA's parser wants: templates give "true" for true, and one strategy for a list of one."""
    return _cleaned(FLAGS, flags)


def _cleaned(spec: t.Mapping[str, t.Mapping[str, t.Any]], flags: Flags) -> dict[str, t.Any]:
    cleaned: dict[str, t.Any] = {}
    for key, value in flags.items():
        if value is None:
            continue
        kind = spec[key]["type"]
        cleaned[key] = _cleaned(spec[key]["options"], value) if kind == "dict" else _CONVERTERS[kind](value)
    return cleaned
