"""How Auto Scaling groups launch instances: where, as what, and what is recorded of it.

moto launches everything into a group's first subnet, as its first type, on demand, whatever EC2 has there.
Source: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-benefits.html (balance over zones), allocation-strategies.html,
use-ec2-capacity-reservations.html.
"""

from __future__ import annotations

import math
import typing as t
import uuid
from collections import Counter
from dataclasses import dataclass

from moto.autoscaling.models import ASG_NAME_TAG, FakeAutoScalingGroup, InstanceState
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.core.utils import utcnow

from lab.aws.errors import AwsError
from lab.aws.launching import Wishes, accept, asking
from lab.aws.moto_fixes import Wrapper, page, surroundings, wraps
from lab.aws.offerings import no_addresses_message, no_capacity_message, not_offered_message, offered
from lab.aws.pricing import on_demand_prices

GONE = ("terminated", "shutting-down", "stopped", "stopping")
LEAVING = ("Terminating:Wait", "Standby")
# Strategies that take the types in the order of the overrides; the others take the cheapest first.
_IN_ORDER = ("prioritized", "capacity-optimized-prioritized")


class Member(InstanceState):
    """An instance of a group with the template's version that it was launched from, and the hooks that hold it."""

    lab_template: dict[str, t.Any] | None = None
    lab_hooks: dict[str, float]  # name → when its time is over

    @property
    def launch_template(self) -> dict[str, t.Any] | None:
        return self.lab_template


def suspended(group: FakeAutoScalingGroup, *processes: str) -> bool:
    """Whether one of the processes is."""
    return bool({process["ProcessName"] for process in group.suspended_processes} & set(processes))


def members(group: FakeAutoScalingGroup) -> list[Member]:
    """Those that count: neither on their way out nor in standby."""
    return [t.cast(Member, state) for state in group.instance_states if state.lifecycle_state not in LEAVING]


def per_zone(group: FakeAutoScalingGroup) -> Counter[str]:
    """Living members by zone, all zones of the group included."""
    found = Counter({place.zone: 0 for place in _places(group)})
    found.update(str(state.instance.placement.zone) for state in members(group) if state.instance.state not in GONE)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an instance of a group may go."""

    subnet_id: str
    zone: str


@wraps(FakeAutoScalingGroup, "replace_autoscaling_group_instances")
def launch_instances(original: Wrapper, group: FakeAutoScalingGroup, count_needed: int, propagated_tags: dict[str, str]) -> None:
    """Launch one after the other, balanced over zones; the first that no place can take is recorded as a failed activity and ends it."""
    for _ in range(count_needed):
        if not launch_one(group):
            return


def launch_one(group: FakeAutoScalingGroup, *, zone: str | None = None) -> bool:
    """Launch an instance, in ``zone`` if one is named; whether some place took it."""
    lifecycle = _next_lifecycle(group)
    failure = "The group has no subnet to launch into."
    for place, instance_type in _choices(group, lifecycle):
        if zone not in (None, place.zone):
            continue
        refusal = _refusal(group, place, instance_type, lifecycle)
        if refusal is None:
            _launch(group, place, instance_type, lifecycle)
            return True
        failure = refusal
    record(group, "Launching a new EC2 instance.", "Failed", f"{failure} Launching EC2 instance failed.")
    return False


def _choices(group: FakeAutoScalingGroup, lifecycle: str | None) -> t.Iterator[tuple[_Place, str]]:
    """Places with the fewest instances first, of balanced-only groups those alone, and in each the types by the strategy."""
    populated = per_zone(group)
    distribution = getattr(group, "availability_zone_distribution", None) or {}
    places = sorted(_places(group), key=lambda place: populated[place.zone])
    if distribution.get("CapacityDistributionStrategy") == "balanced-only":
        places = [place for place in places if populated[place.zone] == populated[places[0].zone]]
    for place in places:
        for instance_type in _types(group, lifecycle):
            yield place, instance_type


def _places(group: FakeAutoScalingGroup) -> list[_Place]:
    backend = group.ec2_backend
    if group.vpc_zone_identifier:
        found = [backend.get_subnet(subnet_id.strip()) for subnet_id in group.vpc_zone_identifier.split(",")]
    else:
        defaults = backend.get_default_subnets()
        found = [defaults[zone] for zone in group.availability_zones if zone in defaults]
    return [_Place(subnet_id=subnet.id, zone=subnet.availability_zone) for subnet in found]


def _types(group: FakeAutoScalingGroup, lifecycle: str | None) -> list[str]:
    """Cheapest first, or in the order of the overrides: what a strategy knows of spare capacity the lab does not."""
    policy = group.mixed_instances_policy or {}
    overrides = policy.get("LaunchTemplate", {}).get("Overrides", [])
    types = [item["InstanceType"] for item in overrides if item.get("InstanceType")] or [group.instance_type]
    distribution = policy.get("InstancesDistribution") or {}
    spot = lifecycle == "spot"
    strategy = (
        distribution.get("SpotAllocationStrategy", "lowest-price") if spot else distribution.get("OnDemandAllocationStrategy", _IN_ORDER[0])
    )
    return types if strategy in _IN_ORDER else sorted(types, key=_price)


def _price(instance_type: str) -> float:
    """By which types are compared; a Spot price is the same part of it for all. Types without one come last."""
    return on_demand_prices().get(instance_type, math.inf)


def _next_lifecycle(group: FakeAutoScalingGroup) -> str | None:
    """spot or None (on demand), by the distribution; or what the template's market options say."""
    market = _template_data(group).get("InstanceMarketOptions") or {}
    if market.get("MarketType"):
        return str(market["MarketType"])
    distribution = (group.mixed_instances_policy or {}).get("InstancesDistribution")
    if not distribution:
        return None
    base = int(distribution.get("OnDemandBaseCapacity", 0))
    percentage = int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100))
    desired = group.desired_capacity or 0
    wanted = min(desired, base) + math.ceil(max(0, desired - base) * percentage / 100)
    running = sum(1 for state in members(group) if state.instance.state not in GONE and state.instance.lifecycle is None)
    return None if running < wanted else "spot"


