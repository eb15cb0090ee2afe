# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The only way to Kubernetes: JSON in, JSON out. No typed client: it costs ten times the time and memory on long lists."""

from __future__ import annotations

import contextlib
import gc
import json
import time
import typing as t
from dataclasses import dataclass
from urllib.parse import urlencode

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, WaitFailed
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.connection import Connection
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.errors import ListExpired, refused, said, unreachable
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    POD,
    Kind,
    Object,
    has_to_leave,
    is_deleting,
    kind_of,
    name_of,
    namespace_of,
    readiness,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import FIELD_MANAGER
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Wait

with contextlib.suppress(ImportError):  # botocore brings urllib3; run_module says that botocore is missing
    import urllib3

Json = dict[str, t.Any]
#: Of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the object.
Event = tuple[str, Json]

_PAGE = 500
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_LIST_ATTEMPTS = 3
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
#: A watch says something at least every minute where bookmarks are allowed: one that is silent for longer is broken.
_SILENCE_SECONDS = 150.0
_EVICTION_PAUSE = 5.0  # what kubectl drain waits before it asks again


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A collection as it was, and the resourceVersion from which a watch goes on."""

    objects: list[Json]
    version: str


class Kubernetes:
    """An API server. ``interval`` and ``timeout`` (seconds) are for waits; ``tell`` is given what is waited for."""

    def __init__(self, connection: Connection, *, tell: t.Callable[[str], None], interval: float = 15.0, timeout: float = 600.0) -> None:
        self._connection = connection
        self.interval = interval
        self.timeout = timeout
        self._tell = tell
        # A refusal for overload (429) comes before the request is looked at: asking again is safe whatever the method.
        self._retries = urllib3.Retry(connect=2, read=0, redirect=0, other=0, status=3, status_forcelist=(429,), allowed_methods=None)
        self._once = self._retries.new(status=0, status_forcelist=(), respect_retry_after_header=False)

    def version(self) -> str:
        """Kubernetes minor version, such as 1.36."""
        found = self._request("GET", "/version", "kubernetes:get /version")
        return f"{found['major']}.{found['minor'].rstrip('+')}"

    def versions(self, group: str) -> tuple[str, ...]:
        """The versions of an API group that are served; empty where there is no such group."""
        found = self._find("GET", f"/apis/{group}", f"kubernetes:get /apis/{group}") or {}
        return tuple(version["version"] for version in found.get("versions") or ())

    def groups(self) -> dict[str, tuple[str, ...]]:
        """The API groups that are served -> their versions; one request."""
        found = self._request("GET", "/apis", "kubernetes:get /apis")
        return {group["name"]: tuple(version["version"] for version in group["versions"]) for group in found.get("groups") or ()}

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Json | None:
        """The object, None where there is none."""
        return self._find("GET", kind.path(namespace=namespace, name=name), f"kubernetes:get {kind.resource}")

    def pages(
        self, kind: Kind, *, namespace: str | None = None, labels: str = "", fields: str = "", metadata_only: bool = False
    ) -> t.Iterator[list[Json]]:
        """The objects of a collection, a page at a time; ListExpired when the list must be read again from its start."""
        pages = self._pages(kind, namespace=namespace, labels=labels, fields=fields, metadata_only=metadata_only)
        return (page.get("items") or [] for page in pages)

    def read_all(
        self, kind: Kind, *, namespace: str | None = None, labels: str = "", fields: str = "", metadata_only: bool = False
    ) -> list[Json]:
        """All objects of a collection, as one list."""
        return self.listing(kind, namespace=namespace, labels=labels, fields=fields, metadata_only=metadata_only).objects

    def listing(
        self, kind: Kind, *, namespace: str | None = None, labels: str = "", fields: str = "", metadata_only: bool = False
    ) -> Listing:
        """All objects of a collection, and where a watch of it goes on."""
        for attempt in range(1, _LIST_ATTEMPTS + 1):
            try:
                pages = list(self._pages(kind, namespace=namespace, labels=labels, fields=fields, metadata_only=metadata_only))
            except ListExpired:
                if attempt == _LIST_ATTEMPTS:
                    raise
            else:
                objects = [item for page in pages for item in page.get("items") or ()]
                return Listing(objects=objects, version=str(pages[-1]["metadata"].get("resourceVersion") or ""))
        raise AssertionError("the last attempt returns or raises")

    def _pages(self, kind: Kind, *, namespace: str | None, labels: str, fields: str, metadata_only: bool) -> t.Iterator[Json]:
        query = {"limit": str(_PAGE), **_selected(labels, fields)}
        while True:
            accept = {"Accept": _METADATA_LIST} if metadata_only else {}
            page = self._request("GET", kind.path(namespace=namespace), f"kubernetes:list {kind.resource}", query=query, headers=accept)
            yield page
            if not (following := page["metadata"].get("continue")):
                return
            query["continue"] = following

    def watch(
        self, kind: Kind, *, version: str, seconds: float, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> t.Iterator[Event]:
        """What happens to a collection after ``version``: (type, object), bookmarks included, until ``seconds`` are over.

        The request is made at once, its events are read when asked for. ListExpired where the server no longer knows that version: the
        collection has to be listed again. A connection that breaks ends the events as the timeout does.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(max(1, int(seconds))), **_selected(labels, fields)}
        action = f"kubernetes:watch {kind.resource}"
        query |= {"resourceVersion": version} if version else {}
        silence = min(seconds + _CONNECT_SECONDS, _SILENCE_SECONDS)
        reply = self._reply("GET", kind.path(namespace=namespace), action, query=query, read_seconds=silence, stream=True)
        return self._events(action, reply)

    def _events(self, action: str, reply: t.Any) -> t.Iterator[Event]:
        try:
            for line in _lines(reply):
                event = _parsed(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    text = json.dumps(status).encode()
                    hint = self._connection.identity_hint
                    raise refused(action, self._connection.host, status.get("code", 500), text, identity_hint=hint)
                yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError):
            return
        finally:
            reply.close()

    def log(self, pod: Object, container: str, *, lines: int, previous: bool = False) -> str:
        """The last lines that a container has written; of the one before its restart with ``previous``."""
        query = {"container": container, "tailLines": str(lines), **({"previous": "true"} if previous else {})}
        path = f"{POD.path(namespace=namespace_of(pod), name=name_of(pod))}/log"
        reply = self._reply("GET", path, "kubernetes:get pods/log", query=query, headers={"Accept": "*/*"})
        return str(reply.data.decode(errors="replace")).strip()

    def evict(self, eviction: Object) -> None:
        """Ask for a pod's eviction until it is granted: a PodDisruptionBudget may not allow it yet (429).

        One that is gone is not missed, nor one whose name another pod has by now (409 by the uid of the precondition). WaitFailed after the
        timeout, in the API server's words. Source: Kubernetes documentation, API-initiated Eviction.
        """
        path = f"{POD.path(namespace=namespace_of(eviction), name=name_of(eviction))}/eviction"
        action, end, told = "kubernetes:create pods/eviction", time.monotonic() + self.timeout, False
        while True:
            reply = self._reply("POST", path, action, body=eviction, accepted=(404, 409, 429), repeat=False)
            if reply.status != 429:
                if reply.status == 409 and "UID" not in said(reply.status, reply.data)[1]:
                    raise refused(action, self._connection.host, reply.status, reply.data, identity_hint=self._connection.identity_hint)
                return
            reason = said(reply.status, reply.data)[1].rstrip(".")
            if time.monotonic() > end:
                hint = "A PodDisruptionBudget or the API server does not let it go; running again goes on from here."
                raise WaitFailed(f"Pod {target_of(eviction)} could not be evicted within {self.timeout:.0f} s: {reason}.", hint=hint)
            if not told:
                self._tell(f"Pod {target_of(eviction)}: waiting to evict it: {reason}")
                told = True
            time.sleep(min(self.interval, _EVICTION_PAUSE))

    def apply(self, manifest: Object, *, dry_run: bool = False) -> Json:
        """Server-side apply as our field manager; returns the object as it then is, or with ``dry_run`` would be."""
        kind = kind_of(manifest)
        query = {"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        path = kind.path(namespace=namespace_of(manifest), name=name_of(manifest))
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return self._request("PATCH", path, f"kubernetes:patch {kind.resource}", query=query, headers=headers, body=manifest)

    def delete(self, obj: Object) -> None:
        """Delete this very object (its uid, where it says one); its dependents go first, unless it says another ``propagationPolicy``.

        One that is gone is not missed.
        """
        kind = kind_of(obj)
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": obj.get("propagationPolicy", "Foreground")}
        if uid := obj["metadata"].get("uid"):
            options["preconditions"] = {"uid": uid}
        path = kind.path(namespace=namespace_of(obj), name=name_of(obj))
        self._find("DELETE", path, f"kubernetes:delete {kind.resource}", headers={"Content-Type": "application/json"}, body=options)

    def call(self, action: str, request: Object) -> Json:
        """Make the call of a plan's step.

        ``kubernetes:patch RESOURCE`` applies the request, ``kubernetes:delete RESOURCE`` deletes it, ``kubernetes:create pods/eviction``
        evicts the pod.
        """
        if action == "kubernetes:create pods/eviction":
            self.evict(request)
            return {}
        if action.startswith("kubernetes:patch "):
            return self.apply(request)
        if action.startswith("kubernetes:delete "):
            self.delete(request)
            return {}
        raise GpuopsError(f"{action}: not a call that changes Kubernetes.")

    def wait(self, wait: Wait) -> None:
        """Return when what the waiter names is true of its arguments; WaitFailed after the timeout.

        ``kubernetes:deleted``: the object is gone. ``kubernetes:ready``: its controller has accepted it; WaitFailed at once for the
        ``hopeless`` reasons of conditions. ``kubernetes:none``: no object of the kind has the ``labels``. ``kubernetes:drained``: the pods
        that were evicted from the ``node`` are gone; WaitFailed at once where others have come.
        """
        waiters = {
            "kubernetes:deleted": self._wait_gone,
            "kubernetes:drained": self._wait_drained,
            "kubernetes:none": self._wait_none,
            "kubernetes:ready": self._wait_ready,
        }
        if wait.waiter not in waiters:
            raise GpuopsError(f"{wait.waiter}: there is no such waiter.")
        waiters[wait.waiter](wait.arguments)

    def _wait_gone(self, obj: Object) -> None:
        kind, uid = kind_of(obj), obj["metadata"].get("uid")

        def look() -> str | None:
            found = self.get(kind, name_of(obj), namespace_of(obj))
            if found is None or found["metadata"].get("uid") != uid:
                return None
            left = ", ".join(found["metadata"].get("finalizers") or ()) or "none"
            return f"{kind.kind} {target_of(obj)} is still there{{after}}; its finalizers: {left}."

        self._tell(f"{kind.kind} {target_of(obj)}: waiting until it is gone")
        self._until(look)

    def _wait_ready(self, obj: Object) -> None:
        kind, told = kind_of(obj), [""]

        def look() -> str | None:
            found = self.get(kind, name_of(obj), namespace_of(obj))
            state, hopeless = readiness(found, obj.get("hopeless") or ())
            if told[-1] != (state or "Ready"):
                told.append(state or "Ready")
                self._tell(f"{kind.kind} {target_of(obj)}: {told[-1]}")
            if hopeless:
                raise WaitFailed(f"{kind.kind} {target_of(obj)} cannot become ready: {state}.")
            return f"{kind.kind} {target_of(obj)} is not ready{{after}}: {state}." if state else None

        self._until(look)

    def _wait_none(self, arguments: t.Mapping[str, t.Any]) -> None:
        kind, labels, told = kind_of(arguments), arguments["labels"], [-1]

        def look() -> str | None:
            found = self.read_all(kind, labels=labels, metadata_only=True)
            if told[-1] != len(found):
                told.append(len(found))
                self._tell(f"{kind.kind} with {labels}: {len(found)} left")
            names = ", ".join(sorted(map(name_of, found)))
            return f"{kind.kind} with {labels} are still there{{after}}: {names}." if found else None

        self._until(look)

    def _wait_drained(self, arguments: t.Mapping[str, t.Any]) -> None:
        node, told = arguments["node"], [0]

        def look() -> str | None:
            left = [pod for pod in self.read_all(POD, fields=f"spec.nodeName={node}") if has_to_leave(pod)]
            names = ", ".join(sorted(map(target_of, left)))
            if came := sorted(target_of(pod) for pod in left if not is_deleting(pod)):
                hint = "Running again evicts them; one that tolerates every taint comes back: take it away first."
                raise WaitFailed(f"Node {node} was drained, but has pods again: {', '.join(came)}.", hint=hint)
            if told[-1] != len(left):
                told.append(len(left))
                self._tell(f"Node {node}: waiting for pods to leave, {len(left)} left")
            return f"Pods are still on node {node}{{after}}: {names}." if left else None

        self._until(look)

    def _until(self, look: t.Callable[[], str | None]) -> None:
        """Look again and again until there is nothing left to say; WaitFailed with the last word, ``{after}`` being the time it took."""
        end = time.monotonic() + self.timeout
        while (left := look()) is not None:
            if time.monotonic() > end:
                raise WaitFailed(left.replace("{after}", f" after {self.timeout:.0f} s"), hint="Running again resumes the wait.")
            time.sleep(self.interval)

    def _find(self, method: str, path: str, action: str, **more: t.Any) -> Json | None:
        """Like ``_request``, but None where the object is not there."""
        return self._request(method, path, action, missing=True, **more) or None

    def _request(
        self,
        method: str,
        path: str,
        action: str,
        *,
        query: t.Mapping[str, str] | None = None,
        headers: t.Mapping[str, str] | None = None,
        body: Object | None = None,
        missing: bool = False,
    ) -> Json:
        reply = self._reply(method, path, action, query=query, headers=headers, body=body, accepted=(404,) if missing else ())
        return {} if reply.status == 404 else _parsed(reply.data)

    def _reply(
        self,
        method: str,
        path: str,
        action: str,
        *,
        query: t.Mapping[str, str] | None = None,
        headers: t.Mapping[str, str] | None = None,
        body: Object | None = None,
        accepted: t.Container[int] = (),
        repeat: bool = True,
        read_seconds: float = _READ_SECONDS,
        stream: bool = False,
    ) -> t.Any:
        """The server's reply; an error where its status is one that is not ``accepted``. Overload is asked again with ``repeat``."""
        host = self._connection.host
        url = f"{host}{path}?{urlencode(query)}" if query else f"{host}{path}"
        sent = {"Accept": "application/json", "User-Agent": "gpuops.eks", **self._connection.authorization(), **(headers or {})}
        try:
            reply = self._connection.pool.request(
                method,
                url,
                headers=sent,
                body=None if body is None else json.dumps(body).encode(),
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=read_seconds),
                retries=self._retries if repeat else self._once,
                preload_content=not stream,
            )
            if reply.status >= 400 and reply.status not in accepted:
                raise refused(action, host, reply.status, reply.data, identity_hint=self._connection.identity_hint)
        except urllib3.exceptions.HTTPError as error:
            raise unreachable(action, host, error) from error
        return reply


def _selected(labels: str, fields: str) -> dict[str, str]:
    return {**({"labelSelector": labels} if labels else {}), **({"fieldSelector": fields} if fields else {})}


def _lines(reply: t.Any) -> t.Iterator[bytes]:
    """The lines of a reply as they come: urllib3's own iterator waits for more of them."""
    begun = b""
    for chunk in reply.stream(None):
        *lines, begun = (begun + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())


def _parsed(data: bytes) -> Json:
    """The JSON of a reply. Without the garbage collector, which would walk a growing page again and again: half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        parsed: Json = json.loads(data)
    finally:
        if enabled:
            gc.enable()
    return parsed
