# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capacity reservations and blocks, placement groups, EFA, placement scores: EC2's API reference and User Guide."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

import pytest

from tests.lab.conftest import Aws, refused

Json = dict[str, t.Any]
IMAGE = "ami-0123456789abcdef0"


@dataclass
class Ec2:
    """EC2 with a subnet in each zone."""

    aws: Aws
    subnets: list[str]

    @property
    def client(self) -> t.Any:
        return self.aws.client("ec2")

    def run(self, instance_type: str = "g5.xlarge", zone: str = "a", **changes: t.Any) -> Json:
        request = {
            "ImageId": IMAGE,
            "MinCount": 1,
            "MaxCount": 1,
            "InstanceType": instance_type,
            "SubnetId": self.subnets["abc".index(zone)],
        }
        reply = self.client.run_instances(**{name: value for name, value in {**request, **changes}.items() if value is not None})
        return self.describe(reply["Instances"][0]["InstanceId"])

    def describe(self, instance_id: str) -> Json:
        (reservation,) = self.client.describe_instances(InstanceIds=[instance_id])["Reservations"]
        return t.cast(Json, reservation["Instances"][0])

    def reserve(self, instance_type: str = "g5.xlarge", count: int = 1, zone: str = "a", match: str = "targeted", **changes: t.Any) -> str:
        request = {"InstanceType": instance_type, "InstanceCount": count, "AvailabilityZone": f"us-west-2{zone}", **changes}
        reply = self.client.create_capacity_reservation(InstancePlatform="Linux/UNIX", InstanceMatchCriteria=match, **request)
        return str(reply["CapacityReservation"]["CapacityReservationId"])

    def reservation(self, reservation_id: str) -> Json:
        (found,) = self.client.describe_capacity_reservations(CapacityReservationIds=[reservation_id])["CapacityReservations"]
        return t.cast(Json, found)

    def template(self, **data: t.Any) -> Json:
        data = {"ImageId": IMAGE, "InstanceType": "g5.xlarge", **data}
        reply = self.client.create_launch_template(LaunchTemplateName="own", LaunchTemplateData=data)
        return {"LaunchTemplateId": reply["LaunchTemplate"]["LaunchTemplateId"], "Version": "$Latest"}

    def group(self, template: Json, desired: int = 1, **changes: t.Any) -> list[Json]:
        """The instances of an Auto Scaling group named own in zones a and b."""
        autoscaling = self.aws.client("autoscaling")
        sizes = {"MinSize": 0, "MaxSize": 9, "DesiredCapacity": desired, "VPCZoneIdentifier": ",".join(self.subnets[:2])}
        source = {"LaunchTemplate": template} if template else {}
        autoscaling.create_auto_scaling_group(AutoScalingGroupName="own", **source, **sizes, **changes)
        return self.members()

    def members(self) -> list[Json]:
        (group,) = self.aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=["own"])["AutoScalingGroups"]
        return [self.describe(item["InstanceId"]) for item in group["Instances"]]

    def failure(self) -> str:
        activity = self.aws.client("autoscaling").describe_scaling_activities(AutoScalingGroupName="own")["Activities"][0]
        return f"{activity['StatusCode']}: {activity.get('StatusMessage', '')}"


@pytest.fixture
def ec2(aws: Aws) -> Ec2:
    return Ec2(aws, aws.subnets()[1])


def target(reservation_id: str) -> Json:
    return {"CapacityReservationTarget": {"CapacityReservationId": reservation_id}}


# Reservations


