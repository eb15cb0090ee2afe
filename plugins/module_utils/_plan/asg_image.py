# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which image the nodes of an Auto Scaling group have, and when it is another one. Pure.

What an image was chosen by is written into the description of the launch template's version. As long as the pool says the same, the image
stays, whatever a name or a parameter leads to by then: nothing drifts by itself.
"""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import LATEST, image_parameter
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import minor
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool

NEWEST = "newest"  # of the moment when the group was made
_STOCK = "eks"


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """What an image is chosen by: one of EKS's (``kind`` eks, ``value`` FAMILY/ACCELERATOR/ARCHITECTURE, with its Kubernetes version and release),
    or the user's own by id, name (OWNER/NAME) or parameter."""

    kind: str
    value: str
    version: str = ""
    release: str = ""

    def to_text(self) -> str:
        parts = [self.kind, self.value, *([self.version, self.release] if self.kind == _STOCK else [])]
        return " ".join(parts)

    @classmethod
    def from_text(cls, text: str) -> ImageSource | None:
        """From the description of a version; None where it is somebody else's."""
        kind, _blank, rest = text.partition(" ")
        if kind in ("id", "name", "ssm") and rest:
            return cls(kind=kind, value=rest)
        parts = rest.split(" ")
        return cls(kind=kind, value=parts[0], version=parts[1], release=parts[2]) if kind == _STOCK and len(parts) == 3 else None

    @property
    def family(self) -> str | None:
        """The family of one of EKS's images; that of the user's own is not known."""
        return self.value.partition("/")[0] if self.kind == _STOCK else None

    @property
    def parameter(self) -> str | None:
        """The SSM parameter that has the image's id; None where another call finds it."""
        if self.kind == "ssm":
            return self.value
        if self.kind != _STOCK:
            return None
        family, accelerator, architecture = self.value.split("/")
        release = LATEST if self.release == NEWEST else self.release
        return image_parameter(family, accelerator, architecture, version=self.version, release=release, what="image_id")


def with_family_of(pool: Pool, there: ImageSource | None) -> Pool:
    """The pool with the family of the image that there is, where the user names none."""
    if pool.ami.family or there is None or there.family is None:
        return pool
    return dataclasses.replace(pool, ami=dataclasses.replace(pool.ami, family=there.family))


def wanted_source(pool: Pool, version: str) -> ImageSource:
    """What the image of a new group is chosen by, for nodes of this Kubernetes version."""
    ami = pool.ami
    if ami.id:
        return ImageSource(kind="id", value=ami.id)
    if ami.ssm_parameter:
        return ImageSource(kind="ssm", value=ami.ssm_parameter)
    if ami.name:
        return ImageSource(kind="name", value=f"{ami.owner or 'self'}/{ami.name}")
    value = f"{pool.effective_ami_family}/{pool.accelerator}/{pool.architecture}"
    return ImageSource(kind=_STOCK, value=value, version=version, release=ami.release or NEWEST)


def changed_source(pool: Pool, there: ImageSource | None, *, version: str, upgrade: str | None) -> ImageSource | None:
    """What the image of an existing group is chosen by from now on; None where it stays.

    ``version`` is the cluster's, ``upgrade`` the one that nodes are brought to: without it they keep theirs when the cluster has a newer one.
    Another family or architecture needs another image.
    """
    pool = with_family_of(pool, there)
    managed = pool.ami.custom or pool.ami.release is not None or pool.ami.family is not None
    if there is None:
        return wanted_source(pool, version) if managed else None
    behind = upgrade is not None and there.kind == _STOCK and minor(there.version) < minor(upgrade)
    if not managed and not behind:
        return None
    kept = there.version if there.kind == _STOCK else version
    wanted = wanted_source(pool, upgrade if behind and upgrade else kept)
    if pool.ami.release is None and not pool.ami.custom and wanted.value == there.value and not behind:
        return None
    return None if wanted == there and wanted.release != LATEST else wanted


def image_filters(source: ImageSource) -> dict[str, t.Any]:
    """The request of ec2:DescribeImages that finds an image by id, or by name and owner."""
    if source.kind == "id":
        return {"Filters": [{"Name": "image-id", "Values": [source.value]}]}
    owner, _slash, name = source.value.partition("/")
    return {"Owners": [owner], "Filters": [{"Name": "name", "Values": [name]}, {"Name": "state", "Values": ["available"]}]}
