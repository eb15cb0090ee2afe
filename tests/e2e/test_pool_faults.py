# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What befalls pools of Spot nodes, the same for each provisioner: a zone without capacity, an interruption, another tool that strips tags.

The network is somebody else's. Karpenter and its drain are real; cluster-autoscaler, aws-node-termination-handler and EKS's drain are the lab's.
"""

from __future__ import annotations

import typing as t

import pytest

from lab import audit
from tests.e2e.rehearsal import Play, Rehearsal
from tests.e2e.test_pools import APPS, GENERAL, PROVISIONERS, REPLICAS, nodes_of, pods_on_shares, pool_name, running, until

pytestmark = pytest.mark.soak  # three whole runs of site.yml

FULL, NEXT = "us-west-2a", "us-west-2b"
PODS = "/api/v1/namespaces/default/pods"
POOLS = [pool_name(provisioner) for provisioner in PROVISIONERS]
GROUP_POOLS = POOLS[1:]
TAGS = {"team": "platform", "kubernetes.io/cluster/demo": "shared", "karpenter.sh/discovery": "demo", "gpuops.eks/owner": "a guess"}
PATIENCE = 300
Json = dict[str, t.Any]


@pytest.fixture(scope="module")
def theirs(rehearsal: Rehearsal) -> Json:
    """A VPC with two private subnets and a security group for nodes, with tags that another tool will take away."""
    ec2 = rehearsal.client("ec2")

    def tagged(kind: str) -> list[Json]:
        return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in TAGS.items()]}]

    vpc = ec2.create_vpc(CidrBlock="10.60.0.0/16")["Vpc"]["VpcId"]
    for attribute in ("EnableDnsSupport", "EnableDnsHostnames"):
        ec2.modify_vpc_attribute(VpcId=vpc, **{attribute: {"Value": True}})
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.60.{n}.0/24", AvailabilityZone=zone, TagSpecifications=tagged("subnet"))["Subnet"]
        for n, zone in enumerate((FULL, NEXT))
    ]
    group = ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=vpc, TagSpecifications=tagged("security-group"))
    return {"vpc": vpc, "subnets": [subnet["SubnetId"] for subnet in subnets], "group": group["GroupId"]}


def variables(theirs: Json) -> Json:
    """The same pool of Spot nodes for each provisioner, in a network that is there."""
    pool: Json = {
        "instances": {"types": ["g5.2xlarge"]},
        "zones": [FULL, NEXT],
        "capacity": {"types": ["spot"]},
        "scaling": {"max": 4},
        "sharing": {"strategy": "time_slicing", "replicas": REPLICAS},
        "network": {"security_groups": [theirs["group"]]},
    }
    pools: list[Json] = [{"name": pool_name(provisioner), "provisioner": provisioner, **pool} for provisioner in PROVISIONERS]
    pools[0]["disruption"] = {"consolidate_after": "20s"}  # Karpenter runs in real time
    return {
        "eks_network_vpc_id": theirs["vpc"],
        "eks_network_private_subnet_ids": theirs["subnets"],
        "eks_network_zones": [],
        "gpu_nodepools": [{**GENERAL, "instances": {"types": ["m5.xlarge"]}}, *pools],
        "gpu_workloads_state": "absent",
        "eks_autoscaling_karpenter_replicas": 1,
    }


def converge(rehearsal: Rehearsal, theirs: Json) -> Play:
    play = rehearsal.play("site.yml", **variables(theirs))
    assert play.code == 0, play.output[-6000:]
    return play


def nothing_changes(rehearsal: Rehearsal, theirs: Json) -> Play:
    before = rehearsal.write_count()
    play = converge(rehearsal, theirs)
    assert play.changed == []
    assert rehearsal.write_count() == before
    return play


def ask(rehearsal: Rehearsal) -> None:
    """Ten pods for each pool, on shares of one GPU."""
    for pool in POOLS:
        rehearsal.kube().call("POST", APPS, pods_on_shares(pool, REPLICAS))


def all_run(rehearsal: Rehearsal) -> None:
    until(lambda: all(running(rehearsal, pool) == REPLICAS for pool in POOLS), PATIENCE, "all pods are Running", rehearsal)


def leave(rehearsal: Rehearsal) -> None:
    """No pods, and then no nodes."""
    for pool in POOLS:
        rehearsal.kube().call("DELETE", f"{APPS}/{pool}")
    until(lambda: not any(nodes_of(rehearsal, pool) for pool in POOLS), PATIENCE, "no node is left", rehearsal)


def zones(rehearsal: Rehearsal) -> dict[str, set[str]]:
    return {pool: {node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in nodes_of(rehearsal, pool)} for pool in POOLS}


def instance_of(node: Json) -> str:
    return str(node["spec"]["providerID"].rpartition("/")[2])


def pods_on(rehearsal: Rehearsal, nodes: t.Collection[str]) -> set[str]:
    pods = rehearsal.kube().call("GET", PODS)["items"]
    return {pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") in nodes}


def evicted(rehearsal: Rehearsal) -> set[str]:
    """Pods that somebody asked to leave, which is what a drain does."""
    logs = rehearsal.state.audit.glob(f"*-{rehearsal.cluster}.log")
    events = [event for path in logs for event in audit.read(path)]
    return {event.name for event in events if event.subresource == "eviction" and event.code == 201}


def test_pools_of_spot_nodes_in_a_network_that_is_there(rehearsal: Rehearsal, theirs: Json) -> None:
    converge(rehearsal, theirs)
    assert not any(nodes_of(rehearsal, pool) for pool in POOLS)


def test_where_a_zone_has_no_capacity_the_next_one_serves(rehearsal: Rehearsal) -> None:
    rehearsal.control("faults", kind="capacity", zone=FULL, instance_type="g5.2xlarge")
    ask(rehearsal)
    all_run(rehearsal)
    assert zones(rehearsal) == {pool: {NEXT} for pool in POOLS}


def test_the_next_run_says_so(rehearsal: Rehearsal, theirs: Json) -> None:
    """Where the nodes are, and which groups could not launch. Karpenter asks for both zones at once: nothing of it fails."""
    play = nothing_changes(rehearsal, theirs)
    [capacity] = [task.result["gpu_capacity"] for task in play.tasks if "gpu_capacity" in task.result]
    assert {pool["name"]: pool["zones"] for pool in capacity["pools"]} == {pool: [NEXT] for pool in POOLS}
    failed = [finding["message"] for finding in capacity["findings"] if finding["code"] == "launch_failed"]
    assert len(failed) == len(GROUP_POOLS)
    for pool in GROUP_POOLS:
        [message] = [message for message in failed if f"{pool}-{FULL}-1gpu-spot" in message]
        assert f"sufficient g5.2xlarge capacity in the Availability Zone you requested ({FULL})" in message
    rehearsal.withdraw("faults")


def test_interrupted_nodes_are_drained_and_replaced(rehearsal: Rehearsal) -> None:
    nodes = {pool: nodes_of(rehearsal, pool) for pool in POOLS}
    assert {pool: len(found) for pool, found in nodes.items()} == dict.fromkeys(POOLS, 1)
    pods = pods_on(rehearsal, {node["metadata"]["name"] for [node] in nodes.values()})
    instances = {instance_of(node) for [node] in nodes.values()}
    for instance in instances:
        rehearsal.control("faults", kind="spot_interruption", instance=instance)
    until(
        lambda: not instances & {instance_of(node) for pool in POOLS for node in nodes_of(rehearsal, pool)},
        PATIENCE,
        "the interrupted nodes are gone",
        rehearsal,
    )
    all_run(rehearsal)
    assert {name for name in pods if name.startswith("gpu-")} - evicted(rehearsal) == set()


def test_nothing_of_it_needs_tags_of_what_is_not_ours(rehearsal: Rehearsal, theirs: Json) -> None:
    """Another tool strips the subnets and groups of its network, and EKS's own group, of every tag that can go."""
    leave(rehearsal)
    strip(rehearsal, theirs["vpc"])
    before = tags(rehearsal, theirs["vpc"])
    ask(rehearsal)
    all_run(rehearsal)
    nothing_changes(rehearsal, theirs)
    assert tags(rehearsal, theirs["vpc"]) == before
    assert {key for found in before.values() for key in found if not key.startswith("aws:")} == set()
    leave(rehearsal)


def tags(rehearsal: Rehearsal, vpc: str) -> dict[str, dict[str, str]]:
    """Of the VPC's subnets and security groups, by id."""
    ec2, inside = rehearsal.client("ec2"), [{"Name": "vpc-id", "Values": [vpc]}]
    found = {each["SubnetId"]: each.get("Tags") or () for each in ec2.describe_subnets(Filters=inside)["Subnets"]}
    found |= {each["GroupId"]: each.get("Tags") or () for each in ec2.describe_security_groups(Filters=inside)["SecurityGroups"]}
    return {id_: {tag["Key"]: tag["Value"] for tag in some} for id_, some in found.items()}


def strip(rehearsal: Rehearsal, vpc: str) -> None:
    for id_, found in tags(rehearsal, vpc).items():
        keys = [{"Key": key} for key in found if not key.startswith("aws:")]
        if keys:
            rehearsal.client("ec2").delete_tags(Resources=[id_], Tags=keys)
