# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prices that are shipped, products of the Pricing API, and which quota an instance family counts in."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import is_instance_type
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.on_demand import TABLES
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.prices import (
    FIXED,
    QUERIES,
    currency_of,
    date_of,
    fixed,
    on_demand,
    price_of,
    pricing_region,
)
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.quotas import classes_of, console_url, vcpu_code

STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"
NAMES = {
    "L-1": f"Running On-Demand {STANDARD} instances",
    "L-2": "Running On-Demand G and VT instances",
    "L-3": "Running On-Demand P instances",
    "L-4": f"All {STANDARD} Spot Instance Requests",
    "L-5": "All G and VT Spot Instance Requests",
    "L-6": "All P4, P3 and P2 Spot Instance Requests",
    "L-7": "All P5 Spot Instance Requests",
    "L-8": "Running On-Demand Trn instances",
    "L-9": "Running On-Demand High Memory instances",
}


@pytest.mark.parametrize(
    ("name", "price"),
    [("g5.2xlarge", 1.212), ("g5.12xlarge", 5.672), ("g6e.12xlarge", 10.49264), ("p5.48xlarge", 55.04), ("m5.large", 0.096)],
)
def test_prices_of_us_east_1(name: str, price: float) -> None:
    assert on_demand("us-east-1")[name] == price


@pytest.mark.parametrize("region", TABLES)
def test_every_price_is_one_of_an_instance_type(region: str) -> None:
    prices = on_demand(region)
    assert prices
    assert [name for name, price in prices.items() if not is_instance_type(name) or price <= 0] == []
    assert len(prices) == TABLES[region][2].count("=")


def test_a_region_without_prices_has_none() -> None:
    assert on_demand("eu-central-1") == {}
    assert date_of("eu-central-1") is None
    assert date_of("us-east-1") == TABLES["us-east-1"][0]


@pytest.mark.parametrize(
    ("region", "unknown"),
    [
        ("us-west-2", set()),
        ("eu-central-1", {"nat_gateway", "interface_endpoint", "gp3_size", "gp3_throughput", "gp3_iops"}),
        ("us-gov-west-1", set(FIXED)),
        ("cn-north-1", set(FIXED)),
    ],
)
def test_prices_hold_where_they_are_known_to(region: str, unknown: set[str]) -> None:
    assert set(FIXED) - set(fixed(region)) == unknown


def test_what_regions_differ_in_can_be_asked_for() -> None:
    assert set(fixed("us-east-1")) - set(fixed("eu-central-1")) == set(QUERIES)


@pytest.mark.parametrize(
    ("region", "asked"),
    [
        ("us-west-2", "us-east-1"),
        ("sa-east-1", "us-east-1"),
        ("eu-west-3", "eu-central-1"),
        ("ap-southeast-2", "ap-south-1"),
        ("cn-north-1", "cn-northwest-1"),
        ("us-gov-west-1", None),
    ],
)
def test_region_of_the_pricing_api(region: str, asked: str | None) -> None:
    assert pricing_region(region) == asked


def product(usage: str, amount: str, unit: str = "Hrs", currency: str = "USD") -> str:
    terms = {"OnDemand": {"o": {"priceDimensions": {"d": {"unit": unit, "pricePerUnit": {currency: amount}}}}}}
    return json.dumps({"product": {"attributes": {"usagetype": usage}}, "terms": terms})


@pytest.mark.parametrize(
    ("text", "usage", "price"),
    [
        (product("BoxUsage:g5.2xlarge", "1.212"), "", 1.212),
        (product("EUC1-NatGateway-Hours", "0.052"), "NatGateway-Hours", 0.052),
        (product("NatGateway-Hours", "0.045"), "NatGateway-Hours", 0.045),
        (product("EUC1-NatGateway-Bytes", "0.052"), "NatGateway-Hours", None),
        (product("EUC1-EBS:VolumeP-Throughput.gp3", "40.96", "GiBps-mo"), "EBS:VolumeP-Throughput.gp3", 0.04),
        (product("BoxUsage:g5.2xlarge", "0.0000"), "", None),
        (product("BoxUsage:g5.2xlarge", "9.5", currency="CNY"), "", None),
        (json.dumps({}), "", None),
    ],
)
def test_price_of_a_product(text: str, usage: str, price: float | None) -> None:
    assert price_of(text, usage, "USD") == price


def test_currency() -> None:
    assert (currency_of("cn-north-1"), currency_of("eu-west-1")) == ("CNY", "USD")


@pytest.mark.parametrize(
    ("family", "kind", "code"),
    [
        ("m7i-flex", "on_demand", "L-1"),
        ("im4gn", "on_demand", "L-1"),
        ("t3", "spot", "L-4"),
        ("g5", "on_demand", "L-2"),
        ("gr6", "on_demand", "L-2"),
        ("g6e", "spot", "L-5"),
        ("p4d", "on_demand", "L-3"),
        ("p6-b200", "on_demand", "L-3"),
        ("p4d", "spot", "L-6"),
        ("p5en", "spot", "L-7"),
        ("trn2", "on_demand", "L-8"),
        ("p6-b200", "spot", None),
        ("x2gd", "on_demand", None),
        ("hpc7a", "on_demand", None),
        ("g5", "reserved", None),
    ],
)
def test_quota_of_a_family_by_name(family: str, kind: str, code: str | None) -> None:
    assert vcpu_code(family, kind, NAMES) == code


@pytest.mark.parametrize(
    ("family", "kind", "code"), [("g6", "on_demand", "L-DB2E81BA"), ("p5", "spot", "L-C4BD4855"), ("c7i", "spot", "L-34B43A08")]
)
def test_quota_of_a_family_by_code_where_no_name_tells(family: str, kind: str, code: str) -> None:
    assert vcpu_code(family, kind, {}) == code


def test_a_new_spot_class_is_found_by_its_name() -> None:
    assert vcpu_code("p6-b200", "spot", {**NAMES, "L-0": "All P6 Spot Instance Requests"}) == "L-0"


def test_narrowest_class_first() -> None:
    assert classes_of("p5en") == ("P5", "P")
    assert classes_of("gr6") == ("GR6", "GR", "G")


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-west-2", "https://us-west-2.console.aws.amazon.com/"),
        ("us-gov-west-1", "https://console.amazonaws-us-gov.com/"),
        ("cn-north-1", "https://console.amazonaws.cn/"),
    ],
)
def test_console_of_each_partition(region: str, host: str) -> None:
    assert console_url(region, "ec2", "L-1") == f"{host}servicequotas/home/services/ec2/quotas/L-1?region={region}"
