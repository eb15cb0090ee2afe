# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which instances become nodes: EKS User Guide self-managed-nodes and access-entries, nodeadm's validation."""

from __future__ import annotations

import base64
import logging
import typing as t
from dataclasses import dataclass, field

import pytest

from lab.contracts import ClusterRef
from lab.kubernetes.client import Json, Kube
from lab.nodes.node import GPUS
from lab.nodes.registrar import Registrar
from tests.lab.conftest import REGION, ClusterSetup

AMI_PARAMETER = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended/image_id"


@dataclass
class FakeKube:
    """An API server that takes nodes."""

    nodes: dict[str, Json] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Json) -> Json:
        assert (method, path) == ("POST", "/api/v1/nodes")
        self.nodes[body["metadata"]["name"]] = body
        return body

    def delete(self, path: str) -> None:
        del self.nodes[path.rpartition("/")[2]]

    def merge(self, path: str, change: Json) -> None:
        raise AssertionError(f"{path}: {change}")


@dataclass
class Joiner:
    """A cluster, its registrar, and instances of an Auto Scaling group of the user's own."""

    setup: ClusterSetup
    cluster: Json
    kube: FakeKube
    registrar: Registrar

    def step(self) -> list[Json]:
        """The nodes that there are after a while."""
        self.registrar.step()
        self.setup.aws.pass_time(60)
        self.registrar.step()
        return list(self.kube.nodes.values())

    def user_data(self, **changes: str) -> str:
        values = {
            "name": "lab",
            "apiServerEndpoint": self.cluster["endpoint"],
            "certificateAuthority": self.cluster["certificateAuthority"]["data"],
            "cidr": "10.100.0.0/16",
        } | changes
        fields = "".join(f"    {name}: {value}\n" for name, value in values.items() if value)
        flags = "['--node-labels=team=ml', '--register-with-taints=nvidia.com/mig-pending=true:NoSchedule']"
        text = f"apiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:\n  cluster:\n{fields}  kubelet:\n    flags: {flags}\n"
        return f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="X"\n\n--X\nContent-Type: application/node.eks.aws\n\n{text}\n--X--\n'

    def group(self, user_data: str, **tags: str) -> None:
        """One instance."""
        aws = self.setup.aws
        iam = aws.client("iam")
        iam.create_instance_profile(InstanceProfileName="own")
        iam.add_role_to_instance_profile(InstanceProfileName="own", RoleName="node")
        data = {
            "ImageId": aws.client("ssm").get_parameter(Name=AMI_PARAMETER)["Parameter"]["Value"],
            "InstanceType": "g5.xlarge",
            "IamInstanceProfile": {"Name": "own"},
            "UserData": base64.b64encode(user_data.encode()).decode(),
        }
        aws.client("ec2").create_launch_template(LaunchTemplateName="own", LaunchTemplateData=data)
        given = {"kubernetes.io/cluster/lab": "owned", **tags}
        aws.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName="own",
            MinSize=1,
            MaxSize=1,
            VPCZoneIdentifier=self.setup.subnets[0],
            LaunchTemplate={"LaunchTemplateName": "own", "Version": "$Latest"},
            Tags=[{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in given.items()],
        )

    def enter(self, entry_type: str = "EC2_LINUX") -> None:
        self.setup.aws.client("eks").create_access_entry(clusterName="lab", principalArn=self.setup.node_role, type=entry_type)


def joiner(setup: ClusterSetup, mode: str = "API_AND_CONFIG_MAP") -> Joiner:
    cluster = setup.create_cluster(accessConfig={"authenticationMode": mode})
    kube = FakeKube()
    ref = ClusterRef(account=setup.aws.server.account, region=REGION, name="lab", version="1.36")
    server = setup.aws.server
    registrar = Registrar(
        ref, t.cast(Kube, kube), lambda: list(kube.nodes.values()), server.internal_client, setup.aws.clock, server.faults.for_node
    )
    return Joiner(setup, cluster, kube, registrar)


