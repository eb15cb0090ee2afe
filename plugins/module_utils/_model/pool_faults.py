# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What is wrong with the options of a pool, beyond their types (form_faults finds those). Needs no account. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import SOURCE as AMI_SOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import unsupported
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import (
    GONE_FAMILIES,
    GPU_FAMILIES,
    family_of,
    is_family,
    is_instance_type,
    is_size,
    without_nvidia,
)
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    GPU_RESOURCE,
    MIG_CONFIG_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import tag_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import (
    DEFAULT_DISK_TYPE,
    DEFAULT_MAX,
    DEFAULT_MIN,
    DEFAULT_THROUGHPUT,
    section,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_gpu_faults import gpu_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_iam_faults import policy_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_params import accelerator as _accelerator
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_params import ami_family as _ami_family
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_params import lookup as _lookup
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_params import number as _number
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_params import provisioner as _kind
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_params import texts as _texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import user_data_faults
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import is_planned

Pool = t.Mapping[str, t.Any]
Rule = t.Callable[[Pool, str], list[Fault]]

_RELEASE = "this release of gpuops.eks"
_RULES_SOURCE = "the collection's options"
_EC2_TYPES = "EC2 API Reference, InstanceType"
_LABEL_SOURCE = "Kubernetes, Labels and Selectors: syntax and character set"
_NODEGROUP_SOURCE = "EKS API Reference, CreateNodegroup"
_EBS_SOURCE = "EC2 API Reference, LaunchTemplateEbsBlockDeviceRequest"

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_ZONE_NAME = re.compile(r"[a-z]{2,3}(-[a-z]+)+-[0-9]+(-[a-z]+-[0-9]+)?[a-z]")
_ZONE_ID = re.compile(r"[a-z]{2,5}[0-9]+(-[a-z]+[0-9]+)?-az[0-9]+")
_RESERVATION_ID = re.compile(r"cr-[0-9a-f]{8,17}")
_AMI_ID = re.compile(r"ami-[0-9a-f]{8,17}")
_GROUP_ID = re.compile(r"sg-[0-9a-f]{8,17}")
_PROFILE_NAME = re.compile(r"[\w+=,.@-]{1,128}")
_DURATION = re.compile(r"(\d+(\.\d+)?(ns|us|ms|s|m|h))+|Never")
_RELEASES = {
    "al2023": (re.compile(r"v20[0-9]{6}|latest"), "vYYYYMMDD, such as v20260724, or latest"),
    "bottlerocket": (re.compile(r"[0-9]+\.[0-9]+\.[0-9]+|latest"), "a version such as 1.54.0, or latest"),
}
_SUBNET_ID = re.compile(r"subnet-[0-9a-f]{8,17}")
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+")
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}")
_RESERVED_DOMAINS = ("kubernetes.io", "k8s.io", "eks.amazonaws.com")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

_M, _A, _K = "managed_node_group", "auto_scaling_group", "karpenter"
# Options that not every provisioner can express, with those that can. Source: interfaces of the services themselves, named below.
_ONLY: dict[str, tuple[str, ...]] = {
    "capacity.on_demand_base": (_A,),
    "capacity.on_demand_percentage": (_A,),
    "limits.cpus": (_K,),
    "limits.memory_gib": (_K,),
    "disruption.consolidation": (_K,),
    "disruption.budgets": (_K,),
    "disruption.expire_after": (_K,),
    "iam.instance_profile": (_K, _A),
    "scaling.desired": (_M, _A),
    "update.max_unavailable": (_M,),
    "update.strategy": (_M,),
    "warm_pool": (_M, _A),
    "overrides.node_pool": (_K,),
    "overrides.node_class": (_K,),
    "overrides.launch_template": (_M, _A),
    "overrides.node_group": (_M,),
    "overrides.auto_scaling_group": (_A,),
}
_PROVISIONER_SOURCES = {
    _M: "EKS API Reference, CreateNodegroup",
    _A: "EC2 Auto Scaling API Reference, CreateAutoScalingGroup",
    _K: "Karpenter, NodePools and NodeClasses",
}


