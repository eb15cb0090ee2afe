"""What EKS access policies allow, as RBAC of the cluster.

EKS has an authorizer of its own for access policies. Here a user with a policy gets a group of the lab's, and the cluster has bindings of
that group to the ClusterRole that AWS says the policy equals (EKS User Guide, "Review access policy permissions").
"""

from __future__ import annotations

import fnmatch

from lab.contracts import AccessIdentity
from lab.kubernetes.client import ApiError, Json, Kube

GROUP_PREFIX = "eks-access-policy:"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
ADMIN_VIEW_ROLE = "eks-access-policy:admin-view"
LABELS = {"app.kubernetes.io/managed-by": "gpuops-lab"}

#: Access policy -> ClusterRole.
POLICY_ROLES = {
    "AmazonEKSClusterAdminPolicy": "cluster-admin",
    "AmazonEKSAdminPolicy": "admin",
    "AmazonEKSAdminViewPolicy": ADMIN_VIEW_ROLE,
    "AmazonEKSEditPolicy": "edit",
    "AmazonEKSViewPolicy": "view",
}


def groups(identity: AccessIdentity, namespaces: list[str]) -> list[str]:
    """The Kubernetes groups of an identity: its entry's own, and one for each (policy, namespace)."""
    found = list(identity.groups)
    for policy, patterns in identity.policies:
        if policy in POLICY_ROLES:
            found += [_group(policy, namespace) for namespace in ([""] if not patterns else _matching(patterns, namespaces))]
    return found


def namespaced(identity: AccessIdentity) -> bool:
    """Whether any policy of the identity holds in some namespaces only."""
    return any(patterns for policy, patterns in identity.policies if policy in POLICY_ROLES)


def install(kube: Kube) -> None:
    """The ClusterRoleBindings of policies that hold in the whole cluster."""
    rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
    kube.apply(f"{RBAC}/clusterroles/{ADMIN_VIEW_ROLE}", {**_object("ClusterRole", ADMIN_VIEW_ROLE), "rules": [rule]})
    for policy, role in POLICY_ROLES.items():
        name = _group(policy, "")
        kube.apply(f"{RBAC}/clusterrolebindings/{name}", _binding("ClusterRoleBinding", name, role))


def bind(kube: Kube, identity: AccessIdentity, namespaces: list[str]) -> None:
    """The RoleBindings that the identity's policies need in the namespaces that there are."""
    for policy, patterns in identity.policies:
        if policy not in POLICY_ROLES:
            continue
        for namespace in _matching(patterns, namespaces):
            name = _group(policy, namespace)
            try:
                kube.apply(
                    f"{RBAC}/namespaces/{namespace}/rolebindings/{name}", _binding("RoleBinding", name, POLICY_ROLES[policy], namespace)
                )
            except ApiError as error:
                if error.status not in (403, 404):  # the namespace is going
                    raise


def _matching(patterns: tuple[str, ...], namespaces: list[str]) -> list[str]:
    """An access scope's namespaces may hold wildcards, such as ``team-*``."""
    return [n for n in namespaces if any(fnmatch.fnmatchcase(n, p) for p in patterns)]


def _group(policy: str, namespace: str) -> str:
    return GROUP_PREFIX + policy + (f":{namespace}" if namespace else "")


def _object(kind: str, name: str, namespace: str = "") -> Json:
    metadata: Json = {"name": name, "labels": LABELS}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata}


def _binding(kind: str, group: str, role: str, namespace: str = "") -> Json:
    api = "rbac.authorization.k8s.io"
    return {
        **_object(kind, group, namespace),
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": api, "kind": "Group", "name": group}],
    }
