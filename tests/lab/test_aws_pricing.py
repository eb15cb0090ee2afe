# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Price List API.

Sources: API reference of the Price List Query API (GetProducts, Filter); AWS General Reference (its endpoints); Karpenter's price query.
"""

from __future__ import annotations

import json
import typing as t

import pytest

from tests.lab.conftest import Aws, refused

LINUX = {
    "operatingSystem": "Linux",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "marketoption": "OnDemand",
    "tenancy": "Shared",
}


def products(aws: Aws, service: str = "AmazonEC2", kind: str = "TERM_MATCH", **fields: str) -> list[dict[str, t.Any]]:
    """Decoded items of all pages; ``kind`` is the filter type of instanceType."""
    filters = [
        {"Type": kind if field == "instanceType" else "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()
    ]
    pages = aws.client("pricing", region="us-east-1").get_paginator("get_products").paginate(ServiceCode=service, Filters=filters)
    return [json.loads(text) for page in pages for text in page["PriceList"]]


def price_of(item: dict[str, t.Any]) -> float:
    (term,) = item["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    return float(dimension["pricePerUnit"]["USD"])


@pytest.mark.parametrize(
    ("instance_type", "price"),
    [("g5.2xlarge", 1.212), ("g5.12xlarge", 5.672), ("g6e.12xlarge", 10.49264), ("p5.48xlarge", 55.04), ("m5.large", 0.096)],
)
@pytest.mark.parametrize("region", ["us-west-2", "us-east-1"])
def test_instances(aws: Aws, region: str, instance_type: str, price: float) -> None:
    """With the filters that others use too, one product with one price."""
    (item,) = products(aws, regionCode=region, instanceType=instance_type, **LINUX)
    assert price_of(item) == price
    attributes = item["product"]["attributes"]
    assert (attributes["instanceType"], attributes["regionCode"]) == (instance_type, region)
    assert item["product"]["productFamily"] == "Compute Instance"
    (term,) = item["terms"]["OnDemand"].values()
    assert [dimension["unit"] for dimension in term["priceDimensions"].values()] == ["Hrs"]
    assert term["sku"] == item["product"]["sku"]


def test_filters_that_are_left_out(aws: Aws) -> None:
    """As in AWS's list, what a capacity reservation holds has products of its own, one of them for nothing."""
    without = {name: value for name, value in LINUX.items() if name != "capacitystatus"}
    found = products(aws, regionCode="us-west-2", instanceType="g5.2xlarge", **without)
    assert sorted(price_of(item) for item in found) == [0.0, 1.212, 1.212]


@pytest.mark.parametrize(
    ("kind", "value", "count"),
    [("ANY_OF", "g5.xlarge,g5.2xlarge,p5.48xlarge", 3), ("CONTAINS", "p4d.", 1), ("EQUALS", "g6.xlarge", 1), ("TERM_MATCH", "g5.*", 0)],
)
def test_filter_types(aws: Aws, kind: str, value: str, count: int) -> None:
    """API Filter: one call for many types."""
    assert len(products(aws, kind=kind, regionCode="us-west-2", instanceType=value, **LINUX)) == count


def test_pages(aws: Aws) -> None:
    """API GetProducts: at most 100 a page."""
    pricing = aws.client("pricing", region="us-east-1")
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in {"regionCode": "us-west-2", **LINUX}.items()]
    first = pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)
    assert (len(first["PriceList"]), bool(first["NextToken"])) == (100, True)
    skus = [item["product"]["sku"] for item in products(aws, regionCode="us-west-2", **LINUX)]
    assert len(skus) == len(set(skus)) > 300


@pytest.mark.parametrize(
    ("service", "fields", "usage", "price", "unit"),
    [
        ("AmazonEC2", {"productFamily": "NAT Gateway"}, "USW2-NatGateway-Hours", 0.045, "Hrs"),
        ("AmazonVPC", {"productFamily": "VpcEndpoint"}, "USW2-VpcEndpoint-Hours", 0.01, "Hrs"),
        ("AmazonEC2", {"productFamily": "Storage", "volumeApiName": "gp3"}, "USW2-EBS:VolumeUsage.gp3", 0.08, "GB-Mo"),
        ("AmazonEC2", {"productFamily": "Provisioned Throughput"}, "USW2-EBS:VolumeP-Throughput.gp3", 40.96, "GiBps-mo"),
        ("AmazonEKS", {"productFamily": "Compute"}, "USW2-AmazonEKS-Hours:perCluster", 0.1, "Hours"),
    ],
)
def test_other_products(aws: Aws, service: str, fields: dict[str, str], usage: str, price: float, unit: str) -> None:
    found = products(aws, service, regionCode="us-west-2", **fields)
    (item,) = [item for item in found if item["product"]["attributes"]["usagetype"] == usage]
    (term,) = item["terms"]["OnDemand"].values()
    assert price_of(item) == price
    assert [dimension["unit"] for dimension in term["priceDimensions"].values()] == [unit]


def test_where_it_is_asked(aws: Aws) -> None:
    """General Reference: three endpoints; other regions' prices are asked there as well, and the lab has none of them."""
    assert refused(aws.client("pricing").get_products, ServiceCode="AmazonEC2")[0] == "UnknownEndpoint"
    assert products(aws, regionCode="ap-northeast-1", instanceType="g5.2xlarge", **LINUX) == []
    pricing = aws.client("pricing", region="us-east-1")
    assert refused(pricing.get_products, ServiceCode="Weather")[0] == "NotFoundException"
    assert refused(pricing.get_products, ServiceCode="AmazonEC2", NextToken="x")[0] == "InvalidNextTokenException"
    bad = [{"Type": "SOUNDS_LIKE", "Field": "instanceType", "Value": "g5"}]
    assert refused(pricing.get_products, ServiceCode="AmazonEC2", Filters=bad)[0] == "InvalidParameterException"


@pytest.mark.parametrize(("family", "tenancy"), [("Compute Instance", "Shared"), ("Compute Instance (bare metal)", "Dedicated")])
def test_what_karpenter_asks(aws: Aws, family: str, tenancy: str) -> None:
    """It names the service once more as a field, and looks for bare metal among dedicated ones (pkg/providers/pricing of v1.14.1)."""
    fields = LINUX | {"serviceCode": "AmazonEC2", "tenancy": tenancy, "productFamily": family}
    found = products(aws, regionCode="us-west-2", **fields)
    assert found
    assert all(price_of(item) > 0 for item in found)
