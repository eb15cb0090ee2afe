# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""User data to text and back: the same settings, the same bytes; what a node's own reader makes of it."""

from __future__ import annotations

import dataclasses
import email
import json
import tomllib
import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import GPU_TAINT, Taint
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import (
    ClusterData,
    NodeSettings,
    parse,
    render,
    repeated_tables,
    user_data_faults,
)
from hypothesis import given
from hypothesis import strategies as st

CLUSTER = ClusterData(name="demo", endpoint="https://api.example.com", certificate_authority="Q0E=", cidr="172.20.0.0/16")
STARTUP = Taint(key="startup-taint.cluster-autoscaler.kubernetes.io/gpu", value="", effect="NoExecute")
SCRIPT = "#!/bin/bash\necho 'größer'\n"
CONFIG = "---\napiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {kubelet: {config: {maxPods: 20}}}"
FULL = NodeSettings(
    cluster=CLUSTER,
    labels={"team": "ml", "gpuops.eks/nodepool": "gpu"},
    taints=frozenset({GPU_TAINT, STARTUP}),
    raid0=True,
    fast_image_pull=True,
    extra=(SCRIPT, CONFIG, '{"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig"}', "#cloud-config\nruncmd: []\n"),
)
TOML = NodeSettings(
    cluster=CLUSTER,
    labels=FULL.labels,
    taints=frozenset({GPU_TAINT, Taint(key="nvidia.com/gpu", value="", effect="NoExecute"), STARTUP}),
    sharing=Sharing(strategy="time_slicing", replicas=10),
    extra=('[settings.ntp]\ntime-servers = ["169.254.169.123"]\n', '[settings.motd-part]\nx = "[not.a.table]"'),
)


def node_configs(text: str) -> list[t.Any]:
    """The NodeConfig parts as a MIME reader sees them."""
    parts = email.message_from_string(text).walk()
    return [part.get_payload() for part in parts if part.get_content_type() == "application/node.eks.aws"]


@pytest.mark.parametrize(
    "settings",
    [
        NodeSettings(),
        NodeSettings(raid0=True),
        NodeSettings(fast_image_pull=True),
        NodeSettings(taints=frozenset({STARTUP})),
        NodeSettings(extra=(SCRIPT,)),
        NodeSettings(mig_layout={"1g.5gb": 7}),
        dataclasses.replace(FULL, mig_layout={"1g.5gb": 2, "2g.10gb": 1, "3g.20gb": 1}),
        FULL,
        NodeSettings(foreign="#!/bin/sh\n/etc/eks/bootstrap.sh demo"),
    ],
)
def test_amazon_linux_and_back(settings: NodeSettings) -> None:
    assert parse(render("al2023", settings)) == settings


@pytest.mark.parametrize(
    "settings",
    [
        NodeSettings(),
        NodeSettings(taints=frozenset({STARTUP})),
        NodeSettings(sharing=Sharing()),
        NodeSettings(sharing=Sharing(strategy="time_slicing", replicas=2, rename=True, fail_requests_greater_than_one=False)),
        NodeSettings(sharing=Sharing(strategy="mps", replicas=5)),
        NodeSettings(mig_profiles={"a100.40gb": "1g.5gb"}),
        NodeSettings(mig_profiles={"h100.80gb": "1g.10gb"}, sharing=Sharing(strategy="time_slicing", replicas=2)),
        NodeSettings(extra=("[settings.ntp]\n",)),
        dataclasses.replace(TOML, cluster=dataclasses.replace(CLUSTER, cidr="fd30:1c53:5f8a::/108")),
        TOML,
    ],
)
def test_bottlerocket_and_back(settings: NodeSettings) -> None:
    text = render("bottlerocket", settings)
    assert parse(text) == settings
    tomllib.loads(text)


@pytest.mark.parametrize("family", ["al2023", "bottlerocket"])
def test_nothing_to_say(family: str) -> None:
    assert render(family, NodeSettings()) == ""


def test_a_self_managed_node_is_told_all() -> None:
    ours, *users = node_configs(render("al2023", FULL))
    assert json.loads(ours) == {
        "apiVersion": "node.eks.aws/v1alpha1",
        "kind": "NodeConfig",
        "spec": {
            "cluster": {
                "name": "demo",
                "apiServerEndpoint": "https://api.example.com",
                "certificateAuthority": "Q0E=",
                "cidr": "172.20.0.0/16",
            },
            "kubelet": {
                "flags": [
                    "--node-labels=gpuops.eks/nodepool=gpu,team=ml",
                    "--register-with-taints=nvidia.com/gpu=true:NoSchedule,startup-taint.cluster-autoscaler.kubernetes.io/gpu=:NoExecute",
                ]
            },
            "instance": {"localStorage": {"strategy": "RAID0"}},
            "featureGates": {"FastImagePull": True},
        },
    }
    assert [text.strip() for text in users] == [CONFIG, FULL.extra[2]]


def test_other_parts_are_for_cloud_init() -> None:
    parts = email.message_from_bytes(render("al2023", FULL).encode()).get_payload()
    assert [part.get_content_type() for part in t.cast("list[email.message.Message]", parts)] == [
        "application/node.eks.aws",
        "text/x-shellscript",
        "application/node.eks.aws",
        "application/node.eks.aws",
        "text/cloud-config",
    ]
    script = t.cast("list[email.message.Message]", parts)[1].get_payload(decode=True)
    assert t.cast(bytes, script).decode() == SCRIPT


