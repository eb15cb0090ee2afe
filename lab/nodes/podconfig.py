"""Pure: which config file a pod's container reads, followed through its command line, environment, mounts and volumes."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lab.contracts import NODE_PROGRAMS
from lab.kubernetes.client import Json
from lab.nodes.sharing import NotImitated

PLUGIN, MPS_DAEMON, FEATURE_DISCOVERY = NODE_PROGRAMS
CONFIG_MANAGER = "config-manager"
CONFIG_LABEL = "nvidia.com/device-plugin.config"
FALLBACKS = ("named", "single", "empty")

#: (namespace, name) -> the ConfigMap's data, None when there is none
ConfigMaps = Callable[[str, str], Mapping[str, str] | None]


class NotMounted(RuntimeError):
    """The kubelet cannot mount a volume yet: the container waits in ContainerCreating."""


class InitFailed(RuntimeError):
    """config-manager ends with this message."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What the container reads. ``text`` None: it was given no config file."""

    text: str | None
    settings: Mapping[str, str]


def container_of(pod: Json, program: str) -> Json | None:
    """The container that runs ``program`` (its command, or its arguments' first word where the image has an entry point)."""
    return next((c for c in pod["spec"].get("containers") or () if _runs(c, program)), None)


def config_manager(pod: Json, *, sidecar: bool) -> Json | None:
    """The pod's config-manager: its sidecar, or its init container."""
    found = [c for c in pod["spec"].get("initContainers") or () if _runs(c, CONFIG_MANAGER)]
    sidecars = [c for c in pod["spec"].get("containers") or () if _runs(c, CONFIG_MANAGER)]
    sidecars += [c for c in found if c.get("restartPolicy") == "Always"]
    ones = [c for c in found if c.get("restartPolicy") != "Always"]
    return next(iter(sidecars if sidecar else ones), None)


def config_file(pod: Json, container: Json, node_label: str, config_maps: ConfigMaps) -> ConfigFile:
    """What the container's program finds in its config file; raises NotMounted, InitFailed, NotImitated, FileNotFoundError."""
    settings = _settings(container)
    for volume in _mounted_config_maps(pod, container):
        _config_map(pod, volume, config_maps)  # every mounted ConfigMap must be there, whether it holds the config or not
    path = settings.get("CONFIG_FILE", "")
    if not path:
        return ConfigFile(None, settings)
    volume, inside, mounted_file = _locate(pod, container, path)
    if "emptyDir" in volume:
        return ConfigFile(_managed(pod, node_label, config_maps), settings)
    files = _files(pod, volume, config_maps)
    key = mounted_file or inside
    if key not in files:
        raise FileNotFoundError(f"error opening config file: open {path}: no such file or directory")
    return ConfigFile(files[key], settings)


def choose(names: list[str], label: str, default: str, fallbacks: list[str]) -> str | None:
    """config-manager's rule (cmd/config-manager/main.go, updateConfigName); None is the empty config; raises InitFailed."""
    if not names:
        raise InitFailed("no configuration files available")
    if wanted := label or default:
        if wanted not in names:
            raise InitFailed(f"specified config {wanted} does not exist")
        return wanted
    for fallback in fallbacks:
        if fallback not in FALLBACKS:
            raise InitFailed(f"unknown fallback strategy: {fallback}")
        if fallback == "named" and "default" in names:
            return "default"
        if fallback == "single" and len(names) == 1:
            return names[0]
        if fallback == "empty":
            return None
    raise InitFailed("no config was set, no default was provided, and all fallbacks failed")


