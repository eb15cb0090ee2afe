# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A cluster: what is wanted of it, what is there, and what its options may look like. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults, tag_faults, tag_texts

Params = t.Mapping[str, t.Any]
Fields = dict[str, t.Any]

# From the least to the most that access entries decide; EKS only goes forward, one mode at a time.
AUTHENTICATION_MODES = ("CONFIG_MAP", "API_AND_CONFIG_MAP", "API")
SUPPORT_TYPES = ("STANDARD", "EXTENDED")
LOGGING_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
ANY_CIDRS = ("0.0.0.0/0", "::/0")
MAX_SECURITY_GROUPS = 5
_EKS_SERVICE = "eks.amazonaws.com"
_ASSUME = ("sts:AssumeRole", "sts:*", "*")
_VERSION = re.compile(r"[1-9]\.[0-9]{1,3}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+|planned:.+")
_SUBNET = re.compile(r"subnet-[0-9a-f]{8,17}|planned:.+")
_GROUP = re.compile(r"sg-[0-9a-f]{8,17}|planned:.+")
_CREATE = "EKS API, CreateCluster"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of one cluster; None is what the user did not set: a secure default at creation, afterwards not managed."""

    name: str
    version: str | None = None
    role_arn: str | None = None
    subnet_ids: tuple[str, ...] | None = None
    security_group_ids: tuple[str, ...] | None = None
    endpoint_private_access: bool | None = None
    endpoint_public_access: bool | None = None
    public_access_cidrs: tuple[str, ...] | None = None
    authentication_mode: str | None = None
    bootstrap_cluster_creator_admin_permissions: bool | None = None
    support_type: str | None = None
    deletion_protection: bool | None = None
    logging_types: tuple[str, ...] | None = None
    tags: t.Mapping[str, str] | None = None
    purge_tags: bool = True
    adopt: bool = False

    @classmethod
    def from_params(cls, params: Params) -> Wanted:
        """From options that have no faults. Networks that may reach the public endpoint mean that there is one."""
        cidrs, tags = params.get("public_access_cidrs") or None, params.get("tags")
        public = params.get("endpoint_public_access")
        return cls(
            name=params["name"],
            version=params.get("version"),
            role_arn=params.get("role_arn"),
            subnet_ids=_tuple(params.get("subnet_ids")),
            security_group_ids=_tuple(params.get("security_group_ids")),
            endpoint_private_access=params.get("endpoint_private_access"),
            endpoint_public_access=True if public is None and cidrs else public,
            public_access_cidrs=_tuple(cidrs),
            authentication_mode=params.get("authentication_mode"),
            bootstrap_cluster_creator_admin_permissions=params.get("bootstrap_cluster_creator_admin_permissions"),
            support_type=params.get("support_type"),
            deletion_protection=params.get("deletion_protection"),
            logging_types=_tuple(params.get("logging_types")),
            tags=None if tags is None else tag_texts(tags),
            purge_tags=params.get("purge_tags") is not False,
            adopt=bool(params.get("adopt")),
        )

    def fields(self) -> Fields:
        """The managed fields by option; lists are sorted, because EKS keeps them as sets."""
        return _fields(self)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster as EKS describes it. ``issues`` are those of its health; ``api`` is the whole description."""

    name: str
    arn: str
    status: str
    version: str
    role_arn: str
    vpc_id: str
    subnet_ids: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    endpoint_private_access: bool
    endpoint_public_access: bool
    public_access_cidrs: tuple[str, ...]
    authentication_mode: str | None
    bootstrap_cluster_creator_admin_permissions: bool | None
    support_type: str | None
    deletion_protection: bool
    logging_types: tuple[str, ...]
    tags: t.Mapping[str, str]
    issues: tuple[str, ...] = ()
    api: t.Mapping[str, t.Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, api: t.Mapping[str, t.Any]) -> Cluster:
        """From ``cluster`` of eks:DescribeCluster."""
        vpc, access = api.get("resourcesVpcConfig") or {}, api.get("accessConfig") or {}
        logging = (api.get("logging") or {}).get("clusterLogging") or ()
        issues = (api.get("health") or {}).get("issues") or ()
        return cls(
            name=api["name"],
            arn=api["arn"],
            status=api["status"],
            version=api.get("version", ""),
            role_arn=api.get("roleArn", ""),
            vpc_id=vpc.get("vpcId", ""),
            subnet_ids=tuple(vpc.get("subnetIds") or ()),
            security_group_ids=tuple(vpc.get("securityGroupIds") or ()),
            endpoint_private_access=bool(vpc.get("endpointPrivateAccess")),
            endpoint_public_access=bool(vpc.get("endpointPublicAccess")),
            public_access_cidrs=tuple(vpc.get("publicAccessCidrs") or ()),
            authentication_mode=access.get("authenticationMode"),
            bootstrap_cluster_creator_admin_permissions=access.get("bootstrapClusterCreatorAdminPermissions"),
            support_type=(api.get("upgradePolicy") or {}).get("supportType"),
            deletion_protection=bool(api.get("deletionProtection")),
            logging_types=tuple(name for setup in logging if setup.get("enabled") for name in setup.get("types") or ()),
            tags=api.get("tags") or {},
            issues=tuple(f"{issue.get('code', 'Unknown')}: {issue.get('message', '')}" for issue in issues),
            api=api,
        )

    def fields(self) -> Fields:
        """The fields that options can manage, in the same form as those of Wanted."""
        return _fields(self)


