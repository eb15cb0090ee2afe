# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits that keep the code readable: module files of 60 lines of code, functions of 50 lines."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_LINES = 60
FUNCTION_LINES = 50
DOCUMENTS = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
FILES = sorted(path for top in ("plugins", "lab", "tools", "tests") for path in (ROOT / top).rglob("*.py"))
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_lines(text: str) -> int:
    """Lines without documentation, comments and blank ones."""
    documentation: set[int] = set()
    for node in ast.parse(text).body:
        assigned = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in DOCUMENTS
        if assigned or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            documentation.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for number, line in lines if number not in documentation and line.strip() and not line.strip().startswith("#"))


def long_functions(text: str) -> list[str]:
    """The functions of more than FUNCTION_LINES lines, with their length."""
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    return [f"{function}: {length}" for function, length in lengths.items() if length > FUNCTION_LINES]


def test_code_lines_leave_documentation_out() -> None:
    text = (
        '# a comment\n"""A docstring."""\n\nDOCUMENTATION = r"""\nmodule: x\n"""\n\nfirst = 1\n\n\ndef second() -> int:\n    return first\n'
    )
    assert code_lines(text) == 3


def test_long_functions_are_found() -> None:
    body = "    pass\n" * FUNCTION_LINES
    assert long_functions(f"def short():\n{body[9:]}\n\nasync def long():\n{body}") == [f"long: {FUNCTION_LINES + 1}"]


def test_there_are_modules() -> None:
    assert MODULES


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_module_is_short(path: Path) -> None:
    assert code_lines(path.read_text(encoding="utf-8")) <= MODULE_LINES


@pytest.mark.parametrize("path", FILES, ids=name)
def test_functions_are_short(path: Path) -> None:
    assert long_functions(path.read_text(encoding="utf-8")) == []
