"""Clusters: create, describe, list, delete.

Rules: https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateCluster.html and the sources named at each check.
"""

from __future__ import annotations

import copy
import ipaddress
import secrets
import threading
import typing as t

from botocore.exceptions import ClientError

from lab.aws.eks.access import enter_api_mode
from lab.aws.eks.account import Subnet, check_security_groups, subnets, trusted_services
from lab.aws.eks.context import Context, Params, Result, in_use, invalid_parameter, invalid_request, operation
from lab.aws.eks.encryption import check_encryption
from lab.aws.eks.paging import page
from lab.aws.eks.state import Cluster, Document
from lab.aws.eks.tags import checked_tags
from lab.aws.eks.versions import default_version, supported_version
from lab.aws.moto_fixes import hold_interface
from lab.contracts import ClusterRef

LOG_TYPES = ("api", "audit", "authenticator", "controllerManager", "scheduler")
MAX_SECURITY_GROUPS = 5
MAX_CONTROL_PLANE_INTERFACES = 4
FREE_ADDRESSES_AT_CREATION = 6
FREE_ADDRESSES_AT_UPDATE = 5
_SERVICE_CIDR = "172.20.0.0/16"
_ECHOED = ("remoteNetworkConfig", "controlPlaneScalingConfig", "kubeApiServerConfig", "kubeSchedulerConfig", "kubeControllerManagerConfig")
_NOT_IMITATED = ("outpostConfig",)


@operation("CreateCluster")
def create_cluster(context: Context, params: Params) -> Result:
    name = params["name"]
    if (context.account, context.region, name) in context.state.clusters:
        raise in_use(f"Cluster already exists with name: {name}", clusterName=name)
    for field in _NOT_IMITATED:
        if field in params:
            raise invalid_parameter(f"{field} is not imitated by the lab")
    version = supported_version(params.get("version", default_version())).version
    tags = checked_tags(params)
    _check_access(params)
    check_cluster_role(context, params["roleArn"])
    check_encryption(context, params.get("encryptionConfig"))
    _check_service_network(params)
    chosen = check_cluster_subnets(context, params["resourcesVpcConfig"].get("subnetIds", []))
    if fault := free_addresses_fault(chosen, FREE_ADDRESSES_AT_CREATION):
        raise invalid_parameter(fault, clusterName=name)
    groups = params["resourcesVpcConfig"].get("securityGroupIds", [])
    check_cluster_groups(context, groups, chosen[0].vpc_id)
    ref = ClusterRef(account=context.account, region=context.region, name=name, version=version)
    group_id = _create_cluster_group(context, ref, chosen[0].vpc_id)
    interfaces = _create_interfaces(context, ref, chosen, [group_id, *groups])
    document = _document(context, ref, params, chosen, group_id, tags)
    cluster = Cluster(
        ref=ref,
        document=document,
        creator_arn=context.caller_arn,
        bootstrap_creator_admin=params.get("accessConfig", {}).get("bootstrapClusterCreatorAdminPermissions", True),
        network_interfaces=interfaces,
        due=context.due_in(context.environment.durations.cluster_create),
    )
    if cluster.authentication_mode != "CONFIG_MAP":
        enter_api_mode(context, cluster)
    context.state.clusters[(ref.account, ref.region, ref.name)] = cluster
    context.environment.control_planes.start(ref)
    reply = copy.deepcopy(document)
    reply["accessConfig"]["bootstrapClusterCreatorAdminPermissions"] = cluster.bootstrap_creator_admin
    return {"cluster": reply}


def _check_service_network(params: Params) -> None:
    """A private range of size /12 to /24: API_KubernetesNetworkConfigRequest."""
    cidr = params.get("kubernetesNetworkConfig", {}).get("serviceIpv4Cidr")
    if cidr is None:
        return
    try:
        network = ipaddress.ip_network(cidr)
    except ValueError as error:
        raise invalid_parameter(f"The specified service CIDR {cidr} is not valid: {error}") from error
    private = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    within = isinstance(network, ipaddress.IPv4Network) and any(network.subnet_of(ipaddress.IPv4Network(block)) for block in private)
    if not within or not 12 <= network.prefixlen <= 24:
        raise invalid_parameter(f"The specified service CIDR {cidr} is not valid: it has to be a private block of /24 to /12")


def _check_access(params: Params) -> None:
    """terraform-aws-eks#3206."""
    access = params.get("accessConfig", {})
    if access.get("authenticationMode", "CONFIG_MAP") == "CONFIG_MAP" and not access.get("bootstrapClusterCreatorAdminPermissions", True):
        raise invalid_parameter("bootstrapClusterCreatorAdminPermissions must be true if cluster authentication mode is set to CONFIG_MAP")


