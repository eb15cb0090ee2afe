# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is of a pool after a run, and the plan of the next run, the same for each provisioner.

The pure parts are put together as _run/nodepool_*.py do, and ids that AWS would give take the place of planned ones.
"""

from __future__ import annotations

import base64
import dataclasses
import typing as t
from dataclasses import dataclass

from ansible_collections.gpuops.eks.plugins.module_utils._aws.gateway import Aws
from ansible_collections.gpuops.eks.plugins.module_utils._errors import Fault
from ansible_collections.gpuops.eks.plugins.module_utils._model.auto_scaling_group import Instance, InstanceProfile, WarmPoolState
from ansible_collections.gpuops.eks.plugins.module_utils._model.ec2 import InstanceType, Reservation, Subnet
from ansible_collections.gpuops.eks.plugins.module_utils._model.launch_template import LaunchTemplate, TemplateContent
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import Owner, tag_map
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool import NODEPOOL_TAG, Pool
from ansible_collections.gpuops.eks.plugins.module_utils._model.user_data import ClusterData
from ansible_collections.gpuops.eks.plugins.module_utils._plan import asg, karpenter, node_role, nodepool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_image import ImageSource, changed_source, wanted_source
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import Settings as GroupSettings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.asg_template import group_id
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_objects import Settings as ObjectSettings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import KarpenterPool
from ansible_collections.gpuops.eks.plugins.module_utils._plan.karpenter_pools import resolve as resolve_karpenter
from ansible_collections.gpuops.eks.plugins.module_utils._plan.node_role import NodeRole
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_create import Settings as ManagedSettings
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_groups import Ec2Facts, WantedGroup, resolve_groups
from ansible_collections.gpuops.eks.plugins.module_utils._plan.nodepool_replace import settle
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Plan, Step, combine
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import resolve as resolved
from ansible_collections.gpuops.eks.plugins.module_utils._run.images import Images
from ansible_collections.gpuops.eks.plugins.module_utils._run.karpenter_facts import ImageChoice

from tests.unit.karpenter_objects import live

Params = t.Mapping[str, t.Any]
Shown = dict[str, t.Any]

VERSION = "1.36"
OWNER = Owner(cluster_name="demo", region="us-west-2", account="123456789012")
ROLE = "arn:aws:iam::123456789012:role/demo-node"
CLUSTER = ClusterData(name="demo", endpoint="https://api.example.com", certificate_authority="Q0E=", cidr="172.20.0.0/16")
SECURITY_GROUP = "sg-0123456789abcdef0"
SUBNETS = (
    Subnet(id="subnet-0123456a", zone="us-west-2a", zone_id="usw2-az1"),
    Subnet(id="subnet-0123456b", zone="us-west-2b", zone_id="usw2-az2"),
    Subnet(id="subnet-0123456c", zone="us-west-2a", zone_id="usw2-az1"),  # for pools that name it
)


def _type(name: str, model: str, gpus: int = 1, *, cpus: int = 8, memory_gib: int = 32, **changes: t.Any) -> InstanceType:
    made = InstanceType(
        name=name,
        vcpus=cpus,
        memory_mib=memory_gib * 1024,
        architectures=frozenset({"amd64"}),
        hypervisor="nitro",
        gpus=gpus,
        gpu_model=model or None,
        gpu_memory_mib=24 * 1024 if gpus else 0,
        instance_store=gpus > 0,
    )
    return dataclasses.replace(made, **changes)


TYPES = {
    one.name: one
    for one in (
        _type("g5.2xlarge", "a10g"),
        _type("g5.4xlarge", "a10g", cpus=16, memory_gib=64),
        _type("g5.12xlarge", "a10g", 4, cpus=48, memory_gib=192),
        _type("g6.2xlarge", "l4"),
        _type("p5.4xlarge", "h100", cpus=16, memory_gib=256, gpu_memory_mib=80 * 1024, efa_interfaces=1),
        _type("p3.2xlarge", "v100", memory_gib=61, hypervisor="xen", gpu_memory_mib=16 * 1024),
        _type("g5g.2xlarge", "t4g", architectures=frozenset({"arm64"})),
        _type("m5.large", "", 0, cpus=2, memory_gib=8),
    )
}
RESERVATIONS = {id_: Reservation(id=id_, instance_type="g5.2xlarge", zone="us-west-2a") for id_ in ("cr-01234567", "cr-89abcdef")}
FACTS = Ec2Facts(types=TYPES, offerings={subnet.zone: set(TYPES) for subnet in SUBNETS}, reservations=RESERVATIONS)


class Account:
    """The images that there are: each question has an answer of its own, and always the same one."""

    def find(self, action: str, request: Params, *, missing: t.Sequence[str] = ()) -> dict[str, t.Any]:
        """ssm:GetParameter."""
        assert action == "ssm:GetParameter", action
        *_rest, place, what = request["Name"].split("/")
        if what == "release_version":
            return {"Parameter": {"Value": f"{VERSION}.1-{'20260724' if place == 'recommended' else place.rpartition('-v')[2]}"}}
        if what == "image_version":
            return {"Parameter": {"Value": "1.54.0-0a1b2c3d" if place == "latest" else f"{place}-0a1b2c3d"}}
        return {"Parameter": {"Value": image_id(request["Name"])}}

    def pages(self, action: str, key: str, request: Params) -> list[dict[str, t.Any]]:
        """ec2:DescribeImages."""
        assert action == "ec2:DescribeImages", action
        return [{"ImageId": image_id(str(request)), "CreationDate": "2026-07-24"}]


def image_id(question: str) -> str:
    return f"ami-{sum(ord(letter) * (place + 1) for place, letter in enumerate(question)):017x}"


def pool_of(params: Params) -> Pool:
    return Pool.from_params(params, path="pool", node_role=ROLE)


def subnets_of(pool: Pool) -> tuple[Subnet, ...]:
    """Those that the pool names, otherwise those of the cluster."""
    return tuple(one for one in SUBNETS if one.id in pool.subnets) if pool.subnets else SUBNETS[:2]


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The plan of a run for one pool, what goes after it with ``prune``, and what stands against it."""

    plan: Plan
    removal: Plan
    faults: tuple[Fault, ...]
    after: t.Any

    @property
    def actions(self) -> list[str]:
        return [step.action for step in self.plan.steps]


