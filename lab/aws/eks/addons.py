"""Add-ons: what is offered, and what a cluster has of it.

Rules: https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateAddon.html, API_UpdateAddon.html, API_Addon.html and the user guide,
"Amazon EKS add-ons". Their objects in Kubernetes are not imitated.
"""

from __future__ import annotations

import functools
import json
import typing as t
import uuid

import jsonschema
import yaml

from lab.aws.eks.account import trusted_services
from lab.aws.eks.addon_catalog import OFFERS, Offer
from lab.aws.eks.context import Context, Params, Result, in_use, invalid_parameter, invalid_request, not_found, operation
from lab.aws.eks.nodegroup_resources import describe_group
from lab.aws.eks.paging import page
from lab.aws.eks.pod_identity import add_association
from lab.aws.eks.state import Addon, Cluster, Document
from lab.aws.eks.tags import checked_tags
from lab.aws.eks.updates import start_update
from lab.aws.eks.versions import versions
from lab.aws.errors import AwsError

_CHANGEABLE = ("ACTIVE", "DEGRADED", "CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED")
_NO_REPLICAS = "The add-on is unhealthy because it doesn't have the desired number of replicas."


@operation("DescribeAddonVersions")
def describe_addon_versions(context: Context, params: Params) -> Result:
    wanted = params.get("kubernetesVersion")
    names = [name for name, offer in OFFERS.items() if params.get("addonName", name) == name and _asked_for(offer, params)]
    chosen, token = page(names, params)
    return {"addons": [_offer_document(OFFERS[name], [wanted] if wanted else list(versions())) for name in chosen], "nextToken": token}


def _asked_for(offer: Offer, params: Params) -> bool:
    facts = {"types": offer.kind, "owners": "aws", "publishers": "eks"}
    return all(value in params[name] for name, value in facts.items() if params.get(name))


def _offer_document(offer: Offer, clusters: list[str]) -> Document:
    known = [version for version in clusters if version in versions()]
    fitting = {version: offer.for_cluster(version) for version in known}
    every = list(dict.fromkeys(name for names in fitting.values() for name in names))
    return {
        "addonName": offer.name,
        "type": offer.kind,
        "owner": "aws",
        "publisher": "eks",
        "defaultNamespace": offer.namespace,
        "addonVersions": [
            {
                "addonVersion": name,
                "architecture": ["amd64", "arm64"],
                "computeTypes": ["ec2"],
                "requiresConfiguration": False,
                "requiresIamPermissions": bool(offer.policies),
                "compatibilities": [
                    {"clusterVersion": version, "platformVersions": ["*"], "defaultVersion": name == offer.default(version)}
                    for version in known
                    if name in fitting[version]
                ],
            }
            for name in every
        ],
    }


@operation("DescribeAddonConfiguration")
def describe_addon_configuration(context: Context, params: Params) -> Result:
    offer = _offer(params["addonName"])
    if not any(params["addonVersion"] in offer.for_cluster(version) for version in versions()):
        raise _unsupported(params["addonVersion"])
    recommended = {"serviceAccount": offer.service_account, "recommendedManagedPolicies": list(offer.policies)}
    return {
        "addonName": offer.name,
        "addonVersion": params["addonVersion"],
        "configurationSchema": offer.schema_text,
        "podIdentityConfiguration": [recommended] if offer.service_account else [],
    }


