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
Version = tuple[int, int, int]

SOURCE = "NVIDIA k8s-device-plugin, api/config/v1/flags.go"
_CONVERTERS: dict[str, t.Callable[[t.Any], t.Any]] = {"bool": check_type_bool, "list": check_type_list, "str": str}
_ABSOLUTE = re.compile(r"(/(?!\.\.(/|$))[^/:]*)+")
_CDI_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/")
_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+|infinite")

_PLUGIN: dict[str, dict[str, t.Any]] = {
    "passDeviceSpecs": {"type": "bool"},
    "deviceListStrategy": {"type": "list", "elements": "str", "choices": ["envvar", "volume-mounts", "cdi-annotations", "cdi-cri"]},
    "deviceIDStrategy": {"type": "str", "choices": ["uuid", "index"]},
    "cdiAnnotationPrefix": {"type": "str"},
    "nvidiaCTKPath": {"type": "str"},
    "containerDriverRoot": {"type": "str"},
    "sharedDevicesAllocationPolicy": {"type": "str", "choices": ["distributed", "packed"]},
}
_GFD: dict[str, dict[str, t.Any]] = {
    "oneshot": {"type": "bool"},
    "noTimestamp": {"type": "bool"},
    "sleepInterval": {"type": "str"},
    "outputFile": {"type": "str"},
    "machineTypeFile": {"type": "str"},
}
FLAGS: dict[str, dict[str, t.Any]] = {
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
#: Known to NVIDIA, and set by options of the module.
_ELSEWHERE = {
    "migstrategy": "unset: it follows from the configuration's option mig",
    "mpsroot": "unset: set the module's option mps_root",
}
_ALLOCATION_POLICY: Version = (0, 20, 0)
_PATHS = ("nvidiaDriverRoot", "nvidiaDevRoot", "plugin.nvidiaCTKPath", "plugin.containerDriverRoot")
_OURS = "the collection's options"


def at_least(version: Version | None, least: Version) -> bool:
    """Whether a version of the plugin, None for one that is not known, is ``least`` or newer."""
    return version is not None and version >= least


def says(value: t.Any, wanted: bool) -> bool:
    """Whether Ansible takes a value for this truth value; nothing is neither."""
    try:
        return value is not None and _CONVERTERS["bool"](value) is wanted
    except TypeError:
        return False


def flags_faults(flags: t.Any, path: str, *, version: Version | None = None, feature_discovery: bool | None = None) -> list[Fault]:
    """Every key that this version of the plugin does not know, every value that it would not take, and what the module sets by options."""
    if not isinstance(flags, t.Mapping):
        return []
    faults = [_worded(fault, path) for fault in form_faults(FLAGS, flags, path=path, source=SOURCE)]
    for key, (bad, allowed) in _VALUES.items():
        if bad(value := _lookup(flags, key)):
            faults.append(Fault(path=f"{path}.{key}", value=value, allowed=allowed, source=SOURCE))
    return faults + _combination_faults(flags, path, version, feature_discovery)


def _combination_faults(flags: Flags, path: str, version: Version | None, feature_discovery: bool | None) -> list[Fault]:
    """Values that are right by themselves, but not beside each other, the plugin's version or the module's options."""
    faults = []
    if _lookup(flags, "deviceDiscoveryStrategy") == "tegra" and "cdi-" in str(_lookup(flags, "plugin.deviceListStrategy")):
        allowed = "auto or nvml with a deviceListStrategy of CDI"
        faults.append(Fault(path=f"{path}.deviceDiscoveryStrategy", value="tegra", allowed=allowed, source=SOURCE))
    policy = "plugin.sharedDevicesAllocationPolicy"
    if _lookup(flags, policy) is not None and not at_least(version, _ALLOCATION_POLICY):
        allowed = "unset: the plugin knows it since v0.20.0 only (image.tag)"
        faults.append(Fault(path=f"{path}.{policy}", value=_lookup(flags, policy), allowed=allowed, source=SOURCE))
    if feature_discovery is not False and says(_lookup(flags, "useNodeFeatureAPI"), False):
        allowed = "true or unset: labels are published as NodeFeature objects; feature_discovery: false leaves them to you"
        faults.append(Fault(path=f"{path}.useNodeFeatureAPI", value=False, allowed=allowed, source=_OURS))
    return faults


def _worded(fault: Fault, path: str) -> Fault:
    allowed = _ELSEWHERE.get(fault.path.removeprefix(f"{path}.").lower())
    return fault if allowed is None else Fault(path=fault.path, value=fault.value, allowed=allowed, source=_OURS)


def _lookup(flags: t.Any, dotted: str) -> t.Any:
    for part in dotted.split("."):
        flags = flags.get(part) if isinstance(flags, t.Mapping) else None
    return flags


def _unlike(pattern: re.Pattern[str]) -> t.Callable[[t.Any], bool]:
    return lambda value: isinstance(value, str) and not pattern.fullmatch(value)


_VALUES: dict[str, tuple[t.Callable[[t.Any], bool], str]] = {
    **{key: (_unlike(_ABSOLUTE), "an absolute path without ..") for key in _PATHS},
    "plugin.cdiAnnotationPrefix": (_unlike(_CDI_PREFIX), "a DNS name and a slash, as in cdi.k8s.io/"),
    "plugin.deviceListStrategy": (lambda value: value in ([], ""), "at least one: without any, containers are given no device"),
    "gfd.sleepInterval": (_unlike(_DURATION), "a duration of Go such as 60s or 1m30s, or infinite"),
    "gfd.oneshot": (lambda value: says(value, True), "false or unset: a pod that ends is started again and again"),
}


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
