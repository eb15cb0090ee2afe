# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of its own, playbooks run on it as a user would, and what both say of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import typing as t
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import ansible_runner
import boto3
import yaml

from lab import audit
from lab.aws import requestlog
from lab.kubernetes.client import Access, Kube
from lab.state import State

ROOT = Path(__file__).parents[2]
INVENTORIES = ROOT / "inventories"
INTERVALS = ("eks_network", "eks_cluster", "eks_autoscaling", "gpu_nodepools", "gpu_sharing", "gpu_workloads", "eks_teardown")
OURS = frozenset({"ec2", "eks", "autoscaling", "kms"})  # services that only our own modules change; amazon.aws changes iam
ADMINISTRATOR = "lab-admin"  # whose keys the lab's inventory has
LEASE = "ssm"  # nothing else of ours writes parameters


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one task said of one host."""

    role: str
    name: str
    action: str
    changed: bool
    failed: bool
    result: dict[str, t.Any]


@dataclass(frozen=True, kw_only=True)
class Play:
    """A finished ansible-playbook run."""

    code: int
    output: str
    tasks: tuple[Task, ...]

    @property
    def changed(self) -> list[str]:
        return [f"{task.role} : {task.name}" for task in self.tasks if task.changed]

    @property
    def plan(self) -> list[dict[str, t.Any]]:
        """The steps of our modules' plans, in order."""
        return [step for task in self.tasks for step in task.result.get("plan") or () if task.action.startswith("gpuops.eks.")]

    def last_line(self, start: str) -> str:
        """The last line of the output that begins so, whatever Ansible wraps around it."""
        found = [line.strip().strip('"').removeprefix('msg": "') for line in self.output.splitlines() if start in line]
        return found[-1] if found else ""


