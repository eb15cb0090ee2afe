# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""MIG profiles of each GPU product, where they may start, and what fits side by side on one GPU. Pure.

A GPU instance takes a run of memory slices that begins at one of its profile's legal starts, a number of compute slices, and media engines.
"""

from __future__ import annotations

import functools
import itertools
import operator
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS

Layout = t.Mapping[str, int]
Placement = tuple[str, int]
Counts = tuple[int, ...]

SOURCE = (
    "NVIDIA MIG User Guide, Supported MIG Profiles: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/supported-mig-profiles.html"
)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A GPU instance profile: ``size`` in memory slices, ``compute`` slices, at ``most`` so many of it on a GPU, its legal ``starts``.

    ``media`` is how many of the GPU's media engines (NVDEC and the like) it takes, where they limit what goes together.
    """

    name: str
    size: int
    compute: int
    most: int
    starts: tuple[int, ...]
    media: int = 0

    @property
    def memory_gb(self) -> int:
        """The nominal memory, as the name has it."""
        return int(self.name.partition(".")[2].partition("gb")[0])


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What fits of a layout: (profile, start) largest first, how many of which profile are left over, and the memory slices that stay free."""

    placed: tuple[Placement, ...]
    left: Layout
    free: tuple[int, ...]


def _seven(*memories: int) -> dict[str, Profile]:
    """Profiles of a GPU with seven compute and eight memory slices, by the nominal memory of one, two, four and eight memory slices.

    Source of the starts: nvidia-smi mig -lgipp on A100 and H100 (MIG User Guide, Getting Started: List GPU Instance Placements); the later
    ones have the same profile ids (19, 20, 15, 14, 9, 5, 0) with the same numbers of instances.
    """
    one, two, four, whole = memories
    profiles = (
        Profile(name=f"1g.{one}gb", size=1, compute=1, most=7, starts=(0, 1, 2, 3, 4, 5, 6)),
        Profile(name=f"1g.{one}gb+me", size=1, compute=1, most=1, starts=(0, 1, 2, 3, 4, 5, 6)),
        Profile(name=f"1g.{two}gb", size=2, compute=1, most=4, starts=(0, 2, 4, 6)),
        Profile(name=f"2g.{two}gb", size=2, compute=2, most=3, starts=(0, 2, 4)),
        Profile(name=f"3g.{four}gb", size=4, compute=3, most=2, starts=(0, 4)),
        Profile(name=f"4g.{four}gb", size=4, compute=4, most=1, starts=(0,)),
        Profile(name=f"7g.{whole}gb", size=8, compute=7, most=1, starts=(0,)),
    )
    return {profile.name: profile for profile in profiles}


def _rtx_pro_6000() -> dict[str, Profile]:
    """Four compute and twelve memory slices, four media engines of each kind. Source of the starts: nvidia-smi mig -lgipp on this GPU.

    Suffixes: +me has the optical flow accelerator too, +me.all all media engines, -me none, +gfx graphics.
    """
    quarter: dict[str, t.Any] = {"size": 3, "compute": 1, "starts": (0, 3, 6, 9)}
    half: dict[str, t.Any] = {"size": 6, "compute": 2, "starts": (0, 6)}
    whole: dict[str, t.Any] = {"size": 12, "compute": 4, "starts": (0,)}
    profiles = (
        Profile(name="1g.24gb", most=4, media=1, **quarter),
        Profile(name="1g.24gb+me", most=1, media=1, **quarter),
        Profile(name="1g.24gb+gfx", most=4, media=1, **quarter),
        Profile(name="1g.24gb+me.all", most=1, media=4, **quarter),
        Profile(name="1g.24gb-me", most=4, **quarter),
        Profile(name="2g.48gb", most=2, media=2, **half),
        Profile(name="2g.48gb+gfx", most=2, media=2, **half),
        Profile(name="2g.48gb+me.all", most=1, media=4, **half),
        Profile(name="2g.48gb-me", most=2, **half),
        Profile(name="4g.96gb", most=1, media=4, **whole),
        Profile(name="4g.96gb+gfx", most=1, media=4, **whole),
    )
    return {profile.name: profile for profile in profiles}


def _rtx_pro_4500() -> dict[str, Profile]:
    """Two instances at most. Source: NVIDIA AI Enterprise, Virtual GPU Types for RTX Pro 4500 (see UNVERIFIED)."""
    profiles = (
        Profile(name="1g.16gb", size=1, compute=1, most=2, starts=(0, 1)),
        Profile(name="2g.32gb", size=2, compute=2, most=1, starts=(0,)),
    )
    return {profile.name: profile for profile in profiles}


# Source of names and numbers: SOURCE; NVIDIA mig-parted, deployments/systemd/config-default.yaml.
PROFILES: dict[str, dict[str, Profile]] = {
    "a100-40": _seven(5, 10, 20, 40),
    "a100-80": _seven(10, 20, 40, 80),
    "h100": _seven(10, 20, 40, 80),
    "h200": _seven(18, 35, 71, 141),
    "b200": _seven(23, 45, 90, 180),
    "b300": _seven(34, 67, 135, 269),
    "gb200": _seven(23, 47, 93, 186),
    "gb300": _seven(35, 70, 139, 278),
    "rtx-pro-6000": _rtx_pro_6000(),
    "rtx-pro-4500": _rtx_pro_4500(),
}
#: Products whose profiles are known from documentation only; their instances need a driver that no stock EKS AMI has.
UNVERIFIED = frozenset({"rtx-pro-4500"})

#: The oldest driver that divides each product. The stock EKS AMIs have 580.
#: Source: NVIDIA MIG User Guide, Deployment Considerations; RTX PRO 4500: amazon-eks-ami, doc/usage/g7-ami.md.
MINIMUM_DRIVERS: dict[str, str] = {
    "a100-40": "450.80.02",
    "a100-80": "450.80.02",
    "h100": "525.85.12",
    "h200": "550.90.07",
    "b200": "570.133.20",
    "b300": "580.82.07",
    "gb200": "570.133.20",
    "gb300": "580.82.07",
    "rtx-pro-6000": "575.51.03",
    "rtx-pro-4500": "595",
}


def products_with(profile: str) -> tuple[str, ...]:
    """Keys of the products that have a profile of this name."""
    return tuple(key for key, profiles in PROFILES.items() if profile in profiles)


@functools.lru_cache(maxsize=None)
def _combinations(key: str) -> dict[Counts, tuple[Placement, ...]]:
    """Every combination of instances that one GPU takes, as counts in the order of _ordered, each with the starts of its instances.

    Those of most compute slices come first. High starts are preferred, which leaves room for large instances.
    """
    cores, media = (max(getattr(profile, name) for profile in PROFILES[key].values()) for name in ("compute", "media"))
    states: dict[tuple[Counts, int], tuple[Placement, ...]] = {((), 0): ()}
    for profile in _ordered(key):
        sets = [(starts, _slices(profile, starts)) for starts in _starts(profile)]
        grown: dict[tuple[Counts, int], tuple[Placement, ...]] = {}
        for (counts, used), placed in states.items():
            for starts, run in sets:
                if not used & run:
                    grown.setdefault(((*counts, len(starts)), used | run), (*placed, *((profile.name, start) for start in starts)))
        states = grown
    found: dict[Counts, tuple[Placement, ...]] = {}
    for (counts, _used), placed in states.items():
        if _sum(key, counts, "compute") <= cores and _sum(key, counts, "media") <= media:
            found.setdefault(counts, placed)
    return dict(sorted(found.items(), key=lambda item: (-_sum(key, item[0], "compute"), -_sum(key, item[0], "size"))))


@functools.lru_cache(maxsize=None)
def _ordered(key: str) -> tuple[Profile, ...]:
    return tuple(sorted(PROFILES[key].values(), key=lambda profile: (-profile.size, -profile.compute, profile.name)))


def _starts(profile: Profile) -> t.Iterator[tuple[int, ...]]:
    """Every set of starts at which instances of one profile stand side by side."""
    high_first = sorted(profile.starts, reverse=True)
    return itertools.chain.from_iterable(itertools.combinations(high_first, number) for number in range(profile.most + 1))


def _slices(profile: Profile, starts: t.Iterable[int]) -> int:
    """The memory slices, one bit each, that instances at these starts take; starts of a profile never overlap each other."""
    return sum(((1 << profile.size) - 1) << start for start in starts)


def _sum(key: str, counts: Counts, name: str) -> int:
    """The whole combination's compute slices, memory slices or media engines."""
    return sum(map(operator.mul, counts, (getattr(profile, name) for profile in _ordered(key))))


