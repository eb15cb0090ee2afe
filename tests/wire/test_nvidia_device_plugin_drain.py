# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nvidia_device_plugin through main(): nodes that are drained for another way of sharing, and plugins of others that ours takes over from."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Json
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin, Image
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan import takeover
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin import from_other_configurations, in_order
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import Observed
from ansible_collections.gpuops.eks.plugins.module_utils._plan.transition import moves
from ansible_collections.gpuops.eks.plugins.modules.nvidia_device_plugin import main

from tests.wire.kube import Events, KubeWire
from tests.wire.test_nvidia_device_plugin import (
    CONFIG_MAPS,
    DAEMON_SETS,
    NAMESPACE,
    NAMESPACE_PATH,
    OURS,
    PODS,
    deletion,
    groups,
    listed,
    live,
    made,
    objects,
    observe,
    params,
    patched,
    path_of,
    pod,
    sliced,
    steps_of,
    wanted,
    watches,
)
from tests.wire.test_nvidia_device_plugin import node as _node

UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"
MPS5 = Configuration(name="shared", sharing=Sharing(strategy="mps", replicas=5))
TO_MPS = {"name": "shared", "sharing": {"strategy": "mps", "replicas": 5}}
NONE = Configuration(name="shared")


def node(name: str, advertised: int, **more: t.Any) -> Json:
    return _node(name, "shared", advertised, labels={"nvidia.com/gpu.count": "1"}, **more)


def cordoned(name: str, advertised: int, why: str = "into MPS") -> Json:
    found = node(name, advertised, annotations={"gpuops.eks/cordoned": why})
    return {**found, "spec": {"unschedulable": True}}


def app(name: str, on: str, *, owner: str | None = "ReplicaSet", count: int = 1) -> Json:
    owners = [{"kind": owner, "name": "app", "controller": True}] if owner else []
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "ownerReferences": owners}
    return {"metadata": metadata, "spec": {"nodeName": on, "containers": [{"resources": {"limits": {"nvidia.com/gpu": str(count)}}}]}}


def holders(kube: KubeWire, *pods: Json, node_name: str = "") -> KubeWire:
    """The pods on GPUs, of one node or of all."""
    fields = f"{UNFINISHED},spec.nodeName={node_name}" if node_name else UNFINISHED
    return kube.items("/api/v1/pods", pods, fieldSelector=fields)


def cordon(kube: KubeWire, name: str, why: str) -> KubeWire:
    metadata = {"name": name, "uid": f"uid-{name}", "annotations": {"gpuops.eks/cordoned": why}}
    return kube.patch(
        f"/api/v1/nodes/{name}", {}, body={"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"unschedulable": True}}
    )


def uncordon(kube: KubeWire, name: str) -> KubeWire:
    metadata = {"name": name, "uid": f"uid-{name}"}
    return kube.patch(f"/api/v1/nodes/{name}", {}, body={"apiVersion": "v1", "kind": "Node", "metadata": metadata})


def evicted(kube: KubeWire, name: str, status: int = 201) -> KubeWire:
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": "shop"},
        "deleteOptions": {"preconditions": {"uid": f"uid-{name}"}},
    }
    return kube.expect("POST", f"/api/v1/namespaces/shop/pods/{name}/eviction", body=body, status=status, reply={"kind": "Status"})


def on_node(kube: KubeWire, name: str, *pods: Json, leave: bool = True) -> KubeWire:
    """What is on a node when its turn has come."""
    kube.items("/api/v1/pods", pods, fieldSelector=f"spec.nodeName={name}")
    for one in pods:
        evicted(kube, one["metadata"]["name"])
    gone: Events = [("DELETED", one) for one in pods]
    return kube.watch("/api/v1/pods", gone, fieldSelector=f"spec.nodeName={name}") if pods and leave else kube


def deleted(kube: KubeWire, name: str) -> KubeWire:
    return kube.expect("DELETE", f"{PODS}/{name}", body=deletion(name, "Background"), reply={})


def slow(plugin: DevicePlugin) -> list[Json]:
    return made(plugin, on_delete={"shared"})


def daemon_sets_of(plugin: DevicePlugin, nodes: int) -> Events:
    return [("MODIFIED", obj) for obj in objects(plugin, nodes=nodes)[1]]


