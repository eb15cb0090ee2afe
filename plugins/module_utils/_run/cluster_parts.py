# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What the jobs share that manage parts of one cluster (add-ons, access entries, Pod Identity associations)."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Run

MISSING = ("ResourceNotFoundException",)
_READY = ("ACTIVE", "UPDATING")


@dataclass(frozen=True, kw_only=True)
class Place:
    """The cluster, None where check mode plans for one that will be, and whose mark its parts carry."""

    owner: Owner
    cluster: t.Mapping[str, t.Any] | None

    @property
    def warnings(self) -> tuple[str, ...]:
        name = self.owner.cluster_name
        return () if self.cluster else (f"Cluster {name} is not there yet: this is planned for the cluster that will be.",)


def place(run: Run) -> Place:
    """Where the parts are to be made; GpuopsError where the cluster is not there or not active, in a real run."""
    name, cluster = run.params["cluster_name"], run.cluster
    if run.check_mode and (cluster is None or cluster["status"] == "DELETING"):
        return Place(owner=run.owner(name), cluster=None)
    if cluster is None:
        hint = "Make it first: gpuops.eks.eks_cluster, or role gpuops.eks.eks_cluster."
        raise GpuopsError(f"EKS cluster {name} does not exist in {run.region}.", hint=hint)
    if cluster["status"] not in _READY and not run.check_mode:
        raise GpuopsError(f"EKS cluster {name} is {cluster['status']}; it has to be ACTIVE.", hint="Run again when it is.")
    return Place(owner=Owner.from_arn(cluster["arn"]), cluster=cluster)


def place_to_clear(run: Run) -> Place | None:
    """Where the parts are to be removed; None where the cluster is gone or goes, and its parts with it."""
    cluster = run.cluster
    if cluster is None or cluster["status"] == "DELETING":
        return None
    return Place(owner=Owner.from_arn(cluster["arn"]), cluster=cluster)


def described(api: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """A service's description in snake case, with the keys of tags untouched and times as text."""
    snake: dict[str, t.Any] = camel_dict_to_snake_dict(_plain(api), ignore_list=["tags"])
    return snake


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, t.Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
