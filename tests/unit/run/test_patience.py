# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that are refused only for a moment are repeated, others are not."""

from __future__ import annotations

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._errors import ServiceError
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step
from ansible_collections.gpuops.eks.plugins.module_utils._run import patience
from ansible_collections.gpuops.eks.plugins.module_utils._run.patience import PAUSES, patiently

NEW = Step(action="ec2:CreateSubnet", target="s", effect="create", request={"VpcId": "planned:vpc/x"})
NESTED = Step(action="ec2:CreateRoute", target="s", effect="create", request={"Ids": [{"Id": "planned:vpc/x"}]})
OLD = Step(action="ec2:CreateSubnet", target="s", effect="create", request={"VpcId": "vpc-1"})
ROLE = Step(action="eks:CreateCluster", target="c", effect="create", passing=(r"^InvalidParameterException: .*role.*does not exist",))


class Service:
    """Refuses ``refusals`` times, then answers."""

    def __init__(self, refusals: int, code: str, message: str = "no") -> None:
        self.refusals, self.code, self.message, self.calls = refusals, code, message, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.refusals:
            raise ServiceError("x:Call", self.code, self.message)
        return "made"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize(
    ("step", "code", "message"),
    [
        (NEW, "InvalidVpcID.NotFound", "The vpc ID 'vpc-1' does not exist"),
        (NESTED, "NatGatewayNotFound", ""),
        (ROLE, "InvalidParameterException", "The role arn:aws:iam::1:role/x does not exist"),
    ],
)
def test_what_passes_is_waited_out(pauses: list[float], step: Step, code: str, message: str) -> None:
    service = Service(2, code, message)
    assert patiently(service, step) == "made"
    assert (service.calls, pauses) == (3, [1.0, 2.0])


@pytest.mark.parametrize(
    ("step", "code", "message"),
    [
        (OLD, "InvalidVpcID.NotFound", "The vpc ID 'vpc-1' does not exist"),
        (NEW, "SubnetLimitExceeded", "no more"),
        (ROLE, "InvalidParameterException", "unsupported Kubernetes version"),
    ],
)
def test_what_does_not_pass_is_not_repeated(pauses: list[float], step: Step, code: str, message: str) -> None:
    service = Service(1, code, message)
    with pytest.raises(ServiceError, match=code):
        patiently(service, step)
    assert (service.calls, pauses) == (1, [])


def test_patience_ends(pauses: list[float]) -> None:
    service = Service(99, "InvalidVpcID.NotFound")
    with pytest.raises(ServiceError, match="NotFound"):
        patiently(service, NEW)
    assert pauses == list(PAUSES)
