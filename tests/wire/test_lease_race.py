# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many runs at once want the lease of one cluster: exactly one gets it."""

from __future__ import annotations

import concurrent.futures
import datetime
import threading
import types
import typing as t

import boto3
import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws, Request
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.lease import Lease, Process, path, text
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._run import lease as job
from moto import mock_aws

from tests.wire.harness import CONNECTION

RUNS = 8
NOW = datetime.datetime(2026, 11, 24, 9, 0, tzinfo=datetime.UTC)
PARAMS = {"cluster_name": "demo", "state": "held", "holder": "anna", "operation": "site", "duration": 2700, "break_lease": False}


def process(number: int) -> Process:
    return Process(host=f"runner-{number}", machine=f"boot-{number}", pid=number, started="100")


def lease(minutes: int, *, released: bool = False) -> Lease:
    """The first generation, of run 0."""
    end = text(NOW + datetime.timedelta(minutes=minutes))
    return Lease(generation=1, holder="anna", operation="site", process=process(0), taken_at=text(NOW), expires_at=end, released=released)


class Together(Aws):
    """All runs have read before the first one writes. One write at a time, as SSM makes them."""

    write = threading.Lock()

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__(self._build)
        self._barrier: threading.Barrier | None = barrier

    @staticmethod
    def _build(service: str) -> t.Any:
        connection = {"aws_access_key_id": CONNECTION["access_key"], "aws_secret_access_key": CONNECTION["secret_key"]}
        return boto3.session.Session().client(service, region_name=CONNECTION["region"], **connection)  # type: ignore[call-overload]

    def call(self, action: str, request: Request | None = None) -> dict[str, t.Any]:
        if self._barrier:
            barrier, self._barrier = self._barrier, None
            barrier.wait(timeout=60)
        with self.write:
            return super().call(action, request)


def run_all(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What becomes of each run: "held", or the sentence that it stops with."""
    here = threading.local()
    monkeypatch.setattr(job, "this_run", lambda command: here.me)
    monkeypatch.setattr(job, "_now", lambda: NOW)
    barrier = threading.Barrier(RUNS)

    def hold(number: int) -> str:
        here.me = process(number)
        owner = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
        run = types.SimpleNamespace(command=None, aws=Together(barrier), params=PARAMS, check_mode=False, owner=lambda name: owner)
        try:
            return "held" if job.lease_job(t.cast("t.Any", run)).result["lease"]["held"] else "not held"
        except GpuopsError as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(RUNS) as pool:
        return list(pool.map(hold, range(RUNS)))


@pytest.mark.parametrize("before", [None, lease(5, released=True), lease(-5)], ids=["none", "released", "expired"])
def test_of_runs_at_once_exactly_one_holds_the_lease(monkeypatch: pytest.MonkeyPatch, before: Lease | None) -> None:
    with mock_aws():
        ssm = Together._build("ssm")
        if before:
            ssm.put_parameter(Name=f"{path('demo')}/1", Value=before.value(), Type="String")
        ends = run_all(monkeypatch)
        names = [found["Name"] for found in ssm.get_parameters_by_path(Path=path("demo"))["Parameters"]]
    assert ends.count("held") == 1
    assert sum("holds the lease of cluster demo" in end for end in ends) == RUNS - 1
    assert len(names) == (2 if before else 1)
