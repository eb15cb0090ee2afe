# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""An add-on: what is wanted of it, what is there, which versions EKS offers, and what its options may look like. Pure."""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster_parts import (
    each,
    missing_fault,
    namespace_faults,
    pattern_faults,
    repeated,
    role_arn_faults,
    service_account_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults, tag_faults, tag_texts

Params = t.Mapping[str, t.Any]
Options = dict[str, dict[str, t.Any]]
Fields = dict[str, t.Any]
Association = tuple[str, str]  # service account, role ARN

DEFAULT, LATEST = "default", "latest"
RESOLVE_CONFLICTS = ("NONE", "OVERWRITE", "PRESERVE")
MOVING = ("CREATING", "UPDATING", "DELETING")

_CREATE = "EKS API, CreateAddon"
_NAME = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]*")
_VERSION = re.compile(r"default|latest|v?[0-9][A-Za-z0-9.+-]*")
_ASSOCIATION: Options = {"service_account": {"type": "str", "required": True}, "role_arn": {"type": "str", "required": True}}


def addon_options(*, flat: bool = False) -> Options:
    """The options of one add-on; ``flat`` as options of the module itself, which has a ``wait`` of its own and may have a list instead."""
    options: Options = {
        "name": {"type": "str"} if flat else {"type": "str", "required": True},
        "version": {"type": "str"},
        "configuration_values": {"type": "dict"},
        "resolve_conflicts": {"type": "str", "choices": list(RESOLVE_CONFLICTS)},
        "service_account_role_arn": {"type": "str"},
        "pod_identity_associations": {"type": "list", "elements": "dict", "options": dict(_ASSOCIATION)},
        "namespace": {"type": "str"},
        "preserve": {"type": "bool"},
        "tags": {"type": "dict"},
    }
    return options if flat else {**options, "wait": {"type": "bool"}}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of one add-on; None is what the user did not set: EKS's default at creation, afterwards not managed."""

    name: str
    path: str = ""
    version: str | None = None
    configuration_values: t.Mapping[str, t.Any] | None = None
    resolve_conflicts: str | None = None
    service_account_role_arn: str | None = None
    pod_identity_associations: tuple[Association, ...] | None = None
    namespace: str | None = None
    preserve: bool = False
    wait: bool = True
    tags: t.Mapping[str, str] | None = None

    @classmethod
    def from_params(cls, params: Params, *, path: str = "", wait: bool = True) -> Wanted:
        """From options that have no faults; ``wait`` is the module's, which one of the add-on's own comes before."""
        associations, tags, own = params.get("pod_identity_associations"), params.get("tags"), params.get("wait")
        return cls(
            name=params["name"],
            path=path,
            version=params.get("version"),
            configuration_values=params.get("configuration_values"),
            resolve_conflicts=params.get("resolve_conflicts"),
            service_account_role_arn=params.get("service_account_role_arn"),
            pod_identity_associations=None if associations is None else tuple((a["service_account"], a["role_arn"]) for a in associations),
            namespace=params.get("namespace"),
            preserve=bool(params.get("preserve")),
            wait=wait if own is None else own,
            tags=None if tags is None else tag_texts(tags),
        )

    def fields(self) -> Fields:
        """The fields that are compared, by option; the version is one that EKS offers, no word any more."""
        return {
            "version": self.version,
            "configuration_values": self.configuration_values,
            "service_account_role_arn": self.service_account_role_arn,
            "pod_identity_associations": _association_list(self.pod_identity_associations),
        }

    def at(self, option: str) -> str:
        return join(self.path, option)


@dataclass(frozen=True, kw_only=True)
class Addon:
    """An add-on as EKS describes it. ``pod_identity_associations`` is None where it was not read, ``issues`` are those of its health."""

    name: str
    arn: str
    status: str
    version: str
    configuration: str
    service_account_role_arn: str | None
    association_ids: tuple[str, ...]
    namespace: str | None
    tags: t.Mapping[str, str]
    issues: tuple[str, ...] = ()
    pod_identity_associations: tuple[Association, ...] | None = None
    api: t.Mapping[str, t.Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, api: t.Mapping[str, t.Any]) -> Addon:
        """From ``addon`` of eks:DescribeAddon."""
        issues = (api.get("health") or {}).get("issues") or ()
        return cls(
            name=api["addonName"],
            arn=api["addonArn"],
            status=api["status"],
            version=api.get("addonVersion", ""),
            configuration=api.get("configurationValues") or "",
            service_account_role_arn=api.get("serviceAccountRoleArn"),
            association_ids=tuple(arn.rsplit("/", 1)[1] for arn in api.get("podIdentityAssociations") or ()),
            namespace=(api.get("namespaceConfig") or {}).get("namespace"),
            tags=api.get("tags") or {},
            issues=tuple(f"{issue.get('code', 'Unknown')}: {issue.get('message', '')}" for issue in issues),
            api=api,
        )

    @property
    def configuration_values(self) -> t.Any:
        """The configuration as data; text that is no JSON (EKS takes YAML too) stays text, and differs from what options say."""
        try:
            return json.loads(self.configuration) if self.configuration else {}
        except ValueError:
            return self.configuration

    def with_associations(self, associations: t.Iterable[t.Mapping[str, t.Any]]) -> Addon:
        """The same with what eks:DescribePodIdentityAssociation says of its associations."""
        return replace(self, pod_identity_associations=tuple((api["serviceAccount"], api["roleArn"]) for api in associations))

    def fields(self) -> Fields:
        """The fields that options can manage, in the same form as those of Wanted."""
        return {
            "version": self.version,
            "configuration_values": self.configuration_values,
            "service_account_role_arn": self.service_account_role_arn,
            "pod_identity_associations": _association_list(self.pod_identity_associations),
        }


