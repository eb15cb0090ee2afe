# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""From a run's parameters to its API server."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.errors import translate
from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.connection import Connection, eks_connection, options_connection
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.token import TokenSource, eks_token

with contextlib.suppress(ImportError):  # run_module says that botocore is missing
    import boto3
    from botocore.exceptions import NoCredentialsError

Cluster = t.Mapping[str, t.Any]

_TOKEN = "sts:GetCallerIdentity (presigned)"


def find_cluster(aws: Aws, name: str) -> Cluster | None:
    """The cluster as eks:DescribeCluster returns it; None where there is none."""
    found = aws.find("eks:DescribeCluster", {"name": name}, missing=("ResourceNotFoundException",))
    return found["cluster"] if found else None


def has_endpoint(cluster: Cluster | None) -> t.TypeGuard[Cluster]:
    """Whether there is an API server to talk to: not while the cluster is being made, nor while it goes, endpoint or not."""
    return cluster is not None and bool(cluster.get("endpoint")) and cluster.get("status") != "DELETING"


def connect(
    cluster: Cluster | None, options: t.Mapping[str, t.Any] | None, new_token: t.Callable[[str], str], hide: t.Callable[[str], None]
) -> Connection | None:
    """The way to the API server: ``options`` where there are any, else the cluster; None where that has no endpoint yet or goes.

    ``new_token`` makes a token for a cluster by name, ``hide`` is given every token, so that it is masked in whatever is put out.
    """
    if options is not None:
        return options_connection(options)
    if not has_endpoint(cluster):
        return None

    def token() -> str:
        made = new_token(cluster["name"])
        hide(made)
        return made

    return eks_connection(cluster, TokenSource(token))


@translate(lambda connection, *, region, cluster_name: _TOKEN)
def presigned_token(connection: t.Mapping[str, t.Any], *, region: str, cluster_name: str) -> str:
    """A token signed with the credentials that ``connection`` (amazon.aws's connection parameters) stands for."""
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "profile_name")
    given = {name: connection[name] for name in names if connection.get(name)}
    credentials = boto3.session.Session(region_name=region, **given).get_credentials()
    if credentials is None:
        raise NoCredentialsError
    return eks_token(credentials.get_frozen_credentials(), region=region, cluster_name=cluster_name)
