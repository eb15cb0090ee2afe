# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A pool in Karpenter's words: requirements, limits, disks, network interfaces. Pure.

Sources: karpenter-provider-aws v1.14 pkg/apis (CRDs, labels.go), pkg/providers/instancetype/types.go; karpenter v1.14 pkg/apis.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import DATA_DEVICES
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_MAX, Disk, Pool, Range, Taint

Requirement = dict[str, t.Any]

IMAGE_ANNOTATION = "gpuops.eks/image"

NODE_POOL_LABEL = "karpenter.sh/nodepool"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
ARCHITECTURE, OPERATING_SYSTEM = "kubernetes.io/arch", "kubernetes.io/os"
ZONE, ZONE_ID = "topology.kubernetes.io/zone", "topology.k8s.aws/zone-id"
_INSTANCE = "karpenter.k8s.aws/instance-"
GPU_COUNT = f"{_INSTANCE}gpu-count"
_TYPE = "node.kubernetes.io/instance-type"
_GPU_MANUFACTURER = f"{_INSTANCE}gpu-manufacturer"
_CAPACITY_TYPES = {"on_demand": "on-demand", "spot": "spot", "reserved": "reserved", "capacity_block": "reserved"}
AMI_FAMILIES = {"al2023": "AL2023", "bottlerocket": "Bottlerocket"}
_SYSTEM_DISK = {"volumeSize": "4Gi", "volumeType": "gp3", "encrypted": True, "deleteOnTermination": True}

# Tags that Karpenter sets itself and refuses in an EC2NodeClass. Source: its CRD, spec.tags.
RESERVED_TAGS = ("eks:eks-cluster-name", "karpenter.sh/nodepool", "karpenter.sh/nodeclaim", "karpenter.k8s.aws/ec2nodeclass")
RESERVED_TAG_PREFIX = "kubernetes.io/cluster"


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an EC2NodeClass selects its AMIs by. ``family`` is Karpenter's, needed unless an alias says it.

    ``source`` is what an id was found by, and is written into an annotation: as long as it stays the same, so does the id.
    """

    terms: tuple[t.Mapping[str, str], ...]
    family: str | None = None
    source: str | None = None


def alias_image(ami_family: str, release: str) -> Image:
    """One of EKS's images; Karpenter itself chooses between those with and without drivers."""
    return Image(terms=({"alias": f"{ami_family}@{release}"},))


def own_image(ami_family: str, id_: str, source: str | None) -> Image:
    return Image(terms=({"id": id_},), family=AMI_FAMILIES[ami_family], source=source)


def image_source(pool: Pool) -> str | None:
    """What the id of a pool's own image is found by; None where it needs not be found."""
    if pool.ami.ssm_parameter:
        return f"ssm {pool.ami.ssm_parameter}"
    return f"name {pool.ami.owner or 'self'}/{pool.ami.name}" if pool.ami.name else None


def requirements(pool: Pool, *, zone: Requirement | None, fractional: bool) -> list[Requirement]:
    """What nodes of the pool have to be. ``fractional``: there are types with a part of a GPU, of which Karpenter says that they have 0."""
    wanted = pool.instances
    counts = [*wanted.gpu_counts, *([0] if fractional and 1 in wanted.gpu_counts else [])]
    return [
        _in(OPERATING_SYSTEM, ["linux"]),
        _in(ARCHITECTURE, wanted.architectures),
        _in(CAPACITY_TYPE, dict.fromkeys(_CAPACITY_TYPES[kind] for kind in pool.capacity_types)),
        *([zone] if zone else []),
        {"key": _GPU_MANUFACTURER, "operator": "In" if pool.nvidia else "NotIn", "values": ["nvidia"]},
        *_any_of(_TYPE, wanted.types),
        *_any_of(f"{_INSTANCE}category", wanted.categories),
        *_any_of(f"{_INSTANCE}family", wanted.families),
        *_any_of(f"{_INSTANCE}size", wanted.sizes),
        *_within(f"{_INSTANCE}generation", wanted.generations),
        *_any_of(f"{_INSTANCE}hypervisor", wanted.hypervisors),
        *_any_of(f"{_INSTANCE}cpu", map(str, wanted.cpu_values)),
        *_within(f"{_INSTANCE}cpu", wanted.cpus),
        *_within(f"{_INSTANCE}memory", wanted.memory_gib, unit=1024),
        *_any_of(f"{_INSTANCE}gpu-name", wanted.gpu_models),
        *_any_of(GPU_COUNT, map(str, sorted(counts))),
        *_within(f"{_INSTANCE}gpu-memory", wanted.gpu_memory_gib, unit=1024),
    ]


def zone_requirement(pool: Pool, zone: str | None, subnets: t.Iterable[Subnet]) -> Requirement | None:
    """One zone, or the pool's; None: wherever there is a subnet. Ids stay ids; where both are given, names."""
    if zone:
        return _in(ZONE, [zone])
    ids = {subnet.zone_id for subnet in subnets}
    if not pool.zones:
        return None
    if all(given in ids for given in pool.zones):
        return _in(ZONE_ID, pool.zones)
    names = {subnet.zone_id: subnet.zone for subnet in subnets}
    return _in(ZONE, dict.fromkeys(names.get(given, given) for given in pool.zones))


