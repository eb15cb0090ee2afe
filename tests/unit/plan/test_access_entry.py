# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of access entries, as tables."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.access_entry import Entry, Wanted, policy_arn
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan import access_entry as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import Marked

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
MARKED = Marked(owner=OWNER, component=planning.COMPONENT)
API: dict[str, t.Any] = {"principalArn": "p", "accessEntryArn": "arn:p", "kubernetesGroups": ["b", "a"], "username": "u"}
API["tags"] = OWNER.tags(planning.COMPONENT)
THERE = [
    {"policyArn": policy_arn("View", "aws"), "accessScope": {"type": "cluster"}},
    {"policyArn": policy_arn("Edit", "aws"), "accessScope": {"type": "namespace", "namespaces": ["b", "a"]}},
]
VIEW: dict[str, t.Any] = {"policy": "View"}
EDIT: dict[str, t.Any] = {"policy": "Edit", "namespaces": ["a", "b"]}


def wanted(**options: t.Any) -> Wanted:
    return Wanted.from_params({"principal_arn": "p", **options}, path="entries[0]", partition="aws")


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, []),
        ({"kubernetes_groups": ["a", "b"], "username": "u"}, []),
        ({"kubernetes_groups": []}, [("eks:UpdateAccessEntry", "")]),
        ({"policies": [EDIT, VIEW]}, []),
        ({"policies": [VIEW]}, [("eks:DisassociateAccessPolicy", "Edit")]),
        ({"policies": [VIEW, {"policy": "Edit"}]}, [("eks:AssociateAccessPolicy", "Edit")]),
        (
            {"policies": [EDIT, {"policy": "Admin"}]},
            [("eks:AssociateAccessPolicy", "Admin"), ("eks:DisassociateAccessPolicy", "View")],
        ),
    ],
)
def test_an_update_has_the_calls_that_are_needed(options: dict[str, t.Any], steps: list[tuple[str, str]]) -> None:
    plan = planning.plan_update(wanted(**options), Entry.from_api(API, THERE), MARKED).plan
    assert [(step.action, step.reason) for step in plan.steps] == steps


@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov"])
def test_a_name_is_the_policy_of_the_partition(partition: str) -> None:
    arn = f"arn:{partition}:eks::aws:cluster-access-policy/AmazonEKSViewPolicy"
    assert policy_arn("AmazonEKSViewPolicy", partition) == policy_arn(arn, partition) == arn


def test_a_new_entry_is_standard() -> None:
    [step] = planning.plan_create(wanted(), MARKED).plan.steps
    assert step.request == {"clusterName": "demo", "principalArn": "p", "type": "STANDARD", "tags": API["tags"]}
