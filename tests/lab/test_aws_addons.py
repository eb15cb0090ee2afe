# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS add-ons, against the API reference (API_CreateAddon, API_UpdateAddon, API_Addon, API_AddonIssue) and the user guide."""

from __future__ import annotations

import json
import typing as t

import jsonschema
import pytest

from tests.lab.conftest import ClusterSetup, refused

SHORT = 60.0  # an add-on is made, its patience is not over


def addon(setup: ClusterSetup, name: str) -> dict[str, t.Any]:
    found: dict[str, t.Any] = setup.aws.client("eks").describe_addon(clusterName="lab", addonName=name)["addon"]
    return found


def test_an_add_on_lives(setup: ClusterSetup) -> None:
    """API Addon.status: CREATING, ACTIVE, DELETING, gone; the default version, tags of the create call, in the list meanwhile."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    made = eks.create_addon(clusterName="lab", addonName="vpc-cni", tags={"a": "b"})["addon"]
    assert (made["status"], made["tags"], made["health"]) == ("CREATING", {"a": "b"}, {"issues": []})
    assert made["addonArn"].startswith("arn:aws:eks:us-west-2:123456789012:addon/lab/vpc-cni/")
    assert refused(eks.create_addon, clusterName="lab", addonName="vpc-cni") == ("ResourceInUseException", "Addon already exists.")
    setup.aws.pass_time(SHORT)
    assert addon(setup, "vpc-cni")["status"] == "ACTIVE"
    assert eks.list_addons(clusterName="lab")["addons"] == ["vpc-cni"]
    eks.tag_resource(resourceArn=made["addonArn"], tags={"c": "d"})
    eks.untag_resource(resourceArn=made["addonArn"], tagKeys=["a"])
    assert addon(setup, "vpc-cni")["tags"] == {"c": "d"}
    assert eks.delete_addon(clusterName="lab", addonName="vpc-cni", preserve=True)["addon"]["status"] == "DELETING"
    assert refused(eks.delete_addon, clusterName="lab", addonName="vpc-cni")[0] == "InvalidRequestException"
    setup.aws.pass_time(SHORT)
    assert eks.list_addons(clusterName="lab")["addons"] == []
    code, text = refused(eks.describe_addon, clusterName="lab", addonName="vpc-cni")
    assert (code, text) == ("ResourceNotFoundException", "No addon: vpc-cni found in cluster: lab")


def test_versions_that_are_offered(setup: ClusterSetup) -> None:
    """API DescribeAddonVersions: one default for each cluster version; kube-proxy's follow Kubernetes; filters."""
    eks = setup.aws.client("eks")
    offered = eks.describe_addon_versions(kubernetesVersion="1.36")["addons"]
    assert len(offered) == 11
    for offer in offered:
        defaults = [each for each in offer["addonVersions"] if each["compatibilities"][0]["defaultVersion"]]
        assert len(defaults) == 1, offer["addonName"]
    proxy = eks.describe_addon_versions(kubernetesVersion="1.35", addonName="kube-proxy")["addons"][0]
    assert {each["addonVersion"].rpartition(".")[0].rpartition(".")[0] for each in proxy["addonVersions"]} == {"v1.35"}
    storage = eks.describe_addon_versions(types=["storage"])["addons"]
    assert {offer["type"] for offer in storage} == {"storage"}
    assert eks.describe_addon_versions(addonName="nothing")["addons"] == []


REFUSALS: list[tuple[str, dict[str, t.Any], str]] = [
    ("API addonName", {"addonName": "nothing"}, "Addon nothing specified is not supported"),
    (
        "API addonVersion",
        {"addonVersion": "v0.0.1-eksbuild.1"},
        "Addon version specified is not supported, AddonVersion: v0.0.1-eksbuild.1",
    ),
    ("kube-proxy of another minor", {"addonName": "kube-proxy", "addonVersion": "v1.33.9-eksbuild.2"}, "is not supported"),
    ("a key that is none", {"configurationValues": '{"replicas": 2}'}, "ConfigurationValue provided in request is not supported: "),
    ("a bad value", {"configurationValues": "replicaCount: two"}, "$.replicaCount"),
    ("neither JSON nor YAML", {"configurationValues": "{"}, "not in valid JSON or YAML format"),
    ("API serviceAccountRoleArn", {"serviceAccountRoleArn": "arn:aws:iam::123456789012:role/none"}, "does not exist"),
    (
        "API podIdentityAssociations",
        {"podIdentityAssociations": [{"serviceAccount": "x", "roleArn": "arn:aws:iam::123456789012:role/none"}]},
        "Role provided in the request does not exist.",
    ),
]


