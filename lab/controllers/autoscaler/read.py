"""Pure: objects of Kubernetes and AWS as the decision sees them."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass

from lab.controllers.autoscaler.model import Budget, Group, InstanceType, ManagedGroup, Node, Pod, Requirement, Taint, Toleration
from lab.controllers.autoscaler.quantities import resources, total
from lab.kubernetes.client import Json

SAFE = "cluster-autoscaler.kubernetes.io/safe-to-evict"
SAFE_VOLUMES = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
MIRROR = "kubernetes.io/config.mirror"
FRESH_SECONDS = 2.0  # of real time, in which a controller makes its pods
_EFFECTS = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}
_ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
#: What the DaemonSet controller lets its pods tolerate.
_DAEMON_TOLERATIONS = tuple(
    Toleration(f"node.kubernetes.io/{name}", "Exists", "", effect)
    for name, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
)


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by the lab's clock and by the real one that Kubernetes writes; a real second is ``factor`` of the lab's."""

    lab: float
    real: datetime.datetime
    factor: float

    def at(self, text: str | None) -> float:
        """A time of Kubernetes on the lab's clock; now when there is none."""
        return self.lab - self.age(text) * self.factor

    def age(self, text: str | None) -> float:
        """Real seconds since then."""
        return max(0.0, (self.real - datetime.datetime.fromisoformat(text)).total_seconds()) if text else 0.0


def pod(raw: Json, moment: Moment) -> Pod:
    metadata, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    annotations = metadata.get("annotations") or {}
    owner = _controller(metadata)
    scheduled = _condition(status, "PodScheduled")
    return Pod(
        uid=metadata["uid"],
        name=metadata["name"],
        namespace=metadata["namespace"],
        node=spec.get("nodeName") or "",
        requests=requests(spec),
        labels=metadata.get("labels") or {},
        **_placement(spec),
        owner=owner.get("uid", ""),
        owner_kind=owner.get("kind", ""),
        priority=spec.get("priority") or 0,
        priority_class=spec.get("priorityClassName") or "",
        safe_to_evict={"true": True, "false": False}.get(annotations.get(SAFE, "")),
        local_storage=_has_local_storage(spec, annotations),
        mirror=MIRROR in annotations,
        deleting="deletionTimestamp" in metadata,
        finished=status.get("phase") in ("Succeeded", "Failed"),
        unschedulable=scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable",
        fresh=moment.age(metadata.get("creationTimestamp")) < FRESH_SECONDS,
        created=moment.at(metadata.get("creationTimestamp")),
    )


def daemon(raw: Json) -> Pod:
    """The pod that a DaemonSet makes for a node that suits it."""
    metadata, spec = raw["metadata"], raw["spec"]["template"]["spec"]
    placement = _placement(spec)
    placement["tolerations"] = (*placement["tolerations"], *_DAEMON_TOLERATIONS)
    return Pod(
        uid=f"daemon-{metadata['uid']}",
        name=metadata["name"],
        namespace=metadata["namespace"],
        requests=requests(spec),
        **placement,
        owner=metadata["uid"],
        owner_kind="DaemonSet",
        priority_class=spec.get("priorityClassName") or "",
    )


def requests(spec: Json) -> dict[str, int]:
    """What the scheduler reserves: the containers' sum or the largest init container, sidecars and overhead added."""
    main = [_requested(container) for container in spec.get("containers") or ()]
    sidecars: list[dict[str, int]] = []
    peaks: list[dict[str, int]] = []
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars.append(_requested(container))
        peaks.append(total([*sidecars, *([] if container.get("restartPolicy") == "Always" else [_requested(container)])]))
    found = total([*main, *sidecars])
    for peak in peaks:
        found |= {name: max(amount, found.get(name, 0)) for name, amount in peak.items()}
    return total([found, resources(spec.get("overhead"))])


def _requested(container: Json) -> dict[str, int]:
    block = container.get("resources") or {}
    return {**resources(block.get("limits")), **resources(block.get("requests"))}


def _controller(metadata: Json) -> Json:
    owners: list[Json] = metadata.get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), {})


def _condition(status: Json, kind: str) -> Json:
    conditions: list[Json] = status.get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), {})


def _placement(spec: Json) -> dict[str, t.Any]:
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [term for term in affinity.get("nodeSelectorTerms") or () if term.get("matchExpressions")]
    tolerations = (
        Toleration(item.get("key") or "", item.get("operator") or "Equal", item.get("value") or "", item.get("effect") or "")
        for item in spec.get("tolerations") or ()
    )
    return {
        "selector": spec.get("nodeSelector") or {},
        "terms": tuple(tuple(_requirement(each) for each in term["matchExpressions"]) for term in terms),
        "tolerations": tuple(tolerations),
    }


