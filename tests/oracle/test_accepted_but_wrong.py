# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NVIDIA's programs take although it is wrong, and what users would write in the module to say the same: that is refused.

``ends`` is how the real device plugin ends with the file, None where it runs, or where only more GPUs than one tell.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from lab.binaries import DevicePluginBinaries
from tests.oracle.configurations import faults
from tests.oracle.machines import Machine
from tests.oracle.programs import Kubelet, parse

SHARED = {"strategy": "time_slicing", "replicas": 4}
MPS = {"strategy": "mps", "replicas": 4}
SLICES: Mapping[str, t.Any] = {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}


def file(**content: t.Any) -> str:
    """A configuration file; JSON is YAML."""
    return json.dumps({"version": "v1", **content})


def slices(**content: t.Any) -> str:
    """A file of time slicing with something else in its block."""
    return file(sharing={"timeSlicing": {**SLICES, **content}})


def resource(**content: t.Any) -> str:
    """A file of time slicing with something else at its resource."""
    return file(sharing={"timeSlicing": {"resources": [{**SLICES["resources"][0], **content}]}})


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """``refused`` is the option of the configuration that the module refuses, ``word`` is in what it says."""

    why: str
    file: str
    options: Mapping[str, t.Any]
    refused: str
    word: str = ""
    ends: str | None = None


