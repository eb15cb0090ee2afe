"""Pure: what the autoscaler looks at, what it remembers between two looks, and what it decides.

Amounts of resources are thousandths (a CPU is 1000), times are seconds of the lab's clock.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

Resources = t.Mapping[str, int]
Labels = t.Mapping[str, str]

NEVER = float("-inf")
GPU = "nvidia.com/gpu"
#: Names of GPUs that make a node with GPU_LABEL ready.
GPU_RESOURCES = (GPU, "habana.ai/gaudi", "gpu.intel.com/xe", "amd.com/gpu", "microsoft.com/directx")
GPU_LABEL = "k8s.amazonaws.com/accelerator"
TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
DELETION_CANDIDATE = "DeletionCandidateOfClusterAutoscaler"


@dataclass(frozen=True, slots=True)
class Taint:
    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class Toleration:
    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One expression of a node selector term."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod, or the pod that a DaemonSet would make. ``terms`` are alternatives of required node affinity."""

    uid: str
    name: str
    namespace: str = "default"
    node: str = ""
    requests: Resources = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    selector: Labels = field(default_factory=dict)
    terms: tuple[tuple[Requirement, ...], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    owner: str = ""  # the controller's uid, empty for a bare pod
    owner_kind: str = ""
    priority: int = 0
    priority_class: str = ""
    safe_to_evict: bool | None = None
    local_storage: bool = False
    mirror: bool = False
    deleting: bool = False
    finished: bool = False
    unschedulable: bool = False
    fresh: bool = False  # made so recently that more of its kind may follow
    created: float = NEVER

    @property
    def of_daemon_set(self) -> bool:
        return self.owner_kind == "DaemonSet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of the cluster, or the template of one that a group would add, with the pods that a fresh one has."""

    name: str
    instance_id: str = ""
    labels: Labels = field(default_factory=dict)
    annotations: Labels = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    capacity: Resources = field(default_factory=dict)
    allocatable: Resources = field(default_factory=dict)
    ready: bool = True
    ready_since: float = NEVER
    created: float = NEVER
    unschedulable: bool = False
    pods: tuple[Pod, ...] = ()

    def taint(self, key: str) -> Taint | None:
        return next((taint for taint in self.taints if taint.key == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceType:
    name: str
    cpus: int
    memory_mib: int
    gpus: int = 0
    architecture: str = "amd64"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedGroup:
    """What eks:DescribeNodegroup says of a managed node group, labels and taints in the form that the autoscaler gives them."""

    labels: Labels = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    tags: Labels = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """An Auto Scaling group. ``refused``: its last launch since the autoscaler resized it has failed."""

    name: str
    minimum: int = 0
    maximum: int = 1
    desired: int = 0
    zones: tuple[str, ...] = ()
    instance_type: str = ""
    tags: Labels = field(default_factory=dict)
    instances: tuple[str, ...] = ()
    refused: bool = False
    managed: ManagedGroup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget and how many evictions it allows now. ``selector`` None selects nothing."""

    namespace: str
    selector: tuple[Requirement, ...] | None
    allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags that the model knows, by their own names and defaults; durations are seconds."""

    discovery: tuple[tuple[str, str], ...] = ()  # tag key, value ("" matches any)
    groups: tuple[tuple[str, int, int], ...] = ()  # --nodes: name, minimum, maximum
    namespace: str = "kube-system"
    aws_use_static_instance_list: bool = False
    expander: tuple[str, ...] = ("least-waste",)
    scan_interval: float = 10.0
    max_nodes_total: int = 0
    max_nodes_per_scaleup: int = 1000
    balance_similar_node_groups: bool = False
    balancing_ignore_label: tuple[str, ...] = ()
    enforce_node_group_min_size: bool = False
    scale_up_from_zero: bool = True
    scale_down_enabled: bool = True
    scale_down_unready_enabled: bool = True
    scale_down_delay_after_add: float = 600.0
    scale_down_delay_after_delete: float = 0.0
    scale_down_delay_after_failure: float = 180.0
    scale_down_unneeded_time: float = 600.0
    scale_down_unready_time: float = 1200.0
    scale_down_utilization_threshold: float = 0.5
    scale_down_gpu_utilization_threshold: float = 0.5
    ignore_daemonsets_utilization: bool = False
    ignore_mirror_pods_utilization: bool = False
    max_node_provision_time: float = 900.0
    max_node_startup_time: float = 900.0
    max_pod_eviction_time: float = 120.0
    max_graceful_termination_sec: float = 600.0
    max_scale_down_parallelism: int = 10
    max_drain_parallelism: int = 1
    unremovable_node_recheck_timeout: float = 300.0
    node_info_cache_expire_time: float = 87600 * 3600.0
    initial_node_group_backoff_duration: float = 300.0
    max_node_group_backoff_duration: float = 1800.0
    node_group_backoff_reset_timeout: float = 10800.0
    ok_total_unready_count: int = 3
    max_total_unready_percentage: float = 45.0
    expendable_pods_priority_cutoff: int = -10
    new_pod_scale_up_delay: float = 0.0
    skip_nodes_with_system_pods: bool = True
    skip_nodes_with_local_storage: bool = True
    skip_nodes_with_custom_controller_pods: bool = True
    blocking_system_pod_distruption_timeout: float = 3600.0  # spelt so
    cordon_node_before_terminating: bool = True
    force_ds: bool = False
    scale_from_unschedulable: bool = False
    memory_difference_ratio: float = 0.015
    max_free_difference_ratio: float = 0.05
    max_allocatable_difference_ratio: float = 0.05
    startup_taint: tuple[str, ...] = ()
    startup_taint_prefix: tuple[str, ...] = ()
    status_taint: tuple[str, ...] = ()
    ignore_taint: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that one look has seen. ``priorities`` is the text of the priority expander's ConfigMap, None without one."""

    now: float
    nodes: tuple[Node, ...] = ()
    pods: tuple[Pod, ...] = ()
    groups: tuple[Group, ...] = ()
    daemons: tuple[Pod, ...] = ()
    budgets: tuple[Budget, ...] = ()
    types: t.Mapping[str, InstanceType] = field(default_factory=dict)
    priorities: str | None = None


@dataclass(frozen=True, slots=True)
class Cached:
    node: Node
    added: float


@dataclass(frozen=True, slots=True)
class Request:
    """A scale-up under way."""

    increase: int
    expected: float


@dataclass(frozen=True, slots=True)
class Backoff:
    duration: float
    until: float
    failed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a running autoscaler knows from earlier; a restart begins with an empty one."""

    templates: t.Mapping[str, Cached] = field(default_factory=dict)
    requests: t.Mapping[str, Request] = field(default_factory=dict)
    backoffs: t.Mapping[str, Backoff] = field(default_factory=dict)
    unregistered: t.Mapping[str, float] = field(default_factory=dict)  # instance id -> first seen
    unneeded: t.Mapping[str, float] = field(default_factory=dict)  # node -> since
    unremovable: t.Mapping[str, float] = field(default_factory=dict)  # node -> until
    last_scale_up: float = NEVER
    last_delete: float = NEVER
    last_failure: float = NEVER


@dataclass(frozen=True, slots=True)
class Resize:
    """SetDesiredCapacity."""

    group: str
    size: int


@dataclass(frozen=True, slots=True)
class Removal:
    """A node to be tainted, drained of ``pods`` and terminated."""

    node: str
    instance_id: str
    group: str
    pods: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True)
class Termination:
    """An instance that has not become a node in time."""

    instance_id: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, in this order, and why; ``memory`` goes into the next decision."""

    resizes: tuple[Resize, ...] = ()
    terminations: tuple[Termination, ...] = ()
    removals: tuple[Removal, ...] = ()
    notes: tuple[str, ...] = ()
    memory: Memory
