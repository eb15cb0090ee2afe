# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What we write is read by NVIDIA's parser as it was meant."""

from __future__ import annotations

from lab.binaries import DevicePluginBinaries
from tests.oracle.configurations import Case, cases
from tests.oracle.programs import Parsed, parse

CASES = cases(seed=6, count=1_200)


def wrong(case: Case, parsed: Parsed) -> list[str]:
    """What NVIDIA's parser understands in another way than it was meant."""
    meaning, found = case.meaning, []
    if parsed.error:
        return [parsed.error]
    flags = {**meaning.flags, **({} if meaning.mig is None else {"migStrategy": meaning.mig})}
    seen: list[tuple[str, object, object]] = [
        ("version", "v1", parsed.config["version"]),
        ("strategy", meaning.strategy, parsed.strategy),
        ("shared", meaning.shared, dict(parsed.shared)),
        ("flags", flags, parsed.flags),
        ("renameByDefault", meaning.rename, parsed.sharing.get("renameByDefault", False)),
    ]
    if meaning.strategy != "none":
        seen.append(("failRequestsGreaterThanOne", meaning.fail, parsed.sharing.get("failRequestsGreaterThanOne", False)))
    for what, meant, understood in seen:
        if meant != understood:
            found.append(f"{what}: {understood!r} instead of {meant!r}")
    return found


def test_configurations_are_read_as_they_were_meant(programs: DevicePluginBinaries) -> None:
    answers = parse(programs, [case.file for case in CASES])
    faults = {case.file: found for case, parsed in zip(CASES, answers, strict=True) if (found := wrong(case, parsed))}
    assert faults == {}


def test_the_configurations_hold_every_strategy_with_and_without_mig() -> None:
    met = {(case.meaning.strategy, case.meaning.mig, case.meaning.rename) for case in CASES}
    assert met == {
        (strategy, mig, rename)
        for strategy in ("none", "time-slicing", "mps")
        for mig in (None, "single", "mixed")
        for rename in (False, True)
        if (strategy, mig) not in (("mps", "single"), ("mps", "mixed")) and (not rename or strategy == "time-slicing")
    }
    assert {key for case in CASES for key in case.meaning.flags} >= {"plugin", "gfd", "nvidiaDriverRoot", "failOnInitError"}
