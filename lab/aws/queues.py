"""Long polling of queues. moto waits inside the request, and one request at a time has moto: everybody would wait with it.

Source: API ReceiveMessage of Amazon SQS (WaitTimeSeconds; the queue's ReceiveMessageWaitTimeSeconds where the request has none).
"""

from __future__ import annotations

import json
import time
import typing as t
from urllib.parse import parse_qsl, urlencode

from moto.sqs.models import sqs_backends
from werkzeug.wrappers import Response

from lab.aws.calls import Call

RECEIVE = ("sqs", "ReceiveMessage")
LOOK_SECONDS = 0.1
MAX_SECONDS = 20.0


def receive(call: Call, once: t.Callable[[], Response]) -> Response:
    """What ``once`` answers, asked again until there is a message or the wait is over."""
    end = time.monotonic() + _wait(call)
    _ask_without_waiting(call)
    while True:
        response = once()
        if response.status_code >= 400 or _has_messages(call, response) or time.monotonic() >= end:
            return response
        time.sleep(LOOK_SECONDS)


def _wait(call: Call) -> float:
    """Seconds; what SQS refuses is left to moto."""
    given = call.params.get("WaitTimeSeconds")
    if given is None:
        queue: t.Any = sqs_backends[call.account][call.region].queues.get(str(call.params.get("QueueUrl", "")).rpartition("/")[2])
        given = 0 if queue is None else queue.receive_message_wait_time_seconds
    return min(float(given or 0), MAX_SECONDS)


def _ask_without_waiting(call: Call) -> None:
    if not 0 <= float(call.params.get("WaitTimeSeconds") or 0) <= MAX_SECONDS:
        return
    if call.protocol == "json":
        call.body = json.dumps({**call.params, "WaitTimeSeconds": 0}).encode()
    else:
        call.body = urlencode({**dict(parse_qsl(call.body.decode(), keep_blank_values=True)), "WaitTimeSeconds": "0"}).encode()


def _has_messages(call: Call, response: Response) -> bool:
    body = response.get_data()
    return b"<Message>" in body if call.protocol != "json" else bool(json.loads(body).get("Messages"))
