"""The EKS application: from a call to a reply."""

from __future__ import annotations

import json
import typing as t

from werkzeug.wrappers import Response

from lab.aws.calls import Call
from lab.aws.eks import access, addons, cluster_updates, clusters, encryption, nodegroups, pod_identity, tags, updates, versions
from lab.aws.eks.context import OPERATIONS, Context, Environment, Params, Result
from lab.aws.eks.progress import advance
from lab.aws.eks.routing import output_response, parse_input
from lab.aws.eks.state import Cluster
from lab.aws.errors import AwsError
from lab.aws.idempotency import ClientTokens, TokenMismatch
from lab.contracts import ClusterRef

# Importing a module registers its operations; they are named here so that none is taken for unused.
OPERATION_MODULES = (access, addons, cluster_updates, clusters, encryption, nodegroups, pod_identity, tags, updates, versions)


class EksApplication:
    """Answers EKS calls whose signature has been checked."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._tokens = ClientTokens()

    def handle(self, call: Call) -> Response:
        """The reply; raises AwsError. State has caught up with the clock before the operation looks at it."""
        if call.route is None or call.route.operation not in OPERATIONS:
            raise AwsError("NotImplementedException", f"The lab does not imitate eks:{call.operation}", 501)
        params = parse_input(call.route, call.query_string, call.body)
        context = Context(environment=self.environment, account=call.account, region=call.region, caller_arn=call.principal_arn)
        with self.environment.state.lock:
            advance(self.environment)
            return self._once(context, call.route.operation, params)

    def tick(self) -> None:
        """Let what happens by itself happen."""
        with self.environment.state.lock:
            advance(self.environment)

    def active_clusters(self) -> list[ClusterRef]:
        """Clusters that are there or coming; their version is what DescribeCluster reports."""
        with self.environment.state.lock:
            advance(self.environment)
            return [
                ClusterRef(account=ref.account, region=ref.region, name=ref.name, version=cluster.document["version"])
                for cluster in self.environment.state.clusters.values()
                if cluster.status in ("CREATING", "ACTIVE", "UPDATING")
                for ref in (cluster.ref,)
            ]

    def reset(self) -> None:
        """Forget all clusters and stop their control planes."""
        with self.environment.state.lock:
            gone = [cluster.ref for cluster in self.environment.state.clusters.values()]
            self.environment.state.clusters.clear()
            self._tokens.clear()
        for ref in gone:
            self.environment.control_planes.stop(ref)

    def _once(self, context: Context, name: str, params: Params) -> Response:
        """Run the operation unless its client token has been seen. The state's lock serialises equal tokens."""
        token = params.pop("clientRequestToken", None)
        if token is None:
            return output_response(name, OPERATIONS[name](context, params))
        key = (context.account, context.region, name, str(token))
        fingerprint = json.dumps(params, sort_keys=True)
        try:
            repeated = self._tokens.recall(key, fingerprint)
        except TokenMismatch as error:
            message = f"The client request token {token} was already used for a request with different parameters"
            raise AwsError("InvalidParameterException", message) from error
        if repeated is not None:
            return repeated
        result = OPERATIONS[name](context, params)
        response = output_response(name, result)
        self._tokens.remember(key, fingerprint, response, _outcome_lives(context, result))
        return response


def _outcome_lives(context: Context, result: Result) -> t.Callable[[], bool]:
    """Whether what ``result`` describes is still there: recreated under the same name, it is another."""
    clusters_by_key = context.state.clusters

    def lives() -> bool:
        return any(_describes(result, cluster_documents) for cluster_documents in map(_documents, list(clusters_by_key.values())))

    return lives


def _documents(cluster: Cluster) -> list[dict[str, t.Any]]:
    return [
        cluster.document,
        *(nodegroup.document for nodegroup in cluster.nodegroups.values()),
        *(entry.document for entry in cluster.access_entries.values()),
        *(update.document for update in cluster.updates.values()),
        *(addon.document for addon in cluster.addons.values()),
        *cluster.associations.values(),
    ]


def _describes(result: Result, documents: list[dict[str, t.Any]]) -> bool:
    """By the identity that each resource has: an ARN with its creation time, or an id."""
    wanted = [_identity(value) for value in result.values() if isinstance(value, dict)]
    present = [_identity(document) for document in documents]
    return any(identity in present for identity in wanted)


def _identity(document: dict[str, t.Any]) -> tuple[t.Any, ...]:
    arn = document.get("arn") or document.get("nodegroupArn") or document.get("accessEntryArn")
    arn = arn or document.get("addonArn") or document.get("associationArn") or document.get("id")
    return arn, document.get("createdAt")
