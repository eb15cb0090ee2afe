# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which nodes a node affinity selects, by the rules of Kubernetes' nodeSelectorTerms. Pure."""

from __future__ import annotations

import typing as t

Term = t.Mapping[str, t.Any]


def selects(terms: t.Iterable[Term], labels: t.Mapping[str, str]) -> bool:
    """Whether any term matches: terms are alternatives, the expressions of one term all have to hold, an empty term selects nothing.

    Source: Kubernetes API reference, NodeSelector and NodeSelectorRequirement. Fields (metadata.name) are not looked at.
    """
    rules = (term.get("matchExpressions") or () for term in terms)
    return any(bool(expressions) and all(_holds(rule, labels) for rule in expressions) for expressions in rules)


def required_terms(pod_spec: t.Mapping[str, t.Any]) -> list[Term]:
    """The terms of a pod's required node affinity, each together with its nodeSelector."""
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or [{}]
    plain = [{"key": key, "operator": "In", "values": [value]} for key, value in (pod_spec.get("nodeSelector") or {}).items()]
    return [{"matchExpressions": [*plain, *(term.get("matchExpressions") or ())]} for term in terms]


def label_terms(labels: t.Mapping[str, str]) -> list[Term]:
    """One term that selects the nodes that carry all of these labels."""
    return [{"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(labels.items())]}]


def _holds(rule: t.Mapping[str, t.Any], labels: t.Mapping[str, str]) -> bool:
    value = labels.get(rule["key"])
    operator: str = rule["operator"]
    values: list[str] = rule.get("values") or []
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (operator == "Exists")
    if operator == "NotIn":
        return value not in values
    if value is None:
        return False
    if operator == "In":
        return value in values
    try:
        number, limit = int(value), int(values[0])
    except (IndexError, ValueError):
        return False
    return number > limit if operator == "Gt" else number < limit
