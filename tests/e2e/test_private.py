# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The blueprint mps_private on a lab: encrypted, private, with add-ons by Pod Identity; twice, then changed in one run, then taken down."""

from __future__ import annotations

import itertools
import json
import typing as t

import pytest
import yaml

from lab.aws import requestlog
from tests.e2e.rehearsal import LEASE, Play, Rehearsal

BLUEPRINT = "mps_private"
CHANGES = {
    "eks_cluster_version": "1.36",
    "eks_cluster_logging_types": ["api", "scheduler"],
    "eks_cluster_public_access_cidrs": ["203.0.113.0/24", "198.51.100.0/24"],
    "eks_cluster_deletion_protection": True,
    "eks_cluster_scheduler_scoring": {"type": "LeastAllocated", "resources": [{"name": "cpu", "weight": 1}]},
}
UPDATES = ("UpdateClusterConfig", "UpdateClusterVersion", "AssociateEncryptionConfig")


def extras(rehearsal: Rehearsal) -> dict[str, t.Any]:
    """What the blueprint leaves to choice: who is let in, IRSA, the load balancer controller's role, a kubeconfig for people."""
    policy = {"policy": "AmazonEKSViewPolicy", "namespaces": ["ml"]}
    return {
        "eks_cluster_version": "1.35",
        "eks_cluster_access_entries": [{"principal_arn": f"arn:aws:iam::{rehearsal.about['account']}:role/people", "policies": [policy]}],
        "eks_cluster_oidc_provider": True,
        "eks_cluster_load_balancer_controller": True,
        "eks_cluster_kubeconfig": str(rehearsal.directory / "kubeconfig"),
    }


def converge(rehearsal: Rehearsal, *options: str, **variables: t.Any) -> Play:
    play = rehearsal.play("site.yml", *options, inventory=BLUEPRINT, **{**extras(rehearsal), **variables})
    assert play.code == 0, play.output[-6000:]
    return play


def entries(rehearsal: Rehearsal) -> list[requestlog.Entry]:
    """Calls of playbooks and tests; the cluster's controllers are roles."""
    return [entry for entry in requestlog.read(rehearsal.state.request_log) if entry.service != LEASE and ":user/" in entry.principal]


def actions(steps: t.Iterable[dict[str, t.Any]]) -> list[str]:
    return [step["action"] for step in steps]


