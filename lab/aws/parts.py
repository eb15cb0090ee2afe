"""Keys, roles, parameters, log groups, tags: where moto differs from AWS in a way that our job notices.

Sources: AWS KMS developer guide, "Key states of AWS KMS keys", and the API reference of KMS; IAM User Guide, "AWS services that work with IAM"
(names of service-linked roles), API CreateOpenIDConnectProvider and its neighbours; API DeleteParameters of Systems Manager; API
AssociateKmsKey and PutRetentionPolicy of CloudWatch Logs; API GetResources of the tagging API.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import typing as t

from moto.core.resource_tagging import TaggedResource, make_tag_matcher, match_resource_type
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import unix_time, utcnow
from moto.iam.exceptions import EntityAlreadyExists, InvalidInput
from moto.iam.models import SERVICE_NAME_CONVERSION, IAMBackend
from moto.iam.responses import IamResponse
from moto.kms.models import KmsBackend
from moto.kms.responses import KmsResponse
from moto.logs.responses import LogsResponse
from moto.resourcegroupstaggingapi.models import ResourceGroupsTaggingAPIBackend

from lab.aws.calls import Call
from lab.aws.errors import AwsError
from lab.aws.moto_fixes import Wrapper, surroundings, wraps
from lab.aws.rules import rule

# KMS

DEFAULT_ROTATION_DAYS = 365
# What fails for a key that is to be deleted, and of that what fails for one that is disabled too.
_NOT_WHEN_PENDING = (
    "CreateAlias",
    "CreateGrant",
    "Decrypt",
    "DisableKey",
    "DisableKeyRotation",
    "EnableKey",
    "EnableKeyRotation",
    "Encrypt",
    "GenerateDataKey",
    "ScheduleKeyDeletion",
    "TagResource",
    "UntagResource",
    "UpdateKeyDescription",
)
_NOT_WHEN_DISABLED = ("CreateGrant", "Decrypt", "DisableKeyRotation", "EnableKeyRotation", "Encrypt", "GenerateDataKey")


def _key(backend: t.Any, params: dict[str, t.Any]) -> t.Any:
    """The key that a call is about, None when there is none: moto says so in AWS's words."""
    named = backend.get_alias_name(str(params.get("TargetKeyId") or params.get("KeyId") or ""))
    if named.startswith("alias/") and not backend.alias_exists(named):
        return None
    return backend.keys.get(backend.any_id_to_key_id(named))


