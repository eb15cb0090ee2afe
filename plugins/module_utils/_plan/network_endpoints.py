# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make VPC endpoints what they should be. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Network
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import (
    ENDPOINT_TYPES,
    ENDPOINTS,
    ENDPOINTS_GROUP,
    Endpoint,
    EndpointType,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import tag_specifications
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_groups import security_group
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_target import Target, TargetEndpoint, tags_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, Wait, is_planned, needing

Difference = dict[str, t.Any]
# Parameters of ec2:ModifyVpcEndpoint -> what plans call them.
_FIELDS = {
    "AddRouteTableIds": "route_table_ids",
    "AddSubnetIds": "subnet_ids",
    "RemoveSubnetIds": "subnet_ids",
    "AddSecurityGroupIds": "security_group_ids",
    "RemoveSecurityGroupIds": "security_group_ids",
    "PrivateDnsEnabled": "private_dns_enabled",
}


def interface_endpoints(target: Target, observed: Network) -> list[Step]:
    """Their security group, and the endpoints in the private subnets."""
    return [*_group(target, observed), *_endpoints(target, observed, "Interface")]


def gateway_endpoints(target: Target, observed: Network) -> list[Step]:
    """The endpoints in all route tables of the network."""
    return _endpoints(target, observed, "Gateway")


def endpoint_cidrs(target: Target, observed: Network) -> frozenset[str]:
    """Who may reach the interface endpoints: the VPC; where none are wanted, or managed, whoever may now."""
    group = observed.security_group(ENDPOINTS_GROUP)
    if target.wanted.interface_endpoints:
        return target.blocks
    return group.api_cidrs if group else frozenset()


def coming(target: Target, observed: Network) -> list[Wait]:
    """What is waited for together in the end: new endpoints and those in the making, then those that go."""
    managed = [e for e in target.endpoints if target.wanted.endpoints(e.type) is not None]
    new = [e.id for e in managed if e.state != "available"]
    waits = [Wait(waiter="vpc_endpoint_available", arguments={"VpcEndpointIds": new})] if new else []
    replaced = {(e.type, e.service) for e in managed}
    gone = [e for kind in ENDPOINT_TYPES for e in _surplus(target, observed, kind) if (e.type, e.service) not in replaced]
    return waits + gone_waits(gone)


def gone_waits(endpoints: t.Iterable[Endpoint]) -> list[Wait]:
    """One wait for each: EC2 answers a question for several with an error as soon as it has forgotten one of them."""
    return [Wait(waiter="vpc_endpoint_deleted", arguments={"VpcEndpointIds": [endpoint.id]}) for endpoint in endpoints]


def delete_endpoint(endpoint: Endpoint) -> Step:
    dead = not endpoint.live and endpoint.state != "deleting"
    return Step(
        action="ec2:DeleteVpcEndpoints",
        target=endpoint.id,
        effect="delete",
        reason=": ".join(part for part in (endpoint.state, endpoint.failure) if part) if dead else "",
        request={"VpcEndpointIds": [endpoint.id]},
    )


def described_endpoints(observed: Network) -> dict[str, t.Any]:
    """The managed fields of the endpoints that are there, for the diff."""
    return {
        _name(endpoint.type, endpoint.service): _described(endpoint.type, endpoint.subnet_ids, endpoint.route_table_ids)
        for endpoint in sorted(observed.own_endpoints(), key=lambda e: (e.type, e.service))
        if endpoint.live
    }


def described_targets(target: Target, observed: Network) -> dict[str, t.Any]:
    """The same fields of those that will be."""
    found = {}
    for wanted in sorted(target.endpoints, key=lambda e: (e.type, e.service)):
        there = observed.endpoint(wanted.type, wanted.service)
        managed = target.wanted.endpoints(wanted.type) is not None
        tables = (there.route_table_ids if there else frozenset()) | (frozenset(target.route_tables.values()) if managed else frozenset())
        subnets = frozenset(wanted.subnet_ids) if managed or not there else there.subnet_ids
        found[_name(wanted.type, wanted.service)] = _described(wanted.type, subnets, tables)
    return found


def _described(kind: str, subnets: t.Iterable[str], tables: t.Iterable[str]) -> dict[str, t.Any]:
    return {"route_table_ids": sorted(tables)} if kind == "Gateway" else {"subnet_ids": sorted(subnets)}


def _name(kind: str, service: str) -> str:
    return f"{kind.lower()}-{service}"


def _group(target: Target, observed: Network) -> list[Step]:
    if not target.wanted.interface_endpoints or target.endpoints_group_id is None:
        return []
    return security_group(
        target,
        observed.security_group(ENDPOINTS_GROUP),
        target.endpoints_group_id,
        ENDPOINTS_GROUP,
        name="endpoints",
        description=f"Who may reach the VPC endpoints of the EKS cluster {target.owner.cluster_name}",
        cidrs=endpoint_cidrs(target, observed),
        field="endpoint_access_cidrs",
    )


def _endpoints(target: Target, observed: Network, kind: EndpointType) -> list[Step]:
    """What is not wanted or has failed goes, then all that is missing is made side by side, then the others are changed."""
    if target.wanted.endpoints(kind) is None:
        return []
    wanted = [endpoint for endpoint in target.endpoints if endpoint.type == kind]
    new = [endpoint for endpoint in wanted if is_planned(endpoint.id)]
    surplus = _surplus(target, observed, kind)
    going = [e for e in (*surplus, *_going(observed, kind)) if e.service in {endpoint.service for endpoint in new}]
    creates = [_create(target, endpoint) for endpoint in new]
    changes = [step for endpoint in wanted for step in _change(target, observed, endpoint)]
    # Two endpoints of a service cannot have its private DNS name, or its routes, at a time.
    return [*map(delete_endpoint, surplus), *needing(creates, *gone_waits(going)), *changes]


def _surplus(target: Target, observed: Network, kind: EndpointType) -> list[Endpoint]:
    if target.wanted.endpoints(kind) is None:
        return []
    kept = {endpoint.id for endpoint in target.endpoints}
    return [e for e in observed.own_endpoints() if e.type == kind and e.id not in kept and e.state not in ("deleting", "deleted")]


def _going(observed: Network, kind: EndpointType) -> list[Endpoint]:
    return [e for e in observed.own_endpoints() if e.type == kind and e.state == "deleting"]


def _create(target: Target, endpoint: TargetEndpoint) -> Step:
    kind = endpoint.type
    tags = tags_of(target, ENDPOINTS[kind], (kind.lower(), endpoint.service))
    request: Difference = {
        "VpcEndpointType": kind,
        "VpcId": target.vpc_id,
        "ServiceName": endpoint.service_name,
        "TagSpecifications": tag_specifications("vpc-endpoint", tags),
    }
    if kind == "Gateway":
        request["RouteTableIds"] = list(target.route_tables.values())
    else:
        request |= {
            "SubnetIds": list(endpoint.subnet_ids),
            "SecurityGroupIds": [target.endpoints_group_id],
            "PrivateDnsEnabled": True,
        }
    return Step(
        action="ec2:CreateVpcEndpoint",
        target=endpoint.id,
        effect="create",
        fields=("service_name", *(["route_table_ids"] if kind == "Gateway" else ["subnet_ids", "security_group_ids"]), "tags"),
        request=request,
        binds={endpoint.id: "VpcEndpoint.VpcEndpointId"},
    )


def _change(target: Target, observed: Network, wanted: TargetEndpoint) -> list[Step]:
    there = observed.endpoint(wanted.type, wanted.service)
    if there is None:
        return []
    change = _gateway_change(target, there) if wanted.type == "Gateway" else _interface_change(target, wanted, there)
    if not change:
        return []
    step = Step(
        action="ec2:ModifyVpcEndpoint",
        target=there.id,
        effect="update",
        fields=tuple(dict.fromkeys(_FIELDS[name] for name in change)),
        request={"VpcEndpointId": there.id, **change},
    )
    ready = [Wait(waiter="vpc_endpoint_available", arguments={"VpcEndpointIds": [there.id]})] if there.state != "available" else []
    return needing([step], *ready)


def _gateway_change(target: Target, there: Endpoint) -> Difference:
    """Route tables that the user has added stay."""
    missing = [table for table in target.route_tables.values() if table not in there.route_table_ids]
    return {"AddRouteTableIds": missing} if missing else {}


def _interface_change(target: Target, wanted: TargetEndpoint, there: Endpoint) -> Difference:
    group = target.endpoints_group_id
    change: Difference = {
        "AddSubnetIds": [subnet for subnet in wanted.subnet_ids if subnet not in there.subnet_ids],
        "RemoveSubnetIds": sorted(there.subnet_ids - set(wanted.subnet_ids)),
        "AddSecurityGroupIds": [group] if group not in there.group_ids else [],
        "RemoveSecurityGroupIds": sorted(there.group_ids - {group}),
        "PrivateDnsEnabled": None if there.private_dns else True,
    }
    return {name: value for name, value in change.items() if value}
