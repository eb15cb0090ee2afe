# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds for the tasks of every role and playbook."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")])
HIDDEN = "{{ ansible_verbosity > 2 }}"


def tasks(path: Path) -> t.Iterator[dict[str, t.Any]]:
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
        yield entry
        for key in ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks"):
            yield from entry.get(key) or []


def test_there_are_tasks() -> None:
    assert sum(1 for path in FILES for _task in tasks(path)) > 50


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tasks_of_kubernetes_core_do_not_show_their_token(path: Path) -> None:
    """kubernetes.core's action plugin shows a task's arguments from -vvv on."""
    for task in tasks(path):
        if any(key.startswith("kubernetes.core.") for key in task):
            assert task.get("no_log") in (HIDDEN, True), f"{path}: {task['name']}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_task_hides_a_failure_or_a_change(path: Path) -> None:
    for task in tasks(path):
        assert "ignore_errors" not in task, f"{path}: {task.get('name')}"
        assert task.get("failed_when") is not False, f"{path}: {task.get('name')}"
        assert task.get("changed_when") is not False, f"{path}: {task.get('name')}"
