"""Capacity reservations and Capacity Blocks, which moto does not have.

Sources: API CreateCapacityReservation, DescribeCapacityReservations, CancelCapacityReservation, DescribeCapacityBlockOfferings and
PurchaseCapacityBlock of EC2; EC2 User Guide, "Concepts for EC2 On-Demand Capacity Reservations" (matching), "Capacity Blocks for ML"
(durations, clock, 30 minutes before the end instances are terminated).
"""

from __future__ import annotations

import datetime
import typing as t
import uuid
from dataclasses import dataclass

from moto.core.responses import ActionResult
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses import EC2Response

from lab.aws.errors import AwsError
from lab.aws.moto_fixes import Wrapper, surroundings, wraps
from lab.aws.offerings import no_capacity_message, not_offered_message, offered
from lab.aws.rules import settles
from lab.aws.tagging import filtered, request_tags, tag_list

GONE = ("terminated", "shutting-down")
BLOCK_END = datetime.timedelta(minutes=30)  # before the end of a Capacity Block its instances are terminated
_FILTERS = {
    "instance-type": "InstanceType",
    "availability-zone": "AvailabilityZone",
    "state": "State",
    "instance-match-criteria": "InstanceMatchCriteria",
    "instance-platform": "InstancePlatform",
    "end-date-type": "EndDateType",
    "reservation-type": "ReservationType",
    "tenancy": "Tenancy",
    "owner-id": "OwnerId",
}


@dataclass(slots=True, kw_only=True)
class Reservation:
    """A reservation; ``used`` counts instances, so there is no number to keep in step."""

    id: str
    instance_type: str
    zone: str
    count: int
    match: str
    start: datetime.datetime
    end: datetime.datetime | None
    created: datetime.datetime
    platform: str = "Linux/UNIX"
    kind: str = "default"
    cancelled: bool = False

    def state(self, now: datetime.datetime) -> str:
        if self.cancelled:
            return "cancelled"
        if now < self.start:
            return "scheduled"
        return "active" if self.end is None or now < self.end else "expired"


def _reservations(backend: t.Any) -> dict[str, Reservation]:
    found: dict[str, Reservation] = backend.__dict__.setdefault("lab_capacity_reservations", {})
    return found


def _members(backend: t.Any, reservation: Reservation) -> list[t.Any]:
    return [
        item
        for item in backend.all_instances()
        if item.state not in GONE and getattr(item, "capacity_reservation_id", None) == reservation.id
    ]


def _free(backend: t.Any, reservation: Reservation) -> int:
    return max(0, reservation.count - len(_members(backend, reservation)))


def _now() -> datetime.datetime:
    return surroundings().clock.now()


def _unknown(reservation_id: str) -> AwsError:
    return AwsError("InvalidCapacityReservationId.NotFound", f"The capacity reservation '{reservation_id}' does not exist")


def choose(
    backend: t.Any, specification: t.Mapping[str, t.Any], market: str, instance_type: str, zone: str, count: int
) -> Reservation | None:
    """The reservation that a launch takes from, None for capacity outside of reservations; raises AwsError when it may use no other."""
    preference = specification.get("CapacityReservationPreference", "open")
    target = specification.get("CapacityReservationTarget") or {}
    ids = target.get("CapacityReservationIds") or [target[name] for name in ("CapacityReservationId",) if target.get(name)]
    if market == "spot" or preference == "none":
        return None
    for reservation_id in ids:
        if reservation_id not in _reservations(backend):
            raise _unknown(reservation_id)
    fitting = [item for item in _reservations(backend).values() if _fits(backend, item, market, instance_type, zone, count)]
    found = next((item for item in fitting if (item.id in ids if ids else item.match == "open")), None)
    for item in (_reservations(backend)[reservation_id] for reservation_id in ids):
        if found is None and item.kind == "capacity-block" and item.state(_now()) == "scheduled":
            raise AwsError("InvalidCapacityReservationState", f"Your Capacity Block reservation {item.id} is not active yet.")
    only = preference == "capacity-reservations-only" or (bool(ids) and preference != "capacity-reservations-first")
    if found is None and only:
        message = "The requested reservation does not have sufficient compatible and available capacity for this request."
        raise AwsError("ReservationCapacityExceeded", message)
    return found


def _fits(backend: t.Any, item: Reservation, market: str, instance_type: str, zone: str, count: int) -> bool:
    same = (item.instance_type, item.zone, item.state(_now())) == (instance_type, zone, "active")
    return same and (item.kind == "capacity-block") == (market == "capacity-block") and _free(backend, item) >= count


def _document(backend: t.Any, item: Reservation) -> dict[str, t.Any]:
    zones = {zone.name: zone.zone_id for zone in backend.describe_availability_zones()}
    state = item.state(_now())
    document: dict[str, t.Any] = {
        "CapacityReservationId": item.id,
        "OwnerId": backend.account_id,
        "CapacityReservationArn": f"arn:aws:ec2:{backend.region_name}:{backend.account_id}:capacity-reservation/{item.id}",
        "AvailabilityZone": item.zone,
        "AvailabilityZoneId": zones[item.zone],
        "InstanceType": item.instance_type,
        "InstancePlatform": item.platform,
        "Tenancy": "default",
        "TotalInstanceCount": item.count,
        "AvailableInstanceCount": _free(backend, item) if state == "active" else 0,
        "EbsOptimized": True,
        "EphemeralStorage": False,
        "State": state,
        "StartDate": item.start,
        "EndDateType": "unlimited" if item.end is None else "limited",
        "InstanceMatchCriteria": item.match,
        "CreateDate": item.created,
        "ReservationType": item.kind,
        "Tags": tag_list(backend, item.id),
    }
    return document if item.end is None else {**document, "EndDate": item.end}


