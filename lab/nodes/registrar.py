"""Every instance that belongs to a cluster becomes a node after a while, and its node leaves with it."""

from __future__ import annotations

import dataclasses
import logging
import typing as t
from collections.abc import Callable

import botocore.exceptions

from lab.clock import Clock
from lab.contracts import ClusterRef
from lab.kubernetes.client import ApiError, Json, Kube
from lab.nodes import node as nodes
from lab.nodes.joining import Joining
from lab.nodes.loop import Loop

BOOT_SECONDS = 45.0  # simulated, from the first sight of a running instance to its registration
REBOOT_SECONDS = 120.0  # simulated: one more boot, where the MIG mode is pending until then
PRESENT_STATES = ("pending", "running", "stopping", "stopped")
_log = logging.getLogger(__name__)

#: (service, account, region) -> boto3 client whose calls are neither logged nor met by faults
AwsClients = Callable[[str, str, str], t.Any]
#: (instance type, zone) -> how a new instance fails as a node (lab.aws.faults.NODE_BEHAVIOURS), None when it does not
NodeFaults = Callable[[str, str], str | None]


class Registrar(Loop):
    """One cluster's nodes. Instances of node groups, Auto Scaling groups and Karpenter are treated alike; EC2 knows them all."""

    def __init__(
        self,
        cluster: ClusterRef,
        kube: Kube,
        current: Callable[[], list[Json]],
        clients: AwsClients,
        clock: Clock,
        faults: NodeFaults = lambda _type, _zone: None,
    ) -> None:
        super().__init__(f"registrar {cluster.name}", every=1.0)
        self._cluster, self._kube, self._nodes, self._clients, self._clock = cluster, kube, current, clients, clock
        self._types: dict[str, Json] = {}
        self._images: dict[str, str] = {}
        self._zone_ids: dict[str, str] = {}
        self._first_seen: dict[str, float] = {}
        self._joining = Joining(cluster, self._client)
        self._faults = faults
        self._behaviours: dict[str, str | None] = {}

    def step(self) -> None:
        instances = self._instances()
        known = {n["spec"].get("providerID", "").rpartition("/")[2]: n for n in self._nodes()}
        groups: dict[str, Json | None] = {}
        for instance_id, raw in instances.items():
            if instance_id in known:
                self._keep(known[instance_id], raw, groups)
            elif raw["State"]["Name"] == "running" and self._booted(instance_id):
                self._register(raw, groups)
        for instance_id, node in known.items():
            if instance_id.startswith("i-") and instance_id not in instances:
                self._kube.delete(f"/api/v1/nodes/{node['metadata']['name']}")
                _log.info("%s: node %s left with %s", self._cluster.name, node["metadata"]["name"], instance_id)
        self._first_seen = {i: s for i, s in self._first_seen.items() if i in instances}
        self._behaviours = {i: b for i, b in self._behaviours.items() if i in instances}
        self._joining.forget_others(instances)

    def _booted(self, instance_id: str, seconds: float = BOOT_SECONDS) -> bool:
        now = self._clock.seconds()
        return now - self._first_seen.setdefault(instance_id, now) >= seconds

    def _instances(self) -> dict[str, Json]:
        pages = self._ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "instance-state-name", "Values": list(PRESENT_STATES)}]
        )
        found = (i for page in pages for reservation in page["Reservations"] for i in reservation["Instances"])
        return {i["InstanceId"]: i for i in found if self._cluster.name in nodes.belongs_to(_tags(i))}

    @property
    def _ec2(self) -> t.Any:
        return self._client("ec2")

    def _client(self, service: str) -> t.Any:
        return self._clients(service, self._cluster.account, self._cluster.region)

    def _behaviour(self, instance: nodes.Instance) -> str | None:
        """How it fails as a node: decided once for each instance."""
        if instance.instance_id not in self._behaviours:
            self._behaviours[instance.instance_id] = behaviour = self._faults(instance.instance_type, instance.zone)
            if behaviour:
                _log.info("%s: %s %s, as a fault wants it", self._cluster.name, instance.instance_id, behaviour)
        return self._behaviours[instance.instance_id]

    def _register(self, raw: Json, groups: dict[str, Json | None]) -> None:
        instance = self._instance(raw)
        if self._behaviour(instance) == "never_registers":
            return
        state = None
        if instance.nodegroup is not None:
            group = self._group(instance.nodegroup, groups)
            if group is None:
                return  # being deleted; its instances go too
            instance = dataclasses.replace(instance, ami_type=group.get("amiType", ""))
            state = nodes.group_state(group, instance)
        instance_type = self._type(instance.instance_type)
        boot = self._joining.boot(raw, instance, instance_type)
        if boot is None or (nodes.reboots(boot, instance_type) and not self._booted(instance.instance_id, BOOT_SECONDS + REBOOT_SECONDS)):
            return
        without_gpus = self._behaviour(instance) == "without_gpus"
        if without_gpus and boot.layouts:
            return  # nvidia-smi finds none to part, and kubelet waits for that
        node = nodes.build(instance, instance_type, self._cluster.version, state, boot)
        if without_gpus:
            nodes.remove_gpus(node)
        try:
            self._kube.call("POST", "/api/v1/nodes", node)
        except ApiError as error:
            if error.status != 409:  # an address is used again: the old node goes first
                raise
            return
        _log.info("%s: node %s (%s, %s) registered", self._cluster.name, instance.name, instance.instance_type, instance.instance_id)

    def _keep(self, node: Json, raw: Json, groups: dict[str, Json | None]) -> None:
        """EKS carries label and taint changes of a managed node group to its nodes."""
        instance = self._instance(raw)
        group = self._group(instance.nodegroup, groups) if instance.nodegroup is not None else None
        if group is None:
            return
        change = nodes.group_change(node, nodes.group_state(group, instance))
        if change is not None:
            self._kube.merge(f"/api/v1/nodes/{node['metadata']['name']}", change)
            _log.info("%s: labels and taints of %s carried to %s", self._cluster.name, instance.nodegroup, instance.name)

    def _group(self, name: str, groups: dict[str, Json | None]) -> Json | None:
        """eks:DescribeNodegroup once for each step; None when the group is not there."""
        if name not in groups:
            try:
                groups[name] = self._client("eks").describe_nodegroup(clusterName=self._cluster.name, nodegroupName=name)["nodegroup"]
            except botocore.exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
                groups[name] = None
        return groups[name]

    def _instance(self, raw: Json) -> nodes.Instance:
        zone = raw["Placement"]["AvailabilityZone"]
        return nodes.Instance(
            instance_id=raw["InstanceId"],
            name=raw["PrivateDnsName"],
            private_ip=raw["PrivateIpAddress"],
            instance_type=raw["InstanceType"],
            zone=zone,
            zone_id=self._zone_id(zone),
            image_id=raw["ImageId"],
            image_name=self._image(raw["ImageId"]),
            tags=_tags(raw),
        )

    def _zone_id(self, zone: str) -> str:
        if not self._zone_ids:
            found = self._ec2.describe_availability_zones()["AvailabilityZones"]
            self._zone_ids = {z["ZoneName"]: z["ZoneId"] for z in found}
        return self._zone_ids[zone]

    def _type(self, name: str) -> Json:
        if name not in self._types:
            self._types[name] = self._ec2.describe_instance_types(InstanceTypes=[name])["InstanceTypes"][0]
        return self._types[name]

    def _image(self, image_id: str) -> str:
        """The image's name, empty when the account cannot see the image (any more)."""
        if image_id not in self._images:
            try:
                found = self._ec2.describe_images(ImageIds=[image_id])["Images"]
            except botocore.exceptions.ClientError as error:
                if not error.response["Error"]["Code"].startswith("InvalidAMIID"):
                    raise
                found = []
            self._images[image_id] = found[0].get("Name", "") if found else ""
        return self._images[image_id]


def _tags(raw: Json) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in raw.get("Tags") or ()}
