# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models of cluster-autoscaler and aws-node-termination-handler in a whole lab: their Deployments' pods, their roles' calls, RBAC."""

from __future__ import annotations

import base64
import json
import typing as t
from collections.abc import Iterator

import pytest

from lab.aws.requestlog import read
from lab.state import State
from tests.lab.test_kubernetes_lab import PLUGIN, Running, eventually, kubectl, trust

pytestmark = pytest.mark.soak  # minutes; tests/e2e/test_pools.py has both controllers in the short set

CLUSTER = "shares"
TAG = "k8s.io/cluster-autoscaler/"
USER_DATA = """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster:
    name: {name}
    apiServerEndpoint: {endpoint}
    certificateAuthority: {ca}
    cidr: 10.100.0.0/16
  kubelet:
    flags:
      - "--node-labels=nvidia.com/gpu.present=true,k8s.amazonaws.com/accelerator=nvidia-a10g"
--//--
"""
RBAC_AND_DEPLOYMENT = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: cluster-autoscaler, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: cluster-autoscaler}
rules:
- {apiGroups: [""], resources: [events], verbs: [create, patch]}
- {apiGroups: [""], resources: [pods/eviction], verbs: [create]}
- {apiGroups: [""], resources: [nodes], verbs: [get, list, watch, update]}
- apiGroups: [""]
  resources: [namespaces, pods, services, replicationcontrollers, persistentvolumeclaims, persistentvolumes]
  verbs: [get, list, watch]
- {apiGroups: [batch], resources: [jobs], verbs: [get, list, watch]}
- {apiGroups: [apps], resources: [daemonsets, replicasets, statefulsets], verbs: [get, list, watch]}
- apiGroups: [storage.k8s.io]
  resources: [storageclasses, csinodes, csidrivers, csistoragecapacities, volumeattachments]
  verbs: [get, list, watch]
