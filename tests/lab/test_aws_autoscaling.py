# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Auto Scaling groups, against the API reference and the pages of the Amazon EC2 Auto Scaling User Guide that tests name."""

from __future__ import annotations

import datetime
import json
import typing as t
from collections import Counter
from dataclasses import dataclass

import pytest
import requests

from tests.lab.conftest import Aws, refused

LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
Json = dict[str, t.Any]


@dataclass
class Group:
    """An Auto Scaling group named own, and its template."""

    aws: Aws
    subnets: list[str]
    template: str

    @property
    def client(self) -> t.Any:
        return self.aws.client("autoscaling")

    def create(self, *, zones: int = 1, types: tuple[str, ...] = (), distribution: Json | None = None, **changes: t.Any) -> None:
        template = {"LaunchTemplateId": self.template, "Version": changes.pop("version", "$Latest")}
        source: Json = {"LaunchTemplate": template}
        if types:
            launch = {"LaunchTemplateSpecification": template, "Overrides": [{"InstanceType": name} for name in types]}
            source = {"MixedInstancesPolicy": {"LaunchTemplate": launch, "InstancesDistribution": distribution or {}}}
        request = {
            "MinSize": 0,
            "MaxSize": 4,
            "DesiredCapacity": 2,
            "VPCZoneIdentifier": ",".join(self.subnets[:zones]),
            **source,
            **changes,
        }
        self.client.create_auto_scaling_group(AutoScalingGroupName="own", **request)

    def update(self, **changes: t.Any) -> None:
        self.client.update_auto_scaling_group(AutoScalingGroupName="own", **changes)

    def resize(self, desired: int) -> None:
        self.client.set_desired_capacity(AutoScalingGroupName="own", DesiredCapacity=desired)

    def describe(self) -> Json:
        (group,) = self.client.describe_auto_scaling_groups(AutoScalingGroupNames=["own"])["AutoScalingGroups"]
        return t.cast(Json, group)

    def instances(self) -> list[Json]:
        filters = [{"Name": "tag:aws:autoscaling:groupName", "Values": ["own"]}, {"Name": "instance-state-name", "Values": ["running"]}]
        found = self.aws.client("ec2").describe_instances(Filters=filters)["Reservations"]
        return [instance for reservation in found for instance in reservation["Instances"]]

    def ids(self) -> set[str]:
        return {instance["InstanceId"] for instance in self.instances()}

    def zones(self) -> Counter[str]:
        return Counter(instance["Placement"]["AvailabilityZone"][-1] for instance in self.instances())

    def states(self) -> list[str]:
        return sorted(item["LifecycleState"] for item in self.describe()["Instances"])

    def activities(self) -> list[Json]:
        found: list[Json] = self.client.describe_scaling_activities(AutoScalingGroupName="own")["Activities"]
        return found

    def new_version(self, **data: t.Any) -> None:
        self.aws.client("ec2").create_launch_template_version(LaunchTemplateId=self.template, SourceVersion="1", LaunchTemplateData=data)


@pytest.fixture
def group(aws: Aws) -> Group:
    _vpc, subnets = aws.subnets()
    data = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "g5.xlarge"}
    reply = aws.client("ec2").create_launch_template(LaunchTemplateName="own", LaunchTemplateData=data)
    return Group(aws, subnets, reply["LaunchTemplate"]["LaunchTemplateId"])


# Sizes


def test_sizes_that_do_not_fit(group: Group) -> None:
    """API SetDesiredCapacity and UpdateAutoScalingGroup: ValidationError, in the words that users quote (eksops, kops, boto3 issues)."""
    sizes = {"MinSize": 3, "MaxSize": 2}
    assert refused(group.create, **sizes) == ("ValidationError", "Max bound, 2, must be greater than or equal to min bound, 3")
    group.create(MinSize=1)
    assert refused(group.resize, 5)[1] == "New SetDesiredCapacity value 5 is above max value 4 for the AutoScalingGroup."
    assert refused(group.resize, 0)[1] == "New SetDesiredCapacity value 0 is below min value 1 for the AutoScalingGroup."
    message = "Desired capacity:7 must be between the specified min size:1 and max size:4"
    assert refused(group.update, DesiredCapacity=7) == ("ValidationError", message)
    unknown = refused(group.client.update_auto_scaling_group, AutoScalingGroupName="none", MaxSize=1)
    assert unknown[0] == "ValidationError"
    assert "name not found" in unknown[1]


