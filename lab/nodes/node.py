"""Pure: the Node object that an instance registers, and what a managed node group keeps in step on it."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from lab.kubernetes.client import Json
from lab.nodes import mig
from lab.nodes.userdata import Boot

#: Known to the simulation only: what the machine physically has, and what a node group has put on the node.
GPUS = "lab.gpuops.dev/gpus"
GPU_MODEL = "lab.gpuops.dev/gpu-model"
GPU_MEMORY = "lab.gpuops.dev/gpu-memory-mib"
#: JSON: for each GPU its GPU instances by profile, null where its MIG mode is off; absent where it is off on all. The NVIDIA compute mode.
MIG = "lab.gpuops.dev/mig"
COMPUTE_MODE = "lab.gpuops.dev/compute-mode"
GROUP_KEYS = "lab.gpuops.dev/nodegroup-keys"
#: JSON: the settings of Bottlerocket's own device plugin, by the user data; on every Bottlerocket node with GPUs.
DEVICE_PLUGIN = "lab.gpuops.dev/bottlerocket-device-plugin"

NVIDIA = "NVIDIA"
EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}
ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
VM_OVERHEAD = 0.075  # of the memory that EC2 states, the hypervisor's and firmware's: Karpenter's default vmMemoryOverheadPercent
EVICTION_MIB = 100  # kubelet's default evictionHard memory.available


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What the registrar knows of one EC2 instance of a cluster."""

    instance_id: str
    name: str
    private_ip: str
    instance_type: str
    zone: str
    zone_id: str
    image_id: str
    image_name: str
    tags: t.Mapping[str, str]
    ami_type: str = ""  # of its managed node group

    @property
    def provider_id(self) -> str:
        return f"aws:///{self.zone}/{self.instance_id}"

    @property
    def region(self) -> str:
        return self.zone[:-1]

    @property
    def nodegroup(self) -> str | None:
        return self.tags.get("eks:nodegroup-name")


@dataclass(frozen=True, slots=True)
class GroupState:
    """Labels and taints that a managed node group puts on its nodes."""

    labels: t.Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Json, ...] = ()


def belongs_to(tags: t.Mapping[str, str]) -> set[str]:
    """Names of the clusters that an instance's tags name."""
    names = {key.removeprefix("kubernetes.io/cluster/") for key in tags if key.startswith("kubernetes.io/cluster/")}
    if "eks:cluster-name" in tags:
        names.add(tags["eks:cluster-name"])
    return names


def group_state(group: Json, instance: Instance) -> GroupState:
    """Labels and taints from eks:DescribeNodegroup, EKS's own labels included (EKS User Guide, "Managed node groups")."""
    labels = {
        "eks.amazonaws.com/nodegroup": group["nodegroupName"],
        "eks.amazonaws.com/capacityType": group.get("capacityType", "ON_DEMAND"),
        "eks.amazonaws.com/nodegroup-image": instance.image_id,
    }
    if template := group.get("launchTemplate"):
        labels["eks.amazonaws.com/sourceLaunchTemplateId"] = template["id"]
        labels["eks.amazonaws.com/sourceLaunchTemplateVersion"] = str(template["version"])
    taints = tuple(
        {"key": taint["key"], "value": taint.get("value", ""), "effect": EFFECTS[taint["effect"]]} for taint in group.get("taints") or ()
    )
    return GroupState({**(group.get("labels") or {}), **labels}, taints)


