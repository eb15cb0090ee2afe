"""What EKS looks up in the account before it accepts a request: roles, subnets, security groups."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass
from urllib.parse import unquote

from botocore.exceptions import ClientError

from lab.aws.eks.context import Context, invalid_parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet as EC2 describes it."""

    id: str
    vpc_id: str
    zone: str
    zone_id: str
    free_addresses: int


def trusted_services(context: Context, role_arn: str) -> frozenset[str] | None:
    """The service principals that may assume the role; None when there is no such role."""
    try:
        role = context.client("iam").get_role(RoleName=role_arn.rpartition("/")[2])["Role"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchEntity":
            return None
        raise
    return _services(role["AssumeRolePolicyDocument"]) if role["Arn"] == role_arn else None


def _services(policy: t.Any) -> frozenset[str]:
    document = json.loads(unquote(policy)) if isinstance(policy, str) else policy
    found: set[str] = set()
    for statement in _as_list(document.get("Statement", [])):
        principal = statement.get("Principal", {})
        if statement.get("Effect") == "Allow" and isinstance(principal, dict) and _allows_assume(statement):
            found.update(_as_list(principal.get("Service", [])))
    return frozenset(found)


def _allows_assume(statement: dict[str, t.Any]) -> bool:
    return any(action in ("sts:AssumeRole", "sts:*", "*") for action in _as_list(statement.get("Action", [])))


def _as_list(value: t.Any) -> list[t.Any]:
    return value if isinstance(value, list) else [value]


def principal_exists(context: Context, principal_arn: str) -> bool:
    """Whether an IAM user or role has that ARN."""
    account, _, path = principal_arn.partition("::")[2].partition(":")
    kind, _, name = path.partition("/")
    iam = context.environment.clients("iam", account, context.region)
    try:
        if kind == "role":
            return bool(iam.get_role(RoleName=name.rpartition("/")[2])["Role"]["Arn"] == principal_arn)
        if kind == "user":
            return bool(iam.get_user(UserName=name.rpartition("/")[2])["User"]["Arn"] == principal_arn)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise
    return False


def subnets(context: Context, subnet_ids: list[str]) -> list[Subnet]:
    """The subnets in the order asked for; raises InvalidParameterException naming those that do not exist."""
    unique = list(dict.fromkeys(subnet_ids))
    found = context.client("ec2").describe_subnets(Filters=[{"Name": "subnet-id", "Values": unique}])["Subnets"]
    by_id = {item["SubnetId"]: item for item in found}
    missing = [subnet_id for subnet_id in unique if subnet_id not in by_id]
    if missing:
        names = "', '".join(missing)
        verb = "does" if len(missing) == 1 else "do"
        raise invalid_parameter(
            f"The subnet ID '{names}' {verb} not exist (Service: AmazonEC2; Status Code: 400; Error Code: InvalidSubnetID.NotFound)"
        )
    return [_subnet(by_id[subnet_id]) for subnet_id in unique]


def _subnet(found: dict[str, t.Any]) -> Subnet:
    return Subnet(
        id=found["SubnetId"],
        vpc_id=found["VpcId"],
        zone=found["AvailabilityZone"],
        zone_id=found["AvailabilityZoneId"],
        free_addresses=int(found["AvailableIpAddressCount"]),
    )


def check_security_groups(context: Context, group_ids: list[str], vpc_id: str) -> None:
    """Raises InvalidParameterException unless each group exists in the VPC."""
    if not group_ids:
        return
    found = context.client("ec2").describe_security_groups(Filters=[{"Name": "group-id", "Values": group_ids}])["SecurityGroups"]
    in_vpc = {group["GroupId"] for group in found if group["VpcId"] == vpc_id}
    missing = sorted(set(group_ids) - in_vpc)
    if missing:
        raise invalid_parameter(f"The security group '{missing[0]}' does not exist in VPC '{vpc_id}'")
