"""How instant fleets launch: by price and capacity, and what they tell of it; spot prices; what describes nothing yet.

moto's CreateFleet takes the first override, asks nobody whether EC2 has such instances, and drops most of the launch template.
Sources: API CreateFleet and CreateFleetError, EC2 User Guide "Use allocation strategies to determine how EC2 Fleet or Spot Fleet fulfills
Spot and On-Demand capacity" (ec2-fleet-allocation-strategy.html), API DescribeSpotPriceHistory.
"""

from __future__ import annotations

import datetime
import functools
import typing as t
import uuid
from dataclasses import dataclass

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError, InvalidParameterValueError
from moto.ec2.models.fleets import Fleet
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.responses import EC2Response
from moto.ec2.utils import convert_tag_spec, random_spot_request_id

from lab.aws.errors import AwsError
from lab.aws.launching import Wishes, accept
from lab.aws.moto_fixes import Wrapper, surroundings, wraps
from lab.aws.offerings import no_addresses_message, no_capacity_message, not_offered_message, offered
from lab.aws.pricing import on_demand_prices

#: The lab's own figures: AWS's spot prices change with demand, these are always this part of the On-Demand price.
SPOT_SHARE = 0.35
#: For types that the collection ships no price of, as instances without GPUs.
VCPU_PRICE = 0.05
SPOT, ON_DEMAND = "spot", "on-demand"
#: AWS lists prices of Linux in a VPC under this name alone.
_PRODUCT = "Linux/UNIX"
_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_BY_PRIORITY = ("prioritized", "capacity-optimized-prioritized")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """One override of one launch template: what may be launched, and where."""

    specification: t.Mapping[str, t.Any]  # of the template, by id and version number
    data: t.Mapping[str, t.Any]
    override: t.Mapping[str, t.Any]
    instance_type: str
    subnet_id: str
    zone: str

    @property
    def overrides(self) -> dict[str, t.Any]:
        """As replies repeat it: with the zone, also where the request has the subnet alone."""
        return {**self.override, "InstanceType": self.instance_type, "SubnetId": self.subnet_id, "AvailabilityZone": self.zone}

    @property
    def document(self) -> dict[str, t.Any]:
        return {"LaunchTemplateSpecification": dict(self.specification), "Overrides": self.overrides}


@functools.cache
def on_demand_price(instance_type: str) -> float:
    """An hour's price in US dollars: what the collection ships, else an estimate by vCPUs."""
    shipped = on_demand_prices().get(instance_type)
    return shipped if shipped is not None else VCPU_PRICE * int(INSTANCE_TYPES[instance_type]["VCpuInfo"]["DefaultVCpus"])


def spot_price(instance_type: str) -> float:
    """The same in every zone and at all times."""
    return round(on_demand_price(instance_type) * SPOT_SHARE, 6)


@wraps(EC2Response, "create_fleet")
def create_fleet(original: Wrapper, response: EC2Response) -> ActionResult:
    """Fleets of type instant; the others are moto's."""
    params = response._get_params()
    if params.get("Type") != "instant":
        return t.cast(ActionResult, original(response))
    backend: t.Any = response.ec2_backend
    choices = [choice for config in params.get("LaunchTemplateConfigs", []) for choice in _choices(backend, config)]
    wanted = _wanted(params)
    response.error_on_dryrun()
    fleet = _empty_fleet(backend, params)
    tags = convert_tag_spec(params.get("TagSpecifications", []))
    errors: list[dict[str, t.Any]] = []
    for lifecycle, count in wanted.items():
        for _each in range(count):
            choice = _first_possible(backend, _ordered(choices, lifecycle, params), lifecycle, errors)
            if choice is None:
                break
            instance = _launch(backend, fleet.id, choice, lifecycle, tags)
            fleet.on_demand_instances.append({"id": fleet.id, "instance": instance, "choice": choice})
    return ActionResult({"FleetId": fleet.id, "Instances": _documents(fleet), "Errors": errors})


def _choices(backend: t.Any, config: dict[str, t.Any]) -> t.Iterator[_Choice]:
    specification = config["LaunchTemplateSpecification"]
    if specification.get("LaunchTemplateName"):
        template = backend.get_launch_template_by_name(specification["LaunchTemplateName"])
    else:
        template = backend.get_launch_template(specification["LaunchTemplateId"])
    numbers = {"$Latest": template.latest_version_number, "$Default": template.default_version_number}
    version = template.get_version(
        numbers.get(specification.get("Version"), specification.get("Version") or template.default_version_number)
    )
    named = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": str(version.number)}
    for override in config.get("Overrides") or [{}]:
        subnet_id = override.get("SubnetId") or _subnet_of(version.data)
        instance_type = override.get("InstanceType") or version.data.get("InstanceType")
        if not instance_type or instance_type not in INSTANCE_TYPES:
            raise EC2ClientError("InvalidInstanceType", f"The following supplied instance types do not exist: [{instance_type}]")
        zone = backend.get_subnet(subnet_id).availability_zone
        yield _Choice(
            specification=named, data=version.data, override=override, instance_type=instance_type, subnet_id=subnet_id, zone=zone
        )


