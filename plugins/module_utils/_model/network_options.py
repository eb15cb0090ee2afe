# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a network should be: the options as data, their faults of form, and where its subnets lie. Pure."""

from __future__ import annotations

import itertools
import re
import typing as t
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import MAX_USER_TAGS, cluster_name_faults, tag_faults, tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.network import TIERS, Tier
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_endpoints import EndpointType, endpoint_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_existing import existing_faults

Params = t.Mapping[str, t.Any]
Place = tuple[Tier, str]
NatMode = t.Literal["none", "single", "per_zone"]

DEFAULT_CIDR = "10.0.0.0/16"
DEFAULT_PREFIXES: t.Mapping[Tier, int] = {"private": 20, "public": 24, "intra": 28}
DEFAULT_ZONE_COUNT = 3
MIN_PREFIX, MAX_PREFIX = 16, 28
MIN_ZONES, MAX_ZONES = 2, 26  # zones of a region are named by letters
# By which load balancers find their subnets; none belong into the intra ones.
ROLE_TAGS: t.Mapping[Tier, str] = {"private": "kubernetes.io/role/internal-elb", "public": "kubernetes.io/role/elb"}
_INSTANCE_TYPE = re.compile(r"[a-z0-9-]+\.([a-z0-9-]+|\*)")
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
    intra_subnets: bool = False
    private_subnet_prefix: int | None = None
    public_subnet_prefix: int | None = None
    intra_subnet_prefix: int | None = None
    secondary_cidrs: tuple[str, ...] | None = None
    instance_types: tuple[str, ...] = ()
    gateway_endpoints: tuple[str, ...] | None = None
    interface_endpoints: tuple[str, ...] | None = None
    api_access_cidrs: tuple[str, ...] | None = None
    tags: t.Mapping[str, str] | None = None
    subnet_tags: t.Mapping[str, t.Mapping[str, str]] = field(default_factory=dict)
    purge_tags: bool = True

    @classmethod
    def from_params(cls, params: Params) -> Wanted:
        """From options that have no faults."""
        count, tags = params.get("zone_count"), params.get("tags")
        return cls(
            cidr=params.get("cidr"),
            zones=_tuple(params.get("zones")),
            nat=params.get("nat"),
            private_subnet_prefix=params.get("private_subnet_prefix"),
            public_subnet_prefix=params.get("public_subnet_prefix"),
            intra_subnet_prefix=params.get("intra_subnet_prefix"),
            secondary_cidrs=_tuple(params.get("secondary_cidrs")),
            gateway_endpoints=_tuple(params.get("gateway_endpoints")),
            interface_endpoints=_tuple(params.get("interface_endpoints")),
            api_access_cidrs=_tuple(params.get("api_access_cidrs")),
            zone_count=DEFAULT_ZONE_COUNT if count is None else count,
            instance_types=tuple(params.get("instance_types") or ()),
            public_subnets=params.get("public_subnets") is not False,
            intra_subnets=params.get("intra_subnets") is True,
            tags=None if tags is None else tag_texts(tags),
            subnet_tags={tier: tag_texts(given) for tier, given in (params.get("subnet_tags") or {}).items() if given},
            purge_tags=params.get("purge_tags") is not False,
        )

    def prefix(self, tier: Tier) -> int | None:
        prefixes: dict[Tier, int | None] = {
            "private": self.private_subnet_prefix,
            "public": self.public_subnet_prefix,
            "intra": self.intra_subnet_prefix,
        }
        return prefixes[tier]

    def endpoints(self, kind: EndpointType) -> tuple[str, ...] | None:
        """The services that get endpoints of a type; None where they are not managed."""
        return self.gateway_endpoints if kind == "Gateway" else self.interface_endpoints

    @property
    def tiers(self) -> tuple[Tier, ...]:
        return _tiers(public=self.public_subnets, intra=self.intra_subnets)


