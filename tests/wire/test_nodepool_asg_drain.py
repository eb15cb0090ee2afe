# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_gpu_nodepool through main(): nodes of Auto Scaling groups are drained before their group is pruned."""

from __future__ import annotations

import copy
import typing as t

import pytest
import urllib3
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Json
from ansible_collections.gpuops.eks.plugins.module_utils._run import nodepool, nodepool_asg
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Run
from ansible_collections.gpuops.eks.plugins.modules.eks_gpu_nodepool import main

from tests.wire import test_nodepool_asg as groups
from tests.wire.harness import Wire
from tests.wire.kube import SERVER, KubeWire

NAME, PROFILE, BY_OWNER, NAMED = groups.NAME, groups.PROFILE, groups.BY_OWNER, groups.NAMED
KUBERNETES = {"host": SERVER, "api_key": "a-token-of-this-test"}
PRUNE: Json = {
    **{key: groups.PARAMS[key] for key in ("cluster_name", "node_role_arn", "subnets", "wait_interval")},
    "kubernetes": KUBERNETES,
    "pools": [],
    "prune": True,
}
WHY = f"Auto Scaling group {NAME} is removed"
HOLD = ("autoscaling:UpdateAutoScalingGroup", NAME)
CORDON, EVICT = "kubernetes:patch nodes", "kubernetes:create pods/eviction"
REST = [
    ("autoscaling:UpdateAutoScalingGroup", NAME),
    ("autoscaling:DeleteAutoScalingGroup", NAME),
    ("iam:RemoveRoleFromInstanceProfile", PROFILE),
    ("iam:DeleteInstanceProfile", PROFILE),
    ("ec2:DeleteLaunchTemplate", "lt-1"),
]


@pytest.fixture(autouse=True)
def only_this_provisioner(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parts of others read is not looked at here."""
    monkeypatch.setattr(nodepool, "_PROVISIONERS", {"auto_scaling_group": nodepool_asg})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was changed, of AWS and Kubernetes in one order."""
    made: list[str] = []
    call = Run._call

    def log(self: Run, action: str, request: dict[str, t.Any]) -> t.Mapping[str, t.Any]:
        made.append(action)
        return call(self, action, request)

    monkeypatch.setattr(Run, "_call", log)
    return made


def node(name: str, instance: str, *, cordoned: bool = False, ready: bool = True) -> Json:
    conditions = [{"type": "Ready", "status": "True" if ready else "Unknown"}]
    spec = {"providerID": f"aws:///us-west-2a/{instance}", **({"unschedulable": True} if cordoned else {})}
    return {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": spec, "status": {"conditions": conditions}}


def pod(name: str, *, owner: str | None = "ReplicaSet", leaving: bool = False, phase: str = "Running", mirror: bool = False) -> Json:
    owners = [{"kind": owner, "name": "o", "controller": True}] if owner else []
    metadata: Json = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "ownerReferences": owners}
    metadata |= {"deletionTimestamp": "2026-11-01T00:00:00Z"} if leaving else {}
    metadata |= {"annotations": {"kubernetes.io/config.mirror": "x"}} if mirror else {}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase}}


def expect_reads(wire: Wire, there: Json) -> None:
    """Of a cluster whose only pool left the inventory."""
    wire.expect("sts:GetCallerIdentity", {}, {"Account": groups.ACCOUNT, "Arn": f"arn:aws:iam::{groups.ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": groups.CLUSTER})
    found = [{"SubnetId": "subnet-a", "AvailabilityZone": "us-west-2a", "AvailabilityZoneId": "usw2-az1"}]
    wire.expect("ec2:DescribeSubnets", {"Filters": [{"Name": "subnet-id", "Values": ["subnet-a"]}]}, {"Subnets": found})
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, there)
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": [groups.TEMPLATE]})
    groups.expect_profile(wire)


def expect_held(wire: Wire, most: int = 2) -> None:
    groups.expect_no_role(wire)
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MaxSize": most})


