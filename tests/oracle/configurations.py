# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of nvidia_device_plugin as users write them, and what they mean by them.

The meaning is written down here once more, apart from the collection's model: NVIDIA's programs are held against it.
"""

from __future__ import annotations

import random
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES, misfit
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import (
    DEVICE_PLUGIN_OPTIONS,
    DevicePlugin,
    device_plugin_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults

from tests.oracle.machines import Machine

Options = Mapping[str, t.Any]

GPU = "nvidia.com/gpu"
# Values as templates and people give them, with what is meant.
BOOLEANS: Sequence[tuple[t.Any, bool]] = (
    (True, True), (False, False), ("true", True), ("False", False), ("yes", True), ("no", False), (1, True), (0, False),
)  # fmt: skip
PATHS = (
    "/",
    "/run/nvidia/driver",
    "/opt/nvidia driver",
    "/with'quote",
    '/with"quotes" # and more',
    "/ünï/cødé",
    "/a\\b",
    "/-",
    "/~",
    "/0x10",
)
TEXTS = ("", "plain", "null", "~", "yes", "1.0", "two words", "- dash", "{{braces}}", "#", "tab\there", "line\nbreak", "\U0001f600")
DURATIONS = (("60s", "1m0s"), ("1m30s", "1m30s"), ("1.5h", "1h30m0s"), ("300ms", "300ms"), ("infinite", "infinite"))
LIST_STRATEGIES = ("envvar", "volume-mounts", "cdi-annotations", "cdi-cri")


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What one configuration means: to the plugin's parser, and by name and number to Kubernetes."""

    strategy: str = "none"
    replicas: int = 1
    rename: bool = False
    fail: bool = True
    flags: Mapping[str, t.Any] = field(default_factory=dict)
    mig: str | None = None
    layout: Mapping[str, int] = field(default_factory=dict)

    @property
    def devices(self) -> dict[str, int]:
        """Resource -> devices of each GPU before they are shared.

        v0.19.3 takes a profile for one of another name that begins like it: 1g.5gb+me is advertised as 1g.5gb (k8s-device-plugin#1462).
        """
        if self.mig is None:
            return {GPU: 1}
        found: dict[str, int] = {}
        for profile, count in self.layout.items():
            name = GPU if self.mig == "single" else f"nvidia.com/mig-{plain(profile)}"
            found[name] = found.get(name, 0) + count
        return found

    @property
    def suffix(self) -> str:
        return ".shared" if self.rename else ""

    @property
    def shared(self) -> dict[str, int]:
        """Replicas by the name that is advertised, as the parser says it."""
        return {} if self.strategy == "none" else {f"{name}{self.suffix}": self.replicas for name in self.devices}

    def advertised(self, gpus: int) -> dict[str, int]:
        """Resource -> what a node with this many GPUs advertises."""
        return {f"{name}{self.suffix}": count * gpus * self.replicas for name, count in self.devices.items()}


