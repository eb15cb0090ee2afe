# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster's account holds, without ids and times: two accounts that were brought to the same state compare equal."""

from __future__ import annotations

import collections
import typing as t

from tests.e2e.rehearsal import Rehearsal

OWNER_TAG = "gpuops.eks/owner"


def end_state(rehearsal: Rehearsal) -> dict[str, t.Any]:
    """Everything of ours and of the cluster's, counted."""
    return {
        **_network(rehearsal),
        **_compute(rehearsal),
        **_cluster(rehearsal),
        "roles": _roles(rehearsal),
        "keys": _keys(rehearsal),
        "objects": _objects(rehearsal),
    }


def owned(rehearsal: Rehearsal) -> list[dict[str, t.Any]]:
    arn = f"arn:aws:eks:{rehearsal.about['region']}:{rehearsal.about['account']}:cluster/{rehearsal.cluster}"
    return [{"Name": f"tag:{OWNER_TAG}", "Values": [arn]}]


def _network(rehearsal: Rehearsal) -> dict[str, t.Any]:
    ec2, mine = rehearsal.client("ec2"), owned(rehearsal)
    tables = ec2.describe_route_tables(Filters=mine)["RouteTables"]
    gateways = [g for g in ec2.describe_nat_gateways(Filters=mine)["NatGateways"] if g["State"] != "deleted"]
    return {
        "vpcs": sorted(vpc["CidrBlock"] for vpc in ec2.describe_vpcs(Filters=mine)["Vpcs"]),
        "subnets": sorted((s["CidrBlock"], s["AvailabilityZone"]) for s in ec2.describe_subnets(Filters=mine)["Subnets"]),
        "route_tables": sorted(
            (len(table["Associations"]), sorted(route.get("DestinationCidrBlock", "") for route in table["Routes"])) for table in tables
        ),
        "internet_gateways": len(ec2.describe_internet_gateways(Filters=mine)["InternetGateways"]),
        "nat_gateways": sorted(gateway["State"] for gateway in gateways),
        "addresses": len(ec2.describe_addresses(Filters=mine)["Addresses"]),
        "endpoints": sorted((e["ServiceName"], e["State"]) for e in ec2.describe_vpc_endpoints(Filters=mine)["VpcEndpoints"]),
        "security_groups": sorted(g["GroupName"] for g in ec2.describe_security_groups(Filters=mine)["SecurityGroups"]),
    }


def _compute(rehearsal: Rehearsal) -> dict[str, t.Any]:
    ec2 = rehearsal.client("ec2")
    groups = rehearsal.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    mine = [g for g in groups if any(tag["Key"] == "eks:cluster-name" and tag["Value"] == rehearsal.cluster for tag in g["Tags"])]
    running = [
        {"Name": "tag:eks:cluster-name", "Values": [rehearsal.cluster]},
        {"Name": "instance-state-name", "Values": ["pending", "running"]},
    ]
    instances = [i for r in ec2.describe_instances(Filters=running)["Reservations"] for i in r["Instances"]]
    templates = ec2.describe_launch_templates(Filters=owned(rehearsal))["LaunchTemplates"]
    return {
        "auto_scaling_groups": sorted((g["MinSize"], g["MaxSize"], g["DesiredCapacity"]) for g in mine),
        "instances": dict(collections.Counter(i["InstanceType"] for i in instances)),
        "launch_templates": sorted((template["LaunchTemplateName"], template["LatestVersionNumber"]) for template in templates),
    }


def _cluster(rehearsal: Rehearsal) -> dict[str, t.Any]:
    eks, name = rehearsal.client("eks"), rehearsal.cluster
    cluster = eks.describe_cluster(name=name)["cluster"]
    groups = [
        eks.describe_nodegroup(clusterName=name, nodegroupName=group)["nodegroup"]
        for group in eks.list_nodegroups(clusterName=name)["nodegroups"]
    ]
    kept = ("nodegroupName", "status", "capacityType", "scalingConfig", "instanceTypes", "amiType", "labels", "taints")
    addons = [eks.describe_addon(clusterName=name, addonName=addon)["addon"] for addon in eks.list_addons(clusterName=name)["addons"]]
    associations = eks.list_pod_identity_associations(clusterName=name)["associations"]
    return {
        "cluster": {key: cluster[key] for key in ("name", "status", "version", "accessConfig")},
        "encrypted": bool(cluster.get("encryptionConfig")),
        "addons": sorted((addon["addonName"], addon["addonVersion"], len(addon.get("podIdentityAssociations", ()))) for addon in addons),
        "associations": sorted((each["namespace"], each["serviceAccount"]) for each in associations),
        "nodegroups": sorted(({key: group.get(key) for key in kept} for group in groups), key=lambda group: str(group["nodegroupName"])),
    }


def _roles(rehearsal: Rehearsal) -> list[tuple[str, list[str]]]:
    iam = rehearsal.client("iam")
    roles = [
        role["RoleName"]
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
        if rehearsal.cluster in role["RoleName"]
    ]
    return sorted(
        (role, sorted(policy["PolicyName"] for policy in iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]))
        for role in roles
    )


def _keys(rehearsal: Rehearsal) -> dict[str, list[str]]:
    """States of all keys that were made, and the aliases that lead to ours."""
    kms = rehearsal.client("kms")
    aliases = [alias["AliasName"] for page in kms.get_paginator("list_aliases").paginate() for alias in page["Aliases"]]
    keys = [key["KeyId"] for page in kms.get_paginator("list_keys").paginate() for key in page["Keys"]]
    states = [kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] for key in keys]
    return {"aliases": sorted(alias for alias in aliases if "gpuops-eks" in alias), "states": sorted(states)}


def _objects(rehearsal: Rehearsal) -> dict[str, list[str]]:
    kube = rehearsal.kube()
    paths = {"daemonsets": "/apis/apps/v1/daemonsets", "deployments": "/apis/apps/v1/deployments", "configmaps": "/api/v1/configmaps"}
    return {
        kind: sorted(
            f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            for item in kube.call("GET", path)["items"]
            if item["metadata"]["name"] != "kube-root-ca.crt" and not item["metadata"]["namespace"].startswith("kube-")
        )
        for kind, path in paths.items()
    }
