"""Service Quotas, and the quotas on vCPUs that EC2 enforces at launch. moto has the defaults of VPC alone.

Sources: API reference of Service Quotas (ListServiceQuotas: where there is no applied value, the quota is not retrieved; GetServiceQuota:
NoSuchResourceException); Amazon EC2 User Guide, "Amazon EC2 On-Demand Instance quotas" and "Spot Instance quotas" (buckets, vCPUs, not
counted: capacity blocks). Values that are applied are the lab's own, so that a rehearsal fits; those of AWS for a new account are the defaults.
"""

from __future__ import annotations

import re
import threading
import typing as t
from dataclasses import dataclass

from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.servicequotas.resources.default_quotas.vpc import VPC_DEFAULT_QUOTAS

from lab.aws.calls import Call
from lab.aws.errors import AwsError
from lab.aws.jsonservice import JsonService, Params, page

REHEARSAL_VCPUS = 1024.0
_SERVICES = {
    "ec2": "Amazon Elastic Compute Cloud (Amazon EC2)",
    "eks": "Amazon Elastic Kubernetes Service (Amazon EKS)",
    "vpc": "Amazon Virtual Private Cloud (Amazon VPC)",
}
_ILLEGAL = "IllegalArgumentException"
_GONE = ("terminated", "shutting-down", "stopped", "stopping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A quota. ``applied`` is None where AWS has a default alone; ``usage`` is the class of the CloudWatch metric of its use."""

    service: str
    code: str
    name: str
    default: float
    applied: float | None = None
    usage: str = ""
    adjustable: bool = True

    def document(self, region: str, account: str, value: float) -> Params:
        metric = {
            "MetricNamespace": "AWS/Usage",
            "MetricName": "ResourceCount",
            "MetricDimensions": {"Class": self.usage, "Resource": "vCPU", "Service": "EC2", "Type": "Resource"},
            "MetricStatisticRecommendation": "Maximum",
        }
        return {
            "ServiceCode": self.service,
            "ServiceName": _SERVICES[self.service],
            "QuotaArn": f"arn:aws:servicequotas:{region}:{account}:{self.service}/{self.code}",
            "QuotaCode": self.code,
            "QuotaName": self.name,
            "Value": value,
            "Unit": "None",
            "Adjustable": self.adjustable,
            "GlobalQuota": False,
            **({"UsageMetric": metric} if self.usage else {}),
        }


def _vcpus(code: str, name: str, usage: str, *, default: float = 0.0, applied: float = REHEARSAL_VCPUS) -> Quota:
    return Quota(service="ec2", code=code, name=name, default=default, applied=applied, usage=usage)


_STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"
QUOTAS: tuple[Quota, ...] = (
    _vcpus("L-1216C47A", f"Running On-Demand {_STANDARD} instances", "Standard/OnDemand", default=5.0),
    _vcpus("L-DB2E81BA", "Running On-Demand G and VT instances", "G/OnDemand"),
    _vcpus("L-417A185B", "Running On-Demand P instances", "P/OnDemand"),
    _vcpus("L-6E869C2A", "Running On-Demand DL instances", "DL/OnDemand", applied=0.0),
    _vcpus("L-1945791B", "Running On-Demand Inf instances", "Inf/OnDemand", applied=0.0),
    _vcpus("L-2C3B7624", "Running On-Demand Trn instances", "Trn/OnDemand", applied=0.0),
    _vcpus("L-34B43A08", f"All {_STANDARD} Spot Instance Requests", "Standard/Spot", default=5.0),
    _vcpus("L-3819A6DF", "All G and VT Spot Instance Requests", "G/Spot"),
    _vcpus("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", "P/Spot"),
    _vcpus("L-C4BD4855", "All P5 Spot Instance Requests", "P5/Spot"),
    _vcpus("L-85EED4F7", "All DL Spot Instance Requests", "DL/Spot", applied=0.0),
    _vcpus("L-B5D1601B", "All Inf Spot Instance Requests", "Inf/Spot", applied=0.0),
    Quota(service="ec2", code="L-0263D0A3", name="EC2-VPC Elastic IPs", default=5.0, applied=20.0),
    Quota(service="eks", code="L-1194D53C", name="Clusters", default=100.0),
    Quota(service="eks", code="L-6D54EA21", name="Managed node groups per cluster", default=30.0),
    Quota(service="eks", code="L-BD136A63", name="Nodes per managed node group", default=450.0),
    *(
        Quota(
            service="vpc",
            code=item["QuotaCode"],
            name=item["QuotaName"],
            default=item["Value"],
            applied=20.0 if item["QuotaName"] == "VPCs per Region" else None,
            adjustable=item["Adjustable"],
        )
        for item in t.cast(list[dict[str, t.Any]], VPC_DEFAULT_QUOTAS)
    ),
)
_BY_CODE = {quota.code: quota for quota in QUOTAS}

# Buckets by the letters and the generation that a family begins with. P6 and Trn on Spot: sources disagree, nothing is enforced.
_ON_DEMAND = {"G": "L-DB2E81BA", "GR": "L-DB2E81BA", "VT": "L-DB2E81BA", "P": "L-417A185B", "DL": "L-6E869C2A"} | {
    "INF": "L-1945791B",
    "TRN": "L-2C3B7624",
}
_SPOT = {"G": "L-3819A6DF", "GR": "L-3819A6DF", "VT": "L-3819A6DF", "DL": "L-85EED4F7", "INF": "L-B5D1601B"} | {
    "P2": "L-7212CCBC",
    "P3": "L-7212CCBC",
    "P4": "L-7212CCBC",
    "P5": "L-C4BD4855",
}
_STANDARD_LETTERS = ("A", "C", "D", "H", "I", "IM", "IS", "M", "R", "T", "Z")
_FAMILY = re.compile(r"([a-z]+)(\d*)")


def code_of(instance_type: str, market: str | None) -> str | None:
    """The quota that an instance counts in, None where none is known or (capacity block) it counts in none."""
    found = _FAMILY.match(instance_type)
    if found is None or market not in (None, "on-demand", "spot"):
        return None
    letters, generation = found[1].upper(), found[2]
    table, standard = (_SPOT, "L-34B43A08") if market == "spot" else (_ON_DEMAND, "L-1216C47A")
    return table.get(letters) or table.get(letters + generation) or (standard if letters in _STANDARD_LETTERS else None)


class Quotas:
    """The values in force: the table's, until somebody sets others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set: dict[str, float | None] = {}

    def clear(self) -> None:
        with self._lock:
            self._set.clear()

    def configure(self, values: dict[str, t.Any]) -> dict[str, t.Any]:
        """Apply values by code, null: a default alone. Raises ValueError for unknown codes and what is no number from 0."""
        if unknown := sorted(values.keys() - _BY_CODE.keys()):
            raise ValueError(f"{', '.join(unknown)}: no quota of the lab's")
        wanted = {code: None if value is None else float(value) for code, value in values.items()}
        if any(value is not None and value < 0 for value in wanted.values()):
            raise ValueError("a quota is 0 or more")
        with self._lock:
            self._set |= wanted
        return self.describe()

    def describe(self) -> dict[str, t.Any]:
        """Applied values with their names, by code."""
        return {q.code: {"name": q.name, "value": value} for q in QUOTAS if (value := self.applied(q)) is not None}

    def applied(self, quota: Quota) -> float | None:
        with self._lock:
            return self._set.get(quota.code, quota.applied)

    def limit(self, code: str) -> float:
        """What is in force: the applied value, or else the default."""
        quota = _BY_CODE[code]
        applied = self.applied(quota)
        return quota.default if applied is None else applied

    def refusal(self, backend: t.Any, instance_type: str, market: str | None, count: int = 1) -> AwsError | None:
        """What EC2 says to so many more instances in a region of moto's, None when they fit."""
        code = code_of(instance_type, market)
        if code is None or instance_type not in INSTANCE_TYPES:
            return None
        limit = self.limit(code)
        if _vcpus_in_use(backend, code) + count * _vcpu_count(instance_type) <= limit:
            return None
        if market == "spot":
            return AwsError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
        message = (
            f"You have requested more vCPU capacity than your current vCPU limit of {limit:.0f} allows for the instance bucket that the "
            "specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit."
        )
        return AwsError("VcpuLimitExceeded", message)


def _vcpu_count(instance_type: str) -> int:
    return int(INSTANCE_TYPES[instance_type]["VCpuInfo"]["DefaultVCpus"])


def _vcpus_in_use(backend: t.Any, code: str) -> int:
    return sum(
        _vcpu_count(instance.instance_type)
        for instance in backend.all_instances()
        if instance.state not in _GONE and code_of(instance.instance_type, instance.lifecycle) == code
    )


class QuotaService:
    """The Service Quotas API over ``quotas``. Nobody's request for more is taken."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        operations = {
            "ListServices": self._list_services,
            "ListServiceQuotas": self._list,
            "GetServiceQuota": self._get,
            "ListAWSDefaultServiceQuotas": self._list_defaults,
            "GetAWSDefaultServiceQuota": self._get_default,
        }
        self.handle = JsonService("service-quotas", operations, invalid=_ILLEGAL).handle

    def _list_services(self, call: Call, params: Params) -> Params:
        items, token = page([{"ServiceCode": code, "ServiceName": name} for code, name in _SERVICES.items()], params, invalid=_ILLEGAL)
        return {"Services": items, "NextToken": token}

    def _list(self, call: Call, params: Params) -> Params:
        found = ((quota, self._quotas.applied(quota)) for quota in _of_service(params))
        documents = [quota.document(call.region, call.account, value) for quota, value in found if value is not None]
        items, token = page(documents, params, invalid=_ILLEGAL)
        return {"Quotas": items, "NextToken": token}

    def _get(self, call: Call, params: Params) -> Params:
        quota = _one(params)
        value = self._quotas.applied(quota)
        if value is None:
            raise _no_such("The request failed because the specified resource does not exist.")
        return {"Quota": quota.document(call.region, call.account, value)}

    def _list_defaults(self, call: Call, params: Params) -> Params:
        documents = [quota.document(call.region, "", quota.default) for quota in _of_service(params)]
        items, token = page(documents, params, invalid=_ILLEGAL)
        return {"Quotas": items, "NextToken": token}

    def _get_default(self, call: Call, params: Params) -> Params:
        quota = _one(params)
        return {"Quota": quota.document(call.region, "", quota.default)}


def _of_service(params: Params) -> list[Quota]:
    found = [quota for quota in QUOTAS if quota.service == params["ServiceCode"]]
    if not found:
        raise _no_such("The request failed because the specified service does not exist.")
    return found


def _one(params: Params) -> Quota:
    for quota in _of_service(params):
        if quota.code == params["QuotaCode"]:
            return quota
    raise _no_such("The request failed because the specified resource does not exist.")


def _no_such(message: str) -> AwsError:
    return AwsError("NoSuchResourceException", message)
