# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The nodes of Auto Scaling groups that go, as the cluster has them."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.gpu_nodes import Node
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import NODE, POD, name_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_drain import Leaving, members, refusal
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Run

Nodes = dict[str, tuple[Leaving, ...]]


def leaving_nodes(run: Run, groups: t.Iterable[AutoScalingGroup]) -> tuple[Nodes, list[str]]:
    """(the nodes of groups that go, by group; warnings). The API server is only asked where these groups have instances.

    GpuopsError in its words where it cannot be asked, and where nodes cannot be drained; in check mode that is a warning.
    """
    instances = members(groups)
    if not instances:
        return {}, []
    found: Nodes = {}
    for obj in sorted(run.kubernetes.read_all(NODE), key=name_of):
        group = instances.get(str(obj["spec"].get("providerID")).rpartition("/")[2])
        if group is not None:
            pods = run.kubernetes.read_all(POD, fields=f"spec.nodeName={name_of(obj)}")
            found[group] = (*found.get(group, ()), Leaving.of(Node.from_api(obj), group, pods))
    refused = refusal(node for nodes in found.values() for node in nodes)
    if refused and not run.check_mode:
        raise GpuopsError(refused)
    return found, [f"A run would be refused: {refused}"] if refused else []
