# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The values of the GPU Operator's chart that pools need, and what is wrong with those that are given. Pure.

Sources: NVIDIA gpu-operator v26.7.0, deployments/gpu-operator/values.yaml; amazon-eks-ami (driver and container toolkit are part of the image).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpu_operator import BROKEN, CHART_VERSION, GONE, KEYS, OLDEST, SOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import family_of
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DEFAULT, Configuration
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults, join
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE, OPERANDS_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.manifests import merged
from ansible_collections.gpuops.eks.plugins.module_utils._model.mig import MIG_OPTIONS, mig_faults, parted_file
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_MAX, DEFAULT_MIN, section
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import SHARING_OPTIONS, configuration_name, sharing_faults

Pool = t.Mapping[str, t.Any]
Values = t.Mapping[str, t.Any]

PLUGIN_CONFIG = "gpuops-device-plugin"
MIG_CONFIG = "gpuops-mig-parted"
NO_MIG = "all-disabled"  # what the operator labels nodes with that have GPUs for MIG and no label

_PLUGIN_VERSION = (0, 20, 0)  # of the device plugin that charts from the oldest supported one on bring
_VERSION = re.compile(r"v?(\d+)\.(\d+)")
_RETIRED_TAG = re.compile(r"-(centos|ubi|ubuntu|rockylinux)\d")
_OWN_IMAGE = ("id", "name", "ssm_parameter")
_SHARED: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "accelerator": {"type": "str"},
    "sharing": {"type": "dict", "options": SHARING_OPTIONS},
    "mig": {"type": "dict", "options": MIG_OPTIONS},
}
_STATIC = ("managed_node_group", "auto_scaling_group")


def operator_pools(pools: t.Iterable[Pool]) -> list[Pool]:
    """The pools whose GPUs the operator shares: those with ``sharing.backend`` gpu_operator."""
    return [pool for pool in pools if _has_gpus(pool) and section(pool, "sharing").get("backend") == "gpu_operator"]


def operator_values(pools: t.Sequence[Pool], tolerations: t.Sequence[t.Mapping[str, str]], values: Values) -> dict[str, t.Any]:
    """The chart's values for the operator's pools, with ``values`` put over them: dictionaries deep, lists replaced.

    ``tolerations`` are those for taints of the pools' own.
    """
    ours = operator_pools(pools)
    strategies = [strategy for pool in ours if (strategy := mig_strategy(pool))]
    plugin = _plugin_config(ours)
    every = [{"key": GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}, *tolerations]
    computed = {
        "driver": {"enabled": False},
        "toolkit": {"enabled": False},
        "mig": {"strategy": strategies[0] if strategies else "single"},
        "migManager": _mig_manager([pool for pool in ours if mig_strategy(pool)]),
        "devicePlugin": {"config": plugin, "env": [_restart(plugin)]},
        "gfd": {"env": [_restart(plugin)]},
        "dcgmExporter": {"serviceMonitor": {"enabled": False}},  # it fails where there is no Prometheus operator
        "daemonsets": {"tolerations": every},
        "node-feature-discovery": {"worker": {"tolerations": every}},
    }
    return merged(computed, values)


def _plugin_config(pools: t.Sequence[Pool]) -> dict[str, t.Any]:
    """One configuration, by the name of each pool too: a node that our device plugin has served may still be labelled with that.

    config-manager ends where a label names a configuration that is not there, and starts the plugin with the default one whatever the
    label says (k8s-device-plugin#1645), so that all of the operator's pools share alike.
    """
    files = {configuration_name(pool["name"]): _file(pool) for pool in pools}
    default = next(iter(files.values()), Configuration(name=DEFAULT).file)
    return {"create": True, "name": PLUGIN_CONFIG, "default": DEFAULT, "data": {DEFAULT: default, **files}}


def _file(pool: Pool) -> str:
    options = {"name": configuration_name(pool["name"]), "sharing": pool.get("sharing"), "mig": pool.get("mig")}
    return Configuration.from_params({**options, "flags": None, "node_selector": None}, _PLUGIN_VERSION).file


def _mig_manager(pools: t.Sequence[Pool]) -> dict[str, t.Any]:
    """Off where no pool has MIG: it stops kubelet and reboots nodes. It reboots those of static groups alone (gpu-operator#2415)."""
    if not pools:
        return {"enabled": False}
    layouts = {configuration_name(pool["name"]): pool["mig"]["layout"] for pool in pools}
    config = {"create": True, "name": MIG_CONFIG, "default": NO_MIG, "data": {"config.yaml": parted_file({NO_MIG: {}, **layouts})}}
    reboot = [{"name": "WITH_REBOOT", "value": "true"}] if all(is_static(pool) for pool in pools) else []
    return {"enabled": True, "config": config, "env": [*reboot, _restart(config)]}