def test_gpus_are_cut_by_the_last_script() -> None:
    """What comes after a reboot, cloud-init does not run again."""
    text = render("al2023", dataclasses.replace(FULL, mig_layout={"1g.5gb": 7}))
    parts = t.cast("list[email.message.Message]", email.message_from_string(text).get_payload())
    assert parts[-1].get_content_type() == "text/x-shellscript"
    assert str(parts[-1].get_payload()).startswith("#!/bin/bash\n# gpuops.eks")


def test_bottlerocket_cuts_and_shares_by_its_settings() -> None:
    settings = NodeSettings(mig_profiles={"a100.40gb": "1g.5gb"}, sharing=Sharing(strategy="time_slicing", replicas=2))
    assert tomllib.loads(render("bottlerocket", settings))["settings"]["kubelet-device-plugins"]["nvidia"] == {
        "device-partitioning-strategy": "mig",
        "device-sharing-strategy": "time-slicing",
        "mig": {"profile": {"a100.40gb": "1g.5gb"}},
        "time-slicing": {"replicas": 2, "rename-by-default": False, "fail-requests-greater-than-one": True},
    }
    served = NodeSettings(sharing=Sharing(strategy="mps", replicas=5))
    assert tomllib.loads(render("bottlerocket", served))["settings"]["kubelet-device-plugins"]["nvidia"] == {
        "device-sharing-strategy": "mps",
        "mps": {"replicas": 5, "rename-by-default": False},
    }


def test_bottlerocket_is_told_all() -> None:
    assert tomllib.loads(render("bottlerocket", TOML))["settings"] == {
        "kubernetes": {
            "api-server": "https://api.example.com",
            "cluster-certificate": "Q0E=",
            "cluster-dns-ip": "172.20.0.10",
            "cluster-name": "demo",
            "node-labels": {"gpuops.eks/nodepool": "gpu", "team": "ml"},
            "node-taints": {"nvidia.com/gpu": [":NoExecute", "true:NoSchedule"], STARTUP.key: [":NoExecute"]},
        },
        "kubelet-device-plugins": {
            "nvidia": {
                "device-sharing-strategy": "time-slicing",
                "time-slicing": {"replicas": 10, "rename-by-default": False, "fail-requests-greater-than-one": True},
            }
        },
        "ntp": {"time-servers": ["169.254.169.123"]},
        "motd-part": {"x": "[not.a.table]"},
    }


LABELS = st.dictionaries(
    st.from_regex(r"[a-z]{1,9}(\.io/[a-z]{1,9})?", fullmatch=True), st.from_regex(r"[A-Za-z0-9._-]{0,9}", fullmatch=True)
)
TAINTS = st.frozensets(
    st.builds(
        Taint,
        key=st.from_regex(r"[a-z]{1,9}(\.io/[a-z]{1,9})?", fullmatch=True),
        value=st.from_regex(r"[a-z0-9._-]{0,9}", fullmatch=True),
        effect=st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"]),
    )
)
TEXTS = st.lists(st.text().map(lambda text: f"#!{text}"), max_size=3).map(tuple)


@given(LABELS, TAINTS, st.booleans(), TEXTS)
def test_the_same_settings_are_the_same_bytes(
    labels: dict[str, str], taints: frozenset[Taint], raid0: bool, extra: tuple[str, ...]
) -> None:
    settings = NodeSettings(cluster=CLUSTER, labels=labels, taints=taints, raid0=raid0, extra=extra)
    turned = dataclasses.replace(settings, labels=dict(reversed(labels.items())), taints=frozenset(sorted(taints, key=repr, reverse=True)))
    text = render("al2023", settings)
    assert render("al2023", turned) == text
    assert parse(text) == settings


@pytest.mark.parametrize(
    ("family", "text", "fits"),
    [
        ("al2023", SCRIPT, True),
        ("al2023", CONFIG, True),
        ("al2023", '{"kind":"NodeConfig"}', True),
        ("al2023", "#cloud-config\n", True),
        ("al2023", "#!/bin/sh\ncat > /x <<EOT\nkind: NodeConfig\nEOT\n", True),
        ("al2023", "kind: ClusterConfig", False),
        ("al2023", "echo hello", False),
        ("al2023", "[settings.ntp]", False),
        ("bottlerocket", "[settings.ntp]", True),
        ("bottlerocket", "# ours\n[settings]\n", True),
        ("bottlerocket", SCRIPT, False),
        ("bottlerocket", CONFIG, False),
    ],
)
def test_texts_that_a_node_reads(family: str, text: str, fits: bool) -> None:
    faults = user_data_faults(family, [SCRIPT if family == "al2023" else "[settings.pki]", text], "user_data")
    assert [fault.path for fault in faults] == ([] if fits else ["user_data[1]"])


def test_a_table_is_defined_once() -> None:
    extra = ("[settings.kubernetes]\nmax-pods = 20\n", "[ settings.'ntp' ] # time\n[settings.ntp]\n[settings.kubernetes.eviction-hard]\n")
    assert repeated_tables(dataclasses.replace(TOML, extra=extra)) == [(0, "settings.kubernetes"), (1, "settings.ntp")]
    assert repeated_tables(NodeSettings(extra=extra[:1])) == []


def test_the_cluster_as_eks_describes_it() -> None:
    reply = {
        "name": "demo",
        "endpoint": "https://api.example.com",
        "certificateAuthority": {"data": "Q0E="},
        "kubernetesNetworkConfig": {"serviceIpv4Cidr": "172.20.0.0/16", "ipFamily": "ipv4"},
    }
    assert ClusterData.from_api(reply) == CLUSTER
    six = {**reply, "kubernetesNetworkConfig": {"serviceIpv6Cidr": "fd30:1c53:5f8a::/108", "ipFamily": "ipv6"}}
    assert ClusterData.from_api(six).dns_address == "fd30:1c53:5f8a::a"
