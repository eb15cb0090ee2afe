"""The Price List API for the lab's own region and us-east-1; moto does not have the service.

Sources: API reference of the Price List Query API (GetProducts: items are JSON texts; filter types), AWS General Reference (its endpoints).
Prices of instances are the figures for us-east-1 that the collection ships, taken as the lab's for its own region, whatever AWS asks there;
the others are those of the services' price pages for us-west-2 and us-east-1. Linux alone; no reserved and no dedicated instances.
"""

from __future__ import annotations

import functools
import hashlib
import json
import runpy
import typing as t
from dataclasses import dataclass
from pathlib import Path

from moto.ec2.models.instance_types import INSTANCE_TYPES

from lab.aws.calls import Call
from lab.aws.errors import AwsError
from lab.aws.jsonservice import JsonService, Params, page

_SHIPPED = Path(__file__).parents[2] / "plugins" / "module_utils" / "_catalog" / "on_demand.py"
_FIGURES_OF = "us-east-1"
_INVALID = "InvalidParameterException"
ENDPOINT_REGIONS = ("us-east-1", "eu-central-1", "ap-south-1")
_LOCATIONS = {"us-east-1": "US East (N. Virginia)", "us-west-2": "US West (Oregon)", "eu-central-1": "EU (Frankfurt)"}
# How usage types of a region begin.
_PREFIXES = {"us-east-1": "", "us-west-2": "USW2-", "eu-central-1": "EUC1-"}
_ON_DEMAND_TERM, _HOURLY = "JRTCKXETXF", "6YS6EN2CT7"
_PUBLISHED = "2026-07-06T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One product and its On-Demand price in a unit."""

    service: str
    sku: str
    attributes: t.Mapping[str, str]
    price: float
    unit: str
    description: str

    def matches(self, filters: t.Sequence[Params]) -> bool:
        """Fields are named in any case: serviceCode and servicecode are the same."""
        attributes = {name.lower(): value for name, value in self.attributes.items()}
        return all(_FILTERS[str(item["Type"])](attributes.get(str(item["Field"]).lower()), item["Value"]) for item in filters)

    def text(self) -> str:
        """An item of PriceList: a JSON text."""
        attributes = {name: value for name, value in self.attributes.items() if name != "productFamily"}
        rate = f"{self.sku}.{_ON_DEMAND_TERM}.{_HOURLY}"
        dimension = {
            "unit": self.unit,
            "endRange": "Inf",
            "description": self.description,
            "appliesTo": [],
            "rateCode": rate,
            "beginRange": "0",
            "pricePerUnit": {"USD": f"{self.price:.10f}"},
        }
        term = {
            "priceDimensions": {rate: dimension},
            "sku": self.sku,
            "effectiveDate": _PUBLISHED,
            "offerTermCode": _ON_DEMAND_TERM,
            "termAttributes": {},
        }
        document = {
            "product": {"productFamily": self.attributes["productFamily"], "attributes": attributes, "sku": self.sku},
            "serviceCode": self.service,
            "terms": {"OnDemand": {f"{self.sku}.{_ON_DEMAND_TERM}": term}},
            "version": "20260706000000",
            "publicationDate": _PUBLISHED,
        }
        return json.dumps(document)


# API Filter: TERM_MATCH is exact; lists of ANY_OF and NONE_OF are separated by commas.
_FILTERS: dict[str, t.Callable[[str | None, str], bool]] = {
    "TERM_MATCH": lambda value, wanted: value == wanted,
    "EQUALS": lambda value, wanted: value == wanted,
    "CONTAINS": lambda value, wanted: value is not None and wanted in value,
    "ANY_OF": lambda value, wanted: value in wanted.split(","),
    "NONE_OF": lambda value, wanted: value not in wanted.split(","),
}


@functools.cache
def on_demand_prices() -> dict[str, float]:
    """Instance type → price per hour; the file is data of the collection and imports nothing of it."""
    tables: dict[str, tuple[str, str, str]] = runpy.run_path(str(_SHIPPED))["TABLES"]
    found: dict[str, float] = {}
    for line in tables[_FIGURES_OF][2].splitlines():
        family, *sizes = line.split()
        found |= {f"{family}.{size}": float(price) for size, price in (word.split("=") for word in sizes)}
    return found


@functools.cache
def products(region: str) -> tuple[Product, ...]:
    """Everything that has a price in a region."""
    place = {"regionCode": region, "location": _LOCATIONS[region], "locationType": "AWS Region"}
    prefix = _PREFIXES[region]
    instances = [
        item
        for instance_type, price in on_demand_prices().items()
        if instance_type in INSTANCE_TYPES
        for tenancy in ("Shared", "Dedicated")[: 1 + ("metal" in instance_type)]  # bare metal is listed as both
        for item in _instance_products(instance_type, price, prefix, {**place, "tenancy": tenancy})
    ]
    return (*instances, *_other_products(prefix, place))


