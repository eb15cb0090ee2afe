"""The way of a request: who signed it, which fault strikes, what is refused, and who answers."""

from __future__ import annotations

import datetime
import functools
import io
import logging
import re
import secrets
import socket
import threading
import typing as t
from urllib.parse import parse_qs

from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response

from lab.aws import autoscaling_settings, capacity, ec2_rules, endpoints, fleet, parts, rules
from lab.aws.calls import Call, canonical_service, parse_call
from lab.aws.consistency import Consistency
from lab.aws.control import ControlApplication
from lab.aws.eks.application import EksApplication
from lab.aws.errors import AwsError, error_response
from lab.aws.faults import Faults, fault_error
from lab.aws.idempotency import ClientTokens, TokenMismatch
from lab.aws.identities import authenticate
from lab.aws.queues import RECEIVE, receive
from lab.aws.requestlog import Entry, RequestLog, summarise

Environ = dict[str, t.Any]
StartResponse = t.Callable[..., t.Any]

# Importing a module registers its rules and fixes; they are named here so that none is taken for unused.
RULE_MODULES = (autoscaling_settings, capacity, ec2_rules, endpoints, fleet, parts)

INTERNAL_HEADER = "x-gpuops-lab-internal"
# Signed calls of the lab's own parts say so in their user agent: they are checked as others are, but neither logged nor hit by faults.
INTERNAL_USER_AGENT = "gpuops-lab-internal"
ACCOUNT_HEADER = "x-moto-account-id"
MAX_BODY_BYTES = 16 * 1024 * 1024
CONTROL_PREFIX = "/_lab"
_ERROR_CODE = re.compile(rb"<Code>([^<]+)</Code>")
_log = logging.getLogger(__name__)


class Gateway:
    """The WSGI application in front of moto and of what is ours: EKS, and ``services`` by SigV4 signing name."""

    def __init__(
        self,
        *,
        eks: EksApplication,
        services: t.Mapping[str, t.Callable[[Call], Response]],
        faults: Faults,
        consistency: Consistency,
        log: RequestLog,
        control: ControlApplication,
    ) -> None:
        self.internal_token = secrets.token_hex(16)
        # moto keeps its state in plain dictionaries: one request at a time, and nobody else meanwhile.
        self.moto_lock = threading.RLock()
        self._services = {"eks": eks.handle, **services}
        self._faults = faults
        self._consistency = consistency
        self._log = log
        self._control = control
        self._moto = DomainDispatcherApplication(_create_moto_application)
        self._tokens = ClientTokens()

    def __call__(self, environ: Environ, start_response: StartResponse) -> t.Iterable[bytes]:
        body = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or 0), MAX_BODY_BYTES))
        if str(environ.get("PATH_INFO", "")).startswith(f"{CONTROL_PREFIX}/"):
            return self._control.handle(environ, body)(environ, start_response)
        call = parse_call(environ, body)
        call.internal = secrets.compare_digest(call.headers.get(INTERNAL_HEADER, ""), self.internal_token)
        response, lost = self._answer(call, environ)
        if not _ours(call):
            self._log.append(self._entry(call, response))
        if lost:
            _hang_up(environ)
        return response(environ, start_response)

    def reset(self) -> None:
        """Forget the client tokens."""
        self._tokens.clear()

    def _answer(self, call: Call, environ: Environ) -> tuple[Response, bool]:
        """The reply, and whether it is to be lost on its way."""
        try:
            if call.internal:
                call.account = call.headers.get(ACCOUNT_HEADER, "")
                call.principal_arn = "lab"
                return self._dispatch(call, environ), False
            principal = authenticate(call)
            call.account, call.principal_arn = principal.account, principal.arn
            if _ours(call):
                return self._dispatch(call, environ), False
            fault = self._faults.for_call(call)
            if fault is not None and not fault.rule.get("drop_reply"):
                raise fault_error(fault)
            self._faults.hold(call)
            self._consistency.check(call)
            response = self._dispatch(call, environ)
            self._consistency.answered(call, response)
            return response, fault is not None
        except AwsError as error:
            return error_response(error, call.protocol), False
        except Exception as error:  # noqa: BLE001  a server answers; what went wrong is in its own log
            _log.exception("%s:%s failed", call.service, call.operation)
            return error_response(
                AwsError("InternalFailure", f"The lab failed: {type(error).__name__}: {error}", 500), call.protocol
            ), False

    def _dispatch(self, call: Call, environ: Environ) -> Response:
        if call.service in self._services:
            return self._services[call.service](call)
        if (call.service, call.operation) == RECEIVE:
            return receive(call, functools.partial(self._call_moto, call, environ))
        token = call.params.get("ClientToken")
        if call.service != "ec2" or not token or call.dry_run:
            return self._call_moto(call, environ)
        key = (call.account, call.region, call.operation, str(token))
        fingerprint = repr(sorted(item for item in call.params.items() if item[0] != "ClientToken"))
        with self._tokens.serialise(key):
            try:
                repeated = self._tokens.recall(key, fingerprint)
            except TokenMismatch as error:
                message = f"The client token {token} was used before with different parameters."
                raise AwsError("IdempotentParameterMismatch", message) from error
            if repeated is not None:
                return repeated
            response = self._call_moto(call, environ)
            if response.status_code < 300:
                self._tokens.remember(key, fingerprint, response, _outcome_lives(call, response.get_data()))
            return response

    def _call_moto(self, call: Call, environ: Environ) -> Response:
        with self.moto_lock:
            rules.check(call)
            try:
                response = Response.from_app(self._moto, _moto_environ(call, environ), buffered=True)
            except NotImplementedError as error:
                raise AwsError("NotImplemented", f"The lab does not imitate {call.service}:{call.operation}: {error}", 501) from error
        if response.status_code >= 400 and response.mimetype == "text/html":
            raise AwsError("NotImplemented", f"The lab does not imitate {call.service}:{call.operation}", 501)
        return response

    def _entry(self, call: Call, response: Response) -> Entry:
        return Entry(
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            service=canonical_service(call.service),
            operation=call.operation,
            region=call.region,
            principal=call.principal_arn,
            mutating=call.mutating,
            dry_run=call.dry_run,
            status=response.status_code,
            error=_error_code(response),
            parameters=summarise(call.params),
            user_agent=call.headers.get("user-agent", ""),
        )


