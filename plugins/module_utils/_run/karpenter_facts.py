# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What has to be known for Karpenter's objects: its APIs and feature gates, images, roles."""

from __future__ import annotations

import dataclasses
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.amis import LATEST
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.karpenter import (
    IMAGE_ANNOTATION,
    Image,
    alias_image,
    image_source,
    own_image,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.manifests import value_at
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import (
    DEPLOYMENT,
    EC2_NODE_CLASS,
    NODE_OVERLAY,
    NODE_POOL,
    Kind,
    Object,
    annotations_of,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_objects import family_of, is_adopted, role_name
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import is_planned, planned
from ansible_collections.gpuops.eks.plugins.module_utils._run.images import Images

_IMAGE = "karpenter/controller"
# Gates that are on unless they are turned off. Source: karpenter v1.14 pkg/operator/options.
_ON_BY_DEFAULT = frozenset({"ReservedCapacity"})


@dataclass(frozen=True, kw_only=True)
class Controller:
    """Karpenter in a cluster. ``missing`` are kinds whose API is not served; ``gates`` None where no Deployment of it was found."""

    missing: tuple[Kind, ...] = ()
    gates: t.Mapping[str, bool] | None = field(default_factory=dict)

    @property
    def installed(self) -> bool:
        """Whether there is anything of it to look at."""
        return NODE_POOL not in self.missing or EC2_NODE_CLASS not in self.missing

    def serves(self, kind: Kind) -> bool:
        return kind not in self.missing

    def has(self, gate: str) -> bool:
        """Whether a feature gate is on; one that cannot be known is taken to be."""
        return self.gates is None or self.gates.get(gate, gate in _ON_BY_DEFAULT)


def controller(kube: Kubernetes) -> Controller:
    """Which of Karpenter's APIs are served, and the feature gates of its Deployment."""
    kinds = (EC2_NODE_CLASS, NODE_POOL, NODE_OVERLAY)
    groups = dict.fromkeys(kind.api_version.partition("/")[0] for kind in kinds)
    served = {f"{group}/{version}" for group in groups for version in kube.versions(group)}
    found = Controller(missing=tuple(kind for kind in kinds if kind.api_version not in served), gates=None)
    return dataclasses.replace(found, gates=_gates(kube)) if found.installed else found


def _gates(kube: Kubernetes) -> dict[str, bool] | None:
    found = kube.read_all(DEPLOYMENT, labels="app.kubernetes.io/name=karpenter") or kube.read_all(DEPLOYMENT)
    containers = [container for obj in found for container in _containers(obj) if _is_controller(container)]
    if not containers:
        return None
    texts = [entry.get("value") or "" for one in containers for entry in one.get("env") or () if entry["name"] == "FEATURE_GATES"]
    pairs = [pair.strip().partition("=") for text in texts for pair in text.split(",") if pair.strip()]
    return {name: value.lower() == "true" for name, _equals, value in pairs}


def _containers(deployment: Object) -> list[t.Mapping[str, t.Any]]:
    return list(value_at(deployment, "spec", "template", "spec", "containers") or ())


def _is_controller(container: t.Mapping[str, t.Any]) -> bool:
    repository = str(container.get("image", "")).partition("@")[0]
    return repository.rpartition(":")[0].endswith(_IMAGE) or repository.endswith(_IMAGE)


class ImageChoice:
    """The images of pools; each question is asked once, and none where an image stays."""

    def __init__(self, aws: Aws, version: str | None) -> None:
        self._images = Images(aws, version) if version else None
        self._own: list[Fault] = []

    @property
    def faults(self) -> list[Fault]:
        return [*self._own, *(self._images.faults if self._images else ())]

    def image(self, pool: Pool, live: Object | None) -> Image | None:
        """What the pool's EC2NodeClass should select; None where it stays as it is."""
        source, family = image_source(pool), pool.effective_ami_family
        if pool.ami.id:
            return own_image(family, pool.ami.id, None)
        if source:
            kept = live is not None and annotations_of(live).get(IMAGE_ANNOTATION) == source
            return None if kept else self._found(pool, source)
        if pool.ami.release == LATEST:
            return alias_image(family, LATEST)
        if live is not None and not pool.ami.release and (is_adopted(live) or pool.ami.family in (None, family_of(live))):
            return None
        wanted = alias_image(family, pool.ami.release) if pool.ami.release else None
        if wanted and list(wanted.terms) == value_at(live, "spec", "amiSelectorTerms"):
            return wanted
        return self._of_family(pool)

    def _found(self, pool: Pool, source: str) -> Image:
        id_ = self._images.image(pool) if self._images else planned("image", pool.name)
        return own_image(pool.effective_ami_family, id_ or planned("image", pool.name), source)

    def _of_family(self, pool: Pool) -> Image:
        """A release that there is: the one that the pool names, else the newest."""
        family = pool.effective_ami_family
        said = self._images.release(pool) if self._images else None
        return alias_image(family, pool.ami.release or (_release(family, said) if said else planned("ami-release", family)))


def _release(family: str, said: str) -> str:
    """1.36.1-20260724 of Amazon Linux as v20260724; 1.54.0-1a2b3c of Bottlerocket as 1.54.0."""
    return said.partition("-")[0] if family == "bottlerocket" else f"v{said.rpartition('-')[2]}"


def identity_faults(aws: Aws, pool: Pool, live: Object | None) -> list[Fault]:
    """A role or an instance profile that does not exist, or neither; looked for where it is a new one."""
    role, profile = role_name(pool.node_role), pool.instance_profile
    if role is None and profile is None:
        allowed = "iam.node_role, iam.instance_profile, or option node_role_arn"
        source = "Karpenter, EC2NodeClass: spec.role"
        return [] if live is not None else [Fault(path=join(pool.path, "iam"), value=None, allowed=allowed, source=source)]
    if is_adopted(live):
        return []
    if profile:
        missing = profile != value_at(live, "spec", "instanceProfile") and _missing(
            aws, "iam:GetInstanceProfile", "InstanceProfileName", profile
        )
        where, allowed, source = "iam.instance_profile", "an instance profile of this account", "iam:GetInstanceProfile"
    else:
        known = pool.own_role or is_planned(role) or role == value_at(live, "spec", "role")
        missing = not known and _missing(aws, "iam:GetRole", "RoleName", str(role))
        where, allowed, source = "iam.node_role", "a role of this account", "iam:GetRole"
    return [Fault(path=join(pool.path, where), value=profile or pool.node_role, allowed=allowed, source=source)] if missing else []


def _missing(aws: Aws, action: str, key: str, name: str) -> bool:
    return aws.find(action, {key: name}, missing=("NoSuchEntity",)) is None


def placement_faults(aws: Aws, pool: Pool, live: Object | None) -> list[Fault]:
    """A placement group that does not exist; looked for by name where it is a new one. Karpenter names no reason of its own for it."""
    name = pool.placement_group
    if not name or name.startswith("pg-") or name == value_at(live, "spec", "placementGroupSelector", "name"):
        return []
    request = {"Filters": [{"Name": "group-name", "Values": [name]}, {"Name": "state", "Values": ["available"]}]}
    if aws.call("ec2:DescribePlacementGroups", request).get("PlacementGroups"):
        return []
    where, allowed = join(pool.path, "network.placement_group"), "the name of a placement group of this region"
    return [Fault(path=where, value=name, allowed=allowed, source="ec2:DescribePlacementGroups")]
