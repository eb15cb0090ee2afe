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
    warnings,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin_flags import FLAGS, clean_flags, flags_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import selects
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Mig, Sharing
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


SLICED = """\
version: "v1"
flags:
  migStrategy: "mixed"
sharing:
  timeSlicing:
    renameByDefault: false
    failRequestsGreaterThanOne: false
    resources:
      - name: "nvidia.com/mig-1g.5gb"
        replicas: 2
      - name: "nvidia.com/mig-2g.10gb"
        replicas: 2
"""


def test_the_text_of_a_file() -> None:
    sharing = Sharing(strategy="time_slicing", replicas=2, fail_requests_greater_than_one=False)
    assert Configuration(name="x", sharing=sharing, mig=Mig(layout={"1g.5gb": 2, "2g.10gb": 2})).file == SLICED


@pytest.mark.parametrize(
    ("sharing", "mig", "content"),
    [
        (Sharing(), Mig(strategy="single", layout={"1g.5gb": 7}), {"flags": {"migStrategy": "single"}}),
        (Sharing(), Mig(layout={"1g.5gb": 7}), {"flags": {"migStrategy": "mixed"}}),
        (
            Sharing(strategy="mps", replicas=5),
            None,
            {
                "sharing": {
                    "mps": {
                        "renameByDefault": False,
                        "failRequestsGreaterThanOne": True,
                        "resources": [{"name": "nvidia.com/gpu", "replicas": 5}],
                    }
                }
            },
        ),
        (
            Sharing(strategy="time_slicing", replicas=3, rename=True),
            Mig(strategy="single", layout={"1g.5gb": 7}),
            {
                "flags": {"migStrategy": "single"},
                "sharing": {
                    "timeSlicing": {
                        "renameByDefault": True,
                        "failRequestsGreaterThanOne": True,
                        "resources": [{"name": "nvidia.com/gpu", "replicas": 3}],
                    }
                },
            },
        ),
    ],
)
def test_the_file_of_each_strategy(sharing: Sharing, mig: Mig | None, content: dict[str, t.Any]) -> None:
    assert yaml.safe_load(Configuration(name="x", sharing=sharing, mig=mig).file) == {"version": "v1", **content}


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
        ({"plugin": "envvar"}, "f.plugin", "a dictionary"),
        ({"failOnInitError": "maybe"}, "f.failOnInitError", "true or false"),
        ({"gfd": {"sleepInterval": "60"}}, "f.gfd.sleepInterval", "a duration of Go"),
        ({"deviceDiscoveryStrategy": "wsl"}, "f.deviceDiscoveryStrategy", "tegra"),
        ({"deviceDiscoveryStrategy": "tegra", "plugin": {"deviceListStrategy": ["cdi-cri"]}}, "f.deviceDiscoveryStrategy", "nvml"),
        ({"plugin": {"sharedDevicesAllocationPolicy": "spread"}}, "f.plugin.sharedDevicesAllocationPolicy", "one of distributed, packed"),
        ({"plugin": {"deviceListStrategy": []}}, "f.plugin.deviceListStrategy", "at least one"),
        ({"plugin": {"deviceIDStrategy": "serial"}}, "f.plugin.deviceIDStrategy", "one of uuid, index"),
        ({"plugin": {"cdiAnnotationPrefix": "cdi.k8s.io"}}, "f.plugin.cdiAnnotationPrefix", "a DNS name and a slash"),
        ({"plugin": {"cdiAnnotationPrefix": "CDI/"}}, "f.plugin.cdiAnnotationPrefix", "a DNS name and a slash"),
        ({"plugin": {"containerDriverRoot": "driver-root"}}, "f.plugin.containerDriverRoot", "an absolute path"),
        ({"plugin": {"nvidiaCTKPath": ""}}, "f.plugin.nvidiaCTKPath", "an absolute path"),
        ({"nvidiaDriverRoot": "run/nvidia"}, "f.nvidiaDriverRoot", "an absolute path"),
        ({"nvidiaDriverRoot": "/run/../etc"}, "f.nvidiaDriverRoot", "without .."),
        ({"nvidiaDevRoot": "/a:/b"}, "f.nvidiaDevRoot", "an absolute path"),
        ({"useNodeFeatureAPI": "no"}, "f.useNodeFeatureAPI", "feature_discovery: false"),
        ({"gfd": {"oneshot": "yes"}}, "f.gfd.oneshot", "again and again"),
        ({"gfd": {"sleepinterval": "60s"}}, "f.gfd.sleepinterval", "did you mean 'sleepInterval'"),
        ({"imex": {}}, "f.imex", "no such key"),
    ],
)
def test_flags_that_are_refused(flags: dict[str, t.Any], path: str, allowed: str) -> None:
    faults = flags_faults(flags, "f", version=(0, 20, 0))
    assert [fault.path for fault in faults] == [path]
    assert allowed in faults[0].allowed


