"""Pure: NVIDIA's device plugin's config file, and what a node advertises by it.

By k8s-device-plugin v0.19.3: api/config/v1 (config.go, replicas.go), internal/rm (device_map.go, rm.go), cmd/nvidia-device-plugin/main.go,
words of their errors included, those of its YAML library and of Go's JSON excepted. tests/oracle holds it against the program itself.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from lab.nodes.mig import Layout

GPU = "nvidia.com/gpu"
PREFIX = "nvidia.com/"
MIG_STRATEGIES = ("none", "single", "mixed")
LIST_STRATEGIES = ("envvar", "volume-mounts", "cdi-annotations", "cdi-cri")
ID_STRATEGIES = ("uuid", "index")
DISCOVERY_STRATEGIES = ("auto", "nvml", "tegra")
UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
DEVICE = re.compile(rf"\d+|\d+:\d+|GPU-{UUID}|MIG-{UUID}|MIG-GPU-{UUID}/\d+/\d+")
LARGEST_MESSAGE = 4 * 2**20  # of gRPC, by default
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


_UNMARSHAL = "unable to parse config file: error parsing config file: unmarshal error"
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
    list_strategies: tuple[str, ...] = ("envvar",)
    id_strategy: str = "uuid"
    discovery: str = "auto"
    channels: tuple[int, ...] = ()

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
    version = _version(document)
    if version != "v1":
        raise ConfigRefused(f"unable to parse config file: error parsing config file: unknown version: {version}")
    flags = _field(document, "flags", dict, "Config.flags") or {}
    plugin = _field(flags, "plugin", dict, "Flags.plugin") or {}
    sharing = _field(document, "sharing", dict, "Config.sharing") or {}
    # Both are parsed, so that a fault in either is found; MPS then wins (internal/rm, Sharing.ReplicatedResources).
    time_slicing = _sharing(sharing, "timeSlicing", "time-slicing")
    mps = _sharing(sharing, "mps", "mps")
    given = settings or {}
    fail = _field(flags, "failOnInitError", bool, "Flags.failOnInitError")
    return Config(
        mig_strategy=_set(given, "MIG_STRATEGY", _field(flags, "migStrategy", str, "Flags.migStrategy"), "none"),
        fail_on_init_error=_flag(given, "FAIL_ON_INIT_ERROR", True if fail is None else fail),
        sharing=mps or time_slicing,
        mps_root=_set(given, "MPS_ROOT", _field(flags, "mpsRoot", str, "Flags.mpsRoot"), ""),
        list_strategies=_list_strategies(given, plugin),
        id_strategy=_set(given, "DEVICE_ID_STRATEGY", _field(plugin, "deviceIDStrategy", str, "Plugin.deviceIDStrategy"), "uuid"),
        discovery=_set(given, "DEVICE_DISCOVERY_STRATEGY", _field(flags, "deviceDiscoveryStrategy", str, "Flags.discovery"), "auto"),
        channels=tuple(_field(_field(document, "imex", dict, "Config.imex") or {}, "channelIDs", list, "Imex.channelIDs") or ()),
    )


def _version(document: Mapping[str, t.Any]) -> str:
    """A number or bool is taken as text here: the field is text, and no pointer to one."""
    given = next((value for key, value in document.items() if str(key).lower() == "version"), None)
    text = str(given).lower() if isinstance(given, bool) else str(given) if isinstance(given, (int, float)) else given
    return _get({"version": text}, "version", str, "Config.version") or "v1"


def _set(settings: Mapping[str, str], name: str, of_file: str | None, default: str) -> str:
    """A variable that is there counts, also where it is empty; then the file."""
    return settings.get(name, default if of_file is None else of_file)


def _list_strategies(settings: Mapping[str, str], plugin: Mapping[str, t.Any]) -> tuple[str, ...]:
    if "DEVICE_LIST_STRATEGY" in settings:
        return tuple(settings["DEVICE_LIST_STRATEGY"].split(","))
    given = plugin.get("deviceListStrategy", "envvar")
    return (given,) if isinstance(given, str) else tuple(given or ("envvar",))


def check_plugin(config: Config) -> None:
    """What the plugin alone refuses of a config (main.go, validateFlags); raises ConfigRefused."""
    if (fault := next(_flag_faults(config), None)) is not None:
        raise ConfigRefused(f"error starting plugins: unable to validate flags: {fault}")


def _flag_faults(config: Config) -> Iterator[str]:
    for strategy in config.list_strategies:
        if strategy not in LIST_STRATEGIES:
            yield f"invalid --device-list-strategy option: invalid strategy: {strategy}"
    if config.id_strategy not in ID_STRATEGIES:
        yield f"invalid --device-id-strategy option: {config.id_strategy}"
    if config.strategy == "mps" and config.mig_strategy == "mixed":
        yield "using --mig-strategy=mixed is not supported with MPS"
    if config.strategy == "mps" and not config.mps_root:
        yield "using MPS requires --mps-root to be specified"
    if config.discovery not in DISCOVERY_STRATEGIES:
        yield f"invalid --device-discovery-strategy option {config.discovery}"
    if config.mig_strategy not in MIG_STRATEGIES:
        yield f"unknown MIG strategy: {config.mig_strategy}"
    if config.channels not in ((), (0,)):
        found = " ".join(map(str, config.channels))
        yield f"invalid IMEX channel IDs: invalid IMEX config: channelIDs must be [] or [0]; found [{found}]"


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
    return {resource: by_gpu if _can_be_told(by_gpu) else {} for resource, by_gpu in found.items()}


def _can_be_told(by_gpu: Mapping[int, int]) -> bool:
    """Whether kubelet gets the list of these devices: of one that is too large it sees nothing. Each share is named UUID::number."""
    sizes = 0
    for count in by_gpu.values():
        for digits in range(1, len(str(count)) + 1):
            numbers = min(count, 10**digits) - (10 ** (digits - 1) if digits > 1 else 0)
            sizes += numbers * (len("GPU-::") + 36 + digits + len("Healthy") + 6)  # and three times the tag and length of protobuf
    return sizes <= LARGEST_MESSAGE


def replicas(config: Config, resource: str = GPU) -> int:
    """How many times each device of the resource is advertised, by the first entry, which labels tell; 1 where it is not shared."""
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
    """What there is to serve, shares counted: count x replicas, for time slicing and MPS alike (device_map.go); raises ConfigRefused.

    Of several entries for one resource each adds the shares that are not there yet.
    """
    entries = config.sharing.resources if config.sharing else ()
    times = {resource: max((one.replicas for one in entries if one.name == resource), default=1) for resource in _unshared(config, gpus)}
    return {
        shared_name(config, resource): {index: count * times[resource] for index, count in by_gpu.items()}
        for resource, by_gpu in _unshared(config, gpus).items()
    }


def _document(text: str) -> dict[str, t.Any]:
    """The first document: further ones are not looked at."""
    try:
        document = next(yaml.safe_load_all(text), None)
    except yaml.YAMLError as error:
        raise ConfigRefused(f"{_UNMARSHAL}: error converting YAML to JSON: yaml: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise _wrong_type(document, "v1.Config")
    return document


def _field(parent: Mapping[str, t.Any], key: str, kind: type, where: str) -> t.Any:
    """The value of a structure's field, whose name counts in any case."""
    found = key if key in parent else next((name for name in parent if str(name).lower() == key.lower()), key)
    return _get(parent, found, kind, where)


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
    return ConfigRefused(f"{_UNMARSHAL}: error unmarshaling JSON: while decoding JSON: {message}")


