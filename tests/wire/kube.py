# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module's main() against a script of requests to an API server: each request, in order, with exactly this content."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import queue
import threading
import typing as t
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import botocore
import pytest
import urllib3
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Json

from tests.wire.harness import ANY, Unexpected, Wire

SERVER = "https://example.gr7.us-west-2.eks.amazonaws.com"
APPLY = {"fieldManager": "gpuops.eks", "force": "true", "fieldValidation": "Strict"}
DRY_RUN = {**APPLY, "dryRun": "All"}
WATCH = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "240"}
VERSION = "100"  # of every list
Events = t.Sequence[tuple[str, Json]]


def certificate() -> str:
    """Some certificate authority, in base64 as eks:DescribeCluster gives it."""
    bundle = (Path(botocore.__file__).parent / "cacert.pem").read_text(encoding="utf-8")
    first = bundle[bundle.index("-----BEGIN") : bundle.index("-----END") + len("-----END CERTIFICATE-----")]
    return base64.b64encode(f"{first}\n".encode()).decode()


CLUSTER: Json = {
    "name": "demo",
    "arn": "arn:aws:eks:us-west-2:123456789012:cluster/demo",
    "status": "ACTIVE",
    "version": "1.36",
    "endpoint": SERVER,
    "certificateAuthority": {"data": certificate()},
}


@dataclasses.dataclass
class Expected:
    method: str
    path: str
    query: dict[str, str]
    body: t.Any
    status: int
    reply: t.Any

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.query or ''}"


class _Stream(urllib3.response.HTTPResponse):
    """A watch that stays open until the module has ended; ``put`` lets something happen."""

    def __init__(self, over: threading.Event) -> None:
        super().__init__(status=200, preload_content=False)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._over = over
        self._version = int(VERSION)

    def put(self, events: Events) -> None:
        """Each event has a resourceVersion of its own."""
        for kind, obj in events:
            self._version += 1
            versioned = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}}
            self._lines.put(json.dumps({"type": kind, "object": versioned}).encode() + b"\n")

    def stream(self, amt: int | None = None, decode_content: bool | None = None) -> t.Generator[bytes]:
        while not self._over.is_set():
            with contextlib.suppress(queue.Empty):
                yield self._lines.get(timeout=0.02)


class KubeWire:
    """The script of Kubernetes beside that of AWS; ``run`` fails where requests of either are missing, extra or different."""

    def __init__(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws = wire
        self.made: list[tuple[str, str, dict[str, str], t.Any]] = []
        self.tokens: set[str] = set()
        self._script: list[Expected] = []
        self._over = threading.Event()
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._later: dict[int, list[tuple[_Stream, Events]]] = {}
        monkeypatch.setattr(urllib3.connectionpool.HTTPConnectionPool, "urlopen", self._urlopen)

    def cluster(self) -> KubeWire:
        """The run finds its API server by the cluster's name."""
        self.aws.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": CLUSTER})
        return self

    def expect(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: t.Any = None, status: int = 200, reply: t.Any = None
    ) -> KubeWire:
        self._script.append(Expected(method, path, query or {}, body, status, reply))
        return self

    def get(self, path: str, reply: t.Any) -> KubeWire:
        """A read of one object; ``reply`` None: there is none."""
        missing = {"kind": "Status", "reason": "NotFound", "message": "not found", "code": 404}
        return self.expect("GET", path, status=200 if reply else 404, reply=reply or missing)

    def items(self, path: str, items: t.Sequence[t.Any], **query: str) -> KubeWire:
        return self.expect(
            "GET", path, query={"limit": "500", **query}, reply={"metadata": {"resourceVersion": VERSION}, "items": list(items)}
        )

    def watch(self, path: str, events: Events = (), **query: str) -> KubeWire:
        """A watch from the last list on, with these events (type, object) right away."""
        stream = self._streams[path, query.get("fieldSelector", "")] = _Stream(self._over)
        stream.put(events)
        return self.expect("GET", path, query={**WATCH, "resourceVersion": VERSION, **query}, reply=stream)

    def then(self, path: str, events: Events, fields: str = "") -> KubeWire:
        """What an open watch tells once the request before this has been made."""
        self._later.setdefault(len(self._script), []).append((self._streams[path, fields], events))
        return self

    def patch(self, path: str, reply: t.Any, *, dry_run: bool = False, body: t.Any = ANY) -> KubeWire:
        return self.expect("PATCH", path, query=DRY_RUN if dry_run else APPLY, body=body, reply=reply)

    def run(self, main: t.Callable[[], None], params: Json, *, check_mode: bool = False) -> Json:
        try:
            result = self.aws.run(main, params, check_mode=check_mode)
        finally:
            self._over.set()
        left = [str(expected) for expected in self._script[len(self.made) :]]
        assert not left, f"requests that were not made: {left}; result: {result}"
        assert self.tokens, "no request carried a token"
        assert not [token for token in self.tokens if token in json.dumps(result)], "a token is in the result"
        return result

    def writes(self) -> list[tuple[str, str]]:
        """(method, path) of each request that changes something."""
        return [(method, path) for method, path, query, _unused in self.made if method != "GET" and query.get("dryRun") != "All"]

    def _urlopen(
        self, method: str, url: str, body: bytes | None = None, headers: t.Any = None, **options: t.Any
    ) -> urllib3.response.HTTPResponse:
        parts = urlsplit(url)
        made = (method, parts.path, dict(parse_qsl(parts.query)), json.loads(body) if body else None)
        sent = {name.lower(): value for name, value in headers.items()}
        self.tokens.add(sent["authorization"].removeprefix("Bearer "))
        if len(self.made) >= len(self._script):
            raise Unexpected(f"request after the end of the script: {made}")
        expected = self._script[len(self.made)]
        if made != (expected.method, expected.path, expected.query, expected.body):
            raise Unexpected(f"request {len(self.made) + 1}:\nexpected {expected} {expected.body}\nmade     {made}")
        self.made.append(made)
        for stream, events in self._later.get(len(self.made), ()):
            stream.put(events)
        if isinstance(expected.reply, Exception):
            raise expected.reply
        if isinstance(expected.reply, _Stream):
            return expected.reply
        if isinstance(expected.reply, str):
            return urllib3.response.HTTPResponse(body=expected.reply.encode(), status=expected.status, preload_content=True)
        return urllib3.response.HTTPResponse(body=json.dumps(expected.reply).encode(), status=expected.status, preload_content=True)
