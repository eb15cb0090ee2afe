# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The queue that tells what is about to happen to instances, and the EventBridge rules that fill it: what is wanted, what is there. Pure.

Sources: Karpenter's documentation, "Interruption"; the CloudFormation template of karpenter-provider-aws 1.14; README of the AWS Node Termination
Handler 1.25, "Queue Processor"; Amazon EventBridge User Guide, "Resource-based policies" (SQS); SQS API, CreateQueue.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.iam import VERSION, Document
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults, tag_faults, tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import COMPONENT_TAG, Owner, short_name

Params = t.Mapping[str, t.Any]
Pattern = t.Mapping[str, t.Any]

KARPENTER, TERMINATION_HANDLER = "karpenter", "termination_handler"
PURPOSES = (KARPENTER, TERMINATION_HANDLER)
MOST_QUEUE_NAME, MOST_RULE_NAME = 80, 64
RETENTION = "300"  # seconds; what is older has happened
TARGET = "interruption-queue"
_QUEUE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")


def _ec2(detail_type: str) -> Document:
    return {"source": ["aws.ec2"], "detail-type": [detail_type]}


# By the end of the rule's name.
_INSTANCES: t.Mapping[str, Document] = {
    "health": {"source": ["aws.health"], "detail-type": ["AWS Health Event"]},
    "spot-interruption": _ec2("EC2 Spot Instance Interruption Warning"),
    "state-change": _ec2("EC2 Instance State-change Notification"),
}
# Karpenter only tells of a rebalance recommendation; the termination handler would keep new pods off a node that may stay.
_KARPENTER = {
    "rebalance": _ec2("EC2 Instance Rebalance Recommendation"),
    "reservation-interruption": _ec2("EC2 Capacity Reservation Instance Interruption Warning"),
}
_GROUPS = {"terminate": {"source": ["aws.autoscaling"], "detail-type": ["EC2 Instance-terminate Lifecycle Action"]}}
EVENTS: t.Mapping[str, t.Mapping[str, Document]] = {
    KARPENTER: {**_INSTANCES, **_KARPENTER},
    TERMINATION_HANDLER: {**_INSTANCES, **_GROUPS},
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of one queue; None is what the user did not set."""

    cluster_name: str
    purpose: str
    name: str
    tags: t.Mapping[str, str] | None = None
    purge_tags: bool = True

    @classmethod
    def from_params(cls, params: Params) -> Wanted:
        """From options that have no faults."""
        cluster, purpose, tags = params["cluster_name"], params["purpose"], params.get("tags")
        return cls(
            cluster_name=cluster,
            purpose=purpose,
            name=params.get("name") or queue_name(cluster, purpose),
            tags=None if tags is None else tag_texts(tags),
            purge_tags=params["purge_tags"],
        )

    @property
    def component(self) -> str:
        return f"{self.purpose.replace('_', '-')}-queue"

    @property
    def events(self) -> dict[str, Document]:
        """The event pattern of each rule by the rule's name."""
        return {short_name(self.name, end, limit=MOST_RULE_NAME): pattern for end, pattern in EVENTS[self.purpose].items()}

    @property
    def rule_prefix(self) -> str:
        """What the names of all rules begin with, also of those that are shortened."""
        return self.name[: MOST_RULE_NAME - 14].rstrip("-")

    def owns(self, owner: Owner, tags: t.Mapping[str, str]) -> bool:
        """Whether what has these tags was made for this cluster and this purpose by us."""
        return owner.owns(tags) and tags.get(COMPONENT_TAG) == self.component

    def queue_arn(self, owner: Owner) -> str:
        return f"arn:{owner.partition}:sqs:{owner.region}:{owner.account}:{self.name}"


def queue_name(cluster_name: str, purpose: str) -> str:
    """Karpenter's queue is named as the cluster, as Karpenter's documentation does it. Who reads a message deletes it, so that the termination
    handler has a queue of its own."""
    ends = () if purpose == KARPENTER else (purpose.replace("_", "-"),)
    return short_name(cluster_name, *ends, limit=MOST_QUEUE_NAME)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue as SQS describes it. ``attributes`` are in SQS's spelling, without the policy."""

    name: str
    url: str
    arn: str
    attributes: t.Mapping[str, str] = field(default_factory=dict)
    policy: t.Mapping[str, t.Any] = field(default_factory=dict)
    tags: t.Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """An EventBridge rule. ``targets`` is target id -> ARN."""

    name: str
    arn: str
    pattern: Pattern
    state: str = "ENABLED"
    targets: t.Mapping[str, str] = field(default_factory=dict)
    tags: t.Mapping[str, str] = field(default_factory=dict)


def rule_arn(owner: Owner, name: str) -> str:
    return f"arn:{owner.partition}:events:{owner.region}:{owner.account}:rule/{name}"


def queue_policy(wanted: Wanted, owner: Owner) -> Document:
    """Only the rules of this queue may send to it, and queues of this account what they hand on; nobody without TLS."""
    arn = wanted.queue_arn(owner)
    rules = [rule_arn(owner, name) for name in wanted.events]
    queues = f"arn:{owner.partition}:sqs:{owner.region}:{owner.account}:*"
    return {
        "Version": VERSION,
        "Statement": [
            _send("Rules", "events.amazonaws.com", arn, ArnEquals={"aws:SourceArn": rules}),
            _send("Queues", "sqs.amazonaws.com", arn, ArnLike={"aws:SourceArn": queues}),
            {
                "Sid": "OnlyTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sqs:*",
                "Resource": arn,
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }


def _send(sid: str, service: str, arn: str, **condition: t.Any) -> Document:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": condition,
    }


def queue_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds. Values of a wrong type are left to form_faults."""
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    name = params.get("name")
    if isinstance(name, str) and not _QUEUE_NAME.fullmatch(name):
        allowed = f"1 to {MOST_QUEUE_NAME} letters, digits, - and _, the first a letter or a digit"
        faults.append(Fault(path="name", value=name, allowed=allowed, source="SQS API, CreateQueue QueueName"))
    return faults + tag_faults(params.get("tags"), "tags")
