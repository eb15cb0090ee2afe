# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What is wrong with a whole inventory, found at once and before any client exists. Pure."""

from __future__ import annotations

import difflib
import re
import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model import gpu_operator
from ansible_collections.gpuops.eks.plugins.module_utils._model.access_entry import entry_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.addon import addon_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.autoscaling_faults import autoscaling_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import cluster_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import device_plugin_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import POD_IDENTITY_AGENT
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_PRESENT_LABEL, GPU_RESOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._model.mig import mig_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import network_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_faults import pools_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import GpuResources, Mig, Sharing, sharing_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.variables import FACTS, PLAYBOOK, ROLES, known, variables_of

Variables = t.Mapping[str, t.Any]

SOURCE = "the collection's variables, docs/variables.md"
_SIMILAR = 0.85
_ACCOUNT = re.compile(r"\d{12}")
_PATH = re.compile(r"/([\x21-\x7e]{0,509}/)?")
_POLICY = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+){1,2}-\d")


def inventory_faults(variables: Variables, roles: t.Sequence[str]) -> list[Fault]:
    """Every fault of the variables that a play of these roles reads, and every name that looks like ours and is none of ours.

    The gpu_nodepools of a play without pools are not looked at, nor are the settings of roles that do not run.
    """
    spec = variables_of(roles)
    relevant = {name: value for name, value in variables.items() if name in spec}
    faults = [*_unknown_faults(variables), *form_faults(spec, relevant, source=SOURCE)]
    if "gpu_nodepools" in relevant:
        faults += pools_faults(relevant["gpu_nodepools"], path="gpu_nodepools")
    for rule in _RULES:
        faults += rule(relevant)
    return list({(fault.path, fault.allowed): fault for fault in faults}.values())


def _unknown_faults(variables: Variables) -> list[Fault]:
    names = [*known()]
    prefixes = (*(f"{role}_" for role in ROLES), "gpuops_")
    faults = []
    for name in sorted(set(variables) - set(names) - FACTS):
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.75 if name.startswith(prefixes) else _SIMILAR)
        if near:
            faults.append(Fault(path=name, value=name, allowed=f"no such variable; did you mean {near[0]!r}?", source=SOURCE))
        elif name.startswith(prefixes):
            allowed = "no such variable; names that begin with a role's name are the collection's"
            faults.append(Fault(path=name, value=name, allowed=allowed, source=SOURCE))
    return faults


def _match(name: str, pattern: re.Pattern[str], allowed: str, source: str) -> t.Callable[[Variables], list[Fault]]:
    def rule(variables: Variables) -> list[Fault]:
        value = variables.get(name)
        if value is None or isinstance(value, (dict, list)) or pattern.fullmatch(str(value)):
            return []
        return [Fault(path=name, value=value, allowed=allowed, source=source)]

    return rule


def _identity_faults(variables: Variables) -> list[Fault]:
    return cluster_name_faults(variables.get("eks_cluster_name"), "eks_cluster_name")


def _version_faults(variables: Variables) -> list[Fault]:
    value = variables.get("eks_cluster_version")
    if not isinstance(value, float):
        return []
    allowed = "text in quotes: without them YAML reads 1.30 as the number 1.3"
    return [Fault(path="eks_cluster_version", value=value, allowed=allowed, source="YAML 1.1, float")]


def _options(variables: Variables, role: str) -> dict[str, t.Any]:
    """The settings of a role as the options of its module; none where the role does not run. Empty lists stand for unset."""
    prefix = f"{role}_"
    return {name.removeprefix(prefix): None if value == [] else value for name, value in variables.items() if name.startswith(prefix)}


def _cluster_faults(variables: Variables) -> list[Fault]:
    """What eks_cluster would say of its options, under the names of the variables."""
    return [replace(fault, path=f"eks_cluster_{fault.path}") for fault in cluster_faults(_options(variables, "eks_cluster"))]


def _parts_faults(variables: Variables) -> list[Fault]:
    """What eks_addon and eks_access_entry would say of their lists, under the names of the variables."""
    name = variables.get("eks_cluster_name")
    faults = []
    if isinstance(variables.get("eks_cluster_addons"), list):
        faults += addon_faults({"cluster_name": name, "addons": variables["eks_cluster_addons"]})
    if isinstance(variables.get("eks_cluster_access_entries"), list):
        faults += entry_faults({"cluster_name": name, "entries": variables["eks_cluster_access_entries"]})
    renamed = {"addons": "eks_cluster_addons", "entries": "eks_cluster_access_entries"}
    found = []
    for fault in faults:
        option, bracket, rest = fault.path.partition("[")
        if option in renamed:
            found.append(replace(fault, path=f"{renamed[option]}{bracket}{rest}"))
    return found


