# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: capacity_table
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: A capacity report as text
description:
  - One line for each resource of each GPU node, then what waits and what does not look right.
options:
  _input:
    description: RV(gpuops.eks.gpu_capacity_info#module:gpu_capacity), gathered with C(nodes).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what is free
  ansible.builtin.debug:
    msg: "{{ capacity.gpu_capacity | gpuops.eks.capacity_table }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
  sample:
    - "pool  node                                      zone        type        resource        unit   allocatable  used  free"
    - "gpu   ip-10-0-37-13.us-west-2.compute.internal  us-west-2a  g5.2xlarge  nvidia.com/gpu  share           10     2     8"
"""

import typing as t

_HEAD = ("pool", "node", "zone", "type", "resource", "unit", "allocatable", "used", "free")
_NUMBERS = 3  # the last columns, to the right


def capacity_table(capacity: t.Mapping[str, t.Any]) -> list[str]:
    """Return the report's lines."""
    rows = [row for node in capacity.get("nodes") or () for row in _rows(node)]
    lines = _aligned([_HEAD, *rows]) if rows else ["No node has GPUs."]
    pending = (capacity.get("demand") or {}).get("pending") or ()
    waiting = [
        f"waiting: {one['pods']} of {one['kind']} {one['namespace']}/{one['name']}: {one['message'] or one['reason']}" for one in pending
    ]
    findings = [f"{finding['code']}: {finding['message']} {finding['fix']}" for finding in capacity.get("findings") or ()]
    return [*lines, *waiting, *findings]


def _rows(node: t.Mapping[str, t.Any]) -> list[tuple[str, ...]]:
    place = (_text(node["pool"]), node["name"], _text(node["zone"]), _text(node["instance_type"]))
    if not node["resources"]:
        return [(*place, "none", "-", "0", "0", "0")]
    return [
        (*place, one["name"], one["unit"], _text(one["allocatable"]), _text(one["requested"]), _text(one["free"]))
        for one in node["resources"]
    ]


def _text(value: t.Any) -> str:
    return "?" if value is None else str(value)


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    texts = len(_HEAD) - _NUMBERS
    return ["  ".join(cell.ljust(widths[i]) if i < texts else cell.rjust(widths[i]) for i, cell in enumerate(row)).rstrip() for row in rows]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"capacity_table": capacity_table}
