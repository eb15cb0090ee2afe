"""The EKS optimised images of the simulated regions: their public SSM parameters, ids and release versions."""

from __future__ import annotations

import functools
import hashlib
import json
import typing as t
from dataclasses import dataclass
from pathlib import Path

from lab.aws.eks.versions import versions

_DATA = Path(__file__).parent / "data" / "ami_types.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AmiType:
    """What a managed node group's amiType means."""

    name: str
    os: str  # al2023 | bottlerocket
    architecture: str  # x86_64 | arm64
    variant: str  # standard | nvidia | neuron


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image of one release. ``release_version`` is what node groups call it."""

    ami_type: AmiType
    kubernetes: str
    release: str
    release_version: str
    name: str
    latest: bool

    def id(self, region: str) -> str:
        """The same in every lab, different in every region."""
        return f"ami-{hashlib.sha256(f'{region}/{self.name}'.encode()).hexdigest()[:17]}"

    def parameters(self, region: str) -> dict[str, str]:
        """The public SSM parameters that lead to this image."""
        kind = self.ami_type
        if kind.os == "al2023":
            base = f"/aws/service/eks/optimized-ami/{self.kubernetes}/amazon-linux-2023/{kind.architecture}/{kind.variant}"
            values = {"image_id": self.id(region), "image_name": self.name, "release_version": self.release_version}
            return _under(base, [self.name, *(["recommended"] if self.latest else [])], values)
        suffix = "" if kind.variant == "standard" else f"-{kind.variant}"
        base = f"/aws/service/bottlerocket/aws-k8s-{self.kubernetes}{suffix}/{kind.architecture}"
        values = {"image_id": self.id(region), "image_version": self.release_version}
        return _under(base, [self.release, *(["latest"] if self.latest else [])], values)


def _under(base: str, folders: list[str], values: dict[str, str]) -> dict[str, str]:
    return {f"{base}/{folder}/{name}": value for folder in folders for name, value in values.items()}


@functools.cache
def _data() -> dict[str, t.Any]:
    loaded: dict[str, t.Any] = json.loads(_DATA.read_text(encoding="utf-8"))
    return loaded


@functools.cache
def ami_types() -> dict[str, AmiType]:
    """The amiTypes that the lab has images of."""
    return {name: AmiType(name=name, **row) for name, row in _data()["ami_types"].items()}


@functools.cache
def images() -> tuple[Image, ...]:
    """All images, oldest release first."""
    return tuple(
        _image(kind, version, release)
        for version in versions()
        for kind in ami_types().values()
        for release in _data()[f"{kind.os}_releases"]
    )


def _image(kind: AmiType, kubernetes: str, release: str) -> Image:
    latest = release == _data()[f"{kind.os}_releases"][-1]
    if kind.os == "al2023":
        name = f"amazon-eks-node-al2023-{kind.architecture}-{kind.variant}-{kubernetes}-v{release}"
        release_version = f"{versions()[kubernetes].patch}-{release}"
    else:
        suffix = "" if kind.variant == "standard" else f"-{kind.variant}"
        release_version = f"{release}-{_data()['bottlerocket_build']}"
        name = f"bottlerocket-aws-k8s-{kubernetes}{suffix}-{kind.architecture}-v{release_version}"
    return Image(ami_type=kind, kubernetes=kubernetes, release=release, release_version=release_version, name=name, latest=latest)


def find_image(ami_type: str, kubernetes: str, release_version: str | None = None) -> Image | None:
    """The image of a release version, the newest one without; None when there is none."""
    matches = [image for image in images() if image.ami_type.name == ami_type and image.kubernetes == kubernetes]
    if release_version is None:
        return next((image for image in matches if image.latest), None)
    return next((image for image in matches if image.release_version == release_version), None)


def parameters(region: str) -> dict[str, str]:
    """All public EKS image parameters of a region."""
    return {name: value for image in images() for name, value in image.parameters(region).items()}
