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
SCORING_TYPES = ("LeastAllocated", "MostAllocated")
SCORING_OPTIONS: dict[str, dict[str, t.Any]] = {
    "type": {"type": "str", "choices": list(SCORING_TYPES), "required": True},
    "resources": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {"name": {"type": "str", "required": True}, "weight": {"type": "int", "required": True}},
    },
}
ANY_CIDRS = ("0.0.0.0/0", "::/0")
MAX_SECURITY_GROUPS = 5
_EKS_SERVICE = "eks.amazonaws.com"
_ASSUME = ("sts:AssumeRole", "sts:*", "*")
_VERSION = re.compile(r"[1-9]\.[0-9]{1,3}")
_KEY = re.compile(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[\w-]+|planned:.+")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+|planned:.+")
_SUBNET = re.compile(r"subnet-[0-9a-f]{8,17}|planned:.+")
_GROUP = re.compile(r"sg-[0-9a-f]{8,17}|planned:.+")
_CREATE = "EKS API, CreateCluster"
_PRIVATE = tuple(ipaddress.IPv4Network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


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
    encryption_key_arn: str | None = None
    scheduler_scoring: t.Mapping[str, t.Any] | None = None
    service_ipv4_cidr: str | None = None
    bootstrap_self_managed_addons: bool | None = None
    tags: t.Mapping[str, str] | None = None
    purge_tags: bool = True
    adopt: bool = False
    recreate_failed: bool = False

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
            encryption_key_arn=params.get("encryption_key_arn"),
            scheduler_scoring=scoring(params.get("scheduler_scoring")),
            service_ipv4_cidr=params.get("service_ipv4_cidr"),
            bootstrap_self_managed_addons=params.get("bootstrap_self_managed_addons"),
            tags=None if tags is None else tag_texts(tags),
            purge_tags=params.get("purge_tags") is not False,
            adopt=bool(params.get("adopt")),
            recreate_failed=bool(params.get("recreate_failed")),
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
    encryption_key_arn: str | None = None
    scheduler_scoring: t.Mapping[str, t.Any] | None = None
    service_ipv4_cidr: str | None = None
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
            encryption_key_arn=next((setup["provider"]["keyArn"] for setup in api.get("encryptionConfig") or ()), None),
            scheduler_scoring=scoring(((api.get("kubeSchedulerConfig") or {}).get("nodeResourcesFit") or {}).get("scoringStrategy")),
            service_ipv4_cidr=(api.get("kubernetesNetworkConfig") or {}).get("serviceIpv4Cidr"),
            issues=tuple(f"{issue.get('code', 'Unknown')}: {issue.get('message', '')}" for issue in issues),
            api=api,
        )

    def fields(self) -> Fields:
        """The fields that options can manage, in the same form as those of Wanted."""
        return _fields(self)


@dataclass(frozen=True, kw_only=True)
class Field:
    """What can become of one field of a cluster after its creation.

    ``change`` is update (in place), one_way (in place, in one direction) or creation (never). ``update_type`` is EKS's name of the update, one
    of which an eks:UpdateClusterConfig may carry; ``refused`` says what is not possible and why; ``proof`` is the test that shows it.
    """

    option: str
    api: str
    change: t.Literal["update", "one_way", "creation"]
    update_type: str = ""
    call: str = "eks:UpdateClusterConfig"
    refused: str = ""
    source: str = "EKS API, UpdateClusterConfig"
    proof: str


