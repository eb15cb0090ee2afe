# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bearer tokens and kubeconfigs for EKS clusters, without the aws CLI."""

from __future__ import annotations

DOCUMENTATION = r"""
name: eks_token
short_description: Bearer token or kubeconfig for an EKS cluster
version_added: 0.1.0
author:
  - the gpuops.eks contributors (@gpuops)
description:
  - Returns a token that EKS takes for the AWS identity of the options (a presigned C(sts:GetCallerIdentity)), or with O(kubeconfig) a
    whole kubeconfig as a dictionary, with endpoint and certificate authority from C(eks:DescribeCluster).
  - Modules of kubernetes.core take either, so that they need neither the aws CLI nor a kubeconfig file.
  - A token is made without a call to AWS and is good for 15 minutes. The identity needs an access entry on the cluster.
options:
  _terms:
    description: Names of clusters.
    type: list
    elements: str
    required: true
  kubeconfig:
    description: Whether to return kubeconfigs instead of tokens.
    type: bool
    default: false
  missing:
    description:
      - What to do, with O(kubeconfig), about a cluster that does not exist, has no endpoint yet, or is being deleted. V(skip) returns nothing for
        it; every other error fails all the same.
    type: str
    choices: [fail, skip]
    default: fail
extends_documentation_fragment:
  - amazon.aws.boto3
  - amazon.aws.common.plugins
  - amazon.aws.region.plugins
seealso:
  - module: gpuops.eks.nvidia_device_plugin
notes:
  - Where ansible-core can mark values as secret (2.22), tokens are marked. Before, kubernetes.core shows the arguments of its tasks, tokens
    among them, from C(-vvv) on; set C(no_log) as in the example. Modules of this collection never show a token.
"""

EXAMPLES = r"""
- name: Pods of a cluster
  kubernetes.core.k8s_info:
    kind: Pod
    kubeconfig: "{{ lookup('gpuops.eks.eks_token', 'demo', region='us-west-2', kubeconfig=true) }}"

- name: The same with nothing secret in the output, however verbose
  kubernetes.core.k8s_info:
    kind: Pod
    kubeconfig: "{{ lookup('gpuops.eks.eks_token', 'demo', region='us-west-2', kubeconfig=true) }}"
  no_log: "{{ ansible_verbosity > 2 }}"
"""

RETURN = r"""
_raw:
  description: A token, or with O(kubeconfig) a kubeconfig, for each cluster.
  type: list
  elements: raw
"""

import importlib.util
import typing as t

from ansible.errors import AnsibleLookupError
from ansible_collections.amazon.aws.plugins.plugin_utils.botocore import get_aws_connection_info
from ansible_collections.amazon.aws.plugins.plugin_utils.lookup import AWSLookupBase
from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.kubeconfig import kubeconfig
from ansible_collections.gpuops.eks.plugins.module_utils._run.kubernetes import find_cluster, has_endpoint, presigned_token


def _mark_secret(value: str) -> None:
    """Have the value masked wherever it is shown, where ansible-core can do that (since 2.22)."""
    if importlib.util.find_spec("ansible.module_utils.secrets") is not None:
        importlib.import_module("ansible.module_utils.secrets").register_secret(value)


class LookupModule(AWSLookupBase):
    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[t.Any]:
        """A token or kubeconfig for each term; AnsibleLookupError with what to do."""
        super().run(terms, variables, **kwargs)
        try:
            if self.get_option("kubeconfig"):
                return [made for name in terms if (made := self._kubeconfig(name))]
            return [self._token(name) for name in terms]
        except GpuopsError as error:
            raise AnsibleLookupError(str(error)) from error

    def _token(self, name: str) -> str:
        region, _endpoint, connection = get_aws_connection_info(self)
        if region is None:
            raise GpuopsError("No AWS region is set.", hint="Set the option region (in inventories: eks_cluster_region).")
        token = presigned_token(connection, region=region, cluster_name=name)
        _mark_secret(token)
        return token

    def _kubeconfig(self, name: str) -> dict[str, t.Any] | None:
        cluster = find_cluster(Aws(self.client), name)
        if not has_endpoint(cluster):
            if self.get_option("missing") == "skip":
                return None
            raise GpuopsError(f"EKS cluster {name} does not exist in {self.region}, has no endpoint yet, or is being deleted.")
        return kubeconfig(cluster, self._token(name))
