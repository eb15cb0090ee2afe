# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""_model, _plan and _catalog do no I/O: what they import is looked at, through and through."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

UTILS = Path(__file__).parents[2] / "plugins" / "module_utils"
PURE = ("_model", "_plan", "_catalog")
OURS = "ansible_collections.gpuops.eks.plugins.module_utils."
ALLOWED_OTHERS = {"ansible.module_utils.common.validation"}
ALLOWED_STDLIB = {
    "__future__", "base64", "collections", "copy", "dataclasses", "datetime", "decimal", "difflib", "fnmatch", "functools", "hashlib",
    "ipaddress", "itertools", "json", "math", "operator", "re", "string", "textwrap", "types", "typing",
}  # fmt: skip
FILES = sorted(path for package in PURE for path in (UTILS / package).glob("**/*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not used"
            found.add(node.module or "")
    return found


def test_there_is_something_to_look_at() -> None:
    assert {path.parent.name for path in FILES} == set(PURE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pure_packages_ask_no_clock(path: Path) -> None:
    called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert not called & {"now", "utcnow", "today"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pure_packages_import_only_pure_things(path: Path) -> None:
    for name in imports(path):
        if name.startswith(OURS):
            assert name.removeprefix(OURS).split(".")[0] in {*PURE, "_errors"}, f"{path} imports {name}"
        else:
            assert name in ALLOWED_OTHERS or name.split(".")[0] in ALLOWED_STDLIB, f"{path} imports {name}"
