# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""How Bottlerocket cuts GPUs: it fills each with one profile, of the products that it knows by name. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES

SOURCE = "Bottlerocket, settings.kubelet-device-plugins.nvidia.mig.profile; bottlerocket-kernel-kit, nvidia-migmanager"

#: Key of a product -> its name in settings.kubelet-device-plugins.nvidia.mig.profile.
# Source: bottlerocket-kernel-kit, sources/nvidia-migmanager: NvidiaGpu. Its names have one letter before the number, so that GB200 and RTX
# PRO cannot be said.
MIG_NAMES: dict[str, str] = {
    "a100-40": "a100.40gb",
    "a100-80": "a100.80gb",
    "h100": "h100.80gb",
    "h200": "h200.141gb",
    "b200": "b200.180gb",
}


def mig_misfit(key: str, layout: t.Mapping[str, int]) -> t.Optional[str]:
    """What a layout that fits on the product would have to be for Bottlerocket, in words; None where it is.

    It takes the profiles 1g, 1g with double memory, 2g, 3g and 7g, and makes as many instances as there can be.
    """
    if key not in MIG_NAMES:
        known = ", ".join(GPUS[name].product for name in MIG_NAMES)
        return f"instances of a product that Bottlerocket can cut: {known}; {GPUS[key].product} needs ami.family al2023"
    full = {name: profile.most for name, profile in PROFILES[key].items() if profile.compute != 4 and "+" not in name}
    if len(layout) == 1 and all(full.get(name) == count for name, count in layout.items()):
        return None
    choices = ", ".join(f"{name}: {count}" for name, count in full.items())
    return f"one profile in the number that fills the GPU, as Bottlerocket makes it: {choices}; other layouts with ami.family al2023"
