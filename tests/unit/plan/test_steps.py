# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans as data: planned ids, counts, combination."""

from __future__ import annotations

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import (
    Effect,
    Plan,
    Step,
    bound_ids,
    combine,
    counts,
    is_planned,
    planned,
    resolve,
)


def test_planned_ids_are_recognised_and_nothing_else_is() -> None:
    assert planned("vpc", "demo") == "planned:vpc/demo"
    assert is_planned("planned:vpc/demo")
    assert not is_planned("vpc-1")
    assert not is_planned(None)


def test_resolve_replaces_planned_ids_at_every_depth() -> None:
    request = {"VpcId": "planned:vpc/demo", "Tags": [{"Key": "k", "Value": "v"}], "Nested": {"Ids": ["planned:subnet/a", "subnet-2"]}}
    assert resolve(request, {"planned:vpc/demo": "vpc-1", "planned:subnet/a": "subnet-1"}) == {
        "VpcId": "vpc-1",
        "Tags": [{"Key": "k", "Value": "v"}],
        "Nested": {"Ids": ["subnet-1", "subnet-2"]},
    }


def test_resolve_refuses_an_id_that_no_step_has_returned() -> None:
    with pytest.raises(GpuopsError, match="No step before this one has returned planned:vpc/demo"):
        resolve({"VpcId": "planned:vpc/demo"}, {}, bound_ids([_step("planned:vpc/demo", "create", {"planned:vpc/demo": "Vpc.VpcId"})]))


def test_resolve_leaves_the_users_own_text_also_where_it_looks_like_an_id() -> None:
    request = {"Tags": [{"Key": "state", "Value": "planned:2027"}], "VpcId": "planned:vpc/demo"}
    found = resolve(request, {"planned:vpc/demo": "vpc-1"}, {"planned:vpc/demo"})
    assert found == {"Tags": [{"Key": "state", "Value": "planned:2027"}], "VpcId": "vpc-1"}


def _step(target: str, effect: Effect, binds: dict[str, str] | None = None) -> Step:
    return Step(action="ec2:Any", target=target, effect=effect, binds=binds or {})


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], {"add": 0, "change": 0, "replace": 0, "destroy": 0}),
        ([("a", "create"), ("a", "update"), ("b", "create")], {"add": 2, "change": 0, "replace": 0, "destroy": 0}),
        ([("a", "update"), ("a", "update"), ("b", "delete")], {"add": 0, "change": 1, "replace": 0, "destroy": 1}),
        ([("a", "replace"), ("a", "delete")], {"add": 0, "change": 0, "replace": 1, "destroy": 0}),
    ],
)
def test_counts_count_each_target_once_by_its_first_effect(steps: list[tuple[str, Effect]], expected: dict[str, int]) -> None:
    assert counts([_step(target, effect).to_dict() for target, effect in steps]) == expected


def test_combine_keeps_order_and_merges_managed_fields() -> None:
    one = Plan(steps=(_step("a", "create"),), before={}, after={"a": 1}, warnings=("w",))
    two = Plan(steps=(_step("b", "update"),), before={"b": 1}, after={"b": 2})
    whole = combine([one, two])
    assert [step.target for step in whole.steps] == ["a", "b"]
    assert (whole.before, whole.after, whole.warnings) == ({"b": 1}, {"a": 1, "b": 2}, ("w",))
