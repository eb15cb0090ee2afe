"""Kubeconfigs as objects."""

from __future__ import annotations

from pathlib import Path

from lab.kubernetes.client import Json


def for_client(name: str, url: str, certificates: Path, client: str) -> Json:
    """A kubeconfig for one of pki.CLIENTS."""
    return build(
        name,
        {"server": url, "certificate-authority": str(certificates / "ca.crt")},
        {"client-certificate": str(certificates / f"{client}.crt"), "client-key": str(certificates / f"{client}.key")},
    )


def build(name: str, cluster: Json, user: Json) -> Json:
    """A kubeconfig with one context; cluster and user as in the file's own words."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": user}],
    }
