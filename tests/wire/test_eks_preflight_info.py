# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""eks_preflight_info through main(): the exact reads, in order, and what each missing permission leaves."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.modules.eks_preflight_info import main

from tests.wire.harness import Wire

ACCOUNT = "123456789012"
OWNER = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/demo"
OURS = [{"Key": "gpuops.eks/owner", "Value": OWNER}]
GPU: dict[str, t.Any] = {
    "name": "gpu",
    "provisioner": "managed_node_group",
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a"],
    "scaling": {"min": 1, "max": 2},
}
PARAMS: dict[str, t.Any] = {"cluster_name": "demo", "zones": ["us-west-2a", "usw2-az2"], "version": "1.36", "pools": [GPU]}
ZONES = [{"ZoneName": "us-west-2a", "ZoneId": "usw2-az1"}, {"ZoneName": "us-west-2b", "ZoneId": "usw2-az2"}]
ZONE_FILTERS = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
TYPE = {
    "InstanceType": "g5.2xlarge",
    "VCpuInfo": {"DefaultVCpus": 8},
    "MemoryInfo": {"SizeInMiB": 32768},
    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
    "Hypervisor": "nitro",
    "GpuInfo": {"Gpus": [{"Name": "A10G", "Manufacturer": "NVIDIA", "Count": 1, "MemoryInfo": {"SizeInMiB": 22888}}]},
}
TYPE_FILTERS = [{"Name": "instance-type", "Values": ["g5.2xlarge"]}]
SERVICES = ("eks.amazonaws.com", "eks-nodegroup.amazonaws.com", "autoscaling.amazonaws.com")
DENIED = "AccessDeniedException"
DENIED_EC2 = "UnauthorizedOperation"


def quota(service: str, code: str, name: str, value: float) -> dict[str, t.Any]:
    return {"ServiceCode": service, "QuotaCode": code, "QuotaName": name, "Value": value}


def quotas(gpu: float = 64) -> dict[str, list[dict[str, t.Any]]]:
    return {
        "ec2": [
            quota("ec2", "L-DB2E81BA", "Running On-Demand G and VT instances", gpu),
            quota("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs", 5),
        ],
        "vpc": [quota("vpc", "L-F678F1CE", "VPCs per Region", 5), quota("vpc", "L-FE5A380F", "NAT gateways per Availability Zone", 5)],
        "eks": [quota("eks", "L-1194D53C", "Clusters", 100)],
    }


def product(price: str) -> str:
    dimensions = {"d": {"unit": "Hrs", "pricePerUnit": {"USD": price}}}
    return json.dumps({"product": {"attributes": {"usagetype": "x"}}, "terms": {"OnDemand": {"o": {"priceDimensions": dimensions}}}})


def expect_start(wire: Wire, *, offered: tuple[str, ...] = ("us-west-2a",)) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("ec2:DescribeAvailabilityZones", {"Filters": ZONE_FILTERS}, {"AvailabilityZones": ZONES})
    wire.expect("ec2:DescribeInstanceTypes", {"Filters": TYPE_FILTERS}, {"InstanceTypes": [TYPE]})
    request = {"LocationType": "availability-zone", "Filters": TYPE_FILTERS}
    found = [{"InstanceType": "g5.2xlarge", "LocationType": "availability-zone", "Location": zone} for zone in offered]
    wire.expect("ec2:DescribeInstanceTypeOfferings", request, {"InstanceTypeOfferings": found})
    versions = [
        {"clusterVersion": "1.36", "versionStatus": "STANDARD_SUPPORT"},
        {"clusterVersion": "1.32", "versionStatus": "EXTENDED_SUPPORT"},
    ]
    wire.expect("eks:DescribeClusterVersions", {}, {"clusterVersions": versions})


def expect_quotas(wire: Wire, gpu: float = 64) -> None:
    for service, listed in quotas(gpu).items():
        wire.expect("service-quotas:ListServiceQuotas", {"ServiceCode": service}, {"Quotas": listed})


def instance(kind: str, *, spot: bool = False, ours: bool = False) -> dict[str, t.Any]:
    return {"InstanceType": kind, **({"InstanceLifecycle": "spot"} if spot else {}), "Tags": OURS if ours else []}


