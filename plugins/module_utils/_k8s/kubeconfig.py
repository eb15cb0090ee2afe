# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A kubeconfig for an EKS cluster, as a dictionary."""

from __future__ import annotations

import typing as t


def kubeconfig(cluster: t.Mapping[str, t.Any], token: str) -> dict[str, t.Any]:
    """One cluster, one user, one context, all named by the ARN of the cluster as eks:DescribeCluster returns it; no other file is needed.

    The ARN is the name that ``aws eks update-kubeconfig`` takes too. A short name would do harm: kubernetes.core before 6.3 masks every value of
    a kubeconfig in its results, wherever it occurs.
    """
    name = cluster["arn"]
    server = {"server": cluster["endpoint"], "certificate-authority-data": cluster["certificateAuthority"]["data"]}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