def test_a_reservation(ec2: Ec2) -> None:
    """API CapacityReservation: what was asked for, by id, filter and tag; unknown ids; cancelled ones stay listed."""
    tags = [{"ResourceType": "capacity-reservation", "Tags": [{"Key": "owner", "Value": "me"}]}]
    name = ec2.reserve(count=2, TagSpecifications=tags)
    found = ec2.reservation(name)
    expected = {
        "InstanceType": "g5.xlarge",
        "AvailabilityZone": "us-west-2a",
        "AvailabilityZoneId": "usw2-az2",
        "TotalInstanceCount": 2,
        "AvailableInstanceCount": 2,
        "State": "active",
        "InstanceMatchCriteria": "targeted",
        "ReservationType": "default",
        "EndDateType": "unlimited",
        "Tags": [{"Key": "owner", "Value": "me"}],
    }
    assert found.items() >= expected.items()
    assert found["CapacityReservationArn"].endswith(f":capacity-reservation/{name}")
    describe = ec2.client.describe_capacity_reservations
    for filter_name, value in (("tag:owner", "me"), ("state", "active"), ("instance-type", "g5.*"), ("availability-zone", "us-west-2a")):
        assert len(describe(Filters=[{"Name": filter_name, "Values": [value]}])["CapacityReservations"]) == 1, filter_name
        assert describe(Filters=[{"Name": filter_name, "Values": ["other"]}])["CapacityReservations"] == [], filter_name
    assert refused(describe, CapacityReservationIds=["cr-0"])[0] == "InvalidCapacityReservationId.NotFound"
    assert ec2.client.cancel_capacity_reservation(CapacityReservationId=name)["Return"] is True
    assert (ec2.reservation(name)["State"], ec2.reservation(name)["AvailableInstanceCount"]) == ("cancelled", 0)
    assert refused(ec2.client.cancel_capacity_reservation, CapacityReservationId=name)[0] == "InvalidCapacityReservationState"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"instance_type": "g5.nothing"}, "InvalidInstanceType"),
        ({"count": 0}, "InvalidParameterValue"),
        ({"AvailabilityZone": "us-west-2x"}, "InvalidParameterValue"),
        ({"instance_type": "p6-b200.48xlarge", "zone": "c"}, "Unsupported"),
        ({"count": 1000}, "VcpuLimitExceeded"),
        ({"EndDateType": "limited"}, "InvalidParameterCombination"),
    ],
)
def test_what_cannot_be_reserved(ec2: Ec2, changes: Json, code: str) -> None:
    """API CreateCapacityReservation; errors-overview."""
    assert refused(ec2.reserve, **changes)[0] == code


def test_no_capacity_to_reserve(ec2: Ec2) -> None:
    """API CreateCapacityReservation: it needs the capacity when it is made."""
    ec2.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.xlarge", "zone": "us-west-2a"})
    assert refused(ec2.reserve)[0] == "InsufficientInstanceCapacity"


def test_launches_into_a_reservation(ec2: Ec2) -> None:
    """User Guide, targeted: taken by its id, whatever else EC2 has; none left is ReservationCapacityExceeded; back when it ends."""
    name = ec2.reserve()
    ec2.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.xlarge", "zone": "us-west-2a"})
    plain = {"SubnetId": None, "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": ec2.subnets[0]}]}
    template = ec2.template(CapacityReservationSpecification=target(name))
    instance = ec2.run(LaunchTemplate=template, InstanceType=None)
    assert instance["CapacityReservationId"] == name
    assert instance["CapacityReservationSpecification"]["CapacityReservationTarget"] == {"CapacityReservationId": name}
    assert ec2.reservation(name)["AvailableInstanceCount"] == 0
    code, message = refused(ec2.run, LaunchTemplate=template, InstanceType=None)
    assert (code, "sufficient compatible and available capacity" in message) == ("ReservationCapacityExceeded", True)
    ec2.client.terminate_instances(InstanceIds=[instance["InstanceId"]])
    assert ec2.reservation(name)["AvailableInstanceCount"] == 1
    assert ec2.run(CapacityReservationSpecification=target(name))["CapacityReservationId"] == name
    assert refused(ec2.run, zone="b", CapacityReservationSpecification=target(name))[0] == "ReservationCapacityExceeded"
    assert refused(ec2.run, CapacityReservationSpecification=target("cr-0"))[0] == "InvalidCapacityReservationId.NotFound"
    assert refused(ec2.run, **plain)[0] == "InsufficientInstanceCapacity"


