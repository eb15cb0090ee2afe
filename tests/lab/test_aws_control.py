# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's own levers and its record: request log, faults, clock, reset."""

from __future__ import annotations

import contextlib
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from botocore.exceptions import ClientError, ConnectionClosedError

from lab.aws.app import AwsServer
from lab.aws.requestlog import read, summarise, writes
from lab.clock import Clock
from tests.lab.conftest import Aws, ClusterSetup, FakeControlPlanes, refused


def control(aws: Aws, method: str, path: str, document: dict[str, t.Any] | None = None) -> requests.Response:
    return requests.request(method, f"{aws.server.endpoint}/_lab/{path}", json=document, timeout=10)


def test_the_log_tells_who_did_what(setup: ClusterSetup) -> None:
    """Service, operation, principal, mutating or not, outcome; none of EKS's own calls."""
    aws = setup.aws
    aws.log_path.write_text("")
    setup.create_cluster()
    setup.create_nodegroup()
    refused(aws.client("eks").describe_cluster, name="nobody")
    entries = aws.log()
    assert [(entry.service, entry.operation) for entry in entries] == [
        ("eks", "CreateCluster"),
        ("eks", "DescribeCluster"),
        ("eks", "CreateNodegroup"),
        ("eks", "DescribeNodegroup"),
        ("eks", "DescribeCluster"),
    ]
    assert {entry.principal for entry in entries} == {"arn:aws:iam::123456789012:user/lab-admin"}
    assert [entry.operation for entry in writes(entries)] == ["CreateCluster", "CreateNodegroup"]
    assert (entries[-1].status, entries[-1].error) == (404, "ResourceNotFoundException")
    assert (entries[0].status, entries[0].error, entries[0].region) == (200, "", "us-west-2")
    assert entries[2].parameters["nodegroupName"] == "gpu"
    assert "Boto3" in entries[0].user_agent


MUTATING = [
    ("ec2", "describe_vpcs", {}, False),
    ("ec2", "create_vpc", {"CidrBlock": "10.9.0.0/16"}, True),
    ("ec2", "create_vpc", {"CidrBlock": "10.9.0.0/16", "DryRun": True}, False),
    ("sts", "assume_role", {"RoleArn": "arn:aws:iam::123456789012:role/x", "RoleSessionName": "x"}, False),
    ("iam", "list_roles", {}, False),
    ("iam", "create_user", {"UserName": "somebody"}, True),
    ("ssm", "get_parameters_by_path", {"Path": "/"}, False),
    ("ssm", "put_parameter", {"Name": "x", "Value": "y", "Type": "String"}, True),
    ("autoscaling", "delete_auto_scaling_group", {"AutoScalingGroupName": "none"}, True),
    ("eks", "list_clusters", {}, False),
    ("kms", "create_key", {}, True),
    ("kms", "get_key_rotation_status", {"KeyId": "none"}, False),
    ("kms", "schedule_key_deletion", {"KeyId": "none"}, True),
    ("kms", "cancel_key_deletion", {"KeyId": "none"}, True),
    ("kms", "enable_key_rotation", {"KeyId": "none"}, True),
    ("kms", "put_key_policy", {"KeyId": "none", "PolicyName": "default", "Policy": "{}"}, True),
    ("kms", "delete_alias", {"AliasName": "alias/none"}, True),
    ("logs", "describe_log_groups", {}, False),
    ("logs", "associate_kms_key", {"logGroupName": "none", "kmsKeyId": "none"}, True),
    ("service-quotas", "list_service_quotas", {"ServiceCode": "ec2"}, False),
    ("service-quotas", "get_aws_default_service_quota", {"ServiceCode": "ec2", "QuotaCode": "L-DB2E81BA"}, False),
    ("service-quotas", "request_service_quota_increase", {"ServiceCode": "ec2", "QuotaCode": "L-DB2E81BA", "DesiredValue": 1.0}, True),
    ("pricing", "get_products", {"ServiceCode": "AmazonEC2"}, False),
    ("resourcegroupstaggingapi", "get_resources", {}, False),
    ("resourcegroupstaggingapi", "tag_resources", {"ResourceARNList": [], "Tags": {}}, True),
    ("cloudwatch", "list_metrics", {}, False),
    ("iam", "add_client_id_to_open_id_connect_provider", {"OpenIDConnectProviderArn": "none", "ClientID": "x"}, True),
    ("ec2", "modify_vpc_endpoint", {"VpcEndpointId": "none"}, True),
    ("s3", "list_buckets", {}, False),
    ("s3", "delete_bucket", {"Bucket": "none"}, True),
]


@pytest.mark.parametrize(("service", "call", "request_", "mutating"), MUTATING, ids=[f"{row[0]}-{row[1]}-{row[3]}" for row in MUTATING])
def test_what_counts_as_a_write(aws: Aws, service: str, call: str, request_: dict[str, t.Any], mutating: bool) -> None:
    """Access levels of https://docs.aws.amazon.com/service-authorization/: Read and List are none; dry runs and refused calls are judged alike."""
    with contextlib.suppress(ClientError):  # refused or not, it is the same kind of call
        getattr(aws.client(service), call)(**request_)
    entry = aws.log()[-1]
    assert (entry.service, entry.mutating) == (service, mutating)