@operation("CreateAddon")
def create_addon(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["clusterName"])
    offer = _offer(params["addonName"])
    if cluster.status not in ("ACTIVE", "UPDATING"):
        raise invalid_parameter(f"Cluster {cluster.name} is not ACTIVE", clusterName=cluster.name, addonName=offer.name)
    if offer.name in cluster.addons:
        raise in_use("Addon already exists.", clusterName=cluster.name, addonName=offer.name)
    tags = checked_tags(params)
    version = _version(cluster, offer, params.get("addonVersion"))
    _check_configuration(offer, params.get("configurationValues"))
    _check_irsa_role(context, params.get("serviceAccountRoleArn"))
    arn = f"arn:aws:eks:{context.region}:{context.account}:addon/{cluster.name}/{offer.name}/{uuid.uuid4()}"
    namespace = params.get("namespaceConfig", {}).get("namespace", offer.namespace)
    document: Document = {
        "addonName": offer.name,
        "clusterName": cluster.name,
        "status": "CREATING",
        "addonVersion": version,
        "health": {"issues": []},
        "addonArn": arn,
        "createdAt": context.now(),
        "modifiedAt": context.now(),
        "serviceAccountRoleArn": params.get("serviceAccountRoleArn"),
        "tags": tags,
        "owner": "aws",
        "publisher": "eks",
        "configurationValues": params.get("configurationValues"),
        "podIdentityAssociations": [],
        "namespaceConfig": {"namespace": namespace},
    }
    durations = context.environment.durations
    addon = Addon(document, due=context.due_in(durations.addon_create), patience=context.due_in(durations.addon_patience))
    _own_associations(context, cluster, addon, params.get("podIdentityAssociations"))
    cluster.addons[offer.name] = addon
    return {"addon": document}


def _offer(name: str) -> Offer:
    if name not in OFFERS:
        raise invalid_parameter(f"Addon {name} specified is not supported", addonName=name)
    return OFFERS[name]


def _version(cluster: Cluster, offer: Offer, wanted: str | None) -> str:
    offered = offer.for_cluster(cluster.document["version"])
    if wanted is not None and wanted not in offered:
        raise _unsupported(wanted)
    return wanted or offer.default(cluster.document["version"])


def _unsupported(version: str) -> Exception:
    """community.aws and terraform-provider-aws threads quote it so."""
    return invalid_parameter(f"Addon version specified is not supported, AddonVersion: {version}")


def _check_configuration(offer: Offer, text: str | None) -> None:
    """JSON or YAML that the add-on's schema takes (user guide, "Create an Amazon EKS add-on")."""
    if not text:
        return
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise invalid_parameter(f"ConfigurationValue is not in valid JSON or YAML format: {error}", addonName=offer.name) from error
    faults = sorted(jsonschema.Draft7Validator(offer.schema).iter_errors(values), key=lambda fault: fault.json_path)
    if faults:
        said = json.dumps([f"{fault.json_path}: {fault.message}" for fault in faults])
        raise invalid_parameter(
            f"ConfigurationValue provided in request is not supported: Json schema validation failed with error: {said}"
        )


def _check_irsa_role(context: Context, role_arn: str | None) -> None:
    if role_arn and trusted_services(context, role_arn) is None:
        raise invalid_parameter(f"Role {role_arn} does not exist")


def _own_associations(context: Context, cluster: Cluster, addon: Addon, wanted: list[Document] | None) -> None:
    """The add-on's associations become ``wanted``; None leaves them as they are, a refusal too."""
    if wanted is None:
        return
    arn, namespace = addon.document["addonArn"], addon.document["namespaceConfig"]["namespace"]
    owned = {name: each for name, each in cluster.associations.items() if each["ownerArn"] == arn}
    before = dict(cluster.associations)
    try:
        for name in owned:
            del cluster.associations[name]
        made = [add_association(context, cluster, {**each, "namespace": namespace}, {}, arn) for each in wanted]
    except AwsError:
        cluster.associations.clear()
        cluster.associations.update(before)
        raise
    addon.document["podIdentityAssociations"] = [each["associationArn"] for each in made]


@operation("DescribeAddon")
def describe_addon(context: Context, params: Params) -> Result:
    return {"addon": _addon(context, params)[1].document}


@operation("ListAddons")
def list_addons(context: Context, params: Params) -> Result:
    names, token = page(context.cluster(params["clusterName"]).addons, params)
    return {"addons": names, "nextToken": token}


