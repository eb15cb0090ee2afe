"""Scheduled actions of Auto Scaling groups, carried out once when their time has come.

moto keeps them by name alone, whatever group they belong to, and does nothing with them. Recurrence is kept, not acted on.
Source: Amazon EC2 Auto Scaling User Guide, ec2-auto-scaling-scheduled-scaling.html (names are unique within a group; a one-time action is
gone once it has run); API PutScheduledUpdateGroupAction.
"""

from __future__ import annotations

import typing as t

from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, FakeScheduledAction

from lab.aws.autoscaling import suspended
from lab.aws.errors import AwsError
from lab.aws.moto_fixes import Wrapper, surroundings, wraps
from lab.aws.reservations import date_of


def _key(group_name: str, action_name: str) -> str:
    return f"{group_name}/{action_name}"


@wraps(AutoScalingBackend, "put_scheduled_update_group_action")
def put_action(original: Wrapper, backend: AutoScalingBackend, **kwargs: t.Any) -> FakeScheduledAction:
    """Of a group that is there, at a time to come."""
    if kwargs["name"] not in backend.autoscaling_groups:
        raise AwsError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{kwargs['name']}' not found")
    start = date_of(kwargs.get("start_time"))
    if start is not None and start <= surroundings().clock.now():
        raise AwsError("ValidationError", "Given start time is in the past")
    action: FakeScheduledAction = original(backend, **kwargs)
    backend.scheduled_actions[_key(kwargs["name"], kwargs["scheduled_action_name"])] = backend.scheduled_actions.pop(
        kwargs["scheduled_action_name"]
    )
    return action


@wraps(AutoScalingBackend, "delete_scheduled_action")
def delete_action(original: Wrapper, backend: AutoScalingBackend, auto_scaling_group_name: str, scheduled_action_name: str) -> None:
    if backend.scheduled_actions.pop(_key(auto_scaling_group_name, scheduled_action_name), None) is None:
        raise AwsError("ValidationError", "Scheduled action name not found")


def run_due(group: FakeAutoScalingGroup) -> None:
    """Set the sizes that actions name whose time has come."""
    actions = group.autoscaling_backend.scheduled_actions
    for key, action in list(actions.items()):
        start = date_of(action.start_time)
        if action.auto_scaling_group_name != group.name or start is None or start > surroundings().clock.now():
            continue
        if action.recurrence or suspended(group, "ScheduledActions"):
            continue
        del actions[key]
        group.min_size = group.min_size if action.min_size is None else action.min_size
        group.max_size = group.max_size if action.max_size is None else action.max_size
        desired = group.desired_capacity if action.desired_capacity is None else action.desired_capacity
        group.set_desired_capacity(min(max(desired or 0, group.min_size or 0), group.max_size or 0))
