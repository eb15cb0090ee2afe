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
from tests.wire.kube import Events, KubeWire

NAMESPACE = "gpuops-nvidia"
OURS = "app.kubernetes.io/managed-by=gpuops.eks,app.kubernetes.io/name=nvidia-device-plugin"
NAMESPACE_PATH = f"/api/v1/namespaces/{NAMESPACE}"
CONFIG_MAPS, DAEMON_SETS = f"{NAMESPACE_PATH}/configmaps", f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets"
PODS, RBAC = f"{NAMESPACE_PATH}/pods", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
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


def made(plugin: DevicePlugin, *, on_delete: t.Container[str] = ()) -> list[Json]:
    """The manifests, without the namespace."""
    return [
        obj
        for configuration in plugin.configurations
        for obj in manifests.objects(plugin, configuration, feature_discovery=False, on_delete=configuration.name in on_delete)
    ]


def objects(plugin: DevicePlugin, *, nodes: int = 0) -> tuple[list[Json], list[Json]]:
    """(ConfigMaps, DaemonSets) as they are in the cluster."""
    found: dict[str, list[Json]] = {"ConfigMap": [], "DaemonSet": []}
    for manifest in made(plugin):
        found[manifest["kind"]].append(live(manifest, nodes=nodes))
    return found["ConfigMap"], found["DaemonSet"]


def node(name: str, configuration: str, advertised: int, *, ready: bool = True, resource: str = "nvidia.com/gpu", **more: t.Any) -> Json:
    labels = {"nvidia.com/device-plugin.config": configuration, "nvidia.com/gpu.present": "true"}
    labels["node.kubernetes.io/instance-type"] = "g5.2xlarge"
    counts = {resource: str(advertised)}
    conditions = [{"type": "Ready", "status": str(ready)}]
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels | more.pop("labels", {}), **more},
        "spec": {},
        "status": {"capacity": counts, "allocatable": counts, "conditions": conditions},
    }


def pod(
    name: str, on: str, plugin: DevicePlugin, configuration: Configuration, *, component: str = manifests.DEVICE_PLUGIN, **status: t.Any
) -> Json:
    """A pod of ours as its DaemonSet makes it."""
    manifest = manifests.daemon_set(plugin, configuration, component)
    owner = {"kind": "DaemonSet", "name": manifest["metadata"]["name"], "controller": True}
    template = manifest["spec"]["template"]["metadata"]
    metadata = {**template, "name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "ownerReferences": [owner]}
    status = status or {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": metadata, "spec": {"nodeName": on}, "status": status}


def groups(kube: KubeWire, *names: str) -> KubeWire:
    """The API groups that are served."""
    found = [{"name": name, "versions": [{"version": "v1"}]} for name in ("apps", *names)]
    return kube.expect("GET", "/apis", reply={"groups": found})


def observe(
    kube: KubeWire,
    plugin: DevicePlugin | None,
    *,
    nodes: t.Sequence[Json] = (),
    pods: t.Sequence[Json] = (),
    others: t.Sequence[Json] = (),
    config_maps: t.Sequence[Json] = (),
    ready: int | None = None,
) -> KubeWire:
    """The reads before a plan: one list of each kind. ``plugin`` is what is there, in a namespace of ours."""
    ours, daemon_sets = objects(plugin, nodes=len(nodes) if ready is None else ready) if plugin else ([], [])
    groups(kube.cluster()).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)) if plugin else None)
    return listed(kube, [*daemon_sets, *others], [*ours, *config_maps], pods, nodes, there=plugin is not None)


def listed(
    kube: KubeWire,
    daemon_sets: t.Sequence[Json],
    config_maps: t.Sequence[Json],
    pods: t.Sequence[Json],
    nodes: t.Sequence[Json],
    *,
    there: bool = True,
) -> KubeWire:
    kube.items("/apis/apps/v1/daemonsets", daemon_sets)
    if there:
        kube.items(CONFIG_MAPS, config_maps).items(f"{NAMESPACE_PATH}/serviceaccounts", [{"metadata": {"name": "default"}}])
        kube.items(f"{RBAC}/roles", []).items(f"{RBAC}/rolebindings", [])
        kube.items(PODS, pods, labelSelector=OURS)
    return kube.items("/api/v1/nodes", nodes)