def expect_removed(wire: Wire) -> None:
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, groups.group(0))
    wire.expect("autoscaling:DeleteAutoScalingGroup", {"AutoScalingGroupName": NAME})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, {"AutoScalingGroups": []})
    wire.expect("iam:RemoveRoleFromInstanceProfile", groups.BOTH)
    wire.expect("iam:DeleteInstanceProfile", {"InstanceProfileName": PROFILE})
    wire.expect("ec2:DeleteLaunchTemplate", {"LaunchTemplateId": "lt-1"}, {})


def nodes(kube: KubeWire, *found: Json) -> KubeWire:
    return kube.items("/api/v1/nodes", found)


def pods(kube: KubeWire, on: str, *found: Json) -> KubeWire:
    return kube.items("/api/v1/pods", found, fieldSelector=f"spec.nodeName={on}")


def cordon(kube: KubeWire, name: str, why: str = WHY) -> KubeWire:
    metadata = {"name": name, "uid": f"uid-{name}", "annotations": {"gpuops.eks/cordoned": why}}
    body = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"unschedulable": True}}
    return kube.patch(f"/api/v1/nodes/{name}", {}, body=body)


def evict(kube: KubeWire, name: str, status: int = 201, message: str = "") -> KubeWire:
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": "shop"},
        "deleteOptions": {"preconditions": {"uid": f"uid-{name}"}},
    }
    reply = {"kind": "Status", "reason": "TooManyRequests" if status == 429 else "", "message": message}
    return kube.expect("POST", f"/api/v1/namespaces/shop/pods/{name}/eviction", body=body, status=status, reply=reply)


def two(**changes: t.Any) -> Json:
    return groups.group(2, **{"DesiredCapacity": 2, **changes})


def observe(kube: KubeWire) -> KubeWire:
    """Two nodes of the group, one of another, and pods of every kind."""
    nodes(kube, node("n1", "i-1"), node("n0", "i-0"), node("other", "i-9"))
    stay = [pod("agent", owner="DaemonSet"), pod("static", owner="Node", mirror=True), pod("job", owner="Job", phase="Succeeded")]
    pods(kube, "n0", pod("web-b"), pod("web-a"), *stay, pod("old", leaving=True))
    return pods(kube, "n1", pod("api"))


def steps(result: Json) -> list[tuple[str, str]]:
    assert "plan" in result, result["msg"]
    return [(step["action"], step["target"]) for step in result["plan"]]


DRAIN = [
    HOLD,
    (CORDON, "n0"),
    (CORDON, "n1"),
    (EVICT, "shop/web-a"),
    (EVICT, "shop/web-b"),
    (EVICT, "shop/api"),
]


def test_nodes_are_held_cordoned_and_drained_before_their_group_goes(kube: KubeWire, wire: Wire, calls: list[str]) -> None:
    expect_reads(wire, two())
    expect_held(wire)
    expect_removed(wire)
    observe(kube)
    cordon(cordon(kube, "n0"), "n1")
    evict(evict(evict(kube, "web-a"), "web-b"), "api")
    pods(kube, "n0", pod("web-a", leaving=True), pod("web-b", leaving=True), pod("agent", owner="DaemonSet"))
    pods(kube, "n0", pod("web-b", leaving=True), pod("agent", owner="DaemonSet"))
    pods(kube, "n0", pod("agent", owner="DaemonSet"))
    pods(kube, "n1")
    result = kube.run(main, PRUNE)
    assert steps(result) == [*DRAIN, *REST]
    assert calls == [action for action, _target in steps(result)]
    assert [line for line in result["progress"] if "Node" in line] == [
        "Node n0: waiting for pods to leave, 2 left",
        "Node n0: waiting for pods to leave, 1 left",
        "Node n0: waiting for pods to leave, 0 left",
    ]
    held, cordoned, _other, evicted = result["plan"][:4]
    assert (held["effect"], held["fields"], held["reason"]) == ("delete", ["scaling.max"], "no node of it is bought for pods that leave")
    assert (cordoned["reason"], evicted["reason"]) == (f"drained: {WHY}", f"node n0: {WHY}")
    assert result["diff"]["before"] == {NAME: {"min": 1, "max": 3, "desired": 2}}


