# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What the device plugin's module reads: one list for each kind, whatever the number of nodes and configurations."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import ServiceError
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.follow import Followed
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes, Listing
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import NVIDIA, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    CLUSTER_POLICY,
    CONFIG_MAP,
    DAEMON_SET,
    DEVICE_CLASS,
    NAMESPACE,
    NODE,
    POD,
    RESOURCE_SLICE,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    Kind,
    Object,
    labels_of,
    name_of,
    namespace_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_requests import effective_requests
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan import takeover
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import KINDS, Observed
from ansible_collections.gpuops.eks.plugins.module_utils._plan.drain import CORDON_ANNOTATION

Groups = t.Mapping[str, t.Sequence[str]]

NODE_FEATURES = "nfd.k8s-sigs.io"
DRA_DRIVER = "gpu.nvidia.com"
UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"
NODES = Followed(kind=NODE)

_BESIDE = (CONFIG_MAP, SERVICE_ACCOUNT, ROLE, ROLE_BINDING)
_EVERY_NAMESPACE_HAS = {"configmaps": "kube-root-ca.crt", "serviceaccounts": "default"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was read, and the lists from which a watch can go on."""

    observed: Observed
    lists: t.Mapping[Followed, Listing] = field(default_factory=dict)


def followed(namespace: str) -> tuple[Followed, Followed, Followed]:
    """The collections that a rollout is seen in: nodes, our DaemonSets, our pods."""
    labels = manifests.selector()
    return (NODES, *(Followed(kind=kind, namespace=namespace, labels=labels) for kind in (DAEMON_SET, POD)))  # type: ignore[return-value]


def read(kube: Kubernetes, namespace: str, groups: Groups) -> Reading:
    """Everything that a plan depends on, but for pods on GPUs and pods of others' plugins."""
    nodes_of, sets_of, pods_of = followed(namespace)
    there = kube.get(NAMESPACE, namespace)
    sets = kube.listing(DAEMON_SET)
    others = {kind: tuple(kube.read_all(kind, namespace=namespace)) for kind in (_BESIDE if there else ())}
    nothing = Listing(objects=[], version="")
    pods = kube.listing(POD, namespace=namespace, labels=manifests.selector()) if there else nothing
    nodes = kube.listing(NODE)
    driver, dra_nodes = _dra(kube, groups)
    observed = Observed(
        namespace=there,
        daemon_sets=tuple(sets.objects),
        others=others,
        pods=tuple(pods.objects),
        nodes=tuple(map(Node.from_api, nodes.objects)),
        cluster_policies=tuple(_served(kube, CLUSTER_POLICY)) if "v1" in groups.get("nvidia.com", ()) else (),
        dra_driver=driver,
        dra_nodes=dra_nodes,
    )
    ours = [obj for obj in sets.objects if namespace_of(obj) == namespace and manifests.is_ours(labels_of(obj))]
    lists = {nodes_of: nodes, sets_of: Listing(objects=ours, version=sets.version)}
    return Reading(observed=observed, lists=lists | ({pods_of: pods} if there else {}))


def _dra(kube: Kubernetes, groups: Groups) -> tuple[bool, frozenset[str]]:
    """(whether NVIDIA's DRA driver is installed, the nodes whose GPUs it hands out)"""
    versions = groups.get("resource.k8s.io", ())
    if not versions:
        return False, frozenset()
    group = f"resource.k8s.io/{versions[0]}"
    if not kube.get(dataclasses.replace(DEVICE_CLASS, api_version=group), DRA_DRIVER):
        return False, frozenset()
    slices = kube.read_all(dataclasses.replace(RESOURCE_SLICE, api_version=group), fields=f"spec.driver={DRA_DRIVER}")
    return True, frozenset(obj["spec"]["nodeName"] for obj in slices if obj["spec"].get("nodeName"))


def _served(kube: Kubernetes, kind: Kind) -> list[Object]:
    """The objects of a kind that a group may serve or not."""
    try:
        return list(kube.read_all(kind))
    except ServiceError as error:
        if error.code in ("NotFound", "HTTP 404"):
            return []
        raise


def holders(kube: Kubernetes, nodes: t.Collection[str]) -> dict[str, list[Object]]:
    """Pods with GPUs on these nodes, by node; read page by page, since most pods of a cluster have none."""
    fields = f"{UNFINISHED},spec.nodeName={next(iter(nodes))}" if len(nodes) == 1 else UNFINISHED
    found: dict[str, list[Object]] = {}
    for page in kube.pages(POD, fields=fields):
        for pod in page:
            name = pod["spec"].get("nodeName")
            if name in nodes and any(effective_requests(pod["spec"], NVIDIA).values()):
                found.setdefault(name, []).append(pod)
    return found


def foreign_pods(kube: Kubernetes, theirs: t.Iterable[Object]) -> tuple[Object, ...]:
    """The pods of others' plugins, without those of other programs that have the same labels."""
    lists = [kube.read_all(POD, namespace=namespace_of(obj), labels=takeover.pods_selector(obj)) for obj in theirs]
    return tuple(pod for pods in lists for pod in pods if takeover.is_plugin_pod(pod))


def read_ours(kube: Kubernetes) -> Observed:
    """What is to be removed, in every namespace, and what else is in a namespace of ours."""
    labels = manifests.selector()
    namespaces = kube.read_all(NAMESPACE, labels=labels)
    found = {kind: tuple(kube.read_all(kind, labels=labels)) for kind in KINDS}
    nodes = [Node.from_api(obj) for obj in kube.read_all(NODE, metadata_only=True)]
    return Observed(
        daemon_sets=found.pop(DAEMON_SET),
        others=found,
        pods=tuple(kube.read_all(POD, labels=labels)),
        nodes=tuple(node for node in nodes if CORDON_ANNOTATION in node.annotations),
        own_namespaces=tuple(namespaces),
        foreign={name_of(obj): _foreign(kube, name_of(obj)) for obj in namespaces},
    )


def _foreign(kube: Kubernetes, namespace: str) -> list[str]:
    """What a namespace of ours holds besides ours and what every namespace has. Metadata only: no secret is read."""
    found = []
    for kind in (POD, CONFIG_MAP, SECRET, SERVICE_ACCOUNT):
        for obj in kube.read_all(kind, namespace=namespace, metadata_only=True):
            if not manifests.is_ours(labels_of(obj)) and _EVERY_NAMESPACE_HAS.get(kind.plural) != name_of(obj):
                found.append(f"{kind.kind} {name_of(obj)}")
    return found
