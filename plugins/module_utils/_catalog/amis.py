# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which EKS AMI a pool gets, and which instance families its driver runs. Pure."""

from __future__ import annotations

import typing as t

AmiKey = tuple[str, str, str]

# (ami family, accelerator, architecture) -> amiType of eks:CreateNodegroup.
# Source: EKS API Reference, CreateNodegroup, amiType.
AMI_TYPES: dict[AmiKey, str] = {
    ("al2023", "nvidia", "amd64"): "AL2023_x86_64_NVIDIA",
    ("al2023", "nvidia", "arm64"): "AL2023_ARM_64_NVIDIA",
    ("al2023", "none", "amd64"): "AL2023_x86_64_STANDARD",
    ("al2023", "none", "arm64"): "AL2023_ARM_64_STANDARD",
    ("bottlerocket", "nvidia", "amd64"): "BOTTLEROCKET_x86_64_NVIDIA",
    ("bottlerocket", "nvidia", "arm64"): "BOTTLEROCKET_ARM_64_NVIDIA",
    ("bottlerocket", "none", "amd64"): "BOTTLEROCKET_x86_64",
    ("bottlerocket", "none", "arm64"): "BOTTLEROCKET_ARM_64",
}

# The device that container images and volumes live on. Source: EKS user guide, "Customize managed nodes with launch templates";
# Bottlerocket keeps its system on /dev/xvda and data on /dev/xvdb.
DATA_DEVICES: dict[str, str] = {"al2023": "/dev/xvda", "bottlerocket": "/dev/xvdb"}

_X86_FAMILIES = frozenset(
    ["p6-b300", "p6-b200", "p5", "p5e", "p5en", "p4d", "p4de", "p3", "p3dn", "g7e", "gr6", "g6", "g6e", "g6f", "gr6f", "g5", "g4dn"]
)

# Families that the driver of a stock NVIDIA AMI runs.
# Source: https://docs.aws.amazon.com/eks/latest/userguide/ml-eks-optimized-ami.html
NVIDIA_AMI_FAMILIES: dict[tuple[str, str], frozenset[str]] = {
    ("al2023", "amd64"): _X86_FAMILIES,
    ("al2023", "arm64"): frozenset({"p6e-gb200", "p6e-gb300", "g5g"}),
    ("bottlerocket", "amd64"): _X86_FAMILIES,
    ("bottlerocket", "arm64"): frozenset({"g5g"}),
}
SOURCE = "https://docs.aws.amazon.com/eks/latest/userguide/ml-eks-optimized-ami.html"

#: The first release of AL2023 whose nodeadm restarts a containerd that runs already. With older ones it keeps the configuration that it has
#: started with, and the cgroup driver, CDI and the NVIDIA runtime are not in force. Source: tags that contain the fix.
RESTARTING_RELEASE = "v20260520"
RESTARTING_SOURCE = "https://github.com/awslabs/amazon-eks-ami/pull/2705"


def unsupported(family: str, ami_family: str, architecture: str, known: t.Container[str]) -> bool:
    """Whether no stock AMI of this kind runs a family that is ``known``; a family that is new is not judged."""
    supported = NVIDIA_AMI_FAMILIES.get((ami_family, architecture))
    return supported is not None and family in known and family not in supported


_ARCHITECTURES = {"amd64": "x86_64", "arm64": "arm64"}
LATEST = "latest"


def image_parameter(family: str, accelerator: str, architecture: str, *, version: str, release: str, what: str) -> str:
    """Name of the public SSM parameter of an image; ``release`` is LATEST or one release, ``what`` is image_id or release_version.

    Sources: EKS user guide, "Retrieve recommended Amazon Linux AMI IDs"; Bottlerocket, QUICKSTART-EKS: finding an AMI.
    """
    processor = _ARCHITECTURES[architecture]
    if family == "bottlerocket":
        variant = "-nvidia" if accelerator == "nvidia" else ""
        name = "image_version" if what == "release_version" else what
        return f"/aws/service/bottlerocket/aws-k8s-{version}{variant}/{processor}/{release}/{name}"
    variant = "nvidia" if accelerator == "nvidia" else "standard"
    place = "recommended" if release == LATEST else f"amazon-eks-node-al2023-{processor}-{variant}-{version}-{release}"
    return f"/aws/service/eks/optimized-ami/{version}/amazon-linux-2023/{processor}/{variant}/{place}/{what}"
