# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/chart-comparison.md: ``python -m tests.oracle.page``."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab import binaries
from tests.oracle.chart import ABSENT, STRATEGIES, Difference, differences
from tests.oracle.reasons import REASONS

PAGE = Path(__file__).parents[2] / "docs" / "chart-comparison.md"


def page(found: Sequence[Difference]) -> str:
    """The page's text; each difference needs one reason."""
    version = binaries.DEVICE_PLUGIN.version
    lines = [
        "# Our objects and those of NVIDIA's chart",
        "",
        f"What `nvidia_device_plugin` applies, beside what NVIDIA's chart `nvidia-device-plugin` {version} renders for the same configuration",
        "file with GPU feature discovery. Every difference is here with its reason; what is not here is the same.",
        "",
        f"Configurations: {', '.join(STRATEGIES)}. {ABSENT}: not there.",
        "",
        "Written by `python -m tests.oracle.page`; the gate `oracle` holds it against both.",
    ]
    for component, rows in itertools.groupby(found, key=lambda row: row.component):
        lines += ["", f"## {component[0].upper()}{component[1:]}", "", "| What | Chart | Ours | Where | Why |", "|---|---|---|---|---|"]
        lines += [_row(row) for row in rows]
    return "\n".join(lines) + "\n"


def _row(row: Difference) -> str:
    [reason] = [reason for reason in REASONS if reason.applies(row)]
    everywhere = len(row.strategies) == len(STRATEGIES)
    others = [strategy for strategy in STRATEGIES if strategy not in row.strategies]
    where = (
        "everywhere" if everywhere else f"all but {', '.join(others)}" if len(others) < len(row.strategies) else ", ".join(row.strategies)
    )
    return "| " + " | ".join([row.what, *_code(row.chart, row.ours), where, reason.why]) + " |"


def _code(*values: str) -> Iterator[str]:
    for value in values:
        yield value if value in (ABSENT, "present", "an account") else f"`{value}`".replace("|", "\\|")


def main() -> int:
    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    with tempfile.TemporaryDirectory() as directory:
        found = differences(binaries.helm(say), binaries.device_plugin_chart(say), Path(directory))
    PAGE.write_text(page(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