def overlay_requirements(node_pools: t.Sequence[str], gpus: int, *, fractional: bool) -> list[Requirement]:
    """The nodes of these NodePools with this many physical GPUs."""
    counts = ["0", "1"] if fractional and gpus == 1 else [str(gpus)]
    return [_in(NODE_POOL_LABEL, node_pools), _in(GPU_COUNT, counts)]


def _in(key: str, values: t.Iterable[str]) -> Requirement:
    return {"key": key, "operator": "In", "values": list(values)}


def _any_of(key: str, values: t.Iterable[str]) -> list[Requirement]:
    given = list(values)
    return [_in(key, given)] if given else []


def _within(key: str, limits: Range, *, unit: int = 1) -> list[Requirement]:
    """Limits that are included, by Gt and Lt: every release with these APIs has them, which is not so of Gte and Lte."""
    found = []
    if limits.min:
        found.append({"key": key, "operator": "Gt", "values": [str(limits.min * unit - 1)]})
    if limits.max is not None:
        found.append({"key": key, "operator": "Lt", "values": [str(limits.max * unit + 1)]})
    return found


def share(number: int, index: int, parts: int) -> int:
    """One NodePool's share of a number of the whole pool, the remainder to the first."""
    return number // parts + (1 if index < number % parts else 0)


@dataclass(frozen=True, kw_only=True)
class NodePoolLimits:
    """The limits of a NodePool, as quantities; ``managed`` names those that follow from what the user set."""

    values: t.Mapping[str, str]
    managed: frozenset[str]


def limits(pool: Pool, *, largest: int, index: int = 0, parts: int = 1) -> NodePoolLimits:
    """What the ``index``-th of ``parts`` NodePools may grow to; ``largest`` is the largest number of GPUs that a node may have.

    Karpenter counts nvidia.com/gpu as nodes advertise it, so that physical GPUs are multiplied. Nodes that advertise other resources
    only are limited by number.
    """
    nodes, managed = pool.scaling.max or DEFAULT_MAX, {"nodes"} if pool.scaling.max is not None else set()
    values: dict[str, str] = {}
    if (gpus := pool.limits.gpus) is not None:
        mine, each = share(gpus, index, parts), pool.gpu_resources.per_gpu()
        if each is None:
            nodes, managed = min(nodes, mine // max(largest, 1)), {"nodes"}
        else:
            values[GPU_RESOURCE] = str(mine * each)
    if pool.limits.cpus is not None:
        values["cpu"] = str(share(pool.limits.cpus, index, parts))
    if pool.limits.memory_gib is not None:
        values["memory"] = f"{share(pool.limits.memory_gib, index, parts)}Gi"
    return NodePoolLimits(values={"nodes": str(nodes), **values}, managed=frozenset({*managed, *values}))


def taint_list(taints: t.Iterable[Taint]) -> list[dict[str, str]]:
    """Taints of a NodePool, which takes no empty value."""
    return [{key: value for key, value in taint.to_result().items() if value} for taint in taints]


def block_devices(ami_family: str, disk: Disk) -> list[dict[str, t.Any]]:
    """The disks of a node: Bottlerocket's system has one of its own."""
    ebs = {
        "volumeSize": f"{disk.size_gib}Gi",
        "volumeType": disk.type,
        "throughput": disk.throughput,
        "iops": disk.iops,
        "kmsKeyID": disk.kms_key,
        "encrypted": True,
        "deleteOnTermination": True,
    }
    key = {"kmsKeyID": disk.kms_key} if disk.kms_key else {}
    system = [{"deviceName": "/dev/xvda", "ebs": {**_SYSTEM_DISK, **key}}] if ami_family == "bottlerocket" else []
    data = {"deviceName": DATA_DEVICES[ami_family], "ebs": {name: value for name, value in ebs.items() if value is not None}}
    return [*system, data]


def disk_of(mappings: t.Iterable[t.Mapping[str, t.Any]] | None, ami_family: str) -> Disk:
    """The data disk among the disks of an EC2NodeClass; an empty one where it says nothing of it."""
    ebs = next((mapping.get("ebs") or {} for mapping in mappings or () if mapping.get("deviceName") == DATA_DEVICES[ami_family]), {})
    size = str(ebs.get("volumeSize", "")).removesuffix("Gi")
    return Disk(
        size_gib=int(size) if size.isdecimal() else None,
        type=ebs.get("volumeType"),
        throughput=ebs.get("throughput"),
        iops=ebs.get("iops"),
        kms_key=ebs.get("kmsKeyID"),
    )


def network_interfaces(efa_interfaces: int) -> list[dict[str, t.Any]]:
    """The first network card with an ordinary interface, and an Elastic Fabric Adapter on every card."""
    first = {"networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface"}
    return [first, *({"networkCardIndex": card, "deviceIndex": 1, "interfaceType": "efa-only"} for card in range(efa_interfaces))]
