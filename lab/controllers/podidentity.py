"""Credentials of a pod through EKS Pod Identity: the association of its service account names the role.

Rules: https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html.
"""

from __future__ import annotations

import typing as t
import uuid

from botocore.exceptions import ClientError

from lab.contracts import ClusterRef
from lab.controllers.contracts import CannotStart, Credentials
from lab.kubernetes.client import Json
from lab.nodes.registrar import AwsClients

SESSION_SECONDS = 12 * 3600  # the agent renews them; here they outlast every rehearsal


def credentials(clients: AwsClients, cluster: ClusterRef, pod: Json) -> Credentials:
    """Keys of the role that the pod's service account is associated with; raises CannotStart, ClientError."""
    namespace, account = pod["metadata"]["namespace"], pod["spec"].get("serviceAccountName", "default")

    def client(service: str) -> t.Any:
        return clients(service, cluster.account, cluster.region)

    association = _association(client("eks"), cluster.name, namespace, account)
    role_arn = association["roleArn"]
    _require_role(client("iam"), role_arn)
    # The form of a session's name: eks-CLUSTER-POD-UUID, cut to the 64 letters that STS takes.
    session = f"eks-{cluster.name}-{pod['metadata']['name']}"[:27] + f"-{uuid.uuid4()}"
    keys = client("sts").assume_role(RoleArn=role_arn, RoleSessionName=session, DurationSeconds=SESSION_SECONDS)["Credentials"]
    return Credentials(
        role_arn=role_arn,
        access_key_id=keys["AccessKeyId"],
        secret_access_key=keys["SecretAccessKey"],
        session_token=keys["SessionToken"],
    )


def _association(eks: t.Any, cluster: str, namespace: str, account: str) -> Json:
    found = eks.list_pod_identity_associations(clusterName=cluster, namespace=namespace, serviceAccount=account)["associations"]
    if not found:
        raise CannotStart(f"no AWS credentials: cluster {cluster} has no Pod Identity association of {namespace}/{account}")
    described: Json = eks.describe_pod_identity_association(clusterName=cluster, associationId=found[0]["associationId"])["association"]
    return described


def _require_role(iam: t.Any, role_arn: str) -> None:
    """A role that was deleted after it was associated can be assumed by nobody."""
    try:
        iam.get_role(RoleName=role_arn.rpartition("/")[2])
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchEntity":
            raise
        raise CannotStart(f"no AWS credentials: role {role_arn} of the Pod Identity association does not exist") from error
