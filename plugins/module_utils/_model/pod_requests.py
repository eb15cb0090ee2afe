# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a pod takes of a node, by the scheduler's rules, and what it mounts. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.quantity import counts

Counts = dict[str, int]


def effective_requests(spec: t.Mapping[str, t.Any], prefix: str) -> Counts:
    """Resources below ``prefix`` that a pod with this spec takes: the larger of its containers together and of its start, plus overhead.

    Sidecars (init containers with restartPolicy Always) run beside the containers and beside the init containers after them; the other
    init containers run one at a time. Requests of the whole pod (spec.resources) stand for those of its containers where they are set.
    Source: k8s.io/component-helpers/resource PodRequests; Kubernetes documentation, Sidecar Containers and Pod Overhead.
    """
    sidecars: Counts = {}
    start: Counts = {}
    for container in spec.get("initContainers") or ():
        asked = _asked(container, prefix)
        start = _largest(start, _sum(sidecars, asked))
        if container.get("restartPolicy") == "Always":
            sidecars = _sum(sidecars, asked)
    running = sidecars
    for container in spec.get("containers") or ():
        running = _sum(running, _asked(container, prefix))
    total = {**_largest(running, start), **_asked(spec, prefix)}
    total = _sum(total, counts(spec.get("overhead"), prefix))
    return {name: number for name, number in total.items() if number}


def mounts_at(spec: t.Mapping[str, t.Any], path: str) -> bool:
    """Whether a container of a pod with this spec has a volume mounted at this path."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return any(mount.get("mountPath", "").rstrip("/") == path for container in containers for mount in container.get("volumeMounts") or ())


def _asked(holder: t.Mapping[str, t.Any], prefix: str) -> Counts:
    """Requests; where only a limit is set, it is the request too."""
    resources = holder.get("resources") or {}
    return {**counts(resources.get("limits"), prefix), **counts(resources.get("requests"), prefix)}


def _sum(one: Counts, other: Counts) -> Counts:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _largest(one: Counts, other: Counts) -> Counts:
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}