def _tuple(values: t.Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _tiers(*, public: bool, intra: bool) -> tuple[Tier, ...]:
    left_out = {tier for tier, wanted in (("public", public), ("intra", intra)) if not wanted}
    return tuple(tier for tier in TIERS if tier not in left_out)


def layout(
    cidr: str,
    zones: t.Sequence[str],
    prefixes: t.Mapping[Tier, int],
    taken: t.Mapping[Place, str],
    others: t.Iterable[str] = (),
    *,
    secondary: t.Iterable[str] = (),
) -> dict[Place, str]:
    """Where the subnets of each tier in ``prefixes`` lie: (tier, zone) -> CIDR block. Without those that do not fit.

    Private subnets are laid from the bottom of the VPC's block, the others from its top; a subnet that is there (``taken``) keeps its
    block and a new one gets the next free block, so that adding a zone moves nothing. What the first block has no room for lies in the
    first of the ``secondary`` ones that has. ``others`` are blocks that are not ours.
    """
    networks = [IPv4Network(block) for block in (cidr, *secondary)]
    used = [IPv4Network(block) for block in (*taken.values(), *others)]
    found: dict[Place, str] = {}
    for tier, prefix in prefixes.items():
        for zone in zones:
            free = (_free(network, prefix, used, from_top=tier != "private") for network in networks)
            block = taken.get((tier, zone)) or next((block for block in free if block), None)
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
    faults += existing_faults(params)
    faults += _cidr_faults(params.get("cidr"), "cidr")
    faults += _secondary_faults(params)
    faults += _prefix_faults(params)
    faults += _zone_faults(params)
    faults += _nat_faults(params)
    faults += _type_faults(params.get("instance_types"))
    faults += endpoint_faults(params)
    faults += _access_faults(params.get("api_access_cidrs"))
    faults += tag_faults(params.get("tags"), "tags", reserved=RESERVED_TAGS)
    faults += _subnet_tag_faults(params.get("subnet_tags"), params.get("tags"))
    return faults or _fit_faults(params)


def block(value: t.Any) -> IPv4Network | None:
    """An IPv4 network in CIDR notation without host bits; None for anything else."""
    if not isinstance(value, str) or "/" not in value:
        return None
    try:
        return IPv4Network(value)
    except ValueError:
        return None


def _cidr_faults(value: t.Any, path: str) -> list[Fault]:
    if value is None:
        return []
    network = block(value)
    if network is None:
        allowed = f"an IPv4 network in CIDR notation without host bits, such as {DEFAULT_CIDR}"
        return [Fault(path=path, value=value, allowed=allowed, source=_BLOCK_SOURCE)]
    if not MIN_PREFIX <= network.prefixlen <= MAX_PREFIX:
        allowed = f"a network of size /{MIN_PREFIX} to /{MAX_PREFIX}"
        return [Fault(path=path, value=value, allowed=allowed, source=_BLOCK_SOURCE)]
    if network.is_loopback or network.is_link_local or network.is_multicast:
        return [Fault(path=path, value=value, allowed="no loopback, link-local or multicast range", source=_BLOCK_SOURCE)]
    return []


def _secondary_faults(params: Params) -> list[Fault]:
    values = params.get("secondary_cidrs")
    faults: list[Fault] = []
    before = [network for network in [block(params.get("cidr"))] if network]
    for index, value in enumerate(values if isinstance(values, list) else ()):
        path = f"secondary_cidrs[{index}]"
        network = block(value)
        faults += _cidr_faults(value, path) or (overlap_faults(network, before, path) if network else [])
        before += [network] if network else []
    return faults


def overlap_faults(network: IPv4Network, others: t.Iterable[IPv4Network], path: str) -> list[Fault]:
    """One fault where a secondary block overlaps another block of the VPC."""
    other = next((other for other in others if other.overlaps(network)), None)
    allowed = f"no network that overlaps another block of the VPC ({other})"
    return [Fault(path=path, value=str(network), allowed=allowed, source=_BLOCK_SOURCE)] if other else []


def _type_faults(values: t.Any) -> list[Fault]:
    allowed = "an instance type such as g5.2xlarge, or a pattern such as g5.*"
    return [
        Fault(path=f"instance_types[{index}]", value=value, allowed=allowed, source="EC2 API, DescribeInstanceTypeOfferings")
        for index, value in enumerate(values if isinstance(values, list) else ())
        if isinstance(value, str) and not _INSTANCE_TYPE.fullmatch(value)
    ]


def _subnet_tag_faults(values: t.Any, tags: t.Any) -> list[Fault]:
    faults = []
    common = set(tags) if isinstance(tags, t.Mapping) else set()
    for tier, given in values.items() if isinstance(values, t.Mapping) else ():
        found = tag_faults(given, f"subnet_tags.{tier}", reserved=RESERVED_TAGS)
        if not found and isinstance(given, t.Mapping) and len(common | set(given)) > MAX_USER_TAGS:
            allowed = f"at most {MAX_USER_TAGS} tags together with tags: AWS allows 50, the collection needs the others"
            found = [Fault(path=f"subnet_tags.{tier}", value=len(common | set(given)), allowed=allowed, source="AWS, tag limits")]
        faults += found
    return faults


def _prefix_faults(params: Params) -> list[Fault]:
    faults = []
    for name in (f"{tier}_subnet_prefix" for tier in TIERS):
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
    if params.get("vpc_id") is not None:
        return []
    network = block(params.get("cidr") or DEFAULT_CIDR)
    zones = params.get("zones")
    count = len(zones) if isinstance(zones, list) else integer(params.get("zone_count")) or DEFAULT_ZONE_COUNT
    if network is None:
        return []
    tiers = _tiers(public=params.get("public_subnets") is not False, intra=params.get("intra_subnets") is True)
    prefixes = {tier: integer(params.get(f"{tier}_subnet_prefix")) or DEFAULT_PREFIXES[tier] for tier in tiers}
    names = [str(number) for number in range(count)]
    given = params.get("secondary_cidrs")
    secondary = [value for value in given if block(value)] if isinstance(given, list) else []
    return fit_faults(str(network), names, prefixes, layout(str(network), names, prefixes, {}, secondary=secondary), path="cidr")


def fit_faults(
    cidr: str, zones: t.Sequence[str], prefixes: t.Mapping[Tier, int], found: t.Mapping[Place, str], *, path: str
) -> list[Fault]:
    """One fault where ``layout`` did not find a block for every subnet."""
    if len(found) == len(zones) * len(prefixes):
        return []
    wanted = " and ".join(f"a /{prefix} {tier} subnet" for tier, prefix in prefixes.items())
    allowed = (
        f"a block with room for {wanted} in each of {len(zones)} zones; take a larger cidr, secondary_cidrs, smaller subnets or fewer zones"
    )
    return [Fault(path=path, value=cidr, allowed=allowed, source=_BLOCK_SOURCE)]


def integer(value: t.Any) -> int | None:
    """The value as Ansible would take it for an integer; None where it would not."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    try:
        return int(value)
    except ValueError:
        return None
