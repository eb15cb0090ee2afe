# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_cluster against a script of AWS calls."""

from __future__ import annotations

import datetime
import json
import socket
import typing as t

import pytest
from ansible.module_utils import basic
from ansible_collections.gpuops.eks.plugins.module_utils._aws import gateway
from ansible_collections.gpuops.eks.plugins.module_utils._run import patience
from ansible_collections.gpuops.eks.plugins.modules.eks_cluster import main

from tests.wire.harness import ANY, Wire

ACCOUNT = "123456789012"
ARN = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/demo"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/path/demo-cluster"
MARK = {"gpuops.eks/owner": ARN, "gpuops.eks/component": "cluster"}
SUBNETS = {"subnet-0000000000000000a": "us-west-2a", "subnet-0000000000000000b": "us-west-2b"}
GROUP = "sg-0000000000000000a"
NAME = {"name": "demo"}
PARAMS: dict[str, t.Any] = {
    "name": "demo",
    "role_arn": ROLE,
    "subnet_ids": list(SUBNETS),
    "security_group_ids": [GROUP],
    "wait_interval": 0.001,
}
Api = dict[str, t.Any]


def cluster(**changes: t.Any) -> Api:
    """The description of a cluster that is as PARAMS say."""
    vpc = {
        "subnetIds": list(reversed(SUBNETS)),
        "securityGroupIds": [GROUP],
        "vpcId": "vpc-1",
        "endpointPrivateAccess": True,
        "endpointPublicAccess": False,
        "publicAccessCidrs": ["0.0.0.0/0"],
    }
    return {
        "name": "demo",
        "arn": ARN,
        "status": "ACTIVE",
        "version": "1.34",
        "endpoint": "https://demo.example",
        "createdAt": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "roleArn": ROLE,
        "resourcesVpcConfig": vpc,
        "accessConfig": {"authenticationMode": "API"},
        "upgradePolicy": {"supportType": "EXTENDED"},
        "logging": {"clusterLogging": [{"types": ["audit"], "enabled": True}]},
        "certificateAuthority": {"data": "Q0E="},
        "deletionProtection": False,
        "tags": {**MARK, "Team": "ml"},
        **changes,
    }


def describe(wire: Wire, **changes: t.Any) -> None:
    wire.expect("eks:DescribeCluster", NAME, {"cluster": cluster(**changes)})