def pools_faults(pools: t.Any, path: str) -> list[Fault]:
    """Every fault of every pool, and names that are given twice; for values of any type."""
    if not isinstance(pools, list):
        return []
    named = [pool.get("name") if isinstance(pool, t.Mapping) else None for pool in pools]
    faults = [fault for index, pool in enumerate(pools) if isinstance(pool, t.Mapping) for fault in pool_faults(pool, f"{path}[{index}]")]
    for index, name in enumerate(named):
        if isinstance(name, str) and name in named[:index]:
            allowed = f"a name of its own; {path}[{named.index(name)}] has this one"
            faults.append(Fault(path=f"{path}[{index}].name", value=name, allowed=allowed, source=_RULES_SOURCE))
    return faults


def pool_faults(pool: Pool, path: str) -> list[Fault]:
    """Every fault of one pool; for values of any type."""
    return [fault for rule in _RULES for fault in rule(pool, path)]


def name_faults(pool: Pool, path: str) -> list[Fault]:
    """What is wrong with a pool's name; a missing one is a fault of the options."""
    name = pool.get("name")
    if name is None or (isinstance(name, str) and _DNS_LABEL.fullmatch(name)):
        return []
    allowed = "1 to 63 lower case letters, digits and dashes, the first and last no dash"
    return [Fault(path=join(path, "name"), value=name, allowed=allowed, source="Kubernetes, Object Names and IDs: RFC 1123 label names")]


def _provisioner(pool: Pool, path: str) -> list[Fault]:
    given, where = pool.get("provisioner"), join(path, "provisioner")
    if given is None:
        return [Fault(path=where, value=None, allowed=f"required: {_K}, {_M} or {_A}", source=_RULES_SOURCE)]
    if given == "auto_mode":
        allowed = (
            f"{_K}, {_M} or {_A}; auto_mode is reserved: EKS Auto Mode runs its own device plugin, so that GPUs cannot be shared there"
        )
        return [Fault(path=where, value=given, allowed=allowed, source="EKS user guide, Auto Mode: manage device plugins")]
    return []


def _unsupported(pool: Pool, path: str) -> list[Fault]:
    faults = []
    kind = _kind(pool)
    for dotted, able in _ONLY.items():
        if (value := _lookup(pool, dotted)) not in (None, [], {}, "") and kind not in able:
            faults.append(_cannot(pool, path, dotted, value, able))
    if kind == _K and (_number(_lookup(pool, "scaling.min")) or 0) > 0:
        faults.append(_cannot(pool, path, "scaling.min", _lookup(pool, "scaling.min"), (_M, _A), "0 or unset"))
    if kind == _A and _lookup(pool, "repair.enabled") is True:
        faults.append(_cannot(pool, path, "repair.enabled", True, (_M, _K), "false or unset"))
    return faults


def _cannot(pool: Pool, path: str, dotted: str, value: t.Any, able: tuple[str, ...], allowed: str = "unset") -> Fault:
    kind = _kind(pool)
    return Fault(
        path=join(path, dotted),
        value=value,
        allowed=f"{allowed} with {kind}, which cannot do this; {' and '.join(able)} can",
        source=_PROVISIONER_SOURCES.get(kind, _RULES_SOURCE),
    )


def _instances(pool: Pool, path: str) -> list[Fault]:
    instances, where = section(pool, "instances"), join(path, "instances")
    faults: list[Fault] = []
    if not instances.get("types") and not instances.get("families") and _kind(pool) != _K and not pool.get("adopt"):
        allowed = "instances.types or instances.families: groups have explicit types"
        faults.append(Fault(path=where, value=pool.get("instances"), allowed=allowed, source=_RULES_SOURCE))
    for index, name in _texts(instances.get("types")):
        if is_instance_type(name):
            faults += _family_faults(pool, family_of(name), name, f"{where}.types[{index}]")
        else:
            allowed = "an instance type: family, dot, size, such as g5.2xlarge"
            faults.append(Fault(path=f"{where}.types[{index}]", value=name, allowed=allowed, source=_EC2_TYPES))
    for index, name in _texts(instances.get("families")):
        if is_family(name):
            faults += _family_faults(pool, name, name, f"{where}.families[{index}]")
        else:
            allowed = "an instance family, such as g5"
            faults.append(Fault(path=f"{where}.families[{index}]", value=name, allowed=allowed, source=_EC2_TYPES))
    for index, name in _texts(instances.get("sizes")):
        if not is_size(name):
            faults.append(Fault(path=f"{where}.sizes[{index}]", value=name, allowed="an instance size, such as 2xlarge", source=_EC2_TYPES))
    return faults


