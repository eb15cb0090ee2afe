# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Pools of an EKS cluster: what they have in common is observed here, each provisioner's part is planned by its own module."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, GpuopsError, Interrupted, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Reservation, Subnet, for_nodes
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import join
from ansible_collections.gpuops.eks.plugins.module_utils._model.names import cluster_name_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_faults import name_faults, pool_faults, pools_faults, role_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_iam_faults import POLICY_ARN
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import POOL_OPTIONS
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_gpus import pool_warnings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, combine, is_planned, needing
from ansible_collections.gpuops.eks.plugins.module_utils._run import node_roles, nodepool_asg, nodepool_karpenter, nodepool_managed
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Params, Run
from ansible_collections.gpuops.eks.plugins.module_utils._run.nodepool_parts import Context, Part, Provisioner, Result

_FILTER_VALUES = 200  # EC2 takes at most 200 values in a filter
_READY = ("ACTIVE", "UPDATING")
_FORMS = {
    "volumes_key_arn": (
        re.compile(r"arn:aws[a-z-]*:kms:[^:]+:[0-9]{12}:key/.+|planned:.+"),
        "the ARN of a KMS key",
        "EC2 API, EbsBlockDevice",
    ),
    "iam_path": (re.compile(r"/|/[!-~]+/"), "a path that begins and ends in /", "IAM API Reference, CreateRole"),
    "permissions_boundary": (POLICY_ARN, "the ARN of a managed policy", "IAM API Reference, CreateRole"),
    "kubernetes_version": (
        re.compile(r"[1-9]\.[0-9]{1,3}"),
        "a Kubernetes version in quotes, such as '1.34'",
        "EKS API Reference, UpdateNodegroupVersion",
    ),
}


_PROVISIONERS: dict[str, Provisioner] = {
    "managed_node_group": nodepool_managed,
    "auto_scaling_group": nodepool_asg,
    "karpenter": nodepool_karpenter,
}


def validate(params: Params) -> list[Fault]:
    """Every fault of form, for values of any type."""
    faults = cluster_name_faults(params.get("cluster_name"), "cluster_name") + role_faults(params.get("node_role_arn"), "node_role_arn")
    faults += [*_match_faults(params), *_base_faults(params)]
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


def _base_faults(params: Params) -> list[Fault]:
    """Policies of every node that are none."""
    given = params.get("node_policies")
    return [
        Fault(
            path=f"node_policies[{index}]",
            value=policy,
            allowed="the ARN of a managed policy",
            source="IAM API Reference, AttachRolePolicy",
        )
        for index, policy in enumerate(given if isinstance(given, list) else ())
        if isinstance(policy, str) and not POLICY_ARN.fullmatch(policy)
    ]


def _single_faults(params: Params) -> list[Fault]:
    pool = {name: params.get(name) for name in POOL_OPTIONS}
    unnamed = Fault(path="name", value=None, allowed="required: the name of one pool; or pools", source="the collection's options")
    return [*([unnamed] if pool["name"] is None else []), *pool_faults(pool, "")]


def job(run: Run) -> Outcome:
    """The pools as they should be, or gone."""
    owner = run.owner(run.params["cluster_name"])
    return _absent(run, owner) if run.params["state"] == "absent" else _present(run, owner)


def pools_of(params: Params) -> list[Pool]:
    """The pools of the options, with what they have in common."""
    common: dict[str, t.Any] = {"node_role": params.get("node_role_arn"), "volumes_key": params.get("volumes_key_arn")}
    if params.get("pools") is None:
        return [Pool.from_params(params, **common)]
    return [Pool.from_params(pool, path=f"pools[{index}]", **common) for index, pool in enumerate(params["pools"])]


