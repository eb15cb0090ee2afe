# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A pool's options as the user gave them, of any type, read with their defaults: for what looks for faults. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_AMI_FAMILY, section

Params = t.Mapping[str, t.Any]


def texts(values: t.Any) -> list[tuple[int, str]]:
    """The strings of a list with their places; nothing for what is no list."""
    given = [values] if isinstance(values, str) else values
    return [(index, value) for index, value in enumerate(given) if isinstance(value, str)] if isinstance(given, (list, tuple)) else []


def number(value: t.Any) -> int | None:
    """A whole number; None for what is none."""
    try:
        return None if isinstance(value, bool) or value is None else int(value)
    except (TypeError, ValueError):
        return None


def lookup(pool: Params, dotted: str) -> t.Any:
    """An option by its dotted path, at most one level deep; None where it is not set."""
    head, _dot, tail = dotted.rpartition(".")
    return (section(pool, head) if head else pool).get(tail)


def accelerator(pool: Params) -> str:
    return str(pool.get("accelerator") or "nvidia")


def ami_family(pool: Params) -> str:
    return str(section(pool, "ami").get("family") or DEFAULT_AMI_FAMILY)


def provisioner(pool: Params) -> str:
    """The provisioner; managed node groups where none is named, which is a fault of its own."""
    return str(pool.get("provisioner") or "managed_node_group")