def build(instance: Instance, instance_type: Json, version: str, group: GroupState | None, boot: Boot | None = None) -> Json:
    """The Node as its kubelet would register it: no GPU, since no device plugin has spoken to that kubelet yet.

    A managed node group's labels and taints prevail over those of the user data.
    """
    state = group or GroupState()
    asked = boot or Boot()
    gpus = nvidia_gpus(instance_type)
    annotations = {GROUP_KEYS: _group_keys(state)} if group else {}
    if gpus and has_driver(instance):
        annotations |= {
            GPUS: str(sum(g["Count"] for g in gpus)),
            GPU_MODEL: gpus[0]["Name"].lower(),
            GPU_MEMORY: str(gpus[0]["MemoryInfo"]["SizeInMiB"]),
        }
    if asked.layouts:
        annotations[MIG] = json.dumps(asked.layouts)
    if GPUS in annotations and operating_system(instance) == "bottlerocket":
        annotations[DEVICE_PLUGIN] = json.dumps(asked.device_plugin)
    of_group = {_taint_key(taint) for taint in state.taints}
    own_taints = [taint for taint in asked.taints if _taint_key(taint) not in of_group]
    capacity, allocatable = resources(instance_type)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": instance.name,
            "annotations": annotations,
            "labels": {**asked.labels, **own_labels(instance, instance_type), **state.labels},
        },
        "spec": {"providerID": instance.provider_id, "taints": [*own_taints, *state.taints]},
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": [
                {"type": "InternalIP", "address": instance.private_ip},
                {"type": "InternalDNS", "address": instance.name},
                {"type": "Hostname", "address": instance.name},
            ],
            "nodeInfo": _node_info(instance, instance_type, version),
        },
    }


def remove_gpus(node: Json) -> None:
    """What a machine is whose driver does not find its GPUs."""
    for key in (GPUS, GPU_MODEL, GPU_MEMORY, MIG, DEVICE_PLUGIN):
        node["metadata"]["annotations"].pop(key, None)


def own_labels(instance: Instance, instance_type: Json) -> dict[str, str]:
    """Labels of kubelet and cloud controller, and nodeadm's own for a GPU (amazon-eks-ami #2607)."""
    architecture = _architecture(instance_type)
    labels = {
        "kubernetes.io/hostname": instance.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/instance-type": instance.instance_type,
        "node.kubernetes.io/instance-type": instance.instance_type,
        "topology.kubernetes.io/region": instance.region,
        "topology.kubernetes.io/zone": instance.zone,
        "topology.k8s.aws/zone-id": instance.zone_id,
        "failure-domain.beta.kubernetes.io/region": instance.region,
        "failure-domain.beta.kubernetes.io/zone": instance.zone,
    }
    if nvidia_gpus(instance_type) and has_driver(instance) and operating_system(instance) == "al2023":
        labels["nvidia.com/gpu.present"] = "true"
    return labels


def nvidia_gpus(instance_type: Json) -> list[Json]:
    """GpuInfo.Gpus of ec2:DescribeInstanceTypes, NVIDIA's with at least one whole GPU."""
    gpus = (instance_type.get("GpuInfo") or {}).get("Gpus") or []
    return [g for g in gpus if str(g.get("Manufacturer", "")).upper() == NVIDIA and g.get("Count", 0) > 0]


def reboots(boot: Boot, instance_type: Json) -> bool:
    """Whether the machine boots once more before it joins, since its GPUs take MIG mode only then."""
    gpus = nvidia_gpus(instance_type)
    found = mig.product(gpus[0]["Name"].lower(), gpus[0]["MemoryInfo"]["SizeInMiB"]) if gpus else None
    return found is not None and found.reboot and any(layout is not None for layout in boot.layouts)


def resources(instance_type: Json) -> tuple[dict[str, str], dict[str, str]]:
    """(capacity, allocatable): pods by ENIs and addresses; reservations by nodeadm's rules (amazon-eks-ami, nodeadm kubelet config)."""
    cpus = int(instance_type["VCpuInfo"]["DefaultVCpus"])
    network = instance_type["NetworkInfo"]
    pods = int(network["MaximumNetworkInterfaces"]) * (int(network["Ipv4AddressesPerInterface"]) - 1) + 2
    memory = int(int(instance_type["MemoryInfo"]["SizeInMiB"]) * (1 - VM_OVERHEAD))
    reserved = 11 * pods + 255
    capacity = {"cpu": str(cpus), "memory": f"{memory}Mi", "pods": str(pods), "ephemeral-storage": "80Gi"}
    allocatable = {
        **capacity,
        "cpu": f"{cpus * 1000 - reserved_millicpus(cpus)}m",
        "memory": f"{max(memory - reserved - EVICTION_MIB, 0)}Mi",
    }
    return capacity, allocatable


