# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The calls that make a cluster what it should be, and those that remove it. Pure."""

from __future__ import annotations

import copy
import typing as t
from dataclasses import replace

from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import (
    AUTHENTICATION_MODES,
    CREATION_FIELDS,
    LOGGING_TYPES,
    Cluster,
    Fields,
    Wanted,
    minor,
    no_endpoint,
)
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import changed_fields, tag_changes
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, Wait, is_planned, planned

Request = dict[str, t.Any]
Changes = t.Mapping[str, tuple[t.Any, t.Any]]

COMPONENT = "cluster"
_NETWORK_FIELDS = ("subnet_ids", "security_group_ids")
_ENDPOINT_FIELDS = {
    "endpoint_private_access": "endpointPrivateAccess",
    "endpoint_public_access": "endpointPublicAccess",
    "public_access_cidrs": "publicAccessCidrs",
}
_MODE_SOURCE = "Amazon EKS user guide, cluster access configuration"
# What EKS says of a role that IAM has, but that EKS cannot see or take yet.
_ROLE_NOT_READY = (r"^InvalidParameterException: .*(role.*does not exist|[Rr]ole could not be assumed|Error in role params)",)


def with_defaults(wanted: Wanted) -> Fields:
    """The fields of a new cluster: what the user set, and where EKS's own default is not the safe one, ours."""
    fields = wanted.fields()
    public = bool(wanted.endpoint_public_access)
    defaults = {
        "endpoint_private_access": True,
        "endpoint_public_access": public,
        "public_access_cidrs": ["0.0.0.0/0"] if public else None,  # only with allow_public_any
        "authentication_mode": "API",
        "bootstrap_cluster_creator_admin_permissions": True,
    }
    return {name: defaults.get(name) if value is None else value for name, value in fields.items()}


def creation_faults(wanted: Wanted) -> list[Fault]:
    """What a new cluster cannot do without."""
    missing = [name for name in ("role_arn", "subnet_ids") if getattr(wanted, name) is None]
    faults = [Fault(path=n, value=None, allowed="required to create a cluster", source="EKS API, CreateCluster") for n in missing]
    if wanted.endpoint_private_access is False and not wanted.endpoint_public_access:
        faults.append(no_endpoint())
    return faults


def plan_create(wanted: Wanted, owner: Owner) -> Plan:
    """One call: everything, the mark too, is part of it."""
    fields = with_defaults(wanted)
    tags = {**(wanted.tags or {}), **owner.tags(COMPONENT)}
    vpc: Request = {"subnetIds": list(wanted.subnet_ids or ())}
    if wanted.security_group_ids:
        vpc["securityGroupIds"] = list(wanted.security_group_ids)
    vpc |= {api: fields[name] for name, api in _ENDPOINT_FIELDS.items() if fields[name] is not None}
    request: Request = {
        "name": wanted.name,
        "roleArn": wanted.role_arn,
        "resourcesVpcConfig": vpc,
        "accessConfig": {
            "authenticationMode": fields["authentication_mode"],
            "bootstrapClusterCreatorAdminPermissions": fields["bootstrap_cluster_creator_admin_permissions"],
        },
        "tags": tags,
    }
    if wanted.version:
        request["version"] = wanted.version
    if wanted.logging_types:
        request["logging"] = {"clusterLogging": [{"types": sorted(wanted.logging_types), "enabled": True}]}
    if wanted.support_type:
        request["upgradePolicy"] = {"supportType": wanted.support_type}
    if wanted.deletion_protection is not None:
        request["deletionProtection"] = wanted.deletion_protection
    request |= _component_requests(wanted)
    step = Step(
        action="eks:CreateCluster",
        target=planned("cluster", wanted.name),
        effect="create",
        fields=tuple(name for name, value in fields.items() if value is not None),
        request=request,
        wait=Wait(waiter="cluster_active", arguments={"name": wanted.name}),
        passing=_ROLE_NOT_READY,
    )
    after = {name: value for name, value in fields.items() if value is not None}
    return Plan(steps=(step,), before={}, after={**after, "tags": tags})


