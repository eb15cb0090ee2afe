# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Long polling: who waits for a message keeps nobody else waiting (API ReceiveMessage, WaitTimeSeconds)."""

from __future__ import annotations

import threading
import time
import typing as t

from .conftest import Aws


def test_who_waits_gets_the_message_that_comes_meanwhile(aws: Aws) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    received: list[t.Any] = []
    waiting = threading.Thread(target=lambda: received.extend(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]))
    waiting.start()
    time.sleep(0.3)
    begin = time.monotonic()
    aws.client("ec2").describe_vpcs()
    sqs.send_message(QueueUrl=url, MessageBody="hello")
    waiting.join(5)
    assert time.monotonic() - begin < 5
    assert [message["Body"] for message in received] == ["hello"]


def test_the_wait_ends(aws: Aws) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName="events", Attributes={"ReceiveMessageWaitTimeSeconds": "1"})["QueueUrl"]
    for request in ({}, {"WaitTimeSeconds": 1}):
        begin = time.monotonic()
        assert "Messages" not in sqs.receive_message(QueueUrl=url, **request)
        assert 1 <= time.monotonic() - begin < 3
    begin = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=0)
    assert time.monotonic() - begin < 1
