# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a pool should be. None is what the user did not set: a default when something is created, and not managed afterwards. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._catalog.instances import category_of, family_of, generation_of, size_of
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import (
    DEVICE_PLUGIN_CONFIG_LABEL,
    GPU_PRESENT_LABEL,
    GPU_RESOURCE,
    MIG_CONFIG_LABEL,
    NODEPOOL_LABEL,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import GpuResources, Mig, Sharing, configuration_name

Params = t.Mapping[str, t.Any]

COMPONENT = "nodepool"
NODEPOOL_TAG = NODEPOOL_LABEL
DEFAULT_ARCHITECTURES = ("amd64",)
DEFAULT_CAPACITY = ("on_demand",)
DEFAULT_MIN, DEFAULT_MAX = 0, 10
DEFAULT_DISK_GIB, DEFAULT_DISK_TYPE, DEFAULT_THROUGHPUT = 200, "gp3", 600
DEFAULT_AMI_FAMILY = "al2023"
GPU_CATEGORIES = ("g", "p")  # letters that families with NVIDIA GPUs begin with
_OPERATOR = "gpu_operator"  # its releases have a device plugin of v0.20.0 or later


def section(params: Params, name: str) -> Params:
    """A nested group of options; empty where it is not set."""
    value = params.get(name)
    return value if isinstance(value, t.Mapping) else {}


def _strings(params: Params, name: str) -> tuple[str, ...]:
    return tuple(params.get(name) or ())


@dataclass(frozen=True, kw_only=True)
class Range:
    """Limits of a number, both included."""

    min: int | None = None
    max: int | None = None

    @classmethod
    def from_params(cls, params: Params) -> Range:
        return cls(min=params.get("min"), max=params.get("max"))

    def holds(self, value: float | None) -> bool:
        """Whether the value lies within; None only where there are no limits."""
        if value is None:
            return self.min is None and self.max is None
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


@dataclass(frozen=True, kw_only=True)
class Taint:
    """A taint in Kubernetes spelling."""

    key: str
    value: str
    effect: str

    @classmethod
    def from_params(cls, params: Params) -> Taint:
        return cls(key=params["key"], value=params.get("value") or "", effect=params["effect"])

    def to_result(self) -> dict[str, str]:
        return {"key": self.key, "value": self.value, "effect": self.effect}


GPU_TAINT = Taint(key=GPU_RESOURCE, value="true", effect="NoSchedule")


@dataclass(frozen=True, kw_only=True)
class InstanceRequirements:
    """Which instance types a pool may have; an empty part does not constrain."""

    types: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    generations: Range = field(default_factory=Range)
    architectures: tuple[str, ...] = DEFAULT_ARCHITECTURES
    hypervisors: tuple[str, ...] = ()
    cpus: Range = field(default_factory=Range)
    cpu_values: tuple[int, ...] = ()
    memory_gib: Range = field(default_factory=Range)
    gpu_models: tuple[str, ...] = ()
    gpu_counts: tuple[int, ...] = ()
    gpu_memory_gib: Range = field(default_factory=Range)

    @classmethod
    def from_params(cls, params: Params) -> InstanceRequirements:
        cpus, gpu = section(params, "cpus"), section(params, "gpu")
        return cls(
            types=_strings(params, "types"),
            categories=_strings(params, "categories"),
            families=_strings(params, "families"),
            sizes=_strings(params, "sizes"),
            generations=Range.from_params(section(params, "generations")),
            architectures=_strings(params, "architectures") or DEFAULT_ARCHITECTURES,
            hypervisors=_strings(params, "hypervisors"),
            cpus=Range.from_params(cpus),
            cpu_values=tuple(cpus.get("values") or ()),
            memory_gib=Range.from_params(section(params, "memory_gib")),
            gpu_models=tuple(model.lower().replace(" ", "-") for model in gpu.get("models") or ()),
            gpu_counts=tuple(gpu.get("count") or ()),
            gpu_memory_gib=Range.from_params(section(gpu, "memory_gib")),
        )

    @property
    def patterns(self) -> tuple[str, ...]:
        """What to ask EC2 for: names of types, else all sizes of the families."""
        return self.types or tuple(f"{family}.*" for family in self.families)

    def excluded_by(self, instance: InstanceType) -> str | None:
        """The part that an instance type does not satisfy; None where it satisfies all."""
        family = family_of(instance.name)
        verdicts = {
            "types": not self.types or instance.name in self.types,
            "categories": not self.categories or category_of(family) in self.categories,
            "families": not self.families or family in self.families,
            "sizes": not self.sizes or size_of(instance.name) in self.sizes,
            "generations": self.generations.holds(generation_of(family)),
            "architectures": bool(instance.architectures & set(self.architectures)),
            "hypervisors": not self.hypervisors or instance.hypervisor in self.hypervisors,
            "cpus": self.cpus.holds(instance.vcpus) and (not self.cpu_values or instance.vcpus in self.cpu_values),
            "memory_gib": self.memory_gib.holds(instance.memory_mib / 1024),
            "gpu.models": not self.gpu_models or instance.gpu_model in self.gpu_models,
            "gpu.count": not self.gpu_counts or instance.gpus in self.gpu_counts,
            "gpu.memory_gib": self.gpu_memory_gib.holds(instance.gpu_memory_mib / 1024),
        }
        return next((part for part, holds in verdicts.items() if not holds), None)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    min: int | None = None
    max: int | None = None
    desired: int | None = None
    scope: str = "pool"

    @classmethod
    def from_params(cls, params: Params) -> Scaling:
        return cls(min=params.get("min"), max=params.get("max"), desired=params.get("desired"), scope=params.get("scope") or "pool")


@dataclass(frozen=True, kw_only=True)
class Disk:
    size_gib: int | None = None
    type: str | None = None
    throughput: int | None = None
    iops: int | None = None
    kms_key: str | None = None

    @classmethod
    def from_params(cls, params: Params) -> Disk:
        return cls(
            size_gib=params.get("size_gib"),
            type=params.get("type"),
            throughput=params.get("throughput"),
            iops=params.get("iops"),
            kms_key=params.get("kms_key"),
        )

    def with_defaults(self) -> Disk:
        """The disk of a new pool."""
        kind = self.type or DEFAULT_DISK_TYPE
        throughput = self.throughput or (DEFAULT_THROUGHPUT if kind == "gp3" else None)
        return Disk(size_gib=self.size_gib or DEFAULT_DISK_GIB, type=kind, throughput=throughput, iops=self.iops, kms_key=self.kms_key)

    def over(self, observed: Disk) -> Disk:
        """The observed disk with what the user set; what another type of volume does not have is left out."""
        kind = self.type or observed.type
        same = kind == observed.type
        return Disk(
            size_gib=self.size_gib or observed.size_gib,
            type=kind,
            throughput=self.throughput or (observed.throughput if same else None),
            iops=self.iops or (observed.iops if same else None),
            kms_key=self.kms_key or observed.kms_key,
        )


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How instances are bought. ``reservations`` are ids; base and percentage are those of one mixed Auto Scaling group."""

    types: tuple[str, ...] = DEFAULT_CAPACITY
    on_demand_base: int | None = None
    on_demand_percentage: int | None = None
    reservations: tuple[str, ...] = ()

    @classmethod
    def from_params(cls, params: Params) -> Capacity:
        return cls(
            types=_strings(params, "types") or DEFAULT_CAPACITY,
            on_demand_base=params.get("on_demand_base"),
            on_demand_percentage=params.get("on_demand_percentage"),
            reservations=_strings(params, "reservations"),
        )

    @property
    def mixed(self) -> bool:
        """Whether On-Demand and Spot instances are in one group."""
        return self.on_demand_base is not None or self.on_demand_percentage is not None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a pool may grow to; ``gpus`` are physical ones."""

    gpus: int | None = None
    cpus: int | None = None
    memory_gib: int | None = None

    @classmethod
    def from_params(cls, params: Params) -> Limits:
        return cls(gpus=params.get("gpus"), cpus=params.get("cpus"), memory_gib=params.get("memory_gib"))


@dataclass(frozen=True, kw_only=True)
class Ami:
    """The image: a family and a release of it, or one of the user's own by id, name and owner, or SSM parameter."""

    family: str | None = None
    release: str | None = None
    id: str | None = None
    name: str | None = None
    owner: str | None = None
    ssm_parameter: str | None = None

    @classmethod
    def from_params(cls, params: Params) -> Ami:
        return cls(**{name: params.get(name) for name in ("family", "release", "id", "name", "owner", "ssm_parameter")})

    @property
    def custom(self) -> bool:
        """Whether the image is the user's own."""
        return bool(self.id or self.name or self.ssm_parameter)


@dataclass(frozen=True, kw_only=True)
class WarmPool:
    """Instances that are kept prepared. None is what the user did not set."""

    min_size: int | None = None
    max_prepared: int | None = None
    state: str | None = None
    reuse_on_scale_in: bool | None = None

    @classmethod
    def from_params(cls, params: Params) -> WarmPool:
        return cls(**{name: params.get(name) for name in ("min_size", "max_prepared", "state", "reuse_on_scale_in")})


@dataclass(frozen=True, kw_only=True)
class Disruption:
    """When nodes may go. ``budgets`` are Karpenter's own; durations are Go's (30s, 10m) or Never."""

    consolidation: str | None = None
    consolidate_after: str | None = None
    budgets: tuple[t.Mapping[str, t.Any], ...] | None = None
    expire_after: str | None = None

    @classmethod
    def from_params(cls, params: Params) -> Disruption:
        budgets = params.get("budgets")
        return cls(
            consolidation=params.get("consolidation"),
            consolidate_after=params.get("consolidate_after"),
            budgets=None if budgets is None else tuple(budgets),
            expire_after=params.get("expire_after"),
        )


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What is merged last into the service's own forms: dictionaries deep, lists replaced."""

    node_pool: Params = field(default_factory=dict)
    node_class: Params = field(default_factory=dict)
    launch_template: Params = field(default_factory=dict)
    node_group: Params = field(default_factory=dict)
    auto_scaling_group: Params = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Params) -> Overrides:
        names = ("node_pool", "node_class", "launch_template", "node_group", "auto_scaling_group")
        return cls(**{name: section(params, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class Update:
    max_unavailable: int | None = None
    strategy: str | None = None

    @classmethod
    def from_params(cls, params: Params) -> Update:
        return cls(max_unavailable=params.get("max_unavailable"), strategy=params.get("strategy"))


@dataclass(frozen=True, kw_only=True)
class Pool:
    """One pool. ``path`` is where its options stand, for faults."""

    name: str
    path: str = ""
    accelerator: str = "nvidia"
    provisioner: str = "managed_node_group"
    instances: InstanceRequirements = field(default_factory=InstanceRequirements)
    capacity: Capacity = field(default_factory=Capacity)
    zones: tuple[str, ...] = ()
    scaling: Scaling = field(default_factory=Scaling)
    limits: Limits = field(default_factory=Limits)
    priority: int | None = None
    ami: Ami = field(default_factory=Ami)
    disk: Disk = field(default_factory=Disk)
    instance_store: str | None = None
    labels: t.Mapping[str, str] | None = None
    taints: tuple[Taint, ...] | None = None
    startup_taints: tuple[Taint, ...] | None = None
    mig: Mig | None = None
    sharing: Sharing | None = None
    sharing_backend: str | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    efa: bool | None = None
    placement_group: str | None = None
    node_role: str | None = None
    instance_profile: str | None = None
    policies: tuple[str, ...] = ()
    update: Update = field(default_factory=Update)
    warm_pool: WarmPool | None = None
    disruption: Disruption = field(default_factory=Disruption)
    repair: bool | None = None
    tags: t.Mapping[str, str] | None = None
    user_data: tuple[str, ...] | None = None
    adopt: bool = False
    overrides: Overrides = field(default_factory=Overrides)
    volumes_key: str | None = None

    @classmethod
    def from_params(cls, params: Params, *, path: str = "", node_role: str | None = None, volumes_key: str | None = None) -> Pool:
        """From validated options (pool_faults); ``node_role`` is the role of pools that name none, ``volumes_key`` the KMS key of new ones."""
        disk, sharing, mig, network = section(params, "disk"), params.get("sharing"), params.get("mig"), section(params, "network")
        iam, user_data, warm_pool = section(params, "iam"), params.get("user_data"), params.get("warm_pool")
        backend = None if sharing is None else sharing.get("backend")
        return cls(
            name=params["name"],
            path=path,
            accelerator=params.get("accelerator") or "nvidia",
            provisioner=params.get("provisioner") or "managed_node_group",
            instances=InstanceRequirements.from_params(section(params, "instances")),
            capacity=Capacity.from_params(section(params, "capacity")),
            zones=_strings(params, "zones"),
            scaling=Scaling.from_params(section(params, "scaling")),
            limits=Limits.from_params(section(params, "limits")),
            priority=params.get("priority"),
            ami=Ami.from_params(section(params, "ami")),
            disk=Disk.from_params(disk),
            instance_store=disk.get("instance_store"),
            labels=_texts(params.get("labels")),
            taints=_taints(params.get("taints")),
            startup_taints=_taints(params.get("startup_taints")),
            mig=None if mig is None else Mig.from_params(mig, suffixes=backend == _OPERATOR),
            sharing=None if sharing is None else Sharing.from_params(sharing),
            sharing_backend=backend,
            subnets=_strings(network, "subnets"),
            security_groups=_strings(network, "security_groups"),
            efa=network.get("efa"),
            placement_group=network.get("placement_group"),
            node_role=iam.get("node_role") or (None if iam.get("instance_profile") or iam.get("policies") else node_role),
            instance_profile=iam.get("instance_profile"),
            policies=_strings(iam, "policies"),
            update=Update.from_params(section(params, "update")),
            warm_pool=None if warm_pool is None else WarmPool.from_params(warm_pool),
            disruption=Disruption.from_params(section(params, "disruption")),
            repair=section(params, "repair").get("enabled"),
            tags=_texts(params.get("tags")),
            user_data=None if user_data is None else tuple(user_data),
            adopt=bool(params.get("adopt")),
            overrides=Overrides.from_params(section(params, "overrides")),
            volumes_key=volumes_key,
        )

    @property
    def type_patterns(self) -> tuple[str, ...]:
        """What to ask EC2 for. Karpenter finds types by itself; what GPU counts they have has to be known all the same."""
        if self.instances.patterns or not (self.nvidia and self.provisioner == "karpenter"):
            return self.instances.patterns
        return tuple(f"{category}*" for category in self.instances.categories or GPU_CATEGORIES)

    @property
    def capacity_types(self) -> tuple[str, ...]:
        return self.capacity.types

    @property
    def max_gpus(self) -> int | None:
        return self.limits.gpus

    @property
    def ami_family(self) -> str | None:
        return self.ami.family

    @property
    def gpu_resources(self) -> GpuResources:
        """What its nodes advertise instead of, or besides, their physical GPUs."""
        return GpuResources(sharing=self.created_sharing, mig=self.mig)

    @property
    def own_role(self) -> bool:
        """Whether its nodes have a role that is made for this pool alone."""
        return bool(self.policies)

    @property
    def nvidia(self) -> bool:
        return self.accelerator == "nvidia"

    @property
    def architecture(self) -> str:
        return self.instances.architectures[0]

    @property
    def effective_ami_family(self) -> str:
        return self.ami_family or DEFAULT_AMI_FAMILY

    @property
    def raid0(self) -> bool:
        """Whether the instances' own disks are given to containers; nodeadm does that, and Bottlerocket has none."""
        return self.effective_ami_family == "al2023" and self.instance_store != "none"

    @property
    def created_taints(self) -> tuple[Taint, ...]:
        """The taints of a new group."""
        if self.taints is not None:
            return self.taints
        return (GPU_TAINT,) if self.nvidia else ()

    @property
    def created_sharing(self) -> Sharing:
        return self.sharing or Sharing()

    @property
    def backend(self) -> str:
        """What carries sharing and MIG out: our device plugin, that of the image, or the GPU Operator."""
        if self.sharing_backend == _OPERATOR:
            return _OPERATOR
        return "bottlerocket" if self.effective_ami_family == "bottlerocket" else "device_plugin"

    @property
    def configuration(self) -> str | None:
        """The device plugin configuration of its nodes; None without GPUs, and where something else brings a device plugin."""
        return configuration_name(self.name) if self.nvidia and self.backend == "device_plugin" else None

    @property
    def wanted_labels(self) -> dict[str, str]:
        """The labels of a group: the user's and those that other tools choose nodes by.

        The GPU Operator's mig-manager cuts the GPUs of a node as its label says, by the name of a layout in the operator's file.
        """
        labels = {**(self.labels or {}), NODEPOOL_LABEL: self.name}
        if self.nvidia:
            labels[GPU_PRESENT_LABEL] = "true"
        if self.configuration is not None:
            labels[DEVICE_PLUGIN_CONFIG_LABEL] = self.configuration
        if self.mig is not None and self.backend == _OPERATOR:
            labels[MIG_CONFIG_LABEL] = configuration_name(self.name)
        return labels


def _taints(values: t.Iterable[Params] | None) -> tuple[Taint, ...] | None:
    return None if values is None else tuple(Taint.from_params(taint) for taint in values)


def _texts(values: t.Mapping[str, t.Any] | None) -> dict[str, str] | None:
    """Labels and tags as the services take them; None where they are not managed."""
    return None if values is None else tag_texts(values)