- {apiGroups: [resource.k8s.io], resources: [resourceclaims, resourceslices, deviceclasses], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: cluster-autoscaler}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-autoscaler}
subjects: [{kind: ServiceAccount, name: cluster-autoscaler, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: cluster-autoscaler, namespace: kube-system}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, get, update]}
- {apiGroups: [""], resources: [configmaps], verbs: [create, get, list, watch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: cluster-autoscaler, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: cluster-autoscaler}
subjects: [{kind: ServiceAccount, name: cluster-autoscaler, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cluster-autoscaler-priority-expander, namespace: kube-system}
data: {priorities: "10: [^gpu$]"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cluster-autoscaler, namespace: kube-system}
spec:
  selector: {matchLabels: {app: cluster-autoscaler}}
  template:
    metadata: {labels: {app: cluster-autoscaler}}
    spec:
      serviceAccountName: cluster-autoscaler
      containers:
      - name: cluster-autoscaler
        image: registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.1
        command:
        - ./cluster-autoscaler
        - --cloud-provider=aws
        - --node-group-auto-discovery=asg:tag=k8s.io/cluster-autoscaler/enabled,k8s.io/cluster-autoscaler/shares
        - --expander=priority,least-waste
        - --scale-down-unneeded-time=5m
        - --scale-down-delay-after-add=5m
"""
PODS_RULE = '- {apiGroups: [""], resources: [pods/eviction], verbs: [create]}'
BUDGETS = "- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [list, watch]}"
HANDLER = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: aws-node-termination-handler, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: aws-node-termination-handler}
rules:
- {apiGroups: [""], resources: [nodes], verbs: [get, list, patch, update]}
- {apiGroups: [""], resources: [pods], verbs: [get, list]}
- {apiGroups: [""], resources: [pods/eviction], verbs: [create]}
- {apiGroups: [apps], resources: [daemonsets], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: aws-node-termination-handler}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: aws-node-termination-handler}
subjects: [{kind: ServiceAccount, name: aws-node-termination-handler, namespace: kube-system}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: aws-node-termination-handler, namespace: kube-system}
spec:
  selector: {matchLabels: {app: aws-node-termination-handler}}
  template:
    metadata: {labels: {app: aws-node-termination-handler}}
    spec:
      serviceAccountName: aws-node-termination-handler
      nodeSelector: {eks.amazonaws.com/nodegroup: general}
      containers:
      - name: aws-node-termination-handler
        image: public.ecr.aws/aws-ec2/aws-node-termination-handler:v1.25.0
        env:
        - {name: ENABLE_SQS_TERMINATION_DRAINING, value: "true"}
        - {name: QUEUE_URL, value: "<queue>"}
"""
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {nvidia.com/gpu.present: "true"}
      containers: [{name: main, image: example/main}]
"""
SHARES = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: shares, namespace: default}
spec:
  replicas: 10
  selector: {matchLabels: {app: shares}}
  template:
    metadata: {labels: {app: shares}}
    spec:
      tolerations: [{key: nvidia.com/gpu, operator: Exists}]
      containers:
      - name: main
        image: example/main
        resources: {requests: {cpu: 100m}, limits: {nvidia.com/gpu: "1"}}
"""


class Shared:
    """A lab with a cluster that has one general node, and a GPU group of zero."""

    def __init__(self, lab: Running) -> None:
        self.lab = lab
        self.subnets = lab.create_cluster(CLUSTER)
        self.node_role = self._node_role()
        self.lab.client("eks").create_nodegroup(
            clusterName=CLUSTER,
            nodegroupName="general",
            subnets=self.subnets[:1],
            nodeRole=self.node_role,
            instanceTypes=["m7i.large"],
            scalingConfig={"minSize": 1, "maxSize": 1, "desiredSize": 1},
        )
        self._gpu_group()
        eventually("the general node", lambda: [n["ready"] for n in lab.status()["clusters"][0]["nodes"]] == [True])

    def _node_role(self) -> str:
        iam = self.lab.client("iam")
        role = iam.create_role(RoleName="node", AssumeRolePolicyDocument=trust("ec2"))["Role"]["Arn"]
        for policy in ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"):
            iam.attach_role_policy(RoleName="node", PolicyArn=f"arn:aws:iam::aws:policy/{policy}")
        iam.create_instance_profile(InstanceProfileName="node")
        iam.add_role_to_instance_profile(InstanceProfileName="node", RoleName="node")
        return str(role)

    def _gpu_group(self) -> None:
        """A self-managed group as somebody writes it by hand: launch template, user data, tags for ten shares. (In CONFIG_MAP mode: no entry.)"""
        client = self.lab.client
        cluster = client("eks").describe_cluster(name=CLUSTER)["cluster"]
        image = client("ssm").get_parameter(
            Name="/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended/image_id"
        )["Parameter"]["Value"]
        text = USER_DATA.format(name=CLUSTER, endpoint=cluster["endpoint"], ca=cluster["certificateAuthority"]["data"])
        data = {
            "ImageId": image,
            "InstanceType": "g5.xlarge",
            "UserData": base64.b64encode(text.encode()).decode(),
            "IamInstanceProfile": {"Name": "node"},
            "InstanceMarketOptions": {"MarketType": "spot"},
        }
        client("ec2").create_launch_template(LaunchTemplateName="gpu", LaunchTemplateData=data)
        tags = {
            f"kubernetes.io/cluster/{CLUSTER}": "owned",
            f"{TAG}enabled": "true",
            f"{TAG}{CLUSTER}": "owned",
            f"{TAG}node-template/resources/nvidia.com/gpu": "10",
            f"{TAG}node-template/label/nvidia.com/gpu.present": "true",
            "aws-node-termination-handler/managed": "",
        }
        client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName="gpu",
            LaunchTemplate={"LaunchTemplateName": "gpu", "Version": "$Latest"},
            MinSize=0,
            MaxSize=3,
            DesiredCapacity=0,
            VPCZoneIdentifier=self.subnets[0],
            Tags=[
                {"Key": k, "Value": v, "PropagateAtLaunch": True, "ResourceId": "gpu", "ResourceType": "auto-scaling-group"}
                for k, v in tags.items()
            ],
        )

    def associate(self, account: str) -> None:
        statement = {"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": ["sts:AssumeRole", "sts:TagSession"]}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        role = self.lab.client("iam").create_role(RoleName=account, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        self.lab.client("eks").create_pod_identity_association(
            clusterName=CLUSTER, namespace="kube-system", serviceAccount=account, roleArn=role
        )

    def queue(self) -> tuple[t.Any, str]:
        """A queue that EventBridge sends to what EC2 and Auto Scaling have to say; with the client for it."""
        sqs, events = self.lab.client("sqs"), self.lab.client("events")
        send = {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [send]})
        url = str(sqs.create_queue(QueueName=CLUSTER, Attributes={"Policy": policy})["QueueUrl"])
        arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        events.put_rule(Name=CLUSTER, EventPattern=json.dumps({"source": ["aws.ec2", "aws.autoscaling"]}))
        events.put_targets(Rule=CLUSTER, Targets=[{"Id": "queue", "Arn": arn}])
        return sqs, url

    def size(self) -> int:
        groups = self.lab.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=["gpu"])["AutoScalingGroups"]
        return int(groups[0]["DesiredCapacity"])

    def apply(self, text: str) -> None:
        kubectl(self.lab, CLUSTER, "apply", "-f", "-", stdin=text)

    def pods(self, selector: str, namespace: str = "default") -> list[dict[str, t.Any]]:
        found = json.loads(kubectl(self.lab, CLUSTER, "-n", namespace, "get", "pods", "-l", selector, "-o", "json"))
        return t.cast("list[dict[str, t.Any]]", found["items"])

    def waiting_for(self) -> str:
        """Why the autoscaler's container does not run."""
        statuses = [s for pod in self.pods("app=cluster-autoscaler", "kube-system") for s in pod["status"].get("containerStatuses", ())]
        return " ".join(s["state"]["waiting"]["message"] for s in statuses if "waiting" in s["state"])

    def nodes(self, selector: str) -> list[dict[str, t.Any]]:
        found = json.loads(kubectl(self.lab, CLUSTER, "get", "nodes", "-l", selector, "-o", "json"))
        return t.cast("list[dict[str, t.Any]]", found["items"])

    def log(self, name: str) -> str:
        return self.lab.run("logs", name).stdout


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    lab = Running(State(tmp_path_factory.mktemp("autoscaler") / "lab"))
    lab.run("up")
    try:
        yield Shared(lab)
    finally:
        lab.run("down")


