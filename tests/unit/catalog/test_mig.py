# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPU products, their MIG profiles, and what fits on one GPU."""

from __future__ import annotations

import itertools
import typing as t
from collections import Counter

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS, gpu_of, mps_clients
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import GPU_FAMILIES
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import (
    MINIMUM_DRIVERS,
    PROFILES,
    UNVERIFIED,
    Profile,
    divide,
    misfit,
    pack,
    products_with,
)
from hypothesis import given
from hypothesis import strategies as st

# Written down apart from the catalogue: NVIDIA mig-parted, deployments/systemd/config-default.yaml (all-PROFILE), by product.
MAXIMA: dict[str, dict[str, int]] = {
    "a100-40": {"1g.5gb": 7, "1g.5gb+me": 1, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1},
    "a100-80": {"1g.10gb": 7, "1g.10gb+me": 1, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1},
    "h100": {"1g.10gb": 7, "1g.10gb+me": 1, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1},
    "h200": {"1g.18gb": 7, "1g.18gb+me": 1, "1g.35gb": 4, "2g.35gb": 3, "3g.71gb": 2, "4g.71gb": 1, "7g.141gb": 1},
    "b200": {"1g.23gb": 7, "1g.23gb+me": 1, "1g.45gb": 4, "2g.45gb": 3, "3g.90gb": 2, "4g.90gb": 1, "7g.180gb": 1},
    "b300": {"1g.34gb": 7, "1g.34gb+me": 1, "1g.67gb": 4, "2g.67gb": 3, "3g.135gb": 2, "4g.135gb": 1, "7g.269gb": 1},
    "gb200": {"1g.23gb": 7, "1g.23gb+me": 1, "1g.47gb": 4, "2g.47gb": 3, "3g.93gb": 2, "4g.93gb": 1, "7g.186gb": 1},
    "gb300": {"1g.35gb": 7, "1g.35gb+me": 1, "1g.70gb": 4, "2g.70gb": 3, "3g.139gb": 2, "4g.139gb": 1, "7g.278gb": 1},
    "rtx-pro-6000": {
        "1g.24gb": 4,
        "1g.24gb+me": 1,
        "1g.24gb+gfx": 4,
        "1g.24gb+me.all": 1,
        "1g.24gb-me": 4,
        "2g.48gb": 2,
        "2g.48gb+gfx": 2,
        "2g.48gb+me.all": 1,
        "2g.48gb-me": 2,
        "4g.96gb": 1,
        "4g.96gb+gfx": 1,
    },
    "rtx-pro-4500": {"1g.16gb": 2, "2g.32gb": 1},
}
Wanted = tuple[str, dict[str, int]]


@st.composite
def wanted(draw: st.DrawFn, most: int = 5) -> Wanted:
    key = draw(st.sampled_from(sorted(PROFILES)))
    return key, draw(st.dictionaries(st.sampled_from(sorted(PROFILES[key])), st.integers(1, most), max_size=4))


def compute_of(key: str, layout: dict[str, int]) -> int:
    return sum(PROFILES[key][name].compute for name, _start in pack(key, layout).placed)


def test_every_family_with_gpus_has_one_product() -> None:
    assert sorted(family for gpu in GPUS.values() for family in gpu.families) == sorted(GPU_FAMILIES)
    assert {key for key, gpu in GPUS.items() if gpu.mig_slices} == set(PROFILES)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("p4d.24xlarge", "a100-40"),
        ("p4de", "a100-80"),
        ("gr6f.4xlarge", "l4"),
        ("p6-b200.48xlarge", "b200"),
        ("g9.xlarge", None),
        ("m5", None),
    ],
)
def test_the_product_of_an_instance_type_or_family(name: str, key: str | None) -> None:
    gpu = gpu_of(name)
    assert (gpu.key if gpu else None) == key


def test_facts_of_a_product() -> None:
    gpu = GPUS["rtx-pro-6000"]
    assert (gpu.models, gpu.memory_mib, gpu.family) == (("rtx-pro-server-6000",), 98304, "blackwell")
    assert GPUS["l4"].memory_mib == 22888


@pytest.mark.parametrize(("key", "clients"), [("v100-16", 16), ("v100-32", 16), ("t4", 48), ("t4g", 48), ("a10g", 48), ("b300", 48)])
def test_mps_clients(key: str, clients: int) -> None:
    assert mps_clients(GPUS[key]) == clients


@pytest.mark.parametrize(("key", "profile", "most"), [(key, *item) for key, profiles in MAXIMA.items() for item in profiles.items()])
def test_the_maximum_of_each_profile_fits_and_no_more(key: str, profile: str, most: int) -> None:
    packing = pack(key, {profile: most + 1})
    assert [name for name, _start in packing.placed] == [profile] * most
    assert packing.left == {profile: 1}
    assert misfit(key, {profile: most}) is None
    assert f"at most {most} of {profile}" in (misfit(key, {profile: most + 1}) or "")


def test_no_profile_is_without_its_maximum() -> None:
    assert {key: set(profiles) for key, profiles in PROFILES.items()} == {key: set(profiles) for key, profiles in MAXIMA.items()}


@pytest.mark.parametrize(
    ("key", "layout", "free"),
    [
        ("a100-40", {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}, ()),
        ("h100", {"4g.40gb": 1, "3g.40gb": 1}, ()),
        ("b200", {"1g.23gb": 7}, (7,)),
        ("h200", {"3g.71gb": 1, "1g.35gb": 2}, ()),
        ("rtx-pro-6000", {"1g.24gb": 2, "2g.48gb": 1}, ()),
        ("rtx-pro-6000", {"2g.48gb+me.all": 1, "1g.24gb-me": 2}, ()),
        ("a100-40", {"1g.5gb": 1}, (0, 1, 2, 3, 4, 5, 7)),
        ("a100-40", {}, tuple(range(8))),
    ],
)
def test_layouts_that_fit(key: str, layout: dict[str, int], free: tuple[int, ...]) -> None:
    assert misfit(key, layout) is None
    assert pack(key, layout).free == free


