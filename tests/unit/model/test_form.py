# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of form: all of them, each with path, value and what is allowed."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.form import form_faults

SPEC: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "size": {"type": "int"},
    "secret": {"type": "str", "no_log": True, "choices": ["a"]},
    "mode": {"type": "str", "choices": ["none", "time_slicing"]},
    "taints": {"type": "list", "elements": "dict", "options": {"key": {"type": "str", "required": True}, "effect": {"type": "str"}}},
    "zones": {"type": "list", "elements": "str", "aliases": ["azs"]},
    "labels": {"type": "dict"},
}


@pytest.mark.parametrize(
    ("values", "paths"),
    [
        ({"name": "x"}, []),
        ({"name": "x", "size": "3", "azs": ["a"], "labels": {"anything": 1}}, []),
        ({}, ["name"]),
        ({"name": None}, ["name"]),
        ({"name": "x", "size": "ten"}, ["size"]),
        ({"name": "x", "size": True}, ["size"]),
        ({"name": "x", "mode": "mpz"}, ["mode"]),
        ({"name": "x", "taints": [{"key": "k"}, {"effect": "e", "kez": 1}]}, ["taints[1].kez", "taints[1].key"]),
        ({"name": "x", "taints": "plain", "siz": 3}, ["siz", "taints[0]"]),
    ],
)
def test_every_fault_is_found_with_its_path(values: dict[str, t.Any], paths: list[str]) -> None:
    assert [fault.path for fault in form_faults(SPEC, values)] == paths


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    [fault] = form_faults(SPEC, {"name": "x", "zonez": []})
    assert "did you mean 'zones'" in fault.allowed


def test_a_secret_value_is_not_shown() -> None:
    [fault] = form_faults(SPEC, {"name": "x", "secret": "hunter2"})
    assert "hunter2" not in str(fault)
