# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/money.md: what policies pay in 200 days on each of 20 mixes, beside the cheapest packing. A model; `make money` runs it."""

from __future__ import annotations

import functools
import sys
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "collections")]

from tests.bench.money.autoscaler import AutoscalerDay  # noqa: E402
from tests.bench.money.autoscaler import Timing as GroupTiming  # noqa: E402
from tests.bench.money.karpenter import KarpenterDay, Policy, Timing  # noqa: E402
from tests.bench.money.mixes import MIXES, MOST_ARRIVALS, POOLS, PRICES, Mix, day  # noqa: E402
from tests.bench.money.packing import EXACT_PODS, Bin, Packing  # noqa: E402
from tests.bench.money.simulation import Outcome  # noqa: E402
from tests.bench.provenance import commit, today  # noqa: E402

PAGE = ROOT / "docs" / "money.md"
DAYS, GROUP_DAYS = 200, 10
WRONG = 3
DERIVED, NO_OVERLAY = "overlay as derived", "no overlay"
TOO_MUCH = f"wrong overlay: {WRONG} times what the plugin gives"

Decide = t.Callable[[Mix, int], Outcome]


@dataclass(frozen=True)
class Row:
    """A way to run pools, by the name that tables have for it."""

    name: str
    decide: Decide


@dataclass(kw_only=True)
class Total:
    """Sums over days. Dollars; ``wanted`` and ``served`` are seconds of pods; ``exact`` adds up the parts of days with an exact packing."""

    days: int = 0
    pods: int = 0
    dollars: float = 0.0
    cheapest: float = 0.0
    exact: float = 0.0
    bought: int = 0
    wanted: float = 0.0
    served: float = 0.0

    def add(self, outcome: Outcome, packing: Packing, pods: int) -> None:
        """One day; AssertionError where it cost less than is possible."""
        least = packing.cheapest(outcome.stays)
        assert outcome.dollars >= least.dollars, "paid less than the cheapest packing"
        self.days, self.pods, self.bought = self.days + 1, self.pods + pods, self.bought + outcome.bought
        self.dollars, self.cheapest, self.exact = self.dollars + outcome.dollars, self.cheapest + least.dollars, self.exact + least.exact
        self.wanted, self.served = self.wanted + outcome.wanted, self.served + outcome.served

    def __add__(self, other: Total) -> Total:
        return Total(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})

    @property
    def ratio(self) -> float:
        """Dollars paid for each one that the cheapest packing of what ran costs."""
        return self.dollars / self.cheapest if self.cheapest else 1.0

    @property
    def unserved(self) -> float:
        return 1 - self.served / self.wanted

    @property
    def wait(self) -> float:
        """Seconds that a pod on average was wanted and did not run."""
        return (self.wanted - self.served) / self.pods


def karpenter(policy: Policy, timing: Timing, mix: Mix, number: int) -> Outcome:
    return KarpenterDay(mix.pool, mix.demand.shapes, policy, timing).run(day(mix, number))


def groups(tagged: bool, mix: Mix, number: int) -> Outcome:
    return AutoscalerDay(mix.pool, mix.demand.shapes, tagged=tagged, timing=GroupTiming()).run(day(mix, number))


def row(name: str, timing: Timing, **policy: t.Any) -> Row:
    return Row(name, functools.partial(karpenter, Policy(name=name, **policy), timing))


KARPENTER = (
    row(DERIVED, Timing()),
    row(NO_OVERLAY, Timing(), promise=None),
    row(TOO_MUCH, Timing(), promise=float(WRONG)),
    row(f"wrong overlay: 1/{WRONG} of what the plugin gives", Timing(), promise=1 / WRONG),
    row("as derived, WhenEmpty", Timing(), consolidation="WhenEmpty"),
    row("as derived, consolidateAfter 1 h", Timing(consolidate_after=3600.0)),
)
GROUPS = (Row("tags as derived", functools.partial(groups, True)), Row("no tag of shares", functools.partial(groups, False)))
Totals = dict[tuple[str, str], Total]  # by names of row and mix


def measure(rows: t.Sequence[Row], days: int) -> Totals:
    """Every row on every mix."""
    found: Totals = {}
    for mix in MIXES:
        bins = [Bin(machine.price, machine.room(mix.pool.replicas)) for machine in mix.pool.machines]
        packing = Packing(bins, mix.demand.shapes)
        for each in rows:
            total = found[each.name, mix.name] = Total()
            for number in range(days):
                total.add(each.decide(mix, number), packing, len(day(mix, number)))
    return found


def whole(name: str, found: Totals, mixes: t.Iterable[Mix] = MIXES) -> Total:
    return sum((found[name, mix.name] for mix in mixes), Total())


