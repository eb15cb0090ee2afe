# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A launch template: the request data of a version, what of it is managed, and how both meet. Pure.

What the user did not set stays as it is in the version that is there, so that content is the request itself and not a copy of some fields.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import DATA_DEVICES
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import tag_list, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Disk
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import NodeSettings, parse, render

Data = dict[str, t.Any]

TAGGED = ("instance", "volume", "network-interface")
# IMDSv2 with one hop: pods cannot take the node's role.
_METADATA = {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
_EBS_NAMES = {"size_gib": "VolumeSize", "type": "VolumeType", "throughput": "Throughput", "iops": "Iops", "kms_key": "KmsKeyId"}
# What EC2 says of a version and does not take in a request. Source: EC2 API Reference, LaunchTemplateInstanceMetadataOptions.
_ONLY_SAID = {"MetadataOptions": ("State",)}


@dataclass(frozen=True, kw_only=True)
class TemplateContent:
    """LaunchTemplateData of a version, in the form of ec2:CreateLaunchTemplate."""

    data: t.Mapping[str, t.Any] = field(default_factory=dict)

    @classmethod
    def from_api(cls, reply: t.Mapping[str, t.Any]) -> TemplateContent:
        """From LaunchTemplateData of ec2:DescribeLaunchTemplateVersions."""
        data = copy.deepcopy(dict(reply))
        for name, said in _ONLY_SAID.items():
            if name in data:
                data[name] = {key: value for key, value in data[name].items() if key not in said}
        return cls(data=data)

    def to_api(self) -> Data:
        return copy.deepcopy(dict(self.data))

    @property
    def disk(self) -> Disk:
        """The disk of containers, the first that the template has."""
        ebs = _mapping(self.data).get("Ebs", {})
        return Disk(**{name: ebs.get(there) for name, there in _EBS_NAMES.items()})

    @property
    def device(self) -> str:
        return str(_mapping(self.data).get("DeviceName", ""))

    @property
    def tags(self) -> dict[str, str]:
        """The tags of instances; volumes and network interfaces have the same."""
        return next(
            (tag_map(spec.get("Tags")) for spec in self.data.get("TagSpecifications") or () if spec["ResourceType"] == "instance"), {}
        )

    @property
    def settings(self) -> NodeSettings:
        """What the user data says."""
        return parse(base64.b64decode(self.data.get("UserData", "")).decode(errors="replace"))

    @property
    def security_groups(self) -> tuple[str, ...]:
        interfaces = self.data.get("NetworkInterfaces") or ()
        return tuple(self.data.get("SecurityGroupIds") or (interfaces[0].get("Groups") if interfaces else None) or ())

    @property
    def efa_interfaces(self) -> int:
        return sum(1 for one in self.data.get("NetworkInterfaces") or () if str(one.get("InterfaceType", "")).startswith("efa"))

    @property
    def view(self) -> dict[str, t.Any]:
        """The managed parts, as results and diffs show them."""
        settings = self.settings
        reservation = self.data.get("CapacityReservationSpecification", {}).get("CapacityReservationTarget", {})
        parts = {
            "disk": dataclasses.asdict(self.disk),
            "tags": self.tags,
            "instance_store": "raid0" if settings.raid0 else "none",
            "fast_image_pull": settings.fast_image_pull,
            "labels": dict(settings.labels),
            "taints": sorted(f"{taint.key}={taint.value}:{taint.effect}" for taint in settings.taints),
            "user_data": list(settings.extra),
            "sharing": dataclasses.asdict(settings.sharing) if settings.sharing else None,
            "mig": dict(settings.mig_layout or settings.mig_profiles),
            "security_groups": list(self.security_groups),
            "efa_interfaces": self.efa_interfaces,
            "placement_group": self.data.get("Placement", {}).get("GroupName"),
            "image": self.data.get("ImageId"),
            "reservation": reservation.get("CapacityReservationId"),
        }
        return {name: value for name, value in parts.items() if value not in (None, [], {}, 0, "", False)}


@dataclass(frozen=True, kw_only=True)
class TemplateWish:
    """What a template should say. None, and settings that are left out, are not managed.

    ``settings`` are fields of NodeSettings with their values. ``efa_interfaces`` of 0 are none. ``overrides`` come last: dictionaries are
    merged deep, lists replaced.
    """

    ami_family: str
    disk: Disk = field(default_factory=Disk)
    tags: t.Mapping[str, str] | None = None
    settings: t.Mapping[str, t.Any] = field(default_factory=dict)
    security_groups: tuple[str, ...] | None = None
    efa_interfaces: int | None = None
    placement_group: str | None = None
    image: str | None = None
    instance_profile: str | None = None
    reservation: str | None = None
    capacity_block: bool = False
    instance_type: str | None = None
    overrides: t.Mapping[str, t.Any] = field(default_factory=dict)


def new_content(wish: TemplateWish) -> TemplateContent:
    """The content of a new template: what is wished, with defaults."""
    disk = dataclasses.replace(wish, disk=wish.disk.with_defaults())
    return changed_content(TemplateContent(data={"MetadataOptions": dict(_METADATA)}), disk)


def changed_content(there: TemplateContent, wish: TemplateWish) -> TemplateContent:
    """The content that is there with what is wished; equal to it where nothing differs."""
    data = there.to_api()
    disk = wish.disk.over(there.disk)
    if disk != there.disk:
        data["BlockDeviceMappings"] = _mappings(data, there.device or DATA_DEVICES[wish.ami_family], disk)
    if wish.tags is not None and dict(wish.tags) != there.tags:
        data["TagSpecifications"] = [{"ResourceType": kind, "Tags": tag_list(wish.tags)} for kind in TAGGED]
    _set_user_data(data, there, wish)
    _set_network(data, there, wish)
    if wish.placement_group is not None:
        data["Placement"] = {**data.get("Placement", {}), "GroupName": wish.placement_group}
    if wish.image is not None:
        data["ImageId"] = wish.image
    if wish.instance_profile is not None:
        data["IamInstanceProfile"] = {"Name": wish.instance_profile}
    if wish.instance_type is not None:
        data["InstanceType"] = wish.instance_type
    if wish.reservation is not None:
        data["CapacityReservationSpecification"] = {"CapacityReservationTarget": {"CapacityReservationId": wish.reservation}}
    if wish.capacity_block:
        data["InstanceMarketOptions"] = {"MarketType": "capacity-block"}
    return TemplateContent(data=merged(data, wish.overrides))


def merged(base: t.Mapping[str, t.Any], over: t.Mapping[str, t.Any]) -> Data:
    """Both, ``over`` last: dictionaries merged deep, everything else replaced."""
    found = dict(base)
    for key, value in over.items():
        below = found.get(key)
        found[key] = merged(below, value) if isinstance(below, t.Mapping) and isinstance(value, t.Mapping) else value
    return found


def _mapping(data: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    first: t.Mapping[str, t.Any] = (data.get("BlockDeviceMappings") or [{}])[0]
    return first


def _mappings(data: Data, device: str, disk: Disk) -> list[Data]:
    """The block devices with this disk as their first. What the disk does not say is left to EC2."""
    first = _mapping(data)
    kept = {key: value for key, value in first.get("Ebs", {}).items() if key not in _EBS_NAMES.values()}
    given = {there: getattr(disk, name) for name, there in _EBS_NAMES.items() if getattr(disk, name) is not None}
    ebs = {"Encrypted": True, "DeleteOnTermination": True, **kept, **given}
    return [{**first, "DeviceName": device, "Ebs": ebs}, *(data.get("BlockDeviceMappings") or [])[1:]]


def _set_user_data(data: Data, there: TemplateContent, wish: TemplateWish) -> None:
    before = there.settings
    after = dataclasses.replace(before, **wish.settings)
    if after == before:
        return
    if text := render(wish.ami_family, after):
        data["UserData"] = base64.b64encode(text.encode()).decode()
    else:
        data.pop("UserData", None)


def _set_network(data: Data, there: TemplateContent, wish: TemplateWish) -> None:
    """Groups stand beside the interfaces, or in each of them where the template has any: EC2 takes only one of both."""
    groups = there.security_groups if wish.security_groups is None else wish.security_groups
    count = there.efa_interfaces if wish.efa_interfaces is None else wish.efa_interfaces
    if (groups, count) == (there.security_groups, there.efa_interfaces):
        return
    data.pop("SecurityGroupIds", None)
    data.pop("NetworkInterfaces", None)
    if count:
        data["NetworkInterfaces"] = [_interface(card, groups) for card in range(count)]
    elif groups:
        data["SecurityGroupIds"] = list(groups)


def _interface(card: int, groups: t.Sequence[str]) -> Data:
    """The first card also carries IP; on the others an adapter alone saves addresses.

    Source: EC2 user guide, "Elastic Fabric Adapter": network interface types, device index 0 on the first card and 1 on the others.
    """
    kind = "efa-only" if card else "efa"
    named = {"Groups": list(groups)} if groups else {}
    return {"NetworkCardIndex": card, "DeviceIndex": 1 if card else 0, "InterfaceType": kind, "DeleteOnTermination": True, **named}


@dataclass(frozen=True, kw_only=True)
class LaunchTemplate:
    """A launch template of ours, with the versions that were read."""

    id: str
    name: str
    latest: int
    tags: t.Mapping[str, str] = field(default_factory=dict)
    versions: t.Mapping[str, TemplateContent] = field(default_factory=dict)

    @classmethod
    def from_api(cls, reply: t.Mapping[str, t.Any]) -> LaunchTemplate:
        """From an element of LaunchTemplates of ec2:DescribeLaunchTemplates."""
        return cls(
            id=reply["LaunchTemplateId"],
            name=reply["LaunchTemplateName"],
            latest=reply["LatestVersionNumber"],
            tags=tag_map(reply.get("Tags")),
        )
