# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of Pod Identity associations, as tables."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pod_identity import Association, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._plan import pod_identity as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import Marked

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
MARKED = Marked(owner=OWNER, component=planning.COMPONENT)
POLICY = {"Statement": [{"Effect": "Allow"}]}
API: dict[str, t.Any] = {
    "associationId": "a-1",
    "associationArn": "arn:a-1",
    "namespace": "n",
    "serviceAccount": "s",
    "roleArn": "role",
    "disableSessionTags": True,
    "policy": '{"Statement":[{"Effect":"Allow"}]}',
    "tags": OWNER.tags(planning.COMPONENT),
}
KEPT = {"roleArn": "role", "disableSessionTags": True, "policy": '{"Statement": [{"Effect": "Allow"}]}'}


def wanted(**options: t.Any) -> Wanted:
    return Wanted.from_params({"namespace": "n", "service_account": "s", **options})


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, None),
        ({"role_arn": "role", "disable_session_tags": True, "policy": POLICY}, None),
        ({"role_arn": "other"}, {**KEPT, "roleArn": "other"}),
        ({"target_role_arn": "target"}, {**KEPT, "targetRoleArn": "target"}),
        ({"disable_session_tags": False}, {**KEPT, "disableSessionTags": False}),
    ],
)
def test_an_update_sends_what_changes_and_what_stays(options: dict[str, t.Any], sent: dict[str, t.Any] | None) -> None:
    steps = planning.plan_update(wanted(**options), Association.from_api(API), MARKED).plan.steps
    expected = [] if sent is None else [{"clusterName": "demo", "associationId": "a-1", **sent}]
    assert [step.request for step in steps] == expected


def test_a_policy_that_is_no_json_differs() -> None:
    observed = Association.from_api({**API, "policy": "none"})
    [step] = planning.plan_update(wanted(policy=POLICY), observed, MARKED).plan.steps
    assert step.fields == ("policy",)
