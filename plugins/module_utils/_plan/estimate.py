# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a cluster costs in a month at its smallest and at its largest size, as far as prices are known. Pure.

Not in it: data transfer and what NAT gateways process, logs, load balancers, volumes of workloads, support plans, discounts, taxes.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import GPU_FAMILIES, family_of, is_instance_type, size_of
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.on_demand import TABLES
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.prices import (
    FIXED,
    GP3_IOPS,
    GP3_THROUGHPUT,
    HOURS_PER_MONTH,
    currency_of,
    date_of,
    fixed,
    on_demand,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import DEFAULT_ZONE_COUNT
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_MAX, DEFAULT_MIN, Pool, Range
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts, WantedGroup, resolve_groups

_GRAVITON = re.compile(r"[a-z]+[0-9]+g.*|a1")
_SIZE = re.compile(r"([0-9]*)xlarge|metal-([0-9]+)xl")


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Prices of a region: of instances by type and per hour, of the rest by the names of FIXED. ``source`` and ``as_of`` are the instances'."""

    region: str
    instances: t.Mapping[str, float] = field(default_factory=dict)
    fixed: t.Mapping[str, float] = field(default_factory=dict)
    source: str = "shipped"
    as_of: str | None = None


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Nodes that cost the same: of one pool, bought in one way. ``types`` are the instance types, the one that is started first in front."""

    pool: Pool
    capacity_type: str
    types: tuple[str, ...] = ()
    min: int = 0
    max: int = 0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What there is besides nodes."""

    extended_support: bool = False
    nat_gateways: int = 0
    endpoint_interfaces: int = 0
    keys: int = 0


@dataclass(frozen=True, kw_only=True)
class Line:
    """One thing to pay for. ``price_max`` is that of the most expensive one that may be taken; None: the price is unknown."""

    subject: str
    unit: str
    quantity: int
    quantity_max: int
    price: float | None
    price_max: float | None

    def month(self, quantity: int, price: float | None) -> float | None:
        if quantity == 0:
            return 0.0
        hours = HOURS_PER_MONTH if self.unit == "hour" else 1
        return None if price is None else round(quantity * price * hours, 2)

    def to_result(self) -> dict[str, t.Any]:
        months = {
            "per_month": self.month(self.quantity, self.price),
            "per_month_max": self.month(self.quantity_max, self.price_max),
        }
        return {**dataclasses.asdict(self), **months}


def estimate(nodes: t.Sequence[Nodes], shape: Shape, prices: Prices) -> dict[str, t.Any]:
    """The estimate. The sums are of what is known; ``complete`` says whether that is everything."""
    lines = [*_base_lines(shape, prices), *(line for part in nodes for line in _node_lines(part, prices))]
    found = [line.to_result() for line in lines if line.quantity or line.quantity_max]
    return {
        "currency": currency_of(prices.region),
        "per_month": _sum(found, "per_month"),
        "per_month_max": _sum(found, "per_month_max"),
        "complete": all(line["per_month"] is not None for line in found),
        "complete_max": all(line["per_month_max"] is not None for line in found),
        "source": prices.source,
        "as_of": prices.as_of,
        "lines": found,
    }


def _sum(lines: t.Iterable[t.Mapping[str, t.Any]], key: str) -> float:
    return round(sum(line[key] or 0.0 for line in lines), 2)


def _base_lines(shape: Shape, prices: Prices) -> list[Line]:
    support = "extended" if shape.extended_support else "standard"
    wanted = (
        (f"control plane, {support} support", "cluster_extended" if shape.extended_support else "cluster", 1),
        ("NAT gateways", "nat_gateway", shape.nat_gateways),
        ("public IPv4 addresses", "public_address", shape.nat_gateways),
        ("interface endpoints, one per zone", "interface_endpoint", shape.endpoint_interfaces),
        ("encryption keys", "key", shape.keys),
    )
    return [_fixed(subject, name, count, count, prices) for subject, name, count in wanted]


def _fixed(subject: str, name: str, least: int, most: int, prices: Prices) -> Line:
    price = prices.fixed.get(name)
    return Line(subject=subject, unit=FIXED[name].unit, quantity=least, quantity_max=most, price=price, price_max=price)


def _node_lines(nodes: Nodes, prices: Prices) -> list[Line]:
    known = [prices.instances.get(name) for name in nodes.types] if nodes.capacity_type == "on_demand" else []
    most = max((price for price in known if price is not None), default=None) if None not in known else None
    instances = Line(
        subject=f"pool {nodes.pool.name}: {_types(nodes)}, {nodes.capacity_type}",
        unit="hour",
        quantity=nodes.min,
        quantity_max=nodes.max,
        price=known[0] if known else None,
        price_max=most,
    )
    return [instances, *_disk_lines(nodes, prices)]


def _types(nodes: Nodes) -> str:
    if not nodes.types:
        return "instances"
    more = f" and {len(nodes.types) - 1} more" if len(nodes.types) > 1 else ""
    return f"{nodes.types[0]}{more}"


def _disk_lines(nodes: Nodes, prices: Prices) -> list[Line]:
    disk, where = nodes.pool.disk.with_defaults(), f"pool {nodes.pool.name}: disks"
    size = disk.size_gib or 0
    if disk.type != "gp3":
        subject = f"{where}, {disk.type}"
        unknown = {"price": None, "price_max": None}
        return [Line(subject=subject, unit="GiB-month", quantity=nodes.min * size, quantity_max=nodes.max * size, **unknown)]
    parts = (
        ("gp3", "gp3_size", size),
        ("gp3 throughput", "gp3_throughput", max((disk.throughput or 0) - GP3_THROUGHPUT, 0)),
        ("gp3 IOPS", "gp3_iops", max((disk.iops or 0) - GP3_IOPS, 0)),
    )
    return [_fixed(f"{where}, {what}", name, nodes.min * each, nodes.max * each, prices) for what, name, each in parts]


def nodes_of(groups: t.Sequence[WantedGroup]) -> list[Nodes]:
    """The nodes of groups; groups of a pool that take the same types in the same way are one line."""
    found: dict[tuple[str, str, tuple[str, ...]], Nodes] = {}
    for group in groups:
        key = (group.pool.name, group.capacity_type, group.instance_types)
        same = found.get(key, Nodes(pool=group.pool, capacity_type=group.capacity_type, types=group.instance_types))
        found[key] = dataclasses.replace(same, min=same.min + group.min, max=same.max + group.max)
    return list(found.values())


def unresolved(pool: Pool) -> Nodes:
    """The nodes of a pool whose instance types are not known: their price is unknown, their number is not."""
    least = DEFAULT_MIN if pool.scaling.min is None else pool.scaling.min
    most = DEFAULT_MAX if pool.scaling.max is None else pool.scaling.max
    return Nodes(pool=pool, capacity_type=pool.capacity_types[0], min=least, max=most)


def offline_nodes(pool: Pool, zones: t.Sequence[str]) -> list[Nodes]:
    """The nodes of a pool without asking EC2: types are judged by their names and the catalogue, and every zone has all of them.

    Limits of memory and hypervisors are not looked at: names do not say them.
    """
    instances = dataclasses.replace(pool.instances, memory_gib=Range(), hypervisors=())
    judged = dataclasses.replace(pool, instances=instances)
    names = {name for region in TABLES for name in on_demand(region)} | set(pool.instances.types)
    types = {name: by_name(name) for name in names if is_instance_type(name) and family_of(name) in _families(pool)}
    where = pool.zones or tuple(zones)
    subnets = [Subnet(id=f"planned:subnet/{zone}", zone=zone) for zone in where]
    facts = Ec2Facts(types=types, offerings={zone: frozenset(types) for zone in where})
    resolution = resolve_groups(judged, subnets, facts)
    groups = [dataclasses.replace(group, pool=pool) for group in resolution.groups]
    return nodes_of(groups) or [unresolved(pool)]


def _families(pool: Pool) -> set[str]:
    return set(pool.instances.families) | {family_of(name) for name in pool.instances.types}


def by_name(name: str) -> InstanceType:
    """An instance type as its name and the catalogue have it. Memory is unknown: 0.

    Source: EC2 user guide, instance type naming conventions: g after the generation is Graviton; a size of Nxlarge has 4 N vCPUs.
    """
    family, size = family_of(name), size_of(name)
    gpu = GPU_FAMILIES.get(family)
    arm = gpu.architecture == "arm64" if gpu else _GRAVITON.fullmatch(family) is not None
    count = gpu.sizes.get(size, 0) if gpu else 0
    return InstanceType(
        name=name,
        vcpus=_vcpus(family, size),
        memory_mib=0,
        architectures=frozenset({"arm64" if arm else "amd64"}),
        gpu_model=gpu.model.lower().replace(" ", "-") if gpu else None,
        gpus=max(count, 1) if gpu else 0,
        gpu_memory_mib=gpu.memory_mib if gpu else 0,
        fractional=gpu is not None and gpu.fractional,
    )


def _vcpus(family: str, size: str) -> int:
    if found := _SIZE.fullmatch(size):
        return 4 * int(found.group(1) or found.group(2) or 1)
    return {"medium": 2 if family.startswith("t") else 1, "metal": 96}.get(size, 2)


def inventory_estimate(variables: t.Mapping[str, t.Any], endpoints: int, region: str | None = None) -> dict[str, t.Any]:
    """The estimate of the cluster that these variables of an inventory describe, without asking AWS.

    ``endpoints`` is the number of interface endpoints, ``region`` another region whose prices are to be taken.
    """
    where = region or str(variables["eks_cluster_region"])
    zones = list(variables.get("eks_network_zones") or ())
    zones = zones or [f"zone-{number + 1}" for number in range(int(variables.get("eks_network_zone_count") or DEFAULT_ZONE_COUNT))]
    pools = [Pool.from_params(pool) for pool in variables.get("gpu_nodepools") or ()]
    network = not variables.get("eks_network_vpc_id")
    gateways = {"none": 0, "single": 1, "per_zone": len(zones)}[str(variables.get("eks_network_nat") or "single")]
    shape = Shape(
        nat_gateways=gateways if network else 0,
        endpoint_interfaces=endpoints * len(zones) if network else 0,
        keys=sum(_makes_key(variables, purpose) for purpose in ("secrets", "volumes")),
    )
    prices = Prices(region=where, instances=on_demand(where), fixed=fixed(where), as_of=date_of(where))
    return estimate([part for pool in pools for part in offline_nodes(pool, zones)], shape, prices)


def _makes_key(variables: t.Mapping[str, t.Any], purpose: str) -> bool:
    """Whether the role eks_cluster makes a key of this purpose."""
    return variables.get(f"eks_cluster_{purpose}_encryption") is not False and not variables.get(f"eks_cluster_{purpose}_key_arn")


_HEAD = ("what", "unit", "price", "smallest", "per month", "largest", "per month")


def estimate_table(found: t.Mapping[str, t.Any]) -> list[str]:
    """The estimate as aligned lines; ? is a price that is not known."""
    rows = [
        (
            line["subject"],
            line["unit"],
            _text(line["price"], "g"),
            str(line["quantity"]),
            _text(line["per_month"]),
            str(line["quantity_max"]),
            _text(line["per_month_max"]),
        )
        for line in found["lines"]
    ]
    least, most = ("" if found[key] else "at least " for key in ("complete", "complete_max"))
    total = f"total in {found['currency']}"
    rows.append((total, "", "", "", f"{least}{found['per_month']:.2f}", "", f"{most}{found['per_month_max']:.2f}"))
    widths = [max(len(row[column]) for row in [_HEAD, *rows]) for column in range(len(_HEAD))]
    texts = 2  # the first columns, to the left
    return [
        "  ".join(
            cell.ljust(width) if index < texts else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [_HEAD, *rows]
    ]


def _text(value: float | None, form: str = ".2f") -> str:
    return "?" if value is None else format(value, form)
