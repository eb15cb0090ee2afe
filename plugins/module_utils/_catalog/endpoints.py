# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which services the nodes and add-ons of a cluster call that has no way out of its VPC. Pure."""

from __future__ import annotations

import typing as t

# Source: Amazon EKS user guide, "Deploy private clusters with limited internet access", which knows ec2, ecr, s3, sts, logs,
# elasticloadbalancing and eks-auth; the others are the endpoints that the components name themselves: eks (node bootstrap, controllers),
# monitoring (CloudWatch agent), ssm, ssmmessages, ec2messages (Session Manager), autoscaling (cluster-autoscaler), sqs (Karpenter), kms
# (EBS CSI driver). S3 is reached by a gateway endpoint.
PRIVATE_CLUSTER: tuple[str, ...] = (
    "autoscaling",
    "ec2",
    "ec2messages",
    "ecr.api",
    "ecr.dkr",
    "eks",
    "eks-auth",
    "elasticloadbalancing",
    "kms",
    "logs",
    "monitoring",
    "sqs",
    "ssm",
    "ssmmessages",
    "sts",
)


def private_endpoints(more: t.Iterable[str] = ()) -> list[str]:
    """Those services and ``more``, each once, in order."""
    return sorted({*PRIVATE_CLUSTER, *more})
