# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: short_name
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: A name that stays unique where it has to be shortened
description:
  - Joins parts by dashes. A result that is too long is cut and ends in a hash of the whole, so that two long names stay different and the
    same parts always give the same name.
positional: limit
options:
  _input:
    description: Parts of the name.
    type: list
    elements: str
    required: true
  limit:
    description: Greatest number of characters.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Name an IAM role, of which an account has one space for all regions
  ansible.builtin.debug:
    msg: "{{ ['demo', 'us-west-2', 'nodes'] | gpuops.eks.short_name(64) }}"
"""

RETURN = r"""
_value:
  description: The name.
  type: str
  sample: demo-us-west-2-nodes
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import short_name


def shortened(parts: t.Sequence[str], limit: int) -> str:
    """Return the parts as one name of at most ``limit`` characters."""
    return short_name(*parts, limit=limit)


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"short_name": shortened}
