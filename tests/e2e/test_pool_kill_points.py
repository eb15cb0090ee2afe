# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that make a pool are killed after every write: the next takes up what is there, the end is that of an undisturbed run, nothing is made twice.

Of Auto Scaling groups and managed node groups every call of AWS is such a point, exactly; of Karpenter's pools every write of Kubernetes, after
which the kill comes as soon as the audit log has it.
"""

from __future__ import annotations

import collections
import datetime
import subprocess
import typing as t
from pathlib import Path

import pytest

from lab import audit
from tests.e2e.endstate import end_state, owned
from tests.e2e.rehearsal import ROOT, Rehearsal
from tests.e2e.test_pools import GENERAL, PROVISIONERS, pool_name

STALE_SECONDS = 120  # simulated: two real ones
MOST_RUNS = 60
SECONDS = 900  # for a run, on a machine that has other work
PLAYBOOK = "tests/e2e/playbooks/pools.yml"
TABLE = ROOT / "docs" / "soak-pool-kill-points.md"
MADE = ("Create", "Attach", "Associate", "AddRole")
KINDS = {
    "nodepools": "/apis/karpenter.sh/v1/nodepools",
    "ec2nodeclasses": "/apis/karpenter.k8s.aws/v1/ec2nodeclasses",
    "nodeoverlays": "/apis/karpenter.sh/v1alpha1/nodeoverlays",
}
Json = dict[str, t.Any]
Rows = list[tuple[str, str]]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Rehearsal]:
    """A cluster with Karpenter, and a pool for it to run on."""
    made = Rehearsal(tmp_path_factory.mktemp("kill-points"))
    made.lab("up")
    try:
        shared: Json = {"gpu_workloads_state": "absent", "eks_autoscaling_karpenter_enabled": True, "eks_autoscaling_karpenter_replicas": 1}
        play = made.play("site.yml", gpu_nodepools=[GENERAL], **shared)
        assert play.code == 0, play.output[-6000:]
        yield made
    finally:
        made.lab("down")


@pytest.fixture(scope="module")
def table() -> t.Iterator[dict[str, tuple[int, Rows]]]:
    """(writes of an undisturbed run, what was killed after what) for each provisioner; written once there are all."""
    found: dict[str, tuple[int, Rows]] = {}
    yield found
    if set(found) == set(PROVISIONERS):
        write_table(found)


def pool(provisioner: str) -> Json:
    scaling = {"max": 3} if provisioner == "karpenter" else {"min": 1, "max": 3}
    return {
        "name": pool_name(provisioner),
        "provisioner": provisioner,
        "instances": {"types": ["g5.2xlarge"]},
        "zones": ["us-west-2a", "us-west-2b"],
        "scaling": scaling,
        "sharing": {"strategy": "time_slicing", "replicas": 10},
    }


def variables(rehearsal: Rehearsal, pools: t.Sequence[Json]) -> Json:
    """These pools and no others besides the general one, with its role, which the cluster lets in."""
    group = f"{GENERAL['name']}-all-0gpu-on-demand"
    role = rehearsal.client("eks").describe_nodegroup(clusterName=rehearsal.cluster, nodegroupName=group)["nodegroup"]["nodeRole"]
    return {"gpu_nodepools": [GENERAL, *pools], "gpu_nodepools_node_role_arn": role, "gpu_nodepools_prune": True}


def converge(rehearsal: Rehearsal, pools: t.Sequence[Json]) -> None:
    play = rehearsal.play(PLAYBOOK, **variables(rehearsal, pools))
    assert play.code == 0, play.output[-6000:]


@pytest.mark.soak
@pytest.mark.parametrize("provisioner", PROVISIONERS)
def test_killed_after_every_write_while_a_pool_is_made(platform: Rehearsal, table: dict[str, tuple[int, Rows]], provisioner: str) -> None:
    """Each run takes up what the killed one before left, makes one more write, and is killed."""
    log = log_of(platform, provisioner)
    before = state(platform)
    converge(platform, [pool(provisioner)])
    undisturbed, wanted = log.writes(), state(platform)
    assert wanted != before
    converge(platform, [])
    assert state(platform) == before, "what was made for the pool goes with it"
    log = log_of(platform, provisioner)
    rows = killed_again_and_again(platform, log, pool(provisioner))
    converge(platform, [pool(provisioner)])
    assert state(platform) == wanted
    assert made(log.writes()) == made(undisturbed), "nothing twice"
    assert rows
    table[provisioner] = (len(undisturbed), rows)
    converge(platform, [])


def killed_again_and_again(rehearsal: Rehearsal, log: Calls | Objects, wish: Json) -> Rows:
    """How many writes there were at each kill, and the last of them, until a run comes to its end."""
    rows: Rows = []
    given = variables(rehearsal, [wish])
    rehearsal.set_consistency(STALE_SECONDS)
    try:
        while log.killed(given):
            rows.append((str(len(log.writes())), log.writes()[-1]))
            assert len(rows) <= MOST_RUNS, "the runs do not come to an end"
    finally:
        rehearsal.set_consistency(0)
    return rows


def made(writes: t.Sequence[str]) -> collections.Counter[str]:
    """What was made, by how often."""
    return collections.Counter(write for write in writes if write.split(":")[-1].startswith((*MADE, "create ")))


class Calls:
    """What playbooks changed by AWS since this was made."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        self._begin = len(rehearsal.aws_writes())

    def writes(self) -> list[str]:
        """Without what the lab held back."""
        found = self._rehearsal.aws_writes()[self._begin :]
        return [f"{entry.service}:{entry.operation}" for entry in found if not entry.error]

    def killed(self, variables: Json) -> bool:
        return self._rehearsal.interrupted_play(PLAYBOOK, after_writes=1, seconds=SECONDS, **variables)