def test_sizes_pull_the_desired_one_along(group: Group) -> None:
    """API UpdateAutoScalingGroup: a MaxSize below the desired capacity lowers it, a MinSize above the group's size raises it."""
    group.create()
    group.update(MinSize=3)
    assert (group.describe()["DesiredCapacity"], len(group.ids())) == (3, 3)
    group.update(MinSize=0, MaxSize=1)
    assert (group.describe()["DesiredCapacity"], len(group.ids())) == (1, 1)


def test_terminating_one_instance(group: Group) -> None:
    """API TerminateInstanceInAutoScalingGroup: with and without decrement; never below the minimum; unknown instances."""
    group.create(MinSize=1)
    first, second = sorted(group.ids())
    terminate = group.client.terminate_instance_in_auto_scaling_group
    activity = terminate(InstanceId=first, ShouldDecrementDesiredCapacity=True)["Activity"]
    assert (activity["StatusCode"], first in activity["Description"]) == ("InProgress", True)
    assert (group.ids(), group.describe()["DesiredCapacity"]) == ({second}, 1)
    code, message = refused(terminate, InstanceId=second, ShouldDecrementDesiredCapacity=True)
    assert code == "ValidationError"
    assert "Currently, desiredSize equals minSize (1)" in message
    terminate(InstanceId=second, ShouldDecrementDesiredCapacity=False)
    assert second not in group.ids()
    assert len(group.ids()) == 1
    gone = refused(terminate, InstanceId=first, ShouldDecrementDesiredCapacity=False)
    assert gone == ("ValidationError", f"Instance Id not found - No managed instance found for instance ID: {first}")


def test_who_goes_first(group: Group) -> None:
    """ec2-auto-scaling-termination-policies: the fullest zone, then the oldest template; protected instances stay."""
    group.create(zones=2, DesiredCapacity=3)
    fullest = next(zone for zone, count in group.zones().items() if count == 2)
    group.resize(2)
    assert group.zones() == Counter("ab")
    assert fullest in "ab"
    group.new_version(InstanceType="g5.2xlarge")
    group.resize(4)
    old = {instance["InstanceId"] for instance in group.instances() if instance["InstanceType"] == "g5.xlarge"}
    protected = min(old)
    group.client.set_instance_protection(AutoScalingGroupName="own", InstanceIds=[protected], ProtectedFromScaleIn=True)
    group.resize(1)
    assert group.ids() == {protected}
    group.resize(0)
    assert group.ids() == {protected}


def test_activities(group: Group) -> None:
    """API DescribeScalingActivities: newest first, pages, by id; launches and terminations."""
    group.create()
    group.resize(1)
    found = group.activities()
    assert [item["Description"].split(":")[0] for item in found] == ["Terminating EC2 instance", *["Launching a new EC2 instance"] * 2]
    page = group.client.describe_scaling_activities(AutoScalingGroupName="own", MaxRecords=2)
    assert (len(page["Activities"]), bool(page["NextToken"])) == (2, True)
    one = group.client.describe_scaling_activities(AutoScalingGroupName="own", ActivityIds=[found[1]["ActivityId"]])
    assert [item["ActivityId"] for item in one["Activities"]] == [found[1]["ActivityId"]]


# What is launched


def test_spot_groups(group: Group) -> None:
    """API LaunchTemplateInstanceMarketOptions: a group whose template asks for Spot gets nothing else."""
    group.new_version(InstanceMarketOptions={"MarketType": "spot"})
    group.create()
    assert {instance["InstanceLifecycle"] for instance in group.instances()} == {"spot"}


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ({"OnDemandPercentageAboveBaseCapacity": 0, "SpotAllocationStrategy": "price-capacity-optimized"}, "g6.xlarge"),
        ({"OnDemandPercentageAboveBaseCapacity": 0, "SpotAllocationStrategy": "lowest-price"}, "g6.xlarge"),
        ({"OnDemandPercentageAboveBaseCapacity": 0, "SpotAllocationStrategy": "capacity-optimized-prioritized"}, "g5.xlarge"),
        ({"OnDemandAllocationStrategy": "prioritized"}, "g5.xlarge"),
        ({"OnDemandAllocationStrategy": "lowest-price"}, "g6.xlarge"),
    ],
)
def test_allocation_strategies(group: Group, distribution: Json, expected: str) -> None:
    """allocation-strategies: by price (g6.xlarge is cheaper than g5.xlarge, p5.48xlarge dearest) or in the order of the overrides."""
    group.create(types=("g5.xlarge", "p5.48xlarge", "g6.xlarge"), distribution=distribution)
    assert {instance["InstanceType"] for instance in group.instances()} == {expected}


