# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: mig_profiles
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The MIG profiles of a GPU
description:
  - What each GPU of an instance type can be divided into, by the collection's catalogue (C(docs/gpu-products.md)). EC2 is not asked.
  - Empty for GPUs without Multi-Instance GPU. A GPU that the catalogue does not have is an error, which names those that it has.
options:
  _input:
    description:
      - An instance type (V(p4d.24xlarge)), an instance family (V(p4d)), a product of the catalogue (V(a100-40)), or the value of the node label
        C(nvidia.com/gpu.product).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what each GPU of p5.48xlarge can be divided into
  ansible.builtin.debug:
    msg: "{{ 'p5.48xlarge' | gpuops.eks.mig_profiles | map(attribute='name') }}"
"""

RETURN = r"""
_value:
  description: The profiles, smallest first.
  type: list
  elements: dict
  sample:
    - {name: 1g.5gb, count: 7, memory_gb: 5, memory_slices: 1, compute_slices: 1, starts: [0, 1, 2, 3, 4, 5, 6], verified: true}
    - {name: 7g.40gb, count: 1, memory_gb: 40, memory_slices: 8, compute_slices: 7, starts: [0], verified: true}
  contains:
    name:
      description: Name of the profile, as in the option C(mig.layout) of a pool.
      type: str
    count:
      description: How many instances of it one GPU takes.
      type: int
    memory_gb:
      description: Nominal memory of an instance; the driver keeps some of it.
      type: int
    memory_slices:
      description: Memory slices that an instance takes.
      type: int
    compute_slices:
      description: Compute slices that an instance takes.
      type: int
    starts:
      description: Memory slices at which an instance can begin.
      type: list
      elements: int
    verified:
      description: False where the profile is known from documentation only.
      type: bool
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS, product_of
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES, UNVERIFIED


def mig_profiles(gpu: str) -> list[dict[str, t.Any]]:
    """Return the profiles of one GPU."""
    known = product_of(gpu)
    if known is None:
        raise AnsibleFilterError(f"mig_profiles: {gpu!r} is none of the GPUs that are known: an instance type or one of {', '.join(GPUS)}")
    profiles = sorted(PROFILES.get(known.key, {}).values(), key=lambda profile: (profile.compute, profile.size))
    return [
        {
            "name": profile.name,
            "count": profile.most,
            "memory_gb": profile.memory_gb,
            "memory_slices": profile.size,
            "compute_slices": profile.compute,
            "starts": list(profile.starts),
            "verified": known.key not in UNVERIFIED,
        }
        for profile in profiles
    ]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"mig_profiles": mig_profiles}
