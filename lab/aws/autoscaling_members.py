"""How instances leave Auto Scaling groups, and lifecycle hooks, which hold them at both ends.

moto terminates the first instance it finds, whatever zone it is in, and hooks hold nothing.
Sources: Amazon EC2 Auto Scaling User Guide, ec2-auto-scaling-termination-policies.html, lifecycle-hooks.html, lifecycle-hooks-overview.html,
as-suspend-resume-processes.html, ec2-auto-scaling-capacity-rebalancing.html; API CompleteLifecycleAction, TerminateInstanceInAutoScalingGroup.
"""

from __future__ import annotations

import typing as t
import uuid

from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, LifecycleHook, autoscaling_backends
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult

from lab.aws.autoscaling import AFTER_LAUNCH, GONE, Member, launch_one, members, per_zone, record, suspended
from lab.aws.errors import AwsError
from lab.aws.events import LISTENERS, WARNING_SECONDS, emit
from lab.aws.moto_fixes import Wrapper, surroundings, wraps
from lab.contracts import EKS_HOOK

LAUNCHING, TERMINATING = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"
DEFAULT_HEARTBEAT = 3600.0
INTERRUPTION = "spot_interruption"


# Size


@wraps(FakeAutoScalingGroup, "set_desired_capacity")
def set_desired_capacity(original: Wrapper, group: FakeAutoScalingGroup, new_capacity: int | None) -> None:
    group.desired_capacity = group.min_size if new_capacity is None else new_capacity
    adjust(group)


def adjust(group: FakeAutoScalingGroup) -> None:
    """Launch what is missing and terminate what is too much, as far as these processes are not suspended."""
    desired = group.desired_capacity or 0
    while len(members(group)) < desired and not suspended(group, "Launch"):
        if not launch_one(group):
            break
    while len(members(group)) > desired and not suspended(group, "Terminate"):
        chosen = victim(group)
        if chosen is None:
            break
        terminate(group, chosen)


def victim(group: FakeAutoScalingGroup, zone: str | None = None) -> Member | None:
    """One at risk; else, of those without scale-in protection, in the fullest zone, of the oldest template, the oldest (or newest)."""
    candidates = [state for state in members(group) if not state.protected_from_scale_in]
    at_risk = [state for state in candidates if getattr(state, "lab_at_risk", False)]
    if not candidates or (at_risk and zone is None):
        return at_risk[0] if at_risk else None
    populated = per_zone(group)
    fullest = zone or max((str(state.instance.placement.zone) for state in candidates), key=lambda name: populated[name])
    there = [state for state in candidates if state.instance.placement.zone == fullest]
    newest_first = group.termination_policies[:1] == ["NewestInstance"]
    order = list(reversed(there)) if newest_first else there
    return min(order, key=lambda state: 0 if newest_first else _template_number(state), default=None)


def _template_number(state: Member) -> int:
    return int((state.launch_template or {}).get("Version", 0))


def rebalance(ec2_backend: t.Any, instance: t.Any, kind: str) -> None:
    """Capacity Rebalancing: another one first, above the desired capacity; the one at risk leaves once it is there, if EC2 did not end it.

    EKS User Guide, managed-node-groups.html ("Managed node group capacity types"): it drains the nodes of its groups meanwhile, at an
    interruption also where there is no other; that it does as a lifecycle hook here.
    """
    for group in autoscaling_backends[ec2_backend.account_id][ec2_backend.region_name].autoscaling_groups.values():
        for member in members(group):
            if member.instance is not instance or not group.capacity_rebalance or suspended(group, "Launch"):
                continue
            member.__dict__["lab_at_risk"] = True
            replaced = launch_one(group)
            if "eks:nodegroup-name" in group.get_propagated_tags() and (replaced or kind == INTERRUPTION):
                member.lifecycle_state = "Terminating:Wait"
                member.lab_hooks = {EKS_HOOK: surroundings().clock.seconds() + WARNING_SECONDS}


LISTENERS.append(rebalance)


# Leaving


def terminate(group: FakeAutoScalingGroup, member: Member, *, hooks: bool = True) -> None:
    """Terminate now, or when the hooks of termination let go."""
    waiting = _hooks(group, TERMINATING) if hooks and member.instance.state not in GONE else []
    if waiting:
        _hold(group, member, waiting, "Terminating:Wait")
    else:
        _leave(group, member)


def _leave(group: FakeAutoScalingGroup, member: Member) -> None:
    group.instance_states = [state for state in group.instance_states if state is not member]
    if member.instance.state not in GONE:
        group.ec2_backend.terminate_instances([member.instance.id])
    record(group, f"Terminating EC2 instance: {member.instance.id}", "Successful", None)


