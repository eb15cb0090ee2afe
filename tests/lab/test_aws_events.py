# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events that EC2 sends, and the lever that interrupts Spot instances.

Sources: EC2 User Guide, "Spot Instance interruption notices" (form of the event, two minutes), "Monitor for state change events"; Amazon
EventBridge User Guide, "Using resource-based policies for Amazon EventBridge" (a queue must let EventBridge send).
"""

from __future__ import annotations

import json
import typing as t

import pytest
import requests

from .conftest import Aws

INTERRUPTION = "EC2 Spot Instance Interruption Warning"
STATE_CHANGE = "EC2 Instance State-change Notification"
REBALANCE = "EC2 Instance Rebalance Recommendation"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["events.amazonaws.com", "sqs.amazonaws.com"]},
            "Action": "sqs:SendMessage",
            "Resource": "*",
        }
    ],
}


def queue(aws: Aws, policy: dict[str, t.Any] | str = "open") -> str:
    """A queue to which rules bring all events of EC2; without a policy where that is empty."""
    sqs, events = aws.client("sqs"), aws.client("events")
    url = str(sqs.create_queue(QueueName="interruptions")["QueueUrl"])
    if policy:
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(POLICY if policy == "open" else policy)})
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name="all", EventPattern=json.dumps({"source": ["aws.ec2"], "detail-type": [INTERRUPTION, STATE_CHANGE, REBALANCE]}))
    events.put_targets(Rule="all", Targets=[{"Id": "queue", "Arn": arn}])
    return url


def received(aws: Aws, url: str) -> list[dict[str, t.Any]]:
    messages = aws.client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(message["Body"]) for message in messages]


def launch(aws: Aws, market: str | None) -> str:
    more = {"InstanceMarketOptions": {"MarketType": market}} if market else {}
    made = aws.client("ec2").run_instances(ImageId="ami-12345678", InstanceType="g4dn.xlarge", MinCount=1, MaxCount=1, **more)
    return str(made["Instances"][0]["InstanceId"])


def state(aws: Aws, instance: str) -> t.Any:
    return aws.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]


def strike(aws: Aws, **fault: str) -> requests.Response:
    return requests.post(f"{aws.server.endpoint}/_lab/faults", json=fault, timeout=10)


def test_a_spot_instance_is_warned_of_and_ends_two_minutes_later(aws: Aws) -> None:
    url, instance = queue(aws), launch(aws, "spot")
    assert strike(aws, kind="spot_interruption", instance=instance).status_code == 200
    [event] = received(aws, url)
    assert event["detail-type"] == INTERRUPTION
    assert event["source"] == "aws.ec2"
    assert event["detail"] == {"instance-id": instance, "instance-action": "terminate"}
    assert (event["account"], event["region"]) == (aws.server.account, aws.server.region)
    aws.pass_time(119)
    assert state(aws, instance)["State"]["Name"] == "running"
    aws.pass_time(1)
    assert state(aws, instance)["State"]["Name"] == "terminated"
    assert state(aws, instance)["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert [each["detail"]["state"] for each in received(aws, url)] == ["shutting-down", "terminated"]


def test_a_recommendation_ends_nothing(aws: Aws) -> None:
    url, instance = queue(aws), launch(aws, "spot")
    assert strike(aws, kind="rebalance_recommendation", instance=instance).status_code == 200
    [event] = received(aws, url)
    assert (event["detail-type"], event["detail"]) == (REBALANCE, {"instance-id": instance})
    aws.pass_time(3600)
    assert state(aws, instance)["State"]["Name"] == "running"


@pytest.mark.parametrize("policy", ["", {"Version": "2012-10-17", "Statement": []}])
def test_a_queue_that_does_not_let_eventbridge_send_gets_nothing(aws: Aws, policy: dict[str, t.Any] | str) -> None:
    url, instance = queue(aws, policy), launch(aws, "spot")
    assert strike(aws, kind="spot_interruption", instance=instance).status_code == 200
    assert received(aws, url) == []


def test_a_queue_that_is_gone_stops_nobody(aws: Aws) -> None:
    url, instance = queue(aws), launch(aws, None)
    aws.client("sqs").delete_queue(QueueUrl=url)
    aws.client("ec2").terminate_instances(InstanceIds=[instance])
    assert state(aws, instance)["State"]["Name"] == "terminated"


def test_what_cannot_be_interrupted(aws: Aws) -> None:
    instance = launch(aws, None)
    for fault, words in (
        ({"instance": instance}, "is no Spot instance"),
        ({"instance": "i-0"}, "does not run"),
        ({"instance": instance, "zone": "a"}, "not a field"),
    ):
        answer = strike(aws, kind="spot_interruption", **fault)
        assert answer.status_code == 400
        assert words in answer.json()["error"]
