"""What EKS checks before it accepts a managed node group.

Rules: https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateNodegroup.html, API_UpdateNodegroupConfig.html, launch template
rules https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html, and the issues named at single checks.
"""

from __future__ import annotations

import base64
import email
import re
import tomllib
import typing as t
from dataclasses import dataclass

from botocore.exceptions import ClientError

from lab.aws.eks.account import Subnet, subnets, trusted_services
from lab.aws.eks.context import Context, Params, in_use, invalid_parameter, invalid_request
from lab.aws.eks.state import Cluster, Document
from lab.aws.images import Image, ami_types, find_image

DEFAULT_INSTANCE_TYPE = "t3.medium"
DEFAULT_AMI_TYPE = "AL2023_x86_64_STANDARD"
DEFAULT_SCALING = {"minSize": 1, "maxSize": 2, "desiredSize": 2}
MAX_LABELS = MAX_TAINTS = 50
MAX_INSTANCE_TYPES = 20
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,62}")
_LABEL_VALUE = re.compile(r"([0-9A-Za-z]([0-9A-Za-z_.-]*[0-9A-Za-z])?)?")
_RESERVED_LABELS = ("kubernetes.io/", "k8s.io/", "eks.amazonaws.com/")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    """What matters of an EC2 instance type."""

    name: str
    architectures: tuple[str, ...]
    nvidia: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedNodegroup:
    """A create request that EKS accepts, with its defaults filled in. ``image`` is None for CUSTOM."""

    subnets: list[Subnet]
    instance_types: list[str]  # what the groups launches, from the request or the template
    template: Document | None  # {"id", "name", "version", "data"} of the caller's launch template
    ami_type: str
    capacity_type: str
    image: Image | None
    scaling: dict[str, int]


def check_nodegroup(context: Context, cluster: Cluster, params: Params) -> CheckedNodegroup:
    """Raises AwsError as CreateNodegroup answers; creates nothing."""
    if cluster.status != "ACTIVE":  # eksctl#2244
        raise invalid_request(f"Cluster '{cluster.name}' is not in ACTIVE status", clusterName=cluster.name)
    name = params["nodegroupName"]
    if name in cluster.nodegroups:
        message = f"NodeGroup already exists with name {name} and cluster name {cluster.name}"
        raise in_use(message, clusterName=cluster.name, nodegroupName=name)
    if not _NAME.fullmatch(name):
        raise invalid_parameter(
            f"The nodegroup name {name} is invalid: letters, digits, hyphens and underscores, at most 63", nodegroupName=name
        )
    scaling = checked_scaling(params.get("scalingConfig"), None)
    check_labels(params.get("labels", {}))
    check_taints(params.get("taints", []))
    check_update_config(params.get("updateConfig", {}))
    check_repair_config(params.get("nodeRepairConfig", {}))
    chosen = _checked_subnets(context, cluster, params["subnets"])
    _check_role(context, params["nodeRole"])
    template = _checked_template(context, params)
    ami_type = _ami_type(params, template)
    types = _instance_types(params, template)
    check_instance_types(context, types, ami_type)
    capacity_type = params.get("capacityType", "ON_DEMAND")
    _check_capacity_type(capacity_type, template)
    check_warm_pool(params.get("warmPoolConfig", {}), ami_type, capacity_type)
    image = checked_image(cluster, ami_type, params.get("version"), params.get("releaseVersion"))
    return CheckedNodegroup(
        subnets=chosen,
        instance_types=types,
        template=template,
        ami_type=ami_type,
        capacity_type=capacity_type,
        image=image,
        scaling=scaling,
    )


def checked_scaling(request: dict[str, int] | None, before: dict[str, int] | None) -> dict[str, int]:
    """The scaling configuration in force; at creation the three sizes come together or not at all."""
    if before is None and request is not None and len(request) < 3:
        missing = ", ".join(sorted({"minSize", "maxSize", "desiredSize"} - request.keys()))
        raise invalid_parameter(f"scalingConfig: minSize, maxSize and desiredSize must be specified together; missing: {missing}")
    scaling = {**(before or DEFAULT_SCALING), **(request or {})}
    if scaling["minSize"] > scaling["maxSize"]:
        raise invalid_parameter(f"Minimum capacity {scaling['minSize']} can't be greater than maximum size {scaling['maxSize']}")
    if scaling["minSize"] > scaling["desiredSize"]:
        raise invalid_parameter(f"Minimum capacity {scaling['minSize']} can't be greater than desired size {scaling['desiredSize']}")
    if scaling["desiredSize"] > scaling["maxSize"]:
        raise invalid_parameter(f"Desired capacity {scaling['desiredSize']} can't be greater than max size {scaling['maxSize']}")
    return scaling


