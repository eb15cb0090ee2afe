# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A launch template of a node group: what of it is managed, to and from EC2's form. Pure."""

from __future__ import annotations

import base64
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import DATA_DEVICES
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import tag_list, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Disk

TAGGED = ("instance", "volume", "network-interface")

# nodeadm makes one RAID 0 array of the instance's own disks and moves containerd's and kubelet's state there; EKS merges this part
# into its own user data. Source: awslabs/amazon-eks-ami, nodeadm: NodeConfig, spec.instance.localStorage.
_RAID0 = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="BOUNDARY"

--BOUNDARY
Content-Type: application/node.eks.aws

---
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  instance:
    localStorage:
      strategy: RAID0
--BOUNDARY--
"""


@dataclass(frozen=True, kw_only=True)
class TemplateContent:
    """What a version of a launch template says, as far as it is managed."""

    device: str
    disk: Disk
    tags: t.Mapping[str, str]
    raid0: bool = False

    @classmethod
    def from_api(cls, reply: t.Mapping[str, t.Any]) -> TemplateContent:
        """From LaunchTemplateData of ec2:DescribeLaunchTemplateVersions."""
        mapping = (reply.get("BlockDeviceMappings") or [{}])[0]
        ebs = mapping.get("Ebs", {})
        specifications = {spec["ResourceType"]: tag_map(spec.get("Tags")) for spec in reply.get("TagSpecifications") or ()}
        disk = Disk(
            size_gib=ebs.get("VolumeSize"),
            type=ebs.get("VolumeType"),
            throughput=ebs.get("Throughput"),
            iops=ebs.get("Iops"),
            kms_key=ebs.get("KmsKeyId"),
        )
        user_data = base64.b64decode(reply.get("UserData", "")).decode(errors="replace")
        return cls(device=mapping.get("DeviceName", ""), disk=disk, tags=specifications.get("instance", {}), raid0="RAID0" in user_data)

    def to_api(self) -> dict[str, t.Any]:
        """LaunchTemplateData of ec2:CreateLaunchTemplate. IMDSv2 with one hop: pods cannot take the node's role."""
        ebs = {
            "VolumeSize": self.disk.size_gib,
            "VolumeType": self.disk.type,
            "Throughput": self.disk.throughput,
            "Iops": self.disk.iops,
            "KmsKeyId": self.disk.kms_key,
            "Encrypted": True,
            "DeleteOnTermination": True,
        }
        data: dict[str, t.Any] = {
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
            "BlockDeviceMappings": [{"DeviceName": self.device, "Ebs": {key: value for key, value in ebs.items() if value is not None}}],
            "TagSpecifications": [{"ResourceType": kind, "Tags": tag_list(self.tags)} for kind in TAGGED],
        }
        if self.raid0:
            data["UserData"] = base64.b64encode(_RAID0.encode()).decode()
        return data


def new_content(ami_family: str, disk: Disk, tags: t.Mapping[str, str], *, raid0: bool) -> TemplateContent:
    """The content of a new template: the user's disk with defaults."""
    return TemplateContent(device=DATA_DEVICES[ami_family], disk=disk.with_defaults(), tags=dict(tags), raid0=raid0)


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
