# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""MIG profiles of each GPU product, where they may start, and what fits side by side on one GPU. Pure.

A GPU instance takes a run of memory slices that begins at one of its profile's legal starts, a number of compute slices, and media engines.
"""

from __future__ import annotations

import functools
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS

Layout = t.Mapping[str, int]
Placement = tuple[str, int]

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
    """Two instances at most. Source: NVIDIA AI Enterprise, Virtual GPU Types for RTX Pro 4500; not seen on the GPU itself (see UNVERIFIED)."""
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
#: Products whose profiles nobody has reported from the GPU itself; their instances need a driver that no stock EKS AMI has.
UNVERIFIED = frozenset({"rtx-pro-4500"})


def products_with(profile: str) -> tuple[str, ...]:
    """Keys of the products that have a profile of this name."""
    return tuple(key for key, profiles in PROFILES.items() if profile in profiles)


def pack(key: str, layout: Layout) -> Packing:
    """What of a layout fits on one GPU: as many compute slices as can be, by exact search over all legal placements.

    Profiles that the product does not have are left over. Raises KeyError for a product without MIG.
    """
    profiles = PROFILES[key]
    wanted = [profiles[name] for name, count in layout.items() if name in profiles for _each in range(min(count, profiles[name].most))]
    ordered = tuple(sorted(wanted, key=lambda profile: (-profile.size, -profile.compute, profile.name)))
    whole = max(profiles.values(), key=lambda profile: profile.compute)
    placed = _search(ordered, whole.compute, max(profile.media for profile in profiles.values()))
    taken = {slice_ for name, start in placed for slice_ in range(start, start + profiles[name].size)}
    counts = [name for name, _start in placed]
    left = {name: count - counts.count(name) for name, count in layout.items() if count > counts.count(name)}
    return Packing(placed=placed, left=left, free=tuple(slice_ for slice_ in range(GPUS[key].mig_slices) if slice_ not in taken))


def _search(profiles: tuple[Profile, ...], compute: int, media: int) -> tuple[Placement, ...]:
    """The best placements: most compute slices, then most memory slices. High starts first, which leaves room for large instances."""

    @functools.lru_cache(maxsize=None)
    def best(index: int, used: int, compute: int, media: int) -> tuple[tuple[int, int], tuple[Placement, ...]]:
        if index == len(profiles):
            return (0, 0), ()
        profile = profiles[index]
        found = None
        if profile.compute <= compute and profile.media <= media:
            for start in sorted(profile.starts, reverse=True):
                run = ((1 << profile.size) - 1) << start
                if used & run:
                    continue
                (cores, memory), rest = best(index + 1, used | run, compute - profile.compute, media - profile.media)
                score = (cores + profile.compute, memory + profile.size)
                if found is None or score > found[0]:
                    found = score, ((profile.name, start), *rest)
        without = best(index + 1, used, compute, media)
        return without if found is None or without[0] > found[0] else found

    return best(0, 0, compute, media)[1]


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
