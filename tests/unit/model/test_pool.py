# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools: every kind of bad input, with path, value and what is allowed; what the options mean."""

from __future__ import annotations

import typing as t

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Subnet, for_nodes
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import TemplateContent, TemplateWish, new_content
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Disk, InstanceRequirements, Pool, Range
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_faults import pool_faults, pools_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import POOL_OPTIONS, argument_options, documented_options

GOOD: dict[str, t.Any] = {
    "name": "inference",
    "provisioner": "managed_node_group",
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a", "usw2-az2", "us-west-2-lax-1a"],
    "scaling": {"min": 0, "max": 10},
    "sharing": {"strategy": "time_slicing", "replicas": 10},
}
GENERAL: dict[str, t.Any] = {
    "name": "system",
    "accelerator": "none",
    "provisioner": "managed_node_group",
    "instances": {"types": ["m5.large"]},
}
S3 = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
TAINT = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}


def found(pool: t.Mapping[str, t.Any]) -> dict[str, str]:
    faults = pool_faults(pool, "gpu_nodepools[0]")
    assert all(fault.source and fault.allowed for fault in faults)
    return {fault.path.removeprefix("gpu_nodepools[0]."): fault.allowed for fault in faults}


@pytest.mark.parametrize(
    "pool",
    [
        GOOD,
        GENERAL,
        {**GOOD, "instances": {"families": ["g9", "p6-b200"], "sizes": ["48xlarge"], "gpu": {"count": [8]}}},
        {**GOOD, "instances": {"types": ["g5g.xlarge"], "architectures": ["arm64"]}},
        {**GOOD, "taints": [TAINT, {**TAINT, "effect": "NoExecute"}], "labels": {"example.com/team": "a.b", "empty": ""}},
        {**GOOD, "capacity": {"types": ["spot", "on_demand"], "reservations": []}, "limits": {"gpus": 4}},
        {**GOOD, "sharing": None, "ami": {"family": "bottlerocket"}, "disk": {"instance_store": "none"}},
        {
            **GENERAL,
            "sharing": {"strategy": "none"},
            "limits": {"gpus": None},
            "instances": {"types": ["m5.large"], "gpu": {"count": None}},
        },
        {**GOOD, "mig": None, "adopt": False, "network": {"efa": False, "security_groups": []}, "overrides": {"node_group": {}}},
        {**GOOD, "disk": {"type": "gp3", "throughput": 1000, "iops": 4000}},
        {**GOOD, "disk": {"type": "gp2"}, "disruption": {"consolidate_after": "30s"}},
        {"name": "theirs", "provisioner": "managed_node_group", "adopt": True, "scaling": {"max": 5}},
        {**GOOD, "iam": {"node_role": "planned:role/demo-node"}, "network": {"subnets": ["planned:subnet/a", "subnet-0123456789abcdef0"]}},
        dict.fromkeys(POOL_OPTIONS) | {key: GOOD[key] for key in ("name", "provisioner", "instances")},
    ],
)
def test_good_pools(pool: dict[str, t.Any]) -> None:
    assert pool_faults(pool, "") == []


