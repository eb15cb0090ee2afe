"""Pure: what a node makes of its user data at boot.

Sources: awslabs/amazon-eks-ami, nodeadm (internal/configprovider/mime.go: which parts it reads; internal/api/merge.go: objects in order,
kubelet flags add up; internal/api/validation.go: the four required fields); kubelet's options (--node-labels adds up over repeated
flags, the last --register-with-taints alone counts and stands in for registerWithTaints of its configuration; which labels it refuses:
k8s.io/kubelet/pkg/apis/well_known_labels.go); Bottlerocket's settings reference, settings.kubernetes and settings.kubelet-device-plugins.
Of scripts only ``nvidia-smi mig -cgi`` is read: they part the GPUs before kubelet starts, or keep it from starting.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import email
import gzip
import tomllib
import typing as t
import zlib
from dataclasses import dataclass, field

import yaml

from lab.kubernetes.client import Json
from lab.nodes import builtin, mig

NODE_CONFIG = "application/node.eks.aws"
SHELL_SCRIPT = "text/x-shellscript"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_GZIP = b"\x1f\x8b"
# What kubelet may say of itself under kubernetes.io and k8s.io.
_OWN_DOMAINS = ("kubernetes.io", "k8s.io")
_KUBELET_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_KUBELET_LABELS = frozenset(
    {
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    }
)


class CannotBoot(ValueError):
    """The machine runs and never becomes a node; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What the user data asks for; ``device_plugin`` is Bottlerocket's settings.kubelet-device-plugins.nvidia.

    ``mig_calls`` are those of its scripts, ``layouts`` what they make of the machine's GPUs, once it is known.
    """

    labels: t.Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Json, ...] = ()
    cluster: str = ""
    endpoint: str = ""
    certificate_authority: str = ""  # base64, as EKS gives it
    device_plugin: t.Mapping[str, t.Any] = field(default_factory=dict)
    mig_calls: tuple[mig.Call, ...] = ()
    layouts: tuple[mig.Layout, ...] = ()


def parse(encoded: str, *, bottlerocket: bool, managed: bool) -> Boot:
    """The boot that base64-encoded user data makes; of a managed node group's, EKS itself says where the cluster is. Raises CannotBoot."""
    try:
        data = _plain(base64.b64decode(encoded))
        boot = _bottlerocket(data, managed) if bottlerocket else _nodeadm(data, managed)
    except (binascii.Error, UnicodeDecodeError, zlib.error, gzip.BadGzipFile, tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        raise CannotBoot(f"the user data cannot be read: {error}") from error
    _check_labels(boot.labels)
    return boot


def _plain(data: bytes) -> bytes:
    """Without base64 and gzip, which nodeadm takes away; Bottlerocket's early-boot-config takes gzip away too."""
    with contextlib.suppress(binascii.Error):  # what is no base64 is plain text
        data = base64.b64decode(b"".join(data.split()), validate=True)
    return gzip.decompress(data) if data.startswith(_GZIP) else data


def _nodeadm(data: bytes, managed: bool) -> Boot:
    configs = [_node_config(part) for part in _config_parts(data, managed)]
    if not configs and not managed:
        raise CannotBoot("nodeadm: could not find NodeConfig within UserData")
    spec: Json = {}
    flags: list[str] = []
    for config in configs:
        flags += (config.get("kubelet") or {}).get("flags") or ()
        spec = _merge(spec, config)
    cluster = spec.get("cluster") or {}
    if not managed:
        _check_cluster(cluster)
    taints = _config_taints((spec.get("kubelet") or {}).get("config") or {})
    for value in _values(flags, "--register-with-taints"):
        taints = _flag_taints(value)
    labels: dict[str, str] = {}
    for value in _values(flags, "--node-labels"):
        labels |= _flag_labels(value)
    return Boot(
        labels=labels,
        taints=taints,
        cluster=str(cluster.get("name", "")),
        endpoint=str(cluster.get("apiServerEndpoint", "")),
        certificate_authority=str(cluster.get("certificateAuthority", "")),
        mig_calls=_mig_calls(data),
    )


def _mig_calls(data: bytes) -> tuple[mig.Call, ...]:
    """Of all parts that are scripts; cloud-init runs one script alone too."""
    message = email.message_from_bytes(data)
    texts = [t.cast(bytes, part.get_payload(decode=True)) for part in message.walk() if part.get_content_type() == SHELL_SCRIPT]
    if not message.is_multipart():
        texts = [data] if data.startswith(b"#!") else []
    try:
        return mig.calls("\n".join(text.decode() for text in texts))
    except mig.Refused as error:
        raise CannotBoot(f"its script fails, and kubelet does not start: {error}") from error


def _config_parts(data: bytes, managed: bool) -> list[bytes]:
    """The NodeConfig parts of multipart user data; what is not multipart is a NodeConfig as a whole, unless it is a managed node's."""
    message = email.message_from_bytes(data)
    if not message.is_multipart():
        return [] if managed or not data.strip() or data.startswith(b"#!") else [data]
    parts = (part for part in message.walk() if part.get_content_type() == NODE_CONFIG)
    return [_plain(t.cast(bytes, part.get_payload(decode=True))) for part in parts]


def _node_config(text: bytes) -> Json:
    """The spec of a NodeConfig."""
    document = yaml.safe_load(text.decode())
    kind = (document.get("apiVersion"), document.get("kind")) if isinstance(document, dict) else None
    if kind != ("node.eks.aws/v1alpha1", "NodeConfig"):
        raise CannotBoot("nodeadm: the user data is no NodeConfig of node.eks.aws/v1alpha1")
    spec: Json = document.get("spec") or {}
    return spec


def _merge(first: Json, second: Json) -> Json:
    """``second`` over ``first``; what it leaves empty stays."""
    merged = dict(first)
    for key, value in second.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged[key] = _merge(before, value)
        elif value not in (None, "", [], {}):
            merged[key] = value
    return merged


def _check_cluster(cluster: Json) -> None:
    """nodeadm's own words, in its order."""
    required = {
        "name": "Name is missing in cluster configuration",
        "apiServerEndpoint": "Apiserver endpoint is missing in cluster configuration",
        "certificateAuthority": "Certificate authority is missing in cluster configuration",
        "cidr": "CIDR is missing in cluster configuration",
    }
    for name, message in required.items():
        if not cluster.get(name):
            raise CannotBoot(f"nodeadm: {message}")


def _values(flags: list[str], name: str) -> t.Iterator[str]:
    """The values of all flags of that name, written with = or a blank; systemd takes quotes away (systemd.service, "Command lines")."""
    for flag in flags:
        given, separator, value = str(flag).partition("=" if "=" in str(flag).split(" ", 1)[0] else " ")
        if given == name and separator:
            yield value.strip().strip("\"'")


def _flag_labels(value: str) -> dict[str, str]:
    pairs = [item.strip().partition("=") for item in value.split(",") if item.strip()]
    return {key: text for key, _equals, text in pairs}


def _flag_taints(value: str) -> tuple[Json, ...]:
    return tuple(_taint(*_split_taint(item.strip())) for item in value.split(",") if item.strip())


def _split_taint(text: str) -> tuple[str, str]:
    """KEY=VALUE:EFFECT or KEY:EFFECT, as key and VALUE:EFFECT."""
    key, _equals, rest = text.partition("=") if "=" in text else (text.partition(":")[0], "", ":" + text.partition(":")[2])
    return key, rest


def _taint(key: str, text: str) -> Json:
    value, separator, effect = text.rpartition(":")
    if not key or not separator or effect not in EFFECTS:
        raise CannotBoot(f"kubelet: invalid taint spec: {key}={text}")
    return {"key": key, "value": value, "effect": effect}


def _config_taints(config: Json) -> tuple[Json, ...]:
    """registerWithTaints of a KubeletConfiguration."""
    taints = config.get("registerWithTaints") or ()
    return tuple(_taint(item.get("key", ""), f"{item.get('value', '')}:{item.get('effect', '')}") for item in taints)


def _bottlerocket(data: bytes, managed: bool) -> Boot:
    settings = tomllib.loads(data.decode()).get("settings", {})
    kubernetes = settings.get("kubernetes", {})
    if not managed:
        for name in ("cluster-name", "api-server", "cluster-certificate"):
            if not kubernetes.get(name):
                raise CannotBoot(f"Bottlerocket: settings.kubernetes.{name} is missing")
    taints = kubernetes.get("node-taints", {})
    device_plugin = settings.get("kubelet-device-plugins", {}).get("nvidia", {})
    try:
        builtin.config(device_plugin)
    except builtin.SettingsRefused as error:
        raise CannotBoot(f"Bottlerocket: {error}") from error
    return Boot(
        labels={key: str(value) for key, value in kubernetes.get("node-labels", {}).items()},
        taints=tuple(_taint(key, text) for key, texts in taints.items() for text in ([texts] if isinstance(texts, str) else texts)),
        cluster=kubernetes.get("cluster-name", ""),
        endpoint=kubernetes.get("api-server", ""),
        certificate_authority=kubernetes.get("cluster-certificate", ""),
        device_plugin=device_plugin,
    )


def _check_labels(labels: t.Mapping[str, str]) -> None:
    """kubelet does not start with labels of Kubernetes' own that are not its to set."""
    unknown = sorted(label for label in labels if _is_kubernetes_own(label) and not _is_kubelets(label))
    if unknown:
        raise CannotBoot(f"kubelet: unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: [{' '.join(unknown)}]")


def _in_domain(namespace: str, domains: t.Iterable[str]) -> bool:
    return any(namespace == domain or namespace.endswith("." + domain) for domain in domains)


def _is_kubernetes_own(label: str) -> bool:
    namespace, slash, _name = label.partition("/")
    return bool(slash) and _in_domain(namespace, _OWN_DOMAINS)


def _is_kubelets(label: str) -> bool:
    return label in _KUBELET_LABELS or _in_domain(label.partition("/")[0], _KUBELET_NAMESPACES)
