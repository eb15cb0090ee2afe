# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A network that somebody else made, as the options name it. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault

Params = t.Mapping[str, t.Any]

SUBNET_OPTIONS = ("private_subnet_ids", "public_subnet_ids", "intra_subnet_ids")
GROUP_OPTION = "security_group_ids"
MAX_GROUPS = 5
_FORMS = {
    **{name: (re.compile(r"subnet-[0-9a-f]+"), "the id of a subnet, such as subnet-0f3a1b2c3d4e5f601") for name in SUBNET_OPTIONS},
    GROUP_OPTION: (re.compile(r"sg-[0-9a-f]+"), "the id of a security group, such as sg-0d7e6f5a4b3c2d1e0"),
}
_VPC = re.compile(r"vpc-[0-9a-f]+")
# What only has a meaning where the network is made; public_subnets and purge_tags have defaults, and so cannot tell.
_MAKING = (
    "cidr", "secondary_cidrs", "zones", "zone_count", "instance_types", "nat", "private_subnet_prefix", "public_subnet_prefix",
    "intra_subnets", "intra_subnet_prefix", "subnet_tags", "gateway_endpoints", "interface_endpoints", "api_access_cidrs", "tags",
)  # fmt: skip
_OURS = "the options of eks_network"


@dataclass(frozen=True, kw_only=True)
class Named:
    """The ids that name an existing network."""

    vpc_id: str
    private: tuple[str, ...]
    public: tuple[str, ...]
    intra: tuple[str, ...]
    groups: tuple[str, ...]

    @classmethod
    def from_params(cls, params: Params) -> Named:
        """From options that have no faults and a vpc_id."""
        private, public, intra, groups = (tuple(params.get(name) or ()) for name in (*SUBNET_OPTIONS, GROUP_OPTION))
        return cls(vpc_id=params["vpc_id"], private=private, public=public, intra=intra, groups=groups)

    @property
    def subnets(self) -> dict[str, tuple[str, ...]]:
        """Option -> ids."""
        return dict(zip(SUBNET_OPTIONS, (self.private, self.public, self.intra), strict=True))


def existing_faults(params: Params) -> list[Fault]:
    """Ids that are none, or are given twice; what does not go together with vpc_id, or without it."""
    given = params.get("vpc_id")
    faults = [fault for name in _FORMS for fault in _id_faults(name, params.get(name))]
    if given is None:
        for name in (*SUBNET_OPTIONS, GROUP_OPTION):
            if params.get(name):
                faults.append(Fault(path=name, value=params[name], allowed="unset without vpc_id", source=_OURS))
        return faults
    if isinstance(given, str) and not _VPC.fullmatch(given):
        faults.append(Fault(path="vpc_id", value=given, allowed="the id of a VPC, such as vpc-0a1b2c3d4e5f67890", source=_OURS))
    if params.get("state") != "absent" and not params.get("private_subnet_ids"):
        allowed = "the private subnets of the VPC, in at least two zones"
        faults.append(Fault(path="private_subnet_ids", value=params.get("private_subnet_ids"), allowed=allowed, source=_OURS))
    for name in _MAKING:
        if params.get(name):
            allowed = "unset together with vpc_id: nothing is made in an existing VPC"
            faults.append(Fault(path=name, value=params[name], allowed=allowed, source=_OURS))
    return faults


def _id_faults(name: str, values: t.Any) -> list[Fault]:
    if not isinstance(values, list):
        return []
    pattern, allowed = _FORMS[name]
    faults = []
    for index, value in enumerate(values):
        path = f"{name}[{index}]"
        if isinstance(value, str) and not pattern.fullmatch(value):
            faults.append(Fault(path=path, value=value, allowed=allowed, source=_OURS))
        elif value in values[:index]:
            faults.append(Fault(path=path, value=value, allowed="each id once", source=_OURS))
    if name == GROUP_OPTION and len(values) > MAX_GROUPS:
        allowed = f"at most {MAX_GROUPS} security groups"
        faults.append(Fault(path=name, value=len(values), allowed=allowed, source="EKS API, VpcConfigRequest securityGroupIds"))
    return faults
