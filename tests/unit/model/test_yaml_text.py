# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of configuration files: YAML that means what was given."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible_collections.gpuops.eks.plugins.module_utils._model.yaml_text import yaml_text
from hypothesis import given
from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
KEYS = st.text(max_size=8) | st.sampled_from(["yes", "No", "on", "null", "y", "1", "1e3", "mig-configs", "0x1", "~", "-", ": #"])


def trees(children: st.SearchStrategy[t.Any]) -> st.SearchStrategy[t.Any]:
    return st.lists(SCALARS | st.dictionaries(KEYS, children, max_size=3), max_size=3) | st.dictionaries(KEYS, children, max_size=3)


@given(st.dictionaries(KEYS, st.recursive(SCALARS, trees, max_leaves=12), min_size=1))
def test_any_content_is_read_as_it_was_meant(content: dict[str, t.Any]) -> None:
    assert yaml.safe_load(yaml_text(content)) == content


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"version": "v1"}, 'version: "v1"\n'),
        ({"a": {"b": [{"c": 1, "d": [True]}]}}, "a:\n  b:\n    - c: 1\n      d:\n        - true\n"),
        ({"a": {}, "b": []}, "a: {}\nb: []\n"),
        ({"no": 1, "1g": 2}, '"no": 1\n"1g": 2\n'),
    ],
)
def test_the_text(content: dict[str, t.Any], text: str) -> None:
    assert yaml_text(content) == text
