# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Managed fields and tags: what differs, and what is left alone."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._plan.changes import changed_fields, tag_changes


def test_a_field_that_was_not_set_is_not_managed() -> None:
    assert changed_fields({"a": None, "b": 2, "c": 3}, {"a": 1, "b": 2, "c": 4}) == {"c": (4, 3)}


@pytest.mark.parametrize(
    ("desired", "observed", "purge", "expected"),
    [
        (None, {"a": "1"}, True, ({}, [])),
        ({"a": "1"}, {"a": "1"}, True, ({}, [])),
        ({"a": "2"}, {"a": "1", "b": "1"}, False, ({"a": "2"}, [])),
        ({"a": "2"}, {"a": "1", "b": "1", "aws:x": "y", "kept": "z"}, True, ({"a": "2"}, ["b"])),
    ],
)
def test_tag_changes(desired: t.Any, observed: dict[str, str], purge: bool, expected: t.Any) -> None:
    assert tag_changes(desired, observed, purge=purge, keep=["kept"]) == expected
