# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plugin's configuration file, and what is refused in it."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import (
    DEVICE_PLUGIN_OPTIONS,
    Configuration,
    DevicePlugin,
    Image,
    device_plugin_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin_flags import FLAGS, clean_flags, flags_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import selects
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from hypothesis import given
from hypothesis import strategies as st


def test_the_file_of_whole_gpus_has_no_sharing() -> None:
    assert yaml.safe_load(Configuration(name="default").file) == {"version": "v1"}


def test_the_file_of_time_slicing() -> None:
    configuration = Configuration(
        name="x",
        sharing=Sharing(strategy="time_slicing", replicas=10),
        flags={"failOnInitError": False, "plugin": {"deviceListStrategy": ["cdi-cri", "envvar"]}},
    )
    assert yaml.safe_load(configuration.file) == {
        "version": "v1",
        "flags": {"failOnInitError": False, "plugin": {"deviceListStrategy": ["cdi-cri", "envvar"]}},
        "sharing": {
            "timeSlicing": {
                "renameByDefault": False,
                "failRequestsGreaterThanOne": True,
                "resources": [{"name": "nvidia.com/gpu", "replicas": 10}],
            }
        },
    }


VALUES: dict[str, st.SearchStrategy[t.Any]] = {"bool": st.booleans(), "str": st.text(max_size=20)}


def flag_values(spec: dict[str, dict[str, t.Any]]) -> st.SearchStrategy[dict[str, t.Any]]:
    def values(option: dict[str, t.Any]) -> st.SearchStrategy[t.Any]:
        if option["type"] == "dict":
            return flag_values(option["options"])
        chosen = st.sampled_from(option["choices"]) if "choices" in option else VALUES[option["type"]]
        return st.lists(chosen, min_size=1, unique=True) if option["type"] == "list" else chosen

    return st.fixed_dictionaries({}, optional={key: values(option) for key, option in spec.items()})


@given(flags=flag_values(FLAGS))
def test_any_flags_come_out_of_the_file_as_they_were_meant(flags: dict[str, t.Any]) -> None:
    loaded = yaml.safe_load(Configuration(name="x", flags=clean_flags(flags)).file)
    assert loaded.get("flags", {}) == flags


@pytest.mark.parametrize(
    ("flags", "path", "allowed"),
    [
        ({"failOnInitErr": False}, "f.failOnInitErr", "did you mean 'failOnInitError'"),
        ({"migStrategy": "single"}, "f.migStrategy", "option mig"),
        ({"migstrategy": "none"}, "f.migstrategy", "option mig"),
        ({"mpsRoot": "/run/nvidia/mps"}, "f.mpsRoot", "option mps_root"),
        ({"plugin": {"deviceListStrategy": "cdi"}}, "f.plugin.deviceListStrategy[0]", "cdi-annotations"),
        ({"plugin": {"deviceIdStrategy": "uuid"}}, "f.plugin.deviceIdStrategy", "did you mean 'deviceIDStrategy'"),
        ({"plugin": {"sharedDevicesAllocationPolicy": "packed"}}, "f.plugin.sharedDevicesAllocationPolicy", "since v0.20.0"),
        ({"plugin": "envvar"}, "f.plugin", "a dictionary"),
        ({"failOnInitError": "maybe"}, "f.failOnInitError", "true or false"),
        ({"gfd": {"sleepInterval": "60"}}, "f.gfd.sleepInterval", "a duration of Go"),
        ({"deviceDiscoveryStrategy": "wsl"}, "f.deviceDiscoveryStrategy", "tegra"),
    ],
)
def test_flags_that_are_refused(flags: dict[str, t.Any], path: str, allowed: str) -> None:
    faults = flags_faults(flags, "f")
    assert [fault.path for fault in faults] == [path]
    assert allowed in faults[0].allowed


@pytest.mark.parametrize("flags", [None, {}, {"gfd": {"sleepInterval": "infinite"}}, {"plugin": {"deviceListStrategy": "envvar"}}])
def test_flags_that_are_taken(flags: dict[str, t.Any] | None) -> None:
    assert flags_faults(flags, "f") == []


