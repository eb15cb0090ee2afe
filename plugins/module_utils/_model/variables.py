# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Every variable that an inventory may set. The roles' argument specs, docs/variables.md and the JSON schema are generated from here.

Pure. An option is what Ansible's argument specifications know, with its description. tools/generate.py writes what follows from it.
"""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.access_entry import ENTRY_OPTIONS
from ansible_collections.gpuops.eks.plugins.module_utils._model.addon import addon_options
from ansible_collections.gpuops.eks.plugins.module_utils._model.cluster import SCORING_OPTIONS
from ansible_collections.gpuops.eks.plugins.module_utils._model.device_plugin import DEFAULT_NAMESPACE, DEFAULT_TAG
from ansible_collections.gpuops.eks.plugins.module_utils._model.labels import GPU_RESOURCE
from ansible_collections.gpuops.eks.plugins.module_utils._model.network_options import DEFAULT_CIDR, DEFAULT_PREFIXES, DEFAULT_ZONE_COUNT
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import POOL_OPTIONS

Options = dict[str, dict[str, t.Any]]

CORE_ADDONS = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent", "coredns")
Text = t.Union[str, tuple[str, dict[str, t.Any]]]  # a description, with those of suboptions


def _described(options: t.Mapping[str, t.Any], texts: t.Mapping[str, Text]) -> Options:
    """A module's options as those of a variable: with a description each, and no defaults."""
    found: Options = {}
    for name, option in options.items():
        text = texts[name]
        own, below = text if isinstance(text, tuple) else (text, {})
        nested = {"options": _described(option["options"], below)} if "options" in option else {}
        found[name] = {key: value for key, value in option.items() if key not in ("options", "default")} | {"description": [own]} | nested
    return found