@pytest.mark.parametrize(("source", "changes", "message"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_creation_refuses(setup: ClusterSetup, source: str, changes: dict[str, t.Any], message: str) -> None:
    """Nothing is made by a refused request."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    code, text = refused(eks.create_addon, **{"clusterName": "lab", "addonName": "coredns", **changes})
    assert code == "InvalidParameterException", source
    assert message in text, source
    assert eks.list_addons(clusterName="lab")["addons"] == []
    assert eks.list_pod_identity_associations(clusterName="lab")["associations"] == []


CONFIGURATIONS: list[tuple[str, dict[str, t.Any]]] = [
    ("aws-ebs-csi-driver", {"controller": {"extraVolumeTags": {"team": "ml"}}}),
    ("amazon-cloudwatch-observability", {"containerLogs": {"enabled": False}}),
    ("vpc-cni", {"env": {"ENABLE_PREFIX_DELEGATION": "true"}}),
    ("coredns", {"replicaCount": 3}),
]


@pytest.mark.parametrize(("name", "values"), CONFIGURATIONS, ids=[row[0] for row in CONFIGURATIONS])
def test_schemas(setup: ClusterSetup, name: str, values: dict[str, t.Any]) -> None:
    """API DescribeAddonConfiguration: a JSON schema that knows what users set and nothing else, and the service account."""
    eks = setup.aws.client("eks")
    version = eks.describe_addon_versions(addonName=name)["addons"][0]["addonVersions"][0]["addonVersion"]
    reply = eks.describe_addon_configuration(addonName=name, addonVersion=version)
    schema = json.loads(reply["configurationSchema"])
    jsonschema.Draft7Validator.check_schema(schema)
    judge = jsonschema.Draft7Validator(schema)
    assert judge.is_valid(values)
    assert not judge.is_valid({"unknown": 1})
    assert bool(reply["podIdentityConfiguration"]) == (name != "coredns")
    assert refused(eks.describe_addon_configuration, addonName=name, addonVersion="v0")[0] == "InvalidParameterException"


def test_without_nodes_an_add_on_degrades_and_recovers(setup: ClusterSetup) -> None:
    """API AddonIssue InsufficientNumberOfReplicas: Deployments without nodes; DaemonSets are content with none."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    for name in ("coredns", "kube-proxy"):
        eks.create_addon(clusterName="lab", addonName=name)
    setup.aws.pass_time(SHORT)
    assert (addon(setup, "coredns")["status"], addon(setup, "kube-proxy")["status"]) == ("CREATING", "ACTIVE")
    setup.aws.pass_time(1300)
    found = addon(setup, "coredns")
    message = "The add-on is unhealthy because it doesn't have the desired number of replicas."
    assert found["status"] == "DEGRADED"
    assert found["health"]["issues"] == [{"code": "InsufficientNumberOfReplicas", "message": message, "resourceIds": []}]
    setup.create_nodegroup()
    setup.aws.pass_time(SHORT)
    assert (addon(setup, "coredns")["status"], addon(setup, "coredns")["health"]) == ("ACTIVE", {"issues": []})


def test_updates_of_an_add_on(setup: ClusterSetup) -> None:
    """API UpdateAddon: an update of type AddonUpdate in the add-on's own scope, one in flight; the cluster stays ACTIVE."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    eks.create_addon(clusterName="lab", addonName="vpc-cni", addonVersion="v1.19.6-eksbuild.7")
    assert refused(eks.update_addon, clusterName="lab", addonName="vpc-cni")[0] == "ResourceInUseException"
    setup.aws.pass_time(SHORT)
    values = '{"env": {"A": "b"}}'
    wanted = {"clusterName": "lab", "addonName": "vpc-cni", "addonVersion": "v1.20.4-eksbuild.2", "configurationValues": values}
    update = eks.update_addon(**wanted, resolveConflicts="PRESERVE")["update"]
    assert (update["type"], update["status"]) == ("AddonUpdate", "InProgress")
    assert {each["type"] for each in update["params"]} == {"AddonVersion", "ConfigurationValues", "ResolveConflicts"}
    assert addon(setup, "vpc-cni")["status"] == "UPDATING"
    assert refused(eks.update_addon, **wanted)[0] == "ResourceInUseException"
    assert eks.describe_cluster(name="lab")["cluster"]["status"] == "ACTIVE"
    assert eks.list_updates(name="lab")["updateIds"] == []
    assert eks.list_updates(name="lab", addonName="vpc-cni")["updateIds"] == [update["id"]]
    setup.aws.pass_time(SHORT)
    assert eks.describe_update(name="lab", addonName="vpc-cni", updateId=update["id"])["update"]["status"] == "Successful"
    found = addon(setup, "vpc-cni")
    assert (found["status"], found["addonVersion"], found["configurationValues"]) == ("ACTIVE", "v1.20.4-eksbuild.2", values)


def test_associations_of_an_add_on(setup: ClusterSetup) -> None:
    """API UpdateAddon podIdentityAssociations: absent is no change, [] removes; they are owned, and refuse changes of others."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    role = setup.aws.role("cni", "pods.eks.amazonaws.com")
    owned = [{"serviceAccount": "aws-node", "roleArn": role}]
    made = eks.create_addon(clusterName="lab", addonName="vpc-cni", podIdentityAssociations=owned)["addon"]
    setup.aws.pass_time(SHORT)
    listed = eks.list_pod_identity_associations(clusterName="lab")["associations"]
    assert [each["ownerArn"] for each in listed] == [made["addonArn"]]
    assert made["podIdentityAssociations"] == [listed[0]["associationArn"]]
    one = {"clusterName": "lab", "associationId": listed[0]["associationId"]}
    assert refused(eks.update_pod_identity_association, **one, roleArn=role)[0] == "InvalidRequestException"
    assert refused(eks.delete_pod_identity_association, **one)[0] == "InvalidRequestException"
    bad = [{"serviceAccount": "aws-node", "roleArn": role + "x"}]
    assert refused(eks.update_addon, clusterName="lab", addonName="vpc-cni", podIdentityAssociations=bad)[0] == "InvalidParameterException"
    eks.update_addon(clusterName="lab", addonName="vpc-cni", configurationValues="{}")
    setup.aws.pass_time(SHORT)
    assert eks.list_pod_identity_associations(clusterName="lab")["associations"] == listed
    eks.update_addon(clusterName="lab", addonName="vpc-cni", podIdentityAssociations=[])
    setup.aws.pass_time(SHORT)
    assert eks.list_pod_identity_associations(clusterName="lab")["associations"] == []
    assert addon(setup, "vpc-cni")["podIdentityAssociations"] == []


@pytest.mark.parametrize("status", ["CREATE_FAILED", "DEGRADED"])
def test_faults(setup: ClusterSetup, status: str) -> None:
    """API AddonStatus and AddonIssue: what went wrong is told; a failed creation stays, a degradation ends with its reason."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    fault = {"kind": "addon", "addon": "vpc-cni", "status": status, "code": "AdmissionRequestDenied", "message": "a webhook said no"}
    made = setup.aws.server.faults.add(fault)
    for name in ("vpc-cni", "kube-proxy"):
        eks.create_addon(clusterName="lab", addonName=name)
    setup.aws.pass_time(SHORT)
    found = addon(setup, "vpc-cni")
    issue = {"code": "AdmissionRequestDenied", "message": "a webhook said no", "resourceIds": []}
    assert (found["status"], found["health"]["issues"]) == (status, [issue])
    assert addon(setup, "kube-proxy")["status"] == "ACTIVE"
    setup.aws.server.faults.clear(made.id)
    setup.aws.pass_time(SHORT)
    assert addon(setup, "vpc-cni")["status"] == ("ACTIVE" if status == "DEGRADED" else status)
