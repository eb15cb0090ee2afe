# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EKS clusters, against the API reference (https://docs.aws.amazon.com/eks/latest/APIReference/) and the issues named."""

from __future__ import annotations

import base64
import typing as t

import pytest

from tests.lab.conftest import CA, Aws, ClusterSetup, refused


def status(aws: Aws, name: str = "lab") -> str:
    return str(aws.client("eks").describe_cluster(name=name)["cluster"]["status"])


def test_creation_needs_time_and_an_api_server(setup: ClusterSetup) -> None:
    """API Cluster.status: CREATING until the API server can be used; endpoint and CA come with ACTIVE."""
    aws = setup.aws
    aws.planes.ready = False
    created = aws.client("eks").create_cluster(**setup.cluster_request())["cluster"]
    assert created["status"] == "CREATING"
    assert "endpoint" not in created
    assert [ref.name for ref in aws.planes.running] == ["lab"]
    aws.pass_time()
    assert status(aws) == "CREATING"
    aws.planes.ready = True
    cluster = aws.client("eks").describe_cluster(name="lab")["cluster"]
    assert cluster["status"] == "ACTIVE"
    assert cluster["endpoint"] == "https://127.0.0.1:6443/lab"
    assert base64.b64decode(cluster["certificateAuthority"]["data"]) == CA


def test_a_ready_api_server_does_not_shorten_the_time(setup: ClusterSetup) -> None:
    """The lab's clock decides: a test that does not let time pass sees CREATING."""
    setup.aws.client("eks").create_cluster(**setup.cluster_request())
    assert status(setup.aws) == "CREATING"


def test_a_control_plane_that_fails_makes_the_cluster_failed(setup: ClusterSetup) -> None:
    """API Cluster.status FAILED, ClusterHealth.issues."""
    aws = setup.aws
    aws.planes.failure = "etcd ended with 1"
    aws.client("eks").create_cluster(**setup.cluster_request())
    aws.pass_time()
    cluster = aws.client("eks").describe_cluster(name="lab")["cluster"]
    assert cluster["status"] == "FAILED"
    assert "etcd ended with 1" in cluster["health"]["issues"][0]["message"]


def test_defaults_of_the_api(setup: ClusterSetup) -> None:
    """API CreateCluster: CONFIG_MAP, public endpoint, EXTENDED, no protection; terraform-provider-aws: the bootstrap flag is not read back."""
    cluster = setup.create_cluster(accessConfig={})
    assert cluster["accessConfig"] == {"authenticationMode": "CONFIG_MAP"}
    assert cluster["upgradePolicy"] == {"supportType": "EXTENDED"}
    assert cluster["deletionProtection"] is False
    assert cluster["version"] == "1.36"
    vpc = cluster["resourcesVpcConfig"]
    assert (vpc["endpointPublicAccess"], vpc["endpointPrivateAccess"], vpc["publicAccessCidrs"]) == (True, False, ["0.0.0.0/0"])
    assert vpc["vpcId"] == setup.vpc_id
    assert cluster["arn"] == "arn:aws:eks:us-west-2:123456789012:cluster/lab"
    assert [(group["enabled"], len(group["types"])) for group in cluster["logging"]["clusterLogging"]] == [(False, 5)]