def catalog(kube: KubeWire) -> KubeWire:
    """What EC2 says of the instance type."""
    kube.aws.expect("ec2:DescribeInstanceTypes", INSTANCE_TYPES, G5)
    return kube


def path_of(manifest: Json) -> str:
    name = manifest["metadata"]["name"]
    folders = {"Namespace": "/api/v1/namespaces", "ConfigMap": CONFIG_MAPS, "DaemonSet": DAEMON_SETS}
    return f"{folders[manifest['kind']]}/{name}"


def patched(kube: KubeWire, *wanted: Json, dry_run: bool = False) -> KubeWire:
    """These manifests are applied, or tried, in this order."""
    for manifest in wanted:
        kube.patch(path_of(manifest), live(manifest), dry_run=dry_run, body=manifest)
    return kube


def watches(kube: KubeWire, nodes: Events = (), daemon_sets: Events = (), pods: Events = ()) -> KubeWire:
    """The three watches of a wait, and what happens."""
    kube.watch("/api/v1/nodes", nodes).watch(DAEMON_SETS, daemon_sets, labelSelector=OURS)
    return kube.watch(PODS, pods, labelSelector=OURS)


def rolled_out(plugin: DevicePlugin, nodes: int) -> Events:
    return [("MODIFIED", obj) for obj in objects(plugin, nodes=nodes)[1]]


def steps_of(result: Json) -> list[tuple[str, str]]:
    return [(step["action"].removeprefix("kubernetes:"), step["target"].removeprefix(f"{NAMESPACE}/")) for step in result["plan"]]


def test_create_in_order_and_wait_for_the_node(kube: KubeWire) -> None:
    plugin = wanted(DEFAULT, sliced(10))
    catalog(observe(kube, None, nodes=[node("n1", "shared", 0)]))
    patched(kube, manifests.namespace(NAMESPACE), *made(plugin))
    kube.items(PODS, [], labelSelector=OURS)
    running = pod("p1", "n1", plugin, sliced(10))
    watches(kube, [("MODIFIED", node("n1", "shared", 10))], rolled_out(plugin, 1), [("ADDED", running)])
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
    assert "Node n1: nvidia.com/gpu 0, no plugin pod yet (label nvidia.com/device-plugin.config=shared)" in result["progress"]
    assert result["progress"][-1] == "Node n1: nvidia.com/gpu 10"


@pytest.mark.parametrize("nodes", [0, 1, 40])
def test_no_op_reads_one_list_of_each_kind_and_tries_nothing(kube: KubeWire, nodes: int) -> None:
    configurations = [sliced(10, f"pool-{index}") for index in range(20)]
    plugin = wanted(*configurations)
    there = [node(f"n{index}", f"pool-{index % 20}", 10, labels={"nvidia.com/gpu.count": "1"}) for index in range(nodes)]
    pods = [pod(f"p{index}", f"n{index}", plugin, configurations[index % 20]) for index in range(nodes)]
    observe(kube, plugin, nodes=there, pods=pods)
    result = kube.run(main, params(*(shared(10, f"pool-{index}") for index in range(20))))
    assert (result["changed"], result["plan"], result["progress"], kube.writes()) == (False, [], [], [])
    assert len(kube.made) == 9


def test_what_somebody_has_edited_is_tried_and_put_right(kube: KubeWire) -> None:
    plugin = wanted(sliced(10))
    config_maps, daemon_sets = objects(plugin)
    daemon_sets[0]["spec"]["template"]["spec"]["priorityClassName"] = "low"
    groups(kube.cluster()).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    listed(kube, daemon_sets, config_maps, [], [])
    manifest = made(plugin)[1]
    patched(patched(kube, manifest, dry_run=True), manifest)
    watches(kube, daemon_sets=rolled_out(plugin, 0))
    result = kube.run(main, params(shared(10)))
    assert [step["fields"] for step in result["plan"]] == [["spec.template.spec.priorityClassName"]]


