# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of options that modules share when they wait for AWS."""

from __future__ import annotations


class ModuleDocFragment:
    """Wait options; the AWS connection options are those of amazon.aws."""

    DOCUMENTATION = r"""
options:
  wait:
    description:
      - Whether to wait until what was changed is there, in the service's own terms.
    type: bool
    default: true
  wait_interval:
    description:
      - Seconds between two looks while waiting.
    type: float
    default: 15.0
requirements:
  - python >= 3.10
  - boto3 >= 1.40.0
  - botocore >= 1.40.0
"""