def test_into_mps_node_by_node(kube: KubeWire) -> None:
    before, after = wanted(sliced(10)), wanted(MPS5)
    old = [pod(f"old-{name}", name, before, sliced(10)) for name in ("n1", "n2")]
    new = [pod(f"new-{name}", name, after, MPS5) for name in ("n1", "n2")]
    daemons = [pod(f"daemon-{name}", name, after, MPS5, component=manifests.MPS_DAEMON) for name in ("n1", "n2")]
    observe(kube, before, nodes=[node("n1", 10), node("n2", 10)], pods=old)
    holders(kube, app("a", "n1"), app("b", "n2"))
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    on_node(cordon(kube, "n1", "into MPS"), "n1", app("a", "n1"))
    watches(kube, daemon_sets=daemon_sets_of(after, 2))  # for all nodes alike
    deleted(kube, "old-n1").then(PODS, [("DELETED", old[0]), ("ADDED", new[0]), ("ADDED", daemons[0])])
    kube.then("/api/v1/nodes", [("MODIFIED", cordoned("n1", 5))])
    uncordon(kube, "n1")
    on_node(cordon(kube, "n2", "into MPS"), "n2", app("b", "n2"), app("a-again", "n2"))
    deleted(kube, "old-n2").then(PODS, [("DELETED", old[1]), ("ADDED", new[1]), ("ADDED", daemons[1])])
    kube.then("/api/v1/nodes", [("MODIFIED", cordoned("n2", 5))])
    uncordon(kube, "n2")
    sets = [obj for obj in made(after) if obj["kind"] == "DaemonSet"]
    patched(kube, *sets)
    kube.then(DAEMON_SETS, daemon_sets_of(after, 2))
    result = kube.run(main, params(TO_MPS, drain=True))
    assert not result.get("failed"), result
    assert steps_of(result) == [
        ("patch configmaps", "nvidia-device-plugin-shared"),
        ("patch daemonsets.apps", "nvidia-mps-shared"),
        ("patch daemonsets.apps", "nvidia-device-plugin-shared"),
        ("patch nodes", "n1"),
        ("create pods/eviction", "shop/a"),
        ("delete pods", "old-n1"),
        ("patch nodes", "n1"),
        ("patch nodes", "n2"),
        ("create pods/eviction", "shop/b"),
        ("create pods/eviction", "shop/a-again"),
        ("delete pods", "old-n2"),
        ("patch nodes", "n2"),
        ("patch daemonsets.apps", "nvidia-mps-shared"),
        ("patch daemonsets.apps", "nvidia-device-plugin-shared"),
    ]
    assert len(kube.writes()) == len(result["plan"])
    configuration = result["device_plugin"]["configurations"][0]
    assert [(row["name"], row["advertised"]) for row in configuration["nodes"]] == [("n1", 5), ("n2", 5)]
    assert configuration["mps_daemon_set"] == "nvidia-mps-shared"


def mps_node(plugin: DevicePlugin, configuration: Configuration, name: str, suffix: str = "old") -> list[Json]:
    """The plugin's pod and the control daemon on a node."""
    return [
        pod(f"{suffix}-{name}", name, plugin, configuration),
        pod(f"daemon-{suffix}-{name}", name, plugin, configuration, component=manifests.MPS_DAEMON),
    ]


def test_out_of_mps_the_daemons_stay_until_their_node_is_drained(kube: KubeWire) -> None:
    before, after = wanted(MPS5), wanted(NONE)
    old, new = mps_node(before, MPS5, "n1"), pod("new-n1", "n1", after, NONE)
    observe(kube, before, nodes=[node("n1", 5)], pods=old)
    holders(kube, app("a", "n1"), node_name="n1")
    patched(kube, *slow(after), dry_run=True)
    kube.expect("DELETE", f"{DAEMON_SETS}/nvidia-mps-shared", body=deletion("nvidia-mps-shared", "Orphan"), reply={})
    patched(kube, *slow(after))
    on_node(cordon(kube, "n1", "out of MPS"), "n1", app("a", "n1"))
    watches(kube, daemon_sets=[*daemon_sets_of(after, 1), ("DELETED", objects(before)[1][0])])
    deleted(kube, "daemon-old-n1").then(PODS, [("DELETED", old[1])])
    deleted(kube, "old-n1").then(PODS, [("DELETED", old[0]), ("ADDED", new)])
    kube.then("/api/v1/nodes", [("MODIFIED", cordoned("n1", 1, "out of MPS"))])
    uncordon(kube, "n1")
    patched(kube, made(after)[1]).then(DAEMON_SETS, daemon_sets_of(after, 1))
    result = kube.run(main, params({"name": "shared"}, drain=True))
    assert not result.get("failed"), result
    assert steps_of(result) == [
        ("delete daemonsets.apps", "nvidia-mps-shared"),
        ("patch configmaps", "nvidia-device-plugin-shared"),
        ("patch daemonsets.apps", "nvidia-device-plugin-shared"),
        ("patch nodes", "n1"),
        ("create pods/eviction", "shop/a"),
        ("delete pods", "daemon-old-n1"),
        ("delete pods", "old-n1"),
        ("patch nodes", "n1"),
        ("patch daemonsets.apps", "nvidia-device-plugin-shared"),
    ]


