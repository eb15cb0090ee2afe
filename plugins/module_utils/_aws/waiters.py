# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Waiters as botocore models, plus where each reply says how things stand (for progress) and what went wrong.

States and terminal states are those of the services' API references; botocore's own waiters know fewer of them.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Waiter:
    """``operation`` of ``service`` is repeated until an acceptor of state success or failure matches.

    ``status`` is the JMESPath of the state in a reply, ``issues`` of what the service says is wrong; ``subject`` names the parameter
    that tells which resource it is. ``remedy`` is what to do about a state of failure that the issues give no hint for.
    """

    service: str
    operation: str
    acceptors: tuple[dict[str, t.Any], ...]
    status: str
    issues: str = ""
    subject: str
    remedy: str = "Correct the cause, then run again."

    def model(self, name: str, interval: float, attempts: int) -> dict[str, t.Any]:
        """The botocore waiter model (version 2)."""
        config = {"operation": self.operation, "delay": interval, "maxAttempts": attempts, "acceptors": [dict(a) for a in self.acceptors]}
        return {"version": 2, "waiters": {name: config}}


def _path(expected: str, argument: str, state: str) -> dict[str, t.Any]:
    return {"matcher": "path", "argument": argument, "expected": expected, "state": state}


def _path_all(expected: str, argument: str, state: str) -> dict[str, t.Any]:
    return {"matcher": "pathAll", "argument": argument, "expected": expected, "state": state}


def _error(code: str, state: str) -> dict[str, t.Any]:
    return {"matcher": "error", "expected": code, "state": state}


def _either(state: str, outcome: str, matcher: str = "pathAny") -> tuple[dict[str, t.Any], ...]:
    """Acceptors of a VPC endpoint's state, which EC2 writes in lower case and its model with a capital."""
    path = "VpcEndpoints[].State"
    return tuple({"matcher": matcher, "argument": path, "expected": word, "state": outcome} for word in (state, state.capitalize()))


_BLOCKS = "Vpcs[].CidrBlockAssociationSet[?CidrBlockState.State != 'disassociated'][]"
_LIFECYCLES = "not_null(AutoScalingGroups[0].Instances, `[]`)"
_IN_SERVICE = f"length({_LIFECYCLES}[?LifecycleState == 'InService'])"
_UNFINISHED = "Activities[?StatusCode != 'Successful' && StatusCode != 'Failed' && StatusCode != 'Cancelled']"
_UPDATE_ACCEPTORS = (
    _path("Successful", "update.status", "success"),
    _path("Failed", "update.status", "failure"),
    _path("Cancelled", "update.status", "failure"),
)

_UPDATE_ISSUES = "update.errors[].join(': ', [not_null(errorCode, 'Unknown'), not_null(errorMessage, '')])"
_CLUSTER_ISSUES = "cluster.health.issues[].join(': ', [not_null(code, 'Unknown'), not_null(message, '')])"

# An add-on without a node to run on is degraded until there is one; whatever else EKS finds wrong with it does not pass by waiting.
_ADDON_FAULT = "addon.status == 'DEGRADED' && length(not_null(addon.health.issues, `[]`)[?code != 'InsufficientNumberOfReplicas']) > `0`"
_ADDON_ISSUES = "addon.health.issues[].join(': ', [not_null(code, 'Unknown'), not_null(message, '')])"

