# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make a cluster's OIDC provider what it should be. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._model.oidc_provider import CLIENT, Provider, Wanted
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_list
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, planned

COMPONENT = "oidc-provider"


def plan_create(wanted: Wanted, owner: Owner, issuer: str | None) -> tuple[Plan, Provider]:
    """One call; ``issuer`` is None where the cluster is planned. IAM needs no thumbprint for EKS's issuers, and has none then."""
    arn = planned("oidc-provider", owner.cluster_name)
    tags = {**(wanted.tags or {}), **owner.tags(COMPONENT)}
    provider = Provider(
        arn=arn,
        url=(issuer or planned("issuer", owner.cluster_name)).removeprefix("https://"),
        client_ids=wanted.client_ids or (CLIENT,),
        thumbprints=wanted.thumbprints or (),
        tags=tags,
    )
    request: dict[str, t.Any] = {"Url": f"https://{provider.url}", "ClientIDList": list(provider.client_ids), "Tags": tag_list(tags)}
    if provider.thumbprints:
        request["ThumbprintList"] = list(provider.thumbprints)
    step = Step(
        action="iam:CreateOpenIDConnectProvider",
        target=arn,
        effect="create",
        fields=("client_ids", "tags"),
        request=request,
        binds={arn: "OpenIDConnectProviderArn"},
    )
    return Plan(steps=(step,), before={}, after=provider.to_result()), provider


def plan_update(wanted: Wanted, observed: Provider, owner: Owner) -> tuple[Plan, Provider]:
    """Audiences one by one, thumbprints and tags. Of a provider that is not ours nothing is taken away."""
    ours = owner.owns(observed.tags)
    steps: list[Step] = []
    after = observed
    if wanted.client_ids is not None:
        added = [client for client in wanted.client_ids if client not in observed.client_ids]
        surplus = [client for client in observed.client_ids if client not in wanted.client_ids] if ours else []
        steps += [_step("iam:AddClientIDToOpenIDConnectProvider", observed, "client_ids", {"ClientID": client}) for client in added]
        steps += [_step("iam:RemoveClientIDFromOpenIDConnectProvider", observed, "client_ids", {"ClientID": client}) for client in surplus]
        after = replace(after, client_ids=tuple(client for client in (*observed.client_ids, *added) if client not in surplus))
    if wanted.thumbprints is not None and set(wanted.thumbprints) != set(observed.thumbprints):
        request = {"ThumbprintList": list(wanted.thumbprints)}
        steps.append(_step("iam:UpdateOpenIDConnectProviderThumbprint", observed, "thumbprints", request))
        after = replace(after, thumbprints=wanted.thumbprints)
    to_set, gone = tag_changes(wanted.tags, observed.tags, purge=wanted.purge_tags and ours, keep=owner.tags(COMPONENT))
    if to_set:
        steps.append(_step("iam:TagOpenIDConnectProvider", observed, "tags", {"Tags": tag_list(to_set)}))
    if gone:
        steps.append(_step("iam:UntagOpenIDConnectProvider", observed, "tags", {"TagKeys": gone}))
    after = replace(after, tags={key: value for key, value in {**observed.tags, **to_set}.items() if key not in gone})
    return Plan(steps=tuple(steps), before=observed.to_result(), after=after.to_result()), after


def plan_delete(observed: t.Iterable[Provider]) -> Plan:
    steps = [
        Step(
            action="iam:DeleteOpenIDConnectProvider",
            target=one.arn,
            effect="delete",
            request={"OpenIDConnectProviderArn": one.arn},
        )
        for one in observed
    ]
    return Plan(steps=tuple(steps), before={step.target: {} for step in steps}, after={})


def _step(action: str, observed: Provider, field: str, request: dict[str, t.Any]) -> Step:
    whole = {"OpenIDConnectProviderArn": observed.arn, **request}
    return Step(action=action, target=observed.arn, effect="update", fields=(field,), request=whole)
