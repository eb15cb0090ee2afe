# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variable model: what is generated from it, what roles really read, and the faults of a whole inventory."""

from __future__ import annotations

import copy
import re
import typing as t
from pathlib import Path

import generate
import pytest
import yaml
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.inventory import inventory_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.variables import (
    FACTS,
    IDENTITY,
    NODEPOOLS,
    ROLES,
    SUMMARIES,
    known,
    variables_of,
)

ROOT = Path(__file__).parents[2]
CA = "eks_autoscaling_cluster_autoscaler"
SITE = [
    "eks_preflight",
    "eks_network",
    "eks_cluster",
    "eks_autoscaling",
    "gpu_nodepools",
    "gpu_operator",
    "gpu_sharing",
    "gpu_workloads",
    "gpu_capacity_report",
]
GENERAL = {
    "name": "general",
    "accelerator": "none",
    "provisioner": "managed_node_group",
    "instances": {"types": ["m5.large"]},
    "zones": ["us-west-2a", "us-west-2b"],
    "scaling": {"min": 1, "max": 2},
}
GPU = {
    "name": "gpu",
    "accelerator": "nvidia",
    "provisioner": "managed_node_group",
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a"],
    "scaling": {"min": 1, "max": 1},
    "sharing": {"strategy": "time_slicing", "replicas": 10},
}


def inventory(**changes: t.Any) -> dict[str, t.Any]:
    """A sound inventory with every default of every role, changed; None takes a variable out."""
    defaults = {name: option["default"] for name, option in variables_of(SITE).items() if "default" in option}
    sound = {
        **copy.deepcopy(defaults),
        "eks_cluster_name": "demo",
        "eks_cluster_region": "us-west-2",
        "eks_cluster_account_id": "123456789012",
        "eks_network_zones": ["us-west-2a", "us-west-2b"],
        "gpu_nodepools": [copy.deepcopy(GENERAL), copy.deepcopy(GPU)],
    }
    return {name: value for name, value in {**sound, **changes}.items() if value is not None or name in defaults}


def faults(**changes: t.Any) -> list[Fault]:
    return inventory_faults(inventory(**changes), SITE)


def paths(**changes: t.Any) -> list[str]:
    return [fault.path for fault in faults(**changes)]


def pool(**changes: t.Any) -> list[dict[str, t.Any]]:
    return [copy.deepcopy(GENERAL), {**copy.deepcopy(GPU), **changes}]


CUT = pool(instances={"types": ["p4d.24xlarge"]}, mig={"layout": {"1g.5gb": 3, "3g.20gb": 1}}, sharing=None)


def test_what_is_generated_is_what_the_model_says() -> None:
    assert [path.relative_to(ROOT).as_posix() for path in generate.different()] == [], "run tools/generate.py"


def test_every_role_is_in_the_model() -> None:
    assert {path.name for path in (ROOT / "roles").iterdir()} == set(ROLES) == set(SUMMARIES)


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_own_settings_carry_its_name(role: str) -> None:
    own = set(ROLES[role]) - set(IDENTITY) - set(NODEPOOLS)
    assert [name for name in own if not name.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_model_and_none_is_one_of_the_inventory(role: str) -> None:
    path = ROOT / "roles" / role / "defaults" / "main.yml"
    defaults = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    assert defaults == {name: option["default"] for name, option in ROLES[role].items() if "default" in option}
    assert not {*IDENTITY, *NODEPOOLS} & set(defaults)


def test_the_four_variables_of_the_inventory_are_required() -> None:
    assert all(option["required"] and "default" not in option for option in (*IDENTITY.values(), *NODEPOOLS.values()))


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_of_a_role_is_read_in_it(role: str) -> None:
    text = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "roles" / role).rglob("*.yml") if path.parent.name in ("tasks", "vars")
    )
    unread = [name for name in ROLES[role] if name not in (*IDENTITY, *NODEPOOLS) and not re.search(rf"\b{name}\b", text)]
    assert unread == []


