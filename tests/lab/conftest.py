# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated AWS without Kubernetes: time stands still until a test lets it pass."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lab.aws.app import AwsServer
from lab.aws.requestlog import Entry, read
from lab.clock import Clock
from lab.contracts import ClusterRef, ControlPlaneFailed, Endpoint

REGION = "us-west-2"
LONG = 600.0  # simulated seconds in which everything that EKS does is over
CA = b"-----BEGIN CERTIFICATE-----\nfor the tests\n-----END CERTIFICATE-----\n"


@dataclass
class FakeControlPlanes:
    """Control planes that answer when a test says so."""

    ready: bool = True
    failure: str = ""
    running: list[ClusterRef] = field(default_factory=list)

    def start(self, cluster: ClusterRef) -> None:
        self.running.append(cluster)

    def endpoint(self, cluster: ClusterRef) -> Endpoint | None:
        if self.failure:
            raise ControlPlaneFailed(self.failure)
        return Endpoint(url=f"https://127.0.0.1:6443/{cluster.name}", certificate_authority_pem=CA) if self.ready else None

    def stop(self, cluster: ClusterRef) -> None:
        self.running = [other for other in self.running if other != cluster]


@dataclass
class Aws:
    """The server and what tests do with it."""

    server: AwsServer
    clock: Clock
    planes: FakeControlPlanes
    log_path: Path
    _clients: dict[tuple[str, str, str], t.Any] = field(default_factory=dict)

    def client(self, service: str, access_key_id: str = "", secret: str = "", *, token: str | None = None, region: str = REGION) -> t.Any:
        """A client that neither retries nor judges parameters; without keys it is the administrator's."""
        admin_key, admin_secret = self.server.admin_credentials
        key = (service, access_key_id + secret, region)
        if key not in self._clients:
            session: t.Any = boto3.session.Session(access_key_id or admin_key, secret or admin_secret, token, region_name=region)
            self._clients[key] = session.client(
                service, endpoint_url=self.server.endpoint, config=Config(retries={"total_max_attempts": 1}, parameter_validation=False)
            )
        return self._clients[key]

    def pass_time(self, seconds: float = LONG) -> None:
        self.clock.advance(seconds)
        self.server.tick()

    def log(self) -> list[Entry]:
        return read(self.log_path)

    def role(self, name: str, service: str) -> str:
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]}
        reply = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        return str(reply["Role"]["Arn"])

    def subnets(self, zones: str = "abc", third: int = 0) -> tuple[str, list[str]]:
        """A VPC with one subnet in each zone."""
        ec2 = self.client("ec2")
        vpc_id = ec2.create_vpc(CidrBlock=f"10.{third}.0.0/16")["Vpc"]["VpcId"]
        ids = [
            ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.{third}.{index}.0/24", AvailabilityZone=REGION + zone)["Subnet"]["SubnetId"]
            for index, zone in enumerate(zones)
        ]
        return vpc_id, ids


@dataclass
class ClusterSetup:
    """What a cluster needs in the account, and the requests that use it."""

    aws: Aws
    vpc_id: str
    subnets: list[str]
    cluster_role: str
    node_role: str

    def cluster_request(self, name: str = "lab", **changes: t.Any) -> dict[str, t.Any]:
        access = {"authenticationMode": "API_AND_CONFIG_MAP"}
        return {
            "name": name,
            "roleArn": self.cluster_role,
            "resourcesVpcConfig": {"subnetIds": self.subnets},
            "accessConfig": access,
            **changes,
        }

    def create_cluster(self, name: str = "lab", **changes: t.Any) -> dict[str, t.Any]:
        """An ACTIVE cluster."""
        eks = self.aws.client("eks")
        eks.create_cluster(**self.cluster_request(name, **changes))
        self.aws.pass_time()
        cluster: dict[str, t.Any] = eks.describe_cluster(name=name)["cluster"]
        assert cluster["status"] == "ACTIVE"
        return cluster

    def nodegroup_request(self, name: str = "gpu", **changes: t.Any) -> dict[str, t.Any]:
        request = {
            "clusterName": "lab",
            "nodegroupName": name,
            "subnets": self.subnets,
            "nodeRole": self.node_role,
            "instanceTypes": ["g5.2xlarge"],
            "amiType": "AL2023_x86_64_NVIDIA",
            "scalingConfig": {"minSize": 0, "maxSize": 3, "desiredSize": 1},
            **changes,
        }
        return {field_name: value for field_name, value in request.items() if value is not None}

    def create_nodegroup(self, name: str = "gpu", **changes: t.Any) -> dict[str, t.Any]:
        """A node group whose creation has come to its end, whatever that is."""
        eks = self.aws.client("eks")
        eks.create_nodegroup(**self.nodegroup_request(name, **changes))
        self.aws.pass_time()
        nodegroup: dict[str, t.Any] = eks.describe_nodegroup(clusterName="lab", nodegroupName=name)["nodegroup"]
        return nodegroup

    def instances(self, nodegroup: str = "gpu") -> list[dict[str, t.Any]]:
        """The running instances of a node group."""
        filters = [{"Name": "tag:eks:nodegroup-name", "Values": [nodegroup]}, {"Name": "instance-state-name", "Values": ["running"]}]
        reservations = self.aws.client("ec2").describe_instances(Filters=filters)["Reservations"]
        return [instance for reservation in reservations for instance in reservation["Instances"]]


def refused(call: t.Callable[..., t.Any], *args: t.Any, **request: t.Any) -> tuple[str, str]:
    """Code and message of the error that ``call`` ends in."""
    with pytest.raises(ClientError) as caught:
        call(*args, **request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.fixture(scope="session")
def _aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    clock, planes = Clock(factor=0), FakeControlPlanes()
    log_path = tmp_path_factory.mktemp("aws") / "aws.jsonl"
    server = AwsServer(clock=clock, control_planes=planes, log_path=log_path, region=REGION)
    server.start()
    yield Aws(server, clock, planes, log_path)
    server.stop()


@pytest.fixture
def aws(_aws_server: Aws) -> Aws:
    """An empty account."""
    _aws_server.server.reset()
    _aws_server.planes.__init__()  # type: ignore[misc]  # as new
    _aws_server.clock.set_factor(0)
    _aws_server.log_path.write_text("")
    return _aws_server


@pytest.fixture
def setup(aws: Aws) -> ClusterSetup:
    """Network and roles for a cluster."""
    vpc_id, subnets = aws.subnets()
    return ClusterSetup(aws, vpc_id, subnets, aws.role("cluster", "eks.amazonaws.com"), aws.role("node", "ec2.amazonaws.com"))