def test_other_mps_replicas_restart_the_daemon_and_then_the_plugin(kube: KubeWire) -> None:
    four = Configuration(name="shared", sharing=Sharing(strategy="mps", replicas=4))
    before, after = wanted(MPS5), wanted(four)
    old, new = mps_node(before, MPS5, "n1"), mps_node(after, four, "n1", "new")
    starting = copy.deepcopy(new[1]) | {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}}
    observe(kube, before, nodes=[node("n1", 5)], pods=old)
    holders(kube, node_name="n1")  # nobody holds a GPU there: no consent is needed
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    cordon(kube, "n1", "MPS replicas 5 to 4").items("/api/v1/pods", [], fieldSelector="spec.nodeName=n1")
    watches(kube, daemon_sets=daemon_sets_of(after, 1))
    deleted(kube, "daemon-old-n1").then(PODS, [("DELETED", old[1]), ("ADDED", starting), ("MODIFIED", new[1])])
    deleted(kube, "old-n1").then(PODS, [("DELETED", old[0]), ("ADDED", new[0])])
    kube.then("/api/v1/nodes", [("MODIFIED", cordoned("n1", 4))])
    uncordon(kube, "n1")
    patched(kube, *made(after)[1:]).then(DAEMON_SETS, daemon_sets_of(after, 1))
    result = kube.run(main, params({"name": "shared", "sharing": {"strategy": "mps", "replicas": 4}}))
    assert not result.get("failed"), result
    assert [action for action, _target in steps_of(result)].count("create pods/eviction") == 0


def test_without_consent_nodes_pods_and_the_option_are_named(kube: KubeWire) -> None:
    before = wanted(sliced(10))
    observe(
        kube, before, nodes=[node("n1", 10), node("n2", 10)], pods=[pod(f"p-{name}", name, before, sliced(10)) for name in ("n1", "n2")]
    )
    holders(kube, app("a", "n1"))
    result = kube.run(main, params(TO_MPS))
    assert "1 node has to be drained before GPUs are shared in another way:\nn1: into MPS; holding its GPUs: shop/a" in result["msg"]
    assert "Set drain: true" in result["msg"]
    assert kube.writes() == []


@pytest.mark.parametrize("drain", [True, False])
def test_check_mode_shows_every_step_with_and_without_consent(kube: KubeWire, monkeypatch: pytest.MonkeyPatch, drain: bool) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, message: warnings.append(message))
    before, after = wanted(sliced(10)), wanted(MPS5)
    observe(
        kube,
        before,
        nodes=[node(name, 10) for name in ("n1", "n2", "n3")],
        pods=[pod("old-n1", "n1", before, sliced(10)), pod("old-n2", "n2", before, sliced(10))],
    )
    holders(kube, app("a", "n1"), app("ds", "n2", owner="DaemonSet"))
    patched(kube, *slow(after), dry_run=True)
    result = kube.run(main, params(TO_MPS, drain=drain, max_unavailable=2), check_mode=True)
    assert steps_of(result)[3:] == [
        ("patch nodes", "n1"),
        ("patch nodes", "n2"),
        ("create pods/eviction", "shop/a"),
        ("delete pods", "old-n1"),
        ("delete pods", "old-n2"),
        ("patch nodes", "n1"),
        ("patch nodes", "n2"),
        ("patch daemonsets.apps", "nvidia-mps-shared"),
        ("patch daemonsets.apps", "nvidia-device-plugin-shared"),
    ]
    assert kube.writes() == []
    refused = [text for text in warnings if text.startswith("A run would be refused: 1 node has to be drained")]
    assert len(refused) == (not drain)
    assert "Node n2 (into MPS): shop/ds of a DaemonSet holds GPUs and is not evicted; restart it afterwards." in warnings


@pytest.mark.parametrize("drain", [True, False])
def test_a_pod_without_a_controller_is_refused_before_anything_is_done(kube: KubeWire, drain: bool) -> None:
    before = wanted(sliced(10))
    observe(kube, before, nodes=[node("n1", 10)], pods=[pod("p", "n1", before, sliced(10))])
    holders(kube, app("bare", "n1", owner=None), node_name="n1")
    result = kube.run(main, params(TO_MPS, drain=drain))
    assert "Node n1 cannot be drained (into MPS): pod shop/bare has no controller" in result["msg"]
    assert kube.writes() == []


