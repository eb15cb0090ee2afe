# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia_device_plugin through main(): every request, in order."""

from __future__ import annotations

import copy
import typing as t

import pytest
import urllib3
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Json
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin, Image
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.modules.nvidia_device_plugin import main

from tests.wire.harness import ANY, Wire
from tests.wire.kube import KubeWire

NAMESPACE = "gpuops-nvidia"
OURS = "app.kubernetes.io/managed-by=gpuops.eks,app.kubernetes.io/name=nvidia-device-plugin"
NAMESPACE_PATH = f"/api/v1/namespaces/{NAMESPACE}"
CONFIG_MAPS, DAEMON_SETS = f"{NAMESPACE_PATH}/configmaps", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
INSTANCE_TYPES = {"Filters": [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]}
G5: Json = {
    "InstanceTypes": [{"InstanceType": "g5.2xlarge", "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1}]}}]
}


def params(*configurations: Json, **more: t.Any) -> Json:
    return {"cluster_name": "demo", "configurations": list(configurations), "wait_interval": 0.001, "wait_timeout": 5, **more}


def shared(replicas: int, name: str = "shared") -> Json:
    return {"name": name, "sharing": {"strategy": "time_slicing", "replicas": replicas}}


def wanted(*configurations: Configuration) -> DevicePlugin:
    return DevicePlugin(namespace=NAMESPACE, image=Image(), configurations=configurations)


def sliced(replicas: int, name: str = "shared") -> Configuration:
    return Configuration(name=name, sharing=Sharing(strategy="time_slicing", replicas=replicas))


DEFAULT = Configuration(name="default")


def live(manifest: Json, *, nodes: int = 0) -> Json:
    """The manifest as the server keeps it, in a list: without kind, with what the server and its defaults add."""
    obj = copy.deepcopy({key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")})
    obj["metadata"] |= {"uid": f"uid-{manifest['metadata']['name']}", "resourceVersion": "7", "managedFields": [{"manager": "gpuops.eks"}]}
    if manifest["kind"] == "DaemonSet":
        obj["metadata"]["generation"] = 2
        obj["spec"]["revisionHistoryLimit"] = 10
        obj["status"] = {
            "observedGeneration": 2,
            "desiredNumberScheduled": nodes,
            "updatedNumberScheduled": nodes,
            "numberReady": nodes,
        }
    return obj


def objects(plugin: DevicePlugin, *, nodes: int = 0) -> tuple[list[Json], list[Json]]:
    """(ConfigMaps, DaemonSets) as they are in the cluster."""
    config_maps = [live(manifests.config_map(plugin, configuration)) for configuration in plugin.configurations]
    return config_maps, [live(manifests.daemon_set(plugin, configuration), nodes=nodes) for configuration in plugin.configurations]


def node(name: str, configuration: str, advertised: int, *, ready: bool = True) -> Json:
    labels = {"nvidia.com/device-plugin.config": configuration, "nvidia.com/gpu.present": "true"}
    labels["node.kubernetes.io/instance-type"] = "g5.2xlarge"
    counts = {"nvidia.com/gpu": str(advertised)}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"capacity": counts, "allocatable": counts, "conditions": conditions},
    }


def pod(name: str, on: str, plugin: DevicePlugin, configuration: Configuration, **status: t.Any) -> Json:
    annotations = {"gpuops.eks/hash": manifests.content_hash(plugin, configuration)}
    status = status or {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, "annotations": annotations}, "spec": {"nodeName": on}, "status": status}


def observe(
    kube: KubeWire, plugin: DevicePlugin | None, *, nodes: t.Sequence[Json] = (), others: t.Sequence[Json] = (), missing: str = ""
) -> KubeWire:
    """The reads before a plan. ``plugin`` is what is there, in a namespace of ours; ``missing`` a ConfigMap that is wanted and not there."""
    config_maps, daemon_sets = objects(plugin, nodes=len(nodes)) if plugin else ([], [])
    kube.cluster().items("/api/v1/configmaps", config_maps, labelSelector=OURS)
    kube.get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)) if plugin else None)
    kube.items("/apis/apps/v1/daemonsets", [*daemon_sets, *others])
    if missing:
        kube.get(f"{CONFIG_MAPS}/{missing}", None)
    return kube.items("/api/v1/nodes", nodes)


