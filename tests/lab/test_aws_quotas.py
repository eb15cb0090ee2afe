# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Service Quotas, and quotas that EC2 enforces.

Sources: API reference of Service Quotas; Amazon EC2 User Guide, On-Demand Instance quotas and Spot Instance quotas.
"""

from __future__ import annotations

import typing as t

import pytest
import requests

from lab.aws.quotas import code_of
from tests.lab.conftest import Aws, ClusterSetup, refused

G_ON_DEMAND, CLUSTERS = "L-DB2E81BA", "L-1194D53C"
RUN: dict[str, t.Any] = {"ImageId": "ami-0123456789abcdef0", "MinCount": 1, "MaxCount": 1}


def set_quotas(aws: Aws, **values: float | None) -> requests.Response:
    codes = {name.replace("_", "-"): value for name, value in values.items()}
    return requests.post(f"{aws.server.endpoint}/_lab/quotas", json=codes, timeout=10)


def listed(aws: Aws, operation: str, service: str) -> dict[str, dict[str, t.Any]]:
    pages = aws.client("service-quotas").get_paginator(operation).paginate(ServiceCode=service, PaginationConfig={"PageSize": 5})
    return {quota["QuotaCode"]: quota for page in pages for quota in page["Quotas"]}


def test_an_applied_quota(aws: Aws) -> None:
    """API ServiceQuota: name, value, metric of its use; listed and got alike."""
    quota = aws.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=G_ON_DEMAND)["Quota"]
    assert (quota["QuotaName"], quota["Value"], quota["Unit"]) == ("Running On-Demand G and VT instances", 1024.0, "None")
    assert quota["UsageMetric"]["MetricDimensions"]["Class"] == "G/OnDemand"
    assert quota["QuotaArn"] == f"arn:aws:servicequotas:us-west-2:123456789012:ec2/{G_ON_DEMAND}"
    assert listed(aws, "list_service_quotas", "ec2")[G_ON_DEMAND] == quota


def test_a_default_alone(aws: Aws) -> None:
    """API GetServiceQuota and ListServiceQuotas: a quota without applied value is not retrieved; its default is by the other operations."""
    quotas = aws.client("service-quotas")
    request = {"ServiceCode": "eks", "QuotaCode": CLUSTERS}
    assert refused(quotas.get_service_quota, **request)[0] == "NoSuchResourceException"
    assert CLUSTERS not in listed(aws, "list_service_quotas", "eks")
    assert quotas.get_aws_default_service_quota(**request)["Quota"]["Value"] == 100.0
    assert listed(aws, "list_aws_default_service_quotas", "eks")[CLUSTERS]["QuotaName"] == "Clusters"
    assert listed(aws, "list_aws_default_service_quotas", "ec2")[G_ON_DEMAND]["Value"] == 0.0


@pytest.mark.parametrize(
    ("service", "code", "name"),
    [
        ("vpc", "L-F678F1CE", "VPCs per Region"),
        ("vpc", "L-FE5A380F", "NAT gateways per Availability Zone"),
        ("vpc", "L-29B6F2EB", "Interface VPC endpoints per VPC"),
        ("vpc", "L-E79EC296", "VPC security groups per Region"),
        ("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs"),
        ("ec2", "L-C4BD4855", "All P5 Spot Instance Requests"),
    ],
)
def test_names_and_codes(aws: Aws, service: str, code: str, name: str) -> None:
    """As the console and the API name them."""
    assert listed(aws, "list_aws_default_service_quotas", service)[code]["QuotaName"] == name


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("get_service_quota", {"ServiceCode": "ec2", "QuotaCode": "L-00000000"}, "NoSuchResourceException"),
        ("list_service_quotas", {"ServiceCode": "weather"}, "NoSuchResourceException"),
        ("list_service_quotas", {}, "IllegalArgumentException"),
        ("list_service_quotas", {"ServiceCode": "ec2", "NextToken": "x"}, "IllegalArgumentException"),
        ("request_service_quota_increase", {"ServiceCode": "ec2", "QuotaCode": G_ON_DEMAND, "DesiredValue": 9.0}, "NotImplemented"),
    ],
)
def test_what_is_refused(aws: Aws, operation: str, request_: dict[str, t.Any], code: str) -> None:
    assert refused(getattr(aws.client("service-quotas"), operation), **request_)[0] == code


def test_values_are_set_and_reset(aws: Aws) -> None:
    """POST quotas: a number is the applied value, null takes it away; reset brings the lab's own back."""
    assert set_quotas(aws, L_DB2E81BA=0, L_0263D0A3=None, L_1194D53C=7).status_code == 200
    assert listed(aws, "list_service_quotas", "ec2")[G_ON_DEMAND]["Value"] == 0.0
    assert "L-0263D0A3" not in listed(aws, "list_service_quotas", "ec2")
    assert listed(aws, "list_service_quotas", "eks")[CLUSTERS]["Value"] == 7.0
    for bad in ({"L_00000000": 1.0}, {"L_DB2E81BA": -1.0}):
        assert set_quotas(aws, **bad).status_code == 400
    aws.server.reset()
    shown = requests.get(f"{aws.server.endpoint}/_lab/quotas", timeout=10).json()["quotas"]
    assert shown[G_ON_DEMAND] == {"name": "Running On-Demand G and VT instances", "value": 1024.0}


