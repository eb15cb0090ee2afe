# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""An access entry: what is wanted of it, what is there, and what its options may look like. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster_parts import OPTIONS_SOURCE, each, pattern_faults, repeated
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults, tag_faults, tag_texts

Params = t.Mapping[str, t.Any]
Options = dict[str, dict[str, t.Any]]
Fields = dict[str, t.Any]

STANDARD = "STANDARD"
TYPES = (STANDARD, "EC2_LINUX", "EC2_WINDOWS", "FARGATE_LINUX", "EC2", "HYBRID_LINUX", "HYPERPOD_LINUX")
# EKS API, CreateAccessEntry, and the user guide's page on access policies: nodes of EKS Auto Mode need AmazonEKSAutoNodePolicy.
_WITH_POLICIES = (STANDARD, "EC2")
_CREATE = "EKS API, CreateAccessEntry"
_PRINCIPAL = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:((role|user)/[\w+=,.@/-]+|root)|planned:.+")
_POLICY = re.compile(r"arn:aws[a-z-]*:eks::aws:cluster-access-policy/[A-Za-z0-9-]+|[A-Za-z0-9-]+")
# Amazon EKS user guide, creating access entries: how neither names of users nor of groups may begin.
_USERNAME_PREFIXES = ("system:", "eks:", "aws:", "amazon:", "iam:")
_GROUP_PREFIXES = ("system:",)

_POLICY_OPTIONS: Options = {"policy": {"type": "str", "required": True}, "namespaces": {"type": "list", "elements": "str"}}
ENTRY_OPTIONS: Options = {
    "principal_arn": {"type": "str", "required": True},
    "type": {"type": "str", "choices": list(TYPES)},
    "username": {"type": "str"},
    "kubernetes_groups": {"type": "list", "elements": "str"},
    "policies": {"type": "list", "elements": "dict", "options": _POLICY_OPTIONS},
    "tags": {"type": "dict"},
    "adopt": {"type": "bool"},
}

Scopes = t.Mapping[str, tuple[str, ...]]  # policy ARN -> namespaces, none for the whole cluster


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One entry as the options have it; None is what the user did not set: EKS's default at creation, afterwards not managed."""

    principal_arn: str
    path: str = ""
    type: str | None = None
    username: str | None = None
    kubernetes_groups: tuple[str, ...] | None = None
    policies: Scopes | None = None
    tags: t.Mapping[str, str] | None = None
    adopt: bool = False

    @classmethod
    def from_params(cls, params: Params, *, path: str, partition: str) -> Wanted:
        """From options that have no faults; names of policies become their ARNs in the partition."""
        groups, policies, tags = params.get("kubernetes_groups"), params.get("policies"), params.get("tags")
        scopes = {policy_arn(p["policy"], partition): tuple(sorted(p.get("namespaces") or ())) for p in policies or ()}
        return cls(
            principal_arn=params["principal_arn"],
            path=path,
            type=params.get("type"),
            username=params.get("username"),
            kubernetes_groups=None if groups is None else tuple(sorted(groups)),
            policies=None if policies is None else scopes,
            tags=None if tags is None else tag_texts(tags),
            adopt=bool(params.get("adopt")),
        )

    def fields(self) -> Fields:
        """The fields that eks:UpdateAccessEntry changes; groups are a set to EKS."""
        return {"username": self.username, "kubernetes_groups": _listed(self.kubernetes_groups)}

    def at(self, option: str) -> str:
        return join(self.path, option)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An access entry as EKS describes it; ``policies`` is None where they were not read."""

    principal_arn: str
    arn: str
    type: str
    username: str | None
    kubernetes_groups: tuple[str, ...]
    tags: t.Mapping[str, str]
    policies: Scopes | None = None
    api: t.Mapping[str, t.Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, api: t.Mapping[str, t.Any], policies: t.Iterable[t.Mapping[str, t.Any]] | None = None) -> Entry:
        """From ``accessEntry`` of eks:DescribeAccessEntry and ``associatedAccessPolicies`` of eks:ListAssociatedAccessPolicies."""
        return cls(
            principal_arn=api["principalArn"],
            arn=api["accessEntryArn"],
            type=api.get("type") or STANDARD,
            username=api.get("username"),
            kubernetes_groups=tuple(sorted(api.get("kubernetesGroups") or ())),
            tags=api.get("tags") or {},
            policies=None if policies is None else {p["policyArn"]: _namespaces(p.get("accessScope") or {}) for p in policies},
            api=api,
        )

    def fields(self) -> Fields:
        """In the same form as those of Wanted."""
        return {"username": self.username, "kubernetes_groups": list(self.kubernetes_groups)}


def _namespaces(scope: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    return tuple(sorted(scope.get("namespaces") or ())) if scope.get("type") == "namespace" else ()


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def policy_arn(policy: str, partition: str) -> str:
    """The ARN of an access policy that is given by its name or its ARN."""
    return policy if policy.startswith("arn:") else f"arn:{partition}:eks::aws:cluster-access-policy/{policy}"


def scope(namespaces: t.Sequence[str]) -> dict[str, t.Any]:
    """EKS's accessScope: the namespaces, or without any the cluster."""
    return {"type": "namespace", "namespaces": list(namespaces)} if namespaces else {"type": "cluster"}


