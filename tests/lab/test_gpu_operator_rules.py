# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's GPU Operator and MIG manager do, by the rules of gpu-operator v26.7.0 and mig-parted v0.15.0."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from lab.kubernetes.client import Json
from lab.nodes import mig, migmanager, operands
from lab.nodes.migmanager import Machine, Settings, State, Step

A100, H100 = mig.product("a100", 40960), mig.product("h100", 81559)
CONFIG = """
version: v1
mig-configs:
  all-disabled: [{devices: all, mig-enabled: false}]
  seven: [{devices: all, mig-enabled: true, mig-devices: {1g.5gb: 7}}]
  three: [{devices: all, mig-enabled: true, mig-devices: {3g.20gb: 2}}]
  half: [{devices: [0], mig-enabled: true, mig-devices: {1g.5gb: 2}}, {devices: [1], mig-enabled: false}]
  odd: [{devices: all, mig-enabled: true, mig-devices: {1g.9gb: 1}}]
"""
SEVEN = (("1g.5gb",) * 7,) * 2
LABELS = {f"nvidia.com/gpu.deploy.{name}": "true" for name in ("device-plugin", "gpu-feature-discovery", "dcgm-exporter", "dcgm")}
STATE = "nvidia.com/mig.config.state"


def machine(**changes: t.Any) -> Machine:
    return dataclasses.replace(Machine(labels=LABELS, product=A100, gpus=2, layouts=()), **changes)


def settings(**changes: t.Any) -> Settings:
    return dataclasses.replace(Settings(pod="1", reboot=True, config=CONFIG), **changes)


def at(state: State, wanted: str, now: float = 0.0, found: Machine | None = None, how: Settings | None = None) -> Step:
    return migmanager.step(state, found or machine(), how or settings(), wanted, now)


def test_a_layout_that_is_in_force_is_a_success_without_pausing_anything() -> None:
    step = at(State(), "all-disabled")
    assert step.labels == {STATE: "success"}
    assert at(step.state, "all-disabled").labels == {}


def test_without_a_label_it_waits() -> None:
    assert at(State(), "") == Step(state=State())


def test_operands_are_paused_until_their_pods_are_gone_and_run_again_with_the_new_layout() -> None:
    found = machine(layouts=((), ()), labels={**LABELS, "nvidia.com/gpu.deploy.dcgm": "false", "nvidia.com/gpu.deploy.client": "true"})
    step = at(State(), "seven", found=found)
    assert step.labels[STATE] == "pending"
    assert {key for key, value in step.labels.items() if value == "paused-for-mig-change"} == {
        f"nvidia.com/gpu.deploy.{name}" for name in ("device-plugin", "gpu-feature-discovery", "dcgm-exporter", "nvsm", "client")
    }
    assert at(step.state, "seven", 299, machine(layouts=((), ()), clients=("plugin",))) == Step(state=step.state)
    done = at(step.state, "seven", 299, found)
    assert done.layouts == SEVEN
    assert done.labels[STATE] == "success"
    assert done.labels["nvidia.com/gpu.deploy.device-plugin"] == done.labels["nvidia.com/gpu.deploy.client"] == "true"
    assert "nvidia.com/gpu.deploy.dcgm" not in done.labels


def test_pods_that_do_not_go_leave_all_of_it_half_way() -> None:
    """gpu-operator#2833: nothing is restored, and nothing is tried again before the label changes or MIG manager starts anew."""
    step = at(State(), "seven")
    stuck = machine(clients=("plugin",))
    given_up = at(step.state, "seven", 300, stuck)
    assert given_up.labels == {}
    assert "did not shutdown" in given_up.said
    assert at(given_up.state, "seven", 9999, machine()).labels == {}
    assert at(given_up.state, "three", 9999, machine()).labels[STATE] == "pending"
    assert at(given_up.state, "seven", 9999, machine(), settings(pod="2")).labels[STATE] == "pending"


