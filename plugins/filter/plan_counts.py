# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_counts
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: How many things a plan adds, changes, replaces and destroys
description:
  - Counts the targets of the steps that the collection's modules return as C(plan). A target counts once, by the first thing that happens to it.
options:
  _input:
    description: Steps of one or more plans.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Say how much a module would do
  ansible.builtin.debug:
    msg: "{{ (result.plan | gpuops.eks.plan_counts).add }} to add"
"""

RETURN = r"""
_value:
  description: The numbers.
  type: dict
  sample: {add: 2, change: 0, replace: 0, destroy: 0}
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import counts


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"plan_counts": counts}
