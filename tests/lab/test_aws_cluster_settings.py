# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What CreateCluster takes is what DescribeCluster shows; the key of secrets, networks of services, free addresses."""

from __future__ import annotations

import re
import typing as t

import pytest

from lab.aws.eks.routing import service_model
from tests.lab.conftest import ClusterSetup, refused

SCORING = {"nodeResourcesFit": {"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "nvidia.com/gpu", "weight": 5}]}}}
# A value that is not the default for each field of CreateCluster, besides those that need something in the account.
SETTINGS: dict[str, t.Any] = {
    "version": "1.35",
    "kubernetesNetworkConfig": {"serviceIpv4Cidr": "10.64.0.0/20", "ipFamily": "ipv4", "elasticLoadBalancing": {"enabled": True}},
    "logging": {"clusterLogging": [{"types": ["api"], "enabled": True}]},
    "tags": {"a": "b"},
    "accessConfig": {"authenticationMode": "API"},
    "upgradePolicy": {"supportType": "STANDARD"},
    "zonalShiftConfig": {"enabled": True},
    "remoteNetworkConfig": {"remoteNodeNetworks": [{"cidrs": ["10.200.0.0/16"]}]},
    "computeConfig": {"enabled": True, "nodePools": ["system"]},
    "storageConfig": {"blockStorage": {"enabled": True}},
    "deletionProtection": True,
    "controlPlaneScalingConfig": {"tier": "tier-xl"},
    "kubeApiServerConfig": {"eventTtl": "2h"},
    "kubeSchedulerConfig": SCORING,
    "kubeControllerManagerConfig": {"podGcControllerConfig": {"terminatedPodGcThreshold": 100}},
}
ELSEWHERE = {"name", "roleArn", "resourcesVpcConfig", "encryptionConfig"}  # compared in the tests below
WRITE_ONLY = {"clientRequestToken", "bootstrapSelfManagedAddons"}
REFUSED = {"outpostConfig"}


def test_every_field_of_the_model_is_known_here() -> None:
    """A botocore that knows more makes this fail, so that nothing is dropped in silence."""
    shape: t.Any = service_model().operation_model("CreateCluster").input_shape
    assert set(shape.members) == set(SETTINGS) | ELSEWHERE | WRITE_ONLY | REFUSED


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_a_field_of_the_request_is_described(setup: ClusterSetup, name: str) -> None:
    """API CreateCluster and Cluster: the same member, with the same value."""
    found = setup.create_cluster(**{name: SETTINGS[name]}, bootstrapSelfManagedAddons=False)[name]
    wanted = SETTINGS[name]
    if name == "logging":
        assert wanted["clusterLogging"][0] in found["clusterLogging"]
    else:
        assert found == wanted


def test_the_network_of_the_request_is_described(setup: ClusterSetup) -> None:
    """API VpcConfigRequest and VpcConfigResponse."""
    group = setup.aws.client("ec2").create_security_group(GroupName="g", Description="g", VpcId=setup.vpc_id)["GroupId"]
    wanted = {
        "subnetIds": setup.subnets,
        "securityGroupIds": [group],
        "endpointPublicAccess": True,
        "endpointPrivateAccess": True,
        "publicAccessCidrs": ["192.0.2.0/24"],
        "controlPlaneEgressMode": "CUSTOMER_ROUTED",
    }
    shape: t.Any = service_model().shape_for("VpcConfigRequest")
    assert set(shape.members) == set(wanted)
    found = setup.create_cluster(resourcesVpcConfig=wanted)["resourcesVpcConfig"]
    assert {key: found[key] for key in wanted} == wanted


def test_defaults(setup: ClusterSetup) -> None:
    """API KubernetesNetworkConfigResponse: 172.20.0.0/16 in a VPC of 10.0.0.0/8; API OIDC: an issuer of the cluster's own."""
    cluster = setup.create_cluster()
    assert cluster["kubernetesNetworkConfig"]["serviceIpv4Cidr"] == "172.20.0.0/16"
    assert cluster["kubernetesNetworkConfig"]["ipFamily"] == "ipv4"
    assert re.fullmatch(r"https://oidc\.eks\.us-west-2\.amazonaws\.com/id/[0-9A-F]{32}", cluster["identity"]["oidc"]["issuer"])
    assert setup.aws.client("eks").list_fargate_profiles(clusterName="lab")["fargateProfileNames"] == []


@pytest.mark.parametrize("cidr", ["8.8.0.0/16", "10.0.0.0/11", "10.0.0.0/25", "10.0.0.1/16", "nonsense"])
def test_networks_that_are_none_for_services(setup: ClusterSetup, cidr: str) -> None:
    """API KubernetesNetworkConfigRequest serviceIpv4Cidr: a private block, /24 to /12."""
    network = {"serviceIpv4Cidr": cidr}
    code, text = refused(setup.aws.client("eks").create_cluster, **setup.cluster_request(kubernetesNetworkConfig=network))
    assert code == "InvalidParameterException"
    assert cidr in text


def test_a_subnet_without_free_addresses(setup: ClusterSetup) -> None:
    """User guide network-reqs: at least six free addresses in each subnet."""
    ec2 = setup.aws.client("ec2")
    small = ec2.create_subnet(VpcId=setup.vpc_id, CidrBlock="10.0.200.0/28", AvailabilityZone="us-west-2d")["Subnet"]["SubnetId"]
    for _unused in range(5):
        ec2.create_network_interface(SubnetId=small)
    vpc = {"subnetIds": [setup.subnets[0], small]}
    assert setup.create_cluster("fits", resourcesVpcConfig=vpc)["status"] == "ACTIVE"  # 6 were free, its own interfaces take some
    eks = setup.aws.client("eks")
    code, text = refused(eks.create_cluster, **setup.cluster_request(resourcesVpcConfig=vpc))
    assert code == "InvalidParameterException"
    assert text == f"Provided subnets {small} Free IPs: 5 , need at least 6 IPs in each subnet to be free for this operation"
    ec2.create_network_interface(SubnetId=small)
    setup.create_cluster(version="1.35")
    code, text = refused(eks.update_cluster_config, name="lab", resourcesVpcConfig=vpc)
    assert code == "InvalidRequestException"
    assert text == f"Provided subnets {small} Free IPs: 4 , need at least 5 IPs in each subnet to be free for this operation"


def test_an_upgrade_needs_free_addresses(setup: ClusterSetup) -> None:
    """containers-roadmap#1693: five in each subnet of the cluster."""
    ec2 = setup.aws.client("ec2")
    small = ec2.create_subnet(VpcId=setup.vpc_id, CidrBlock="10.0.200.0/28", AvailabilityZone="us-west-2d")["Subnet"]["SubnetId"]
    setup.create_cluster(version="1.35", resourcesVpcConfig={"subnetIds": [setup.subnets[0], small]})
    for _unused in range(6):
        ec2.create_network_interface(SubnetId=small)
    code, text = refused(setup.aws.client("eks").update_cluster_version, name="lab", version="1.36")
    assert code == "InvalidRequestException"
    assert "need at least 5 IPs" in text


def key_of_secrets(setup: ClusterSetup, **request: t.Any) -> str:
    return str(setup.aws.client("kms").create_key(**request)["KeyMetadata"]["Arn"])


def encryption(arn: str) -> list[dict[str, t.Any]]:
    return [{"resources": ["secrets"], "provider": {"keyArn": arn}}]


def test_a_key_at_creation(setup: ClusterSetup) -> None:
    """API EncryptionConfig; a second key is refused: enable-kms, "you can't disable encryption after enabling it"."""
    wanted = encryption(key_of_secrets(setup))
    assert setup.create_cluster(encryptionConfig=wanted)["encryptionConfig"] == wanted
    other = encryption(key_of_secrets(setup))
    refusal = refused(setup.aws.client("eks").associate_encryption_config, clusterName="lab", encryptionConfig=other)
    assert refusal == ("InvalidParameterException", "Encryption config is already associated with the cluster")


def test_a_key_for_a_running_cluster(setup: ClusterSetup) -> None:
    """API AssociateEncryptionConfig: an update, one in flight, in force when it is done."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    wanted = encryption(key_of_secrets(setup))
    update = eks.associate_encryption_config(clusterName="lab", encryptionConfig=wanted)["update"]
    assert (update["type"], update["status"]) == ("AssociateEncryptionConfig", "InProgress")
    assert [param["type"] for param in update["params"]] == ["EncryptionConfig"]
    assert refused(eks.associate_encryption_config, clusterName="lab", encryptionConfig=wanted)[0] == "ResourceInUseException"
    assert "encryptionConfig" not in eks.describe_cluster(name="lab")["cluster"]
    setup.aws.pass_time()
    assert eks.describe_update(name="lab", updateId=update["id"])["update"]["status"] == "Successful"
    assert eks.describe_cluster(name="lab")["cluster"]["encryptionConfig"] == wanted


def test_keys_that_are_none_for_secrets(setup: ClusterSetup) -> None:
    """User guide enable-kms: symmetric, of the region, enabled."""
    disabled, doomed = key_of_secrets(setup), key_of_secrets(setup)
    kms = setup.aws.client("kms")
    kms.disable_key(KeyId=disabled.rpartition("/")[2])
    kms.schedule_key_deletion(KeyId=doomed)
    keys = {
        disabled: "is not enabled: Disabled",
        doomed: "is not enabled: PendingDeletion",
        key_of_secrets(setup, KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT"): "is not a symmetric key",
        "arn:aws:kms:us-west-2:123456789012:key/00000000-0000-0000-0000-000000000000": "does not exist",
    }
    for arn, message in keys.items():
        code, text = refused(setup.aws.client("eks").create_cluster, **setup.cluster_request(encryptionConfig=encryption(arn)))
        assert code == "InvalidParameterException"
        assert message in text


def test_health_follows_the_key(setup: ClusterSetup) -> None:
    """API ClusterIssue: KmsKeyDisabled, KmsKeyMarkedForDeletion; gone with the reason."""
    arn = key_of_secrets(setup)
    setup.create_cluster(encryptionConfig=encryption(arn))
    kms, eks = setup.aws.client("kms"), setup.aws.client("eks")

    key_id = arn.rpartition("/")[2]

    def codes() -> list[str]:
        setup.aws.pass_time()
        return [issue["code"] for issue in eks.describe_cluster(name="lab")["cluster"]["health"]["issues"]]

    assert codes() == []
    kms.disable_key(KeyId=key_id)
    assert codes() == ["KmsKeyDisabled"]
    kms.schedule_key_deletion(KeyId=key_id)
    assert codes() == ["KmsKeyMarkedForDeletion"]
    kms.cancel_key_deletion(KeyId=key_id)
    kms.enable_key(KeyId=key_id)
    assert codes() == []


def test_all_parts_go_with_the_cluster(setup: ClusterSetup) -> None:
    """API DeleteCluster: a cluster of the same name that comes later has none of the old one's add-ons and associations."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    role = setup.aws.role("pods", "pods.eks.amazonaws.com")
    made = eks.create_addon(clusterName="lab", addonName="vpc-cni")["addon"]
    eks.create_pod_identity_association(clusterName="lab", namespace="a", serviceAccount="b", roleArn=role)
    eks.create_access_entry(clusterName="lab", principalArn=role)
    setup.aws.pass_time()
    eks.delete_cluster(name="lab")
    for _unused in range(100):  # the control plane is taken down in a thread of its own
        setup.aws.pass_time()
        if not eks.list_clusters()["clusters"]:
            break
    assert refused(eks.list_addons, clusterName="lab")[0] == "ResourceNotFoundException"
    assert refused(eks.list_tags_for_resource, resourceArn=made["addonArn"])[0] == "NotFoundException"
    setup.create_cluster()
    assert eks.list_addons(clusterName="lab")["addons"] == []
    assert eks.list_pod_identity_associations(clusterName="lab")["associations"] == []
    assert role not in eks.list_access_entries(clusterName="lab")["accessEntries"]
