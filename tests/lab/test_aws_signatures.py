# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures, errors of each protocol, and what the lab does not imitate."""

from __future__ import annotations

import datetime
import json
import typing as t

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.lab.conftest import Aws, refused

UNKNOWN_KEY = "GPUOPSNOBODY00000000"
WRONG_SECRET = "gpuops-lab-another-secret-of-no-real-use"

# Service, call, code for an unknown key, code for a wrong secret. Source: the common errors page of each service's API reference; EC2
# answers AuthFailure to both (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html).
CODES = [
    ("ec2", "describe_vpcs", "AuthFailure", "AuthFailure"),
    ("sts", "get_caller_identity", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("iam", "list_roles", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("autoscaling", "describe_auto_scaling_groups", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("eks", "list_clusters", "UnrecognizedClientException", "InvalidSignatureException"),
    ("ssm", "describe_parameters", "UnrecognizedClientException", "InvalidSignatureException"),
    ("s3", "list_buckets", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
]


@pytest.mark.parametrize(("service", "call", "unknown_key", "wrong_secret"), CODES, ids=[row[0] for row in CODES])
def test_credentials_are_checked(aws: Aws, service: str, call: str, unknown_key: str, wrong_secret: str) -> None:
    """Right keys work, unknown keys and wrong secrets are refused in the words of each protocol."""
    key, secret = aws.server.admin_credentials
    getattr(aws.client(service), call)()
    assert refused(getattr(aws.client(service, UNKNOWN_KEY, secret), call))[0] == unknown_key
    assert refused(getattr(aws.client(service, key, WRONG_SECRET), call))[0] == wrong_secret


def test_every_kind_of_path_and_body_can_be_signed(aws: Aws) -> None:
    """SigV4: twice-encoded paths, sorted queries, bodies in UTF-8."""
    eks = aws.client("eks")
    arn = "arn:aws:eks:us-west-2:123456789012:cluster/ü b"
    assert refused(eks.untag_resource, resourceArn=arn, tagKeys=["z", "a b", "ü/+"])[0] == "NotFoundException"
    assert refused(eks.tag_resource, resourceArn=arn, tags={"ü": "ß"})[0] == "NotFoundException"
    vpc = aws.client("ec2").create_vpc(
        CidrBlock="10.0.0.0/16", TagSpecifications=[{"ResourceType": "vpc", "Tags": [{"Key": "n", "Value": "ä +/="}]}]
    )
    assert vpc["Vpc"]["Tags"] == [{"Key": "n", "Value": "ä +/="}]


def test_unsigned_requests(aws: Aws) -> None:
    """Without a signature nothing is answered but the refusal."""
    url = aws.server.endpoint
    assert requests.get(f"{url}/clusters", timeout=5).status_code == 403
    response = requests.post(url, data={"Action": "DescribeVpcs", "Version": "2016-11-15"}, timeout=5)
    assert (response.status_code, "MissingAuthenticationToken" in response.text) == (403, True)
    assert requests.post(f"{url}/moto-api/reset", timeout=5).status_code == 403


def test_a_signature_covers_the_request(aws: Aws) -> None:
    """An altered body, and a signature of yesterday, are refused."""
    key, secret = aws.server.admin_credentials
    url = aws.server.endpoint
    request = AWSRequest("POST", f"{url}/clusters", data=json.dumps({"name": "a"}), headers={"Content-Type": "application/json"})
    SigV4Auth(Credentials(key, secret), "eks", "us-west-2").add_auth(request)
    altered = requests.post(f"{url}/clusters", data=json.dumps({"name": "b"}), headers=dict(request.headers.items()), timeout=5)
    assert (altered.status_code, altered.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")


def test_an_old_signature_is_refused(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """SigV4: requests are good for 15 minutes."""
    key, secret = aws.server.admin_credentials
    url = aws.server.endpoint
    request = AWSRequest("GET", f"{url}/clusters")
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *args, **kwargs: yesterday)
    SigV4Auth(Credentials(key, secret), "eks", "us-west-2").add_auth(request)
    monkeypatch.undo()
    response = requests.get(f"{url}/clusters", headers=dict(request.headers.items()), timeout=5)
    assert response.status_code == 403
    assert "Signature expired" in response.text


def test_assumed_roles(aws: Aws) -> None:
    """Temporary keys work with their session token alone, and are shown by STS as an assumed role."""
    role = aws.role("people", "ec2.amazonaws.com")
    credentials = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="me")["Credentials"]
    keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"])
    identity = aws.client("sts", *keys, token=credentials["SessionToken"]).get_caller_identity()
    assert identity["Arn"] == "arn:aws:sts::123456789012:assumed-role/people/me"
    session: t.Any = boto3.session.Session(*keys, "another token", region_name="us-west-2")
    with pytest.raises(ClientError) as caught:
        session.client("eks", endpoint_url=aws.server.endpoint).list_clusters()
    assert caught.value.response["Error"]["Code"] == "UnrecognizedClientException"


def test_another_account(aws: Aws) -> None:
    """A role in another account works in that account."""
    credentials = aws.client("sts").assume_role(RoleArn="arn:aws:iam::222222222222:role/there", RoleSessionName="me")["Credentials"]
    keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"])
    assert aws.client("sts", *keys, token=credentials["SessionToken"]).get_caller_identity()["Account"] == "222222222222"
    aws.client("ec2").create_vpc(CidrBlock="10.7.0.0/16")
    vpcs = aws.client("ec2", *keys, token=credentials["SessionToken"]).describe_vpcs()["Vpcs"]
    assert "10.7.0.0/16" not in {vpc["CidrBlock"] for vpc in vpcs}


def test_a_presigned_url_of_sts(aws: Aws) -> None:
    """EKS tokens are presigned GetCallerIdentity URLs with x-k8s-aws-id: STS answers, tampered ones are refused."""
    sts = aws.client("sts")
    url = sts.generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod="GET")
    response = requests.get(url, timeout=5)
    assert response.status_code == 200
    assert "user/lab-admin" in response.text
    assert requests.get(url.replace("GetCallerIdentity", "GetSessionToken"), timeout=5).status_code == 403


def test_what_is_not_imitated_says_so(aws: Aws) -> None:
    """HTTP 501 in the form of each protocol, never HTML, which botocore cannot parse."""
    for service, call, request in (
        ("ec2", "describe_instance_topology", {}),
        ("eks", "list_insights", {"clusterName": "lab"}),
        (
            "iam",
            "simulate_principal_policy",
            {"PolicySourceArn": "arn:aws:iam::123456789012:user/lab-admin", "ActionNames": ["eks:ListClusters"]},
        ),
        ("pricing", "describe_services", {}),
        ("health", "describe_events", {}),
    ):
        with pytest.raises(ClientError) as caught:
            getattr(aws.client(service), call)(**request)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501, service
        assert caught.value.response["Error"]["Code"].startswith("NotImplemented"), service
