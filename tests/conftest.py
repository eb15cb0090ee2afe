# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of all tests."""

from __future__ import annotations

import os
import socket
import typing as t

import pytest


def _refuse(what: str) -> t.Callable[..., t.NoReturn]:
    def refuse(*arguments: t.Any, **options: t.Any) -> t.NoReturn:
        # Not an OSError and no Exception at all: the code under test must have no way to handle it.
        pytest.fail(f"the network was used: {what}{arguments[-1:] or ''}")

    return refuse


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing names an AWS account: no variable, no file, no metadata address."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, no_aws: None) -> None:
    """A connection or a name look-up fails the test at once, and there are no credentials."""
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, _refuse(name))
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "create_connection"):
        monkeypatch.setattr(socket, name, _refuse(name))
