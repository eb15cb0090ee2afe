"""Pod Identity associations: which IAM role the pods of a service account take.

Rules: https://docs.aws.amazon.com/eks/latest/APIReference/API_CreatePodIdentityAssociation.html and
https://docs.aws.amazon.com/eks/latest/userguide/pod-id-association.html.
"""

from __future__ import annotations

import secrets
import string
import typing as t

from lab.aws.eks.account import trusted_services
from lab.aws.eks.context import Context, Params, Result, in_use, invalid_parameter, invalid_request, not_found, operation
from lab.aws.eks.paging import page
from lab.aws.eks.state import Cluster, Document
from lab.aws.eks.tags import checked_tags

SERVICE = "pods.eks.amazonaws.com"
_ID_LETTERS = string.ascii_lowercase + string.digits


@operation("CreatePodIdentityAssociation")
def create_pod_identity_association(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["clusterName"])
    tags = checked_tags(params)
    return {"association": add_association(context, cluster, params, tags)}


def add_association(context: Context, cluster: Cluster, params: Params, tags: dict[str, str], owner_arn: str = "") -> Document:
    """A new association; raises where the service account has one, or EKS could not take the role."""
    namespace, account = params["namespace"], params["serviceAccount"]
    if any((each["namespace"], each["serviceAccount"]) == (namespace, account) for each in cluster.associations.values()):
        raise in_use(f"Association already exists: {namespace}/{account}", clusterName=cluster.name)
    check_pod_role(context, params["roleArn"])
    _check_policy(params)
    name = "a-" + "".join(secrets.choice(_ID_LETTERS) for _unused in range(17))
    document: Document = {
        "clusterName": cluster.name,
        "namespace": namespace,
        "serviceAccount": account,
        "roleArn": params["roleArn"],
        "associationArn": f"arn:aws:eks:{context.region}:{context.account}:podidentityassociation/{cluster.name}/{name}",
        "associationId": name,
        "tags": tags,
        "createdAt": context.now(),
        "modifiedAt": context.now(),
        "disableSessionTags": params.get("disableSessionTags", False),
        "targetRoleArn": params.get("targetRoleArn"),
        "policy": params.get("policy"),
        "externalId": secrets.token_hex(16) if params.get("targetRoleArn") else None,
        "ownerArn": owner_arn or None,
    }
    cluster.associations[name] = document
    return document


def check_pod_role(context: Context, role_arn: str) -> None:
    """Raises InvalidParameterException unless pods can take the role."""
    services = trusted_services(context, role_arn)
    if services is None:
        raise invalid_parameter("Role provided in the request does not exist.")
    if SERVICE not in services:
        raise invalid_parameter(f"Trust policy of role {role_arn} is invalid: it does not trust {SERVICE}.")


def _check_policy(params: Params) -> None:
    """A session policy is for sessions without tags: API_CreatePodIdentityAssociation, policy."""
    if params.get("policy") and not params.get("disableSessionTags"):
        raise invalid_parameter("disableSessionTags must be true when a policy is specified")


@operation("DescribePodIdentityAssociation")
def describe_pod_identity_association(context: Context, params: Params) -> Result:
    return {"association": _association(context, params)[1]}


@operation("ListPodIdentityAssociations")
def list_pod_identity_associations(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["clusterName"])
    wanted = {key: params[key] for key in ("namespace", "serviceAccount") if key in params}
    names, token = page(
        [name for name, each in cluster.associations.items() if all(each[key] == value for key, value in wanted.items())], params
    )
    shown = ("clusterName", "namespace", "serviceAccount", "associationArn", "associationId", "ownerArn")
    return {"associations": [{key: cluster.associations[name][key] for key in shown} for name in names], "nextToken": token}


@operation("UpdatePodIdentityAssociation")
def update_pod_identity_association(context: Context, params: Params) -> Result:
    _cluster, document = _association(context, params)
    _check_owner(document)
    changes: Document = {key: params[key] for key in ("roleArn", "targetRoleArn", "disableSessionTags", "policy") if key in params}
    if "roleArn" in changes:
        check_pod_role(context, changes["roleArn"])
    _check_policy({**document, **changes})
    if changes.get("targetRoleArn") and not document["externalId"]:
        changes["externalId"] = secrets.token_hex(16)
    document.update(changes, modifiedAt=context.now())
    return {"association": document}


@operation("DeletePodIdentityAssociation")
def delete_pod_identity_association(context: Context, params: Params) -> Result:
    cluster, document = _association(context, params)
    _check_owner(document)
    del cluster.associations[document["associationId"]]
    return {"association": document}


def _association(context: Context, params: Params) -> tuple[Cluster, Document]:
    cluster = context.cluster(params["clusterName"])
    name: t.Any = params["associationId"]
    if name not in cluster.associations:
        raise not_found(f"Association not found: {name}", clusterName=cluster.name)
    return cluster, cluster.associations[name]


def _check_owner(document: Document) -> None:
    """What an add-on owns is changed by the add-on (user guide, "Attach an IAM role to an Amazon EKS add-on using Pod Identity")."""
    if document["ownerArn"]:
        raise invalid_request(f"Association {document['associationId']} is owned by {document['ownerArn']}: update the add-on instead.")
