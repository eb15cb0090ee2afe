# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_cluster: read, wait until nothing else is under way, plan, make it so."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import replace

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, GpuopsError, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import Cluster, Wanted, trusts_eks
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan import cluster as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import changed_fields
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Wait, is_planned
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_MOVING = ("CREATING", "PENDING", "UPDATING")


def cluster_job(run: Run) -> Outcome:
    """Make the cluster, change it, or take it down."""
    wanted = Wanted.from_params(run.params)
    observed = _describe(run.aws, wanted.name)
    return _absent(run, wanted, observed) if run.params["state"] == "absent" else _present(run, wanted, observed)


def _present(run: Run, wanted: Wanted, observed: Cluster | None) -> Outcome:
    if observed and observed.status == "DELETING":
        if not run.check_mode:
            run.aws.wait(Wait(waiter="cluster_deleted", arguments={"name": observed.name}))
        observed = None
    if observed is None:
        return _create(run, wanted)
    if observed.status == "FAILED":
        issues = " ".join(observed.issues) or "EKS gives no reason."
        hint = "A failed cluster cannot be repaired: remove it with state absent, then run again."
        raise GpuopsError(f"Cluster {observed.name} is FAILED: {issues}", hint=hint)
    owner = _owner_of(observed)
    if observed.status in _MOVING and (run.params["wait"] or planning.plan_update(wanted, observed, owner).steps):
        observed = _at_rest(run, observed)
    return _update(run, wanted, observed, owner)


def _create(run: Run, wanted: Wanted) -> Outcome:
    owner = run.owner(wanted.name)
    faults = planning.creation_faults(wanted)
    faults += _role_faults(run.aws, wanted, owner)
    faults += _network(run.aws, wanted, None)[1]
    faults += planning.version_faults(wanted, None, _versions(run.aws)) if wanted.version else []
    faults += [] if run.check_mode else _planned_faults(wanted)
    if faults:
        raise InvalidInput(faults)
    plan = planning.plan_create(wanted, owner)
    run.apply(plan)
    if run.check_mode:
        base = {
            "name": wanted.name,
            "arn": owner.arn,
            "status": None,
            "version": None,
            "endpoint": None,
            "certificateAuthority": {"data": None},
        }
        return Outcome(plan=plan, result=_result(planning.forecast(base, planning.with_defaults(wanted), plan.after["tags"])))
    return Outcome(plan=plan, result=_reread(run, wanted.name))


def _update(run: Run, wanted: Wanted, observed: Cluster, owner: Owner) -> Outcome:
    faults = planning.refusals(wanted, observed)
    changes = changed_fields(wanted.fields(), observed.fields())
    warnings: tuple[str, ...] = ()
    if "subnet_ids" in changes or "security_group_ids" in changes:
        zones, network_faults = _network(run.aws, wanted, observed)
        faults += network_faults
        wanted, warnings = planning.in_own_zones(wanted, observed, zones)
        changes = changed_fields(wanted.fields(), observed.fields())
    if "version" in changes:
        faults += planning.version_faults(wanted, observed, _versions(run.aws))
    faults += [] if run.check_mode else _planned_faults(wanted)
    if faults:
        raise InvalidInput(faults)
    plan = replace(planning.plan_update(wanted, observed, owner), warnings=warnings)
    if plan.steps and not (wanted.adopt or owner.owns(observed.tags)):
        hint = "Set adopt: true to change the fields that you set; nothing else of it is touched and it is never deleted."
        raise GpuopsError(f"Cluster {observed.name} exists and was not made by this collection (no tag {OWNER_TAG}).", hint=hint)
    run.apply(plan)
    if plan.steps and not run.check_mode:
        return Outcome(plan=plan, result=_reread(run, wanted.name))
    will_be = planning.forecast(observed.api, {name: change[1] for name, change in changes.items()}, plan.after.get("tags"))
    return Outcome(plan=plan, result=_result(will_be))