class Provisioner(t.Protocol):
    """One provisioner's parts put together. A state is that part's own Observed."""

    def empty(self) -> t.Any: ...

    def plan(self, pool: Pool | None, state: t.Any, *, prune: bool = False, allow_replacement: bool = False) -> Planned:
        """The plan for this pool; None: no pool wants anything of this provisioner."""

    def applied(self, planned: Planned, state: t.Any) -> t.Any:
        """What there is once the plan and its removal were carried out."""

    def shown(self, state: t.Any) -> Shown:
        """What there is by path, without ids, versions and which of its two names a group has."""


def _flat(value: t.Any, path: str = "") -> t.Iterator[tuple[str, t.Any]]:
    if isinstance(value, t.Mapping) and value:
        for key, below in value.items():
            yield from _flat(below, f"{path}/{key}")
    else:
        yield path, value


def _content(reference: tuple[str, str] | None, templates: t.Mapping[str, LaunchTemplate]) -> Params:
    """What a launch template says, with its user data as it is read."""
    [content] = [one.versions[reference[1]] for one in templates.values() if reference and one.id == reference[0]]
    said = {name: value for name, value in content.data.items() if name != "UserData"}
    form = base64.b64decode(content.data.get("UserData", "")).decode().partition("\n")[0]
    return {**said, "form": form, "settings": dataclasses.asdict(content.settings)}


def _prunes(prune: bool) -> t.Callable[[str | None], bool]:
    return lambda pool: prune


def _bound(steps: t.Iterable[Step], templates: t.Mapping[str, LaunchTemplate]) -> tuple[dict[str, str], dict[str, LaunchTemplate]]:
    """(ids by planned id, templates afterwards) of the steps that concern launch templates."""
    found, ids = dict(templates), {}
    for step in steps:
        if step.action == "ec2:CreateLaunchTemplate":
            name = step.request["LaunchTemplateName"]
            content = TemplateContent.from_api(step.request["LaunchTemplateData"])
            [tags] = [tag_map(one["Tags"]) for one in step.request["TagSpecifications"]]
            found[name] = LaunchTemplate(id=f"lt-{name}", name=name, latest=1, tags=tags, versions={"1": content})
            ids[next(iter(step.binds))] = f"lt-{name}"
        elif step.action == "ec2:CreateLaunchTemplateVersion":
            [there] = [one for one in found.values() if one.id == step.request["LaunchTemplateId"]]
            version = str(there.latest + 1)
            contents = {**there.versions, version: TemplateContent.from_api(step.request["LaunchTemplateData"])}
            found[there.name] = dataclasses.replace(there, latest=there.latest + 1, versions=contents)
            ids[next(iter(step.binds))] = version
        elif step.action == "ec2:DeleteLaunchTemplate":
            found = {name: one for name, one in found.items() if one.id != step.target}
    return ids, found


