# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Objects as files for tools that keep clusters by a repository, and what is known of pools without asking AWS. Pure."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import GPU_FAMILIES
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import SECRET, Object, name_of, namespace_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool, Range
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import PLANNED

OBJECTS, TEMPLATES = "kubernetes", "launch-templates"
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]")
# Up to what no name of ours holds: quotes, brackets, commas, blanks.
_STAND_IN = re.compile(re.escape(PLANNED) + r"[^\s\"',;\[\]{}()]+")
_SOURCE = "the collection's catalogue of instance families, as AWS is not asked"
_TYPES = "ec2:DescribeInstanceTypes"
_SUBNETS = "the subnets given"
_ASKED = ("ec2:DescribeInstanceTypeOfferings", "ec2:DescribeCapacityReservations")


@dataclass(frozen=True, kw_only=True)
class File:
    """A file by its path below the directory, what is to stand in it, and the stand-ins in it for ids that do not exist yet."""

    path: str
    content: t.Mapping[str, t.Any]

    @property
    def planned(self) -> list[str]:
        return sorted(set(_stand_ins(self.content)))

    def to_result(self) -> dict[str, t.Any]:
        return {"file": self.path, "content": dict(self.content), "planned": self.planned}


def _stand_ins(value: t.Any) -> t.Iterator[str]:
    if isinstance(value, str):
        yield from _STAND_IN.findall(value)
    elif isinstance(value, t.Mapping):
        for item in value.values():
            yield from _stand_ins(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _stand_ins(item)


def object_file(manifest: Object) -> File:
    """``kubernetes/[NAMESPACE_]KIND_NAME.yaml``: no name in Kubernetes that we use has an underscore. ValueError for a Secret."""
    if manifest["kind"] == SECRET.kind:
        raise ValueError(f"Secret {name_of(manifest)}: secrets are not written to files")
    parts = [namespace_of(manifest), str(manifest["kind"]).lower(), name_of(manifest)]
    return File(path=f"{OBJECTS}/{_name(parts)}.yaml", content=manifest)


def template_file(request: t.Mapping[str, t.Any]) -> File:
    """``launch-templates/NAME.json``: the parameters of ec2:CreateLaunchTemplate."""
    return File(path=f"{TEMPLATES}/{_name([request['LaunchTemplateName']])}.json", content=request)


def _name(parts: t.Iterable[str | None]) -> str:
    return "_".join(_UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part) for part in parts if part)


def in_order(files: t.Iterable[File]) -> list[File]:
    return sorted(files, key=lambda file: file.path)


def catalogue_facts(pools: t.Iterable[Pool]) -> Ec2Facts:
    """The types with NVIDIA GPUs that pools may have, as far as the catalogue knows them: their GPUs and their architecture."""
    patterns = {pattern for pool in pools for pattern in pool.type_patterns}
    known = (_instance(family, size) for family, about in GPU_FAMILIES.items() for size in about.sizes)
    return Ec2Facts(types={one.name: one for one in known if any(fnmatch.fnmatchcase(one.name, each) for each in patterns)}, offerings={})


def _instance(family: str, size: str) -> InstanceType:
    about = GPU_FAMILIES[family]
    return InstanceType(
        name=f"{family}.{size}",
        vcpus=0,
        memory_mib=0,
        architectures=frozenset({about.architecture}),
        gpu_model=about.model.lower().replace(" ", "-"),
        gpus=max(about.sizes[size], 1),
        gpu_memory_mib=about.memory_mib,
        fractional=about.fractional,
    )


def faults_without_aws(target: KarpenterPool, known: t.Container[str]) -> list[Fault]:
    """What stands against a pool of which AWS is not asked: the faults that need no answer of it, and what only it could say."""
    pool = target.pool
    unknown = _unknown(target, known)
    asked = (*_ASKED, *(() if pool.nvidia and not unknown else (_TYPES,)), *((_SUBNETS,) if pool.subnets else ()))
    return [*(fault for fault in target.faults if not fault.source.startswith(asked)), *unknown]


def _unknown(target: KarpenterPool, known: t.Container[str]) -> list[Fault]:
    """Options that go by what only EC2 knows of types; GPU counts have to be known for what nodes are said to advertise."""
    given, pool = target.pool.instances, target.pool
    placeless = pool.scaling.scope == "zone" and not all(subnet.zone for subnet in target.subnets)
    unread: dict[str, t.Any] = {
        "network.efa": pool.efa,
        "zones": list(pool.zones) if pool.subnets else (),
        "scaling.scope": "zone" if placeless else None,
    }
    if pool.nvidia:
        unread |= {f"instances.types[{index}]": name for index, name in enumerate(given.types) if name not in known}
        unread |= {f"instances.families[{index}]": name for index, name in enumerate(given.families) if name not in GPU_FAMILIES}
        unread |= {"instances.cpus": given.cpu_values or _ends(given.cpus), "instances.memory_gib": _ends(given.memory_gib)}
        unread |= {"instances.hypervisors": given.hypervisors}
    allowed = "what needs no answer of AWS: of instance types their GPUs and architecture are known, of subnets nothing"
    return [Fault(path=join(pool.path, name), value=value, allowed=allowed, source=_SOURCE) for name, value in unread.items() if value]


def _ends(given: Range) -> dict[str, t.Any]:
    return {name: value for name, value in dataclasses.asdict(given).items() if value is not None}