def _restart(config: t.Mapping[str, t.Any]) -> dict[str, str]:
    """A variable that nobody reads: the operator does not look into ConfigMaps, and MIG manager looks at a layout when it starts or its label changes."""
    return {"name": "GPUOPS_CONFIGURATION", "value": hashlib.sha256(json.dumps(config["data"]).encode()).hexdigest()[:12]}


def is_static(pool: Pool) -> bool:
    """Whether only people change how many nodes it has: a group of one size."""
    scaling = section(pool, "scaling")
    least, most = scaling.get("min"), scaling.get("max")
    sizes = (DEFAULT_MIN if least is None else least, DEFAULT_MAX if most is None else most)
    return (pool.get("provisioner") or _STATIC[0]) in _STATIC and str(sizes[0]) == str(sizes[1])


def has_stock_images(pools: t.Any) -> bool:
    """Whether any of the operator's pools runs an image of EKS."""
    return any(not any(section(pool, "ami").get(name) for name in _OWN_IMAGE) for pool in operator_pools(_mappings(pools)))


def values_faults(values: t.Any, path: str, *, every_key: bool = True, stock_images: bool = True) -> list[Fault]:
    """What is wrong with values for the chart. ``every_key``: keys that the recorded chart does not know are faults too.

    ``stock_images``: nodes run EKS's images, which have driver and toolkit.
    """
    if not isinstance(values, t.Mapping):
        return []
    faults = [fault for key, below in values.items() for fault in _key_faults(str(key), below, path, every_key)]
    return [*faults, *_tag_faults(values, path), *_choice_faults(values, path, stock_images)]


def pools_faults(pools: t.Any, path: str) -> list[Fault]:
    """What is wrong with pools of which the operator shares some: what it does holds for the whole cluster."""
    listed = [(index, pool) for index, pool in enumerate(pools if isinstance(pools, list) else ()) if isinstance(pool, t.Mapping)]
    ours = [id(pool) for pool in operator_pools(pool for _index, pool in listed)]
    faults: list[Fault] = []
    mine = [(index, pool) for index, pool in listed if id(pool) in ours]
    for index, pool in listed if ours else ():
        faults += _beside_faults(pool, f"{path}[{index}]") if id(pool) not in ours and _has_gpus(pool) else []
    return [*faults, *_strategy_faults(mine, path), *_sharing_faults(mine, path)]


def _strategy_faults(pools: t.Sequence[tuple[int, Pool]], path: str) -> list[Fault]:
    strategies = [(index, strategy) for index, pool in pools if (strategy := mig_strategy(pool)) is not None]
    return [
        Fault(
            path=f"{path}[{index}].mig.strategy",
            value=strategy,
            allowed=f"{strategies[0][1]}, as in {path}[{strategies[0][0]}]: the operator has one mig.strategy for all nodes",
            source=SOURCE,
        )
        for index, strategy in strategies[1:]
        if strategy != strategies[0][1]
    ]


def _sharing_faults(pools: t.Sequence[tuple[int, Pool]], path: str) -> list[Fault]:
    """Pools that share in another way than the first. MIG instances are named where they are shared."""
    shared = [(index, pool.get("sharing"), _shares(pool)) for index, pool in pools]
    return [
        Fault(
            path=f"{path}[{index}].sharing",
            value=value,
            allowed=f"as in {path}[{shared[0][0]}]: the operator's device plugin has one configuration; or another backend",
            source="https://github.com/NVIDIA/k8s-device-plugin/issues/1645",
        )
        for index, value, shares in shared[1:]
        if shares != shared[0][2]
    ]


def _shares(pool: Pool) -> tuple[str, ...]:
    sharing = section(pool, "sharing")
    if (sharing.get("strategy") or "none") == "none":
        return ()
    options = (str(sharing.get(name)) for name in ("strategy", "replicas", "rename", "fail_requests_greater_than_one"))
    return (*options, str(mig_strategy(pool)), *sorted(section(section(pool, "mig"), "layout")))


def info_faults(params: t.Mapping[str, t.Any]) -> list[Fault]:
    """What is wrong with that part of the option ``pools`` from which follows what nodes advertise."""
    faults = []
    for index, pool in enumerate(_mappings(params.get("pools"))):
        where, mig, sharing = f"pools[{index}]", pool.get("mig"), pool.get("sharing")
        found = form_faults(_SHARED, {name: pool[name] for name in _SHARED if name in pool}, path=where)
        faults += found or [*mig_faults(mig, f"{where}.mig"), *sharing_faults(sharing, f"{where}.sharing")]
    return faults


