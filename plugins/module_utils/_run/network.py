# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_network: what is there of a cluster's network, what it should be, and the way from one to the other."""

from __future__ import annotations

import typing as t

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
    Vpc,
    Zone,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._plan import network_target
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network import plan_network, result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_absent import blockers, in_the_way, plan_absent
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Wait, resolve
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run


def network_job(run: Run) -> Outcome:
    """Make the network, or take it down."""
    owner = run.owner(run.params["cluster_name"])
    return _absent(run, owner) if run.params["state"] == "absent" else _present(run, owner)


def _present(run: Run, owner: Owner) -> Outcome:
    zones = _zones(run.aws)
    observed = _settled(run, owner)
    wanted = Wanted.from_params(run.params)
    target = _target(wanted, observed, owner, zones)
    plan = plan_network(target, observed)
    made = run.apply(plan)
    if plan.steps and not run.check_mode:
        target = _target(wanted, observe(run.aws, owner), owner, zones)
    # EC2 API, eventual consistency: what a call has just made can be missing in the reads after it.
    return Outcome(plan=plan, result={"network": resolve(result(target), made)})


def _target(wanted: Wanted, observed: Network, owner: Owner, zones: list[Zone]) -> network_target.Target:
    """The network as it should be; InvalidInput with everything that what is there does not allow."""
    chosen, faults = network_target.choose_zones(wanted, observed, zones)
    faults += network_target.immutable_faults(wanted, observed)
    if not faults:
        kept = network_target.kept_zones(chosen, observed, zones)
        target, faults = network_target.target(wanted, observed, owner, chosen, kept)
        if target:
            return target
    raise InvalidInput(faults)


def _absent(run: Run, owner: Owner) -> Outcome:
    observed = _settled(run, owner, interfaces=True)
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
        there = Network(nat_interfaces=observed.nat_interfaces, interfaces=_interfaces(run.aws, observed.vpc.id))
        if left := in_the_way(there, owner):
            users = ", ".join(f"{interface.id} ({interface.description or 'no description'})" for interface in left)
            error.hint = f"Network interfaces in {observed.vpc.id} that are not ours: {users}. {error.hint}"


def _settled(run: Run, owner: Owner, *, interfaces: bool = False) -> Network:
    """What is there, after gateways that an earlier run left in the making, or going, have come to rest."""
    observed = observe(run.aws, owner, interfaces=interfaces)
    moving = {state: [n.id for n in observed.nat_gateways if n.state == state] for state in ("pending", "deleting")}
    if run.check_mode or not any(moving.values()):
        return observed
    for state, waiter in (("pending", "nat_gateway_available"), ("deleting", "nat_gateway_deleted")):
        if moving[state]:
            run.aws.wait(Wait(waiter=waiter, arguments={"NatGatewayIds": moving[state]}))
    return observe(run.aws, owner, interfaces=interfaces)


def observe(aws: Aws, owner: Owner, *, interfaces: bool = False) -> Network:
    """The network by its owner's mark: gateways and addresses even where the VPC is gone, in the VPC also what is not ours."""
    marked = [_filter(f"tag:{OWNER_TAG}", owner.arn)]
    vpcs = aws.pages("ec2:DescribeVpcs", "Vpcs", {"Filters": marked})
    gateways = aws.pages("ec2:DescribeInternetGateways", "InternetGateways", {"Filters": marked})
    addresses = aws.call("ec2:DescribeAddresses", {"Filters": marked})["Addresses"]
    _single("VPCs", [vpc["VpcId"] for vpc in vpcs], owner)
    _single("internet gateways", [gateway["InternetGatewayId"] for gateway in gateways], owner)
    gateway = InternetGateway.from_api(gateways[0]) if gateways else None
    outside: dict[str, t.Any] = {"internet_gateway": gateway, "addresses": tuple(Address.from_api(address) for address in addresses)}
    return _in_vpc(aws, owner, vpcs[0], outside, interfaces=interfaces) if vpcs else Network(**outside)


def _in_vpc(aws: Aws, owner: Owner, vpc: dict[str, t.Any], outside: dict[str, t.Any], *, interfaces: bool) -> Network:
    vpc_id = vpc["VpcId"]
    inside = {"Filters": [_filter("vpc-id", vpc_id)]}
    ours = {"Filter": [_filter("vpc-id", vpc_id), _filter(f"tag:{OWNER_TAG}", owner.arn)]}
    subnets = aws.pages("ec2:DescribeSubnets", "Subnets", inside)
    tables = aws.pages("ec2:DescribeRouteTables", "RouteTables", inside)
    gateways = [NatGateway.from_api(gateway) for gateway in aws.pages("ec2:DescribeNatGateways", "NatGateways", ours)]
    groups = aws.pages("ec2:DescribeSecurityGroups", "SecurityGroups", inside)
    return Network(
        vpc=_vpc(aws, vpc),
        subnets=tuple(Subnet.from_api(subnet, owner) for subnet in subnets),
        route_tables=tuple(RouteTable.from_api(table, owner) for table in tables),
        nat_gateways=tuple(gateway for gateway in gateways if gateway.state != "deleted"),
        nat_interfaces=frozenset(interface for gateway in gateways for interface in gateway.interface_ids),
        security_groups=tuple(SecurityGroup.from_api(group) for group in groups),
        interfaces=_interfaces(aws, vpc_id) if interfaces else (),
        **outside,
    )


def _vpc(aws: Aws, vpc: dict[str, t.Any]) -> Vpc:
    attributes = {
        name: aws.call("ec2:DescribeVpcAttribute", {"VpcId": vpc["VpcId"], "Attribute": name})[name[0].upper() + name[1:]]["Value"]
        for name in ("enableDnsSupport", "enableDnsHostnames")
    }
    return Vpc(
        id=vpc["VpcId"],
        cidr=vpc["CidrBlock"],
        dns_support=attributes["enableDnsSupport"],
        dns_hostnames=attributes["enableDnsHostnames"],
        tags=tag_map(vpc.get("Tags")),
    )


def _interfaces(aws: Aws, vpc_id: str) -> tuple[NetworkInterface, ...]:
    found = aws.pages("ec2:DescribeNetworkInterfaces", "NetworkInterfaces", {"Filters": [_filter("vpc-id", vpc_id)]})
    return tuple(NetworkInterface.from_api(interface) for interface in found)


def _zones(aws: Aws) -> list[Zone]:
    """The region's availability zones that this account can use, by name; no local or wavelength zones: EKS places no control plane there."""
    filters = [_filter("zone-type", "availability-zone"), _filter("state", "available")]
    zones = aws.call("ec2:DescribeAvailabilityZones", {"Filters": filters})["AvailabilityZones"]
    usable = [zone for zone in zones if zone.get("OptInStatus") != "not-opted-in"]
    return sorted((Zone.from_api(zone) for zone in usable), key=lambda zone: zone.name)


def _single(what: str, ids: t.Sequence[str], owner: Owner) -> None:
    if len(ids) > 1:
        hint = f"Delete what is not used, or remove its tag {OWNER_TAG}, then run again."
        raise GpuopsError(f"Several {what} carry the mark of {owner.arn}: {', '.join(sorted(ids))}.", hint=hint)


def _filter(name: str, *values: str) -> dict[str, t.Any]:
    return {"Name": name, "Values": list(values)}