def _managed(pod: Json, node_label: str, config_maps: ConfigMaps) -> str | None:
    """The config that config-manager links into the shared directory.

    Measured with v0.19.3 and reported as k8s-device-plugin#1645: the init container alone never sees the node's label, since it reads
    the value before its node cache has synced; the sidecar then applies the label's.
    """
    sidecar, init = config_manager(pod, sidecar=True), config_manager(pod, sidecar=False)
    manager = sidecar or init
    if manager is None:
        raise NotImitated("a config file in an emptyDir that no config-manager fills")
    settings = _environment(manager)
    source = settings.get("CONFIG_FILE_SRCDIR", "")
    volume, inside, _ = _locate(pod, manager, source)
    if inside not in ("", "."):
        raise NotImitated(f"CONFIG_FILE_SRCDIR {source} below its mount")
    files = _files(pod, volume, config_maps)
    names = sorted(n for n in files if not n.startswith("..") and "/" not in n)
    fallbacks = [f for f in settings.get("FALLBACK_STRATEGIES", "").split(",") if f]
    name = choose(names, node_label if sidecar else "", settings.get("DEFAULT_CONFIG", ""), fallbacks)
    return "" if name is None else files[name]


def _runs(container: Json, program: str) -> bool:
    words = container.get("command") or container.get("args") or [""]
    return posixpath.basename(words[0]) == program


def _environment(container: Json) -> dict[str, str]:
    return {e["name"]: e.get("value", "") for e in container.get("env") or ()}


def _settings(container: Json) -> dict[str, str]:
    """Environment, overridden by the command line: ``--mig-strategy=single`` is MIG_STRATEGY (the plugin's flag naming)."""
    found = _environment(container)
    words = [*(container.get("command") or ()), *(container.get("args") or ())]
    for position, word in enumerate(words):
        if not word.startswith("-"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not equals:
            following = words[position + 1] if position + 1 < len(words) else ""
            value = "true" if not following or following.startswith("-") else following
        found[name.upper().replace("-", "_")] = value
    return found


def _locate(pod: Json, container: Json, path: str) -> tuple[Json, str, str]:
    """(volume, path inside the mount, file that a subPath mount shows) of the longest mount that holds ``path``."""
    path = posixpath.normpath(path)
    mounts = [m for m in container.get("volumeMounts") or () if path == _mount(m) or path.startswith(_mount(m).rstrip("/") + "/")]
    if not mounts:
        raise FileNotFoundError(f"error opening config file: open {path}: no such file or directory")
    mount = max(mounts, key=lambda m: len(_mount(m)))
    volume = next(v for v in pod["spec"].get("volumes") or () if v["name"] == mount["name"])
    inside = path[len(_mount(mount).rstrip("/")) :].lstrip("/")
    sub_path = mount.get("subPath", "")
    return volume, inside, posixpath.normpath(posixpath.join(sub_path, inside)) if sub_path else ""


def _mount(mount: Json) -> str:
    return posixpath.normpath(mount["mountPath"])


def _mounted_config_maps(pod: Json, container: Json) -> list[Json]:
    names = {m["name"] for m in container.get("volumeMounts") or ()}
    return [v for v in pod["spec"].get("volumes") or () if v["name"] in names and "configMap" in v]


def _files(pod: Json, volume: Json, config_maps: ConfigMaps) -> dict[str, str]:
    """Path -> text of a ConfigMap or projected volume."""
    if "configMap" in volume:
        return _config_map(pod, volume, config_maps)
    if "projected" in volume:
        found: dict[str, str] = {}
        for source in volume["projected"].get("sources") or ():
            if "configMap" in source:
                found |= _config_map(pod, source, config_maps)
        return found
    kind = next((k for k in volume if k != "name"), "empty")
    raise NotImitated(f"a config file in a volume of type {kind}")


def _config_map(pod: Json, holder: Json, config_maps: ConfigMaps) -> dict[str, str]:
    source = holder["configMap"]
    namespace, name = pod["metadata"]["namespace"], source["name"]
    data = config_maps(namespace, name)
    if data is None:
        if source.get("optional"):
            return {}
        raise NotMounted(f'MountVolume.SetUp failed for volume "{holder.get("name", name)}" : configmap "{name}" not found')
    items = source.get("items")
    if not items:
        return dict(data)
    if missing := [i["key"] for i in items if i["key"] not in data and not source.get("optional")]:
        raise NotMounted(
            f'MountVolume.SetUp failed for volume "{holder.get("name", name)}" : '
            f"configmap references non-existent config key: {', '.join(missing)}"
        )
    return {posixpath.normpath(i["path"]): data[i["key"]] for i in items if i["key"] in data}
