# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The job of eks_cluster: read, wait until nothing else is under way, plan, make it so."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault, GpuopsError, InvalidInput
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import Cluster, Wanted, trusts_eks
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster_parts import planned_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import OWNER_TAG, Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._plan import cluster as planning
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import changed_fields
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Wait, is_planned
from ansible_collections.gpuops.eks.plugins.module_utils._run.cluster_parts import described
from ansible_collections.gpuops.eks.plugins.module_utils._run.module import Outcome, Run

_MOVING = ("CREATING", "PENDING", "UPDATING")
_MISSING = ("ResourceNotFoundException",)
_MANAGED_TAG = "eks:nodegroup-name"
_KARPENTER_TAG = "karpenter.sh/nodepool"


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
    owner = Owner.from_arn(observed.arn)
    if observed.status == "FAILED":
        return _recreate(run, wanted, observed, owner)
    if observed.status in _MOVING and (run.params["wait"] or planning.plan_update(wanted, observed, owner).steps):
        observed = _at_rest(run, observed)
    return _update(run, wanted, observed, owner)


def _recreate(run: Run, wanted: Wanted, observed: Cluster, owner: Owner) -> Outcome:
    """A cluster that has failed cannot be repaired; it is made again where that was asked for, and where it is ours."""
    issues = " ".join(observed.issues) or "EKS gives no reason."
    message = f"Cluster {observed.name} is FAILED: {issues}"
    if not owner.owns(observed.tags):
        raise GpuopsError(message, hint="It was not made by this collection: its maker has to remove it.")
    if not wanted.recreate_failed:
        hint = "A failed cluster cannot be repaired. Correct the cause; recreate_failed: true then deletes it and makes it again."
        raise GpuopsError(message, hint=hint)
    _check_creation(run, wanted, owner)
    return _made(run, wanted, planning.plan_recreate(wanted, observed, owner), owner)


def _create(run: Run, wanted: Wanted) -> Outcome:
    owner = run.owner(wanted.name)
    _check_creation(run, wanted, owner)
    return _made(run, wanted, planning.plan_create(wanted, owner), owner)


def _check_creation(run: Run, wanted: Wanted, owner: Owner) -> None:
    """InvalidInput with everything that EKS would refuse a new cluster for."""
    faults = planning.creation_faults(wanted)
    faults += _role_faults(run.aws, wanted, owner)
    faults += _network(run.aws, wanted, None)[1]
    faults += _key_faults(run.aws, wanted, owner)
    faults += planning.version_faults(wanted, None, _versions(run.aws)) if wanted.version else []
    faults += [] if run.check_mode else _planned_faults(wanted)
    if faults:
        raise InvalidInput(faults)


def _made(run: Run, wanted: Wanted, plan: Plan, owner: Owner) -> Outcome:
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
    if "encryption_key_arn" in changes and not observed.encryption_key_arn:
        faults += _key_faults(run.aws, wanted, owner)
    if "version" in changes:
        offered = planning.version_faults(wanted, observed, _versions(run.aws))
        faults += offered or planning.skew_faults(wanted, observed, _group_versions(run.aws, observed.name))
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
    if not Owner.from_arn(observed.arn).owns(observed.tags):
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
    """GpuopsError with everything that keeps a cluster from being deleted: EKS knows of node groups and Fargate profiles alone, other nodes would go
    on without their cluster, and cost."""
    name = {"clusterName": observed.name}
    there: list[str] = []
    hints: list[str] = []
    if observed.deletion_protection and wanted.deletion_protection is not False:
        there.append("deletion protection")
        hints.append("Set deletion_protection: false together with state absent to delete it all the same.")
    if groups := run.aws.pages("eks:ListNodegroups", "nodegroups", name):
        there.append(f"node groups ({', '.join(sorted(groups))})")
        hints.append("Remove the node groups first (eks_gpu_nodepool with state absent).")
    if profiles := run.aws.pages("eks:ListFargateProfiles", "fargateProfileNames", name):
        there.append(f"Fargate profiles ({', '.join(sorted(profiles))})")
        hints.append("Delete the Fargate profiles first.")
    if nodes := _other_nodes(run.aws, observed.name):
        there.append(f"nodes of no managed group ({', '.join(nodes)})")
        hints.append("Delete Karpenter's node pools while Karpenter runs, and terminate or scale in the other instances.")
    if there:
        raise GpuopsError(f"Cluster {observed.name} still has {'; '.join(there)}.", hint=" ".join(hints))


