# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What role gpu_workloads makes of the inventory, as ansible-playbook templates it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VARIABLES = ROOT / "roles" / "gpu_workloads" / "vars" / "main.yml"
DEFAULTS = ROOT / "roles" / "gpu_workloads" / "defaults" / "main.yml"
OWN = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def pod_spec(tmp_path: Path, **inventory: t.Any) -> t.Any:
    """The pods' specification, written to a file by a play."""
    written = tmp_path / "spec.json"
    copy = {"content": "{{ _gpu_workloads_manifest.spec.template.spec | to_json }}", "dest": str(written), "mode": "0600"}
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable, **inventory},
        "vars_files": [str(DEFAULTS), str(VARIABLES)],
        "tasks": [{"ansible.builtin.copy": copy}],
    }
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([play]), encoding="utf-8")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_HOME": str(tmp_path)}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", str(playbook)]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(written.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("inventory", "more"),
    [
        ({}, []),
        ({"gpu_nodepools": [{"name": "gpu", "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}]}]}, []),
        (
            {"gpu_nodepools": [{"name": "gpu", "taints": [{"key": "team", "value": "ml", "effect": "NoExecute"}]}, {"name": "more"}]},
            [{"key": "team", "operator": "Exists", "effect": "NoExecute"}],
        ),
    ],
)
def test_pods_tolerate_the_taints_of_every_gpu_pool(tmp_path: Path, inventory: dict[str, t.Any], more: list[dict[str, str]]) -> None:
    assert pod_spec(tmp_path, **inventory)["tolerations"] == [OWN, *more]
