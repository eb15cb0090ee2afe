"""What a launch takes along from its request or launch template and moto ignores: capacity reservation, placement group, market, EFA.

Sources: API RunInstances, CreateCapacityReservation and CreatePlacementGroup of EC2; EC2 User Guide, "Launch instances into an existing
Capacity Reservation" and "Placement strategies"; error codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html.
"""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import dataclass, field

from moto.ec2.models import EC2Backend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses import EC2Response

from lab.aws import placement, reservations
from lab.aws.errors import AwsError
from lab.aws.moto_fixes import Wrapper, wraps

EFA = ("efa", "efa-only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a launch asks for besides type and place, by the API's own names."""

    reservation: t.Mapping[str, t.Any] = field(default_factory=dict)
    group: str = ""
    market: str = ""
    interfaces: tuple[t.Mapping[str, t.Any], ...] = ()

    @classmethod
    def of(cls, data: t.Mapping[str, t.Any]) -> Wishes:
        """From a RunInstances request or LaunchTemplateData."""
        return cls(
            reservation=data.get("CapacityReservationSpecification") or {},
            group=(data.get("Placement") or {}).get("GroupName") or "",
            market=(data.get("InstanceMarketOptions") or {}).get("MarketType") or "",
            interfaces=tuple(data.get("NetworkInterfaces") or ()),
        )

    def over(self, other: Wishes) -> Wishes:
        """These, and what they leave open from ``other``."""
        return Wishes(
            reservation=self.reservation or other.reservation,
            group=self.group or other.group,
            market=self.market or other.market,
            interfaces=self.interfaces or other.interfaces,
        )


def accept(backend: t.Any, wishes: Wishes, instance_type: str, zone: str, count: int = 1) -> reservations.Reservation | None:
    """The reservation that a launch there takes from, if any; raises AwsError when EC2 would not fulfil the wishes."""
    _check_interfaces(wishes, instance_type)
    placement.check(backend, wishes.group, zone)
    return reservations.choose(backend, wishes.reservation, wishes.market, instance_type, zone, count)


def _check_interfaces(wishes: Wishes, instance_type: str) -> None:
    wanted = sum(1 for interface in wishes.interfaces if interface.get("InterfaceType") in EFA)
    network = INSTANCE_TYPES.get(instance_type, {}).get("NetworkInfo", {})
    if wanted and not network.get("EfaSupported"):
        raise AwsError("UnsupportedOperation", f"EFA interfaces are not supported on {instance_type}")
    limit = network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0)
    if wanted > limit:
        raise AwsError("AttachmentLimitExceeded", f"EFA interface count {wanted} exceeds the limit for {instance_type}: {limit}")


@contextlib.contextmanager
def asking(backend: t.Any, wishes: Wishes) -> t.Iterator[None]:
    """What is launched inside is asked for with these wishes, over those of its template."""
    backend.__dict__["lab_wishes"] = wishes
    try:
        yield
    finally:
        del backend.__dict__["lab_wishes"]


@wraps(EC2Response, "run_instances")
def run_with_wishes(original: Wrapper, response: EC2Response) -> t.Any:
    with asking(response.ec2_backend, Wishes.of(response._get_params())):
        return original(response)


@wraps(EC2Backend, "run_instances")
def fulfil_wishes(original: Wrapper, backend: EC2Backend, image_id: str, count: int, *args: t.Any, **kwargs: t.Any) -> t.Any:
    """Raises AwsError where AWS would refuse; else the instances show reservation, group and market."""
    template = backend._get_template_from_args(kwargs["launch_template"]).data if kwargs.get("launch_template") else {}
    wishes = Wishes(market=kwargs.get("lifecycle") or "").over(backend.__dict__.get("lab_wishes", Wishes())).over(Wishes.of(template))
    instance_type = (template.get("InstanceType") if kwargs.get("is_instance_type_default") else "") or kwargs.get("instance_type", "")
    zone = _zone(backend, kwargs)
    reservation = accept(backend, wishes, instance_type, zone, count)
    made = original(backend, image_id, count, *args, **kwargs)
    for instance in made.instances:
        if wishes.market:
            instance.lifecycle = wishes.market
        if wishes.group:
            instance.placement.group_name = wishes.group
        if reservation is not None:
            instance.capacity_reservation_id = reservation.id
        instance.capacity_reservation_specification = wishes.reservation or {"CapacityReservationPreference": "open"}
    return made


def _zone(backend: EC2Backend, kwargs: t.Mapping[str, t.Any]) -> str:
    interfaces = kwargs.get("nics") or ()
    subnet_id = kwargs.get("subnet_id") or next((item["SubnetId"] for item in interfaces if item.get("SubnetId")), None)
    if subnet_id:
        return str(backend.get_subnet(subnet_id).availability_zone)
    return str(kwargs.get("placement") or f"{backend.region_name}a")
