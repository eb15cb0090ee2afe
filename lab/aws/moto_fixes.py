"""Where moto 5.2.5 differs from AWS in a way that our job notices, put right: one small function each, with the reason.

moto has no plug-in interface, so these wrap methods of its classes. They are installed once in a process.
"""

from __future__ import annotations

import datetime
import fnmatch
import functools
import typing as t
from dataclasses import dataclass

from moto.core.base_backend import BackendDict
from moto.core.models import reset_model_data
from moto.core.responses import ActionResult
from moto.ec2 import utils as ec2_utils
from moto.ec2.exceptions import EC2ClientError, InvalidLaunchTemplateVersionNotFound
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import Instance
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.responses import EC2Response
from moto.ec2.utils import parse_user_data
from moto.iam.models import IAMBackend
from moto.ssm.models import Parameter, ParameterDict

from lab.aws.eks.state import EksState
from lab.aws.faults import Faults
from lab.aws.images import images, parameters
from lab.aws.quotas import Quotas
from lab.clock import Clock

Wrapper = t.Callable[..., t.Any]

NAT_GATEWAY_CREATE_SECONDS = 60.0
NAT_GATEWAY_DELETE_SECONDS = 45.0
AMAZON_EKS_ACCOUNT = "602401143452"
MAX_PAGE = 100
_IMAGE_DATE = datetime.datetime(2026, 7, 24, tzinfo=datetime.UTC).replace(tzinfo=None)  # moto keeps naive dates


@dataclass(slots=True)
class Surroundings:
    """What the fixes that depend on time, faults, quotas or EKS look at: those of the running server."""

    clock: Clock
    faults: Faults
    quotas: Quotas
    eks: EksState


_surroundings: Surroundings | None = None
_wrappers: list[tuple[type, str, Wrapper]] = []
_installed = False


def surroundings() -> Surroundings:
    """Those of the running server; raises RuntimeError when none runs."""
    if _surroundings is None:
        raise RuntimeError("no AWS server runs in this process")
    return _surroundings


def install(running: Surroundings) -> None:
    """Put the fixes in force, for this server from now on."""
    global _surroundings, _installed
    _surroundings = running
    if _installed:
        return
    _installed = True
    # DescribeTags calls it natgateway: with moto's nat-gateway, tag look-ups by type find nothing.
    ec2_utils.EC2_RESOURCE_TO_PREFIX["natgateway"] = "nat"
    ec2_utils.EC2_PREFIX_TO_RESOURCE["nat"] = "natgateway"
    for owner, name, wrapper in _wrappers:
        setattr(owner, name, _bind(getattr(owner, name, None), wrapper))


def forget_everything() -> None:
    """Drop the state of all services and accounts. moto's own reset makes every backend anew first, only to drop it."""
    in_use: list[t.Any] = t.cast(t.Any, BackendDict)._instances
    for backends in in_use:
        backends.clear()
    in_use.clear()
    reset_model_data()


