# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: manifest_steps
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: What applying or deleting manifests changes, as steps of a plan
description:
  - M(kubernetes.core.k8s) in check mode asks the API server for a dry run of each manifest. This filter says what that means, in the words of the API
    server's audit log.
positional: results, verb
options:
  _input:
    description: The manifests.
    type: list
    elements: dict
    required: true
  results:
    description: Results of M(kubernetes.core.k8s), one for each manifest. Not given where there is no cluster to ask, so that all are new.
    type: list
    elements: dict
  verb:
    description: What is done with each; V(delete) for M(kubernetes.core.k8s) with C(state=absent).
    type: str
    choices: [patch, delete]
    default: patch
"""

EXAMPLES = r"""
- name: Ask for a dry run
  kubernetes.core.k8s:
    definition: "{{ manifests }}"
    apply: true
    server_side_apply: {field_manager: gpuops.eks, force_conflicts: true}
  check_mode: true
  register: dry_run

- name: Say what would be done
  ansible.builtin.debug:
    msg: "{{ manifests | gpuops.eks.manifest_steps(dry_run.result.results) }}"
"""

RETURN = r"""
_value:
  description: Steps, in the shape of C(plan) in the results of the collection's modules; none for manifests that change nothing.
  type: list
  elements: dict
  sample:
    - action: kubernetes:patch deployments.apps
      target: kube-system/cluster-autoscaler
      effect: create
      fields: []
      reason: ""
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import Kind, Object, target_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Effect, Step


def manifest_steps(manifests: t.Sequence[Object], results: t.Sequence[Object] | None = None, verb: str = "patch") -> list[dict[str, t.Any]]:
    """Return one step for each manifest that makes, changes or deletes something."""
    if results is None:
        return [_step(manifest, verb, "create") for manifest in manifests]
    pairs = zip(manifests, results, strict=True)
    return [_step(manifest, verb, "delete" if verb == "delete" else _effect(result)) for manifest, result in pairs if result["changed"]]


def _effect(result: Object) -> Effect:
    """What a dry run makes has no version; what it changes has that of what is there."""
    return "update" if result["result"]["metadata"].get("resourceVersion") else "create"


def _step(manifest: Object, verb: str, effect: Effect) -> dict[str, t.Any]:
    api_version, kind = manifest["apiVersion"], manifest["kind"]
    resource = Kind(api_version=api_version, kind=kind, plural=f"{kind.lower()}s").resource
    return Step(action=f"kubernetes:{verb} {resource}", target=target_of(manifest), effect=effect).to_dict()


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"manifest_steps": manifest_steps}