def test_a_pod_without_a_controller_that_comes_meanwhile_stops_the_run_and_its_node_stays_in_service(kube: KubeWire) -> None:
    before, after = wanted(sliced(10)), wanted(MPS5)
    observe(kube, before, nodes=[node("n1", 10)], pods=[pod("old-n1", "n1", before, sliced(10))])
    holders(kube, node_name="n1")
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    cordon(kube, "n1", "into MPS").items("/api/v1/pods", [app("bare", "n1", owner=None)], fieldSelector="spec.nodeName=n1")
    uncordon(kube, "n1")
    result = kube.run(main, params(TO_MPS, drain=True))
    assert "pod shop/bare has no controller" in result["msg"]
    assert "5 of 8 steps were made; running again goes on from there." in result["msg"]
    assert result["steps_done"] == 5


def test_without_consent_a_pod_that_comes_meanwhile_leaves_its_node_in_service(kube: KubeWire) -> None:
    """Otherwise the next run would be refused before it could give the node back."""
    before, after = wanted(sliced(10)), wanted(MPS5)
    observe(kube, before, nodes=[node("n1", 10)], pods=[pod("old-n1", "n1", before, sliced(10))])
    holders(kube, node_name="n1")
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    cordon(kube, "n1", "into MPS").items("/api/v1/pods", [app("late", "n1")], fieldSelector="spec.nodeName=n1")
    uncordon(kube, "n1")
    result = kube.run(main, params(TO_MPS))
    assert "n1: into MPS; holding its GPUs: shop/late" in result["msg"]
    assert kube.writes()[-1] == ("PATCH", "/api/v1/nodes/n1")


def test_a_disruption_budget_that_forbids_it_for_too_long_ends_the_run_in_the_servers_words(kube: KubeWire) -> None:
    before, after = wanted(sliced(10)), wanted(MPS5)
    observe(kube, before, nodes=[node("n1", 10)], pods=[pod("old-n1", "n1", before, sliced(10))])
    holders(kube, app("a", "n1"), node_name="n1")
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    cordon(kube, "n1", "into MPS").items("/api/v1/pods", [app("a", "n1")], fieldSelector="spec.nodeName=n1")
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    refusal = {"kind": "Status", "reason": "TooManyRequests", "message": message}
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "a", "namespace": "shop"},
        "deleteOptions": {"preconditions": {"uid": "uid-a"}},
    }
    for _attempt in range(2):
        kube.expect("POST", "/api/v1/namespaces/shop/pods/a/eviction", body=body, status=429, reply=refusal)
    result = kube.run(main, params(TO_MPS, drain=True, wait_timeout=1, wait_interval=1.01))
    assert "Pod shop/a could not be evicted within 1 s: Cannot evict pod as it would violate the pod's disruption budget." in result["msg"]
    assert f"Pod shop/a: waiting to evict it: {message.rstrip('.')}" in result["progress"]
    assert (result["steps_done"], len(result["plan"])) == (4, 9)
    assert [step["action"] for step in result["plan"][4:6]] == ["kubernetes:create pods/eviction", "kubernetes:delete pods"]


def test_pods_that_do_not_go_are_named(kube: KubeWire) -> None:
    before, after = wanted(sliced(10)), wanted(MPS5)
    observe(kube, before, nodes=[node("n1", 10)], pods=[pod("old-n1", "n1", before, sliced(10))])
    holders(kube, app("a", "n1"), node_name="n1")
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    on_node(cordon(kube, "n1", "into MPS"), "n1", app("a", "n1"), leave=False)
    kube.watch("/api/v1/pods", fieldSelector="spec.nodeName=n1")
    result = kube.run(main, params(TO_MPS, drain=True, wait_timeout=1))
    assert "Pods on GPUs are still there after 1 s: shop/a." in result["msg"]
    assert "Node n1: waiting until 1 pod has left its GPUs" in result["progress"]


def test_pods_that_come_to_a_cordoned_node_end_the_run(kube: KubeWire) -> None:
    before, after = wanted(sliced(10)), wanted(MPS5)
    observe(kube, before, nodes=[node("n1", 10)], pods=[pod("old-n1", "n1", before, sliced(10))])
    holders(kube, app("a", "n1"), node_name="n1")
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    on_node(cordon(kube, "n1", "into MPS"), "n1", app("a", "n1"), leave=False)
    kube.watch("/api/v1/pods", [("ADDED", app("b", "n1")), ("DELETED", app("a", "n1"))], fieldSelector="spec.nodeName=n1")
    result = kube.run(main, params(TO_MPS, drain=True))
    assert "Node n1 is cordoned (into MPS), but pods with GPUs come to it: shop/b. They tolerate every taint" in result["msg"]
    assert (result["steps_done"], len(result["plan"])) == (5, 9)


