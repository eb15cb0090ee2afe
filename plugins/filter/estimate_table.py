# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: estimate_table
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: An estimate of costs as text
description:
  - One line for each thing that is to be paid for, with its price of a month at the smallest and the largest size, then the sums.
options:
  _input:
    description: C(estimate) of RV(gpuops.eks.eks_preflight_info#module:preflight).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what a cluster costs
  ansible.builtin.debug:
    msg: "{{ looked.preflight.estimate | gpuops.eks.estimate_table }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
  sample:
    - "pool gpu: g5.2xlarge, on_demand         1 to 2   1.2120 per hour     884.76 to 1769.52"
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._plan.estimate import estimate_table


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"estimate_table": estimate_table}
