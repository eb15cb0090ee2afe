# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps are made in order, ids are bound, and an interruption says how far it came."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Interrupted, ServiceError, WaitFailed
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait
from ansible_collections.gpuops.eks.plugins.module_utils._run.apply import apply

VPC = Step(action="ec2:CreateVpc", target="planned:vpc/x", effect="create", binds={"planned:vpc/x": "Vpc.VpcId"})
SUBNET = Step(action="ec2:CreateSubnet", target="planned:subnet/x", effect="create", request={"VpcId": "planned:vpc/x"})
PLAN = Plan(steps=(VPC, SUBNET))


def test_ids_of_earlier_steps_reach_later_ones() -> None:
    made: list[tuple[str, dict[str, t.Any]]] = []

    def perform(action: str, request: dict[str, t.Any]) -> dict[str, t.Any]:
        made.append((action, request))
        return {"Vpc": {"VpcId": "vpc-1"}}

    assert apply(PLAN, perform, lambda wait: None) == {"planned:vpc/x": "vpc-1"}
    assert made == [("ec2:CreateVpc", {}), ("ec2:CreateSubnet", {"VpcId": "vpc-1"})]


def test_a_tag_that_looks_like_an_id_is_sent_as_it_is_and_an_id_out_of_order_is_an_error() -> None:
    made: list[dict[str, t.Any]] = []

    def perform(action: str, request: dict[str, t.Any]) -> dict[str, t.Any]:
        made.append(request)
        return {"Vpc": {"VpcId": "vpc-1"}}

    tag = Step(action="ec2:CreateTags", target="vpc-2", effect="update", request={"Tags": [{"Key": "a", "Value": "planned:later"}]})
    apply(Plan(steps=(tag,)), perform, lambda wait: None)
    assert made == [{"Tags": [{"Key": "a", "Value": "planned:later"}]}]
    with pytest.raises(Interrupted, match="No step before this one has returned planned:vpc/x") as caught:
        apply(Plan(steps=(SUBNET, VPC)), perform, lambda wait: None)
    assert caught.value.result()["steps_done"] == 0


def test_waits_get_bound_ids() -> None:
    waited: list[Wait] = []
    step = Step(
        action="eks:UpdateClusterConfig",
        target="c",
        effect="update",
        binds={"planned:update/c": "update.id"},
        wait=Wait(waiter="update_successful", arguments={"name": "c", "updateId": "planned:update/c"}),
    )
    apply(Plan(steps=(step,)), lambda action, request: {"update": {"id": "u-1"}}, waited.append)
    assert waited == [Wait(waiter="update_successful", arguments={"name": "c", "updateId": "u-1"})]


NAMED = Wait(waiter="vpc_available", arguments={"VpcIds": ["planned:vpc/x"]}, binds={"planned:acl/x": "Acls[0].Id"})
TAG = Step(action="ec2:CreateTags", target="planned:acl/x", effect="update", request={"Resources": ["planned:acl/x"]}, needs=(NAMED,))


def test_what_a_service_makes_by_itself_is_bound_by_the_wait_for_it() -> None:
    made: list[dict[str, t.Any]] = []

    def perform(action: str, request: dict[str, t.Any]) -> dict[str, t.Any]:
        made.append(request)
        return {"Vpc": {"VpcId": "vpc-1"}}

    def need(wait: Wait) -> dict[str, t.Any]:
        assert wait.arguments == {"VpcIds": ["vpc-1"]}
        return {"Acls": [{"Id": "acl-1"}]}

    bound = apply(Plan(steps=(VPC, TAG)), perform, lambda wait: None, need=need)
    assert made == [{}, {"Resources": ["acl-1"]}]
    assert bound == {"planned:vpc/x": "vpc-1", "planned:acl/x": "acl-1"}


@pytest.mark.parametrize("seen", [{}, {"Acls": []}, None])
def test_a_wait_that_does_not_show_what_it_binds_is_an_error(seen: dict[str, t.Any] | None) -> None:
    with pytest.raises(Interrupted, match=r"vpc_available: the reply has no Acls\[0\].Id for planned:acl/x") as caught:
        apply(Plan(steps=(VPC, TAG)), lambda action, request: {"Vpc": {"VpcId": "vpc-1"}}, lambda wait: seen)
    assert caught.value.result()["steps_done"] == 1


def test_a_refusal_half_way_names_what_was_made_and_what_was_not() -> None:
    def perform(action: str, request: dict[str, t.Any]) -> dict[str, t.Any]:
        if action == "ec2:CreateSubnet":
            raise ServiceError(action, "SubnetLimitExceeded", "no more")
        return {"Vpc": {"VpcId": "vpc-1"}}

    with pytest.raises(Interrupted, match="1 of 2 steps were made; running again") as caught:
        apply(PLAN, perform, lambda wait: None)
    assert caught.value.result()["error"] == {"action": "ec2:CreateSubnet", "code": "SubnetLimitExceeded"}
    assert caught.value.result()["steps_done"] == 1


def test_what_a_call_needs_is_waited_for_first_and_what_was_started_together_last() -> None:
    seen: list[str] = []

    def perform(action: str, request: dict[str, t.Any]) -> dict[str, t.Any]:
        seen.append(action)
        return {}

    gone, there = (Wait(waiter=waiter, arguments={}) for waiter in ("nodegroup_deleted", "nodegroup_active"))
    steps = (
        Step(action="eks:DeleteNodegroup", target="a", effect="delete"),
        Step(action="eks:CreateNodegroup", target="a", effect="create", needs=(gone,)),
    )
    apply(Plan(steps=steps, waits=(there,)), perform, lambda wait: seen.append(wait.waiter), need=lambda wait: seen.append("needed"))
    assert seen == ["eks:DeleteNodegroup", "needed", "eks:CreateNodegroup", "nodegroup_active"]


def test_a_wait_that_fails_after_the_last_step_leaves_no_step() -> None:
    def fail(wait: Wait) -> None:
        raise WaitFailed("eks:DescribeNodegroup a: last state CREATE_FAILED within 1 s.")

    plan = Plan(steps=(VPC,), waits=(Wait(waiter="nodegroup_active", arguments={}),))
    with pytest.raises(Interrupted, match="1 of 1 steps were made") as caught:
        apply(plan, lambda action, request: {"Vpc": {"VpcId": "vpc-1"}}, fail)
    assert caught.value.left == []