@pytest.mark.parametrize(
    ("labels", "default", "named"),
    [
        ({"nvidia.com/gpu.present": "true"}, True, False),
        ({"nvidia.com/gpu.present": "true", "nvidia.com/device-plugin.config": "default"}, True, False),
        ({"nvidia.com/gpu.present": "true", "nvidia.com/device-plugin.config": "named"}, False, True),
        ({"nvidia.com/device-plugin.config": "named"}, False, True),
        ({"nvidia.com/device-plugin.config": "default"}, False, False),
        ({"nvidia.com/gpu.present": "true", "nvidia.com/device-plugin.config": "bottlerocket"}, False, False),
        ({"nvidia.com/gpu.present": "true", "gpuops.eks/nodepool": "bottlerocket"}, False, False),
        ({"nvidia.com/gpu.present": "true", "gpuops.eks/nodepool": "a", "nvidia.com/device-plugin.config": "default"}, True, False),
        ({"nvidia.com/gpu.present": "false"}, False, False),
        ({}, False, False),
    ],
)
def test_which_nodes_a_configuration_selects(labels: dict[str, str], default: bool, named: bool) -> None:
    assert selects(Configuration(name="default").terms, labels) is default
    assert selects(Configuration(name="named").terms, labels) is named


def test_a_node_selector_replaces_the_label() -> None:
    configuration = Configuration(name="x", node_selector={"pool": "a"})
    assert selects(configuration.terms, {"pool": "a"})
    assert not selects(configuration.terms, {"nvidia.com/device-plugin.config": "x"})


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        (Image(), "nvcr.io/nvidia/k8s-device-plugin:v0.19.3"),
        (Image(registry="mirror:5000", tag="v0.17.4"), "mirror:5000/nvidia/k8s-device-plugin:v0.17.4"),
        (Image(digest="sha256:" + "a" * 64), "nvcr.io/nvidia/k8s-device-plugin:v0.19.3@sha256:" + "a" * 64),
        (Image(registry=""), "nvidia/k8s-device-plugin:v0.19.3"),
    ],
)
def test_image_references(image: Image, reference: str) -> None:
    assert image.reference == reference


@pytest.mark.parametrize(
    "params",
    [
        {"configurations": "x"},
        {"configurations": [None, "x", {"name": 1}]},
        {"configurations": [{"sharing": "x", "flags": [], "node_selector": 3}]},
        {"image": [], "namespace": None},
        {},
    ],
)
def test_values_of_other_types_are_left_to_those_who_look_at_types(params: dict[str, t.Any]) -> None:
    assert device_plugin_faults(params) == []


@pytest.mark.parametrize(
    ("tag", "resources"),
    [
        ("v0.19.3", ["nvidia.com/mig-1g.5gb"]),
        ("v0.20.0", ["nvidia.com/mig-1g.5gb", "nvidia.com/mig-1g.5gb.me"]),
        ("v0.20.1-ubi9", ["nvidia.com/mig-1g.5gb", "nvidia.com/mig-1g.5gb.me"]),
        ("mine", ["nvidia.com/mig-1g.5gb"]),
    ],
)
def test_profiles_with_a_suffix_are_shared_by_the_name_that_the_plugins_version_has_for_them(tag: str, resources: list[str]) -> None:
    mig = {"layout": {"1g.5gb": 4, "1g.5gb+me": 1}}
    params = {"configurations": [{"name": "x", "mig": mig, "sharing": {"strategy": "time_slicing", "replicas": 4}}], "image": {"tag": tag}}
    wanted = DevicePlugin.from_params(ArgumentSpecValidator(DEVICE_PLUGIN_OPTIONS).validate(params).validated_parameters)
    content = yaml.safe_load(wanted.configurations[0].file)
    assert content["sharing"]["timeSlicing"]["resources"] == [{"name": name, "replicas": 4} for name in resources]
