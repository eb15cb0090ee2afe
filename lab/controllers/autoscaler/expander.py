"""Pure: which of several groups to grow (``--expander``, a chain of filters)."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

import yaml

from lab.controllers.autoscaler.model import Node, Pod
from lab.controllers.autoscaler.scheduling import used


@dataclass(frozen=True, slots=True)
class Option:
    """To add ``count`` nodes like ``template`` to a group, on which ``pods`` would run."""

    group: str
    template: Node
    count: int
    pods: tuple[Pod, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    option: Option
    notes: tuple[str, ...] = ()


class PrioritiesRefused(ValueError):
    """The ConfigMap's text is not a map of numbers to lists of regular expressions."""


def best(options: t.Sequence[Option], chain: t.Sequence[str], priorities: str | None) -> Choice:
    """What the chain leaves; of several the first, where the real one draws lots."""
    left, notes = list(options), []
    for name in chain:
        left, told = _FILTERS[name](left, priorities)
        notes += told
        if len(left) == 1:
            break
    return Choice(left[0], tuple(notes))


def parse_priorities(text: str) -> dict[int, list[re.Pattern[str]]]:
    """The ConfigMap's ``priorities``; raises PrioritiesRefused."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PrioritiesRefused(f"Can't parse YAML with priorities in the configmap: {error}") from error
    if not isinstance(document, dict) or not all(
        isinstance(number, int) and isinstance(entries, list) and all(isinstance(entry, str) for entry in entries)
        for number, entries in document.items()
    ):
        raise PrioritiesRefused("Can't parse YAML with priorities in the configmap: not a map of numbers to lists of regular expressions")
    try:
        return {number: [re.compile(entry) for entry in entries] for number, entries in document.items()}
    except re.error as error:
        raise PrioritiesRefused(f"Can't compile regexp rule {error.pattern!r}: {error}") from error


def _priority(options: list[Option], text: str | None) -> tuple[list[Option], list[str]]:
    """Those of the highest priority; all of them without a usable ConfigMap or when it names none."""
    if text is None:
        return options, ["Priority expander config map cluster-autoscaler-priority-expander not found"]
    try:
        priorities = parse_priorities(text)
    except PrioritiesRefused as error:
        return options, [f"Wrong configuration for priority expander: {error}. Ignoring update."]
    ranked = {
        option.group: max((n for n, patterns in priorities.items() if any(p.search(option.group) for p in patterns)), default=None)
        for option in options
    }
    notes = [
        f"Priority expander: node group {name} not found in priority expander configuration. The group won't be used."
        for name, rank in ranked.items()
        if rank is None
    ]
    ranks = [rank for rank in ranked.values() if rank is not None]
    if not ranks:
        return options, [*notes, "Priority expander: no priorities info found for any of the expansion options. No options filtered."]
    return [option for option in options if ranked[option.group] == max(ranks)], notes


def waste(option: Option) -> float:
    """The unused share of CPU plus that of memory of what would be bought."""
    requested = used(option.pods)
    return sum(
        1 - requested.get(name, 0) / (option.template.capacity[name] * option.count)
        for name in ("cpu", "memory")
        if option.template.capacity.get(name)
    )


def _least_waste(options: list[Option], _text: str | None) -> tuple[list[Option], list[str]]:
    least = min(waste(option) for option in options)
    return [option for option in options if waste(option) == least], []


def _most_pods(options: list[Option], _text: str | None) -> tuple[list[Option], list[str]]:
    most = max(len(option.pods) for option in options)
    return [option for option in options if len(option.pods) == most], []


def _least_nodes(options: list[Option], _text: str | None) -> tuple[list[Option], list[str]]:
    least = min(option.count for option in options)
    return [option for option in options if option.count == least], []


def _any(options: list[Option], _text: str | None) -> tuple[list[Option], list[str]]:
    return options[:1], []


_FILTERS: dict[str, t.Callable[[list[Option], str | None], tuple[list[Option], list[str]]]] = {
    "priority": _priority,
    "least-waste": _least_waste,
    "most-pods": _most_pods,
    "least-nodes": _least_nodes,
    "random": _any,
}
NAMES = tuple(_FILTERS)
