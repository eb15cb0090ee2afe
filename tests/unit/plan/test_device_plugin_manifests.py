# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects of each strategy: the plugin, the MPS control daemon, GPU feature discovery."""

from __future__ import annotations

import dataclasses
import itertools
import json
import typing as t

import pytest
import yaml
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin, Image
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import kind_of, labels_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Mig, Sharing, read_resources
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests

Json = dict[str, t.Any]

DEFAULT = Configuration(name="default")
SLICED = Configuration(name="sliced", sharing=Sharing(strategy="time_slicing", replicas=10))
MPS = Configuration(name="mps", sharing=Sharing(strategy="mps", replicas=5))
MIXED = Configuration(name="mixed", mig=Mig(layout={"1g.5gb": 2, "2g.10gb": 1}), sharing=Sharing(strategy="time_slicing", replicas=2))
SINGLE = Configuration(name="single", mig=Mig(strategy="single", layout={"1g.5gb": 7}))
ALL = (DEFAULT, SLICED, MPS, MIXED, SINGLE)
NAMES = [configuration.name for configuration in ALL]


def plugin(*configurations: Configuration, **more: t.Any) -> DevicePlugin:
    return DevicePlugin(namespace="gpu", image=Image(), configurations=configurations, **more)


def made(configuration: Configuration, *, feature_discovery: bool = True, **more: t.Any) -> list[Json]:
    return manifests.objects(plugin(configuration, **more), configuration, feature_discovery=feature_discovery)


def daemon_set(configuration: Configuration, component: str = manifests.DEVICE_PLUGIN, **more: t.Any) -> Json:
    return manifests.daemon_set(plugin(configuration, **more), configuration, component)


def pod(configuration: Configuration, component: str = manifests.DEVICE_PLUGIN, **more: t.Any) -> Json:
    spec: Json = daemon_set(configuration, component, **more)["spec"]["template"]["spec"]
    return spec


def containers(spec: Json) -> list[Json]:
    return [*spec.get("initContainers", ()), *spec["containers"]]