def test_a_node_that_cannot_come_back_ends_the_run_before_the_next_one(kube: KubeWire) -> None:
    before, after = wanted(sliced(10)), wanted(MPS5)
    old = [pod(f"old-{name}", name, before, sliced(10)) for name in ("n1", "n2")]
    observe(kube, before, nodes=[node("n1", 10), node("n2", 10)], pods=old)
    holders(kube)
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    cordon(kube, "n1", "into MPS").items("/api/v1/pods", [], fieldSelector="spec.nodeName=n1")
    watches(kube, daemon_sets=daemon_sets_of(after, 2))
    waiting = {"name": "mps-control-daemon-ctr", "ready": False, "state": {"waiting": {"reason": "InvalidImageName", "message": "bad"}}}
    broken = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [waiting]}
    daemon = pod("d", "n1", after, MPS5, component=manifests.MPS_DAEMON, **broken)
    deleted(kube, "old-n1").then(PODS, [("DELETED", old[0]), ("ADDED", pod("new", "n1", after, MPS5)), ("ADDED", daemon)])
    result = kube.run(main, params(TO_MPS))
    assert "1 of 2 nodes do not advertise what their configuration says:" in result["msg"]
    assert result["nodes"][0]["why"] == "pod d: InvalidImageName: bad"
    assert "5 of 11 steps were made; running again goes on from there." in result["msg"]


def test_an_interrupted_run_goes_on_where_it_stopped(kube: KubeWire) -> None:
    """n1 is through but for its cordon, n2 has been cordoned alone, and a node that nobody wants any more is let go."""
    before, after = wanted(sliced(10)), wanted(MPS5)
    done, old = mps_node(after, MPS5, "n1", "new"), pod("old-n2", "n2", before, sliced(10))
    config_maps = [live(made(after)[0])]
    sets = [live(obj, nodes=2) for obj in slow(after)[1:]]
    stray = _node("n3", "other", 10, annotations={"gpuops.eks/cordoned": "out of MPS"})
    groups(kube.cluster()).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    listed(kube, sets, config_maps, [*done, old], [cordoned("n1", 5), cordoned("n2", 10), stray])
    holders(kube, app("b", "n2"), node_name="n2")
    uncordon(uncordon(kube, "n1"), "n3")
    on_node(kube, "n2", app("b", "n2"))
    made_again: Events = [("ADDED", one) for one in mps_node(after, MPS5, "n2", "new")]
    deleted(kube, "old-n2")
    watches(kube, [("MODIFIED", cordoned("n2", 5))], (), [("DELETED", old), *made_again])
    uncordon(kube, "n2")
    patched(kube, *made(after)[1:]).then(DAEMON_SETS, daemon_sets_of(after, 2))
    result = kube.run(main, params(TO_MPS, drain=True))
    assert not result.get("failed"), result
    assert [action for action, _target in steps_of(result)] == [
        "patch nodes",
        "patch nodes",
        "create pods/eviction",
        "delete pods",
        "patch nodes",
        "patch daemonsets.apps",
        "patch daemonsets.apps",
    ]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (MPS5, Sharing(strategy="mps", replicas=5), "both share by MPS, whose control daemons would restart under running pods"),
        (MPS5, Sharing(), "shares in another way: give b the sharing that shared has"),
        (sliced(10), Sharing(strategy="time_slicing", replicas=10), ""),
    ],
)
def test_another_configuration_takes_over_without_touching_pods_or_says_what_helps(
    before: Configuration, after: Sharing, says: str
) -> None:
    plugin = DevicePlugin(namespace=NAMESPACE, image=Image(), configurations=(Configuration(name="b", sharing=after),))
    labels = {"nvidia.com/device-plugin.config": "b", "nvidia.com/gpu.count": "1"}
    seen = Node(name="n1", labels=labels, annotations={"gpuops.eks/cordoned": "an interrupted run"})
    pods = mps_node(wanted(before), before, "n1")[: 2 if before is MPS5 else 1]
    design = Design.of(plugin, feature_discovery=False)
    found = from_other_configurations(moves(in_order(design, Observed(nodes=(seen,), pods=tuple(pods)), {}), {}))
    assert len(found) == bool(says)
    assert all(text.startswith("Configuration b takes over n1 from shared and ") and says in text for text in found)


FEWER = {"name": "shared", "sharing": {"strategy": "time_slicing", "replicas": 4}}
HELD5 = "its pods hold 5 nvidia.com/gpu, of which it will have 4"


