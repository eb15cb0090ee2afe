"""Pure: what NVIDIA's MIG manager does on a node (mig-parted v0.15.0, cmd/nvidia-mig-manager and pkg/mig/reconfigure).

It looks at the label nvidia.com/mig.config when that changes and when it starts. What has failed, and what it has given up, stays as it is:
operands paused, labels too.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from lab.kubernetes.client import Json
from lab.nodes import mig
from lab.nodes.operands import DEPLOY, MIG_STATE

PAUSED = "paused-for-mig-change"
CLIENTS = ("device-plugin", "gpu-feature-discovery", "dcgm-exporter", "dcgm", "nvsm")
CLIENT_APPS = ("nvidia-device-plugin-daemonset", "gpu-feature-discovery", "nvidia-dcgm-exporter", "nvidia-dcgm")
THIRD_PARTY = f"{DEPLOY}client"
PATIENCE_SECONDS = 300.0  # for pods that use the GPUs
REBOOT_SECONDS = 180.0  # simulated

Layouts = tuple[mig.Layout, ...]


class ConfigRefused(ValueError):
    """nvidia-mig-parted would end with this message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What MIG manager finds on its node."""

    labels: Mapping[str, str]
    product: mig.Product | None
    gpus: int
    layouts: Layouts  # () where MIG mode is off on all
    clients: tuple[str, ...] = ()  # pods that have to go first
    users: tuple[str, ...] = ()  # pods that have GPUs, or parts of them

    @property
    def by_gpu(self) -> Layouts:
        return self.layouts or (None,) * self.gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How it runs: its pod, whether it may reboot, and the text of its ConfigMap (None: what the hardware can do)."""

    pod: str
    reboot: bool
    config: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where it is. ``until``: the time by which pods have to be gone, or the machine is up again."""

    pod: str = ""
    asked: str = ""
    phase: t.Literal["idle", "clearing", "rebooting"] = "idle"
    until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What it does now. ``layouts`` None: the GPUs stay as they are."""

    state: State
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    layouts: Layouts | None = None
    said: str = ""
    rebooted: bool = False


def step(state: State, machine: Machine, settings: Settings, wanted: str, now: float) -> Step:
    """One look; an equal state without labels and layouts means that there is nothing to do."""
    if state.phase == "rebooting":
        return _after_reboot(state, machine, settings, wanted, now) if now >= state.until else Step(state=state)
    if state.pod != settings.pod or (state.phase == "idle" and state.asked != wanted):
        return _begin(State(pod=settings.pod, asked=wanted), machine, settings, now) if wanted else Step(state=state)
    if state.phase == "clearing":
        return _clear(state, machine, settings, now)
    return Step(state=state)


def _begin(state: State, machine: Machine, settings: Settings, now: float) -> Step:
    try:
        layouts = chosen(settings.config, state.asked, machine)
    except ConfigRefused as error:
        return _failed(state, str(error))
    if layouts == machine.by_gpu:
        return Step(state=state, labels={MIG_STATE: "success"}, said="Selected MIG config is already applied")
    paused = {DEPLOY + name: PAUSED for name in CLIENTS if machine.labels.get(DEPLOY + name) != "false"}
    if THIRD_PARTY in machine.labels:
        paused[THIRD_PARTY] = PAUSED
    clearing = dataclasses.replace(state, phase="clearing", until=now + PATIENCE_SECONDS)
    return Step(state=clearing, labels={MIG_STATE: "pending", **paused}, said=f"Updating to MIG config: {state.asked}")


def _clear(state: State, machine: Machine, settings: Settings, now: float) -> Step:
    """Wait until nothing of the operator's uses the GPUs; what then fails is left as it is (gpu-operator#2833)."""
    if machine.clients:
        waited = now >= state.until
        said = f"Error: {', '.join(machine.clients)} did not shutdown: timed out waiting for the condition" if waited else ""
        return Step(state=dataclasses.replace(state, phase="idle") if waited else state, said=said)
    try:
        layouts = chosen(settings.config, state.asked, machine)
        if mode_changes(machine, layouts) and _needs_reboot(machine):
            return _reboot(state, machine, settings, now)
        _check_unused(machine)
        _check(machine, layouts)
    except ConfigRefused as error:
        return _failed(state, str(error))
    return _done(state, machine, layouts)


def _needs_reboot(machine: Machine) -> bool:
    """Where a GPU cannot be reset in a virtual machine, or is used, its new mode is pending until the machine boots again."""
    return bool(machine.users) or (machine.product is not None and machine.product.reboot)


