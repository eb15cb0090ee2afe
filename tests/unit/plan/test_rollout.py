# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a rollout has arrived, when it cannot arrive any more, and what is said of it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import Configuration, DevicePlugin, Image
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Hardware, Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Mig, Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin_manifests as manifests
from ansible_collections.gpuops.eks.plugins.module_utils._plan.design import Design
from ansible_collections.gpuops.eks.plugins.module_utils._plan.rollout import Row, Status, Trouble, judge, table

SHARED = Configuration(name="shared", sharing=Sharing(strategy="time_slicing", replicas=4))
RENAMED = Configuration(name="shared", sharing=Sharing(strategy="time_slicing", replicas=4, rename=True))
CATALOG = {"g5.12xlarge": Hardware(gpus=4, model="a10g")}
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


def plugin(configuration: Configuration = SHARED) -> DevicePlugin:
    return DevicePlugin(namespace="gpu", image=Image(), configurations=(configuration,))


def design(wanted: DevicePlugin) -> Design:
    return Design.of(wanted, feature_discovery=False)


def node(allocatable: dict[str, int], *, capacity: dict[str, int] | None = None, kind: str = "g5.12xlarge", **more: t.Any) -> Node:
    labels = {"nvidia.com/device-plugin.config": "shared", "node.kubernetes.io/instance-type": kind}
    return Node(name="n", labels=labels, allocatable=allocatable, capacity=allocatable if capacity is None else capacity, **more)


def pod(wanted: DevicePlugin, status: dict[str, t.Any] | None = None, component: str = manifests.DEVICE_PLUGIN) -> dict[str, t.Any]:
    annotations = {manifests.HASH_ANNOTATION: manifests.content_hash(wanted, wanted.configurations[0], component)}
    labels = {manifests.COMPONENT_LABEL: component}
    metadata = {
        "name": "p" if component == manifests.DEVICE_PLUGIN else "d",
        "namespace": "gpu",
        "annotations": annotations,
        "labels": labels,
    }
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": status or READY}


def daemon_set(desired: int = 1, ready: int = 1, updated: int = 1, observed: int = 1) -> dict[str, t.Any]:
    status = {"desiredNumberScheduled": desired, "numberReady": ready, "updatedNumberScheduled": updated, "observedGeneration": observed}
    return {"metadata": {"name": "nvidia-device-plugin-shared", "generation": 1}, "status": status}


def look(seen: Node, *pods: dict[str, t.Any], wanted: DevicePlugin | None = None, obj: dict[str, t.Any] | None = None) -> Status:
    return judge(design(wanted or plugin()), daemon_sets=[obj or daemon_set()], nodes=[seen], pods=pods, catalog=CATALOG)


def waiting(reason: str, message: str = "", restarts: int = 0) -> dict[str, t.Any]:
    container = {"restartCount": restarts, "state": {"waiting": {"reason": reason, "message": message}}}
    return {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [container]}


def test_done_when_the_node_advertises_its_gpus_times_the_replicas() -> None:
    status = look(node({"nvidia.com/gpu": 16}), pod(plugin()))
    assert status.done
    assert status.rows[0].to_dict() == {"name": "n", "resource": "nvidia.com/gpu", "expected": 16, "advertised": 16}


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (node({"nvidia.com/gpu": 4}), "the plugin is ready with another number"),
        (node({}), "the plugin is ready, the kubelet has not said so yet"),
        (node({"nvidia.com/gpu": 16, "nvidia.com/gpu.shared": 16}), "nvidia.com/gpu.shared 16 is still advertised"),
        (node({"nvidia.com/gpu": 16}, ready=False), "node is not Ready"),
    ],
)
def test_what_keeps_a_node(seen: Node, why: str) -> None:
    status = look(seen, pod(plugin()))
    assert [row.why for row in status.rows if row.why] == [why]
    assert (status.done, status.hopeless) == (False, False)


