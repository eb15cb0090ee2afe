# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixtures that keep tests off the network do so."""

from __future__ import annotations

import contextlib
import os
import socket

import boto3
import pytest
from botocore.exceptions import NoCredentialsError


def connect_and_swallow() -> None:
    with socket.socket() as client, contextlib.suppress(Exception):
        client.connect(("127.0.0.1", 9))


@pytest.mark.usefixtures("no_network")
def test_a_connection_fails_the_test_whatever_is_caught() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"connect\(\('127\.0\.0\.1', 9\),\)"):
        connect_and_swallow()


@pytest.mark.usefixtures("no_network")
def test_a_name_lookup_fails_the_test() -> None:
    with pytest.raises(pytest.fail.Exception, match="getaddrinfo"):
        socket.getaddrinfo("localhost", 80)


@pytest.mark.usefixtures("no_network")
def test_no_credentials_are_left() -> None:
    assert {name for name in os.environ if name.startswith("AWS_")} == {
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_EC2_METADATA_DISABLED",
    }
    with pytest.raises(NoCredentialsError):
        boto3.session.Session(region_name="us-west-2").client("eks").list_clusters()
