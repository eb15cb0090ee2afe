# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For each option of a pool, two values: what is there was made with the first, and then the second is asked for."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

Params = dict[str, t.Any]

ROLE = "arn:aws:iam::123456789012:role/other-node"
POLICIES = "arn:aws:iam::aws:policy"
TAINT = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
TIME_SLICING = {"sharing.strategy": "time_slicing", "sharing.replicas": 4}
G5_AND_G6 = {"instances.types": None, "instances.families": ["g5", "g6"], "instances.sizes": ["2xlarge"]}
G5_AND_P5 = {"instances.types": ["g5.2xlarge", "p5.4xlarge"]}
G5_AND_P3 = {"instances.types": ["g5.2xlarge", "p3.2xlarge"]}
G5 = {"instances.types": None, "instances.families": ["g5"], "instances.gpu.count": [1]}
MIXED = {"capacity.types": ["on_demand", "spot"], "capacity.on_demand_base": 0, "capacity.on_demand_percentage": 50}
RESERVED = {"capacity.types": ["reserved"]}
PLACED = {"instances.types": ["p5.4xlarge"]}
WARM = {"warm_pool.min_size": 1, "warm_pool.state": "stopped"}
SHELL = "#!/bin/sh\necho {}\n"


@dataclass(frozen=True, kw_only=True)
class Change:
    """The value before and after; ``with_`` are other options of both, ``also`` what has to change with it, by dotted path."""

    before: t.Any = None
    after: t.Any
    with_: Params = field(default_factory=dict)
    also: Params = field(default_factory=dict)


def _change(before: t.Any, after: t.Any, with_: Params | None = None, also: Params | None = None) -> Change:
    return Change(before=before, after=after, with_=with_ or {}, also=also or {})