def test_check_mode_shows_the_same_steps(kube: KubeWire, wire: Wire) -> None:
    expect_reads(wire, two())
    groups.expect_no_role(wire)
    observe(kube)
    assert steps(kube.run(main, PRUNE, check_mode=True)) == [*DRAIN, *REST]
    assert kube.writes() == []


def test_a_disruption_budget_is_waited_for_and_ends_the_run_in_the_servers_words(kube: KubeWire, wire: Wire) -> None:
    expect_reads(wire, groups.group(1, MaxSize=3))
    expect_held(wire, 1)
    pods(nodes(kube, node("n0", "i-0")), "n0", pod("web"))
    cordon(kube, "n0")
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    for _attempt in range(2):
        evict(kube, "web", 429, message)
    result = kube.run(main, {**PRUNE, "wait_timeout": 1, "wait_interval": 1.01})
    assert f"Pod shop/web could not be evicted within 1 s: {message}" in result["msg"]
    assert (result["steps_done"], steps(result)) == (2, [HOLD, (CORDON, "n0"), (EVICT, "shop/web"), *REST])


def test_an_interrupted_drain_goes_on_where_it_stopped(kube: KubeWire, wire: Wire) -> None:
    expect_reads(wire, two(MaxSize=2))
    groups.expect_no_role(wire)
    expect_removed(wire)
    nodes(kube, node("n0", "i-0", cordoned=True), node("n1", "i-1", cordoned=True))
    pods(pods(kube, "n0", pod("web", leaving=True)), "n1", pod("api"))
    pods(pods(evict(kube, "api"), "n0"), "n1")
    assert steps(kube.run(main, PRUNE)) == [(EVICT, "shop/api"), *REST]


@pytest.mark.parametrize(
    "there",
    [
        groups.group(0, MinSize=0, DesiredCapacity=0),
        groups.group(1, MinSize=0, MaxSize=0, DesiredCapacity=0),
        groups.group(1, Status="Delete in progress"),
        {"AutoScalingGroups": []},
    ],
    ids=["without nodes", "emptied", "deleting", "gone"],
)
def test_kubernetes_is_not_asked_where_nothing_is_to_be_drained(wire: Wire, there: Json) -> None:
    expect_reads(wire, there)
    groups.expect_no_role(wire)
    made = steps(wire.run(main, {**PRUNE, "kubernetes": {"host": "https://127.0.0.1:9"}}, check_mode=True))
    assert made == REST[len(REST) - len(made) :]


def test_kubernetes_is_not_asked_without_consent_to_prune(wire: Wire) -> None:
    groups.expect_existing(wire, 2, DesiredCapacity=2)
    groups.expect_profile(wire)
    assert steps(wire.run(main, {**groups.PARAMS, "prune": True, "kubernetes": {"host": "https://127.0.0.1:9"}})) == []


def test_an_api_server_that_does_not_answer_is_told_and_nothing_is_changed(kube: KubeWire, wire: Wire, calls: list[str]) -> None:
    expect_reads(wire, two())
    kube.expect("GET", "/api/v1/nodes", query={"limit": "500"}, reply=urllib3.exceptions.ProtocolError("Connection aborted."))
    result = kube.run(main, PRUNE)
    assert result["failed"]
    assert "kubernetes:list nodes" in result["msg"]
    assert "Connection aborted." in result["msg"]
    assert calls == []


BARE = (
    f"Node n0 cannot be drained ({WHY}): pod shop/alone has no controller, nobody would make it again. "
    "As kubectl drain does without --force, this is left to you: delete the pod, or run it by a Deployment or Job."
)


def test_a_pod_that_nobody_would_make_again_is_refused_before_anything_is_changed(kube: KubeWire, wire: Wire, calls: list[str]) -> None:
    expect_reads(wire, two())
    pods(
        pods(nodes(kube, node("n0", "i-0"), node("n1", "i-1")), "n0", pod("alone", owner=None)),
        "n1",
        pod("going", owner=None, leaving=True),
    )
    result = kube.run(main, PRUNE)
    assert (result["failed"], result["msg"]) == (True, BARE)
    assert calls == []