def _family_faults(pool: Pool, family: str, value: str, where: str) -> list[Fault]:
    """What the catalogue knows against a family in this pool; at most one fault, the one to mend first."""
    known = GPU_FAMILIES.get(family)
    if _accelerator(pool) == "none":
        if known is None:
            return []
        allowed = f"a family without GPUs in a pool with accelerator none; {family} has NVIDIA {known.model}: use accelerator nvidia"
        return [Fault(path=where, value=value, allowed=allowed, source=_EC2_TYPES)]
    if family in GONE_FAMILIES:
        return [Fault(path=where, value=value, allowed=f"a current family; {family} has {GONE_FAMILIES[family]}", source=AMI_SOURCE)]
    if instead := without_nvidia(family):
        allowed = f"a family with NVIDIA GPUs in a pool with accelerator nvidia; {family} has {instead}"
        return [Fault(path=where, value=value, allowed=allowed, source="EC2, DescribeInstanceTypes: GpuInfo")]
    return [] if known is None else _gpu_family_faults(pool, family, known.architecture, value, where)


def _gpu_family_faults(pool: Pool, family: str, architecture: str, value: str, where: str) -> list[Fault]:
    wanted = [name for _index, name in _texts(section(pool, "instances").get("architectures"))] or ["amd64"]
    if architecture not in wanted:
        allowed = f"a family of instances.architectures {wanted}; {family} is {architecture}"
        return [Fault(path=where, value=value, allowed=allowed, source="EC2, DescribeInstanceTypes: ProcessorInfo")]
    if unsupported(family, _ami_family(pool), architecture, GPU_FAMILIES):
        allowed = f"a family that the {_ami_family(pool)} NVIDIA AMI for {architecture} supports; {family} needs an AMI of its own"
        return [Fault(path=where, value=value, allowed=allowed, source=AMI_SOURCE)]
    return []


def _architectures(pool: Pool, path: str) -> list[Fault]:
    given = section(pool, "instances").get("architectures")
    if len({name for _index, name in _texts(given)}) <= 1 or (_kind(pool) == _K and _accelerator(pool) == "none"):
        return []
    allowed = "exactly one architecture: a group, and a pool with GPUs, has one AMI"
    return [Fault(path=join(path, "instances.architectures"), value=given, allowed=allowed, source=_NODEGROUP_SOURCE)]


def _ranges(pool: Pool, path: str) -> list[Fault]:
    instances = section(pool, "instances")
    gpu = section(instances, "gpu")
    ranges = {
        "generations": section(instances, "generations"),
        "cpus": section(instances, "cpus"),
        "memory_gib": section(instances, "memory_gib"),
        "gpu.memory_gib": section(gpu, "memory_gib"),
    }
    faults = []
    for name, limits in ranges.items():
        low, high = _number(limits.get("min")), _number(limits.get("max"))
        where = join(path, f"instances.{name}")
        faults += [_at_least(f"{where}.{end}", value, 0) for end, value in (("min", low), ("max", high)) if value is not None and value < 0]
        if low is not None and high is not None and low > high:
            faults.append(Fault(path=f"{where}.min", value=low, allowed=f"at most {name}.max, {high}", source=_RULES_SOURCE))
    counts = gpu.get("count")
    for index, count in enumerate(counts if isinstance(counts, list) else ()):
        if (number := _number(count)) is not None and number < 1:
            faults.append(_at_least(join(path, f"instances.gpu.count[{index}]"), count, 1))
    return faults


def _at_least(path: str, value: t.Any, least: int, source: str = _RULES_SOURCE) -> Fault:
    return Fault(path=path, value=value, allowed=f"at least {least}", source=source)


def _capacity(pool: Pool, path: str) -> list[Fault]:
    faults, seen = [], []
    types = [kind for _index, kind in _texts(section(pool, "capacity").get("types"))]
    for index, kind in _texts(section(pool, "capacity").get("types")):
        if kind in seen:
            where = join(path, f"capacity.types[{index}]")
            faults.append(Fault(path=where, value=kind, allowed="each capacity type once", source=_RULES_SOURCE))
        seen.append(kind)
    return faults + _reservations(pool, path, types) + _mixed(pool, path, types)


