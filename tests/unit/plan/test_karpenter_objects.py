# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each option of a pool as the exact part of an EC2NodeClass, a NodePool or a NodeOverlay."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.karpenter import limits, own_image
from ansible_collections.gpuops.eks.plugins.module_utils._model.manifests import value_at
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import parse
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_objects import node_pool, overlay

from tests.unit.karpenter_objects import Json, class_of, foreign, live, node_pool_of, pool, settings, target

REQUIREMENTS = ("spec", "template", "spec", "requirements")
GENERAL = {"accelerator": "none", "instances": {"types": ["m5.large"]}}


def requirement(manifest: Json, key: str) -> list[tuple[str, list[str]]]:
    return [(one["operator"], one["values"]) for one in value_at(manifest, *REQUIREMENTS) if one["key"] == key]


def test_a_new_node_pool_as_a_whole() -> None:
    shared = {"strategy": "time_slicing", "replicas": 10}
    assert node_pool_of(sharing=shared, zones=["us-west-2a"]) == {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {"name": "gpu", "labels": {"app.kubernetes.io/managed-by": "gpuops.eks", "gpuops.eks/nodepool": "gpu"}},
        "spec": {
            "template": {
                "metadata": {
                    "labels": {
                        "gpuops.eks/nodepool": "gpu",
                        "nvidia.com/gpu.present": "true",
                        "nvidia.com/device-plugin.config": "gpu",
                    }
                },
                "spec": {
                    "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"},
                    "requirements": [
                        {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
                        {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]},
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
                        {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["us-west-2a"]},
                        {"key": "karpenter.k8s.aws/instance-gpu-manufacturer", "operator": "In", "values": ["nvidia"]},
                        {"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": ["g5"]},
                    ],
                    "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
                    "expireAfter": "Never",
                },
            },
            "disruption": {"consolidationPolicy": "WhenEmptyOrUnderutilized", "consolidateAfter": "5m"},
            "limits": {"nodes": "10"},
        },
    }


def test_a_new_node_class_as_a_whole() -> None:
    manifest = class_of(zones=["us-west-2b", "us-west-2a"])
    user_data = manifest["spec"].pop("userData")
    assert parse(user_data).fast_image_pull
    assert not parse(user_data).raid0
    assert manifest == {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": {"name": "gpu", "labels": {"app.kubernetes.io/managed-by": "gpuops.eks", "gpuops.eks/nodepool": "gpu"}},
        "spec": {
            "amiSelectorTerms": [{"alias": "al2023@v20260724"}],
            "role": "demo-node",
            "subnetSelectorTerms": [{"id": "subnet-0b"}, {"id": "subnet-0a"}],
            "securityGroupSelectorTerms": [{"id": "sg-0cluster"}],
            "blockDeviceMappings": [
                {
                    "deviceName": "/dev/xvda",
                    "ebs": {
                        "volumeSize": "200Gi",
                        "volumeType": "gp3",
                        "throughput": 600,
                        "encrypted": True,
                        "deleteOnTermination": True,
                    },
                }
            ],
            "instanceStorePolicy": "RAID0",
            "metadataOptions": {
                "httpEndpoint": "enabled",
                "httpProtocolIPv6": "disabled",
                "httpPutResponseHopLimit": 1,
                "httpTokens": "required",
            },
            "tags": {
                "gpuops.eks/owner": "arn:aws:eks:us-west-2:123456789012:cluster/demo",
                "gpuops.eks/component": "nodepool",
                "gpuops.eks/nodepool": "gpu",
            },
        },
    }