@pytest.mark.parametrize(
    ("key", "layout", "reason"),
    [
        ("t4", {"1g.5gb": 1}, "Tesla-T4 has no Multi-Instance GPU"),
        ("h100", {"1g.5gb": 7}, "NVIDIA-H100-80GB-HBM3 has no profile 1g.5gb; it has 1g.10gb, 1g.10gb+me, 1g.20gb"),
        ("a100-40", {"1g.5gb": 8}, "takes at most 7 of 1g.5gb, not 8"),
        ("a100-40", {"4g.20gb": 1, "3g.20gb": 1, "1g.5gb": 1}, "1 of 1g.5gb does not fit on one NVIDIA-A100-SXM4-40GB beside"),
        ("a100-40", {"3g.20gb": 2, "1g.5gb": 1}, "1 of 1g.5gb does not fit"),
        ("a100-40", {"1g.5gb+me": 1, "1g.5gb": 7}, "does not fit"),
        ("rtx-pro-6000", {"1g.24gb+me.all": 1, "1g.24gb": 1}, "+me.all takes all media engines, so that every other has to be one of -me"),
        ("rtx-pro-6000", {"2g.48gb": 2, "1g.24gb-me": 1}, "1 of 1g.24gb-me does not fit"),
    ],
)
def test_layouts_that_do_not_fit_and_why(key: str, layout: dict[str, int], reason: str) -> None:
    assert reason in (misfit(key, layout) or "")


def test_products_with_a_profile() -> None:
    assert products_with("1g.10gb") == ("a100-40", "a100-80", "h100")
    assert products_with("1g.5gb") == ("a100-40",)
    assert products_with("9g.9gb") == ()


def test_the_memory_of_a_profile_is_in_its_name() -> None:
    assert [PROFILES["rtx-pro-6000"][name].memory_gb for name in ("1g.24gb+me.all", "2g.48gb-me", "4g.96gb")] == [24, 48, 96]


@given(wanted())
def test_what_is_placed_is_legal_and_nothing_is_lost(case: Wanted) -> None:
    key, layout = case
    packing = pack(key, layout)
    runs = [range(start, start + PROFILES[key][name].size) for name, start in packing.placed]
    assert all(start in PROFILES[key][name].starts for name, start in packing.placed)
    assert sorted([*itertools.chain(*runs), *packing.free]) == list(range(GPUS[key].mig_slices))
    names = [name for name, _start in packing.placed]
    assert {name: names.count(name) + packing.left.get(name, 0) for name in layout} == layout
    assert all(names.count(name) <= PROFILES[key][name].most for name in layout)
    assert (misfit(key, layout) is None) is (not packing.left)


@given(wanted(), st.data())
def test_wanting_more_never_places_less(case: Wanted, data: st.DataObject) -> None:
    key, layout = case
    more = {**layout}
    extra = data.draw(st.sampled_from(sorted(PROFILES[key])))
    more[extra] = more.get(extra, 0) + 1
    assert compute_of(key, more) >= compute_of(key, layout)
    if misfit(key, more) is None:
        assert misfit(key, layout) is None


@given(wanted(most=3), st.data())
def test_what_fits_gpu_by_gpu_fits_when_it_is_wanted_as_a_sum(case: Wanted, data: st.DataObject) -> None:
    key, first = case[0], dict(Counter(name for name, _start in pack(*case).placed))
    others = data.draw(st.lists(st.dictionaries(st.sampled_from(sorted(PROFILES[key])), st.integers(1, 3), max_size=3), max_size=2))
    layouts = [first, *(dict(Counter(name for name, _start in pack(key, other).placed)) for other in others)]
    total = sum((Counter(layout) for layout in layouts), Counter())
    packings = divide(key, total, len(layouts))
    assert len(packings) == len(layouts)
    assert not any(packing.left for packing in packings)
    assert sum((Counter(name for name, _start in packing.placed) for packing in packings), Counter()) == total
    assert all(misfit(key, Counter(name for name, _start in packing.placed)) is None for packing in packings)


def test_a_scarce_profile_is_spread_over_the_gpus() -> None:
    packings = divide("a100-40", {"1g.5gb": 6, "1g.5gb+me": 2, "2g.10gb": 1, "3g.20gb": 1}, 2)
    assert [[name for name, _start in packing.placed].count("1g.5gb+me") for packing in packings] == [1, 1]
    assert {tuple(packing.left.items()) for packing in divide("a100-40", {"1g.5gb": 57}, 8)} == {(("1g.5gb", 1),)}


@given(wanted(most=2))
def test_nothing_that_fits_is_refused(case: Wanted) -> None:
    """A layout is left over only if no choice of starts has it: every choice is tried here."""
    key, layout = case
    items = [PROFILES[key][name] for name, count in layout.items() for _each in range(count)]
    if len(items) > 5 or any(count > PROFILES[key][name].most for name, count in layout.items()):
        return
    assert (not pack(key, layout).left) is any(legal(items, starts) for starts in itertools.product(*(item.starts for item in items)))


def legal(items: t.Sequence[Profile], starts: t.Sequence[int]) -> bool:
    taken = [slice_ for item, start in zip(items, starts, strict=True) for slice_ in range(start, start + item.size)]
    return len(taken) == len(set(taken)) and sum(item.media for item in items) <= 4


def test_every_product_with_mig_has_a_driver() -> None:
    assert set(MINIMUM_DRIVERS) == set(PROFILES) > UNVERIFIED