def test_open_reservations_match_by_themselves(ec2: Ec2) -> None:
    """User Guide: open ones take what matches in type and zone, unless the launch says none; Spot never."""
    name = ec2.reserve(match="open", count=2)
    assert ec2.run()["CapacityReservationId"] == name
    for changes in (
        {"CapacityReservationSpecification": {"CapacityReservationPreference": "none"}},
        {"InstanceMarketOptions": {"MarketType": "spot"}},
        {"zone": "b"},
        {"instance_type": "g5.2xlarge"},
    ):
        assert "CapacityReservationId" not in ec2.run(**t.cast(t.Any, changes))
    assert ec2.reservation(name)["AvailableInstanceCount"] == 1


def test_a_cancelled_reservation_lets_its_instances_run(ec2: Ec2) -> None:
    """API CancelCapacityReservation: running instances run on, outside of it."""
    name = ec2.reserve(match="open")
    instance = ec2.run()["InstanceId"]
    ec2.client.cancel_capacity_reservation(CapacityReservationId=name)
    assert "CapacityReservationId" not in ec2.describe(instance)
    assert ec2.describe(instance)["State"]["Name"] == "running"


def test_a_reservation_with_an_end(ec2: Ec2) -> None:
    """API CapacityReservation.State expired: instances run on."""
    end = ec2.aws.clock.now() + datetime.timedelta(hours=1)
    name = ec2.reserve(match="open", EndDateType="limited", EndDate=end)
    instance = ec2.run()["InstanceId"]
    ec2.aws.pass_time(3601)
    assert ec2.reservation(name)["State"] == "expired"
    assert ec2.describe(instance)["State"]["Name"] == "running"


@pytest.mark.parametrize(
    ("preference", "reserved", "all_instances"),
    [("capacity-reservations-only", 1, 1), ("capacity-reservations-first", 1, 2), ("none", 0, 2)],
)
def test_groups_and_reservations(ec2: Ec2, preference: str, reserved: int, all_instances: int) -> None:
    """use-ec2-capacity-reservations: only fails where none is left, first goes on outside, none leaves them alone."""
    name = ec2.reserve()
    specification: Json = {"CapacityReservationPreference": preference}
    if preference != "none":
        specification["CapacityReservationTarget"] = {"CapacityReservationIds": [name]}
    members = ec2.group(ec2.template(), 2, CapacityReservationSpecification=specification)
    assert len(members) == all_instances
    assert len([item for item in members if item.get("CapacityReservationId") == name]) == reserved
    if preference == "capacity-reservations-only":
        message = "The requested reservation does not have sufficient compatible and available capacity for this request."
        assert ec2.failure() == f"Failed: {message} Launching EC2 instance failed."


# Capacity Blocks


def buy(ec2: Ec2, count: int = 1) -> Json:
    offerings = ec2.client.describe_capacity_block_offerings(InstanceType="p5.48xlarge", InstanceCount=count, CapacityDurationHours=24)
    offering = offerings["CapacityBlockOfferings"][0]
    reply = ec2.client.purchase_capacity_block(CapacityBlockOfferingId=offering["CapacityBlockOfferingId"], InstancePlatform="Linux/UNIX")
    return t.cast(Json, reply["CapacityReservation"])


