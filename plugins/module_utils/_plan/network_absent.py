# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that take a network down, and what stands in their way. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Network, NetworkInterface
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network import delete_nat_gateways, describe, release
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_endpoints import delete_endpoint, gone_waits
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait, needing

# Interfaces that the VPC CNI or EKS made and left behind when a node or the cluster went.
_LEFTOVER_DESCRIPTION = "aws-K8S-"
_OF_ENDPOINT = "vpc_endpoint"
_LEFTOVER_TAGS = ("node.k8s.amazonaws.com/instance_id", "cluster.k8s.amazonaws.com/name")


def plan_absent(observed: Network, owner: Owner) -> Plan:
    """Deletes what carries the owner's mark, and in its VPC what the cluster's controllers left, in the order that EC2 needs."""
    rest = [
        *[release(address.id) for address in observed.addresses],
        *_associations(observed),
        *[_delete("ec2:DeleteSubnet", "SubnetId", subnet.id) for subnet in observed.own_subnets()],
        *[_delete("ec2:DeleteRouteTable", "RouteTableId", table.id) for table in observed.route_tables if table.tier],
        *_internet_gateway(observed),
        *[_delete("ec2:DeleteSecurityGroup", "GroupId", group.id) for group in observed.security_groups if _removable(group.tags, owner)],
    ]
    if observed.vpc:
        rest.append(_delete("ec2:DeleteVpc", "VpcId", observed.vpc.id))
    endpoints = [endpoint for endpoint in observed.own_endpoints() if endpoint.state not in ("deleting", "deleted")]
    rest = needing(rest, *gone_waits(e for e in observed.own_endpoints() if e.state != "deleted"), *_interface_waits(observed))
    gateways = [nat for nat in observed.nat_gateways if nat.state != "deleting"]
    steps = [*_interfaces(observed, owner), *map(delete_endpoint, endpoints), *delete_nat_gateways(gateways, rest)]
    return Plan(steps=tuple(steps), before=describe(observed), after={})


def blockers(observed: Network, owner: Owner) -> list[str]:
    """What is in the VPC and is not ours to delete, by id and description; EC2 keeps the VPC as long as it is there."""
    found = [f"{interface.id} ({interface.description or 'no description'})" for interface in in_the_way(observed, owner)]
    found += [f"{subnet.id} (subnet {subnet.cidr})" for subnet in observed.subnets if not subnet.tier]
    found += [
        f"{group.id} (security group {group.name})"
        for group in observed.security_groups
        if group.name != "default" and not _removable(group.tags, owner)
    ]
    found += [
        f"{endpoint.id} (VPC endpoint of {endpoint.service_name})" for endpoint in observed.endpoints if not endpoint.ours and endpoint.live
    ]
    found += [f"{table.id} (route table)" for table in observed.route_tables if not table.tier and not table.main]
    return found


def in_the_way(observed: Network, owner: Owner) -> list[NetworkInterface]:
    """Network interfaces that are neither those of our NAT gateways, nor of endpoints, nor leftovers that may be deleted.

    Endpoints of others stand in the way themselves; an interface whose endpoint is gone goes a little later.
    """
    ours = observed.nat_interfaces | _endpoint_interfaces(observed)
    return [i for i in observed.interfaces if i.id not in ours and not _leftover(i, owner)]


def _endpoint_interfaces(observed: Network) -> frozenset[str]:
    named = frozenset(interface for endpoint in observed.endpoints for interface in endpoint.interface_ids)
    return named | {interface.id for interface in observed.interfaces if interface.type == _OF_ENDPOINT}


def _interface_waits(observed: Network) -> list[Wait]:
    """EC2 takes the interfaces of an endpoint away after it, and keeps subnets and groups as long."""
    going = sorted(_endpoint_interfaces(observed) & {interface.id for interface in observed.interfaces})
    filters = [{"Name": "network-interface-id", "Values": going}]
    return [Wait(waiter="network_interfaces_deleted", arguments={"Filters": filters})] if going else []


def _interfaces(observed: Network, owner: Owner) -> list[Step]:
    return [
        _delete("ec2:DeleteNetworkInterface", "NetworkInterfaceId", interface.id, "left behind by a node or the cluster")
        for interface in observed.interfaces
        if _leftover(interface, owner)
    ]


def _leftover(interface: NetworkInterface, owner: Owner) -> bool:
    if interface.in_use:
        return False
    marked = interface.description.startswith(_LEFTOVER_DESCRIPTION) or any(tag in interface.tags for tag in _LEFTOVER_TAGS)
    return marked or _removable(interface.tags, owner)


def _removable(tags: t.Mapping[str, str], owner: Owner) -> bool:
    """Made by us, or by a controller of the cluster inside the VPC that is ours."""
    return owner.owns(tags) or tags.get(f"kubernetes.io/cluster/{owner.cluster_name}") == "owned"


def _associations(observed: Network) -> list[Step]:
    own = {subnet.id for subnet in observed.own_subnets()}
    return [
        Step(
            action="ec2:DisassociateRouteTable",
            target=subnet,
            effect="delete",  # the first call of the subnet's end
            request={"AssociationId": association},
        )
        for table in observed.route_tables
        for subnet, association in table.associations.items()
        if subnet in own
    ]


def _internet_gateway(observed: Network) -> list[Step]:
    gateway = observed.internet_gateway
    if gateway is None:
        return []
    detach = [
        Step(
            action="ec2:DetachInternetGateway",
            target=gateway.id,
            effect="delete",
            request={"InternetGatewayId": gateway.id, "VpcId": vpc_id},
        )
        for vpc_id in gateway.vpc_ids
    ]
    return [*detach, _delete("ec2:DeleteInternetGateway", "InternetGatewayId", gateway.id)]


def _delete(action: str, parameter: str, resource_id: str, reason: str = "") -> Step:
    return Step(action=action, target=resource_id, effect="delete", reason=reason, request={parameter: resource_id})
