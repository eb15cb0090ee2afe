# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to the collection.

"""Which process of this machine a run is, and whether another one still runs."""

from __future__ import annotations

import os
import socket
import typing as t
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpuops.eks.plugins.module_utils._model.lease import Process

_PROC = Path("/proc")
_PROGRAM = "ansible"  # ansible-playbook, ansible-pull, ansible-console, ansible itself
_START = 19  # proc(5): starttime is field 22, the 20th after the command's name
_MOST_ANCESTORS = 100


@dataclass(frozen=True)
class _Seen:
    """A running process: its parent, when it started, and its command line."""

    parent: int
    started: str
    command: tuple[str, ...]


RunCommand = t.Callable[..., tuple[int, str, str]]  # AnsibleModule.run_command


def this_run(run_command: RunCommand) -> Process:
    """The Ansible program that runs this module: its nearest ancestor of that name, beyond the workers that it has forked.

    A module's own process lives for one task. Where no ancestor is an Ansible program, the parent stands for the run.
    """
    pid = _program(os.getpid(), run_command) or os.getppid()
    seen = _look(pid, run_command)
    return Process(host=socket.gethostname(), machine=_machine(), pid=pid, started=seen.started if seen else "")


def alive(process: Process, run_command: RunCommand) -> bool:
    """Whether a process of this machine still runs: the same number with the same start."""
    seen = _look(process.pid, run_command)
    return seen is not None and seen.started == process.started


def _program(pid: int, run_command: RunCommand) -> int | None:
    found: tuple[int, tuple[str, ...]] | None = None
    for _unused in range(_MOST_ANCESTORS):
        seen = _look(pid, run_command)
        if seen is None or pid <= 1:
            break
        if found and seen.command != found[1]:
            break
        if _is_ansible(seen.command):
            found = (pid, seen.command)
        pid = seen.parent
    return found[0] if found else None


def _is_ansible(command: t.Sequence[str]) -> bool:
    """The program itself, or as an argument of its interpreter: ``python ansible-playbook``, ``python -m ansible playbook``."""
    words = command[2:3] if tuple(command[1:2]) == ("-m",) else command[:2]
    return any(os.path.basename(word).startswith(_PROGRAM) for word in words)


def _look(pid: int, run_command: RunCommand) -> _Seen | None:
    return _look_in_proc(pid) if _PROC.joinpath("self", "stat").exists() else _look_with_ps(pid, run_command)


def _look_in_proc(pid: int) -> _Seen | None:
    try:
        stat = _PROC.joinpath(str(pid), "stat").read_text(errors="replace")
        command = _PROC.joinpath(str(pid), "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] == "Z":  # ended, and only its parent has not asked yet
        return None
    return _Seen(parent=int(fields[1]), started=fields[_START], command=tuple(command.rstrip("\0").split("\0")))


def _look_with_ps(pid: int, run_command: RunCommand) -> _Seen | None:
    """Systems without /proc: ps(1) of POSIX, with lstart, which the BSDs and macOS have."""
    command = ["ps", "-o", "ppid=", "-o", "lstart=", "-o", "command=", "-p", str(pid)]
    code, output, _errors = run_command(command, environ_update={"LC_ALL": "C"})
    words = output.split()
    if code != 0 or len(words) < 7:
        return None
    return _Seen(parent=int(words[0]), started=" ".join(words[1:6]), command=tuple(words[6:]))


def _machine(proc: Path = _PROC) -> str:
    """What tells machines and containers of one name apart: this boot, and the space of process numbers. Empty where nothing does."""
    try:
        boot = proc.joinpath("sys", "kernel", "random", "boot_id").read_text().strip()
        return f"{boot} {os.readlink(proc / 'self' / 'ns' / 'pid')}"
    except OSError:
        return ""