@pytest.mark.parametrize("entry_type", ["EC2_LINUX", "EC2"])
def test_a_self_managed_instance_joins(setup: ClusterSetup, entry_type: str) -> None:
    """User guide access-entries: types EC2_LINUX and EC2; labels and taints of the kubelet's flags."""
    found = joiner(setup)
    found.enter(entry_type)
    found.group(found.user_data())
    (node,) = found.step()
    assert node["metadata"]["labels"]["team"] == "ml"
    assert node["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"
    assert node["spec"]["taints"] == [{"key": "nvidia.com/mig-pending", "value": "true", "effect": "NoSchedule"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cidr": ""}, "nodeadm: CIDR is missing in cluster configuration"),
        ({"name": "another"}, "the cluster name in its user data is not the cluster's ('another')"),
        ({"apiServerEndpoint": "https://elsewhere"}, "the API server endpoint in its user data is not the cluster's"),
        ({"certificateAuthority": "QQ=="}, "the certificate authority in its user data is not the cluster's"),
    ],
)
def test_wrong_user_data_keeps_an_instance_out(
    setup: ClusterSetup, caplog: pytest.LogCaptureFixture, changes: dict[str, str], message: str
) -> None:
    """nodeadm validation.go; what is wrong is in the log, once."""
    found = joiner(setup)
    found.enter()
    found.group(found.user_data(**changes))
    with caplog.at_level(logging.WARNING):
        assert found.step() == found.step() == []
    (said,) = [record.getMessage() for record in caplog.records if "does not join" in record.getMessage()]
    assert message in said


def test_without_an_access_entry_an_instance_waits(setup: ClusterSetup, caplog: pytest.LogCaptureFixture) -> None:
    """User guide access-entries: kubelet is Unauthorized until the entry is there; a STANDARD one is not for nodes."""
    found = joiner(setup)
    found.group(found.user_data())
    assert found.step() == []
    assert "You may want to create an access entry for" in caplog.text
    found.enter("STANDARD")
    assert found.step() == []
    assert "has an access entry of type STANDARD" in caplog.text
    setup.aws.client("eks").delete_access_entry(clusterName="lab", principalArn=setup.node_role)
    found.enter()
    assert len(found.step()) == 1


def test_in_config_map_mode_nobody_asks_for_entries(setup: ClusterSetup) -> None:
    """ConfigMap aws-auth is not imitated: who boots, joins."""
    found = joiner(setup, "CONFIG_MAP")
    found.group(found.user_data())
    assert len(found.step()) == 1


def test_a_role_gone_from_the_profile(setup: ClusterSetup, caplog: pytest.LogCaptureFixture) -> None:
    found = joiner(setup)
    found.enter()
    found.group(found.user_data())
    setup.aws.client("iam").remove_role_from_instance_profile(InstanceProfileName="own", RoleName="node")
    assert found.step() == []
    assert "has no role" in caplog.text


def test_karpenters_instances_are_asked_like_others(setup: ClusterSetup) -> None:
    """Karpenter's docs, "Getting started": the role of its nodes needs an access entry; its user data has the taint."""
    found = joiner(setup)
    taint = "karpenter.sh/unregistered=:NoExecute"
    text = found.user_data().replace("nvidia.com/mig-pending=true:NoSchedule", taint)
    found.group(text, **{"karpenter.sh/nodepool": "gpu"})
    assert found.step() == []
    found.enter()
    (node,) = found.step()
    assert [(each["key"], each["effect"]) for each in node["spec"]["taints"]] == [("karpenter.sh/unregistered", "NoExecute")]


@pytest.mark.parametrize("zone", ["us-west-2a", None])
def test_a_fault_keeps_a_node_from_registering(setup: ClusterSetup, zone: str | None) -> None:
    """The lever of the lab's own; an instance stays what it was when it came, also when the fault is gone."""
    found = joiner(setup)
    found.enter()
    fault = {"kind": "node", "behaviour": "never_registers", "instance_type": "g5.xlarge"} | ({"zone": zone} if zone else {})
    setup.aws.server.faults.add(fault)
    found.group(found.user_data())
    assert found.step() == []
    setup.aws.server.faults.clear()
    assert found.step() == []


def test_a_fault_takes_a_nodes_gpus(setup: ClusterSetup) -> None:
    found = joiner(setup)
    found.enter()
    setup.aws.server.faults.add({"kind": "node", "behaviour": "without_gpus", "times": 1})
    found.group(found.user_data())
    (node,) = found.step()
    assert GPUS not in node["metadata"]["annotations"]
    assert node["metadata"]["labels"]["node.kubernetes.io/instance-type"] == "g5.xlarge"
    ec2 = setup.aws.client("ec2")
    ec2.terminate_instances(InstanceIds=[node["spec"]["providerID"].rpartition("/")[2]])
    setup.aws.pass_time()
    found.step()
    (another,) = found.step()
    assert another["metadata"]["annotations"][GPUS] == "1"


def test_a_managed_node_takes_labels_and_taints_of_its_template_too(setup: ClusterSetup) -> None:
    """User guide launch-templates: user data is merged with EKS's own; the group's labels and taints prevail."""
    found = joiner(setup)
    text = found.user_data(name="", apiServerEndpoint="", certificateAuthority="", cidr="").replace("  cluster:\n", "")
    data = {"UserData": base64.b64encode(text.encode()).decode()}
    template = setup.aws.client("ec2").create_launch_template(LaunchTemplateName="mng", LaunchTemplateData=data)["LaunchTemplate"]
    setup.create_nodegroup(
        launchTemplate={"id": template["LaunchTemplateId"]},
        labels={"team": "group"},
        taints=[{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}],
    )
    (node,) = found.step()
    assert node["metadata"]["labels"]["team"] == "group"
    assert {taint["key"] for taint in node["spec"]["taints"]} == {"nvidia.com/gpu", "nvidia.com/mig-pending"}


def test_a_managed_node_of_ones_own_image_needs_the_cluster_in_its_user_data(setup: ClusterSetup, caplog: pytest.LogCaptureFixture) -> None:
    """User guide launch-templates, "Specifying an AMI": EKS adds no user data then."""
    found = joiner(setup)
    image = setup.aws.client("ssm").get_parameter(Name=AMI_PARAMETER)["Parameter"]["Value"]
    for name, text in (("bad", found.user_data(cidr="")), ("good", found.user_data())):
        data = {"ImageId": image, "UserData": base64.b64encode(text.encode()).decode()}
        template = setup.aws.client("ec2").create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]
        setup.create_nodegroup(name, amiType=None, launchTemplate={"id": template["LaunchTemplateId"]})
    (node,) = found.step()
    assert node["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] == "good"
    assert "CIDR is missing" in caplog.text
