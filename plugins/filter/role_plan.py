# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: role_plan
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: What amazon.aws.iam_role does to a role, as steps of a plan
description:
  - M(amazon.aws.iam_role) does not return the calls that it makes, and in check mode returns nothing for a role that does not exist yet. This
    filter compares what M(amazon.aws.iam_role_info) found with what is wanted.
options:
  _input:
    description:
      - Results of M(amazon.aws.iam_role_info) in a loop over the roles that are wanted.
      - Each item has C(name), C(policies) (ARNs of managed policies), C(tags) and C(trust) (the trust policy), and may have C(boundary) (ARN of its
        permissions boundary) and C(policy) (a policy of its own, as a document).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Look at the roles
  amazon.aws.iam_role_info:
    name: "{{ item.name }}"
  loop: "{{ wanted }}"
  register: found

- name: Say what would be done
  ansible.builtin.debug:
    msg: "{{ found.results | gpuops.eks.role_plan }}"
"""

RETURN = r"""
_value:
  description: Steps, in the shape of C(plan) in the results of the collection's modules.
  type: list
  elements: dict
  sample:
    - action: iam:CreateRole
      target: planned:role/demo-us-west-2-nodes
      effect: create
      fields: []
      reason: it does not exist
"""

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.names import tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Effect, Step, planned

Role = t.Mapping[str, t.Any]


def role_plan(results: t.Sequence[t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """Return the calls that make the roles what is wanted; what they have besides stays."""
    return [step.to_dict() for result in results for step in _steps(result["iam_roles"], result["item"])]


def _steps(found: t.Sequence[Role], wanted: Role) -> list[Step]:
    return _update(found[0], wanted) if found else _create(wanted)


def _create(wanted: Role) -> list[Step]:
    target = planned("role", wanted["name"])
    create = Step(action="iam:CreateRole", target=target, effect="create", reason="it does not exist")
    own = [Step(action="iam:PutRolePolicy", target=target, effect="create", fields=("policy",))] if wanted.get("policy") else []
    return [create, *(_attach(target, policy, "create") for policy in wanted["policies"]), *own]


def _attach(target: str, policy: str, effect: Effect) -> Step:
    return Step(action="iam:AttachRolePolicy", target=target, effect=effect, fields=("managed_policies",), reason=policy.rpartition("/")[2])


def _update(found: Role, wanted: Role) -> list[Step]:
    steps = []
    if found.get("assume_role_policy_document") != wanted["trust"]:
        steps.append(
            Step(action="iam:UpdateAssumeRolePolicy", target=found["arn"], effect="update", fields=("assume_role_policy_document",))
        )
    if any((found.get("tags") or {}).get(key) != value for key, value in tag_texts(wanted["tags"]).items()):
        steps.append(Step(action="iam:TagRole", target=found["arn"], effect="update", fields=("tags",)))
    boundary = (found.get("permissions_boundary") or {}).get("permissions_boundary_arn")
    if wanted.get("boundary") and wanted["boundary"] != boundary:
        steps.append(Step(action="iam:PutRolePermissionsBoundary", target=found["arn"], effect="update", fields=("boundary",)))
    attached = {policy["policy_arn"] for policy in found.get("managed_policies") or ()}
    return [*steps, *(_attach(found["arn"], policy, "update") for policy in wanted["policies"] if policy not in attached)]


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"role_plan": role_plan}
