# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What to do about a cluster's lease. Pure: whether a process still runs is told from outside."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.lease import Lease, Process

Word = t.Literal["take", "extend", "refuse"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """``take``: create ``generation``. ``extend``: write the newest one again. ``refuse``: somebody else holds ``lease``."""

    word: Word
    generation: int
    lease: Lease | None = None


def newest(leases: t.Iterable[Lease]) -> Lease | None:
    return max(leases, key=lambda lease: lease.generation, default=None)


def decide(
    leases: t.Collection[Lease], me: Process, now: datetime.datetime, alive: t.Callable[[Process], bool], *, break_lease: bool = False
) -> Decision:
    """Whoever creates the generation after the newest holds the lease; it is free when released, expired, or left by a process of this machine
    that is gone. Its holder too takes the next one when it has expired: another run may be doing the same, and only creation decides."""
    last = newest(leases)
    if last is None:
        return Decision(word="take", generation=1)
    if last.process == me and not last.released and not last.expired(now):
        return Decision(word="extend", generation=last.generation, lease=last)
    gone = last.process.host == me.host and last.process.machine == me.machine != "" and not alive(last.process)
    if last.released or last.expired(now) or gone or break_lease:
        return Decision(word="take", generation=last.generation + 1, lease=last)
    return Decision(word="refuse", generation=last.generation, lease=last)


def refusal(cluster_name: str, lease: Lease, *, lost: bool = False) -> GpuopsError:
    """Who holds the lease since when, and what to do."""
    process = lease.process
    begin = "This run has lost the lease: " if lost else ""
    message = (
        f"{begin}{lease.holder} holds the lease of cluster {cluster_name} since {lease.taken_at} for {lease.operation} "
        f"(process {process.pid} on {process.host}), until {lease.expires_at} if it is not extended."
    )
    hint = "Wait until that run has ended. Only where it is certainly dead: gpuops_break_lease: true (option break_lease)."
    return GpuopsError(message, hint=hint)


def outdated(leases: t.Iterable[Lease], generation: int) -> list[int]:
    """Generations that can go once ``generation`` is ours. The one before stays: a run that has read it and is late to take the next one has to
    find that taken."""
    return sorted(lease.generation for lease in leases if lease.generation < generation - 1)
