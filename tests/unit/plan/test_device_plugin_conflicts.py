# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands in the way of our device plugin: by which evidence, and what the user can choose."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin, Image
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Hardware, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import CONFIG_MAP
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_conflicts, takeover
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design
from ansible_collections.gpuops.eks.plugins.module_utils._plan.device_plugin_observed import Observed

Json = dict[str, t.Any]

CONFIG = "nvidia.com/device-plugin.config"
CATALOG = {"g5.2xlarge": Hardware(gpus=1, model="a10g"), "p3.2xlarge": Hardware(gpus=1, model="v100"), "g5.48xlarge": Hardware(gpus=8)}


def design(*configurations: Configuration, **more: t.Any) -> Design:
    plugin = DevicePlugin(**{"namespace": "gpu", "image": Image(), "configurations": configurations, **more})
    return Design.of(plugin, feature_discovery=False)


def configuration(strategy: t.Any = "time_slicing", replicas: int = 10, name: str = "a") -> Configuration:
    sharing = Sharing() if strategy == "none" else Sharing(strategy=strategy, replicas=replicas)
    return Configuration(name=name, sharing=sharing)


def node(name: str = "n1", config: str = "a", kind: str = "g5.2xlarge", **more: t.Any) -> Node:
    labels = {"node.kubernetes.io/instance-type": kind, "nvidia.com/gpu.present": "true", CONFIG: config, **more.pop("labels", {})}
    return Node(name=name, labels=labels, **more)


def foreign(name: str = "nvdp", *, program: str = "nvidia-device-plugin", spec: Json | None = None, **metadata: t.Any) -> Json:
    container = {"name": "ctr", "image": "nvcr.io/nvidia/k8s-device-plugin:v0.17.0", "command": [program]}
    template = {"spec": {"containers": [container], **(spec or {})}}
    selector = {"matchLabels": {"name": "ds"}}
    return {"metadata": {"name": name, "namespace": "kube-system", **metadata}, "spec": {"selector": selector, "template": template}}


def reasons(wanted: Design, *daemon_sets: Json, nodes: t.Sequence[Node] = (), replace: bool = False, **more: t.Any) -> list[str]:
    observed = Observed(daemon_sets=daemon_sets, nodes=tuple(nodes), **more)
    return device_plugin_conflicts.conflicts(wanted, observed, CATALOG, replace=replace)


OWNED: Json = {"ownerReferences": [{"kind": "ClusterPolicy", "name": "cluster-policy", "controller": True}]}
OTHERS: Json = {"ownerReferences": [{"kind": "GpuStack", "name": "mine", "controller": True}]}
ARGO: Json = {"annotations": {"argocd.argoproj.io/tracking-id": "x"}}
HELM: Json = {"labels": {"helm.sh/chart": "nvidia-device-plugin-0.17.0"}}


@pytest.mark.parametrize(
    ("metadata", "replace", "words"),
    [
        (HELM, False, ["(Helm chart nvidia-device-plugin-0.17.0)", "Set replace: true", "another node_selector", "stop"]),
        ({"name": "nvidia-device-plugin-daemonset"}, False, ["NVIDIA's static manifest, as eksctl applies it", "Set replace: true"]),
        ({}, False, ["DaemonSet kube-system/nvdp runs a device plugin that somebody else installed: two plugins"]),
        (HELM, True, []),
        ({"name": "nvidia-device-plugin-daemonset"}, True, []),
        (OWNED, True, ["(ClusterPolicy cluster-policy)", "devicePlugin.enabled: false", "gpu.deploy.device-plugin=false", "gpu_operator"]),
        (OTHERS, True, ["GpuStack mine would make it again", "another node_selector"]),
        (ARGO, True, ["Argo CD would put it back", "another node_selector"]),
    ],
)
def test_a_plugin_of_somebody_else_and_what_to_choose(metadata: Json, replace: bool, words: list[str]) -> None:
    found = reasons(design(configuration()), foreign(**metadata), nodes=[node(allocatable={"nvidia.com/gpu": 1})], replace=replace)
    assert bool(found) is bool(words)
    assert [word for word in words if word not in "".join(found)] == []


