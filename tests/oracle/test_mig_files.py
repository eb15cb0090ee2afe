# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NVIDIA's nvidia-mig-parted judges the MIG files that we write; what it takes although it is wrong, the module refuses."""

from __future__ import annotations

import itertools
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._catalog.mig import PROFILES, misfit
from ansible_collections.gpuops.eks.plugins.module_utils._model.mig import mig_faults, parted_file
from ansible_collections.gpuops.eks.plugins.module_utils._model.sharing import configuration_name

Layout = Mapping[str, int]

NAMES = ("default", "all-1g.5gb", "true", "1", "1.0", "null", "a" * 40, configuration_name("p4d-inference"))


def layouts() -> list[tuple[str, Layout]]:
    """(product, layout): each profile alone, as often as it can be, and combinations that fit."""
    generator = random.Random(6)
    found: list[tuple[str, Layout]] = [(key, {name: profile.most}) for key in PROFILES for name, profile in PROFILES[key].items()]
    for key in PROFILES:
        for names in itertools.combinations(PROFILES[key], 2):
            layout = {name: generator.randint(1, PROFILES[key][name].most) for name in names}
            if misfit(key, layout) is None:
                found.append((key, layout))
    return found


def verdict(mig_parted: Path, directory: Path, text: str, name: str) -> tuple[bool, str]:
    """Whether it takes the configuration of this name, and what it says."""
    path = directory / "config.yaml"
    path.write_text(text)
    command = [str(mig_parted), "assert", "--valid-config", "-f", str(path), "-c", name]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return run.returncode == 0, run.stdout + run.stderr


def test_every_layout_of_every_product_is_taken(mig_parted: Path, tmp_path: Path) -> None:
    made = layouts()
    assert len(made) > 100
    for _key, layout in made:
        assert mig_faults({"strategy": "mixed", "layout": layout}, "mig") == []
    names = [f"layout-{index}" for index in range(len(made))]
    text = parted_file({name: layout for name, (_key, layout) in zip(names, made, strict=True)})
    refused = {name: said for name in names for taken, said in [verdict(mig_parted, tmp_path, text, name)] if not taken}
    assert refused == {}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_found_as_they_were_given(mig_parted: Path, tmp_path: Path, name: str) -> None:
    text = parted_file({name: {"1g.5gb": 7}, "another": {}})
    assert verdict(mig_parted, tmp_path, text, name)[0]
    assert verdict(mig_parted, tmp_path, text, "another")[0], "MIG off"
    taken, said = verdict(mig_parted, tmp_path, text, "missing")
    assert not taken
    assert "not present" in said


@pytest.mark.parametrize(
    ("layout", "word"),
    [
        ({}, "at least one profile"),
        ({"1g.5gb": 99}, "does not fit|at most 7"),
        ({"7g.40gb": 1, "1g.5gb": 1}, "does not fit"),
        ({"4g.20gb": 2}, "at most 1"),
        ({"8g.80gb": 1}, "no such profile"),
        ({"1g.7gb": 7}, "no such profile"),
        ({"0g.5gb": 1}, "no such profile"),
        ({"1g.5gb-me": 1}, "no such profile"),
        ({"1g.5gb+gfx": 1}, "no such profile"),
        ({"1g.5gb": 1, "1g.10gb+me": 1}, "has no profile"),
    ],
    ids=str,
)
def test_layouts_that_are_taken_although_they_are_wrong_are_refused(mig_parted: Path, tmp_path: Path, layout: Layout, word: str) -> None:
    devices = "\n".join(f"        {profile}: {count}" for profile, count in layout.items()) or "        {}"
    text = f"version: v1\nmig-configs:\n  a:\n    - devices: all\n      mig-enabled: true\n      mig-devices:\n{devices}\n"
    assert verdict(mig_parted, tmp_path, text, "a")[0]
    faults = mig_faults({"strategy": "mixed", "layout": dict(layout)}, "mig")
    assert faults
    assert any(part in faults[0].allowed for part in word.split("|")), faults[0].allowed


@pytest.mark.parametrize(
    ("layout", "parted"),
    [
        ({"1g.5gb": 0}, "1g.5gb: 0"),
        ({"1g.5gb": -1}, "1g.5gb: -1"),
        ({"1g.5GB": 1}, "1g.5GB: 1"),
        ({"1g5gb": 1}, "1g5gb: 1"),
        ({"mig-1g.5gb": 1}, "mig-1g.5gb: 1"),
        ({"1g.5gb.me": 1}, "1g.5gb.me: 1"),
        ({"all-1g": 1}, "all-1g: 1"),
        ({"1g.5gb": "many"}, "1g.5gb: many"),
    ],
    ids=str,
)
def test_what_nvidia_refuses_is_refused_before(mig_parted: Path, tmp_path: Path, layout: Mapping[str, object], parted: str) -> None:
    text = f"version: v1\nmig-configs:\n  a:\n    - devices: all\n      mig-enabled: true\n      mig-devices: {{{parted}}}\n"
    assert not verdict(mig_parted, tmp_path, text, "a")[0]
    assert mig_faults({"strategy": "mixed", "layout": layout}, "mig")
