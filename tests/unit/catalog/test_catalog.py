# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of instance families and AMIs before EC2 is asked."""

from __future__ import annotations

import gzip
import json
import typing as t
from importlib.resources import files

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import AMI_TYPES, NVIDIA_AMI_FAMILIES, unsupported
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import (
    GONE_FAMILIES,
    GPU_FAMILIES,
    category_of,
    family_of,
    generation_of,
    is_family,
    is_instance_type,
    size_of,
    without_nvidia,
)


@pytest.mark.parametrize(
    "name",
    ["g5.2xlarge", "g4dn.metal", "p6-b200.48xlarge", "u-6tb1.metal", "c7i.metal-24xl", "c7i-flex.large", "mac2-m2pro.metal", "t2.nano"],
)
def test_instance_types(name: str) -> None:
    assert is_instance_type(name)


@pytest.mark.parametrize(
    "name", ["", "g5", "g5.", ".large", "G5.2xlarge", "5g.xlarge", "g5.2xlargee", "g5.x2large", "g5 .large", "g5.2xlarge ", "g5-2xlarge"]
)
def test_impossible_instance_types(name: str) -> None:
    assert not is_instance_type(name)


@pytest.mark.parametrize(
    ("family", "category", "generation"),
    [("g5", "g", 5), ("gr6f", "gr", 6), ("p6-b200", "p", 6), ("u-6tb1", "u", 1), ("x2iedn", "x", 2), ("mac-m4", "mac", None)],
)
def test_parts_of_a_family(family: str, category: str, generation: int | None) -> None:
    assert is_family(family)
    assert category_of(family) == category
    assert generation_of(family) == generation


@pytest.mark.parametrize(
    ("family", "has"), [("m5", "no GPU"), ("g4ad", "AMD"), ("inf2", "Inferentia2"), ("trn1", "Trainium"), ("dl1", "Gaudi")]
)
def test_families_without_an_nvidia_gpu(family: str, has: str) -> None:
    assert has in (without_nvidia(family) or "")


@pytest.mark.parametrize("family", [*GPU_FAMILIES, *GONE_FAMILIES, "g9", "p7"])
def test_families_with_one_and_unknown_families_are_not_judged(family: str) -> None:
    assert without_nvidia(family) is None


@pytest.mark.parametrize(
    ("family", "ami", "architecture", "refused"),
    [
        ("g5", "al2023", "amd64", False),
        ("g7", "al2023", "amd64", True),
        ("g7", "bottlerocket", "amd64", True),
        ("g5g", "al2023", "arm64", False),
        ("p6e-gb200", "bottlerocket", "arm64", True),
        ("g9", "al2023", "amd64", False),
    ],
)
def test_what_a_stock_ami_runs(family: str, ami: str, architecture: str, refused: bool) -> None:
    assert unsupported(family, ami, architecture, GPU_FAMILIES) is refused


def test_every_supported_family_is_in_the_catalogue() -> None:
    for (_ami, architecture), families in NVIDIA_AMI_FAMILIES.items():
        assert {GPU_FAMILIES[family].architecture for family in families} == {architecture}


def test_every_kind_of_pool_has_an_ami_type() -> None:
    assert {key[:2] for key in AMI_TYPES} == {(ami, kind) for ami in ("al2023", "bottlerocket") for kind in ("nvidia", "none")}
    assert all(("NVIDIA" in value) == (key[1] == "nvidia") for key, value in AMI_TYPES.items())


def _described() -> dict[str, dict[str, t.Any]]:
    """ec2:DescribeInstanceTypes as recorded by moto."""
    recorded = files(pytest.importorskip("moto.ec2")) / "resources" / "instance_types.json.gz"
    types: dict[str, dict[str, t.Any]] = json.loads(gzip.decompress(recorded.read_bytes()))
    return types


def test_the_catalogue_says_what_ec2_says() -> None:
    for name, described in _described().items():
        assert is_instance_type(name)
        family = family_of(name)
        gpu = next((gpu for gpu in described.get("GpuInfo", {}).get("Gpus", ()) if gpu["Manufacturer"] == "NVIDIA"), None)
        if gpu is None:
            assert without_nvidia(family), name
            continue
        known = GPU_FAMILIES[family]
        assert (known.model, known.sizes[size_of(name)]) == (gpu["Name"], gpu["Count"]), name
        assert known.architecture == {"x86_64": "amd64"}.get(described["ProcessorInfo"]["SupportedArchitectures"][0], "arm64"), name
        assert known.fractional or known.memory_mib == gpu["MemoryInfo"]["SizeInMiB"], name
