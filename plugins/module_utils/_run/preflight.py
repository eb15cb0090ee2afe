# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Reads what a new cluster depends on. Each read that fails is one finding, and what depends on it is unknown."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.errors import permission_for
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import family_of
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.prices import (
    QUERIES,
    currency_of,
    date_of,
    fixed,
    on_demand,
    price_of,
    pricing_region,
)
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.quotas import vcpu_code
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Zone
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.preflight import Finding, Quota, Running, Seen, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._plan import preflight as rules
from ansible_collections.gpuops.eks.plugins.module_utils._plan.estimate import Nodes, Prices, Shape, estimate, nodes_of, offline_nodes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts, Resolution, WantedGroup, resolve_groups
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

R = t.TypeVar("R")

_FILTER_VALUES = 200  # EC2 takes at most 200 values in a filter
_SERVICE_ROLES = "/aws-service-role/"
_QUOTAS = "service-quotas:ListServiceQuotas"
_DEFAULTS = "service-quotas:ListAWSDefaultServiceQuotas"
_PRICES = "pricing:GetProducts"


class _Reads:
    """Reads of which each may fail; ``findings`` says which did. What has failed once is not asked again."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._failed: set[str] = set()
        self.findings: list[Finding] = []

    def call(self, action: str, key: str, request: dict[str, t.Any], unknown: str) -> list[t.Any] | None:
        """A list that is not paged; None where it cannot be read, and then ``unknown`` is what is not known."""
        return self._read(action, lambda: list(self._run.aws.call(action, request).get(key) or ()), unknown)

    def pages(self, action: str, key: str, request: dict[str, t.Any], unknown: str) -> list[t.Any] | None:
        return self._read(action, lambda: self._run.aws.pages(action, key, request), unknown)

    def _read(self, action: str, read: t.Callable[[], R], unknown: str) -> R | None:
        if action in self._failed:
            return None
        try:
            return read()
        except GpuopsError as error:
            self._failed.add(action)
            message = f"{unknown} not known: {error.message}"
            fix = error.hint or f"Let the calling identity use {permission_for(action)}."
            subject = permission_for(action)
            self.findings.append(Finding(code="not_readable", severity="warning", subject=subject, message=message, fix=fix))
            return None


def preflight_info(run: Run) -> Outcome:
    """The job of module eks_preflight_info."""
    owner = run.owner(run.params["cluster_name"])
    wanted, reads = Wanted.from_params(run.params), _Reads(run)
    available = _zones(reads)
    zones = rules.chosen_zones(wanted, available)
    facts = _ec2_facts(reads, wanted.pools)
    subnets = [Subnet(id=f"planned:subnet/{zone.name}", zone=zone.name, zone_id=zone.id) for zone in zones]
    resolutions = [resolve_groups(pool, subnets, facts) for pool in wanted.pools] if facts and subnets else []
    groups = [group for resolution in resolutions for group in resolution.groups]
    seen = _with_defaults(reads, wanted, _seen(reads, wanted, owner, available, groups, facts), zones, groups)
    prices, nodes = _prices_and_nodes(reads, wanted, seen, resolutions, zones)
    cost = estimate(nodes, _shape(wanted, seen, rules.zone_count(wanted, zones)), prices)
    demands = rules.demands(wanted, seen, zones, groups)
    findings = _findings(wanted, seen, resolutions, demands, cost)
    return Outcome(
        plan=None,
        result={
            "preflight": {
                "findings": [finding.to_result() for finding in sorted([*findings, *reads.findings], key=_errors_first)],
                "estimate": cost,
                "quotas": [demand.to_result() for demand in demands],
                "offerings": rules.offerings(resolutions, facts) if facts else [],
            }
        },
    )


def _errors_first(finding: Finding) -> bool:
    return finding.severity != "error"


def _findings(
    wanted: Wanted,
    seen: Seen,
    resolutions: t.Sequence[Resolution],
    demands: t.Sequence[rules.Demand],
    cost: t.Mapping[str, t.Any],
) -> list[Finding]:
    groups = [group for resolution in resolutions for group in resolution.groups]
    quotas = [finding for demand in demands if demand.service in seen.quotas for finding in rules.quota_findings(demand, seen.region)]
    exceeded = {demand.code for demand in demands if any(one.severity == "error" and one.subject == demand.name for one in quotas)}
    return [
        *rules.zone_findings(wanted, seen),
        *rules.version_findings(wanted, seen),
        *rules.pool_findings(resolutions),
        *quotas,
        *rules.start_findings(seen, groups, exceeded),
        *rules.unknown_class_findings(seen, groups),
        *rules.controller_findings(wanted),
        *rules.role_findings(wanted, seen),
        *rules.cost_findings(wanted, cost),
    ]


def _zones(reads: _Reads) -> tuple[Zone, ...] | None:
    filters = [_filter("zone-type", "availability-zone"), _filter("state", "available")]
    unknown = "The availability zones of the region are"
    found = reads.call("ec2:DescribeAvailabilityZones", "AvailabilityZones", {"Filters": filters}, unknown)
    if found is None:
        return None
    usable = [Zone.from_api(zone) for zone in found if zone.get("OptInStatus") != "not-opted-in"]
    return tuple(sorted(usable, key=lambda zone: zone.name))


def _ec2_facts(reads: _Reads, pools: t.Sequence[Pool]) -> Ec2Facts | None:
    """What EC2 knows of the types and families that the pools name, and which zones offer them; None where that cannot be read."""
    patterns = list(dict.fromkeys(pattern for pool in pools for pattern in pool.instances.patterns))
    types: dict[str, InstanceType] = {}
    offered: dict[str, set[str]] = {}
    for start in range(0, len(patterns), _FILTER_VALUES):
        filters = [_filter("instance-type", *patterns[start : start + _FILTER_VALUES])]
        unknown = "The instance types of the pools, and with them the quotas on vCPUs, are"
        found = reads.pages("ec2:DescribeInstanceTypes", "InstanceTypes", {"Filters": filters}, unknown)
        request = {"LocationType": "availability-zone", "Filters": filters}
        unknown = "Which zones offer the instance types of the pools is"
        there = reads.pages("ec2:DescribeInstanceTypeOfferings", "InstanceTypeOfferings", request, unknown)
        if found is None or there is None:
            return None
        types |= {reply["InstanceType"]: InstanceType.from_api(reply) for reply in found}
        for reply in there:
            offered.setdefault(reply["Location"], set()).add(reply["InstanceType"])
    return Ec2Facts(types=types, offerings=offered)


def _seen(
    reads: _Reads,
    wanted: Wanted,
    owner: Owner,
    zones: tuple[Zone, ...] | None,
    groups: t.Sequence[WantedGroup],
    facts: Ec2Facts | None,
) -> Seen:
    versions = _versions(reads)
    quotas = _quotas(reads, wanted, groups)
    running = _running(reads, owner) if groups else ()
    seen = Seen(region=owner.region, zones=zones, versions=versions, quotas=quotas, running=running)
    seen = dataclasses.replace(seen, vcpus=_vcpus(reads, seen, groups, facts), clusters=_clusters(reads, owner))
    if wanted.network:
        seen = _network(reads, owner, wanted, seen)
    return dataclasses.replace(seen, roles=_roles(reads, wanted))


def _versions(reads: _Reads) -> dict[str, str] | None:
    found = reads.pages("eks:DescribeClusterVersions", "clusterVersions", {}, "The versions that EKS offers are")
    if found is None:
        return None
    return {version["clusterVersion"]: version.get("versionStatus", "STANDARD_SUPPORT") for version in found}


def _quotas(reads: _Reads, wanted: Wanted, groups: t.Sequence[WantedGroup]) -> dict[str, tuple[Quota, ...]]:
    """The quotas of the services that the cluster counts in, without those that cannot be read."""
    services = [*(("ec2",) if groups or wanted.network else ()), *(("vpc",) if wanted.network else ()), "eks"]
    found = {}
    for service in services:
        listed = reads.pages(_QUOTAS, "Quotas", {"ServiceCode": service}, "The quotas of the account are")
        if listed is not None:
            found[service] = tuple(map(Quota.from_api, listed))
    return found


def _with_defaults(reads: _Reads, wanted: Wanted, seen: Seen, zones: t.Sequence[Zone], groups: t.Sequence[WantedGroup]) -> Seen:
    """With AWS's defaults of the services of which a quota was not listed: an account need not have values of its own."""
    missing = {demand.service for demand in rules.demands(wanted, seen, zones, groups) if demand.quota is None}
    missing |= {"ec2"} if rules.unknown_class_findings(seen, groups) else set()
    quotas = dict(seen.quotas)
    for service in sorted(missing & set(quotas)):
        listed = reads.pages(_DEFAULTS, "Quotas", {"ServiceCode": service}, "The default quotas of AWS are")
        quotas[service] += tuple(map(Quota.from_api, listed or ()))
    return dataclasses.replace(seen, quotas=quotas)