def absent(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", NAME, "ResourceNotFoundException", "No cluster found for name: demo.")


def caller(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/x"})


def role(wire: Wire, service: str = "eks.amazonaws.com") -> None:
    policy = {"Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]}
    found: Api = {"Path": "/path/", "RoleName": "demo-cluster", "RoleId": "AROA0123456789012345", "Arn": ROLE}
    found |= {"CreateDate": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "AssumeRolePolicyDocument": json.dumps(policy)}
    wire.expect("iam:GetRole", {"RoleName": "demo-cluster"}, {"Role": found})


def subnets(wire: Wire, zones: dict[str, str] | None = None, *, asked: list[str] | None = None, vpc: str = "vpc-1") -> None:
    found = [{"SubnetId": s, "AvailabilityZone": zone, "VpcId": vpc} for s, zone in (SUBNETS if zones is None else zones).items()]
    request = {"Filters": [{"Name": "subnet-id", "Values": asked or list(SUBNETS)}]}
    wire.expect("ec2:DescribeSubnets", request, {"Subnets": found})


def groups(wire: Wire, vpc: str = "vpc-1") -> None:
    request = {"Filters": [{"Name": "group-id", "Values": [GROUP]}]}
    wire.expect("ec2:DescribeSecurityGroups", request, {"SecurityGroups": [{"GroupId": GROUP, "VpcId": vpc}]})


def versions(wire: Wire) -> None:
    found = [("1.36", "STANDARD_SUPPORT"), ("1.35", "STANDARD_SUPPORT"), ("1.34", "EXTENDED_SUPPORT"), ("1.27", "UNSUPPORTED")]
    reply = {"clusterVersions": [{"clusterVersion": version, "versionStatus": status} for version, status in found]}
    wire.expect("eks:DescribeClusterVersions", {}, reply)


CREATE = {
    "name": "demo",
    "roleArn": ROLE,
    "resourcesVpcConfig": {
        "subnetIds": list(SUBNETS),
        "securityGroupIds": [GROUP],
        "endpointPrivateAccess": True,
        "endpointPublicAccess": False,
    },
    "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True},
    "tags": MARK,
}


def facts(wire: Wire) -> None:
    caller(wire)
    role(wire)
    subnets(wire)
    groups(wire)


def test_a_new_cluster(wire: Wire) -> None:
    absent(wire)
    facts(wire)
    wire.expect("eks:CreateCluster", CREATE, {"cluster": cluster(status="CREATING")})
    for status in ("CREATING", "CREATING", "ACTIVE", "ACTIVE"):
        describe(wire, status=status, tags=MARK)
    result = wire.run(main, PARAMS)
    assert result["changed"]
    assert result["progress"] == ["DescribeCluster demo: CREATING", "DescribeCluster demo: ACTIVE"]
    assert result["cluster"]["certificate_authority"] == {"data": "Q0E="}
    assert result["cluster"]["resources_vpc_config"]["vpc_id"] == "vpc-1"
    assert result["cluster"]["created_at"] == "2026-01-02T00:00:00+00:00"
    assert result["cluster"]["tags"] == MARK


def test_a_new_cluster_that_nobody_waits_for(wire: Wire) -> None:
    absent(wire)
    facts(wire)
    wire.expect("eks:CreateCluster", CREATE, {"cluster": cluster(status="CREATING")})
    describe(wire, status="CREATING")
    assert wire.run(main, {**PARAMS, "wait": False})["cluster"]["status"] == "CREATING"


def test_check_mode_with_planned_ids_reads_nothing_for_them(wire: Wire) -> None:
    absent(wire)
    caller(wire)
    planned = {
        "role_arn": "planned:role/demo",
        "subnet_ids": ["planned:subnet/demo-private-us-west-2a", "planned:subnet/demo-private-us-west-2b"],
        "security_group_ids": ["planned:security-group/demo-api"],
    }
    result = wire.run(main, {**PARAMS, **planned}, check_mode=True)
    assert result["changed"]
    assert [step["action"] for step in result["plan"]] == ["eks:CreateCluster"]
    assert result["cluster"]["arn"] == ARN
    assert result["cluster"]["endpoint"] is None
    assert result["cluster"]["resources_vpc_config"]["subnet_ids"] == planned["subnet_ids"]
    assert result["diff"]["before"] == {}


def test_a_real_run_takes_no_planned_id(wire: Wire) -> None:
    absent(wire)
    caller(wire)
    role(wire)
    groups(wire)
    result = wire.run(main, {**PARAMS, "subnet_ids": ["planned:subnet/a", "planned:subnet/b"]})
    assert [(fault["path"], fault["value"]) for fault in result["faults"]] == [
        ("subnet_ids[0]", "planned:subnet/a"),
        ("subnet_ids[1]", "planned:subnet/b"),
    ]


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"version": "1.34", "logging_types": ["audit"], "tags": {"Team": "ml"}, "authentication_mode": "API"}]
)
def test_a_second_run_makes_one_read(wire: Wire, options: dict[str, t.Any], check_mode: bool) -> None:
    describe(wire)
    result = wire.run(main, {**PARAMS, **options}, check_mode=check_mode)
    assert not result["changed"]
    assert result["plan"] == []
    assert result["cluster"]["resources_vpc_config"]["subnet_ids"] == list(reversed(SUBNETS))
    assert result["diff"]["before"] == result["diff"]["after"]


def update(wire: Wire, number: int, request: Api, *, operation: str = "UpdateClusterConfig", wait: bool = True) -> None:
    """One update with its wait."""
    identifier = f"update-{number}"
    subject = "clusterName" if operation == "AssociateEncryptionConfig" else "name"
    wire.expect(f"eks:{operation}", {subject: "demo", **request}, {"update": {"id": identifier, "status": "InProgress"}})
    for status in ("InProgress", "Successful") if wait else ():
        wire.expect("eks:DescribeUpdate", {"name": "demo", "updateId": identifier}, {"update": {"id": identifier, "status": status}})


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        (
            {"public_access_cidrs": ["192.0.2.0/24"]},
            {"resourcesVpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["192.0.2.0/24"]}},
        ),
        ({"logging_types": []}, {"logging": {"clusterLogging": [{"types": ["audit"], "enabled": False}]}}),
        ({"support_type": "STANDARD"}, {"upgradePolicy": {"supportType": "STANDARD"}}),
        ({"deletion_protection": True}, {"deletionProtection": True}),
    ],
)
def test_an_update(wire: Wire, options: dict[str, t.Any], request_: Api) -> None:
    describe(wire)
    update(wire, 0, request_)
    describe(wire)
    result = wire.run(main, {**PARAMS, **options})
    assert result["changed"]
    assert [step["fields"] for step in result["plan"]] == [sorted([*options, *_implied(options)])]
    assert result["progress"] == ["DescribeUpdate demo: InProgress", "DescribeUpdate demo: Successful"]


def _implied(options: dict[str, t.Any]) -> list[str]:
    return ["endpoint_public_access"] if "public_access_cidrs" in options else []


