# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A plan is data: the calls that change something, in order, in the words of the service. Pure: nothing here does I/O."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError

Effect = t.Literal["create", "update", "replace", "delete"]

PLANNED = "planned:"


def planned(kind: str, name: str) -> str:
    """The stand-in for an id that only exists after a run: ``planned:vpc/demo``."""
    return f"{PLANNED}{kind}/{name}"


def is_planned(value: object) -> bool:
    """Whether a value is such a stand-in; nothing can be read for it."""
    return isinstance(value, str) and value.startswith(PLANNED)


@dataclass(frozen=True, kw_only=True)
class Wait:
    """What has to be true before the next step: a waiter by name and the parameters of the call that it repeats.

    The names are those of _aws.waiters.WAITERS. Planned ids in the parameters are resolved before the wait begins. ``binds`` says which planned
    ids the reply that ends the wait gives a value, as a step's: what a service makes by itself is known only then.
    """

    waiter: str
    arguments: t.Mapping[str, t.Any]
    binds: t.Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One mutating call.

    ``action`` is ``SERVICE:Operation`` (``eks:CreateNodegroup``; for Kubernetes ``kubernetes:VERB RESOURCE.GROUP``), ``target`` the id
    or planned id of what it changes, ``request`` the call's parameters in the service's own spelling, where planned ids of earlier steps
    stand for what those steps return. ``binds`` says which planned ids this call's reply gives a value: planned id -> JMESPath.
    ``needs`` has to be true before the call, whether or not the user waits for results; ``wait`` after it. ``passing`` are patterns of
    refusals (``CODE: message``) that pass by themselves within seconds, so that the call is repeated.
    """

    action: str
    target: str
    effect: Effect
    fields: tuple[str, ...] = ()
    reason: str = ""
    request: t.Mapping[str, t.Any] = field(default_factory=dict)
    binds: t.Mapping[str, str] = field(default_factory=dict)
    needs: tuple[Wait, ...] = ()
    wait: Wait | None = None
    passing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, t.Any]:
        """The step as results show it: without the request."""
        return {
            "action": self.action,
            "target": self.target,
            "effect": self.effect,
            "fields": list(self.fields),
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in order, the managed fields before and after them, and what the user should know.

    ``waits`` come after all steps: what was started side by side is then waited for together.
    """

    steps: tuple[Step, ...] = ()
    waits: tuple[Wait, ...] = ()
    before: t.Mapping[str, t.Any] = field(default_factory=dict)
    after: t.Mapping[str, t.Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_list(self) -> list[dict[str, t.Any]]:
        return [step.to_dict() for step in self.steps]


def combine(plans: t.Iterable[Plan]) -> Plan:
    """One plan of several for different resources, one after another; before and after are merged by their top keys."""
    steps: list[Step] = []
    waits: list[Wait] = []
    warnings: list[str] = []
    before: dict[str, t.Any] = {}
    after: dict[str, t.Any] = {}
    for plan in plans:
        steps.extend(plan.steps)
        waits.extend(plan.waits)
        warnings.extend(plan.warnings)
        before.update(plan.before)
        after.update(plan.after)
    return Plan(steps=tuple(steps), waits=tuple(waits), before=before, after=after, warnings=tuple(warnings))


def needing(steps: t.Sequence[Step], *waits: Wait) -> list[Step]:
    """The steps, the first of which needs ``waits`` beforehand."""
    return [replace(step, needs=(*step.needs, *waits)) if index == 0 else step for index, step in enumerate(steps)]


def bound_ids(steps: t.Iterable[Step]) -> frozenset[str]:
    """The planned ids that these steps, and the waits that they need, give a value."""
    return frozenset(name for step in steps for binds in (step.binds, *(wait.binds for wait in step.needs)) for name in binds)


def resolve(value: t.Any, bindings: t.Mapping[str, str], promised: t.Container[str] = ()) -> t.Any:
    """The value with every planned id replaced by what earlier steps returned for it.

    GpuopsError names one of ``promised`` (what steps of the plan bind) that has no value yet. Any other text is the user's and stays, also
    where it looks like a planned id: the value of a tag may.
    """
    if isinstance(value, str):
        if value not in bindings and value in promised:
            raise GpuopsError(f"No step before this one has returned {value}.")
        return bindings.get(value, value)
    if isinstance(value, t.Mapping):
        return {key: resolve(item, bindings, promised) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(item, bindings, promised) for item in value]
    return value


def counts(steps: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, int]:
    """How many targets a plan adds, changes, replaces and destroys, from steps as results show them.

    A target counts once, by the first effect it has: the tags of a network that is being created are part of its creation.
    """
    first: dict[str, str] = {}
    for step in steps:
        first.setdefault(step["target"], step["effect"])
    words = {"add": "create", "change": "update", "replace": "replace", "destroy": "delete"}
    return {word: sum(1 for effect in first.values() if effect == wanted) for word, wanted in words.items()}