def test_what_a_webhook_adds_is_tried_and_stays(kube: KubeWire) -> None:
    plugin = wanted(sliced(10))
    config_maps, daemon_sets = objects(plugin)
    daemon_sets[0]["spec"]["template"]["spec"]["containers"].append({"name": "sidecar"})
    groups(kube.cluster()).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    listed(kube, daemon_sets, config_maps, [], [])
    kube.patch(f"{DAEMON_SETS}/nvidia-device-plugin-shared", daemon_sets[0], dry_run=True, body=made(plugin)[1])
    assert not kube.run(main, params(shared(10)))["changed"]


def test_changed_replicas_touch_that_configuration_alone(kube: KubeWire) -> None:
    before, after = wanted(DEFAULT, sliced(10)), wanted(DEFAULT, sliced(12))
    old, new = pod("p1", "n1", before, sliced(10)), pod("p2", "n1", after, sliced(12))
    catalog(observe(kube, before, nodes=[node("n1", "shared", 10)], pods=[old]))
    changed = made(after)[2:]
    patched(patched(kube, *changed, dry_run=True), *changed)
    watches(kube, [("MODIFIED", node("n1", "shared", 12))], rolled_out(after, 1), [("DELETED", old), ("ADDED", new)])
    result = kube.run(main, params({"name": "default"}, shared(12)))
    target = f"{NAMESPACE}/nvidia-device-plugin-shared"
    assert [(step["target"], step["effect"]) for step in result["plan"]] == [(target, "update"), (target, "update")]
    assert result["plan"][0]["fields"] == ["data[config.yaml]", "metadata.annotations[gpuops.eks/applied]"]
    assert result["plan"][1]["fields"] == [
        "metadata.annotations[gpuops.eks/applied]",
        "metadata.annotations[gpuops.eks/resources]",
        "spec.template.metadata.annotations[gpuops.eks/hash]",
        "spec.template.metadata.annotations[gpuops.eks/sharing]",
    ]
    before_annotation = result["diff"]["before"][f"daemonsets.apps {target}"]["metadata.annotations[gpuops.eks/resources]"]
    assert before_annotation == '{"nvidia.com/gpu": 10}'
    assert "pod p1 still runs the previous configuration" in str(result["progress"])


def deletion(name: str, policy: str = "Foreground") -> Json:
    return {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy, "preconditions": {"uid": f"uid-{name}"}}


def test_purge_waits_until_the_old_daemon_set_is_gone(kube: KubeWire) -> None:
    """The configuration that goes selects a node of the one that comes: it goes first."""
    before = wanted(Configuration(name="old", node_selector={"pool": "a"}, sharing=sliced(10).sharing))
    new = Configuration(name="new", node_selector={"team": "b"}, sharing=sliced(10).sharing)
    after = wanted(new)
    there = node("n1", "other", 10, labels={"pool": "a", "team": "b", "nvidia.com/gpu.count": "1"})
    old, fresh = pod("p1", "n1", before, before.configurations[0]), pod("p2", "n1", after, new)
    observe(kube, before, nodes=[there], pods=[old])
    config_map, daemon_set = made(after)
    patched(kube, config_map, daemon_set, dry_run=True)
    name = "nvidia-device-plugin-old"
    kube.expect("DELETE", f"{DAEMON_SETS}/{name}", body=deletion(name), reply={})
    kube.expect("DELETE", f"{CONFIG_MAPS}/{name}", body=deletion(name), reply={})
    patched(kube, config_map)
    kube.get(f"{DAEMON_SETS}/{name}", objects(before)[1][0]).get(f"{DAEMON_SETS}/{name}", None)
    patched(kube, daemon_set)
    watches(kube, [], rolled_out(after, 1), [("DELETED", old), ("ADDED", fresh)])
    result = kube.run(
        main,
        params({**shared(10, "new"), "node_selector": {"team": "b"}}, purge_configurations=True),
    )
    assert [step["effect"] for step in result["plan"]] == ["delete", "delete", "create", "create"]
    assert result["plan"][0]["reason"] == "configuration is no longer listed"


