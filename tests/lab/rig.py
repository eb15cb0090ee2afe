# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real control plane with the lab's node loops. AWS is a table here; the whole lab has tests of its own."""

from __future__ import annotations

import base64
import time
import typing as t
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import kubernetes
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lab import binaries
from lab.clock import Clock
from lab.contracts import AccessIdentity, ClusterRef
from lab.kubernetes.client import Json, Kube
from lab.kubernetes.controlplane import LocalControlPlanes
from lab.kubernetes.webhook import TokenWebhook
from lab.nodes.health import Event
from lab.nodes.manager import NodeLoops
from lab.state import State
from lab.supervisor import Supervisor

CLUSTER = ClusterRef(account="123456789012", region="us-west-2", name="lab", version="1.36")
ROLE = "arn:aws:iam::123456789012:role/"
BOOT_LIMIT = 60.0
SOON = 20.0
#: Instance type -> name, number and memory of its GPUs, as ec2:DescribeInstanceTypes has them.
GPUS = {"g5": ("A10G", 1, 22888), "p4d": ("A100", 8, 40960), "p5": ("H100", 8, 81920), "g4dn": ("T4", 1, 16384)}
PATIENCE = 1.5  # real seconds in which something must not happen


def eventually(what: str, probe: Callable[[], bool], timeout: float = SOON) -> None:
    end = time.monotonic() + timeout
    while not probe():
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.1)


@dataclass
class FakeIdentities:
    """Access key NAME belongs to role NAME and has the secret NAME-secret."""

    entries: dict[str, AccessIdentity] = field(default_factory=dict)

    def allow(self, name: str, *, groups: tuple[str, ...] = (), policies: tuple[tuple[str, tuple[str, ...]], ...] = ()) -> None:
        self.entries[ROLE + name] = AccessIdentity(principal_arn=ROLE + name, username=ROLE + name, groups=groups, policies=policies)

    def secret_access_key(self, access_key_id: str) -> str | None:
        return None if access_key_id == "nobody" else f"{access_key_id}-secret"

    def principal_arn(self, access_key_id: str) -> str | None:
        return ROLE + access_key_id

    def access_identity(self, cluster: ClusterRef, principal_arn: str) -> AccessIdentity | None:
        return self.entries.get(principal_arn)


@dataclass
class FakeAws:
    """EC2 and EKS as far as the registrar asks."""

    instances: dict[str, Json] = field(default_factory=dict)
    groups: dict[str, Json] = field(default_factory=dict)

    held: set[str] = field(default_factory=set)  # instances that wait for EKS
    user_data: dict[str, str] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)  # by node

    def get_paginator(self, operation: str) -> t.Any:
        return self

    def paginate(self, **_: t.Any) -> list[Json]:
        """Of DescribeInstances and DescribeAutoScalingInstances."""
        states = [
            {"InstanceId": i, "AutoScalingGroupName": "own", "LifecycleState": "Terminating:Wait" if i in self.held else "InService"}
            for i in self.instances
        ]
        return [{"Reservations": [{"Instances": list(self.instances.values())}], "AutoScalingInstances": states}]

    def complete_lifecycle_action(self, *, InstanceId: str, LifecycleHookName: str, **_: str) -> None:
        assert LifecycleHookName == "Terminate-LC-Hook"
        self.held.remove(InstanceId)
        del self.instances[InstanceId]

    def describe_nodegroup(self, *, clusterName: str, nodegroupName: str) -> Json:
        return {"nodegroup": self.groups[nodegroupName]}

    def describe_instance_attribute(self, *, InstanceId: str, Attribute: str) -> Json:
        assert Attribute == "userData"
        text = self.user_data.get(InstanceId, "")
        return {"InstanceId": InstanceId, "UserData": {"Value": base64.b64encode(text.encode()).decode()} if text else {}}

    def describe_availability_zones(self) -> Json:
        return {"AvailabilityZones": [{"ZoneName": "us-west-2a", "ZoneId": "usw2-az2"}]}

    def describe_images(self, *, ImageIds: list[str]) -> Json:
        return {"Images": []}

    def describe_instance_types(self, *, InstanceTypes: list[str]) -> Json:
        name, count, memory = next((gpu for prefix, gpu in GPUS.items() if InstanceTypes[0].startswith(prefix)), ("", 0, 0))
        gpus = [{"Name": name, "Manufacturer": "NVIDIA", "Count": count, "MemoryInfo": {"SizeInMiB": memory}}]
        return {
            "InstanceTypes": [
                {
                    "VCpuInfo": {"DefaultVCpus": 8},
                    "MemoryInfo": {"SizeInMiB": 32768},
                    "NetworkInfo": {"MaximumNetworkInterfaces": 4, "Ipv4AddressesPerInterface": 15},
                    "ProcessorInfo": {"SupportedArchitectures": ["x86_64"]},
                    **({"GpuInfo": {"Gpus": gpus}} if count else {}),
                }
            ]
        }

    def run(self, number: int, instance_type: str = "g5.2xlarge", user_data: str = "", group: str = "gpu") -> str:
        """A running instance of a managed node group; returns its node's name."""
        name = f"ip-10-0-0-{number}.us-west-2.compute.internal"
        self.groups.setdefault(group, {"nodegroupName": group, "amiType": "AL2023_x86_64_NVIDIA", "labels": {"pool": "inference"}})
        self.user_data[f"i-{number}"] = user_data
        self.instances[f"i-{number}"] = {
            "InstanceId": f"i-{number}",
            "InstanceType": instance_type,
            "ImageId": "ami-1",
            "PrivateDnsName": name,
            "PrivateIpAddress": f"10.0.0.{number}",
            "Placement": {"AvailabilityZone": "us-west-2a"},
            "State": {"Name": "running"},
            "Tags": [{"Key": "eks:cluster-name", "Value": CLUSTER.name}, {"Key": "eks:nodegroup-name", "Value": group}],
        }
        return name