def test_the_next_cheapest_where_there_is_no_capacity(group: Group) -> None:
    """allocation-strategies, price-capacity-optimized: of the pools with capacity."""
    group.aws.server.faults.add({"kind": "capacity", "instance_type": "g6.xlarge", "capacity_type": "spot"})
    distribution = {"OnDemandPercentageAboveBaseCapacity": 50, "SpotAllocationStrategy": "price-capacity-optimized"}
    group.create(types=("g5.2xlarge", "g6.xlarge", "g5.xlarge"), distribution=distribution)
    found = {(item["InstanceType"], item.get("InstanceLifecycle", "on-demand")) for item in group.instances()}
    assert found == {("g5.2xlarge", "on-demand"), ("g5.xlarge", "spot")}


@pytest.mark.parametrize(
    ("version", "expected"), [("$Latest", "g5.2xlarge"), ("$Default", "g5.xlarge"), ("1", "g5.xlarge"), ("2", "g5.2xlarge")]
)
def test_versions_of_the_template(group: Group, version: str, expected: str) -> None:
    """API LaunchTemplateSpecification.Version; what an instance was launched from is shown by number and stays."""
    group.new_version(InstanceType="g5.2xlarge")
    group.create(version=version)
    assert {instance["InstanceType"] for instance in group.instances()} == {expected}
    group.new_version(InstanceType="g5.4xlarge")
    number = "2" if expected == "g5.2xlarge" else "1"
    assert {item["LaunchTemplate"]["Version"] for item in group.describe()["Instances"]} == {number}
    group.resize(3)
    newest = "g5.4xlarge" if version == "$Latest" else expected
    assert Counter(item["InstanceType"] for item in group.instances())[newest] >= 1


def test_tags_at_launch(group: Group) -> None:
    """API Tag.PropagateAtLaunch: such tags alone; changes reach instances launched later."""
    group.create(DesiredCapacity=1, Tags=[{"Key": "a", "Value": "1", "PropagateAtLaunch": True}, {"Key": "b", "Value": "1"}])
    (first,) = group.instances()
    assert {tag["Key"] for tag in first["Tags"]} >= {"a"}
    assert "b" not in {tag["Key"] for tag in first["Tags"]}
    tag = {"ResourceId": "own", "ResourceType": "auto-scaling-group", "Key": "c", "Value": "2", "PropagateAtLaunch": True}
    group.client.create_or_update_tags(Tags=[tag])
    group.resize(2)
    (second,) = [item for item in group.instances() if item["InstanceId"] != first["InstanceId"]]
    assert {"Key": "c", "Value": "2"} in second["Tags"]


# Settings


SETTINGS: list[tuple[str, t.Any, t.Any]] = [
    ("CapacityRebalance", True, False),
    ("DefaultCooldown", 60, 90),
    ("DefaultInstanceWarmup", 30, 40),
    ("DeletionProtection", "prevent-all-deletion", "none"),
    ("MaxInstanceLifetime", 86400, 172800),
    ("TerminationPolicies", ["NewestInstance"], ["OldestInstance", "Default"]),
    ("HealthCheckGracePeriod", 10, 20),
    ("NewInstancesProtectedFromScaleIn", True, False),
    (
        "AvailabilityZoneDistribution",
        {"CapacityDistributionStrategy": "balanced-only"},
        {"CapacityDistributionStrategy": "balanced-best-effort"},
    ),
    (
        "InstanceMaintenancePolicy",
        {"MinHealthyPercentage": 90, "MaxHealthyPercentage": 120},
        {"MinHealthyPercentage": 50, "MaxHealthyPercentage": 100},
    ),
    ("CapacityReservationSpecification", {"CapacityReservationPreference": "none"}, {"CapacityReservationPreference": "default"}),
    ("DesiredCapacityType", "units", "vcpu"),
    (
        "InstanceLifecyclePolicy",
        {"RetentionTriggers": {"TerminateHookAbandon": "retain"}},
        {"RetentionTriggers": {"TerminateHookAbandon": "terminate"}},
    ),
]


