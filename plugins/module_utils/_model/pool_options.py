# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""The options of a pool, written once: argument spec, documentation and inventory schema are made from this table. Pure.

Nothing here has a ``default``: AnsibleModule would fill it in, and what a user did not set must not be managed on a pool that exists.
The defaults that a new pool gets are in _model/pool.py and named in the descriptions.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import SHARING_OPTIONS

OptionTable = dict[str, dict[str, t.Any]]

PROVISIONERS = ("managed_node_group", "karpenter", "auto_scaling_group", "auto_mode")
CAPACITY_TYPES = ("on_demand", "spot", "reserved", "capacity_block")


def _range(what: str) -> dict[str, t.Any]:
    options = {
        "min": {"description": f"Smallest {what}.", "type": "int"},
        "max": {"description": f"Largest {what}.", "type": "int"},
    }
    return {"description": f"Limits of the {what}.", "type": "dict", "options": options}


def _texts(description: str | list[str], **more: t.Any) -> dict[str, t.Any]:
    return {"description": description, "type": "list", "elements": "str", **more}


def _taints(description: str | list[str]) -> dict[str, t.Any]:
    options = {
        "key": {"description": "Key of the taint.", "type": "str", "required": True, "no_log": False},
        "value": {"description": "Value of the taint; none when left out.", "type": "str"},
        "effect": {
            "description": "What happens to pods that do not tolerate it, in Kubernetes spelling.",
            "type": "str",
            "choices": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
            "required": True,
        },
    }
    return {"description": description, "type": "list", "elements": "dict", "options": options}


_SHARING_DESCRIPTIONS: dict[str, str | list[str]] = {
    "strategy": [
        "How pods share a GPU. V(none), also the default, gives whole GPUs.",
        "V(time_slicing) lets them take turns, on GPUs and on MIG instances; V(mps) gives each a part of the memory of a whole GPU.",
    ],
    "replicas": "Shares per GPU, at least 2. Required with any strategy but V(none).",
    "backend": [
        "What carries out sharing and MIG. V(auto), also the default, is V(bottlerocket) with C(ami.family=bottlerocket), whose image has a device "
        "plugin that nodes are told of at boot, and otherwise V(device_plugin), which role C(gpuops.eks.gpu_sharing) runs.",
        "V(gpu_operator) is NVIDIA's GPU Operator (role C(gpuops.eks.gpu_operator)), for groups of C(al2023) with C(scaling.min) equal to "
        "C(scaling.max).",
    ],
    "rename": "Whether shares are advertised as C(nvidia.com/gpu.shared) instead of C(nvidia.com/gpu). False when left out.",
    "fail_requests_greater_than_one": [
        "Whether a pod that asks for more than one share is refused. True when left out.",
        "More shares do not give a pod more of the GPU, so that asking for two is mostly a mistake.",
    ],
}


def _sharing() -> OptionTable:
    return {
        name: {"description": _SHARING_DESCRIPTIONS[name], **{key: value for key, value in option.items() if key != "default"}}
        for name, option in SHARING_OPTIONS.items()
    }


_GPU: OptionTable = {
    "models": _texts("Names of GPU models as EC2 has them, in lower case with dashes (V(a10g), V(l4), V(rtx-pro-server-6000))."),
    "count": {"description": "Numbers of GPUs that an instance may have.", "type": "list", "elements": "int"},
    "memory_gib": _range("memory of one GPU in GiB, as EC2 reports it (22 for an A10G)"),
}

_INSTANCES: OptionTable = {
    "types": _texts("Instance types by name. Each has to satisfy the other parts of C(instances)."),
    "categories": _texts("Letters that instance families begin with (V(g), V(p))."),
    "families": _texts("Instance families (V(g5), V(g6))."),
    "sizes": _texts("Instance sizes (V(2xlarge))."),
    "generations": _range("generation of the instance family (5 for g5)"),
    "architectures": _texts(
        "Processor architectures; a pool of node groups has exactly one. V(amd64) when left out.", choices=["amd64", "arm64"]
    ),
    "hypervisors": _texts("Hypervisors.", choices=["nitro", "xen"]),
    "cpus": {
        "description": "Limits of the number of vCPUs.",
        "type": "dict",
        "options": {
            "min": {"description": "Smallest number of vCPUs.", "type": "int"},
            "max": {"description": "Largest number of vCPUs.", "type": "int"},
            "values": {"description": "Numbers of vCPUs that an instance may have.", "type": "list", "elements": "int"},
        },
    },
    "memory_gib": _range("memory of the instance in GiB"),
    "gpu": {"description": "GPUs of the instance.", "type": "dict", "options": _GPU},
}