def _template_data(group: FakeAutoScalingGroup) -> dict[str, t.Any]:
    if group.ec2_launch_template is None:
        return {}
    data: dict[str, t.Any] = group.ec2_launch_template.get_version(group.launch_template_version).data
    return data


def _refusal(group: FakeAutoScalingGroup, place: _Place, instance_type: str, lifecycle: str | None) -> str | None:
    """Why EC2 would not launch there, None when it would."""
    if not offered(group.region, place.zone, instance_type):
        return not_offered_message(instance_type, place.zone)
    try:
        reserved = accept(group.ec2_backend, _wishes(group, lifecycle), instance_type, place.zone) is not None
    except AwsError as error:
        return error.message
    if not reserved and surroundings().faults.lacks_capacity(instance_type, place.zone, lifecycle or "on-demand"):
        return no_capacity_message(instance_type, place.zone)
    if group.ec2_backend.get_subnet(place.subnet_id).available_ip_address_count < 1:
        return no_addresses_message(place.subnet_id)
    beyond = surroundings().quotas.refusal(group.ec2_backend, instance_type, lifecycle)
    return beyond.message if beyond else None


def _wishes(group: FakeAutoScalingGroup, lifecycle: str | None) -> Wishes:
    """The group's own over its template's; Spot Instances use no reservation. A group without preference uses what its template says."""
    specification = getattr(group, "capacity_reservation_specification", None) or {}
    own = {} if specification.get("CapacityReservationPreference") == "default" else specification
    return Wishes(reservation=own, group=group.placement_group or "", market=lifecycle or "").over(Wishes.of(_template_data(group)))


