# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that is killed is finished by running again: the same end state, nothing twice."""

from __future__ import annotations

import collections
import datetime
import os
import random
import subprocess
import typing as t
from pathlib import Path

import pytest

from lab.aws import requestlog
from tests.e2e.endstate import end_state
from tests.e2e.rehearsal import OURS, ROOT, Rehearsal

KILLS = 5
STALE_SECONDS = 120  # simulated: two real ones
SEED = int(os.environ.get("GPUOPS_KILL_SEED", "20261124"))


@pytest.fixture(scope="module")
def clean(rehearsal: Rehearsal) -> tuple[int, dict[str, t.Any]]:
    """How many mutating calls an undisturbed run makes, and what it leaves; the account is emptied again."""
    play = rehearsal.play("site.yml")
    assert play.code == 0, play.output[-6000:]
    calls, state = len(rehearsal.aws_writes()), end_state(rehearsal)
    rehearsal.lab("reset")
    rehearsal.set_consistency(STALE_SECONDS)
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


FOUNDATION: dict[str, t.Any] = {"gpu_nodepools": [], "gpu_workloads_state": "absent"}
TABLE = ROOT / "docs" / "soak-kill-points.md"


@pytest.mark.soak
def test_killed_after_every_call_of_network_and_cluster(tmp_path: Path) -> None:
    """Each run takes up what the killed one before left, makes one more call, and is killed: every state between two calls is resumed once."""
    rehearsal = Rehearsal(tmp_path)
    rehearsal.lab("up")
    try:
        play = rehearsal.play("site.yml", **FOUNDATION)
        assert play.code == 0, play.output[-6000:]
        undisturbed, state = [call_of(entry) for entry in rehearsal.aws_writes()], end_state(rehearsal)
        rehearsal.lab("reset")
        begin = len(rehearsal.aws_writes())
        rehearsal.set_consistency(STALE_SECONDS)
        rows = []
        while rehearsal.interrupted_play("site.yml", after_writes=1, **FOUNDATION):
            made = [entry for entry in rehearsal.aws_writes()[begin:] if not entry.error]  # without what the lab held back
            rows.append((len(made), call_of(made[-1])))
            assert len(rows) <= 2 * len(undisturbed), "the runs do not come to an end"
        play = rehearsal.play("site.yml", **FOUNDATION)
        assert play.code == 0, play.output[-6000:]
        assert end_state(rehearsal) == state
        made = [entry for entry in rehearsal.aws_writes()[begin:] if not entry.error]
        creates = collections.Counter(call_of(entry) for entry in made if entry.operation.startswith("Create"))
        assert creates == collections.Counter(call for call in undisturbed if call.split(":")[1].startswith("Create")), "nothing twice"
        write_table(rows, len(undisturbed))
    finally:
        rehearsal.lab("down")


def call_of(entry: requestlog.Entry) -> str:
    return f"{entry.service}:{entry.operation}"


def write_table(rows: list[tuple[int, str]], undisturbed: int) -> None:
    """What was killed when; committed with the commit that it was measured at."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# Killed after every call",
        "",
        f"{datetime.date.today().isoformat()}, commit {commit}: `site.yml` without pools on the lab, {STALE_SECONDS} simulated seconds of stale reads",
        f"after every create. An undisturbed run makes {undisturbed} mutating calls. Each run was killed (SIGKILL, with all of its processes)",
        "after its first one, and the next took up what it had left; the end state was that of an undisturbed run, and nothing was made twice.",
        "",
        "| calls so far | killed after |",
        "|---|---|",
        *(f"| {number} | `{call}` |" for number, call in rows),
        "",
    ]
    TABLE.write_text("\n".join(lines), encoding="utf-8")
