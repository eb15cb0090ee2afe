# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast and how large: the job on a lab, beside the floor that Ansible itself sets, measured in the same run.

Machines are noisy: quote the ratios, not the seconds.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench import plugin, pools  # noqa: E402
from tests.e2e.rehearsal import INVENTORIES, Rehearsal  # noqa: E402

REPEATS = 10
FLOOR = """
- hosts: eks_clusters
  connection: local
  gather_facts: false
  vars: {{ansible_python_interpreter: "{{{{ ansible_playbook_python }}}}"}}
  module_defaults:
    group/gpuops.eks.aws:
      region: "{{{{ eks_cluster_region }}}}"
      access_key: "{{{{ gpuops_aws_access_key }}}}"
      secret_key: "{{{{ gpuops_aws_secret_key }}}}"
      endpoint_url: "{{{{ gpuops_aws_endpoint_url }}}}"
  tasks:
{tasks}
"""
TASKS = {"ping": "ansible.builtin.ping:", "boto3": "amazon.aws.aws_caller_info:"}


class Table:
    """Rows of what was measured."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str, str]] = []

    def add(self, what: str, value: str, note: str = "") -> None:
        self._rows.append((what, value, note))
        print(f"{what:<44} {value:>10}  {note}", flush=True)


def seconds(action: t.Callable[[], object]) -> float:
    begin = time.monotonic()
    action()
    return time.monotonic() - begin


def playbook(rehearsal: Rehearsal, path: Path) -> pools.Tasks:
    """Run a playbook; returns the tasks that it ran and the seconds that each took."""
    environment = rehearsal.environment() | {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.json"}
    done = subprocess.run(
        ["ansible-playbook", str(path), "-i", str(INVENTORIES / "lab"), "-e", f"eks_cluster_name={rehearsal.cluster}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{path.name} failed:\n{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return [(task["task"]["name"], _seconds(task["task"]["duration"])) for play in report["plays"] for task in play["tasks"]]


def _seconds(duration: dict[str, str]) -> float:
    start, end = (datetime.datetime.fromisoformat(duration[name].rstrip("Z")) for name in ("start", "end"))
    return (end - start).total_seconds()


def floor(rehearsal: Rehearsal, directory: Path) -> dict[str, float]:
    """Seconds of ``empty`` (a play without modules) and of one more task of each kind."""
    found: dict[str, float] = {}
    for name, count in (("empty", 0), *((name, REPEATS) for name in TASKS)):
        path = directory / f"floor-{name}.yml"
        tasks = "".join(f"    - {TASKS[name]}\n" for _unused in range(count)) if count else "    - ansible.builtin.debug:\n"
        path.write_text(FLOOR.format(tasks=tasks))
        found[name] = seconds(lambda path=path: playbook(rehearsal, path))  # type: ignore[misc]
    return {"empty": found["empty"], **{name: (found[name] - found["empty"]) / REPEATS for name in TASKS}}


def cluster_ready(rehearsal: Rehearsal) -> float:
    """Seconds from CreateCluster until DescribeCluster says ACTIVE, with network and role there."""
    eks, ec2, iam = rehearsal.client("eks"), rehearsal.client("ec2"), rehearsal.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName="bench", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:3]]
    begin = time.monotonic()
    eks.create_cluster(name="bench", roleArn=role["Role"]["Arn"], resourcesVpcConfig={"subnetIds": subnets})
    while eks.describe_cluster(name="bench")["cluster"]["status"] != "ACTIVE":
        time.sleep(0.1)
    ready = time.monotonic() - begin
    eks.delete_cluster(name="bench")
    with contextlib.suppress(eks.exceptions.ResourceNotFoundException):
        while eks.describe_cluster(name="bench"):
            time.sleep(0.1)
    return ready


ADDONS = ("aws-fsx-csi-driver", "aws-mountpoint-s3-csi-driver", "eks-node-monitoring-agent", "metrics-server")
SLOW_FACTOR = 6.0  # simulated seconds for each real one, so that an add-on takes five


def addons(rehearsal: Rehearsal, directory: Path, *, together: bool) -> float:
    """Seconds to install four add-ons, by one task or by one for each; they are gone afterwards."""
    path = directory / "addons.yml"
    groups = [list(ADDONS)] if together else [[name] for name in ADDONS]

    def tasks(state: str) -> str:
        form = "    - gpuops.eks.eks_addon: {{cluster_name: {name}, state: {state}, wait_interval: 0.2, addons: {listed}}}\n"
        listed = [json.dumps([{"name": name} for name in group]) for group in groups]
        return "".join(form.format(name=rehearsal.cluster, state=state, listed=each) for each in listed)

    path.write_text(FLOOR.format(tasks=tasks("present")))
    taken = seconds(lambda: playbook(rehearsal, path))
    path.write_text(FLOOR.format(tasks=tasks("absent")))
    playbook(rehearsal, path)
    return taken


def side_by_side(table: Table, rehearsal: Rehearsal, directory: Path, empty: float) -> None:
    """Add-ons made side by side against one after another, without what ansible-playbook itself takes."""
    rehearsal.control("clock", factor=SLOW_FACTOR)
    together, alone = (addons(rehearsal, directory, together=way) - empty for way in (True, False))
    table.add("four add-ons, side by side", f"{together:.1f} s", f"an add-on takes {30 / SLOW_FACTOR:.0f} s to become active")
    table.add("four add-ons, one after another", f"{alone:.1f} s")
    table.add("  side by side against one after another", f"{together / alone:.2f}", "ratio, same run")


def node_pools(table: Table, rehearsal: Rehearsal, directory: Path) -> None:
    """Groups made side by side, and runs over many pools that change nothing."""
    eks = rehearsal.client("eks")
    name = eks.list_nodegroups(clusterName=rehearsal.cluster)["nodegroups"][0]
    role = eks.describe_nodegroup(clusterName=rehearsal.cluster, nodegroupName=name)["nodegroup"]["nodeRole"]
    common = {"cluster_name": rehearsal.cluster, "node_role_arn": role, "wait_interval": 0.5}

    def run(tasks: str) -> pools.Tasks:
        path = directory / "pools.yml"
        path.write_text(FLOOR.format(tasks=tasks))
        return playbook(rehearsal, path)

    rehearsal.control("clock", factor=SLOW_FACTOR)
    together, slowest, all_ = pools.side_by_side(run, common)
    table.add("twelve groups of one pool, side by side", f"{together:.1f} s", f"one after another {all_:.1f} s")
    table.add("  against the slowest one alone", f"{together / slowest:.2f}", "ratio, same run; limit 1.2")
    table.add("  against one after another", f"{together / all_:.2f}", "ratio, same run")
    for provisioner in pools.PROVISIONERS:
        twenty, one = pools.unchanged(run, common, provisioner)
        table.add(f"nothing to do, twenty pools, {provisioner}", f"{twenty:.2f} s", f"one pool {one:.2f} s")
        table.add("  against one pool", f"{twenty / one:.2f}", "ratio, same run; limit 3")


def memory(rehearsal: Rehearsal) -> float:
    return float(sum(process["rss_mib"] for process in json.loads(rehearsal.lab("status", "--json"))["processes"]))


def main() -> None:
    """Measure and print."""
    table = Table()
    planning(table)
    with tempfile.TemporaryDirectory(prefix="gpuops-bench-") as name:
        directory = Path(name)
        rehearsal = Rehearsal(directory)
        table.add("lab up", f"{seconds(lambda: rehearsal.lab('up')):.1f} s", "limit 15 s")
        try:
            measure(table, rehearsal, directory)
        finally:
            rehearsal.lab("down")


def planning(table: Table) -> None:
    """The device plugin of a large cluster, planned without one."""
    for what, taken, steps in plugin.measure():
        name = f"plugin's plan, {plugin.NODES} nodes, {plugin.CONFIGURATIONS} pools"
        table.add(name, f"{taken:.2f} s", f"limit 0.3 s; {what}, {steps} steps")


def measure(table: Table, rehearsal: Rehearsal, directory: Path) -> None:
    """Everything that needs a lab that is up."""
    table.add("EKS cluster from CreateCluster to ACTIVE", f"{cluster_ready(rehearsal):.1f} s", "limit 10 s")
    least = floor(rehearsal, directory)
    table.add("floor: ansible-playbook without a module", f"{least['empty']:.2f} s")
    table.add("floor: one ping task", f"{least['ping']:.2f} s")
    table.add("floor: one boto3 module task that reads", f"{least['boto3']:.2f} s")
    table.add("site.yml, first run", f"{seconds(lambda: playbook(rehearsal, ROOT / 'site.yml')):.1f} s")
    table.add("lab memory with one cluster", f"{memory(rehearsal):.0f} MiB", "limit 1024 MiB")
    tasks = 0

    def second() -> None:
        nonlocal tasks
        tasks = len(playbook(rehearsal, ROOT / "site.yml"))

    taken = seconds(second)
    table.add("site.yml, second run", f"{taken:.1f} s", "limit 45 s")
    table.add("  its tasks", str(tasks))
    table.add("  against the same number of ping tasks", f"{taken / (least['empty'] + tasks * least['ping']):.2f}", "ratio, same run")
    side_by_side(table, rehearsal, directory, least["empty"])
    node_pools(table, rehearsal, directory)


if __name__ == "__main__":
    main()
