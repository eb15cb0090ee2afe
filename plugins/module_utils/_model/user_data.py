# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""What a node is told at its first boot, as text and back. The same settings give the same bytes, so that nothing drifts. Pure.

Sources: awslabs/amazon-eks-ami, nodeadm/doc (NodeConfig, merging of several, feature gates) and internal/api/validation.go (the four fields
of spec.cluster); Bottlerocket, settings.kubernetes and settings.kubelet-device-plugins.nvidia. NodeConfig is YAML, of which JSON is a part.
How GPUs are cut is a script on Amazon Linux (_model/mig_script.py) and a setting on Bottlerocket.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model import mig_script
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Taint
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import Sharing, Strategy

Table = dict[str, t.Any]

# nodeadm, "Enabling fast image pull": pulls become slower, not faster, on a volume of less (MiB/s).
FAST_IMAGE_PULL_THROUGHPUT = 600
_MARK = "gpuops.eks"
_NODE_CONFIG = "application/node.eks.aws"
_TYPES = {
    "text/x-shellscript": re.compile(r"\A#!"),
    "text/cloud-config": re.compile(r"\A#cloud-config\b"),
    _NODE_CONFIG: re.compile(r"""(^|[{,])\s*["']?kind["']?\s*:\s*["']?NodeConfig\b""", re.MULTILINE),
}
_SETTINGS = re.compile(r"^\s*\[\s*settings\b", re.MULTILINE)
_TABLE = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$", re.MULTILINE)
_BOUNDARY = re.compile(r'\AMIME-Version: 1\.0\nContent-Type: multipart/mixed; boundary="(gpuops-[0-9a-f]{16})"\n')
_KUBERNETES = "settings.kubernetes"
_DEVICE_PLUGIN = "settings.kubelet-device-plugins.nvidia"
_MIG_MARK = f"{_MARK}/mig"
_USER_PART = re.compile(r"^# gpuops\.eks: user_data\[[0-9]+\]\n", re.MULTILINE)
_CIDR = "addresses of services: "  # Bottlerocket is told only that of the DNS service
_DNS_HOST = 10  # EKS gives the cluster's DNS service the tenth address
_STRATEGIES: t.Mapping[Strategy, str] = {"time_slicing": "time-slicing", "mps": "mps", "none": "none"}


@dataclass(frozen=True, kw_only=True)
class ClusterData:
    """Where a node finds its cluster. EKS tells the nodes of managed node groups by itself."""

    name: str
    endpoint: str
    certificate_authority: str
    cidr: str

    @classmethod
    def from_api(cls, cluster: t.Mapping[str, t.Any]) -> ClusterData:
        """From ``cluster`` of eks:DescribeCluster."""
        network = cluster.get("kubernetesNetworkConfig", {})
        return cls(
            name=cluster["name"],
            endpoint=cluster.get("endpoint", ""),
            certificate_authority=cluster.get("certificateAuthority", {}).get("data", ""),
            cidr=network.get("serviceIpv4Cidr") or network.get("serviceIpv6Cidr") or "",
        )

    @property
    def dns_address(self) -> str:
        return str(ipaddress.ip_network(self.cidr)[_DNS_HOST]) if self.cidr else ""


@dataclass(frozen=True, kw_only=True)
class NodeSettings:
    """What a node is told. ``cluster`` None: a managed node group's, which needs only what EKS does not say itself.

    ``taints`` are all that the node registers with, those for its start included: kubelet takes them from one flag. ``mig_layout`` is how
    Amazon Linux cuts each GPU (profile -> instances), ``mig_profiles`` how Bottlerocket does, which fills each GPU with one profile (its
    name of the GPU -> profile). ``extra`` are the user's own texts. ``foreign`` is the whole text where somebody else wrote it; it is kept
    as long as nothing else is set.
    """

    cluster: ClusterData | None = None
    labels: t.Mapping[str, str] = field(default_factory=dict)
    taints: frozenset[Taint] = frozenset()
    raid0: bool = False
    fast_image_pull: bool = False
    sharing: Sharing | None = None
    mig_layout: t.Mapping[str, int] = field(default_factory=dict)
    mig_profiles: t.Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    foreign: str = ""


def render(ami_family: str, settings: NodeSettings) -> str:
    """The user data of a node with an image of this family; empty where there is nothing to say."""
    if settings.foreign and settings == NodeSettings(foreign=settings.foreign):
        return settings.foreign
    return _toml(settings) if ami_family == "bottlerocket" else _mime(settings)


def parse(text: str) -> NodeSettings:
    """The settings that ``render`` wrote as this text."""
    if not text:
        return NodeSettings()
    if found := _BOUNDARY.match(text):
        return _from_mime(text, found[1])
    return _from_toml(text) if text.startswith(f"# {_MARK}\n") else NodeSettings(foreign=text)


