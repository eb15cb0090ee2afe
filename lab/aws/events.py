"""Events that AWS itself sends to EventBridge: interruptions of Spot instances, changes of instances' states.

Sources: EC2 User Guide, "Spot Instance interruption notices", "EC2 instance rebalance recommendations" and "Monitor for state change events"
(forms of the events); Amazon EventBridge User Guide, "Using resource-based policies" (a queue must let events.amazonaws.com send).
"""

from __future__ import annotations

import json
import logging
import time
import typing as t

from moto.ec2.models import EC2Backend
from moto.events.models import Rule, events_backends
from moto.sqs.models import sqs_backends

from lab.aws.moto_fixes import Wrapper, surroundings, wraps

SPOT_INTERRUPTION = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
STATE_CHANGE = "EC2 Instance State-change Notification"
WARNING_SECONDS = 120.0  # between the warning and the end of the instance
_SENDER = "events.amazonaws.com"
_log = logging.getLogger(__name__)
# Who acts on what EC2 announces of an instance, besides those who read the events: (region's EC2, instance, kind).
LISTENERS: list[t.Callable[[t.Any, t.Any, str], None]] = []


def emit(account: str, region: str, detail_type: str, detail: dict[str, t.Any], resources: list[str], source: str = "aws.ec2") -> None:
    """Put an AWS service's event on the default bus. The caller keeps moto to itself."""
    event = {"Source": source, "DetailType": detail_type, "Detail": json.dumps(detail), "Resources": resources, "Time": time.time()}
    events_backends[account][region].put_events([event])


def _of_instance(backend: t.Any, instance: t.Any, detail_type: str, **detail: str) -> None:
    arn = f"arn:aws:ec2:{instance.placement.zone}:instance/{instance.id}"
    emit(backend.account_id, backend.region_name, detail_type, {"instance-id": instance.id, **detail}, [arn])


class Interruptions:
    """What EC2 announces of an instance and then does to it, on the lab's clock."""

    KINDS = ("spot_interruption", "rebalance_recommendation")

    def __init__(self) -> None:
        self._due: dict[str, tuple[float, t.Any]] = {}  # by instance: when it ends, its region

    def announce(self, backends: t.Any, request: dict[str, t.Any]) -> dict[str, t.Any]:
        """Send the event of ``kind`` for ``instance``; raises ValueError when it cannot be. The caller keeps moto to itself."""
        if unknown := request.keys() - {"kind", "instance"}:
            raise ValueError(f"{', '.join(sorted(unknown))}: not a field of {request['kind']} (instance)")
        backend, instance = _find(backends, str(request.get("instance", "")))
        if instance.lifecycle != "spot":
            raise ValueError(f"instance: {instance.id} is no Spot instance")
        for listener in LISTENERS:
            listener(backend, instance, request["kind"])
        if request["kind"] == "rebalance_recommendation":
            _of_instance(backend, instance, REBALANCE)
            return {"kind": request["kind"], "instance": instance.id}
        _of_instance(backend, instance, SPOT_INTERRUPTION, **{"instance-action": "terminate"})
        end = surroundings().clock.seconds() + WARNING_SECONDS
        self._due[instance.id] = (end, backend)
        return {"kind": request["kind"], "instance": instance.id, "ends_at": end}

    def settle(self) -> None:
        """End the instances whose time is over. The caller keeps moto to itself."""
        now = surroundings().clock.seconds()
        for instance_id, (end, backend) in list(self._due.items()):
            if now < end:
                continue
            del self._due[instance_id]
            instance = backend.get_instance(instance_id)
            if instance.state != "terminated":
                backend.terminate_instances([instance_id])
                instance.state_reason.code = "Server.SpotInstanceTermination"
                instance.state_reason.message = "Server.SpotInstanceTermination: Instance terminated by Spot interruption"

    def clear(self) -> None:
        self._due.clear()


def _find(backends: t.Any, instance_id: str) -> tuple[t.Any, t.Any]:
    for account in list(backends):
        for backend in list(backends[account].values()):
            for instance in backend.all_instances():
                if instance.id == instance_id and instance.state == "running":
                    return backend, instance
    raise ValueError(f"instance: {instance_id!r} does not run")


@wraps(EC2Backend, "terminate_instances")
def tell_of_termination(original: Wrapper, backend: EC2Backend, instance_ids: list[str]) -> t.Any:
    """EC2 sends an event for each state; an instance of moto's is gone at once, so both come together."""
    terminated = original(backend, instance_ids)
    for instance, previous in terminated:
        if previous.name != "terminated":
            for state in ("shutting-down", "terminated"):
                _of_instance(backend, instance, STATE_CHANGE, state=state)
    return terminated


@wraps(Rule, "_send_to_sqs_queue")
def send_where_it_may(original: Wrapper, rule: Rule, resource_id: str, event: dict[str, t.Any], group_id: str | None = None) -> None:
    """EventBridge drops events for queues that are not there or do not let it send; moto raises, and does not ask the policy."""
    queue = sqs_backends[rule.account_id][rule.region_name].queues.get(resource_id)
    if queue is None or not _may_send(queue):
        why = "has no policy that lets events.amazonaws.com send" if queue else "does not exist"
        _log.warning("rule %s: the event is dropped: queue %s %s", rule.name, resource_id, why)
        return
    whole = {**event, "account": rule.account_id} if "detail-type" in event else event  # moto's untransformed event lacks it
    original(rule, resource_id, whole, group_id)


def _may_send(queue: t.Any) -> bool:
    """Whether some statement of the queue's policy allows it; conditions are not looked at."""
    policy = json.loads(queue.policy) if isinstance(queue.policy, str) and queue.policy else queue.policy or {}
    return any(_allows(statement) for statement in _as_list(policy.get("Statement")))


def _allows(statement: dict[str, t.Any]) -> bool:
    principal = statement.get("Principal")
    services = _as_list(principal.get("Service")) if isinstance(principal, dict) else _as_list(principal)
    actions = {str(action).lower() for action in _as_list(statement.get("Action"))}
    return statement.get("Effect") == "Allow" and bool({_SENDER, "*"} & set(services)) and bool({"sqs:sendmessage", "sqs:*", "*"} & actions)


def _as_list(value: t.Any) -> list[t.Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
