# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes quantities, against the grammar of resource.Quantity."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._model.quantity import count, counts, quantity
from hypothesis import given
from hypothesis import strategies as st

SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", "0"),
        ("10", "10"),
        (10, "10"),
        ("1500m", "1.5"),
        ("7910m", "7.91"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("12e6", "12000000"),
        ("12E6", "12000000"),
        ("1e-3", "0.001"),
        ("1E", "1000000000000000000"),
        ("1Ei", "1152921504606846976"),
        ("31785232Ki", "32548077568"),
        ("100n", "0.0000001"),
        ("-1", "-1"),
        ("+2k", "2000"),
    ],
)
def test_values(text: str | int, value: str) -> None:
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "ten", "1KB", "1 Gi", "Gi", "1i", "0x10", "1e", "1ee3", "--1", "1mi", "NaN", "inf", "1_000", "١"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        quantity(text)


@given(number=st.integers(0, 10**15), suffix=st.sampled_from(sorted(SUFFIXES)))
def test_whole_numbers_with_any_suffix_are_exact(number: int, suffix: str) -> None:
    assert quantity(f"{number}{suffix}") == number * SUFFIXES[suffix]


@given(number=st.decimals(0, 10**9, places=3, allow_nan=False))
def test_milli_and_decimal_spelling_agree(number: Decimal) -> None:
    assert quantity(f"{int(number * 1000)}m") == quantity(f"{number:f}")


@given(milli=st.integers(0, 10**9))
def test_count_rounds_up(milli: int) -> None:
    assert 0 <= count(f"{milli}m") * 1000 - milli < 1000


def test_counts_take_their_prefix_alone() -> None:
    assert counts({"nvidia.com/gpu": "2", "cpu": "1500m", "nvidia.com/mig-1g.5gb": 7}, "nvidia.com/") == {
        "nvidia.com/gpu": 2,
        "nvidia.com/mig-1g.5gb": 7,
    }
    assert counts(None, "nvidia.com/") == {}