def test_a_capacity_block(ec2: Ec2) -> None:
    """User Guide, Capacity Blocks: scheduled, active, launched into with its market type; terminated half an hour before the end."""
    block = buy(ec2)
    assert (block["ReservationType"], block["State"], block["InstanceMatchCriteria"]) == ("capacity-block", "scheduled", "targeted")
    zone = block["AvailabilityZone"][-1]
    asked = {
        "InstanceMarketOptions": {"MarketType": "capacity-block"},
        "CapacityReservationSpecification": target(block["CapacityReservationId"]),
    }
    early = refused(ec2.run, "p5.48xlarge", zone, **asked)
    assert "is not active yet" in early[1]
    ec2.aws.pass_time((block["StartDate"] - ec2.aws.clock.now()).total_seconds() + 1)
    assert ec2.reservation(block["CapacityReservationId"])["State"] == "active"
    instance = ec2.run("p5.48xlarge", zone, **asked)
    assert (instance["InstanceLifecycle"], instance["CapacityReservationId"]) == ("capacity-block", block["CapacityReservationId"])
    code = refused(ec2.run, "p5.48xlarge", zone, CapacityReservationSpecification=target(block["CapacityReservationId"]))[0]
    assert code == "ReservationCapacityExceeded"
    assert (
        refused(ec2.client.cancel_capacity_reservation, CapacityReservationId=block["CapacityReservationId"])[0] == "OperationNotPermitted"
    )
    ec2.aws.pass_time(23 * 3600)
    assert ec2.describe(instance["InstanceId"])["State"]["Name"] == "running"
    ec2.aws.pass_time(1800)
    assert ec2.describe(instance["InstanceId"])["State"]["Name"] == "terminated"
    ec2.aws.pass_time(1800)
    assert ec2.reservation(block["CapacityReservationId"])["State"] == "expired"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"CapacityDurationHours": 30}, "InvalidParameterValue"),
        ({"CapacityDurationHours": 24 * 15}, "InvalidParameterValue"),
        ({"InstanceCount": 65}, "InvalidParameterValue"),
        ({"InstanceType": "g5.xlarge"}, "Unsupported"),
    ],
)
def test_blocks_that_nobody_offers(ec2: Ec2, changes: Json, code: str) -> None:
    """API DescribeCapacityBlockOfferings: durations, counts, types."""
    request = {"InstanceType": "p5.48xlarge", "CapacityDurationHours": 24, **changes}
    assert refused(ec2.client.describe_capacity_block_offerings, **request)[0] == code


def test_an_offering(ec2: Ec2) -> None:
    """API CapacityBlockOffering: zones that have the type, the fee as text, weeks beyond a fortnight; unknown ids cannot be bought."""
    found = ec2.client.describe_capacity_block_offerings(InstanceType="p5.48xlarge", CapacityDurationHours=24 * 21)[
        "CapacityBlockOfferings"
    ]
    assert {item["CapacityBlockDurationHours"] for item in found} == {504}
    assert all(float(item["UpfrontFee"]) > 0 for item in found)
    assert refused(ec2.client.purchase_capacity_block, CapacityBlockOfferingId="cb-0")[0] == "InvalidCapacityBlockOfferingId.NotFound"


# Placement groups and EFA


def test_placement_groups(ec2: Ec2) -> None:
    """API CreatePlacementGroup and its neighbours: once by name, found by tag, not deleted while in use."""
    tags = [{"ResourceType": "placement-group", "Tags": [{"Key": "owner", "Value": "me"}]}]
    made = ec2.client.create_placement_group(GroupName="pg", Strategy="cluster", TagSpecifications=tags)["PlacementGroup"]
    assert (made["State"], made["Strategy"], made["GroupArn"].rpartition(":")[2]) == ("available", "cluster", "placement-group/pg")
    assert refused(ec2.client.create_placement_group, GroupName="pg", Strategy="cluster")[0] == "InvalidPlacementGroup.Duplicate"
    describe = ec2.client.describe_placement_groups
    for request in (
        {"GroupNames": ["pg"]},
        {"GroupIds": [made["GroupId"]]},
        {"Filters": [{"Name": "tag:owner", "Values": ["me"]}]},
        {"Filters": [{"Name": "strategy", "Values": ["cluster"]}]},
    ):
        assert describe(**request)["PlacementGroups"] == [made], request
    assert refused(describe, GroupNames=["none"])[0] == "InvalidPlacementGroup.Unknown"
    instance = ec2.run(Placement={"GroupName": "pg"})
    assert instance["Placement"]["GroupName"] == "pg"
    assert refused(ec2.client.delete_placement_group, GroupName="pg")[0] == "InvalidPlacementGroup.InUse"
    ec2.client.terminate_instances(InstanceIds=[instance["InstanceId"]])
    ec2.client.delete_placement_group(GroupName="pg")
    assert describe()["PlacementGroups"] == []
    assert refused(ec2.client.delete_placement_group, GroupName="pg")[0] == "InvalidPlacementGroup.Unknown"