def expect_running(wire: Wire, *instances: dict[str, t.Any]) -> None:
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    wire.expect("ec2:DescribeInstances", {"Filters": states}, {"Reservations": [{"Instances": [one]} for one in instances]})


def expect_usage(wire: Wire, *, running: bool = True, vpcs: int = 1, addresses: int = 0, roles: tuple[str, ...] = SERVICES) -> None:
    if running:
        expect_running(wire)
    wire.expect("eks:ListClusters", {}, {"clusters": ["demo", "other"]})
    wire.expect(
        "ec2:DescribeVpcs", {}, {"Vpcs": [{"VpcId": f"vpc-{number}"} for number in range(vpcs)] + [{"VpcId": "ours", "Tags": OURS}]}
    )
    wire.expect("ec2:DescribeAddresses", {}, {"Addresses": [{"AllocationId": f"a-{number}"} for number in range(addresses)]})
    filters = [{"Name": "state", "Values": ["pending", "available"]}]
    wire.expect("ec2:DescribeNatGateways", {"Filter": filters}, {"NatGateways": [{"NatGatewayId": "nat-1", "SubnetId": "subnet-1"}]})
    subnets = {"Filters": [{"Name": "subnet-id", "Values": ["subnet-1"]}]}
    wire.expect("ec2:DescribeSubnets", subnets, {"Subnets": [{"SubnetId": "subnet-1", "AvailabilityZone": "us-west-2a"}]})
    expect_roles(wire, roles)


def expect_roles(wire: Wire, roles: tuple[str, ...] = SERVICES) -> None:
    made = [
        {
            "Path": f"/aws-service-role/{service}/",
            "RoleName": "AWSServiceRoleFor",
            "RoleId": "AROAEXAMPLEEXAMPLE12",
            "Arn": f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/x",
            "CreateDate": "2026-01-01T00:00:00Z",
        }
        for service in roles
    ]
    wire.expect("iam:ListRoles", {"PathPrefix": "/aws-service-role/"}, {"Roles": made, "IsTruncated": False})


PRICE_REQUEST = {
    "ServiceCode": "AmazonEC2",
    "Filters": [
        {"Type": "TERM_MATCH", "Field": field, "Value": value}
        for field, value in (
            ("regionCode", "us-west-2"),
            ("instanceType", "g5.2xlarge"),
            ("operatingSystem", "Linux"),
            ("preInstalledSw", "NA"),
            ("capacitystatus", "Used"),
            ("marketoption", "OnDemand"),
            ("tenancy", "Shared"),
        )
    ],
}


def expect_price(wire: Wire, price: str = "1.212") -> None:
    wire.expect("pricing:GetProducts", PRICE_REQUEST, {"PriceList": [product(price)]})


def run(wire: Wire, **params: t.Any) -> dict[str, t.Any]:
    result = wire.run(main, {**PARAMS, **params})
    assert not result.get("failed"), result
    assert result["changed"] is False
    found: dict[str, t.Any] = result["preflight"]
    return found


def codes(preflight: dict[str, t.Any]) -> list[tuple[str, str]]:
    return [(finding["severity"], finding["code"]) for finding in preflight["findings"]]


def test_a_cluster_that_fits_has_no_finding(wire: Wire) -> None:
    expect_start(wire)
    expect_quotas(wire)
    expect_usage(wire)
    expect_price(wire)
    preflight = run(wire)
    assert preflight["findings"] == []
    assert preflight["offerings"] == [{"pool": "gpu", "zone": "us-west-2a", "instance_types": ["g5.2xlarge"]}]
    vcpus = {"name": "Running On-Demand G and VT instances", "needed": 8, "needed_max": 16, "used": 0, "limit": 64, "unit": "vCPUs"}
    assert preflight["quotas"][0] == {"service": "ec2", "code": "L-DB2E81BA", **vcpus}
    assert [(one["name"], one["needed"], one["used"], one["limit"]) for one in preflight["quotas"][1:]] == [
        ("Clusters", 1, 1, 100),
        ("VPCs per Region", 1, 1, 5),
        ("EC2-VPC Elastic IPs", 1, 0, 5),
        ("NAT gateways per Availability Zone", 1, 1, 5),
    ]


