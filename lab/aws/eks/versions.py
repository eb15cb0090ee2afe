"""Kubernetes versions that EKS offers."""

from __future__ import annotations

import datetime
import functools
import json
import typing as t
from dataclasses import dataclass
from pathlib import Path

from lab.aws.eks.context import Context, Params, Result, invalid_parameter, operation
from lab.aws.eks.paging import page

_DATA = Path(__file__).parents[1] / "data" / "eks_versions.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesVersion:
    """One row of data/eks_versions.json."""

    version: str
    patch: str
    status: str
    released: datetime.datetime
    standard_until: datetime.datetime
    extended_until: datetime.datetime

    @property
    def minor(self) -> int:
        return int(self.version.partition(".")[2])


@functools.cache
def versions() -> dict[str, KubernetesVersion]:
    """All versions by name, newest first."""
    dates = ("released", "standard_until", "extended_until")
    rows: list[dict[str, t.Any]] = json.loads(_DATA.read_text(encoding="utf-8"))["versions"]
    for row in rows:
        row.update({name: datetime.datetime.fromisoformat(row[name]).replace(tzinfo=datetime.UTC) for name in dates})
    return {row["version"]: KubernetesVersion(**row) for row in rows}


@functools.cache
def default_version() -> str:
    """What CreateCluster takes when it is given none."""
    return str(json.loads(_DATA.read_text(encoding="utf-8"))["default"])


def supported_version(name: str) -> KubernetesVersion:
    """The version of that name; raises InvalidParameterException as CreateCluster does."""
    if name not in versions():
        raise invalid_parameter(f"unsupported Kubernetes version {name}")
    return versions()[name]


@operation("DescribeClusterVersions")
def describe_cluster_versions(context: Context, params: Params) -> Result:
    """Filters: https://docs.aws.amazon.com/eks/latest/APIReference/API_DescribeClusterVersions.html"""
    status = params.get("versionStatus") or str(params.get("status", "")).upper().replace("-", "_")
    chosen = [
        version
        for version in versions().values()
        if (not params.get("defaultOnly") or version.version == default_version())
        and (not params.get("clusterVersions") or version.version in params["clusterVersions"])
        and (not status or version.status == status)
    ]
    names, token = page([version.version for version in chosen], params)
    return {"clusterVersions": [_document(versions()[name]) for name in reversed(names)], "nextToken": token}


def _document(version: KubernetesVersion) -> dict[str, t.Any]:
    return {
        "clusterVersion": version.version,
        "clusterType": "eks",
        "defaultPlatformVersion": "eks.1",
        "defaultVersion": version.version == default_version(),
        "releaseDate": version.released,
        "endOfStandardSupportDate": version.standard_until,
        "endOfExtendedSupportDate": version.extended_until,
        "status": version.status.lower().replace("_", "-"),
        "versionStatus": version.status,
        "kubernetesPatchVersion": version.patch,
    }
