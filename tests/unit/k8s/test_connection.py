# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API server behind TLS with a private authority, reached without a file."""

from __future__ import annotations

import base64
import datetime
import http.server
import ipaddress
import json
import ssl
import threading
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._errors import ConnectionRefused, GpuopsError
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.connection import eks_connection, options_connection
from ansible_collections.gpuops.eks.plugins.module_utils._k8s.gateway import Kubernetes
from ansible_collections.gpuops.eks.plugins.module_utils._model.objects import NODE
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(directory: Path) -> tuple[Path, bytes]:
    """(file with key and certificate of 127.0.0.1, the certificate alone, which signs itself)"""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    begin = datetime.datetime.now(tz=datetime.UTC) - datetime.timedelta(minutes=1)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, begin + datetime.timedelta(hours=1))
    builder = builder.add_extension(alternative, critical=False).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    made = builder.add_extension(authority, critical=False).sign(key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "server.pem"
    path.write_bytes(private + pem)
    return path, pem


class Server(http.server.BaseHTTPRequestHandler):
    seen: t.ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.seen.append(self.headers["Authorization"])
        body = json.dumps({"metadata": {}, "items": [{"metadata": {"name": "n1"}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: t.Any) -> None:
        """Nothing is printed."""


@pytest.fixture
def cluster(tmp_path: Path) -> t.Iterator[dict[str, t.Any]]:
    """A server with a certificate of its own, as eks:DescribeCluster describes a cluster."""
    path, authority = certificate(tmp_path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    endpoint = f"https://127.0.0.1:{server.server_address[1]}"
    yield {"name": "demo", "endpoint": endpoint, "certificateAuthority": {"data": base64.b64encode(authority).decode()}}
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_authority_is_used_from_memory(cluster: dict[str, t.Any]) -> None:
    Server.seen.clear()
    kube = Kubernetes(eks_connection(cluster, lambda: "a-token"), tell=print)
    assert [node["metadata"]["name"] for node in kube.read_all(NODE)] == ["n1"]
    assert Server.seen == ["Bearer a-token"]


def test_a_server_of_another_authority_is_not_trusted(cluster: dict[str, t.Any], tmp_path: Path) -> None:
    _path, other = certificate(tmp_path)
    wrong = {**cluster, "certificateAuthority": {"data": base64.b64encode(other).decode()}}
    with pytest.raises(ConnectionRefused, match=r"certificate of https://127.0.0.1:.* is not accepted"):
        Kubernetes(eks_connection(wrong, lambda: "a-token"), tell=print).read_all(NODE)


def test_nobody_listens() -> None:
    kube = Kubernetes(options_connection({"host": "http://127.0.0.1:1", "api_key": "x"}), tell=print)
    with pytest.raises(ConnectionRefused, match=r"http://127.0.0.1:1 cannot be reached: .*Connection refused"):
        kube.read_all(NODE)


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GpuopsError, match="no usable connection options"):
        options_connection({"kubeconfig": str(tmp_path / "none")})
