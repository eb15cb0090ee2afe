# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of files, stand-ins in them, and what is known of pools without asking AWS."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool, resolve
from ansible_collections.gpuops.eks.plugins.module_utils._plan.rendering import (
    catalogue_facts,
    faults_without_aws,
    in_order,
    object_file,
    template_file,
)

from tests.unit.karpenter_objects import pool

SUBNETS = (Subnet(id="planned:subnet/us-west-2a", zone="us-west-2a"),)


def obj(kind: str, name: str, namespace: str | None = None, **content: t.Any) -> dict[str, t.Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}


def without_aws(**params: t.Any) -> tuple[KarpenterPool, list[str]]:
    """The pool as far as it is known, and the paths of what stands against it."""
    wanted = pool(**params)
    facts = catalogue_facts([wanted])
    target = resolve(wanted, [Subnet(id=id_, zone="") for id_ in wanted.subnets] or SUBNETS, facts)
    return target, [fault.path for fault in faults_without_aws(target, facts.types)]


@pytest.mark.parametrize(
    ("manifest", "path"),
    [
        (obj("NodePool", "gpu"), "kubernetes/nodepool_gpu.yaml"),
        (obj("ConfigMap", "plugin", "gpu-operator"), "kubernetes/gpu-operator_configmap_plugin.yaml"),
        (obj("ClusterRole", "system:a/../b"), "kubernetes/clusterrole_system%3Aa%2F..%2Fb.yaml"),
    ],
)
def test_a_file_is_named_by_namespace_kind_and_name(manifest: dict[str, t.Any], path: str) -> None:
    assert object_file(manifest).path == path


def test_a_launch_template_is_named_by_its_name() -> None:
    assert template_file({"LaunchTemplateName": "demo-gpu"}).path == "launch-templates/demo-gpu.json"


def test_a_secret_is_no_file() -> None:
    with pytest.raises(ValueError, match="Secret token: secrets are not written to files"):
        object_file(obj("Secret", "token", "default"))


def test_files_come_in_the_order_of_their_names() -> None:
    files = [object_file(obj("NodePool", name)) for name in ("c", "a", "b")]
    assert [file.path[-6] for file in in_order(files)] == ["a", "b", "c"]


def test_stand_ins_are_found_wherever_they_are_each_once() -> None:
    spec = {
        "role": "planned:role/arn:aws:iam::123456789012:role/demo-node",
        "terms": [{"id": "planned:subnet/a"}, {"id": "planned:subnet/a"}, {"alias": "al2023@planned:ami-release/al2023"}],
        "text": '{"arn": "planned:key/volumes", "size": 1}',
        "weight": 100,
    }
    assert object_file(obj("EC2NodeClass", "gpu", spec=spec)).planned == [
        "planned:ami-release/al2023",
        "planned:key/volumes",
        "planned:role/arn:aws:iam::123456789012:role/demo-node",
        "planned:subnet/a",
    ]
    assert object_file(obj("NodePool", "gpu", spec={"note": "as planned"})).planned == []


@pytest.mark.parametrize(
    ("instances", "counts"),
    [
        ({"types": ["g5.2xlarge"]}, (1,)),
        ({"families": ["g5"]}, (1, 4, 8)),
        ({"families": ["g6e"], "gpu": {"count": [4]}}, (4,)),
        ({"families": ["g6f"]}, (1,)),
        ({"categories": ["p"], "gpu": {"models": ["H200"]}}, (8,)),
        ({"families": ["g5g"], "architectures": ["arm64"]}, (1, 2)),
    ],
)
def test_without_aws_the_catalogue_says_how_many_gpus_nodes_may_have(instances: dict[str, t.Any], counts: tuple[int, ...]) -> None:
    target, faults = without_aws(instances=instances, sharing={"strategy": "time_slicing", "replicas": 10})
    assert faults == []
    assert target.gpu_counts == counts


@pytest.mark.parametrize(
    ("params", "path"),
    [
        ({"instances": {"types": ["g5.2xlarge", "g9.xlarge"]}}, "instances.types[1]"),
        ({"instances": {"families": ["g5", "g9"]}}, "instances.families[1]"),
        ({"instances": {"families": ["g5"], "cpus": {"max": 16}}}, "instances.cpus"),
        ({"instances": {"families": ["g5"], "cpus": {"values": [16]}}}, "instances.cpus"),
        ({"instances": {"families": ["g5"], "memory_gib": {"min": 0}}}, "instances.memory_gib"),
        ({"instances": {"families": ["g5"], "hypervisors": ["nitro"]}}, "instances.hypervisors"),
        ({"network": {"efa": True}}, "network.efa"),
        ({"network": {"subnets": ["subnet-0a"]}, "zones": ["us-west-2a"]}, "zones"),
        ({"zones": ["us-west-2b"]}, "zones[0]"),
        ({"network": {"subnets": ["subnet-0a"]}, "scaling": {"scope": "zone"}}, "scaling.scope"),
        ({"instances": {"types": ["g5.2xlarge"], "gpu": {"count": [4]}}}, "instances.types[0]"),
    ],
)
def test_without_aws_what_only_it_could_say_must_not_be_asked_for(params: dict[str, t.Any], path: str) -> None:
    assert without_aws(**params)[1] == [path]


def test_without_aws_a_general_pool_goes_by_its_own_words() -> None:
    instances = {"families": ["m7i", "unheard1"], "cpus": {"max": 16}, "memory_gib": {"min": 8}, "hypervisors": ["nitro"]}
    target, faults = without_aws(accelerator="none", instances=instances)
    assert (faults, target.gpu_counts, target.overlay_names) == ([], (), {})


def test_without_aws_reservations_are_taken_as_they_are() -> None:
    assert without_aws(capacity={"types": ["reserved"], "reservations": ["cr-0123"]})[1] == []