def _bind(original: t.Callable[..., t.Any] | None, wrapper: Wrapper) -> t.Callable[..., t.Any]:
    def method(self: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return wrapper(original, self, *args, **kwargs)

    return functools.wraps(wrapper)(method)


def wraps(owner: type, name: str) -> t.Callable[[Wrapper], Wrapper]:
    """Register a function(original, self, ...) as the method ``name`` of a moto class; original is None for a new one."""

    def register(function: Wrapper) -> Wrapper:
        _wrappers.append((owner, name, function))
        return function

    return register


# Launch templates


@wraps(EC2Backend, "describe_instance_type_offerings")
def offerings_by_wildcard(
    original: Wrapper, backend: EC2Backend, location_type: str | None = None, filters: dict[str, list[str]] | None = None
) -> t.Any:
    """EC2 takes wildcards in filters, such as g5.*; moto compares them as they are."""
    given = dict(filters or {})
    patterns = given.pop("instance-type", None)
    found = original(backend, location_type, given)
    return [one for one in found if patterns is None or any(fnmatch.fnmatchcase(one["InstanceType"], pattern) for pattern in patterns)]


@wraps(EC2Backend, "create_launch_template")
def keep_template_tags_out_of_data(
    original: Wrapper, backend: EC2Backend, name: str, description: str, data: dict[str, t.Any], tags: t.Any
) -> t.Any:
    """moto stores the template's own tags in its version data, so that every run of a module sees a difference."""
    specifications = [item for item in data.pop("TagSpecifications", []) if item["ResourceType"] != "launch-template"]
    if specifications:
        data["TagSpecifications"] = specifications
    return original(backend, name, description, _with_group_set(data), tags)


def _with_group_set(data: dict[str, t.Any]) -> dict[str, t.Any]:
    """moto's CreateFleet reads the groups of a template under GroupSet, where AWS's clients do not put them."""
    if data.get("SecurityGroupIds"):
        data["GroupSet"] = list(data["SecurityGroupIds"])
    return data


@wraps(EC2Response, "create_launch_template_version")
def merge_source_version(original: Wrapper, response: EC2Response) -> ActionResult:
    """With SourceVersion, AWS takes what the request does not name from that version; moto stores the request alone, user data unparsed."""
    params = response._get_params()
    template = _template(response.ec2_backend, params)
    data = dict(params.get("LaunchTemplateData", {}))
    if "UserData" in data:
        data["UserData"] = parse_user_data(data["UserData"])
    source = params.get("SourceVersion")
    if source is not None:
        data = {**template.get_version(source).data, **data}
    response.error_on_dryrun()
    version = template.create_version(_with_group_set(data), params.get("VersionDescription", ""))
    return ActionResult({"LaunchTemplateVersion": _version_document(response, template, version)})


def _version_document(response: EC2Response, template: LaunchTemplate, version: t.Any) -> dict[str, t.Any]:
    return {
        "CreateTime": version.create_time,
        "CreatedBy": f"arn:aws:iam::{response.current_account}:root",
        "DefaultVersion": template.is_default(version),
        "LaunchTemplateData": version.data,
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionDescription": version.description,
        "VersionNumber": version.number,
    }


def _template(backend: t.Any, params: dict[str, t.Any]) -> LaunchTemplate:
    if params.get("LaunchTemplateName"):
        return t.cast(LaunchTemplate, backend.get_launch_template_by_name(params["LaunchTemplateName"]))
    return t.cast(LaunchTemplate, backend.get_launch_template(params["LaunchTemplateId"]))


@wraps(EC2Response, "delete_launch_template_versions")
def delete_launch_template_versions(original: Wrapper | None, response: EC2Response) -> ActionResult:
    """moto does not have the operation; the default version cannot be deleted, numbers are never given again."""
    params = response._get_params()
    template = _template(response.ec2_backend, params)
    deleted, refused = [], []
    for number in params["Versions"]:
        item = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": int(number)}
        fault = _deletion_fault(template, int(number))
        if fault:
            refused.append({**item, "ResponseError": {"Code": fault, "Message": f"Version {number} cannot be deleted"}})
        else:
            _deleted_versions(template).add(int(number))
            deleted.append(item)
    return ActionResult({"SuccessfullyDeletedLaunchTemplateVersions": deleted, "UnsuccessfullyDeletedLaunchTemplateVersions": refused})


def _deleted_versions(template: LaunchTemplate) -> set[int]:
    deleted: set[int] = template.__dict__.setdefault("lab_deleted_versions", set())
    return deleted


def _deletion_fault(template: LaunchTemplate, number: int) -> str | None:
    if not 1 <= number <= len(template.versions) or number in _deleted_versions(template):
        return "launchTemplateVersionDoesNotExist"
    return "unexpectedError" if number == template.default_version_number else None


@wraps(LaunchTemplate, "get_version")
def hide_deleted_version(original: Wrapper, template: LaunchTemplate, number: t.Any) -> t.Any:
    """moto finds versions by their place in a list that must stay whole."""
    version = original(template, number)
    if version.number in _deleted_versions(template):
        raise InvalidLaunchTemplateVersionNotFound(template_id=template.id, version=number)
    return version


@wraps(EC2Backend, "describe_launch_template_versions")
def list_present_versions(original: Wrapper, backend: EC2Backend, **kwargs: t.Any) -> t.Any:
    """Deleted versions are gone from lists; moto's default page of 15 loses the rest without a token."""
    kwargs["max_results"] = 10_000
    return [(template, version) for template, version in original(backend, **kwargs) if version.number not in _deleted_versions(template)]


@wraps(EC2Response, "describe_launch_templates")
def page_launch_templates(original: Wrapper, response: EC2Response) -> ActionResult:
    """moto cuts the list at 15 without a token, and ignores unknown ids."""
    backend, params = response.ec2_backend, response._get_params()
    for template_id in params.get("LaunchTemplateIds", []):
        if template_id not in backend.launch_templates:
            message = f"The specified launch template, with template ID {template_id}, does not exist."
            raise EC2ClientError("InvalidLaunchTemplateId.NotFound", message)
    found = backend.describe_launch_templates(
        template_names=params.get("LaunchTemplateNames", []),
        template_ids=params.get("LaunchTemplateIds", []),
        filters=response._filters_from_querystring(),
    )
    chosen, token = page(found, params)
    documents = [
        {
            "CreateTime": template.create_time,
            "CreatedBy": f"arn:aws:iam::{response.current_account}:root",
            "DefaultVersionNumber": template.default_version_number,
            "LatestVersionNumber": template.latest_version_number,
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "Tags": template.get_tags(),
        }
        for template in chosen
    ]
    return ActionResult({"LaunchTemplates": documents, "NextToken": token})


def page(items: list[t.Any], params: dict[str, t.Any], default: int = MAX_PAGE) -> tuple[list[t.Any], str | None]:
    """The items of a page, and the token of the next one."""
    start = int(params.get("NextToken") or 0)
    end = start + int(params.get("MaxResults") or default)
    return items[start:end], str(end) if end < len(items) else None


# Instance types, zones, images


@wraps(EC2Response, "describe_instance_types")
def page_instance_types(original: Wrapper, response: EC2Response) -> ActionResult:
    """moto answers all 1395 types in one reply; AWS at most 100 a page."""
    params = response._get_params()
    found = response.ec2_backend.describe_instance_types(params.get("InstanceTypes", []), response._filters_from_querystring())
    chosen, token = page(found, params)
    return ActionResult({"InstanceTypes": chosen, "NextToken": token})


@wraps(EC2Response, "describe_availability_zones")
def complete_zones(original: Wrapper, response: EC2Response) -> ActionResult:
    """moto's zones lack opt-in status and group, by which callers tell availability zones from local ones."""
    zones = response.ec2_backend.describe_availability_zones(
        {name: values for name, values in response._filters_from_querystring().items() if name not in ("opt-in-status", "group-name")},
        zone_names=response._get_param("ZoneNames", []),
        zone_ids=response._get_param("ZoneIds", []),
    )
    wanted = response._filters_from_querystring().get("opt-in-status", ["opt-in-not-required"])
    documents = [
        {
            "ZoneName": zone.name,
            "ZoneId": zone.zone_id,
            "RegionName": zone.region_name,
            "State": zone.state,
            "ZoneType": zone.zone_type,
            "OptInStatus": "opt-in-not-required",
            "GroupName": f"{zone.region_name}-zg-1",
            "NetworkBorderGroup": zone.region_name,
            "Messages": [],
        }
        for zone in zones
        if "opt-in-not-required" in wanted
    ]
    return ActionResult({"AvailabilityZones": documents})


@wraps(EC2Backend, "_load_amis")
def load_eks_images(original: Wrapper, backend: EC2Backend) -> None:
    """moto knows no EKS optimised image."""
    original(backend)
    for image in images():
        image_id = image.id(backend.region_name)
        backend.amis[image_id] = Ami(
            backend,
            image_id,
            name=image.name,
            description=f"EKS optimised image for Kubernetes {image.kubernetes}",
            owner_id=AMAZON_EKS_ACCOUNT,
            owner_alias="amazon",
            public=True,
            virtualization_type="hvm",
            architecture=image.ami_type.architecture,
            creation_date=_IMAGE_DATE,
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name="/dev/xvda",
            region_name=f"{backend.region_name}a",
        )


@wraps(EC2Backend, "register_image")
def keep_architecture(original: Wrapper, backend: EC2Backend, *args: t.Any, **kwargs: t.Any) -> t.Any:
    """moto's RegisterImage drops the architecture; AWS's default is i386, and nothing selects an image without one."""
    image = original(backend, *args, **kwargs)
    image.architecture = image.architecture or "x86_64"
    return image


@wraps(ParameterDict, "_check_loading_status")
def load_eks_parameters(original: Wrapper, parameter_dict: ParameterDict, key: str) -> None:
    """The public parameters of the EKS optimised images, which moto lacks."""
    original(parameter_dict, key)
    if not str(key or "").startswith(("/aws/service/eks", "/aws/service/bottlerocket")) or "lab_loaded" in parameter_dict.__dict__:
        return
    parameter_dict.__dict__["lab_loaded"] = True
    for name, value in parameters(parameter_dict.region_name).items():
        parameter = t.cast(t.Any, Parameter)(  # moto declares the class abstract and instantiates it
            account_id=parameter_dict.account_id,
            name=name,
            value=value,
            parameter_type="String",
            description=None,
            allowed_pattern=None,
            keyid=None,
            last_modified_date=_IMAGE_DATE,
            version=1,
            data_type="aws:ec2:image" if name.endswith("image_id") else "text",
        )
        dict.__setitem__(parameter_dict, name, [parameter])


# NAT gateways


@wraps(EC2Backend, "create_nat_gateway")
def create_pending_nat_gateway(original: Wrapper, backend: EC2Backend, *args: t.Any, **kwargs: t.Any) -> t.Any:
    """AWS's NAT gateways are pending for a minute or two; moto's are born available."""
    gateway = original(backend, *args, **kwargs)
    gateway.state = "pending"
    gateway.lab_due = surroundings().clock.seconds() + NAT_GATEWAY_CREATE_SECONDS
    gateway._eni.description = f"Interface for NAT Gateway {gateway.id}"
    hold_interface(backend.account_id, backend.region_name, gateway._eni.id)
    return gateway


@wraps(EC2Backend, "delete_nat_gateway")
def delete_nat_gateway_slowly(original: Wrapper, backend: EC2Backend, nat_gateway_id: str) -> t.Any:
    """moto keeps a deleted gateway's interface and address; AWS frees them when the deletion is through, and knows unknown ids."""
    gateway: t.Any = backend.nat_gateways.get(nat_gateway_id)
    if gateway is None:
        raise EC2ClientError("NatGatewayNotFound", f"NAT gateway {nat_gateway_id} was not found")
    if gateway.state in ("pending", "available"):
        gateway.state = "deleting"
        gateway.lab_due = surroundings().clock.seconds() + NAT_GATEWAY_DELETE_SECONDS
    return gateway


def settle_nat_gateways(backend: t.Any) -> None:
    """Bring a region's NAT gateways to what the clock says."""
    now = surroundings().clock.seconds()
    for gateway in list(backend.nat_gateways.values()):
        if gateway.lab_due > now:
            continue
        if gateway.state == "pending":
            gateway.state = "available"
        elif gateway.state == "deleting":
            gateway.state = "deleted"
            backend.enis.pop(gateway._eni.id, None)
            for address in backend.addresses:
                if address.eni is gateway._eni:
                    address.eni = address.association_id = None


@wraps(EC2Backend, "describe_nat_gateways")
def describe_settled_nat_gateways(original: Wrapper, backend: EC2Backend, filters: t.Any, nat_gateway_ids: t.Any) -> t.Any:
    """With the states that the clock says, tag filters (which moto ignores), and an error for unknown ids."""
    settle_nat_gateways(backend)
    for nat_gateway_id in nat_gateway_ids or []:
        if nat_gateway_id not in backend.nat_gateways:
            raise EC2ClientError("NatGatewayNotFound", f"NAT gateway {nat_gateway_id} was not found")
    found = original(backend, filters, nat_gateway_ids)
    for name, values in (filters or {}).items():
        if name.startswith("tag:"):
            found = [gateway for gateway in found if _tags(gateway).get(name[4:]) in values]
        elif name == "tag-key":
            found = [gateway for gateway in found if set(_tags(gateway)) & set(values)]
    return found


def _tags(resource: t.Any) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in resource.get_tags()}


