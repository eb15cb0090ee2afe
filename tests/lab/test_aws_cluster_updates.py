# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""UpdateClusterConfig and UpdateClusterVersion, against the API reference and the issues that other tools hit."""

from __future__ import annotations

import typing as t

import pytest

from tests.lab.conftest import Aws, ClusterSetup, refused


def update_status(aws: Aws, update_id: str) -> str:
    return str(aws.client("eks").describe_update(name="lab", updateId=update_id)["update"]["status"])


UPDATES: list[tuple[str, dict[str, t.Any], str, str, t.Any]] = [
    (
        "API endpointPrivateAccess",
        {"resourcesVpcConfig": {"endpointPrivateAccess": True}},
        "EndpointAccessUpdate",
        "resourcesVpcConfig.endpointPrivateAccess",
        True,
    ),
    (
        "API publicAccessCidrs",
        {"resourcesVpcConfig": {"publicAccessCidrs": ["192.0.2.0/24"]}},
        "EndpointAccessUpdate",
        "resourcesVpcConfig.publicAccessCidrs",
        ["192.0.2.0/24"],
    ),
    (
        "API controlPlaneEgressMode",
        {"resourcesVpcConfig": {"controlPlaneEgressMode": "CUSTOMER_ROUTED"}},
        "ControlPlaneEgressUpdate",
        "resourcesVpcConfig.controlPlaneEgressMode",
        "CUSTOMER_ROUTED",
    ),
    ("API accessConfig", {"accessConfig": {"authenticationMode": "API"}}, "AccessConfigUpdate", "accessConfig.authenticationMode", "API"),
    ("API upgradePolicy", {"upgradePolicy": {"supportType": "STANDARD"}}, "UpgradePolicyUpdate", "upgradePolicy.supportType", "STANDARD"),
    ("API zonalShiftConfig", {"zonalShiftConfig": {"enabled": True}}, "ZonalShiftConfigUpdate", "zonalShiftConfig.enabled", True),
    ("API deletionProtection", {"deletionProtection": True}, "DeletionProtectionUpdate", "deletionProtection", True),
    (
        "API kubeSchedulerConfig",
        {"kubeSchedulerConfig": {"nodeResourcesFit": {"scoringStrategy": {"type": "MostAllocated"}}}},
        "ControlPlaneComponentConfigUpdate",
        "kubeSchedulerConfig.nodeResourcesFit.scoringStrategy.type",
        "MostAllocated",
    ),
]