def version_faults(version: t.Any, pools: t.Any, path: str) -> list[Fault]:
    """What is wrong with a version of the chart for these pools."""
    text = str(version or "").removeprefix("v")
    types = [kind for pool in operator_pools(_mappings(pools)) for kind in _instance_types(pool)]
    return [
        Fault(path=path, value=version, allowed=why, source=SOURCE)
        for start, (families, why) in BROKEN.items()
        if text.startswith(start) and (not families or any(family_of(kind) in families for kind in types))
    ]


def mig_strategy(pool: Pool) -> str | None:
    """How a pool's MIG devices are advertised; None without MIG."""
    mig = section(pool, "mig")
    return str(mig.get("strategy") or "mixed") if mig.get("layout") else None


def _key_faults(key: str, below: t.Any, path: str, every_key: bool) -> list[Fault]:
    where = join(path, key)
    if key not in KEYS:
        return [_unknown(where, key, [*KEYS])] if every_key else []
    known = KEYS[key]
    if known is None or not isinstance(below, t.Mapping):
        return []
    faults = []
    for name, value in below.items():
        dotted = f"{key}.{name}"
        if dotted in GONE:
            faults.append(Fault(path=join(path, dotted), value=value, allowed=GONE[dotted], source=SOURCE))
        elif every_key and name not in known:
            faults.append(_unknown(join(where, str(name)), str(name), sorted(known)))
    return faults


def _unknown(where: str, key: str, known: t.Sequence[str]) -> Fault:
    """Helm would take the key, and nothing would come of it."""
    near = difflib.get_close_matches(key, known, n=1)
    allowed = f"{near[0]}, if that is meant" if near else f"one of {', '.join(known)}"
    return Fault(path=where, value=key, allowed=f"{allowed}: chart {CHART_VERSION} has no such key", source=SOURCE)


def _tag_faults(values: Values, path: str) -> list[Fault]:
    """Tags of images as old guides have them."""
    faults = []
    for dotted, (oldest, allowed) in OLDEST.items():
        given = _lookup(values, dotted)
        found = _VERSION.match(str(given or ""))
        if found and (int(found[1]), int(found[2])) < oldest:
            faults.append(Fault(path=join(path, dotted), value=given, allowed=allowed, source=SOURCE))
    toolkit = _lookup(values, "toolkit.version")
    if _RETIRED_TAG.search(str(toolkit or "")):
        allowed = "unset: tags for one distribution are no longer made, and EKS's images have the toolkit (toolkit.enabled: false)"
        faults.append(Fault(path=join(path, "toolkit.version"), value=toolkit, allowed=allowed, source=SOURCE))
    return faults


def _choice_faults(values: Values, path: str, stock_images: bool) -> list[Fault]:
    """Values that stop the operator's work on EKS's images, or what the role waits for."""
    rules: dict[str, tuple[bool, str]] = {
        "clusterPolicy.deployCR": (False, "true: without a ClusterPolicy the operator runs no device plugin"),
        "gpuCluster.deployCR": (True, "false: dynamic resource allocation and the device plugin exclude each other"),
        "sandboxWorkloads.enabled": (True, "false: GPUs for virtual machines are not shared by a device plugin"),
    }
    if stock_images:
        rules["driver.enabled"] = (True, "false: EKS's images have the driver, and there is no driver container for Amazon Linux 2023")
    found = ((dotted, _lookup(values, dotted), wrong, allowed) for dotted, (wrong, allowed) in rules.items())
    return [
        Fault(path=join(path, dotted), value=given, allowed=allowed, source=SOURCE)
        for dotted, given, wrong, allowed in found
        if given is wrong
    ]


def _beside_faults(pool: Pool, where: str) -> list[Fault]:
    """A pool of another backend, on whose nodes the operator would run a device plugin too."""
    given = section(pool, "labels").get(OPERANDS_LABEL)
    if str(given).lower() == "false":
        return []
    allowed = '"false", so that the operator leaves these nodes alone: another pool has sharing.backend gpu_operator, and a node runs one device plugin'
    source = "NVIDIA gpu-operator v26.7.0, controllers/state_manager.go: nvidia.com/gpu.deploy.operands"
    return [Fault(path=f"{where}.labels.{OPERANDS_LABEL}", value=given, allowed=allowed, source=source)]


def _has_gpus(pool: Pool) -> bool:
    return (pool.get("accelerator") or "nvidia") == "nvidia"


def _instance_types(pool: Pool) -> list[str]:
    types = section(pool, "instances").get("types")
    return [kind for kind in types if isinstance(kind, str)] if isinstance(types, list) else []


def _mappings(pools: t.Any) -> list[Pool]:
    return [pool for pool in pools if isinstance(pool, t.Mapping)] if isinstance(pools, list) else []


def _lookup(values: Values, dotted: str) -> t.Any:
    top, _dot, name = dotted.partition(".")
    return section(values, top).get(name)
