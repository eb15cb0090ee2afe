# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole demo in a network namespace that has the loopback device alone: nothing of it can reach anything else."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.e2e.rehearsal import ROOT, Rehearsal

LOOPBACK = "ip link set lo up"


def namespace() -> list[str]:
    """A command that runs another one in a new network namespace; the test is skipped, and says so, where that is not permitted."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        pytest.skip("unshare (util-linux) and ip (iproute2) are not both here")
    found = ["unshare", "--net"]
    for command in (found, ["unshare", "--user", "--map-root-user", "--net"]):
        if subprocess.run([*command, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("this machine permits no network namespace")


def test_the_warm_demo_needs_the_loopback_device_only(tmp_path_factory: pytest.TempPathFactory) -> None:
    alone = namespace()
    rehearsal = Rehearsal(tmp_path_factory.mktemp("alone"))
    rehearsal.lab("build")
    demo = [sys.executable, "tools/demo.py"]
    # Both in one namespace: the lab lives as long as the demo's own commands can reach it there.
    script = f"{LOOPBACK} && {' '.join(demo)} && {' '.join(demo)} --down"
    done = subprocess.run([*alone, "sh", "-c", script], cwd=ROOT, env=rehearsal.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert "changed=0" in done.stdout
    assert not rehearsal.state.exists
