# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Makes a plan come true, step by step, and says how far it came when it cannot."""

from __future__ import annotations

import contextlib
import functools
import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, Interrupted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Wait, bound_ids, resolve
from ansible_collections.gpuops.eks.plugins.module_utils._run.patience import patiently

with contextlib.suppress(ImportError):  # run_module says that botocore, which brings jmespath, is missing
    import jmespath

Perform = t.Callable[[str, dict[str, t.Any]], t.Mapping[str, t.Any]]
Await = t.Callable[[Wait], t.Optional[t.Mapping[str, t.Any]]]


def apply(
    plan: Plan, perform: Perform, await_: Await, *, need: Await | None = None, bindings: t.Mapping[str, str] | None = None
) -> dict[str, str]:
    """Make each step's call, bind the ids that it returns, wait where the step says so; then the plan's own waits.

    ``need`` performs what a call needs beforehand (``await_`` where it is not given) and returns the reply that ended the wait. Returns planned
    id -> real id. Interrupted carries the cause, the steps that were made and those that were not.
    """
    bound = dict(bindings or {})
    promised = bound_ids(plan.steps)
    made = 0
    try:
        for step in plan.steps:
            for needed in step.needs:
                seen = (need or await_)(_resolved(needed, bound, promised))
                bound.update(_bound(needed.waiter, needed.binds, seen or {}))
            request = resolve(step.request, bound, promised)
            reply = patiently(functools.partial(perform, step.action, request), step)
            made += 1
            bound.update(_bound(step.action, step.binds, reply))
            if step.wait is not None:
                await_(_resolved(step.wait, bound, promised))
        for wait in plan.waits:
            await_(_resolved(wait, bound, promised))
    except GpuopsError as error:
        steps = plan.to_list()
        raise Interrupted(error, steps[:made], steps[made:]) from error
    return bound


def _resolved(wait: Wait, bound: t.Mapping[str, str], promised: t.Container[str]) -> Wait:
    return replace(wait, arguments=resolve(wait.arguments, bound, promised))


def _bound(action: str, binds: t.Mapping[str, str], reply: t.Mapping[str, t.Any]) -> dict[str, str]:
    found = {name: jmespath.search(path, dict(reply)) for name, path in binds.items()}
    for name, value in found.items():
        if not isinstance(value, str):
            raise GpuopsError(f"{action}: the reply has no {binds[name]} for {name}.")
    return found
