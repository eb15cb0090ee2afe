"""Signature Version 4, checked as AWS checks it.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from urllib.parse import parse_qsl, quote

from botocore.utils import normalize_url_path

from lab.aws.calls import Call, Credential, authorization_fields

MAX_SKEW = datetime.timedelta(minutes=15)
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"


class BadSignature(Exception):
    """The signature does not fit the request and the secret."""


class SignatureExpired(BadSignature):
    """The request was signed too long ago, or in the future."""


def verify(call: Call, secret: str, now: datetime.datetime) -> None:
    """Return when ``call`` was signed with ``secret``; raises BadSignature or SignatureExpired."""
    if call.credential is None:
        raise BadSignature("the request is not signed")
    query = parse_qsl(call.query_string, keep_blank_values=True)
    if call.presigned:
        fields = dict(query)
        signed_headers, signature = fields.get("X-Amz-SignedHeaders", ""), fields.get("X-Amz-Signature", "")
        timestamp, lifetime = fields.get("X-Amz-Date", ""), fields.get("X-Amz-Expires")
        query = [(name, value) for name, value in query if name != "X-Amz-Signature"]
    else:
        fields = authorization_fields(call.headers["authorization"])
        signed_headers, signature = fields.get("SignedHeaders", ""), fields.get("Signature", "")
        timestamp, lifetime = call.headers.get("x-amz-date", ""), None
    _check_time(timestamp, lifetime, now)
    canonical = "\n".join(
        (
            call.method,
            _canonical_path(call),
            "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)),
            *(f"{name}:{' '.join(_header(call, name).split())}" for name in signed_headers.split(";")),
            "",
            signed_headers,
            _payload_hash(call),
        )
    )
    expected = _signature(call.credential, secret, timestamp, canonical)
    if not hmac.compare_digest(expected, signature):
        raise BadSignature("the calculated signature differs")


def _check_time(timestamp: str, lifetime: str | None, now: datetime.datetime) -> None:
    try:
        signed_at = datetime.datetime.strptime(timestamp, _DATE_FORMAT).replace(tzinfo=datetime.UTC)
        expires = signed_at + (datetime.timedelta(seconds=int(lifetime)) if lifetime else MAX_SKEW)
    except ValueError as error:
        raise BadSignature(f"X-Amz-Date or X-Amz-Expires is malformed: {error}") from error
    if now > expires or signed_at > now + MAX_SKEW:
        raise SignatureExpired(f"Signature expired: {timestamp} is not within the allowed time of {now.strftime(_DATE_FORMAT)}")


def _header(call: Call, name: str) -> str:
    if name not in call.headers:
        raise BadSignature(f"the signed header {name} is missing")
    return call.headers[name]


def _canonical_path(call: Call) -> str:
    if call.credential is not None and call.credential.service == "s3":  # S3 keys are neither normalised nor encoded twice
        return call.raw_path
    return quote(normalize_url_path(call.raw_path), safe="/~")


def _payload_hash(call: Call) -> str:
    declared = call.headers.get("x-amz-content-sha256")
    if declared is not None and (declared == "UNSIGNED-PAYLOAD" or declared.startswith("STREAMING-")):
        return declared
    if call.presigned and call.credential is not None and call.credential.service == "s3":
        return "UNSIGNED-PAYLOAD"
    return hashlib.sha256(call.body).hexdigest()


def _signature(credential: Credential, secret: str, timestamp: str, canonical_request: str) -> str:
    scope = f"{credential.date}/{credential.region}/{credential.service}/aws4_request"
    digest = hashlib.sha256(canonical_request.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in (credential.date, credential.region, credential.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}".encode(), hashlib.sha256).hexdigest()
