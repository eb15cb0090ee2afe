# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of the gates: what it counts, that it runs them all, and that it leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gates
import pytest
import scenarios
import surroundings

JUNIT = '<testsuites><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10"/></testsuites>'


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_tests_are_counted_from_their_results(tmp_path: Path) -> None:
    results = tmp_path / "results.xml"
    assert gates.count(results) == (0, 0)
    results.write_text(JUNIT, encoding="utf-8")
    assert gates.count(results) == (4, 3)


def test_gate_that_ends_with_0_has_passed(tmp_path: Path) -> None:
    outcome = gates.Runner(tmp_path, echo=False).run(gates.Gate(name="good", command=python("print('fine')")))
    assert (outcome.passed, outcome.failed, outcome.note) == (1, 0, "")
    assert (tmp_path / "good.log").read_text(encoding="utf-8") == "fine\n"


def test_gate_that_fails_shows_the_end_of_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = gates.Runner(tmp_path, echo=False).run(gates.Gate(name="bad", command=python("print('broken'); raise SystemExit(3)")))
    assert (outcome.passed, outcome.failed, outcome.note) == (0, 1, "exit code 3")
    assert "    broken\n" in capsys.readouterr().out


def test_pytest_that_ran_nothing_has_failed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = gates.Runner(tmp_path, echo=False).run(gates.tests("none", 60, str(tmp_path / "empty")))
    assert (outcome.passed, outcome.failed, outcome.note) == (0, 1, "exit code 5")


def test_pytest_counts_each_test(tmp_path: Path) -> None:
    (tmp_path / "test_three.py").write_text(
        "import pytest\n\n\n@pytest.mark.parametrize('n', range(3))\ndef test_it(n: int) -> None:\n    assert n != 1\n", encoding="utf-8"
    )
    outcome = gates.Runner(tmp_path, echo=False).run(gates.tests("three", 60, str(tmp_path)))
    assert (outcome.passed, outcome.failed, outcome.note) == (2, 1, "exit code 1")


def test_gate_out_of_time_is_ended_with_its_children(tmp_path: Path) -> None:
    child = f"import subprocess, sys; print(subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)']).pid, flush=True)"
    gate = gates.Gate(name="slow", command=python(f"{child}; import time; time.sleep(60)"), seconds=3)
    outcome = gates.Runner(tmp_path, echo=False).run(gate)
    assert (outcome.failed, outcome.note) == (1, "stopped after 3 s")
    pid = int((tmp_path / "slow.log").read_text(encoding="utf-8").splitlines()[0])
    deadline = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_stopped_runner_ends_what_is_running(tmp_path: Path) -> None:
    runner = gates.Runner(tmp_path, echo=False)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(runner.run, gates.Gate(name="long", command=python("import time; time.sleep(60)")))
        time.sleep(0.3)
        runner.stop()
        outcome = future.result(timeout=10)
    assert (outcome.failed, outcome.note) == (1, "interrupted")


def test_pytest_that_is_stopped_tears_its_fixtures_down(tmp_path: Path) -> None:
    began, ended = tmp_path / "began", tmp_path / "ended"
    (tmp_path / "test_long.py").write_text(
        f"import pathlib, time\nimport pytest\n\n\n@pytest.fixture\ndef lab():\n    yield\n    pathlib.Path({str(ended)!r}).touch()\n\n\n"
        f"def test_it(lab):\n    pathlib.Path({str(began)!r}).touch()\n    time.sleep(60)\n",
        encoding="utf-8",
    )
    runner = gates.Runner(tmp_path, echo=False)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(runner.run, gates.tests("long", 60, str(tmp_path)))
        deadline = time.monotonic() + 30
        while not began.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        runner.stop()
        assert future.result(timeout=30).note == "interrupted"
    assert ended.exists()


def test_stopped_runner_starts_nothing(tmp_path: Path) -> None:
    runner = gates.Runner(tmp_path, echo=False)
    runner.stop()
    outcome = runner.run(gates.Gate(name="late", command=python("")))
    assert (outcome.failed, outcome.note) == (1, "not run")
    assert list(tmp_path.iterdir()) == []


def test_last_line_is_the_plain_count() -> None:
    outcomes = [
        gates.Outcome(name="units", passed=12, failed=0, seconds=1.0, note=""),
        gates.Outcome(name="types", passed=0, failed=1, seconds=2.0, note="exit code 1"),
    ]
    assert gates.summary(outcomes).splitlines()[-1] == "12 passed, 1 failed"


def test_gates_see_no_aws_account() -> None:
    given = {"AWS_PROFILE": "production", "AWS_CONFIG_FILE": "/home/me/.aws/config", "PATH": "/bin"}
    assert surroundings.without_aws(given) == {
        "PATH": "/bin",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def test_scenarios_are_found_and_the_owner_of_the_lab_is_no_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "SOAK", frozenset())
    for name in ("default", "nodepool/modify", "nodepool/create", "cluster/delete"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "molecule.yml").touch()
    names = scenarios.scenarios(tmp_path)
    assert names == ["cluster/delete", "nodepool/create", "nodepool/modify"]
    assert scenarios.command(every=False, names=names)[-2:] == ["--scenario-name", "nodepool/modify"]


def test_no_scenario_is_a_failure() -> None:
    with pytest.raises(SystemExit, match="holds no scenario"):
        scenarios.command(every=True, names=[])


def test_the_soak_set_names_scenarios_that_there_are() -> None:
    assert set(scenarios.scenarios(scenarios.MOLECULE)) > scenarios.SOAK


def test_soak_set_is_left_out_of_the_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "SOAK", frozenset({"b"}))
    assert "b" not in scenarios.command(every=False, names=["a", "b"])
    assert "b" in scenarios.command(every=True, names=["a", "b"])
    with pytest.raises(SystemExit, match="not there: b"):
        scenarios.command(every=False, names=["a"])


@pytest.mark.parametrize("code", [0, 1, None])
def test_the_lab_is_stopped_before_and_after_molecule_whatever_its_end(monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    called: list[str] = []

    def run(arguments: list[str], **options: t.Any) -> subprocess.CompletedProcess[str]:
        called.append("down" if arguments[-1] == "down" else "molecule")
        if code is None and called[-1] == "molecule":
            raise KeyboardInterrupt
        return subprocess.CompletedProcess(arguments, code or 0)

    monkeypatch.setattr(subprocess, "run", run)
    if code is None:
        with pytest.raises(KeyboardInterrupt):
            scenarios.run(["molecule", "test"])
    else:
        assert scenarios.run(["molecule", "test"]) == code
    assert called == ["down", "molecule", "down"]


def test_modules_are_kept_below_home_also_where_the_account_has_none(tmp_path: Path) -> None:
    assert surroundings.checkout({"HOME": str(tmp_path)})["ANSIBLE_REMOTE_TEMP"] == str(tmp_path / ".ansible" / "tmp")
    assert Path(surroundings.checkout({})["ANSIBLE_REMOTE_TEMP"]).is_absolute()