@dataclass
class Rig:
    """Everything but AWS."""

    state: State
    planes: LocalControlPlanes
    supervisor: Supervisor
    identities: FakeIdentities
    aws: FakeAws
    clock: Clock
    boot_seconds: float

    @property
    def kube(self) -> Kube:
        found = self.planes.kube(CLUSTER)
        assert found is not None
        return found

    def client(self, name: str, *, cluster: str = CLUSTER.name, secret: str | None = None) -> kubernetes.client.ApiClient:
        """The kubernetes client with an EKS token of role ``name``."""
        request = AWSRequest(
            "GET",
            "https://sts.us-west-2.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
            headers={"x-k8s-aws-id": cluster},
        )
        SigV4QueryAuth(Credentials(name, secret or f"{name}-secret"), "sts", "us-west-2", expires=60).add_auth(request)
        token = "k8s-aws-v1." + base64.urlsafe_b64encode(str(request.url).encode()).decode().rstrip("=")
        endpoint = self.planes.endpoint(CLUSTER)
        assert endpoint is not None
        ca = self.state.root / "ca.crt"
        ca.write_bytes(endpoint.certificate_authority_pem)
        configuration = kubernetes.client.Configuration(host=endpoint.url)
        configuration.ssl_ca_cert = str(ca)
        configuration.proxy = None
        configuration.api_key = {"authorization": f"Bearer {token}"}
        return kubernetes.client.ApiClient(configuration)

    def node(self, name: str) -> Json:
        return self.kube.get(f"/api/v1/nodes/{name}") or {}

    def gpus(self, name: str, resource: str = "nvidia.com/gpu") -> str | None:
        return t.cast("str | None", self.node(name).get("status", {}).get("allocatable", {}).get(resource))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    programs = binaries.control_plane(print)
    state = State(tmp_path_factory.mktemp("lab"))
    state.create()
    supervisor, clock, aws, identities = Supervisor(state.records), Clock(60), FakeAws(), FakeIdentities()
    loops = NodeLoops(lambda *_: aws, clock, events=lambda node: aws.events.get(node, []))

    def kube_of(cluster: ClusterRef) -> Kube | None:
        return planes.kube(cluster)

    webhook = TokenWebhook(identities, kube_of)
    planes = LocalControlPlanes(state, supervisor, lambda: programs, webhook.url, loops.start, loops.stop)
    webhook.start()
    begin = time.monotonic()
    planes.start(CLUSTER)
    try:
        eventually("control plane", lambda: planes.endpoint(CLUSTER) is not None, BOOT_LIMIT)
        yield Rig(state, planes, supervisor, identities, aws, clock, time.monotonic() - begin)
    finally:
        planes.stop_all()
        webhook.stop()
    assert state.records.all() == []
    assert list(state.clusters.iterdir()) == []
