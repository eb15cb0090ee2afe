"""Pure: NVIDIA's device plugin's config file, and what a node advertises by it.

Parsing follows k8s-device-plugin v0.20 (api/config/v1/config.go, replicas.go), words of its errors included. MPS and MIG are refused
by name until their rules are here: a guessed count would be worse than none.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

GPU = "nvidia.com/gpu"
PREFIX = "nvidia.com/"
MIG_STRATEGIES = ("none", "single", "mixed")
LIST_STRATEGIES = ("envvar", "volume-mounts", "cdi-annotations", "cdi-cri")
ID_STRATEGIES = ("uuid", "index")
RESOURCE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
RESOURCE_NAME_LENGTH = 63
JSON_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "number"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


class ConfigRefused(ValueError):
    """The plugin would end with this message."""


class NotImitated(Exception):
    """The lab has no sourced rule for this; nothing is advertised."""


@dataclass(frozen=True, slots=True)
class Replicated:
    """One entry of ``resources``."""

    name: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """``sharing.timeSlicing`` or ``sharing.mps``."""

    strategy: str
    resources: tuple[Replicated, ...]
    rename_by_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What of a plugin's settings decides what the node advertises."""

    mig_strategy: str = "none"
    fail_on_init_error: bool = True
    sharing: Sharing | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The NVIDIA GPUs of a machine. ``mig`` has their MIG devices by profile, empty where MIG mode is off."""

    count: int
    mig: Mapping[str, int] = field(default_factory=dict)


def parse(text: str | None, settings: Mapping[str, str] | None = None) -> Config:
    """The config of a plugin with this config file (None: it has none) and these environment variables; raises ConfigRefused.

    Environment and command line come before the file; ``settings`` has the command line's already merged in.
    """
    document = {} if text is None else _document(text)
    version = _get(document, "version", str, "Config.version") or "v1"
    if version != "v1":
        raise ConfigRefused(f"unable to parse config file: error parsing config file: unknown version: {version}")
    flags = _get(document, "flags", dict, "Config.flags") or {}
    _check_plugin_flags(_get(flags, "plugin", dict, "Flags.plugin") or {})
    sharing = _get(document, "sharing", dict, "Config.sharing") or {}
    # Both are parsed, so that a fault in either is found; MPS then wins (internal/rm, Sharing.ReplicatedResources).
    time_slicing = _sharing(sharing, "timeSlicing", "time-slicing")
    mps = _sharing(sharing, "mps", "mps")
    given = settings or {}
    strategy = given.get("MIG_STRATEGY") or _get(flags, "migStrategy", str, "Flags.migStrategy") or "none"
    if strategy not in MIG_STRATEGIES:
        raise ConfigRefused(f"unknown strategy: {strategy}")
    fail = _get(flags, "failOnInitError", bool, "Flags.failOnInitError")
    return Config(
        mig_strategy=strategy,
        fail_on_init_error=_flag(given, "FAIL_ON_INIT_ERROR", True if fail is None else fail),
        sharing=mps or time_slicing,
    )


def advertised(config: Config, gpus: Gpus) -> dict[str, int]:
    """Resource -> count that the plugin registers; raises ConfigRefused when it would end, NotImitated.

    Source: the plugin's README and internal/rm; table "What the node advertises" of the collection's documentation.
    """
    if gpus.count == 0:
        if config.fail_on_init_error:
            raise ConfigRefused("error starting plugins: error getting plugins: unable to create cdi/resource manager: no NVIDIA GPU found")
        return {}
    if gpus.mig:
        raise NotImitated(f"MIG devices ({', '.join(sorted(gpus.mig))}) with MIG strategy {config.mig_strategy}")
    # Without any GPU in MIG mode, strategies single and mixed behave as none.
    return _SHARING_RULES["none" if config.sharing is None else config.sharing.strategy](config, {GPU: gpus.count})


def replicas(config: Config, resource: str = GPU) -> int:
    """How many times each device of the resource is advertised, 1 where it is not shared."""
    entries = config.sharing.resources if config.sharing else ()
    return next((entry.replicas for entry in entries if entry.name == resource), 1)


def _unshared(_config: Config, devices: dict[str, int]) -> dict[str, int]:
    return devices


def _time_sliced(config: Config, devices: dict[str, int]) -> dict[str, int]:
    """count x replicas; with renameByDefault a shared resource is called ``NAME.shared``."""
    found = {}
    for resource, count in devices.items():
        times = replicas(config, resource)
        shared = times > 1 and config.sharing is not None and config.sharing.rename_by_default
        found[f"{resource}.shared" if shared else resource] = count * times
    return found


def _mps(_config: Config, _devices: dict[str, int]) -> dict[str, int]:
    raise NotImitated("sharing.mps")


_SHARING_RULES: dict[str, t.Callable[[Config, dict[str, int]], dict[str, int]]] = {
    "none": _unshared,
    "time-slicing": _time_sliced,
    "mps": _mps,
}


def _document(text: str) -> dict[str, t.Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigRefused(f"unable to parse config file: error parsing config file: unmarshal error: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise _wrong_type(document, "v1.Config")
    return document


def _get(parent: Mapping[str, t.Any], key: str, kind: type, where: str) -> t.Any:
    """The value under ``key``; null counts as absent, as in Go's JSON; unknown keys are ignored, as by the plugin."""
    value = parent.get(key)
    if value is None:
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong_type(value, f"field {where} of type {kind.__name__}")
    return value


