# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watches, evictions and logs, asked of a server that answers as an API server does."""

from __future__ import annotations

import http.server
import json
import threading
import time
import typing as t
from urllib.parse import parse_qsl, urlsplit

import pytest
import urllib3
from ansible_collections.gpuops.eks.plugins.module_utils._errors import ServiceError, WaitFailed
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.connection import Connection
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.errors import ListExpired
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.follow import Followed, Follower
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Json, Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import NODE, POD

Reply = tuple[int, t.Any]
OPEN = "stays open"


class Server:
    """Answers each request with the next reply of its list; a list of events is a watch, which OPEN keeps from ending."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.made: list[tuple[str, str, dict[str, str], t.Any]] = []
        self.over = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.answer(self)

            do_POST = do_GET

            def log_message(self, *args: t.Any) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        parts = urlsplit(handler.path)
        self.made.append((handler.command, parts.path, dict(parse_qsl(parts.query)), body))
        status, reply = self.replies.pop(0)
        handler.send_response(status)
        if isinstance(reply, list):
            self._stream(handler, reply)
            return
        data = reply.encode() if isinstance(reply, str) else json.dumps(reply).encode()
        handler.send_header("Content-Length", str(len(data)))
        if status == 429:
            handler.send_header("Retry-After", "10")
        handler.end_headers()
        handler.wfile.write(data)

    def _stream(self, handler: http.server.BaseHTTPRequestHandler, events: list[t.Any]) -> None:
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for event in events:
            if event == OPEN:
                self.over.wait(10)
                return
            text = json.dumps(event).encode() + b"\n"
            for part in (text[:7], text[7:]):  # an event may come in pieces
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")

    def kubernetes(self, tell: t.Callable[[str], None] = lambda line: None, **more: float) -> Kubernetes:
        host = f"http://127.0.0.1:{self.server.server_address[1]}"
        connection = Connection(host=host, pool=urllib3.PoolManager(), authorization=dict, identity_hint="")
        return Kubernetes(connection, tell=tell, **{"interval": 0.01, "timeout": 5.0, **more})


@pytest.fixture
def server() -> t.Iterator[Server]:
    found = Server()
    yield found
    found.over.set()
    found.server.shutdown()
    found.server.server_close()


def node(name: str, version: str, **more: t.Any) -> Json:
    return {"metadata": {"name": name, "resourceVersion": version}, **more}


def event(kind: str, name: str, version: str, **more: t.Any) -> Json:
    return {"type": kind, "object": node(name, version, **more)}


def listed(version: str, *items: Json, following: str = "") -> Reply:
    return 200, {"metadata": {"resourceVersion": version, **({"continue": following} if following else {})}, "items": list(items)}


EXPIRED = {"kind": "Status", "reason": "Expired", "code": 410, "message": "too old resource version: 5 (9)"}


def test_a_watch_gives_events_as_they_come_and_ends(server: Server) -> None:
    server.replies = [(200, [event("ADDED", "a", "6"), {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}])]
    events = server.kubernetes().watch(NODE, version="5", seconds=30)
    assert [(kind, obj["metadata"]["resourceVersion"]) for kind, obj in events] == [("ADDED", "6"), ("BOOKMARK", "7")]
    query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "30", "resourceVersion": "5"}
    assert server.made == [("GET", "/api/v1/nodes", query, None)]


def test_an_event_is_seen_while_the_watch_stays_open(server: Server) -> None:
    server.replies = [(200, [event("ADDED", "a", "6"), OPEN])]
    begin = time.monotonic()
    assert next(server.kubernetes().watch(NODE, version="5", seconds=30))[0] == "ADDED"
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("reply", [(410, EXPIRED), (200, [{"type": "ERROR", "object": EXPIRED}])])
def test_a_version_that_is_too_old_is_said(server: Server, reply: Reply) -> None:
    server.replies = [reply]
    with pytest.raises(ListExpired, match="too old resource version"):
        list(server.kubernetes().watch(NODE, version="5", seconds=30))


def test_a_list_of_pages_says_where_a_watch_goes_on(server: Server) -> None:
    server.replies = [listed("5", node("a", "1"), following="x"), listed("5", node("b", "2"))]
    listing = server.kubernetes().listing(NODE)
    assert ([obj["metadata"]["name"] for obj in listing.objects], listing.version) == (["a", "b"], "5")


NODES = Followed(kind=NODE)


def names(follower: Follower) -> list[str]:
    return [obj["metadata"]["name"] for obj in follower.objects(NODES)]


def test_a_followed_collection_is_as_it_is(server: Server) -> None:
    changes = [event("ADDED", "b", "6"), event("DELETED", "a", "7"), event("MODIFIED", "b", "8", spec={"unschedulable": True}), OPEN]
    server.replies = [listed("5", node("a", "1")), (200, changes)]
    follower = Follower(server.kubernetes())
    follower.add(NODES)
    assert names(follower) == ["a"]
    assert follower.changed(5)
    assert follower.objects(NODES) == [node("b", "8", spec={"unschedulable": True})]
    assert not follower.changed(0.05)
    assert len(server.made) == 2


def test_a_watch_that_ends_goes_on_from_its_last_event(server: Server) -> None:
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
    server.replies = [listed("5"), (200, [bookmark]), (200, [event("ADDED", "b", "10"), OPEN])]
    follower = Follower(server.kubernetes())
    follower.add(NODES)
    assert follower.changed(5)
    assert names(follower) == ["b"]
    assert [made[2].get("resourceVersion") for made in server.made] == [None, "5", "9"]


@pytest.mark.parametrize("reply", [(410, EXPIRED), (200, [{"type": "ERROR", "object": EXPIRED}])])
def test_a_version_that_is_too_old_means_to_list_again(server: Server, reply: Reply) -> None:
    server.replies = [listed("5", node("a", "1")), reply, listed("9", node("c", "8")), (200, [event("ADDED", "d", "10"), OPEN])]
    follower = Follower(server.kubernetes())
    follower.add(NODES)
    assert follower.changed(5)
    deadline = time.monotonic() + 5
    while names(follower) != ["c", "d"] and time.monotonic() < deadline:
        follower.changed(1)
    assert names(follower) == ["c", "d"]
    assert [made[2].get("resourceVersion") for made in server.made] == [None, "5", None, "9"]


def test_what_a_watch_is_refused_is_an_error_of_the_caller(server: Server) -> None:
    refusal = {"kind": "Status", "reason": "InternalError", "code": 500, "message": "etcd is on fire"}
    server.replies = [listed("5"), (200, [{"type": "ERROR", "object": refusal}])]
    follower = Follower(server.kubernetes())
    follower.add(NODES)
    with pytest.raises(ServiceError, match="kubernetes:watch nodes: InternalError: etcd is on fire"):
        follower.changed(5)


EVICTION = {
    "apiVersion": "policy/v1",
    "kind": "Eviction",
    "metadata": {"name": "p", "namespace": "apps"},
    "deleteOptions": {"preconditions": {"uid": "u"}},
}
BUDGET = {"kind": "Status", "reason": "TooManyRequests", "code": 429, "message": "Cannot evict pod as it would violate the budget."}


PRECONDITION = "Precondition failed: UID in precondition: u, UID in object meta: v"
CONFLICT = {"kind": "Status", "reason": "Conflict", "code": 409, "message": PRECONDITION}


@pytest.mark.parametrize("last", [(201, {"kind": "Status"}), (404, {"kind": "Status", "reason": "NotFound"}), (409, CONFLICT)])
def test_an_eviction_waits_for_a_disruption_budget(server: Server, last: Reply) -> None:
    told: list[str] = []
    server.replies = [(429, BUDGET), (429, BUDGET), last]
    server.kubernetes(told.append).call("kubernetes:create pods/eviction", EVICTION)
    assert server.made == [("POST", "/api/v1/namespaces/apps/pods/p/eviction", {}, EVICTION)] * 3
    assert told == ["Pod apps/p: waiting to evict it: Cannot evict pod as it would violate the budget"]


def test_an_eviction_that_a_budget_forbids_for_too_long_is_told_in_the_servers_words(server: Server) -> None:
    server.replies = [(429, BUDGET)] * 50
    with pytest.raises(WaitFailed, match="Pod apps/p could not be evicted within 0 s: Cannot evict pod as it would violate the budget"):
        server.kubernetes(timeout=0.05).evict(EVICTION)


def test_two_budgets_for_one_pod_are_refused_in_the_servers_words(server: Server) -> None:
    message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    server.replies = [(500, {"kind": "Status", "reason": "InternalError", "code": 500, "message": message})]
    with pytest.raises(ServiceError, match="more than one PodDisruptionBudget"):
        server.kubernetes().evict(EVICTION)


def test_another_conflict_is_an_error(server: Server) -> None:
    server.replies = [(409, {**CONFLICT, "message": "the object has been modified"})]
    with pytest.raises(ServiceError, match="Conflict: the object has been modified"):
        server.kubernetes().evict(EVICTION)


def test_the_end_of_a_log(server: Server) -> None:
    server.replies = [(200, "one\ntwo\n")]
    pod = {"metadata": {"name": "p", "namespace": "gpu"}}
    assert server.kubernetes().log(pod, "ctr", lines=2, previous=True) == "one\ntwo"
    query = {"container": "ctr", "tailLines": "2", "previous": "true"}
    assert server.made == [("GET", f"{POD.path(namespace='gpu', name='p')}/log", query, None)]


def test_groups_come_with_one_request(server: Server) -> None:
    server.replies = [(200, {"groups": [{"name": "apps", "versions": [{"version": "v1"}]}]})]
    assert server.kubernetes().groups() == {"apps": ("v1",)}
