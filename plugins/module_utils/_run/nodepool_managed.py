# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Pools of managed node groups: observed and planned."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, TemplateContent
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import ClusterData
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import POOL_TAG
from ansible_collections.gpuops.eks.plugins.module_utils._plan.autoscaler_tags import UNNEEDED_TIME_TAG
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool import Observed, plan_absent, plan_pools, takes_part
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_adopt import adopted_group, is_adopted
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import Settings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import (
    Ec2Facts,
    Resolution,
    WantedGroup,
    resolve_groups,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_replace import is_made, settle
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_result import pool_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_scaling_tags import unread
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import (
    TemplateSettings,
    ensure_template,
    manages_template,
    template_name,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import is_planned
from ansible_collections.gpuops.eks.plugins.module_utils._run.images import Images
from ansible_collections.gpuops.eks.plugins.module_utils._run.nodepool_parts import (
    Context,
    Part,
    Result,
    cluster_security_group,
    leaving,
    left_behind,
)

_MISSING = ("ResourceNotFoundException",)
# Names of groups begin with their pool's name; the longest are cut at 54 characters.
_PREFIX = 50


def present(context: Context, pools: t.Sequence[Pool]) -> Part:
    """The node groups that the pools consist of, as they should be."""
    run, owner = context.run, context.owner
    nodegroups = _nodegroups(run.aws, owner, _concerned(context, pools)) if context.cluster else {}
    resolutions = {pool.name: _resolve(context, pool, nodegroups) for pool in pools}
    groups = [group for resolution in resolutions.values() for group in resolution.groups]
    made = [group for group in groups if takes_part(group, nodegroups.get(group.name), owner, prune=context.prune)]
    observed = _observed(run.aws, owner, made, _with_scaling_tags(run.aws, made, nodegroups))
    roles, role_faults = _roles(run.aws, pools, made, observed)
    images = Images(run.aws, (context.cluster or {}).get("version", ""))
    settings = Settings(
        owner=owner,
        roles=roles,
        purge_tags=run.params["purge_tags"],
        kubernetes_version=run.params.get("kubernetes_version"),
        cluster=ClusterData.from_api(context.cluster) if context.cluster else None,
        security_group=cluster_security_group(context),
        images=_by_pool(images.image, [pool for pool in pools if pool.ami.custom]),
        releases=_by_pool(images.release, [pool for pool in pools if pool.ami.release and context.cluster]),
    )
    planned = plan_pools(groups, observed, settings, prunes=context.prunes)
    faults = [fault for resolution in resolutions.values() for fault in resolution.faults]
    others = {template.tags.get(POOL_TAG) for template in observed.templates.values()}
    behind = left_behind(context, pools, others, "Auto Scaling groups")
    warnings = (*_resolution_warnings(tuple(resolutions.values())), *planned.plan.warnings, *behind)

    def results(nodegroups: t.Mapping[str, Nodegroup]) -> dict[str, Result]:
        return {pool.name: pool_result(pool, [group for group in groups if group.pool.name == pool.name], nodegroups) for pool in pools}

    return Part(
        plan=dataclasses.replace(planned.plan, warnings=warnings),
        removal=planned.removal,
        leaving=leaving(context, _pools_of(observed)),
        faults=(*faults, *role_faults, *images.faults, *planned.faults),
        results=results(planned.after),
        describe=lambda: results(_describe(run.aws, owner, [group.name for group in made])),
    )


def _pools_of(observed: Observed) -> set[str | None]:
    """The pools of which there is something."""
    groups = {group.tags.get(NODEPOOL_TAG) for group in observed.nodegroups.values()}
    return groups | {template.tags.get(NODEPOOL_TAG) for template in observed.templates.values()}


def _resolve(context: Context, pool: Pool, nodegroups: t.Mapping[str, Nodegroup]) -> Resolution:
    """The groups that a pool consists of, under the names that they have or get."""
    there, subnets = nodegroups.get(pool.name), context.subnets[pool.name]
    if there is not None and is_adopted(pool, there, context.owner):
        facts, common = _facts_of_adopted(context, pool, there), context.run.params.get("node_role_arn")
        return adopted_group(pool, there, subnets, facts, common_role=common)
    resolution = resolve_groups(pool, subnets, context.facts)
    allow = bool(context.run.params.get("allow_replacement"))
    groups = tuple(settle(group, nodegroups, context.owner, allow_replacement=allow) for group in resolution.groups)
    return dataclasses.replace(resolution, groups=groups)


def _facts_of_adopted(context: Context, pool: Pool, there: Nodegroup) -> Ec2Facts:
    """What EC2 says of the group's types, where it takes their GPUs to know what the user set."""
    facts, counted = context.facts, pool.sharing is not None or pool.mig is not None or pool.max_gpus is not None
    missing = [name for name in there.instance_types if name not in facts.types]
    if not counted or not missing:
        return facts
    request = {"Filters": [{"Name": "instance-type", "Values": missing}]}
    found = map(InstanceType.from_api, context.run.aws.pages("ec2:DescribeInstanceTypes", "InstanceTypes", request))
    return dataclasses.replace(facts, types={**facts.types, **{instance.name: instance for instance in found}})


def _by_pool(find: t.Callable[[Pool], str | None], pools: t.Sequence[Pool]) -> dict[str, str]:
    """What was found for each of these pools."""
    found = {pool.name: find(pool) for pool in pools}
    return {name: value for name, value in found.items() if value is not None}


def templates(context: Context, pools: t.Sequence[Pool]) -> tuple[list[t.Mapping[str, t.Any]], list[Fault]]:
    """The requests for the launch templates of new groups of these pools, in a cluster that is there, and what stands against them."""
    cluster = context.cluster or {}
    resolutions = [resolve_groups(pool, context.subnets[pool.name], context.facts) for pool in pools]
    images = Images(context.run.aws, cluster["version"])
    settings = TemplateSettings(
        owner=context.owner,
        cluster=ClusterData.from_api(cluster),
        security_group=cluster_security_group(context),
        images=_by_pool(images.image, [pool for pool in pools if pool.ami.custom]),
    )
    groups = [group for resolution in resolutions for group in resolution.groups if group.max]
    requests = [step.request for group in groups for step in ensure_template(group, None, settings)[0]]
    return requests, [*(fault for resolution in resolutions for fault in resolution.faults), *images.faults]


def absent(context: Context, names: t.Sequence[str]) -> Part:
    """The node groups of these pools deleted, and their launch templates."""
    aws, owner = context.run.aws, context.owner
    nodegroups = _nodegroups(aws, owner, names) if context.cluster else {}
    return Part(plan=plan_absent(names, Observed(nodegroups=nodegroups, templates=_templates(aws, owner)), owner))


def _concerned(context: Context, pools: t.Sequence[Pool]) -> t.Collection[str] | None:
    """The names of the pools whose groups are looked at; None is every pool."""
    if context.prune:
        return None if context.whole else context.names
    return [pool.name for pool in pools]


def _nodegroups(aws: Aws, owner: Owner, pools: t.Collection[str] | None) -> dict[str, Nodegroup]:
    """The cluster's node groups whose name may be one of a group of these pools; None is all of them."""
    names = aws.pages("eks:ListNodegroups", "nodegroups", {"clusterName": owner.cluster_name})
    return _describe(aws, owner, [name for name in names if pools is None or any(name.startswith(pool[:_PREFIX]) for pool in pools)])


def _describe(aws: Aws, owner: Owner, names: t.Sequence[str]) -> dict[str, Nodegroup]:
    requests = [{"clusterName": owner.cluster_name, "nodegroupName": name} for name in names]
    replies = aws.find_all("eks:DescribeNodegroup", requests, missing=_MISSING)
    return {name: Nodegroup.from_api(reply["nodegroup"]) for name, reply in zip(names, replies, strict=True) if reply}


def _templates(aws: Aws, owner: Owner) -> dict[str, LaunchTemplate]:
    """Launch templates with our mark, by name."""
    filters = [{"Name": f"tag:{OWNER_TAG}", "Values": [owner.arn]}]
    found = aws.pages("ec2:DescribeLaunchTemplates", "LaunchTemplates", {"Filters": filters})
    return {template.name: template for template in map(LaunchTemplate.from_api, found)}


def _observed(aws: Aws, owner: Owner, groups: t.Sequence[WantedGroup], nodegroups: t.Mapping[str, Nodegroup]) -> Observed:
    """Node groups and templates; versions are read where they are compared, names of others' templates where one is made."""
    templates = _templates(aws, owner)
    foreign: frozenset[str] = frozenset()
    names = [template_name(owner, group.name) for group in groups if group.name not in nodegroups]
    if missing := [name for name in names if name not in templates]:
        filters = [{"Name": "launch-template-name", "Values": missing}]
        found = aws.pages("ec2:DescribeLaunchTemplates", "LaunchTemplates", {"Filters": filters})
        foreign = frozenset(template["LaunchTemplateName"] for template in found)
    for group in groups:
        name, there = template_name(owner, group.name), nodegroups.get(group.name)
        if name in templates and (is_made(group, there) or manages_template(group.pool, there.tags if there else {})):
            templates[name] = _with_versions(aws, templates[name], there)
    return Observed(nodegroups=nodegroups, templates=templates, foreign_templates=foreign)


def _with_scaling_tags(aws: Aws, groups: t.Sequence[WantedGroup], nodegroups: t.Mapping[str, Nodegroup]) -> dict[str, Nodegroup]:
    """The node groups with what their Auto Scaling groups tell the autoscaler, where a pool says what that should be."""
    names = [name for group in groups if (name := unread(group, nodegroups.get(group.name)))]
    if not names:
        return dict(nodegroups)
    filters = [{"Name": "auto-scaling-group", "Values": names}, {"Name": "key", "Values": [UNNEEDED_TIME_TAG]}]
    found = {tag["ResourceId"]: tag["Value"] for tag in aws.pages("autoscaling:DescribeTags", "Tags", {"Filters": filters})}
    return {name: dataclasses.replace(there, unneeded_time=found.get(there.auto_scaling_group)) for name, there in nodegroups.items()}


def _with_versions(aws: Aws, template: LaunchTemplate, there: Nodegroup | None) -> LaunchTemplate:
    used = [there.launch_template[1]] if there and there.launch_template else []
    wanted = list(dict.fromkeys([*used, str(template.latest)]))
    request = {"LaunchTemplateId": template.id, "Versions": wanted}
    found = aws.pages("ec2:DescribeLaunchTemplateVersions", "LaunchTemplateVersions", request)
    versions = {str(version["VersionNumber"]): TemplateContent.from_api(version["LaunchTemplateData"]) for version in found}
    return dataclasses.replace(template, versions=versions)


def _roles(aws: Aws, pools: t.Sequence[Pool], groups: t.Sequence[WantedGroup], observed: Observed) -> tuple[dict[str, str], list[Fault]]:
    """ARN by the name or ARN that pools give. Read where a group is to be made, and where only the name is known."""
    roles: dict[str, str] = {}
    faults: dict[str, Fault] = {}
    kept = {group.pool.name for group in groups}
    kept -= {group.pool.name for group in groups if is_made(group, observed.nodegroups.get(group.name))}
    for pool in pools:
        given = pool.node_role
        if given is None or given in roles or given in faults:
            continue
        known = (
            pool.own_role
            or is_planned(given)
            or (given.startswith("arn:") and all(one.name in kept for one in pools if one.node_role == given))
        )
        name = given.rpartition("/")[2]
        reply = {"Role": {"Arn": given}} if known else aws.find("iam:GetRole", {"RoleName": name}, missing=("NoSuchEntity",))
        if reply is None or (given.startswith("arn:") and reply["Role"]["Arn"] != given):
            path = join(pool.path, "iam.node_role")
            faults[given] = Fault(path=path, value=given, allowed="a role of this account", source="iam:GetRole")
        else:
            roles[given] = reply["Role"]["Arn"]
    return roles, list(faults.values())


def _resolution_warnings(resolutions: t.Sequence[Resolution]) -> tuple[str, ...]:
    return tuple(warning for resolution in resolutions for warning in resolution.warnings)
