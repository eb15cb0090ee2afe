"""Managed node groups: create, describe, list, update, delete."""

from __future__ import annotations

import dataclasses
import functools
import typing as t
import uuid

from lab.aws.eks.access import add_entry
from lab.aws.eks.context import Context, Params, Result, in_use, invalid_parameter, operation
from lab.aws.eks.nodegroup_resources import (
    DEFAULT_DISK_GIB,
    change_template,
    create_resources,
    delete_resources,
    resize_group,
    schedule_block_end,
    set_warm_pool,
    template_data,
)
from lab.aws.eks.nodegroup_rollout import Rollout
from lab.aws.eks.nodegroup_rules import (
    CheckedNodegroup,
    check_image_kept,
    check_labels,
    check_nodegroup,
    check_repair_config,
    check_taints,
    check_update_config,
    check_warm_pool,
    checked_image,
    checked_scaling,
    read_template,
    template_defect,
)
from lab.aws.eks.paging import page
from lab.aws.eks.state import Cluster, Document, Nodegroup
from lab.aws.eks.tags import checked_tags
from lab.aws.eks.updates import check_nodegroup_idle, start_update
from lab.aws.errors import AwsError
from lab.aws.images import Image


@operation("CreateNodegroup")
def create_nodegroup(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["clusterName"])
    tags = checked_tags(params)
    checked = check_nodegroup(context, cluster, params)
    defect = template_defect(checked.template, checked.ami_type)
    nothing = {"minSize": 0, "maxSize": checked.scaling["maxSize"], "desiredSize": 0}
    resources = create_resources(context, cluster, params, dataclasses.replace(checked, scaling=nothing) if defect else checked)
    if "warmPoolConfig" in params:
        set_warm_pool(context, resources, params["warmPoolConfig"])
    if checked.capacity_type == "CAPACITY_BLOCK" and checked.template is not None:
        schedule_block_end(context, resources, checked.template)
    document = _document(context, cluster, params, checked, resources.auto_scaling_group, tags)
    due = context.due_in(context.environment.durations.nodegroup_create)
    cluster.nodegroups[params["nodegroupName"]] = Nodegroup(document, resources, due, defect=defect)
    if cluster.authentication_mode != "CONFIG_MAP":
        add_entry(context, cluster, params["nodeRole"], entry_type="EC2_LINUX")
    return {"nodegroup": document}


def _document(
    context: Context, cluster: Cluster, params: Params, checked: CheckedNodegroup, group_name: str, tags: dict[str, str]
) -> Document:
    name, version = params["nodegroupName"], cluster.document["version"]
    template = checked.template
    arn = f"arn:aws:eks:{context.region}:{context.account}:nodegroup/{cluster.name}/{name}/{uuid.uuid4()}"
    from_template = template is not None and "InstanceType" in template["data"]
    return {
        "nodegroupName": name,
        "nodegroupArn": arn,
        "clusterName": cluster.name,
        "version": version,
        "releaseVersion": _release_version(context, checked.image, template),
        "createdAt": context.now(),
        "modifiedAt": context.now(),
        "status": "CREATING",
        "capacityType": checked.capacity_type,
        "scalingConfig": checked.scaling,
        "instanceTypes": None if from_template else checked.instance_types,
        "subnets": [subnet.id for subnet in checked.subnets],
        "remoteAccess": params.get("remoteAccess"),
        "amiType": checked.ami_type,
        "nodeRole": params["nodeRole"],
        "labels": params.get("labels", {}),
        "taints": params.get("taints"),
        "resources": {"autoScalingGroups": [{"name": group_name}]},
        "diskSize": None if template else params.get("diskSize", DEFAULT_DISK_GIB),
        "health": {"issues": []},
        "updateConfig": {"updateStrategy": "DEFAULT", **(params.get("updateConfig") or {"maxUnavailable": 1})},
        "nodeRepairConfig": params.get("nodeRepairConfig"),
        "launchTemplate": {name: template[name] for name in ("id", "name", "version")} if template else None,
        "warmPoolConfig": params.get("warmPoolConfig"),
        "tags": tags,
    }


def _release_version(context: Context, image: Image | None, template: Document | None) -> str:
    """The image's release, or the image id where it is the caller's own."""
    if image is not None:
        return image.release_version
    return str(template["data"]["ImageId"]) if template else ""


@operation("DescribeNodegroup")
def describe_nodegroup(context: Context, params: Params) -> Result:
    return {"nodegroup": context.nodegroup(params["clusterName"], params["nodegroupName"])[1].document}


@operation("ListNodegroups")
def list_nodegroups(context: Context, params: Params) -> Result:
    names, token = page(context.cluster(params["clusterName"]).nodegroups, params)
    return {"nodegroups": names, "nextToken": token}


