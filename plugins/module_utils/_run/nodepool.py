# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Observes, plans and converges pools of managed node groups."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Subnet, for_nodes
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, TemplateContent
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.nodegroup import Nodegroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_faults import name_faults, pool_faults, pools_faults, role_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import POOL_OPTIONS
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool import Observed, plan_absent, plan_pools, takes_part
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import Settings, is_half_made
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts, Resolution, WantedGroup, resolve_groups
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_result import pool_result
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_template import manages_template, template_name
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import is_planned
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Params, Run

_MISSING = ("ResourceNotFoundException",)
_FILTER_VALUES = 200  # EC2 takes at most 200 values in a filter
# Names of groups begin with their pool's name; the longest are cut at 54 characters.
_PREFIX = 50
_READY = ("ACTIVE", "UPDATING")
_FORMS = {
    "volumes_key_arn": (
        re.compile(r"arn:aws[a-z-]*:kms:[^:]+:[0-9]{12}:key/.+|planned:.+"),
        "the ARN of a KMS key",
        "EC2 API, EbsBlockDevice",
    ),
    "kubernetes_version": (
        re.compile(r"[1-9]\.[0-9]{1,3}"),
        "a Kubernetes version in quotes, such as '1.34'",
        "EKS API Reference, UpdateNodegroupVersion",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Place:
    """Where pools are to be: the cluster, None where it is planned, and the subnets by pool."""

    cluster: t.Mapping[str, t.Any] | None
    subnets: t.Mapping[str, tuple[Subnet, ...]]


def validate(params: Params) -> list[Fault]:
    """Every fault of form, for values of any type."""
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name") + role_faults(params.get("node_role_arn"), "node_role_arn")
    faults += _match_faults(params)
    pools = params.get("pools")
    if params.get("state") == "absent":
        named = pools if isinstance(pools, list) else [params]
        where = [f"pools[{index}]" if pools is not None else "" for index in range(len(named))]
        return faults + [
            fault for pool, path in zip(named, where, strict=True) if isinstance(pool, dict) for fault in name_faults(pool, path)
        ]
    return faults + (pools_faults(pools, "pools") if pools is not None else _single_faults(params))


def _match_faults(params: Params) -> list[Fault]:
    return [
        Fault(path=name, value=params[name], allowed=allowed, source=source)
        for name, (pattern, allowed, source) in _FORMS.items()
        if params.get(name) is not None and not isinstance(params[name], (list, dict)) and not pattern.fullmatch(str(params[name]))
    ]


def _single_faults(params: Params) -> list[Fault]:
    pool = {name: params.get(name) for name in POOL_OPTIONS}
    unnamed = Fault(path="name", value=None, allowed="required: the name of one pool; or pools", source="the collection's options")
    return [*([unnamed] if pool["name"] is None else []), *pool_faults(pool, "")]


def job(run: Run) -> Outcome:
    """The pools as they should be, or gone."""
    owner = run.owner(run.params["cluster_name"])
    return _absent(run, owner) if run.params["state"] == "absent" else _present(run, owner)


def _pools(params: Params) -> list[Pool]:
    common: dict[str, t.Any] = {"node_role": params.get("node_role_arn"), "volumes_key": params.get("volumes_key_arn")}
    if params.get("pools") is None:
        return [Pool.from_params(params, **common)]
    return [Pool.from_params(pool, path=f"pools[{index}]", **common) for index, pool in enumerate(params["pools"])]


def _present(run: Run, owner: Owner) -> Outcome:
    pools = _pools(run.params)
    place, faults, warnings = _place(run, pools, owner)
    faults += [] if run.check_mode else _planned_faults(run.params, pools)
    nodegroups = _nodegroups(run.aws, owner, [pool.name for pool in pools]) if place.cluster else {}
    facts = _ec2_facts(run.aws, pools)
    resolutions = [resolve_groups(pool, place.subnets[pool.name], facts) for pool in pools]
    faults += [fault for resolution in resolutions for fault in resolution.faults]
    groups = [group for resolution in resolutions for group in resolution.groups]
    made = [group for group in groups if takes_part(group, nodegroups.get(group.name), owner)]
    observed = _observed(run.aws, owner, made, nodegroups)
    roles, role_read_faults = _roles(run.aws, pools, made, observed)
    settings = Settings(
        owner=owner, roles=roles, purge_tags=run.params["purge_tags"], kubernetes_version=run.params.get("kubernetes_version")
    )
    planned = plan_pools(groups, observed, settings)
    if faults := [*faults, *role_read_faults, *planned.faults]:
        raise InvalidInput(faults)
    plan = dataclasses.replace(planned.plan, warnings=(*warnings, *_resolution_warnings(resolutions), *planned.plan.warnings))
    run.apply(plan)
    changed = (plan.steps or plan.waits) and not run.check_mode
    after = _describe(run.aws, owner, [group.name for group in made]) if changed else planned.after
    results = [pool_result(pool, resolution.groups, after) for pool, resolution in zip(pools, resolutions, strict=True)]
    return Outcome(plan=plan, result=_result(run, results))


def _result(run: Run, results: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    single = {"nodepool": results[0] if results else None} if run.params.get("pools") is None else {}
    return {"nodepools": results, **single}


def _resolution_warnings(resolutions: t.Sequence[Resolution]) -> tuple[str, ...]:
    return tuple(warning for resolution in resolutions for warning in resolution.warnings)


def _absent(run: Run, owner: Owner) -> Outcome:
    pools = run.params.get("pools")
    names = [pool["name"] for pool in pools] if pools is not None else [run.params["name"]]
    cluster = run.aws.find("eks:DescribeCluster", {"name": owner.cluster_name}, missing=_MISSING)
    nodegroups = _nodegroups(run.aws, owner, names) if cluster else {}
    plan = plan_absent(names, Observed(nodegroups=nodegroups, templates=_templates(run.aws, owner)), owner)
    run.apply(plan)
    return Outcome(plan=plan, result=_result(run, []))


def _place(run: Run, pools: t.Sequence[Pool], owner: Owner) -> tuple[_Place, list[Fault], list[str]]:
    """The cluster and the subnets that exist or are planned; what is missing as faults, a planned cluster as a warning."""
    faults, warnings = [], []
    reply = run.aws.find("eks:DescribeCluster", {"name": owner.cluster_name}, missing=_MISSING)
    cluster = reply["cluster"] if reply else None
    if cluster is None and run.check_mode:
        warnings.append(f"Cluster {owner.cluster_name} is not there yet: the pools are planned for the cluster that will be.")
    elif cluster is None or cluster["status"] not in _READY:
        value = f"{owner.cluster_name} is {cluster['status']}" if cluster else owner.cluster_name
        faults.append(Fault(path="cluster_name", value=value, allowed="a cluster that is ACTIVE", source="eks:DescribeCluster"))
    given = [Subnet.from_params(subnet) for subnet in run.params.get("subnets") or ()]
    defaults = [subnet.id for subnet in given] or list((cluster or {}).get("resourcesVpcConfig", {}).get("subnetIds") or ())
    wanted = list(dict.fromkeys([*defaults, *(id_ for pool in pools for id_ in pool.subnets)]))
    known = {subnet.id: subnet for subnet in given}
    real = [id_ for id_ in wanted if not is_planned(id_)]
    there = _subnets(run.aws, real)
    found = {id_: dataclasses.replace(subnet, tier=known[id_].tier if id_ in known else "") for id_, subnet in there.items()}
    found |= {id_: subnet for id_, subnet in known.items() if is_planned(id_) and subnet.zone}
    faults += [fault for fault in _subnet_faults(run.params, pools, found) if run.check_mode or not is_planned(fault.value)]
    common = for_nodes([found[id_] for id_ in defaults if id_ in found])
    subnets = {pool.name: tuple(found[id_] for id_ in pool.subnets if id_ in found) if pool.subnets else common for pool in pools}
    return _Place(cluster=cluster, subnets=subnets), faults, warnings


def _subnet_faults(params: Params, pools: t.Sequence[Pool], found: t.Container[str]) -> list[Fault]:
    """Subnets that do not exist, and planned ones of which the zone is not known."""
    return [
        Fault(
            path=path,
            value=id_,
            allowed="a planned subnet that is in subnets with its zone" if is_planned(id_) else "the id of a subnet of this region",
            source="ec2:DescribeSubnets",
        )
        for path, id_ in _given_subnets(params, pools).items()
        if id_ not in found
    ]


def _given_subnets(params: Params, pools: t.Sequence[Pool]) -> dict[str, str]:
    """The ids of subnets by where they stand in the options."""
    paths = {f"subnets[{index}].id": subnet["id"] for index, subnet in enumerate(params.get("subnets") or ())}
    return paths | {join(pool.path, f"network.subnets[{index}]"): id_ for pool in pools for index, id_ in enumerate(pool.subnets)}


def _planned_faults(params: Params, pools: t.Sequence[Pool]) -> list[Fault]:
    """Stand-ins for ids are for check mode; a real run has real ids."""
    common = params.get("node_role_arn")
    given = {"node_role_arn": common, "volumes_key_arn": params.get("volumes_key_arn")}
    given |= {join(pool.path, "iam.node_role"): pool.node_role for pool in pools if pool.node_role != common}
    given |= _given_subnets(params, pools)
    allowed = "the id of what exists; planned ids are for check mode"
    return [
        Fault(path=path, value=value, allowed=allowed, source="the options of eks_gpu_nodepool")
        for path, value in given.items()
        if is_planned(value)
    ]


def _subnets(aws: Aws, ids: t.Sequence[str]) -> dict[str, Subnet]:
    if not ids:
        return {}
    found = aws.pages("ec2:DescribeSubnets", "Subnets", {"Filters": [{"Name": "subnet-id", "Values": list(ids)}]})
    return {subnet.id: subnet for subnet in map(Subnet.from_api, found)}


def _nodegroups(aws: Aws, owner: Owner, pools: t.Sequence[str]) -> dict[str, Nodegroup]:
    """The cluster's node groups whose name may be one of a group of these pools."""
    names = aws.pages("eks:ListNodegroups", "nodegroups", {"clusterName": owner.cluster_name})
    return _describe(aws, owner, [name for name in names if any(name.startswith(pool[:_PREFIX]) for pool in pools)])


def _describe(aws: Aws, owner: Owner, names: t.Sequence[str]) -> dict[str, Nodegroup]:
    found = {}
    for name in names:
        request = {"clusterName": owner.cluster_name, "nodegroupName": name}
        if reply := aws.find("eks:DescribeNodegroup", request, missing=_MISSING):
            found[name] = Nodegroup.from_api(reply["nodegroup"])
    return found


def _ec2_facts(aws: Aws, pools: t.Sequence[Pool]) -> Ec2Facts:
    """What EC2 knows of the types and families that the pools name, and which zones of the region offer them."""
    patterns = list(dict.fromkeys(pattern for pool in pools for pattern in pool.instances.patterns))
    types: dict[str, InstanceType] = {}
    offerings: dict[str, set[str]] = {}
    for start in range(0, len(patterns), _FILTER_VALUES):
        filters = [{"Name": "instance-type", "Values": patterns[start : start + _FILTER_VALUES]}]
        for reply in aws.pages("ec2:DescribeInstanceTypes", "InstanceTypes", {"Filters": filters}):
            types[reply["InstanceType"]] = InstanceType.from_api(reply)
        request = {"LocationType": "availability-zone", "Filters": filters}
        for reply in aws.pages("ec2:DescribeInstanceTypeOfferings", "InstanceTypeOfferings", request):
            offerings.setdefault(reply["Location"], set()).add(reply["InstanceType"])
    return Ec2Facts(types=types, offerings=offerings)


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
        if name in templates and (_is_made(there) or manages_template(group.pool)):
            templates[name] = _with_versions(aws, templates[name], there)
    return Observed(nodegroups=nodegroups, templates=templates, foreign_templates=foreign)


def _is_made(there: Nodegroup | None) -> bool:
    """Whether the group will be made in this run."""
    return there is None or there.status == "DELETING" or is_half_made(there)


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
    kept -= {group.pool.name for group in groups if _is_made(observed.nodegroups.get(group.name))}
    for pool in pools:
        given = pool.node_role
        if given is None or given in roles or given in faults:
            continue
        known = is_planned(given) or (given.startswith("arn:") and all(one.name in kept for one in pools if one.node_role == given))
        name = given.rpartition("/")[2]
        reply = {"Role": {"Arn": given}} if known else aws.find("iam:GetRole", {"RoleName": name}, missing=("NoSuchEntity",))
        if reply is None or (given.startswith("arn:") and reply["Role"]["Arn"] != given):
            path = join(pool.path, "iam.node_role")
            faults[given] = Fault(path=path, value=given, allowed="a role of this account", source="iam:GetRole")
        else:
            roles[given] = reply["Role"]["Arn"]
    return roles, list(faults.values())