def hold_interface(account: str, region: str, interface_id: str) -> None:
    """Make an interface one that a service holds: in use, although no instance has it. No API call does that."""
    interface = ec2_backends[account][region].enis[interface_id]
    interface.status = "in-use"
    interface.requester_managed = True


# Instances


@wraps(Instance, "prep_nics")
def delete_interfaces_with_instance(original: Wrapper, instance: Instance, nic_spec: list[dict[str, t.Any]], **kwargs: t.Any) -> None:
    """Interfaces made at launch go with the instance unless the request says otherwise; moto keeps them.

    An instance's groups are those of its primary interface (API Instance, SecurityGroups), also where only the interface names them.
    """
    kept = {int(nic["DeviceIndex"]) for nic in nic_spec if nic.get("NetworkInterfaceId") or nic.get("DeleteOnTermination") is False}
    original(instance, nic_spec, **kwargs)
    for index, interface in instance.nics.items():
        if index not in kept:
            interface.delete_on_termination = True
    if not instance.security_groups and 0 in instance.nics:
        instance.security_groups = list(instance.nics[0].group_set)


# IAM

_managed_policies: list[t.Any] = []


@wraps(IAMBackend, "_init_aws_policies")
def copy_managed_policies(original: Wrapper, backend: IAMBackend) -> list[t.Any]:
    """moto parses AWS's 1500 managed policies anew for each account: most of the time that a reset takes."""
    if not _managed_policies:
        _managed_policies.extend(original(backend))
    copies = []
    for policy in _managed_policies:
        twin = object.__new__(type(policy))
        twin.__dict__.update(policy.__dict__)
        copies.append(twin)
    return copies