def _launch(group: FakeAutoScalingGroup, place: _Place, instance_type: str, lifecycle: str | None) -> None:
    with asking(group.ec2_backend, _wishes(group, lifecycle)):
        instance = _run(group, place, instance_type)
    instance.lifecycle = lifecycle
    instance.autoscaling_group = group
    profile = _template_data(group).get("IamInstanceProfile")
    if profile:
        group.ec2_backend.associate_iam_instance_profile(
            instance.id, iam_instance_profile_name=profile.get("Name"), iam_instance_profile_arn=profile.get("Arn")
        )
    member = Member(instance, protected_from_scale_in=group.new_instances_protected_from_scale_in)
    member.lab_hooks = {}
    member.lab_template = _template_in_force(group)
    group.instance_states.append(member)
    record(group, f"Launching a new EC2 instance: {instance.id}", "Successful", None)
    for follow in AFTER_LAUNCH:
        follow(group, member)


# What follows on a launch: others put themselves in.
AFTER_LAUNCH: list[t.Callable[[FakeAutoScalingGroup, Member], None]] = []


def _template_in_force(group: FakeAutoScalingGroup) -> dict[str, t.Any] | None:
    """The template with the number of the version that $Latest or $Default means now."""
    template = group.ec2_launch_template
    if template is None:
        return None
    version = template.get_version(group.launch_template_version)
    return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": str(version.number)}


def _run(group: FakeAutoScalingGroup, place: _Place, instance_type: str) -> t.Any:
    data = _template_data(group)
    template = group.ec2_launch_template
    interfaces = _interfaces(data, place)
    reservation = group.ec2_backend.run_instances(
        group.image_id,
        1,
        group.user_data,
        [] if template else group.security_groups,
        instance_type=instance_type,
        is_instance_type_default=False,
        region_name=group.region,
        placement=place.zone,
        subnet_id=None if interfaces else place.subnet_id,
        nics=interfaces,
        launch_template={"LaunchTemplateId": template.id, "Version": group.launch_template_version} if template else None,
        launch_config=group.launch_config,
        associate_public_ip=None if template else group.launch_config.associate_public_ip_address,
        metadata_options=data.get("MetadataOptions") or {},
        tags={"instance": {**group.get_propagated_tags(), **group.instance_tags, ASG_NAME_TAG: group.name}},
    )
    return reservation.instances[0]


def _interfaces(data: dict[str, t.Any], place: _Place) -> list[dict[str, t.Any]]:
    """The template's network interfaces in the place's subnet; moto tells them apart by device index alone."""
    return [
        {**interface, "DeviceIndex": index, "SubnetId": place.subnet_id}
        for index, interface in enumerate(data.get("NetworkInterfaces", []))
    ]


def activities(group: FakeAutoScalingGroup) -> list[dict[str, t.Any]]:
    found: list[dict[str, t.Any]] = group.__dict__.setdefault("lab_activities", [])
    return found


def record(group: FakeAutoScalingGroup, description: str, status: str, message: str | None) -> dict[str, t.Any]:
    """Put an activity on record, newest first, and return it."""
    now = utcnow()
    activity = {
        "ActivityId": str(uuid.uuid4()),
        "AutoScalingGroupName": group.name,
        "Description": description,
        "Cause": f"At {now:%Y-%m-%dT%H:%M:%SZ} the group's desired capacity of {group.desired_capacity} differed from its instances.",
        "StartTime": now,
        "EndTime": now,
        "StatusCode": status,
        "StatusMessage": message,
        "Progress": 100,
    }
    activities(group).insert(0, activity)
    return activity


@wraps(AutoScalingResponse, "describe_scaling_activities")
def describe_scaling_activities(original: Wrapper, response: AutoScalingResponse) -> ActionResult:
    """Newest first, at most 100 a page; moto's list is always empty."""
    params = response._get_params()
    wanted, ids = params.get("AutoScalingGroupName"), params.get("ActivityIds") or []
    groups = [group for group in response.autoscaling_backend.autoscaling_groups.values() if wanted in (None, group.name)]
    found = [item for group in groups for item in activities(group) if not ids or item["ActivityId"] in ids]
    found.sort(key=lambda activity: activity["StartTime"], reverse=True)
    chosen, token = page(found, {"NextToken": params.get("NextToken"), "MaxResults": params.get("MaxRecords")})
    return ActionResult({"Activities": chosen, "NextToken": token})
