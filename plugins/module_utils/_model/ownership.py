# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""How what we make is marked, so that a later run finds it and nothing else is ever removed. Pure."""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass

OWNER_TAG = "gpuops.eks/owner"
COMPONENT_TAG = "gpuops.eks/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
FIELD_MANAGER = "gpuops.eks"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A cluster, known by name, region and account before it exists. ``partition`` is aws, aws-us-gov or aws-cn."""

    cluster_name: str
    region: str
    account: str
    partition: str = "aws"

    @classmethod
    def from_arn(cls, arn: str) -> Owner:
        """The owner that a cluster's ARN names."""
        parts = arn.split(":", 5)  # arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME
        return cls(cluster_name=parts[5].partition("/")[2], region=parts[3], account=parts[4], partition=parts[1])

    @property
    def arn(self) -> str:
        return f"arn:{self.partition}:eks:{self.region}:{self.account}:cluster/{self.cluster_name}"

    def tags(self, component: str) -> dict[str, str]:
        """The mark of a resource of ours; part of every create call."""
        return {OWNER_TAG: self.arn, COMPONENT_TAG: component}

    def owns(self, tags: t.Mapping[str, str]) -> bool:
        """Whether a resource with these tags was created for this cluster by us."""
        return tags.get(OWNER_TAG) == self.arn


def short_name(*parts: str, limit: int) -> str:
    """The parts joined by dashes; longer than ``limit`` it is cut and ends in a hash of the whole, so that it stays unique and stable."""
    whole = "-".join(parts)
    if len(whole) <= limit:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{whole[: limit - 9].rstrip('-')}-{digest}"


def tag_list(tags: t.Mapping[str, str]) -> list[dict[str, str]]:
    """Tags in the form that EC2, IAM and Auto Scaling take."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def tag_map(tags: t.Iterable[t.Mapping[str, str]] | None) -> dict[str, str]:
    """Tags in the form that EC2, IAM and Auto Scaling return, as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def tag_specifications(resource_type: str, tags: t.Mapping[str, str]) -> list[dict[str, t.Any]]:
    """EC2's TagSpecifications of a create call."""
    return [{"ResourceType": resource_type, "Tags": tag_list(tags)}]