@pytest.mark.parametrize(
    ("role", "name"),
    [("eks_network", "eks_network_api_access_cidrs"), ("eks_network", "eks_network_tags"), ("eks_cluster", "eks_cluster_tags")],
)
def test_what_an_inventory_does_not_set_is_not_managed(role: str, name: str) -> None:
    """The modules remove what a given list or dictionary does not have, so an empty default would take away what others have added."""
    tasks = (ROOT / "roles" / role / "tasks" / "main.yml").read_text(encoding="utf-8")
    assert ROLES[role][name]["default"] is None
    assert f': "{{{{ {name} if {name} is not none else omit }}}}"' in tasks


def test_facts_are_set_somewhere_and_are_no_variables() -> None:
    text = "".join(path.read_text(encoding="utf-8") for top in ("roles", "playbooks") for path in (ROOT / top).rglob("*.yml"))
    ansible_facts = {"gpuops_gpu_capacity"}  # of the module gpu_capacity_facts
    assert [name for name in FACTS - ansible_facts if not re.search(rf"\b{name}:|register: {name}\b", text)] == []
    assert not FACTS & set(known())


def test_sound_inventories_have_no_faults() -> None:
    assert faults() == []
    assert faults(gpu_nodepools=CUT, gpu_workloads_resource="nvidia.com/mig-3g.20gb") == []
    assert faults(gpu_nodepools=[], gpu_workloads_state="absent") == []


@pytest.mark.parametrize("name", ["lab", "time_slicing", "spot_multi_az", "mps_private", "mig"])
def test_inventories_of_the_collection_use_known_variables_only(name: str) -> None:
    values = yaml.safe_load((ROOT / "inventories" / name / "group_vars" / "eks_clusters.yml").read_text(encoding="utf-8"))
    assert {key for key in values if key.startswith(("eks", "gpu"))} <= set(known())


@pytest.mark.parametrize("name", ["time_slicing", "spot_multi_az", "mps_private", "mig"])
def test_the_blueprint_is_refused_until_it_is_edited_and_is_sound_then(name: str) -> None:
    values = yaml.safe_load((ROOT / "inventories" / name / "group_vars" / "eks_clusters.yml").read_text(encoding="utf-8"))
    assert values["gpuops_refuse"]
    assert paths(**values) == ["eks_cluster_account_id"]
    assert paths(**{**values, "eks_cluster_account_id": "123456789012"}) == []


@pytest.mark.parametrize("missing", [*IDENTITY, *NODEPOOLS])
def test_a_missing_variable_of_the_inventory_is_a_fault(missing: str) -> None:
    assert missing in paths(**{missing: None})


