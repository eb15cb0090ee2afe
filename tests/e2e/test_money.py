# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Days of arrivals on the lab with the real Karpenter, and the decision model of money held to them. Takes up where it was stopped."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
import typing as t
from pathlib import Path

import pytest
from cache import project_cache

from tests.bench.money.karpenter import KarpenterDay, Policy, Timing
from tests.bench.money.mixes import MIXES, POOLS, Mix, Pool, Vector, Wish, day
from tests.bench.money.packing import Bin, Packing, Stay
from tests.bench.provenance import commit, today
from tests.e2e.rehearsal import ROOT, Rehearsal
from tests.e2e.test_pools import APPS, GENERAL, until

TABLE = ROOT / "docs" / "soak-money.md"
STATE = project_cache() / "soak-money.json"
COMMAND = "python -m pytest -m soak tests/e2e/test_money.py"
DAYS = len(MIXES)
#: How many days this start goes on for; all that are left where it is not set.
DAYS_NOW = int(os.environ.get("GPUOPS_SOAK_DAYS", DAYS))
DAY_SECONDS = 240.0
POLL = 0.5
#: Karpenter in real time; instances of the lab become nodes soon. The first two are read from the logs of days 0 and 1.
LAB = Timing(boot=9.0, going=7.0, consolidate_after=15.0)
TOLERANCE = 0.25  # of what is paid over all days that were run

PODS = "/api/v1/namespaces/default/pods"
POOL_LABEL, WISH_LABEL = "gpuops.eks/nodepool", "wish"
Result = dict[str, t.Any]


def pool_name(pool: Pool) -> str:
    return f"gpu-{POOLS.index(pool)}"


def variables() -> dict[str, t.Any]:
    """The mixes' pools, each with Karpenter."""
    pools = [
        {
            "name": pool_name(pool),
            "provisioner": "karpenter",
            "instances": {"types": [machine.name for machine in pool.machines]},
            "capacity": {"types": ["on_demand"]},
            "scaling": {"max": 40},
            "sharing": {"strategy": "time_slicing", "replicas": pool.replicas, "fail_requests_greater_than_one": False},
            "disruption": {"consolidation": pool.consolidation, "consolidate_after": f"{LAB.consolidate_after:.0f}s"},
        }
        for pool in POOLS
    ]
    return {"gpu_nodepools": [GENERAL, *pools], "gpu_workloads_state": "absent", "eks_autoscaling_karpenter_replicas": 1}


