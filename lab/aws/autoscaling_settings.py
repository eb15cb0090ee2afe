"""Settings of Auto Scaling groups that moto drops, and what Auto Scaling refuses.

Sources: API CreateAutoScalingGroup, UpdateAutoScalingGroup, DeleteAutoScalingGroup, SetDesiredCapacity, PutWarmPool; User Guide,
resource-deletion-protection.html, ec2-auto-scaling-warm-pools.html. Words: aws.amazon.com's errors as users quote them.
"""

from __future__ import annotations

import typing as t

from botocore import xform_name
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from lab.aws.autoscaling_members import put_hook
from lab.aws.calls import Call
from lab.aws.errors import AwsError
from lab.aws.moto_fixes import Wrapper, wraps
from lab.aws.rules import rule

# Settings that moto loses at creation, at updates, or both; defaults that DescribeAutoScalingGroups shows.
SETTINGS = (
    "AvailabilityZoneDistribution",
    "AvailabilityZoneImpairmentPolicy",
    "CapacityRebalance",
    "CapacityReservationSpecification",
    "Context",
    "DefaultCooldown",
    "DefaultInstanceWarmup",
    "DeletionProtection",
    "DesiredCapacityType",
    "InstanceLifecyclePolicy",
    "InstanceMaintenancePolicy",
    "MaxInstanceLifetime",
    "PlacementGroup",
    "ServiceLinkedRoleARN",
    "TerminationPolicies",
)
_DEFAULTS: dict[str, t.Any] = {
    "DeletionProtection": "none",
    "AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "balanced-best-effort"},
    "CapacityReservationSpecification": {"CapacityReservationPreference": "default"},
}
_WORDS = {
    "DeletionProtection": ("none", "prevent-force-deletion", "prevent-all-deletion"),
    "HealthCheckType": ("EC2", "ELB", "VPC_LATTICE", "EBS"),
}


def _keep(group: FakeAutoScalingGroup, params: dict[str, t.Any]) -> None:
    for name in SETTINGS:
        if name in params:
            setattr(group, xform_name(name), params[name])


@wraps(AutoScalingResponse, "create_auto_scaling_group")
def create_group(original: Wrapper, response: AutoScalingResponse) -> ActionResult:
    """moto launches while it makes the group; what the launches depend on has to be there first."""
    params, backend = response._get_params(), response.autoscaling_backend
    name = params["AutoScalingGroupName"]
    backend.__dict__["lab_creating"] = name
    try:
        original(response)
    finally:
        del backend.__dict__["lab_creating"]
    group = backend.autoscaling_groups[name]
    _keep(group, {**_DEFAULTS, **params})
    for hook in params.get("LifecycleHookSpecificationList") or ():
        put_hook(backend, name, hook)
    try:
        group.set_desired_capacity(params.get("DesiredCapacity"))
    except Exception:
        backend.delete_auto_scaling_group(name)
        raise
    return ActionResult({})


@wraps(AutoScalingBackend, "create_auto_scaling_group")
def create_empty(original: Wrapper, backend: AutoScalingBackend, **kwargs: t.Any) -> FakeAutoScalingGroup:
    if backend.__dict__.get("lab_creating") == kwargs["name"]:
        kwargs["desired_capacity"] = 0
    return t.cast(FakeAutoScalingGroup, original(backend, **kwargs))


@wraps(AutoScalingResponse, "update_auto_scaling_group")
def update_group(original: Wrapper, response: AutoScalingResponse) -> ActionResult:
    params = response._get_params()
    group = response.autoscaling_backend.autoscaling_groups.get(params["AutoScalingGroupName"])
    if group is not None:
        _keep(group, params)
    return t.cast(ActionResult, original(response))


@wraps(FakeAutoScalingGroup, "update")
def keep_unnamed_settings(original: Wrapper, group: FakeAutoScalingGroup, **kwargs: t.Any) -> None:
    """An update that names no mixed instances policy keeps the one there is; moto drops it. Sizes pull the desired one along."""
    if kwargs.get("mixed_instances_policy") is None and not kwargs.get("launch_template") and not kwargs.get("launch_config_name"):
        kwargs["mixed_instances_policy"] = _by_id_alone(group.mixed_instances_policy)
    elif kwargs.get("mixed_instances_policy") and group.mixed_instances_policy:
        previous = group.mixed_instances_policy.get("InstancesDistribution", {})
        given = kwargs["mixed_instances_policy"].get("InstancesDistribution", {})
        kwargs["mixed_instances_policy"]["InstancesDistribution"] = {**previous, **given}
    least, most = (_first(kwargs.get(name), getattr(group, name)) for name in ("min_size", "max_size"))
    if kwargs.get("desired_capacity") is None:
        kwargs["desired_capacity"] = _within(group.desired_capacity, least, most)
    original(group, **kwargs)


def _first(*values: int | None) -> int:
    return next((value for value in values if value is not None), 0)


def _within(desired: int | None, least: int, most: int) -> int:
    return min(max(desired or 0, least), most)