def _wrong_type(value: t.Any, where: str) -> ConfigRefused:
    kind = next((name for python, name in JSON_TYPES if isinstance(value, python)), "string")
    return _unmarshal(f"json: cannot unmarshal {kind} into Go value: {where}: {json.dumps(value, default=str)[:80]}")


def _unmarshal(message: str) -> ConfigRefused:
    return ConfigRefused(f"unable to parse config file: error parsing config file: unmarshal error: {message}")


def _check_plugin_flags(plugin: dict[str, t.Any]) -> None:
    strategies = plugin.get("deviceListStrategy")
    for strategy in [strategies] if isinstance(strategies, str) else strategies or []:
        if strategy not in LIST_STRATEGIES:
            raise ConfigRefused(f"unable to validate flags: invalid --device-list-strategy option: invalid strategy: {strategy}")
    identifier = plugin.get("deviceIDStrategy")
    if identifier is not None and identifier not in ID_STRATEGIES:
        raise ConfigRefused(f"unable to validate flags: invalid --device-id-strategy option: {identifier}")


def _sharing(parent: Mapping[str, t.Any], key: str, strategy: str) -> Sharing | None:
    block = _get(parent, key, dict, f"Sharing.{key}")
    if block is None:
        return None
    entries = _get(block, "resources", list, f"{key}.resources")
    if not entries:
        raise _unmarshal("no resources specified")
    return Sharing(
        strategy=strategy,
        resources=tuple(_replicated(entry) for entry in entries),
        rename_by_default=bool(_get(block, "renameByDefault", bool, f"{key}.renameByDefault")),
    )


def _replicated(entry: t.Any) -> Replicated:
    """``rename`` and ``devices`` are checked by the plugin and then reset with a warning: every GPU has the same count."""
    if not isinstance(entry, dict):
        raise _wrong_type(entry, "v1.ReplicatedResource")
    name = _get(entry, "name", str, "ReplicatedResource.name")
    if name is None:
        raise _unmarshal("no resource name specified")
    _check_devices(entry.get("devices", "all"))
    if "replicas" not in entry:
        raise _unmarshal("no replicas specified")
    count = _get(entry, "replicas", int, "ReplicatedResource.replicas") or 0
    if count < 2:
        raise _unmarshal("number of replicas must be >= 2")
    return Replicated(_resource_name(name), count)


def _resource_name(name: str) -> str:
    full = name if name.startswith(PREFIX) else PREFIX + name
    if len(full) > RESOURCE_NAME_LENGTH or not RESOURCE_NAME.fullmatch(full.removeprefix(PREFIX)):
        raise _unmarshal(f"incorrect format for resource name {name!r}")
    return full


def _check_devices(devices: t.Any) -> None:
    if isinstance(devices, str) and devices != "all":
        raise _unmarshal(f"devices set as '{devices}' but the only valid string input is 'all'")
    if isinstance(devices, bool) or not isinstance(devices, (str, int, list)):
        raise _unmarshal(f"unrecognized type for devices spec: {devices}")
    if isinstance(devices, int) and devices <= 0:
        raise _unmarshal(f"devices set as '{devices}' but a count of devices must be > 0")


def _flag(settings: Mapping[str, str], name: str, default: bool) -> bool:
    """A boolean environment variable by Go's strconv.ParseBool."""
    value = settings.get(name, "")
    if not value:
        return default
    if value in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if value in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ConfigRefused(f'could not parse "{value}" as bool value from environment variable "{name}"')