@pytest.mark.parametrize(
    ("changes", "path", "allowed"),
    [
        ({"eks_cluster_name": "-demo"}, "eks_cluster_name", "letters"),
        ({"eks_cluster_region": "Oregon"}, "eks_cluster_region", "region"),
        ({"eks_cluster_account_id": 12345}, "eks_cluster_account_id", "12 digits"),
        ({"eks_cluster_version": 1.3}, "eks_cluster_version", "quotes"),
        ({"eks_cluster_version": "latest"}, "eks_cluster_version", "1.3"),
        ({"eks_cluster_support_type": "GOLD"}, "eks_cluster_support_type", "STANDARD"),
        ({"eks_cluster_public_access_cidrs": ["0.0.0.0/0"]}, "eks_cluster_public_access_cidrs[0]", "allow_public_any"),
        (
            {"eks_cluster_endpoint_private_access": False, "eks_cluster_endpoint_public_access": False},
            "eks_cluster_endpoint_private_access",
            "one of both",
        ),
        ({"eks_cluster_service_ipv4_cidr": "8.8.8.0/24"}, "eks_cluster_service_ipv4_cidr", "192.168.0.0/16"),
        ({"eks_cluster_scheduler_scoring": {"type": "Most"}}, "eks_cluster_scheduler_scoring.type", "MostAllocated"),
        ({"eks_cluster_addons": [{"name": "vpc-cni", "version": "newest!"}]}, "eks_cluster_addons[0].version", "latest"),
        ({"eks_cluster_addons": [{"name": "vpc-cni"}, {"name": "vpc-cni"}]}, "eks_cluster_addons[1].name", "each once"),
        ({"eks_cluster_addons": [], "eks_cluster_storage": ["ebs"]}, "eks_cluster_addons", "eks-pod-identity-agent"),
        ({"eks_cluster_storage": ["s3"]}, "eks_cluster_storage_s3_buckets", "at least one bucket"),
        ({"eks_cluster_access_entries": [{"principal_arn": "anna"}]}, "eks_cluster_access_entries[0].principal_arn", "ARN"),
        ({"eks_cluster_iam_path": "platform"}, "eks_cluster_iam_path", "begins and ends"),
        ({"eks_cluster_permissions_boundary": "boundary"}, "eks_cluster_permissions_boundary", "policy"),
        ({"eks_network_private_subnet_ids": ["subnet-0a1b2c3d"]}, "eks_network_private_subnet_ids", "eks_network_vpc_id"),
        ({"eks_network_vpc_id": "vpc-0a1b2c3d"}, "eks_network_private_subnet_ids", "private subnets"),
        ({"eks_network_cidr": "10.0.0.0/8"}, "eks_network_cidr", "/16"),
        ({"eks_network_nat": "two"}, "eks_network_nat", "single"),
        ({"eks_network_public_subnets": False}, "eks_network_nat", "none"),
        ({"eks_network_zones": [], "eks_network_zone_count": 1}, "eks_network_zone_count", "at least 2"),
        ({"eks_network_wait_interval": -1.0}, "eks_network_wait_interval", "at least 0"),
        ({"eks_autoscaling_karpenter_replicas": 0}, "eks_autoscaling_karpenter_replicas", "at least 1"),
        ({f"{CA}_scale_down_unneeded_time": "10"}, f"{CA}_scale_down_unneeded_time", "a duration"),
        ({f"{CA}_max_node_provision_time": "quarter"}, f"{CA}_max_node_provision_time", "a duration"),
        ({f"{CA}_scale_down_gpu_utilization_threshold": 50.0}, f"{CA}_scale_down_gpu_utilization_threshold", "from 0 to 1"),
        ({f"{CA}_expander": "priority,cheapest"}, f"{CA}_expander", "one or several"),
        ({f"{CA}_expander": "priority,priority"}, f"{CA}_expander", "each once"),
        ({"gpu_sharing_image_digest": "latest"}, "gpu_sharing_image_digest", "sha256"),
        (
            {"gpu_sharing_flags": {"plugin": {"deviceListStrategie": ["envvar"]}}},
            "gpu_sharing_flags.plugin.deviceListStrategie",
            "deviceListStrategy",
        ),
        ({"gpu_sharing_flags": {"migStrategy": "single"}}, "gpu_sharing_flags.migStrategy", "mig"),
        ({"gpu_sharing_max_unavailable": 0}, "gpu_sharing_max_unavailable", "at least 1"),
        ({"gpu_workloads_replicas": -1}, "gpu_workloads_replicas", "at least 0"),
        ({"gpu_workloads_resource": "nvidia.com/gpu.shared"}, "gpu_workloads_resource", "nvidia.com/gpu"),
        ({"gpu_workloads_resource": "k8s.amazonaws.com/vgpu"}, "gpu_workloads_resource", "what the pools advertise: nvidia.com/gpu"),
        ({"gpu_nodepools": CUT}, "gpu_workloads_resource", "nvidia.com/mig-1g.5gb, nvidia.com/mig-3g.20gb"),
        ({"gpu_nodepools": CUT, "gpu_workloads_resource": "nvidia.com/mig-7g.40gb"}, "gpu_workloads_resource", "nvidia.com/mig-1g.5gb"),
        (
            {"gpu_workloads_node_selector": {"nvidia.com/gpu": "true"}},
            "gpu_workloads_node_selector.nvidia.com/gpu",
            "nvidia.com/gpu.present",
        ),
        ({"gpu_nodepools": []}, "gpu_workloads_resource", "no pool has GPUs"),
        ({"gpu_nodepools": pool(zones=["us-west-2c"])}, "gpu_nodepools[1].zones[0]", "us-west-2a, us-west-2b"),
        ({"gpu_nodepools": pool(instances={"types": ["g5"]})}, "gpu_nodepools[1].instances.types[0]", "an instance type"),
        ({"gpu_nodepools": pool(instances={"types": ["m5.large"]})}, "gpu_nodepools[1].instances.types[0]", "no GPU"),
        ({"gpu_nodepools": pool(sharing={"strategy": "time_slicing", "replicas": 1})}, "gpu_nodepools[1].sharing.replicas", "at least 2"),
        ({"gpu_nodepools": pool(sharing={"strategy": "time_slicing", "replicas": 0})}, "gpu_nodepools[1].sharing.replicas", "at least 2"),
        (
            {"gpu_nodepools": pool(sharing={"strategy": "time_slicing", "replicas": "ten"})},
            "gpu_nodepools[1].sharing.replicas",
            "an integer",
        ),
        ({"gpu_nodepools": pool(taints=[{"key": "a", "effect": "Never"}])}, "gpu_nodepools[1].taints[0].effect", "NoSchedule"),
        ({"gpu_nodepools": pool(labels={"bad key": "x"})}, "gpu_nodepools[1].labels.bad key", ""),
        ({"gpu_nodepools": pool(scaling={"min": 3, "max": 1})}, "gpu_nodepools[1].scaling.min", "at most"),
        ({"gpu_nodepools": pool(shring={})}, "gpu_nodepools[1].shring", "'sharing'"),
        ({"gpuops_serial": ["1"]}, "gpuops_serial", "a string"),
    ],
)
def test_a_fault_has_path_and_what_is_allowed(changes: dict[str, t.Any], path: str, allowed: str) -> None:
    found = [fault for fault in faults(**changes) if fault.path == path]
    assert found, paths(**changes)
    assert any(allowed in fault.allowed for fault in found)
    assert all(fault.source for fault in found)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("eks_network_cird", "did you mean 'eks_network_cidr'"),
        ("gpu_nodepols", "did you mean 'gpu_nodepools'"),
        ("eks_clustername", "did you mean 'eks_cluster_name'"),
        ("gpuops_colour", "begin with a role's name"),
        ("eks_network_peering_with_another", "begin with a role's name"),
    ],
)
def test_a_name_that_looks_like_ours_is_a_fault(name: str, allowed: str) -> None:
    [fault] = faults(**{name: "x"})
    assert (fault.path, allowed in fault.allowed) == (name, True)