def test_secrets_stay_out_of_the_log(aws: Aws) -> None:
    """No user data, no passwords, no keys."""
    user_data = "c2VjcmV0LXN0dWZm"
    aws.client("ec2").create_launch_template(LaunchTemplateName="t", LaunchTemplateData={"UserData": user_data, "InstanceType": "m5.large"})
    aws.client("ssm").put_parameter(Name="password-of-db", Value="hidden", Type="SecureString")
    text = aws.log_path.read_text()
    assert user_data not in text
    assert "hidden" not in text
    assert aws.server.admin_credentials[1] not in text
    assert summarise({"name": "x", "masterPassword": "y", "nested": {"roleArn": "r", "document": "long"}}) == {
        "name": "x",
        "nested": {"roleArn": "r"},
    }


def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == []


def test_an_error_strikes_after_some_calls_and_some_times(aws: Aws) -> None:
    """kind api: after lets calls through, times limits the hits; other operations are left alone."""
    fault = {
        "service": "ec2",
        "operation": "DescribeVpcs",
        "code": "RequestLimitExceeded",
        "message": "slow down",
        "status": 503,
        "after": 1,
        "times": 2,
    }
    assert control(aws, "POST", "faults", fault).status_code == 200
    ec2 = aws.client("ec2")
    ec2.describe_vpcs()
    for _unused in range(2):
        assert refused(ec2.describe_vpcs) == ("RequestLimitExceeded", "slow down")
        ec2.describe_subnets()
    ec2.describe_vpcs()
    assert control(aws, "GET", "faults").json()["faults"][0]["hits"] == 2
    assert [entry.error for entry in aws.log() if entry.operation == "DescribeVpcs"] == [
        "",
        "RequestLimitExceeded",
        "RequestLimitExceeded",
        "",
    ]


@pytest.mark.parametrize(
    ("service", "call"), [("eks", "list_clusters"), ("iam", "list_roles"), ("ssm", "describe_parameters"), ("s3", "list_buckets")]
)
def test_an_error_has_the_form_of_its_protocol(aws: Aws, service: str, call: str) -> None:
    aws.server.faults.add({"service": service, "code": "AccessDeniedException", "message": "not you", "status": 403})
    assert refused(getattr(aws.client(service), call)) == ("AccessDeniedException", "not you")


@pytest.mark.parametrize("retry_with_token", [True, False])
def test_a_lost_reply(setup: ClusterSetup, retry_with_token: bool) -> None:
    """drop_reply: the call is carried out, the client hears nothing; a retry with the same token gets the reply, without one it is a conflict."""
    setup.aws.server.faults.add({"service": "eks", "operation": "CreateCluster", "drop_reply": True})
    eks = setup.aws.client("eks")
    with pytest.raises(ConnectionClosedError):
        eks.create_cluster(**setup.cluster_request(clientRequestToken="one"))
    assert eks.list_clusters()["clusters"] == ["lab"]
    token = "one" if retry_with_token else "two"
    if retry_with_token:
        assert eks.create_cluster(**setup.cluster_request(clientRequestToken=token))["cluster"]["name"] == "lab"
    else:
        assert refused(eks.create_cluster, **setup.cluster_request(clientRequestToken=token))[0] == "ResourceInUseException"
    assert len(setup.aws.planes.running) == 1


BAD = [
    ("POST", "faults", {"kind": "weather"}, "kind"),
    ("POST", "faults", {"kind": "capacity", "code": "x"}, "code"),
    ("POST", "faults", {"kind": "xid", "node": "n"}, "a number from 1 on"),
    ("POST", "faults", {"kind": "xid", "node": "n", "xid": 79, "gpu": -1}, "index from 0 on"),
    ("POST", "faults", {"times": "often"}, "often"),
    ("POST", "clock", {"advance": -1}, "backwards"),
    ("POST", "clock", {}, "advance"),
    ("POST", "clock", {"factor": "fast"}, "fast"),
]


@pytest.mark.parametrize(("method", "path", "document", "message"), BAD)
def test_nonsense_is_refused(aws: Aws, method: str, path: str, document: dict[str, t.Any], message: str) -> None:
    response = control(aws, method, path, document)
    assert response.status_code == 400
    assert message in response.json()["error"]
    assert control(aws, "GET", "nothing").status_code == 404