def test_authentication_mode_goes_step_by_step(wire: Wire) -> None:
    describe(wire, accessConfig={"authenticationMode": "CONFIG_MAP"})
    for number, mode in enumerate(("API_AND_CONFIG_MAP", "API")):
        update(wire, number, {"accessConfig": {"authenticationMode": mode}})
    describe(wire)
    assert len(wire.run(main, {**PARAMS, "authentication_mode": "API"})["plan"]) == 2


def test_all_updates_in_order_one_at_a_time_even_without_wait(wire: Wire) -> None:
    asked = [*SUBNETS, "subnet-0000000000000000c"]
    describe(wire)
    subnets(wire, {**SUBNETS, asked[2]: "us-west-2b"}, asked=asked)
    groups(wire)
    versions(wire)
    nodegroups(wire)
    wire.expect("eks:TagResource", {"resourceArn": ARN, "tags": {"a": "b"}})
    wire.expect("eks:UntagResource", {"resourceArn": ARN, "tagKeys": ["Team"]})
    update(wire, 0, {"resourcesVpcConfig": {"subnetIds": asked, "securityGroupIds": [GROUP]}})
    update(wire, 1, {"logging": {"clusterLogging": [{"types": ["api", "audit"], "enabled": True}]}})
    update(wire, 2, {"version": "1.35"}, operation="UpdateClusterVersion", wait=False)
    describe(wire, status="UPDATING")
    options = {"subnet_ids": asked, "logging_types": ["audit", "api"], "version": "1.35", "tags": {"a": "b"}, "wait": False}
    result = wire.run(main, {**PARAMS, **options})
    assert result["plan"][-1]["reason"] == "from 1.34"
    assert result["cluster"]["status"] == "UPDATING"


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda module, message, **kwargs: said.append(message))
    return said


def test_a_subnet_in_a_new_zone_is_for_nodes_only(wire: Wire, warned: list[str]) -> None:
    asked = [*SUBNETS, "subnet-0000000000000000c"]
    describe(wire)
    subnets(wire, {**SUBNETS, asked[2]: "us-west-2c"}, asked=asked)
    groups(wire)
    result = wire.run(main, {**PARAMS, "subnet_ids": asked})
    assert not result["changed"]
    assert warned == [
        "subnet-0000000000000000c is for nodes only and not given to the cluster: EKS takes subnets of its own zones (us-west-2a, us-west-2b)."
    ]


def test_a_planned_subnet_in_a_new_zone_is_for_nodes_only_too(wire: Wire, warned: list[str]) -> None:
    describe(wire)
    subnets(wire)
    groups(wire)
    asked = [*SUBNETS, "planned:subnet/demo-private-us-west-2c"]
    assert not wire.run(main, {**PARAMS, "subnet_ids": asked}, check_mode=True)["changed"]
    assert len(warned) == 1


def test_the_subnet_of_a_zone_in_which_none_is_given_stays(wire: Wire, warned: list[str]) -> None:
    third, new = "subnet-0000000000000000c", "subnet-0000000000000000d"
    vpc = {**cluster()["resourcesVpcConfig"], "subnetIds": [*SUBNETS, third]}
    asked = ["subnet-0000000000000000a", new]
    describe(wire, resourcesVpcConfig=vpc)
    subnets(
        wire,
        {**SUBNETS, third: "us-west-2c", new: "us-west-2b"},
        asked=["subnet-0000000000000000a", new, "subnet-0000000000000000b", third],
    )
    groups(wire)
    update(wire, 0, {"resourcesVpcConfig": {"subnetIds": ["subnet-0000000000000000a", third, new], "securityGroupIds": [GROUP]}})
    describe(wire, resourcesVpcConfig={**vpc, "subnetIds": ["subnet-0000000000000000a", third, new]})
    result = wire.run(main, {**PARAMS, "subnet_ids": asked})
    assert [step["fields"] for step in result["plan"]] == [["subnet_ids"]]
    assert warned == [f"{third} stays with the cluster: EKS needs one in each of its zones, and none is given in us-west-2c."]


def test_where_a_subnet_of_the_cluster_is_gone_eks_judges_the_zones(wire: Wire, warned: list[str]) -> None:
    new = "subnet-0000000000000000c"
    asked = ["subnet-0000000000000000a", new]
    describe(wire)
    subnets(wire, {"subnet-0000000000000000a": "us-west-2a", new: "us-west-2c"}, asked=[*asked, "subnet-0000000000000000b"])
    groups(wire)
    result = wire.run(main, {**PARAMS, "subnet_ids": asked}, check_mode=True)
    assert result["cluster"]["resources_vpc_config"]["subnet_ids"] == asked
    assert warned == []