SELECTED: Json = {"nodeSelector": {"pool": "b"}}
AFFINITY: Json = {
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "nvidia.com/gpu.present", "operator": "In", "values": ["true"]}]}]
            }
        }
    }
}


@pytest.mark.parametrize(
    ("spec", "nodes", "in_the_way"),
    [
        ({}, [node()], True),
        ({}, [], True),
        (AFFINITY, [], True),
        (SELECTED, [node()], False),
        (SELECTED, [], False),
        (SELECTED, [node(labels={"pool": "b"})], True),
        (SELECTED, [node(config="other", labels={"pool": "b"})], False),
    ],
)
def test_a_plugin_on_other_nodes_is_not_in_the_way(spec: Json, nodes: list[Node], in_the_way: bool) -> None:
    assert bool(reasons(design(configuration()), foreign(spec=spec), nodes=nodes)) is in_the_way


@pytest.mark.parametrize(
    ("wanted", "others", "nodes", "words"),
    [
        (configuration("mps", 5), [], [node()], "MPS (configuration a) cannot start under running pods"),
        (
            configuration(),
            [],
            [node(), node("n2", "other", allocatable={"nvidia.com/gpu": 1})],
            "it also serves n2, which no configuration",
        ),
        (configuration(), [], [node(), node("n2", "other", kind="m5.large", labels={"nvidia.com/gpu.present": "false"})], ""),
        (configuration("none"), [], [node(allocatable={"nvidia.com/gpu": 10})], "node n1 advertises nvidia.com/gpu 10, more than"),
        (configuration(), [], [node(allocatable={"nvidia.com/gpu": 10})], ""),
        (configuration(), [], [node(allocatable={"nvidia.com/gpu.shared": 10})], "node n1 advertises nvidia.com/gpu.shared 10, more than"),
        (configuration(), [5], [node()], "its MPS control daemon (kube-system/mps) serves running pods"),
        (configuration(), [0], [node()], ""),
    ],
)
def test_what_cannot_be_taken_over_without_restarting_a_pod(
    wanted: Configuration, others: list[int], nodes: list[Node], words: str
) -> None:
    release: Json = {"annotations": {"meta.helm.sh/release-name": "nvdp", "meta.helm.sh/release-namespace": "kube-system"}}
    daemons = [{**foreign("mps", program="mps-control-daemon", **release), "status": {"desiredNumberScheduled": count}} for count in others]
    found = reasons(design(wanted), foreign(**release), *daemons, nodes=nodes, replace=True)
    assert [words in text for text in found] == ([True] if words else [])


@pytest.mark.parametrize(
    ("labels", "policy", "refused"),
    [
        ({}, {}, True),
        ({}, {"devicePlugin": {"enabled": True}}, True),
        ({}, {"devicePlugin": {"enabled": False}}, False),
        ({"nvidia.com/gpu.deploy.operands": "false"}, {}, False),
        ({"nvidia.com/gpu.deploy.device-plugin": "false"}, {}, False),
        ({CONFIG: "other"}, {}, False),
    ],
)
def test_a_gpu_operator_on_our_nodes(labels: dict[str, str], policy: Json, refused: bool) -> None:
    found = reasons(design(configuration()), nodes=[node(labels=labels)], cluster_policies=({"metadata": {"name": "p"}, "spec": policy},))
    assert ["ClusterPolicy p: the GPU Operator will run its device plugin on n1" in text for text in found] == [True] * refused


def test_an_operator_whose_plugin_runs_is_named_once() -> None:
    policy = ({"metadata": {"name": "p"}, "spec": {}},)
    (text,) = reasons(design(configuration()), foreign(**OWNED), nodes=[node()], cluster_policies=policy, replace=True)
    assert text.startswith("DaemonSet kube-system/nvdp runs a device plugin that somebody else installed (ClusterPolicy cluster-policy)")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (node(os_image="Bottlerocket OS 1.57.0"), "selects Bottlerocket nodes (n1), which contain a device plugin"),
        (
            node(labels={"eks.amazonaws.com/compute-type": "auto"}),
            "selects EKS Auto Mode nodes (n1), which have a device plugin that nobody",
        ),
        (node("dra"), "selects nodes of NVIDIA's DRA driver (dra), which hand out GPUs by ResourceSlices"),
    ],
)
def test_nodes_whose_gpus_somebody_else_hands_out(found: Node, words: str) -> None:
    (text,) = reasons(design(configuration()), nodes=[found], dra_nodes=frozenset({"dra"}), replace=True)
    assert f"Configuration a {words}" in text
    assert "another node_selector" in text