# (what is set, path of the fault, a part of what is allowed instead)
BAD: list[tuple[dict[str, t.Any], str, str]] = [
    ({"name": "In_ference"}, "name", "lower case"),
    ({"name": "a" * 64}, "name", "63"),
    ({"provisioner": None}, "provisioner", "required"),
    ({"provisioner": "karpenter", "scaling": {"min": 1}}, "scaling.min", "auto_scaling_group can"),
    ({"provisioner": "auto_scaling_group", "repair": {"enabled": True}}, "repair.enabled", "managed_node_group and karpenter can"),
    ({"provisioner": "auto_mode"}, "provisioner", "device plugin"),
    ({"instances": None}, "instances", "instances.types or instances.families"),
    ({"instances": {"sizes": ["large"]}}, "instances", "instances.types or instances.families"),
    ({"instances": {"types": ["g5.2xlargee"]}}, "instances.types[0]", "such as g5.2xlarge"),
    ({"instances": {"types": ["g5.xlarge", "m5.large"]}}, "instances.types[1]", "m5 has no GPU"),
    ({"instances": {"families": ["g4ad"]}}, "instances.families[0]", "AMD"),
    ({"instances": {"families": ["inf2"]}}, "instances.families[0]", "Inferentia2"),
    ({"instances": {"types": ["p2.xlarge"]}}, "instances.types[0]", "K80"),
    ({"instances": {"types": ["g7.2xlarge"]}}, "instances.types[0]", "AMI of its own"),
    ({"instances": {"types": ["g5g.xlarge"]}}, "instances.types[0]", "g5g is arm64"),
    ({"instances": {"families": ["5g"]}}, "instances.families[0]", "such as g5"),
    ({"instances": {"families": ["g5"], "sizes": ["huge"]}}, "instances.sizes[0]", "such as 2xlarge"),
    ({"instances": {"families": ["g5"], "architectures": ["amd64", "arm64"]}}, "instances.architectures", "exactly one"),
    ({"instances": {"families": ["g5"], "cpus": {"min": 8, "max": 4}}}, "instances.cpus.min", "at most cpus.max, 4"),
    ({"instances": {"families": ["g5"], "gpu": {"count": [0]}}}, "instances.gpu.count[0]", "at least 1"),
    ({"instances": {"families": ["g5"], "memory_gib": {"min": -1}}}, "instances.memory_gib.min", "at least 0"),
    ({"capacity": {"types": ["reserved"]}}, "capacity.reservations", "ids of the reservations"),
    ({"capacity": {"types": ["capacity_block", "spot"], "reservations": ["cr-0123456789abcdef0"]}}, "capacity.types", "alone"),
    ({"capacity": {"types": ["spot", "spot"]}}, "capacity.types[1]", "once"),
    ({"capacity": {"on_demand_base": 0}}, "capacity.on_demand_base", "auto_scaling_group"),
    ({"capacity": {"on_demand_percentage": 50}}, "capacity.on_demand_percentage", "auto_scaling_group"),
    ({"capacity": {"types": ["reserved"], "reservations": ["cr-1"]}}, "capacity.reservations[0]", "id of a capacity reservation"),
    ({"zones": ["a"]}, "zones[0]", "us-west-2a or usw2-az1"),
    ({"zones": ["us-west-2a", "us-west-2a"]}, "zones[1]", "once"),
    ({"scaling": {"min": 3, "max": 2}}, "scaling.min", "at most scaling.max, 2"),
    ({"scaling": {"min": 11}}, "scaling.min", "10 when left out"),
    ({"scaling": {"min": -1}}, "scaling.min", "at least 0"),
    ({"scaling": {"max": 0}}, "scaling.max", "at least 1"),
    ({"scaling": {"min": 1, "max": 2, "desired": 3}}, "scaling.desired", "1 to 2"),
    ({"scaling": {"desired": -1}}, "scaling.desired", "at least 0"),
    ({"limits": {"gpus": 0}}, "limits.gpus", "at least 1"),
    ({"limits": {"cpus": 8}}, "limits.cpus", "karpenter"),
    ({"labels": {"a b": "x"}}, "labels.a b", "label key"),
    ({"labels": {"team": "-x"}}, "labels.team", "at most 63"),
    ({"labels": {"team": "x" * 64}}, "labels.team", "at most 63"),
    ({"labels": {"node-role.kubernetes.io/gpu": "x"}}, "labels.node-role.kubernetes.io/gpu", "EKS refuses"),
    ({"labels": {"eks.amazonaws.com/x": "x"}}, "labels.eks.amazonaws.com/x", "EKS refuses"),
    ({"labels": {"nvidia.com/gpu.present": "true"}}, "labels.nvidia.com/gpu.present", "follows from"),
    ({"labels": {"gpuops.eks/nodepool": "x"}}, "labels.gpuops.eks/nodepool", "follows from"),
    ({"taints": [{**TAINT, "effect": "NO_SCHEDULE"}]}, "taints[0].effect", "NoSchedule, PreferNoSchedule, NoExecute"),
    ({"taints": [{**TAINT, "key": "a/b/c"}]}, "taints[0].key", "taint key"),
    ({"taints": [{**TAINT, "value": "true:NoSchedule"}]}, "taints[0].value", "at most 63"),
    ({"taints": [TAINT, {**TAINT, "value": "other"}]}, "taints[1]", "once"),
    ({"sharing": {"strategy": "time_slicing", "replicas": 1}}, "sharing.replicas", "at least 2"),
    ({"sharing": {"strategy": "time_slicing", "replicas": 0}}, "sharing.replicas", "at least 2"),
    ({"sharing": {"strategy": "time_slicing"}}, "sharing.replicas", "at least 2"),
    ({"sharing": {"strategy": "mps", "replicas": 49}}, "sharing.replicas", "from 2 to 48"),
    ({"ami": {"release": "20260724"}}, "ami.release", "vYYYYMMDD"),
    ({"ami": {"id": "ami-0123456789abcdef0", "ssm_parameter": "/x"}}, "ami.ssm_parameter", "one image"),
    ({"ami": {"owner": "self"}}, "ami.owner", "without ami.name"),
    ({"ami": {"id": "ami-1"}}, "ami.id", "id of an AMI"),
    ({"disk": {"size_gib": 8}}, "disk.size_gib", "at least 20"),
    ({"disk": {"type": "gp2", "throughput": 200}}, "disk.throughput", "gp3"),
    ({"disk": {"type": "io2"}}, "disk.iops", "required"),
    ({"disk": {"throughput": 1000}}, "disk.throughput", "a quarter"),
    ({"network": {"subnets": ["sn-1"]}}, "network.subnets[0]", "id of a subnet"),
    ({"network": {"security_groups": ["group"]}}, "network.security_groups[0]", "security group"),
    ({"iam": {"node_role": "not a role"}}, "iam.node_role", "name or ARN"),
    ({"iam": {"instance_profile": "p"}}, "iam.instance_profile", "karpenter and auto_scaling_group can"),
    ({"iam": {"policies": ["arn"]}}, "iam.policies[0]", "the ARN of a managed policy"),
    ({"iam": {"policies": [S3, S3]}}, "iam.policies[1]", "each policy once"),
    ({"iam": {"policies": [f"{S3}{number}" for number in range(17)]}}, "iam.policies", "at most 16"),
    ({"iam": {"policies": [S3], "node_role": "gpu"}}, "iam.policies", "unset with iam.node_role"),
    ({"iam": {"policies": [S3]}, "adopt": True}, "iam.policies", "unset with adopt"),
    ({"update": {"max_unavailable": 0}}, "update.max_unavailable", "1 to 100"),
    ({"priority": 101}, "priority", "1 to 100"),
    ({"startup_taints": [TAINT, TAINT]}, "startup_taints[1]", "once"),
    ({"warm_pool": {"min_size": -1}}, "warm_pool.min_size", "at least 0"),
    ({"disruption": {"budgets": [{"nodes": "10%"}]}}, "disruption.budgets", "karpenter"),
    ({"disruption": {"expire_after": "720h"}}, "disruption.expire_after", "karpenter"),
    ({"disruption": {"consolidate_after": "soon"}}, "disruption.consolidate_after", "a duration"),
    ({"user_data": ["echo"]}, "user_data[0]", "begins with #!"),
    ({"overrides": {"node_pool": {"spec": {}}}}, "overrides.node_pool", "karpenter can"),
    ({"tags": {"aws:x": "y"}}, "tags.aws:x", "aws:"),
    ({"tags": {"gpuops.eks/owner": "y"}}, "tags.gpuops.eks/owner", "set by the collection"),
]