def _subnet_of(data: t.Mapping[str, t.Any]) -> str:
    found = next((interface["SubnetId"] for interface in data.get("NetworkInterfaces", []) if interface.get("SubnetId")), None)
    if found is None:
        raise InvalidParameterValueError("The lab launches fleets into subnets that the overrides or the template name")
    return str(found)


def _wanted(params: dict[str, t.Any]) -> dict[str, int]:
    """Instances by lifecycle: what is asked for by name, the rest by the default type."""
    target = params["TargetCapacitySpecification"]
    wanted = {SPOT: int(target.get("SpotTargetCapacity", 0)), ON_DEMAND: int(target.get("OnDemandTargetCapacity", 0))}
    default = SPOT if target.get("DefaultTargetCapacityType") == SPOT else ON_DEMAND
    wanted[default] += max(0, int(target["TotalTargetCapacity"]) - sum(wanted.values()))
    return wanted


def _ordered(choices: list[_Choice], lifecycle: str, params: dict[str, t.Any]) -> list[_Choice]:
    """In which order they are tried: by priority where the strategy says so, else by price; equal ones as the request has them."""
    options = params.get("SpotOptions" if lifecycle == SPOT else "OnDemandOptions", {})
    if options.get("AllocationStrategy") in _BY_PRIORITY:
        return sorted(choices, key=lambda choice: float(choice.override.get("Priority", "inf")))
    price = spot_price if lifecycle == SPOT else on_demand_price
    return sorted(choices, key=lambda choice: price(choice.instance_type))


def _first_possible(backend: t.Any, choices: list[_Choice], lifecycle: str, errors: list[dict[str, t.Any]]) -> _Choice | None:
    """The first that EC2 can launch now; why not the ones before goes to ``errors``, once for each."""
    for choice in choices:
        refusal = _refusal(backend, choice, lifecycle)
        if refusal is None:
            return choice
        error = {
            "LaunchTemplateAndOverrides": choice.document,
            "Lifecycle": lifecycle,
            "ErrorCode": refusal[0],
            "ErrorMessage": refusal[1],
        }
        if error not in errors:
            errors.append(error)
    return None


def _refusal(backend: t.Any, choice: _Choice, lifecycle: str) -> tuple[str, str] | None:
    """(code, message), None when EC2 would launch it."""
    if not offered(backend.region_name, choice.zone, choice.instance_type):
        return "InvalidFleetConfiguration", not_offered_message(choice.instance_type, choice.zone)
    if beyond := surroundings().quotas.refusal(backend, choice.instance_type, lifecycle):
        return beyond.code, beyond.message
    try:
        reserved = (
            accept(
                backend, Wishes(market=SPOT if lifecycle == SPOT else "").over(Wishes.of(choice.data)), choice.instance_type, choice.zone
            )
            is not None
        )
    except AwsError as error:
        return error.code, error.message
    if not reserved and surroundings().faults.lacks_capacity(choice.instance_type, choice.zone, lifecycle):
        return "InsufficientInstanceCapacity", no_capacity_message(choice.instance_type, choice.zone)
    if backend.get_subnet(choice.subnet_id).available_ip_address_count < 1:
        return "InsufficientFreeAddressesInSubnet", no_addresses_message(choice.subnet_id)
    return None


