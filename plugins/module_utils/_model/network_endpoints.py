# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""VPC endpoints and the services that they lead to. Pure: replies of EC2 in, frozen data out."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_map

Api = t.Mapping[str, t.Any]
EndpointType = t.Literal["Gateway", "Interface"]
EndpointKey = tuple[EndpointType, str]

ENDPOINT_TYPES: tuple[EndpointType, ...] = ("Gateway", "Interface")
ENDPOINTS: t.Mapping[EndpointType, str] = {"Gateway": "network/gateway-endpoint", "Interface": "network/interface-endpoint"}
ENDPOINTS_GROUP = "network/endpoints-security-group"
GATEWAY_SERVICES = ("s3", "dynamodb")
# Services whose endpoints carry China's own prefix; which ones do is for ec2:DescribeVpcEndpointServices to say.
_PREFIXES = {"cn-": ("com.amazonaws", "cn.com.amazonaws")}
_SHORT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
# States of an endpoint that leads nowhere and never will. Source: EC2 API, VpcEndpoint, State; EC2 writes them in lower case.
_DEAD = ("failed", "rejected", "expired")


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service that can have endpoints in the region; ``zones`` are the names of those in which interface endpoints can stand."""

    name: str
    types: frozenset[str]
    zones: frozenset[str]

    @classmethod
    def from_api(cls, api: Api) -> Service:
        return cls(
            name=api["ServiceName"],
            types=frozenset(entry["ServiceType"] for entry in api.get("ServiceType") or ()),
            zones=frozenset(api.get("AvailabilityZones") or ()),
        )


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """``service`` is the short name, ``state`` EC2's in lower case, ``ours`` whether it carries the owner's mark."""

    id: str
    type: str
    service: str
    service_name: str
    state: str
    ours: bool
    subnet_ids: frozenset[str]
    group_ids: frozenset[str]
    route_table_ids: frozenset[str]
    interface_ids: frozenset[str]
    private_dns: bool
    failure: str
    tags: t.Mapping[str, str]

    @classmethod
    def from_api(cls, api: Api, owner: Owner) -> Endpoint:
        tags = tag_map(api.get("Tags"))
        return cls(
            id=api["VpcEndpointId"],
            type=api.get("VpcEndpointType") or "Gateway",
            service=short_service(api["ServiceName"], owner.region),
            service_name=api["ServiceName"],
            state=str(api.get("State", "")).lower(),
            ours=owner.owns(tags),
            subnet_ids=frozenset(api.get("SubnetIds") or ()),
            group_ids=frozenset(group["GroupId"] for group in api.get("Groups") or ()),
            route_table_ids=frozenset(api.get("RouteTableIds") or ()),
            interface_ids=frozenset(api.get("NetworkInterfaceIds") or ()),
            private_dns=bool(api.get("PrivateDnsEnabled")),
            failure=api.get("FailureReason") or (api.get("LastError") or {}).get("Message") or "",
            tags=tags,
        )

    @property
    def live(self) -> bool:
        """Whether it leads to its service, or will by itself."""
        return self.state not in (*_DEAD, "deleting", "deleted")


def short_service(name: str, region: str) -> str:
    """``ecr.api`` of ``com.amazonaws.us-west-2.ecr.api``."""
    _prefix, found, short = name.partition(f".{region}.")
    return short if found else name


def service_names(services: t.Iterable[str], region: str) -> list[str]:
    """The full names that services may have in the region."""
    prefixes = next((prefixes for start, prefixes in _PREFIXES.items() if region.startswith(start)), ("com.amazonaws",))
    return [f"{prefix}.{region}.{service}" for service in services for prefix in prefixes]


def by_key(services: t.Iterable[Service], region: str) -> dict[EndpointKey, Service]:
    """The services by the type of an endpoint and their short name."""
    return {(kind, short_service(s.name, region)): s for s in services for kind in ENDPOINT_TYPES if kind in s.types}


def endpoint_option(kind: EndpointType) -> str:
    """The option that lists the services with endpoints of a type."""
    return f"{kind.lower()}_endpoints"


def endpoint_faults(params: t.Mapping[str, t.Any]) -> list[Fault]:
    """Services that are named twice, or not by their short name."""
    faults = []
    for name in map(endpoint_option, ENDPOINT_TYPES):
        given = params.get(name)
        values: list[t.Any] = given if isinstance(given, list) else []
        for index, value in enumerate(values):
            path = f"{name}[{index}]"
            if not isinstance(value, str):
                continue  # the options' own check says so
            if not _SHORT_NAME.fullmatch(value) or "amazonaws" in value:
                allowed = "the short name of a service, such as ecr.api of com.amazonaws.us-west-2.ecr.api"
                faults.append(Fault(path=path, value=value, allowed=allowed, source="the options of eks_network"))
            elif value in values[:index]:
                faults.append(Fault(path=path, value=value, allowed="each service once", source="the options of eks_network"))
    return faults
