# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Every variable that an inventory may set. The roles' argument specs, docs/variables.md and the JSON schema are generated from here.

Pure. An option is what Ansible's argument specifications know, with its description. tools/generate.py writes what follows from it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DEFAULT_NAMESPACE, DEFAULT_TAG
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import DEFAULT_CIDR, DEFAULT_PREFIXES, DEFAULT_ZONE_COUNT
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import POOL_OPTIONS

Options = dict[str, dict[str, t.Any]]

IDENTITY: Options = {
    "eks_cluster_name": {
        "type": "str",
        "required": True,
        "description": [
            "Name of the cluster. With region and account it says which cluster this host is; the host's own name does not matter."
        ],
    },
    "eks_cluster_region": {
        "type": "str",
        "required": True,
        "description": ["Region of the cluster."],
    },
    "eks_cluster_account_id": {
        "type": "str",
        "required": True,
        "description": [
            "Account of the cluster, 12 digits in quotes. Before the first write it is compared with the account of the credentials."
        ],
    },
}

NODEPOOLS: Options = {
    "gpu_nodepools": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": POOL_OPTIONS,
        "description": ["The cluster's node pools; the list may be empty."],
    },
}

NETWORK: Options = {
    "eks_network_cidr": {
        "type": "str",
        "default": DEFAULT_CIDR,
        "description": ["Address range of the VPC."],
    },
    "eks_network_zones": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": [
            "Zones to make subnets in, by name or zone id. Empty: the first O(eks_network_zone_count) of the region that are available."
        ],
    },
    "eks_network_zone_count": {
        "type": "int",
        "default": DEFAULT_ZONE_COUNT,
        "description": ["How many zones to take where O(eks_network_zones) is empty."],
    },
    "eks_network_nat": {
        "type": "str",
        "choices": ["none", "single", "per_zone"],
        "default": "single",
        "description": ["NAT gateways for the private subnets: none, one for all zones, or one in each zone."],
    },
    "eks_network_public_subnets": {
        "type": "bool",
        "default": True,
        "description": ["Whether each zone has a public subnet too; NAT gateways need one."],
    },
    "eks_network_private_subnet_prefix": {
        "type": "int",
        "default": DEFAULT_PREFIXES["private"],
        "description": ["Prefix length of each private subnet."],
    },
    "eks_network_public_subnet_prefix": {
        "type": "int",
        "default": DEFAULT_PREFIXES["public"],
        "description": ["Prefix length of each public subnet."],
    },
    "eks_network_api_access_cidrs": {
        "type": "list",
        "elements": "str",
        "default": None,
        "description": ["Address ranges that may reach the private endpoint of the API server. Null: not managed; an empty list: none."],
    },
    "eks_network_tags": {
        "type": "dict",
        "default": None,
        "description": ["Tags for everything in the network, besides the owner tags. Null: not managed; otherwise others are removed."],
    },
    "eks_network_wait_timeout": {
        "type": "int",
        "default": 900,
        "description": ["Seconds to wait for each part of the network."],
    },
    "eks_network_wait_interval": {
        "type": "float",
        "default": 15.0,
        "description": ["Seconds between two looks while waiting."],
    },
}

CLUSTER: Options = {
    "eks_cluster_version": {
        "type": "str",
        "default": None,
        "description": ["Kubernetes minor version, in quotes. Null: the service's default at creation, kept afterwards."],
    },
    "eks_cluster_role_arn": {
        "type": "str",
        "default": None,
        "description": ["IAM role of the control plane. Null: the role makes one with the managed policy AmazonEKSClusterPolicy."],
    },
    "eks_cluster_node_role_arn": {
        "type": "str",
        "default": None,
        "description": [
            "IAM role of the nodes. Null: the role makes one with the managed policies AmazonEKSWorkerNodePolicy, AmazonEKS_CNI_Policy and "
            "AmazonEC2ContainerRegistryPullOnly."
        ],
    },
    "eks_cluster_subnet_ids": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": ["Subnets of the control plane, in at least two zones. Empty: the private subnets of the role eks_network."],
    },
    "eks_cluster_security_group_ids": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": [
            "Additional security groups of the control plane. Empty: the one of the role eks_network for access to the API server."
        ],
    },
    "eks_cluster_endpoint_private_access": {
        "type": "bool",
        "default": None,
        "description": ["Whether the API server can be reached from inside the VPC. Null: yes at creation, not managed afterwards."],
    },
    "eks_cluster_endpoint_public_access": {
        "type": "bool",
        "default": None,
        "description": [
            "Whether the API server can be reached from the internet. Null: at creation only where O(eks_cluster_public_access_cidrs) is set, "
            "not managed afterwards."
        ],
    },
    "eks_cluster_public_access_cidrs": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": [
            "Address ranges that may reach the API server from the internet; empty: not managed. The machine that runs the playbooks has to be "
            "in one of them, or inside the network."
        ],
    },
    "eks_cluster_allow_public_any": {
        "type": "bool",
        "default": False,
        "description": ["Whether the public endpoint may be open to every address (C(0.0.0.0/0)); refused otherwise."],
    },
    "eks_cluster_bootstrap_cluster_creator_admin_permissions": {
        "type": "bool",
        "default": True,
        "description": ["Whether the principal that creates the cluster becomes its administrator. Only at creation."],
    },
    "eks_cluster_support_type": {
        "type": "str",
        "choices": ["STANDARD", "EXTENDED"],
        "default": None,
        "description": ["What happens at the end of standard support. Null: the service's default at creation, kept afterwards."],
    },
    "eks_cluster_deletion_protection": {
        "type": "bool",
        "default": None,
        "description": ["Whether the service refuses to delete the cluster. Null: not managed."],
    },
    "eks_cluster_logging_types": {
        "type": "list",
        "elements": "str",
        "choices": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        "default": None,
        "description": ["Control plane logs to send to CloudWatch. Null: not managed; an empty list: none."],
    },
    "eks_cluster_tags": {
        "type": "dict",
        "default": None,
        "description": [
            "Tags for the cluster and its IAM roles, besides the owner tags. Null: not managed; otherwise others are removed from the cluster."
        ],
    },
    "eks_cluster_wait_timeout": {
        "type": "int",
        "default": 3600,
        "description": ["Seconds to wait for each change of the cluster."],
    },
    "eks_cluster_wait_interval": {
        "type": "float",
        "default": 15.0,
        "description": ["Seconds between two looks while waiting."],
    },
}

