# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a pre-flight is asked for, what it has read, and what it finds. Pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Zone
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import DEFAULT_ZONE_COUNT, block, integer
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_faults import pools_faults

Params = t.Mapping[str, t.Any]
Severity = t.Literal["error", "warning"]

EKS_ROLES = ("eks.amazonaws.com", "eks-nodegroup.amazonaws.com", "autoscaling.amazonaws.com")
SPOT_ROLE = "spot.amazonaws.com"
_OURS = "the collection's options"
_PRINCIPAL = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(\.cn)?")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that would fail, or may. Numbers are None where there is no arithmetic in it."""

    code: str
    severity: Severity
    subject: str
    message: str
    fix: str
    needed: float | None = None
    used: float | None = None
    limit: float | None = None
    unit: str | None = None

    def to_result(self) -> dict[str, t.Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Quota:
    """A quota as Service Quotas has it."""

    service: str
    code: str
    name: str
    value: float

    @classmethod
    def from_api(cls, reply: Params) -> Quota:
        """From an element of Quotas of servicequotas:ListServiceQuotas."""
        return cls(service=reply["ServiceCode"], code=reply["QuotaCode"], name=reply["QuotaName"], value=reply["Value"])


@dataclass(frozen=True, kw_only=True)
class Running:
    """Instances of one type that run and are not of this cluster."""

    instance_type: str
    capacity_type: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The cluster that is to be."""

    pools: tuple[Pool, ...] = ()
    version: str | None = None
    zones: tuple[str, ...] = ()
    zone_count: int = DEFAULT_ZONE_COUNT
    nat: str = "single"
    network: bool = True
    interface_endpoints: int = 0
    encryption_keys: int = 0
    cost_limit: float | None = None
    controller_cidrs: tuple[str, ...] = ()
    public_access_cidrs: tuple[str, ...] = ()
    service_linked_roles: tuple[str, ...] = EKS_ROLES

    @classmethod
    def from_params(cls, params: Params) -> Wanted:
        pools = tuple(Pool.from_params(pool, path=f"pools[{index}]") for index, pool in enumerate(params.get("pools") or ()))
        spot = (SPOT_ROLE,) if any("spot" in pool.capacity_types for pool in pools) else ()
        roles = params.get("service_linked_roles")
        return cls(
            pools=pools,
            version=params.get("version"),
            zones=tuple(params.get("zones") or ()),
            zone_count=params.get("zone_count") or DEFAULT_ZONE_COUNT,
            nat=params["nat"],
            network=params["network"],
            interface_endpoints=params["interface_endpoints"],
            encryption_keys=params["encryption_keys"],
            cost_limit=params.get("cost_limit_per_month"),
            controller_cidrs=tuple(params.get("controller_cidrs") or ()),
            public_access_cidrs=tuple(params.get("public_access_cidrs") or ()),
            service_linked_roles=EKS_ROLES + spot if roles is None else tuple(roles),
        )

    @property
    def nats_per_zone(self) -> bool:
        return self.nat == "per_zone"

    def nat_gateways(self, zones: int) -> int:
        """How many NAT gateways the network gets in this many zones."""
        return {"none": 0, "single": 1, "per_zone": zones}[self.nat] if self.network else 0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was read besides instance types and prices; None is what could not be read. Nothing of this cluster itself is counted."""

    region: str
    zones: tuple[Zone, ...] | None = None
    versions: t.Mapping[str, str] | None = None
    quotas: t.Mapping[str, tuple[Quota, ...]] = field(default_factory=dict)
    running: tuple[Running, ...] | None = None
    vcpus: t.Mapping[str, int] = field(default_factory=dict)
    vpcs: int | None = None
    addresses: int | None = None
    nat_gateways: t.Mapping[str, int] | None = None
    clusters: int | None = None
    roles: frozenset[str] | None = None


def preflight_faults(params: Params) -> list[Fault]:
    """Every fault of form, for values of any type."""
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    faults += pools_faults(params.get("pools"), "pools") + _zone_faults(params) + _number_faults(params)
    for name in ("controller_cidrs", "public_access_cidrs"):
        values = params.get(name)
        for index, value in enumerate(values if isinstance(values, list) else ()):
            if block(value) is None:
                allowed = "an IPv4 network in CIDR notation without host bits, such as 203.0.113.7/32"
                faults.append(Fault(path=f"{name}[{index}]", value=value, allowed=allowed, source="EC2 API, IpRange"))
    roles = params.get("service_linked_roles")
    for index, value in enumerate(roles if isinstance(roles, list) else ()):
        if not isinstance(value, str) or not _PRINCIPAL.fullmatch(value):
            allowed = "the name of a service, such as eks.amazonaws.com"
            source = "IAM API Reference, CreateServiceLinkedRole"
            faults.append(Fault(path=f"service_linked_roles[{index}]", value=value, allowed=allowed, source=source))
    return faults


def _zone_faults(params: Params) -> list[Fault]:
    given, count = params.get("zones"), integer(params.get("zone_count"))
    zones: list[t.Any] = given if isinstance(given, list) else []
    faults = []
    if count is not None and count < 1:
        faults.append(Fault(path="zone_count", value=count, allowed="at least 1", source=_OURS))
    for index, zone in enumerate(zones):
        if zone in zones[:index]:
            faults.append(Fault(path=f"zones[{index}]", value=zone, allowed="each zone once", source=_OURS))
    return faults


def _number_faults(params: Params) -> list[Fault]:
    faults = []
    for name in ("interface_endpoints", "encryption_keys"):
        number = integer(params.get(name))
        if number is not None and number < 0:
            faults.append(Fault(path=name, value=number, allowed="at least 0", source=_OURS))
    limit = params.get("cost_limit_per_month")
    if isinstance(limit, (int, float)) and not isinstance(limit, bool) and limit <= 0:
        faults.append(Fault(path="cost_limit_per_month", value=limit, allowed="a number above 0", source=_OURS))
    return faults
