"""The add-ons that the lab's EKS offers: versions for each cluster version, schemas of their configuration, service accounts.

Names, namespaces and service accounts: https://docs.aws.amazon.com/eks/latest/userguide/workloads-add-ons-available-eks.html; the schemas are
the lab's own, with settings that users set, in the form that DescribeAddonConfiguration answers.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from lab.aws.eks.versions import versions

Schema = dict[str, t.Any]
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_TOLERATIONS: Schema = {"type": "array", "items": {"type": "object"}}
_OPEN: Schema = {"type": "object"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": properties}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One add-on. ``needs_nodes``: its Deployments have no replicas without them; DaemonSets are content with none."""

    name: str
    versions: tuple[str, ...]  # newest first; the second is the default
    schema: Schema
    namespace: str = "kube-system"
    kind: str = "networking"
    needs_nodes: bool = False
    service_account: str = ""
    policies: tuple[str, ...] = ()

    def for_cluster(self, version: str) -> tuple[str, ...]:
        """Versions that fit a cluster; kube-proxy's follow Kubernetes."""
        if self.name != "kube-proxy":
            return self.versions
        return tuple(f"v{versions()[version].patch}-eksbuild.{build}" for build in (9, 5, 2))

    def default(self, version: str) -> str:
        return self.for_cluster(version)[1]

    @property
    def schema_text(self) -> str:
        return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "title": self.name, **self.schema})


_POLICY = "arn:aws:iam::aws:policy/"
_PLACEMENT: dict[str, Schema] = {"tolerations": _TOLERATIONS, "nodeSelector": _TEXTS, "affinity": _OPEN, "resources": _OPEN}
_CONTROLLER = _object(
    extraVolumeTags=_TEXTS, tags=_TEXTS, replicaCount={"type": "integer", "minimum": 1}, podDisruptionBudget=_OPEN, **_PLACEMENT
)
_NODE = _object(tolerateAllTaints={"type": "boolean"}, **_PLACEMENT)
_DRIVER = _object(controller=_CONTROLLER, node=_NODE, sidecars=_OPEN)
_EBS = _object(controller=_CONTROLLER, node=_NODE, sidecars=_OPEN, defaultStorageClass=_object(enabled={"type": "boolean"}))

OFFERS: dict[str, Offer] = {
    offer.name: offer
    for offer in (
        Offer(
            name="vpc-cni",
            versions=("v1.21.1-eksbuild.3", "v1.20.4-eksbuild.2", "v1.19.6-eksbuild.7"),
            schema=_object(
                env=_TEXTS,
                enableNetworkPolicy={"type": "string", "enum": ["true", "false"]},
                init=_OPEN,
                nodeAgent=_OPEN,
                eniConfig=_OPEN,
                **_PLACEMENT,
            ),
            service_account="aws-node",
            policies=(f"{_POLICY}AmazonEKS_CNI_Policy",),
        ),
        Offer(
            name="coredns",
            versions=("v1.13.2-eksbuild.1", "v1.12.4-eksbuild.1", "v1.11.4-eksbuild.24"),
            schema=_object(
                replicaCount={"type": "integer", "minimum": 0},
                corefile={"type": "string"},
                autoScaling=_OPEN,
                podDisruptionBudget=_OPEN,
                podLabels=_TEXTS,
                **_PLACEMENT,
            ),
            needs_nodes=True,
        ),
        Offer(
            name="kube-proxy",
            versions=(),
            schema=_object(mode={"type": "string", "enum": ["iptables", "ipvs", "nftables"]}, ipvs=_OPEN, **_PLACEMENT),
        ),
        Offer(
            name="eks-pod-identity-agent",
            versions=("v1.3.10-eksbuild.2", "v1.3.9-eksbuild.3", "v1.3.8-eksbuild.2"),
            schema=_object(agent=_object(additionalArgs=_TEXTS), tolerations=_TOLERATIONS, resources=_OPEN),
            kind="security",
        ),
        Offer(
            name="aws-ebs-csi-driver",
            versions=("v1.54.0-eksbuild.1", "v1.53.0-eksbuild.1", "v1.48.0-eksbuild.2"),
            schema=_EBS,
            kind="storage",
            needs_nodes=True,
            service_account="ebs-csi-controller-sa",
            policies=(f"{_POLICY}service-role/AmazonEBSCSIDriverPolicy",),
        ),
        Offer(
            name="aws-efs-csi-driver",
            versions=("v2.1.15-eksbuild.1", "v2.1.13-eksbuild.1", "v2.1.8-eksbuild.1"),
            schema=_DRIVER,
            kind="storage",
            needs_nodes=True,
            service_account="efs-csi-controller-sa",
            policies=(f"{_POLICY}service-role/AmazonEFSCSIDriverPolicy",),
        ),
        Offer(
            name="aws-fsx-csi-driver",
            versions=("v1.8.0-eksbuild.1", "v1.7.0-eksbuild.1", "v1.5.1-eksbuild.1"),
            schema=_DRIVER,
            kind="storage",
            needs_nodes=True,
            service_account="fsx-csi-controller-sa",
            policies=(f"{_POLICY}AmazonFSxFullAccess",),
        ),
        Offer(
            name="aws-mountpoint-s3-csi-driver",
            versions=("v2.2.1-eksbuild.1", "v2.1.0-eksbuild.1", "v1.15.0-eksbuild.1"),
            schema=_object(node=_NODE, controller=_object(tolerations=_TOLERATIONS)),
            kind="storage",
            service_account="s3-csi-driver-sa",
        ),
        Offer(
            name="eks-node-monitoring-agent",
            versions=("v1.7.0-eksbuild.1", "v1.6.4-eksbuild.1", "v1.4.2-eksbuild.1"),
            schema=_object(monitoringAgent=_OPEN, dcgmAgent=_object(tolerations=_TOLERATIONS)),
            kind="observability",
        ),
        Offer(
            name="metrics-server",
            versions=("v0.8.1-eksbuild.1", "v0.8.0-eksbuild.6", "v0.7.2-eksbuild.4"),
            schema=_object(replicas={"type": "integer", "minimum": 1}, tolerations=_TOLERATIONS, resources=_OPEN),
            kind="observability",
            needs_nodes=True,
        ),
        Offer(
            name="amazon-cloudwatch-observability",
            versions=("v6.4.0-eksbuild.1", "v6.2.0-eksbuild.1", "v5.4.0-eksbuild.1"),
            schema=_object(
                containerLogs=_object(enabled={"type": "boolean"}),
                dcgmExporter=_object(enabled={"type": "boolean"}, tolerations=_TOLERATIONS),
                agent=_OPEN,
                tolerations=_TOLERATIONS,
            ),
            namespace="amazon-cloudwatch",
            kind="observability",
            needs_nodes=True,
            service_account="cloudwatch-agent",
            policies=(f"{_POLICY}CloudWatchAgentServerPolicy",),
        ),
    )
}
