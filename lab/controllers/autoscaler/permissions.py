"""Pure: what cluster-autoscaler's service account must be allowed, and what of that its RBAC does not give.

The informers of the real one wait for ever for what they may not list; the model says what is missing and does not start.
Source: the ClusterRole and Role of cluster-autoscaler's chart.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from lab.kubernetes.client import Json

STATUS, PRIORITIES, LEASE = "cluster-autoscaler-status", "cluster-autoscaler-priority-expander", "cluster-autoscaler"
_WATCHED = ("list", "watch")


@dataclass(frozen=True, slots=True)
class Need:
    """Verbs on a resource, of one object when it has a name."""

    group: str
    resource: str
    verbs: tuple[str, ...]
    name: str = ""

    def __str__(self) -> str:
        where = f"{self.resource}{f'.{self.group}' if self.group else ''}{f' {self.name}' if self.name else ''}"
        return f"{where} ({', '.join(self.verbs)})"


IN_CLUSTER = (
    Need("", "nodes", ("get", "list", "watch", "update")),
    Need("", "pods/eviction", ("create",)),
    Need("", "events", ("create", "patch")),
    *(Need("", name, _WATCHED) for name in ("pods", "namespaces", "services", "replicationcontrollers")),
    *(Need("", name, _WATCHED) for name in ("persistentvolumes", "persistentvolumeclaims")),
    *(Need("apps", name, _WATCHED) for name in ("daemonsets", "replicasets", "statefulsets")),
    Need("batch", "jobs", _WATCHED),
    Need("policy", "poddisruptionbudgets", _WATCHED),
    *(Need("storage.k8s.io", name, _WATCHED) for name in ("storageclasses", "csinodes", "csidrivers", "csistoragecapacities")),
    Need("storage.k8s.io", "volumeattachments", _WATCHED),
    *(Need("resource.k8s.io", name, _WATCHED) for name in ("resourceclaims", "resourceslices", "deviceclasses")),
)
IN_NAMESPACE = (
    Need("coordination.k8s.io", "leases", ("create",)),
    Need("coordination.k8s.io", "leases", ("get", "update"), LEASE),
    Need("", "configmaps", ("create",)),
    Need("", "configmaps", ("get", "update"), STATUS),
)
FOR_PRIORITIES = (Need("", "configmaps", _WATCHED),)


def missing(needs: t.Iterable[Need], rules: t.Sequence[Json]) -> list[str]:
    """What of the needs no rule allows; ``rules`` are resourceRules of a SelfSubjectRulesReview."""
    found = []
    for need in needs:
        lacking = tuple(verb for verb in need.verbs if not any(_allows(rule, need, verb) for rule in rules))
        if lacking:
            found.append(str(Need(need.group, need.resource, lacking, need.name)))
    return found


def _allows(rule: Json, need: Need, verb: str) -> bool:
    names = rule.get("resourceNames") or ()
    return (
        _has(rule.get("verbs"), verb)
        and _has(rule.get("apiGroups"), need.group)
        and _has(rule.get("resources"), need.resource)
        and (not names or need.name in names)
    )


def _has(values: t.Sequence[str] | None, wanted: str) -> bool:
    return "*" in (values or ()) or wanted in (values or ())
