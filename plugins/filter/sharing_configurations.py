# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: sharing_configurations
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The device plugin configurations that pools need
positional: flags
description:
  - Each pool has a configuration of its own, which its nodes name in the label C(nvidia.com/device-plugin.config). It is named after the pool;
    a name longer than 40 characters is cut and ends in a hash.
  - Pools with C(ami.family=bottlerocket) need none, because Bottlerocket contains a device plugin, and those with
    C(sharing.backend=gpu_operator) none either, because the GPU Operator brings one.
options:
  _input:
    description: The pools, as in O(gpuops.eks.eks_gpu_nodepool#module:pools). Pools without GPUs need none.
    type: list
    elements: dict
    required: true
  flags:
    description: The plugin's C(flags) block for each of them, as in O(gpuops.eks.nvidia_device_plugin#module:configurations[].flags).
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Run the device plugin as the pools need it
  gpuops.eks.nvidia_device_plugin:
    cluster_name: demo
    configurations: "{{ gpu_nodepools | gpuops.eks.sharing_configurations }}"
"""

RETURN = r"""
_value:
  description: The configurations, as O(gpuops.eks.nvidia_device_plugin#module:configurations) takes them.
  type: list
  elements: dict
  sample:
    - name: inference
      sharing: {strategy: time_slicing, replicas: 10, rename: false, fail_requests_greater_than_one: true}
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing, configuration_name

_OTHER_BACKENDS = ("bottlerocket", "gpu_operator")


def configurations(pools: t.Sequence[t.Mapping[str, t.Any]], flags: t.Mapping[str, t.Any] | None = None) -> list[dict[str, t.Any]]:
    """Return the configuration of each pool, in the order of the pools, with the flags that all have."""
    return [{**_configuration(pool), **({"flags": dict(flags)} if flags else {})} for pool in pools if _runs_plugin(pool)]


def _configuration(pool: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    found = {"name": configuration_name(pool["name"]), "sharing": _options(Sharing.from_params(pool.get("sharing")))}
    return {**found, "mig": dict(pool["mig"])} if pool.get("mig") else found


def _runs_plugin(pool: t.Mapping[str, t.Any]) -> bool:
    """Whether its nodes have GPUs and nothing else brings a device plugin."""
    brought = (pool.get("ami") or {}).get("family") == "bottlerocket" or (pool.get("sharing") or {}).get("backend") in _OTHER_BACKENDS
    return (pool.get("accelerator") or "nvidia") == "nvidia" and not brought


def _options(sharing: Sharing) -> dict[str, t.Any]:
    if sharing.strategy == "none":
        return {"strategy": "none"}
    return {
        "strategy": sharing.strategy,
        "replicas": sharing.replicas,
        "rename": sharing.rename,
        "fail_requests_greater_than_one": sharing.fail_requests_greater_than_one,
    }


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"sharing_configurations": configurations}