def _component_requests(wanted: Wanted) -> Request:
    """What a new cluster gets besides network, access, logs and life cycle."""
    request: Request = {}
    if wanted.encryption_key_arn:
        request["encryptionConfig"] = _encryption(wanted.encryption_key_arn)
    if wanted.scheduler_scoring:
        request["kubeSchedulerConfig"] = _scheduler(wanted.scheduler_scoring)
    if wanted.service_ipv4_cidr:
        request["kubernetesNetworkConfig"] = {"serviceIpv4Cidr": wanted.service_ipv4_cidr}
    if wanted.bootstrap_self_managed_addons is not None:
        request["bootstrapSelfManagedAddons"] = wanted.bootstrap_self_managed_addons
    return request


def _encryption(key_arn: str) -> list[Request]:
    return [{"resources": ["secrets"], "provider": {"keyArn": key_arn}}]


def _scheduler(strategy: t.Mapping[str, t.Any]) -> Request:
    return {"nodeResourcesFit": {"scoringStrategy": dict(strategy)}}


def plan_recreate(wanted: Wanted, observed: Cluster, owner: Owner) -> Plan:
    """A cluster whose creation has failed goes, and is made again when it is gone."""
    reason = "its creation has failed"
    gone = Wait(waiter="cluster_deleted", arguments={"name": observed.name})
    made = plan_create(wanted, owner)
    delete = replace(plan_delete(observed).steps[-1], effect="replace", reason=reason, needs=(), wait=None)
    create = replace(made.steps[0], target=observed.name, effect="replace", reason=reason, needs=(gone,))
    return replace(made, steps=(delete, create), before={"status": observed.status})


def refusals(wanted: Wanted, observed: Cluster) -> list[Fault]:
    """What is asked for otherwise than it is and cannot be changed, each with the reason."""
    faults = [
        Fault(path=one.option, value=asked, allowed=f"{_word(there)}, as it is: {one.refused}", source=one.source)
        for one in CREATION_FIELDS
        if (asked := getattr(wanted, one.option)) is not None
        and (there := getattr(observed, one.option)) not in (None, "")
        and asked != there
    ]
    faults += _mode_refusal(wanted, observed)
    faults += _key_refusal(wanted, observed)
    private = observed.endpoint_private_access if wanted.endpoint_private_access is None else wanted.endpoint_private_access
    public = observed.endpoint_public_access if wanted.endpoint_public_access is None else wanted.endpoint_public_access
    if not private and not public:
        faults.append(no_endpoint())
    return faults


def in_own_zones(wanted: Wanted, observed: Cluster, zones: t.Mapping[str, str]) -> tuple[Wanted, tuple[str, ...]]:
    """What is wanted with its subnets in exactly the zones that the cluster has, and a warning for each subnet for which that is not so.

    EKS refuses other zones than those of the creation (Amazon EKS user guide, VPC and subnet requirements: subnets given later have to be in
    the same set of zones), while nodes may be in any. ``zones`` are those of subnets that exist; where one of the cluster's is not among them
    its zones are not known, and EKS has to judge. A planned subnet's zone is the end of its name.
    """
    own = {zones.get(subnet) for subnet in observed.subnet_ids}
    if wanted.subnet_ids is None or None in own:
        return wanted, ()
    places = {subnet: _zone_of(subnet, zones, own) for subnet in wanted.subnet_ids}
    kept = [subnet for subnet in observed.subnet_ids if zones[subnet] not in places.values()]
    ignored = [subnet for subnet, zone in places.items() if zone not in own]
    known = ", ".join(sorted(zone for zone in own if zone))
    warnings = [
        f"{subnet} is for nodes only and not given to the cluster: EKS takes subnets of its own zones ({known})." for subnet in ignored
    ]
    warnings += [
        f"{subnet} stays with the cluster: EKS needs one in each of its zones, and none is given in {zones[subnet]}." for subnet in kept
    ]
    return replace(wanted, subnet_ids=(*(subnet for subnet in places if subnet not in ignored), *kept)), tuple(warnings)


