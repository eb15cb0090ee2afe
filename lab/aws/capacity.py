"""What EC2 tells of capacity before anybody launches: Spot placement scores and Capacity Block offerings, which moto does not have.

Sources: API GetSpotPlacementScores, DescribeCapacityBlockOfferings and PurchaseCapacityBlock; EC2 User Guide, "Spot placement score" (at
least three types, or the score is low) and "Capacity Blocks for ML" (whole days to 14, whole weeks to 182; they end at 11:30 UTC).
Scores, fees and what is on offer are the lab's own.
"""

from __future__ import annotations

import datetime
import hashlib
import typing as t

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses import EC2Response

from lab.aws.errors import AwsError
from lab.aws.moto_fixes import Wrapper, page, surroundings, wraps
from lab.aws.offerings import offered
from lab.aws.pricing import on_demand_prices
from lab.aws.reservations import add_block, date_of
from lab.aws.tagging import request_tags

GOOD, FEW_TYPES, NONE = 9, 3, 1
BLOCK_DISCOUNT = 0.6
MAX_BLOCK_INSTANCES = 64
Document = dict[str, t.Any]


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValue", message)


# Spot placement scores


@wraps(EC2Response, "get_spot_placement_scores")
def get_spot_placement_scores(original: Wrapper | None, response: EC2Response) -> ActionResult:
    """By region, or with SingleAvailabilityZone by zone id; places that offer none of the types are left out."""
    params = response._get_params()
    types = params.get("InstanceTypes") or []
    if bool(types) == bool(params.get("InstanceRequirementsWithMetadata")):
        raise AwsError("InvalidParameterCombination", "Specify either InstanceTypes or InstanceRequirementsWithMetadata.")
    if not types:
        raise AwsError("NotImplemented", "The lab does not imitate placement scores by instance requirements", 501)
    if int(params.get("TargetCapacity") or 0) < 1:
        raise _invalid("TargetCapacity must be at least 1")
    regions = params.get("RegionNames") or [response.region]
    if len(regions) > 10:
        raise _invalid("At most 10 regions can be specified")
    scores = [item for region in regions for item in _scores(response.current_account, region, types)]
    if not params.get("SingleAvailabilityZone"):
        best = {region: max(item["Score"] for item in scores if item["Region"] == region) for region in {i["Region"] for i in scores}}
        scores = [{"Region": region, "Score": score} for region, score in sorted(best.items())]
    chosen, token = page(scores, params)
    return ActionResult({"SpotPlacementScores": chosen, "NextToken": token})


def _scores(account: str, region: str, types: list[str]) -> t.Iterator[Document]:
    for zone in ec2_backends[account][region].describe_availability_zones():
        here = [name for name in types if offered(region, zone.name, name)]
        if not here:
            continue
        short = all(surroundings().faults.capacity_is_short(name, zone.name, "spot") for name in here)
        score = NONE if short else GOOD if len(types) >= 3 else FEW_TYPES
        yield {"Region": region, "AvailabilityZoneId": zone.zone_id, "Score": score}


# Capacity Blocks


@wraps(EC2Response, "describe_capacity_block_offerings")
def describe_capacity_block_offerings(original: Wrapper | None, response: EC2Response) -> ActionResult:
    """One offering for each type in each zone that has it, from tomorrow or the date that is asked for."""
    params = response._get_params()
    types = params.get("InstanceTypePreferences") or [params.get("InstanceType")]
    hours, count = int(params.get("CapacityDurationHours") or 0), int(params.get("InstanceCount") or 1)
    days = hours // 24
    if hours % 24 or not (1 <= days <= 14 or (days <= 182 and days % 7 == 0)):
        raise _invalid("CapacityDurationHours must be whole days up to 14 days, or whole weeks up to 182 days.")
    if not 1 <= count <= MAX_BLOCK_INSTANCES:
        raise _invalid(f"InstanceCount must be between 1 and {MAX_BLOCK_INSTANCES}.")
    for name in types:
        if "capacity-block" not in INSTANCE_TYPES.get(name, {}).get("SupportedUsageClasses", []):
            raise AwsError("Unsupported", f"Capacity Blocks are not supported for instance type {name}.")
    start = _start(params)
    zones = response.ec2_backend.describe_availability_zones()
    found = [
        _offering(response.ec2_backend, name, zone.name, count, start, hours)
        for name in types
        for zone in zones
        if offered(response.region, zone.name, name)
    ]
    chosen, token = page(found, params)
    return ActionResult({"CapacityBlockOfferings": chosen, "NextToken": token})


def _start(params: Document) -> datetime.datetime:
    """11:30 UTC of the next day, or of the first day that is asked for."""
    tomorrow = surroundings().clock.now() + datetime.timedelta(days=1)
    earliest = max(tomorrow, date_of(params.get("StartDateRange")) or tomorrow)
    return earliest.replace(hour=11, minute=30, second=0, microsecond=0)


def _offering(backend: t.Any, instance_type: str, zone: str, count: int, start: datetime.datetime, hours: int) -> Document:
    facts = f"{instance_type}/{zone}/{count}/{start.isoformat()}/{hours}"
    fee = on_demand_prices().get(instance_type, 1.0) * BLOCK_DISCOUNT * count * hours
    offering = {
        "CapacityBlockOfferingId": f"cb-{hashlib.sha256(facts.encode()).hexdigest()[:17]}",
        "InstanceType": instance_type,
        "AvailabilityZone": zone,
        "InstanceCount": count,
        "StartDate": start,
        "EndDate": start + datetime.timedelta(hours=hours),
        "CapacityBlockDurationHours": hours,
        "CapacityBlockDurationMinutes": 60 * hours,
        "UpfrontFee": f"{fee:.4f}",
        "CurrencyCode": "USD",
        "Tenancy": "default",
    }
    backend.__dict__.setdefault("lab_block_offerings", {})[offering["CapacityBlockOfferingId"]] = offering
    return offering


@wraps(EC2Response, "purchase_capacity_block")
def purchase_capacity_block(original: Wrapper | None, response: EC2Response) -> ActionResult:
    params, backend = response._get_params(), response.ec2_backend
    offering = backend.__dict__.get("lab_block_offerings", {}).get(params.get("CapacityBlockOfferingId"))
    if offering is None:
        raise AwsError("InvalidCapacityBlockOfferingId.NotFound", f"The offering {params.get('CapacityBlockOfferingId')} does not exist")
    response.error_on_dryrun()
    block = add_block(
        backend,
        instance_type=offering["InstanceType"],
        zone=offering["AvailabilityZone"],
        count=offering["InstanceCount"],
        start=offering["StartDate"],
        hours=offering["CapacityBlockDurationHours"],
        tags=request_tags(params, "capacity-reservation"),
    )
    return ActionResult({"CapacityReservation": block})
