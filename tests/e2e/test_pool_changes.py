# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many options of a pool of each provisioner changed in one run: the plan by --check, the calls, and a second run.

docs/pool-fields.md names these tests. Each goes on from the state that the one before left.
"""

from __future__ import annotations

import collections
import typing as t

import pytest

from lab import audit
from tests.e2e.pool_changes import OWN, pool_name, pools
from tests.e2e.rehearsal import Play, Rehearsal

pytestmark = pytest.mark.soak  # minutes; tests/e2e/test_pools.py has both controllers in the short set

Counter = collections.Counter[str]


class Story:
    """What earlier tests of this file saw."""

    planned: t.ClassVar[Counter] = collections.Counter()


def converge(rehearsal: Rehearsal, *options: str, changed: bool) -> Play:
    variables: dict[str, t.Any] = {
        "gpu_nodepools": pools(changed=changed),
        "gpu_workloads_state": "absent",
        "eks_autoscaling_karpenter_replicas": 1,
    }
    play = rehearsal.play("site.yml", *options, **variables)
    assert play.code == 0, play.output[-6000:]
    return play


def planned(play: Play) -> list[dict[str, t.Any]]:
    """The steps of the whole plan, with those of tasks of other collections."""
    [steps] = [facts["_gpuops_steps"] for task in play.tasks if "_gpuops_steps" in (facts := task.result.get("ansible_facts") or {})]
    return list(steps)


def actions(play: Play) -> Counter:
    return collections.Counter(step["action"] for step in planned(play))


def name_of(event: audit.Event) -> str:
    return f"kubernetes:{event.verb} {event.resource}{'.' if event.group else ''}{event.group}"


def calls(rehearsal: Rehearsal, since: tuple[int, int] = (0, 0)) -> Counter:
    """What playbooks changed, in the words of plans."""
    made = [f"{entry.service}:{entry.operation}" for entry in rehearsal.aws_writes()[since[0] :]]
    return collections.Counter([*made, *(name_of(event) for event in rehearsal.audit_writes()[since[1] :])])


def now(rehearsal: Rehearsal) -> tuple[int, int]:
    return len(rehearsal.aws_writes()), len(rehearsal.audit_writes())


def test_the_pools_are_made(rehearsal: Rehearsal) -> None:
    converge(rehearsal, changed=False)
    assert calls(rehearsal)["eks:CreateNodegroup"] == 2
    assert calls(rehearsal)["autoscaling:CreateAutoScalingGroup"] == 1
    assert calls(rehearsal)["kubernetes:patch nodepools.karpenter.sh"] == 1


def test_check_names_every_change_and_writes_nothing(rehearsal: Rehearsal) -> None:
    before = now(rehearsal)
    play = converge(rehearsal, "--check", "--diff", changed=True)
    assert now(rehearsal) == before
    Story.planned = actions(play)
    targets = " ".join(step["target"] for step in planned(play))
    assert all(pool_name(provisioner) in targets for provisioner in OWN)
    assert Story.planned.keys() >= {
        "eks:UpdateNodegroupConfig",
        "eks:UpdateNodegroupVersion",
        "ec2:CreateLaunchTemplateVersion",
        "autoscaling:UpdateAutoScalingGroup",
        "autoscaling:CreateOrUpdateTags",
        "kubernetes:patch nodepools.karpenter.sh",
        "kubernetes:patch ec2nodeclasses.karpenter.k8s.aws",
        "kubernetes:patch nodeoverlays.karpenter.sh",
        "kubernetes:patch configmaps",
    }


def test_the_run_makes_exactly_the_calls_of_the_plan(rehearsal: Rehearsal) -> None:
    before = now(rehearsal)
    play = converge(rehearsal, changed=True)
    assert calls(rehearsal, before) == Story.planned
    assert actions(play) == Story.planned


def test_a_second_run_writes_nothing(rehearsal: Rehearsal) -> None:
    before = now(rehearsal)
    play = converge(rehearsal, changed=True)
    assert (play.changed, planned(play), now(rehearsal)) == ([], [], before)