_CAPACITY: OptionTable = {
    "types": _texts(
        [
            "How instances are bought. V(on_demand) when left out. Karpenter takes the cheapest of several; with node groups and Auto Scaling "
            "groups each gets groups of its own.",
            "V(reserved) and V(capacity_block) need C(capacity.reservations); V(capacity_block) stands alone on groups.",
        ],
        choices=list(CAPACITY_TYPES),
    ),
    "on_demand_base": {
        "description": "Number of On-Demand instances before Spot instances are taken. Only V(auto_scaling_group), which then mixes both in a group.",
        "type": "int",
    },
    "on_demand_percentage": {
        "description": "Percentage of On-Demand instances above C(capacity.on_demand_base). Only V(auto_scaling_group).",
        "type": "int",
    },
    "reservations": _texts("Ids of capacity reservations. Required with the types V(reserved) and V(capacity_block), refused otherwise."),
}

_SCALING: OptionTable = {
    "min": {"description": "Smallest number of nodes. 0 for a new pool.", "type": "int"},
    "max": {"description": "Largest number of nodes. 10 for a new pool.", "type": "int"},
    "desired": {
        "description": [
            "Number of nodes to ask for. Of a new pool the same as C(scaling.min).",
            "Leave it out where an autoscaler decides; it is then only touched to stay within new limits.",
        ],
        "type": "int",
    },
    "scope": {
        "description": [
            "Whether the numbers are those of the pool (V(pool), also the default) or of each zone (V(zone)).",
            "Numbers of the pool are shared out over its node groups in order of the zones, the remainder to the first.",
        ],
        "type": "str",
        "choices": ["pool", "zone"],
    },
}

_LIMITS: OptionTable = {
    "gpus": {
        "description": [
            "Largest number of physical GPUs, however they are shared.",
            "The groups' maxima are lowered, last first, until they fit. Karpenter gets the limit as it counts: shares of GPUs, or nodes.",
        ],
        "type": "int",
    },
    "cpus": {"description": "Largest number of vCPUs. Only V(karpenter).", "type": "int"},
    "memory_gib": {"description": "Largest sum of the nodes' memory in GiB. Only V(karpenter).", "type": "int"},
}

_AMI: OptionTable = {
    "family": {"description": "Family of the AMI. V(al2023) when left out.", "type": "str", "choices": ["al2023", "bottlerocket"]},
    "release": {
        "description": [
            "Release of the AMI: C(vYYYYMMDD) of V(al2023), C(1.x.y) of V(bottlerocket), or V(latest) for the newest at each run.",
            "A new pool gets the newest and keeps it when left out.",
        ],
        "type": "str",
    },
    "id": {"description": "Id of an AMI of your own, of the family C(ami.family).", "type": "str"},
    "name": {"description": "Name of an AMI of your own; the newest of this name and owner is taken.", "type": "str"},
    "owner": {
        "description": "Account id or alias of the owner of the AMI that C(ami.name) names. Your own account when left out.",
        "type": "str",
    },
    "ssm_parameter": {"description": "Name of an SSM parameter that holds the id of an AMI of your own.", "type": "str"},
}

_DISK: OptionTable = {
    "size_gib": {
        "description": "Size of the data volume in GiB. 200 for a new pool: CUDA images are large, and below 60 there is a warning with GPUs.",
        "type": "int",
    },
    "type": {"description": "Type of the volume. V(gp3) for a new pool.", "type": "str", "choices": ["gp3", "gp2", "io1", "io2"]},
    "throughput": {"description": "Throughput in MiB/s, gp3 only. 600 for a new pool.", "type": "int"},
    "iops": {"description": "I/O operations per second. What the volume type gives when left out.", "type": "int"},
    "kms_key": {
        "description": "Id, alias or ARN of the KMS key. Volumes are always encrypted; without it by the account's default key.",
        "type": "str",
        "no_log": False,
    },
    "instance_store": {
        "description": [
            "What to do with the instance's own disks. V(raid0), also the default, gives them to containers and their images.",
            "Amazon Linux only; Bottlerocket leaves them alone in this release.",
        ],
        "type": "str",
        "choices": ["raid0", "none"],
    },
}

_NETWORK: OptionTable = {
    "subnets": _texts("Ids of the subnets to use instead of those of C(subnets)."),
    "security_groups": _texts("Ids of security groups that nodes have besides the cluster's."),
    "efa": {
        "description": [
            "Whether nodes have an Elastic Fabric Adapter on each network card that can have one.",
            "The instance types have to have them, and the security groups have to allow all traffic among themselves.",
        ],
        "type": "bool",
    },
    "placement_group": {"description": "Name of a placement group that exists. One of strategy cluster lies in one zone.", "type": "str"},
}