def dry_runs(kube: KubeWire, plugin: DevicePlugin) -> KubeWire:
    """Every wanted object is tried; the server says that it becomes what is wanted."""
    kube.patch(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)), dry_run=True, body=manifests.namespace(NAMESPACE))
    for configuration in plugin.configurations:
        name = manifests.object_name(configuration.name)
        config_map, daemon_set = manifests.config_map(plugin, configuration), manifests.daemon_set(plugin, configuration)
        kube.patch(f"{CONFIG_MAPS}/{name}", live(config_map), dry_run=True, body=config_map)
        kube.patch(f"{DAEMON_SETS}/{name}", live(daemon_set), dry_run=True, body=daemon_set)
    return kube


def status(kube: KubeWire, plugin: DevicePlugin, nodes: t.Sequence[Json], pods: t.Sequence[Json] = ()) -> KubeWire:
    """The reads of one look at the rollout."""
    kube.items(DAEMON_SETS, objects(plugin, nodes=len(nodes))[1], labelSelector=OURS).items("/api/v1/nodes", nodes)
    return kube.items(f"{NAMESPACE_PATH}/pods", pods, labelSelector=OURS) if nodes else kube


def test_create_in_order_and_wait_for_the_node(kube: KubeWire, wire: Wire) -> None:
    plugin = wanted(DEFAULT, sliced(10))
    observe(kube, None)
    for path, manifest in [
        (NAMESPACE_PATH, manifests.namespace(NAMESPACE)),
        (f"{CONFIG_MAPS}/nvidia-device-plugin-default", manifests.config_map(plugin, DEFAULT)),
        (f"{DAEMON_SETS}/nvidia-device-plugin-default", manifests.daemon_set(plugin, DEFAULT)),
        (f"{CONFIG_MAPS}/nvidia-device-plugin-shared", manifests.config_map(plugin, sliced(10))),
        (f"{DAEMON_SETS}/nvidia-device-plugin-shared", manifests.daemon_set(plugin, sliced(10))),
    ]:
        kube.patch(path, live(manifest), body=manifest)
    status(kube, plugin, [node("n1", "shared", 0)], [pod("p1", "n1", plugin, sliced(10))])
    wire.expect("ec2:DescribeInstanceTypes", INSTANCE_TYPES, G5)
    status(kube, plugin, [node("n1", "shared", 10)], [pod("p1", "n1", plugin, sliced(10))])
    result = kube.run(main, params({"name": "default"}, shared(10)))
    assert [(step["action"], step["target"], step["effect"]) for step in result["plan"]] == [
        ("kubernetes:patch namespaces", NAMESPACE, "create"),
        ("kubernetes:patch configmaps", f"{NAMESPACE}/nvidia-device-plugin-default", "create"),
        ("kubernetes:patch daemonsets.apps", f"{NAMESPACE}/nvidia-device-plugin-default", "create"),
        ("kubernetes:patch configmaps", f"{NAMESPACE}/nvidia-device-plugin-shared", "create"),
        ("kubernetes:patch daemonsets.apps", f"{NAMESPACE}/nvidia-device-plugin-shared", "create"),
    ]
    assert len(kube.writes()) == len(result["plan"])
    assert result["device_plugin"]["configurations"][1]["nodes"] == [
        {"name": "n1", "resource": "nvidia.com/gpu", "expected": 10, "advertised": 10}
    ]
    assert "Node n1: nvidia.com/gpu 0, the plugin is ready, the kubelet has not said so yet" in result["progress"]
    assert result["progress"][-1] == "Node n1: nvidia.com/gpu 10"


def test_no_op_tries_everything_and_writes_nothing(kube: KubeWire) -> None:
    plugin = wanted(DEFAULT, sliced(10))
    dry_runs(observe(kube, plugin), plugin)
    result = kube.run(main, params({"name": "default"}, shared(10)))
    assert (result["changed"], result["plan"], result["progress"], kube.writes()) == (False, [], [], [])


