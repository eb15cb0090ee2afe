# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of a device plugin, and what its pods are made of."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin, Image
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import CONFIG_MAP
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_conflicts, takeover
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin import Way, foreign_plugins, plan_begin, wanted_objects
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import Observed
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan

DEFAULT = Configuration(name="default")
POOL = Configuration(name="pool", node_selector={"pool": "a"})


def plugin(*configurations: Configuration, **more: t.Any) -> DevicePlugin:
    return DevicePlugin(**{"namespace": "gpu", "image": Image(), "configurations": configurations, **more})


def conflicts(wanted: DevicePlugin, observed: Observed, *, replace: bool = False) -> list[str]:
    return device_plugin_conflicts.conflicts(Design.of(wanted, feature_discovery=False), observed, {}, replace=replace)


def plan_present(wanted: DevicePlugin, observed: Observed) -> Plan:
    return plan_begin(Design.of(wanted, feature_discovery=False), observed, Way())


def daemon_set(**container: t.Any) -> dict[str, t.Any]:
    template = {"spec": {"containers": [{"name": "c", **container}]}}
    return {"metadata": {"name": "x", "namespace": "y"}, "spec": {"template": template}}


@pytest.mark.parametrize(
    ("container", "is_plugin"),
    [
        ({"image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0"}, True),
        ({"image": "mirror.local:5000/nvidia/k8s-device-plugin@sha256:0"}, True),
        ({"image": "own/image:1", "command": ["/usr/bin/nvidia-device-plugin"]}, True),
        ({"image": "own/image:1", "args": ["nvidia-device-plugin", "--pass-device-specs"]}, True),
        ({"image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0", "command": ["gpu-feature-discovery"]}, False),
        ({"image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0", "command": ["mps-control-daemon"]}, False),
        ({"image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0", "command": ["config-manager"]}, False),
        ({"image": "own/k8s-device-plugin-tools:1"}, False),
        ({"image": "public.ecr.aws/eks/kube-proxy:1"}, False),
    ],
)
def test_what_a_foreign_device_plugin_is(container: dict[str, t.Any], is_plugin: bool) -> None:
    assert bool(foreign_plugins([daemon_set(**container)])) is is_plugin


@pytest.mark.parametrize(
    ("programs", "is_plugin"),
    [
        (["nvidia-device-plugin"], True),
        (["config-manager", "nvidia-device-plugin"], True),
        (["config-manager", "gpu-feature-discovery"], False),
        (["config-manager", "mps-control-daemon"], False),
        (["app"], False),
    ],
)
def test_only_pods_of_the_plugin_count_whoever_owns_them(programs: list[str], is_plugin: bool) -> None:
    assert takeover.is_plugin_pod({"spec": {"containers": [{"name": "c", "command": [program]} for program in programs]}}) is is_plugin


def test_what_helps_another_program_does_not_name_the_daemon_set() -> None:
    """NVIDIA's chart with a map of configurations: the MPS daemon's sidecar comes first."""
    image = "nvcr.io/nvidia/k8s-device-plugin:v0.19.3"
    obj = daemon_set(name="mps-control-daemon-ctr", image=image, command=["mps-control-daemon"])
    sidecar = {"name": "mps-control-daemon-sidecar", "image": image, "command": ["config-manager"]}
    obj["spec"]["template"]["spec"]["containers"].insert(0, sidecar)
    assert takeover.program_of(obj) == "mps-control-daemon"


RELEASE = {"meta.helm.sh/release-name": "nvdp", "meta.helm.sh/release-namespace": "y"}


