# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What would fail later for a reason that can be known now, each with its arithmetic. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from ipaddress import IPv4Network

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import family_of
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.quotas import (
    ADDRESSES,
    CLUSTERS,
    ENDPOINTS,
    NAT_GATEWAYS,
    VPCS,
    QuotaName,
    console_url,
    vcpu_code,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Zone
from ansible_collections.gpuops.eks.plugins.module_utils._model.preflight import Finding, Quota, Seen, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts, Resolution, WantedGroup


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What is needed of one quota: at creation, at the largest size, and by everything else that is there (None: not known)."""

    service: str
    code: str
    unit: str
    subject: str
    needed: int
    needed_max: int
    used: int | None
    quota: Quota | None
    by: tuple[str, ...] = ()

    @property
    def limit(self) -> float | None:
        return self.quota.value if self.quota else None

    @property
    def name(self) -> str:
        return f"{self.quota.name if self.quota else self.subject} ({self.code})"

    def to_result(self) -> dict[str, t.Any]:
        return {
            "service": self.service,
            "code": self.code,
            "name": self.quota.name if self.quota else self.subject,
            "needed": self.needed,
            "needed_max": self.needed_max,
            "used": self.used,
            "limit": self.limit,
            "unit": self.unit,
        }


def chosen_zones(wanted: Wanted, available: t.Sequence[Zone] | None) -> tuple[Zone, ...]:
    """The zones that the cluster will have: those named, else the first of the region; all of them where the network is there already."""
    if available is None:
        return tuple(Zone(name=name, id="") for name in wanted.zones)
    if wanted.zones:
        return tuple(zone for name in wanted.zones for zone in available if name in (zone.name, zone.id))
    return tuple(available[: wanted.zone_count] if wanted.network else available)


def zone_count(wanted: Wanted, zones: t.Sequence[Zone]) -> int:
    return len(zones) or len(wanted.zones) or wanted.zone_count


def demands(wanted: Wanted, seen: Seen, zones: t.Sequence[Zone], groups: t.Sequence[WantedGroup]) -> list[Demand]:
    """Everything that counts in a quota."""
    found = [*_vcpu_demands(seen, groups), _of(CLUSTERS, seen, 1, seen.clusters)]
    if wanted.network:
        count = zone_count(wanted, zones)
        gateways = wanted.nat_gateways(count)
        found += [
            _of(VPCS, seen, 1, seen.vpcs),
            _of(ADDRESSES, seen, gateways, seen.addresses),
            _of(NAT_GATEWAYS, seen, min(gateways, 1), _busiest(seen, zones)),
            _of(ENDPOINTS, seen, wanted.interface_endpoints, 0),
        ]
    return [demand for demand in found if demand.needed or demand.needed_max]


def _busiest(seen: Seen, zones: t.Sequence[Zone]) -> int | None:
    """The NAT gateways of that of our zones that has most of them."""
    return None if seen.nat_gateways is None else max((seen.nat_gateways.get(zone.name, 0) for zone in zones), default=0)


def _of(name: QuotaName, seen: Seen, needed: int, used: int | None) -> Demand:
    quotas = seen.quotas.get(name.service, ())
    quota = next((quota for quota in quotas if quota.name == name.name), None)
    quota = quota or next((quota for quota in quotas if quota.code == name.code), None)
    return Demand(
        service=name.service,
        code=quota.code if quota else name.code,
        unit=name.unit,
        subject=name.name,
        needed=needed,
        needed_max=needed,
        used=used,
        quota=quota,
    )


def _vcpu_demands(seen: Seen, groups: t.Sequence[WantedGroup]) -> list[Demand]:
    """vCPUs by quota. Of each group its first type is counted: the smallest one, with which it starts."""
    quotas = {quota.code: quota for quota in seen.quotas.get("ec2", ())}
    names = {code: quota.name for code, quota in quotas.items()}
    by_code: dict[str, list[WantedGroup]] = {}
    for group in groups:
        if group.max and (code := vcpu_code(family_of(group.matching[0].name), group.capacity_type, names)):
            by_code.setdefault(code, []).append(group)
    return [
        Demand(
            service="ec2",
            code=code,
            unit="vCPUs",
            subject="vCPUs of running instances",
            needed=sum(group.desired * group.matching[0].vcpus for group in part),
            needed_max=sum(group.max * group.matching[0].vcpus for group in part),
            used=_used_vcpus(seen, code, names),
            quota=quotas.get(code),
            by=tuple(f"{g.name}: {g.desired} to {g.max} x {g.matching[0].name}, {g.matching[0].vcpus} vCPUs each" for g in part),
        )
        for code, part in by_code.items()
    ]


def _used_vcpus(seen: Seen, code: str, names: t.Mapping[str, str]) -> int | None:
    if seen.running is None:
        return None
    same = [one for one in seen.running if vcpu_code(family_of(one.instance_type), one.capacity_type, names) == code]
    return sum(one.count * seen.vcpus.get(one.instance_type, 0) for one in same)


def quota_findings(demand: Demand, region: str) -> list[Finding]:
    """An error where the quota is too small to make the cluster, a warning where it is too small for its largest size."""
    if demand.limit is None:
        where = console_url(region, demand.service, demand.code)
        message = f"{demand.name}: {demand.needed_max} {demand.unit} are needed, and the limit could not be read."
        return [Finding(code="quota_unknown", severity="warning", subject=demand.name, message=message, fix=f"Look at {where}.")]
    used = demand.used or 0
    if used + demand.needed > demand.limit:
        return [_quota_finding(demand, region, demand.needed, "quota_exceeded")]
    if used + demand.needed_max > demand.limit:
        return [_quota_finding(demand, region, demand.needed_max, "quota_exceeded_at_max")]
    return []


def _quota_finding(demand: Demand, region: str, needed: int, code: str) -> Finding:
    used, limit = demand.used or 0, demand.limit or 0
    at_max = code == "quota_exceeded_at_max"
    when = "at the largest size of the pools" if at_max else "to make the cluster"
    details = f" ({'; '.join(demand.by)})" if demand.by else ""
    message = (
        f"{demand.name}: {needed} {demand.unit} needed {when}{details} + {used} used by others in {region} = {needed + used}; "
        f"the limit is {limit:g}."
    )
    return Finding(
        code=code,
        severity="warning" if at_max else "error",
        subject=demand.name,
        message=message,
        needed=needed,
        used=demand.used,
        limit=limit,
        unit=demand.unit,
        fix=_ask(region, demand.service, demand.code, needed + used),
    )


def _ask(region: str, service: str, code: str, wanted: int) -> str:
    return (
        f"Ask for at least {wanted} at {console_url(region, service, code)} or with: aws service-quotas request-service-quota-increase "
        f"--region {region} --service-code {service} --quota-code {code} --desired-value {wanted}"
    )


def start_findings(seen: Seen, groups: t.Sequence[WantedGroup], exceeded: t.Container[str]) -> list[Finding]:
    """Groups that could never start one node, although none is asked for at creation; ``exceeded`` are codes that are errors already."""
    quotas = {quota.code: quota for quota in seen.quotas.get("ec2", ())}
    names = {code: quota.name for code, quota in quotas.items()}
    findings = []
    for group in groups:
        first = group.matching[0]
        code = vcpu_code(family_of(first.name), group.capacity_type, names)
        if code is None or code in exceeded or code not in quotas or not group.max or first.vcpus <= quotas[code].value:
            continue
        limit = quotas[code].value
        message = (
            f"{group.name} can never start a node: one {first.name} has {first.vcpus} vCPUs; "
            f"{quotas[code].name} ({code}) has the limit {limit:g}."
        )
        fix = _ask(seen.region, "ec2", code, first.vcpus)
        numbers: dict[str, t.Any] = {"needed": first.vcpus, "used": None, "limit": limit, "unit": "vCPUs"}
        findings.append(
            Finding(code="quota_below_one_node", severity="error", subject=f"pool {group.pool.name}", message=message, fix=fix, **numbers)
        )
    return findings


def unknown_class_findings(seen: Seen, groups: t.Sequence[WantedGroup]) -> list[Finding]:
    """Groups of families and capacity types whose quota is not known."""
    names = {quota.code: quota.name for quota in seen.quotas.get("ec2", ())}
    families = {
        (family_of(group.matching[0].name), group.capacity_type): group
        for group in groups
        if group.capacity_type in ("on_demand", "spot") and not vcpu_code(family_of(group.matching[0].name), group.capacity_type, names)
    }
    return [
        Finding(
            code="quota_unknown",
            severity="warning",
            subject=f"pool {group.pool.name}",
            message=f"Which quota counts {kind} instances of {family} is not known.",
            fix="Look at the quotas of Amazon EC2 in Service Quotas.",
        )
        for (family, kind), group in families.items()
    ]


def zone_findings(wanted: Wanted, seen: Seen) -> list[Finding]:
    if seen.zones is None:
        return []
    known = {name for zone in seen.zones for name in (zone.name, zone.id)}
    names = ", ".join(f"{zone.name} ({zone.id})" for zone in seen.zones)
    found = [
        Finding(
            code="zone_unknown",
            severity="error",
            subject=zone,
            message=f"{zone} is not an availability zone that this account can use in {seen.region}.",
            fix=f"Take one of {names}.",
        )
        for zone in wanted.zones
        if zone not in known
    ]
    count = len(seen.zones)
    if not wanted.zones and wanted.network and count < wanted.zone_count:
        message = f"{wanted.zone_count} zones are asked for, and {seen.region} has {count} that this account can use: {names}."
        numbers: dict[str, t.Any] = {"needed": wanted.zone_count, "limit": count, "unit": "zones"}
        found.append(
            Finding(code="zone_count", severity="error", subject=seen.region, message=message, fix="Ask for fewer zones.", **numbers)
        )
    return found


def version_findings(wanted: Wanted, seen: Seen) -> list[Finding]:
    """A version that EKS does not offer, or that costs more."""
    if wanted.version is None or seen.versions is None:
        return []
    offered = ", ".join(version for version, status in seen.versions.items() if status != "UNSUPPORTED")
    subject = f"EKS {wanted.version}"
    status = seen.versions.get(wanted.version, "UNSUPPORTED")
    if status == "UNSUPPORTED":
        message = f"EKS does not offer Kubernetes {wanted.version} in {seen.region}; it offers {offered}."
        return [Finding(code="version_not_offered", severity="error", subject=subject, message=message, fix=f"Take one of {offered}.")]
    if status == "EXTENDED_SUPPORT":
        message = f"Kubernetes {wanted.version} is in extended support: its control plane costs 0.60 instead of 0.10 USD an hour."
        fix = "Take a version in standard support."
        return [Finding(code="version_extended_support", severity="warning", subject=subject, message=message, fix=fix)]
    return []


def pool_findings(resolutions: t.Sequence[Resolution]) -> list[Finding]:
    """Pools that EC2 cannot serve as they are, and zones in which they get no nodes."""
    errors = [
        Finding(
            code="pool_not_offered",
            severity="error",
            subject=fault.path,
            message=f"{fault.path}: {fault.value!r} cannot be had.",
            fix=f"Allowed: {fault.allowed} ({fault.source}).",
        )
        for resolution in resolutions
        for fault in resolution.faults
    ]
    warnings = [
        Finding(
            code="pool_limited", severity="warning", subject="pools", message=warning, fix="Nothing has to be done where that is meant."
        )
        for resolution in resolutions
        for warning in resolution.warnings
    ]
    return errors + warnings


def offerings(resolutions: t.Sequence[Resolution], facts: Ec2Facts) -> list[dict[str, t.Any]]:
    """Which types of each pool its zones offer."""
    fitting: dict[str, set[str]] = {}
    zones: dict[str, list[str]] = {}
    for group in (group for resolution in resolutions for group in resolution.groups):
        fitting.setdefault(group.pool.name, set()).update(group.fitting)
        zones.setdefault(group.pool.name, []).extend(subnet.zone for subnet in group.subnets)
    return [
        {"pool": pool, "zone": zone, "instance_types": sorted(types & facts.offerings.get(zone, frozenset()))}
        for pool, types in fitting.items()
        for zone in dict.fromkeys(zones[pool])
    ]


def controller_findings(wanted: Wanted) -> list[Finding]:
    """Controllers that could not reach the public endpoint; without public ranges there is none to reach."""
    public = [IPv4Network(cidr) for cidr in wanted.public_access_cidrs]
    outside = [cidr for cidr in wanted.controller_cidrs if not any(IPv4Network(cidr).subnet_of(network) for network in public)]
    return [
        Finding(
            code="controller_shut_out",
            severity="error",
            subject=cidr,
            message=f"The controller's range {cidr} lies in none of the ranges that may reach the API server: "
            f"{', '.join(wanted.public_access_cidrs)}.",
            fix=f"Add {cidr} to the public access CIDRs, or run from one of them.",
        )
        for cidr in outside
        if public
    ]


def role_findings(wanted: Wanted, seen: Seen) -> list[Finding]:
    if seen.roles is None:
        return []
    return [
        Finding(
            code="service_linked_role_missing",
            severity="warning",
            subject=service,
            message=f"The account has no service-linked role of {service}. AWS makes it at first use, where the caller may "
            "iam:CreateServiceLinkedRole.",
            fix=f"aws iam create-service-linked-role --aws-service-name {service}",
        )
        for service in wanted.service_linked_roles
        if service not in seen.roles
    ]


def cost_findings(wanted: Wanted, estimate: t.Mapping[str, t.Any]) -> list[Finding]:
    """The limit is held against the smallest size; an estimate that is not complete cannot keep to it."""
    limit = wanted.cost_limit
    if limit is None:
        return []
    months = [f"{line['subject']}: {line['per_month']:.2f}" for line in estimate["lines"] if line["per_month"]]
    unknown = [line["subject"] for line in estimate["lines"] if line["per_month"] is None]
    numbers: dict[str, t.Any] = {"needed": estimate["per_month"], "limit": limit, "unit": f"{estimate['currency']} per month"}
    known = f"{estimate['per_month']:.2f} {estimate['currency']} per month at the smallest size ({'; '.join(months)})"
    if estimate["per_month"] > limit:
        message = f"{known} are above the limit of {limit:.2f}."
        fix = "Lower scaling.min or take smaller instance types, or raise the limit."
        return [Finding(code="cost_limit_exceeded", severity="error", subject="cost", message=message, fix=fix, **numbers)]
    if unknown:
        message = f"Whether the limit of {limit:.2f} is kept is not known: {known}, and the price of {'; '.join(unknown)} is unknown."
        fix = "Let the calling identity use pricing:GetProducts; leave the limit out for Spot and reserved capacity."
        return [Finding(code="cost_unknown", severity="error", subject="cost", message=message, fix=fix, **numbers)]
    return []
