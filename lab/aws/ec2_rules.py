"""What EC2 refuses and moto does not: above all, deleting what others still depend on.

Sources: the error codes of the operations in https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, the operations'
own pages, and for address ranges the Amazon VPC User Guide, "IPv4 CIDR block association restrictions".
"""

from __future__ import annotations

import ipaddress
import typing as t

from lab.aws.calls import Call
from lab.aws.errors import AwsError
from lab.aws.launching import Wishes, accept
from lab.aws.moto_fixes import settle_nat_gateways, surroundings
from lab.aws.offerings import no_addresses_message, no_capacity_message, not_offered_message, offered
from lab.aws.rules import rule, settles

settles(settle_nat_gateways)


def _dependency(message: str) -> AwsError:
    return AwsError("DependencyViolation", message)


@rule("ec2", "DeleteVpc")
def delete_vpc(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    vpc_id = params.get("VpcId", "")
    groups = [group for group in backend.groups.get(vpc_id, {}).values() if group.name != "default"]
    gateways = [gateway for gateway in backend.internet_gateways.values() if gateway.vpc and gateway.vpc.id == vpc_id]
    endpoints = [endpoint for endpoint in backend.vpc_end_points.values() if endpoint.vpc_id == vpc_id and endpoint.state != "deleted"]
    interfaces = [interface for interface in backend.enis.values() if interface.vpc_id == vpc_id]
    if groups or gateways or endpoints or interfaces:
        raise _dependency(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")


@rule("ec2", "DeleteSubnet")
def delete_subnet(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    subnet_id = params.get("SubnetId", "")
    if any(interface.subnet_id == subnet_id for interface in backend.enis.values()):
        raise _dependency(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")


@rule("ec2", "DeleteSecurityGroup")
def delete_security_group(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    group_id = params.get("GroupId", "")
    group = backend.get_security_group_from_id(group_id)
    if group is None:
        return
    if group.name == "default":
        raise AwsError("CannotDelete", f'the specified group: "{group_id}" name: "default" cannot be deleted by a user')
    in_use = any(group_id in {member.id for member in interface.group_set} for interface in backend.enis.values())
    referenced = any(_refers(other, group_id) for other in backend.groups.get(group.vpc_id, {}).values() if other.id != group_id)
    if in_use or referenced:
        raise _dependency(f"resource {group_id} has a dependent object")


def _refers(group: t.Any, group_id: str) -> bool:
    rules = [*group.ingress_rules, *group.egress_rules]
    return any((permission.source_group or {}).get("GroupId") == group_id for permission in rules)


@rule("ec2", "DetachInternetGateway")
def detach_internet_gateway(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    vpc_id = params.get("VpcId", "")
    if any(interface.public_ip for interface in backend.enis.values() if interface.vpc_id == vpc_id):
        message = (
            f"Network {vpc_id} has some mapped public address(es). Please unmap those public address(es) before detaching the gateway."
        )
        raise _dependency(message)


@rule("ec2", "ReleaseAddress")
def release_address(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    for address in backend.addresses:
        if address.allocation_id == params.get("AllocationId") and address.association_id:
            raise AwsError("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")


@rule("ec2", "AssociateAddress")
def associate_address(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    _check_address_free(backend, params.get("AllocationId", ""), params.get("AllowReassociation", "true"))


@rule("ec2", "CreateNatGateway")
def create_nat_gateway(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    if params.get("ConnectivityType", "public") == "public" and not params.get("AllocationId"):
        raise AwsError("MissingParameter", "The request must contain the parameter AllocationId")
    _check_address_free(backend, params.get("AllocationId", ""), "false")
    check_free_addresses(backend, [params.get("SubnetId", "")])


def _check_address_free(backend: t.Any, allocation_id: str, reassociate: str) -> None:
    for address in backend.addresses:
        if address.allocation_id == allocation_id and address.association_id and reassociate.lower() == "false":
            raise AwsError("Resource.AlreadyAssociated", f"resource {allocation_id} is already associated with {address.association_id}")


def check_free_addresses(backend: t.Any, subnet_ids: t.Iterable[str], count: int = 1) -> None:
    """Raises AwsError unless each subnet that is there has so many addresses left."""
    for subnet_id in subnet_ids:
        known = any(subnet_id in subnets for subnets in backend.subnets.values())
        if known and backend.get_subnet(subnet_id).available_ip_address_count < count:
            raise AwsError("InsufficientFreeAddressesInSubnet", no_addresses_message(subnet_id))


@rule("ec2", "CreateNetworkInterface")
def create_network_interface(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    check_free_addresses(backend, [params.get("SubnetId", "")])


@rule("ec2", "DeleteNetworkInterface")
def delete_network_interface(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    interface = backend.enis.get(params.get("NetworkInterfaceId", ""))
    if interface is not None and interface.status == "in-use" and not call.internal:
        raise AwsError("InvalidParameterValue", f"Network interface '{interface.id}' is currently in use.")


def _wishes(params: dict[str, t.Any]) -> Wishes:
    """Those of the flat parameters of a request."""
    specification = "CapacityReservationSpecification"
    target = params.get(f"{specification}.CapacityReservationTarget.CapacityReservationId")
    found = {
        "CapacityReservationPreference": params.get(f"{specification}.CapacityReservationPreference"),
        "CapacityReservationTarget": {"CapacityReservationId": target} if target else None,
    }
    return Wishes(
        reservation={name: value for name, value in found.items() if value},
        group=params.get("Placement.GroupName", ""),
        market=params.get("InstanceMarketOptions.MarketType", ""),
    )


@rule("ec2", "RunInstances")
def run_instances(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    """Quotas where the request itself names the type, offerings and capacity where it names the place too."""
    instance_type = params.get("InstanceType")
    market = params.get("InstanceMarketOptions.MarketType", "on-demand")
    if instance_type and (beyond := surroundings().quotas.refusal(backend, instance_type, market, int(params.get("MinCount", 1)))):
        raise beyond
    subnet_id = params.get("SubnetId") or params.get("NetworkInterface.1.SubnetId")
    zone = params.get("Placement.AvailabilityZone")
    if subnet_id and any(subnet_id in subnets for subnets in backend.subnets.values()):
        zone = backend.get_subnet(subnet_id).availability_zone
    if not instance_type or not zone or not backend.describe_instance_types(None, {"instance-type": [instance_type]}):
        return
    check_free_addresses(backend, [subnet_id] if subnet_id else [], int(params.get("MinCount", 1)))
    if not offered(call.region, zone, instance_type):
        raise AwsError("Unsupported", not_offered_message(instance_type, zone))
    reserved = accept(backend, _wishes(params), instance_type, zone, int(params.get("MinCount", 1))) is not None
    if not reserved and surroundings().faults.lacks_capacity(instance_type, zone, market):
        raise AwsError("InsufficientInstanceCapacity", no_capacity_message(instance_type, zone), 500)


# Primary range of a VPC → ranges that cannot be associated with it.
_RESTRICTED = {
    "10.0.0.0/8": ("172.16.0.0/12", "192.168.0.0/16", "198.19.0.0/16"),
    "172.16.0.0/12": ("10.0.0.0/8", "192.168.0.0/16", "172.31.0.0/16", "198.19.0.0/16"),
    "192.168.0.0/16": ("10.0.0.0/8", "172.16.0.0/12", "198.19.0.0/16"),
}
_RESTRICTED_ELSEWHERE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "198.19.0.0/16")


def _associated(vpc: t.Any) -> list[dict[str, t.Any]]:
    return [item for item in vpc.get_cidr_block_association_set() if item["cidr_block_state"]["state"] == "associated"]


@rule("ec2", "AssociateVpcCidrBlock")
def associate_vpc_cidr_block(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    """The words of the refusal of an overlap are not documented; those here are the lab's."""
    vpc = backend.vpcs.get(params.get("VpcId", ""))
    if vpc is None or not params.get("CidrBlock"):
        return
    try:
        wanted = ipaddress.IPv4Network(params["CidrBlock"])
    except ValueError as error:
        message = f"Value ({params['CidrBlock']}) for parameter cidrBlock is invalid. This is not a valid CIDR block."
        raise AwsError("InvalidParameterValue", message) from error
    if not 16 <= wanted.prefixlen <= 28:
        raise AwsError("InvalidVpc.Range", f"The CIDR '{wanted}' is invalid.")
    primary = ipaddress.IPv4Network(vpc.cidr_block)
    restricted = next(
        (ranges for own, ranges in _RESTRICTED.items() if primary.subnet_of(ipaddress.IPv4Network(own))), _RESTRICTED_ELSEWHERE
    )
    if any(wanted.overlaps(ipaddress.IPv4Network(item)) for item in restricted):
        message = (
            f"The CIDR '{wanted}' is restricted. Use a CIDR from the same private address range as the current VPC CIDR, or use a "
            "publicly-routable CIDR. For additional restrictions, see the Amazon VPC User Guide."
        )
        raise AwsError("InvalidVpc.Range", message)
    for item in _associated(vpc):
        if wanted.overlaps(ipaddress.IPv4Network(item["cidr_block"])):
            raise AwsError("InvalidVpc.Range", f"The CIDR '{wanted}' overlaps with the CIDR '{item['cidr_block']}' of the VPC '{vpc.id}'.")


@rule("ec2", "DisassociateVpcCidrBlock")
def disassociate_vpc_cidr_block(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    for vpc in backend.vpcs.values():
        for item in _associated(vpc):
            if item["association_id"] == params.get("AssociationId"):
                _check_block_empty(backend, vpc.id, item["cidr_block"])


def _check_block_empty(backend: t.Any, vpc_id: str, block: str) -> None:
    subnets = [subnet for in_zone in backend.subnets.values() for subnet in in_zone.values() if subnet.vpc_id == vpc_id]
    if any(ipaddress.IPv4Network(subnet.cidr_block).subnet_of(ipaddress.IPv4Network(block)) for subnet in subnets):
        raise AwsError("InvalidCidrBlock.InUse", f"The vpc {vpc_id} currently has a subnet within CIDR block {block}")