def _association_list(associations: t.Sequence[Association] | None) -> list[dict[str, str]] | None:
    """Sorted: EKS keeps them as a set."""
    return None if associations is None else [{"service_account": account, "role_arn": role} for account, role in sorted(associations)]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """The versions of an add-on that EKS offers for a Kubernetes version, newest first, and which of them is the default."""

    versions: tuple[str, ...]
    default: str | None

    @classmethod
    def from_api(cls, addons: t.Iterable[t.Mapping[str, t.Any]], kubernetes_version: str) -> Offer:
        """From ``addons`` of eks:DescribeAddonVersions for one add-on."""
        found = {
            info["addonVersion"]: bool(compatible.get("defaultVersion"))
            for addon in addons
            for info in addon.get("addonVersions") or ()
            for compatible in info.get("compatibilities") or ()
            if compatible.get("clusterVersion") == kubernetes_version
        }
        ordered = tuple(sorted(found, key=version_order, reverse=True))
        return cls(versions=ordered, default=next((version for version in ordered if found[version]), None))

    def resolve(self, version: str | None) -> str | None:
        """The version that is meant: ``latest``, ``default`` (also where none is set) or the one itself; None where EKS does not offer it."""
        if version == LATEST:
            return self.versions[0] if self.versions else None
        if version in (None, DEFAULT):
            return self.default
        return version if version in self.versions else None


def version_order(version: str) -> tuple[int, ...]:
    """The numbers of ``v1.20.1-eksbuild.3``, by which versions are ordered."""
    return tuple(int(number) for number in re.findall(r"[0-9]+", version))


def addon_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds. Values of a wrong type are left to form_faults."""
    things = each(params, "addons")
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    if params.get("addons") is None:
        faults += missing_fault(params, "name", "name", "the name of one add-on; or addons")
    faults += repeated((join(path, "name"), thing["name"]) for path, thing in things if isinstance(thing.get("name"), str))
    return faults + [fault for path, thing in things for fault in _thing_faults(thing, path)]


def _thing_faults(thing: Params, path: str) -> list[Fault]:
    version = "default, latest, or a version such as v1.20.1-eksbuild.3"
    return [
        *pattern_faults(thing.get("name"), join(path, "name"), _NAME, "the name of an add-on, such as vpc-cni", _CREATE),
        *pattern_faults(thing.get("version"), join(path, "version"), _VERSION, version, _CREATE),
        *role_arn_faults(thing.get("service_account_role_arn"), join(path, "service_account_role_arn"), _CREATE),
        *namespace_faults(thing.get("namespace"), join(path, "namespace")),
        *_association_faults(thing.get("pod_identity_associations"), join(path, "pod_identity_associations")),
        *tag_faults(thing.get("tags"), join(path, "tags")),
    ]


def _association_faults(associations: t.Any, path: str) -> list[Fault]:
    if not isinstance(associations, list):
        return []
    things = [(f"{path}[{index}]", thing) for index, thing in enumerate(associations) if isinstance(thing, t.Mapping)]
    faults = repeated((join(at, "service_account"), thing.get("service_account")) for at, thing in things)
    for at, thing in things:
        faults += service_account_faults(thing.get("service_account"), join(at, "service_account"))
        faults += role_arn_faults(thing.get("role_arn"), join(at, "role_arn"), "EKS API, AddonPodIdentityAssociations")
    return faults


def given_roles(wanted: Wanted) -> dict[str, str | None]:
    """The role ARNs that the options of an add-on name, by path."""
    roles = {wanted.at("service_account_role_arn"): wanted.service_account_role_arn}
    for index, (_account, role) in enumerate(wanted.pod_identity_associations or ()):
        roles[wanted.at(f"pod_identity_associations[{index}].role_arn")] = role
    return roles


def version_fault(wanted: Wanted, offer: Offer, kubernetes_version: str) -> Fault:
    """The fault of a version, or of an add-on, that EKS does not offer for the cluster's version."""
    source = "eks:DescribeAddonVersions"
    if not offer.versions:
        allowed = f"the name of an add-on that EKS offers for Kubernetes {kubernetes_version}"
        return Fault(path=wanted.at("name"), value=wanted.name, allowed=allowed, source=source)
    allowed = f"default, latest, or one of {', '.join(offer.versions)}, which EKS offers for Kubernetes {kubernetes_version}"
    return Fault(path=wanted.at("version"), value=wanted.version, allowed=allowed, source=source)


def namespace_refusal(wanted: Wanted, observed: Addon) -> list[Fault]:
    """An add-on keeps the namespace of its creation; one that EKS does not report is not compared."""
    if wanted.namespace is None or observed.namespace in (None, wanted.namespace):
        return []
    allowed = f"{observed.namespace}, as it is: EKS sets an add-on's namespace at its creation only"
    return [Fault(path=wanted.at("namespace"), value=wanted.namespace, allowed=allowed, source=_CREATE)]
