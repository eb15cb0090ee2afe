"""What happens by itself: time passes, control planes come up, groups lose instances."""

from __future__ import annotations

import base64
import logging

from botocore.exceptions import ClientError

from lab.aws.eks.addons import advance_addon
from lab.aws.eks.clusters import remove_cluster
from lab.aws.eks.context import Context, Environment
from lab.aws.eks.encryption import judge_key
from lab.aws.eks.nodegroup_resources import describe_group, last_failure
from lab.aws.eks.nodegroups import remove_nodegroup
from lab.aws.eks.state import Cluster, Document, Nodegroup, Update
from lab.aws.errors import AwsError
from lab.contracts import ControlPlaneFailed

_log = logging.getLogger(__name__)


def advance(environment: Environment) -> None:
    """Bring every cluster to what the clock says. The caller holds the state's lock."""
    for cluster in list(environment.state.clusters.values()):
        context = Context(environment=environment, account=cluster.ref.account, region=cluster.ref.region, caller_arn="eks.amazonaws.com")
        _advance_cluster(context, cluster)


def _advance_cluster(context: Context, cluster: Cluster) -> None:
    now = context.environment.clock.seconds()
    for update in list(cluster.updates.values()):
        while update.in_progress and update.due <= now:
            _advance_update(context, cluster, update)
    for nodegroup in list(cluster.nodegroups.values()):
        _advance_nodegroup(context, cluster, nodegroup, now)
    for addon in list(cluster.addons.values()):
        advance_addon(context, cluster, addon, now)
    if cluster.status == "ACTIVE" and cluster.next_health_check <= now:
        cluster.next_health_check = now + context.environment.durations.health_check
        judge_key(context, cluster)
    if cluster.due is None or cluster.due > now:
        return
    if cluster.status == "CREATING":
        _finish_creation(context, cluster)
    elif cluster.status == "DELETING" and cluster.stopped.is_set():
        remove_cluster(context, cluster)


def _finish_creation(context: Context, cluster: Cluster) -> None:
    """ACTIVE once the control plane answers, FAILED when it does not come up."""
    try:
        endpoint = context.environment.control_planes.endpoint(cluster.ref)
    except ControlPlaneFailed as error:
        _log.error("control plane of %s failed: %s", cluster.name, error)
        cluster.status, cluster.due = "FAILED", None
        cluster.document["health"] = {"issues": [{"code": "InternalFailure", "message": str(error), "resourceIds": []}]}
        return
    if endpoint is None:
        return
    cluster.document["endpoint"] = endpoint.url
    cluster.document["certificateAuthority"] = {"data": base64.b64encode(endpoint.certificate_authority_pem).decode()}
    cluster.status, cluster.due = "ACTIVE", None


def _advance_update(context: Context, cluster: Cluster, update: Update) -> None:
    """The update's next step; the end of it when no other follows."""
    error, more = _update_step(context, cluster, update)
    if more is not None:
        update.due, update.steps = update.due + more, update.steps + 1
        return
    if error is None:
        update.document["status"] = "Successful"
    else:
        update.document.update(status="Failed", errors=[{**error, "resourceIds": [update.nodegroup or update.addon or cluster.name]}])
    nodegroup, addon = cluster.nodegroups.get(update.nodegroup), cluster.addons.get(update.addon)
    if nodegroup is not None:
        nodegroup.status = "ACTIVE"
        nodegroup.next_health_check = 0.0
    elif addon is not None:
        addon.status = "ACTIVE" if error is None else "UPDATE_FAILED"
        addon.due = 0.0
    elif not (update.nodegroup or update.addon):
        cluster.status = "ACTIVE"


def _update_step(context: Context, cluster: Cluster, update: Update) -> tuple[Document | None, float | None]:
    """Carry the update out: why it failed, None when it did not; and the seconds to its next step, None when there is none."""
    fault = context.environment.faults.for_update(cluster.name, update.nodegroup, update.document["type"]) if not update.steps else None
    if fault is not None:
        return {"errorCode": fault.rule.get("code", "Unknown"), "errorMessage": fault.rule.get("message", "Injected by the lab.")}, None
    try:
        return None, update.apply()
    except ClientError as error:
        return {"errorCode": "Unknown", "errorMessage": str(error)}, None
    except AwsError as error:
        return {"errorCode": error.code, "errorMessage": error.message}, None


def _advance_nodegroup(context: Context, cluster: Cluster, nodegroup: Nodegroup, now: float) -> None:
    if nodegroup.status == "CREATING" and nodegroup.due is not None and nodegroup.due <= now:
        nodegroup.due = None
        _judge_health(context, nodegroup, unhealthy="CREATE_FAILED")
    elif nodegroup.status == "DELETING" and nodegroup.due is not None and nodegroup.due <= now:
        remove_nodegroup(context, cluster, nodegroup)
    elif nodegroup.status in ("ACTIVE", "DEGRADED") and nodegroup.next_health_check <= now:
        nodegroup.next_health_check = now + context.environment.durations.health_check
        _judge_health(context, nodegroup, unhealthy="DEGRADED")


def _judge_health(context: Context, nodegroup: Nodegroup, unhealthy: str) -> None:
    issues = _issues(context, nodegroup)
    nodegroup.document["health"] = {"issues": issues}
    nodegroup.status = unhealthy if issues else "ACTIVE"


def _issues(context: Context, nodegroup: Nodegroup) -> list[Document]:
    """https://docs.aws.amazon.com/eks/latest/APIReference/API_Issue.html"""
    if nodegroup.defect is not None:
        return [nodegroup.defect]
    name = nodegroup.resources.auto_scaling_group
    group = describe_group(context, nodegroup.resources)
    if group is None:
        message = f"We couldn't find the Auto Scaling group associated with the managed node group: {name}"
        return [{"code": "AutoScalingGroupNotFound", "message": message, "resourceIds": [name]}]
    nodegroup.document["scalingConfig"] = {
        "minSize": group["MinSize"],
        "maxSize": group["MaxSize"],
        "desiredSize": group["DesiredCapacity"],
    }
    if len(group["Instances"]) >= group["DesiredCapacity"]:
        return []
    failure = last_failure(context, name)
    return [{"code": "AsgInstanceLaunchFailures", "message": failure, "resourceIds": [name]}] if failure else []