def _storage_faults(variables: Variables) -> list[Fault]:
    """Mountpoint for S3 without a bucket, and drivers that have no way to AWS."""
    storage, addons = variables.get("eks_cluster_storage"), variables.get("eks_cluster_addons")
    faults = []
    if isinstance(storage, list) and "s3" in storage and not variables.get("eks_cluster_storage_s3_buckets"):
        allowed = "at least one bucket where eks_cluster_storage has s3"
        faults.append(Fault(path="eks_cluster_storage_s3_buckets", value=[], allowed=allowed, source=SOURCE))
    agent = (
        any(isinstance(one, t.Mapping) and one.get("name") == POD_IDENTITY_AGENT for one in addons) if isinstance(addons, list) else True
    )
    if (storage or variables.get("eks_cluster_load_balancer_controller") is True) and not agent:
        allowed = f"with {POD_IDENTITY_AGENT}, by which storage drivers and the load balancer controller get their credentials"
        faults.append(Fault(path="eks_cluster_addons", value=addons, allowed=allowed, source="Amazon EKS user guide, EKS Pod Identity"))
    return faults


def _existing_network_faults(variables: Variables) -> list[Fault]:
    """An existing VPC is used as it is: what would make something there, and what is missing of it."""
    if not variables.get("eks_network_vpc_id"):
        named = [name for name in _EXISTING if variables.get(name)]
        return [Fault(path=name, value=variables[name], allowed="with eks_network_vpc_id", source=SOURCE) for name in named]
    if variables.get("eks_network_private_subnet_ids"):
        return []
    allowed = "the private subnets of eks_network_vpc_id, in at least two zones"
    return [Fault(path="eks_network_private_subnet_ids", value=[], allowed=allowed, source=SOURCE)]


def _device_plugin_faults(variables: Variables) -> list[Fault]:
    options = _options(variables, "gpu_sharing")
    if not options:
        return []
    image = {"digest": options.get("image_digest"), "tag": options.get("image_tag")}
    every_pool = {"name": "pool", "flags": options.get("flags")}
    faults = device_plugin_faults({**options, "image": image, "configurations": [every_pool]})
    return [replace(fault, path=_sharing_variable(fault.path)) for fault in faults]


def _sharing_variable(path: str) -> str:
    """The variable of role gpu_sharing, and what in it, that a fault of the module's options is about."""
    flags = path.removeprefix("configurations[0].flags")
    return f"gpu_sharing_{path.replace('.', '_')}" if flags == path else f"gpu_sharing_flags{flags}"


def _gpu_operator_faults(variables: Variables) -> list[Fault]:
    """Values that the chart would take without a word, and pools on whose nodes two device plugins would run."""
    pools, values = variables.get("gpu_nodepools"), variables.get("gpu_operator_values")
    if not _options(variables, "gpu_operator") or variables.get("gpu_operator_enabled") is False:
        return []
    checked = variables.get("gpu_operator_values_checked") is not False
    return [
        *gpu_operator.values_faults(values, "gpu_operator_values", every_key=checked, stock_images=gpu_operator.has_stock_images(pools)),
        *gpu_operator.pools_faults(pools, "gpu_nodepools"),
        *gpu_operator.version_faults(variables.get("gpu_operator_version"), pools, "gpu_operator_version"),
    ]


def _network_faults(variables: Variables) -> list[Fault]:
    """What eks_network would say of its options, under the names of the variables."""
    options = _options(variables, "eks_network")
    if options.get("zones"):
        options.pop("zone_count", None)
    if options.get("vpc_id"):  # then nothing of the rest is used
        options = {name: value for name, value in options.items() if f"eks_network_{name}" in ("eks_network_vpc_id", *_EXISTING)}
    return [replace(fault, path=f"eks_network_{fault.path}") for fault in network_faults(options)] if options else []


def _pools(variables: Variables) -> list[t.Mapping[str, t.Any]]:
    pools = variables.get("gpu_nodepools")
    return [pool for pool in pools if isinstance(pool, t.Mapping)] if isinstance(pools, list) else []


def _zone_faults(variables: Variables) -> list[Fault]:
    """A pool in a zone where the network has no subnet. Names and ids of zones cannot be compared without asking AWS."""
    zones = variables.get("eks_network_zones")
    if not isinstance(zones, list) or not zones:
        return []
    faults = []
    for index, pool in enumerate(_pools(variables)):
        named = pool.get("zones")
        for number, zone in enumerate(named if isinstance(named, list) else []):
            if zone not in zones and _same_kind(zone, zones):
                allowed = f"a zone of eks_network_zones: {', '.join(map(str, zones))}"
                faults.append(Fault(path=f"gpu_nodepools[{index}].zones[{number}]", value=zone, allowed=allowed, source=SOURCE))
    return faults


