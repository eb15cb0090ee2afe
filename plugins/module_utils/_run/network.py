# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_network: what is there of a cluster's network, what it should be, and the way from one to the other."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import (
    Address,
    InternetGateway,
    NatGateway,
    Network,
    NetworkInterface,
    RouteTable,
    SecurityGroup,
    Subnet,
    Zone,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import (
    Endpoint,
    EndpointKey,
    Service,
    by_key,
    service_names,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._plan import network_target
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network import plan_network, result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_absent import blockers, in_the_way, plan_absent
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Wait, resolve
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run
from ansible_collections.gpuops.eks.plugins.module_utils._run.network_existing import by, existing_network, with_attributes

Api = dict[str, t.Any]


_FILTER_VALUES = 200  # EC2 API: values of a filter


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What the region has: zones, those of them that offer the instance types (None: nobody asked), services with endpoints."""

    zones: list[Zone]
    offered: frozenset[str] | None
    services: t.Mapping[EndpointKey, Service]


def network_job(run: Run) -> Outcome:
    """Make the network, take it down, or look at one that somebody else made."""
    if run.params["vpc_id"] is not None:
        return existing_network(run)
    owner, vpcs = _owner(run)
    return _absent(run, owner, vpcs) if run.params["state"] == "absent" else _present(run, owner, vpcs)


def _owner(run: Run) -> tuple[Owner, list[Api]]:
    """Whose the network is, and its VPC where there is one: the mark of a VPC says what sts:GetCallerIdentity would have to say else."""
    name = run.params["cluster_name"]
    found = run.aws.pages("ec2:DescribeVpcs", "Vpcs", {"Filters": [by(f"tag:{OWNER_TAG}", f"arn:*:eks:{run.region}:*:cluster/{name}")]})
    for vpc in found:
        owner = Owner.from_arn(tag_map(vpc.get("Tags"))[OWNER_TAG])
        if owner.account == vpc.get("OwnerId"):
            return owner, [each for each in found if owner.owns(tag_map(each.get("Tags")))]
    return run.owner(name), []


def _present(run: Run, owner: Owner, vpcs: list[Api]) -> Outcome:
    observed = _settled(run, owner, vpcs)
    wanted = Wanted.from_params(run.params)
    facts = _facts(run, wanted, observed)
    target = _target(wanted, observed, owner, facts)
    plan = plan_network(target, observed)
    made = run.apply(plan)
    if (plan.steps or plan.waits) and not run.check_mode:
        target = _target(wanted, observe(run.aws, owner), owner, facts)
    # EC2 API, eventual consistency: what a call has just made can be missing in the reads after it.
    return Outcome(plan=plan, result={"network": resolve(result(target), made)})


def _target(wanted: Wanted, observed: Network, owner: Owner, facts: _Facts) -> network_target.Target:
    """The network as it should be; InvalidInput with everything that region and network do not allow."""
    chosen, faults = network_target.choose_zones(wanted, observed, facts.zones, facts.offered)
    kept = network_target.kept_zones(chosen, observed, facts.zones)
    endpoints = [] if faults else network_target.endpoint_faults(wanted, observed, [*chosen, *kept], facts.services)
    faults += network_target.immutable_faults(wanted, observed) + endpoints
    target, more = (None, []) if faults else network_target.target(wanted, observed, owner, chosen, kept, facts.services)
    if target is None:
        raise InvalidInput(faults + more)
    return network_target.with_useless(target, facts.zones, facts.offered)


def _facts(run: Run, wanted: Wanted, observed: Network) -> _Facts:
    zones, offered = _zones(run.aws, wanted, observed)
    chosen, faults = network_target.choose_zones(wanted, observed, zones, offered)
    places = [*chosen, *network_target.kept_zones(chosen, observed, zones)]
    return _Facts(zones=zones, offered=offered, services={} if faults else _services(run, wanted, observed, places))


def _services(run: Run, wanted: Wanted, observed: Network, zones: list[Zone]) -> dict[EndpointKey, Service]:
    """What EC2 says of the services whose endpoints have to be made or may have to be moved."""
    asked = network_target.asked_services(wanted, observed, zones)
    found: dict[EndpointKey, Service] = {}
    names = service_names(asked, run.region)
    for start in range(0, len(names), _FILTER_VALUES):
        request = {"Filters": [by("service-name", *names[start : start + _FILTER_VALUES])]}
        replies = run.aws.pages("ec2:DescribeVpcEndpointServices", "ServiceDetails", request)
        found |= by_key([Service.from_api(reply) for reply in replies], run.region)
    return found


def _absent(run: Run, owner: Owner, vpcs: list[Api]) -> Outcome:
    observed = _settled(run, owner, vpcs, interfaces=True)
    if observed.vpc and (left := blockers(observed, owner)):
        raise _blocked(observed.vpc.id, left)
    plan = plan_absent(observed, owner)
    try:
        run.apply(plan)
    except GpuopsError as error:
        _add_users(run, error, observed, owner)
        raise
    return Outcome(plan=plan, result={"network": None})


def _blocked(vpc_id: str, left: t.Sequence[str]) -> GpuopsError:
    hint = "Nothing was deleted. Remove what uses the network (the cluster, load balancers, instances), then run again."
    return GpuopsError(f"{vpc_id} is still used by what this module did not make: {', '.join(left)}.", hint=hint)


def _add_users(run: Run, error: GpuopsError, observed: Network, owner: Owner) -> None:
    """A DependencyViolation also says which network interfaces are still there; EC2 names none."""
    if error.result().get("error", {}).get("code") == "DependencyViolation" and observed.vpc:
        there = replace(observed, interfaces=_interfaces(run.aws, observed.vpc.id))
        if left := in_the_way(there, owner):
            users = ", ".join(f"{interface.id} ({interface.description or 'no description'})" for interface in left)
            error.hint = f"Network interfaces in {observed.vpc.id} that are not ours: {users}. {error.hint}"


def _settled(run: Run, owner: Owner, vpcs: list[Api], *, interfaces: bool = False) -> Network:
    """What is there, after gateways that an earlier run left in the making, or going, have come to rest."""
    observed = _observe(run.aws, owner, vpcs, interfaces=interfaces)
    moving = {state: [n.id for n in observed.nat_gateways if n.state == state] for state in ("pending", "deleting")}
    if run.check_mode or not any(moving.values()):
        return observed
    for state, waiter in (("pending", "nat_gateway_available"), ("deleting", "nat_gateway_deleted")):
        if moving[state]:
            run.aws.wait(Wait(waiter=waiter, arguments={"NatGatewayIds": moving[state]}))
    return observe(run.aws, owner, interfaces=interfaces)


def observe(aws: Aws, owner: Owner, *, interfaces: bool = False) -> Network:
    """The network by its owner's mark: gateways and addresses even where the VPC is gone, in the VPC also what is not ours."""
    vpcs = aws.pages("ec2:DescribeVpcs", "Vpcs", {"Filters": [by(f"tag:{OWNER_TAG}", owner.arn)]})
    return _observe(aws, owner, vpcs, interfaces=interfaces)


def _observe(aws: Aws, owner: Owner, vpcs: list[Api], *, interfaces: bool) -> Network:
    marked = [by(f"tag:{OWNER_TAG}", owner.arn)]
    gateways = aws.pages("ec2:DescribeInternetGateways", "InternetGateways", {"Filters": marked})
    addresses = aws.call("ec2:DescribeAddresses", {"Filters": marked})["Addresses"]
    _single("VPCs", [vpc["VpcId"] for vpc in vpcs], owner)
    _single("internet gateways", [gateway["InternetGatewayId"] for gateway in gateways], owner)
    gateway = InternetGateway.from_api(gateways[0]) if gateways else None
    outside: dict[str, t.Any] = {"internet_gateway": gateway, "addresses": tuple(Address.from_api(address) for address in addresses)}
    return _in_vpc(aws, owner, vpcs[0], outside, interfaces=interfaces) if vpcs else Network(**outside)


def _in_vpc(aws: Aws, owner: Owner, vpc: Api, outside: dict[str, t.Any], *, interfaces: bool) -> Network:
    vpc_id = vpc["VpcId"]
    inside = {"Filters": [by("vpc-id", vpc_id)]}
    ours = {"Filter": [by("vpc-id", vpc_id), by(f"tag:{OWNER_TAG}", owner.arn)]}
    subnets = aws.pages("ec2:DescribeSubnets", "Subnets", inside)
    tables = aws.pages("ec2:DescribeRouteTables", "RouteTables", inside)
    gateways = [NatGateway.from_api(gateway) for gateway in aws.pages("ec2:DescribeNatGateways", "NatGateways", ours)]
    groups = aws.pages("ec2:DescribeSecurityGroups", "SecurityGroups", inside)
    endpoints = aws.pages("ec2:DescribeVpcEndpoints", "VpcEndpoints", inside)
    return Network(
        vpc=with_attributes(aws, vpc),
        subnets=tuple(Subnet.from_api(subnet, owner) for subnet in subnets),
        route_tables=tuple(RouteTable.from_api(table, owner) for table in tables),
        nat_gateways=tuple(gateway for gateway in gateways if gateway.state != "deleted"),
        nat_interfaces=frozenset(interface for gateway in gateways for interface in gateway.interface_ids),
        security_groups=tuple(SecurityGroup.from_api(group) for group in groups),
        interfaces=_interfaces(aws, vpc_id) if interfaces else (),
        endpoints=tuple(Endpoint.from_api(endpoint, owner) for endpoint in endpoints),
        **outside,
    )


def _interfaces(aws: Aws, vpc_id: str) -> tuple[NetworkInterface, ...]:
    found = aws.pages("ec2:DescribeNetworkInterfaces", "NetworkInterfaces", {"Filters": [by("vpc-id", vpc_id)]})
    return tuple(NetworkInterface.from_api(interface) for interface in found)


def _zones(aws: Aws, wanted: Wanted, observed: Network) -> tuple[list[Zone], frozenset[str] | None]:
    """The region's availability zones that this account can use, by name, and which of them offer the instance types.

    No local or wavelength zones: EKS places no control plane there. Nothing is asked where the network has its zones already.
    """
    if used := network_target.used_zones(wanted, observed):
        return used, None
    filters = [by("zone-type", "availability-zone"), by("state", "available")]
    zones = aws.call("ec2:DescribeAvailabilityZones", {"Filters": filters})["AvailabilityZones"]
    usable = [zone for zone in zones if zone.get("OptInStatus") != "not-opted-in"]
    return sorted((Zone.from_api(zone) for zone in usable), key=lambda zone: zone.name), _offered(aws, wanted.instance_types)


def _offered(aws: Aws, types: t.Sequence[str]) -> frozenset[str] | None:
    """Names of the zones that offer at least one of the types."""
    offers: list[Api] = []
    for start in range(0, len(types), _FILTER_VALUES):
        filters = [by("instance-type", *types[start : start + _FILTER_VALUES])]
        request = {"LocationType": "availability-zone", "Filters": filters}
        offers += aws.pages("ec2:DescribeInstanceTypeOfferings", "InstanceTypeOfferings", request)
    return frozenset(offer["Location"] for offer in offers) if types else None


def _single(what: str, ids: t.Sequence[str], owner: Owner) -> None:
    if len(ids) > 1:
        hint = f"Delete what is not used, or remove its tag {OWNER_TAG}, then run again."
        raise GpuopsError(f"Several {what} carry the mark of {owner.arn}: {', '.join(sorted(ids))}.", hint=hint)