def test_check_mode_says_that_a_run_would_be_refused(kube: KubeWire, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda self, message: said.append(message))
    expect_reads(wire, groups.group(1))
    groups.expect_no_role(wire)
    pods(nodes(kube, node("n0", "i-0")), "n0", pod("alone", owner=None))
    assert (EVICT, "shop/alone") in steps(kube.run(main, PRUNE, check_mode=True))
    assert said == [f"A run would be refused: {BARE}"]


def test_pods_that_come_in_spite_of_the_cordon_end_the_run(kube: KubeWire, wire: Wire) -> None:
    expect_reads(wire, groups.group(1))
    expect_held(wire, 1)
    pods(nodes(kube, node("n0", "i-0")), "n0", pod("web"))
    evict(cordon(kube, "n0"), "web")
    pods(kube, "n0", pod("web", leaving=True), pod("web-again"))
    result = kube.run(main, PRUNE)
    assert "Node n0 was drained, but has pods again: shop/web-again." in result["msg"]
    assert (result["steps_done"], steps(result)[3:]) == (3, REST)


def test_pods_that_do_not_end_are_named(kube: KubeWire, wire: Wire) -> None:
    expect_reads(wire, groups.group(1))
    expect_held(wire, 1)
    pods(nodes(kube, node("n0", "i-0")), "n0", pod("web"))
    evict(cordon(kube, "n0"), "web")
    for _attempt in range(2):
        pods(kube, "n0", pod("web", leaving=True))
    result = kube.run(main, {**PRUNE, "wait_timeout": 1, "wait_interval": 1.01})
    assert "Pods are still on node n0 after 1 s: shop/web." in result["msg"]


def test_pods_of_a_node_whose_kubelet_is_silent_are_not_waited_for(kube: KubeWire, wire: Wire) -> None:
    expect_reads(wire, groups.group(1))
    expect_held(wire, 1)
    expect_removed(wire)
    pods(nodes(kube, node("n0", "i-0", ready=False)), "n0", pod("web"), pod("lost", leaving=True))
    evict(cordon(kube, "n0"), "web")
    assert steps(kube.run(main, PRUNE)) == [HOLD, (CORDON, "n0"), (EVICT, "shop/web"), *REST]


OLD = NAME.replace("2a", "2b")
OLD_TEMPLATE = {**groups.TEMPLATE, "LaunchTemplateId": "lt-2", "LaunchTemplateName": f"{OLD}-asg"}


def old(number: int) -> Json:
    """The group of a zone that was taken out of the pool, with so many instances."""
    (found,) = copy.deepcopy(groups.group(number))["AutoScalingGroups"]
    instances = [{**one, "InstanceId": f"i-b{index}", "AvailabilityZone": "us-west-2b"} for index, one in enumerate(found["Instances"])]
    return {**found, "AutoScalingGroupName": OLD, "DesiredCapacity": number, "Instances": instances}