def test_eks_makes_security_group_and_interfaces_and_removes_them(setup: ClusterSetup) -> None:
    """User guide sec-group-reqs and network-reqs: eks-cluster-sg-NAME-…, and interfaces 'Amazon EKS NAME' in the subnets."""
    cluster = setup.create_cluster()
    ec2 = setup.aws.client("ec2")
    group = ec2.describe_security_groups(GroupIds=[cluster["resourcesVpcConfig"]["clusterSecurityGroupId"]])["SecurityGroups"][0]
    assert group["GroupName"].startswith("eks-cluster-sg-lab-")
    tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
    assert tags["kubernetes.io/cluster/lab"] == "owned"
    assert tags["aws:eks:cluster-name"] == "lab"
    interfaces = ec2.describe_network_interfaces(Filters=[{"Name": "vpc-id", "Values": [setup.vpc_id]}])["NetworkInterfaces"]
    assert {interface["Description"] for interface in interfaces} == {"Amazon EKS lab"}
    assert {interface["SubnetId"] for interface in interfaces} == set(setup.subnets)
    assert refused(ec2.delete_network_interface, NetworkInterfaceId=interfaces[0]["NetworkInterfaceId"])[0] == "InvalidParameterValue"
    assert refused(ec2.delete_subnet, SubnetId=setup.subnets[0])[0] == "DependencyViolation"

    setup.aws.client("eks").delete_cluster(name="lab")
    _wait_until_gone(setup.aws)
    assert not ec2.describe_network_interfaces(Filters=[{"Name": "vpc-id", "Values": [setup.vpc_id]}])["NetworkInterfaces"]
    names = [
        group["GroupName"]
        for group in ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [setup.vpc_id]}])["SecurityGroups"]
    ]
    assert names == ["default"]
    assert setup.aws.planes.running == []


def _wait_until_gone(aws: Aws) -> None:
    """Taking the control plane down happens in a thread of its own."""
    for _unused in range(100):
        aws.pass_time()
        if not aws.client("eks").list_clusters()["clusters"]:
            return
    raise AssertionError("the cluster is still there")


def test_a_security_group_that_others_use_outlives_the_cluster(setup: ClusterSetup) -> None:
    """eksctl#1849, #7719: groups that self-managed nodes still use are left behind."""
    cluster = setup.create_cluster()
    group_id = cluster["resourcesVpcConfig"]["clusterSecurityGroupId"]
    ec2 = setup.aws.client("ec2")
    ec2.create_network_interface(SubnetId=setup.subnets[0], Groups=[group_id])
    setup.aws.client("eks").delete_cluster(name="lab")
    _wait_until_gone(setup.aws)
    assert ec2.describe_security_groups(GroupIds=[group_id])["SecurityGroups"]


CREATE_REFUSALS: list[tuple[str, dict[str, t.Any], str]] = [
    ("API CreateCluster roleArn", {"roleArn": "arn:aws:iam::123456789012:role/none"}, "could not be assumed because it does not exist"),
    ("EKS user guide cluster-iam-role: trust", {"roleArn": "arn:aws:iam::123456789012:role/node"}, "the trusted entity is not correct"),
    ("API subnetIds: exist", {"resourcesVpcConfig": {"subnetIds": ["subnet-0123456789abcdef0"]}}, "does not exist"),
    ("API version", {"version": "1.20"}, "unsupported Kubernetes version 1.20"),
    ("API name pattern", {"name": "no spaces"}, "regular expression pattern"),
    ("API name length", {"name": "x" * 101}, "length less than or equal to 100"),
    ("API authenticationMode enum", {"accessConfig": {"authenticationMode": "ROOT"}}, "enum value set"),
    (
        "terraform-aws-eks#3206",
        {"accessConfig": {"authenticationMode": "CONFIG_MAP", "bootstrapClusterCreatorAdminPermissions": False}},
        "bootstrapClusterCreatorAdminPermissions must be true",
    ),
    ("API tags: reserved", {"tags": {"aws:mine": "x"}}, "reserved prefix"),
    ("API tags: 50", {"tags": {f"k{number}": "" for number in range(51)}}, "50"),
]


@pytest.mark.parametrize(("source", "changes", "message"), CREATE_REFUSALS, ids=[row[0] for row in CREATE_REFUSALS])
def test_create_refuses(setup: ClusterSetup, source: str, changes: dict[str, t.Any], message: str) -> None:
    """Nothing is made by a refused request."""
    code, text = refused(setup.aws.client("eks").create_cluster, **setup.cluster_request(**changes))
    assert code == "InvalidParameterException", source
    assert message in text, source
    assert setup.aws.planes.running == []
    assert not setup.aws.client("ec2").describe_network_interfaces()["NetworkInterfaces"]


