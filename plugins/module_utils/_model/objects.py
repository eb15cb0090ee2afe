# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Kubernetes objects by kind: where they are in the API, and how plans name them. Pure.

A table instead of discovery: no round trip is spent on what is known. Only kinds that the collection uses are in it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

Object = t.Mapping[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def resource(self) -> str:
        """As RBAC and audit logs name it: ``daemonsets.apps``, ``configmaps``."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural

    def path(self, *, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of one object, of a namespace's collection, or of the whole collection."""
        parts = ["/apis" if "/" in self.api_version else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        return "/".join(parts)


NAMESPACE = Kind(api_version="v1", kind="Namespace", plural="namespaces", namespaced=False)
NODE = Kind(api_version="v1", kind="Node", plural="nodes", namespaced=False)
POD = Kind(api_version="v1", kind="Pod", plural="pods")
CONFIG_MAP = Kind(api_version="v1", kind="ConfigMap", plural="configmaps")
SECRET = Kind(api_version="v1", kind="Secret", plural="secrets")
SERVICE_ACCOUNT = Kind(api_version="v1", kind="ServiceAccount", plural="serviceaccounts")
DAEMON_SET = Kind(api_version="apps/v1", kind="DaemonSet", plural="daemonsets")
DEPLOYMENT = Kind(api_version="apps/v1", kind="Deployment", plural="deployments")
ROLE = Kind(api_version="rbac.authorization.k8s.io/v1", kind="Role", plural="roles")
ROLE_BINDING = Kind(api_version="rbac.authorization.k8s.io/v1", kind="RoleBinding", plural="rolebindings")
#: Not tied to a version: which one is served depends on Kubernetes'.
DEVICE_CLASS = Kind(api_version="resource.k8s.io/v1", kind="DeviceClass", plural="deviceclasses", namespaced=False)
RESOURCE_SLICE = Kind(api_version="resource.k8s.io/v1", kind="ResourceSlice", plural="resourceslices", namespaced=False)
CLUSTER_POLICY = Kind(api_version="nvidia.com/v1", kind="ClusterPolicy", plural="clusterpolicies", namespaced=False)
NODE_POOL = Kind(api_version="karpenter.sh/v1", kind="NodePool", plural="nodepools", namespaced=False)
NODE_CLAIM = Kind(api_version="karpenter.sh/v1", kind="NodeClaim", plural="nodeclaims", namespaced=False)
NODE_OVERLAY = Kind(api_version="karpenter.sh/v1alpha1", kind="NodeOverlay", plural="nodeoverlays", namespaced=False)
EC2_NODE_CLASS = Kind(api_version="karpenter.k8s.aws/v1", kind="EC2NodeClass", plural="ec2nodeclasses", namespaced=False)

# By what they mark. Source: Argo CD, Resource Tracking; Flux, Kustomization and HelmRelease: labels of the objects that they apply.
_GITOPS_ANNOTATIONS = {"argocd.argoproj.io/tracking-id": "Argo CD"}
_GITOPS_LABELS = {
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}

_MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
_FINISHED = ("Succeeded", "Failed")

_CORE = (NAMESPACE, NODE, POD, CONFIG_MAP, SECRET, SERVICE_ACCOUNT, DAEMON_SET, DEPLOYMENT, ROLE, ROLE_BINDING)
_KARPENTER = (NODE_POOL, NODE_CLAIM, NODE_OVERLAY, EC2_NODE_CLASS)
_OTHERS = (DEVICE_CLASS, RESOURCE_SLICE, CLUSTER_POLICY)
_KINDS = {(kind.api_version, kind.kind): kind for kind in (*_CORE, *_KARPENTER, *_OTHERS)}


def kind_of(obj: Object) -> Kind:
    """The kind of an object that says its apiVersion and kind; KeyError for one that is not in the table."""
    return _KINDS[obj["apiVersion"], obj["kind"]]


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def namespace_of(obj: Object) -> str | None:
    namespace: str | None = obj["metadata"].get("namespace")
    return namespace


def labels_of(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("labels") or {})


def annotations_of(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})


def controller_of(obj: Object) -> Object | None:
    """The ownerReference of the controller that keeps it; None where nobody would make it again."""
    return next((owner for owner in obj["metadata"].get("ownerReferences") or () if owner.get("controller")), None)


def of_daemon_set(pod: Object) -> bool:
    """Whether a DaemonSet keeps this pod, so that it would come straight back to its node."""
    owner = controller_of(pod)
    return owner is not None and owner.get("kind") == "DaemonSet"


def runs_by_api(pod: Object) -> bool:
    """Whether a pod is not finished, and not the mirror of one that the kubelet keeps by a file."""
    return (pod.get("status") or {}).get("phase") not in _FINISHED and _MIRROR_ANNOTATION not in annotations_of(pod)


def has_to_leave(pod: Object) -> bool:
    """Whether a node has to be rid of this pod before it can go: what kubectl drain evicts, and what is on its way out."""
    return runs_by_api(pod) and not of_daemon_set(pod)


def gitops_tool(obj: Object) -> str | None:
    """The tool that keeps this object as its own repository has it; None where none does."""
    annotations, labels = annotations_of(obj), labels_of(obj)
    by_annotation = next((tool for key, tool in _GITOPS_ANNOTATIONS.items() if key in annotations), None)
    return by_annotation or next((tool for key, tool in _GITOPS_LABELS.items() if key in labels), None)


def conditions_of(obj: Object) -> dict[str, Object]:
    """The conditions of its status by their type."""
    return {condition["type"]: condition for condition in (obj.get("status") or {}).get("conditions") or ()}


def is_ready(obj: Object) -> bool:
    """Whether its condition Ready is True, as the kubelet says of pods and nodes."""
    return conditions_of(obj).get("Ready", {}).get("status") == "True"


def readiness(obj: Object | None, hopeless: t.Container[str] = ()) -> tuple[str, bool]:
    """(why it is not ready, whether no waiting mends that) by its condition Ready; the first is empty where it is.

    A condition of an earlier generation says nothing of this one.
    """
    if obj is None:
        return "it is not there", False
    generation = obj["metadata"].get("generation", 0)
    current = {name: one for name, one in conditions_of(obj).items() if one.get("observedGeneration", generation) >= generation}
    if current.get("Ready", {}).get("status") == "True":
        return "", False
    others = {name: one for name, one in current.items() if name != "Ready"} or current
    wrong = [(name, one) for name, one in others.items() if one["status"] == "False"]
    waiting = [(name, one) for name, one in others.items() if one["status"] == "Unknown"]
    said = "; ".join(f"{name}: {one.get('reason')}: {one.get('message')}".rstrip(": ") for name, one in wrong or waiting)
    return said or "no controller has looked at it yet", any(one.get("reason") in hopeless for _name, one in wrong)


def is_deleting(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def target_of(obj: Object) -> str:
    """``namespace/name``, or ``name`` where there is no namespace."""
    namespace = namespace_of(obj)
    return f"{namespace}/{name_of(obj)}" if namespace else name_of(obj)
