"""UpdateClusterConfig and UpdateClusterVersion: one type of update for each call, one in flight, no update without a change.

Sources: https://docs.aws.amazon.com/eks/latest/APIReference/API_UpdateClusterConfig.html; CAPA#3553 (one type), cloud-custodian#9250 (in
flight), boto3#2592 and ACK#1855 (no change).
"""

from __future__ import annotations

import functools
import typing as t

from lab.aws.eks.access import enter_api_mode
from lab.aws.eks.account import Subnet, subnets
from lab.aws.eks.clusters import (
    FREE_ADDRESSES_AT_UPDATE,
    check_cluster_groups,
    check_cluster_subnets,
    enabled_log_types,
    free_addresses_fault,
    logging_document,
)
from lab.aws.eks.context import Context, Params, Result, invalid_parameter, invalid_request, operation
from lab.aws.eks.state import Cluster, Document
from lab.aws.eks.updates import check_cluster_idle, start_update
from lab.aws.eks.versions import supported_version

_VPC_FIELDS = {
    "endpointPublicAccess": "EndpointAccessUpdate",
    "endpointPrivateAccess": "EndpointAccessUpdate",
    "publicAccessCidrs": "EndpointAccessUpdate",
    "subnetIds": "VpcConfigUpdate",
    "securityGroupIds": "VpcConfigUpdate",
    "controlPlaneEgressMode": "ControlPlaneEgressUpdate",
}
_FIELDS = {
    "logging": "LoggingUpdate",
    "accessConfig": "AccessConfigUpdate",
    "upgradePolicy": "UpgradePolicyUpdate",
    "zonalShiftConfig": "ZonalShiftConfigUpdate",
    "computeConfig": "AutoModeUpdate",
    "kubernetesNetworkConfig": "AutoModeUpdate",
    "storageConfig": "AutoModeUpdate",
    "remoteNetworkConfig": "RemoteNetworkConfigUpdate",
    "deletionProtection": "DeletionProtectionUpdate",
    "controlPlaneScalingConfig": "ControlPlaneScalingConfigUpdate",
    "kubeApiServerConfig": "ControlPlaneComponentConfigUpdate",
    "kubeSchedulerConfig": "ControlPlaneComponentConfigUpdate",
    "kubeControllerManagerConfig": "ControlPlaneComponentConfigUpdate",
}
_MODE_ORDER = ("CONFIG_MAP", "API_AND_CONFIG_MAP", "API")
_NO_CHANGE = "Cluster is already at the desired configuration with "


@operation("UpdateClusterConfig")
def update_cluster_config(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["name"])
    request = {name: value for name, value in params.items() if name in _FIELDS or name == "resourcesVpcConfig"}
    types = {_FIELDS[name] for name in request if name in _FIELDS} | {_VPC_FIELDS[name] for name in request.get("resourcesVpcConfig", {})}
    if len(types) > 1:
        raise invalid_parameter("Only one type of update can be allowed.", clusterName=cluster.name)
    if not types:
        raise invalid_parameter("No changes needed for the logging config or the VPC config provided", clusterName=cluster.name)
    update_type = next(iter(types))
    check_cluster_idle(cluster, update_type)
    changes = _changes(context, cluster, request)
    if all(cluster.document.get(name) == value for name, value in changes.items()):
        described = ", ".join(f"{_title(name)}: {value}" for name, value in _requested(request).items())
        raise invalid_parameter(f"{_NO_CHANGE}{described}", clusterName=cluster.name)
    apply = functools.partial(_apply, context, cluster, changes)
    update = start_update(context, cluster, update_type=update_type, params=_update_params(request), apply=apply)
    return {"update": update}


def _requested(request: Params) -> dict[str, t.Any]:
    rest = {name: value for name, value in request.items() if name != "resourcesVpcConfig"}
    return {**rest, **request.get("resourcesVpcConfig", {})}


def _title(name: str) -> str:
    return name[0].upper() + name[1:]


_PARAM_NAMES = {
    "logging": "ClusterLogging",
    "subnetIds": "Subnets",
    "securityGroupIds": "SecurityGroups",
    "controlPlaneScalingConfig": "UpdatedTier",
}


def _update_params(request: Params) -> dict[str, t.Any]:
    """The update's params by UpdateParamType."""
    params: dict[str, t.Any] = {}
    for name, value in _requested(request).items():
        if name == "accessConfig":
            params["AuthenticationMode"] = value.get("authenticationMode", "")
        else:
            params[_PARAM_NAMES.get(name, _title(name))] = value
    return params