def _by_id_alone(policy: dict[str, t.Any] | None) -> dict[str, t.Any] | None:
    """The policy as a request may carry it: moto keeps the template's id and name, and refuses both together."""
    if policy is None:
        return None
    template = dict(policy["LaunchTemplate"])
    specification = template["LaunchTemplateSpecification"]
    template["LaunchTemplateSpecification"] = {name: value for name, value in specification.items() if name != "LaunchTemplateName"}
    return {**policy, "LaunchTemplate": template}


@wraps(AutoScalingBackend, "describe_auto_scaling_instances")
def describe_known_instances(original: Wrapper, backend: AutoScalingBackend, instance_ids: list[str]) -> t.Any:
    """Terminated instances are no members any more, although moto counts them until the group is looked at again."""
    return [state for state in original(backend, instance_ids) if state.instance.state != "terminated"]


@wraps(AutoScalingResponse, "disable_metrics_collection")
def disable_metrics_collection(original: Wrapper | None, response: AutoScalingResponse) -> ActionResult:
    """moto does not have the operation."""
    params = response._get_params()
    group = response.autoscaling_backend.autoscaling_groups[params["AutoScalingGroupName"]]
    metrics = params.get("Metrics", [])
    group.metrics = [metric for metric in group.metrics if metrics and metric not in metrics]
    return ActionResult({})


# Refusals


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationError", message)


def _known(backend: t.Any, params: dict[str, t.Any]) -> FakeAutoScalingGroup:
    name = params.get("AutoScalingGroupName")
    group = backend.autoscaling_groups.get(name)
    if group is None:
        raise _invalid(f"AutoScalingGroup name not found - AutoScalingGroup {name} not found")
    return t.cast(FakeAutoScalingGroup, group)


@rule("autoscaling", "SetDesiredCapacity")
def set_desired_capacity(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    group = _known(backend, params)
    wanted, least, most = int(params["DesiredCapacity"]), group.min_size or 0, group.max_size or 0
    for beyond, word, limit in ((wanted > most, "above max", most), (wanted < least, "below min", least)):
        if beyond:
            raise _invalid(f"New SetDesiredCapacity value {wanted} is {word} value {limit} for the AutoScalingGroup.")


@rule("autoscaling", "CreateAutoScalingGroup")
def create_auto_scaling_group(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    name = params.get("AutoScalingGroupName")
    if name in backend.autoscaling_groups:
        raise AwsError("AlreadyExists", f"AutoScalingGroup by this name already exists - A group with the name {name} already exists")
    least, most = int(params.get("MinSize", 0)), int(params.get("MaxSize", 0))
    _check_sizes(least, most, int(params.get("DesiredCapacity", least)))
    _check_words(params)


@rule("autoscaling", "UpdateAutoScalingGroup")
def update_auto_scaling_group(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    group = _known(backend, params)
    least, most = int(params.get("MinSize", group.min_size or 0)), int(params.get("MaxSize", group.max_size or 0))
    _check_sizes(least, most, int(params.get("DesiredCapacity", _within(group.desired_capacity, least, most))))
    _check_words(params)


def _check_sizes(least: int, most: int, desired: int) -> None:
    if least > most:
        raise _invalid(f"Max bound, {most}, must be greater than or equal to min bound, {least}")
    if not least <= desired <= most:
        raise _invalid(f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}")


def _check_words(params: dict[str, t.Any]) -> None:
    for name, allowed in _WORDS.items():
        if name in params and params[name] not in allowed:
            raise _invalid(f"{name} must be one of {', '.join(allowed)}, not {params[name]}")


@rule("autoscaling", "DeleteAutoScalingGroup")
def delete_auto_scaling_group(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    """The words of deletion protection are the lab's; its code is the user guide's."""
    group = backend.autoscaling_groups.get(params.get("AutoScalingGroupName"))
    if group is None:
        return
    forced = params.get("ForceDelete", "false").lower() == "true"
    protection = getattr(group, "deletion_protection", "none")
    if protection == "prevent-all-deletion" or (forced and protection == "prevent-force-deletion"):
        raise _invalid(f"You cannot delete AutoScalingGroup {group.name}: its deletion protection is {protection}.")
    if group.instance_states and not forced:
        message = "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still in the group."
        raise AwsError("ResourceInUse", message)


@rule("autoscaling", "DescribeWarmPool")
def describe_warm_pool(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    _known(backend, params)


@rule("autoscaling", "PutWarmPool")
def put_warm_pool(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    group = _known(backend, params)
    prepared = int(params.get("MaxGroupPreparedCapacity", -1))
    if prepared >= 0 and prepared < int(params.get("MinSize", 0)):
        raise _invalid("MaxGroupPreparedCapacity must be greater than or equal to the warm pool's MinSize.")
    distribution = (group.mixed_instances_policy or {}).get("InstancesDistribution") or {}
    if int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100)) < 100:
        raise _invalid("You can't add a warm pool to Auto Scaling groups that request Spot Instances.")


@rule("autoscaling", "DeleteWarmPool")
def delete_warm_pool(backend: t.Any, params: dict[str, t.Any], call: Call) -> None:
    if _known(backend, params).warm_pool is None:
        raise _invalid(f"No warm pool found for Auto Scaling group {params['AutoScalingGroupName']}")
