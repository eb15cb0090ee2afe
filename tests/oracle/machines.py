# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with GPUs, as our libnvidia-ml.so.1 is told about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES

# Catalogue key -> what NVML calls the product. A list of its own, so that product labels are held against something: nvidia-smi -L in
# reports of k8s-device-plugin, gpu-operator and mig-parted.
NAMES: Mapping[str, str] = {
    "v100-16": "Tesla V100-SXM2-16GB",
    "v100-32": "Tesla V100-SXM2-32GB",
    "t4": "Tesla T4",
    "t4g": "NVIDIA T4G",
    "a100-40": "NVIDIA A100-SXM4-40GB",
    "a100-80": "NVIDIA A100-SXM4-80GB",
    "a10g": "NVIDIA A10G",
    "l4": "NVIDIA L4",
    "l40s": "NVIDIA L40S",
    "h100": "NVIDIA H100 80GB HBM3",
    "h200": "NVIDIA H200",
    "b200": "NVIDIA B200",
    "b300": "NVIDIA B300 SXM6 AC",
    "gb200": "NVIDIA GB200",
    "gb300": "NVIDIA GB300",
    "rtx-pro-6000": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    "rtx-pro-4500": "NVIDIA RTX PRO 4500 Blackwell Server Edition",
}
# The memory that NVML reports: nvidia-smi in reports of k8s-device-plugin. Where it is not known, a machine has what its profiles say.
MEMORY_MIB: Mapping[str, int] = {
    "v100-16": 16384, "v100-32": 32768, "t4": 15360, "t4g": 15360, "a10g": 23028, "l4": 23034, "l40s": 46068,
    "a100-40": 40960, "a100-80": 81920, "h100": 81559, "h200": 143771, "b200": 183359, "rtx-pro-6000": 97887,
}  # fmt: skip
# NVML's numbers of GPU instance profiles (nvml.h, NVML_GPU_INSTANCE_PROFILE_*) by compute slices and suffix.
PROFILE_NUMBERS: Mapping[tuple[int, str], int] = {
    (1, ""): 0, (2, ""): 1, (3, ""): 2, (4, ""): 3, (7, ""): 4, (8, ""): 5, (6, ""): 6,
    (1, "+me"): 7, (2, "+me"): 8,
    (1, "+gfx"): 10, (2, "+gfx"): 11, (4, "+gfx"): 12,
    (1, "-me"): 13, (2, "-me"): 14,
    (1, "+me.all"): 15, (2, "+me.all"): 16,
}  # fmt: skip
ONE_SLICE_TWICE_THE_MEMORY = 9  # known to GPUs of seven slices
EIGHTHS = 8  # go-nvlib rounds an instance's share of the memory up to eighths before it names the profile
UNUSABLE_MIB = 256  # of an instance's share


@dataclass(frozen=True, kw_only=True)
class Machine:
    """``key`` is the catalogue's. ``layout`` is what each GPU is cut into, by profile; None where MIG mode is off.

    ``parted`` is how many of the GPUs are in MIG mode, all where it is None; ``xid`` befalls the first of them.
    """

    key: str = "t4"
    gpus: int = 1
    layout: Mapping[str, int] | None = None
    parted: int | None = None
    xid: int = 0

    @property
    def memory_mib(self) -> int:
        """Of each GPU."""
        return MEMORY_MIB.get(self.key) or max(profile.memory_gb for profile in PROFILES[self.key].values()) * 1024

    @property
    def whole_gb(self) -> int:
        """The same in the GB that names of profiles count in; go-nvlib rounds up."""
        return -(-self.memory_mib // 1024)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that tell our library of NVML about this machine."""
        settings = {
            "FAKE_NVML_GPUS": str(self.gpus),
            "FAKE_NVML_NAME": NAMES[self.key],
            "FAKE_NVML_MEMORY_MIB": str(self.memory_mib),
            "FAKE_NVML_COMPUTE": ".".join(map(str, GPUS[self.key].compute)),
        }
        if self.key in PROFILES:
            settings["FAKE_NVML_MIG_PROFILES"] = ",".join(self._instance(profile) for profile in PROFILES[self.key])
        if self.layout is not None:
            settings["FAKE_NVML_MIG"] = ",".join(self._instance(profile) for profile, count in self.layout.items() for _one in range(count))
        if self.parted is not None:
            settings["FAKE_NVML_MIG_GPUS"] = str(self.parted)
        if self.xid:
            settings["FAKE_NVML_XID"] = str(self.xid)
        return settings

    def _instance(self, profile: str) -> str:
        """As our library reads it."""
        slices, memory_gb, suffix = parts(profile)
        eighths = round(memory_gb * EIGHTHS / self.whole_gb)
        number = PROFILE_NUMBERS[slices, suffix]
        if (slices, eighths, suffix) == (1, 2, "") and f"7g.{self.whole_gb}gb" in PROFILES[self.key]:
            number = ONE_SLICE_TWICE_THE_MEMORY
        return f"{number}:{slices}:{self.memory_mib * eighths // EIGHTHS - UNUSABLE_MIB}"


def parts(profile: str) -> tuple[int, int, str]:
    """Compute slices, nominal memory in GB and suffix of a profile such as 1g.5gb+me."""
    slices, _dot, rest = profile.partition("g.")
    memory, _unit, suffix = rest.partition("gb")
    return int(slices), int(memory), suffix
