# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options that reach a Kubernetes API server."""

from __future__ import annotations


class ModuleDocFragment:
    """Connection options, nested so that validate_certs of AWS and of Kubernetes stay apart."""

    DOCUMENTATION = r"""
options:
  kubernetes:
    description:
      - How to reach the API server where it is not found by O(cluster_name) and the AWS credentials.
      - Without it, endpoint and certificate authority come from C(eks:DescribeCluster) and the token from a presigned
        C(sts:GetCallerIdentity), so that neither the aws CLI nor a kubeconfig is needed.
    type: dict
    suboptions:
      kubeconfig:
        description: Path of a kubeconfig file, or its content as a dictionary.
        type: raw
      context:
        description: Name of the context in the kubeconfig.
        type: str
      host:
        description: URL of the API server.
        type: str
      api_key:
        description: Bearer token.
        type: str
      username:
        description: User name for basic authentication.
        type: str
      password:
        description: Password for basic authentication.
        type: str
      ca_cert:
        description: Path of the file with the API server's certificate authority.
        type: path
      client_cert:
        description: Path of the client certificate.
        type: path
      client_key:
        description: Path of the client certificate's key.
        type: path
      validate_certs:
        description: Whether to verify the API server's certificate.
        type: bool
      proxy:
        description: URL of the proxy to use.
        type: str
requirements:
  - kubernetes >= 28.1.0
"""