def _reservations(pool: Pool, path: str, types: list[str]) -> list[Fault]:
    where, given = join(path, "capacity.reservations"), section(pool, "capacity").get("reservations")
    ids = _texts(given)
    faults = [
        Fault(
            path=f"{where}[{index}]",
            value=id_,
            allowed="the id of a capacity reservation, cr-…",
            source="EC2 API Reference, CapacityReservation",
        )
        for index, id_ in ids
        if not _RESERVATION_ID.fullmatch(id_)
    ]
    reserved = [kind for kind in types if kind in ("reserved", "capacity_block")]
    if reserved and not ids:
        faults.append(Fault(path=where, value=given, allowed=f"the ids of the reservations, with {reserved[0]}", source=_RULES_SOURCE))
    if ids and not reserved:
        allowed = "unset unless capacity.types has reserved or capacity_block"
        faults.append(Fault(path=where, value=given, allowed=allowed, source=_RULES_SOURCE))
    if "capacity_block" in types and len(types) > 1 and _kind(pool) != _K:
        allowed = "capacity_block alone: a group of a capacity block has no other capacity"
        source = "EKS user guide, Create a managed node group with Capacity Blocks"
        faults.append(Fault(path=join(path, "capacity.types"), value=types, allowed=allowed, source=source))
    return faults


def _mixed(pool: Pool, path: str, types: list[str]) -> list[Fault]:
    """One group with On-Demand and Spot instances needs both, and numbers that mean something."""
    base, percentage = (_number(_lookup(pool, f"capacity.{name}")) for name in ("on_demand_base", "on_demand_percentage"))
    faults = []
    if base is not None and base < 0:
        faults.append(_at_least(join(path, "capacity.on_demand_base"), base, 0))
    if percentage is not None and not 0 <= percentage <= 100:
        where = join(path, "capacity.on_demand_percentage")
        faults.append(Fault(path=where, value=percentage, allowed="from 0 to 100", source=_PROVISIONER_SOURCES[_A]))
    if (base is not None or percentage is not None) and _kind(pool) == _A and set(types) != {"on_demand", "spot"}:
        allowed = "on_demand and spot, which on_demand_base and on_demand_percentage mix"
        faults.append(Fault(path=join(path, "capacity.types"), value=types, allowed=allowed, source=_RULES_SOURCE))
    return faults


def _zones(pool: Pool, path: str) -> list[Fault]:
    faults, seen = [], []
    for index, zone in _texts(pool.get("zones")):
        where = join(path, f"zones[{index}]")
        if not _ZONE_NAME.fullmatch(zone) and not _ZONE_ID.fullmatch(zone):
            allowed = "the name or id of an availability zone, such as us-west-2a or usw2-az1"
            faults.append(Fault(path=where, value=zone, allowed=allowed, source="EC2 API Reference, DescribeAvailabilityZones"))
        elif zone in seen:
            faults.append(Fault(path=where, value=zone, allowed="each zone once", source=_RULES_SOURCE))
        seen.append(zone)
    return faults


def _scaling(pool: Pool, path: str) -> list[Fault]:
    scaling, where = section(pool, "scaling"), join(path, "scaling")
    least, most, desired = (_number(scaling.get(name)) for name in ("min", "max", "desired"))
    floors = {"min": (least, 0), "max": (most, 1), "desired": (desired, 0)}
    faults = [
        _at_least(f"{where}.{name}", value, floor, _NODEGROUP_SOURCE)
        for name, (value, floor) in floors.items()
        if value is not None and value < floor
    ]
    if faults:
        return faults
    low, high = least if least is not None else DEFAULT_MIN, most if most is not None else DEFAULT_MAX
    if low > high:
        allowed = f"at most scaling.max, {high}{'' if most is not None else ' when left out'}"
        return [Fault(path=f"{where}.min", value=low, allowed=allowed, source=_NODEGROUP_SOURCE)]
    if desired is not None and not low <= desired <= high:
        allowed = f"from scaling.min to scaling.max, {low} to {high}"
        return [Fault(path=f"{where}.desired", value=desired, allowed=allowed, source=_NODEGROUP_SOURCE)]
    return []


def _limits(pool: Pool, path: str) -> list[Fault]:
    gpus = _number(section(pool, "limits").get("gpus"))
    if gpus is None or gpus >= 1:
        return []
    return [_at_least(join(path, "limits.gpus"), gpus, 1)]


