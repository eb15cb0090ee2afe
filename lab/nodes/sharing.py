"""Pure: NVIDIA's device plugin's config file, and what a node advertises by it.

Parsing follows k8s-device-plugin v0.20 (api/config/v1/config.go, replicas.go), devices its v0.19.3 (internal/rm/device_map.go, rm.go;
cmd/nvidia-device-plugin/main.go), words of their errors included.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from lab.nodes.mig import Layout

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


_PLUGINS = "error starting plugins: error getting plugins: unable to create plugins: failed to construct resource managers"
_MAP = f"{_PLUGINS}: error building device map: error building device map from config.resources"


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
    """``sharing.timeSlicing`` or ``sharing.mps``. ``fail_requests``: a container may ask for one share alone."""

    strategy: str
    resources: tuple[Replicated, ...]
    rename_by_default: bool = False
    fail_requests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What of a plugin's settings decides what the node advertises."""

    mig_strategy: str = "none"
    fail_on_init_error: bool = True
    sharing: Sharing | None = None
    mps_root: str = ""

    @property
    def strategy(self) -> str:
        return "none" if self.sharing is None else self.sharing.strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The NVIDIA GPUs of a machine. ``mig`` has the layout of each, () where MIG mode is off on all; ``compute`` their capability."""

    count: int
    mig: tuple[Layout, ...] = ()
    compute: tuple[int, int] | None = None

    def layout(self, index: int) -> Layout:
        return self.mig[index] if self.mig else None


#: Resource -> number of its devices (shares counted) on each GPU, by the GPU's index.
Devices = Mapping[str, Mapping[int, int]]


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
        mps_root=given.get("MPS_ROOT") or _get(flags, "mpsRoot", str, "Flags.mpsRoot") or "",
    )


def check_plugin(config: Config) -> None:
    """What the plugin alone refuses of a config (main.go, validateFlags); raises ConfigRefused."""
    if config.strategy != "mps":
        return
    if config.mig_strategy == "mixed":
        raise ConfigRefused("error starting plugins: unable to validate flags: using --mig-strategy=mixed is not supported with MPS")
    if not config.mps_root:
        raise ConfigRefused("error starting plugins: unable to validate flags: using MPS requires --mps-root to be specified")


def advertised(config: Config, gpus: Gpus) -> dict[str, int]:
    """Resource -> count that the plugin registers; raises ConfigRefused when it would end."""
    return {resource: sum(by_gpu.values()) for resource, by_gpu in devices(config, gpus).items()}


def devices(config: Config, gpus: Gpus) -> Devices:
    """What the plugin registers, by GPU; raises ConfigRefused when it would end."""
    check_plugin(config)
    if gpus.count == 0:
        if config.fail_on_init_error:
            raise ConfigRefused(f"{_PLUGINS}: nvml init failed: ERROR_LIBRARY_NOT_FOUND (no NVIDIA GPU found)")
        return {}
    found = device_map(config, gpus)
    if config.strategy == "mps" and config.mig_strategy != "none" and any(gpus.mig):
        raise ConfigRefused(
            "error starting plugins: error getting plugins: unable to create plugins: failed to create plugin: "
            "sharing using MPS is not supported for MIG devices"
        )
    return found


def replicas(config: Config, resource: str = GPU) -> int:
    """How many times each device of the resource is advertised, 1 where it is not shared."""
    entries = config.sharing.resources if config.sharing else ()
    return next((entry.replicas for entry in entries if entry.name == resource), 1)


def shared_name(config: Config, resource: str) -> str:
    """What the resource is called when it is shared: ``NAME.shared`` with renameByDefault."""
    renamed = config.sharing is not None and config.sharing.rename_by_default and replicas(config, resource) > 1
    return f"{resource}.shared" if renamed else resource


def _unshared(config: Config, gpus: Gpus) -> dict[str, dict[int, int]]:
    """Whole GPUs and MIG devices by resource. With strategy none a GPU in MIG mode counts as a whole one (buildGPUDeviceMap)."""
    layouts = {index: gpus.layout(index) for index in range(gpus.count)}
    if config.mig_strategy == "none":
        return {GPU: dict.fromkeys(layouts, 1)}
    found: dict[str, dict[int, int]] = {}
    if whole := [index for index, layout in layouts.items() if layout is None]:
        found[GPU] = dict.fromkeys(whole, 1)
    parted = {index: layout for index, layout in layouts.items() if layout is not None}
    if config.mig_strategy == "single":
        _check_single(parted, whole)
    for index, layout in parted.items():
        for profile in layout:
            resource = GPU if config.mig_strategy == "single" else registered_as(profile)
            by_gpu = found.setdefault(resource, {})
            by_gpu[index] = by_gpu.get(index, 0) + 1
    return found


def mig_resource(profile: str) -> str:
    """The resource of a profile under strategy mixed (rm.go, AddDefaultResourcesToConfig)."""
    return f"{PREFIX}mig-{profile.replace('+', '.')}"


def registered_as(profile: str) -> str:
    """The resource that an instance is registered as: the plugin before v0.20 takes the first of a GPU's profiles that is in the instance's
    name, so that 1g.5gb+me counts as 1g.5gb (resources.go, wildCardToRegexp). GPU feature discovery has the whole name.
    """
    return mig_resource(f"{profile.partition('gb')[0]}gb")


def _check_single(parted: Mapping[int, tuple[str, ...]], whole: list[int]) -> None:
    """Every GPU in MIG mode, none of them empty, one profile (device_map.go); raises ConfigRefused."""
    for index, layout in parted.items():
        if not layout:
            why = "at least one device with migEnabled=true was not configured correctly: error visiting device: "
            raise ConfigRefused(f"{_MAP}: invalid MIG configuration: {why}device {index} has no MIG devices configured")
    if len({profile for layout in parted.values() for profile in layout}) > 1:
        visiting = (
            "error visiting devices: error visiting device: error visiting device: error visiting MIG device: error visiting MIG device"
        )
        raise ConfigRefused(f"{_MAP}: invalid MIG configuration: {visiting}: more than one MIG device type present on node")
    if parted and whole:
        raise ConfigRefused(f"{_MAP}: all devices on the node must be configured with the same migEnabled value")


def device_map(config: Config, gpus: Gpus) -> Devices:
    """What there is to serve, shares counted: count x replicas, for time slicing and MPS alike (device_map.go); raises ConfigRefused."""
    return {
        shared_name(config, resource): {index: count * replicas(config, resource) for index, count in by_gpu.items()}
        for resource, by_gpu in _unshared(config, gpus).items()
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
    fail = _get(block, "failRequestsGreaterThanOne", bool, f"{key}.failRequestsGreaterThanOne")
    return Sharing(
        strategy=strategy,
        resources=tuple(_replicated(entry) for entry in entries),
        rename_by_default=bool(_get(block, "renameByDefault", bool, f"{key}.renameByDefault")),
        fail_requests=strategy == "mps" if fail is None else fail,
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
