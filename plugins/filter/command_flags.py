# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: command_flags
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Flags of a program's command line
description:
  - One C(--NAME=VALUE) for each value. Null leaves a flag out, a list repeats it, booleans become V(true) and V(false).
options:
  _input:
    description: Values by the names of the flags.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the flags
  ansible.builtin.debug:
    msg: "{{ {'v': 4, 'leader-elect': true} | gpuops.eks.command_flags }}"
"""

RETURN = r"""
_value:
  description: The flags, in order.
  type: list
  elements: str
  sample: ["--v=4", "--leader-elect=true"]
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.autoscaling import command_flags


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"command_flags": command_flags}
