# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pool_tolerations
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The tolerations that something needs to run on every GPU node
description:
  - One toleration for each taint of the pools with GPUs. The taint C(nvidia.com/gpu) of effect C(NoSchedule) is left out, because the
    device plugin tolerates it anyway.
options:
  _input:
    description: The pools, as in O(gpuops.eks.eks_gpu_nodepool#module:pools).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Run the device plugin on nodes with taints of their own too
  gpuops.eks.nvidia_device_plugin:
    cluster_name: demo
    configurations: "{{ gpu_nodepools | gpuops.eks.sharing_configurations }}"
    tolerations: "{{ gpu_nodepools | gpuops.eks.pool_tolerations }}"
"""

RETURN = r"""
_value:
  description: The tolerations, as O(gpuops.eks.nvidia_device_plugin#module:tolerations) takes them.
  type: list
  elements: dict
  sample:
    - key: team
      operator: Exists
      effect: NoSchedule
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE

_TOLERATED = (GPU_RESOURCE, "NoSchedule")


def tolerations(pools: t.Sequence[t.Mapping[str, t.Any]]) -> list[dict[str, str]]:
    """Return one toleration for each key and effect, in the order of the pools; of startup taints too, as what removes one may wait for GPUs."""
    nvidia = [pool for pool in pools if (pool.get("accelerator") or "nvidia") == "nvidia"]
    taints = [taint for pool in nvidia for name in ("taints", "startup_taints") for taint in pool.get(name) or ()]
    needed = dict.fromkeys((taint["key"], taint["effect"]) for taint in taints)
    return [{"key": key, "operator": "Exists", "effect": effect} for key, effect in needed if (key, effect) != _TOLERATED]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"pool_tolerations": tolerations}
