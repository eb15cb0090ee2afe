# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a network should be: the options as data, their faults of form, and where its subnets lie. Pure."""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass
from ipaddress import IPv4Network

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults, tag_faults, tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import Tier

Params = t.Mapping[str, t.Any]
Place = tuple[Tier, str]
NatMode = t.Literal["none", "single", "per_zone"]

DEFAULT_CIDR = "10.0.0.0/16"
DEFAULT_PREFIXES: t.Mapping[Tier, int] = {"private": 20, "public": 24}
DEFAULT_ZONE_COUNT = 3
MIN_PREFIX, MAX_PREFIX = 16, 28
MIN_ZONES, MAX_ZONES = 2, 26  # zones of a region are named by letters
ROLE_TAGS: t.Mapping[Tier, str] = {"private": "kubernetes.io/role/internal-elb", "public": "kubernetes.io/role/elb"}
RESERVED_TAGS = ("Name", *ROLE_TAGS.values())
_BLOCK_SOURCE = "Amazon VPC user guide, VPC CIDR blocks and subnet sizing"
_OURS = "the options of eks_network"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of one network. None is what the user did not set: a default where there is nothing yet, else what is there."""

    cidr: str | None = None
    zones: tuple[str, ...] | None = None
    zone_count: int = DEFAULT_ZONE_COUNT
    nat: NatMode | None = None
    public_subnets: bool = True
    private_subnet_prefix: int | None = None
    public_subnet_prefix: int | None = None
    api_access_cidrs: tuple[str, ...] | None = None
    tags: t.Mapping[str, str] | None = None
    purge_tags: bool = True

    @classmethod
    def from_params(cls, params: Params) -> Wanted:
        """From options that have no faults."""
        zones, cidrs, count, tags = (params.get(name) for name in ("zones", "api_access_cidrs", "zone_count", "tags"))
        return cls(
            cidr=params.get("cidr"),
            zones=None if zones is None else tuple(zones),
            zone_count=DEFAULT_ZONE_COUNT if count is None else count,
            nat=params.get("nat"),
            public_subnets=params.get("public_subnets") is not False,
            private_subnet_prefix=params.get("private_subnet_prefix"),
            public_subnet_prefix=params.get("public_subnet_prefix"),
            api_access_cidrs=None if cidrs is None else tuple(cidrs),
            tags=None if tags is None else tag_texts(tags),
            purge_tags=params.get("purge_tags") is not False,
        )

    def prefix(self, tier: Tier) -> int | None:
        return self.private_subnet_prefix if tier == "private" else self.public_subnet_prefix

    @property
    def tiers(self) -> tuple[Tier, ...]:
        return ("private", "public") if self.public_subnets else ("private",)


def layout(
    cidr: str, zones: t.Sequence[str], prefixes: t.Mapping[Tier, int], taken: t.Mapping[Place, str], others: t.Iterable[str] = ()
) -> dict[Place, str]:
    """Where the subnets of each tier in ``prefixes`` lie: (tier, zone) -> CIDR block. Without those that do not fit.

    Private subnets are laid from the bottom of the VPC's block, public ones from its top; a subnet that is there (``taken``) keeps its
    block and a new one gets the next free block, so that adding a zone moves nothing. ``others`` are blocks that are not ours.
    """
    vpc = IPv4Network(cidr)
    used = [IPv4Network(block) for block in (*taken.values(), *others)]
    found: dict[Place, str] = {}
    for tier, prefix in prefixes.items():
        for zone in zones:
            block = taken.get((tier, zone)) or _free(vpc, prefix, used, from_top=tier == "public")
            if block is not None:
                found[tier, zone] = block
                used.append(IPv4Network(block))
    return found


def _free(vpc: IPv4Network, prefix: int, used: t.Sequence[IPv4Network], *, from_top: bool) -> str | None:
    size = 2 ** (32 - prefix)
    starts = range(int(vpc.network_address), int(vpc.broadcast_address) + 1, size)
    for start in reversed(starts) if from_top else starts:
        block = IPv4Network((start, prefix))
        if block.subnet_of(vpc) and not any(block.overlaps(other) for other in used):
            return str(block)
    return None


def network_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds. Values of a wrong type are left to form_faults."""
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    faults += _cidr_faults(params.get("cidr"))
    faults += _prefix_faults(params)
    faults += _zone_faults(params)
    faults += _nat_faults(params)
    faults += _access_faults(params.get("api_access_cidrs"))
    faults += tag_faults(params.get("tags"), "tags", reserved=RESERVED_TAGS)
    return faults or _fit_faults(params)


def block(value: t.Any) -> IPv4Network | None:
    """An IPv4 network in CIDR notation without host bits; None for anything else."""
    if not isinstance(value, str) or "/" not in value:
        return None
    try:
        return IPv4Network(value)
    except ValueError:
        return None