def _reboot(state: State, machine: Machine, settings: Settings, now: float) -> Step:
    if not settings.reboot:
        return _failed(state, "failed to apply MIG configuration: the mode change is pending, and WITH_REBOOT is not true")
    rebooting = dataclasses.replace(state, phase="rebooting", until=now + REBOOT_SECONDS)
    return Step(state=rebooting, labels={MIG_STATE: "rebooting"}, said="Rebooting the node...")


def _after_reboot(state: State, machine: Machine, settings: Settings, wanted: str, now: float) -> Step:
    """The mode is in force, GPU instances are gone, MIG manager starts anew."""
    asked = wanted or state.asked
    try:
        layouts = chosen(settings.config, asked, machine)
        _check(machine, layouts)
    except ConfigRefused as error:
        return _failed(dataclasses.replace(state, asked=asked, phase="idle"), str(error))
    done = _done(State(pod=settings.pod, asked=asked), machine, layouts)
    return dataclasses.replace(done, rebooted=True)


def _done(state: State, machine: Machine, layouts: Layouts) -> Step:
    restored = {DEPLOY + name: "true" for name in CLIENTS if machine.labels.get(DEPLOY + name) != "false"}
    if THIRD_PARTY in machine.labels:
        restored[THIRD_PARTY] = "true"
    kept = layouts if any(layout is not None for layout in layouts) else ()
    idle = dataclasses.replace(state, phase="idle")
    return Step(
        state=idle, labels={**restored, MIG_STATE: "success"}, layouts=kept, said=f"Successfully updated to MIG config: {state.asked}"
    )


def _failed(state: State, why: str) -> Step:
    return Step(state=dataclasses.replace(state, phase="idle"), labels={MIG_STATE: "failed"}, said=f"Error: {why}")


def _check_unused(machine: Machine) -> None:
    if machine.users:
        raise ConfigRefused(f"error destroying GPU instances: In use by another client ({', '.join(machine.users)})")


def _check(machine: Machine, layouts: Layouts) -> None:
    for index, layout in enumerate(layouts):
        if layout is None:
            continue
        if machine.product is None:
            raise ConfigRefused(f"error setting MIG mode: GPU {index}: Not Supported")
        if (why := mig.why_not(machine.product, layout)) is not None:
            raise ConfigRefused(f"error attempting multiple config orderings: GPU {index}: {why}")


def mode_changes(machine: Machine, layouts: Layouts) -> bool:
    return any((before is None) != (after is None) for before, after in zip(machine.by_gpu, layouts, strict=True))


def chosen(text: str | None, name: str, machine: Machine) -> Layouts:
    """The GPUs' layouts by the named configuration of a file, else by what the hardware can do; raises ConfigRefused."""
    if text is None:
        return (_generated(name, machine.product),) * machine.gpus
    try:
        configs = (yaml.safe_load(text) or {}).get("mig-configs") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise ConfigRefused(f"error parsing config file: {error}") from error
    if name not in configs:
        raise ConfigRefused(f"selected mig-config not present: {name}")
    found: list[mig.Layout] = [None] * machine.gpus
    for spec in configs[name] or ():
        if "device-filter" in spec:
            raise ConfigRefused("the lab imitates no device-filter")
        devices = spec.get("devices", "all")
        for index in range(machine.gpus) if devices == "all" else devices:
            found[index] = _profiles(spec)
    return tuple(found)


def _profiles(spec: Json) -> mig.Layout:
    if not spec.get("mig-enabled"):
        return None
    return tuple(profile for profile, count in (spec.get("mig-devices") or {}).items() for _number in range(int(count)))


def _generated(name: str, product: mig.Product | None) -> mig.Layout:
    """all-disabled, all-enabled, all-PROFILE, as MIG manager generates them where it has no ConfigMap."""
    if name == "all-disabled":
        return None
    if name == "all-enabled":
        return ()
    profiles = product.profiles if product else {}
    if name == "all-balanced" and profiles:
        return _balanced(profiles)
    for profile, found in profiles.items():
        if name == f"all-{profile.replace('+', '.')}":
            return (profile,) * found.most
    raise ConfigRefused(f"selected mig-config not present: {name}")


def _balanced(profiles: Mapping[str, mig.Profile]) -> tuple[str, ...]:
    """Two of one compute slice, one of two, one of three where there is such a profile (mig-parted, config-default.yaml)."""
    smallest: dict[int, str] = {}
    for name, found in profiles.items():
        smallest.setdefault(found.compute, name)
    return (smallest[1], *(smallest[compute] for compute in (1, 2, 3) if compute in smallest))
