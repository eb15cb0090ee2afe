# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What belongs to one cluster (add-ons, access entries, Pod Identity associations): tags and ownership by its ARN. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step

Tags = t.Mapping[str, str]

# What EKS says of a role that IAM has just made, and that it cannot see or whose trust it cannot read yet.
ROLE_NOT_READY = (r"^Invalid(Parameter|Request)Exception: .*([Rr]ole.*(does not exist|could not be assumed)|[Tt]rust policy)",)


@dataclass(frozen=True, kw_only=True)
class Marked:
    """How this run marks its resources of one kind: the owner, the component, and whether surplus tags go."""

    owner: Owner
    component: str
    purge_tags: bool = True

    def new(self, tags: Tags | None) -> dict[str, str]:
        """The tags of a create call: the user's and the mark."""
        return {**(tags or {}), **self.owner.tags(self.component)}

    def changes(self, tags: Tags | None, observed: Tags, arn: str) -> tuple[tuple[Step, ...], dict[str, str]]:
        """The calls that make the tags of ``arn`` what they should be, and the tags afterwards.

        Nothing is taken away from a resource that is not ours, nor our own mark from one that is.
        """
        purge = self.purge_tags and self.owner.owns(observed)
        to_set, to_remove = tag_changes(tags, observed, purge=purge, keep=self.owner.tags(self.component))
        steps = []
        if to_set:
            request: dict[str, t.Any] = {"resourceArn": arn, "tags": to_set}
            steps.append(Step(action="eks:TagResource", target=arn, effect="update", fields=("tags",), request=request))
        if to_remove:
            request = {"resourceArn": arn, "tagKeys": to_remove}
            steps.append(Step(action="eks:UntagResource", target=arn, effect="update", fields=("tags",), request=request))
        return tuple(steps), {key: value for key, value in {**observed, **to_set}.items() if key not in to_remove}


def foreign(path: str, name: str, source: str) -> Fault:
    """The fault of changing what somebody else has made."""
    allowed = (
        f"one that this collection made for this cluster (tag {OWNER_TAG}); set adopt: true to change the fields that you set, "
        "nothing else of it is touched and it is never deleted"
    )
    return Fault(path=path, value=name, allowed=allowed, source=source)


def never_deleted(path: str, name: str, source: str) -> Fault:
    """The fault of removing what somebody else has made."""
    allowed = f"one that this collection made for this cluster (tag {OWNER_TAG}); others, adopted or not, have to be removed by their maker"
    return Fault(path=path, value=name, allowed=allowed, source=source)
