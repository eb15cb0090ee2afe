# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_run_lease: which calls a lease takes, and what happens where another run is faster."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.lease import Lease, Process, text
from ansible_collections.gpuops.eks.plugins.module_utils._run import lease as job
from ansible_collections.gpuops.eks.plugins.modules.eks_run_lease import main

from tests.wire.harness import ANY, Wire

NOW = datetime.datetime(2026, 11, 24, 9, 0, tzinfo=datetime.UTC)
ME = Process(host="runner", machine="boot-1", pid=10, started="100")
OTHER = Process(host="laptop", machine="boot-2", pid=11, started="100")
PATH = "/gpuops.eks/demo/lease"
PARAMS = {"cluster_name": "demo", "holder": "anna", "operation": "site"}
TAGS = [
    {"Key": "gpuops.eks/component", "Value": "lease"},
    {"Key": "gpuops.eks/owner", "Value": "arn:aws:eks:us-west-2:123456789012:cluster/demo"},
]


def lease(generation: int = 1, process: Process = ME, minutes: int = 45, **changes: t.Any) -> Lease:
    made = Lease(
        generation=generation,
        holder="anna",
        operation="site",
        process=process,
        taken_at=text(NOW),
        expires_at=text(NOW + datetime.timedelta(minutes=minutes)),
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "this_run", lambda command: ME)
    monkeypatch.setattr(job, "alive", lambda process, command: True)
    monkeypatch.setattr(job, "_now", lambda: NOW)


def reads(wire: Wire, *leases: Lease) -> None:
    parameters = [{"Name": f"{PATH}/{one.generation}", "Value": one.value(), "Type": "String"} for one in leases]
    wire.expect("ssm:GetParametersByPath", {"Path": PATH}, {"Parameters": parameters})


def creation(one: Lease) -> dict[str, t.Any]:
    return {"Name": f"{PATH}/{one.generation}", "Value": one.value(), "Type": "String", "Overwrite": False, "Tags": TAGS}