def check_labels(labels: dict[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise invalid_parameter(f"A node group can have at most {MAX_LABELS} labels")
    for key, value in labels.items():
        if key.startswith(_RESERVED_LABELS):
            raise invalid_parameter(f"Label cannot contain reserved prefixes [{', '.join(_RESERVED_LABELS)}]")
        if not _LABEL_VALUE.fullmatch(value):
            raise invalid_parameter(f"Label value '{value}' of key '{key}' is not a valid Kubernetes label value")


def check_taints(taints: list[dict[str, str]]) -> None:
    if len(taints) > MAX_TAINTS:
        raise invalid_parameter(f"A node group can have at most {MAX_TAINTS} taints")
    identities = [(taint.get("key"), taint.get("effect")) for taint in taints]
    for taint in taints:
        if not taint.get("key") or not taint.get("effect"):
            raise invalid_parameter("A taint needs a key and an effect")
    if len(set(identities)) < len(identities):
        raise invalid_parameter("Taints with the same key and effect are not allowed")


def check_update_config(update: dict[str, t.Any]) -> None:
    if "maxUnavailable" in update and "maxUnavailablePercentage" in update:
        raise invalid_parameter("maxUnavailable and maxUnavailablePercentage cannot be specified together")
    if update.get("maxUnavailable", 1) > 100:
        raise invalid_parameter("maxUnavailable must be at most 100")


def check_repair_config(repair: dict[str, t.Any]) -> None:
    for name in ("maxUnhealthyNodeThreshold", "maxParallelNodesRepaired"):
        if f"{name}Count" in repair and f"{name}Percentage" in repair:
            raise invalid_parameter(f"{name}Count and {name}Percentage cannot be specified together")
    for override in repair.get("nodeRepairConfigOverrides", []):
        if len(override) < 4:
            raise invalid_parameter(
                "nodeRepairConfigOverrides: nodeMonitoringCondition, nodeUnhealthyReason, minRepairWaitTimeMins and repairAction are required"
            )


def check_warm_pool(config: dict[str, t.Any], ami_type: str, capacity_type: str) -> None:
    """User guide warm-pools-managed-node-groups: no image of one's own, and what Bottlerocket lacks; Auto Scaling: no Spot."""
    if not config.get("enabled"):
        return
    if ami_type == "CUSTOM":
        raise invalid_parameter("Warm pools are not supported for node groups with a custom AMI.")
    if capacity_type != "ON_DEMAND":
        raise invalid_parameter(f"Warm pools are not supported for node groups of capacity type {capacity_type}.")
    if ami_type.startswith("BOTTLEROCKET") and (config.get("poolState") == "HIBERNATED" or config.get("reuseOnScaleIn")):
        raise invalid_parameter("Hibernated warm pools and reuse on scale in are not supported for Bottlerocket AMIs.")
    if config.get("maxGroupPreparedCapacity", config.get("minSize", 0)) < config.get("minSize", 0):
        raise invalid_parameter("maxGroupPreparedCapacity can't be less than minSize of the warm pool")


def _checked_subnets(context: Context, cluster: Cluster, subnet_ids: list[str]) -> list[Subnet]:
    if not subnet_ids:
        raise invalid_parameter("subnets cannot be empty")
    chosen = subnets(context, subnet_ids)
    vpc_id = cluster.document["resourcesVpcConfig"]["vpcId"]
    outside = [subnet.id for subnet in chosen if subnet.vpc_id != vpc_id]
    if outside:
        raise invalid_parameter(
            f"Subnets {', '.join(outside)} are not in the VPC {vpc_id} of cluster {cluster.name}", clusterName=cluster.name
        )
    return chosen


def _check_role(context: Context, role_arn: str) -> None:
    services = trusted_services(context, role_arn)
    if services is None:
        role = role_arn.rpartition("/")[2]
        message = (
            f"The role with name {role} cannot be found. (Service: AmazonIdentityManagement; Status Code: 404; Error Code: NoSuchEntity)"
        )
        raise invalid_parameter(message)
    if "ec2.amazonaws.com" not in services:
        message = (
            f"Following required service principals [ec2.amazonaws.com] were not found in the trust relationships of nodeRole {role_arn}"
        )
        raise invalid_parameter(message)


def _checked_template(context: Context, params: Params) -> Document | None:
    specification = params.get("launchTemplate")
    if specification is None:
        return None
    if "diskSize" in params:
        raise invalid_parameter("Disk size must be specified within the launch template.")
    if "remoteAccess" in params:
        raise invalid_parameter("Remote access configuration cannot be specified with a launch template.")
    template = read_template(context, specification)
    _check_template_data(template["data"])
    return template


def read_template(context: Context, specification: dict[str, str]) -> Document:
    """A launch template version with its data; raises InvalidParameterException when it is not there."""
    if ("id" in specification) == ("name" in specification):
        raise invalid_parameter("Either the id or the name of the launch template must be specified")
    key = {"LaunchTemplateId": specification["id"]} if "id" in specification else {"LaunchTemplateName": specification["name"]}
    version = specification.get("version", "$Default")
    try:
        found = context.client("ec2").describe_launch_template_versions(**key, Versions=[version])["LaunchTemplateVersions"][0]
    except ClientError as error:
        raise invalid_parameter(
            f"Launch template {next(iter(key.values()))} version {version}: {error.response['Error']['Message']}"
        ) from error
    return {
        "id": found["LaunchTemplateId"],
        "name": found["LaunchTemplateName"],
        "version": str(found["VersionNumber"]),
        "data": found["LaunchTemplateData"],
    }


def _check_template_data(data: Document) -> None:
    forbidden = {
        "IamInstanceProfile": "an IAM instance profile",
        "InstanceInitiatedShutdownBehavior": "a shutdown behavior",
        "HibernationOptions": "hibernation options",
    }
    for field, what in forbidden.items():
        if data.get(field):
            raise invalid_parameter(f"Launch template cannot contain {what}; Amazon EKS node groups manage it.")
    if any("SubnetId" in interface for interface in data.get("NetworkInterfaces", [])):
        raise invalid_parameter("Launch template cannot specify subnets; specify them in the node group configuration.")


def template_defect(template: Document | None, ami_type: str) -> Document | None:
    """The health issue of a template whose user data EKS cannot merge with its own (terraform-aws-eks#2955, #1875); None for a good one."""
    encoded = template["data"].get("UserData") if template else None
    if not encoded or ami_type == "CUSTOM":
        return None
    data = base64.b64decode(encoded)
    if ami_type.startswith("BOTTLEROCKET"):
        problem = "" if _is_toml(data) else "User data was not in the TOML format."
    else:
        problem = "" if email.message_from_bytes(data).is_multipart() else "User data was not in the MIME multipart format."
    return (
        {"code": "Ec2LaunchTemplateInvalidConfiguration", "message": problem, "resourceIds": [template["id"]]}
        if template and problem
        else None
    )


def _is_toml(data: bytes) -> bool:
    try:
        tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False
    return True


def check_image_kept(template: Document | None, ami_type: str) -> None:
    """User guide launch-templates: a group keeps to EKS's images, or to images of one's own."""
    has_image = template is not None and bool(template["data"].get("ImageId"))
    if has_image != (ami_type == "CUSTOM"):
        change = "to a custom AMI" if has_image else "from a custom AMI"
        raise invalid_parameter(f"You cannot update a node group {change} by its launch template: its AMI type is {ami_type}.")


def _ami_type(params: Params, template: Document | None) -> str:
    requested = params.get("amiType")
    has_image = template is not None and bool(template["data"].get("ImageId"))
    if has_image and requested not in (None, "CUSTOM"):
        raise invalid_parameter("You cannot specify an AMI Type other than CUSTOM, when specifying an image id in your launch template.")
    if requested == "CUSTOM" and not has_image:
        raise invalid_parameter("You must specify an image id within the launch template, when the AMI Type is CUSTOM.")
    if has_image:
        if "version" in params or "releaseVersion" in params:
            raise invalid_parameter(
                "You cannot specify kubernetesVersion or releaseVersion when specifying an image id in your launch template."
            )
        return "CUSTOM"
    ami_type = str(requested or DEFAULT_AMI_TYPE)
    if ami_type.startswith("AL2_"):
        raise invalid_parameter(f"AMI Type {ami_type} is only supported for kubernetes versions 1.32 or earlier")
    if ami_type not in ami_types():
        raise invalid_parameter(f"AMI Type {ami_type} is not imitated by the lab")
    return ami_type


def _instance_types(params: Params, template: Document | None) -> list[str]:
    requested = list(params.get("instanceTypes", []))
    in_template = template["data"].get("InstanceType") if template else None
    if requested and in_template:
        raise invalid_parameter("Instance types must be specified either in the node group or in the launch template, not in both.")
    if len(requested) > MAX_INSTANCE_TYPES:
        raise invalid_parameter(f"At most {MAX_INSTANCE_TYPES} instance types can be specified")
    return requested or [in_template or DEFAULT_INSTANCE_TYPE]


def check_instance_types(context: Context, names: list[str], ami_type: str) -> None:
    """Raises InvalidParameterException on unknown types, and on types that do not run the amiType (learn-terraform-provision-eks-cluster#44)."""
    known = _describe_types(context, names)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise invalid_parameter(f"The following supplied instance types do not exist: [{', '.join(unknown)}]")
    if ami_type == "CUSTOM":
        return
    kind = ami_types()[ami_type]
    for name in names:
        fits_architecture = kind.architecture in known[name].architectures
        fits_accelerator = known[name].nvidia == (kind.variant == "nvidia")
        if not fits_architecture or not fits_accelerator:
            raise invalid_parameter(f"[{name}] is not a valid instance type for requested amiType {ami_type}")


def _describe_types(context: Context, names: list[str]) -> dict[str, InstanceType]:
    found = context.client("ec2").describe_instance_types(Filters=[{"Name": "instance-type", "Values": names}])["InstanceTypes"]
    return {
        item["InstanceType"]: InstanceType(
            name=item["InstanceType"],
            architectures=tuple(item["ProcessorInfo"]["SupportedArchitectures"]),
            nvidia=any(gpu.get("Manufacturer") == "NVIDIA" for gpu in item.get("GpuInfo", {}).get("Gpus", [])),
        )
        for item in found
    }


def _check_capacity_type(capacity_type: str, template: Document | None) -> None:
    """https://docs.aws.amazon.com/eks/latest/userguide/capacity-blocks-mng.html"""
    market = (template["data"].get("InstanceMarketOptions") or {}).get("MarketType") if template else None
    if capacity_type == "CAPACITY_BLOCK" and market != "capacity-block":
        raise invalid_parameter("A node group of capacity type CAPACITY_BLOCK needs a launch template with the market type capacity-block.")
    if capacity_type == "CAPACITY_BLOCK" and template is not None:
        target = (template["data"].get("CapacityReservationSpecification") or {}).get("CapacityReservationTarget") or {}
        if not target.get("CapacityReservationId") or not template["data"].get("InstanceType"):
            raise invalid_parameter("The launch template of a Capacity Block needs an instance type and the id of a capacity reservation.")
    if capacity_type != "CAPACITY_BLOCK" and market is not None:
        raise invalid_parameter("Launch template cannot specify instance market options; use the capacity type of the node group.")


def checked_image(
    cluster: Cluster, ami_type: str, version: str | None, release_version: str | None, *, kept: str | None = None
) -> Image | None:
    """The image of a node group; None for CUSTOM. ``version`` is the cluster's (ACK community#2957); without, ``kept`` is taken, if any."""
    cluster_version = str(cluster.document["version"])
    if version is not None and version != cluster_version:
        message = f"Nodegroup Kubernetes version should be equal to Cluster kubernetes version {cluster_version}"
        raise invalid_parameter(message, clusterName=cluster.name)
    if ami_type == "CUSTOM":
        return None
    chosen = version or kept or cluster_version
    image = find_image(ami_type, chosen, release_version)
    if image is None:
        raise invalid_parameter(f"Requested release version {release_version} is not valid for kubernetes version {chosen}.")
    return image
