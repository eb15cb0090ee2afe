# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster that add-ons, access entries and Pod Identity associations belong to, in scripts of AWS calls."""

from __future__ import annotations

import typing as t

from tests.wire.harness import Wire

ACCOUNT = "123456789012"
OWNER = f"arn:aws:eks:us-west-2:{ACCOUNT}:cluster/demo"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-part"
OTHER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/demo-other"


def mark(component: str) -> dict[str, str]:
    return {"gpuops.eks/owner": OWNER, "gpuops.eks/component": component}


def cluster(wire: Wire, *, status: str = "ACTIVE", mode: str = "API") -> None:
    api = {"name": "demo", "arn": OWNER, "status": status, "version": "1.34", "accessConfig": {"authenticationMode": mode}}
    wire.expect("eks:DescribeCluster", {"name": "demo"}, {"cluster": api})


def no_cluster(wire: Wire) -> None:
    wire.expect_error("eks:DescribeCluster", {"name": "demo"}, "ResourceNotFoundException", "No cluster found for name: demo.")


def caller(wire: Wire) -> None:
    wire.expect("sts:GetCallerIdentity", {}, {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/x"})


def actions(result: dict[str, t.Any]) -> list[tuple[str, str, str]]:
    return [(step["action"], step["target"], step["effect"]) for step in result["plan"]]


def paths(result: dict[str, t.Any]) -> list[str]:
    return [fault["path"] for fault in result["faults"]]
