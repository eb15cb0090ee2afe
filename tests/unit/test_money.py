# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decision model of money: what holds whatever the numbers are, and what was measured with the real Karpenter."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
import typing as t
from pathlib import Path

import pytest

from tests.bench.money.autoscaler import AutoscalerDay
from tests.bench.money.autoscaler import Timing as GroupTiming
from tests.bench.money.karpenter import KarpenterDay, Policy, Timing
from tests.bench.money.mixes import DAY, DEMANDS, G5_2X, MIXES, MOST_ARRIVALS, POOLS, Mix, Pool, Vector, Wish, day
from tests.bench.money.packing import Bin, Counts, Packing, Stay, fits, how_many, minus
from tests.bench.money.tables import GROUPS, KARPENTER, Total, measure, page
from tests.e2e.test_money import DAYS, Book, modelled_day, report

SHARE: Vector = (1, 100, 64)
SINGLE = Pool(name="single", machines=(G5_2X,), replicas=10)
RIGHT, NONE = Policy(name="right"), Policy(name="none", promise=None)


def packing(mix: Mix, **options: t.Any) -> Packing:
    bins = [Bin(machine.price, machine.room(mix.pool.replicas)) for machine in mix.pool.machines]
    return Packing(bins, mix.demand.shapes, **options)


def together(count: int, *, until: float = 3600.0, start: float = 0.0) -> list[Wish]:
    return [Wish(start, until, 0) for _unused in range(count)]


# The solver


def by_trying_everything(bins: t.Sequence[Bin], pods: t.Sequence[Vector]) -> float:
    """Every way of putting pods on machines that are there or on a new one of each type."""

    def best(index: int, rooms: tuple[Vector, ...]) -> float:
        if index == len(pods):
            return 0.0
        costs = [
            best(index + 1, (*rooms[:i], minus(room, pods[index], 1), *rooms[i + 1 :]))
            for i, room in enumerate(rooms)
            if fits(pods[index], room)
        ]
        costs += [b.price + best(index + 1, (*rooms, minus(b.room, pods[index], 1))) for b in bins if fits(pods[index], b.room)]
        return min(costs)

    return best(0, ())


@pytest.mark.parametrize("seed", range(12))
def test_the_exact_solver_finds_what_trying_everything_finds(seed: int) -> None:
    chooser = random.Random(seed)
    bins = [Bin(price, (chooser.randint(2, 8), 4000 * size, 16000 * size)) for size, price in ((1, 1.0), (2, 1.7), (4, 3.1))]
    shapes = tuple((chooser.randint(0, 2), chooser.randint(1, 4) * 900, chooser.randint(1, 12) * 1000) for _unused in range(3))
    counts = tuple(chooser.randint(0, 2) for _unused in shapes)
    pods = [shape for shape, count in zip(shapes, counts, strict=True) for _unused in range(count)]
    assert Packing(bins, shapes).exact(counts) == pytest.approx(by_trying_everything(bins, pods))


def some_counts(mix: Mix, seed: int) -> Counts:
    chooser = random.Random(seed)
    return tuple(chooser.randint(0, 4) for _unused in mix.demand.shapes)


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)
def test_the_bound_is_never_above_the_exact_price(mix: Mix) -> None:
    found = packing(mix)
    assert found.bound((0,) * len(mix.demand.shapes)) == 0
    for seed in range(20):
        counts = some_counts(mix, seed)
        assert found.bound(counts) <= found.exact(counts) + 1e-9


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)
def test_more_pods_are_never_cheaper(mix: Mix) -> None:
    found = packing(mix)
    for seed, index in itertools.product(range(8), range(len(mix.demand.shapes))):
        counts = some_counts(mix, seed)
        more = tuple(count + (i == index) for i, count in enumerate(counts))
        assert found.exact(more) >= found.exact(counts) - 1e-9
        assert found.bound(more) >= found.bound(counts) - 1e-9


def test_more_arrivals_are_never_cheaper() -> None:
    for mix in MIXES:
        stays = [Stay(wish.start, wish.end, wish.shape) for wish in day(mix, 0)]
        prices = [packing(mix).cheapest(stays[:count]).dollars for count in range(0, len(stays) + 1, 4)]
        assert all(more >= fewer - 1e-9 for fewer, more in itertools.pairwise(prices)), mix.name