def test_the_blueprint_converges(rehearsal: Rehearsal) -> None:
    trust = {"Effect": "Allow", "Principal": {"AWS": rehearsal.about["account"]}, "Action": "sts:AssumeRole"}
    rehearsal.client("iam").create_role(
        RoleName="people", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    converge(rehearsal)
    eks, name = rehearsal.client("eks"), rehearsal.cluster
    cluster = eks.describe_cluster(name=name)["cluster"]
    assert cluster["status"] == "ACTIVE"
    assert cluster["encryptionConfig"][0]["provider"]["keyArn"].startswith("arn:aws:kms:")
    assert cluster["resourcesVpcConfig"]["endpointPrivateAccess"] is True
    assert cluster["resourcesVpcConfig"]["publicAccessCidrs"] == ["203.0.113.0/24"]
    assert cluster["kubeSchedulerConfig"]["nodeResourcesFit"]["scoringStrategy"]["type"] == "MostAllocated"
    states = {
        addon: eks.describe_addon(clusterName=name, addonName=addon)["addon"]["status"]
        for addon in eks.list_addons(clusterName=name)["addons"]
    }
    assert set(states) == {
        "vpc-cni",
        "kube-proxy",
        "coredns",
        "eks-pod-identity-agent",
        "aws-ebs-csi-driver",
        "amazon-cloudwatch-observability",
    }
    assert set(states.values()) == {"ACTIVE"}


def test_people_and_pods_are_let_in_as_the_inventory_says(rehearsal: Rehearsal) -> None:
    eks, name, account = rehearsal.client("eks"), rehearsal.cluster, rehearsal.about["account"]
    [policy] = eks.list_associated_access_policies(clusterName=name, principalArn=f"arn:aws:iam::{account}:role/people")[
        "associatedAccessPolicies"
    ]
    assert policy["accessScope"] == {"type": "namespace", "namespaces": ["ml"]}
    accounts = {each["serviceAccount"] for each in eks.list_pod_identity_associations(clusterName=name)["associations"]}
    assert accounts == {"aws-node", "ebs-csi-controller-sa", "cloudwatch-agent", "aws-load-balancer-controller", "cluster-autoscaler"}
    issuer = eks.describe_cluster(name=name)["cluster"]["identity"]["oidc"]["issuer"].removeprefix("https://")
    providers = rehearsal.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
    assert [provider["Arn"] for provider in providers] == [f"arn:aws:iam::{account}:oidc-provider/{issuer}"]


def test_the_kubeconfig_for_people_holds_no_token(rehearsal: Rehearsal) -> None:
    path = rehearsal.directory / "kubeconfig"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    [user] = config["users"]
    assert set(user["user"]) == {"exec"}
    assert user["user"]["exec"]["args"][-4:] == ["--cluster-name", rehearsal.cluster, "--output", "json"]
    assert config["clusters"][0]["cluster"]["server"].startswith("https://")
    assert path.stat().st_mode & 0o077 == 0


def test_nothing_has_a_way_to_the_internet(rehearsal: Rehearsal) -> None:
    ec2 = rehearsal.client("ec2")
    [vpc] = [each["VpcId"] for each in ec2.describe_vpcs()["Vpcs"] if any(tag["Key"] == "gpuops.eks/owner" for tag in each.get("Tags", ()))]
    inside = [{"Name": "vpc-id", "Values": [vpc]}]
    assert ec2.describe_internet_gateways(Filters=[{"Name": "attachment.vpc-id", "Values": [vpc]}])["InternetGateways"] == []
    assert ec2.describe_nat_gateways(Filters=inside)["NatGateways"] == []
    routes = [route for table in ec2.describe_route_tables(Filters=inside)["RouteTables"] for route in table["Routes"]]
    assert all(route.get("DestinationCidrBlock") != "0.0.0.0/0" for route in routes)
    services = {
        each["ServiceName"].removeprefix("com.amazonaws.us-west-2.") for each in ec2.describe_vpc_endpoints(Filters=inside)["VpcEndpoints"]
    }
    assert services >= {"s3", "ec2", "ecr.api", "ecr.dkr", "eks", "eks-auth", "sts", "logs", "ssm", "autoscaling"}


def test_volumes_are_encrypted_with_the_clusters_own_key(rehearsal: Rehearsal) -> None:
    alias = f"alias/gpuops-eks/{rehearsal.cluster}/volumes"
    key = rehearsal.client("kms").describe_key(KeyId=alias)["KeyMetadata"]
    ec2 = rehearsal.client("ec2")
    templates = [template["LaunchTemplateId"] for template in ec2.describe_launch_templates()["LaunchTemplates"]]
    assert len(templates) >= 2
    for template in templates:
        [version] = ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["$Latest"])["LaunchTemplateVersions"]
        [mapping] = version["LaunchTemplateData"]["BlockDeviceMappings"]
        assert (mapping["Ebs"]["Encrypted"], mapping["Ebs"]["KmsKeyId"]) == (True, key["Arn"])
    classes = rehearsal.kube().call("GET", "/apis/storage.k8s.io/v1/storageclasses")["items"]
    [gp3] = [each for each in classes if each["metadata"]["name"] == "gp3"]
    assert gp3["parameters"] == {"type": "gp3", "encrypted": "true", "kmsKeyId": key["Arn"]}
    assert gp3["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"


def test_a_second_run_writes_nothing_and_reads_little(rehearsal: Rehearsal) -> None:
    before, writes = len(entries(rehearsal)), rehearsal.write_count()
    play = converge(rehearsal)
    assert play.changed == []
    assert rehearsal.write_count() == writes
    assert "Plan: 0 to add, 0 to change, 0 to replace, 0 to destroy." in play.last_line("Plan: ")
    roles = ("eks_network", "eks_cluster")
    assert {task.role for task in play.tasks} >= set(roles)
    assert len(entries(rehearsal)) - before <= 140


@pytest.mark.soak
def test_a_plan_is_the_same_when_nothing_has_changed(rehearsal: Rehearsal) -> None:
    hashes = {outcome(rehearsal.play("playbooks/plan.yml", inventory=BLUEPRINT, **extras(rehearsal))) for _run in range(2)}
    assert len(hashes) == 1


def test_what_changes_at_once_goes_in_the_legal_order(rehearsal: Rehearsal) -> None:
    planned = [step for step in converge(rehearsal, "--check", **CHANGES).plan if step["action"].split(":")[1] in UPDATES]
    before = len(entries(rehearsal))
    play = converge(rehearsal, **CHANGES)
    made = [entry for entry in entries(rehearsal)[before:] if entry.service == "eks"]
    updates = [entry for entry in made if entry.operation in UPDATES]
    assert [entry.error for entry in updates] == [""] * len(updates), "one type in a call, and one update at a time"
    assert [entry.operation for entry in updates] == [action.split(":")[1] for action in actions(planned)]
    assert [entry.operation for entry in updates].count("UpdateClusterConfig") == 4
    assert updates[-1].operation == "UpdateClusterVersion"
    for first, second in itertools.pairwise(updates):
        between = made[made.index(first) : made.index(second)]
        assert any(entry.operation == "DescribeUpdate" for entry in between), "each is finished before the next"
    assert actions(step for step in play.plan if step["action"].split(":")[1] in UPDATES) == actions(planned)


@pytest.mark.soak
def test_an_apply_stops_where_the_plan_is_not_the_one_that_was_looked_at(rehearsal: Rehearsal) -> None:
    wanted = {**CHANGES, "eks_cluster_logging_types": ["api"]}
    looked = outcome(rehearsal.play("playbooks/plan.yml", inventory=BLUEPRINT, **{**extras(rehearsal), **wanted}))
    before = rehearsal.write_count()
    other = rehearsal.play(
        "site.yml", inventory=BLUEPRINT, **{**wanted, "eks_cluster_logging_types": ["audit"], "gpuops_plan_hash": looked}
    )
    assert other.code != 0
    assert "gpuops_plan_hash is of another plan" in other.output
    assert rehearsal.write_count() == before
    converge(rehearsal, **wanted, gpuops_plan_hash=looked)
    assert rehearsal.write_count() > before
    late = rehearsal.play("site.yml", inventory=BLUEPRINT, **{**extras(rehearsal), **wanted}, gpuops_plan_hash=looked)
    assert late.code != 0


@pytest.mark.soak
def test_the_nodes_follow_the_control_plane(rehearsal: Rehearsal) -> None:
    play = rehearsal.play("playbooks/upgrade.yml", inventory=BLUEPRINT, **{**extras(rehearsal), **CHANGES})
    assert play.code == 0, play.output[-6000:]
    eks, name = rehearsal.client("eks"), rehearsal.cluster
    groups = eks.list_nodegroups(clusterName=name)["nodegroups"]
    assert {eks.describe_nodegroup(clusterName=name, nodegroupName=group)["nodegroup"]["version"] for group in groups} == {"1.36"}
    [proxy] = [eks.describe_addon(clusterName=name, addonName="kube-proxy")["addon"]["addonVersion"]]
    assert proxy.startswith("v1.36")
    before = rehearsal.write_count()
    again = rehearsal.play("playbooks/upgrade.yml", inventory=BLUEPRINT, **{**extras(rehearsal), **CHANGES})
    assert again.changed == []
    assert rehearsal.write_count() == before


@pytest.mark.parametrize("protected", [True, False])
def test_destroy_respects_deletion_protection_and_leaves_nothing(rehearsal: Rehearsal, protected: bool) -> None:
    wanted = {"gpuops_destroy_confirm": [rehearsal.cluster], "eks_cluster_deletion_protection": None if protected else False}
    before = rehearsal.write_count()
    play = rehearsal.play("playbooks/destroy.yml", inventory=BLUEPRINT, **wanted)
    if protected:
        assert play.code != 0
        assert "has deletion protection, so nothing has been deleted" in play.output
        assert rehearsal.write_count() == before
        return
    assert play.code == 0, play.output[-6000:]
    keys = rehearsal.client("kms").list_keys()["Keys"]
    states = {rehearsal.client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] for key in keys}
    assert states == {"PendingDeletion"}
    assert rehearsal.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"] == []
    assert rehearsal.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/eks/{rehearsal.cluster}/")["logGroups"] == []
    assert [role["RoleName"] for role in rehearsal.client("iam").list_roles()["Roles"] if rehearsal.cluster in role["RoleName"]] == []


def outcome(play: Play) -> str:
    """The hash of the plan that a playbook hands over."""
    assert play.code == 0, play.output[-6000:]
    found = [
        task.result["ansible_facts"]["_gpuops_outcome"] for task in play.tasks if "_gpuops_outcome" in task.result.get("ansible_facts", {})
    ]
    return str(found[-1]["plan"]["hash"])