def _cidr_faults(value: t.Any) -> list[Fault]:
    if value is None:
        return []
    network = block(value)
    if network is None:
        allowed = f"an IPv4 network in CIDR notation without host bits, such as {DEFAULT_CIDR}"
        return [Fault(path="cidr", value=value, allowed=allowed, source=_BLOCK_SOURCE)]
    if not MIN_PREFIX <= network.prefixlen <= MAX_PREFIX:
        allowed = f"a network of size /{MIN_PREFIX} to /{MAX_PREFIX}"
        return [Fault(path="cidr", value=value, allowed=allowed, source=_BLOCK_SOURCE)]
    if network.is_loopback or network.is_link_local or network.is_multicast:
        return [Fault(path="cidr", value=value, allowed="no loopback, link-local or multicast range", source=_BLOCK_SOURCE)]
    return []


def _prefix_faults(params: Params) -> list[Fault]:
    faults = []
    for name in ("private_subnet_prefix", "public_subnet_prefix"):
        number = integer(params.get(name))
        if number is not None and not MIN_PREFIX <= number <= MAX_PREFIX:
            faults.append(Fault(path=name, value=params[name], allowed=f"{MIN_PREFIX} to {MAX_PREFIX}", source=_BLOCK_SOURCE))
    return faults


def _zone_faults(params: Params) -> list[Fault]:
    zones, count = params.get("zones"), integer(params.get("zone_count"))
    faults = []
    if count is not None and not MIN_ZONES <= count <= MAX_ZONES:
        allowed = f"at least {MIN_ZONES} and at most {MAX_ZONES}"
        faults.append(Fault(path="zone_count", value=count, allowed=allowed, source="EKS: a cluster needs subnets in two zones"))
    if not isinstance(zones, list):
        return faults
    if count is not None:
        faults.append(Fault(path="zone_count", value=count, allowed="unset where zones is set", source=_OURS))
    if len(zones) < 2:
        allowed = "at least two zones"
        faults.append(Fault(path="zones", value=zones, allowed=allowed, source="EKS: a cluster needs subnets in two zones"))
    for index, zone in enumerate(zones):
        if zone in zones[:index]:
            faults.append(Fault(path=f"zones[{index}]", value=zone, allowed="each zone once", source=_OURS))
    return faults


def _nat_faults(params: Params) -> list[Fault]:
    if params.get("public_subnets") is False and params.get("nat") in ("single", "per_zone"):
        allowed = "none where public_subnets is false: a NAT gateway stands in a public subnet"
        return [Fault(path="nat", value=params["nat"], allowed=allowed, source="Amazon VPC user guide, NAT gateways")]
    return []


def _access_faults(values: t.Any) -> list[Fault]:
    if not isinstance(values, list):
        return []
    faults = []
    networks = {index: network for index, value in enumerate(values) if (network := block(value)) is not None}
    for index, value in enumerate(values):
        if index not in networks:
            allowed = "an IPv4 network in CIDR notation without host bits, such as 203.0.113.7/32"
            faults.append(Fault(path=f"api_access_cidrs[{index}]", value=value, allowed=allowed, source="EC2 API, IpRange"))
    for first, (index, second) in itertools.combinations(networks.items(), 2):
        if first[1].overlaps(second):
            allowed = f"no network that overlaps another of the list ({first[1]})"
            faults.append(Fault(path=f"api_access_cidrs[{index}]", value=str(second), allowed=allowed, source=_OURS))
    return faults


def _fit_faults(params: Params) -> list[Fault]:
    """Whether an empty VPC has room for the subnets; asked only where every single value is sound."""
    network = block(params.get("cidr") or DEFAULT_CIDR)
    zones = params.get("zones")
    count = len(zones) if isinstance(zones, list) else integer(params.get("zone_count")) or DEFAULT_ZONE_COUNT
    if network is None:
        return []
    tiers: tuple[Tier, ...] = ("private",) if params.get("public_subnets") is False else ("private", "public")
    prefixes = {tier: integer(params.get(f"{tier}_subnet_prefix")) or DEFAULT_PREFIXES[tier] for tier in tiers}
    names = [str(number) for number in range(count)]
    return fit_faults(str(network), names, prefixes, layout(str(network), names, prefixes, {}), path="cidr")


def fit_faults(
    cidr: str, zones: t.Sequence[str], prefixes: t.Mapping[Tier, int], found: t.Mapping[Place, str], *, path: str
) -> list[Fault]:
    """One fault where ``layout`` did not find a block for every subnet."""
    if len(found) == len(zones) * len(prefixes):
        return []
    wanted = " and ".join(f"a /{prefix} {tier} subnet" for tier, prefix in prefixes.items())
    allowed = f"a block with room for {wanted} in each of {len(zones)} zones; take a larger cidr, smaller subnets or fewer zones"
    return [Fault(path=path, value=cidr, allowed=allowed, source=_BLOCK_SOURCE)]


def integer(value: t.Any) -> int | None:
    """The value as Ansible would take it for an integer; None where it would not."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None
