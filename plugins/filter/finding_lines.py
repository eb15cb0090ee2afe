# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: finding_lines
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Findings of a severity as sentences
description:
  - What is wrong with its arithmetic, and what to do about it.
positional: severity
options:
  _input:
    description: C(findings) of RV(gpuops.eks.eks_preflight_info#module:preflight).
    type: list
    elements: dict
    required: true
  severity:
    description: Which of them.
    type: str
    choices: [error, warning]
    required: true
"""

EXAMPLES = r"""
- name: Stop where something would fail later
  ansible.builtin.assert:
    that: looked.preflight.findings | gpuops.eks.finding_lines('error') | length == 0
"""

RETURN = r"""
_value:
  description: The sentences.
  type: list
  elements: str
  sample:
    - >-
      Running On-Demand G and VT instances (L-DB2E81BA): 8 vCPUs needed to make the cluster + 0 used by others in us-west-2 = 8; the limit is 0.
      Ask for at least 8 at https://us-west-2.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-DB2E81BA
"""

import typing as t


def finding_lines(findings: t.Iterable[t.Mapping[str, t.Any]], severity: str) -> list[str]:
    """Return message and fix of each finding of that severity."""
    return [f"{finding['message']} {finding['fix']}".strip() for finding in findings if finding["severity"] == severity]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"finding_lines": finding_lines}