CHANGES: dict[str, Change] = {
    "name": _change("gpu", "other"),
    "accelerator": _change("nvidia", "none", also={"instances.types": ["m5.large"]}),
    "provisioner": _change(None, "managed_node_group"),
    "instances.types": _change(["g5.2xlarge"], ["g5.4xlarge"]),
    "instances.categories": _change(
        ["g"], ["p"], {"instances.types": None, "instances.families": ["g5", "p5"], "instances.gpu.count": [1]}
    ),
    "instances.families": _change(["g5"], ["g6"], {"instances.types": None, "instances.sizes": ["2xlarge"]}),
    "instances.sizes": _change(["2xlarge"], ["4xlarge"], {"instances.types": None, "instances.families": ["g5"]}),
    "instances.generations.min": _change(5, 6, G5_AND_G6),
    "instances.generations.max": _change(6, 5, G5_AND_G6),
    "instances.architectures": _change(["amd64"], ["arm64"], also={"instances.types": ["g5g.2xlarge"]}),
    "instances.hypervisors": _change(
        ["nitro", "xen"], ["nitro"], {"instances.types": None, "instances.families": ["g5", "p3"], "instances.gpu.count": [1]}
    ),
    "instances.cpus.min": _change(8, 16, G5),
    "instances.cpus.max": _change(16, 8, G5),
    "instances.cpus.values": _change([8], [16], G5),
    "instances.memory_gib.min": _change(32, 64, G5),
    "instances.memory_gib.max": _change(64, 32, G5),
    "instances.gpu.models": _change(["a10g"], ["l4"], G5_AND_G6),
    "instances.gpu.count": _change([1], [4], {"instances.types": None, "instances.families": ["g5"]}),
    "instances.gpu.memory_gib.min": _change(
        16, 24, {"instances.types": None, "instances.families": ["g5", "p3"], "instances.gpu.count": [1]}
    ),
    "instances.gpu.memory_gib.max": _change(
        80, 24, {"instances.types": None, "instances.families": ["g5", "p5"], "instances.gpu.count": [1]}
    ),
    "capacity.types": _change(["on_demand"], ["spot"]),
    "capacity.on_demand_base": _change(0, 1, MIXED),
    "capacity.on_demand_percentage": _change(50, 20, MIXED),
    "capacity.reservations": _change(["cr-01234567"], ["cr-89abcdef"], RESERVED),
    "zones": _change(["us-west-2a"], ["us-west-2b"]),
    "scaling.min": _change(1, 2),
    "scaling.max": _change(4, 6),
    "scaling.desired": _change(1, 3),
    "scaling.scope": _change("pool", "zone", {"zones": ["us-west-2a", "us-west-2b"]}),
    "limits.gpus": _change(4, 2),
    "limits.cpus": _change(64, 128),
    "limits.memory_gib": _change(256, 512),
    "priority": _change(10, 20),
    "ami.family": _change("al2023", "bottlerocket"),
    "ami.release": _change("v20260701", "v20260715"),
    "ami.id": _change("ami-0123456789abcdef0", "ami-0123456789abcdef1"),
    "ami.name": _change("gpu-1", "gpu-2"),
    "ami.owner": _change("123456789012", "210987654321", {"ami.name": "gpu"}),
    "ami.ssm_parameter": _change("/images/one", "/images/two"),
    "disk.size_gib": _change(200, 300),
    "disk.type": _change("gp3", "gp2"),
    "disk.throughput": _change(600, 700, {"disk.iops": 4000}),
    "disk.iops": _change(3000, 4000),
    "disk.kms_key": _change("alias/one", "alias/two"),
    "disk.instance_store": _change("raid0", "none"),
    "labels": _change({"team": "ml"}, {"stage": "test"}),
    "taints": _change(None, [TAINT]),
    "startup_taints": _change(None, [TAINT]),
    "mig.strategy": _change("single", "mixed", {**PLACED, "mig.layout": {"1g.10gb": 7}}),
    "mig.layout": _change({"1g.10gb": 7}, {"1g.20gb": 4}, PLACED),
    "sharing.strategy": _change("none", "time_slicing", also={"sharing.replicas": 4}),
    "sharing.replicas": _change(4, 8, TIME_SLICING),
    "sharing.backend": _change("auto", "device_plugin", TIME_SLICING),
    "sharing.rename": _change(False, True, TIME_SLICING),
    "sharing.fail_requests_greater_than_one": _change(True, False, TIME_SLICING),
    "network.subnets": _change(["subnet-0123456a"], ["subnet-0123456c"]),
    "network.security_groups": _change(["sg-01234567"], ["sg-89abcdef"]),
    "network.efa": _change(False, True, PLACED),
    "network.placement_group": _change("one", "two"),
    "iam.node_role": _change(None, ROLE),
    "iam.instance_profile": _change("one", "two"),
    "iam.policies": _change([f"{POLICIES}/AmazonS3ReadOnlyAccess"], [f"{POLICIES}/AmazonS3FullAccess"]),
    "update.max_unavailable": _change(1, 2),
    "update.strategy": _change("default", "minimal"),
    "warm_pool.min_size": _change(1, 2, WARM),
    "warm_pool.max_prepared": _change(3, 4, WARM),
    "warm_pool.state": _change("stopped", "running", WARM),
    "warm_pool.reuse_on_scale_in": _change(False, True, WARM),
    "disruption.consolidation": _change("WhenEmpty", "WhenEmptyOrUnderutilized"),
    "disruption.consolidate_after": _change("5m", "10m"),
    "disruption.budgets": _change([{"nodes": "1"}], [{"nodes": "2"}]),
    "disruption.expire_after": _change("Never", "720h"),
    "repair.enabled": _change(False, True),
    "tags": _change({"team": "ml"}, {"team": "research"}),
    "user_data": _change([SHELL.format("one")], [SHELL.format("two")]),
    "adopt": _change(False, True),
    "overrides.node_pool": _change(None, {"spec": {"template": {"spec": {"terminationGracePeriod": "1h"}}}}),
    "overrides.node_class": _change(None, {"spec": {"detailedMonitoring": True}}),
    "overrides.launch_template": _change(None, {"Monitoring": {"Enabled": True}}),
    "overrides.node_group": _change(None, {"remoteAccess": {"ec2SshKey": "one"}}),
    "overrides.auto_scaling_group": _change({"DefaultCooldown": 60}, {"DefaultCooldown": 90}),
}


def base(provisioner: str) -> Params:
    """A pool of one group, with a node where groups have a least number of them."""
    scaling = {"max": 4} if provisioner == "karpenter" else {"min": 1, "max": 4}
    return {"name": "gpu", "provisioner": provisioner, "instances": {"types": ["g5.2xlarge"]}, "zones": ["us-west-2a"], "scaling": scaling}


def options(option: str, provisioner: str) -> tuple[Params, Params]:
    """(before, after): the pool's options with the two values of this one."""
    change = CHANGES[option]
    before = _with(base(provisioner), {**change.with_, option: change.before})
    return before, _with(before, {option: change.after, **change.also})


def without(params: Params, option: str) -> Params:
    """The options without this one."""
    return _with(params, {option: None})


def _with(params: Params, given: Params) -> Params:
    """The options with values by dotted path; None takes one away."""
    found = dict(params)
    for path, value in given.items():
        head, _dot, tail = path.partition(".")
        if tail:
            found[head] = _with(found.get(head) or {}, {tail: value})
        elif value is None:
            found.pop(head, None)
        else:
            found[head] = value
    return found
