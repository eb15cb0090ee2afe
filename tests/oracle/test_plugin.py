# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real device plugin and the real GPU feature discovery with our configurations: what they advertise, allocate and label.

Both run on a libnvidia-ml.so.1 of our own, in the environment that our DaemonSets give them, and register with a kubelet of our own.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import TIME_SLICES
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_manifests import (
    DEVICE_PLUGIN,
    FEATURE_DISCOVERY,
    daemon_set,
)

from lab.nodes import features, health, sharing
from tests.oracle.configurations import GPU, Case, Meaning, cases, plain
from tests.oracle.machines import Machine
from tests.oracle.programs import Allocated, Kubelet, Plugin

MPS_ROOT = "/run/nvidia/mps"
TOO_MANY = "maximum request size for shared resources is 1; found 2"
SEVENTHS = {"1g.5gb": 7}
BALANCED = {"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}
# Labels that GPU feature discovery takes from the driver and the machine, of which our configurations say nothing.
OF_THE_MACHINE = ("nvidia.com/cuda.", "nvidia.com/gpu.machine", "nvidia.com/gpu.mode", "nvidia.com/vgpu.")
OF_THE_DRIVER = (".multiprocessors", ".engines.copy", ".engines.decoder", ".engines.encoder", ".engines.jpeg", ".engines.ofa")


def case(machine: Machine, meaning: Meaning, **options: t.Any) -> Case:
    return Case(options={"name": "a", **options}, meaning=meaning, machine=machine)


def slicing(replicas: int, **more: t.Any) -> dict[str, t.Any]:
    return {"strategy": "time_slicing", "replicas": replicas, **more}


def mig(layout: Mapping[str, int], strategy: str = "mixed") -> tuple[Machine, dict[str, t.Any], dict[str, t.Any]]:
    """A machine that is cut, the option that says so, and what it means."""
    return Machine(key="a100-40", gpus=8, layout=layout), {"strategy": strategy, "layout": layout}, {"mig": strategy, "layout": layout}


NAMED: Mapping[str, tuple[Case, Mapping[str, int]]] = {
    "whole GPUs": (case(Machine(gpus=4), Meaning()), {GPU: 4}),
    "ten shares of one GPU": (
        case(Machine(), Meaning(strategy="time-slicing", replicas=10), sharing=slicing(10)),
        {GPU: 10},
    ),
    "ten shares of each of four GPUs": (
        case(Machine(gpus=4), Meaning(strategy="time-slicing", replicas=10), sharing=slicing(10)),
        {GPU: 40},
    ),
    "a pod may ask for many shares": (
        case(
            Machine(gpus=4),
            Meaning(strategy="time-slicing", replicas=10, fail=False),
            sharing=slicing(10, fail_requests_greater_than_one=False),
        ),
        {GPU: 40},
    ),
    "shares under another name": (
        case(Machine(gpus=4), Meaning(strategy="time-slicing", replicas=4, rename=True), sharing=slicing(4, rename=True)),
        {"nvidia.com/gpu.shared": 16},
    ),
    "five clients of MPS": (
        case(Machine(gpus=4), Meaning(strategy="mps", replicas=5), sharing={"strategy": "mps", "replicas": 5}),
        {GPU: 20},
    ),
    "all-1g.5gb, mixed": (case(mig(SEVENTHS)[0], Meaning(**mig(SEVENTHS)[2]), mig=mig(SEVENTHS)[1]), {"nvidia.com/mig-1g.5gb": 56}),
    "all-1g.5gb, single": (
        case(mig(SEVENTHS)[0], Meaning(**mig(SEVENTHS, "single")[2]), mig=mig(SEVENTHS, "single")[1]),
        {GPU: 56},
    ),
    "all-balanced": (
        case(mig(BALANCED)[0], Meaning(**mig(BALANCED)[2]), mig=mig(BALANCED)[1]),
        {"nvidia.com/mig-1g.5gb": 16, "nvidia.com/mig-2g.10gb": 8, "nvidia.com/mig-3g.20gb": 8},
    ),
    "shares of MIG instances": (
        case(
            mig(BALANCED)[0],
            Meaning(strategy="time-slicing", replicas=4, **mig(BALANCED)[2]),
            mig=mig(BALANCED)[1],
            sharing=slicing(4),
        ),
        {"nvidia.com/mig-1g.5gb": 64, "nvidia.com/mig-2g.10gb": 32, "nvidia.com/mig-3g.20gb": 32},
    ),
}


def environment(made: Case, component: str = DEVICE_PLUGIN) -> dict[str, str]:
    """What our DaemonSet's container has, the node's name for what comes from the pod's fields."""
    manifest = daemon_set(made.wanted, made.wanted.configurations[0], component)
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", "node") for item in container["env"]}


def run(node: Kubelet, made: Case) -> Plugin:
    return node.plugin(made.file, made.machine, resources=len(made.meaning.devices), settings=environment(made))


def labels(node: Kubelet, made: Case) -> dict[str, str]:
    return node.labels(made.file, made.machine, settings=environment(made, FEATURE_DISCOVERY))


def check(node: Kubelet, made: Case) -> None:
    """The plugin registers, allocates and the labels say what was meant, and what the collection and the lab say."""
    plugin, meant = run(node, made), made.meaning.advertised(made.machine.gpus)
    assert (plugin.counts, plugin.ended) == (meant, "")
    planned = made.wanted.configurations[0].resources.advertised(made.machine.gpus)
    assert {name: count for name, count in planned.items() if count} == meant
    config = sharing.parse(made.file, environment(made))
    assert sharing.advertised(config, lab_gpus(made.machine)) == meant
    for resource in plugin.resources.values():
        assert (resource.healthy, resource.error) == (resource.devices, "")
        assert resource.allocation[1].error == ""
        refused = made.meaning.strategy != "none" and (made.meaning.fail or made.meaning.strategy == "mps")
        assert TOO_MANY in resource.allocation[2].error if refused and resource.devices > 1 else not_refused(resource.allocation)
    check_labels(made, config, labels(node, made))


def not_refused(allocation: Mapping[int, t.Any]) -> bool:
    return all(one.error == "" for one in allocation.values())


def check_labels(made: Case, config: sharing.Config, found: Mapping[str, str]) -> None:
    """What was meant, what the catalogue says of the product, and the lab's labels: all of them, and none but the machine's besides."""
    suffixed = any(profile != plain(profile) for profile in made.meaning.layout)
    for name, count in made.meaning.devices.items() if not suffixed else ():  # GPU feature discovery has resources by their whole names
        assert found[f"{name}.replicas"] == str(made.meaning.replicas)
        assert found[f"{name}.sharing-strategy"] == made.meaning.strategy
        assert found[f"{name}.count"] == str(count * made.machine.gpus)
    product = GPUS[made.machine.key]
    assert found[f"{GPU}.product"].startswith(product.product)
    assert (found[f"{GPU}.family"], found["nvidia.com/mig.capable"]) == (product.family, str(bool(product.mig_slices)).lower())
    known = features.model(product.models[0].replace("-", " "), product.memory_mib)
    said = ours(features.labels(config, lab_gpus(made.machine), known), made.meaning)
    assert said.items() <= ours(found, made.meaning).items()
    if known is not None and known.memory_mib:
        assert ours(found, made.meaning) == said


def ours(labels: Mapping[str, str], meaning: Meaning) -> dict[str, str]:
    """Labels without those of the machine, and those of MIG instances that the driver decides, in whose place our library has a rule."""
    decided = (f"{GPU}.memory",) if meaning.mig == "single" else ()
    return {
        name: value
        for name, value in labels.items()
        if not name.startswith(OF_THE_MACHINE)
        and not name.endswith(OF_THE_DRIVER)
        and name not in decided
        and not (name.startswith("nvidia.com/mig-") and name.endswith(".memory"))
    }


def lab_gpus(machine: Machine) -> sharing.Gpus:
    layout = None if machine.layout is None else tuple(name for name, count in machine.layout.items() for _one in range(count))
    parted = machine.gpus if machine.parted is None else machine.parted
    layouts = () if layout is None else tuple(layout if index < parted else None for index in range(machine.gpus))
    return sharing.Gpus(count=machine.gpus, mig=layouts, compute=GPUS[machine.key].compute)


@pytest.mark.parametrize("name", NAMED)
def test_what_is_advertised_allocated_and_labelled(node: Kubelet, name: str) -> None:
    made, counts = NAMED[name]
    assert made.meaning.advertised(made.machine.gpus) == counts
    check(node, made)


@pytest.mark.parametrize("made", cases(seed=19, count=40, flags=False), ids=lambda made: made.options["name"])
def test_the_same_of_generated_configurations(node: Kubelet, made: Case) -> None:
    check(node, made)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100))