@pytest.mark.parametrize(("name", "first", "second"), SETTINGS, ids=[row[0] for row in SETTINGS])
def test_each_setting_is_kept_and_changed(group: Group, name: str, first: t.Any, second: t.Any) -> None:
    """API AutoScalingGroup: what was asked for at creation and at updates, which leave alone what they do not name."""
    group.create(DesiredCapacity=0, **{name: first})
    assert group.describe()[name] == first
    group.update(MaxSize=3)
    assert group.describe()[name] == first
    group.update(**{name: second})
    assert group.describe()[name] == second


def test_defaults_and_words(group: Group) -> None:
    """API AutoScalingGroup: DeletionProtection none, distribution balanced-best-effort; other words are refused."""
    assert refused(group.create, DeletionProtection="always")[0] == "ValidationError"
    group.create(DesiredCapacity=0)
    found = group.describe()
    assert found["DeletionProtection"] == "none"
    assert found["AvailabilityZoneDistribution"] == {"CapacityDistributionStrategy": "balanced-best-effort"}
    assert found["CapacityReservationSpecification"] == {"CapacityReservationPreference": "default"}


@pytest.mark.parametrize(
    ("protection", "empty", "forced"),
    [("none", True, True), ("prevent-force-deletion", True, False), ("prevent-all-deletion", False, False)],
)
def test_deletion_protection(group: Group, protection: str, empty: bool, forced: bool) -> None:
    """resource-deletion-protection: a ValidationError, and group and instances stay as they are."""
    delete = group.client.delete_auto_scaling_group
    group.create(DesiredCapacity=1, DeletionProtection=protection)
    if forced:
        delete(AutoScalingGroupName="own", ForceDelete=True)
        assert group.ids() == set()
        return
    assert refused(delete, AutoScalingGroupName="own", ForceDelete=True)[0] == "ValidationError"
    assert len(group.ids()) == 1
    group.resize(0)
    if empty:
        delete(AutoScalingGroupName="own")
    else:
        assert refused(delete, AutoScalingGroupName="own")[0] == "ValidationError"
        group.update(DeletionProtection="none")
        delete(AutoScalingGroupName="own")
    assert group.client.describe_auto_scaling_groups()["AutoScalingGroups"] == []


def test_warm_pools(group: Group) -> None:
    """API PutWarmPool, DescribeWarmPool, DeleteWarmPool; ec2-auto-scaling-warm-pools: none for groups with Spot Instances."""
    group.create(DesiredCapacity=0)
    pool = {"MinSize": 1, "MaxGroupPreparedCapacity": 3, "PoolState": "Stopped", "InstanceReusePolicy": {"ReuseOnScaleIn": True}}
    group.client.put_warm_pool(AutoScalingGroupName="own", **pool)
    found = group.client.describe_warm_pool(AutoScalingGroupName="own")["WarmPoolConfiguration"]
    assert found.items() >= pool.items()
    assert group.describe()["WarmPoolConfiguration"].items() >= pool.items()
    code, _message = refused(group.client.put_warm_pool, AutoScalingGroupName="own", MinSize=3, MaxGroupPreparedCapacity=2)
    assert code == "ValidationError"
    group.client.delete_warm_pool(AutoScalingGroupName="own")
    assert "WarmPoolConfiguration" not in group.client.describe_warm_pool(AutoScalingGroupName="own")
    assert refused(group.client.delete_warm_pool, AutoScalingGroupName="own")[0] == "ValidationError"
    group.client.delete_auto_scaling_group(AutoScalingGroupName="own")
    group.create(DesiredCapacity=0, types=("g5.xlarge",), distribution={"OnDemandPercentageAboveBaseCapacity": 0})
    assert "Spot" in refused(group.client.put_warm_pool, AutoScalingGroupName="own")[1]


# Processes