def test_the_estimate_adds_up(wire: Wire) -> None:
    expect_start(wire)
    expect_quotas(wire)
    expect_usage(wire)
    expect_price(wire, "2.0")
    cost = run(wire, encryption_keys=2)["estimate"]
    assert [(line["subject"], line["quantity"], line["price"], line["per_month"], line["per_month_max"]) for line in cost["lines"]] == [
        ("control plane, standard support", 1, 0.10, 73.0, 73.0),
        ("NAT gateways", 1, 0.045, 32.85, 32.85),
        ("public IPv4 addresses", 1, 0.005, 3.65, 3.65),
        ("encryption keys", 2, 1.0, 2.0, 2.0),
        ("pool gpu: g5.2xlarge, on_demand", 1, 2.0, 1460.0, 2920.0),
        ("pool gpu: disks, gp3", 200, 0.08, 16.0, 32.0),
        ("pool gpu: disks, gp3 throughput", 475, 0.04, 19.0, 38.0),
    ]
    assert (cost["per_month"], cost["per_month_max"], cost["complete"], cost["source"]) == (1606.5, 3101.5, True, "pricing_api")


def test_a_quota_of_zero_stops_with_the_arithmetic(wire: Wire) -> None:
    expect_start(wire)
    expect_quotas(wire, gpu=0)
    expect_usage(wire)
    expect_price(wire)
    (finding,) = run(wire)["findings"]
    assert finding["message"] == (
        "Running On-Demand G and VT instances (L-DB2E81BA): 8 vCPUs needed to make the cluster (gpu-us-west-2a-1gpu-on-demand: 1 to 2 x "
        "g5.2xlarge, 8 vCPUs each) + 0 used by others in us-west-2 = 8; the limit is 0."
    )
    assert {key: finding[key] for key in ("code", "severity", "needed", "used", "limit", "unit")} == {
        "code": "quota_exceeded", "severity": "error", "needed": 8, "used": 0, "limit": 0, "unit": "vCPUs",
    }  # fmt: skip
    assert "https://us-west-2.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/L-DB2E81BA" in finding["fix"]
    assert "--quota-code L-DB2E81BA --desired-value 8" in finding["fix"]


def test_instances_of_others_count_and_our_own_do_not(wire: Wire) -> None:
    expect_start(wire)
    expect_quotas(wire, gpu=20)
    expect_running(wire, instance("g6.xlarge"), instance("g5.2xlarge", ours=True), instance("g5.2xlarge", spot=True), instance("m5.large"))
    asked = {"Filters": [{"Name": "instance-type", "Values": ["g6.xlarge"]}]}
    wire.expect("ec2:DescribeInstanceTypes", asked, {"InstanceTypes": [{**TYPE, "InstanceType": "g6.xlarge"}]})
    expect_usage(wire, running=False)
    expect_price(wire)
    (finding,) = run(wire)["findings"]
    assert (finding["severity"], finding["code"]) == ("warning", "quota_exceeded_at_max")
    assert (finding["needed"], finding["used"], finding["limit"]) == (16, 8, 20)


def test_a_pool_without_nodes_that_could_never_start_one(wire: Wire) -> None:
    expect_start(wire)
    expect_quotas(wire, gpu=0)
    expect_usage(wire)
    expect_price(wire)
    pool = {**GPU, "scaling": {"min": 0, "max": 2}}
    assert codes(run(wire, pools=[pool])) == [("error", "quota_below_one_node"), ("warning", "quota_exceeded_at_max")]


def test_quotas_without_a_value_of_the_account_have_the_default(wire: Wire) -> None:
    expect_start(wire)
    for service, listed in quotas().items():
        wire.expect("service-quotas:ListServiceQuotas", {"ServiceCode": service}, {"Quotas": [] if service == "vpc" else listed})
    expect_usage(wire, vpcs=5)
    wire.expect("service-quotas:ListAWSDefaultServiceQuotas", {"ServiceCode": "vpc"}, {"Quotas": quotas()["vpc"]})
    expect_price(wire)
    (finding,) = run(wire)["findings"]
    assert (finding["code"], finding["needed"], finding["used"], finding["limit"]) == ("quota_exceeded", 1, 5, 5)