def _running(reads: _Reads, owner: Owner) -> tuple[Running, ...] | None:
    """The instances of the region that count in quotas, without those of this cluster."""
    filters = [_filter("instance-state-name", "pending", "running")]
    found = reads.pages("ec2:DescribeInstances", "Reservations", {"Filters": filters}, "How much of the quotas is in use is")
    if found is None:
        return None
    counts = collections.Counter(
        (instance["InstanceType"], "spot" if instance.get("InstanceLifecycle") == "spot" else "on_demand")
        for reservation in found
        for instance in reservation.get("Instances") or ()
        if tag_map(instance.get("Tags")).get(OWNER_TAG) != owner.arn
    )
    return tuple(Running(instance_type=name, capacity_type=kind, count=count) for (name, kind), count in sorted(counts.items()))


def _vcpus(reads: _Reads, seen: Seen, groups: t.Sequence[WantedGroup], facts: Ec2Facts | None) -> dict[str, int]:
    """vCPUs by type, of running types that count in a quota that the pools need."""
    known = {name: instance.vcpus for name, instance in facts.types.items()} if facts else {}
    names = {quota.code: quota.name for quota in seen.quotas.get("ec2", ())}
    codes = {vcpu_code(family_of(group.matching[0].name), group.capacity_type, names) for group in groups}
    wanted = {one.instance_type for one in seen.running or () if vcpu_code(family_of(one.instance_type), one.capacity_type, names) in codes}
    missing = sorted(wanted - set(known))
    for start in range(0, len(missing), _FILTER_VALUES):
        request = {"Filters": [_filter("instance-type", *missing[start : start + _FILTER_VALUES])]}
        found = reads.pages("ec2:DescribeInstanceTypes", "InstanceTypes", request, "How many vCPUs of the quotas are in use is")
        known |= {reply["InstanceType"]: reply["VCpuInfo"]["DefaultVCpus"] for reply in found or ()}
    return known


