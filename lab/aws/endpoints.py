"""VPC endpoints: moto's are available and gone at once, have interfaces outside their subnets, and take whatever they are given.

Sources: API reference CreateVpcEndpoint, ModifyVpcEndpoint, DeleteVpcEndpoints and the error codes of EC2; AWS PrivateLink guide, "Access an AWS
service using an interface VPC endpoint" (one subnet in each zone, private DNS needs both DNS attributes of the VPC, an interface in each
subnet) and "Gateway endpoints" (a route in each table).
"""

from __future__ import annotations

import typing as t

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError, InvalidServiceName
from moto.ec2.models import EC2Backend
from moto.ec2.models.vpcs import VPCEndPoint
from moto.ec2.responses import EC2Response
from moto.ec2.utils import random_resource_id

from lab.aws.calls import Call
from lab.aws.ec2_rules import check_free_addresses
from lab.aws.moto_fixes import Wrapper, hold_interface, surroundings, wraps
from lab.aws.rules import rule, settles

CREATE_SECONDS = 60.0
DELETE_SECONDS = 45.0
GATEWAY_DELETE_SECONDS = 5.0
# A service that one zone lacks, as happens in AWS; which one is the lab's choice.
LACKING: dict[str, tuple[str, ...]] = {"com.amazonaws.us-west-2.eks-auth": ("us-west-2d",)}


def _services(backend: t.Any, name: str) -> list[dict[str, t.Any]]:
    """The service by each type of endpoint that it has; raises InvalidServiceName."""
    known = backend._collect_default_endpoint_services(backend.account_id, backend.region_name)
    found = [service for service in known if service["ServiceName"] == name]
    if not found:
        raise InvalidServiceName(name)
    return found


def _zones(service: dict[str, t.Any]) -> list[str]:
    return [zone for zone in service["AvailabilityZones"] if zone not in LACKING.get(service["ServiceName"], ())]


@wraps(EC2Backend, "describe_vpc_endpoint_services")
def describe_services(original: Wrapper, backend: EC2Backend, **request: t.Any) -> t.Any:
    """moto fails on a filter by service name, and gives every service all zones."""
    request["filters"] = [{**item, "Value": item.get("Values", [])} for item in request["filters"] or []]
    found = original(backend, **request)
    return {**found, "servicesDetails": [{**service, "AvailabilityZones": _zones(service)} for service in found["servicesDetails"]]}


def _invalid(message: str) -> EC2ClientError:
    return EC2ClientError("InvalidParameter", message)


def _service_of_type(backend: t.Any, name: str, kind: str) -> dict[str, t.Any]:
    found = _services(backend, name)
    types = [item["ServiceType"] for service in found for item in service["ServiceType"]]
    if kind not in types:
        raise _invalid(f"Endpoint type ({kind}) does not match available service types ([{', '.join(types)}]).")
    return found[types.index(kind)]


def _check_subnets(backend: t.Any, vpc_id: str, service: dict[str, t.Any], subnet_ids: t.Sequence[str], taken: t.Iterable[str]) -> None:
    """In the VPC, in zones that the service has, and one in each zone."""
    zones = set(taken)
    for subnet in (backend.get_subnet(subnet_id) for subnet_id in subnet_ids):
        if subnet.vpc_id != vpc_id:
            raise _invalid(f"Subnet {subnet.id} does not belong to VPC {vpc_id}.")
        if subnet.availability_zone not in _zones(service):
            message = (
                f"The VPC endpoint service {service['ServiceName']} does not support the availability zone of the subnet: {subnet.id}."
            )
            raise _invalid(message)
        if subnet.availability_zone in zones:
            message = f"Found another VPC endpoint subnet in the availability zone of {subnet.id}."
            raise EC2ClientError("DuplicateSubnetsInSameZone", message)
        zones.add(subnet.availability_zone)


def _check_groups(backend: t.Any, vpc_id: str, group_ids: t.Iterable[str]) -> None:
    for group_id in group_ids:
        group = backend.get_security_group_from_id(group_id)
        if group is None or group.vpc_id != vpc_id:
            raise EC2ClientError("InvalidGroup.NotFound", f"The security group '{group_id}' does not exist in VPC '{vpc_id}'")


def _check_private_dns(backend: t.Any, vpc_id: str, service: dict[str, t.Any], but: str = "") -> None:
    vpc = backend.get_vpc(vpc_id)
    if not (vpc.enable_dns_support and vpc.enable_dns_hostnames):
        message = f"Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for {vpc_id}"
        raise _invalid(message)
    name = service.get("PrivateDnsName")
    for other in backend.vpc_end_points.values():
        same = (other.vpc_id, other.service_name) == (vpc_id, service["ServiceName"]) and other.id != but
        if same and other.vpc_endpoint_type == "Interface" and other.private_dns_enabled:
            message = f"private-dns-enabled cannot be set because there is already a conflicting DNS domain for {name} in the VPC {vpc_id}"
            raise _invalid(message)