def _present(run: Run, owner: Owner) -> Outcome:
    pools = pools_of(run.params)
    context, faults, warnings = context_of(run, pools, owner, planned=run.check_mode)
    faults += [] if run.check_mode else _planned_faults(run.params, pools)
    roles = node_roles.present(context, pools)
    parts = _parts(context, roles.pools)
    if faults := [*faults, *roles.faults, *(fault for part in parts for fault in part.faults)]:
        raise InvalidInput(faults)
    gone = node_roles.removal(context, sorted({pool for part in parts for pool in part.leaving}))
    plan = _carried_out(run, parts, roles.plan, gone)
    said = [warning for pool in pools for warning in pool_warnings(pool)]
    plan = dataclasses.replace(plan, warnings=(*warnings, *said, *plan.warnings))
    changed = bool(plan.steps or plan.waits) and not run.check_mode
    results: dict[str, Result] = {}
    for part in parts:
        results.update(part.describe() if changed and part.describe else part.results)
    return Outcome(plan=plan, result=_result(run, [results[pool.name] for pool in pools]))


def _parts(context: Context, pools: t.Sequence[Pool]) -> list[Part]:
    """Each provisioner's part, for the pools that it has."""
    chosen = {kind: [pool for pool in pools if pool.provisioner == kind] for kind in _PROVISIONERS}
    return [_PROVISIONERS[kind].present(context, some) for kind, some in chosen.items() if some or context.prune]


def _carried_out(run: Run, parts: t.Sequence[Part], roles: Plan, gone: Plan) -> Plan:
    """The plan as it was made, in check mode as it would be. What is removed is looked at again where something else has taken its time before."""
    first, rest = _kept(parts, roles), _removal(parts, gone)
    plan = _followed(first, rest)
    if run.check_mode or not (first.steps or first.waits) or not rest.steps or not any(part.again for part in parts):
        run.apply(plan)
        return plan
    done: list[dict[str, t.Any]] = []
    try:
        run.apply(first, every_wait=True)
        done = first.to_list()
        rest = _removal([part.again() if part.again else part for part in parts], gone)
        plan = _followed(first, rest)
        run.apply(rest)
    except Interrupted as error:
        made = len(done) + len(error.done)
        raise Interrupted(error.cause, plan.to_list()[:made], plan.to_list()[made:]) from error
    except GpuopsError as error:
        raise Interrupted(error, done, plan.to_list()[len(done) :]) from error
    return plan


def _kept(parts: t.Iterable[Part], roles: Plan) -> Plan:
    """The roles of nodes and the plans of all parts."""
    return combine([roles, *(part.plan for part in parts)])


def _removal(parts: t.Sequence[Part], gone: Plan) -> Plan:
    """What no pool wants any more. Karpenter's first: it ends its own nodes, and runs on those of a group.

    Roles (``gone``) go with the last node that has them.
    """
    removal = combine([*(part.closing for part in parts), *(part.removal for part in reversed(parts))])
    return combine([removal, dataclasses.replace(gone, steps=tuple(needing(gone.steps, *removal.waits)))])


def _followed(plan: Plan, removal: Plan) -> Plan:
    """Both, the removal once what takes its place is there."""
    both = combine([plan, removal])
    if not removal.steps:
        return both
    return dataclasses.replace(both, steps=(*plan.steps, *needing(removal.steps, *plan.waits)), waits=removal.waits)


def _result(run: Run, results: list[Result]) -> dict[str, t.Any]:
    single = {"nodepool": results[0] if results else None} if run.params.get("pools") is None else {}
    return {"nodepools": results, **single}


def _absent(run: Run, owner: Owner) -> Outcome:
    """Whatever provisioner made them: an inventory that was changed since may name another one."""
    pools = run.params.get("pools")
    names = [pool["name"] for pool in pools] if pools is not None else [run.params["name"]]
    context = Context(run=run, owner=owner, cluster=run.cluster)
    plans = []
    # One after another, the groups last: Karpenter, which ends its own nodes, runs on those of a group.
    for provisioner in reversed(_PROVISIONERS.values()):
        plan = provisioner.absent(context, names).plan
        run.apply(plan)
        plans.append(plan)
    roles = node_roles.removal(context, names)
    roles = dataclasses.replace(roles, steps=tuple(needing(roles.steps, *(wait for plan in plans for wait in plan.waits))))
    run.apply(roles)
    plan = combine([*plans, roles])
    return Outcome(plan=plan, result=_result(run, []))