def _absent(run: Run, wanted: Wanted, observed: Cluster | None) -> Outcome:
    if observed is None:
        return Outcome(result={"cluster": None})
    if not _owner_of(observed).owns(observed.tags):
        hint = "It is never deleted from here, adopted or not; its maker has to remove it."
        raise GpuopsError(f"Cluster {observed.name} was not made by this collection (no tag {OWNER_TAG}).", hint=hint)
    if observed.status == "DELETING":
        if run.params["wait"] and not run.check_mode:
            run.aws.wait(Wait(waiter="cluster_deleted", arguments={"name": observed.name}))
        return Outcome(result={"cluster": None})
    if observed.status in _MOVING:
        observed = _at_rest(run, observed, "cluster_settled")
    _guard(run, wanted, observed)
    plan = planning.plan_delete(observed)
    run.apply(plan)
    return Outcome(plan=plan, result={"cluster": None})


def _guard(run: Run, wanted: Wanted, observed: Cluster) -> None:
    """Deletion protection that this run does not take off, and node groups, keep a cluster from being deleted."""
    if observed.deletion_protection and wanted.deletion_protection is not False:
        hint = "Set deletion_protection: false together with state absent to delete it all the same."
        raise GpuopsError(f"Cluster {observed.name} has deletion protection.", hint=hint)
    if groups := run.aws.pages("eks:ListNodegroups", "nodegroups", {"clusterName": observed.name}):
        hint = "Remove them first (eks_gpu_nodepool with state absent)."
        raise GpuopsError(f"Cluster {observed.name} still has node groups: {', '.join(sorted(groups))}.", hint=hint)


def _at_rest(run: Run, observed: Cluster, waiter: str = "cluster_active") -> Cluster:
    """The cluster after the update in flight has ended, however it ended, and it has come to what ``waiter`` is for; in check mode as it is."""
    if run.check_mode:
        return observed
    name = observed.name
    if observed.status == "UPDATING":
        for update in run.aws.pages("eks:ListUpdates", "updateIds", {"name": name}):
            arguments = {"name": name, "updateId": update}
            found = run.aws.call("eks:DescribeUpdate", arguments)["update"]
            if found["status"] == "InProgress":
                run.tell(f"DescribeUpdate {name}: {found.get('type', update)} InProgress")
                run.aws.wait(Wait(waiter="update_settled", arguments=arguments))
    run.aws.wait(Wait(waiter=waiter, arguments={"name": name}))
    return _described(run.aws, name)


def _role_faults(aws: Aws, wanted: Wanted, owner: Owner) -> list[Fault]:
    arn = wanted.role_arn
    if arn is None or is_planned(arn):
        return []
    source = "iam:GetRole"
    if arn.split(":")[4] != owner.account:
        allowed = f"a role of the account {owner.account}, which the credentials belong to"
        return [Fault(path="role_arn", value=arn, allowed=allowed, source="sts:GetCallerIdentity")]
    found = aws.find("iam:GetRole", {"RoleName": arn.rsplit("/", 1)[1]}, missing=("NoSuchEntity",))
    if found is None or found["Role"]["Arn"] != arn:
        return [Fault(path="role_arn", value=arn, allowed="a role that exists", source=source)]
    if not trusts_eks(found["Role"].get("AssumeRolePolicyDocument") or {}):
        allowed = "a role whose trust policy lets eks.amazonaws.com use sts:AssumeRole"
        return [Fault(path="role_arn", value=arn, allowed=allowed, source=source)]
    return []