def reserved_millicpus(cpus: int) -> int:
    """nodeadm's kube-reserved CPU: 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest."""
    shares = [60.0, 10.0, 5.0, 5.0]
    return int(sum(shares[:cpus]) + 2.5 * max(0, cpus - len(shares)))


def operating_system(instance: Instance) -> str:
    """``al2023``, ``bottlerocket`` or ``other``, by the node group's AMI type, else by the name of the image."""
    name = f"{instance.ami_type} {instance.image_name}".lower()
    if "bottlerocket" in name:
        return "bottlerocket"
    return "al2023" if "al2023" in name or "amazon-linux-2023" in name else "other"


def has_driver(instance: Instance) -> bool:
    """Whether the image brings NVIDIA's driver: EKS's images do only in their NVIDIA variants; a custom image is taken to."""
    if instance.ami_type and instance.ami_type != "CUSTOM":
        return "NVIDIA" in instance.ami_type or "GPU" in instance.ami_type
    name = instance.image_name.lower()
    of_eks = name.startswith(("amazon-eks-", "bottlerocket-"))
    return not of_eks or "nvidia" in name or "gpu" in name


def group_change(node: Json, state: GroupState) -> Json | None:
    """The merge patch that carries a node group's labels and taints to a node, None when nothing differs.

    Only what the group itself has put there is taken away: labels and taints of others stay.
    """
    metadata, before = node["metadata"], _before(node)
    labels = metadata.get("labels") or {}
    change: dict[str, str | None] = {k: v for k, v in state.labels.items() if labels.get(k) != v}
    change |= {k: None for k in before["labels"] if k not in state.labels and k in labels}
    ours = {tuple(k) for k in before["taints"]} | {_taint_key(taint) for taint in state.taints}
    present = node["spec"].get("taints") or []
    wanted = [taint for taint in present if _taint_key(taint) not in ours] + list(state.taints)
    if not change and _as_set(present) == _as_set(wanted) and metadata.get("annotations", {}).get(GROUP_KEYS) == _group_keys(state):
        return None
    return {
        "metadata": {"labels": change, "annotations": {GROUP_KEYS: _group_keys(state)}},
        "spec": {"taints": wanted},
    }


def _before(node: Json) -> dict[str, t.Any]:
    text = (node["metadata"].get("annotations") or {}).get(GROUP_KEYS)
    return json.loads(text) if text else {"labels": [], "taints": []}


def _group_keys(state: GroupState) -> str:
    return json.dumps({"labels": sorted(state.labels), "taints": sorted(_taint_key(taint) for taint in state.taints)})


def _taint_key(taint: Json) -> tuple[str, str]:
    return taint["key"], taint["effect"]


def _as_set(taints: list[Json]) -> set[tuple[str, str, str]]:
    return {(taint["key"], taint["effect"], taint.get("value") or "") for taint in taints}


def _architecture(instance_type: Json) -> str:
    supported = instance_type["ProcessorInfo"]["SupportedArchitectures"]
    return next((ARCHITECTURES[a] for a in supported if a in ARCHITECTURES), "amd64")


def _node_info(instance: Instance, instance_type: Json, version: str) -> Json:
    images = {"al2023": "Amazon Linux 2023", "bottlerocket": "Bottlerocket OS", "other": instance.image_name or "Linux"}
    return {
        "architecture": _architecture(instance_type),
        "operatingSystem": "linux",
        "osImage": images[operating_system(instance)],
        "kubeletVersion": f"v{version}.0-eks-lab",
        "kubeProxyVersion": f"v{version}.0-eks-lab",
        "containerRuntimeVersion": "containerd://2.1.0",
        "kernelVersion": "6.12.0",
        "machineID": instance.instance_id,
        "systemUUID": instance.instance_id,
        "bootID": instance.instance_id,
    }
