"""The kubelets of one cluster, as far as its API server calls them: logs of containers.

The nodes' addresses lead nowhere here. The API server reaches this endpoint as its proxy (HTTPS_PROXY), so that a request for any node
ends up in one place and nodes look like those of AWS.
"""

from __future__ import annotations

import datetime
import logging
import re
import ssl
import threading
import typing as t
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from lab.supervisor import HOST

IDLE_SECONDS = 60
NOTHING_RUNS = "Nothing runs in this container: it belongs to a rehearsal lab."
_LOGS = re.compile(r"/containerLogs/([^/]+)/([^/]+)/([^/]+)")
_log = logging.getLogger(__name__)


class NoLogs(ValueError):
    """Kubelet refuses with this message."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log and when it was written."""

    when: datetime.datetime
    text: str


#: (namespace, pod, container, previous) -> its lines, None where this source does not know the container; raises NoLogs
Source = Callable[[str, str, str, bool], list[Line] | None]


class Kubelets:
    """Listens from ``start`` to ``stop``. ``sources`` are asked in turn."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    def start(self, certificates: Path) -> dict[str, str]:
        """Listen; returns the environment with which the API server sends here what is not on this machine."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates / "server.crt", certificates / "server.key")
        server = ThreadingHTTPServer((HOST, 0), self._handler(tls))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.1,), name="kubelets", daemon=True).start()
        with self._lock:
            self._server = server
        return {"HTTPS_PROXY": f"http://{HOST}:{server.server_port}", "NO_PROXY": f"{HOST},localhost"}

    def stop(self) -> None:
        """Safe to call again, and before it listens."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def answer(self, target: str) -> tuple[int, str]:
        """Status and text for a request's path and query."""
        url = urlsplit(target)
        found = _LOGS.fullmatch(url.path)
        if found is None:
            return 501, f"The lab's kubelets serve logs alone, not {url.path.split('/')[1]}.\n"
        options = {name: values[-1] for name, values in parse_qs(url.query).items()}
        namespace, pod, container = (unquote(part) for part in found.groups())
        try:
            return 200, shown(self._lines(namespace, pod, container, options.get("previous") == "true"), options)
        except ValueError as error:
            return 400, f"{error}\n"

    def _lines(self, namespace: str, pod: str, container: str, previous: bool) -> list[Line]:
        for source in self.sources:
            if (lines := source(namespace, pod, container, previous)) is not None:
                return lines
        if previous:
            raise NoLogs(f'previous terminated container "{container}" in pod "{pod}" not found')
        return [Line(datetime.datetime.now(datetime.UTC), NOTHING_RUNS)]

    def _handler(self, tls: ssl.SSLContext) -> type[BaseHTTPRequestHandler]:
        kubelets = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = IDLE_SECONDS

            def do_CONNECT(self) -> None:
                """The tunnel ends here: what follows is the request to the node's kubelet, in TLS."""
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()
                self.request = tls.wrap_socket(self.request, server_side=True)
                super().setup()
                self.close_connection = False

            def finish(self) -> None:
                super().finish()
                self.request.close()  # the server knows only the socket without TLS

            def do_GET(self) -> None:
                status, text = kubelets.answer(self.path)
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # exec, attach and port-forward are refused alike

            def log_message(self, format: str, *args: t.Any) -> None:
                _log.debug(format, *args)

        return Handler


def shown(lines: list[Line], options: t.Mapping[str, str]) -> str:
    """The text of these lines by PodLogOptions; raises ValueError for a number that is none. ``follow`` ends at once: nothing comes later."""
    if "sinceSeconds" in options:
        since = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=int(options["sinceSeconds"]))
        lines = [line for line in lines if line.when >= since]
    if "sinceTime" in options:
        moment = datetime.datetime.fromisoformat(options["sinceTime"])
        lines = [line for line in lines if line.when >= moment]
    if "tailLines" in options:
        lines = lines[max(0, len(lines) - int(options["tailLines"])) :]
    stamped = options.get("timestamps") == "true"
    text = "".join(f"{line.when:%Y-%m-%dT%H:%M:%S.%f}000Z {line.text}\n" if stamped else f"{line.text}\n" for line in lines)
    return text.encode()[: int(options["limitBytes"])].decode(errors="ignore") if "limitBytes" in options else text