def _launch(backend: t.Any, fleet_id: str, choice: _Choice, lifecycle: str, tags: dict[str, dict[str, str]]) -> t.Any:
    data = choice.data
    of_template = convert_tag_spec(data.get("TagSpecifications", []))
    interfaces = [
        {**interface, "DeviceIndex": index, "SubnetId": choice.subnet_id}
        for index, interface in enumerate(data.get("NetworkInterfaces", []))
    ]
    reservation = backend.run_instances(
        choice.override.get("ImageId") or data["ImageId"],
        1,
        data.get("UserData"),
        [],
        instance_type=choice.instance_type,
        is_instance_type_default=False,
        region_name=backend.region_name,
        placement=choice.zone,
        subnet_id=None if interfaces else choice.subnet_id,
        nics=interfaces,
        launch_template={"LaunchTemplateId": choice.specification["LaunchTemplateId"], "Version": choice.specification["Version"]},
        metadata_options=data.get("MetadataOptions") or {},
        ebs_optimized=data.get("EbsOptimized", False),
        fleet_id=fleet_id,
        tags={kind: {**of_template.get(kind, {}), **tags.get(kind, {})} for kind in ("instance", "volume")},
        lifecycle=SPOT if lifecycle == SPOT else None,
    )
    instance = reservation.instances[0]
    instance.add_tags({"aws:ec2:fleet-id": fleet_id})
    if lifecycle == SPOT:
        instance.spot_instance_request_id = random_spot_request_id()
    profile = data.get("IamInstanceProfile")
    if profile:
        backend.associate_iam_instance_profile(
            instance.id, iam_instance_profile_name=profile.get("Name"), iam_instance_profile_arn=profile.get("Arn")
        )
    return instance


def _empty_fleet(backend: t.Any, params: dict[str, t.Any]) -> Fleet:
    """moto's record of the fleet, by which it is described and deleted; a capacity of 0 keeps moto from launching."""
    fleet: Fleet = backend.create_fleet(
        params.get("OnDemandOptions", {}),
        params.get("SpotOptions", {}),
        {**params["TargetCapacitySpecification"], "TotalTargetCapacity": 0, "SpotTargetCapacity": 0, "OnDemandTargetCapacity": 0},
        [],
        params.get("ExcessCapacityTerminationPolicy", ""),
        False,
        False,
        "instant",
        None,
        None,
        params.get("TagSpecifications", []),
    )
    fleet.target_capacity_specification = params["TargetCapacitySpecification"]
    fleet.launch_template_configs = params.get("LaunchTemplateConfigs", [])
    return fleet


def _documents(fleet: Fleet) -> list[dict[str, t.Any]]:
    """One entry for each pool that gave instances."""
    found: dict[tuple[int, str], dict[str, t.Any]] = {}
    for item in fleet.on_demand_instances:
        instance, choice = item["instance"], item["choice"]
        lifecycle = instance.lifecycle or ON_DEMAND
        entry = found.setdefault(
            (id(choice), lifecycle),
            {
                "LaunchTemplateAndOverrides": choice.document,
                "Lifecycle": lifecycle,
                "InstanceIds": [],
                "InstanceType": choice.instance_type,
            },
        )
        entry["InstanceIds"].append(instance.id)
    return list(found.values())


@wraps(EC2Response, "describe_spot_price_history")
def describe_spot_price_history(original: Wrapper, response: EC2Response) -> str:
    """One price for each type and zone, of the time of the request: moto's is the same for all types.

    Written as text: there are thousands of rows, and Karpenter asks for all of them, which moto's serializer needs seconds for.
    """
    params, filters = response._get_params(), response._filters_from_querystring()
    products = params.get("ProductDescriptions") or filters.get("product-description") or [_PRODUCT]
    found = response.ec2_backend.describe_spot_price_history(params.get("InstanceTypes", []), _of_offerings(filters, params))
    rows = [row for row in found if row["InstanceType"] in INSTANCE_TYPES and _PRODUCT in products]
    start = int(params.get("NextToken") or 0)
    end = start + int(params.get("MaxResults") or len(rows) or 1)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    items = "".join(
        f"<item><instanceType>{row['InstanceType']}</instanceType><productDescription>{_PRODUCT}</productDescription>"
        f"<spotPrice>{spot_price(row['InstanceType']):.6f}</spotPrice><timestamp>{now}</timestamp>"
        f"<availabilityZone>{row['Location']}</availabilityZone></item>"
        for row in rows[start:end]
    )
    token = f"<nextToken>{end}</nextToken>" if end < len(rows) else "<nextToken/>"
    return (
        f'<DescribeSpotPriceHistoryResponse xmlns="{_NAMESPACE}"><requestId>{uuid.uuid4()}</requestId>'
        f"<spotPriceHistorySet>{items}</spotPriceHistorySet>{token}</DescribeSpotPriceHistoryResponse>"
    )


def _of_offerings(filters: dict[str, t.Any], params: dict[str, t.Any]) -> dict[str, t.Any]:
    """The filters by which rows of offerings are chosen, with the request's own zone."""
    found = {name: values for name, values in filters.items() if name in ("availability-zone", "instance-type")}
    return found | ({"availability-zone": [params["AvailabilityZone"]]} if params.get("AvailabilityZone") else {})
