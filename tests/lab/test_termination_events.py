# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model of aws-node-termination-handler makes of messages and of its environment."""

from __future__ import annotations

import json
import typing as t

import pytest

from lab.controllers.termination_events import Event, NotSupported, Settings, SettingsRefused, event, settings

TAINT = "aws-node-termination-handler/"
QUEUE = {"ENABLE_SQS_TERMINATION_DRAINING": "true", "QUEUE_URL": "https://queue"}
HOOK = {
    "LifecycleActionToken": "token",
    "AutoScalingGroupName": "gpu",
    "LifecycleHookName": "drain",
    "EC2InstanceId": "i-1",
    "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
}


def message(kind: str, detail: dict[str, t.Any], source: str = "aws.ec2") -> str:
    return json.dumps({"id": "event", "detail-type": kind, "source": source, "detail": detail})


@pytest.mark.parametrize(
    ("kind", "detail", "taint"),
    [
        ("EC2 Spot Instance Interruption Warning", {"instance-action": "terminate"}, f"{TAINT}spot-itn"),
        ("EC2 Instance Rebalance Recommendation", {}, f"{TAINT}rebalance-recommendation"),
        ("EC2 Instance State-change Notification", {"state": "shutting-down"}, ""),
    ],
)
def test_events_of_instances(kind: str, detail: dict[str, str], taint: str) -> None:
    found = event(message(kind, {"instance-id": "i-1", **detail}))
    assert found == Event(identifier="event", taint=taint, instance_ids=("i-1",))


def test_a_terminating_instance_waits_for_its_hook() -> None:
    wanted = {
        "LifecycleActionToken": "token",
        "AutoScalingGroupName": "gpu",
        "LifecycleHookName": "drain",
        "InstanceId": "i-1",
        "LifecycleActionResult": "CONTINUE",
    }
    direct = json.dumps({**HOOK, "RequestId": "event"})
    for body in (
        message("EC2 Instance-terminate Lifecycle Action", HOOK, "aws.autoscaling"),
        direct,
        json.dumps({"Message": direct}),
    ):
        found = event(body)
        assert found is not None
        assert found.instance_ids == ("i-1",)
        assert found.hook == wanted


def test_scheduled_changes_name_several_instances() -> None:
    detail = {
        "service": "EC2",
        "eventTypeCategory": "scheduledChange",
        "affectedEntities": [{"entityValue": "i-1"}, {"entityValue": "i-2"}],
    }
    found = event(message("AWS Health Event", detail, "aws.health"))
    assert found is not None
    assert (found.instance_ids, found.taint) == (("i-1", "i-2"), f"{TAINT}scheduled-maintenance")


@pytest.mark.parametrize(
    "body",
    [
        message("EC2 Instance State-change Notification", {"instance-id": "i-1", "state": "pending"}),
        message("EC2 Capacity Reservation Instance Interruption Warning", {"instance-id": "i-1"}),
        message("AWS Health Event", {"service": "S3", "eventTypeCategory": "issue"}, "aws.health"),
        json.dumps({"Event": "autoscaling:TEST_NOTIFICATION"}),
    ],
)
def test_messages_that_ask_for_nothing(body: str) -> None:
    assert event(body) is None


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("no JSON", "no JSON"),
        ("[]", "no object"),
        (message("x", {}, "aws.s3"), "aws.s3"),
        (json.dumps({**HOOK, "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING"}), "LAUNCHING"),
    ],
)
def test_messages_that_stay_in_the_queue(body: str, word: str) -> None:
    with pytest.raises(NotSupported, match=word):
        event(body)


def test_settings_are_the_handlers_own_variables() -> None:
    assert settings(QUEUE) == Settings(queue_url="https://queue")
    found = settings(
        {
            **QUEUE,
            "CHECK_ASG_TAG_BEFORE_DRAINING": "false",
            "CORDON_ONLY": "1",
            "TAINT_NODE": "true",
            "NODE_TERMINATION_GRACE_PERIOD": "30",
            "NAMESPACE": "kube-system",
            "POD_NAME": "handler",
        }
    )
    assert found.managed_tag is None
    assert (found.cordon_only, found.taint_node, found.drain_seconds, found.own_pod) == (True, True, 30.0, ("kube-system", "handler"))
    assert settings({**QUEUE, "MANAGED_TAG": "ours"}).managed_tag == "ours"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"ENABLE_SQS_TERMINATION_DRAINING": "false"}, "queue mode"),
        ({"QUEUE_URL": ""}, "QUEUE_URL"),
        ({"CORDON_ONLY": "maybe"}, "CORDON_ONLY"),
        ({"NODE_TERMINATION_GRACE_PERIOD": "2m"}, "NODE_TERMINATION_GRACE_PERIOD"),
    ],
)
def test_settings_that_the_handler_would_not_run_with(changes: dict[str, str], word: str) -> None:
    with pytest.raises(SettingsRefused, match=word):
        settings(QUEUE | changes)
