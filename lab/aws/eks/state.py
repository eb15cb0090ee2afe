"""What EKS remembers: clusters with their node groups, access entries and updates, as documents in the API's own form."""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass, field

from lab.contracts import ClusterRef

Document = dict[str, t.Any]


def _nothing() -> None:
    """An update without an effect of its own."""


@dataclass(slots=True)
class Update:
    """An update in flight or done; ``apply`` runs when its time has come and no fault is injected, and again after what it returns."""

    document: Document
    due: float
    nodegroup: str = ""  # both empty: an update of the cluster
    addon: str = ""
    apply: t.Callable[[], float | None] = _nothing
    steps: int = 0

    @property
    def in_progress(self) -> bool:
        return bool(self.document["status"] == "InProgress")


@dataclass(slots=True)
class AccessEntry:
    """An access entry and its associated policies by ARN."""

    document: Document
    policies: dict[str, Document] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodegroupResources:
    """What EKS makes in the account for one managed node group."""

    auto_scaling_group: str
    launch_template_id: str
    instance_profile: str


@dataclass(slots=True)
class Nodegroup:
    """A managed node group; ``due`` is when its state changes next, None when nothing is under way. ``defect``: why none can be made."""

    document: Document
    resources: NodegroupResources
    due: float | None
    next_health_check: float = 0.0
    defect: Document | None = None

    @property
    def status(self) -> str:
        return str(self.document["status"])

    @status.setter
    def status(self, status: str) -> None:
        self.document["status"] = status


@dataclass(slots=True)
class Addon:
    """An add-on; ``due`` is when its state is looked at next, ``patience`` when one that is being created has had its time."""

    document: Document
    due: float | None
    patience: float

    @property
    def status(self) -> str:
        return str(self.document["status"])

    @status.setter
    def status(self, status: str) -> None:
        self.document["status"] = status


@dataclass(slots=True)
class Cluster:
    """A cluster; ``stopped`` is set once its control plane has been taken down."""

    ref: ClusterRef
    document: Document
    creator_arn: str
    bootstrap_creator_admin: bool
    network_interfaces: list[str]
    due: float | None
    nodegroups: dict[str, Nodegroup] = field(default_factory=dict)
    access_entries: dict[str, AccessEntry] = field(default_factory=dict)
    updates: dict[str, Update] = field(default_factory=dict)
    addons: dict[str, Addon] = field(default_factory=dict)
    associations: dict[str, Document] = field(default_factory=dict)
    next_health_check: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return self.ref.name

    @property
    def status(self) -> str:
        return str(self.document["status"])

    @status.setter
    def status(self, status: str) -> None:
        self.document["status"] = status

    @property
    def authentication_mode(self) -> str:
        return str(self.document["accessConfig"]["authenticationMode"])

    def update_in_flight(self, nodegroup: str = "") -> Update | None:
        """The running update of the cluster, or of one of its node groups."""
        return next(
            (update for update in self.updates.values() if update.in_progress and (update.nodegroup, update.addon) == (nodegroup, "")), None
        )


class EksState:
    """All clusters of all accounts and regions, behind one lock."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clusters: dict[tuple[str, str, str], Cluster] = {}

    def find_cluster(self, ref: ClusterRef) -> Cluster | None:
        return self.clusters.get((ref.account, ref.region, ref.name))

    def in_region(self, account: str, region: str) -> list[Cluster]:
        """The clusters of one account and region, by name."""
        return [cluster for key, cluster in sorted(self.clusters.items()) if key[:2] == (account, region)]
