"""Pure: Kubernetes quantities as whole thousandths, so that all arithmetic is exact."""

from __future__ import annotations

import math
import re
import typing as t
from decimal import Decimal

from lab.controllers.autoscaler.model import Resources

_SUFFIXES = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate(["n", "u", "m", "", "k", "M", "G", "T", "P", "E"], -3)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+))(?:[eE]([+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)")


def thousandths(text: str | int | float) -> int:
    """The quantity times 1000, rounded up; ValueError for what Kubernetes' ParseQuantity refuses."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"quantities must match the regular expression of Kubernetes: {text!r}")
    number, exponent, suffix = found.groups()
    factor = Decimal(10) ** int(exponent) if exponent else _SUFFIXES[suffix or ""]
    return math.ceil(Decimal(number) * factor * 1000)


def resources(amounts: t.Mapping[str, t.Any] | None) -> dict[str, int]:
    """A resource list of the API as thousandths."""
    return {name: thousandths(amount) for name, amount in (amounts or {}).items()}


def total(lists: t.Iterable[Resources]) -> dict[str, int]:
    """The sum of resource lists."""
    found: dict[str, int] = {}
    for each in lists:
        for name, amount in each.items():
            found[name] = found.get(name, 0) + amount
    return found