def overview(rows: t.Sequence[Row], found: Totals) -> list[str]:
    lines = [
        "| | paid, $ a day | cheapest packing of what ran, $ a day | paid / cheapest | nodes bought a day | a pod waits, s | not served |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        total = whole(each.name, found)
        lines.append(
            f"| {each.name} | {total.dollars / total.days:.2f} | {total.cheapest / total.days:.2f} | **{total.ratio:.2f}**"
            f" | {total.bought / total.days:.1f} | {total.wait:.0f} | {total.unserved:.1%} |"
        )
    return lines


def by_mix(rows: t.Sequence[Row], found: Totals) -> list[str]:
    """``paid / cheapest`` of each mix, with what was not served where that is more than waiting for nodes."""
    first = rows[0].name
    lines = [
        f"| pool, pods | arrivals a day | paid, $ a day: {first} | {' | '.join(each.name for each in rows)} |",
        "|---|---|---|" + "---|" * len(rows),
    ]
    for mix in MIXES:
        totals = [found[each.name, mix.name] for each in rows]
        cells = [f"{total.ratio:.2f}" + (f" ({total.unserved:.0%} not served)" if total.unserved > 0.05 else "") for total in totals]
        lines.append(
            f"| {mix.name} | {totals[0].pods / totals[0].days:.1f} | {totals[0].dollars / totals[0].days:.2f} | {' | '.join(cells)} |"
        )
    return lines


def reading(found: Totals) -> list[str]:
    """What Karpenter's tables say; AssertionError where they no longer do."""
    derived, without, much = (whole(name, found) for name in (DERIVED, NO_OVERLAY, TOO_MUCH))
    single = whole(DERIVED, found, [mix for mix in MIXES if len(mix.pool.machines) == 1])
    mixed = whole(DERIVED, found, [mix for mix in MIXES if len(mix.pool.machines) > 1])
    assert derived.ratio < without.ratio
    assert much.wait > derived.wait
    assert much.dollars < derived.dollars
    assert single.ratio < 1.05 < mixed.ratio
    return [
        f"* Without the overlay {without.ratio / derived.ratio:.2f} times as much is paid for what runs, and "
        f"{without.unserved:.1%} of the wanted pod time is not"
        f" served ({derived.unserved:.1%} with it).",
        f"* A pool with one size of machine pays {single.ratio - 1:.0%} more than the cheapest packing. With large machines "
        "of several GPUs in it the overlay alone"
        f" pays {mixed.ratio - 1:.0%} more: Karpenter",
        "  puts pods that come together on one new node for as long as some type holds them, so it buys one large machine where two small ones are cheaper,",
        "  and consolidation replaces a node by one cheaper node, never by two. With WhenEmpty the large one stays until its last pod has gone.",
        f"* An overlay that promises too much costs time ({much.wait:.0f} s that a pod waits instead of {derived.wait:.0f} "
        "s): nodes are bought one after another. It is cheaper"
        " in pools with",
        "  large machines, by the same rule: what is believed to fit on a small one is bought small.",
    ]


def pools() -> list[str]:
    lines = ["| pool | types (first is the cheapest), $ an hour | shares of a GPU | consolidation |", "|---|---|---|---|"]
    for pool in POOLS:
        types = ", ".join(f"{machine.name} {machine.price:.3f}" for machine in pool.machines)
        lines.append(f"| {pool.name} | {types} | {pool.replicas} | {pool.consolidation} |")
    return lines


def page(karpenter_found: Totals, groups_found: Totals) -> str:
    exact = sum((total for total in (*karpenter_found.values(), *groups_found.values())), Total())
    return "\n".join(
        [
            "# What shared pools cost: a decision model",
            "",
            f"{today()}, commit {commit()}; made by `make money`, the same figures at every start.",
            "",
            "This is a **model**, not Karpenter and not cluster-autoscaler: `tests/bench/money` decides by their rules what is bought and what goes.",
            "[soak-money](soak-money.md) holds it to days with the real Karpenter. Its limits are in the modules' descriptions: On-Demand alone, one",
            "zone, no capacity that runs out, pods that move in no time.",
            "",
            f"* A day has 8 to {MOST_ARRIVALS} arrivals, seeded. Nodes boot for 90 seconds; `consolidateAfter` is 5 minutes where nothing else is said.",
            f"* Prices are those of {PRICES} in `plugins/module_utils/_catalog/on_demand.py`.",
            "* *Cheapest packing*: the price of the cheapest machines for the pods that ran, at each moment, added up: no boot time, pods move for free,",
            f"  the future is known. Exact up to {EXACT_PODS} pods at a time ({exact.exact / exact.days:.2%} of the time), a "
            "proved lower bound beyond. No policy can reach it.",
            "* *Not served*: the part of the wanted pod time at which pods did not run. Waiting for nodes is about 1 %.",
            "",
            *pools(),
            "",
            f"## Karpenter: {DAYS} days on each of {len(MIXES)} mixes",
            "",
            *overview(KARPENTER, karpenter_found),
            "",
            *reading(karpenter_found),
            "",
            "Paid / cheapest, by mix:",
            "",
            *by_mix(KARPENTER, karpenter_found),
            "",
            f"## Groups with cluster-autoscaler: {GROUP_DAYS} days on each of {len(MIXES)} mixes",
            "",
            "The lab's model of cluster-autoscaler with its flags' defaults, a group for each instance type.",
            "",
            *overview(GROUPS, groups_found),
            "",
            "Paid / cheapest, by mix:",
            "",
            *by_mix(GROUPS, groups_found),
            "",
        ]
    )


def main() -> None:
    """Measure and write."""
    begin = time.process_time()
    PAGE.write_text(page(measure(KARPENTER, DAYS), measure(GROUPS, GROUP_DAYS)), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {time.process_time() - begin:.0f} s of CPU")


if __name__ == "__main__":
    main()