def test_a_cluster_placement_group_lies_in_one_zone(ec2: Ec2) -> None:
    """User Guide, placement strategies; an unknown group is refused at launch."""
    placed: t.Any = {"Placement": {"GroupName": "pg"}}
    assert refused(ec2.run, **placed)[0] == "InvalidPlacementGroup.Unknown"
    ec2.client.create_placement_group(GroupName="pg", Strategy="cluster")
    ec2.run(**placed)
    ec2.run(**placed)
    assert "cannot span" in refused(ec2.run, zone="b", **placed)[1]
    ec2.client.create_placement_group(GroupName="far", Strategy="spread")
    for zone in "ab":
        ec2.run(zone=zone, Placement={"GroupName": "far"})


@pytest.mark.parametrize("where", ["group", "template"])
def test_groups_launch_into_placement_groups(ec2: Ec2, where: str) -> None:
    """API CreateAutoScalingGroup.PlacementGroup, LaunchTemplatePlacement: the zones of a cluster group come down to one."""
    ec2.client.create_placement_group(GroupName="pg", Strategy="cluster")
    template = ec2.template(**({"Placement": {"GroupName": "pg"}} if where == "template" else {}))
    members = ec2.group(template, 2, **({"PlacementGroup": "pg"} if where == "group" else {}))
    assert [item["Placement"]["GroupName"] for item in members] == ["pg", "pg"]
    assert len({item["Placement"]["AvailabilityZone"] for item in members}) == 1


def interfaces(count: int, kind: str = "efa") -> list[Json]:
    return [{"DeviceIndex": min(index, 1), "NetworkCardIndex": index, "InterfaceType": kind} for index in range(count)]


@pytest.mark.parametrize(
    ("instance_type", "count", "message"),
    [("g5.xlarge", 1, "EFA interfaces are not supported on g5.xlarge"), ("p4d.24xlarge", 5, "exceeds the limit"), ("p4d.24xlarge", 4, "")],
)
def test_efa_needs_a_type_that_has_it(ec2: Ec2, instance_type: str, count: int, message: str) -> None:
    """Errors UnsupportedOperation and AttachmentLimitExceeded at launch; templates themselves are not judged (cluster-api-provider-aws)."""
    members = ec2.group(ec2.template(InstanceType=instance_type, NetworkInterfaces=interfaces(count)))
    assert len(members) == (0 if message else 1)
    if message:
        assert message in ec2.failure()


# Scores, images


@pytest.mark.parametrize(("types", "score"), [(["g5.xlarge"], 3), (["g5.xlarge", "g6.xlarge", "g6e.xlarge"], 9)])
def test_spot_placement_scores(ec2: Ec2, types: list[str], score: int) -> None:
    """API GetSpotPlacementScores: by zone id or region, low with fewer than three types, lowest without capacity."""
    get = ec2.client.get_spot_placement_scores
    zones = get(InstanceTypes=types, TargetCapacity=4, SingleAvailabilityZone=True, RegionNames=["us-west-2"])["SpotPlacementScores"]
    assert {item["Score"] for item in zones} == {score}
    assert "usw2-az2" in {item["AvailabilityZoneId"] for item in zones}
    ec2.aws.server.faults.add({"kind": "capacity", "zone": "us-west-2a", "capacity_type": "spot"})
    found = get(InstanceTypes=types, TargetCapacity=4, SingleAvailabilityZone=True)["SpotPlacementScores"]
    assert {item["AvailabilityZoneId"]: item["Score"] for item in found}["usw2-az2"] == 1
    assert get(InstanceTypes=types, TargetCapacity=4)["SpotPlacementScores"] == [{"Region": "us-west-2", "Score": score}]