WAITERS: dict[str, Waiter] = {
    "cluster_active": Waiter(
        service="eks",
        operation="DescribeCluster",
        acceptors=(
            _path("ACTIVE", "cluster.status", "success"),
            _path("FAILED", "cluster.status", "failure"),
            _path("DELETING", "cluster.status", "failure"),
        ),
        status="cluster.status",
        issues=_CLUSTER_ISSUES,
        subject="name",
        remedy="Correct the cause. Where its creation has failed, eks_cluster with recreate_failed: true deletes it and makes it again.",
    ),
    "cluster_settled": Waiter(  # for a deletion: a cluster whose creation has failed can be deleted too
        service="eks",
        operation="DescribeCluster",
        acceptors=(
            _path("ACTIVE", "cluster.status", "success"),
            _path("FAILED", "cluster.status", "success"),
            _path("DELETING", "cluster.status", "failure"),
        ),
        status="cluster.status",
        issues=_CLUSTER_ISSUES,
        subject="name",
    ),
    "cluster_deleted": Waiter(
        service="eks",
        operation="DescribeCluster",
        acceptors=(_error("ResourceNotFoundException", "success"), _path("FAILED", "cluster.status", "failure")),
        status="cluster.status",
        issues=_CLUSTER_ISSUES,
        subject="name",
    ),
    "update_successful": Waiter(
        service="eks",
        operation="DescribeUpdate",
        acceptors=_UPDATE_ACCEPTORS,
        status="update.status",
        issues=_UPDATE_ISSUES,
        subject="name",
    ),
    "nodegroup_update_successful": Waiter(
        service="eks",
        operation="DescribeUpdate",
        acceptors=_UPDATE_ACCEPTORS,
        status="update.status",
        issues=_UPDATE_ISSUES,
        subject="nodegroupName",
    ),
    "update_settled": Waiter(
        service="eks",
        operation="DescribeUpdate",
        acceptors=tuple(_path(status, "update.status", "success") for status in ("Successful", "Failed", "Cancelled")),
        status="update.status",
        issues=_UPDATE_ISSUES,
        subject="name",
    ),
    "nodegroup_active": Waiter(
        service="eks",
        operation="DescribeNodegroup",
        acceptors=(
            _path("ACTIVE", "nodegroup.status", "success"),
            _path("CREATE_FAILED", "nodegroup.status", "failure"),
            _path("DEGRADED", "nodegroup.status", "failure"),
            _path("DELETING", "nodegroup.status", "failure"),
        ),
        status="nodegroup.status",
        issues="nodegroup.health.issues[].message",
        subject="nodegroupName",
    ),
    "nodegroup_settled": Waiter(
        service="eks",
        operation="DescribeNodegroup",
        acceptors=(
            *(_path(status, "nodegroup.status", "success") for status in ("ACTIVE", "DEGRADED", "CREATE_FAILED", "DELETE_FAILED")),
            _error("ResourceNotFoundException", "success"),
        ),
        status="nodegroup.status",
        issues="nodegroup.health.issues[].message",
        subject="nodegroupName",
    ),
    "nodegroup_deleted": Waiter(
        service="eks",
        operation="DescribeNodegroup",
        acceptors=(_error("ResourceNotFoundException", "success"), _path("DELETE_FAILED", "nodegroup.status", "failure")),
        status="nodegroup.status",
        issues="nodegroup.health.issues[].message",
        subject="nodegroupName",
    ),
    "addon_active": Waiter(
        service="eks",
        operation="DescribeAddon",
        acceptors=(
            _path("ACTIVE", "addon.status", "success"),
            *(_path(status, "addon.status", "failure") for status in ("CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED", "DELETING")),
            {"matcher": "path", "argument": _ADDON_FAULT, "expected": True, "state": "failure"},
        ),
        status="addon.status",
        issues=_ADDON_ISSUES,
        subject="addonName",
    ),
    "addon_settled": Waiter(
        service="eks",
        operation="DescribeAddon",
        acceptors=(
            *(
                _path(status, "addon.status", "success")
                for status in ("ACTIVE", "DEGRADED", "CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED")
            ),
            _error("ResourceNotFoundException", "success"),
        ),
        status="addon.status",
        issues=_ADDON_ISSUES,
        subject="addonName",
    ),
    "addon_deleted": Waiter(
        service="eks",
        operation="DescribeAddon",
        acceptors=(_error("ResourceNotFoundException", "success"), _path("DELETE_FAILED", "addon.status", "failure")),
        status="addon.status",
        issues=_ADDON_ISSUES,
        subject="addonName",
    ),
    "addon_update_successful": Waiter(
        service="eks",
        operation="DescribeUpdate",
        acceptors=_UPDATE_ACCEPTORS,
        status="update.status",
        issues=_UPDATE_ISSUES,
        subject="addonName",
    ),
    "vpc_available": Waiter(
        service="ec2",
        operation="DescribeVpcs",
        acceptors=(_path_all("available", "Vpcs[].State", "success"), _error("InvalidVpcID.NotFound", "retry")),
        status="Vpcs[0].State",
        subject="VpcIds",
    ),
    "nat_gateway_available": Waiter(
        service="ec2",
        operation="DescribeNatGateways",
        acceptors=(
            _path_all("available", "NatGateways[].State", "success"),
            {"matcher": "pathAny", "argument": "NatGateways[].State", "expected": "failed", "state": "failure"},
            _error("NatGatewayNotFound", "retry"),
        ),
        status="NatGateways[0].State",
        issues="NatGateways[].FailureMessage",
        subject="NatGatewayIds",
    ),
    "nat_gateway_deleted": Waiter(
        service="ec2",
        operation="DescribeNatGateways",
        acceptors=(
            _path_all("deleted", "NatGateways[].State", "success"),
            _error("NatGatewayNotFound", "success"),
        ),
        status="NatGateways[0].State",
        subject="NatGatewayIds",
    ),
    "vpc_blocks_associated": Waiter(
        service="ec2",
        operation="DescribeVpcs",
        acceptors=(
            _path_all("associated", f"{_BLOCKS}.CidrBlockState.State", "success"),
            {"matcher": "pathAny", "argument": f"{_BLOCKS}.CidrBlockState.State", "expected": "failed", "state": "failure"},
            _error("InvalidVpcID.NotFound", "retry"),
        ),
        status=f"Vpcs && join(', ', {_BLOCKS}.join(' ', [CidrBlock, CidrBlockState.State]))",
        issues=f"{_BLOCKS}.CidrBlockState.StatusMessage",
        subject="VpcIds",
    ),
    "vpc_endpoint_available": Waiter(
        service="ec2",
        operation="DescribeVpcEndpoints",
        acceptors=(
            *_either("available", "success", "pathAll"),
            *(acceptor for state in ("failed", "rejected", "expired", "deleting", "deleted") for acceptor in _either(state, "failure")),
            _error("InvalidVpcEndpointId.NotFound", "retry"),
        ),
        status="VpcEndpoints && join(', ', VpcEndpoints[].join(' ', [ServiceName, State]))",
        issues="VpcEndpoints[].not_null(FailureReason, LastError.Message)",
        subject="VpcEndpointIds",
    ),
    "vpc_endpoint_deleted": Waiter(
        service="ec2",
        operation="DescribeVpcEndpoints",
        acceptors=(*_either("deleted", "success", "pathAll"), _error("InvalidVpcEndpointId.NotFound", "success")),
        status="VpcEndpoints[0].State",
        subject="VpcEndpointIds",
    ),
    "auto_scaling_group_launched": Waiter(  # for a new group: its first activities say whether EC2 has what it launches
        service="autoscaling",
        operation="DescribeScalingActivities",
        acceptors=(
            {"matcher": "pathAny", "argument": "Activities[].StatusCode", "expected": "Failed", "state": "failure"},
            {
                "matcher": "path",
                "argument": f"length(Activities) > `0` && length({_UNFINISHED}) == `0`",
                "expected": True,
                "state": "success",
            },
        ),
        status="Activities[0] && join(': ', [Activities[0].StatusCode, Activities[0].Description])",
        issues="Activities[?StatusCode == 'Failed'].not_null(StatusMessage, Description) | [0:1]",
        subject="AutoScalingGroupName",
        remedy="Add zones or instance types to the pool, or try again later; the group goes on trying.",
    ),
    "auto_scaling_group_in_service": Waiter(
        service="autoscaling",
        operation="DescribeAutoScalingGroups",
        acceptors=(
            {
                "matcher": "path",
                "argument": f"AutoScalingGroups[0] && {_IN_SERVICE} >= AutoScalingGroups[0].DesiredCapacity",
                "expected": True,
                "state": "success",
            },
        ),
        status=f"AutoScalingGroups[0] && join(' of ', [to_string({_IN_SERVICE}), to_string(AutoScalingGroups[0].DesiredCapacity)])",
        subject="AutoScalingGroupNames",
    ),
    "auto_scaling_group_empty": Waiter(
        service="autoscaling",
        operation="DescribeAutoScalingGroups",
        acceptors=({"matcher": "path", "argument": f"length({_LIFECYCLES})", "expected": 0, "state": "success"},),
        status=f"join(' ', [to_string(length({_LIFECYCLES})), 'instances'])",
        subject="AutoScalingGroupNames",
    ),
    "auto_scaling_group_deleted": Waiter(
        service="autoscaling",
        operation="DescribeAutoScalingGroups",
        acceptors=({"matcher": "path", "argument": "AutoScalingGroups", "expected": [], "state": "success"},),
        status="AutoScalingGroups[0].Status",
        subject="AutoScalingGroupNames",
    ),
    "warm_pool_deleted": Waiter(
        service="autoscaling",
        operation="DescribeAutoScalingGroups",
        acceptors=(
            {
                "matcher": "path",
                "argument": "length(AutoScalingGroups[?WarmPoolConfiguration])",
                "expected": 0,
                "state": "success",
            },
        ),
        status="AutoScalingGroups[0].WarmPoolConfiguration.Status",
        subject="AutoScalingGroupNames",
    ),
    "instance_refresh_successful": Waiter(
        service="autoscaling",
        operation="DescribeInstanceRefreshes",
        acceptors=(
            _path("Successful", "InstanceRefreshes[0].Status", "success"),
            *(
                _path(status, "InstanceRefreshes[0].Status", "failure")
                for status in ("Failed", "Cancelled", "RollbackFailed", "RollbackSuccessful")
            ),
        ),
        status="InstanceRefreshes[0] && join(' ', [InstanceRefreshes[0].Status, to_string(not_null(InstanceRefreshes[0].PercentageComplete, `0`)), '%'])",
        issues="InstanceRefreshes[].StatusReason",
        subject="AutoScalingGroupName",
        remedy="Correct the cause, then run again: the instances that are left are replaced then.",
    ),
    "network_interfaces_deleted": Waiter(
        service="ec2",
        operation="DescribeNetworkInterfaces",
        acceptors=({"matcher": "path", "argument": "NetworkInterfaces", "expected": [], "state": "success"},),
        status="NetworkInterfaces[0].Status",
        subject="Filters",
    ),
}
