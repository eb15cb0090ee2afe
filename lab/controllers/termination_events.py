"""Pure: what aws-node-termination-handler reads from its queue, and the settings of its environment, in queue mode.

Source: aws-node-termination-handler, pkg/monitor/sqsevent and pkg/config.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass

from lab.kubernetes.client import Json

_TAINT = "aws-node-termination-handler/"
_DRAIN_STATES = ("stopping", "stopped", "shutting-down", "terminated")
_TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
_TEST = "autoscaling:TEST_NOTIFICATION"
MANAGED = "aws-node-termination-handler/managed"


class NotSupported(ValueError):
    """The handler logs this and leaves the message in the queue."""


class SettingsRefused(ValueError):
    """The handler would not run in queue mode with this environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Instances whose nodes are to be drained. ``hook`` has the parameters of the lifecycle action that waits for it."""

    identifier: str
    taint: str
    instance_ids: tuple[str, ...]
    hook: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The variables that the model follows; others change nothing here."""

    queue_url: str
    managed_tag: str | None = MANAGED  # None: every instance counts
    cordon_only: bool = False
    taint_node: bool = False
    taint_effect: str = "NoSchedule"
    ignore_daemon_sets: bool = True
    delete_local_data: bool = True
    delete_message_without_node: bool = False
    use_provider_id: bool = False
    drain_seconds: float = 120.0
    visibility_seconds: int = 20
    own_pod: tuple[str, str] = ("", "")


def settings(environment: Mapping[str, str]) -> Settings:
    """Of the container's environment; raises SettingsRefused."""
    given = {name: value for name, value in environment.items() if value}
    if not _flag(given, "ENABLE_SQS_TERMINATION_DRAINING", False):
        raise SettingsRefused("the lab has no instance metadata: it imitates queue mode alone (ENABLE_SQS_TERMINATION_DRAINING=true)")
    if "QUEUE_URL" not in given:
        raise SettingsRefused("QUEUE_URL is not set")
    check = _flag(given, "CHECK_TAG_BEFORE_DRAINING", _flag(given, "CHECK_ASG_TAG_BEFORE_DRAINING", True))
    return Settings(
        queue_url=given["QUEUE_URL"],
        managed_tag=given.get("MANAGED_TAG", given.get("MANAGED_ASG_TAG", MANAGED)) if check else None,
        cordon_only=_flag(given, "CORDON_ONLY", False),
        taint_node=_flag(given, "TAINT_NODE", False),
        taint_effect=given.get("TAINT_EFFECT", "NoSchedule"),
        ignore_daemon_sets=_flag(given, "IGNORE_DAEMON_SETS", True),
        delete_local_data=_flag(given, "DELETE_LOCAL_DATA", True),
        delete_message_without_node=_flag(given, "DELETE_SQS_MSG_IF_NODE_NOT_FOUND", False),
        use_provider_id=_flag(given, "USE_PROVIDER_ID", False),
        drain_seconds=float(_number(given, "NODE_TERMINATION_GRACE_PERIOD", 120)),
        visibility_seconds=_number(given, "SQS_MSG_VISIBILITY_TIMEOUT_SEC", 20),
        own_pod=(given.get("NAMESPACE", ""), given.get("POD_NAME", "")),
    )


def event(body: str) -> Event | None:
    """The event of a message, None for one that asks for nothing and is deleted; raises NotSupported."""
    message = _document(body)
    if not message.get("detail-type"):
        return _hook(_document(message["Message"]) if "Message" in message else message, str(message.get("RequestId", "")))
    source, kind, detail = message.get("source"), message["detail-type"], message.get("detail") or {}
    identifier = str(message.get("id", ""))
    if source == "aws.autoscaling":
        return _hook(detail, identifier)
    if source == "aws.ec2":
        return _instance(kind, detail, identifier)
    if source == "aws.health" and kind == "AWS Health Event":
        return _health(detail, identifier)
    raise NotSupported(f"event source ({source}) is not supported")


def _instance(kind: str, detail: Json, identifier: str) -> Event | None:
    """In queue mode a rebalance recommendation drains as an interruption does."""
    taints = {
        "EC2 Spot Instance Interruption Warning": "spot-itn",
        "EC2 Instance Rebalance Recommendation": "rebalance-recommendation",
        "EC2 Instance State-change Notification": "",
    }
    if kind not in taints or (not taints[kind] and str(detail.get("state")).lower() not in _DRAIN_STATES):
        return None
    taint = _TAINT + taints[kind] if taints[kind] else ""
    return Event(identifier=identifier, taint=taint, instance_ids=(str(detail["instance-id"]),))


def _hook(detail: Json, identifier: str) -> Event | None:
    transition = detail.get("LifecycleTransition")
    if _TEST in (transition, detail.get("Event")):
        return None
    if transition != _TERMINATING:
        raise NotSupported(f"lifecycle transition {transition}: the lab imitates {_TERMINATING} alone")
    names = ("LifecycleHookName", "AutoScalingGroupName", "LifecycleActionToken")
    hook = {**{name: str(detail[name]) for name in names}, "InstanceId": str(detail["EC2InstanceId"]), "LifecycleActionResult": "CONTINUE"}
    return Event(identifier=identifier, taint=f"{_TAINT}asg-lifecycle-termination", instance_ids=(str(detail["EC2InstanceId"]),), hook=hook)


def _health(detail: Json, identifier: str) -> Event | None:
    if detail.get("service") != "EC2" or detail.get("eventTypeCategory") != "scheduledChange":
        return None
    entities = tuple(str(entity["entityValue"]) for entity in detail.get("affectedEntities") or ())
    return Event(identifier=identifier, taint=f"{_TAINT}scheduled-maintenance", instance_ids=entities) if entities else None


def _document(text: str) -> Json:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise NotSupported(f"the message is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise NotSupported("the message is no object")
    return t.cast(Json, found)


def _flag(given: Mapping[str, str], name: str, default: bool) -> bool:
    text = given.get(name, str(default)).lower()
    if text not in ("1", "t", "true", "0", "f", "false"):
        raise SettingsRefused(f"env var {name} must be boolean, not {given[name]!r}")
    return text in ("1", "t", "true")


def _number(given: Mapping[str, str], name: str, default: int) -> int:
    try:
        return int(given.get(name, default))
    except ValueError as error:
        raise SettingsRefused(f"env var {name} must be a number, not {given[name]!r}") from error
