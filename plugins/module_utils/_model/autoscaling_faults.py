# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What cluster-autoscaler and Karpenter would refuse of their settings, or take for something else. Pure.

Source: kubernetes/autoscaler 1.36, cluster-autoscaler/FAQ.md (flags) and expander/factory.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault

_PREFIX = "eks_autoscaling_cluster_autoscaler_"
_DURATIONS = ("scale_down_unneeded_time", "scale_down_delay_after_add", "max_node_provision_time")
_THRESHOLDS = ("scale_down_utilization_threshold", "scale_down_gpu_utilization_threshold")
_DURATION = re.compile(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")
_EXPANDERS = ("least-nodes", "least-waste", "most-pods", "priority", "random")
_FLAGS = "cluster-autoscaler's flags"


def autoscaling_faults(variables: t.Mapping[str, t.Any]) -> list[Fault]:
    """Settings of role eks_autoscaling that are out of their range or of no form that the controllers read; for values of any type."""
    faults = []
    for name in (f"{_PREFIX}{option}" for option in _DURATIONS):
        value = variables.get(name)
        if isinstance(value, str) and not _DURATION.fullmatch(value):
            faults.append(Fault(path=name, value=value, allowed="a duration such as 30s, 10m or 1h30m", source=_FLAGS))
    for name in (f"{_PREFIX}{option}" for option in _THRESHOLDS):
        value = variables.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not 0 <= value <= 1:
            faults.append(Fault(path=name, value=value, allowed="from 0 to 1: a part of what the node has", source=_FLAGS))
    return faults + _expander_faults(variables)


def _expander_faults(variables: t.Mapping[str, t.Any]) -> list[Fault]:
    """One after another, each once; price is known for no cloud that has EKS, and grpc needs a server of its own."""
    name = f"{_PREFIX}expander"
    value = variables.get(name)
    if not isinstance(value, str):
        return []
    chosen = value.split(",")
    if chosen and set(chosen) <= set(_EXPANDERS) and len(set(chosen)) == len(chosen):
        return []
    return [Fault(path=name, value=value, allowed=f"one or several of {', '.join(_EXPANDERS)}, with commas, each once", source=_FLAGS)]