ACCEPTED = (
    Wrong(
        why="unknown key at the top",
        file=file(shareing={"timeSlicing": SLICES}),
        options={"shareing": SHARED},
        refused="shareing",
        word="'sharing'",
    ),
    Wrong(
        why="unknown key in sharing",
        file=file(sharing={"timeSlices": SLICES}),
        options={"sharing": {**SHARED, "replica": 4}},
        refused="sharing.replica",
        word="'replicas'",
    ),
    Wrong(
        why="unknown key in timeSlicing",
        file=slices(renameByDefualt=True),
        options={"sharing": {**SHARED, "renam": True}},
        refused="sharing.renam",
        word="'rename'",
    ),
    Wrong(
        why="unknown key of a resource",
        file=resource(replica=9),
        options={"sharing": {**SHARED, "resource": {}}},
        refused="sharing.resource",
    ),
    Wrong(
        why="unknown flag",
        file=file(flags={"failOnInitErrors": False}),
        options={"flags": {"failOnInitErrors": False}},
        refused="flags.failOnInitErrors",
        word="'failOnInitError'",
    ),
    Wrong(
        why="unknown flag of the plugin",
        file=file(flags={"plugin": {"passDeviceSpec": True}}),
        options={"flags": {"plugin": {"passDeviceSpec": True}}},
        refused="flags.plugin.passDeviceSpec",
        word="'passDeviceSpecs'",
    ),
    Wrong(
        why="unknown flag of GPU feature discovery",
        file=file(flags={"gfd": {"sleep": "60s"}}),
        options={"flags": {"gfd": {"sleep": "60s"}}},
        refused="flags.gfd.sleep",
        word="sleepInterval",
    ),
    Wrong(
        why="a flag in lower case, which counts",
        file=file(flags={"failoniniterror": False}),
        options={"flags": {"failoniniterror": False}},
        refused="flags.failoniniterror",
        word="'failOnInitError'",
    ),
    Wrong(
        why="a flag that only later versions know",
        file=file(flags={"plugin": {"sharedDevicesAllocationPolicy": "packed"}}),
        options={"flags": {"plugin": {"sharedDevicesAllocationPolicy": "packed"}}},
        refused="flags.plugin.sharedDevicesAllocationPolicy",
        word="v0.20.0",
    ),
    Wrong(
        why="both strategies: MPS wins",
        file=file(sharing={"timeSlicing": SLICES, "mps": SLICES}),
        options={"sharing": {**SHARED, "mps": {"replicas": 4}}},
        refused="sharing.mps",
        ends="using MPS requires --mps-root",
    ),
    Wrong(
        why="the same resource twice: the plugin counts eight, its labels four",
        file=file(sharing={"timeSlicing": {"resources": [*SLICES["resources"], {"name": "nvidia.com/gpu", "replicas": 8}]}}),
        options={"sharing": {**SHARED, "resources": []}},
        refused="sharing.resources",
    ),
    Wrong(
        why="a new name of one's own, ignored",
        file=resource(rename="nvidia.com/gpu-small"),
        options={"sharing": {**SHARED, "rename": "nvidia.com/gpu-small"}},
        refused="sharing.rename",
    ),
    Wrong(
        why="some GPUs only, ignored", file=resource(devices=2), options={"sharing": {**SHARED, "devices": 2}}, refused="sharing.devices"
    ),
    Wrong(
        why="a list of GPUs, ignored",
        file=resource(devices=["0"]),
        options={"sharing": {**SHARED, "devices": ["0"]}},
        refused="sharing.devices",
    ),
    Wrong(
        why="own names of resources, ignored",
        file=file(resources={"gpus": [{"pattern": "*A10G*", "name": "nvidia.com/a10g"}]}),
        options={"resources": {"gpus": []}},
        refused="resources",
    ),
    Wrong(
        why="a resource that is not there, without effect",
        file=resource(name="nvidia.com/mig-1g.99gb"),
        options={"mig": {"layout": {"1g.99gb": 1}}, "sharing": SHARED},
        refused="mig.layout.1g.99gb",
        word="no such profile",
    ),
    Wrong(
        why="a MIG profile as resources spell it",
        file=resource(name="nvidia.com/mig-1g.10gb.me"),
        options={"mig": {"layout": {"1g.10gb.me": 1}}},
        refused="mig.layout.1g.10gb.me",
        word="1g.10gb+me",
    ),
    Wrong(
        why="more shares than the plugin can tell",
        file=resource(replicas=100_000),
        options={"sharing": {**SHARED, "replicas": 100_000}},
        refused="sharing.replicas",
        word="60000",
    ),
    Wrong(
        why="more shares than MPS has",
        file=file(flags={"mpsRoot": "/run/nvidia/mps"}, sharing={"mps": {"resources": [{"name": "nvidia.com/gpu", "replicas": 49}]}}),
        options={"sharing": {**MPS, "replicas": 49}},
        refused="sharing.replicas",
        word="48",
    ),
    Wrong(
        why="MPS without its directory",
        file=file(sharing={"mps": SLICES}),
        options={"sharing": MPS, "flags": {"mpsRoot": ""}},
        refused="flags.mpsRoot",
        word="mps_root",
        ends="using MPS requires --mps-root",
    ),
    Wrong(
        why="MPS of MIG instances, mixed",
        file=file(flags={"migStrategy": "mixed"}, sharing={"mps": SLICES}),
        options={"sharing": MPS, "mig": {"layout": {"1g.5gb": 7}}},
        refused="sharing.strategy",
        word="MPS shares whole GPUs only",
        ends="using --mig-strategy=mixed is not supported with MPS",
    ),
    Wrong(
        why="MPS of MIG instances, single",
        file=file(flags={"migStrategy": "single", "mpsRoot": "/run/nvidia/mps"}, sharing={"mps": SLICES}),
        options={"sharing": MPS, "mig": {"strategy": "single", "layout": {"1g.5gb": 7}}},
        refused="sharing.strategy",
        word="MPS shares whole GPUs only",
    ),
    Wrong(
        why="several shares of MPS in one pod, set back",
        file=file(flags={"mpsRoot": "/run/nvidia/mps"}, sharing={"mps": {**SLICES, "failRequestsGreaterThanOne": False}}),
        options={"sharing": {**MPS, "fail_requests_greater_than_one": False}},
        refused="sharing.fail_requests_greater_than_one",
        word="v0.20.0",
    ),
    Wrong(
        why="a MIG strategy in upper case",
        file=file(flags={"migStrategy": "Mixed"}),
        options={"mig": {"strategy": "Mixed", "layout": {"1g.5gb": 7}}},
        refused="mig.strategy",
        word="mixed",
        ends="unknown MIG strategy: Mixed",
    ),
    Wrong(
        why="a MIG strategy that is not there",
        file=file(flags={"migStrategy": "bogus"}),
        options={"flags": {"migStrategy": "bogus"}},
        refused="flags.migStrategy",
        word="option mig",
        ends="unknown MIG strategy: bogus",
    ),
    Wrong(
        why="an empty MIG strategy",
        file=file(flags={"migStrategy": ""}),
        options={"mig": {"strategy": "", "layout": {"1g.5gb": 7}}},
        refused="mig.strategy",
        word="single",
        ends="unknown MIG strategy: ",
    ),
    Wrong(
        why="a way of passing devices that is not there",
        file=file(flags={"plugin": {"deviceListStrategy": "foo"}}),
        options={"flags": {"plugin": {"deviceListStrategy": "foo"}}},
        refused="flags.plugin.deviceListStrategy[0]",
        word="cdi-cri",
        ends="invalid strategy: foo",
    ),
    Wrong(
        why="no way of passing devices",
        file=file(flags={"plugin": {"deviceListStrategy": []}}),
        options={"flags": {"plugin": {"deviceListStrategy": []}}},
        refused="flags.plugin.deviceListStrategy",
        word="at least one",
    ),
    Wrong(
        why="device ids that are not there",
        file=file(flags={"plugin": {"deviceIDStrategy": "serial"}}),
        options={"flags": {"plugin": {"deviceIDStrategy": "serial"}}},
        refused="flags.plugin.deviceIDStrategy",
        word="uuid",
        ends="invalid --device-id-strategy option: serial",
    ),
    Wrong(
        why="a discovery that is not there",
        file=file(flags={"deviceDiscoveryStrategy": "wsl"}),
        options={"flags": {"deviceDiscoveryStrategy": "wsl"}},
        refused="flags.deviceDiscoveryStrategy",
        word="nvml",
        ends="invalid --device-discovery-strategy option wsl",
    ),
    Wrong(
        why="sixty nanoseconds",
        file=file(flags={"gfd": {"sleepInterval": 60}}),
        options={"flags": {"gfd": {"sleepInterval": "60"}}},
        refused="flags.gfd.sleepInterval",
        word="60s",
    ),
    Wrong(
        why="channels that are not there",
        file=file(imex={"channelIDs": [1]}),
        options={"imex": {"channelIDs": [1]}},
        refused="imex",
        ends="invalid IMEX channel IDs",
    ),
    Wrong(why="one file of two documents: the first", file="version: v1\n---\nversion: v2\n", options={"version": "v2"}, refused="version"),
)
BOTH = (
    Wrong(
        why="one share",
        file=resource(replicas=1),
        options={"sharing": {**SHARED, "replicas": 1}},
        refused="sharing.replicas",
        ends="number of replicas must be >= 2",
    ),
    Wrong(
        why="no share",
        file=resource(replicas=0),
        options={"sharing": {**SHARED, "replicas": 0}},
        refused="sharing.replicas",
        ends="number of replicas must be >= 2",
    ),
    Wrong(
        why="half a share",
        file=resource(replicas=2.5),
        options={"sharing": {**SHARED, "replicas": 2.5}},
        refused="sharing.replicas",
        ends="cannot unmarshal number 2.5",
    ),
    Wrong(
        why="shares without number",
        file=file(sharing={"timeSlicing": {"resources": [{"name": "nvidia.com/gpu"}]}}),
        options={"sharing": {"strategy": "time_slicing"}},
        refused="sharing.replicas",
        ends="no replicas specified",
    ),
    Wrong(
        why="a bool for a word",
        file=file(flags={"migStrategy": False}),
        options={"mig": {"strategy": False, "layout": {"1g.5gb": 7}}},
        refused="mig.strategy",
        ends="cannot unmarshal bool",
    ),
    Wrong(
        why="a word for a bool",
        file=file(flags={"failOnInitError": "maybe"}),
        options={"flags": {"failOnInitError": "maybe"}},
        refused="flags.failOnInitError",
        ends="cannot unmarshal string",
    ),
    Wrong(
        why="a name with a sign",
        file=resource(name="nvidia.com/mig-1g.10gb+me"),
        options={"mig": {"layout": {"mig-1g.10gb+me": 1}}},
        refused="mig.layout.mig-1g.10gb+me",
        ends="incorrect format for resource name",
    ),
)


@pytest.mark.parametrize("case", [*ACCEPTED, *BOTH], ids=lambda case: case.why)
def test_the_module_refuses_it(case: Wrong) -> None:
    refused = faults({"configurations": [{"name": "a", **case.options}]})
    assert [fault.path for fault in refused] == [f"configurations[0].{case.refused}"]
    assert case.word in refused[0].allowed
    assert refused[0].source


def test_the_parser_takes_what_is_said_to_be_taken_and_nothing_else(programs: DevicePluginBinaries) -> None:
    answers = parse(programs, [case.file for case in (*ACCEPTED, *BOTH)])
    taken = {case.why for case, answer in zip((*ACCEPTED, *BOTH), answers, strict=True) if not answer.error}
    assert taken == {case.why for case in ACCEPTED}


@pytest.mark.parametrize("case", [case for case in (*ACCEPTED, *BOTH) if case.ends is not None], ids=lambda case: case.why)
def test_the_plugin_ends_with_it(node: Kubelet, case: Wrong) -> None:
    run = node.plugin(case.file, Machine(), resources=1)
    assert (run.counts, run.ended) == ({}, "exit status 1")
    assert str(case.ends) in run.log
