# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What things cost, as far as that can be known without an account, and where the Pricing API says the rest. Pure.

A price that is not here is None: unknown, never 0.
"""

from __future__ import annotations

import functools
import json
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.on_demand import TABLES

HOURS_PER_MONTH = 730


@dataclass(frozen=True, kw_only=True)
class Price:
    """The price of one thing, in ``unit``; ``regions`` begin the names of those where it holds."""

    amount: float
    unit: str
    regions: tuple[str, ...]


# AWS's partition of the same name: no region of China or GovCloud.
_EVERYWHERE = ("us-east-", "us-west-", "eu-", "ap-", "sa-", "ca-", "me-", "af-", "il-", "mx-")
_THREE_OF_THE_US = ("us-east-1", "us-east-2", "us-west-2")

# As of 2026-11. (mem): general knowledge, to be compared with the page named.
FIXED: dict[str, Price] = {
    # https://aws.amazon.com/eks/pricing/ (mem)
    "cluster": Price(amount=0.10, unit="hour", regions=_EVERYWHERE),
    "cluster_extended": Price(amount=0.60, unit="hour", regions=_EVERYWHERE),
    # https://aws.amazon.com/vpc/pricing/ (mem)
    "public_address": Price(amount=0.005, unit="hour", regions=_EVERYWHERE),
    "nat_gateway": Price(amount=0.045, unit="hour", regions=_THREE_OF_THE_US),
    "interface_endpoint": Price(amount=0.01, unit="hour", regions=_THREE_OF_THE_US),
    # https://aws.amazon.com/ebs/pricing/ (mem): gp3 includes 125 MiB/s and 3000 IOPS
    "gp3_size": Price(amount=0.08, unit="GiB-month", regions=_THREE_OF_THE_US),
    "gp3_throughput": Price(amount=0.04, unit="MiB/s-month", regions=_THREE_OF_THE_US),
    "gp3_iops": Price(amount=0.005, unit="IOPS-month", regions=_THREE_OF_THE_US),
    # https://aws.amazon.com/kms/pricing/ (mem)
    "key": Price(amount=1.0, unit="month", regions=_EVERYWHERE),
}
GP3_THROUGHPUT, GP3_IOPS = 125, 3000  # included in the price of the size


@dataclass(frozen=True, kw_only=True)
class Query:
    """How pricing:GetProducts is asked for a price of FIXED; ``usage`` ends the usage type of the product (mem)."""

    service: str
    filters: tuple[tuple[str, str], ...]
    usage: str


QUERIES: dict[str, Query] = {
    "nat_gateway": Query(service="AmazonEC2", filters=(("productFamily", "NAT Gateway"),), usage="NatGateway-Hours"),
    "interface_endpoint": Query(service="AmazonVPC", filters=(("productFamily", "VpcEndpoint"),), usage="VpcEndpoint-Hours"),
    "gp3_size": Query(service="AmazonEC2", filters=(("productFamily", "Storage"), ("volumeApiName", "gp3")), usage="EBS:VolumeUsage.gp3"),
    "gp3_throughput": Query(
        service="AmazonEC2",
        filters=(("productFamily", "Provisioned Throughput"), ("volumeApiName", "gp3")),
        usage="EBS:VolumeP-Throughput.gp3",
    ),
    "gp3_iops": Query(
        service="AmazonEC2", filters=(("productFamily", "System Operation"), ("volumeApiName", "gp3")), usage="EBS:VolumeP-IOPS.gp3"
    ),
}


@functools.lru_cache(maxsize=None)
def on_demand(region: str) -> t.Mapping[str, float]:
    """Instance type -> price per hour in a region; empty where no prices are shipped for it."""
    found: dict[str, float] = {}
    for line in TABLES[region][2].splitlines() if region in TABLES else ():
        family, *sizes = line.split()
        found |= {f"{family}.{size}": float(price) for size, price in (word.split("=") for word in sizes)}
    return found


def date_of(region: str) -> str | None:
    """When the prices that are shipped for a region were read."""
    return TABLES[region][0] if region in TABLES else None


def currency_of(region: str) -> str:
    """Source: the Pricing API gives prices of China's regions in CNY."""
    return "CNY" if region.startswith("cn-") else "USD"


def fixed(region: str) -> dict[str, float]:
    """The prices of FIXED that hold in a region."""
    return {name: price.amount for name, price in FIXED.items() if region.startswith(price.regions)}


def pricing_region(region: str) -> str | None:
    """The region whose Pricing API is asked; None where there is none (GovCloud).

    Source: AWS General Reference, Price List endpoints: us-east-1, eu-central-1, ap-south-1 and cn-northwest-1.
    """
    if region.startswith("us-gov-"):
        return None
    near = {"cn": "cn-northwest-1", "eu": "eu-central-1", "ap": "ap-south-1"}
    return near.get(region.partition("-")[0], "us-east-1")


def price_of(product: str, usage: str, currency: str) -> float | None:
    """The On-Demand price of a product of pricing:GetProducts, which is JSON text; None where its usage type is another one.

    Throughput is sold by the GiB/s and counted here by the MiB/s.
    """
    item = json.loads(product)
    kind = item.get("product", {}).get("attributes", {}).get("usagetype", "")
    if usage and re.fullmatch(rf"([A-Z0-9]+-)?{re.escape(usage)}", kind) is None:
        return None
    terms = item.get("terms", {}).get("OnDemand", {}).values()
    for dimension in (dimension for term in terms for dimension in term.get("priceDimensions", {}).values()):
        amount = float(dimension.get("pricePerUnit", {}).get(currency, 0))
        if amount:
            return amount / 1024 if dimension.get("unit", "").startswith("GiBps") else amount
    return None
