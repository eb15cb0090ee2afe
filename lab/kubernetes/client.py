"""A small Kubernetes client for the lab's own loops: JSON in, JSON out, and a mirror of one resource kept by a watch."""

from __future__ import annotations

import json
import logging
import threading
import typing as t
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

Json = dict[str, t.Any]

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
TIMEOUT_SECONDS = 30
WATCH_SECONDS = 300
_log = logging.getLogger(__name__)


class ApiError(RuntimeError):
    """The API server refused; ``status`` is the HTTP status."""

    def __init__(self, method: str, path: str, status: int, text: str) -> None:
        super().__init__(f"{method} {path}: {status} {text[:500]}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Access:
    """Where an API server is and how to be let in: by a client certificate, or by a token."""

    url: str
    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    token: str = ""


class Kube:
    """One session for each thread: a requests session is not made to be shared."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._local = threading.local()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self.new_session()
        return session

    def new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # no proxy and no CA bundle of the environment
        session.verify = str(self.access.ca)
        if self.access.token:
            session.headers["Authorization"] = f"Bearer {self.access.token}"
        else:
            session.cert = (str(self.access.certificate), str(self.access.key))
        return session

    def call(
        self, method: str, path: str, body: Json | None = None, *, content: str = "application/json", params: dict[str, str] | None = None
    ) -> Json:
        """The answer as an object; raises ApiError, requests.RequestException."""
        answer = self._session().request(
            method,
            self.access.url + path,
            data=None if body is None else json.dumps(body),
            params=params,
            headers={"Content-Type": content},
            timeout=TIMEOUT_SECONDS,
        )
        if not answer.ok:
            raise ApiError(method, path, answer.status_code, answer.text)
        return t.cast(Json, answer.json())

    def get(self, path: str) -> Json | None:
        """The object, None when there is none."""
        return self._missing_ok("GET", path)

    def delete(self, path: str) -> None:
        self._missing_ok("DELETE", path)

    def merge(self, path: str, body: Json) -> Json | None:
        """JSON merge patch; None when the object is gone."""
        return self._missing_ok("PATCH", path, body, content=MERGE)

    def apply(self, path: str, body: Json) -> None:
        """Server-side apply as the lab."""
        self.call("PATCH", path, body, content=APPLY, params={"fieldManager": "gpuops-lab", "force": "true"})

    def _missing_ok(self, method: str, path: str, body: Json | None = None, content: str = "application/json") -> Json | None:
        try:
            return self.call(method, path, body, content=content)
        except ApiError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def ready(self) -> bool:
        """Whether /readyz says ok; False while nothing listens yet."""
        try:
            return self._session().get(self.access.url + "/readyz", timeout=5).ok
        except requests.RequestException:
            return False


class Mirror(threading.Thread):
    """All objects of one resource, kept current by list and watch; ``changed`` is set after every change.

    ``observe`` is called with each object that the watch tells of.
    """

    def __init__(self, kube: Kube, path: str, changed: threading.Event, keep: Callable[[Json], bool] = lambda _: True) -> None:
        super().__init__(name=f"mirror {path}", daemon=True)
        self._kube, self._path, self._changed, self._keep = kube, path, changed, keep
        self.observe: Callable[[Json], None] = lambda _: None
        self._lock = threading.Lock()
        self._objects: dict[str, Json] = {}
        self._version = ""
        self._stopping = threading.Event()
        self._session = kube.new_session()
        self.synced = threading.Event()

    def objects(self) -> list[Json]:
        """The objects now, the caller's to read and not to change."""
        with self._lock:
            return list(self._objects.values())

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._version:
                    self._list()
                for event in self._watch():
                    self._take(event)
            except (requests.RequestException, ApiError, ValueError) as error:
                self._version = ""
                if not self._stopping.wait(0.5):
                    _log.info("%s: %s; listing again", self.name, error)

    def _list(self) -> None:
        answer = self._kube.call("GET", self._path)
        with self._lock:
            self._objects = {o["metadata"]["uid"]: o for o in answer.get("items") or () if self._keep(o)}
        self._version = answer["metadata"]["resourceVersion"]
        self.synced.set()
        self._changed.set()

    def _watch(self) -> Iterator[Json]:
        params = {"watch": "1", "resourceVersion": self._version, "timeoutSeconds": str(WATCH_SECONDS), "allowWatchBookmarks": "true"}
        url = self._kube.access.url + self._path
        with self._session.get(url, params=params, stream=True, timeout=(5, WATCH_SECONDS + 30)) as answer:
            if not answer.ok:
                raise ApiError("WATCH", self._path, answer.status_code, answer.text)
            for line in answer.iter_lines(chunk_size=None):
                if self._stopping.is_set():
                    return
                if line:
                    yield json.loads(line)

    def _take(self, event: Json) -> None:
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            raise ApiError("WATCH", self._path, int(found.get("code", 0)), str(found.get("message")))
        self._version = found["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        self.observe(found)
        with self._lock:
            if kind == "DELETED" or not self._keep(found):
                self._objects.pop(found["metadata"]["uid"], None)
            else:
                self._objects[found["metadata"]["uid"]] = found
        self._changed.set()
