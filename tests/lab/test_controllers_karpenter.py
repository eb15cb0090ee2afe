# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Karpenter as released, installed by its chart into a lab: it runs as its pod does and buys nodes of the simulated EC2."""

from __future__ import annotations

import collections
import json
import os
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

from lab import binaries
from lab.aws import requestlog
from lab.kubernetes.client import Access, Json, Kube
from lab.state import State

pytestmark = pytest.mark.soak  # minutes; tests/e2e/test_pools.py has both controllers in the short set

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = "karp"
SOON, LATER = 120.0, 240.0
PODS, CLAIMS = "/api/v1/namespaces/default/pods", "/apis/karpenter.sh/v1/nodeclaims"
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments/inference"
CONTROLLER = "/apis/apps/v1/namespaces/kube-system/deployments/karpenter"
SHARES = 10


def eventually(what: str, probe: Callable[[], object], timeout: float = SOON) -> None:
    end = time.monotonic() + timeout
    while not probe():
        assert time.monotonic() < end, f"{what}: not within {timeout} s"
        time.sleep(0.2)


def condition(holder: Json | None, kind: str) -> str:
    conditions = (holder or {}).get("status", {}).get("conditions") or ()
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "Unknown")


@dataclass
class Rig:
    """A lab with a cluster that has one node for Karpenter itself."""

    state: State
    kube: Kube
    subnets: dict[str, str]  # by zone
    security_group: str

    @property
    def about(self) -> Json:
        found = self.state.read_about()
        assert found is not None
        return found

    def lab(self, *arguments: str) -> str:
        environment = os.environ | {"GPUOPS_LAB_STATE": str(self.state.root)}
        done = subprocess.run(
            [sys.executable, "-m", "lab", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def client(self, service: str) -> t.Any:
        about = self.about
        session: t.Any = boto3.session.Session(about["access_key_id"], about["secret_access_key"], region_name=about["region"])
        return session.client(service, endpoint_url=about["endpoint"])

    def helm(self, chart: str, values: Json) -> None:
        (self.state.root.parent / "values.json").write_text(json.dumps(values))
        command = [self.about["helm"], "upgrade", "--install", chart, self.about["charts"][chart], "--namespace=kube-system"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.state.root.parent), "KUBECONFIG": str(self.kubeconfig())}
        values_file = f"--values={self.state.root.parent / 'values.json'}"
        done = subprocess.run([*command, values_file], env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr

    def kubeconfig(self) -> Path:
        self.lab("env", "--kubeconfig", CLUSTER)
        return next(iter(self.state.kubeconfigs.glob(f"*-{CLUSTER}.yaml")))

    def items(self, path: str) -> list[Json]:
        return t.cast("list[Json]", self.kube.call("GET", path)["items"])

    def controller_pods(self) -> list[Json]:
        found = self.items("/api/v1/namespaces/kube-system/pods")
        return [pod for pod in found if pod["metadata"]["labels"].get("app.kubernetes.io/name") == "karpenter"]

    def process(self) -> int | None:
        """The process id of the controller, None while it does not run."""
        return next((record.pid for record in self.state.records.alive() if record.name.endswith(f"-{CLUSTER}/karpenter")), None)

    def nodes(self) -> list[Json]:
        """Nodes of the pool."""
        return [n for n in self.items("/api/v1/nodes") if n["metadata"]["labels"].get("karpenter.sh/nodepool") == "gpu"]

    def zones(self) -> set[str]:
        return {n["metadata"]["labels"]["topology.kubernetes.io/zone"] for n in self.nodes()}

    def running(self) -> int:
        phases = collections.Counter(p["status"]["phase"] for p in self.items(PODS) if not p["metadata"].get("deletionTimestamp"))
        return phases["Running"] if len(phases) == 1 else -1

    def scale(self, replicas: int, path: str = DEPLOYMENT) -> None:
        assert self.kube.merge(path, {"spec": {"replicas": replicas}}) is not None

    def strike(self, **fault: str) -> None:
        answer = requests.post(f"{self.about['endpoint']}/_lab/faults", json=fault, timeout=10)
        assert answer.ok, answer.text

    def lift(self) -> None:
        assert requests.delete(f"{self.about['endpoint']}/_lab/faults", timeout=10).ok


def trust(service: str) -> str:
    actions = ["sts:AssumeRole", "sts:TagSession"] if service == "pods.eks" else ["sts:AssumeRole"]
    statement = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": actions}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def make_network(rig: Rig) -> None:
    ec2 = rig.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    for number, zone in enumerate(("us-west-2a", "us-west-2b")):
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
        ec2.create_tags(Resources=[subnet], Tags=[{"Key": "karpenter.sh/discovery", "Value": CLUSTER}])
        rig.subnets[zone] = subnet


def make_roles(rig: Rig) -> dict[str, str]:
    iam = rig.client("iam")
    roles = {
        name: iam.create_role(RoleName=f"{CLUSTER}-{name}", AssumeRolePolicyDocument=trust(service))["Role"]["Arn"]
        for name, service in (("cluster", "eks"), ("node", "ec2"), ("karpenter", "pods.eks"))
    }
    wanted = {"cluster": ["AmazonEKSClusterPolicy"]}
    wanted["node"] = ["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"]
    for name, policies in wanted.items():
        for policy in policies:
            iam.attach_role_policy(RoleName=f"{CLUSTER}-{name}", PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
    return roles


def make_queue(rig: Rig) -> None:
    sqs, events = rig.client("sqs"), rig.client("events")
    statement = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    url = sqs.create_queue(QueueName=CLUSTER, Attributes={"Policy": policy})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]}
    events.put_rule(Name=CLUSTER, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=CLUSTER, Targets=[{"Id": "queue", "Arn": arn}])


def make_cluster(rig: Rig) -> None:
    """With a managed node for Karpenter, and an access entry for the nodes that it makes."""
    make_network(rig)
    make_queue(rig)
    roles, eks = make_roles(rig), rig.client("eks")
    subnets = list(rig.subnets.values())
    network = {"subnetIds": subnets}
    eks.create_cluster(
        name=CLUSTER, version="1.36", roleArn=roles["cluster"], resourcesVpcConfig=network, accessConfig={"authenticationMode": "API"}
    )
    eventually("cluster", lambda: eks.describe_cluster(name=CLUSTER)["cluster"]["status"] == "ACTIVE")
    rig.security_group = eks.describe_cluster(name=CLUSTER)["cluster"]["resourcesVpcConfig"]["clusterSecurityGroupId"]
    eks.create_access_entry(clusterName=CLUSTER, principalArn=roles["node"], type="EC2_LINUX")
    eks.create_nodegroup(
        clusterName=CLUSTER,
        nodegroupName="system",
        subnets=subnets[:1],
        nodeRole=roles["node"],
        instanceTypes=["m5.large"],
        amiType="AL2023_x86_64_STANDARD",
        scalingConfig={"minSize": 1, "maxSize": 1, "desiredSize": 1},
    )
    directory = Path(rig.state.cluster_files()[0]["directory"])
    certificates = directory / "pki"
    url = (directory / "url").read_text()
    rig.kube = Kube(Access(url, certificates / "ca.crt", certificates / "admin.crt", certificates / "admin.key"))


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    for find in (binaries.control_plane, binaries.karpenter, binaries.helm):
        find(print)
    state = State(tmp_path_factory.mktemp("karpenter") / "lab")
    found = Rig(state, t.cast(Kube, None), {}, "")
    found.lab("up")
    try:
        make_cluster(found)
        found.helm("karpenter-crd", {})
        values: Json = {
            "replicas": 1,
            "settings": {"clusterName": CLUSTER, "interruptionQueue": CLUSTER, "featureGates": {"nodeOverlay": True}},
            "controller": {"resources": {"requests": {"cpu": "100m", "memory": "256Mi"}}},
        }
        found.helm("karpenter", values)
        yield found
    finally:
        for path in (state.daemon_log, *state.clusters.glob("*/karpenter.log")):  # what pytest shows where a test has failed
            sys.stdout.write("\n".join([path.name, *path.read_text().splitlines()[-30:], ""]))
        found.lab("down")


def plugin() -> list[tuple[str, Json]]:
    """NVIDIA's device plugin with a share of ten, in the least that the lab looks at."""
    config = f"version: v1\nsharing: {{timeSlicing: {{resources: [{{name: nvidia.com/gpu, replicas: {SHARES}}}]}}}}\n"
    labels = {"app": "plugin"}
    container = {
        "name": "plugin",
        "image": "nvcr.io/nvidia/k8s-device-plugin:v0.19.3",
        "command": ["nvidia-device-plugin"],
        "env": [{"name": "CONFIG_FILE", "value": "/config/config.yaml"}],
        "volumeMounts": [{"name": "config", "mountPath": "/config"}],
    }
    spec = {
        "nodeSelector": {"nvidia.com/gpu.present": "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "plugin"}}],
    }
    template = {"metadata": {"labels": labels}, "spec": spec}
    maps, sets = "/api/v1/namespaces/kube-system/configmaps/plugin", "/apis/apps/v1/namespaces/kube-system/daemonsets/plugin"
    return [
        (maps, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plugin"}, "data": {"config.yaml": config}}),
        (
            sets,
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": {"name": "plugin"},
                "spec": {"selector": {"matchLabels": labels}, "template": template},
            },
        ),
    ]


def pool() -> list[tuple[str, Json]]:
    """EC2NodeClass, NodePool and NodeOverlay of machines with one GPU, which counts ten."""
    discovery = [{"tags": {"karpenter.sh/discovery": CLUSTER}}]
    node_class = {
        "amiSelectorTerms": [{"alias": "al2023@latest"}],
        "role": f"{CLUSTER}-node",
        "subnetSelectorTerms": discovery,
        "securityGroupSelectorTerms": [{"tags": {"aws:eks:cluster-name": CLUSTER}}],
    }
    requirements = [
        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["g4dn.xlarge", "g5.xlarge", "g6.xlarge"]},
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"]},
    ]
    template = {
        "metadata": {"labels": {"nvidia.com/gpu.present": "true"}},
        "spec": {
            "expireAfter": "Never",
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "gpu"},
            "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}],
            "requirements": requirements,
        },
    }
    disruption = {"consolidationPolicy": "WhenEmpty", "consolidateAfter": "1s", "budgets": [{"nodes": "100%"}]}
    overlay = {
        "requirements": [
            {"key": "karpenter.sh/nodepool", "operator": "In", "values": ["gpu"]},
            {"key": "karpenter.k8s.aws/instance-gpu-count", "operator": "In", "values": ["1"]},
        ],
        "capacity": {"nvidia.com/gpu": str(SHARES)},
    }
    specs: list[tuple[str, str, str, Json]] = [
        ("karpenter.k8s.aws/v1", "EC2NodeClass", "ec2nodeclasses", node_class),
        ("karpenter.sh/v1", "NodePool", "nodepools", {"template": template, "disruption": disruption}),
        ("karpenter.sh/v1alpha1", "NodeOverlay", "nodeoverlays", overlay),
    ]
    return [
        (f"/apis/{version}/{plural}/gpu", {"apiVersion": version, "kind": kind, "metadata": {"name": "gpu"}, "spec": spec})
        for version, kind, plural, spec in specs
    ]