@pytest.mark.parametrize(
    ("namespace", "selector", "annotations", "is_companion", "claims"),
    [
        ("y", {"matchLabels": {"app": "x"}}, {}, True, True),  # helm template, applied by hand: nothing says which release it is
        ("y", {"matchLabels": {"app": "x"}}, RELEASE, True, True),
        ("y", {"matchLabels": {"app": "other"}}, RELEASE, True, False),
        ("y", {"matchLabels": {"app": "other"}}, {}, False, False),
        ("z", {"matchLabels": {"app": "x"}}, {}, False, False),
    ],
)
def test_which_daemon_sets_would_adopt_the_plugins_pods(
    namespace: str, selector: dict[str, t.Any], annotations: dict[str, str], is_companion: bool, claims: bool
) -> None:
    theirs, other = daemon_set(image="k8s-device-plugin"), daemon_set(command=["gpu-feature-discovery"])
    theirs["metadata"]["annotations"] = RELEASE
    theirs["spec"]["selector"] = {"matchLabels": {"app": "x"}}
    other["metadata"] |= {"namespace": namespace, "annotations": annotations}
    other["spec"]["selector"] = selector
    assert (takeover.companions(theirs, [theirs, other]) == [other]) is is_companion
    assert takeover.claims(other, theirs) is claims


def test_our_own_is_not_foreign() -> None:
    assert foreign_plugins([manifests.daemon_set(plugin(DEFAULT), DEFAULT)]) == []


def test_two_configurations_that_select_one_node_are_named_with_the_node() -> None:
    labels = {"pool": "a", "nvidia.com/gpu.present": "true"}
    observed = Observed(nodes=(Node(name="n1", labels=labels), Node(name="n2", labels={"pool": "a"})))
    (reason,) = conflicts(plugin(DEFAULT, POOL), observed)
    assert "Configurations default and pool select the same node (n1)" in reason
    assert "node_selector" in reason


def test_a_leftover_that_selects_the_same_node_is_named_until_it_is_purged() -> None:
    leftover = manifests.daemon_set(plugin(POOL), POOL)
    node = Node(name="n1", labels={"pool": "a", "zone": "z"})
    observed = Observed(daemon_sets=(leftover,), nodes=(node,))
    wanted = Configuration(name="new", node_selector={"zone": "z"})
    (reason,) = conflicts(plugin(wanted), observed)
    assert "purge_configurations: true" in reason
    assert conflicts(plugin(wanted, purge=True), observed) == []


NAMED = Configuration(name="named")
CONFIG, PRESENT = "nvidia.com/device-plugin.config", {"nvidia.com/gpu.present": "true"}


@pytest.mark.parametrize(
    ("leftover", "wanted", "labels", "stays"),
    [
        (NAMED, (DEFAULT,), {CONFIG: "named", **PRESENT}, True),
        (NAMED, (), {CONFIG: "named", **PRESENT}, True),
        (NAMED, (DEFAULT,), {CONFIG: "default", **PRESENT}, False),
        (NAMED, (Configuration(name="other"),), {CONFIG: "other"}, False),
        (DEFAULT, (NAMED,), PRESENT, True),
        (DEFAULT, (NAMED,), {CONFIG: "named", **PRESENT}, False),
        (POOL, (Configuration(name="new", node_selector={"pool": "a"}),), {"pool": "a"}, False),
    ],
)
def test_a_purge_leaves_no_node_without_a_device_plugin(
    leftover: Configuration, wanted: tuple[Configuration, ...], labels: dict[str, str], stays: bool
) -> None:
    live = (manifests.daemon_set(plugin(leftover), leftover), manifests.config_map(plugin(leftover), leftover))
    observed = Observed(daemon_sets=live[:1], others={CONFIG_MAP: live[1:]}, nodes=(Node(name="n1", labels=labels),))
    plan = plan_present(plugin(*wanted, purge=True), observed)
    assert [step.effect for step in plan.steps].count("delete") == (0 if stays else 2)
    assert conflicts(plugin(*wanted, purge=True), observed) == []
    assert [f"DaemonSet nvidia-device-plugin-{leftover.name} is no longer listed and stays" in w for w in plan.warnings] == [True] * stays
    assert all("n1" in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("labels", "refused"),
    [
        (PRESENT, "default"),
        ({CONFIG: "named"}, "named"),
        ({CONFIG: "bottlerocket", **PRESENT}, None),
        ({"gpuops.eks/nodepool": "b", **PRESENT}, None),
    ],
)
def test_bottlerocket_nodes_have_a_device_plugin_of_their_own(labels: dict[str, str], refused: str | None) -> None:
    nodes = (
        Node(name="b1", labels=labels, os_image="Bottlerocket OS 1.57.0"),
        Node(name="a1", labels=labels, os_image="Amazon Linux 2023"),
    )
    reasons = conflicts(plugin(DEFAULT, NAMED), Observed(nodes=nodes))
    assert [reason.split(",")[0] for reason in reasons] == ([f"Configuration {refused} selects Bottlerocket nodes (b1)"] if refused else [])


