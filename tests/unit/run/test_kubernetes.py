# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which clusters have an API server to talk to, for modules and for the lookup."""

from __future__ import annotations

import base64
import typing as t

import pytest
from ansible.errors import AnsibleLookupError
from ansible_collections.amazon.aws.plugins.plugin_utils.lookup import AWSLookupBase
from ansible_collections.gpuops.eks.plugins.lookup import eks_token
from ansible_collections.gpuops.eks.plugins.module_utils._run.kubernetes import connect, has_endpoint

CLUSTER = {
    "name": "demo",
    "arn": "arn:aws:eks:us-west-2:123456789012:cluster/demo",
    "status": "ACTIVE",
    "endpoint": "https://demo.example",
    "certificateAuthority": {"data": base64.b64encode(b"CA").decode()},
}
SILENT = [None, {**CLUSTER, "status": "CREATING", "endpoint": None}, {**CLUSTER, "status": "DELETING"}]


def new_token(name: str) -> str:
    return f"token-{name}"


@pytest.mark.parametrize("cluster", SILENT)
def test_there_is_no_way_to_a_cluster_that_is_made_or_goes(cluster: dict[str, t.Any] | None) -> None:
    assert connect(cluster, None, new_token, lambda token: None) is None


def test_a_cluster_that_is_updated_is_talked_to() -> None:
    assert has_endpoint({**CLUSTER, "status": "UPDATING"})


def lookup(monkeypatch: pytest.MonkeyPatch, cluster: dict[str, t.Any] | None, missing: str) -> list[t.Any]:
    """The kubeconfigs that the lookup returns for demo, with this answer of eks:DescribeCluster."""
    plugin = eks_token.LookupModule()
    options = {"kubeconfig": True, "missing": missing}
    monkeypatch.setattr(AWSLookupBase, "run", lambda self, terms, variables=None, **kwargs: None)
    monkeypatch.setattr(eks_token.LookupModule, "get_option", lambda self, name: options[name])
    monkeypatch.setattr(eks_token.LookupModule, "region", "us-west-2")
    monkeypatch.setattr(eks_token, "find_cluster", lambda aws, name: cluster)
    monkeypatch.setattr(eks_token, "get_aws_connection_info", lambda plugin: ("us-west-2", None, {}))
    monkeypatch.setattr(eks_token, "presigned_token", lambda connection, *, region, cluster_name: new_token(cluster_name))
    return plugin.run(["demo"], {})


@pytest.mark.parametrize("cluster", SILENT)
def test_the_lookup_skips_such_a_cluster_or_fails_as_it_is_told(monkeypatch: pytest.MonkeyPatch, cluster: dict[str, t.Any] | None) -> None:
    assert lookup(monkeypatch, cluster, "skip") == []
    with pytest.raises(AnsibleLookupError, match="does not exist in us-west-2, has no endpoint yet, or is being deleted"):
        lookup(monkeypatch, cluster, "fail")


def test_the_lookup_returns_the_kubeconfig_of_an_active_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    [config] = lookup(monkeypatch, CLUSTER, "skip")
    assert config["clusters"][0]["cluster"]["server"] == "https://demo.example"
