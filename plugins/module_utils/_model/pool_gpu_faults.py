# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What is wrong with how a pool shares and cuts its GPUs, for values of any type. Needs no account. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._catalog import bottlerocket
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.gpus import GPUS, MPS_SOURCE, Gpu, gpu_of, mps_clients
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES, misfit
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import SOURCE as MIG_SOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import ACCELERATOR_LABEL
from ansible_collections.gpuops.eks.plugins.module_utils._model.mig import mig_faults, sharing_of_mig_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import section
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_params import (
    accelerator,
    ami_family,
    lookup,
    number,
    provisioner,
    texts,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import sharing_faults

Pool = t.Mapping[str, t.Any]

_AUTOSCALER_SOURCE = "https://github.com/kubernetes/autoscaler/issues/8095"
_BUILT_IN_SOURCE = "https://github.com/bottlerocket-os/bottlerocket/issues/4673"
_OPERATOR_SOURCE = "https://github.com/NVIDIA/gpu-operator/issues/2415"
_PRODUCTS_SOURCE = "NVIDIA MIG User Guide, Supported GPUs"
_RULES_SOURCE = "the collection's options"
_TEMPLATE_SOURCE = "kubernetes/autoscaler, cluster-autoscaler/cloudprovider/aws: scaling a node group from 0"
_TEMPLATE_TAGS = tuple(
    f"k8s.io/cluster-autoscaler/node-template/{kind}"
    for kind in ("label/", "taint/", "resources/nvidia.com/", "resources/k8s.amazonaws.com/")
)


def gpu_faults(pool: Pool, path: str) -> list[Fault]:
    """Every fault of ``sharing`` and ``mig``, and of labels and tags that do not go with them."""
    faults = sharing_faults(pool.get("sharing"), join(path, "sharing")) + _backend(pool, path) + _template_tags(pool, path)
    if accelerator(pool) != "nvidia":
        return faults
    return faults + _mps(pool, path) + _mig(pool, path) + _accelerator_label(pool, path)


def named_gpus(pool: Pool) -> dict[str, tuple[str, Gpu | None]]:
    """By the place in ``instances``: each instance type that a pool names, else each family that gpu.models leaves, and its product.

    None is a product that the catalogue does not know.
    """
    instances = section(pool, "instances")
    if types := texts(instances.get("types")):
        return {f"types[{index}]": (name, gpu_of(name)) for index, name in types}
    models = {name.lower().replace(" ", "-") for _index, name in texts(section(instances, "gpu").get("models"))}
    named = {f"families[{index}]": (name, gpu_of(name)) for index, name in texts(instances.get("families"))}
    return {where: one for where, one in named.items() if one[1] is None or not models or models & set(one[1].models)}


def _backend(pool: Pool, path: str) -> list[Fault]:
    backend, where = lookup(pool, "sharing.backend"), join(path, "sharing.backend")
    own = ami_family(pool) == "bottlerocket"
    if backend == "device_plugin" and own:
        allowed = "auto or bottlerocket with ami.family bottlerocket: its image has a device plugin, and two of them fight for one socket"
        return [Fault(path=where, value=backend, allowed=allowed, source=_BUILT_IN_SOURCE)]
    if backend == "bottlerocket" and not own:
        allowed = "auto or device_plugin with ami.family al2023, whose image has no device plugin; or ami.family bottlerocket"
        return [Fault(path=where, value=backend, allowed=allowed, source="Bottlerocket, settings.kubelet-device-plugins")]
    return _operator(pool, path) if backend == "gpu_operator" else []


def _operator(pool: Pool, path: str) -> list[Fault]:
    """The GPU Operator cuts and shares GPUs of nodes that have joined: too late for nodes that an autoscaler buys for what they will offer."""
    where = join(path, "sharing.backend")
    if ami_family(pool) == "bottlerocket":
        allowed = "auto or bottlerocket with ami.family bottlerocket, which has a device plugin of its own"
        return [
            Fault(path=where, value="gpu_operator", allowed=allowed, source="https://github.com/bottlerocket-os/bottlerocket/issues/4162")
        ]
    least, most = number(lookup(pool, "scaling.min")), number(lookup(pool, "scaling.max"))
    if provisioner(pool) != "karpenter" and least is not None and least == most:
        return []
    allowed = (
        "auto or device_plugin for nodes that an autoscaler makes: the operator changes nodes that have joined, restarts kubelet and reboots; "
        "it is for managed_node_group and auto_scaling_group with scaling.min equal to scaling.max"
    )
    return [Fault(path=where, value="gpu_operator", allowed=allowed, source=_OPERATOR_SOURCE)]


def _mps(pool: Pool, path: str) -> list[Fault]:
    """More clients than NVIDIA's MPS control daemon takes on a product."""
    replicas = number(lookup(pool, "sharing.replicas"))
    if lookup(pool, "sharing.strategy") != "mps" or replicas is None:
        return []
    most = {name: mps_clients(gpu) for name, gpu in named_gpus(pool).values() if gpu is not None and replicas > mps_clients(gpu)}
    if not most or replicas > max(mps_clients(gpu) for gpu in GPUS.values()):  # that is refused for every product
        return []
    allowed = f"at most {', '.join(f'{number} on {name}' for name, number in most.items())}"
    return [Fault(path=join(path, "sharing.replicas"), value=replicas, allowed=allowed, source=MPS_SOURCE)]


def _mig(pool: Pool, path: str) -> list[Fault]:
    mig, where = pool.get("mig"), join(path, "mig")
    if not isinstance(mig, t.Mapping):
        return []
    if mig.get("layout") is None:
        allowed = "the number of instances of each profile on each GPU, such as {1g.5gb: 7}; leave mig out for whole GPUs"
        return [Fault(path=f"{where}.layout", value=None, allowed=allowed, source=_RULES_SOURCE)]
    if not isinstance(mig["layout"], t.Mapping):
        return []
    faults = mig_faults(mig, where) + sharing_of_mig_faults(pool.get("sharing"), mig, join(path, "sharing"))
    faults += _without_mig(pool, path) + _bottlerocket_strategy(pool, path)
    return faults if faults else _layout(pool, path)


def _without_mig(pool: Pool, path: str) -> list[Fault]:
    """Types and families that cannot be cut, and pools that do not say which they have."""
    named = named_gpus(pool)
    if not named:
        allowed = "types or families of one product with mig: profiles differ from product to product"
        return [Fault(path=join(path, "instances"), value=pool.get("instances"), allowed=allowed, source=_PRODUCTS_SOURCE)]
    able = ", ".join(family for key in PROFILES for family in GPUS[key].families)
    return [
        Fault(
            path=join(path, f"instances.{place}"),
            value=name,
            allowed=f"with mig a family whose GPUs can be cut: {able}; {gpu.product} has no Multi-Instance GPU",
            source=_PRODUCTS_SOURCE,
        )
        for place, (name, gpu) in named.items()
        if gpu is not None and not gpu.mig_slices
    ]


def _bottlerocket_strategy(pool: Pool, path: str) -> list[Fault]:
    strategy = lookup(pool, "mig.strategy") or "mixed"
    if ami_family(pool) != "bottlerocket" or strategy == "single":
        return []
    allowed = "single with ami.family bottlerocket, which advertises instances as nvidia.com/gpu only; mixed with ami.family al2023"
    source = "https://github.com/bottlerocket-os/bottlerocket/issues/4483"
    return [Fault(path=join(path, "mig.strategy"), value=lookup(pool, "mig.strategy"), allowed=allowed, source=source)]


def _layout(pool: Pool, path: str) -> list[Fault]:
    """A layout on the products of a pool: there is to be one, which takes it."""
    known = {gpu.key: gpu for _name, gpu in named_gpus(pool).values() if gpu is not None}
    if len(known) > 1:
        products = ", ".join(f"{gpu.product} ({', '.join(gpu.families)})" for gpu in known.values())
        allowed = f"types or families of one product with mig, whose profiles are its own; a pool for each of {products}"
        return [Fault(path=join(path, "instances"), value=pool.get("instances"), allowed=allowed, source=_PRODUCTS_SOURCE)]
    layout = {str(profile): int(count) for profile, count in lookup(pool, "mig.layout").items()}
    where = join(path, "mig.layout")
    for key in known:
        if reason := misfit(key, layout):
            return [Fault(path=where, value=layout, allowed=f"a layout that the GPU takes: {reason}", source=MIG_SOURCE)]
        if ami_family(pool) == "bottlerocket" and (reason := bottlerocket.mig_misfit(key, layout)):
            return [Fault(path=where, value=layout, allowed=reason, source=bottlerocket.SOURCE)]
    return []


def _accelerator_label(pool: Pool, path: str) -> list[Fault]:
    """What makes cluster-autoscaler wait for ever: its label on nodes that never advertise nvidia.com/gpu."""
    labels = section(pool, "labels")
    if ACCELERATOR_LABEL not in labels:
        return []
    value, where = labels[ACCELERATOR_LABEL], f"{join(path, 'labels')}.{ACCELERATOR_LABEL}"
    if value == "vgpu":
        allowed = (
            "unset, or a name such as nvidia-tesla-t4: vgpu is of aws-virtual-gpu-device-plugin, which is archived; sharing has the shares, "
            "and nodes advertise them as nvidia.com/gpu"
        )
        return [Fault(path=where, value=value, allowed=allowed, source="https://github.com/awslabs/aws-virtual-gpu-device-plugin")]
    mixed = isinstance(pool.get("mig"), t.Mapping) and (lookup(pool, "mig.strategy") or "mixed") == "mixed"
    if not mixed and not lookup(pool, "sharing.rename"):
        return []
    option = "mig.strategy mixed" if mixed else "sharing.rename"
    allowed = f"unset with {option}: cluster-autoscaler takes such nodes for unready for ever; the resource would have to be nvidia.com/gpu"
    return [Fault(path=where, value=value, allowed=allowed, source=_AUTOSCALER_SOURCE)]


def _template_tags(pool: Pool, path: str) -> list[Fault]:
    """Tags by which cluster-autoscaler is told what nodes will be, and which would say it beside the options that make it so."""
    allowed = "unset: this is set as labels, taints and sharing make the nodes, such as taints: [{key: nvidia.com/gpu, value: 'true', effect: NoSchedule}]"
    return [
        Fault(path=f"{join(path, 'tags')}.{key}", value=value, allowed=allowed, source=_TEMPLATE_SOURCE)
        for key, value in section(pool, "tags").items()
        if str(key).startswith(_TEMPLATE_TAGS)
    ]