@pytest.mark.parametrize(("change", "path", "allowed"), BAD, ids=lambda value: value if isinstance(value, str) else None)
def test_bad_gpu_pools(change: dict[str, t.Any], path: str, allowed: str) -> None:
    faults = found({**GOOD, **change})
    assert list(faults) == [path]
    assert allowed in faults[path]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"sharing": {"strategy": "time_slicing", "replicas": 2}}, "sharing.strategy"),
        ({"instances": {"types": ["m5.large"], "gpu": {"models": ["a10g"]}}}, "instances.gpu"),
        ({"limits": {"gpus": 1}}, "limits.gpus"),
        ({"instances": {"types": ["g5.xlarge"]}}, "instances.types[0]"),
    ],
)
def test_bad_general_pools(change: dict[str, t.Any], path: str) -> None:
    assert list(found({**GENERAL, **change})) == [path]


def test_all_faults_of_all_pools_and_names_given_twice() -> None:
    pools = [GOOD, {**GOOD, "scaling": {"min": 3, "max": 2}}, {**GENERAL, "instances": {"types": ["x"]}}]
    paths = [fault.path for fault in pools_faults(pools, "gpu_nodepools")]
    assert paths == ["gpu_nodepools[1].scaling.min", "gpu_nodepools[2].instances.types[0]", "gpu_nodepools[1].name"]


