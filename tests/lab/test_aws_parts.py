# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, roles, parameters, log groups, tags: what moto has, completed.

Sources: AWS KMS developer guide, key states, and the API reference of KMS; API reference of IAM, Systems Manager, CloudWatch Logs and the tagging
API; IAM User Guide, service-linked roles.
"""

from __future__ import annotations

import concurrent.futures
import json
import typing as t

import pytest
from botocore.exceptions import ClientError

from tests.lab.conftest import Aws, ClusterSetup, refused

TRUST = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}
)
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}]})
ISSUER = "https://oidc.eks.us-west-2.amazonaws.com/id/ABCDEF"


class TestKeys:
    """KMS."""

    @pytest.mark.parametrize("by", ["KeyId", "Arn"])
    def test_states(self, aws: Aws, by: str) -> None:
        """Enabled → PendingDeletion → (cancelled) Disabled → Enabled → Disabled, by id and by ARN; replies have the ARN."""
        kms = aws.client("kms")
        key = kms.create_key()["KeyMetadata"]
        request = {"KeyId": key[by]}

        def state() -> str:
            return str(kms.describe_key(**request)["KeyMetadata"]["KeyState"])

        scheduled = kms.schedule_key_deletion(**request, PendingWindowInDays=7)
        assert (scheduled["KeyId"], scheduled["KeyState"], scheduled["PendingWindowInDays"]) == (key["Arn"], "PendingDeletion", 7)
        assert kms.describe_key(**request)["KeyMetadata"]["DeletionDate"] == scheduled["DeletionDate"]
        assert kms.cancel_key_deletion(**request)["KeyId"] == key["Arn"]
        assert state() == "Disabled"
        assert "DeletionDate" not in kms.describe_key(**request)["KeyMetadata"]
        kms.enable_key(**request)
        assert state() == "Enabled"
        kms.disable_key(**request)
        assert state() == "Disabled"

    @pytest.mark.parametrize(
        ("operation", "request_"),
        [
            ("enable_key", {}),
            ("disable_key", {}),
            ("schedule_key_deletion", {}),
            ("enable_key_rotation", {}),
            ("tag_resource", {"Tags": [{"TagKey": "a", "TagValue": "b"}]}),
            ("update_key_description", {"Description": "x"}),
            ("create_grant", {"GranteePrincipal": "arn:aws:iam::123456789012:root", "Operations": ["Decrypt"]}),
        ],
    )
    def test_what_fails_for_a_key_that_is_to_be_deleted(self, aws: Aws, operation: str, request_: dict[str, t.Any]) -> None:
        """KMSInvalidStateException; its policy can be changed and its aliases can go."""
        kms = aws.client("kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/lab", TargetKeyId=key)
        kms.schedule_key_deletion(KeyId=key)
        code, message = refused(getattr(kms, operation), KeyId=key, **request_)
        assert (code, message.endswith("is pending deletion.")) == ("KMSInvalidStateException", True)
        kms.put_key_policy(KeyId=key, PolicyName="default", Policy=POLICY)
        kms.delete_alias(AliasName="alias/lab")

    def test_a_disabled_key(self, aws: Aws) -> None:
        """DisabledException; nothing is cancelled that is not scheduled."""
        kms = aws.client("kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        assert refused(kms.cancel_key_deletion, KeyId=key)[0] == "KMSInvalidStateException"
        kms.disable_key(KeyId=key)
        assert refused(kms.enable_key_rotation, KeyId=key)[0] == "DisabledException"
        assert refused(kms.encrypt, KeyId=key, Plaintext=b"x")[0] == "DisabledException"
        kms.create_alias(AliasName="alias/lab", TargetKeyId=key)

    def test_rotation(self, aws: Aws) -> None:
        """API EnableKeyRotation: the period is kept, 365 days by default."""
        kms = aws.client("kms")
        key = kms.create_key()["KeyMetadata"]
        assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is False
        kms.enable_key_rotation(KeyId=key["KeyId"])
        status = kms.get_key_rotation_status(KeyId=key["Arn"])
        assert (status["KeyRotationEnabled"], status["RotationPeriodInDays"]) == (True, 365)
        kms.enable_key_rotation(KeyId=key["Arn"], RotationPeriodInDays=180)
        status = kms.get_key_rotation_status(KeyId=key["KeyId"])
        assert status["RotationPeriodInDays"] == 180
        assert 179 <= (status["NextRotationDate"] - key["CreationDate"]).days <= 180
        kms.disable_key_rotation(KeyId=key["KeyId"])
        assert kms.get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is False

    def test_aliases(self, aws: Aws) -> None:
        """API CreateAlias, ListAliases, DeleteAlias: allowed characters, one of a name, found by key."""
        kms = aws.client("kms")
        key = kms.create_key(Tags=[{"TagKey": "owner", "TagValue": "me"}])["KeyMetadata"]
        assert refused(kms.create_alias, AliasName="alias/gpuops.eks/lab", TargetKeyId=key["KeyId"])[0] == "ValidationException"
        kms.create_alias(AliasName="alias/gpuops-eks/lab/secrets", TargetKeyId=key["Arn"])
        assert refused(kms.create_alias, AliasName="alias/gpuops-eks/lab/secrets", TargetKeyId=key["KeyId"])[0] == "AlreadyExistsException"
        (alias,) = kms.list_aliases(KeyId=key["KeyId"])["Aliases"]
        assert (alias["AliasName"], alias["TargetKeyId"]) == ("alias/gpuops-eks/lab/secrets", key["KeyId"])
        assert kms.describe_key(KeyId="alias/gpuops-eks/lab/secrets")["KeyMetadata"]["Arn"] == key["Arn"]
        assert kms.list_resource_tags(KeyId=key["KeyId"])["Tags"] == [{"TagKey": "owner", "TagValue": "me"}]
        kms.delete_alias(AliasName="alias/gpuops-eks/lab/secrets")
        assert refused(kms.describe_key, KeyId="alias/gpuops-eks/lab/secrets")[0] == "NotFoundException"
        assert refused(kms.encrypt, KeyId="alias/gpuops-eks/lab/secrets", Plaintext=b"x")[0] == "NotFoundException"


def test_keys_and_clusters_by_tag(setup: ClusterSetup) -> None:
    """API GetResources: by tag and type; a key that waits for its deletion is listed; pages."""
    aws = setup.aws
    kms, tagging = aws.client("kms"), aws.client("resourcegroupstaggingapi")
    key = kms.create_key(Tags=[{"TagKey": "owner", "TagValue": "me"}])["KeyMetadata"]
    kms.create_key(Tags=[{"TagKey": "owner", "TagValue": "you"}])
    kms.schedule_key_deletion(KeyId=key["KeyId"])
    cluster = setup.create_cluster(tags={"owner": "me"})
    nodegroup = setup.create_nodegroup(tags={"owner": "me", "b": "c"})

    def found(*types: str) -> dict[str, dict[str, str]]:
        filters = [{"Key": "owner", "Values": ["me"]}]
        pages = tagging.get_paginator("get_resources").paginate(
            TagFilters=filters, ResourceTypeFilters=list(types), PaginationConfig={"PageSize": 2}
        )
        items = [item for page in pages for item in page["ResourceTagMappingList"]]
        return {item["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in item["Tags"]} for item in items}

    assert found("kms:key") == {key["Arn"]: {"owner": "me"}}
    assert found("eks:cluster") == {cluster["arn"]: {"owner": "me"}}
    assert found("eks") == {cluster["arn"]: {"owner": "me"}, nodegroup["nodegroupArn"]: {"owner": "me", "b": "c"}}
    assert set(found()) >= {key["Arn"], cluster["arn"], nodegroup["nodegroupArn"]}


class TestIdentities:
    """IAM."""

    @pytest.mark.parametrize(
        ("service", "name"),
        [
            ("eks.amazonaws.com", "AWSServiceRoleForAmazonEKS"),
            ("eks-nodegroup.amazonaws.com", "AWSServiceRoleForAmazonEKSNodegroup"),
            ("eks-fargate.amazonaws.com", "AWSServiceRoleForAmazonEKSForFargate"),
            ("autoscaling.amazonaws.com", "AWSServiceRoleForAutoScaling"),
            ("spot.amazonaws.com", "AWSServiceRoleForEC2Spot"),
            ("elasticloadbalancing.amazonaws.com", "AWSServiceRoleForElasticLoadBalancing"),
        ],
    )
    def test_service_linked_roles(self, aws: Aws, service: str, name: str) -> None:
        """Names as each service's guide has them; found by name and by path; one of each."""
        iam = aws.client("iam")
        assert refused(iam.get_role, RoleName=name)[0] == "NoSuchEntity"
        arn = iam.create_service_linked_role(AWSServiceName=service)["Role"]["Arn"]
        assert arn == f"arn:aws:iam::123456789012:role/aws-service-role/{service}/{name}"
        assert iam.get_role(RoleName=name)["Role"]["Arn"] == arn
        assert [role["Arn"] for role in iam.list_roles(PathPrefix=f"/aws-service-role/{service}/")["Roles"]] == [arn]
        code, message = refused(iam.create_service_linked_role, AWSServiceName=service)
        assert code == "InvalidInput"
        assert message == f"Service role name {name} has been taken in this account, please try a different suffix."

    def test_oidc_providers(self, aws: Aws) -> None:
        """API CreateOpenIDConnectProvider: URL without scheme, tags, a thumbprint of IAM's own; listed; one of a URL; client ids change."""
        iam = aws.client("iam")
        tags = [{"Key": "owner", "Value": "me"}]
        arn = iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"], Tags=tags)["OpenIDConnectProviderArn"]
        assert arn == f"arn:aws:iam::123456789012:oidc-provider/{ISSUER.removeprefix('https://')}"
        assert iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == [{"Arn": arn}]
        request = {"OpenIDConnectProviderArn": arn}
        provider = iam.get_open_id_connect_provider(**request)
        assert (provider["Url"], provider["ClientIDList"], provider["Tags"]) == (arn.partition("/")[2], ["sts.amazonaws.com"], tags)
        assert [len(thumbprint) for thumbprint in provider["ThumbprintList"]] == [40]
        assert iam.list_open_id_connect_provider_tags(**request)["Tags"] == tags
        code, message = refused(iam.create_open_id_connect_provider, Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
        assert (code, message) == ("EntityAlreadyExists", f"Provider with url {ISSUER} already exists.")
        for _unused in range(2):
            iam.add_client_id_to_open_id_connect_provider(**request, ClientID="other")
        assert iam.get_open_id_connect_provider(**request)["ClientIDList"] == ["sts.amazonaws.com", "other"]
        for _unused in range(2):
            iam.remove_client_id_from_open_id_connect_provider(**request, ClientID="sts.amazonaws.com")
        assert iam.get_open_id_connect_provider(**request)["ClientIDList"] == ["other"]
        iam.update_open_id_connect_provider_thumbprint(**request, ThumbprintList=["a" * 40])
        assert iam.get_open_id_connect_provider(**request)["ThumbprintList"] == ["a" * 40]
        iam.tag_open_id_connect_provider(**request, Tags=[{"Key": "b", "Value": "c"}])
        iam.untag_open_id_connect_provider(**request, TagKeys=["owner"])
        assert iam.list_open_id_connect_provider_tags(**request)["Tags"] == [{"Key": "b", "Value": "c"}]
        iam.delete_open_id_connect_provider(**request)
        assert refused(iam.get_open_id_connect_provider, **request)[0] == "NoSuchEntity"
        assert refused(iam.add_client_id_to_open_id_connect_provider, **request, ClientID="x")[0] == "NoSuchEntity"

    def test_roles_policies_and_profiles(self, aws: Aws) -> None:
        """Paths, permissions boundary, instance profile with one role; a role in use stays."""
        iam = aws.client("iam")
        policy = iam.create_policy(PolicyName="boundary", Path="/gpuops/", PolicyDocument=POLICY)["Policy"]["Arn"]
        assert policy == "arn:aws:iam::123456789012:policy/gpuops/boundary"
        iam.create_role(RoleName="node", Path="/gpuops/", AssumeRolePolicyDocument=TRUST, PermissionsBoundary=policy)
        role = iam.get_role(RoleName="node")["Role"]
        assert role["Arn"] == "arn:aws:iam::123456789012:role/gpuops/node"
        assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == policy
        iam.create_instance_profile(InstanceProfileName="node", Path="/gpuops/")
        iam.add_role_to_instance_profile(InstanceProfileName="node", RoleName="node")
        assert refused(iam.add_role_to_instance_profile, InstanceProfileName="node", RoleName="node")[0] == "LimitExceeded"
        (profile,) = iam.list_instance_profiles_for_role(RoleName="node")["InstanceProfiles"]
        assert profile["Arn"] == "arn:aws:iam::123456789012:instance-profile/gpuops/node"
        iam.create_instance_profile(InstanceProfileName="other")
        for prefix, names in {"/": ["node", "other"], "/gpuops/": ["node"], "/karpenter/": []}.items():
            found = iam.list_instance_profiles(PathPrefix=prefix)["InstanceProfiles"]
            assert sorted(one["InstanceProfileName"] for one in found) == names
        assert refused(iam.delete_role, RoleName="node")[0] == "DeleteConflict"
        iam.delete_role_permissions_boundary(RoleName="node")
        assert "PermissionsBoundary" not in iam.get_role(RoleName="node")["Role"]


class TestParameters:
    """Systems Manager Parameter Store."""

    @staticmethod
    def lease(number: int) -> dict[str, t.Any]:
        return {"Name": f"/gpuops.eks/leases/lab/lease/{number}", "Type": "String", "Value": "{}"}

    def test_one_of_many_creates_it(self, aws: Aws) -> None:
        """API PutParameter Overwrite=false: ParameterAlreadyExists for all but one, and the value is that one's."""
        ssm = aws.client("ssm")

        def put(number: int) -> str:
            try:
                ssm.put_parameter(**{**self.lease(1), "Value": str(number)})
            except ClientError as error:
                return str(error.response["Error"]["Code"])
            return "made"

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(put, range(24)))
        assert sorted(set(outcomes)) == ["ParameterAlreadyExists", "made"]
        assert outcomes.count("made") == 1
        parameter = ssm.get_parameter(Name=self.lease(1)["Name"])["Parameter"]
        assert (parameter["Value"], parameter["Version"]) == (str(outcomes.index("made")), 1)

    def test_tags_at_creation(self, aws: Aws) -> None:
        """API PutParameter Tags; with Overwrite they are refused, and an overwrite keeps them."""
        ssm = aws.client("ssm")
        tags = [{"Key": "owner", "Value": "me"}]
        ssm.put_parameter(**self.lease(1), Tags=tags)
        assert refused(ssm.put_parameter, **self.lease(1), Tags=tags, Overwrite=True)[0] == "ValidationException"
        assert ssm.put_parameter(**self.lease(1), Overwrite=True)["Version"] == 2
        resource = {"ResourceType": "Parameter", "ResourceId": self.lease(1)["Name"]}
        assert ssm.list_tags_for_resource(**resource)["TagList"] == tags

    def test_many(self, aws: Aws) -> None:
        """API GetParametersByPath: at most 10 a page; API DeleteParameters: at most 10, names of those that are not there."""
        ssm = aws.client("ssm")
        for number in range(23):
            ssm.put_parameter(**self.lease(number))
        pages = list(ssm.get_paginator("get_parameters_by_path").paginate(Path="/gpuops.eks/leases/lab/lease"))
        names = [parameter["Name"] for page in pages for parameter in page["Parameters"]]
        assert sorted(names) == sorted(self.lease(number)["Name"] for number in range(23))
        assert max(len(page["Parameters"]) for page in pages) == 10
        assert refused(ssm.get_parameters_by_path, Path="/gpuops.eks/leases/lab/lease", MaxResults=11)[0] == "ValidationException"
        assert refused(ssm.delete_parameters, Names=names[:11])[0] == "ValidationException"
        answer = ssm.delete_parameters(Names=[*names[:9], "/gpuops.eks/none"])
        assert (sorted(answer["DeletedParameters"]), answer["InvalidParameters"]) == (sorted(names[:9]), ["/gpuops.eks/none"])
        assert refused(ssm.get_parameter, Name=names[0])[0] == "ParameterNotFound"

    def test_reserved_names(self, aws: Aws) -> None:
        """API PutParameter: nothing of a user's below /aws."""
        assert refused(aws.client("ssm").put_parameter, Name="/aws/mine", Type="String", Value="x")[0] == "AccessDeniedException"