FIELDS = (
    "version",
    "role_arn",
    "subnet_ids",
    "security_group_ids",
    "endpoint_private_access",
    "endpoint_public_access",
    "public_access_cidrs",
    "authentication_mode",
    "bootstrap_cluster_creator_admin_permissions",
    "support_type",
    "deletion_protection",
    "logging_types",
)


def _fields(of: Wanted | Cluster) -> Fields:
    values = {name: getattr(of, name) for name in FIELDS}
    return {name: sorted(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _tuple(values: t.Any) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def trusts_eks(policy: t.Mapping[str, t.Any]) -> bool:
    """Whether a role's trust policy lets EKS take the role."""
    statements = policy.get("Statement") or ()
    return any(_allows_eks(statement) for statement in ([statements] if isinstance(statements, t.Mapping) else statements))


def _allows_eks(statement: t.Mapping[str, t.Any]) -> bool:
    principal = statement.get("Principal") or {}
    services = principal.get("Service") if isinstance(principal, t.Mapping) else None
    actions = _list(statement.get("Action"))
    return statement.get("Effect") == "Allow" and _EKS_SERVICE in _list(services) and any(action in _ASSUME for action in actions)


def _list(value: t.Any) -> list[t.Any]:
    """A policy's element, which may stand alone or in a list, as a list."""
    return value if isinstance(value, list) else [value]


def minor(version: str) -> int:
    """The minor version of ``1.34``."""
    return int(version.split(".")[1])


def cluster_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds. Values of a wrong type are left to form_faults."""
    return [
        *cluster_name_faults(params.get("name"), "name"),
        *_pattern_faults(params, "version", _VERSION, "a Kubernetes version in quotes, such as '1.34'"),
        *_pattern_faults(params, "role_arn", _ROLE, "the ARN of an IAM role"),
        *_id_faults(params, "subnet_ids", _SUBNET, "a subnet's id"),
        *_id_faults(params, "security_group_ids", _GROUP, "a security group's id"),
        *_count_faults(params),
        *_endpoint_faults(params),
        *_public_faults(params),
        *tag_faults(params.get("tags"), "tags"),
    ]


def _pattern_faults(params: Params, name: str, pattern: re.Pattern[str], allowed: str) -> list[Fault]:
    value = params.get(name)
    if value is None or isinstance(value, (list, dict)) or pattern.fullmatch(str(value)):
        return []
    return [Fault(path=name, value=value, allowed=allowed, source=_CREATE)]


def _id_faults(params: Params, name: str, pattern: re.Pattern[str], allowed: str) -> list[Fault]:
    faults = []
    values = _items(params.get(name))
    for index, value in enumerate(values):
        path = f"{name}[{index}]"
        if not isinstance(value, str) or not pattern.fullmatch(value):
            faults.append(Fault(path=path, value=value, allowed=allowed, source=_CREATE))
        elif value in values[:index]:
            faults.append(Fault(path=path, value=value, allowed="each id once", source=_CREATE))
    return faults


def _count_faults(params: Params) -> list[Fault]:
    subnets, groups = params.get("subnet_ids"), params.get("security_group_ids")
    faults = []
    if isinstance(subnets, list) and len(subnets) < 2:
        faults.append(Fault(path="subnet_ids", value=subnets, allowed="at least two subnets, in two zones", source=_CREATE))
    if isinstance(groups, list) and len(groups) > MAX_SECURITY_GROUPS:
        faults.append(
            Fault(path="security_group_ids", value=groups, allowed=f"at most {MAX_SECURITY_GROUPS} security groups", source=_CREATE)
        )
    return faults


def _endpoint_faults(params: Params) -> list[Fault]:
    private, public, cidrs = (params.get(n) for n in ("endpoint_private_access", "endpoint_public_access", "public_access_cidrs"))
    if private is False and public is False:
        return [no_endpoint()]
    if public is False and cidrs:
        allowed = "unset where endpoint_public_access is false"
        return [Fault(path="public_access_cidrs", value=cidrs, allowed=allowed, source="EKS API, VpcConfigRequest")]
    if public is True and not cidrs and not params.get("allow_public_any"):
        allowed = "the networks that may reach the public endpoint; EKS opens it to everybody without them (allow_public_any: true)"
        return [Fault(path="public_access_cidrs", value=cidrs, allowed=allowed, source="EKS API, VpcConfigRequest")]
    return []


def no_endpoint() -> Fault:
    """The fault of a cluster that nobody could reach."""
    allowed = "true where endpoint_public_access is not: a cluster needs one of both endpoints"
    return Fault(path="endpoint_private_access", value=False, allowed=allowed, source="EKS API, VpcConfigRequest")


def _public_faults(params: Params) -> list[Fault]:
    faults = []
    values = _items(params.get("public_access_cidrs"))
    for index, value in enumerate(values):
        path = f"public_access_cidrs[{index}]"
        if not _is_network(value):
            allowed = "a network in CIDR notation without host bits, such as 203.0.113.0/24"
            faults.append(Fault(path=path, value=value, allowed=allowed, source="EKS API, VpcConfigRequest"))
        elif value in ANY_CIDRS and not params.get("allow_public_any"):
            allowed = "the networks that need access; everybody only with allow_public_any: true"
            faults.append(Fault(path=path, value=value, allowed=allowed, source="the options of eks_cluster"))
        elif value in values[:index]:
            faults.append(Fault(path=path, value=value, allowed="each network once", source="EKS API, VpcConfigRequest"))
    return faults


def _items(values: t.Any) -> list[t.Any]:
    return values if isinstance(values, list) else []


def _is_network(value: t.Any) -> bool:
    if not isinstance(value, str) or "/" not in value:
        return False
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True
