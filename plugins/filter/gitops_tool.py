# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gitops_tool
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: The tool that keeps a Kubernetes object as its repository has it
description:
  - Argo CD and Flux mark what they apply with annotations or labels, and take back what others change of it.
options:
  _input:
    description: The object, as the API server has it.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Leave alone what Argo CD or Flux keeps
  ansible.builtin.debug:
    msg: "{{ deployment.metadata.name }} is kept by {{ deployment | gpuops.eks.gitops_tool }}"
  when: deployment | gpuops.eks.gitops_tool is not none
"""

RETURN = r"""
_value:
  description: C(Argo CD) or C(Flux); none for an object that neither keeps.
  type: str
  sample: Argo CD
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import gitops_tool


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"gitops_tool": gitops_tool}