@operation("UpdateAddon")
def update_addon(context: Context, params: Params) -> Result:
    cluster, addon = _addon(context, params)
    offer = _offer(params["addonName"])
    _check_idle(cluster, addon)
    version = _version(cluster, offer, params["addonVersion"]) if "addonVersion" in params else addon.document["addonVersion"]
    _check_configuration(offer, params.get("configurationValues"))
    _check_irsa_role(context, params.get("serviceAccountRoleArn"))
    _own_associations(context, cluster, addon, params.get("podIdentityAssociations"))
    changes = {key: params[key] for key in ("configurationValues", "serviceAccountRoleArn") if key in params}
    names = {"addonVersion": "AddonVersion", "serviceAccountRoleArn": "ServiceAccountRoleArn", "configurationValues": "ConfigurationValues"}
    names |= {"resolveConflicts": "ResolveConflicts", "podIdentityAssociations": "PodIdentityAssociations"}
    shown = {names[key]: value for key, value in params.items() if key in names}
    apply = functools.partial(addon.document.update, addonVersion=version, modifiedAt=context.now(), **changes)
    return {"update": start_update(context, cluster, update_type="AddonUpdate", params=shown, apply=apply, addon=addon)}


@operation("DeleteAddon")
def delete_addon(context: Context, params: Params) -> Result:
    """``preserve`` makes no difference here: there are no objects in Kubernetes. ResourceInUseException is not among its errors."""
    cluster, addon = _addon(context, params)
    if addon.status not in _CHANGEABLE:
        raise invalid_request(_busy(addon), clusterName=cluster.name, addonName=params["addonName"])
    addon.status, addon.due = "DELETING", context.due_in(context.environment.durations.addon_delete)
    return {"addon": addon.document}


def _addon(context: Context, params: Params) -> tuple[Cluster, Addon]:
    cluster = context.cluster(params["clusterName"])
    name: t.Any = params["addonName"]
    if name not in cluster.addons:
        raise not_found(f"No addon: {name} found in cluster: {cluster.name}", clusterName=cluster.name, addonName=name)
    return cluster, cluster.addons[name]


def _check_idle(cluster: Cluster, addon: Addon) -> None:
    if addon.status not in _CHANGEABLE:
        raise in_use(_busy(addon), clusterName=cluster.name, addonName=addon.document["addonName"])


def _busy(addon: Addon) -> str:
    return f"Addon {addon.document['addonName']} cannot be updated as it is currently in {addon.status} state"


def advance_addon(context: Context, cluster: Cluster, addon: Addon, now: float) -> None:
    """Bring an add-on to what the clock says."""
    name = addon.document["addonName"]
    if addon.status == "DELETING":
        if addon.due is not None and addon.due <= now:
            del cluster.addons[name]
            for association in [
                each for each, document in cluster.associations.items() if document["ownerArn"] == addon.document["addonArn"]
            ]:
                del cluster.associations[association]
        return
    if addon.status == "UPDATING" or addon.status.endswith("_FAILED") or (addon.due is not None and addon.due > now):
        return
    _judge(context, cluster, addon, now)


def _judge(context: Context, cluster: Cluster, addon: Addon, now: float) -> None:
    """CREATING until its replicas are there or its time is over; DEGRADED comes and goes with them."""
    name = addon.document["addonName"]
    fault = context.environment.faults.for_addon(cluster.name, name)
    lacks = OFFERS[name].needs_nodes and not _has_nodes(context, cluster)
    failed = fault is not None and fault.rule.get("status") == "CREATE_FAILED"
    if fault is not None and (addon.status == "CREATING" or not failed):
        code, message = str(fault.rule.get("code", "InternalFailure")), str(fault.rule.get("message", "Injected by the lab."))
        addon.status = str(fault.rule.get("status", "DEGRADED"))
    elif lacks and addon.status == "CREATING" and now < addon.patience:
        return
    elif lacks:
        code, message, addon.status = "InsufficientNumberOfReplicas", _NO_REPLICAS, "DEGRADED"
    else:
        addon.status = "ACTIVE"
        code = message = ""
    addon.document["health"] = {"issues": [{"code": code, "message": message, "resourceIds": []}] if code else []}
    addon.due = now + context.environment.durations.health_check


def _has_nodes(context: Context, cluster: Cluster) -> bool:
    groups = (describe_group(context, nodegroup.resources) for nodegroup in cluster.nodegroups.values())
    return any(group is not None and group["Instances"] for group in groups)