def test_a_zone_that_left_is_looked_at_again_when_what_takes_its_place_is_there(kube: KubeWire, wire: Wire, calls: list[str]) -> None:
    """Meanwhile cluster-autoscaler has bought a node, and a pod has gone there."""
    groups.expect_place(wire)
    both = {"AutoScalingGroups": [*groups.group()["AutoScalingGroups"], old(1)]}
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, both)
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": [groups.TEMPLATE, OLD_TEMPLATE]})
    groups.expect_version(wire)
    groups.expect_profile(wire)
    pods(nodes(kube, node("b0", "i-b0"), node("n0", "i-0")), "b0", pod("web"))
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MinSize": 2, "DesiredCapacity": 2})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, two(MinSize=2))
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, {"AutoScalingGroups": [*two(MinSize=2)["AutoScalingGroups"], old(2)]})
    pods(nodes(kube, node("b0", "i-b0"), node("b1", "i-b1"), node("n0", "i-0")), "b0")
    pods(kube, "b1", pod("web-again"))
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": OLD, "MaxSize": 2})
    why = f"Auto Scaling group {OLD} is removed"
    evict(cordon(cordon(kube, "b0", why), "b1", why), "web-again")
    pods(pods(kube, "b0"), "b1")
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": OLD, "MinSize": 0, "MaxSize": 0, "DesiredCapacity": 0})
    empty = {"AutoScalingGroups": [old(0)]}
    wire.expect("autoscaling:DescribeAutoScalingGroups", {"AutoScalingGroupNames": [OLD]}, empty)
    wire.expect("autoscaling:DeleteAutoScalingGroup", {"AutoScalingGroupName": OLD})
    wire.expect("autoscaling:DescribeAutoScalingGroups", {"AutoScalingGroupNames": [OLD]}, {"AutoScalingGroups": []})
    wire.expect("ec2:DeleteLaunchTemplate", {"LaunchTemplateId": "lt-2"}, {})
    wire.expect("autoscaling:DescribeAutoScalingGroups", NAMED, two(MinSize=2))
    result = kube.run(main, {**groups.PARAMS, "scaling": {"min": 2, "max": 3}, "prune": True, "kubernetes": KUBERNETES})
    assert steps(result) == [
        ("autoscaling:UpdateAutoScalingGroup", NAME),
        ("autoscaling:UpdateAutoScalingGroup", OLD),
        (CORDON, "b0"),
        (CORDON, "b1"),
        (EVICT, "shop/web-again"),
        ("autoscaling:UpdateAutoScalingGroup", OLD),
        ("autoscaling:DeleteAutoScalingGroup", OLD),
        ("ec2:DeleteLaunchTemplate", "lt-2"),
    ]
    assert calls == [action for action, _target in steps(result)]


def test_what_was_made_before_a_drain_that_is_refused_is_told(kube: KubeWire, wire: Wire, calls: list[str]) -> None:
    groups.expect_place(wire)
    both = {"AutoScalingGroups": [*groups.group()["AutoScalingGroups"], old(1)]}
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, both)
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": [groups.TEMPLATE, OLD_TEMPLATE]})
    groups.expect_version(wire)
    groups.expect_profile(wire)
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MaxSize": 5})
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, both)
    pods(nodes(kube, node("b0", "i-b0")), "b0")
    pods(nodes(kube, node("b0", "i-b0")), "b0", pod("alone", owner=None))
    result = kube.run(main, {**groups.PARAMS, "scaling": {"min": 1, "max": 5}, "prune": True, "kubernetes": KUBERNETES})
    assert "pod shop/alone has no controller" in result["msg"]
    assert (result["steps_done"], calls) == (1, ["autoscaling:UpdateAutoScalingGroup"])
    assert steps(result)[1:3] == [("autoscaling:UpdateAutoScalingGroup", OLD), (CORDON, "b0")]


def test_what_was_made_before_an_eviction_that_fails_is_told(kube: KubeWire, wire: Wire, calls: list[str]) -> None:
    groups.expect_place(wire)
    both = {"AutoScalingGroups": [*groups.group()["AutoScalingGroups"], old(1)]}
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, both)
    wire.expect("ec2:DescribeLaunchTemplates", BY_OWNER, {"LaunchTemplates": [groups.TEMPLATE, OLD_TEMPLATE]})
    groups.expect_version(wire)
    groups.expect_profile(wire)
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": NAME, "MaxSize": 5})
    wire.expect("autoscaling:DescribeAutoScalingGroups", BY_OWNER, both)
    wire.expect("autoscaling:UpdateAutoScalingGroup", {"AutoScalingGroupName": OLD, "MaxSize": 1})
    for _time in range(2):
        pods(nodes(kube, node("b0", "i-b0", cordoned=True)), "b0", pod("web"))
    evict(kube, "web", 403, "pods is forbidden")
    result = kube.run(main, {**groups.PARAMS, "scaling": {"min": 1, "max": 5}, "prune": True, "kubernetes": KUBERNETES})
    assert "pods is forbidden" in result["msg"]
    assert (result["steps_done"], calls) == (2, ["autoscaling:UpdateAutoScalingGroup"] * 2 + [EVICT])
    assert steps(result)[2] == (EVICT, "shop/web")