@pytest.mark.parametrize("name", ["gpu_team", "eks_owner", "lab", *sorted(FACTS)])
def test_other_names_are_nobodys_business(name: str) -> None:
    assert faults(**{name: "x"}) == []


def test_all_faults_of_all_roles_come_at_once() -> None:
    found = paths(
        eks_cluster_account_id="1",
        eks_network_nat="two",
        gpu_workloads_replicas="many",
        gpu_nodepools=[{**GENERAL, "scaling": {"min": 2, "max": 1}}, {**GPU, "sharing": {"strategy": "time_slicing", "replicas": 1}}],
        gpu_sharing_colour="red",
    )
    assert {
        "eks_cluster_account_id",
        "eks_network_nat",
        "gpu_workloads_replicas",
        "gpu_nodepools[0].scaling.min",
        "gpu_nodepools[1].sharing.replicas",
        "gpu_sharing_colour",
    } <= set(found)
    assert len(found) == len(set(found))


def test_settings_of_roles_that_do_not_run_are_not_looked_at() -> None:
    values = inventory(eks_network_nat="two")
    assert inventory_faults(values, ["gpuops.eks.eks_preflight", "gpuops.eks.gpu_capacity_report"]) == []


def test_a_secret_is_not_in_its_fault() -> None:
    [fault] = faults(gpuops_aws_secret_key=["hunter2"])
    assert "hunter2" not in str(fault)


@pytest.mark.parametrize("value", [5, "text", ["text"], {"a": 1}, True, [[]]])
@pytest.mark.parametrize("name", sorted(name for name in variables_of(SITE)))
def test_values_of_any_type_are_faults_at_most(name: str, value: t.Any) -> None:
    assert isinstance(faults(**{name: value}), list)
