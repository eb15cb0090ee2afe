"""Which types EC2 offers where, and the words in which it refuses a launch."""

from __future__ import annotations

from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS


def offered(region: str, zone: str, instance_type: str) -> bool:
    """Whether EC2 offers the type in the zone, by moto's table of real offerings."""
    return any(
        row["InstanceType"] == instance_type and row["Location"] == zone
        for row in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    )


def not_offered_message(instance_type: str, zone: str) -> str:
    return (
        f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone ({zone}). "
        "Please retry your request by not specifying an Availability Zone or choosing another one."
    )


def no_capacity_message(instance_type: str, zone: str) -> str:
    return (
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone}). "
        "Our system will be working on provisioning additional capacity."
    )


def no_addresses_message(subnet_id: str) -> str:
    return f"There are not enough free addresses in subnet '{subnet_id}' to satisfy the requested number of instances."
