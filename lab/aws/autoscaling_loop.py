"""What Auto Scaling does by itself: replace, rebalance, try again, let hooks run out, refresh, keep to a schedule.

Sources: Amazon EC2 Auto Scaling User Guide, health-checks-overview.html, auto-scaling-benefits.html ("Rebalancing activities": it launches
before it terminates), as-suspend-resume-processes.html.
"""

from __future__ import annotations

import typing as t

from moto.autoscaling.models import FakeAutoScalingGroup, autoscaling_backends
from moto.ec2.models import ec2_backends

from lab.aws.autoscaling import GONE, Member, launch_one, members, per_zone, suspended
from lab.aws.autoscaling_members import adjust, release_overdue, terminate, victim
from lab.aws.instance_refresh import advance_refreshes, refreshing
from lab.aws.moto_fixes import surroundings
from lab.aws.reservations import end_reservations
from lab.aws.scheduled_actions import run_due

REPLACEMENT_SECONDS = 60.0
REBALANCE_SECONDS = 300.0


def reconcile_groups() -> None:
    """Bring every group, and what ends by itself in EC2, to what the clock says. The caller keeps moto to itself."""
    now = surroundings().clock.seconds()
    for account in list(autoscaling_backends):
        for region, backend in list(autoscaling_backends[account].items()):
            end_reservations(ec2_backends[account][region])
            for group in list(backend.autoscaling_groups.values()):
                _reconcile(group, now)


def _reconcile(group: FakeAutoScalingGroup, now: float) -> None:
    release_overdue(group, now)
    run_due(group)
    if not suspended(group, "HealthCheck", "ReplaceUnhealthy"):
        _drop_unhealthy(group)
    advance_refreshes(group, now)
    if _waited(group, "lab_replace_at", len(members(group)) != (group.desired_capacity or 0), now, REPLACEMENT_SECONDS):
        adjust(group)
    uneven = not suspended(group, "AZRebalance", "Launch", "Terminate") and not refreshing(group) and _unevenness(group) > 1
    if _waited(group, "lab_rebalance_at", uneven, now, REBALANCE_SECONDS):
        _rebalance(group)


def _waited(group: FakeAutoScalingGroup, name: str, needed: bool, now: float, seconds: float) -> bool:
    """Whether something has been needed so long; asked again, it has to be needed as long again."""
    due: dict[str, float] = group.__dict__.setdefault("lab_due", {})
    if not needed:
        due.pop(name, None)
        return False
    if now < due.setdefault(name, now + seconds):
        return False
    due[name] = now + seconds
    return True


def _drop_unhealthy(group: FakeAutoScalingGroup) -> None:
    """What EC2 no longer runs is gone; what somebody called unhealthy is terminated."""
    for state in list(group.instance_states):
        if state.instance.state in GONE:
            group.instance_states.remove(state)
        elif state.health_status == "Unhealthy" and state.lifecycle_state == "InService":
            terminate(group, t.cast(Member, state))


def _unevenness(group: FakeAutoScalingGroup) -> int:
    counts = per_zone(group).values()
    return max(counts, default=0) - min(counts, default=0)


def _rebalance(group: FakeAutoScalingGroup) -> None:
    """One instance more in the emptiest zone, then one less in the fullest."""
    populated = per_zone(group)
    emptiest = min(populated, key=lambda zone: populated[zone])
    fullest = max(populated, key=lambda zone: populated[zone])
    if launch_one(group, zone=emptiest) and (chosen := victim(group, fullest)) is not None:
        terminate(group, chosen)