@pytest.mark.parametrize(
    "flags",
    [
        None,
        {},
        {"gfd": {"sleepInterval": "infinite", "oneshot": False}},
        {"gfd": {"sleepInterval": "1m30s"}, "useNodeFeatureAPI": True},
        {"plugin": {"deviceListStrategy": "envvar"}},
        {"plugin": {"deviceListStrategy": ["cdi-annotations", "envvar"], "cdiAnnotationPrefix": "cdi.k8s.io/"}},
        {"nvidiaDriverRoot": "/", "nvidiaDevRoot": "/run/nvidia/driver..d/"},
        {"deviceDiscoveryStrategy": "tegra", "plugin": {"deviceListStrategy": "envvar"}},
        {"plugin": None, "failOnInitError": None},
    ],
)
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


def faults_of(**params: t.Any) -> dict[str, str]:
    """Path -> what would be allowed, of a configuration's and the module's options together."""
    configuration = {key: params.pop(key) for key in ("name", "sharing", "mig", "flags", "node_selector") if key in params}
    found = device_plugin_faults({"configurations": [{"name": "x", **configuration}], **params})
    assert all(fault.source for fault in found)
    return {fault.path.removeprefix("configurations[0]."): fault.allowed for fault in found}


MPS = {"strategy": "mps", "replicas": 5}
MANY = {**MPS, "fail_requests_greater_than_one": False}
PACKED = {"plugin": {"sharedDevicesAllocationPolicy": "packed"}}


@pytest.mark.parametrize(
    ("params", "path", "allowed"),
    [
        ({"sharing": {"strategy": "mps", "replicas": 49}}, "sharing.replicas", "from 2 to 48 with mps"),
        ({"sharing": {"strategy": "mps", "replicas": 1}}, "sharing.replicas", "at least 2"),
        ({"sharing": {"strategy": "time_slicing", "replicas": 0}}, "sharing.replicas", "at least 2"),
        ({"sharing": {"strategy": "time_slicing", "replicas": 100_000}}, "sharing.replicas", "from 2 to 60000 with time_slicing"),
        ({"sharing": {"strategy": "time_slicing"}}, "sharing.replicas", "at least 2"),
        ({"sharing": MPS, "mig": {"layout": {"1g.5gb": 7}}}, "sharing.strategy", "MPS shares whole GPUs only"),
        ({"sharing": MPS, "mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}, "sharing.strategy", "no mig"),
        ({"sharing": MANY}, "sharing.fail_requests_greater_than_one", "needs image.tag v0.20.0"),
        ({"sharing": MANY, "image": {"tag": "v0.19.9"}}, "sharing.fail_requests_greater_than_one", "needs image.tag v0.20.0"),
        (
            {"sharing": {**MANY, "fail_requests_greater_than_one": "no"}},
            "sharing.fail_requests_greater_than_one",
            "needs image.tag v0.20.0",
        ),
        ({"sharing": MANY, "image": {"tag": "latest"}}, "sharing.fail_requests_greater_than_one", "needs image.tag v0.20.0"),
        ({"sharing": {"backend": "gpu_operator"}}, "sharing.backend", "this module is the device plugin"),
        ({"mig": {"layout": {}}}, "mig.layout", "at least one profile"),
        ({"mig": {"layout": {"1g.5gb.me": 1}}}, "mig.layout.1g.5gb.me", "did you mean '1g.5gb+me'"),
        ({"mig": {"strategy": "single", "layout": {"1g.5gb": 2, "2g.10gb": 1}}}, "mig.layout", "one profile with strategy single"),
        ({"flags": PACKED}, "flags.plugin.sharedDevicesAllocationPolicy", "since v0.20.0 only (image.tag)"),
        ({"flags": PACKED, "image": {"tag": "latest"}}, "flags.plugin.sharedDevicesAllocationPolicy", "since v0.20.0 only (image.tag)"),
        ({"flags": {"migStrategy": "mixed"}}, "flags.migStrategy", "option mig"),
        ({"flags": {"migStrategy": ""}}, "flags.migStrategy", "option mig"),
        ({"flags": {"useNodeFeatureAPI": False}, "feature_discovery": True}, "flags.useNodeFeatureAPI", "feature_discovery: false"),
        ({"name": "a" * 41}, "name", "at most 40"),
        ({"node_selector": {}}, "node_selector", "at least one label"),
        ({"priority_class": "High"}, "priority_class", "the name of a PriorityClass"),
        ({"priority_class": ""}, "priority_class", "the name of a PriorityClass"),
        ({"mps_root": "run/nvidia/mps"}, "mps_root", "an absolute path"),
        ({"mps_root": "/"}, "mps_root", "an absolute path"),
        ({"mps_root": "/run/../mps"}, "mps_root", "an absolute path"),
        ({"mps_root": "/run/nvidia/mps/"}, "mps_root", "an absolute path"),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "resources.limits.nvidia.com/gpu", "one of cpu, memory"),
        ({"resources": {"requests": {"cpu": "lots"}}}, "resources.requests.cpu", "a quantity"),
        ({"resources": {"requests": {"memory": -1}}}, "resources.requests.memory", "a quantity"),
        ({"resources": {"requests": {"memory": True}}}, "resources.requests.memory", "a quantity"),
        (
            {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}}},
            "resources.limits.memory",
            "at least what is requested",
        ),
        ({"image": {"digest": "sha256:1"}}, "image.digest", "64 hexadecimal digits"),
    ],
)
def test_what_is_refused(params: dict[str, t.Any], path: str, allowed: str) -> None:
    ((found, said),) = faults_of(**params).items()
    assert (found, allowed in said) == (path, True), said