class Rehearsal:
    """A lab in ``directory``; ``cluster`` is the name that the playbooks are given."""

    def __init__(self, directory: Path, cluster: str = "demo") -> None:
        self.directory = directory
        self.cluster = cluster
        self.state = State(directory / "lab")
        self._runs = 0

    def environment(self) -> dict[str, str]:
        """What a user's shell would hold, without anything that names an AWS account."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ANSIBLE_"))}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "GPUOPS_LAB_STATE": str(self.state.root),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_REMOTE_TEMP": str(self.directory / "ansible"),  # the account's own home need not exist
        }

    def lab(self, *arguments: str) -> str:
        """The output of a lab command that must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "lab", *arguments], cwd=ROOT, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def about(self) -> dict[str, t.Any]:
        about = self.state.read_about()
        assert about is not None, "the lab is not up"
        return about

    def client(self, service: str) -> t.Any:
        about = self.about
        return boto3.client(  # type: ignore[call-overload]
            service,
            region_name=about["region"],
            endpoint_url=about["endpoint"],
            aws_access_key_id=about["access_key_id"],
            aws_secret_access_key=about["secret_access_key"],
        )

    def kube(self) -> Kube:
        """An administrator's client of the cluster, with a certificate of the lab's own."""
        [found] = [each for each in self.state.cluster_files() if each["name"] == self.cluster]
        pki = Path(found["directory"]) / "pki"
        return Kube(Access(found["endpoint"], pki / "ca.crt", pki / "loops.crt", pki / "loops.key"))

    def control(self, lever: str, **request: t.Any) -> dict[str, t.Any]:
        """Pull one of the lab's levers (lab/README.md) and return what it says."""
        return self._lever("POST", lever, request)

    def withdraw(self, lever: str, **request: t.Any) -> dict[str, t.Any]:
        """Take back what a lever did (DELETE)."""
        return self._lever("DELETE", lever, request)

    def _lever(self, method: str, lever: str, request: dict[str, t.Any]) -> dict[str, t.Any]:
        url = f"{self.about['endpoint']}/_lab/{lever}"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(request).encode(), method=method), timeout=10) as reply:
            found: dict[str, t.Any] = json.loads(reply.read())
        return found

    def set_consistency(self, seconds: float) -> None:
        """For so many simulated seconds after a create, reads do not show what was made."""
        self.control("consistency", seconds=seconds)

    # What the logs say

    def aws_writes(self) -> list[requestlog.Entry]:
        """Mutating calls of playbooks and tests, without those of the lease, which are no change that a user asks for.

        The cluster's controllers are roles.
        """
        return [entry for entry in self.all_writes() if entry.service != LEASE and ":user/" in entry.principal]

    def all_writes(self) -> list[requestlog.Entry]:
        return requestlog.writes(requestlog.read(self.state.request_log))

    def audit_writes(self) -> list[audit.Event]:
        logs = sorted(self.state.audit.glob(f"*-{self.cluster}.log"))
        return [event for path in logs for event in audit.writes(audit.read(path))]

    def write_count(self) -> int:
        return len(self.aws_writes()) + len(self.audit_writes())

    # Playbooks

    def play(self, playbook: str, *options: str, inventory: str = "lab", **variables: t.Any) -> Play:
        """Run a playbook with one of the project's inventories to its end; one other than the lab's is pointed at the lab by variables."""
        self._runs += 1
        private = self.directory / f"run-{self._runs}"
        private.mkdir(parents=True)
        run = ansible_runner.run(
            private_data_dir=str(private),
            playbook=str(ROOT / playbook),
            inventory=str(INVENTORIES / inventory),
            extravars={"eks_cluster_name": self.cluster, **(self.connection() if inventory != "lab" else {}), **variables},
            envvars=self.environment(),
            cmdline=" ".join(options) or None,
            quiet=True,
        )
        output = "\n".join(event.get("stdout", "") for event in run.events)
        return Play(code=run.rc, output=output, tasks=tuple(_tasks(run.events)))

    def connection(self) -> dict[str, t.Any]:
        """What points an inventory of another account at this lab, whose time runs fast."""
        about = self.about
        return {
            "gpuops_refuse": "",
            "gpuops_aws_endpoint_url": about["endpoint"],
            "gpuops_aws_access_key": about["access_key_id"],
            "gpuops_aws_secret_key": about["secret_access_key"],
            "eks_cluster_account_id": about["account"],
            "eks_cluster_region": about["region"],
            **{f"{role}_wait_interval": 0.5 for role in INTERVALS},
        }

    def interrupted_play(self, playbook: str, *, after_writes: int, seconds: float = 300, **variables: t.Any) -> bool:
        """Run a playbook and kill it, children and all, once it has made exactly so many more mutating AWS calls; False when it ended before."""
        who = f"arn:aws:iam::{self.about['account']}:user/{ADMINISTRATOR}"
        held = self.control("faults", kind="hold", except_service=LEASE, principal=who, after=after_writes)
        goal = len(self.aws_writes()) + after_writes
        try:
            return self.killed_once(playbook, lambda: len(self.aws_writes()) >= goal, seconds=seconds, **variables)
        finally:
            self.withdraw("faults", id=held["fault"]["id"])

    def killed_once(self, playbook: str, reached: t.Callable[[], bool], *, seconds: float = 300, **variables: t.Any) -> bool:
        """Run a playbook and kill it, children and all, once something is reached; False when it ended before."""
        extra = self.directory / "extra.yml"
        extra.write_text(yaml.safe_dump({"eks_cluster_name": self.cluster, **variables}))
        command = ["ansible-playbook", str(ROOT / playbook), "-i", str(INVENTORIES / "lab"), "-e", f"@{extra}"]
        with (self.directory / "interrupted.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        end = time.monotonic() + seconds
        while process.poll() is None and not reached():
            assert time.monotonic() < end, f"{playbook} did not get there in {seconds} s"
            time.sleep(0.002)
        alive = process.poll() is None
        kill_tree(process.pid)
        process.wait()
        return alive


def kill_tree(pid: int) -> None:
    """SIGKILL a process that we started and all of its descendants; Ansible's workers have sessions of their own."""
    victims = [pid]
    for victim in victims:
        try:
            os.kill(victim, signal.SIGSTOP)  # so that it starts nothing while its children are looked up
            children = Path(f"/proc/{victim}/task/{victim}/children").read_text().split()
        except (ProcessLookupError, FileNotFoundError):
            continue
        victims.extend(int(child) for child in children)
    for victim in victims:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _tasks(events: t.Iterable[dict[str, t.Any]]) -> t.Iterator[Task]:
    for event in events:
        if event["event"] in ("runner_on_ok", "runner_on_failed"):
            data = event["event_data"]
            result = data.get("res") or {}
            yield Task(
                role=data.get("role", ""),
                name=data.get("task", ""),
                action=data.get("resolved_action", data.get("task_action", "")),
                changed=bool(result.get("changed")),
                failed=event["event"] == "runner_on_failed",
                result=result,
            )