def test_ten_shares_are_one_node_and_back_to_zero(shared: Shared) -> None:
    """What is missing is said by the pod, one after the other; then ten pods order one node, and none orders none."""
    shared.apply(PLUGIN)
    shared.apply(RBAC_AND_DEPLOYMENT)
    eventually("no credentials", lambda: "no Pod Identity association of kube-system/cluster-autoscaler" in shared.waiting_for())
    shared.associate("cluster-autoscaler")
    eventually("no right", lambda: "may not: poddisruptionbudgets.policy (list, watch)" in shared.waiting_for())
    shared.apply(RBAC_AND_DEPLOYMENT.replace(PODS_RULE, f"{BUDGETS}\n{PODS_RULE}"))
    eventually("running", lambda: not shared.waiting_for(), timeout=60)
    assert shared.size() == 0
    shared.apply(SHARES)
    eventually("one node ordered", lambda: shared.size() == 1)
    eventually("all Running", lambda: [p["status"].get("phase") for p in shared.pods("app=shares")] == ["Running"] * 10)
    assert shared.size() == 1
    kubectl(shared.lab, CLUSTER, "delete", "deployment", "shares")
    eventually("back to zero", lambda: shared.size() == 0, timeout=60)
    eventually("its node is gone", lambda: len(shared.lab.status()["clusters"][0]["nodes"]) == 1)
    calls = [e for e in read(shared.lab.state.request_log) if "cluster-autoscaler" in e.user_agent]
    assert [e.operation for e in calls if e.mutating] == ["SetDesiredCapacity", "TerminateInstanceInAutoScalingGroup"]
    assert {e.principal for e in calls} == {"arn:aws:iam::123456789012:role/cluster-autoscaler"}
    assert "model of cluster-autoscaler" in shared.log("cluster-autoscaler")
    kubectl(shared.lab, CLUSTER, "-n", "kube-system", "delete", "deployment", "cluster-autoscaler")
    eventually("it stops", lambda: "cluster-autoscaler stopped: its pod is gone" in shared.log("daemon"))


