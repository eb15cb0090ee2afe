# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets a cluster's lease."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.lease import Lease, Process, lease_faults, text
from ansible_collections.gpuops.eks.plugins.module_utils._plan.lease import decide, newest, outdated, refusal

NOW = datetime.datetime(2026, 11, 24, 9, 0, tzinfo=datetime.UTC)
ME = Process(host="runner", machine="boot-1", pid=10, started="100")
OTHER = Process(host="runner", machine="boot-1", pid=11, started="100")
ELSEWHERE = Process(host="laptop", machine="boot-9", pid=11, started="100")
SAME_NAME = Process(host="runner", machine="boot-2", pid=11, started="100")


def lease(generation: int = 1, process: Process = OTHER, minutes: int = 30, *, released: bool = False) -> Lease:
    return Lease(
        generation=generation,
        holder="anna",
        operation="site",
        process=process,
        taken_at=text(NOW - datetime.timedelta(minutes=15)),
        expires_at=text(NOW + datetime.timedelta(minutes=minutes)),
        released=released,
    )


def dead(process: Process) -> bool:
    return False


def living(process: Process) -> bool:
    return True


@pytest.mark.parametrize(
    ("leases", "alive", "expected"),
    [
        ([], living, ("take", 1)),
        ([lease(process=ME)], living, ("extend", 1)),
        ([lease(process=ME, minutes=-5)], living, ("take", 2)),  # late: others may take it too, so that creating the next one decides
        ([lease(process=ME, released=True)], living, ("take", 2)),
        ([lease()], living, ("refuse", 1)),
        ([lease(released=True)], living, ("take", 2)),
        ([lease(minutes=0)], living, ("take", 2)),
        ([lease()], dead, ("take", 2)),
        ([lease(process=ELSEWHERE)], dead, ("refuse", 1)),  # nothing is known of another machine's processes
        ([lease(process=SAME_NAME)], dead, ("refuse", 1)),  # nor of another container of the same name
        ([lease(2, ME), lease(3)], living, ("refuse", 3)),  # taken over meanwhile
        ([lease(9, released=True), lease(10, released=True)], living, ("take", 11)),
    ],
)
def test_who_gets_the_lease(leases: list[Lease], alive: t.Callable[[Process], bool], expected: tuple[str, int]) -> None:
    decision = decide(leases, ME, NOW, alive)
    assert (decision.word, decision.generation) == expected


def test_where_nothing_tells_machines_apart_no_process_counts_as_gone() -> None:
    me, other = (dataclasses.replace(one, machine="") for one in (ME, OTHER))
    assert decide([lease(process=other)], me, NOW, dead).word == "refuse"


def test_a_lease_can_be_broken_on_purpose() -> None:
    assert decide([lease(process=ELSEWHERE)], ME, NOW, living, break_lease=True).word == "take"
    assert decide([lease(process=ME)], ME, NOW, living, break_lease=True).word == "extend"


def test_the_generation_before_stays_so_that_a_late_run_finds_it_taken() -> None:
    assert outdated([lease(n) for n in (1, 2, 3, 4)], 4) == [1, 2]


def test_the_refusal_says_who_since_when_and_what_to_do() -> None:
    message = str(refusal("demo", lease(process=ELSEWHERE)))
    for word in ("anna", "demo", "site", "2026-11-24T08:45:00Z", "2026-11-24T09:30:00Z", "laptop", "11", "gpuops_break_lease"):
        assert word in message
    assert "lost" in str(refusal("demo", lease(), lost=True))


def test_a_lease_is_read_as_it_was_written() -> None:
    one = lease(7, released=True)
    assert Lease.from_parameter("/gpuops.eks/demo/lease/7", one.value()) == one
    assert newest([lease(2), lease(10)]) == lease(10)
    assert dataclasses.replace(one, expires_at="2026-11-24T09:45:00Z") == one.extended(NOW, 2700)


@pytest.mark.parametrize("value", ["", "{}", "[]", '{"process": 1}', '{"process": {"host": "a"}}'])
def test_another_parameter_is_said_to_be_none(value: str) -> None:
    with pytest.raises(GpuopsError, match="is not a lease"):
        Lease.from_parameter("/gpuops.eks/demo/lease/7", value)


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        ({"cluster_name": "demo", "duration": 2700}, []),
        ({"cluster_name": "-", "duration": 5, "holder": " ", "operation": "x" * 300}, ["cluster_name", "duration", "holder", "operation"]),
    ],
)
def test_faults_of_form(params: dict[str, t.Any], paths: list[str]) -> None:
    assert [fault.path for fault in lease_faults(params)] == paths