def _ours(call: Call) -> bool:
    return call.internal or INTERNAL_USER_AGENT in call.headers.get("user-agent", "")


def _create_moto_application(service: t.Any) -> t.Any:
    """moto's application for one service, that lets NotImplementedError through instead of an HTML page."""
    if service is None:
        raise NotImplementedError("moto does not have the service")
    application = create_backend_app(service)
    application.debug = False
    application.config["PROPAGATE_EXCEPTIONS"] = True
    return application


def _moto_environ(call: Call, environ: Environ) -> Environ:
    """The request for moto: it knows the account, and a presigned one (an EKS token) looks like a signed one.

    moto routes requests without an Authorization header by guess, presigned ones to S3.
    """
    body = {"wsgi.input": io.BytesIO(call.body), "CONTENT_LENGTH": str(len(call.body))}
    changed = {**environ, **body, "HTTP_X_MOTO_ACCOUNT_ID": call.account}
    changed.pop("HTTP_X_GPUOPS_LAB_INTERNAL", None)
    if call.presigned and call.service != "s3":
        scope = parse_qs(call.query_string)["X-Amz-Credential"][0]
        changed["HTTP_AUTHORIZATION"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    return changed


def _error_code(response: Response) -> str:
    if response.status_code < 400:
        return ""
    named = response.headers.get("x-amzn-errortype", "")
    if named:
        return named.partition(":")[0]
    body = response.get_data()
    found = _ERROR_CODE.search(body) or re.search(rb'"__type": ?"(?:[^"]*#)?([^"]+)"', body)
    return found[1].decode() if found else str(response.status_code)


def _hang_up(environ: Environ) -> None:
    """Close the connection: the client never learns that its request was carried out."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)


# What a token's reply made, by the element of the reply that names it, and whether that is still there.
_LIVES: dict[str, tuple[str, t.Callable[[t.Any, str], bool]]] = {
    "CreateNatGateway": (
        "natGatewayId",
        lambda backend, i: i in backend.nat_gateways and backend.nat_gateways[i].state in ("pending", "available"),
    ),
    "CreateLaunchTemplate": ("launchTemplateId", lambda backend, i: i in backend.launch_templates),
    "CreateLaunchTemplateVersion": ("launchTemplateId", lambda backend, i: i in backend.launch_templates),
    "CreateVpcEndpoint": ("vpcEndpointId", lambda backend, i: i in backend.vpc_end_points and backend.vpc_end_points[i].state != "deleted"),
    "CreateRouteTable": ("routeTableId", lambda backend, i: i in backend.route_tables),
    "CreateNetworkInterface": ("networkInterfaceId", lambda backend, i: i in backend.enis),
    "RunInstances": ("instanceId", lambda backend, i: backend.get_instance(i).state != "terminated"),
}


def _outcome_lives(call: Call, body: bytes) -> t.Callable[[], bool]:
    """Whether what the reply names is still there; replies of other operations are repeated for ever."""
    if call.operation not in _LIVES:
        return lambda: True
    element, lives = _LIVES[call.operation]
    found = re.search(rf"<{element}>([^<]+)</{element}>".encode(), body)
    if found is None:
        return lambda: True
    resource_id = found[1].decode()
    return lambda: lives(ec2_backends[call.account][call.region], resource_id)
