# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an object a field manager owns, and how wanted fields are put over it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.manifests import Field, merged, owned, value_at, with_fields

ENTRY: dict[str, t.Any] = {
    "manager": "gpuops.eks",
    "operation": "Apply",
    "fieldsV1": {
        "f:metadata": {"f:labels": {".": {}, "f:ours": {}}},
        "f:spec": {"f:list": {}, "f:map": {"f:a": {}}, "f:whole": {}, "f:gone": {}},
    },
}
OBJECT: dict[str, t.Any] = {
    "metadata": {"name": "x", "labels": {"ours": "1", "theirs": "2"}, "managedFields": [ENTRY]},
    "spec": {"list": [{"b": 1}], "map": {"a": 1, "b": 2}, "whole": {"c": 3}, "other": True},
}


def with_entry(**changes: t.Any) -> dict[str, t.Any]:
    return {**OBJECT, "metadata": {**OBJECT["metadata"], "managedFields": [{**ENTRY, **changes}]}}


def test_what_is_owned_is_what_is_still_there_of_what_was_applied() -> None:
    assert owned(OBJECT, "gpuops.eks") == {
        "metadata": {"labels": {"ours": "1"}},
        "spec": {"list": [{"b": 1}], "map": {"a": 1}, "whole": {"c": 3}},
    }


@pytest.mark.parametrize("changes", [{"manager": "kubectl"}, {"operation": "Update"}, {"subresource": "status"}])
def test_entries_of_others_say_nothing(changes: dict[str, str]) -> None:
    assert owned(with_entry(**changes), "gpuops.eks") == {}
    assert owned({"metadata": {"name": "x"}}, "gpuops.eks") == {}


def test_dictionaries_are_merged_deep_lists_replaced_and_none_takes_away() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4, "e": {"f": 1}}
    assert merged(base, {"a": {"c": [3], "x": {"y": 1}}, "d": None, "e": 5, "g": None}) == {
        "a": {"b": 1, "c": [3], "x": {"y": 1}},
        "e": 5,
    }
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4, "e": {"f": 1}}, "the arguments stay as they are"


def test_fields_are_put_at_their_places() -> None:
    base = {"a": {"b": {"c": 1}}}
    fields = [Field(path=("a", "b"), value={"x": 1}), Field(path=("n", "m"), value=[1]), Field(path=("a", "gone"), value=None)]
    assert with_fields(base, fields) == {"a": {"b": {"x": 1}}, "n": {"m": [1]}}
    assert with_fields(base, [Field(path=("a", "b", "c"), value=None), Field(path=("z", "y"), value=None)]) == {"a": {"b": {}}}
    assert base == {"a": {"b": {"c": 1}}}


def test_values_by_path() -> None:
    assert value_at({"a": {"b": 1}}, "a", "b") == 1
    assert value_at({"a": {"b": 1}}, "a", "b", "c") is None
    assert value_at(None, "a") is None