def _changes(context: Context, cluster: Cluster, request: Params) -> Document:
    """The members of the cluster's document that the update will set, whole."""
    changes: Document = {}
    for name, value in request.items():
        if name == "resourcesVpcConfig":
            changes[name] = _vpc_changes(context, cluster, value)
        elif name == "logging":
            before = frozenset(
                kind for setup in cluster.document["logging"]["clusterLogging"] if setup["enabled"] for kind in setup["types"]
            )
            changes[name] = {"clusterLogging": logging_document(enabled_log_types(value, before))}
        elif name == "accessConfig":
            changes[name] = {"authenticationMode": _next_mode(cluster, value)}
        elif isinstance(value, dict):
            changes[name] = {**cluster.document.get(name, {}), **value}
        else:
            changes[name] = value
    return changes


def _vpc_changes(context: Context, cluster: Cluster, request: dict[str, t.Any]) -> Document:
    before: Document = cluster.document["resourcesVpcConfig"]
    after = {**before, **request}
    if "subnetIds" in request:
        chosen = check_cluster_subnets(context, request["subnetIds"])
        if chosen[0].vpc_id != before["vpcId"]:
            raise invalid_parameter(
                f"Provided subnets belong to a different VPC. Existing VPC: {before['vpcId']}", clusterName=cluster.name
            )
        _check_free_addresses(cluster, chosen)
    if "securityGroupIds" in request:
        check_cluster_groups(context, request["securityGroupIds"], before["vpcId"])
    if not after["endpointPublicAccess"] and not after["endpointPrivateAccess"]:
        raise invalid_parameter("Private and public endpoint access cannot be false", clusterName=cluster.name)
    for name in ("publicAccessCidrs", "subnetIds", "securityGroupIds"):  # sets, in whatever order they come
        if sorted(after[name]) == sorted(before[name]):
            after[name] = before[name]
    return after


def _check_free_addresses(cluster: Cluster, chosen: list[Subnet]) -> None:
    if fault := free_addresses_fault(chosen, FREE_ADDRESSES_AT_UPDATE):
        raise invalid_request(fault, clusterName=cluster.name)


def _next_mode(cluster: Cluster, request: dict[str, t.Any]) -> str:
    """One way towards API: https://docs.aws.amazon.com/eks/latest/userguide/setting-up-access-entries.html"""
    before = cluster.authentication_mode
    after = str(request.get("authenticationMode", before))
    if _MODE_ORDER.index(after) < _MODE_ORDER.index(before) or (before, after) == ("CONFIG_MAP", "API"):
        raise invalid_parameter(f"Unsupported authentication mode update from {before} to {after}", clusterName=cluster.name)
    return after


def _apply(context: Context, cluster: Cluster, changes: Document) -> None:
    cluster.document.update(changes)
    if "accessConfig" in changes:
        enter_api_mode(context, cluster)


@operation("UpdateClusterVersion")
def update_cluster_version(context: Context, params: Params) -> Result:
    """One minor version upwards at a time, and not away from node groups that are behind already."""
    cluster = context.cluster(params["name"])
    wanted = supported_version(params["version"])
    check_cluster_idle(cluster, "VersionUpdate")
    current = supported_version(cluster.document["version"])
    if wanted.minor == current.minor:
        raise invalid_parameter(f"{_NO_CHANGE}version: {current.version}", clusterName=cluster.name)
    if wanted.minor != current.minor + 1:
        message = f"Unsupported Kubernetes minor version update from {current.version} to {wanted.version}"
        raise invalid_parameter(message, clusterName=cluster.name)
    behind = sorted(name for name, group in cluster.nodegroups.items() if group.document["version"] != current.version)
    if behind:
        message = (
            f"Nodegroups {', '.join(behind)} must be updated to match cluster version {current.version} before updating cluster version"
        )
        raise invalid_parameter(message, clusterName=cluster.name, nodegroupName=behind[0])
    _check_free_addresses(cluster, subnets(context, cluster.document["resourcesVpcConfig"]["subnetIds"]))
    update = start_update(
        context,
        cluster,
        update_type="VersionUpdate",
        params={"Version": wanted.version, "PlatformVersion": "eks.1"},
        apply=functools.partial(cluster.document.update, version=wanted.version),
    )
    return {"update": update}
