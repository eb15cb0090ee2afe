"""Instance refreshes: an Auto Scaling group's instances replaced, some at a time, from its template as it is or from another configuration.

moto does not have them. Sources: Amazon EC2 Auto Scaling User Guide, asg-instance-refresh.html, instance-refresh-overview.html (how many at
a time, the hour after which it fails), understand-instance-refresh-default-values.html; API StartInstanceRefresh, CancelInstanceRefresh.
Checkpoints, bake time, alarms and rollback are kept, not acted on.
"""

from __future__ import annotations

import contextlib
import datetime
import typing as t
import uuid
from dataclasses import dataclass, field

from moto.autoscaling.models import FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from lab.aws.autoscaling import Member, launch_one, members, suspended
from lab.aws.autoscaling_members import terminate
from lab.aws.errors import AwsError
from lab.aws.moto_fixes import Wrapper, page, surroundings, wraps

STALLED_SECONDS = 3600.0
RETRY_SECONDS = 60.0
DEFAULTS = {"MinHealthyPercentage": 90, "MaxHealthyPercentage": 100, "SkipMatching": False, "AutoRollback": False} | {
    "ScaleInProtectedInstances": "Wait",
    "StandbyInstances": "Wait",
}
_ACTIVE = ("Pending", "InProgress", "Cancelling")


@dataclass(slots=True, kw_only=True)
class Refresh:
    """A refresh, active or over. ``left`` are the instances still to be replaced."""

    preferences: dict[str, t.Any]
    desired: dict[str, t.Any]
    left: list[str]
    total: int
    warmup: float
    started: datetime.datetime
    due: float
    stalled_at: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "Pending"
    reason: str = ""
    ended: datetime.datetime | None = None

    def document(self, group_name: str) -> dict[str, t.Any]:
        done = self.total - len(self.left)
        found = {
            "InstanceRefreshId": self.id,
            "AutoScalingGroupName": group_name,
            "Status": self.status,
            "StatusReason": self.reason or None,
            "StartTime": self.started,
            "EndTime": self.ended,
            "PercentageComplete": 100 * done // self.total if self.total else 100,
            "InstancesToUpdate": len(self.left),
            "Preferences": self.preferences,
            "DesiredConfiguration": self.desired or None,
            "Strategy": "Rolling",
        }
        return {name: value for name, value in found.items() if value is not None}

    def end(self, status: str, reason: str = "") -> None:
        self.status, self.reason, self.ended = status, reason, surroundings().clock.now()


def _refreshes(group: FakeAutoScalingGroup) -> list[Refresh]:
    found: list[Refresh] = group.__dict__.setdefault("lab_refreshes", [])
    return found


def refreshing(group: FakeAutoScalingGroup) -> Refresh | None:
    """The refresh in flight."""
    return next((item for item in _refreshes(group) if item.status in _ACTIVE), None)


def _group(response: AutoScalingResponse) -> FakeAutoScalingGroup:
    name = response._get_params()["AutoScalingGroupName"]
    group = response.autoscaling_backend.autoscaling_groups.get(name)
    if group is None:
        raise AwsError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")
    return group


@wraps(AutoScalingResponse, "start_instance_refresh")
def start_instance_refresh(original: Wrapper | None, response: AutoScalingResponse) -> ActionResult:
    params, group = response._get_params(), _group(response)
    if refreshing(group) is not None:
        message = "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh."
        raise AwsError("InstanceRefreshInProgress", message)
    if params.get("Strategy", "Rolling") != "Rolling":
        raise AwsError("NotImplemented", f"The lab does not imitate instance refreshes of strategy {params['Strategy']}", 501)
    preferences = _checked_preferences(params.get("Preferences") or {})
    desired = params.get("DesiredConfiguration") or {}
    with _configuration(group, desired):
        skipped = {state.instance.id for state in members(group) if preferences["SkipMatching"] and _matches(group, state)}
    left = [state.instance.id for state in members(group) if state.instance.id not in skipped]
    now = surroundings().clock.seconds()
    refresh = Refresh(
        preferences=preferences,
        desired=desired,
        left=left,
        total=len(left),
        warmup=float(preferences.get("InstanceWarmup", _default_warmup(group))),
        started=surroundings().clock.now(),
        due=now,
        stalled_at=now + STALLED_SECONDS,
    )
    _refreshes(group).insert(0, refresh)
    return ActionResult({"InstanceRefreshId": refresh.id})


def _default_warmup(group: FakeAutoScalingGroup) -> int:
    return int(getattr(group, "default_instance_warmup", None) or group.health_check_grace_period or 0)


def _checked_preferences(given: dict[str, t.Any]) -> dict[str, t.Any]:
    preferences = {**DEFAULTS, **given}
    least, most = int(preferences["MinHealthyPercentage"]), int(preferences["MaxHealthyPercentage"])
    if not 0 <= least <= 100 or not 100 <= most <= 200:
        raise AwsError("ValidationError", "MinHealthyPercentage must be between 0 and 100 and MaxHealthyPercentage between 100 and 200.")
    if most - least > 100:
        raise AwsError(
            "ValidationError", "The difference between MaxHealthyPercentage and MinHealthyPercentage cannot be greater than 100."
        )
    return preferences