@wraps(EC2Response, "create_capacity_reservation")
def create_capacity_reservation(original: Wrapper | None, response: EC2Response) -> ActionResult:
    params, backend = response._get_params(), response.ec2_backend
    instance_type, zone = params.get("InstanceType", ""), _zone(backend, params)
    count = int(params.get("InstanceCount") or 0)
    end = date_of(params.get("EndDate"))
    problem = _creation_problem(response, params, instance_type, zone, count)
    if problem is not None:
        raise problem
    response.error_on_dryrun()
    reservation = Reservation(
        id=f"cr-{uuid.uuid4().hex[:17]}",
        instance_type=instance_type,
        zone=zone,
        count=count,
        match=params.get("InstanceMatchCriteria") or "open",
        platform=params.get("InstancePlatform") or "Linux/UNIX",
        start=_now(),
        created=_now(),
        end=end if params.get("EndDateType") == "limited" else None,
    )
    return ActionResult({"CapacityReservation": _keep(backend, reservation, request_tags(params, "capacity-reservation"))})


def _keep(backend: t.Any, reservation: Reservation, tags: dict[str, str]) -> dict[str, t.Any]:
    _reservations(backend)[reservation.id] = reservation
    backend.create_tags([reservation.id], tags)
    return _document(backend, reservation)


def _creation_problem(response: EC2Response, params: dict[str, t.Any], instance_type: str, zone: str, count: int) -> AwsError | None:
    backend = response.ec2_backend
    if instance_type not in INSTANCE_TYPES:
        return AwsError("InvalidInstanceType", f"The following supplied instance types do not exist: [{instance_type}]")
    if count < 1:
        return AwsError("InvalidParameterValue", f"Value ({count}) for parameter instanceCount is invalid. It must be at least 1.")
    if (params.get("EndDateType") == "limited") != bool(params.get("EndDate")):
        return AwsError("InvalidParameterCombination", "EndDate must be specified exactly when EndDateType is limited.")
    if not offered(response.region, zone, instance_type):
        return AwsError("Unsupported", not_offered_message(instance_type, zone))
    if (beyond := surroundings().quotas.refusal(backend, instance_type, None, count)) is not None:
        return beyond
    if surroundings().faults.lacks_capacity(instance_type, zone, "on-demand"):
        return AwsError("InsufficientInstanceCapacity", no_capacity_message(instance_type, zone), 500)
    return None


def _zone(backend: t.Any, params: dict[str, t.Any]) -> str:
    """By name or id; raises AwsError."""
    zones = {zone.name: zone.zone_id for zone in backend.describe_availability_zones()}
    for name, zone_id in zones.items():
        if name == params.get("AvailabilityZone") or zone_id == params.get("AvailabilityZoneId"):
            return name
    asked = params.get("AvailabilityZone") or params.get("AvailabilityZoneId")
    raise AwsError("InvalidParameterValue", f"Invalid availability zone: [{asked}]")


def date_of(value: t.Any) -> datetime.datetime | None:
    """In UTC where nothing else is said."""
    if not value:
        return None
    date = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(str(value))
    return date.replace(tzinfo=date.tzinfo or datetime.UTC)


@wraps(EC2Response, "describe_capacity_reservations")
def describe_capacity_reservations(original: Wrapper | None, response: EC2Response) -> ActionResult:
    backend, found = response.ec2_backend, _reservations(response.ec2_backend)
    ids = response._get_params().get("CapacityReservationIds") or list(found)
    for reservation_id in ids:
        if reservation_id not in found:
            raise _unknown(reservation_id)
    documents = [_document(backend, found[reservation_id]) for reservation_id in ids]
    return ActionResult({"CapacityReservations": filtered(documents, response, _FILTERS)})


@wraps(EC2Response, "cancel_capacity_reservation")
def cancel_capacity_reservation(original: Wrapper | None, response: EC2Response) -> ActionResult:
    """Instances that use it run on; a Capacity Block cannot be cancelled."""
    reservation_id = response._get_params().get("CapacityReservationId", "")
    found = _reservations(response.ec2_backend).get(reservation_id)
    if found is None:
        raise _unknown(reservation_id)
    if found.kind == "capacity-block":
        raise AwsError("OperationNotPermitted", f"The Capacity Block {reservation_id} can't be cancelled.")
    if found.state(_now()) not in ("active", "scheduled"):
        message = f"The capacity reservation '{reservation_id}' is in state {found.state(_now())} and cannot be cancelled."
        raise AwsError("InvalidCapacityReservationState", message)
    response.error_on_dryrun()
    found.cancelled = True
    for instance in _members(response.ec2_backend, found):
        instance.capacity_reservation_id = None
    return ActionResult({"Return": True})


def add_block(
    backend: t.Any, *, instance_type: str, zone: str, count: int, start: datetime.datetime, hours: int, tags: dict[str, str]
) -> dict[str, t.Any]:
    """A Capacity Block that is paid for: scheduled until its start."""
    block = Reservation(
        id=f"cr-{uuid.uuid4().hex[:17]}",
        instance_type=instance_type,
        zone=zone,
        count=count,
        match="targeted",
        kind="capacity-block",
        start=start,
        created=_now(),
        end=start + datetime.timedelta(hours=hours),
    )
    return _keep(backend, block, tags)


@settles
def end_reservations(backend: t.Any) -> None:
    """Instances of a block go half an hour before its end; those of an expired reservation run on outside of it."""
    now = _now()
    for item in _reservations(backend).values():
        if item.end is None:
            continue
        if item.kind == "capacity-block" and now >= item.end - BLOCK_END:
            if members := [instance.id for instance in _members(backend, item)]:
                backend.terminate_instances(members)
        elif now >= item.end:
            for instance in _members(backend, item):
                instance.capacity_reservation_id = None