def test_purge_of_what_selects_no_node_of_ours_comes_last(kube: KubeWire) -> None:
    before, after = wanted(sliced(10, "old")), wanted(sliced(10, "new"))
    observe(kube, before)
    patched(patched(kube, *made(after), dry_run=True), *made(after))
    name = "nvidia-device-plugin-old"
    kube.expect("DELETE", f"{DAEMON_SETS}/{name}", body=deletion(name), reply={})
    kube.expect("DELETE", f"{CONFIG_MAPS}/{name}", body=deletion(name), reply={})
    watches(kube, daemon_sets=rolled_out(after, 0))
    result = kube.run(main, params(shared(10, "new"), purge_configurations=True))
    assert [step["effect"] for step in result["plan"]] == ["create", "create", "delete", "delete"]


def test_purge_keeps_what_running_nodes_still_need_and_names_them(kube: KubeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, message: warnings.append(message))
    observe(kube, wanted(DEFAULT, sliced(10)), nodes=[node("n1", "shared", 10)], ready=0)
    result = kube.run(main, params({"name": "default"}, purge_configurations=True, wait=False))
    assert (result["changed"], result["plan"], kube.writes()) == (False, [], [])
    (warning,) = warnings
    assert "DaemonSet nvidia-device-plugin-shared is no longer listed and stays: it alone serves n1" in warning


def test_without_purge_other_configurations_stay(kube: KubeWire) -> None:
    observe(kube, wanted(DEFAULT, sliced(10)))
    assert not kube.run(main, params({"name": "default"}))["changed"]


