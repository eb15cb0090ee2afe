# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What is known of EC2 instance families before EC2 is asked. Pure.

A family that is in neither table is not judged here: EC2 knows it, or refuses it, when it is asked (ec2:DescribeInstanceTypes).
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

Architecture = t.Literal["amd64", "arm64"]


@dataclass(frozen=True, kw_only=True)
class GpuFamily:
    """A family with NVIDIA GPUs: the model's name as EC2 has it, memory per GPU in MiB, GPUs per size (0: a part of one)."""

    model: str
    memory_mib: int
    sizes: t.Mapping[str, int]
    architecture: Architecture = "amd64"
    fractional: bool = False


_LADDER = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "16xlarge": 1, "24xlarge": 4, "48xlarge": 8}
_G7_LADDER = {"2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 2, "24xlarge": 4, "48xlarge": 8}

# Source: ec2:DescribeInstanceTypes (GpuInfo, ProcessorInfo), as of 2026-11; g6f, gr6f: EC2 reports a count of 0 and the memory of the part,
# here that of its largest size; p3 (V100) and p6e: https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html
GPU_FAMILIES: dict[str, GpuFamily] = {
    "g4dn": GpuFamily(
        model="T4",
        memory_mib=16384,
        sizes={"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "12xlarge": 4, "16xlarge": 1, "metal": 8},
    ),
    "g5": GpuFamily(model="A10G", memory_mib=22888, sizes=_LADDER),
    "g5g": GpuFamily(
        model="T4g",
        memory_mib=16384,
        sizes={"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 2, "metal": 2},
        architecture="arm64",
    ),
    "g6": GpuFamily(model="L4", memory_mib=22888, sizes=_LADDER),
    "g6e": GpuFamily(model="L40S", memory_mib=45776, sizes=_LADDER),
    "g6f": GpuFamily(model="L4", memory_mib=11444, sizes={"large": 0, "xlarge": 0, "2xlarge": 0, "4xlarge": 0}, fractional=True),
    "gr6": GpuFamily(model="L4", memory_mib=22888, sizes={"4xlarge": 1, "8xlarge": 1}),
    "gr6f": GpuFamily(model="L4", memory_mib=11444, sizes={"4xlarge": 0}, fractional=True),
    "g7": GpuFamily(model="RTX PRO 4500", memory_mib=32768, sizes=_G7_LADDER),
    "g7e": GpuFamily(model="RTX PRO Server 6000", memory_mib=98304, sizes=_G7_LADDER),
    "p3": GpuFamily(model="V100", memory_mib=16384, sizes={"2xlarge": 1, "8xlarge": 4, "16xlarge": 8}),
    "p3dn": GpuFamily(model="V100", memory_mib=32768, sizes={"24xlarge": 8}),
    "p4d": GpuFamily(model="A100", memory_mib=40960, sizes={"24xlarge": 8}),
    "p4de": GpuFamily(model="A100", memory_mib=81920, sizes={"24xlarge": 8}),
    "p5": GpuFamily(model="H100", memory_mib=81920, sizes={"4xlarge": 1, "48xlarge": 8}),
    "p5e": GpuFamily(model="H200", memory_mib=144384, sizes={"48xlarge": 8}),
    "p5en": GpuFamily(model="H200", memory_mib=144384, sizes={"48xlarge": 8}),
    "p6-b200": GpuFamily(model="B200", memory_mib=183359, sizes={"48xlarge": 8}),
    "p6-b300": GpuFamily(model="B300", memory_mib=275040, sizes={"48xlarge": 8}),
    "p6e-gb200": GpuFamily(model="GB200", memory_mib=189440, sizes={"36xlarge": 4}, architecture="arm64"),
    "p6e-gb300": GpuFamily(model="GB300", memory_mib=284672, sizes={"36xlarge": 4}, architecture="arm64"),
}

# Families without an NVIDIA GPU, by what they have instead.
# Source: ec2:DescribeInstanceTypes, families without GpuInfo or with that of another manufacturer, as of 2026-11.
_OTHER_ACCELERATORS: dict[str, str] = {
    "dl1": "Habana Gaudi accelerators",
    "dl2q": "Qualcomm AI 100 accelerators",
    "f1": "FPGAs",
    "f2": "FPGAs",
    "g4ad": "AMD Radeon Pro V520 GPUs",
    "inf1": "AWS Inferentia accelerators",
    "inf2": "AWS Inferentia2 accelerators",
    "trn1": "AWS Trainium accelerators",
    "trn1n": "AWS Trainium accelerators",
    "trn2": "AWS Trainium2 accelerators",
    "trn2u": "AWS Trainium2 accelerators",
    "vt1": "Xilinx video accelerators",
}
_PLAIN_FAMILIES = frozenset(
    [
        "a1",
        "c1",
        "c3",
        "c4",
        "c5",
        "c5a",
        "c5ad",
        "c5d",
        "c5n",
        "c6a",
        "c6g",
        "c6gd",
        "c6gn",
        "c6i",
        "c6id",
        "c6in",
        "c7a",
        "c7g",
        "c7gd",
        "c7gn",
        "c7i",
        "c7i-flex",
        "c8a",
        "c8g",
        "c8gb",
        "c8gd",
        "c8gn",
        "c8i",
        "c8i-flex",
        "c8ib",
        "c8id",
        "c8in",
        "c8ine",
        "c9g",
        "c9gd",
        "d2",
        "d3",
        "d3en",
        "h1",
        "hpc6a",
        "hpc6id",
        "hpc7a",
        "hpc7g",
        "hpc8a",
        "i2",
        "i3",
        "i3en",
        "i4g",
        "i4i",
        "i7i",
        "i7ie",
        "i8g",
        "i8ge",
        "im4gn",
        "is4gen",
        "m1",
        "m2",
        "m3",
        "m4",
        "m5",
        "m5a",
        "m5ad",
        "m5d",
        "m5dn",
        "m5n",
        "m5zn",
        "m6a",
        "m6g",
        "m6gd",
        "m6i",
        "m6id",
        "m6idn",
        "m6in",
        "m7a",
        "m7g",
        "m7gd",
        "m7i",
        "m7i-flex",
        "m8a",
        "m8azn",
        "m8g",
        "m8gb",
        "m8gd",
        "m8gn",
        "m8i",
        "m8i-flex",
        "m8ib",
        "m8id",
        "m8idb",
        "m8idn",
        "m8in",
        "m8ine",
        "m9g",
        "m9gd",
        "mac-m3ultra",
        "mac-m4",
        "mac-m4max",
        "mac-m4pro",
        "mac1",
        "mac2",
        "mac2-m1ultra",
        "mac2-m2",
        "mac2-m2pro",
        "r3",
        "r4",
        "r5",
        "r5a",
        "r5ad",
        "r5b",
        "r5d",
        "r5dn",
        "r5n",
        "r6a",
        "r6g",
        "r6gd",
        "r6i",
        "r6id",
        "r6idn",
        "r6in",
        "r7a",
        "r7g",
        "r7gd",
        "r7i",
        "r7iz",
        "r8a",
        "r8g",
        "r8gb",
        "r8gd",
        "r8gn",
        "r8i",
        "r8i-flex",
        "r8ib",
        "r8id",
        "r8idb",
        "r8idn",
        "r8in",
        "r9g",
        "r9gd",
        "t1",
        "t2",
        "t3",
        "t3a",
        "t4g",
        "t8i",
        "u-3tb1",
        "u-6tb1",
        "u7i-12tb",
        "u7i-6tb",
        "u7i-8tb",
        "u7in-16tb",
        "u7in-24tb",
        "u7in-32tb",
        "x1",
        "x1e",
        "x2gd",
        "x2idn",
        "x2iedn",
        "x2iezn",
        "x8aedz",
        "x8g",
        "x8i",
        "z1d",
    ]
)
# Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/previous-generation-instances.html (no EKS AMI carries their driver any more)
GONE_FAMILIES: dict[str, str] = {
    "g2": "NVIDIA GRID K520 GPUs, which no current driver supports",
    "g3": "NVIDIA M60 GPUs, for which no EKS AMI is supported",
    "g3s": "NVIDIA M60 GPUs, for which no EKS AMI is supported",
    "p2": "NVIDIA K80 GPUs, which no current driver supports",
}

# Source: EC2 API Reference, InstanceType: family, a dot, size (g5.2xlarge, u-6tb1.metal, p6-b200.48xlarge, c7i.metal-24xl).
_FAMILY = re.compile(r"[a-z]{1,4}[0-9]{0,2}[a-z]{0,6}(-[a-z0-9]+)?")
_SIZE = re.compile(r"(nano|micro|small|medium|large|([0-9]{1,3})?xlarge|metal(-[0-9]{1,3}xl)?)(-[a-z0-9]+)*")
_GENERATION = re.compile(r"[a-z]+(?:-[0-9]+tb)?([0-9]+)")  # as Karpenter reads it: pkg/providers/instancetype/types.go


def is_family(name: str) -> bool:
    """Whether the name has the form of an instance family."""
    return _FAMILY.fullmatch(name) is not None


def is_size(name: str) -> bool:
    """Whether the name has the form of an instance size."""
    return _SIZE.fullmatch(name) is not None


def is_instance_type(name: str) -> bool:
    """Whether the name has the form of an instance type."""
    family, dot, size = name.partition(".")
    return bool(dot) and is_family(family) and is_size(size)


def family_of(instance_type: str) -> str:
    return instance_type.partition(".")[0]


def size_of(instance_type: str) -> str:
    return instance_type.partition(".")[2]


def category_of(family: str) -> str:
    """The letters that a family begins with."""
    return "".join(re.findall(r"^[a-z]+", family))


def generation_of(family: str) -> int | None:
    """The family's generation: 5 for g5, 6 for p6-b200, 1 for u-6tb1; None where its name has none."""
    found = _GENERATION.match(family)
    return int(found.group(1)) if found else None


def without_nvidia(family: str) -> str | None:
    """What a family has instead of an NVIDIA GPU; None where it has one or is not known here."""
    if family in _OTHER_ACCELERATORS:
        return _OTHER_ACCELERATORS[family]
    return "no GPU" if family in _PLAIN_FAMILIES else None