def test_suspended_launches_and_terminations(group: Group) -> None:
    """as-suspend-resume-processes: Launch and Terminate; what was missed is made up for afterwards."""
    group.create(DesiredCapacity=1)
    suspend, resume = group.client.suspend_processes, group.client.resume_processes
    suspend(AutoScalingGroupName="own", ScalingProcesses=["Launch"])
    group.resize(3)
    group.aws.pass_time()
    assert len(group.ids()) == 1
    resume(AutoScalingGroupName="own", ScalingProcesses=["Launch"])
    for _unused in range(2):
        group.aws.pass_time()
    assert len(group.ids()) == 3
    suspend(AutoScalingGroupName="own", ScalingProcesses=["Terminate"])
    group.resize(0)
    group.aws.pass_time()
    assert len(group.ids()) == 3
    resume(AutoScalingGroupName="own", ScalingProcesses=[])
    for _unused in range(2):
        group.aws.pass_time()
    assert group.ids() == set()


@pytest.mark.parametrize(("suspend", "left"), [([], 1), (["ReplaceUnhealthy"], 0), (["HealthCheck"], 0)])
def test_replacement_of_what_was_terminated(group: Group, suspend: list[str], left: int) -> None:
    """as-suspend-resume-processes: without HealthCheck or ReplaceUnhealthy nothing is replaced."""
    group.create(DesiredCapacity=1)
    if suspend:
        group.client.suspend_processes(AutoScalingGroupName="own", ScalingProcesses=suspend)
    (instance,) = group.ids()
    group.aws.client("ec2").terminate_instances(InstanceIds=[instance])
    for _unused in range(3):
        group.aws.pass_time()
    assert len(group.ids()) == left


def test_an_instance_called_unhealthy(group: Group) -> None:
    """API SetInstanceHealth: Auto Scaling replaces it."""
    group.create(DesiredCapacity=1)
    (first,) = group.ids()
    group.client.set_instance_health(InstanceId=first, HealthStatus="Unhealthy")
    for _unused in range(3):
        group.aws.pass_time()
    assert len(group.ids()) == 1
    assert first not in group.ids()


@pytest.mark.parametrize(("suspend", "expected"), [([], Counter(a=1, b=1)), (["AZRebalance"], Counter(b=2))])
def test_zones_are_balanced_again(group: Group, suspend: list[str], expected: Counter[str]) -> None:
    """auto-scaling-benefits, rebalancing: once a zone has capacity again, one is launched there and one terminated elsewhere."""
    fault = group.aws.server.faults.add({"kind": "capacity", "zone": "us-west-2a"})
    group.create(zones=2)
    assert group.zones() == Counter(b=2)
    if suspend:
        group.client.suspend_processes(AutoScalingGroupName="own", ScalingProcesses=suspend)
    group.aws.server.faults.clear(fault.id)
    for _unused in range(3):
        group.aws.pass_time()
    assert group.zones() == expected


def test_balanced_only_waits_for_its_zone(group: Group) -> None:
    """ec2-auto-scaling-availability-zone-balanced: balanced-only retries in the zone, balanced-best-effort goes elsewhere."""
    group.aws.server.faults.add({"kind": "capacity", "zone": "us-west-2a"})
    group.create(zones=2, AvailabilityZoneDistribution={"CapacityDistributionStrategy": "balanced-only"})
    assert group.zones()["b"] <= 1
    assert len(group.ids()) < 2
    assert group.activities()[0]["StatusCode"] == "Failed"


@pytest.mark.parametrize("kind", ["rebalance_recommendation", "spot_interruption"])
@pytest.mark.parametrize("rebalances", [True, False])
def test_capacity_rebalancing(group: Group, kind: str, rebalances: bool) -> None:
    """ec2-auto-scaling-capacity-rebalancing: a replacement first, then the instance at risk leaves; without it nobody acts before the end."""
    group.new_version(InstanceMarketOptions={"MarketType": "spot"})
    group.create(CapacityRebalance=rebalances)
    before = group.ids()
    at_risk = max(before)
    requests.post(f"{group.aws.server.endpoint}/_lab/faults", json={"kind": kind, "instance": at_risk}, timeout=10).raise_for_status()
    assert len(group.ids()) == (3 if rebalances else 2)
    for _unused in range(3):
        group.aws.pass_time(130)
    assert len(group.ids()) == 2
    if rebalances:
        assert len(before - group.ids()) == 1
    assert (at_risk in group.ids()) == (not rebalances and kind == "rebalance_recommendation")


