# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""A security group of a network, which lets IPv4 networks reach port 443. Pure."""

from __future__ import annotations

import typing as t

from ansible_collections.gpuops.eks.plugins.module_utils._model.network import API_PORT, SecurityGroup
from ansible_collections.gpuops.eks.plugins.module_utils._model.ownership import tag_specifications
from ansible_collections.gpuops.eks.plugins.module_utils._plan.network_target import Target, label, tags_of
from ansible_collections.gpuops.eks.plugins.module_utils._plan.steps import Step


def security_group(
    target: Target,
    group: SecurityGroup | None,
    group_id: str,
    component: str,
    *,
    name: str,
    description: str,
    cidrs: frozenset[str],
    field: str,
) -> list[Step]:
    """The calls that make the group and let exactly ``cidrs`` in; ``field`` is what plans call them."""
    steps = []
    if group is None:
        steps.append(
            Step(
                action="ec2:CreateSecurityGroup",
                target=group_id,
                effect="create",
                fields=("group_name", "description", "tags"),
                request={
                    "GroupName": label(target.owner, name),
                    "Description": description,
                    "VpcId": target.vpc_id,
                    "TagSpecifications": tag_specifications("security-group", tags_of(target, component, (name,))),
                },
                binds={group_id: "GroupId"},
            )
        )
    there = group.api_cidrs if group else frozenset()
    steps += _ingress("ec2:AuthorizeSecurityGroupIngress", group_id, cidrs - there, field)
    steps += _ingress("ec2:RevokeSecurityGroupIngress", group_id, there - cidrs, field)
    return steps


def _ingress(action: str, group_id: str, cidrs: t.Collection[str], field: str) -> list[Step]:
    if not cidrs:
        return []
    permission = {"IpProtocol": "tcp", "FromPort": API_PORT, "ToPort": API_PORT, "IpRanges": [{"CidrIp": cidr} for cidr in sorted(cidrs)]}
    request = {"GroupId": group_id, "IpPermissions": [permission]}
    return [Step(action=action, target=group_id, effect="update", fields=(field,), request=request)]