def check_cluster_role(context: Context, role_arn: str) -> None:
    """Raises InvalidParameterException unless EKS can assume the role."""
    services = trusted_services(context, role_arn)
    if services is None or "eks.amazonaws.com" not in services:
        message = f"Role with arn: {role_arn}, could not be assumed because it does not exist or the trusted entity is not correct"
        raise invalid_parameter(message)


def check_cluster_subnets(context: Context, subnet_ids: list[str]) -> list[Subnet]:
    """The subnets; raises InvalidParameterException unless they exist, in one VPC and at least two zones."""
    if not subnet_ids:
        raise invalid_parameter("resourcesVpcConfig.subnetIds: at least two subnets are required")
    chosen = subnets(context, subnet_ids)
    if len({subnet.vpc_id for subnet in chosen}) > 1:
        raise invalid_parameter("Subnets specified must belong to the same VPC")
    if len({subnet.zone for subnet in chosen}) < 2:
        raise invalid_parameter("Subnets specified must be in at least two different AZs")
    return chosen


def free_addresses_fault(chosen: list[Subnet], needed: int) -> str | None:
    """Addresses for the interfaces of the control plane: six at creation (user guide network-reqs), five at updates.

    The words are those of elastic-ipfs/infrastructure#221 and containers-roadmap#1693.
    """
    full = [f"{subnet.id} Free IPs: {subnet.free_addresses}" for subnet in chosen if subnet.free_addresses < needed]
    if not full:
        return None
    return f"Provided subnets {' '.join(full)} , need at least {needed} IPs in each subnet to be free for this operation"


def check_cluster_groups(context: Context, group_ids: list[str], vpc_id: str) -> None:
    """Raises InvalidParameterException on more than five groups, or groups outside the VPC."""
    if len(group_ids) > MAX_SECURITY_GROUPS:
        raise invalid_parameter(f"At most {MAX_SECURITY_GROUPS} security groups can be specified")
    check_security_groups(context, group_ids, vpc_id)


def _create_cluster_group(context: Context, ref: ClusterRef, vpc_id: str) -> str:
    """The cluster security group: all traffic between its members (https://docs.aws.amazon.com/eks/latest/userguide/sec-group-reqs.html)."""
    ec2 = context.client("ec2")
    name = f"eks-cluster-sg-{ref.name}-{secrets.randbelow(10**10):010d}"
    tags = {"Name": name, f"kubernetes.io/cluster/{ref.name}": "owned", "aws:eks:cluster-name": ref.name}
    group_id: str = ec2.create_security_group(
        GroupName=name,
        Description="EKS created security group applied to ENI that is attached to EKS Control Plane master nodes, as well as any managed workloads.",
        VpcId=vpc_id,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}],
    )["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=group_id, IpPermissions=[{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}]
    )
    return group_id


def _create_interfaces(context: Context, ref: ClusterRef, chosen: list[Subnet], groups: list[str]) -> list[str]:
    """The control plane's network interfaces, one a subnet up to four: EKS makes two to four."""
    ec2 = context.client("ec2")
    interfaces = []
    for subnet in chosen[:MAX_CONTROL_PLANE_INTERFACES]:
        reply = ec2.create_network_interface(SubnetId=subnet.id, Groups=groups, Description=f"Amazon EKS {ref.name}")
        interfaces.append(str(reply["NetworkInterface"]["NetworkInterfaceId"]))
        hold_interface(ref.account, ref.region, interfaces[-1])
    return interfaces


def _document(context: Context, ref: ClusterRef, params: Params, chosen: list[Subnet], group_id: str, tags: dict[str, str]) -> Document:
    network = params.get("kubernetesNetworkConfig", {})
    return {
        "name": ref.name,
        "arn": ref.arn,
        "createdAt": context.now(),
        "version": ref.version,
        "roleArn": params["roleArn"],
        "resourcesVpcConfig": _vpc_config(params["resourcesVpcConfig"], chosen, group_id),
        "kubernetesNetworkConfig": {
            "serviceIpv4Cidr": network.get("serviceIpv4Cidr", _SERVICE_CIDR),
            "ipFamily": network.get("ipFamily", "ipv4"),
            "elasticLoadBalancing": {"enabled": False, **network.get("elasticLoadBalancing", {})},
        },
        "logging": {"clusterLogging": logging_document(enabled_log_types(params.get("logging", {}), frozenset()))},
        "identity": {"oidc": {"issuer": f"https://oidc.eks.{ref.region}.amazonaws.com/id/{secrets.token_hex(16).upper()}"}},
        "status": "CREATING",
        "certificateAuthority": {},
        "platformVersion": "eks.1",
        "tags": tags,
        "encryptionConfig": params.get("encryptionConfig"),
        "health": {"issues": []},
        "accessConfig": {"authenticationMode": params.get("accessConfig", {}).get("authenticationMode", "CONFIG_MAP")},
        "upgradePolicy": {"supportType": params.get("upgradePolicy", {}).get("supportType", "EXTENDED")},
        "zonalShiftConfig": {"enabled": params.get("zonalShiftConfig", {}).get("enabled", False)},
        "computeConfig": params.get("computeConfig", {"enabled": False}),
        "storageConfig": params.get("storageConfig", {"blockStorage": {"enabled": False}}),
        "deletionProtection": params.get("deletionProtection", False),
        **{name: params[name] for name in _ECHOED if name in params},
    }


