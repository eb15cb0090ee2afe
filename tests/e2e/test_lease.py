# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs at once on one cluster: one proceeds, the other says who holds the lease; a killed run can be started again at once."""

from __future__ import annotations

import concurrent.futures
import time

import pytest

from tests.e2e.endstate import end_state
from tests.e2e.rehearsal import LEASE, Rehearsal


def held(rehearsal: Rehearsal) -> bool:
    """Whether a run has taken the lease of this lab's only cluster."""
    return bool(rehearsal.client("ssm").describe_parameters()["Parameters"])


def wait_until_held(rehearsal: Rehearsal) -> None:
    end = time.monotonic() + 60
    while not held(rehearsal):
        assert time.monotonic() < end, "no run took the lease"
        time.sleep(0.2)


def test_a_second_site_stops_and_says_who_holds_the_lease(rehearsal: Rehearsal) -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(rehearsal.play, "site.yml")
        wait_until_held(rehearsal)
        second = rehearsal.play("site.yml")
        play = first.result()
    assert play.code == 0, play.output[-6000:]
    assert second.code != 0
    message = "\n".join(str(task.result.get("msg", "")) for task in second.tasks if task.failed)
    for word in ("site", "since", "gpuops_break_lease"):
        assert word in message, message
    assert {task.role for task in second.tasks if task.failed} == {"eks_preflight"}
    creates = [entry.operation for entry in rehearsal.aws_writes() if entry.operation in ("CreateVpc", "CreateCluster") and not entry.error]
    assert sorted(creates) == ["CreateCluster", "CreateVpc"]


def test_destroy_waits_for_nobody_and_stops_too(rehearsal: Rehearsal) -> None:
    state = end_state(rehearsal)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        leases = len([entry for entry in rehearsal.all_writes() if entry.service == LEASE])
        first = pool.submit(rehearsal.play, "site.yml")
        end = time.monotonic() + 60
        while len([entry for entry in rehearsal.all_writes() if entry.service == LEASE]) == leases:
            assert time.monotonic() < end
            time.sleep(0.1)
        second = rehearsal.play("playbooks/destroy.yml", gpuops_destroy_confirm=[rehearsal.cluster])
        play = first.result()
    assert play.code == 0, play.output[-6000:]
    assert second.code != 0
    assert "holds" in second.output
    assert end_state(rehearsal) == state


@pytest.mark.soak
def test_a_killed_run_can_be_started_again_at_once(rehearsal: Rehearsal) -> None:
    assert rehearsal.play("playbooks/destroy.yml", gpuops_destroy_confirm=[rehearsal.cluster]).code == 0
    assert rehearsal.interrupted_play("site.yml", after_writes=3)
    play = rehearsal.play("site.yml")
    assert play.code == 0, play.output[-6000:]


def test_a_failed_run_releases_the_lease(rehearsal: Rehearsal) -> None:
    failed = rehearsal.play("site.yml", eks_cluster_role_arn="arn:aws:iam::000000000000:role/of-another-account")
    assert failed.code != 0
    released = [task for task in failed.tasks if task.name == "Release the cluster's lease"]
    assert released
    assert not any(task.failed for task in released)
    assert rehearsal.play("site.yml").code == 0