@pytest.mark.parametrize(
    ("kind", "replicas", "most"),
    [("p3.2xlarge", 16, None), ("p3.2xlarge", 17, 16), ("g4dn.xlarge", 48, None), ("g5.2xlarge", 48, None), ("x9.large", 48, None)],
)
def test_mps_clients_of_an_older_gpu(kind: str, replicas: int, most: int | None) -> None:
    found = reasons(design(configuration("mps", replicas)), nodes=[node(kind=kind)])
    assert [f"MPS takes at most {most} replicas on Tesla-V100-SXM2-16GB" in text for text in found] == [True] * (most is not None)
    assert reasons(design(configuration("time_slicing", replicas)), nodes=[node(kind=kind)]) == []


@pytest.mark.parametrize(
    ("strategy", "replicas", "kind", "pods", "warned"),
    [
        ("time_slicing", 29, "g5.2xlarge", 29, False),
        ("time_slicing", 30, "g5.2xlarge", 29, True),
        ("time_slicing", 10, "g5.48xlarge", 50, True),
        ("time_slicing", 10, "g5.48xlarge", None, False),
        ("time_slicing", 10, "x9.large", 5, False),
        ("none", 1, "g5.48xlarge", 4, False),
    ],
)
def test_more_shares_than_pods_is_a_warning(strategy: str, replicas: int, kind: str, pods: int | None, warned: bool) -> None:
    wanted, observed = design(configuration(strategy, replicas)), Observed(nodes=(node(kind=kind, pods=pods),))
    found = device_plugin_conflicts.pod_limits(wanted, observed, CATALOG)
    assert [f"but n1 can run {pods} pods" in text for text in found] == [True] * warned


@pytest.mark.parametrize(
    ("entry", "replace", "refused"),
    [
        ({"manager": "argocd-controller", "operation": "Apply"}, False, True),
        ({"manager": "argocd-controller", "operation": "Apply"}, True, False),
        ({"manager": "gpuops.eks", "operation": "Apply"}, False, False),
        ({"manager": "kubectl-edit", "operation": "Update"}, False, False),
        ({"manager": "kube-controller-manager", "operation": "Update", "subresource": "status"}, False, False),
    ],
)
def test_another_tool_that_applies_our_objects(entry: Json, replace: bool, refused: bool) -> None:
    wanted = design(configuration())
    live = manifests.config_map(wanted.plugin, wanted.plugin.configurations[0])
    live["metadata"]["managedFields"] = [entry]
    found = reasons(wanted, namespace={"metadata": {"name": "gpu"}}, others={CONFIG_MAP: (live,)}, replace=replace)
    assert ["applied by the field manager argocd-controller too" in text for text in found] == [True] * refused


def test_our_daemon_set_says_whom_it_waits_for() -> None:
    wanted = design(configuration())
    ours = manifests.daemon_set(wanted.plugin, wanted.plugin.configurations[0])
    assert takeover.held_by(ours) == []
    (found,) = takeover.held_by(takeover.kept_off(ours, [foreign()]))
    assert (takeover.pods_selector(found), found["metadata"]["namespace"]) == ("name=ds", "kube-system")
    assert "podAntiAffinity" not in ours["spec"]["template"]["spec"]["affinity"]


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, "a in (1,2)"),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}, {"key": "b", "operator": "Exists"}]}, "a notin (1),b"),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, "a=1,!b"),
    ],
)
def test_selectors_of_pods_as_a_list_takes_them(selector: Json, text: str) -> None:
    assert takeover.pods_selector({"spec": {"selector": selector}}) == text
