# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of add-ons, as tables."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.addon import Addon, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan import addon as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import Marked

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
MARKED = Marked(owner=OWNER, component=planning.COMPONENT)
API: dict[str, t.Any] = {
    "addonName": "x",
    "addonArn": "arn:x",
    "status": "ACTIVE",
    "addonVersion": "v1",
    "configurationValues": '{"a": 1}',
    "serviceAccountRoleArn": "role",
    "tags": OWNER.tags(planning.COMPONENT),
}


def wanted(**options: t.Any) -> Wanted:
    return Wanted.from_params({"name": "x", **options})


@pytest.mark.parametrize(
    ("options", "steps", "waiters"),
    [
        ({}, [], []),
        ({"version": "v1", "configuration_values": {"a": 1}}, [], []),
        ({"version": "v2"}, ["eks:UpdateAddon"], ["addon_update_successful", "addon_active"]),
        ({"configuration_values": {}}, ["eks:UpdateAddon"], ["addon_update_successful", "addon_active"]),
        ({"version": "v2", "wait": False}, ["eks:UpdateAddon"], []),
        ({"tags": {"a": "b"}}, ["eks:TagResource"], []),
        ({"tags": {}}, [], []),
    ],
)
def test_an_update_has_the_calls_that_are_needed(options: dict[str, t.Any], steps: list[str], waiters: list[str]) -> None:
    plan = planning.plan_update(wanted(**options), Addon.from_api(API), MARKED).plan
    assert [step.action for step in plan.steps] == steps
    assert [wait.waiter for wait in plan.waits] == waiters


@pytest.mark.parametrize(
    ("status", "steps", "waiters"),
    [
        ("ACTIVE", [], []),
        ("CREATING", [], ["addon_active"]),
        ("DEGRADED", [], ["addon_active"]),
        ("UPDATE_FAILED", ["eks:UpdateAddon"], ["addon_update_successful", "addon_active"]),
    ],
)
def test_a_status_is_waited_out_or_repaired(status: str, steps: list[str], waiters: list[str]) -> None:
    plan = planning.plan_update(wanted(), Addon.from_api({**API, "status": status}), MARKED).plan
    assert [step.action for step in plan.steps] == steps
    assert [wait.waiter for wait in plan.waits] == waiters


def test_an_update_sends_along_what_stays() -> None:
    [step] = planning.plan_update(wanted(version="v2"), Addon.from_api(API), MARKED).plan.steps
    assert step.request == {
        "clusterName": "demo",
        "addonName": "x",
        "addonVersion": "v2",
        "resolveConflicts": "PRESERVE",
        "serviceAccountRoleArn": "role",
        "configurationValues": '{"a": 1}',
    }


def test_what_is_adopted_loses_no_tag() -> None:
    plan = planning.plan_update(wanted(tags={"b": "c"}), Addon.from_api({**API, "tags": {"a": "b"}}), MARKED).plan
    assert [(step.action, step.request["tags"]) for step in plan.steps] == [("eks:TagResource", {"b": "c"})]
    assert plan.after["x"]["tags"] == {"a": "b", "b": "c"}


def test_a_creation_without_a_version_leaves_it_to_eks_but_names_the_field() -> None:
    planned = planning.plan_create(wanted(), MARKED)
    [step] = planned.plan.steps
    assert step.request == {"clusterName": "demo", "addonName": "x", "tags": OWNER.tags("addon")}
    assert step.fields == ("version",)


@pytest.mark.parametrize(("status", "steps"), [("ACTIVE", 1), ("DELETING", 0)])
def test_a_deletion_is_asked_for_once(status: str, steps: int) -> None:
    plan = planning.plan_delete(wanted(), Addon.from_api({**API, "status": status}), "demo")
    assert len(plan.steps) == steps
    assert [wait.waiter for wait in plan.waits] == ["addon_deleted"]