def test_changed_replicas_touch_that_configuration_alone(kube: KubeWire, wire: Wire) -> None:
    before, after = wanted(DEFAULT, sliced(10)), wanted(DEFAULT, sliced(4))
    dry_runs(observe(kube, before), after)
    kube.patch(f"{CONFIG_MAPS}/nvidia-device-plugin-shared", {}, body=manifests.config_map(after, sliced(4)))
    kube.patch(f"{DAEMON_SETS}/nvidia-device-plugin-shared", {}, body=manifests.daemon_set(after, sliced(4)))
    old, new = pod("p1", "n1", before, sliced(10)), pod("p2", "n1", after, sliced(4))
    status(kube, after, [node("n1", "shared", 10)], [old])
    wire.expect("ec2:DescribeInstanceTypes", INSTANCE_TYPES, G5)
    status(kube, after, [node("n1", "shared", 4)], [new])
    result = kube.run(main, params({"name": "default"}, shared(4)))
    target = f"{NAMESPACE}/nvidia-device-plugin-shared"
    assert [(step["target"], step["effect"]) for step in result["plan"]] == [(target, "update"), (target, "update")]
    assert result["plan"][0]["fields"] == ["data[config.yaml]", "metadata.annotations[gpuops.eks/applied]"]
    assert result["plan"][1]["fields"] == [
        "metadata.annotations[gpuops.eks/applied]",
        "metadata.annotations[gpuops.eks/resources]",
        "spec.template.metadata.annotations[gpuops.eks/hash]",
        "spec.template.metadata.annotations[gpuops.eks/sharing]",
    ]
    before = result["diff"]["before"][f"daemonsets.apps {target}"]["metadata.annotations[gpuops.eks/resources]"]
    assert before == '{"nvidia.com/gpu": 10}'
    assert "pod p1 still runs the previous configuration" in str(result["progress"])