def test_check_mode_shows_the_cluster_as_it_will_be(wire: Wire) -> None:
    describe(wire)
    versions(wire)
    nodegroups(wire, "gpu")
    wire.expect("eks:DescribeNodegroup", {"clusterName": "demo", "nodegroupName": "gpu"}, {"nodegroup": {"version": "1.34"}})
    result = wire.run(main, {**PARAMS, "version": "1.35", "tags": {"Team": "x"}}, check_mode=True)
    assert (result["cluster"]["version"], result["cluster"]["tags"]) == ("1.35", {**MARK, "Team": "x"})
    assert result["cluster"]["endpoint"] == "https://demo.example"
    assert result["diff"]["before"]["version"] == "1.34"
    assert result["diff"]["after"]["version"] == "1.35"


CREATE_GRANT = f"User: {ROLE} is not authorized to perform: kms:CreateGrant on resource: arn:aws:kms:us-west-2:1:key/k"


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("Unknown", "It broke", "Correct the cause, then run again."),
        ("InsufficientFreeAddresses", "No address in a.", "Free addresses in these subnets, or give others that have some."),
        ("AccessDenied", f"{CREATE_GRANT}.", f"{ROLE} needs the IAM permission kms:CreateGrant on arn:aws:kms:us-west-2:1:key/k."),
    ],
)
def test_a_failed_update_says_why_and_what_to_do(wire: Wire, code: str, message: str, hint: str) -> None:
    describe(wire)
    wire.expect("eks:UpdateClusterConfig", {"name": "demo", "deletionProtection": True}, {"update": {"id": "u"}})
    failed = {"id": "u", "status": "Failed", "errors": [{"errorCode": code, "errorMessage": message}]}
    wire.expect("eks:DescribeUpdate", {"name": "demo", "updateId": "u"}, {"update": failed})
    said = wire.run(main, {**PARAMS, "deletion_protection": True})["msg"]
    assert f"eks:DescribeUpdate demo: last state Failed. {code}: {message.rstrip('.')}. {hint}" in said
    assert "resumes the wait" not in said


def test_an_update_that_takes_too_long_can_be_resumed(wire: Wire) -> None:
    describe(wire)
    wire.expect("eks:UpdateClusterConfig", {"name": "demo", "deletionProtection": True}, {"update": {"id": "u"}})
    wire.expect("eks:DescribeUpdate", {"name": "demo", "updateId": "u"}, {"update": {"id": "u", "status": "InProgress"}})
    said = wire.run(main, {**PARAMS, "deletion_protection": True, "wait_timeout": 1, "wait_interval": 1})["msg"]
    assert "last state InProgress within 1 s. Running again resumes the wait." in said


def test_a_look_that_is_refused_is_told_in_the_words_of_aws(wire: Wire) -> None:
    describe(wire)
    wire.expect("eks:UpdateClusterConfig", {"name": "demo", "deletionProtection": True}, {"update": {"id": "u"}})
    wire.expect_error("eks:DescribeUpdate", {"name": "demo", "updateId": "u"}, "AccessDeniedException", "no")
    said = wire.run(main, {**PARAMS, "deletion_protection": True})["msg"]
    assert "eks:DescribeUpdate: AccessDeniedException: no. The calling identity needs the IAM permission eks:DescribeUpdate." in said


def test_a_creation_that_fails_names_the_switch(wire: Wire) -> None:
    absent(wire)
    facts(wire)
    wire.expect("eks:CreateCluster", CREATE, {"cluster": cluster(status="CREATING")})
    describe(wire, status="FAILED", health={"issues": [{"code": "Ec2SubnetNotFound", "message": "subnet-1 is gone."}]})
    said = wire.run(main, PARAMS)["msg"]
    assert "last state FAILED. Ec2SubnetNotFound: subnet-1 is gone. Correct the cause." in said
    assert "recreate_failed: true" in said


def test_an_update_in_flight_is_waited_for(wire: Wire) -> None:
    describe(wire, status="UPDATING", version="1.33")
    wire.expect("eks:ListUpdates", NAME, {"updateIds": ["u-1", "u-2"]})
    wire.expect("eks:DescribeUpdate", {"name": "demo", "updateId": "u-1"}, {"update": {"id": "u-1", "status": "Successful"}})
    flying = {"id": "u-2", "status": "InProgress", "type": "VersionUpdate"}
    wire.expect("eks:DescribeUpdate", {"name": "demo", "updateId": "u-2"}, {"update": flying})
    wire.expect("eks:DescribeUpdate", {"name": "demo", "updateId": "u-2"}, {"update": {**flying, "status": "Successful"}})
    describe(wire)
    describe(wire)
    result = wire.run(main, {**PARAMS, "version": "1.34", "wait": False})
    assert not result["changed"]
    assert result["progress"][0] == "DescribeUpdate demo: VersionUpdate InProgress"