def _sharing(parent: Mapping[str, t.Any], key: str, strategy: str) -> Sharing | None:
    block = _field(parent, key, dict, f"Sharing.{key}")
    if block is None and (strategy == "mps" or key.lower() not in map(str.lower, parent)):
        return None
    block = block or {}  # null is parsed as well where there is no pointer
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
    if "name" not in entry:
        raise _unmarshal("no resource name specified")
    name = _resource_name(_get(entry, "name", str, "ReplicatedResource.name") or "")
    _check_devices(entry.get("devices", "all"))
    if "replicas" not in entry:
        raise _unmarshal("no replicas specified")
    count = entry["replicas"]
    count = int(count) if isinstance(count, float) and count.is_integer() else count
    if (_get({"replicas": count}, "replicas", int, "ReplicatedResource.replicas") or 0) < 2:
        raise _unmarshal("number of replicas must be >= 2")
    if "rename" in entry:
        _resource_name(_get(entry, "rename", str, "ReplicatedResource.rename") or "")
    return Replicated(name, count)


def _resource_name(name: str) -> str:
    full = name if name.startswith(PREFIX) else PREFIX + name
    if len(full) > RESOURCE_NAME_LENGTH or not RESOURCE_NAME.fullmatch(full.removeprefix(PREFIX)):
        raise _unmarshal(f"incorrect format for resource name '{full}'")
    return full


def _check_devices(devices: t.Any) -> None:
    if isinstance(devices, str) and devices != "all":
        raise _unmarshal(f"devices set as '{devices}' but the only valid string input is 'all'")
    if isinstance(devices, bool) or not isinstance(devices, (str, int, list)):
        raise _unmarshal(f"unrecognized type for devices spec: {devices}")
    if isinstance(devices, int) and devices <= 0:
        raise _unmarshal(f"devices set as '{devices}' but a count of devices must be > 0")
    for one in devices if isinstance(devices, list) else ():
        if isinstance(one, bool) or not DEVICE.fullmatch(str(one)):
            raise _unmarshal(f"unsupported type for device in devices list: {one if isinstance(one, str) else ''}, string")


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
