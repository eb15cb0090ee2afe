"""What EC2 and Auto Scaling refuse and moto does not: above all, deleting what others still depend on.

Each rule looks at moto's state before the call reaches moto, and raises AwsError. Sources: the error codes of the operations in
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html, and the operations' own pages.
"""

from __future__ import annotations

import typing as t

from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends

from lab.aws.autoscaling import no_capacity_message, not_offered_message, offered
from lab.aws.calls import Call
from lab.aws.errors import AwsError
from lab.aws.moto_fixes import settle_nat_gateways, surroundings

Rule = t.Callable[[t.Any, dict[str, str], Call], None]
_RULES: dict[tuple[str, str], Rule] = {}


def rule(service: str, operation: str) -> t.Callable[[Rule], Rule]:
    """Register the function as the rule of an operation."""

    def register(function: Rule) -> Rule:
        _RULES[(service, operation)] = function
        return function

    return register


def check(call: Call) -> None:
    """Raises AwsError when AWS would refuse ``call`` and moto would not. The caller keeps moto to itself."""
    found = _RULES.get((call.service, call.operation))
    if found is None or call.dry_run:
        return
    backends = ec2_backends if call.service == "ec2" else autoscaling_backends
    backend = backends[call.account][call.region]
    if call.service == "ec2":
        settle_nat_gateways(backend)
    found(backend, t.cast(dict[str, str], call.params), call)


def _dependency(message: str) -> AwsError:
    return AwsError("DependencyViolation", message)


@rule("ec2", "DeleteVpc")
def delete_vpc(backend: t.Any, params: dict[str, str], call: Call) -> None:
    vpc_id = params.get("VpcId", "")
    groups = [group for group in backend.groups.get(vpc_id, {}).values() if group.name != "default"]
    gateways = [gateway for gateway in backend.internet_gateways.values() if gateway.vpc and gateway.vpc.id == vpc_id]
    endpoints = [endpoint for endpoint in backend.vpc_end_points.values() if endpoint.vpc_id == vpc_id and endpoint.state != "deleted"]
    interfaces = [interface for interface in backend.enis.values() if interface.vpc_id == vpc_id]
    if groups or gateways or endpoints or interfaces:
        raise _dependency(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")


@rule("ec2", "DeleteSubnet")
def delete_subnet(backend: t.Any, params: dict[str, str], call: Call) -> None:
    subnet_id = params.get("SubnetId", "")
    if any(interface.subnet_id == subnet_id for interface in backend.enis.values()):
        raise _dependency(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")


@rule("ec2", "DeleteSecurityGroup")
def delete_security_group(backend: t.Any, params: dict[str, str], call: Call) -> None:
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
def detach_internet_gateway(backend: t.Any, params: dict[str, str], call: Call) -> None:
    vpc_id = params.get("VpcId", "")
    if any(interface.public_ip for interface in backend.enis.values() if interface.vpc_id == vpc_id):
        message = (
            f"Network {vpc_id} has some mapped public address(es). Please unmap those public address(es) before detaching the gateway."
        )
        raise _dependency(message)


@rule("ec2", "ReleaseAddress")
def release_address(backend: t.Any, params: dict[str, str], call: Call) -> None:
    for address in backend.addresses:
        if address.allocation_id == params.get("AllocationId") and address.association_id:
            raise AwsError("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")


@rule("ec2", "AssociateAddress")
def associate_address(backend: t.Any, params: dict[str, str], call: Call) -> None:
    _check_address_free(backend, params.get("AllocationId", ""), params.get("AllowReassociation", "true"))


@rule("ec2", "CreateNatGateway")
def create_nat_gateway(backend: t.Any, params: dict[str, str], call: Call) -> None:
    if params.get("ConnectivityType", "public") == "public" and not params.get("AllocationId"):
        raise AwsError("MissingParameter", "The request must contain the parameter AllocationId")
    _check_address_free(backend, params.get("AllocationId", ""), "false")


def _check_address_free(backend: t.Any, allocation_id: str, reassociate: str) -> None:
    for address in backend.addresses:
        if address.allocation_id == allocation_id and address.association_id and reassociate.lower() == "false":
            raise AwsError("Resource.AlreadyAssociated", f"resource {allocation_id} is already associated with {address.association_id}")


@rule("ec2", "DeleteNetworkInterface")
def delete_network_interface(backend: t.Any, params: dict[str, str], call: Call) -> None:
    interface = backend.enis.get(params.get("NetworkInterfaceId", ""))
    if interface is not None and interface.status == "in-use" and not call.internal:
        raise AwsError("InvalidParameterValue", f"Network interface '{interface.id}' is currently in use.")


@rule("ec2", "RunInstances")
def run_instances(backend: t.Any, params: dict[str, str], call: Call) -> None:
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
    if not offered(call.region, zone, instance_type):
        raise AwsError("Unsupported", not_offered_message(instance_type, zone))
    if surroundings().faults.lacks_capacity(instance_type, zone, market):
        raise AwsError("InsufficientInstanceCapacity", no_capacity_message(instance_type, zone), 500)


@rule("autoscaling", "SetDesiredCapacity")
def set_desired_capacity(backend: t.Any, params: dict[str, str], call: Call) -> None:
    group = backend.autoscaling_groups.get(params.get("AutoScalingGroupName"))
    if group is None:
        raise AwsError(
            "ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup {params.get('AutoScalingGroupName')} not found"
        )
    wanted = int(params["DesiredCapacity"])
    for beyond, word, limit in (
        (wanted > group.max_size, "above max", group.max_size),
        (wanted < group.min_size, "below min", group.min_size),
    ):
        if beyond:
            raise AwsError("ValidationError", f"New SetDesiredCapacity value {wanted} is {word} value {limit} for the AutoScalingGroup.")


@rule("autoscaling", "CreateAutoScalingGroup")
def create_auto_scaling_group(backend: t.Any, params: dict[str, str], call: Call) -> None:
    name = params.get("AutoScalingGroupName")
    if name in backend.autoscaling_groups:
        raise AwsError("AlreadyExists", f"AutoScalingGroup by this name already exists - A group with the name {name} already exists")


@rule("autoscaling", "DeleteAutoScalingGroup")
def delete_auto_scaling_group(backend: t.Any, params: dict[str, str], call: Call) -> None:
    group = backend.autoscaling_groups.get(params.get("AutoScalingGroupName"))
    if group is not None and group.instance_states and params.get("ForceDelete", "false").lower() != "true":
        message = "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group."
        raise AwsError("ResourceInUse", message)
