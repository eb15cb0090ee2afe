# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key of a cluster's secrets and the network of its services, against the API reference and the user guide."""

from __future__ import annotations

import typing as t

import pytest

from tests.lab.conftest import Aws, ClusterSetup, refused

NAMED = {"clusterName": "lab"}


@pytest.fixture
def eks(setup: ClusterSetup) -> t.Any:
    """EKS with an active cluster."""
    setup.create_cluster()
    return setup.aws.client("eks")


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
