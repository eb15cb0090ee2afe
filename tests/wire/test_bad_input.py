# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad values for every option of every module, made from the argument specifications: refused before any client exists, and never a traceback."""

from __future__ import annotations

import copy
import importlib
import socket
import typing as t
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from ansible_collections.amazon.aws.plugins.module_utils.modules import aws_argument_spec
from ansible_collections.gpuops.eks.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.gpuops.eks.plugins.module_utils._run import module as running

from tests.wire.harness import Wire

MODULES = sorted(path.stem for path in (Path(__file__).parents[2] / "plugins" / "modules").glob("*.py") if path.stem != "__init__")
PACKAGE = "ansible_collections.gpuops.eks.plugins.modules"
_SHARED = {*aws_argument_spec(), "kubernetes"}  # options of amazon.aws, which judges them, and of kubernetes.core
_READS = ("describe", "list", "get", "head", "batch_get")
Option = t.Mapping[str, t.Any]


class FirstCall(Exception):
    """A module came as far as its first call, or would have come to a cluster's API server."""


@dataclass(frozen=True)
class Bad:
    """A value at a path; ``certain`` where no reading of it is right."""

    path: str
    parameters: dict[str, t.Any]
    certain: bool


def entry(module: str) -> tuple[t.Callable[[], None], ArgumentSpec]:
    """The module's main() and the specification that it runs with."""
    code = importlib.import_module(f"{PACKAGE}.{module}")
    seen: list[ArgumentSpec] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "run_module", lambda spec, job, validate=None: seen.append(spec))
        code.main()
    return code.main, seen[0]


def bad_values(option: Option) -> t.Iterator[tuple[t.Any, str, bool]]:
    """Values, where below the option the fault is, and whether it is certain."""
    kind = option.get("type", "str")
    wrong: dict[str, t.Any] = {
        "str": {"a": 1},
        "path": {"a": 1},
        "bool": "perhaps",
        "int": "ten",
        "float": "ten",
        "dict": "text",
        "list": {"a": 1},
    }
    if kind in wrong:
        yield wrong[kind], "", True
    if option.get("choices") and kind != "list":
        yield "no-such-choice", "", True
    if kind == "str":
        yield "", "", False
        yield " ", "", False
        yield "\u00e4" * 300, "", False
    if kind in ("int", "float"):
        yield -1, "", False
        yield 10**12, "", False
    if kind == "dict":
        yield {}, "", False
        yield from _nested(option, "", lambda value: value)
    if kind == "list":
        yield [], "", False
        yield from _elements(option)


def _nested(option: Option, path: str, wrap: t.Callable[[dict[str, t.Any]], t.Any]) -> t.Iterator[tuple[t.Any, str, bool]]:
    if not option.get("options"):
        return
    needed = {name: filler(sub) for name, sub in option["options"].items() if sub.get("required")}
    yield wrap({**needed, "no_such_key": 1}), f"{path}.no_such_key", True
    for name in needed:
        yield wrap({key: value for key, value in needed.items() if key != name}), f"{path}.{name}", True
    for name, sub in option["options"].items():
        for value, below, certain in bad_values(sub):
            yield wrap({**needed, name: value}), f"{path}.{name}{below}", certain


def _elements(option: Option) -> t.Iterator[tuple[t.Any, str, bool]]:
    element = {"type": option.get("elements", "raw"), **{key: option[key] for key in ("choices", "options") if key in option}}
    for value, below, certain in bad_values(element):
        yield [value], f"[0]{below}", certain


def filler(option: Option) -> t.Any:
    """Something of the right type for an option that is required beside the bad one."""
    if option.get("choices"):
        return option["choices"][0]
    return {"str": "demo", "int": 1, "float": 1.0, "bool": True, "dict": {}, "list": []}.get(option.get("type", "str"))


def cases(spec: ArgumentSpec) -> t.Iterator[Bad]:
    own = {name: option for name, option in spec.options.items() if name not in _SHARED}
    needed = {name: filler(option) for name, option in own.items() if option.get("required")}
    yield Bad("no_such_option", {**needed, "no_such_option": 1}, True)
    for name in needed:
        yield Bad(name, {key: value for key, value in needed.items() if key != name}, True)
    for name, option in own.items():
        for value, below, certain in bad_values(option):
            yield Bad(f"{name}{below}", {**needed, name: copy.deepcopy(value)}, certain)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reaches a network, and a client's first call ends the run."""

    def refuse(*arguments: t.Any, **options: t.Any) -> t.NoReturn:
        raise AssertionError("bad input must not reach the network")

    class Client:
        def __init__(self, service: str, *arguments: t.Any, **options: t.Any) -> None:
            self.service = service

        def __getattr__(self, name: str) -> t.Any:
            if name.startswith("__"):
                raise AttributeError(name)
            assert name == "meta" or name.startswith((*_READS, "get_paginator", "can_paginate")), (
                f"the first call would be {self.service}:{name}"
            )
            raise FirstCall(f"{self.service}:{name}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(boto3.session.Session, "client", lambda session, service, *a, **k: Client(service))
    monkeypatch.setattr(running, "connect", lambda *a, **k: Client("kubernetes").list)


def outcome(wire: Wire, main: t.Callable[[], None], parameters: dict[str, t.Any]) -> tuple[str, dict[str, t.Any]]:
    """The first call that a run would make, if it comes so far, and otherwise its result."""
    try:
        return "", wire.run(main, parameters)
    except FirstCall as call:
        return str(call), {}


@pytest.mark.parametrize("module", MODULES)
def test_bad_values_are_refused_before_any_client_exists(module: str, wire: Wire, offline: None) -> None:
    main, spec = entry(module)
    count = 0
    for bad in cases(spec):
        count += 1
        first, result = outcome(wire, main, bad.parameters)
        if first:
            assert not bad.certain, f"{module}: {bad.path} = {bad.parameters} came to {first}"
            continue
        assert result.get("failed"), f"{module}: {bad.path} was accepted: {bad.parameters}"
        assert "Traceback" not in result["msg"], f"{module}: {bad.path}"
        if bad.certain:
            paths = [fault["path"] for fault in result.get("faults") or ()]
            assert any(path == bad.path or bad.path.startswith((f"{path}.", f"{path}[")) for path in paths), (
                f"{module}: {bad.path} not in {paths}: {result['msg']}"
            )
    assert count > 10
