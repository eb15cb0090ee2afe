# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A Pod Identity association: what is wanted of it, what is there, and what its options may look like. Pure."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster_parts import (
    OPTIONS_SOURCE,
    each,
    missing_fault,
    namespace_faults,
    repeated,
    role_arn_faults,
    service_account_faults,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults, tag_faults, tag_texts

Params = t.Mapping[str, t.Any]
Options = dict[str, dict[str, t.Any]]
Fields = dict[str, t.Any]

_CREATE = "EKS API, CreatePodIdentityAssociation"


def association_options(*, flat: bool = False) -> Options:
    """The options of one association; ``flat`` as options of the module itself, which may have a list instead."""
    name: dict[str, t.Any] = {"type": "str"} if flat else {"type": "str", "required": True}
    return {
        "namespace": dict(name),
        "service_account": dict(name),
        "role_arn": {"type": "str"},
        "target_role_arn": {"type": "str"},
        "disable_session_tags": {"type": "bool"},
        "policy": {"type": "dict"},
        "tags": {"type": "dict"},
    }


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of one association; None is what the user did not set: EKS's default at creation, afterwards not managed."""

    namespace: str
    service_account: str
    path: str = ""
    role_arn: str | None = None
    target_role_arn: str | None = None
    disable_session_tags: bool | None = None
    policy: t.Mapping[str, t.Any] | None = None
    tags: t.Mapping[str, str] | None = None

    @classmethod
    def from_params(cls, params: Params, *, path: str = "") -> Wanted:
        """From options that have no faults."""
        tags = params.get("tags")
        return cls(
            namespace=params["namespace"],
            service_account=params["service_account"],
            path=path,
            role_arn=params.get("role_arn"),
            target_role_arn=params.get("target_role_arn"),
            disable_session_tags=params.get("disable_session_tags"),
            policy=params.get("policy"),
            tags=None if tags is None else tag_texts(tags),
        )

    @property
    def name(self) -> str:
        return f"{self.namespace}/{self.service_account}"

    def fields(self) -> Fields:
        """The managed fields by option."""
        return _fields(self)

    def at(self, option: str) -> str:
        return join(self.path, option)

    def roles(self) -> dict[str, str | None]:
        """The role ARNs that the options name, by path."""
        return {self.at("role_arn"): self.role_arn, self.at("target_role_arn"): self.target_role_arn}


@dataclass(frozen=True, kw_only=True)
class Association:
    """An association as EKS describes it. ``owner_arn`` is the add-on that it belongs to, ``api`` the whole description."""

    id: str
    arn: str
    namespace: str
    service_account: str
    role_arn: str
    target_role_arn: str | None
    disable_session_tags: bool
    policy: t.Any
    owner_arn: str | None
    tags: t.Mapping[str, str]
    api: t.Mapping[str, t.Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_api(cls, api: t.Mapping[str, t.Any]) -> Association:
        """From ``association`` of eks:DescribePodIdentityAssociation."""
        return cls(
            id=api["associationId"],
            arn=api["associationArn"],
            namespace=api["namespace"],
            service_account=api["serviceAccount"],
            role_arn=api["roleArn"],
            target_role_arn=api.get("targetRoleArn"),
            disable_session_tags=bool(api.get("disableSessionTags")),
            policy=policy_data(api.get("policy")),
            owner_arn=api.get("ownerArn"),
            tags=api.get("tags") or {},
            api=api,
        )

    @property
    def name(self) -> str:
        return f"{self.namespace}/{self.service_account}"

    def fields(self) -> Fields:
        """The fields that options can manage, in the same form as those of Wanted."""
        return _fields(self)


def _fields(of: Wanted | Association) -> Fields:
    return {name: getattr(of, name) for name in ("role_arn", "target_role_arn", "disable_session_tags", "policy")}


def policy_data(text: str | None) -> t.Any:
    """A session policy as data; None where there is none, and text that is no JSON as it is."""
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text


def association_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds. Values of a wrong type are left to form_faults."""
    things = each(params, "associations")
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    if params.get("associations") is None:
        why = "with the other of one association; or associations"
        faults += [fault for name in ("namespace", "service_account") for fault in missing_fault(params, name, name, why)]
    named = [(join(path, "service_account"), f"{thing.get('namespace')}/{thing.get('service_account')}") for path, thing in things]
    return faults + repeated(named) + [fault for path, thing in things for fault in _thing_faults(thing, path)]


def _thing_faults(thing: Params, path: str) -> list[Fault]:
    return [
        *namespace_faults(thing.get("namespace"), join(path, "namespace")),
        *service_account_faults(thing.get("service_account"), join(path, "service_account")),
        *role_arn_faults(thing.get("role_arn"), join(path, "role_arn"), _CREATE),
        *role_arn_faults(thing.get("target_role_arn"), join(path, "target_role_arn"), _CREATE),
        *_policy_faults(thing, path),
        *tag_faults(thing.get("tags"), join(path, "tags")),
    ]


def _policy_faults(thing: Params, path: str) -> list[Fault]:
    policy = thing.get("policy")
    if not isinstance(policy, t.Mapping):
        return []
    if not policy.get("Statement"):
        allowed = "a policy with a Statement; to take one off, the association has to be removed and made again"
        return [Fault(path=join(path, "policy"), value=policy, allowed=allowed, source=OPTIONS_SOURCE)]
    tags = thing.get("disable_session_tags")
    if tags is None or tags is False:
        allowed = "true where there is a policy: EKS takes a session policy only without session tags"
        return [Fault(path=join(path, "disable_session_tags"), value=tags, allowed=allowed, source=_CREATE)]
    return []


def creation_faults(wanted: Wanted) -> list[Fault]:
    """What a new association cannot do without."""
    if wanted.role_arn is not None:
        return []
    return [Fault(path=wanted.at("role_arn"), value=None, allowed="required to create an association", source=_CREATE)]


def addon_refusal(wanted: Wanted, observed: Association) -> Fault:
    """The fault of changing an association that an add-on manages."""
    allowed = f"one that no add-on owns; this belongs to {observed.owner_arn}: change it with pod_identity_associations of eks_addon"
    return Fault(path=wanted.at("service_account"), value=wanted.name, allowed=allowed, source="eks:DescribePodIdentityAssociation")
