#!/usr/bin/python
# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

DOCUMENTATION = r"""
module: eks_interruption_queue
short_description: The queue that tells a cluster's controllers what is about to happen to its instances
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Makes an SQS queue and the EventBridge rules that send to it what EC2, Auto Scaling and AWS Health say of instances, keeps them so, or deletes
    them.
  - Its policy lets only these rules send, and refuses whoever comes without TLS. Messages are kept for 300 seconds and encrypted by SQS.
  - Whoever reads a message deletes it. So Karpenter and the AWS Node Termination Handler have a queue each.
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - gpuops.eks._attributes
  - gpuops.eks._attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  cluster_name:
    description:
      - Name of the cluster that the queue is for. It need not exist yet.
    type: str
    required: true
  purpose:
    description:
      - Who reads the queue, which says what it is told of.
      - V(karpenter) is told of Spot interruptions, rebalance recommendations, changes of an instance's state, interruptions of Capacity
        Reservations and AWS Health events.
      - V(termination_handler) is told of Spot interruptions, changes of an instance's state, AWS Health events, and when an Auto Scaling group with a
        lifecycle hook is about to terminate an instance. Not of rebalance recommendations, at which it would cordon nodes that may stay.
    type: str
    choices: [karpenter, termination_handler]
    default: karpenter
  name:
    description:
      - Name of the queue. Not set, that of the cluster, for V(termination_handler) with C(-termination-handler) behind it; a name that would be
        longer than 80 characters is shortened with a hash.
    type: str
  state:
    description:
      - V(absent) deletes rules and queue. What somebody else has made under these names stays, with a warning.
    type: str
    choices: [present, absent]
    default: present
  tags:
    description:
      - Tags of queue and rules, besides those that mark them as made by this collection. Not set, the tags that are there are kept.
    type: dict
  purge_tags:
    description:
      - Whether tags that O(tags) does not name are removed, where O(tags) is set.
    type: bool
    default: true
requirements:
  - python >= 3.10
  - boto3 >= 1.40.0
  - botocore >= 1.40.0
seealso:
  - module: gpuops.eks.eks_pod_identity_association
  - name: Karpenter, interruption
    description: What Karpenter does with each message.
    link: https://karpenter.sh/docs/concepts/disruption/#interruption
"""

EXAMPLES = r"""
- name: A queue for Karpenter
  gpuops.eks.eks_interruption_queue:
    cluster_name: demo
    region: us-west-2
  register: interruption

- name: One for the AWS Node Termination Handler
  gpuops.eks.eks_interruption_queue:
    cluster_name: demo
    region: us-west-2
    purpose: termination_handler
"""

RETURN = r"""
queue:
  description: The queue with its rules; null with O(state=absent).
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: demo
    url:
      description: Its URL; C(planned:queue/NAME) where it is yet to be made.
      type: str
      sample: https://sqs.us-west-2.amazonaws.com/123456789012/demo
    arn:
      description: Its ARN.
      type: str
      sample: arn:aws:sqs:us-west-2:123456789012:demo
    purpose:
      description: Who reads it.
      type: str
      sample: karpenter
    policy:
      description: Its policy.
      type: dict
      sample:
        Version: "2012-10-17"
        Statement:
          - Sid: OnlyTls
            Effect: Deny
            Principal: "*"
            Action: "sqs:*"
            Resource: arn:aws:sqs:us-west-2:123456789012:demo
            Condition: {Bool: {"aws:SecureTransport": "false"}}
    tags:
      description: Its tags.
      type: dict
      sample: {gpuops.eks/owner: "arn:aws:eks:us-west-2:123456789012:cluster/demo", gpuops.eks/component: karpenter-queue}
    rules:
      description: The EventBridge rules that send to it.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the rule.
          type: str
          sample: demo-spot-interruption
        arn:
          description: ARN of the rule.
          type: str
          sample: arn:aws:events:us-west-2:123456789012:rule/demo-spot-interruption
        event_pattern:
          description: Which events it sends.
          type: dict
          sample: {source: [aws.ec2], detail-type: [EC2 Spot Instance Interruption Warning]}
        state:
          description: State in EventBridge's words.
          type: str
          sample: ENABLED
plan:
  description: The calls that change something, made or in check mode to be made, in order.
  returned: success
  type: list
  elements: dict
  sample:
    - action: sqs:CreateQueue
      target: planned:queue/demo
      effect: create
      fields: [attributes, policy, tags]
      reason: ""
progress:
  description: What was waited for, in the service's words.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec, aws_spec
from ansible_collections.gpuops.eks.plugins.module_utils._model.interruption_queue import KARPENTER, PURPOSES, queue_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.interruption_queue import queue_job
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import run_module

ARGUMENTS = ArgumentSpec(
    options={
        "cluster_name": {"type": "str", "required": True},
        "purpose": {"type": "str", "choices": list(PURPOSES), "default": KARPENTER},
        "name": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "tags": {"type": "dict"},
        "purge_tags": {"type": "bool", "default": True},
    }
)


def main() -> None:
    run_module(aws_spec(ARGUMENTS), queue_job, validate=queue_faults)


if __name__ == "__main__":
    main()
