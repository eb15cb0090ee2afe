# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a pool's nodes are told of their GPUs at boot, the same for each provisioner; and what is said of pools beside their faults. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import LATEST, RESTARTING_RELEASE, RESTARTING_SOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.bottlerocket import MIG_NAMES
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import Gpu, gpu_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import DEFAULT_DISK_GIB, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import resource_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import NodeSettings

MARK = "gpuops.eks/gpus"
# Images with CUDA and a framework unpack to 10 to 20 GiB each, and kubelet deletes images and pods when 85 to 90 % of a disk are taken.
ENOUGH_GIB = 60
_SHOWN = 5


def told(pool: Pool) -> dict[str, t.Any]:
    """Fields of NodeSettings for a new node: how its image's own device plugin shares GPUs, and how they are cut."""
    own = pool.nvidia and pool.backend == "bottlerocket"
    layout = dict(pool.mig.layout) if pool.mig else {}
    return {
        "sharing": pool.created_sharing if own else None,
        "mig_layout": layout if pool.backend == "device_plugin" else {},
        "mig_profiles": _profiles(pool, layout) if own else {},
    }


def told_again(pool: Pool, before: NodeSettings) -> dict[str, t.Any]:
    """The same for a node that has been told ``before``: a pool without sharing or mig has whole GPUs, unless nothing was ever said of them.

    User data that somebody else wrote stays, and what it does about GPUs is its writer's.
    """
    if before.foreign:
        return {}
    found = told(pool)
    if pool.sharing is None and before.sharing is None:
        found.pop("sharing")
    return found


def sharing_result(pool: Pool) -> dict[str, t.Any] | None:
    """How GPUs are shared and cut, for results. ``resource`` is None where nodes advertise several."""
    if not pool.nvidia:
        return None
    sharing = pool.created_sharing
    names = [name for name, count in pool.gpu_resources.advertised(1).items() if count]
    return {
        "strategy": sharing.strategy,
        "replicas": sharing.replicas,
        "resource": names[0] if len(names) == 1 else None,
        "resources": names,
        "configuration": pool.configuration,
        "backend": pool.backend,
        "mig": {"strategy": pool.mig.strategy, "layout": dict(pool.mig.layout)} if pool.mig else None,
    }


def mark(pool: Pool) -> dict[str, str]:
    """The tag of a managed node group whose nodes are told something of their GPUs. It says that there is user data to look at, also where the
    pool says nothing of it any more."""
    found = told(pool)
    sharing = found["sharing"]
    says = found["mig_layout"] or found["mig_profiles"] or (sharing is not None and sharing.strategy != "none")
    return {MARK: "user-data"} if says else {}


def _profiles(pool: Pool, layout: t.Mapping[str, int]) -> dict[str, str]:
    """Bottlerocket's name of each product of the pool -> the one profile (pool_gpu_faults) that it is filled with."""
    names = {MIG_NAMES[gpu.key] for gpu in _named(pool).values() if gpu is not None and gpu.key in MIG_NAMES}
    return {name: profile for profile in layout for name in sorted(names)}


def _named(pool: Pool) -> dict[str, Gpu | None]:
    return {name: gpu_of(name) for name in pool.instances.types or pool.instances.families}


def crowded(pool: Pool, instances: t.Sequence[InstanceType]) -> list[str]:
    """A word on shares that no pod will ever have, because kubelet takes fewer pods than the node has shares."""
    if not pool.nvidia:
        return []
    shares = {one.name: sum(pool.gpu_resources.advertised(one.gpus).values()) for one in instances}
    full = [f"{one.name} ({shares[one.name]} for {one.pods} pods)" for one in instances if one.pods and shares[one.name] > one.pods]
    if not full:
        return []
    more = f" and {len(full) - _SHOWN} more types" if len(full) > _SHOWN else ""
    return [
        f"Pool {pool.name}: nodes advertise more than kubelet runs pods there: {', '.join(full[:_SHOWN])}{more}. The rest waits for ever, unless the VPC CNI "
        "has prefixes (ENABLE_PREFIX_DELEGATION) and kubelet's maxPods is raised with it."
    ]


def pool_warnings(pool: Pool) -> list[str]:
    """What a pool can have and its user should know of."""
    if not pool.nvidia:
        return []
    warnings = []
    size = pool.disk.size_gib
    if size is not None and size < ENOUGH_GIB:
        warnings.append(
            f"Pool {pool.name}: disk.size_gib {size} is little for images with CUDA, of which one takes 10 to 20 GiB; at least {ENOUGH_GIB}, "
            f"by default {DEFAULT_DISK_GIB}."
        )
    unknown = [name for name, gpu in _named(pool).items() if gpu is None]
    if pool.mig is not None and unknown:
        warnings.append(
            f"Pool {pool.name}: {', '.join(unknown)} is not in the catalogue of GPU products, so that mig.layout is not checked; a node whose GPUs "
            "do not take it never joins."
        )
    return warnings + _suffixes(pool) + _old_release(pool)


def _suffixes(pool: Pool) -> list[str]:
    """Resources whose name depends on the device plugin's version, which role gpu_sharing chooses and autoscalers are told of here."""
    if pool.mig is None or pool.mig.strategy != "mixed" or pool.backend != "device_plugin":
        return []
    names = {profile: resource_of(profile) for profile in pool.mig.layout if resource_of(profile) != resource_of(profile, suffixes=True)}
    if not names:
        return []
    shown = ", ".join(f"{profile} as {name}" for profile, name in names.items())
    return [
        f"Pool {pool.name}: autoscalers are told of {shown}, as a device plugin before v0.20.0 advertises it; with a newer one "
        "(gpu_sharing_image_tag) use profiles without a suffix."
    ]


def _old_release(pool: Pool) -> list[str]:
    release = pool.ami.release
    if pool.effective_ami_family != "al2023" or release in (None, LATEST) or release >= RESTARTING_RELEASE:
        return []
    return [
        f"Pool {pool.name}: nodeadm of ami.release {release} does not restart a containerd that runs already, so that containers may end with "
        f'"expected cgroupsPath to be of format"; {RESTARTING_RELEASE} or newer does ({RESTARTING_SOURCE}).'
    ]
