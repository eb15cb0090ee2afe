"""Who signs requests: IAM users and assumed roles of the simulated accounts, and what access entries make of them."""

from __future__ import annotations

import datetime
import hmac
from dataclasses import dataclass
from urllib.parse import parse_qs

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from lab.aws.calls import Call
from lab.aws.consistency import Consistency
from lab.aws.eks.access import identity_of
from lab.aws.eks.state import EksState
from lab.aws.errors import AwsError, Protocol
from lab.aws.sigv4 import BadSignature, SignatureExpired, verify
from lab.contracts import AccessIdentity, ClusterRef

ACCOUNT = "123456789012"
ADMIN_USER = "lab-admin"
# Both are long, so that Ansible's censoring of secrets in output hits nothing else, and cannot be taken for real ones.
ADMIN_ACCESS_KEY_ID = "GPUOPSLABADMIN000000"
ADMIN_SECRET_ACCESS_KEY = "gpuops-lab-dummy-secret-of-no-real-worth"


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of an access key; ``session_token`` is None for permanent keys."""

    account: str
    arn: str
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_at: datetime.datetime | None = None


def create_admin(account: str = ACCOUNT) -> None:
    """The lab's administrator, an IAM user with the dummy keys above."""
    backend = iam_backends[account]["aws"]
    user = backend.create_user(region_name="us-east-1", user_name=ADMIN_USER)
    backend.attach_user_policy("arn:aws:iam::aws:policy/AdministratorAccess", user.name)
    key = backend.create_access_key(ADMIN_USER)
    del backend.access_keys[key.physical_resource_id]
    key.access_key_id, key.secret_access_key = ADMIN_ACCESS_KEY_ID, ADMIN_SECRET_ACCESS_KEY
    backend.access_keys[key.physical_resource_id] = key


def find_principal(access_key_id: str) -> Principal | None:
    """The principal of an active access key, permanent or temporary."""
    for account in list(iam_backends):
        key = iam_backends[account]["aws"].access_keys.get(access_key_id)
        if key is not None and key.user_name is not None and key.status == "Active":
            user = iam_backends[account]["aws"].get_user(key.user_name)
            return Principal(account, user.arn, access_key_id, key.secret_access_key)
    for account in list(sts_backends):
        role = sts_backends[account]["aws"].get_assumed_role_from_access_key(access_key_id)
        if role is not None:
            expires_at = role.expiration.replace(tzinfo=datetime.UTC)
            return Principal(account, role.role_arn, access_key_id, role.secret_access_key, role.session_token, expires_at)
    return None


# What each protocol answers: (code, HTTP status, message).
_UNSIGNED: dict[Protocol, tuple[str, int, str]] = {
    "ec2": ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
    "query": ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
    "json": ("MissingAuthenticationTokenException", 400, "Missing Authentication Token"),
    "rest-json": ("MissingAuthenticationTokenException", 403, "Missing Authentication Token"),
    "rest-xml": ("AccessDenied", 403, "Access Denied"),
}
_INVALID_TOKEN = "The security token included in the request is invalid."
_UNKNOWN_KEY: dict[Protocol, tuple[str, int, str]] = {
    "ec2": ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
    "query": ("InvalidClientTokenId", 403, _INVALID_TOKEN),
    "json": ("UnrecognizedClientException", 400, _INVALID_TOKEN),
    "rest-json": ("UnrecognizedClientException", 403, _INVALID_TOKEN),
    "rest-xml": ("InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records."),
}
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)
_WRONG_SIGNATURE: dict[Protocol, tuple[str, int, str]] = {
    "ec2": ("AuthFailure", 401, "AWS was not able to validate the provided access credentials"),
    "query": ("SignatureDoesNotMatch", 403, _MISMATCH),
    "json": ("InvalidSignatureException", 400, _MISMATCH),
    "rest-json": ("InvalidSignatureException", 403, _MISMATCH),
    "rest-xml": ("SignatureDoesNotMatch", 403, _MISMATCH),
}
_EXPIRED: dict[Protocol, tuple[str, int, str]] = {
    "ec2": ("RequestExpired", 400, "Request has expired."),
    "query": ("ExpiredToken", 403, "The security token included in the request is expired"),
    "json": ("ExpiredTokenException", 400, "The security token included in the request is expired"),
    "rest-json": ("ExpiredTokenException", 403, "The security token included in the request is expired"),
    "rest-xml": ("ExpiredToken", 400, "The provided token has expired."),
}


def authenticate(call: Call) -> Principal:
    """The principal that signed ``call``; raises AwsError as the service of the call would."""
    if call.credential is None:
        raise _refusal(_UNSIGNED, call.protocol)
    principal = find_principal(call.credential.access_key_id)
    if principal is None or not _token_fits(call, principal):
        raise _refusal(_UNKNOWN_KEY, call.protocol)
    now = datetime.datetime.now(datetime.UTC)
    if principal.expires_at is not None and now > principal.expires_at:
        raise _refusal(_EXPIRED, call.protocol)
    try:
        verify(call, principal.secret_access_key, now)
    except SignatureExpired as error:
        code, status, _ = _WRONG_SIGNATURE[call.protocol]
        raise AwsError("RequestExpired" if call.protocol == "ec2" else code, str(error), status) from error
    except BadSignature as error:
        raise _refusal(_WRONG_SIGNATURE, call.protocol) from error
    return principal


def _refusal(table: dict[Protocol, tuple[str, int, str]], protocol: Protocol) -> AwsError:
    code, status, message = table[protocol]
    return AwsError(code, message, status)


def _token_fits(call: Call, principal: Principal) -> bool:
    if principal.session_token is None:
        return True
    sent = call.headers.get("x-amz-security-token") or parse_qs(call.query_string).get("X-Amz-Security-Token", [""])[0]
    return hmac.compare_digest(sent, principal.session_token)


class AccountIdentities:
    """lab.contracts.Identities over the simulated accounts and the EKS application's state."""

    def __init__(self, state: EksState, consistency: Consistency) -> None:
        self._state = state
        self._consistency = consistency

    def secret_access_key(self, access_key_id: str) -> str | None:
        principal = find_principal(access_key_id)
        return principal.secret_access_key if principal else None

    def principal_arn(self, access_key_id: str) -> str | None:
        principal = find_principal(access_key_id)
        return principal.arn if principal else None

    def access_identity(self, cluster: ClusterRef, principal_arn: str) -> AccessIdentity | None:
        if self._consistency.hides_entry(cluster, principal_arn):
            return None
        with self._state.lock:
            found = self._state.find_cluster(cluster)
            return identity_of(found, principal_arn) if found is not None else None
