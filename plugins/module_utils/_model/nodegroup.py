# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A managed node group as EKS describes it, and as it will be after a plan. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Taint, WarmPool

# Kubernetes spelling -> that of the EKS API.
EFFECTS = {"NoSchedule": "NO_SCHEDULE", "PreferNoSchedule": "PREFER_NO_SCHEDULE", "NoExecute": "NO_EXECUTE"}
_KUBERNETES_EFFECTS = {there: here for here, there in EFFECTS.items()}


def taint_to_api(taint: Taint) -> dict[str, str]:
    """A taint in the spelling of the EKS API; without a value where it has none."""
    given = {"key": taint.key, "value": taint.value, "effect": EFFECTS[taint.effect]}
    return {key: value for key, value in given.items() if value}


def taint_from_api(reply: t.Mapping[str, str]) -> Taint:
    return Taint(key=reply["key"], value=reply.get("value") or "", effect=_KUBERNETES_EFFECTS.get(reply["effect"], reply["effect"]))


def warm_pool_to_api(pool: WarmPool) -> dict[str, t.Any]:
    """warmPoolConfig of the EKS API; what is None is left to EKS."""
    given = {
        "enabled": True,
        "minSize": pool.min_size,
        "maxGroupPreparedCapacity": pool.max_prepared,
        "poolState": pool.state.upper() if pool.state else None,
        "reuseOnScaleIn": pool.reuse_on_scale_in,
    }
    return {key: value for key, value in given.items() if value is not None}


def warm_pool_from_api(reply: t.Mapping[str, t.Any] | None) -> WarmPool | None:
    """None where there is none or it is switched off."""
    if not reply or not reply.get("enabled"):
        return None
    state = reply.get("poolState")
    return WarmPool(
        min_size=reply.get("minSize"),
        max_prepared=reply.get("maxGroupPreparedCapacity"),
        state=state.lower() if state else None,
        reuse_on_scale_in=reply.get("reuseOnScaleIn"),
    )


def release_order(release: str) -> tuple[int, ...]:
    """What releases of one image family are ordered by: the date of an Amazon Linux one (1.36.1-20260724), the version of Bottlerocket's."""
    version, _dash, build = release.partition("-")
    return (int(build),) if build.isdigit() else tuple(int(part) for part in version.split(".") if part.isdigit())


@dataclass(frozen=True, kw_only=True)
class Nodegroup:
    """A node group. ``capacity_type`` is in the words of a pool (on_demand); ``launch_template`` is (id, version).

    ``unneeded_time`` is what its Auto Scaling group tells cluster-autoscaler, as far as that was read; ``api`` the whole reply, for what is only
    looked at where the user overrides it.
    """

    name: str
    arn: str
    status: str | None = None
    capacity_type: str = "on_demand"
    ami_type: str = ""
    instance_types: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    node_role: str = ""
    min: int = 0
    max: int = 0
    desired: int = 0
    labels: t.Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    max_unavailable: int | None = None
    update_strategy: str | None = None
    repair: bool = False
    tags: t.Mapping[str, str] = field(default_factory=dict)
    launch_template: tuple[str, str] | None = None
    release_version: str = ""
    version: str = ""
    auto_scaling_group: str | None = None
    unneeded_time: str | None = None
    warm_pool: WarmPool | None = None
    issues: tuple[str, ...] = ()
    api: t.Mapping[str, t.Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_api(cls, reply: t.Mapping[str, t.Any]) -> Nodegroup:
        """From ``nodegroup`` of eks:DescribeNodegroup."""
        scaling, update = reply.get("scalingConfig", {}), reply.get("updateConfig", {})
        template = reply.get("launchTemplate")
        groups = reply.get("resources", {}).get("autoScalingGroups") or [{}]
        return cls(
            name=reply["nodegroupName"],
            arn=reply["nodegroupArn"],
            status=reply["status"],
            capacity_type=reply.get("capacityType", "ON_DEMAND").lower(),
            ami_type=reply.get("amiType", ""),
            instance_types=tuple(reply.get("instanceTypes") or ()),
            subnets=tuple(reply.get("subnets") or ()),
            node_role=reply.get("nodeRole", ""),
            min=scaling.get("minSize", 0),
            max=scaling.get("maxSize", 0),
            desired=scaling.get("desiredSize", 0),
            labels=dict(reply.get("labels") or {}),
            taints=tuple(taint_from_api(taint) for taint in reply.get("taints") or ()),
            max_unavailable=update.get("maxUnavailable"),
            update_strategy=update.get("updateStrategy", "DEFAULT").lower(),
            repair=bool(reply.get("nodeRepairConfig", {}).get("enabled")),
            tags=dict(reply.get("tags") or {}),
            launch_template=(template["id"], template["version"]) if template else None,
            release_version=reply.get("releaseVersion", ""),
            version=reply.get("version", ""),
            auto_scaling_group=groups[0].get("name"),
            warm_pool=warm_pool_from_api(reply.get("warmPoolConfig")),
            issues=tuple(f"{issue.get('code')}: {issue.get('message')}" for issue in reply.get("health", {}).get("issues") or ()),
            api=reply,
        )