def pack(key: str, layout: Layout) -> Packing:
    """What of a layout fits on one GPU: as many compute slices as can be, by exact search over all legal placements.

    Profiles that the product does not have are left over. Raises KeyError for a product without MIG.
    """
    return divide(key, layout, 1)[0]


def divide(key: str, layout: Layout, gpus: int) -> tuple[Packing, ...]:
    """What of a layout fits on several GPUs, one Packing for each; what is left over is said by all of them. As exact as pack."""
    wanted = tuple(layout.get(profile.name, 0) for profile in _ordered(key))
    combinations, placed = _combinations(key), _division(key, wanted, gpus)
    chosen = [name for counts in placed for name, _start in combinations[counts]]
    left = {name: count - chosen.count(name) for name, count in layout.items() if count > chosen.count(name)}
    return tuple(Packing(placed=combinations[counts], left=left, free=_free(key, combinations[counts])) for counts in placed)


def _free(key: str, placed: t.Iterable[Placement]) -> tuple[int, ...]:
    taken = {slice_ for name, start in placed for slice_ in range(start, start + PROFILES[key][name].size)}
    return tuple(slice_ for slice_ in range(GPUS[key].mig_slices) if slice_ not in taken)


def _division(key: str, wanted: Counts, gpus: int) -> list[Counts]:
    """The combination of each GPU that together have most of the compute slices that are wanted."""
    cores = {counts: _sum(key, counts, "compute") for counts in _combinations(key)}
    whole = max(cores.values())

    @functools.lru_cache(maxsize=None)
    def best(wanted: Counts, gpus: int) -> tuple[int, tuple[Counts, ...]]:
        if not gpus:
            return 0, ()
        possible = min(_sum(key, wanted, "compute"), gpus * whole)
        found: tuple[int, tuple[Counts, ...]] = (-1, ())
        for option in cores:
            if found[0] == possible or cores[option] + (gpus - 1) * whole <= found[0]:
                break  # no later option has more compute slices
            if any(map(operator.gt, option, wanted)):
                continue
            score, rest = best(tuple(map(operator.sub, wanted, option)), gpus - 1)
            if score + cores[option] > found[0]:
                found = score + cores[option], (option, *rest)
        return found

    return list(best(wanted, gpus)[1])


def misfit(key: str, layout: Layout) -> t.Optional[str]:
    """Why a layout cannot be had on one GPU of this product, in words; None where it can."""
    name, profiles = GPUS[key].product, PROFILES.get(key)
    if not profiles:
        return f"{name} has no Multi-Instance GPU"
    if unknown := [profile for profile in layout if profile not in profiles]:
        return f"{name} has no profile {unknown[0]}; it has {', '.join(profiles)}"
    if many := [profile for profile, count in layout.items() if count > profiles[profile].most]:
        return f"{name} takes at most {profiles[many[0]].most} of {many[0]}, not {layout[many[0]]}"
    packing = pack(key, layout)
    if not packing.left:
        return None
    left = ", ".join(f"{count} of {profile}" for profile, count in packing.left.items())
    fits = ", ".join(f"{profile} at {start}" for profile, start in packing.placed)
    alone = any(profile.endswith("+me.all") for profile in layout)
    media = ": +me.all takes all media engines, so that every other has to be one of -me" if alone else ""
    return f"{left} does not fit on one {name} beside {fits}{media}"