# Lifecycle hooks


def hook(group: Group, transition: str, **changes: t.Any) -> None:
    request = {"LifecycleHookName": "mine", "LifecycleTransition": transition, "HeartbeatTimeout": 300, **changes}
    group.client.put_lifecycle_hook(AutoScalingGroupName="own", **request)


def complete(group: Group, instance_id: str, result: str = "CONTINUE") -> None:
    group.client.complete_lifecycle_action(
        AutoScalingGroupName="own", LifecycleHookName="mine", InstanceId=instance_id, LifecycleActionResult=result
    )


def test_a_launch_waits_for_its_hook(group: Group) -> None:
    """lifecycle-hooks-overview: Pending:Wait, InService on CONTINUE, gone on ABANDON; others are refused."""
    hooks = [{"LifecycleHookName": "mine", "LifecycleTransition": LAUNCHING, "NotificationMetadata": "text"}]
    group.create(LifecycleHookSpecificationList=hooks)
    (found,) = group.client.describe_lifecycle_hooks(AutoScalingGroupName="own")["LifecycleHooks"]
    assert (found["HeartbeatTimeout"], found["DefaultResult"], found["NotificationMetadata"]) == (3600, "ABANDON", "text")
    assert "RoleARN" not in found
    assert group.states() == ["Pending:Wait", "Pending:Wait"]
    first, second = sorted(group.ids())
    complete(group, first)
    assert group.states() == ["InService", "Pending:Wait"]
    assert refused(complete, group, first) == ("ValidationError", f"No active Lifecycle Action found with instance ID {first}")
    complete(group, second, "ABANDON")
    assert group.ids() == {first}


@pytest.mark.parametrize("result", ["CONTINUE", "ABANDON"])
def test_a_termination_waits_for_its_hook(group: Group, result: str) -> None:
    """lifecycle-hooks-overview: Terminating:Wait; both results terminate."""
    group.create()
    hook(group, TERMINATING)
    group.resize(1)
    assert group.states() == ["InService", "Terminating:Wait"]
    assert len(group.ids()) == 2
    (leaving,) = [item["InstanceId"] for item in group.describe()["Instances"] if item["LifecycleState"] == "Terminating:Wait"]
    complete(group, leaving, result)
    assert group.states() == ["InService"]
    assert leaving not in group.ids()


@pytest.mark.parametrize(("transition", "default", "state"), [(LAUNCHING, "CONTINUE", ["InService"]), (TERMINATING, "CONTINUE", [])])
def test_the_default_result_when_time_is_over(group: Group, transition: str, default: str, state: list[str]) -> None:
    """API PutLifecycleHook: HeartbeatTimeout and DefaultResult; a heartbeat begins it anew."""
    group.create(DesiredCapacity=0)
    hook(group, transition, DefaultResult=default)
    group.resize(1)
    if transition == TERMINATING:
        group.resize(0)
    (instance,) = group.ids()
    group.aws.pass_time(200)
    group.client.record_lifecycle_action_heartbeat(AutoScalingGroupName="own", LifecycleHookName="mine", InstanceId=instance)
    group.aws.pass_time(200)
    assert group.states()[0].endswith(":Wait")
    group.aws.pass_time(200)
    assert group.states() == state


