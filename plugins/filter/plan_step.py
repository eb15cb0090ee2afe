# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_step
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: A step of a plan for a task of another collection
description:
  - The modules of this collection return their plan. For tasks of other collections this filter makes steps of the same shape.
positional: action, effect
options:
  _input:
    description: What the call changes.
    type: str
    required: true
  action:
    description: The call, in the words of the service.
    type: str
    required: true
  effect:
    description: What becomes of the target.
    type: str
    choices: [create, update, replace, delete]
    required: true
  fields:
    description: The fields that change.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Say that a role is deleted
  ansible.builtin.set_fact:
    training_plan: "{{ ['demo-training' | gpuops.eks.plan_step('iam:DeleteRole', 'delete')] }}"
"""

RETURN = r"""
_value:
  description: The step.
  type: dict
  sample: {action: "iam:DeleteRole", target: demo-training, effect: delete, fields: [], reason: ""}
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Effect, Step


def plan_step(target: str, action: str, effect: Effect, fields: t.Sequence[str] = ()) -> dict[str, t.Any]:
    """Return the step as results of modules have it."""
    return Step(action=action, target=target, effect=effect, fields=tuple(fields)).to_dict()


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"plan_step": plan_step}