def test_a_bottlerocket_node_keeps_nothing_from_being_purged() -> None:
    leftover = manifests.daemon_set(plugin(NAMED), NAMED)
    observed = Observed(daemon_sets=(leftover,), nodes=(Node(name="b1", labels={CONFIG: "named"}, os_image="Bottlerocket OS 1.57.0"),))
    plan = plan_present(plugin(purge=True), observed)
    assert ([step.effect for step in plan.steps if step.effect == "delete"], plan.warnings) == (["delete"], ())


def test_what_stays_must_not_select_a_node_of_a_wanted_configuration() -> None:
    leftover = manifests.daemon_set(plugin(POOL), POOL)
    nodes = (Node(name="n1", labels={"pool": "a"}), Node(name="n2", labels={"pool": "a", "zone": "z"}))
    wanted = plugin(Configuration(name="new", node_selector={"zone": "z"}), purge=True)
    (reason,) = conflicts(wanted, Observed(daemon_sets=(leftover,), nodes=nodes))
    assert "Configurations new and pool select the same node (n2): change their node_selector or the nodes' labels" in reason


def test_ours_in_another_namespace_is_refused() -> None:
    other = manifests.daemon_set(plugin(DEFAULT, namespace="elsewhere"), DEFAULT)
    (reason,) = conflicts(plugin(DEFAULT), Observed(daemon_sets=(other,)))
    assert "already installed in namespace elsewhere" in reason


def test_a_namespace_that_is_going_away_is_refused() -> None:
    namespace = {**manifests.namespace("gpu"), "metadata": {**manifests.namespace("gpu")["metadata"], "deletionTimestamp": "now"}}
    assert conflicts(plugin(DEFAULT), Observed(namespace=namespace)) == [
        "Namespace gpu is being deleted: run again when it is gone.",
    ]


def test_a_namespace_that_is_not_ours_is_left_alone() -> None:
    kube_system = {"metadata": {"name": "kube-system"}}
    kinds = [obj["kind"] for obj in wanted_objects(plugin(DEFAULT, namespace="kube-system"), kube_system)]
    assert kinds == ["ConfigMap", "DaemonSet"]


def test_an_object_that_is_going_away_is_not_purged_again() -> None:
    leftover = manifests.daemon_set(plugin(POOL), POOL)
    leftover["metadata"]["deletionTimestamp"] = "now"
    plan = plan_present(plugin(DEFAULT, purge=True), Observed(daemon_sets=(leftover,)))
    assert [step.effect for step in plan.steps] == ["create"] * 3


def hash_of(**more: t.Any) -> str:
    configuration = more.pop("configuration", DEFAULT)
    return manifests.content_hash(plugin(configuration, **more), configuration)


@pytest.mark.parametrize(
    "more",
    [
        {"configuration": Configuration(name="default", sharing=Sharing(strategy="time_slicing", replicas=2))},
        {"configuration": Configuration(name="default", flags={"failOnInitError": False})},
        {"image": Image(tag="v0.18.2")},
        {"tolerations": ({"key": "team", "operator": "Exists"},)},
    ],
)
def test_the_hash_changes_with_whatever_pods_are_made_of(more: dict[str, t.Any]) -> None:
    assert hash_of(**more) != hash_of()


def test_the_hash_of_one_configuration_does_not_depend_on_another() -> None:
    assert manifests.content_hash(plugin(DEFAULT, POOL), DEFAULT) == hash_of()