_IAM: OptionTable = {
    "node_role": {"description": "Name or ARN of the nodes' role. C(node_role_arn) when left out.", "type": "str"},
    "instance_profile": {
        "description": "Name of an instance profile, in place of C(iam.node_role). V(karpenter) and V(auto_scaling_group) only.",
        "type": "str",
    },
    "policies": _texts(
        "ARNs of managed policies that the pool's nodes have besides those of every node, by a role that is made for the pool alone and goes with it. "
        "The list is the whole list. Not with a role or an instance profile of your own, which has its policies already."
    ),
}

_UPDATE: OptionTable = {
    "max_unavailable": {
        "description": "How many nodes an update may take at once. 1 for a new pool. Managed node groups only.",
        "type": "int",
    },
    "strategy": {
        "description": "V(minimal) ends a node before it makes the next, for scarce GPUs. V(default) for a new pool. "
        "Managed node groups only.",
        "type": "str",
        "choices": ["default", "minimal"],
    },
}

_DISRUPTION: OptionTable = {
    "consolidation": {
        "description": "When Karpenter may replace or remove nodes. V(WhenEmptyOrUnderutilized) for a new pool. Only V(karpenter).",
        "type": "str",
        "choices": ["WhenEmpty", "WhenEmptyOrUnderutilized", "Balanced"],
    },
    "consolidate_after": {
        "description": [
            "How long a node is idle before it may go, such as V(10m).",
            "With groups it is what cluster-autoscaler reads from the group's tags.",
        ],
        "type": "str",
    },
    "budgets": {
        "description": "Karpenter's disruption budgets, in its own words (C(nodes), C(reasons), C(schedule), C(duration)). Only V(karpenter).",
        "type": "list",
        "elements": "dict",
    },
    "expire_after": {
        "description": "How old a node may become, such as V(720h), or V(Never), which a new GPU pool has. Only V(karpenter).",
        "type": "str",
    },
}

_WARM_POOL: OptionTable = {
    "min_size": {"description": "Smallest number of prepared instances.", "type": "int"},
    "max_prepared": {"description": "Largest number of instances, prepared and in use together.", "type": "int"},
    "state": {
        "description": "In which state they wait. V(stopped) when left out.",
        "type": "str",
        "choices": ["stopped", "running", "hibernated"],
    },
    "reuse_on_scale_in": {"description": "Whether nodes go back to the warm pool when a group shrinks.", "type": "bool"},
}

_MIG: OptionTable = {
    "strategy": {
        "description": [
            "How instances are advertised: V(mixed), also the default, each profile as a resource of its own (C(nvidia.com/mig-1g.5gb)), "
            "V(single) all as C(nvidia.com/gpu), for a layout of one profile.",
            "Bottlerocket only knows V(single).",
        ],
        "type": "str",
        "choices": ["single", "mixed"],
    },
    "layout": {
        "description": [
            "Number of instances of each profile on each GPU, such as C({1g.5gb: 7}). Required with C(mig).",
            "It has to fit on the GPUs of C(instances.types) or C(instances.families), which are all of one product. Bottlerocket fills each GPU "
            "with one profile.",
        ],
        "type": "dict",
    },
}

_OVERRIDES: OptionTable = {
    name: {
        "description": f"Fields to merge last into {what}, in the service's own spelling: dictionaries deep, lists replaced.{said}",
        "type": "dict",
    }
    for name, what, said in (
        ("node_pool", "Karpenter's NodePool", ""),
        ("node_class", "Karpenter's EC2NodeClass", ""),
        ("launch_template", "the launch template's data", ""),
        ("node_group", "the node group", " Only at creation: a warning names what a group has other values of."),
        ("auto_scaling_group", "the Auto Scaling group", ""),
    )
}

