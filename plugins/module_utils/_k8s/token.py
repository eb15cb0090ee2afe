# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The bearer token that EKS takes: a presigned sts:GetCallerIdentity that names the cluster.

Its form is that of kubernetes-sigs/aws-iam-authenticator (pkg/token): ``k8s-aws-v1.`` and the URL in base64url without padding, the
cluster's name in the signed header x-k8s-aws-id. STS takes such a URL for 15 minutes, whatever X-Amz-Expires says.
"""

from __future__ import annotations

import base64
import contextlib
import time
import typing as t

with contextlib.suppress(ImportError):  # run_module says that botocore is missing
    import botocore.session
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest

PREFIX = "k8s-aws-v1."
_EXPIRES_SECONDS = 60
_RENEW_SECONDS = 600.0


def sts_host(region: str) -> str:
    """STS's own host in a region. Never an endpoint_url: the authenticator lets in tokens for STS's own hosts alone."""
    resolver = botocore.session.get_session().get_component("endpoint_resolver")
    endpoint = resolver.construct_endpoint("sts", region) or {}
    return f"sts.{region}.{endpoint.get('dnsSuffix', 'amazonaws.com')}"


def eks_token(credentials: t.Any, *, region: str, cluster_name: str) -> str:
    """A token for a cluster. ``credentials`` have access_key, secret_key and token, as botocore's do."""
    url = f"https://{sts_host(region)}/?Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest(method="GET", url=url, headers={"x-k8s-aws-id": cluster_name})
    SigV4QueryAuth(credentials, "sts", region, expires=_EXPIRES_SECONDS).add_auth(request)
    return PREFIX + base64.urlsafe_b64encode(str(request.url).encode()).decode().rstrip("=")


class TokenSource:
    """Calls ``make`` for a token, and again when that one will soon be refused: a wait may last longer than a token."""

    def __init__(self, make: t.Callable[[], str]) -> None:
        self._make = make
        self._token = ""
        self._made = 0.0

    def __call__(self) -> str:
        if not self._token or time.monotonic() - self._made > _RENEW_SECONDS:
            self._token, self._made = self._make(), time.monotonic()
        return self._token
