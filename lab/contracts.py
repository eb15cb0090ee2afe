"""What the lab's halves know of each other: the AWS side (lab.aws) and the Kubernetes side (lab.kubernetes, lab.nodes)."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

#: The lifecycle hook by which Auto Scaling holds an instance of a managed node group until EKS has drained its node.
EKS_HOOK = "Terminate-LC-Hook"
#: Programs that the lab plays on nodes (lab.nodes.programs): the statuses of their pods are the lab's to write, not KWOK's.
NODE_PROGRAMS = ("nvidia-device-plugin", "mps-control-daemon", "gpu-feature-discovery")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterRef:
    """One EKS cluster of the simulated AWS."""

    account: str
    region: str
    name: str
    version: str  # Kubernetes minor version that DescribeCluster reports, such as "1.36"

    @property
    def arn(self) -> str:
        return f"arn:aws:eks:{self.region}:{self.account}:cluster/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a cluster's API server listens, and the CA that signed its certificate."""

    url: str
    certificate_authority_pem: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessIdentity:
    """What a cluster's access entries make of a principal.

    ``groups`` are the entry's Kubernetes groups; ``policies`` pairs of (policy name such as
    ``AmazonEKSClusterAdminPolicy``, namespaces; an empty tuple is the whole cluster).
    """

    principal_arn: str
    username: str
    groups: tuple[str, ...]
    policies: tuple[tuple[str, tuple[str, ...]], ...]


class ControlPlaneFailed(RuntimeError):
    """A control plane's process ended or never became ready; the message carries the end of its log."""


class ControlPlanes(t.Protocol):
    """Implemented by the Kubernetes side, called by the EKS application."""

    def start(self, cluster: ClusterRef) -> None:
        """Begin to boot in the background and return at once."""

    def endpoint(self, cluster: ClusterRef) -> Endpoint | None:
        """The endpoint once the API server answers, None while it boots; raises ControlPlaneFailed."""

    def stop(self, cluster: ClusterRef) -> None:
        """End all of its processes and remove its data; returns when that is done. Unknown clusters are ignored."""


class Identities(t.Protocol):
    """Implemented by the AWS side, asked by the token webhook."""

    def secret_access_key(self, access_key_id: str) -> str | None:
        """The secret of an access key (permanent or temporary), None when there is none."""

    def principal_arn(self, access_key_id: str) -> str | None:
        """The IAM ARN of the key's user or role, in the form that access entries use."""

    def access_identity(self, cluster: ClusterRef, principal_arn: str) -> AccessIdentity | None:
        """What the cluster's access entries say of it; None: not let in."""