def user_data_faults(ami_family: str, texts: t.Sequence[str], path: str) -> list[Fault]:
    """The texts that a node of this family would not understand."""
    bottlerocket = ami_family == "bottlerocket"
    allowed = (
        "TOML with a table [settings…]"
        if bottlerocket
        else "a script that begins with #!, a NodeConfig of node.eks.aws, or cloud-init's #cloud-config"
    )
    source = "Bottlerocket, settings" if bottlerocket else "awslabs/amazon-eks-ami, nodeadm"
    known: t.Callable[[str], t.Any] = _SETTINGS.search if bottlerocket else _part_type
    return [
        Fault(path=f"{path}[{index}]", value=_beginning(text), allowed=allowed, source=source)
        for index, text in enumerate(texts)
        if not known(text)
    ]


def repeated_tables(settings: NodeSettings) -> list[tuple[int, str]]:
    """Tables of the user's TOML, by the number of the text, that are there already: TOML defines each once."""
    taken = set(_tables(settings))
    found = []
    for index, text in enumerate(settings.extra):
        for name in _TABLE.findall(text):
            plain = re.sub(r"""["'\s]""", "", name)
            if plain in taken:
                found.append((index, plain))
            taken.add(plain)
    return found


def _beginning(text: str) -> str:
    return text.strip().partition("\n")[0][:60]


def _part_type(text: str) -> str | None:
    """The MIME type of one of the user's texts for Amazon Linux; None where it is none of those that a node reads."""
    return next((kind for kind, pattern in _TYPES.items() if pattern.search(text)), None)


def _node_config(settings: NodeSettings) -> Table:
    """The spec of our NodeConfig; empty where there is nothing to say."""
    spec: Table = {}
    if cluster := settings.cluster:
        spec["cluster"] = {
            "name": cluster.name,
            "apiServerEndpoint": cluster.endpoint,
            "certificateAuthority": cluster.certificate_authority,
            "cidr": cluster.cidr,
        }
    flags = []
    if settings.labels:
        flags.append("--node-labels=" + ",".join(f"{key}={value}" for key, value in sorted(settings.labels.items())))
    if settings.taints:
        flags.append("--register-with-taints=" + ",".join(sorted(map(_taint_text, settings.taints))))
    if flags:
        spec["kubelet"] = {"flags": flags}
    if settings.raid0:
        spec["instance"] = {"localStorage": {"strategy": "RAID0"}}
    if settings.fast_image_pull:
        spec["featureGates"] = {"FastImagePull": True}
    return spec


def _taint_text(taint: Taint) -> str:
    return f"{taint.key}={taint.value}:{taint.effect}"


def _taint(text: str) -> Taint:
    key, _equals, rest = text.partition("=")
    value, _colon, effect = rest.rpartition(":")
    return Taint(key=key, value=value, effect=effect)


def _mime(settings: NodeSettings) -> str:
    parts = []
    if spec := _node_config(settings):
        document = {"apiVersion": "node.eks.aws/v1alpha1", "kind": "NodeConfig", "spec": spec}
        body = json.dumps(document, indent=2, sort_keys=True)
        parts.append(f"Content-Type: {_NODE_CONFIG}\nContent-Description: {_MARK}\n\n{body}")
    for text in settings.extra:
        kind = _part_type(text) or "text/plain"
        charset = "" if kind == _NODE_CONFIG else '; charset="utf-8"'
        parts.append(f"Content-Type: {kind}{charset}\n\n{text}")
    if settings.mig_layout:  # the last: what it does may end in a reboot, and cloud-init runs the user's scripts once
        script = mig_script.render(settings.mig_layout)
        parts.append(f'Content-Type: text/x-shellscript; charset="utf-8"\nContent-Description: {_MIG_MARK}\n\n{script}')
    if not parts:
        return ""
    boundary = "gpuops-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    bodies = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="{boundary}"\n\n{bodies}--{boundary}--\n'


def _from_mime(text: str, boundary: str) -> NodeSettings:
    chunks = text.split(f"--{boundary}")[1:-1]
    parts = [chunk.removeprefix("\n").partition("\n\n") for chunk in chunks]
    extra = tuple(body.removesuffix("\n") for head, _blank, body in parts if _MARK not in head)
    ours = next((body for head, _blank, body in parts if _MARK in head and _MIG_MARK not in head), None)
    mig = next((body for head, _blank, body in parts if _MIG_MARK in head), None)
    spec = json.loads(ours)["spec"] if ours else {}
    flags = dict(flag.split("=", 1) for flag in spec.get("kubelet", {}).get("flags", ()))
    cluster = spec.get("cluster")
    return NodeSettings(
        cluster=ClusterData(
            name=cluster["name"],
            endpoint=cluster["apiServerEndpoint"],
            certificate_authority=cluster["certificateAuthority"],
            cidr=cluster["cidr"],
        )
        if cluster
        else None,
        labels=dict(pair.split("=", 1) for pair in flags.get("--node-labels", "").split(",") if pair),
        taints=frozenset(_taint(item) for item in flags.get("--register-with-taints", "").split(",") if item),
        raid0="instance" in spec,
        fast_image_pull=bool(spec.get("featureGates", {}).get("FastImagePull")),
        mig_layout=mig_script.parse(mig) if mig else {},
        extra=extra,
    )