def test_what_argo_cd_keeps_is_not_tried_not_written_and_not_waited_for(kube: KubeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, message: warnings.append(message))
    config_maps, daemon_sets = objects(wanted(sliced(10)), nodes=1)
    for obj in (namespace := live(manifests.namespace(NAMESPACE)), *config_maps, *daemon_sets):
        obj["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = "platform:/Namespace:/gpuops-nvidia"
    nodes = [node("n1", "shared", 10)]
    groups(kube.cluster()).get(NAMESPACE_PATH, namespace)
    catalog(listed(kube, daemon_sets, config_maps, [pod("p1", "n1", wanted(sliced(10)), sliced(10))], nodes))
    result = kube.run(main, params(shared(4)))
    assert (result["changed"], result["plan"], kube.writes()) == (False, [], [])
    assert result["device_plugin"]["configurations"][0]["nodes"][0]["advertised"] == 10
    names = ("Namespace gpuops-nvidia", "ConfigMap nvidia-device-plugin-shared", "DaemonSet nvidia-device-plugin-shared")
    assert warnings == [f"{', '.join(names)}: kept by Argo CD and not changed here; change them where Argo CD takes them from."]


def absent_reads(
    kube: KubeWire,
    plugin: DevicePlugin | None,
    foreign: t.Sequence[Json] = (),
    *,
    pods: t.Sequence[Json] = (),
    nodes: t.Sequence[Json] = (),
) -> KubeWire:
    config_maps, daemon_sets = objects(plugin) if plugin else ([], [])
    kube.cluster().items("/api/v1/namespaces", [live(manifests.namespace(NAMESPACE))] if plugin else [], labelSelector=OURS)
    kube.items("/apis/apps/v1/daemonsets", daemon_sets, labelSelector=OURS)
    kube.items("/api/v1/configmaps", config_maps, labelSelector=OURS)
    for plural in ("rolebindings", "roles"):
        kube.items(f"/apis/rbac.authorization.k8s.io/v1/{plural}", [], labelSelector=OURS)
    kube.items("/api/v1/serviceaccounts", [], labelSelector=OURS)
    kube.items("/api/v1/nodes", nodes).items("/api/v1/pods", pods, labelSelector=OURS)
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


def test_absent_also_takes_what_an_interrupted_run_has_left(kube: KubeWire) -> None:
    """A control daemon without its DaemonSet, and a node that is still cordoned."""
    plugin = wanted(Configuration(name="mps", sharing=Sharing(strategy="mps", replicas=5)))
    orphan = pod("d1", "n1", plugin, plugin.configurations[0], component=manifests.MPS_DAEMON)
    del orphan["metadata"]["ownerReferences"]
    cordoned = node("n1", "mps", 5, annotations={"gpuops.eks/cordoned": "out of MPS"})
    absent_reads(kube, None, pods=[orphan, pod("p1", "n1", plugin, plugin.configurations[0])], nodes=[cordoned, node("n2", "mps", 5)])
    kube.expect("DELETE", f"{PODS}/d1", body=ANY, reply={})
    kube.patch("/api/v1/nodes/n1", {}, body={"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "uid-n1"}})
    kube.get(f"{PODS}/d1", None)
    result = kube.run(main, {"cluster_name": "demo", "state": "absent"})
    assert steps_of(result) == [("delete pods", "d1"), ("patch nodes", "n1")]


def discovery(plugin: DevicePlugin) -> dict[str, list[Json]]:
    """The objects of GPU feature discovery as they are in the cluster, by their plural."""
    plurals = {"ServiceAccount": "serviceaccounts", "Role": "roles", "RoleBinding": "rolebindings"}
    return {plurals[obj["kind"]]: [live(obj)] for obj in manifests.common_objects(plugin, feature_discovery=True)}


DISCOVERY = "gpu-feature-discovery"


def test_absent_removes_what_feature_discovery_has_too(kube: KubeWire) -> None:
    plugin, found = wanted(DEFAULT), discovery(wanted(DEFAULT))
    kube.cluster().items("/api/v1/namespaces", [], labelSelector=OURS)
    sets = [live(obj) for obj in manifests.objects(plugin, DEFAULT, feature_discovery=True)]
    kube.items("/apis/apps/v1/daemonsets", sets[1:], labelSelector=OURS).items("/api/v1/configmaps", sets[:1], labelSelector=OURS)
    for plural in ("rolebindings", "roles"):
        kube.items(f"/apis/rbac.authorization.k8s.io/v1/{plural}", found[plural], labelSelector=OURS)
    kube.items("/api/v1/serviceaccounts", found["serviceaccounts"], labelSelector=OURS)
    kube.items("/api/v1/nodes", []).items("/api/v1/pods", [], labelSelector=OURS)
    result = kube.run(main, {"cluster_name": "demo", "state": "absent"}, check_mode=True)
    assert steps_of(result) == [
        ("delete daemonsets.apps", "nvidia-device-plugin-default"),
        ("delete daemonsets.apps", f"{DISCOVERY}-default"),
        ("delete configmaps", "nvidia-device-plugin-default"),
        ("delete rolebindings.rbac.authorization.k8s.io", DISCOVERY),
        ("delete roles.rbac.authorization.k8s.io", DISCOVERY),
        ("delete serviceaccounts", DISCOVERY),
    ]


def test_feature_discovery_that_is_switched_off_goes_with_all_it_has(kube: KubeWire) -> None:
    plugin, found = wanted(DEFAULT), discovery(wanted(DEFAULT))
    groups(kube.cluster(), "nfd.k8s-sigs.io").get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    config_map, *sets = [live(obj) for obj in manifests.objects(plugin, DEFAULT, feature_discovery=True)]
    kube.items("/apis/apps/v1/daemonsets", sets).items(CONFIG_MAPS, [config_map])
    kube.items(f"{NAMESPACE_PATH}/serviceaccounts", found["serviceaccounts"])
    kube.items(f"{RBAC}/roles", found["roles"]).items(f"{RBAC}/rolebindings", found["rolebindings"])
    kube.items(PODS, [], labelSelector=OURS).items("/api/v1/nodes", [])
    result = kube.run(main, params({"name": "default"}, feature_discovery=False), check_mode=True)
    assert steps_of(result) == [
        ("delete daemonsets.apps", f"{DISCOVERY}-default"),
        ("delete rolebindings.rbac.authorization.k8s.io", DISCOVERY),
        ("delete roles.rbac.authorization.k8s.io", DISCOVERY),
        ("delete serviceaccounts", DISCOVERY),
    ]
    assert {step["reason"] for step in result["plan"]} == {"no longer part of its configuration"}


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
    patched(observe(kube, before), *made(after), dry_run=True)
    result = kube.run(main, params({"name": "default", "flags": {"failOnInitError": "no"}}), check_mode=True)
    assert result["changed"]
    assert kube.writes() == []


def test_without_wait_the_result_is_what_is_seen_right_after(kube: KubeWire) -> None:
    plugin = wanted(sliced(10))
    catalog(observe(kube, None, nodes=[node("n1", "shared", 0)]))
    patched(kube, manifests.namespace(NAMESPACE), *made(plugin))
    kube.items("/api/v1/nodes", [node("n1", "shared", 0)]).items(DAEMON_SETS, objects(plugin, nodes=1)[1], labelSelector=OURS)
    kube.items(PODS, [], labelSelector=OURS)
    result = kube.run(main, params(shared(10), wait=False))
    assert result["device_plugin"]["configurations"][0]["desired_nodes"] == 1
    assert result["device_plugin"]["versions"] == {"installed": ["v0.19.3"], "pinned": "v0.19.3", "newest_known": "v0.20.1"}


def foreign(**container: t.Any) -> Json:
    labels = {"helm.sh/chart": "nvidia-device-plugin-0.17.0"}
    template = {"spec": {"containers": [{"name": "ctr", **container}]}}
    return {"metadata": {"name": "nvdp", "namespace": "kube-system", "labels": labels}, "spec": {"template": template}}


def test_a_foreign_plugin_is_refused_by_name_with_choices(kube: KubeWire) -> None:
    observe(kube, None, others=[foreign(image="nvcr.io/nvidia/k8s-device-plugin:v0.17.0")])
    result = kube.run(main, params({"name": "default"}))
    assert (
        "DaemonSet kube-system/nvdp runs a device plugin that somebody else installed (Helm chart nvidia-device-plugin-0.17.0)"
        in result["msg"]
    )
    for choice in ("replace: true", "another node_selector", "stop"):
        assert choice in result["msg"]
    assert kube.writes() == []


def test_bottlerocket_nodes_that_a_configuration_selects_are_refused_by_name(kube: KubeWire) -> None:
    bottlerocket = node("b1", "default", 1, labels={"nvidia.com/gpu.count": "1"})
    bottlerocket["status"]["nodeInfo"] = {"osImage": "Bottlerocket OS 1.57.0 (aws-k8s-1.33-nvidia)"}
    observe(kube, None, nodes=[bottlerocket])
    result = kube.run(main, params({"name": "default"}))
    assert "Configuration default selects Bottlerocket nodes (b1), which contain a device plugin" in result["msg"]
    assert kube.writes() == []


def test_an_object_of_that_name_without_our_mark_is_refused(kube: KubeWire) -> None:
    stranger = live(manifests.config_map(wanted(DEFAULT), DEFAULT))
    stranger["metadata"]["labels"] = {}
    groups(kube.cluster()).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    listed(kube, [], [stranger], [], [])
    result = kube.run(main, params({"name": "default"}))
    assert f"ConfigMap {NAMESPACE}/nvidia-device-plugin-default exists and is not ours" in result["msg"]


@pytest.mark.parametrize("slices", [True, False])
def test_nodes_of_nvidias_dra_driver_are_refused_by_name(kube: KubeWire, monkeypatch: pytest.MonkeyPatch, slices: bool) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, message: warnings.append(message))
    plugin = wanted(sliced(10))
    there = node("n1", "shared", 10, labels={"nvidia.com/gpu.count": "1"})
    groups(kube.cluster(), "resource.k8s.io").get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    config_maps, daemon_sets = objects(plugin, nodes=1)
    listed(kube, daemon_sets, config_maps, [pod("p1", "n1", plugin, sliced(10))], [there])
    kube.get("/apis/resource.k8s.io/v1/deviceclasses/gpu.nvidia.com", {"metadata": {"name": "gpu.nvidia.com"}})
    found = [{"metadata": {"name": "s"}, "spec": {"driver": "gpu.nvidia.com", "nodeName": "n1"}}] if slices else []
    kube.items("/apis/resource.k8s.io/v1/resourceslices", found, fieldSelector="spec.driver=gpu.nvidia.com")
    result = kube.run(main, params(shared(10)))
    if slices:
        assert "Configuration shared selects nodes of NVIDIA's DRA driver (n1)" in result["msg"]
    else:
        assert "DeviceClass gpu.nvidia.com: NVIDIA's DRA driver is installed." in warnings[0]


@pytest.mark.parametrize(("policy", "refused"), [({"devicePlugin": {"enabled": False}}, False), ({}, True), (None, False)])
def test_a_gpu_operator_that_will_run_its_plugin_is_refused(kube: KubeWire, policy: Json | None, refused: bool) -> None:
    plugin = wanted(sliced(10))
    there = node("n1", "shared", 10, labels={"nvidia.com/gpu.count": "1"})
    groups(kube.cluster(), "nvidia.com").get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    config_maps, daemon_sets = objects(plugin, nodes=1)
    listed(kube, daemon_sets, config_maps, [pod("p1", "n1", plugin, sliced(10))], [there])
    policies = "/apis/nvidia.com/v1/clusterpolicies"
    if policy is None:
        kube.expect("GET", policies, query={"limit": "500"}, status=404, reply={"kind": "Status", "reason": "NotFound", "message": "no"})
    else:
        kube.items(policies, [{"metadata": {"name": "cluster-policy"}, "spec": policy}])
    result = kube.run(main, params(shared(10)))
    assert ("ClusterPolicy cluster-policy: the GPU Operator will run its device plugin on n1" in result.get("msg", "")) is refused


def test_feature_discovery_needs_node_feature_discovery(kube: KubeWire) -> None:
    groups(kube.cluster())
    result = kube.run(main, params({"name": "default"}, feature_discovery=True))
    assert result["faults"][0]["path"] == "feature_discovery"


@pytest.mark.parametrize("asked", [None, True])
def test_feature_discovery_runs_where_it_can(kube: KubeWire, asked: bool | None) -> None:
    groups(kube.cluster(), "nfd.k8s-sigs.io").get(NAMESPACE_PATH, None)
    listed(kube, [], [], [], [], there=False)
    result = kube.run(main, params({"name": "default"}, feature_discovery=asked), check_mode=True)
    assert [target for action, target in steps_of(result) if "daemonsets" in action] == [
        "nvidia-device-plugin-default",
        "gpu-feature-discovery-default",
    ]
    assert result["device_plugin"]["configurations"][0]["feature_discovery_daemon_set"] == "gpu-feature-discovery-default"


def test_a_refused_token_says_what_to_do(kube: KubeWire) -> None:
    groups(kube.cluster()).expect("GET", NAMESPACE_PATH, query=ANY, status=401, reply={"kind": "Status", "message": "Unauthorized"})
    result = kube.run(main, params({"name": "default"}))
    assert "refused the token (401 Unauthorized). Give the identity whose AWS credentials this task uses an access entry" in result["msg"]


def test_a_missing_permission_is_named(kube: KubeWire) -> None:
    message = 'namespaces "gpuops-nvidia" is forbidden: User "ml" cannot get resource "namespaces" in API group "" in the namespace'
    refusal = {"kind": "Status", "reason": "Forbidden", "message": message}
    groups(kube.cluster()).expect("GET", NAMESPACE_PATH, query=ANY, status=403, reply=refusal)
    result = kube.run(main, params({"name": "default"}))
    assert message in result["msg"]
    assert "needs the Kubernetes permission get on namespaces" in result["msg"]
    assert result["error"] == {"action": "kubernetes:get namespaces", "code": "Forbidden"}


def test_an_api_server_that_cannot_be_reached(kube: KubeWire) -> None:
    cause = urllib3.exceptions.ConnectTimeoutError("timed out")
    groups(kube.cluster()).expect("GET", NAMESPACE_PATH, query=ANY, reply=cause)
    result = kube.run(main, params({"name": "default"}))
    assert "cannot be reached: timed out. Check the network, and the cluster's endpoint access" in result["msg"]


CRASH: Json = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [
        {
            "name": "nvidia-device-plugin-ctr",
            "ready": False,
            "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        }
    ],
}
LOG = {"container": "nvidia-device-plugin-ctr", "tailLines": "3", "previous": "true"}


@pytest.mark.parametrize(
    ("status", "reply"), [(200, "starting\nno NVIDIA GPU found\n"), (400, {"kind": "Status", "reason": "BadRequest", "message": "no log"})]
)
def test_a_wait_fails_as_soon_as_it_is_evident_and_says_why_for_each_node(kube: KubeWire, status: int, reply: t.Any) -> None:
    plugin = wanted(sliced(10))
    nodes = [node("good", "shared", 10), node("bad", "shared", 0)]
    pods = [pod("p1", "good", plugin, sliced(10)), pod("p2", "bad", plugin, sliced(10), **CRASH)]
    catalog(observe(kube, plugin, nodes=nodes, pods=pods))
    kube.expect("GET", f"{PODS}/p2/log", query=LOG, status=status, reply=reply)
    result = kube.run(main, params(shared(10)))
    assert result["failed"]
    assert "1 of 2 nodes do not advertise what their configuration says:" in result["msg"]
    (found,) = result["nodes"]
    assert (found["name"], found["expected"], found["advertised"]) == ("bad", 10, 0)
    log = "starting | no NVIDIA GPU found" if status == 200 else "kubernetes:get pods/log: BadRequest: no log."
    assert found["why"] == f"pod p2: CrashLoopBackOff: back-off 40s restarting failed container: ended with 1 Error; its log: {log}"


def test_a_wait_that_takes_too_long_says_why_for_each_node(kube: KubeWire) -> None:
    plugin = wanted(sliced(10))
    nodes = [node("good", "shared", 10), node("bad", "shared", 0)]
    pods = [pod("p1", "good", plugin, sliced(10)), pod("p2", "bad", plugin, sliced(10), phase="Pending")]
    watches(catalog(observe(kube, plugin, nodes=nodes, pods=pods)))
    result = kube.run(main, params(shared(10), wait_timeout=1))
    assert "1 of 2 nodes do not advertise what their configuration says within 1 s:" in result["msg"]
    assert result["nodes"][0]["why"] == "pod p2: Pending"


def test_unknown_gpus_are_a_warning_not_a_failure(kube: KubeWire, wire: Wire) -> None:
    plugin = wanted(sliced(10))
    observe(kube, plugin, nodes=[node("n1", "shared", 20)], pods=[pod("p1", "n1", plugin, sliced(10))])
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
    (params({"name": "x"}, drain="perhaps"), "drain"),
    (params({"name": "x"}, replace=[]), "replace"),
    (params({"name": "x"}, max_unavailable=0), "max_unavailable"),
    (params({"name": "x"}, max_unavailable=-1), "max_unavailable"),
    (params({"name": "x"}, max_unavailable="all"), "max_unavailable"),
]


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("given", "path"), BAD)
def test_bad_input_is_refused_before_any_client(wire: Wire, given: Json, path: str) -> None:
    result = wire.run(main, given)
    assert path in {fault["path"] for fault in result["faults"]}
