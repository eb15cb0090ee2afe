"""Pure: the labels that GPU feature discovery puts on a node without MIG devices (k8s-device-plugin, internal/lm)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.nodes.sharing import Config, Gpus, NotImitated, replicas


@dataclass(frozen=True, slots=True)
class Model:
    """A GPU product as NVML names it, with its memory as NVML reports it and its compute capability."""

    product: str
    memory_mib: int
    family: str
    compute: tuple[int, int]


#: GpuInfo's name in ec2:DescribeInstanceTypes -> model. Products and memory: NVIDIA's GFD documentation and nvidia-smi output in
#: k8s-device-plugin's issues; compute capability: NVIDIA's CUDA GPUs page.
MODELS: Mapping[str, Model] = {
    "v100": Model("Tesla-V100-SXM2-16GB", 16384, "volta", (7, 0)),
    "t4": Model("Tesla-T4", 15360, "turing", (7, 5)),
    "a100": Model("NVIDIA-A100-SXM4-40GB", 40960, "ampere", (8, 0)),
    "a10g": Model("NVIDIA-A10G", 23028, "ampere", (8, 6)),
    "l4": Model("NVIDIA-L4", 23034, "ada-lovelace", (8, 9)),
    "l40s": Model("NVIDIA-L40S", 46068, "ada-lovelace", (8, 9)),
    "h100": Model("NVIDIA-H100-80GB-HBM3", 81559, "hopper", (9, 0)),
}
MIG_FAMILIES = ("a100", "h100")


def labels(config: Config, gpus: Gpus, model: str) -> dict[str, str]:
    """nvidia.com/… labels; those that need a model's data are left out where MODELS has none; raises NotImitated."""
    if any(layout is not None for layout in gpus.mig):
        raise NotImitated("labels of GPU feature discovery for MIG devices")
    sharing = config.sharing
    times = replicas(config)
    found = {
        "nvidia.com/gpu.count": str(gpus.count),
        "nvidia.com/gpu.replicas": str(times),
        "nvidia.com/gpu.sharing-strategy": sharing.strategy if sharing and times > 1 else "none",
        "nvidia.com/mig.capable": str(model in MIG_FAMILIES).lower(),
        "nvidia.com/mps.capable": str(bool(sharing and sharing.strategy == "mps")).lower(),
    }
    if config.mig_strategy != "none":
        found["nvidia.com/mig.strategy"] = config.mig_strategy
    if (known := MODELS.get(model)) is not None:
        renamed = bool(sharing and sharing.rename_by_default)
        found |= {
            "nvidia.com/gpu.product": known.product + ("-SHARED" if times > 1 and not renamed else ""),
            "nvidia.com/gpu.memory": str(known.memory_mib),
            "nvidia.com/gpu.family": known.family,
            "nvidia.com/gpu.compute.major": str(known.compute[0]),
            "nvidia.com/gpu.compute.minor": str(known.compute[1]),
        }
    return found