def test_with_a_network_of_others_its_quotas_are_not_read(wire: Wire) -> None:
    expect_start(wire)
    for service in ("ec2", "eks"):
        wire.expect("service-quotas:ListServiceQuotas", {"ServiceCode": service}, {"Quotas": quotas()[service]})
    expect_running(wire)
    wire.expect("eks:ListClusters", {}, {"clusters": []})
    expect_roles(wire)
    expect_price(wire)
    preflight = run(wire, network=False)
    assert preflight["findings"] == []
    assert "NAT gateways" not in [line["subject"] for line in preflight["estimate"]["lines"]]


def test_a_zone_that_offers_no_type_names_those_that_do(wire: Wire) -> None:
    expect_start(wire, offered=("us-west-2b",))
    for service, listed in quotas().items():
        wire.expect("service-quotas:ListServiceQuotas", {"ServiceCode": service}, {"Quotas": listed})
    expect_usage(wire, running=False)
    expect_price(wire)
    (finding,) = run(wire)["findings"]
    assert (finding["severity"], finding["code"]) == ("error", "pool_not_offered")
    assert "us-west-2b" in finding["fix"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"version": "1.20"}, ("error", "version_not_offered")),
        ({"version": "1.32"}, ("warning", "version_extended_support")),
        ({"zones": ["us-west-2a", "us-west-2z"]}, ("error", "zone_unknown")),
        ({"controller_cidrs": ["198.51.100.7/32"], "public_access_cidrs": ["203.0.113.0/24"]}, ("error", "controller_shut_out")),
        ({"cost_limit_per_month": 1000}, ("error", "cost_limit_exceeded")),
    ],
)
def test_each_rule_is_a_finding(wire: Wire, params: dict[str, t.Any], expected: tuple[str, str]) -> None:
    expect_start(wire)
    expect_quotas(wire)
    expect_usage(wire)
    expect_price(wire)
    assert codes(run(wire, **params)) == [expected]


@pytest.mark.parametrize(
    "params",
    [
        {"controller_cidrs": ["203.0.113.7/32"], "public_access_cidrs": ["203.0.113.0/24"]},
        {"controller_cidrs": ["203.0.113.7/32"]},
        {"cost_limit_per_month": 1100},
    ],
)
def test_what_is_within_is_no_finding(wire: Wire, params: dict[str, t.Any]) -> None:
    expect_start(wire)
    expect_quotas(wire)
    expect_usage(wire)
    expect_price(wire)
    assert run(wire, **params)["findings"] == []


def test_spot_needs_its_own_role_and_quota_and_has_no_price(wire: Wire) -> None:
    expect_start(wire)
    spot = quota("ec2", "L-3819A6DF", "All G and VT Spot Instance Requests", 8)
    for service, listed in quotas().items():
        wire.expect(
            "service-quotas:ListServiceQuotas", {"ServiceCode": service}, {"Quotas": [*listed, *([spot] if service == "ec2" else [])]}
        )
    expect_usage(wire)
    pool = {**GPU, "capacity": {"types": ["spot"]}}
    preflight = run(wire, pools=[pool], cost_limit_per_month=5000)
    assert codes(preflight) == [
        ("error", "cost_unknown"),
        ("warning", "quota_exceeded_at_max"),
        ("warning", "service_linked_role_missing"),
    ]
    assert preflight["estimate"]["complete"] is False
    assert preflight["findings"][2]["subject"] == "spot.amazonaws.com"