def test_scores_that_nobody_gives(ec2: Ec2) -> None:
    """API GetSpotPlacementScores: types or requirements, a capacity, at most ten regions."""
    get = ec2.client.get_spot_placement_scores
    assert refused(get, TargetCapacity=1)[0] == "InvalidParameterCombination"
    assert refused(get, InstanceTypes=["g5.xlarge"], TargetCapacity=0)[0] == "InvalidParameterValue"
    assert (
        refused(get, InstanceTypes=["g5.xlarge"], TargetCapacity=1, RegionNames=[f"r-{n}" for n in range(11)])[0] == "InvalidParameterValue"
    )


@pytest.mark.parametrize(("owners", "count"), [(["602401143452"], 1), (["amazon"], 1), (["self"], 0), ([], 1)])
def test_images_by_name_and_owner(ec2: Ec2, owners: list[str], count: int) -> None:
    """API DescribeImages: Owners takes account ids, amazon and self; names with wildcards."""
    parameter = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended/image_id"
    wanted = ec2.aws.client("ssm").get_parameter(Name=parameter)["Parameter"]["Value"]
    name = ec2.client.describe_images(ImageIds=[wanted])["Images"][0]["Name"]
    for value in (name, name[:-1] + "*"):
        found = ec2.client.describe_images(Filters=[{"Name": "name", "Values": [value]}], **({"Owners": owners} if owners else {}))[
            "Images"
        ]
        assert [image["ImageId"] for image in found] == [wanted] * count


def test_fleets_launch_into_reservations(ec2: Ec2) -> None:
    """API CreateFleet: its template's reservation is taken; one that is used up is an error of the fleet, not of the request."""
    name = ec2.reserve()
    ec2.aws.server.faults.add({"kind": "capacity", "instance_type": "g5.xlarge", "zone": "us-west-2a"})
    template = ec2.template(CapacityReservationSpecification=target(name))
    overrides = [{"SubnetId": ec2.subnets[0], "InstanceType": "g5.xlarge"}]
    config = {"LaunchTemplateSpecification": template, "Overrides": overrides}
    capacity = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"}
    create = ec2.client.create_fleet
    made = create(Type="instant", LaunchTemplateConfigs=[config], TargetCapacitySpecification=capacity)
    (instance_id,) = made["Instances"][0]["InstanceIds"]
    assert ec2.describe(instance_id)["CapacityReservationId"] == name
    none = create(Type="instant", LaunchTemplateConfigs=[config], TargetCapacitySpecification=capacity)
    assert [error["ErrorCode"] for error in none["Errors"]] == ["ReservationCapacityExceeded"]


@pytest.mark.parametrize("how", ["fleet", "group"])
def test_spot_instances_leave_reservations_alone(ec2: Ec2, how: str) -> None:
    """User Guide, Capacity Reservations: they hold no Spot capacity."""
    name = ec2.reserve(match="open")
    template = ec2.template()
    if how == "fleet":
        config = {"LaunchTemplateSpecification": template, "Overrides": [{"SubnetId": ec2.subnets[0], "InstanceType": "g5.xlarge"}]}
        capacity = {"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
        made = ec2.client.create_fleet(Type="instant", LaunchTemplateConfigs=[config], TargetCapacitySpecification=capacity)
        instances = [ec2.describe(instance_id) for instance_id in made["Instances"][0]["InstanceIds"]]
    else:
        policy = {
            "LaunchTemplate": {"LaunchTemplateSpecification": template, "Overrides": [{"InstanceType": "g5.xlarge"}]},
            "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 0},
        }
        instances = ec2.group({}, MixedInstancesPolicy=policy)
    assert [item["InstanceLifecycle"] for item in instances] == ["spot"]
    assert ec2.reservation(name)["AvailableInstanceCount"] == 1
