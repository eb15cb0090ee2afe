# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what modules can do, shared."""

from __future__ import annotations


class ModuleDocFragment:
    """The attributes of modules."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the calls that it would make without making them.
  diff_mode:
    description: Returns the managed fields before and after when in diff mode.
  idempotent:
    description: Run again with the same options it changes nothing and writes nothing.
"""

    ACTIONGROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/gpuops.eks.aws) in C(module_defaults) to set the AWS options for this module and those of amazon.aws.
    support: full
    membership:
      - gpuops.eks.aws
      - amazon.aws.aws
"""