def test_purge_waits_until_the_old_daemon_set_is_gone(kube: KubeWire) -> None:
    before, after = wanted(sliced(10, "old")), wanted(sliced(10, "new"))
    old = objects(before)[1][0]
    dry_runs(observe(kube, before, missing="nvidia-device-plugin-new"), after)

    def deletion(name: str) -> Json:
        return {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground", "preconditions": {"uid": f"uid-{name}"}}

    name = "nvidia-device-plugin-old"
    kube.expect("DELETE", f"{DAEMON_SETS}/{name}", body=deletion(name), reply={})
    kube.expect("DELETE", f"{CONFIG_MAPS}/{name}", body=deletion(name), reply={})
    kube.patch(f"{CONFIG_MAPS}/nvidia-device-plugin-new", {})
    kube.get(f"{DAEMON_SETS}/{name}", old).get(f"{DAEMON_SETS}/{name}", None)
    kube.patch(f"{DAEMON_SETS}/nvidia-device-plugin-new", {})
    status(kube, after, [])
    result = kube.run(main, params(shared(10, "new"), purge_configurations=True))
    assert [step["effect"] for step in result["plan"]] == ["delete", "delete", "create", "create"]
    assert result["plan"][0]["reason"] == "configuration is no longer listed"


def test_purge_keeps_what_running_nodes_still_need_and_names_them(kube: KubeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, message: warnings.append(message))
    before, after = wanted(DEFAULT, sliced(10)), wanted(DEFAULT)
    dry_runs(observe(kube, before, nodes=[node("n1", "shared", 10)]), after)
    result = kube.run(main, params({"name": "default"}, purge_configurations=True, wait=False))
    assert (result["changed"], result["plan"], kube.writes()) == (False, [], [])
    (warning,) = warnings
    assert "DaemonSet nvidia-device-plugin-shared is no longer listed and stays: it alone serves n1" in warning


def test_without_purge_other_configurations_stay(kube: KubeWire) -> None:
    before, after = wanted(DEFAULT, sliced(10)), wanted(DEFAULT)
    dry_runs(observe(kube, before), after)
    assert not kube.run(main, params({"name": "default"}))["changed"]


def test_what_argo_cd_keeps_is_not_tried_not_written_and_not_waited_for(kube: KubeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, message: warnings.append(message))
    tracked = {"annotations": {"argocd.argoproj.io/tracking-id": "platform:/Namespace:/gpuops-nvidia"}}
    config_maps, daemon_sets = objects(wanted(sliced(10)), nodes=1)
    for obj in (namespace := live(manifests.namespace(NAMESPACE)), *config_maps, *daemon_sets):
        obj["metadata"] |= tracked
    nodes = [node("n1", "shared", 10)]
    kube.cluster().items("/api/v1/configmaps", config_maps, labelSelector=OURS).get(NAMESPACE_PATH, namespace)
    kube.items("/apis/apps/v1/daemonsets", daemon_sets).items("/api/v1/nodes", nodes)
    kube.items(f"{NAMESPACE_PATH}/pods", [pod("p1", "n1", wanted(sliced(10)), sliced(10))], labelSelector=OURS)
    kube.aws.expect("ec2:DescribeInstanceTypes", INSTANCE_TYPES, G5)
    result = kube.run(main, params(shared(4)))
    assert (result["changed"], result["plan"], kube.writes()) == (False, [], [])
    assert result["device_plugin"]["configurations"][0]["nodes"][0]["advertised"] == 10
    names = ("Namespace gpuops-nvidia", "ConfigMap nvidia-device-plugin-shared", "DaemonSet nvidia-device-plugin-shared")
    assert warnings == [f"{', '.join(names)}: kept by Argo CD and not changed here; change them where Argo CD takes them from."]


def absent_reads(kube: KubeWire, plugin: DevicePlugin | None, foreign: t.Sequence[Json] = ()) -> KubeWire:
    config_maps, daemon_sets = objects(plugin) if plugin else ([], [])
    kube.cluster().items("/api/v1/namespaces", [live(manifests.namespace(NAMESPACE))] if plugin else [], labelSelector=OURS)
    kube.items("/apis/apps/v1/daemonsets", daemon_sets, labelSelector=OURS)
    kube.items("/api/v1/configmaps", config_maps, labelSelector=OURS)
    if plugin:
        kube.items(f"{NAMESPACE_PATH}/pods", []).items(CONFIG_MAPS, [*config_maps, {"metadata": {"name": "kube-root-ca.crt"}}])
        kube.items(f"{NAMESPACE_PATH}/secrets", foreign).items(f"{NAMESPACE_PATH}/serviceaccounts", [{"metadata": {"name": "default"}}])
    return kube


def test_absent_removes_all_of_ours_and_waits(kube: KubeWire) -> None:
    absent_reads(kube, wanted(DEFAULT))
    for path in (f"{DAEMON_SETS}/nvidia-device-plugin-default", f"{CONFIG_MAPS}/nvidia-device-plugin-default", NAMESPACE_PATH):
        kube.expect("DELETE", path, body=ANY, reply={})
    kube.get(f"{DAEMON_SETS}/nvidia-device-plugin-default", None).get(NAMESPACE_PATH, None)
    result = kube.run(main, {"cluster_name": "demo", "state": "absent"})
    assert [step["effect"] for step in result["plan"]] == ["delete"] * 3
    assert result["device_plugin"] is None


def test_absent_again_changes_nothing(kube: KubeWire) -> None:
    result = absent_reads(kube, None).run(main, {"cluster_name": "demo", "state": "absent"})
    assert (result["changed"], kube.writes()) == (False, [])


def test_absent_keeps_a_namespace_with_something_else_in_it(kube: KubeWire, wire: Wire) -> None:
    absent_reads(kube, wanted(DEFAULT), foreign=[{"metadata": {"name": "registry"}}])
    result = kube.run(main, {"cluster_name": "demo", "state": "absent"}, check_mode=True)
    assert [step["target"] for step in result["plan"]] == [f"{NAMESPACE}/nvidia-device-plugin-default"] * 2


def test_absent_of_a_cluster_that_is_not_there(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    assert not wire.run(main, {"cluster_name": "demo", "state": "absent"})["changed"]


def test_check_mode_of_a_cluster_that_is_not_there_reads_nothing_and_plans_creates(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    result = wire.run(main, params({"name": "default"}), check_mode=True)
    assert [step["effect"] for step in result["plan"]] == ["create"] * 3
    assert result["device_plugin"]["configurations"][0]["desired_nodes"] is None


def test_a_cluster_that_is_not_there_is_an_error_outside_check_mode(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException")
    result = wire.run(main, params({"name": "default"}))
    assert "EKS cluster demo does not exist in us-west-2. Make it first" in result["msg"]


def test_check_mode_tries_and_does_not_write(kube: KubeWire) -> None:
    before, after = wanted(DEFAULT), wanted(Configuration(name="default", flags={"failOnInitError": False}))
    dry_runs(observe(kube, before), after)
    result = kube.run(main, params({"name": "default", "flags": {"failOnInitError": "no"}}), check_mode=True)
    assert result["changed"]
    assert kube.writes() == []


def foreign(**container: t.Any) -> Json:
    labels = {"helm.sh/chart": "nvidia-device-plugin-0.17.0"}
    template = {"spec": {"containers": [{"name": "ctr", **container}]}}
    return {"metadata": {"name": "nvdp", "namespace": "kube-system", "labels": labels}, "spec": {"template": template}}


def test_a_foreign_plugin_is_refused_by_name(kube: KubeWire) -> None:
    observe(kube, None, others=[foreign(image="nvcr.io/nvidia/k8s-device-plugin:v0.17.0")])
    result = kube.run(main, params({"name": "default"}))
    assert (
        "DaemonSet kube-system/nvdp runs a device plugin that somebody else installed (Helm chart nvidia-device-plugin-0.17.0)"
        in result["msg"]
    )
    assert kube.writes() == []


def test_bottlerocket_nodes_that_a_configuration_selects_are_refused_by_name(kube: KubeWire) -> None:
    bottlerocket = node("b1", "default", 1)
    bottlerocket["status"]["nodeInfo"] = {"osImage": "Bottlerocket OS 1.57.0 (aws-k8s-1.33-nvidia)"}
    observe(kube, None, nodes=[bottlerocket])
    result = kube.run(main, params({"name": "default"}))
    assert "Configuration default selects Bottlerocket nodes (b1), which contain a device plugin" in result["msg"]
    assert kube.writes() == []


def test_an_object_of_that_name_without_our_mark_is_refused(kube: KubeWire) -> None:
    plugin = wanted(DEFAULT)
    stranger = live(manifests.config_map(plugin, DEFAULT))
    stranger["metadata"]["labels"] = {}
    kube.cluster().items("/api/v1/configmaps", [], labelSelector=OURS).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    kube.items("/apis/apps/v1/daemonsets", [])
    kube.get(f"{CONFIG_MAPS}/nvidia-device-plugin-default", stranger).items("/api/v1/nodes", [])
    result = kube.run(main, params({"name": "default"}))
    assert f"ConfigMap {NAMESPACE}/nvidia-device-plugin-default exists and is not ours" in result["msg"]


def test_a_refused_token_says_what_to_do(kube: KubeWire) -> None:
    kube.cluster().expect("GET", "/api/v1/configmaps", query=ANY, status=401, reply={"kind": "Status", "message": "Unauthorized"})
    result = kube.run(main, params({"name": "default"}))
    assert "refused the token (401 Unauthorized). Give the identity whose AWS credentials this task uses an access entry" in result["msg"]


def test_a_missing_permission_is_named(kube: KubeWire) -> None:
    message = 'configmaps is forbidden: User "ml" cannot list resource "configmaps" in API group "" at the cluster scope'
    refusal = {"kind": "Status", "reason": "Forbidden", "message": message}
    kube.cluster().expect("GET", "/api/v1/configmaps", query=ANY, status=403, reply=refusal)
    result = kube.run(main, params({"name": "default"}))
    assert message in result["msg"]
    assert "needs the Kubernetes permission list on configmaps" in result["msg"]
    assert result["error"] == {"action": "kubernetes:list configmaps", "code": "Forbidden"}


def test_an_api_server_that_cannot_be_reached(kube: KubeWire) -> None:
    cause = urllib3.exceptions.ConnectTimeoutError("timed out")
    kube.cluster().expect("GET", "/api/v1/configmaps", query=ANY, reply=cause)
    result = kube.run(main, params({"name": "default"}))
    assert "cannot be reached: timed out. Check the network, and the cluster's endpoint access" in result["msg"]


CRASH = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [
        {
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        }
    ],
}


@pytest.mark.parametrize(("pod_status", "within"), [(CRASH, False), ({"phase": "Pending"}, True)])
def test_a_wait_that_fails_says_why_for_each_node(kube: KubeWire, wire: Wire, pod_status: Json, within: bool) -> None:
    plugin = wanted(sliced(10))
    nodes = [node("good", "shared", 10), node("bad", "shared", 0)]
    pods = [pod("p1", "good", plugin, sliced(10)), pod("p2", "bad", plugin, sliced(10), **pod_status)]
    dry_runs(observe(kube, plugin, nodes=nodes), plugin)
    kube.items(f"{NAMESPACE_PATH}/pods", pods, labelSelector=OURS)
    wire.expect("ec2:DescribeInstanceTypes", INSTANCE_TYPES, G5)
    if within:
        status(kube, plugin, nodes, pods)
    result = kube.run(main, params(shared(10), wait_timeout=0 if not within else 1, wait_interval=1.01))
    assert result["failed"]
    assert ("within" in result["msg"]) is within
    assert "1 of 2 nodes do not advertise what their configuration says" in result["msg"]
    assert len(result["nodes"]) == 1
    found = result["nodes"][0]
    assert (found["name"], found["expected"], found["advertised"]) == ("bad", 10, 0)
    if not within:
        assert found["why"] == "pod p2: CrashLoopBackOff: back-off 40s restarting failed container: ended with 1 Error"


def test_unknown_gpus_are_a_warning_not_a_failure(kube: KubeWire, wire: Wire) -> None:
    plugin = wanted(sliced(10))
    nodes = [node("n1", "shared", 20)]
    dry_runs(observe(kube, plugin, nodes=nodes), plugin)
    kube.items(f"{NAMESPACE_PATH}/pods", [pod("p1", "n1", plugin, sliced(10))], labelSelector=OURS)
    wire.expect_error("ec2:DescribeInstanceTypes", INSTANCE_TYPES, "UnauthorizedOperation", "You are not authorized")
    result = kube.run(main, params(shared(10)))
    assert result["device_plugin"]["configurations"][0]["nodes"][0]["expected"] is None


BAD: list[tuple[Json, str]] = [
    (params(shared(1)), "configurations[0].sharing.replicas"),
    (params({"name": "x", "sharing": {"strategy": "time_slicing", "replicas": "ten"}}), "configurations[0].sharing.replicas"),
    (params({"name": "x", "sharing": {"strategy": "mps", "replicas": 49}}), "configurations[0].sharing.replicas"),
    (params({"name": "x", "mig": {"strategy": "single"}}), "configurations[0].mig.layout"),
    (params({"name": "UPPER"}), "configurations[0].name"),
    (params({"name": "x", "flags": {"migStrategy": "single"}}), "configurations[0].flags.migStrategy"),
    (params({"name": "x", "flags": {"plugin": {"passDeviceSpec": True}}}), "configurations[0].flags.plugin.passDeviceSpec"),
    (params({"name": "x"}, {"name": "x"}), "configurations[1].name"),
    (
        params({"name": "x", "node_selector": {"a": "1"}}, {"name": "y", "node_selector": {"a": "1", "b": "2"}}),
        "configurations[1].node_selector",
    ),
    (params({"name": "x", "node_selector": {}}), "configurations[0].node_selector"),
    (params({"name": "x"}, image={"digest": "sha256:1"}), "image.digest"),
    (params({"name": "x"}, namespace="a_b"), "namespace"),
    (params({"name": "x"}, drain=True), "drain"),
]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("given", "path"), BAD)
def test_bad_input_is_refused_before_any_client(wire: Wire, given: Json, path: str) -> None:
    result = wire.run(main, given)
    assert path in {fault["path"] for fault in result["faults"]}