def test_a_shape_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="fits on no machine"):
        Packing([Bin(1.0, (1, 1000, 1000))], [(2, 1, 1)])


def test_too_many_pods_are_bounded_and_the_result_says_so() -> None:
    found = Packing([Bin(1.0, (10, 4000, 16000))], [SHARE], exact_pods=4).cheapest([Stay(0, 3600, 0)] * 4 + [Stay(0, 1800, 0)] * 8)
    assert found.exact == 0.5
    assert found.dollars == pytest.approx(0.5 * 1.2 + 0.5 * 1.0)


def test_the_price_of_a_day_is_the_integral_over_time() -> None:
    found = Packing([Bin(2.0, (1, 4000, 16000))], [SHARE])
    assert found.cheapest([]).dollars == 0
    assert found.cheapest([Stay(0, 3600, 0), Stay(1800, 3600, 0)]).dollars == pytest.approx(3.0)


# Days


def test_days_are_the_same_every_time_and_within_their_limits() -> None:
    assert len(MIXES) == len(POOLS) * len(DEMANDS) == 20
    for mix in MIXES:
        wishes = day(mix, 3)
        assert day.__wrapped__(mix, 3) == wishes
        assert 0 < len(wishes) <= MOST_ARRIVALS
        assert all(0 <= wish.start < wish.end <= 1.5 * DAY for wish in wishes)
        fast = day(mix, 3, DAY / 100)
        assert [wish.start * 100 for wish in fast] == pytest.approx([wish.start for wish in wishes])


def test_every_shape_fits_a_machine_of_every_pool() -> None:
    for mix in MIXES:
        for shape in mix.demand.shapes:
            assert max(how_many(shape, machine.room(mix.pool.replicas)) for machine in mix.pool.machines) > 0, mix.name


# What is paid


POLICIES = (RIGHT, NONE, Policy(name="wrong", promise=3.0), Policy(name="empty", consolidation="WhenEmpty"))


@pytest.mark.parametrize("mix", MIXES, ids=lambda mix: mix.name)
def test_no_policy_pays_less_than_the_cheapest_packing_of_what_ran(mix: Mix) -> None:
    for number, policy in itertools.product(range(3), POLICIES):
        outcome = KarpenterDay(mix.pool, mix.demand.shapes, policy, Timing()).run(day(mix, number))
        assert outcome.dollars >= packing(mix).cheapest(outcome.stays).dollars, policy.name
        assert 0 <= outcome.served <= outcome.wanted
        assert policy.promise is None or outcome.served > 0.9 * outcome.wanted


@pytest.mark.parametrize("tagged", [True, False])
def test_neither_does_the_autoscaler(tagged: bool) -> None:
    for mix in MIXES[::6]:
        outcome = AutoscalerDay(mix.pool, mix.demand.shapes, tagged=tagged, timing=GroupTiming()).run(day(mix, 0))
        assert outcome.dollars >= packing(mix).cheapest(outcome.stays).dollars


def test_a_day_is_decided_the_same_every_time() -> None:
    mix = MIXES[10]
    first, second = (KarpenterDay(mix.pool, mix.demand.shapes, RIGHT, Timing()).run(day(mix, 0)) for _unused in range(2))
    assert first == second


def bought(count: int, policy: Policy, pool: Pool = SINGLE, shape: Vector = SHARE) -> int:
    return KarpenterDay(pool, (shape,), policy, Timing(consolidate_after=15.0)).run(together(count)).bought


def test_ten_pods_of_one_share_as_measured_with_karpenter() -> None:
    """One node with the overlay, ten without."""
    assert bought(10, RIGHT) == 1
    assert bought(10, NONE) == 10