@pytest.mark.parametrize(
    "junk", [3, "x", [], {}, True, [3], [{"key": 3}], {"min": "x", "types": 3, "family": [], "strategy": []}, {"layout": 3, "replicas": {}}]
)
@pytest.mark.parametrize("option", sorted(POOL_OPTIONS))
def test_values_of_any_type_are_survived(option: str, junk: t.Any) -> None:
    pools_faults([{**GOOD, option: junk}, junk], "gpu_nodepools")
    assert pools_faults(junk if not isinstance(junk, list) else {}, "gpu_nodepools") == []


def test_wrong_types_are_faults_of_form() -> None:
    pool = {**GOOD, "sharing": {"strategy": "time_slicing", "replicas": "ten"}, "scaling": {"min": "one"}, "zone": ["us-west-2a"]}
    paths = {fault.path for fault in form_faults(argument_options(), pool, path="p")}
    assert paths == {"p.sharing.replicas", "p.scaling.min", "p.zone"}


def test_the_argument_spec_fills_in_nothing() -> None:
    result = ArgumentSpecValidator(argument_options()).validate({"name": "a", "scaling": {"max": 3}, "sharing": {}, "disk": {}})
    assert result.error_messages == []
    values = result.validated_parameters
    assert {name: value for name, value in values.items() if value is not None and not isinstance(value, dict)} == {"name": "a"}
    assert values["scaling"] == {"min": None, "max": 3, "desired": None, "scope": None}
    assert set(values["sharing"].values()) == {None}
    assert Pool.from_params(values).disk == Disk()


def test_the_documentation_names_every_option_of_the_argument_spec() -> None:
    def names(table: t.Mapping[str, t.Any], below: str) -> dict[str, t.Any]:
        return {name: names(option[below], below) if below in option else None for name, option in table.items()}

    assert names(documented_options(), "suboptions") == names(argument_options(), "options")
    assert not any("description" in option for option in argument_options().values())
    assert "required" not in argument_options(flat=True)["name"]


def described(
    name: str, *, gpus: int = 1, model: str = "A10G", vcpus: int = 8, memory: int = 32768, arch: str = "x86_64"
) -> dict[str, t.Any]:
    gpu = {"Name": model, "Manufacturer": "NVIDIA", "Count": gpus, "MemoryInfo": {"SizeInMiB": 22888}}
    return {
        "InstanceType": name,
        "VCpuInfo": {"DefaultVCpus": vcpus},
        "MemoryInfo": {"SizeInMiB": memory},
        "ProcessorInfo": {"SupportedArchitectures": [arch]},
        "Hypervisor": "nitro",
        "GpuInfo": {"Gpus": [gpu]},
    }


def test_a_part_of_a_gpu_counts_as_one() -> None:
    instance = InstanceType.from_api(described("g6f.large", gpus=0, model="L4"))
    assert (instance.gpus, instance.fractional, instance.gpu_model) == (1, True, "l4")


def test_gpus_of_other_makers_do_not_count() -> None:
    reply = described("g4ad.xlarge")
    reply["GpuInfo"]["Gpus"][0]["Manufacturer"] = "AMD"
    assert InstanceType.from_api(reply).gpus == 0