def _tables(settings: NodeSettings) -> dict[str, Table]:
    """Our tables of Bottlerocket's settings."""
    tables: dict[str, Table] = {}
    if cluster := settings.cluster:
        tables[_KUBERNETES] = {
            "api-server": cluster.endpoint,
            "cluster-certificate": cluster.certificate_authority,
            "cluster-dns-ip": cluster.dns_address,
            "cluster-name": cluster.name,
        }
    if settings.labels:
        tables[f"{_KUBERNETES}.node-labels"] = dict(sorted(settings.labels.items()))
    if settings.taints:
        taints: Table = {}
        for taint in sorted(settings.taints, key=_taint_text):
            taints.setdefault(taint.key, []).append(f"{taint.value}:{taint.effect}")
        tables[f"{_KUBERNETES}.node-taints"] = taints
    return tables | _device_plugin(settings.sharing, settings.mig_profiles)


def _device_plugin(sharing: Sharing | None, mig_profiles: t.Mapping[str, str]) -> dict[str, Table]:
    """The settings of the device plugin that is a part of the image. Its own default renames shares, ours does not."""
    plugin: Table = {"device-partitioning-strategy": "mig"} if mig_profiles else {}
    tables: dict[str, Table] = {f"{_DEVICE_PLUGIN}.mig.profile": dict(sorted(mig_profiles.items()))} if mig_profiles else {}
    if sharing is None:
        return {_DEVICE_PLUGIN: plugin, **tables} if plugin else {}
    strategy = _STRATEGIES[sharing.strategy]
    tables = {_DEVICE_PLUGIN: {**plugin, "device-sharing-strategy": strategy}, **tables}
    if sharing.strategy != "none":
        values: Table = {"rename-by-default": sharing.rename, "replicas": sharing.replicas}
        if sharing.strategy == "time_slicing":
            values["fail-requests-greater-than-one"] = sharing.fail_requests_greater_than_one
        tables[f"{_DEVICE_PLUGIN}.{strategy}"] = dict(sorted(values.items()))
    return tables


def _toml(settings: NodeSettings) -> str:
    tables = _tables(settings)
    if not tables and not settings.extra:
        return ""
    blocks = []
    for name, values in tables.items():
        lines = [f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        blocks.append("\n".join([f"[{name}]", *lines, ""]))
    said = [f"# {_CIDR}{settings.cluster.cidr}"] if settings.cluster else []
    ours = "\n".join([f"# {_MARK}", *said, *blocks])
    return ours + "".join(f"\n# {_MARK}: user_data[{index}]\n{text}" for index, text in enumerate(settings.extra))


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _from_toml(text: str) -> NodeSettings:
    ours, *extra = _USER_PART.split(text)
    tables: dict[str, Table] = {}
    current: Table = {}
    cidr = ""
    for line in ours.splitlines():
        if line.startswith(f"# {_CIDR}"):
            cidr = line.removeprefix(f"# {_CIDR}")
        elif found := _TABLE.match(line):
            current = tables.setdefault(found[1], {})
        elif not line.startswith("#") and " = " in line:
            key, _equals, value = line.partition(" = ")
            current[json.loads(key) if key.startswith('"') else key] = json.loads(value)
    last = len(extra) - 1
    return NodeSettings(
        cluster=_toml_cluster(tables.get(_KUBERNETES), cidr),
        labels=tables.get(f"{_KUBERNETES}.node-labels", {}),
        taints=frozenset(_taint(f"{key}={item}") for key, items in tables.get(f"{_KUBERNETES}.node-taints", {}).items() for item in items),
        sharing=_toml_sharing(tables),
        mig_profiles=tables.get(f"{_DEVICE_PLUGIN}.mig.profile", {}),
        extra=tuple(part if index == last else part.removesuffix("\n") for index, part in enumerate(extra)),
    )


def _toml_cluster(table: Table | None, cidr: str) -> ClusterData | None:
    if table is None:
        return None
    return ClusterData(
        name=table["cluster-name"], endpoint=table["api-server"], certificate_authority=table["cluster-certificate"], cidr=cidr
    )


def _toml_sharing(tables: t.Mapping[str, Table]) -> Sharing | None:
    if "device-sharing-strategy" not in tables.get(_DEVICE_PLUGIN, {}):
        return None
    strategy = tables[_DEVICE_PLUGIN]["device-sharing-strategy"]
    values = tables.get(f"{_DEVICE_PLUGIN}.{strategy}", {})
    return Sharing(
        strategy=next(name for name, word in _STRATEGIES.items() if word == strategy),
        replicas=values.get("replicas", 1),
        rename=values.get("rename-by-default", False),
        fail_requests_greater_than_one=values.get("fail-requests-greater-than-one", True),
    )