def _labels(pool: Pool, path: str) -> list[Fault]:
    labels = pool.get("labels")
    if not isinstance(labels, t.Mapping):
        return []
    faults = []
    for key, value in labels.items():
        where = f"{join(path, 'labels')}.{key}"
        faults += _qualified_name_faults(str(key), where, "label key")
        faults += _reserved_key_faults(str(key), where)
        faults += _label_value_faults(value, where)
    return faults


def _qualified_name_faults(key: str, where: str, what: str) -> list[Fault]:
    prefix, slash, name = key.rpartition("/")
    valid_prefix = not slash or (len(prefix) <= 253 and _LABEL_PREFIX.fullmatch(prefix) is not None)
    if valid_prefix and _LABEL_NAME.fullmatch(name):
        return []
    allowed = f"a {what}: optional DNS prefix and slash, then 1 to 63 letters, digits, -, _ and ., the first and last a letter or digit"
    return [Fault(path=where, value=key, allowed=allowed, source=_LABEL_SOURCE)]


def _reserved_key_faults(key: str, where: str) -> list[Fault]:
    prefix = key.rpartition("/")[0]
    if any(prefix == domain or prefix.endswith(f".{domain}") for domain in _RESERVED_DOMAINS):
        allowed = f"a key outside {', '.join(_RESERVED_DOMAINS)}, which EKS refuses on node groups"
        source = "EKS: Label cannot contain reserved prefixes; https://github.com/aws/containers-roadmap/issues/1451"
        return [Fault(path=where, value=key, allowed=allowed, source=source)]
    if prefix == "gpuops.eks" or key in (GPU_PRESENT_LABEL, DEVICE_PLUGIN_CONFIG_LABEL, MIG_CONFIG_LABEL):
        allowed = "another key; this label follows from the pool's name, accelerator, mig and sharing"
        return [Fault(path=where, value=key, allowed=allowed, source=_RULES_SOURCE)]
    if key == GPU_RESOURCE:
        allowed = f"another key; this is the name of a resource: nodes with GPUs have the label {GPU_PRESENT_LABEL}=true, which a nodeSelector can name"
        return [Fault(path=where, value=key, allowed=allowed, source=_RULES_SOURCE)]
    return []


def _label_value_faults(value: t.Any, where: str) -> list[Fault]:
    text = "" if value is None else str(value)
    if isinstance(value, (dict, list)) or (text and not _LABEL_NAME.fullmatch(text)):
        allowed = "at most 63 letters, digits, -, _ and ., the first and last a letter or digit"
        return [Fault(path=where, value=value, allowed=allowed, source=_LABEL_SOURCE)]
    return []


def _taints(pool: Pool, path: str) -> list[Fault]:
    return _taint_list(pool, path, "taints") + _taint_list(pool, path, "startup_taints")


def _taint_list(pool: Pool, path: str, name: str) -> list[Fault]:
    taints = pool.get(name)
    faults: list[Fault] = []
    seen: list[tuple[t.Any, t.Any]] = []
    for index, taint in enumerate(taints if isinstance(taints, list) else ()):
        if not isinstance(taint, t.Mapping):
            continue
        where = f"{join(path, name)}[{index}]"
        faults += _taint_faults(taint, where)
        identity = (taint.get("key"), taint.get("effect"))
        if identity in seen:
            faults.append(Fault(path=where, value=dict(taint), allowed="each key and effect once", source="Kubernetes API, Taint"))
        seen.append(identity)
    return faults


def _taint_faults(taint: t.Mapping[str, t.Any], where: str) -> list[Fault]:
    faults = []
    key, effect = taint.get("key"), taint.get("effect")
    if isinstance(key, str):
        faults += _qualified_name_faults(key, f"{where}.key", "taint key")
        if len(key) > 63:
            faults.append(Fault(path=f"{where}.key", value=key, allowed="at most 63 characters", source=_NODEGROUP_SOURCE))
    faults += _label_value_faults(taint.get("value"), f"{where}.value")
    if effect is not None and effect not in _EFFECTS:
        allowed = f"one of {', '.join(_EFFECTS)}"
        faults.append(Fault(path=f"{where}.effect", value=effect, allowed=allowed, source="Kubernetes API, Taint"))
    return faults


