# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pod Identity associations, against the API reference and the user guide, pod-id-association."""

from __future__ import annotations

import re
import typing as t

import pytest

from tests.lab.conftest import ClusterSetup, refused

PODS = "pods.eks.amazonaws.com"
TARGET = "arn:aws:iam::210987654321:role/target"


def request(setup: ClusterSetup, **changes: t.Any) -> dict[str, t.Any]:
    role = setup.aws.role("pods", PODS)
    return {"clusterName": "lab", "namespace": "ml", "serviceAccount": "train", "roleArn": role, **changes}


def test_an_association_lives(setup: ClusterSetup) -> None:
    """API PodIdentityAssociation: made, found by its service account, changed in place, tagged, gone."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    wanted = request(setup, tags={"a": "b"})
    made = eks.create_pod_identity_association(**wanted)["association"]
    assert re.fullmatch("a-[a-z0-9]{17}", made["associationId"])
    assert made["associationArn"].endswith(f":podidentityassociation/lab/{made['associationId']}")
    assert (made["disableSessionTags"], made["tags"], made.get("ownerArn")) == (False, {"a": "b"}, None)
    one = {"clusterName": "lab", "associationId": made["associationId"]}
    assert eks.describe_pod_identity_association(**one)["association"] == made
    listed = eks.list_pod_identity_associations(clusterName="lab", namespace="ml", serviceAccount="train")["associations"]
    assert [each["associationId"] for each in listed] == [made["associationId"]]
    assert eks.list_pod_identity_associations(clusterName="lab", namespace="other")["associations"] == []
    code, text = refused(eks.create_pod_identity_association, **wanted)
    assert (code, text) == ("ResourceInUseException", "Association already exists: ml/train")
    other = setup.aws.role("other", PODS)
    changed = eks.update_pod_identity_association(**one, roleArn=other, targetRoleArn=TARGET)["association"]
    assert (changed["roleArn"], changed["targetRoleArn"]) == (other, TARGET)
    assert changed["externalId"]
    eks.tag_resource(resourceArn=made["associationArn"], tags={"c": "d"})
    assert eks.list_tags_for_resource(resourceArn=made["associationArn"])["tags"] == {"a": "b", "c": "d"}
    eks.delete_pod_identity_association(**one)
    assert refused(eks.describe_pod_identity_association, **one)[0] == "ResourceNotFoundException"


REFUSALS: list[tuple[str, dict[str, t.Any], str]] = [
    ("API roleArn: exists", {"roleArn": "arn:aws:iam::123456789012:role/none"}, "Role provided in the request does not exist."),
    ("User guide pod-id-role: trust", {"roleArn": "arn:aws:iam::123456789012:role/node"}, f"does not trust {PODS}"),
    ("API policy", {"policy": "{}"}, "disableSessionTags must be true"),
]


@pytest.mark.parametrize(("source", "changes", "message"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_creation_refuses(setup: ClusterSetup, source: str, changes: dict[str, t.Any], message: str) -> None:
    setup.create_cluster()
    eks = setup.aws.client("eks")
    code, text = refused(eks.create_pod_identity_association, **request(setup, **changes))
    assert code == "InvalidParameterException", source
    assert message in text, source
    assert eks.list_pod_identity_associations(clusterName="lab")["associations"] == []


def test_a_session_policy(setup: ClusterSetup) -> None:
    """API policy: with disableSessionTags alone, also when one of both is changed later."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    made = eks.create_pod_identity_association(**request(setup, policy="{}", disableSessionTags=True))["association"]
    assert (made["policy"], made["disableSessionTags"]) == ("{}", True)
    one = {"clusterName": "lab", "associationId": made["associationId"]}
    assert "must be true" in refused(eks.update_pod_identity_association, **one, disableSessionTags=False)[1]
