# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run layer: faults before any client, refusals in the service's words, waits with progress."""

from __future__ import annotations

import socket
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run, run_module

from tests.wire.harness import Wire

SPEC = aws_spec(ArgumentSpec(options={"name": {"type": "str", "required": True}, "size": {"type": "int"}}), wait_timeout=60)
CREATE = Step(
    action="eks:CreateCluster",
    target="planned:cluster/x",
    effect="create",
    request={"name": "x", "roleArn": "r", "resourcesVpcConfig": {}},
    wait=Wait(waiter="cluster_active", arguments={"name": "x"}),
)


def validate(params: t.Mapping[str, t.Any]) -> list[Fault]:
    return [Fault(path="name", value=params["name"], allowed="not bad", source="a rule")] if params.get("name") == "bad" else []


def main() -> None:
    def job(run: Run) -> Outcome:
        run.apply(plan := Plan(steps=(CREATE,), after={"name": "x"}))
        return Outcome(plan=plan, result={"cluster": {"name": "x"}})

    run_module(SPEC, job, validate=validate)


CREATE_REQUEST = dict(CREATE.request)


def test_all_faults_at_once_and_no_client(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise AssertionError("bad input must not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    result = wire.run(main, {"name": "bad", "size": "ten", "nam": 1})
    assert result["failed"]
    assert {fault["path"] for fault in result["faults"]} == {"name", "size", "nam"}
    assert "did you mean 'name'" in result["msg"]


def test_check_mode_makes_no_call_and_reports_the_plan(wire: Wire) -> None:
    result = wire.run(main, {"name": "x"}, check_mode=True)
    assert result["changed"]
    assert result["plan"] == [CREATE.to_dict()]
    assert result["diff"] == {"before": {}, "after": {"name": "x"}}


def test_a_wait_tells_each_state_once(wire: Wire) -> None:
    wire.expect("eks:CreateCluster", CREATE_REQUEST)
    for status in ("CREATING", "CREATING", "ACTIVE"):
        wire.expect("eks:DescribeCluster", {"name": "x"}, {"cluster": {"name": "x", "status": status}})
    result = wire.run(main, {"name": "x", "wait_interval": 0.001})
    assert result["progress"] == ["DescribeCluster x: CREATING", "DescribeCluster x: ACTIVE"]


def test_wait_false_does_not_look(wire: Wire) -> None:
    wire.expect("eks:CreateCluster", CREATE_REQUEST)
    assert wire.run(main, {"name": "x", "wait": False})["changed"]


def test_a_failed_state_ends_the_wait_with_the_services_issues(wire: Wire) -> None:
    wire.expect("eks:CreateCluster", CREATE_REQUEST)
    issues = {"issues": [{"code": "Ec2SubnetNotFound", "message": "Subnet subnet-1 is gone"}]}
    wire.expect("eks:DescribeCluster", {"name": "x"}, {"cluster": {"name": "x", "status": "FAILED", "health": issues}})
    result = wire.run(main, {"name": "x", "wait_interval": 0.001})
    assert result["failed"]
    assert "last state FAILED" in result["msg"]
    assert "Subnet subnet-1 is gone" in result["msg"]


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AccessDeniedException", "needs the IAM permission eks:CreateCluster"),
        ("UnrecognizedClientException", "Check the credentials"),
        ("UnsupportedAvailabilityZoneException", "Leave this zone out"),
    ],
)
def test_a_refusal_is_passed_on_with_what_to_do(wire: Wire, code: str, hint: str) -> None:
    wire.expect_error("eks:CreateCluster", CREATE_REQUEST, code, "The words of the service")
    result = wire.run(main, {"name": "x"})
    assert result["failed"]
    assert f"eks:CreateCluster: {code}: The words of the service." in result["msg"]
    assert hint in result["msg"]
    assert result["error"] == {"action": "eks:CreateCluster", "code": code}


def test_a_secret_in_bad_input_is_not_shown(wire: Wire) -> None:
    result = wire.run(main, {"name": "bad", "secret_key": ["hunter2-hunter2"]})
    assert "hunter2" not in str(result["faults"])
