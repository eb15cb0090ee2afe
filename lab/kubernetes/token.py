"""EKS tokens: ``k8s-aws-v1.`` and a presigned STS GetCallerIdentity URL.

The rules are those of kubernetes-sigs/aws-iam-authenticator, pkg/token/token.go (form, age), and of AWS Signature Version 4 for
query strings (signature), which STS checks for the real authenticator.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import hmac
import re
from collections.abc import Callable
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

PREFIX = "k8s-aws-v1."
CLUSTER_HEADER = "x-k8s-aws-id"
MAX_TOKEN_BYTES = 4096
LIFETIME = datetime.timedelta(minutes=15)  # STS ignores X-Amz-Expires; 15 minutes after X-Amz-Date it refuses
CLOCK_SKEW = datetime.timedelta(minutes=5)
ALGORITHM = "AWS4-HMAC-SHA256"
PARAMETERS = frozenset(
    {
        "action",
        "version",
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)
STS_HOST = re.compile(r"sts(-fips)?(\.[a-z]{2}(-[a-z]+)+-\d)?\.(amazonaws\.com(\.cn)?|api\.aws)")


class TokenRefused(PermissionError):
    """Why a token is not accepted, in one sentence."""


def verify(
    token: str, cluster_name: str, secret_of: Callable[[str], str | None], now: datetime.datetime, endpoint: str | None = None
) -> str:
    """The access key id that signed the token; raises TokenRefused.

    ``endpoint`` is the simulated AWS's own address: a client with AWS_ENDPOINT_URL signs for that host instead of STS's.
    """
    url = _url(token)
    _check_host(url, endpoint)
    query = _query(url)
    _check_age(query, now)
    headers = _headers(query, url.netloc, cluster_name)
    key, scope = _credential(query)
    secret = secret_of(key)
    if secret is None:
        raise TokenRefused(f"sts getCallerIdentity failed: InvalidClientTokenId: there is no access key {key}")
    if not hmac.compare_digest(_signature(url, query, headers, scope, secret), query["x-amz-signature"]):
        raise TokenRefused("sts getCallerIdentity failed: SignatureDoesNotMatch: a wrong secret, a changed token or another cluster's")
    return key


def _url(token: str) -> SplitResult:
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused("token is too large")
    if not token.startswith(PREFIX):
        raise TokenRefused(f"token is missing expected {PREFIX!r} prefix")
    raw = token.removeprefix(PREFIX)
    try:
        return urlsplit(base64.b64decode(raw + "=" * (-len(raw) % 4), altchars=b"-_", validate=True).decode())
    except (binascii.Error, ValueError) as error:
        raise TokenRefused(f"token does not hold a URL: {error}") from error


def _check_host(url: SplitResult, endpoint: str | None) -> None:
    local = urlsplit(endpoint) if endpoint else None
    if local is not None and (url.scheme, url.netloc) == (local.scheme, local.netloc):
        pass
    elif url.scheme != "https":
        raise TokenRefused(f"unexpected scheme {url.scheme!r} in pre-signed URL")
    elif not STS_HOST.fullmatch(url.netloc):
        raise TokenRefused(f"unexpected hostname {url.netloc!r} in pre-signed URL")
    if url.path not in ("", "/"):
        raise TokenRefused("unexpected path in pre-signed URL")


def _query(url: SplitResult) -> dict[str, str]:
    """The parameters, names in lower case, each once and known."""
    pairs = [(k.lower(), v) for k, v in parse_qsl(url.query, keep_blank_values=True)]
    query = dict(pairs)
    if len(query) != len(pairs):
        raise TokenRefused("query parameter given more than once")
    if unknown := set(query) - PARAMETERS:
        raise TokenRefused(f"non-whitelisted query parameter {sorted(unknown)[0]!r}")
    if missing := PARAMETERS - {"x-amz-security-token", "version"} - set(query):
        raise TokenRefused(f"missing query parameter {sorted(missing)[0]!r}")
    if query["action"] != "GetCallerIdentity":
        raise TokenRefused("unexpected action parameter in pre-signed URL")
    if query["x-amz-algorithm"] != ALGORITHM:
        raise TokenRefused("unexpected X-Amz-Algorithm parameter in pre-signed URL")
    return query


def _check_age(query: dict[str, str], now: datetime.datetime) -> None:
    if not re.fullmatch(r"\d{1,3}", query["x-amz-expires"]) or int(query["x-amz-expires"]) > LIFETIME.total_seconds():
        raise TokenRefused(f"invalid X-Amz-Expires parameter in pre-signed URL: {query['x-amz-expires']}")
    try:
        signed = datetime.datetime.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError as error:
        raise TokenRefused(f"error parsing X-Amz-Date parameter {query['x-amz-date']}") from error
    if signed + LIFETIME < now:
        raise TokenRefused(f"X-Amz-Date parameter is expired (15 minute expiration) {query['x-amz-date']}")
    if signed - CLOCK_SKEW > now:
        raise TokenRefused(f"sts getCallerIdentity failed: signature not yet current: {query['x-amz-date']}")


def _headers(query: dict[str, str], host: str, cluster_name: str) -> dict[str, str]:
    """The signed headers as the authenticator sends them: the cluster's name is its own, whatever the client signed."""
    known = {"host": host, CLUSTER_HEADER: cluster_name}
    names = query["x-amz-signedheaders"].lower().split(";")
    if CLUSTER_HEADER not in names:
        raise TokenRefused(f"client did not sign the {CLUSTER_HEADER} header in the pre-signed URL")
    if unknown := [n for n in names if n not in known]:
        raise TokenRefused(f"sts getCallerIdentity failed: SignatureDoesNotMatch: header {unknown[0]!r} is signed but not sent")
    return {name: known[name] for name in sorted(names)}


def _credential(query: dict[str, str]) -> tuple[str, list[str]]:
    """(access key id, [date, region, "sts", "aws4_request"])"""
    key, *scope = query["x-amz-credential"].split("/")
    if len(scope) != 4 or scope[2:] != ["sts", "aws4_request"] or scope[0] != query["x-amz-date"][:8]:
        raise TokenRefused("invalid X-Amz-Credential parameter in pre-signed URL")
    return key, scope


def _signature(url: SplitResult, query: dict[str, str], headers: dict[str, str], scope: list[str], secret: str) -> str:
    def encode(text: str) -> str:
        return quote(text, safe="-_.~")

    pairs = sorted((encode(k), encode(v)) for k, v in parse_qsl(url.query, keep_blank_values=True) if k.lower() != "x-amz-signature")
    request = [
        "GET",
        "/",
        "&".join(f"{k}={v}" for k, v in pairs),
        *(f"{name}:{value}" for name, value in headers.items()),
        "",
        ";".join(headers),
        hashlib.sha256(b"").hexdigest(),
    ]
    digest = hashlib.sha256("\n".join(request).encode()).hexdigest()
    text = "\n".join([ALGORITHM, query["x-amz-date"], "/".join(scope), digest])
    key = f"AWS4{secret}".encode()
    for part in (*scope, text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()
