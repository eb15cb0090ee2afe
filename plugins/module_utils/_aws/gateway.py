# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The only way to AWS: one function that makes a call, one that reads pages, one that waits."""

from __future__ import annotations

import contextlib
import math
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.gpuops.eks.plugins.module_utils._aws.errors import THROTTLED, hint_for, hint_for_issues, translate
from ansible_collections.gpuops.eks.plugins.module_utils._aws.waiters import WAITERS, Waiter
from ansible_collections.gpuops.eks.plugins.module_utils._errors import ServiceError, WaitFailed
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Wait

with contextlib.suppress(ImportError):  # run_module says that botocore is missing before a gateway is made
    import jmespath
    from botocore import xform_name
    from botocore.exceptions import ClientError, WaiterError
    from botocore.waiter import WaiterModel, create_waiter_with_client


R = t.TypeVar("R")

_MOST_PATIENCE = 300.0  # seconds for a call that is throttled
_LONGEST_PAUSE = 20.0
WIDTH = 8  # reads at once; an account's request rate is shared with everybody else's
ClientFactory = t.Callable[[str], t.Any]
Request = t.Mapping[str, t.Any]


def _say_nothing(line: str) -> None:
    """For callers that wait for nothing."""


class Aws:
    """AWS by actions such as ``ec2:CreateVpc``. ``client_for`` builds the client of a service; each is built once, when first needed.

    ``interval`` and ``timeout`` (seconds) are for waits, ``tell`` is given what is waited for, in the service's words.
    """

    def __init__(
        self, client_for: ClientFactory, *, interval: float = 15.0, timeout: float = 1800.0, tell: t.Callable[[str], None] = _say_nothing
    ) -> None:
        self._client_for = client_for
        self._clients: dict[str, t.Any] = {}
        self._lock = threading.Lock()
        self._interval = interval
        self._timeout = timeout
        self._tell = tell

    def client(self, service: str) -> t.Any:
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._client_for(service)
            return self._clients[service]

    def call(self, action: str, request: Request | None = None) -> dict[str, t.Any]:
        """The reply of one call, without ResponseMetadata; ServiceError or ConnectionRefused."""
        return self._unthrottled(action, lambda: self._call(action, request))

    @translate(lambda self, action, request=None: action)
    def _call(self, action: str, request: Request | None = None) -> dict[str, t.Any]:
        service, operation = action.split(":", 1)
        reply: dict[str, t.Any] = getattr(self.client(service), xform_name(operation))(**(request or {}))
        reply.pop("ResponseMetadata", None)
        if refused := reply.get("Unsuccessful"):  # EC2 answers some calls with 200 and what it did not do
            error = refused[0]["Error"]
            code, message = error["Code"], f"{error['Message']} ({refused[0].get('ResourceId', '')})"
            raise ServiceError(action, code, message, hint=hint_for(code, action, message))
        if failed := reply.get("FailedEntries"):  # and so does EventBridge
            code, message = failed[0].get("ErrorCode", "FailedEntry"), failed[0].get("ErrorMessage", "")
            raise ServiceError(action, code, message, hint=hint_for(code, action, message))
        return reply

    def find(self, action: str, request: Request, *, missing: t.Container[str]) -> dict[str, t.Any] | None:
        """Like ``call``, but None where the service answers with one of the codes in ``missing``."""
        try:
            return self.call(action, request)
        except ServiceError as error:
            if error.code in missing:
                return None
            raise

    def find_all(self, action: str, requests: t.Sequence[Request], *, missing: t.Container[str]) -> list[dict[str, t.Any] | None]:
        """Like ``find`` for each request, some at once, the replies in order; the first refusal is raised."""
        if len(requests) < 2 or WIDTH < 2:
            return [self.find(action, request, missing=missing) for request in requests]
        self.client(action.partition(":")[0])
        with ThreadPoolExecutor(min(WIDTH, len(requests))) as workers:
            return list(workers.map(lambda request: self.find(action, request, missing=missing), requests))

    def _unthrottled(self, action: str, attempt: t.Callable[[], R]) -> R:
        """What ``attempt`` returns. The SDK repeats a throttled call within seconds; this goes on, ever more slowly, as long as a wait may take."""
        end = time.monotonic() + min(self._timeout, _MOST_PATIENCE)
        pause = 1.0
        while True:
            try:
                return attempt()
            except ServiceError as error:
                if error.code not in THROTTLED or time.monotonic() + pause > end:
                    raise
                self._tell(f"{action}: {error.code}")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def pages(self, action: str, key: str, request: Request | None = None) -> list[t.Any]:
        """All items of a paged list: ``pages("ec2:DescribeSubnets", "Subnets", {...})``."""
        return self._unthrottled(action, lambda: self._pages(action, key, request))

    @translate(lambda self, action, key, request=None: action)
    def _pages(self, action: str, key: str, request: Request | None = None) -> list[t.Any]:
        service, operation = action.split(":", 1)
        paginator = self.client(service).get_paginator(xform_name(operation))
        return [item for page in paginator.paginate(**(request or {})) for item in page.get(key) or ()]

    def wait(self, wait: Wait) -> dict[str, t.Any]:
        """The reply with which the waiter's success state was reached; WaitFailed names the last state and the service's issues."""
        waiter = WAITERS[wait.waiter]
        arguments = dict(wait.arguments)
        known = {acceptor["expected"] for acceptor in waiter.acceptors if acceptor["matcher"] == "error"}
        states: list[str] = []
        issues: list[str] = []
        last: dict[str, t.Any] = {}

        def observe(**request: t.Any) -> dict[str, t.Any]:
            reply = operation(**request)
            code = reply.get("Error", {}).get("Code")
            if code in THROTTLED:  # nothing was seen; the next look is an interval away
                return {}
            if code and code not in known:
                raise ClientError(reply, waiter.operation)
            self._progress(waiter, arguments, reply, states)
            issues[:] = [str(issue) for issue in (jmespath.search(waiter.issues, reply) if waiter.issues else None) or () if issue]
            last.clear()
            last.update(reply)
            return reply

        attempts = max(1, math.ceil(self._timeout / self._interval))
        model = WaiterModel(waiter.model(wait.waiter, self._interval, attempts))
        native: t.Any = create_waiter_with_client(wait.waiter, model, self.client(waiter.service))
        operation = native._operation_method
        native._operation_method = observe
        self._run_waiter(native, waiter, arguments, states, issues)
        return last

    def _run_waiter(self, native: t.Any, waiter: Waiter, arguments: dict[str, t.Any], states: list[str], issues: list[str]) -> None:
        action = f"{waiter.service}:{waiter.operation}"

        @translate(lambda: action)
        def run() -> None:
            try:
                native.wait(**arguments)
            except WaiterError as error:
                seen = f"{action} {_name(arguments[waiter.subject])}: last state {states[-1] if states else 'nothing'}"
                raise self._ended(str(error), waiter, seen, issues) from error

        run()

    def _ended(self, reason: str, waiter: Waiter, seen: str, issues: list[str]) -> WaitFailed:
        """What ended a wait, the time or a state of failure, with what to do."""
        said = "".join(f" {issue.rstrip('.')}." for issue in issues)
        hint = hint_for_issues(issues)
        if "Max attempts exceeded" in reason:
            return WaitFailed(f"{seen} within {self._timeout:.0f} s.{said}", hint=f"{hint} Running again resumes the wait.".lstrip())
        return WaitFailed(f"{seen}.{said}", hint=hint or waiter.remedy)

    def _progress(self, waiter: Waiter, arguments: dict[str, t.Any], reply: dict[str, t.Any], states: list[str]) -> None:
        state = jmespath.search(waiter.status, reply)
        if state is not None and (not states or states[-1] != state):
            states.append(str(state))
            self._tell(f"{waiter.operation} {_name(arguments[waiter.subject])}: {state}")


def _name(subject: t.Any) -> str:
    """What a wait is for: an id, ids, or the values of filters."""
    if not isinstance(subject, list):
        return str(subject)
    return ", ".join(value for item in subject for value in (item["Values"] if isinstance(item, dict) else [item]))


def identify(aws: Aws, *, cluster_name: str, region: str) -> Owner:
    """Who owns what this module makes: the cluster's name in the caller's account and partition."""
    caller = aws.call("sts:GetCallerIdentity")
    return Owner(cluster_name=cluster_name, region=region, account=caller["Account"], partition=caller["Arn"].split(":")[1])
