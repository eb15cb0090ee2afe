# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_oidc_provider: IAM's provider of the cluster's issuer, found by its ARN, and by its mark once the cluster is gone."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import GpuopsError, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.oidc_provider import Provider, Wanted, provider_arn
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._plan.eks_tags import foreign
from ansible_collections.gpuops.eks.plugins.module_utils._plan.oidc_provider import plan_create, plan_delete, plan_update
from ansible_collections.gpuops.eks.plugins.module_utils._run.cluster_parts import place
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_MISSING = ("NoSuchEntity",)


def provider_job(run: Run) -> Outcome:
    """Make the provider, change it, or delete it."""
    return _absent(run) if run.params["state"] == "absent" else _present(run)


def _present(run: Run) -> Outcome:
    wanted = Wanted.from_params(run.params)
    where = place(run)
    issuer = _issuer(where.cluster)
    arn = provider_arn(where.owner, issuer) if issuer else None
    observed = _get(run, arn) if arn else None
    plan, provider = plan_update(wanted, observed, where.owner) if observed else plan_create(wanted, where.owner, issuer)
    if observed and plan.steps and not (wanted.adopt or where.owner.owns(observed.tags)):
        raise InvalidInput([foreign("cluster_name", observed.arn, "iam:GetOpenIDConnectProvider")])
    bound = run.apply(plan)
    if plan.steps and not run.check_mode and arn:
        provider = _get(run, arn) or replace(provider, arn=bound.get(provider.arn, provider.arn))
    return Outcome(plan=plan, result={"oidc_provider": provider.to_result()})


def _issuer(cluster: t.Mapping[str, t.Any] | None) -> str | None:
    """The cluster's issuer; None where the cluster is planned."""
    if cluster is None:
        return None
    issuer: str | None = (cluster.get("identity") or {}).get("oidc", {}).get("issuer")
    if not issuer:
        raise GpuopsError(f"EKS cluster {cluster['name']} has no OIDC issuer yet.", hint="Run again when it is ACTIVE.")
    return issuer


def _get(run: Run, arn: str) -> Provider | None:
    reply = run.aws.find("iam:GetOpenIDConnectProvider", {"OpenIDConnectProviderArn": arn}, missing=_MISSING)
    return Provider.from_api(arn, reply) if reply else None


def _absent(run: Run) -> Outcome:
    owner = run.owner(run.params["cluster_name"])
    plan = plan_delete(_marked(run, owner))
    run.apply(plan)
    return Outcome(plan=plan, result={"oidc_provider": None})


def _marked(run: Run, owner: Owner) -> list[Provider]:
    """Those of EKS's issuers of this region that carry the cluster's mark."""
    listed = run.aws.call("iam:ListOpenIDConnectProviders", {})["OpenIDConnectProviderList"]
    arns = [found["Arn"] for found in listed if f"/oidc.eks.{owner.region}." in found["Arn"]]
    providers = []
    for arn in arns:
        reply = run.aws.find("iam:ListOpenIDConnectProviderTags", {"OpenIDConnectProviderArn": arn}, missing=_MISSING)
        if reply and owner.owns(tag_map(reply.get("Tags"))):
            providers.append(Provider(arn=arn, url=arn.partition("oidc-provider/")[2]))
    return providers
