# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Molecule's scenarios on the lab: the short set that every change has to pass, or with ``--all`` every one.

A scenario belongs to the short set unless SOAK names it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from cache import ROOT
from surroundings import BIN, checkout, without_aws

MOLECULE = ROOT / "extensions" / "molecule"
OWNER = "default"  # starts and stops the lab that the others share
SOAK: frozenset[str] = frozenset()


def scenarios(directory: Path) -> list[str]:
    """Return the names of the scenarios below the directory, without the one that owns the lab."""
    names = (path.parent.relative_to(directory).as_posix() for path in directory.rglob("molecule.yml"))
    return sorted(name for name in names if name != OWNER)


def command(every: bool, names: list[str]) -> list[str]:
    """Return Molecule's command line; SystemExit where the scenarios are not what this file says."""
    if not names:
        raise SystemExit(f"molecule: {MOLECULE.relative_to(ROOT)} holds no scenario besides {OWNER}")
    unknown = SOAK.difference(names)
    if unknown:
        raise SystemExit(f"molecule: the soak set names scenarios that are not there: {', '.join(sorted(unknown))}")
    chosen = [name for name in names if every or name not in SOAK]
    return [str(BIN / "molecule"), "test", "--report", *(argument for name in chosen for argument in ("--scenario-name", name))]


def main() -> None:
    """Run the scenarios and exit as Molecule does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="those of the soak set too")
    arguments = command(parser.parse_args().all, scenarios(MOLECULE))
    raise SystemExit(subprocess.run(arguments, cwd=ROOT, env=without_aws(checkout(os.environ)), check=False).returncode)


if __name__ == "__main__":
    main()