def pod_spec(**flags: t.Any) -> dict[str, t.Any]:
    configuration = Configuration(name="x", flags=flags)
    spec: dict[str, t.Any] = manifests.daemon_set(plugin(configuration), configuration)["spec"]["template"]["spec"]
    return spec


def test_pods_have_no_more_rights_than_their_flags_need() -> None:
    def security(**flags: t.Any) -> t.Any:
        return pod_spec(**flags)["containers"][0]["securityContext"]

    assert security() == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert security(plugin={"deviceListStrategy": ["volume-mounts"]}) == {"capabilities": {"add": ["SYS_ADMIN"]}}
    assert security(plugin={"passDeviceSpecs": True}) == {"privileged": True}


def test_cdi_needs_its_directory_and_the_drivers_root() -> None:
    spec = pod_spec(nvidiaDriverRoot="/run/nvidia/driver", plugin={"deviceListStrategy": ["cdi-cri"]})
    paths = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    assert paths == {"device-plugins": "/var/lib/kubelet/device-plugins", "cdi": "/var/run/cdi", "driver-root": "/run/nvidia/driver"}
    assert {mount["name"] for mount in spec["containers"][0]["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_pull_secrets_are_in_the_pod() -> None:
    wanted = plugin(DEFAULT, image=Image(pull_secrets=("registry",)))
    assert manifests.daemon_set(wanted, DEFAULT)["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_daemon_sets_of_two_configurations_select_different_pods() -> None:
    one, other = (manifests.daemon_set(plugin(DEFAULT, POOL), configuration)["spec"] for configuration in (DEFAULT, POOL))
    assert one["selector"]["matchLabels"] != other["selector"]["matchLabels"]
    for spec in (one, other):
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


ARGO = {"annotations": {"argocd.argoproj.io/tracking-id": "platform:apps/DaemonSet:gpu/nvidia-device-plugin-default"}}
FLUX = {"labels": {"kustomize.toolkit.fluxcd.io/name": "platform"}}


def marked(manifest: dict[str, t.Any], mark: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    metadata = {**manifest["metadata"], **{key: {**manifest["metadata"].get(key, {}), **value} for key, value in mark.items()}}
    return {**manifest, "metadata": metadata}


@pytest.mark.parametrize(("mark", "tool"), [(ARGO, "Argo CD"), (FLUX, "Flux")])
def test_what_another_tool_keeps_is_said_and_left_alone(mark: dict[str, t.Any], tool: str) -> None:
    before, after = plugin(DEFAULT), plugin(DEFAULT, image=Image(tag="v0.18.2"))
    kept = marked(manifests.daemon_set(before, DEFAULT), mark)
    observed = Observed(
        namespace=manifests.namespace("gpu"), daemon_sets=(kept,), others={CONFIG_MAP: (manifests.config_map(before, DEFAULT),)}, nodes=()
    )
    assert conflicts(after, observed) == []
    plan = plan_present(after, observed)
    assert plan.steps == ()
    assert plan.warnings == (
        f"DaemonSet nvidia-device-plugin-default: kept by {tool} and not changed here; change them where {tool} takes them from.",
    )


def test_what_another_tool_keeps_is_not_purged_and_counts_as_what_stays() -> None:
    kept = marked(manifests.daemon_set(plugin(POOL), POOL), ARGO)
    node = Node(name="n1", labels={"pool": "a", "zone": "z"})
    wanted = plugin(Configuration(name="new", node_selector={"zone": "z"}), purge=True)
    plan = plan_present(wanted, Observed(daemon_sets=(kept,)))
    assert [step.effect for step in plan.steps] == ["create"] * 3
    assert plan.warnings[0].startswith("DaemonSet nvidia-device-plugin-pool: kept by Argo CD")
    (reason,) = conflicts(wanted, Observed(daemon_sets=(kept,), nodes=(node,)))
    assert "Configurations new and pool select the same node (n1)" in reason
