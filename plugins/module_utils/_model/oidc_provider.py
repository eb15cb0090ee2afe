# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A cluster's OIDC provider in IAM: what is wanted, and what is there. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults, tag_faults, tag_texts
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_map

Params = t.Mapping[str, t.Any]

CLIENT = "sts.amazonaws.com"
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}")
MOST_CLIENTS, MOST_THUMBPRINTS = 100, 5  # IAM API, CreateOpenIDConnectProvider


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options; None is what the user did not set."""

    client_ids: tuple[str, ...] | None = None
    thumbprints: tuple[str, ...] | None = None
    tags: t.Mapping[str, str] | None = None
    purge_tags: bool = True
    adopt: bool = False

    @classmethod
    def from_params(cls, params: Params) -> Wanted:
        """From options that have no faults."""
        clients, thumbprints, tags = (params.get(name) for name in ("client_ids", "thumbprints", "tags"))
        return cls(
            client_ids=None if clients is None else tuple(clients),
            thumbprints=None if thumbprints is None else tuple(thumbprints),
            tags=None if tags is None else tag_texts(tags),
            purge_tags=params["purge_tags"],
            adopt=params["adopt"],
        )


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A provider as IAM describes it; ``url`` without its scheme, as IAM keeps it."""

    arn: str
    url: str
    client_ids: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()
    tags: t.Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_api(cls, arn: str, reply: t.Mapping[str, t.Any]) -> Provider:
        """From iam:GetOpenIDConnectProvider."""
        return cls(
            arn=arn,
            url=reply.get("Url", ""),
            client_ids=tuple(reply.get("ClientIDList") or ()),
            thumbprints=tuple(reply.get("ThumbprintList") or ()),
            tags=tag_map(reply.get("Tags")),
        )

    def to_result(self) -> dict[str, t.Any]:
        return {
            "arn": self.arn,
            "url": self.url,
            "client_ids": list(self.client_ids),
            "thumbprints": list(self.thumbprints),
            "tags": dict(self.tags),
        }


def provider_arn(owner: Owner, issuer: str) -> str:
    """The ARN of the provider of an issuer, https://HOST/PATH."""
    return f"arn:{owner.partition}:iam::{owner.account}:oidc-provider/{issuer.removeprefix('https://')}"


def provider_faults(params: Params) -> list[Fault]:
    """Everything that is wrong with the options, whatever the account holds. Values of a wrong type are left to form_faults."""
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name")
    source = "IAM API, CreateOpenIDConnectProvider"
    clients, thumbprints = params.get("client_ids"), params.get("thumbprints")
    if isinstance(clients, list) and not 0 < len(clients) <= MOST_CLIENTS:
        faults.append(Fault(path="client_ids", value=clients, allowed=f"1 to {MOST_CLIENTS} audiences", source=source))
    for index, value in enumerate(clients if isinstance(clients, list) else []):
        if isinstance(value, str) and not 0 < len(value) <= 255:
            faults.append(Fault(path=f"client_ids[{index}]", value=value, allowed="a text of 1 to 255 characters", source=source))
    if isinstance(thumbprints, list) and not 0 < len(thumbprints) <= MOST_THUMBPRINTS:
        faults.append(Fault(path="thumbprints", value=thumbprints, allowed=f"1 to {MOST_THUMBPRINTS} thumbprints", source=source))
    for index, value in enumerate(thumbprints if isinstance(thumbprints, list) else []):
        if isinstance(value, str) and not _THUMBPRINT.fullmatch(value):
            faults.append(Fault(path=f"thumbprints[{index}]", value=value, allowed="40 hexadecimal digits", source=source))
    return faults + tag_faults(params.get("tags"), "tags")
