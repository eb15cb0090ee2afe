# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a playbook refuses, and when: form before any call, facts of the account after reads only; each in words that say what to do."""

from __future__ import annotations

import typing as t

import pytest

from lab.aws import requestlog
from tests.e2e.rehearsal import Play, Rehearsal

POOL: dict[str, t.Any] = {
    "name": "gpu",
    "provisioner": "managed_node_group",
    "instances": {"types": ["g5.2xlarge"]},
    "zones": ["us-west-2a"],
    "scaling": {"min": 0, "max": 1},
}


def calls(rehearsal: Rehearsal) -> int:
    return len(requestlog.read(rehearsal.state.request_log))


def refused(play: Play) -> str:
    """The message of the task that failed; a traceback is not how a refusal looks."""
    assert play.code != 0, play.output[-3000:]
    assert "Traceback" not in play.output
    return "\n".join(str(task.result.get("msg", "")) for task in play.tasks if task.failed)


def test_every_fault_of_the_inventory_at_once_and_no_call(rehearsal: Rehearsal) -> None:
    before = calls(rehearsal)
    pools = [
        {**POOL, "instances": {"types": ["not a type"]}},
        {**POOL, "name": "cpu", "instances": {"types": ["m5.large"]}},
        {**POOL, "name": "one", "sharing": {"strategy": "time_slicing", "replicas": 1}},
        {**POOL, "name": "zero", "sharing": {"strategy": "time_slicing", "replicas": 0}},
        {**POOL, "name": "ten", "sharing": {"strategy": "time_slicing", "replicas": "ten"}},
        {**POOL, "name": "taint", "taints": [{"key": "k", "value": "v", "effect": "Sometimes"}]},
        {**POOL, "name": "label", "labels": {"a b": "c"}},
        {**POOL, "name": "most", "scaling": {"min": 3, "max": 2}},
        {**POOL, "name": "typo", "zonez": ["us-west-2a"]},
    ]
    message = refused(rehearsal.play("site.yml", gpu_nodepools=pools, eks_network_nat="some", gpu_workloads_replicas="many"))
    for path in (
        "gpu_nodepools[0].instances.types[0]",
        "gpu_nodepools[1].instances.types[0]",
        "gpu_nodepools[2].sharing.replicas",
        "gpu_nodepools[3].sharing.replicas",
        "gpu_nodepools[4].sharing.replicas",
        "gpu_nodepools[5].taints[0].effect",
        "gpu_nodepools[6].labels",
        "gpu_nodepools[7].scaling",
        "gpu_nodepools[8].zonez",
        "eks_network_nat",
        "gpu_workloads_replicas",
    ):
        assert path in message, message
    assert calls(rehearsal) == before


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"gpuops_aws_secret_key": "not-the-secret-of-that-key-0000000000000"}, "check the credentials"),
        ({"gpuops_aws_access_key": "AKIANOBODY0000000000"}, "check the credentials"),
        ({"gpuops_aws_access_key": "", "gpuops_aws_secret_key": ""}, "check the credentials"),
        ({"eks_cluster_account_id": "999999999999"}, "take other credentials or another inventory"),
        ({"gpuops_aws_endpoint_url": "http://127.0.0.1:9"}, "the way to the service"),
    ],
    ids=["wrong secret", "unknown key", "no credentials", "wrong account", "nobody answers"],
)
def test_whose_account_it_is_comes_first(rehearsal: Rehearsal, variables: dict[str, str], words: str) -> None:
    before = rehearsal.write_count()
    assert words in refused(rehearsal.play("site.yml", **variables))
    assert rehearsal.write_count() == before


def test_facts_of_the_account_are_found_before_the_first_write(rehearsal: Rehearsal) -> None:
    pools = [{**POOL, "instances": {"types": ["g5.99xlarge"]}}]
    message = refused(rehearsal.play("site.yml", gpu_nodepools=pools, eks_cluster_version="1.12"))
    assert "1.12" in message
    assert "g5.99xlarge" in message
    assert rehearsal.aws_writes() == []


def test_without_a_lab_the_inventory_refuses_in_one_sentence(rehearsal: Rehearsal, tmp_path: t.Any) -> None:
    elsewhere = Rehearsal(tmp_path)
    assert "No lab is running: start one with `make lab-up`." in refused(elsewhere.play("site.yml", "--check"))


def test_a_quota_of_zero_stops_before_the_first_write(rehearsal: Rehearsal) -> None:
    rehearsal.control("quotas", **{"L-DB2E81BA": 0})
    before = rehearsal.write_count()
    message = refused(rehearsal.play("site.yml"))
    for word in ("Running On-Demand G and VT instances", "L-DB2E81BA", "8 vCPUs", "the limit is 0", "servicequotas"):
        assert word in message, message
    assert rehearsal.write_count() == before
    rehearsal.control("quotas", **{"L-DB2E81BA": 256})


def test_a_cost_limit_stops_before_the_first_write(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    message = refused(rehearsal.play("site.yml", eks_preflight_cost_limit_per_month=100.0))
    assert "100" in message
    assert "month" in message
    assert rehearsal.write_count() == before


def test_a_controller_that_would_be_locked_out_stops_the_run(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    limits: dict[str, t.Any] = {
        "eks_preflight_controller_cidrs": ["198.51.100.7/32"],
        "eks_cluster_public_access_cidrs": ["203.0.113.0/24"],
    }
    assert "198.51.100.7/32" in refused(rehearsal.play("site.yml", **limits))
    assert rehearsal.write_count() == before


def test_the_preflight_alone_reads_only(rehearsal: Rehearsal) -> None:
    before = rehearsal.write_count()
    play = rehearsal.play("playbooks/preflight.yml")
    assert play.code == 0, play.output[-3000:]
    assert "total in USD" in play.output
    assert rehearsal.write_count() == before