POOLS_ROLE: Options = {
    "gpu_nodepools_node_role_arn": {
        "type": "str",
        "default": None,
        "description": ["IAM role for pools that name none. Null: the node role of the role eks_cluster."],
    },
    "gpu_nodepools_wait_timeout": {
        "type": "int",
        "default": 2400,
        "description": ["Seconds to wait for each change of a node group."],
    },
    "gpu_nodepools_wait_interval": {
        "type": "float",
        "default": 15.0,
        "description": ["Seconds between two looks while waiting."],
    },
}

SHARING: Options = {
    "gpu_sharing_namespace": {
        "type": "str",
        "default": DEFAULT_NAMESPACE,
        "description": ["Namespace of the NVIDIA device plugin."],
    },
    "gpu_sharing_image_registry": {
        "type": "str",
        "default": "nvcr.io",
        "description": ["Registry of the device plugin's image."],
    },
    "gpu_sharing_image_repository": {
        "type": "str",
        "default": "nvidia/k8s-device-plugin",
        "description": ["Repository of the device plugin's image."],
    },
    "gpu_sharing_image_tag": {
        "type": "str",
        "default": DEFAULT_TAG,
        "description": ["Tag of the device plugin's image."],
    },
    "gpu_sharing_image_digest": {
        "type": "str",
        "default": None,
        "description": ["Digest of the device plugin's image; it is what counts where a tag is given too."],
    },
    "gpu_sharing_image_pull_secrets": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": ["Names of Secrets in the namespace with which the image is pulled."],
    },
    "gpu_sharing_wait_timeout": {
        "type": "int",
        "default": 600,
        "description": ["Seconds to wait until every node advertises what its pool says."],
    },
    "gpu_sharing_wait_interval": {
        "type": "float",
        "default": 15.0,
        "description": ["Seconds between two looks while waiting."],
    },
}

WORKLOADS: Options = {
    "gpu_workloads_state": {
        "type": "str",
        "choices": ["present", "absent"],
        "default": "present",
        "description": ["Whether the sample Deployment is there."],
    },
    "gpu_workloads_name": {
        "type": "str",
        "default": "gpu",
        "description": ["Name of the Deployment."],
    },
    "gpu_workloads_namespace": {
        "type": "str",
        "default": "default",
        "description": ["Namespace of the Deployment; it has to be there."],
    },
    "gpu_workloads_image": {
        "type": "str",
        "default": "tensorflow/tensorflow:2.19.0-gpu",
        "description": ["Image of the container. The tag is pinned, so that a node that comes later runs the same."],
    },
    "gpu_workloads_command": {
        "type": "list",
        "elements": "str",
        "default": ["sleep", "infinity"],
        "description": ["Command of the container."],
    },
    "gpu_workloads_replicas": {
        "type": "int",
        "default": 2,
        "description": ["How many pods run."],
    },
    "gpu_workloads_resource": {
        "type": "str",
        "default": GPU_RESOURCE,
        "description": ["Resource that each pod takes; a pool whose sharing has V(rename=true) advertises C(nvidia.com/gpu.shared)."],
    },
    "gpu_workloads_resource_count": {
        "type": "int",
        "default": 1,
        "description": ["How many of the resource each pod takes: GPUs, or shares where GPUs are shared."],
    },
    "gpu_workloads_wait_timeout": {
        "type": "int",
        "default": 900,
        "description": ["Seconds to wait until the Deployment is available."],
    },
    "gpu_workloads_wait_interval": {
        "type": "float",
        "default": 15.0,
        "description": ["Seconds between two looks while waiting."],
    },
}

VERIFY: Options = {
    "gpu_verify_fail": {
        "type": "bool",
        "default": True,
        "description": ["Whether findings fail the role. The playbook C(verify) reports them first and fails with its last task."],
    },
}