def test_a_spot_interruption_drains_and_the_group_replaces(shared: Shared) -> None:
    """From EC2's warning by EventBridge and the queue to pods that run on the next instance; another's instance is left alone."""
    lab, groups = shared.lab, shared.lab.client("autoscaling")
    sqs, queue = shared.queue()
    shared.associate("aws-node-termination-handler")
    shared.apply(HANDLER.replace("<queue>", queue))
    groups.set_desired_capacity(AutoScalingGroupName="gpu", DesiredCapacity=1)
    eventually("the GPU node", lambda: len(shared.nodes("nvidia.com/gpu.present")) == 1, timeout=60)
    shared.apply(WEB)
    eventually("two Running", lambda: [p["status"].get("phase") for p in shared.pods("app=web")] == ["Running"] * 2)
    before = {p["metadata"]["uid"] for p in shared.pods("app=web")}
    [gpu] = shared.nodes("nvidia.com/gpu.present")
    [general] = shared.nodes("eks.amazonaws.com/nodegroup=general")
    detail = {"instance-id": instance_of(general), "instance-action": "terminate"}
    foreign = {"id": "1", "source": "aws.ec2", "detail-type": "EC2 Spot Instance Interruption Warning", "detail": detail}
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(foreign))
    lab.run("clock", "--factor", "5")  # the two minutes of the warning are long enough to look
    lab.run("fault", json.dumps({"kind": "spot_interruption", "instance": instance_of(gpu)}))
    eventually("evicted", lambda: not before & {p["metadata"]["uid"] for p in shared.pods("app=web")})
    assert [n["spec"].get("unschedulable") for n in shared.nodes("nvidia.com/gpu.present")] == [True]
    assert "unschedulable" not in shared.nodes("eks.amazonaws.com/nodegroup=general")[0]["spec"]
    lab.run("clock", "--factor", "60")
    eventually("Running again", lambda: [p["status"].get("phase") for p in shared.pods("app=web")] == ["Running"] * 2, timeout=60)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    eventually(
        "all messages deleted",
        lambda: set(sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"].values()) == {"0"},
    )
    assert "model of aws-node-termination-handler" in shared.log("aws-node-termination-handler")


def test_a_termination_that_a_hook_holds_goes_on_when_the_node_is_drained(shared: Shared) -> None:
    """The hook holds for an hour; the handler of the test before ends that as soon as no pod is left."""
    groups = shared.lab.client("autoscaling")
    [gpu] = shared.nodes("nvidia.com/gpu.present")
    groups.put_lifecycle_hook(
        AutoScalingGroupName="gpu",
        LifecycleHookName="drain",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=3600,
    )
    groups.terminate_instance_in_auto_scaling_group(InstanceId=instance_of(gpu), ShouldDecrementDesiredCapacity=True)
    eventually("the node is gone", lambda: shared.nodes("nvidia.com/gpu.present") == [])
    completed = [e for e in read(shared.lab.state.request_log) if e.operation == "CompleteLifecycleAction"]
    assert [(e.error, e.principal.rpartition("/")[2]) for e in completed] == [("", "aws-node-termination-handler")]


def instance_of(node: dict[str, t.Any]) -> str:
    return str(node["spec"]["providerID"]).rpartition("/")[2]