def test_a_promise_above_what_the_plugin_gives_buys_late_one_after_another() -> None:
    """Overlay ten and three replicas: four nodes, as measured."""
    three = Pool(name="three", machines=(G5_2X,), replicas=3)
    outcome = KarpenterDay(three, (SHARE,), Policy(name="ten", promise=10 / 3), Timing(consolidate_after=15.0)).run(together(10))
    assert outcome.bought == 4
    starts = sorted({stay.start for stay in outcome.stays})
    assert len(starts) == 4
    assert all(later - earlier > Timing().boot for earlier, later in itertools.pairwise(starts))


def test_a_pod_that_no_type_is_promised_to_hold_never_runs() -> None:
    outcome = KarpenterDay(SINGLE, ((4, 100, 64),), NONE, Timing()).run(together(1))
    assert (outcome.bought, outcome.served, outcome.dollars) == (0, 0, 0)
    assert bought(1, RIGHT, shape=(4, 100, 64)) == 1


def test_consolidation_takes_one_of_up_to_ten_nodes_at_a_time() -> None:
    """Of ten nodes with a pod each, one is gone after a minute, and only one is left in the end."""
    wishes = together(10)
    outcome = KarpenterDay(SINGLE, (SHARE,), NONE, Timing(consolidate_after=15.0)).run(wishes)
    assert G5_2X.price < outcome.dollars < 10 * G5_2X.price / 3


def test_only_consolidation_of_what_is_underused_moves_pods() -> None:
    """Two nodes, on which four pods are left that would fit on one."""
    wishes = [Wish(0.0, 1800.0 if 2 <= number < 10 else 7200.0, 0) for number in range(12)]
    paid = {
        name: KarpenterDay(SINGLE, (SHARE,), Policy(name=name, consolidation=name), Timing()).run(wishes).dollars
        for name in ("WhenEmpty", "WhenEmptyOrUnderutilized")
    }
    assert paid["WhenEmptyOrUnderutilized"] < 0.75 * paid["WhenEmpty"]


def test_the_tag_of_shares_saves_a_group_nine_nodes() -> None:
    for tagged, expected in ((True, 1), (False, 10)):
        outcome = AutoscalerDay(SINGLE, (SHARE,), tagged=tagged, timing=GroupTiming()).run(together(10))
        assert outcome.bought == expected
        assert outcome.served > 0.95 * outcome.wanted


# The page


def test_the_page_has_every_policy_and_mix_and_says_that_it_is_a_model() -> None:
    """Its sentences are checked against its figures (``reading``)."""
    found = measure(KARPENTER, 3)
    text = page(found, {(row.name, mix.name): found[KARPENTER[0].name, mix.name] for row in GROUPS for mix in MIXES})
    assert "This is a **model**" in text
    assert all(text.count(f"| {mix.name} |") == 2 for mix in MIXES)
    assert all(f"| {row.name} |" in text for row in (*KARPENTER, *GROUPS))


def test_a_day_that_costs_less_than_is_possible_is_refused() -> None:
    mix = MIXES[0]
    outcome = KarpenterDay(mix.pool, mix.demand.shapes, RIGHT, Timing()).run(day(mix, 0))
    with pytest.raises(AssertionError, match="paid less"):
        Total().add(dataclasses.replace(outcome, dollars=0.01), packing(mix), 1)


# Days with the real Karpenter


def test_a_second_start_goes_on_where_the_first_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "days.json"
    book = Book(path)
    assert book.missing() == list(range(DAYS))
    book.add(0, {"dollars": 1.5})
    book.add(2, {"dollars": 2.5})
    again = Book(path)
    assert again.days == {0: {"dollars": 1.5}, 2: {"dollars": 2.5}}
    assert again.missing()[:2] == [1, 3]


def test_days_of_other_arrivals_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "days.json"
    Book(path).add(0, {"dollars": 1.5})
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": "other"}))
    assert Book(path).days == {}


def test_the_page_says_how_many_days_were_run_and_how_far_the_model_is_off() -> None:
    model = modelled_day(MIXES[1], day(MIXES[1], 0, 240.0))
    real = {**model, "dollars": model["dollars"] / 1.1, "date": "2026-11-24", "commit": "abc"}
    text = report({1: real})
    assert f"1 of {DAYS} days were run" in text
    assert f"| 1 | {MIXES[1].name} |" in text
    assert text.count("+10.0%") == 2  # the day's and that of all days