@pytest.mark.parametrize(
    ("healthy", "heartbeat", "ready_since", "hopeless"),
    [
        (12, "", "", True),
        # All at once is also what the kubelet says from the end of a plugin to the registration of the next one.
        (0, "", "", False),
        (0, "2026-01-01T00:00:59Z", "2026-01-01T00:00:00Z", False),
        (0, "2026-01-01T00:01:00Z", "2026-01-01T00:00:00Z", True),
        (0, "2026-01-01T00:01:00Z", "", False),
    ],
)
def test_devices_that_are_unhealthy_stay_so(healthy: int, heartbeat: str, ready_since: str, hopeless: bool) -> None:
    ready = {"type": "Ready", "status": "True", **({"lastTransitionTime": ready_since} if ready_since else {})}
    broken = node({"nvidia.com/gpu": healthy}, capacity={"nvidia.com/gpu": 16}, heartbeat=heartbeat)
    status = look(broken, pod(plugin(), {"phase": "Running", "conditions": [ready]}))
    (row,) = status.rows
    assert row.why.startswith(
        f"{16 - healthy} of 16 devices are unhealthy (see XID in the log of pod p); they stay so until that pod restarts"
    )
    assert (status.done, status.hopeless) == (False, hopeless)


def test_the_old_name_at_zero_is_gone() -> None:
    wanted = plugin(RENAMED)
    assert look(node({"nvidia.com/gpu.shared": 16, "nvidia.com/gpu": 0}), pod(wanted), wanted=wanted).done


@pytest.mark.parametrize(("advertised", "done"), [(4, True), (8, True), (6, False), (0, False)])
def test_of_an_unknown_number_of_gpus_any_multiple_will_do(advertised: int, done: bool) -> None:
    assert look(node({"nvidia.com/gpu": advertised}, kind="x9.large"), pod(plugin())).done is done


@pytest.mark.parametrize(
    ("status", "hopeless"),
    [
        (waiting("ContainerCreating"), False),
        (waiting("CrashLoopBackOff", restarts=1), False),
        (waiting("CrashLoopBackOff", restarts=2), True),
        (waiting("InvalidImageName"), True),
        (waiting("ImagePullBackOff", "Back-off pulling image: i/o timeout"), False),
        (waiting("ImagePullBackOff", "nvcr.io/nvidia/k8s-device-plugin:v9: not found"), True),
        (waiting("ErrImagePull", "401 Unauthorized"), True),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}, False),
    ],
)
def test_when_waiting_is_of_no_use(status: dict[str, t.Any], hopeless: bool) -> None:
    found = look(node({}), pod(plugin(), status))
    assert found.hopeless is hopeless
    assert found.rows[0].why.startswith("pod p: ")


def test_a_pod_of_the_previous_configuration_says_nothing_about_this_one() -> None:
    old = pod(plugin(Configuration(name="shared")), waiting("CrashLoopBackOff", restarts=9))
    found = look(node({}), old)
    assert (found.rows[0].why, found.hopeless) == ("pod p still runs the previous configuration", False)


@pytest.mark.parametrize(
    ("taint", "why"),
    [
        (
            {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"},
            "no plugin pod yet (label nvidia.com/device-plugin.config=shared)",
        ),
        (
            {"key": "node.kubernetes.io/disk-pressure", "effect": "NoSchedule"},
            "no plugin pod yet (label nvidia.com/device-plugin.config=shared)",
        ),
        ({"key": "team", "value": "ml", "effect": "PreferNoSchedule"}, "no plugin pod yet (label nvidia.com/device-plugin.config=shared)"),
        (
            {"key": "team", "value": "ml", "effect": "NoSchedule"},
            "no plugin pod: its taint team=ml:NoSchedule is not tolerated; see the option tolerations",
        ),
    ],
)
def test_taints_that_keep_the_plugin_away_are_named(taint: dict[str, str], why: str) -> None:
    assert look(node({}, taints=(taint,))).rows[0].why == why


@pytest.mark.parametrize(
    "obj",
    [daemon_set(desired=2), daemon_set(ready=0), daemon_set(updated=0), daemon_set(observed=0)],
)
def test_a_daemon_set_that_is_not_rolled_out(obj: dict[str, t.Any]) -> None:
    assert not look(node({"nvidia.com/gpu": 16}), pod(plugin()), obj=obj).done


def test_a_node_without_a_pod_is_known_by_its_label_and_system() -> None:
    selected = Configuration(name="shared", node_selector={"pool": "a"})
    bare = Node(name="n", labels={"pool": "a"}, os_image="Amazon Linux 2023.8")
    found = judge(design(plugin(selected)), daemon_sets=[daemon_set()], nodes=[bare], pods=[], catalog={})
    assert found.rows[0].why == "no plugin pod yet (no label nvidia.com/device-plugin.config, Amazon Linux 2023.8)"


MPS = plugin(Configuration(name="shared", sharing=Sharing(strategy="mps", replicas=5)))
NOT_READY = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "False"}],
    "containerStatuses": [{"name": "mps-control-daemon-ctr", "ready": False, "state": {"running": {}}}],
}


