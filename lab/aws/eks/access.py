"""Access entries and their policies, and what they make of a principal.

Source: https://docs.aws.amazon.com/eks/latest/userguide/access-entries.html and access-policy-permissions.html
"""

from __future__ import annotations

import uuid

from lab.aws.eks.account import principal_exists
from lab.aws.eks.context import Context, Params, Result, in_use, invalid_parameter, invalid_request, not_found, operation
from lab.aws.eks.paging import page
from lab.aws.eks.state import AccessEntry, Cluster, Document
from lab.aws.eks.tags import checked_tags
from lab.contracts import AccessIdentity

POLICY_PREFIX = "arn:aws:eks::aws:cluster-access-policy/"
ADMIN_POLICY = "AmazonEKSClusterAdminPolicy"
POLICIES = (
    "AmazonEKSAdminPolicy",
    "AmazonEKSAdminViewPolicy",
    "AmazonEKSAutoNodePolicy",
    "AmazonEKSClusterAdminPolicy",
    "AmazonEKSEditPolicy",
    "AmazonEKSViewPolicy",
)
# Types whose username and groups EKS sets; they take neither groups nor policies of the caller's.
NODE_TYPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "EC2_LINUX": ("system:node:{{EC2PrivateDNSName}}", ("system:nodes",)),
    "EC2_WINDOWS": ("system:node:{{EC2PrivateDNSName}}", ("system:nodes", "eks:kube-proxy-windows")),
    "FARGATE_LINUX": ("system:node:{{SessionName}}", ("system:bootstrappers", "system:nodes", "system:node-proxier")),
    "HYBRID_LINUX": ("system:node:{{SessionName}}", ("system:nodes",)),
    "HYPERPOD_LINUX": ("system:node:{{SessionName}}", ("system:nodes",)),
    "EC2": ("system:node:{{EC2PrivateDNSName}}", ("system:nodes",)),
}
_RESERVED_PREFIXES = ("system:", "eks:", "aws:", "amazon:", "iam:")


def _check_mode(cluster: Cluster) -> None:
    if cluster.authentication_mode == "CONFIG_MAP":
        message = "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation."
        raise invalid_request(message, clusterName=cluster.name)


def _entry(context: Context, params: Params) -> tuple[Cluster, AccessEntry]:
    cluster = context.cluster(params["clusterName"])
    _check_mode(cluster)
    principal = params["principalArn"]
    if principal not in cluster.access_entries:
        message = f"The specified principalArn could not be found. You may want to create an access entry for {principal}."
        raise not_found(message, clusterName=cluster.name)
    return cluster, cluster.access_entries[principal]


def add_entry(context: Context, cluster: Cluster, principal_arn: str, *, entry_type: str = "STANDARD", policy: str | None = None) -> None:
    """An entry that EKS itself makes (creator, node role), unless the principal has one."""
    if principal_arn in cluster.access_entries:
        return
    entry = AccessEntry(_document(context, cluster, {"principalArn": principal_arn, "type": entry_type}))
    if policy is not None:
        entry.policies[POLICY_PREFIX + policy] = _association(context, POLICY_PREFIX + policy, {"type": "cluster", "namespaces": []})
    cluster.access_entries[principal_arn] = entry


def enter_api_mode(context: Context, cluster: Cluster) -> None:
    """The entries that EKS makes itself once access entries are in force: the creator's, and those of managed node groups' roles."""
    if cluster.bootstrap_creator_admin:
        add_entry(context, cluster, cluster.creator_arn, policy=ADMIN_POLICY)
    for nodegroup in cluster.nodegroups.values():
        add_entry(context, cluster, nodegroup.document["nodeRole"], entry_type="EC2_LINUX")


def _document(context: Context, cluster: Cluster, params: Params) -> Document:
    principal = str(params["principalArn"])
    entry_type = str(params.get("type", "STANDARD"))
    if entry_type in NODE_TYPES:
        username, groups = NODE_TYPES[entry_type]
    else:
        username, groups = params.get("username") or _default_username(principal), tuple(params.get("kubernetesGroups", ()))
    account, kind, name = _principal_parts(principal)
    arn = f"arn:aws:eks:{cluster.ref.region}:{cluster.ref.account}:access-entry/{cluster.name}/{kind}/{account}/{name}/{uuid.uuid4()}"
    return {
        "clusterName": cluster.name,
        "principalArn": principal,
        "kubernetesGroups": list(groups),
        "accessEntryArn": arn,
        "createdAt": context.now(),
        "modifiedAt": context.now(),
        "tags": checked_tags(params),
        "username": username,
        "type": entry_type,
    }


def _principal_parts(principal_arn: str) -> tuple[str, str, str]:
    account, _, path = principal_arn.partition("::")[2].partition(":")
    kind, _, name = path.partition("/")
    return account, kind, name.rpartition("/")[2]


def _default_username(principal_arn: str) -> str:
    account, kind, name = _principal_parts(principal_arn)
    return f"arn:aws:sts::{account}:assumed-role/{name}/{{{{SessionName}}}}" if kind == "role" else principal_arn


def _check_names(params: Params) -> None:
    for group in params.get("kubernetesGroups", []):
        if group.startswith(_RESERVED_PREFIXES):
            raise invalid_parameter(f"The kubernetes group name {group} is invalid, it cannot start with {', '.join(_RESERVED_PREFIXES)}")
    username = str(params.get("username", ""))
    if username.startswith(_RESERVED_PREFIXES):
        raise invalid_parameter(f"The username {username} is invalid, it cannot start with {', '.join(_RESERVED_PREFIXES)}")


