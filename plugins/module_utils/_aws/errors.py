# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""botocore's exceptions as the collection's own, in one place: the service's words, and what to do about them."""

from __future__ import annotations

import contextlib
import functools
import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import ConnectionRefused, GpuopsError, ServiceError

with contextlib.suppress(ImportError):  # run_module says that botocore is missing before any call gets here
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectTimeoutError,
        EndpointConnectionError,
        NoCredentialsError,
        NoRegionError,
        PartialCredentialsError,
        ProfileNotFound,
        TokenRetrievalError,
    )

P = t.ParamSpec("P")
R = t.TypeVar("R")

_CREDENTIALS_HINT = (
    "Check the credentials that this task uses: the options access_key, secret_key, session_token or profile, else the AWS_* "
    "environment variables."
)
_REFUSED_CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedAccess"}
_HINTS = {
    "InsufficientInstanceCapacity": "Add zones or instance types to the pool, or try again later.",
    "VcpuLimitExceeded": "Ask for a higher vCPU quota in Service Quotas.",
    "ResourceLimitExceededException": "Ask for a higher limit in Service Quotas, or delete what is no longer needed.",
    "ResourceInUseException": "Something else changes this resource, or still uses it; run again when that is done.",
    "DependencyViolation": "Something that is not ours still uses this resource; remove it, then run again.",
    "UnsupportedAvailabilityZoneException": "Leave this zone out of the cluster's subnets.",
    "AddressLimitExceeded": "Ask for more Elastic IP addresses in Service Quotas, or use nat: single or none.",
    "EniLimitReached": "Ask for more network interfaces in Service Quotas, or delete those that nothing uses.",
    "InsufficientFreeAddresses": "Free addresses in these subnets, or give others that have some.",
    "IpNotAvailable": "Free addresses in these subnets, or give others that have some.",
    "VpcLimitExceeded": "Ask for more VPCs in Service Quotas, or delete one that is no longer needed.",
}

# In AWS's words: "User: ARN is not authorized to perform: ACTION on resource: ARN because no identity-based policy allows it".
_UNAUTHORIZED = re.compile(
    r"(?P<principal>arn:aws[a-z-]*:(?:iam|sts)::\S+) is not authorized to perform: (?P<permission>[\w-]+:\w+)(?: on resource: (?P<resource>[^\s,]+))?"
)
# Refusals of a service that has too much to do; the same call is taken later.
THROTTLED = frozenset(
    {
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
# Services whose IAM prefix is not the SDK's name. Source: Service Authorization Reference.
_IAM_PREFIXES = {"service-quotas": "servicequotas", "resourcegroupstaggingapi": "tag"}


def permission_for(action: str) -> str:
    """The IAM permission of a call."""
    service, colon, operation = action.partition(":")
    return f"{_IAM_PREFIXES.get(service, service)}{colon}{operation}"


def hint_for(code: str, action: str, message: str = "") -> str:
    """What to do about an error of a service; empty where the service's own words have to do.

    A refusal may speak of another call than the one that was made, and of another identity, such as the cluster's role.
    """
    if code in _REFUSED_CREDENTIALS:
        return _CREDENTIALS_HINT
    if said := _missing_permission(message):
        return said
    if code in _DENIED or code.endswith("AccessDenied"):
        return f"The calling identity needs the IAM permission {permission_for(action)}."
    return _HINTS.get(code, "")


def hint_for_issues(issues: t.Iterable[str]) -> str:
    """What to do about the first issue, as ``CODE: message``, that more is known of; empty where that is none."""
    hints = (_missing_permission(issue) or _HINTS.get(issue.partition(":")[0], "") for issue in issues)
    return next(filter(None, hints), "")


def _missing_permission(message: str) -> str:
    """Who needs which permission on what, where AWS says so."""
    said = _UNAUTHORIZED.search(message)
    if said is None:
        return ""
    where = f" on {said['resource'].rstrip('.')}" if said["resource"] else ""
    return f"{said['principal']} needs the IAM permission {said['permission']}{where}."


def from_client_error(error: ClientError, action: str) -> ServiceError:
    """The service's refusal, with its code and message."""
    details = error.response.get("Error", {})
    code = str(details.get("Code", "Unknown"))
    message = str(details.get("Message", error))
    return ServiceError(action, code, message, hint=hint_for(code, action, message))


def from_botocore_error(error: BotoCoreError, action: str) -> GpuopsError:
    """What stopped a call before the service could answer it."""
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, TokenRetrievalError, ProfileNotFound)):
        return ConnectionRefused(f"{action}: no usable AWS credentials: {str(error).rstrip('.')}.", hint=_CREDENTIALS_HINT)
    if isinstance(error, NoRegionError):
        return ConnectionRefused(f"{action}: no AWS region is set.", hint="Set the option region (in inventories: eks_cluster_region).")
    if isinstance(error, (EndpointConnectionError, ConnectTimeoutError)):
        return ConnectionRefused(
            f"{action}: {str(error).rstrip('.')}.", hint="Check the network, the region's name and the option endpoint_url."
        )
    return ConnectionRefused(f"{action}: {str(error).rstrip('.')}.")


def translate(action_of: t.Callable[..., str]) -> t.Callable[[t.Callable[P, R]], t.Callable[P, R]]:
    """Decorate a function that calls AWS: its botocore exceptions become ours. ``action_of`` gets its arguments and names the call."""

    def decorate(function: t.Callable[P, R]) -> t.Callable[P, R]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except ClientError as error:
                raise from_client_error(error, action_of(*args, **kwargs)) from error
            except BotoCoreError as error:
                raise from_botocore_error(error, action_of(*args, **kwargs)) from error

        return wrapper

    return decorate