def context_of(run: Run, pools: t.Sequence[Pool], owner: Owner, *, planned: bool) -> tuple[Context, list[Fault], list[str]]:
    """What all pools need: the cluster and the subnets that exist, or with ``planned`` will, and instance types; what is missing as faults."""
    faults, warnings = [], []
    cluster = run.cluster
    if cluster is None and planned:
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
    faults += [fault for fault in _subnet_faults(run.params, pools, found) if planned or not is_planned(fault.value)]
    common = for_nodes([found[id_] for id_ in defaults if id_ in found])
    subnets = {pool.name: tuple(found[id_] for id_ in pool.subnets if id_ in found) if pool.subnets else common for pool in pools}
    context = Context(
        run=run,
        owner=owner,
        cluster=cluster,
        subnets=subnets,
        facts=_ec2_facts(run.aws, pools),
        names=frozenset(pool.name for pool in pools),
        whole=run.params.get("pools") is not None,
        prune=bool(run.params.get("prune")),
    )
    return context, [*faults, *_placement_faults(run.aws, pools, subnets)], warnings


def _placement_faults(aws: Aws, pools: t.Sequence[Pool], subnets: t.Mapping[str, tuple[Subnet, ...]]) -> list[Fault]:
    """Pools over several zones in a placement group that lies in one."""
    over = {pool.name: pool.zones or tuple(dict.fromkeys(subnet.zone for subnet in subnets[pool.name])) for pool in pools}
    spread = [pool for pool in pools if pool.placement_group and len(over[pool.name]) != 1]
    if not spread:
        return []
    names = sorted({str(pool.placement_group) for pool in spread})
    found = aws.call("ec2:DescribePlacementGroups", {"Filters": [{"Name": "group-name", "Values": names}]})
    close = {group["GroupName"] for group in found.get("PlacementGroups") or () if group.get("Strategy") == "cluster"}
    return [
        Fault(
            path=join(pool.path, "zones"),
            value=list(over[pool.name]),
            allowed=f"exactly one zone: placement group {pool.placement_group} has the strategy cluster",
            source="EC2 user guide, Placement strategies: cluster placement groups",
        )
        for pool in spread
        if pool.placement_group in close
    ]


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


def _ec2_facts(aws: Aws, pools: t.Sequence[Pool]) -> Ec2Facts:
    """What EC2 knows of the types and families that the pools name, and which zones of the region offer them."""
    patterns = list(dict.fromkeys(pattern for pool in pools for pattern in pool.type_patterns))
    types: dict[str, InstanceType] = {}
    offerings: dict[str, set[str]] = {}
    for start in range(0, len(patterns), _FILTER_VALUES):
        filters = [{"Name": "instance-type", "Values": patterns[start : start + _FILTER_VALUES]}]
        for reply in aws.pages("ec2:DescribeInstanceTypes", "InstanceTypes", {"Filters": filters}):
            types[reply["InstanceType"]] = InstanceType.from_api(reply)
        request = {"LocationType": "availability-zone", "Filters": filters}
        for reply in aws.pages("ec2:DescribeInstanceTypeOfferings", "InstanceTypeOfferings", request):
            offerings.setdefault(reply["Location"], set()).add(reply["InstanceType"])
    return Ec2Facts(types=types, offerings=offerings, reservations=_reservations(aws, pools))


def _reservations(aws: Aws, pools: t.Sequence[Pool]) -> dict[str, Reservation]:
    """The capacity reservations that the pools name and that can be used. By state: an unknown id would be an error for all of them."""
    ids = {id_ for pool in pools for id_ in pool.capacity.reservations}
    if not ids:
        return {}
    filters = [{"Name": "state", "Values": ["active", "scheduled"]}]
    found = aws.pages("ec2:DescribeCapacityReservations", "CapacityReservations", {"Filters": filters})
    return {reservation.id: reservation for reservation in map(Reservation.from_api, found) if reservation.id in ids}
