# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Refusals that pass by themselves: what was made a moment ago is not known everywhere in AWS yet."""

from __future__ import annotations

import re
import time
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import ServiceError
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step, is_planned

R = t.TypeVar("R")

# EC2 API, eventual consistency: an id that a call has just returned can be unknown to the next one.
_NOT_KNOWN_YET = r"Invalid\w+\.NotFound|NatGatewayNotFound"
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)


def patiently(call: t.Callable[[], R], step: Step) -> R:
    """What ``call`` returns; it is repeated, half a minute at most, while it is refused in a way that passes (``step.passing``)."""
    passing = list(step.passing)
    if _has_planned(step.request):
        passing.append(_NOT_KNOWN_YET)
    for pause in PAUSES:
        try:
            return call()
        except ServiceError as error:
            if not any(re.search(pattern, f"{error.code}: {error.message}") for pattern in passing):
                raise
            time.sleep(pause)
    return call()


def _has_planned(value: t.Any) -> bool:
    if isinstance(value, t.Mapping):
        return any(_has_planned(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_planned(item) for item in value)
    return is_planned(value)
