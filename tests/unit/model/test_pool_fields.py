# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of fields: every option has its row, every row its tests, and what it calls refused is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_faults import pool_faults
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_fields import FIELDS, PROOFS, WORDS, PoolField, option_paths
from ansible_collections.gpuops.eks.plugins.module_utils._model.pool_options import POOL_OPTIONS

from tests.e2e.pool_changes import changed_options
from tests.unit.pool_changes import CHANGES, options

ROOT = Path(__file__).parents[3]
CELLS = [(field, name) for field in FIELDS for name in field.cells]


def cell_id(value: PoolField | str) -> str:
    return value if isinstance(value, str) else value.option


def test_every_option_has_its_row_and_its_change() -> None:
    assert [field.option for field in FIELDS] == list(option_paths(POOL_OPTIONS))
    assert list(CHANGES) == [field.option for field in FIELDS]


def test_rows_say_what_is_changed_on_the_lab() -> None:
    assert {field.option for field in FIELDS if field.whole_run} == changed_options()


def test_a_list_of_dictionaries_is_one_option() -> None:
    options_ = {"a": {"type": "dict", "options": {"b": {"type": "int"}}}, "c": {"type": "list", "options": {"d": {"type": "int"}}}}
    assert list(option_paths(options_)) == ["a.b", "c"]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.option)
def test_every_row_has_words_of_the_table_and_tests_that_there_are(field: PoolField) -> None:
    assert {cell.word for cell in field.cells.values()} <= set(WORDS)
    assert field.proofs
    for proof in field.proofs:
        path, _separator, name = PROOFS[proof].partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(("field", "provisioner"), [one for one in CELLS if one[0].cells[one[1]].word == "refused"], ids=cell_id)
def test_what_is_refused_names_those_that_can(field: PoolField, provisioner: str) -> None:
    _before, after = options(field.option, provisioner)
    found = [fault for fault in pool_faults(after, "") if f"{field.option}.".startswith(f"{fault.path}.")]
    assert found
    assert all(name in fault.allowed for name in field.able for fault in found)