def _requirement(raw: Json) -> Requirement:
    return Requirement(raw["key"], raw["operator"], tuple(raw.get("values") or ()))


def _has_local_storage(spec: Json, annotations: t.Mapping[str, str]) -> bool:
    """hostPath, or emptyDir on disk, unless an annotation names the volume."""
    safe = annotations.get(SAFE_VOLUMES, "").split(",")
    return any(
        volume["name"] not in safe
        and ("hostPath" in volume or ("emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory"))
        for volume in spec.get("volumes") or ()
    )


def node(raw: Json, moment: Moment) -> Node:
    metadata, spec, status = raw["metadata"], raw["spec"], raw.get("status") or {}
    ready = _condition(status, "Ready")
    return Node(
        name=metadata["name"],
        instance_id=(spec.get("providerID") or "").rpartition("/")[2],
        labels=metadata.get("labels") or {},
        annotations=metadata.get("annotations") or {},
        taints=tuple(Taint(item["key"], item.get("value") or "", item["effect"]) for item in spec.get("taints") or ()),
        capacity=resources(status.get("capacity")),
        allocatable=resources(status.get("allocatable")),
        ready=ready.get("status") == "True",
        ready_since=moment.at(ready.get("lastTransitionTime")),
        created=moment.at(metadata.get("creationTimestamp")),
        unschedulable=bool(spec.get("unschedulable")),
    )


def budget(raw: Json) -> Budget:
    selector = raw["spec"].get("selector")
    requirements = None
    if selector is not None:
        equal = [Requirement(key, "In", (value,)) for key, value in (selector.get("matchLabels") or {}).items()]
        requirements = (*equal, *(_requirement(each) for each in selector.get("matchExpressions") or ()))
    return Budget(
        namespace=raw["metadata"]["namespace"],
        selector=requirements,
        allowed=int((raw.get("status") or {}).get("disruptionsAllowed") or 0),
    )


def group(raw: Json, instance_type: str, managed: ManagedGroup | None, limits: tuple[int, int] | None, *, refused: bool) -> Group:
    """An Auto Scaling group; ``limits`` are those of ``--nodes``, which come before its own."""
    minimum, maximum = limits or (raw["MinSize"], raw["MaxSize"])
    return Group(
        name=raw["AutoScalingGroupName"],
        minimum=minimum,
        maximum=maximum,
        desired=raw["DesiredCapacity"],
        zones=tuple(raw.get("AvailabilityZones") or ()),
        instance_type=instance_type,
        tags=tags_of(raw),
        instances=tuple(instance["InstanceId"] for instance in raw.get("Instances") or ()),
        refused=refused,
        managed=managed,
    )


def tags_of(raw: Json) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value") or "" for tag in raw.get("Tags") or ()}


def refused(activities: t.Iterable[Json], since: datetime.datetime) -> bool:
    """Whether one of the activities (newest first) that began since then has failed."""
    for activity in activities:
        if activity["StartTime"] < since:
            return False
        if activity["StatusCode"] == "Failed":
            return True
    return False


def instance_type(raw: Json) -> InstanceType:
    """Of ec2:DescribeInstanceTypes: GPUs of every maker are counted."""
    architectures = raw["ProcessorInfo"]["SupportedArchitectures"]
    return InstanceType(
        name=raw["InstanceType"],
        cpus=raw["VCpuInfo"]["DefaultVCpus"],
        memory_mib=raw["MemoryInfo"]["SizeInMiB"],
        gpus=sum(gpu.get("Count", 0) for gpu in (raw.get("GpuInfo") or {}).get("Gpus") or ()),
        architecture=next((_ARCHITECTURES[name] for name in architectures if name in _ARCHITECTURES), "amd64"),
    )


def managed_group(raw: Json) -> ManagedGroup:
    """Of eks:DescribeNodegroup: its labels with those that the autoscaler adds, and taints that have a value."""
    own = {
        "diskSize": str(raw["diskSize"]) if raw.get("diskSize") is not None else "",
        "amiType": raw.get("amiType") or "",
        "eks.amazonaws.com/capacityType": raw.get("capacityType") or "",
        "k8sVersion": raw.get("version") or "",
        "eks.amazonaws.com/nodegroup": raw.get("nodegroupName") or "",
    }
    taints = [taint for taint in raw.get("taints") or () if taint.get("value") is not None]
    return ManagedGroup(
        labels={**{key: value for key, value in own.items() if value}, **(raw.get("labels") or {})},
        taints=tuple(Taint(taint["key"], taint["value"], _EFFECTS[taint["effect"]]) for taint in taints),
        tags=raw.get("tags") or {},
    )