# In the order in which updates are made: the version comes last, when everything that it may need is as it should be.
FIELDS = (
    Field(
        option="role_arn",
        api="roleArn",
        change="creation",
        refused="EKS cannot change the role of a cluster; a new cluster has to be made",
        source="EKS API: roleArn is set at creation only",
        proof="tests/unit/plan/test_cluster.py::test_what_cannot_be_changed_is_refused",
    ),
    Field(
        option="bootstrap_cluster_creator_admin_permissions",
        api="accessConfig.bootstrapClusterCreatorAdminPermissions",
        change="creation",
        refused="it only counts at creation; change the creator's access entry instead",
        source="EKS API, CreateAccessConfigRequest",
        proof="tests/unit/plan/test_cluster.py::test_what_cannot_be_changed_is_refused",
    ),
    Field(
        option="service_ipv4_cidr",
        api="kubernetesNetworkConfig.serviceIpv4Cidr",
        change="creation",
        refused="services have their addresses from it; a new cluster has to be made",
        source="EKS API, KubernetesNetworkConfigRequest",
        proof="tests/unit/plan/test_cluster.py::test_what_cannot_be_changed_is_refused",
    ),
    Field(
        option="subnet_ids",
        api="resourcesVpcConfig.subnetIds",
        change="update",
        update_type="VpcConfigUpdate",
        refused="subnets outside the VPC; those outside the zones of the creation are for nodes only",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="security_group_ids",
        api="resourcesVpcConfig.securityGroupIds",
        change="update",
        update_type="VpcConfigUpdate",
        refused="groups outside the VPC",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="endpoint_private_access",
        api="resourcesVpcConfig.endpointPrivateAccess",
        change="update",
        update_type="EndpointAccessUpdate",
        refused="both endpoints off",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="endpoint_public_access",
        api="resourcesVpcConfig.endpointPublicAccess",
        change="update",
        update_type="EndpointAccessUpdate",
        refused="both endpoints off",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="public_access_cidrs",
        api="resourcesVpcConfig.publicAccessCidrs",
        change="update",
        update_type="EndpointAccessUpdate",
        refused="everybody without allow_public_any",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="authentication_mode",
        api="accessConfig.authenticationMode",
        change="one_way",
        update_type="AccessConfigUpdate",
        refused="back from API, and from API_AND_CONFIG_MAP to CONFIG_MAP",
        source="Amazon EKS user guide, cluster access configuration",
        proof="tests/unit/plan/test_cluster.py::test_the_authentication_mode_goes_one_way",
    ),
    Field(
        option="logging_types",
        api="logging.clusterLogging",
        change="update",
        update_type="LoggingUpdate",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="support_type",
        api="upgradePolicy.supportType",
        change="update",
        update_type="UpgradePolicyUpdate",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="deletion_protection",
        api="deletionProtection",
        change="update",
        update_type="DeletionProtectionUpdate",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="scheduler_scoring",
        api="kubeSchedulerConfig.nodeResourcesFit.scoringStrategy",
        change="update",
        update_type="ControlPlaneComponentConfigUpdate",
        proof="tests/unit/plan/test_cluster.py::test_each_kind_of_update",
    ),
    Field(
        option="encryption_key_arn",
        api="encryptionConfig.provider.keyArn",
        change="one_way",
        update_type="AssociateEncryptionConfig",
        call="eks:AssociateEncryptionConfig",
        refused="another key, and none, once there is one",
        source="EKS API, AssociateEncryptionConfig: there is no way back",
        proof="tests/unit/plan/test_cluster.py::test_what_cannot_be_changed_is_refused",
    ),
    Field(
        option="version",
        api="version",
        change="one_way",
        update_type="VersionUpdate",
        call="eks:UpdateClusterVersion",
        refused="more than one minor version at a time, back, and while a node group is not at the cluster's version",
        source="Amazon EKS user guide, cluster upgrades",
        proof="tests/unit/plan/test_cluster.py::test_versions",
    ),
)
CREATION_FIELDS = tuple(one for one in FIELDS if one.change == "creation")
# EKS does not say of a cluster what it was; sent at creation, never compared.
UNREPORTED = ("bootstrap_self_managed_addons",)


def _fields(of: Wanted | Cluster) -> Fields:
    values = {one.option: getattr(of, one.option) for one in FIELDS}
    return {name: sorted(value) if isinstance(value, tuple) else value for name, value in values.items()}


def scoring(strategy: t.Mapping[str, t.Any] | None) -> Fields | None:
    """A scoring strategy as the option and as the API have it, in one form: resources by name."""
    if not strategy:
        return None
    resources = [{"name": one["name"], "weight": one["weight"]} for one in strategy.get("resources") or ()]
    return {"type": strategy["type"], "resources": sorted(resources, key=lambda one: str(one["name"]))}


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
        *_pattern_faults(params, "encryption_key_arn", _KEY, "the ARN of a KMS key, not of an alias"),
        *_service_faults(params.get("service_ipv4_cidr")),
        *_scoring_faults(params.get("scheduler_scoring")),
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


def _service_faults(value: t.Any) -> list[Fault]:
    """EKS API, KubernetesNetworkConfigRequest: a private range between /24 and /12."""
    if value is None or isinstance(value, (list, dict)):
        return []
    allowed = "a network of size /12 to /24 within 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"
    fault = Fault(path="service_ipv4_cidr", value=value, allowed=allowed, source="EKS API, KubernetesNetworkConfigRequest")
    if not _is_network(value):
        return [fault]
    network = ipaddress.ip_network(value)
    within = isinstance(network, ipaddress.IPv4Network) and any(network.subnet_of(private) for private in _PRIVATE)
    return [] if within and 12 <= network.prefixlen <= 24 else [fault]


def _scoring_faults(value: t.Any) -> list[Fault]:
    resources = value.get("resources") if isinstance(value, t.Mapping) else None
    faults = []
    names: list[t.Any] = []
    for index, one in enumerate(resources if isinstance(resources, list) else []):
        path = f"scheduler_scoring.resources[{index}]"
        weight = one.get("weight") if isinstance(one, t.Mapping) else None
        if isinstance(weight, int) and not 1 <= weight <= 100:
            faults.append(Fault(path=f"{path}.weight", value=weight, allowed="1 to 100", source="EKS API, NodeResourcesFit"))
        name = one.get("name") if isinstance(one, t.Mapping) else None
        if name is not None and name in names:
            faults.append(Fault(path=f"{path}.name", value=name, allowed="each resource once", source="EKS API, NodeResourcesFit"))
        names.append(name)
    if isinstance(resources, list) and not resources:
        faults.append(Fault(path="scheduler_scoring.resources", value=[], allowed="at least one", source="EKS API, NodeResourcesFit"))
    return faults


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
