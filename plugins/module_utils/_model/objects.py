# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Kubernetes objects by kind: where they are in the API, and how plans name them. Pure.

A table instead of discovery: no round trip is spent on what is known. Only kinds that the collection uses are in it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

Object = t.Mapping[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def resource(self) -> str:
        """As RBAC and audit logs name it: ``daemonsets.apps``, ``configmaps``."""
        group = self.api_version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural

    def path(self, *, namespace: str | None = None, name: str | None = None) -> str:
        """The URL path of one object, of a namespace's collection, or of the whole collection."""
        parts = ["/apis" if "/" in self.api_version else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        return "/".join(parts)


NAMESPACE = Kind(api_version="v1", kind="Namespace", plural="namespaces", namespaced=False)
NODE = Kind(api_version="v1", kind="Node", plural="nodes", namespaced=False)
POD = Kind(api_version="v1", kind="Pod", plural="pods")
CONFIG_MAP = Kind(api_version="v1", kind="ConfigMap", plural="configmaps")
SECRET = Kind(api_version="v1", kind="Secret", plural="secrets")
SERVICE_ACCOUNT = Kind(api_version="v1", kind="ServiceAccount", plural="serviceaccounts")
DAEMON_SET = Kind(api_version="apps/v1", kind="DaemonSet", plural="daemonsets")

_KINDS = {(kind.api_version, kind.kind): kind for kind in (NAMESPACE, NODE, POD, CONFIG_MAP, SECRET, SERVICE_ACCOUNT, DAEMON_SET)}


def kind_of(obj: Object) -> Kind:
    """The kind of an object that says its apiVersion and kind; KeyError for one that is not in the table."""
    return _KINDS[obj["apiVersion"], obj["kind"]]


def name_of(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def namespace_of(obj: Object) -> str | None:
    namespace: str | None = obj["metadata"].get("namespace")
    return namespace


def labels_of(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("labels") or {})


def annotations_of(obj: Object) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})


def is_deleting(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def target_of(obj: Object) -> str:
    """``namespace/name``, or ``name`` where there is no namespace."""
    namespace = namespace_of(obj)
    return f"{namespace}/{name_of(obj)}" if namespace else name_of(obj)