def test_subnets_in_one_zone_are_refused(aws: Aws) -> None:
    """API CreateCluster resourcesVpcConfig: at least two Availability Zones."""
    role = aws.role("cluster", "eks.amazonaws.com")
    _unused, subnets = aws.subnets("aa")
    code, text = refused(aws.client("eks").create_cluster, name="lab", roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
    assert (code, text) == ("InvalidParameterException", "Subnets specified must be in at least two different AZs")


def test_subnets_of_two_vpcs_are_refused(setup: ClusterSetup) -> None:
    """API VpcConfigRequest: subnets of one VPC."""
    _unused, others = setup.aws.subnets("b", third=1)
    request = setup.cluster_request(resourcesVpcConfig={"subnetIds": [setup.subnets[0], others[0]]})
    assert "same VPC" in refused(setup.aws.client("eks").create_cluster, **request)[1]


def test_security_groups_are_checked(setup: ClusterSetup) -> None:
    """API VpcConfigRequest securityGroupIds: exist, at most five."""
    for groups, message in ((["sg-0123456789abcdef0"], "does not exist"), ([f"sg-{number}" for number in range(6)], "At most 5")):
        request = setup.cluster_request(resourcesVpcConfig={"subnetIds": setup.subnets, "securityGroupIds": groups})
        assert message in refused(setup.aws.client("eks").create_cluster, **request)[1]


def test_a_name_is_taken_once(setup: ClusterSetup) -> None:
    """API CreateCluster errors: ResourceInUseException, HTTP 409, with clusterName."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    with pytest.raises(eks.exceptions.ResourceInUseException) as caught:
        eks.create_cluster(**setup.cluster_request())
    response = t.cast(dict[str, t.Any], caught.value.response)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert response["clusterName"] == "lab"
    assert response["Error"]["Message"] == "Cluster already exists with name: lab"


def test_an_unknown_cluster_is_not_found(aws: Aws) -> None:
    """API DescribeCluster errors: ResourceNotFoundException, HTTP 404."""
    eks = aws.client("eks")
    for call in (eks.describe_cluster, eks.delete_cluster):
        assert refused(call, name="nobody") == ("ResourceNotFoundException", "No cluster found for name: nobody.")


def test_deletion_guards(setup: ClusterSetup) -> None:
    """cloud-nuke#148 (node groups), containers-roadmap#1511 (update in progress), API deletionProtection, CREATING."""
    eks = setup.aws.client("eks")
    eks.create_cluster(**setup.cluster_request())
    assert "CREATING" in refused(eks.delete_cluster, name="lab")[1]
    setup.aws.pass_time()
    setup.create_nodegroup()
    assert refused(eks.delete_cluster, name="lab") == ("ResourceInUseException", "Cluster has nodegroups attached")
    eks.delete_nodegroup(clusterName="lab", nodegroupName="gpu")
    setup.aws.pass_time()
    eks.update_cluster_config(name="lab", deletionProtection=True)
    assert refused(eks.delete_cluster, name="lab")[1] == "Cannot delete because cluster lab currently has an update in progress"
    setup.aws.pass_time()
    code, text = refused(eks.delete_cluster, name="lab")
    assert code == "InvalidRequestException"
    assert "deletion protection" in text
    eks.update_cluster_config(name="lab", deletionProtection=False)
    setup.aws.pass_time()
    assert eks.delete_cluster(name="lab")["cluster"]["status"] == "DELETING"
    assert refused(eks.delete_cluster, name="lab")[0] == "ResourceInUseException"


def test_client_tokens(setup: ClusterSetup) -> None:
    """API clientRequestToken: the same request again gives the same reply while the cluster lives; other parameters are an error."""
    eks = setup.aws.client("eks")
    first = eks.create_cluster(**setup.cluster_request(clientRequestToken="one"))["cluster"]
    assert eks.create_cluster(**setup.cluster_request(clientRequestToken="one"))["cluster"]["createdAt"] == first["createdAt"]
    assert len(setup.aws.planes.running) == 1
    code, text = refused(eks.create_cluster, **setup.cluster_request(clientRequestToken="one", version="1.35"))
    assert code == "InvalidParameterException"
    assert "different parameters" in text
    setup.aws.pass_time()
    eks.delete_cluster(name="lab")
    _wait_until_gone(setup.aws)
    again = eks.create_cluster(**setup.cluster_request(clientRequestToken="one"))["cluster"]
    assert again["createdAt"] > first["createdAt"]


def test_clusters_are_listed_in_pages(setup: ClusterSetup) -> None:
    """API ListClusters maxResults, nextToken."""
    for name in ("c", "a", "b"):
        setup.aws.client("eks").create_cluster(**setup.cluster_request(name))
    eks = setup.aws.client("eks")
    first = eks.list_clusters(maxResults=2)
    assert first["clusters"] == ["a", "b"]
    assert eks.list_clusters(maxResults=2, nextToken=first["nextToken"])["clusters"] == ["c"]
    assert refused(eks.list_clusters, nextToken="garbage")[0] == "InvalidParameterException"
    assert sorted(ref.name for ref in setup.aws.server.clusters()) == ["a", "b", "c"]


def test_regions_are_apart(setup: ClusterSetup) -> None:
    """A cluster belongs to its region."""
    setup.create_cluster()
    assert setup.aws.client("eks", region="eu-west-1").list_clusters()["clusters"] == []


def test_versions(aws: Aws) -> None:
    """API DescribeClusterVersions; data/eks_versions.json names its sources."""
    eks = aws.client("eks")
    listed = {item["clusterVersion"]: item for item in eks.describe_cluster_versions()["clusterVersions"]}
    assert set(listed) == {"1.33", "1.34", "1.35", "1.36"}
    assert listed["1.36"]["kubernetesPatchVersion"] == "1.36.4"
    assert [name for name, item in listed.items() if item["defaultVersion"]] == ["1.36"]
    extended = eks.describe_cluster_versions(versionStatus="EXTENDED_SUPPORT")["clusterVersions"]
    assert [item["clusterVersion"] for item in extended] == ["1.33"]
    assert listed["1.33"]["endOfStandardSupportDate"] < listed["1.33"]["endOfExtendedSupportDate"]


def test_tags_of_every_kind_of_resource(setup: ClusterSetup) -> None:
    """API TagResource, UntagResource, ListTagsForResource on cluster, node group and access entry; NotFoundException otherwise."""
    cluster = setup.create_cluster(tags={"a": "1"})
    nodegroup = setup.create_nodegroup()
    eks = setup.aws.client("eks")
    entry = eks.describe_access_entry(clusterName="lab", principalArn="arn:aws:iam::123456789012:user/lab-admin")["accessEntry"]
    for arn in (cluster["arn"], nodegroup["nodegroupArn"], entry["accessEntryArn"]):
        before = eks.list_tags_for_resource(resourceArn=arn)["tags"]
        eks.tag_resource(resourceArn=arn, tags={"b": "2", "c/d e": "ü"})
        assert eks.list_tags_for_resource(resourceArn=arn)["tags"] == {**before, "b": "2", "c/d e": "ü"}
        eks.untag_resource(resourceArn=arn, tagKeys=["b", "c/d e"])
        assert eks.list_tags_for_resource(resourceArn=arn)["tags"] == before
    assert refused(eks.list_tags_for_resource, resourceArn=cluster["arn"] + "x")[0] == "NotFoundException"
    assert refused(eks.tag_resource, resourceArn=cluster["arn"], tags={"aws:x": "y"})[0] == "BadRequestException"
