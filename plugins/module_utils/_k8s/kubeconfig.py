# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A kubeconfig for an EKS cluster, as a dictionary."""

from __future__ import annotations

import typing as t


def kubeconfig(cluster: t.Mapping[str, t.Any], token: str) -> dict[str, t.Any]:
    """One cluster, one user, one context, all named after the cluster as eks:DescribeCluster returns it; no other file is needed."""
    name = cluster["name"]
    server = {"server": cluster["endpoint"], "certificate-authority-data": cluster["certificateAuthority"]["data"]}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": server}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
