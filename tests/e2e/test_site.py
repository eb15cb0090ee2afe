# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""site.yml and destroy.yml on a lab, in the order in which a user meets them. Each test goes on from the state that the one before left."""

from __future__ import annotations

import collections
import os
import typing as t
from pathlib import Path

import pytest

from lab.aws import requestlog
from tests.e2e.endstate import end_state
from tests.e2e.rehearsal import OURS, Play, Rehearsal


class Story:
    """What earlier tests of this file saw."""

    planned: t.ClassVar[list[dict[str, t.Any]]] = []
    foreign: t.ClassVar[dict[str, str]] = {}


def assert_ended(play: Play) -> None:
    assert play.code == 0, play.output[-6000:]


def actions(steps: t.Iterable[dict[str, t.Any]]) -> collections.Counter[str]:
    return collections.Counter(step["action"] for step in steps)


def by_our_modules(entry: requestlog.Entry) -> bool:
    """Of IAM only the service-linked role of Auto Scaling is ours, which the key for volumes names; the rest is amazon.aws's."""
    return entry.service in OURS or entry.operation == "CreateServiceLinkedRole"


def test_check_on_an_empty_account_runs_to_the_plan_line_and_writes_nothing(rehearsal: Rehearsal) -> None:
    play = rehearsal.play("site.yml", "--check", "--diff")
    assert_ended(play)
    assert rehearsal.write_count() == 0
    assert "Plan: " in play.last_line("Plan: ")
    assert not play.last_line("Plan: ").startswith("Plan: 0 to add")
    Story.planned = play.plan
    assert {step["action"] for step in Story.planned} >= {"ec2:CreateVpc", "eks:CreateCluster", "eks:CreateNodegroup"}


def test_the_run_makes_exactly_the_calls_of_the_plan(rehearsal: Rehearsal) -> None:
    play = rehearsal.play("site.yml")
    assert_ended(play)
    made = collections.Counter(f"{entry.service}:{entry.operation}" for entry in rehearsal.aws_writes() if by_our_modules(entry))
    objects = collections.Counter(
        f"kubernetes:{event.verb} {event.resource}{'.' if event.group else ''}{event.group}"
        for event in rehearsal.audit_writes()
        if event.resource != "deployments"  # kubernetes.core's, not ours
    )
    assert actions(Story.planned) == made + objects
    assert actions(play.plan) == made + objects


def test_the_gpu_node_shares_its_gpu_by_ten_and_two_are_used(rehearsal: Rehearsal) -> None:
    nodes = rehearsal.kube().call("GET", "/api/v1/nodes")["items"]
    advertised = [node["status"]["allocatable"]["nvidia.com/gpu"] for node in nodes if "nvidia.com/gpu" in node["status"]["allocatable"]]
    assert advertised == ["10"]
    play = rehearsal.play("playbooks/capacity.yml")
    assert_ended(play)
    [capacity] = [task.result["gpu_capacity"] for task in play.tasks if "gpu_capacity" in task.result]
    [resource] = [each for each in capacity["resources"] if each["name"] == "nvidia.com/gpu"]
    assert (resource["unit"], resource["allocatable"], resource["requested"], resource["free"]) == ("share", 10, 2, 8)


