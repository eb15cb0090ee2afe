"""The TokenReview webhook that every cluster's API server asks about bearer tokens."""

from __future__ import annotations

import datetime
import json
import logging
import threading
import typing as t
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

from lab.contracts import ClusterRef, Identities
from lab.kubernetes import access, token
from lab.kubernetes.client import Json, Kube
from lab.supervisor import HOST

_log = logging.getLogger(__name__)


class TokenWebhook:
    """Answers TokenReviews of all clusters; each cluster has its own path, which says whose token it must be."""

    def __init__(self, identities: Identities, kube_of: Callable[[ClusterRef], Kube | None], endpoint: str | None = None) -> None:
        self._identities, self._kube_of, self._endpoint = identities, kube_of, endpoint
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.daemon_threads = True

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="token webhook", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, cluster: ClusterRef) -> str:
        """The address for the cluster's --authentication-token-webhook-config-file."""
        parts = (cluster.account, cluster.region, cluster.name, cluster.version)
        return f"http://{HOST}:{self._server.server_port}/" + "/".join(quote(p, safe="") for p in parts)

    def review(self, cluster: ClusterRef, bearer: str) -> Json:
        """The status of a TokenReview (authentication.k8s.io/v1)."""
        try:
            return {"authenticated": True, "user": self._user(cluster, bearer)}
        except token.TokenRefused as error:
            _log.warning("%s: token refused: %s", cluster.name, error)
            return {"authenticated": False, "error": str(error)}

    def _user(self, cluster: ClusterRef, bearer: str) -> Json:
        now = datetime.datetime.now(datetime.UTC)
        key = token.verify(bearer, cluster.name, self._identities.secret_access_key, now, self._endpoint)
        arn = self._identities.principal_arn(key)
        if arn is None:
            raise token.TokenRefused(f"sts getCallerIdentity failed: there is no principal of access key {key}")
        identity = self._identities.access_identity(cluster, arn)
        if identity is None:
            raise token.TokenRefused(f"ARN is not mapped: no access entry of cluster {cluster.name} names {arn}")
        if unknown := [policy for policy, _ in identity.policies if policy not in access.POLICY_ROLES]:
            _log.error("%s: the lab does not imitate what %s allow; %s gets nothing by it", cluster.name, ", ".join(unknown), arn)
        namespaces: list[str] = []
        kube = self._kube_of(cluster)
        if access.namespaced(identity) and kube is not None:
            namespaces = [n["metadata"]["name"] for n in kube.call("GET", "/api/v1/namespaces")["items"]]
            access.bind(kube, identity, namespaces)
        return {
            "username": identity.username,
            "uid": f"aws-iam-authenticator:{cluster.account}:{key}",
            "groups": access.groups(identity, namespaces),
            "extra": {"arn": [arn], "canonicalArn": [identity.principal_arn], "accessKeyId": [key]},
        }

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body: Json = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                # client-go appends ?timeout=…
                account, region, name, version = (unquote(p) for p in self.path.partition("?")[0].strip("/").split("/"))
                cluster = ClusterRef(account=account, region=region, name=name, version=version)
                body["status"] = webhook.review(cluster, body["spec"]["token"])
                answer = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: t.Any) -> None:
                _log.debug(format, *args)

        return Handler
