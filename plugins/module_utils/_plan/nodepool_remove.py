# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Node groups that go, and their launch templates. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import is_busy, subject
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import template_name
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait


def remove(groups: t.Sequence[Nodegroup], templates: t.Sequence[LaunchTemplate], owner: Owner, *, replaced: t.Container[str] = ()) -> Plan:
    """The node groups deleted side by side, then the launch templates, each when the group that it belongs to is gone.

    ``replaced`` are names of groups whose place others have taken.
    EKS deletes no group that it still creates or updates (ResourceInUseException): those come after the others, each when it has settled.
    """
    gone = {there.name: Wait(waiter="nodegroup_deleted", arguments=subject(owner, there.name)) for there in groups}
    deletes = [
        Step(
            action="eks:DeleteNodegroup",
            target=there.name,
            effect="replace" if there.name in replaced else "delete",
            request=subject(owner, there.name),
            needs=(Wait(waiter="nodegroup_settled", arguments=subject(owner, there.name)),) if is_busy(there) else (),
        )
        for there in sorted(groups, key=is_busy)
        if there.status != "DELETING"
    ]
    by_template = {template_name(owner, name): wait for name, wait in gone.items()}
    deletes += [
        Step(
            action="ec2:DeleteLaunchTemplate",
            target=template.id,
            effect="delete",
            request={"LaunchTemplateId": template.id},
            needs=(by_template[template.name],) if template.name in by_template else (),
        )
        for template in templates
    ]
    covered = {template.name for template in templates}
    waits = tuple(wait for name, wait in by_template.items() if name not in covered)
    before = {there.name: {"status": there.status} for there in groups}
    return Plan(steps=tuple(deletes), waits=waits, before=before, after={})
