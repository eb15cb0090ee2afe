"""The certificates of one control plane."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from lab.supervisor import HOST

SERVICE_IP = "10.100.0.1"  # the first address of the service range of controlplane.py
VALIDITY = datetime.timedelta(days=365)
ADMINS = "system:masters"

#: Client certificates, file name -> user. Every one is an administrator, but each has its own name, so that the audit log tells the
#: lab's own doings ("system:…") from those of a person with the admin kubeconfig.
CLIENTS = {
    "admin": "lab-admin",
    "loops": "system:gpuops-lab",
    "kube-controller-manager": "system:kube-controller-manager",
    "kube-scheduler": "system:kube-scheduler",
    "kwok": "system:kwok",
}


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def write(directory: Path) -> None:
    """Write ca, server, one client certificate for each of CLIENTS, and the key pair that signs service account tokens."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _authority()
    (directory / "ca.crt").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in (HOST, SERVICE_IP)]
    names = [x509.DNSName(n) for n in ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")]
    _issue(directory, "server", _name("kube-apiserver"), authority, x509.SubjectAlternativeName([*addresses, *names]))
    for file, user in CLIENTS.items():
        _issue(directory, file, _name(user, ADMINS), authority)
    signer = rsa.generate_private_key(65537, 2048)
    _write_key(directory / "sa.key", signer)
    (directory / "sa.pub").write_bytes(signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _name(common_name: str, *organisations: str) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    return x509.Name([*parts, *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organisations)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + VALIDITY)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    """Python 3.13 verifies strictly (RFC 5280) and refuses an authority without keyCertSign."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _authority() -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("gpuops-lab")
    certificate = (
        _builder(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Authority(key, certificate)


def _issue(directory: Path, file: str, subject: x509.Name, authority: _Authority, names: x509.SubjectAlternativeName | None = None) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(subject, authority.certificate.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    _write_key(directory / f"{file}.key", key)
    (directory / f"{file}.crt").write_bytes(builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