@wraps(AutoScalingBackend, "notify_terminate_instances")
def forget_terminated_instances(original: Wrapper, backend: AutoScalingBackend, instance_ids: list[str]) -> None:
    """moto replaces at once and in the same call; Auto Scaling notices after a while, and not at all without its health checks."""
    for group in backend.autoscaling_groups.values():
        if not suspended(group, "HealthCheck", "ReplaceUnhealthy"):
            group.instance_states = [state for state in group.instance_states if state.instance.id not in instance_ids]


def find(backend: AutoScalingBackend, instance_id: str) -> tuple[FakeAutoScalingGroup, Member]:
    """The group and the member; raises AwsError."""
    for group in backend.autoscaling_groups.values():
        for state in group.instance_states:
            if state.instance.id == instance_id:
                return group, t.cast(Member, state)
    raise AwsError("ValidationError", f"Instance Id not found - No managed instance found for instance ID: {instance_id}")


@wraps(AutoScalingResponse, "terminate_instance_in_auto_scaling_group")
def terminate_instance(original: Wrapper, response: AutoScalingResponse) -> ActionResult:
    params = response._get_params()
    group, member = find(response.autoscaling_backend, params["InstanceId"])
    decrement = bool(params.get("ShouldDecrementDesiredCapacity"))
    desired = group.desired_capacity or 0
    if decrement and desired <= (group.min_size or 0):
        message = (
            f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without replacement will violate group's min "
            "size constraint. Either set shouldDecrementDesiredCapacity flag to false or lower group's min size."
        )
        raise AwsError("ValidationError", message)
    if decrement:
        group.desired_capacity = desired - 1
    terminate(group, member)
    activity = record(group, f"Terminating EC2 instance: {member.instance.id}", "InProgress", None)
    if not decrement:
        adjust(group)
    return ActionResult({"Activity": activity})


@wraps(AutoScalingBackend, "delete_auto_scaling_group")
def delete_group(original: Wrapper, backend: AutoScalingBackend, group_name: str) -> None:
    """ForceDelete terminates everything, without hooks and whatever is protected or suspended."""
    group = backend.autoscaling_groups.get(group_name)
    if group is not None:
        group.suspended_processes = []
        group.desired_capacity = 0
        for member in list(group.instance_states):
            terminate(group, t.cast(Member, member), hooks=False)
    original(backend, group_name)
    for key in [key for key, hook in backend.lifecycle_hooks.items() if hook.auto_scaling_group_name == group_name]:
        del backend.lifecycle_hooks[key]


# Hooks


def _hooks(group: FakeAutoScalingGroup, transition: str) -> list[LifecycleHook]:
    hooks = group.autoscaling_backend.describe_lifecycle_hooks(group.name)
    return [hook for hook in hooks if hook.lifecycle_transition == transition]


def _hold(group: FakeAutoScalingGroup, member: Member, hooks: list[LifecycleHook], state: str) -> None:
    now = surroundings().clock.seconds()
    member.lifecycle_state = state
    member.lab_hooks = {hook.name: now + hook.heartbeat_timeout for hook in hooks}
    for hook in hooks:
        _tell(group, member, hook)


def _tell(group: FakeAutoScalingGroup, member: Member, hook: LifecycleHook) -> None:
    """The event that EventBridge gets of every lifecycle action."""
    transition = str(hook.lifecycle_transition)
    kind = "launch" if transition == LAUNCHING else "terminate"
    detail = {
        "LifecycleActionToken": str(uuid.uuid4()),
        "AutoScalingGroupName": group.name,
        "LifecycleHookName": hook.name,
        "EC2InstanceId": member.instance.id,
        "LifecycleTransition": transition,
        "NotificationMetadata": getattr(hook, "notification_metadata", None),
        "Origin": "EC2" if kind == "launch" else "AutoScalingGroup",
        "Destination": "AutoScalingGroup" if kind == "launch" else "EC2",
    }
    emit(group.account_id, group.region, f"EC2 Instance-{kind} Lifecycle Action", detail, [group.arn], source="aws.autoscaling")


def hold_launched(group: FakeAutoScalingGroup, member: Member) -> None:
    if hooks := _hooks(group, LAUNCHING):
        _hold(group, member, hooks, "Pending:Wait")


AFTER_LAUNCH.append(hold_launched)


