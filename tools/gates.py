# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the gates that a change has to pass, all of them even where one fails, two at a time.

The last line is ``N passed, N failed``: every pytest test counts, and every other gate counts as one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import typing as t
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cache import ROOT, project_cache
from surroundings import BIN, checkout, without_aws

WORKERS = 2
KEPT_LOGS = 10
TAIL = 60
POLL = 0.1
STARTED = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A command that has to end with 0."""

    name: str
    command: tuple[str, ...]
    seconds: int = 600
    pytest: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a gate."""

    name: str
    passed: int
    failed: int
    seconds: float
    note: str


def program(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a program of this environment."""
    return (str(BIN / name), *arguments)


def script(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of one of our own tools."""
    return (sys.executable, str(ROOT / "tools" / name), *arguments)


def tests(name: str, seconds: int, *arguments: str) -> Gate:
    """Return a gate of pytest tests."""
    return Gate(name=name, command=program("pytest", "-q", "--color=no", "--durations=5", *arguments), seconds=seconds, pytest=True)


# Longest first, so that the two workers end at about the same time.
PLUGINS = "collections/ansible_collections/gpuops/eks/plugins"
GATES = (
    Gate(name="molecule", command=script("scenarios.py"), seconds=4200),
    tests("e2e", 4800, "-m", "not soak", "tests/e2e"),
    Gate(name="sanity", command=script("collection.py", "sanity"), seconds=1200),
    tests("lab", 2400, "-m", "not soak", "tests/lab"),
    tests("oracle", 2400, "-m", "not soak", "tests/oracle"),
    tests("units", 1800, "-m", "not soak", "tests/unit", "tests/wire"),
    Gate(name="ansible-lint", command=program("ansible-lint", "--nocolor")),
    Gate(name="types", command=program("mypy", PLUGINS, "lab", "tests", "tools")),
    Gate(name="galaxy", command=script("collection.py", "galaxy")),
    Gate(name="docs", command=script("collection.py", "docs")),
    Gate(name="format", command=program("ruff", "format", "--check", ".")),
    Gate(name="lint", command=program("ruff", "check", ".")),
)
SOAK = (
    Gate(name="molecule-all", command=script("scenarios.py", "--all"), seconds=14400),
    tests("tests-all", 28800, "tests"),
)


class Runner:
    """Runs gates; an interrupted run leaves no process of theirs behind."""

    def __init__(self, logs: Path, echo: bool) -> None:
        self._logs = logs
        self._echo = echo
        self._stopped = threading.Event()

    def run(self, gate: Gate) -> Outcome:
        """Run one gate, with its output in a log file."""
        if self._stopped.is_set():
            return Outcome(name=gate.name, passed=0, failed=1, seconds=0.0, note="not run")
        began = time.monotonic()
        log, results = self._logs / f"{gate.name}.log", self._logs / f"{gate.name}.xml"
        command = [*gate.command, f"--junitxml={results}"] if gate.pytest else list(gate.command)
        note = self._execute(command, log, gate.seconds)
        passed, failed = count(results) if gate.pytest else (0 if note else 1, 0)
        if note and not failed:
            failed = 1
        seconds = time.monotonic() - began
        say(f"{gate.name}: {'FAILED' if failed else 'passed'} in {seconds:.1f} s")
        if failed and not self._echo:
            print(tail(log), flush=True)
        return Outcome(name=gate.name, passed=passed, failed=failed, seconds=seconds, note=note)

    def stop(self) -> None:
        """Have what is running ended, and start nothing more."""
        self._stopped.set()

    def _execute(self, command: list[str], log: Path, seconds: int) -> str:
        """Run a command; return what was wrong with its end, or nothing."""
        with log.open("w", encoding="utf-8") as handle, log.open(encoding="utf-8", errors="replace") as reader:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=without_aws(checkout(os.environ)),
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            limit = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < limit and not self._stopped.wait(POLL):
                self._show(reader)
            unfinished = process.poll() is None
            end(process)
            self._show(reader)
        if unfinished:
            return "interrupted" if self._stopped.is_set() else f"stopped after {seconds} s"
        return f"exit code {process.returncode}" if process.returncode else ""

    def _show(self, reader: t.TextIO) -> None:
        """Print what is new in the log, where this is the only gate."""
        if self._echo:
            print(reader.read(), end="", flush=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a gate's process group: first so that it can clean up (pytest does on SIGINT alone), then by force."""
    for number, seconds in ((signal.SIGINT, 60), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)


def count(results: Path) -> tuple[int, int]:
    """Return how many tests of a JUnit file passed and failed; a file that is not there has none of either."""
    if not results.is_file():
        return 0, 0
    suites = ElementTree.parse(results).getroot().iter("testsuite")
    numbers = [{name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")} for suite in suites]
    failed = sum(number["failures"] + number["errors"] for number in numbers)
    return sum(number["tests"] - number["skipped"] for number in numbers) - failed, failed


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"gates: {time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


def tail(log: Path) -> str:
    """Return the end of a log, marked with its name."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([f"--- the end of {log}", *(f"    {line}" for line in lines[-TAIL:]), "---"])


def log_directory() -> Path:
    """Return a new directory for logs; the oldest ones go."""
    parent = project_cache() / "logs"
    parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(parent.iterdir())[: -KEPT_LOGS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    directory = parent / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    directory.mkdir()
    return directory


def summary(outcomes: list[Outcome]) -> str:
    """Return the table and, as its last line, the counts."""
    rows = [("gate", "passed", "failed", "seconds", "")]
    rows += [(one.name, str(one.passed), str(one.failed), f"{one.seconds:.1f}", one.note) for one in outcomes]
    table = [f"{name:<14} {passed:>7} {failed:>7} {seconds:>9}  {note}".rstrip() for name, passed, failed, seconds, note in rows]
    closing = f"{sum(one.passed for one in outcomes)} passed, {sum(one.failed for one in outcomes)} failed"
    return "\n".join(["", *table, "", closing])


def main() -> int:
    """Run the gates that are named, or all; 1 where one failed."""
    known = {gate.name: gate for gate in (*GATES, *SOAK)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="GATE", help=f"any of: {', '.join(known)}; all but the soak gates where none is named")
    names = parser.parse_args().names
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"there is no gate {', '.join(unknown)}")
    chosen = [known[name] for name in names] if names else list(GATES)
    logs = log_directory()
    runner = Runner(logs, echo=len(chosen) == 1)
    say(f"{len(chosen)} gates, logs in {logs}")
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell starts its background jobs, and so the gates, with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            outcomes = list(pool.map(runner.run, chosen))
        except KeyboardInterrupt:
            for number in (signal.SIGINT, signal.SIGTERM):  # the gates are being ended already
                signal.signal(number, signal.SIG_IGN)
            runner.stop()
            say("interrupted")
            return 128 + signal.SIGINT
    print(summary(outcomes), flush=True)
    return 1 if any(one.failed for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
