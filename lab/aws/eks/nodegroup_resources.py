"""What a managed node group owns in the account: a launch template, an instance profile and an Auto Scaling group.

Names and tags: https://docs.aws.amazon.com/eks/latest/userguide/managed-node-groups.html
"""

from __future__ import annotations

import copy
import datetime
import typing as t
import uuid

from botocore.exceptions import ClientError

from lab.aws.eks.context import Context
from lab.aws.eks.nodegroup_rules import CheckedNodegroup
from lab.aws.eks.state import Cluster, Document, NodegroupResources

DEFAULT_DISK_GIB = 20
BLOCK_MARGIN = datetime.timedelta(minutes=40)


def create_resources(context: Context, cluster: Cluster, params: dict[str, t.Any], checked: CheckedNodegroup) -> NodegroupResources:
    """Make all three; the Auto Scaling group launches its instances at once."""
    suffix = str(uuid.uuid4())
    name = params["nodegroupName"]
    iam, ec2 = context.client("iam"), context.client("ec2")
    profile = f"eks-{suffix}"
    iam.create_instance_profile(InstanceProfileName=profile)
    iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=params["nodeRole"].rpartition("/")[2])
    image_id = checked.image.id(context.region) if checked.image else None
    data = template_data(cluster, name, checked.template, image_id, profile, params.get("diskSize", DEFAULT_DISK_GIB))
    tags = [{"Key": key, "Value": value} for key, value in _node_tags(cluster.name, name).items()]
    template = ec2.create_launch_template(
        LaunchTemplateName=profile,
        LaunchTemplateData=data,
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags}],
    )["LaunchTemplate"]
    resources = NodegroupResources(
        auto_scaling_group=f"eks-{name}-{suffix}", launch_template_id=template["LaunchTemplateId"], instance_profile=profile
    )
    _create_group(context, cluster, name, checked, resources)
    return resources


def _node_tags(cluster: str, nodegroup: str) -> dict[str, str]:
    return {"eks:cluster-name": cluster, "eks:nodegroup-name": nodegroup, f"kubernetes.io/cluster/{cluster}": "owned"}


def template_data(
    cluster: Cluster, nodegroup: str, template: Document | None, image_id: str | None, profile: str, disk_gib: int
) -> Document:
    """EKS's own copy of the caller's launch template, or its default, with what EKS adds."""
    data = copy.deepcopy(template["data"]) if template else {}
    if image_id is not None:
        data["ImageId"] = image_id
    data["IamInstanceProfile"] = {"Name": profile}
    if not template:
        disk = {"VolumeSize": disk_gib, "VolumeType": "gp3", "DeleteOnTermination": True}
        data["BlockDeviceMappings"] = [{"DeviceName": "/dev/xvda", "Ebs": disk}]
        data["MetadataOptions"] = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    cluster_group = cluster.document["resourcesVpcConfig"]["clusterSecurityGroupId"]
    if not data.get("SecurityGroupIds") and not any(interface.get("Groups") for interface in data.get("NetworkInterfaces", [])):
        for interface in data.get("NetworkInterfaces", []):
            interface["Groups"] = [cluster_group]
        if not data.get("NetworkInterfaces"):
            data["SecurityGroupIds"] = [cluster_group]
    data["TagSpecifications"] = _tag_specifications(data.get("TagSpecifications", []), _node_tags(cluster.name, nodegroup))
    return data


def _tag_specifications(given: list[Document], node_tags: dict[str, str]) -> list[Document]:
    merged = {item["ResourceType"]: {tag["Key"]: tag["Value"] for tag in item["Tags"]} for item in given}
    for resource_type in ("instance", "volume"):
        merged[resource_type] = {**merged.get(resource_type, {}), **node_tags}
    return [{"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]} for kind, tags in merged.items()]


def _create_group(context: Context, cluster: Cluster, name: str, checked: CheckedNodegroup, resources: NodegroupResources) -> None:
    discovery = {"k8s.io/cluster-autoscaler/enabled": "true", f"k8s.io/cluster-autoscaler/{cluster.name}": "owned"}
    tags = [{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in _node_tags(cluster.name, name).items()]
    tags += [{"Key": key, "Value": value, "PropagateAtLaunch": False} for key, value in discovery.items()]
    context.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=resources.auto_scaling_group,
        MinSize=checked.scaling["minSize"],
        MaxSize=checked.scaling["maxSize"],
        DesiredCapacity=checked.scaling["desiredSize"],
        VPCZoneIdentifier=",".join(subnet.id for subnet in checked.subnets),
        CapacityRebalance=checked.capacity_type == "SPOT",
        TerminationPolicies=["AllocationStrategy", "OldestLaunchTemplate", "OldestInstance"],
        MixedInstancesPolicy=_policy(resources.launch_template_id, "1", checked.instance_types, checked.capacity_type),
        Tags=tags,
    )


def _policy(template_id: str, version: str, instance_types: list[str], capacity_type: str) -> Document:
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": template_id, "Version": version},
            "Overrides": [{"InstanceType": name} for name in instance_types],
        },
        "InstancesDistribution": {
            "OnDemandAllocationStrategy": "prioritized",
            "OnDemandBaseCapacity": 0,
            "OnDemandPercentageAboveBaseCapacity": 0 if capacity_type == "SPOT" else 100,
            "SpotAllocationStrategy": "price-capacity-optimized",
        },
    }


