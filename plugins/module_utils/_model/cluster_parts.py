# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Options that add-ons, access entries and Pod Identity associations of a cluster share: one thing or a list of them, role ARNs. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import is_planned

Params = t.Mapping[str, t.Any]

OPTIONS_SOURCE = "the collection's options"
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+|planned:.+")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def each(params: Params, listed: str) -> list[tuple[str, Params]]:
    """The things that the options describe, with the path of each: those of the list, or the one that stands for itself (path ``""``).

    Elements that are no dictionaries are left to form_faults.
    """
    things = params.get(listed)
    if things is None:
        return [("", params)]
    if not isinstance(things, list):
        return []
    return [(f"{listed}[{index}]", thing) for index, thing in enumerate(things) if isinstance(thing, t.Mapping)]


def role_arn_faults(value: t.Any, path: str, source: str) -> list[Fault]:
    """What is wrong with the ARN of an IAM role; None is not set, what is no text is left to form_faults."""
    return pattern_faults(value, path, _ROLE, "the ARN of an IAM role", source)


def namespace_faults(value: t.Any, path: str) -> list[Fault]:
    """What is wrong with a namespace's name."""
    return pattern_faults(value, path, _LABEL, "a DNS label: 1 to 63 of a-z, 0-9 and -", "Kubernetes, object names")


def service_account_faults(value: t.Any, path: str) -> list[Fault]:
    """What is wrong with a service account's name."""
    return pattern_faults(value, path, _SUBDOMAIN, "a DNS subdomain: 1 to 253 of a-z, 0-9, - and .", "Kubernetes, object names")


def pattern_faults(value: t.Any, path: str, pattern: re.Pattern[str], allowed: str, source: str) -> list[Fault]:
    """A fault where the value is a text (or a number that will be one) that the pattern does not take."""
    if value is None or isinstance(value, (list, dict)) or pattern.fullmatch(str(value)):
        return []
    return [Fault(path=path, value=value, allowed=allowed, source=source)]


def missing_fault(thing: Params, name: str, path: str, why: str) -> list[Fault]:
    """A fault where the option is not set; ``path`` is that of the option."""
    return [] if thing.get(name) is not None else [Fault(path=path, value=None, allowed=f"required {why}", source=OPTIONS_SOURCE)]


def repeated(keys: t.Iterable[tuple[str, t.Any]]) -> list[Fault]:
    """A fault for each (path, key) whose key has been there before."""
    seen: list[t.Any] = []
    faults = []
    for path, key in keys:
        if key in seen:
            faults.append(Fault(path=path, value=key, allowed="each once", source=OPTIONS_SOURCE))
        seen.append(key)
    return faults


def planned_faults(given: t.Mapping[str, t.Any]) -> list[Fault]:
    """Stand-ins for ids, by path: they are for check mode, a real run has real ids."""
    allowed = "the ARN of what exists; planned ids are for check mode"
    return [Fault(path=path, value=value, allowed=allowed, source=OPTIONS_SOURCE) for path, value in given.items() if is_planned(value)]
