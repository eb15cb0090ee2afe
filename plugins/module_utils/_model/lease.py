# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A cluster's lease: who runs something on it, and until when. Pure."""

from __future__ import annotations

import datetime
import json
import typing as t
from dataclasses import asdict, dataclass, replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults

Params = t.Mapping[str, t.Any]

COMPONENT = "lease"
DEFAULT_DURATION = 2700
LEAST_DURATION, MOST_DURATION = 60, 43200
_SOURCE = "the options of eks_run_lease"


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process, known again by the machine that it runs on, its number, and when it started: numbers are used again."""

    host: str
    machine: str
    pid: int
    started: str


@dataclass(frozen=True, kw_only=True)
class Lease:
    """One generation. Times are UTC in ISO format, to the second."""

    generation: int
    holder: str
    operation: str
    process: Process
    taken_at: str
    expires_at: str
    released: bool = False

    @classmethod
    def from_parameter(cls, name: str, value: str) -> Lease:
        """From an SSM parameter; GpuopsError where it is none of ours."""
        try:
            data = json.loads(value)
            process = Process(**data.pop("process"))
            return cls(generation=int(name.rpartition("/")[2]), process=process, **data)
        except (ValueError, TypeError, KeyError) as error:
            hint = "Delete it where it is not needed, then run again."
            raise GpuopsError(f"SSM parameter {name} is not a lease of this collection: {error}.", hint=hint) from error

    def value(self) -> str:
        """The value of its SSM parameter."""
        data = asdict(self)
        del data["generation"]
        return json.dumps(data, sort_keys=True)

    def expired(self, now: datetime.datetime) -> bool:
        return self.expires_at <= text(now)

    def extended(self, now: datetime.datetime, seconds: int) -> Lease:
        return replace(self, expires_at=text(now + datetime.timedelta(seconds=seconds)))

    def to_result(self, parameter: str, *, held: bool) -> dict[str, t.Any]:
        """The lease as results show it; ``held`` is whether this run holds it."""
        return {
            "parameter": parameter,
            "generation": self.generation,
            "held": held,
            "holder": self.holder,
            "operation": self.operation,
            "host": self.process.host,
            "pid": self.process.pid,
            "taken_at": self.taken_at,
            "expires_at": self.expires_at,
            "released": self.released,
        }


def text(moment: datetime.datetime) -> str:
    """A moment as leases have it; comparing texts compares moments."""
    return moment.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def path(cluster_name: str) -> str:
    """Below which a cluster's generations are. SSM is regional, so the region is not part of it."""
    return f"/gpuops.eks/{cluster_name}/lease"


def lease_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds."""
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    duration = params.get("duration")
    if isinstance(duration, int) and not LEAST_DURATION <= duration <= MOST_DURATION:
        allowed = f"{LEAST_DURATION} to {MOST_DURATION} seconds"
        faults.append(Fault(path="duration", value=duration, allowed=allowed, source=_SOURCE))
    for name in ("holder", "operation"):
        value = params.get(name)
        if isinstance(value, str) and not 0 < len(value.strip()) <= 200:
            faults.append(Fault(path=name, value=value, allowed="a text of 1 to 200 characters", source=_SOURCE))
    return faults
