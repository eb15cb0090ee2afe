# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Node affinity as the scheduler reads it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.selectors import label_terms, required_terms, selects

LABELS = {"zone": "a", "gpus": "4"}


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (("zone", "In", ["a", "b"]), True),
        (("zone", "In", ["b"]), False),
        (("none", "In", ["a"]), False),
        (("zone", "NotIn", ["a"]), False),
        (("none", "NotIn", ["a"]), True),
        (("zone", "Exists", None), True),
        (("none", "Exists", None), False),
        (("zone", "DoesNotExist", None), False),
        (("none", "DoesNotExist", None), True),
        (("gpus", "Gt", ["3"]), True),
        (("gpus", "Gt", ["4"]), False),
        (("gpus", "Lt", ["5"]), True),
        (("none", "Lt", ["5"]), False),
        (("zone", "Gt", ["1"]), False),
    ],
)
def test_operators(rule: tuple[str, str, list[str] | None], matches: bool) -> None:
    key, operator, values = rule
    assert selects([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}], LABELS) is matches


@pytest.mark.parametrize(
    ("terms", "matches"),
    [
        ([], False),
        ([{}], False),
        (label_terms({"zone": "a", "gpus": "4"}), True),
        (label_terms({"zone": "a", "gpus": "5"}), False),
        ([*label_terms({"zone": "b"}), *label_terms({"zone": "a"})], True),
    ],
)
def test_terms_are_alternatives_and_expressions_are_not(terms: list[dict[str, t.Any]], matches: bool) -> None:
    assert selects(terms, LABELS) is matches


def test_a_node_selector_counts_beside_the_affinity() -> None:
    terms = label_terms({"zone": "a"})
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    assert selects(required_terms({"affinity": affinity, "nodeSelector": {"gpus": "4"}}), LABELS)
    assert not selects(required_terms({"affinity": affinity, "nodeSelector": {"gpus": "8"}}), LABELS)
    assert selects(required_terms({"nodeSelector": {"gpus": "4"}}), LABELS)
