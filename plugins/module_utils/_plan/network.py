# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make a network what it should be. Pure."""

from __future__ import annotations

import typing as t
from ipaddress import IPv4Network

from ansible_collections.gpuops.eks.plugins.module_utils._model.network import (
    ANYWHERE,
    API_GROUP,
    INTERNET_GATEWAY,
    NAT_ADDRESS,
    NAT_GATEWAY,
    ROUTE_TABLES,
    SUBNETS,
    TIERS,
    VPC,
    Block,
    NatGateway,
    Network,
    RouteTable,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import ENDPOINTS, ENDPOINTS_GROUP
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import Place
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import COMPONENT_TAG, OWNER_TAG, tag_list, tag_specifications
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_endpoints import (
    coming,
    described_endpoints,
    described_targets,
    endpoint_cidrs,
    gateway_endpoints,
    interface_endpoints,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_groups import security_group
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_target import Target, TargetNat, TargetSubnet, tags_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait, is_planned, needing

Tags = dict[str, str]
Tagged = dict[str, tuple[t.Mapping[str, str], Tags]]
# Tags that controllers and other tools of the cluster put on subnets and groups; purge_tags leaves them alone.
_KEPT_PREFIXES = ("gpuops.eks/", "kubernetes.io/", "karpenter.sh/")


def plan_network(target: Target, observed: Network) -> Plan:
    """Every call in the order in which EC2 takes them; nothing for what is there already. Half-made parts are completed."""
    steps = [
        *_vpc(target, observed),
        *_places(target, observed),
        *_internet_gateway(target, observed),
        *_nat_gateways(target),
        *interface_endpoints(target, observed),  # they come up while NAT gateways do
        *_routing(target, observed),
        *gateway_endpoints(target, observed),
        *_api_group(target, observed),
        *_surplus_nat(target, observed),
        *_tags(target, observed),
    ]
    return Plan(
        steps=tuple(steps),
        waits=(*_block_waits(steps), *coming(target, observed)),
        before=describe(observed),
        after=describe_target(target, observed),
        warnings=_warnings(target),
    )


def _vpc(target: Target, observed: Network) -> list[Step]:
    vpc, vpc_id = observed.vpc, target.vpc_id
    steps = []
    if vpc is None:
        steps.append(
            Step(
                action="ec2:CreateVpc",
                target=vpc_id,
                effect="create",
                fields=("cidr_block", "tags"),
                request={"CidrBlock": target.cidr, "TagSpecifications": tag_specifications("vpc", tags_of(target, VPC))},
                binds={vpc_id: "Vpc.VpcId"},
            )
        )
    # EC2 gives a new VPC DNS support, but no host names; nodes and the private API endpoint need both.
    if vpc and not vpc.dns_support:
        steps.append(_vpc_attribute(vpc_id, "EnableDnsSupport", "enable_dns_support"))
    if not (vpc and vpc.dns_hostnames):
        steps.append(_vpc_attribute(vpc_id, "EnableDnsHostnames", "enable_dns_hostnames"))
    return steps if vpc else [steps[0], *needing(steps[1:], Wait(waiter="vpc_available", arguments={"VpcIds": [vpc_id]}))]


def _vpc_attribute(vpc_id: str, attribute: str, field: str) -> Step:
    return Step(
        action="ec2:ModifyVpcAttribute",
        target=vpc_id,
        effect="update",
        fields=(field,),
        request={"VpcId": vpc_id, attribute: {"Value": True}},
    )


def _places(target: Target, observed: Network) -> list[Step]:
    """Secondary blocks, then subnets; the first of them in a block that EC2 is still associating waits for that."""
    there = {block.cidr: block for block in observed.vpc.blocks} if observed.vpc else {}
    new = [cidr for cidr in target.secondary if cidr not in there or there[cidr].state.startswith("fail")]
    moving = [IPv4Network(cidr) for cidr in target.secondary if cidr in new or there[cidr].state != "associated"]
    steps = _blocks(target, new, [block for block in there.values() if block.state == "failed"])
    subnets = [subnet for subnet in target.subnets if is_planned(subnet.id)]
    creates = [_create_subnet(target, subnet) for subnet in subnets]
    inside = [any(IPv4Network(subnet.cidr).subnet_of(block) for block in moving) for subnet in subnets]
    if not any(inside):
        return steps + creates
    first = inside.index(True)
    return [*steps, *creates[:first], *needing(creates[first:], _associated(target.vpc_id))]


def _blocks(target: Target, new: t.Sequence[str], failed: t.Sequence[Block]) -> list[Step]:
    """A failed association is taken away where another one is made; it would fail every later wait."""
    removals = [
        Step(
            action="ec2:DisassociateVpcCidrBlock",
            target=target.vpc_id,
            effect="update",
            fields=("secondary_cidrs",),
            reason=f"{block.cidr} has failed: {block.message}",
            request={"AssociationId": block.association_id},
        )
        for block in failed
        if new
    ]
    return removals + [
        Step(
            action="ec2:AssociateVpcCidrBlock",
            target=target.vpc_id,
            effect="update",
            fields=("secondary_cidrs",),
            request={"VpcId": target.vpc_id, "CidrBlock": cidr},
        )
        for cidr in new
    ]


def _associated(vpc_id: str) -> Wait:
    return Wait(waiter="vpc_blocks_associated", arguments={"VpcIds": [vpc_id]})


def _block_waits(steps: t.Sequence[Step]) -> list[Wait]:
    """Blocks that no subnet has waited for."""
    waited = any(need.waiter == "vpc_blocks_associated" for step in steps for need in step.needs)
    made = [step for step in steps if step.action == "ec2:AssociateVpcCidrBlock"]
    return [_associated(made[0].target)] if made and not waited else []


def _create_subnet(target: Target, subnet: TargetSubnet) -> Step:
    tags = tags_of(target, SUBNETS[subnet.tier], (subnet.tier, subnet.zone.name), tier=subnet.tier)
    return Step(
        action="ec2:CreateSubnet",
        target=subnet.id,
        effect="create",
        fields=("availability_zone", "cidr_block", "tags"),
        request={
            "VpcId": target.vpc_id,
            "AvailabilityZone": subnet.zone.name,
            "CidrBlock": subnet.cidr,
            "TagSpecifications": tag_specifications("subnet", tags),
        },
        binds={subnet.id: "Subnet.SubnetId"},
    )


def _internet_gateway(target: Target, observed: Network) -> list[Step]:
    gateway_id = target.internet_gateway_id
    if gateway_id is None:
        return []
    steps = []
    if is_planned(gateway_id):
        tags = tag_specifications("internet-gateway", tags_of(target, INTERNET_GATEWAY))
        steps.append(
            Step(
                action="ec2:CreateInternetGateway",
                target=gateway_id,
                effect="create",
                fields=("tags",),
                request={"TagSpecifications": tags},
                binds={gateway_id: "InternetGateway.InternetGatewayId"},
            )
        )
    attached = observed.internet_gateway.vpc_ids if observed.internet_gateway else ()
    if target.vpc_id not in attached:
        request = {"InternetGatewayId": gateway_id, "VpcId": target.vpc_id}
        steps.append(Step(action="ec2:AttachInternetGateway", target=gateway_id, effect="update", fields=("attachments",), request=request))
    return steps


def _nat_gateways(target: Target) -> list[Step]:
    new = [nat for nat in target.nats if is_planned(nat.id)]
    steps = [_allocate(target, nat) for nat in new if is_planned(nat.address_id)]
    for nat in new:
        tags = tags_of(target, NAT_GATEWAY, (nat.zone,), zone=nat.zone)
        steps.append(
            Step(
                action="ec2:CreateNatGateway",
                target=nat.id,
                effect="create",
                fields=("subnet_id", "allocation_id", "tags"),
                request={
                    "SubnetId": nat.subnet_id,
                    "AllocationId": nat.address_id,
                    "ConnectivityType": "public",
                    "TagSpecifications": tag_specifications("natgateway", tags),
                },
                binds={nat.id: "NatGateway.NatGatewayId"},
            )
        )
    return steps


def _allocate(target: Target, nat: TargetNat) -> Step:
    tags = tag_specifications("elastic-ip", tags_of(target, NAT_ADDRESS, (nat.zone,), zone=nat.zone))
    return Step(
        action="ec2:AllocateAddress",
        target=nat.address_id,
        effect="create",
        fields=("tags",),
        request={"Domain": "vpc", "TagSpecifications": tags},
        binds={nat.address_id: "AllocationId"},
    )


def _routing(target: Target, observed: Network) -> list[Step]:
    """Tables, routes and associations; the first route to a new NAT gateway waits for all of the new ones, which come up side by side."""
    steps = _route_tables(target, observed)
    new = [nat.id for nat in target.nats if is_planned(nat.id)]
    first = next((index for index, step in enumerate(steps) if step.request.get("NatGatewayId") in new), None)
    if first is None:
        return steps
    wait = Wait(waiter="nat_gateway_available", arguments={"NatGatewayIds": new})
    return [*steps[:first], *needing(steps[first:], wait)]


def _route_tables(target: Target, observed: Network) -> list[Step]:
    steps = []
    for place, table_id in target.route_tables.items():
        tier, zone = place
        table = observed.route_table(tier, zone)
        if table is None:
            tags = tags_of(target, ROUTE_TABLES[tier], (tier, zone) if zone else (tier,), zone=zone)
            steps.append(
                Step(
                    action="ec2:CreateRouteTable",
                    target=table_id,
                    effect="create",
                    fields=("tags",),
                    request={"VpcId": target.vpc_id, "TagSpecifications": tag_specifications("route-table", tags)},
                    binds={table_id: "RouteTable.RouteTableId"},
                )
            )
        steps += _default_route(target, observed, place, table)
        steps += _associations(target, observed, table_id)
    return steps


def _default_route(target: Target, observed: Network, place: Place, table: RouteTable | None) -> list[Step]:
    wanted, there = target.default_target(place), table.default_target if table else None
    request: dict[str, t.Any] = {"RouteTableId": target.route_tables[place], "DestinationCidrBlock": ANYWHERE}
    if wanted == there:
        return []
    if wanted is None:
        if there not in {nat.id for nat in observed.nat_gateways}:
            return []  # a way out that the user made
        return [_route("ec2:DeleteRoute", request, "no NAT gateway is wanted")]
    request["GatewayId" if place[0] == "public" else "NatGatewayId"] = wanted
    if there is None:
        return [_route("ec2:CreateRoute", request, "")]
    return [_route("ec2:ReplaceRoute", request, f"leads to {there}")]


def _route(action: str, request: dict[str, t.Any], reason: str) -> Step:
    return Step(action=action, target=request["RouteTableId"], effect="update", fields=("routes",), reason=reason, request=request)


def _associations(target: Target, observed: Network, table_id: str) -> list[Step]:
    steps = []
    for subnet in target.subnets:
        found = observed.association(subnet.id)
        if subnet.route_table_id != table_id or (found and found[1] == table_id):
            continue
        action, request, reason = "ec2:AssociateRouteTable", {"SubnetId": subnet.id, "RouteTableId": table_id}, ""
        if found:
            action, request = "ec2:ReplaceRouteTableAssociation", {"AssociationId": found[0], "RouteTableId": table_id}
            reason = f"is associated with {found[1]}"
        steps.append(Step(action=action, target=subnet.id, effect="update", fields=("route_table_id",), reason=reason, request=request))
    return steps


def _api_group(target: Target, observed: Network) -> list[Step]:
    return security_group(
        target,
        observed.security_group(API_GROUP),
        target.api_group_id,
        API_GROUP,
        name="api",
        description=f"Who may reach the Kubernetes API of the EKS cluster {target.owner.cluster_name}",
        cidrs=target.api_cidrs,
        field="api_access_cidrs",
    )


def _surplus_nat(target: Target, observed: Network) -> list[Step]:
    """Gateways and addresses that are not wanted any more; routes have been led elsewhere by then."""
    wanted = {nat.id for nat in target.nats}
    surplus = [nat for nat in observed.nat_gateways if nat.id not in wanted and nat.state != "deleting"]
    addresses = {nat.address_id for nat in target.nats}
    unused = [release(address.id) for address in observed.addresses if address.id not in addresses]
    return delete_nat_gateways(surplus, unused)


def delete_nat_gateways(gateways: t.Sequence[NatGateway], then: t.Sequence[Step]) -> list[Step]:
    """They go side by side, and ``then`` comes what needs all of them gone: their addresses and subnets are only free then."""
    if not gateways:
        return list(then)
    deletes = [
        Step(
            action="ec2:DeleteNatGateway",
            target=gateway.id,
            effect="delete",
            reason="failed" if gateway.state == "failed" else "",
            request={"NatGatewayId": gateway.id},
        )
        for gateway in gateways
    ]
    return [*deletes, *needing(then, Wait(waiter="nat_gateway_deleted", arguments={"NatGatewayIds": [g.id for g in gateways]}))]


def release(address_id: str) -> Step:
    return Step(action="ec2:ReleaseAddress", target=address_id, effect="delete", request={"AllocationId": address_id})


def _tags(target: Target, observed: Network) -> list[Step]:
    return [
        step
        for resource_id, (there, wanted) in _tagged(target, observed).items()
        for step in _tag_steps(target, resource_id, there, wanted)
    ]


def _tagged(target: Target, observed: Network) -> Tagged:
    """Resource id -> (tags that are there, tags that are wanted), for what is there and stays."""
    found: Tagged = {}
    if observed.vpc:
        found[observed.vpc.id] = (observed.vpc.tags, tags_of(target, VPC))
    for subnet in observed.own_subnets():
        if subnet.tier:
            found[subnet.id] = (subnet.tags, tags_of(target, SUBNETS[subnet.tier], (subnet.tier, subnet.zone), tier=subnet.tier))
    if gateway := observed.internet_gateway:
        found[gateway.id] = (gateway.tags, tags_of(target, INTERNET_GATEWAY))
    for nat in target.nats:
        parts = ((observed.address(nat.zone), NAT_ADDRESS), (observed.nat_gateway(nat.zone), NAT_GATEWAY))
        found |= {part.id: (part.tags, tags_of(target, component, (nat.zone,), zone=nat.zone)) for part, component in parts if part}
    for table in observed.route_tables:
        if table.tier:
            tags = tags_of(target, ROUTE_TABLES[table.tier], [part for part in (table.tier, table.zone) if part], zone=table.zone)
            found[table.id] = (table.tags, tags)
    return found | _tagged_endpoints(target, observed)


def _tagged_endpoints(target: Target, observed: Network) -> Tagged:
    """The same for security groups and endpoints."""
    found: Tagged = {}
    for component, name in ((API_GROUP, "api"), (ENDPOINTS_GROUP, "endpoints")):
        if group := observed.security_group(component):
            found[group.id] = (group.tags, tags_of(target, component, (name,)))
    for wanted in target.endpoints:
        if endpoint := observed.endpoint(wanted.type, wanted.service):
            found[endpoint.id] = (endpoint.tags, tags_of(target, ENDPOINTS[wanted.type], (wanted.type.lower(), wanted.service)))
    return found


def _tag_steps(target: Target, resource_id: str, there: t.Mapping[str, str], wanted: Tags) -> list[Step]:
    kept = [key for key in there if key.startswith(_KEPT_PREFIXES)]
    purge = target.wanted.purge_tags and target.wanted.tags is not None
    to_set, to_remove = tag_changes(wanted, there, purge=purge, keep=kept)
    steps = []
    if to_set:
        request = {"Resources": [resource_id], "Tags": tag_list(to_set)}
        steps.append(Step(action="ec2:CreateTags", target=resource_id, effect="update", fields=("tags",), request=request))
    if to_remove:
        request = {"Resources": [resource_id], "Tags": [{"Key": key} for key in to_remove]}
        steps.append(Step(action="ec2:DeleteTags", target=resource_id, effect="update", fields=("tags",), request=request))
    return steps


def _warnings(target: Target) -> tuple[str, ...]:
    warnings = []
    if kept := [zone.name for zone in target.zones if zone.name not in target.chosen]:
        names = ", ".join(kept)
        warnings.append(f"The network has subnets in {names}, which the options do not name; they are kept and left out of the result.")
    warnings += [f"Zone {zone['zone']} is left out: {zone['reason']}." for zone in left_out(target)]
    warnings += [f"Zone {name}: {target.useless[name]}." for name in target.chosen if name in target.useless]
    return tuple(warnings)


def left_out(target: Target) -> list[dict[str, str]]:
    """Zones that were not chosen because they are of no use; where the user names zones, none are left out."""
    if target.wanted.zones is not None:
        return []
    used = {zone.name for zone in target.zones}
    return [{"zone": name, "reason": reason} for name, reason in sorted(target.useless.items()) if name not in used]


def describe(observed: Network) -> dict[str, t.Any]:
    """The managed fields of what is there, for the diff; empty where nothing is."""
    if observed.vpc is None:
        return {}
    group, endpoints = observed.security_group(API_GROUP), observed.security_group(ENDPOINTS_GROUP)
    return {
        "vpc": {
            "cidr_block": observed.vpc.cidr,
            "enable_dns_hostnames": observed.vpc.dns_hostnames,
            "enable_dns_support": observed.vpc.dns_support,
        },
        "subnets": {
            f"{s.tier}-{s.zone}": {"cidr_block": s.cidr, "route_table_id": (observed.association(s.id) or ("", None))[1]}
            for s in observed.own_subnets()
        },
        "routes": {_place_name((r.tier, r.zone)): r.default_target for r in observed.route_tables if r.tier},
        "internet_gateway_id": observed.internet_gateway.id if observed.internet_gateway else None,
        "nat_gateways": {nat.zone: nat.id for nat in observed.nat_gateways},
        "api_access_cidrs": sorted(group.api_cidrs) if group else [],
        "endpoint_access_cidrs": sorted(endpoints.api_cidrs) if endpoints else [],
        "endpoints": described_endpoints(observed),
        "secondary_cidrs": sorted(observed.vpc.secondary),
        "tags": _shown_tags(observed.vpc.tags),
    }


def describe_target(target: Target, observed: Network) -> dict[str, t.Any]:
    """The same fields of what will be."""
    steps = _tag_steps(target, target.vpc_id, observed.vpc.tags if observed.vpc else {}, tags_of(target, VPC))
    removed = {tag["Key"] for step in steps if step.action == "ec2:DeleteTags" for tag in step.request["Tags"]}
    tags = {**(observed.vpc.tags if observed.vpc else {}), **tags_of(target, VPC)}
    return {
        "vpc": {"cidr_block": target.cidr, "enable_dns_hostnames": True, "enable_dns_support": True},
        "subnets": {f"{s.tier}-{s.zone.name}": {"cidr_block": s.cidr, "route_table_id": s.route_table_id} for s in target.subnets},
        "routes": {_place_name(place): target.default_target(place) for place in target.route_tables},
        "internet_gateway_id": target.internet_gateway_id,
        "nat_gateways": {nat.zone: nat.id for nat in target.nats},
        "api_access_cidrs": sorted(target.api_cidrs),
        "endpoint_access_cidrs": sorted(endpoint_cidrs(target, observed)),
        "endpoints": described_targets(target, observed),
        "secondary_cidrs": sorted(target.secondary),
        "tags": _shown_tags({key: value for key, value in tags.items() if key not in removed}),
    }


def _place_name(place: tuple[str, str]) -> str:
    return "-".join(part for part in place if part)


def _shown_tags(tags: t.Mapping[str, str]) -> Tags:
    return {key: value for key, value in sorted(tags.items()) if key not in (OWNER_TAG, COMPONENT_TAG)}


def result(target: Target) -> dict[str, t.Any]:
    """The key ``network`` of the module's result; what has no id yet carries its planned one."""
    order = {zone: index for index, zone in enumerate(target.chosen)}
    subnets = sorted((s for s in target.subnets if s.zone.name in order), key=lambda s: (TIERS.index(s.tier), order[s.zone.name]))
    groups = {"api": target.api_group_id, "endpoints": target.endpoints_group_id}
    return {
        "vpc_id": target.vpc_id,
        "cidr_block": target.cidr,
        "secondary_cidrs": list(target.secondary),
        "zones": list(target.chosen),
        "left_out_zones": left_out(target),
        "public_subnet_ids": [s.id for s in subnets if s.tier == "public"],
        "private_subnet_ids": [s.id for s in subnets if s.tier == "private"],
        "intra_subnet_ids": [s.id for s in subnets if s.tier == "intra"],
        "subnets": [{"id": s.id, "zone": s.zone.name, "zone_id": s.zone.id, "tier": s.tier, "cidr_block": s.cidr} for s in subnets],
        "nat_gateways": [{"id": nat.id, "zone": nat.zone, "public_ip": nat.public_ip} for nat in target.nats],
        "internet_gateway_id": target.internet_gateway_id,
        "security_group_ids": {name: group for name, group in groups.items() if group},
        "endpoints": [{"id": e.id, "service": e.service, "type": e.type, "state": e.state} for e in target.endpoints],
        "managed": True,
    }
