# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_faults
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Everything that is wrong with an inventory
description:
  - Checks the variables of a host against the collection's variable model before anything is asked of AWS or Kubernetes.
  - Finds unknown names that look like the collection's, missing values, wrong types, values that are not allowed, and values that do not go
    together.
positional: roles
options:
  _input:
    description: Names and values of the host's variables. Names that have nothing to do with the collection are not looked at.
    type: dict
    required: true
  roles:
    description: The roles whose variables are looked at, by short or full name, such as C(ansible_play_role_names).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Refuse an inventory with faults
  ansible.builtin.assert:
    that: faults | length == 0
    fail_msg: "{{ faults | map(attribute='message') | list }}"
  vars:
    names: "{{ query('ansible.builtin.varnames', '^(eks|gpu)') }}"
    values: "{{ query('ansible.builtin.vars', *names) }}"
    faults: "{{ dict(names | zip(values)) | gpuops.eks.inventory_faults(ansible_play_role_names) }}"
"""

RETURN = r"""
_value:
  description: The faults, in the order of the variables.
  type: list
  elements: dict
  sample:
    - path: gpu_nodepools[1].sharing.replicas
      value: 1
      allowed: an integer of at least 2; leave sharing out to give whole GPUs
      source: "NVIDIA k8s-device-plugin, api/config/v1/replicas.go: number of replicas must be >= 2"
      message: "gpu_nodepools[1].sharing.replicas: 1; allowed: an integer of at least 2; leave sharing out to give whole GPUs (…)"
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.inventory import inventory_faults


def faults(variables: t.Mapping[str, t.Any], roles: t.Sequence[str]) -> list[dict[str, t.Any]]:
    """Return the faults as dictionaries, each with its sentence."""
    return [{**fault.to_dict(), "message": str(fault)} for fault in inventory_faults(variables, list(roles))]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"inventory_faults": faults}