def test_a_cluster_that_an_interrupted_run_left_is_waited_for(wire: Wire) -> None:
    for status in ("CREATING", "CREATING", "ACTIVE", "ACTIVE"):
        describe(wire, status=status)
    result = wire.run(main, PARAMS)
    assert not result["changed"]
    assert result["cluster"]["status"] == "ACTIVE"


def test_a_cluster_in_the_making_is_left_to_it_without_wait(wire: Wire) -> None:
    describe(wire, status="CREATING")
    assert wire.run(main, {**PARAMS, "wait": False})["cluster"]["status"] == "CREATING"


def test_a_failed_cluster_says_what_to_do(wire: Wire) -> None:
    issues = {"issues": [{"code": "Ec2SubnetNotFound", "message": "subnet-1 is gone."}]}
    describe(wire, status="FAILED", health=issues)
    result = wire.run(main, PARAMS)
    assert result["msg"] == (
        "Cluster demo is FAILED: Ec2SubnetNotFound: subnet-1 is gone. "
        "A failed cluster cannot be repaired. Correct the cause; recreate_failed: true then deletes it and makes it again."
    )


def test_a_failed_cluster_is_made_again_on_consent(wire: Wire) -> None:
    describe(wire, status="FAILED")
    role(wire)
    subnets(wire)
    groups(wire)
    wire.expect("eks:DeleteCluster", NAME, {"cluster": cluster(status="DELETING")})
    describe(wire, status="DELETING")
    absent(wire)
    wire.expect("eks:CreateCluster", CREATE, {"cluster": cluster(status="CREATING")})
    for status in ("CREATING", "ACTIVE", "ACTIVE"):
        describe(wire, status=status)
    result = wire.run(main, {**PARAMS, "recreate_failed": True})
    assert [step["effect"] for step in result["plan"]] == ["replace", "replace"]
    assert result["cluster"]["status"] == "ACTIVE"


def test_a_failed_cluster_of_somebody_else_is_not_made_again(wire: Wire) -> None:
    describe(wire, status="FAILED", tags={})
    assert "its maker has to remove it" in wire.run(main, {**PARAMS, "recreate_failed": True})["msg"]


KEY = f"arn:aws:kms:us-west-2:{ACCOUNT}:key/0a1b2c3d"


def key(wire: Wire, **changes: str) -> None:
    found = {
        "KeyId": "0a1b2c3d",
        "Arn": KEY,
        "KeyState": "Enabled",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "KeyUsage": "ENCRYPT_DECRYPT",
        **changes,
    }
    wire.expect("kms:DescribeKey", {"KeyId": KEY}, {"KeyMetadata": found})


