# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole lab by its command line: started, used with boto3 and kubectl, killed, cleaned up."""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
import requests
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from lab import binaries
from lab.state import DAEMON, State
from lab.supervisor import Record

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "lab"]
UP_LIMIT = 15.0
CLUSTER_LIMIT = 60.0
SOON = 30.0
PROCESSES = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"}


def eventually(what: str, probe: Callable[[], bool], timeout: float = SOON) -> None:
    end = time.monotonic() + timeout
    while not probe():
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.1)


@dataclass
class Running:
    """A lab of this test, by its state directory."""

    state: State

    def environment(self) -> dict[str, str]:
        return os.environ | {"GPUOPS_LAB_STATE": str(self.state.root)}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=120, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def status(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", json.loads(self.run("status", "--json").stdout))

    def client(self, service: str) -> t.Any:
        about = self.state.read_about()
        assert about is not None
        session: t.Any = boto3.session.Session(about["access_key_id"], about["secret_access_key"], region_name=about["region"])
        return session.client(service, endpoint_url=about["endpoint"])

    def create_cluster(self, name: str) -> list[str]:
        """An active cluster; returns its subnets."""
        ec2, iam, eks = self.client("ec2"), self.client("iam"), self.client("eks")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=f"us-west-2{zone}")["Subnet"]["SubnetId"]
            for n, zone in enumerate("ab")
        ]
        role = iam.create_role(RoleName=f"{name}-cluster", AssumeRolePolicyDocument=trust("eks"))["Role"]["Arn"]
        iam.attach_role_policy(RoleName=f"{name}-cluster", PolicyArn="arn:aws:iam::aws:policy/AmazonEKSClusterPolicy")
        eks.create_cluster(name=name, version="1.36", roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
        eventually("cluster", lambda: eks.describe_cluster(name=name)["cluster"]["status"] == "ACTIVE", CLUSTER_LIMIT)
        return subnets

    def create_gpu_group(self, cluster: str, subnets: list[str]) -> None:
        iam = self.client("iam")
        role = iam.create_role(RoleName=f"{cluster}-node", AssumeRolePolicyDocument=trust("ec2"))["Role"]["Arn"]
        for policy in ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"):
            iam.attach_role_policy(RoleName=f"{cluster}-node", PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
        self.client("eks").create_nodegroup(
            clusterName=cluster,
            nodegroupName="gpu",
            subnets=subnets[:1],
            nodeRole=role,
            instanceTypes=["g5.2xlarge"],
            amiType="AL2023_x86_64_NVIDIA",
            scalingConfig={"minSize": 0, "maxSize": 2, "desiredSize": 1},
            labels={"pool": "inference"},
            taints=[{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}],
        )


def trust(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.fixture
def labs(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Makes labs, each in its own directory; all are down at the end, and nothing of them runs."""
    binaries.control_plane(print)
    made: dict[str, Running] = {}

    def make(name: str) -> Running:
        return made.setdefault(name, Running(State(tmp_path / name)))

    yield make
    for running in made.values():
        running.run("down")
        assert not running.state.root.exists()


def test_from_nothing_to_ten_gpus_and_back(labs: Callable[[str], Running]) -> None:
    lab = labs("one")
    begin = time.monotonic()
    assert "started simulated AWS" in lab.run("up").stdout
    assert time.monotonic() - begin < UP_LIMIT
    assert "is up already" in lab.run("up").stdout
    subnets = lab.create_cluster("inference")
    lab.create_gpu_group("inference", subnets)
    eventually("node", lambda: [n["ready"] for n in lab.status()["clusters"][0]["nodes"]] == [True])
    [node] = lab.status()["clusters"][0]["nodes"]
    assert node["instance_type"] == "g5.2xlarge"
    assert node["gpus"] == {}
    assert creators_answer(lab, "inference", "inference") == 200
    assert creators_answer(lab, "inference", "another") == 401
    kubectl(lab, "inference", "apply", "-f", "-", stdin=PLUGIN)
    eventually("10 GPUs", lambda: lab.status()["clusters"][0]["nodes"][0]["gpus"] == {"nvidia.com/gpu": "10"})
    written = [json.loads(text) for text in lab.run("logs", "audit", "inference", "--writes").stdout.splitlines()]
    assert {(e["user"], e["resource"]) for e in written} == {("lab-admin", "configmaps"), ("lab-admin", "daemonsets")}
    calls = [json.loads(text)["operation"] for text in lab.run("logs", "aws", "--writes").stdout.splitlines()]
    assert calls[-1] == "CreateNodegroup"
    assert "kube-apiserver" in lab.run("logs", "nothing", check=False).stderr
    remove(lab, "inference")
    assert {r.name for r in lab.state.records.alive()} == {DAEMON}
    assert list(lab.state.clusters.iterdir()) == []


def creators_answer(lab: Running, cluster: str, signed_for: str) -> int:
    """The HTTP status for the cluster's creator, whose token is signed for the endpoint that AWS_ENDPOINT_URL names."""
    about = lab.state.read_about() or {}
    request = AWSRequest("GET", f"{about['endpoint']}/?Action=GetCallerIdentity&Version=2011-06-15", headers={"x-k8s-aws-id": signed_for})
    SigV4QueryAuth(Credentials(about["access_key_id"], about["secret_access_key"]), "sts", "us-west-2", expires=60).add_auth(request)
    token = "k8s-aws-v1." + base64.urlsafe_b64encode(str(request.url).encode()).decode().rstrip("=")
    found = lab.client("eks").describe_cluster(name=cluster)["cluster"]
    ca = lab.state.root.with_suffix(".crt")
    ca.write_bytes(base64.b64decode(found["certificateAuthority"]["data"]))
    url = f"{found['endpoint']}/api/v1/nodes"
    return requests.get(url, headers={"Authorization": f"Bearer {token}"}, verify=str(ca), timeout=10).status_code


def remove(lab: Running, cluster: str) -> None:
    eks = lab.client("eks")
    eks.delete_nodegroup(clusterName=cluster, nodegroupName="gpu")
    eventually("node group gone", lambda: eks.list_nodegroups(clusterName=cluster)["nodegroups"] == [])
    eventually("node gone", lambda: lab.status()["clusters"][0]["nodes"] == [])
    eks.delete_cluster(name=cluster)
    eventually("cluster gone", lambda: eks.list_clusters()["clusters"] == [])
    eventually("processes gone", lambda: not [r for r in lab.state.records.alive() if r.name != DAEMON])


PLUGIN = """
apiVersion: v1
kind: ConfigMap
metadata: {name: plugin, namespace: kube-system}
data:
  config.yaml: |
    version: v1
    sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: plugin, namespace: kube-system}
spec:
  selector: {matchLabels: {app: plugin}}
  template:
    metadata: {labels: {app: plugin}}
    spec:
      nodeSelector: {nvidia.com/gpu.present: "true"}
      tolerations: [{key: nvidia.com/gpu, operator: Exists}]
      containers:
      - name: plugin
        image: nvcr.io/nvidia/k8s-device-plugin:v0.20.1
        command: [nvidia-device-plugin, --config-file=/config/config.yaml]
        volumeMounts: [{name: config, mountPath: /config}]
      volumes: [{name: config, configMap: {name: plugin}}]
"""


def kubectl(lab: Running, cluster: str, *arguments: str, stdin: str = "") -> str:
    """kubectl as somebody has it who has taken over `lab env`."""
    script = f'eval "$({shlex.join(COMMAND)} env --kubeconfig {cluster})" && exec kubectl {shlex.join(arguments)}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=lab.environment(), input=stdin, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_labs_side_by_side(labs: Callable[[str], Running]) -> None:
    one, two = labs("one"), labs("two")
    one.run("up")
    two.run("up")
    one.create_cluster("same-name")
    two.create_cluster("same-name")
    assert one.status()["clusters"][0]["endpoint"] != two.status()["clusters"][0]["endpoint"]
    for lab in (one, two):
        names = [r.name.rpartition("/")[2] for r in lab.state.records.alive()]
        assert sorted(names) == sorted([DAEMON, *PROCESSES])
    one.run("down")
    assert two.client("eks").describe_cluster(name="same-name")["cluster"]["status"] == "ACTIVE"


def test_down_cleans_up_after_a_killed_daemon(labs: Callable[[str], Running]) -> None:
    lab = labs("one")
    lab.run("up")
    lab.create_cluster("orphan")
    records = lab.state.records.alive()
    assert len(records) == 1 + len(PROCESSES)
    daemon = lab.state.daemon()
    assert daemon is not None
    os.kill(daemon.pid, signal.SIGKILL)
    eventually("children die with it", lambda: not any(r.alive for r in records))
    assert "no lab is running" in lab.run("status", check=False).stderr
    lab.run("up")  # a new lab in the same directory
    assert lab.status()["clusters"] == []


@pytest.mark.parametrize("delay", [0.0, 0.3, 0.6, 1.2, 2.0])
def test_a_killed_up_leaves_nothing_behind(labs: Callable[[str], Running], delay: float) -> None:
    lab = labs("one")
    with subprocess.Popen([*COMMAND, "up"], cwd=ROOT, env=lab.environment(), stdout=subprocess.DEVNULL) as process:
        eventually("state directory", lambda: lab.state.exists)
        time.sleep(delay)
        process.kill()
    seen = set(lab.state.records.all())
    if not lab.state.about.exists():  # killed before it was ready: the daemon ends by itself
        eventually("the daemon to end", lambda: lab.state.daemon() is None)
    lab.run("down")
    assert not lab.state.root.exists()
    assert not any(record.alive for record in seen)


def test_down_after_up_was_killed_at_once_waits_for_the_daemon(labs: Callable[[str], Running]) -> None:
    """The daemon may not have recorded itself yet; the lock that it inherited tells `down` of it."""
    lab = labs("one")
    lab.state.create()
    with subprocess.Popen([*COMMAND, "up"], cwd=ROOT, env=lab.environment(), stdout=subprocess.DEVNULL) as process:
        eventually("start", lab.state.startup_log.exists)
        process.kill()
    lab.run("down")
    assert not lab.state.root.exists()
    assert processes_of(lab) == []


def processes_of(lab: Running) -> list[str]:
    """Command lines of processes that name the lab's directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if str(lab.state.root) in text:
            found.append(text)
    return found


def test_two_ups_at_once_make_one_lab(labs: Callable[[str], Running]) -> None:
    lab = labs("one")
    both = [
        subprocess.Popen([*COMMAND, "up"], cwd=ROOT, env=lab.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _unused in range(2)
    ]
    answers = [p.communicate(timeout=60)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0], answers
    assert sum("the lab is up after" in a for a in answers) == 1
    assert sum("the lab is up already" in a for a in answers) == 1


def test_up_stops_what_it_started_when_it_is_terminated(labs: Callable[[str], Running]) -> None:
    lab = labs("one")
    command = [*COMMAND, "up", "--foreground"]
    with subprocess.Popen(command, cwd=ROOT, env=lab.environment(), stdout=subprocess.DEVNULL) as process:
        eventually("ready", lab.state.about.exists)
        seen: list[Record] = lab.state.records.alive()
        process.terminate()
    assert not any(record.alive for record in seen)
    assert not lab.state.root.exists()


def test_commands_without_a_lab_say_so_in_one_sentence(labs: Callable[[str], Running]) -> None:
    lab = labs("one")
    for command in ("status", "env", "clock", "reset"):
        done = lab.run(command, check=False)
        assert (done.returncode, done.stderr) == (1, f"lab: no lab is running in {lab.state.root}: `python -m lab up` starts it.\n")
    assert "no lab in" in lab.run("down").stdout


def test_clock_faults_consistency_quotas_and_reset(labs: Callable[[str], Running]) -> None:
    lab = labs("one")
    lab.run("up", "--factor", "1")
    before = json.loads(lab.run("clock").stdout)["seconds"]
    lab.run("clock", "--advance", "3600", "--factor", "2")
    after = json.loads(lab.run("clock").stdout)
    assert after["seconds"] - before >= 3600
    assert after["factor"] == 2
    assert "not JSON" in lab.run("fault", "{", check=False).stderr
    lab.run("fault", "--clear")
    stale = json.loads(lab.run("consistency", "60", "--kinds", "vpc,subnet", "--references").stdout)["consistency"]
    assert (stale["seconds"], stale["kinds"], stale["references"]) == (60, ["subnet", "vpc"], True)
    lab.run("consistency", "0")
    assert json.loads(lab.run("consistency").stdout)["consistency"]["seconds"] == 0
    assert json.loads(lab.run("quotas", '{"L-DB2E81BA": 64}').stdout)["quotas"]["L-DB2E81BA"]["value"] == 64
    assert json.loads(lab.run("quotas").stdout)["quotas"]["L-DB2E81BA"]["value"] == 64
    lab.client("ec2").create_vpc(CidrBlock="10.9.0.0/16")
    lab.run("reset")
    assert "10.9.0.0/16" not in [v["CidrBlock"] for v in lab.client("ec2").describe_vpcs()["Vpcs"]]
