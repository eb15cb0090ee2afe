# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What is wrong with the policies of a pool's own role. Pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import section

POLICY_ARN = re.compile(r"arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/[\w+=,.@/-]+")
_MOST = 16  # of the 20 managed policies that a role can have, four are those that every node needs
_QUOTAS = "IAM user guide, IAM and AWS STS quotas"
_RULES = "the collection's options"


def policy_faults(pool: t.Mapping[str, t.Any], path: str) -> list[Fault]:
    """Policies are of a role that is made for the pool, so that they go with none of the user's; for values of any type."""
    iam, where = section(pool, "iam"), join(path, "iam.policies")
    given = iam.get("policies")
    policies = given if isinstance(given, (list, tuple)) else []
    faults = []
    for index, policy in enumerate(policies):
        if isinstance(policy, str) and not POLICY_ARN.fullmatch(policy):
            allowed = "the ARN of a managed policy, such as arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
            faults.append(Fault(path=f"{where}[{index}]", value=policy, allowed=allowed, source="IAM API Reference, AttachRolePolicy"))
        elif policy in policies[:index]:
            faults.append(Fault(path=f"{where}[{index}]", value=policy, allowed="each policy once", source=_RULES))
    if len(policies) > _MOST:
        faults.append(
            Fault(path=where, value=len(policies), allowed=f"at most {_MOST} policies besides those of every node", source=_QUOTAS)
        )
    others = [f"iam.{name}" for name in ("node_role", "instance_profile") if iam.get(name)] + (["adopt"] if pool.get("adopt") else [])
    if policies and others:
        allowed = f"unset with {others[0]}: they are for a role that is made for the pool; attach them to the role that there is"
        faults.append(Fault(path=where, value=list(policies), allowed=allowed, source=_RULES))
    return faults