def environment(container: Json) -> dict[str, str]:
    return {one["name"]: one.get("value") or one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"]}


def mounts(container: Json) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


def host_paths(spec: Json) -> dict[str, tuple[str, str | None]]:
    return {one["name"]: (one["hostPath"]["path"], one["hostPath"].get("type")) for one in spec["volumes"] if "hostPath" in one}


@pytest.mark.parametrize(
    ("configuration", "feature_discovery", "objects"),
    [
        (DEFAULT, False, ["ConfigMap nvidia-device-plugin-default", "DaemonSet nvidia-device-plugin-default"]),
        (
            MPS,
            True,
            [
                "ConfigMap nvidia-device-plugin-mps",
                "DaemonSet nvidia-mps-mps",
                "DaemonSet nvidia-device-plugin-mps",
                "DaemonSet gpu-feature-discovery-mps",
            ],
        ),
        (
            MIXED,
            True,
            ["ConfigMap nvidia-device-plugin-mixed", "DaemonSet nvidia-device-plugin-mixed", "DaemonSet gpu-feature-discovery-mixed"],
        ),
    ],
)
def test_the_objects_are_in_the_order_in_which_they_are_applied(
    configuration: Configuration, feature_discovery: bool, objects: list[str]
) -> None:
    found = made(configuration, feature_discovery=feature_discovery)
    assert [f"{obj['kind']} {obj['metadata']['name']}" for obj in found] == objects


@pytest.mark.parametrize("configuration", ALL, ids=NAMES)
def test_every_object_is_marked_and_known(configuration: Configuration) -> None:
    wanted = plugin(configuration)
    common = manifests.common_objects(wanted, feature_discovery=True)
    for obj in (manifests.namespace("gpu"), *common, *made(configuration)):
        assert manifests.is_ours(labels_of(obj))
        assert kind_of(obj).kind == obj["kind"]
        assert len(obj["metadata"]["annotations"]["gpuops.eks/applied"]) == 16
        assert obj["metadata"].get("namespace", "gpu") == "gpu"


@pytest.mark.parametrize("configuration", ALL, ids=NAMES)
def test_every_pod_is_whole(configuration: Configuration) -> None:
    """Each mount has a volume, each volume a mount, each container the image, and all of them the same node affinity and tolerations."""
    sets = [obj for obj in made(configuration) if obj["kind"] == "DaemonSet"]
    for obj in sets:
        spec, labels = obj["spec"]["template"]["spec"], obj["spec"]["template"]["metadata"]["labels"]
        used = {mount["name"] for container in containers(spec) for mount in container["volumeMounts"]}
        assert used == {volume["name"] for volume in spec["volumes"]}
        assert {container["image"] for container in containers(spec)} == {"nvcr.io/nvidia/k8s-device-plugin:v0.19.3"}
        assert obj["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert spec["priorityClassName"] == "system-node-critical"
        assert (spec["affinity"]["nodeAffinity"], spec["tolerations"]) == (
            sets[0]["spec"]["template"]["spec"]["affinity"]["nodeAffinity"],
            sets[0]["spec"]["template"]["spec"]["tolerations"],
        )
        assert environment(spec["containers"][0])["CONFIG_FILE"] == "/config/config.yaml"
        assert {"name": "config", "configMap": {"name": f"nvidia-device-plugin-{configuration.name}"}} in spec["volumes"]


def test_no_daemon_set_selects_pods_of_another() -> None:
    sets = [obj for configuration in ALL for obj in made(configuration) if obj["kind"] == "DaemonSet"]
    for one, other in itertools.permutations(sets, 2):
        labels = other["spec"]["template"]["metadata"]["labels"]
        assert not one["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("configuration", ALL, ids=NAMES)
def test_a_control_daemon_keeps_apart_from_a_plugin_without_mps(configuration: Configuration) -> None:
    plugin = daemon_set(configuration)["spec"]["template"]
    (term,) = pod(MPS, manifests.MPS_DAEMON)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    labels = plugin["metadata"]["labels"]
    assert term["labelSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = term["labelSelector"]["matchExpressions"]
    assert (rule["operator"], labels[rule["key"]] in rule["values"]) == ("NotIn", configuration.sharing.strategy == "mps")
    assert "podAntiAffinity" not in plugin["spec"]["affinity"]
    assert rule["key"] not in daemon_set(MPS, manifests.MPS_DAEMON)["spec"]["template"]["metadata"]["labels"]


def test_the_longest_configuration_has_names_that_labels_take() -> None:
    names = [obj["metadata"]["name"] for obj in made(dataclasses.replace(MPS, name="a" * 40))]
    assert max(map(len, names)) == 62
    assert len(set(names)) == 3, "the ConfigMap and the plugin have one name"


@pytest.mark.parametrize("configuration", ALL, ids=NAMES)
def test_a_running_program_keeps_the_file_that_it_was_started_with(configuration: Configuration) -> None:
    """The kubelet exchanges the files of a mounted ConfigMap under a running container, but not one that is mounted by subPath."""
    mount = {"name": "config", "mountPath": "/config/config.yaml", "subPath": "config.yaml", "readOnly": True}
    for component in manifests.components(configuration, True):
        assert mount in pod(configuration, component)["containers"][0]["volumeMounts"]


@pytest.mark.parametrize("configuration", ALL, ids=NAMES)
def test_the_config_map_has_the_file(configuration: Configuration) -> None:
    data = manifests.config_map(plugin(configuration), configuration)["data"]
    assert data == {"config.yaml": configuration.file}
    assert yaml.safe_load(data["config.yaml"])["version"] == "v1"


def test_options_of_pods_are_in_every_one() -> None:
    resources = {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}}
    image = Image(registry="mirror.example.com", digest=f"sha256:{'0' * 64}", pull_secrets=("registry",))
    wanted = DevicePlugin(namespace="gpu", image=image, configurations=(MPS,), priority_class="gpu-critical", resources=resources)
    specs = [
        obj["spec"]["template"]["spec"] for obj in manifests.objects(wanted, MPS, feature_discovery=True) if obj["kind"] == "DaemonSet"
    ]
    for spec in specs:
        assert (spec["priorityClassName"], spec["imagePullSecrets"]) == ("gpu-critical", [{"name": "registry"}])
        assert {json.dumps(container["resources"]) for container in containers(spec)} == {json.dumps(resources)}
        assert all(
            container["image"].startswith("mirror.example.com/nvidia/k8s-device-plugin:v0.19.3@sha256:0") for container in containers(spec)
        )
    assert len(specs) == 3


def test_without_resources_containers_have_none() -> None:
    assert all("resources" not in container for container in containers(pod(MPS, manifests.MPS_DAEMON)))


def test_the_mps_control_daemon_is_privileged_and_sees_the_hosts_processes() -> None:
    spec = pod(MPS, manifests.MPS_DAEMON)
    (mount,), (daemon,) = spec["initContainers"], spec["containers"]
    assert (spec["hostPID"], spec["automountServiceAccountToken"]) == (True, False)
    assert host_paths(spec) == {"mps-root": ("/run/nvidia/mps", "DirectoryOrCreate"), "mps-shm": ("/run/nvidia/mps/shm", None)}
    assert mount["command"] == ["mps-control-daemon", "mount-shm"]
    assert mount["volumeMounts"] == [{"name": "mps-root", "mountPath": "/mps", "mountPropagation": "Bidirectional"}]
    assert daemon["command"] == ["mps-control-daemon"]
    assert (mount["securityContext"], daemon["securityContext"]) == ({"privileged": True}, {"privileged": True})
    assert mounts(daemon) == {"/dev/shm": "mps-shm", "/mps": "mps-root", "/config/config.yaml": "config"}
    assert environment(daemon) == {
        "NODE_NAME": "spec.nodeName",
        "CONFIG_FILE": "/config/config.yaml",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }


@pytest.mark.parametrize(
    ("replicas", "rename", "share", "resource"),
    [
        (5, False, 20, "nvidia.com/gpu"),
        (3, False, 33, "nvidia.com/gpu"),
        (48, False, 2, "nvidia.com/gpu"),
        (2, True, 50, "nvidia.com/gpu.shared"),
    ],
)
def test_the_daemon_is_ready_when_its_limits_are_set(replicas: int, rename: bool, share: int, resource: str) -> None:
    """Its pipe is where the resource's name says, as rename changes it."""
    configuration = Configuration(name="x", sharing=Sharing(strategy="mps", replicas=replicas, rename=rename))
    probe = pod(configuration, manifests.MPS_DAEMON)["containers"][0]["readinessProbe"]
    shell, option, command = probe["exec"]["command"]
    assert (shell, option) == ("/bin/sh", "-c")
    assert f"CUDA_MPS_PIPE_DIRECTORY=/mps/{resource}/pipe nvidia-cuda-mps-control" in command
    assert f"in {share}|{share}.*) exit 0;;" in command


def test_the_plugin_under_mps_waits_for_the_shared_memory_of_the_daemon() -> None:
    spec = pod(MPS, mps_root="/var/lib/mps")
    (container,) = spec["containers"]
    paths = host_paths(spec)
    assert (paths["mps-root"], paths["mps-shm"]) == (("/var/lib/mps", "DirectoryOrCreate"), ("/var/lib/mps/shm", "Directory"))
    assert mounts(container) == {
        "/var/lib/kubelet/device-plugins": "device-plugins",
        "/config/config.yaml": "config",
        "/dev/shm": "mps-shm",
        "/mps": "mps-root",
    }
    assert environment(container)["MPS_ROOT"] == "/var/lib/mps"
    assert host_paths(pod(MPS, manifests.MPS_DAEMON, mps_root="/var/lib/mps"))["mps-shm"] == ("/var/lib/mps/shm", None)


@pytest.mark.parametrize("configuration", [DEFAULT, SLICED, MIXED, SINGLE], ids=lambda one: one.name)
def test_without_mps_nothing_of_it_is_there(configuration: Configuration) -> None:
    text = json.dumps([obj for obj in made(configuration) if obj["kind"] == "DaemonSet"])
    assert "mps" not in text.lower()


SYS_ADMIN = {"capabilities": {"add": ["SYS_ADMIN"]}}
NOTHING = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize(
    ("configuration", "security"),
    [
        (DEFAULT, NOTHING),
        (SLICED, NOTHING),
        (MPS, SYS_ADMIN),
        (MIXED, SYS_ADMIN),
        (SINGLE, SYS_ADMIN),
        (dataclasses.replace(DEFAULT, flags={"plugin": {"deviceListStrategy": ["envvar", "volume-mounts"]}}), SYS_ADMIN),
        (dataclasses.replace(DEFAULT, flags={"plugin": {"deviceListStrategy": ["cdi-cri"]}}), NOTHING),
        (dataclasses.replace(SINGLE, flags={"plugin": {"passDeviceSpecs": True}}), {"privileged": True}),
        (dataclasses.replace(DEFAULT, flags={"plugin": {"passDeviceSpecs": False}}), NOTHING),
    ],
)
def test_the_plugin_has_the_rights_that_its_configuration_needs(configuration: Configuration, security: Json) -> None:
    assert pod(configuration)["containers"][0]["securityContext"] == security


@pytest.mark.parametrize("configuration", ALL, ids=NAMES)
def test_who_watches_mig_devices_is_told_so(configuration: Configuration) -> None:
    for component in manifests.components(configuration, True):
        monitored = environment(pod(configuration, component)["containers"][0]).get("NVIDIA_MIG_MONITOR_DEVICES")
        assert monitored == ("all" if configuration.mig else None)


def test_gpu_feature_discovery_publishes_node_features_of_its_node() -> None:
    spec = pod(SLICED, manifests.FEATURE_DISCOVERY)
    (container,) = spec["containers"]
    assert (spec["serviceAccountName"], spec.get("automountServiceAccountToken")) == ("gpu-feature-discovery", None)
    assert container["command"] == ["gpu-feature-discovery"]
    assert container["securityContext"] == {"privileged": True}
    assert environment(container) == {
        "NODE_NAME": "spec.nodeName",
        "NAMESPACE": "metadata.namespace",
        "POD_NAME": "metadata.name",
        "CONFIG_FILE": "/config/config.yaml",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "GFD_USE_NODE_FEATURE_API": "true",
    }
    assert host_paths(spec) == {"host-sys": ("/sys", "Directory")}


def test_the_rights_of_gpu_feature_discovery_end_at_its_namespace() -> None:
    account, role, binding = manifests.common_objects(plugin(DEFAULT), feature_discovery=True)
    assert [obj["kind"] for obj in (account, role, binding)] == ["ServiceAccount", "Role", "RoleBinding"]
    assert {obj["metadata"]["name"] for obj in (account, role, binding)} == {"gpu-feature-discovery"}
    rights = {(rule["apiGroups"][0], rule["resources"][0]): set(rule["verbs"]) for rule in role["rules"]}
    assert rights.keys() == {("nfd.k8s-sigs.io", "nodefeatures"), ("", "pods")}
    assert rights["", "pods"] == {"get"}
    assert {"get", "create", "update"} <= rights["nfd.k8s-sigs.io", "nodefeatures"]
    assert binding["roleRef"]["name"] == "gpu-feature-discovery"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "gpu-feature-discovery", "namespace": "gpu"}]


def test_without_gpu_feature_discovery_nobody_has_rights() -> None:
    assert manifests.common_objects(plugin(DEFAULT), feature_discovery=False) == []
    specs = [obj["spec"]["template"]["spec"] for obj in made(MPS, feature_discovery=False) if obj["kind"] == "DaemonSet"]
    assert [spec["automountServiceAccountToken"] for spec in specs] == [False, False]


@pytest.mark.parametrize(
    ("configuration", "sharing"),
    [
        (DEFAULT, {"strategy": "none", "replicas": 1, "resources": {"nvidia.com/gpu": 1}, "mig": None}),
        (SLICED, {"strategy": "time_slicing", "replicas": 10, "resources": {"nvidia.com/gpu": 10}, "mig": None}),
        (MPS, {"strategy": "mps", "replicas": 5, "resources": {"nvidia.com/gpu": 5}, "mig": None}),
        (
            MIXED,
            {
                "strategy": "time_slicing",
                "replicas": 2,
                "resources": {"nvidia.com/gpu": 0, "nvidia.com/mig-1g.5gb": 4, "nvidia.com/mig-2g.10gb": 2},
                "mig": {"strategy": "mixed", "layout": {"1g.5gb": 2, "2g.10gb": 1}},
            },
        ),
        (
            SINGLE,
            {
                "strategy": "none",
                "replicas": 1,
                "resources": {"nvidia.com/gpu": 7},
                "mig": {"strategy": "single", "layout": {"1g.5gb": 7}},
            },
        ),
    ],
    ids=NAMES,
)
def test_pods_say_how_their_node_shares(configuration: Configuration, sharing: Json) -> None:
    for component in manifests.components(configuration, True):
        assert manifests.read_sharing(daemon_set(configuration, component)["spec"]["template"]) == sharing
    assert read_resources(daemon_set(configuration)) == sharing["resources"]
    assert read_resources(daemon_set(configuration, manifests.FEATURE_DISCOVERY)) is None, "one DaemonSet of a configuration says it"


@pytest.mark.parametrize("annotations", [None, {}, {"gpuops.eks/sharing": "{"}, {"gpuops.eks/sharing": "[]"}])
def test_a_pod_that_does_not_say_how_it_shares(annotations: t.Any) -> None:
    assert manifests.read_sharing({"metadata": {"name": "x", "annotations": annotations}}) is None


def test_a_change_of_one_program_restarts_no_other() -> None:
    def hashes(**more: t.Any) -> list[str]:
        wanted = plugin(MPS, **more)
        return [manifests.content_hash(wanted, MPS, component) for component in manifests.components(MPS, True)]

    before, moved = hashes(), hashes(mps_root="/var/lib/mps")
    assert [one == other for one, other in zip(before, moved, strict=True)] == [False, False, True]
    assert len(set(before)) == 3
    assert not set(before) & set(hashes(priority_class="x"))


def test_on_delete_leaves_pods_alone_and_changes_what_was_applied() -> None:
    wanted = plugin(MPS)
    rolling, waiting = (manifests.objects(wanted, MPS, feature_discovery=True, on_delete=on_delete) for on_delete in (False, True))
    assert rolling[0] == waiting[0], "the file"
    for one, other in zip(rolling[1:], waiting[1:], strict=True):
        assert one["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}}
        assert other["spec"]["updateStrategy"] == {"type": "OnDelete"}
        assert one["spec"]["template"] == other["spec"]["template"]
        assert one["metadata"]["annotations"]["gpuops.eks/applied"] != other["metadata"]["annotations"]["gpuops.eks/applied"]


def test_the_mark_of_what_was_applied_changes_with_any_field() -> None:
    def marks(**more: t.Any) -> list[str]:
        wanted = plugin(SLICED, **more)
        objects = [*manifests.common_objects(wanted, feature_discovery=True), *manifests.objects(wanted, SLICED, feature_discovery=True)]
        return [obj["metadata"]["annotations"]["gpuops.eks/applied"] for obj in objects]

    assert marks() == marks()
    other = marks(tolerations=({"key": "team", "operator": "Exists"},))
    assert [one == two for one, two in zip(marks(), other, strict=True)] == [True, True, True, True, False, False]