@pytest.mark.parametrize("check_mode", [False, True])
def test_fewer_shares_go_on_where_a_run_was_ended_after_the_evictions(kube: KubeWire, check_mode: bool) -> None:
    """n1 was cordoned and its pods have left; nothing but the cordon says that its plugin still waits for a restart."""
    before, after = wanted(sliced(10)), wanted(sliced(4))
    old, new = pod("old-n1", "n1", before, sliced(10)), pod("new-n1", "n1", after, sliced(4))
    groups(kube.cluster()).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    listed(kube, [live(slow(after)[1], nodes=1)], [live(slow(after)[0])], [old], [cordoned("n1", 10, HELD5)])
    holders(kube, node_name="n1")
    if not check_mode:
        on_node(kube, "n1")
        deleted(kube, "old-n1")
        watches(kube, [("MODIFIED", cordoned("n1", 4, HELD5))], (), [("DELETED", old), ("ADDED", new)])
        uncordon(kube, "n1")
        patched(kube, made(after)[1]).then(DAEMON_SETS, daemon_sets_of(after, 1))
    result = kube.run(main, params(FEWER), check_mode=check_mode)
    assert not result.get("failed"), result
    assert steps_of(result) == [("delete pods", "old-n1"), ("patch nodes", "n1"), ("patch daemonsets.apps", "nvidia-device-plugin-shared")]


