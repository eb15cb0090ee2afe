# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: manifest_files
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Manifests of Kubernetes objects with the names of files for them
description:
  - Names a file for each manifest, as M(gpuops.eks.gpu_manifests_info) does, for manifests that other tools make.
  - A Secret is refused, because files of manifests are kept in repositories.
options:
  _input:
    description: The manifests.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Name files for manifests
  ansible.builtin.debug:
    msg: "{{ manifests | gpuops.eks.manifest_files | map(attribute='file') }}"
"""

RETURN = r"""
_value:
  description: The files by name, as C(manifests) in the result of M(gpuops.eks.gpu_manifests_info).
  type: list
  elements: dict
  sample:
    - file: kubernetes/kube-system_serviceaccount_cluster-autoscaler.yaml
      content: {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "cluster-autoscaler", "namespace": "kube-system"}}
      planned: []
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import Object
from ansible_collections.gpuops.eks.plugins.module_utils._plan.rendering import in_order, object_file


def manifest_files(manifests: t.Iterable[Object]) -> list[dict[str, t.Any]]:
    """Return a file for each manifest."""
    return [file.to_result() for file in in_order(map(object_file, manifests))]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"manifest_files": manifest_files}