@operation("UpdateNodegroupConfig")
def update_nodegroup_config(context: Context, params: Params) -> Result:
    """Labels, taints, sizes, update and repair settings together; a call without any of them is refused."""
    cluster, nodegroup = context.nodegroup(params["clusterName"], params["nodegroupName"])
    fields = ("labels", "taints", "scalingConfig", "updateConfig", "nodeRepairConfig", "warmPoolConfig")
    if not any(params.get(field) for field in fields):
        raise invalid_parameter(
            "At least one of the following must be specified: " + ", ".join(fields), nodegroupName=params["nodegroupName"]
        )
    check_nodegroup_idle(cluster, nodegroup)
    changes = _config_changes(nodegroup.document, params)
    update = start_update(
        context,
        cluster,
        update_type="ConfigUpdate",
        params=_config_params(params),
        apply=functools.partial(_apply_config, context, nodegroup, changes),
        nodegroup=nodegroup,
    )
    return {"update": update}


def _config_changes(before: Document, params: Params) -> Document:
    changes: Document = {}
    if "labels" in params:
        changes["labels"] = _merge_labels(before["labels"], params["labels"])
    if "taints" in params:
        changes["taints"] = _merge_taints(before["taints"] or [], params["taints"])
    if "scalingConfig" in params:
        changes["scalingConfig"] = checked_scaling(params["scalingConfig"], before["scalingConfig"])
    if "updateConfig" in params:
        check_update_config(params["updateConfig"])
        changes["updateConfig"] = _merge_update_config(before["updateConfig"], params["updateConfig"])
    if "nodeRepairConfig" in params:
        check_repair_config(params["nodeRepairConfig"])
        changes["nodeRepairConfig"] = {**(before["nodeRepairConfig"] or {}), **params["nodeRepairConfig"]}
    if "warmPoolConfig" in params:
        changes["warmPoolConfig"] = {**(before["warmPoolConfig"] or {}), **params["warmPoolConfig"]}
        check_warm_pool(changes["warmPoolConfig"], before["amiType"], before["capacityType"])
    return changes


def _merge_labels(before: dict[str, str], change: dict[str, t.Any]) -> dict[str, str]:
    removed = change.get("removeLabels", [])
    labels = {key: value for key, value in before.items() if key not in removed} | change.get("addOrUpdateLabels", {})
    check_labels(labels)
    return labels


def _merge_taints(before: list[dict[str, str]], change: dict[str, t.Any]) -> list[dict[str, str]]:
    def identity(taint: dict[str, str]) -> tuple[str, str]:
        return taint["key"], taint["effect"]

    added = change.get("addOrUpdateTaints", [])
    check_taints(added)
    dropped = {identity(taint) for taint in [*added, *change.get("removeTaints", [])]}
    taints = [taint for taint in before if identity(taint) not in dropped] + added
    check_taints(taints)
    return taints


def _merge_update_config(before: dict[str, t.Any], change: dict[str, t.Any]) -> dict[str, t.Any]:
    sizes = {"maxUnavailable", "maxUnavailablePercentage"}
    kept = {name: value for name, value in before.items() if not (name in sizes and sizes & change.keys())}
    return {**kept, **change}


def _config_params(params: Params) -> dict[str, t.Any]:
    """The update's params by UpdateParamType."""
    named: dict[str, t.Any] = {}
    labels, taints, scaling = params.get("labels", {}), params.get("taints", {}), params.get("scalingConfig", {})
    pairs = (
        ("LabelsToAdd", labels.get("addOrUpdateLabels")),
        ("LabelsToRemove", labels.get("removeLabels")),
        ("TaintsToAdd", taints.get("addOrUpdateTaints")),
        ("TaintsToRemove", taints.get("removeTaints")),
        ("MinSize", scaling.get("minSize")),
        ("MaxSize", scaling.get("maxSize")),
        ("DesiredSize", scaling.get("desiredSize")),
        ("MaxUnavailable", params.get("updateConfig", {}).get("maxUnavailable")),
        ("MaxUnavailablePercentage", params.get("updateConfig", {}).get("maxUnavailablePercentage")),
        ("UpdateStrategy", params.get("updateConfig", {}).get("updateStrategy")),
        ("NodeRepairConfig", params.get("nodeRepairConfig")),
        ("WarmPoolEnabled", params.get("warmPoolConfig", {}).get("enabled")),
        ("WarmPoolMinSize", params.get("warmPoolConfig", {}).get("minSize")),
        ("WarmPoolMaxGroupPreparedCapacity", params.get("warmPoolConfig", {}).get("maxGroupPreparedCapacity")),
        ("WarmPoolState", params.get("warmPoolConfig", {}).get("poolState")),
        ("WarmPoolReuseOnScaleIn", params.get("warmPoolConfig", {}).get("reuseOnScaleIn")),
    )
    named.update({name: value for name, value in pairs if value is not None})
    return named


