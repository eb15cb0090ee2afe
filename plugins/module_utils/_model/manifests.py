# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Manifests for server-side apply: what is applied next is what is owned now, with what is wanted put over it. Pure.

A field that a manager applied and leaves out later is removed by the server. What the user does not set is not managed, so that such a
field is applied again as it is as long as it is ours, and is left alone once somebody else has changed it and thereby owns it.
"""

from __future__ import annotations

import copy
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import Object

Tree = dict[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Field:
    """A value at a place of an object; None: nothing there.

    ``managed`` is what the user set or what the object is for. What is not only an object gets that is being made.
    """

    path: tuple[str, ...]
    value: t.Any
    managed: bool = True


def owned(obj: Object, manager: str) -> Tree:
    """The part of an object that ``manager`` applied and owns, by its managedFields (Kubernetes API, FieldsV1)."""
    content: Tree = {}
    for entry in obj["metadata"].get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            content = merged(content, _projected(obj, entry.get("fieldsV1") or {}))
    return content


def _projected(value: t.Mapping[str, t.Any], fields: t.Mapping[str, t.Any]) -> Tree:
    found: Tree = {}
    for key, below in fields.items():
        name = key.removeprefix("f:")
        if name == key or name not in value:
            continue
        deeper = isinstance(value[name], t.Mapping) and any(inner.startswith("f:") for inner in below)
        found[name] = _projected(value[name], below) if deeper else copy.deepcopy(value[name])
    return found


def merged(base: t.Mapping[str, t.Any], over: t.Mapping[str, t.Any]) -> Tree:
    """Both, ``over`` last: dictionaries deep, lists replaced, None takes a key away."""
    result = copy.deepcopy(dict(base))
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, t.Mapping):
            there = result.get(key)
            result[key] = merged(there if isinstance(there, t.Mapping) else {}, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def with_fields(base: t.Mapping[str, t.Any], fields: t.Iterable[Field]) -> Tree:
    """``base`` with each field's value at its place, whatever was there."""
    result = copy.deepcopy(dict(base))
    for field in fields:
        _put(result, field.path, field.value)
    return result


def _put(tree: Tree, path: tuple[str, ...], value: t.Any) -> None:
    if value is None and path[0] not in tree:
        return
    if len(path) > 1:
        _put(tree.setdefault(path[0], {}), path[1:], value)
    elif value is None:
        tree.pop(path[0])
    else:
        tree[path[0]] = copy.deepcopy(value)


def value_at(obj: t.Mapping[str, t.Any] | None, *path: str) -> t.Any:
    """The value at a place of an object; None where there is none."""
    value: t.Any = obj
    for name in path:
        if not isinstance(value, t.Mapping):
            return None
        value = value.get(name)
    return value
