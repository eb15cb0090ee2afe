"""The key of a cluster's secrets.

Rules: https://docs.aws.amazon.com/eks/latest/userguide/enable-kms.html and API_AssociateEncryptionConfig.html: one symmetric key, added once.
"""

from __future__ import annotations

import functools

from botocore.exceptions import ClientError

from lab.aws.eks.context import Context, Params, Result, invalid_parameter, operation
from lab.aws.eks.state import Cluster, Document
from lab.aws.eks.updates import check_cluster_idle, start_update

# API_ClusterIssue: what becomes of a cluster whose key is not usable any more.
_ISSUES = {
    "Disabled": ("KmsKeyDisabled", "The AWS KMS Key used for this cluster is currently disabled."),
    "PendingDeletion": ("KmsKeyMarkedForDeletion", "The AWS KMS Key used for this cluster is marked for deletion."),
}


def check_encryption(context: Context, setup: list[Document] | None) -> None:
    """Raises InvalidParameterException unless the one key exists, is enabled and symmetric."""
    if not setup:
        return
    if len(setup) != 1 or setup[0].get("resources") != ["secrets"]:
        raise invalid_parameter("encryptionConfig: exactly one, for the resources [secrets]")
    arn = setup[0].get("provider", {}).get("keyArn", "")
    key = _key(context, arn)
    if key is None:
        raise invalid_parameter(f"Invalid KMS key: {arn} does not exist or cannot be used")
    if key["KeyState"] != "Enabled":
        raise invalid_parameter(f"KMS key {arn} is not enabled: {key['KeyState']}")
    if key.get("KeySpec", key.get("CustomerMasterKeySpec")) != "SYMMETRIC_DEFAULT":
        raise invalid_parameter(f"KMS key {arn} is not a symmetric key")


def _key(context: Context, arn: str) -> Document | None:
    try:
        found: Document = context.client("kms").describe_key(KeyId=arn)["KeyMetadata"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "NotFoundException":
            return None
        raise
    return found if found["Arn"] == arn else None


@operation("AssociateEncryptionConfig")
def associate_encryption_config(context: Context, params: Params) -> Result:
    cluster = context.cluster(params["clusterName"])
    if cluster.document.get("encryptionConfig"):
        raise invalid_parameter("Encryption config is already associated with the cluster", clusterName=cluster.name)
    check_cluster_idle(cluster, "AssociateEncryptionConfig")
    setup = params["encryptionConfig"]
    check_encryption(context, setup)
    apply = functools.partial(cluster.document.update, encryptionConfig=setup)
    return {
        "update": start_update(context, cluster, update_type="AssociateEncryptionConfig", params={"EncryptionConfig": setup}, apply=apply)
    }


def judge_key(context: Context, cluster: Cluster) -> None:
    """What the state of its key means for an active cluster's health."""
    setup = cluster.document.get("encryptionConfig")
    key = _key(context, setup[0]["provider"]["keyArn"]) if setup else None
    code, message = _ISSUES.get(key["KeyState"], ("", "")) if key else ("", "")
    cluster.document["health"] = {"issues": [{"code": code, "message": message, "resourceIds": []}] if code else []}
