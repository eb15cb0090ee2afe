# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools, instance types and Karpenter objects as an API server keeps them, for tests."""

from __future__ import annotations

import copy
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Reservation, Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.karpenter import alias_image
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_objects import Settings, node_class, node_pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool, resolve
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts

Json = dict[str, t.Any]

OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
ROLE = "arn:aws:iam::123456789012:role/nodes/demo-node"
SUBNETS = tuple(Subnet(id=f"subnet-0{letter}", zone=f"us-west-2{letter}", zone_id=f"usw2-az{n}") for n, letter in enumerate("abc", 1))
OWNED = ("app.kubernetes.io/managed-by", "gpuops.eks")
# Maps that the CRDs say are one value. Source: karpenter.sh_nodepools.yaml, x-kubernetes-map-type of the template's labels.
_ATOMIC_MAPS = {("spec", "template", "metadata", "labels")}


def instance(name: str, gpus: int = 0, *, model: str = "a10g", efa: int = 0, arch: str = "amd64") -> InstanceType:
    return InstanceType(
        name=name,
        vcpus=8 * max(gpus, 1),
        memory_mib=32768 * max(gpus, 1),
        architectures=frozenset({arch}),
        hypervisor="nitro",
        gpus=gpus,
        gpu_model=model if gpus else None,
        gpu_memory_mib=22888 if gpus else 0,
        fractional=name.startswith("g6f"),
        efa_interfaces=efa,
    )


TYPES = {
    one.name: one
    for one in (
        instance("g5.2xlarge", 1),
        instance("g5.12xlarge", 4),
        instance("g6f.xlarge", 1, model="l4"),
        instance("p4d.24xlarge", 8, model="a100", efa=4),
        instance("p5.48xlarge", 8, model="h100", efa=32),
        instance("m5.large"),
    )
}
RESERVATIONS = {id_: Reservation(id=id_, instance_type="g5.2xlarge", zone="us-west-2a") for id_ in ("cr-01", "cr-02")}
FACTS = Ec2Facts(types=TYPES, offerings={subnet.zone: set(TYPES) for subnet in SUBNETS}, reservations=RESERVATIONS)


def pool(**params: t.Any) -> Pool:
    given = {"name": "gpu", "provisioner": "karpenter", "instances": {"families": ["g5"]}, **params}
    return Pool.from_params(given, node_role=given.pop("default_role", ROLE))


def target(**params: t.Any) -> KarpenterPool:
    return resolve(pool(**params), SUBNETS, FACTS)


def settings(**changes: t.Any) -> Settings:
    images = {"gpu": alias_image("al2023", "v20260724")}
    given: Json = {"owner": OWNER, "security_group": "sg-0cluster", "role": ROLE, "subnets_given": True, "images": images, **changes}
    return Settings(**given)


def fields_of(value: t.Mapping[str, t.Any], path: tuple[str, ...] = ()) -> Json:
    """FieldsV1 of an applied configuration."""
    found: Json = {}
    for key, below in value.items():
        where = (*path, key)
        deeper = isinstance(below, dict) and below and where not in _ATOMIC_MAPS
        found[f"f:{key}"] = fields_of(below, where) if deeper else {}
    return found


def live(manifest: t.Mapping[str, t.Any], *, ready: bool | None = True, manager: str = "gpuops.eks", **metadata: t.Any) -> Json:
    """The manifest as the server keeps it after it was applied."""
    obj = copy.deepcopy(dict(manifest))
    labels = {key: value for key, value in obj["metadata"].items() if key in ("labels", "annotations")}
    content = {"metadata": labels, "spec": obj.get("spec", {})}
    entry = {"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields_of(content)}
    obj["metadata"] |= {"uid": f"uid-{obj['metadata']['name']}", "generation": 1, "managedFields": [entry], **metadata}
    if ready is not None:
        obj["status"] = {"conditions": [{"type": "Ready", "status": str(ready), "observedGeneration": 1, "reason": "Ready", "message": ""}]}
    return obj


def foreign(kind: str, name: str, spec: Json, **metadata: t.Any) -> Json:
    """An object that somebody applied with kubectl."""
    group = {"NodePool": "karpenter.sh/v1", "EC2NodeClass": "karpenter.k8s.aws/v1", "NodeOverlay": "karpenter.sh/v1alpha1"}[kind]
    manifest = {"apiVersion": group, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}
    return live(manifest, manager="kubectl")


def class_of(live_object: Json | None = None, *, settings_: Settings | None = None, **params: t.Any) -> Json:
    return node_class(target(**params), settings_ or settings(), live_object)


def node_pool_of(live_object: Json | None = None, **params: t.Any) -> Json:
    found = target(**params)
    return node_pool(found, found.parts[0], live_object)