def _without_accelerator(pool: Pool, path: str) -> list[Fault]:
    if _accelerator(pool) != "none":
        return []
    given = {
        "sharing.strategy": _lookup(pool, "sharing.strategy"),
        "mig": pool.get("mig"),
        "instances.gpu": {key: value for key, value in section(section(pool, "instances"), "gpu").items() if value},
        "limits.gpus": _lookup(pool, "limits.gpus"),
    }
    allowed = "unset in a pool with accelerator none"
    return [
        Fault(path=join(path, dotted), value=value, allowed=allowed, source=_RULES_SOURCE)
        for dotted, value in given.items()
        if value not in (None, "none", {})
    ]


def _disk(pool: Pool, path: str) -> list[Fault]:
    disk, where = section(pool, "disk"), join(path, "disk")
    kind = disk.get("type") or DEFAULT_DISK_TYPE
    size, throughput, iops = (_number(disk.get(name)) for name in ("size_gib", "throughput", "iops"))
    faults = [
        _at_least(f"{where}.{name}", value, floor, _EBS_SOURCE)
        for name, value, floor in (("size_gib", size, 20), ("throughput", throughput, 125), ("iops", iops, 3000 if kind == "gp3" else 100))
        if value is not None and value < floor
    ]
    if throughput is not None and kind != "gp3":
        faults.append(Fault(path=f"{where}.throughput", value=throughput, allowed="unset unless disk.type is gp3", source=_EBS_SOURCE))
    if iops is not None and kind == "gp2":
        faults.append(Fault(path=f"{where}.iops", value=iops, allowed="unset with disk.type gp2", source=_EBS_SOURCE))
    if iops is None and kind in ("io1", "io2"):
        faults.append(Fault(path=f"{where}.iops", value=None, allowed=f"required with disk.type {kind}", source=_EBS_SOURCE))
    if kind == "gp3" and (throughput or DEFAULT_THROUGHPUT) * 4 > (iops or 3000):
        allowed = "at most a quarter of disk.iops, which is 3000 when left out"
        value = throughput or DEFAULT_THROUGHPUT
        faults.append(Fault(path=f"{where}.throughput", value=value, allowed=allowed, source="EBS user guide, General Purpose SSD volumes"))
    return faults + _instance_store(pool, path)


def _instance_store(pool: Pool, path: str) -> list[Fault]:
    given = _lookup(pool, "disk.instance_store")
    if given != "raid0" or _ami_family(pool) != "bottlerocket":
        return []
    allowed = "none with ami.family bottlerocket, which this release does not set up for it"
    return [Fault(path=join(path, "disk.instance_store"), value=given, allowed=allowed, source=_RELEASE)]


def _network(pool: Pool, path: str) -> list[Fault]:
    faults = []
    for index, subnet in _texts(section(pool, "network").get("subnets")):
        if not _SUBNET_ID.fullmatch(subnet) and not is_planned(subnet):
            where = join(path, f"network.subnets[{index}]")
            faults.append(Fault(path=where, value=subnet, allowed="the id of a subnet", source="EC2 API Reference, Subnet"))
    for index, group in _texts(section(pool, "network").get("security_groups")):
        if not _GROUP_ID.fullmatch(group) and not is_planned(group):
            where = join(path, f"network.security_groups[{index}]")
            faults.append(Fault(path=where, value=group, allowed="the id of a security group", source="EC2 API Reference, SecurityGroup"))
    return faults + _identity(pool, path)


def _identity(pool: Pool, path: str) -> list[Fault]:
    role, profile = _lookup(pool, "iam.node_role"), _lookup(pool, "iam.instance_profile")
    faults = role_faults(role, join(path, "iam.node_role"))
    where = join(path, "iam.instance_profile")
    if isinstance(profile, str) and not _PROFILE_NAME.fullmatch(profile):
        faults.append(
            Fault(path=where, value=profile, allowed="the name of an instance profile", source="IAM API Reference, InstanceProfile")
        )
    if role and profile and _kind(pool) == _K:
        allowed = "unset with iam.node_role: one of both"
        faults.append(
            Fault(path=where, value=profile, allowed=allowed, source="Karpenter, EC2NodeClass: spec.role and spec.instanceProfile")
        )
    return faults


