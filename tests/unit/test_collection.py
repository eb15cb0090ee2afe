# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's metadata agrees with what is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MODULES = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}


def loaded(name: str) -> dict[str, object]:
    data = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    assert isinstance(data, dict)
    return data


def test_action_group_holds_every_module_and_extends_that_of_amazon_aws() -> None:
    groups = loaded("meta/runtime.yml")["action_groups"]
    assert isinstance(groups, dict)
    metadata = [entry for entry in groups["aws"] if isinstance(entry, dict)]
    assert [entry for entry in groups["aws"] if isinstance(entry, str)] == sorted(MODULES)
    assert metadata == [{"metadata": {"extend_group": ["amazon.aws.aws"]}}]


def test_dependencies_are_the_two_and_have_an_upper_bound() -> None:
    dependencies = loaded("galaxy.yml")["dependencies"]
    assert isinstance(dependencies, dict)
    assert set(dependencies) == {"amazon.aws", "kubernetes.core"}
    assert all(re.fullmatch(r">=\d+\.0\.0,<\d+\.0\.0", bound) for bound in dependencies.values())


@pytest.mark.parametrize("name", ["main", "older", "go"])
def test_lock_file_pins_all_and_names_no_package_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    assert lines
    assert [line for line in lines if not re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==[0-9][^ ]*( ;|$)", line)] == []
    assert "://" not in text
    assert "index-url" not in text.replace("--no-emit-index-url", "")


@pytest.mark.parametrize("name", ["main", "older", "go"])
def test_lock_file_has_what_its_source_asks_for(name: str) -> None:
    asked = [line for line in (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    locked = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    spelled = {re.sub(r"[-_.]+", "-", re.sub(r"\[.*\]", "", line.split(" ")[0])).lower() for line in locked}
    assert [line for line in asked if re.sub(r"[-_.]+", "-", re.sub(r"\[.*\]", "", line)).lower() not in spelled] == []


def test_execution_environment_has_lower_bounds_only() -> None:
    dependencies = loaded("meta/execution-environment.yml")["dependencies"]
    assert isinstance(dependencies, dict)
    for kind in ("python", "system"):
        assert (ROOT / dependencies[kind]).is_file()
    lines = (ROOT / dependencies["python"]).read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[a-z0-9]+>=[0-9.]+", line) for line in lines if line[0] != "#")


def test_execution_environment_asks_for_what_the_documentation_asks_for() -> None:
    requirements = (ROOT / "meta" / "ee-requirements.txt").read_text(encoding="utf-8")
    fragments = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "plugins" / "doc_fragments").glob("*.py")))
    documented = set(re.findall(r"^ *- (boto3|botocore|kubernetes) >= ([0-9.]+)$", fragments, re.MULTILINE))
    assert set(re.findall(r"^([a-z0-9]+)>=([0-9.]+)$", requirements, re.MULTILINE)) == documented
