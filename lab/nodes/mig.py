"""Pure: Multi-Instance GPU on EC2's products: which profiles there are, what fits on one GPU, and what nvidia-smi makes of a node.

Sources: NVIDIA MIG User Guide, "Supported MIG Profiles" and "List GPU Instance Placements"; mig-parted's config-default.yaml. The table is the
lab's own, so that it judges that of the collection.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The GPU instances of one GPU, None where its MIG mode is off.
Layout = tuple[str, ...] | None


class Refused(ValueError):
    """nvidia-smi would end with this; its words are the lab's where NVIDIA's are not known."""


@dataclass(frozen=True, slots=True)
class Profile:
    """``size`` in memory slices, ``compute`` slices, ``most`` of it on one GPU, legal ``starts``, media engines."""

    size: int
    compute: int
    most: int
    starts: tuple[int, ...]
    media: int = 0


@dataclass(frozen=True, slots=True)
class Product:
    """What a GPU can be parted into. ``reboot``: under EC2's virtualisation a new MIG mode is pending until the machine boots again."""

    compute: int
    media: int
    profiles: Mapping[str, Profile]
    reboot: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """One ``nvidia-smi mig -cgi``; ``gpus`` None: of all. Without -C there are GPU instances and no devices."""

    profiles: tuple[str, ...]
    gpus: tuple[int, ...] | None = None
    devices: bool = True


def _sevenths(one: int, two: int, four: int, whole: int, *, reboot: bool = False) -> Product:
    """Seven compute slices over eight memory slices, by the memory in names."""
    profiles = {
        f"1g.{one}gb": Profile(1, 1, 7, tuple(range(7))),
        f"1g.{one}gb+me": Profile(1, 1, 1, tuple(range(7)), media=1),
        f"1g.{two}gb": Profile(2, 1, 4, (0, 2, 4, 6)),
        f"2g.{two}gb": Profile(2, 2, 3, (0, 2, 4)),
        f"3g.{four}gb": Profile(4, 3, 2, (0, 4)),
        f"4g.{four}gb": Profile(4, 4, 1, (0,)),
        f"7g.{whole}gb": Profile(8, 7, 1, (0,)),
    }
    return Product(compute=7, media=1, profiles=profiles, reboot=reboot)


def _quarters() -> Product:
    """RTX PRO 6000: the suffixes share four sets of media engines; +me.all takes them all, -me none."""
    profiles = {}
    for name, size, starts in (("1g.24gb", 1, (0, 1, 2, 3)), ("2g.48gb", 2, (0, 2)), ("4g.96gb", 4, (0,))):
        for suffix in ("", "+gfx"):
            profiles[name + suffix] = Profile(size, size, len(starts), starts, media=size)
        if size < 4:
            profiles[f"{name}+me.all"] = Profile(size, size, 1, starts, media=4)
            profiles[f"{name}-me"] = Profile(size, size, len(starts), starts)
    profiles["1g.24gb+me"] = Profile(1, 1, 1, (0, 1, 2, 3), media=1)
    return Product(compute=4, media=4, profiles=profiles)


#: (GpuInfo's name in ec2:DescribeInstanceTypes in lower case, least MiB of memory) -> product; the first that fits holds.
_PRODUCTS: tuple[tuple[str, int, Product], ...] = (
    ("a100", 80000, _sevenths(10, 20, 40, 80, reboot=True)),
    ("a100", 0, _sevenths(5, 10, 20, 40, reboot=True)),
    ("h100", 0, _sevenths(10, 20, 40, 80)),
    ("h200", 0, _sevenths(18, 35, 71, 141)),
    ("b200", 0, _sevenths(23, 45, 90, 180)),
    ("b300", 0, _sevenths(34, 67, 135, 269)),
    ("gb200", 0, _sevenths(23, 47, 93, 186)),
    ("gb300", 0, _sevenths(35, 70, 139, 278)),
    ("rtx pro server 6000", 0, _quarters()),
)
# Bottlerocket's settings reference, mig.profile: a GPU's name and its memory.
_BOTTLEROCKET = {"a100.40gb": ("a100", 40960), "a100.80gb": ("a100", 81920), "h100.80gb": ("h100", 81920), "h200.141gb": ("h200", 144384)}

_CREATE = re.compile(r"nvidia-smi\s+mig\b(?P<options>[^\n;&|]*)")
_MODE = re.compile(r"nvidia-smi\b[^\n;&|]*\s(?:-mig|--multi-instance-gpu)[ =]1\b")


def product(model: str, memory_mib: int) -> Product | None:
    """None for a GPU without MIG, or whose profiles are not known."""
    return next((found for name, least, found in _PRODUCTS if name == model and memory_mib >= least), None)


