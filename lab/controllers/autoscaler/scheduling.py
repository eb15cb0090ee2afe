"""Pure: would the scheduler put this pod on that node? Resources, selectors, required node affinity and taints; no affinity between pods."""

from __future__ import annotations

import typing as t

from lab.controllers.autoscaler.model import Labels, Node, Pod, Requirement, Resources, Taint, Toleration
from lab.controllers.autoscaler.quantities import total

POD = "pods"
ONE = 1000
HOSTNAME = "kubernetes.io/hostname"


def matches(requirement: Requirement, labels: Labels) -> bool:
    """Whether labels satisfy one expression of a selector."""
    value = labels.get(requirement.key)
    operator = requirement.operator
    if operator in ("In", "NotIn"):
        return (value in requirement.values) == (operator == "In")
    if operator in ("Exists", "DoesNotExist"):
        return (value is None) == (operator == "DoesNotExist")
    if value is None or not value.lstrip("-").isdigit():  # Gt and Lt
        return False
    return int(value) > int(requirement.values[0]) if operator == "Gt" else int(value) < int(requirement.values[0])


def tolerates(tolerations: t.Iterable[Toleration], taint: Taint) -> bool:
    """Whether any toleration is for this taint (core/v1 Toleration)."""
    return any(
        each.effect in ("", taint.effect)
        and each.key in ("", taint.key)
        and (each.operator == "Exists" or (each.key != "" and each.value == taint.value))
        for each in tolerations
    )


def accepts(node: Node, pod: Pod) -> bool:
    """Whether labels and taints of the node let the pod in."""
    if node.unschedulable and not pod.of_daemon_set:
        return False
    if any(node.labels.get(key) != value for key, value in pod.selector.items()):
        return False
    if pod.terms and not any(all(matches(each, node.labels) for each in term) for term in pod.terms):
        return False
    return all(tolerates(pod.tolerations, taint) for taint in node.taints if taint.effect in ("NoSchedule", "NoExecute"))


def demand(pod: Pod) -> dict[str, int]:
    return {**pod.requests, POD: ONE}


class Room:
    """A node and what is still free on it; ``take`` is the only thing that changes it."""

    def __init__(self, node: Node, pods: t.Iterable[Pod] = ()) -> None:
        self.node = node
        self.free: dict[str, int] = dict(node.allocatable)
        self.pods: list[Pod] = []
        for pod in (*node.pods, *pods):
            self._reserve(demand(pod))

    def fits(self, pod: Pod) -> bool:
        wanted = {name: amount for name, amount in demand(pod).items() if amount > 0}
        return accepts(self.node, pod) and all(self.free.get(name, 0) >= amount for name, amount in wanted.items())

    def take(self, pod: Pod) -> bool:
        """Put the pod there if it fits."""
        if not self.fits(pod):
            return False
        self._reserve(demand(pod))
        self.pods.append(pod)
        return True

    def copy(self) -> Room:
        twin = Room(self.node)
        twin.free, twin.pods = dict(self.free), list(self.pods)
        return twin

    def _reserve(self, amounts: Resources) -> None:
        for name, amount in amounts.items():
            self.free[name] = self.free.get(name, 0) - amount


def used(pods: t.Iterable[Pod]) -> dict[str, int]:
    """What pods request together."""
    return total(pod.requests for pod in pods)
