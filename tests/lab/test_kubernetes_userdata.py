# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""User data as nodeadm (awslabs/amazon-eks-ami), kubelet and Bottlerocket (its settings reference) read it."""

from __future__ import annotations

import base64
import gzip
import json
import typing as t

import pytest

from lab.nodes.userdata import Boot, CannotBoot, parse

CLUSTER = """
  cluster:
    name: lab
    apiServerEndpoint: https://example.test
    certificateAuthority: Q0E=
    cidr: 10.100.0.0/16
"""
TOML = """
[settings.kubernetes]
cluster-name = "lab"
api-server = "https://example.test"
cluster-certificate = "Q0E="
[settings.kubernetes.node-labels]
"gpuops.eks/nodepool" = "a"
[settings.kubernetes.node-taints]
"nvidia.com/gpu" = ["true:NoSchedule", ":NoExecute"]
"one" = "x:PreferNoSchedule"
[settings.kubelet-device-plugins.nvidia]
device-sharing-strategy = "time-slicing"
[settings.kubelet-device-plugins.nvidia.time-slicing]
replicas = 4
rename-by-default = false
"""


def config(spec: str) -> str:
    return f"---\napiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec:{spec}"


def multipart(*parts: tuple[str, str]) -> str:
    body = "".join(f"--XX\nContent-Type: {kind}\n\n{text}\n" for kind, text in parts)
    return f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="XX"\n\n{body}--XX--\n'


def boot(text: str | bytes, *, bottlerocket: bool = False, managed: bool = False) -> Boot:
    data = text.encode() if isinstance(text, str) else text
    return parse(base64.b64encode(data).decode(), bottlerocket=bottlerocket, managed=managed)


def test_parts_are_merged_in_order_and_scripts_are_left_out() -> None:
    """nodeadm merge.go: later values prevail, flags add up; kubelet: labels of all flags, taints of the last one alone."""
    first = config(f"{CLUSTER}  kubelet:\n    flags: ['--node-labels=a=1,b=2', '--register-with-taints=x=1:NoSchedule']\n")
    second = config(
        "\n  cluster: {name: other}\n  kubelet:\n    flags: ['--node-labels b=3', '--register-with-taints=y:NoExecute,z=:NoSchedule']\n"
    )
    found = boot(
        multipart(("application/node.eks.aws", first), ("text/x-shellscript", "#!/bin/sh\n"), ("application/node.eks.aws", second))
    )
    assert found.labels == {"a": "1", "b": "3"}
    assert found.taints == (
        {"key": "y", "value": "", "effect": "NoExecute"},
        {"key": "z", "value": "", "effect": "NoSchedule"},
    )
    assert (found.cluster, found.endpoint, found.certificate_authority) == ("other", "https://example.test", "Q0E=")


@pytest.mark.parametrize("flag", ['--node-labels="a/b=1,c=2"', "--node-labels='a/b=1,c=2'", "--node-labels=a/b=1,c=2"])
def test_quotes_of_flags_are_systemds(flag: str) -> None:
    """nodeadm hands flags on in the environment of kubelet's unit; Karpenter quotes its labels."""
    assert boot(config(f"{CLUSTER}  kubelet:\n    flags: [{json.dumps(flag)}]\n")).labels == {"a/b": "1", "c": "2"}


def test_taints_of_the_kubelet_configuration() -> None:
    """KubeletConfiguration registerWithTaints counts where no flag says otherwise."""
    kubelet = "  kubelet:\n    config:\n      registerWithTaints: [{key: nvidia.com/gpu, value: 'true', effect: NoSchedule}]\n"
    assert boot(config(CLUSTER + kubelet)).taints == ({"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"},)
    flag = "    flags: ['--register-with-taints=a=b:NoSchedule']\n"
    assert [taint["key"] for taint in boot(config(CLUSTER + kubelet + flag)).taints] == ["a"]


