"""How Auto Scaling groups launch and replace instances.

moto launches everything into a group's first subnet, as its first type, on demand, whatever EC2 has there, and replaces what was
terminated in the same breath. Source: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-benefits.html (balance over zones),
allocation-strategies.html, health-checks-overview.html.
"""

from __future__ import annotations

import math
import typing as t
import uuid
from collections import Counter
from dataclasses import dataclass

from moto.autoscaling.models import ASG_NAME_TAG, AutoScalingBackend, FakeAutoScalingGroup, InstanceState, autoscaling_backends
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models.instance_types import INSTANCE_TYPE_OFFERINGS

from lab.aws.moto_fixes import Wrapper, surroundings, wraps

REPLACEMENT_SECONDS = 60.0
_GONE = ("terminated", "shutting-down", "stopped", "stopping")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where an instance of a group may go."""

    subnet_id: str
    zone: str


def offered(region: str, zone: str, instance_type: str) -> bool:
    """Whether EC2 offers the type in the zone, by moto's table of real offerings."""
    return any(
        row["InstanceType"] == instance_type and row["Location"] == zone
        for row in INSTANCE_TYPE_OFFERINGS["availability-zone"].get(region, [])
    )


def not_offered_message(instance_type: str, zone: str) -> str:
    return (
        f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone ({zone}). "
        "Please retry your request by not specifying an Availability Zone or choosing another one."
    )


def no_capacity_message(instance_type: str, zone: str) -> str:
    return (
        f"We currently do not have sufficient {instance_type} capacity in the Availability Zone you requested ({zone}). "
        "Our system will be working on provisioning additional capacity."
    )


def no_addresses_message(subnet_id: str) -> str:
    return f"There are not enough free addresses in subnet '{subnet_id}' to satisfy the requested number of instances."


@wraps(FakeAutoScalingGroup, "replace_autoscaling_group_instances")
def launch_instances(original: Wrapper, group: FakeAutoScalingGroup, count_needed: int, propagated_tags: dict[str, str]) -> None:
    """Launch one after the other, balanced over zones; the first that no place can take is recorded as a failed activity and ends it."""
    for _ in range(count_needed):
        lifecycle = _next_lifecycle(group)
        failure = "The group has no subnet to launch into."
        for place, instance_type in _choices(group):
            refusal = _refusal(group, place, instance_type, lifecycle)
            if refusal is None:
                _launch(group, place, instance_type, lifecycle, propagated_tags)
                break
            failure = refusal
        else:
            _record(group, "Launching a new EC2 instance.", "Failed", f"{failure} Launching EC2 instance failed.")
            return


def _choices(group: FakeAutoScalingGroup) -> t.Iterator[tuple[_Place, str]]:
    """Places with the fewest instances first, and in each the types in the order of the overrides."""
    populated = Counter(state.instance.placement.zone for state in group.instance_states if state.instance.state not in _GONE)
    places = sorted(_places(group), key=lambda place: populated[place.zone])
    for place in places:
        for instance_type in _types(group):
            yield place, instance_type


def _places(group: FakeAutoScalingGroup) -> list[_Place]:
    backend = group.ec2_backend
    if group.vpc_zone_identifier:
        found = [backend.get_subnet(subnet_id.strip()) for subnet_id in group.vpc_zone_identifier.split(",")]
    else:
        defaults = backend.get_default_subnets()
        found = [defaults[zone] for zone in group.availability_zones if zone in defaults]
    return [_Place(subnet_id=subnet.id, zone=subnet.availability_zone) for subnet in found]


def _types(group: FakeAutoScalingGroup) -> list[str]:
    overrides = (group.mixed_instances_policy or {}).get("LaunchTemplate", {}).get("Overrides", [])
    return [item["InstanceType"] for item in overrides if item.get("InstanceType")] or [group.instance_type]


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
    running = sum(1 for state in group.instance_states if state.instance.state not in _GONE and state.instance.lifecycle is None)
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
    if surroundings().faults.lacks_capacity(instance_type, place.zone, lifecycle or "on-demand"):
        return no_capacity_message(instance_type, place.zone)
    if group.ec2_backend.get_subnet(place.subnet_id).available_ip_address_count < 1:
        return no_addresses_message(place.subnet_id)
    beyond = surroundings().quotas.refusal(group.ec2_backend, instance_type, lifecycle)
    return beyond.message if beyond else None


