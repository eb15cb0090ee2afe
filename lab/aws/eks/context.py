"""What an EKS operation has at hand, and how operations are registered."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from lab.aws.eks.state import Cluster, EksState, Nodegroup
from lab.aws.errors import AwsError
from lab.aws.faults import Faults
from lab.clock import Clock
from lab.contracts import ControlPlanes

Params = dict[str, t.Any]
Result = dict[str, t.Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """How long EKS takes, in simulated seconds; AWS documents minutes for each of these.

    At the default clock (60 simulated seconds for each real one) a cluster's time is shorter than its control plane's boot.
    """

    cluster_create: float = 120.0
    cluster_delete: float = 30.0
    cluster_update: float = 30.0
    nodegroup_create: float = 75.0
    nodegroup_delete: float = 45.0
    nodegroup_update: float = 40.0
    addon_create: float = 30.0
    addon_update: float = 20.0
    addon_delete: float = 20.0
    addon_patience: float = 1200.0  # how long an add-on without nodes is CREATING
    health_check: float = 30.0


class Clients(t.Protocol):
    """Makes clients of the lab's own endpoint, whose calls the request log does not show."""

    def __call__(self, service: str, account: str, region: str) -> t.Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the EKS application works with, whoever calls."""

    state: EksState
    clock: Clock
    control_planes: ControlPlanes
    faults: Faults
    clients: Clients
    durations: Durations


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One request: who calls, where, and the environment."""

    environment: Environment
    account: str
    region: str
    caller_arn: str

    @property
    def state(self) -> EksState:
        return self.environment.state

    def client(self, service: str) -> t.Any:
        return self.environment.clients(service, self.account, self.region)

    def now(self) -> datetime.datetime:
        return self.environment.clock.now()

    def due_in(self, seconds: float) -> float:
        return self.environment.clock.seconds() + seconds

    def cluster(self, name: str) -> Cluster:
        """The cluster of that name; raises ResourceNotFoundException."""
        cluster = self.state.clusters.get((self.account, self.region, name))
        if cluster is None:
            raise not_found(f"No cluster found for name: {name}.", clusterName=name)
        return cluster

    def nodegroup(self, cluster_name: str, name: str) -> tuple[Cluster, Nodegroup]:
        """The node group and its cluster; raises ResourceNotFoundException."""
        cluster = self.cluster(cluster_name)
        if name not in cluster.nodegroups:
            raise not_found(f"No node group found for name: {name}.", clusterName=cluster_name, nodegroupName=name)
        return cluster, cluster.nodegroups[name]


Operation = t.Callable[[Context, Params], Result]
OPERATIONS: dict[str, Operation] = {}


def operation(name: str) -> t.Callable[[Operation], Operation]:
    """Register the function as the EKS operation ``name``."""

    def register(function: Operation) -> Operation:
        OPERATIONS[name] = function
        return function

    return register


def invalid_parameter(message: str, **fields: str) -> AwsError:
    return AwsError("InvalidParameterException", message, 400, **fields)


def invalid_request(message: str, **fields: str) -> AwsError:
    return AwsError("InvalidRequestException", message, 400, **fields)


def in_use(message: str, **fields: str) -> AwsError:
    return AwsError("ResourceInUseException", message, 409, **fields)


def not_found(message: str, **fields: str) -> AwsError:
    return AwsError("ResourceNotFoundException", message, 404, **fields)