@pytest.mark.parametrize(("source", "change", "update_type", "path", "value"), UPDATES, ids=[row[0] for row in UPDATES])
def test_an_update_takes_effect_when_it_is_done(
    setup: ClusterSetup, source: str, change: dict[str, t.Any], update_type: str, path: str, value: t.Any
) -> None:
    """Type by UpdateType; InProgress and UPDATING, then Successful and ACTIVE; again it is no change (boto3#2592, ACK#1855)."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    update = eks.update_cluster_config(name="lab", **change)["update"]
    assert (update["type"], update["status"]) == (update_type, "InProgress"), source
    assert eks.describe_cluster(name="lab")["cluster"]["status"] == "UPDATING"
    setup.aws.pass_time()
    assert update_status(setup.aws, update["id"]) == "Successful"
    found: t.Any = eks.describe_cluster(name="lab")["cluster"]
    assert found["status"] == "ACTIVE"
    for part in path.split("."):
        found = found[part]
    assert found == value
    code, text = refused(eks.update_cluster_config, name="lab", **change)
    assert code == "InvalidParameterException"
    assert text.startswith("Cluster is already at the desired configuration")


def test_logging_of_single_types(setup: ClusterSetup) -> None:
    """API Logging: types that a request does not name stay as they are."""
    setup.create_cluster(logging={"clusterLogging": [{"types": ["api", "audit"], "enabled": True}]})
    eks = setup.aws.client("eks")
    eks.update_cluster_config(
        name="lab", logging={"clusterLogging": [{"types": ["scheduler"], "enabled": True}, {"types": ["api"], "enabled": False}]}
    )
    setup.aws.pass_time()
    groups = eks.describe_cluster(name="lab")["cluster"]["logging"]["clusterLogging"]
    assert groups == [
        {"types": ["audit", "scheduler"], "enabled": True},
        {"types": ["api", "authenticator", "controllerManager"], "enabled": False},
    ]
    repeated = {"clusterLogging": [{"types": ["scheduler", "audit"], "enabled": True}]}
    assert "already at the desired configuration" in refused(eks.update_cluster_config, name="lab", logging=repeated)[1]


TWO_TYPES: list[tuple[str, dict[str, t.Any]]] = [
    ("CAPA#3553: logging and endpoint", {"logging": {"clusterLogging": []}, "resourcesVpcConfig": {"endpointPublicAccess": False}}),
    (
        "crossplane/provider-aws#642: endpoint and subnets",
        {"resourcesVpcConfig": {"endpointPrivateAccess": True, "subnetIds": ["subnet-1"]}},
    ),
    (
        "aws-cdk#33452: access and upgrade policy",
        {"accessConfig": {"authenticationMode": "API"}, "upgradePolicy": {"supportType": "STANDARD"}},
    ),
]


@pytest.mark.parametrize(("source", "change"), TWO_TYPES, ids=[row[0] for row in TWO_TYPES])
def test_one_type_of_update_a_call(setup: ClusterSetup, source: str, change: dict[str, t.Any]) -> None:
    setup.create_cluster()
    code, text = refused(setup.aws.client("eks").update_cluster_config, name="lab", **change)
    assert (code, text) == ("InvalidParameterException", "Only one type of update can be allowed."), source


def test_one_update_at_a_time(setup: ClusterSetup) -> None:
    """cloud-custodian#9250, ACK community#1192: ResourceInUseException naming the update in flight."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    update = eks.update_cluster_config(name="lab", zonalShiftConfig={"enabled": True})["update"]
    code, text = refused(eks.update_cluster_config, name="lab", resourcesVpcConfig={"endpointPrivateAccess": True})
    assert code == "ResourceInUseException"
    assert text == f"Cannot EndpointAccessUpdate because cluster lab currently has update {update['id']} in progress"
    assert refused(eks.update_cluster_version, name="lab", version="1.36")[0] == "ResourceInUseException"
    assert eks.list_updates(name="lab")["updateIds"] == [update["id"]]


def test_cidrs_are_a_set(setup: ClusterSetup) -> None:
    """Another order of the same CIDRs is no change."""
    cidrs = ["192.0.2.0/24", "198.51.100.0/24"]
    setup.create_cluster(resourcesVpcConfig={"subnetIds": setup.subnets, "publicAccessCidrs": cidrs})
    vpc = {"publicAccessCidrs": list(reversed(cidrs))}
    assert "already at the desired" in refused(setup.aws.client("eks").update_cluster_config, name="lab", resourcesVpcConfig=vpc)[1]


CONFIG_REFUSALS: list[tuple[str, dict[str, t.Any], str]] = [
    ("User guide cluster-endpoint: one of both", {"resourcesVpcConfig": {"endpointPublicAccess": False}}, "cannot be false"),
    ("API nothing to update", {}, "No changes needed"),
    ("API subnets exist", {"resourcesVpcConfig": {"subnetIds": ["subnet-0123456789abcdef0"]}}, "does not exist"),
    (
        "User guide setting-up-access-entries: one way",
        {"accessConfig": {"authenticationMode": "CONFIG_MAP"}},
        "Unsupported authentication mode update",
    ),
]


@pytest.mark.parametrize(("source", "change", "message"), CONFIG_REFUSALS, ids=[row[0] for row in CONFIG_REFUSALS])
def test_update_refuses(setup: ClusterSetup, source: str, change: dict[str, t.Any], message: str) -> None:
    setup.create_cluster()
    code, text = refused(setup.aws.client("eks").update_cluster_config, name="lab", **change)
    assert code == "InvalidParameterException", source
    assert message in text, source
    assert setup.aws.client("eks").list_updates(name="lab")["updateIds"] == []


