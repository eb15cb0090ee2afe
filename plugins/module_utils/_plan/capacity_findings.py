# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What does not look right in the capacity report, each with what to do. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.capacity import Declared, Shape, Usage
from ansible_collections.gpuops.eks.plugins.module_utils._model.scaling_activity import FailedLaunch
from ansible_collections.gpuops.eks.plugins.module_utils._plan.capacity_node import Line, Report

_NAMED = 3  # pods in a message


def findings(lines: t.Sequence[Line], declared: t.Sequence[Declared], usage: Usage | None) -> list[Report]:
    """By node, then what waits for something that no node advertises."""
    found = [finding for line in lines for finding in _of_node(line)]
    return found + ([] if usage is None or not lines else _missing(lines, declared, usage))


def failed_launch(failed: FailedLaunch) -> Report:
    """A group that got no instance when it last asked for one: the zone's other groups, or other zones, have to serve."""
    name = f"node group {failed.node_group}" if failed.node_group else f"Auto Scaling group {failed.group}"
    pool = f" of pool {failed.pool}" if failed.pool else ""
    message = (
        f"{name[0].upper()}{name[1:]}{pool} in {', '.join(failed.zones)} could not launch an instance at {failed.at}: {failed.message}"
    )
    fix = "Other zones and groups of the pool serve meanwhile, where it has any: give it more zones, instance types or capacity types."
    return _finding("launch_failed", f"auto-scaling-group/{failed.group}", message, fix)


def _of_node(line: Line) -> list[Report]:
    node, subject = line.node, f"node/{line.node.name}"
    what = f"Node {node.name} ({', '.join(part for part in (node.instance_type, _gpus(line.gpus)) if part)})"
    found = _mig_states(line, what, subject)
    if not any(node.allocatable.values()) and not any(node.capacity.values()):
        return [*found, _finding("gpu_not_advertised", subject, f"{what} advertises no nvidia.com resource.", _missing_plugin(line))]
    found += [_unhealthy(resource, what, subject) for resource in line.resources if resource["allocatable"] < resource["capacity"]]
    return [*found, *_differences(line, what, subject), *_gone(line, what, subject), *_hidden_memory(line, subject)]


def _unhealthy(resource: Report, what: str, subject: str) -> Report:
    """Of a shared GPU that fails, the device plugin marks one share: seen with the real one."""
    count = resource["capacity"] - resource["allocatable"]
    message = f"{what} has {count} of {resource['capacity']} {resource['name']} unhealthy."
    fix = "Look for XID errors in the node's kernel log, then replace the node, or delete its device plugin pod to have them tried again."
    if resource["unit"] == "share":
        fix = f"Cordon the node, because the other shares of that GPU are still given to pods. {fix}"
    return _finding("devices_unhealthy", subject, message, fix)


def _mig_states(line: Line, what: str, subject: str) -> list[Report]:
    """What the labels of mig-manager and of GPU feature discovery say of a layout that is not in force."""
    labels, found = line.node.labels, []
    if labels.get("nvidia.com/mig.config.state") == "failed":
        wanted = labels.get("nvidia.com/mig.config")
        message = f"{what} has not taken the MIG configuration {wanted}: nvidia.com/mig.config.state is failed."
        fix = (
            "See the log of the operator's mig-manager on this node. Profiles differ between GPUs: docs/gpu-products.md has those of each."
        )
        found.append(_finding("mig_failed", subject, message, fix))
    if labels.get("nvidia.com/gpu.product", "").endswith("-MIG-INVALID"):
        message = f"{what} has MIG instances that strategy single cannot advertise: not every GPU is divided, or not into one profile."
        found.append(_finding("mig_failed", subject, message, "Use mig.strategy mixed, or one profile on every GPU of the node."))
    return found