class Managed:
    """Managed node groups, as _run/nodepool_managed.py has them."""

    def empty(self) -> nodepool.Observed:
        return nodepool.Observed()

    def plan(self, pool: Pool | None, state: nodepool.Observed, *, prune: bool = False, allow_replacement: bool = False) -> Planned:
        images = Images(t.cast(Aws, Account()), VERSION)
        groups: tuple[WantedGroup, ...] = ()
        settings = ManagedSettings(owner=OWNER, roles={}, cluster=CLUSTER, security_group=SECURITY_GROUP)
        faults: tuple[Fault, ...] = ()
        if pool is not None:
            resolution = resolve_groups(pool, subnets_of(pool), FACTS)
            faults = resolution.faults
            groups = tuple(settle(group, state.nodegroups, OWNER, allow_replacement=allow_replacement) for group in resolution.groups)
            settings = dataclasses.replace(
                settings,
                roles={pool.node_role: _role_arn(pool.node_role)} if pool.node_role else {},
                images={pool.name: image} if pool.ami.custom and (image := images.image(pool)) else {},
                releases={pool.name: release} if pool.ami.release and (release := images.release(pool)) else {},
            )
        found = nodepool.plan_pools(groups, state, settings, prunes=_prunes(prune))
        return Planned(plan=found.plan, removal=found.removal, faults=(*faults, *found.faults), after=found.after)

    def applied(self, planned: Planned, state: nodepool.Observed) -> nodepool.Observed:
        ids, templates = _bound((*planned.plan.steps, *planned.removal.steps), state.templates)
        groups = {**state.nodegroups, **planned.after}
        for step in planned.removal.steps:
            if step.action == "eks:DeleteNodegroup":
                del groups[step.request["nodegroupName"]]
        made = {
            name: dataclasses.replace(
                one,
                arn=f"arn:{name}",
                status="ACTIVE",
                auto_scaling_group=f"eks-{name}",
                launch_template=_reference(one.launch_template, ids),
            )
            for name, one in groups.items()
        }
        return nodepool.Observed(nodegroups=made, templates=templates)

    def shown(self, state: nodepool.Observed) -> Shown:
        groups = {}
        for name, one in state.nodegroups.items():
            plain = dataclasses.asdict(dataclasses.replace(one, name="", arn="", launch_template=None, auto_scaling_group=None, api={}))
            groups[name.removesuffix("-b")] = {**plain, "template": _content(one.launch_template, state.templates)}
        return dict(_flat(groups))


def _reference(there: tuple[str, str] | None, ids: t.Mapping[str, str]) -> tuple[str, str] | None:
    return None if there is None else (ids.get(there[0], there[0]), ids.get(there[1], there[1]))


def _role_arn(given: str) -> str:
    return given if given.startswith("arn:") else f"arn:aws:iam::{OWNER.account}:role/{given}"