def why_not(of: Product, profiles: Sequence[str]) -> str | None:
    """Why not all of these fit on one GPU together, None when they do, by a search over all legal placements."""
    for name in profiles:
        if name not in of.profiles:
            return f"no GPU instance profile {name}; there are {', '.join(of.profiles)}"
    wanted = tuple(sorted((of.profiles[name] for name in profiles), key=lambda profile: -profile.size))
    for name in dict.fromkeys(profiles):
        if profiles.count(name) > of.profiles[name].most:
            return f"{profiles.count(name)} of {name}, of which a GPU has at most {of.profiles[name].most}: Insufficient Resources"
    return None if _places(wanted, of.compute, of.media) else f"{', '.join(profiles)} on one GPU: Insufficient Resources"


def _places(profiles: tuple[Profile, ...], compute: int, media: int) -> bool:
    if sum(profile.compute for profile in profiles) > compute or sum(profile.media for profile in profiles) > media:
        return False

    @functools.cache
    def fits(index: int, used: int) -> bool:
        if index == len(profiles):
            return True
        one = profiles[index]
        runs = (((1 << one.size) - 1) << start for start in one.starts)
        return any(fits(index + 1, used | run) for run in runs if not used & run)

    return fits(0, 0)


def calls(script: str) -> tuple[Call, ...]:
    """The ``nvidia-smi mig -cgi`` of a script; raises Refused where MIG mode is not turned on, or what cannot be read here."""
    found = tuple(
        _call(words.group("options").split()) for words in _CREATE.finditer(script) if re.search(r"-cgi\b", words.group("options"))
    )
    if found and not _MODE.search(script):
        raise Refused("nvidia-smi mig -cgi: no MIG-enabled devices found, since nothing turns MIG mode on")
    return found


def _call(options: list[str]) -> Call:
    profiles: tuple[str, ...] = ()
    gpus: tuple[int, ...] | None = None
    words = iter(options)
    for word in words:
        if word in ("-cgi", "--create-gpu-instance"):
            profiles = tuple(part.strip("\"'") for part in next(words, "").split(",") if part.strip("\"'"))
        elif word in ("-i", "--id"):
            given = next(words, "").strip("\"'")
            if not re.fullmatch(r"\d+(,\d+)*", given):
                raise Refused(f"nvidia-smi mig -i {given}: the lab reads numbers of GPUs alone")
            gpus = tuple(int(number) for number in given.split(","))
    if not profiles or any("$" in name or name.isdigit() for name in profiles):
        raise Refused(f"nvidia-smi mig {' '.join(options)}: the lab reads names of profiles alone")
    return Call(profiles, gpus, devices="-C" in options or "--default-compute-instance" in options)


def layouts(asked: Sequence[Call], of: Product | None, gpus: int) -> tuple[Layout, ...]:
    """The node's GPUs after these calls, () where there are none; raises Refused."""
    if not asked:
        return ()
    if of is None or gpus == 0:
        raise Refused("nvidia-smi -mig 1: Unable to enable MIG Mode: Not Supported")
    made: list[list[str] | None] = [None] * gpus
    without = set()
    for call in asked:
        for index in range(gpus) if call.gpus is None else call.gpus:
            if index >= gpus:
                raise Refused(f"nvidia-smi mig -i {index}: No devices were found")
            made[index] = [*(made[index] or ()), *call.profiles]
            if (why := why_not(of, made[index] or ())) is not None:
                raise Refused(f"nvidia-smi mig -cgi: Unable to create a GPU instance on GPU {index}: {why}")
            if not call.devices:
                without.add(index)
    return tuple(None if profiles is None else () if index in without else tuple(profiles) for index, profiles in enumerate(made))


def bottlerocket_calls(settings: Mapping[str, str], model: str, memory_mib: int) -> tuple[Call, ...]:
    """The calls that Bottlerocket makes for ``mig.profile`` of its settings: a name, or into how many instances a GPU is parted; raises Refused."""
    of = product(model, memory_mib)
    wanted = next((str(value) for key, value in settings.items() if _BOTTLEROCKET.get(key) == (model, memory_mib)), None)
    if of is None or wanted is None:
        return ()
    names = [wanted] if not wanted.isdigit() else [name for name, profile in of.profiles.items() if profile.most == int(wanted)]
    plain = [name for name in names if "+" not in name]
    if not plain or plain[-1] not in of.profiles:
        raise Refused(f"Bottlerocket: settings.kubelet-device-plugins.nvidia.mig.profile: {wanted}: not a profile of {model}")
    return (Call((plain[-1],) * of.profiles[plain[-1]].most),)
