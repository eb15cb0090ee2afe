# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Instance types and subnets as EC2 describes them. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class InstanceType:
    """An instance type: what pools choose by. ``gpus`` are NVIDIA's; 1 where EC2 gives a part of one (g6f, gr6f).

    ``efa_interfaces`` is how many Elastic Fabric Adapters it takes, one on each network card. ``pods`` is for how many pods EKS's images
    configure kubelet, as many as the first card has addresses for; 0 is not known.
    """

    name: str
    vcpus: int
    memory_mib: int
    architectures: frozenset[str]
    hypervisor: str = ""
    gpu_model: str | None = None
    gpus: int = 0
    gpu_memory_mib: int = 0
    fractional: bool = False
    instance_store: bool = False
    efa_interfaces: int = 0
    pods: int = 0

    @classmethod
    def from_api(cls, reply: t.Mapping[str, t.Any]) -> InstanceType:
        """From an element of InstanceTypes of ec2:DescribeInstanceTypes."""
        gpu = next((gpu for gpu in reply.get("GpuInfo", {}).get("Gpus", ()) if gpu.get("Manufacturer") == "NVIDIA"), None)
        count = gpu.get("Count", 0) if gpu else 0
        return cls(
            name=reply["InstanceType"],
            vcpus=reply["VCpuInfo"]["DefaultVCpus"],
            memory_mib=reply["MemoryInfo"]["SizeInMiB"],
            architectures=frozenset(_ARCHITECTURES.get(name, name) for name in reply["ProcessorInfo"]["SupportedArchitectures"]),
            hypervisor=reply.get("Hypervisor", ""),
            gpu_model=gpu["Name"].lower().replace(" ", "-") if gpu else None,
            gpus=max(count, 1) if gpu else 0,
            gpu_memory_mib=gpu.get("MemoryInfo", {}).get("SizeInMiB", 0) if gpu else 0,
            fractional=gpu is not None and count == 0,
            instance_store=bool(reply.get("InstanceStorageSupported")),
            efa_interfaces=reply.get("NetworkInfo", {}).get("EfaInfo", {}).get("MaximumEfaInterfaces", 0),
            pods=_pods(reply.get("NetworkInfo", {})),
        )

    @property
    def order(self) -> tuple[int, int, str]:
        """Fewest vCPUs and least memory first: cluster-autoscaler judges a group by its first type."""
        return (self.vcpus, self.memory_mib, self.name)


def _pods(network: t.Mapping[str, t.Any]) -> int:
    """Source: awslabs/amazon-eks-ami, nodeadm/internal/kubelet: an interface's first address is its own, two pods have the host's network."""
    cards = network.get("NetworkCards") or [{}]
    interfaces = cards[network.get("DefaultNetworkCardIndex", 0)].get("MaximumNetworkInterfaces", 0)
    addresses = network.get("Ipv4AddressesPerInterface", 0)
    return interfaces * (addresses - 1) + 2 if interfaces and addresses else 0


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """A capacity reservation that can be used."""

    id: str
    instance_type: str
    zone: str

    @classmethod
    def from_api(cls, reply: t.Mapping[str, t.Any]) -> Reservation:
        """From an element of CapacityReservations of ec2:DescribeCapacityReservations."""
        return cls(id=reply["CapacityReservationId"], instance_type=reply["InstanceType"], zone=reply["AvailabilityZone"])


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """A subnet that nodes may live in; ``id`` may be a planned one."""

    id: str
    zone: str
    zone_id: str = ""
    tier: str = ""

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> Subnet:
        """From an element of the subnets that eks_network returns."""
        return cls(id=params["id"], zone=params.get("zone") or "", zone_id=params.get("zone_id") or "", tier=params.get("tier") or "")

    @classmethod
    def from_api(cls, reply: t.Mapping[str, t.Any]) -> Subnet:
        """From an element of Subnets of ec2:DescribeSubnets."""
        return cls(id=reply["SubnetId"], zone=reply["AvailabilityZone"], zone_id=reply.get("AvailabilityZoneId", ""))

    def lies_in(self, zone: str) -> bool:
        """Whether this is the zone's name or id."""
        return zone in (self.zone, self.zone_id)


def for_nodes(subnets: t.Sequence[Subnet]) -> tuple[Subnet, ...]:
    """The subnets that nodes go to: the private ones, all of them where none is marked private."""
    private = tuple(subnet for subnet in subnets if subnet.tier == "private")
    return private or tuple(subnets)