def _differences(line: Line, what: str, subject: str) -> list[Report]:
    """A node that advertises other than its configuration says, unhealthy devices included. What should be 0 may be missing."""
    if line.declared is None or line.gpus is None:
        return []
    says, seen = line.declared.resources, {name: number for name, number in line.node.capacity.items() if number}
    expected = {name: number * line.gpus for name, number in says.items() if number}
    more = [name for name in sorted(seen) if name not in expected]
    if all(seen.get(name) == number for name, number in expected.items()) and not more:
        return []
    shown = _counts({name: seen.get(name, 0) for name in (*expected, *more)})
    each = " and ".join(str(says[name]) for name in expected)
    message = f"{what} advertises {shown}; {line.declared.daemon_set} says {each} for each GPU: {_counts(expected)}."
    fix = "Run gpuops.eks.nvidia_device_plugin, which waits for it and says what keeps it; pods of an older configuration have to be replaced."
    if more and all(seen.get(name) == number for name, number in expected.items()):
        fix = "What one device plugin advertised goes to 0 when it ends: look for a second one on this node."
        return [_finding("resource_left_over", subject, message, fix)]
    return [_finding("sharing_differs", subject, message, fix)]


def _gone(line: Line, what: str, subject: str) -> list[Report]:
    """Pods that hold what the node no longer advertises, as after a renaming: kubelet keeps the old name at 0."""
    held = {name: number for name, number in (line.taken or {}).items() if number and not line.node.capacity.get(name)}
    if not held:
        return []
    message = f"{what} has pods with {_counts(held)}, which it no longer advertises."
    fix = "They keep their GPUs, which its new resources count once more: replace these pods, with requests by the new name."
    return [_finding("resource_left_over", subject, message, fix)]


def _hidden_memory(line: Line, subject: str) -> list[Report]:
    pods = sorted(line.own_shm)
    if not pods or line.declared is None or line.declared.strategy != "mps":
        return []
    more = f" and {len(pods) - _NAMED} more" if len(pods) > _NAMED else ""
    message = (
        f"{', '.join(pods[:_NAMED])}{more} on node {line.node.name}: a volume at /dev/shm hides the shared memory of the MPS control daemon, "
        "so that their CUDA programs do not reach it."
    )
    fix = "Take the volume away: with MPS the device plugin mounts the daemon's /dev/shm, of half of the node's memory, into the pod."
    return [_finding("mps_shm_hidden", subject, message, fix)]


def _missing(lines: t.Sequence[Line], declared: t.Sequence[Declared], usage: Usage) -> list[Report]:
    """Pods that wait for a resource that neither a node advertises nor a configuration has, as after a renaming."""
    there = {name for line in lines for name, number in line.node.capacity.items() if number}
    known = there | {name for item in declared for name, number in item.resources.items() if number}
    waiting: dict[tuple[str, str], list[Shape]] = {}
    for shape in usage.pending:
        for name, _number in shape.resources:
            if name not in known:
                waiting.setdefault((name, f"{shape.kind}/{shape.namespace}/{shape.name}"), []).append(shape)
    return [
        _finding(
            "resource_unknown",
            subject,
            f"{sum(usage.pending[shape] for shape in shapes)} pods wait for {name}, which no node advertises; nodes advertise "
            f"{', '.join(sorted(there)) or 'nothing'}.",
            "Request a resource that is there; sharing.rename and mig.strategy decide its name.",
        )
        for (name, subject), shapes in sorted(waiting.items(), key=lambda item: item[0])
    ]


def _missing_plugin(line: Line) -> str:
    if line.declared is not None:
        return f"See the pod of DaemonSet {line.declared.daemon_set} on this node, or run gpuops.eks.nvidia_device_plugin, which says why."
    return "Install the device plugin with a configuration that selects this node: gpuops.eks.nvidia_device_plugin."


def _counts(counts: t.Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in counts.items())


def _gpus(number: int | None) -> str:
    return "" if number is None else f"{number} GPU{'' if number == 1 else 's'}"


def _finding(code: str, subject: str, message: str, fix: str) -> Report:
    return {"code": code, "subject": subject, "message": message, "fix": fix}
