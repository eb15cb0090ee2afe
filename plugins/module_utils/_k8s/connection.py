# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""How an API server is reached: by the ``kubernetes`` options, or as an EKS cluster by name.

The only place that imports kubernetes.core, and with it the kubernetes client: for the options alone, whose configuration files,
contexts and exec plugins that client knows. An EKS cluster needs neither.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
import typing as t
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.gpuops.eks.plugins.module_utils._errors import ConnectionRefused, GpuopsError

with contextlib.suppress(ImportError):  # botocore brings urllib3; run_module says that botocore is missing
    import urllib3

_OPTIONS_HINT = "Check the options below kubernetes: kubeconfig and context, or host with api_key or client_cert and client_key."


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An API server and how to be let in. ``authorization`` gives the headers of a request; they may change while a run lasts."""

    host: str
    pool: t.Any
    authorization: t.Callable[[], dict[str, str]]
    identity_hint: str


def eks_connection(cluster: t.Mapping[str, t.Any], token: t.Callable[[], str]) -> Connection:
    """From a cluster as eks:DescribeCluster returns it. Its CA stays in memory."""
    authority = base64.b64decode(cluster["certificateAuthority"]["data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    hint = (
        f"Give the identity whose AWS credentials this task uses an access entry on cluster {cluster['name']} "
        "(eks:CreateAccessEntry and eks:AssociateAccessPolicy), or use those of the cluster's creator."
    )
    host = str(cluster["endpoint"]).rstrip("/")
    return Connection(
        host=host,
        pool=_pool(host, context),
        authorization=lambda: {"Authorization": f"Bearer {token()}"},
        identity_hint=hint,
    )


def _pool(host: str, context: ssl.SSLContext) -> t.Any:
    """Connections to a host, through the proxy that the environment names for it, as botocore does for AWS."""
    url = urlsplit(host)
    proxy = None if proxy_bypass(url.netloc) else getproxies().get(url.scheme)
    return urllib3.ProxyManager(proxy, ssl_context=context) if proxy else urllib3.PoolManager(ssl_context=context)


def options_connection(options: t.Mapping[str, t.Any]) -> Connection:
    """From the ``kubernetes`` options, by kubernetes.core's rules: options, then K8S_AUTH_* variables, then the cluster it runs in."""
    try:
        import yaml
        from ansible_collections.kubernetes.core.plugins.module_utils.k8s.client import _create_auth_spec, _create_configuration
        from kubernetes.client.rest import RESTClientObject
        from kubernetes.config import ConfigException
    except ImportError as error:
        raise GpuopsError(missing_required_lib("kubernetes", reason="for the option kubernetes")) from error
    given = {name: value for name, value in options.items() if value is not None}
    try:
        configuration = _create_configuration(_create_auth_spec(None, **given))
        pool = RESTClientObject(configuration).pool_manager
    except (ConfigException, OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConnectionRefused(f"kubernetes: no usable connection options: {str(error).rstrip('.')}.", hint=_OPTIONS_HINT) from error
    return Connection(
        host=str(configuration.host).rstrip("/"),
        pool=pool,
        authorization=lambda: _authorization(configuration),
        identity_hint=_OPTIONS_HINT,
    )


def _authorization(configuration: t.Any) -> dict[str, str]:
    if configuration.username and configuration.password:
        return {"Authorization": configuration.get_basic_auth_token()}
    settings = configuration.auth_settings().values()
    return {setting["key"]: setting["value"] for setting in settings if setting["in"] == "header" and setting["value"]}