def test_a_new_mode_takes_a_reboot_where_a_gpu_cannot_be_reset() -> None:
    step = at(State(), "seven")
    rebooting = at(step.state, "seven", 1)
    assert rebooting.labels == {STATE: "rebooting"}
    assert at(rebooting.state, "seven", 180).labels == {}
    done = at(rebooting.state, "seven", 181)
    assert done.rebooted
    assert (done.layouts, done.labels[STATE]) == (SEVEN, "success")


def test_without_leave_to_reboot_it_fails_and_leaves_operands_paused() -> None:
    step = at(State(), "seven")
    failed = at(step.state, "seven", 1, how=settings(reboot=False))
    assert failed.labels == {STATE: "failed"}
    assert "WITH_REBOOT" in failed.said


def test_h100_takes_a_new_mode_without_a_reboot_unless_pods_have_its_gpus() -> None:
    config = settings(config=CONFIG.replace("1g.5gb", "1g.10gb"))
    step = at(State(), "seven", found=machine(product=H100), how=config)
    assert at(step.state, "seven", 1, machine(product=H100), config).labels[STATE] == "success"
    assert at(step.state, "seven", 1, machine(product=H100, users=("train",)), config).labels[STATE] == "rebooting"


@pytest.mark.parametrize(
    ("wanted", "changes", "says"),
    [
        ("three", {"layouts": SEVEN, "users": ("train",)}, "In use by another client (train)"),
        ("odd", {"layouts": SEVEN}, "no GPU instance profile 1g.9gb"),
        ("none", {}, "selected mig-config not present: none"),
    ],
)
def test_what_cannot_be_done_fails(wanted: str, changes: Json, says: str) -> None:
    step = at(State(), wanted, found=machine(**changes))
    step = at(step.state, wanted, 1, machine(**changes)) if step.labels[STATE] == "pending" else step
    assert step.labels == {STATE: "failed"}
    assert says in step.said


def test_gpus_without_mig_cannot_be_cut() -> None:
    step = at(State(), "seven", found=machine(product=None))
    assert "Not Supported" in at(step.state, "seven", 1, machine(product=None)).said


def test_layouts_by_gpu_and_those_of_the_hardware() -> None:
    assert migmanager.chosen(CONFIG, "half", machine()) == (("1g.5gb", "1g.5gb"), None)
    assert migmanager.chosen(None, "all-1g.5gb.me", machine()) == (("1g.5gb+me",),) * 2
    assert migmanager.chosen(None, "all-balanced", machine()) == (("1g.5gb", "1g.5gb", "2g.10gb", "3g.20gb"),) * 2
    with pytest.raises(migmanager.ConfigRefused, match="not present"):
        migmanager.chosen(None, "seven", machine())


# ---- the operator


SPEC: Json = {
    "driver": {"enabled": False},
    "toolkit": {"enabled": False},
    "dcgm": {"enabled": False},
    "mig": {"strategy": "mixed"},
    "daemonsets": {"tolerations": [{"key": "team", "operator": "Exists"}]},
    "devicePlugin": {"enabled": True, "config": {"name": "plugin", "default": "default"}, "env": [{"name": "HASH", "value": "1"}]},
    "migManager": {
        "enabled": True,
        "config": {"name": "parted", "default": "all-disabled"},
        "env": [{"name": "WITH_REBOOT", "value": "true"}],
    },
}
POLICY: Json = {"metadata": {"name": "cluster-policy", "uid": "u"}, "spec": SPEC}
FOUND = {"feature.node.kubernetes.io/pci-10de.present": "true"}


def test_operands_are_those_that_the_policy_turns_on_once_there_is_a_gpu_node() -> None:
    names = [one.name for one in operands.wanted(SPEC, has_gpu_nodes=True)]
    assert names == [
        "nvidia-operator-validator",
        "nvidia-device-plugin-daemonset",
        "nvidia-device-plugin-mps-control-daemon",
        "nvidia-dcgm-exporter",
        "gpu-feature-discovery",
        "nvidia-mig-manager",
    ]
    assert operands.wanted(SPEC, has_gpu_nodes=False) == []