def test_the_same_of_many(node: Kubelet, seed: int) -> None:
    for made in cases(seed=1_000 + seed, count=20, flags=False):
        check(node, made)


@pytest.mark.parametrize("key", PROFILES)
def test_every_profile_of_the_catalogue_is_named_as_nvidia_names_it(node: Kubelet, key: str) -> None:
    """go-nvlib makes the name from the slices and the memory that the driver reports."""
    for profile in PROFILES[key]:
        made = case(Machine(key=key, gpus=2, layout={profile: 1}), Meaning(mig="mixed", layout={profile: 1}), mig={"layout": {profile: 1}})
        assert run(node, made).counts == {f"nvidia.com/mig-{plain(profile)}": 2}
        assert f"nvidia.com/mig-{profile.replace('+', '.')}.count" in labels(node, made)


@pytest.mark.parametrize(
    ("flags", "allocated"),
    [
        ({}, Allocated(env={"NVIDIA_VISIBLE_DEVICES": "GPU-00000000-0000-4000-8000-000000000000"})),
        ({"deviceIDStrategy": "index"}, Allocated(env={"NVIDIA_VISIBLE_DEVICES": "0"})),
        (
            {"deviceListStrategy": "volume-mounts"},
            Allocated(
                env={"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"},
                mounts=["/dev/null:/var/run/nvidia-container-devices/GPU-00000000-0000-4000-8000-000000000000"],
            ),
        ),
        ({"deviceListStrategy": ["cdi-cri"]}, Allocated(cdi=["k8s.device-plugin.nvidia.com/gpu=GPU-00000000-0000-4000-8000-000000000000"])),
        (
            {"passDeviceSpecs": True},
            Allocated(env={"NVIDIA_VISIBLE_DEVICES": "GPU-00000000-0000-4000-8000-000000000000"}, devices=["/dev/nvidia0"]),
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_how_a_container_gets_its_gpu(node: Kubelet, flags: Mapping[str, t.Any], allocated: Allocated) -> None:
    made = case(Machine(), Meaning(), flags={"plugin": {**flags, "containerDriverRoot": str(node.driver_root)}})
    assert run(node, made).resources[GPU].allocation[1] == allocated


def test_a_container_gets_the_directories_of_mps(node: Kubelet) -> None:
    made = NAMED["five clients of MPS"][0]
    allocated = run(node, made).resources[GPU].allocation[1]
    assert allocated.env is not None
    assert allocated.env["CUDA_MPS_PIPE_DIRECTORY"] == "/mps/nvidia.com/gpu/pipe"
    assert allocated.mounts == [f"{MPS_ROOT}/nvidia.com/gpu/pipe:/mps/nvidia.com/gpu/pipe", f"{MPS_ROOT}/shm:/dev/shm"]


def test_without_an_mps_control_daemon_nothing_is_advertised(node: Kubelet) -> None:
    made = NAMED["five clients of MPS"][0]
    plugin = node.plugin(made.file, made.machine, resources=1, until="Retrying in 30s", settings=environment(made), mps=False)
    assert (plugin.counts, plugin.ended) == ({}, "")
    assert "error waiting for MPS daemon" in plugin.log


def test_as_many_shares_as_the_module_allows_are_told_and_many_more_are_not(node: Kubelet) -> None:
    """A list of devices is one message of gRPC, whose receiver takes 4 MiB."""
    made = case(Machine(), Meaning(), sharing=slicing(TIME_SLICES))
    assert run(node, made).resources[GPU].devices == TIME_SLICES
    many = node.plugin(made.file.replace(str(TIME_SLICES), "100000"), made.machine, resources=1)
    assert "received message larger than max" in many.resources[GPU].error


def test_of_a_shared_gpu_that_fails_one_share_is_unhealthy(node: Kubelet) -> None:
    """The plugin marks one device of the GPU: the others, and all pods that come to them, stay on it."""
    made = case(Machine(gpus=4, xid=48), Meaning(), sharing=slicing(10))
    plugin = node.plugin(made.file, made.machine, resources=1, updates=2, settings=environment(made))
    assert (plugin.resources[GPU].devices, plugin.resources[GPU].healthy) == (40, 39)


@pytest.mark.parametrize("settings", [{}, {health.DISABLE: "79,48"}, {health.ENABLE: "13"}], ids=str)
@pytest.mark.parametrize("xid", [*health.IGNORED, 48, 79])
def test_the_lab_counts_the_errors_that_the_plugin_counts(node: Kubelet, xid: int, settings: Mapping[str, str]) -> None:
    ignored = health.ignored(xid, settings)
    plugin = node.plugin("version: v1\n", Machine(gpus=2, xid=xid), resources=1, updates=2, until="Skipping event", settings=settings)
    assert ("Skipping event" in plugin.log, f"Xid={xid} on Device=" in plugin.log) == (ignored, not ignored)


PARTLY = Machine(key="a100-40", gpus=4, layout=SEVENTHS, parted=2)
EMPTY = Machine(key="a100-40", gpus=2, layout={})
SEVERAL = Machine(key="a100-40", gpus=2, layout=BALANCED)


@pytest.mark.parametrize(
    ("strategy", "machine", "resources"),
    [
        ("none", SEVERAL, 1),
        ("single", Machine(key="t4", gpus=2), 1),
        ("mixed", Machine(key="t4", gpus=2), 1),
        ("mixed", PARTLY, 2),
        ("mixed", EMPTY, 1),
    ],
)
def test_the_lab_advertises_what_the_plugin_does_on_gpus_that_are_not_as_meant(
    node: Kubelet, strategy: str, machine: Machine, resources: int
) -> None:
    file = f"version: v1\nflags: {{migStrategy: {strategy}}}\n"
    plugin = node.plugin(file, machine, resources=resources, until="No devices found. Waiting indefinitely.")
    assert (sharing.advertised(sharing.parse(file), lab_gpus(machine)), plugin.ended) == (plugin.counts, "")


@pytest.mark.parametrize("machine", [PARTLY, EMPTY, SEVERAL], ids=["whole GPUs too", "no instance", "several profiles"])
def test_the_lab_refuses_with_the_plugins_words(node: Kubelet, machine: Machine) -> None:
    file = "version: v1\nflags: {migStrategy: single}\n"
    plugin = node.plugin(file, machine, resources=1)
    assert (plugin.counts, plugin.ended) == ({}, "exit status 1")
    with pytest.raises(sharing.ConfigRefused) as refused:
        sharing.advertised(sharing.parse(file), lab_gpus(machine))
    assert str(refused.value) in plugin.log


@pytest.mark.parametrize("machine", [PARTLY, EMPTY, SEVERAL], ids=["whole GPUs too", "no instance", "several profiles"])
@pytest.mark.parametrize("strategy", ["none", "single", "mixed"])
@pytest.mark.parametrize("shares", [1, 4])
def test_the_lab_labels_gpus_that_are_not_as_meant_as_feature_discovery_does(
    node: Kubelet, machine: Machine, strategy: str, shares: int
) -> None:
    file = f"version: v1\nflags: {{migStrategy: {strategy}}}\n"
    if shares > 1:
        file += f"sharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: {shares}}}]}}}}\n"
    meaning = Meaning(mig=strategy)
    said = features.labels(sharing.parse(file), lab_gpus(machine), features.model("a100", 40960))
    assert ours(node.labels(file, machine), meaning) == ours(said, meaning)