def release_overdue(group: FakeAutoScalingGroup, now: float) -> None:
    """The default result of hooks whose heartbeat timeout is over."""
    for member in list(group.instance_states):
        for name, due in list(getattr(member, "lab_hooks", {}).items()):
            if due <= now:
                hook = group.autoscaling_backend.lifecycle_hooks.get(f"{group.name}_{name}")
                _complete(group, t.cast(Member, member), name, hook.default_result if hook else "CONTINUE")


def _complete(group: FakeAutoScalingGroup, member: Member, name: str, result: str) -> None:
    """ABANDON of a launch terminates the instance; the end of a termination's hooks always does."""
    launching = member.lifecycle_state == "Pending:Wait"
    member.lab_hooks.pop(name, None)
    if launching and result == "ABANDON":
        member.lab_hooks = {}
        _leave(group, member)
    elif launching and not member.lab_hooks:
        member.lifecycle_state = "InService"
    elif not launching and (not member.lab_hooks or result == "ABANDON"):
        member.lab_hooks = {}
        _leave(group, member)


@wraps(AutoScalingResponse, "put_lifecycle_hook")
def put_lifecycle_hook(original: Wrapper, response: AutoScalingResponse) -> ActionResult:
    params, backend = response._get_params(), response.autoscaling_backend
    put_hook(backend, params["AutoScalingGroupName"], params)
    return ActionResult({})


def put_hook(backend: AutoScalingBackend, group_name: str, params: dict[str, t.Any]) -> None:
    """Keep a hook with all that it names; raises AwsError. moto makes up a role and a target."""
    named = params["LifecycleHookName"]
    if group_name not in backend.autoscaling_groups:
        raise AwsError("ValidationError", f"AutoScalingGroup name not found - AutoScalingGroup '{group_name}' not found")
    before = backend.lifecycle_hooks.get(f"{group_name}_{named}")
    transition = params.get("LifecycleTransition") or (before.lifecycle_transition if before else None)
    if transition not in (LAUNCHING, TERMINATING):
        raise AwsError("ValidationError", "A lifecycle transition of autoscaling:EC2_INSTANCE_LAUNCHING or …TERMINATING is required")
    if params.get("DefaultResult", "ABANDON") not in ("ABANDON", "CONTINUE"):
        raise AwsError("ValidationError", "Lifecycle action result must be ABANDON or CONTINUE")
    timeout = int(params.get("HeartbeatTimeout") or (before.heartbeat_timeout if before else DEFAULT_HEARTBEAT))
    if not 30 <= timeout <= 7200:
        raise AwsError("ValidationError", "Heartbeat timeout must be between 30 and 7200 seconds")
    result = str(params.get("DefaultResult") or (before.default_result if before else "ABANDON"))
    hook: t.Any = backend.create_lifecycle_hook(named, group_name, transition, timeout, result)
    hook.role_arn = params.get("RoleARN")
    hook.notification_target_arn = params.get("NotificationTargetARN")
    hook.notification_metadata = params.get("NotificationMetadata")


@wraps(AutoScalingResponse, "complete_lifecycle_action")
def complete_lifecycle_action(original: Wrapper | None, response: AutoScalingResponse) -> ActionResult:
    """By instance; moto does not have the operation."""
    group, member, name = _waiting(response)
    result = response._get_params()["LifecycleActionResult"]
    if result not in ("ABANDON", "CONTINUE"):
        raise AwsError("ValidationError", "Lifecycle action result must be ABANDON or CONTINUE")
    _complete(group, member, name, result)
    return ActionResult({})


@wraps(AutoScalingResponse, "record_lifecycle_action_heartbeat")
def record_lifecycle_action_heartbeat(original: Wrapper | None, response: AutoScalingResponse) -> ActionResult:
    group, member, name = _waiting(response)
    hook = group.autoscaling_backend.lifecycle_hooks.get(f"{group.name}_{name}")
    member.lab_hooks[name] = surroundings().clock.seconds() + (hook.heartbeat_timeout if hook else WARNING_SECONDS)
    return ActionResult({})


def _waiting(response: AutoScalingResponse) -> tuple[FakeAutoScalingGroup, Member, str]:
    """The group, the member and the hook that a request is about; raises AwsError when the hook holds no such instance."""
    params = response._get_params()
    name, instance_id = params["LifecycleHookName"], params.get("InstanceId", "")
    group = response.autoscaling_backend.autoscaling_groups.get(params["AutoScalingGroupName"])
    for state in group.instance_states if group else ():
        if state.instance.id == instance_id and name in getattr(state, "lab_hooks", {}):
            return t.cast(FakeAutoScalingGroup, group), t.cast(Member, state), name
    raise AwsError("ValidationError", f"No active Lifecycle Action found with instance ID {instance_id}")