def workload(replicas: int) -> Json:
    labels = {"app": "inference"}
    limits = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"nvidia.com/gpu": "1"}}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [{"name": "server", "image": "inference", "resources": limits}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "inference"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def test_without_an_association_it_does_not_start(rig: Rig) -> None:
    """Its pod says why, and with the association it starts by itself."""

    def events() -> list[str]:
        return [e["message"] for e in rig.items("/api/v1/namespaces/kube-system/events") if e["type"] == "Warning"]

    eventually("the event", lambda: any("no Pod Identity association of kube-system/karpenter" in message for message in events()))
    eventually("not ready", lambda: [condition(pod, "Ready") for pod in rig.controller_pods()] == ["False"])
    assert rig.process() is None
    role = rig.client("iam").get_role(RoleName=f"{CLUSTER}-karpenter")["Role"]["Arn"]
    rig.client("eks").create_pod_identity_association(
        clusterName=CLUSTER, namespace="kube-system", serviceAccount="karpenter", roleArn=role
    )
    eventually("the process", lambda: rig.process() is not None)
    eventually("ready", lambda: [condition(pod, "Ready") for pod in rig.controller_pods()] == ["True"])


def test_ten_shares_are_one_node(rig: Rig) -> None:
    """Of the cheapest type, with the cluster's security group, bought by the role of the association."""
    for path, item in [*plugin(), *pool()]:
        rig.kube.apply(path, item)
    eventually("pool ready", lambda: all(condition(rig.kube.get(path), "Ready") == "True" for path, _item in pool()))
    rig.kube.apply(DEPLOYMENT, workload(SHARES))
    eventually("ten pods run", lambda: rig.running() == SHARES)
    [claim] = rig.items(CLAIMS)
    assert claim["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "g4dn.xlarge"
    [node] = rig.nodes()
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == str(SHARES)
    assert not [taint for taint in node["spec"]["taints"] if taint["key"].startswith("karpenter.sh/")]
    [reservation] = rig.client("ec2").describe_instances(InstanceIds=[node["spec"]["providerID"].rpartition("/")[2]])["Reservations"]
    [instance] = reservation["Instances"]
    assert instance["InstanceLifecycle"] == "spot"
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [rig.security_group]
    fleets = [entry for entry in requestlog.read(rig.state.request_log) if entry.operation == "CreateFleet" and not entry.dry_run]
    assert {entry.principal for entry in fleets} == {f"arn:aws:iam::{rig.about['account']}:role/{CLUSTER}-karpenter"}
    assert "karpenter" in fleets[0].user_agent


def test_a_node_that_is_interrupted_is_replaced(rig: Rig) -> None:
    """By the warning in its queue."""
    [node] = rig.nodes()
    instance = node["spec"]["providerID"].rpartition("/")[2]
    rig.strike(kind="spot_interruption", instance=instance)
    eventually("another node", lambda: any(n["metadata"]["name"] != node["metadata"]["name"] for n in rig.nodes()))
    eventually("the pods run again", lambda: rig.running() == SHARES and len(rig.nodes()) == 1)
    assert "initiating delete from interruption message" in rig.lab("logs", "karpenter")
    assert rig.nodes()[0]["metadata"]["uid"] != node["metadata"]["uid"]


def test_a_process_that_dies_is_started_again(rig: Rig) -> None:
    before = rig.process()
    assert before is not None
    os.kill(before, signal.SIGKILL)
    eventually("restart", lambda: rig.process() not in (None, before))
    [pod] = rig.controller_pods()
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 1
    ended = [e["message"] for e in rig.items("/api/v1/namespaces/kube-system/events") if "karpenter ended" in e["message"]]
    assert ended
    assert "exit status -9" in ended[0]


def test_a_node_goes_with_its_pods(rig: Rig) -> None:
    rig.scale(0)
    eventually("no node", lambda: not rig.items(CLAIMS) and not rig.nodes(), LATER)
    reservations = rig.client("ec2").describe_instances(Filters=[{"Name": "tag-key", "Values": ["karpenter.sh/nodepool"]}])["Reservations"]
    assert {i["State"]["Name"] for r in reservations for i in r["Instances"]} == {"terminated"}


@pytest.mark.parametrize(
    ("empty", "other"), [("us-west-2b", "us-west-2a"), pytest.param("us-west-2a", "us-west-2b", marks=pytest.mark.soak)]
)
def test_where_capacity_lacks_the_other_zone_is_taken(rig: Rig, empty: str, other: str) -> None:
    rig.strike(kind="capacity", zone=empty)
    rig.scale(1)
    eventually("the pod runs", lambda: rig.running() == 1)
    assert rig.zones() == {other}
    rig.lift()
    rig.scale(0)
    eventually("no node", lambda: not rig.items(CLAIMS) and not rig.nodes(), LATER)


def test_it_stops_with_its_pod(rig: Rig) -> None:
    assert rig.process() is not None
    rig.scale(0, CONTROLLER)
    eventually("no process", lambda: rig.process() is None)
    rig.scale(1, CONTROLLER)
    eventually("a process", lambda: rig.process() is not None)