INSTANCE = "karpenter.k8s.aws/instance-"
REQUIREMENT_ROWS: list[tuple[Json, str, list[tuple[str, list[str]]]]] = [
    ({"types": ["g5.2xlarge", "g5.12xlarge"]}, "node.kubernetes.io/instance-type", [("In", ["g5.2xlarge", "g5.12xlarge"])]),
    ({"categories": ["g", "p"]}, f"{INSTANCE}category", [("In", ["g", "p"])]),
    ({"families": ["g5", "g6"]}, f"{INSTANCE}family", [("In", ["g5", "g6"])]),
    ({"sizes": ["2xlarge"]}, f"{INSTANCE}size", [("In", ["2xlarge"])]),
    ({"generations": {"min": 5}}, f"{INSTANCE}generation", [("Gt", ["4"])]),
    ({"generations": {"min": 4, "max": 6}}, f"{INSTANCE}generation", [("Gt", ["3"]), ("Lt", ["7"])]),
    ({"generations": {"min": 0}}, f"{INSTANCE}generation", []),
    ({"architectures": ["arm64"]}, "kubernetes.io/arch", [("In", ["arm64"])]),
    ({"hypervisors": ["nitro"]}, f"{INSTANCE}hypervisor", [("In", ["nitro"])]),
    ({"cpus": {"values": [8, 16]}}, f"{INSTANCE}cpu", [("In", ["8", "16"])]),
    ({"cpus": {"min": 4, "max": 64}}, f"{INSTANCE}cpu", [("Gt", ["3"]), ("Lt", ["65"])]),
    ({"memory_gib": {"min": 16}}, f"{INSTANCE}memory", [("Gt", ["16383"])]),
    ({"memory_gib": {"max": 64}}, f"{INSTANCE}memory", [("Lt", ["65537"])]),
    ({"gpu": {"models": ["RTX PRO Server 6000"]}}, f"{INSTANCE}gpu-name", [("In", ["rtx-pro-server-6000"])]),
    ({"families": ["g5"], "gpu": {"count": [4, 1]}}, f"{INSTANCE}gpu-count", [("In", ["1", "4"])]),
    ({"gpu": {"memory_gib": {"min": 22}}}, f"{INSTANCE}gpu-memory", [("Gt", ["22527"])]),
    ({}, f"{INSTANCE}family", []),
    ({"families": ["g5", "g6f"], "gpu": {"count": [1]}}, f"{INSTANCE}gpu-count", [("In", ["0", "1"])]),
]


@pytest.mark.parametrize(("instances", "key", "expected"), REQUIREMENT_ROWS)
def test_what_instances_become(instances: Json, key: str, expected: list[tuple[str, list[str]]]) -> None:
    assert requirement(node_pool_of(instances=instances), key) == expected


@pytest.mark.parametrize(
    ("params", "key", "expected"),
    [
        ({"capacity": {"types": ["spot", "on_demand"]}}, "karpenter.sh/capacity-type", [("In", ["spot", "on-demand"])]),
        (
            {"capacity": {"types": ["reserved", "capacity_block"], "reservations": ["cr-01"]}},
            "karpenter.sh/capacity-type",
            [("In", ["reserved"])],
        ),
        ({"zones": ["us-west-2a", "us-west-2c"]}, "topology.kubernetes.io/zone", [("In", ["us-west-2a", "us-west-2c"])]),
        ({"zones": ["usw2-az3"]}, "topology.k8s.aws/zone-id", [("In", ["usw2-az3"])]),
        ({"zones": ["usw2-az3", "us-west-2a"]}, "topology.kubernetes.io/zone", [("In", ["us-west-2c", "us-west-2a"])]),
        ({}, "topology.kubernetes.io/zone", []),
        (GENERAL, f"{INSTANCE}gpu-manufacturer", [("NotIn", ["nvidia"])]),
    ],
)
def test_what_capacity_zones_and_accelerator_become(params: Json, key: str, expected: list[tuple[str, list[str]]]) -> None:
    assert requirement(node_pool_of(**params), key) == expected