def deployment(mix: Mix, number: int, shape: Vector) -> dict[str, t.Any]:
    """One pod of a shape, made again where its node goes."""
    shares, cpu, memory = shape
    labels = {WISH_LABEL: str(number)}
    requests = {"nvidia.com/gpu": str(shares), "cpu": f"{cpu}m", "memory": f"{memory}Mi"}
    spec = {
        "nodeSelector": {POOL_LABEL: pool_name(mix.pool)},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "containers": [{"name": "work", "image": "work", "resources": {"requests": requests, "limits": {"nvidia.com/gpu": str(shares)}}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"wish-{number}"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


class Meter:
    """Looks twice a second at what is paid for and at what runs."""

    def __init__(self, rehearsal: Rehearsal, mix: Mix, wishes: t.Sequence[Wish]) -> None:
        self._ec2, self._kube = rehearsal.client("ec2"), rehearsal.kube()
        self._prices = {machine.name: machine.price for machine in mix.pool.machines}
        self._filters = [{"Name": f"tag:{POOL_LABEL}", "Values": [pool_name(mix.pool)]}]
        self._wishes = wishes
        self._running: dict[int, float] = {}
        self._seen: set[str] = set()
        self._before = self._instances(("terminated", "shutting-down"))
        self._last: float | None = None
        self.begin = time.monotonic()
        self.dollars = 0.0
        self.alive = 0
        self.stays: list[Stay] = []

    @property
    def bought(self) -> int:
        return len(self._seen)

    def look(self) -> None:
        """Between two looks everything was as at the second one."""
        now = time.monotonic() - self.begin
        alive = self._instances(("pending", "running"))
        self._seen |= alive.keys() - self._before.keys()
        self.alive = len(alive)
        if self._last is not None:
            self.dollars += sum(self._prices[kind] for kind in alive.values()) * (now - self._last) / 3600
        self._last = now
        running = self._wishes_that_run()
        for number in sorted(self._running.keys() - running):
            self.stays.append(Stay(self._running.pop(number), now, self._wishes[number].shape))
        for number in running - self._running.keys():
            self._running[number] = now

    def _instances(self, states: t.Sequence[str]) -> dict[str, str]:
        filters = [*self._filters, {"Name": "instance-state-name", "Values": list(states)}]
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=filters)
        found = (instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"])
        return {instance["InstanceId"]: instance["InstanceType"] for instance in found}

    def _wishes_that_run(self) -> set[int]:
        return {
            int(pod["metadata"]["labels"][WISH_LABEL])
            for pod in self._kube.call("GET", f"{PODS}?labelSelector={WISH_LABEL}")["items"]
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        }


def real_day(rehearsal: Rehearsal, mix: Mix, wishes: t.Sequence[Wish]) -> Result:
    """A compressed day with the real Karpenter, from no nodes to no nodes."""
    kube, meter = rehearsal.kube(), Meter(rehearsal, mix, wishes)
    due = sorted([(wish.start, 0, number) for number, wish in enumerate(wishes)] + [(w.end, 1, n) for n, w in enumerate(wishes)])
    while due:
        while due and due[0][0] <= time.monotonic() - meter.begin:
            _when, ends, number = due.pop(0)
            if ends:
                kube.call("DELETE", f"{APPS}/wish-{number}")
            else:
                kube.call("POST", APPS, deployment(mix, number, mix.demand.shapes[wishes[number].shape]))
        meter.look()
        time.sleep(POLL)
    until(lambda: _none_left(meter), 300, "all nodes of the day are gone", rehearsal)
    return result(mix, meter.dollars, meter.bought, meter.stays, wishes)


def _none_left(meter: Meter) -> bool:
    meter.look()
    return meter.alive == 0


def modelled_day(mix: Mix, wishes: t.Sequence[Wish]) -> Result:
    """The same day by the decision model with the lab's times."""
    outcome = KarpenterDay(mix.pool, mix.demand.shapes, Policy(name="overlay"), LAB).run(wishes)
    return result(mix, outcome.dollars, outcome.bought, outcome.stays, wishes)


def result(mix: Mix, dollars: float, bought: int, stays: t.Sequence[Stay], wishes: t.Sequence[Wish]) -> Result:
    """Figures of a day; ``served`` is the part of the wanted pod time (0 to 1) at which pods ran."""
    bins = [Bin(machine.price, machine.room(mix.pool.replicas)) for machine in mix.pool.machines]
    served = sum(stay.end - stay.start for stay in stays) / sum(wish.end - wish.start for wish in wishes)
    cheapest = Packing(bins, mix.demand.shapes).cheapest(stays).dollars
    return {"dollars": dollars, "cheapest": cheapest, "bought": bought, "served": served}


class Book:
    """The days that were run, in a file of the cache; days of other settings than now are left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        wishes = [[dataclasses.astuple(wish) for wish in day(mix, 0, DAY_SECONDS)] for mix in MIXES]
        settings = repr((wishes, [dataclasses.astuple(mix) for mix in MIXES], LAB.consolidate_after))
        self._settings = hashlib.sha256(settings.encode()).hexdigest()
        there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.days: dict[int, Result] = {}
        if there.get("settings") == self._settings:
            self.days = {int(number): found for number, found in there["days"].items()}

    def missing(self) -> list[int]:
        return [number for number in range(DAYS) if number not in self.days]

    def add(self, number: int, found: Result) -> None:
        """Written as a whole: a kill leaves the old file or the new one."""
        self.days[number] = found
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"settings": self._settings, "days": self.days}, indent=1), encoding="utf-8")
        new.replace(self._path)


@pytest.mark.soak
def test_the_model_is_held_to_days_with_the_real_karpenter(rehearsal: Rehearsal) -> None:
    book = Book(STATE)
    todo = book.missing()[:DAYS_NOW]
    if todo:
        play = rehearsal.play("site.yml", **variables())
        assert play.code == 0, play.output[-6000:]
    for number in todo:
        found = real_day(rehearsal, MIXES[number], day(MIXES[number], 0, DAY_SECONDS))
        book.add(number, {**found, "date": today(), "commit": commit()})
    TABLE.write_text(report(book.days), encoding="utf-8")
    real = sum(found["dollars"] for found in book.days.values())
    modelled = sum(modelled_day(MIXES[number], day(MIXES[number], 0, DAY_SECONDS))["dollars"] for number in book.days)
    assert abs(modelled - real) <= TOLERANCE * real


def report(days: t.Mapping[int, Result]) -> str:
    """The page of docs: each day that was run, as measured and as modelled."""
    lines = [
        "# Days with the real Karpenter, and the decision model",
        "",
        f"**{len(days)} of {DAYS} days were run**, made by `{COMMAND}` (part of `make soak`; a second start goes on with the day after the last one).",
        "",
        f"On the lab: a day of at most 30 arrivals in {DAY_SECONDS:.0f} seconds, Karpenter itself in real time with `consolidate_after:"
        f" {LAB.consolidate_after:.0f}s`, On-Demand",
        "prices of us-east-1, instances looked at twice a second. The model of [money](money.md) decides the same days with the lab's times:",
        f"{LAB.boot:.0f} s from a launch until pods run and {LAB.going:.0f} s until an instance has ended (both read from the "
        "logs of days 0 and 1), Karpenter's",
        "own constants for the rest. That a decision is validated before it is carried out was put into the model after day 5 had shown that it was missing.",
        "Days are so short that booting and `consolidateAfter` are most of what is paid: look at the difference, not at the ratios.",
        "`paid` is in thousandths of a dollar, as days are short. `cheapest`: the cheapest packing of what ran, when it ran.",
        "",
        "| day | pool, pods | arrivals | Karpenter: paid | model: paid | difference | Karpenter: paid / cheapest | model: paid / cheapest"
        " | nodes bought | model | served | model | date, commit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    totals = [0.0, 0.0]
    for number, real in sorted(days.items()):
        wishes = day(MIXES[number], 0, DAY_SECONDS)
        model = modelled_day(MIXES[number], wishes)
        totals = [totals[0] + real["dollars"], totals[1] + model["dollars"]]
        lines.append(
            f"| {number} | {MIXES[number].name} | {len(wishes)} | {1000 * real['dollars']:.1f} | {1000 * model['dollars']:.1f}"
            f" | {model['dollars'] / real['dollars'] - 1:+.1%} | {real['dollars'] / real['cheapest']:.2f}"
            f" | {model['dollars'] / model['cheapest']:.2f} | {real['bought']} | {model['bought']}"
            f" | {real['served']:.1%} | {model['served']:.1%} | {real['date']}, {real['commit']} |"
        )
    lines += [
        f"| all | | | {1000 * totals[0]:.1f} | {1000 * totals[1]:.1f} | {totals[1] / totals[0] - 1:+.1%} | | | | | | | |",
        "",
    ]
    return "\n".join(lines)