def _matches(group: FakeAutoScalingGroup, member: Member) -> bool:
    """Whether an instance already is as the configuration in force would make it."""
    template = group.ec2_launch_template
    if template is None or member.launch_template is None:
        return False
    number = str(template.get_version(group.launch_template_version).number)
    return (member.launch_template["LaunchTemplateId"], member.launch_template["Version"]) == (template.id, number)


@wraps(AutoScalingResponse, "describe_instance_refreshes")
def describe_instance_refreshes(original: Wrapper | None, response: AutoScalingResponse) -> ActionResult:
    params, group = response._get_params(), _group(response)
    ids = params.get("InstanceRefreshIds") or []
    found = [item.document(group.name) for item in _refreshes(group) if not ids or item.id in ids]
    chosen, token = page(found, {"NextToken": params.get("NextToken"), "MaxResults": params.get("MaxRecords")}, 50)
    return ActionResult({"InstanceRefreshes": chosen, "NextToken": token})


@wraps(AutoScalingResponse, "cancel_instance_refresh")
def cancel_instance_refresh(original: Wrapper | None, response: AutoScalingResponse) -> ActionResult:
    """What is replaced stays; the group keeps its configuration."""
    group = _group(response)
    refresh = refreshing(group)
    if refresh is None:
        raise AwsError(
            "ActiveInstanceRefreshNotFound", f"No in progress or pending Instance Refresh found for Auto Scaling group {group.name}"
        )
    refresh.status = "Cancelling"
    return ActionResult({"InstanceRefreshId": refresh.id})


# Progress


def advance_refreshes(group: FakeAutoScalingGroup, now: float) -> None:
    """The next batch of the refresh in flight, when the instances of the last one have warmed up."""
    refresh = refreshing(group)
    if refresh is None or suspended(group, "InstanceRefresh", "Launch", "Terminate"):
        return
    if refresh.status == "Cancelling":
        refresh.end("Cancelled", "Cancelled due to user request.")
        return
    if now < refresh.due:
        return
    refresh.status = "InProgress"
    present = {state.instance.id: state for state in members(group)}
    refresh.left = [instance_id for instance_id in refresh.left if instance_id in present]
    treatment = refresh.preferences["ScaleInProtectedInstances"]
    batch = [present[name] for name in refresh.left if treatment == "Refresh" or not present[name].protected_from_scale_in]
    full = _fill(group, refresh)
    if full and (not refresh.left or (not batch and treatment == "Ignore")):
        _finish(group, refresh)
    elif full and batch and _replace(group, refresh, batch):
        refresh.due, refresh.stalled_at = now + refresh.warmup, now + STALLED_SECONDS
    elif now >= refresh.stalled_at:
        refresh.end("Failed", "There are no instances that could be replaced, or none could be launched, for an hour.")
    else:
        refresh.due = now + RETRY_SECONDS


def _fill(group: FakeAutoScalingGroup, refresh: Refresh) -> bool:
    """Launch what the last batch still lacks; whether the group is complete, which the next one waits for."""
    with _configuration(group, refresh.desired):
        while len(members(group)) < (group.desired_capacity or 0):
            if not launch_one(group):
                return False
    return True


def _finish(group: FakeAutoScalingGroup, refresh: Refresh) -> None:
    """The group takes over the desired configuration once all instances have it."""
    refresh.left = []
    _configure(group, refresh.desired)
    refresh.end("Successful")


def _replace(group: FakeAutoScalingGroup, refresh: Refresh, candidates: list[Member]) -> bool:
    """Replace as many as the percentages allow at a time; whether any was. Room above 100 % launches first."""
    desired = max(1, group.desired_capacity or 0)
    above = desired * (int(refresh.preferences["MaxHealthyPercentage"]) - 100) // 100
    below = desired * (100 - int(refresh.preferences["MinHealthyPercentage"])) // 100
    replaced = False
    with _configuration(group, refresh.desired):
        for member in candidates[: max(1, above + below)]:
            if above > 0 and not launch_one(group):
                return replaced
            terminate(group, member)
            refresh.left.remove(member.instance.id)
            if above == 0 and not launch_one(group):
                return replaced
            replaced = True
    return replaced


@contextlib.contextmanager
def _configuration(group: FakeAutoScalingGroup, desired: dict[str, t.Any]) -> t.Iterator[None]:
    """What is launched inside is launched from the desired configuration, which the group does not have yet."""
    names = (
        "ec2_launch_template",
        "launch_template_version",
        "provided_launch_template_version",
        "mixed_instances_policy",
        "launch_config",
    )
    before = {name: getattr(group, name, None) for name in names}
    _configure(group, desired)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(group, name, value)


def _configure(group: FakeAutoScalingGroup, desired: dict[str, t.Any]) -> None:
    if not desired:
        return
    template, policy = desired.get("LaunchTemplate") or {}, desired.get("MixedInstancesPolicy")
    group.mixed_instances_policy = policy
    group._set_launch_configuration("", template, policy)
