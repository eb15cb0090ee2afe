"""Updates: at most one in flight for a cluster, and for each of its node groups."""

from __future__ import annotations

import json
import typing as t
import uuid

from lab.aws.eks.context import Context, Params, Result, in_use, not_found, operation
from lab.aws.eks.paging import page
from lab.aws.eks.state import Addon, Cluster, Document, Nodegroup, Update


def check_cluster_idle(cluster: Cluster, update_type: str) -> None:
    """Raises ResourceInUseException unless the cluster can take an update (ACK community#1192, cloud-custodian#9250)."""
    running = cluster.update_in_flight()
    if running is not None:
        message = f"Cannot {update_type} because cluster {cluster.name} currently has update {running.document['id']} in progress"
        raise in_use(message, clusterName=cluster.name)
    if cluster.status != "ACTIVE":
        raise in_use(
            f"Cannot {update_type} because cluster {cluster.name} currently is in {cluster.status} status", clusterName=cluster.name
        )


def check_nodegroup_idle(cluster: Cluster, nodegroup: Nodegroup) -> None:
    """Raises ResourceInUseException unless the node group can take an update (karpenter-provider-aws#133, containers-roadmap#2204).

    DEGRADED groups can be updated: that is how their problem is solved.
    """
    name = nodegroup.document["nodegroupName"]
    if nodegroup.status not in ("ACTIVE", "DEGRADED"):
        message = "Nodegroup cannot be updated as it is currently not in Active State"
        raise in_use(message, clusterName=cluster.name, nodegroupName=name)


def start_update(
    context: Context,
    cluster: Cluster,
    *,
    update_type: str,
    params: dict[str, t.Any],
    apply: t.Callable[[], float | None],
    nodegroup: Nodegroup | None = None,
    addon: Addon | None = None,
) -> Document:
    """Put an update in flight; ``apply`` runs at its end, and again after so many seconds as it returns. Returns the update's document."""
    durations = context.environment.durations
    document: Document = {
        "id": str(uuid.uuid4()),
        "status": "InProgress",
        "type": update_type,
        "params": [{"type": name, "value": value if isinstance(value, str) else json.dumps(value)} for name, value in params.items()],
        "createdAt": context.now(),
        "errors": [],
    }
    update = Update(document, context.due_in(durations.cluster_update), apply=apply)
    if nodegroup is not None:
        nodegroup.status = "UPDATING"
        update.due, update.nodegroup = context.due_in(durations.nodegroup_update), str(nodegroup.document["nodegroupName"])
    elif addon is not None:
        addon.status = "UPDATING"
        update.due, update.addon = context.due_in(durations.addon_update), str(addon.document["addonName"])
    else:
        cluster.status = "UPDATING"
    cluster.updates[document["id"]] = update
    return document


@operation("DescribeUpdate")
def describe_update(context: Context, params: Params) -> Result:
    cluster = _cluster(context, params)
    update = cluster.updates.get(params["updateId"])
    if update is None or (update.nodegroup, update.addon) != _scope(params):
        raise not_found(f"No update found for ID: {params['updateId']}", clusterName=cluster.name)
    return {"update": update.document}


@operation("ListUpdates")
def list_updates(context: Context, params: Params) -> Result:
    cluster = _cluster(context, params)
    scope = _scope(params)
    ids, token = page([name for name, update in cluster.updates.items() if (update.nodegroup, update.addon) == scope], params)
    return {"updateIds": ids, "nextToken": token}


def _scope(params: Params) -> tuple[str, str]:
    """The node group or the add-on whose updates are meant; neither: those of the cluster."""
    return params.get("nodegroupName", ""), params.get("addonName", "")


def _cluster(context: Context, params: Params) -> Cluster:
    if "nodegroupName" in params:
        return context.nodegroup(params["name"], params["nodegroupName"])[0]
    return context.cluster(params["name"])
