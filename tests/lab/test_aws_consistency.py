# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stale reads: what was just made is not seen everywhere yet.

Sources: Amazon EC2 API developer guide, eventual consistency; IAM User Guide, troubleshooting (changes are not always immediately visible);
AWS KMS developer guide, eventual consistency; EKS User Guide, access entries and Pod Identity.
"""

from __future__ import annotations

import json
import typing as t

import pytest
import requests

from lab.aws.consistency import NAMES
from lab.contracts import ClusterRef
from tests.lab.conftest import REGION, Aws, ClusterSetup, refused

SECONDS = 30
TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "*"}]}
)


def set_stale(aws: Aws, **setting: t.Any) -> dict[str, t.Any]:
    answer = requests.post(f"{aws.server.endpoint}/_lab/consistency", json={"seconds": SECONDS, **setting}, timeout=10)
    assert answer.status_code == 200, answer.text
    document: dict[str, t.Any] = answer.json()["consistency"]
    return document


class Made(t.NamedTuple):
    """One thing that was made, and how it is read: by its id, and in a list."""

    thing: str
    read: t.Callable[[], t.Any]
    listed: t.Callable[[], list[str]]
    code: str


class Ec2Kind(t.NamedTuple):
    """How EC2 makes and reads things of one kind: calls, members of their replies, the error of an unknown id, and what the create call needs."""

    create: str
    describe: str
    items: str
    member: str
    code: str
    request: t.Callable[[str, str], dict[str, t.Any]]  # of a VPC and a subnet


EC2_KINDS = {
    "vpc": Ec2Kind(
        "create_vpc", "describe_vpcs", "Vpcs", "VpcId", "InvalidVpcID.NotFound", lambda vpc, subnet: {"CidrBlock": "10.9.0.0/16"}
    ),
    "subnet": Ec2Kind(
        "create_subnet",
        "describe_subnets",
        "Subnets",
        "SubnetId",
        "InvalidSubnetID.NotFound",
        lambda vpc, subnet: {"VpcId": vpc, "CidrBlock": "10.0.9.0/24"},
    ),
    "route_table": Ec2Kind(
        "create_route_table",
        "describe_route_tables",
        "RouteTables",
        "RouteTableId",
        "InvalidRouteTableID.NotFound",
        lambda vpc, subnet: {"VpcId": vpc},
    ),
    "internet_gateway": Ec2Kind(
        "create_internet_gateway",
        "describe_internet_gateways",
        "InternetGateways",
        "InternetGatewayId",
        "InvalidInternetGatewayID.NotFound",
        lambda vpc, subnet: {},
    ),
    "nat_gateway": Ec2Kind(
        "create_nat_gateway",
        "describe_nat_gateways",
        "NatGateways",
        "NatGatewayId",
        "NatGatewayNotFound",
        lambda vpc, subnet: {"SubnetId": subnet, "ConnectivityType": "private"},
    ),
    "address": Ec2Kind(
        "allocate_address",
        "describe_addresses",
        "Addresses",
        "AllocationId",
        "InvalidAllocationID.NotFound",
        lambda vpc, subnet: {"Domain": "vpc"},
    ),
    "security_group": Ec2Kind(
        "create_security_group",
        "describe_security_groups",
        "SecurityGroups",
        "GroupId",
        "InvalidGroup.NotFound",
        lambda vpc, subnet: {"VpcId": vpc, "GroupName": "x", "Description": "x"},
    ),
    "vpc_endpoint": Ec2Kind(
        "create_vpc_endpoint",
        "describe_vpc_endpoints",
        "VpcEndpoints",
        "VpcEndpointId",
        "InvalidVpcEndpointId.NotFound",
        lambda vpc, subnet: {"VpcId": vpc, "ServiceName": f"com.amazonaws.{REGION}.s3", "VpcEndpointType": "Gateway"},
    ),
    "network_interface": Ec2Kind(
        "create_network_interface",
        "describe_network_interfaces",
        "NetworkInterfaces",
        "NetworkInterfaceId",
        "InvalidNetworkInterfaceID.NotFound",
        lambda vpc, subnet: {"SubnetId": subnet},
    ),
    "launch_template": Ec2Kind(
        "create_launch_template",
        "describe_launch_templates",
        "LaunchTemplates",
        "LaunchTemplateId",
        "InvalidLaunchTemplateId.NotFound",
        lambda vpc, subnet: {"LaunchTemplateName": "x", "LaunchTemplateData": {"InstanceType": "m5.large"}},
    ),
}


def made_of_ec2(aws: Aws, name: str) -> Made:
    """One thing of a kind, made while reads are stale."""
    ec2 = aws.client("ec2")
    vpc_id, subnets = aws.subnets()
    kind = EC2_KINDS[name]
    set_stale(aws)
    reply = getattr(ec2, kind.create)(**kind.request(vpc_id, subnets[0]))
    found = {**reply, **next((value for value in reply.values() if isinstance(value, dict) and kind.member in value), {})}
    thing = found[kind.member]
    read = getattr(ec2, kind.describe)
    return Made(thing, lambda: read(**{f"{kind.member}s": [thing]}), lambda: [item[kind.member] for item in read()[kind.items]], kind.code)


@pytest.mark.parametrize("kind", EC2_KINDS)
def test_ec2(aws: Aws, kind: str) -> None:
    """Errors Invalid…NotFound by id, and absence from lists, until the time is over; other things are seen all the while."""
    made = made_of_ec2(aws, kind)
    for _unused in range(2):
        assert refused(made.read)[0] == made.code
        assert made.thing not in made.listed()
        aws.clock.advance(SECONDS / 2 - 1)
    if kind in ("vpc", "subnet", "route_table", "security_group"):
        assert made.listed()
    aws.clock.advance(2)
    made.read()
    assert made.thing in made.listed()


def test_instances(aws: Aws) -> None:
    _unused, subnets = aws.subnets()
    ec2 = aws.client("ec2")
    set_stale(aws)
    run = ec2.run_instances(ImageId="ami-0123456789abcdef0", InstanceType="m5.large", SubnetId=subnets[0], MinCount=2, MaxCount=2)
    ids = [instance["InstanceId"] for instance in run["Instances"]]
    assert refused(ec2.describe_instances, InstanceIds=ids[1:])[0] == "InvalidInstanceID.NotFound"
    assert [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]] == []
    aws.clock.advance(SECONDS)
    assert len([i for r in ec2.describe_instances(InstanceIds=ids)["Reservations"] for i in r["Instances"]]) == 2


def test_a_filter_finds_nothing_yet(aws: Aws) -> None:
    """A filter is no name: the reply is empty, and no error; what is in a stale VPC is not hidden by that."""
    ec2 = aws.client("ec2")
    set_stale(aws, kinds=["vpc"])
    tags = [{"ResourceType": "vpc", "Tags": [{"Key": "gpuops.eks/owner", "Value": "me"}]}]
    vpc_id = ec2.create_vpc(CidrBlock="10.9.0.0/16", TagSpecifications=tags)["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    filters = [{"Name": "tag:gpuops.eks/owner", "Values": ["me"]}]
    assert ec2.describe_vpcs(Filters=filters)["Vpcs"] == []
    in_vpc = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    assert [item["SubnetId"] for item in in_vpc] == [subnet]
    aws.clock.advance(SECONDS)
    (vpc,) = ec2.describe_vpcs(Filters=filters)["Vpcs"]
    assert {tag["Key"]: tag["Value"] for tag in vpc["Tags"]} == {"gpuops.eks/owner": "me"}


@pytest.mark.parametrize("references", [True, False])
def test_calls_that_use_what_was_just_made(aws: Aws, references: bool) -> None:
    """With references they fail as EC2 says it; nothing is made by them. Without, EC2 knows its own ids."""
    ec2 = aws.client("ec2")
    set_stale(aws, references=references)
    vpc_id = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    for call, request, code in (
        (ec2.create_subnet, {"VpcId": vpc_id, "CidrBlock": "10.9.1.0/24"}, "InvalidVpcID.NotFound"),
        (ec2.modify_vpc_attribute, {"VpcId": vpc_id, "EnableDnsHostnames": {"Value": True}}, "InvalidVpcID.NotFound"),
        (ec2.create_tags, {"Resources": [gateway], "Tags": [{"Key": "a", "Value": "b"}]}, "InvalidInternetGatewayID.NotFound"),
    ):
        if references:
            assert refused(call, **request)[0] == code
        else:
            call(**request)
    aws.clock.advance(SECONDS)
    made = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    assert len(made) == (0 if references else 1)
    if references:
        ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.9.1.0/24")


def test_eks_does_not_know_a_new_subnet(setup: ClusterSetup) -> None:
    """With references: EKS passes on what EC2 says."""
    set_stale(setup.aws, references=True)
    new = setup.aws.client("ec2").create_subnet(VpcId=setup.vpc_id, CidrBlock="10.0.9.0/24", AvailabilityZone=f"{REGION}b")["Subnet"]
    request = setup.cluster_request(resourcesVpcConfig={"subnetIds": [setup.subnets[0], new["SubnetId"]]})
    code, message = refused(setup.aws.client("eks").create_cluster, **request)
    assert (code, "InvalidSubnetID.NotFound" in message) == ("InvalidParameterException", True)
    setup.aws.clock.advance(SECONDS)
    setup.aws.client("eks").create_cluster(**request)


def test_iam(aws: Aws) -> None:
    """NoSuchEntity for roles, policies, instance profiles and providers; to make one again is a conflict at once."""
    iam = aws.client("iam")
    set_stale(aws)
    role = iam.create_role(RoleName="new", Path="/gpuops/", AssumeRolePolicyDocument=TRUST)["Role"]
    policy = iam.create_policy(
        PolicyName="new", PolicyDocument=TRUST.replace('"Principal": {"Service": "eks.amazonaws.com"}, ', '"Resource": "*", ')
    )
    iam.create_instance_profile(InstanceProfileName="new")
    provider = iam.create_open_id_connect_provider(Url="https://oidc.example.com/id/X", ClientIDList=["sts.amazonaws.com"])
    reads: list[tuple[t.Any, dict[str, str]]] = [
        (iam.get_role, {"RoleName": "new"}),
        (iam.list_attached_role_policies, {"RoleName": "new"}),
        (iam.get_policy, {"PolicyArn": policy["Policy"]["Arn"]}),
        (iam.get_instance_profile, {"InstanceProfileName": "new"}),
        (iam.get_open_id_connect_provider, {"OpenIDConnectProviderArn": provider["OpenIDConnectProviderArn"]}),
    ]
    assert {refused(call, **request)[0] for call, request in reads} == {"NoSuchEntity"}
    assert [item["RoleName"] for item in iam.list_roles()["Roles"]] == []
    assert iam.list_policies(Scope="Local")["Policies"] == []
    assert iam.list_instance_profiles()["InstanceProfiles"] == []
    assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []
    assert refused(iam.create_role, RoleName="new", AssumeRolePolicyDocument=TRUST)[0] == "EntityAlreadyExists"
    aws.clock.advance(SECONDS)
    for call, request in reads:
        call(**request)
    assert [item["Arn"] for item in iam.list_roles()["Roles"]] == [role["Arn"]]


def test_a_role_that_is_made_again_is_new(aws: Aws) -> None:
    iam = aws.client("iam")
    set_stale(aws)
    iam.create_role(RoleName="new", AssumeRolePolicyDocument=TRUST)
    aws.clock.advance(SECONDS)
    iam.delete_role(RoleName="new")
    iam.create_role(RoleName="new", AssumeRolePolicyDocument=TRUST)
    assert refused(iam.get_role, RoleName="new")[0] == "NoSuchEntity"


def test_eks_cannot_use_a_new_role(setup: ClusterSetup) -> None:
    """CreateCluster, CreateNodegroup, CreateAccessEntry: each in its own words (issues of CAPA, eksctl and Terraform's AWS provider)."""
    aws, eks = setup.aws, setup.aws.client("eks")
    set_stale(aws)
    cluster_role, node_role = aws.role("cluster-2", "eks.amazonaws.com"), aws.role("node-2", "ec2.amazonaws.com")
    code, message = refused(eks.create_cluster, **setup.cluster_request(roleArn=cluster_role))
    assert (code, "could not be assumed because it does not exist" in message) == ("InvalidParameterException", True)
    setup.create_cluster(resourcesVpcConfig={"subnetIds": setup.subnets})
    set_stale(aws)
    node_role = aws.role("node-3", "ec2.amazonaws.com")
    code, message = refused(eks.create_nodegroup, **setup.nodegroup_request(nodeRole=node_role))
    assert (code, "The role with name node-3 cannot be found" in message) == ("InvalidParameterException", True)
    assert "invalid principal" in refused(eks.create_access_entry, clusterName="lab", principalArn=node_role)[1]
    association = {"clusterName": "lab", "namespace": "a", "serviceAccount": "b", "roleArn": node_role}
    assert refused(eks.create_pod_identity_association, **association) == (
        "InvalidParameterException",
        "Role provided in the request does not exist.",
    )
    addon = {"clusterName": "lab", "addonName": "vpc-cni", "serviceAccountRoleArn": node_role}
    assert "does not exist" in refused(eks.create_addon, **addon)[1]
    aws.clock.advance(SECONDS)
    eks.create_nodegroup(**setup.nodegroup_request(nodeRole=node_role))


def test_a_key_policy_cannot_name_a_new_role(aws: Aws) -> None:
    """API CreateKey: MalformedPolicyDocumentException; KMS developer guide: a new principal may not be known yet."""
    set_stale(aws, kinds=["iam_role"])
    arn, kms = aws.role("keys", "eks.amazonaws.com"), aws.client("kms")
    statement = {"Effect": "Allow", "Principal": {"AWS": [arn]}, "Action": "kms:*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert refused(kms.create_key, Policy=policy) == (
        "MalformedPolicyDocumentException",
        "Policy contains a statement with one or more invalid principals.",
    )
    aws.clock.advance(SECONDS)
    kms.create_key(Policy=policy)


def test_keys_and_aliases(aws: Aws) -> None:
    """NotFoundException by key id, ARN and alias; lists, also the tagging API's, are behind."""
    kms, tagging = aws.client("kms"), aws.client("resourcegroupstaggingapi")
    old = kms.create_key()["KeyMetadata"]["KeyId"]
    set_stale(aws)
    key = kms.create_key(Tags=[{"TagKey": "owner", "TagValue": "me"}])["KeyMetadata"]
    kms.create_alias(AliasName="alias/gpuops/lab", TargetKeyId=key["KeyId"])
    for name in (key["KeyId"], key["Arn"], "alias/gpuops/lab"):
        assert refused(kms.describe_key, KeyId=name)[0] == "NotFoundException"
    assert [item["KeyId"] for item in kms.list_keys()["Keys"]] == [old]
    assert "alias/gpuops/lab" not in [item["AliasName"] for item in kms.list_aliases()["Aliases"]]
    by_tag = {"TagFilters": [{"Key": "owner", "Values": ["me"]}], "ResourceTypeFilters": ["kms:key"]}
    assert tagging.get_resources(**by_tag)["ResourceTagMappingList"] == []
    aws.clock.advance(SECONDS)
    assert kms.describe_key(KeyId="alias/gpuops/lab")["KeyMetadata"]["Arn"] == key["Arn"]
    assert [item["ResourceARN"] for item in tagging.get_resources(**by_tag)["ResourceTagMappingList"]] == [key["Arn"]]


def test_access_entries(setup: ClusterSetup) -> None:
    """Described at once, listed and let in later; other clusters and principals are not concerned."""
    aws = setup.aws
    cluster = setup.create_cluster()
    arn = aws.role("people", "ec2.amazonaws.com")
    eks, ref = aws.client("eks"), ClusterRef(account="123456789012", region=REGION, name="lab", version=cluster["version"])
    set_stale(aws, references=True)
    entry = {"clusterName": "lab", "principalArn": arn}
    eks.create_access_entry(**entry)
    eks.describe_access_entry(**entry)
    before = eks.list_access_entries(clusterName="lab")["accessEntries"]
    assert (arn in before, len(before)) == (False, 1)
    assert aws.server.identities.access_identity(ref, arn) is None
    assert aws.server.identities.access_identity(ref, "arn:aws:iam::123456789012:user/lab-admin") is not None
    policy = {"policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy", "accessScope": {"type": "cluster"}}
    assert refused(eks.associate_access_policy, **entry, **policy)[0] == "ResourceNotFoundException"
    aws.clock.advance(SECONDS)
    eks.associate_access_policy(**entry, **policy)
    assert arn in eks.list_access_entries(clusterName="lab")["accessEntries"]
    identity = aws.server.identities.access_identity(ref, arn)
    assert identity is not None
    assert identity.principal_arn == arn


def test_the_setting(aws: Aws) -> None:
    """Off by default; kinds limit it, 0 turns it off and shows everything; status has it."""
    url = f"{aws.server.endpoint}/_lab"
    assert requests.get(f"{url}/consistency", timeout=10).json()["consistency"]["seconds"] == 0
    assert set_stale(aws, kinds=["subnet"]) == {"seconds": SECONDS, "kinds": ["subnet"], "references": False, "stale": 0}
    ec2 = aws.client("ec2")
    vpc_id = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    ec2.describe_vpcs(VpcIds=[vpc_id])
    subnet = ec2.create_subnet(VpcId=vpc_id, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    assert requests.get(f"{url}/status", timeout=10).json()["consistency"]["stale"] == 1
    assert refused(ec2.describe_subnets, SubnetIds=[subnet])[0] == "InvalidSubnetID.NotFound"
    assert set_stale(aws, seconds=0)["kinds"] == sorted(NAMES)
    ec2.describe_subnets(SubnetIds=[subnet])


def test_one_region_is_not_another(aws: Aws) -> None:
    """Ids of another region do not exist anyway; IAM has no regions."""
    set_stale(aws)
    other = aws.client("ec2", region="eu-central-1")
    vpc_id = other.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    aws.role("everywhere", "eks.amazonaws.com")
    assert refused(other.describe_vpcs, VpcIds=[vpc_id])[0] == "InvalidVpcID.NotFound"
    assert refused(aws.client("iam", region="eu-central-1").get_role, RoleName="everywhere")[0] == "NoSuchEntity"
    aws.clock.advance(SECONDS)
    other.describe_vpcs(VpcIds=[vpc_id])


@pytest.mark.parametrize(
    "setting",
    [{}, {"seconds": -1}, {"seconds": "soon"}, {"seconds": 1, "kinds": ["weather"]}, {"seconds": 1, "references": "yes"}, {"for": 1}],
)
def test_nonsense_is_refused(aws: Aws, setting: dict[str, t.Any]) -> None:
    answer = requests.post(f"{aws.server.endpoint}/_lab/consistency", json=setting, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]