def identity(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": "123456789012", "Arn": "arn:aws:iam::123456789012:user/anna", "UserId": "A"})


def test_the_first_lease(wire: Wire) -> None:
    reads(wire)
    identity(wire)
    wire.expect("ssm:PutParameter", creation(lease()), {"Version": 1})
    reads(wire, lease())
    result = wire.run(main, PARAMS)
    assert (result["changed"], result["lease"]["held"], result["lease"]["generation"]) == (False, True, 1)
    assert result["lease"]["expires_at"] == "2026-11-24T09:45:00Z"


def test_held_again_it_is_extended(wire: Wire) -> None:
    reads(wire, lease(minutes=5))
    request = {"Name": f"{PATH}/1", "Value": lease().value(), "Type": "String", "Overwrite": True}
    wire.expect("ssm:PutParameter", request, {"Version": 2})
    assert wire.run(main, PARAMS)["lease"]["held"]


def test_held_by_another_run_it_stops_and_says_whose_it_is(wire: Wire) -> None:
    reads(wire, lease(process=OTHER))
    result = wire.run(main, PARAMS)
    assert result["failed"]
    assert "anna holds the lease of cluster demo since 2026-11-24T09:00:00Z for site (process 11 on laptop)" in result["msg"]


def test_of_two_runs_the_slower_one_stops(wire: Wire) -> None:
    reads(wire)
    identity(wire)
    wire.expect_error("ssm:PutParameter", creation(lease()), "ParameterAlreadyExists")
    reads(wire, lease(process=OTHER))
    assert "laptop" in wire.run(main, PARAMS)["msg"]


def test_a_run_that_was_overtaken_between_its_calls_stops(wire: Wire) -> None:
    """It had read a generation that has gone since, and made one that is not the newest."""
    reads(wire)
    identity(wire)
    wire.expect("ssm:PutParameter", creation(lease()), {"Version": 1})
    reads(wire, lease(), lease(2, process=OTHER))
    result = wire.run(main, PARAMS)
    assert "This run has lost the lease: " in result["msg"]


def test_too_late_to_extend_it_takes_the_next_or_stops(wire: Wire) -> None:
    """An expired lease is anybody's: were it extended, a run that has read it as expired would hold the next one besides."""
    reads(wire, lease(minutes=-5))
    identity(wire)
    wire.expect_error("ssm:PutParameter", creation(lease(2)), "ParameterAlreadyExists")
    reads(wire, lease(minutes=-5), lease(2, process=OTHER))
    assert "This run has lost the lease: " in wire.run(main, PARAMS)["msg"]


def test_a_list_that_does_not_show_the_new_lease_yet(wire: Wire) -> None:
    reads(wire)
    identity(wire)
    wire.expect("ssm:PutParameter", creation(lease()), {"Version": 1})
    reads(wire)
    assert wire.run(main, PARAMS)["lease"]["held"]


@pytest.mark.parametrize("code", ["ParameterAlreadyExists", "TooManyUpdates"])
def test_a_list_that_does_not_show_the_faster_run_yet_is_read_again_later(wire: Wire, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(job.time, "sleep", pauses.append)
    reads(wire)
    for shown in ([], [lease(process=OTHER)]):
        identity(wire)
        wire.expect_error("ssm:PutParameter", creation(lease()), code)
        reads(wire, *shown)
    assert "laptop" in wire.run(main, PARAMS)["msg"]
    assert pauses == [1.0]


def test_what_is_two_generations_old_goes(wire: Wire) -> None:
    old = [lease(n, process=OTHER, released=True) for n in (1, 2, 3)]
    reads(wire, *old)
    identity(wire)
    wire.expect("ssm:PutParameter", creation(lease(4)), {"Version": 1})
    reads(wire, *old, lease(4))
    wire.expect("ssm:DeleteParameters", {"Names": [f"{PATH}/1", f"{PATH}/2"]}, {"DeletedParameters": [f"{PATH}/1", f"{PATH}/2"]})
    assert wire.run(main, PARAMS)["lease"]["generation"] == 4


def test_broken_on_purpose(wire: Wire) -> None:
    reads(wire, lease(process=OTHER))
    identity(wire)
    wire.expect("ssm:PutParameter", creation(lease(2)), {"Version": 1})
    reads(wire, lease(process=OTHER), lease(2))
    assert wire.run(main, {**PARAMS, "break_lease": True})["lease"]["generation"] == 2


def test_released_by_its_holder(wire: Wire) -> None:
    reads(wire, lease())
    wire.expect("ssm:PutParameter", {"Name": f"{PATH}/1", "Value": ANY, "Type": "String", "Overwrite": True}, {"Version": 2})
    result = wire.run(main, {"cluster_name": "demo", "state": "released"})
    assert (result["changed"], result["lease"]["held"], result["lease"]["released"]) == (False, False, True)


@pytest.mark.parametrize("leases", [[], [lease(process=OTHER)], [lease(released=True)]])
def test_released_by_anybody_else_nothing_is_written(wire: Wire, leases: list[Lease]) -> None:
    reads(wire, *leases)
    assert not wire.run(main, {"cluster_name": "demo", "state": "released"}).get("failed")


@pytest.mark.parametrize("state", ["held", "released"])
def test_check_mode_reads_only(wire: Wire, state: str) -> None:
    reads(wire, lease(process=OTHER))
    result = wire.run(main, {**PARAMS, "state": state}, check_mode=True)
    assert (result.get("failed"), result["lease"]["held"]) == (None, False)


def test_a_missing_permission_is_passed_on(wire: Wire) -> None:
    reads(wire)
    identity(wire)
    wire.expect_error("ssm:PutParameter", creation(lease()), "AccessDeniedException", "no ssm:PutParameter")
    assert "ssm:PutParameter" in wire.run(main, PARAMS)["msg"]
