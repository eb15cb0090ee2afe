# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: mig_layout
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Divide GPUs into wanted MIG instances
description:
  - Finds a place for each wanted instance on one or several GPUs of a kind, by exact search over the placements that the hardware allows, and
    says what is left over. Where not all of it fits, as many compute slices as can be had are placed.
  - A profile that the GPU does not have is an error, because no number of GPUs would help.
positional: gpu, gpus
options:
  _input:
    description: Wanted instances by profile.
    type: dict
    required: true
  gpu:
    description:
      - An instance type (V(p4d.24xlarge)), an instance family (V(p4d)), a product of the catalogue (V(a100-40)), or the value of the node label
        C(nvidia.com/gpu.product).
    type: str
    required: true
  gpus:
    description: Number of GPUs. By default that of the instance type; 1 where O(gpu) is not an instance type.
    type: int
"""

EXAMPLES = r"""
- name: See whether 20 small and 4 large instances fit on one p4d.24xlarge
  ansible.builtin.debug:
    msg: "{{ {'1g.5gb': 20, '3g.20gb': 4} | gpuops.eks.mig_layout('p4d.24xlarge') }}"

- name: Stop where something does not fit on one H100
  ansible.builtin.assert:
    that: not (wanted | gpuops.eks.mig_layout('h100')).left
  vars:
    wanted: {3g.40gb: 2, 1g.10gb: 1}
"""

RETURN = r"""
_value:
  description: Where the instances are, and what is left over.
  type: dict
  sample:
    product: NVIDIA-A100-SXM4-40GB
    gpus:
      - layout: {3g.20gb: 1, 1g.5gb: 2}
        placements: [{profile: 3g.20gb, start: 4, slices: 4}, {profile: 1g.5gb, start: 3, slices: 1}, {profile: 1g.5gb, start: 2, slices: 1}]
        free: [0, 1]
    layout: {3g.20gb: 1, 1g.5gb: 2}
    left: {}
  contains:
    product:
      description: The GPU, as the node label C(nvidia.com/gpu.product) has it.
      type: str
    gpus:
      description: One entry for each GPU, with its C(layout), the C(placements) of its instances, and the memory slices that stay C(free).
      type: list
      elements: dict
    layout:
      description: The layout of every GPU, as a pool's option C(mig.layout) takes it; null where they differ.
      type: dict
    left:
      description: Instances by profile for which there is no place.
      type: dict
"""

import typing as t
from collections import Counter

from ansible.errors import AnsibleFilterError
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS, Gpu, product_of
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import GPU_FAMILIES, family_of, size_of
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES, Packing, divide, misfit


def mig_layout(wanted: t.Mapping[str, t.Any], gpu: str, gpus: int | None = None) -> dict[str, t.Any]:
    """Return the placements on each GPU and what is left over."""
    known = _known(gpu)
    counts = {profile: _count(profile, number) for profile, number in wanted.items()}
    if reason := misfit(known.key, dict.fromkeys((profile for profile in counts if profile not in PROFILES.get(known.key, {})), 1)):
        raise AnsibleFilterError(f"mig_layout: {reason}")
    packings = divide(known.key, counts, _gpus(gpu) if gpus is None else _count("gpus", gpus))
    rows = [_row(known.key, packing) for packing in packings]
    layouts = [row["layout"] for row in rows]
    return {
        "product": known.product,
        "gpus": rows,
        "layout": layouts[0] if all(layout == layouts[0] for layout in layouts) else None,
        "left": dict(packings[0].left),
    }


def _known(gpu: str) -> Gpu:
    if (known := product_of(gpu)) is None:
        raise AnsibleFilterError(f"mig_layout: {gpu!r} is none of the GPUs that are known: an instance type or one of {', '.join(GPUS)}")
    return known


def _count(name: str, number: t.Any) -> int:
    if isinstance(number, bool) or not str(number).isdigit() or not int(number):
        raise AnsibleFilterError(f"mig_layout: {name}: {number!r} is no number of at least 1")
    return int(number)


def _gpus(gpu: str) -> int:
    """A part of a GPU, of which EC2 counts 0, is one device."""
    family = GPU_FAMILIES.get(family_of(gpu))
    return max(1, family.sizes.get(size_of(gpu), 1)) if family else 1


def _row(key: str, packing: Packing) -> dict[str, t.Any]:
    return {
        "layout": dict(Counter(profile for profile, _start in packing.placed)),
        "placements": [{"profile": name, "start": start, "slices": PROFILES[key][name].size} for name, start in packing.placed],
        "free": list(packing.free),
    }


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"mig_layout": mig_layout}
