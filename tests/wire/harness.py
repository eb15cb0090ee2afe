# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a module's main() against a script of AWS calls: each call, in order, with exactly these parameters."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t

import boto3
import botocore.loaders
import pytest
from ansible.module_utils import basic
from ansible_collections.gpuops.eks.plugins.module_utils._aws import gateway
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ParamValidationError
from botocore.validate import validate_parameters

try:
    from ansible.module_utils.testing import patch_module_args
except ImportError:  # ansible-core 2.18

    @contextlib.contextmanager
    def patch_module_args(args: dict[str, t.Any] | None = None) -> t.Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": args or {}}).encode())
            yield


ANY: t.Any = type("Any", (), {"__eq__": lambda self, other: True, "__hash__": None, "__repr__": lambda self: "ANY"})()

LOADER = botocore.loaders.create_loader()  # one for all tests: reading EC2's model takes longer than any of them

CONNECTION = {"region": "us-west-2", "access_key": "AKIDEXAMPLE", "secret_key": "a-secret-access-key-for-wire-tests-000"}


@dataclasses.dataclass
class Expected:
    """One call of the script: its parameters, and the reply or (code, message) of the error."""

    action: str
    request: dict[str, t.Any]
    reply: dict[str, t.Any]
    error: tuple[str, str] | None = None


class Unexpected(AssertionError):
    """The module made another call than the script's next."""


class ModuleExit(Exception):
    def __init__(self, result: dict[str, t.Any]) -> None:
        super().__init__(result.get("msg", "exit"))
        self.result = result


class Wire:
    """The script. ``expect`` adds a call; ``run`` runs main() and fails where calls are missing, extra, or in another order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._script: list[Expected] = []
        self._made: list[str] = []
        self._monkeypatch = monkeypatch
        original = boto3.session.Session.client

        def client(session: boto3.session.Session, service_name: str, *args: t.Any, **kwargs: t.Any) -> t.Any:
            made: t.Any = original(session, service_name, *args, **kwargs)  # type: ignore[call-overload]
            made.meta.events.register_first("before-parameter-build.*.*", self._check)
            made.meta.events.register("before-call.*.*", self._answer)
            return made

        monkeypatch.setattr(boto3.session.Session, "client", client)
        monkeypatch.setattr(gateway, "WIDTH", 1)  # a script has one order
        monkeypatch.setattr(botocore.loaders, "create_loader", lambda search_path_string=None: LOADER)

    @property
    def made(self) -> list[str]:
        """The calls that were made, in order."""
        return list(self._made)

    def expect(self, action: str, request: dict[str, t.Any] | None = None, reply: dict[str, t.Any] | None = None) -> Wire:
        self._script.append(Expected(action, request or {}, reply or {}))
        return self

    def expect_error(self, action: str, request: dict[str, t.Any], code: str, message: str = "refused") -> Wire:
        self._script.append(Expected(action, request, {}, (code, message)))
        return self

    def run(self, main: t.Callable[[], None], params: dict[str, t.Any], *, check_mode: bool = False) -> dict[str, t.Any]:
        """The module's result, ``failed`` included where it failed."""
        self._monkeypatch.setattr(basic.AnsibleModule, "exit_json", _exit)
        self._monkeypatch.setattr(basic.AnsibleModule, "fail_json", _fail)
        arguments = {**CONNECTION, **params, "_ansible_check_mode": check_mode, "_ansible_diff": True}
        with patch_module_args(arguments), pytest.raises(ModuleExit) as exit_:
            main()
        left = [call.action for call in self._script[len(self._made) :]]
        assert not left, f"calls that were not made: {left}; result: {exit_.value.result}"
        return exit_.value.result

    def _next(self, action: str) -> Expected:
        if len(self._made) >= len(self._script):
            raise Unexpected(f"call after the end of the script: {action} (made: {self._made})")
        return self._script[len(self._made)]

    def _check(self, params: dict[str, t.Any], model: t.Any, **kwargs: t.Any) -> None:
        action = f"{model.service_model.service_name}:{model.name}"
        expected = self._next(action)
        if expected.action != action:
            raise Unexpected(f"call {len(self._made) + 1}: expected {expected.action}, made {action} {params}")
        given = {key: value for key, value in params.items() if key not in ("clientRequestToken", "ClientToken") or key in expected.request}
        if given != expected.request:
            raise Unexpected(f"call {len(self._made) + 1}: {action}\nexpected {expected.request}\nmade     {given}")

    def _answer(self, model: t.Any, **kwargs: t.Any) -> tuple[AWSResponse, dict[str, t.Any]]:
        action = f"{model.service_model.service_name}:{model.name}"
        expected = self._next(action)
        self._made.append(action)
        if expected.error:
            code, message = expected.error
            return _response(400), {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        if model.output_shape is not None:
            _validate_reply(expected, model.output_shape)
        return _response(200), {**expected.reply, "ResponseMetadata": {"HTTPStatusCode": 200}}


def _validate_reply(expected: Expected, shape: t.Any) -> None:
    try:
        validate_parameters(expected.reply, shape)
    except ParamValidationError as error:
        raise AssertionError(f"the script's reply of {expected.action} is not one that the service could give: {error}") from error


def _response(status: int) -> AWSResponse:
    return AWSResponse("http://wire.invalid", status, {}, None)  # type: ignore[arg-type]


def _exit(module: basic.AnsibleModule, **result: t.Any) -> t.NoReturn:
    raise ModuleExit(result)


def _fail(module: basic.AnsibleModule, msg: str, **result: t.Any) -> t.NoReturn:
    raise ModuleExit({"failed": True, "msg": msg, **result})