ADDON_OPTIONS = _described(
    addon_options(),
    {
        "name": "Name of the add-on, such as C(vpc-cni).",
        "version": "V(default), V(latest), or one version. Unset: the default one at creation, kept afterwards.",
        "configuration_values": "Settings of the add-on by its own schema.",
        "resolve_conflicts": "What happens to fields that somebody else has changed in the cluster.",
        "service_account_role_arn": "IAM role by the cluster's OIDC provider (IRSA).",
        "pod_identity_associations": (
            "IAM roles of the add-on by Pod Identity. Unset: the role's own choice; an empty list: none.",
            {"service_account": "Kubernetes service account of the add-on.", "role_arn": "IAM role that it takes by Pod Identity."},
        ),
        "namespace": "Namespace of the add-on; only at creation.",
        "preserve": "Whether its objects stay in the cluster when the add-on is removed.",
        "tags": "Tags of the add-on, besides the owner tags.",
        "wait": "Whether to wait until the add-on is active. Unset: where it needs no nodes for that.",
    },
)
ACCESS_OPTIONS = _described(
    ENTRY_OPTIONS,
    {
        "principal_arn": "ARN of the IAM user or role.",
        "type": "V(STANDARD), or a type of nodes such as V(EC2_LINUX). Unset: V(STANDARD).",
        "username": "Name of the user in Kubernetes. Unset: the service's choice.",
        "kubernetes_groups": "Groups of the user in Kubernetes.",
        "policies": (
            "Access policies. Unset: not managed; otherwise exactly these.",
            {
                "policy": "Access policy by name, such as C(AmazonEKSViewPolicy), or by ARN.",
                "namespaces": "Namespaces that it is for. Unset: the whole cluster.",
            },
        ),
        "tags": "Tags of the entry, besides the owner tags.",
        "adopt": "Whether an entry made by somebody else is changed.",
    },
)
SCORING = _described(
    SCORING_OPTIONS,
    {
        "type": "V(MostAllocated) packs pods onto as few nodes as they fit on, so that a GPU node fills before another is used.",
        "resources": (
            "The resources that count, with their weights.",
            {"name": "Resource, such as C(nvidia.com/gpu).", "weight": "Its weight, 1 to 100."},
        ),
    },
)

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
    "eks_network_vpc_id": {
        "type": "str",
        "default": None,
        "description": [
            "An existing VPC to use as it is, with O(eks_network_private_subnet_ids). Nothing in it is made, changed or tagged. "
            "Null: the role makes a VPC."
        ],
    },
    "eks_network_private_subnet_ids": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": ["Private subnets of the existing VPC, in at least two zones."],
    },
    "eks_network_public_subnet_ids": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": ["Public subnets of the existing VPC."],
    },
    "eks_network_intra_subnet_ids": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": ["Subnets of the existing VPC for the interfaces of the control plane. Empty: the private subnets."],
    },
    "eks_network_security_group_ids": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": ["Security groups of the existing VPC for the interfaces of the control plane."],
    },
    "eks_network_intra_subnets": {
        "type": "bool",
        "default": False,
        "description": ["Whether the control plane's interfaces get subnets of their own, without a route out of the VPC."],
    },
    "eks_network_intra_subnet_prefix": {
        "type": "int",
        "default": 28,
        "description": ["Prefix length of each of those subnets."],
    },
    "eks_network_secondary_cidrs": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": ["Further address ranges of the VPC, such as V(100.64.0.0/16), for subnets that the first has no room for."],
    },
    "eks_network_subnet_tags": {
        "type": "dict",
        "default": {},
        "options": {
            tier: {"type": "dict", "description": [f"Tags of the {tier} subnets, such as C(karpenter.sh/discovery)."]}
            for tier in ("private", "public", "intra")
        },
        "description": ["Further tags of the subnets by tier, besides those by which load balancers find them."],
    },
    "eks_network_gateway_endpoints": {
        "type": "list",
        "elements": "str",
        "choices": ["s3", "dynamodb"],
        "default": None,
        "description": [
            "Services that the private subnets reach by a gateway endpoint, which costs nothing. Null: V(s3), because layers of images come from "
            "there; an empty list: none."
        ],
    },
    "eks_network_interface_endpoints": {
        "type": "list",
        "elements": "str",
        "default": None,
        "description": [
            "Services that the private subnets reach by an interface endpoint, by their short names such as C(ecr.api). Null: with "
            "O(eks_network_nat=none) all that a cluster without a way out needs, otherwise not managed."
        ],
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
    "eks_cluster_authentication_mode": {
        "type": "str",
        "choices": ["CONFIG_MAP", "API_AND_CONFIG_MAP", "API"],
        "default": None,
        "description": [
            "Where EKS looks up who may do what. Null: V(API) at creation, not managed afterwards. It only goes towards V(API)."
        ],
    },
    "eks_cluster_service_ipv4_cidr": {
        "type": "str",
        "default": None,
        "description": ["Address range of Kubernetes services. Null: the service's choice. Only at creation."],
    },
    "eks_cluster_scheduler_scoring": {
        "type": "dict",
        "default": None,
        "options": SCORING,
        "description": ["How the control plane's scheduler ranks nodes. Null: not managed."],
    },
    "eks_cluster_adopt": {
        "type": "bool",
        "default": False,
        "description": [
            "Whether a cluster that was made by somebody else is changed where the inventory says otherwise. It is never tagged as ours and never "
            "deleted."
        ],
    },
    "eks_cluster_recreate_failed": {
        "type": "bool",
        "default": False,
        "description": ["Whether a cluster of ours whose creation failed is deleted and made again."],
    },
    "eks_cluster_secrets_encryption": {
        "type": "bool",
        "default": None,
        "description": [
            "Whether the cluster's secrets are encrypted with a KMS key of the account's own. EKS does not take a key away again: false only "
            "means that none is added. Null: yes, unless O(eks_cluster_adopt) is true."
        ],
    },
    "eks_cluster_secrets_key_arn": {
        "type": "str",
        "default": None,
        "description": ["That key. Null: the role makes one."],
    },
    "eks_cluster_volumes_encryption": {
        "type": "bool",
        "default": True,
        "description": [
            "Whether the role makes a KMS key for the volumes of nodes and pods, with the grants that Auto Scaling groups and Karpenter need. "
            "False: the account's key for EBS. Pools take it when they are made."
        ],
    },
    "eks_cluster_volumes_key_arn": {
        "type": "str",
        "default": None,
        "description": ["A key of yours for volumes. Null: the role makes one."],
    },
    "eks_cluster_iam_path": {
        "type": "str",
        "default": "/",
        "description": ["Path of the IAM roles that the role makes. Only at creation."],
    },
    "eks_cluster_permissions_boundary": {
        "type": "str",
        "default": None,
        "description": ["ARN of the policy that bounds the permissions of every IAM role that the role makes."],
    },
    "eks_cluster_access_entries": {
        "type": "list",
        "elements": "dict",
        "options": ACCESS_OPTIONS,
        "default": [],
        "description": ["Who may do what in the cluster: access entries with their policies. Entries of others stay as they are."],
    },
    "eks_cluster_purge_access_entries": {
        "type": "bool",
        "default": False,
        "description": ["Whether access entries that the role made and the inventory no longer names are removed."],
    },
    "eks_cluster_addons": {
        "type": "list",
        "elements": "dict",
        "options": ADDON_OPTIONS,
        "default": None,
        "description": [
            f"EKS add-ons. Null: {', '.join(CORE_ADDONS)}; none where O(eks_cluster_adopt) is true.",
            "Add-ons that need AWS permissions get an IAM role by Pod Identity, unless they name one. Without a version: the default one "
            "of the cluster's version when it is installed, kept afterwards; the playbook C(upgrade) moves it.",
        ],
    },
    "eks_cluster_storage": {
        "type": "list",
        "elements": "str",
        "choices": ["ebs", "efs", "fsx", "s3"],
        "default": [],
        "description": [
            "Storage for pods: V(ebs) installs the EBS CSI driver and makes an encrypted gp3 StorageClass the default, V(efs) and V(fsx) install the "
            "drivers of EFS and FSx for Lustre, V(s3) that of Mountpoint for Amazon S3."
        ],
    },
    "eks_cluster_storage_s3_buckets": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": ["Buckets that pods may mount with O(eks_cluster_storage) V(s3)."],
    },
    "eks_cluster_oidc_provider": {
        "type": "bool",
        "default": False,
        "description": ["Whether IAM gets an OIDC provider of the cluster, for charts that only know IAM roles for service accounts."],
    },
    "eks_cluster_load_balancer_controller": {
        "type": "bool",
        "default": False,
        "description": [
            "Whether the AWS Load Balancer Controller gets its IAM role by Pod Identity, and is installed where a chart is named."
        ],
    },
    "eks_cluster_load_balancer_controller_chart": {
        "type": "str",
        "default": None,
        "description": [
            "Helm chart of the AWS Load Balancer Controller: a path, an archive, or a reference such as C(oci://REGISTRY/aws-load-balancer-controller). "
            "It needs C(helm) on the machine that runs the playbook. Null: it is installed by other means."
        ],
    },
    "eks_cluster_load_balancer_controller_chart_version": {
        "type": "str",
        "default": None,
        "description": ["Version of the chart; needed for a reference."],
    },
    "eks_cluster_load_balancer_controller_values": {
        "type": "dict",
        "default": {},
        "description": ["Values of the chart besides those that the role sets (cluster, region, VPC, service account, default tags)."],
    },
    "eks_cluster_log_retention_days": {
        "type": "int",
        "default": 90,
        "description": ["Days for which CloudWatch keeps the control plane's logs, where O(eks_cluster_logging_types) names some."],
    },
    "eks_cluster_kubeconfig": {
        "type": "path",
        "default": None,
        "description": [
            "File to write a kubeconfig to, whose exec plugin asks the AWS CLI for tokens. For people; the collection itself needs none. Null: none."
        ],
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
            "IAM role of the nodes. Null: the role makes one with the managed policies AmazonEKSWorkerNodePolicy, "
            "AmazonEC2ContainerRegistryPullOnly and AmazonSSMManagedInstanceCore, and AmazonEKS_CNI_Policy where the add-on vpc-cni has no role of "
            "its own."
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

AUTOSCALING: Options = {
    "eks_autoscaling_karpenter_enabled": {
        "type": "bool",
        "default": None,
        "description": ["Whether Karpenter is installed. Null: where a pool has the provisioner C(karpenter)."],
    },
    "eks_autoscaling_cluster_autoscaler_enabled": {
        "type": "bool",
        "default": None,
        "description": [
            "Whether cluster-autoscaler is installed. Null: where managed node groups or Auto Scaling groups may grow. It never scales a pool that "
            "Karpenter provisions."
        ],
    },
    "eks_autoscaling_termination_handler_enabled": {
        "type": "bool",
        "default": None,
        "description": [
            "Whether the AWS Node Termination Handler is installed, reading a queue of its own. Null: where Auto Scaling groups of our own have Spot "
            "instances. Managed node groups and Karpenter look after theirs."
        ],
    },
    "eks_autoscaling_karpenter_chart_ref": {
        "type": "str",
        "default": "oci://public.ecr.aws/karpenter/karpenter",
        "description": ["Helm chart of Karpenter: a reference, or a path. It needs C(helm) on the machine that runs the playbook."],
    },
    "eks_autoscaling_karpenter_crd_chart_ref": {
        "type": "str",
        "default": "oci://public.ecr.aws/karpenter/karpenter-crd",
        "description": [
            "Helm chart of Karpenter's custom resource definitions, which goes first, because Helm upgrades none that are part of a chart."
        ],
    },
    "eks_autoscaling_karpenter_version": {
        "type": "str",
        "default": "1.14.1",
        "description": ["Version of both charts, where they are references."],
    },
    "eks_autoscaling_karpenter_image_repository": {
        "type": "str",
        "default": None,
        "description": ["Repository of Karpenter's image with its registry. Null: the chart's."],
    },
    "eks_autoscaling_karpenter_image_tag": {
        "type": "str",
        "default": None,
        "description": ["Tag of Karpenter's image. Null: the chart's."],
    },
    "eks_autoscaling_karpenter_image_digest": {
        "type": "str",
        "default": None,
        "description": ["Digest of Karpenter's image. Null: the chart's, or none where O(eks_autoscaling_karpenter_image_tag) is set."],
    },
    "eks_autoscaling_karpenter_replicas": {
        "type": "int",
        "default": 2,
        "description": ["Pods of Karpenter. The chart spreads them over nodes and zones, and none runs on a node that Karpenter has made."],
    },
    "eks_autoscaling_karpenter_resources": {
        "type": "dict",
        "default": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "description": ["Requests and limits of Karpenter's container, as Kubernetes has them."],
    },
    "eks_autoscaling_karpenter_feature_gates": {
        "type": "dict",
        "default": {"nodeOverlay": True},
        "description": ["Karpenter's feature gates. Pools that share GPUs need C(nodeOverlay)."],
    },
    "eks_autoscaling_karpenter_values": {
        "type": "dict",
        "default": {},
        "description": ["Values of Karpenter's chart, merged over those that the role sets."],
    },
    "eks_autoscaling_cluster_autoscaler_image_registry": {
        "type": "str",
        "default": "registry.k8s.io",
        "description": ["Registry of cluster-autoscaler's image."],
    },
    "eks_autoscaling_cluster_autoscaler_image_repository": {
        "type": "str",
        "default": "autoscaling/cluster-autoscaler",
        "description": ["Repository of cluster-autoscaler's image."],
    },
    "eks_autoscaling_cluster_autoscaler_image_tag": {
        "type": "str",
        "default": None,
        "description": ["Tag of cluster-autoscaler's image. Null: the newest known release for the cluster's minor version."],
    },
    "eks_autoscaling_cluster_autoscaler_expander": {
        "type": "str",
        "default": "priority,least-waste",
        "description": [
            "By what cluster-autoscaler chooses among groups that would do, one after another. V(priority) is that of the pools, and within a pool "
            "reservations before Spot before On-Demand."
        ],
    },
    "eks_autoscaling_cluster_autoscaler_balance_similar_node_groups": {
        "type": "bool",
        "default": False,
        "description": ["Whether cluster-autoscaler keeps similar groups at the same size."],
    },
    "eks_autoscaling_cluster_autoscaler_scale_down_unneeded_time": {
        "type": "str",
        "default": "10m",
        "description": ["How long a node has to be unneeded before it goes. A pool's C(disruption.consolidate_after) goes before it."],
    },
    "eks_autoscaling_cluster_autoscaler_scale_down_delay_after_add": {
        "type": "str",
        "default": "10m",
        "description": ["How long after a node has come none goes."],
    },
    "eks_autoscaling_cluster_autoscaler_scale_down_utilization_threshold": {
        "type": "float",
        "default": 0.5,
        "description": ["Part of CPU and memory that pods request below which a node is unneeded."],
    },
    "eks_autoscaling_cluster_autoscaler_scale_down_gpu_utilization_threshold": {
        "type": "float",
        "default": 0.5,
        "description": ["Part of the GPUs, or of their shares, that pods request below which a node with GPUs is unneeded."],
    },
    "eks_autoscaling_cluster_autoscaler_max_node_provision_time": {
        "type": "str",
        "default": "15m",
        "description": ["How long cluster-autoscaler waits for a node that it has ordered before it tries another group."],
    },
    "eks_autoscaling_cluster_autoscaler_extra_args": {
        "type": "dict",
        "default": {},
        "description": [
            "Further flags of cluster-autoscaler by their names without dashes, over those that the role sets; null takes one out."
        ],
    },
    "eks_autoscaling_termination_handler_image_registry": {
        "type": "str",
        "default": "public.ecr.aws",
        "description": ["Registry of the image of the AWS Node Termination Handler."],
    },
    "eks_autoscaling_termination_handler_image_repository": {
        "type": "str",
        "default": "aws-ec2/aws-node-termination-handler",
        "description": ["Repository of the image of the AWS Node Termination Handler."],
    },
    "eks_autoscaling_termination_handler_image_tag": {
        "type": "str",
        "default": "v1.25.3",
        "description": ["Tag of the image of the AWS Node Termination Handler."],
    },
    "eks_autoscaling_helm_binary": {
        "type": "path",
        "default": None,
        "description": ["Path of C(helm) 3, or of Helm 4 with kubernetes.core 6.4 or later. Null: the one in the PATH."],
    },
    "eks_autoscaling_wait_timeout": {
        "type": "int",
        "default": 600,
        "description": ["Seconds to wait until a controller runs, once there are nodes, and until it is gone."],
    },
    "eks_autoscaling_wait_interval": {
        "type": "float",
        "default": 5.0,
        "description": ["Seconds between two looks while waiting."],
    },
}

GPU_OPERATOR: Options = {
    "gpu_operator_enabled": {
        "type": "bool",
        "default": None,
        "description": [
            "Whether NVIDIA's GPU Operator is installed. Null: where a pool has C(sharing.backend) C(gpu_operator). V(false) removes a release of the role."
        ],
    },
    "gpu_operator_chart_ref": {
        "type": "str",
        "default": "gpu-operator",
        "description": [
            "Helm chart of the operator: its name in O(gpu_operator_chart_repo_url), an C(oci://) reference, or a path. It needs C(helm) on the machine that "
            "runs the playbook."
        ],
    },
    "gpu_operator_chart_repo_url": {
        "type": "str",
        "default": "https://helm.ngc.nvidia.com/nvidia",
        "description": ["Helm repository of the chart, where O(gpu_operator_chart_ref) is a name in one."],
    },
    "gpu_operator_version": {
        "type": "str",
        "default": "v26.7.2",
        "description": ["Version of the chart, where it is a reference. Versions that are known not to work on the pools are refused."],
    },
    "gpu_operator_namespace": {
        "type": "str",
        "default": "gpu-operator",
        "description": ["Namespace of the operator and all that it runs. Its pods are privileged, and the namespace is labelled for that."],
    },
    "gpu_operator_values": {
        "type": "dict",
        "default": {},
        "description": ["Values of the chart, merged over those that follow from the pools: dictionaries deep, lists replaced."],
    },
    "gpu_operator_values_checked": {
        "type": "bool",
        "default": True,
        "description": [
            "Whether keys of O(gpu_operator_values) are refused that the recorded chart does not know, which Helm would take without a word. V(false) for keys "
            "of a newer chart; known mistakes are refused anyway."
        ],
    },
    "gpu_operator_helm_binary": {
        "type": "path",
        "default": None,
        "description": ["Path of C(helm) 3, or of Helm 4 with kubernetes.core 6.4 or later. Null: the one in the PATH."],
    },
    "gpu_operator_wedge_after": {
        "type": "int",
        "default": 600,
        "description": [
            "Seconds after which a node is given up whose MIG layout is pending and whose operands are still paused for it: the operator waits 5 minutes for "
            "their pods and then leaves it like that."
        ],
    },
    "gpu_operator_wait_timeout": {
        "type": "int",
        "default": 3600,
        "description": ["Seconds to wait until the operator is ready on every node, reboots for MIG included, and until it is gone."],
    },
    "gpu_operator_wait_interval": {
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
    "gpu_nodepools_prune": {
        "type": "bool",
        "default": False,
        "description": [
            "Whether pools that are no longer in C(gpu_nodepools), and groups that a pool no longer consists of, are removed once what takes their "
            "place is there. Only what carries the collection's mark is."
        ],
    },
    "gpu_nodepools_allow_replacement": {
        "type": "bool",
        "default": False,
        "description": [
            "Whether groups that cannot become what is wanted (another AMI family, role, subnets, instance types) are replaced: a new one is made, "
            "then the old one deleted. Refused without this."
        ],
    },
    "gpu_nodepools_efa_plugin": {
        "type": "bool",
        "default": True,
        "description": [
            "Whether the device plugin of Elastic Fabric Adapters runs on the nodes of pools with C(network.efa), without which pods get no adapter. "
            "One that is there already stays as it is; false where something else brings it."
        ],
    },
    "gpu_nodepools_efa_image_registry": {
        "type": "str",
        "default": None,
        "description": [
            "Registry of its image. Null: C(602401143452.dkr.ecr.REGION.amazonaws.com), which is that of most regions; those that have to be opted "
            "in to, and other partitions, have registries of other accounts (Amazon EKS User Guide, container image registries)."
        ],
    },
    "gpu_nodepools_efa_image_repository": {
        "type": "str",
        "default": "eks/aws-efa-k8s-device-plugin",
        "description": ["Repository of its image."],
    },
    "gpu_nodepools_efa_image_tag": {
        "type": "str",
        "default": "v0.5.8",
        "description": ["Tag of its image."],
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
    "gpu_sharing_flags": {
        "type": "dict",
        "default": {},
        "description": [
            "The C(flags) block of the plugin's configuration for every pool, as in O(gpuops.eks.nvidia_device_plugin#module:configurations[].flags). "
            "Containers get their devices by environment variables unless C(plugin.deviceListStrategy) says otherwise: C([cdi-cri]) keeps them after a "
            "C(systemctl daemon-reload) and is for images whose containerd has CDI on, as those of Amazon Linux 2023 have for Kubernetes 1.32 and later."
        ],
    },
    "gpu_sharing_feature_discovery": {
        "type": "bool",
        "default": None,
        "description": [
            "Whether GPU feature discovery runs beside the plugin and labels nodes with what GPUs they have. Null: where the cluster has Node Feature "
            "Discovery's C(nodefeatures.nfd.k8s-sigs.io)."
        ],
    },
    "gpu_sharing_drain": {
        "type": "bool",
        "default": False,
        "description": [
            "Whether nodes are drained of pods with GPUs where a pool shares its GPUs in another way and that takes it (into and out of MPS, another "
            "resource, fewer shares than are taken). V(false) refuses such a change and names nodes and pods; C(--check) shows every step."
        ],
    },
    "gpu_sharing_max_unavailable": {
        "type": "int",
        "default": 1,
        "description": ["How many nodes at once are drained, or are without a device plugin while ours takes over."],
    },
    "gpu_sharing_replace": {
        "type": "bool",
        "default": False,
        "description": [
            "Whether ours takes the place of a device plugin that somebody else installed, node by node and without a restart of pods with GPUs."
        ],
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
        "description": [
            "Resource that each pod takes; a pool whose sharing has V(rename=true) advertises C(nvidia.com/gpu.shared), one with "
            "V(mig.strategy=mixed) advertises its profiles, such as C(nvidia.com/mig-1g.5gb)."
        ],
    },
    "gpu_workloads_resource_count": {
        "type": "int",
        "default": 1,
        "description": ["How many of the resource each pod takes: GPUs, or shares where GPUs are shared."],
    },
    "gpu_workloads_node_selector": {
        "type": "dict",
        "default": {},
        "description": ["Labels of the nodes that the pods may run on, such as C(gpuops.eks/nodepool) for one pool. Any node when empty."],
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
    "eks_teardown_keep_logs": {
        "type": "bool",
        "default": False,
        "description": ["Whether the control plane's log group stays."],
    },
    "eks_teardown_key_pending_window_days": {
        "type": "int",
        "default": 30,
        "description": [
            "Days, 7 to 30, after which the KMS keys are gone for good; until then they can be brought back, and volumes and snapshots with them."
        ],
    },
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
    "gpuops_plan_hash": {
        "type": "raw",
        "default": None,
        "description": [
            "The C(plan.hash) of a plan that was looked at, or several of several clusters, in a list or in one string with commas or spaces. The playbook "
            "C(site) plans again and stops where a cluster's hash is not among them, because the inventory or the account has changed since."
        ],
    },
    "gpuops_break_lease": {
        "type": "bool",
        "default": False,
        "description": [
            "Whether to take the cluster's lease although another run holds it. Only where that run is certainly dead: two runs at once destroy each "
            "other's work."
        ],
    },
    "gpuops_destroy_confirm": {
        "type": "raw",
        "default": [],
        "description": [
            "Required by the playbook C(destroy): exactly the clusters of its hosts, each as C(ACCOUNT/REGION/NAME), in a list or in one string with commas "
            "or spaces. A bare name is enough where the run has one host."
        ],
    },
    "gpuops_render_directory": {
        "type": "path",
        "default": None,
        "description": [
            "Directory into which the playbook C(render) writes, each cluster into one of its own by the host's name. Null: C(rendered) beside the inventory."
        ],
    },
    "gpuops_render_offline": {
        "type": "bool",
        "default": False,
        "description": ["Whether the playbook C(render) asks nothing of AWS: ids are then stand-ins, and launch templates are left out."],
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

PREFLIGHT: Options = {
    "eks_preflight_cost_limit_per_month": {
        "type": "float",
        "default": None,
        "description": ["USD a month at the pools' smallest size above which a run stops before its first write. Null: no limit."],
    },
    "eks_preflight_controller_cidrs": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": [
            "Addresses from which the playbooks reach the public endpoint; a run stops where C(eks_cluster_public_access_cidrs) would lock them out."
        ],
    },
    "eks_preflight_account_facts": {
        "type": "bool",
        "default": True,
        "description": [
            "Whether quotas, offerings, prices and service-linked roles are looked at before the first write, in playbooks that make something."
        ],
    },
}

_EVERY_POOL = {**IDENTITY, **NODEPOOLS}
ROLES: dict[str, Options] = {
    "eks_preflight": {**_EVERY_POOL, **PREFLIGHT},
    "eks_network": {**IDENTITY, **NETWORK},
    "eks_cluster": {**IDENTITY, **CLUSTER},
    "eks_autoscaling": {**_EVERY_POOL, **AUTOSCALING},
    "gpu_nodepools": {**_EVERY_POOL, **POOLS_ROLE},
    "gpu_sharing": {**_EVERY_POOL, **SHARING},
    "gpu_operator": {**_EVERY_POOL, **GPU_OPERATOR},
    "gpu_workloads": {**_EVERY_POOL, **WORKLOADS},
    "gpu_capacity_report": IDENTITY,
    "gpu_verify": {**_EVERY_POOL, **VERIFY},
    "eks_teardown": {**_EVERY_POOL, **TEARDOWN},
}

SUMMARIES: dict[str, str] = {
    "eks_preflight": "Checks the whole inventory, the credentials, the account and the region before anything is changed",
    "eks_network": "Makes the cluster's VPC with subnets, gateways, routes and security groups",
    "eks_cluster": "Makes the EKS cluster with its keys, IAM roles, access entries and add-ons",
    "eks_autoscaling": "Installs what scales the pools: Karpenter, cluster-autoscaler, the AWS Node Termination Handler",
    "gpu_nodepools": "Makes the cluster's node pools",
    "gpu_sharing": "Runs the NVIDIA device plugin, so that nodes advertise GPUs, shared as their pool says",
    "gpu_operator": "Installs NVIDIA's GPU Operator for pools whose GPUs it shares, and waits until every node is as it should be",
    "gpu_workloads": "Runs a TensorFlow Deployment of which every pod takes a GPU or a share of one",
    "gpu_capacity_report": "Reports GPUs and shares: there, taken, free",
    "gpu_verify": "Fails with all findings at once where cluster, nodes or workload are not what they should be",
    "eks_teardown": "Deletes what the other roles made, in a safe order, and proves that nothing is left",
}

# What roles set for later roles and for the end of a playbook. Not for inventories.
FACTS = frozenset(
    {
        "eks_autoscaling_absent_plan",
        "eks_autoscaling_diff",
        "eks_autoscaling_plan",
        "eks_autoscaling_rendered",
        "eks_cluster_addons_result",
        "eks_cluster_diff",
        "eks_cluster_node_policies",
        "eks_cluster_node_role",
        "eks_cluster_plan",
        "eks_cluster_result",
        "eks_cluster_role",
        "eks_cluster_secrets_key",
        "eks_cluster_secrets_key_result",
        "eks_cluster_volumes_key",
        "eks_cluster_volumes_key_result",
        "eks_network_result",
        "eks_preflight_check_mode",
        "eks_preflight_lease",
        "eks_preflight_lease_due",
        "eks_preflight_owner",
        "eks_preflight_partition",
        "eks_preflight_result",
        "eks_teardown_left",
        "eks_teardown_plan",
        "gpu_capacity_report_result",
        "gpu_nodepools_rendered",
        "gpu_operator_absent_plan",
        "gpu_operator_diff",
        "gpu_operator_plan",
        "gpu_operator_result",
        "gpu_nodepools_efa_plan",
        "gpu_nodepools_result",
        "gpu_sharing_rendered",
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
