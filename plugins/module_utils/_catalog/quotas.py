# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The quotas of Service Quotas that a cluster needs: found by name; codes only where no name fits, because not all of them are documented. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import category_of, generation_of


@dataclass(frozen=True, kw_only=True)
class QuotaName:
    """A quota by the service's code, the name that ListServiceQuotas gives, and its code."""

    service: str
    name: str
    code: str
    unit: str


VPCS = QuotaName(service="vpc", name="VPCs per Region", code="L-F678F1CE", unit="VPCs")
NAT_GATEWAYS = QuotaName(service="vpc", name="NAT gateways per Availability Zone", code="L-FE5A380F", unit="NAT gateways")
ENDPOINTS = QuotaName(service="vpc", name="Interface VPC endpoints per VPC", code="L-29B6F2EB", unit="endpoints")
ADDRESSES = QuotaName(service="ec2", name="EC2-VPC Elastic IPs", code="L-0263D0A3", unit="addresses")
CLUSTERS = QuotaName(service="eks", name="Clusters", code="L-1194D53C", unit="clusters")

# (class, capacity type) -> code, for families whose quota no name tells. Spot quotas of P6 and Trn are left out: sources disagree.
_VCPU_CODES = {
    ("G", "on_demand"): "L-DB2E81BA",
    ("P", "on_demand"): "L-417A185B",
    ("DL", "on_demand"): "L-6E869C2A",
    ("INF", "on_demand"): "L-1945791B",
    ("TRN", "on_demand"): "L-2C3B7624",
    ("G", "spot"): "L-3819A6DF",
    ("P3", "spot"): "L-7212CCBC",
    ("P4", "spot"): "L-7212CCBC",
    ("P5", "spot"): "L-C4BD4855",
    ("DL", "spot"): "L-85EED4F7",
    ("INF", "spot"): "L-B5D1601B",
    **{(letter, "on_demand"): "L-1216C47A" for letter in "ACDHIMRTZ"},
    **{(letter, "spot"): "L-34B43A08" for letter in "ACDHIMRTZ"},
}
# Names such as Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances, and All G and VT Spot Instance Requests.
_NAMES = {"on_demand": re.compile(r"Running On-Demand (.+) instances"), "spot": re.compile(r"All (.+) Spot Instance Requests")}
_WORD = re.compile(r"[A-Z][A-Za-z]*[0-9]*")
_PART_OF = {"gr": "G", "im": "I", "is": "I"}


def classes_of(family: str) -> tuple[str, ...]:
    """The classes that a family may be counted in, the narrowest first: P5, then P."""
    category, generation = category_of(family), generation_of(family)
    whole = category.upper()
    return tuple(name for name in (f"{whole}{generation or ''}", whole, _PART_OF.get(category)) if name)


def vcpu_code(family: str, capacity_type: str, names: t.Mapping[str, str]) -> str | None:
    """The code of the quota on vCPUs that a family counts in; ``names`` are code -> name of EC2's quotas. None where none is known."""
    pattern = _NAMES.get(capacity_type)
    if pattern is None:
        return None
    for name in classes_of(family):
        for code, title in names.items():
            found = pattern.fullmatch(title)
            if found and name in {word.upper() for word in _WORD.findall(found.group(1))}:
                return code
    hints = (_VCPU_CODES.get((name, capacity_type)) for name in classes_of(family))
    return next((code for code in hints if code), None)


def console_url(region: str, service: str, code: str) -> str:
    """Where Service Quotas takes a request for more."""
    domain = {"cn": "amazonaws.cn", "us-gov": "amazonaws-us-gov.com"}
    suffix = next((name for prefix, name in domain.items() if region.startswith(f"{prefix}-")), None)
    host = f"console.{suffix}" if suffix else f"{region}.console.aws.amazon.com"
    return f"https://{host}/servicequotas/home/services/{service}/quotas/{code}?region={region}"