def _check_tables(backend: t.Any, vpc_id: str, service_name: str, table_ids: t.Iterable[str]) -> None:
    for table_id in table_ids:
        table = backend.get_route_table(table_id)
        if table.vpc_id != vpc_id:
            raise _invalid(f"Route table {table_id} does not belong to VPC {vpc_id}.")
        prefix_list = _prefix_list(backend, service_name)
        if any(route.destination_prefix_list and route.destination_prefix_list.id == prefix_list for route in table.routes):
            message = f"route table {table_id} already has a route with destination-prefix-list-id {prefix_list}"
            raise EC2ClientError("RouteAlreadyExists", message)


def _prefix_list(backend: t.Any, service_name: str) -> str | None:
    return next((item.id for item in backend.managed_prefix_lists.values() if item.prefix_list_name == service_name), None)


@rule("ec2", "CreateVpcEndpoint")
def create_vpc_endpoint(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    check_free_addresses(backend, [value for name, value in params.items() if name.startswith("SubnetId.")])


@wraps(EC2Backend, "create_vpc_endpoint")
def create_pending_endpoint(
    original: Wrapper,
    backend: t.Any,
    *,
    vpc_id: str,
    service_name: str,
    endpoint_type: str | None,
    subnet_ids: list[str],
    security_group_ids: list[str],
    private_dns_enabled: bool,
    **request: t.Any,
) -> VPCEndPoint:
    """An interface endpoint is pending for a while, with an interface of its groups in each subnet; a gateway endpoint is routes."""
    kind = endpoint_type or "Gateway"
    backend.get_vpc(vpc_id)
    service = _service_of_type(backend, service_name, kind)
    private_dns = kind == "Interface" and private_dns_enabled
    _check_subnets(backend, vpc_id, service, subnet_ids, ())
    _check_groups(backend, vpc_id, security_group_ids)
    _check_tables(backend, vpc_id, service_name, request["route_table_ids"])
    if private_dns:
        _check_private_dns(backend, vpc_id, service)
    if kind == "Interface" and not security_group_ids:
        security_group_ids = [backend.get_default_security_group(vpc_id).id]
    endpoint: t.Any = original(
        backend,
        vpc_id=vpc_id,
        service_name=service_name,
        endpoint_type=kind,
        subnet_ids=[],
        security_group_ids=security_group_ids,
        private_dns_enabled=private_dns,
        **request,
    )
    endpoint.lab_due = 0.0
    if kind == "Interface":
        endpoint.state = "pending"
        endpoint.lab_due = surroundings().clock.seconds() + CREATE_SECONDS
        endpoint.lab_suffix = random_resource_id(8)
        _add_subnets(backend, endpoint, subnet_ids)
        _name(backend, endpoint, service)
    return t.cast(VPCEndPoint, endpoint)


def _add_subnets(backend: t.Any, endpoint: t.Any, subnet_ids: t.Iterable[str]) -> None:
    for subnet_id in subnet_ids:
        interface = backend.create_network_interface(
            backend.get_subnet(subnet_id), None, group_ids=endpoint.security_group_ids, description=f"VPC Endpoint Interface {endpoint.id}"
        )
        interface.interface_type = "vpc_endpoint"
        hold_interface(backend.account_id, backend.region_name, interface.id)
        endpoint.network_interface_ids.append(interface.id)
        endpoint.subnet_ids.append(subnet_id)


def _remove_interfaces(backend: t.Any, endpoint: t.Any, subnet_ids: t.Container[str]) -> None:
    for interface_id in list(endpoint.network_interface_ids):
        if backend.enis[interface_id].subnet_id in subnet_ids:
            del backend.enis[interface_id]
            endpoint.network_interface_ids.remove(interface_id)


def _name(backend: t.Any, endpoint: t.Any, service: dict[str, t.Any]) -> None:
    """The names of an interface endpoint: of all zones, of each zone, and the service's own."""
    base = service["BaseEndpointDnsNames"][0]
    zones = [backend.get_subnet(subnet_id).availability_zone for subnet_id in endpoint.subnet_ids]
    own = f"{endpoint.id}-{endpoint.lab_suffix}"
    names = [f"{own}.{base}", *(f"{own}-{zone}.{base}" for zone in zones)]
    if endpoint.private_dns_enabled:
        names += [item["PrivateDnsName"] for item in service.get("PrivateDnsNames", [])]
    zone_id = f"Z{endpoint.id.rpartition('-')[2][:13].upper()}"
    endpoint.dns_entries = [{"dns_name": name, "hosted_zone_id": zone_id} for name in names]


@wraps(EC2Response, "modify_vpc_endpoint")
def modify_endpoint(original: Wrapper, response: EC2Response) -> ActionResult:
    """moto changes lists alone: neither interfaces nor routes nor private DNS."""
    params, backend = response._get_params(), t.cast(t.Any, response.ec2_backend)
    (endpoint,) = backend.describe_vpc_endpoints(vpc_end_point_ids=[params["VpcEndpointId"]])
    if endpoint.state != "available":
        raise EC2ClientError("IncorrectState", f"The VPC endpoint {endpoint.id} is in state {endpoint.state}.")
    service = _service_of_type(backend, endpoint.service_name, endpoint.vpc_endpoint_type)
    if endpoint.vpc_endpoint_type == "Interface":
        _modify_interface(backend, endpoint, service, params)
    else:
        _modify_gateway(backend, endpoint, params)
    endpoint.policy_document = params.get("PolicyDocument") or endpoint.policy_document
    return ActionResult({"Return": True})


def _modify_interface(backend: t.Any, endpoint: t.Any, service: dict[str, t.Any], params: dict[str, t.Any]) -> None:
    removed, added = params.get("RemoveSubnetIds", []), params.get("AddSubnetIds", [])
    kept = [subnet_id for subnet_id in endpoint.subnet_ids if subnet_id not in removed]
    _check_subnets(backend, endpoint.vpc_id, service, added, [backend.get_subnet(item).availability_zone for item in kept])
    _check_groups(backend, endpoint.vpc_id, params.get("AddSecurityGroupIds", []))
    private_dns = str(params.get("PrivateDnsEnabled", endpoint.private_dns_enabled)).lower() == "true"
    if private_dns:
        _check_private_dns(backend, endpoint.vpc_id, service, but=endpoint.id)
    gone = params.get("RemoveSecurityGroupIds", [])
    groups = dict.fromkeys([*endpoint.security_group_ids, *params.get("AddSecurityGroupIds", [])])
    endpoint.security_group_ids = [group_id for group_id in groups if group_id not in gone]
    endpoint.private_dns_enabled = private_dns
    _remove_interfaces(backend, endpoint, removed)
    endpoint.subnet_ids = kept
    _add_subnets(backend, endpoint, added)
    for interface_id in endpoint.network_interface_ids:
        backend.enis[interface_id]._group_set = [backend.get_security_group_from_id(item) for item in endpoint.security_group_ids]
    _name(backend, endpoint, service)


def _modify_gateway(backend: t.Any, endpoint: t.Any, params: dict[str, t.Any]) -> None:
    added = [table for table in params.get("AddRouteTableIds", []) if table not in endpoint.route_table_ids]
    _check_tables(backend, endpoint.vpc_id, endpoint.service_name, added)
    for table_id in params.get("RemoveRouteTableIds", []):
        _remove_route(backend, endpoint, table_id)
    for table_id in added:
        backend.create_route(table_id, None, gateway_id=endpoint.id, destination_prefix_list_id=endpoint.destination_prefix_list_id)
        endpoint.route_table_ids.append(table_id)


def _remove_route(backend: t.Any, endpoint: t.Any, table_id: str) -> None:
    if table_id in endpoint.route_table_ids:
        backend.delete_route(table_id, endpoint.destination_prefix_list_id)
        endpoint.route_table_ids.remove(table_id)


@wraps(EC2Response, "delete_vpc_endpoints")
def delete_endpoints(original: Wrapper, response: EC2Response) -> ActionResult:
    """Deleting takes time, in which the interfaces are there; what does not exist is named in the reply, and no error."""
    backend, unsuccessful = t.cast(t.Any, response.ec2_backend), []
    response.error_on_dryrun()
    for endpoint_id in response._get_param("VpcEndpointIds", []):
        endpoint = backend.vpc_end_points.get(endpoint_id)
        if endpoint is None:
            error = {"Code": "InvalidVpcEndpoint.NotFound", "Message": f"The Vpc Endpoint Id '{endpoint_id}' does not exist"}
            unsuccessful.append({"ResourceId": endpoint_id, "Error": error})
        elif endpoint.state != "deleting":
            _begin_deletion(backend, endpoint)
    return ActionResult({"Unsuccessful": unsuccessful})


def _begin_deletion(backend: t.Any, endpoint: t.Any) -> None:
    seconds = DELETE_SECONDS if endpoint.vpc_endpoint_type == "Interface" else GATEWAY_DELETE_SECONDS
    endpoint.state, endpoint.lab_due = "deleting", surroundings().clock.seconds() + seconds
    for table_id in list(endpoint.route_table_ids):
        _remove_route(backend, endpoint, table_id)


@settles
def settle_endpoints(backend: t.Any) -> None:
    """Bring a region's endpoints to what the clock says; those that are deleted are not described any more."""
    now = surroundings().clock.seconds()
    for endpoint in list(backend.vpc_end_points.values()):
        if endpoint.lab_due > now:
            continue
        if endpoint.state == "pending":
            endpoint.state = "available"
        elif endpoint.state == "deleting":
            _remove_interfaces(backend, endpoint, endpoint.subnet_ids)
            del backend.vpc_end_points[endpoint.id]
