# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_run_lease: take, extend, release or read a cluster's lease. SSM lets only one create each generation."""

from __future__ import annotations

import datetime
import time
import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, ServiceError
from ansible_collections.gpuops.eks.plugins.module_utils._model.lease import COMPONENT, Lease, Process, path, text
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import tag_list
from ansible_collections.gpuops.eks.plugins.module_utils._plan.lease import decide, newest, outdated, refusal
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run
from ansible_collections.gpuops.eks.plugins.module_utils._run.patience import PAUSES
from ansible_collections.gpuops.eks.plugins.module_utils._run.processes import alive, this_run

# SSM API, PutParameter: the name is there, or is being written by another call.
_TAKEN = ("ParameterAlreadyExists", "TooManyUpdates")
_DELETED_AT_ONCE = 10  # SSM API, DeleteParameters: at most 10 names


def lease_job(run: Run) -> Outcome:
    """Never a change: a lease is not state that a user asks for."""
    name = run.params["cluster_name"]
    me = this_run(run.command)
    leases = _read(run, name)
    if run.params["state"] == "read" or run.check_mode:
        return _outcome(name, newest(leases), me)
    if run.params["state"] == "released":
        return _outcome(name, _release(run, name, leases, me), me)
    return _outcome(name, _hold(run, name, leases, me), me)


def _outcome(name: str, lease: Lease | None, me: Process) -> Outcome:
    held = lease is not None and lease.process == me and not lease.released
    return Outcome(plan=None, result={"lease": lease.to_result(f"{path(name)}/{lease.generation}", held=held) if lease else None})


def _hold(run: Run, name: str, leases: list[Lease], me: Process) -> Lease:
    for pause in PAUSES:
        decision = decide(leases, me, _now(), lambda process: alive(process, run.command), break_lease=run.params["break_lease"])
        if decision.lease and decision.word == "refuse":
            raise refusal(name, decision.lease, lost=any(lease.process == me and not lease.released for lease in leases))
        if decision.lease and decision.word == "extend":
            extended = decision.lease.extended(_now(), run.params["duration"])
            _write(run, name, extended)
            return extended
        taken = _take(run, name, decision.generation, me)
        leases = _read(run, name)
        if taken and all(lease.generation <= taken.generation for lease in leases):
            _tidy(run, name, outdated(leases, taken.generation))
            return taken
        if all(lease.generation < decision.generation for lease in leases):
            time.sleep(pause)  # lists lag behind: what the faster run made is not shown yet
    raise GpuopsError(f"Other runs keep taking the lease of cluster {name}.", hint="Run again when they have ended.")


def _take(run: Run, name: str, generation: int, me: Process) -> Lease | None:
    """The new generation; None where another run was faster."""
    now, params = _now(), run.params
    lease = Lease(
        generation=generation,
        holder=params["holder"],
        operation=params["operation"],
        process=me,
        taken_at=text(now),
        expires_at=text(now),
    ).extended(now, params["duration"])
    request = {**_parameter(name, lease), "Overwrite": False, "Tags": tag_list(run.owner(name).tags(COMPONENT))}
    try:
        run.aws.call("ssm:PutParameter", request)
    except ServiceError as error:
        if error.code in _TAKEN:
            return None
        raise
    return lease


def _release(run: Run, name: str, leases: list[Lease], me: Process) -> Lease | None:
    last = newest(leases)
    if last is None or last.process != me or last.released:
        return last
    released = replace(last, released=True)
    _write(run, name, released)
    return released


def _write(run: Run, name: str, lease: Lease) -> None:
    run.aws.call("ssm:PutParameter", {**_parameter(name, lease), "Overwrite": True})


def _parameter(name: str, lease: Lease) -> dict[str, t.Any]:
    return {"Name": f"{path(name)}/{lease.generation}", "Value": lease.value(), "Type": "String"}


def _tidy(run: Run, name: str, generations: list[int]) -> None:
    for start in range(0, len(generations), _DELETED_AT_ONCE):
        names = [f"{path(name)}/{generation}" for generation in generations[start : start + _DELETED_AT_ONCE]]
        run.aws.call("ssm:DeleteParameters", {"Names": names})


def _read(run: Run, name: str) -> list[Lease]:
    found = run.aws.pages("ssm:GetParametersByPath", "Parameters", {"Path": path(name)})
    return [Lease.from_parameter(parameter["Name"], parameter["Value"]) for parameter in found]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
