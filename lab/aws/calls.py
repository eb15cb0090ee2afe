"""What a request is, read from the wire: service, region, operation, who signed it, and its parameters."""

from __future__ import annotations

import functools
import json
import typing as t
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl

from lab.aws.eks.routing import Route, match_operation
from lab.aws.errors import Protocol

REST_XML_SERVICES = frozenset({"s3", "s3control", "route53", "cloudfront"})

# What starts with one of these reads; https://docs.aws.amazon.com/service-authorization/ lists them with access level Read or List.
READ_PREFIXES = (
    "BatchGet",
    "Check",
    "Describe",
    "Download",
    "Filter",
    "Get",
    "Head",
    "List",
    "Lookup",
    "Query",
    "Scan",
    "Search",
    "Select",
    "Simulate",
    "Validate",
    "View",
)
# Operations that change nothing that anybody owns, although their names do not say so.
READ_OPERATIONS = frozenset(
    {
        ("sts", "AssumeRole"),
        ("sts", "AssumeRoleWithSAML"),
        ("sts", "AssumeRoleWithWebIdentity"),
        ("sts", "DecodeAuthorizationMessage"),
        ("kms", "Decrypt"),
        ("kms", "Encrypt"),
        ("kms", "GenerateDataKey"),
        ("kms", "GenerateDataKeyWithoutPlaintext"),
        ("kms", "Verify"),
        ("iam", "GenerateCredentialReport"),
        ("eks-auth", "AssumeRoleForPodIdentity"),
        ("logs", "StartQuery"),
        ("logs", "TestMetricFilter"),
        ("events", "TestEventPattern"),
    }
)


@dataclass(frozen=True, slots=True)
class Credential:
    """The credential scope of a SigV4 signature."""

    access_key_id: str
    date: str
    region: str
    service: str


@dataclass(slots=True)
class Call:
    """One request. ``params`` are flat strings for the query protocols, the parsed JSON body for the others."""

    service: str
    region: str
    operation: str
    protocol: Protocol
    method: str
    raw_path: str
    query_string: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    credential: Credential | None
    presigned: bool
    params: dict[str, t.Any]
    route: Route | None = None  # for EKS alone
    account: str = ""
    principal_arn: str = ""
    internal: bool = False

    @property
    def dry_run(self) -> bool:
        return str(self.params.get("DryRun", "")).lower() == "true"

    @property
    def mutating(self) -> bool:
        if (self.service, self.operation) in READ_OPERATIONS or self.dry_run:
            return False
        if " " in self.operation:  # a REST call whose operation is unknown is named by method and path
            return self.method not in ("GET", "HEAD")
        return not self.operation.startswith(READ_PREFIXES)


def parse_call(environ: t.Mapping[str, t.Any], body: bytes) -> Call:
    """The call in a WSGI environment; one without a signature has neither credential nor service."""
    headers = _headers(environ)
    raw_path, _, query_string = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "/").partition("?")
    query = parse_qs(query_string, keep_blank_values=True)
    credential, presigned = _credential(headers, query)
    service = credential.service if credential else ""
    method = str(environ["REQUEST_METHOD"])
    form = _form(headers, query_string, body)
    call = Call(
        service=service,
        region=credential.region if credential else "",
        operation="",
        protocol=_protocol(service, headers, form),
        method=method,
        raw_path=raw_path,
        query_string=query_string,
        headers=headers,
        body=body,
        credential=credential,
        presigned=presigned,
        params={},
    )
    _identify(call, form, query)
    return call


def _headers(environ: t.Mapping[str, t.Any]) -> dict[str, str]:
    headers = {name[5:].replace("_", "-").lower(): str(value) for name, value in environ.items() if name.startswith("HTTP_")}
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = str(environ[name])
    return headers


def _credential(headers: dict[str, str], query: dict[str, list[str]]) -> tuple[Credential | None, bool]:
    authorization = headers.get("authorization", "")
    if authorization.startswith("AWS4-HMAC-SHA256 "):
        fields = authorization_fields(authorization)
        return parse_scope(fields.get("Credential", "")), False
    if "X-Amz-Credential" in query:
        return parse_scope(query["X-Amz-Credential"][0]), True
    return None, False


def authorization_fields(authorization: str) -> dict[str, str]:
    """Credential, SignedHeaders and Signature of an Authorization header."""
    pairs = (part.strip().partition("=") for part in authorization.partition(" ")[2].split(","))
    return {name: value for name, _, value in pairs}


def parse_scope(scope: str) -> Credential | None:
    """``KEY/DATE/REGION/SERVICE/aws4_request``, None when it is not of that form."""
    parts = scope.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request":
        return None
    return Credential(access_key_id=parts[0], date=parts[1], region=parts[2], service=parts[3].lower())


def _form(headers: dict[str, str], query_string: str, body: bytes) -> dict[str, str]:
    """Parameters of a query-protocol request; empty for the others."""
    if headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    form = dict(parse_qsl(query_string, keep_blank_values=True))
    return form if "Action" in form else {}


def _protocol(service: str, headers: dict[str, str], form: dict[str, str]) -> Protocol:
    if "x-amz-target" in headers:
        return "json"
    if "Action" in form:
        return "ec2" if service == "ec2" else "query"
    return "rest-xml" if service in REST_XML_SERVICES else "rest-json"


def _identify(call: Call, form: dict[str, str], query: dict[str, list[str]]) -> None:
    if call.protocol == "json":
        call.operation = call.headers["x-amz-target"].rpartition(".")[2]
        call.params = _json_object(call.body)
    elif "Action" in form:
        call.operation = form["Action"]
        call.params = {name: value for name, value in form.items() if name not in ("Action", "Version") and not name.startswith("X-Amz-")}
    elif call.service == "eks":
        call.route = match_operation(call.method, call.raw_path)
        call.operation = call.route.operation if call.route else f"{call.method} {call.raw_path}"
        call.params = {**_json_object(call.body), **(call.route.labels if call.route else {})}
        call.params.update({name: values[0] if len(values) == 1 else values for name, values in query.items()})
    else:
        call.operation = f"{call.method} {call.raw_path}"
        call.params = _json_object(call.body)


def _json_object(body: bytes) -> dict[str, t.Any]:
    """The JSON object in ``body``; what is no JSON object has no parameters here and is judged by the service."""
    try:
        parsed = json.loads(body or b"{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


@functools.cache
def canonical_service(signing_name: str) -> str:
    """The name that the log uses for a SigV4 signing name."""
    names = {
        "monitoring": "cloudwatch",
        "elasticloadbalancing": "elb",
        "email": "ses",
        "servicequotas": "service-quotas",
        "tagging": "resourcegroupstaggingapi",
    }
    return names.get(signing_name, signing_name)
