# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What the parts of eks_gpu_nodepool, one for each provisioner, get and give."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, planned
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Run

Result = dict[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Context:
    """What was read for all pools of a run.

    ``cluster`` is that of eks:DescribeCluster, None where check mode plans for one that will be. ``subnets`` are those of each pool by its
    name, ``facts`` what EC2 said of the types that the pools name, ``roles`` the ARNs of node roles by the name or ARN that pools give.
    ``names`` are those of all pools of the run, whatever provisions them; ``whole`` says that the cluster should have no others.
    """

    run: Run
    owner: Owner
    cluster: t.Mapping[str, t.Any] | None
    subnets: t.Mapping[str, tuple[Subnet, ...]] = field(default_factory=dict)
    facts: Ec2Facts = field(default_factory=lambda: Ec2Facts(types={}, offerings={}))
    roles: t.Mapping[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    whole: bool = False
    prune: bool = False

    def prunes(self, pool: str | None) -> bool:
        """Whether what was made for a pool of this name, and no pool of the run wants any more, is removed."""
        return self.prune and (pool in self.names or (self.whole and pool is not None))


@dataclass(frozen=True, kw_only=True)
class Part:
    """One provisioner's part: its plan, what stands against it, and the pools as they will be.

    ``removal`` takes away what no pool wants any more; it comes after the plans of all parts. ``closing`` comes before the removals of all
    parts: nothing new comes to what they take away. ``again`` reads and plans both anew, for when their turn has come. ``results`` are
    by the pools' names, as they will be after the plan; ``describe`` reads them again after it was applied. ``leaving`` are pools of which all goes.
    """

    plan: Plan = field(default_factory=Plan)
    closing: Plan = field(default_factory=Plan)
    removal: Plan = field(default_factory=Plan)
    again: t.Callable[[], Part] | None = None
    leaving: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()
    results: t.Mapping[str, Result] = field(default_factory=dict)
    describe: t.Callable[[], t.Mapping[str, Result]] | None = None


def cluster_security_group(context: Context) -> str:
    """The id of the cluster's own security group, which all nodes have; a planned one where the cluster is."""
    network = (context.cluster or {}).get("resourcesVpcConfig", {})
    found: str = network.get("clusterSecurityGroupId") or planned("security-group", f"{context.owner.cluster_name}-cluster")
    return found


def leaving(context: Context, pools: t.Iterable[str | None]) -> frozenset[str]:
    """Those of these pools that left the inventory and are removed."""
    return frozenset(pool for pool in pools if pool is not None and pool not in context.names and context.prunes(pool))


def left_behind(context: Context, pools: t.Iterable[Pool], marked: t.Container[str | None], what: str) -> list[str]:
    """A word on what another provisioner made for these pools, as launch templates that are ``marked`` with their names tell, and nobody removes."""
    return [
        f"Pool {pool.name} still has {what} of its former provisioner, which stay with their nodes; prune: true would remove them."
        for pool in pools
        if pool.name in marked and not context.prunes(pool.name)
    ]


class Provisioner(t.Protocol):
    """How pools of one provisioner are planned. Both read, neither writes."""

    def present(self, context: Context, pools: t.Sequence[Pool]) -> Part:
        """The pools as they should be. Where the context prunes, also asked without a pool, for what it made of pools that are no longer its."""

    def absent(self, context: Context, names: t.Sequence[str]) -> Part:
        """The pools of these names gone, as far as they are this provisioner's."""
