# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a node group cannot change, and the group that takes its place. Pure.

A wanted group can have one of two names, so that the new one is made while the old one still runs; which of the two it has is seen from what is
there, and stays until a change needs the other one again.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, short_name
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import ami_type, is_half_made
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import NAME_LIMIT, WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import is_planned

_OTHER = "b"


def is_ours(nodegroup: Nodegroup, pool: Pool, owner: Owner) -> bool:
    """Whether a node group was made for this pool by us."""
    return owner.owns(nodegroup.tags) and nodegroup.tags.get(NODEPOOL_TAG) == pool.name


def immutable(group: WantedGroup, there: Nodegroup) -> dict[str, tuple[t.Any, str]]:
    """What the user set and this group cannot become: (wanted, what it has) by option. Nothing of a group that is left no node."""
    if group.emptied:
        return {}
    pool, role = group.pool, group.pool.node_role
    unfit = [name for name in there.instance_types if name not in group.fitting]
    subnets = set(group.subnet_ids)
    fixed_subnets = bool(pool.subnets or pool.zones) and not any(is_planned(subnet) for subnet in subnets)
    differs = {
        "ami.family": (pool.ami_family, there.ami_type) if pool.ami_family and ami_type(group) != there.ami_type else None,
        "ami": (True, there.ami_type) if pool.ami.custom and there.ami_type != "CUSTOM" else None,
        "iam.node_role": (role, there.node_role) if role and not is_planned(role) and not _has_role(there, role) else None,
        "instances": (list(group.instance_types), ", ".join(there.instance_types)) if unfit else None,
        "network.subnets": (sorted(subnets), ", ".join(there.subnets)) if fixed_subnets and subnets != set(there.subnets) else None,
    }
    return {name: pair for name, pair in differs.items() if pair is not None}


def _has_role(there: Nodegroup, given: str) -> bool:
    """Whether a group has this role, which is given by name or ARN. A name is one role of the account, whatever its path."""
    return there.node_role == given or there.node_role.rpartition("/")[2] == given


def settle(group: WantedGroup, nodegroups: t.Mapping[str, Nodegroup], owner: Owner, *, allow_replacement: bool) -> WantedGroup:
    """The group under the name that it has or gets.

    That is the one of ours that can become what is wanted. Where there is none and ``allow_replacement``, the group gets the name that the one
    which is there does not have, and replaces it.
    """
    names = (group.name, short_name(group.name, _OTHER, limit=NAME_LIMIT))
    found = [
        there for name in names if (there := nodegroups.get(name)) and is_ours(there, group.pool, owner) and there.status != "DELETING"
    ]
    sound = [there for there in found if not is_half_made(there)]
    fitting = [there for there in sound if not immutable(group, there)]
    name = next((there.name for there in (*fitting, *sound, *found)), group.name)
    if not allow_replacement:
        return dataclasses.replace(group, name=name)
    if sound and not fitting:
        other = names[1 - names.index(name)]
        return dataclasses.replace(_as_large(group, sound[0]), name=other, replaces=(name,))
    return dataclasses.replace(group, name=name, replaces=tuple(one for one in names if one != name))


def _as_large(group: WantedGroup, there: Nodegroup) -> WantedGroup:
    """The group with as many nodes as the one that it replaces, as far as the user set no other number."""
    scaling = group.pool.scaling
    least = there.min if scaling.min is None else group.min
    most = group.max if group.manages_max else max(least, there.max)
    desired = there.desired if scaling.desired is None else group.desired
    return dataclasses.replace(group, min=least, max=most, desired=max(least, min(desired, most)))


def is_made(group: WantedGroup, there: Nodegroup | None) -> bool:
    """Whether the group is made anew: it is not there, goes, never came up, or what has its name cannot become what is wanted."""
    if there is None or there.status == "DELETING" or is_half_made(there):
        return True
    return bool(group.replaces) and bool(immutable(group, there))
