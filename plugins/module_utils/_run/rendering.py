# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Pools and the device plugin as files: what would be made of them in a cluster that has none of it. Reads only."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DevicePlugin, device_plugin_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import Subnet, for_nodes
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._plan import device_plugin
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter import Observed, wanted_objects
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_objects import Settings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import resolve
from ansible_collections.gpuops.eks.plugins.module_utils._plan.rendering import (
    File,
    catalogue_facts,
    faults_without_aws,
    in_order,
    object_file,
    template_file,
)
from ansible_collections.gpuops.eks.plugins.module_utils._run import node_roles, nodepool, nodepool_asg, nodepool_managed
from ansible_collections.gpuops.eks.plugins.module_utils._run.karpenter_facts import ImageChoice, identity_faults
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Params, Run
from ansible_collections.gpuops.eks.plugins.module_utils._run.nodepool_parts import Context, cluster_security_group

_KARPENTER = "karpenter"
_TEMPLATES = {"managed_node_group": nodepool_managed.templates, "auto_scaling_group": nodepool_asg.templates}
_ACCOUNT = re.compile(r"[0-9]{12}")
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


def validate(params: Params) -> list[Fault]:
    """Every fault of form, for values of any type."""
    given = params.get("device_plugin")
    plugin = device_plugin_faults(given) if isinstance(given, t.Mapping) else []
    account = params.get("account_id")
    faults = nodepool.validate({**params, "state": "present", "pools": params.get("pools") or []})
    if account is not None and not _ACCOUNT.fullmatch(str(account)):
        faults.append(Fault(path="account_id", value=account, allowed="12 digits", source="AWS Account Management Reference: account ids"))
    return [*faults, *(dataclasses.replace(fault, path=f"device_plugin.{fault.path}") for fault in plugin)]


def job(run: Run) -> Outcome:
    """The job of module gpu_manifests_info."""
    context, pools, faults = _without_aws(run) if run.params["offline"] else _with_aws(run)
    files = [*_pools(context, pools, faults), *_device_plugin(run.params)]
    manifests = [file.to_result() for file in in_order(files)]
    return Outcome(plan=None, result={"manifests": manifests, "kubernetes_version": _version(context)})


def _version(context: Context) -> str | None:
    version: str | None = (context.cluster or {}).get("version") or context.run.params["kubernetes_version"]
    return version


def _device_plugin(params: Params) -> list[File]:
    if params["device_plugin"] is None:
        return []
    wanted = DevicePlugin.from_params({**params["device_plugin"], "purge_configurations": False})
    discovers = bool(params["device_plugin"]["feature_discovery"])
    manifests = device_plugin.wanted_objects(wanted, None, feature_discovery=discovers)
    return [object_file(manifest) for manifest in manifests if not _is_kubernetes_own(manifest)]


def _is_kubernetes_own(manifest: t.Mapping[str, t.Any]) -> bool:
    """Namespaces that every cluster has: who takes such a file away again would delete all that is in them."""
    name = manifest["metadata"]["name"]
    return manifest["kind"] == "Namespace" and (name == "default" or name.startswith("kube-"))


def _pools(context: Context, pools: t.Sequence[Pool], faults: t.Sequence[Fault]) -> list[File]:
    """The files of all pools; InvalidInput with every fault."""
    run = context.run
    chosen = {kind: [pool for pool in pools if pool.provisioner == kind] for kind in (_KARPENTER, *_TEMPLATES)}
    files, found = _objects(context, chosen.pop(_KARPENTER))
    faults = [*faults, *found]
    for kind, some in chosen.items():
        if some and context.cluster is None:
            names = ", ".join(pool.name for pool in some)
            run.warn(f"No launch templates of {names}: they hold what only the cluster can say, which {_absence(run)}.")
        elif some:
            requests, found = _TEMPLATES[kind](context, some)
            files += [template_file(request) for request in requests]
            faults += found
    if faults:
        raise InvalidInput(faults)
    return files


def _absence(run: Run) -> str:
    return "is not asked" if run.params["offline"] else "is not there yet"


def _with_aws(run: Run) -> tuple[Context, list[Pool], list[Fault]]:
    owner = run.owner(run.params["cluster_name"])
    pools = node_roles.named(nodepool.pools_of(run.params), run.params, owner)
    context, faults, warnings = nodepool.context_of(run, pools, owner, planned=True)
    for warning in warnings:
        run.warn(warning)
    return context, pools, faults


def _without_aws(run: Run) -> tuple[Context, list[Pool], list[Fault]]:
    """The same of a cluster of which nobody is asked."""
    params = run.params
    partition = next((name for prefix, name in _PARTITIONS.items() if run.region.startswith(prefix)), "aws")
    owner = Owner(cluster_name=params["cluster_name"], region=run.region, account=params["account_id"], partition=partition)
    pools = node_roles.named(nodepool.pools_of(params), params, owner)
    given = [Subnet.from_params(subnet) for subnet in params["subnets"] or ()]
    own = {pool.name: tuple(Subnet(id=id_, zone="") for id_ in pool.subnets) for pool in pools}
    subnets = {pool.name: own[pool.name] or for_nodes(given) for pool in pools}
    return Context(run=run, owner=owner, cluster=None, subnets=subnets, facts=catalogue_facts(pools)), pools, []


def _objects(context: Context, pools: t.Sequence[Pool]) -> tuple[list[File], list[Fault]]:
    """Karpenter's objects."""
    run, offline = context.run, context.run.params["offline"]
    targets = [resolve(pool, context.subnets.get(pool.name, ()), context.facts) for pool in pools]
    choice = ImageChoice(run.aws, None if offline else _version(context))
    images = {pool.name: image for pool in pools if (image := choice.image(pool, None)) is not None}
    faults: list[Fault] = []
    for target in targets:
        faults += faults_without_aws(target, context.facts.types) if offline else target.faults
        if not offline or not (target.pool.node_role or target.pool.instance_profile):
            faults += identity_faults(run.aws, target.pool, None)
        for warning in target.warnings:
            run.warn(warning)
    settings = Settings(
        owner=context.owner,
        security_group=cluster_security_group(context),
        role=run.params["node_role_arn"],
        subnets_given=True,
        images=images,
    )
    wanted = wanted_objects(targets, Observed(), settings)
    return [object_file(one.manifest) for one in wanted], [*faults, *choice.faults]
