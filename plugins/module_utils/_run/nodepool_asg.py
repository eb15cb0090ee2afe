# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Pools of Auto Scaling groups: observed and planned."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import AutoScalingGroup, InstanceProfile, Refresh
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, TemplateContent
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import ClusterData
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg import (
    Observed,
    going,
    is_adopted,
    is_ours,
    plan_absent,
    plan_closing,
    plan_pools,
    plan_removal,
    profile_name,
    resolve,
    surplus_templates,
    takes_part,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_image import ImageSource, changed_source, image_filters, wanted_source
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_result import pool_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import (
    POOL_TAG,
    Settings,
    ensure_template,
    group_id,
    option_faults,
    template_name,
)
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import WantedGroup
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import is_planned, planned
from ansible_collections.gpuops.eks.plugins.module_utils._run.asg_drain import leaving_nodes
from ansible_collections.gpuops.eks.plugins.module_utils._run.nodepool_parts import (
    Context,
    Part,
    Result,
    cluster_security_group,
    leaving,
    left_behind,
)

_MISSING = ("NoSuchEntity",)
_NODE_ENTRY = "EC2_LINUX"
_EKS_TAG = "eks:nodegroup-name"  # groups of managed node groups are EKS's
_ENTRY_REMEDY = "which role gpuops.eks.eks_autoscaling makes (or module gpuops.eks.eks_access_entry)"


def present(context: Context, pools: t.Sequence[Pool]) -> Part:
    """The Auto Scaling groups that the pools consist of, as they should be."""
    aws, owner = context.run.aws, context.owner
    resolutions = {pool.name: resolve(pool, context.subnets[pool.name], context.facts) for pool in pools}
    groups = [group for resolution in resolutions.values() for group in resolution.groups]
    observed = _observed(aws, owner, groups) if context.cluster else Observed()
    made = [group for group in groups if takes_part(group, _there(observed, owner, group), owner, prune=context.prune)]
    settings = _settings(context, made)
    own = [group for group in made if not is_adopted(group, _there(observed, owner, group), owner)]
    images, faults = _images(context, own, observed, settings)
    profiles, profile_faults = _profiles(context, own, observed)
    gone = _surplus_profiles(context, pools, observed) if context.prune else ()
    kept = [group.name for group in made]
    observed, refused = _with_leaving(context, dataclasses.replace(observed, profiles=profiles, surplus_profiles=gone), kept)
    planned_ = plan_pools(groups, observed, dataclasses.replace(settings, images=images), prunes=context.prunes)
    faults += [fault for resolution in resolutions.values() for fault in resolution.faults]
    faults += [fault for pool in pools for fault in option_faults(pool, settings.cluster, resolutions[pool.name].groups)]
    entry_faults, warnings = _entries(context, own, observed, profiles)
    warnings += [*refused, *(warning for resolution in resolutions.values() for warning in resolution.warnings)]
    others = {template.tags.get(NODEPOOL_TAG) for template in observed.templates.values()}
    warnings += left_behind(context, pools, others, "node groups")

    def results(there: t.Mapping[str, AutoScalingGroup]) -> dict[str, Result]:
        return {pool.name: pool_result(pool, resolutions[pool.name].groups, there, owner) for pool in pools}

    return Part(
        plan=dataclasses.replace(planned_.plan, warnings=(*warnings, *planned_.plan.warnings)),
        closing=planned_.closing,
        removal=planned_.removal,
        again=(lambda: _gone(context, observed, kept)) if going(context.prunes, observed, owner, kept) else None,
        leaving=leaving(context, {template.tags.get(POOL_TAG) for template in observed.templates.values()}),
        faults=(*faults, *profile_faults, *entry_faults, *planned_.faults),
        results=results(planned_.after),
        describe=lambda: results(_by_name(aws, [group_id(owner, group.name) for group in made])),
    )


def _with_leaving(context: Context, observed: Observed, kept: t.Collection[str]) -> tuple[Observed, list[str]]:
    """What is there with the nodes of groups that go, and warnings of those that cannot be drained."""
    nodes, warnings = leaving_nodes(context.run, going(context.prunes, observed, context.owner, kept))
    return dataclasses.replace(observed, leaving=nodes), warnings


def _gone(context: Context, observed: Observed, kept: t.Collection[str]) -> Part:
    """What no pool wants any more, as it is once what takes its place is there: an autoscaler and the scheduler have worked meanwhile."""
    now = dataclasses.replace(observed, groups=_of_owner(context.run.aws, context.owner))
    now, _warnings = _with_leaving(context, now, kept)
    return Part(
        closing=plan_closing(context.prunes, now, context.owner, kept), removal=plan_removal(context.prunes, now, context.owner, kept)
    )


def templates(context: Context, pools: t.Sequence[Pool]) -> tuple[list[t.Mapping[str, t.Any]], list[Fault]]:
    """The requests for the launch templates of new groups of these pools, in a cluster that is there, and what stands against them."""
    resolutions = {pool.name: resolve(pool, context.subnets[pool.name], context.facts) for pool in pools}
    groups = [group for resolution in resolutions.values() for group in resolution.groups if group.max]
    settings = _settings(context, groups)
    images, faults = _images(context, groups, Observed(), settings)
    settings = dataclasses.replace(settings, images=images)
    faults += [fault for resolution in resolutions.values() for fault in resolution.faults]
    faults += [fault for pool in pools for fault in option_faults(pool, settings.cluster, resolutions[pool.name].groups)]
    return [step.request for group in groups for step in ensure_template(group, None, settings)[0]], faults


def absent(context: Context, names: t.Sequence[str]) -> Part:
    """The groups of these pools emptied and deleted, with all that was made for them. Nodes of this kind can outlive their cluster."""
    aws, owner = context.run.aws, context.owner
    templates = _templates(aws, owner)
    with_template = [name for name in names if surplus_templates(frozenset({name}).__contains__, templates, owner)]
    profiles = _profiles_of(aws, owner, with_template)
    observed = Observed(groups=_of_owner(aws, owner), templates=templates, surplus_profiles=profiles)
    return Part(plan=plan_absent(names, observed, owner))


def _settings(context: Context, made: t.Sequence[WantedGroup]) -> Settings:
    """What all groups have in common; of a planned cluster by stand-ins."""
    run, owner, cluster = context.run, context.owner, context.cluster
    unknown = planned("cluster", owner.cluster_name)
    data = (
        ClusterData.from_api(cluster)
        if cluster
        else ClusterData(name=owner.cluster_name, endpoint=unknown, certificate_authority="", cidr="")
    )
    pools = {group.pool.name: group.pool for group in made}
    return Settings(
        owner=owner,
        cluster=data,
        cluster_security_group=cluster_security_group(context),
        version=(cluster or {}).get("version", ""),
        upgrade=run.params.get("kubernetes_version"),
        purge_tags=bool(run.params.get("purge_tags", True)),
        profiles={name: pool.instance_profile or profile_name(owner, name) for name, pool in pools.items()},
    )


def _there(observed: Observed, owner: Owner, group: WantedGroup) -> AutoScalingGroup | None:
    return observed.groups.get(group_id(owner, group.name))


def _is_made(observed: Observed, owner: Owner, group: WantedGroup) -> bool:
    """Whether the group will be made in this run."""
    there = _there(observed, owner, group)
    return there is None or there.deleting


def _of_owner(aws: Aws, owner: Owner) -> dict[str, AutoScalingGroup]:
    filters = [{"Name": f"tag:{OWNER_TAG}", "Values": [owner.arn]}]
    return _groups(aws, {"Filters": filters})


def _by_name(aws: Aws, names: t.Sequence[str]) -> dict[str, AutoScalingGroup]:
    return _groups(aws, {"AutoScalingGroupNames": list(names)}) if names else {}


def _groups(aws: Aws, request: t.Mapping[str, t.Any]) -> dict[str, AutoScalingGroup]:
    found = aws.pages("autoscaling:DescribeAutoScalingGroups", "AutoScalingGroups", request)
    return {group.name: group for group in map(AutoScalingGroup.from_api, found) if _EKS_TAG not in group.tags}


def _templates(aws: Aws, owner: Owner) -> dict[str, LaunchTemplate]:
    """Launch templates with our mark, by name."""
    filters = [{"Name": f"tag:{OWNER_TAG}", "Values": [owner.arn]}]
    found = aws.pages("ec2:DescribeLaunchTemplates", "LaunchTemplates", {"Filters": filters})
    return {template.name: template for template in map(LaunchTemplate.from_api, found)}


def _observed(aws: Aws, owner: Owner, groups: t.Sequence[WantedGroup]) -> Observed:
    """Groups and templates. Names that others may have are looked at where something is made, versions where they are compared, refreshes
    where instances are not as their group has them."""
    there = _of_owner(aws, owner)
    there |= _by_name(aws, [name for group in groups if group.max and (name := group_id(owner, group.name)) not in there])
    templates = _templates(aws, owner)
    wanted = [group for group in groups if takes_part(group, there.get(group_id(owner, group.name)), owner)]
    foreign: frozenset[str] = frozenset()
    names = [template_name(owner, group.name) for group in wanted if group_id(owner, group.name) not in there]
    if missing := [name for name in names if name not in templates]:
        filters = [{"Name": "launch-template-name", "Values": missing}]
        found = aws.pages("ec2:DescribeLaunchTemplates", "LaunchTemplates", {"Filters": filters})
        foreign = frozenset(template["LaunchTemplateName"] for template in found)
    descriptions: dict[tuple[str, str], str] = {}
    refreshes = {}
    for group in wanted:
        one = there.get(group_id(owner, group.name))
        if (template := templates.get(template_name(owner, group.name))) is not None:
            templates[template.name], said = _with_versions(aws, template, one)
            descriptions |= said
        if one is not None and one.stale and is_ours(one, owner, group.pool.name) and (last := _refresh(aws, one.name)):
            refreshes[one.name] = last
    return Observed(groups=there, templates=templates, foreign_templates=foreign, descriptions=descriptions, refreshes=refreshes)


def _with_versions(aws: Aws, template: LaunchTemplate, there: AutoScalingGroup | None) -> tuple[LaunchTemplate, dict[tuple[str, str], str]]:
    """The template with the version that its group launches from and the latest one, and how they are described."""
    used = [there.template[1]] if there and there.template and there.template[0] == template.id else []
    request = {"LaunchTemplateId": template.id, "Versions": list(dict.fromkeys([*used, str(template.latest)]))}
    found = aws.pages("ec2:DescribeLaunchTemplateVersions", "LaunchTemplateVersions", request)
    versions = {str(version["VersionNumber"]): TemplateContent.from_api(version["LaunchTemplateData"]) for version in found}
    said = {(template.id, str(version["VersionNumber"])): version.get("VersionDescription", "") for version in found}
    return dataclasses.replace(template, versions=versions), said


def _refresh(aws: Aws, name: str) -> Refresh | None:
    request = {"AutoScalingGroupName": name, "MaxRecords": 1}
    found = aws.call("autoscaling:DescribeInstanceRefreshes", request)["InstanceRefreshes"]
    return Refresh.from_api(found[0]) if found else None


def _images(
    context: Context, made: t.Sequence[WantedGroup], observed: Observed, settings: Settings
) -> tuple[dict[str, tuple[ImageSource, str]], list[Fault]]:
    """The images of groups that get one in this run, by the group; each is looked up once."""
    owner = context.owner
    found: dict[ImageSource, str | None] = {}
    images, faults = {}, {}
    for group in made:
        pool, there = group.pool, _there(observed, owner, group)
        source: ImageSource | None = wanted_source(pool, settings.version)
        if there is not None and not there.deleting:
            said = ImageSource.from_text(observed.descriptions.get(there.template or ("", ""), ""))
            source = changed_source(pool, said, version=settings.version, upgrade=settings.upgrade)
        if source is None:
            continue
        if source not in found:
            found[source] = _image(context.run.aws, source) if context.cluster else planned("image", source.to_text())
        if (id_ := found[source]) is not None:
            images[group.name] = (source, id_)
        else:
            faults[pool.name] = _image_fault(pool, source)
    return images, list(faults.values())


def _image(aws: Aws, source: ImageSource) -> str | None:
    """The id of an image; None where there is none."""
    if (parameter := source.parameter) is not None:
        reply = aws.find("ssm:GetParameter", {"Name": parameter}, missing=("ParameterNotFound",))
        return str(reply["Parameter"]["Value"]) if reply else None
    found = aws.pages("ec2:DescribeImages", "Images", image_filters(source))
    newest = max(found, key=lambda image: str(image.get("CreationDate", "")), default=None)
    return str(newest["ImageId"]) if newest else None


def _image_fault(pool: Pool, source: ImageSource) -> Fault:
    option = {"id": "ami.id", "name": "ami.name", "ssm": "ami.ssm_parameter"}.get(source.kind)
    option = option or ("ami.release" if pool.ami.release else "ami.family")
    where = f"SSM has no parameter {source.parameter}" if source.parameter else "EC2 shows this account none"
    called = "ssm:GetParameter" if source.parameter else "ec2:DescribeImages"
    value = pool.ami.release or source.value
    return Fault(path=join(pool.path, option), value=value, allowed=f"an image that there is: {where}", source=called)


def _profile(aws: Aws, name: str) -> InstanceProfile | None:
    reply = aws.find("iam:GetInstanceProfile", {"InstanceProfileName": name}, missing=_MISSING)
    return InstanceProfile.from_api(reply["InstanceProfile"]) if reply else None


def _profiles_of(aws: Aws, owner: Owner, pools: t.Iterable[str]) -> tuple[InstanceProfile, ...]:
    found = [_profile(aws, profile_name(owner, pool)) for pool in pools]
    return tuple(profile for profile in found if profile is not None)


def _surplus_profiles(context: Context, pools: t.Sequence[Pool], observed: Observed) -> tuple[InstanceProfile, ...]:
    """The instance profiles of pools that have no groups of this kind any more; a launch template tells that there may be one."""
    own = {pool.name for pool in pools}
    surplus = surplus_templates(context.prunes, observed.templates, context.owner)
    names = sorted({pool for template in surplus if (pool := template.tags[POOL_TAG]) not in own})
    return _profiles_of(context.run.aws, context.owner, names)


def _profiles(context: Context, made: t.Sequence[WantedGroup], observed: Observed) -> tuple[dict[str, InstanceProfile], list[Fault]]:
    """Instance profiles by pool: ours as they are, the user's where a group is to be made with it."""
    owner = context.owner
    profiles, faults = {}, []
    for pool in {group.pool.name: group.pool for group in made}.values():
        new = any(_is_made(observed, owner, group) for group in made if group.pool.name == pool.name)
        name = pool.instance_profile or profile_name(owner, pool.name)
        if pool.instance_profile is None and pool.node_role is None:
            allowed = "the name or ARN of the nodes' role (or option node_role_arn), or iam.instance_profile"
            faults.append(
                Fault(path=join(pool.path, "iam.node_role"), value=None, allowed=allowed, source="EC2 API Reference, RunInstances")
            )
        if not context.cluster or (pool.instance_profile and not new):
            continue
        found = _profile(context.run.aws, name)
        if found is not None:
            profiles[pool.name] = found
        if pool.instance_profile and (found is None or found.role is None):
            allowed = "an instance profile of this account with a role in it"
            faults.append(Fault(path=join(pool.path, "iam.instance_profile"), value=name, allowed=allowed, source="iam:GetInstanceProfile"))
        if pool.instance_profile is None and found is not None and not owner.owns(found.tags):
            allowed = f"another name: instance profile {name} is somebody else's"
            faults.append(Fault(path=join(pool.path, "name"), value=pool.name, allowed=allowed, source="tag gpuops.eks/owner"))
    return profiles, faults


def _entries(
    context: Context, made: t.Sequence[WantedGroup], observed: Observed, profiles: t.Mapping[str, InstanceProfile]
) -> tuple[list[Fault], list[str]]:
    """Roles of nodes that are to be made, or to change, and that the cluster does not know: such nodes never join.

    In check mode a warning: the entry may be planned as well. EKS makes entries for node groups, not for nodes like these.
    """
    mode = (context.cluster or {}).get("accessConfig", {}).get("authenticationMode", "")
    if not mode.startswith("API"):
        return [], []
    faults: dict[str, Fault] = {}
    for pool in {group.pool.name: group.pool for group in made}.values():
        new = any(_is_made(observed, context.owner, group) for group in made if group.pool.name == pool.name)
        there = profiles.get(pool.name)
        given = there.role_arn if pool.instance_profile and there else pool.node_role
        swapped = there is not None and not pool.instance_profile and there.role != (given or "").rpartition("/")[2]
        if given is None or pool.own_role or given in faults or is_planned(given) or not (new or swapped):
            continue
        path = join(pool.path, "iam.instance_profile" if pool.instance_profile else "iam.node_role")
        if fault := _entry_fault(context, given, path):
            faults[given] = fault
    if not context.run.check_mode:
        return list(faults.values()), []
    return [], [f"{fault.path}: {fault.value} needs {fault.allowed}." for fault in faults.values()]


def _entry_fault(context: Context, given: str, path: str) -> Fault | None:
    aws = context.run.aws
    arn = context.roles.get(given, given)
    if not arn.startswith("arn:"):
        reply = aws.find("iam:GetRole", {"RoleName": arn}, missing=_MISSING)
        if reply is None:
            return Fault(path=path, value=given, allowed="a role of this account", source="iam:GetRole")
        arn = reply["Role"]["Arn"]
    request = {"clusterName": context.owner.cluster_name, "principalArn": arn}
    entry = aws.find("eks:DescribeAccessEntry", request, missing=("ResourceNotFoundException",))
    if entry is not None and entry["accessEntry"].get("type") == _NODE_ENTRY:
        return None
    allowed = f"an access entry of type {_NODE_ENTRY} for this role in the cluster, {_ENTRY_REMEDY}"
    return Fault(path=path, value=given, allowed=allowed, source="eks:DescribeAccessEntry")