@pytest.mark.parametrize(
    "params",
    [
        {"sharing": {"strategy": "mps", "replicas": 48}},
        {"sharing": MANY, "image": {"tag": "v0.20.0"}},
        {"sharing": MANY, "image": {"tag": "0.21.3-ubi9"}},
        {"sharing": {**MPS, "fail_requests_greater_than_one": None}},
        {"sharing": {"strategy": "time_slicing", "replicas": 2, "fail_requests_greater_than_one": False}},
        {"flags": PACKED, "image": {"tag": "v1.0.0"}},
        {"flags": {"useNodeFeatureAPI": False}, "feature_discovery": False},
        {"mig": {"layout": {"1g.5gb": 7}}, "sharing": {"strategy": "time_slicing", "replicas": 2}},
        {"priority_class": "team.critical", "mps_root": "/var/lib/nvidia.d/mps_1"},
        {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "64Mi", "ephemeral-storage": 1}}},
        {"resources": {"limits": {"memory": "64Mi"}}},
    ],
)
def test_what_is_taken(params: dict[str, t.Any]) -> None:
    assert faults_of(**params) == {}


@pytest.mark.parametrize(
    ("configuration", "path", "allowed"),
    [
        ({"sharing": {"timeSlicing": {"resources": []}}}, "sharing.timeSlicing", "no such key; known are backend, "),
        ({"sharing": {"strategy": "time-slicing"}}, "sharing.strategy", "one of none, time_slicing, mps"),
        ({"sharing": {"replica": 2}}, "sharing.replica", "did you mean 'replicas'"),
        ({"sharing": {"devices": [0]}}, "sharing.devices", "no such key"),
        ({"sharing": {"rename": "shared"}}, "sharing.rename", "true or false"),
        ({"sharing": {"strategy": "mps", "replicas": 2.5}}, "sharing.replicas", "an integer"),
        ({"shareing": {}}, "shareing", "did you mean 'sharing'"),
        ({"mig": {"strategy": "", "layout": {}}}, "mig.strategy", "one of single, mixed"),
        ({"mig": {"strategy": "Mixed", "layout": {}}}, "mig.strategy", "one of single, mixed"),
        ({"mig": {"profile": "1g.5gb", "layout": {}}}, "mig.profile", "no such key"),
        ({"mig": {"strategy": "single"}}, "mig.layout", "required"),
    ],
)
def test_the_form_of_options_finds_what_nvidias_parser_would_drop(configuration: dict[str, t.Any], path: str, allowed: str) -> None:
    (fault,) = form_faults(DEVICE_PLUGIN_OPTIONS, {"configurations": [{"name": "x", **configuration}]})
    assert fault.path == f"configurations[0].{path}"
    assert allowed in fault.allowed


def test_both_strategies_in_nvidias_spelling_are_refused() -> None:
    sharing = {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}, "mps": {"resources": []}}
    faults = form_faults(DEVICE_PLUGIN_OPTIONS, {"configurations": [{"name": "x", "sharing": sharing}]})
    assert [fault.path for fault in faults] == ["configurations[0].sharing.timeSlicing", "configurations[0].sharing.mps"]


@pytest.mark.parametrize(
    ("mig", "resource"),
    [
        (None, "nvidia.com/gpu.shared"),
        (Mig(layout={"1g.5gb": 2, "2g.10gb": 1}), "nvidia.com/mig-1g.5gb.shared and nvidia.com/mig-2g.10gb.shared"),
    ],
)
def test_renaming_is_warned_of(mig: Mig | None, resource: str) -> None:
    def plugin(**more: t.Any) -> DevicePlugin:
        configuration = Configuration(name="x", sharing=Sharing(strategy="time_slicing", replicas=2, **more), mig=mig)
        return DevicePlugin(namespace="gpu", image=Image(), configurations=(configuration,))

    assert warnings(plugin()) == []
    (warning,) = warnings(plugin(rename=True))
    assert f"Configuration x renames what its nodes advertise to {resource}: autoscalers buy no node" in warning