def test_nodes_are_labelled_by_what_was_found_on_them() -> None:
    assert operands.node_labels({}, SPEC) == {}
    first = operands.node_labels(FOUND, SPEC)
    assert first["nvidia.com/gpu.deploy.device-plugin"] == first["nvidia.com/gpu.present"] == "true"
    assert "nvidia.com/gpu.deploy.mig-manager" not in first
    labels = {**FOUND, **{key: str(value) for key, value in first.items()}}
    assert operands.node_labels(labels, SPEC) == {}
    capable = {**labels, "nvidia.com/mig.capable": "true"}
    assert operands.node_labels(capable, SPEC) == {"nvidia.com/gpu.deploy.mig-manager": "true", "nvidia.com/mig.config": "all-disabled"}
    assert operands.node_labels({**capable, "nvidia.com/mig.config": "mine"}, SPEC) == {"nvidia.com/gpu.deploy.mig-manager": "true"}


def test_what_is_paused_stays_paused_and_a_node_can_be_kept_out() -> None:
    paused = {**FOUND, **{key: str(value) for key, value in operands.node_labels(FOUND, SPEC).items()}}
    paused["nvidia.com/gpu.deploy.device-plugin"] = "paused-for-mig-change"
    assert operands.node_labels(paused, SPEC) == {}
    out = operands.node_labels({**paused, "nvidia.com/gpu.deploy.operands": "false"}, SPEC)
    assert out["nvidia.com/gpu.deploy.device-plugin"] is None


def made(name: str) -> Json:
    operand = next(one for one in operands.OPERANDS_IN_ORDER if one.name == name)
    return operands.daemon_set(operand, POLICY, "gpu-operator")


def test_the_plugin_has_its_configuration_by_config_manager() -> None:
    found = made("nvidia-device-plugin-daemonset")
    pod = found["spec"]["template"]["spec"]
    assert found["metadata"]["ownerReferences"][0]["kind"] == "ClusterPolicy"
    assert pod["nodeSelector"] == {"nvidia.com/gpu.deploy.device-plugin": "true"}
    assert pod["tolerations"] == SPEC["daemonsets"]["tolerations"]
    assert [one["command"] for one in pod["containers"]] == [["nvidia-device-plugin"], ["config-manager"]]
    environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert environment["MIG_STRATEGY"] == "mixed"
    assert environment["HASH"] == "1"


def test_mig_manager_has_its_layouts_and_variables() -> None:
    pod = made("nvidia-mig-manager")["spec"]["template"]["spec"]
    assert pod["volumes"][0]["configMap"] == {"name": "parted"}
    assert pod["containers"][0]["env"] == [{"name": "WITH_REBOOT", "value": "true"}]


@pytest.mark.parametrize(
    ("states", "nodes", "features", "expected"),
    [
        ([], True, True, ("ready", "True", "Reconciled")),
        ([], False, True, ("ready", "True", "NoGPUNodes")),
        ([], False, False, ("ready", "True", "NFDLabelsMissing")),
        (["state-mig-manager"], True, True, ("notReady", "False", "Error")),
    ],
)
def test_ready_also_comes_without_a_node_and_the_reason_says_so(
    states: list[str], nodes: bool, features: bool, expected: tuple[str, str, str]
) -> None:
    status = operands.status(states, has_gpu_nodes=nodes, has_feature_labels=features)
    ready = status["conditions"][0]
    assert (status["state"], ready["status"], ready["reason"]) == expected


def test_states_are_ready_with_all_of_their_pods() -> None:
    operand = operands.OPERANDS_IN_ORDER[0]
    whole = {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "observedGeneration": 2}
    assert operands.not_ready([(operand, {"metadata": {"generation": 2}, "status": whole})]) == []
    assert operands.not_ready([(operand, {"metadata": {"generation": 2}, "status": {"observedGeneration": 2}})]) == []
    for wrong in ({**whole, "observedGeneration": 1}, {**whole, "numberUnavailable": 1}, {**whole, "updatedNumberScheduled": 0}):
        assert operands.not_ready([(operand, {"metadata": {"generation": 2}, "status": wrong})]) == ["state-driver"]