def _same_kind(zone: t.Any, zones: list[t.Any]) -> bool:
    """Whether all of them are names (us-west-2a) or all of them ids (usw2-az1)."""
    return len({bool(re.fullmatch(r"[a-z0-9]+-az\d+", str(one))) for one in (zone, *zones)}) == 1


def _workload_faults(variables: Variables) -> list[Fault]:
    """A workload whose resource no pool advertises would wait for ever."""
    if variables.get("gpu_workloads_state") != "present" or "gpu_nodepools" not in variables:
        return []
    resource = variables.get("gpu_workloads_resource")
    advertised = sorted({name for pool in _pools(variables) if _shares_gpus(pool) for name in _advertised(pool)})
    if resource in advertised:
        return []
    what = f"what the pools advertise: {', '.join(advertised)}" if advertised else "none: no pool has GPUs"
    allowed = f"{what}; or gpu_workloads_state: absent"
    return [Fault(path="gpu_workloads_resource", value=resource, allowed=allowed, source="Kubernetes, Schedule GPUs")]


def _selector_faults(variables: Variables) -> list[Fault]:
    """The name of a resource as a label, which no node has, so that the pods would wait for ever."""
    selector = variables.get("gpu_workloads_node_selector")
    if not isinstance(selector, t.Mapping) or GPU_RESOURCE not in selector:
        return []
    allowed = f"{GPU_PRESENT_LABEL}: 'true', the label of nodes with GPUs; {GPU_RESOURCE} is the name of a resource"
    where = f"gpu_workloads_node_selector.{GPU_RESOURCE}"
    return [Fault(path=where, value=selector[GPU_RESOURCE], allowed=allowed, source="Kubernetes, Schedule GPUs")]


def _shares_gpus(pool: t.Mapping[str, t.Any]) -> bool:
    if (pool.get("accelerator") or "nvidia") != "nvidia":
        return False
    sharing, mig = pool.get("sharing"), pool.get("mig")
    shared = sharing is None or (isinstance(sharing, t.Mapping) and not sharing_faults(sharing, "") and _typed(sharing))
    return shared and (mig is None or (isinstance(mig, t.Mapping) and isinstance(mig.get("layout"), t.Mapping) and not mig_faults(mig, "")))


def _advertised(pool: t.Mapping[str, t.Any]) -> list[str]:
    """The resources of which a node of the pool has any."""
    mig = None if pool.get("mig") is None else Mig.from_params(pool["mig"])
    found = GpuResources(sharing=Sharing.from_params(pool.get("sharing")), mig=mig).advertised(1)
    return [name for name, count in found.items() if count]


def _typed(sharing: t.Mapping[str, t.Any]) -> bool:
    return sharing.get("replicas") is None or str(sharing["replicas"]).isdigit()


def _least_faults(name: str, least: int) -> t.Callable[[Variables], list[Fault]]:
    def rule(variables: Variables) -> list[Fault]:
        value = variables.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value >= least:
            return []
        return [Fault(path=name, value=value, allowed=f"at least {least}", source=SOURCE)]

    return rule


_EXISTING = tuple(f"eks_network_{kind}_ids" for kind in ("private_subnet", "public_subnet", "intra_subnet", "security_group"))
_RULES: tuple[t.Callable[[Variables], list[Fault]], ...] = (
    _identity_faults,
    _match("eks_cluster_region", _REGION, "the name of a region such as us-west-2", "AWS Regions and Availability Zones"),
    _match("eks_cluster_account_id", _ACCOUNT, "12 digits, in quotes", "AWS Account Management Reference: account ids"),
    _version_faults,
    _cluster_faults,
    _parts_faults,
    _storage_faults,
    _existing_network_faults,
    autoscaling_faults,
    _match("eks_cluster_iam_path", _PATH, "a path that begins and ends with /, such as /platform/", "IAM API, CreateRole"),
    _match("eks_cluster_permissions_boundary", _POLICY, "the ARN of an IAM policy", "IAM API, CreateRole"),
    _device_plugin_faults,
    _gpu_operator_faults,
    _network_faults,
    _zone_faults,
    _workload_faults,
    _selector_faults,
    _least_faults("gpu_sharing_max_unavailable", 1),
    _least_faults("eks_autoscaling_karpenter_replicas", 1),
    _least_faults("gpu_workloads_replicas", 0),
    _least_faults("gpu_workloads_resource_count", 1),
    *(
        _least_faults(name, 0)
        for name in sorted({*known()} - {*PLAYBOOK})
        if name.endswith(("_wait_timeout", "_wait_interval", "_wedge_after"))
    ),
)
