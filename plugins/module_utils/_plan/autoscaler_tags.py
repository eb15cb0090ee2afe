# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What cluster-autoscaler has to know of a group's nodes before there is one, as tags. Pure.

Source: kubernetes/autoscaler, cluster-autoscaler/cloudprovider/aws (README; aws_manager.go: buildNodeFromTemplate, extractLabelsFromAsg,
extractTaintsFromAsg, extractAllocatableResourcesFromAsg, GetAsgOptions) and utils/gpu (node readiness by label).
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import ACCELERATOR_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_DISK_GIB, Pool, Taint

PREFIX = "k8s.io/cluster-autoscaler/"
TEMPLATE_PREFIX = f"{PREFIX}node-template/"
RESOURCES_PREFIX = f"{TEMPLATE_PREFIX}resources/"
UNNEEDED_TIME_TAG = f"{TEMPLATE_PREFIX}autoscaling-options/scaledownunneededtime"
MAX_KEY, MAX_VALUE = 128, 256  # Auto Scaling API Reference, Tag
# The autoscaler's metrics know these by another name; any value makes it wait for a node's GPUs.
_TESLA = frozenset({"k80", "p100", "v100", "t4", "a100"})
# An unneeded time that never ends: the autoscaler takes a duration of Go.
_NEVER = "87600h"
_HARDEST = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def accelerator_label(pool: Pool, instance: InstanceType | None) -> dict[str, str]:
    """The label by which the autoscaler waits until a Ready node shows its GPUs, instead of ordering another.

    Only where nodes advertise nvidia.com/gpu: with the label, a node of which every GPU has another name (shared and renamed, MIG mixed)
    would be unready for ever (kubernetes/autoscaler#8095, #4315).
    """
    if instance is None or not instance.gpu_model or not pool.nvidia or not pool.gpu_resources.per_gpu():
        return {}
    model = instance.gpu_model
    return {ACCELERATOR_LABEL: f"nvidia-tesla-{model}" if model in _TESLA else f"nvidia-{model}"}


def discovery_tags(cluster_name: str) -> dict[str, str]:
    """By these the autoscaler finds the groups of its cluster. EKS sets them on the groups of managed node groups."""
    return {f"{PREFIX}enabled": "true", f"{PREFIX}{cluster_name}": "owned"}


def template_tags(pool: Pool, gpu_count: int, *, instance: InstanceType | None, cluster_name: str | None = None) -> dict[str, str]:
    """The tags of a group with this many physical GPUs per node; ``instance`` is its first type, by which the autoscaler judges it.

    With ``cluster_name`` those by which it finds the group as well. A startup taint is not among them: it is gone when pods come.
    """
    labels = {**pool.wanted_labels, **accelerator_label(pool, instance)}
    tags = discovery_tags(cluster_name) if cluster_name else {}
    tags |= {f"{TEMPLATE_PREFIX}label/{key}": value for key, value in labels.items()}
    tags |= {f"{TEMPLATE_PREFIX}taint/{taint.key}": f"{taint.value}:{taint.effect}" for taint in _softest_first(pool.created_taints)}
    tags |= {f"{RESOURCES_PREFIX}{name}": quantity for name, quantity in _resources(pool, gpu_count, instance).items()}
    if (after := unneeded_time(pool)) is not None:
        tags[UNNEEDED_TIME_TAG] = after
    return tags


def unneeded_time(pool: Pool) -> str | None:
    """How long a node has to be unneeded before the autoscaler takes it away, as the autoscaler reads it from a tag; None where that is not set."""
    after = pool.disruption.consolidate_after
    return _NEVER if after == "Never" else after


def unfit_tags(tags: t.Mapping[str, str]) -> list[str]:
    """Keys of tags that AWS does not take, because they or their values are too long."""
    return sorted(key for key, value in tags.items() if len(key) > MAX_KEY or len(value) > MAX_VALUE)


def _softest_first(taints: t.Sequence[Taint]) -> list[Taint]:
    """A key can be tagged once: of several effects the hardest comes last and stays."""
    return sorted(taints, key=lambda taint: -_HARDEST.index(taint.effect))


def _resources(pool: Pool, gpu_count: int, instance: InstanceType | None) -> dict[str, str]:
    """What a node has besides vCPUs and memory, which the autoscaler knows from the type.

    nvidia.com/gpu is said also where it is 0: the autoscaler otherwise counts the type's physical GPUs.
    """
    resources = {"ephemeral-storage": f"{pool.disk.size_gib or DEFAULT_DISK_GIB}Gi"}
    if pool.nvidia:
        resources |= {name: str(count) for name, count in sorted(pool.gpu_resources.advertised(gpu_count).items())}
    if pool.efa and instance is not None and instance.efa_interfaces:
        resources["vpc.amazonaws.com/efa"] = str(instance.efa_interfaces)
    return resources
