# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: destroy_faults
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Whether a confirmation names exactly the clusters that a run would delete
description:
  - Compares a confirmation with the clusters of a run. A missing and an additional entry are faults.
  - Where the run has one cluster, its bare name is enough.
positional: clusters
options:
  _input:
    description: The confirmation, C(ACCOUNT/REGION/NAME) of each cluster, in a list or in one string with commas or spaces between them.
    type: raw
    required: true
  clusters:
    description: The clusters of the run, each as C(ACCOUNT/REGION/NAME).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Delete nothing that was not named
  ansible.builtin.assert:
    that: gpuops_destroy_confirm | gpuops.eks.destroy_faults(['111122223333/us-west-2/demo']) | length == 0
"""

RETURN = r"""
_value:
  description: A sentence for each fault; empty where the confirmation is right.
  type: list
  elements: str
  sample: ["111122223333/us-west-2/demo would be deleted and is not named"]
"""

import re
import typing as t


def faults(confirmation: t.Any, clusters: t.Sequence[str]) -> list[str]:
    """Return a sentence for each cluster that is not named, and for each name that is no cluster of the run."""
    entries = confirmation if isinstance(confirmation, (list, tuple)) else re.split(r"[\s,]+", str(confirmation or ""))
    named = {str(entry).strip() for entry in entries} - {""}
    wanted = set(clusters)
    if len(wanted) == 1:
        (only,) = wanted
        named = {only if name == only.rpartition("/")[2] else name for name in named}
    missing = [f"{cluster} would be deleted and is not named" for cluster in sorted(wanted - named)]
    return missing + [f"{name} is named and is no cluster of this run" for name in sorted(named - wanted)]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"destroy_faults": faults}
