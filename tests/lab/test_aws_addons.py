# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add-ons, Pod Identity associations and the key of secrets, against the API reference and the user guide."""

from __future__ import annotations

import json
import typing as t

import pytest

from tests.lab.conftest import Aws, ClusterSetup, refused

NAMED = {"clusterName": "lab"}
CNI = {**NAMED, "addonName": "vpc-cni"}


@pytest.fixture
def eks(setup: ClusterSetup) -> t.Any:
    """EKS with an active cluster."""
    setup.create_cluster()
    return setup.aws.client("eks")


@pytest.fixture
def pod_role(aws: Aws, eks: t.Any) -> str:
    return aws.role("pods", "pods.eks.amazonaws.com")


def addon(eks: t.Any, name: str = "vpc-cni") -> dict[str, t.Any]:
    found: dict[str, t.Any] = eks.describe_addon(clusterName="lab", addonName=name)["addon"]
    return found


def status(eks: t.Any, name: str = "vpc-cni") -> tuple[str, list[str]]:
    found = addon(eks, name)
    return found["status"], [issue["code"] for issue in found["health"]["issues"]]


# --- offers


def test_each_add_on_has_one_default_version_for_each_cluster_version(eks: t.Any) -> None:
    """API DescribeAddonVersions: compatibilities with defaultVersion."""
    offers = eks.describe_addon_versions(kubernetesVersion="1.35")["addons"]
    assert {"vpc-cni", "coredns", "kube-proxy", "eks-pod-identity-agent", "aws-ebs-csi-driver"} <= {offer["addonName"] for offer in offers}
    for offer in offers:
        marks = [each["defaultVersion"] for version in offer["addonVersions"] for each in version["compatibilities"]]
        assert (marks.count(True), len(marks)) == (1, 3), offer["addonName"]


def test_the_versions_of_kube_proxy_follow_kubernetes(eks: t.Any) -> None:
    for version in ("1.34", "1.36"):
        [offer] = eks.describe_addon_versions(addonName="kube-proxy", kubernetesVersion=version)["addons"]
        assert all(each["addonVersion"].startswith(f"v{version}.") for each in offer["addonVersions"])


def test_the_configuration_has_a_json_schema(eks: t.Any) -> None:
    reply = eks.describe_addon_configuration(addonName="vpc-cni", addonVersion="v1.20.4-eksbuild.2")
    assert json.loads(reply["configurationSchema"])["additionalProperties"] is False
    assert reply["podIdentityConfiguration"][0]["serviceAccount"] == "aws-node"


# --- creation


def test_an_add_on_becomes_active(aws: Aws, eks: t.Any) -> None:
    made = eks.create_addon(**CNI, tags={"team": "ml"})["addon"]
    assert (made["status"], made["addonVersion"], made["tags"]) == ("CREATING", "v1.20.4-eksbuild.2", {"team": "ml"})
    aws.pass_time()
    assert status(eks) == ("ACTIVE", [])
    assert eks.list_addons(clusterName="lab")["addons"] == ["vpc-cni"]


REFUSED: list[tuple[str, dict[str, t.Any], str, str]] = [
    ("unknown add-on", {"addonName": "no-such"}, "InvalidParameterException", "is not supported"),
    ("unknown version", {"addonVersion": "v9"}, "InvalidParameterException", "Addon version specified is not supported"),
    ("unknown setting", {"configurationValues": '{"colour": "red"}'}, "InvalidParameterException", "provided in request is not supported"),
    ("no JSON", {"configurationValues": "{"}, "InvalidParameterException", "not in valid JSON or YAML format"),
    ("unknown role", {"serviceAccountRoleArn": "arn:aws:iam::123456789012:role/none"}, "InvalidParameterException", "does not exist"),
    ("reserved tag", {"tags": {"aws:x": "y"}}, "InvalidParameterException", "reserved prefix"),
]


