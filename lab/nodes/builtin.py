"""Pure: the device plugin that is a part of Bottlerocket's NVIDIA images, by the settings of its user data.

Source: Bottlerocket's settings reference, settings.kubelet-device-plugins.nvidia, defaults included: shares are renamed unless told otherwise.
Its MPS control daemon is a service of the image and runs before the plugin.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from lab.nodes.sharing import GPU, Config, Replicated, Sharing

STRATEGIES = ("none", "time-slicing", "mps")
PARTITIONS = ("none", "mig")
DEFAULT_REPLICAS, MOST_REPLICAS_OF_MPS = 2, 48
_PATH = "settings.kubelet-device-plugins.nvidia"


class SettingsRefused(ValueError):
    """Bottlerocket's API refuses the settings: the machine does not come up."""


def config(settings: Mapping[str, t.Any]) -> Config:
    """The settings as the plugin's own configuration; raises SettingsRefused."""
    strategy = _one_of(settings, "device-sharing-strategy", STRATEGIES)
    parted = _one_of(settings, "device-partitioning-strategy", PARTITIONS) == "mig"
    if parted and strategy == "mps":
        raise SettingsRefused(f"{_PATH}: device-partitioning-strategy mig and device-sharing-strategy mps exclude each other")
    return Config(mig_strategy="single" if parted else "none", sharing=_sharing(settings, strategy), mps_root="/run/nvidia/mps")


def _sharing(settings: Mapping[str, t.Any], strategy: str) -> Sharing | None:
    if strategy == "none":
        return None
    block = settings.get(strategy, {})
    replicas = block.get("replicas", DEFAULT_REPLICAS)
    most = MOST_REPLICAS_OF_MPS if strategy == "mps" else None
    if not isinstance(replicas, int) or replicas < 2 or (most and replicas > most):
        raise SettingsRefused(f"{_PATH}.{strategy}.replicas: {replicas} is not {f'2 to {most}' if most else '2 or more'}")
    return Sharing(
        strategy=strategy,
        resources=(Replicated(GPU, replicas),),
        rename_by_default=block.get("rename-by-default", True),
        fail_requests=True if strategy == "mps" else block.get("fail-requests-greater-than-one", True),
    )


def _one_of(settings: Mapping[str, t.Any], name: str, known: tuple[str, ...]) -> str:
    value = str(settings.get(name, "none"))
    if value not in known:
        raise SettingsRefused(f"{_PATH}.{name}: {value} is none of {', '.join(known)}")
    return value
