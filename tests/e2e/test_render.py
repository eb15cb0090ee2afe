# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""render.yml: the inventory as files, the same each time, and what is in them is what site.yml makes."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
import yaml

from tests.e2e.rehearsal import Play, Rehearsal

POOLS: list[dict[str, t.Any]] = [
    {
        "name": "general",
        "accelerator": "none",
        "provisioner": "managed_node_group",
        "instances": {"types": ["m5.large"]},
        "zones": ["us-west-2a", "us-west-2b"],
        "scaling": {"min": 1, "max": 2},
    },
    {
        "name": "gpu",
        "provisioner": "karpenter",
        "instances": {"families": ["g5"]},
        "zones": ["us-west-2a"],
        "sharing": {"strategy": "time_slicing", "replicas": 10},
    },
]
PLUGIN = "gpuops-nvidia_{}_nvidia-device-plugin-gpu.yaml"


def render(rehearsal: Rehearsal, directory: Path, *options: str, **variables: t.Any) -> Play:
    play = rehearsal.play("playbooks/render.yml", *options, gpuops_render_directory=str(directory), **variables)
    assert play.code == 0, play.output[-6000:]
    return play


def files(directory: Path) -> dict[str, str]:
    """What was written for the one cluster, by path."""
    [root] = directory.iterdir()
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def parsed(found: dict[str, str]) -> dict[str, t.Any]:
    return {path: json.loads(text) if path.endswith(".json") else yaml.safe_load(text) for path, text in found.items()}


@pytest.fixture
def nowhere(tmp_path: Path) -> Rehearsal:
    """No lab, and so no AWS that would answer."""
    return Rehearsal(tmp_path / "nowhere")


def test_without_an_account_files_have_stand_ins_and_a_second_run_changes_nothing(nowhere: Rehearsal, tmp_path: Path) -> None:
    given: dict[str, t.Any] = {"gpuops_refuse": "", "gpuops_render_offline": True, "gpu_nodepools": POOLS}
    directory = tmp_path / "rendered"
    render(nowhere, directory, "--check", **given)
    assert not directory.exists()
    assert render(nowhere, directory, **given).changed
    first = files(directory)
    found = parsed(first)
    index = found.pop("index.json")
    assert index["files"] == sorted(found)
    assert index["planned"]["kubernetes/ec2nodeclass_gpu.yaml"][-1] == "planned:subnet/private-us-west-2a"
    assert {manifest["kind"] for manifest in found.values()} >= {"EC2NodeClass", "NodeOverlay", "NodePool", "Namespace", "DaemonSet"}
    assert "Secret" not in {manifest["kind"] for manifest in found.values()}
    assert found["kubernetes/nodeoverlay_gpu-4gpu.yaml"]["spec"]["capacity"] == {"nvidia.com/gpu": "40"}
    assert found["kubernetes/kube-system_deployment_cluster-autoscaler.yaml"]["spec"]["replicas"] == 1
    assert render(nowhere, directory, **given).changed == []
    assert files(directory) == first


def test_files_of_what_left_the_inventory_go_and_others_stay(nowhere: Rehearsal, tmp_path: Path) -> None:
    given: dict[str, t.Any] = {"gpuops_refuse": "", "gpuops_render_offline": True}
    directory = tmp_path / "rendered"
    render(nowhere, directory, gpu_nodepools=POOLS, **given)
    [root] = directory.iterdir()
    own, outside = root / "kubernetes" / "kustomization.yaml", tmp_path / "outside"
    own.write_text("resources: []\n")
    outside.write_text("not ours")
    index = json.loads((root / "index.json").read_text())
    (root / "index.json").write_text(json.dumps({**index, "files": [*index["files"], "../../outside", str(outside)]}))
    play = render(nowhere, directory, gpu_nodepools=POOLS[:1], **given)
    assert "Remove files of what is no longer in the inventory" in "".join(play.changed)
    left = files(directory)
    assert not [path for path in left if "gpu" in path.replace("gpuops", "")]
    assert (own.exists(), outside.read_text()) == (True, "not ours")


def test_before_there_is_a_cluster_nothing_is_written_to_the_account(rehearsal: Rehearsal, tmp_path: Path) -> None:
    render(rehearsal, tmp_path, gpu_nodepools=POOLS)
    assert rehearsal.write_count() == 0
    index = parsed(files(tmp_path))["index.json"]
    assert set(index["planned"]) == {"kubernetes/ec2nodeclass_gpu.yaml"}
    assert not [path for path in index["files"] if path.startswith("launch-templates/")]


def test_of_a_cluster_the_files_are_what_is_in_it(rehearsal: Rehearsal, tmp_path: Path) -> None:
    site = rehearsal.play("site.yml")
    assert site.code == 0, site.output[-6000:]
    before = rehearsal.write_count()
    assert all("Write" in task or "Make the directories" in task for task in render(rehearsal, tmp_path).changed)
    assert render(rehearsal, tmp_path).changed == []
    assert rehearsal.write_count() == before
    found = parsed(files(tmp_path))
    assert found["index.json"]["planned"] == {}
    ec2 = rehearsal.client("ec2")
    templates = {path: content for path, content in found.items() if path.startswith("launch-templates/")}
    there = ec2.describe_launch_templates(Filters=[{"Name": "tag-key", "Values": ["gpuops.eks/owner"]}])["LaunchTemplates"]
    assert {content["LaunchTemplateName"] for content in templates.values()} == {one["LaunchTemplateName"] for one in there}
    for content in templates.values():
        request = {"LaunchTemplateName": content["LaunchTemplateName"], "Versions": ["$Latest"]}
        [version] = ec2.describe_launch_template_versions(**request)["LaunchTemplateVersions"]
        assert version["LaunchTemplateData"] == content["LaunchTemplateData"]
    kube = rehearsal.kube()
    live = kube.call("GET", "/apis/apps/v1/namespaces/gpuops-nvidia/daemonsets/nvidia-device-plugin-gpu")
    wanted = found[f"kubernetes/{PLUGIN.format('daemonset')}"]
    assert live["spec"]["template"]["metadata"]["annotations"] == wanted["spec"]["template"]["metadata"]["annotations"]
    data = kube.call("GET", "/api/v1/namespaces/gpuops-nvidia/configmaps/nvidia-device-plugin-gpu")["data"]
    assert data == found[f"kubernetes/{PLUGIN.format('configmap')}"]["data"]