def _clusters(reads: _Reads, owner: Owner) -> int | None:
    found = reads.pages("eks:ListClusters", "clusters", {}, "How many clusters there are is")
    return None if found is None else len([name for name in found if name != owner.cluster_name])


def _network(reads: _Reads, owner: Owner, wanted: Wanted, seen: Seen) -> Seen:
    vpcs = _others(reads.pages("ec2:DescribeVpcs", "Vpcs", {}, "How many VPCs there are is"), owner)
    seen = dataclasses.replace(seen, vpcs=None if vpcs is None else len(vpcs))
    if wanted.nat == "none":
        return seen
    addresses = _others(reads.call("ec2:DescribeAddresses", "Addresses", {}, "How many Elastic IP addresses there are is"), owner)
    return dataclasses.replace(seen, addresses=None if addresses is None else len(addresses), nat_gateways=_nat_gateways(reads, owner))


def _nat_gateways(reads: _Reads, owner: Owner) -> dict[str, int] | None:
    """NAT gateways of others by zone, which is that of their subnet."""
    unknown = "How many NAT gateways the zones have is"
    request = {"Filter": [_filter("state", "pending", "available")]}
    gateways = _others(reads.pages("ec2:DescribeNatGateways", "NatGateways", request, unknown), owner)
    if not gateways:
        return None if gateways is None else {}
    zones: dict[str, str] = {}
    subnets = sorted({gateway["SubnetId"] for gateway in gateways if gateway.get("SubnetId")})
    for start in range(0, len(subnets), _FILTER_VALUES):
        filters = [_filter("subnet-id", *subnets[start : start + _FILTER_VALUES])]
        found = reads.pages("ec2:DescribeSubnets", "Subnets", {"Filters": filters}, unknown)
        if found is None:
            return None
        zones |= {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in found}
    return dict(collections.Counter(zones[gateway["SubnetId"]] for gateway in gateways if gateway.get("SubnetId") in zones))


def _others(found: list[t.Any] | None, owner: Owner) -> list[t.Any] | None:
    """Without what is marked as this cluster's."""
    return None if found is None else [item for item in found if tag_map(item.get("Tags")).get(OWNER_TAG) != owner.arn]