def _sku(*parts: str) -> str:
    """Sixteen letters and digits that stay the same."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16].upper()


def _instance_products(instance_type: str, price: float, prefix: str, place: t.Mapping[str, str]) -> t.Iterator[Product]:
    """As AWS has them: what is used, and what a capacity reservation holds unused (same price) or used (nothing more)."""
    shape = INSTANCE_TYPES[instance_type]
    for status, usage, amount in (
        ("Used", "BoxUsage", price),
        ("UnusedCapacityReservation", "UnusedBox", price),
        ("AllocatedCapacityReservation", "Reservation", 0.0),
    ):
        attributes = {
            **place,
            "productFamily": "Compute Instance" if "metal" not in instance_type else "Compute Instance (bare metal)",
            "instanceType": instance_type,
            "instanceFamily": "GPU instance" if shape.get("GpuInfo") else "General purpose",
            "vcpu": str(shape["VCpuInfo"]["DefaultVCpus"]),
            "memory": f"{shape['MemoryInfo']['SizeInMiB'] // 1024} GiB",
            "operatingSystem": "Linux",
            "preInstalledSw": "NA",
            "licenseModel": "No License required",
            "capacitystatus": status,
            "marketoption": "OnDemand",
            "operation": "RunInstances",
            "servicecode": "AmazonEC2",
            "usagetype": f"{prefix}{usage}:{instance_type}",
        }
        if shape.get("GpuInfo"):
            attributes["gpu"] = str(sum(gpu["Count"] for gpu in shape["GpuInfo"]["Gpus"]))
        yield Product(
            service="AmazonEC2",
            sku=_sku(place["regionCode"], instance_type, status, *([] if place["tenancy"] == "Shared" else [place["tenancy"]])),
            attributes=attributes,
            price=amount,
            unit="Hrs",
            description=f"${amount} per On Demand Linux {instance_type} Instance Hour",
        )


# (service, product family, usage type without its region, price, unit, further attributes). GiBps of gp3 throughput: 0.04 for each MiB/s.
_OTHERS: tuple[tuple[str, str, str, float, str, t.Mapping[str, str]], ...] = (
    ("AmazonEC2", "NAT Gateway", "NatGateway-Hours", 0.045, "Hrs", {"group": "NGW:NatGateway"}),
    ("AmazonEC2", "NAT Gateway", "NatGateway-Bytes", 0.045, "GB", {"group": "NGW:NatGateway"}),
    ("AmazonVPC", "VpcEndpoint", "VpcEndpoint-Hours", 0.01, "Hrs", {"endpointType": "PrivateLink"}),
    ("AmazonVPC", "VpcEndpoint", "VpcEndpoint-Bytes", 0.01, "GB", {"endpointType": "PrivateLink"}),
    ("AmazonEC2", "Storage", "EBS:VolumeUsage.gp3", 0.08, "GB-Mo", {"volumeApiName": "gp3"}),
    ("AmazonEC2", "Provisioned Throughput", "EBS:VolumeP-Throughput.gp3", 40.96, "GiBps-mo", {"volumeApiName": "gp3"}),
    ("AmazonEC2", "System Operation", "EBS:VolumeP-IOPS.gp3", 0.005, "IOPS-Mo", {"volumeApiName": "gp3"}),
    ("AmazonEKS", "Compute", "AmazonEKS-Hours:perCluster", 0.10, "Hours", {"operation": "CreateOperation"}),
    ("AmazonEKS", "Compute", "AmazonEKS-Hours:extendedSupport", 0.50, "Hours", {"operation": "ExtendedSupport"}),
)


def _other_products(prefix: str, place: t.Mapping[str, str]) -> t.Iterator[Product]:
    for service, family, usage, price, unit, more in _OTHERS:
        yield Product(
            service=service,
            sku=_sku(place["regionCode"], usage),
            attributes={**place, "productFamily": family, "servicecode": service, "usagetype": prefix + usage, **more},
            price=price,
            unit=unit,
            description=f"${price} per {unit} of {usage}",
        )


class PricingService:
    """GetProducts for ``region`` and us-east-1; other regions have no prices here."""

    def __init__(self, region: str) -> None:
        self._regions = tuple(name for name in dict.fromkeys((region, _FIGURES_OF)) if name in _PREFIXES)
        self.handle = JsonService("pricing", {"GetProducts": self._get_products}, invalid=_INVALID).handle

    def _get_products(self, call: Call, params: Params) -> Params:
        if call.region not in ENDPOINT_REGIONS:
            raise AwsError(
                "UnknownEndpoint", f"The Price List API has no endpoint in {call.region}; it has in {', '.join(ENDPOINT_REGIONS)}."
            )
        filters = params.get("Filters", [])
        if unknown := {str(item["Type"]) for item in filters} - _FILTERS.keys():
            raise AwsError(_INVALID, f"Filter type {', '.join(sorted(unknown))} is not valid")
        of_service = [item for region in self._regions for item in products(region) if item.service == params["ServiceCode"]]
        if not of_service:
            raise AwsError("NotFoundException", f"Invalid ServiceCode: {params['ServiceCode']}")
        items, token = page([item for item in of_service if item.matches(filters)], params, invalid="InvalidNextTokenException")
        return {"FormatVersion": "aws_v1", "PriceList": [item.text() for item in items], "NextToken": token}