def test_subnets_change_within_the_vpc_alone(setup: ClusterSetup) -> None:
    """API UpdateClusterConfig: subnets of the cluster's VPC, in at least two zones."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    _unused, others = setup.aws.subnets(third=1)
    assert "different VPC" in refused(eks.update_cluster_config, name="lab", resourcesVpcConfig={"subnetIds": others})[1]
    one_zone = {"subnetIds": setup.subnets[:1]}
    assert "at least two different AZs" in refused(eks.update_cluster_config, name="lab", resourcesVpcConfig=one_zone)[1]
    eks.update_cluster_config(name="lab", resourcesVpcConfig={"subnetIds": setup.subnets[1:]})
    setup.aws.pass_time()
    assert eks.describe_cluster(name="lab")["cluster"]["resourcesVpcConfig"]["subnetIds"] == setup.subnets[1:]


def test_versions_go_up_one_at_a_time(setup: ClusterSetup) -> None:
    """User guide update-cluster: one minor version, after the node groups have caught up."""
    setup.create_cluster(version="1.34")
    setup.create_nodegroup()
    eks = setup.aws.client("eks")
    assert refused(eks.update_cluster_version, name="lab", version="1.36") == (
        "InvalidParameterException",
        "Unsupported Kubernetes minor version update from 1.34 to 1.36",
    )
    assert "Unsupported" in refused(eks.update_cluster_version, name="lab", version="1.33")[1]
    assert "already at the desired" in refused(eks.update_cluster_version, name="lab", version="1.34")[1]
    update = eks.update_cluster_version(name="lab", version="1.35")["update"]
    assert update["type"] == "VersionUpdate"
    assert eks.describe_cluster(name="lab")["cluster"]["version"] == "1.34"
    setup.aws.pass_time()
    assert eks.describe_cluster(name="lab")["cluster"]["version"] == "1.35"
    assert setup.aws.server.clusters()[0].version == "1.35"
    assert "must be updated to match" in refused(eks.update_cluster_version, name="lab", version="1.36")[1]
    eks.update_nodegroup_version(clusterName="lab", nodegroupName="gpu")  # API UpdateNodegroupVersion: without a version it keeps its own
    setup.aws.pass_time()
    assert eks.describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]["version"] == "1.34"
    eks.update_nodegroup_version(clusterName="lab", nodegroupName="gpu", version="1.35")
    setup.aws.pass_time()
    assert eks.describe_nodegroup(clusterName="lab", nodegroupName="gpu")["nodegroup"]["version"] == "1.35"
    eks.update_cluster_version(name="lab", version="1.36")


def test_an_update_can_fail(setup: ClusterSetup) -> None:
    """API Update.status Failed with errors (ErrorDetail); the cluster is ACTIVE and unchanged."""
    setup.create_cluster()
    aws = setup.aws
    aws.server.faults.add(
        {"kind": "update", "cluster": "lab", "type": "VpcConfigUpdate", "code": "EniLimitReached", "message": "no more interfaces"}
    )
    eks = aws.client("eks")
    update = eks.update_cluster_config(name="lab", resourcesVpcConfig={"subnetIds": setup.subnets[:2]})["update"]
    aws.pass_time()
    failed = eks.describe_update(name="lab", updateId=update["id"])["update"]
    assert failed["status"] == "Failed"
    assert failed["errors"] == [{"errorCode": "EniLimitReached", "errorMessage": "no more interfaces", "resourceIds": ["lab"]}]
    cluster = eks.describe_cluster(name="lab")["cluster"]
    assert (cluster["status"], len(cluster["resourcesVpcConfig"]["subnetIds"])) == ("ACTIVE", 3)


def test_an_update_token_repeats_its_reply(setup: ClusterSetup) -> None:
    """API clientRequestToken of UpdateClusterConfig: a retry is neither a second update nor a conflict."""
    setup.create_cluster()
    eks = setup.aws.client("eks")
    request: dict[str, t.Any] = {"name": "lab", "zonalShiftConfig": {"enabled": True}, "clientRequestToken": "again"}
    first = eks.update_cluster_config(**request)["update"]["id"]
    assert eks.update_cluster_config(**request)["update"]["id"] == first


def test_updates_are_found_in_their_scope(setup: ClusterSetup) -> None:
    """API DescribeUpdate: a node group's update is not the cluster's."""
    setup.create_cluster()
    setup.create_nodegroup()
    eks = setup.aws.client("eks")
    update = eks.update_nodegroup_config(clusterName="lab", nodegroupName="gpu", scalingConfig={"maxSize": 5})["update"]
    assert eks.list_updates(name="lab")["updateIds"] == []
    assert eks.list_updates(name="lab", nodegroupName="gpu")["updateIds"] == [update["id"]]
    assert refused(eks.describe_update, name="lab", updateId=update["id"])[0] == "ResourceNotFoundException"
    assert eks.describe_update(name="lab", nodegroupName="gpu", updateId=update["id"])["update"]["type"] == "ConfigUpdate"
