# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads that are made at once: the replies in order, what is missing as None, a refusal raised."""

from __future__ import annotations

import threading
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import WIDTH, Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import ServiceError
from botocore.exceptions import ClientError


class Client:
    """Answers once as many calls as may be made at once have come."""

    def __init__(self) -> None:
        self._together = threading.Barrier(WIDTH, timeout=10)

    def describe_nodegroup(self, **request: t.Any) -> dict[str, t.Any]:
        self._together.wait()
        name = request["nodegroupName"]
        if name in ("gone", "denied"):
            code = {"gone": "ResourceNotFoundException", "denied": "AccessDeniedException"}[name]
            raise ClientError({"Error": {"Code": code, "Message": name}}, "DescribeNodegroup")
        return {"nodegroup": {"nodegroupName": name}}


def find(names: list[str]) -> list[str | None]:
    aws = Aws(lambda service: Client(), interval=1.0, timeout=1.0, tell=lambda line: None)
    requests = [{"clusterName": "demo", "nodegroupName": name} for name in names]
    found = aws.find_all("eks:DescribeNodegroup", requests, missing=("ResourceNotFoundException",))
    return [reply["nodegroup"]["nodegroupName"] if reply else None for reply in found]


def test_replies_come_in_order() -> None:
    names = [f"group-{number}" for number in range(2 * WIDTH)]
    names[3] = "gone"
    assert find(names) == [None if name == "gone" else name for name in names]


def test_a_refusal_is_raised() -> None:
    with pytest.raises(ServiceError, match="denied"):
        find(["denied", *(f"group-{number}" for number in range(WIDTH - 1))])
