# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing an object with what a dry run says that it would become."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._plan.objects import Comparison, apply_plan, changed_paths, delete_plan

LIVE: dict[str, t.Any] = {
    "metadata": {"name": "x", "namespace": "n", "uid": "u", "resourceVersion": "1", "generation": 1, "annotations": {"a.b/c": "1"}},
    "spec": {"list": [{"name": "one", "value": 1}], "kept": True},
    "status": {"ready": 1},
}
MANIFEST = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "x", "namespace": "n"}, "spec": {}}


def changed(*path: t.Any, to: t.Any) -> dict[str, t.Any]:
    after = copy.deepcopy(LIVE)
    target = after
    for part in path[:-1]:
        target = target[part]
    if to is None:
        del target[path[-1]]
    else:
        target[path[-1]] = to
    return after


@pytest.mark.parametrize(
    ("after", "paths"),
    [
        (LIVE, []),
        ({**LIVE, "apiVersion": "apps/v1", "kind": "DaemonSet"}, []),
        (changed("metadata", "resourceVersion", to="2"), []),
        (changed("metadata", "generation", to=2), []),
        (changed("metadata", "managedFields", to=[{}]), []),
        (changed("status", "ready", to=2), []),
        (changed("metadata", "labels", to={}), []),
        (changed("metadata", "annotations", "deprecated.daemonset.template.generation", to="2"), []),
        (changed("metadata", "annotations", "a.b/c", to="2"), ["metadata.annotations[a.b/c]"]),
        (changed("spec", "list", 0, "value", to=2), ["spec.list[0].value"]),
        (changed("spec", "list", to=[]), ["spec.list"]),
        (changed("spec", "kept", to=None), ["spec.kept"]),
    ],
)
def test_changed_paths(after: dict[str, t.Any], paths: list[str]) -> None:
    assert list(changed_paths(LIVE, after)) == paths


def test_an_object_that_would_stay_needs_no_step() -> None:
    assert apply_plan(Comparison(manifest=MANIFEST, live=LIVE, dry_run=LIVE)).steps == ()


def test_an_object_that_would_change_is_patched_and_shown() -> None:
    plan = apply_plan(Comparison(manifest=MANIFEST, live=LIVE, dry_run=changed("spec", "kept", to=False)))
    (step,) = plan.steps
    assert (step.action, step.target, step.effect, step.fields) == ("kubernetes:patch daemonsets.apps", "n/x", "update", ("spec.kept",))
    assert step.request == MANIFEST
    assert (plan.before, plan.after) == ({"daemonsets.apps n/x": {"spec.kept": True}}, {"daemonsets.apps n/x": {"spec.kept": False}})


def test_an_object_that_is_missing_is_created() -> None:
    (step,) = apply_plan(Comparison(manifest=MANIFEST)).steps
    assert (step.effect, step.request) == ("create", MANIFEST)


def test_a_delete_names_the_very_object() -> None:
    (step,) = delete_plan({**LIVE, "apiVersion": "apps/v1", "kind": "DaemonSet"}, reason="why").steps
    assert step.request["metadata"] == {"name": "x", "namespace": "n", "uid": "u"}
    assert (step.action, step.effect, step.reason) == ("kubernetes:delete daemonsets.apps", "delete", "why")