def plain(profile: str) -> str:
    """A MIG profile without its suffix."""
    return profile.partition("gb")[0] + "gb"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One configuration: the options, what is meant, and a machine that it fits."""

    options: Options
    meaning: Meaning
    machine: Machine

    @property
    def wanted(self) -> DevicePlugin:
        """What the module makes of the options; an assertion where it refuses them."""
        return model([self.options])

    @property
    def file(self) -> str:
        return self.wanted.configurations[0].file


def faults(params: Options) -> list[Fault]:
    """All that the module finds wrong with its parameters before it looks at a cluster."""
    return form_faults(DEVICE_PLUGIN_OPTIONS, params) + device_plugin_faults(params)


def model(configurations: Sequence[Options], **params: t.Any) -> DevicePlugin:
    """What the module makes of configurations that nothing is wrong with."""
    given = {"configurations": [dict(one) for one in configurations], **params}
    refused = faults(given)
    assert refused == [], given
    validated = ArgumentSpecValidator(DEVICE_PLUGIN_OPTIONS).validate(given)
    assert validated.error_messages == []
    return DevicePlugin.from_params(validated.validated_parameters)


def cases(seed: int, count: int, *, flags: bool = True) -> list[Case]:
    """Configurations that are right, always the same ones for a seed."""
    generator = random.Random(seed)
    return [_case(generator, index, flags=flags) for index in range(count)]


def _case(generator: random.Random, index: int, *, flags: bool) -> Case:
    options: dict[str, t.Any] = {"name": f"pool-{index}"}
    key, gpus = generator.choice(sorted(GPUS)), generator.randint(1, 8)
    layout = _layout(generator, key) if key in PROFILES and generator.random() < 0.6 else None
    meaning: dict[str, t.Any] = {}
    if layout is not None:
        strategies = ["mixed", "single"] if len(layout) == 1 else ["mixed"]
        meaning |= {"mig": generator.choice(strategies), "layout": layout}
        options["mig"] = {"strategy": meaning["mig"], "layout": dict(layout)}
    sharing, meant = _sharing(generator, mps=layout is None)
    if sharing is not None:
        options["sharing"] = sharing
    if flags and generator.random() < 0.7:
        options["flags"], meaning["flags"] = _flags(generator)
    return Case(options=options, meaning=Meaning(**meaning, **meant), machine=Machine(key=key, gpus=gpus, layout=layout))


def _layout(generator: random.Random, key: str) -> dict[str, int]:
    """A layout that one GPU of this product takes."""
    while True:
        names = generator.sample(sorted(PROFILES[key]), generator.randint(1, min(3, len(PROFILES[key]))))
        layout = {name: generator.randint(1, PROFILES[key][name].most) for name in names}
        if misfit(key, layout) is None:
            return layout


def _sharing(generator: random.Random, *, mps: bool) -> tuple[dict[str, t.Any] | None, dict[str, t.Any]]:
    strategy = generator.choice(["none", "time_slicing", "time_slicing", *(["mps"] if mps else [])])
    if strategy == "none":
        return generator.choice([(None, {}), ({"strategy": "none"}, {}), ({}, {})])
    replicas = generator.randint(2, 16) if strategy == "mps" else generator.choice([2, 3, 4, 10, generator.randint(2, 200)])
    options: dict[str, t.Any] = {"strategy": strategy, "replicas": generator.choice([replicas, str(replicas)])}
    meaning = {"strategy": strategy.replace("_", "-"), "replicas": replicas}
    if strategy == "time_slicing":
        for name, meant in (("rename", "rename"), ("fail_requests_greater_than_one", "fail")):
            if generator.random() < 0.5:
                options[name], meaning[meant] = generator.choice(BOOLEANS)
    return options, meaning


def _flags(generator: random.Random) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """The ``flags`` of a configuration, and the same as NVIDIA's parser says it back."""
    pairs: dict[str, t.Callable[[], tuple[t.Any, t.Any]]] = {
        "failOnInitError": lambda: generator.choice(BOOLEANS),
        "gdrcopyEnabled": lambda: generator.choice(BOOLEANS),
        "gdsEnabled": lambda: generator.choice(BOOLEANS),
        "mofedEnabled": lambda: generator.choice(BOOLEANS),
        "useNodeFeatureAPI": lambda: (True, True),
        "nvidiaDriverRoot": lambda: (path := generator.choice(PATHS), path),
        "nvidiaDevRoot": lambda: (path := generator.choice(PATHS), path),
        "deviceDiscoveryStrategy": lambda: (name := generator.choice(["auto", "nvml", "tegra"]), name),
        "plugin": lambda: _block(generator, _plugin_pairs(generator)),
        "gfd": lambda: _block(generator, _gfd_pairs(generator)),
    }
    options, meaning = _block(generator, pairs)
    if "cdi-" in str(meaning.get("plugin")) and meaning.get("deviceDiscoveryStrategy") == "tegra":
        options["deviceDiscoveryStrategy"] = meaning["deviceDiscoveryStrategy"] = "nvml"
    if "nvidiaDriverRoot" in meaning:
        meaning.setdefault("nvidiaDevRoot", meaning["nvidiaDriverRoot"])  # NewConfig: the device nodes are where the driver is
    return options, {key: value for key, value in meaning.items() if value != {}}


def _plugin_pairs(generator: random.Random) -> dict[str, t.Callable[[], tuple[t.Any, t.Any]]]:
    def strategies() -> tuple[t.Any, t.Any]:
        chosen = generator.sample(LIST_STRATEGIES, generator.randint(1, len(LIST_STRATEGIES)))
        return (chosen[0] if len(chosen) == 1 and generator.random() < 0.5 else chosen), chosen

    return {
        "passDeviceSpecs": lambda: generator.choice(BOOLEANS),
        "deviceListStrategy": strategies,
        "deviceIDStrategy": lambda: (name := generator.choice(["uuid", "index"]), name),
        "cdiAnnotationPrefix": lambda: (prefix := generator.choice(["cdi.k8s.io/", "nvidia.example.com/"]), prefix),
        "nvidiaCTKPath": lambda: (path := generator.choice(PATHS), path),
        "containerDriverRoot": lambda: (path := generator.choice(PATHS), path),
    }


def _gfd_pairs(generator: random.Random) -> dict[str, t.Callable[[], tuple[t.Any, t.Any]]]:
    return {
        "noTimestamp": lambda: generator.choice(BOOLEANS),
        "sleepInterval": lambda: generator.choice(DURATIONS),
        "outputFile": lambda: (text := generator.choice(TEXTS), text),
        "machineTypeFile": lambda: (text := generator.choice(TEXTS), text),
    }


def _block(generator: random.Random, pairs: Mapping[str, t.Callable[[], tuple[t.Any, t.Any]]]) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    options, meaning = {}, {}
    for name in generator.sample(sorted(pairs), generator.randint(0, len(pairs))):
        options[name], meaning[name] = pairs[name]()
    return options, meaning