def _launch(group: FakeAutoScalingGroup, place: _Place, instance_type: str, lifecycle: str | None, propagated_tags: dict[str, str]) -> None:
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
        tags={"instance": {**propagated_tags, **group.instance_tags, ASG_NAME_TAG: group.name}},
    )
    instance: t.Any = reservation.instances[0]
    instance.lifecycle = lifecycle
    instance.autoscaling_group = group
    profile = data.get("IamInstanceProfile")
    if profile:
        group.ec2_backend.associate_iam_instance_profile(
            instance.id, iam_instance_profile_name=profile.get("Name"), iam_instance_profile_arn=profile.get("Arn")
        )
    group.instance_states.append(InstanceState(instance, protected_from_scale_in=group.new_instances_protected_from_scale_in))
    _record(group, f"Launching a new EC2 instance: {instance.id}", "Successful", None)


def _interfaces(data: dict[str, t.Any], place: _Place) -> list[dict[str, t.Any]]:
    """The template's network interfaces in the place's subnet; moto tells them apart by device index alone."""
    return [
        {**interface, "DeviceIndex": index, "SubnetId": place.subnet_id}
        for index, interface in enumerate(data.get("NetworkInterfaces", []))
    ]


def _activities(group: FakeAutoScalingGroup) -> list[dict[str, t.Any]]:
    activities: list[dict[str, t.Any]] = group.__dict__.setdefault("lab_activities", [])
    return activities


def _record(group: FakeAutoScalingGroup, description: str, status: str, message: str | None) -> None:
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
    _activities(group).insert(0, activity)


@wraps(AutoScalingResponse, "describe_scaling_activities")
def describe_scaling_activities(original: Wrapper, response: AutoScalingResponse) -> ActionResult:
    """Newest first; moto's list is always empty."""
    wanted = response._get_param("AutoScalingGroupName")
    groups = [group for group in response.autoscaling_backend.autoscaling_groups.values() if wanted in (None, group.name)]
    activities = [activity for group in groups for activity in _activities(group)]
    return ActionResult({"Activities": sorted(activities, key=lambda activity: activity["StartTime"], reverse=True)})


@wraps(AutoScalingBackend, "notify_terminate_instances")
def forget_terminated_instances(original: Wrapper, backend: AutoScalingBackend, instance_ids: list[str]) -> None:
    """moto replaces at once and in the same call; Auto Scaling notices after a while."""
    for group in backend.autoscaling_groups.values():
        group.instance_states = [state for state in group.instance_states if state.instance.id not in instance_ids]


def reconcile_groups() -> None:
    """Replace what was terminated, and try again what could not be launched. The caller keeps moto to itself."""
    now = surroundings().clock.seconds()
    for account in list(autoscaling_backends):
        for backend in list(autoscaling_backends[account].values()):
            for group in list(backend.autoscaling_groups.values()):
                _reconcile(group, now)


def _reconcile(group: FakeAutoScalingGroup, now: float) -> None:
    group.instance_states = [state for state in group.instance_states if state.instance.state not in _GONE]
    suspended = {process["ProcessName"] for process in group.suspended_processes}
    short = len(group.instance_states) < (group.desired_capacity or 0) and not suspended & {"Launch", "ReplaceUnhealthy"}
    if not short:
        group.__dict__.pop("lab_replace_at", None)
        return
    if now >= group.__dict__.setdefault("lab_replace_at", now + REPLACEMENT_SECONDS):
        group.__dict__["lab_replace_at"] = now + REPLACEMENT_SECONDS
        group.set_desired_capacity(group.desired_capacity)
