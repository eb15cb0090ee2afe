# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed is finished by running again: the same end state, nothing twice."""

from __future__ import annotations

import os
import random
import typing as t

import pytest

from tests.e2e.endstate import end_state
from tests.e2e.rehearsal import OURS, Rehearsal

KILLS = 5
SEED = int(os.environ.get("GPUOPS_KILL_SEED", "20261124"))


@pytest.fixture(scope="module")
def clean(rehearsal: Rehearsal) -> tuple[int, dict[str, t.Any]]:
    """How many mutating calls an undisturbed run makes, and what it leaves; the account is emptied again."""
    play = rehearsal.play("site.yml")
    assert play.code == 0, play.output[-6000:]
    calls, state = len(rehearsal.aws_writes()), end_state(rehearsal)
    rehearsal.lab("reset")
    return calls, state


def test_killed_after_each_of_five_seeded_calls(rehearsal: Rehearsal, clean: tuple[int, dict[str, t.Any]]) -> None:
    calls, state = clean
    begin = len(rehearsal.aws_writes())
    chooser = random.Random(SEED)
    width = calls / KILLS
    goals = [int(width * number + chooser.uniform(0, width - 1)) + 1 for number in range(KILLS)]
    for goal in goals:  # each run takes up what the killed one before left
        done = len(rehearsal.aws_writes()) - begin
        assert rehearsal.interrupted_play("site.yml", after_writes=max(1, goal - done)), f"the run ended before call {goal} of {calls}"
    play = rehearsal.play("site.yml")
    assert play.code == 0, play.output[-6000:]
    assert end_state(rehearsal) == state
    created = [entry for entry in rehearsal.aws_writes()[begin:] if entry.service in OURS and entry.operation.startswith("Create")]
    assert len([entry for entry in created if not entry.error]) <= calls


def test_the_run_after_that_changes_nothing(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    play = rehearsal.play("site.yml")
    assert play.code == 0, play.output[-6000:]
    assert play.changed == []
    assert rehearsal.write_count() == before
