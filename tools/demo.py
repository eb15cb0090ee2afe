# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearse the whole job on a lab: make a cluster with shared GPUs, report the capacity, and run again without a change.

It ends with 1 where the GPUs are not shared as the inventory says, or where the second run changes something.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from cache import ROOT
from surroundings import BIN, checkout, without_aws

STARTED = time.monotonic()
INVENTORY = "inventories/lab"
CLUSTER = "demo"
OWNER_TAG = "gpuops.eks/owner"
RECAP = re.compile(r"^\S+\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")

NEXT = """
Try next, in the checkout:
  make lab-up                                            says where the lab is; `python -m lab status` what runs in it
  ansible-playbook playbooks/verify.yml  -i inventories/lab
  ansible-playbook playbooks/plan.yml    -i inventories/lab   after a change in inventories/lab/group_vars/eks_clusters.yml
  ansible-playbook playbooks/destroy.yml -i inventories/lab -e gpuops_destroy_confirm=demo
  make demo-down                                         stops the lab and removes all that it made
The programs are in .cache/venv/bin; `eval "$(.cache/venv/bin/python -m lab env --kubeconfig demo)"` makes kubectl and the AWS clients use the lab.
"""


class Failed(Exception):
    """The demo cannot go on, or did not show what it is for; the message says what happened."""


class Played(NamedTuple):
    """What a playbook run left: how many tasks changed something, the seconds, and its output."""

    changed: int
    seconds: float
    lines: list[str]


class Made(NamedTuple):
    """Something that the first run made."""

    kind: str
    name: str
    detail: str


def say(text: str) -> None:
    """Print a headline with the seconds since the start."""
    print(f"\ndemo: {time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def environment() -> dict[str, str]:
    """Return the variables for everything that is started: nothing in them leads to an AWS account."""
    shown = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml", "ANSIBLE_DEPRECATION_WARNINGS": "false", "PYTHONUNBUFFERED": "1"}
    return {**without_aws(checkout(os.environ)), **shown}


def lab(*arguments: str) -> None:
    """Run a command of the lab."""
    command = [sys.executable, "-m", "lab", *arguments]
    code = subprocess.run(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, check=False).returncode
    if code:
        raise Failed(f"`python -m lab {' '.join(arguments)}` ended with {code}.")


def play(playbook: str) -> Played:
    """Run a playbook for the lab's inventory, with its output shown."""
    began = time.monotonic()
    command = [str(BIN / "ansible-playbook"), "-i", INVENTORY, playbook]
    print(f"+ ansible-playbook {' '.join(command[1:])}", flush=True)
    lines = []
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
    if process.returncode:
        raise Failed(f"{playbook} ended with {process.returncode}.")
    recaps = [match for line in lines if (match := RECAP.match(line))]
    if not recaps:
        raise Failed(f"{playbook} ran for no cluster.")
    return Played(sum(int(match[1]) for match in recaps), time.monotonic() - began, lines)


def about_lab() -> dict[str, str]:
    """Return what the running lab says of itself."""
    state = Path(os.environ.get("GPUOPS_LAB_STATE") or ROOT / ".lab").expanduser()
    about: dict[str, str] = json.loads((state / "lab.json").read_text(encoding="utf-8"))
    return about


def made(about: dict[str, str]) -> Iterator[Made]:
    """Yield what the account holds of the cluster, as AWS describes it."""

    def client(service: str) -> Any:
        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=about["region"],
            endpoint_url=about["endpoint"],
            aws_access_key_id=about["access_key_id"],
            aws_secret_access_key=about["secret_access_key"],
        )

    ec2, eks = client("ec2"), client("eks")
    cluster = eks.describe_cluster(name=CLUSTER)["cluster"]
    owned = [{"Name": f"tag:{OWNER_TAG}", "Values": [cluster["arn"]]}]
    for vpc in ec2.describe_vpcs(Filters=owned)["Vpcs"]:
        yield Made("VPC", vpc["VpcId"], vpc["CidrBlock"])
    for subnet in ec2.describe_subnets(Filters=owned)["Subnets"]:
        yield Made("subnet", subnet["SubnetId"], f"{subnet['CidrBlock']} in {subnet['AvailabilityZone']}")
    for gateway in ec2.describe_nat_gateways(Filters=owned)["NatGateways"]:
        yield Made("NAT gateway", gateway["NatGatewayId"], gateway["State"])
    for role in client("iam").list_roles()["Roles"]:
        if role["RoleName"].startswith(f"{CLUSTER}-{about['region']}-"):
            yield Made("IAM role", role["RoleName"], role["Arn"])
    yield Made("EKS cluster", cluster["name"], f"Kubernetes {cluster['version']}, {cluster['status']}, {cluster['endpoint']}")
    for name in eks.list_nodegroups(clusterName=CLUSTER)["nodegroups"]:
        group = eks.describe_nodegroup(clusterName=CLUSTER, nodegroupName=name)["nodegroup"]
        yield Made("node group", name, f"{group['scalingConfig']['desiredSize']} x {', '.join(group['instanceTypes'])}, {group['amiType']}")
    running = [*owned, {"Name": "instance-state-name", "Values": ["running"]}]
    for reservation in ec2.describe_instances(Filters=running)["Reservations"]:
        for instance in reservation["Instances"]:
            yield Made("instance", instance["InstanceId"], f"{instance['InstanceType']}, {instance['PrivateDnsName']}")


def show(rows: list[Made]) -> None:
    """Print a table of what was made."""
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for row in rows:
        print(f"  {row.kind:<{widths[0]}}  {row.name:<{widths[1]}}  {row.detail}")


def shares(lines: list[str]) -> str:
    """Return the capacity report's line of the GPU node; Failed where it does not show ten shares, two used and eight free."""
    nodes = [line.strip().removeprefix("- ") for line in lines if " g5.2xlarge " in line and "nvidia.com/gpu" in line]
    if len(nodes) != 1 or nodes[0].split()[-3:] != ["10", "2", "8"]:
        raise Failed(f"the capacity report does not show one GPU node with 10 shares, 2 used and 8 free, but {nodes or 'none'}.")
    return nodes[0]


def demo() -> None:
    """The demo, from an empty lab to a second run without a change."""
    say("a lab: simulated AWS, real Kubernetes, on this machine alone")
    lab("up")
    say("the first run: network, IAM roles, cluster, node pools, shared GPUs, a TensorFlow deployment")
    first = play("site.yml")
    say("what was made")
    show(list(made(about_lab())))
    say("the capacity")
    node = shares(play("playbooks/capacity.yml").lines)
    say("the second run: nothing is left to do")
    second = play("site.yml")
    if second.changed:
        raise Failed(f"the second run changed {second.changed} tasks, and should have changed none.")
    say("done")
    print(f"  first run   {first.seconds:6.1f} s  changed={first.changed}")
    print(f"  second run  {second.seconds:6.1f} s  changed={second.changed}")
    print(f"  GPU node    nvidia.com/gpu: 10, 2 used, 8 free\n              {node}")
    print(NEXT)


def main() -> int:
    """Run the demo, or with ``--down`` take its lab away; 1 where it did not show what it is for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--down", action="store_true", help="stop the lab and remove all that it made")
    try:
        if parser.parse_args().down:
            lab("down")
        else:
            demo()
    except Failed as error:
        say(f"stopped: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