def test_log_groups(aws: Aws) -> None:
    """API CreateLogGroup, PutRetentionPolicy (listed values alone), AssociateKmsKey, tags."""
    logs, name = aws.client("logs"), "/aws/eks/lab/cluster"
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    logs.create_log_group(logGroupName=name, tags={"owner": "me"})
    assert refused(logs.create_log_group, logGroupName=name)[0] == "ResourceAlreadyExistsException"
    logs.put_retention_policy(logGroupName=name, retentionInDays=30)
    assert refused(logs.put_retention_policy, logGroupName=name, retentionInDays=31)[0] == "InvalidParameterException"
    logs.associate_kms_key(logGroupName=name, kmsKeyId=key)
    (group,) = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    assert (group["retentionInDays"], group["kmsKeyId"]) == (30, key)
    assert logs.list_tags_for_resource(resourceArn=group["logGroupArn"])["tags"] == {"owner": "me"}
    logs.disassociate_kms_key(logGroupName=name)
    assert "kmsKeyId" not in logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"][0]
    assert refused(logs.associate_kms_key, logGroupName="/none", kmsKeyId=key)[0] == "ResourceNotFoundException"


FAULTS = [
    ("eks", "list_clusters", "ThrottlingException", 429),
    ("eks", "list_clusters", "AccessDeniedException", 403),
    ("ec2", "describe_vpcs", "RequestLimitExceeded", 503),
    ("ec2", "describe_vpcs", "UnauthorizedOperation", 403),
    ("kms", "list_keys", "ThrottlingException", 400),
    ("kms", "list_keys", "AccessDeniedException", 400),
    ("service-quotas", "list_services", "TooManyRequestsException", 429),
    ("pricing", "get_products", "ThrottlingException", 400),
    ("iam", "list_roles", "Throttling", 400),
]


@pytest.mark.parametrize(("service", "call", "code", "status"), FAULTS, ids=[f"{row[0]}-{row[2]}" for row in FAULTS])
def test_throttling_and_refusal(aws: Aws, service: str, call: str, code: str, status: int) -> None:
    """Common errors of each service: the client sees the code, the status and the message, once; then the call works."""
    signing_name = {"service-quotas": "servicequotas"}.get(service, service)
    aws.server.faults.add({"service": signing_name, "code": code, "status": status, "message": "Rate exceeded"})
    client = aws.client(service, region="us-east-1") if service == "pricing" else aws.client(service)
    request = {"ServiceCode": "AmazonVPC"} if service == "pricing" else {}
    with pytest.raises(ClientError) as caught:
        getattr(client, call)(**request)
    response = caught.value.response
    assert (response["Error"]["Code"], response["Error"]["Message"]) == (code, "Rate exceeded")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert response["ResponseMetadata"]["RequestId"]
    getattr(client, call)(**request)