class Groups:
    """Auto Scaling groups, as _run/nodepool_asg.py has them; a group with nodes has an instance of each of its types."""

    def empty(self) -> asg.Observed:
        return asg.Observed()

    def plan(self, pool: Pool | None, state: asg.Observed, *, prune: bool = False, allow_replacement: bool = False) -> Planned:
        groups: tuple[WantedGroup, ...] = ()
        faults: tuple[Fault, ...] = ()
        profiles: dict[str, str] = {}
        if pool is not None:
            resolution = asg.resolve(pool, subnets_of(pool), FACTS)
            groups, faults = resolution.groups, resolution.faults
            profiles = {pool.name: pool.instance_profile or asg.profile_name(OWNER, pool.name)}
        else:
            gone = tuple(state.profiles.values()) if prune else ()
            state = dataclasses.replace(state, profiles={}, surplus_profiles=gone)
        settings = GroupSettings(
            owner=OWNER,
            cluster=CLUSTER,
            cluster_security_group=SECURITY_GROUP,
            version=VERSION,
            images={group.name: found for group in groups if (found := self._image(group, state)) is not None},
            profiles=profiles,
        )
        result = asg.plan_pools(groups, state, settings, prunes=_prunes(prune))
        return Planned(plan=result.plan, removal=result.removal, faults=(*faults, *result.faults), after=result.after)

    @staticmethod
    def _image(group: WantedGroup, state: asg.Observed) -> tuple[ImageSource, str] | None:
        there = state.groups.get(group_id(OWNER, group.name))
        source: ImageSource | None = wanted_source(group.pool, VERSION)
        if there is not None:
            said = ImageSource.from_text(state.descriptions.get(there.template or ("", ""), ""))
            source = changed_source(group.pool, said, version=VERSION, upgrade=None)
        return None if source is None else (source, source.value if source.kind == "id" else image_id(source.to_text()))

    def applied(self, planned: Planned, state: asg.Observed) -> asg.Observed:
        steps = (*planned.plan.steps, *planned.removal.steps)
        ids, templates = _bound(steps, state.templates)
        descriptions = dict(state.descriptions)
        for step in steps:
            if step.action == "ec2:CreateLaunchTemplate":
                descriptions[f"lt-{step.request['LaunchTemplateName']}", "1"] = step.request["VersionDescription"]
            elif step.action == "ec2:CreateLaunchTemplateVersion":
                version = ids[next(iter(step.binds))]
                descriptions[step.request["LaunchTemplateId"], version] = step.request.get("VersionDescription", "")
        groups = {**state.groups, **planned.after}
        for step in planned.removal.steps:
            if step.action == "autoscaling:DeleteAutoScalingGroup":
                del groups[step.target]
        made = {}
        for name, one in groups.items():
            reference = _reference(one.template, ids)
            warm = [step.request for step in steps if step.action == "autoscaling:PutWarmPool" and step.target == name]
            there = dataclasses.replace(
                one,
                arn=f"arn:{name}",
                template=reference,
                policy=resolved(one.policy, ids),
                warm_pool=WarmPoolState.from_api(warm[-1]) if warm else one.warm_pool,
                api=self._api(name, steps, one.api),
            )
            types = there.instance_types if there.desired else ()
            alive = tuple(
                Instance(id=f"i-{number}", type=type_, state="InService", template=reference) for number, type_ in enumerate(types)
            )
            made[name] = dataclasses.replace(there, instances=alive)
        return asg.Observed(groups=made, templates=templates, descriptions=descriptions, profiles=self._profiles(steps, state))

    def shown(self, state: asg.Observed) -> Shown:
        groups = {}
        for name, one in state.groups.items():
            policy = {**one.policy, "LaunchTemplate": one.policy["LaunchTemplate"]["Overrides"]}
            plain = dataclasses.asdict(dataclasses.replace(one, arn="", template=None, policy={}, instances=(), api={}))
            image = state.descriptions[one.template] if one.template else None
            groups[name] = {**plain, "policy": policy, "template": _content(one.template, state.templates), "image": image}
        return dict(_flat({**groups, "roles": {pool: profile.role for pool, profile in state.profiles.items()}}))

    @staticmethod
    def _api(name: str, steps: t.Iterable[Step], there: Params) -> dict[str, t.Any]:
        """What the service says of a group: what it was told last."""
        told = dict(there)
        for step in steps:
            if step.action in ("autoscaling:CreateAutoScalingGroup", "autoscaling:UpdateAutoScalingGroup") and step.target == name:
                told |= step.request
        return told

    @staticmethod
    def _profiles(steps: t.Iterable[Step], state: asg.Observed) -> dict[str, InstanceProfile]:
        profiles = dict(state.profiles)
        for step in steps:
            if step.action == "iam:CreateInstanceProfile":
                tags = tag_map(step.request["Tags"])
                profiles[tags["gpuops.eks/pool"]] = InstanceProfile(name=step.target, tags=tags)
            elif step.action == "iam:AddRoleToInstanceProfile":
                [pool] = [pool for pool, one in profiles.items() if one.name == step.target]
                profiles[pool] = dataclasses.replace(profiles[pool], role=step.request["RoleName"])
            elif step.action == "iam:DeleteInstanceProfile":
                profiles = {pool: one for pool, one in profiles.items() if one.name != step.target}
        return profiles