def _check_state(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    key = _key(backend, params)
    if key is None:
        return
    if key.key_state == "PendingDeletion":
        raise AwsError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    if key.key_state == "Disabled" and call.operation in _NOT_WHEN_DISABLED:
        raise AwsError("DisabledException", f"{key.arn} is disabled.")


for _operation in _NOT_WHEN_PENDING:
    rule("kms", _operation)(_check_state)


@rule("kms", "CancelKeyDeletion")
def cancel_key_deletion(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    key = _key(backend, params)
    if key is not None and key.key_state != "PendingDeletion":
        raise AwsError("KMSInvalidStateException", f"{key.arn} is not pending deletion.")


def _by_id_alone(original: Wrapper, backend: KmsBackend, key_id: str, *args: t.Any) -> t.Any:
    """moto fails with an internal error when it is given a key's ARN."""
    return original(backend, backend.get_key_id(key_id), *args)


for _method in ("cancel_key_deletion", "disable_key", "enable_key", "schedule_key_deletion"):
    wraps(KmsBackend, _method)(_by_id_alone)


@wraps(KmsResponse, "schedule_key_deletion")
def name_key_to_be_deleted(original: Wrapper, response: KmsResponse) -> str:
    """The reply has the key's ARN, its state and the window."""
    reply = json.loads(original(response))
    days = response._get_param("PendingWindowInDays", 30)
    return json.dumps({**reply, "KeyId": _arn(response), "KeyState": "PendingDeletion", "PendingWindowInDays": days})


@wraps(KmsResponse, "cancel_key_deletion")
def name_key_to_be_kept(original: Wrapper, response: KmsResponse) -> str:
    """The reply has the key's ARN."""
    original(response)
    return json.dumps({"KeyId": _arn(response)})


def _arn(response: KmsResponse) -> str:
    return str(response.kms_backend.describe_key(response._get_param("KeyId")).arn)


@wraps(KmsResponse, "enable_key_rotation")
def keep_rotation_period(original: Wrapper, response: KmsResponse) -> str:
    """moto forgets the period."""
    reply: str = original(response)
    key: t.Any = response.kms_backend.describe_key(response._get_param("KeyId"))
    key.lab_rotation_days = response._get_param("RotationPeriodInDays") or getattr(key, "lab_rotation_days", DEFAULT_ROTATION_DAYS)
    key.lab_rotates_at = utcnow() + datetime.timedelta(days=key.lab_rotation_days)
    return reply


@wraps(KmsResponse, "get_key_rotation_status")
def tell_rotation_period(original: Wrapper, response: KmsResponse) -> str:
    """With the key, and while rotation is on its period and next date."""
    reply = json.loads(original(response))
    key: t.Any = response.kms_backend.describe_key(response._get_param("KeyId"))
    if reply["KeyRotationEnabled"]:
        reply |= {"RotationPeriodInDays": key.lab_rotation_days, "NextRotationDate": unix_time(key.lab_rotates_at)}
    return json.dumps({"KeyId": key.id, **reply})


# IAM

SERVICE_NAME_CONVERSION.update(
    {
        "eks": "AmazonEKS",
        "eks-fargate": "AmazonEKSForFargate",
        "eks-nodegroup": "AmazonEKSNodegroup",
        "elasticloadbalancing": "ElasticLoadBalancing",
        "spot": "EC2Spot",
        "spotfleet": "EC2SpotFleet",
    }
)


@wraps(IAMBackend, "create_service_linked_role")
def create_service_linked_role_once(original: Wrapper, backend: IAMBackend, service_name: str, description: str, suffix: str) -> t.Any:
    """That there is one already is InvalidInput."""
    try:
        return original(backend, service_name, description, suffix)
    except EntityAlreadyExists as error:
        name = next(role.name for role in backend.get_roles() if role.path == f"/aws-service-role/{service_name}/")
        message = f"Service role name {name} has been taken in this account, please try a different suffix."
        raise InvalidInput(message) from error


@wraps(IamResponse, "list_instance_profiles")
def profiles_by_path(original: Wrapper, response: IamResponse) -> ActionResult:
    """moto ignores PathPrefix. Karpenter lists by path what it may delete, which would be the profiles of everybody."""
    prefix = response._get_param("PathPrefix") or "/"
    return ActionResult({"InstanceProfiles": [one for one in response.backend.get_instance_profiles() if one.path.startswith(prefix)]})


@wraps(IAMBackend, "create_open_id_connect_provider")
def create_provider(original: Wrapper, backend: IAMBackend, url: str, thumbprint_list: list[str], *args: t.Any, **kwargs: t.Any) -> t.Any:
    """Without thumbprints IAM takes that of the server's certificate authority; a second provider of a URL is refused by name."""
    thumbprints = thumbprint_list or [hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()]
    try:
        return original(backend, url, thumbprints, *args, **kwargs)
    except EntityAlreadyExists as error:
        raise EntityAlreadyExists(f"Provider with url {url} already exists.") from error


@wraps(IamResponse, "add_client_id_to_open_id_connect_provider")
def add_client_id(original: Wrapper | None, response: IamResponse) -> EmptyResult:
    """moto does not have the operation; one that is there already is no error."""
    provider = response.backend.get_open_id_connect_provider(response._get_param("OpenIDConnectProviderArn"))
    client_id = response._get_param("ClientID")
    if client_id not in provider.client_id_list:
        provider.client_id_list.append(client_id)
    return EmptyResult()


@wraps(IamResponse, "remove_client_id_from_open_id_connect_provider")
def remove_client_id(original: Wrapper | None, response: IamResponse) -> EmptyResult:
    """moto does not have the operation; one that is not there is no error."""
    provider = response.backend.get_open_id_connect_provider(response._get_param("OpenIDConnectProviderArn"))
    provider.client_id_list = [item for item in provider.client_id_list if item != response._get_param("ClientID")]
    return EmptyResult()


# Systems Manager

MAX_DELETED_PARAMETERS = 10


@rule("ssm", "DeleteParameters")
def delete_parameters(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    names = params.get("Names", [])
    if len(names) > MAX_DELETED_PARAMETERS:
        message = (
            f"1 validation error detected: Value '[{', '.join(names)}]' at 'names' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_DELETED_PARAMETERS}"
        )
        raise AwsError("ValidationException", message)


# CloudWatch Logs

_RETENTION_DAYS = frozenset({1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653})


@rule("logs", "PutRetentionPolicy")
def put_retention_policy(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    if params.get("retentionInDays") not in _RETENTION_DAYS:
        allowed = ", ".join(str(days) for days in sorted(_RETENTION_DAYS))
        message = (
            f"1 validation error detected: Value '{params.get('retentionInDays')}' at 'retentionInDays' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{allowed}]"
        )
        raise AwsError("InvalidParameterException", message)


def _log_group(response: LogsResponse) -> t.Any:
    name = response._get_param("logGroupName") or response._get_param("resourceIdentifier").rpartition(":log-group:")[2].removesuffix(":*")
    group = response.logs_backend.groups.get(name)
    if group is None:
        raise AwsError("ResourceNotFoundException", "The specified log group does not exist.")
    return group


@wraps(LogsResponse, "associate_kms_key")
def associate_kms_key(original: Wrapper | None, response: LogsResponse) -> str:
    """moto does not have the operation. Whether the key's policy lets CloudWatch Logs use it is not judged."""
    _log_group(response).kms_key_id = response._get_param("kmsKeyId")
    return ""


@wraps(LogsResponse, "disassociate_kms_key")
def disassociate_kms_key(original: Wrapper | None, response: LogsResponse) -> str:
    """moto does not have the operation."""
    _log_group(response).kms_key_id = None
    return ""


# Tagging


@wraps(ResourceGroupsTaggingAPIBackend, "_get_resources_generator")
def list_eks_resources_too(
    original: Wrapper,
    backend: ResourceGroupsTaggingAPIBackend,
    tag_filters: list[dict[str, t.Any]] | None = None,
    resource_type_filters: list[str] | None = None,
    resource_arn_list: list[str] | None = None,
) -> t.Iterator[TaggedResource]:
    """moto lists no resource of EKS. EKS's lock is not taken: who holds it waits for moto, which this call has to itself."""
    yield from original(backend, tag_filters, resource_type_filters, resource_arn_list)
    fits = make_tag_matcher(tag_filters)
    for resource in _eks_resources(backend.account_id, backend.region_name):
        wanted = not resource_arn_list or resource.arn in resource_arn_list
        if wanted and resource.tags and match_resource_type(resource.resource_type, resource_type_filters) and fits(resource.tags):
            yield resource


def _eks_resources(account: str, region: str) -> t.Iterator[TaggedResource]:
    for cluster in surroundings().eks.in_region(account, region):
        parts: list[t.Any] = [cluster, *cluster.nodegroups.values(), *cluster.access_entries.values(), *cluster.addons.values()]
        for document in (*(part.document for part in parts), *cluster.associations.values()):
            arn = next(str(value) for name, value in document.items() if name in _ARNS)
            kind = arn.split(":", 5)[5].partition("/")[0]
            yield TaggedResource(arn=arn, tags=dict(document.get("tags", {})), resource_type=f"eks:{kind}")


_ARNS = ("arn", "nodegroupArn", "accessEntryArn", "addonArn", "associationArn")
