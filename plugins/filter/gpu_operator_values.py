# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_operator_values
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Values of the GPU Operator's Helm chart for pools on EKS
description:
  - Values for the pools with C(sharing.backend=gpu_operator). Driver and container toolkit are those of EKS's images; the device plugin has a
    configuration for each pool, and MIG manager a layout for each pool with C(mig).
  - MIG manager may reboot nodes where all pools with C(mig) are groups of one size, and is off where no pool has C(mig).
  - Values that the chart would take without a word and ignore, and those that do not work on EKS's images, are refused.
positional: values
options:
  _input:
    description: The pools, as in O(gpuops.eks.eks_gpu_nodepool#module:pools).
    type: list
    elements: dict
    required: true
  values:
    description: Values that are put over them, dictionaries deep, lists replaced.
    type: dict
    default: {}
  every_key:
    description: Whether keys are refused that version v26.7.0 of the chart does not know.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Install the GPU Operator for pools of mine
  kubernetes.core.helm:
    name: gpu-operator
    release_namespace: gpu-operator
    chart_repo_url: https://helm.ngc.nvidia.com/nvidia
    chart_ref: gpu-operator
    release_values: "{{ gpu_nodepools | gpuops.eks.gpu_operator_values({'dcgmExporter': {'enabled': false}}) }}"
"""

RETURN = r"""
_value:
  description: The values.
  type: dict
  sample:
    driver: {enabled: false}
    toolkit: {enabled: false}
    mig: {strategy: single}
    migManager: {enabled: false}
    devicePlugin:
      config: {create: true, name: gpuops-device-plugin, default: default, data: {default: "version: \"v1\"\n"}}
    dcgmExporter: {serviceMonitor: {enabled: false}}
    daemonsets: {tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]}
    node-feature-discovery: {worker: {tolerations: [{key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}]}}
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpuops.eks.plugins.filter.pool_tolerations import tolerations
from ansible_collections.gpuops.eks.plugins.module_utils._errors import InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_operator import (
    has_stock_images,
    operator_pools,
    operator_values,
    pools_faults,
    values_faults,
)

Pools = list[dict[str, t.Any]]


def gpu_operator_values(pools: Pools, values: dict[str, t.Any] | None = None, every_key: bool = True) -> dict[str, t.Any]:
    """Return the values; AnsibleFilterError with every fault at once."""
    given = values or {}
    faults = values_faults(given, "values", every_key=every_key, stock_images=has_stock_images(pools))
    faults += pools_faults(pools, "pools")
    if faults:
        raise AnsibleFilterError(str(InvalidInput(faults)))
    return operator_values(pools, tolerations(operator_pools(pools)), given)


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"gpu_operator_values": gpu_operator_values}