@operation("CreateAccessEntry")
def create_access_entry(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["clusterName"])
    _check_mode(cluster)
    if params["principalArn"] in cluster.access_entries:
        raise in_use("The specified access entry resource is already in use on this cluster.", clusterName=cluster.name)
    entry_type = params.get("type", "STANDARD")
    if entry_type != "STANDARD" and entry_type not in NODE_TYPES:
        raise invalid_parameter(f"The access entry type {entry_type} is invalid.")
    if entry_type != "STANDARD" and (params.get("kubernetesGroups") or params.get("username")):
        raise invalid_parameter(f"An access entry of type {entry_type} cannot have kubernetesGroups or a username.")
    _check_names(params)
    if not principal_exists(context, params["principalArn"]):
        raise invalid_parameter("The specified principalArn is invalid: invalid principal.", clusterName=cluster.name)
    entry = AccessEntry(_document(context, cluster, params))
    cluster.access_entries[params["principalArn"]] = entry
    return {"accessEntry": entry.document}


@operation("DescribeAccessEntry")
def describe_access_entry(context: Context, params: Params) -> Result:
    return {"accessEntry": _entry(context, params)[1].document}


@operation("ListAccessEntries")
def list_access_entries(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["clusterName"])
    _check_mode(cluster)
    policy = params.get("associatedPolicyArn")
    arns = [arn for arn, entry in cluster.access_entries.items() if policy is None or policy in entry.policies]
    chosen, token = page(arns, params)
    return {"accessEntries": chosen, "nextToken": token}


@operation("UpdateAccessEntry")
def update_access_entry(context: Context, params: Params) -> Result:
    _, entry = _entry(context, params)
    changed: Params = {name: params[name] for name in ("kubernetesGroups", "username") if name in params}
    if changed and entry.document["type"] != "STANDARD":
        raise invalid_parameter(f"An access entry of type {entry.document['type']} cannot have kubernetesGroups or a username.")
    _check_names(params)
    entry.document.update(changed, modifiedAt=context.now())
    return {"accessEntry": entry.document}


@operation("DeleteAccessEntry")
def delete_access_entry(context: Context, params: Params) -> Result:
    cluster, _ = _entry(context, params)
    del cluster.access_entries[params["principalArn"]]
    return {}


@operation("AssociateAccessPolicy")
def associate_access_policy(context: Context, params: Params) -> Result:
    cluster, entry = _entry(context, params)
    if entry.document["type"] != "STANDARD":
        raise invalid_parameter(f"An access policy cannot be associated with an access entry of type {entry.document['type']}.")
    arn, scope = str(params["policyArn"]), params["accessScope"]
    if not arn.startswith(POLICY_PREFIX) or arn.removeprefix(POLICY_PREFIX) not in POLICIES:
        raise invalid_parameter("The policyArn parameter format is not valid", clusterName=cluster.name)
    if (scope.get("type", "cluster") == "namespace") != bool(scope.get("namespaces")):
        raise invalid_parameter("Namespaces are required for an access scope of type namespace, and forbidden for type cluster.")
    previous = entry.policies.get(arn)
    entry.policies[arn] = _association(
        context, arn, {"type": scope.get("type", "cluster"), "namespaces": list(scope.get("namespaces", []))}
    )
    if previous is not None:
        entry.policies[arn]["associatedAt"] = previous["associatedAt"]
    return {"clusterName": cluster.name, "principalArn": params["principalArn"], "associatedAccessPolicy": entry.policies[arn]}


def _association(context: Context, policy_arn: str, scope: Document) -> Document:
    return {"policyArn": policy_arn, "accessScope": scope, "associatedAt": context.now(), "modifiedAt": context.now()}


@operation("DisassociateAccessPolicy")
def disassociate_access_policy(context: Context, params: Params) -> Result:
    cluster, entry = _entry(context, params)
    if params["policyArn"] not in entry.policies:
        raise not_found(f"No policy association found for {params['policyArn']}", clusterName=cluster.name)
    del entry.policies[params["policyArn"]]
    return {}


@operation("ListAssociatedAccessPolicies")
def list_associated_access_policies(context: Context, params: Params) -> Result:
    cluster, entry = _entry(context, params)
    arns, token = page(entry.policies, params)
    policies = [entry.policies[arn] for arn in arns]
    return {"clusterName": cluster.name, "principalArn": params["principalArn"], "associatedAccessPolicies": policies, "nextToken": token}


@operation("ListAccessPolicies")
def list_access_policies(context: Context, params: Params) -> Result:
    names, token = page(POLICIES, params)
    return {"accessPolicies": [{"name": name, "arn": POLICY_PREFIX + name} for name in names], "nextToken": token}


def identity_of(cluster: Cluster, principal_arn: str) -> AccessIdentity | None:
    """What the cluster makes of a principal; None: not let in.

    In CONFIG_MAP mode there are no entries: the creator alone is in, by a mapping that no API shows.
    """
    if cluster.authentication_mode == "CONFIG_MAP":
        if principal_arn == cluster.creator_arn and cluster.bootstrap_creator_admin:
            return AccessIdentity(principal_arn=principal_arn, username="kubernetes-admin", groups=("system:masters",), policies=())
        return None
    entry = cluster.access_entries.get(principal_arn)
    if entry is None:
        return None
    policies = tuple(
        (arn.removeprefix(POLICY_PREFIX), tuple(document["accessScope"]["namespaces"])) for arn, document in sorted(entry.policies.items())
    )
    return AccessIdentity(
        principal_arn=principal_arn,
        username=entry.document["username"],
        groups=tuple(entry.document["kubernetesGroups"]),
        policies=policies,
    )