def resize_group(context: Context, resources: NodegroupResources, scaling: dict[str, int]) -> None:
    """Hand a node group's sizes to its Auto Scaling group."""
    context.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName=resources.auto_scaling_group,
        MinSize=scaling["minSize"],
        MaxSize=scaling["maxSize"],
        DesiredCapacity=scaling["desiredSize"],
    )


def describe_group(context: Context, resources: NodegroupResources) -> Document | None:
    """The Auto Scaling group, None when somebody deleted it."""
    groups = context.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[resources.auto_scaling_group])[
        "AutoScalingGroups"
    ]
    return groups[0] if groups else None


def change_template(context: Context, resources: NodegroupResources, data: Document, instance_types: list[str], capacity_type: str) -> str:
    """A new version of the group's template, in force for what is launched from now on; returns its number."""
    ec2, autoscaling = context.client("ec2"), context.client("autoscaling")
    version = ec2.create_launch_template_version(LaunchTemplateId=resources.launch_template_id, LaunchTemplateData=data)
    number = str(version["LaunchTemplateVersion"]["VersionNumber"])
    if describe_group(context, resources) is not None:
        autoscaling.update_auto_scaling_group(
            AutoScalingGroupName=resources.auto_scaling_group,
            MixedInstancesPolicy=_policy(resources.launch_template_id, number, instance_types, capacity_type),
        )
    return number


def terminate_member(context: Context, instance_id: str, *, decrement: bool) -> None:
    """Terminate an instance; its group launches another unless it is to become smaller."""
    context.client("autoscaling").terminate_instance_in_auto_scaling_group(InstanceId=instance_id, ShouldDecrementDesiredCapacity=decrement)


def last_failure(context: Context, group_name: str) -> str | None:
    """The status message of the group's newest activity, when that failed."""
    activities: list[dict[str, t.Any]] = context.client("autoscaling").describe_scaling_activities(AutoScalingGroupName=group_name)[
        "Activities"
    ]
    if activities and activities[0]["StatusCode"] == "Failed":
        return str(activities[0]["StatusMessage"])
    return None


def set_warm_pool(context: Context, resources: NodegroupResources, config: Document) -> None:
    """Attach, change or remove the warm pool of the group, by warmPoolConfig."""
    autoscaling, name = context.client("autoscaling"), resources.auto_scaling_group
    if not config.get("enabled"):
        if "WarmPoolConfiguration" in autoscaling.describe_warm_pool(AutoScalingGroupName=name):
            autoscaling.delete_warm_pool(AutoScalingGroupName=name, ForceDelete=True)
        return
    request: Document = {
        "MinSize": config.get("minSize", 0),
        "PoolState": config.get("poolState", "STOPPED").capitalize(),
        "InstanceReusePolicy": {"ReuseOnScaleIn": config.get("reuseOnScaleIn", False)},
    }
    if "maxGroupPreparedCapacity" in config:
        request["MaxGroupPreparedCapacity"] = config["maxGroupPreparedCapacity"]
    autoscaling.put_warm_pool(AutoScalingGroupName=name, **request)


def schedule_block_end(context: Context, resources: NodegroupResources, template: Document) -> None:
    """EKS scales a group on a Capacity Block to 0 before the block ends, where the block is known (capacity-blocks-mng)."""
    reservation_id = template["data"]["CapacityReservationSpecification"]["CapacityReservationTarget"]["CapacityReservationId"]
    filters = [{"Name": "reservation-type", "Values": ["capacity-block"]}]
    found = context.client("ec2").describe_capacity_reservations(Filters=filters)["CapacityReservations"]
    for block in found:
        start = block["EndDate"] - BLOCK_MARGIN
        if block["CapacityReservationId"] == reservation_id and start > context.now():
            context.client("autoscaling").put_scheduled_update_group_action(
                AutoScalingGroupName=resources.auto_scaling_group,
                ScheduledActionName=f"eks-{reservation_id}",
                StartTime=start,
                MinSize=0,
                DesiredCapacity=0,
            )


def delete_resources(context: Context, nodegroup: Document, resources: NodegroupResources) -> None:
    """Remove all three, each of which somebody may have removed already."""
    _tolerate(
        ("ValidationError",),
        context.client("autoscaling").delete_auto_scaling_group,
        AutoScalingGroupName=resources.auto_scaling_group,
        ForceDelete=True,
    )
    gone = ("InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.NotFoundException")
    _tolerate(gone, context.client("ec2").delete_launch_template, LaunchTemplateId=resources.launch_template_id)
    iam = context.client("iam")
    role = nodegroup["nodeRole"].rpartition("/")[2]
    _tolerate(("NoSuchEntity",), iam.remove_role_from_instance_profile, InstanceProfileName=resources.instance_profile, RoleName=role)
    _tolerate(("NoSuchEntity",), iam.delete_instance_profile, InstanceProfileName=resources.instance_profile)


def _tolerate(codes: tuple[str, ...], call: t.Callable[..., t.Any], **params: t.Any) -> None:
    try:
        call(**params)
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
