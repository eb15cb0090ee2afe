# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Steps that bring Kubernetes objects to what is wanted of them. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    Object,
    annotations_of,
    kind_of,
    name_of,
    namespace_of,
    target_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait

_SERVERS_OWN = frozenset(("managedFields", "resourceVersion", "generation", "creationTimestamp", "uid", "selfLink"))
_SERVERS_ANNOTATIONS = frozenset(("deprecated.daemonset.template.generation",))
_MISSING = object()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An object that is wanted, as it is (None: not there), and as a dry run says that it would be (None: not asked)."""

    manifest: Object
    live: Object | None = None
    dry_run: Object | None = None


def apply_plan(comparison: Comparison) -> Plan:
    """One patch where the object is missing or would become another one, otherwise nothing."""
    manifest, live = comparison.manifest, comparison.live
    kind = kind_of(manifest)
    action, target = f"kubernetes:patch {kind.resource}", target_of(manifest)
    shown = f"{kind.resource} {target}"
    if live is None:
        step = Step(action=action, target=target, effect="create", request=manifest)
        return Plan(steps=(step,), before={shown: None}, after={shown: _content(manifest)})
    if not (changed := changed_paths(live, comparison.dry_run or live)):
        return Plan()
    step = Step(action=action, target=target, effect="update", fields=tuple(sorted(changed)), request=manifest)
    before = {shown: {path: old for path, (old, _new) in sorted(changed.items())}}
    after = {shown: {path: new for path, (_old, new) in sorted(changed.items())}}
    return Plan(steps=(step,), before=before, after=after)


def delete_plan(obj: Object, *, reason: str, policy: str | None = None) -> Plan:
    """One delete of this very object; ``policy`` says what becomes of its dependents (Orphan: they stay), which else go first."""
    kind, target = kind_of(obj), target_of(obj)
    request = _reference(obj) | ({"propagationPolicy": policy} if policy else {})
    step = Step(action=f"kubernetes:delete {kind.resource}", target=target, effect="delete", reason=reason, request=request)
    shown = f"{kind.resource} {target}"
    return Plan(steps=(step,), before={shown: _content(obj)}, after={shown: None})


def gone(obj: Object) -> Wait:
    """Wait until this very object is not there any more."""
    return Wait(waiter="kubernetes:deleted", arguments=_reference(obj))


def _reference(obj: Object) -> dict[str, t.Any]:
    kind, namespace = kind_of(obj), namespace_of(obj)
    metadata = {"name": name_of(obj), "uid": obj["metadata"].get("uid"), **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def is_in_force(manifest: Object, live: Object | None, mark: str) -> bool:
    """Whether an object was applied from this very manifest, by its annotation ``mark``, and still has all of it.

    Then a dry run would say nothing new: what the manifest does not set is not ours to change.
    """
    if live is None or annotations_of(live).get(mark) != annotations_of(manifest).get(mark):
        return False
    return all(_includes(live.get(key), value) for key, value in manifest.items() if key not in ("apiVersion", "kind"))


def _includes(live: t.Any, wanted: t.Any) -> bool:
    if isinstance(wanted, t.Mapping):
        return isinstance(live, t.Mapping) and all(_includes(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, (list, tuple)):
        return isinstance(live, list) and len(live) == len(wanted) and all(map(_includes, live, wanted))
    return bool(live == wanted)


def changed_paths(before: Object, after: Object) -> dict[str, tuple[t.Any, t.Any]]:
    """Path -> (before, after) of each value that differs, without the status and what the server keeps for itself."""
    return dict(_differences(_content(before), _content(after), ""))


def _content(obj: Object) -> dict[str, t.Any]:
    """The object without apiVersion and kind, which items of lists lack, and without what is the server's own."""
    content = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "status")}
    metadata = {key: value for key, value in content["metadata"].items() if key not in _SERVERS_OWN}
    if "annotations" in metadata:
        metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key not in _SERVERS_ANNOTATIONS}
    return {**content, "metadata": {key: value for key, value in metadata.items() if value != {}}}


def _differences(before: t.Any, after: t.Any, path: str) -> t.Iterator[tuple[str, tuple[t.Any, t.Any]]]:
    if isinstance(before, t.Mapping) and isinstance(after, t.Mapping):
        for key in sorted({*before, *after}):
            where = f"{path}[{key}]" if "." in key or "/" in key else f"{path}.{key}".lstrip(".")
            yield from _differences(before.get(key, _MISSING), after.get(key, _MISSING), where)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _differences(old, new, f"{path}[{index}]")
    elif before != after:
        yield path, (None if before is _MISSING else before, None if after is _MISSING else after)
