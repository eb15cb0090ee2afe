# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: differences
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Where a live object is not what a manifest says
description:
  - Looks at the fields of the manifest only, because the API server adds its own. Lists have to be as long as in the manifest.
positional: manifest
options:
  _input:
    description: The live object.
    type: dict
    required: true
  manifest:
    description: The manifest.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Apply a manifest only where the live object differs, so that a run that changes nothing writes nothing
  kubernetes.core.k8s:
    definition: "{{ manifest }}"
  when: live | gpuops.eks.differences(manifest) | length > 0
"""

RETURN = r"""
_value:
  description: Paths of the fields that differ.
  type: list
  elements: str
  sample: [spec.replicas]
"""

import typing as t


def differences(live: t.Any, manifest: t.Any, path: str = "") -> list[str]:
    """Return the paths below which the live object lacks or contradicts the manifest."""
    if isinstance(manifest, t.Mapping):
        if not isinstance(live, t.Mapping):
            return [path or "."]
        return [
            found for key, value in manifest.items() for found in differences(live.get(key), value, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(manifest, (list, tuple)):
        if not isinstance(live, (list, tuple)) or len(live) != len(manifest):
            return [path]
        pairs = enumerate(zip(live, manifest, strict=True))
        return [found for index, (old, new) in pairs for found in differences(old, new, f"{path}[{index}]")]
    return [] if live == manifest else [path]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"differences": differences}