def _other_nodes(aws: Aws, name: str) -> list[str]:
    """Instances that belong to the cluster and to no managed node group, with the Karpenter node pool that has bought them."""
    filters = [
        {"Name": f"tag:kubernetes.io/cluster/{name}", "Values": ["owned"]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    found = aws.pages("ec2:DescribeInstances", "Reservations", {"Filters": filters})
    nodes = []
    for instance in (instance for reservation in found for instance in reservation["Instances"]):
        tags = tag_map(instance.get("Tags"))
        if _MANAGED_TAG not in tags:
            pool = tags.get(_KARPENTER_TAG)
            nodes.append(f"{instance['InstanceId']} of Karpenter's {pool}" if pool else instance["InstanceId"])
    return sorted(nodes)


def _group_versions(aws: Aws, name: str) -> dict[str, str]:
    """The Kubernetes version of each managed node group."""
    groups = aws.pages("eks:ListNodegroups", "nodegroups", {"clusterName": name})
    requests = {group: {"clusterName": name, "nodegroupName": group} for group in groups}
    replies = {group: aws.find("eks:DescribeNodegroup", request, missing=_MISSING) for group, request in requests.items()}
    return {group: reply["nodegroup"].get("version", "") for group, reply in replies.items() if reply}


def _key_faults(aws: Aws, wanted: Wanted, owner: Owner) -> list[Fault]:
    """EKS API, EncryptionConfig: an enabled symmetric key of the cluster's region."""
    arn = wanted.encryption_key_arn
    if arn is None or is_planned(arn):
        return []
    allowed = f"an enabled symmetric key for encryption in {owner.region}"
    fault = Fault(path="encryption_key_arn", value=arn, allowed=allowed, source="kms:DescribeKey")
    if arn.split(":")[3] != owner.region:
        return [fault]
    reply = aws.find("kms:DescribeKey", {"KeyId": arn}, missing=("NotFoundException",))
    found = (reply or {}).get("KeyMetadata", {})
    kind = (found.get("KeyState"), found.get("KeySpec", "SYMMETRIC_DEFAULT"), found.get("KeyUsage", "ENCRYPT_DECRYPT"))
    if kind == ("Enabled", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"):
        return []
    state = f"; this one is {', '.join(map(str, kind))}" if reply else "; this one does not exist"
    return [replace(fault, allowed=allowed + state)]


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
    given = {"role_arn": wanted.role_arn, "encryption_key_arn": wanted.encryption_key_arn}
    for path, values in (("subnet_ids", wanted.subnet_ids), ("security_group_ids", wanted.security_group_ids)):
        given |= {f"{path}[{index}]": value for index, value in enumerate(values or ())}
    return planned_faults(given)


def _versions(aws: Aws) -> list[str]:
    """The versions that EKS supports, standard or extended."""
    versions = aws.pages("eks:DescribeClusterVersions", "clusterVersions")
    return [version["clusterVersion"] for version in versions if version.get("versionStatus") != "UNSUPPORTED"]


def _describe(aws: Aws, name: str) -> Cluster | None:
    reply = aws.find("eks:DescribeCluster", {"name": name}, missing=_MISSING)
    return Cluster.from_api(reply["cluster"]) if reply else None


def _described(aws: Aws, name: str) -> Cluster:
    return Cluster.from_api(aws.call("eks:DescribeCluster", {"name": name})["cluster"])


def _reread(run: Run, name: str) -> dict[str, t.Any]:
    return _result(_described(run.aws, name).api)


def _result(api: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {"cluster": described(api)}