def test_verify_is_content(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    assert_ended(rehearsal.play("playbooks/verify.yml"))
    assert rehearsal.write_count() == before


@pytest.mark.parametrize("options", [(), ("--check", "--diff", "-vvvvv")], ids=["run", "check"])
def test_a_second_run_changes_nothing_and_writes_nothing(rehearsal: Rehearsal, options: tuple[str, ...]) -> None:
    before = rehearsal.write_count()
    play = rehearsal.play("site.yml", *options)
    assert_ended(play)
    assert play.changed == []
    assert rehearsal.write_count() == before
    assert "Plan: 0 to add, 0 to change, 0 to replace, 0 to destroy." in play.last_line("Plan: ")
    for secret in (rehearsal.about["secret_access_key"], "k8s-aws-v1."):
        assert secret not in play.output


def test_a_node_group_deleted_by_hand_comes_back_and_nothing_else_changes(rehearsal: Rehearsal) -> None:
    state = end_state(rehearsal)
    eks = rehearsal.client("eks")
    [gpu] = [name for name in eks.list_nodegroups(clusterName=rehearsal.cluster)["nodegroups"] if "1gpu" in name]
    eks.delete_nodegroup(clusterName=rehearsal.cluster, nodegroupName=gpu)
    eks.get_waiter("nodegroup_deleted").wait(clusterName=rehearsal.cluster, nodegroupName=gpu, WaiterConfig={"Delay": 1})
    play = rehearsal.play("site.yml")
    assert_ended(play)
    assert {task.role for task in play.tasks if task.changed} == {"gpu_nodepools"}
    assert actions(play.plan) == {"eks:CreateNodegroup": 1}
    assert end_state(rehearsal) == state


def test_a_daemonset_deleted_by_hand_comes_back_and_nothing_else_changes(rehearsal: Rehearsal) -> None:
    kube = rehearsal.kube()
    daemon_sets = kube.call("GET", "/apis/apps/v1/daemonsets")["items"]
    [plugin] = [item["metadata"] for item in daemon_sets if item["metadata"]["name"] == "nvidia-device-plugin-gpu"]
    kube.call("DELETE", f"/apis/apps/v1/namespaces/{plugin['namespace']}/daemonsets/{plugin['name']}")
    play = rehearsal.play("site.yml")
    assert_ended(play)
    assert {task.role for task in play.tasks if task.changed} == {"gpu_sharing"}
    assert actions(play.plan) == {"kubernetes:patch daemonsets.apps": 1}


def test_destroy_without_the_exact_confirmation_stops_before_anything(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    for given in ([], ["other"], [rehearsal.cluster, "other"]):
        play = rehearsal.play("playbooks/destroy.yml", gpuops_destroy_confirm=given)
        assert play.code != 0
        assert "gpuops_destroy_confirm" in play.output
    assert rehearsal.write_count() == before


def test_destroy_leaves_what_is_foreign_and_nothing_of_ours(rehearsal: Rehearsal) -> None:
    ec2 = rehearsal.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    instance = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    play = rehearsal.play("playbooks/destroy.yml", gpuops_destroy_confirm=[rehearsal.cluster])
    assert_ended(play)
    assert left(rehearsal) == {}
    assert [each["VpcId"] for each in ec2.describe_vpcs(VpcIds=[vpc])["Vpcs"]] == [vpc]
    [found] = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"]
    assert found["State"]["Name"] == "running"
    assert control_plane_processes(rehearsal) == []


def test_a_second_destroy_changes_nothing(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    play = rehearsal.play("playbooks/destroy.yml", gpuops_destroy_confirm=[rehearsal.cluster])
    assert_ended(play)
    assert play.changed == []
    assert rehearsal.write_count() == before


def left(rehearsal: Rehearsal) -> dict[str, list[str]]:
    """What still carries the cluster's name or our mark, by kind; kinds with nothing left are not in it."""
    ec2 = rehearsal.client("ec2")
    name = rehearsal.cluster

    def marked(items: t.Iterable[dict[str, t.Any]], key: str, tags: str = "Tags") -> list[str]:
        return [
            item[key]
            for item in items
            if any(name in f"{tag['Key']}={tag['Value']}".split("/") or name == tag["Value"] for tag in item.get(tags) or ())
        ]

    instances = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"] if i["State"]["Name"] != "terminated"]
    found = {
        "clusters": [each for each in rehearsal.client("eks").list_clusters()["clusters"] if each == name],
        "instances": marked(instances, "InstanceId"),
        "auto_scaling_groups": [
            g["AutoScalingGroupName"] for g in rehearsal.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        ],
        "launch_templates": [each["LaunchTemplateName"] for each in ec2.describe_launch_templates()["LaunchTemplates"]],
        "network_interfaces": marked(ec2.describe_network_interfaces()["NetworkInterfaces"], "NetworkInterfaceId", "TagSet"),
        "addresses": [each["AllocationId"] for each in ec2.describe_addresses()["Addresses"]],
        "nat_gateways": [each["NatGatewayId"] for each in ec2.describe_nat_gateways()["NatGateways"] if each["State"] != "deleted"],
        "vpcs": marked(ec2.describe_vpcs()["Vpcs"], "VpcId"),
        "security_groups": marked(ec2.describe_security_groups()["SecurityGroups"], "GroupId"),
        "roles": [role["RoleName"] for role in rehearsal.client("iam").list_roles()["Roles"] if name in role["RoleName"]],
    }
    return {kind: names for kind, names in found.items() if names}


def control_plane_processes(rehearsal: Rehearsal) -> list[str]:
    """Command lines of running processes that work in this lab's cluster directories."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = os.readlink(process / "cwd")
        except OSError:
            continue
        if str(rehearsal.state.clusters) in f"{line} {where}" and int(process.name) != os.getpid():
            found.append(line)
    return found
