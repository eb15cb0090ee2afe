# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Molecule's scenarios on the lab: the short set that every change has to pass, or with ``--all`` every one.

A scenario belongs to the short set unless SOAK names it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from cache import ROOT
from surroundings import BIN, checkout, without_aws

MOLECULE = ROOT / "extensions" / "molecule"
LAB = ROOT / ".lab-molecule"  # as extensions/molecule/config.yml says
OWNER = "default"  # starts and stops the lab that the others share
# The rest is in the short set, and site.yml as a whole is in tests/e2e.
SOAK = frozenset(
    {
        "access/lifecycle",
        "encryption_key/lifecycle",
        "lease/lifecycle",
        "nodepool/karpenter",
        "oidc/lifecycle",
        "pod_identity/lifecycle",
    }
)


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


def run(arguments: list[str]) -> int:
    """Run Molecule; return its exit code. What it remembers goes with it, and so does the lab, whatever an earlier run left of either."""
    stop = [sys.executable, "-m", "lab", "--state", str(LAB), "down"]
    with tempfile.TemporaryDirectory(prefix="gpuops-molecule-") as home:
        environment = {**without_aws(checkout(os.environ)), "ANSIBLE_HOME": home}
        subprocess.run(stop, cwd=ROOT, env=environment, check=True)
        try:
            return subprocess.run(arguments, cwd=ROOT, env=environment, check=False).returncode
        finally:
            subprocess.run(stop, cwd=ROOT, env=environment, check=True)


def main() -> None:
    """Run the scenarios and exit as Molecule does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="those of the soak set too")
    arguments = command(parser.parse_args().all, scenarios(MOLECULE))
    signal.signal(signal.SIGTERM, lambda *ignored: sys.exit(143))  # so that the lab is stopped
    raise SystemExit(run(arguments))


if __name__ == "__main__":
    main()