def test_a_key_is_added_to_a_running_cluster(wire: Wire) -> None:
    describe(wire)
    key(wire)
    encryption = [{"resources": ["secrets"], "provider": {"keyArn": KEY}}]
    update(wire, 0, {"encryptionConfig": encryption}, operation="AssociateEncryptionConfig")
    describe(wire, encryptionConfig=encryption)
    result = wire.run(main, {**PARAMS, "encryption_key_arn": KEY})
    assert [step["action"] for step in result["plan"]] == ["eks:AssociateEncryptionConfig"]
    assert result["cluster"]["encryption_config"][0]["provider"]["key_arn"] == KEY


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"KeyState": "Disabled"}, "Disabled"), ({"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}, "SIGN_VERIFY"), (None, "does not exist")],
)
def test_a_key_that_eks_would_not_take_is_refused_before_any_call(wire: Wire, changes: dict[str, str] | None, said: str) -> None:
    describe(wire)
    if changes:
        key(wire, **changes)
    else:
        wire.expect_error("kms:DescribeKey", {"KeyId": KEY}, "NotFoundException")
    [fault] = wire.run(main, {**PARAMS, "encryption_key_arn": KEY})["faults"]
    assert fault["path"] == "encryption_key_arn"
    assert said in fault["allowed"]


def test_a_key_of_another_region_is_refused_without_asking(wire: Wire) -> None:
    describe(wire)
    [fault] = wire.run(main, {**PARAMS, "encryption_key_arn": KEY.replace("us-west-2", "us-east-1")})["faults"]
    assert "in us-west-2" in fault["allowed"]


def test_another_key_is_refused_with_the_reason(wire: Wire) -> None:
    describe(wire, encryptionConfig=[{"resources": ["secrets"], "provider": {"keyArn": KEY + "2"}}])
    [fault] = wire.run(main, {**PARAMS, "encryption_key_arn": KEY})["faults"]
    assert "EKS neither changes nor removes" in fault["allowed"]


def test_node_groups_that_are_behind_keep_the_version(wire: Wire) -> None:
    describe(wire)
    versions(wire)
    nodegroups(wire, "gpu")
    wire.expect("eks:DescribeNodegroup", {"clusterName": "demo", "nodegroupName": "gpu"}, {"nodegroup": {"version": "1.33"}})
    [fault] = wire.run(main, {**PARAMS, "version": "1.35"})["faults"]
    assert "gpu (1.33)" in fault["allowed"]


def test_everything_as_it_is_takes_one_read(wire: Wire) -> None:
    there = {"encryptionConfig": [{"resources": ["secrets"], "provider": {"keyArn": KEY}}]}
    describe(wire, **there)
    options = {"encryption_key_arn": KEY, "version": "1.34", "logging_types": ["audit"], "deletion_protection": False}
    result = wire.run(main, {**PARAMS, **options})
    assert (result["changed"], result["plan"]) == (False, [])


def test_a_cluster_that_goes_is_made_again_when_it_is_gone(wire: Wire) -> None:
    describe(wire, status="DELETING")
    describe(wire, status="DELETING")
    absent(wire)
    facts(wire)
    wire.expect("eks:CreateCluster", CREATE, {"cluster": cluster(status="CREATING")})
    describe(wire)
    describe(wire)
    assert wire.run(main, PARAMS)["changed"]


def test_a_role_that_eks_does_not_see_yet_is_waited_out(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", slept.append)
    absent(wire)
    facts(wire)
    wire.expect_error("eks:CreateCluster", CREATE, "InvalidParameterException", f"roleArn, {ROLE}, does not exist")
    wire.expect("eks:CreateCluster", CREATE, {"cluster": cluster(status="CREATING")})
    describe(wire, status="CREATING")
    assert wire.run(main, {**PARAMS, "wait": False})["changed"]
    assert slept == [1.0]


def test_the_module_refuses_bad_form_before_any_client(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        raise AssertionError("bad input must not reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    bad = {"version": "newest", "role_arn": "demo", "public_access_cidrs": ["0.0.0.0/0"], "logging_types": ["all"], "wait": "perhaps"}
    result = wire.run(main, {**PARAMS, **bad, "subnet_ids": ["a"]})
    paths = {"version", "role_arn", "public_access_cidrs[0]", "logging_types[0]", "wait", "subnet_ids", "subnet_ids[0]"}
    assert {fault["path"] for fault in result["faults"]} == paths


def test_all_faults_of_the_account_come_before_the_first_write(wire: Wire) -> None:
    absent(wire)
    caller(wire)
    role(wire, "ec2.amazonaws.com")
    subnets(wire, {"subnet-0000000000000000a": "us-west-2a"})
    groups(wire, "vpc-2")
    versions(wire)
    result = wire.run(main, {**PARAMS, "version": "1.27"})
    assert [fault["path"] for fault in result["faults"]] == ["role_arn", "subnet_ids[1]", "security_group_ids", "version"]
    assert "one of 1.36, 1.35, 1.34" in result["msg"]


def test_a_role_that_is_not_there_and_subnets_in_one_zone(wire: Wire) -> None:
    absent(wire)
    caller(wire)
    wire.expect_error("iam:GetRole", {"RoleName": "demo-cluster"}, "NoSuchEntity", "The role cannot be found.")
    subnets(wire, dict.fromkeys(SUBNETS, "us-west-2a"))
    groups(wire)
    result = wire.run(main, PARAMS)
    assert [(fault["path"], fault["allowed"]) for fault in result["faults"]] == [
        ("role_arn", "a role that exists"),
        ("subnet_ids", "subnets in at least two zones; these are all in us-west-2a"),
    ]


def test_a_role_of_another_account(wire: Wire) -> None:
    absent(wire)
    caller(wire)
    subnets(wire)
    groups(wire)
    result = wire.run(main, {**PARAMS, "role_arn": "arn:aws:iam::999999999999:role/demo"})
    assert [fault["path"] for fault in result["faults"]] == ["role_arn"]
    assert ACCOUNT in result["msg"]


def test_a_cluster_cannot_be_made_of_its_name(wire: Wire) -> None:
    absent(wire)
    caller(wire)
    result = wire.run(main, NAME)
    assert [fault["path"] for fault in result["faults"]] == ["role_arn", "subnet_ids"]


def test_what_cannot_be_changed_is_refused_with_the_reason_all_at_once(wire: Wire) -> None:
    describe(wire)
    subnets(wire, asked=[*SUBNETS, "subnet-0000000000000000c"], zones={**SUBNETS, "subnet-0000000000000000c": "us-west-2c"}, vpc="vpc-9")
    groups(wire)
    versions(wire)
    options = {
        "role_arn": ROLE + "2",
        "subnet_ids": [*SUBNETS, "subnet-0000000000000000c"],
        "authentication_mode": "CONFIG_MAP",
        "version": "1.36",
    }
    result = wire.run(main, {**PARAMS, **options})
    assert [fault["path"] for fault in result["faults"]] == ["role_arn", "authentication_mode", *["subnet_ids"] * 3, "version"]
    assert "EKS upgrades by one minor version at a time" in result["msg"]
    assert "the VPC of the cluster, which cannot be changed" in result["msg"]


def test_a_cluster_of_others_is_left_alone(wire: Wire) -> None:
    describe(wire, tags={"Team": "theirs"})
    result = wire.run(main, {**PARAMS, "deletion_protection": True})
    assert result["failed"]
    assert "was not made by this collection" in result["msg"]
    assert "adopt: true" in result["msg"]


def test_a_cluster_of_others_that_is_as_wanted_is_no_failure(wire: Wire) -> None:
    describe(wire, tags={"Team": "theirs"})
    assert not wire.run(main, PARAMS)["changed"]


def test_an_adopted_cluster_changes_where_a_field_is_set_and_gets_no_mark(wire: Wire) -> None:
    describe(wire, tags={"Team": "theirs", "keep": "me"})
    wire.expect("eks:TagResource", {"resourceArn": ARN, "tags": {"Team": "ml"}})
    update(wire, 0, {"deletionProtection": True})
    describe(wire)
    assert wire.run(main, {**PARAMS, "deletion_protection": True, "tags": {"Team": "ml"}, "adopt": True})["changed"]


def nodegroups(wire: Wire, *names: str) -> None:
    wire.expect("eks:ListNodegroups", {"clusterName": "demo"}, {"nodegroups": list(names)})


def guards(wire: Wire, groups_: t.Sequence[str] = (), profiles: t.Sequence[str] = (), instances: t.Sequence[dict[str, str]] = ()) -> None:
    """What is looked at before a cluster is deleted; instances by their tags."""
    nodegroups(wire, *groups_)
    wire.expect("eks:ListFargateProfiles", {"clusterName": "demo"}, {"fargateProfileNames": list(profiles)})
    filters = [
        {"Name": "tag:kubernetes.io/cluster/demo", "Values": ["owned"]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    found = [
        {"InstanceId": f"i-{number}", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
        for number, tags in enumerate(instances)
    ]
    wire.expect("ec2:DescribeInstances", {"Filters": filters}, {"Reservations": [{"Instances": found}]})


ABSENT = {"name": "demo", "state": "absent", "wait_interval": 0.001}


def test_a_cluster_goes(wire: Wire) -> None:
    describe(wire)
    guards(wire)
    wire.expect("eks:DeleteCluster", NAME, {"cluster": cluster(status="DELETING")})
    describe(wire, status="DELETING")
    absent(wire)
    result = wire.run(main, ABSENT)
    assert result["changed"]
    assert result["cluster"] is None
    assert result["progress"] == ["DescribeCluster demo: DELETING"]


@pytest.mark.parametrize("end", ["ACTIVE", "FAILED"])
def test_a_cluster_in_the_making_goes_however_its_creation_ends(wire: Wire, end: str) -> None:
    for status in ("CREATING", "CREATING", end, end):
        describe(wire, status=status)
    guards(wire)
    wire.expect("eks:DeleteCluster", NAME, {"cluster": cluster(status="DELETING")})
    describe(wire, status="DELETING")
    absent(wire)
    result = wire.run(main, ABSENT)
    assert result["changed"]
    assert result["progress"] == [f"DescribeCluster demo: {status}" for status in ("CREATING", end, "DELETING")]


def test_protection_is_taken_off_in_the_same_run(wire: Wire) -> None:
    describe(wire, deletionProtection=True)
    guards(wire)
    update(wire, 0, {"deletionProtection": False})
    wire.expect("eks:DeleteCluster", NAME, {"cluster": cluster(status="DELETING")})
    absent(wire)
    assert wire.run(main, {**ABSENT, "deletion_protection": False})["changed"]


@pytest.mark.parametrize(
    ("changes", "there", "said"),
    [
        ({"deletionProtection": True}, {}, "Cluster demo still has deletion protection. Set deletion_protection: false"),
        ({}, {"groups_": ["system", "gpu"]}, "Cluster demo still has node groups (gpu, system)."),
        ({}, {"profiles": ["batch"]}, "Fargate profiles (batch)"),
        (
            {},
            {"instances": [{"karpenter.sh/nodepool": "gpu"}, {"eks:nodegroup-name": "system"}, {}]},
            "nodes of no managed group (i-0 of Karpenter's gpu, i-2)",
        ),
    ],
)
def test_what_keeps_a_cluster_from_being_deleted(wire: Wire, changes: Api, there: dict[str, t.Any], said: str) -> None:
    describe(wire, **changes)
    guards(wire, **there)
    result = wire.run(main, {**ABSENT, "adopt": True})
    assert result["failed"]
    assert said in result["msg"]


def test_everything_that_keeps_it_is_named_at_once(wire: Wire) -> None:
    describe(wire, deletionProtection=True)
    guards(wire, ["gpu"], ["batch"], [{"karpenter.sh/nodepool": "gpu"}])
    message = wire.run(main, ABSENT)["msg"]
    for word in ("deletion protection", "node groups (gpu)", "Fargate profiles (batch)", "i-0 of Karpenter's gpu", "while Karpenter runs"):
        assert word in message


def test_a_cluster_of_somebody_else_is_never_deleted(wire: Wire) -> None:
    describe(wire, tags={})
    assert "Cluster demo was not made by this collection" in wire.run(main, {**ABSENT, "adopt": True})["msg"]


def test_a_deletion_under_way_is_only_waited_for(wire: Wire) -> None:
    describe(wire, status="DELETING")
    describe(wire, status="DELETING")
    absent(wire)
    result = wire.run(main, ABSENT)
    assert not result["changed"]
    assert result["progress"] == ["DescribeCluster demo: DELETING"]


def test_what_is_gone_stays_gone(wire: Wire) -> None:
    absent(wire)
    result = wire.run(main, ABSENT)
    assert not result["changed"]
    assert result["cluster"] is None


def test_deletion_in_check_mode(wire: Wire) -> None:
    describe(wire, status="UPDATING", deletionProtection=True)
    guards(wire)
    result = wire.run(main, {**ABSENT, "deletion_protection": False}, check_mode=True)
    assert [step["action"] for step in result["plan"]] == ["eks:UpdateClusterConfig", "eks:DeleteCluster"]
    assert result["diff"]["before"]["tags"] == {**MARK, "Team": "ml"}
    assert result["diff"]["after"] == {}


def test_an_unreachable_account_is_one_sentence(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", ANY, "UnrecognizedClientException", "The security token included in the request is invalid.")
    result = wire.run(main, PARAMS)
    assert result["msg"].startswith("eks:DescribeCluster: UnrecognizedClientException:")
    assert "Check the credentials" in result["msg"]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a gateway that does not really pause."""
    pauses: list[float] = []
    monkeypatch.setattr(gateway.time, "sleep", pauses.append)
    return pauses


def throttled(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", NAME, "ThrottlingException", "Rate exceeded")


def test_a_throttled_call_is_repeated_ever_more_slowly(wire: Wire, slept: list[float]) -> None:
    for _unused in range(3):
        throttled(wire)
    describe(wire)
    result = wire.run(main, PARAMS)
    assert not result["changed"]
    assert slept == [1.0, 2.0, 4.0]
    assert result["progress"] == ["eks:DescribeCluster: ThrottlingException"] * 3


def test_a_call_that_stays_throttled_ends_with_the_time_to_wait(wire: Wire, slept: list[float]) -> None:
    throttled(wire)
    assert "ThrottlingException: Rate exceeded" in wire.run(main, {**PARAMS, "wait_timeout": 1})["msg"]
    assert slept == []


def test_a_look_that_is_throttled_does_not_end_the_wait(wire: Wire) -> None:
    absent(wire)
    facts(wire)
    wire.expect("eks:CreateCluster", CREATE, {"cluster": cluster(status="CREATING")})
    describe(wire, status="CREATING")
    throttled(wire)
    describe(wire)
    describe(wire)
    assert wire.run(main, PARAMS)["progress"] == ["DescribeCluster demo: CREATING", "DescribeCluster demo: ACTIVE"]


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (
            "AccessDeniedException",
            f"User: arn:aws:iam::{ACCOUNT}:user/x is not authorized to perform: eks:DescribeCluster on resource: {ARN}",
            f"arn:aws:iam::{ACCOUNT}:user/x needs the IAM permission eks:DescribeCluster on {ARN}.",
        ),
        ("AccessDeniedException", "no", "The calling identity needs the IAM permission eks:DescribeCluster."),
        (
            "InvalidParameterException",
            f"User: {ROLE} is not authorized to perform: kms:CreateGrant on resource: arn:aws:kms:us-west-2:1:key/k because no policy allows it",
            f"{ROLE} needs the IAM permission kms:CreateGrant on arn:aws:kms:us-west-2:1:key/k.",
        ),
    ],
)
def test_a_missing_permission_names_action_resource_and_who_needs_it(wire: Wire, code: str, message: str, hint: str) -> None:
    wire.expect_error("eks:DescribeCluster", NAME, code, message)
    assert wire.run(main, PARAMS)["msg"].endswith(hint)