def _zone_of(subnet: str, zones: t.Mapping[str, str], own: t.Iterable[str | None]) -> str | None:
    if is_planned(subnet):
        return next((zone for zone in own if zone and subnet.endswith(f"-{zone}")), None)
    return zones.get(subnet)


def _word(value: t.Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _key_refusal(wanted: Wanted, observed: Cluster) -> list[Fault]:
    there, asked = observed.encryption_key_arn, wanted.encryption_key_arn
    if there is None or asked is None or asked == there:
        return []
    allowed = f"{there}, as it is: EKS neither changes nor removes the key of a cluster's secrets"
    return [Fault(path="encryption_key_arn", value=asked, allowed=allowed, source="EKS API, AssociateEncryptionConfig")]


def _mode_refusal(wanted: Wanted, observed: Cluster) -> list[Fault]:
    mode, there = wanted.authentication_mode, observed.authentication_mode
    if mode is None or there not in AUTHENTICATION_MODES or AUTHENTICATION_MODES.index(mode) >= AUTHENTICATION_MODES.index(there):
        return []
    allowed = f"{' or '.join(AUTHENTICATION_MODES[AUTHENTICATION_MODES.index(there) :])}: EKS does not go back from {there}"
    return [Fault(path="authentication_mode", value=mode, allowed=allowed, source=_MODE_SOURCE)]


def version_faults(wanted: Wanted, observed: Cluster | None, supported: t.Collection[str]) -> list[Fault]:
    """Whether EKS offers the version, and whether it is the next one of a cluster that is there."""
    version = wanted.version
    if version is None or (observed and version == observed.version):
        return []
    source = "eks:DescribeClusterVersions"
    if version not in supported:
        offered = ", ".join(sorted(supported, key=minor, reverse=True))
        return [Fault(path="version", value=version, allowed=f"one of {offered}", source=source)]
    if observed is None or minor(version) == minor(observed.version) + 1:
        return []
    there = observed.version
    if minor(version) < minor(there):
        allowed = f"{there}, as it is, or the next one: going back is not something that this module does"
    else:
        allowed = f"1.{minor(there) + 1}: the cluster has {there}, and EKS upgrades by one minor version at a time"
    return [Fault(path="version", value=version, allowed=allowed, source="Amazon EKS user guide, cluster upgrades")]


def skew_faults(wanted: Wanted, observed: Cluster, groups: t.Mapping[str, str]) -> list[Fault]:
    """Node groups, by name with their version, that have to follow before the control plane goes on."""
    behind = {name: version for name, version in sorted(groups.items()) if version and minor(version) != minor(observed.version)}
    if not behind:
        return []
    named = ", ".join(f"{name} ({version})" for name, version in behind.items())
    allowed = f"{observed.version}, until the node groups {named} have it too: run the playbook upgrade, or eks_gpu_nodepool with kubernetes_version"
    return [Fault(path="version", value=wanted.version, allowed=allowed, source="EKS API, UpdateClusterVersion")]


def plan_update(wanted: Wanted, observed: Cluster, owner: Owner) -> Plan:
    """Tags, then one call per kind of update: each begins when the one before it has succeeded. No call where nothing differs."""
    changes = changed_fields(wanted.fields(), observed.fields())
    updates = [
        *_network_update(changes, observed),
        *_endpoint_update(changes),
        *_mode_updates(changes),
        *_logging_update(changes),
        *_simple_update(changes, "support_type", lambda value: {"upgradePolicy": {"supportType": value}}),
        *_simple_update(changes, "deletion_protection", lambda value: {"deletionProtection": value}),
        *_simple_update(changes, "scheduler_scoring", lambda value: {"kubeSchedulerConfig": _scheduler(value)}),
    ]
    steps = [_update(observed.name, number, fields, request) for number, (fields, request) in enumerate(updates)]
    if "encryption_key_arn" in changes:
        steps.append(_association(observed.name, len(steps), changes["encryption_key_arn"][1]))
    if "version" in changes:
        there, version = changes["version"]
        steps.append(_step("eks:UpdateClusterVersion", observed.name, len(steps), ("version",), {"version": version}, f"from {there}"))
    to_set, to_remove = _tag_changes(wanted, observed, owner)
    tag_steps = _tag_steps(observed.arn, to_set, to_remove)
    managed = [name for name, value in wanted.fields().items() if value is not None]
    before = {name: observed.fields()[name] for name in managed}
    after = {**before, **{name: change[1] for name, change in changes.items()}}
    if wanted.tags is not None:
        before["tags"] = dict(observed.tags)
        after["tags"] = {key: value for key, value in {**observed.tags, **to_set}.items() if key not in to_remove}
    return Plan(steps=(*tag_steps, *_chained(steps)), before=before, after=after)


def _tag_changes(wanted: Wanted, observed: Cluster, owner: Owner) -> tuple[dict[str, str], list[str]]:
    """Nothing is taken away from a cluster that is not ours, nor our own mark from one that is."""
    purge = wanted.purge_tags and owner.owns(observed.tags)
    return tag_changes(wanted.tags, observed.tags, purge=purge, keep=owner.tags(COMPONENT))


def _tag_steps(arn: str, to_set: dict[str, str], to_remove: list[str]) -> list[Step]:
    steps = []
    if to_set:
        request: Request = {"resourceArn": arn, "tags": to_set}
        steps.append(Step(action="eks:TagResource", target=arn, effect="update", fields=("tags",), request=request))
    if to_remove:
        request = {"resourceArn": arn, "tagKeys": to_remove}
        steps.append(Step(action="eks:UntagResource", target=arn, effect="update", fields=("tags",), request=request))
    return steps


def _network_update(changes: Changes, observed: Cluster) -> list[tuple[tuple[str, ...], Request]]:
    fields = tuple(name for name in _NETWORK_FIELDS if name in changes)
    if not fields:
        return []
    values = {name: changes[name][1] if name in changes else sorted(getattr(observed, name)) for name in _NETWORK_FIELDS}
    return [(fields, {"resourcesVpcConfig": {"subnetIds": values["subnet_ids"], "securityGroupIds": values["security_group_ids"]}})]


def _endpoint_update(changes: Changes) -> list[tuple[tuple[str, ...], Request]]:
    fields = tuple(name for name in _ENDPOINT_FIELDS if name in changes)
    return [(fields, {"resourcesVpcConfig": {_ENDPOINT_FIELDS[name]: changes[name][1] for name in fields}})] if fields else []


def _mode_updates(changes: Changes) -> list[tuple[tuple[str, ...], Request]]:
    if "authentication_mode" not in changes:
        return []
    there, mode = changes["authentication_mode"]
    first = AUTHENTICATION_MODES.index(there) if there in AUTHENTICATION_MODES else 0
    path = AUTHENTICATION_MODES[first + 1 : AUTHENTICATION_MODES.index(mode) + 1]
    return [(("authentication_mode",), {"accessConfig": {"authenticationMode": step}}) for step in path]


def _logging_update(changes: Changes) -> list[tuple[tuple[str, ...], Request]]:
    if "logging_types" not in changes:
        return []
    there, wanted = changes["logging_types"]
    off = [name for name in LOGGING_TYPES if name in there and name not in wanted]
    setup = [{"types": list(wanted), "enabled": True}] if wanted else []
    setup += [{"types": off, "enabled": False}] if off else []
    return [(("logging_types",), {"logging": {"clusterLogging": setup}})]


def _simple_update(changes: Changes, name: str, request: t.Callable[[t.Any], Request]) -> list[tuple[tuple[str, ...], Request]]:
    return [((name,), request(changes[name][1]))] if name in changes else []


def _association(name: str, number: int, key_arn: str) -> Step:
    step = _step("eks:AssociateEncryptionConfig", name, number, ("encryption_key_arn",), {}, "it cannot be undone")
    return replace(step, request={"clusterName": name, "encryptionConfig": _encryption(key_arn)})


def _update(name: str, number: int, fields: tuple[str, ...], request: Request) -> Step:
    return _step("eks:UpdateClusterConfig", name, number, fields, request, "")


def _step(action: str, name: str, number: int, fields: tuple[str, ...], request: Request, reason: str) -> Step:
    update = planned("update", f"{name}-{number}")
    return Step(
        action=action,
        target=name,
        effect="update",
        fields=fields,
        reason=reason,
        request={"name": name, **request},
        binds={update: "update.id"},
        wait=Wait(waiter="update_successful", arguments={"name": name, "updateId": update}),
    )


def _chained(steps: t.Sequence[Step]) -> list[Step]:
    """EKS takes one update at a time: each step needs the one before it to have succeeded, also where the user does not wait."""
    chained = []
    for number, step in enumerate(steps):
        before = steps[number - 1].wait if number else None
        last = number == len(steps) - 1
        chained.append(replace(step, needs=(before,) if before else (), wait=step.wait if last else None))
    return chained


def plan_delete(observed: Cluster) -> Plan:
    """Deletion protection, where it is on, is taken off first."""
    delete = Step(
        action="eks:DeleteCluster",
        target=observed.name,
        effect="delete",
        request={"name": observed.name},
        wait=Wait(waiter="cluster_deleted", arguments={"name": observed.name}),
    )
    steps = [delete]
    if observed.deletion_protection:
        steps.insert(0, _update(observed.name, 0, ("deletion_protection",), {"deletionProtection": False}))
    before = {name: value for name, value in observed.fields().items() if value is not None}
    return Plan(steps=tuple(_chained(steps)), before={**before, "tags": dict(observed.tags)}, after={})


def forecast(api: t.Mapping[str, t.Any], fields: Fields, tags: t.Mapping[str, str] | None) -> dict[str, t.Any]:
    """The description of a cluster as it will be: ``api`` with the managed fields and tags put in."""
    cluster = copy.deepcopy(dict(api))
    vpc = cluster.setdefault("resourcesVpcConfig", {})
    vpc_fields = {"subnet_ids": "subnetIds", "security_group_ids": "securityGroupIds", **_ENDPOINT_FIELDS}
    vpc.update({key: fields[name] for name, key in vpc_fields.items() if fields.get(name) is not None})
    access = cluster.setdefault("accessConfig", {})
    if fields.get("authentication_mode"):
        access["authenticationMode"] = fields["authentication_mode"]
    simple = {"version": "version", "role_arn": "roleArn", "deletion_protection": "deletionProtection"}
    cluster.update({key: fields[name] for name, key in simple.items() if fields.get(name) is not None})
    if fields.get("support_type"):
        cluster["upgradePolicy"] = {"supportType": fields["support_type"]}
    if fields.get("logging_types") is not None:
        on = fields["logging_types"]
        off = [name for name in LOGGING_TYPES if name not in on]
        cluster["logging"] = {"clusterLogging": [{"types": names, "enabled": names is on} for names in (on, off) if names]}
    if fields.get("encryption_key_arn"):
        cluster["encryptionConfig"] = _encryption(fields["encryption_key_arn"])
    if fields.get("scheduler_scoring"):
        cluster["kubeSchedulerConfig"] = _scheduler(fields["scheduler_scoring"])
    if fields.get("service_ipv4_cidr"):
        cluster.setdefault("kubernetesNetworkConfig", {})["serviceIpv4Cidr"] = fields["service_ipv4_cidr"]
    if tags is not None:
        cluster["tags"] = dict(tags)
    return cluster