TEMPLATE = ("spec", "template", "spec")
NODE_POOL_ROWS: list[tuple[Json, tuple[str, ...], t.Any]] = [
    ({"labels": {"team": "a"}}, ("spec", "template", "metadata", "labels", "team"), "a"),
    ({"taints": [{"key": "a", "effect": "NoExecute"}]}, (*TEMPLATE, "taints"), [{"key": "a", "effect": "NoExecute"}]),
    ({"taints": []}, (*TEMPLATE, "taints"), None),
    (GENERAL, (*TEMPLATE, "taints"), None),
    (
        {"startup_taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]},
        (*TEMPLATE, "startupTaints"),
        [{"key": "a", "value": "b", "effect": "NoSchedule"}],
    ),
    ({}, (*TEMPLATE, "startupTaints"), None),
    ({"priority": 10}, ("spec", "weight"), 10),
    ({}, ("spec", "weight"), None),
    ({"scaling": {"max": 3}}, ("spec", "limits"), {"nodes": "3"}),
    ({"limits": {"cpus": 64, "memory_gib": 256}}, ("spec", "limits"), {"nodes": "10", "cpu": "64", "memory": "256Gi"}),
    ({"disruption": {"consolidation": "WhenEmpty"}}, ("spec", "disruption", "consolidationPolicy"), "WhenEmpty"),
    ({"disruption": {"consolidate_after": "30s"}}, ("spec", "disruption", "consolidateAfter"), "30s"),
    ({"disruption": {"budgets": [{"nodes": "1"}]}}, ("spec", "disruption", "budgets"), [{"nodes": "1"}]),
    ({"disruption": {"expire_after": "720h"}}, (*TEMPLATE, "expireAfter"), "720h"),
    (GENERAL, (*TEMPLATE, "expireAfter"), None),
]


@pytest.mark.parametrize(("params", "path", "expected"), NODE_POOL_ROWS)
def test_what_other_options_become_of_a_node_pool(params: Json, path: tuple[str, ...], expected: t.Any) -> None:
    assert value_at(node_pool_of(**params), *path) == expected


def test_overrides_come_last() -> None:
    over: Json = {"spec": {"template": {"spec": {"terminationGracePeriod": "1h", "requirements": [], "expireAfter": None}}}}
    spec = node_pool_of(overrides={"node_pool": over})["spec"]["template"]["spec"]
    assert (spec["terminationGracePeriod"], spec["requirements"], "expireAfter" in spec) == ("1h", [], False)
    assert spec["taints"], "what the override does not name stays"
    manifest = class_of(overrides={"node_class": {"spec": {"kubelet": {"maxPods": 50}, "metadataOptions": {"httpPutResponseHopLimit": 2}}}})
    assert manifest["spec"]["kubelet"] == {"maxPods": 50}
    assert manifest["spec"]["metadataOptions"]["httpPutResponseHopLimit"] == 2
    assert manifest["spec"]["metadataOptions"]["httpTokens"] == "required"


CLASS_ROWS: list[tuple[Json, str, t.Any]] = [
    ({"iam": {"instance_profile": "nodes"}}, "instanceProfile", "nodes"),
    ({"iam": {"instance_profile": "nodes"}}, "role", None),
    ({"iam": {"node_role": "other"}}, "role", "other"),
    (
        {"network": {"security_groups": ["sg-01", "sg-0cluster"]}},
        "securityGroupSelectorTerms",
        [{"id": "sg-0cluster"}, {"id": "sg-01"}],
    ),
    (
        {"capacity": {"types": ["reserved"], "reservations": ["cr-01", "cr-02"]}},
        "capacityReservationSelectorTerms",
        [{"id": "cr-01"}, {"id": "cr-02"}],
    ),
    ({"network": {"placement_group": "rack"}}, "placementGroupSelector", {"name": "rack"}),
    ({"network": {"placement_group": "pg-0123"}}, "placementGroupSelector", {"id": "pg-0123"}),
    (
        {"network": {"efa": True}, "instances": {"types": ["p4d.24xlarge"]}},
        "networkInterfaces",
        [
            {"networkCardIndex": 0, "deviceIndex": 0, "interfaceType": "interface"},
            *({"networkCardIndex": card, "deviceIndex": 1, "interfaceType": "efa-only"} for card in range(4)),
        ],
    ),
    ({}, "networkInterfaces", None),
    ({"disk": {"instance_store": "none"}}, "instanceStorePolicy", None),
    (
        {"disk": {"size_gib": 500, "type": "io2", "iops": 8000, "kms_key": "alias/mine"}},
        "blockDeviceMappings",
        [
            {
                "deviceName": "/dev/xvda",
                "ebs": {
                    "volumeSize": "500Gi",
                    "volumeType": "io2",
                    "iops": 8000,
                    "kmsKeyID": "alias/mine",
                    "encrypted": True,
                    "deleteOnTermination": True,
                },
            }
        ],
    ),
]


@pytest.mark.parametrize(("params", "name", "expected"), CLASS_ROWS)
def test_what_options_become_of_a_node_class(params: Json, name: str, expected: t.Any) -> None:
    assert class_of(**params)["spec"].get(name) == expected


def test_bottlerocket_has_two_disks_and_its_plugin_is_told_in_user_data() -> None:
    sharing = {"strategy": "time_slicing", "replicas": 4}
    spec = class_of(ami={"family": "bottlerocket"}, sharing=sharing, disk={"kms_key": "alias/mine"})["spec"]
    assert [(one["deviceName"], one["ebs"]["volumeSize"], one["ebs"]["kmsKeyID"]) for one in spec["blockDeviceMappings"]] == [
        ("/dev/xvda", "4Gi", "alias/mine"),
        ("/dev/xvdb", "200Gi", "alias/mine"),
    ]
    told = parse(spec["userData"]).sharing
    assert told is not None
    assert (told.replicas, told.rename) == (4, False)
    assert "instanceStorePolicy" not in spec


def test_the_users_parts_follow_ours_in_user_data() -> None:
    spec = class_of(user_data=["#!/bin/sh\necho hello"], disk={"throughput": 125})["spec"]
    assert parse(spec["userData"]).extra == ("#!/bin/sh\necho hello",)
    assert not parse(spec["userData"]).fast_image_pull, "slower on such a disk"


def test_an_image_of_the_users_own() -> None:
    manifest = class_of(settings_=settings(images={"gpu": own_image("bottlerocket", "ami-0123", "name self/mine")}))
    assert manifest["spec"]["amiSelectorTerms"] == [{"id": "ami-0123"}]
    assert manifest["spec"]["amiFamily"] == "Bottlerocket"
    assert manifest["metadata"]["annotations"] == {"gpuops.eks/image": "name self/mine"}


# -- limits


def sharing(replicas: int, **more: t.Any) -> Json:
    return {"strategy": "time_slicing", "replicas": replicas, **more}


@pytest.mark.parametrize(
    ("params", "largest", "expected"),
    [
        ({"limits": {"gpus": 32}}, 4, {"nodes": "10", "nvidia.com/gpu": "32"}),
        ({"limits": {"gpus": 8}, "sharing": sharing(10)}, 1, {"nodes": "10", "nvidia.com/gpu": "80"}),
        ({"limits": {"gpus": 8}, "mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}, 8, {"nodes": "10", "nvidia.com/gpu": "56"}),
        ({"limits": {"gpus": 18}, "mig": {"strategy": "mixed", "layout": {"1g.5gb": 7}}}, 8, {"nodes": "2"}),
        ({"limits": {"gpus": 9}, "sharing": sharing(10, rename=True)}, 4, {"nodes": "2"}),
        ({"limits": {"gpus": 90}, "sharing": sharing(10, rename=True), "scaling": {"max": 5}}, 4, {"nodes": "5"}),
        ({"scaling": {"max": 5}}, 4, {"nodes": "5"}),
    ],
)
def test_limits_are_what_karpenter_counts(params: Json, largest: int, expected: dict[str, str]) -> None:
    assert limits(pool(**params), largest=largest).values == expected


def test_limits_of_a_pool_are_shared_out_over_its_zones() -> None:
    found = target(scaling={"scope": "zone", "max": 4}, limits={"gpus": 8, "cpus": 100}, zones=["us-west-2a", "us-west-2b", "us-west-2c"])
    manifests = [node_pool(found, part, None) for part in found.parts]
    assert [manifest["metadata"]["name"] for manifest in manifests] == ["gpu-us-west-2a", "gpu-us-west-2b", "gpu-us-west-2c"]
    assert [manifest["spec"]["limits"] for manifest in manifests] == [
        {"nodes": "4", "nvidia.com/gpu": "3", "cpu": "34"},
        {"nodes": "4", "nvidia.com/gpu": "3", "cpu": "33"},
        {"nodes": "4", "nvidia.com/gpu": "2", "cpu": "33"},
    ]
    assert [requirement(manifest, "topology.kubernetes.io/zone") for manifest in manifests] == [
        [("In", [f"us-west-2{letter}"])] for letter in "abc"
    ]
    assert {manifest["spec"]["template"]["spec"]["nodeClassRef"]["name"] for manifest in manifests} == {"gpu"}


# -- overlays


def overlays(**params: t.Any) -> dict[str, Json]:
    found = target(**params)
    return {name: overlay(found, name, weight=100, node_pools=["gpu"], live=None)["spec"] for name in found.overlay_names}


def test_overlays_say_what_a_node_advertises() -> None:
    assert overlays(sharing=sharing(10)) == {
        f"gpu-{gpus}gpu": {
            "requirements": [
                {"key": "karpenter.sh/nodepool", "operator": "In", "values": ["gpu"]},
                {"key": "karpenter.k8s.aws/instance-gpu-count", "operator": "In", "values": [str(gpus)]},
            ],
            "capacity": {"nvidia.com/gpu": str(gpus * 10)},
            "weight": 100,
        }
        for gpus in (1, 4)
    }


@pytest.mark.parametrize(
    ("params", "capacity"),
    [
        ({"sharing": sharing(10, rename=True)}, {"nvidia.com/gpu": "0", "nvidia.com/gpu.shared": "10"}),
        ({"mig": {"strategy": "mixed", "layout": {"1g.5gb": 7}}}, {"nvidia.com/gpu": "0", "nvidia.com/mig-1g.5gb": "7"}),
        ({"mig": {"strategy": "single", "layout": {"1g.5gb": 7}}}, {"nvidia.com/gpu": "7"}),
    ],
)
def test_what_has_another_name_leaves_no_gpu(params: Json, capacity: dict[str, str]) -> None:
    assert overlays(instances={"types": ["g5.2xlarge"]}, **params)["gpu-1gpu"]["capacity"] == capacity


def test_whole_gpus_need_no_overlay_but_parts_of_one_do() -> None:
    assert overlays() == {}
    assert overlays(**GENERAL) == {}
    parts = overlays(instances={"families": ["g6f"]})
    assert list(parts) == ["gpu-1gpu"]
    assert parts["gpu-1gpu"]["requirements"][1]["values"] == ["0", "1"], "Karpenter says that they have 0"
    assert parts["gpu-1gpu"]["capacity"] == {"nvidia.com/gpu": "1"}


# -- what is there


def test_what_is_as_it_was_made_stays() -> None:
    for build in (class_of, node_pool_of):
        made = build(sharing=sharing(10), limits={"gpus": 4}, priority=3)
        assert build(live(made), sharing=sharing(10), limits={"gpus": 4}, priority=3) == made


def test_options_that_are_no_longer_set_are_not_managed() -> None:
    made = node_pool_of(priority=7, limits={"gpus": 4, "cpus": 9}, disruption={"budgets": [{"nodes": "1"}]}, labels={"team": "a"})
    assert node_pool_of(live(made)) == made
    class_made = class_of(tags={"team": "a"}, disk={"size_gib": 400}, network={"placement_group": "rack"}, user_data=["#!/bin/sh"])
    assert class_of(live(class_made), settings_=settings(images={})) == class_made


def test_what_somebody_else_changed_of_an_unset_option_is_left_to_them() -> None:
    made = node_pool_of()
    changed = live(made)
    changed["spec"]["limits"]["nodes"] = "50"
    del changed["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:limits"]
    assert "limits" not in node_pool_of(changed)["spec"], "it is theirs now: we do not apply it"
    assert node_pool_of(changed, scaling={"max": 3})["spec"]["limits"] == {"nodes": "3"}, "what is set is ours"


def test_options_that_are_set_change_only_what_they_say() -> None:
    made = live(class_of(disk={"size_gib": 400, "throughput": 700}))
    changed = class_of(made, settings_=settings(images={}), disk={"size_gib": 500})["spec"]
    before = copy.deepcopy(made["spec"])
    before["blockDeviceMappings"][0]["ebs"]["volumeSize"] = "500Gi"
    assert changed == before


def test_labels_and_tags_that_are_set_are_the_whole_set() -> None:
    made = live(node_pool_of(labels={"team": "a", "stage": "b"}))
    assert set(node_pool_of(made, labels={"team": "a"})["spec"]["template"]["metadata"]["labels"]) == {
        "team",
        "gpuops.eks/nodepool",
        "nvidia.com/gpu.present",
        "nvidia.com/device-plugin.config",
    }
    class_made = live(class_of(tags={"team": "a", "stage": "b"}))
    assert "stage" not in class_of(class_made, tags={"team": "a"})["spec"]["tags"]
    assert "stage" in class_of(class_made, settings_=settings(purge_tags=False), tags={"team": "a"})["spec"]["tags"]


def test_a_profile_takes_the_roles_place() -> None:
    made = live(class_of())
    spec = class_of(made, iam={"instance_profile": "nodes"})["spec"]
    assert (spec.get("role"), spec["instanceProfile"]) == (None, "nodes")


# -- adopted


ADOPTED_SPEC: Json = {
    "template": {
        "metadata": {"labels": {"team": "theirs"}},
        "spec": {
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
            "requirements": [
                {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]},
                {"key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": ["g4dn"]},
                {"key": "example.com/rack", "operator": "Exists"},
            ],
        },
    },
    "limits": {"cpu": 80},
}


def test_an_adopted_pool_gets_what_the_user_set_and_no_mark() -> None:
    manifest = node_pool_of(foreign("NodePool", "gpu", ADOPTED_SPEC), adopt=True, priority=9)
    assert "labels" not in manifest["metadata"]
    assert manifest["spec"]["weight"] == 9
    assert "limits" not in manifest["spec"]
    assert "disruption" not in manifest["spec"]
    template = manifest["spec"]["template"]
    assert template["metadata"]["labels"] == {"team": "theirs"}
    assert "nodeClassRef" not in template["spec"]
    assert requirement(manifest, "karpenter.sh/capacity-type") == [("In", ["spot"])], "a default takes nothing's place"
    assert requirement(manifest, "karpenter.k8s.aws/instance-family") == [("In", ["g5"])]
    assert {"key": "example.com/rack", "operator": "Exists"} in template["spec"]["requirements"]


def test_an_adopted_pool_is_the_same_the_next_time() -> None:
    theirs = foreign("NodePool", "gpu", ADOPTED_SPEC)
    first = node_pool_of(theirs, adopt=True, instances={"families": ["g5"], "cpus": {"min": 4, "max": 8}})
    theirs["spec"]["template"]["spec"]["requirements"] = value_at(first, *REQUIREMENTS)
    again = node_pool_of(theirs, adopt=True, instances={"families": ["g5"], "cpus": {"min": 4, "max": 8}})
    assert value_at(again, *REQUIREMENTS) == value_at(first, *REQUIREMENTS)
    assert [one["key"] for one in value_at(first, *REQUIREMENTS)][:3] == [one["key"] for one in value_at(ADOPTED_SPEC, *REQUIREMENTS[1:])]
    assert requirement(first, "karpenter.k8s.aws/instance-cpu") == [("Gt", ["3"]), ("Lt", ["9"])]


def test_an_adopted_pool_that_shares_chooses_its_device_plugin() -> None:
    manifest = node_pool_of(foreign("NodePool", "gpu", ADOPTED_SPEC), adopt=True, sharing=sharing(10))
    assert manifest["spec"]["template"]["metadata"]["labels"] == {
        "team": "theirs",
        "nvidia.com/gpu.present": "true",
        "nvidia.com/device-plugin.config": "gpu",
    }


def test_an_adopted_class_gets_nothing_unasked() -> None:
    theirs = foreign("EC2NodeClass", "gpu", {"amiSelectorTerms": [{"alias": "al2023@latest"}], "role": "theirs", "tags": {"a": "b"}})
    assert "spec" not in class_of(theirs, settings_=settings(images={}), adopt=True)
    assert class_of(theirs, settings_=settings(images={}), adopt=True, tags={"team": "a"})["spec"] == {"tags": {"a": "b", "team": "a"}}