@pytest.mark.parametrize(
    ("instance_type", "market", "code"),
    [
        ("g5.2xlarge", None, "L-DB2E81BA"),
        ("gr6.4xlarge", "on-demand", "L-DB2E81BA"),
        ("p5.48xlarge", None, "L-417A185B"),
        ("p6-b200.48xlarge", None, "L-417A185B"),
        ("m7i.large", None, "L-1216C47A"),
        ("im4gn.large", None, "L-1216C47A"),
        ("trn1.2xlarge", None, "L-2C3B7624"),
        ("inf2.xlarge", "spot", "L-B5D1601B"),
        ("g6.xlarge", "spot", "L-3819A6DF"),
        ("p4d.24xlarge", "spot", "L-7212CCBC"),
        ("p5en.48xlarge", "spot", "L-C4BD4855"),
        ("p6-b200.48xlarge", "spot", None),
        ("t3.micro", "spot", "L-34B43A08"),
        ("p5.48xlarge", "capacity-block", None),
        ("x2idn.16xlarge", None, None),
    ],
)
def test_what_an_instance_counts_in(instance_type: str, market: str | None, code: str | None) -> None:
    assert code_of(instance_type, market) == code


def test_the_vcpu_quota_of_single_instances(aws: Aws) -> None:
    """Error VcpuLimitExceeded: in vCPUs of all that run in the bucket; what was terminated counts no more; Spot has its own."""
    _unused, subnets = aws.subnets()
    ec2 = aws.client("ec2")
    set_quotas(aws, L_DB2E81BA=12, L_3819A6DF=4)
    request = {**RUN, "SubnetId": subnets[0], "InstanceType": "g5.2xlarge"}
    first = ec2.run_instances(**request)["Instances"][0]["InstanceId"]
    code, message = refused(ec2.run_instances, **request)
    assert (code, "current vCPU limit of 12 allows" in message) == ("VcpuLimitExceeded", True)
    ec2.run_instances(**{**request, "InstanceType": "m5.2xlarge"})
    spot = {"InstanceMarketOptions": {"MarketType": "spot"}}
    assert refused(ec2.run_instances, **request, **spot)[0] == "MaxSpotInstanceCountExceeded"
    ec2.terminate_instances(InstanceIds=[first])
    ec2.run_instances(**request)


def test_the_vcpu_quota_of_a_node_group(setup: ClusterSetup) -> None:
    """A quota of 0 leaves a failed scaling activity, and a node group whose creation fails for it."""
    set_quotas(setup.aws, L_DB2E81BA=0)
    setup.create_cluster()
    nodegroup = setup.create_nodegroup()
    assert nodegroup["status"] == "CREATE_FAILED"
    (issue,) = nodegroup["health"]["issues"]
    assert issue["code"] == "AsgInstanceLaunchFailures"
    assert "You have requested more vCPU capacity than your current vCPU limit of 0 allows" in issue["message"]
    assert setup.instances() == []
