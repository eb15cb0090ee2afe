# Copyright (c) the gpuops.eks contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set-up: which Python it takes, what an environment is made from, and that an interrupted one is made again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

import cache
import pytest
import setup

LOCK_OF_LOCKS = "another set-up is at work"


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def fake_python(path: Path, minor: int, implementation: str = "CPython") -> Path:
    """A program that answers as a Python of this version would."""
    return executable(path, f"""echo '["{implementation}", "{path}", [3, {minor}, 1], "3.{minor}.1 (a build)"]'""")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine where only what a test puts there is found."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.delenv("GPUOPS_PYTHON", raising=False)
    monkeypatch.setattr(sys, "version_info", (3, 8, 0))
    return tmp_path


def test_newest_supported_pair_wins(bare: Path) -> None:
    fake_python(bare / "bin" / "python3.11", 11)
    wanted = fake_python(bare / "bin" / "python3.12", 12)
    interpreter, pair = setup.choose()
    assert (interpreter.path, pair.lock) == (str(wanted), "main.txt")


def test_shim_that_does_not_answer_is_skipped_for_the_version_behind_it(bare: Path) -> None:
    executable(bare / "bin" / "python3.13", "exit 127")
    wanted = fake_python(bare / "pyenv" / "versions" / "3.13.0" / "bin" / "python3.13", 13)
    assert setup.choose()[0].path == str(wanted)


def test_older_pair_where_there_is_nothing_newer(bare: Path) -> None:
    wanted = fake_python(bare / "bin" / "python3", 11)
    interpreter, pair = setup.choose()
    assert (interpreter.path, pair.lock) == (str(wanted), "older.txt")


@pytest.mark.parametrize(("minor", "implementation"), [(10, "CPython"), (15, "CPython"), (13, "PyPy")])
def test_what_is_not_supported_is_refused_in_one_sentence(bare: Path, minor: int, implementation: str) -> None:
    fake_python(bare / "bin" / "python3", minor, implementation)
    with pytest.raises(setup.Unable, match=r"^no CPython 3\.11 to 3\.14 runs on this machine .*: install one, for example python3\.13\.$"):
        setup.choose()


def test_python_that_the_user_names_is_the_only_one_asked(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python(bare / "bin" / "python3.13", 13)
    monkeypatch.setenv("GPUOPS_PYTHON", str(fake_python(bare / "own" / "python", 11)))
    assert setup.choose()[1].lock == "older.txt"
    monkeypatch.setenv("GPUOPS_PYTHON", str(bare / "nowhere"))
    with pytest.raises(setup.Unable, match="GPUOPS_PYTHON="):
        setup.choose()


@pytest.mark.parametrize(("answer", "with_go"), [("go1.26.6", False), ("go1.27", False), ("go1.26.5", True), ("devel", True), (None, True)])
def test_environment_brings_go_where_path_has_none_new_enough(bare: Path, answer: str | None, with_go: bool) -> None:
    if answer:
        executable(bare / "bin" / "go", f"echo {answer}")
    names = [path.name for path in setup.locks(setup.PAIRS[0])]
    assert names == (["main.txt", "go.txt"] if with_go else ["main.txt"])


def test_go_of_an_environment_of_ours_does_not_count(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(bare / "venv" / "bin" / "go", "echo go1.26.6")
    monkeypatch.setenv("PATH", str(bare / "venv" / "bin"))
    assert len(setup.locks(setup.PAIRS[0])) == 1
    (bare / "venv" / setup.STAMP).touch()
    assert len(setup.locks(setup.PAIRS[0])) == 2


def test_key_follows_all_that_an_environment_is_made_from(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1", encoding="utf-8")
    python = setup.Interpreter("/usr/bin/python3.13", (3, 13, 0), "3.13.0 (one build)")
    keys = {
        setup.key(python, [lock]),
        setup.key(python._replace(build="3.13.0 (another)"), [lock]),
        setup.key(python._replace(path="/x"), [lock]),
    }
    same = setup.key(python, [lock])
    lock.write_text("a==2", encoding="utf-8")
    assert same in keys
    assert len(keys | {setup.key(python, [lock])}) == 4


@pytest.fixture
def builds(bare: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The environments that were built; building one takes long enough for another run to come in between."""
    fake_python(bare / "bin" / "python3.13", 13)
    made: list[Path] = []

    def build(venv: Path, *rest: t.Any) -> None:
        assert not setup.is_complete(venv)
        threading.Event().wait(0.2)
        made.append(venv)
        executable(venv / "bin" / "python", "exit 0")
        (venv / setup.STAMP).touch()

    monkeypatch.setattr(setup, "build", build)
    monkeypatch.setattr(setup, "project_cache", lambda: bare / "cache")
    return made


def test_environment_is_built_once_and_again_when_it_is_incomplete(builds: list[Path]) -> None:
    venv = setup.environment()
    assert setup.environment() == venv
    assert builds == [venv]
    (venv / setup.STAMP).unlink()
    setup.environment()
    (venv / "bin" / "python").unlink()
    setup.environment()
    assert builds == [venv] * 3


def test_two_runs_at_once_build_it_once(builds: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    threads = [threading.Thread(target=setup.environment) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert capfd.readouterr().err.count(LOCK_OF_LOCKS) == 1


def test_link_is_made_and_moved(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "link"
    for target in ("one", "one", "two"):
        setup.link(path, target)
        assert path.readlink() == Path(target)
    assert list(path.parent.iterdir()) == [path]


def test_what_failed_is_shown_with_its_output() -> None:
    with pytest.raises(setup.Unable, match=r"ended with 3:\nit broke"):
        setup.run(["sh", "-c", "echo it broke >&2; exit 3"])


def test_cache_follows_the_xdg_directory_then_home_then_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache.cache_home() == tmp_path / "home" / ".cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_home() == tmp_path / "xdg"
    assert capsys.readouterr().err == ""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    assert cache.cache_home() == tmp_path / f"gpuops.eks-{os.getuid()}"
    assert "cannot be written to" in capsys.readouterr().err


def test_home_that_cannot_be_written_to_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", "/nonexistent")
    assert cache.home() == tmp_path / "gpuops.eks" / "home"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.home() == tmp_path


def test_temporary_cache_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"gpuops.eks-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="XDG_CACHE_HOME"):
        cache.own_temporary_directory()


@pytest.mark.parametrize("python", ["python3.8", "python3.9", "python3.10"])
def test_set_up_reads_on_old_pythons(python: str) -> None:
    version = python.removeprefix("python")
    found = next(iter(sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/{python}"))), None)
    if found is None:
        pytest.skip(f"no {python} here")
    done = subprocess.run([str(found), "-c", "import setup"], cwd=cache.ROOT / "tools", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
