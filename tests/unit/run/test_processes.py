# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which process a run is, and whether it still runs."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gpuops.eks.plugins.module_utils._run import processes

SCRIPT = """
import os, subprocess, sys
if os.fork():
    os.wait()
else:
    sys.exit(subprocess.call([sys.executable, "-c", {code!r}]))
"""
CODE = "from ansible_collections.gpuops.eks.plugins.module_utils._run.processes import this_run; print(this_run(None).pid)"


def command(arguments: list[str], environ_update: dict[str, str]) -> tuple[int, str, str]:
    """As AnsibleModule.run_command."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env={**os.environ, **environ_update})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
@pytest.mark.parametrize("as_module", [False, True], ids=["program", "python -m"])
def test_a_run_is_its_ansible_program_beyond_the_workers_that_it_forks(tmp_path: Path, as_module: bool) -> None:
    program = tmp_path / ("ansible_in_a_module.py" if as_module else "ansible-playbook")
    program.write_text(SCRIPT.format(code=CODE))
    arguments = ["-m", program.stem] if as_module else [str(program)]
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
    output, _errors = process.communicate(timeout=60)
    assert int(output) == process.pid


def test_without_an_ansible_program_the_parent_stands_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", "no-such-program")
    assert processes.this_run(command).pid == os.getppid()


def test_a_process_that_has_ended_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    seen = processes._look(process.pid, command)
    assert seen is not None
    running = dataclasses.replace(processes.this_run(command), pid=process.pid, started=seen.started)
    assert processes.alive(running, command)
    assert not processes.alive(dataclasses.replace(running, started="0"), command)
    process.communicate()
    assert not processes.alive(running, command)


def test_a_process_that_only_waits_to_be_asked_for_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert processes._look(process.pid, command) is None
    process.wait()


def test_ps_tells_the_same_where_there_is_no_proc() -> None:
    seen, other = processes._look_in_proc(os.getpid()), processes._look_with_ps(os.getpid(), command)
    assert seen is not None
    assert other is not None
    assert other.parent == seen.parent
    assert other.started
    assert processes._look_with_ps(2**30, command) is None


def test_machines_without_proc_have_no_name_of_their_own(tmp_path: Path) -> None:
    assert processes._machine(tmp_path) == ""