class Karpenter:
    """Karpenter's objects, as _run/nodepool_karpenter.py has them; what is applied is what the API server keeps, nobody else wrote to it."""

    def empty(self) -> karpenter.Observed:
        return karpenter.Observed()

    def plan(self, pool: Pool | None, state: karpenter.Observed, *, prune: bool = False, allow_replacement: bool = False) -> Planned:
        targets: list[KarpenterPool] = []
        settings = ObjectSettings(owner=OWNER, security_group=SECURITY_GROUP, role=ROLE)
        if pool is not None:
            targets = [resolve_karpenter(pool, subnets_of(pool), FACTS)]
            choice = ImageChoice(t.cast(Aws, Account()), VERSION)
            image = choice.image(pool, state.find("EC2NodeClass", pool.name))
            settings = dataclasses.replace(settings, images={pool.name: image} if image else {})
        wanted = karpenter.wanted_objects(targets, state, settings, _prunes(prune))
        tried = {one.key: live(one.manifest) for one in wanted}
        found = karpenter.plan_present(wanted, targets, dataclasses.replace(state, dry_runs=tried), _prunes(prune))
        faults = (*(fault for target in targets for fault in target.faults), *karpenter.conflicts(wanted))
        removal = karpenter.plan_removal(targets, state, _prunes(prune))
        return Planned(plan=found, removal=removal, faults=tuple(faults), after=tried)

    def applied(self, planned: Planned, state: karpenter.Observed) -> karpenter.Observed:
        there = {(obj["kind"], obj["metadata"]["name"]): obj for obj in (*state.node_classes, *state.node_overlays, *state.node_pools)}
        there |= planned.after
        for step in (*planned.plan.steps, *planned.removal.steps):
            if step.effect == "delete":
                del there[step.request["kind"], step.target]

        def of(kind: str) -> tuple[t.Any, ...]:
            return tuple(obj for (has, _name), obj in there.items() if has == kind)

        return karpenter.Observed(node_classes=of("EC2NodeClass"), node_overlays=of("NodeOverlay"), node_pools=of("NodePool"))

    def shown(self, state: karpenter.Observed) -> Shown:
        objects = {}
        for obj in (*state.node_classes, *state.node_overlays, *state.node_pools):
            metadata = {name: value for name, value in obj["metadata"].items() if name in ("labels", "annotations")}
            objects[f"{obj['kind']} {obj['metadata']['name']}"] = {"metadata": metadata, "spec": obj["spec"]}
        return dict(_flat(objects))


@dataclass(frozen=True, kw_only=True)
class WithRoles:
    """What a provisioner's part has, and the roles of pools by their names."""

    inner: t.Any
    roles: t.Mapping[str, NodeRole] = dataclasses.field(default_factory=dict)


class Roled:
    """A provisioner's part with the roles of pools before it, as _run/nodepool.py puts them together."""

    def __init__(self, inner: Provisioner) -> None:
        self._inner = inner

    def empty(self) -> WithRoles:
        return WithRoles(inner=self._inner.empty())

    def plan(self, pool: Pool | None, state: WithRoles, *, prune: bool = False, allow_replacement: bool = False) -> Planned:
        settings = node_role.Settings(owner=OWNER)
        pools = [node_role.with_role(pool, state.roles.get(pool.name), settings)] if pool is not None else []
        roles = node_role.plan_roles(pools, state.roles, settings)
        found = self._inner.plan(pools[0] if pools else None, state.inner, prune=prune, allow_replacement=allow_replacement)
        return dataclasses.replace(found, plan=combine([roles, found.plan]))

    def applied(self, planned: Planned, state: WithRoles) -> WithRoles:
        roles = dict(state.roles)
        for step in planned.plan.steps:
            if step.action == "iam:CreateRole":
                role = {**step.request, "Arn": f"arn:aws:iam::{OWNER.account}:role/{step.target}"}
                made = NodeRole.from_api(role)
                roles[made.tags[NODEPOOL_TAG]] = made
            elif step.action in ("iam:AttachRolePolicy", "iam:DetachRolePolicy"):
                [pool] = [pool for pool, role in roles.items() if role.name == step.target]
                policies = [arn for arn in roles[pool].policies if arn != step.request["PolicyArn"]]
                kept = [*policies, step.request["PolicyArn"]] if step.action == "iam:AttachRolePolicy" else policies
                roles[pool] = dataclasses.replace(roles[pool], policies=tuple(kept))
            elif step.action == "eks:CreateAccessEntry":
                [pool] = [pool for pool, role in roles.items() if role.arn == step.request["principalArn"]]
                roles[pool] = dataclasses.replace(roles[pool], entry=step.request)
        return WithRoles(inner=self._inner.applied(planned, state.inner), roles=roles)

    def shown(self, state: WithRoles) -> Shown:
        return {**self._inner.shown(state.inner), **{f"/role/{pool}": sorted(role.policies) for pool, role in state.roles.items()}}


PROVISIONERS: dict[str, Provisioner] = {
    "karpenter": Roled(Karpenter()),
    "managed_node_group": Roled(Managed()),
    "auto_scaling_group": Roled(Groups()),
}


def made(provisioner: str, params: Params) -> t.Any:
    """What there is after a pool with these options was made."""
    one = PROVISIONERS[provisioner]
    planned = one.plan(pool_of(params), one.empty())
    assert planned.faults == (), planned.faults
    return one.applied(planned, one.empty())