def _network(aws: Aws, wanted: Wanted, observed: Cluster | None) -> tuple[dict[str, str], list[Fault]]:
    """The zone of each subnet, those that the cluster has included, and whether subnets and security groups exist, lie in one VPC (that of
    the cluster), and the subnets in two zones. Planned ids are not read."""
    there = observed.subnet_ids if observed and wanted.subnet_ids else ()
    read, faults = _read(aws, "ec2:DescribeSubnets", "Subnets", "SubnetId", "subnet-id", wanted.subnet_ids, "subnet_ids", besides=there)
    found = {name: api for name, api in read.items() if name in (wanted.subnet_ids or ())}
    groups, missing = _read(
        aws, "ec2:DescribeSecurityGroups", "SecurityGroups", "GroupId", "group-id", wanted.security_group_ids, "security_group_ids"
    )
    faults += missing
    vpc = observed.vpc_id if observed else next((subnet["VpcId"] for subnet in found.values()), None)
    for path, things in (("subnet_ids", found), ("security_group_ids", groups)):
        for thing, api in things.items():
            if vpc and api["VpcId"] != vpc:
                allowed = f"one in {vpc}, the VPC of the {'cluster, which cannot be changed' if observed else 'first subnet'}"
                faults.append(Fault(path=path, value=thing, allowed=allowed, source="EKS API, VpcConfigRequest"))
    zones = {subnet["AvailabilityZone"] for subnet in found.values()}
    if wanted.subnet_ids and len(found) == len(wanted.subnet_ids) and len(zones) < 2:
        allowed = f"subnets in at least two zones; these are all in {', '.join(zones)}"
        faults.append(Fault(path="subnet_ids", value=list(wanted.subnet_ids), allowed=allowed, source="EKS API, VpcConfigRequest"))
    return {name: api["AvailabilityZone"] for name, api in read.items()}, faults


def _read(
    aws: Aws,
    action: str,
    key: str,
    id_key: str,
    filter_name: str,
    ids: tuple[str, ...] | None,
    path: str,
    *,
    besides: tuple[str, ...] = (),
) -> tuple[dict[str, dict[str, t.Any]], list[Fault]]:
    """What exists of ``ids`` and of ``besides``, by id, and a fault for each of ``ids`` that does not."""
    real = [name for name in dict.fromkeys((*(ids or ()), *besides)) if not is_planned(name)]
    if not real:
        return {}, []
    found = {api[id_key]: api for api in aws.pages(action, key, {"Filters": [{"Name": filter_name, "Values": real}]})}
    missing = [
        Fault(path=f"{path}[{index}]", value=name, allowed="one that exists in this region and account", source=action)
        for index, name in enumerate(ids or ())
        if name in real and name not in found
    ]
    return found, missing


def _planned_faults(wanted: Wanted) -> list[Fault]:
    """Stand-ins for ids are for check mode; a real run has real ids."""
    allowed = "the id of what exists; planned ids are for check mode"
    given = {"role_arn": wanted.role_arn}
    for path, values in (("subnet_ids", wanted.subnet_ids), ("security_group_ids", wanted.security_group_ids)):
        given |= {f"{path}[{index}]": value for index, value in enumerate(values or ())}
    return [
        Fault(path=path, value=value, allowed=allowed, source="the options of eks_cluster")
        for path, value in given.items()
        if is_planned(value)
    ]


def _versions(aws: Aws) -> list[str]:
    """The versions that EKS supports, standard or extended."""
    versions = aws.pages("eks:DescribeClusterVersions", "clusterVersions")
    return [version["clusterVersion"] for version in versions if version.get("versionStatus") != "UNSUPPORTED"]


def _describe(aws: Aws, name: str) -> Cluster | None:
    reply = aws.find("eks:DescribeCluster", {"name": name}, missing=("ResourceNotFoundException",))
    return Cluster.from_api(reply["cluster"]) if reply else None


def _described(aws: Aws, name: str) -> Cluster:
    return Cluster.from_api(aws.call("eks:DescribeCluster", {"name": name})["cluster"])


def _owner_of(cluster: Cluster) -> Owner:
    """The owner's mark of a cluster that is there is its own ARN."""
    parts = cluster.arn.split(":", 5)  # arn:PARTITION:eks:REGION:ACCOUNT:cluster/NAME
    return Owner(cluster_name=cluster.name, region=parts[3], account=parts[4], partition=parts[1])


def _reread(run: Run, name: str) -> dict[str, t.Any]:
    return _result(_described(run.aws, name).api)


def _result(api: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {"cluster": camel_dict_to_snake_dict(_plain(api), ignore_list=["tags"])}


def _plain(value: t.Any) -> t.Any:
    """The value with times as text."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, t.Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