@pytest.mark.parametrize("how", ["plain", "gzip", "base64"])
def test_forms_of_user_data(how: str) -> None:
    """nodeadm userdata.go: a NodeConfig alone, compressed, or base64 once more."""
    text = config(CLUSTER).encode()
    assert boot({"plain": text, "gzip": gzip.compress(text), "base64": base64.b64encode(text)}[how]).cluster == "lab"


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("name", "Name is"),
        ("apiServerEndpoint", "Apiserver endpoint is"),
        ("certificateAuthority", "Certificate authority is"),
        ("cidr", "CIDR is"),
    ],
)
def test_each_required_field_counts_but_not_of_a_managed_node(field: str, words: str) -> None:
    """nodeadm validation.go; EKS adds the cluster of a managed node itself."""
    text = config("\n".join(line for line in CLUSTER.splitlines() if f" {field}:" not in line) + "\n")
    with pytest.raises(CannotBoot, match=f"{words} missing in cluster configuration"):
        boot(multipart(("application/node.eks.aws", text)))
    boot(multipart(("application/node.eks.aws", text)), managed=True)


REFUSED: list[tuple[str, str, str]] = [
    ("a script alone", "#!/bin/sh\n/etc/eks/bootstrap.sh lab\n", "could not find NodeConfig"),
    ("nothing", "", "could not find NodeConfig"),
    ("a multipart of scripts", multipart(("text/x-shellscript", "#!/bin/sh\n")), "could not find NodeConfig"),
    ("another kind", "apiVersion: v1\nkind: ConfigMap\n", "no NodeConfig"),
    ("broken YAML", "apiVersion: [\n", "cannot be read"),
    ("kubelet taint spec", config(f"{CLUSTER}  kubelet: {{flags: ['--register-with-taints=a=b']}}\n"), "invalid taint spec"),
    ("kubelet taint effect", config(f"{CLUSTER}  kubelet: {{flags: ['--register-with-taints=a=b:No']}}\n"), "invalid taint spec"),
    (
        "kubelet label",
        config(f"{CLUSTER}  kubelet: {{flags: ['--node-labels=node-role.kubernetes.io/gpu=']}}\n"),
        "node-role.kubernetes.io/gpu",
    ),
]


@pytest.mark.parametrize(("what", "text", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_keeps_a_node_from_booting(what: str, text: str, message: str) -> None:
    """nodeadm mime.go; k8s.io/kubelet well_known_labels.go and the kubelet's option parser."""
    with pytest.raises(CannotBoot, match=message):
        boot(text)


@pytest.mark.parametrize(
    "label", ["node.kubernetes.io/a", "kubelet.kubernetes.io/a", "topology.kubernetes.io/zone", "nvidia.com/gpu.present", "a"]
)
def test_labels_that_kubelet_may_set(label: str) -> None:
    assert boot(config(f"{CLUSTER}  kubelet: {{flags: ['--node-labels={label}=x']}}\n")).labels == {label: "x"}


def test_bottlerocket() -> None:
    """Settings reference: node-labels, node-taints with one value or several; the device plugin's sharing."""
    found = boot(TOML, bottlerocket=True)
    assert found.labels == {"gpuops.eks/nodepool": "a"}
    assert {(taint["key"], taint["value"], taint["effect"]) for taint in found.taints} == {
        ("nvidia.com/gpu", "true", "NoSchedule"),
        ("nvidia.com/gpu", "", "NoExecute"),
        ("one", "x", "PreferNoSchedule"),
    }
    assert (found.cluster, found.endpoint, found.certificate_authority) == ("lab", "https://example.test", "Q0E=")
    assert found.device_plugin["time-slicing"] == {"replicas": 4, "rename-by-default": False}


@pytest.mark.parametrize("name", ["cluster-name", "api-server", "cluster-certificate"])
def test_what_bottlerocket_needs(name: str) -> None:
    """Settings reference: the three settings of aws-k8s variants, which EKS adds for managed nodes."""
    text = "\n".join(line for line in TOML.splitlines() if not line.startswith(name))
    with pytest.raises(CannotBoot, match=f"settings.kubernetes.{name} is missing"):
        boot(text, bottlerocket=True)
    assert boot(text, bottlerocket=True, managed=True).labels


@pytest.mark.parametrize("text", ["settings = [", "#!/bin/sh\nexit 1\n"])
def test_bottlerocket_reads_toml_alone(text: str) -> None:
    with pytest.raises(CannotBoot, match="cannot be read"):
        boot(text, bottlerocket=True)


def test_a_managed_node_without_user_data() -> None:
    for system in (True, False):
        found: t.Any = boot("", bottlerocket=system, managed=True)
        assert (found.labels, found.taints) == ({}, ())