@pytest.mark.parametrize(("what", "changes", "code", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_create_addon_refuses(eks: t.Any, what: str, changes: dict[str, t.Any], code: str, message: str) -> None:
    found = refused(eks.create_addon, **{**CNI, **changes})
    assert found[0] == code
    assert message in found[1]


def test_an_add_on_is_there_once(eks: t.Any) -> None:
    eks.create_addon(**CNI)
    assert refused(eks.create_addon, **CNI) == ("ResourceInUseException", "Addon already exists.")


def test_without_nodes_a_deployment_has_no_replicas(aws: Aws, setup: ClusterSetup, eks: t.Any) -> None:
    """User guide, "Amazon EKS add-ons": CREATING, then DEGRADED with InsufficientNumberOfReplicas; ACTIVE once there are nodes."""
    eks.create_addon(clusterName="lab", addonName="coredns")
    aws.pass_time()
    assert status(eks, "coredns") == ("CREATING", [])
    aws.pass_time(1200)
    assert status(eks, "coredns") == ("DEGRADED", ["InsufficientNumberOfReplicas"])
    setup.create_nodegroup()
    aws.pass_time()
    assert status(eks, "coredns") == ("ACTIVE", [])


# --- updates


def test_an_update_has_its_own_id_and_takes_effect_at_its_end(aws: Aws, eks: t.Any) -> None:
    eks.create_addon(**CNI)
    aws.pass_time()
    values = '{"env": {"WARM_ENI_TARGET": "2"}}'
    update = eks.update_addon(**CNI, addonVersion="v1.21.1-eksbuild.3", configurationValues=values)["update"]
    scope = {"name": "lab", "addonName": "vpc-cni"}
    assert (update["type"], status(eks)[0], addon(eks)["addonVersion"]) == ("AddonUpdate", "UPDATING", "v1.20.4-eksbuild.2")
    assert eks.list_updates(**scope)["updateIds"] == [update["id"]]
    assert eks.list_updates(name="lab")["updateIds"] == []
    assert refused(eks.update_addon, **CNI)[0] == "ResourceInUseException"
    aws.pass_time()
    assert eks.describe_update(**scope, updateId=update["id"])["update"]["status"] == "Successful"
    assert (status(eks), addon(eks)["configurationValues"]) == (("ACTIVE", []), values)


def test_an_update_of_an_add_on_keeps_no_update_of_the_cluster_waiting(aws: Aws, eks: t.Any) -> None:
    eks.create_addon(**CNI)
    aws.pass_time()
    eks.update_addon(**CNI, configurationValues="{}")
    assert eks.update_cluster_config(name="lab", deletionProtection=True)["update"]["status"] == "InProgress"


def test_an_update_that_fails_says_why(aws: Aws, eks: t.Any) -> None:
    eks.create_addon(**CNI)
    aws.pass_time()
    aws.server.faults.add({"kind": "update", "type": "AddonUpdate", "code": "ConfigurationConflict", "message": "a conflict"})
    update = eks.update_addon(**CNI, configurationValues="{}")["update"]
    aws.pass_time()
    failed = eks.describe_update(name="lab", addonName="vpc-cni", updateId=update["id"])["update"]
    assert (failed["status"], failed["errors"][0]["errorCode"], status(eks)[0]) == ("Failed", "ConfigurationConflict", "UPDATE_FAILED")


@pytest.mark.parametrize("state", ["DEGRADED", "CREATE_FAILED"])
def test_a_fault_makes_an_add_on_unhealthy(aws: Aws, eks: t.Any, state: str) -> None:
    aws.server.faults.add({"kind": "addon", "addon": "vpc-cni", "status": state, "code": "AccessDenied", "message": "not allowed"})
    eks.create_addon(**CNI)
    aws.pass_time()
    assert status(eks) == (state, ["AccessDenied"])


def test_an_add_on_goes_with_what_it_owns(aws: Aws, eks: t.Any, pod_role: str) -> None:
    eks.create_addon(**CNI, podIdentityAssociations=[{"serviceAccount": "aws-node", "roleArn": pod_role}])
    aws.pass_time()
    assert eks.delete_addon(**CNI)["addon"]["status"] == "DELETING"
    aws.pass_time()
    assert refused(eks.describe_addon, **CNI)[0] == "ResourceNotFoundException"
    assert eks.list_pod_identity_associations(**NAMED)["associations"] == []


# --- Pod Identity


def association(pod_role: str, **changes: t.Any) -> dict[str, t.Any]:
    return {**NAMED, "namespace": "ml", "serviceAccount": "train", "roleArn": pod_role, **changes}


def test_an_association_is_described_as_it_was_made(eks: t.Any, pod_role: str) -> None:
    made = eks.create_pod_identity_association(**association(pod_role, tags={"team": "ml"}))["association"]
    found = eks.describe_pod_identity_association(**NAMED, associationId=made["associationId"])["association"]
    assert (found["roleArn"], found["namespace"], found["disableSessionTags"], found["tags"]) == (pod_role, "ml", False, {"team": "ml"})
    [listed] = eks.list_pod_identity_associations(**NAMED, namespace="ml", serviceAccount="train")["associations"]
    assert listed["associationArn"] == made["associationArn"]
    assert eks.list_pod_identity_associations(**NAMED, namespace="other")["associations"] == []


def test_a_service_account_has_one_association(eks: t.Any, pod_role: str) -> None:
    eks.create_pod_identity_association(**association(pod_role))
    assert refused(eks.create_pod_identity_association, **association(pod_role))[0] == "ResourceInUseException"


def test_the_role_has_to_exist_and_to_trust_pods(aws: Aws, eks: t.Any, pod_role: str) -> None:
    gone, other = pod_role + "2", aws.role("other", "ec2.amazonaws.com")
    assert "does not exist" in refused(eks.create_pod_identity_association, **association(gone))[1]
    assert "Trust policy" in refused(eks.create_pod_identity_association, **association(other))[1]


def test_a_session_policy_needs_sessions_without_tags(eks: t.Any, pod_role: str) -> None:
    """API CreatePodIdentityAssociation, policy."""
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    assert "disableSessionTags" in refused(eks.create_pod_identity_association, **association(pod_role, policy=policy))[1]
    eks.create_pod_identity_association(**association(pod_role, policy=policy, disableSessionTags=True))


def test_the_role_of_an_association_changes_in_place(aws: Aws, eks: t.Any, pod_role: str) -> None:
    made = eks.create_pod_identity_association(**association(pod_role))["association"]
    second = aws.role("second", "pods.eks.amazonaws.com")
    changed = eks.update_pod_identity_association(**NAMED, associationId=made["associationId"], roleArn=second)["association"]
    assert (changed["roleArn"], changed["associationId"]) == (second, made["associationId"])
    eks.delete_pod_identity_association(**NAMED, associationId=made["associationId"])
    assert refused(eks.describe_pod_identity_association, **NAMED, associationId=made["associationId"])[0] == "ResourceNotFoundException"


def test_what_an_add_on_owns_is_changed_through_the_add_on(aws: Aws, eks: t.Any, pod_role: str) -> None:
    """User guide, "Attach an IAM role to an Amazon EKS add-on using Pod Identity": absent is no change, an empty list deletes."""
    eks.create_addon(**CNI, podIdentityAssociations=[{"serviceAccount": "aws-node", "roleArn": pod_role}])
    aws.pass_time()
    [listed] = eks.list_pod_identity_associations(**NAMED)["associations"]
    assert listed["ownerArn"] == addon(eks)["addonArn"]
    assert addon(eks)["podIdentityAssociations"] == [listed["associationArn"]]
    assert refused(eks.delete_pod_identity_association, **NAMED, associationId=listed["associationId"])[0] == "InvalidRequestException"
    eks.update_addon(**CNI, configurationValues="{}")
    aws.pass_time()
    assert len(eks.list_pod_identity_associations(**NAMED)["associations"]) == 1
    eks.update_addon(**CNI, podIdentityAssociations=[])
    aws.pass_time()
    assert eks.list_pod_identity_associations(**NAMED)["associations"] == []


def test_add_ons_and_associations_have_tags(eks: t.Any, pod_role: str) -> None:
    arns = [
        eks.create_addon(**CNI)["addon"]["addonArn"],
        eks.create_pod_identity_association(**association(pod_role))["association"]["associationArn"],
    ]
    for arn in arns:
        eks.tag_resource(resourceArn=arn, tags={"a": "1", "b": "2"})
        eks.untag_resource(resourceArn=arn, tagKeys=["a"])
        assert eks.list_tags_for_resource(resourceArn=arn)["tags"] == {"b": "2"}


# --- encryption


def key(aws: Aws) -> str:
    return str(aws.client("kms").create_key()["KeyMetadata"]["Arn"])


def setup_of(arn: str) -> list[dict[str, t.Any]]:
    return [{"resources": ["secrets"], "provider": {"keyArn": arn}}]


def test_a_key_is_added_once(aws: Aws, eks: t.Any) -> None:
    """User guide, "Enable secret encryption with KMS on an existing cluster": it cannot be undone."""
    arn = key(aws)
    update = eks.associate_encryption_config(**NAMED, encryptionConfig=setup_of(arn))["update"]
    assert update["type"] == "AssociateEncryptionConfig"
    assert refused(eks.update_cluster_config, name="lab", deletionProtection=True)[0] == "ResourceInUseException"
    aws.pass_time()
    assert eks.describe_cluster(name="lab")["cluster"]["encryptionConfig"] == setup_of(arn)
    assert "already associated" in refused(eks.associate_encryption_config, **NAMED, encryptionConfig=setup_of(key(aws)))[1]


def test_keys_that_cannot_be_used_are_refused(aws: Aws, setup: ClusterSetup) -> None:
    eks, kms = aws.client("eks"), aws.client("kms")
    disabled, signing = key(aws), kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    kms.disable_key(KeyId=disabled.rpartition("/")[2])
    for arn, said in ((disabled, "not enabled"), (signing, "symmetric"), (disabled + "0", "does not exist")):
        assert said in refused(eks.create_cluster, **setup.cluster_request(encryptionConfig=setup_of(arn)))[1]


def test_a_cluster_whose_key_is_disabled_is_unhealthy(aws: Aws, setup: ClusterSetup) -> None:
    """API ClusterIssue: KmsKeyDisabled."""
    arn = key(aws)
    setup.create_cluster(encryptionConfig=setup_of(arn))
    eks, kms = aws.client("eks"), aws.client("kms")
    kms.disable_key(KeyId=arn.rpartition("/")[2])
    aws.pass_time()
    assert [issue["code"] for issue in eks.describe_cluster(name="lab")["cluster"]["health"]["issues"]] == ["KmsKeyDisabled"]
    kms.enable_key(KeyId=arn.rpartition("/")[2])
    aws.pass_time()
    assert eks.describe_cluster(name="lab")["cluster"]["health"]["issues"] == []


@pytest.mark.parametrize("cidr", ["8.8.8.0/24", "10.0.0.0/25", "10.0.0.0/8"])
def test_the_network_of_services_is_a_private_one(setup: ClusterSetup, cidr: str) -> None:
    """API KubernetesNetworkConfigRequest: within a private range, between /24 and /12."""
    request = setup.cluster_request(kubernetesNetworkConfig={"serviceIpv4Cidr": cidr})
    assert "service CIDR" in refused(setup.aws.client("eks").create_cluster, **request)[1]


def test_there_are_no_fargate_profiles(eks: t.Any) -> None:
    assert eks.list_fargate_profiles(**NAMED)["fargateProfileNames"] == []