class Objects:
    """What playbooks changed in Kubernetes since this was made."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = rehearsal
        [self._path] = rehearsal.state.audit.glob(f"*-{rehearsal.cluster}.log")
        self._at, self._found = self._path.stat().st_size, list[str]()

    def writes(self) -> list[str]:
        self._read()
        return list(self._found)

    def killed(self, variables: Json) -> bool:
        goal = len(self.writes()) + 1
        return self._rehearsal.killed_once(PLAYBOOK, lambda: len(self.writes()) >= goal, seconds=SECONDS, **variables)

    def _read(self) -> None:
        """What was added since the last look, whole lines of it."""
        text = _tail(self._path, self._at)
        self._at += len(text)
        for event in audit.writes(audit.parse(text.decode())):
            if event.code < 300:
                self._found.append(f"{event.verb} {event.resource} {event.namespace}/{event.name}".replace(" /", " "))


def _tail(path: Path, start: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        text = stream.read()
    return text[: text.rfind(b"\n") + 1]


def log_of(rehearsal: Rehearsal, provisioner: str) -> Calls | Objects:
    return Objects(rehearsal) if provisioner == "karpenter" else Calls(rehearsal)


def state(rehearsal: Rehearsal) -> Json:
    """What the account and the cluster hold, without ids and times, and what pools consist of besides.

    Karpenter's launch templates come and go as it likes.
    """
    autoscaling, eks, iam = (rehearsal.client(name) for name in ("autoscaling", "eks", "iam"))
    groups = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"]
    profiles = [profile for page in iam.get_paginator("list_instance_profiles").paginate() for profile in page["InstanceProfiles"]]
    found = end_state(rehearsal)
    del found["launch_templates"], found["keys"]  # EC2 makes a key of its own for the first volume that is encrypted
    return {
        **found,
        "groups": sorted(map(group_state, groups)),
        "profiles": sorted(map(profile_state, profiles)),
        "templates": templates(rehearsal),
        "nodes": sorted(node_state(node) for node in rehearsal.kube().call("GET", "/api/v1/nodes")["items"]),
        "karpenter": {kind: objects(rehearsal, path) for kind, path in KINDS.items()},
        "entries": len(eks.list_access_entries(clusterName=rehearsal.cluster)["accessEntries"]),
    }


def group_state(group: Json) -> tuple[str, ...]:
    """EKS's own groups have a name with a random part."""
    tags = {tag["Key"]: tag["Value"] for tag in group["Tags"]}
    name = tags.get("eks:nodegroup-name", group["AutoScalingGroupName"])
    sizes = [str(group[key]) for key in ("MinSize", "MaxSize", "DesiredCapacity")]
    suspended = sorted(process["ProcessName"] for process in group["SuspendedProcesses"])
    return (name, *sizes, *group["AvailabilityZones"], *suspended, *(f"{key}={tags[key]}" for key in sorted(tags)))


def profile_state(profile: Json) -> tuple[str, ...]:
    """Karpenter's has the object's id in its name, EKS's a random part."""
    name = "Karpenter's" if profile["Path"].startswith("/karpenter/") else profile["InstanceProfileName"]
    return ("EKS's" if name.startswith("eks-") else name, *(role["RoleName"] for role in profile["Roles"]))


def templates(rehearsal: Rehearsal) -> list[tuple[str, int]]:
    found = rehearsal.client("ec2").describe_launch_templates(Filters=owned(rehearsal))["LaunchTemplates"]
    ours = [template for template in found if not template["LaunchTemplateName"].startswith("karpenter.k8s.aws/")]
    return sorted((template["LaunchTemplateName"], template["LatestVersionNumber"]) for template in ours)


def node_state(node: Json) -> tuple[str, ...]:
    labels = node["metadata"]["labels"]
    return tuple(labels.get(key, "") for key in ("gpuops.eks/nodepool", "topology.kubernetes.io/zone", "node.kubernetes.io/instance-type"))


def objects(rehearsal: Rehearsal, path: str) -> list[tuple[str, str]]:
    return sorted((item["metadata"]["name"], str(item["spec"])) for item in rehearsal.kube().call("GET", path)["items"])


def write_table(found: dict[str, tuple[int, Rows]]) -> None:
    """What was killed when; committed with the commit that it was measured at."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    lines = [
        "# Killed after every write while a pool is made",
        "",
        f"{datetime.date.today().isoformat()}, commit {commit}: role `gpu_nodepools` on the lab with a pool that the cluster did not have,",
        "of each provisioner in turn, "
        f"{STALE_SECONDS} simulated seconds of stale reads after every create. Each run was killed (SIGKILL, with all of its processes) after its first",
        "write, and the next took up what it had left; the end state was that of an undisturbed run, nothing was made twice, and nothing was left once",
        "the pool was taken away. Writes are calls of AWS, and of Karpenter's pools those of Kubernetes.",
    ]
    for provisioner in PROVISIONERS:
        undisturbed, rows = found[provisioner]
        lines += ["", f"## {provisioner}", "", f"An undisturbed run makes {undisturbed} writes.", ""]
        lines += ["| writes so far | killed after |", "|---|---|", *(f"| {number} | `{write}` |" for number, write in rows)]
    TABLE.write_text("\n".join([*lines, ""]), encoding="utf-8")