@pytest.mark.parametrize(
    ("requirements", "excluded_by"),
    [
        ({}, None),
        ({"types": ["g5.xlarge"]}, "types"),
        ({"categories": ["p"]}, "categories"),
        ({"families": ["g6"]}, "families"),
        ({"sizes": ["xlarge"]}, "sizes"),
        ({"generations": {"min": 6}}, "generations"),
        ({"generations": {"max": 5}}, None),
        ({"architectures": ["arm64"]}, "architectures"),
        ({"hypervisors": ["xen"]}, "hypervisors"),
        ({"cpus": {"max": 4}}, "cpus"),
        ({"cpus": {"values": [4, 16]}}, "cpus"),
        ({"memory_gib": {"min": 33}}, "memory_gib"),
        ({"memory_gib": {"min": 32, "max": 32}}, None),
        ({"gpu": {"models": ["L4"]}}, "gpu.models"),
        ({"gpu": {"models": ["A10G"]}}, None),
        ({"gpu": {"count": [4]}}, "gpu.count"),
        ({"gpu": {"memory_gib": {"min": 24}}}, "gpu.memory_gib"),
    ],
)
def test_requirements(requirements: dict[str, t.Any], excluded_by: str | None) -> None:
    assert InstanceRequirements.from_params(requirements).excluded_by(InstanceType.from_api(described("g5.2xlarge"))) == excluded_by


def test_a_range_without_limits_holds_what_is_not_known() -> None:
    assert Range().holds(None)
    assert not Range(min=1).holds(None)


def test_private_subnets_are_for_nodes_and_all_where_none_is() -> None:
    private = Subnet(id="a", zone="z", tier="private")
    public = Subnet(id="b", zone="z", tier="public")
    assert for_nodes([public, private]) == (private,)
    assert for_nodes([public]) == (public,)


@pytest.mark.parametrize(
    ("set_", "there", "expected"),
    [
        (Disk(), Disk(size_gib=50, type="gp2"), Disk(size_gib=50, type="gp2")),
        (Disk(size_gib=300), Disk(size_gib=200, type="gp3", throughput=600), Disk(size_gib=300, type="gp3", throughput=600)),
        (Disk(type="gp2"), Disk(size_gib=200, type="gp3", throughput=600, iops=4000), Disk(size_gib=200, type="gp2")),
    ],
)
def test_a_disk_over_what_is_there(set_: Disk, there: Disk, expected: Disk) -> None:
    assert set_.over(there) == expected


@pytest.mark.parametrize("raid0", [True, False])
@pytest.mark.parametrize("disk", [Disk(), Disk(type="io2", iops=4000, size_gib=100, kms_key="alias/k")])
def test_a_template_reads_back_as_it_was_written(disk: Disk, raid0: bool) -> None:
    content = new_content(TemplateWish(ami_family="al2023", disk=disk, tags={"a": "b"}, settings={"raid0": raid0}))
    data = content.to_api()
    assert TemplateContent.from_api(data) == content
    assert data["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert data["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    assert {spec["ResourceType"] for spec in data["TagSpecifications"]} == {"instance", "volume", "network-interface"}
    assert ("UserData" in data) is raid0


def test_bottlerocket_keeps_data_on_its_second_volume() -> None:
    assert new_content(TemplateWish(ami_family="bottlerocket")).device == "/dev/xvdb"


@pytest.mark.parametrize(
    ("params", "label"),
    [
        ({}, "a"),
        ({"sharing": {"strategy": "none"}}, "a"),
        ({"sharing": {"strategy": "time_slicing", "replicas": 10}}, "a"),
        ({"ami": {"family": "al2023"}}, "a"),
        ({"ami": {"family": "bottlerocket"}}, None),
        ({"accelerator": "none"}, None),
    ],
)
def test_the_label_that_chooses_the_device_plugins_configuration(params: dict[str, t.Any], label: str | None) -> None:
    assert Pool.from_params({"name": "a", **params}).wanted_labels.get("nvidia.com/device-plugin.config") == label


def test_labels_and_tags_are_text() -> None:
    pool = Pool.from_params({"name": "a", "labels": {"x": True, "y": 1}, "tags": {"n": 42}})
    assert pool.labels == {"x": "true", "y": "1"}
    assert pool.tags == {"n": "42"}