def test_without_any_permission_there_is_a_warning_for_each_and_no_error(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect_error("ec2:DescribeAvailabilityZones", {"Filters": ZONE_FILTERS}, DENIED_EC2)
    wire.expect_error("ec2:DescribeInstanceTypes", {"Filters": TYPE_FILTERS}, DENIED_EC2)
    wire.expect_error("ec2:DescribeInstanceTypeOfferings", {"LocationType": "availability-zone", "Filters": TYPE_FILTERS}, DENIED_EC2)
    wire.expect_error("eks:DescribeClusterVersions", {}, DENIED)
    wire.expect_error("service-quotas:ListServiceQuotas", {"ServiceCode": "ec2"}, DENIED)
    wire.expect_error("eks:ListClusters", {}, DENIED)
    wire.expect_error("ec2:DescribeVpcs", {}, DENIED_EC2)
    wire.expect_error("ec2:DescribeAddresses", {}, DENIED_EC2)
    filters = [{"Name": "state", "Values": ["pending", "available"]}]
    wire.expect_error("ec2:DescribeNatGateways", {"Filter": filters}, DENIED_EC2)
    wire.expect_error("iam:ListRoles", {"PathPrefix": "/aws-service-role/"}, "AccessDenied")
    wire.expect_error("pricing:GetProducts", PRICE_REQUEST, DENIED)
    preflight = run(wire)
    assert {finding["severity"] for finding in preflight["findings"]} == {"warning"}
    assert [finding["subject"] for finding in preflight["findings"]] == [
        "ec2:DescribeAvailabilityZones", "ec2:DescribeInstanceTypes", "ec2:DescribeInstanceTypeOfferings", "eks:DescribeClusterVersions",
        "servicequotas:ListServiceQuotas", "eks:ListClusters", "ec2:DescribeVpcs", "ec2:DescribeAddresses", "ec2:DescribeNatGateways",
        "iam:ListRoles", "pricing:GetProducts",
    ]  # fmt: skip
    assert all(finding["subject"] in finding["fix"] for finding in preflight["findings"])
    assert preflight["estimate"]["complete"] is False
    assert preflight["offerings"] == []


def test_where_no_prices_are_shipped_the_pricing_api_has_those_of_the_network_too(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me", "UserId": "u"})
    wire.expect("ec2:DescribeAvailabilityZones", {"Filters": ZONE_FILTERS}, {"AvailabilityZones": ZONES})
    wire.expect("eks:DescribeClusterVersions", {}, {"clusterVersions": []})
    for service, listed in quotas().items():
        wire.expect("service-quotas:ListServiceQuotas", {"ServiceCode": service}, {"Quotas": listed})
    wire.expect("eks:ListClusters", {}, {"clusters": []})
    wire.expect("ec2:DescribeVpcs", {}, {})
    wire.expect("ec2:DescribeAddresses", {}, {})
    wire.expect("ec2:DescribeNatGateways", {"Filter": [{"Name": "state", "Values": ["pending", "available"]}]}, {})
    expect_roles(wire)
    filters = [
        {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "eu-central-1"},
        {"Type": "TERM_MATCH", "Field": "productFamily", "Value": "NAT Gateway"},
    ]
    offered = [("EUC1-NatGateway-Bytes", "0.09"), ("EUC1-NatGateway-Hours", "0.052")]
    products = [product(price).replace('"x"', f'"{usage}"') for usage, price in offered]
    wire.expect("pricing:GetProducts", {"ServiceCode": "AmazonEC2", "Filters": filters}, {"PriceList": products})
    cost = run(wire, region="eu-central-1", zones=None, zone_count=2, version=None, pools=None)["estimate"]
    assert [(line["subject"], line["price"]) for line in cost["lines"]] == [
        ("control plane, standard support", 0.10),
        ("NAT gateways", 0.052),
        ("public IPv4 addresses", 0.005),
    ]
    assert cost["complete"] is True


def test_faults_of_form_come_all_at_once_and_before_any_call(wire: Wire) -> None:
    bad = {
        "cluster_name": "-bad",
        "zone_count": 0,
        "zones": ["a", "a"],
        "interface_endpoints": -1,
        "cost_limit_per_month": -5,
        "controller_cidrs": ["203.0.113.7"],
        "service_linked_roles": ["eks"],
        "pools": [{"name": "Bad_Name", "provisioner": "managed_node_group", "instances": {"types": ["g5.2xlarge"]}}],
    }
    result = wire.run(main, bad)
    assert result["failed"]
    assert [fault["path"] for fault in result["faults"]] == [
        "cluster_name", "pools[0].name", "zone_count", "zones[1]", "interface_endpoints", "cost_limit_per_month", "controller_cidrs[0]",
        "service_linked_roles[0]",
    ]  # fmt: skip