def policy_list(policies: Scopes | None) -> list[dict[str, t.Any]] | None:
    """Policies as results show them."""
    if policies is None:
        return None
    return [{"policy_arn": arn, "access_scope": {"namespaces": [], **scope(names)}} for arn, names in sorted(policies.items())]


def entry_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds. Values of a wrong type are left to form_faults."""
    things = each(params, "entries") if params.get("entries") is not None else []
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    if params.get("purge") is True and params.get("state") == "absent":
        allowed = "false with state absent, which removes the entries that are listed"
        faults.append(Fault(path="purge", value=True, allowed=allowed, source=OPTIONS_SOURCE))
    named = ((join(path, "principal_arn"), thing["principal_arn"]) for path, thing in things if thing.get("principal_arn") is not None)
    return faults + repeated(named) + [fault for path, thing in things for fault in _thing_faults(thing, path)]


def _thing_faults(thing: Params, path: str) -> list[Fault]:
    principal = "the ARN of an IAM role or user with its path; of an assumed role that of the role"
    return [
        *pattern_faults(thing.get("principal_arn"), join(path, "principal_arn"), _PRINCIPAL, principal, _CREATE),
        *_type_faults(thing, path),
        *_prefix_faults([(join(path, "username"), thing.get("username"))], _USERNAME_PREFIXES),
        *_prefix_faults(_items(thing.get("kubernetes_groups"), join(path, "kubernetes_groups")), _GROUP_PREFIXES),
        *_policy_faults(thing.get("policies"), join(path, "policies")),
        *tag_faults(thing.get("tags"), join(path, "tags")),
    ]


def _type_faults(thing: Params, path: str) -> list[Fault]:
    """What entries for nodes cannot have."""
    kind = thing.get("type")
    if kind not in TYPES or kind == STANDARD:
        return []
    denied = [name for name in ("username", "kubernetes_groups") if thing.get(name)]
    denied += ["policies"] if thing.get("policies") and kind not in _WITH_POLICIES else []
    allowed = f"unset with type {kind}: EKS gives nodes what they need"
    return [Fault(path=join(path, name), value=thing[name], allowed=allowed, source=_CREATE) for name in denied]


def _prefix_faults(values: t.Iterable[tuple[str, t.Any]], prefixes: tuple[str, ...]) -> list[Fault]:
    allowed = f"a name that does not begin with {', '.join(prefixes)}"
    source = "Amazon EKS user guide, access entries"
    wrong = [(path, value) for path, value in values if isinstance(value, str) and (not value or value.startswith(prefixes))]
    return [Fault(path=path, value=value, allowed=allowed, source=source) for path, value in wrong]


def _policy_faults(policies: t.Any, path: str) -> list[Fault]:
    things = [(at, thing) for at, thing in _items(policies, path) if isinstance(thing, t.Mapping)]
    # A name and the ARN that it stands for are the same policy.
    named = [(join(at, "policy"), str(thing["policy"]).rsplit("/", 1)[-1]) for at, thing in things if thing.get("policy") is not None]
    faults = repeated(named)
    for at, thing in things:
        allowed = "the name or the ARN of an access policy, such as AmazonEKSViewPolicy"
        faults += pattern_faults(thing.get("policy"), join(at, "policy"), _POLICY, allowed, "EKS API, AssociateAccessPolicy")
        faults += repeated(_items(thing.get("namespaces"), join(at, "namespaces")))
    return faults


def _items(values: t.Any, path: str) -> list[tuple[str, t.Any]]:
    return [(f"{path}[{index}]", value) for index, value in enumerate(values)] if isinstance(values, list) else []


def type_refusal(wanted: Wanted, observed: Entry) -> list[Fault]:
    """An entry keeps the type of its creation, and one of nodes has no groups, user or policies, whoever made it."""
    if wanted.type not in (None, observed.type):
        allowed = f"{observed.type}, as it is: EKS cannot change the type; remove the entry and make it again"
        return [Fault(path=wanted.at("type"), value=wanted.type, allowed=allowed, source=_CREATE)]
    given: Fields = {**wanted.fields(), "policies": policy_list(wanted.policies)}
    return [
        Fault(path=wanted.at(fault.path), value=fault.value, allowed=fault.allowed, source=fault.source)
        for fault in _type_faults({**given, "type": observed.type}, "")
    ]