def _vpc_config(request: dict[str, t.Any], chosen: list[Subnet], group_id: str) -> Document:
    return {
        "subnetIds": [subnet.id for subnet in chosen],
        "securityGroupIds": list(request.get("securityGroupIds", [])),
        "clusterSecurityGroupId": group_id,
        "vpcId": chosen[0].vpc_id,
        "endpointPublicAccess": request.get("endpointPublicAccess", True),
        "endpointPrivateAccess": request.get("endpointPrivateAccess", False),
        "publicAccessCidrs": list(request.get("publicAccessCidrs", ["0.0.0.0/0"])),
        "controlPlaneEgressMode": request.get("controlPlaneEgressMode", "AWS_MANAGED"),
    }


def enabled_log_types(logging: dict[str, t.Any], before: frozenset[str]) -> frozenset[str]:
    """The log types in force after a request with ``logging``: types that it does not name stay as they are."""
    enabled = set(before)
    for setup in logging.get("clusterLogging", []):
        types = set(setup.get("types", []))
        enabled = enabled | types if setup.get("enabled") else enabled - types
    return frozenset(enabled)


def logging_document(enabled: frozenset[str]) -> list[Document]:
    """``enabled`` as DescribeCluster shows it: one group of enabled types, one of the others."""
    groups = (
        {"types": [name for name in LOG_TYPES if name in enabled], "enabled": True},
        {"types": [name for name in LOG_TYPES if name not in enabled], "enabled": False},
    )
    return [group for group in groups if group["types"]]


@operation("DescribeCluster")
def describe_cluster(context: Context, params: Params) -> Result:
    return {"cluster": context.cluster(params["name"]).document}


@operation("ListClusters")
def list_clusters(context: Context, params: Params) -> Result:
    names, token = page([cluster.name for cluster in context.state.in_region(context.account, context.region)], params)
    return {"clusters": names, "nextToken": token}


@operation("DeleteCluster")
def delete_cluster(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["name"])
    if cluster.document["deletionProtection"]:
        message = (
            f"Cluster {cluster.name} cannot be deleted because deletion protection is enabled. Disable deletion protection and try again."
        )
        raise invalid_request(message, clusterName=cluster.name)
    if cluster.nodegroups:  # gruntwork-io/cloud-nuke#148
        raise in_use("Cluster has nodegroups attached", clusterName=cluster.name, nodegroupName=min(cluster.nodegroups))
    if cluster.update_in_flight() is not None:  # containers-roadmap#1511
        message = f"Cannot delete because cluster {cluster.name} currently has an update in progress"
        raise in_use(message, clusterName=cluster.name)
    if cluster.status in ("CREATING", "DELETING"):
        raise in_use(f"Cannot delete because cluster {cluster.name} currently is in {cluster.status} status", clusterName=cluster.name)
    cluster.status = "DELETING"
    cluster.due = context.due_in(context.environment.durations.cluster_delete)
    threading.Thread(target=_stop, args=(context, cluster), name=f"stop-{cluster.name}", daemon=True).start()
    return {"cluster": cluster.document}


def _stop(context: Context, cluster: Cluster) -> None:
    """Taking processes down takes longer than a reply may."""
    context.environment.control_planes.stop(cluster.ref)
    cluster.stopped.set()


def remove_cluster(context: Context, cluster: Cluster) -> None:
    """The end of a deletion: interfaces and security group go, unless others still use the group: then EKS leaves it (eksctl#1849)."""
    ec2 = context.client("ec2")
    for interface in cluster.network_interfaces:
        ec2.delete_network_interface(NetworkInterfaceId=interface)
    try:
        ec2.delete_security_group(GroupId=cluster.document["resourcesVpcConfig"]["clusterSecurityGroupId"])
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("DependencyViolation", "InvalidGroup.NotFound"):
            raise
    del context.state.clusters[(cluster.ref.account, cluster.ref.region, cluster.ref.name)]
