# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pod_troubles
author:
  - the gpuops.eks contributors (@gpuops)
version_added: 0.1.0
short_description: Why pods do not run
description:
  - Passes on what the scheduler says of pods that it cannot place, and what the kubelet says of containers that do not start.
options:
  _input:
    description: The pods.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Say why the Deployment is not available
  ansible.builtin.fail:
    msg: "{{ pods.resources | gpuops.eks.pod_troubles | join('; ') }}"
"""

RETURN = r"""
_value:
  description: One line for each reason, with the pods that have it. Pods that are ready or going away have none.
  type: list
  elements: str
  sample:
    - "gpu-7d9c5b4f6-x2x7k: Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
"""

import typing as t


def troubles(pods: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Return why pods are not ready, the same words once."""
    found: dict[str, list[str]] = {}
    for pod in pods:
        if not pod["metadata"].get("deletionTimestamp") and (why := _trouble(pod.get("status") or {})):
            found.setdefault(why, []).append(pod["metadata"]["name"])
    return [f"{', '.join(sorted(names))}: {why}" for why, names in found.items()]


def _trouble(status: t.Mapping[str, t.Any]) -> str:
    """Empty for a pod that is ready or has done its work."""
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    if status.get("phase") == "Succeeded" or conditions.get("Ready", {}).get("status") == "True":
        return ""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _words(scheduled)
    states = (entry.get("state") or {} for entry in status.get("containerStatuses") or ())
    waiting = next((state["waiting"] for state in states if "waiting" in state), None)
    return _words(waiting or status) or str(status.get("phase") or "Pending")


def _words(holder: t.Mapping[str, t.Any]) -> str:
    return ": ".join(str(holder[key]) for key in ("reason", "message") if holder.get(key))


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"pod_troubles": troubles}