POOL_OPTIONS: OptionTable = {
    "name": {"description": "Name of the pool, a DNS label. Unique in the cluster.", "type": "str", "required": True},
    "accelerator": {
        "description": "V(nvidia), also the default, for GPU pools; V(none) for general pools.",
        "type": "str",
        "choices": ["nvidia", "none"],
    },
    "provisioner": {
        "description": [
            "What makes the nodes. Required with C(state=present).",
            "V(karpenter) has to be in the cluster (role C(gpuops.eks.eks_autoscaling)); groups grow and shrink by cluster-autoscaler.",
            "What a provisioner cannot express is refused, with the one that can. V(auto_mode) is reserved: EKS Auto Mode has no "
            "device plugin of the user's, so that it cannot share GPUs.",
        ],
        "type": "str",
        "choices": list(PROVISIONERS),
    },
    "instances": {
        "description": [
            "Which instance types the pool may have; a part that is left out does not constrain. Types or families are required but with "
            "V(karpenter).",
            "With groups they are resolved to at most 20 types per node group, those with the fewest vCPUs and the least memory first. A group that "
            "exists keeps its list as long as each type still matches.",
        ],
        "type": "dict",
        "options": _INSTANCES,
    },
    "capacity": {"description": "How capacity is bought.", "type": "dict", "options": _CAPACITY},
    "zones": _texts(
        "Names or ids of the availability zones, in order of preference. All zones of the subnets that offer the types when left out."
    ),
    "scaling": {"description": "How many nodes.", "type": "dict", "options": _SCALING},
    "limits": {"description": "What the pool may grow to besides the number of nodes.", "type": "dict", "options": _LIMITS},
    "priority": {
        "description": "From 1 to 100, higher first: the order of the pools of one autoscaler. Those without come last.",
        "type": "int",
    },
    "ami": {"description": "The nodes' image.", "type": "dict", "options": _AMI},
    "disk": {"description": "The nodes' disks.", "type": "dict", "options": _DISK},
    "labels": {
        "description": [
            "Labels of the nodes besides those of the collection. When set it is the whole set: others are removed.",
            "Keys of C(kubernetes.io), C(k8s.io) and C(eks.amazonaws.com) are refused by EKS, those that follow from other options here.",
        ],
        "type": "dict",
    },
    "taints": _taints(
        [
            "Taints of the nodes. When set it is the whole set: others are removed.",
            "C(nvidia.com/gpu=true:NoSchedule) for a new pool with C(accelerator=nvidia), none for a general pool.",
        ]
    ),
    "startup_taints": _taints(
        [
            "Taints that a node has when it joins and that something in the cluster takes away when it is ready.",
            "cluster-autoscaler has to know their keys (option C(--startup-taint)); role C(gpuops.eks.eks_autoscaling) sees to that.",
        ]
    ),
    "mig": {
        "description": [
            "Multi-Instance GPU: how each GPU of the pool is cut. Whole GPUs when left out.",
            "Nodes cut their GPUs themselves, at each boot and before kubelet starts: one whose GPUs do not take the layout never joins. With "
            "C(sharing.backend=gpu_operator) the operator does it. Another layout takes new nodes.",
        ],
        "type": "dict",
        "options": _MIG,
    },
    "sharing": {"description": "How pods share each GPU of the pool.", "type": "dict", "options": _sharing()},
    "network": {"description": "Where nodes are attached.", "type": "dict", "options": _NETWORK},
    "iam": {"description": "What nodes may do in AWS.", "type": "dict", "options": _IAM},
    "update": {"description": "How nodes are replaced by an update.", "type": "dict", "options": _UPDATE},
    "warm_pool": {
        "description": "Instances that are kept prepared, so that nodes join faster. Groups only.",
        "type": "dict",
        "options": _WARM_POOL,
    },
    "disruption": {"description": "When nodes may be replaced or removed.", "type": "dict", "options": _DISRUPTION},
    "repair": {
        "description": "Repair of unhealthy nodes.",
        "type": "dict",
        "options": {
            "enabled": {
                "description": [
                    "Whether unhealthy nodes are replaced. Of a new managed node group true.",
                    "V(true) is refused with V(auto_scaling_group), and with V(karpenter) where its feature gate NodeRepair is off.",
                ],
                "type": "bool",
            }
        },
    },
    "tags": {
        "description": "Tags of the node groups, their instances, volumes and network interfaces, and the launch templates.",
        "type": "dict",
    },
    "user_data": _texts(
        "More parts of user data: a script that begins with C(#!) or a C(NodeConfig) document of V(al2023), TOML of V(bottlerocket)."
    ),
    "adopt": {
        "description": "Whether to manage groups and objects of these names that somebody else made: changed where an option is set, never deleted.",
        "type": "bool",
    },
    "overrides": {"description": "Fields of the service that the options do not have.", "type": "dict", "options": _OVERRIDES},
}


def argument_options(*, flat: bool = False) -> OptionTable:
    """The options as AnsibleModule takes them, without descriptions; with ``flat`` nothing on the top level is required."""
    return {name: _argument(option, flat=flat) for name, option in POOL_OPTIONS.items()}


def _argument(option: t.Mapping[str, t.Any], *, flat: bool) -> dict[str, t.Any]:
    skipped = {"description", "required"} if flat else {"description"}
    argument = {key: value for key, value in option.items() if key not in skipped}
    if "options" in argument:
        argument["options"] = {name: _argument(below, flat=False) for name, below in argument["options"].items()}
    return argument


def documented_options(*, flat: bool = False) -> OptionTable:
    """The options as module documentation has them, with suboptions and without no_log; with ``flat`` nothing on the top level is required."""
    return {name: _documented(option, flat=flat) for name, option in POOL_OPTIONS.items()}


def _documented(option: t.Mapping[str, t.Any], *, flat: bool) -> dict[str, t.Any]:
    skipped = {"no_log", "options", "required"} if flat else {"no_log", "options"}
    documented = {key: value for key, value in option.items() if key not in skipped}
    if "options" in option:
        documented["suboptions"] = {name: _documented(below, flat=False) for name, below in option["options"].items()}
    return documented