def mps(status: dict[str, t.Any] | None = None, wanted: DevicePlugin = MPS) -> dict[str, t.Any]:
    return pod(wanted, status, manifests.MPS_DAEMON)


@pytest.mark.parametrize(
    ("pods", "why"),
    [
        ((pod(MPS), mps()), ""),
        ((pod(MPS),), "no MPS control daemon pod yet (label nvidia.com/device-plugin.config=shared)"),
        ((pod(MPS), mps(NOT_READY)), "pod d: Running, container mps-control-daemon-ctr is not ready"),
        (
            (pod(MPS, waiting("CrashLoopBackOff", restarts=5)), mps(NOT_READY)),
            "pod d: Running, container mps-control-daemon-ctr is not ready",
        ),
        ((mps(),), "no plugin pod yet (label nvidia.com/device-plugin.config=shared)"),
    ],
)
def test_the_mps_control_daemon_is_part_of_it_and_comes_first(pods: tuple[dict[str, t.Any], ...], why: str) -> None:
    sets = [daemon_set(), {**daemon_set(), "metadata": {"name": "nvidia-mps-shared", "generation": 1}}]
    found = judge(design(MPS), daemon_sets=sets, nodes=[node({"nvidia.com/gpu": 20})], pods=pods, catalog=CATALOG)
    assert ([row.why for row in found.rows], found.done, found.hopeless) == ([why], not why, False)


def test_a_control_daemon_that_should_be_gone_is_named() -> None:
    found = look(node({"nvidia.com/gpu": 16}), pod(plugin()), mps())
    assert found.rows[0].why == "pod d: the MPS control daemon of the previous configuration still runs"


def test_every_mig_profile_has_a_row_and_whole_gpus_beside_them_are_said() -> None:
    layout = Mig(strategy="mixed", layout={"1g.5gb": 2, "2g.10gb": 1})
    wanted = plugin(Configuration(name="shared", mig=layout))
    seen = node({"nvidia.com/mig-1g.5gb": 8, "nvidia.com/mig-2g.10gb": 3, "nvidia.com/gpu": 1})
    found = look(seen, pod(wanted), wanted=wanted)
    assert [(row.resource, row.expected, row.advertised, row.why) for row in found.rows] == [
        ("nvidia.com/mig-1g.5gb", 8, 8, ""),
        ("nvidia.com/mig-2g.10gb", 4, 3, "the plugin is ready with another number"),
        ("nvidia.com/gpu", 0, 1, "nvidia.com/gpu 1 is still advertised"),
    ]


def test_a_crashed_container_is_named_and_its_log_is_shown() -> None:
    ended = {"name": "c", "ready": False, "restartCount": 1, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}
    status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [ended]}
    (row,) = look(node({}), pod(plugin(), status)).rows
    assert (row.trouble.pod, row.trouble.container) == ("gpu/p", "c")
    assert row.explained("no NVIDIA GPU found").why.endswith("; its log: no NVIDIA GPU found")


def test_no_nodes_is_done() -> None:
    assert judge(design(plugin()), daemon_sets=[daemon_set(0, 0, 0)], nodes=[], pods=[], catalog={}).done


def test_a_daemon_set_that_is_not_there_is_unknown() -> None:
    status = judge(design(plugin()), daemon_sets=[], nodes=[], pods=[], catalog={})
    assert status.seen() == {"shared": (None, None, [])}
    assert not status.done


def test_nodes_that_go_away_are_not_waited_for() -> None:
    assert look(node({}, deleting=True)).rows == ()


def test_the_table_has_the_rows_with_a_reason() -> None:
    good = Row(configuration="c", node="good", resource="nvidia.com/gpu", expected=4, advertised=4)
    bad = Row(
        configuration="c", node="bad", resource="nvidia.com/gpu", expected=None, advertised=0, trouble=Trouble(why="no plugin pod yet")
    )
    assert table([good, bad]).splitlines() == [
        "node  configuration  expected             seen  why",
        "bad   c              nvidia.com/gpu some  0     no plugin pod yet",
    ]
