# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Kubernetes quantities as exact numbers. Pure."""

from __future__ import annotations

import math
import re
import typing as t
from decimal import Decimal

_SUFFIXES: dict[str, Decimal] = {
    **{suffix: Decimal(1000) ** power for suffix, power in (("n", -3), ("u", -2), ("m", -1), ("", 0), ("k", 1), ("M", 2), ("G", 3))},
    **{suffix: Decimal(1000) ** power for suffix, power in (("T", 4), ("P", 5), ("E", 6))},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:([eE][+-]?[0-9]+)|([numkMGTPE]|[KMGTPE]i)?)")


def quantity(text: str | int | float) -> Decimal:
    """The value of a quantity such as ``1500m``, ``2Gi`` or ``12e6``; ValueError for anything else.

    Source: Kubernetes API reference, resource.Quantity.
    """
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity")
    number, exponent, suffix = found.groups()
    if exponent:
        return Decimal(number) * Decimal(10) ** int(exponent[1:])
    return Decimal(number) * _SUFFIXES[suffix or ""]


def count(text: str | int | float | None) -> int:
    """A quantity of something that comes in whole pieces, as extended resources do: rounded up as the scheduler does; None is 0."""
    return 0 if text is None else math.ceil(quantity(text))


def counts(resources: t.Mapping[str, t.Any] | None, prefix: str) -> dict[str, int]:
    """The whole-piece resources below ``prefix`` (``nvidia.com/``) of a requests or allocatable block."""
    return {name: count(value) for name, value in (resources or {}).items() if name.startswith(prefix)}