def test_hooks_tell_eventbridge(group: Group) -> None:
    """ec2-auto-scaling-event-reference, "EC2 Instance-terminate Lifecycle Action"."""
    sqs, events = group.aws.client("sqs"), group.aws.client("events")
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.autoscaling"], "detail-type": ["EC2 Instance-terminate Lifecycle Action"]}
    policy = {"Statement": [{"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage"}]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    events.put_rule(Name="r", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="r", Targets=[{"Id": "1", "Arn": arn}])
    group.create(DesiredCapacity=1)
    hook(group, TERMINATING)
    (instance,) = group.ids()
    group.resize(0)
    (message,) = sqs.receive_message(QueueUrl=queue)["Messages"]
    detail = json.loads(message["Body"])["detail"]
    assert (detail["EC2InstanceId"], detail["LifecycleHookName"], detail["LifecycleTransition"]) == (instance, "mine", TERMINATING)


def test_force_deletion_asks_no_hook(group: Group) -> None:
    """API DeleteAutoScalingGroup and resource-deletion-protection: terminated without hooks, protected or not."""
    group.create(NewInstancesProtectedFromScaleIn=True)
    hook(group, TERMINATING)
    group.client.delete_auto_scaling_group(AutoScalingGroupName="own", ForceDelete=True)
    assert group.ids() == set()


# Instance refresh


def refresh(group: Group, **preferences: t.Any) -> str:
    reply = group.client.start_instance_refresh(AutoScalingGroupName="own", Preferences={"InstanceWarmup": 30, **preferences})
    return str(reply["InstanceRefreshId"])


def refreshes(group: Group) -> list[Json]:
    found: list[Json] = group.client.describe_instance_refreshes(AutoScalingGroupName="own")["InstanceRefreshes"]
    return found


def types(group: Group) -> Counter[str]:
    return Counter(instance["InstanceType"] for instance in group.instances())


def test_an_instance_refresh(group: Group) -> None:
    """asg-instance-refresh: some at a time from the template's current version, with progress; one refresh in flight."""
    group.create(DesiredCapacity=4)
    group.new_version(InstanceType="g5.2xlarge")
    name = refresh(group, MinHealthyPercentage=50)
    assert refused(refresh, group)[0] == "InstanceRefreshInProgress"
    group.aws.pass_time(1)
    assert types(group) == Counter({"g5.xlarge": 2, "g5.2xlarge": 2})
    (found,) = refreshes(group)
    assert (found["InstanceRefreshId"], found["Status"], found["PercentageComplete"], found["InstancesToUpdate"]) == (
        name,
        "InProgress",
        50,
        2,
    )
    group.aws.pass_time(31)
    assert types(group) == Counter({"g5.2xlarge": 4})
    group.aws.pass_time(31)
    (found,) = refreshes(group)
    assert (found["Status"], found["PercentageComplete"]) == ("Successful", 100)
    assert found["Preferences"]["MaxHealthyPercentage"] == 100


def test_one_at_a_time_and_first_launched(group: Group) -> None:
    """instance-refresh-overview: 100 and 100 replace one at a time; above 100 launches before it terminates."""
    group.create(DesiredCapacity=2)
    before = group.ids()
    refresh(group, MinHealthyPercentage=100)
    group.aws.pass_time(1)
    assert len(before & group.ids()) == 1
    group.client.cancel_instance_refresh(AutoScalingGroupName="own")
    group.aws.pass_time(1)
    assert refreshes(group)[0]["Status"] == "Cancelled"
    before = group.ids()
    group.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.xlarge"})
    refresh(group, MinHealthyPercentage=100, MaxHealthyPercentage=150)
    group.aws.pass_time(1)
    assert group.ids() == before


def test_cancelling(group: Group) -> None:
    """API CancelInstanceRefresh: what is replaced stays; nothing to cancel is ActiveInstanceRefreshNotFound."""
    group.create()
    cancel = group.client.cancel_instance_refresh
    assert refused(cancel, AutoScalingGroupName="own")[0] == "ActiveInstanceRefreshNotFound"
    group.new_version(InstanceType="g5.2xlarge")
    name = refresh(group)
    group.aws.pass_time(1)
    assert cancel(AutoScalingGroupName="own")["InstanceRefreshId"] == name
    assert refreshes(group)[0]["Status"] in ("Cancelling", "Cancelled")
    group.aws.pass_time()
    assert refreshes(group)[0]["Status"] == "Cancelled"
    assert types(group) == Counter({"g5.xlarge": 1, "g5.2xlarge": 1})


def test_a_desired_configuration(group: Group) -> None:
    """API StartInstanceRefresh.DesiredConfiguration: the group has it once the refresh was successful; SkipMatching leaves what fits."""
    group.create(version="1")
    group.new_version(InstanceType="g5.2xlarge")
    desired = {"LaunchTemplate": {"LaunchTemplateId": group.template, "Version": "2"}}
    start = group.client.start_instance_refresh
    preferences = {"InstanceWarmup": 30, "SkipMatching": True}
    start(AutoScalingGroupName="own", DesiredConfiguration=desired, Preferences=preferences)
    group.aws.pass_time(1)
    assert group.describe()["LaunchTemplate"]["Version"] == "1"
    for _unused in range(2):
        group.aws.pass_time(31)
    assert group.describe()["LaunchTemplate"]["Version"] == "2"
    before = group.ids()
    start(AutoScalingGroupName="own", DesiredConfiguration=desired, Preferences=preferences)
    group.aws.pass_time(1)
    assert group.ids() == before
    assert [item["Status"] for item in refreshes(group)] == ["Successful", "Successful"]


def test_a_refresh_that_cannot_go_on_fails_after_an_hour(group: Group) -> None:
    """instance-refresh-overview: without progress for an hour it is Failed."""
    group.create()
    group.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.xlarge"})
    refresh(group)
    group.aws.pass_time(1)
    assert refreshes(group)[0]["Status"] == "InProgress"
    for _unused in range(8):
        group.aws.pass_time()
    assert refreshes(group)[0]["Status"] == "Failed"
    assert len(group.ids()) == 1  # the second one was never taken


@pytest.mark.parametrize("preferences", [{"MinHealthyPercentage": 0, "MaxHealthyPercentage": 150}, {"MaxHealthyPercentage": 90}])
def test_percentages_that_do_not_fit(group: Group, preferences: Json) -> None:
    """API RefreshPreferences: at most 100 apart, the maximum from 100 to 200."""
    group.create()
    assert refused(refresh, group, **preferences)[0] == "ValidationError"


def test_protected_instances_wait(group: Group) -> None:
    """API RefreshPreferences.ScaleInProtectedInstances: Wait, Ignore, Refresh."""
    group.create(DesiredCapacity=1, NewInstancesProtectedFromScaleIn=True)
    before = group.ids()
    for how, status in (("Ignore", "Successful"), ("Wait", "InProgress")):
        refresh(group, ScaleInProtectedInstances=how)
        group.aws.pass_time(1)
        assert (refreshes(group)[0]["Status"], group.ids()) == (status, before)
    group.client.cancel_instance_refresh(AutoScalingGroupName="own")
    group.aws.pass_time(1)
    refresh(group, ScaleInProtectedInstances="Refresh")
    group.aws.pass_time(1)
    assert not before & group.ids()


# Scheduled actions


def schedule(group: Group, seconds: float, **changes: t.Any) -> None:
    start = group.aws.clock.now() + datetime.timedelta(seconds=seconds)
    request = {"AutoScalingGroupName": "own", "ScheduledActionName": "mine", "StartTime": start, "MinSize": 0, "DesiredCapacity": 0}
    group.client.put_scheduled_update_group_action(**{**request, **changes})


def test_a_scheduled_action(group: Group) -> None:
    """ec2-auto-scaling-scheduled-scaling: sizes at its time, once; then it is gone."""
    group.create(MinSize=1)
    schedule(group, 900)
    assert len(group.client.describe_scheduled_actions(AutoScalingGroupName="own")["ScheduledUpdateGroupActions"]) == 1
    group.aws.pass_time()
    assert len(group.ids()) == 2
    group.aws.pass_time()
    assert (group.ids(), group.describe()["MinSize"]) == (set(), 0)
    assert group.client.describe_scheduled_actions(AutoScalingGroupName="own")["ScheduledUpdateGroupActions"] == []


def test_scheduled_actions_that_do_not_run(group: Group) -> None:
    """API PutScheduledUpdateGroupAction: not in the past, of a known group; as-suspend-resume-processes: ScheduledActions; deleted ones."""
    group.create(MinSize=1)
    assert refused(schedule, group, -60)[0] == "ValidationError"
    assert refused(schedule, group, 60, AutoScalingGroupName="none")[0] == "ValidationError"
    schedule(group, 60)
    group.client.delete_scheduled_action(AutoScalingGroupName="own", ScheduledActionName="mine")
    assert refused(group.client.delete_scheduled_action, AutoScalingGroupName="own", ScheduledActionName="mine")[0] == "ValidationError"
    group.client.suspend_processes(AutoScalingGroupName="own", ScalingProcesses=["ScheduledActions"])
    schedule(group, 60)
    group.aws.pass_time()
    assert len(group.ids()) == 2