TEARDOWN: Options = {
    "eks_teardown_wait_timeout": {
        "type": "int",
        "default": 2400,
        "description": ["Seconds to wait for each deletion."],
    },
    "eks_teardown_wait_interval": {
        "type": "float",
        "default": 15.0,
        "description": ["Seconds between two looks while waiting."],
    },
}

PLAYBOOK: Options = {
    "gpuops_hosts": {
        "type": "str",
        "default": "eks_clusters",
        "description": ["Hosts or groups that a playbook runs for; a host is a cluster."],
    },
    "gpuops_serial": {
        "type": "str",
        "default": "100%",
        "description": ["How many clusters to work on at a time, as Ansible's C(serial)."],
    },
    "gpuops_refuse": {
        "type": "str",
        "default": "",
        "description": [
            "A sentence with which every playbook stops before it does anything: for an inventory that cannot be used as it is."
        ],
    },
    "gpuops_detailed_exitcode": {
        "type": "bool",
        "default": False,
        "description": ["Whether the playbook C(plan) fails, and so ends with 2, where the cluster is not what the inventory says."],
    },
    "gpuops_destroy_confirm": {
        "type": "raw",
        "default": [],
        "description": [
            "Required by the playbook C(destroy): exactly the clusters of its hosts, each as C(ACCOUNT/REGION/NAME), in a list or in one string with commas "
            "or spaces. A bare name is enough where the run has one host."
        ],
    },
    "gpuops_aws_profile": {
        "type": "str",
        "default": None,
        "description": ["Named profile of the AWS credentials. Null: the SDK's own order."],
    },
    "gpuops_aws_access_key": {
        "type": "str",
        "default": None,
        "description": ["AWS access key id, where the SDK shall not find credentials by itself."],
    },
    "gpuops_aws_secret_key": {
        "type": "str",
        "default": None,
        "no_log": True,
        "description": ["AWS secret access key; keep it in a vault."],
    },
    "gpuops_aws_session_token": {
        "type": "str",
        "default": None,
        "no_log": True,
        "description": ["AWS session token of temporary credentials."],
    },
    "gpuops_aws_endpoint_url": {
        "type": "str",
        "default": None,
        "description": ["URL to send every AWS call to, instead of the service's own."],
    },
}

_EVERY_POOL = {**IDENTITY, **NODEPOOLS}
ROLES: dict[str, Options] = {
    "eks_preflight": _EVERY_POOL,
    "eks_network": {**IDENTITY, **NETWORK},
    "eks_cluster": {**IDENTITY, **CLUSTER},
    "gpu_nodepools": {**_EVERY_POOL, **POOLS_ROLE},
    "gpu_sharing": {**_EVERY_POOL, **SHARING},
    "gpu_workloads": {**_EVERY_POOL, **WORKLOADS},
    "gpu_capacity_report": IDENTITY,
    "gpu_verify": {**_EVERY_POOL, **VERIFY},
    "eks_teardown": {**_EVERY_POOL, **TEARDOWN},
}

SUMMARIES: dict[str, str] = {
    "eks_preflight": "Checks the whole inventory, the credentials, the account and the region before anything is changed",
    "eks_network": "Makes the cluster's VPC with subnets, gateways, routes and security groups",
    "eks_cluster": "Makes the IAM roles and the EKS cluster",
    "gpu_nodepools": "Makes the cluster's node pools",
    "gpu_sharing": "Runs the NVIDIA device plugin, so that nodes advertise GPUs, shared as their pool says",
    "gpu_workloads": "Runs a TensorFlow Deployment of which every pod takes a GPU or a share of one",
    "gpu_capacity_report": "Reports GPUs and shares: there, taken, free",
    "gpu_verify": "Fails with all findings at once where cluster, nodes or workload are not what they should be",
    "eks_teardown": "Deletes what the other roles made, in a safe order, and proves that nothing is left",
}

# What roles set for later roles and for the end of a playbook. Not for inventories.
FACTS = frozenset(
    {
        "eks_cluster_node_role",
        "eks_cluster_plan",
        "eks_cluster_result",
        "eks_cluster_role",
        "eks_network_result",
        "eks_preflight_check_mode",
        "eks_preflight_owner",
        "eks_preflight_partition",
        "eks_teardown_left",
        "eks_teardown_plan",
        "gpu_capacity_report_result",
        "gpu_nodepools_result",
        "gpu_sharing_result",
        "gpu_verify_findings",
        "gpu_workloads_plan",
        "gpuops_gpu_capacity",
        "gpuops_out",
    }
)


def known() -> Options:
    """Every variable of every role and of the playbooks."""
    return {name: option for options in (*ROLES.values(), PLAYBOOK) for name, option in options.items()}


def variables_of(roles: t.Iterable[str]) -> Options:
    """The variables that a play of these roles reads; names of roles may be given in full (``gpuops.eks.eks_network``)."""
    names = [role.removeprefix("gpuops.eks.") for role in roles]
    return {name: option for options in (*(ROLES.get(role, {}) for role in names), PLAYBOOK) for name, option in options.items()}
