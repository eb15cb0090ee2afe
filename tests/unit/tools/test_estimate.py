# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The estimate of inventories: from any of their files, without credentials, and what stops it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import estimate
import pytest
import yaml

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "tools" / "estimate.py"
VARIABLES = """\
eks_cluster_name: {name}
eks_cluster_region: "{{{{ where }}}}"
where: us-east-1
eks_cluster_secrets_encryption: false
eks_cluster_volumes_encryption: false
eks_network_nat: per_zone
eks_network_zones: [us-east-1a, us-east-1b]
eks_network_interface_endpoints: [ecr.api, ecr.dkr]
gpu_nodepools:
  - name: gpu
    provisioner: managed_node_group
    instances:
      types: ["{{{{ size | default('{size}') }}}}"]
    scaling: {{min: 1, max: 2}}
    disk: {{size_gib: 100, throughput: 125}}
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program without anything that names an AWS account."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    directory = tmp_path / "mine"
    (directory / "host_vars").mkdir(parents=True)
    (directory / "hosts.yml").write_text("eks_clusters:\n  hosts:\n    first:\n    second:\n", encoding="utf-8")
    for name, size in (("first", "g5.2xlarge"), ("second", "g6.xlarge")):
        (directory / "host_vars" / f"{name}.yml").write_text(VARIABLES.format(name=name, size=size), encoding="utf-8")
    return directory


def test_every_cluster_adds_up(inventory: Path) -> None:
    done = run(str(inventory))
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    first = lines[: lines.index(f"second ({inventory}): us-east-1")]
    assert first == [
        f"first ({inventory}): us-east-1",
        "",
        "what unit price smallest per month largest per month",
        "control plane, standard support hour 0.1 1 73.00 1 73.00",
        "NAT gateways hour 0.045 2 65.70 2 65.70",
        "public IPv4 addresses hour 0.005 2 7.30 2 7.30",
        "interface endpoints, one per zone hour 0.01 4 29.20 4 29.20",
        "pool gpu: g5.2xlarge, on_demand hour 1.212 1 884.76 2 1769.52",
        "pool gpu: disks, gp3 GiB-month 0.08 100 8.00 200 16.00",
        "total in USD 1067.96 1960.72",
        "",
        *first[-3:],
    ]
    assert first[-3].startswith("On-Demand prices of ")
    assert "pool gpu: g6.xlarge, on_demand hour 0.8048 1 587.50 2 1175.01" in lines


@pytest.mark.parametrize("name", ["lab", "time_slicing"])
def test_inventories_of_the_checkout_have_an_estimate(name: str) -> None:
    done = run(str(ROOT / "inventories" / name))
    assert done.returncode == 0, done.stderr
    assert "No prices of instances are shipped for us-west-2" in done.stdout
    assert re.search(r"total in USD +at least ", done.stdout)


def test_prices_of_another_region_give_an_idea() -> None:
    done = run("--region", "us-east-1", str(ROOT / "inventories" / "mps_private" / "group_vars" / "eks_clusters.yml"))
    assert done.returncode == 0, done.stderr
    assert "us-west-2, with prices of us-east-1" in done.stdout
    assert "at least" not in done.stdout


def test_several_files_of_one_inventory_are_one_estimate(inventory: Path) -> None:
    done = run(str(inventory / "hosts.yml"), str(inventory / "host_vars" / "first.yml"))
    assert done.stdout.count("total in USD") == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("group_vars/all.yml", "."),
        ("group_vars/all/pools.yml", "."),
        ("host_vars/x.yml", "."),
        ("hosts.yml", "."),
        ("other/hosts.yml", "other/hosts.yml"),
        (".", "."),
    ],
)
def test_inventory_of_a_file(tmp_path: Path, given: str, expected: str) -> None:
    for name in ("group_vars/all", "host_vars", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "hosts.yml").touch()
    assert estimate.inventory_of(tmp_path / given) == tmp_path / expected


def test_faults_of_pools_stop_it(inventory: Path) -> None:
    (inventory / "host_vars" / "first.yml").write_text(VARIABLES.format(name="first", size="m5.large"), encoding="utf-8")
    done = run(str(inventory))
    assert (done.returncode, done.stdout) == (1, "")
    assert "gpu_nodepools[0].instances.types[0]" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "is not there"),
        ("all:\n  hosts:\n    a:\n", "no host has eks_cluster_name"),
        ("all: {hosts: {a: {eks_cluster_name: '{{ b }}'}}}", "b"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "hosts.yml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    done = run(str(path))
    assert done.returncode == 1
    assert done.stderr.startswith("estimate: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_hook_runs_the_program_on_files_of_inventories() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["id"] == "gpuops-estimate"
    assert os.access(ROOT / hook["entry"], os.X_OK)
    wanted = ["inventories/a/group_vars/x.yml", "group_vars/all/pools.yaml", "a/host_vars/b.yml", "a/hosts.yml"]
    others = ["playbooks/site.yml", "roles/x/vars/main.yml", "a/my_hosts.txt", "docs/group_vars.md"]
    assert [path for path in [*wanted, *others] if re.search(hook["files"], path)] == wanted
