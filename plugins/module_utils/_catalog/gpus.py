# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The NVIDIA GPUs of EC2: which product an instance family has, and what follows from the product. Pure.

Memory, and how many GPUs a size has, are those of instances.py. A family that is not here is new: nothing is said of it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import GPU_FAMILIES, family_of

Compute = tuple[int, int]

# Source: NVIDIA k8s-device-plugin, cmd/mps-control-daemon/mps/device.go and manager.go: replicas above it end the daemon
# ("maximum allowed replicas exceeded"). It compares with compute capability 7.5, so that V100 (7.0) is held to the lower one.
_MPS_CLIENTS, _MPS_CLIENTS_BEFORE = 48, 16
_MPS_COMPUTE: Compute = (7, 5)
MPS_SOURCE = "NVIDIA k8s-device-plugin, cmd/mps-control-daemon/mps: maximum allowed replicas"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU product.

    ``product`` is its name as GPU feature discovery labels it (nvidia.com/gpu.product), ``models`` its names as EC2 has them, lower case with
    dashes (karpenter.k8s.aws/instance-gpu-name), ``memory_mib`` what EC2 says of a whole GPU. ``family`` is NVIDIA's architecture as GPU
    feature discovery labels it, ``families`` are the instance families. ``mig_slices`` is the number of memory slices that MIG placements
    are counted in; 0: it has no MIG.
    """

    key: str
    product: str
    models: tuple[str, ...]
    memory_mib: int
    compute: Compute
    family: str
    families: tuple[str, ...]
    mig_slices: int = 0


def _gpu(key: str, product: str, compute: Compute, family: str, families: tuple[str, ...], mig_slices: int = 0) -> Gpu:
    known = [GPU_FAMILIES[name] for name in families]
    return Gpu(
        key=key,
        product=product,
        models=tuple(dict.fromkeys(one.model.lower().replace(" ", "-") for one in known)),
        memory_mib=max(one.memory_mib for one in known),
        compute=compute,
        family=family,
        families=families,
        mig_slices=mig_slices,
    )


# Sources: compute capability: https://developer.nvidia.com/cuda-gpus; product and family labels: NVIDIA k8s-device-plugin, internal/lm and
# docs/gpu-feature-discovery; MIG: NVIDIA MIG User Guide, Supported GPUs (slices: see mig.py); families: instances.py.
GPUS: dict[str, Gpu] = {
    gpu.key: gpu
    for gpu in (
        _gpu("v100-16", "Tesla-V100-SXM2-16GB", (7, 0), "volta", ("p3",)),
        _gpu("v100-32", "Tesla-V100-SXM2-32GB", (7, 0), "volta", ("p3dn",)),
        _gpu("t4", "Tesla-T4", (7, 5), "turing", ("g4dn",)),
        _gpu("t4g", "NVIDIA-T4G", (7, 5), "turing", ("g5g",)),
        _gpu("a100-40", "NVIDIA-A100-SXM4-40GB", (8, 0), "ampere", ("p4d",), 8),
        _gpu("a100-80", "NVIDIA-A100-SXM4-80GB", (8, 0), "ampere", ("p4de",), 8),
        _gpu("a10g", "NVIDIA-A10G", (8, 6), "ampere", ("g5",)),
        _gpu("l4", "NVIDIA-L4", (8, 9), "ada-lovelace", ("g6", "gr6", "g6f", "gr6f")),
        _gpu("l40s", "NVIDIA-L40S", (8, 9), "ada-lovelace", ("g6e",)),
        _gpu("h100", "NVIDIA-H100-80GB-HBM3", (9, 0), "hopper", ("p5",), 8),
        _gpu("h200", "NVIDIA-H200", (9, 0), "hopper", ("p5e", "p5en"), 8),
        _gpu("b200", "NVIDIA-B200", (10, 0), "blackwell", ("p6-b200",), 8),
        _gpu("b300", "NVIDIA-B300-SXM6-AC", (10, 3), "blackwell", ("p6-b300",), 8),
        _gpu("gb200", "NVIDIA-GB200", (10, 0), "blackwell", ("p6e-gb200",), 8),
        _gpu("gb300", "NVIDIA-GB300", (10, 3), "blackwell", ("p6e-gb300",), 8),
        _gpu("rtx-pro-6000", "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", (12, 0), "blackwell", ("g7e",), 12),
        _gpu("rtx-pro-4500", "NVIDIA-RTX-PRO-4500-Blackwell-Server-Edition", (12, 0), "blackwell", ("g7",), 2),
    )
}
_BY_FAMILY: dict[str, Gpu] = {family: gpu for gpu in GPUS.values() for family in gpu.families}


def gpu_of(instance_type_or_family: str) -> t.Optional[Gpu]:
    """The product of an instance type (p4d.24xlarge) or family (p4d); None where it is not known here."""
    return _BY_FAMILY.get(family_of(instance_type_or_family))


def product_of(name: str) -> t.Optional[Gpu]:
    """The product by its key (a100-40), its label (NVIDIA-A100-SXM4-40GB, of GPUs that are shared or divided too), an instance type or a family."""
    label = name.partition("-MIG-")[0].removesuffix("-SHARED")
    return GPUS.get(name) or next((gpu for gpu in GPUS.values() if gpu.product == label), None) or gpu_of(name)


def mps_clients(gpu: Gpu) -> int:
    """How many replicas NVIDIA's MPS control daemon takes at most on this product."""
    return _MPS_CLIENTS if gpu.compute >= _MPS_COMPUTE else _MPS_CLIENTS_BEFORE