def test_a_held_call_waits_and_is_never_carried_out(aws: Aws) -> None:
    """kind hold: after one mutating call the next waits until the fault is gone, and is refused then; reads and except_service go on."""
    held = control(aws, "POST", "faults", {"kind": "hold", "after": 1, "except_service": "ssm"}).json()["fault"]["id"]
    ec2 = aws.client("ec2")
    first = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    with ThreadPoolExecutor() as pool:
        second = pool.submit(refused, ec2.create_vpc, CidrBlock="10.8.0.0/16")
        aws.client("ssm").put_parameter(Name="/held", Value="no", Type="String")
        assert first in [vpc["VpcId"] for vpc in aws.client("ec2").describe_vpcs()["Vpcs"]]
        time.sleep(0.3)
        assert not second.done()
        control(aws, "DELETE", "faults", {"id": held})
        assert second.result()[0] == "ServiceUnavailable"
    assert "10.8.0.0/16" not in [vpc["CidrBlock"] for vpc in ec2.describe_vpcs()["Vpcs"]]


def test_a_hold_for_one_principal_leaves_others_alone(aws: Aws) -> None:
    me = aws.client("sts").get_caller_identity()["Arn"]
    control(aws, "POST", "faults", {"kind": "hold", "principal": f"{me}-other"})
    assert aws.client("ec2").create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    held = control(aws, "POST", "faults", {"kind": "hold", "principal": me}).json()["fault"]["id"]
    with ThreadPoolExecutor() as pool:
        call = pool.submit(refused, aws.client("ec2").create_vpc, CidrBlock="10.8.0.0/16")
        time.sleep(0.3)
        assert not call.done()
        control(aws, "DELETE", "faults", {"id": held})
        assert call.result()[0] == "ServiceUnavailable"


def test_critical_errors_of_gpus(aws: Aws) -> None:
    """kind xid: on one node, or on all where none is named; GPU 0 where none is."""
    control(aws, "POST", "faults", {"kind": "xid", "node": "a", "gpu": 2, "xid": 79})
    control(aws, "POST", "faults", {"kind": "xid", "xid": 48})
    assert [found[1:] for found in aws.server.faults.xids("a")] == [(2, 79), (0, 48)]
    assert [found[1:] for found in aws.server.faults.xids("b")] == [(0, 48)]


def test_faults_are_cleared(aws: Aws) -> None:
    first = control(aws, "POST", "fault", {"kind": "capacity", "zone": "us-west-2a"}).json()["fault"]["id"]
    control(aws, "POST", "fault", {"kind": "capacity", "zone": "us-west-2b"})
    assert [fault["zone"] for fault in control(aws, "DELETE", "faults", {"id": first}).json()["faults"]] == ["us-west-2b"]
    assert control(aws, "DELETE", "faults").json()["faults"] == []


def test_the_clock(setup: ClusterSetup) -> None:
    """advance lets time pass, factor sets its speed; status shows both and the clusters."""
    aws = setup.aws
    aws.client("eks").create_cluster(**setup.cluster_request())
    before = control(aws, "GET", "status").json()["clock"]["seconds"]
    after = control(aws, "POST", "clock", {"advance": 3600}).json()["clock"]["seconds"]
    assert after - before == 3600
    assert aws.client("eks").describe_cluster(name="lab")["cluster"]["status"] == "ACTIVE"
    assert control(aws, "POST", "clock", {"factor": 5}).json()["clock"]["factor"] == 5
    assert [cluster["name"] for cluster in control(aws, "GET", "status").json()["clusters"]] == ["lab"]


def test_reset(setup: ClusterSetup) -> None:
    """All state goes, control planes stop, the administrator stays."""
    setup.create_cluster()
    setup.create_nodegroup()
    aws = setup.aws
    aws.server.faults.add({"kind": "capacity"})
    status = control(aws, "POST", "reset").json()
    assert (status["clusters"], status["faults"]) == ([], [])
    assert aws.planes.running == []
    assert aws.client("eks").list_clusters()["clusters"] == []
    assert aws.client("ec2").describe_instances()["Reservations"] == []
    assert aws.client("iam").list_roles()["Roles"] == []
    assert aws.client("sts").get_caller_identity()["Arn"].endswith("user/lab-admin")
    assert len(aws.client("ec2").describe_vpcs()["Vpcs"]) == 1


def test_by_default_everything_is_quick(setup: ClusterSetup) -> None:
    """At the default factor of 60 a cluster, a node group and an update take seconds."""
    setup.aws.clock.set_factor(Clock().factor)
    eks = setup.aws.client("eks")
    begin = time.monotonic()
    eks.create_cluster(**setup.cluster_request())
    while eks.describe_cluster(name="lab")["cluster"]["status"] != "ACTIVE":
        time.sleep(0.05)
    eks.create_nodegroup(**setup.nodegroup_request())
    while eks.describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]["status"] != "ACTIVE":
        time.sleep(0.05)
    assert time.monotonic() - begin < 10
    assert len(setup.instances()) == 1


def test_an_endpoint_needs_a_running_server(tmp_path: Path) -> None:
    server = AwsServer(clock=Clock(), control_planes=FakeControlPlanes(), log_path=tmp_path / "log")
    with pytest.raises(RuntimeError):
        _unused = server.endpoint
