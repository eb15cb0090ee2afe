"""Pure: the labels that GPU feature discovery puts on a node (k8s-device-plugin 0.19.3, internal/lm)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lab.nodes.sharing import GPU, MIG_STRATEGIES, Config, ConfigRefused, Gpus, mig_resource, replicas

_PREFIX = "nvidia.com"


@dataclass(frozen=True, slots=True)
class Model:
    """A GPU product as NVML names it, with its memory as NVML reports it (0: not known) and its compute capability."""

    product: str
    memory_mib: int
    family: str
    compute: tuple[int, int]
    mig: bool = False


#: (GpuInfo's name in ec2:DescribeInstanceTypes in lower case, least MiB of memory there) -> model; the first that fits holds. Products and
#: memory: NVIDIA's GFD documentation and nvidia-smi output in k8s-device-plugin's issues; compute capability: NVIDIA's CUDA GPUs page.
_MODELS: tuple[tuple[str, int, Model], ...] = (
    ("v100", 32000, Model("Tesla-V100-SXM2-32GB", 32768, "volta", (7, 0))),
    ("v100", 0, Model("Tesla-V100-SXM2-16GB", 16384, "volta", (7, 0))),
    ("t4", 0, Model("Tesla-T4", 15360, "turing", (7, 5))),
    ("t4g", 0, Model("NVIDIA-T4G", 0, "turing", (7, 5))),
    ("a100", 80000, Model("NVIDIA-A100-SXM4-80GB", 81920, "ampere", (8, 0), mig=True)),
    ("a100", 0, Model("NVIDIA-A100-SXM4-40GB", 40960, "ampere", (8, 0), mig=True)),
    ("a10g", 0, Model("NVIDIA-A10G", 23028, "ampere", (8, 6))),
    ("l4", 0, Model("NVIDIA-L4", 23034, "ada-lovelace", (8, 9))),
    ("l40s", 0, Model("NVIDIA-L40S", 46068, "ada-lovelace", (8, 9))),
    ("h100", 0, Model("NVIDIA-H100-80GB-HBM3", 81559, "hopper", (9, 0), mig=True)),
    ("h200", 0, Model("NVIDIA-H200", 143771, "hopper", (9, 0), mig=True)),
    ("b200", 0, Model("NVIDIA-B200", 183359, "blackwell", (10, 0), mig=True)),
    ("b300", 0, Model("NVIDIA-B300-SXM6-AC", 0, "blackwell", (10, 3), mig=True)),
    ("rtx pro server 6000", 0, Model("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 97887, "blackwell", (12, 0), mig=True)),
    ("rtx pro 4500", 0, Model("NVIDIA-RTX-PRO-4500-Blackwell-Server-Edition", 0, "blackwell", (12, 0), mig=True)),
)
#: Product -> profile -> MiB, as NVIDIA's GFD documentation shows them.
_MIG_MEMORY: Mapping[str, Mapping[str, int]] = {
    "NVIDIA-H100-80GB-HBM3": {"1g.10gb": 9984, "2g.20gb": 20096, "3g.40gb": 40320},
}


def model(name: str, memory_mib: int) -> Model | None:
    """None for a product that is not in the table."""
    return next((found for known, least, found in _MODELS if known == name and memory_mib >= least), None)


def labels(config: Config, gpus: Gpus, of: Model | None) -> dict[str, str]:
    """nvidia.com/… labels; those that need a model's data are left out where it is None; raises ConfigRefused when the program would end."""
    parted = {index: layout for index in range(gpus.count) if (layout := gpus.layout(index)) is not None}
    if config.strategy == "mps" and parted:
        raise ConfigRefused("error creating sharing labeler: failed to check MPS-capable: MPS sharing is not supported for mig devices")
    found = {
        **({} if of is None else {f"{_PREFIX}/mig.capable": str(of.mig).lower()}),
        f"{_PREFIX}/mps.capable": str(config.strategy == "mps").lower(),
        **_whole(config, gpus.count, of, shared=len(parted) < gpus.count),
    }
    if config.mig_strategy == "none":
        return found
    if config.mig_strategy not in MIG_STRATEGIES:
        raise ConfigRefused(f"failed to construct MIG resource labeler: unknown strategy: {config.mig_strategy}")
    found[f"{_PREFIX}/mig.strategy"] = config.mig_strategy
    devices = Counter(profile for layout in parted.values() for profile in layout)
    if config.mig_strategy == "mixed":
        for profile, count in devices.items():
            found |= _resource(config, mig_resource(profile), count, of, profile)
    elif parted and (len(parted) < gpus.count or len(devices) != 1 or not all(parted.values())):
        found |= _invalid(of)
    elif parted:
        found.pop(f"{GPU}.memory", None)  # it is the instances', which may not be known
        found |= _resource(config, GPU, devices.total(), of, next(iter(devices)))
    return found


def _whole(config: Config, count: int, of: Model | None, *, shared: bool) -> dict[str, str]:
    """Labels of the GPUs themselves, in MIG mode or not; where all are in MIG mode nothing is shared (newGPULabelers)."""
    times = replicas(config) if shared else 0
    found = {
        f"{GPU}.count": str(count),
        f"{GPU}.replicas": str(times),
        f"{GPU}.sharing-strategy": config.strategy if times > 1 else "none",
    }
    if of is not None:
        found |= {
            f"{GPU}.product": of.product + _suffix(config, times),
            f"{GPU}.family": of.family,
            f"{GPU}.compute.major": str(of.compute[0]),
            f"{GPU}.compute.minor": str(of.compute[1]),
        }
        if of.memory_mib:
            found[f"{GPU}.memory"] = str(of.memory_mib)
    return found


def _resource(config: Config, resource: str, count: int, of: Model | None, profile: str) -> dict[str, str]:
    """Labels of MIG devices of one profile (NewMIGResourceLabeler), of its attributes the slices and what memory is known."""
    times, slices = replicas(config, resource), profile.partition("g.")[0]
    found = {
        "count": str(count),
        "replicas": str(times),
        "sharing-strategy": config.strategy if times > 1 else "none",
        "slices.gi": slices,
        "slices.ci": slices,
    }
    if of is not None:
        found["product"] = f"{of.product}-MIG-{profile.replace('+', '.')}{_suffix(config, times)}"
        if memory := _MIG_MEMORY.get(of.product, {}).get(profile):
            found["memory"] = str(memory)
    return {f"{resource}.{name}": value for name, value in found.items()}


def _invalid(of: Model | None) -> dict[str, str]:
    """Strategy single over another layout than one profile on all GPUs (newInvalidMigStrategyLabeler)."""
    found = {f"{GPU}.count": "0", f"{GPU}.replicas": "0", f"{GPU}.sharing-strategy": "", f"{GPU}.memory": "0"}
    return found if of is None else {**found, f"{GPU}.product": f"{of.product}-MIG-INVALID"}


def _suffix(config: Config, times: int) -> str:
    renamed = config.sharing is not None and config.sharing.rename_by_default
    return "-SHARED" if times > 1 and not renamed else ""