def _roles(reads: _Reads, wanted: Wanted) -> frozenset[str] | None:
    """The services that have a service-linked role: their name is in its path."""
    if not wanted.service_linked_roles:
        return frozenset()
    unknown = "Which service-linked roles there are is"
    found = reads.pages("iam:ListRoles", "Roles", {"PathPrefix": _SERVICE_ROLES}, unknown)
    return None if found is None else frozenset(role["Path"].split("/")[2] for role in found)


def _shape(wanted: Wanted, seen: Seen, zones: int) -> Shape:
    return Shape(
        extended_support=(seen.versions or {}).get(wanted.version or "") == "EXTENDED_SUPPORT",
        nat_gateways=wanted.nat_gateways(zones),
        endpoint_interfaces=wanted.interface_endpoints * zones,
        keys=wanted.encryption_keys,
    )


def _prices_and_nodes(
    reads: _Reads, wanted: Wanted, seen: Seen, resolutions: t.Sequence[Resolution], zones: t.Sequence[Zone]
) -> tuple[Prices, list[Nodes]]:
    """Nodes of pools that EC2 cannot judge are judged by names."""
    places = [zone.name for zone in zones] or [f"zone-{number}" for number in range(wanted.zone_count)]
    by_pool = resolutions or [Resolution() for pool in wanted.pools]
    nodes = [
        part
        for pool, resolution in zip(wanted.pools, by_pool, strict=True)
        for part in (nodes_of(resolution.groups) or offline_nodes(pool, places))
    ]
    names = list(dict.fromkeys(name for part in nodes if part.capacity_type == "on_demand" for name in part.types))
    return _prices(reads, seen.region, names, _needs(nodes, wanted)), nodes


def _needs(nodes: t.Sequence[Nodes], wanted: Wanted) -> list[str]:
    """The prices that regions differ in and this cluster needs."""
    found = {"nat_gateway"} if wanted.nat_gateways(1) else set()
    found |= {"interface_endpoint"} if wanted.interface_endpoints else set()
    found |= {"gp3_size", "gp3_throughput"} if any(part.pool.disk.with_defaults().type == "gp3" for part in nodes) else set()
    found |= {"gp3_iops"} if any(part.pool.disk.iops for part in nodes) else set()
    return sorted(found)


def _prices(reads: _Reads, region: str, names: t.Sequence[str], needs: t.Sequence[str]) -> Prices:
    """From the Pricing API; where it does not answer, those that are shipped."""
    shipped = Prices(region=region, instances=on_demand(region), fixed=fixed(region), as_of=date_of(region))
    if pricing_region(region) is None:
        return shipped
    instances: dict[str, float] = {}
    for name in names:
        found = _products(reads, "AmazonEC2", _instance_filters(region, name), region)
        if found is None:
            return shipped
        if price := _first_price(found, "", region):
            instances[name] = price
    others = dict(shipped.fixed)
    for name in (name for name in needs if name not in others):
        query = QUERIES[name]
        found = _products(reads, query.service, [("regionCode", region), *query.filters], region) or []
        if price := _first_price(found, query.usage, region):
            others[name] = price
    today = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    return dataclasses.replace(shipped, instances={**shipped.instances, **instances}, fixed=others, source="pricing_api", as_of=today)


def _first_price(products: t.Iterable[str], usage: str, region: str) -> float | None:
    prices = (price_of(product, usage, currency_of(region)) for product in products)
    return next((price for price in prices if price is not None), None)


def _instance_filters(region: str, name: str) -> list[tuple[str, str]]:
    """Source: Price List query of Karpenter's AWS provider; one price for each type of a region."""
    return [
        ("regionCode", region),
        ("instanceType", name),
        ("operatingSystem", "Linux"),
        ("preInstalledSw", "NA"),
        ("capacitystatus", "Used"),
        ("marketoption", "OnDemand"),
        ("tenancy", "Shared"),
    ]


def _products(reads: _Reads, service: str, filters: t.Sequence[tuple[str, str]], region: str) -> list[str] | None:
    request = {
        "ServiceCode": service,
        "Filters": [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in filters],
    }
    have = f"those of {date_of(region)} that are shipped are taken" if date_of(region) else "none are shipped for this region"
    return reads.pages(_PRICES, "PriceList", request, f"Today's prices are ({have})")


def _filter(name: str, *values: str) -> dict[str, t.Any]:
    return {"Name": name, "Values": list(values)}