def _ami(pool: Pool, path: str) -> list[Fault]:
    ami, where = section(pool, "ami"), join(path, "ami")
    own = [name for name in ("id", "name", "ssm_parameter") if ami.get(name)]
    faults = [
        Fault(path=f"{where}.{name}", value=ami[name], allowed=f"unset with ami.{own[0]}: one image", source=_RULES_SOURCE)
        for name in own[1:]
    ]
    if own and ami.get("release"):
        allowed = f"unset with ami.{own[0]}, which names the image"
        faults.append(Fault(path=f"{where}.release", value=ami["release"], allowed=allowed, source=_RULES_SOURCE))
    if ami.get("owner") and not ami.get("name"):
        faults.append(Fault(path=f"{where}.owner", value=ami["owner"], allowed="unset without ami.name", source=_RULES_SOURCE))
    if isinstance(ami.get("id"), str) and not _AMI_ID.fullmatch(ami["id"]):
        faults.append(Fault(path=f"{where}.id", value=ami["id"], allowed="the id of an AMI, ami-…", source="EC2 API Reference, Image"))
    pattern, form = _RELEASES.get(_ami_family(pool), _RELEASES["al2023"])
    if isinstance(ami.get("release"), str) and not pattern.fullmatch(ami["release"]):
        source = f"the releases of {_ami_family(pool)}"
        faults.append(Fault(path=f"{where}.release", value=ami["release"], allowed=form, source=source))
    return faults


def _priority(pool: Pool, path: str) -> list[Fault]:
    given = _number(pool.get("priority"))
    if given is None or 1 <= given <= 100:
        return []
    return [Fault(path=join(path, "priority"), value=given, allowed="from 1 to 100", source="Karpenter, NodePool: spec.weight")]


def _disruption(pool: Pool, path: str) -> list[Fault]:
    faults = []
    for name in ("consolidate_after", "expire_after"):
        value = _lookup(pool, f"disruption.{name}")
        if isinstance(value, str) and not _DURATION.fullmatch(value):
            allowed = "a duration such as 30s, 10m or 720h, or Never"
            where = join(path, f"disruption.{name}")
            faults.append(Fault(path=where, value=value, allowed=allowed, source="Karpenter, NodePool: spec.disruption"))
    return faults


def _warm_pool(pool: Pool, path: str) -> list[Fault]:
    given, where = section(pool, "warm_pool"), join(path, "warm_pool")
    faults = []
    for name, least in (("min_size", 0), ("max_prepared", 0)):
        if (value := _number(given.get(name))) is not None and value < least:
            faults.append(_at_least(f"{where}.{name}", value, least))
    if given and _ami_family(pool) == "bottlerocket":
        for name, value in (("state", given.get("state")), ("reuse_on_scale_in", given.get("reuse_on_scale_in"))):
            if value in ("hibernated", True):
                source = "EKS user guide, warm pools: Bottlerocket"
                faults.append(Fault(path=f"{where}.{name}", value=value, allowed="unset with ami.family bottlerocket", source=source))
    return faults


def _user_data(pool: Pool, path: str) -> list[Fault]:
    return user_data_faults(_ami_family(pool), [text for _index, text in _texts(pool.get("user_data"))], join(path, "user_data"))


def role_faults(role: t.Any, path: str) -> list[Fault]:
    """What is wrong with the name or ARN of a role."""
    if not isinstance(role, str) or is_planned(role) or _ROLE_ARN.fullmatch(role) or _ROLE_NAME.fullmatch(role):
        return []
    return [Fault(path=path, value=role, allowed="the name or ARN of an IAM role", source="IAM API Reference, Role")]


def _update(pool: Pool, path: str) -> list[Fault]:
    most = _number(_lookup(pool, "update.max_unavailable"))
    if most is None or 1 <= most <= 100:
        return []
    return [Fault(path=join(path, "update.max_unavailable"), value=most, allowed="from 1 to 100", source=_NODEGROUP_SOURCE)]


def _tags(pool: Pool, path: str) -> list[Fault]:
    return tag_faults(pool.get("tags"), join(path, "tags"))


_RULES: tuple[Rule, ...] = (
    name_faults,
    _provisioner,
    _unsupported,
    _instances,
    _architectures,
    _ranges,
    _capacity,
    _zones,
    _scaling,
    _limits,
    _labels,
    _taints,
    gpu_faults,
    _without_accelerator,
    _ami,
    _priority,
    _disk,
    _network,
    policy_faults,
    _update,
    _warm_pool,
    _disruption,
    _user_data,
    _tags,
)
