# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_lines
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: A plan as text
description:
  - One line for each step, in the order of the calls, and a last line with the numbers.
options:
  _input:
    description: Steps of one or more plans.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show a plan
  ansible.builtin.debug:
    msg: "{{ result.plan | gpuops.eks.plan_lines }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
  sample:
    - "+ eks:CreateCluster planned:cluster/demo: it does not exist"
    - "Plan: 1 to add, 0 to change, 0 to replace, 0 to destroy."
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import counts

_SIGNS = {"create": "+", "update": "~", "replace": "-/+", "delete": "-"}


def plan_lines(steps: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Return the plan's steps, one a line, and its numbers in the last one."""
    number = counts(steps)
    closing = "Plan: {add} to add, {change} to change, {replace} to replace, {destroy} to destroy.".format(**number)
    return [*(_line(step) for step in steps), closing]


def _line(step: t.Mapping[str, t.Any]) -> str:
    detail = ", ".join(step.get("fields") or ())
    why = ": ".join(part for part in (detail, step.get("reason") or "") if part)
    line = f"{_SIGNS[step['effect']]} {step['action']} {step['target']}"
    return f"{line}: {why}" if why else line


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"plan_lines": plan_lines}