def _apply_config(context: Context, nodegroup: Nodegroup, changes: Document) -> None:
    nodegroup.document.update(changes, modifiedAt=context.now())
    if "scalingConfig" in changes:
        resize_group(context, nodegroup.resources, changes["scalingConfig"])
    if "warmPoolConfig" in changes:
        set_warm_pool(context, nodegroup.resources, changes["warmPoolConfig"])


@operation("UpdateNodegroupVersion")
def update_nodegroup_version(context: Context, params: Params) -> Result:
    """A newer release or another version of the same launch template; the cluster's Kubernetes version only where it is asked for.

    API UpdateNodegroupVersion: without a version the group stays at its own, and takes the newest release of that.
    """
    cluster, nodegroup = context.nodegroup(params["clusterName"], params["nodegroupName"])
    check_nodegroup_idle(cluster, nodegroup)
    document = nodegroup.document
    template = _next_template(context, document, params.get("launchTemplate"))
    check_image_kept(template, document["amiType"])
    if document["amiType"] == "CUSTOM" and ("version" in params or "releaseVersion" in params):
        raise invalid_parameter(
            "You cannot specify kubernetesVersion or releaseVersion when specifying an image id in your launch template."
        )
    image = checked_image(cluster, document["amiType"], params.get("version"), params.get("releaseVersion"), kept=document["version"])
    release = _release_version(context, image, template)
    version = cluster.document["version"] if image is None else params.get("version", document["version"])
    named = {"Version": version, "ReleaseVersion": release}
    if template is not None:
        named |= {"LaunchTemplateName": template["name"], "LaunchTemplateVersion": template["version"]}
    update = start_update(
        context,
        cluster,
        update_type="VersionUpdate",
        params=named,
        apply=_rollout(context, cluster, nodegroup, template, image, {"version": version, "releaseVersion": release}),
        nodegroup=nodegroup,
    )
    return {"update": update}


def _next_template(context: Context, document: Document, specification: dict[str, str] | None) -> Document | None:
    """The launch template in force after the update: its id and name cannot change."""
    before = document["launchTemplate"]
    if specification is None:
        return read_template(context, {"id": before["id"], "version": before["version"]}) if before else None
    if before is None:
        raise invalid_parameter("A launch template cannot be added to a node group that was created without one.")
    template = read_template(context, specification)
    if template["id"] != before["id"]:
        raise invalid_parameter(f"You cannot change the launch template of a node group from {before['id']} to {template['id']}")
    return template


def _rollout(
    context: Context, cluster: Cluster, nodegroup: Nodegroup, template: Document | None, image: Image | None, changes: Document
) -> Rollout:
    document, resources = nodegroup.document, nodegroup.resources

    def prepare() -> str:
        defect = template_defect(template, document["amiType"])
        if defect is not None:
            raise AwsError("Unknown", f"{defect['code']}: {defect['message']}")
        image_id = image.id(context.region) if image else None
        disk = document["diskSize"] or DEFAULT_DISK_GIB
        data = template_data(cluster, document["nodegroupName"], template, image_id, resources.instance_profile, disk)
        types = document["instanceTypes"] or [data["InstanceType"]]
        return change_template(context, resources, data, types, document["capacityType"])

    def finish() -> None:
        document.update(changes, modifiedAt=context.now())
        nodegroup.defect = None
        if template is not None:
            document["launchTemplate"] = {name: template[name] for name in ("id", "name", "version")}

    return Rollout(context, nodegroup, prepare, finish)


@operation("DeleteNodegroup")
def delete_nodegroup(context: Context, params: Params) -> Result:
    cluster, nodegroup = context.nodegroup(params["clusterName"], params["nodegroupName"])
    name = params["nodegroupName"]
    if nodegroup.status in ("DELETING", "CREATING", "UPDATING"):
        message = f"Nodegroup cannot be deleted as it is currently in {nodegroup.status} State"
        raise in_use(message, clusterName=cluster.name, nodegroupName=name)
    nodegroup.status = "DELETING"
    nodegroup.due = context.due_in(context.environment.durations.nodegroup_delete)
    return {"nodegroup": nodegroup.document}


def remove_nodegroup(context: Context, cluster: Cluster, nodegroup: Nodegroup) -> None:
    """The end of a deletion: Auto Scaling group with its instances, launch template and instance profile go."""
    delete_resources(context, nodegroup.document, nodegroup.resources)
    del cluster.nodegroups[nodegroup.document["nodegroupName"]]


@operation("ListFargateProfiles")
def list_fargate_profiles(context: Context, params: Params) -> Result:
    """None: the lab has no Fargate, and whoever looks for what keeps a cluster from going has to be answered."""
    context.cluster(params["clusterName"])
    return {"fargateProfileNames": []}
