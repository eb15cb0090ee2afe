# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Collections as they are at any moment, each by one list and one watch: no request is made for an object."""

from __future__ import annotations

import queue
import threading
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.errors import ListExpired
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Event, Kubernetes, Listing
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import Kind, Object, name_of, namespace_of

_WATCH_SECONDS = 240.0
_TOGETHER_SECONDS = 0.25  # many nodes change at once: they are looked at together

Key = tuple[t.Optional[str], str]


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A collection to follow."""

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""


class Follower:
    """Keeps collections as they are. Watches are opened by ``changed`` alone, one for each collection, and again when they end."""

    def __init__(self, kube: Kubernetes) -> None:
        self._kube = kube
        self._objects: dict[Followed, dict[Key, Object]] = {}
        self._versions: dict[Followed, str] = {}
        self._watched: set[Followed] = set()
        self._events: queue.SimpleQueue[tuple[Followed, Event | GpuopsError | None]] = queue.SimpleQueue()

    def add(self, followed: Followed, listing: Listing | None = None) -> list[Object]:
        """Follow a collection from this list of it, or from one that is read now; returns its objects."""
        if listing is None:
            listing = self._kube.listing(followed.kind, namespace=followed.namespace, labels=followed.labels, fields=followed.fields)
        self._objects[followed] = {_key(obj): obj for obj in listing.objects}
        self._versions[followed] = listing.version
        return self.objects(followed)

    def objects(self, followed: Followed) -> list[Object]:
        """The collection as it is, as far as changes have been read."""
        return list(self._objects[followed].values())

    def changed(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for a change of any collection, and take over all changes that are there; False where there is none."""
        end = time.monotonic() + seconds
        while True:
            self._open()
            try:
                found = self._take(self._events.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                return False
            settled = time.monotonic() + min(_TOGETHER_SECONDS, self._kube.interval)
            while (left := settled - time.monotonic()) > 0 or not self._events.empty():
                try:
                    found |= self._take(self._events.get(timeout=max(0.0, left)))
                except queue.Empty:
                    break
            if found:
                return True

    def _open(self) -> None:
        for followed in [one for one in self._objects if one not in self._watched]:
            try:
                self._watch(followed)
            except ListExpired:
                self.add(followed)
                self._watch(followed)

    def _watch(self, followed: Followed) -> None:
        events = self._kube.watch(
            followed.kind,
            version=self._versions[followed],
            seconds=_WATCH_SECONDS,
            namespace=followed.namespace,
            labels=followed.labels,
            fields=followed.fields,
        )
        self._watched.add(followed)
        # A daemon: one that waits for an event does not keep the module from ending.
        threading.Thread(target=self._read, args=(followed, events), daemon=True).start()

    def _read(self, followed: Followed, events: t.Iterator[Event]) -> None:
        try:
            for event in events:
                self._events.put((followed, event))
        except GpuopsError as error:
            self._events.put((followed, error))
        else:
            self._events.put((followed, None))

    def _take(self, item: tuple[Followed, Event | GpuopsError | None]) -> bool:
        """Take over one change; whether anything is different now. Errors of a watch are raised here, in the caller's thread."""
        followed, event = item
        if event is None:
            self._watched.discard(followed)
            time.sleep(min(_TOGETHER_SECONDS, self._kube.interval))  # where a server ends every watch at once
            return False
        if isinstance(event, ListExpired):
            self._watched.discard(followed)
            self.add(followed)
            return True
        if isinstance(event, GpuopsError):
            raise event
        kind, obj = event
        self._versions[followed] = obj["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return False
        objects = self._objects[followed]
        if kind == "DELETED":
            objects.pop(_key(obj), None)
        else:
            objects[_key(obj)] = obj
        return True


def _key(obj: Object) -> Key:
    return namespace_of(obj), name_of(obj)