def test_a_node_that_does_not_come_right_stays_cordoned_and_stops_no_other(kube: KubeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, message: warnings.append(message))
    plugin = wanted(sliced(4))
    nodes = [cordoned("n1", 4, HELD5), cordoned("n2", 4, HELD5)]
    nodes[0]["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    observe(kube, plugin, nodes=nodes, pods=[pod(f"p-{name}", name, plugin, sliced(4)) for name in ("n1", "n2")])
    uncordon(kube, "n2")
    watches(kube)
    result = kube.run(main, params(FEWER, wait=False, wait_timeout=1))
    assert not result.get("failed"), result
    assert kube.writes() == [("PATCH", "/api/v1/nodes/n2")]
    assert steps_of(result) == [("patch nodes", "n2")]
    assert [text.partition(":")[0] for text in warnings] == [
        "Cordoned by an interrupted run, and left so until they share their GPUs as wanted"
    ]
    assert "node is not Ready" in warnings[0]


def test_mps_does_not_start_under_pods_that_another_plugin_gave_gpus_to(kube: KubeWire) -> None:
    observe(kube, None, nodes=[node("n1", 1), node("n2", 1)])
    holders(kube, app("a", "n1"))
    result = kube.run(main, params(TO_MPS))
    assert "1 node has to be drained before GPUs are shared in another way:\nn1: into MPS; holding its GPUs: shop/a" in result["msg"]
    assert kube.writes() == []


def test_a_node_that_goes_away_meanwhile_is_left_out(kube: KubeWire) -> None:
    before, after = wanted(sliced(10)), wanted(sliced(4))
    old = [pod(f"old-{name}", name, before, sliced(10)) for name in ("n1", "n2")]
    new = pod("new-n1", "n1", after, sliced(4))
    why = "its pods hold 5 nvidia.com/gpu, of which it will have 4"
    observe(kube, before, nodes=[node("n1", 10), node("n2", 10)], pods=old)
    apps = {name: [app(f"{name}-{index}", name) for index in range(5)] for name in ("n1", "n2")}
    holders(kube, *apps["n1"], *apps["n2"])
    patched(patched(kube, *slow(after), dry_run=True), *slow(after))
    on_node(cordon(kube, "n1", why), "n1", *apps["n1"])
    watches(kube, [("DELETED", node("n2", 10))], daemon_sets_of(after, 1), [("DELETED", old[1])])
    deleted(kube, "old-n1").then(PODS, [("DELETED", old[0]), ("ADDED", new)])
    kube.then("/api/v1/nodes", [("MODIFIED", cordoned("n1", 4))])
    uncordon(kube, "n1")
    patched(kube, made(after)[1]).then(DAEMON_SETS, daemon_sets_of(after, 1))
    result = kube.run(main, params({"name": "shared", "sharing": {"strategy": "time_slicing", "replicas": 4}}, drain=True))
    assert not result.get("failed"), result
    assert "n2" not in [target for _action, target in steps_of(result)]


HELM = {"meta.helm.sh/release-name": "nvdp", "meta.helm.sh/release-namespace": "kube-system"}


def theirs(name: str = "nvdp", *, program: str = "nvidia-device-plugin", desired: int = 2, **more: t.Any) -> Json:
    """A DaemonSet of NVIDIA's chart."""
    metadata = {
        "name": name,
        "namespace": "kube-system",
        "uid": f"uid-{name}",
        "labels": {"helm.sh/chart": "nvidia-device-plugin-0.17.0"},
        "annotations": HELM,
    }
    container = {"name": "ctr", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0", "command": [program]}
    selector = {"matchLabels": {"app.kubernetes.io/name": "nvidia-device-plugin", "app.kubernetes.io/instance": "nvdp"}}
    spec = {"selector": selector, "template": {"spec": {"containers": [container]}}}
    return {"metadata": metadata | more, "spec": spec, "status": {"desiredNumberScheduled": desired}}


def their_pod(name: str, on: str, program: str = "nvidia-device-plugin") -> Json:
    owner = {"kind": "DaemonSet", "name": "nvdp", "controller": True}
    metadata = {"name": name, "namespace": "kube-system", "uid": f"uid-{name}", "ownerReferences": [owner]}
    helper = {"name": "sidecar", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0", "command": ["config-manager"]}
    return {"metadata": metadata, "spec": {"nodeName": on, "containers": [helper, {"name": "ctr", "command": [program]}]}}


SELECTOR = "app.kubernetes.io/instance=nvdp,app.kubernetes.io/name=nvidia-device-plugin"
THEIR_PODS = "/api/v1/namespaces/kube-system/pods"
THEIR_SETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
TEN = {"name": "shared", "sharing": {"strategy": "time_slicing", "replicas": 10}}


def going(kube: KubeWire, *daemon_sets: Json) -> KubeWire:
    """Others of the chart are deleted, and waited for: the second look finds nothing."""
    for one in daemon_sets:
        name = one["metadata"]["name"]
        kube.expect("DELETE", f"{THEIR_SETS}/{name}", body=deletion(name), reply={})
    for one in daemon_sets:
        path = f"{THEIR_SETS}/{one['metadata']['name']}"
        kube.get(path, one).get(path, None)
    return kube.expect("DELETE", f"{THEIR_SETS}/nvdp", body=deletion("nvdp", "Orphan"), reply={})


def waiting_for_theirs(plugin: DevicePlugin) -> list[Json]:
    config_map, daemon_set = slow(plugin)
    return [config_map, takeover.kept_off(daemon_set, [theirs()])]


def test_ours_takes_over_node_by_node_and_no_workload_is_touched(kube: KubeWire, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, message: warnings.append(message))
    after = wanted(sliced(10))
    new = [pod(f"new-{name}", name, after, sliced(10)) for name in ("n1", "n2")]
    others = [theirs("nvdp-mps", program="mps-control-daemon", desired=0), theirs("nvdp-gfd", program="gpu-feature-discovery")]
    observe(kube, None, nodes=[node("n1", 1), node("n2", 1)], others=[theirs(), *others])
    discovery = [their_pod(f"gfd-{name}", name, "gpu-feature-discovery") for name in ("n1", "n2")]
    kube.items(THEIR_PODS, [their_pod("t1", "n1"), their_pod("t2", "n2"), *discovery], labelSelector=SELECTOR)
    patched(kube, manifests.namespace(NAMESPACE), *waiting_for_theirs(after))
    going(kube, *others)
    kube.expect("DELETE", f"{THEIR_PODS}/t1", body=deletion("t1", "Background"), reply={})
    kube.items(PODS, [], labelSelector=OURS)
    watches(kube, [("MODIFIED", node("n1", 10))], daemon_sets_of(after, 2), [("ADDED", new[0])])
    kube.expect("DELETE", f"{THEIR_PODS}/t2", body=deletion("t2", "Background"), reply={})
    kube.then(PODS, [("ADDED", new[1])]).then("/api/v1/nodes", [("MODIFIED", node("n2", 10))])
    patched(kube, made(after)[1]).then(DAEMON_SETS, daemon_sets_of(after, 2))
    result = kube.run(main, params(TEN, replace=True))
    assert not result.get("failed"), result
    assert [(action, target.removeprefix("kube-system/")) for action, target in steps_of(result)] == [
        ("patch namespaces", NAMESPACE),
        ("patch configmaps", "nvidia-device-plugin-shared"),
        ("patch daemonsets.apps", "nvidia-device-plugin-shared"),
        ("delete daemonsets.apps", "nvdp-mps"),
        ("delete daemonsets.apps", "nvdp-gfd"),
        ("delete daemonsets.apps", "nvdp"),
        ("delete pods", "t1"),
        ("delete pods", "t2"),
        ("patch daemonsets.apps", "nvidia-device-plugin-shared"),
    ]
    assert any("'helm uninstall nvdp -n kube-system' removes what is left of it" in text for text in warnings)
    assert any("DaemonSet kube-system/nvdp-gfd (GPU feature discovery) has the selector of the plugin" in text for text in warnings)


def test_a_check_shows_the_others_of_the_chart_before_its_plugin_and_the_pods_that_are_left(kube: KubeWire) -> None:
    """The plugin's pod on a node without a GPU has nobody who would ever delete it."""
    mps, leaving = theirs("nvdp-mps", program="mps-control-daemon", desired=0), theirs("nvdp-gfd", program="gpu-feature-discovery")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    apart = theirs("older-mps", program="mps-control-daemon", desired=0)
    apart["spec"]["selector"] = {"matchLabels": {"app": "mps"}}
    general = _node("cpu", "none", 0, labels={"nvidia.com/gpu.present": "false", "node.kubernetes.io/instance-type": "m5.large"})
    observe(kube, None, nodes=[node("n1", 1), general], others=[apart, mps, leaving, theirs()])
    pods = [their_pod("t0", "cpu"), their_pod("t1", "n1"), their_pod("g1", "n1", "gpu-feature-discovery")]
    kube.items(THEIR_PODS, pods, labelSelector=SELECTOR)
    result = kube.run(main, params(TEN, replace=True), check_mode=True)
    assert not result.get("failed"), result
    assert [target.removeprefix("kube-system/") for action, target in steps_of(result) if "delete" in action] == [
        *("nvdp-mps", "nvdp", "t1", "older-mps", "t0")
    ]
    assert kube.writes() == []


def test_the_plugin_stays_while_another_daemon_set_with_its_selector_does(kube: KubeWire) -> None:
    after = wanted(sliced(10))
    mps = theirs("nvdp-mps", program="mps-control-daemon", desired=0)
    observe(kube, None, nodes=[node("n1", 1)], others=[theirs(), mps])
    kube.items(THEIR_PODS, [their_pod("t1", "n1")], labelSelector=SELECTOR)
    patched(kube, manifests.namespace(NAMESPACE), *waiting_for_theirs(after))
    kube.expect("DELETE", f"{THEIR_SETS}/nvdp-mps", body=deletion("nvdp-mps"), reply={})
    going_still = mps | {"metadata": mps["metadata"] | {"finalizers": ["foregroundDeletion"]}}
    kube.get(f"{THEIR_SETS}/nvdp-mps", going_still).get(f"{THEIR_SETS}/nvdp-mps", going_still)
    result = kube.run(main, params(TEN, replace=True, wait=False, wait_timeout=1, wait_interval=1.01))
    assert "DaemonSet kube-system/nvdp-mps is still there" in result["msg"]
    assert "kube-system/nvdp" in [step["target"] for step in result["plan"][result["steps_done"] :]]


@pytest.mark.parametrize("replace", [True, False])
def test_a_takeover_that_was_interrupted_goes_on(kube: KubeWire, replace: bool) -> None:
    """Their DaemonSet is gone: ours says whose pods it waits for."""
    after = wanted(sliced(10))
    new = [pod(f"new-{name}", name, after, sliced(10)) for name in ("n1", "n2")]
    config_map, daemon_set = waiting_for_theirs(after)
    groups(kube.cluster()).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    listed(kube, [live(daemon_set, nodes=2)], [live(config_map)], [new[0]], [node("n1", 10), node("n2", 1)])
    orphan = their_pod("t2", "n2")
    del orphan["metadata"]["ownerReferences"]
    kube.items(THEIR_PODS, [orphan], labelSelector=SELECTOR)
    kube.expect("DELETE", f"{THEIR_PODS}/t2", body=deletion("t2", "Background"), reply={})
    watches(kube, [("MODIFIED", node("n2", 10))], (), [("ADDED", new[1])])
    patched(kube, made(after)[1]).then(DAEMON_SETS, daemon_sets_of(after, 2))
    result = kube.run(main, params({"name": "shared", "sharing": {"strategy": "time_slicing", "replicas": 10}}, replace=replace))
    assert not result.get("failed"), result
    assert [action for action, _target in steps_of(result)] == ["delete pods", "patch daemonsets.apps"]


def test_the_end_of_a_takeover_that_was_interrupted_is_made(kube: KubeWire) -> None:
    """All their pods are gone, our DaemonSet still keeps off from them."""
    after = wanted(sliced(10))
    config_map, daemon_set = waiting_for_theirs(after)
    groups(kube.cluster()).get(NAMESPACE_PATH, live(manifests.namespace(NAMESPACE)))
    listed(kube, [live(daemon_set)], [live(config_map)], [], [])
    kube.items(THEIR_PODS, [], labelSelector=SELECTOR)
    patched(patched(kube, made(after)[1], dry_run=True), made(after)[1])
    watches(kube, daemon_sets=daemon_sets_of(after, 0))
    result = kube.run(main, params({"name": "shared", "sharing": {"strategy": "time_slicing", "replicas": 10}}))
    assert result["plan"][0]["fields"][1:2] == ["spec.template.spec.affinity.podAntiAffinity"]
    assert path_of(made(after)[0]) == f"{CONFIG_MAPS}/nvidia-device-plugin-shared"
